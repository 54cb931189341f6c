//! The two tables of ZooKeeper, data and child: path to connections, each with the modes it registered.
//!
//! One entry of a (path, connection) pair holds all its modes as bits; firing clears the one-shot bit alone (TR43).

use crate::ids::ConnId;
use crate::tree::{Path, PathHasher, Striped};
use ahash::RandomState;
use hashbrown::{HashMap, HashSet};

/// The modes of one connection on one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bits(u8);

impl Bits {
    pub const ONE_SHOT: Bits = Bits(1);
    pub const PERSISTENT: Bits = Bits(2);
    pub const RECURSIVE: Bits = Bits(4);
    const ANY: Bits = Bits(7);

    pub(super) fn has(self, other: Bits) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn with(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }

    pub(super) fn without(self, other: Bits) -> Bits {
        Bits(self.0 & !other.0)
    }

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Which of the two tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Data,
    Child,
}

/// How much one connection may watch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Paths.
    pub count_max: usize,
    /// The sum of the lengths of the paths watched, in bytes.
    pub bytes_max: usize,
}

/// The connection watches as much as it may: the registration was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The connections of one path.
pub(super) enum Watchers {
    One(ConnId, Bits),
    Many(Box<Connections>),
}

/// Connections of one path, or of one event.
pub(super) type Connections = HashMap<ConnId, Bits, RandomState>;

pub(super) struct Entry {
    pub path: Path,
    pub watchers: Watchers,
    /// How many registrations hold more than the one-shot bit. Invariant: 0 means that the whole entry may be taken
    /// when it fires.
    pub sticky: usize,
}

struct OfConnection {
    /// May still hold a path whose one-shot watch has fired and whose event is not yet written.
    paths: HashSet<Path, RandomState>,
    bytes: usize,
}

/// A shard's watches.
pub struct Watches {
    pub(super) hasher: PathHasher,
    pub(super) data: Striped<Entry>,
    pub(super) child: Striped<Entry>,
    connections: HashMap<ConnId, OfConnection, RandomState>,
    /// Registrations with the recursive bit: without any, no ancestor is looked up.
    pub(super) recursive: usize,
    /// Registrations of each table.
    counts: [usize; 2],
    limits: Limits,
}

pub(super) fn fixed_state() -> RandomState {
    // Connection ids are this shard's own: no stranger chooses them.
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Finds a path in a set of them without making one.
#[derive(Hash)]
struct PathKey<'a>(&'a [u8]);

impl hashbrown::Equivalent<Path> for PathKey<'_> {
    fn equivalent(&self, path: &Path) -> bool {
        self.0 == path.as_bytes()
    }
}

impl Watchers {
    pub(super) fn get(&self, conn: ConnId) -> Bits {
        match self {
            Watchers::One(one, bits) if *one == conn => *bits,
            Watchers::One(..) => Bits::default(),
            Watchers::Many(map) => map.get(&conn).copied().unwrap_or_default(),
        }
    }

    /// Sets a connection's bits; none removes it.
    fn set(&mut self, conn: ConnId, bits: Bits) {
        match self {
            Watchers::One(one, old) if *one == conn => *old = bits,
            Watchers::One(one, old) => {
                let mut map = HashMap::with_capacity_and_hasher(2, fixed_state());
                if !old.is_none() {
                    map.insert(*one, *old);
                }
                if !bits.is_none() {
                    map.insert(conn, bits);
                }
                *self = Watchers::Many(Box::new(map));
            }
            Watchers::Many(map) => {
                if bits.is_none() {
                    map.remove(&conn);
                } else {
                    map.insert(conn, bits);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Watchers::One(_, bits) => bits.is_none(),
            Watchers::Many(map) => map.is_empty(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Watchers::One(_, bits) => usize::from(!bits.is_none()),
            Watchers::Many(map) => map.len(),
        }
    }

    pub(super) fn each(&self, mut f: impl FnMut(ConnId, Bits)) {
        match self {
            Watchers::One(conn, bits) if !bits.is_none() => f(*conn, *bits),
            Watchers::One(..) => {}
            Watchers::Many(map) => map.iter().for_each(|(conn, bits)| f(*conn, *bits)),
        }
    }
}

impl Watches {
    /// No watches yet.
    #[must_use]
    pub fn new(hasher: PathHasher, limits: Limits) -> Watches {
        Watches {
            hasher,
            data: Striped::default(),
            child: Striped::default(),
            connections: HashMap::with_hasher(fixed_state()),
            recursive: 0,
            counts: [0; 2],
            limits,
        }
    }

    pub(super) fn table(&self, kind: Kind) -> &Striped<Entry> {
        match kind {
            Kind::Data => &self.data,
            Kind::Child => &self.child,
        }
    }

    pub(super) fn bits(&self, kind: Kind, path: &str, conn: ConnId) -> Bits {
        let hash = self.hasher.hash(path.as_bytes());
        self.table(kind)
            .find(hash, |entry| entry.path.as_bytes() == path.as_bytes())
            .map_or(Bits::default(), |entry| entry.watchers.get(conn))
    }

    /// Registers: idempotent. The path is taken as it is, malformed ones too (chapter 3.2).
    pub fn add(&mut self, kind: Kind, path: &str, conn: ConnId, bits: Bits) -> Result<(), Full> {
        let old = self.bits(kind, path, conn);
        if old.with(bits) == old {
            return Ok(());
        }
        let mine = self
            .connections
            .entry(conn)
            .or_insert_with(|| OfConnection { paths: HashSet::with_hasher(fixed_state()), bytes: 0 });
        let known = mine.paths.get(&PathKey(path.as_bytes())).cloned();
        let new_bytes = if known.is_some() { 0 } else { path.len() };
        let is_full =
            mine.paths.len() >= self.limits.count_max || mine.bytes + new_bytes > self.limits.bytes_max;
        if known.is_none() && is_full {
            if mine.paths.is_empty() {
                self.connections.remove(&conn);
            }
            return Err(Full);
        }
        let shared = known.unwrap_or_else(|| Path::new(path));
        mine.paths.insert(shared.clone());
        mine.bytes += new_bytes;
        self.set_bits(kind, &shared, conn, old, old.with(bits));
        Ok(())
    }

    /// Whether the connection has any of `bits` there.
    #[must_use]
    pub fn has(&self, kind: Kind, path: &str, conn: ConnId, bits: Option<Bits>) -> bool {
        self.bits(kind, path, conn).has(bits.unwrap_or(Bits::ANY))
    }

    /// Takes bits away (`None`: all); says whether there was one.
    pub fn remove(&mut self, kind: Kind, path: &str, conn: ConnId, bits: Option<Bits>) -> bool {
        let old = self.bits(kind, path, conn);
        let new = old.without(bits.unwrap_or(Bits::ANY));
        if new == old {
            return false;
        }
        self.set_bits(kind, &Path::new(path), conn, old, new);
        self.settle(path.as_bytes(), conn);
        true
    }

    /// The connection is gone, and all its watches with it.
    pub fn drop_connection(&mut self, conn: ConnId) {
        let Some(mine) = self.connections.remove(&conn) else { return };
        for path in &mine.paths {
            for kind in [Kind::Data, Kind::Child] {
                let old = self.bits(kind, path.as_str(), conn);
                if !old.is_none() {
                    self.set_bits(kind, path, conn, old, Bits::default());
                }
            }
        }
    }

    /// Registrations in both tables: ZooKeeper's watch_count.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counts[0] + self.counts[1]
    }

    /// Registrations in the data table.
    #[must_use]
    pub fn data_count(&self) -> usize {
        self.counts[Kind::Data as usize]
    }

    /// Paths in the data table.
    #[must_use]
    pub fn data_paths(&self) -> usize {
        self.data.len()
    }

    /// In how many slices `data_stripe` shows the data table.
    #[must_use]
    pub fn data_stripes(&self) -> usize {
        self.data.stripes()
    }

    /// One slice of the data table: paths and who watches them, in no order.
    #[must_use]
    pub fn data_stripe(&self, at: usize) -> Vec<(Path, Vec<ConnId>)> {
        let watchers = |entry: &Entry| {
            let mut conns = Vec::with_capacity(entry.watchers.len());
            entry.watchers.each(|conn, _| conns.push(conn));
            (entry.path.clone(), conns)
        };
        self.data.stripe(at).map(watchers).collect()
    }

    /// The paths that a connection has in the data table.
    pub fn data_paths_of(&self, conn: ConnId) -> impl Iterator<Item = &Path> {
        let mine = self.connections.get(&conn);
        mine.into_iter()
            .flat_map(|mine| mine.paths.iter())
            .filter(move |path| self.has(Kind::Data, path.as_str(), conn, None))
    }

    pub(super) fn set_bits(&mut self, kind: Kind, path: &Path, conn: ConnId, old: Bits, new: Bits) {
        let hash = self.hasher.hash(path.as_bytes());
        let table = match kind {
            Kind::Data => &mut self.data,
            Kind::Child => &mut self.child,
        };
        let entry = table.find_or_insert(
            hash,
            |entry| entry.path == *path,
            || Entry { path: path.clone(), watchers: Watchers::One(conn, Bits::default()), sticky: 0 },
        );
        entry.watchers.set(conn, new);
        let sticky = |bits: Bits| bits.has(Bits::PERSISTENT.with(Bits::RECURSIVE));
        entry.sticky = entry.sticky + usize::from(sticky(new)) - usize::from(sticky(old));
        if entry.watchers.is_empty() {
            table.remove(hash, |entry| entry.path == *path);
        }
        self.recursive =
            self.recursive + usize::from(new.has(Bits::RECURSIVE)) - usize::from(old.has(Bits::RECURSIVE));
        let count = &mut self.counts[kind as usize];
        *count = *count + usize::from(!new.is_none()) - usize::from(!old.is_none());
    }

    /// A whole entry of one-shot watches was taken: its registrations leave the counts here, and each connection's
    /// own list when the event reaches it.
    pub(super) fn taken(&mut self, kind: Kind, registrations: usize) {
        self.counts[kind as usize] -= registrations;
    }

    /// Forgets a path of a connection that has nothing there any more.
    pub(super) fn settle(&mut self, path: &[u8], conn: ConnId) {
        let text = std::str::from_utf8(path).expect("a watched path was made from a str");
        let left = [Kind::Data, Kind::Child].iter().any(|kind| !self.bits(*kind, text, conn).is_none());
        if left {
            return;
        }
        if let Some(mine) = self.connections.get_mut(&conn) {
            if mine.paths.remove(&PathKey(path)) {
                mine.bytes -= path.len();
            }
            if mine.paths.is_empty() {
                self.connections.remove(&conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    fn watches(count_max: usize) -> Watches {
        Watches::new(PathHasher::new([1, 2, 3, 4]), Limits { count_max, bytes_max: 1_000 })
    }

    #[test]
    fn one_shot_and_persistent_share_a_record_tr43() {
        let mut w = watches(10);
        w.add(Kind::Data, "/a", A, Bits::ONE_SHOT).unwrap();
        w.add(Kind::Data, "/a", A, Bits::PERSISTENT).unwrap();
        assert_eq!(w.count(), 1);
        assert_eq!(w.fire_data("/a").len(), 1);
        assert!(!w.has(Kind::Data, "/a", A, Some(Bits::ONE_SHOT)));
        assert!(w.has(Kind::Data, "/a", A, Some(Bits::PERSISTENT)));
        assert_eq!(w.fire_data("/a").len(), 1);
    }

    #[test]
    fn a_delete_reaches_a_connection_once_tr09() {
        let mut w = watches(10);
        w.add(Kind::Data, "/a", A, Bits::ONE_SHOT).unwrap();
        w.add(Kind::Child, "/a", A, Bits::ONE_SHOT).unwrap();
        w.add(Kind::Child, "/a", B, Bits::ONE_SHOT).unwrap();
        assert_eq!(w.fire_deleted("/a").len(), 2);
        assert_eq!(w.count(), 0);
        assert!(w.fire_deleted("/a").is_empty());
    }

    #[test]
    fn recursive_watches_hear_of_descendants_but_not_of_children_lists_tr11() {
        let mut w = watches(10);
        w.add(Kind::Data, "/a", A, Bits::RECURSIVE).unwrap();
        assert!(w.fire_data("/a/b/c").contains(A));
        assert!(w.fire_data("/a").contains(A));
        assert!(w.fire_data("/ab").is_empty());
        assert!(w.fire_children("/a").is_empty());
        assert!(w.remove(Kind::Data, "/a", A, Some(Bits::RECURSIVE)));
        assert!(w.fire_data("/a/b").is_empty());
    }

    #[test]
    fn a_connection_takes_all_its_watches_with_it_tr07() {
        let mut w = watches(10);
        for path in ["/a", "/b"] {
            w.add(Kind::Data, path, A, Bits::ONE_SHOT).unwrap();
            w.add(Kind::Child, path, A, Bits::PERSISTENT).unwrap();
            w.add(Kind::Data, path, B, Bits::ONE_SHOT).unwrap();
        }
        w.drop_connection(A);
        assert_eq!(w.count(), 2);
        assert_eq!(w.fire_data("/a").len(), 1);
        assert_eq!((w.data_paths(), w.data_count()), (1, 1));
    }

    #[test]
    fn a_connection_watches_no_more_than_it_may() {
        let mut w = watches(2);
        w.add(Kind::Data, "/a", A, Bits::ONE_SHOT).unwrap();
        w.add(Kind::Data, "/b", A, Bits::ONE_SHOT).unwrap();
        assert_eq!(w.add(Kind::Data, "/c", A, Bits::ONE_SHOT), Err(Full));
        w.add(Kind::Child, "/a", A, Bits::ONE_SHOT).unwrap();
        w.add(Kind::Data, "/c", B, Bits::ONE_SHOT).unwrap();
        w.fire_data("/b");
        w.add(Kind::Data, "/c", A, Bits::ONE_SHOT).unwrap();
        assert_eq!(
            w.add(Kind::Data, &"/d".repeat(600), B, Bits::ONE_SHOT),
            Err(Full),
            "bytes are bounded too"
        );
    }

    #[test]
    fn bytes_are_given_back_when_a_watch_has_fired() {
        let mut w = watches(10);
        w.add(Kind::Data, "/stays", A, Bits::ONE_SHOT).unwrap();
        for n in 0..20 {
            let path = format!("/{n}{}", "x".repeat(300));
            w.add(Kind::Data, &path, A, Bits::ONE_SHOT).unwrap();
            w.add(Kind::Child, &path, A, Bits::ONE_SHOT).unwrap();
            assert_eq!(w.fire_deleted(&path).len(), 1, "watch {n}");
        }
        assert_eq!(w.count(), 1);
    }

    #[test]
    fn a_delete_reaches_a_crowd_that_watches_children_beside_one_that_watches_data() {
        let mut w = watches(10);
        w.add(Kind::Data, "/a", ConnId(0), Bits::ONE_SHOT).unwrap();
        for n in 0..100 {
            w.add(Kind::Child, "/a", ConnId(n), Bits::ONE_SHOT).unwrap();
        }
        let told = w.fire_deleted("/a");
        assert!((0..100).all(|n| told.contains(ConnId(n))));
        assert_eq!((told.len(), w.count()), (100, 0), "each once");
    }

    #[test]
    fn a_crowd_is_taken_whole_and_told_one_by_one() {
        let mut w = watches(10);
        for n in 0..1_000 {
            w.add(Kind::Data, "/a", ConnId(n), Bits::ONE_SHOT).unwrap();
        }
        let mut crowd = w.fire_data("/a");
        assert_eq!((crowd.len(), w.count()), (1_000, 0));
        assert!(crowd.take(ConnId(7)) && !crowd.contains(ConnId(7)));
        let mut told = 1;
        while !crowd.is_empty() {
            for conn in crowd.take_some(64) {
                w.told("/a", conn);
                told += 1;
            }
        }
        assert_eq!(told, 1_000);
        w.add(Kind::Data, "/a", ConnId(7), Bits::ONE_SHOT).unwrap();
        assert_eq!(w.fire_data("/a").len(), 1);
    }
}
