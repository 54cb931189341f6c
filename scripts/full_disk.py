#!/usr/bin/env python3
"""Fills a small file system under a running server, and breaks it.

  fill       creates until NotReadOnly (-119); what grows is refused, what shrinks, reads and session ends go on
  make room  deletes alone bring it back: snapshots are taken and the log behind them is purged
  hammer     several times the reserve of creates, all refused: what shrinks and reads go on, while a snapshot fits
  full       a filler takes the last byte: deletes and closes go on; `ringkeeper check` does not refuse
  restart    by SIGTERM and by SIGKILL on the full disk: up, read-only from the first write on, nothing lost
  resume     the filler goes: writes are taken again, without a restart
  device     every write of the block device fails from now on (its image has lost its place in a full tmpfs): 74
  fail       the file system is aborted under the server: exit code 74, with file and offset; read-only: exit code 71

Every acknowledged create is looked for after each start. Last line: N passed, N failed.
"""
import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from torture import CLOSE, CREATE, DELETE, EPHEMERAL, GETDATA, OK, SETDATA
from torture import Connection, Fault, Gone, Server, create_body, buffer, free_port, i32, text

SKIP, NOT_READ_ONLY, NO_NODE = 77, -119, -101
GROWN = b"g" * 16000
MAYBE_S = 30


def quiet(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def expect(what, got, *want):
    if got not in want:
        raise Fault("%s: answered %r, expected %s" % (what, got, " or ".join(map(repr, want))))


def delete_body(path):
    return text(path) + i32(-1)


def set_body(path, data):
    return text(path) + buffer(data) + i32(-1)


class Disk:
    """The file system."""

    def __init__(self, home, mib):
        self.home = home
        self.image, self.path = os.path.join(home, "image"), os.path.join(home, "fs")
        self.filler = os.path.join(self.path, "filler")
        with open(self.image, "wb") as image:
            image.truncate(mib << 20)
        os.mkdir(self.path)

    def mount(self, *options):
        return quiet("mount", "-o", ",".join(("loop",) + options), self.image, self.path)

    def make(self):
        return quiet("mkfs.ext4", "-q", "-m", "0", self.image) and self.mount()

    def unmount(self):
        return quiet("umount", self.path) or quiet("umount", "-l", self.path)

    def fill(self, limit=1 << 40):
        """To the last byte, or so far; also what the server gives back meanwhile."""
        with open(self.filler, "ab", buffering=0) as filler:
            for piece in (1 << 20, 4096):
                try:
                    while filler.tell() < limit:
                        filler.write(b"f" * piece)
                except OSError:
                    pass
            try:
                os.fsync(filler.fileno())
            except OSError:
                pass

    def free_mib(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize >> 20


class Story:
    def __init__(self, disk, server):
        self.disk, self.server = disk, server
        self.connection, self.there, self.count = None, set(), 0

    def connect(self):
        self.connection = Connection(self.server.port)
        self.connection.attach()

    def start(self):
        self.server.start()
        self.server.wait()
        try:
            self.connect()
        except OSError as refused:
            self.server.process.wait(timeout=15)
            raise Fault("the server ended by itself after its start") from refused
        missing = [path for path in sorted(self.there) if self.exists(path) != OK]
        if missing:
            raise Fault("lost: %s and %d more" % (missing[0], len(missing) - 1))

    def exists(self, path):
        return self.connection.call(GETDATA, text(path) + b"\0")[0]

    def call(self, opcode, body):
        return self.connection.call(opcode, body)[0]

    def create(self):
        self.count += 1
        path = "/n%d" % self.count
        error = self.call(CREATE, create_body(path, os.urandom(8000)))
        if error == OK:
            self.there.add(path)
        return error

    def shows_low(self, want):
        """Whether mntr says that growth is refused."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as words:
            words.sendall(b"mntr")
            said = b"".join(iter(lambda: words.recv(1 << 16), b"")).decode()
        expect("zk_ringkeeper_disk_low", re.findall(r"zk_ringkeeper_disk_low\t(\d)\n", said), [want])

    def delete(self, paths):
        replies = self.connection.calls([(DELETE, delete_body(path)) for path in paths])
        for path, (error, _) in zip(paths, replies):
            expect("delete of %s" % path, error, OK)
            self.there.discard(path)

    def refuses_growth(self):
        path = min(self.there)
        expect("create on a disk that is nearly full", self.create(), NOT_READ_ONLY)
        expect("a set that grows", self.call(SETDATA, set_body(path, GROWN)), NOT_READ_ONLY)
        expect("a read", self.exists(path), OK)
        self.shows_low("1")
        self.delete([path])
        expect("a read of what was deleted", self.exists(path), NO_NODE)

    def eventually_takes(self, what):
        deadline = time.monotonic() + MAYBE_S
        while self.create() != OK:
            if time.monotonic() > deadline:
                raise Fault("%s: still read-only after %d s, %d MiB are free" % (what, MAYBE_S, self.disk.free_mib()))
            time.sleep(0.1)
        self.shows_low("0")

    def ends_with_74(self, why):
        try:
            # What a device has taken is as good as before; from the first write on that it refuses, none is answered.
            for _ in range(50):
                expect("a write on a failing disk", self.create(), OK, NOT_READ_ONLY)
            raise Fault("50 writes on a failed disk were answered")
        except Gone:
            pass
        status = self.server.process.wait(timeout=15)
        with open(self.server.log) as log:
            said = log.read()[-3000:]
        expect("the exit code after a failed write", status, 74)
        if not re.search(r"\.seg, offset \d+: (%s)" % why, said):
            raise Fault("the message names no file, offset and reason:\n" + said[-1500:])

    # ---- the chapters ----

    def device(self):
        """On a file system of its own, for it does not survive."""
        home = tempfile.mkdtemp(prefix="device-")
        if not quiet("mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", home):
            return "left out: no tmpfs can be mounted"
        disk = Disk(home, 64)
        server = Server([part.replace(self.disk.path, disk.path) for part in self.server.command], self.disk.home, free_port())
        server.command[server.command.index(str(self.server.port))] = str(server.port)
        server.log = os.path.join(self.disk.home, "device.log")
        try:
            if not disk.make():
                raise Fault("no second file system can be made")
            story = Story(disk, server)
            story.start()
            for _ in range(20):
                expect("a create", story.create(), OK)
            # What the image loses, the filler takes.
            subprocess.run(["fallocate", "--punch-hole", "--offset", "0", "--length", str(64 << 20), disk.image], check=True)
            with open(os.path.join(home, "filler"), "wb", buffering=0) as filler:
                for piece in (1 << 16, 4096):
                    try:
                        while filler.write(b"f" * piece):
                            pass
                    except OSError:
                        pass
            story.ends_with_74("Input/output error|No space left on device")
            return "74 after the first write that the device refused"
        finally:
            server.stop()
            disk.unmount()
            quiet("umount", "-l", home)
            os.rmdir(home)

    def fill(self):
        owner = Connection(self.server.port)
        owner.attach()
        expect("an ephemeral", owner.call(CREATE, create_body("/e", b"", EPHEMERAL))[0], OK)
        for _ in range(20000):
            error = self.create()
            if error != OK:
                break
            if self.count % 500 == 0:
                expect("the owner's read", owner.call(GETDATA, text("/e") + b"\0")[0], OK)
        expect("the create that no longer fits", error, NOT_READ_ONLY)
        self.refuses_growth()
        owner.call(CLOSE, b"")
        expect("the ephemeral of a closed session", self.exists("/e"), NO_NODE)
        return "%d creates taken, %d MiB left" % (len(self.there), self.disk.free_mib())

    def hammer(self):
        """What is refused goes through the log too."""
        self.disk.fill((self.disk.free_mib() - 9) << 20)
        deadline = time.monotonic() + MAYBE_S
        while self.create() != NOT_READ_ONLY:
            if time.monotonic() > deadline:
                raise Fault("a disk that is nearly full is not noticed")
            time.sleep(0.05)
        data = os.urandom(900_000)
        for nth in range(100):
            expect("a large create on a low disk", self.call(CREATE, create_body("/large%d" % nth, data)), NOT_READ_ONLY)
            if nth % 10 == 0:
                self.refuses_growth()
        left = self.disk.free_mib()
        os.remove(self.disk.filler)
        self.eventually_takes("after the filler went")
        return "100 creates of 900 KB refused, %d MiB left" % left

    def make_room(self):
        doomed = sorted(self.there)[50:]
        self.delete(doomed)
        self.eventually_takes("after %d deletes" % len(doomed))
        return "%d deletes, %d MiB free" % (len(doomed), self.disk.free_mib())

    def full(self):
        self.disk.fill()
        deadline = time.monotonic() + MAYBE_S
        while self.create() != NOT_READ_ONLY:
            if time.monotonic() > deadline:
                raise Fault("a full disk is not noticed")
            self.disk.fill()
        self.disk.fill()
        self.refuses_growth()
        self.delete(sorted(self.there)[:5])
        self.connect()
        check = [self.server.command[0], "check", "--data-dir", self.disk.path + "/data", "--client-port", str(free_port())]
        self.stop(signal.SIGTERM)
        # What the stop has given back, others take.
        self.disk.fill()
        said = subprocess.run(check, capture_output=True, text=True)
        if said.returncode != 0 or not re.search("full disk|disk is full", said.stdout):
            raise Fault("check on a full disk: exit %d\n%s%s" % (said.returncode, said.stdout, said.stderr))
        return "%d MiB left; check does not refuse" % self.disk.free_mib()

    def stop(self, how):
        self.server.process.send_signal(how)
        status = self.server.process.wait(timeout=15)
        expect("the end by signal %d" % how, status, 0 if how == signal.SIGTERM else -how)

    def restart(self):
        for how in (signal.SIGKILL, signal.SIGTERM):
            self.disk.fill()
            self.start()
            self.refuses_growth()
            self.stop(how)
        self.disk.fill()
        self.start()
        self.refuses_growth()
        return "%d nodes there after each of three starts" % len(self.there)

    def resume(self):
        os.remove(self.disk.filler)
        self.eventually_takes("after the filler went")
        return "%d MiB free" % self.disk.free_mib()

    def fail(self):
        if not quiet("mount", "-o", "remount,abort", self.disk.path):
            return "left out: this kernel aborts no journal on demand"
        self.ends_with_74("Read-only file system|Input/output error")
        # The journal is replayed by a mount that may write.
        if not (self.disk.unmount() and self.disk.mount() and self.disk.unmount() and self.disk.mount("ro")):
            raise Fault("the image can not be mounted again")
        self.server.start()
        expect("the exit code of a start on a read-only file system", self.server.process.wait(timeout=15), 71)
        with open(self.server.log) as log:
            if "ead-only" not in log.read()[-1500:]:
                raise Fault("the refusal does not say that the file system is read-only")
        self.disk.unmount()
        self.disk.mount()
        self.start()
        return "74 with file and offset, 71 on a read-only mount, then %d nodes there" % len(self.there)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=96, help="size of the file system")
    parser.add_argument("--more", default="", help="more flags for the server, for example '--io epoll'")
    args = parser.parse_args()
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    binary = os.environ.get("RINGKEEPER_BIN", os.path.join(here, "target/debug/ringkeeper"))
    home = tempfile.mkdtemp(prefix="full-disk-")
    disk = Disk(home, args.mib)
    if not disk.make():
        print("SKIPPED: a file system can not be made and mounted here")
        sys.exit(SKIP)
    command = [binary, "serve", "--data-dir", disk.path + "/data", "--client-port", "{port}", "--listen", "127.0.0.1"]
    for key in ("ringkeeper.segmentSizeKb=1024", "ringkeeper.diskReserveMb=12", "snapCount=500"):
        command += ["--set", key]
    server = Server(command + args.more.split(), home, free_port())
    story = Story(disk, server)
    passed = failed = 0
    try:
        story.start()
        for chapter in (story.fill, story.make_room, story.hammer, story.full, story.restart, story.resume, story.device, story.fail):
            print("%-10s %s" % (chapter.__name__, chapter()), flush=True)
            passed += 1
    except (Fault, Gone, subprocess.TimeoutExpired) as fault:
        failed = 1
        print("FAILED in %s: %r" % (chapter.__name__ if passed else "the start", fault))
        with open(server.log) as log:
            print(log.read()[-3000:])
    except KeyboardInterrupt:
        failed = 1
    finally:
        server.stop()
        disk.unmount()
        for name in ("image", "server.log", "device.log"):
            if os.path.exists(os.path.join(home, name)):
                os.remove(os.path.join(home, name))
        if not os.path.ismount(disk.path):
            os.rmdir(disk.path)
            os.rmdir(home)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
