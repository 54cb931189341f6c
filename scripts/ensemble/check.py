"""Judges what clients were told.

A history is a list of client logs; a log holds, in the order in which the client met them:

  ("conn", t, address, session, timeout_ms)       connected
  ("lost", t)                                     the connection ended
  ("expired", t, session)                         a server said that the session is over
  ("denied", t, session)                          the same, as an answer to a request: what became of that stands beside it
  ("op", session, conn, kind, args, t0, t1, zxid, error, result)   answered: sent at t0, the answer came at t1
  ("unk", session, conn, kind, args, t0)          sent at t0 and never answered: it happened or it did not
  ("ev", t, type, path, zxid)                     a watch event; zxid -1 for what setWatches makes up for
  ("ping", t, zxid)                               the answer to a ping
  ("set", t, zxid, paths)                         the answer to setWatches, and those that it set for nodes not there
  ("bad", t, what)                                the client itself found something wrong
  ("lost", t, True)                               the connection ended, and its watches are set again on the next
  ("still", t0, t1)                               in the rig's own log: all servers stood still, by SIGSTOP

What is checked, each by a function below: writes in zxid order are one sequential history of the model; a write has a zxid
above all that anybody had been told before it was sent; a read shows exactly the model at the zxid in its header; zxids never
go back within a session; after `sync` a read is no older than what anybody was told before, and any read no older than a
server may be behind; a watch gives one event, before any answer that shows the change; an ephemeral node is there as long as
its session; no session ends that was heard, and none lives that has ended.

An unknown write is resolved by search: a zxid that a Stat or an event shows and that no answered write has is one of those
that could have been under way there, and which one is tried; one that nothing shows is put in where something that was seen
needs it. Groups of nodes (/rig/GROUP and below) are independent of each other, but for the end of a session.
"""
import bisect
import heapq
from collections import defaultdict

import model
import zk

WRITES = ("create", "delete", "set", "multi", "close")
READS = ("get", "exists", "children")
SEARCH_DEPTH, SEARCH_WIDTH, SLOT_DEPTH, WORLDS_MAX = 4, 14, 2, 2000
NEVER = 1 << 62
HIDDEN = -1  # the zxid of a change that nobody saw
# What a plain read may be behind. A server that is cut off serves for the syncLimit (servers.py) once it knows of no leader;
# it gives the last one up within 3.2 s (Raft's timeout, 16 to 32 ticks of 100 ms); and it may have stood still for 6 s, the
# longest pause of one server.
SYNC_LIMIT_S, GIVES_UP_S, STOPPED_S = 10, 4, 6
TOO_OLD_S = SYNC_LIMIT_S + GIVES_UP_S + STOPPED_S
STILL_SLACK_S = 0.2  # the signals' way, and the tick that a server does not forgive itself


def group_of(path):
    parts = path.split("/", 3)
    return parts[2] if len(parts) > 2 and parts[1] == "rig" else ""


def groups_of(kind, args):
    if kind == "multi":
        return {group_of(item[1]) for item in args[0]}
    return {group_of(args[0])}


def stats_in(kind, result):
    """(path or None, stat) of each Stat in a result."""
    if result is None:
        return ()
    if kind == "create":
        return (result[1],) if result[1] else ()
    if kind in ("set", "exists"):
        return (result,)
    if kind in ("get", "children"):
        return (result[1],) if result[1] else ()
    if kind == "multi":
        return tuple(one[-1] for one in result if one[0] in ("set", "create") and one[-1])
    return ()


def refused(op):
    """Whether a server without room for it refused it."""
    if op.kind == "multi" and op.result:
        return any(one == ("error", zk.NOT_READ_ONLY) for one in op.result)
    return op.error == zk.NOT_READ_ONLY


class Op:
    """An operation; `zxid` None while nobody knows whether it happened."""

    __slots__ = ("session", "conn", "kind", "args", "t0", "t1", "zxid", "error", "result", "turn", "low", "high", "must")

    def __init__(self, session, conn, kind, args, t0, t1=None, zxid=None, error=None, result=None):
        self.session, self.conn, self.kind, self.args, self.t0 = session, conn, kind, args, t0
        self.t1, self.zxid, self.error, self.result = t1, zxid, error, result
        self.turn, self.low, self.high, self.must = 0, 0, NEVER, False

    def __str__(self):
        args = tuple(arg[:24] if isinstance(arg, bytes) else arg for arg in self.args)
        said = "no answer" if self.t1 is None else "zxid %#x, error %d, %r, answered at %.3f" % (
            self.zxid, self.error, self.result, self.t1)
        return "session %#x: %s%r sent at %.3f: %s" % (self.session, self.kind, args, self.t0, said)


class World:
    """One possible state of a group, and the unknown writes that it takes to have happened."""

    __slots__ = ("tree", "applied", "changes")

    def __init__(self, tree, applied, changes):
        self.tree, self.applied, self.changes = tree, applied, changes

    def copy(self):
        return World(dict(self.tree), self.applied, list(self.changes))

    def take(self, changes, zxid):
        for path, node in changes.made.items():
            if node is None:
                self.tree.pop(path, None)
            else:
                self.tree[path] = node
        for kind, path in changes.told:
            self.changes.append((zxid, kind, path))


class Group:
    """All that happened to one group, in zxid order, and the worlds that explain it so far."""

    def __init__(self, name, may_refuse):
        self.name, self.may_refuse = name, may_refuse
        self.steps, self.unknown, self.slots = [], [], set()
        self.told = defaultdict(set)  # what events said of the slots: {zxid: (type, path)}
        self.worlds, self.open, self.wrong, self.searched = [], set(), None, 0

    def begin(self, root):
        self.worlds = [World({"/rig/" + self.name: root} if self.name else {}, frozenset(), [])]

    def judge(self):
        # At one zxid: first the write, then what shows the state after it.
        steps = [(op.zxid, 0 if op.kind in WRITES else 1, n, op) for n, op in enumerate(self.steps)]
        steps += [(zxid, 0, -1, None) for zxid in self.slots]
        steps += [(op.high, -1, op.turn, op) for op in self.unknown if op.high < NEVER]
        self.open = set(range(len(self.unknown)))
        steps.sort(key=lambda step: step[:3])
        for zxid, order, _, op in steps:
            if order < 0:
                self.worlds = self.deadline(op)
            else:
                if order == 0 and op is not None and self.unknown:
                    self.worlds = self.before_write(op, zxid)
                good = self.stepped(self.worlds, zxid, order, op)
                # A world that this contradicts may lack something that was under way, though others explain it as they are.
                going = {id(world) for world in good}
                left = self.worlds if op is None else [world for world in self.worlds if id(world) not in going]
                if left and (op is not None or not good):
                    good = good + self.search(left, zxid, order, op)
                if not good:
                    self.wrong = self.explain(zxid, op)
                    return
                self.worlds = good
            if len(self.worlds) > 1:
                self.worlds = self.distinct(self.worlds)
                if len(self.worlds) > WORLDS_MAX:
                    self.wrong = "too many explanations are possible (%d) to go on" % len(self.worlds)
                    return

    def stepped(self, worlds, zxid, order, op):
        """The worlds that go on after this step."""
        if op is None:
            return self.fill_slot(worlds, zxid)
        return [world for world in worlds if self.agrees(world, zxid, order, op)]

    def agrees(self, world, zxid, order, op):
        if order:
            error, want = model.read(world.tree, op.kind, op.args)
            return error == op.error and (error != zk.OK or model.same_read(op.kind, op.result, want))
        if self.may_refuse and refused(op):
            return True
        error, want, changes = model.apply(world.tree, op.kind, op.args, op.session, zxid)
        if error != op.error or (error == zk.OK and not model.same(op.kind, op.result, want)):
            return False
        if not error:
            world.take(changes, zxid)
        return True

    def fill_slot(self, worlds, zxid):
        out = []
        for world in worlds:
            for number, op in self.possible(world, zxid):
                for ready in self.with_earlier(world, op):
                    for before in self.with_others(ready, op, zxid):
                        if (after := self.put_in(before, number, op, zxid)) is not None:
                            out.append(after)
        # Two deletes that were under way at once may leave the same tree; an event says which of them it was.
        told = {(zxid, *one) for one in self.told[zxid]}
        return self.distinct([world for world in out if told <= set(world.changes)] or out)

    def before_write(self, op, zxid):
        """What is under way at the nodes of a write may have happened before it, and perhaps only before it could."""
        if op.error or op.kind == "close":
            return self.worlds
        mine, out = touched(op), list(self.worlds)
        for number in sorted(self.open, key=lambda n: self.unknown[n].turn):
            other = self.unknown[number]
            if other.low < zxid and other.args and touched(other) & mine:
                for world in list(out):
                    if number not in world.applied and self.in_turn(world, other):
                        for ready in self.with_earlier(world, other):
                            out += self.hide(ready, number, other)
        return self.distinct(out) if len(out) > 1 else out

    def with_others(self, world, op, zxid):
        """What was under way at the same nodes may have happened before it as well; what it left behind will show."""
        worlds, latest = [world], [world]
        for _ in range(SLOT_DEPTH):
            latest = self.distinct([
                after for one in latest for number, other in self.possible(one, zxid)
                if other is not op and (not op.args or not other.args or touched(op) & touched(other))
                # Its session's earlier ones have happened as well, elsewhere: behind it they no longer could.
                for ready in self.with_earlier(one, other)
                for after in self.hide(ready, number, other)])[:WORLDS_MAX]
            worlds += latest
        return worlds

    def possible(self, world, before):
        """Unknown writes that can have happened below that zxid, and can still."""
        for number in sorted(self.open):
            op = self.unknown[number]
            if op.low < before and number not in world.applied and self.in_turn(world, op):
                yield number, op

    def put_in(self, world, number, op, zxid):
        _, _, changes = model.apply(world.tree, op.kind, op.args, op.session, zxid)
        if not changes.made:
            return None
        after = world.copy()
        after.take(changes, zxid)
        after.applied = world.applied | {number}
        return after

    def with_earlier(self, world, op):
        """Once this one has happened, what its session had sent before has happened too, or had no effect."""
        worlds = [world]
        earlier = [n for n in self.open if self.unknown[n].session == op.session and self.unknown[n].turn < op.turn]
        for number in sorted(earlier, key=lambda n: self.unknown[n].turn):
            for before in list(worlds):
                if number not in before.applied and self.in_turn(before, self.unknown[number]):
                    worlds += self.hide(before, number, self.unknown[number])
        return worlds

    def hide(self, world, number, op):
        """The worlds in which it happened at some time before now that nobody saw. A parent then has the zxid of this
        change, which is not known, or still that of a later one."""
        after = self.put_in(world, number, op, HIDDEN)
        if after is None:
            return []
        out, kept = [after], None
        for path, node in after.tree.items():
            if node[model.PZXID] == HIDDEN and path in world.tree and world.tree[path][model.PZXID] > op.low:
                kept = kept or after.copy()
                kept.applied = after.applied
                kept.tree[path] = node[: model.PZXID] + (world.tree[path][model.PZXID],) + node[model.PZXID + 1 :]
        return out if kept is None else [kept, after]

    def search(self, worlds, zxid, order, op):
        """Puts in as few unknown writes as explain the step."""
        self.searched += 1
        for _ in range(SEARCH_DEPTH):
            more = []
            for world in worlds:
                choices = list(self.possible(world, zxid))
                for number, unknown in choices[-SEARCH_WIDTH:]:
                    for before in self.with_earlier(world, unknown):
                        more += self.hide(before, number, unknown)
            worlds = self.distinct(more)[:WORLDS_MAX]
            good = self.stepped([world.copy() for world in worlds], zxid, order, op)
            if good or not worlds:
                return good
        return []

    def deadline(self, op):
        """By now it has happened or it never does: from here on there are worlds of both kinds. A session that is known to
        be over has ended."""
        number = self.unknown.index(op)
        self.open.discard(number)
        out = []
        for world in self.worlds:
            done = self.hide(world, number, op) if number not in world.applied and self.in_turn(world, op) else []
            out += done if done and op.must else [world] + done
        return out

    def in_turn(self, world, op):
        return all(self.unknown[n].turn < op.turn for n in world.applied if self.unknown[n].session == op.session)

    def distinct(self, worlds):
        """Without those that differ in nothing that matters from now on."""
        seen, out = set(), []
        for world in worlds:
            key = frozenset(world.tree.items()), world.applied & self.open
            if key not in seen:
                seen.add(key)
                out.append(world)
        return out

    def explain(self, zxid, op):
        if op is None:
            return "zxid %#x shows in group %s and nobody asked for a write there" % (zxid, self.name)
        out = ["%s\n  is explained by no order of the requests; the possible states before it:" % op]
        for world in self.worlds[:3]:
            if op.kind in READS:
                out.append("  %r" % (model.read(world.tree, op.kind, op.args),))
            else:
                error, want, _ = model.apply(world.tree, op.kind, op.args, op.session, zxid)
                out.append("  the model answers %d %r" % (error, want))
            out.append("  last changes there: " + ", ".join(
                "%#x %d %s" % change for change in [c for c in world.changes if op.args and _touches(op, c[2])][-6:]))
        pending = [unknown for _, unknown in self.possible(self.worlds[0], zxid)]
        out += ["  possibly under way: %s (between %#x and %#x)" % (u, u.low, u.high) for u in pending[:6]]
        return "\n".join(out)


def touched(op):
    """The nodes that it changes, if it does."""
    items = op.args[0] if op.kind == "multi" else ((op.kind,) + op.args,)
    return {path for kind, path, *_ in items for path in
            ((path, model.parent_of(path)) if kind in ("create", "delete") else (path,))}


def _touches(op, path):
    return op.kind in WRITES and path in touched(op) or op.args[0] == path


class Checker:
    def __init__(self, logs, may_refuse=False):
        self.logs, self.may_refuse = logs, may_refuse
        self.wrong, self.said = [], defaultdict(int)
        self.ops, self.unknown, self.writes = [], [], []
        self.sessions = defaultdict(list)  # session: its frames, in order
        self.ended = {}  # session: when its client learnt that it is over
        self.still = []  # when all servers stood still
        self.counted = defaultdict(int)

    def say(self, what):
        """A flood of one kind must not hide another."""
        kind = what.split(":")[0]
        self.said[kind] += 1
        if self.said[kind] <= 8:
            self.wrong.append(what)

    def run(self):
        self.read_logs()
        self.unique()
        self.real_time()
        self.order_in_sessions()
        self.bounds()
        groups = self.make_groups()
        for group in groups.values():
            group.judge()
            if group.wrong:
                self.say("model: " + group.wrong)
        self.times()
        self.watches(groups)
        self.expiries()
        self.counted["searches"] = sum(group.searched for group in groups.values())
        self.counted["ambiguous"] = sum(len(group.worlds) > 1 for group in groups.values())
        return self.wrong

    def read_logs(self):
        for log in self.logs:
            turn = 0
            for record in log:
                kind = record[0]
                if kind in ("op", "unk"):
                    op = Op(*record[1:])
                    turn += 1
                    op.turn = turn
                    if kind == "unk":
                        if op.kind in WRITES:
                            self.unknown.append(op)
                        self.sessions[op.session].append(("unk", op))
                        continue
                    self.counted["ops"] += 1
                    self.counted[op.kind] += 1
                    self.ops.append(op)
                    self.sessions[op.session].append(("op", op))
                    if op.kind in WRITES:
                        self.writes.append(op)
                elif kind in ("expired", "denied"):
                    self.ended.setdefault(record[2], record[1])
                    self.sessions[record[2]].append(record)
                elif kind == "still":
                    self.still.append(record[1:])
                elif kind == "conn":
                    current = record[3]
                    if current in self.ended:
                        self.say("back from the dead: session %#x was over at %.3f and goes on at %.3f"
                                 % (current, self.ended[current], record[1]))
                    self.sessions[current].append(record)
                elif kind == "bad":
                    self.say("protocol: " + record[2])
                elif kind in ("lost", "ev", "ping", "set"):
                    self.sessions[current].append(record)
        self.counted["unknown"] = len(self.unknown)
        self.counted["sessions"] = len(self.sessions)

    def unique(self):
        """Every write has a zxid of its own."""
        self.by_zxid = {}
        for op in self.writes:
            if op.zxid in self.by_zxid:
                self.say("one zxid: for two writes: %s; %s" % (op, self.by_zxid[op.zxid]))
            self.by_zxid[op.zxid] = op

    def real_time(self):
        """A write that is sent after anybody was told of a zxid has a higher one."""
        replies = sorted((op.t1, op.zxid) for op in self.ops)
        self.reply_times = [t1 for t1, _ in replies]
        self.reply_max, top = [], 0
        for _, zxid in replies:
            top = max(top, zxid)
            self.reply_max.append(top)
        for op in self.writes:
            floor = self.told_before(op.t0)
            if op.zxid <= floor:
                self.say("real time: %s, but zxid %#x had been told before it was sent" % (op, floor))
        by_start = sorted((op.t0, op.zxid) for op in self.writes)
        self.starts = [t0 for t0, _ in by_start]
        self.start_min, low = [0] * len(by_start), NEVER
        for at in range(len(by_start) - 1, -1, -1):
            low = min(low, by_start[at][1])
            self.start_min[at] = low

    def told_before(self, t):
        """The highest zxid in an answer that came before t."""
        at = bisect.bisect_left(self.reply_times, t)
        return self.reply_max[at - 1] if at else 0

    def lowest_sent_after(self, t):
        """The lowest zxid of a write that was sent after t."""
        at = bisect.bisect_right(self.starts, t)
        return self.start_min[at] if at < len(self.starts) else NEVER

    def order_in_sessions(self):
        """Zxids do not go back in a session, writes rise; after a sync everything is at least what anybody knew before, and a
        read at all times what anybody knew long ago."""
        for session, frames in self.sessions.items():
            last, last_write, floor, why = 0, 0, 0, None
            for frame in frames:
                if frame[0] in ("ping", "set"):
                    if frame[2] < last:
                        self.say("backwards: session %#x: a ping says %#x after %#x" % (session, frame[2], last))
                    last = max(last, frame[2])
                    continue
                if frame[0] != "op":
                    continue
                op = frame[1]
                if op.zxid < last:
                    self.say("backwards: %s, after %#x in this session" % (op, last))
                last = max(last, op.zxid)
                if op.kind in WRITES:
                    if op.zxid <= last_write:
                        self.say("session order: %s, after a write at %#x" % (op, last_write))
                    last_write = op.zxid
                if op.kind == "sync":
                    told = self.told_before(op.t0)
                    if told > floor:
                        floor, why = told, op
                elif op.zxid < floor:
                    self.say("stale after sync: %s, though %#x was known before the sync: %s" % (op, floor, why))
                if op.kind in READS and op.zxid < (old := self.told_before(op.t0 - TOO_OLD_S)):
                    self.say("too old: %s, though %#x was known %d s before" % (op, old, TOO_OLD_S))

    def bounds(self):
        """Between which zxids an unknown write can have happened."""
        ends = []
        for session, frames in self.sessions.items():
            last, open_ops, closed = 0, [], False
            for frame in frames:
                zxid, conn = 0, None
                if frame[0] == "op":
                    zxid, conn = frame[1].zxid, frame[1].conn
                    closed |= frame[1].kind == "close"
                elif frame[0] == "unk":
                    op = frame[1]
                    if op.kind in WRITES:
                        op.low = max(last, self.told_before(op.t0))
                        open_ops.append(op)
                if zxid:
                    last = max(last, zxid)
                    # An answer on a later connection: what the old one had under way happens before it or never.
                    for op in open_ops:
                        if conn != op.conn:
                            op.high = min(op.high, zxid + 1)
                    open_ops = [op for op in open_ops if op.high == NEVER]
            if session in self.ended:
                high = self.lowest_sent_after(self.ended[session])
                for op in open_ops:
                    op.high = min(op.high, high)
            if not closed:
                end = Op(session, 0, "expire", (), 0.0)
                end.turn, end.low = NEVER, last
                if session in self.ended:
                    end.high, end.must = self.lowest_sent_after(self.ended[session]), True
                ends.append(end)
        self.unknown = [op for op in self.unknown if op.kind != "close"]
        self.ends = ends

    def make_groups(self):
        groups = {}

        def group(name):
            if name not in groups:
                groups[name] = Group(name, self.may_refuse)
            return groups[name]

        owners = defaultdict(set)
        for op in self.ops:
            if op.kind not in WRITES + READS or op.kind == "close":
                continue
            names = groups_of(op.kind, op.args)
            if len(names) > 1:
                self.say("load: the load asks for a multi across groups: %s" % op)
            for name in names:
                g = group(name)
                g.steps.append(op)
                if op.kind == "create" and op.args[2] & zk.EPHEMERAL:
                    owners[op.session].add(name)
                # A parent's Stat beside the group is the same node.
                for stat in stats_in(op.kind, op.result):
                    for at in (zk.CZXID, zk.MZXID, zk.PZXID):
                        if stat[at] not in self.by_zxid:
                            g.slots.add(stat[at])
        for op in self.unknown:
            for name in groups_of(op.kind, op.args):
                group(name).unknown.append(op)
                if op.kind == "create" and op.args[2] & zk.EPHEMERAL:
                    owners[op.session].add(name)
        for end in self.ends:
            for name in owners.get(end.session, ()):
                group(name).unknown.append(end)
        for op in self.writes:
            if op.kind == "close":
                for name in owners.get(op.session, ()):
                    group(name).steps.append(op)
        for frames in self.sessions.values():
            for frame in frames:
                if frame[0] == "ev" and frame[4] > 0 and frame[4] not in self.by_zxid:
                    group(group_of(frame[3])).slots.add(frame[4])
                    group(group_of(frame[3])).told[frame[4]].add((frame[2], frame[3]))
        # Groups begin with their own node, which the rig makes before anything else.
        groups.pop("", None)
        for name, g in groups.items():
            roots = [op for op in g.steps if op.kind == "create" and op.args[0] == "/rig/" + name]
            for op in roots:
                g.steps.remove(op)
                if op.error == zk.OK:
                    root = (op.args[1], op.zxid, op.zxid, 0, 0, 0, op.zxid, 0)
                    g.begin(root)
            if not g.worlds:
                self.say("model: the group %s was never made" % name)
                g.begin((b"", 0, 0, 0, 0, 0, 0, 0))
        return groups

    def times(self):
        """One write, one time of day, on every server."""
        seen = {}
        for op in self.ops:
            for stat in stats_in(op.kind, op.result):
                for zxid, time in ((stat[zk.CZXID], stat[zk.CTIME]), (stat[zk.MZXID], stat[zk.MTIME])):
                    if seen.setdefault(zxid, time) != time:
                        self.say("clock: zxid %#x was at %d and at %d" % (zxid, seen[zxid], time))

    # ---- watches ----

    def watches(self, groups):
        """Change lists by path, then each session's frames against them."""
        data, child, unsure, hidden = defaultdict(list), defaultdict(list), set(), set()
        for name, group in groups.items():
            if len(group.worlds) != 1 or group.wrong:
                unsure.add(name)
                continue
            for zxid, kind, path in group.worlds[0].changes:
                if zxid == HIDDEN:
                    # No event told of it, so no watch lay on it, but one of a client that was away.
                    hidden.add(path)
                    continue
                (child if kind == zk.CHILD else data)[path].append((zxid, kind))
        for changes in list(data.values()) + list(child.values()):
            changes.sort()
        for session, frames in self.sessions.items():
            self.watch_session(session, frames, data, child, unsure, hidden)

    def watch_session(self, session, frames, data, child, unsure, hidden):
        armed, due, last_event = {}, [], 0
        carried = set()  # armed before this connection: what setWatches says of it may be of another type

        def arm(table, path, zxid):
            if (table, path) in armed or group_of(path) in unsure:
                return
            armed[table, path] = zxid
            changes = (data if table == "data" else child).get(path, ())
            at = bisect.bisect_right(changes, (zxid, 99))
            if at < len(changes):
                heapq.heappush(due, (changes[at][0], table, path, zxid))

        for frame in frames:
            kind = frame[0]
            if kind == "ev":
                _, t, what, path, zxid = frame
                self.counted["events"] += 1
                tables = {zk.CHILD: ("child",), zk.DELETED: ("data", "child")}.get(what, ("data",))
                mine = [(table, path) for table in tables if (table, path) in armed]
                if group_of(path) in unsure:
                    continue
                if not mine:
                    self.say("watch: session %#x heard %d of %s at %.3f (zxid %#x), and no watch of it was left"
                             % (session, what, path, t, zxid))
                    continue
                for key in mine:
                    since = armed.pop(key)
                    changes = (data if key[0] == "data" else child).get(path, ())
                    at = bisect.bisect_right(changes, (since, 99))
                    if zxid == 0:  # a client that does not tell
                        continue
                    if zxid > 0:
                        if key in carried and at < len(changes) and (zxid, what) in changes[at:]:
                            pass
                        elif at >= len(changes) or changes[at][0] != zxid or (zxid, what) not in changes:
                            self.say("watch: session %#x, set on %s at %#x, heard %d at %#x; the first change after it is %s"
                                     % (session, path, since, what, zxid, changes[at] if at < len(changes) else None))
                    elif at >= len(changes) and path not in hidden:
                        self.say("watch: session %#x, set on %s at %#x, heard %d on its return, and nothing had changed"
                                 % (session, path, since, what))
                    carried.discard(key)
                if zxid > 0:
                    if zxid < last_event:
                        self.say("watch: session %#x heard of %#x after %#x" % (session, zxid, last_event))
                    last_event = zxid
                continue
            if kind == "op":
                op = frame[1]
                zxid, t = op.zxid, op.t1
            elif kind == "ping":
                zxid, t = frame[2], frame[1]
            elif kind == "set":
                zxid, t = frame[2], frame[1]
                # A node that came and went while the client was away is not there: the watch waits on, as in ZooKeeper.
                for path in frame[3]:
                    if ("data", path) in armed:
                        changes = data.get(path, ())
                        at = bisect.bisect_right(changes, (zxid, 99))
                        if at and changes[at - 1][1] == zk.DELETED and changes[at - 1][0] > armed["data", path]:
                            del armed["data", path]
                            arm("data", path, zxid)
            elif kind == "lost" and not (len(frame) > 2 and frame[2]):
                # This client gives its watches up with the connection.
                armed, due, carried = {}, [], set()
                continue
            elif kind == "lost":
                carried = set(armed)
                continue
            else:
                continue
            while due and due[0][0] <= zxid:
                at, table, path, since = heapq.heappop(due)
                if armed.get((table, path)) == since:
                    self.say("watch: session %#x was shown %#x at %.3f and had not heard of the change of %s at %#x (%s watch"
                             " set at %#x)" % (session, zxid, t, path, at, table, since))
                    armed.pop((table, path))
            if kind == "op" and op.kind in READS and op.args[1]:
                if op.error == zk.OK or (op.kind == "exists" and op.error == zk.NO_NODE):
                    arm("child" if op.kind == "children" else "data", op.args[0], op.zxid)

    # ---- sessions ----

    def expiries(self):
        """No session ended within its timeout after a request of it that a majority had a hand in was sent. Reads and pings
        do not count: a server that is cut off answers them for a while, and nobody can know that it does. Nor does the time
        in which all servers stood still: nobody could be heard."""
        for session, ended in self.ended.items():
            heard = 0.0
            for frame in self.sessions[session]:
                if frame[0] == "op" and (frame[1].kind in WRITES or frame[1].kind == "sync"):
                    heard = max(heard, frame[1].t0)
                elif frame[0] == "conn":
                    granted = frame[4] / 1000
            gap = ended - heard
            for begin, end in self.still:
                gap -= max(0.0, min(ended, end) - max(heard, begin) - STILL_SLACK_S)
            self.counted["expired"] += 1
            if heard and gap < granted:
                self.say("expired too early: session %#x, %.3f s after a request that was answered, without those in which no"
                         " server ran; its timeout is %.3f s" % (session, gap, granted))


def gaps_ms(logs, begin, end, faults):
    """The longest time between two answered writes of anybody, and the longest after each of the faults."""
    times = sorted(r[6] for log in logs for r in log
                   if r[0] == "op" and r[3] in WRITES and r[8] == zk.OK and begin <= r[6] <= end)
    times = [begin] + times + [end]
    gaps = [(b - a, a, b) for a, b in zip(times, times[1:])]
    after = []
    for at, fault in enumerate(faults):
        until = faults[at + 1] if at + 1 < len(faults) else end
        after.append(max((gap for gap, a, b in gaps if b > fault and a < until), default=0) * 1000)
    return max(gaps)[0] * 1000, after
