"""Runs the scenarios and says what came of them; scripts/ensemble.sh has the manual."""
import argparse
import json
import os
import pickle
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import check
import clients
import kazoo_load
import net
import scenarios
import zk
from context import Context
from servers import Ensemble

HERE = os.path.dirname(os.path.abspath(__file__))
SKIP = 77
TIMEOUTS_MS = (4000, 3000, 6000, 10000)
MARK_S, STOP_S = 40, 40


class Failed(Exception):
    """The scenario cannot go on."""


class Load:
    """A process with clients in it."""

    def __init__(self, directory, name, settings):
        self.name = name
        self.history = settings["history"] = os.path.join(directory, name + ".history")
        path = os.path.join(directory, name + ".json")
        with open(path, "w") as file:
            json.dump(settings, file)
        self.errors = open(os.path.join(directory, name + ".log"), "wb")
        script = "kazoo_load.py" if name == "kazoo" else "clients.py"
        self.process = subprocess.Popen([sys.executable, "-B", os.path.join(HERE, script), path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, preexec_fn=net.die_with_parent)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.said = b""

    def tell(self, word):
        try:
            self.process.stdin.write(word.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def has_said(self, word):
        self.said += self.process.stdout.read() or b""
        return word.encode() + b"\n" in self.said

    def log(self):
        with open(self.history, "rb") as file:
            return pickle.load(file)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()


class Run:
    """One scenario, from its namespaces to its verdict."""

    def __init__(self, scenario, args):
        self.scenario, self.args = scenario, args
        if args.dir:
            os.makedirs(args.dir, exist_ok=True)
        self.dir = tempfile.mkdtemp(prefix="ensemble-%s-" % scenario.name, dir=args.dir)
        self.net = net.Net(scenario.servers)
        self.loads, self.disks, self.wire, self.ensemble, self.context = [], None, None, None, None
        self.logs, self.wrong, self.checker = [], [], None
        self.begin = self.end = self.gap = 0.0
        self.gaps = []  # after each fault

    def run(self):
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            try:
                self.prepare()
                self.load()
                self.finish()
            except Failed as failed:
                self.wrong.append(str(failed))
            except zk.Gone as gone:
                self.wrong.append("the rig's own session was cut off: %s" % gone)
        finally:
            self.close()
            net.libc.setns(home, net.CLONE_NEWNET)
            os.close(home)
        if self.logs:
            self.checker = check.Checker(self.logs, may_refuse=bool(self.disks))
            self.wrong += self.checker.run()
            self.judge_gaps()
        if self.ensemble:
            self.wrong += self.ensemble.faults
        return self.wrong

    def judge_gaps(self):
        """How long nobody's write was answered, and whether a majority was there that could have."""
        story = self.context.story if self.context else []
        self.gap, self.gaps = check.gaps_ms(self.logs, self.begin, self.end, [t for t, _ in story])
        limit = self.scenario.options.get("gap_ms")
        # Without an end it has failed before.
        if limit and self.end and self.gap > limit:
            self.wrong.append("no write was answered for %.0f ms, and a majority was there: at most %d" % (self.gap, limit))

    def prepare(self):
        options = self.scenario.options
        self.net.open()
        peer_address = None
        if options.get("wire"):
            import wire
            self.wire = wire.Wire(self.net, self.args.seed)
            self.wire.open()
            peer_address = wire.address
        self.ensemble = Ensemble(self.net, self.dir, self.args.binary, self.scenario.servers, peer_address=peer_address,
                                 first=options.get("first"), observers=options.get("observers", ()))
        if options.get("disks"):
            import disks
            self.disks = {s.number: disks.Disk(s, options["disks"]) for s in self.ensemble.all}
            for disk in self.disks.values():
                disk.open()
        net.enter(self.net.namespace(net.CLIENTS))
        if options.get("clocks"):
            for server in self.ensemble.all:
                server.clock_offset = server.number * 86400
        self.ensemble.start()
        if late := self.ensemble.serving():
            raise Failed("at the start: " + late)
        session = zk.Session(self.net.address(1))
        self.logs.append(session.log)
        groups = ["r%d" % n for n in range(clients.REGISTERS)] + ["q%d" % n for n in range(clients.QUEUES)]
        groups += ["e%d" % n for n in range(self.args.sessions)]
        groups += ["k%d" % n for n in range(kazoo_load.DIRECTORIES)] + ["ke%d" % n for n in range(kazoo_load.DIRECTORIES)]
        self.groups = groups + ["kq", "kl0", "kl1"]
        for path in ["/rig"] + ["/rig/" + name for name in self.groups]:
            error, _ = session.call("create", path, b"", zk.PERSISTENT)
            if error:
                raise Failed("create %s answers %d" % (path, error))
        session.close()

    def load(self):
        addresses = [self.net.address(n) for n in self.ensemble.numbers]
        shared = {"seed": "%s/%s" % (self.args.seed, self.scenario.name), "addresses": addresses, "rate": self.args.rate,
                  "timeouts_ms": TIMEOUTS_MS, "sessions": self.args.sessions, "depths": [1, 6, 16, 3]}
        self.loads.append(Load(self.dir, "raw", dict(shared, first=0, count=self.args.sessions)))
        if self.args.kazoos:
            self.loads.append(Load(self.dir, "kazoo", dict(shared, kazoos=self.args.kazoos, kazoo_rate=self.args.kazoo_rate)))
        self.context = Context(self.ensemble, self.net, self.args.seed, self.scenario.name, self.args.seconds, self.disks,
                               self.wire)
        self.begin = time.monotonic()
        self.scenario.run(self.context)
        self.end = time.monotonic()
        self.context.heal()
        if late := self.ensemble.serving():
            raise Failed("after the faults: " + late)
        self.context.members.agree()

    def wait_for(self, word, seconds):
        deadline = time.monotonic() + seconds
        while not all([load.has_said(word) for load in self.loads]):
            self.ensemble.watch()
            for load in self.loads:
                if load.process.poll() is not None and not load.has_said(word):
                    raise Failed("the clients of %s ended with %d: see %s.log" % (load.name, load.process.returncode, load.name))
            if time.monotonic() > deadline:
                late = [load.name for load in self.loads if not load.has_said(word)]
                self.wrong.append("not every client was answered within %d s of the end of the faults: %s" % (seconds, late))
                return
            time.sleep(0.01)

    def finish(self):
        for load in self.loads:
            load.tell("mark")
        self.wait_for("marked", MARK_S)
        for load in self.loads:
            load.tell("stop")
        self.wait_for("done", STOP_S)
        for load in self.loads:
            if os.path.exists(load.history):
                self.logs += load.log()
        self.logs += self.context.logs
        self.ephemerals_go()
        trees = [(number, self.read_all(number)) for number in self.ensemble.up]
        for number, tree in trees[1:]:
            if tree != trees[0][1]:
                paths = [path for path in sorted(set(tree) | set(trees[0][1])) if tree.get(path) != trees[0][1].get(path)]
                self.wrong.append("servers %d and %d differ in %d nodes: %s: %r, %r" % (
                    trees[0][0], number, len(paths), paths[0], trees[0][1].get(paths[0]), tree.get(paths[0])))
        for server in self.ensemble.all:
            server.stop()

    def ephemerals_go(self):
        """All clients have closed their sessions or left them: within their timeouts nothing of them is there."""
        deadline = time.monotonic() + 2 * max(TIMEOUTS_MS) / 1000 + 10
        session = zk.Session(self.net.address(self.ensemble.leader() or self.ensemble.up[0]))
        self.logs.append(session.log)
        left = True
        while left and time.monotonic() < deadline:
            left = []
            for name in self.groups:
                if name[0] in "ek":
                    _, (names, _) = session.call("children", "/rig/" + name, False)
                    for child in names:
                        error, stat = session.call("exists", "/rig/%s/%s" % (name, child), False)
                        if not error and stat[zk.OWNER]:
                            left.append("/rig/%s/%s" % (name, child))
            time.sleep(0.1)
        session.close()
        if left:
            self.wrong.append("ephemeral nodes of sessions that are over: %s" % left[:5])

    def read_all(self, number):
        session = zk.Session(self.net.address(number))
        self.logs.append(session.log)
        session.call("sync", "/rig")
        tree = {}
        for name in self.groups:
            path = "/rig/" + name
            error, found = session.call("children", path, False)
            if error:
                raise Failed("server %d has no %s" % (number, path))
            tree[path] = found
            for child in found[0]:
                tree["%s/%s" % (path, child)] = session.call("get", "%s/%s" % (path, child), False)
        session.close()
        return tree

    def close(self):
        for load in self.loads:
            load.close()
        if self.ensemble:
            self.ensemble.close()
        if self.wire:
            self.wire.close()
        for disk in (self.disks or {}).values():
            disk.close()
        self.net.close()

    def keep(self):
        with open(os.path.join(self.dir, "verdict.txt"), "w") as file:
            file.write("seed %s\n" % self.args.seed + "\n".join(self.wrong) + "\n")
            for t, what in self.context.story if self.context else ():
                file.write("%.3f %s\n" % (t, what))
        with open(os.path.join(self.dir, "history"), "wb") as file:
            pickle.dump(self.logs, file)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def one(scenario, args):
    run = Run(scenario, args)
    began = time.monotonic()
    try:
        wrong = run.run()
    except BaseException:
        run.keep()
        print("kept: %s" % run.dir, file=sys.stderr)
        raise
    counted = run.checker.counted if run.checker else {}
    print("%s %-20s %3.0f s, %6d operations (%d unanswered, %d events, %d sessions, %d of them expired), %d faults,"
          " longest gap %5.0f ms (median after a fault %.0f): %s" % (
              "FAIL" if wrong else "ok  ", scenario.name, time.monotonic() - began, counted.get("ops", 0),
              counted.get("unknown", 0), counted.get("events", 0), counted.get("sessions", 0), counted.get("expired", 0),
              run.context.faults if run.context else 0, run.gap, statistics.median(run.gaps or [0]),
              "%d wrong" % len(wrong) if wrong else "right"), flush=True)
    if run.context and run.context.members.answers:
        answers = sorted(run.context.members.answers.items(), key=str)
        print("     reconfigs answered: " + ", ".join("%d with %s" % (count, answer) for answer, count in answers))
    if wrong:
        for what in wrong[:5]:
            print("     " + what.replace("\n", "\n     "))
    if wrong or args.keep:
        run.keep()
        print("     kept in %s" % run.dir, flush=True)
    else:
        run.remove()
    return run, wrong


def terminated(*_):
    """Whoever ends the rig: servers, namespaces and mounts go first."""
    print("ended by SIGTERM", file=sys.stderr)
    sys.exit(143)


def main():
    parser = argparse.ArgumentParser(prog="ensemble.sh")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--recheck", metavar="DIR")
    parser.add_argument("--seed", default=None)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--kazoos", type=int, default=4)
    parser.add_argument("--kazoo-rate", type=float, default=20)
    args = parser.parse_args()
    if args.list:
        for scenario in scenarios.ALL:
            print("%-20s %d servers%s: %s" % (scenario.name, scenario.servers, ", short" if scenario.short else "", scenario.what))
        return 0
    if args.recheck:
        with open(os.path.join(args.recheck, "history"), "rb") as file:
            checker = check.Checker(pickle.load(file), may_refuse="-disk-" in args.recheck)
        for what in checker.run():
            print(what)
        print(dict(checker.counted))
        return 1 if checker.wrong else 0
    chosen = [s for s in scenarios.ALL if s.name in args.only] if args.only else scenarios.ALL
    unknown = set(args.only) - {s.name for s in scenarios.ALL}
    if unknown:
        parser.error("no such scenario: %s" % ", ".join(sorted(unknown)))
    if args.short:
        chosen = [s for s in chosen if s.short]
        args.seconds = min(args.seconds, 30)
    if reason := net.missing():
        print("SKIPPED: " + reason)
        return SKIP
    args.binary = os.environ["RINGKEEPER_BIN"]
    args.seed = args.seed or str(int.from_bytes(os.urandom(4), "big"))
    for name in net.leftovers():
        net.run("ip", "netns", "del", name, check=False)
    if args.self_test:
        import selftest
        return selftest.main(args)
    print("seed %s" % args.seed, flush=True)
    passed = failed = operations = 0
    for scenario in chosen:
        run, wrong = one(scenario, args)
        operations += run.checker.counted["ops"] if run.checker else 0
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print("%d operations checked" % operations)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    sys.exit(main())
