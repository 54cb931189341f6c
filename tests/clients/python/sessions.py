"""What becomes of a session when its connection is cut, when nothing gets through, and when someone else ends it."""

import queue

from kazoo.client import KazooState
from kazoo.exceptions import NoAuthError
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry
from kazoo.security import make_digest_acl

from harness import HOSTS, KILLS, PATIENCE_S, case, fired, raises, same, until
from proxy import Proxy


def proxied(t, **options):
    """A client behind a proxy, and a queue of the states it went through."""
    proxy = Proxy(HOSTS)
    t.at_end(proxy.close)
    # Reconnects at once and without growing pauses, so that a case measures the server and not the client's patience.
    retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_jitter=0.0)
    client = t.client(hosts=proxy.address, connection_retry=retry, **options)
    states = queue.Queue()
    client.add_listener(states.put)
    return proxy, client, states


def next_state(states, want):
    got = states.get(timeout=PATIENCE_S)
    while KILLS and got != want and got != KazooState.LOST:
        # A kill has cut the connection too: it goes, and it comes back.
        got = states.get(timeout=PATIENCE_S)
    same(got, want, "state")


@case
def session_survives_a_cut(t):
    proxy, zk, states = proxied(t)
    before = zk.client_id
    zk.create(t.path + "/e", ephemeral=True)
    for _ in range(3):
        proxy.cut()
        next_state(states, KazooState.SUSPENDED)
        next_state(states, KazooState.CONNECTED)
        same(zk.retry(zk.exists, t.path + "/e").ephemeralOwner, before[0])
        same(zk.client_id, before, "session and password")


@case
def auth_is_given_again_after_a_cut(t):
    proxy, zk, states = proxied(t)
    zk.add_auth("digest", "anna:secret")
    zk.create(t.path + "/n", b"mine", acl=[make_digest_acl("anna", "secret", all=True)])
    proxy.cut()
    next_state(states, KazooState.SUSPENDED)
    next_state(states, KazooState.CONNECTED)
    same(zk.retry(zk.get, t.path + "/n")[0], b"mine")


@case
def watchers_catch_up_after_a_cut(t):
    proxy, zk, states = proxied(t)
    other = t.client()
    other.create(t.path + "/n", b"0")
    zk.sync(t.path)
    data, children = queue.Queue(), queue.Queue()
    zk.DataWatch(t.path + "/n", lambda value, stat: data.put(value))
    zk.ChildrenWatch(t.path, lambda names: children.put(sorted(names)))
    same((data.get(timeout=PATIENCE_S), children.get(timeout=PATIENCE_S)), (b"0", ["n"]))
    proxy.swallow()
    other.set(t.path + "/n", b"1")
    other.create(t.path + "/m")
    proxy.heal()
    same((data.get(timeout=PATIENCE_S), children.get(timeout=PATIENCE_S)), (b"1", ["m", "n"]))


@case
def a_second_client_takes_the_session_over(t):
    proxy, first, states = proxied(t)
    first.create(t.path + "/e", ephemeral=True)
    session = first.client_id
    # Nobody listens any more: the first client must not win its session back.
    proxy.close()
    next_state(states, KazooState.SUSPENDED)
    second = t.client(client_id=session)
    same(second.client_id, session, "session and password")
    same(second.exists(t.path + "/e").ephemeralOwner, session[0])


@case
def a_wrong_password_gets_a_new_session(t):
    # ZooKeeper cuts the rightful owner's connection before it looks at the password: ask for its id now.
    session = t.client().client_id[0]
    second = t.client(client_id=(session, b"wrong password!!"))
    got = until(lambda: second.connected and second.client_id, "a session")
    assert got[0] != session, "the wrong password opened the session"


@case
def session_closed_elsewhere_is_lost(t):
    proxy, zk, states = proxied(t)
    zk.create(t.path + "/e", ephemeral=True)
    session = zk.client_id
    proxy.swallow()
    thief = t.client(client_id=session)
    same(thief.client_id, session)
    thief.stop()
    other = t.client()
    same(other.exists(t.path + "/e"), None, "the ephemeral node went with the session")
    proxy.heal()
    next_state(states, KazooState.SUSPENDED)
    next_state(states, KazooState.LOST)
    next_state(states, KazooState.CONNECTED)
    assert zk.client_id[0] != session[0], "a new session"


@case
def session_expires_when_nothing_gets_through(t):
    # The server rounds up to its minimum, usually twice its tick.
    proxy, zk, states = proxied(t, timeout=1.0)
    other = t.client()
    zk.create(t.path + "/e", ephemeral=True)
    session = zk.client_id[0]
    gone = queue.Queue()
    other.sync(t.path)
    assert other.exists(t.path + "/e", watch=gone.put)
    proxy.swallow()
    # Empty: the session did not expire.
    same(fired(gone.get(timeout=30)).type, EventType.DELETED)
    same(other.exists(t.path + "/e"), None)
    proxy.heal()
    next_state(states, KazooState.SUSPENDED)
    next_state(states, KazooState.LOST)
    next_state(states, KazooState.CONNECTED)
    assert zk.client_id[0] != session, "a new session"
    zk.retry(zk.create, t.path + "/e", ephemeral=True)


@case
def idle_session_lives_by_pings(t):
    zk, other = t.client(timeout=1.0), t.client()
    zk.create(t.path + "/e", ephemeral=True)
    changed = queue.Queue()
    other.sync(t.path)
    other.exists(t.path + "/e", watch=changed.put)
    negotiated = zk._session_timeout / 1000.0
    try:
        event = fired(changed.get(timeout=min(negotiated * 1.6, 8.0)))
        raise AssertionError("an idle session with a live client expired: %r" % (event,))
    except queue.Empty:
        pass
    until(lambda: zk.connected or not KILLS, "the connection to come back")
    assert zk.connected


@case
def restart_makes_a_new_session(t):
    zk = t.client()
    session = zk.client_id
    zk.create(t.path + "/e", ephemeral=True)
    t.may_lose(zk)
    zk.restart()
    assert zk.client_id != session
    # It may have come to another server than the one that ended its session.
    zk.sync(t.path)
    same(zk.exists(t.path + "/e"), None)


@case
def strangers_stay_out_after_a_cut(t):
    proxy, zk, states = proxied(t)
    owner = t.client()
    owner.create(t.path + "/n", acl=[make_digest_acl("anna", "secret", all=True)])
    proxy.cut()
    next_state(states, KazooState.SUSPENDED)
    next_state(states, KazooState.CONNECTED)
    zk.retry(zk.sync, t.path)
    raises(NoAuthError, zk.retry, zk.get, t.path + "/n")
