package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.Arrays;
import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Who may do what. */
final class AclCases {
    static void register(Main.Cases cases) {
        cases.add("acl.creator", AclCases::creator);
        cases.add("acl.each-permission", AclCases::eachPermission);
        cases.add("acl.set-and-versions", AclCases::versions);
        cases.add("acl.ip", AclCases::ip);
        cases.add("acl.world-read-only", AclCases::worldReadOnly);
        cases.add("acl.masking", AclCases::masking);
        cases.add("acl.super", AclCases::superUser);
        cases.add("acl.auth-failed", AclCases::authFailed);
        cases.add("acl.invalid", AclCases::invalid);
        cases.add("acl.multi", AclCases::multi);
        cases.add("acl.several-identities", AclCases::several);
        cases.add("acl.watch-needs-read", AclCases::watchNeedsRead);
    }

    private static ZooKeeper as(Bench b, String user) throws Exception {
        ZooKeeper zk = b.connect();
        zk.addAuthInfo("digest", bytes(user));
        return zk;
    }

    private static ACL digest(int perms, String user) throws Exception {
        return new ACL(perms, new Id("digest", DigestAuthenticationProvider.generateDigest(user)));
    }

    /** Not List.of: the client asks `contains(null)`, which that list answers with an exception. */
    private static List<ACL> acl(ACL... entries) {
        return Arrays.asList(entries);
    }

    private static void creator(Bench b) throws Exception {
        ZooKeeper ann = as(b, "ann:secret");
        ZooKeeper nobody = b.connect();
        String path = ann.create(b.root + "/n", bytes("x"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Check.eq("resolved", acl(digest(Perms.ALL, "ann:secret")), ann.getACL(path, new Stat()));
        Events.fence(nobody);
        Check.fails(Code.NOAUTH, () -> nobody.getData(path, false, null));
        Check.fails(Code.NOAUTH, () -> nobody.setData(path, bytes(""), -1));
        Check.fails(Code.NOAUTH, () -> nobody.getChildren(path, false));
        Check.fails(Code.NOAUTH, () -> b.create(nobody, path + "/c", ""));
        Check.fails(Code.NOAUTH, () -> nobody.getACL(path, new Stat()));
        Check.fails(Code.NOAUTH, () -> nobody.setACL(path, ZooDefs.Ids.OPEN_ACL_UNSAFE, -1));
        Check.fails(Code.NOAUTH, () -> as(b, "ann:wrong").getData(path, false, null));
        Check.eq("again with the password", "x", text(as(b, "ann:secret").getData(path, false, null)));
        // Deleting is the parent's matter.
        nobody.delete(path, -1);
    }

    private static void eachPermission(Bench b) throws Exception {
        ZooKeeper owner = as(b, "own:er");
        ZooKeeper guest = as(b, "gu:est");
        int[] perms = {Perms.READ, Perms.WRITE, Perms.CREATE, Perms.DELETE, Perms.ADMIN};
        for (int perm : perms) {
            String path = owner.create(b.root + "/n" + perm, bytes("x"),
                    acl(digest(Perms.ALL, "own:er"), digest(perm, "gu:est")), CreateMode.PERSISTENT);
            owner.create(path + "/c", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            Events.fence(guest);
            allowed(perm == Perms.READ, () -> guest.getData(path, false, null));
            allowed(perm == Perms.READ, () -> guest.exists(path, false));
            allowed(perm == Perms.READ, () -> guest.getChildren(path, false));
            allowed(perm == Perms.WRITE, () -> guest.setData(path, bytes("y"), -1));
            allowed(perm == Perms.CREATE, () -> b.create(guest, path + "/d", ""));
            allowed(perm == Perms.DELETE, () -> guest.delete(path + "/c", -1));
            allowed(perm == Perms.READ || perm == Perms.ADMIN, () -> guest.getACL(path, new Stat()));
            allowed(perm == Perms.ADMIN, () -> guest.setACL(path, ZooDefs.Ids.OPEN_ACL_UNSAFE, -1));
        }
    }

    private static void allowed(boolean yes, Check.Act act) throws Exception {
        if (yes) {
            act.run();
        } else {
            Check.fails(Code.NOAUTH, act);
        }
    }

    private static void versions(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = b.create(zk, b.root + "/n", "");
        Stat before = zk.exists(path, false);
        Stat after = zk.setACL(path, acl(new ACL(Perms.ALL, ZooDefs.Ids.ANYONE_ID_UNSAFE)), 0);
        Check.eq("aversion", 1, after.getAversion());
        Check.eq("version stays", before.getVersion(), after.getVersion());
        Check.eq("mzxid stays", before.getMzxid(), after.getMzxid());
        Check.fails(Code.BADVERSION, () -> zk.setACL(path, ZooDefs.Ids.OPEN_ACL_UNSAFE, 0));
        Check.fails(Code.NONODE, () -> zk.setACL(b.root + "/no", ZooDefs.Ids.OPEN_ACL_UNSAFE, -1));
        Stat stat = new Stat();
        Check.eq("list", ZooDefs.Ids.OPEN_ACL_UNSAFE, zk.getACL(path, stat));
        Check.eq("Stat", zk.exists(path, false), stat);
        Check.fails(Code.NONODE, () -> zk.getACL(b.root + "/no", stat));
    }

    private static void ip(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        for (String good : List.of("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0")) {
            String path = zk.create(b.root + "/n" + good.hashCode(), bytes("x"), acl(new ACL(Perms.ALL, new Id("ip", good))), CreateMode.PERSISTENT);
            Check.eq("with " + good, "x", text(zk.getData(path, false, null)));
        }
        for (String bad : List.of("10.9.8.7", "10.0.0.0/8")) {
            String path = zk.create(b.root + "/n" + bad.hashCode(), bytes("x"), acl(new ACL(Perms.ALL, new Id("ip", bad))), CreateMode.PERSISTENT);
            Check.fails(Code.NOAUTH, () -> zk.getData(path, false, null));
        }
        Check.fails(Code.INVALIDACL, () -> zk.create(b.root + "/i", null, acl(new ACL(Perms.ALL, new Id("ip", "no-address"))), CreateMode.PERSISTENT));
    }

    private static void worldReadOnly(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        String path = zk.create(b.root + "/n", bytes("x"), ZooDefs.Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT);
        Check.eq("read", "x", text(zk.getData(path, false, null)));
        Check.fails(Code.NOAUTH, () -> zk.setData(path, bytes("y"), -1));
        Check.fails(Code.NOAUTH, () -> b.create(zk, path + "/c", ""));
        Check.fails(Code.NOAUTH, () -> zk.setACL(path, ZooDefs.Ids.OPEN_ACL_UNSAFE, -1));
    }

    private static void masking(Bench b) throws Exception {
        ZooKeeper owner = as(b, "own:er");
        List<ACL> acl = acl(digest(Perms.ALL, "own:er"), new ACL(Perms.READ, ZooDefs.Ids.ANYONE_ID_UNSAFE));
        String path = owner.create(b.root + "/n", null, acl, CreateMode.PERSISTENT);
        Check.eq("the admin sees it", acl, owner.getACL(path, new Stat()));
        Check.eq("a reader sees no hash",
                acl(new ACL(Perms.ALL, new Id("digest", "own:x")), new ACL(Perms.READ, ZooDefs.Ids.ANYONE_ID_UNSAFE)),
                b.connect().getACL(path, new Stat()));
    }

    private static void superUser(Bench b) throws Exception {
        ZooKeeper owner = as(b, "own:er");
        String path = owner.create(b.root + "/n", bytes("x"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        ZooKeeper root = as(b, "super:test");
        Check.eq("reads", "x", text(root.getData(path, false, null)));
        root.setData(path, bytes("y"), -1);
        root.setACL(path, ZooDefs.Ids.OPEN_ACL_UNSAFE, -1);
        Check.eq("opened", "y", text(b.connect().getData(path, false, null)));
        Check.fails(Code.NOAUTH, () -> owner.setData("/zookeeper/config", bytes(""), -1));
    }

    private static void authFailed(Bench b) throws Exception {
        Events events = new Events();
        ZooKeeper zk = b.connect(Bench.HOSTS, Bench.TIMEOUT_MS, events);
        zk.addAuthInfo("no-such-scheme", bytes("x"));
        events.state(KeeperState.AuthFailed);
        Check.until("state", () -> zk.getState() == ZooKeeper.States.AUTH_FAILED);
        Check.fails(Code.AUTHFAILED, () -> zk.exists("/", false));
    }

    private static void invalid(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        List<List<ACL>> bad = List.of(
                acl(),
                acl(new ACL(Perms.ALL, new Id("no-such-scheme", "x"))),
                acl(new ACL(Perms.ALL, new Id("world", "somebody"))),
                acl(new ACL(Perms.ALL, new Id("digest", "no-colon"))),
                acl(new ACL(Perms.ALL, new Id("auth", ""))));
        for (List<ACL> each : bad) {
            Check.fails(Code.INVALIDACL, () -> zk.create(b.root + "/n", null, each, CreateMode.PERSISTENT));
            Check.fails(Code.INVALIDACL, () -> zk.setACL(b.root, each, -1));
        }
    }

    private static void multi(Bench b) throws Exception {
        ZooKeeper owner = as(b, "own:er");
        String path = owner.create(b.root + "/n", bytes("x"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        ZooKeeper guest = b.connect();
        Check.fails(Code.NOAUTH, () -> guest.multi(List.of(
                Op.create(b.root + "/other", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), Op.setData(path, bytes("y"), -1))));
        Check.eq("nothing made", null, guest.exists(b.root + "/other", false));
    }

    private static void several(Bench b) throws Exception {
        ZooKeeper zk = as(b, "ann:1");
        zk.addAuthInfo("digest", bytes("bob:2"));
        String path = zk.create(b.root + "/n", bytes("x"), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        Check.eq("both own it", 2, zk.getACL(path, new Stat()).size());
        Check.eq("either reads", "x", text(as(b, "bob:2").getData(path, false, null)));
    }

    /** Since 3.9.2 a watch tells nothing to a session that may not read the node. */
    private static void watchNeedsRead(Bench b) throws Exception {
        ZooKeeper owner = as(b, "own:er");
        ZooKeeper guest = b.connect();
        String path = b.create(owner, b.root + "/n", "x");
        Events mine = new Events();
        Events theirs = new Events();
        owner.exists(path, mine);
        Events.fence(guest);
        guest.exists(path, theirs);
        owner.setACL(path, ZooDefs.Ids.CREATOR_ALL_ACL, -1);
        owner.setData(path, bytes("y"), -1);
        mine.expect(EventType.NodeDataChanged, path);
        theirs.none(guest);
        Check.fails(Code.NOAUTH, () -> guest.exists(path, theirs));
        owner.setData(path, bytes("z"), -1);
        theirs.none(guest);
    }

    private AclCases() {}
}
