#!/usr/bin/env python3
"""Talks to real ZooKeeper servers over plain sockets and writes every frame, both ways, to a text file.

    record.py OUT STANDALONE ENSEMBLE READONLY      each server as host:port; record.sh starts the three and calls this

Only the standard library is used, and no code is shared with ringkeeper: what these bytes mean was decided elsewhere.
The format of the file is told in README.md.
"""

import base64
import hashlib
import socket
import struct
import sys
import time

OPS = {
    "create": 1, "delete": 2, "exists": 3, "getData": 4, "setData": 5, "getACL": 6, "setACL": 7, "getChildren": 8,
    "sync": 9, "ping": 11, "getChildren2": 12, "check": 13, "multi": 14, "create2": 15, "reconfig": 16,
    "checkWatches": 17, "removeWatches": 18, "createContainer": 19, "deleteContainer": 20, "createTTL": 21,
    "multiRead": 22, "auth": 100, "setWatches": 101, "sasl": 102, "getEphemerals": 103, "getAllChildrenNumber": 104,
    "setWatches2": 105, "addWatch": 106, "whoAmI": 107, "closeSession": -11,
}
EVENTS = {1: "created", 2: "deleted", 3: "data-changed", 4: "children-changed"}
SPECIAL_XIDS = {"ping": -2, "auth": -4, "setWatches": -8, "setWatches2": -8}
PATIENCE_S = 10


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def flag(value):
    return bytes([value])


def buf(value):
    """A buffer or a string; None is null."""
    if value is None:
        return i32(-1)
    if isinstance(value, str):
        value = value.encode("utf-8")
    return i32(len(value)) + value


def vec(values, encode=buf):
    return i32(-1) if values is None else i32(len(values)) + b"".join(encode(one) for one in values)


def acl(one):
    perms, scheme, name = one
    return i32(perms) + buf(scheme) + buf(name)


OPEN = [(31, "world", "anyone")]


def create(path, data=b"", acls=OPEN, flags=0):
    return buf(path) + buf(data) + vec(acls, acl) + i32(flags)


def create_ttl(path, ttl, flags=5, data=b""):
    return create(path, data, OPEN, flags) + i64(ttl)


def set_data(path, data, version=-1):
    return buf(path) + buf(data) + i32(version)


def at_version(path, version=-1):
    return buf(path) + i32(version)


def read(path, watch=False):
    return buf(path) + flag(watch)


def set_acl(path, acls, version=-1):
    return buf(path) + vec(acls, acl) + i32(version)


def multi(*ops):
    parts = [i32(OPS[op]) + flag(0) + i32(-1) + body for op, body in ops]
    return b"".join(parts) + i32(-1) + flag(1) + i32(-1)


def auth(scheme, text):
    return i32(0) + buf(scheme) + buf(text)


def set_watches(zxid, *lists):
    return i64(zxid) + b"".join(vec(one) for one in lists)


def digest_id(text):
    return text.split(":")[0] + ":" + base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()


class Recorder:
    def __init__(self, path):
        self.lines = []
        self.path = path
        self.names = set()

    def note(self, text):
        self.lines.append("# " + text)

    def frame(self, name, direction, body):
        self.lines.append("%s %s %s" % (name, direction, (i32(len(body)) + body).hex()))

    def request(self, name, body):
        assert name not in self.names, "the name %s is used twice" % name
        self.names.add(name)
        self.frame(name, ">", body)

    def save(self, head):
        with open(self.path, "w", encoding="ascii") as out:
            out.write("".join(line + "\n" for line in head + self.lines))


class Connection:
    """One TCP connection; `connect` has to come first."""

    def __init__(self, log, address, title):
        host, port = address.rsplit(":", 1)
        self.log = log
        self.xid = 0
        self.zxid = 0
        self.session, self.password = 0, b""
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        log.note("---- connection: " + title)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _receive(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _closed(self, name):
        """The server must close now, without another frame."""
        try:
            more = self.socket.recv(1)
        except ConnectionResetError:
            more = b""
        assert not more, "%s: the server was to close" % name
        self.log.note("after %s the server closed the connection" % name)
        self.socket.close()

    def connect(self, name="connect.", *, form=45, timeout=10000, session=0, password=bytes(16), seen=0, read_only=0,
                version=0, trailing=b"", quiet=False, refused=False, expired=False):
        body = i32(version) + i64(seen) + i32(timeout) + i64(session) + buf(password)
        if form == 45:
            body += flag(read_only)
        body += trailing
        name = "connect." + name if not name.startswith("connect.") else name
        if not quiet:
            self.log.request(name, body)
        self.socket.sendall(i32(len(body)) + body)
        if refused:
            self._closed(name)
            return self
        reply = self._receive()
        if not quiet:
            self.log.frame(name, "<", reply)
        _, got, self.session = struct.unpack(">iiq", reply[:16])
        self.password = reply[20:36]
        assert (got == 0) == expired, "%s: timeout %d" % (name, got)
        if expired:
            self._closed(name)
        return self

    def ask(self, name, body=b"", want=0, xid=None, op=None, closes=False, mute=False):
        """Sends a request and reads up to its reply; events that come before it are recorded too."""
        word = name.split(".")[0]
        if xid is None:
            if word in SPECIAL_XIDS:
                xid = SPECIAL_XIDS[word]
            else:
                self.xid += 1
                xid = self.xid
        frame = i32(xid) + i32(OPS[word] if op is None else op) + body
        self.log.request(name, frame)
        self.socket.sendall(i32(len(frame)) + frame)
        if mute:
            self._closed(name)
            return None
        while True:
            reply = self._receive()
            got, zxid, err = struct.unpack(">iqi", reply[:16])
            if got == -1 and xid != -1:
                self._event(reply)
                continue
            assert got == xid, "%s: xid %d, want %d" % (name, got, xid)
            self.log.frame(name, "<", reply)
            assert err == want, "%s: error %d, want %d" % (name, err, want)
            self.zxid = max(self.zxid, zxid)
            if closes:
                self._closed(name)
            return reply[16:]

    def _event(self, frame):
        self.log.frame("event." + EVENTS[struct.unpack(">i", frame[16:20])[0]], "<", frame)

    def events(self, count):
        """Reads events that no request of this connection waits for."""
        for _ in range(count):
            frame = self._receive()
            assert frame[:4] == i32(-1), "a reply where an event was due"
            self._event(frame)

    def raw(self, name, frame, closes=True):
        """Sends bytes that are no frame a server would take; it must close."""
        self.log.note("%s: sent %s" % (name, frame.hex()))
        self.socket.sendall(frame)
        self._closed(name)

    def close(self):
        self.socket.close()


def handshakes(log, at):
    Connection(log, at, "handshakes").connect("connect.new-45-bytes").close()
    Connection(log, at, "handshakes").connect("connect.new-44-bytes", form=44).close()
    Connection(log, at, "handshakes").connect("connect.new-null-password", password=None).close()
    Connection(log, at, "handshakes").connect("connect.new-empty-password", password=b"").close()
    Connection(log, at, "handshakes").connect("connect.timeout-raised-to-minimum", timeout=1).close()
    Connection(log, at, "handshakes").connect("connect.timeout-cut-to-maximum", timeout=10**9).close()
    Connection(log, at, "handshakes").connect("connect.protocol-version-7", version=7).close()
    Connection(log, at, "handshakes").connect("connect.read-only-allowed", read_only=1).close()
    first = Connection(log, at, "to be attached again").connect("connect.before-attach")
    first.close()
    second = Connection(log, at, "attached again").connect("connect.attach-45-bytes", session=first.session, password=first.password)
    assert second.session == first.session
    second.close()
    Connection(log, at, "attached again").connect("connect.attach-44-bytes", form=44, session=first.session, password=first.password, timeout=20000).close()
    Connection(log, at, "refused").connect("connect.expired-wrong-password", session=first.session, password=b"x" * 16, expired=True)
    Connection(log, at, "refused").connect("connect.expired-unknown-session-44", form=44, session=0x77, password=b"y" * 16, expired=True)
    Connection(log, at, "refused").connect("connect.refused-zxid-of-the-future", seen=1 << 60, refused=True)
    Connection(log, at, "malformed").connect("connect.malformed-trailing-bytes", trailing=b"junk!").close()
    Connection(log, at, "malformed").connect("x", quiet=True).raw("negative length", i32(-5))
    Connection(log, at, "malformed").connect("x", quiet=True).raw("length over the limit", i32(0x7FFFFFFF))
    Connection(log, at, "malformed").connect("x", quiet=True).raw("frame of length 0", i32(0))
    Connection(log, at, "malformed").connect("x", quiet=True).raw("frame of length 4", i32(4) + i32(1))


def nodes(log, at, r):
    a = Connection(log, at, "nodes").connect("connect.nodes")
    a.ask("ping.")
    a.ask("create.persistent", create(r, b"root"))
    a.ask("create.ephemeral", create(r + "/e", b"eph", flags=1))
    a.ask("create.sequential", create(r + "/s-", b"", flags=2))
    a.ask("create.ephemeral-sequential", create(r + "/es-", b"x", flags=3))
    a.ask("create.container-flag", create(r + "/cf", b"", flags=4))
    a.ask("create.null-data", create(r + "/null", None))
    a.ask("create.empty-data", create(r + "/empty", b""))
    a.ask("create.two-acls", create(r + "/acls", b"x", [(1, "world", "anyone"), (31, "ip", "127.0.0.0/8")]))
    a.ask("create.digest-acl", create(r + "/digest", b"x", [(1, "world", "anyone"), (31, "digest", digest_id("bob:pw"))]))
    a.ask("create.unicode-path", create(r + "/ü漢字", "ü".encode()))
    a.ask("create.read-only-node", create(r + "/ro", b"x", [(1, "world", "anyone")]))
    a.ask("create.unreadable-node", create(r + "/hidden", b"x", [(16, "world", "anyone")]))
    a.ask("create.xid-zero", create(r + "/x0"), xid=0)
    a.ask("create.xid-negative", create(r + "/x77"), xid=-77)
    a.ask("create.error-node-exists", create(r), -110)
    a.ask("create.error-no-node", create(r + "/no/child"), -101)
    a.ask("create.error-no-children-for-ephemerals", create(r + "/e/child"), -108)
    a.ask("create.error-no-auth", create(r + "/ro/child"), -102)
    a.ask("create.error-bad-path", create(r + "/"), -8)
    a.ask("create.error-empty-path", create(""), -8)
    a.ask("create.error-bad-flags", create(r + "/f", flags=7), -8)
    a.ask("create.error-invalid-acl", create(r + "/f", acls=[(31, "nonesuch", "x")]), -114)
    a.ask("create.error-no-acl", create(r + "/f", acls=[]), -114)
    a.ask("create.error-null-acl", create(r + "/f", acls=None), -114)
    a.ask("create.error-ttl-flag", create(r + "/f", flags=5), -8)
    a.ask("create.malformed-null-path", create(None), -5)
    a.ask("create.malformed-short", create(r + "/f")[:-2], -5)
    a.ask("create2.persistent", create(r + "/c2", b"data"))
    a.ask("create2.ephemeral-sequential", create(r + "/c2-", b"", flags=3))
    a.ask("create2.error-node-exists", create(r + "/c2"), -110)
    a.ask("createContainer.new", create(r + "/box", b"", flags=4))
    a.ask("createContainer.error-node-exists", create(r + "/box", b"", flags=4), -110)
    a.ask("createTTL.persistent", create_ttl(r + "/ttl", 3600000))
    a.ask("createTTL.sequential", create_ttl(r + "/ttl-", 1 << 39, flags=6))
    a.ask("createTTL.error-no-ttl", create_ttl(r + "/t", 0), -8)
    a.ask("createTTL.error-ttl-too-large", create_ttl(r + "/t", 1 << 40), -8)

    a.ask("exists.present", read(r))
    a.ask("exists.ephemeral", read(r + "/e"))
    a.ask("exists.container", read(r + "/box"))
    a.ask("exists.empty-path-is-root", read(""))
    a.ask("exists.error-no-node", read(r + "/none"), -101)
    a.ask("exists.error-no-auth", read(r + "/hidden"), -102)
    a.ask("exists.malformed-bool-of-2", buf(r) + flag(2))
    a.ask("exists.malformed-trailing-bytes", read(r) + b"junk")
    a.ask("exists.malformed-null-path", read(None), -5)
    a.ask("getData.value", read(r))
    a.ask("getData.null", read(r + "/null"))
    a.ask("getData.empty", read(r + "/empty"))
    a.ask("getData.root", read("/"))
    a.ask("getData.config", read("/zookeeper/config"))
    a.ask("getData.unicode-path", read(r + "/ü漢字"))
    a.ask("getData.error-no-node", read(r + "/none"), -101)
    a.ask("getData.error-no-auth", read(r + "/hidden"), -102)
    a.ask("setData.any-version", set_data(r, b"one"))
    a.ask("setData.this-version", set_data(r, b"two", 1))
    a.ask("setData.null", set_data(r + "/null", None))
    a.ask("setData.error-bad-version", set_data(r, b"x", 99), -103)
    a.ask("setData.error-no-node", set_data(r + "/none", b"x"), -101)
    a.ask("setData.error-no-auth", set_data(r + "/ro", b"x"), -102)
    a.ask("setData.error-bad-path", set_data("no-slash", b"x"), -8)
    a.ask("getACL.open", buf(r))
    a.ask("getACL.two", buf(r + "/acls"))
    a.ask("getACL.digest-hidden", buf(r + "/digest"))
    a.ask("getACL.error-no-node", buf(r + "/none"), -101)
    a.ask("setACL.set", set_acl(r + "/c2", [(31, "world", "anyone"), (1, "ip", "10.0.0.1")], 0))
    a.ask("setACL.unknown-bits", set_acl(r + "/c2", [(255, "world", "anyone")]))
    a.ask("setACL.error-bad-version", set_acl(r + "/c2", OPEN, 99), -103)
    a.ask("setACL.error-no-node", set_acl(r + "/none", OPEN), -101)
    a.ask("setACL.error-invalid-acl", set_acl(r + "/c2", [(31, "world", "nobody")]), -114)
    a.ask("setACL.error-auth-without-identity", set_acl(r + "/c2", [(31, "auth", "")]), -114)
    a.ask("setACL.error-no-auth", set_acl(r + "/ro", OPEN), -102)
    a.ask("getChildren.none", read(r + "/empty"))
    a.ask("getChildren.some", read(r))
    a.ask("getChildren.error-no-node", read(r + "/none"), -101)
    a.ask("getChildren.error-no-auth", read(r + "/hidden"), -102)
    a.ask("getChildren2.none", read(r + "/empty"))
    a.ask("getChildren2.some", read(r))
    a.ask("getChildren2.root", read("/"))
    a.ask("getChildren2.error-no-node", read(r + "/none"), -101)
    a.ask("sync.path", buf(r))
    a.ask("sync.any-text", buf("no path at all"))
    a.ask("sync.null", buf(None))
    a.ask("getEphemerals.all", buf("/"))
    a.ask("getEphemerals.null-is-all", buf(None))
    a.ask("getEphemerals.prefix", buf(r + "/es"))
    a.ask("getEphemerals.no-match", buf("/nowhere"))
    a.ask("getAllChildrenNumber.node", buf(r))
    a.ask("getAllChildrenNumber.root", buf("/"))
    a.ask("getAllChildrenNumber.error-no-node", buf(r + "/none"), -101)
    a.ask("delete.any-version", at_version(r + "/x0"))
    a.ask("delete.this-version", at_version(r + "/x77", 0))
    a.ask("delete.error-no-node", at_version(r + "/x0"), -101)
    a.ask("delete.error-bad-version", at_version(r + "/c2", 99), -103)
    a.ask("delete.error-not-empty", at_version(r), -111)
    a.ask("delete.error-protected", at_version("/zookeeper"), -8)
    a.ask("reconfig.error-standalone", buf("server.9=127.0.0.1:1:2") + buf(None) + buf(None) + i64(-1), -6)
    a.ask("deleteContainer.by-a-client", buf(r + "/box"))
    a.close()

    for name, op in (("unknown.type-0", 0), ("unknown.type-10", 10), ("unknown.type-23", 23), ("unknown.type-99", 99), ("unknown.type-minus-1", -1)):
        Connection(log, at, name).connect("x", quiet=True).ask(name, b"", -6, op=op, closes=True)
    Connection(log, at, "check alone").connect("x", quiet=True).ask("check.alone", at_version(r, 0), -6, closes=True)
    b = Connection(log, at, "closing").connect("connect.closing")
    b.ask("create.ephemeral-to-be-closed", create(r + "/gone", b"", flags=1))
    b.ask("closeSession.", closes=True)


def multis(log, at, r):
    r += "-multi"
    a = Connection(log, at, "multi").connect("connect.multi")
    a.ask("create.multi-root", create(r))
    a.ask("create.multi-old", create(r + "/old"))
    a.ask("multi.empty", multi())
    a.ask("multi.every-op", multi(
        ("create", create(r + "/a", b"1")),
        ("create2", create(r + "/b", b"2")),
        ("create", create(r + "/b/s-", b"", flags=2)),
        ("create2", create(r + "/b/e", None, flags=1)),
        ("createContainer", create(r + "/box", b"", flags=4)),
        ("createTTL", create_ttl(r + "/ttl", 3600000)),
        ("check", at_version(r + "/a", 0)),
        ("setData", set_data(r + "/a", b"3", 0)),
        ("setData", set_data(r + "/a", b"4", 1)),
        ("delete", at_version(r + "/old"))))
    a.ask("multi.one-delete", multi(("delete", at_version(r + "/b/e"))))
    a.ask("multi.failed-check", multi(
        ("create2", create(r + "/c")), ("check", at_version(r + "/a", 99)), ("delete", at_version(r + "/a"))))
    a.ask("multi.failed-create", multi(("setData", set_data(r + "/a", b"")), ("create", create(r + "/a"))))
    a.ask("multi.failed-delete", multi(("delete", at_version(r + "/none")), ("create", create(r + "/c"))))
    a.ask("multi.failed-not-empty", multi(("delete", at_version(r + "/b"))))
    a.ask("multi.failed-acl", multi(("create", create(r + "/c", acls=[(31, "auth", "")]))))
    a.ask("multi.failed-path", multi(("setData", set_data("no-slash", b""))))
    a.ask("multi.malformed-read-inside", multi(("getData", read(r))), -5)
    a.ask("multi.malformed-setACL-inside", multi(("setACL", set_acl(r, OPEN))), -5)
    a.ask("multi.malformed-no-end", multi(("delete", at_version(r + "/a")))[:-9], -5)
    a.ask("multi.malformed-bad-flags", multi(("create", create(r + "/c", flags=9))), -5)
    a.ask("multiRead.empty", multi())
    a.ask("multiRead.all-answered", multi(("getChildren", read(r)), ("getData", read(r + "/a")), ("getData", read(r + "/ttl"))))
    a.ask("multiRead.some-fail", multi(
        ("getData", read(r + "/none")), ("getChildren", read(r + "/b")), ("getChildren", read(r + "/none"))))
    a.ask("closeSession.multi", closes=True)


def watches(log, at, r):
    r += "-watch"
    a = Connection(log, at, "watches: the one who acts").connect("connect.watches-actor")
    a.ask("create.watch-root", create(r))
    for name in ("data", "child", "both", "p", "rec"):
        a.ask("create.watch-" + name, create(r + "/" + name))
    w = Connection(log, at, "watches: the one who watches").connect("connect.watches-watcher")
    w.ask("getData.watch", read(r + "/data", True))
    w.ask("exists.watch-present", read(r + "/both", True))
    w.ask("exists.watch-missing", read(r + "/later", True), -101)
    w.ask("getChildren.watch", read(r + "/child", True))
    w.ask("getChildren2.watch", read(r + "/both", True))
    w.ask("addWatch.persistent", buf(r + "/p") + i32(0))
    w.ask("addWatch.recursive", buf(r + "/rec") + i32(1))
    w.ask("addWatch.malformed-mode-2", buf(r) + i32(2), -5)
    for name, body, want in (
        ("data", buf(r + "/data") + i32(2), 0), ("children", buf(r + "/child") + i32(1), 0),
        ("any", buf(r + "/both") + i32(3), 0), ("persistent", buf(r + "/p") + i32(4), 0),
        ("recursive", buf(r + "/rec") + i32(5), 0), ("error-no-watcher", buf(r + "/none") + i32(3), -121),
        ("error-other-kind", buf(r + "/data") + i32(1), -121), ("malformed-type-9", buf(r + "/data") + i32(9), -5),
    ):
        w.ask("checkWatches." + name, body, want)

    def act(count, name, body, then=None):
        """The actor's request, then the events that it makes for the watcher. Two connections, so a note tells whose."""
        log.note("the actor")
        a.ask(name, body)
        log.note("the watcher")
        w.events(count)

    act(1, "setData.fires-data", set_data(r + "/data", b"1"))
    act(1, "create.fires-exists", create(r + "/later"))
    act(1, "create.fires-children", create(r + "/child/c"))
    act(1, "delete.fires-data-and-child-as-one", at_version(r + "/both"))
    act(1, "setData.fires-persistent", set_data(r + "/p", b"1"))
    act(1, "create.fires-persistent-child", create(r + "/p/c"))
    act(1, "delete.fires-persistent-child", at_version(r + "/p/c"))
    act(1, "delete.fires-persistent", at_version(r + "/p"))
    act(1, "create.fires-persistent", create(r + "/p"))
    act(1, "create.fires-recursive", create(r + "/rec/a"))
    act(3, "multi.fires-recursive-for-each-op", multi(
        ("create", create(r + "/rec/b")), ("setData", set_data(r + "/rec/b", b"1")), ("delete", at_version(r + "/rec/b"))))
    log.note("the watcher")
    w.ask("removeWatches.recursive", buf(r + "/rec") + i32(5))
    w.ask("removeWatches.persistent", buf(r + "/p") + i32(4))
    w.ask("removeWatches.error-no-watcher", buf(r + "/p") + i32(3), -121)
    w.ask("removeWatches.malformed-type-0", buf(r + "/p") + i32(0), -5)
    w.ask("getData.watch-to-remove", read(r + "/data", True))
    w.ask("removeWatches.data", buf(r + "/data") + i32(2))
    w.ask("getChildren.watch-to-remove", read(r + "/data", True))
    w.ask("removeWatches.any", buf(r + "/data") + i32(3))
    log.note("own writes: the event comes before the reply")
    w.ask("exists.watch-own", read(r + "/own", True), -101)
    w.ask("create.own-write", create(r + "/own"))

    w.ask("setWatches.nothing-missed", set_watches(w.zxid, [r + "/data"], [r + "/not-yet"], [r + "/child"]))
    w.ask("setWatches.empty-lists", set_watches(0, [], [], []))
    w.ask("setWatches.everything-missed", set_watches(1, [r + "/data", r + "/both"], [r + "/own"], [r + "/child", r + "/both"]))
    w.ask("setWatches2.nothing-missed", set_watches(w.zxid, [r + "/data"], [], [], [r + "/p"], [r + "/rec"]))
    w.ask("setWatches2.everything-missed", set_watches(1, [r + "/data"], [r + "/own"], [r + "/child"], [r + "/p"], [r + "/rec"]))
    w.ask("setWatches.positive-xid", set_watches(w.zxid, [r + "/data"], [], []), xid=4711)
    w.ask("setWatches.malformed-null-list", i64(0) + i32(-1) + i32(-1) + i32(-1), -5)
    act(1, "setData.fires-set-again", set_data(r + "/data", b"2"))
    act(1, "setData.fires-recursive-set-again", set_data(r + "/rec", b"2"))
    log.note("the actor")
    a.ask("create.ephemeral-before-close", create(r + "/rec/e", flags=1))
    log.note("the watcher")
    w.events(1)
    log.note("the actor")
    a.ask("closeSession.fires", closes=True)
    log.note("the watcher")
    w.events(1)
    w.ask("closeSession.watcher", closes=True)


def identities(log, at, r):
    r += "-auth"
    a = Connection(log, at, "identities").connect("connect.identities")
    a.ask("whoAmI.stranger")
    a.ask("auth.digest", auth("digest", "bob:pw"))
    a.ask("auth.digest-again", auth("digest", "eve:other"))
    a.ask("auth.ip", auth("ip", ""))
    a.ask("whoAmI.two-names")
    a.ask("create.auth-acl", create(r, b"mine", [(31, "auth", "")]))
    a.ask("getACL.own", buf(r))
    b = Connection(log, at, "identities").connect("connect.identities-super")
    b.ask("getACL.error-no-auth", buf(r), -102)
    b.ask("auth.super", auth("digest", "super:test"))
    b.ask("whoAmI.super")
    b.ask("getData.super-reads-all", read(r))
    Connection(log, at, "identities").connect("x", quiet=True).ask("auth.error-unknown-scheme", auth("nonesuch", "x"), -115, closes=True)

    quota = "/zookeeper/quota" + r + "-quota"
    a.ask("create.quota-node", create(r + "-quota"))
    a.ask("create.quota-parent", create(quota))
    a.ask("create.quota-limits", create(quota + "/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=2"))
    a.ask("create.quota-stats", create(quota + "/zookeeper_stats", b"count=0,bytes=0"))
    a.ask("getData.quota-stats", read(quota + "/zookeeper_stats"))
    a.ask("create.within-quota", create(r + "-quota/a"))
    a.ask("create.error-quota-exceeded", create(r + "-quota/b"), -125)
    a.ask("setData.error-quota-exceeded", set_data(r + "-quota/a", b"x" * 11), -125)

    def md5(data):
        return hashlib.md5(data).digest()

    def sasl(name, user, password, want, **ends):
        c = Connection(log, at, "SASL, DIGEST-MD5").connect("connect." + name)
        token = c.ask("sasl.%s-first" % name, buf(b""))[4:].decode()
        fields = dict(part.split("=", 1) for part in token.split(","))
        nonce, realm = fields["nonce"].strip('"'), fields["realm"].strip('"')
        cnonce, uri = "recorded", "zookeeper/zk-sasl-md5"
        a1 = md5(("%s:%s:%s" % (user, realm, password)).encode()) + (":%s:%s" % (nonce, cnonce)).encode()
        proof = "%s:%s:00000001:%s:auth:%s" % (md5(a1).hex(), nonce, cnonce, md5(("AUTHENTICATE:" + uri).encode()).hex())
        answer = ('charset=utf-8,username="%s",realm="%s",nonce="%s",nc=00000001,cnonce="%s",digest-uri="%s",maxbuf=65536,'
                  "response=%s,qop=auth") % (user, realm, nonce, cnonce, uri, md5(proof.encode()).hex())
        c.ask("sasl.%s-proof" % name, buf(answer), want, **ends)
        return c

    sasl("accepted", "bob", "secret", 0).ask("whoAmI.sasl")
    sasl("refused", "bob", "wrong", -115, closes=True)
    a.ask("closeSession.identities", closes=True)
    b.close()


def ensemble(log, at):
    a = Connection(log, at, "a server of an ensemble that may be reconfigured").connect("connect.ensemble")
    line = "server.2=127.0.0.1:1:2:observer;127.0.0.1:3"

    def change(joining, leaving=None, members=None, version=-1):
        return buf(joining) + buf(leaving) + buf(members) + i64(version)

    a.ask("getData.config-of-ensemble", read("/zookeeper/config", True))
    a.ask("reconfig.error-bad-version", change(line, version=1), -103)
    a.ask("reconfig.error-bad-arguments", change("server.2=nonsense"), -8)
    a.ask("reconfig.error-no-auth", change(line), -102)
    a.ask("auth.super-of-ensemble", auth("digest", "super:test"))
    a.ask("reconfig.joining", change(line))
    a.ask("getData.config-after-joining", read("/zookeeper/config"))
    a.ask("reconfig.leaving", change(None, "2"))
    a.ask("closeSession.ensemble", closes=True)


def read_only(log, at):
    Connection(log, at, "a read-only server").connect("connect.refused-by-read-only", refused=True)
    Connection(log, at, "a read-only server").connect("connect.refused-by-read-only-44-bytes", form=44, refused=True)
    a = Connection(log, at, "a read-only server").connect("connect.read-only-granted", read_only=1)
    a.ask("getData.read-only", read("/"))
    a.ask("ping.read-only")
    a.ask("create.error-read-only", create("/x"), -119)
    a.ask("setData.error-read-only", set_data("/", b""), -119)
    a.ask("multi.error-read-only", multi(("create", create("/x"))), -119)
    a.ask("sync.error-read-only", buf("/"), -119)
    a.ask("closeSession.read-only", closes=True)


def word(at, letters):
    host, port = at.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as one:
        one.sendall(letters)
        parts = []
        while True:
            part = one.recv(4096)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def main():
    out, alone, many, shut = sys.argv[1:]
    log = Recorder(out)
    version = word(alone, b"srvr").splitlines()[0].split(": ", 1)[1]
    handshakes(log, alone)
    root = "/wire"
    nodes(log, alone, root)
    multis(log, alone, root)
    watches(log, alone, root)
    identities(log, alone, root)
    ensemble(log, many)
    read_only(log, shut)
    log.save([
        "# Frames recorded from Apache ZooKeeper " + version,
        "# by tests/wire/record.sh on %s. README.md tells the format; do not edit by hand." % time.strftime("%Y-%m-%d"),
    ])
    frames = [line for line in log.lines if not line.startswith("#")]
    covered = {line.split(".")[0] for line in frames}
    missing = set(OPS) - covered
    assert not missing, "no frame of: " + ", ".join(sorted(missing))
    print("%d frames, %d requests" % (len(frames), len(log.names)))


if __name__ == "__main__":
    main()
