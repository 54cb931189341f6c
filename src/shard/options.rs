//! What a shard is told at its start, and what it tells the operator.

use crate::auth::Schemes;
use crate::ids::{ServerId, ShardId};
use crate::watch;
use std::net::SocketAddr;

/// What a shard was told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub server: ServerId,
    pub incarnation: u64,
    pub shard: ShardId,
    /// `jute.maxbuffer`: the longest request frame.
    pub frame_bytes_max: usize,
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    /// A connection that has no session after this long is closed (`nio.sessionlessCnxnTimeout`).
    pub handshake_timeout_ms: u64,
    /// Requests of one connection that are not answered yet; beyond it the connection is not read.
    pub outstanding_per_connection_max: usize,
    /// The same for all of a shard's connections (`globalOutstandingLimit`, shared out among shards).
    pub outstanding_max: usize,
    /// Unsent bytes at which a connection is no longer read, and at which it is cut.
    pub unsent_pause_bytes: usize,
    pub unsent_cut_bytes: usize,
    /// A connection that has taken no byte for this long, with bytes waiting, is cut.
    pub unsent_cut_ms: u64,
    /// While so many bytes wait for full sockets, of all connections together, no long read is answered.
    pub unsent_long_bytes: usize,
    /// Sessions of the server, at the most; beyond it new ones are refused by closing.
    pub sessions_max: usize,
    pub acl_entries_max: usize,
    pub multi_ops_max: usize,
    pub identities_max: usize,
    pub watch_limits: watch::Limits,
    pub schemes: Schemes,
    pub skip_acl: bool,
    /// `enforce.auth.enabled`: a connection must have an identity of one of these schemes before anything else.
    pub required_schemes: Option<Vec<Box<str>>>,
    /// How often a shard reports what it heard.
    pub report_ms: u64,
    pub slices: Slices,
}

/// How many watchers of one change are told at a time.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    /// Up to this many are told at once; more are a crowd.
    pub at_once_max: usize,
    /// How many of a crowd are told in a slice: few enough that each is still in the cache when it is written to.
    pub slice: usize,
}

impl Default for Slices {
    fn default() -> Slices {
        Slices { at_once_max: 64, slice: 64 }
    }
}

/// What the operator should hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A connection was closed for a fault of its own.
    Cut { peer: SocketAddr, why: Why },
}

/// Why a connection was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Why {
    BadLength,
    BadHandshake,
    ZxidAhead,
    TooManySessions,
    NoHandshake,
    /// The answer to its four-letter word did not find its way back in time.
    NoAnswer,
    SlowReader,
    TooManyWatches,
    UnknownOperation,
    AuthFailed,
    AuthRequired,
    SessionMoved,
    NotServing,
    ServesReadOnly,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::BadLength => "its frame length is negative or above jute.maxbuffer",
            Why::BadHandshake => "its connect request does not decode",
            Why::ZxidAhead => "it has seen a later zxid than this server: it will find a fresher one",
            Why::TooManySessions => "there are as many sessions as ringkeeper.maxSessions allows",
            Why::NoAnswer => "the answer to its four-letter word came too late",
            Why::NoHandshake => "it sent no connect request in time (nio.sessionlessCnxnTimeout)",
            Why::SlowReader => "it does not read its replies and events",
            Why::TooManyWatches => {
                "it sets more watches anew than ringkeeper.maxWatchesPerConnection or its bytes allow"
            }
            Why::UnknownOperation => "it asked for an operation that does not exist or is not a client's",
            Why::AuthFailed => "its auth packet was refused",
            Why::AuthRequired => "it did not authenticate first (enforce.auth.schemes)",
            Why::SessionMoved => "its session has moved to another connection",
            Why::NotServing => "the server does not serve yet",
            Why::ServesReadOnly => {
                "the server knows of no leader and serves only new sessions that ask for read-only mode"
            }
        })
    }
}
