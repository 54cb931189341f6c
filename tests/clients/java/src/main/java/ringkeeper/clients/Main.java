package ringkeeper.clients;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs the named cases against ZK_HOSTS and prints one line each: "ok NAME" or "FAIL NAME: why".
 * Cases run several at a time because most of their life is waiting for a server's clock; each has its own
 * path prefix and its own sessions. A case that hangs is a failure, not a hanging suite.
 */
public final class Main {
    /** Longer than any case may rightly take: an expiry, a container sweep, on a busy machine. */
    private static final long CASE_LIMIT_SECONDS = 60;

    interface Body {
        void run(Bench bench) throws Exception;
    }

    /** How often an interrupted case may begin. */
    private static final int BEGINNINGS = 5;

    /** The registry that each file of cases adds itself to; names must be unique. */
    static final class Cases {
        final Map<String, Body> all = new LinkedHashMap<>();
        final Map<String, String> calm = new LinkedHashMap<>();

        /** A case that cannot hold, for the reason given, while servers are killed. */
        void add(String name, Body body, String why) {
            add(name, body);
            calm.put(name, why);
        }

        void add(String name, Body body) {
            if (all.put(name, body) != null) {
                throw new IllegalStateException("two cases named " + name);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        Cases cases = new Cases();
        SessionCases.register(cases);
        OperationCases.register(cases);
        MultiCases.register(cases);
        WatchCases.register(cases);
        ReconnectCases.register(cases);
        AclCases.register(cases);
        CuratorLockCases.register(cases);
        CuratorCacheCases.register(cases);
        CuratorValueCases.register(cases);
        CuratorNodeCases.register(cases);

        List<String> wanted = Arrays.asList(args);
        int jobs = Integer.parseInt(System.getenv().getOrDefault("JOBS", "6"));
        ExecutorService pool = Executors.newFixedThreadPool(jobs, Main::daemon);
        List<Future<Boolean>> results = new ArrayList<>();
        int skipped = 0;
        for (Map.Entry<String, Body> each : cases.all.entrySet()) {
            String why = Bench.KILLS ? cases.calm.get(each.getKey()) : null;
            if (why != null && (wanted.isEmpty() || wanted.stream().anyMatch(each.getKey()::contains))) {
                skipped += 1;
                System.out.println("skip " + each.getKey() + ": " + why);
            } else if (wanted.isEmpty() || wanted.stream().anyMatch(each.getKey()::contains)) {
                results.add(pool.submit(() -> runOne(each.getKey(), each.getValue())));
            }
        }
        int passed = 0;
        for (Future<Boolean> each : results) {
            passed += each.get() ? 1 : 0;
        }
        Bench.removeEverything();
        int failed = results.size() - passed;
        System.out.println(passed + " passed, " + failed + " failed" + (skipped == 0 ? "" : ", " + skipped + " skipped"));
        System.out.flush();
        // Not System.exit's hooks: a hung case may hold a lock that a client's shutdown wants.
        Runtime.getRuntime().halt(failed == 0 && passed > 0 ? 0 : 1);
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }

    private static boolean runOne(String name, Body body) {
        long start = System.nanoTime();
        boolean[] interrupted = new boolean[1];
        String why = begin(name, body, interrupted);
        for (int i = 2; interrupted[0] && i <= BEGINNINGS; i++) {
            System.out.println("again " + name + ": " + why);
            why = begin(name + "-" + i, body, interrupted);
        }
        String line = why == null ? "ok " + name : "FAIL " + name + ": " + why.replace('\n', ' ');
        if (System.getenv("TIMES") != null) {
            line += String.format("  (%d ms)", (System.nanoTime() - start) / 1_000_000);
        }
        System.out.println(line);
        return why == null;
    }

    /** Runs a case once; tells why it failed, or null, and whether it was only interrupted. */
    private static String begin(String name, Body body, boolean[] interrupted) {
        interrupted[0] = false;
        ExecutorService own = Executors.newSingleThreadExecutor(Main::daemon);
        Bench bench = new Bench(name);
        Thread[] runner = new Thread[1];
        Future<?> work = own.submit(() -> {
            runner[0] = Thread.currentThread();
            try {
                bench.prepare();
                body.run(bench);
            } catch (Exception | AssertionError failed) {
                if (bench.interrupted(failed)) {
                    bench.sessionsAreKept();
                    interrupted[0] = true;
                }
                throw failed;
            }
            if (Bench.KILLS) {
                bench.sessionsAreKept();
            }
            return null;
        });
        String why = null;
        try {
            work.get(CASE_LIMIT_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException hung) {
            why = "no end after " + CASE_LIMIT_SECONDS + " s, at " + where(runner[0].getStackTrace());
            work.cancel(true);
        } catch (Exception thrown) {
            Throwable cause = thrown.getCause() == null ? thrown : thrown.getCause();
            why = cause + " at " + where(cause.getStackTrace());
        }
        own.submit(bench::close);
        own.shutdown();
        try {
            own.awaitTermination(10, TimeUnit.SECONDS);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
        }
        return why;
    }

    /** The innermost lines that are ours: where to look. */
    private static String where(StackTraceElement[] stack) {
        StringBuilder text = new StringBuilder();
        for (StackTraceElement each : stack) {
            if (each.getClassName().startsWith("ringkeeper") && !each.getClassName().endsWith("Check")
                    && !each.getClassName().contains("Main")) {
                text.append(text.length() == 0 ? "" : " < ").append(each.getFileName()).append(':').append(each.getLineNumber());
            }
        }
        return text.length() == 0 ? "?" : text.toString();
    }

    private Main() {}
}
