package ringkeeper.clients;

import static ringkeeper.clients.Bench.bytes;
import static ringkeeper.clients.Bench.text;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.retry.RetryOneTime;

/** Curator's recipes around values: barriers, counters, queues. */
final class CuratorValueCases {
    static void register(Main.Cases cases) {
        cases.add("curator.barrier", CuratorValueCases::barrier);
        cases.add("curator.double-barrier", CuratorValueCases::doubleBarrier);
        cases.add("curator.shared-count", CuratorValueCases::sharedCount);
        cases.add("curator.atomic-long", CuratorValueCases::atomicLong);
        cases.add("curator.atomic-contended", CuratorValueCases::atomicContended);
        cases.add("curator.queue", CuratorValueCases::queue);
        cases.add("curator.priority-queue", CuratorValueCases::priorityQueue);
        cases.add("curator.simple-queue", CuratorValueCases::simpleQueue);
    }

    private static void barrier(Bench b) throws Exception {
        DistributedBarrier gate = new DistributedBarrier(b.curator(), "/barrier");
        gate.setBarrier();
        CountDownLatch through = new CountDownLatch(2);
        for (int i = 0; i < 2; i++) {
            DistributedBarrier waiter = new DistributedBarrier(b.curator(), "/barrier");
            Check.that("closed", !waiter.waitOnBarrier(100, TimeUnit.MILLISECONDS));
            new Thread(() -> {
                try {
                    if (waiter.waitOnBarrier(20, TimeUnit.SECONDS)) {
                        through.countDown();
                    }
                } catch (Exception failed) {
                    // The latch tells.
                }
            }).start();
        }
        Check.eq("both wait", 2L, through.getCount());
        gate.removeBarrier();
        Check.that("both are through", through.await(20, TimeUnit.SECONDS));
    }

    private static void doubleBarrier(Bench b) throws Exception {
        int members = 3;
        AtomicInteger inside = new AtomicInteger();
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(members);
        for (int i = 0; i < members; i++) {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(b.curator(), "/barrier", members);
            new Thread(() -> {
                try {
                    if (!barrier.enter(20, TimeUnit.SECONDS)) {
                        seen.add("not entered");
                    }
                    inside.incrementAndGet();
                    if (!barrier.leave(20, TimeUnit.SECONDS)) {
                        seen.add("not left");
                    }
                    // Nobody leaves before all were inside.
                    if (inside.get() != members) {
                        seen.add("left early");
                    }
                } catch (Exception failed) {
                    seen.add(failed.toString());
                }
                done.countDown();
            }).start();
        }
        Check.that("all are done", done.await(45, TimeUnit.SECONDS));
        Check.eq("wrong", List.of(), seen);
    }

    private static void sharedCount(Bench b) throws Exception {
        SharedCount one = b.keep(new SharedCount(b.curator(), "/count", 10));
        SharedCount two = b.keep(new SharedCount(b.curator(), "/count", 10));
        BlockingQueue<Integer> told = new LinkedBlockingQueue<>();
        two.addListener(new SharedCountListener() {
            @Override
            public void countHasChanged(SharedCountReader count, int value) {
                told.add(value);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        });
        one.start();
        two.start();
        Check.eq("start", 10, two.getCount());
        one.setCount(11);
        Check.eq("told", 11, told.poll(15, TimeUnit.SECONDS));
        Check.until("seen", () -> two.getCount() == 11);
        Check.that("set if unchanged", two.trySetCount(two.getVersionedValue(), 12));
        Check.until("back", () -> one.getCount() == 12);
    }

    private static void atomicLong(Bench b) throws Exception {
        DistributedAtomicLong counter = new DistributedAtomicLong(b.curator(), "/long", new RetryOneTime(10));
        Check.that("initialized", counter.initialize(5L));
        Check.eq("increment", 6L, counter.increment().postValue());
        Check.eq("add", 106L, counter.add(100L).postValue());
        Check.eq("subtract", 104L, counter.subtract(2L).postValue());
        Check.that("compare and set", counter.compareAndSet(104L, 1L).succeeded());
        Check.that("compare and fail", !counter.compareAndSet(104L, 2L).succeeded());
        Check.eq("get", 1L, counter.get().postValue());
        counter.forceSet(-7L);
        Check.eq("forced", -7L, counter.get().postValue());
    }

    private static void atomicContended(Bench b) throws Exception {
        int workers = 4;
        int rounds = 25;
        AtomicInteger succeeded = new AtomicInteger();
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(workers);
        PromotedToLock lock = PromotedToLock.builder().lockPath("/counter-lock").timeout(20, TimeUnit.SECONDS).build();
        for (int i = 0; i < workers; i++) {
            DistributedAtomicInteger counter = new DistributedAtomicInteger(b.curator(), "/counter", new RetryNTimes(3, 1), lock);
            new Thread(() -> {
                try {
                    for (int round = 0; round < rounds; round++) {
                        // Whoever holds the lock still races with those who try without: it may fail, but says so.
                        AtomicValue<Integer> value = counter.increment();
                        while (!value.succeeded()) {
                            value = counter.increment();
                        }
                        succeeded.incrementAndGet();
                    }
                } catch (Exception failed) {
                    wrong.add(failed.toString());
                }
                done.countDown();
            }).start();
        }
        Check.that("done", done.await(45, TimeUnit.SECONDS));
        Check.eq("wrong", List.of(), wrong);
        DistributedAtomicInteger counter = new DistributedAtomicInteger(b.curator(), "/counter", new RetryOneTime(1));
        Check.eq("sum", workers * rounds, counter.get().postValue());
        Check.eq("counted", workers * rounds, succeeded.get());
    }

    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return text(data);
        }
    };

    private static QueueConsumer<String> into(BlockingQueue<String> taken) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String item) {
                taken.add(item);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        };
    }

    private static void queue(Bench b) throws Exception {
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        DistributedQueue<String> from = b.keep(QueueBuilder.builder(b.curator(), null, TEXT, "/queue").buildQueue());
        from.start();
        for (int i = 0; i < 10; i++) {
            from.put("item" + i);
        }
        Check.that("written", from.flushPuts(15, TimeUnit.SECONDS));
        DistributedQueue<String> to = b.keep(QueueBuilder.builder(b.curator(), into(taken), TEXT, "/queue").lockPath("/queue-locks").buildQueue());
        to.start();
        for (int i = 0; i < 10; i++) {
            Check.eq("in order", "item" + i, taken.poll(15, TimeUnit.SECONDS));
        }
        from.put("later");
        Check.eq("later", "later", taken.poll(15, TimeUnit.SECONDS));
    }

    private static void priorityQueue(Bench b) throws Exception {
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        DistributedPriorityQueue<String> from = b.keep(QueueBuilder.builder(b.curator(), null, TEXT, "/queue").buildPriorityQueue(1));
        from.start();
        from.put("low", 30);
        from.put("high", 10);
        from.put("middle", 20);
        Check.that("written", from.flushPuts(15, TimeUnit.SECONDS));
        DistributedPriorityQueue<String> to = b.keep(QueueBuilder.builder(b.curator(), into(taken), TEXT, "/queue").buildPriorityQueue(1));
        to.start();
        for (String wanted : List.of("high", "middle", "low")) {
            Check.eq("by priority", wanted, taken.poll(15, TimeUnit.SECONDS));
        }
    }

    private static void simpleQueue(Bench b) throws Exception {
        CuratorFramework first = b.curator();
        CuratorFramework second = b.curator();
        SimpleDistributedQueue one = new SimpleDistributedQueue(first, "/simple");
        SimpleDistributedQueue two = new SimpleDistributedQueue(second, "/simple");
        one.offer(bytes("1"));
        one.offer(bytes("2"));
        Bench.catchUp(second);
        Check.eq("peek", "1", text(two.peek()));
        Check.eq("poll", "1", text(two.poll()));
        Bench.catchUp(first);
        Check.eq("take", "2", text(one.take()));
        Bench.catchUp(second);
        Check.eq("empty", null, two.poll());
        BlockingQueue<String> taken = new LinkedBlockingQueue<>();
        new Thread(() -> {
            try {
                taken.add(text(two.poll(20, TimeUnit.SECONDS)));
            } catch (Exception failed) {
                taken.add(failed.toString());
            }
        }).start();
        one.offer(bytes("3"));
        Check.eq("a waiter gets it", "3", taken.poll(25, TimeUnit.SECONDS));
    }

    private CuratorValueCases() {}
}
