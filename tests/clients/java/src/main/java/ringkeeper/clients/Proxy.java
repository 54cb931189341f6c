package ringkeeper.clients;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/**
 * A TCP proxy between one client and the servers that a case can cut. While it is cut, connections are accepted and
 * closed at once: to the client the server is away, and the port stays ours. Of several servers each new connection goes
 * to the next one, so that whoever comes back comes back elsewhere.
 */
final class Proxy implements AutoCloseable {
    private final ServerSocket listener;
    private final List<InetSocketAddress> targets = new ArrayList<>();
    private int turn;
    private final List<Socket> open = new ArrayList<>();
    private boolean cut;
    private int accepted;

    /** The hosts are host:port, with commas between them. */
    Proxy(String hosts) throws IOException {
        for (String each : hosts.split(",")) {
            int colon = each.lastIndexOf(':');
            targets.add(new InetSocketAddress(each.substring(0, colon), Integer.parseInt(each.substring(colon + 1))));
        }
        listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        start(this::accept);
    }

    String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    /** Ends all connections and refuses new ones until {@link #mend}. */
    synchronized void cut() {
        cut = true;
        drop();
    }

    synchronized void mend() {
        cut = false;
    }

    /** Ends all connections; the next attempt succeeds. */
    synchronized void drop() {
        for (Socket each : open) {
            quietly(each);
        }
        open.clear();
    }

    synchronized int accepted() {
        return accepted;
    }

    @Override
    public void close() throws IOException {
        cut();
        listener.close();
    }

    private void accept() {
        while (!listener.isClosed()) {
            try {
                Socket client = listener.accept();
                if (!join(client)) {
                    quietly(client);
                }
            } catch (IOException ended) {
                // The listener was closed, or the server is away: the client will come again.
            }
        }
    }

    private boolean join(Socket client) throws IOException {
        synchronized (this) {
            if (cut) {
                return false;
            }
        }
        Socket server = new Socket();
        try {
            server.connect(targets.get(turn++ % targets.size()), 5_000);
        } catch (IOException away) {
            quietly(server);
            return false;
        }
        client.setTcpNoDelay(true);
        server.setTcpNoDelay(true);
        synchronized (this) {
            if (cut) {
                quietly(server);
                return false;
            }
            accepted += 1;
            open.add(client);
            open.add(server);
        }
        start(() -> pump(client, server));
        start(() -> pump(server, client));
        return true;
    }

    private static void pump(Socket from, Socket to) {
        byte[] buffer = new byte[16 * 1024];
        try {
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                out.write(buffer, 0, n);
            }
        } catch (IOException ended) {
            // Either side went away: so does the other.
        }
        quietly(from);
        quietly(to);
    }

    private static void start(Runnable work) {
        Thread thread = new Thread(work, "proxy");
        thread.setDaemon(true);
        thread.start();
    }

    private static void quietly(Socket socket) {
        try {
            socket.close();
        } catch (IOException ignored) {
            // It is closed either way.
        }
    }
}
