"""A wire in user space between the servers: one TUN device a namespace, every packet passes here, late, lost, doubled or
spoilt as it is told. It stands in for netem, which not every kernel has. A process of its own: wire.py SEED NAMESPACE..."""
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

from net import enter, run

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def address(place):
    return "10.78.0.%d" % place


class Wire:
    """The wire, seen from the rig."""

    def __init__(self, network, seed):
        self.net, self.seed, self.process = network, seed, None

    def open(self):
        names = [self.net.namespace(place) for place in self.net.places[:-1]]
        self.process = subprocess.Popen([sys.executable, "-B", os.path.abspath(__file__), str(self.seed)] + names,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"up\n":
            raise RuntimeError("the wire does not come up")

    def set(self, **how):
        self.process.stdin.write(json.dumps(how).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def tun(namespace):
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(namespace)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", b"wire0", IFF_TUN | IFF_NO_PI))
    enter("/proc/self/fd/%d" % home)
    os.close(home)
    return fd


def main():
    dice = random.Random(sys.argv[1] + "/wire")
    places = {}
    for place, namespace in enumerate(sys.argv[2:], 1):
        places[place] = tun(namespace)
        run("ip", "-n", namespace, "addr", "add", address(place) + "/24", "dev", "wire0")
        run("ip", "-n", namespace, "link", "set", "wire0", "up")
    print("up", flush=True)
    how, waiting, count = {}, [], 0
    fds = list(places.values())
    while True:
        patience = max(0.0, min(0.5, waiting[0][0] - time.monotonic())) if waiting else 0.5
        for fd in select.select(fds + [0], [], [], patience)[0]:
            if fd == 0:
                line = os.read(0, 4096)
                if not line:
                    return
                how = json.loads(line.splitlines()[-1])
                continue
            try:
                for _ in range(64):
                    packet = os.read(fd, 65536)
                    to = packet[19] if packet[0] >> 4 == 4 else 0
                    if to not in places or dice.random() < how.get("loss", 0):
                        continue
                    for _ in range(2 if dice.random() < how.get("double", 0) else 1):
                        count += 1
                        late = (how.get("delay", 0) + dice.random() * how.get("jitter", 0)) / 1000
                        if dice.random() < how.get("flip", 0):
                            # TCP's sum finds one flipped bit: the packet is lost late.
                            spoilt, at = bytearray(packet), dice.randrange(20, len(packet))
                            spoilt[at] ^= 1 << dice.randrange(8)
                            packet = bytes(spoilt)
                        heapq.heappush(waiting, (time.monotonic() + late, count, to, packet))
            except BlockingIOError:
                pass
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(places[to], packet)
            except OSError:
                pass


if __name__ == "__main__":
    main()
