package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.zookeeper.Watcher.Event.EventType;

/** Curator's caches: a copy of a part of the tree that follows it, over cuts as well. */
@SuppressWarnings("deprecation") // The old caches are still what many programs use.
final class CuratorCacheCases {
    static void register(Main.Cases cases) {
        cases.add("curator.cache", CuratorCacheCases::cache);
        cases.add("curator.cache-single-node", CuratorCacheCases::single);
        cases.add("curator.cache-over-a-cut", CuratorCacheCases::overACut);
        cases.add("curator.node-cache", CuratorCacheCases::nodeCache);
        cases.add("curator.path-children-cache", CuratorCacheCases::pathChildren);
        cases.add("curator.tree-cache", CuratorCacheCases::treeCache);
        cases.add("curator.persistent-watcher", CuratorCacheCases::persistentWatcher);
        cases.add("curator.cache-of-many", CuratorCacheCases::many);
    }

    private static String at(CuratorCache cache, String path) {
        return cache.get(path).map(ChildData::getData).map(Bench::text).orElse(null);
    }

    private static void cache(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        other.create().creatingParentsIfNeeded().forPath("/t/a", bytes("1"));
        Bench.catchUp(client);
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch ready = new CountDownLatch(1);
        CuratorCache cache = b.keep(CuratorCache.build(client, "/t"));
        cache.listenable().addListener(CuratorCacheListener.builder()
                .forCreates(node -> seen.add("+" + node.getPath()))
                .forChanges((before, after) -> seen.add("=" + after.getPath() + text(before.getData()) + text(after.getData())))
                .forDeletes(node -> seen.add("-" + node.getPath()))
                .forInitialized(ready::countDown)
                .build());
        cache.start();
        Check.that("initialized", ready.await(15, TimeUnit.SECONDS));
        Check.eq("contents", "1", at(cache, "/t/a"));
        other.create().forPath("/t/a/b", bytes("2"));
        Check.until("created", () -> seen.contains("+/t/a/b"));
        other.setData().forPath("/t/a/b", bytes("3"));
        Check.until("changed", () -> seen.contains("=/t/a/b23"));
        other.delete().deletingChildrenIfNeeded().forPath("/t/a");
        Check.until("deleted", () -> seen.contains("-/t/a/b") && seen.contains("-/t/a"));
        Check.eq("size", 1, cache.size());
    }

    private static void single(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorCache cache = b.keep(CuratorCache.build(client, "/n", CuratorCache.Options.SINGLE_NODE_CACHE));
        cache.start();
        client.create().forPath("/n", bytes("1"));
        Check.until("created", () -> "1".equals(at(cache, "/n")));
        client.create().forPath("/n/child");
        client.setData().forPath("/n", bytes("2"));
        Check.until("changed", () -> "2".equals(at(cache, "/n")));
        Check.eq("only itself", 1, cache.size());
        client.delete().deletingChildrenIfNeeded().forPath("/n");
        Check.until("deleted", () -> at(cache, "/n") == null);
    }

    private static void overACut(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        CuratorFramework client = b.curator(proxy.address(), Bench.TIMEOUT_MS);
        CuratorFramework other = b.curator();
        for (String name : List.of("/t", "/t/kept", "/t/changed", "/t/gone")) {
            other.create().forPath(name, bytes("1"));
        }
        CuratorCache cache = b.keep(CuratorCache.build(client, "/t"));
        cache.start();
        Check.until("filled", () -> cache.size() == 4);
        proxy.cut();
        Check.until("cut", () -> !client.getZookeeperClient().isConnected());
        other.setData().forPath("/t/changed", bytes("2"));
        other.delete().forPath("/t/gone");
        other.create().forPath("/t/new", bytes("3"));
        proxy.mend();
        Check.until("changed", 20_000, () -> "2".equals(at(cache, "/t/changed")));
        Check.until("new", () -> "3".equals(at(cache, "/t/new")));
        Check.until("gone", () -> at(cache, "/t/gone") == null);
        other.setData().forPath("/t/kept", bytes("4"));
        Check.until("watching on", () -> "4".equals(at(cache, "/t/kept")));
    }

    private static void nodeCache(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        NodeCache cache = b.keep(new NodeCache(client, "/n"));
        cache.start(true);
        Check.eq("missing", null, cache.getCurrentData());
        client.create().forPath("/n", bytes("1"));
        Check.until("created", () -> cache.getCurrentData() != null && text(cache.getCurrentData().getData()).equals("1"));
        for (int i = 2; i < 6; i++) {
            String value = "" + i;
            client.setData().forPath("/n", bytes(value));
            Check.until("value " + i, () -> text(cache.getCurrentData().getData()).equals(value));
        }
        client.delete().forPath("/n");
        Check.until("deleted", () -> cache.getCurrentData() == null);
        client.create().forPath("/n", bytes("again"));
        Check.until("created again", () -> cache.getCurrentData() != null);
    }

    private static void pathChildren(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        other.create().forPath("/p");
        other.create().forPath("/p/a", bytes("1"));
        Bench.catchUp(client);
        PathChildrenCache cache = b.keep(new PathChildrenCache(client, "/p", true));
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        cache.getListenable().addListener((c, event) -> {
            if (event.getData() != null) {
                seen.add(event.getType() + event.getData().getPath());
            }
        });
        cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        Check.eq("initial", "1", text(cache.getCurrentData("/p/a").getData()));
        other.create().forPath("/p/b", bytes("2"));
        Check.until("added", () -> seen.contains("CHILD_ADDED/p/b"));
        other.setData().forPath("/p/a", bytes("3"));
        Check.until("updated", () -> seen.contains("CHILD_UPDATED/p/a"));
        other.delete().forPath("/p/a");
        Check.until("removed", () -> seen.contains("CHILD_REMOVED/p/a"));
        Check.eq("left", 1, cache.getCurrentData().size());
    }

    private static void treeCache(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        other.create().creatingParentsIfNeeded().forPath("/t/a/b", bytes("1"));
        Bench.catchUp(client);
        TreeCache cache = b.keep(new TreeCache(client, "/t"));
        CountDownLatch ready = new CountDownLatch(1);
        cache.getListenable().addListener((c, event) -> {
            if (event.getType() == org.apache.curator.framework.recipes.cache.TreeCacheEvent.Type.INITIALIZED) {
                ready.countDown();
            }
        });
        cache.start();
        Check.that("initialized", ready.await(15, TimeUnit.SECONDS));
        Check.eq("deep", "1", text(cache.getCurrentData("/t/a/b").getData()));
        other.create().creatingParentsIfNeeded().forPath("/t/x/y/z", bytes("2"));
        Check.until("a new branch", () -> cache.getCurrentData("/t/x/y/z") != null);
        other.delete().deletingChildrenIfNeeded().forPath("/t/x");
        Check.until("the branch goes", () -> cache.getCurrentData("/t/x") == null);
        Check.eq("children", java.util.Set.of("a"), cache.getCurrentChildren("/t").keySet());
    }

    private static void persistentWatcher(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        PersistentWatcher watcher = b.keep(new PersistentWatcher(client, "/n", true));
        CountDownLatch set = new CountDownLatch(1);
        watcher.getResetListenable().addListener(set::countDown);
        watcher.getListenable().addListener(event -> {
            if (event.getType() != EventType.None) {
                seen.add(event.getType() + event.getPath());
            }
        });
        watcher.start();
        Check.that("set", set.await(15, TimeUnit.SECONDS));
        client.create().forPath("/n");
        client.create().forPath("/n/c");
        client.delete().forPath("/n/c");
        List<String> wanted = List.of("NodeCreated/n", "NodeCreated/n/c", "NodeDeleted/n/c");
        Check.until("events", () -> seen.equals(wanted));
    }

    private static void many(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        CuratorFramework other = b.curator();
        other.create().forPath("/t");
        int count = 500;
        CountDownLatch made = new CountDownLatch(count);
        CuratorCache cache = b.keep(CuratorCache.build(client, "/t"));
        cache.start();
        for (int i = 0; i < count; i++) {
            other.create().inBackground((c, event) -> made.countDown()).forPath("/t/n" + i, bytes("" + i));
        }
        Check.that("made", made.await(30, TimeUnit.SECONDS));
        Check.until("cached", 30_000, () -> cache.size() == count + 1);
        Check.eq("one of them", "321", at(cache, "/t/n321"));
    }

    private CuratorCacheCases() {}
}
