//! Who hears of a change. One-shot entries are taken whole, however many connections they hold: telling them is the
//! shard's work, slice by slice.

use super::table::{fixed_state, Bits, Connections, Entry, Kind, Watchers, Watches};
use crate::ids::ConnId;
use crate::mutant::{self, Mutant};
use crate::tree::path;
use smallvec::SmallVec;

/// The connections that hear one event, each once.
#[derive(Debug, Default)]
pub struct Recipients {
    few: SmallVec<[ConnId; 4]>,
    /// Beyond a few: found by id in one step, so that a connection can be told ahead of its turn.
    many: Option<Box<Connections>>,
}

const FEW_MAX: usize = 16;

impl Recipients {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    /// Whether nobody hears it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the connection hears it and was not told yet.
    #[must_use]
    pub fn contains(&self, conn: ConnId) -> bool {
        self.many.as_ref().map_or_else(|| self.few.contains(&conn), |many| many.contains_key(&conn))
    }

    /// Takes a connection out, to be told now.
    pub fn take(&mut self, conn: ConnId) -> bool {
        match &mut self.many {
            Some(many) => many.remove(&conn).is_some(),
            None => match self.few.iter().position(|one| *one == conn) {
                Some(at) => {
                    self.few.remove(at);
                    true
                }
                None => false,
            },
        }
    }

    /// Takes out up to `n` connections, to be told now.
    pub fn take_some(&mut self, n: usize) -> SmallVec<[ConnId; 16]> {
        match &mut self.many {
            None => {
                let n = n.min(self.few.len());
                self.few.drain(..n).collect()
            }
            Some(many) => {
                let some: SmallVec<[ConnId; 16]> = many.keys().take(n).copied().collect();
                for conn in &some {
                    many.remove(conn);
                }
                // A set that shrinks is walked from its start each time: keep it dense.
                if many.capacity() > 4 * many.len().max(FEW_MAX) {
                    many.shrink_to_fit();
                }
                some
            }
        }
    }

    fn push(&mut self, conn: ConnId) {
        match &mut self.many {
            Some(many) => {
                many.insert(conn, Bits::default());
            }
            None if self.few.contains(&conn) => {}
            None if self.few.len() < FEW_MAX => self.few.push(conn),
            None => {
                let mut many = Connections::with_hasher(fixed_state());
                many.extend(self.few.drain(..).chain([conn]).map(|conn| (conn, Bits::default())));
                self.many = Some(Box::new(many));
            }
        }
    }
}

impl Watches {
    /// A znode came to be or its data changed: the data table, and recursive watches above.
    pub fn fire_data(&mut self, path: &str) -> Recipients {
        let mut recipients = self.fire_exact(Kind::Data, path);
        self.add_recursive(path, &mut recipients);
        recipients
    }

    /// A znode is gone: the data table, recursive watches above, then the child table; each connection once (TR09).
    pub fn fire_deleted(&mut self, path: &str) -> Recipients {
        let mut recipients = self.fire_data(path);
        let child = self.fire_exact(Kind::Child, path);
        if recipients.is_empty() {
            return child;
        }
        match child.many {
            Some(many) => many.keys().for_each(|conn| recipients.push(*conn)),
            None => child.few.iter().for_each(|conn| recipients.push(*conn)),
        }
        recipients
    }

    /// A child came or went: the child table of the parent. Recursive watches never hear this (TR11).
    pub fn fire_children(&mut self, parent: &str) -> Recipients {
        self.fire_exact(Kind::Child, parent)
    }

    fn fire_exact(&mut self, kind: Kind, path: &str) -> Recipients {
        let hash = self.hasher.hash(path.as_bytes());
        let is_it = |entry: &Entry| entry.path.as_bytes() == path.as_bytes();
        let mut recipients = Recipients::default();
        let Some(entry) = self.table(kind).find(hash, is_it) else { return recipients };
        if entry.sticky == 0 && !mutant::is(Mutant::OneShotStays) {
            let table = match kind {
                Kind::Data => &mut self.data,
                Kind::Child => &mut self.child,
            };
            let entry = table.remove(hash, is_it).expect("it was found just now");
            self.taken(kind, entry.watchers.len());
            recipients = whole(entry.watchers);
            // A short list is settled here; a long one connection by connection, as each is told.
            if recipients.many.is_none() {
                for conn in &recipients.few {
                    self.settle(path.as_bytes(), *conn);
                }
            }
            return recipients;
        }
        let path = entry.path.clone();
        // A crowd that stays is copied as a table is, not hashed one by one: the setter waits for it.
        match &entry.watchers {
            Watchers::Many(map) if map.len() > FEW_MAX => recipients.many = Some(map.clone()),
            few => few.each(|conn, _| recipients.push(conn)),
        }
        let mut one_shots: SmallVec<[(ConnId, Bits); 8]> = SmallVec::new();
        entry.watchers.each(|conn, bits| {
            if bits.has(Bits::ONE_SHOT) && !mutant::is(Mutant::OneShotStays) {
                one_shots.push((conn, bits));
            }
        });
        for (conn, bits) in one_shots {
            let left = match mutant::is(Mutant::StickyGoesToo) {
                true => Bits::default(),
                false => bits.without(Bits::ONE_SHOT),
            };
            self.set_bits(kind, &path, conn, bits, left);
            self.settle(path.as_bytes(), conn);
        }
        recipients
    }

    fn add_recursive(&self, path: &str, recipients: &mut Recipients) {
        if self.recursive == 0 {
            return;
        }
        let mut at = path;
        while at.len() > 1 {
            let Some(parent) = path::parent(at) else { return };
            if mutant::is(Mutant::GrandchildMissed) && at != path {
                return;
            }
            at = parent;
            let hash = self.hasher.hash(at.as_bytes());
            if let Some(entry) = self.data.find(hash, |entry| entry.path.as_bytes() == at.as_bytes()) {
                match &entry.watchers {
                    Watchers::Many(map) if map.len() > FEW_MAX && recipients.is_empty() => {
                        let mut all = map.clone();
                        all.retain(|_, bits| bits.has(Bits::RECURSIVE));
                        recipients.many = Some(all);
                    }
                    watchers => watchers.each(|conn, bits| {
                        if bits.has(Bits::RECURSIVE) {
                            recipients.push(conn);
                        }
                    }),
                }
            }
        }
    }

    /// A connection of a long list was told: its own list of paths learns it here.
    pub fn told(&mut self, path: &str, conn: ConnId) {
        self.settle(path.as_bytes(), conn);
    }
}

/// A whole entry's connections: a long list changes hands without being walked.
fn whole(watchers: Watchers) -> Recipients {
    match watchers {
        Watchers::One(conn, bits) if bits != Bits::default() => {
            Recipients { few: SmallVec::from_slice(&[conn]), many: None }
        }
        Watchers::One(..) => Recipients::default(),
        Watchers::Many(map) if map.len() <= FEW_MAX => {
            Recipients { few: map.keys().copied().collect(), many: None }
        }
        Watchers::Many(map) => Recipients { few: SmallVec::new(), many: Some(map) },
    }
}
