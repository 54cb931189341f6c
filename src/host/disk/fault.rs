//! What the disk can do to us, with the words that the operator reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::Damage;

/// A write or sync that failed or came up short. The server stops (exit 74); nothing is retried: after a
/// failed sync the kernel has marked the pages clean, and a second sync would lie (ATC'20, "Can
/// applications recover from fsync failures?").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskFault {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What happened.
    pub kind: FaultKind,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The system call failed with this errno.
    Errno(i32),
    /// Fewer bytes were written than asked for.
    Short {
        /// Bytes written.
        wrote: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// The thread that writes is gone.
    Gone,
}

impl DiskFault {
    /// A failed system call.
    #[must_use]
    pub fn io(file: &Path, offset: u64, error: &io::Error) -> DiskFault {
        // 5 is EIO: an error without a number still has to stop the server.
        let kind = FaultKind::Errno(error.raw_os_error().unwrap_or(5));
        DiskFault { file: file.to_owned(), offset, kind }
    }

    /// The process's exit code: EX_IOERR.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        74
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "durable write failed: {}, offset {}: ", self.file.display(), self.offset)?;
        match self.kind {
            FaultKind::Errno(errno) => write!(f, "{}", io::Error::from_raw_os_error(errno))?,
            FaultKind::Short { wrote, wanted } => write!(f, "short write, {wrote} of {wanted} bytes")?,
            FaultKind::Gone => f.write_str("the log thread is gone")?,
        }
        f.write_str("; the server stops and does not retry: check the disk, then start it again")
    }
}

impl std::error::Error for DiskFault {}

/// Why the log cannot be opened or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogError {
    /// Acknowledged history is damaged.
    Damaged(Damage),
    /// The disk failed.
    Disk(DiskFault),
    /// No room for a segment.
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// What a segment needs.
        needed_bytes: u64,
    },
    /// Asked for an entry that is not in the log.
    NoSuchEntry,
    /// The entry is still being written.
    InFlight,
    /// `io = uring` was demanded and cannot be had.
    NoUring(String),
}

impl LogError {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            LogError::NoSpace { .. } | LogError::NoUring(_) => 71,
            _ => 74,
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Damaged(damage) => write!(
                f,
                "{damage}. This server must not serve from it: restore the file from a copy, or restore the \
                 data directory from a backup (`ringkeeper verify DIR` shows what is whole). As a member of an \
                 ensemble whose other servers are a majority, start it with an empty data directory (keep myid), and \
                 it has all from them; never from a backup"
            ),
            LogError::Disk(fault) => write!(f, "{fault}"),
            LogError::NoSpace { dir, needed_bytes } => write!(
                f,
                "no space for a log segment in {}: free at least {} bytes there, then start again",
                dir.display(),
                needed_bytes
            ),
            LogError::NoSuchEntry => f.write_str("the entry is not in the log"),
            LogError::InFlight => f.write_str("the entry is still being written"),
            LogError::NoUring(why) => write!(f, "io = uring, but the log cannot use io_uring: {why}"),
        }
    }
}

impl std::error::Error for LogError {}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> LogError {
        LogError::Damaged(damage)
    }
}

impl From<DiskFault> for LogError {
    fn from(fault: DiskFault) -> LogError {
        LogError::Disk(fault)
    }
}

/// Why a record was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// As many writes are in flight as may be: wait, then try again.
    Full,
    /// The payload does not fit a segment.
    TooLarge,
    /// There is no room for the next segment. Nothing was written; purge or free space, then try again.
    NoSpace,
    /// The disk failed, now or before.
    Fault(DiskFault),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Full => f.write_str("too many writes in flight"),
            SubmitError::TooLarge => f.write_str("the batch is larger than a log segment"),
            SubmitError::NoSpace => f.write_str("no space for the next log segment"),
            SubmitError::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for SubmitError {}

impl From<DiskFault> for SubmitError {
    fn from(fault: DiskFault) -> SubmitError {
        SubmitError::Fault(fault)
    }
}
