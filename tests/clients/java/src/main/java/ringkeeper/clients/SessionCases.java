package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.List;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ClientInfo;

/** The life of a session: made, negotiated, attached again, expired, closed. */
final class SessionCases {
    static void register(Main.Cases cases) {
        // The slow ones first, so that they wait beside the others.
        cases.add("session.expires", SessionCases::expires);
        cases.add("session.idle-stays-alive", SessionCases::idle);
        cases.add("session.negotiation", SessionCases::negotiation);
        cases.add("session.identity", SessionCases::identity);
        cases.add("session.close", SessionCases::close);
        cases.add("session.close-is-one-transaction", SessionCases::closeAtOnce);
        cases.add("session.attach", SessionCases::attach);
        cases.add("session.attach-takes-over", SessionCases::takeOver);
        cases.add("session.wrong-password", SessionCases::wrongPassword);
        cases.add("session.unknown-id", SessionCases::unknownId);
        cases.add("session.read-only-client", SessionCases::readOnly);
        cases.add("session.who-am-i", SessionCases::whoAmI);
    }

    private static void expires(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events events = new Events();
        ZooKeeper zk = b.connect(proxy.address(), Bench.SHORT_MS, events);
        ZooKeeper other = b.connect();
        String path = b.create(zk, b.root + "/e", "", CreateMode.EPHEMERAL);
        Events deleted = new Events();
        Events.fence(other);
        other.exists(path, deleted);
        long start = System.nanoTime();
        proxy.cut();
        events.state(KeeperState.Disconnected);
        deleted.expect(EventType.NodeDeleted, path);
        long took = (System.nanoTime() - start) / 1_000_000;
        // The last ping may be a third of the timeout old; buckets round up by at most a tick.
        Check.that("not before its time: " + took + " ms", took > Bench.SHORT_MS / 2);
        Check.that("soon after its time: " + took + " ms", took < Bench.SHORT_MS + 6_000);
        proxy.mend();
        events.state(KeeperState.Expired);
        Check.fails(Code.SESSIONEXPIRED, () -> zk.exists("/", false));
        Check.that("not alive", !zk.getState().isAlive());
    }

    private static void idle(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        ZooKeeper zk = b.connect(proxy.address(), Bench.SHORT_MS, new Events());
        String path = b.create(zk, b.root + "/e", "", CreateMode.EPHEMERAL);
        long until = System.nanoTime() + (Bench.SHORT_MS + 5_000) * 1_000_000L;
        Check.until("longer than its timeout has passed", () -> System.nanoTime() > until);
        Check.that("pings kept it", zk.exists(path, false) != null);
        Check.that("on one connection", proxy.accepted() == 1 || Bench.KILLS);
    }

    private static void negotiation(Bench b) throws Exception {
        Check.eq("below twice the tick", 4_000, b.connect(Bench.HOSTS, 1_000, new Events()).getSessionTimeout());
        Check.eq("between", 7_500, b.connect(Bench.HOSTS, 7_500, new Events()).getSessionTimeout());
        Check.eq("above twenty ticks", 40_000, b.connect(Bench.HOSTS, 100_000, new Events()).getSessionTimeout());
    }

    private static void identity(Bench b) throws Exception {
        ZooKeeper first = b.connect();
        ZooKeeper second = b.connect();
        Check.that("ids differ", first.getSessionId() != second.getSessionId());
        Check.that("not zero", first.getSessionId() != 0);
        Check.eq("password", 16, first.getSessionPasswd().length);
        Check.that("passwords differ", !java.util.Arrays.equals(first.getSessionPasswd(), second.getSessionPasswd()));
    }

    private static void close(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        b.create(zk, b.root + "/e", "", CreateMode.EPHEMERAL);
        b.create(zk, b.root + "/p", "");
        long id = zk.getSessionId();
        byte[] password = zk.getSessionPasswd();
        zk.close();
        // The close was answered before: no need to wait, only for the other's server to have heard of it.
        Events.fence(other);
        Check.eq("ephemeral", null, other.exists(b.root + "/e", false));
        Check.that("persistent", other.exists(b.root + "/p", false) != null);
        Check.fails(Code.SESSIONEXPIRED, () -> zk.exists("/", false));
        Events events = new Events();
        b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, id, password));
        events.state(KeeperState.Expired);
    }

    private static void closeAtOnce(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        ZooKeeper other = b.connect();
        for (String parent : List.of("/a", "/b", "/c")) {
            b.create(zk, b.root + parent, "");
            b.create(zk, b.root + parent + "/e1", "", CreateMode.EPHEMERAL);
            b.create(zk, b.root + parent + "/e2", "", CreateMode.EPHEMERAL);
        }
        zk.close();
        Events.fence(other);
        long zxid = other.exists(b.root + "/a", false).getPzxid();
        for (String parent : List.of("/a", "/b", "/c")) {
            Check.eq("children", 0, other.exists(b.root + parent, false).getNumChildren());
            Check.eq("one zxid", zxid, other.exists(b.root + parent, false).getPzxid());
        }
    }

    private static void attach(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        ZooKeeper first = b.connect(proxy.address(), Bench.TIMEOUT_MS, new Events());
        String path = b.create(first, b.root + "/e", "", CreateMode.EPHEMERAL);
        proxy.cut();
        Events events = new Events();
        ZooKeeper second = b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, first.getSessionId(), first.getSessionPasswd()));
        events.state(KeeperState.SyncConnected);
        Check.eq("the same session", first.getSessionId(), second.getSessionId());
        Events.fence(second);
        Check.eq("its ephemeral", second.getSessionId(), second.exists(path, false).getEphemeralOwner());
        second.delete(path, -1);
        b.create(second, path, "again", CreateMode.EPHEMERAL);
        // It outlives the point at which the first connection alone would have expired.
        long until = System.nanoTime() + (Bench.TIMEOUT_MS + 3_000) * 1_000_000L;
        Check.until("longer than its timeout has passed", () -> System.nanoTime() > until);
        Check.that("still there", second.exists(path, false) != null);
        second.close();
        Check.eq("closed with the session", null, b.connect().exists(path, false));
    }

    /** While the first connection lives, an attach moves the session; the first then fights for it, or is cut off. */
    private static void takeOver(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        Events firstEvents = new Events();
        ZooKeeper first = b.connect(proxy.address(), Bench.TIMEOUT_MS, firstEvents);
        firstEvents.state(KeeperState.SyncConnected);
        String path = b.create(first, b.root + "/e", "", CreateMode.EPHEMERAL);
        Events events = new Events();
        ZooKeeper second = b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, first.getSessionId(), first.getSessionPasswd()));
        events.state(KeeperState.SyncConnected);
        firstEvents.state(KeeperState.Disconnected);
        proxy.cut();
        Check.until("the second settles", () -> {
            try {
                return second.exists(path, false) != null;
            } catch (KeeperException.ConnectionLossException fought) {
                return false;
            }
        });
        Check.eq("one session", first.getSessionId(), second.getSessionId());
    }

    private static void wrongPassword(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        ZooKeeper zk = b.connect(proxy.address(), Bench.TIMEOUT_MS, new Events());
        String path = b.create(zk, b.root + "/e", "mine", CreateMode.EPHEMERAL);
        byte[] wrong = zk.getSessionPasswd().clone();
        wrong[3] ^= 1;
        Events events = new Events();
        ZooKeeper thief = b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, zk.getSessionId(), wrong));
        events.state(KeeperState.Expired);
        Check.fails(Code.SESSIONEXPIRED, () -> thief.exists("/", false));
        if (Bench.RINGKEEPER) {
            Check.eq("the owner works on", "mine", text(zk.getData(path, false, null)));
            Check.that("undisturbed", proxy.accepted() == 1 || Bench.KILLS);
        } else {
            // ZooKeeper cuts the owner's connection before it looks at the password; the session itself survives.
            Check.until("the owner works again", () -> {
                try {
                    return "mine".equals(text(zk.getData(path, false, null)));
                } catch (KeeperException.ConnectionLossException kicked) {
                    return false;
                }
            });
        }
        zk.setData(path, bytes("still"), -1);
    }

    private static void unknownId(Bench b) throws Exception {
        Events events = new Events();
        b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, 0x1234_5678_9abcL, new byte[16]));
        events.state(KeeperState.Expired);
    }

    private static void readOnly(Bench b) throws Exception {
        Events events = new Events();
        ZooKeeper zk = b.keep(new ZooKeeper(Bench.HOSTS, Bench.TIMEOUT_MS, events, true));
        events.state(KeeperState.SyncConnected);
        Check.eq("state", ZooKeeper.States.CONNECTED, zk.getState());
        b.create(zk, b.root + "/n", "");
    }

    private static void whoAmI(Bench b) throws Exception {
        ZooKeeper zk = b.connect();
        Check.eq("before", "ip", schemes(zk.whoAmI()));
        zk.addAuthInfo("digest", bytes("ann:secret"));
        Check.eq("after", "digest ip", schemes(zk.whoAmI()));
        Check.that("the user's name", zk.whoAmI().stream().anyMatch(info -> info.getUser().equals("ann")));
    }

    private static String schemes(List<ClientInfo> all) {
        return all.stream().map(ClientInfo::getAuthScheme).sorted().reduce((a, c) -> a + " " + c).orElse("");
    }

    private SessionCases() {}
}
