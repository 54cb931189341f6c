"""One-shot watches, and Kazoo's watchers that re-register themselves."""

import queue

from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, KeeperState

from harness import PATIENCE_S, case, fired, raises, same, silent, until


def events_of(read, *args, **options):
    """Calls a read with a watch; returns a queue of its events."""
    events = queue.Queue()
    read(*args, watch=events.put, **options)
    return events


def next_of(events, kind, path):
    event = fired(events.get(timeout=PATIENCE_S))
    same((event.type, event.state, event.path), (kind, KeeperState.CONNECTED, path))


@case
def watch_data_changed_and_deleted(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/n")
    events = events_of(zk.get, t.path + "/n")
    other.set(t.path + "/n", b"1")
    next_of(events, EventType.CHANGED, t.path + "/n")
    other.set(t.path + "/n", b"2")
    zk.sync(t.path)
    events = events_of(zk.get, t.path + "/n")
    other.delete(t.path + "/n")
    next_of(events, EventType.DELETED, t.path + "/n")


@case
def watch_fires_once(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/n")
    events = events_of(zk.get, t.path + "/n")
    for i in range(5):
        other.set(t.path + "/n", b"%d" % i)
    next_of(events, EventType.CHANGED, t.path + "/n")
    # A later event on the same connection shows that nothing else was on its way.
    last = events_of(zk.exists, t.path + "/marker")
    other.create(t.path + "/marker")
    next_of(last, EventType.CREATED, t.path + "/marker")
    silent(events, "a one-shot watch fired twice")


@case
def watch_exists_on_a_missing_node(t):
    zk, other = t.client(), t.client()
    events = events_of(zk.exists, t.path + "/n")
    other.create(t.path + "/n")
    next_of(events, EventType.CREATED, t.path + "/n")


@case
def watch_children(t):
    zk, other = t.client(), t.client()
    events = events_of(zk.get_children, t.path)
    other.create(t.path + "/a")
    next_of(events, EventType.CHILD, t.path)
    events = events_of(zk.get_children, t.path, include_data=True)
    other.set(t.path + "/a", b"not a change of the list")
    other.delete(t.path + "/a")
    next_of(events, EventType.CHILD, t.path)
    same(zk.get_children(t.path), [])


@case
def watch_of_a_failed_read_is_not_left(t):
    zk, other = t.client(), t.client()
    events = queue.Queue()
    raises(NoNodeError, zk.get, t.path + "/n", watch=events.put)
    raises(NoNodeError, zk.get_children, t.path + "/n", watch=events.put)
    marker = events_of(zk.exists, t.path + "/marker")
    other.create(t.path + "/n")
    other.create(t.path + "/marker")
    next_of(marker, EventType.CREATED, t.path + "/marker")
    silent(events, "a failed read left a watch")


@case
def watch_set_again_and_again(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/n", b"0")
    for i in range(1, 51):
        events = events_of(zk.get, t.path + "/n")
        other.set(t.path + "/n", b"%d" % i)
        next_of(events, EventType.CHANGED, t.path + "/n")
        # Who heard of a change sees it: no reply after the event may show the state before.
        same(zk.get(t.path + "/n")[0], b"%d" % i)


@case
def watch_ephemeral_of_a_closed_session(t):
    zk, other = t.client(), t.client()
    other.create(t.path + "/e", ephemeral=True)
    zk.sync(t.path)
    node, children = events_of(zk.exists, t.path + "/e"), events_of(zk.get_children, t.path)
    other.stop()
    next_of(node, EventType.DELETED, t.path + "/e")
    next_of(children, EventType.CHILD, t.path)


@case
def watch_transaction_fires_for_each_op(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/a")
    data, missing = events_of(zk.get, t.path + "/a"), events_of(zk.exists, t.path + "/b")
    children = events_of(zk.get_children, t.path)
    tx = other.transaction()
    tx.set_data(t.path + "/a", b"1")
    tx.create(t.path + "/b")
    tx.commit()
    next_of(data, EventType.CHANGED, t.path + "/a")
    next_of(missing, EventType.CREATED, t.path + "/b")
    next_of(children, EventType.CHILD, t.path)


@case
def data_watch(t):
    zk, other = t.client(), t.client()
    seen = queue.Queue()

    @zk.DataWatch(t.path + "/n")
    def _(data, stat, event):
        seen.put((data, stat and stat.version, event and event.type))

    same(seen.get(timeout=PATIENCE_S), (None, None, None))
    other.create(t.path + "/n", b"0")
    same(seen.get(timeout=PATIENCE_S), (b"0", 0, EventType.CREATED))
    other.set(t.path + "/n", b"1")
    same(seen.get(timeout=PATIENCE_S), (b"1", 1, EventType.CHANGED))
    other.delete(t.path + "/n")
    same(seen.get(timeout=PATIENCE_S), (None, None, EventType.DELETED))
    other.create(t.path + "/n", b"2")
    same(seen.get(timeout=PATIENCE_S), (b"2", 0, EventType.CREATED))


@case
def data_watch_stops_on_false(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/n", b"0")
    seen = queue.Queue()

    @zk.DataWatch(t.path + "/n")
    def _(data, stat):
        seen.put(data)
        return data != b"1"

    same(seen.get(timeout=PATIENCE_S), b"0")
    other.set(t.path + "/n", b"1")
    same(seen.get(timeout=PATIENCE_S), b"1")
    marker = events_of(zk.exists, t.path + "/marker")
    other.set(t.path + "/n", b"2")
    other.create(t.path + "/marker")
    next_of(marker, EventType.CREATED, t.path + "/marker")
    assert seen.empty(), "the watch went on"


@case
def children_watch(t):
    zk, other = t.client(), t.client()
    seen = queue.Queue()

    @zk.ChildrenWatch(t.path)
    def _(children):
        seen.put(sorted(children))

    same(seen.get(timeout=PATIENCE_S), [])
    other.create(t.path + "/a")
    same(seen.get(timeout=PATIENCE_S), ["a"])
    other.create(t.path + "/b")
    same(seen.get(timeout=PATIENCE_S), ["a", "b"])
    other.delete(t.path + "/a")
    same(seen.get(timeout=PATIENCE_S), ["b"])


@case
def children_watch_with_event_stops_when_the_node_goes(t):
    zk, other = t.client(), t.client()
    zk.create(t.path + "/p")
    seen = queue.Queue()
    watch = zk.ChildrenWatch(t.path + "/p", lambda children, event: seen.put((children, event)), send_event=True)
    same(seen.get(timeout=PATIENCE_S), ([], None))
    other.create(t.path + "/p/a")
    children, event = seen.get(timeout=PATIENCE_S)
    same((children, event.type), (["a"], EventType.CHILD))
    other.delete(t.path + "/p", recursive=True)
    until(lambda: watch._stopped, "the watch's end")


@case
def patient_children_watch(t):
    from kazoo.recipe.watchers import PatientChildrenWatch

    zk, other = t.client(), t.client()
    watch = PatientChildrenWatch(zk, t.path, time_boundary=0.2)
    settled = watch.start()
    for i in range(3):
        other.create("%s/%d" % (t.path, i))
    children, changed = settled.get(timeout=PATIENCE_S)
    # The list is the one of the last quiet stretch; the creates may all have come before the first look.
    same(sorted(children), ["0", "1", "2"])
    other.create(t.path + "/3")
    changed.get(timeout=PATIENCE_S)


@case
def many_watches_on_one_connection(t):
    zk, other = t.client(), t.client()
    paths = ["%s/n%03d" % (t.path, i) for i in range(300)]
    for result in [other.create_async(path) for path in paths]:
        result.get(timeout=PATIENCE_S)
    zk.sync(t.path)
    seen = queue.Queue()
    for result in [zk.get_async(path, watch=seen.put) for path in paths]:
        result.get(timeout=PATIENCE_S)
    for result in [other.set_async(path, b"1") for path in paths]:
        result.get(timeout=PATIENCE_S)
    same([fired(seen.get(timeout=PATIENCE_S)).path for _ in paths], paths, "events in the order of the writes")
