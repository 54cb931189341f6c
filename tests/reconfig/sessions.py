"""Cases of sessions that one server alone knows: local sessions, and read-only mode."""
import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import wire
import zk
from cases import SOON_S, Skip, case, run, same
from servers import Failed, START_S, four_letter, until
from wire import OK, Client, Gone

LOCAL = ["localSessionsEnabled=true"]
UPGRADE = LOCAL + ["localSessionsUpgradingEnabled=true"]
# ZooKeeper takes it as a property of its Java machine; and has sessions in read-only mode only where they may be local.
READ_ONLY = UPGRADE + ["-Dreadonlymode.enabled=true"]
EPHEMERAL_ON_LOCAL, EXPIRED, NOT_READ_ONLY = -120, -112, -119
SHORT_MS = 4000


class Session(Client):
    """A client that nobody is told of, with as few rights as anybody; new, or one that is taken up again."""

    def __init__(self, server, again=None, read_only=b"\0", timeout_ms=wire.SESSION_MS):
        session = (again.id, again.password) if again else (0, bytes(16))
        zk.Wire.__init__(self, "127.0.0.1", server.port, timeout_ms, 30.0, session, read_only)
        self.events = []

    def make(self, path, flags=0):
        return self.call(*zk.encode("create", (path, b"", flags)))

    def stat(self, path):
        reply = self.call(*zk.encode("exists", (path, False)))
        return wire.Stat(*zk.STAT.unpack_from(reply.body)) if reply.error == OK else None

    def zxid(self):
        return self.call(*zk.encode("exists", ("/", False))).zxid

    def end(self):
        error = self.call(*zk.encode("close", ())).error
        self.close()
        return error


def is_over(server, again, **how):
    """The session can not be taken up there: the server says that it is over."""
    try:
        Session(server, again, **how).close()
    except zk.Over:
        return True
    except Gone:
        return False
    return False


def is_turned_away(server, again=None, **how):
    """The connection is closed without a word."""
    try:
        Session(server, again, **how).close()
    except zk.Over:
        return False
    except Gone:
        return True
    return False


@contextlib.contextmanager
def stopped(*servers):
    """They stand still, and go on at the end, if they were not killed meanwhile."""
    for server in servers:
        server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            if server.running:
                server.process.send_signal(signal.SIGCONT)


def ends(client, what):
    """The server closes the connection."""
    with contextlib.suppress(Gone):
        client.socket.settimeout(SOON_S)
        client.frame()
        raise Failed(what + ": a frame came instead of the end")


@case
def local_sessions(lab):
    """They cost no transaction, live on their server alone, and own no znode."""
    ensemble = lab.ensemble(more=LOCAL)
    leader, follower = ensemble.leader(), ensemble.followers()[0]
    for server, other in ((leader, follower), (follower, leader)):
        first = Session(server)
        base = "/local-%d" % server.number
        same(first.make(base).error, OK, "a create of a local session")
        before = first.zxid()
        crowd = [Session(server) for _ in range(5)]
        same([one.end() for one in crowd], [OK] * 5, "their ends")
        same(first.zxid(), before, "the zxid after five local sessions came and went")
        for flags in (zk.EPHEMERAL, zk.EPHEMERAL_SEQUENTIAL):
            same(first.make(base + "/e", flags).error, EPHEMERAL_ON_LOCAL, "an ephemeral create of a local session")
        if not (lab.target.is_zookeeper and server is follower):
            # There ZooKeeper forgets to look at a multi's creates, and the leader does not know the session.
            reply = first.call(*zk.encode("multi", ([("create", base + "/m", b"", 1)],)))
            same(zk.decode_multi(reply.body), (("error", EPHEMERAL_ON_LOCAL),), "an ephemeral create in a multi")
        same(first.set(base), OK, "a set after that")
        same(is_over(other, first), True, "taken up at another server")
        again = Session(server, first)
        same((again.id, again.set(base)), (first.id, OK), "taken up at its server, over another connection")
        ends(first, "the connection that it had before")
        forged = Session(server)
        forged.password = bytes(16)
        same(is_over(server, forged), True, "taken up with another password")
        if not lab.target.is_zookeeper:
            # There a wrong password closes the connection of the one whom it is not.
            same(forged.set(base), OK, "a set of the one whose name was used")
        same(again.end(), OK, "its end")
        same(is_over(server, again), True, "taken up after its end")


@case
def local_sessions_end(lab):
    """Their server ends those that it does not hear of, and says which it has."""
    ensemble = lab.ensemble(more=LOCAL)
    for server in (ensemble.leader(), ensemble.followers()[0]):
        silent, base = Session(server, timeout_ms=SHORT_MS), Session(server)
        dump = four_letter(server.port, "dump")
        if "Local Session Sets (" not in dump or "\t0x%x" % (silent.id & (1 << 64) - 1) not in dump:
            raise Failed("not in dump: " + dump)
        before = base.zxid()
        ends(silent, "a silent session's connection")
        same(is_over(server, silent), True, "taken up after its time")
        same(base.zxid(), before, "the zxid after its end")
        base.close()


@case
def local_session_upgrade(lab):
    """A local session that makes an ephemeral znode becomes everybody's, with its id and its connection."""
    ensemble = lab.ensemble(more=UPGRADE)
    leader, (follower, third) = ensemble.leader(), ensemble.followers()
    for server, other in ((leader, follower), (follower, third)):
        first = Session(server)
        base = "/upgraded-%d" % server.number
        same(first.make(base).error, OK, "a create before")
        same(is_over(other, first), True, "taken up at another server before")
        before = first.zxid()
        made = first.make(base + "/e", zk.EPHEMERAL)
        same((made.error, made.zxid - before), (OK, 2), "an ephemeral create, and how many transactions it took")
        same(first.stat(base + "/e").owner, first.id, "the owner")
        same(first.make(base + "/f", zk.EPHEMERAL).zxid - made.zxid, 1, "another one is one transaction")
        again = Session(other, first)
        ends(first, "the connection that it had before")
        again.sync()
        same(again.stat(base + "/e").owner, again.id, "the owner, at another server")
        watcher = Session(server)
        same(again.end(), OK, "its end")
        watcher.sync()
        same((watcher.stat(base + "/e"), watcher.stat(base + "/f")), (None, None), "its znodes after its end")
        # By a multi, with all that follows in the same breath.
        xid = watcher.send(*zk.encode("multi", ([("create", base + "/m", b"", 1), ("create", base + "/p", b"", 0)],)))
        close = watcher.send(*zk.encode("close", ()))
        results = zk.decode_multi(watcher.receive(xid).body)
        same([result[0] for result in results], ["create", "create"], "a multi that makes an ephemeral znode")
        same(watcher.receive(close).error, OK, "its end")
        last = Session(server)
        last.sync()
        same((last.stat(base + "/m"), last.stat(base + "/p") is None), (None, False), "what is left of it")
        last.close()


@case
def local_session_late_write(lab):
    """What a local session wished for is not done after its client was told elsewhere that it is over."""
    ensemble = lab.ensemble(more=UPGRADE)
    leader, (follower, other) = ensemble.leader(), ensemble.followers()
    old = Session(follower, timeout_ms=SHORT_MS)
    same(old.make("/x").error, OK, "a create")
    with stopped(leader, follower):
        # They lie in the socket of a server that stands still for longer than the client waits.
        began = time.monotonic()
        old.send(*zk.encode("set", ("/x", b"old", -1)))
        old.send(*zk.encode("create", ("/x/e", b"", zk.EPHEMERAL)))
        leader.kill()
        leader.start()
        other.await_writes()
        same(is_over(other, old), True, "taken up at another server")
        new = Session(other)
        same(new.set("/x", b"new"), OK, "a set behind it")
        until(lambda: time.monotonic() > began + SHORT_MS / 1000, "the client's patience is over", SOON_S)
    follower.await_writes()
    new.sync()
    reply = new.call(*zk.encode("get", ("/x", False)))
    same(zk.take_buffer(reply.body, 0)[0], b"new", "the data")
    same(new.stat("/x/e"), None, "the ephemeral znode")


@case
def local_session_reads_its_writes(lab):
    """Taken up again while a write of it is under way, it sees that write."""
    ensemble = lab.ensemble(more=LOCAL)
    leader, follower = ensemble.leader(), ensemble.followers()[0]
    for round_number in range(20):
        first = Session(follower)
        path = "/q-%d" % round_number
        xid = first.send(*zk.encode("create", (path, b"", 0)))
        try:
            again = Session(follower, first)
        except Gone as gone:
            raise Failed("taken up again: %s" % gone) from gone
        with contextlib.suppress(Gone):
            same(first.receive(xid).error, OK, "the create")
        seen = again.stat(path) is not None
        again.sync()
        same(seen or again.stat(path) is None, True, "a read before its sync and after it")
        again.close()


@case
def local_sessions_max(lab):
    """Those that were closed count no more."""
    if lab.target.is_zookeeper:
        raise Skip("the limit is ringkeeper's own")
    ensemble = lab.ensemble(more=LOCAL + ["ringkeeper.maxSessions=20"])
    follower = ensemble.followers()[0]

    def opened():
        with contextlib.suppress(Gone):
            return Session(follower)
        return None

    for _ in range(3):
        # A shard hears a moment after `mntr` that the last one has ended.
        all_of_them = [until(opened, "room for a new one", SOON_S) for _ in range(20)]
        same(is_turned_away(follower), True, "one more")
        same({one.end() for one in all_of_them}, {OK}, "their ends")
        until(lambda: not is_turned_away(follower, timeout_ms=SHORT_MS), "room for another one", SOON_S)
        until(lambda: "zk_local_sessions\t0\n" in four_letter(follower.port, "mntr"), "none is left", START_S)


def alone(lab, ensemble):
    """Kills all but one, and waits until that one serves read-only."""
    keeper = ensemble.followers()[0]
    for server in ensemble.first:
        if server is not keeper:
            server.kill()
    until(lambda: four_letter(keeper.port, "isro") == "ro", "isro says ro", START_S)
    return keeper


@case
def read_only_mode(lab):
    """A server that is cut off serves reads to those that ask for it, and turns all others away."""
    ensemble = lab.ensemble(more=READ_ONLY)
    server = ensemble.followers()[0]
    known = Session(server)
    same((known.make("/known").error, known.make("/known/e", zk.EPHEMERAL).error), (OK, OK), "znodes before")
    same(four_letter(server.port, "isro"), "rw", "isro before")
    same(alone(lab, ensemble), server, "the server that is left")
    ends(known, "a session of the ensemble")
    srvr = four_letter(server.port, "srvr")
    if "READ-ONLY mode; serving only read-only clients\n" not in srvr or "\nMode: read-only\n" not in srvr:
        raise Failed("srvr says " + srvr)

    reader = Session(server, read_only=b"\1")
    same(reader.is_read_only, True, "the answer's readOnly")
    same(reader.call(*zk.encode("get", ("/known", True))).error, OK, "a read")
    same(reader.stat("/known/e").owner, known.id, "an ephemeral znode of a session of the ensemble")
    refused = [zk.encode("create", ("/x", b"", 0)), zk.encode("create", ("/x", b"", 1)), zk.encode("delete", ("/known", -1)),
               zk.encode("set", ("/known", b"", -1)), zk.encode("sync", ("/",)),
               zk.encode("multi", ([("check", "/known", -1)],)),
               (7, zk.text("/known") + zk.OPEN_ACL + zk.i32(-1)),
               (wire.RECONFIG, zk.buffer(b"") + zk.buffer(b"9") + zk.buffer(None) + struct.pack(">q", -1))]
    same([reader.call(*request).error for request in refused], [NOT_READ_ONLY] * len(refused), "what writes")
    same(reader.stat("/known").children, 1, "a read after that")
    again = Session(server, reader, read_only=b"\1")
    same((again.id, again.is_read_only), (reader.id, True), "taken up over another connection")
    same(again.end(), OK, "its end")
    if not lab.target.is_zookeeper:
        # There a client that asks for it again and again hears nothing until somebody leads.
        same(is_over(server, again, read_only=b"\1"), True, "taken up after its end")
    for how in (b"\0", b""):
        same(is_turned_away(server, read_only=how), True, "one that does not ask for read-only mode (%r)" % how)
    for how in (b"\0", b"\1"):
        same(is_turned_away(server, known, read_only=how), True, "a session of the ensemble (%r)" % how)

    reader = Session(server, read_only=b"\1")
    for other in ensemble.first:
        if other is not server:
            other.start()
    ends(reader, "a read-only connection, once somebody leads")
    until(lambda: four_letter(server.port, "isro") == "rw", "isro says rw", START_S)
    same(is_over(server, reader), True, "a session of read-only mode afterwards")
    back = Session(server, known, read_only=b"\1")
    same((back.id, back.is_read_only, back.set("/known")), (known.id, False, OK), "a session of the ensemble afterwards")
    same(back.stat("/known/e").owner, known.id, "its ephemeral znode")
    back.close()


@case
def read_only_wiped(lab):
    """Those that lost their disks, and have learned nothing since, show nobody an empty tree; nothing can be made of theirs."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble(more=READ_ONLY)
    same(Session(ensemble.first[0]).make("/known").error, OK, "a znode before")
    keeper, *wiped = ensemble.first
    for server in wiped:
        server.kill()
    for server in wiped:
        server.wipe()
        server.start()
    for server in wiped:
        until(lambda server=server: "member of ensemble" in server.tail(), "taken in", START_S)
    for server in (*wiped, keeper):
        # Killed, it would not know that its last entry was acknowledged.
        server.stop()
    for server in (*wiped, keeper):
        server.start()
    # It was started last.
    until(lambda: four_letter(keeper.port, "isro") == "ro", "isro says ro at the one that has its data", START_S)
    same(Session(keeper, read_only=b"\1").stat("/known") is not None, True, "the znode there")
    for server in wiped:
        same(is_turned_away(server, read_only=b"\1"), True, "at one that has learned nothing")
        server.kill()
        code, said = run(lab, "recover", server.data, server.data + ".new")
        same((code, "has learned nothing" in said), (78, True), "recover from its data: %s" % said)


@case
def read_only_kazoo(lab):
    """Kazoo with read_only=True finds the server that is left, and a better one once there is one."""
    ensemble = lab.ensemble(more=READ_ONLY)
    writer = Session(ensemble.first[0])
    same(writer.make("/known").error, OK, "a znode before")
    writer.close()
    script = r"""
import logging
import sys
import threading
from kazoo.client import KazooClient, KeeperState
from kazoo.exceptions import NotReadOnlyCallError
logging.disable()
client = KazooClient(hosts=sys.argv[1], read_only=True)
states, writable = [], threading.Event()
@client.add_listener
def listen(state):
    states.append((str(state), client.client_state))
    if client.client_state == KeeperState.CONNECTED:
        writable.set()
client.start(timeout=30)
assert client.client_state == KeeperState.CONNECTED_RO, client.client_state
assert client.get("/known")[0] == b"", client.get("/known")
try:
    client.create("/x")
    raise SystemExit("created")
except NotReadOnlyCallError:
    pass
print("read", flush=True)
sys.stdin.readline()
assert writable.wait(60), states
client.create("/x")
client.stop()
"""
    path = os.path.join(lab.dir, "with_kazoo.py")
    with open(path, "w") as file:
        file.write(script)
    server = alone(lab, ensemble)
    hosts = ",".join("127.0.0.1:%d" % one.port for one in ensemble.first)
    with subprocess.Popen(["python3", "-B", path, hosts], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, PYTHONPATH=lab.site())) as kazoo:
        lab.ends.append(kazoo.kill)
        same(kazoo.stdout.readline(), "read\n", "kazoo's script, read-only")
        for other in ensemble.first:
            if other is not server:
                other.start()
        output, _ = kazoo.communicate("\n", timeout=120)
        same((kazoo.returncode, output[-600:]), (0, ""), "kazoo's script")


@case
def read_only_start(lab):
    """A server that starts alone serves what it has. ZooKeeper needs localSessionsEnabled for that."""
    ensemble = lab.ensemble(more=READ_ONLY if lab.target.is_zookeeper else READ_ONLY[-1:])
    writer = Session(ensemble.first[0])
    same(writer.make("/known").error, OK, "a znode before")
    writer.close()
    for server in ensemble.first:
        server.stop()
    server = ensemble.first[0]
    server.start()
    until(lambda: four_letter(server.port, "isro") == "ro", "isro says ro", START_S)
    reader = Session(server, read_only=b"\1")
    same((reader.stat("/known") is None, reader.set("/known")), (False, NOT_READ_ONLY), "a read and a write")
    reader.close()


@case
def read_only_behind_writes(lab):
    """Writes that wait for a leader keep nobody from reading."""
    ensemble = lab.ensemble(more=READ_ONLY)
    server = ensemble.followers()[0]
    same(Session(server).make("/big").error, OK, "a create")
    writers = [Session(server) for _ in range(14)]
    for other in ensemble.first:
        if other is not server:
            other.kill()

    def write(one):
        with contextlib.suppress(Gone):
            for _ in range(3):
                one.send(*zk.encode("set", ("/big", b"x" * 900000, -1)))
    threads = [threading.Thread(target=write, args=(one,), daemon=True) for one in writers]
    for thread in threads:
        thread.start()
    until(lambda: four_letter(server.port, "isro") == "ro", "isro says ro", START_S)
    for thread in threads:
        thread.join()
    reader = Session(server, read_only=b"\1")
    same((reader.stat("/big") is None, reader.end()), (False, OK), "a read, and the end of the session")


@case
def read_only_crowd(lab):
    """Many that come, write and go all the time while a server becomes read-only and writable again."""
    ensemble = lab.ensemble(more=READ_ONLY)
    server = ensemble.followers()[0]
    others, enough = [one for one in ensemble.first if one is not server], threading.Event()

    def come_and_go():
        frames = zk.hello(0, 6000, 0, bytes(16), b"\1") + zk.buffer(zk.i32(1) + zk.i32(zk.CLOSE))
        while not enough.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 5) as s:
                s.sendall(frames)
                while s.recv(4096):
                    pass

    def write(number):
        while not enough.is_set():
            with contextlib.suppress(Gone):
                one = Session(server, read_only=b"\1")
                while not enough.is_set() and one.make("/crowd-%d-" % number, zk.SEQUENTIAL).error == OK:
                    pass
                one.close()
    threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(3)]
    threads += [threading.Thread(target=write, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            with stopped(*others):
                until(lambda: four_letter(server.port, "isro") == "ro", "isro says ro", START_S)
            server.await_mode("leader", "follower")
        server.await_writes()
    finally:
        enough.set()
        for thread in threads:
            thread.join(SOON_S)
    same(server.running, True, "the server runs")
