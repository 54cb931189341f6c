"""The bulk of the load: sessions of our own over raw sockets, in one thread, some requests in flight each.

Run as a process of its own in the clients' namespace: clients.py SETTINGS.json. It is told on its standard input `mark`
(say "marked" once every session has had a write answered that was sent after this) and `stop` (answer what is under way,
close half of the sessions, leave the others without a word, write the history, end).
"""
import json
import os
import pickle
import random
import selectors
import socket
import struct
import sys
import time

import zk

REGISTERS, NAMES, QUEUES = 8, 5, 3
CONNECT_S = 1.0
QUEUE_MAX = 30


class Client:
    """One client: a session, its watches, what it believes about the tree, and its log."""

    def __init__(self, number, settings, selector):
        self.number, self.settings, self.selector = number, settings, selector
        self.dice = random.Random("%s/%d" % (settings["seed"], number))
        self.timeout_ms = settings["timeouts_ms"][number % len(settings["timeouts_ms"])]
        self.depth = settings["depths"][number % len(settings["depths"])]
        self.every = 1.0 / settings["rate"]
        self.log, self.session, self.password, self.granted = [], 0, bytes(16), self.timeout_ms
        self.socket, self.state, self.conn, self.last_zxid, self.xid = None, "idle", 0, 0, 0
        self.bytes, self.out, self.flight = b"", b"", []
        self.addresses = list(settings["addresses"])
        self.dice.shuffle(self.addresses)
        self.at = 0
        self.again, self.spoke, self.heard, self.due = 0.0, 0.0, 0.0, 0.0
        self.move = 0.0
        self.watched = {"data": set(), "exist": set(), "child": set()}
        self.versions, self.queued, self.count, self.mine = {}, {}, 0, set()
        self.stopping, self.ended, self.marked, self.marked_done = False, False, None, False

    # ---- the connection ----

    def turn(self, now):
        if self.ended:
            return
        if self.state == "idle":
            if self.stopping:
                self.ended = True
            elif now >= self.again:
                self.connect(now)
            return
        if self.state in ("connecting", "hello"):
            if now - self.spoke > CONNECT_S + (2.0 if self.state == "hello" else 0):
                self.drop(now)
            return
        limit = self.granted / 1000 * 2 / 3
        if now - self.heard > limit:
            self.drop(now)
            return
        if self.stopping:
            if not self.flight:
                self.say_farewell(now)
            return
        if now > self.move:
            self.drop(now)
            # Some stay away until their session is over.
            if self.dice.random() < 0.25 and self.granted <= 4000:
                self.again = now + self.granted / 1000 * self.dice.uniform(0.8, 1.8)
            return
        if now - self.spoke > limit / 2 and not any(one[1] == "ping" for one in self.flight):
            self.send(now, "ping", ())
        # In bursts, so that there is something under way whenever a fault comes.
        if now >= self.due and not self.flight:
            self.due = max(self.due + self.every * self.depth * self.dice.uniform(0.5, 1.5), now - 0.2)
            while len(self.flight) < self.depth:
                for kind, *args in self.next_requests():
                    self.send(now, kind, tuple(args))
        self.flush(now)

    def connect(self, now):
        self.at = (self.at + 1) % len(self.addresses)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes, self.out, self.flight, self.spoke = b"", b"", [], now
        self.state = "connecting"
        error = self.socket.connect_ex((self.addresses[self.at], 2181))
        if error not in (0, 115):
            self.drop(now)
            return
        self.selector.register(self.socket, selectors.EVENT_WRITE, self)

    def drop(self, now):
        """The connection is over, by whoever's will; what is under way has an unknown outcome."""
        was_up = self.state == "up"
        if self.socket:
            try:
                self.selector.unregister(self.socket)
            except KeyError:
                pass
            self.socket.close()
            self.socket = None
        for _, kind, args, t0 in self.flight:
            if kind not in ("ping", "setwatches"):
                self.log.append(("unk", self.session, self.conn, kind, args, t0))
        self.flight = []
        if was_up:
            self.log.append(("lost", now, True))
        self.state, self.again = "idle", now + self.dice.uniform(0.02, 0.15)

    def ready(self, now, mask):
        if self.socket is None:
            return
        if self.state == "connecting":
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.drop(now)
                return
            self.state, self.spoke = "hello", now
            self.out = zk.hello(self.last_zxid, self.timeout_ms, self.session, self.password)
            self.selector.modify(self.socket, selectors.EVENT_READ, self)
            self.flush(now)
            return
        if mask & selectors.EVENT_READ:
            try:
                more = self.socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                more = b""
            if not more:
                self.drop(now)
                return
            self.bytes += more
            self.frames(now)
        self.flush(now)

    def frames(self, now):
        at, data = 0, self.bytes
        while len(data) - at >= 4:
            length = struct.unpack_from(">i", data, at)[0]
            if len(data) - at < 4 + length:
                break
            frame = data[at + 4 : at + 4 + length]
            at += 4 + length
            if self.state == "hello":
                self.on_hello(now, frame)
            else:
                self.on_frame(now, frame)
            if self.socket is None:
                return
        self.bytes = data[at:]

    def flush(self, now):
        if self.socket is None or not self.out:
            return
        try:
            sent = self.socket.send(self.out)
            self.out = self.out[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.drop(now)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)
        if self.selector.get_key(self.socket).events != events:
            self.selector.modify(self.socket, events, self)

    def on_hello(self, now, frame):
        timeout, session, password = zk.read_hello(frame)
        if session == 0 or timeout <= 0:
            if self.session:
                self.log.append(("expired", now, self.session))
            self.session, self.password, self.last_zxid = 0, bytes(16), 0
            self.watched = {"data": set(), "exist": set(), "child": set()}
            self.mine = set()
            self.drop(now)
            return
        self.session, self.password, self.granted = session, password, timeout
        self.conn += 1
        self.state, self.heard, self.spoke, self.due = "up", now, now, now
        self.move = now + self.dice.uniform(5, 25)
        self.log.append(("conn", now, self.addresses[self.at], session, timeout))
        if any(self.watched.values()):
            self.send(now, "setwatches", tuple(sorted(self.watched[table]) for table in ("data", "exist", "child")))

    def send(self, now, kind, args):
        if kind == "ping":
            xid, opcode, body = zk.XID_PING, zk.PING, b""
        elif kind == "setwatches":
            xid, opcode, body = zk.XID_SETWATCHES, zk.SETWATCHES, zk.set_watches(self.last_zxid, *args)
        else:
            self.xid += 1
            xid = self.xid
            opcode, body = zk.encode(kind, args)
        # Noted before a byte of it leaves: from here on it may take effect.
        self.flight.append((xid, kind, args, now))
        self.out += zk.buffer(zk.i32(xid) + zk.i32(opcode) + body)
        self.spoke = now

    def on_frame(self, now, frame):
        xid, zxid, error = zk.HEADER.unpack_from(frame)
        self.heard = now
        if xid == zk.XID_EVENT:
            kind, _ = struct.unpack_from(">ii", frame, 16)
            path, _ = zk.take_buffer(frame, 24)
            path = path.decode()
            self.log.append(("ev", now, kind, path, zxid))
            if kind == zk.CHILD:
                self.watched["child"].discard(path)
            else:
                self.watched["data"].discard(path)
                self.watched["exist"].discard(path)
                if kind == zk.DELETED:
                    self.watched["child"].discard(path)
            return
        if xid == zk.XID_PING:
            # A ping waits for nobody's turn but its own.
            at = next(n for n, one in enumerate(self.flight) if one[1] == "ping")
            self.flight.pop(at)
            self.log.append(("ping", now, zxid))
            return
        want, kind, args, t0 = self.flight.pop(0)
        if want == zk.XID_PING:
            ping, (want, kind, args, t0) = (want, kind, args, t0), self.flight.pop(0)
            self.flight.insert(0, ping)
        if want != xid:
            self.log.append(("bad", now, "session %#x: the answer to xid %d came for xid %d" % (self.session, want, xid)))
            self.drop(now)
            return
        if zxid > 0:
            self.last_zxid = max(zxid, self.last_zxid)
        if kind == "setwatches":
            self.log.append(("set", now, zxid, args[1]))
            return
        if error == zk.SESSION_EXPIRED:
            self.log.append(("unk", self.session, self.conn, kind, args, t0))
            self.log.append(("denied", now, self.session))
            self.drop(now)
            return
        result = zk.decode(kind, error, frame[16:])
        self.log.append(("op", self.session, self.conn, kind, args, t0, now, zxid, error, result))
        self.learn(kind, args, error, result)
        if self.marked is not None and t0 > self.marked and kind in ("create", "set", "delete", "multi"):
            self.marked_done = True
        if kind == "close":
            self.drop(now)
            self.ended = True

    def say_farewell(self, now):
        if self.number % 2:
            if not self.flight:
                self.send(now, "close", ())
                self.flush(now)
        else:
            self.drop(now)
            self.ended = True

    # ---- what to ask ----

    def learn(self, kind, args, error, result):
        if kind in zk_reads and args[1]:
            if error == zk.OK or (kind == "exists" and error == zk.NO_NODE):
                table = "child" if kind == "children" else "data" if error == zk.OK else "exist"
                # One registration a path: the server has one too.
                if not (table == "exist" and args[0] in self.watched["data"]):
                    self.watched[table].add(args[0])
        if kind == "multi":
            for item, one in zip(args[0], result or ()):
                if one[0] == "set":
                    self.versions[item[1]] = one[1][zk.VERSION]
                elif one[0] == "create":
                    self.versions[one[1]] = 0
            return
        path = args[0] if args else ""
        if error == zk.NO_NODE or (kind == "delete" and error == zk.OK):
            self.versions.pop(path, None)
            self.mine.discard(path)
            for names in self.queued.values():
                names.discard(path)
        elif error:
            return
        elif kind in ("set", "exists"):
            self.versions[path] = result[zk.VERSION]
        elif kind == "get":
            self.versions[path] = result[1][zk.VERSION]
        elif kind == "create":
            self.versions[result[0]] = 0
            if args[2] == zk.EPHEMERAL:
                self.mine.add(result[0])
        elif kind == "children" and path.startswith("/rig/q"):
            self.queued[path] = {"%s/%s" % (path, name) for name in result[0]}

    def token(self):
        self.count += 1
        fill = self.dice.choice((0, 10, 60, 200)) if self.dice.random() < 0.99 else 8000
        return b"%d.%d " % (self.number, self.count) + b"x" * fill

    def register(self):
        return "/rig/r%d/n%d" % (self.dice.randrange(REGISTERS), self.dice.randrange(NAMES))

    def expected(self, path):
        """Mostly the version that it believes in; at times any."""
        return self.versions.get(path, 0) if self.dice.random() < 0.7 else -1

    def next_requests(self):
        p, path = self.dice.random(), self.register()
        watch = self.dice.random() < 0.3
        if p < 0.20:
            return [("set", path, self.token(), self.expected(path) if self.dice.random() < 0.5 else -1)]
        if p < 0.28:
            return [("create", path, self.token(), zk.PERSISTENT)]
        if p < 0.32:
            return [("delete", path, self.expected(path))]
        if p < 0.38:
            return [self.some_multi(path)]
        if p < 0.54:
            return [("get", path, watch)]
        if p < 0.60:
            return [("exists", path, watch)]
        if p < 0.66:
            group = self.dice.choice(("r%d" % self.dice.randrange(REGISTERS), "e%d" % self.dice.randrange(
                self.settings["sessions"]), "q%d" % self.dice.randrange(QUEUES)))
            return [("children", "/rig/" + group, watch)]
        if p < 0.74:
            return [("sync", path), ("get", path, False)]
        if p < 0.88:
            return self.queue_step()
        return self.ephemeral_step(watch)

    def some_multi(self, path):
        group = path.rsplit("/", 1)[0]
        names = self.dice.sample(range(NAMES), 3)
        paths = ["%s/n%d" % (group, name) for name in names]
        items = []
        for path in paths[: self.dice.choice((2, 3))]:
            p = self.dice.random()
            if path in self.versions and p < 0.6:
                items.append(("set", path, self.token(), self.expected(path)))
            elif path in self.versions and p < 0.75:
                items.append(("check", path, self.expected(path)))
            elif path in self.versions and p < 0.85:
                items.append(("delete", path, self.expected(path)))
            else:
                items.append(("create", path, self.token(), zk.PERSISTENT))
        return ("multi", tuple(items))

    def queue_step(self):
        queue = "/rig/q%d" % self.dice.randrange(QUEUES)
        known = sorted(self.queued.get(queue, ()))
        p = self.dice.random()
        if p < 0.15:
            return [("children", queue, False)]
        if known and (p < 0.55 or len(known) > QUEUE_MAX):
            path = known[self.dice.randrange(min(3, len(known)))]
            self.queued[queue].discard(path)
            return [("get", path, False), ("delete", path, -1)]
        return [("create", queue + "/q-", self.token(), zk.SEQUENTIAL)]

    def ephemeral_step(self, watch):
        home = "/rig/e%d" % self.number
        p, path = self.dice.random(), "%s/%s" % (home, self.dice.choice("abc"))
        if p < 0.35 and path not in self.mine:
            return [("create", path, self.token(), zk.EPHEMERAL)]
        if p < 0.5 and self.mine:
            return [("delete", self.dice.choice(sorted(self.mine)), -1)]
        other = "/rig/e%d" % self.dice.randrange(self.settings["sessions"])
        if p < 0.75:
            return [("children", other, watch)]
        return [(self.dice.choice(("get", "exists")), "%s/%s" % (other, self.dice.choice("abc")), watch)]


zk_reads = ("get", "exists", "children")


def main():
    with open(sys.argv[1]) as file:
        settings = json.load(file)
    selector = selectors.DefaultSelector()
    clients = [Client(settings["first"] + n, settings, selector) for n in range(settings["count"])]
    os.set_blocking(0, False)
    selector.register(0, selectors.EVENT_READ, None)
    marked, stop_at, said = False, None, b""
    while True:
        now = time.monotonic()
        for client in clients:
            client.turn(now)
        for key, mask in selector.select(0.004):
            now = time.monotonic()
            if key.data is not None:
                key.data.ready(now, mask)
                continue
            more = os.read(0, 4096)
            said += more
            if b"mark\n" in said:
                said, marked = said.replace(b"mark\n", b""), True
                for client in clients:
                    client.marked = now
            if b"stop\n" in said or not more:
                said, stop_at = b"", now
                selector.unregister(0)
                for client in clients:
                    client.stopping = True
        if marked and all(client.marked_done for client in clients):
            marked = False
            print("marked", flush=True)
        if stop_at is not None:
            if all(client.ended for client in clients):
                break
            if now - stop_at > 20:
                for client in clients:
                    if not client.ended:
                        client.drop(now)
                break
    with open(settings["history"], "wb") as file:
        pickle.dump([client.log for client in clients], file)
    print("done", flush=True)


if __name__ == "__main__":
    main()
