package ringkeeper.clients;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.imps.CuratorFrameworkState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** What a case works on: its own path prefix, and sessions and proxies that are closed after it. */
final class Bench implements AutoCloseable {
    static final String HOSTS = System.getenv().getOrDefault("ZK_HOSTS", "127.0.0.1:2181");
    /** Where ringkeeper promises more than ZooKeeper keeps, a case claims it only here. */
    static final boolean RINGKEEPER = "ringkeeper".equals(System.getenv("ZK_TARGET"));
    static final boolean ENSEMBLE = HOSTS.contains(",");
    /**
     * Somebody kills a server of the ensemble now and then. A request may then fail with its connection, and its case
     * begins again elsewhere in the tree; every session must be there afterwards, and any other failure is one.
     */
    static final boolean KILLS = !System.getenv().getOrDefault("ZK_KILLS", "").isEmpty();
    /** Short enough to wait for an expiry, long enough for a busy machine. */
    static final int TIMEOUT_MS = 6_000;
    /** For sessions that are meant to expire. */
    static final int SHORT_MS = 4_000;
    private static final String RUN = "/clients-java-" + Long.toHexString(System.nanoTime());

    /** The case's own node; it exists, persistent and empty. */
    final String root;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();
    private final List<Check.Act> promises = new ArrayList<>();
    private volatile boolean interrupted;

    Bench(String name) {
        root = RUN + "/" + name;
    }

    void prepare() throws Exception {
        try (ZooKeeper zk = plain(HOSTS, TIMEOUT_MS, new Events())) {
            for (String path : new String[] {RUN, root}) {
                try {
                    zk.create(path, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
                } catch (KeeperException.NodeExistsException other) {
                    // Another case of this run was first.
                }
            }
        }
    }

    /** What a callback was told: should its case fail because of it, it was only interrupted. */
    int told(int code) {
        interrupted |= code == KeeperException.Code.CONNECTIONLOSS.intValue();
        return code;
    }

    boolean interrupted(Throwable why) {
        return KILLS && (why instanceof KeeperException.ConnectionLossException || interrupted && why instanceof AssertionError);
    }

    /** Whoever was not closed still has its session, once it is connected again. */
    void sessionsAreKept() throws Exception {
        for (Check.Act each : promises) {
            each.run();
        }
    }

    /** From now on this client sees what was answered to others. */
    static void catchUp(CuratorFramework client) throws Exception {
        Events.fence(client.getZookeeperClient().getZooKeeper());
    }

    /** From now on every server shows what was answered before: for a case that cannot know where it comes back. */
    static void catchUpEverywhere() throws Exception {
        for (String host : HOSTS.split(",")) {
            try (ZooKeeper zk = plain(host, TIMEOUT_MS, new Events())) {
                Events.fence(zk);
            }
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return data == null ? null : new String(data, StandardCharsets.UTF_8);
    }

    /** A connected session that sees what was answered to others before; it is closed after the case. */
    ZooKeeper connect() throws Exception {
        return connect(HOSTS, TIMEOUT_MS, new Events());
    }

    ZooKeeper connect(String hosts, int timeoutMs, Events events) throws Exception {
        ZooKeeper zk = keep(plain(hosts, timeoutMs, events));
        Events.fence(zk);
        // A client behind a proxy may be meant to lose its session.
        if (hosts.equals(HOSTS)) {
            long session = zk.getSessionId();
            promises.add(() -> {
                Check.until("connected again, or closed", () -> zk.getState().isConnected() || !zk.getState().isAlive());
                Check.that("the session is kept", !events.expired());
                Check.eq("session after a kill", session, zk.getSessionId());
            });
        }
        return zk;
    }

    /** Waits for the connection by polling the state, so that the watcher's first events stay for the case to see. */
    static ZooKeeper plain(String hosts, int timeoutMs, Watcher watcher) throws Exception {
        ZooKeeper zk = new ZooKeeper(hosts, timeoutMs, watcher);
        Check.until("connected to " + hosts, () -> zk.getState().isConnected());
        return zk;
    }

    Proxy proxy() throws Exception {
        return keep(new Proxy(HOSTS));
    }

    /** A started Curator client whose whole world is the case's node. */
    CuratorFramework curator() throws Exception {
        return curator(HOSTS, TIMEOUT_MS);
    }

    CuratorFramework curator(String hosts, int timeoutMs) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(hosts)
                .namespace(root.substring(1))
                .sessionTimeoutMs(timeoutMs)
                .connectionTimeoutMs(10_000)
                .retryPolicy(KILLS ? new RetryNTimes(100, 100) : new RetryOneTime(200))
                .build();
        keep(client);
        client.start();
        Check.that("Curator connects", client.blockUntilConnected(15, java.util.concurrent.TimeUnit.SECONDS));
        catchUp(client);
        if (hosts.equals(HOSTS)) {
            long session = client.getZookeeperClient().getZooKeeper().getSessionId();
            promises.add(() -> {
                if (client.getState() == CuratorFrameworkState.STARTED) {
                    Check.until("connected again", () -> client.getZookeeperClient().isConnected());
                    Check.eq("session after a kill", session, client.getZookeeperClient().getZooKeeper().getSessionId());
                }
            });
        }
        return client;
    }

    synchronized <T extends AutoCloseable> T keep(T closeable) {
        open.push(closeable);
        return closeable;
    }

    String create(ZooKeeper zk, String path, String data) throws Exception {
        return create(zk, path, data, CreateMode.PERSISTENT);
    }

    String create(ZooKeeper zk, String path, String data, CreateMode mode) throws Exception {
        return zk.create(path, bytes(data), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode);
    }

    @Override
    public void close() {
        for (AutoCloseable each : open) {
            try {
                each.close();
            } catch (Exception ignored) {
                // Closed by the case already, or expired: both are fine here.
            }
        }
        open.clear();
    }

    /** After the last case; super:test because some cases leave nodes that only their creator may touch. */
    static void removeEverything() {
        try (ZooKeeper zk = plain(HOSTS, TIMEOUT_MS, new Events())) {
            zk.addAuthInfo("digest", bytes("super:test"));
            ZKUtil.deleteRecursive(zk, RUN, 100);
        } catch (Exception left) {
            // Rubbish under a unique prefix harms nobody.
        }
    }
}
