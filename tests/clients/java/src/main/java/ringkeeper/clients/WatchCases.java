package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Watches on one connection: which event, how often, in which order, and how they are taken back. */
final class WatchCases {
    static void register(Main.Cases cases) {
        cases.add("watch.data-once", WatchCases::dataOnce);
        cases.add("watch.exists", WatchCases::exists);
        cases.add("watch.children", WatchCases::children);
        cases.add("watch.deleted-once-for-one-watcher", WatchCases::deletedOnce);
        cases.add("watch.default-watcher", WatchCases::defaultWatcher);
        cases.add("watch.many-sessions", WatchCases::manySessions);
        cases.add("watch.event-before-newer-read", WatchCases::eventBeforeRead);
        cases.add("watch.own-write", WatchCases::ownWrite);
        cases.add("watch.zxid", WatchCases::zxid);
        cases.add("watch.ephemeral-of-closed-session", WatchCases::ephemeral);
        cases.add("watch.persistent", WatchCases::persistent);
        cases.add("watch.persistent-recursive", WatchCases::recursive);
        cases.add("watch.persistent-beside-one-shot", WatchCases::besides);
        cases.add("watch.remove", WatchCases::remove);
        cases.add("watch.remove-unknown", WatchCases::removeUnknown);
        cases.add("watch.remove-all", WatchCases::removeAll);
        cases.add("watch.remove-persistent", WatchCases::removePersistent);
    }

    private static void dataOnce(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events events = new Events();
        zk.getData(path, events, null);
        other.create(path + "/child", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        events.none(zk);
        other.setData(path, bytes("1"), -1);
        events.expect(EventType.NodeDataChanged, path);
        other.setData(path, bytes("2"), -1);
        events.none(zk);
        // Setting the same data again is a change too.
        zk.getData(path, events, null);
        other.setData(path, bytes("2"), -1);
        events.expect(EventType.NodeDataChanged, path);
        Check.fails(Code.NONODE, () -> zk.getData(b.root + "/no", events, null));
        b.create(other, b.root + "/no", "");
        events.none(zk);
    }

    private static void exists(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.root + "/n";
        Events events = new Events();
        Check.eq("missing", null, zk.exists(path, events));
        b.create(other, path, "");
        events.expect(EventType.NodeCreated, path);
        Check.that("there", zk.exists(path, events) != null);
        other.setData(path, bytes("x"), -1);
        events.expect(EventType.NodeDataChanged, path);
        zk.exists(path, events);
        other.delete(path, -1);
        events.expect(EventType.NodeDeleted, path);
        b.create(other, path, "");
        events.none(zk);
    }

    private static void children(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events events = new Events();
        zk.getChildren(path, events);
        other.setData(path, bytes("x"), -1);
        events.none(zk);
        b.create(other, path + "/a", "");
        events.expect(EventType.NodeChildrenChanged, path);
        zk.getChildren(path, events);
        b.create(other, path + "/a/deeper", "");
        other.setData(path + "/a", bytes("x"), -1);
        events.none(zk);
        other.delete(path + "/a/deeper", -1);
        other.delete(path + "/a", -1);
        events.expect(EventType.NodeChildrenChanged, path);
        zk.getChildren(path, events);
        other.delete(path, -1);
        events.expect(EventType.NodeDeleted, path);
        events.none(zk);
    }

    private static void deletedOnce(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events events = new Events();
        zk.getData(path, events, null);
        zk.exists(path, events);
        zk.getChildren(path, events);
        other.delete(path, -1);
        events.expect(EventType.NodeDeleted, path);
        events.none(zk);
    }

    private static void defaultWatcher(Bench b) throws Exception {
        Events events = new Events();
        ZooKeeper zk = b.connect(Bench.HOSTS, Bench.TIMEOUT_MS, events);
        String path = b.create(zk, b.root + "/n", "");
        zk.getData(path, true, null);
        zk.getChildren(path, true);
        zk.setData(path, bytes("x"), -1);
        events.expect(EventType.NodeDataChanged, path);
        b.create(zk, path + "/c", "");
        events.expect(EventType.NodeChildrenChanged, path);
    }

    private static void manySessions(Bench b) throws Exception {
        String path = b.create(b.connect(), b.root + "/n", "");
        List<Events> all = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            Events events = new Events();
            b.connect().getData(path, events, null);
            all.add(events);
        }
        b.connect().setData(path, bytes("x"), -1);
        for (Events each : all) {
            each.expect(EventType.NodeDataChanged, path);
        }
    }

    /** Whoever can read the new value has been told of the change before. */
    private static void eventBeforeRead(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.create(zk, b.root + "/n", "0");
        for (int round = 0; round < 50; round++) {
            List<String> seen = Collections.synchronizedList(new ArrayList<>());
            int before = round;
            zk.getData(path, event -> {
                if (event.getType() != EventType.None) {
                    seen.add("event");
                }
            }, null);
            CountDownLatch written = new CountDownLatch(1);
            other.setData(path, bytes("x"), before, (rc, p, ctx, stat) -> {
                b.told(rc);
                written.countDown();
            }, null);
            CountDownLatch newer = new CountDownLatch(1);
            int[] lost = new int[1];
            while (newer.getCount() > 0) {
                CountDownLatch answered = new CountDownLatch(1);
                zk.exists(path, false, (rc, p, ctx, stat) -> {
                    if (stat == null) {
                        lost[0] = b.told(rc);
                    } else if (stat.getVersion() > before) {
                        seen.add("newer");
                        newer.countDown();
                    }
                    answered.countDown();
                }, null);
                Check.that("answered", answered.await(15, TimeUnit.SECONDS));
                Check.eq("answer", 0, lost[0]);
            }
            Check.that("written", written.await(15, TimeUnit.SECONDS));
            Check.eq("order", List.of("event", "newer"), new ArrayList<>(seen));
        }
    }

    private static void ownWrite(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "0");
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(1);
        zk.getData(path, event -> {
            if (event.getType() != EventType.None) {
                seen.add("event");
            }
        }, null);
        zk.setData(path, bytes("1"), -1, (rc, p, ctx, stat) -> {
            b.told(rc);
            seen.add("reply");
            done.countDown();
        }, null);
        Check.that("answered", done.await(15, TimeUnit.SECONDS));
        Check.eq("order", List.of("event", "reply"), new ArrayList<>(seen));
    }

    private static void zxid(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "0");
        Events events = new Events();
        zk.getData(path, events, null);
        Stat stat = zk.setData(path, bytes("1"), -1);
        Check.eq("zxid of the event", stat.getMzxid(), events.next().getZxid());
    }

    private static void ephemeral(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.create(other, b.root + "/e", "", CreateMode.EPHEMERAL);
        Events data = new Events();
        Events children = new Events();
        Events.fence(zk);
        zk.getData(path, data, null);
        zk.getChildren(b.root, children);
        other.close();
        data.expect(EventType.NodeDeleted, path);
        children.expect(EventType.NodeChildrenChanged, b.root);
    }

    private static void persistent(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        String path = b.root + "/n";
        Events events = new Events();
        zk.addWatch(path, events, AddWatchMode.PERSISTENT);
        for (int i = 0; i < 2; i++) {
            b.create(other, path, "");
            other.setData(path, bytes("1"), -1);
            other.setData(path, bytes("2"), -1);
            b.create(other, path + "/c", "");
            other.setData(path + "/c", bytes("x"), -1);
            other.delete(path + "/c", -1);
            other.delete(path, -1);
            events.expect(EventType.NodeCreated, path);
            events.expect(EventType.NodeDataChanged, path);
            events.expect(EventType.NodeDataChanged, path);
            events.expect(EventType.NodeChildrenChanged, path);
            events.expect(EventType.NodeChildrenChanged, path);
            events.expect(EventType.NodeDeleted, path);
            events.none(zk);
        }
    }

    private static void recursive(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        Events events = new Events();
        zk.addWatch(b.root, events, AddWatchMode.PERSISTENT_RECURSIVE);
        b.create(other, b.root + "/a", "");
        b.create(other, b.root + "/a/b", "");
        other.setData(b.root + "/a/b", bytes("1"), -1);
        other.setData(b.root, bytes("1"), -1);
        other.delete(b.root + "/a/b", -1);
        other.delete(b.root + "/a", -1);
        events.expect(EventType.NodeCreated, b.root + "/a");
        events.expect(EventType.NodeCreated, b.root + "/a/b");
        events.expect(EventType.NodeDataChanged, b.root + "/a/b");
        events.expect(EventType.NodeDataChanged, b.root);
        events.expect(EventType.NodeDeleted, b.root + "/a/b");
        events.expect(EventType.NodeDeleted, b.root + "/a");
        events.none(zk);
    }

    private static void besides(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Events lasting = new Events();
        Events oneShot = new Events();
        String path = b.create(zk, b.root + "/n", "");
        zk.addWatch(b.root, lasting, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.getData(path, oneShot, null);
        zk.setData(path, bytes("1"), -1);
        zk.setData(path, bytes("2"), -1);
        oneShot.expect(EventType.NodeDataChanged, path);
        oneShot.none(zk);
        lasting.expect(EventType.NodeDataChanged, path);
        lasting.expect(EventType.NodeDataChanged, path);
        lasting.none(zk);
    }

    private static void remove(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events data = new Events();
        Events children = new Events();
        zk.getData(path, data, null);
        zk.getChildren(path, children);
        zk.removeWatches(path, data, WatcherType.Data, false);
        data.expect(EventType.DataWatchRemoved, path);
        zk.setData(path, bytes("x"), -1);
        data.none(zk);
        zk.removeWatches(path, children, WatcherType.Any, false);
        children.expect(EventType.ChildWatchRemoved, path);
        b.create(zk, path + "/c", "");
        children.none(zk);
        // Of two watchers of one path, the other one stays.
        Events first = new Events();
        Events second = new Events();
        zk.getData(path, first, null);
        zk.getData(path, second, null);
        zk.removeWatches(path, first, WatcherType.Data, false);
        zk.setData(path, bytes("y"), -1);
        second.expect(EventType.NodeDataChanged, path);
        // Two modes beside each other: removing the one-shot one leaves the persistent one.
        Events oneShot = new Events();
        Events lasting = new Events();
        zk.addWatch(path, lasting, AddWatchMode.PERSISTENT);
        zk.getData(path, oneShot, null);
        zk.removeWatches(path, oneShot, WatcherType.Data, false);
        oneShot.expect(EventType.DataWatchRemoved, path);
        zk.setData(path, bytes("z"), -1);
        lasting.expect(EventType.NodeDataChanged, path);
    }

    private static void removeUnknown(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Check.fails(Code.NOWATCHER, () -> zk.removeWatches(path, new Events(), WatcherType.Any, false));
        Events events = new Events();
        zk.getData(path, events, null);
        Check.fails(Code.NOWATCHER, () -> zk.removeWatches(path, events, WatcherType.Children, false));
        Check.fails(Code.NOWATCHER, () -> zk.removeAllWatches(b.root, WatcherType.Any, false));
        zk.setData(path, bytes("x"), -1);
        events.expect(EventType.NodeDataChanged, path);
    }

    private static void removeAll(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events first = new Events();
        Events second = new Events();
        zk.getData(path, first, null);
        zk.exists(path, second);
        zk.getChildren(path, second);
        zk.removeAllWatches(path, WatcherType.Data, false);
        first.expect(EventType.DataWatchRemoved, path);
        second.expect(EventType.DataWatchRemoved, path);
        zk.setData(path, bytes("x"), -1);
        second.none(zk);
        b.create(zk, path + "/c", "");
        second.expect(EventType.NodeChildrenChanged, path);
        first.none(zk);
    }

    private static void removePersistent(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Events flat = new Events();
        Events deep = new Events();
        zk.addWatch(path, flat, AddWatchMode.PERSISTENT);
        zk.addWatch(b.root, deep, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.setData(path, bytes("1"), -1);
        flat.expect(EventType.NodeDataChanged, path);
        deep.expect(EventType.NodeDataChanged, path);
        zk.removeWatches(path, flat, WatcherType.Any, false);
        WatchedEvent removed = flat.next();
        Check.eq("removed", EventType.PersistentWatchRemoved + " " + path, removed.getType() + " " + removed.getPath());
        zk.setData(path, bytes("2"), -1);
        flat.none(zk);
        deep.expect(EventType.NodeDataChanged, path);
        zk.removeWatches(b.root, deep, WatcherType.Any, false);
        deep.expect(EventType.PersistentWatchRemoved, b.root);
        zk.setData(path, bytes("3"), -1);
        deep.none(zk);
    }

    private WatchCases() {}
}
