package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** A connection is cut and comes back: the session, its watches (setWatches, setWatches2) and its identity survive. */
final class ReconnectCases {
    static void register(Main.Cases cases) {
        cases.add("reconnect.session", ReconnectCases::session);
        cases.add("reconnect.missed-changes", ReconnectCases::missedChanges);
        cases.add("reconnect.watches-live-on", ReconnectCases::liveOn);
        cases.add("reconnect.persistent-watches", ReconnectCases::persistent);
        cases.add("reconnect.many-watches", ReconnectCases::manyWatches);
        cases.add("reconnect.auth", ReconnectCases::auth);
        cases.add("reconnect.pending-requests-fail", ReconnectCases::pending);
    }

    /** Cuts, runs what happens meanwhile, and waits until client and watches are back. */
    private static void away(ZooKeeper zk, Proxy proxy, Events states, Check.Act meanwhile) throws Exception {
        proxy.cut();
        states.state(KeeperState.Disconnected);
        meanwhile.run();
        proxy.mend();
        states.state(KeeperState.SyncConnected);
        // The client says so before the server has seen its setWatches; what it is asked after that has to wait its turn.
        Events.fence(zk);
    }

    private static void session(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        states.state(KeeperState.SyncConnected);
        String path = b.create(zk, b.root + "/e", "1", CreateMode.EPHEMERAL);
        long id = zk.getSessionId();
        for (int i = 0; i < 3; i++) {
            proxy.drop();
            states.state(KeeperState.Disconnected);
            states.state(KeeperState.SyncConnected);
            Check.eq("session", id, zk.getSessionId());
            Check.eq("owner", id, zk.exists(path, false).getEphemeralOwner());
        }
        // A server that is behind what the client has seen turns it away: of several, that is one more.
        Check.that("connections: " + proxy.accepted(), proxy.accepted() == 4 || Bench.ENSEMBLE && proxy.accepted() > 4);
    }

    private static void missedChanges(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        ZooKeeper other = b.connect();
        states.state(KeeperState.SyncConnected);
        for (String name : List.of("data", "gone", "existing", "kids", "kids-gone", "reborn")) {
            b.create(zk, b.root + "/" + name, "");
        }
        Events data = new Events();
        Events gone = new Events();
        Events existing = new Events();
        Events appears = new Events();
        Events kids = new Events();
        Events kidsGone = new Events();
        Events reborn = new Events();
        zk.getData(b.root + "/data", data, null);
        zk.getData(b.root + "/gone", gone, null);
        zk.exists(b.root + "/existing", existing);
        zk.exists(b.root + "/appears", appears);
        zk.getChildren(b.root + "/kids", kids);
        zk.getChildren(b.root + "/kids-gone", kidsGone);
        zk.getData(b.root + "/reborn", reborn, null);
        away(zk, proxy, states, () -> {
            other.setData(b.root + "/data", bytes("x"), -1);
            other.delete(b.root + "/gone", -1);
            other.setData(b.root + "/existing", bytes("x"), -1);
            b.create(other, b.root + "/appears", "");
            b.create(other, b.root + "/kids/child", "");
            other.delete(b.root + "/kids-gone", -1);
            other.delete(b.root + "/reborn", -1);
            b.create(other, b.root + "/reborn", "");
            // A server that comes to know it only after the client came back tells each of its changes.
            Bench.catchUpEverywhere();
        });
        data.expect(EventType.NodeDataChanged, b.root + "/data");
        gone.expect(EventType.NodeDeleted, b.root + "/gone");
        existing.expect(EventType.NodeDataChanged, b.root + "/existing");
        appears.expect(EventType.NodeCreated, b.root + "/appears");
        kids.expect(EventType.NodeChildrenChanged, b.root + "/kids");
        kidsGone.expect(EventType.NodeDeleted, b.root + "/kids-gone");
        reborn.expect(EventType.NodeDataChanged, b.root + "/reborn");
        other.setData(b.root + "/data", bytes("y"), -1);
        data.none(zk);
    }

    private static void liveOn(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        ZooKeeper other = b.connect();
        states.state(KeeperState.SyncConnected);
        String path = b.create(zk, b.root + "/n", "");
        Events data = new Events();
        Events exists = new Events();
        Events kids = new Events();
        zk.getData(path, data, null);
        zk.exists(b.root + "/later", exists);
        zk.getChildren(path, kids);
        away(zk, proxy, states, () -> { });
        data.none(zk);
        exists.none(zk);
        kids.none(zk);
        other.setData(path, bytes("x"), -1);
        b.create(other, b.root + "/later", "");
        b.create(other, path + "/c", "");
        data.expect(EventType.NodeDataChanged, path);
        exists.expect(EventType.NodeCreated, b.root + "/later");
        kids.expect(EventType.NodeChildrenChanged, path);
    }

    private static void persistent(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        ZooKeeper other = b.connect();
        states.state(KeeperState.SyncConnected);
        String path = b.create(zk, b.root + "/n", "");
        b.create(zk, path + "/deep", "");
        Events flat = new Events();
        Events deep = new Events();
        zk.addWatch(path, flat, AddWatchMode.PERSISTENT);
        zk.addWatch(b.root, deep, AddWatchMode.PERSISTENT_RECURSIVE);
        away(zk, proxy, states, () -> { });
        other.setData(path, bytes("x"), -1);
        other.setData(path + "/deep", bytes("x"), -1);
        b.create(other, path + "/new", "");
        flat.expect(EventType.NodeDataChanged, path);
        flat.expect(EventType.NodeChildrenChanged, path);
        deep.expect(EventType.NodeDataChanged, path);
        deep.expect(EventType.NodeDataChanged, path + "/deep");
        deep.expect(EventType.NodeCreated, path + "/new");
        flat.none(zk);
        deep.none(zk);
    }

    /** More than the client puts into one setWatches (128 KiB of paths). */
    private static void manyWatches(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        ZooKeeper other = b.connect();
        states.state(KeeperState.SyncConnected);
        int count = 2_000;
        AtomicInteger fired = new AtomicInteger();
        CountDownLatch set = new CountDownLatch(count);
        List<String> paths = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String path = b.root + "/" + "a-name-long-enough-to-need-several-requests-".repeat(2) + i;
            paths.add(path);
            zk.exists(path, event -> {
                if (event.getType() == EventType.NodeCreated) {
                    fired.incrementAndGet();
                }
            }, (rc, p, ctx, stat) -> {
                b.told(rc);
                set.countDown();
            }, null);
        }
        Check.that("set", set.await(15, TimeUnit.SECONDS));
        away(zk, proxy, states, () -> createAll(other, paths.subList(0, count / 2)));
        Check.until("all that appeared meanwhile", () -> fired.get() == count / 2);
        createAll(other, paths.subList(count / 2, count));
        Check.until("all that appeared after", () -> fired.get() == count);
        Events.fence(zk);
        Check.eq("each once", count, fired.get());
    }

    private static void createAll(ZooKeeper zk, List<String> paths) throws Exception {
        CountDownLatch made = new CountDownLatch(paths.size());
        AtomicInteger failed = new AtomicInteger();
        for (String path : paths) {
            zk.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, ctx, name) -> {
                failed.compareAndSet(0, rc);
                made.countDown();
            }, null);
        }
        Check.that("created", made.await(15, TimeUnit.SECONDS));
        if (failed.get() != 0) {
            throw KeeperException.create(Code.get(failed.get()), "create");
        }
    }

    private static void auth(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        states.state(KeeperState.SyncConnected);
        zk.addAuthInfo("digest", bytes("ann:secret"));
        String path = zk.create(b.root + "/mine", bytes("x"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Events watch = new Events();
        zk.getData(path, watch, null);
        away(zk, proxy, states, () -> { });
        Check.eq("still me", "x", text(zk.getData(path, false, null)));
        zk.setData(path, bytes("y"), -1);
        watch.expect(EventType.NodeDataChanged, path);
    }

    private static void pending(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events states = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, states);
        states.state(KeeperState.SyncConnected);
        proxy.cut();
        states.state(KeeperState.Disconnected);
        Check.fails(Code.CONNECTIONLOSS, () -> zk.setData(b.root, bytes("x"), -1));
        proxy.mend();
        states.state(KeeperState.SyncConnected);
        Check.eq("not written", 0, zk.exists(b.root, false).getVersion());
    }

    private ReconnectCases() {}
}
