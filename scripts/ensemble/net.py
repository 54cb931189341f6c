"""Network namespaces: one a server and one for the clients, joined by a bridge in one more; faults by iptables.

All of it has names of its own and goes with `close`. A rule stands at the receiver, so that the sender's packets are lost
without a word. An address exists inside these namespaces alone.
"""
import ctypes
import os
import re
import shutil
import signal
import subprocess

CLONE_NEWNET = 0x40000000
CLIENTS = 100
libc = ctypes.CDLL("libc.so.6", use_errno=True)


def run(*command, check=True):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(command), done.stdout.decode(errors="replace").strip()))
    return done.returncode == 0


def missing():
    """Why this machine cannot run the rig; None when it can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    for tool in ("ip", "iptables", "unshare"):
        if not shutil.which(tool):
            return "there is no %s (scripts/setup.sh installs it)" % tool
    name = "rk%d-try" % os.getpid()
    if not run("ip", "netns", "add", name, check=False):
        return "no network namespace can be made"
    try:
        inside = ("ip", "netns", "exec", name)
        if not run("ip", "-n", name, "link", "add", "br0", "type", "bridge", check=False):
            return "no bridge can be made"
        if not run(*inside, "iptables", "-A", "INPUT", "-s", "10.77.0.1", "-j", "DROP", check=False):
            return "iptables does not work in a namespace"
    finally:
        run("ip", "netns", "del", name, check=False)
    return None


def enter(namespace):
    """This thread, and what it starts, lives in that namespace from now on."""
    fd = os.open(namespace if "/" in namespace else "/var/run/netns/" + namespace, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + namespace)
    finally:
        os.close(fd)


def die_with_parent():
    """For a child before its exec: nothing that the rig starts outlives it, however it ends."""
    libc.prctl(1, signal.SIGKILL)


class Net:
    """`servers` of them, 1 to N; place 100 is the clients'."""

    def __init__(self, servers):
        self.prefix = "rk%d" % os.getpid()
        self.switch = self.prefix + "-sw"
        self.places = list(range(1, servers + 1)) + [CLIENTS]
        self.made = []

    def namespace(self, place):
        return "%s-%s" % (self.prefix, "c" if place == CLIENTS else "s%d" % place)

    @staticmethod
    def address(place):
        return "10.77.0.%d" % place

    def open(self):
        self.add(self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for place in self.places:
            name = self.namespace(place)
            self.add(name)
            port = "v%d" % place
            run("ip", "-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", self.switch, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", name, "addr", "add", self.address(place) + "/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def add(self, name):
        run("ip", "netns", "add", name)
        self.made.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def close(self):
        for name in reversed(self.made):
            run("ip", "netns", "del", name, check=False)
        self.made = []

    # ---- faults ----

    def inside(self, place, *command, check=True):
        return run("ip", "netns", "exec", self.namespace(place), *command, check=check)

    def cut(self, sender, receiver):
        """Nothing of what `sender` says reaches `receiver` any more."""
        self.inside(receiver, "iptables", "-w", "-A", "INPUT", "-s", self.address(sender), "-j", "DROP")

    def cut_both(self, one, other):
        self.cut(one, other)
        self.cut(other, one)

    def split(self, *parts):
        """Parts that hear nothing of each other; the clients still reach everybody."""
        for number, part in enumerate(parts):
            for other in parts[number + 1 :]:
                for a in part:
                    for b in other:
                        self.cut_both(a, b)

    def lose(self, place, share):
        """That share of the packets that arrive there is lost."""
        self.inside(place, "iptables", "-w", "-A", "INPUT", "!", "-i", "lo", "-m", "statistic", "--mode", "random",
                    "--probability", "%.3f" % share, "-j", "DROP")

    def refuse(self, sender, receiver):
        """Connections are answered with a reset."""
        self.inside(receiver, "iptables", "-w", "-A", "INPUT", "-p", "tcp", "-s", self.address(sender), "-j", "REJECT",
                    "--reject-with", "tcp-reset")

    def link(self, place, up):
        run("ip", "-n", self.switch, "link", "set", "v%d" % place, "up" if up else "down")

    def heal(self):
        for place in self.places:
            self.inside(place, "iptables", "-w", "-F", "INPUT")
            self.link(place, True)


def leftovers():
    """Namespaces of runs that did not end well and whose process is gone."""
    listed = subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE).stdout.decode()
    out = []
    for line in listed.splitlines():
        match = re.match(r"rk(\d+)-", line)
        if match and not os.path.exists("/proc/" + match[1]):
            out.append(line.split()[0])
    return out
