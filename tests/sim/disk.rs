//! What a server has on disk: log records in the order in which they were written, and snapshots.

use bytes::Bytes;
use ringkeeper::apply::{SnapshotHead, State};
use ringkeeper::ids::{LogIndex, Seat, ServerId, Term};
use ringkeeper::log::HardState;
use ringkeeper::membership::Membership;
use ringkeeper::sequencer::{Install, Logged, RecoveredEntry, RecoveredLog};
use ringkeeper::snapshot::{self, Encoder, Meta};
use ringkeeper::tree::{Node, PathHasher};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many snapshots are kept, and the log back to the oldest of them.
const SNAPSHOTS_KEPT: usize = 2;

#[derive(Default)]
pub struct Disk {
    /// The directory's own id: another one after the disk was wiped.
    pub birth: u128,
    /// Of the directories that the ensemble was formed of: the first voters' and nobody else's.
    pub formed: Arc<[(ServerId, u128)]>,
    /// The seat that was written down.
    pub seat: Option<Seat>,
    /// Entries not purged, and hard states.
    pub durable: Vec<Logged>,
    pub under_way: VecDeque<(u64, Logged)>,
    hard_state: HardState,
    /// By index, the newest last.
    snapshots: Vec<Snapshot>,
    /// Of another server: whole, but nobody's until the log goes on behind it.
    pub fetched: Option<Snapshot>,
}

/// A snapshot as its file holds it.
#[derive(Clone)]
pub struct Snapshot {
    pub index: LogIndex,
    term: Term,
    bytes: Arc<[u8]>,
}

impl Snapshot {
    pub fn of(index: LogIndex, term: Term, head: &SnapshotHead, parts: &[Vec<Node>]) -> Snapshot {
        let meta = Meta { cluster: 1, index, term };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&mut bytes, &meta, head).expect("memory takes what is written");
        for nodes in parts {
            encoder.nodes(nodes).expect("memory takes what is written");
        }
        encoder.finish().expect("the parts are the state");
        Snapshot { index, term, bytes: bytes.into() }
    }

    pub fn read(&self, hasher: PathHasher) -> State {
        let loaded =
            snapshot::decode(&mut &self.bytes[..], hasher).expect("a snapshot is read as it was written");
        assert_eq!((loaded.meta.index, loaded.meta.term), (self.index, self.term));
        loaded.state
    }
}

impl Disk {
    /// A new one of a server.
    pub fn new(birth: u128, formed: Arc<[(ServerId, u128)]>) -> Disk {
        Disk { birth, formed, ..Disk::default() }
    }

    /// As the host finds it in the directory's marker.
    pub fn seat_of(&self, server: ServerId) -> Seat {
        let is_first = self.formed.is_empty() || self.formed.contains(&(server, self.birth));
        let first = if is_first { Seat::new(server, 0) } else { Seat::none(server) };
        self.seat.unwrap_or(first)
    }

    /// What a server begins with: the newest snapshot, and the log after it.
    pub fn open(&self, hasher: &PathHasher) -> (State, RecoveredLog) {
        let newest = self.snapshots.last();
        let base = newest.map_or((LogIndex(0), Term(0)), |snapshot| (snapshot.index, snapshot.term));
        let mut state =
            newest.map_or_else(|| State::new(hasher.clone()), |snapshot| snapshot.read(hasher.clone()));
        if !state.membership.is_ensemble() {
            state.membership = Membership::formed(&self.formed);
        }
        (state, self.recovered(base))
    }

    /// Entries as recovery finds them: a record whose index is not above the last one replaces that suffix.
    fn recovered(&self, base: (LogIndex, Term)) -> RecoveredLog {
        let mut entries: Vec<RecoveredEntry> = Vec::new();
        for one in self.durable.iter().filter(|one| one.index > base.0) {
            while entries.last().is_some_and(|last| last.index >= one.index) {
                entries.pop();
            }
            entries.push(RecoveredEntry {
                index: one.index,
                term: one.term,
                tag: one.tag,
                first_zxid: one.first_zxid,
                last_zxid: one.last_zxid,
                payload_len: one.payload.len(),
            });
        }
        let mut hard_state = self.hard_state;
        let last = entries.last().map_or(base.0 .0, |entry| entry.index.0);
        hard_state.commit.0 = hard_state.commit.0.min(last);
        RecoveredLog { base, entries, hard_state }
    }

    /// A record has become durable.
    pub fn keep(&mut self, record: Logged) {
        self.hard_state = record.hard_state;
        if record.index.0 > 0 {
            self.durable.push(record);
        }
    }

    /// An entry, unless it is purged.
    pub fn entry(&self, index: LogIndex) -> Option<&Logged> {
        let all = self.durable.iter().chain(self.under_way.iter().map(|(_, one)| one));
        all.filter(|one| one.index == index).last()
    }

    pub fn payload(&self, index: LogIndex) -> Bytes {
        self.entry(index).expect("the log holds it").payload.clone()
    }

    pub fn snapshot(&self, index: LogIndex) -> Option<Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.index == index).cloned()
    }

    /// A snapshot is written. What is older than the oldest kept one goes; returns the first entry that is still there.
    pub fn add(&mut self, snapshot: Snapshot) -> LogIndex {
        self.snapshots.push(snapshot);
        self.snapshots.sort_by_key(|snapshot| snapshot.index);
        let old = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        self.snapshots.drain(..old);
        let upto = if self.snapshots.len() == SNAPSHOTS_KEPT { self.snapshots[0].index } else { LogIndex(0) };
        // A conflicting entry's predecessor at its index goes with it.
        let kept = self.durable.iter().position(|one| one.index > upto).unwrap_or(self.durable.len());
        self.durable.drain(..kept);
        LogIndex(upto.0 + 1)
    }

    /// A fetched snapshot takes the log's place.
    pub fn restart_at(&mut self, at: &Install) {
        let fetched = self.fetched.take().filter(|fetched| fetched.index == at.index);
        self.snapshots.push(fetched.expect("a snapshot is on disk before the log goes on behind it"));
        self.snapshots.sort_by_key(|snapshot| snapshot.index);
        self.durable.clear();
        self.under_way.clear();
        self.hard_state = at.hard_state;
    }
}
