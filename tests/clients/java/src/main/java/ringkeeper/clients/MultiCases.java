package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Transactions: all or nothing, one zxid, and a result for each part. */
final class MultiCases {
    static void register(Main.Cases cases) {
        cases.add("multi.ok", MultiCases::ok);
        cases.add("multi.fails-whole", MultiCases::failsWhole);
        cases.add("multi.create-kinds", MultiCases::createKinds);
        cases.add("multi.sees-its-own-parts", MultiCases::seesItself);
        cases.add("multi.check", MultiCases::check);
        cases.add("multi.transaction-builder", MultiCases::builder);
        cases.add("multi.empty", MultiCases::empty);
        cases.add("multi.async", MultiCases::async);
        cases.add("multi.watches", MultiCases::watches);
        cases.add("multi.read", MultiCases::read);
    }

    private static Op create(String path, String data) {
        return Op.create(path, bytes(data), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static List<Integer> codes(List<OpResult> results) {
        List<Integer> codes = new ArrayList<>();
        for (OpResult each : results) {
            codes.add(each instanceof OpResult.ErrorResult error ? error.getErr() : 0);
        }
        return codes;
    }

    private static void ok(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/old", "");
        b.create(zk, b.root + "/set", "");
        List<OpResult> results = zk.multi(List.of(
                create(b.root + "/a", "1"),
                Op.setData(b.root + "/set", bytes("two"), 0),
                Op.check(b.root + "/a", 0),
                Op.delete(b.root + "/old", 0)));
        Check.eq("path", b.root + "/a", ((OpResult.CreateResult) results.get(0)).getPath());
        Stat set = ((OpResult.SetDataResult) results.get(1)).getStat();
        Check.eq("version", 1, set.getVersion());
        Check.that("check", results.get(2) instanceof OpResult.CheckResult);
        Check.that("delete", results.get(3) instanceof OpResult.DeleteResult);
        Check.eq("one zxid", set.getMzxid(), zk.exists(b.root + "/a", false).getCzxid());
        Check.eq("deleted", null, zk.exists(b.root + "/old", false));
        Check.eq("parent's pzxid", set.getMzxid(), zk.exists(b.root, false).getPzxid());
    }

    private static void failsWhole(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/n", "before");
        Stat before = zk.exists(b.root, false);
        List<OpResult> results = null;
        try {
            zk.multi(List.of(create(b.root + "/a", ""), Op.setData(b.root + "/n", bytes("after"), -1),
                    Op.delete(b.root + "/missing", -1), create(b.root + "/b", "")));
        } catch (KeeperException.NoNodeException refused) {
            results = refused.getResults();
        }
        Check.that("it failed with NoNode", results != null);
        int inconsistent = Code.RUNTIMEINCONSISTENCY.intValue();
        Check.eq("codes", List.of(0, 0, Code.NONODE.intValue(), inconsistent), codes(results));
        Check.that("all are errors", results.stream().allMatch(OpResult.ErrorResult.class::isInstance));
        Check.eq("nothing changed", before, zk.exists(b.root, false));
        Check.eq("nor the data", "before", text(zk.getData(b.root + "/n", false, null)));
        Check.fails(Code.BADVERSION, () -> zk.multi(List.of(create(b.root + "/a", ""), Op.setData(b.root + "/n", bytes(""), 9))));
        Check.fails(Code.NODEEXISTS, () -> zk.multi(List.of(create(b.root + "/a", ""), create(b.root + "/a", ""))));
        Check.fails(Code.NOTEMPTY, () -> zk.multi(List.of(create(b.root + "/n/x", ""), Op.delete(b.root + "/n", -1))));
        Check.eq("still nothing", before, zk.exists(b.root, false));
    }

    private static void createKinds(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        List<OpResult> results = zk.multi(List.of(
                Op.create(b.root + "/e", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
                Op.create(b.root + "/s", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create(b.root + "/s", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL),
                Op.create(b.root + "/c", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                Op.create(b.root + "/t", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 60_000)));
        Check.eq("first in sequence", b.root + "/s0000000001", ((OpResult.CreateResult) results.get(1)).getPath());
        Check.eq("second in sequence", b.root + "/s0000000002", ((OpResult.CreateResult) results.get(2)).getPath());
        Check.eq("ephemerals", new TreeSet<>(List.of(b.root + "/e", b.root + "/s0000000002")), new TreeSet<>(zk.getEphemerals()));
        Check.eq("container", 0L, zk.exists(b.root + "/c", false).getEphemeralOwner());
        Check.eq("TTL", 0L, zk.exists(b.root + "/t", false).getEphemeralOwner());
    }

    private static void seesItself(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        zk.multi(List.of(create(b.root + "/a", ""), create(b.root + "/a/b", ""), Op.setData(b.root + "/a/b", bytes("x"), 0),
                Op.setData(b.root + "/a/b", bytes("y"), 1), Op.check(b.root + "/a/b", 2), create(b.root + "/gone", ""),
                Op.delete(b.root + "/gone", 0)));
        Stat stat = new Stat();
        Check.eq("data", "y", text(zk.getData(b.root + "/a/b", false, stat)));
        Check.eq("version", 2, stat.getVersion());
        Check.eq("children", List.of("a"), zk.getChildren(b.root, false));
    }

    private static void check(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/n", "");
        zk.multi(List.of(Op.check(b.root + "/n", 0), Op.check(b.root + "/n", -1)));
        Check.fails(Code.BADVERSION, () -> zk.multi(List.of(Op.check(b.root + "/n", 1))));
        Check.fails(Code.NONODE, () -> zk.multi(List.of(Op.check(b.root + "/no", -1))));
    }

    private static void builder(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        List<OpResult> results = zk.transaction()
                .create(b.root + "/a", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                .setData(b.root + "/a", bytes("1"), 0)
                .check(b.root + "/a", 1)
                .delete(b.root + "/a", 1)
                .commit();
        Check.eq("results", 4, results.size());
        Check.eq("gone again", null, zk.exists(b.root + "/a", false));
    }

    private static void empty(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("results", List.of(), zk.multi(List.of()));
    }

    private static void async(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        List<String> seen = new ArrayList<>();
        CountDownLatch done = new CountDownLatch(2);
        zk.multi(List.of(create(b.root + "/a", ""), create(b.root + "/b", "")), (rc, path, ctx, results) -> {
            seen.add(b.told(rc) + " " + (results == null ? null : codes(results)));
            done.countDown();
        }, null);
        zk.multi(List.of(create(b.root + "/c", ""), create(b.root + "/b", "")), (rc, path, ctx, results) -> {
            seen.add(b.told(rc) + " " + (results == null ? null : codes(results)));
            done.countDown();
        }, null);
        Check.that("answered", done.await(15, TimeUnit.SECONDS));
        Check.eq("answers", List.of("0 [0, 0]", "-110 [0, -110]"), seen);
    }

    private static void watches(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        b.create(zk, b.root + "/n", "");
        Events data = new Events();
        Events exists = new Events();
        Events children = new Events();
        zk.getData(b.root + "/n", data, null);
        zk.exists(b.root + "/new", exists);
        zk.getChildren(b.root, children);
        Check.fails(Code.NONODE, () -> other.multi(List.of(Op.setData(b.root + "/n", bytes("x"), -1), Op.delete(b.root + "/no", -1))));
        data.none(zk);
        other.multi(List.of(Op.setData(b.root + "/n", bytes("x"), -1), create(b.root + "/new", "")));
        data.expect(EventType.NodeDataChanged, b.root + "/n");
        exists.expect(EventType.NodeCreated, b.root + "/new");
        children.expect(EventType.NodeChildrenChanged, b.root);
    }

    private static void read(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/n", "data");
        b.create(zk, b.root + "/n/c1", "");
        b.create(zk, b.root + "/n/c2", "");
        List<OpResult> results = zk.multi(List.of(Op.getData(b.root + "/n"), Op.getChildren(b.root + "/n"),
                Op.getData(b.root + "/no"), Op.getChildren(b.root + "/n/c1")));
        OpResult.GetDataResult data = (OpResult.GetDataResult) results.get(0);
        Check.eq("data", "data", text(data.getData()));
        Check.eq("Stat", zk.exists(b.root + "/n", false), data.getStat());
        Check.eq("children", new TreeSet<>(List.of("c1", "c2")), new TreeSet<>(((OpResult.GetChildrenResult) results.get(1)).getChildren()));
        Check.eq("a missing one", Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        Check.eq("the next goes on", List.of(), ((OpResult.GetChildrenResult) results.get(3)).getChildren());
    }

    private MultiCases() {}
}
