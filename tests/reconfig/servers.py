"""The servers under test: each a process with a directory of its own, ended by its own process id."""
import os
import random
import shutil
import signal
import socket
import subprocess
import time

from wire import SUPER_DIGEST, Client, Gone, four_letter

TICK_MS = 1000
START_S = 60
STOP_S = 20
POLL_S = 0.05


class Failed(Exception):
    """An expectation did not hold."""


def until(condition, what, seconds):
    """Asks again and again until the condition gives something true, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed("not within %d s: %s" % (seconds, what))
        time.sleep(POLL_S)


def stays(condition, what, seconds):
    """The condition holds now and each time it is asked for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise Failed("no longer so: " + what)
        time.sleep(POLL_S)


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Ports:
    """Ports that nobody has, each given once. They lie below the range from which the system takes ports for outgoing
    connections, so that a server which is started again finds its own still free."""

    def __init__(self):
        self.next = 20000 + random.randrange(9000)

    def take(self):
        while True:
            self.next += 1
            if is_free(self.next):
                return self.next


PORTS = Ports()


class Target:
    """Which server is under test, and how it is started."""

    def __init__(self, name, binary=None, home=None):
        self.name, self.binary, self.home = name, binary, home

    @property
    def is_zookeeper(self):
        return self.name == "zookeeper"

    def command(self, directory, cfg, verb="serve", properties=()):
        if not self.is_zookeeper:
            return [self.binary, verb, cfg]
        # As little of the machine as it takes: five of them share two cores.
        return ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                "-Dlogback.configurationFile=" + os.path.join(directory, "logback.xml"), *properties, "-cp", self.home + "/*",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", cfg]


LOGBACK = """<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5p %c{1} - %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="CONSOLE"/></root>
</configuration>
"""


class Server:
    def __init__(self, target, directory, number):
        self.target, self.number, self.process = target, number, None
        # Its name in its line; and a file that it sees as /etc/hosts.
        self.host, self.hosts = "127.0.0.1", None
        self.quorum, self.election, self.port = PORTS.take(), PORTS.take(), PORTS.take()
        self.dir = os.path.join(directory, "%d" % number)
        self.data, self.cfg, self.log = (os.path.join(self.dir, name) for name in ("data", "zoo.cfg", "server.log"))
        os.makedirs(self.data)
        self.write_myid()
        with open(os.path.join(self.dir, "logback.xml"), "w") as file:
            file.write(LOGBACK)

    def line(self, role="participant"):
        return "server.%d=%s:%d:%d:%s;127.0.0.1:%d" % (self.number, self.host, self.quorum, self.election, role, self.port)

    def write_myid(self):
        with open(os.path.join(self.data, "myid"), "w") as file:
            file.write("%d\n" % self.number)

    def configure(self, members, more=()):
        """No members: a standalone server."""
        lines = ["tickTime=%d" % TICK_MS, "initLimit=10", "syncLimit=5", "dataDir=" + self.data, "maxSessionTimeout=120000",
                 "reconfigEnabled=true", "admin.enableServer=false", "skipACL=no",
                 "4lw.commands.whitelist=*", "DigestAuthenticationProvider.superDigest=" + SUPER_DIGEST]
        if members:
            lines += ["standaloneEnabled=false"] + [member.line() for member in members]
        else:
            lines += ["clientPort=%d" % self.port, "clientPortAddress=127.0.0.1"]
        # A key given twice: the later one counts, as in any Java properties file; ringkeeper wants it once.
        self.properties = [line for line in more if line.startswith("-D")]
        more = [line for line in more if line not in self.properties]
        if not self.target.is_zookeeper:
            # What ZooKeeper takes as a property of its Java machine stands in the file.
            more += [line[2:] for line in self.properties]
        keys = {line.split("=")[0] for line in more}
        self.original = "\n".join([line for line in lines if line.split("=")[0] not in keys] + more) + "\n"
        self.write_original()

    def write_original(self):
        with open(self.cfg, "w") as file:
            file.write(self.original)

    def start(self, verb="serve"):
        command = self.target.command(self.dir, self.cfg, verb, self.properties)
        if self.hosts:
            command = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', self.hosts, *command]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def mode(self):
        """leader, follower, observer, standalone; empty while the server does not serve."""
        if not self.running:
            return ""
        for line in four_letter(self.port, "srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:].strip()
        return ""

    def await_mode(self, *modes, seconds=START_S):
        def reached():
            if not self.running:
                raise Failed("server %d ended by itself: %s" % (self.number, self.tail()))
            mode = self.mode()
            return mode if mode in modes else None
        return until(reached, "server %d as %s" % (self.number, " or ".join(modes)), seconds)

    def writes(self):
        """Does a new client here get a write through now?"""
        try:
            client = Client(self.port, patience=3.0)
        except Gone:
            return False
        try:
            return client.create("/probe-%x" % (client.id & (1 << 64) - 1)) == 0
        except Gone:
            return False
        finally:
            client.close()

    def await_writes(self, seconds=START_S):
        until(self.writes, "a write at server %d" % self.number, seconds)

    def kill(self):
        if self.running:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM, and the end waited for."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed("server %d did not end within %d s of SIGTERM" % (self.number, STOP_S)) from None
        self.process = None

    def wipe(self):
        """All that it knew is lost, but its number."""
        shutil.rmtree(self.data)
        os.makedirs(self.data)
        self.write_myid()

    def has_logged(self, text):
        with open(self.log, "rb") as file:
            return text.encode() in file.read()

    def tail(self):
        with open(self.log, "rb") as file:
            return file.read()[-600:].decode(errors="replace").strip()


class Ensemble:
    """`voters` servers that begin as the ensemble, numbered from 1, and `spare` ones after them that nobody knows yet. The
    configuration of a spare one names the first ones and itself, as ZooKeeper asks of one that wants to join."""

    def __init__(self, target, directory, voters=3, spare=0, more=()):
        os.makedirs(directory)
        self.target = target
        self.servers = [Server(target, directory, number + 1) for number in range(voters + spare)]
        self.first = self.servers[:voters]
        for server in self.servers:
            server.configure(self.first if server in self.first else self.first + [server], more)

    def server(self, number):
        return self.servers[number - 1]

    def start(self, servers):
        for server in servers:
            server.start()
        for server in servers:
            server.await_mode("leader", "follower")
        return self

    def leader(self, among=None, seconds=START_S):
        """The one that leads, as soon as one does."""
        among = among or self.servers
        return until(lambda: next((server for server in among if server.mode() == "leader"), None), "a leader", seconds)

    def followers(self):
        leader = self.leader()
        return [server for server in self.first if server is not leader]

    def close(self):
        for server in self.servers:
            server.kill()
