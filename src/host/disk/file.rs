//! The file system as the log and the snapshots use it: one trait, so that tests can record every write
//! and cut the power, and its real form.
#![allow(unsafe_code)] // pwritev2, posix_fadvise, fallocate and statvfs have no safe form in std

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

use super::buffer::AlignedBuf;
use super::map::Mapping;
use crate::log::BLOCK;

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    /// The name.
    pub name: String,
    /// Bytes in the file.
    pub len: u64,
}

/// A file that is written piece by piece and then synced.
pub trait SyncWrite: Write + Send {
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Waits until so many more bytes of what was written have gone to the disk, durable or not: a long file goes there in
    /// pieces and not all at its end. Whether there is more. A hint.
    fn settle(&mut self, _most: u64) -> bool {
        false
    }
}

/// A segment that is open for writing.
#[derive(Debug)]
pub struct LogFile {
    /// Its path.
    pub path: PathBuf,
    /// The file; nothing on a simulated disk.
    pub file: Option<File>,
    /// Opened with O_DIRECT.
    pub direct: bool,
}

impl LogFile {
    /// The file's descriptor. Only for the drivers of real disks.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_ref().expect("a driver of real disks gets real files").as_raw_fd()
    }
}

/// The bytes of a file.
pub enum FileBytes {
    /// Mapped, read-only.
    Map(Arc<Mapping>),
    /// Read.
    Read(AlignedBuf),
    /// Read into pages of its own.
    Pages { pages: MmapMut, len: usize },
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            FileBytes::Map(mapping) => mapping.bytes(),
            FileBytes::Read(buffer) => buffer,
            FileBytes::Pages { pages, len } => &pages[..*len],
        }
    }
}

/// The calls that log and snapshots make.
pub trait Disk: Send + Sync {
    /// The plain files of a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Item>>;
    /// At most `len` bytes from `offset`.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// All of a file that is not written any more, through a read-only mapping.
    fn map(&self, path: &Path) -> io::Result<FileBytes>;
    /// All of a file, past the page cache where the file system allows.
    fn read_direct(&self, path: &Path) -> io::Result<FileBytes>;
    /// A new file of `len` zero bytes, written (not merely reserved) and synced. `rest` is called behind each piece with
    /// the time that it took, and may wait: the log's own writes go to the same disk.
    fn create_zeroed(&self, path: &Path, len: u64, rest: &dyn Fn(Duration)) -> io::Result<()>;
    /// A new file that merely holds `len` bytes of space. `cannot_reserve` where the file system has no such thing.
    fn reserve(&self, path: &Path, len: u64) -> io::Result<()>;
    /// A new file to be written and synced.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SyncWrite>>;
    /// Opens a segment for writing.
    fn open_log(&self, path: &Path) -> io::Result<LogFile>;
    /// One blocking durable write.
    fn write_durable(&self, file: &LogFile, offset: u64, bytes: &AlignedBuf) -> io::Result<usize>;
    /// Makes a file's content durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file and makes that durable.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Renames within one directory. Durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes renames, removals and creations in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this user can still write there.
    fn available(&self, dir: &Path) -> io::Result<u64>;
}

/// The real file system.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk {
    /// Segments are opened with O_DIRECT.
    direct: bool,
}

impl RealDisk {
    /// Finds out whether the file system of `dir` takes durable O_DIRECT writes. Some accept the flag and
    /// refuse the write, so one block is written. `allow_direct` is false only when asked for.
    pub fn probe(dir: &Path, allow_direct: bool) -> io::Result<RealDisk> {
        let path = dir.join("probe.tmp");
        let buffered = RealDisk { direct: false };
        let tried = (|| {
            buffered.create_zeroed(&path, 4096, &|_| ())?;
            let candidate = RealDisk { direct: true };
            let file = candidate.open_log(&path)?;
            let direct = file.direct && candidate.write_durable(&file, 0, &AlignedBuf::zeroed(4096)).is_ok();
            Ok(RealDisk { direct: direct && allow_direct })
        })();
        let _ = fs::remove_file(&path);
        match tried {
            // A full disk is no reason not to start: it comes up read-only.
            Err(e) if is_no_space(&e) => Ok(RealDisk { direct: allow_direct }),
            other => other,
        }
    }

    /// For those who only read; nothing is tried out.
    #[must_use]
    pub fn for_reading() -> RealDisk {
        RealDisk { direct: false }
    }

    /// Whether segments are opened with O_DIRECT.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

/// Zeros that are written at once: less than a write of the log waits for.
const ZEROS_BYTES: usize = 256 << 10;

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if let (true, Some(name)) = (meta.is_file(), entry.file_name().to_str()) {
                items.push(Item { name: name.to_owned(), len: meta.len() });
            }
        }
        items.sort();
        Ok(items)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; len.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let got = read_full(&file, &mut bytes, offset)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    fn map(&self, path: &Path) -> io::Result<FileBytes> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(FileBytes::Read(AlignedBuf::zeroed(0)));
        }
        Ok(FileBytes::Map(Arc::new(Mapping::of(&file, path)?)))
    }

    fn read_direct(&self, path: &Path) -> io::Result<FileBytes> {
        let plain = File::open(path)?;
        let len = usize::try_from(plain.metadata()?.len()).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(FileBytes::Read(AlignedBuf::zeroed(0)));
        }
        // Pages of their own go back to the system at once: of an allocator's 64 MiB a quiet server kept every byte.
        let mut pages = MmapMut::map_anon(len.next_multiple_of(BLOCK))?;
        if let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
            match read_full(&file, &mut pages, 0) {
                Ok(got) if got >= len => return Ok(FileBytes::Pages { pages, len }),
                Err(e) if e.raw_os_error() != Some(libc::EINVAL) => return Err(e),
                _ => {}
            }
        }
        // SAFETY: the descriptor is open; the call only advises.
        unsafe { libc::posix_fadvise(plain.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let len = read_full(&plain, &mut pages[..len], 0)?;
        Ok(FileBytes::Pages { pages, len })
    }

    fn create_zeroed(&self, path: &Path, len: u64, rest: &dyn Fn(Duration)) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let zeros = AlignedBuf::zeroed(ZEROS_BYTES);
        // Past the cache: 64 MiB of dirty pages would be flushed between the log's own writes.
        let direct = self.direct.then(|| self.open_log(path)).transpose()?.filter(|f| f.direct);
        let target = direct.as_ref().and_then(|f| f.file.as_ref()).unwrap_or(&file);
        let mut at = 0;
        while at < len {
            let n = (len - at).min(zeros.len() as u64) as usize;
            let began = Instant::now();
            match target.write_all_at(&zeros[..n], at) {
                // A file system that takes the flag and refuses the write.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => file.write_all_at(&zeros[..n], at)?,
                other => other?,
            }
            at += n as u64;
            rest(began.elapsed());
        }
        file.sync_all()
    }

    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let bytes = len.try_into().map_err(io::Error::other)?;
        // SAFETY: the descriptor is open for writing.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } == 0 {
            return file.sync_all();
        }
        Err(io::Error::last_os_error())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SyncWrite>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(PlainFile { file, written: 0, settled: 0, fault: None }))
    }

    fn open_log(&self, path: &Path) -> io::Result<LogFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if self.direct {
            match options.custom_flags(libc::O_DIRECT).open(path) {
                Ok(file) => return Ok(LogFile { path: path.to_owned(), file: Some(file), direct: true }),
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                Err(e) => return Err(e),
            }
        }
        let file = options.custom_flags(0).open(path)?;
        Ok(LogFile { path: path.to_owned(), file: Some(file), direct: false })
    }

    fn write_durable(&self, file: &LogFile, offset: u64, bytes: &AlignedBuf) -> io::Result<usize> {
        write_durable(file, offset, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        // A flush through any descriptor of the file covers all of its pages and the device's cache.
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let path = CString::new(dir.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: a C string, and room for the answer.
        if unsafe { libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it filled the struct.
        let stats = unsafe { stats.assume_init() };
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }
}

/// One durable write, blocking: RWF_DSYNC on an O_DIRECT file, else a write and fdatasync.
pub(super) fn write_durable(file: &LogFile, offset: u64, bytes: &[u8]) -> io::Result<usize> {
    if file.direct {
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let at = offset.try_into().map_err(io::Error::other)?;
        loop {
            // SAFETY: one iovec over borrowed bytes that the call only reads; the descriptor is open.
            let wrote = unsafe { libc::pwritev2(file.raw_fd(), &raw const part, 1, at, libc::RWF_DSYNC) };
            if wrote >= 0 {
                return Ok(wrote.cast_unsigned());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // Nothing was written yet, so this is no retry.
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => break,
                _ => return Err(error),
            }
        }
    }
    let plain = file.file.as_ref().expect("a driver of real disks gets real files");
    let wrote = plain.write_at(bytes, offset)?;
    plain.sync_data()?;
    Ok(wrote)
}

/// The disk, or this user's share of it, is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// The file system gives a file no space before it is written.
pub(super) fn cannot_reserve(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

struct PlainFile {
    file: File,
    written: u64,
    settled: u64,
    /// What a piece could not be written for. The system tells it once, and the sync behind it would know nothing of it.
    fault: Option<i32>,
}

impl PlainFile {
    fn note_fault(&mut self, code: i32) {
        let cannot_settle = [libc::ENOSYS, libc::EINVAL, libc::ESPIPE, libc::EOPNOTSUPP, libc::EPERM];
        if !cannot_settle.contains(&code) {
            self.fault.get_or_insert(code);
        }
    }
}

impl Write for PlainFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SyncWrite for PlainFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.fault.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    fn settle(&mut self, most: u64) -> bool {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let (from, len) = (self.settled, most.min(self.written - self.settled));
        // SAFETY: the descriptor is open; the call takes no pointers. A file system that cannot do it has the rest to do at the
        // sync.
        let result = unsafe {
            libc::sync_file_range(self.file.as_raw_fd(), from.cast_signed(), len.cast_signed(), all)
        };
        if result != 0 {
            self.note_fault(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
        }
        self.settled += len;
        self.settled < self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_not_written_is_told_at_the_sync_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name| {
            let file = File::create(dir.path().join(name)).unwrap();
            PlainFile { file, written: 0, settled: 0, fault: None }
        };
        let mut good = open("good");
        good.write_all(&[7; 10_000]).unwrap();
        assert!(good.settle(4096) && good.settle(4096) && !good.settle(4096));
        good.note_fault(libc::EINVAL);
        good.sync().unwrap();
        let mut bad = open("bad");
        bad.note_fault(libc::EIO);
        bad.note_fault(libc::ENOSPC);
        for _ in 0..2 {
            assert_eq!(bad.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        }
    }
}
