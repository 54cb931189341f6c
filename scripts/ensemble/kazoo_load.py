"""The part of the load that comes from Kazoo, a client that we did not write: watches, locks, ephemerals, transactions.

Kazoo is unmodified. The recorder hangs on three of its connection's methods and one of its client's, passes everything on,
and notes what goes over the wire, so recipes are recorded as well. Run and told as clients.py is.
"""
import json
import logging
import os
import pickle
import random
import sys
import threading
import time

import zk

NAMES, DIRECTORIES = 4, 3


class Recorder:
    """What one client sent and was told."""

    def __init__(self, client):
        self.client, self.log, self.flight, self.conn, self.session = client, [], {}, 0, 0
        self.header, self.armed, self.called = None, 0, 0
        self.marked, self.marked_done, self.up = None, False, False
        states = client._session_callback

        def on_state(state):
            name = str(state)
            now = time.monotonic()
            if state == client._state:
                return None
            if name in ("CONNECTED", "CONNECTED_RO"):
                self.conn += 1
                self.up = True
                self.session = client._session_id
                host = client._connection._socket.getpeername()[0]
                self.log.append(("conn", now, host, self.session, client._session_timeout_granted))
            else:
                self.lose(now)
                if name == "EXPIRED_SESSION" and self.session:
                    self.log.append(("expired", now, self.session))
            return states(state)

        client._session_callback = on_state
        connection = client._connection
        submit, header, event, response = (connection._submit, connection._read_header, connection._read_watch_event,
                                           connection._read_response)
        invoke = connection._invoke

        def on_invoke(timeout, request, *rest, **more):
            answer = invoke(timeout, request, *rest, **more)
            if type(request).__name__ == "Connect":
                client._session_timeout_granted = answer[0].time_out
            return answer

        def on_submit(request, timeout, xid=None):
            if xid is not None and xid > 0:
                self.flight[xid] = (*self.name(request), time.monotonic())
            return submit(request, timeout, xid)

        def on_header(timeout):
            answer = header(timeout)
            self.header = answer[0]
            return answer

        def on_event(buffer, offset):
            kind = int.from_bytes(buffer[offset : offset + 4], "big")
            path, _ = zk.take_buffer(buffer, offset + 8)
            self.log.append(("ev", time.monotonic(), kind, path.decode(), self.header.zxid))
            return event(buffer, offset)

        def on_response(head, buffer, offset):
            self.answer(head, buffer[offset:])
            return response(head, buffer, offset)

        connection._invoke, connection._submit, connection._read_header = on_invoke, on_submit, on_header
        connection._read_watch_event, connection._read_response = on_event, on_response

    @staticmethod
    def name(request):
        """A request as the histories name it; None for what they do not."""
        kind = type(request).__name__
        if kind in ("Create", "Create2"):
            return "create", (request.path, request.data, request.flags), kind
        if kind == "Delete":
            return "delete", (request.path, request.version), kind
        if kind == "SetData":
            return "set", (request.path, request.data, request.version), kind
        if kind in ("GetData", "Exists", "GetChildren", "GetChildren2"):
            name = {"GetData": "get", "Exists": "exists"}.get(kind, "children")
            return name, (request.path, bool(request.watcher)), kind
        if kind == "Sync":
            return "sync", (request.path,), kind
        if kind == "Close":
            return "close", (), kind
        if kind == "Transaction":
            items = []
            for one in request.operations:
                name = type(one).__name__
                if name == "CheckVersion":
                    items.append(("check", one.path, one.version))
                else:
                    items.append((Recorder.name(one)[0],) + Recorder.name(one)[1])
            return "multi", (tuple(items),), kind
        return None, (), kind

    def answer(self, head, body):
        kind, args, name, t0 = self.flight.pop(head.xid, (None, (), "", 0))
        if kind is None:
            return
        now = time.monotonic()
        if head.err == zk.SESSION_EXPIRED:
            self.log.append(("unk", self.session, self.conn, kind, args, t0))
            self.log.append(("denied", now, self.session))
            return
        result = None
        if not head.err:
            if name == "Create":
                result = (zk.take_buffer(body, 0)[0].decode(), None)
            elif name == "GetChildren":
                result = (zk.decode("children", 0, body + bytes(zk.STAT.size))[0], None)
            else:
                result = zk.decode(kind, 0, body)
        self.log.append(("op", self.session, self.conn, kind, args, t0, now, head.zxid, head.err, result))
        if self.marked is not None and t0 > self.marked and kind in ("create", "set", "delete", "multi"):
            self.marked_done = True

    def lose(self, now):
        for kind, args, _, t0 in self.flight.values():
            if kind is not None:
                self.log.append(("unk", self.session, self.conn, kind, args, t0))
        self.flight = {}
        if self.up:
            self.log.append(("lost", now))
        self.up = False

    def watcher(self):
        """A function that Kazoo must call exactly once."""
        self.armed += 1
        calls = [0]

        def told(event):
            calls[0] += 1
            if calls[0] > 1:
                self.log.append(("bad", time.monotonic(), "Kazoo called a watch twice: %r" % (event,)))
            self.called += 1

        return told


class Worker:
    def __init__(self, number, settings):
        from kazoo.client import KazooClient
        from kazoo.retry import KazooRetry

        self.number, self.settings, self.dice = number, settings, random.Random("%s/k%d" % (settings["seed"], number))
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_delay=0.3, ignore_expire=False)
        hosts = ",".join(address + ":2181" for address in settings["addresses"])
        self.client = KazooClient(hosts, timeout=settings["timeouts_ms"][number % len(settings["timeouts_ms"])] / 1000,
                                  connection_retry=retry, randomize_hosts=True)
        self.recorder = Recorder(self.client)
        self.count, self.stop, self.homes = 0, threading.Event(), []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def token(self):
        self.count += 1
        return b"k%d.%d" % (self.number, self.count)

    def run(self):
        from kazoo.exceptions import KazooException
        from kazoo.handlers.threading import KazooTimeoutError

        self.client.start_async()
        steps = (self.write, self.write, self.read, self.read, self.ephemeral, self.transaction, self.sync_read, self.lock,
                 self.sequence)
        while not self.stop.is_set():
            if not self.client.connected:
                self.stop.wait(0.01)
                continue
            try:
                self.dice.choice(steps)()
            except (KazooException, KazooTimeoutError):
                pass
            self.stop.wait(self.dice.expovariate(self.settings["kazoo_rate"]))

    def path(self):
        return "/rig/k%d/n%d" % (self.dice.randrange(DIRECTORIES), self.dice.randrange(NAMES))

    def write(self):
        c, p, path = self.client, self.dice.random(), self.path()
        if p < 0.3:
            c.create(path, self.token(), include_data=self.dice.random() < 0.5)
        elif p < 0.45:
            c.delete(path, version=-1)
        elif p < 0.6:
            stat = c.exists(path)
            if stat:
                c.set(path, self.token(), version=stat.version)
        else:
            c.set(path, self.token())

    def read(self):
        c, p, path = self.client, self.dice.random(), self.path()
        watch = self.recorder.watcher() if self.dice.random() < 0.5 else None
        if p < 0.4:
            c.get(path, watch=watch)
        elif p < 0.7:
            c.exists(path, watch=watch)
        else:
            c.get_children(path.rsplit("/", 1)[0], watch=watch, include_data=self.dice.random() < 0.5)

    def ephemeral(self):
        c, path = self.client, "/rig/ke%d/%s" % (self.dice.randrange(DIRECTORIES), self.dice.choice("abcd"))
        if self.dice.random() < 0.6:
            c.create(path, self.token(), ephemeral=True)
        else:
            data, stat = c.get(path)
            # It has none for a moment when its session has expired.
            own = c.client_id
            if own and stat.ephemeralOwner == own[0]:
                c.delete(path)

    def transaction(self):
        directory = "/rig/k%d" % self.dice.randrange(DIRECTORIES)
        t = self.client.transaction()
        one, other = self.dice.sample(range(NAMES), 2)
        t.set_data("%s/n%d" % (directory, one), self.token())
        (t.create if self.dice.random() < 0.3 else t.set_data)("%s/n%d" % (directory, other), self.token())
        t.commit()

    def sync_read(self):
        path = self.path()
        self.client.sync(path)
        self.client.get(path)

    def sequence(self):
        path = self.client.create("/rig/kq/s-", self.token(), sequence=True)
        if self.dice.random() < 0.9:
            self.client.delete(path)

    def lock(self):
        lock = self.client.Lock("/rig/kl%d" % self.dice.randrange(2), "k%d" % self.number)
        if lock.acquire(timeout=1):
            lock.release()

    def finish(self):
        """Half of them close, the others are gone without a word."""
        self.stop.set()
        self.thread.join(5)
        if self.number % 2:
            try:
                self.client.stop()
            except Exception as broken:  # whatever it is, the history says what went over the wire
                print("kazoo stop: %r" % broken, file=sys.stderr)
        time.sleep(0)
        return list(self.recorder.log)


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    workers = [Worker(n, settings) for n in range(settings["kazoos"])]
    for worker in workers:
        worker.thread.start()

    def wait_marked(since):
        for worker in workers:
            worker.recorder.marked = since
        while not all(worker.recorder.marked_done for worker in workers):
            time.sleep(0.01)
        print("marked", flush=True)

    for line in sys.stdin:
        if line == "mark\n":
            threading.Thread(target=wait_marked, args=(time.monotonic(),), daemon=True).start()
        if line == "stop\n":
            break
    with open(settings["history"], "wb") as file:
        pickle.dump([worker.finish() for worker in workers], file)
    print("done", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
