//! The children of one znode, as thin pointers to their paths.
//!
//! Most parents have few: those stand in a plain list. A directory of 100,000 has a striped set, so that neither
//! adding nor removing a child ever stops its owner.

use super::path::Path;
use super::striped::Striped;
use smallvec::SmallVec;

/// A list is searched from end to end up to this many; beyond it a set takes over.
const FEW_MAX: usize = 8;

/// The paths of a znode's children.
#[derive(Clone)]
pub enum ChildSet {
    Few(SmallVec<[Path; 2]>),
    Many(Box<Striped<Path>>),
}

impl Default for ChildSet {
    fn default() -> Self {
        ChildSet::Few(SmallVec::new())
    }
}

impl ChildSet {
    /// How many children.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            ChildSet::Few(list) => list.len(),
            ChildSet::Many(set) => set.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The paths, in no promised order (ZooKeeper's is its hash set's; clients sort).
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        let (few, many) = match self {
            ChildSet::Few(list) => (Some(list.iter()), None),
            ChildSet::Many(set) => (None, Some(set.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// All children at once, sorted by hash.
    pub(super) fn from_sorted(children: Vec<(u64, Path)>, rehash: impl Fn(&Path) -> u64) -> ChildSet {
        if children.len() <= FEW_MAX {
            return ChildSet::Few(children.into_iter().map(|(_, path)| path).collect());
        }
        ChildSet::Many(Box::new(Striped::from_sorted(children, rehash)))
    }

    pub(super) fn insert(&mut self, hash: u64, child: Path, rehash: impl Fn(&Path) -> u64) {
        match self {
            ChildSet::Few(list) if list.len() < FEW_MAX => list.push(child),
            ChildSet::Few(list) => {
                let mut set = Striped::default();
                for path in list.drain(..) {
                    set.insert(rehash(&path), path, &rehash);
                }
                set.insert(hash, child, &rehash);
                *self = ChildSet::Many(Box::new(set));
            }
            ChildSet::Many(set) => set.insert(hash, child, rehash),
        }
    }

    pub(super) fn remove(&mut self, hash: u64, child: &str) {
        match self {
            ChildSet::Few(list) => {
                if let Some(at) = list.iter().position(|path| path.as_bytes() == child.as_bytes()) {
                    list.swap_remove(at);
                }
            }
            ChildSet::Many(set) => {
                set.remove(hash, |path| path.as_bytes() == child.as_bytes());
            }
        }
    }
}
