package ringkeeper.clients;

import java.util.Objects;
import java.util.concurrent.Callable;
import org.apache.zookeeper.KeeperException;

/** What a case may claim. Every wait is a bounded poll for a condition, never a sleep in the hope that it holds. */
final class Check {
    static final long PATIENCE_MS = 15_000;

    interface Act {
        void run() throws Exception;
    }

    static void eq(String what, Object expected, Object got) {
        if (!Objects.equals(expected, got)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + got);
        }
    }

    static void that(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError("does not hold: " + what);
        }
    }

    static void fails(KeeperException.Code code, Act act) throws Exception {
        try {
            act.run();
        } catch (KeeperException refused) {
            if (Bench.KILLS && refused.code() == KeeperException.Code.CONNECTIONLOSS && refused.code() != code) {
                throw refused;
            }
            eq("error", code, refused.code());
            return;
        }
        throw new AssertionError("expected " + code + ", but it succeeded");
    }

    static void until(String what, Callable<Boolean> holds) throws Exception {
        until(what, PATIENCE_MS, holds);
    }

    static void until(String what, long patienceMs, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + patienceMs * 1_000_000;
        while (!holds.call()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not within " + patienceMs + " ms: " + what);
            }
            Thread.sleep(10);
        }
    }

    private Check() {}
}
