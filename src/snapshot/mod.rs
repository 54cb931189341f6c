//! State to a stream of blocks and back: exactly one zxid, checked as a whole.
//!
//! Pure: a writer and a reader come from outside. `Encoder` takes the znodes as the cursor of `apply::State` hands
//! them over, in any order; `decode` gives a State back or says what is wrong and where. For a host that wants to
//! read, unpack and build on several threads the steps stand open: `Blocks`, `Unpacker`, `Assembler`.
//!
#![doc = include_str!("FORMAT.md")]

mod assemble;
mod blocks;
mod encode;
mod error;
mod inspect;
mod records;

pub use assemble::{decode, decode_bytes, Assembler, Loaded};
pub use blocks::{Block, Blocks, Unpacker};
pub use encode::{encode_state, Encoder, Written};
pub use error::SnapshotError;
pub use inspect::{summary, Dump, Summary};

use crate::ids::{LogIndex, Term, WallMillis, Zxid};

/// What a snapshot says about its place in history. The state itself comes beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The ensemble's id.
    pub cluster: u128,
    /// The last log entry that the state holds.
    pub index: LogIndex,
    pub term: Term,
}

/// The first bytes of a file: all but the lists themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    pub meta: Meta,
    /// The version of apply's rules that the state follows.
    pub apply_version: u32,
    pub last_zxid: Zxid,
    pub last_wall: WallMillis,
    pub digest: u64,
    pub chain: u64,
    pub next_acl: u32,
    pub acls: u64,
    pub sessions: u64,
    pub batches: u64,
    pub nodes: u64,
    /// A `membership::Membership`, encoded.
    pub membership: Vec<u8>,
}

/// What a file begins with; the line break shows a transfer that "repaired" line ends.
const MAGIC: [u8; 8] = *b"RKSNAP\r\n";
/// The version of the layout that this release writes and the only one that it reads.
const FORMAT_VERSION: u32 = 2;
/// The header without membership and checksum.
const HEADER_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + 8 + 8 + 8 + 8 + 4 + 8 * 4 + 4;
/// The longest membership: thousands of servers would fit.
const MEMBERSHIP_BYTES_MAX: usize = 1 << 20;
/// A block's kind, lengths and checksum.
const BLOCK_HEAD_BYTES: usize = 1 + 4 + 4 + 4;
/// A block closes when it holds this much: large enough for zstd, small enough for the second-level cache.
const BLOCK_BYTES: usize = 256 << 10;
/// The longest block, raw or packed. A record comes from one log record of at most 16 MiB.
const BLOCK_BYTES_MAX: usize = 32 << 20;
/// The trailer.
const TRAILER_BYTES: usize = 1 + 8 + 8 + 4 + 4;

/// The kinds of blocks, in the order in which they stand.
mod kind {
    pub const ACLS: u8 = 1;
    pub const SESSIONS: u8 = 2;
    pub const BATCHES: u8 = 3;
    pub const NODES: u8 = 4;
    pub const TRAILER: u8 = 255;
}

#[cfg(test)]
mod tests;
