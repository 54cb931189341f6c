//! The plain copies that answers are made of.

use crate::config::Config;
use crate::ids::{Millis, SessionId, ShardId, WallMillis, Zxid};
use crate::membership::ServerEntry;
use crate::shard::{ConnectionRow, Stats};
use crate::tree::Path;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that an answer may say. What a word does not need may be left empty.
#[derive(Clone, Debug)]
pub struct View {
    pub build: Build,
    pub config: Arc<Config>,
    /// The port that was taken: the configured one may be 0.
    pub client_port: u16,
    pub serving: bool,
    pub role: Role,
    /// The other servers that this one has a connection with.
    pub peers: u64,
    /// Of a leader.
    pub leading: Leading,
    /// Sessions that this server alone knows.
    pub local_sessions: u64,
    /// Who the members are; none alone, and before the first leader has said so.
    pub members: Option<Members>,
    /// The moment of the answer.
    pub wall: WallMillis,
    pub uptime: Millis,
    pub totals: Totals,
    /// Connections that each shard holds: how evenly the kernel spreads them.
    pub connections_by_shard: Vec<u64>,
    pub connections: Vec<ConnectionRow>,
    /// The data table of watches: who watches which path.
    pub watches: BTreeMap<Path, BTreeSet<SessionId>>,
    pub sessions: Sessions,
    /// The history's digests at every 128th zxid, oldest first.
    pub digests: Vec<(Zxid, u64)>,
    pub files: Files,
    pub process: Process,
    /// None for a `stmk` that came without one.
    pub trace_mask: Option<i64>,
    /// Shards whose part is missing, because they did not answer in time. The text says so at its end.
    pub silent: Vec<ShardId>,
    /// The sequencer did not answer in time.
    pub sequencer_is_silent: bool,
    /// More counters for `mntr`, by ZooKeeper's name without `zk_`.
    pub counters: Vec<(Cow<'static, str>, u64)>,
    pub summaries: Vec<Summary>,
}

/// What a server is among others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Role {
    #[default]
    Standalone,
    Leader,
    Follower,
    Observer,
    /// Nobody leads that it knows of.
    Looking,
    /// The same, and clients that ask for it are served what is there.
    ReadOnly,
}

impl Role {
    /// As `Mode:` and `zk_server_state` say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Standalone => "standalone",
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Observer => "observer",
            Role::Looking => "leaderelection",
            Role::ReadOnly => "read-only",
        }
    }
}

/// What a leader alone knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leading {
    /// Followers and observers that have all that it sends.
    pub synced: [u64; 2],
    /// Since it leads.
    pub uptime: Millis,
    /// Syncs, of its own clients, whose moment has not come.
    pub pending_syncs: u64,
    /// Bytes of the entries that this run of the server has proposed, of the last, the least and the largest one; none yet.
    pub proposal_sizes: Option<[u64; 3]>,
}

/// What was built.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Ours.
    pub version: &'static str,
    pub commit: &'static str,
    /// As `MM/DD/YYYY HH:MM UTC`: the Go client parses this form alone.
    pub date: &'static str,
}

/// The members of the ensemble, as its state has them.
#[derive(Clone, Debug)]
pub struct Members {
    /// Ascending by id.
    pub servers: Vec<ServerEntry>,
    pub version: Zxid,
    /// How many votes count: a member that has not caught up yet has none.
    pub voters: usize,
}

/// All shards' counters together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub shards: usize,
    pub stats: Stats,
    pub outstanding: usize,
    pub last_zxid: Zxid,
    pub nodes: usize,
    pub data_bytes: u64,
    pub ephemerals: usize,
    pub watches: usize,
    /// Connections, paths and registrations of the data table.
    pub watch_summary: (usize, usize, usize),
    pub sessions: usize,
}

/// What the sequencer knows of sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// When sessions end, by the moment, and which.
    pub buckets: Vec<(WallMillis, Vec<SessionId>)>,
    /// The same of local sessions, where there may be any.
    pub local_buckets: Option<Vec<(WallMillis, Vec<SessionId>)>>,
    /// Where another server decides when sessions end: all of them, ascending, and their timeouts in milliseconds.
    pub timeouts: Option<Vec<(SessionId, i32)>>,
    /// Sessions with ephemerals, and these.
    pub ephemerals: Vec<(SessionId, Vec<Path>)>,
}

/// Where things are and how large.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub data_dir: String,
    pub log_dir: String,
    pub data_bytes: u64,
    pub log_bytes: u64,
}

/// What the operating system says of this process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub open_files: u64,
    pub open_files_max: u64,
    pub host_name: String,
    pub os_version: String,
    pub user_name: String,
    pub user_home: String,
    pub user_dir: String,
    /// In bytes: what may still be used, what may be used at the most, what is used.
    pub memory_free: u64,
    pub memory_max: u64,
    pub memory_used: u64,
}

/// Least, most, count and sum of something measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// ZooKeeper's name, without `zk_` and `avg_`.
    pub name: &'static str,
    pub count: u64,
    pub sum: u64,
    pub min: u64,
    pub max: u64,
}
