"""A small disk of its own for a server's data: an ext4 in an image behind a loop device, which can be slow, full or broken.

slow    a cgroup (v1, blkio) limits the writes a second that the server's process does on the loop device
fill    a file takes all the room that there is
fail    the image lies on a tmpfs of its own without room for what was not written yet: the loop device answers EIO
"""
import os
import subprocess
import time

from net import run

BLKIO = "/sys/fs/cgroup/blkio"
MIB = 160


def missing(kind):
    if kind == "slow" and not os.path.exists(BLKIO + "/blkio.throttle.write_iops_device"):
        return "there is no blkio cgroup (version 1)"
    return None


class Disk:
    def __init__(self, server, kind):
        self.server, self.path, self.kind = server, server.data, kind
        self.base = os.path.join(server.dir, "disk")
        self.image = os.path.join(self.base, "image")
        self.loop, self.broken, self.mounted, self.group = None, False, False, None
        os.makedirs(self.base)

    def open(self):
        run("mount", "-t", "tmpfs", "-o", "size=%dm" % (MIB + 40), "tmpfs", self.base)
        with open(self.image, "wb") as image:
            image.truncate(MIB << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        self.mount()

    def mount(self):
        found = subprocess.run(["losetup", "-f", "--show", self.image], stdout=subprocess.PIPE, check=True)
        self.loop = found.stdout.decode().strip()
        run("mount", self.loop, self.path)
        self.mounted = True

    def unmount(self):
        if self.mounted:
            run("umount", self.path, check=False) or run("umount", "-l", self.path, check=False)
            self.mounted = False
        if self.loop:
            run("losetup", "-d", self.loop, check=False)
            self.loop = None

    # ---- faults ----

    def slow(self, writes):
        device = os.stat(self.loop).st_rdev
        self.group = "%s/rk%d-%d" % (BLKIO, os.getpid(), self.server.number)
        os.makedirs(self.group, exist_ok=True)
        with open(self.group + "/blkio.throttle.write_iops_device", "w") as file:
            file.write("%d:%d %d\n" % (os.major(device), os.minor(device), writes))
        if self.server.running:
            self.move(self.group)

    def move(self, group):
        """All threads of the server, and so all that it starts."""
        with open(group + "/cgroup.procs", "w") as file:
            file.write("%d\n" % self.server.process.pid)

    def fill(self):
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as filler:
            for piece in (1 << 20, 1 << 16, 4096):
                try:
                    while filler.write(b"f" * piece):
                        pass
                except OSError:
                    pass

    def fail(self):
        """What the image holds stays readable; blocks that it does not hold yet cannot be written, nor those it loses."""
        self.broken = True
        with open(os.path.join(self.base, "filler"), "wb", buffering=0) as filler:
            for piece in (1 << 20, 4096):
                try:
                    while filler.write(b"f" * piece):
                        pass
                except OSError:
                    pass

    def mend(self):
        if self.group:
            if self.server.running:
                self.move(BLKIO)
            for _ in range(100):
                try:
                    os.rmdir(self.group)
                    break
                except OSError:
                    time.sleep(0.02)
            self.group = None
        filler = os.path.join(self.base, "filler")
        if os.path.exists(filler):
            os.unlink(filler)
        if self.broken:
            self.unmount()
            self.mount()
            self.broken = False
        filler = os.path.join(self.path, "filler")
        if os.path.exists(filler):
            os.unlink(filler)

    def close(self):
        if self.group:
            self.mend()
        self.unmount()
        run("umount", "-l", self.base, check=False)
