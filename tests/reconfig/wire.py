"""One client as bytes on a blocking socket: every error code and every watch event is seen, nothing is done again behind
the case's back. The records themselves are those of the rig, scripts/ensemble/zk.py."""
import collections
import hashlib
import base64
import os
import socket
import struct
import sys
import threading

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "ensemble"))
import zk  # noqa: E402
from zk import Gone  # noqa: E402

OK, UNIMPLEMENTED, MARSHALLING, BAD_ARGUMENTS = 0, -6, -5, -8
NO_QUORUM, IN_PROGRESS, NO_NODE, NO_AUTH, BAD_VERSION, DISABLED = -13, -14, -101, -102, -103, -123
RECONFIG, AUTH, XID_AUTH = 16, 100, -4
CONFIG = "/zookeeper/config"
SUPER = "super:reconfig"
SUPER_DIGEST = "super:" + base64.b64encode(hashlib.sha1(SUPER.encode()).digest()).decode()
# Longer than any case: no session here pings.
SESSION_MS = 120000

Stat = collections.namedtuple("Stat", "czxid mzxid ctime mtime version cversion aversion owner length children pzxid")
Reply = collections.namedtuple("Reply", "error zxid body")
Event = collections.namedtuple("Event", "type state path")
Config = collections.namedtuple("Config", "error text stat zxid")


class Client(zk.Wire):
    """A session over one connection, by default with the rights of the super user."""

    def __init__(self, port, superuser=True, patience=30.0):
        super().__init__("127.0.0.1", port, SESSION_MS, patience)
        self.events = []
        if superuser:
            self.send(AUTH, zk.i32(0) + zk.text("digest") + zk.text(SUPER), XID_AUTH)
            if self.receive(XID_AUTH).error:
                raise Gone("the super user is not known")

    def close(self):
        self.socket.close()

    def receive(self, xid):
        """The answer to that request; watch events that come before it go to `events`."""
        while True:
            frame = self.frame()
            got, zxid, error = zk.HEADER.unpack_from(frame)
            if got == zk.XID_EVENT:
                self.on_event(frame)
            elif got != xid:
                raise Gone("the answer to xid %d came for xid %d" % (xid, got))
            else:
                return Reply(error, zxid, frame[zk.HEADER.size:])

    def on_event(self, frame):
        kind, state = struct.unpack_from(">ii", frame, zk.HEADER.size)
        path, _ = zk.take_buffer(frame, zk.HEADER.size + 8)
        self.events.append(Event(kind, state, path.decode()))

    def next_event(self, patience):
        """The next watch event, waited for."""
        self.socket.settimeout(patience)
        while not self.events:
            frame = self.frame()
            if zk.HEADER.unpack_from(frame)[0] != zk.XID_EVENT:
                raise Gone("an answer nobody asked for")
            self.on_event(frame)
        return self.events.pop(0)

    def call(self, opcode, body):
        return self.receive(self.send(opcode, body))

    def create(self, path, data=b""):
        return self.call(*zk.encode("create", (path, data, 0))).error

    def set(self, path, data=b"x"):
        return self.call(*zk.encode("set", (path, data, -1))).error

    def exists(self, path):
        return self.call(*zk.encode("exists", (path, False))).error

    def sync(self):
        return self.call(*zk.encode("sync", ("/",))).error

    def send_sync(self):
        return self.send(*zk.encode("sync", ("/",)))

    def send_create(self, path, data=b""):
        return self.send(*zk.encode("create", (path, data, 0)))

    def config(self, watch=False):
        """/zookeeper/config as this server has it, which may be later than others do: see `sync`."""
        return read_config(self.call(*zk.encode("get", (CONFIG, watch))))

    def send_reconfig(self, joining=None, leaving=None, members=None, version=-1):
        parts = b"".join(zk.buffer(None if part is None else part.encode()) for part in (joining, leaving, members))
        return self.send(RECONFIG, parts + struct.pack(">q", version))

    def reconfig(self, joining=None, leaving=None, members=None, version=-1):
        return read_config(self.receive(self.send_reconfig(joining, leaving, members, version)))


def read_config(reply):
    if reply.error:
        return Config(reply.error, None, None, reply.zxid)
    data, at = zk.take_buffer(reply.body, 0)
    return Config(OK, (data or b"").decode(), Stat(*zk.STAT.unpack_from(reply.body, at)), reply.zxid)


class Writer(threading.Thread):
    """A session that writes to a znode of its own without an end, and notes what goes wrong. It does not connect again:
    a connection that was lost is an error too."""

    PAUSE_S = 0.02

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.writes, self.errors, self.enough = Client(port), 0, [], threading.Event()
        self.path = "/writer-%x" % (self.client.id & (1 << 64) - 1)
        if self.client.create(self.path) != OK:
            raise Gone("the writer cannot begin")
        self.start()

    def run(self):
        while not self.enough.wait(self.PAUSE_S):
            try:
                error = self.client.set(self.path, b"%d" % self.writes)
            except Gone as gone:
                self.errors.append(str(gone))
                return
            if error:
                self.errors.append("error %d" % error)
            self.writes += 1

    def stop(self):
        self.enough.set()
        self.join()
        self.client.close()


def four_letter(port, word, patience=2.0):
    """A four-letter word's answer; empty when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), patience) as s:
            s.settimeout(patience)
            s.sendall(word.encode())
            out = b""
            while more := s.recv(65536):
                out += more
            return out.decode(errors="replace")
    except OSError:
        return ""
