"""Kazoo's recipes: each is a small protocol of sequence nodes, ephemerals and watches."""

import datetime
import queue
import threading

from kazoo.exceptions import CancelledError, LockTimeout
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease

from harness import PATIENCE_S, case, heard, raises, same, until


@case
def lock_is_exclusive_and_fair(t):
    clients = [t.client() for _ in range(3)]
    order, inside = [], []
    path = t.path + "/lock"
    first = clients[0].Lock(path, "0")
    assert first.acquire(timeout=PATIENCE_S)

    def contend(number):
        with clients[number].Lock(path, str(number)):
            inside.append(number)
            order.append(number)
            same(len(inside), 1, "holders")
            inside.pop()

    threads = []
    for number in (1, 2):
        threads.append(t.thread(contend, number))
        until(lambda: len(first.contenders()) == number + 1, "contender %d" % number)
    same(first.contenders(), ["0", "1", "2"])
    same(order, [], "nobody enters while it is held")
    first.release()
    for thread in threads:
        thread.join()
    same(order, [1, 2])


@case
def lock_does_not_wait_when_asked_not_to(t):
    one, two = t.client(), t.client()
    held = one.Lock(t.path + "/lock")
    assert held.acquire(timeout=PATIENCE_S)
    assert not two.Lock(t.path + "/lock").acquire(blocking=False)
    raises(LockTimeout, two.Lock(t.path + "/lock").acquire, timeout=0.2)
    held.release()
    assert two.Lock(t.path + "/lock").acquire(blocking=False)


@case
def lock_can_be_cancelled(t):
    one, two = t.client(), t.client()
    held, waiting = one.Lock(t.path + "/lock"), two.Lock(t.path + "/lock")
    assert held.acquire(timeout=PATIENCE_S)
    thread = t.thread(lambda: raises(CancelledError, waiting.acquire))
    until(lambda: len(held.contenders()) == 2, "the waiter")
    waiting.cancel()
    thread.join()


@case
def lock_passes_on_when_the_session_closes(t):
    one, two = t.client(), t.client()
    assert one.Lock(t.path + "/lock").acquire(timeout=PATIENCE_S)
    waiting = two.Lock(t.path + "/lock")
    thread = t.thread(lambda: waiting.acquire(timeout=PATIENCE_S))
    until(lambda: len(waiting.contenders()) == 2, "the waiter")
    one.stop()
    thread.join()
    assert waiting.is_acquired


@case
def read_and_write_locks(t):
    one, two, three = t.client(), t.client(), t.client()
    path = t.path + "/rw"
    first, second = one.ReadLock(path), two.ReadLock(path)
    assert first.acquire(timeout=PATIENCE_S) and second.acquire(timeout=PATIENCE_S)
    assert not three.WriteLock(path).acquire(blocking=False), "readers keep a writer out"
    writer = three.WriteLock(path)
    thread = t.thread(lambda: writer.acquire(timeout=PATIENCE_S))
    until(lambda: len(first.contenders()) == 3, "the writer")
    first.release()
    assert not writer.is_acquired
    second.release()
    thread.join()
    assert not one.ReadLock(path).acquire(blocking=False), "a writer keeps readers out"
    writer.release()
    assert one.ReadLock(path).acquire(blocking=False)


@case
def semaphore(t):
    clients = [t.client() for _ in range(3)]
    holders = [client.Semaphore(t.path + "/sem", "h%d" % i, max_leases=2) for i, client in enumerate(clients)]
    assert holders[0].acquire(timeout=PATIENCE_S) and holders[1].acquire(timeout=PATIENCE_S)
    assert not holders[2].acquire(blocking=False)
    same(sorted(holders[2].lease_holders()), ["h0", "h1"])
    thread = t.thread(lambda: holders[2].acquire(timeout=PATIENCE_S))
    holders[0].release()
    thread.join()
    clients[0].sync(t.path)
    same(sorted(holders[0].lease_holders()), ["h1", "h2"])
    raises(ValueError, clients[0].Semaphore(t.path + "/sem", max_leases=3).acquire, blocking=False)


@case
def election(t):
    clients = [t.client() for _ in range(3)]
    led, leave = queue.Queue(), [threading.Event() for _ in clients]
    elections = [client.Election(t.path + "/election", "c%d" % i) for i, client in enumerate(clients)]

    def lead(number):
        led.put(number)
        heard(leave[number], "leave to step down")

    threads = []
    for number, one in enumerate(elections):
        threads.append(t.thread(one.run, lead, number))
        until(lambda: len(elections[0].contenders()) == number + 1, "candidate %d" % number)
    same(elections[0].contenders(), ["c0", "c1", "c2"])
    for number in range(3):
        same(led.get(timeout=PATIENCE_S), number)
        assert led.empty(), "two leaders"
        leave[number].set()
        threads[number].join()


@case
def party(t):
    one, two = t.client(), t.client()
    first, second = one.Party(t.path + "/party", "anna"), two.Party(t.path + "/party", "bert")
    first.join()
    second.join()
    one.sync(t.path)
    same(sorted(first), ["anna", "bert"])
    same(len(second), 2)
    second.leave()
    one.sync(t.path)
    same(list(first), ["anna"])
    first.leave()
    second.join()
    two.stop()
    one.sync(t.path)
    same(list(first), [], "a member leaves with its session")


@case
def shallow_party(t):
    one, two = t.client(), t.client()
    first, second = one.ShallowParty(t.path + "/party", "anna"), two.ShallowParty(t.path + "/party", "bert")
    first.join()
    second.join()
    one.sync(t.path)
    same(sorted(first), ["anna", "bert"])
    first.leave()
    two.sync(t.path)
    same(list(second), ["bert"])


@case
def barrier(t):
    one, two = t.client(), t.client()
    gate = one.Barrier(t.path + "/barrier")
    gate.create()
    two.sync(t.path)
    same(two.Barrier(t.path + "/barrier").wait(timeout=0.1), False)
    thread = t.thread(lambda: same(two.Barrier(t.path + "/barrier").wait(timeout=PATIENCE_S), True))
    assert gate.remove()
    thread.join()
    same(gate.remove(), False)


@case
def double_barrier(t):
    clients = [t.client() for _ in range(3)]
    entered, left = [], []
    everybody = threading.Event()

    def through(number):
        both = clients[number].DoubleBarrier(t.path + "/double", 3)
        both.enter()
        entered.append(number)
        heard(everybody, "everybody inside")
        both.leave()
        left.append(number)

    threads = [t.thread(through, n) for n in range(2)]
    until(lambda: len(clients[2].get_children(t.path + "/double")) == 2 if clients[2].exists(t.path + "/double") else False,
          "two at the barrier")
    same(entered, [], "nobody enters before the last one comes")
    threads.append(t.thread(through, 2))
    until(lambda: len(entered) == 3, "all inside")
    everybody.set()
    for thread in threads:
        thread.join()
    same(sorted(left), [0, 1, 2])


@case
def simple_queue(t):
    one, two = t.client(), t.client()
    line, other = one.Queue(t.path + "/queue"), two.Queue(t.path + "/queue")
    for value, priority in ((b"late", 200), (b"a", 100), (b"b", 100), (b"urgent", 1)):
        line.put(value, priority=priority)
    two.sync(t.path)
    same(len(other), 4)
    same([other.get() for _ in range(5)], [b"urgent", b"a", b"b", b"late", None])


@case
def locking_queue(t):
    one, two = t.client(), t.client()
    line, other = one.LockingQueue(t.path + "/queue"), two.LockingQueue(t.path + "/queue")
    line.put_all([b"a", b"b"], priority=50)
    line.put(b"c", priority=60)
    same(line.get(timeout=PATIENCE_S), b"a")
    same(other.get(timeout=PATIENCE_S), b"b", "a locked entry is skipped")
    assert line.holds_lock() and line.consume() and other.release()
    one.sync(t.path)
    same(line.get(timeout=PATIENCE_S), b"b", "a released entry comes back")
    assert line.consume()
    two.sync(t.path)
    same(other.get(timeout=PATIENCE_S), b"c")
    assert other.consume()
    one.sync(t.path)
    same(len(line), 0)
    got = []
    thread = t.thread(lambda: got.append(other.get(timeout=PATIENCE_S)))
    line.put(b"d")
    thread.join()
    same(got, [b"d"])


@case
def counter(t):
    clients = [t.client() for _ in range(3)]

    def add(client):
        mine = client.Counter(t.path + "/counter")
        for _ in range(10):
            mine += 1

    threads = [t.thread(add, client) for client in clients]
    for thread in threads:
        thread.join()
    clients[0].sync(t.path)
    total = clients[0].Counter(t.path + "/counter")
    same(total.value, 30)
    total -= 5
    same((total.value, total.pre_value, total.post_value), (25, 30, 25))
    half = clients[0].Counter(t.path + "/half", default=1.5)
    half += 1.0
    same(half.value, 2.5)


@case
def tree_cache(t):
    zk, other = t.client(), t.client()
    root = t.path + "/tree"
    other.create(root + "/a/b", b"1", makepath=True)
    zk.sync(t.path)
    cache = TreeCache(zk, root)
    t.at_end(cache.close)
    events = queue.Queue()
    cache.listen(lambda event: events.put((event.event_type, event.event_data and event.event_data.path)))
    cache.start()

    def wait_for(kind, path=None):
        while True:
            got = events.get(timeout=PATIENCE_S)
            if got == (kind, path):
                return

    wait_for(TreeEvent.INITIALIZED)
    same(cache.get_data(root + "/a/b").data, b"1")
    other.set(root + "/a/b", b"2")
    wait_for(TreeEvent.NODE_UPDATED, root + "/a/b")
    same(cache.get_data(root + "/a/b").data, b"2")
    other.create(root + "/a/c/d", b"3", makepath=True)
    wait_for(TreeEvent.NODE_ADDED, root + "/a/c/d")
    same(cache.get_children(root + "/a"), frozenset(("b", "c")))
    other.delete(root + "/a/c", recursive=True)
    wait_for(TreeEvent.NODE_REMOVED, root + "/a/c")
    same(cache.get_data(root + "/a/c"), None)


@case
def non_blocking_lease(t):
    one, two = t.client(), t.client()
    hour = datetime.timedelta(hours=1)
    clock = [datetime.datetime(2026, 1, 1)]
    lease = lambda zk, who: bool(zk.NonBlockingLease(t.path + "/lease", hour, who, utcnow=lambda: clock[0]))
    assert lease(one, "anna") and not lease(two, "bert") and lease(one, "anna")
    clock[0] += datetime.timedelta(minutes=90)
    assert lease(two, "bert") and not lease(one, "anna")


@case
def multi_non_blocking_lease(t):
    zk = t.client()
    hour = datetime.timedelta(hours=1)
    got = [bool(MultiNonBlockingLease(zk, 2, t.path + "/leases", hour, who)) for who in ("a", "b", "c", "a")]
    same(got, [True, True, False, True])


@case
def set_partitioner(t):
    clients = [t.client() for _ in range(2)]
    whole = ("p1", "p2", "p3", "p4")
    stop = threading.Event()
    shares = {}

    def take_part(number):
        part = clients[number].SetPartitioner(
            t.path + "/parts", whole, identifier="m%d" % number, time_boundary=0.3, max_reaction_time=0.2
        )
        while not stop.is_set():
            assert not part.failed, "the partitioner failed"
            if part.release:
                shares.pop(number, None)
                part.release_set()
            elif part.acquired:
                shares[number] = tuple(part)
                stop.wait(0.02)
            else:
                part.wait_for_acquire(0.2)
        part.finish()

    first = t.thread(take_part, 0)
    until(lambda: len(shares.get(0, ())) == 4, "all for the only member")
    second = t.thread(take_part, 1)
    until(lambda: sorted(map(len, shares.values())) == [2, 2], "two each")
    same(sorted(sum(dict(shares).values(), ())), sorted(whole))
    stop.set()
    first.join()
    second.join()
