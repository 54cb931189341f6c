//! A disk in memory that remembers every write, sync, rename and removal in order, so that the power can
//! be cut after any of them: what was synced is there, of the rest a random part.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringkeeper::host::disk::{
    AlignedBuf, Backend, Completion, Disk, DiskFault, FileBytes, Item, LogFile, SyncWrite,
};

#[path = "../dice/mod.rs"]
mod dice;
pub use dice::Dice;

type Inode = usize;

#[derive(Clone)]
enum Event {
    Write {
        inode: Inode,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// The write of that event is durable.
    Durable {
        write: usize,
    },
    Truncate {
        inode: Inode,
        len: u64,
    },
    SyncFile {
        inode: Inode,
    },
    Link {
        path: PathBuf,
        inode: Inode,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: Inode,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
    /// The test's own remark.
    Mark(u64),
}

#[derive(Default)]
struct State {
    /// What the running system sees.
    names: BTreeMap<PathBuf, Inode>,
    files: Vec<Vec<u8>>,
    events: Vec<Event>,
    /// So many events only put an image's files in place.
    setup: usize,
    /// A full disk: no bytes beyond this many may be allocated.
    limit: Option<u64>,
    /// Mappings show other bytes than the disk holds.
    map_lies: bool,
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn used(&self) -> u64 {
        self.names.values().map(|i| self.files[*i].len() as u64).sum()
    }

    fn create(&mut self, path: &Path) -> Inode {
        let inode = self.files.len();
        self.files.push(Vec::new());
        self.names.insert(path.to_owned(), inode);
        self.events.push(Event::Link { path: path.to_owned(), inode });
        inode
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let end = offset + bytes.len() as u64;
        let grows = end.saturating_sub(self.files[inode].len() as u64);
        if self.limit.is_some_and(|limit| grows > 0 && self.used() + grows > limit) {
            return Err(io::Error::from_raw_os_error(28));
        }
        put(&mut self.files[inode], offset, bytes);
        self.events.push(Event::Write { inode, offset, bytes: bytes.into() });
        Ok(self.events.len() - 1)
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (at, end) = (offset as usize, offset as usize + bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct PowerDisk(Arc<Mutex<State>>);

impl PowerDisk {
    pub fn events(&self) -> usize {
        self.0.lock().unwrap().events.len()
    }

    pub fn mark(&self, remark: u64) {
        self.0.lock().unwrap().events.push(Event::Mark(remark));
    }

    /// The remarks made before the power went.
    pub fn marks(&self, cut: usize) -> Vec<u64> {
        let state = self.0.lock().unwrap();
        let marks = state.events[..cut].iter();
        marks.filter_map(|e| if let Event::Mark(m) = e { Some(*m) } else { None }).collect()
    }

    pub fn set_map_lies(&self, lies: bool) {
        self.0.lock().unwrap().map_lies = lies;
    }

    pub fn set_limit(&self, limit: Option<u64>) {
        self.0.lock().unwrap().limit = limit;
    }

    pub fn used(&self) -> u64 {
        self.0.lock().unwrap().used()
    }

    /// Every file, for byte flips.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.0.lock().unwrap();
        state.names.iter().map(|(p, i)| (p.clone(), state.files[*i].len() as u64)).collect()
    }

    /// A copy as of now, with everything durable.
    pub fn copy(&self) -> PowerDisk {
        let state = self.0.lock().unwrap();
        PowerDisk::of(state.names.iter().map(|(p, i)| (p.clone(), state.files[*i].clone())).collect())
    }

    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.0.lock().unwrap();
        let inode = state.inode(path).unwrap();
        state.files[inode][offset as usize] ^= mask;
    }

    fn of(files: BTreeMap<PathBuf, Vec<u8>>) -> PowerDisk {
        let mut state = State::default();
        for (path, bytes) in files {
            let inode = state.files.len();
            state.files.push(bytes.clone());
            state.names.insert(path.clone(), inode);
            // The new life begins with all of this durable.
            state.events.push(Event::Link { path: path.clone(), inode });
            state.events.push(Event::Write { inode, offset: 0, bytes: bytes.into() });
            state.events.push(Event::SyncFile { inode });
            let dir = path.parent().unwrap().to_owned();
            state.events.push(Event::SyncDir { dir });
        }
        state.setup = state.events.len();
        PowerDisk(Arc::new(Mutex::new(state)))
    }

    /// The events at the beginning that only put an image's files in place.
    pub fn setup(&self) -> usize {
        self.0.lock().unwrap().setup
    }

    /// What is on the disk when the power goes after `cut` events.
    pub fn image(&self, cut: usize, dice: &mut Dice) -> PowerDisk {
        let state = self.0.lock().unwrap();
        let events = &state.events[..cut];
        let durable = durable_events(events);
        // Names may come back in order (a journal) or each on its own (what POSIX allows).
        let journal = !dice.one_in(3);
        let mut journal_stopped = false;
        let mut names: BTreeMap<PathBuf, Inode> = BTreeMap::new();
        let mut files: BTreeMap<Inode, Vec<u8>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            let mut kept = durable[at];
            if !kept && !matches!(event, Event::Write { .. } | Event::Mark(_)) {
                journal_stopped |= dice.one_in(2);
                kept = if journal { !journal_stopped } else { dice.one_in(2) };
            }
            match event {
                Event::Write { inode, offset, bytes } => {
                    let file = files.entry(*inode).or_default();
                    if durable[at] {
                        put(file, *offset, bytes);
                    } else {
                        put_part(file, *offset, bytes, dice);
                    }
                }
                Event::Truncate { inode, len } if kept => {
                    files.entry(*inode).or_default().truncate(*len as usize);
                }
                Event::Link { path, inode } => {
                    files.entry(*inode).or_default();
                    if kept {
                        names.insert(path.clone(), *inode);
                    }
                }
                Event::Rename { from, to, inode } if kept => {
                    if names.get(from) == Some(inode) {
                        names.remove(from);
                    }
                    names.insert(to.clone(), *inode);
                }
                Event::Remove { path } if kept => {
                    names.remove(path);
                }
                _ => {}
            }
        }
        PowerDisk::of(names.into_iter().map(|(p, i)| (p, files.remove(&i).unwrap_or_default())).collect())
    }
}

/// Which events a sync covers.
fn durable_events(events: &[Event]) -> Vec<bool> {
    let mut durable = vec![false; events.len()];
    for (at, event) in events.iter().enumerate() {
        let before = || 0..at;
        match event {
            Event::Durable { write } => durable[*write] = true,
            Event::SyncFile { inode: synced } => before().for_each(|i| match &events[i] {
                Event::Write { inode, .. } | Event::Truncate { inode, .. } if inode == synced => {
                    durable[i] = true;
                }
                _ => {}
            }),
            Event::SyncDir { dir } => before().for_each(|i| match &events[i] {
                Event::Link { path, .. } | Event::Rename { to: path, .. } | Event::Remove { path }
                    if path.parent() == Some(dir) =>
                {
                    durable[i] = true;
                }
                _ => {}
            }),
            _ => {}
        }
    }
    durable
}

/// A part of a write, by sectors of 512 bytes or pages of 4096: nothing, all, a head, or any of them.
fn put_part(file: &mut Vec<u8>, offset: u64, bytes: &[u8], dice: &mut Dice) {
    let unit = if dice.one_in(2) { 512 } else { 4096 };
    let pieces = bytes.len().div_ceil(unit) as u64;
    let style = dice.below(4);
    let head = dice.below(pieces + 1);
    for (i, piece) in bytes.chunks(unit).enumerate() {
        let there = match style {
            0 => false,
            1 => true,
            2 => (i as u64) < head,
            _ => dice.one_in(2),
        };
        if there {
            put(file, offset + (i * unit) as u64, piece);
        }
    }
}

impl Disk for PowerDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let state = self.0.lock().unwrap();
        let here = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(here
            .map(|(path, inode)| Item {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                len: state.files[*inode].len() as u64,
            })
            .collect())
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        let file = &state.files[state.inode(path)?];
        let from = (offset as usize).min(file.len());
        Ok(file[from..file.len().min(from + len)].to_vec())
    }

    fn map(&self, path: &Path) -> io::Result<FileBytes> {
        let mut bytes = self.read_at(path, 0, usize::MAX >> 1)?;
        if self.0.lock().unwrap().map_lies {
            // A page of the cache that is not what the disk holds.
            bytes.iter_mut().skip(4096 + 60).step_by(4096).for_each(|b| *b ^= 1);
        }
        Ok(FileBytes::Read(AlignedBuf::copy_of(&bytes)))
    }

    fn read_direct(&self, path: &Path) -> io::Result<FileBytes> {
        Ok(FileBytes::Read(AlignedBuf::copy_of(&self.read_at(path, 0, usize::MAX >> 1)?)))
    }

    fn create_zeroed(&self, path: &Path, len: u64, _rest: &dyn Fn(Duration)) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let inode = state.create(path);
        state.write(inode, 0, &vec![0; len as usize])?;
        state.events.push(Event::SyncFile { inode });
        Ok(())
    }

    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        self.create_zeroed(path, len, &|_| ())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SyncWrite>> {
        let inode = self.0.lock().unwrap().create(path);
        Ok(Box::new(PowerFile { disk: self.clone(), inode, at: 0 }))
    }

    fn open_log(&self, path: &Path) -> io::Result<LogFile> {
        self.0.lock().unwrap().inode(path)?;
        Ok(LogFile { path: path.to_owned(), file: None, direct: false })
    }

    fn write_durable(&self, file: &LogFile, offset: u64, bytes: &AlignedBuf) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let inode = state.inode(&file.path)?;
        let write = state.write(inode, offset, bytes)?;
        state.events.push(Event::Durable { write });
        Ok(bytes.len())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let inode = state.inode(path)?;
        state.events.push(Event::SyncFile { inode });
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let inode = state.inode(path)?;
        state.files[inode].truncate(len as usize);
        state.events.push(Event::Truncate { inode, len });
        state.events.push(Event::SyncFile { inode });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        state.events.push(Event::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.inode(path)?;
        state.names.remove(path);
        state.events.push(Event::Remove { path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().unwrap().events.push(Event::SyncDir { dir: dir.to_owned() });
        Ok(())
    }

    fn available(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.0.lock().unwrap();
        Ok(state.limit.map_or(1 << 40, |limit| limit.saturating_sub(state.used())))
    }
}

struct PowerFile {
    disk: PowerDisk,
    inode: Inode,
    at: u64,
}

impl Write for PowerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.0.lock().unwrap().write(self.inode, self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for PowerFile {
    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        self.disk.0.lock().unwrap().events.push(Event::SyncFile { inode });
        Ok(())
    }
}

/// What the driver does to writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They become durable, in any order.
    Succeed,
    /// The next one fails with EIO.
    Fail,
    /// The next one writes half.
    Short,
}

/// A driver whose writes end in an order that the dice choose.
pub struct PowerBackend {
    pub disk: PowerDisk,
    pub dice: Dice,
    pub writes: Writes,
    pending: Vec<(u64, AlignedBuf, usize)>,
}

impl PowerBackend {
    pub fn new(disk: &PowerDisk, seed: u64) -> PowerBackend {
        PowerBackend { disk: disk.clone(), dice: Dice(seed), writes: Writes::Succeed, pending: Vec::new() }
    }
}

impl Backend for PowerBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn start(
        &mut self,
        ticket: u64,
        file: &Arc<LogFile>,
        offset: u64,
        buffer: AlignedBuf,
    ) -> Result<(), DiskFault> {
        let mut state = self.disk.0.lock().unwrap();
        let inode = state.inode(&file.path).unwrap();
        let write = state.write(inode, offset, &buffer).expect("segments are allocated ahead");
        self.pending.push((ticket, buffer, write));
        Ok(())
    }

    fn wait(
        &mut self,
        timeout: Duration,
        _wake: Option<BorrowedFd<'_>>,
        done: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let least = u64::from(!timeout.is_zero());
        let count = (least + self.dice.below(3)).min(self.pending.len() as u64);
        for _ in 0..count {
            let pick = self.dice.below(self.pending.len() as u64) as usize;
            let (ticket, buffer, write) = self.pending.remove(pick);
            let result = match self.writes {
                Writes::Succeed => Ok(buffer.len()),
                Writes::Fail => Err(io::Error::from_raw_os_error(5)),
                Writes::Short => Ok(buffer.len() / 2),
            };
            if self.writes == Writes::Succeed {
                self.disk.0.lock().unwrap().events.push(Event::Durable { write });
            }
            done.push(Completion { ticket, buffer, result });
        }
        Ok(false)
    }
}
