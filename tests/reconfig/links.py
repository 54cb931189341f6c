"""Cases of how servers are reached: TLS between them, and the strict listener."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading

from cases import SOON_S, Skip, case, goes_on, same
from servers import PORTS, Failed, until
from sessions import stopped
from wire import OK, Client, Gone

# SIGTERM to the end of the process: a leader hands over for a second at most.
TERMINATED_S = 8
# More is written than is kept for servers that are behind: a wiped one needs a snapshot.
SHORT_LOG = ["snapCount=20", "ringkeeper.segmentSizeKb=1024"]


def make_stores(directory):
    """An authority, and a key with a certificate for this machine that it has signed: the two files, in PEM."""
    os.makedirs(directory)

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=60)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "30")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    with open(os.path.join(directory, "names"), "w") as file:
        file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "names", "-out", "server.crt")
    with open(os.path.join(directory, "server.pem"), "w") as file:
        for name in ("server.key", "server.crt"):
            with open(os.path.join(directory, name)) as part:
                file.write(part.read())
    return os.path.join(directory, "server.pem"), os.path.join(directory, "ca.pem")


@case
def tls_between_servers(lab):
    """An ensemble forms, elects, and takes a wiped server back by a snapshot, all under TLS."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    if not shutil.which("openssl"):
        raise Skip("there is no openssl to make certificates with")
    key_store, trust_store = make_stores(os.path.join(lab.dir, "stores"))
    more = ["sslQuorum=true", "ssl.quorum.keyStore.location=" + key_store, "ssl.quorum.trustStore.location=" + trust_store]
    ensemble = lab.ensemble(more=more + SHORT_LOG)
    same([server.has_logged("they speak in plain text") for server in ensemble.first], [False] * 3, "a server says that it speaks plainly")
    wiped, other = ensemble.followers()
    client = lab.client(other)
    writers = [lab.writer(ensemble.leader()), lab.writer(other)]
    wiped.kill()
    wiped.wipe()
    for number in range(120):
        write = client.create if number < 10 else client.set
        same(write("/n%d" % (number % 10), os.urandom(900_000)), OK, "a write")
    goes_on(writers, "without the wiped one")
    wiped.start()
    wiped.await_mode("leader", "follower")
    until(lambda: wiped.has_logged("goes on behind a snapshot"), "it has fetched a snapshot", SOON_S)
    behind = lab.client(wiped)
    same((behind.sync(), behind.exists("/n0"), behind.exists("/n9")), (OK, OK, OK), "what was written meanwhile")
    leader = ensemble.leader()
    leader.kill()
    rest = [server for server in ensemble.first if server is not leader]
    ensemble.leader(among=rest)
    for server in rest:
        server.await_writes()


@case
def strict_listener(lab):
    """Each read on it shows all that was acknowledged before, at whichever server; without a majority it shows nothing."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    ensemble = lab.unstarted()
    strict = {}
    for server in ensemble.first:
        strict[server] = PORTS.take()
        server.configure(ensemble.first, ["ringkeeper.strictClientPort=%d" % strict[server]])
    ensemble.start(ensemble.first)
    for server, port in strict.items():
        same(server.has_logged(":%d; configuration file" % port), True, "the log names the strict port")
    leader, (follower, another) = ensemble.leader(), ensemble.followers()
    writer = lab.client(leader)
    same(writer.create("/strict"), OK, "a write")
    readers = [Client(strict[server]) for server in (leader, follower, another)]
    try:
        for number in range(300):
            path = "/strict/%d" % number
            same(writer.create(path), OK, "a write")
            same([reader.exists(path) for reader in readers], [OK] * 3, "what was acknowledged just before")
        plain, (_, reader, _) = lab.client(follower), readers
        with stopped(leader, another):
            same(plain.exists("/strict"), OK, "a plain read of a server that is cut off")
            reader.socket.settimeout(1)
            try:
                got = reader.exists("/strict")
            except (Gone, OSError):
                got = None
            same(got, None, "a strict read of a server that is cut off")
    finally:
        for reader in readers:
            reader.close()
    leader.await_writes()

    def is_back():
        try:
            return Client(strict[follower]).exists("/strict") == OK
        except (Gone, OSError):
            return False

    until(is_back, "strict reads again", SOON_S)


@case
def kazoo_new_hosts(lab):
    """A client that is told of other servers keeps its session there when its own ends (updateServerList)."""
    ensemble = lab.ensemble()
    own, other = ensemble.followers()
    script = r"""
import os, signal, sys
from kazoo.client import KazooClient
own, other, process = sys.argv[1:]
client = KazooClient(hosts=own, timeout=20)
client.start()
session = client.client_id[0]
client.create("/mine", ephemeral=True)
client.set_hosts(other)
os.kill(int(process), signal.SIGKILL)
owner = client.retry(client.exists, "/mine").owner_session_id
assert client.client_id[0] == session == owner, (client.client_id, session, owner)
client.stop()
"""
    path = os.path.join(lab.dir, "new_hosts.py")
    with open(path, "w") as file:
        file.write(script)
    hosts = ["127.0.0.1:%d" % server.port for server in (own, other)]
    done = subprocess.run(["python3", "-B", path, *hosts, str(own.process.pid)], timeout=60, text=True,
                          env=dict(os.environ, PYTHONPATH=lab.site()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    same((done.returncode, done.stdout[-600:] if done.returncode else ""), (0, ""), "kazoo's script")


@case
def moved_address(lab):
    """A server comes back at another address, as a pod does: the others look its name up again and find it. It can not look
    up theirs, so that it is they who dial."""
    if lab.target.is_zookeeper:
        raise Skip("ringkeeper only")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        raise Skip("no mount namespace can be made here")
    ensemble = lab.unstarted()
    addresses = {}

    def write_hosts(server, known):
        # In place: who has it bound sees it.
        with open(server.hosts, "w") as file:
            file.write("127.0.0.1 localhost\n" + "".join("%s %s\n" % (addresses[one], one.host) for one in known))

    for server in ensemble.first:
        server.host = "peer%d.test" % server.number
        server.hosts = os.path.join(server.dir, "hosts")
        addresses[server] = "127.0.0.1%d" % server.number
    for server in ensemble.first:
        server.configure(ensemble.first)
    first, second, moved = ensemble.first
    write_hosts(first, ensemble.first)
    write_hosts(second, ensemble.first)
    write_hosts(moved, [moved])
    ensemble.start(ensemble.first)
    same(lab.client(moved).create("/before"), OK, "a write before")
    moved.kill()
    addresses[moved] = "127.0.0.2%d" % moved.number
    for server in ensemble.first:
        write_hosts(server, [moved] if server is moved else ensemble.first)
    moved.start()
    moved.await_mode("leader", "follower")
    same(lab.client(moved).exists("/before"), OK, "what was there before")
    moved.await_writes()
    for port in (moved.quorum, moved.election):
        with socket.socket() as old:
            same(old.connect_ex(("127.0.0.1%d" % moved.number, port)) == 0, False, "it listens where it did before")


@case
def terminated_while_writes_come(lab):
    """A server ends in bounded time however much is written meanwhile: a follower, and a leader that nobody follows. Both went
    on for as long as anything came."""
    ensemble = lab.ensemble()
    writers, end = [], threading.Event()

    def write(port, path):
        while not end.is_set():
            with contextlib.suppress(Gone, OSError):
                client = Client(port, patience=3.0)
                client.create(path)
                while not end.is_set():
                    client.set(path)

    def ends_soon(server, what):
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(TERMINATED_S)
        except subprocess.TimeoutExpired:
            raise Failed("%s did not end within %d s of SIGTERM" % (what, TERMINATED_S)) from None
        finally:
            server.kill()

    for server in ensemble.first:
        for number in range(4):
            writers.append(threading.Thread(target=write, args=(server.port, "/t-%d-%d" % (server.number, number))))
            writers[-1].start()
    try:
        follower, other = ensemble.followers()[:2]
        ends_soon(follower, "a follower")
        follower.start()
        follower.await_mode("follower")
        # Nobody is left to whom the leader could give the lead.
        leader = ensemble.leader()
        others = [server for server in ensemble.first if server is not leader]
        with stopped(*others):
            ends_soon(leader, "a leader whose followers stand still")
    finally:
        end.set()
        for writer in writers:
            writer.join(SOON_S)
