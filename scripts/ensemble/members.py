"""Who is a member, as an operator changes it: reconfig by sessions with the super user's rights. They are no part of the
histories; what they are told is checked here, and at the end that all servers agree.
"""
import base64
import hashlib
import struct
import time
from collections import Counter, namedtuple

import zk

AUTH, RECONFIG, XID_AUTH = 100, 16, -4
NO_QUORUM, IN_PROGRESS = -13, -14
SUPER = "super:rig"
SUPER_DIGEST = "super:" + base64.b64encode(hashlib.sha1(SUPER.encode()).digest()).decode()
# No session here pings, and none is to end before its answer.
SESSION_MS = 40000
# An operator gives up after so long and asks again elsewhere; a patient one must be answered, or cut off.
HASTY_S, PATIENT_S = 5, 40
AGREE_S = 30

Ask = namedtuple("Ask", "operator xid what joining leaving floor")


class Config(namedtuple("Config", "version roles")):
    """What /zookeeper/config says: {number: role}."""

    def voters(self):
        return sorted(number for number, role in self.roles.items() if role == "participant")

    def has(self, joining, leaving):
        return all(self.roles.get(n) == role for n, role in joining.items()) and not set(leaving) & set(self.roles)


def parse(data):
    *lines, version = data.decode().split("\n")
    roles = {}
    for line in lines:
        key, value = line.split("=")
        roles[int(key[len("server.") :])] = value.split(";")[0].split(":")[3]
    return Config(int(version[len("version=") :], 16), roles)


class Operator(zk.Session):
    def __init__(self, address, answer_s):
        super().__init__(address, SESSION_MS, answer_s)
        if self.receive(self.send(AUTH, zk.i32(0) + zk.text("digest") + zk.text(SUPER), XID_AUTH))[0]:
            raise zk.Gone("the super user is not known")

    def receive(self, xid):
        frame = self.frame()
        got, _, error = zk.HEADER.unpack_from(frame)
        if got != xid:
            raise zk.Gone("the answer to xid %d came for xid %d" % (xid, got))
        return error, frame[zk.HEADER.size :]

    def config(self):
        error, body = self.receive(self.send(*zk.encode("get", ("/zookeeper/config", False))))
        return None if error else parse(zk.decode("get", error, body)[0])


class Members:
    def __init__(self, ensemble):
        self.ensemble = ensemble
        self.done = None  # the newest config that an answer told of
        self.unsure = False  # something was asked for and never answered: it may be done at any time
        self.answers = Counter()

    def operator(self, number, answer_s=HASTY_S):
        """A session there; None when none is granted."""
        try:
            return Operator(self.ensemble.server(number).address, answer_s)
        except zk.Gone:
            return None

    def look(self, number, sync=True):
        """The config there; None when there is no answer."""
        operator = self.operator(number, 3.0)
        if operator is None:
            return None
        try:
            if sync and operator.receive(operator.send(*zk.encode("sync", ("/",))))[0]:
                return None
            return operator.config()
        except zk.Gone:
            return None
        finally:
            operator.close()

    def ask(self, operator, joining, leaving, version=-1):
        """Sends a reconfig: `joining` is {number: role}. The answer is for `answer`; None when it could not be sent."""
        if operator is None:
            self.answers["no session"] += 1
            return None
        lines = ",".join(self.ensemble.server(n).line(role) for n, role in joining.items())
        body = zk.buffer(lines.encode() if joining else None)
        body += zk.buffer(",".join(map(str, leaving)).encode() if leaving else None) + zk.buffer(None)
        what = "reconfig joining %r leaving %r version %#x" % (joining, list(leaving), version)
        floor = self.done.version if self.done else 0
        try:
            xid = operator.send(RECONFIG, body + struct.pack(">q", version))
        except zk.Gone:
            self.answers["closed"] += 1
            self.unsure = True
            return None
        return Ask(operator, xid, what, joining, leaving, floor)

    def answer(self, ask):
        """Waits for it and looks at it. True when it is done."""
        if ask is None:
            return False
        try:
            error, body = ask.operator.receive(ask.xid)
        except zk.Gone as gone:
            late = "timed out" in str(gone)
            self.answers["none in time" if late else "closed"] += 1
            self.unsure = True
            if late and ask.operator.answer_s >= PATIENT_S:
                self.ensemble.wrong("%s: neither answered nor closed within %d s" % (ask.what, PATIENT_S))
            return False
        finally:
            ask.operator.close()
        self.answers[error] += 1
        if error not in (zk.OK, NO_QUORUM, IN_PROGRESS, zk.BAD_VERSION):
            self.ensemble.wrong("%s: answered with %d" % (ask.what, error))
        if error:
            return False
        config = parse(zk.decode("get", error, body)[0])
        if config.version <= ask.floor:
            self.ensemble.wrong("%s: version %#x, and %#x had been told before" % (ask.what, config.version, ask.floor))
        if not config.has(ask.joining, ask.leaving):
            self.ensemble.wrong("%s: done, and the config is %s" % (ask.what, config))
        if self.done is None or config.version > self.done.version:
            self.done = config
        return True

    def agree(self):
        """All servers come to show one config, and each is in it what it says it is."""
        deadline = time.monotonic() + AGREE_S
        while True:
            configs = {n: self.look(n, sync=False) for n in self.ensemble.up}
            modes = {n: self.ensemble.server(n).mode() for n in self.ensemble.up}
            config = configs[self.ensemble.up[0]]
            fits = config and all(other == config for other in configs.values()) and all(
                (modes[n] in ("leader", "follower")) == (config.roles.get(n) == "participant") and modes[n] for n in modes)
            if fits:
                break
            if time.monotonic() > deadline:
                self.ensemble.wrong("after %d s the servers do not agree who they are: %s, %s" % (AGREE_S, configs, modes))
                return
            time.sleep(0.05)
        if self.done and (config.version < self.done.version or config != self.done and not self.unsure):
            self.ensemble.wrong("the servers show %s at the end, the last answer was %s" % (config, self.done))
