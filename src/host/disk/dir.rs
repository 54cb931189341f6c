//! The data directory: ours alone, locked, and refused with a word of advice when it is not.
//!
//! ```text
//! ringkeeper.id     what this is: format, cluster, server, whether a log was begun
//! ringkeeper.lock   held by the running server
//! log/              <16 hex>.seg, ballast     (below the log directory, if that is another one)
//! snapshot/         <16 hex index>-<16 hex zxid>.snap
//! ```
#![allow(unsafe_code)] // flock

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use super::file::{Disk, RealDisk};
use super::identity::{Identity, MarkerFault};
use super::publish::publish_file;
use crate::ids::{LogIndex, Seat, ServerId, Zxid};

const MARKER: &str = "ringkeeper.id";
const LOCK: &str = "ringkeeper.lock";

/// The most bytes of a marker that are read.
const MARKER_BYTES_MAX: u64 = 16 << 10;

/// What may stand in a directory that we take as new: ZooKeeper's image writes `myid` there, and a
/// freshly made file system has `lost+found`.
const HARMLESS: [&str; 6] = ["lost+found", "myid", "initialize", LOCK, "ringkeeper.id.tmp", "probe.tmp"];

/// Where the data lives.
#[derive(Clone, Debug)]
pub struct DirOptions {
    /// `dataDir`.
    pub path: PathBuf,
    /// `dataLogDir`, if it is another one.
    pub log_path: Option<PathBuf>,
    /// `myid`; 1 when standalone.
    pub server: ServerId,
}

/// A snapshot on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFile {
    /// The last entry that it holds.
    pub index: LogIndex,
    /// The last zxid that it holds.
    pub zxid: Zxid,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Why a data directory is refused.
#[derive(Debug)]
pub enum DirError {
    /// The system refuses: no permission, read-only, not a directory.
    Refused(PathBuf, io::Error),
    /// Another server holds the lock: its process id, if it has noted one.
    Locked(PathBuf, String),
    /// ZooKeeper's data.
    ZooKeeper(PathBuf),
    /// Something else's data.
    Foreign(PathBuf, String),
    /// Ours, but damaged.
    Damaged(PathBuf, String),
    /// Ours, but another server's or of another cluster than its other half.
    Mismatch(PathBuf, String),
    /// Written by a release with another format.
    Format(PathBuf, u32),
    /// Asked to look at a directory that holds no data.
    Empty(PathBuf),
}

impl DirError {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            DirError::Refused(..) | DirError::Locked(..) => 71,
            DirError::Damaged(..) => 74,
            _ => 78,
        }
    }
}

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirError::Refused(path, e) => write!(
                f,
                "data directory {}: {e}: make it a directory that this user may write, or name another one \
                 (--data-dir)",
                path.display()
            ),
            DirError::Locked(path, pid) => write!(
                f,
                "data directory {}: another server (process {pid}) is running on it: stop that one, or name \
                 another directory (--data-dir)",
                path.display()
            ),
            DirError::ZooKeeper(path) => write!(
                f,
                "data directory {}: it holds ZooKeeper's data (version-2), which this server neither reads nor \
                 touches: name an empty directory (--data-dir)",
                path.display()
            ),
            DirError::Foreign(path, name) => write!(
                f,
                "data directory {}: not empty and not ours (it holds {name:?}): name an empty directory \
                 (--data-dir)",
                path.display()
            ),
            DirError::Damaged(path, why) => write!(
                f,
                "data directory {}: damaged: {why}: restore it from a backup (`ringkeeper verify DIR` shows what \
                 is whole)",
                path.display()
            ),
            DirError::Mismatch(path, why) => {
                write!(f, "data directory {}: {why}: check dataDir, dataLogDir and myid", path.display())
            }
            DirError::Format(path, version) => write!(
                f,
                "data directory {}: format {version} is not known to this release: start the release that wrote it",
                path.display()
            ),
            DirError::Empty(path) => write!(f, "data directory {}: it holds no data of ours", path.display()),
        }
    }
}

impl std::error::Error for DirError {}

/// An open data directory. It stays locked while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    log_home: PathBuf,
    marker: Identity,
    disk: RealDisk,
    _locks: Vec<File>,
}

impl DataDir {
    /// Opens a data directory, or makes one out of an empty or missing directory.
    pub fn open(options: &DirOptions) -> Result<DataDir, DirError> {
        let path = options.path.clone();
        let log_home = options.log_path.clone().unwrap_or_else(|| path.clone());
        let mut locks = vec![lock(&path, &log_home)?];
        // Also through a link, or by another way of writing it.
        let real = |p: &Path| fs::canonicalize(p).ok();
        let same = log_home == path || real(&log_home).is_some_and(|p| Some(p) == real(&path));
        let log_home = if same { path.clone() } else { log_home };
        if !same {
            locks.push(lock(&log_home, &path)?);
        }
        let found = read_marker(&path)?;
        let log_found = if same { found.clone() } else { read_marker(&log_home)? };
        // A crash between the two halves. What the newer one says counts, and has to be found in both when the other directory
        // is missing one day.
        let is_new = found.is_none();
        let differs = !same && found != log_found;
        let marker = match (found, log_found) {
            (Some(a), Some(b)) if a.birth == b.birth && a.server == b.server => {
                let begun = a.begun || b.begun;
                let generation = a.generation.max(b.generation);
                let newer = if a.formed_of.is_empty() { b } else { a };
                Identity { begun, generation, ..newer }
            }
            (Some(_), Some(_)) => {
                let why = format!("its log directory {} belongs to another server", log_home.display());
                return Err(DirError::Mismatch(path, why));
            }
            (Some(a), None) if a.begun => {
                let why = format!("its log directory {} is not the one it was used with", log_home.display());
                return Err(DirError::Mismatch(path, why));
            }
            (None, Some(b)) if b.begun => {
                let why = format!("it is new, but the log directory {} is not", log_home.display());
                return Err(DirError::Mismatch(path, why));
            }
            (Some(m), None) | (None, Some(m)) => m,
            (None, None) => Identity::new(random_u128(&path)?, options.server),
        };
        if marker.server != options.server {
            let why = format!("it belongs to server {}, not {}", marker.server.0, options.server.0);
            return Err(DirError::Mismatch(path, why));
        }
        let refused = |at: &Path| {
            let at = at.to_owned();
            move |e| DirError::Refused(at, e)
        };
        let disk = RealDisk::probe(&log_home, true).map_err(refused(&log_home))?;
        let dir = DataDir { path, log_home, marker, disk, _locks: locks };
        dir.make_dir(&dir.log_path())?;
        dir.make_dir(&dir.snapshot_path())?;
        if is_new || differs {
            dir.write_markers(&dir.marker).map_err(refused(&dir.path))?;
        }
        dir.remove_leftovers().map_err(refused(&dir.path))?;
        Ok(dir)
    }

    /// The cluster's id: random at the first start of a server alone, made from those of all voters in an ensemble.
    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.marker.cluster
    }

    /// This directory's own id, random when it was made.
    #[must_use]
    pub fn birth(&self) -> u128 {
        self.marker.birth
    }

    /// The voters' directories that the ensemble was formed of; none before, and where the server is alone.
    #[must_use]
    pub fn formed_of(&self) -> &[(ServerId, u128)] {
        &self.marker.formed_of
    }

    /// The ensemble is formed: from now on the directory belongs to it.
    pub fn set_formed(&mut self, cluster: u128, formed_of: Vec<(ServerId, u128)>) -> io::Result<()> {
        self.marker.cluster = cluster;
        self.marker.formed_of = formed_of;
        self.write_markers(&self.marker)
    }

    /// The seat that the directory had when it was opened.
    #[must_use]
    pub fn seat(&self) -> Seat {
        self.marker.seat()
    }

    /// Gives the directory its seat, before a server runs on it.
    pub fn set_seat(&mut self, seat: Seat) -> io::Result<()> {
        self.marker.generation = Some(seat.generation());
        self.write_markers(&self.marker)
    }

    /// Writes down the seat that the directory has from now on, while a server runs. Durable when it returns.
    pub fn write_seat(&self, seat: Seat) -> io::Result<()> {
        let marker = Identity { generation: Some(seat.generation()), ..self.marker.clone() };
        self.write_markers(&marker)
    }

    /// Writes down that the server has left the ensemble, for the command that waits for it.
    pub fn write_left(&self) -> io::Result<()> {
        let found = read_marker(&self.path).ok().flatten().unwrap_or_else(|| self.marker.clone());
        self.write_markers(&Identity { has_left: true, ..found })
    }

    /// It is back.
    pub fn forget_left(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.marker.has_left) {
            self.write_markers(&self.marker)?;
        }
        Ok(())
    }

    /// The server whose data this is.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.marker.server
    }

    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segments are.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.log_home.join("log")
    }

    /// Where the snapshots are.
    #[must_use]
    pub fn snapshot_path(&self) -> PathBuf {
        self.path.join("snapshot")
    }

    /// The file system.
    #[must_use]
    pub fn disk(&self) -> RealDisk {
        self.disk
    }

    /// Whether a log was begun here.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.marker.begun
    }

    /// The first segment is durable.
    pub fn set_begun(&mut self) -> io::Result<()> {
        if self.marker.begun {
            return Ok(());
        }
        self.marker.begun = true;
        self.write_markers(&self.marker)
    }

    /// The name of a snapshot.
    #[must_use]
    pub fn snapshot_name(&self, index: LogIndex, zxid: Zxid) -> PathBuf {
        self.snapshot_path().join(format!("{:016x}-{:016x}.snap", index.0, zxid.0))
    }

    /// The snapshots that there are, newest first. Whether they are whole is for `snapshot` to say.
    pub fn snapshots(&self) -> io::Result<Vec<SnapshotFile>> {
        list_snapshots(&self.disk, &self.snapshot_path())
    }

    /// As the function of this name, in this directory.
    pub fn purge_snapshots(&self, keep: usize) -> io::Result<Option<LogIndex>> {
        purge_snapshots(&self.disk, &self.snapshot_path(), keep)
    }

    /// Writes a file so that it appears whole or not at all.
    pub fn publish(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        publish_file(&self.disk, path, write)
    }

    fn make_dir(&self, path: &Path) -> Result<(), DirError> {
        let made = create_dirs(path).and_then(|()| match path.parent() {
            Some(parent) => self.disk.sync_dir(parent),
            None => Ok(()),
        });
        made.map_err(|e| DirError::Refused(path.to_owned(), e))
    }

    fn write_markers(&self, marker: &Identity) -> io::Result<()> {
        let text = marker.text();
        // The log's half first: a `begun` data directory has to find its log directory.
        if self.log_home != self.path {
            self.publish(&self.log_home.join(MARKER), |w| w.write_all(text.as_bytes()))?;
        }
        self.publish(&self.path.join(MARKER), |w| w.write_all(text.as_bytes()))
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for dir in [self.log_path(), self.snapshot_path()] {
            for item in self.disk.list(&dir)? {
                if item.name.ends_with(".tmp") {
                    self.disk.remove(&dir.join(item.name))?;
                }
            }
        }
        Ok(())
    }
}

/// Whose data a directory holds, without touching it.
pub fn read_identity(path: &Path) -> Result<Identity, DirError> {
    match read_marker(path)? {
        Some(identity) => Ok(identity),
        None => {
            check_not_foreign(path, path)?;
            Err(DirError::Empty(path.to_owned()))
        }
    }
}

/// Makes the directory if need be and takes its lock. `other` is the other one of data and log.
fn lock(path: &Path, other: &Path) -> Result<File, DirError> {
    let refused = |e| DirError::Refused(path.to_owned(), e);
    if !path.is_dir() {
        create_dirs(path).map_err(refused)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent).and_then(|d| d.sync_all()).map_err(refused)?;
        }
    }
    // A foreign directory is refused before anything is written into it.
    check_not_foreign(path, other)?;
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).open(path.join(LOCK)).map_err(refused)?;
    // SAFETY: the descriptor is open; no pointers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        return Err(match error.kind() {
            io::ErrorKind::WouldBlock => DirError::Locked(path.to_owned(), holder(&file)),
            _ => refused(error),
        });
    }
    // For the message that a second server gives; the lock itself is the kernel's.
    let pid = format!("{}\n", std::process::id());
    let _ = file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0));
    Ok(file)
}

/// The file that the server on a data directory keeps open.
#[must_use]
pub fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

/// Whether a server runs on a data directory.
#[derive(Debug)]
pub enum LockState {
    /// No. None starts while the file is held, if there is one.
    Free(Option<File>),
    /// Yes: its process id, if it has noted one.
    Held(String),
}

/// Looks at the lock without changing anything.
pub fn try_shared_lock(path: &Path) -> io::Result<LockState> {
    let file = match File::open(path.join(LOCK)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free(None)),
        Err(e) => return Err(e),
    };
    // SAFETY: the descriptor is open; no pointers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
        return Ok(LockState::Free(Some(file)));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(LockState::Held(holder(&file))),
        _ => Err(error),
    }
}

/// Missing directories, closed to others: session passwords and ACL digests lie in them.
fn create_dirs(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path)
}

/// Who holds the lock, as that process has noted it.
fn holder(file: &File) -> String {
    let mut note = [0; 20];
    let got = file.read_at(&mut note, 0).unwrap_or(0);
    let digits = note[..got].iter().take_while(|b| b.is_ascii_digit());
    digits.map(|b| char::from(*b)).collect()
}

/// The first step from a directory to the other one of data and log, where that lies inside: no stranger there.
#[must_use]
pub fn first_inside(dir: &Path, other: &Path) -> Option<OsString> {
    let first = other.strip_prefix(dir).ok()?.components().next()?;
    Some(first.as_os_str().to_owned())
}

fn check_not_foreign(path: &Path, other: &Path) -> Result<(), DirError> {
    let refused = |e| DirError::Refused(path.to_owned(), e);
    if path.join(MARKER).exists() {
        return Ok(());
    }
    let inner = first_inside(path, other);
    let (mut ours, mut other) = (None, None);
    for entry in fs::read_dir(path).map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        match name.to_str() {
            Some("version-2") => return Err(DirError::ZooKeeper(path.to_owned())),
            Some(name) if HARMLESS.contains(&name) || name.starts_with('.') => {}
            Some("log" | "snapshot") => {
                let dir = path.join(&name);
                let begun = fs::read_dir(&dir).map_err(refused)?.filter_map(Result::ok).any(|f| {
                    let name = f.file_name();
                    let name = name.to_string_lossy();
                    name.ends_with(".seg") || name.ends_with(".snap")
                });
                if begun {
                    ours = Some(name);
                }
            }
            _ if inner.as_ref() == Some(&name) => {}
            _ => other = Some(name),
        }
    }
    if ours.is_some() {
        let why = format!("{MARKER} is missing beside its log and snapshots");
        return Err(DirError::Damaged(path.to_owned(), why));
    }
    match other {
        Some(name) => Err(DirError::Foreign(path.to_owned(), name.to_string_lossy().into_owned())),
        None => Ok(()),
    }
}

fn read_marker(path: &Path) -> Result<Option<Identity>, DirError> {
    let mut text = Vec::new();
    let marker = path.join(MARKER);
    match File::open(&marker).and_then(|f| f.take(MARKER_BYTES_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DirError::Refused(marker, e)),
    }
    let text = String::from_utf8_lossy(&text);
    match Identity::parse(&text) {
        Ok(marker) => Ok(Some(marker)),
        Err(MarkerFault::Format(version)) => Err(DirError::Format(path.to_owned(), version)),
        Err(MarkerFault::Damaged(what)) => {
            Err(DirError::Damaged(path.to_owned(), format!("{MARKER}: {what}")))
        }
    }
}

/// The snapshots in `dir`, newest first.
pub fn list_snapshots(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let items = disk.list(dir)?;
    let mut found: Vec<_> = items
        .iter()
        .filter_map(|item| {
            let (index, zxid) = snapshot_numbers(&item.name)?;
            Some(SnapshotFile { index, zxid, path: dir.join(&item.name), bytes: item.len })
        })
        .collect();
    found.sort_by_key(|s| std::cmp::Reverse((s.index, s.zxid)));
    Ok(found)
}

/// Removes all but the newest `keep` snapshots (at least one is kept). Returns the index of the oldest
/// one kept, up to which the log is not needed; nothing unless `keep` are there.
pub fn purge_snapshots(disk: &dyn Disk, dir: &Path, keep: usize) -> io::Result<Option<LogIndex>> {
    let keep = keep.max(1);
    let found = list_snapshots(disk, dir)?;
    for old in found.iter().skip(keep) {
        disk.remove(&old.path)?;
    }
    if found.len() > keep {
        disk.sync_dir(dir)?;
    }
    Ok(found.get(keep - 1).map(|s| s.index))
}

fn snapshot_numbers(name: &str) -> Option<(LogIndex, Zxid)> {
    let (index, zxid) = name.strip_suffix(".snap")?.split_once('-')?;
    if index.len() != 16 || zxid.len() != 16 {
        return None;
    }
    let index = u64::from_str_radix(index, 16).ok()?;
    let zxid = u64::from_str_radix(zxid, 16).ok()?;
    Some((LogIndex(index), Zxid(zxid.cast_signed())))
}

fn random_u128(path: &Path) -> Result<u128, DirError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| DirError::Refused(path.to_owned(), io::Error::other(e.to_string())))?;
    Ok(u128::from_le_bytes(bytes))
}
