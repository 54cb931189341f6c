package ringkeeper.clients;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/** A watcher that remembers: node events in one queue, states of the connection in another. */
final class Events implements Watcher {
    private final BlockingQueue<WatchedEvent> nodes = new LinkedBlockingQueue<>();
    private final BlockingQueue<Event.KeeperState> states = new LinkedBlockingQueue<>();

    private volatile boolean expired;

    boolean expired() {
        return expired;
    }

    @Override
    public void process(WatchedEvent event) {
        if (event.getType() == Event.EventType.None) {
            states.add(event.getState());
            expired |= event.getState() == Event.KeeperState.Expired;
        } else {
            nodes.add(event);
        }
    }

    WatchedEvent next() throws InterruptedException {
        WatchedEvent event = nodes.poll(Check.PATIENCE_MS, TimeUnit.MILLISECONDS);
        if (event == null) {
            throw new AssertionError("no watch event came");
        }
        return event;
    }

    WatchedEvent expect(Event.EventType type, String path) throws InterruptedException {
        WatchedEvent event = next();
        Check.eq("event", type + " " + path, event.getType() + " " + event.getPath());
        return event;
    }

    /** Nothing is on its way: all that the server sent before this moment has passed through the event thread. */
    void none(ZooKeeper zk) throws Exception {
        fence(zk);
        Check.eq("further events", List.of(), new ArrayList<>(nodes));
    }

    /** Events come in order on one thread, and so do callbacks: when this one ran, all earlier events were seen. */
    static void fence(ZooKeeper zk) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        int[] code = new int[1];
        zk.sync("/", (rc, path, ctx) -> {
            code[0] = rc;
            done.countDown();
        }, null);
        Check.that("sync answers", done.await(Check.PATIENCE_MS, TimeUnit.MILLISECONDS));
        if (code[0] != 0) {
            throw KeeperException.create(KeeperException.Code.get(code[0]), "sync");
        }
    }

    /** Waits for a state of the connection, passing over others. */
    void state(Event.KeeperState wanted) throws InterruptedException {
        long end = System.nanoTime() + 2 * Check.PATIENCE_MS * 1_000_000;
        List<Event.KeeperState> seen = new ArrayList<>();
        while (System.nanoTime() < end) {
            Event.KeeperState state = states.poll(end - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (state == wanted) {
                return;
            }
            seen.add(state);
        }
        throw new AssertionError("never " + wanted + ", but " + seen);
    }
}
