#!/usr/bin/env python3
"""Kills the server with SIGKILL under load, starts it again, and compares what it holds with what it had promised.

Several sessions write through raw sockets, many requests in flight. Each session is the only writer below its own
node, and a session's requests take effect in order, so after a crash there is exactly one kind of right answer: all
acknowledged writes, then the first K of those still in flight, for some K. Anything else is reported:

  lost        an acknowledged create, set, delete, multi or sequential create is not there
  invented    a node, data or version that no session ever asked for
  disordered  a later request in flight took effect and an earlier one did not
  session     a session that was acknowledged cannot be attached again, or lost its ephemeral node
  sequence    a sequential number given twice
  recovery    the server does not come back, hangs, or ended by itself

Only the standard library. The server is $RINGKEEPER_BIN (default target/debug/ringkeeper) with `serve --data-dir D
--client-port P`, or any command given by --server with {dir} and {port} in it. Last line: N passed, N failed (cycles).
"""
import argparse
import os
import random
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CREATE, DELETE, GETDATA, SETDATA, GETCHILDREN, MULTI, CLOSE = 1, 2, 4, 5, 8, 14, -11
OK, BAD_VERSION = 0, -103
PERSISTENT, EPHEMERAL, PERSISTENT_SEQUENTIAL = 0, 1, 2
STAT = struct.Struct(">qqqqiiiqiiq")
SESSION_TIMEOUT_MS = 30000
ANSWER_S = 20  # how long one answer may take before the server counts as hung
REFUSED_S = 10  # how long handshakes may be refused after the server has said that it serves
START_S = 60  # how long a start with recovery may take
ROOT, SHARED = "/torture", "/torture/shared"


class Fault(Exception):
    """Something the server promised and does not hold."""


class Gone(Exception):
    """The connection ended."""


def i32(value):
    return struct.pack(">i", value)


def buffer(data):
    return i32(len(data)) + data


def text(string):
    return buffer(string.encode())


OPEN_ACL = i32(1) + i32(31) + text("world") + text("anyone")


def create_body(path, data, flags=PERSISTENT):
    return text(path) + buffer(data) + OPEN_ACL + i32(flags)


class Connection:
    """One session over one socket; `attach` makes the next connection of the same session."""

    def __init__(self, port):
        self.port, self.id, self.password, self.last_zxid, self.xid, self.socket = port, 0, bytes(16), 0, 0, None
        self.bytes = b""

    def attach(self):
        """A server that does not serve yet closes the connection, as ZooKeeper does: clients try again."""
        deadline = time.monotonic() + REFUSED_S
        while True:
            try:
                return self.attach_once()
            except Gone as gone:
                if time.monotonic() > deadline:
                    why = "the last zxid seen was %#x" % self.last_zxid
                    raise Fault("session: %#x refused at the handshake (%s)" % (self.id, why)) from gone
                time.sleep(0.02)

    def attach_once(self):
        self.close_socket()
        self.bytes = b""
        self.socket = socket.create_connection(("127.0.0.1", self.port), ANSWER_S)
        self.socket.settimeout(ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = struct.pack(">iqiq", 0, self.last_zxid, SESSION_TIMEOUT_MS, self.id) + buffer(self.password) + b"\0"
        try:
            self.socket.sendall(buffer(hello))
        except OSError as broken:
            raise Gone from broken
        answer = self.frame()
        _, timeout, session = struct.unpack_from(">iiq", answer)
        if timeout <= 0 or session == 0:
            raise Fault("session: %#x is expired after the restart" % self.id)
        if self.id not in (0, session):
            raise Fault("session: asked for %#x, got %#x" % (self.id, session))
        self.id, self.password = session, answer[20:36]

    def close_socket(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def frame(self):
        while True:
            if len(self.bytes) >= 4:
                length = struct.unpack_from(">i", self.bytes)[0]
                if len(self.bytes) >= 4 + length:
                    out, self.bytes = self.bytes[4 : 4 + length], self.bytes[4 + length :]
                    return out
            try:
                more = self.socket.recv(1 << 16)
            except socket.timeout as slow:
                raise Fault("recovery: no answer within %d s" % ANSWER_S) from slow
            except OSError as broken:
                raise Gone from broken
            if not more:
                raise Gone
            self.bytes += more

    def encode(self, opcode, body):
        self.xid += 1
        return self.xid, buffer(i32(self.xid) + i32(opcode) + body)

    def reply(self, xid):
        answer = self.frame()
        got, zxid, error = struct.unpack_from(">iqi", answer)
        if got != xid:
            raise Fault("disordered: expected the reply to xid %d, got xid %d" % (xid, got))
        if zxid > 0:
            self.last_zxid = zxid
        return error, answer[16:]

    def call(self, opcode, body):
        xid, request = self.encode(opcode, body)
        self.socket.sendall(request)
        return self.reply(xid)

    def calls(self, requests):
        """Many requests, 64 in flight."""
        out = []
        for at in range(0, len(requests), 64):
            sent = [self.encode(opcode, body) for opcode, body in requests[at : at + 64]]
            self.socket.sendall(b"".join(request for _, request in sent))
            out += [self.reply(xid) for xid, _ in sent]
        return out

    def children(self, path):
        error, body = self.call(GETCHILDREN, text(path) + b"\0")
        if error:
            raise Fault("lost: %s (error %d)" % (path, error))
        names, at = [], 4
        for _ in range(struct.unpack_from(">i", body)[0]):
            length = struct.unpack_from(">i", body, at)[0]
            names.append(body[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return names

    def read_all(self, parent):
        """{name: (data, version, ephemeral owner)} of every child."""
        names = self.children(parent)
        out = {}
        replies = self.calls([(GETDATA, text("%s/%s" % (parent, name)) + b"\0") for name in names])
        for name, (error, body) in zip(names, replies):
            if error:
                raise Fault("invented: %s/%s is listed but answers error %d" % (parent, name, error))
            length = max(0, struct.unpack_from(">i", body)[0])
            stat = STAT.unpack_from(body, 4 + length)
            out[name] = (body[4 : 4 + length], stat[4], stat[7])
        return out


class Write:
    """A request that changes something: its bytes, the answer it must get, and what it does to the model."""

    def __init__(self, opcode, body, effect, expect=OK):
        self.opcode, self.body, self.effect, self.expect = opcode, body, effect, expect


class Model:
    """What one session's node holds, and its sequential nodes below the shared one since the last check."""

    def __init__(self):
        self.nodes, self.tokens = {}, set()

    def copy(self):
        other = Model()
        other.nodes, other.tokens = dict(self.nodes), set(self.tokens)
        return other

    def create(self, name, data, owner=0):
        self.nodes[name] = (data, 0, owner)

    def set(self, name, data):
        self.nodes[name] = (data, self.nodes[name][1] + 1, self.nodes[name][2])

    def delete(self, name):
        del self.nodes[name]

    def same(self, other):
        return self.nodes == other.nodes and self.tokens == other.tokens


class Session:
    """A connection with its model; `load` writes until the connection ends."""

    def __init__(self, number, port, seed):
        self.connection, self.home = Connection(port), "%s/s%d" % (ROOT, number)
        self.number, self.dice, self.count = number, random.Random(seed), 0
        self.model = Model()  # what is acknowledged
        self.in_flight = []  # sent, not acknowledged, oldest first
        self.acknowledged, self.names, self.fault, self.bytes_sent = 0, {}, None, 0

    def begin(self):
        c = self.connection
        c.attach()
        for path, flags, data in ((self.home, PERSISTENT, b""), (self.home + "/e", EPHEMERAL, b"alive")):
            error, _ = c.call(CREATE, create_body(path, data, flags))
            if error:
                raise Fault("recovery: create %s answers %d" % (path, error))
        self.model.create("e", b"alive", c.id)

    def next_write(self, ahead):
        """A random write that makes sense after all those in flight, whose effect `ahead` already holds."""
        self.count += 1
        token = b"%d:%d" % (self.number, self.count)
        fill = self.dice.choice((0, 20, 100, 100, 1000)) if self.dice.random() < 0.98 else 30000
        data = token + b"." * fill
        mine = [name for name in ahead.nodes if name != "e"]
        kind = self.dice.random()
        if kind < 0.15:
            body = create_body(SHARED + "/q-", token, PERSISTENT_SEQUENTIAL)
            return Write(CREATE, body, lambda m: m.tokens.add(token))
        if len(mine) < 40 and (kind < 0.40 or len(mine) < 3):
            name = "n%d" % self.count
            return Write(CREATE, create_body(self.path(name), data), lambda m: m.create(name, data))
        name = self.dice.choice(mine)
        version = ahead.nodes[name][1]
        if kind < 0.45:
            wrong = text(self.path(name)) + buffer(data) + i32(version + 7)
            return Write(SETDATA, wrong, lambda m: None, BAD_VERSION)
        if kind < 0.60:
            return Write(DELETE, text(self.path(name)) + i32(version), lambda m: m.delete(name))
        if kind < 0.70 and len(mine) < 60:
            other = "m%d" % self.count
            items = i32(CREATE) + b"\0" + i32(-1) + create_body(self.path(other), data)
            items += i32(SETDATA) + b"\0" + i32(-1) + text(self.path(name)) + buffer(data) + i32(version)

            def both(model):
                model.create(other, data)
                model.set(name, data)

            return Write(MULTI, items + i32(-1) + b"\1" + i32(-1), both)
        return Write(SETDATA, text(self.path(name)) + buffer(data) + i32(version), lambda m: m.set(name, data))

    def path(self, name):
        return "%s/%s" % (self.home, name)

    def load(self, depth, stop):
        """Writes, `depth` in flight, until the server is killed or `stop` is set."""
        ahead, xids = self.model.copy(), []
        try:
            while not stop.is_set():
                out = []
                while len(self.in_flight) < depth:
                    write = self.next_write(ahead)
                    write.effect(ahead)
                    xid, request = self.connection.encode(write.opcode, write.body)
                    # Noted before a byte of it leaves: from here on it may take effect.
                    self.in_flight.append(write)
                    xids.append(xid)
                    out.append(request)
                try:
                    self.connection.socket.sendall(b"".join(out))
                except socket.timeout as slow:
                    raise Fault("recovery: the server takes no bytes for %d s" % ANSWER_S) from slow
                except OSError as broken:
                    raise Gone from broken
                for _ in range(max(1, depth // 2)):
                    self.take_answer(xids.pop(0))
        except Gone:
            pass
        except Fault as fault:
            self.fault = fault

    def take_answer(self, xid):
        error, body = self.connection.reply(xid)
        write = self.in_flight[0]
        if error == OK and write.opcode == MULTI and struct.unpack_from(">i", body)[0] == -1:
            error = struct.unpack_from(">i", body, 5)[0]  # the first item is an error: so is the whole
        if error != write.expect:
            raise Fault("lost: opcode %d answers %d instead of %d" % (write.opcode, error, write.expect))
        before = len(self.model.tokens)
        write.effect(self.model)
        if len(self.model.tokens) > before:
            length = struct.unpack_from(">i", body)[0]
            name = body[4 : 4 + length].decode().rsplit("/", 1)[1]
            self.names[name] = max(self.model.tokens, key=lambda t: int(t.split(b":")[1]))
        self.in_flight.pop(0)
        self.acknowledged += 1

    def verify(self, shared):
        """Compares the server's state with the model; returns how many writes in flight had taken effect."""
        found = Model()
        found.nodes = self.connection.read_all(self.home)
        mine = b"%d:" % self.number
        found.tokens = {data for data, _, _ in shared.values() if data.startswith(mine)}
        for name, token in self.names.items():
            if name not in shared:
                raise Fault("lost: sequential node %s (%s) of session %d" % (name, token.decode(), self.number))
            if shared[name][0] != token:
                raise Fault("invented: %s holds %r, not %r" % (name, shared[name][0], token))
        tried = self.model.copy()
        for taken in range(len(self.in_flight) + 1):
            if tried.same(found):
                self.model = found
                self.in_flight = []
                return taken
            if taken < len(self.in_flight):
                self.in_flight[taken].effect(tried)
        raise Fault(self.explain(found))

    def explain(self, found):
        """Names the first thing that no number of writes in flight explains."""
        possible, tried = {}, self.model.copy()
        states = [tried.copy()]
        for write in self.in_flight:
            write.effect(tried)
            states.append(tried.copy())
        for state in states:
            for name, value in state.nodes.items():
                possible.setdefault(name, set()).add(value)
        for name, values in sorted(possible.items()):
            if name not in found.nodes and all(name in state.nodes for state in states):
                return "lost: %s" % self.path(name)
            if name in found.nodes and found.nodes[name] not in values:
                data, version, owner = found.nodes[name]
                want = sorted((v, d[:20], o) for d, v, o in values)
                what = "lost or invented" if version <= max(v for v, _, _ in want) else "invented"
                return "%s: %s is version %d %r owner %#x; possible %r" % (
                    what, self.path(name), version, data[:20], owner, want)
        for name in sorted(found.nodes):
            if name not in possible:
                return "lost or invented: %s should not be there (deleted, or never created)" % self.path(name)
        for token in sorted(self.model.tokens - found.tokens):
            return "lost: sequential node of %s" % token.decode()
        for token in sorted(found.tokens - states[-1].tokens):
            return "invented: sequential node of %s" % token.decode()
        return "disordered: session %d: each node alone is possible, all together are not" % self.number


class Server:
    """The process under test."""

    def __init__(self, command, directory, port):
        self.directory, self.port, self.process = directory, port, None
        data = os.path.join(directory, "data")
        self.command = [part.replace("{dir}", data).replace("{port}", str(port)) for part in command]
        self.log = os.path.join(directory, "server.log")

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self.alive("while it started")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.settimeout(1)
                    s.sendall(b"srvr")
                    answer = b""
                    while True:
                        more = s.recv(4096)
                        if not more:
                            break
                        answer += more
                if b"Mode:" in answer:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise Fault("recovery: not serving %d s after the start" % START_S)

    def alive(self, when):
        status = self.process.poll()
        if status is not None:
            with open(self.log, "rb") as log:
                tail = log.read()[-1500:].decode(errors="replace")
            raise Fault("recovery: the server ended by itself with status %d %s:\n%s" % (status, when, tail))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Torture:
    """The cycles, and what they found."""

    def __init__(self, args, server):
        self.args, self.server, self.dice = args, server, random.Random(args.seed)
        self.sessions = [Session(n, server.port, args.seed * 1000 + n) for n in range(args.sessions)]
        self.checker = Connection(server.port)
        self.sequence_max, self.in_flight, self.took_effect = -1, 0, 0

    def begin(self):
        self.server.start()
        self.server.wait()
        self.checker.attach()
        for path in (ROOT, SHARED):
            error, _ = self.checker.call(CREATE, create_body(path, b""))
            if error:
                raise Fault("recovery: create %s answers %d on a fresh server" % (path, error))
        for session in self.sessions:
            session.begin()

    def cycle(self, number):
        stop = threading.Event()
        threads = [threading.Thread(target=s.load, args=(self.args.depth, stop)) for s in self.sessions]
        for thread in threads:
            thread.start()
        time.sleep(self.dice.uniform(self.args.load_min, self.args.load_max))
        try:
            self.server.alive("under load")
        finally:
            stop_all(self.server, stop, threads)
        for session in self.sessions:
            if session.fault:
                raise session.fault
            self.in_flight += len(session.in_flight)
        if number % 7 == 3:
            # A crash in the middle of recovery must not matter either.
            self.server.start()
            time.sleep(self.dice.uniform(0.0, 0.15))
            self.server.kill()
        self.server.start()
        self.server.wait()
        try:
            self.verify(number)
        except Gone as gone:
            raise Fault("recovery: a connection was cut during the check") from gone

    def verify(self, number):
        self.checker.attach()
        if self.args.plant and number == self.args.plant:
            self.plant()
        shared = self.checker.read_all(SHARED)
        known = sum(len(s.model.tokens) + len(s.in_flight) for s in self.sessions)
        if len(shared) > known:
            raise Fault("invented: %d sequential nodes, only %d were ever asked for" % (len(shared), known))
        for session in self.sessions:
            session.connection.attach()
            self.took_effect += session.verify(shared)
        self.check_sequence(shared)
        # Away with them: deletes that are acknowledged here must still hold after the next crash.
        for error, _ in self.checker.calls([(DELETE, text("%s/%s" % (SHARED, n)) + i32(-1)) for n in shared]):
            if error:
                raise Fault("lost: a sequential node vanished between two reads (error %d)" % error)
        for session in self.sessions:
            session.model.tokens, session.names = set(), {}

    def check_sequence(self, shared):
        numbers = sorted(int(name.split("-")[1]) for name in shared)
        if numbers and numbers[0] <= self.sequence_max:
            raise Fault("sequence: number %d again, %d was given before" % (numbers[0], self.sequence_max))
        if numbers:
            self.sequence_max = numbers[-1]

    def plant(self):
        """Breaks a promise on purpose, to show that the check can fail."""
        session = max(self.sessions, key=lambda s: len(s.model.nodes))
        name = next(n for n in session.model.nodes if n != "e")
        print("planting: %s is deleted behind the check's back" % session.path(name), flush=True)
        self.checker.call(DELETE, text(session.path(name)) + i32(-1))


def stop_all(server, stop, threads):
    stop.set()
    server.kill()
    for thread in threads:
        thread.join()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    binary = os.environ.get("RINGKEEPER_BIN", os.path.join(here, "target/debug/ringkeeper"))
    usual = shlex.quote(binary) + " serve --data-dir {dir} --client-port {port} --listen 127.0.0.1"
    usual += " --set snapCount=2000 --set ringkeeper.segmentSizeKb=1024"  # small, so that rolls and snapshots take part
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--depth", type=int, default=16, help="requests in flight a session")
    parser.add_argument("--load-min", type=float, default=0.05, help="seconds under load before the kill, at least")
    parser.add_argument("--load-max", type=float, default=0.6, help="and at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", default=usual, help="the command, with {dir} and {port}")
    parser.add_argument("--more", default="", help="more flags for the server, for example '--io epoll'")
    parser.add_argument("--dir", help="where the data goes (default: a temporary directory, kept on failure)")
    parser.add_argument("--plant", type=int, default=0, metavar="N", help="break a promise in cycle N: must be reported")
    args = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="torture-", dir=args.dir)
    server = Server(shlex.split(args.server) + shlex.split(args.more), directory, free_port())
    torture = Torture(args, server)
    passed = failed = 0
    began = time.monotonic()
    try:
        torture.begin()
        for number in range(1, args.cycles + 1):
            torture.cycle(number)
            passed += 1
            if number % 10 == 0 or number == args.cycles:
                acknowledged = sum(s.acknowledged for s in torture.sessions)
                print("%4d kills, %d writes acknowledged, %d in flight at a kill of which %d had taken effect, %.0f s"
                      % (number, acknowledged, torture.in_flight, torture.took_effect, time.monotonic() - began), flush=True)
    except Fault as fault:
        failed = 1
        print("cycle %d, seed %d: %s\ndata kept in %s" % (passed + 1, args.seed, fault, directory))
    finally:
        server.stop()
    if not failed:
        shutil.rmtree(directory, ignore_errors=True)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
