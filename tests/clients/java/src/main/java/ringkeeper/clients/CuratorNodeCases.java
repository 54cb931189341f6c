package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/** Curator's framework itself, nodes that come back by themselves, membership and service discovery. */
final class CuratorNodeCases {
    static void register(Main.Cases cases) {
        cases.add("curator.framework", CuratorNodeCases::framework);
        cases.add("curator.framework-protection", CuratorNodeCases::protection);
        cases.add("curator.framework-transaction", CuratorNodeCases::transaction);
        cases.add("curator.framework-states", CuratorNodeCases::states, "it counts the cuts of its connection");
        cases.add("curator.persistent-node", CuratorNodeCases::persistentNode);
        cases.add("curator.persistent-node-after-expiry", CuratorNodeCases::persistentNodeExpiry);
        cases.add("curator.persistent-ttl-node", CuratorNodeCases::ttlNode);
        cases.add("curator.group-member", CuratorNodeCases::group);
        cases.add("curator.discovery", CuratorNodeCases::discovery);
        cases.add("curator.discovery-after-expiry", CuratorNodeCases::discoveryExpiry);
    }

    private static void framework(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        client.create().creatingParentContainersIfNeeded().forPath("/a/b/c", bytes("1"));
        client.create().orSetData().forPath("/a/b/c", bytes("2"));
        Stat stat = new Stat();
        Check.eq("data", "2", text(client.getData().storingStatIn(stat).forPath("/a/b/c")));
        Check.eq("version", 1, stat.getVersion());
        client.setData().withVersion(1).forPath("/a/b/c", bytes("3"));
        Check.eq("children", List.of("c"), client.getChildren().forPath("/a/b"));
        client.setData().compressed().forPath("/a/b/c", bytes("squeezed"));
        Check.eq("compressed", "squeezed", text(client.getData().decompressed().forPath("/a/b/c")));
        CountDownLatch done = new CountDownLatch(1);
        client.checkExists().inBackground((c, event) -> done.countDown()).forPath("/a/b");
        Check.that("background", done.await(15, TimeUnit.SECONDS));
        client.sync().forPath("/a");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath("/a");
        client.delete().quietly().forPath("/a");
        Check.eq("gone", null, client.checkExists().forPath("/a"));
    }

    private static void protection(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        String path = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/lock-");
        Check.that("a guarded name: " + path, path.startsWith("/_c_") && path.endsWith("-lock-0000000000"));
        Check.that("there", client.checkExists().forPath(path) != null);
    }

    private static void transaction(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        client.create().forPath("/set");
        CuratorOp create = client.transactionOp().create().forPath("/made", bytes("1"));
        CuratorOp set = client.transactionOp().setData().withVersion(0).forPath("/set", bytes("2"));
        CuratorOp check = client.transactionOp().check().withVersion(1).forPath("/set");
        List<CuratorTransactionResult> results = client.transaction().forOperations(create, set, check);
        Check.eq("results", 3, results.size());
        Check.eq("path", "/made", results.get(0).getResultPath());
        Check.eq("version", 1, results.get(1).getResultStat().getVersion());
        Check.fails(org.apache.zookeeper.KeeperException.Code.BADVERSION,
                () -> client.transaction().forOperations(client.transactionOp().delete().forPath("/made"), set));
        Check.that("still made", client.checkExists().forPath("/made") != null);
    }

    private static void states(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        CuratorFramework client = b.curator(proxy.address(), Bench.SHORT_MS);
        List<ConnectionState> seen = Collections.synchronizedList(new ArrayList<>());
        // The first connection is told by a thread of Curator's own, which may come to it only now.
        client.getConnectionStateListenable().addListener((c, state) -> {
            if (state != ConnectionState.CONNECTED) {
                seen.add(state);
            }
        });
        proxy.drop();
        Check.until("reconnected", () -> seen.equals(List.of(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED)));
        proxy.cut();
        Check.until("lost", 20_000, () -> seen.contains(ConnectionState.LOST));
        proxy.mend();
        Check.until("and back", 20_000, () -> seen.get(seen.size() - 1) == ConnectionState.RECONNECTED);
        client.create().forPath("/works");
    }

    private static void persistentNode(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        PersistentNode node = b.keep(new PersistentNode(client, CreateMode.EPHEMERAL, false, "/n", bytes("1")));
        node.start();
        Check.that("created", node.waitForInitialCreate(15, TimeUnit.SECONDS));
        other.delete().forPath("/n");
        Check.until("it comes back", () -> other.checkExists().forPath("/n") != null);
        node.setData(bytes("2"));
        Check.until("new data", () -> "2".equals(text(other.getData().forPath("/n"))));
        node.close();
        Check.until("closed", () -> other.checkExists().forPath("/n") == null);
    }

    private static void persistentNodeExpiry(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        CuratorFramework client = b.curator(proxy.address(), Bench.SHORT_MS);
        CuratorFramework other = b.curator();
        PersistentNode node = b.keep(new PersistentNode(client, CreateMode.EPHEMERAL, false, "/n", bytes("1")));
        node.start();
        Check.that("created", node.waitForInitialCreate(15, TimeUnit.SECONDS));
        Bench.catchUp(other);
        long first = other.checkExists().forPath("/n").getEphemeralOwner();
        proxy.cut();
        Check.until("expired", 20_000, () -> other.checkExists().forPath("/n") == null);
        proxy.mend();
        Check.until("made again", 20_000, () -> other.checkExists().forPath("/n") != null);
        Check.that("by a new session", other.checkExists().forPath("/n").getEphemeralOwner() != first);
    }

    private static void ttlNode(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        PersistentTtlNode node = b.keep(new PersistentTtlNode(client, "/n", 600, bytes("1")));
        node.start();
        Check.that("created", node.waitForInitialCreate(15, TimeUnit.SECONDS));
        long until = System.nanoTime() + 5_000_000_000L;
        Check.until("several times its TTL has passed", () -> System.nanoTime() > until);
        Bench.catchUp(other);
        Check.that("touched and so alive", other.checkExists().forPath("/n") != null);
        node.close();
        Check.until("nobody touches it any more", 20_000, () -> other.checkExists().forPath("/n") == null);
    }

    private static void group(Bench b) throws Exception {
        GroupMember one = b.keep(new GroupMember(b.curator(), "/group", "one", bytes("1")));
        GroupMember two = b.keep(new GroupMember(b.curator(), "/group", "two", bytes("2")));
        one.start();
        two.start();
        Check.until("both see both", () -> one.getCurrentMembers().keySet().equals(Set.of("one", "two"))
                && two.getCurrentMembers().keySet().equals(Set.of("one", "two")));
        two.setThisData(bytes("22"));
        Check.until("data", () -> "22".equals(text(one.getCurrentMembers().get("two"))));
        two.close();
        Check.until("one is left", () -> one.getCurrentMembers().keySet().equals(Set.of("one")));
    }

    private static ServiceInstance<Void> instance(String id, int port) throws Exception {
        return ServiceInstance.<Void>builder().name("mail").id(id).address("host-" + id).port(port).build();
    }

    private static ServiceDiscovery<Void> discovery(Bench b, CuratorFramework client, ServiceInstance<Void> own) throws Exception {
        ServiceDiscovery<Void> discovery = b.keep(ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath("/services")
                .thisInstance(own).watchInstances(true).build());
        discovery.start();
        return discovery;
    }

    private static Set<String> ids(Collection<ServiceInstance<Void>> instances) {
        Set<String> ids = new TreeSet<>();
        instances.forEach(each -> ids.add(each.getId()));
        return ids;
    }

    private static void discovery(Bench b) throws Exception {
        ServiceDiscovery<Void> one = discovery(b, b.curator(), instance("a", 1));
        CuratorFramework reader = b.curator();
        ServiceDiscovery<Void> two = discovery(b, reader, null);
        Check.eq("names", List.of("mail"), List.copyOf(two.queryForNames()));
        ServiceCache<Void> cache = b.keep(two.serviceCacheBuilder().name("mail").build());
        cache.start();
        ServiceProvider<Void> provider = b.keep(two.serviceProviderBuilder().serviceName("mail").build());
        provider.start();
        Check.eq("provided", "host-a", provider.getInstance().getAddress());
        ServiceInstance<Void> second = instance("b", 2);
        one.registerService(second);
        Bench.catchUp(reader);
        Check.eq("queried", Set.of("a", "b"), ids(two.queryForInstances("mail")));
        Check.until("cached", () -> ids(cache.getInstances()).equals(Set.of("a", "b")));
        one.unregisterService(second);
        Check.until("withdrawn", () -> ids(cache.getInstances()).equals(Set.of("a")));
        one.close();
        Check.until("closed", () -> cache.getInstances().isEmpty());
    }

    private static void discoveryExpiry(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        discovery(b, b.curator(proxy.address(), Bench.SHORT_MS), instance("a", 1));
        ServiceDiscovery<Void> other = discovery(b, b.curator(), null);
        Check.eq("there", Set.of("a"), ids(other.queryForInstances("mail")));
        proxy.cut();
        Check.until("expired", 20_000, () -> other.queryForInstances("mail").isEmpty());
        proxy.mend();
        Check.until("registered again", 20_000, () -> ids(other.queryForInstances("mail")).equals(Set.of("a")));
    }

    private CuratorNodeCases() {}
}
