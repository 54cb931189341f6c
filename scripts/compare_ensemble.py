"""The race of three servers against three: a ZooKeeper ensemble and a ringkeeper ensemble side by side on one machine, on
the same disk, under the same load. See scripts/compare_ensemble.sh for how it is called."""

import argparse
import datetime
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ZOOKEEPER = os.path.join(ROOT, "scripts", "zookeeper.sh")

# What is measured, and the flags of `ringkeeper-load run`.
POINTS = {
    "set 64x1": "-c 64 -d 1 -m set=1",
    "set 64x14": "-c 64 -d 14 -m set=1",
    "mix 64x1": "-c 64 -d 1 -m get=90,set=10",
    "get 64x14": "-c 64 -d 14 -m get=1",
    "set 1x1": "-c 1 -d 1 -m set=1",
}


def word(port, text, timeout=2.0):
    """A four-letter word's answer, or nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as sock:
            sock.settimeout(timeout)
            sock.sendall(text)
            out = b""
            while True:
                part = sock.recv(65536)
                if not part:
                    return out.decode(errors="replace")
                out += part
    except OSError:
        return ""


def wait_for(what, check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            sys.exit(f"compare_ensemble: {what} did not come within {seconds} s")
        time.sleep(0.02)


class Ensemble:
    """Three servers. Subclasses start them."""

    name = ""

    def __init__(self, base, directory, count=3):
        self.dir = directory
        self.ids = list(range(1, count + 1))
        self.ports = {n: base + 3 * (n - 1) for n in self.ids}

    def anew(self):
        """The same on empty directories."""
        self.stop()
        shutil.rmtree(self.dir)
        self.begin()
        self.wait_serving()

    def servers(self):
        return ",".join(f"127.0.0.1:{self.ports[n]}" for n in self.ids)

    def mode(self, n):
        for line in word(self.ports[n], b"srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:]
        return ""

    def leader(self):
        return next((n for n in self.ids if self.mode(n) == "leader"), None)

    def wait_serving(self):
        wait_for(f"an ensemble of {self.name}", lambda: all(self.mode(n) for n in self.ids) and self.leader())

    def pid(self, n):
        raise NotImplementedError

    def pids(self):
        return [self.pid(n) for n in self.ids]


class Ringkeeper(Ensemble):
    name = "ringkeeper"

    def __init__(self, base, directory, binary):
        super().__init__(base, directory)
        self.binary = binary
        self.running = {}
        self.begin()

    def begin(self):
        directory = self.dir
        lines = [f"server.{n}=127.0.0.1:{self.ports[n] + 1}:{self.ports[n] + 2}" for n in self.ids]
        for n in self.ids:
            os.makedirs(f"{directory}/{n}", exist_ok=True)
            with open(f"{directory}/{n}/myid", "w") as file:
                file.write(f"{n}\n")
            with open(f"{directory}/{n}.cfg", "w") as file:
                file.write("\n".join([
                    f"dataDir={directory}/{n}", f"clientPort={self.ports[n]}", "clientPortAddress=127.0.0.1", "tickTime=2000",
                    "initLimit=10", "syncLimit=5", "maxClientCnxns=0", "4lw.commands.whitelist=*", *lines]) + "\n")
        for n in self.ids:
            self.start(n)

    def start(self, n):
        log = open(f"{self.dir}/{n}.log", "a")
        self.running[n] = subprocess.Popen(
            [self.binary, "serve", f"{self.dir}/{n}.cfg"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def pid(self, n):
        return self.running[n].pid

    def kill(self, n, how=signal.SIGKILL):
        self.running[n].send_signal(how)
        self.running[n].wait(30)

    def stop(self):
        for one in self.running.values():
            if one.poll() is None:
                one.terminate()
        for one in self.running.values():
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()


class ZooKeeper(Ensemble):
    name = "zookeeper"

    def __init__(self, base, directory):
        super().__init__(base, directory)
        self.begin()

    def begin(self):
        base = str(self.ports[self.ids[0]])
        subprocess.run([ZOOKEEPER, "start", "--servers", "3", "--race", base, self.dir], check=True, stdout=sys.stderr)

    def start(self, n):
        subprocess.run([ZOOKEEPER, "again", self.dir, str(n)], check=True, stdout=sys.stderr)

    def pid(self, n):
        with open(f"{self.dir}/{n}.pid") as file:
            return int(file.read())

    def kill(self, n, how=signal.SIGKILL):
        pid = self.pid(n)
        os.kill(pid, how)
        wait_for("the end of a ZooKeeper", lambda: not os.path.exists(f"/proc/{pid}") or zombie(pid), 30)

    def stop(self):
        subprocess.run([ZOOKEEPER, "stop", self.dir], check=False, stdout=sys.stderr)


class Null:
    """Three null responders of the load generator: what sockets and load alone take here. No server can be beyond it."""

    name = "null responders"

    def __init__(self, base, load):
        self.ports = [base + n for n in range(3)]
        self.running = [subprocess.Popen([load, "null", "--listen", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL) for port in self.ports]
        for port in self.ports:
            wait_for("a null responder", lambda port=port: answers(port))

    def servers(self):
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def pids(self):
        return [one.pid for one in self.running]

    def stop(self):
        for one in self.running:
            one.kill()
            one.wait()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        return True
    except OSError:
        return False


def zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One session that writes one znode: enough to see when a server completes writes."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 2)
        self.sock.settimeout(20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.send(struct.pack(">iqiqi", 0, 0, 30000, 0, 16) + b"\0" * 16)
        self.receive()

    def send(self, body):
        self.sock.sendall(struct.pack(">i", len(body)) + body)

    def exactly(self, n):
        out = b""
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise OSError("closed")
            out += part
        return out

    def receive(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def ask(self, op, body):
        self.xid += 1
        self.send(struct.pack(">ii", self.xid, op) + body)
        return struct.unpack(">iqi", self.receive()[:16])[2]

    def create(self, path):
        acl = struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone")
        return self.ask(1, text(path) + text(b"") + acl + struct.pack(">i", 0))

    def set(self, path, data):
        return self.ask(5, text(path) + text(data) + struct.pack(">i", -1))


def text(data):
    return struct.pack(">i", len(data)) + data


def write_until(stop, port, path, done, lost):
    """Writes one after the other, on one connection, and notes when each is done; connects anew when that is lost."""
    client = None
    while not stop.is_set():
        try:
            if client is None:
                client = Client(port)
                client.create(path)
            if client.set(path, b"x") == 0:
                done.append(time.monotonic())
        except OSError:
            lost.append(time.monotonic())
            client = None
            time.sleep(0.01)


def failover(ensemble, kills, how):
    """Ends the leader again and again under two lone writers at the two others: for each time the longest gap between two
    completed writes, and how many of their connections broke."""
    gaps, broken = [], 0
    for _ in range(kills):
        ensemble.wait_serving()
        time.sleep(1)
        leader = ensemble.leader()
        stop, done, lost = threading.Event(), [], []
        writers = [
            threading.Thread(target=write_until, args=(stop, ensemble.ports[n], f"/gap{n}".encode(), done, lost))
            for n in ensemble.ids if n != leader
        ]
        for writer in writers:
            writer.start()
        time.sleep(1)
        killed = time.monotonic()
        if how == signal.SIGSTOP:
            os.kill(ensemble.pid(leader), how)
        else:
            ensemble.kill(leader, how)
        wait_for("a write after the leader's end", lambda: done and done[-1] > killed + 0.5 and time.monotonic() > killed + 2, 60)
        stop.set()
        for writer in writers:
            writer.join()
        after = sorted(at for at in done if at > killed - 0.5)
        gaps.append(max(b - a for a, b in zip(after, after[1:])) * 1000)
        broken += len(lost)
        if how == signal.SIGSTOP:
            os.kill(ensemble.pid(leader), signal.SIGCONT)
        else:
            ensemble.start(leader)
    return gaps, broken


def race(args, ensembles):
    """{point: {name: [values of each round]}}"""
    results = {point: {one.name: [] for one in ensembles} for point in POINTS}
    for round_number in range(args.rounds):
        order = ensembles if round_number % 2 == 0 else ensembles[::-1]
        for point, flags in POINTS.items():
            for one in order:
                path = os.path.join(args.results, "point.json")
                pids = [flag for pid in one.pids() for flag in ("--pid", str(pid))]
                threads = ["-t", str(min(args.threads, int(flags.split()[1])))]
                command = [args.load, "run", "--closed", *flags.split(), *threads, *pids, "-s", one.servers(), "--duration",
                           str(args.seconds), "--warmup", "1", "-q", "--json", path, "--root", f"/race{round_number}"]
                ended = subprocess.run(command, capture_output=True, text=True)
                if ended.returncode not in (0, 3):
                    sys.exit(f"compare_ensemble: {point} on {one.name}: {ended.stderr[-500:]}")
                with open(path) as file:
                    result = json.load(file)
                results[point][one.name].append({
                    "rate": result["all"]["per_second"],
                    "cpu": sum(server["cpu_us_per_op"] for server in result["servers"]),
                    "p50": result["all"]["intended"]["p50"],
                    "p99": result["all"]["intended"]["p99"],
                    "errors": result["counts"]["errors"],
                })
        print(f"round {round_number + 1} done", file=sys.stderr)
    return results


def idle(ensemble, seconds):
    """CPU of all servers together while nobody asks, in percent of a core."""
    before = sum(cpu_seconds(pid) for pid in ensemble.pids())
    time.sleep(seconds)
    return (sum(cpu_seconds(pid) for pid in ensemble.pids()) - before) / seconds * 100


def leave_behind(args, ensemble, znodes, size, elsewhere=None):
    """Kills a follower and makes so many znodes of so many bytes: the follower, and the addresses of the others. With
    `elsewhere` its data moves into that directory first."""
    ensemble.wait_serving()
    followers = []

    def look():
        followers[:] = [n for n in ensemble.ids if ensemble.mode(n) == "follower"]
        return followers

    wait_for("a follower", look, 60)
    follower = followers[0]
    ensemble.kill(follower)
    if elsewhere:
        os.makedirs(elsewhere, exist_ok=True)
        shutil.rmtree(os.path.join(elsewhere, str(follower)), ignore_errors=True)
        data = f"{ensemble.dir}/{follower}"
        shutil.move(data, elsewhere)
        os.symlink(os.path.join(elsewhere, str(follower)), data)
    others = ",".join(f"127.0.0.1:{ensemble.ports[n]}" for n in ensemble.ids if n != follower)
    fill = [args.load, "fill", "-s", others, "-k", str(znodes), "-v", str(size), "-q", "--root", f"/fill{size}"]
    subprocess.run(fill, check=True, stdout=subprocess.DEVNULL)
    return follower, others


def zxid(ensemble, n):
    lines = word(ensemble.ports[n], b"srvr").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("Zxid")), -1)


def start_until_here(ensemble, follower):
    """Starts it: how long until it serves with all that the leader has at this moment."""
    want = zxid(ensemble, ensemble.leader())
    if want < 0:
        sys.exit("compare_ensemble: the leader does not say how far it is")
    began = time.monotonic()
    ensemble.start(follower)
    wait_for("the follower", lambda: zxid(ensemble, follower) >= want and ensemble.mode(follower), 180)
    return time.monotonic() - began


def rejoin(args, ensemble, znodes):
    """Kills a follower, makes so many znodes, starts it again: how long until it serves with all of them."""
    follower, _ = leave_behind(args, ensemble, znodes, 100)
    return start_until_here(ensemble, follower)


def catch_up(args, ensemble):
    """What the others' clients feel while a follower fetches 1 GB: (p99 before, p99 beside a process that only counts and so
    takes a CPU as the follower does, p99 meanwhile, seconds that it took)."""
    follower, others = leave_behind(args, ensemble, 1_000_000, 1000, args.follower_data)
    path = os.path.join(args.results, "catch_up.json")
    command = [args.load, "run", "-r", "2000", "-c", "16", "-d", "4", "-q", "-s", others, "--json", path, "--root", "/catch"]

    def p99():
        with open(path) as file:
            return json.load(file)["all"]["intended"]["p99"] / 1000

    # A snapshot of what was made may be under way.
    time.sleep(5)
    everywhere = os.sched_getaffinity(0)
    followers_own = args.follower_cpus or everywhere
    # The load inherits this.
    os.sched_setaffinity(0, everywhere - args.follower_cpus)
    bind([ensemble.pid(n) for n in ensemble.ids if n != follower], everywhere - args.follower_cpus)

    def measure_p99():
        # 3: its own lag counts, as it must where all share two CPUs.
        ended = subprocess.run([*command, "--duration", "8"], stdout=subprocess.DEVNULL)
        if ended.returncode not in (0, 3):
            sys.exit(f"compare_ensemble: the load ended with {ended.returncode}")
        return p99()

    quiet = measure_p99()
    counter = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    bind([counter.pid], followers_own)
    try:
        beside = measure_p99()
    finally:
        counter.kill()
        counter.wait(30)
    load = subprocess.Popen([*command, "--no-setup", "--duration", "180", "--warmup", "1"], stdout=subprocess.DEVNULL)
    time.sleep(1.5)
    os.sched_setaffinity(0, followers_own)
    took = start_until_here(ensemble, follower)
    os.sched_setaffinity(0, everywhere)
    # What is measured until then is kept.
    load.send_signal(signal.SIGINT)
    load.wait(30)
    return quiet, beside, p99(), took


def bind(pids, cpus):
    """All threads of these processes on these CPUs; what they start inherits it."""
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cpus)


def median(values):
    return statistics.median(values)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--ports", type=int, default=21_000)
    parser.add_argument("--parts", default="race,idle,failover,rejoin")
    parser.add_argument("--follower-data", default=None)
    parser.add_argument("--follower-cpus", type=lambda text: {int(cpu) for cpu in text.split(",")}, default=set())
    parser.add_argument("--only", choices=["ringkeeper", "zookeeper"], default=None)
    args = parser.parse_args()
    parts = args.parts.split(",")
    shutil.rmtree(args.results, ignore_errors=True)
    os.makedirs(args.results)
    ensembles = []
    try:
        if args.only != "ringkeeper":
            ensembles.append(ZooKeeper(args.ports, os.path.join(args.results, "zookeeper")))
        if args.only != "zookeeper":
            ensembles.append(Ringkeeper(args.ports + 100, os.path.join(args.results, "ringkeeper"), args.binary))
        for one in ensembles:
            one.wait_serving()
        measure(args, parts, ensembles)
    finally:
        for one in ensembles:
            one.stop()


def measure(args, parts, ensembles):
    names = [one.name for one in ensembles]
    print(f"{datetime.date.today()}, commit {args.commit}, {os.cpu_count()} CPUs, Linux {os.uname().release}, three servers each"
          f" on one machine; CPU is summed over the servers\n")
    print(f"| point | | {' | '.join(names)} | ratio | {Null.name} |")
    print(f"|---|---|{'---|' * (len(names) + 2)}")

    def row(point, label, cells, form, floor=""):
        ratio = f"{cells[-1] / cells[0]:.2f}" if len(cells) == 2 and cells[0] else ""
        print(f"| {point} | {label} | {' | '.join(form.format(cell) for cell in cells)} | {ratio} | {floor} |", flush=True)

    if "race" in parts:
        # The JVM compiles what it runs often.
        for one in ensembles:
            for mix in ("get=1", "set=1", "get=90,set=10"):
                subprocess.run([args.load, "run", "--closed", "-c", "64", "-d", "14", "-m", mix, "--duration",
                                str(args.seconds + 3), "--warmup", "0", "-q", "-s", one.servers(), "--root", "/warm"],
                               capture_output=True, check=False)
        floor = Null(args.ports + 200, args.load)
        try:
            results = race(args, [*ensembles, floor])
        finally:
            floor.stop()
        for point, servers in results.items():
            for label, key, form in (("ops/s", "rate", "{:.0f}"), ("CPU/op, us", "cpu", "{:.2f}"), ("p50, us", "p50", "{:.0f}"),
                                     ("p99, us", "p99", "{:.0f}")):
                row(point, label, [median([one[key] for one in servers[name]]) for name in names], form,
                    form.format(median([one[key] for one in servers[floor.name]])))
            for name in (*names, floor.name):
                errors = sum(one["errors"] for one in servers[name])
                if errors:
                    print(f"\n{point} on {name}: {errors} errors\n")
    if "idle" in parts:
        time.sleep(3)
        row("idle", "CPU of all, %", [idle(one, 10) for one in ensembles], "{:.2f}")
    if "failover" in parts:
        killed = [failover(one, args.kills, signal.SIGKILL) for one in ensembles]
        row("leader killed", f"longest gap of writes, ms, median of {args.kills}", [median(gaps) for gaps, _ in killed], "{:.0f}")
        row("leader killed", "the longest of all, ms", [max(gaps) for gaps, _ in killed], "{:.0f}")
        row("leader killed", "connections broken at the others", [broken for _, broken in killed], "{}")
        stopped = [failover(one, max(1, args.kills // 2), signal.SIGTERM) for one in ensembles]
        row("leader stopped (SIGTERM)", "longest gap of writes, ms, median", [median(gaps) for gaps, _ in stopped], "{:.0f}")
        row("leader stopped (SIGTERM)", "the longest of all, ms", [max(gaps) for gaps, _ in stopped], "{:.0f}")
        silent = [failover(one, max(1, args.kills // 2), signal.SIGSTOP) for one in ensembles]
        row("leader silent (SIGSTOP: no connection ends)", "longest gap of writes, ms, median", [median(gaps) for gaps, _ in silent], "{:.0f}")
        row("leader silent (SIGSTOP: no connection ends)", "the longest of all, ms", [max(gaps) for gaps, _ in silent], "{:.0f}")
    if "catchup" in parts:
        rounds = []
        for number in range(args.rounds):
            if number > 0:
                for one in ensembles:
                    one.anew()
            rounds.append([catch_up(args, one) for one in ensembles])
            print(f"round {number + 1} done: {rounds[-1]}", file=sys.stderr)
        found = [[median(values) for values in zip(*of_one)] for of_one in zip(*rounds)]
        for at, label in enumerate(["p99 of the others' clients before, ms", "p99 beside a process that counts, ms",
                                    "p99 meanwhile, ms", "s until it serves"]):
            row("a follower takes 1 GB", label, [one[at] for one in found], "{:.2f}")
    if "rejoin" in parts:
        row(f"follower {args.znodes} znodes behind", "s until it serves", [rejoin(args, one, args.znodes) for one in ensembles],
            "{:.2f}")


main()
