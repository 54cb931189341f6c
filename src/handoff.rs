//! The two messages that cross between cores: what a shard wishes goes up, what was committed comes down.
//!
//! One ring slot is one message, and one message a whole batch: everything that a shard gathered in a wake-up, every
//! transaction of a Raft entry.

use crate::ids::{ConnId, Millis, SessionId, ShardId, Xid, Zxid};
use crate::tree::{Answer, Change};
use smallvec::SmallVec;
use std::ops::Range;

/// Up: from a shard to the sequencer.
#[derive(Debug)]
pub struct Upward {
    pub shard: ShardId,
    /// The bytes that proposals point into: one allocation for all of them.
    pub arena: Vec<u8>,
    pub proposals: Vec<Proposal>,
    /// What the shard heard since it last said so.
    pub heard: Option<Heard>,
}

/// Something that only the sequencer can decide.
#[derive(Debug)]
pub struct Proposal {
    /// NONE where a session is wished for.
    pub session: SessionId,
    pub conn: ConnId,
    pub xid: Xid,
    pub wish: Wish,
}

/// What is wished for.
#[derive(Debug)]
pub enum Wish {
    /// A client's write, undecided: its record and the connection's identities, both in the arena.
    Write { op: i32, identities: Range<u32>, request: Range<u32> },
    /// A new session.
    CreateSession { timeout_ms: i32 },
    /// An old one, on this connection from now on.
    Attach { timeout_ms: i32, password: Range<u32> },
    /// A local session's end, by its client, who is answered already.
    CloseLocal,
    /// An answer that is not older than all that was committed anywhere before now.
    Sync,
}

/// A shard's report on its clients: the sequencer never expires a session for time that no shard answers for.
#[derive(Debug)]
pub struct Heard {
    /// The sessions heard of, and when last.
    pub sessions: Vec<(SessionId, Millis)>,
    /// Everything that arrived before this moment has been read and is in this or an earlier report.
    pub through: Millis,
    /// The shard itself stood still from the first to the second moment.
    pub stall: Option<(Millis, Millis)>,
}

/// Down: one committed batch, for every shard.
#[derive(Debug)]
pub struct Publication {
    /// Counts from 1; the shared counter that shards load before they answer is raised to it afterwards.
    pub number: u64,
    pub committed: Vec<Committed>,
    /// How many sessions there are after it.
    pub sessions: usize,
    /// The last zxid applied after it.
    pub last_zxid: Zxid,
    /// Who must take it over at once even if it watches nothing.
    pub concerns: Concerns,
    /// Of the batch that it was made of: what it takes in memory is about as much.
    pub bytes: usize,
}

/// Shards that a publication concerns: a client of theirs waits for it, or a session that may be theirs moved or ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Concerns(u64);

impl Concerns {
    pub const ALL: Concerns = Concerns(u64::MAX);

    /// This shard too. Shards that are 64 apart share a bit, and are woken once too often.
    pub fn add(&mut self, shard: ShardId) {
        self.0 |= 1 << (shard.0 % 64);
    }

    /// Whether this shard is meant.
    #[must_use]
    pub fn has(self, shard: ShardId) -> bool {
        self.0 >> (shard.0 % 64) & 1 == 1
    }
}

/// One transaction's facts, or a sync's answer (which has none).
#[derive(Debug)]
pub struct Committed {
    pub zxid: Zxid,
    pub changes: SmallVec<[Change; 1]>,
    /// The connection of this server that waits for it.
    pub to: Option<Addressee>,
    pub answer: Answer,
}

/// Who is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addressee {
    pub shard: ShardId,
    pub conn: ConnId,
    pub xid: Xid,
    pub kind: AnswerKind,
}

/// What the connection waits with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerKind {
    Write,
    Handshake,
    Sync,
}
