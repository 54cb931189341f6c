//! One owner's private table: paths to znodes, parents to children, sessions to ephemerals.

use super::acl::AclTable;
use super::change::Change;
use super::children::ChildSet;
use super::path::{self, Path};
use super::striped::Striped;
use super::warm::{self, AHEAD};
use super::znode::{Node, CONTAINER_OWNER, TTL_OWNER_BASE};
use crate::ids::SessionId;
use ahash::RandomState;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// Hashes paths with a key that came in at start: paths come from strangers.
#[derive(Clone)]
pub struct PathHasher(RandomState);

impl PathHasher {
    /// A hasher with this key.
    #[must_use]
    pub fn new(key: [u64; 4]) -> PathHasher {
        PathHasher(RandomState::with_seeds(key[0], key[1], key[2], key[3]))
    }

    /// The hash of a path's bytes.
    #[inline]
    #[must_use]
    pub fn hash(&self, path: &[u8]) -> u64 {
        self.0.hash_one(path)
    }
}

#[derive(Clone)]
pub(super) struct Family {
    pub(super) parent: Path,
    pub(super) children: ChildSet,
}

/// The tree as one owner sees it, at exactly one zxid between two commands. A clone, another owner's table, shares
/// the znodes and hashes nothing again.
#[derive(Clone)]
pub struct Table {
    hasher: PathHasher,
    pub(super) nodes: Striped<Node>,
    pub(super) families: Striped<Family>,
    ephemerals: BTreeMap<SessionId, BTreeSet<Path>>,
    ephemerals_count: usize,
    /// Sum of the lengths of all paths and data: ZooKeeper's approximate_data_size.
    data_bytes: u64,
    longest_data: usize,
    pub acls: AclTable,
}

impl Table {
    /// An empty table: not even a root.
    #[must_use]
    pub fn new(hasher: PathHasher) -> Table {
        Table {
            hasher,
            nodes: Striped::default(),
            families: Striped::default(),
            ephemerals: BTreeMap::new(),
            ephemerals_count: 0,
            data_bytes: 0,
            longest_data: 0,
            acls: AclTable::default(),
        }
    }

    /// The hasher, for another table of the same server.
    #[must_use]
    pub fn hasher(&self) -> &PathHasher {
        &self.hasher
    }

    /// The znode at `path`; the empty path is the root, as in ZooKeeper's reads.
    #[inline]
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        let path = if path.is_empty() { path::ROOT } else { path };
        let hash = self.hasher.hash(path.as_bytes());
        self.nodes.find(hash, |node| node.path.as_bytes() == path.as_bytes())
    }

    /// The children of the znode at `path`; `None` when it has none.
    #[must_use]
    pub fn children(&self, path: &str) -> Option<&ChildSet> {
        let path = if path.is_empty() { path::ROOT } else { path };
        let hash = self.hasher.hash(path.as_bytes());
        self.families
            .find(hash, |family| family.parent.as_bytes() == path.as_bytes())
            .map(|family| &family.children)
    }

    /// The ephemerals of a session, sorted.
    #[must_use]
    pub fn ephemerals(&self, session: SessionId) -> Option<&BTreeSet<Path>> {
        self.ephemerals.get(&session)
    }

    /// Every session that has ephemerals, with them, in order.
    pub fn all_ephemerals(&self) -> impl Iterator<Item = (SessionId, &BTreeSet<Path>)> {
        self.ephemerals.iter().map(|(session, paths)| (*session, paths))
    }

    /// How many znodes, the root and the server's own included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is not even a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many znodes are ephemeral.
    #[must_use]
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals_count
    }

    /// The sum of the lengths of all paths and data, in bytes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The longest data that any znode has, or had.
    #[inline]
    #[must_use]
    pub fn longest_data(&self) -> usize {
        self.longest_data
    }

    /// How many descendants the znode at `path` has.
    #[must_use]
    pub fn descendants(&self, path: &str) -> usize {
        if path.is_empty() || path == path::ROOT {
            return self.len() - 1;
        }
        let mut count = 0;
        let mut open: Vec<&ChildSet> = self.children(path).into_iter().collect();
        while let Some(children) = open.pop() {
            count += children.len();
            open.extend(children.iter().filter_map(|child| self.children(child.as_str())));
        }
        count
    }

    /// The striped nodes, for a snapshot's cursor.
    #[must_use]
    pub fn nodes(&self) -> &Striped<Node> {
        &self.nodes
    }

    /// Adds a znode that is not there, and tells its parent's list of children.
    pub fn insert(&mut self, node: Node) {
        let hash = self.hasher.hash(node.path.as_bytes());
        self.count_in(&node);
        if node.path.as_bytes() != b"/" {
            self.add_to_family(&node);
        }
        self.nodes.insert(hash, node);
    }

    /// What is known of a znode beside its place: the sum of bytes, its session's list.
    pub(super) fn count_in(&mut self, node: &Node) {
        self.data_bytes += (node.path.as_bytes().len() + node.data_len()) as u64;
        self.longest_data = self.longest_data.max(node.data_len());
        if let Some(session) = session_of(node.owner) {
            self.ephemerals_count += 1;
            self.ephemerals.entry(session).or_default().insert(node.path.clone());
        }
    }

    fn add_to_family(&mut self, node: &Node) {
        let parent = path::parent(node.path.as_str()).expect("a stored path is absolute");
        let parent_hash = self.hasher.hash(parent.as_bytes());
        self.family(parent_hash, parent.as_bytes()).put(node.place, node.path.clone());
    }

    /// The children of `parent`, whose list is begun where there is none.
    pub(super) fn family(&mut self, hash: u64, parent: &[u8]) -> &mut ChildSet {
        let make = || {
            let parent = std::str::from_utf8(parent).expect("a path is cut at a slash");
            Family { parent: Path::new(parent), children: ChildSet::default() }
        };
        let family = self.families.find_or_insert(hash, |family| family.parent.as_bytes() == parent, make);
        &mut family.children
    }

    /// The place that the next child of `parent` takes.
    #[must_use]
    pub fn free_place(&self, parent: &str) -> u32 {
        self.children(parent).map_or(0, ChildSet::free_place)
    }

    /// Asks for the memory that a lookup of these paths will touch: a hint, which changes nothing.
    pub fn warm<'a>(&self, paths: impl Iterator<Item = &'a [u8]>) {
        let hashes: SmallVec<[u64; AHEAD]> = paths.map(|path| self.hasher.hash(path)).collect();
        self.nodes.warm(&hashes);
        let nodes: SmallVec<[&Node; AHEAD]> =
            hashes.iter().filter_map(|hash| self.nodes.guess(*hash)).collect();
        warm::znodes(nodes.into_iter());
    }

    /// Puts a znode in the place of the one with its path, which is returned. The owner must be the same.
    pub fn replace(&mut self, node: Node) -> Node {
        let hash = self.hasher.hash(node.path.as_bytes());
        let slot = self
            .nodes
            .find_mut(hash, |old| old.path.is(&node.path))
            .expect("what is replaced is there: apply looked it up in the same state");
        self.data_bytes += node.data_len() as u64;
        self.longest_data = self.longest_data.max(node.data_len());
        let old = std::mem::replace(slot, node);
        self.data_bytes -= old.data_len() as u64;
        old
    }

    /// Takes out the znode at `path`, which must be there and have no children.
    pub fn remove(&mut self, path: &str) -> Node {
        let hash = self.hasher.hash(path.as_bytes());
        let node = self
            .nodes
            .remove(hash, |node| node.path.as_bytes() == path.as_bytes())
            .expect("what is removed is there: apply looked it up in the same state");
        self.data_bytes -= (node.path.as_bytes().len() + node.data_len()) as u64;
        if let Some(session) = session_of(node.owner) {
            self.ephemerals_count -= 1;
            if let Some(paths) = self.ephemerals.get_mut(&session) {
                paths.remove(&node.path);
                if paths.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
        }
        if let Some(parent) = path::parent(path) {
            let parent_hash = self.hasher.hash(parent.as_bytes());
            let is_parent = |family: &Family| family.parent.as_bytes() == parent.as_bytes();
            if let Some(family) = self.families.find_mut(parent_hash, is_parent) {
                family.children.free(node.place);
                if family.children.is_empty() {
                    self.families.remove(parent_hash, is_parent);
                }
            }
        }
        node
    }

    /// Takes over one fact. Sessions are not a table's business.
    pub fn install(&mut self, change: &Change) {
        match change {
            Change::Created { node, parent } => {
                self.insert(node.clone());
                self.replace(parent.clone());
            }
            Change::Deleted { node, parent } => {
                self.remove(node.path.as_str());
                self.replace(parent.clone());
            }
            Change::DataSet { node } | Change::Updated { node } => {
                self.replace(node.clone());
            }
            Change::AclAdded { id, list } => self.acls.insert(*id, list.clone()),
            Change::AclDropped { id } => self.acls.remove(*id),
            Change::Attached(_) | Change::SessionClosed(_) => {}
        }
    }
}

/// The session that a stored owner names. A TTL mark is never a session's: server ids stay below 255.
fn session_of(owner: i64) -> Option<SessionId> {
    let special = owner == 0 || owner == CONTAINER_OWNER || owner & TTL_OWNER_BASE == TTL_OWNER_BASE;
    (!special).then_some(SessionId(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{WallMillis, Zxid};
    use crate::tree::Znode;

    fn node(path: &str, owner: i64, place: u32) -> Node {
        let znode = Znode { owner, place, ..Znode::created(path, Zxid(1), WallMillis(0)) };
        Node::new(znode, None)
    }

    #[test]
    fn children_and_ephemerals_follow_the_nodes() {
        let mut table = Table::new(PathHasher::new([1, 2, 3, 4]));
        table.insert(node("/", 0, 0));
        table.insert(node("/a", 0, 0));
        let many = if cfg!(miri) { 200 } else { 2_000 };
        for n in 0..many {
            table.insert(node(&format!("/a/{n}"), 7, table.free_place("/a")));
        }
        assert_eq!(table.children("/a").map(ChildSet::len), Some(many));
        assert_eq!(table.descendants("/a"), many);
        assert_eq!(table.descendants("/"), many + 1);
        assert_eq!(table.ephemerals(SessionId(7)).map(BTreeSet::len), Some(many));
        assert!(table.get("").is_some(), "the empty path is the root");
        for n in 0..many {
            table.remove(&format!("/a/{n}"));
        }
        assert!(table.children("/a").is_none());
        assert!(table.ephemerals(SessionId(7)).is_none());
        assert_eq!(table.len(), 2);
    }
}
