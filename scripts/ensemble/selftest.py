"""Is the checker checked? A history is recorded from real servers and must be right; then it is spoilt in one way after the
other, several times each at different places, and every single time the checker must complain."""
import os
import pickle
import random
import sys

import check
import zk

TRIES = 5
# A history may have no place for some of what is planted: so many are looked at.
HISTORIES = 3
PLANTED = b"planted"


class Spoiler:
    """A copy of the history, and places in it."""

    def __init__(self, logs, dice):
        self.logs = [list(log) for log in logs]
        self.dice = dice
        self.ops = [(log, at) for log in self.logs for at, record in enumerate(log) if record[0] == "op"]

    def pick(self, wanted):
        places = [(log, at) for log, at in self.ops if wanted(log[at])]
        return self.dice.choice(places) if places else None

    def change(self, place, **how):
        log, at = place
        names = ("op", "session", "conn", "kind", "args", "t0", "t1", "zxid", "error", "result")
        record = dict(zip(names, log[at]))
        record.update(how)
        log[at] = tuple(record[name] for name in names)

    def stat(self, stat, **how):
        stat = list(stat)
        for name, value in how.items():
            stat[getattr(zk, name)] = value
        return tuple(stat)

    def writes(self):
        return sorted((log[at] for log, at in self.ops if log[at][3] in check.WRITES), key=lambda r: r[7])

    def by_path(self, kind):
        out = {}
        for log, at in self.ops:
            if log[at][3] == kind and log[at][8] == zk.OK:
                out.setdefault(log[at][4][0], []).append((log, at))
        return out


def good(kind, *more):
    return lambda r: r[3] == kind and r[8] == zk.OK and all(one(r) for one in more)


def lost_write(s):
    """A set was refused, and its client was told that it was done: nobody ever sees it."""
    place = s.pick(lambda r: r[3] == "set" and r[8] == zk.BAD_VERSION and r[4][0].startswith("/rig/r"))
    record = place[0][place[1]]
    path = record[4][0]
    stats = [(r[7], r[9] if r[3] == "set" else r[9][1]) for log, at in s.ops for r in (log[at],)
             if r[3] in ("set", "get") and r[8] == zk.OK and r[4][0] == path and r[7] < record[7]]
    if not stats:
        return False
    _, stat = max(stats)
    # Somebody must have looked before it was deleted.
    if not any(r[3] == "get" and r[8] == zk.OK and r[4][0] == path and r[7] > record[7] and r[9][1][zk.CZXID] == stat[zk.CZXID]
               for log, at in s.ops for r in (log[at],)):
        return False
    stat = s.stat(stat, MZXID=record[7], VERSION=stat[zk.VERSION] + 1, LENGTH=len(PLANTED))
    s.change(place, args=(path, PLANTED, -1), error=zk.OK, result=stat)


def stale_read(s):
    """A read that shows what an earlier read of the node had shown, under its own zxid."""
    places = [p for p in s.by_path("get").values() if len(p) > 5 and p[0][0][p[0][1]][4][0].startswith("/rig/r")]
    some = sorted(s.dice.choice(places), key=lambda p: p[0][p[1]][7])
    pairs = [(a, b) for a, b in zip(some, some[1:])
             if a[0][a[1]][9][1][zk.MZXID] < b[0][b[1]][9][1][zk.MZXID]]
    if not pairs:
        return False
    a, b = s.dice.choice(pairs)
    s.change(b, result=a[0][a[1]][9])


def stale_after_sync(s):
    """A read behind a sync that is whole and old: data and zxid of a time before the sync."""
    place = s.pick(good("get", lambda r: r[4][0].startswith("/rig/r")))
    log, at = place
    if log[at - 1][0] != "op" or log[at - 1][3] != "sync":
        return False
    older = s.pick(lambda r: r[3] == "get" and r[8] == zk.OK and r[4] == log[at][4] and r[7] < log[at - 1][7] - 50)
    if older is None:
        return False
    old = older[0][older[1]]
    # In a session of its own, so that only the sync speaks against it.
    first, second = log[at - 1], log[at]
    s.logs.append([("conn", first[5] - 0.001, "planted", 77, 4000), ("op", 77, 1) + first[3:6] + (first[6], old[7], 0, None),
                   ("op", 77, 1) + second[3:7] + (old[7], zk.OK, old[9])])


def invented(s):
    """A read of data that nobody wrote."""
    place = s.pick(good("get", lambda r: r[4][0].startswith("/rig/r")))
    data, stat = place[0][place[1]][9]
    s.change(place, result=(b"?" * len(data), stat))


def future_read(s):
    """A read whose header is older than what it shows."""
    place = s.pick(good("get", lambda r: r[9][1][zk.MZXID] > 0))
    s.change(place, zxid=place[0][place[1]][9][1][zk.MZXID] - 1)


def swapped(s):
    """Two writes have each other's zxid."""
    place = s.pick(good("set", lambda r: r[4][0].startswith("/rig/r")))
    path = place[0][place[1]][4][0]
    other = s.pick(good("set", lambda r: r[4][0] == path and r[7] != place[0][place[1]][7]))
    if other is None:
        return False
    one, two = place[0][place[1]][7], other[0][other[1]][7]
    s.change(place, zxid=two)
    s.change(other, zxid=one)


def same_zxid(s):
    """Two writes have one zxid."""
    place, other = s.pick(good("set")), s.pick(good("delete"))
    s.change(other, zxid=place[0][place[1]][7])


def wrong_version(s):
    """A set answers a version that it cannot have."""
    place = s.pick(good("set"))
    stat = place[0][place[1]][9]
    s.change(place, result=s.stat(stat, VERSION=stat[zk.VERSION] + 1))


def false_success(s):
    """A set with a wrong version succeeds."""
    place = s.pick(good("set", lambda r: r[4][2] >= 0))
    args = place[0][place[1]][4]
    s.change(place, args=(args[0], args[1], args[2] + 3))


def false_refusal(s):
    """A set that was due to succeed is refused, and yet it took effect."""
    place = s.pick(good("set", lambda r: r[4][0].startswith("/rig/r")))
    s.change(place, error=zk.BAD_VERSION, result=None)


def half_multi(s):
    """A read shows one part of a multi as it was before."""
    multis = {r[7] for r in s.writes() if r[3] == "multi" and r[9] and all(one[0] != "error" for one in r[9])}
    place = s.pick(good("get", lambda r: r[9][1][zk.MZXID] in multis and r[9][1][zk.VERSION] > 0))
    if place is None:
        return False
    record = place[0][place[1]]
    before = s.pick(lambda r: r[3] == "get" and r[8] == zk.OK and r[4] == record[4]
                    and r[9][1][zk.VERSION] == record[9][1][zk.VERSION] - 1 and r[9][1][zk.CZXID] == record[9][1][zk.CZXID])
    if before is None:
        return False
    s.change(place, result=before[0][before[1]][9])


def same_number(s):
    """A sequential number is given twice."""
    place = s.pick(good("create", lambda r: r[4][2] == zk.SEQUENTIAL))
    path = place[0][place[1]][4][0]
    other = s.pick(good("create", lambda r: r[4][0] == path and r[9][0] != place[0][place[1]][9][0]))
    s.change(other, result=(place[0][place[1]][9][0], other[0][other[1]][9][1]))


def backwards(s):
    """A session is answered with a zxid below its last one."""
    place = s.pick(lambda r: r[3] in ("exists", "get") and r[7] > 100)
    log, at = place
    before = [r for r in log[:at] if r[0] == "op"]
    if not before:
        return False
    s.change(place, zxid=before[-1][7] - 3)


def late_write(s):
    """A write was sent after another one was acknowledged, and has the lower zxid."""
    place = s.pick(good("set"))
    record = place[0][place[1]]
    later = [r for r in s.writes() if r[7] > record[7] + 20 and r[6] > record[6] + 0.2]
    if not later:
        return False
    t = s.dice.choice(later[:50])[6]
    s.change(place, t0=t + 0.001, t1=t + 0.002)


def event_twice(s):
    """An event comes twice."""
    log, at = event(s)
    log.insert(at + 1, log[at])


def event_lost(s):
    """An event does not come."""
    log, at = event(s)
    later = [r for r in log[at + 1 :] if r[0] in ("op", "ping")]
    if not later:
        return False
    del log[at]


def event_late(s):
    """An event comes after an answer that shows its change."""
    log, at = event(s)
    for to in range(at + 1, len(log)):
        if log[to][0] in ("lost", "conn", "set"):
            return False
        if log[to][0] == "op" and log[to][7] >= log[at][4]:
            log.insert(to, log.pop(at))
            return None
    return False


def event_wrong(s):
    """An event tells of something else than what happened."""
    log, at = event(s)
    record = log[at]
    if record[2] == zk.CHILD:
        return False
    log[at] = record[:2] + ({zk.CREATED: zk.DELETED, zk.DELETED: zk.CHANGED, zk.CHANGED: zk.CREATED}[record[2]],) + record[3:]


def event(s):
    places = [(log, at) for log in s.logs for at, r in enumerate(log) if r[0] == "ev" and r[4] > 0]
    return s.dice.choice(places)


def ephemeral_stays(s):
    """A node is there after its session was closed."""
    closes = [r for r in s.writes() if r[3] == "close"]
    s.dice.shuffle(closes)
    for close in closes:
        mine = [r for r in s.writes() if r[3] == "create" and r[8] == zk.OK and r[1] == close[1] and r[4][2] == zk.EPHEMERAL]
        for record in reversed(mine):
            path = record[9][0]
            for log in s.logs:
                for at, r in enumerate(log):
                    if (r[0] == "op" and r[3] == "exists" and r[4][0] == path and r[8] == zk.NO_NODE and r[7] >= close[7]
                            and record[9][1]):
                        log[at] = r[:8] + (zk.OK, record[9][1])
                        return None
            # Nobody looked: somebody does.
            log = s.logs[-1]
            last = next(r for r in reversed(log) if r[0] == "op" and r[3] in check.READS)
            at = log.index(last)
            if last[7] > close[7] and record[9][1]:
                log.insert(at + 1, last[:3] + ("exists", (path, False)) + last[5:8] + (zk.OK, record[9][1]))
                return None
    return False


def ephemeral_early(s):
    """A node is gone while its session lives."""
    for _ in range(40):
        place = s.pick(good("exists", lambda r: r[9][zk.OWNER] != 0))
        if place:
            s.change(place, error=zk.NO_NODE, result=None)
            return None
    return False


def expired_early(s):
    """A session is over though a majority has just answered it."""
    log = s.dice.choice([log for log in s.logs if len(log) > 200 and any(r[0] == "op" and r[3] == "set" for r in log)])
    at = s.dice.choice([at for at, r in enumerate(log) if r[0] == "op" and r[3] == "set"])
    record = log[at]
    del log[at + 1 :]
    log += [("lost", record[6] + 0.01), ("expired", record[6] + 0.5, record[1])]


def expired_in_stall(s):
    """All servers stood still for a while, and a session is over for it."""
    log = s.dice.choice([log for log in s.logs if len(log) > 200 and any(r[0] == "op" and r[3] == "set" for r in log)])
    expire(s, log, still=3.0, after=2.0)


def expire(s, log, still, after):
    """A session is over that long after its timeout had begun with a write, and for a part of it no server ran."""
    at = s.dice.choice([at for at, r in enumerate(log) if r[0] == "op" and r[3] == "set"])
    record = log[at]
    timeout = [r for r in log[:at] if r[0] == "conn"][-1][4] / 1000
    del log[at + 1 :]
    log += [("lost", record[6] + 0.01), ("expired", record[5] + timeout + after, record[1])]
    s.logs.append([("still", record[6] + 0.02, record[6] + 0.02 + still)])


def back_from_the_dead(s):
    """A session goes on though a server had answered that it is over."""
    places = [(log, at) for log in s.logs for at, r in enumerate(log)
              if r[0] == "conn" and any(one[0] == "conn" and one[3] == r[3] for one in log[:at])]
    log, at = s.dice.choice(places)
    log.insert(at, ("denied", log[at][1] - 0.01, log[at][3]))


def too_old(s):
    aged_read(s, check.TOO_OLD_S + 1)


def aged_read(s, age):
    """A read that is right in all but its age, in a session of its own."""
    end = max(log[at][6] for log, at in s.ops)
    place = s.pick(good("get", lambda r: r[4][0].startswith("/rig/r") and r[6] < end - 2 and not r[4][1]))
    record = place[0][place[1]]
    t = record[6] + age
    s.logs.append([("conn", t - 0.001, "planted", 77, 4000), ("op", 77, 1) + record[3:5] + (t, t + 0.001) + record[7:]])


def right_ages(s):
    """Not spoilt: a session ends for the time in which servers ran, and a read is as old as it may be."""
    aged_read(s, check.TOO_OLD_S - 1)
    log = s.dice.choice([log for log in s.logs if len(log) > 200 and any(r[0] == "op" and r[3] == "set" for r in log)])
    expire(s, log, still=1.0, after=1.1)


def child_missing(s):
    """A list of children lacks one."""
    place = s.pick(good("children", lambda r: len(r[9][0]) > 1))
    names, stat = place[0][place[1]][9]
    s.change(place, result=(names[1:], stat))


def two_times(s):
    """One write has two times of day."""
    place = s.pick(good("get", lambda r: r[4][0].startswith("/rig/r")))
    data, stat = place[0][place[1]][9]
    s.change(place, result=(data, s.stat(stat, MTIME=stat[zk.MTIME] + 1)))


def zombie(s):
    """A write that was under way on a connection takes effect long after its session had gone on with the next one."""
    places = [(log, at) for log in s.logs for at, r in enumerate(log) if r[0] == "lost" and len(r) > 2]
    s.dice.shuffle(places)
    for log, lost in places:
        before = next((r for r in reversed(log[:lost]) if r[0] == "op"), None)
        for at in range(lost + 30, len(log)):
            r = log[at]
            if (r[0] == "op" and r[3] == "set" and r[8] == zk.OK and before and r[1] == before[1] and r[2] > before[2]
                    and seen(s, r)):
                del log[at]
                log.insert(lost, ("unk", r[1], before[2]) + r[3:5] + (before[6],))
                return None
    return False


def seen(s, record):
    return any(r[3] == "get" and r[8] == zk.OK and r[9][1][zk.MZXID] == record[7] for log, at in s.ops for r in (log[at],))


def forgotten(s):
    """Not spoilt: the last answers before connections ended are forgotten, and the history is as right as before."""
    for log in s.logs:
        for lost in [at for at, r in enumerate(log) if r[0] == "lost"]:
            at, left = lost - 1, s.dice.randint(1, 6)
            while left and at >= 0 and log[at][0] == "op" and log[at][3] != "close":
                r = log[at]
                if r[3] in check.READS and r[4][1]:
                    break
                log[at] = ("unk",) + r[1:6]
                at, left = at - 1, left - 1


def two_under_way():
    """A right history that the checker once took for wrong (everybody-alone, seed 3899257942): of two writes without an answer one
    shows by what it wrote, and the other only by a refusal in between."""
    a, b, c = 1, 2, 3

    def stat(czxid, mzxid, version=0, length=0, children=0, pzxid=None):
        return (czxid, mzxid, 0, 0, version, children, 0, 0, length, children, pzxid or czxid)

    def made(path, zxid):
        return ("op", a, 0, "create", (path, b"", 0), zxid + 0.1, zxid + 0.2, zxid, zk.OK, (path, stat(zxid, zxid)))

    under_way = [("conn", 1.0, "s", b, 10_000, 0), ("unk", b, 0, "set", ("/rig/r0/n0", b"a", -1), 10.0)]
    hidden = [("conn", 1.0, "s", c, 10_000, 0), ("unk", c, 0, "delete", ("/rig/r0/n1", -1), 10.0)]
    answered = [
        ("conn", 1.0, "s", a, 10_000, 0),
        *(made(path, zxid) for zxid, path in enumerate(("/rig", "/rig/r0", "/rig/r0/n0", "/rig/r0/n1"), 2)),
        ("op", a, 0, "set", ("/rig/r0/n1", b"", -1), 20.0, 20.1, 12, zk.NO_NODE, None),
        ("op", a, 0, "get", ("/rig/r0/n0", False), 21.0, 21.1, 12, zk.OK, (b"a", stat(4, 8, 1, 1))),
    ]
    return [answered, under_way, hidden]


def one_behind_another():
    """The same (all-pause, seed 4168173925): a write without an answer, below one that shows, was sent behind another one elsewhere,
    which was put in no more."""
    answered, under_way, hidden = two_under_way()
    made, (_, a, *_) = answered[:5], answered[1]
    begun, sent = under_way[0], under_way[1][-1]
    seen = (b"c", (4, 8, 0, 0, 2, 0, 0, 0, 1, 0, 4))
    made += [
        ("op", a, 0, "get", ("/rig/r0/n0", False), 21.0, 21.1, 12, zk.OK, seen),
        ("op", a, 0, "get", ("/rig/r0/n1", False), 21.0, 21.1, 12, zk.NO_NODE, None),
    ]
    delete = ("unk", begun[3], 0, "delete", ("/rig/r0/n1", -1), sent)
    shown = ("unk", hidden[0][3], 0, "set", ("/rig/r0/n0", b"c", -1), sent)
    return [made, [begun, delete, under_way[1]], [hidden[0], shown]]


# What the complaint must be about; a spoilt history has other flaws as well.
ABOUT = {lost_write: "model", zombie: "model", stale_after_sync: "stale after sync", expired_early: "expired too early",
         expired_in_stall: "expired too early", back_from_the_dead: "back from the dead", too_old: "too old",
         late_write: "real time", event_twice: "watch", event_lost: "watch", event_late: "watch", event_wrong: "watch",
         ephemeral_stays: "model", ephemeral_early: "model", swapped: "model", same_zxid: "one zxid", stale_read: "model", half_multi: "model"}
SPOILS = (lost_write, stale_read, stale_after_sync, invented, future_read, swapped, same_zxid, wrong_version, false_success,
          false_refusal, half_multi, same_number, backwards, late_write, event_twice, event_lost, event_late, event_wrong,
          ephemeral_stays, ephemeral_early, expired_early, expired_in_stall, back_from_the_dead, too_old, child_missing,
          two_times, zombie)


def silence(run):
    """What the run says when no write was answered from its begin to its end."""
    logs = run.logs
    run.logs = [[r for r in log if r[0] != "op" or r[6] < run.begin] for log in logs]
    run.judge_gaps()
    run.logs = logs
    return run.wrong


def another(scenario, args):
    """One more history, for what has no place in those before."""
    import main as rig

    run = rig.Run(scenario, args)
    wrong = run.run()
    if wrong:
        sys.exit("FAIL another history as it was recorded: %s" % wrong[0])
    run.remove()
    return run.logs


def main(args):
    import main as rig
    import scenarios

    args.seconds, args.keep = min(args.seconds, 10), False
    scenario = next(s for s in scenarios.ALL if s.name == "leader-kill")
    run = rig.Run(scenario, args)
    wrong = run.run()
    if wrong:
        run.keep()
        print("FAIL the history as it was recorded: %s\n     kept in %s\n0 passed, 1 failed" % (wrong[0], run.dir))
        return 1
    print("ok   the history as it was recorded: %d operations" % run.checker.counted["ops"], flush=True)
    passed, failed = 1, 0
    wrong, unknown = [], 0
    for number in range(TRIES):
        s = Spoiler(run.logs, random.Random("%s/forgotten/%d" % (args.seed, number)))
        forgotten(s)
        checker = check.Checker(s.logs)
        wrong += checker.run()
        unknown += checker.counted["unknown"]
    passed, failed = passed + (not wrong), failed + bool(wrong)
    print("%s with answers forgotten  %d unknown writes resolved%s" % ("FAIL" if wrong else "ok  ", unknown,
                                                                     ": " + wrong[0] if wrong else ""), flush=True)
    for history in (two_under_way, one_behind_another):
        wrong = check.Checker(history()).run()
        passed, failed = passed + (not wrong), failed + bool(wrong)
        name = history.__name__.replace("_", " ")
        print("%s %s%s" % ("FAIL" if wrong else "ok  ", name, ": " + wrong[0] if wrong else ""), flush=True)
    wrong = []
    for number in range(TRIES):
        s = Spoiler(run.logs, random.Random("%s/ages/%d" % (args.seed, number)))
        right_ages(s)
        wrong += [what for what in check.Checker(s.logs).run() if what.startswith(("too old", "expired too early"))]
    passed, failed = passed + (not wrong), failed + bool(wrong)
    print("%s ages that may be%s" % ("FAIL" if wrong else "ok  ", ": " + wrong[0] if wrong else ""), flush=True)
    said = silence(run)
    passed, failed = passed + bool(said), failed + (not said)
    print("%s silence           %s" % ("ok  " if said else "FAIL", "; ".join(said)), flush=True)
    histories = [run.logs]
    for spoil in SPOILS:
        done = caught = 0
        seen = set()
        for number in range(TRIES * 30 * HISTORIES):
            if done == TRIES:
                break
            nth = number // (TRIES * 30)
            if nth and done:
                break
            if nth == len(histories):
                histories.append(another(scenario, args))
            s = Spoiler(histories[nth], random.Random("%s/%s/%d" % (args.seed, spoil.__name__, number)))
            if spoil(s) is False:
                continue
            done += 1
            wrong = {what.split(":")[0] for what in check.Checker(s.logs).run()}
            seen |= wrong
            caught += any(what.startswith(ABOUT.get(spoil, "")) for what in wrong)
        good = done > 0 and done == caught
        passed, failed = passed + good, failed + (not good)
        print("%s %-17s %d of %d found%s" % ("ok  " if good else "FAIL", spoil.__name__, caught, done,
                                             " (%s)" % ", ".join(sorted(seen)) if seen else ""), flush=True)
        if not good and args.dir:
            with open(os.path.join(args.dir, "missed-%s.history" % spoil.__name__), "wb") as file:
                pickle.dump(s.logs, file)
    run.remove()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit("run scripts/ensemble.sh --self-test")
