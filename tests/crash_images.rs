//! Power cuts and flipped bytes. A random history is written through the real writer onto a recording disk;
//! the power is cut after random events, with a random part of what was not synced; then the log is opened
//! again. What comes back is exactly a history between the acknowledged and the submitted one, and goes on.
//!
//! `CRASH_IMAGES` and `FLIPS` say how many; `SEED` begins elsewhere.

mod power;

use std::io;
use std::os::fd::AsFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use power::{Dice, PowerBackend, PowerDisk, Writes};
use ringkeeper::host::disk::{
    list_snapshots, publish_file, purge_snapshots, Disk, Log, LogError, LogOptions, LogPlace, SpaceState,
    SubmitError,
};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::{Append, HardState, Kind};

const LOG: &str = "/data/log";
const SNAPSHOTS: &str = "/data/snapshot";
const MARKER: &str = "/data/ringkeeper.id";

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 96 << 10, quiet: Duration::ZERO, space_low_bytes: 0, ..LogOptions::default() }
}

/// What one record did, as the model knows it.
#[derive(Clone, Debug)]
struct Done {
    kind: Kind,
    index: u64,
    term: u64,
    hash: u64,
    hard_state: HardState,
    /// Instead of a record: the entries that a leader's snapshot stands for.
    installed: Option<Vec<(u64, u64)>>,
}

/// The state that a history of records leads to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Model {
    /// Term and payload hash of entry 1 and on.
    entries: Vec<(u64, u64)>,
    hard_state: HardState,
}

impl Model {
    fn of(history: &[Done]) -> Model {
        let mut model = Model::default();
        for done in history {
            if let Some(entries) = &done.installed {
                model.entries.clone_from(entries);
            } else if done.kind == Kind::Entry {
                model.entries.truncate(done.index as usize - 1);
                model.entries.push((done.term, done.hash));
            }
            model.hard_state = done.hard_state;
        }
        model
    }

    /// What a snapshot at `index` holds: a digest of everything up to it.
    fn digest(&self, index: u64) -> u64 {
        self.entries[..index as usize].iter().fold(7, |d, (term, hash)| (d ^ term).wrapping_mul(31) ^ hash)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// Remarks in the event stream: how far the history was submitted or acknowledged.
const SUBMITTING: u64 = 0;
const ACKED: u64 = 1;

/// A server as far as the disk knows it.
struct Run {
    disk: PowerDisk,
    log: Log,
    dice: Dice,
    history: Vec<Done>,
    /// Sequence of each record of this life, empty ones left out, with its place in the history.
    sequences: Vec<(u64, usize)>,
    acked: usize,
    term: u64,
    commit: u64,
    /// A leader's snapshot did not come: what is committed is not ours to say any more.
    is_left_behind: bool,
}

fn place(disk: &PowerDisk) -> LogPlace {
    let begun = disk.list(Path::new("/data")).unwrap().iter().any(|i| i.name == "ringkeeper.id");
    LogPlace {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from(LOG),
        cluster: 42,
        server: ServerId(1),
        begun,
    }
}

/// The newest snapshot: every published one must be whole.
fn newest_snapshot(disk: &PowerDisk) -> io::Result<Option<(u64, u64)>> {
    let Some(newest) = list_snapshots(disk, Path::new(SNAPSHOTS))?.into_iter().next() else {
        return Ok(None);
    };
    let bytes = disk.read_at(&newest.path, 0, 64)?;
    let number = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    match (number(0), number(8), number(16)) {
        (Some(index), Some(digest), Some(check)) if check == index ^ digest.rotate_left(7) ^ 99 => {
            Ok(Some((index, digest)))
        }
        _ => Err(io::Error::other("the snapshot is not whole")),
    }
}

impl Run {
    fn open(disk: PowerDisk, history: Vec<Done>, seed: u64) -> Result<Run, LogError> {
        Run::open_with(disk, history, seed, Writes::Succeed)
    }

    /// Opens what is on `disk` and finds the history that it holds: a prefix of `history`.
    fn open_with(disk: PowerDisk, history: Vec<Done>, seed: u64, writes: Writes) -> Result<Run, LogError> {
        let snapshot = newest_snapshot(&disk).expect("a published snapshot is whole");
        let from = snapshot.map_or(0, |(index, _)| index);
        let mut backend = PowerBackend::new(&disk, seed);
        backend.writes = writes;
        let place = place(&disk);
        let (log, recovered) = Log::open_with(place, &options(), Box::new(backend), true, LogIndex(from))?;
        if !history.is_empty() || recovered.tail.is_none() {
            publish_file(&disk, Path::new(MARKER), |w| w.write_all(b"begun")).unwrap();
        }
        let commit = recovered.hard_state.commit.0.max(from);
        let term = recovered.hard_state.term.0.max(1);
        let acked = history.len();
        let is_left_behind = recovered.announced.is_some();
        let (dice, sequences) = (Dice(seed), Vec::new());
        Ok(Run { disk, log, dice, history, sequences, acked, term, commit, is_left_behind })
    }

    /// Checks that the open log holds exactly `history[..p]` for one p in `range`, and cuts the model there.
    fn settle(&mut self, low: usize, high: usize) {
        let snapshot = newest_snapshot(&self.disk).unwrap();
        let base = self.log.base();
        let found: Vec<(u64, u64)> = (self.log.first_index().0..=self.log.last_index().0)
            .map(|index| {
                let entry = self.log.entry(LogIndex(index)).expect("no gap");
                (entry.term.0, hash(&self.log.read(LogIndex(index)).expect("readable")))
            })
            .collect();
        let fits = |p: &usize| {
            let model = Model::of(&self.history[..*p]);
            let from = base.0 .0 as usize;
            let last = base.0 .0 as usize + found.len();
            let commit = model.hard_state.commit.0.min(last as u64);
            let hard_state = HardState { commit: LogIndex(commit), ..model.hard_state };
            model.entries.len() == last
                && model.entries[from..] == found
                && (from == 0 || model.entries[from - 1].0 == base.1 .0)
                && self.hard_state() == hard_state
                && snapshot.is_none_or(|(index, digest)| model.digest(index) == digest)
        };
        let Some(p) = (low..=high).rev().find(fits) else {
            panic!("nothing between {low} and {high} acknowledged to submitted records fits what came back");
        };
        self.history.truncate(p);
        self.acked = p;
    }

    /// The log reaches back to every snapshot that is still there, should the newest be bad.
    fn check_older_snapshots(&self) {
        for snapshot in list_snapshots(&self.disk, Path::new(SNAPSHOTS)).unwrap() {
            let recovered = place(&self.disk).recover(Some(snapshot.index));
            // Nothing goes on behind a snapshot that a leader's left behind.
            let is_left = self.history.iter().any(|d| d.installed.is_some() && d.index > snapshot.index.0);
            if is_left {
                assert!(recovered.is_err(), "{snapshot:?}");
            } else {
                let recovered = recovered.expect("an older snapshot fits too");
                assert_eq!(recovered.last().0, self.log.last_index());
            }
        }
    }

    fn hard_state(&self) -> HardState {
        let recovered = place(&self.disk)
            .recover(Some(LogIndex(newest_snapshot(&self.disk).unwrap().map_or(0, |s| s.0))));
        recovered.unwrap().hard_state
    }

    fn submit(&mut self, append: &Append<'_>) {
        self.submit_all(std::slice::from_ref(append));
    }

    /// As many as the log takes go as one write.
    fn submit_all(&mut self, appends: &[Append<'_>]) {
        let before = self.history.len();
        for append in appends {
            let done = Done {
                kind: append.kind,
                index: append.index.0,
                term: append.term.0,
                hash: hash(&append.payload.concat()),
                hard_state: append.hard_state,
                installed: None,
            };
            self.note_submitting(done);
        }
        let mut taken = 0;
        while taken < appends.len() {
            while !self.log.can_submit() {
                self.log.poll().unwrap();
            }
            let (count, last) = self.log.submit_all(&appends[taken..]).unwrap();
            let first = last.0 + 1 - count as u64;
            self.sequences.extend((0..count).map(|nth| (first + nth as u64, before + taken + nth + 1)));
            taken += count;
        }
    }

    fn note_submitting(&mut self, done: Done) {
        self.history.push(done);
        self.disk.mark(self.history.len() as u64 * 2 + SUBMITTING);
    }

    fn note_acked(&mut self) {
        let durable = self.log.durable().0;
        let acked = self.sequences.iter().rev().find(|(s, _)| *s <= durable).map(|(_, place)| *place);
        if let Some(acked) = acked.filter(|a| *a > self.acked) {
            self.acked = acked;
            self.disk.mark(acked as u64 * 2 + ACKED);
        }
    }

    fn step(&mut self) {
        let state = |run: &Run| HardState { term: Term(run.term), vote: 1, commit: LogIndex(run.commit) };
        match self.dice.below(21) {
            0..=9 => {
                let mut index = self.log.last_index().0 + 1;
                if self.dice.one_in(12) && self.commit.max(self.log.base().0 .0) + 1 < index {
                    // A new leader replaces what the old one could not commit.
                    self.term += 1;
                    let least = self.commit.max(self.log.base().0 .0) + 1;
                    index = least + self.dice.below(index - least);
                }
                let count = if self.dice.one_in(2) { 1 } else { 1 + self.dice.below(5) };
                let payloads: Vec<Vec<u8>> = (0..count).map(|_| self.payload()).collect();
                let pieces: Vec<[&[u8]; 1]> = payloads.iter().map(|bytes| [&bytes[..]]).collect();
                let appends = pieces.iter().zip(index..).map(|(pieces, index)| {
                    let zxid = Zxid(index.cast_signed());
                    Append::entry(0, Term(self.term), LogIndex(index), (zxid, zxid), state(self), pieces)
                });
                let appends: Vec<Append<'_>> = appends.collect();
                self.submit_all(&appends);
            }
            10 => {
                self.term += self.dice.below(2);
                self.submit(&Append::hard_state(state(self)));
            }
            11..=15 => self.log.poll().unwrap(),
            16 => {
                let (wake, _bell) = std::io::pipe().unwrap();
                self.log.wait(Duration::ZERO, wake.as_fd()).unwrap();
            }
            17 if !self.is_left_behind => {
                // What is durable is committed now: one voter.
                let model = Model::of(&self.history[..self.acked]);
                let now = Model::of(&self.history);
                let same = model.entries.iter().zip(&now.entries).take_while(|(a, b)| a == b).count();
                self.commit = self.commit.max(same as u64);
            }
            18 => self.snapshot(),
            19 if self.dice.one_in(2) => self.install(),
            _ => self.log.drain().unwrap(),
        }
        self.note_acked();
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.dice.below(4) {
            0 => 0,
            1 | 2 => self.dice.below(4000),
            _ => self.dice.below(30_000),
        };
        let seed = self.dice.roll();
        (0..len).map(|i| (seed >> (i % 57)) as u8 ^ i as u8).collect()
    }

    fn snapshot(&mut self) {
        let index = self.commit;
        if index == 0 {
            return;
        }
        let digest = Model::of(&self.history).digest(index);
        self.publish(index, digest);
        if let Some(oldest) = purge_snapshots(&self.disk, Path::new(SNAPSHOTS), 2).unwrap() {
            self.log.purge(LogIndex(oldest.0 + 1));
        }
    }

    /// A leader's snapshot, before, at or behind the end of the own log: all that is committed, then the leader's own.
    fn install(&mut self) {
        self.log.drain().unwrap();
        self.note_acked();
        let index = self.commit + 1 + self.dice.below(12);
        // In a term of its own, if it is against own entries.
        let is_behind = index > self.log.last_index().0;
        let snapshot_term = if is_behind { self.term + self.dice.below(2) } else { self.term + 1 };
        let mut model = Model::of(&self.history);
        model.entries.truncate(self.commit as usize);
        while (model.entries.len() as u64) < index {
            model.entries.push((snapshot_term, self.dice.roll()));
        }
        self.log.announce_snapshot(LogIndex(index), Term(snapshot_term)).unwrap();
        for _ in 0..self.dice.below(3) {
            let commit = LogIndex(self.commit);
            self.submit(&Append::hard_state(HardState { term: Term(self.term), vote: 1, commit }));
        }
        self.log.drain().unwrap();
        self.note_acked();
        self.term = snapshot_term + self.dice.below(2);
        self.commit = index;
        self.is_left_behind = false;
        // A start that finds the snapshot goes on behind it with the hard state that it finds, in its term at least.
        let former = Model::of(&self.history).hard_state;
        let mut found = HardState { commit: LogIndex(index), ..former };
        if found.term.0 < snapshot_term {
            (found.term, found.vote) = (Term(snapshot_term), 0);
        }
        let digest = model.digest(index);
        let (kind, term, hash) = (Kind::Empty, self.term, 0);
        let installed = Some(model.entries);
        self.note_submitting(Done { kind, index, term, hash, hard_state: found, installed });
        self.publish(index, digest);
        let vote = if former.term.0 < self.term { 1 + self.dice.below(3) } else { former.vote };
        let hard_state = HardState { term: Term(self.term), vote, commit: LogIndex(index) };
        self.note_submitting(Done { kind, index, term, hash, hard_state, installed: None });
        self.log.restart_at(LogIndex(index), Term(snapshot_term), hard_state).unwrap();
        self.acked = self.history.len();
        self.disk.mark(self.acked as u64 * 2 + ACKED);
        if self.dice.one_in(2) {
            purge_snapshots(&self.disk, Path::new(SNAPSHOTS), 1).unwrap();
        }
    }

    fn publish(&self, index: u64, digest: u64) {
        let path = format!("{SNAPSHOTS}/{index:016x}-{index:016x}.snap");
        publish_file(&self.disk, Path::new(&path), |w| {
            w.write_all(&index.to_le_bytes())?;
            w.write_all(&digest.to_le_bytes())?;
            w.write_all(&(index ^ digest.rotate_left(7) ^ 99).to_le_bytes())
        })
        .unwrap();
    }
}

/// The bounds that the remarks before a cut set.
fn bounds(disk: &PowerDisk, cut: usize, acked: usize) -> (usize, usize) {
    let marks = disk.marks(cut);
    let newest = |what| marks.iter().rev().find(|m| **m % 2 == what).map(|m| (*m / 2) as usize);
    let low = newest(ACKED).unwrap_or(acked);
    (low, newest(SUBMITTING).unwrap_or(acked).max(low))
}

#[test]
fn after_a_power_cut_exactly_the_acknowledged_to_submitted_history_is_there() {
    let images = env("CRASH_IMAGES", 300);
    let seed = env("SEED", 1);
    let mut made = 0;
    let mut round = 0;
    while made < images {
        round += 1;
        let seed = seed.wrapping_mul(1_000_003) + round;
        let mut dice = Dice(seed);
        let mut run = Run::open(PowerDisk::default(), Vec::new(), seed).unwrap();
        // Several lives: each begins on the image that the cut before left.
        for life in 0..4 {
            let begun = run.acked;
            let mut first = if life == 0 { 0 } else { run.disk.events() };
            if life > 0 && dice.one_in(2) {
                // Let the power also go while the log is being opened.
                first = 0;
            }
            for _ in 0..20 + dice.below(120) {
                run.step();
            }
            if dice.one_in(2) {
                let (disk, history) = (run.disk.clone(), run.history.clone());
                let (acked, submitted) = (run.acked, history.len());
                if dice.one_in(2) {
                    run.log.close().unwrap();
                    run = Run::open(disk, history, dice.roll()).unwrap();
                    run.settle(submitted, submitted);
                } else {
                    // Killed: what was in flight is in a cache, to be read, but not durable.
                    drop(run.log);
                    run = Run::open(disk, history, dice.roll()).unwrap();
                    run.settle(acked, submitted);
                }
                run.disk.mark(run.acked as u64 * 2 + ACKED);
                for _ in 0..dice.below(20) {
                    run.step();
                }
            }
            let mut next = None;
            for _ in 0..6 {
                let cut = first + dice.below((run.disk.events() - first) as u64 + 1) as usize;
                let cut = cut.max(setup_events(&run.disk, life));
                let (low, high) = bounds(&run.disk, cut, begun);
                let image = run.disk.image(cut, &mut dice);
                let again = Run::open(image, run.history[..high].to_vec(), dice.roll());
                let mut again = again
                    .unwrap_or_else(|e| panic!("SEED round {round} life {life} cut {cut}: refused: {e}"));
                let settled = catch_unwind(AssertUnwindSafe(|| {
                    again.settle(low, high);
                    again.check_older_snapshots();
                }));
                settled.unwrap_or_else(|_| panic!("round {round}, life {life}, cut {cut}, seed {seed}"));
                made += 1;
                next = Some(again);
            }
            run = next.expect("images were made");
        }
    }
    println!("{made} images in {round} rounds");
}

/// Events that put the former life's files onto the disk: the power cannot go among them.
fn setup_events(disk: &PowerDisk, life: usize) -> usize {
    if life == 0 {
        return 0;
    }
    disk.setup()
}

#[test]
fn a_flipped_byte_is_refused_by_name_or_harmless() {
    let flips = env("FLIPS", 500);
    let seed = env("SEED", 1);
    let mut dice = Dice(seed);
    let mut outcomes = std::collections::BTreeMap::new();
    let mut left = 0;
    let mut whole: Option<(PowerDisk, Vec<Done>)> = None;
    for _ in 0..flips {
        if left == 0 {
            let mut run = Run::open(PowerDisk::default(), Vec::new(), dice.roll()).unwrap();
            for life in 0..3 {
                for _ in 0..60 + dice.below(80) {
                    run.step();
                }
                run.log.drain().unwrap();
                let (disk, history) = (run.disk.clone(), run.history.clone());
                if life == 2 && dice.one_in(2) {
                    // Quiet, then killed.
                    let (wake, _bell) = std::io::pipe().unwrap();
                    run.log.wait(Duration::ZERO, wake.as_fd()).unwrap();
                    run.log.drain().unwrap();
                } else {
                    run.log.close().unwrap();
                }
                if life < 2 {
                    run = Run::open(disk, history, dice.roll()).unwrap();
                } else {
                    whole = Some((disk, history));
                    break;
                }
            }
            left = 100;
        }
        left -= 1;
        let (disk, history) = whole.as_ref().unwrap();
        let damaged = disk.copy();
        let files: Vec<_> =
            damaged.files().into_iter().filter(|(p, len)| *len > 0 && p.starts_with("/data/log")).collect();
        let (path, len) = &files[dice.below(files.len() as u64) as usize];
        // Mostly where something is.
        let at = if dice.one_in(3) { dice.below((*len).min(4300)) } else { dice.below(*len) };
        damaged.flip(path, at, 1 << dice.below(8));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Run::open(damaged, history.clone(), 7).map(|mut run| run.settle(history.len(), history.len()))
        }));
        let what = match opened {
            Ok(Ok(())) => "harmless".to_owned(),
            Ok(Err(e)) => {
                let text = e.to_string();
                assert!(text.contains("log segment"), "the refusal names the place: {text}");
                "refused".to_owned()
            }
            Err(_) => panic!("flip in {} at {at}: silent loss or a panic (SEED {seed})", path.display()),
        };
        *outcomes.entry(what).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(flips < 100 || outcomes.len() == 2, "both outcomes occur: {outcomes:?}");
}

#[test]
fn a_failed_or_short_write_ends_all_writing() {
    for (writes, word) in [(Writes::Fail, "Input/output error"), (Writes::Short, "short write, 2048 of 4096")]
    {
        let mut run = Run::open_with(PowerDisk::default(), Vec::new(), 3, writes).unwrap();
        let state = HardState { term: Term(1), vote: 1, commit: LogIndex(0) };
        run.log.submit(&Append::hard_state(state)).unwrap();
        let fault = run.log.drain().unwrap_err();
        assert!(fault.to_string().contains(word), "{fault}");
        assert!(fault.to_string().contains("0000000000000001.seg, offset 4096"), "{fault}");
        let events = run.disk.events();
        assert_eq!(run.log.submit(&Append::hard_state(state)), Err(SubmitError::Fault(fault.clone())));
        assert_eq!(run.log.poll(), Err(fault.clone()));
        assert_eq!(run.log.durable().0, 0);
        assert_eq!(run.log.close(), Err(fault));
        assert_eq!(run.disk.events(), events, "nothing was written afterwards");
    }
}

#[test]
fn what_a_mapping_shows_wrongly_is_read_again_from_the_disk() {
    let disk = PowerDisk::default();
    let mut run = Run::open(disk.clone(), Vec::new(), 9).unwrap();
    for _ in 0..200 {
        run.step();
    }
    run.log.drain().unwrap();
    let (history, submitted) = (run.history.clone(), run.history.len());
    run.log.close().unwrap();
    disk.set_map_lies(true);
    let mut run = Run::open(disk, history, 10).unwrap();
    assert!(run.log.segments() > 2);
    run.settle(submitted, submitted);
}

#[test]
fn a_full_disk_lives_on_its_ballast_and_comes_back_by_itself() {
    let disk = PowerDisk::default();
    let mut run = Run::open(disk.clone(), Vec::new(), 5).unwrap();
    let state = HardState { term: Term(1), vote: 1, commit: LogIndex(0) };
    assert_eq!(run.log.check_space(), SpaceState::Ok);
    disk.set_limit(Some(disk.used()));
    let mut index = 0;
    let mut add = |run: &mut Run| {
        index += 1;
        let zxids = (Zxid(index as i64), Zxid(index as i64));
        let result = run.log.submit(&Append::entry(0, Term(1), LogIndex(index), zxids, state, &[&[7; 9000]]));
        index -= u64::from(result.is_err());
        run.log.drain().unwrap();
        result
    };
    let mut taken = 0;
    while run.log.segments() < 3 {
        assert!(add(&mut run).is_ok(), "the segment ahead, then the ballast");
        taken += 1;
    }
    assert_eq!(run.log.check_space(), SpaceState::Full, "the last segment is being written");

    // A restart on the full disk comes up on what cutting the last segment to its length has freed.
    run.log.close().unwrap();
    let mut run = Run::open(disk.clone(), Vec::new(), 6).unwrap();
    assert_eq!(run.log.last_index().0, taken);
    assert_eq!(run.log.check_space(), SpaceState::Full);
    while add(&mut run).is_ok() {
        taken += 1;
        assert!(taken < 100, "the disk is full");
    }
    assert_eq!(add(&mut run), Err(SubmitError::NoSpace));
    assert_eq!(run.log.last_index().0, taken);

    // Not a byte is left: refused, with what to do.
    run.log.close().unwrap();
    disk.set_limit(Some(disk.used()));
    let backend = Box::new(PowerBackend::new(&disk, 1));
    let refused = Log::open_with(place(&disk), &options(), backend, true, LogIndex(0)).err().unwrap();
    assert!(refused.to_string().contains("no space for a log segment in /data/log"), "{refused}");

    // The operator makes room.
    disk.set_limit(Some(disk.used() + (1 << 20)));
    let mut run = Run::open(disk.clone(), Vec::new(), 6).unwrap();
    assert_eq!(run.log.last_index().0, taken);
    assert_eq!(run.log.check_space(), SpaceState::Ok);
    assert!(add(&mut run).is_ok());
}
