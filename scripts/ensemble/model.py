"""What the requests mean: ZooKeeper's rules for the few operations that the load uses, in one place and one order.

A tree is {path: node}; a node is the tuple (data, czxid, mzxid, version, creates, owner, pzxid, children), where `creates`
counts the children that were ever made: the next sequential number. `apply` says what a request answers and changes, and
changes nothing itself.
"""
import zk

DATA, CZXID, MZXID, VERSION, CREATES, OWNER, PZXID, CHILDREN = range(8)
# Of Stat: what the model knows. The times it does not.
KNOWN = (zk.CZXID, zk.MZXID, zk.VERSION, zk.CVERSION, zk.OWNER, zk.LENGTH, zk.CHILDREN, zk.PZXID)


def parent_of(path):
    return path[: path.rindex("/")] or "/"


def known(stat):
    return tuple(stat[at] for at in KNOWN)


def stat_of(node):
    data, czxid, mzxid, version, creates, owner, pzxid, children = node
    return (czxid, mzxid, version, creates * 2 - children, owner, len(data or b""), children, pzxid)


class Changes:
    """A tree with changes laid over it."""

    __slots__ = ("tree", "made", "told")

    def __init__(self, tree):
        self.tree, self.made, self.told = tree, {}, []

    def get(self, path):
        return self.made[path] if path in self.made else self.tree.get(path)

    def create(self, path, data, flags, session, zxid):
        parent_path = parent_of(path)
        parent = self.get(parent_path)
        if parent is None:
            return zk.NO_NODE, None
        if flags & zk.SEQUENTIAL:
            path = "%s%010d" % (path, parent[CREATES])
        if self.get(path) is not None:
            return zk.NODE_EXISTS, None
        node = (data, zxid, zxid, 0, 0, session if flags & zk.EPHEMERAL else 0, zxid, 0)
        self.made[path] = node
        self.made[parent_path] = parent[:CREATES] + (parent[CREATES] + 1, parent[OWNER], zxid, parent[CHILDREN] + 1)
        self.told += ((zk.CREATED, path), (zk.CHILD, parent_path))
        return zk.OK, (path, stat_of(node))

    def delete(self, path, version, zxid):
        node = self.get(path)
        if node is None:
            return zk.NO_NODE, None
        if version not in (-1, node[VERSION]):
            return zk.BAD_VERSION, None
        if node[CHILDREN]:
            return zk.NOT_EMPTY, None
        parent_path = parent_of(path)
        parent = self.get(parent_path)
        self.made[path] = None
        self.made[parent_path] = parent[:PZXID] + (zxid, parent[CHILDREN] - 1)
        self.told += ((zk.DELETED, path), (zk.CHILD, parent_path))
        return zk.OK, None

    def set(self, path, data, version, zxid):
        node = self.get(path)
        if node is None:
            return zk.NO_NODE, None
        if version not in (-1, node[VERSION]):
            return zk.BAD_VERSION, None
        node = (data, node[CZXID], zxid, node[VERSION] + 1) + node[CREATES:]
        self.made[path] = node
        self.told.append((zk.CHANGED, path))
        return zk.OK, stat_of(node)

    def check(self, path, version):
        node = self.get(path)
        if node is None:
            return zk.NO_NODE, None
        return (zk.OK if version in (-1, node[VERSION]) else zk.BAD_VERSION), None

    def one(self, kind, args, session, zxid):
        if kind == "create":
            return self.create(args[0], args[1], args[2], session, zxid)
        if kind == "delete":
            return self.delete(args[0], args[1], zxid)
        if kind == "set":
            return self.set(args[0], args[1], args[2], zxid)
        return self.check(args[0], args[1])

    def multi(self, items, session, zxid):
        results = []
        for at, item in enumerate(items):
            error, result = self.one(item[0], item[1:], session, zxid)
            if error:
                self.made, self.told = {}, []
                after = (("error", -2),) * (len(items) - at - 1)
                return False, (("error", zk.OK),) * at + (("error", error),) + after
            if item[0] == "create":
                results.append(("create", result[0], result[1]))
            else:
                results.append(("set", result) if item[0] == "set" else (item[0],))
        return True, tuple(results)

    def end_session(self, session, zxid):
        for path in [path for path, node in self.tree.items() if node[OWNER] == session]:
            self.delete(path, -1, zxid)


def apply(tree, kind, args, session, zxid):
    """(error, result, Changes); no changes where the request fails."""
    changes = Changes(tree)
    if kind in ("close", "expire"):
        changes.end_session(session, zxid)
        return zk.OK, None, changes
    if kind == "multi":
        _, result = changes.multi(args[0], session, zxid)
        return zk.OK, result, changes
    error, result = changes.one(kind, args, session, zxid)
    return error, result, changes


def same(kind, got, want):
    """Whether a reply's result is the one that the model gives."""
    if got is None:  # a client that tells less
        return True
    if kind == "create":
        return got[0] == want[0] and (got[1] is None or known(got[1]) == want[1])
    if kind == "set":
        return known(got) == want
    if kind == "multi":
        if len(got) != len(want):
            return False
        for one, other in zip(got, want):
            if one[0] != other[0]:
                return False
            if one[0] == "error" and one[1] != other[1]:
                return False
            if one[0] == "create" and (one[1] != other[1] or (one[2] is not None and known(one[2]) != other[2])):
                return False
            if one[0] == "set" and known(one[1]) != other[1]:
                return False
        return True
    return True


def read(tree, kind, args):
    """(error, result) of a read, with known(stat) in the place of a stat."""
    node = tree.get(args[0])
    if node is None:
        return zk.NO_NODE, None
    if kind == "get":
        return zk.OK, (node[DATA], stat_of(node))
    if kind == "exists":
        return zk.OK, stat_of(node)
    below = args[0] + "/"
    names = tuple(sorted(path[len(below):] for path in tree if path.startswith(below)))
    return zk.OK, (names, stat_of(node))


def same_read(kind, got, want):
    if kind == "exists":
        return known(got) == want
    if got[1] is not None and known(got[1]) != want[1]:
        return False
    return got[0] == want[0]
