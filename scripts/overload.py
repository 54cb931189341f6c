#!/usr/bin/env python3
"""Many sessions watch the whole tree (persistent recursive), others write without a pause: more events than a server can
send. What do everybody else's pings and reads wait, how much memory does the server take, does it go on?

overload.py --port P --pid SERVER --watchers N -- LOAD...     LOAD is run meanwhile and ends it.

Last lines: waits of pings and of exists (one of each every 40 ms), the server's largest RSS, bytes of events that came, and
connections that the server closed. Exit code 1 when the server is gone or closed a watcher that reads.
"""
import argparse
import multiprocessing
import selectors
import socket
import struct
import subprocess
import sys
import time

EXISTS, PING, ADD_WATCH, PERSISTENT_RECURSIVE, PING_XID = 3, 11, 106, 1, -2
ROOT = struct.pack(">i", 1) + b"/"
EVERY_S = 0.02
PING_EVERY_S = 5


def take(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError("the server closed the connection")
        data += more
    return data


def frame(s):
    return take(s, struct.unpack(">i", take(s, 4))[0])


def ask(s, xid, op, body=b""):
    s.sendall(struct.pack(">iii", 8 + len(body), xid, op) + body)


def session(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = struct.pack(">iqiqi", 0, 0, 30000, 0, 16) + bytes(17)
    s.sendall(struct.pack(">i", len(hello)) + hello)
    frame(s)
    return s


def watch(port, n, ready, stop, result):
    """Watches with `n` sessions and reads whatever comes, until `stop`."""
    sockets, look = [], selectors.DefaultSelector()
    for _ in range(n):
        s = session(port)
        ask(s, 1, ADD_WATCH, ROOT + struct.pack(">i", PERSISTENT_RECURSIVE))
        # Events of the sessions that are being opened do not touch the tree: this is the reply.
        code = struct.unpack(">i", frame(s)[12:16])[0]
        if code != 0:
            sys.exit(f"addWatch: {code}")
        s.setblocking(False)
        look.register(s, selectors.EVENT_READ)
        sockets.append(s)
    ready.set()
    total, closed, pinged = 0, 0, time.monotonic()
    while not stop.is_set():
        for key, _ in look.select(0.1):
            try:
                data = key.fileobj.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                look.unregister(key.fileobj)
                closed += 1
            total += len(data)
        if time.monotonic() - pinged > PING_EVERY_S:
            pinged = time.monotonic()
            for s in sockets:
                try:
                    ask(s, PING_XID, PING)
                except OSError:
                    pass
    result.put((total, closed))


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("load", nargs="+")
    args = parser.parse_args()
    ready, stop, result = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
    watchers = multiprocessing.Process(target=watch, args=(args.port, args.watchers, ready, stop, result))
    watchers.start()
    while not ready.wait(0.1):
        if not watchers.is_alive():
            sys.exit("the watchers could not be set up")
    load = subprocess.Popen(args.load, stdout=subprocess.DEVNULL)
    s, waits, largest, xid, fault = session(args.port), {"ping": [], "exists": []}, 0, 0, None
    while load.poll() is None:
        xid += 1
        began = time.monotonic()
        try:
            if xid % 2:
                ask(s, PING_XID, PING)
            else:
                ask(s, xid, EXISTS, ROOT + b"\0")
            frame(s)
            largest = max(largest, rss_kib(args.pid))
        except (OSError, EOFError) as why:
            fault = why
            load.kill()
            break
        took = time.monotonic() - began
        waits["ping" if xid % 2 else "exists"].append(took)
        time.sleep(max(0, EVERY_S - took))
    stop.set()
    total, closed = result.get(timeout=60)
    watchers.join()
    for what, all_waits in waits.items():
        if all_waits:
            ordered = sorted(all_waits)
            at = [ordered[len(ordered) * part // 1000] * 1e3 for part in (500, 990)]
            print(f"{what}: {len(ordered)}, p50 {at[0]:.1f} ms, p99 {at[1]:.1f} ms, longest {ordered[-1] * 1e3:.1f} ms")
    print(f"largest RSS {largest >> 10} MiB; {total >> 20} MiB of events came; {closed} watchers closed")
    if fault:
        sys.exit(f"the server did not answer any more: {fault}")
    sys.exit(1 if closed else 0)


if __name__ == "__main__":
    main()
