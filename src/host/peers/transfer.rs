//! A snapshot on its way from one server's disk to another's, on a connection of its own: the sequencers hear of it when it
//! is whole.
//!
//! ```text
//! request = index:u64 offset:u64
//! answer  = total:u64 chunk*          total 0: there is no such snapshot any more
//! chunk   = length:u32 crc32c:u32 bytes
//! ```
//! The file holds its own checksums, too. A connection that breaks costs what was under way: the next one asks for the rest.

use super::greeter::{Greeter, Place, Timed};
use super::hello::Purpose;
use super::stream::Stream;
use crate::apply::State;
use crate::host::disk::{sync_paced, DataDir, Disk, Pace, SnapshotFile, SyncWrite};
use crate::host::recover::{load_snapshot, with_members};
use crate::ids::{LogIndex, ServerId, Zxid};
use crate::membership::PeerAddress;
use crate::tree::PathHasher;
use crossbeam::channel::{unbounded, Receiver, Sender};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

const CHUNK_BYTES: usize = 256 << 10;
/// Between two of them, so that whoever serves clients on the same CPU waits for one and no more. Some 500 MB a second are
/// left.
const CHUNK_REST: Duration = Duration::from_micros(300);
/// A chunk takes no longer, however long the whole takes.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// Connections that brought nothing, one after the other, before it is given up.
const VAIN_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// After a second fetch of a snapshot that failed the leader hears of it no sooner: twice as long each time.
const AGAIN_MS: u64 = 1_000;
const AGAIN_MS_MAX: u64 = 30_000;
/// Snapshots read for others at once.
const SERVED_MAX: usize = 4;

/// A snapshot that was fetched, or could not be.
pub struct Fetched {
    /// Of the fetch.
    number: u64,
    pub index: LogIndex,
    pub state: Option<Box<State>>,
    /// Its file and the name that it gets when the log has announced it.
    names: Option<(PartFile, PathBuf)>,
}

/// A fetch's own file. It is removed with this, unless it was given its name; after a crash by the next start, as all that
/// ends in `.tmp`.
pub struct PartFile {
    path: PathBuf,
    is_published: bool,
}

impl PartFile {
    /// Two fetches of one snapshot may be under way for a moment: the one that was given up must not write into the other's.
    fn new(dir: &DataDir, index: LogIndex, number: u64) -> PartFile {
        let path = dir.snapshot_path().join(format!("{:016x}-{number}.part.tmp", index.0));
        PartFile { path, is_published: false }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A fetched snapshot without a name.
struct Unpublished {
    index: LogIndex,
    /// Where its state lies, which tells it from any other that is here: two may be of one index.
    state: usize,
    part: PartFile,
    path: PathBuf,
}

fn address(state: &State) -> usize {
    std::ptr::from_ref(state).addr()
}

/// Fetches and serves.
pub struct Transfer {
    dir: Arc<DataDir>,
    hasher: PathHasher,
    /// The fetch of this number is the one that is wanted.
    wanted: Arc<AtomicU64>,
    tell: Sender<Fetched>,
    fetched: Receiver<Fetched>,
    /// What was fetched last: its file is not published yet.
    unpublished: Option<Unpublished>,
    /// The fetch that is wanted has no thread: when that is told.
    unstarted: Option<(LogIndex, Instant)>,
    serving: Arc<AtomicUsize>,
    failures: Arc<Mutex<Failures>>,
}

impl Transfer {
    pub fn new(dir: Arc<DataDir>, hasher: PathHasher) -> Transfer {
        let (tell, fetched) = unbounded();
        Transfer {
            dir,
            hasher,
            wanted: Arc::default(),
            tell,
            fetched,
            unpublished: None,
            unstarted: None,
            serving: Arc::default(),
            failures: Arc::default(),
        }
    }

    pub(super) fn dir(&self) -> &Arc<DataDir> {
        &self.dir
    }

    /// Begins to fetch; a fetch under way is given up for it. `said`: where that server says that it listens, for one whose
    /// configuration does not know it.
    pub fn fetch(&mut self, greeter: &Arc<Greeter>, from: ServerId, index: LogIndex, said: Vec<PeerAddress>) {
        self.unstarted = None;
        let number = self.wanted.fetch_add(1, Ordering::Relaxed) + 1;
        let fetch = Fetch {
            place: (from, places(said, greeter.place(from).map_or(Vec::new(), |(_, known)| known))),
            index,
            dir: self.dir.clone(),
            hasher: self.hasher.clone(),
            number,
            wanted: self.wanted.clone(),
            greeter: greeter.clone(),
        };
        let tell = self.tell.clone();
        let links = greeter.links.clone();
        let failures = self.failures.clone();
        let spawned = std::thread::Builder::new().name("snapshot-fetch".into()).spawn(move || {
            crate::host::pin::step_back();
            let (state, names) =
                fetch.run().map_or((None, None), |(state, names)| (Some(state), Some(names)));
            if state.is_none() {
                // The leader offers it anew as soon as it hears of this.
                fetch.pause(failures.lock().unwrap_or_else(PoisonError::into_inner).pause_after(index));
            }
            if fetch.is_wanted() && tell.send(Fetched { number, index, state, names }).is_ok() {
                links.sequencer.ring_anyway();
            }
        });
        if let Err(error) = spawned {
            self.not_started(index, &error);
        }
    }

    /// The leader hears of it as of any fetch that failed, and later each time.
    fn not_started(&mut self, index: LogIndex, error: &io::Error) {
        warn!(index = index.0, "no thread could be started that fetches a snapshot: {error}");
        let pause = self.failures.lock().unwrap_or_else(PoisonError::into_inner).pause_after(index);
        self.unstarted = Some((index, Instant::now() + pause));
    }

    /// What was fetched since the last call.
    pub fn next_fetched(&mut self) -> Option<(LogIndex, Option<Box<State>>)> {
        if let Some((index, _)) = self.unstarted.take_if(|(_, at)| Instant::now() >= *at) {
            return Some((index, None));
        }
        // One that was given up just when it was done would take the place of one that is about to be published.
        let wanted = self.wanted.load(Ordering::Relaxed);
        let Fetched { index, state, names, .. } = self.fetched.try_iter().find(|one| one.number == wanted)?;
        // One that has failed says nothing against what came before it.
        if let Some((part, path)) = names {
            let state = state.as_deref().map_or(0, address);
            self.unpublished = Some(Unpublished { index, state, part, path });
        }
        Some((index, state))
    }

    /// Gives the fetched snapshot its name. Durable when it returns.
    pub fn publish(&mut self, index: LogIndex) -> io::Result<()> {
        let fetched = self.unpublished.take().filter(|fetched| fetched.index == index);
        let Unpublished { mut part, path, .. } =
            fetched.ok_or_else(|| io::Error::other("it was not fetched"))?;
        let disk = self.dir.disk();
        disk.rename(&part.path, &path)?;
        part.is_published = true;
        disk.sync_dir(&self.dir.snapshot_path())
    }

    /// Nobody needs this fetched state: its file goes with it, and not with the next fetch, which may be never. It is dropped by the
    /// caller: a large one takes its time.
    pub fn discard(&mut self, state: &State) -> Option<PartFile> {
        self.unpublished.take_if(|one| one.state == address(state)).map(|one| one.part)
    }

    /// Another server fetches one of this server's; those that are sent whole are counted.
    pub fn serve(&self, stream: Stream, sent: &Arc<AtomicU64>) {
        let serving = self.serving.clone();
        if serving.fetch_add(1, Ordering::Relaxed) >= SERVED_MAX {
            serving.fetch_sub(1, Ordering::Relaxed);
            warn!("{SERVED_MAX} servers fetch snapshots of this one already: another one has to wait");
            return;
        }
        let (dir, sent) = (self.dir.clone(), sent.clone());
        let spawned = std::thread::Builder::new().name("snapshot-send".into()).spawn(move || {
            crate::host::pin::step_back();
            match send(&dir, stream) {
                Ok(is_whole) => drop(sent.fetch_add(is_whole.into(), Ordering::Relaxed)),
                Err(error) => info!("a snapshot for another server was not sent whole: {error}"),
            }
            serving.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            self.serving.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether there was one to be sent.
fn send(dir: &DataDir, stream: Stream) -> io::Result<bool> {
    stream.socket().set_nonblocking(false)?;
    let mut stream = Timed::with(stream, CHUNK_WITHIN)?;
    let mut request = [0; 16];
    stream.read_exact(&mut request)?;
    let (index, offset) = request.split_at(8);
    let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let (index, offset) = (LogIndex(word(index)), word(offset));
    let found = dir.snapshots()?.into_iter().find(|file| file.index == index);
    let Some(found) = found else {
        return stream.write_all(&0u64.to_be_bytes()).map(|()| false);
    };
    let mut file = File::open(&found.path)?;
    let total = file.metadata()?.len();
    file.seek(SeekFrom::Start(offset.min(total)))?;
    stream.write_all(&total.to_be_bytes())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(true);
        }
        stream.again(CHUNK_WITHIN);
        let length = u32::try_from(n).expect("a chunk is small");
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&crc32c::crc32c(&chunk[..n]).to_be_bytes())?;
        stream.write_all(&chunk[..n])?;
        std::thread::sleep(CHUNK_REST);
    }
}

/// Fetches of one snapshot that have failed, one after the other.
#[derive(Default)]
struct Failures {
    index: LogIndex,
    count: u32,
}

impl Failures {
    /// Another one has: how long it is kept from the leader, which offers the same one again. Another one says nothing of
    /// this one.
    fn pause_after(&mut self, index: LogIndex) -> Duration {
        if index != self.index {
            *self = Failures { index, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        let doubled = |again: u32| AGAIN_MS.saturating_mul(1 << again.min(10)).min(AGAIN_MS_MAX);
        Duration::from_millis(self.count.checked_sub(2).map_or(0, doubled))
    }
}

struct Fetch {
    place: Place,
    index: LogIndex,
    dir: Arc<DataDir>,
    hasher: PathHasher,
    number: u64,
    wanted: Arc<AtomicU64>,
    greeter: Arc<Greeter>,
}

impl Fetch {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == self.number
    }

    /// Waits, unless another one is wanted.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while self.is_wanted() && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
    }

    fn run(&self) -> Option<(Box<State>, (PartFile, PathBuf))> {
        let started = Instant::now();
        let server = self.place.0 .0;
        let part = PartFile::new(&self.dir, self.index, self.number);
        info!(
            server,
            index = self.index.0,
            "the log of the leader does not reach back to this server's: fetching a snapshot"
        );
        let taken = match self.place.1.is_empty() {
            true => Err(format!(
                "nobody says where it listens: does the configuration lack a line server.{server}?"
            )),
            false => self.take_all(&part.path),
        };
        match taken.and_then(|(file, bytes)| Ok((bytes, self.keep_and_read(file, &part.path)?))) {
            Ok((bytes, state)) => {
                let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                info!(server, index = self.index.0, bytes, nodes = state.table.len(), ms, "snapshot fetched");
                let path = self.dir.snapshot_name(self.index, state.last_zxid());
                Some((Box::new(state), (part, path)))
            }
            Err(why) => {
                warn!(server, index = self.index.0, "no snapshot from this server: {why}");
                None
            }
        }
    }

    /// Fetches the file, over as many connections as it takes while each brings something.
    fn take_all(&self, part: &Path) -> Result<(Box<dyn SyncWrite>, u64), String> {
        let mut file =
            self.dir.disk().create(part).map_err(|error| format!("{}: {error}", part.display()))?;
        let (mut have, mut vain) = (0, 0);
        while self.is_wanted() {
            let before = have;
            match self.take_some(&mut *file, &mut have) {
                Ok(()) => return Ok((file, have)),
                Err(Stop::World(why)) => return Err(why),
                Err(Stop::Wire(why)) => {
                    vain = if have > before { 0 } else { vain + 1 };
                    if vain >= VAIN_MAX {
                        return Err(why);
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Err("another one is wanted now".to_owned())
    }

    fn take_some(&self, file: &mut dyn SyncWrite, have: &mut u64) -> Result<(), Stop> {
        let wire = |error: io::Error| Stop::Wire(error.to_string());
        let arrival = self.greeter.dial(&self.place, Purpose::Snapshot).map_err(Stop::Wire)?;
        let stream = arrival.ok_or_else(|| Stop::Wire("it is not ready".to_owned()))?.stream;
        stream.socket().set_nonblocking(false).map_err(wire)?;
        let mut stream = Timed::with(stream, CHUNK_WITHIN).map_err(wire)?;
        stream.write_all(&self.index.0.to_be_bytes()).map_err(wire)?;
        stream.write_all(&have.to_be_bytes()).map_err(wire)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total).map_err(wire)?;
        let total = u64::from_be_bytes(total);
        if total == 0 {
            return Err(Stop::World("it has a newer one by now".to_owned()));
        }
        let disk = self.dir.disk();
        let room = disk.available(&self.dir.snapshot_path()).unwrap_or(u64::MAX);
        if total.saturating_sub(*have) > room {
            return Err(Stop::World(format!("it has {total} bytes, and this disk has room for {room}")));
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        while *have < total {
            stream.again(CHUNK_WITHIN);
            let mut head = [0; 8];
            stream.read_exact(&mut head).map_err(wire)?;
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let check = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            if length == 0 || length > CHUNK_BYTES {
                return Err(Stop::Wire(format!("a chunk of {length} bytes")));
            }
            let bytes = &mut chunk[..length];
            stream.read_exact(bytes).map_err(wire)?;
            if crc32c::crc32c(bytes) != check {
                return Err(Stop::Wire("a chunk whose checksum does not fit".to_owned()));
            }
            // Asked behind the wait: it may have been a long one.
            if !self.is_wanted() {
                return Err(Stop::World("another one is wanted now".to_owned()));
            }
            file.write_all(bytes).map_err(|error| Stop::World(format!("writing it: {error}")))?;
            *have += length as u64;
        }
        Ok(())
    }

    /// Reads the state while the file goes to the disk: no faster than the others' logs on the same disk can bear, and the
    /// rest of it when the state is there.
    fn keep_and_read(&self, mut file: Box<dyn SyncWrite>, part: &Path) -> Result<State, String> {
        let is_read = OnceLock::new();
        let pace = || match is_read.get() {
            None if self.is_wanted() => Pace::Rests,
            Some(true) => Pace::Hurries,
            _ => Pace::Ends,
        };
        std::thread::scope(|scope| {
            let keeping = std::thread::Builder::new().name("snapshot-keep".into());
            let kept = keeping.spawn_scoped(scope, || sync_paced(&mut *file, &pace));
            let kept = kept.map_err(|error| format!("starting a thread: {error}"))?;
            let state = self.read(part);
            is_read.get_or_init(|| state.is_ok());
            let kept = kept.join().expect("a panic ends the process");
            let state = state?;
            kept.map(|()| state).map_err(|error| format!("{}: {error}", part.display()))
        })
    }

    /// Reads the whole state, every checksum of it.
    fn read(&self, part: &Path) -> Result<State, String> {
        let bytes = fs::metadata(part).map_err(|error| error.to_string())?.len();
        let file = SnapshotFile { index: self.index, zxid: Zxid::ZERO, path: part.to_path_buf(), bytes };
        let loaded = load_snapshot(&self.dir.disk(), &file, self.dir.cluster_id(), &self.hasher)?;
        Ok(with_members(loaded.state, self.dir.formed_of()))
    }
}

/// Where a server is looked for: first where it says itself that it listens. What this one knows may be of before a move.
fn places(mut said: Vec<PeerAddress>, known: Vec<PeerAddress>) -> Vec<PeerAddress> {
    for address in known {
        if !said.contains(&address) {
            said.push(address);
        }
    }
    said
}

/// Why a connection brought no more.
enum Stop {
    /// Another one may.
    Wire(String),
    /// No other one will.
    World(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::DirOptions;

    const INDEX: LogIndex = LogIndex(9);

    /// A leader that had moved was looked for where it had been, for ever.
    #[test]
    fn a_server_is_looked_for_first_where_it_says_that_it_listens() {
        let at = |host: &str| PeerAddress { host: host.to_owned(), quorum_port: 1, election_port: 2 };
        assert_eq!(places(vec![at("new")], vec![at("old"), at("new")]), [at("new"), at("old")]);
        assert_eq!(places(Vec::new(), vec![at("old")]), [at("old")]);
    }

    /// A snapshot that could not be read was fetched anew every 75 ms, whole (a review).
    #[test]
    fn who_fetched_in_vain_waits_longer_each_time() {
        let mut failures = Failures::default();
        let pauses = [7; 9].map(|index| failures.pause_after(LogIndex(index)).as_secs());
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        failures.count = u32::MAX - 1;
        let pauses = [7, 8, 8].map(|index| failures.pause_after(LogIndex(index)).as_secs());
        assert_eq!(pauses, [30, 0, 1]);
    }

    fn open(at: &Path) -> Arc<DataDir> {
        let options = DirOptions { path: at.to_owned(), log_path: None, server: ServerId(1) };
        Arc::new(DataDir::open(&options).unwrap())
    }

    fn files(dir: &DataDir) -> Vec<String> {
        let found = fs::read_dir(dir.snapshot_path()).unwrap();
        let mut names: Vec<String> =
            found.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// As a fetch of this number tells of what it has.
    fn tell(transfer: &Transfer, number: u64) {
        transfer.wanted.store(number, Ordering::Relaxed);
        let part = PartFile::new(&transfer.dir, INDEX, number);
        fs::write(&part.path, number.to_string()).unwrap();
        let state = Some(Box::new(State::new(transfer.hasher.clone())));
        let names = Some((part, transfer.dir.snapshot_name(INDEX, Zxid(7))));
        assert!(transfer.tell.send(Fetched { number, index: INDEX, state, names }).is_ok());
    }

    #[test]
    fn a_fetch_that_gets_no_thread_has_failed_and_is_told_of_later_each_time() {
        let home = tempfile::tempdir().unwrap();
        let mut transfer = Transfer::new(open(home.path()), PathHasher::new([1, 2, 3, 4]));
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        transfer.not_started(INDEX, &error);
        assert!(transfer.next_fetched().is_some_and(|(index, state)| index == INDEX && state.is_none()));
        assert!(transfer.next_fetched().is_none(), "once");
        let before = Instant::now();
        transfer.not_started(INDEX, &error);
        let (_, at) = transfer.unstarted.expect("it is told later");
        assert!(at >= before + Duration::from_millis(AGAIN_MS));
    }

    #[test]
    fn a_fetched_file_that_gets_no_name_goes_away() {
        let home = tempfile::tempdir().unwrap();
        let dir = open(home.path());
        let mut transfer = Transfer::new(dir.clone(), PathHasher::new([1, 2, 3, 4]));
        // Two of one snapshot: each has a file of its own, and the later one counts, also where the earlier one was given up
        // after it was told of.
        tell(&transfer, 1);
        tell(&transfer, 2);
        assert_eq!(files(&dir).len(), 2);
        assert!(transfer.next_fetched().is_some() && transfer.next_fetched().is_none());
        assert_eq!(files(&dir).len(), 1);
        // One that failed takes nothing away.
        assert!(transfer.tell.send(Fetched { number: 2, index: INDEX, state: None, names: None }).is_ok());
        assert!(transfer.next_fetched().is_some_and(|(_, state)| state.is_none()));
        transfer.publish(INDEX).unwrap();
        let [published] = &files(&dir)[..] else { panic!("one file") };
        assert!(published.ends_with(".snap"));
        assert_eq!(fs::read(dir.snapshot_path().join(published)).unwrap(), b"2");
        // Neither taken nor published; taken, and of another index than the one that is to be published.
        tell(&transfer, 3);
        assert!(transfer.next_fetched().is_some());
        assert!(transfer.publish(LogIndex(8)).is_err());
        // Taken, and not needed: neither the one in front of it, which is of the same index, nor one from elsewhere takes its file.
        let take = |transfer: &mut Transfer, number| {
            tell(transfer, number);
            transfer.next_fetched().and_then(|(_, state)| state).unwrap()
        };
        let (one, other) = (take(&mut transfer, 4), take(&mut transfer, 5));
        let foreign = State::new(transfer.hasher.clone());
        assert!(transfer.discard(&one).is_none() && transfer.discard(&foreign).is_none());
        assert_eq!(files(&dir).len(), 2);
        drop(transfer.discard(&other));
        assert_eq!(files(&dir), [published.as_str()]);
        tell(&transfer, 6);
        assert_eq!(files(&dir).len(), 2);
        drop(transfer);
        assert_eq!(files(&dir), [published.as_str()]);
    }

    #[test]
    fn a_crash_leaves_no_part_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let dir = open(home.path());
        fs::write(&PartFile::new(&dir, INDEX, 1).path, "half").unwrap();
        let left = PartFile::new(&dir, INDEX, 2);
        fs::write(&left.path, "half").unwrap();
        std::mem::forget(left);
        assert_eq!(files(&dir).len(), 1);
        assert!(dir.snapshots().unwrap().is_empty(), "it is no snapshot");
        drop(dir);
        assert_eq!(files(&open(home.path())), [""; 0]);
    }
}
