//! A server's files in memory, as the production's log and snapshots use a file system, and the driver that writes the
//! log's records: each becomes durable when the simulated disk says so, in part when the process dies, or not at all.

use crate::dice::Dice;
use ringkeeper::host::disk::{
    AlignedBuf, Backend, Completion, Disk, DiskFault, FileBytes, Item, LogFile, SyncWrite,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;
const EIO: i32 = 5;

/// Clones are the same disk.
#[derive(Clone)]
pub struct Files(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Records that the log has handed over, in order.
    pending: Vec<Pending>,
    /// Those up to this one have arrived.
    arrived: u64,
    /// The next write of the log fails.
    is_failing: bool,
    dice: Dice,
}

struct Pending {
    ticket: u64,
    path: PathBuf,
    offset: u64,
    buffer: AlignedBuf,
}

/// What is left of a write that nobody waited for to its end.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Head(usize),
    /// Any of its sectors but the first, by the bits.
    Some(u64),
    Whole,
}

impl Part {
    /// Whether a record would be there: zeros follow it to the end of its last block.
    fn is_all_of(self, record: &[u8]) -> bool {
        let used = record.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match self {
            Part::Nothing | Part::Some(_) => false,
            Part::Head(sectors) => sectors * SECTOR >= used,
            Part::Whole => true,
        }
    }
}

impl Files {
    pub fn new(dice: Dice) -> Files {
        let (files, pending) = (BTreeMap::new(), Vec::new());
        Files(Arc::new(Mutex::new(State { files, pending, arrived: 0, is_failing: false, dice })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one thread has it")
    }

    /// The log's records up to this one have arrived: it is told when it looks.
    pub fn arrive(&self, upto: u64) {
        self.state().arrived = upto;
    }

    /// The next write of the log fails.
    pub fn fail(&self) {
        self.state().is_failing = true;
    }

    /// The process is dead. What was under way arrives in part, in any order, if `is_torn`, but the first of it is never
    /// whole: how many arrived was said before.
    pub fn crash(&self, is_torn: bool) {
        let mut state = self.state();
        state.is_failing = false;
        let pending = std::mem::take(&mut state.pending);
        for (nth, write) in pending.iter().enumerate().filter(|_| is_torn) {
            let part = state.part();
            let part = if nth == 0 && part.is_all_of(&write.buffer) { Part::Nothing } else { part };
            state.put_part(write, part);
        }
    }

    /// A file appears whole.
    pub fn publish(&self, path: &Path, bytes: &[u8]) {
        self.state().files.insert(path.to_owned(), bytes.to_vec());
    }

    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.state().files.clone()
    }

    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().files.get(path).cloned()
    }

    fn with<T>(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.state().files.get_mut(path).map(change).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn buffer(&self, path: &Path) -> io::Result<FileBytes> {
        self.with(path, |bytes| FileBytes::Read(AlignedBuf::copy_of(bytes)))
    }
}

impl State {
    fn part(&mut self) -> Part {
        match self.dice.below(4) {
            0 => Part::Nothing,
            1 => Part::Whole,
            2 => Part::Head(self.dice.pick(9)),
            _ => Part::Some(self.dice.roll()),
        }
    }

    fn put_part(&mut self, write: &Pending, part: Part) {
        let Some(file) = self.files.get_mut(&write.path) else { return };
        for (n, sector) in write.buffer.chunks(SECTOR).enumerate() {
            let is_there = match part {
                Part::Nothing => false,
                Part::Head(sectors) => n < sectors,
                Part::Some(bits) => n > 0 && bits >> (n % 64) & 1 == 1,
                Part::Whole => true,
            };
            if is_there {
                let at = write.offset as usize + n * SECTOR;
                file[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }

    /// One write: what the log is told of it.
    fn carry_out(&mut self, write: &Pending) -> io::Result<usize> {
        if std::mem::take(&mut self.is_failing) {
            let part = self.part();
            self.put_part(write, part);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.put_part(write, Part::Whole);
        Ok(write.buffer.len())
    }
}

/// Hands the log's records to the disk.
pub struct Driver(pub Files);

impl Backend for Driver {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn start(
        &mut self,
        ticket: u64,
        file: &Arc<LogFile>,
        offset: u64,
        buffer: AlignedBuf,
    ) -> Result<(), DiskFault> {
        self.0.state().pending.push(Pending { ticket, path: file.path.clone(), offset, buffer });
        Ok(())
    }

    /// Whoever waits, waits until all has arrived.
    fn wait(
        &mut self,
        timeout: Duration,
        _wake: Option<BorrowedFd<'_>>,
        done: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let mut state = self.0.state();
        let arrived = if timeout.is_zero() { state.arrived } else { u64::MAX };
        let count = state.pending.iter().take_while(|write| write.ticket <= arrived).count();
        let some: Vec<Pending> = state.pending.drain(..count).collect();
        for write in some {
            let result = state.carry_out(&write);
            done.push(Completion { ticket: write.ticket, buffer: write.buffer, result });
        }
        Ok(false)
    }
}

impl Disk for Files {
    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let state = self.state();
        let here = state.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        Ok(here
            .filter_map(|(path, bytes)| Some(Item { name: name(path)?, len: bytes.len() as u64 }))
            .collect())
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.with(path, |bytes| {
            let from = (offset as usize).min(bytes.len());
            bytes[from..bytes.len().min(from.saturating_add(len))].to_vec()
        })
    }

    fn map(&self, path: &Path) -> io::Result<FileBytes> {
        self.buffer(path)
    }

    fn read_direct(&self, path: &Path) -> io::Result<FileBytes> {
        self.buffer(path)
    }

    fn create_zeroed(&self, path: &Path, len: u64, _rest: &dyn Fn(Duration)) -> io::Result<()> {
        self.state().files.insert(path.to_owned(), vec![0; len as usize]);
        Ok(())
    }

    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        self.create_zeroed(path, len, &|_| ())
    }

    /// Only snapshots are made so, and `publish` puts them here whole.
    fn create(&self, _path: &Path) -> io::Result<Box<dyn SyncWrite>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn open_log(&self, path: &Path) -> io::Result<LogFile> {
        self.with(path, |_| LogFile { path: path.to_owned(), file: None, direct: false })
    }

    fn write_durable(&self, file: &LogFile, offset: u64, bytes: &AlignedBuf) -> io::Result<usize> {
        let buffer = AlignedBuf::copy_of(bytes);
        self.state().carry_out(&Pending { ticket: 0, path: file.path.clone(), offset, buffer })
    }

    fn sync(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.with(path, |bytes| {
            bytes.resize(len as usize, 0);
            bytes.shrink_to_fit();
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let bytes = state.files.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        state.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone = self.state().files.remove(path);
        gone.map(drop).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn available(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }
}
