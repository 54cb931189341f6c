"""The servers: each a process in a namespace of its own, started, stopped, killed and paused by its process id."""
import os
import shutil
import signal
import subprocess
import time

import zk
from check import SYNC_LIMIT_S
from members import SUPER_DIGEST
from net import die_with_parent, enter

START_S = 40
STOP_S = 20
LEAVE_S = 40
TICK_MS = 2000


class Server:
    """One member. `dir` holds zoo.cfg, the data and the log; the data may lie on a disk of its own."""

    def __init__(self, ensemble, number):
        self.ensemble, self.number = ensemble, number
        self.address = ensemble.net.address(number)
        self.dir = os.path.join(ensemble.dir, "s%d" % number)
        self.data = os.path.join(self.dir, "data")
        self.log = os.path.join(self.dir, "server.log")
        self.process, self.paused, self.clock_offset, self.expected_end = None, False, 0, False
        os.makedirs(self.data)

    def line(self, role):
        return "server.%d=%s:2888:3888:%s;%s:2181" % (
            self.number, self.ensemble.peer_address(self.number), role, self.address)

    def configure(self):
        """For the members that there are now, and itself."""
        lines = ["tickTime=%d" % TICK_MS, "initLimit=10", "syncLimit=%d" % (SYNC_LIMIT_S * 1000 // TICK_MS),
                 "dataDir=" + self.data, "maxClientCnxns=0", "minSessionTimeout=1000",
                 "4lw.commands.whitelist=*", "snapCount=4000", "ringkeeper.segmentSizeKb=1024",
                 "reconfigEnabled=true", "DigestAuthenticationProvider.superDigest=" + SUPER_DIGEST]
        for number in sorted({*self.ensemble.up, self.number}):
            role = "observer" if number in self.ensemble.observers else "participant"
            lines.append(self.ensemble.server(number).line(role))
        with open(os.path.join(self.dir, "zoo.cfg"), "w") as file:
            file.write("\n".join(lines + self.ensemble.more) + "\n")
        self.write_myid()

    def write_myid(self):
        os.makedirs(self.data, exist_ok=True)
        with open(os.path.join(self.data, "myid"), "w") as file:
            file.write("%d\n" % self.number)
            # On a disk that fails later it must be there still.
            file.flush()
            os.fsync(file.fileno())

    def wipe(self):
        """All that it knew is lost, but its number."""
        shutil.rmtree(self.data)
        self.write_myid()

    def start(self, verb="serve"):
        namespace = self.ensemble.net.namespace(self.number)
        command = [self.ensemble.binary, verb, os.path.join(self.dir, "zoo.cfg")]
        if self.clock_offset:
            offset = str(self.clock_offset)
            command = ["unshare", "--time", "--monotonic", offset, "--boottime", offset] + command
        with open(self.log, "ab") as log:
            log.write(b"---- started at %.3f\n" % time.monotonic())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir,
                                            preexec_fn=lambda: (die_with_parent(), enter(namespace)))
        self.paused = self.expected_end = False

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def mode(self):
        return zk.mode(self.address) if self.running and not self.paused else ""

    def kill(self):
        if self.running:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM; the exit code must be 0."""
        if not self.running:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.ensemble.wrong("server %d did not end within %d s of SIGTERM" % (self.number, STOP_S))
            self.kill()
            return
        self.process = None
        if code:
            self.ensemble.wrong("server %d ended with status %d on SIGTERM" % (self.number, code))

    def leave(self):
        """The command of that name; the exit codes must be 0, and the server's too."""
        self.expected_end = True
        command = [self.ensemble.binary, "leave", "--timeout", "%d" % LEAVE_S, os.path.join(self.dir, "zoo.cfg")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            self.ensemble.wrong("server %d does not leave, status %d: %s"
                                % (self.number, done.returncode, done.stdout.decode(errors="replace").strip()))
            self.kill()
            return
        # Its lock is free a moment before its process is gone.
        code = self.process.wait(timeout=STOP_S)
        self.process = None
        if code:
            self.ensemble.wrong("server %d left and ended with status %d" % (self.number, code))

    def pause(self):
        if self.running:
            self.process.send_signal(signal.SIGSTOP)
            self.paused = True

    def resume(self):
        if self.running:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def watch_end(self):
        """A server that ended by itself, and was not meant to, is reported."""
        if self.process is not None and self.process.poll() is not None and not self.expected_end:
            self.ensemble.wrong("server %d ended by itself with status %d: %s"
                                % (self.number, self.process.returncode, self.tail()))
            self.process = None

    def tail(self):
        with open(self.log, "rb") as file:
            return file.read()[-600:].decode(errors="replace").strip()


class Ensemble:
    """`count` servers, of which the `first` ones begin as the ensemble; the others wait for their time. `observers` have no
    vote."""

    def __init__(self, net, directory, binary, count, more=(), peer_address=None, first=None, observers=()):
        self.net, self.dir, self.binary, self.more = net, directory, binary, list(more)
        self.numbers = list(range(1, count + 1))
        self.up = self.numbers[: first or count]  # those that are meant to run
        self.observers = observers
        self.peer_address = peer_address or net.address
        self.faults = []  # what went wrong with the servers themselves
        self.all = [Server(self, number) for number in self.numbers]

    def wrong(self, what):
        self.faults.append(what)

    def server(self, number):
        return self.all[number - 1]

    def meant_to_run(self):
        return [self.server(number) for number in self.up]

    def start(self):
        for server in self.meant_to_run():
            server.configure()
            server.start()

    def leader(self, within=15.0):
        """The number of the server that says it leads; None when nobody does in time. Two may say so for a moment:
        then the one that a majority does not hear is as good as any."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for server in self.all:
                if server.mode() == "leader":
                    return server.number
            time.sleep(0.02)
        return None

    def serving(self, within=START_S):
        """Waits until all serve and one of them leads; names who does not in time."""
        deadline = time.monotonic() + within
        while True:
            modes = {server.number: server.mode() for server in self.meant_to_run()}
            good = [mode in ("leader", "follower", "observer") for mode in modes.values()]
            if all(good) and list(modes.values()).count("leader") == 1:
                return None
            self.watch()
            if time.monotonic() > deadline:
                return "not all serve after %d s: %s" % (within, modes)
            time.sleep(0.05)

    def watch(self):
        for server in self.all:
            server.watch_end()

    def close(self):
        for server in self.all:
            server.resume()
            server.kill()
