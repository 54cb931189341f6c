//! What a server has on disk: the production's log and snapshot files in `files`, and beside them what the simulator
//! remembers of what was written, so that each start is judged: all that was acknowledged is there, as it was.

use crate::dice::Dice;
use crate::files::{Driver, Files};
use bytes::Bytes;
use ringkeeper::apply::{SnapshotHead, State};
use ringkeeper::host::disk::{
    list_snapshots, purge_snapshots, DiskFault, Log, LogError, LogOptions, LogPlace, SubmitError,
};
use ringkeeper::host::{continue_from, Base, Recovery};
use ringkeeper::ids::{LogIndex, Seat, ServerId, Term, Zxid};
use ringkeeper::log::{Damage, HardState, Recovered, Sequence};
use ringkeeper::membership::Membership;
use ringkeeper::sequencer::{Install, Logged, RecoveredLog};
use ringkeeper::snapshot::{self, Encoder, Meta};
use ringkeeper::tree::{Node, PathHasher};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many snapshots are kept, and the log back to the oldest of them.
const SNAPSHOTS_KEPT: usize = 2;
/// After so long the last record is covered by an empty one.
const QUIET_MS: u64 = 5;
pub const CLUSTER: u128 = 1;
pub const LOG: &str = "/log";
const SNAPSHOTS: &str = "/snapshots";

/// What differs from disk to disk.
#[derive(Clone, Copy)]
pub struct Build {
    pub segment_bytes: u64,
    /// What is under way when the process dies arrives in part.
    pub tears: bool,
}

pub struct Disk {
    /// The directory's own id: another one after the disk was wiped.
    pub birth: u128,
    /// Of the directories that the ensemble was formed of: the first voters' and nobody else's.
    pub formed: Arc<[(ServerId, u128)]>,
    /// The seat that was written down.
    pub seat: Option<Seat>,
    pub files: Files,
    build: Build,
    /// A log was begun here.
    pub is_begun: bool,
    /// Somebody has tampered with it: a start may refuse it.
    pub is_damaged: bool,
    /// The next snapshot can not be written.
    pub refuses_snapshot: bool,
    /// While a process has it open.
    log: Option<Log>,
    /// Records that are durable, in order. Those that are purged may be on disk for a while, and found there.
    pub durable: Vec<Record>,
    pub under_way: VecDeque<UnderWay>,
    /// Of those under way the log has so many.
    submitted: usize,
    submitted_at: u64,
    is_covered: bool,
    /// The last record that the process heard is durable.
    pub acknowledged: Sequence,
    hard_state: HardState,
    /// Entries before it are purged.
    first: LogIndex,
    /// A fetched snapshot that the log was to go on behind when a write failed.
    announced: Option<Install>,
    /// Of another server: whole, but nobody's until the log goes on behind it.
    pub fetched: Option<Snapshot>,
}

/// A record in its place of the log.
pub struct Record {
    pub sequence: Sequence,
    pub logged: Logged,
}

/// One that is not durable: when it is, and its place once the log has it, as part of the write that ends with `write`.
pub struct UnderWay {
    pub due: u64,
    sequence: Sequence,
    write: Sequence,
    logged: Logged,
}

/// A snapshot as its file holds it.
#[derive(Clone)]
pub struct Snapshot {
    pub index: LogIndex,
    zxid: Zxid,
    bytes: Arc<[u8]>,
}

impl Snapshot {
    pub fn of(index: LogIndex, term: Term, head: &SnapshotHead, parts: &[Vec<Node>]) -> Snapshot {
        let meta = Meta { cluster: CLUSTER, index, term };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&mut bytes, &meta, head).expect("memory takes what is written");
        for nodes in parts {
            encoder.nodes(nodes).expect("memory takes what is written");
        }
        encoder.finish().expect("the parts are the state");
        Snapshot { index, zxid: head.last_zxid, bytes: bytes.into() }
    }

    /// As who fetches it reads it. Nothing: it is damaged.
    pub fn read(&self, hasher: PathHasher) -> Option<State> {
        let loaded = snapshot::decode(&mut &self.bytes[..], hasher).ok()?;
        assert_eq!(loaded.meta.index, self.index, "what is whole is the snapshot of its name");
        Some(loaded.state)
    }

    fn path(&self) -> PathBuf {
        Path::new(SNAPSHOTS).join(format!("{:016x}-{:016x}.snap", self.index.0, self.zxid.0))
    }
}

impl Disk {
    /// A new one of a server.
    pub fn new(birth: u128, formed: Arc<[(ServerId, u128)]>, build: Build, dice: Dice) -> Disk {
        Disk {
            birth,
            formed,
            seat: None,
            files: Files::new(dice),
            build,
            is_begun: false,
            is_damaged: false,
            refuses_snapshot: false,
            log: None,
            durable: Vec::new(),
            under_way: VecDeque::new(),
            submitted: 0,
            submitted_at: 0,
            is_covered: true,
            acknowledged: Sequence(0),
            hard_state: HardState::default(),
            first: LogIndex(1),
            announced: None,
            fetched: None,
        }
    }

    /// As the host finds it in the directory's marker.
    pub fn seat_of(&self, server: ServerId) -> Seat {
        let is_first = self.formed.is_empty() || self.formed.contains(&(server, self.birth));
        let first = if is_first { Seat::new(server, 0) } else { Seat::none(server) };
        self.seat.unwrap_or(first)
    }

    pub fn place(&self, server: ServerId) -> LogPlace {
        let disk = Arc::new(self.files.clone());
        LogPlace { disk, dir: LOG.into(), cluster: CLUSTER, server, begun: self.is_begun }
    }

    /// The newest snapshot that is whole: as `host::load_base` finds it, which knows nothing of a newer release's rules.
    pub fn base(&self, hasher: &PathHasher) -> Base {
        let files = list_snapshots(&self.files, Path::new(SNAPSHOTS)).expect("memory is read");
        for file in files {
            let bytes = self.files.content(&file.path).expect("it is listed");
            let Ok(loaded) = snapshot::decode(&mut &bytes[..], hasher.clone()) else { continue };
            assert_eq!(loaded.meta.index, file.index, "what is whole is the snapshot of its name");
            return Base { index: loaded.meta.index, term: loaded.meta.term, state: loaded.state };
        }
        Base { index: LogIndex(0), term: Term(0), state: State::new(hasher.clone()) }
    }

    /// What a server begins with: the newest snapshot that is whole, and the log after it.
    pub fn open(&mut self, server: ServerId, hasher: &PathHasher) -> Result<(State, RecoveredLog), Damage> {
        let mut base = self.base(hasher);
        if !base.state.membership.is_ensemble() {
            base.state.membership = Membership::formed(&self.formed);
        }
        let options = LogOptions {
            segment_bytes: self.build.segment_bytes,
            quiet: Duration::ZERO,
            space_low_bytes: 0,
            ballast: false,
            ..LogOptions::default()
        };
        let driver = Box::new(Driver(self.files.clone()));
        let opened = match Log::open_with(self.place(server), &options, driver, true, base.index) {
            Ok(opened) => opened,
            Err(LogError::Damaged(damage)) => return Err(damage),
            Err(other) => panic!("server {server:?}: {other}"),
        };
        self.is_begun = true;
        self.go_on_from(&opened.1, base.index);
        let Recovery { state, log, recovered } = continue_from(base, opened);
        (self.log, self.is_covered) = (Some(log), true);
        Ok((state, recovered))
    }

    /// Recovery finds what was acknowledged, and maybe some of what was under way, as it was written.
    fn go_on_from(&mut self, found: &Recovered, base: LogIndex) {
        let next = found.tail.map_or(Sequence(1), |tail| tail.next_sequence);
        assert!(
            self.acknowledged < next,
            "the log ends before {next:?}: {:?}, {:?}",
            self.acknowledged,
            found.cut
        );
        self.durable.retain(|record| record.sequence < next);
        // A process that died between a snapshot's announcement and the log behind it goes on behind it now. It lacks
        // nothing that the snapshot does not hold, and what follows an entry that the snapshot contradicts is void.
        let behind = self.announced.filter(|at| at.index == base && !self.holds(at.index, at.term));
        if behind.is_some() {
            self.durable.clear();
        }
        let entries = replay(&self.durable, base);
        let known = entries.iter().map(|one| {
            let logged = &one.logged;
            let zxids = (logged.first_zxid, logged.last_zxid);
            (one.sequence, logged.index, logged.term, logged.tag, zxids, logged.payload.len())
        });
        let last = entries.last().map_or(base, |last| last.logged.index);
        let all = found.entries.iter().filter(|entry| entry.index > base).map(|one| {
            let zxids = (one.first_zxid, one.last_zxid);
            (one.sequence, one.index, one.term, one.tag, zxids, one.payload_len as usize)
        });
        assert!(known.eq(all), "recovery finds the entries as they were written");
        let mut hard_state = self.durable.last().map_or(self.hard_state, |record| record.logged.hard_state);
        hard_state.commit = hard_state.commit.min(last);
        if let Some(at) = behind {
            // The last step came to its end, or the start takes it: what is in the snapshot is committed, and whoever has an
            // entry of a term has seen the term.
            let steps = [at.hard_state, hard_state].map(|known| {
                let seen =
                    if known.term < at.term { HardState { term: at.term, vote: 0, ..known } } else { known };
                HardState { commit: at.index, ..seen }
            });
            assert!(steps.contains(&found.hard_state), "{:?} of {steps:?}", found.hard_state);
            hard_state = found.hard_state;
            self.announced = None;
        }
        assert_eq!(found.hard_state, hard_state, "recovery finds the vote as it was written");
        (self.hard_state, self.acknowledged) = (hard_state, Sequence(next.0 - 1));
        self.first = LogIndex(base.0 + 1);
    }

    /// Whether the log has got to this entry.
    fn holds(&self, index: LogIndex, term: Term) -> bool {
        let entries = replay(&self.durable, LogIndex(0));
        entries.iter().any(|one| (one.logged.index, one.logged.term) == (index, term))
    }

    /// The process is dead: so many of the records under way have arrived, and of those beside them some parts.
    pub fn crash(&mut self, kept: usize) {
        // What a failed disk has not taken it does not take any more.
        let _ = self.arrive(kept);
        // In a log that had to wait for a new segment's header more have arrived than anybody heard of.
        self.files.crash(self.build.tears);
        self.log = None;
        // Which of these are there is for recovery to say.
        let submitted = self.under_way.drain(..).take(self.submitted);
        self.durable.extend(submitted.map(|one| Record { sequence: one.sequence, logged: one.logged }));
        self.submitted = 0;
        self.fetched = None;
    }

    fn arrive(&mut self, count: usize) -> Result<(), DiskFault> {
        self.submit()?;
        for _ in 0..count {
            self.finish_first()?;
        }
        Ok(())
    }

    /// A record that shall be durable at `due`. What a turn of the sequencer's wants goes to the log together.
    pub fn append(&mut self, world: u64, due: u64, logged: Logged) {
        self.under_way.push_back(UnderWay { due, sequence: Sequence(0), write: Sequence(0), logged });
        self.submitted_at = world;
    }

    /// Hands the log what it takes: all that waits at one go.
    pub fn submit(&mut self) -> Result<(), DiskFault> {
        let log = self.log.as_mut().expect("the process runs");
        while self.submitted < self.under_way.len() {
            let waiting = || self.under_way.iter().skip(self.submitted).map(|one| &one.logged);
            let payloads: Vec<[&[u8]; 1]> = waiting().map(|one| [one.payload.as_ref()]).collect();
            let appends = waiting().zip(&payloads).map(|(one, payload)| one.record(payload));
            let (count, last) = match log.submit_all(&appends.collect::<Vec<_>>()) {
                Ok(taken) => taken,
                Err(SubmitError::Full) => break,
                Err(SubmitError::Fault(fault)) => return Err(fault),
                Err(other) => panic!("{other}"),
            };
            for (nth, one) in self.under_way.iter_mut().skip(self.submitted).take(count).enumerate() {
                one.sequence = Sequence(last.0 + 1 + nth as u64 - count as u64);
                one.write = last;
            }
            self.submitted += count;
            self.is_covered = false;
        }
        Ok(())
    }

    /// The first of the records under way is durable.
    fn finish_first(&mut self) -> Result<(), DiskFault> {
        while self.submitted == 0 {
            // An empty record is in its way.
            self.look(Sequence(u64::MAX))?;
            self.submit()?;
        }
        let write = self.under_way.front().expect("it is under way").write;
        self.look(write)?;
        let first = self.under_way.pop_front().expect("it was looked at just now");
        self.submitted -= 1;
        self.hard_state = first.logged.hard_state;
        self.durable.push(Record { sequence: first.sequence, logged: first.logged });
        self.acknowledged = first.sequence;
        self.submit()
    }

    fn look(&mut self, upto: Sequence) -> Result<(), DiskFault> {
        self.files.arrive(upto.0);
        self.log.as_mut().expect("the process runs").poll()
    }

    /// What has become durable by now: how many records.
    pub fn turn(&mut self, world: u64) -> Result<u64, DiskFault> {
        let mut durable = 0;
        while self.under_way.front().is_some_and(|first| first.due <= world) {
            self.finish_first()?;
            durable += 1;
        }
        if !self.is_covered && self.under_way.is_empty() && world >= self.submitted_at + QUIET_MS {
            let log = self.log.as_mut().expect("the process runs");
            // It is quiet: the log writes its empty record.
            self.files.arrive(0);
            log.wait(Duration::ZERO, std::io::stdin().as_fd())?;
            self.is_covered = true;
        } else if self.is_covered && self.under_way.is_empty() {
            self.look(Sequence(u64::MAX))?;
        }
        Ok(durable)
    }

    /// An entry, unless it is purged.
    pub fn entry(&self, index: LogIndex) -> Option<&Logged> {
        let under_way = self.under_way.iter().rev().map(|one| &one.logged);
        let mut all = under_way.chain(self.durable.iter().rev().map(|one| &one.logged));
        all.find(|one| one.index == index && index >= self.first)
    }

    /// What a server that starts reads of its log.
    pub fn payload(&mut self, index: LogIndex) -> Bytes {
        let read = self.log.as_mut().expect("the process runs").read(index);
        let payload = read.unwrap_or_else(|why| panic!("entry {index:?}: {why}"));
        let known = self.entry(index).expect("the log holds it");
        assert_eq!(payload, known.payload, "entry {index:?} is read as it was written");
        payload
    }

    pub fn snapshot(&self, index: LogIndex) -> Option<Snapshot> {
        let all = list_snapshots(&self.files, Path::new(SNAPSHOTS)).ok()?;
        let file = all.into_iter().find(|file| file.index == index)?;
        Some(Snapshot { index, zxid: file.zxid, bytes: self.files.content(&file.path)?.into() })
    }

    /// A snapshot is written. What is older than the oldest kept one goes; returns the first entry that is still there.
    /// Nothing: it could not be written.
    pub fn add(&mut self, snapshot: &Snapshot) -> Option<LogIndex> {
        if std::mem::take(&mut self.refuses_snapshot) {
            return None;
        }
        self.files.publish(&snapshot.path(), &snapshot.bytes);
        let purged =
            purge_snapshots(&self.files, Path::new(SNAPSHOTS), SNAPSHOTS_KEPT).expect("memory is read");
        let upto = purged.unwrap_or(LogIndex(0));
        self.first = LogIndex(upto.0 + 1);
        self.log.as_mut().expect("the process runs").purge(self.first);
        Some(self.first)
    }

    /// A fetched snapshot takes the log's place.
    pub fn restart_at(&mut self, at: &Install) -> Result<(), LogError> {
        let fetched = self.fetched.take().filter(|fetched| fetched.index == at.index);
        let fetched = fetched.expect("a snapshot is on disk before the log goes on behind it");
        let log = self.log.as_mut().expect("the process runs");
        self.announced = Some(*at);
        log.announce_snapshot(at.index, at.term)?;
        self.files.publish(&fetched.path(), &fetched.bytes);
        log.restart_at(at.index, at.term, at.hard_state)?;
        self.announced = None;
        self.first = LogIndex(at.index.0 + 1);
        self.durable.clear();
        self.under_way.clear();
        self.submitted = 0;
        self.is_covered = true;
        self.acknowledged = log.durable();
        self.hard_state = HardState { commit: at.hard_state.commit.max(at.index), ..at.hard_state };
        Ok(())
    }
}

/// The entries above `base` that the records make: one whose index is not above the last one replaces that suffix, also where it is
/// itself not above the base (seed 3533417077).
fn replay(records: &[Record], base: LogIndex) -> Vec<&Record> {
    let mut entries: Vec<&Record> = Vec::new();
    for one in records.iter().filter(|one| one.logged.index > LogIndex(0)) {
        while entries.last().is_some_and(|last| last.logged.index >= one.logged.index) {
            entries.pop();
        }
        entries.push(one);
    }
    entries.retain(|one| one.logged.index > base);
    entries
}
