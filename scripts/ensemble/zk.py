"""ZooKeeper's client protocol as bytes, as far as the rig speaks it, and a blocking connection for the rig's own reads."""
import socket
import struct
import time

CREATE, DELETE, EXISTS, GETDATA, SETDATA = 1, 2, 3, 4, 5
SYNC, PING, GETCHILDREN2, CHECK, MULTI, CREATE2 = 9, 11, 12, 13, 14, 15
SETWATCHES, CLOSE = 101, -11
XID_EVENT, XID_PING, XID_SETWATCHES = -1, -2, -8
OK, NO_NODE, BAD_VERSION, NODE_EXISTS, NOT_EMPTY, SESSION_EXPIRED, NOT_READ_ONLY = 0, -101, -103, -110, -111, -112, -119
PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL = 0, 1, 2, 3
CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4

STAT = struct.Struct(">qqqqiiiqiiq")
# Places in a Stat.
CZXID, MZXID, CTIME, MTIME, VERSION, CVERSION, AVERSION, OWNER, LENGTH, CHILDREN, PZXID = range(11)
HEADER = struct.Struct(">iqi")


class Gone(Exception):
    """The connection ended, or was never made."""


class Over(Gone):
    """It ended with the word that the session is over."""


class Expired(Exception):
    """The server says that the session is over."""


def i32(value):
    return struct.pack(">i", value)


def buffer(data):
    return i32(-1) if data is None else i32(len(data)) + data


def text(string):
    return buffer(string.encode())


OPEN_ACL = i32(1) + i32(31) + text("world") + text("anyone")


def encode(kind, args):
    """(opcode, body) of an operation as the histories name it."""
    if kind == "create":
        path, data, flags = args
        return CREATE2, text(path) + buffer(data) + OPEN_ACL + i32(flags)
    if kind == "delete":
        return DELETE, text(args[0]) + i32(args[1])
    if kind == "set":
        path, data, version = args
        return SETDATA, text(path) + buffer(data) + i32(version)
    if kind == "get":
        return GETDATA, text(args[0]) + (b"\1" if args[1] else b"\0")
    if kind == "exists":
        return EXISTS, text(args[0]) + (b"\1" if args[1] else b"\0")
    if kind == "children":
        return GETCHILDREN2, text(args[0]) + (b"\1" if args[1] else b"\0")
    if kind == "sync":
        return SYNC, text(args[0])
    if kind == "close":
        return CLOSE, b""
    if kind == "multi":
        out = b""
        for item in args[0]:
            opcode, body = (CHECK, text(item[1]) + i32(item[2])) if item[0] == "check" else encode(item[0], item[1:])
            out += i32(opcode) + b"\0" + i32(-1) + body
        return MULTI, out + i32(-1) + b"\1" + i32(-1)
    raise ValueError(kind)


def set_watches(since, data, exist, child):
    lists = (data, exist, child)
    return struct.pack(">q", since) + b"".join(i32(len(one)) + b"".join(map(text, one)) for one in lists)


def take_buffer(body, at):
    length = struct.unpack_from(">i", body, at)[0]
    if length < 0:
        return None, at + 4
    return body[at + 4 : at + 4 + length], at + 4 + length


def decode(kind, error, body):
    """What a reply says: for an error nothing, else what its kind has."""
    if error:
        return None
    if kind == "create":
        path, at = take_buffer(body, 0)
        return path.decode(), STAT.unpack_from(body, at)
    if kind in ("set", "exists"):
        return STAT.unpack_from(body)
    if kind == "get":
        data, at = take_buffer(body, 0)
        return data, STAT.unpack_from(body, at)
    if kind == "children":
        names, at = [], 4
        for _ in range(struct.unpack_from(">i", body)[0]):
            name, at = take_buffer(body, at)
            names.append(name.decode())
        return tuple(sorted(names)), STAT.unpack_from(body, at)
    if kind == "multi":
        return decode_multi(body)
    return None


def decode_multi(body):
    """A tuple with, for each part, ("create", path, stat), ("set", stat), ("delete",), ("check",) or ("error", code)."""
    out, at = [], 0
    while True:
        opcode, done, _ = struct.unpack_from(">ibi", body, at)
        at += 9
        if done:
            return tuple(out)
        if opcode == -1:
            out.append(("error", struct.unpack_from(">i", body, at)[0]))
            at += 4
        elif opcode in (CREATE, CREATE2):
            path, at = take_buffer(body, at)
            stat = None
            if opcode == CREATE2:
                stat = STAT.unpack_from(body, at)
                at += STAT.size
            out.append(("create", path.decode(), stat))
        elif opcode == SETDATA:
            out.append(("set", STAT.unpack_from(body, at)))
            at += STAT.size
        else:
            out.append(("delete" if opcode == DELETE else "check",))


def hello(last_zxid, timeout_ms, session, password, read_only=b"\0"):
    """`read_only` empty: the form of old clients."""
    return buffer(struct.pack(">iqiq", 0, last_zxid, timeout_ms, session) + buffer(password) + read_only)


def read_hello(body):
    """(timeout, session, password); session 0 is a session that is over."""
    _, timeout, session = struct.unpack_from(">iiq", body)
    password, _ = take_buffer(body, 16)
    return timeout, session, password


class Wire:
    """A session, new or taken up again, over one blocking connection, and its frames."""

    def __init__(self, address, port, timeout_ms, answer_s, session=(0, bytes(16)), read_only=b"\0"):
        self.xid, self.bytes = 0, b""
        try:
            self.socket = socket.create_connection((address, port), answer_s)
            self.socket.settimeout(answer_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(hello(0, timeout_ms, *session, read_only))
        except OSError as broken:
            raise Gone(str(broken)) from broken
        answer = self.frame()
        self.timeout, self.id, self.password = read_hello(answer)
        self.is_read_only = answer[36:] == b"\1"
        if self.id == 0:
            self.socket.close()
            raise Over("no session was granted")

    def frame(self):
        try:
            while len(self.bytes) < 4 or len(self.bytes) < 4 + struct.unpack_from(">i", self.bytes)[0]:
                more = self.socket.recv(1 << 18)
                if not more:
                    raise Gone("the connection was closed")
                self.bytes += more
        except OSError as broken:
            raise Gone(str(broken) or type(broken).__name__) from broken
        length = struct.unpack_from(">i", self.bytes)[0]
        out, self.bytes = self.bytes[4 : 4 + length], self.bytes[4 + length :]
        return out

    def send(self, opcode, body, xid=None):
        """Its xid, the next one unless another is given."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        try:
            self.socket.sendall(buffer(i32(xid) + i32(opcode) + body))
        except OSError as broken:
            raise Gone(str(broken)) from broken
        return xid


class Session(Wire):
    """One request at a time; notes what it does in `log` as clients.py does."""

    def __init__(self, address, timeout_ms=10000, answer_s=10.0, session=(0, bytes(16))):
        super().__init__(address, 2181, timeout_ms, answer_s, session)
        self.address = address
        self.log = [("conn", time.monotonic(), address, self.id, self.timeout, 0)]

    def call(self, kind, *args):
        """(error, result), noted; raises Gone, and notes an unknown outcome, when no answer comes."""
        began = time.monotonic()
        try:
            self.send(*encode(kind, args))
            answer = self.frame()
        except Gone as broken:
            self.log.append(("unk", self.id, 0, kind, args, began))
            raise Gone(str(broken)) from broken
        xid, zxid, error = HEADER.unpack_from(answer)
        if xid != self.xid:
            raise Gone("the answer to xid %d came for xid %d" % (xid, self.xid))
        result = decode(kind, error, answer[16:])
        self.log.append(("op", self.id, 0, kind, args, began, time.monotonic(), zxid, error, result))
        return error, result

    def close(self):
        try:
            self.call("close")
        except Gone:
            pass
        self.socket.close()


def four_letter(address, word, timeout=1.0):
    """A four-letter word's answer; empty when there is none."""
    try:
        with socket.create_connection((address, 2181), timeout) as s:
            s.settimeout(timeout)
            s.sendall(word.encode())
            out = b""
            while True:
                more = s.recv(65536)
                if not more:
                    return out.decode(errors="replace")
                out += more
    except OSError:
        return ""


def said(address, what, timeout=1.0):
    """What srvr says of it; empty while the server does not serve."""
    for line in four_letter(address, "srvr", timeout).splitlines():
        if line.startswith(what + ": "):
            return line[len(what) + 2 :].strip()
    return ""


def mode(address, timeout=1.0):
    """leader, follower, observer, or empty while the server does not serve."""
    return said(address, "Mode", timeout)


def epoch(address):
    """Of the last zxid there; 0 while the server does not serve."""
    return int(said(address, "Zxid") or "0", 16) >> 32
