//! From a directory to a log that can be written: recover, make the recovered tail durable, begin a new
//! segment behind it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, ThreadBackend};
use super::dir::DataDir;
use super::fault::{DiskFault, LogError};
use super::file::{is_no_space, Disk, FileBytes, RealDisk};
use super::pool::{segment_number, segment_path, Pool};
use super::space::Space;
use super::uring::UringBackend;
use super::writer::{begin_segment, fresh_salt, Log, Parts, Sealed};
use crate::ids::{LogIndex, ServerId};
use crate::log::{
    recover, Continues, Damage, DamageReason, Recovered, SegmentHeader, SegmentNumber, Segments, Sequence,
    BLOCK,
};

/// Which driver writes the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogIo {
    /// io_uring where it may be used and the file system has O_DIRECT, else a thread.
    Auto,
    /// io_uring, or refuse to start. A file system without O_DIRECT still means the thread.
    Uring,
    /// A thread: what a server does unless it is told else.
    #[default]
    Thread,
    /// A thread without O_DIRECT, as on file systems that lack it.
    Buffered,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of a segment: a multiple of 4096, at least `SEGMENT_BYTES_MIN`.
    pub segment_bytes: u64,
    /// The driver.
    pub io: LogIo,
    /// How long it must be quiet before the last record is covered.
    pub quiet: Duration,
    /// Below this many free bytes the space is low.
    pub space_low_bytes: u64,
    /// Whether a ballast is kept.
    pub ballast: bool,
    /// Others may serve while this server starts, maybe with their logs on the same disk: the second segment is filled with
    /// pauses.
    pub others_serve: bool,
    /// The version of apply's rules for a log that is new.
    pub apply_version: u32,
    /// The membership for a log that is new.
    pub membership: Vec<u8>,
}

/// The smallest segment: a header and a few records.
pub const SEGMENT_BYTES_MIN: u64 = 16 * BLOCK as u64;

/// What a log begins with where no whole segment is ready: filling one takes a slow disk most of a second, and nobody is
/// served meanwhile. The next one, whole, is filled at once behind it.
const FIRST_SEGMENT_BYTES: u64 = 8 << 20;

/// The smallest segment that a full disk is brought up with.
const SMALL_SEGMENT_BYTES_MIN: u64 = 4 * BLOCK as u64;

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 64 << 20,
            io: LogIo::default(),
            quiet: Duration::from_millis(5),
            space_low_bytes: 128 << 20,
            ballast: true,
            others_serve: false,
            apply_version: 1,
            membership: Vec::new(),
        }
    }
}

/// Where a log lies and whose it is.
#[derive(Clone)]
pub struct LogPlace {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The directory of the segments.
    pub dir: PathBuf,
    /// The cluster.
    pub cluster: u128,
    /// The server.
    pub server: ServerId,
    /// A log was begun here: without a segment it is damaged.
    pub begun: bool,
}

impl LogPlace {
    /// The log of a data directory.
    #[must_use]
    pub fn of(dir: &DataDir) -> LogPlace {
        LogPlace {
            disk: Arc::new(dir.disk()),
            dir: dir.log_path(),
            cluster: dir.cluster_id(),
            server: dir.server(),
            begun: dir.is_begun(),
        }
    }

    /// Reads the log and changes nothing. `from` as in `log::recover`.
    pub fn recover(&self, from: Option<LogIndex>) -> Result<Recovered, Damage> {
        let mut files = Files { disk: &*self.disk, dir: &self.dir };
        let recovered = recover(&mut files, self.cluster, self.server, from)?;
        if self.begun && recovered.tail.is_none() {
            return Err(Damage {
                segment: SegmentNumber(0),
                offset: 0,
                sequence: Sequence(0),
                reason: DamageReason::NoLog,
            });
        }
        Ok(recovered)
    }
}

/// The segments of a directory.
struct Files<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
}

impl Files<'_> {
    fn path(&self, segment: SegmentNumber) -> PathBuf {
        segment_path(self.dir, segment)
    }
}

impl Segments for Files<'_> {
    type Bytes = FileBytes;

    fn list(&mut self) -> Result<Vec<SegmentNumber>, String> {
        let items = self.disk.list(self.dir).map_err(|e| e.to_string())?;
        let mut numbers: Vec<_> = items.iter().filter_map(|i| segment_number(&i.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn head(&mut self, segment: SegmentNumber, len: usize) -> Result<Vec<u8>, String> {
        self.disk.read_at(&self.path(segment), 0, len).map_err(|e| e.to_string())
    }

    fn bytes(&mut self, segment: SegmentNumber, sealed: bool) -> Result<FileBytes, String> {
        let path = self.path(segment);
        let read = if sealed { self.disk.map(&path) } else { self.disk.read_direct(&path) };
        read.map_err(|e| e.to_string())
    }

    fn bytes_again(&mut self, segment: SegmentNumber) -> Result<FileBytes, String> {
        self.disk.read_direct(&self.path(segment)).map_err(|e| e.to_string())
    }
}

impl Log {
    /// Opens the log of a data directory, or begins one. `from` is the index of the snapshot that the caller
    /// has loaded, zero without one: if the log does not reach back to it, that is damage.
    pub fn open(
        dir: &mut DataDir,
        options: &LogOptions,
        from: LogIndex,
    ) -> Result<(Log, Recovered), LogError> {
        let mut place = LogPlace::of(dir);
        let direct = dir.disk().is_direct() && options.io != LogIo::Buffered;
        if !direct {
            let probed = RealDisk::probe(&place.dir, false);
            let fault = |e: &io::Error| LogError::Disk(DiskFault::io(&place.dir, 0, e));
            place.disk = Arc::new(probed.map_err(|e| fault(&e))?);
        }
        let backend = choose_backend(options.io, direct, &place.dir)?;
        let opened = Log::open_with(place, options, backend, false, from)?;
        dir.set_begun().map_err(|e| DiskFault::io(dir.path(), 0, &e))?;
        Ok(opened)
    }

    /// The same on any disk with any driver. `inline`: segments are prepared at once, without a thread.
    pub fn open_with(
        place: LogPlace,
        options: &LogOptions,
        backend: Box<dyn Backend>,
        inline: bool,
        from: LogIndex,
    ) -> Result<(Log, Recovered), LogError> {
        let block = BLOCK as u64;
        let segment_bytes = options.segment_bytes.next_multiple_of(block).max(SEGMENT_BYTES_MIN);
        let recovered = place.recover(Some(from))?;
        check_reaches(&recovered, from)?;
        let LogPlace { disk, dir, cluster, server, .. } = place;
        let fault = |path: &Path, at| {
            let path = path.to_owned();
            move |e: io::Error| LogError::Disk(DiskFault::io(&path, at, &e))
        };

        if let Some(tail) = recovered.tail {
            // What was read may live in a cache only. Nobody may see it before it is durable; and behind the
            // cut nothing is worth keeping.
            let path = segment_path(&dir, tail.segment);
            disk.truncate(&path, tail.offset).map_err(fault(&path, tail.offset))?;
        }
        let number = recovered.tail.map_or(SegmentNumber(1), |tail| tail.segment.next());
        let mut ready = false;
        for item in disk.list(&dir).map_err(fault(&dir, 0))? {
            let Some(unused) = segment_number(&item.name).filter(|n| *n >= number) else { continue };
            if unused == number && item.len == segment_bytes {
                ready = true;
            } else {
                disk.remove(&dir.join(&item.name)).map_err(fault(&dir, 0))?;
            }
        }
        let mut space = Space::new(&*disk, &dir, segment_bytes, options.space_low_bytes);
        let new_pool = |next, ready| {
            Pool::new(Arc::clone(&disk), dir.clone(), segment_bytes, next, ready, inline)
                .map_err(fault(&dir, 0))
        };
        let is_short = !ready && !inline && segment_bytes > 2 * FIRST_SEGMENT_BYTES;
        let short = is_short.then(|| make_segment(&*disk, &dir, number, FIRST_SEGMENT_BYTES).is_ok());
        let mut pool = new_pool(number, ready)?;
        let mut capacity = segment_bytes;
        if short == Some(true) {
            capacity = FIRST_SEGMENT_BYTES;
            pool = new_pool(number.next(), false)?;
            if !options.others_serve {
                pool.hurry_once();
            }
        } else if let Err(e) = pool.take() {
            if !is_no_space(&e) {
                return Err(fault(&segment_path(&dir, number), 0)(e));
            }
            if !space.place_ballast(&*disk, &dir, number) {
                // What cutting the last segment to its length has freed may still hold a small one: enough
                // to come up read-only and to let deletes and purging make room.
                let Some(smaller) = small_segment(&*disk, &dir, number, segment_bytes) else {
                    return Err(LogError::NoSpace { dir, needed_bytes: SMALL_SEGMENT_BYTES_MIN });
                };
                capacity = smaller;
            }
            pool = new_pool(number.next(), false)?;
        }
        if options.ballast {
            space.keep(&*disk, &dir);
        }

        let (last, last_term) = recovered.last();
        let (membership, apply_version) = match recovered.tail {
            Some(_) => (recovered.membership.clone(), recovered.apply_version),
            None => (options.membership.clone(), options.apply_version),
        };
        let header = SegmentHeader {
            cluster,
            server,
            number,
            salt: fresh_salt(number.0),
            continues: recovered.tail.map(|t| Continues { segment: t.segment, offset: t.offset }),
            first_sequence: recovered.tail.map_or(Sequence(1), |t| t.next_sequence),
            prev_crc: recovered.tail.map_or(0, |t| t.crc),
            hard_state: recovered.hard_state,
            first_index: LogIndex(last.0 + 1),
            prev_term: last_term,
            announced: recovered.announced,
            apply_version,
            membership: membership.clone(),
        };
        let active = begin_segment(&*disk, &dir, &header, capacity)?;
        pool.prepare();
        let sealed: VecDeque<_> = recovered
            .segments
            .iter()
            .map(|h| Sealed { number: h.number, first_index: h.first_index })
            .collect();
        let log = Log::from_parts(Parts {
            backend,
            disk,
            dir,
            cluster,
            server,
            segment_bytes,
            quiet: options.quiet,
            pool,
            space,
            active,
            sealed,
            entries: recovered.entries.iter().copied().collect(),
            base: recovered.base,
            hard_state: recovered.hard_state,
            announced: recovered.announced,
            membership,
            apply_version,
            next_sequence: header.first_sequence,
            prev_crc: header.prev_crc,
        });
        Ok((log, recovered))
    }
}

/// A snapshot that was not announced holds what was durable in the log: a log that ends before it has lost its tail, and
/// with it maybe entries behind the snapshot. Nothing has been cut yet.
fn check_reaches(recovered: &Recovered, from: LogIndex) -> Result<(), Damage> {
    let (last, _) = recovered.last();
    if last >= from {
        return Ok(());
    }
    Err(Damage {
        segment: recovered.tail.map_or(SegmentNumber(0), |tail| tail.segment),
        offset: recovered.tail.map_or(0, |tail| tail.offset),
        sequence: recovered.tail.map_or(Sequence(0), |tail| tail.next_sequence),
        reason: DamageReason::EndsBefore { held: from, last },
    })
}

/// A first segment on a disk that has no room for a whole one.
fn small_segment(disk: &dyn Disk, dir: &Path, number: SegmentNumber, segment_bytes: u64) -> Option<u64> {
    let mut bytes = segment_bytes / 2;
    while bytes >= SMALL_SEGMENT_BYTES_MIN {
        bytes -= bytes % BLOCK as u64;
        if make_segment(disk, dir, number, bytes).is_ok() {
            return Some(bytes);
        }
        bytes /= 2;
    }
    None
}

/// A segment of its own length, at once; nothing is left of it where that fails.
fn make_segment(disk: &dyn Disk, dir: &Path, number: SegmentNumber, bytes: u64) -> io::Result<()> {
    let fresh = dir.join(format!("{:016x}.tmp", number.0));
    let made = disk.create_zeroed(&fresh, bytes, &|_| ()).and_then(|()| {
        disk.rename(&fresh, &segment_path(dir, number))?;
        disk.sync_dir(dir)
    });
    if made.is_err() {
        let _ = disk.remove(&fresh);
    }
    made
}

fn choose_backend(io: LogIo, direct: bool, dir: &Path) -> Result<Box<dyn Backend>, LogError> {
    if direct && matches!(io, LogIo::Auto | LogIo::Uring) {
        match UringBackend::probe() {
            Ok(backend) => return Ok(Box::new(backend)),
            Err(why) if io == LogIo::Uring => return Err(LogError::NoUring(why)),
            Err(_) => {}
        }
    }
    let thread = ThreadBackend::start_thread(direct).map_err(|e| DiskFault::io(dir, 0, &e))?;
    Ok(Box::new(thread))
}
