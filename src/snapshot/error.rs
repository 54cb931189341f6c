//! Why a snapshot is refused: what, and at which offset of the file.

use std::fmt;
use std::io;

/// A refusal. Nothing of the file is used.
#[derive(Debug)]
pub enum SnapshotError {
    /// The reader failed.
    Io { offset: u64, error: io::Error },
    /// The file ends too early.
    Short { offset: u64, what: &'static str },
    /// It does not begin as a snapshot does.
    NotASnapshot,
    /// Written by another release, in a layout that this one does not know.
    Version { found: u32 },
    /// A checksum is wrong.
    Checksum { offset: u64, what: &'static str },
    /// A length beyond what is allowed; nothing was allocated for it.
    TooLong { offset: u64, what: &'static str, length: u64, max: u64 },
    /// Bytes that no encoder writes, though their checksum is right. The offset is that of their block.
    Malformed { offset: u64, what: &'static str },
    /// Two counts that must be equal.
    Count { what: &'static str, expected: u64, found: u64 },
    /// A znode that can not stand in a tree as it does.
    Znode { offset: u64, path: String, what: &'static str },
    /// The parts are right, the whole is not what was written.
    Digest { expected: u64, found: u64 },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { offset, error } => write!(f, "can not be read at offset {offset}: {error}"),
            SnapshotError::Short { offset, what } => {
                write!(f, "ends at offset {offset}, in the middle of {what}")
            }
            SnapshotError::NotASnapshot => f.write_str("is not a ringkeeper snapshot (offset 0)"),
            SnapshotError::Version { found } => write!(
                f,
                "has format version {found} (offset 8); this release reads version {}",
                super::FORMAT_VERSION
            ),
            SnapshotError::Checksum { offset, what } => {
                write!(f, "checksum of {what} at offset {offset} is wrong")
            }
            SnapshotError::TooLong { offset, what, length, max } => {
                write!(f, "{what} at offset {offset} is {length} bytes long; at most {max} are allowed")
            }
            SnapshotError::Malformed { offset, what } => write!(f, "{what} in the block at offset {offset}"),
            SnapshotError::Count { what, expected, found } => {
                write!(f, "{expected} {what} announced, {found} found")
            }
            SnapshotError::Znode { offset, path, what } => {
                write!(f, "znode {path:?} of the block at offset {offset}: {what}")
            }
            SnapshotError::Digest { expected, found } => {
                write!(f, "the state's digest is {found:016x}, written as {expected:016x}")
            }
        }
    }
}

impl std::error::Error for SnapshotError {}
