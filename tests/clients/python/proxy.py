"""A TCP proxy between a client and the servers, with a switch: pass bytes on, swallow them, or cut every connection.

Of several servers each new connection goes to the next one, so that whoever comes back comes back elsewhere.
"""

import itertools
import socket
import threading

PASS, SWALLOW = "pass", "swallow"


class Proxy:
    """Listens on a free port of the loopback. One thread a direction; ends with `close`."""

    def __init__(self, hosts):
        targets = [target.rsplit(":", 1) for target in hosts.split("/")[0].split(",")]
        self._targets = itertools.cycle([(host, int(port)) for host, port in targets])
        self._mode = PASS
        self._lock = threading.Lock()
        self._sockets = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Closes every connection that is open now; new ones are welcome."""
        with self._lock:
            doomed, self._sockets = self._sockets, set()
        for one in doomed:
            _close(one)

    def swallow(self):
        """From now on connections stay open and nothing goes through."""
        self._mode = SWALLOW

    def heal(self):
        """Bytes pass again, on new connections only: what was swallowed tore the streams of the old ones."""
        self._mode = PASS
        self.cut()

    def close(self):
        _close(self._listener)
        self.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(next(self._targets), timeout=10)
                far.settimeout(None)
            except OSError:
                _close(near)
                continue
            with self._lock:
                self._sockets.update((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if self._mode == PASS:
                    sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._sockets.discard(source)
            self._sockets.discard(sink)
        _close(source)
        _close(sink)


def _close(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
