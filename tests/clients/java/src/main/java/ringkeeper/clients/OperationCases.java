package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.Stat;

/** Single operations: what they answer, what they leave in the Stat, and which error comes when. */
final class OperationCases {
    static void register(Main.Cases cases) {
        cases.add("create.modes", OperationCases::createModes);
        cases.add("create.stat", OperationCases::createStat);
        cases.add("create.sequence", OperationCases::createSequence);
        cases.add("create.errors", OperationCases::createErrors);
        cases.add("create.container", OperationCases::createContainer);
        cases.add("create.ttl", OperationCases::createTtl);
        cases.add("data.versions", OperationCases::dataVersions);
        cases.add("data.sizes", OperationCases::dataSizes);
        cases.add("data.paths", OperationCases::dataPaths);
        cases.add("exists.stat", OperationCases::existsStat);
        cases.add("delete.rules", OperationCases::deleteRules);
        cases.add("children.lists", OperationCases::childrenLists);
        cases.add("children.many", OperationCases::childrenMany);
        cases.add("ephemerals.list", OperationCases::ephemeralsList);
        cases.add("sync.sees-the-last-write", OperationCases::sync);
        cases.add("async.order", OperationCases::asyncOrder);
        cases.add("async.every-operation", OperationCases::asyncEverything);
        cases.add("config.get", OperationCases::config);
        cases.add("config.reconfig-refused", OperationCases::reconfig);
        cases.add("chroot", OperationCases::chroot);
        cases.add("quota.counts", OperationCases::quota);
        cases.add("zkutil.tree", OperationCases::zkUtil);
    }

    private static void createModes(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("persistent", b.root + "/p", b.create(zk, b.root + "/p", "1"));
        Check.eq("ephemeral", b.root + "/e", b.create(zk, b.root + "/e", "2", CreateMode.EPHEMERAL));
        String ps = b.create(zk, b.root + "/ps-", "3", CreateMode.PERSISTENT_SEQUENTIAL);
        String es = b.create(zk, b.root + "/es-", "4", CreateMode.EPHEMERAL_SEQUENTIAL);
        Check.eq("persistent sequential", b.root + "/ps-0000000002", ps);
        Check.eq("ephemeral sequential", b.root + "/es-0000000003", es);
        Check.eq("owner of p", 0L, zk.exists(b.root + "/p", false).getEphemeralOwner());
        Check.eq("owner of e", zk.getSessionId(), zk.exists(b.root + "/e", false).getEphemeralOwner());
        Check.eq("owner of es", zk.getSessionId(), zk.exists(es, false).getEphemeralOwner());
        Check.eq("data of es", "4", text(zk.getData(es, false, null)));
        b.create(zk, b.root + "/c", "", CreateMode.CONTAINER);
        Check.eq("owner of a container", 0L, zk.exists(b.root + "/c", false).getEphemeralOwner());
        Stat stat = new Stat();
        zk.create(b.root + "/t", bytes("5"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, stat, 100_000);
        Check.eq("owner of a TTL node", 0L, stat.getEphemeralOwner());
        String ts = zk.create(b.root + "/ts-", bytes(""), ZooDefs.Ids.OPEN_ACL_UNSAFE,
                CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 100_000);
        Check.eq("sequential TTL", b.root + "/ts-0000000006", ts);
    }

    private static void createStat(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Stat parent = zk.exists(b.root, false);
        Stat stat = new Stat();
        zk.create(b.root + "/n", bytes("hello"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat);
        Check.eq("the Stat of the reply", zk.exists(b.root + "/n", false), stat);
        Check.eq("mzxid", stat.getCzxid(), stat.getMzxid());
        Check.eq("pzxid", stat.getCzxid(), stat.getPzxid());
        Check.eq("mtime", stat.getCtime(), stat.getMtime());
        Check.eq("versions", "0 0 0", stat.getVersion() + " " + stat.getCversion() + " " + stat.getAversion());
        Check.eq("length", 5, stat.getDataLength());
        Check.eq("children", 0, stat.getNumChildren());
        Stat after = zk.exists(b.root, false);
        Check.eq("parent's pzxid", stat.getCzxid(), after.getPzxid());
        Check.eq("parent's cversion", parent.getCversion() + 1, after.getCversion());
        Check.eq("parent's children", parent.getNumChildren() + 1, after.getNumChildren());
        Check.eq("parent's mzxid stays", parent.getMzxid(), after.getMzxid());
        Check.that("ctime is about now", Math.abs(System.currentTimeMillis() - stat.getCtime()) < 60_000);
    }

    private static void createSequence(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("first", b.root + "/0000000000", b.create(zk, b.root + "/", "", CreateMode.PERSISTENT_SEQUENTIAL));
        b.create(zk, b.root + "/plain", "");
        Check.eq("a plain sibling counts", b.root + "/x0000000002",
                b.create(zk, b.root + "/x", "", CreateMode.PERSISTENT_SEQUENTIAL));
        zk.delete(b.root + "/plain", -1);
        String afterDelete = b.create(zk, b.root + "/x", "", CreateMode.PERSISTENT_SEQUENTIAL);
        Check.eq("a deletion does not step back", b.root + "/x0000000003", afterDelete);
    }

    private static void createErrors(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/n", "");
        Check.fails(Code.NODEEXISTS, () -> b.create(zk, b.root + "/n", ""));
        Check.fails(Code.NONODE, () -> b.create(zk, b.root + "/no/child", ""));
        b.create(zk, b.root + "/e", "", CreateMode.EPHEMERAL);
        Check.fails(Code.NOCHILDRENFOREPHEMERALS, () -> b.create(zk, b.root + "/e/child", ""));
        Check.fails(Code.INVALIDACL, () -> zk.create(b.root + "/a", bytes(""), new ArrayList<>(), CreateMode.PERSISTENT));
        Check.fails(Code.INVALIDACL, () -> zk.create(b.root + "/a", bytes(""), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        Check.fails(Code.NODEEXISTS, () -> b.create(zk, "/", ""));
        Check.fails(Code.NODEEXISTS, () -> b.create(zk, "/zookeeper", ""));
        Check.eq("nothing was made", null, zk.exists(b.root + "/a", false));
    }

    private static void createContainer(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/unused", "", CreateMode.CONTAINER);
        b.create(zk, b.root + "/used", "", CreateMode.CONTAINER);
        b.create(zk, b.root + "/used/child", "");
        b.create(zk, b.root + "/emptied", "", CreateMode.CONTAINER);
        b.create(zk, b.root + "/emptied/child", "");
        zk.delete(b.root + "/emptied/child", -1);
        Check.until("the emptied container goes", 20_000, () -> zk.exists(b.root + "/emptied", false) == null);
        Check.that("a container with a child stays", zk.exists(b.root + "/used", false) != null);
        Check.that("a container that never had one stays", zk.exists(b.root + "/unused", false) != null);
    }

    private static void createTtl(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        zk.create(b.root + "/parent", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 500);
        b.create(zk, b.root + "/parent/child", "");
        zk.create(b.root + "/short", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 500);
        zk.create(b.root + "/long", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, null, 600_000);
        Check.until("the short one goes", 20_000, () -> zk.exists(b.root + "/short", false) == null);
        Check.that("the long one stays", zk.exists(b.root + "/long", false) != null);
        Check.that("one with a child stays", zk.exists(b.root + "/parent", false) != null);
        zk.delete(b.root + "/parent/child", -1);
        Check.until("once its child is gone it goes", 20_000, () -> zk.exists(b.root + "/parent", false) == null);
    }

    private static void dataVersions(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "0");
        Stat first = zk.exists(path, false);
        Stat second = zk.setData(path, bytes("11"), 0);
        Check.eq("version", 1, second.getVersion());
        Check.eq("length", 2, second.getDataLength());
        Check.eq("czxid stays", first.getCzxid(), second.getCzxid());
        Check.eq("ctime stays", first.getCtime(), second.getCtime());
        Check.that("mzxid grows", second.getMzxid() > first.getMzxid());
        Check.fails(Code.BADVERSION, () -> zk.setData(path, bytes("no"), 0));
        Check.eq("any version", 2, zk.setData(path, bytes("222"), -1).getVersion());
        Stat read = new Stat();
        Check.eq("data", "222", text(zk.getData(path, false, read)));
        Check.eq("getData's Stat", zk.exists(path, false), read);
        Check.fails(Code.NONODE, () -> zk.setData(b.root + "/no", bytes(""), -1));
        Check.fails(Code.NONODE, () -> zk.getData(b.root + "/no", false, null));
        Check.eq("root's data can be read", 0, zk.getData("/", false, null).length);
    }

    private static void dataSizes(Bench b) throws Exception {
        Events states = new Events();
        ZooKeeper zk = b.connect(Bench.HOSTS, Bench.TIMEOUT_MS, states);
        String path = zk.create(b.root + "/null", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.eq("null stays null", null, zk.getData(path, false, null));
        Check.eq("length of null", 0, zk.exists(path, false).getDataLength());
        zk.setData(path, new byte[0], -1);
        Check.eq("empty is not null", 0, zk.getData(path, false, null).length);
        byte[] large = new byte[1_000_000];
        for (int i = 0; i < large.length; i++) {
            large[i] = (byte) (i * 31 + i / 257);
        }
        zk.setData(path, large, -1);
        Check.that("1,000,000 bytes come back", java.util.Arrays.equals(large, zk.getData(path, false, null)));
        // Beyond jute.maxbuffer the server cuts the connection, and the session comes back without the write.
        Check.fails(Code.CONNECTIONLOSS, () -> zk.setData(path, new byte[2_000_000], -1));
        states.state(KeeperState.Disconnected);
        states.state(KeeperState.SyncConnected);
        Check.eq("unchanged", 2, zk.exists(path, false).getVersion());
    }

    private static void dataPaths(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        for (String name : List.of("häuschen", "日本語", "with space", "a.b", "...", "..x", "%2f")) {
            String path = b.create(zk, b.root + "/" + name, name);
            Check.eq("data of " + name, name, text(zk.getData(path, false, null)));
        }
        String deep = b.root;
        for (int i = 0; i < 50; i++) {
            deep = b.create(zk, deep + "/d" + i, "");
        }
        Check.that("50 levels", zk.exists(deep, false) != null);
        String wide = b.create(zk, b.root + "/" + "w".repeat(5_000), "");
        Check.that("a long name", zk.exists(wide, false) != null);
        Check.that("it is listed", zk.getChildren(b.root, false).contains("w".repeat(5_000)));
    }

    private static void existsStat(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("missing", null, zk.exists(b.root + "/n", false));
        b.create(zk, b.root + "/n", "abc");
        b.create(zk, b.root + "/n/x", "");
        b.create(zk, b.root + "/n/y", "");
        zk.delete(b.root + "/n/x", -1);
        Stat stat = zk.exists(b.root + "/n", false);
        Check.eq("cversion counts both ways", 3, stat.getCversion());
        Check.eq("children", 1, stat.getNumChildren());
        Check.that("pzxid is the deletion's", stat.getPzxid() > zk.exists(b.root + "/n/y", false).getCzxid());
        Check.eq("exists of /", true, zk.exists("/", false) != null);
    }

    private static void deleteRules(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        b.create(zk, path + "/child", "");
        Check.fails(Code.NOTEMPTY, () -> zk.delete(path, -1));
        zk.delete(path + "/child", 0);
        zk.setData(path, bytes("1"), -1);
        Check.fails(Code.BADVERSION, () -> zk.delete(path, 0));
        zk.delete(path, 1);
        Check.eq("gone", null, zk.exists(path, false));
        Check.fails(Code.NONODE, () -> zk.delete(path, -1));
        Check.fails(Code.BADARGUMENTS, () -> zk.delete("/", -1));
    }

    private static void childrenLists(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("none", List.of(), zk.getChildren(b.root, false));
        for (String name : List.of("b", "a", "c")) {
            b.create(zk, b.root + "/" + name, "");
        }
        b.create(zk, b.root + "/a/grandchild", "");
        Stat stat = new Stat();
        Check.eq("names", new TreeSet<>(List.of("a", "b", "c")), new TreeSet<>(zk.getChildren(b.root, false, stat)));
        Check.eq("Stat", zk.exists(b.root, false), stat);
        Check.eq("all below", 4, zk.getAllChildrenNumber(b.root));
        Check.eq("below a leaf", 0, zk.getAllChildrenNumber(b.root + "/b"));
        Check.fails(Code.NONODE, () -> zk.getChildren(b.root + "/no", false));
        Check.fails(Code.NONODE, () -> zk.getAllChildrenNumber(b.root + "/no"));
        Check.that("/ has zookeeper", zk.getChildren("/", false).contains("zookeeper"));
        Check.that("/zookeeper has config and quota", zk.getChildren("/zookeeper", false).containsAll(List.of("config", "quota")));
    }

    private static void childrenMany(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        int count = 3_000;
        CountDownLatch made = new CountDownLatch(count);
        for (int i = 0; i < count; i++) {
            zk.create(b.root + "/child-with-a-long-enough-name-", bytes("x"), ZooDefs.Ids.OPEN_ACL_UNSAFE,
                    CreateMode.PERSISTENT_SEQUENTIAL, (rc, path, ctx, name) -> {
                        if (b.told(rc) == 0) {
                            made.countDown();
                        }
                    }, null);
        }
        Check.that("all are made", made.await(30, TimeUnit.SECONDS));
        List<String> names = zk.getChildren(b.root, false);
        Check.eq("listed", count, names.size());
        Check.eq("distinct", count, new TreeSet<>(names).size());
        Check.eq("last", "child-with-a-long-enough-name-0000002999", Collections.max(names));
    }

    private static void ephemeralsList(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        Check.eq("none", List.of(), zk.getEphemerals());
        b.create(zk, b.root + "/a", "", CreateMode.EPHEMERAL);
        b.create(zk, b.root + "/b", "", CreateMode.EPHEMERAL);
        b.create(zk, b.root + "/p", "");
        b.create(zk, b.root + "/p/a", "", CreateMode.EPHEMERAL);
        b.create(other, b.root + "/theirs", "", CreateMode.EPHEMERAL);
        Check.eq("mine", new TreeSet<>(List.of(b.root + "/a", b.root + "/b", b.root + "/p/a")), new TreeSet<>(zk.getEphemerals()));
        Check.eq("under p", List.of(b.root + "/p/a"), zk.getEphemerals(b.root + "/p"));
        Check.eq("theirs", List.of(b.root + "/theirs"), other.getEphemerals());
        zk.delete(b.root + "/a", -1);
        Check.eq("one less", 2, zk.getEphemerals().size());
    }

    private static void sync(Bench b) throws Exception {
        ZooKeeper writer = b.connect();
        ZooKeeper reader = b.connect();
        String path = b.create(writer, b.root + "/n", "");
        for (int i = 0; i < 20; i++) {
            writer.setData(path, bytes("" + i), i);
            CountDownLatch done = new CountDownLatch(1);
            String[] seen = new String[2];
            reader.sync(path, (rc, synced, ctx) -> seen[0] = b.told(rc) + " " + synced, null);
            reader.getData(path, false, (rc, p, ctx, data, stat) -> {
                b.told(rc);
                seen[1] = text(data);
                done.countDown();
            }, null);
            Check.that("answers", done.await(10, TimeUnit.SECONDS));
            Check.eq("sync", "0 " + path, seen[0]);
            Check.eq("the last write", "" + i, seen[1]);
        }
    }

    private static void asyncOrder(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "-");
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        List<String> wanted = new ArrayList<>();
        int rounds = 500;
        CountDownLatch done = new CountDownLatch(2 * rounds);
        for (int i = 0; i < rounds; i++) {
            zk.setData(path, bytes("v" + i), i, (rc, p, ctx, stat) -> {
                seen.add("set " + b.told(rc) + " " + (stat == null ? -1 : stat.getVersion()));
                done.countDown();
            }, null);
            zk.getData(path, false, (rc, p, ctx, data, stat) -> {
                b.told(rc);
                seen.add("get " + text(data) + " " + (stat == null ? -1 : stat.getVersion()));
                done.countDown();
            }, null);
            wanted.add("set 0 " + (i + 1));
            wanted.add("get v" + i + " " + (i + 1));
        }
        Check.that("all answered", done.await(30, TimeUnit.SECONDS));
        for (int i = 0; i < wanted.size(); i++) {
            Check.eq("answer " + i, wanted.get(i), seen.get(i));
        }
    }

    private static void asyncEverything(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(1);
        String n = b.root + "/n";
        zk.create(n, bytes("1"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                (rc, path, ctx, name) -> seen.add("create " + rc), null);
        zk.create(n + "/s", bytes("1"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL,
                (rc, path, ctx, name, stat) -> seen.add("create2 " + b.told(rc) + " " + (rc == 0 ? name.substring(n.length()) + " " + stat.getVersion() : "")), null);
        zk.create(n + "/t", bytes("1"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL,
                (rc, path, ctx, name, stat) -> seen.add("createTTL " + rc), null, 60_000);
        zk.exists(n, false, (rc, path, ctx, stat) -> seen.add("exists " + b.told(rc) + " " + (stat == null ? -1 : stat.getNumChildren())), null);
        zk.exists(n + "/no", false, (rc, path, ctx, stat) -> seen.add("exists " + rc), null);
        zk.getData(n, false, (rc, path, ctx, data, stat) -> seen.add("getData " + rc + " " + text(data)), null);
        zk.setData(n, bytes("2"), 7, (rc, path, ctx, stat) -> seen.add("setData " + rc), null);
        zk.getACL(n, new Stat(), (rc, path, ctx, acl, stat) -> seen.add("getACL " + b.told(rc) + " " + (acl == null ? -1 : acl.size())), null);
        zk.setACL(n, ZooDefs.Ids.OPEN_ACL_UNSAFE, 0, (rc, path, ctx, stat) -> seen.add("setACL " + b.told(rc) + " " + (stat == null ? -1 : stat.getAversion())), null);
        zk.getChildren(n, false, (rc, path, ctx, children) -> seen.add("getChildren " + b.told(rc) + " " + (children == null ? -1 : children.size())), null);
        zk.getChildren(n, false, (rc, path, ctx, children, stat) -> seen.add("getChildren2 " + b.told(rc) + " " + (stat == null ? -1 : stat.getCversion())), null);
        zk.getAllChildrenNumber(n, (rc, path, ctx, number) -> seen.add("number " + rc + " " + number), null);
        zk.getEphemerals(b.root, (rc, ctx, paths) -> seen.add("ephemerals " + b.told(rc) + " " + (paths == null ? -1 : paths.size())), null);
        zk.delete(n, -1, (rc, path, ctx) -> seen.add("delete " + rc), null);
        zk.delete(n + "/t", -1, (rc, path, ctx) -> {
            seen.add("delete " + b.told(rc));
            done.countDown();
        }, null);
        Check.that("all answered", done.await(15, TimeUnit.SECONDS));
        Check.eq("answers", List.of("create 0", "create2 0 /s0000000000 0", "createTTL 0", "exists 0 2", "exists -101", "getData 0 1",
                "setData -103", "getACL 0 1", "setACL 0 1", "getChildren 0 2", "getChildren2 0 2", "number 0 2", "ephemerals 0 0",
                "delete -111", "delete 0"), seen);
    }

    private static void config(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Stat stat = new Stat();
        byte[] data = zk.getConfig(false, stat);
        Check.eq("the config node", stat.getDataLength(), data == null ? 0 : data.length);
        Check.fails(Code.NOAUTH, () -> zk.setData("/zookeeper/config", bytes("x"), -1));
    }

    private static void reconfig(Bench b) throws Exception {
        if (Bench.ENSEMBLE) {
            // Only a single server refuses for certain; what an ensemble does is another suite's business.
            return;
        }
        Events events = new Events();
        ZooKeeperAdmin admin = b.keep(new ZooKeeperAdmin(Bench.HOSTS, Bench.TIMEOUT_MS, events));
        admin.addAuthInfo("digest", bytes("super:test"));
        Check.fails(Code.UNIMPLEMENTED, () -> admin.reconfigure("server.2=127.0.0.1:1:2;3", null, null, -1, new Stat()));
    }

    private static void chroot(Bench b) throws Exception {
        ZooKeeper whole = b.connect();
        Events events = new Events();
        ZooKeeper zk = b.connect(Bench.HOSTS + b.root, Bench.TIMEOUT_MS, new Events());
        Check.eq("own view", "/n", b.create(zk, "/n", "1"));
        Events.fence(whole);
        Check.eq("whole view", "1", text(whole.getData(b.root + "/n", false, null)));
        Check.eq("sequence", "/s0000000001", b.create(zk, "/s", "", CreateMode.PERSISTENT_SEQUENTIAL));
        zk.getData("/n", events, null);
        whole.setData(b.root + "/n", bytes("2"), -1);
        events.expect(org.apache.zookeeper.Watcher.Event.EventType.NodeDataChanged, "/n");
    }

    /** A soft quota: the server keeps the account, and only warns. */
    private static void quota(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        b.create(zk, b.root + "/a", "12345");
        String node = "/zookeeper/quota";
        for (String part : b.root.substring(1).split("/")) {
            node = b.create(zk, node + "/" + part, "");
        }
        String quota = node;
        StatsTrack limit = new StatsTrack();
        limit.setCount(2);
        limit.setBytes(8);
        b.create(zk, quota + "/zookeeper_limits", limit.toString());
        b.create(zk, quota + "/zookeeper_stats", new StatsTrack().toString());
        b.create(zk, b.root + "/b", "123");
        zk.setData(b.root + "/b", bytes("1234"), -1);
        StatsTrack after = new StatsTrack(text(zk.getData(quota + "/zookeeper_stats", false, null)));
        // Making the stats node counts what is there: the node itself, /a and then /b.
        Check.eq("nodes", 3L, after.getCount());
        Check.eq("bytes", 9L, after.getBytes());
        zk.delete(b.root + "/b", -1);
        Check.eq("nodes after a deletion", 2L, new StatsTrack(text(zk.getData(quota + "/zookeeper_stats", false, null))).getCount());
        ZKUtil.deleteRecursive(zk, "/zookeeper/quota/" + b.root.split("/")[1], 100);
    }

    private static void zkUtil(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        for (String path : List.of("/t", "/t/a", "/t/a/1", "/t/a/2", "/t/b")) {
            b.create(zk, b.root + path, "");
        }
        Check.eq("listed", 5, ZKUtil.listSubTreeBFS(zk, b.root + "/t").size());
        Check.that("deleted", ZKUtil.deleteRecursive(zk, b.root + "/t", 10));
        Check.eq("gone", null, zk.exists(b.root + "/t", false));
    }

    private OperationCases() {}
}
