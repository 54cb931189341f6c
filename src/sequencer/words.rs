//! What a sequencer is told, and what it says: its options, inputs, effects and notes.

use super::consensus::{Install, Logged};
use crate::apply::{Options as TxnOptions, OverQuota, SnapshotHead, State};
use crate::handoff::{Publication, Upward};
use crate::ids::{LogIndex, Millis, Seat, ServerId, SessionId, Term, WallMillis};
use crate::membership::{PeerAddress, Refusal, ServerEntry};
use crate::peer::{Addressed, Message};
use crate::tree::Node;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the sequencer was told at its start. It reads no other configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub server: ServerId,
    /// The seat that it has, or none yet. Alone: the first one.
    pub seat: Seat,
    /// Its data directory's own id.
    pub birth: u128,
    /// The version of apply's rules that this release knows.
    pub rules: u32,
    /// The server lines of its configuration: what the first leader shows the clients. Who is a member stands in the state.
    pub lines: BTreeMap<ServerId, ServerEntry>,
    /// ZooKeeper's syncLimit times tickTime: a follower without a leader for longer serves nobody.
    pub leaderless_ms: u64,
    /// `localSessionsEnabled`: in an ensemble a new session is known to its server alone.
    pub local_sessions: bool,
    /// `localSessionsUpgradingEnabled`: it enters the state when it makes an ephemeral znode.
    pub local_sessions_upgrade: bool,
    /// `readonlymode.enabled`: without a leader clients that ask for it are served with what is here.
    pub read_only_mode: bool,
    /// This run of the server: drawn by the host, so that a restart owns no session.
    pub incarnation: u64,
    /// Drawn by the host: session passwords and election timeouts come from it.
    pub seed: [u8; 32],
    /// The options that decide results, as they go into each batch.
    pub txn: TxnOptions,
    /// ZooKeeper's tickTime: the width of an expiry bucket.
    pub tick_ms: u64,
    /// How many shards report what they hear.
    pub shards: usize,
    /// A snapshot is taken after this many transactions, or this many bytes of log, whichever comes first.
    pub snapshot_txns: u64,
    pub snapshot_bytes: u64,
    /// A large tree waits for half as many transactions as it has znodes: what a snapshot costs a transaction then stays
    /// the same however large the tree is (two znodes written), and a restart replays at most half as many as there are
    /// znodes.
    pub snapshot_grows: bool,
    /// `znode.container.checkIntervalMs`, `maxPerMinute`, `maxNeverUsedIntervalMs` (0: never).
    pub reap_interval_ms: u64,
    pub reap_per_minute: u64,
    pub reap_never_used_ms: u64,
    /// Groups of batches under way, at the most: not yet durable, or not yet committed for a short time. The next one
    /// gathers meanwhile.
    pub in_flight_max: usize,
}

/// Whether clients are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Serving {
    /// Nobody.
    #[default]
    No,
    /// Those that ask for it, with the state as it is here: nobody leads.
    ReadOnly,
    /// This server has applied all that was acknowledged before its time, and knows, or knew until a moment ago, who leads.
    Yes,
}

/// A moment, on both clocks of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub mono: Millis,
    pub wall: WallMillis,
}

/// What can happen to a sequencer.
#[derive(Debug)]
pub enum Input {
    /// Time passes. At least every `TICK_MS`, or the server counts as stalled.
    Tick,
    /// So many ticks of an ensemble's have passed before the one that comes, because `quiet_ticks` let the host sleep; of
    /// what has come meanwhile nothing was handed in yet.
    Slept { ticks: u64 },
    /// What a shard gathered.
    Up(Upward),
    /// The log holds this many of the records that were handed to it since the start.
    Persisted { records: u64 },
    /// The payload of an entry, as `Effect::Read` asked.
    Read { index: LogIndex, payload: Bytes },
    /// The snapshot is on disk, or is given up.
    SnapshotDone { written: bool },
    /// The log holds entries from this one on: what is older is needed no more.
    Purged { first: LogIndex },
    /// The state of a snapshot that was to be fetched, which is on disk now; or it could not be had.
    Fetched { index: LogIndex, state: Option<Box<State>> },
    /// The disk's low mark was passed, one way or the other.
    Space { low: bool },
    /// The connection to a server is up, and it has shown who it is, with which data directory, and which version of
    /// apply's rules it knows.
    PeerUp { peer: ServerId, birth: u128, rules: u32 },
    /// This server wants to be a member, with the line of its configuration.
    Join,
    /// This server wants to be none any more.
    Leave,
    /// The data directory knows its new seat, as `Effect::Seat` asked.
    Seated(Seat),
    /// It is gone.
    PeerDown(ServerId),
    /// What a server said on it.
    Peer { from: ServerId, message: Message },
}

/// What a sequencer wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Write a record. They are counted from 1 in this order.
    Append(Logged),
    /// Read an entry's payload back from the log.
    Read {
        index: LogIndex,
    },
    /// Say this to a server; it is dropped where there is no connection. An entry without payload is read from the log.
    Send(Addressed),
    /// Hand this to every shard, then raise the shared counter to its number.
    Publish(Arc<Publication>),
    /// A snapshot begins; its znodes follow in parts, in no order.
    SnapshotBegin {
        index: LogIndex,
        term: Term,
        head: Box<SnapshotHead>,
    },
    SnapshotNodes(Vec<Vec<Node>>),
    SnapshotEnd,
    /// The snapshot under way is given up: no part of it comes any more.
    SnapshotAbort,
    /// Fetch the snapshot that ends with this entry from a server, put it on disk and read it. A later fetch takes its place.
    Fetch {
        from: ServerId,
        index: LogIndex,
        term: Term,
        /// Where that server says that it listens: this one's configuration may not know it.
        listens: Vec<PeerAddress>,
    },
    /// Write down which seat this data directory has, before anything else is done.
    Seat(Seat),
    /// Forget all records and go on behind a fetched snapshot. It counts as a record, and all before it count as durable
    /// with it. The former state is to be dropped where it holds up nobody.
    Install {
        at: Install,
        former: Box<State>,
    },
    /// A fetched state that nobody needs any more, to be dropped where it holds up nobody.
    Discard(Box<State>),
    /// For the operator.
    Note(Note),
}

/// What an operator should hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    BecameLeader {
        term: Term,
    },
    /// Another server leads.
    Follows {
        leader: ServerId,
        term: Term,
    },
    /// Nobody leads that this server knows of.
    Leaderless,
    /// All go on with rules of a newer release, which this one does not know: it must stop.
    UnknownRules {
        version: u32,
    },
    /// This server is a member, as it wanted.
    Joined,
    /// This server is no member any more, and nobody waits for it.
    Left,
    /// A reconfig of a client of this server's, or one that this server as the leader gave up.
    ReconfigRefused(Refusal),
    /// Clients are turned away until there is a leader.
    StoppedServing,
    /// For so long nothing of what the ensemble had done was known to be applied here: clients are turned away until it is.
    FellBehind {
        behind: Millis,
    },
    /// Nobody leads: those that ask for it are served read-only, all others are turned away.
    ServesReadOnly,
    /// A server said what no honest one says; it was dropped.
    Nonsense {
        from: ServerId,
        why: &'static str,
    },
    /// A server's state is another one than this server's, at this entry.
    Differs {
        server: ServerId,
        index: LogIndex,
    },
    /// Most voters' state is another one: this server is wrong, and must stop.
    IsWrong {
        index: LogIndex,
    },
    SessionExpired {
        session: SessionId,
    },
    Stalled {
        forgiven: Millis,
    },
    ReadOnly {
        low: bool,
    },
    /// A client of this server passed a quota's limit, or was refused.
    OverQuota(OverQuota),
}
