"""The cases. Each one begins with servers of its own and says what ZooKeeper 3.9.5 does; ringkeeper does the same. Where
it need not, the case asks `lab.target.is_zookeeper`, and the reason stands beside it."""
import glob
import os
import subprocess

import wire
from servers import Failed, START_S, Target, Ensemble, four_letter, stays, until
from wire import Client, Event, Gone, Writer, OK

CASES = []
# What a change that only has to be noticed may take: a tick or two, and a slow machine.
SOON_S = 20
CONFIG_CHANGED = Event(3, 3, wire.CONFIG)


class Skip(Exception):
    """The case cannot run here; the text says why."""


def case(function):
    CASES.append((function.__name__, function))
    return function


def same(got, want, what):
    if got != want:
        raise Failed("%s: %r, not %r" % (what, got, want))


class Lab:
    """What one case started; all of it ends with the case."""

    def __init__(self, target: Target, directory, site):
        self.target, self.dir, self.site, self.ends = target, directory, site, []

    def ensemble(self, voters=3, spare=0, more=(), late=0):
        """Its first servers run, but the `late` last ones of them."""
        made = Ensemble(self.target, os.path.join(self.dir, "ensemble-%d" % len(self.ends)), voters, spare, more)
        self.ends.append(made.close)
        if late and not self.target.is_zookeeper:
            # Ringkeeper's first start needs every listed voter: it is the only way to know that none has a history.
            made.start(made.first)
            for server in made.first[voters - late:]:
                server.stop()
            return made
        return made.start(made.first[:voters - late])

    def unstarted(self):
        made = Ensemble(self.target, os.path.join(self.dir, "ensemble-%d" % len(self.ends)))
        self.ends.append(made.close)
        return made

    def standalone(self, more=()):
        made = Ensemble(self.target, os.path.join(self.dir, "alone-%d" % len(self.ends)), voters=1)
        self.ends.append(made.close)
        alone = made.server(1)
        alone.configure([], more)
        alone.start()
        alone.await_mode("standalone")
        return alone

    def client(self, server, superuser=True):
        client = Client(server.port, superuser)
        self.ends.append(client.close)
        return client

    def writer(self, server):
        writer = Writer(server.port)
        self.ends.append(writer.stop)
        return writer

    def close(self):
        # Last come, first gone: clients before their servers.
        for end in reversed(self.ends):
            end()


def text_of(servers, version, observers=()):
    """What /zookeeper/config holds for these members."""
    lines = [server.line("observer" if server in observers else "participant") for server in servers]
    return "\n".join(lines + ["version=%x" % version])


def is_config(config, servers, what, observers=()):
    """An answer that gives a config with these members, whose version is the zxid that made it. The order of the members
    is none that a client may rely on: a Java map's."""
    same(config.error, OK, what)
    *lines, version = config.text.split("\n")
    want = text_of(servers, config.stat.mzxid, observers).split("\n")
    same((sorted(lines), version), (sorted(want[:-1]), want[-1]), what)
    same(config.stat[4:], (-1, 0, -1, 0, len(config.text), 0, 0), what + ": its stat from version to pzxid")
    same((config.stat.czxid, config.stat.ctime), (0, 0), what + ": czxid ctime")


def is_new_config(config, servers, what, observers=()):
    """The answer to a reconfig that was done: its own zxid is the version."""
    is_config(config, servers, what, observers)
    same(config.stat.mzxid, config.zxid, what + ": mzxid and the zxid of the answer")


def without_mtime(config):
    """When a server gets a config other than by a change (at its start, or from a leader that it begins to follow),
    ZooKeeper puts its own clock into mtime."""
    return config.text, config.stat._replace(mtime=0)


def look(server, sync=False):
    """The config that a new client sees there; None while none is served."""
    try:
        client = Client(server.port)
    except Gone:
        return None
    try:
        if sync:
            client.sync()
        config = client.config()
        return config if config.error == OK else None
    except Gone:
        return None
    finally:
        client.close()


def shows(server, config, what):
    """A server comes to show just that config."""

    def reached():
        seen = look(server)
        return seen and without_mtime(seen) == without_mtime(config)

    until(reached, "%s at server %d" % (what, server.number), SOON_S)


def without_leader(lab, asked, leaving, rest):
    """The config after a change that ends the leader's reign. With it ZooKeeper's followers close their connections,
    mostly before the answer is out; then a client has to look what became of its wish."""
    try:
        answer = lab.client(asked).reconfig(leaving=",".join("%d" % server.number for server in leaving))
        same(answer.error, OK, "the answer, if there is one")
    except Gone:
        pass

    def reached():
        seen = look(asked, sync=True)
        return seen if seen and seen.text.count("server.") == len(rest) else None

    config = until(reached, "the new config at server %d" % asked.number, SOON_S)
    is_config(config, rest, "the new config")
    return config


def goes_on(writers, what, more=20):
    """All of them write so often again, and none of them has met an error."""
    goals = [writer.writes + more for writer in writers]

    def reached():
        for writer in writers:
            if writer.errors:
                raise Failed("%s: a writer met %s after %d writes" % (what, writer.errors[0], writer.writes))
        return all(writer.writes >= goal for writer, goal in zip(writers, goals))

    until(reached, what + ": writes go on", SOON_S)


def refuses_writes(servers, what, seconds=4):
    """They come to serve nobody, and stay so."""
    until(lambda: not any(server.mode() for server in servers), what + ": nobody serves", START_S)
    stays(lambda: not any(server.mode() or server.writes() for server in servers), what + ": nobody serves", seconds)


def is_up_without_vote(lab, server):
    """ZooKeeper calls one that is no member, or no longer, a follower. Ringkeeper may call it an observer, which it is."""
    server.await_mode("follower", *([] if lab.target.is_zookeeper else ["observer"]))


@case
def config_text(lab):
    ensemble = lab.ensemble()
    configs = [lab.client(server, superuser=False).config() for server in ensemble.first]
    for server, config in zip(ensemble.first, configs):
        is_config(config, ensemble.first, "the config at server %d" % server.number)
        # Sorted here, though no client may rely on it.
        same(config.text, text_of(ensemble.first, config.stat.mzxid), "its text")
        # The first leader gives it the zxid of its epoch's beginning.
        epoch, counter = divmod(config.stat.mzxid, 1 << 32)
        same((epoch > 0, counter), (True, 0), "has its version an epoch, and the counter of it")
        same(without_mtime(config), without_mtime(configs[0]), "its text and stat, as server 1 has them")
    client = lab.client(ensemble.server(1), superuser=False)
    same(client.set(wire.CONFIG), wire.NO_AUTH, "a write to it without rights")


@case
def disabled(lab):
    ensemble = lab.ensemble(more=["reconfigEnabled=false"])
    for superuser in (False, True):
        client = lab.client(ensemble.server(2), superuser)
        for what in (dict(leaving="1"), dict(leaving="x"), dict(joining="junk"), dict(leaving="1", version=5)):
            same(client.reconfig(**what).error, wire.DISABLED, "reconfig of %r" % what)
    is_config(client.config(), ensemble.first, "the config")
    alone = lab.client(lab.standalone(["reconfigEnabled=false"]))
    same(alone.reconfig(leaving="9").error, wire.DISABLED, "reconfig alone")


@case
def refused(lab):
    ensemble = lab.ensemble(spare=1)
    fourth = ensemble.server(4).line()
    before = lab.client(ensemble.server(2)).config()
    for server in ensemble.first[:2]:  # one of them may lead, not both
        world = lab.client(server, superuser=False)
        root = lab.client(server)
        # Rights are asked for last, a version first.
        for what, error in [
            (dict(joining=fourth), wire.NO_AUTH),
            (dict(leaving="1"), wire.NO_AUTH),
            (dict(leaving="99"), wire.NO_AUTH),
            (dict(leaving=""), wire.NO_AUTH),
            (dict(), wire.NO_AUTH),
            # Ringkeeper looks whether a majority is there only for who has the rights to ask for it.
            (dict(members=fourth), wire.NO_QUORUM if lab.target.is_zookeeper else wire.NO_AUTH),
            (dict(joining=fourth, version=before.stat.mzxid), wire.NO_AUTH),
        ]:
            same(world.reconfig(**what).error, error, "the world's reconfig of %r" % what)
        for client in (world, root):
            for what, error in [
                (dict(joining=fourth, version=5), wire.BAD_VERSION),
                (dict(joining=fourth, version=0), wire.BAD_VERSION),
                (dict(joining="junk", version=5), wire.BAD_VERSION),
                (dict(leaving="x", version=5), wire.BAD_VERSION),
                (dict(joining="junk"), wire.BAD_ARGUMENTS),
                (dict(joining="server.4=junk"), wire.BAD_ARGUMENTS),
                (dict(joining="server.4=127.0.0.1:1;3"), wire.BAD_ARGUMENTS),
                (dict(joining="server.4=127.0.0.1:a:2;3"), wire.BAD_ARGUMENTS),
                (dict(joining="server.4=127.0.0.1:1:2:boss;3"), wire.BAD_ARGUMENTS),
                # A client's port is asked for here, as it is not in zoo.cfg.
                (dict(joining="server.4=127.0.0.1:1:2"), wire.BAD_ARGUMENTS),
                (dict(members="junk"), wire.BAD_ARGUMENTS),
                (dict(leaving="1,2,3"), wire.BAD_ARGUMENTS),
                # What is no number, or none of a port, ends in a Java exception that no error code is made for.
                (dict(joining="server.x=127.0.0.1:1:2;3"), wire.MARSHALLING),
                (dict(joining="server.4=127.0.0.1:70000:2;3"), wire.MARSHALLING),
                (dict(leaving="x"), wire.MARSHALLING),
                (dict(leaving="1,x"), wire.MARSHALLING),
                # With standaloneEnabled=true it is -8, with ringkeeper always: ZooKeeper counts members elsewhere then.
                (dict(members=""), wire.MARSHALLING if lab.target.is_zookeeper else wire.BAD_ARGUMENTS),
            ]:
                same(client.reconfig(**what).error, error, "reconfig of %r" % what)
    same(root.config()[:3], before[:3], "the config after all that")
    # Nothing to do is done, and is a new version.
    for what in (dict(leaving="99"), dict(leaving=""), dict(joining=""), dict()):
        after = root.reconfig(version=before.stat.mzxid, **what)
        is_new_config(after, ensemble.first, "reconfig of %r" % what)
        same(after.stat.mzxid > before.stat.mzxid, True, "its version grows")
        before = after
    alone = lab.client(lab.standalone())
    same(alone.reconfig(joining=fourth).error, wire.UNIMPLEMENTED, "reconfig alone")
    same(alone.reconfig(leaving="x", version=5).error, wire.UNIMPLEMENTED, "a bad reconfig alone")
    config = alone.config()
    same((config.error, config.text), (OK, ""), "the config of a standalone server")


@case
def add(lab):
    ensemble = lab.ensemble(spare=1)
    fourth, three = ensemble.server(4), ensemble.first
    client = lab.client(three[0])
    before = client.config()
    writers = [lab.writer(server) for server in three]
    fourth.start()
    is_up_without_vote(lab, fourth)
    at_fourth = lab.client(fourth)
    same(at_fourth.config().text, before.text, "what the fourth shows before it is a member")
    same(at_fourth.create("/by-the-fourth"), OK, "a write through the fourth")

    watchers = [lab.client(server, superuser=False) for server in ensemble.servers]
    for watcher in watchers:
        watcher.config(watch=True)
    after = client.reconfig(joining=fourth.line())
    is_new_config(after, ensemble.servers, "the answer")
    same(after.stat.mzxid > before.stat.mzxid, True, "the version grows")
    same(client.config()[:3], after[:3], "the node, to who asked for the change")
    for server in ensemble.servers:
        shows(server, after, "the new config")
    for watcher in watchers:
        same(watcher.next_event(SOON_S), CONFIG_CHANGED, "the watch")
    fourth.await_mode("follower")
    for server in ensemble.servers:
        until(lambda at=server: four_letter(at.port, "conf").endswith("membership: \n" + after.text), "conf says so", SOON_S)
    goes_on(writers + [lab.writer(fourth)], "with four members")

    again = client.reconfig(leaving="4")
    is_new_config(again, three, "the answer to its removal")
    for server, watcher in zip(three, watchers):
        shows(server, again, "the old members")
        watcher.sync()
        same(watcher.events, [], "a watch that has fired once")
    goes_on(writers, "with three members again")


@case
def add_absent(lab):
    ensemble = lab.ensemble(spare=3, late=1)
    late, absent = ensemble.server(3), ensemble.servers[3:]
    client = lab.client(ensemble.server(1))
    before = client.config()
    # Two of four are no majority, nor are three of six. Ringkeeper may wait a while for more of them to come. (A member
    # that ran and was lost a moment ago would not do: until its leader has noticed, ZooKeeper takes it for one that is
    # there, proposes the change, and in the end its leader falls.)
    same(client.reconfig(joining=absent[0].line()).error, wire.NO_QUORUM, "one who does not run, while another is away")
    late.start()
    late.await_mode("follower")
    writers = [lab.writer(server) for server in ensemble.first]
    joining = ",".join(server.line() for server in absent)
    same(client.reconfig(joining=joining).error, wire.NO_QUORUM, "three who do not run")
    same(client.config()[:3], before[:3], "the config after that")
    if not lab.target.is_zookeeper:
        why = "missing: " + ", ".join(str(server.number) for server in absent)
        # A server's log is written behind what it answers.
        said = lambda: [server.has_logged(why) for server in ensemble.first].count(True)
        until(said, "a log that says %r" % why, SOON_S)
        same(said(), 1, "the logs that say %r" % why)
        same(client.reconfig(joining="junk").error, wire.BAD_ARGUMENTS, "a line that is none")
        until(lambda: ensemble.server(1).has_logged("expected server.N=host"), "the client's server says what is wrong", SOON_S)
    goes_on(writers, "after a refusal")
    # Three of four are one, whoever the fourth is; and of who has no vote nobody asks whether they run.
    last, watchers = absent[2], absent[:2]
    after = client.reconfig(joining=last.line())
    is_new_config(after, ensemble.first + [last], "one who does not run")
    members = ensemble.servers
    after = client.reconfig(joining=",".join(server.line("observer") for server in watchers))
    is_new_config(after, members, "two observers who do not run", observers=watchers)
    goes_on(writers, "with absent members")
    # A member that comes late finds itself one, though its own file tells of other members.
    watchers[0].start()
    watchers[0].await_mode("observer")
    last.start()
    last.await_mode("follower")
    shows(last, after, "the config that names it")
    goes_on(writers, "with all of them")


@case
def remove_follower(lab):
    ensemble = lab.ensemble()
    gone, other = ensemble.followers()
    rest = [server for server in ensemble.first if server is not gone]
    writers = [lab.writer(server) for server in rest]
    client = lab.client(other)
    after = client.reconfig(leaving="%d" % gone.number)
    is_new_config(after, rest, "the answer")
    # It stays attached: it serves, and shows the config that it is not in.
    is_up_without_vote(lab, gone)
    shows(gone, after, "the new config")
    gone.await_writes()
    goes_on(writers, "after the removal")
    gone.kill()
    goes_on(writers, "after the removed one's end", more=50)


@case
def remove_leader(lab):
    ensemble = lab.ensemble()
    gone = ensemble.leader()
    rest = ensemble.followers()
    after = without_leader(lab, rest[0], [gone], rest)
    ensemble.leader(among=rest)
    for server in rest:
        server.await_writes()
        shows(server, after, "the new config")
    is_up_without_vote(lab, gone)
    gone.await_writes()
    writers = [lab.writer(server) for server in rest]
    gone.kill()
    goes_on(writers, "after the old leader's end", more=50)


@case
def remove_two(lab):
    """Two of five could not go on; two of the three that are left can."""
    ensemble = lab.ensemble(voters=5)
    leader, followers = ensemble.leader(), ensemble.followers()
    gone, rest = [leader, followers[0]], followers[1:]
    after = without_leader(lab, rest[0], gone, rest)
    new_leader = ensemble.leader(among=rest)
    for server in gone:
        server.kill()
    # The one whose end asks most of the others.
    new_leader.kill()
    rest.remove(new_leader)
    ensemble.leader(among=rest)
    for server in rest:
        server.await_writes()
        shows(server, after, "the new config")


@case
def role_change(lab):
    ensemble = lab.ensemble()
    changed, other = ensemble.followers()
    rest = [server for server in ensemble.first if server is not changed]
    client = lab.client(other)
    writers = [lab.writer(server) for server in rest]
    after = client.reconfig(joining=changed.line("observer"))
    is_new_config(after, ensemble.first, "the answer", observers=[changed])
    changed.await_mode("observer", seconds=SOON_S)
    shows(changed, after, "the new config")
    changed.await_writes()
    # It has no vote: its end takes nothing from the two that have. Its own file, which may still call it a participant,
    # is not what counts when it comes back.
    changed.kill()
    goes_on(writers, "without the observer")
    changed.start()
    changed.await_mode("observer")
    after = client.reconfig(joining=changed.line())
    is_new_config(after, ensemble.first, "the answer")
    changed.await_mode("follower", "leader", seconds=SOON_S)
    goes_on(writers, "with three voters")
    # And it has a vote again: without it and another one there is no majority.
    other.kill()
    changed.await_writes()
    shows(changed, after, "the new config")
    changed.kill()
    refuses_writes([server for server in rest if server is not other], "one of three voters")


@case
def bulk(lab):
    ensemble = lab.ensemble(spare=1)
    three = ensemble.first
    changed, other = ensemble.followers()
    client = lab.client(other)
    lines = [server.line("observer" if server is changed else "participant") for server in three]
    first = client.reconfig(members=",".join(lines))
    is_new_config(first, three, "a list with commas", observers=[changed])
    changed.await_mode("observer", seconds=SOON_S)
    same(client.reconfig(members="\n".join(lines), version=1).error, wire.BAD_VERSION, "a list for another version")
    # Newlines, in any order, a version that is right; and what the list does not name leaves.
    kept = [server for server in three if server is not changed]
    lines = [server.line() for server in reversed(kept)]
    second = client.reconfig(members="\n".join(lines), version=first.stat.mzxid)
    is_new_config(second, kept, "a list with newlines")
    third = client.reconfig(members="\n".join(server.line() for server in three) + "\n")
    is_new_config(third, three, "all three again")
    changed.await_mode("follower", "leader", seconds=SOON_S)
    for server in three:
        shows(server, third, "the new config")
        server.await_writes()
    four = ",".join(server.line() for server in ensemble.servers)
    same(client.reconfig(members=four.replace("server.1=", "server.x=")).error, wire.MARSHALLING, "a list with a bad id")
    same(client.reconfig(members=four, joining="junk").error, OK, "where there is a list, nothing else is read")


@case
def in_order(lab):
    """Changes that meet: each one is done whole or refused, and what is there at the end is what the last one answered."""
    ensemble = lab.ensemble(spare=2)
    three, spares = ensemble.first, ensemble.servers[3:]
    # Observers need not run, so that nothing but their order decides.
    lines = [server.line("observer") for server in spares]
    clients = [lab.client(server) for server in ensemble.followers()]

    def check(answers, asked):
        done = []
        for answer, server in zip(answers, asked):
            same(answer.error in (OK, wire.IN_PROGRESS), True, "done or refused: %d" % answer.error)
            if answer.error == OK:
                done.append((answer, server))
        same(bool(done), True, "one of them is done")
        members = list(three)
        for answer, server in sorted(done, key=lambda one: one[0].zxid):
            members.append(server)
            is_new_config(answer, members, "the answer", observers=spares)
            last = answer
        for server in three:
            shows(server, last, "the last one's config")
        same(clients[0].reconfig(leaving="4,5").error, OK, "the way back")

    for _ in range(5):
        clients[0].sync()
        # One client that does not wait for its first answer.
        sent = [clients[0].send_reconfig(joining=line) for line in lines]
        check([wire.read_config(clients[0].receive(xid)) for xid in sent], spares)
        # Two clients at two servers at once.
        sent = [client.send_reconfig(joining=line) for client, line in zip(clients, lines)]
        check([wire.read_config(client.receive(xid)) for client, xid in zip(clients, sent)], spares)
        # Of two who ask for the same version one at most is done.
        version = clients[0].reconfig().stat.mzxid
        sent = [client.send_reconfig(joining=line, version=version) for client, line in zip(clients, lines)]
        answers = [wire.read_config(client.receive(xid)) for client, xid in zip(clients, sent)]
        errors = sorted(answer.error for answer in answers)
        same(errors in ([wire.BAD_VERSION, OK], [wire.IN_PROGRESS, OK]), True, "one done, one refused: %r" % errors)
        same(clients[0].reconfig(leaving="4,5").error, OK, "the way back")


@case
def pipelined(lab):
    """Two reconfigs and a write at once on one connection, and again behind a sync: each is answered, in order."""
    ensemble = lab.ensemble()
    for number, server in enumerate(ensemble.first):
        for behind_sync in (False, True):
            client = lab.client(server)
            sent = [client.send_sync()] if behind_sync else []
            sent += [client.send_reconfig(), client.send_reconfig(), client.send_create("/%d-%s" % (number, behind_sync))]
            errors = [client.receive(xid).error for xid in sent]
            same(errors[-1], OK, "the write behind them")
            same([error in (OK, wire.IN_PROGRESS) for error in errors], [True] * len(errors), "answers %r" % errors)
        same(server.running, True, "server %d runs" % server.number)


@case
def strange_hosts(lab):
    """Lines that are not read again as they were written: each server keeps them, so they would part them, or worse. A
    ZooKeeper 3.9.5 takes them, and its leader falls."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble()
    client = lab.client(ensemble.server(1))
    before = client.config()
    for host in ("a\nserver.1=evil", "[[x]", "[ x]", "a b", "[a\0b]"):
        error = client.reconfig(joining="server.4=a:1:2:observer;%s:3" % host).error
        same(error, wire.BAD_ARGUMENTS, "a client's host %r" % host)
    same(client.config()[:3], before[:3], "the config after them")


@case
def restart(lab):
    ensemble = lab.ensemble(spare=1)
    fourth = ensemble.server(4)
    fourth.start()
    is_up_without_vote(lab, fourth)
    after = lab.client(ensemble.server(1)).reconfig(joining=fourth.line())
    is_new_config(after, ensemble.servers, "the answer")
    fourth.await_mode("follower")
    for server in ensemble.servers:
        shows(server, after, "the new config")
    for server in ensemble.servers:
        server.stop()
    for server in ensemble.servers:
        # The operator's file as it was: what the ensemble agreed on counts, not the file. ZooKeeper has rewritten it,
        # and keeps what was agreed on beside it.
        if not lab.target.is_zookeeper:
            server.write_original()
        server.start()
    for server in ensemble.servers:
        server.await_mode("leader", "follower")
    for server in ensemble.servers:
        config = lab.client(server).config()
        is_config(config, ensemble.servers, "the config after the restart at server %d" % server.number)
        same(config.text, after.text, "its text and version")
        server.await_writes()
    # Did the fourth have no vote, two of three would be left.
    other = ensemble.followers()[0]
    rest = [server for server in ensemble.first if server is not other]
    fourth.kill()
    other.kill()
    refuses_writes(rest, "two of four voters")
    fourth.start()
    for server in rest + [fourth]:
        server.await_writes()


@case
def wiped_one(lab):
    """ZooKeeper forgets a promise here that it may have given; ringkeeper has to know better, and to come back alone."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble()
    wiped, other = ensemble.followers()
    rest = [server for server in ensemble.first if server is not wiped]
    before = lab.client(other)
    same(before.create("/before", b"kept"), OK, "a write before")
    config = before.config()
    writers = [lab.writer(server) for server in rest]
    wiped.kill()
    wiped.wipe()
    goes_on(writers, "without the wiped one")
    wiped.start()
    wiped.await_mode("leader", "follower")
    client = lab.client(wiped)
    same((client.sync(), client.exists("/before")), (OK, OK), "what was there before, at the wiped one")
    shows(wiped, config, "the config, or the same one")
    goes_on(writers, "with the wiped one back")
    until(lambda: all(server.has_logged("this member came with a new data directory") for server in rest), "the others' logs tell of it", SOON_S)
    # A full voter again: it is half of a majority.
    other.kill()
    left = [server for server in ensemble.first if server is not other]
    ensemble.leader(among=left)
    for server in left:
        server.await_writes()
        same(lab.client(server).exists("/before"), OK, "what was there before")


@case
def wiped_two(lab):
    """A majority without a memory is none: nobody can say what was promised, and two histories would be worse."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble()
    wiped = ensemble.followers()
    third = ensemble.leader()
    same(lab.client(third).create("/before", b"kept"), OK, "a write before")
    for server in wiped:
        server.kill()
        server.wipe()
    refuses_writes([third], "one of three", seconds=1)
    for server in wiped:
        server.start()
    stays(lambda: not any(server.mode() or server.writes() for server in ensemble.first), "nobody serves", 6)
    # The two alone are no better.
    third.kill()
    stays(lambda: not any(server.mode() or server.writes() for server in wiped), "the two wiped ones serve nobody", 6)
    for server in wiped:
        same(server.running, True, "server %d runs" % server.number)


def run(lab, *words):
    """A command of ringkeeper's that ends by itself: its exit code and all that it said."""
    done = subprocess.run([lab.target.binary, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


@case
def join_and_leave(lab):
    """As a pod comes and goes: `join` instead of `serve`, `leave` before the stop. No client, no rights, no reconfigEnabled."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble(spare=1, more=["reconfigEnabled=false"])
    fourth = ensemble.server(4)
    writers = [lab.writer(server) for server in ensemble.first]
    for _ in range(2):  # the second time it is a member already
        fourth.start("join")
        fourth.await_mode("follower")
        config = until(lambda: look(ensemble.server(1)).text.count("server.4=") and look(ensemble.server(1)), "four members", 20)
        is_config(config, ensemble.servers, "the config with the fourth")
        fourth.stop()
    fourth.start("join")
    fourth.await_mode("follower", "leader")
    goes_on(writers, "with a fourth")
    same(run(lab, "leave", fourth.cfg), (0, ""), "it leaves")
    same(fourth.process.wait(10), 0, "its process has ended by itself")
    goes_on(writers, "without the fourth")
    is_config(look(ensemble.server(1)), ensemble.first, "the config without it")
    code, said = run(lab, "leave", fourth.cfg)
    same((code, "no server is running on it" in said), (71, True), "nobody leaves twice: %s" % said)
    # Back at once, on the same directory: what it remembers is older than its leaving.
    fourth.start("join")
    fourth.await_mode("follower", "leader")
    same(run(lab, "leave", fourth.cfg), (0, ""), "it leaves again")
    same(fourth.process.wait(10), 0, "its process has ended again")
    is_config(look(ensemble.server(1)), ensemble.first, "the config without it again")
    # A leader leaves too.
    leader = ensemble.leader(among=ensemble.first)
    rest = [server for server in ensemble.first if server is not leader]
    same(run(lab, "leave", leader.cfg)[0], 0, "the leader leaves")
    for server in rest:
        server.await_writes()
    is_config(look(rest[0]), rest, "the config of the two")
    # And the last but one; the last one stays.
    same(run(lab, "leave", rest[0].cfg)[0], 0, "one of two leaves")
    rest[1].await_writes()
    same(run(lab, "leave", "--timeout", "2", rest[1].cfg)[0], 75, "the last one does not")
    rest[1].await_writes()


@case
def recovered(lab):
    """Two of three are lost for ever: the third one's data begins a new ensemble, by a command that says so."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble()
    lost, left = ensemble.followers(), ensemble.leader()
    same(lab.client(left).create("/before", b"kept"), OK, "a write before")
    made = left.data + ".new"
    code, said = run(lab, "recover", left.data, made)
    same((code, "is running on it" in said), (71, True), "while it runs: %s" % said)
    for server in lost:
        server.kill()
        server.wipe()
    left.kill()
    same(run(lab, "recover", left.data, left.data)[0], 78, "into itself")
    code, said = run(lab, "recover", left.data, made)
    same((code, "votes alone" in said), (0, True), said)
    same(run(lab, "verify", left.data)[0], 0, "the old directory is as it was")
    old, left.data = left.data, made
    left.write_myid()
    left.original = left.original.replace("dataDir=" + old + "\n", "dataDir=" + made + "\n")
    left.write_original()
    left.start()
    left.await_mode("leader")
    same(lab.client(left).exists("/before"), OK, "what was there before")
    left.await_writes()
    for server in lost:
        server.start()
        server.await_mode("follower")
        same((lab.client(server).sync(), lab.client(server).exists("/before")), (OK, OK), "at one that came back")
    # All three vote again.
    until(lambda: "server.3" in look(left).text, "the lines", 20)
    left.kill()
    ensemble.leader(among=lost)
    for server in lost:
        server.await_writes()


@case
def recovered_from_one_that_left(lab):
    """The only data left is that of a server that had left: it begins the new ensemble as a member, and stays one."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.ensemble()
    left, *lost = reversed(ensemble.first)
    same(lab.client(left).create("/before", b"kept"), OK, "a write before")
    same(run(lab, "leave", left.cfg)[0], 0, "it leaves")
    until(lambda: not left.running, "its end", SOON_S)
    for server in lost:
        server.kill()
        server.wipe()
    made = left.data + ".new"
    code, said = run(lab, "recover", left.data, made)
    same((code, "had left" in said), (0, True), said)
    left.original = left.original.replace("dataDir=" + left.data + "\n", "dataDir=" + made + "\n")
    left.data = made
    left.write_myid()
    left.write_original()
    left.start()
    left.await_mode("leader")
    for server in lost:
        server.write_original()
        server.start()
        server.await_mode("follower")
        same((lab.client(server).sync(), lab.client(server).exists("/before")), (OK, OK), "at one that came")
    lines = until(lambda: all("server.%d" % n in look(left).text for n in (1, 2, 3)), "all three in the lines", 20)
    same(lines, True, "the lines")
    # It votes: one of the others may go.
    lost[0].kill()
    left.await_writes()


def grow(lab, ensemble, path):
    """The first server, which has run alone and was stopped, and two with empty disks become three, and have its znode."""
    first, *others = ensemble.first
    for server in ensemble.first:
        server.configure(ensemble.first)
        server.start()
    for server in ensemble.first:
        server.await_mode("leader", "follower")
        client = lab.client(server)
        same((client.sync(), client.exists(path)), (OK, OK), "what was there before, at server %d" % server.number)
    first.kill()
    ensemble.leader(among=others)
    for server in others:
        server.await_writes()


def ran_alone(lab, writes, more=()):
    """An ensemble of whose servers one has run alone, and written so often."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.unstarted()
    first = ensemble.server(1)
    first.configure([], list(more))
    first.start()
    first.await_mode("standalone")
    client = lab.client(first)
    for number in range(writes):
        same(client.create("/before-%d" % number, b"kept"), OK, "a write before")
    return ensemble


@case
def alone_grows(lab):
    """A server that ran alone becomes three: its configuration gets server lines, the others come with empty disks."""
    ensemble = ran_alone(lab, 1)
    ensemble.server(1).stop()
    grow(lab, ensemble, "/before-0")


@case
def alone_grows_behind_a_snapshot(lab):
    """The same where the log of its time alone lies behind a snapshot, which names no members. The newcomers ended at it."""
    ensemble = ran_alone(lab, 60, ["snapCount=20"])
    snapshots = os.path.join(ensemble.server(1).data, "snapshot")
    until(lambda: [name for name in os.listdir(snapshots) if name.endswith(".snap")], "a snapshot", SOON_S)
    ensemble.server(1).stop()
    grow(lab, ensemble, "/before-59")


@case
def alone_grows_with_a_long_log(lab):
    """The same where its log is longer than what it keeps the places of, and no snapshot was due. Nothing was ever sent to the others."""
    ensemble = ran_alone(lab, 2200)
    ensemble.server(1).stop()
    grow(lab, ensemble, "/before-2199")


@case
def old_lines(lab):
    """Their configurations are from before the ensemble grew. Wiped, all that they list is new: the others know better."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = Ensemble(lab.target, os.path.join(lab.dir, "grown"), voters=2, spare=3)
    lab.ends.append(ensemble.close)
    ensemble.start(ensemble.first)
    same(lab.client(ensemble.server(1)).create("/before", b"kept"), OK, "a write before")
    later = ensemble.servers[2:]
    for server in later:
        server.start("join")
        server.await_mode("follower")
    for server in ensemble.first:
        server.kill()
        server.wipe()
    later[0].await_writes()
    for server in ensemble.first:
        server.start()
    for server in ensemble.first:
        server.await_mode("follower", "leader")
        client = lab.client(server)
        same((client.sync(), client.exists("/before")), (OK, OK), "what was there before, at server %d" % server.number)
    same(sum(server.mode() == "leader" for server in ensemble.servers), 1, "leaders")


@case
def kazoo_client(lab):
    """Kazoo's own reconfig, unmodified, as its users call it."""
    ensemble = lab.ensemble(spare=1)
    fourth = ensemble.server(4)
    lines = [server.line() for server in ensemble.first]
    script = r"""
import sys
from kazoo import exceptions
from kazoo.client import KazooClient
host, fourth, *lines = sys.argv[1:]
client = KazooClient(hosts=host, auth_data=[("digest", "%s")])
client.start()
def expect(error, **what):
    try:
        client.reconfig(**what)
    except error:
        return
    raise SystemExit("no %%s for %%r" %% (error.__name__, what))
changes = []
client.get("/zookeeper/config", watch=changes.append)
nothing = dict(joining=None, leaving=None, new_members=None)
expect(exceptions.BadVersionError, **dict(nothing, leaving="4", from_config=7))
expect(exceptions.BadArgumentsError, **dict(nothing, joining="junk"))
data, stat = client.reconfig(joining=fourth, leaving=None, new_members=None)
assert fourth in data.decode().split("\n"), data
assert data.decode().endswith("version=%%x" %% stat.mzxid), (data, stat)
assert client.get("/zookeeper/config")[0] == data
data, stat = client.reconfig(joining=None, leaving="4", new_members=None, from_config=stat.mzxid)
assert fourth not in data.decode().split("\n"), data
data, stat = client.reconfig(joining=None, leaving=None, new_members=",".join(lines))
assert sorted(data.decode().split("\n"))[:-1] == lines, data
assert [change.type for change in changes] == ["CHANGED"], changes
client.stop()
client = KazooClient(hosts=host)
client.start()
expect(exceptions.NoAuthError, **dict(nothing, leaving="4"))
client.stop()
""" % wire.SUPER
    path = os.path.join(lab.dir, "with_kazoo.py")
    with open(path, "w") as file:
        file.write(script)
    address = "127.0.0.1:%d" % ensemble.followers()[0].port
    done = subprocess.run(["python3", "-B", path, address, fourth.line("observer"), *lines], timeout=60, text=True,
                          env=dict(os.environ, PYTHONPATH=lab.site()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    same((done.returncode, done.stdout[-600:] if done.returncode else ""), (0, ""), "kazoo's script")


@case
def java_client(lab):
    """ZooKeeper's own shell, the one that zkCli.sh starts."""
    home = lab.target.home
    # Maven's jars of a server lack the one that the shell parses its options with; Debian's Maven has it.
    options = sorted(glob.glob(os.path.join(home, "commons-cli*.jar")) + glob.glob("/usr/share/java/commons-cli*.jar"))
    if not glob.glob(os.path.join(home, "zookeeper-3*.jar")) or not options:
        raise Skip("no ZooKeeper jars in %s, or no commons-cli.jar" % home)
    ensemble = lab.ensemble(spare=1)
    fourth, client = ensemble.server(4), lab.client(ensemble.first[0])

    def shell(*lines):
        command = ["java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", home + "/*:" + options[0],
                   "-Dlogback.configurationFile=" + os.path.join(ensemble.server(1).dir, "logback.xml"),
                   "org.apache.zookeeper.ZooKeeperMain", "-server", "127.0.0.1:%d" % ensemble.followers()[0].port]
        done = subprocess.run(command, input="\n".join(lines + ("quit", "")), timeout=60, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout

    def has(output, what):
        if what not in output:
            raise Failed("the shell does not say %r: %s" % (what, output[-1500:]))

    super_user = "addauth digest " + wire.SUPER
    has(shell("config"), client.config().text)
    has(shell("reconfig -remove 3"), "Insufficient permission")
    has(shell(super_user, "reconfig -add " + fourth.line("observer")), "Committed new configuration:\n")
    after = client.config()
    is_config(after, ensemble.servers, "the config after -add", observers=[fourth])
    has(shell(super_user, "reconfig -v 5 -remove 4", "reconfig -v %x -remove 4" % after.stat.mzxid), "version=")
    is_config(client.config(), ensemble.first, "the config after -remove")
    members = ",".join(server.line() for server in ensemble.first) + "," + fourth.line("observer")
    has(shell(super_user, "reconfig -members " + members), client.config().text.split("\n")[0])
    is_config(client.config(), ensemble.servers, "the config after -members", observers=[fourth])
