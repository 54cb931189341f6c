"""Every request that Kazoo can send: nodes, ACLs, transactions, auth, and the four-letter words."""

import time

from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NoNodeError,
    NodeExistsError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
)
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions, make_acl, make_digest_acl

from harness import HOSTS, case, raises, same, until


@case
def create_get_set_delete(t):
    zk = t.client()
    same(zk.create(t.path + "/n", b"one"), t.path + "/n")
    data, stat = zk.get(t.path + "/n")
    same(data, b"one")
    same((stat.version, stat.cversion, stat.aversion, stat.ephemeralOwner), (0, 0, 0, 0))
    same((stat.dataLength, stat.numChildren, stat.pzxid), (3, 0, stat.czxid))
    assert abs(stat.ctime / 1000 - time.time()) < 60, "ctime is far from now"
    changed = zk.set(t.path + "/n", b"three", version=0)
    same((changed.version, changed.czxid, changed.dataLength), (1, stat.czxid, 5))
    assert changed.mzxid > stat.mzxid, "a write has a later zxid"
    zk.delete(t.path + "/n", version=1)
    same(zk.exists(t.path + "/n"), None)


@case
def null_empty_and_large_data(t):
    zk = t.client()
    for name, data in (("null", None), ("empty", b""), ("zeros", b"\0" * 1000), ("large", b"x" * 1_000_000)):
        zk.create(t.path + "/" + name, data)
        same(zk.get(t.path + "/" + name)[0] or b"", data or b"", name)
        same(zk.exists(t.path + "/" + name).dataLength, len(data or b""), name)


@case
def odd_names(t):
    zk = t.client()
    names = ["a b", "...", ".a", "ümlaut", "漢字", "q?=&%25", "x" * 2000]
    for name in names:
        same(zk.create(t.path + "/" + name), t.path + "/" + name)
    same(sorted(zk.get_children(t.path)), sorted(names))


@case
def errors_have_their_kinds(t):
    zk = t.client()
    zk.create(t.path + "/full/child", makepath=True)
    raises(NodeExistsError, zk.create, t.path + "/full")
    raises(NoNodeError, zk.create, t.path + "/none/child")
    raises(NoNodeError, zk.get, t.path + "/none")
    raises(NoNodeError, zk.get_children, t.path + "/none")
    raises(NoNodeError, zk.set, t.path + "/none", b"")
    raises(NoNodeError, zk.delete, t.path + "/none")
    raises(NoNodeError, zk.get_acls, t.path + "/none")
    raises(NoNodeError, zk.set_acls, t.path + "/none", OPEN_ACL_UNSAFE)
    raises(NotEmptyError, zk.delete, t.path + "/full")
    raises(BadVersionError, zk.set, t.path + "/full", b"", version=7)
    raises(BadVersionError, zk.delete, t.path + "/full", version=7)
    raises(BadVersionError, zk.set_acls, t.path + "/full", OPEN_ACL_UNSAFE, version=7)
    raises(BadArgumentsError, zk.create, t.path + "/tab\there")
    raises(InvalidACLError, zk.create, t.path + "/acl", acl=[ACL(31, Id("nonesuch", "x"))])
    raises(InvalidACLError, zk.create, t.path + "/acl", acl=CREATOR_ALL_ACL)


@case
def children_and_stat(t):
    zk = t.client()
    for name in ("a", "b", "c"):
        zk.create(t.path + "/" + name)
    zk.delete(t.path + "/b")
    names, stat = zk.get_children(t.path, include_data=True)
    same(sorted(names), ["a", "c"])
    same((stat.numChildren, stat.cversion), (2, 4))
    assert "zookeeper" in zk.get_children("/"), "the root has its own child"


@case
def create_with_stat(t):
    zk = t.client()
    path, stat = zk.create(t.path + "/n", b"12", include_data=True)
    same((path, stat.version, stat.dataLength), (t.path + "/n", 0, 2))
    path, stat = zk.create(t.path + "/s-", b"", sequence=True, ephemeral=True, include_data=True)
    same((path, stat.ephemeralOwner), (t.path + "/s-0000000001", zk.client_id[0]))


@case
def sequence_counts_every_child(t):
    zk = t.client()
    same(zk.create(t.path + "/s-", sequence=True), t.path + "/s-0000000000")
    zk.create(t.path + "/plain")
    zk.delete(t.path + "/s-0000000000")
    same(zk.create(t.path + "/s-", sequence=True), t.path + "/s-0000000002")
    same(zk.create(t.path + "/", sequence=True), t.path + "/0000000003")


@case
def makepath_and_recursive_delete(t):
    zk = t.client()
    zk.create(t.path + "/a/b/c/d", b"deep", makepath=True)
    zk.ensure_path(t.path + "/a/x/y")
    same(zk.get(t.path + "/a/b/c/d")[0], b"deep")
    zk.delete(t.path + "/a", recursive=True)
    same(zk.exists(t.path + "/a"), None)


@case
def async_requests_keep_their_order(t):
    zk = t.client()
    created = [zk.create_async("%s/n%03d" % (t.path, i), b"%d" % i) for i in range(200)]
    read = [zk.get_async("%s/n%03d" % (t.path, i)) for i in range(200)]
    gone = [zk.delete_async("%s/n%03d" % (t.path, i)) for i in range(0, 200, 2)]
    left = zk.get_children_async(t.path)
    for i, result in enumerate(created):
        same(result.get(timeout=20), "%s/n%03d" % (t.path, i))
    same([result.get(timeout=20)[0] for result in read], [b"%d" % i for i in range(200)])
    assert all(result.get(timeout=20) for result in gone)
    same(sorted(left.get(timeout=20)), ["n%03d" % i for i in range(1, 200, 2)])
    zxids = [result.get()[1].czxid for result in read]
    same(zxids, sorted(zxids), "creates in the order they were sent")


@case
def ephemerals_go_with_their_session(t):
    zk, other = t.client(), t.client()
    same(other.create(t.path + "/e", b"x", ephemeral=True), t.path + "/e")
    zk.sync(t.path)
    same(zk.exists(t.path + "/e").ephemeralOwner, other.client_id[0])
    raises(NoChildrenForEphemeralsError, zk.create, t.path + "/e/child")
    other.stop()
    zk.sync(t.path)
    same(zk.exists(t.path + "/e"), None)


@case
def sync_sees_the_other_clients_write(t):
    zk, other = t.client(), t.client()
    for i in range(20):
        other.create("%s/n%d" % (t.path, i))
        same(zk.sync(t.path), t.path)
        same(len(zk.get_children(t.path)), i + 1)


@case
def chroot(t):
    zk = t.client()
    inside = t.client(hosts=HOSTS + t.path)
    same(inside.create("/a", b"in"), "/a")
    same(inside.create("/s-", sequence=True), "/s-0000000001")
    zk.sync(t.path)
    same(zk.get(t.path + "/a")[0], b"in")
    same(sorted(inside.get_children("/")), ["a", "s-0000000001"])
    same(inside.unchroot(t.path + "/a"), "/a")
    seen = []
    inside.get("/a", watch=lambda event: seen.append(event.path))
    zk.set(t.path + "/a", b"out")
    inside.sync("/a")
    inside.get("/a")
    until(lambda: seen, "the event of the watched node")
    same(seen, ["/a"], "the event's path is inside the chroot")


@case
def transaction_commits_as_one(t):
    zk = t.client()
    zk.create(t.path + "/old", b"0")
    tx = zk.transaction()
    tx.create(t.path + "/a", b"1")
    tx.create(t.path + "/a/b", b"2")
    tx.create(t.path + "/a/s-", sequence=True)
    tx.create(t.path + "/a/e", ephemeral=True)
    tx.check(t.path + "/a", 0)
    tx.set_data(t.path + "/a", b"3")
    tx.delete(t.path + "/old", version=0)
    got = tx.commit()
    same(got[:4], [t.path + "/a", t.path + "/a/b", t.path + "/a/s-0000000001", t.path + "/a/e"])
    same((got[4], got[5].version, got[6]), (True, 1, True))
    one, two = zk.get(t.path + "/a")[1], zk.get(t.path + "/a/b")[1]
    same((one.czxid, one.mzxid), (two.czxid, two.czxid), "one zxid for all")
    same(zk.exists(t.path + "/old"), None)


@case
def transaction_fails_as_one(t):
    zk = t.client()
    zk.create(t.path + "/a", b"0")
    tx = zk.transaction()
    tx.create(t.path + "/b")
    tx.set_data(t.path + "/a", b"1")
    tx.check(t.path + "/a", 99)
    tx.delete(t.path + "/a")
    kinds = [type(result) for result in tx.commit()]
    same(kinds, [RolledBackError, RolledBackError, BadVersionError, RuntimeInconsistency])
    same(zk.exists(t.path + "/b"), None)
    same(zk.get(t.path + "/a")[0], b"0")
    with zk.transaction() as tx:
        tx.delete(t.path + "/a")
    same(zk.exists(t.path + "/a"), None)


@case
def transaction_errors(t):
    zk = t.client()
    for add, kind in (
        (lambda tx: tx.create(t.path), NodeExistsError),
        (lambda tx: tx.create(t.path + "/no/parent"), NoNodeError),
        (lambda tx: tx.delete(t.path + "/none"), NoNodeError),
        (lambda tx: tx.set_data(t.path + "/none", b""), NoNodeError),
        (lambda tx: tx.check(t.path + "/none", 0), NoNodeError),
        (lambda tx: tx.create(t.path + "/x", acl=CREATOR_ALL_ACL), InvalidACLError),
    ):
        tx = zk.transaction()
        add(tx)
        got = tx.commit()
        assert len(got) == 1 and isinstance(got[0], kind), "got %r, want %s" % (got, kind.__name__)
    same(zk.transaction().commit(), [], "an empty transaction")


@case
def acls_read_and_set(t):
    zk = t.client()
    zk.create(t.path + "/n", acl=READ_ACL_UNSAFE)
    acls, stat = zk.get_acls(t.path + "/n")
    same((acls, stat.aversion), (READ_ACL_UNSAFE, 0))
    raises(NoAuthError, zk.set, t.path + "/n", b"")
    raises(NoAuthError, zk.create, t.path + "/n/c")
    raises(NoAuthError, zk.set_acls, t.path + "/n", OPEN_ACL_UNSAFE)
    zk.create(t.path + "/open")
    two = [make_acl("world", "anyone", read=True, admin=True), make_acl("ip", "10.0.0.0/8", all=True)]
    same(zk.set_acls(t.path + "/open", two, version=0).aversion, 1)
    same(zk.get_acls(t.path + "/open")[0], two)
    raises(BadVersionError, zk.set_acls, t.path + "/open", two, version=0)


@case
def digest_auth_guards_a_node(t):
    owner, stranger = t.client(), t.client()
    owner.add_auth("digest", "anna:secret")
    mine = make_digest_acl("anna", "secret", all=True)
    owner.create(t.path + "/n", b"mine", acl=[mine])
    stranger.sync(t.path)
    raises(NoAuthError, stranger.get, t.path + "/n")
    raises(NoAuthError, stranger.exists, t.path + "/n")
    raises(NoAuthError, stranger.get_acls, t.path + "/n")
    raises(NoAuthError, stranger.get_children, t.path + "/n")
    same(owner.get(t.path + "/n")[0], b"mine")
    same(owner.get_acls(t.path + "/n")[0], [mine])
    stranger.add_auth("digest", "bert:wrong")
    raises(NoAuthError, stranger.get, t.path + "/n")
    stranger.add_auth("digest", "anna:secret")
    same(stranger.get(t.path + "/n")[0], b"mine", "a second identity of one connection")


@case
def digest_hash_is_hidden_from_readers(t):
    owner, reader = t.client(), t.client()
    hidden = make_digest_acl("anna", "secret", all=True)
    owner.create(t.path + "/n", acl=[hidden, make_acl("world", "anyone", read=True)])
    reader.sync(t.path)
    same({a.id.id for a in reader.get_acls(t.path + "/n")[0]}, {"anna:x", "anyone"})


@case
def auth_scheme_means_the_creator(t):
    owner = t.client(auth_data=[("digest", "anna:secret")], default_acl=CREATOR_ALL_ACL)
    owner.create(t.path + "/n")
    same(owner.get_acls(t.path + "/n")[0], [make_digest_acl("anna", "secret", all=True)])
    raises(NoAuthError, t.client().get, t.path + "/n")


@case
def permissions_one_by_one(t):
    zk, keeper = t.client(), t.client(auth_data=[("digest", "keeper:secret")])
    # The keeper may give the ACLs back, so that the suite can clear up behind itself.
    kept = make_digest_acl("keeper", "secret", admin=True)
    for perms in (Permissions.READ, Permissions.WRITE, Permissions.CREATE, Permissions.DELETE, Permissions.ADMIN):
        path = "%s/%d" % (t.path, perms)
        zk.create(path + "/old", makepath=True)
        zk.set_acls(path, [ACL(perms, Id("world", "anyone")), kept])
        for want, action in (
            (Permissions.READ, lambda: zk.get(path)),
            (Permissions.WRITE, lambda: zk.set(path, b"")),
            (Permissions.CREATE, lambda: zk.create(path + "/new")),
            (Permissions.DELETE, lambda: zk.delete(path + "/old")),
            (Permissions.ADMIN, lambda: zk.set_acls(path, OPEN_ACL_UNSAFE)),
        ):
            if perms == want:
                action()
            else:
                raises(NoAuthError, action)
        keeper.set_acls(path, OPEN_ACL_UNSAFE)


@case
def auth_with_an_unknown_scheme_fails(t):
    zk = t.client()
    t.may_lose(zk)
    raises(AuthFailedError, zk.add_auth, "nonesuch", "x:y")


@case
def four_letter_words(t):
    zk = t.client()
    same(zk.command(b"ruok"), "imok")
    version = zk.server_version()
    assert len(version) == 3 and version[0] == 3, "server_version: %r" % (version,)
    srvr = zk.command(b"srvr")
    for word in ("Zookeeper version:", "Latency min/avg/max:", "Received:", "Sent:", "Connections:", "Outstanding:",
                 "Zxid: 0x", "Mode: ", "Node count:"):
        assert word in srvr, "srvr lacks %r: %r" % (word, srvr)
    mntr = dict(line.split("\t", 1) for line in zk.command(b"mntr").splitlines() if "\t" in line)
    for key in ("zk_version", "zk_server_state", "zk_znode_count", "zk_num_alive_connections", "zk_watch_count",
                "zk_ephemerals_count", "zk_outstanding_requests", "zk_approximate_data_size"):
        assert key in mntr, "mntr lacks " + key
    assert int(float(mntr["zk_num_alive_connections"])) >= 1
    assert "Clients:" in zk.command(b"stat")
    assert "clientPort=" in zk.command(b"conf")
    assert "queued=" in zk.command(b"cons")
    assert zk.command(b"isro").strip() in ("rw", "ro")
    assert "zookeeper.version=" in zk.command(b"envi")


@case
def reconfig_is_refused(t):
    zk = t.client()
    if "Mode: standalone" not in zk.command(b"srvr"):
        # Only a single server refuses for certain; what an ensemble does is another suite's business.
        return
    raises((ReconfigDisabledError, UnimplementedError, NoAuthError), zk.reconfig, "server.9=127.0.0.1:1:2:participant;3", None, None)
