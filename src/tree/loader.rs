//! A whole table at once: what a restart does with the znodes of a snapshot.
//!
//! One by one, a million inserts cost two seconds, nearly all of it in waiting for memory. Here the hashes are
//! taken while a path is still warm, sorted, and every stripe and list of children is made in one go.

use super::acl::AclTable;
use super::children::ChildSet;
use super::path::Path;
use super::striped::Striped;
use super::table::{Family, PathHasher, Table};
use super::znode::Node;

/// Gathers znodes, in any order.
pub struct TableLoader {
    table: Table,
    /// The hash of the path, and the znode.
    nodes: Vec<(u64, Node)>,
    /// The hash of the parent's path, the hash of the path, the path. The root is not here.
    children: Vec<(u64, u64, Path)>,
}

/// Two znodes with one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathTwice(pub Path);

/// The bytes of an absolute path before its last slash; the root's children have the root.
fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) if at > 0 => &path[..at],
        _ => b"/",
    }
}

impl TableLoader {
    /// Begins a table with these lists.
    #[must_use]
    pub fn new(hasher: PathHasher, acls: AclTable) -> TableLoader {
        let mut table = Table::new(hasher);
        table.acls = acls;
        TableLoader { table, nodes: Vec::new(), children: Vec::new() }
    }

    /// Takes a znode with a legal path.
    pub fn push(&mut self, node: Node) {
        let path = node.path.as_bytes();
        let hash = self.table.hasher().hash(path);
        if path != b"/" {
            let parent_hash = self.table.hasher().hash(parent(path));
            self.children.push((parent_hash, hash, node.path.clone()));
        }
        self.table.count_in(&node);
        self.nodes.push((hash, node));
    }

    /// The table.
    pub fn finish(self) -> Result<Table, PathTwice> {
        let TableLoader { mut table, mut nodes, mut children } = self;
        let hasher = table.hasher().clone();
        nodes.sort_unstable_by_key(|(hash, _)| *hash);
        for run in nodes.chunk_by(|a, b| a.0 == b.0) {
            refuse_equal(run)?;
        }
        table.nodes = Striped::from_sorted(nodes, |node| hasher.hash(node.path.as_bytes()));
        children.sort_unstable_by_key(|(parent_hash, hash, _)| (*parent_hash, *hash));
        let mut families = Vec::new();
        // Children of another parent with the same hash: there will be none, and if so they come the slow way.
        let mut strangers = Vec::new();
        let mut children = children.into_iter().peekable();
        while let Some((parent_hash, hash, first)) = children.next() {
            let mut siblings = vec![(hash, first.clone())];
            while let Some((_, hash, path)) = children.next_if(|next| next.0 == parent_hash) {
                if parent(path.as_bytes()) == parent(first.as_bytes()) {
                    siblings.push((hash, path));
                } else {
                    strangers.push((hash, path));
                }
            }
            let name = std::str::from_utf8(parent(first.as_bytes())).expect("a path is cut at a slash");
            let children = ChildSet::from_sorted(siblings, |path| hasher.hash(path.as_bytes()));
            families.push((parent_hash, Family { parent: Path::new(name), children }));
        }
        table.families = Striped::from_sorted(families, |family| hasher.hash(family.parent.as_bytes()));
        for (hash, path) in strangers {
            table.add_to_family(hash, path);
        }
        Ok(table)
    }
}

/// Equal paths have equal hashes, so they stand in one run; nearly every run is one znode.
fn refuse_equal(run: &[(u64, Node)]) -> Result<(), PathTwice> {
    for (at, (_, node)) in run.iter().enumerate() {
        if run[..at].iter().any(|(_, other)| other.path == node.path) {
            return Err(PathTwice(node.path.clone()));
        }
    }
    Ok(())
}
