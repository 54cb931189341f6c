//! What servers of an ensemble say to each other: the messages, and their bytes.
//!
//! A word here is data from outside: decoding never panics and allocates no more than what arrived. Whether a message
//! makes sense is the sequencer's to judge, before Raft sees it.

mod codec;

pub use codec::{decode, encode, Malformed, CONTEXT_BYTES_MAX};

use crate::ids::{LogIndex, Millis, Seat, ServerId, SessionId, Term, Zxid};
use bytes::Bytes;

/// One message between two sequencers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Raft's own.
    Raft(Box<RaftMessage>),
    /// A batch of a follower's clients, for the leader to order.
    Forward(Forward),
    /// What a follower has heard of its clients.
    Heard(Heard),
    /// What a server's batches have come to.
    Agreement(Agreement),
    /// A leader tells a data directory which seat it has.
    Seated(Seated),
    /// What a server asks for itself, a `membership::Step`: to be a member, or none any more.
    Wish(Vec<u8>),
}

/// Which seat a data directory has. The directory is named too: another one of this server's may have come since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seated {
    pub birth: u128,
    pub seat: Seat,
}

/// A message of Raft, its entries with their payload. Fields are the `raft` crate's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RaftMessage {
    /// The crate's MessageType.
    pub kind: u8,
    pub from: Seat,
    /// A directory in another seat of this server's drops it.
    pub to: Seat,
    pub term: Term,
    pub log_term: Term,
    pub index: LogIndex,
    pub commit: LogIndex,
    pub commit_term: Term,
    pub reject: bool,
    pub reject_hint: LogIndex,
    pub request_snapshot: LogIndex,
    pub priority: i64,
    pub context: Vec<u8>,
    pub entries: Vec<Entry>,
}

/// An entry on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub term: Term,
    /// Raft's entry type.
    pub tag: u8,
    pub first_zxid: Zxid,
    pub last_zxid: Zxid,
    /// `None` only on its way out: the host reads it from the log. Empty for Raft's own entries.
    pub payload: Option<Bytes>,
}

/// A batch, unstamped: the leader fills in its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The reign that it is meant for. To a later one of the same leader it is told again, in order.
    pub term: Term,
    /// The run of the server that gathered it.
    pub incarnation: u64,
    /// Its number in that run, from 1.
    pub sequence: u64,
    pub batch: Bytes,
}

/// A follower's report on its clients. Spans, not moments: clocks differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Sessions heard of, and how long ago.
    pub sessions: Vec<(SessionId, Millis)>,
    /// All that arrived longer ago than this is in this report or an earlier one.
    pub through: Millis,
    /// Time in which the follower stood still, since its last report.
    pub stalled: Millis,
}

/// The digest of a server's state after an entry, and of all states before: equal on all servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    pub index: LogIndex,
    pub chain: u64,
}

/// A message and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressed {
    pub to: ServerId,
    pub message: Message,
}
