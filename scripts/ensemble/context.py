"""What a scenario can do to an ensemble, and how it is told that its time is over."""
import random
import time

from net import CLIENTS


class Context:
    def __init__(self, ensemble, net, seed, name, seconds, disks=None, wire=None):
        self.ensemble, self.net, self.disks, self.the_wire = ensemble, net, disks, wire
        self.dice = random.Random("%s/%s" % (seed, name))
        self.until = time.monotonic() + seconds
        self.faults, self.story = 0, []

    def rest(self, low, high):
        """Waits some of that time, looking after the servers. False once the time is over."""
        end = min(time.monotonic() + self.dice.uniform(low, high), self.until)
        while time.monotonic() < end:
            self.ensemble.watch()
            time.sleep(0.02)
        return time.monotonic() < self.until

    def fault(self, what):
        self.faults += 1
        self.story.append((time.monotonic(), what))

    def leader(self):
        return self.ensemble.leader() or self.dice.choice(self.ensemble.numbers)

    def leader_and_follower(self):
        leader = self.leader()
        return leader, self.dice.choice([n for n in self.ensemble.numbers if n != leader])

    def follower(self):
        return self.leader_and_follower()[1]

    def shuffled(self):
        return self.dice.sample(self.ensemble.numbers, len(self.ensemble.numbers))

    def server(self, number):
        return self.ensemble.server(number)

    # ---- faults ----

    def kill(self, number):
        self.fault("kill %d" % number)
        self.server(number).resume()
        self.server(number).kill()

    def stop(self, number):
        self.fault("stop %d" % number)
        self.server(number).stop()

    def restart(self, number):
        if not self.server(number).running:
            self.server(number).start()

    def until_serving(self, number):
        deadline = time.monotonic() + 40
        while not self.server(number).mode():
            self.ensemble.watch()
            if time.monotonic() > deadline:
                self.ensemble.wrong("server %d does not serve 40 s after its start" % number)
                return
            time.sleep(0.02)

    def pause(self, number):
        self.fault("pause %d" % number)
        self.server(number).pause()

    def resume(self, number):
        self.server(number).resume()

    def isolate(self, number, clients=False):
        self.fault("isolate %d" % number)
        for other in self.ensemble.numbers:
            if other != number:
                self.net.cut_both(number, other)
        if clients:
            self.net.cut_both(number, CLIENTS)

    def deaf(self, number):
        self.fault("deaf %d" % number)
        for other in self.ensemble.numbers:
            if other != number:
                self.net.cut(other, number)

    def mute(self, number):
        self.fault("mute %d" % number)
        for other in self.ensemble.numbers:
            if other != number:
                self.net.cut(number, other)

    def cut_clients(self, number):
        self.fault("clients of %d" % number)
        if self.dice.random() < 0.5:
            self.net.cut_both(CLIENTS, number)
        else:
            self.net.refuse(CLIENTS, number)

    def lose(self, number, share):
        self.fault("loss %d" % number)
        self.net.lose(number, share)

    def wire(self, **how):
        self.fault("wire %r" % how)
        self.the_wire.set(**how)

    def set_clock(self, number, offset):
        self.server(number).clock_offset = offset

    def slow_disk(self, number, writes):
        self.fault("slow disk %d" % number)
        self.disks[number].slow(writes)

    def fail_disk(self, number):
        self.fault("failing disk %d" % number)
        self.server(number).expected_end = True
        self.disks[number].fail()

    def fill_disk(self, number):
        self.fault("full disk %d" % number)
        self.disks[number].fill()

    # ---- and their end ----

    def heal(self):
        self.net.heal()
        if self.the_wire:
            self.the_wire.set()
        for server in self.ensemble.all:
            server.resume()
            disk = self.disks and self.disks[server.number]
            if disk and disk.broken:
                # What failed is over; the server has ended for it, and its disk is mounted anew.
                if server.running:
                    try:
                        server.process.wait(timeout=10)
                    except Exception:
                        self.ensemble.wrong("server %d goes on though its disk refuses every write" % server.number)
                        server.kill()
                if server.process is not None and server.process.returncode not in (0, 74):
                    self.ensemble.wrong("server %d ended with %s on a failing disk" % (server.number, server.process.returncode))
                server.process = None
                disk.mend()
            elif disk:
                disk.mend()
            if not server.running:
                server.watch_end()
                server.start()
