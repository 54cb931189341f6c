"""What every case needs: a list of cases, clients that end with the case, bounded waits, and one line a result."""

import os
import sys
import threading
import time
import traceback
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry, RetryFailedError

HOSTS = os.environ["ZK_HOSTS"]
ROOT = "/rk-python-" + uuid.uuid4().hex[:12]
# The longest a single wait may take; a healthy server answers in milliseconds.
PATIENCE_S = 20.0
# The longest a whole case may take before it counts as hung.
CASE_LIMIT_S = 45.0
# Somebody kills a server of the ensemble now and then. A request may then fail with its connection, and its case begins
# again elsewhere in the tree; every session must be there afterwards, and any other failure is one.
KILLS = bool(os.environ.get("ZK_KILLS"))
BEGINNINGS = 5


class WatchLost(Exception):
    """Kazoo forgets its one-shot watches with their connection and says so; it does not set them again."""


INTERRUPTIONS = (ConnectionLoss, RetryFailedError, WatchLost)

_cases = []
_calm = {}


def case(function):
    """Registers a case; its name is the function's, with dashes."""
    _cases.append((function.__name__.replace("_", "-"), function))
    return function


def calm(why):
    """Marks a case that cannot hold, for the reason given, while servers are killed."""

    def mark(function):
        _calm[function.__name__.replace("_", "-")] = why
        return function

    return mark


class Case:
    """The place of one case in the tree, and the clients it opened."""

    def __init__(self, name):
        self.path = ROOT + "/" + name
        self._ends = []
        self._sessions = []

    def client(self, hosts=HOSTS, **options):
        """A started client, stopped when the case ends. It sees all that was answered to others before it came."""
        client = start(hosts, **options)
        self.at_end(lambda: stop(client))
        client.retry(client.sync, "/")
        # A client behind a proxy may be meant to lose its session.
        if hosts == HOSTS:
            self._sessions.append((client, client.client_id))
        return client

    def may_lose(self, client):
        """The session of this client is meant to end."""
        self._sessions = [one for one in self._sessions if one[0] is not client]

    def sessions_are_kept(self):
        """Whoever was not stopped still has its session, once it is connected again."""
        for client, session in self._sessions:
            if not client._stopped.is_set():
                until(lambda: client.connected, "the connection to come back")
                same(client.client_id, session, "session after a kill")

    def at_end(self, action):
        self._ends.append(action)

    def thread(self, function, *args):
        """A thread whose exception fails the case at `join`."""
        thread = Thread(function, args)
        thread.start()
        return thread

    def end(self):
        while self._ends:
            self._ends.pop()()


class Thread(threading.Thread):
    def __init__(self, function, args):
        super().__init__(daemon=True)
        self._function, self._args, self._error = function, args, None

    def run(self):
        try:
            self._function(*self._args)
        except BaseException as error:  # handed to whoever joins
            self._error = error

    def join(self, timeout=PATIENCE_S):
        super().join(timeout)
        assert not self.is_alive(), "a thread of the case is stuck"
        if self._error:
            raise self._error


def start(hosts, **options):
    options.setdefault("timeout", 10.0)
    if KILLS:
        patient = KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_jitter=0.0)
        options.setdefault("connection_retry", patient)
        options.setdefault("command_retry", patient.copy())
    client = KazooClient(hosts=hosts, **options)
    client.start(timeout=PATIENCE_S)
    return client


def stop(client):
    try:
        client.stop()
        client.close()
    except Exception:  # a client that lost its server may complain; the case has spoken already
        pass


def until(condition, what, patience=PATIENCE_S):
    """Polls until the condition holds and returns its value."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain for: " + what
        time.sleep(0.01)


def fired(event):
    """The event of a one-shot watch, unless a kill ended the watch."""
    if KILLS and event.type == EventType.NONE:
        raise WatchLost("a watch went with its connection")
    return event


def silent(events, what):
    """The queue of a one-shot watch holds nothing further."""
    if not events.empty():
        raise AssertionError("%s: %r" % (what, fired(events.get())))


def heard(event, what, patience=PATIENCE_S):
    assert event.wait(patience), "waited in vain for: " + what


def same(got, want, what="value"):
    assert got == want, "%s: got %r, want %r" % (what, got, want)


def raises(kinds, action, *args, **options):
    """The action must fail with one of the kinds; returns the error."""
    try:
        value = action(*args, **options)
    except kinds as error:
        return error
    raise AssertionError("no error, got %r" % (value,))


def run(words):
    chosen = [c for c in _cases if not words or any(w in c[0] for w in words)]
    passed = failed = skipped = 0
    setup = start(HOSTS)
    # What the cases hide, they hide behind this identity; the clearing up must see it.
    setup.add_auth("digest", "anna:secret")
    for name, function in chosen:
        if KILLS and name in _calm:
            skipped += 1
            print("skip %s: %s" % (name, _calm[name]), flush=True)
            continue
        why = _run_one(setup, name, function)
        if why is None:
            passed += 1
            print("ok", name, flush=True)
        else:
            failed += 1
            print("FAIL %s: %s" % (name, why), flush=True)
    try:
        setup.retry(setup.delete, ROOT, recursive=True)
    except Exception as error:
        print("note: %s was left behind: %r" % (ROOT, error), file=sys.stderr)
    stop(setup)
    print("%d passed, %d failed" % (passed, failed) + (", %d skipped" % skipped if skipped else ""), flush=True)
    # Not sys.exit: a hung case may hold a thread of the client that is not a daemon.
    os._exit(1 if failed or not passed else 0)


def _run_one(setup, name, function):
    for beginning in range(1, BEGINNINGS + 1):
        place = name if beginning == 1 else "%s-%d" % (name, beginning)
        why, interrupted = _begin(setup, place, function)
        if not interrupted:
            break
        print("again %s: %s" % (name, why), flush=True)
    return why


def _begin(setup, name, function):
    """Runs one case in a thread of its own, so that a hung one is a failure and not the end of the suite.

    Returns why it failed, or None, and whether it was only interrupted.
    """
    result = []

    def body():
        this = Case(name)
        interrupted = False
        try:
            setup.retry(setup.ensure_path, this.path)
            try:
                function(this)
            except INTERRUPTIONS:
                interrupted = KILLS
                raise
            finally:
                if KILLS:
                    this.sessions_are_kept()
            result.append((None, False))
        except BaseException as error:
            interrupted = interrupted and isinstance(error, INTERRUPTIONS)
            frame = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split()) or "no message"
            where = "%s:%d" % (os.path.basename(frame.filename), frame.lineno)
            result.append(("%s: %s (%s)" % (type(error).__name__, text, where), interrupted))
            if os.environ.get("VERBOSE"):
                traceback.print_exc()
        finally:
            this.end()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(CASE_LIMIT_S)
    if thread.is_alive():
        return "still running after %g s" % CASE_LIMIT_S, False
    return result[0]
