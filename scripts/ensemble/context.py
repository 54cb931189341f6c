"""What a scenario can do to an ensemble, and how it is told that its time is over."""
import random
import time

import check
import zk
from members import Members
from net import CLIENTS

SOON_S = 40


class Context:
    def __init__(self, ensemble, net, seed, name, seconds, disks=None, wire=None):
        self.ensemble, self.net, self.disks, self.the_wire = ensemble, net, disks, wire
        self.dice = random.Random("%s/%s" % (seed, name))
        self.until = time.monotonic() + seconds
        self.faults, self.story = 0, []
        self.members = Members(ensemble)
        self.logs, self.written = [], 0  # of the rig's own sessions while the faults last
        self.still_since, self.still = None, []  # since when no server runs, and the log of such times
        self.logs.append(self.still)

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
        return self.ensemble.leader() or self.dice.choice(self.ensemble.up)

    def leader_and_follower(self):
        leader = self.leader()
        return leader, self.dice.choice([n for n in self.ensemble.up if n != leader])

    def follower(self):
        return self.leader_and_follower()[1]

    def shuffled(self):
        return self.dice.sample(self.ensemble.up, len(self.ensemble.up))

    def server(self, number):
        return self.ensemble.server(number)

    # ---- faults ----

    def kill(self, number):
        self.fault("kill %d" % number)
        self.resume(number)
        self.server(number).kill()

    def stop(self, number):
        self.fault("stop %d" % number)
        self.server(number).stop()

    def restart(self, number):
        if not self.server(number).running:
            self.server(number).start()

    def until_so(self, condition, what, within=SOON_S):
        """Waits for it, looking after the servers, and reports when it does not come."""
        deadline = time.monotonic() + within
        while not condition():
            self.ensemble.watch()
            if time.monotonic() > deadline:
                self.ensemble.wrong("not within %d s: %s" % (within, what))
                return
            time.sleep(0.02)

    def until_serving(self, number):
        self.until_so(self.server(number).mode, "server %d serves" % number)

    def until_voting(self, number):
        """Serves as one that votes, and the votes of before count no more: while both do, a wiped disk and a death are one
        too many. A reconfig that changes nothing is done behind all that is under way."""
        self.until_so(lambda: self.server(number).mode() in ("leader", "follower"), "server %d votes" % number)
        self.until_so(lambda: self.members.answer(self.members.ask(self.members.operator(number), {}, [])),
                      "an empty reconfig at server %d is done" % number)

    def until_members(self):
        """Those that are meant to run are the members, and no others."""
        self.until_so(lambda: (config := self.config()) and sorted(config.roles) == sorted(self.ensemble.up),
                      "the members are %s" % sorted(self.ensemble.up))

    def until_written(self, number):
        self.until_so(lambda: self.write(number), "a write at server %d" % number)

    def write(self, number):
        """Whether a new client's write is done there; it is part of the history."""
        try:
            session = zk.Session(self.server(number).address, answer_s=3.0)
        except zk.Gone:
            return False
        self.logs.append(session.log)
        self.written += 1
        try:
            return session.call("create", "/rig/q0/q-", b"rig.%d" % self.written, zk.SEQUENTIAL)[0] == zk.OK
        except zk.Gone:
            return False
        finally:
            session.close()

    def reign(self):
        """Who leads, and in which epoch; None while nobody can say."""
        number = self.ensemble.leader()
        epoch = number and zk.epoch(self.server(number).address)
        return (number, epoch) if epoch else None

    def stays(self, reign):
        """Nobody's return has unseated who led before it."""
        if reign and (now := self.reign()) != reign:
            self.ensemble.wrong("server %d led in epoch %d, and after a return server %s in %s"
                                % (*reign, *(now or ("?", "?"))))

    def until_no_leader(self, number):
        """One that hears no majority ceases to lead by itself. On a busy machine that takes longer than it is meant to."""
        self.until_so(lambda: self.server(number).mode() != "leader", "server %d hears no majority and leads no more" % number,
                      2 * check.GIVES_UP_S)

    def reader(self, number):
        """A session there that lasts, even when nobody hears of it for long."""
        session = zk.Session(self.server(number).address, timeout_ms=40000, answer_s=1.0)
        self.logs.append(session.log)
        return session

    def reads_end(self, number, reader, seconds):
        """A client of a server that is cut off only reads, and takes its session up again when it is closed. It is answered
        at first, though nobody leads there, and not at all once the server may be behind by more than it may."""
        began, last, session = time.monotonic(), 0.0, reader
        limit = check.SYNC_LIMIT_S + check.GIVES_UP_S
        while time.monotonic() < began + seconds:
            self.ensemble.watch()
            try:
                if session is None:
                    session = zk.Session(reader.address, answer_s=1.0, session=(reader.id, reader.password))
                    self.logs.append(session.log)
                session.call("get", "/rig/q0", False)
                last = time.monotonic() - began
            except zk.Gone:
                if session is not None:
                    session.socket.close()
                session = None
            time.sleep(0.2)
        if session is not None:
            session.socket.close()
        if last < check.GIVES_UP_S:
            self.ensemble.wrong("server %d, cut off, answered its last read after %.1f s: without a leader it still serves"
                                % (number, last))
        if last > limit:
            self.ensemble.wrong("server %d, cut off, still answered a read after %.1f s: at most %d s" % (number, last, limit))

    def wipe(self, number):
        self.fault("wipe %d" % number)
        self.resume(number)
        self.server(number).kill()
        self.server(number).wipe()

    # ---- members ----

    def add(self, number, verb="serve"):
        """Starts one that was not there, for the members that are."""
        self.fault("%s %d" % (verb, number))
        self.server(number).configure()
        self.ensemble.up.append(number)
        self.server(number).start(verb)
        # What a server asks for itself is answered to no client.
        self.members.unsure |= verb == "join"

    def remove(self, number):
        """It is not needed any more."""
        self.ensemble.up.remove(number)
        self.server(number).kill()

    def leave(self, number):
        self.fault("leave %d" % number)
        self.ensemble.up.remove(number)
        self.server(number).leave()

    def config(self):
        """The newest one; None while nobody can say."""
        looks = (self.members.look(number) for number in self.shuffled())
        return next(filter(None, looks), None)

    def reconfigure(self, joining=None, leaving=(), meanwhile=None):
        """Asks for it, at anybody's, until it is so. `meanwhile` happens while the first answer is due."""
        joining = joining or {}
        self.fault("reconfig joining %r leaving %r" % (joining, leaving))
        ask = self.members.ask(self.members.operator(self.dice.choice(self.ensemble.up)), joining, leaving)
        if meanwhile:
            meanwhile()
        done = [self.members.answer(ask)]

        def is_so():
            config = None if done[0] else self.config()
            if done[0] or config and config.has(joining, leaving):
                return True
            if config:
                operator = self.members.operator(self.dice.choice(self.ensemble.up))
                done[0] = self.members.answer(self.members.ask(operator, joining, leaving))
            return False

        self.until_so(is_so, "a reconfig joining %r leaving %r is done" % (joining, leaving))

    def pause(self, number):
        self.fault("pause %d" % number)
        self.server(number).pause()
        if self.still_since is None and all(server.paused for server in self.ensemble.meant_to_run()):
            self.still_since = time.monotonic()

    def resume(self, number):
        self.runs_again()
        self.server(number).resume()

    def runs_again(self):
        """Before the first of them does: what is noted is never more than what was."""
        if self.still_since is not None:
            self.still.append(("still", self.still_since, time.monotonic()))
            self.still_since = None

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
        self.runs_again()
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
            if not server.running and server.number in self.ensemble.up:
                server.watch_end()
                server.start()
