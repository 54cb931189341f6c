//! One TCP stream: what it has sent in part, what it waits for, what it has yet to be told.

use super::pending::Pending;
use super::stats::Latency;
use super::strict::Strict;
use crate::ids::{ConnId, Millis, SessionId, Xid, Zxid};
use crate::tree::acl::Judged;
use crate::wire::{put_string, Id, OpCode};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The most bytes of identities that a connection may gather: each of its writes carries them into the log. Hundreds
/// of ordinary ones fit.
pub const IDENTITY_BYTES_MAX: usize = 16 << 10;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nothing, or half a frame.
    Fresh,
    /// The sequencer was asked for a session; what the client sends meanwhile is kept (TR14).
    Handshaking { read_only: Option<bool> },
    /// A session speaks.
    Live,
    /// The client said closeSession: what comes after it is ignored.
    Closing,
    /// A four-letter word waits for its answer.
    Word,
    /// Closed as soon as its last bytes are written.
    Done,
}

pub(super) struct Connection {
    pub id: ConnId,
    pub peer: SocketAddr,
    pub phase: Phase,
    pub session: SessionId,
    pub timeout_ms: i32,
    /// Its session is known to this server alone: the sequencer hears of its end, and nobody else does.
    pub is_local: bool,
    /// Bytes of a frame that is not whole, or that may not be handled yet.
    pub input: Vec<u8>,
    pub input_ended: bool,
    /// Bytes to be written, from `sent` on.
    pub out: Vec<u8>,
    pub sent: usize,
    pub is_dirty: bool,
    /// What is in `out` are events of other sessions' changes alone.
    pub events_alone: bool,
    pub is_blocked: bool,
    pub blocked_since: Millis,
    /// It was not to be read when it was last worked on.
    pub was_paused: bool,
    /// Requests that are not answered yet, oldest first.
    /// Invariant: they are answered in this order; no read overtakes a write.
    pub pending: VecDeque<Pending>,
    pub pending_bytes: usize,
    /// Reads among them.
    pub deferred: usize,
    /// Of these, such as are answered with lists.
    pub deferred_lists: usize,
    /// More than may be unsent is: the reads in front wait for that.
    pub is_full: bool,
    /// Syncs among them whose moment has not come.
    pub syncs_under_way: u32,
    /// A reconfig was sent up and is not answered.
    pub reconfig_under_way: bool,
    /// A long read is among them: the last, for nothing behind it is looked at before it is answered.
    pub has_long: bool,
    /// It stands in the shard's queue of long reads.
    pub is_queued_long: bool,
    /// It came by the strict listener.
    pub strict: Option<Strict>,
    pub identities: Vec<Id>,
    /// The same as proposals carry them.
    pub identities_encoded: Vec<u8>,
    /// What was found of them so far.
    pub judged: Judged,
    pub last_heard: Millis,
    /// When it asked for a four-letter word.
    pub asked_word_at: Millis,
    pub is_heard: bool,
    pub established: Millis,
    pub received: u64,
    pub replied: u64,
    pub last_op: Option<OpCode>,
    pub last_xid: Xid,
    pub last_zxid: Zxid,
    pub last_response: Millis,
    pub latency: Latency,
}

impl Connection {
    pub(super) fn new(id: ConnId, peer: SocketAddr, now: Millis) -> Connection {
        let mut c = Connection {
            id,
            peer,
            phase: Phase::Fresh,
            session: SessionId::NONE,
            timeout_ms: 0,
            is_local: false,
            input: Vec::new(),
            input_ended: false,
            out: Vec::new(),
            sent: 0,
            is_dirty: false,
            events_alone: false,
            is_blocked: false,
            blocked_since: Millis(0),
            was_paused: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            deferred: 0,
            deferred_lists: 0,
            is_full: false,
            syncs_under_way: 0,
            reconfig_under_way: false,
            has_long: false,
            is_queued_long: false,
            strict: None,
            identities: Vec::new(),
            identities_encoded: Vec::new(),
            judged: Judged::default(),
            last_heard: now,
            asked_word_at: now,
            is_heard: false,
            established: now,
            received: 0,
            replied: 0,
            last_op: None,
            last_xid: Xid(-1),
            last_zxid: Zxid(-1),
            last_response: Millis(0),
            latency: Latency::default(),
        };
        c.add_identity(crate::auth::ip_identity(peer.ip()));
        c
    }

    /// Adds an identity that is not there yet. There is no way to take one away. They stand in the order of
    /// ZooKeeper's hash set: the scheme `auth` writes them into an ACL in that order, and getACL shows it.
    pub(super) fn add_identity(&mut self, id: Id) {
        if self.identities.contains(&id) {
            return;
        }
        self.judged = Judged::default();
        self.identities.push(id);
        let buckets = java_buckets(self.identities.len());
        self.identities.sort_by_key(|id| java_hash(id) & (buckets - 1));
        self.identities_encoded.clear();
        for id in &self.identities {
            put_string(&mut self.identities_encoded, &id.scheme);
            put_string(&mut self.identities_encoded, &id.id);
        }
    }

    /// Whether these may be added too: every write carries all of them into the log.
    pub(super) fn has_room_for(&self, more: &[Id], count_max: usize) -> bool {
        let new = more.iter().filter(|id| !self.identities.contains(id));
        let (count, bytes) = new.fold((0, 0), |(n, b), id| (n + 1, b + id.scheme.len() + id.id.len() + 8));
        count == 0
            || self.identities.len() + count <= count_max
                && self.identities_encoded.len() + bytes <= IDENTITY_BYTES_MAX
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Nothing more is read; what is queued is still written.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.input = Vec::new();
    }

    pub(super) fn has_nothing_to_say(&self) -> bool {
        let waits = matches!(self.phase, Phase::Word | Phase::Handshaking { .. });
        self.pending.is_empty() && self.sent >= self.out.len() && !waits
    }

    /// A reply was written to `out`.
    pub(super) fn note_reply(&mut self, now: Millis, since: Millis, zxid: Zxid) {
        self.replied += 1;
        self.last_zxid = zxid;
        self.last_response = now;
        self.latency.record(now.since(since));
    }

    pub(super) fn reset_stats(&mut self) {
        self.received = 0;
        self.replied = 0;
        self.latency = Latency::default();
    }

    pub(super) fn row(&self, now: Millis) -> ConnectionRow {
        ConnectionRow {
            peer: self.peer,
            queued: self.pending.len(),
            received: self.received,
            sent: self.replied,
            session: self.session,
            timeout_ms: self.timeout_ms,
            last_op: self.last_op.map_or("NA", OpCode::short_name),
            established_ms: now.since(self.established),
            last_xid: self.last_xid,
            last_zxid: self.last_zxid,
            last_response: self.last_response,
            latency: self.latency,
            is_blocked: self.is_blocked,
        }
    }
}

/// The buckets of a Java ConcurrentHashMap with `n` entries: it doubles when it is three quarters full.
fn java_buckets(n: usize) -> u32 {
    let mut buckets = 16;
    while n >= buckets as usize * 3 / 4 {
        buckets *= 2;
    }
    buckets
}

/// An Id's hash as that map spreads it.
fn java_hash(id: &Id) -> u32 {
    let text =
        |text: &str| text.encode_utf16().fold(0u32, |h, unit| h.wrapping_mul(31).wrapping_add(unit.into()));
    let hash =
        17u32.wrapping_mul(37).wrapping_add(text(&id.scheme)).wrapping_mul(37).wrapping_add(text(&id.id));
    hash ^ (hash >> 16)
}

/// A connection as an operator sees it.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    pub peer: SocketAddr,
    pub queued: usize,
    pub received: u64,
    pub sent: u64,
    /// NONE before the handshake.
    pub session: SessionId,
    pub timeout_ms: i32,
    pub last_op: &'static str,
    /// How long ago it connected.
    pub established_ms: Millis,
    pub last_xid: Xid,
    pub last_zxid: Zxid,
    /// On the host's monotonic clock.
    pub last_response: Millis,
    pub latency: Latency,
    /// Its socket takes no more bytes.
    pub is_blocked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_stand_in_the_order_that_was_seen_on_zookeeper() {
        let mut c = Connection::new(ConnId(1), "127.0.0.1:1".parse().expect("an address"), Millis(0));
        c.add_identity(Id::new("digest", "nocolon:Ra+cHr2ZoHvBjtNArFGNGlVie4g="));
        c.add_identity(Id::new("digest", "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E="));
        let users: Vec<_> =
            c.identities.iter().filter(|id| &*id.scheme == "digest").map(|id| &id.id[..5]).collect();
        assert_eq!(users, ["alice", "nocol"]);
    }
}
