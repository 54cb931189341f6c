package ringkeeper.clients;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;

/** Curator's recipes that decide who: locks, semaphores, leaders. */
final class CuratorLockCases {
    static void register(Main.Cases cases) {
        cases.add("curator.mutex", CuratorLockCases::mutex);
        cases.add("curator.mutex-excludes", CuratorLockCases::excludes);
        cases.add("curator.mutex-of-a-dead-session", CuratorLockCases::deadHolder);
        cases.add("curator.read-write-lock", CuratorLockCases::readWrite);
        cases.add("curator.semaphore", CuratorLockCases::semaphore);
        cases.add("curator.semaphore-mutex", CuratorLockCases::semaphoreMutex);
        cases.add("curator.multi-lock", CuratorLockCases::multiLock);
        cases.add("curator.leader-latch", CuratorLockCases::latch);
        cases.add("curator.leader-latch-after-expiry", CuratorLockCases::latchExpiry);
        cases.add("curator.leader-selector", CuratorLockCases::selector);
    }

    private static void mutex(Bench b) throws Exception {
        CuratorFramework one = b.curator();
        CuratorFramework two = b.curator();
        InterProcessMutex mine = new InterProcessMutex(one, "/lock");
        InterProcessMutex theirs = new InterProcessMutex(two, "/lock");
        Check.that("free", mine.acquire(5, TimeUnit.SECONDS));
        Check.that("again by the holder", mine.acquire(5, TimeUnit.SECONDS));
        Check.that("not by another", !theirs.acquire(200, TimeUnit.MILLISECONDS));
        Check.until("nobody waits any more", () -> mine.getParticipantNodes().size() == 1);
        mine.release();
        Check.that("still held", mine.isAcquiredInThisProcess() && !theirs.acquire(100, TimeUnit.MILLISECONDS));
        mine.release();
        Check.that("handed over", theirs.acquire(10, TimeUnit.SECONDS));
        theirs.release();
    }

    private static void excludes(Bench b) throws Exception {
        int workers = 4;
        int rounds = 10;
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger entered = new AtomicInteger();
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(workers);
        for (int i = 0; i < workers; i++) {
            InterProcessMutex lock = new InterProcessMutex(b.curator(), "/lock");
            new Thread(() -> {
                try {
                    for (int round = 0; round < rounds; round++) {
                        lock.acquire();
                        if (inside.incrementAndGet() != 1) {
                            wrong.add("two inside");
                        }
                        entered.incrementAndGet();
                        Thread.yield();
                        inside.decrementAndGet();
                        lock.release();
                    }
                } catch (Exception failed) {
                    wrong.add(failed.toString());
                }
                done.countDown();
            }).start();
        }
        Check.that("all come through", done.await(40, TimeUnit.SECONDS));
        Check.eq("wrong", List.of(), wrong);
        Check.eq("entered", workers * rounds, entered.get());
    }

    private static void deadHolder(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        CuratorFramework dying = b.curator(proxy.address(), Bench.SHORT_MS);
        InterProcessMutex lost = new InterProcessMutex(dying, "/lock");
        lost.acquire();
        InterProcessMutex heir = new InterProcessMutex(b.curator(), "/lock");
        Check.that("held", !heir.acquire(200, TimeUnit.MILLISECONDS));
        proxy.cut();
        Check.that("inherited once the session expired", heir.acquire(20, TimeUnit.SECONDS));
        heir.release();
    }

    private static void readWrite(Bench b) throws Exception {
        InterProcessReadWriteLock one = new InterProcessReadWriteLock(b.curator(), "/rw");
        InterProcessReadWriteLock two = new InterProcessReadWriteLock(b.curator(), "/rw");
        Check.that("reader", one.readLock().acquire(5, TimeUnit.SECONDS));
        Check.that("second reader", two.readLock().acquire(5, TimeUnit.SECONDS));
        two.readLock().release();
        Check.that("no writer beside a reader", !two.writeLock().acquire(200, TimeUnit.MILLISECONDS));
        one.readLock().release();
        Check.that("writer", two.writeLock().acquire(5, TimeUnit.SECONDS));
        Check.that("the writer may read", two.readLock().acquire(5, TimeUnit.SECONDS));
        Check.that("no other reader", !one.readLock().acquire(200, TimeUnit.MILLISECONDS));
        two.writeLock().release();
        Check.that("downgraded", one.readLock().acquire(5, TimeUnit.SECONDS));
        one.readLock().release();
        two.readLock().release();
    }

    private static void semaphore(Bench b) throws Exception {
        InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(b.curator(), "/sem", 3);
        InterProcessSemaphoreV2 two = new InterProcessSemaphoreV2(b.curator(), "/sem", 3);
        List<Lease> leases = new ArrayList<>(one.acquire(2, 5, TimeUnit.SECONDS));
        leases.add(two.acquire(5, TimeUnit.SECONDS));
        Check.eq("no fourth", null, two.acquire(300, TimeUnit.MILLISECONDS));
        Check.eq("holders", 3, two.getParticipantNodes().size());
        one.returnLease(leases.get(0));
        Lease next = two.acquire(10, TimeUnit.SECONDS);
        Check.that("one is free again", next != null);
        two.returnLease(next);
        two.returnLease(leases.get(2));
        one.returnLease(leases.get(1));
    }

    private static void semaphoreMutex(Bench b) throws Exception {
        InterProcessSemaphoreMutex one = new InterProcessSemaphoreMutex(b.curator(), "/lock");
        InterProcessSemaphoreMutex two = new InterProcessSemaphoreMutex(b.curator(), "/lock");
        Check.that("free", one.acquire(5, TimeUnit.SECONDS));
        Check.that("taken", !two.acquire(300, TimeUnit.MILLISECONDS));
        one.release();
        Check.that("handed over", two.acquire(10, TimeUnit.SECONDS));
        two.release();
    }

    private static void multiLock(Bench b) throws Exception {
        CuratorFramework client = b.curator();
        InterProcessMultiLock both = new InterProcessMultiLock(client, List.of("/a", "/b"));
        InterProcessMutex half = new InterProcessMutex(b.curator(), "/b");
        half.acquire();
        Check.that("not while half is taken", !both.acquire(300, TimeUnit.MILLISECONDS));
        half.release();
        Check.that("both", both.acquire(10, TimeUnit.SECONDS));
        Check.that("both taken", !half.acquire(200, TimeUnit.MILLISECONDS));
        both.release();
    }

    private static void latch(Bench b) throws Exception {
        List<LeaderLatch> all = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderLatch latch = b.keep(new LeaderLatch(b.curator(), "/latch", "id-" + i));
            latch.start();
            Check.that("joined", latch.getState() == LeaderLatch.State.STARTED);
            int joined = i + 1;
            Check.until("it is a participant", () -> latch.getParticipants().size() == joined);
            all.add(latch);
        }
        Check.that("the first leads", all.get(0).await(10, TimeUnit.SECONDS));
        Check.that("alone", !all.get(1).hasLeadership() && !all.get(2).hasLeadership());
        Check.eq("all know", "id-0", all.get(2).getLeader().getId());
        all.get(0).close();
        Check.that("the second follows", all.get(1).await(10, TimeUnit.SECONDS));
        Check.until("two participants", () -> all.get(2).getParticipants().size() == 2);
        List<String> leaders = all.get(2).getParticipants().stream().filter(Participant::isLeader).map(Participant::getId).toList();
        Check.eq("leader", List.of("id-1"), leaders);
    }

    private static void latchExpiry(Bench b) throws Exception {
        Proxy proxy = b.proxy();
        LeaderLatch first = b.keep(new LeaderLatch(b.curator(proxy.address(), Bench.SHORT_MS), "/latch", "first"));
        first.start();
        Check.that("leads", first.await(10, TimeUnit.SECONDS));
        LeaderLatch second = b.keep(new LeaderLatch(b.curator(), "/latch", "second"));
        second.start();
        proxy.cut();
        Check.until("the first stands down", () -> !first.hasLeadership());
        Check.that("the second takes over", second.await(20, TimeUnit.SECONDS));
        proxy.mend();
        Check.until("the first joins again", 20_000, () -> second.getParticipants().size() == 2);
        second.close();
        Check.that("and leads again", first.await(15, TimeUnit.SECONDS));
    }

    private static void selector(Bench b) throws Exception {
        List<String> terms = Collections.synchronizedList(new ArrayList<>());
        AtomicInteger leading = new AtomicInteger();
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(6);
        for (int i = 0; i < 3; i++) {
            String name = "s" + i;
            LeaderSelector selector = b.keep(new LeaderSelector(b.curator(), "/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework client) {
                    if (leading.incrementAndGet() != 1) {
                        wrong.add("two lead");
                    }
                    terms.add(name);
                    leading.decrementAndGet();
                    done.countDown();
                }
            }));
            selector.setId(name);
            selector.autoRequeue();
            selector.start();
        }
        Check.that("six terms", done.await(20, TimeUnit.SECONDS));
        Check.eq("wrong", List.of(), wrong);
    }

    private CuratorLockCases() {}
}
