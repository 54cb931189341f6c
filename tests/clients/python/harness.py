"""What every case needs: a list of cases, clients that end with the case, bounded waits, and one line a result."""

import os
import sys
import threading
import time
import traceback
import uuid

from kazoo.client import KazooClient

HOSTS = os.environ["ZK_HOSTS"]
ROOT = "/rk-python-" + uuid.uuid4().hex[:12]
# The longest a single wait may take; a healthy server answers in milliseconds.
PATIENCE_S = 20.0
# The longest a whole case may take before it counts as hung.
CASE_LIMIT_S = 45.0

_cases = []


def case(function):
    """Registers a case; its name is the function's, with dashes."""
    _cases.append((function.__name__.replace("_", "-"), function))
    return function


class Case:
    """The place of one case in the tree, and the clients it opened."""

    def __init__(self, name):
        self.path = ROOT + "/" + name
        self._ends = []

    def client(self, hosts=HOSTS, **options):
        """A started client, stopped when the case ends."""
        options.setdefault("timeout", 10.0)
        client = KazooClient(hosts=hosts, **options)
        client.start(timeout=PATIENCE_S)
        self.at_end(lambda: stop(client))
        return client

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
    passed = failed = 0
    setup = KazooClient(hosts=HOSTS, timeout=10.0)
    setup.start(timeout=PATIENCE_S)
    # What the cases hide, they hide behind this identity; the clearing up must see it.
    setup.add_auth("digest", "anna:secret")
    for name, function in chosen:
        why = _run_one(setup, name, function)
        if why is None:
            passed += 1
            print("ok", name, flush=True)
        else:
            failed += 1
            print("FAIL %s: %s" % (name, why), flush=True)
    try:
        setup.delete(ROOT, recursive=True)
    except Exception as error:
        print("note: %s was left behind: %r" % (ROOT, error), file=sys.stderr)
    stop(setup)
    print("%d passed, %d failed" % (passed, failed), flush=True)
    # Not sys.exit: a hung case may hold a thread of the client that is not a daemon.
    os._exit(1 if failed or not passed else 0)


def _run_one(setup, name, function):
    """Runs one case in a thread of its own, so that a hung one is a failure and not the end of the suite."""
    result = []

    def body():
        this = Case(name)
        try:
            setup.ensure_path(this.path)
            function(this)
            result.append(None)
        except BaseException as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split()) or "no message"
            result.append("%s: %s (%s:%d)" % (type(error).__name__, text, os.path.basename(frame.filename), frame.lineno))
            if os.environ.get("VERBOSE"):
                traceback.print_exc()
        finally:
            this.end()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(CASE_LIMIT_S)
    if thread.is_alive():
        return "still running after %g s" % CASE_LIMIT_S
    return result[0]
