//! What the operator said, checked once and then frozen.
//!
//! Sources, weakest first: our defaults; `-D` properties in `JVMFLAGS`; the `ZOO_*` variables of the official
//! image; a zoo.cfg; flags. **A given zoo.cfg wins over all `ZOO_*` variables together**, as in the image, where
//! the variables only generate a missing file. Each machine takes its own few options out of [`Config`] at the
//! door; nothing below this room reads a file or a variable.
//!
//! Every problem is one line that names source, key, value and what is accepted; all are found in one run.
//! Keys that ZooKeeper knows but that mean nothing here are accepted with one warning each.

mod describe;
mod ensemble;
pub mod env;
pub mod flags;
mod ignored;
mod keys;
mod load;
mod reader;
pub mod source;
pub mod zoo_cfg;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::membership::{PeerAddress, ServerEntry};
pub use ensemble::{Ensemble, PeerSecurity, StoreFile};
pub use flags::{parse_args, Command, InspectKind, ServeArgs};
pub use keys::preferred;
pub use load::{load, Sources, TextFile};
pub use source::{BadValue, Invalid, Source, Warning};

use crate::auth::DigestAlgorithm;
use crate::ids::{Millis, ServerId};

/// One checked configuration. Limits say what happens when they are met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The zoo.cfg that was read, for the line at start. None: no file.
    pub file: Option<PathBuf>,
    /// Alone: `ringkeeper.myid`, `ZOO_MY_ID` or the number of the single `server.N` line, 0 to 254, default 1.
    /// In an ensemble: these two or the file `myid` in `dataDir`, 1 to 254, no default. It is the top byte of the session ids
    /// made here.
    pub server_id: ServerId,
    /// The `server.N` lines and what belongs to them. None: this server is alone, with one participant's line or none.
    pub ensemble: Option<Ensemble>,
    /// `dataDir`. Default `./ringkeeper-data` (ZooKeeper has none and refuses to start).
    pub data_dir: PathBuf,
    /// `dataLogDir`, where the log lives. Default: `dataDir`, as in ZooKeeper.
    pub log_dir: PathBuf,
    /// `datadir.autocreate`, default true: a directory that is missing is made.
    /// Also off with `ZOO_DATADIR_AUTOCREATE_DISABLE=1`.
    pub create_missing_dirs: bool,
    /// `clientPortAddress` and `clientPort`, or the client part of this server's `server.N` line. Default `[::]:2181`,
    /// which listens for IPv4 too (Java does the same), or `0.0.0.0:2181` where the host has no IPv6. Port 0 takes a
    /// free one. ZooKeeper opens no port unless told; we open 2181.
    pub client_address: SocketAddr,
    /// `ringkeeper.strictClientPort`, 1 to 65535; none by default. A second listener, on the same address: each read of its
    /// connections waits for a round trip of the ensemble and shows all that anybody was told before it was sent.
    pub strict_client_port: Option<u16>,
    /// `clientPortListenBacklog`, 1 to 65535. Default (and -1) 4096: ZooKeeper's 50 loses connections in a
    /// reconnect storm. The kernel caps it at `net.core.somaxconn`; beyond it the kernel drops SYNs.
    pub listen_backlog: u32,
    /// `clientTcpKeepAlive`, default false as in ZooKeeper: pings find a dead client sooner.
    pub tcp_keep_alive: bool,
    /// Sessions and the unit of time.
    pub sessions: Sessions,
    /// What one client, or all, may use up.
    pub limits: Limits,
    /// The log, snapshots and purge.
    pub log: LogSettings,
    /// Options that decide results; the leader carries them in each batch.
    pub rules: Rules,
    /// The reaper of container and TTL nodes.
    pub containers: Containers,
    /// Who a connection is.
    pub auth: Auth,
    /// `4lw.commands.whitelist`.
    pub four_letter_words: FourLetterWords,
    /// `admin.*`: read and checked; this release has no AdminServer.
    pub admin: Admin,
    /// Threads and drivers.
    pub runtime: Runtime,
    /// `ringkeeper.logFormat` and `ringkeeper.logLevel`.
    pub logging: Logging,
    /// `readonlymode.enabled`, default false: a server of an ensemble that knows of no leader serves clients that ask for
    /// it (`localSessionsEnabled` is not needed for that, as it is in ZooKeeper). Alone, a server is read-only only on a
    /// full disk.
    pub read_only_mode: bool,
    /// `localSessionsEnabled`, default false: in an ensemble a session is known to its server alone, until it makes an
    /// ephemeral znode, which needs
    pub local_sessions: bool,
    /// `localSessionsUpgradingEnabled`, default false.
    pub local_sessions_upgrade: bool,
    /// `reconfigEnabled`, default false. A standalone server refuses `reconfig` either way, as ZooKeeper's does.
    pub reconfig_enabled: bool,
}

/// Time and sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sessions {
    /// `tickTime`, 1 to 3600000 ms. ZooKeeper's 3000 when a zoo.cfg does not say; 2000 without a file, as the
    /// official image writes.
    pub tick: Millis,
    /// `minSessionTimeout`, default (and -1) 2 ticks. A client that asks for less gets this.
    pub timeout_min: Millis,
    /// `maxSessionTimeout`, default (and -1) 20 ticks. A client that asks for more gets this.
    pub timeout_max: Millis,
    /// `nio.sessionlessCnxnTimeout`, default 10000 ms. A connection without a session by then is closed.
    pub handshake_timeout: Millis,
}

/// Every limit of the server, with what happens there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `jute.maxbuffer` in bytes, 4096 to 2147483647, default 1048575. A longer frame closes the connection before
    /// anything is allocated for it.
    pub frame_bytes_max: u32,
    /// `maxClientCnxns` per address, over all shards; 0 and less = no limit. ZooKeeper's default is 60; ours is 0, because 60
    /// is met by any node that hides many clients behind one address, and `maxCnxns` protects the server. A value
    /// in zoo.cfg or `ZOO_MAX_CLIENT_CNXNS` holds. Beyond it a connection is closed at accept, without bytes.
    pub connections_per_address_max: u32,
    /// `maxCnxns` in all. Default, 0 and (with a warning) less: as many as open files allow (ZooKeeper: no limit, until accept fails).
    /// Beyond it a connection is closed at accept, without bytes.
    pub connections_max: Option<u32>,
    /// `globalOutstandingLimit`: requests taken and not yet answered, in all. ZooKeeper's default is 1000, a few
    /// dozen pipelining clients; ours is 65536. Beyond it sockets are not read until replies have gone out.
    pub outstanding_max: u32,
    /// `ringkeeper.outstandingPerConnection`, 1 to 1000000, default 1000. Beyond it this socket is not read until
    /// replies have gone out.
    pub outstanding_per_connection_max: u32,
    /// `ringkeeper.maxSessions`, default 1000000. Beyond it a handshake for a new session is closed unanswered;
    /// re-attaching goes on.
    pub sessions_max: u32,
    /// `ringkeeper.maxWatchesPerConnection`, default 1000000. A request that would set one more is answered with
    /// ThrottledOp (-127); a setWatches, whose answer no client looks at, closes the connection.
    pub watches_per_connection_max: u32,
    /// `ringkeeper.maxWatchBytesPerConnection`: bytes of the watched paths, default 128 MiB. As above.
    pub watch_bytes_per_connection_max: u64,
    /// `ringkeeper.maxAclEntries` in one ACL, default 1000. More is InvalidACL (-114). An entry of the scheme `auth` counts as
    /// the entries that become of it: one for each identity that the client has proved.
    pub acl_entries_max: u32,
    /// `ringkeeper.maxMultiOps` in one multi or multiRead, default 100000, which a frame of the default size can not
    /// hold. More is BadArguments (-8).
    pub multi_ops_max: u32,
    /// `ringkeeper.maxIdentitiesPerConnection` that `auth` packets added, default 64. One more is AuthFailed (-115)
    /// and closes the connection.
    pub identities_per_connection_max: u32,
    /// `ringkeeper.slowReaderBufferBytes`, default 1 MiB: bytes queued for a client that does not read them. Beyond it
    /// its requests are not read until half is gone; watch events still queue.
    pub slow_reader_pause_bytes: u64,
    /// `ringkeeper.slowReaderMaxBytes`, default 64 MiB: beyond it the connection is closed. Its session lives on.
    pub slow_reader_close_bytes: u64,
    /// `ringkeeper.slowReaderTimeoutMs`, default 30000: a connection whose queue has not moved for so long is closed.
    pub slow_reader_timeout: Millis,
}

/// Durability, snapshots, purge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// `ringkeeper.segmentSizeKb`, 1024 to 1048576, a multiple of 4; else `txnLogSizeLimitInKb`; else `preAllocSize`;
    /// else 65536. ZooKeeper's two keys are brought into the range instead of being refused.
    pub segment_bytes: u64,
    /// `fsync.warningthresholdms`, default 1000: a slower durable write is reported.
    pub sync_warning: Millis,
    /// `snapCount`, at most 1000000000, default 100000: transactions between snapshots. Less than 2 becomes 2, with a
    /// warning, as in ZooKeeper.
    pub snapshot_after_txns: u64,
    /// `snapCount` is the default: a large tree waits for half as many transactions as it has znodes. Any other number
    /// is taken as it stands.
    pub snapshot_grows: bool,
    /// `snapSizeLimitInKb`, default 4194304; 0 or less = no such trigger: log bytes between snapshots.
    pub snapshot_after_bytes: Option<u64>,
    /// `autopurge.snapRetainCount`, default 3, raised to 3 silently as in ZooKeeper. Below `disk_reserve_bytes` the newest
    /// alone is kept.
    pub snapshots_kept: u32,
    /// `autopurge.purgeInterval` in hours (or with a unit: `30m`, `45s`, `1d`), default 1, ZooKeeper's 0 = off: a full disk
    /// is the commonest way to lose a ZooKeeper. None: an explicit 0, purge is off.
    pub purge_interval: Option<Millis>,
    /// `ringkeeper.diskReserveMb`, default two segments: with less free space the server turns read-only, and
    /// back by itself. Meanwhile each segment that is filled brings a snapshot: as long as one fits, what is refused, which goes
    /// through the log as well, does not fill the rest.
    pub disk_reserve_bytes: u64,
}

/// Options that decide results of writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// `skipACL`, default no: no ACL is checked.
    pub skip_acl: bool,
    /// `enforceQuota`, default false: hard quotas are refused with QuotaExceeded (-125), not only logged.
    pub enforce_quota: bool,
    /// `extendedTypesEnabled`, default false: TTL nodes.
    pub extended_types: bool,
}

/// The reaper. Its keys carry no `zookeeper.` prefix in ZooKeeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Containers {
    /// `znode.container.checkIntervalMs`, default 60000.
    pub check_interval: Millis,
    /// `znode.container.maxPerMinute` deletions, default 10000.
    pub deletions_per_minute_max: u32,
    /// `znode.container.maxNeverUsedIntervalMs`, default 0 = a container that never had a child stays (3.9).
    pub never_used_interval: Option<Millis>,
}

/// Authentication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// `DigestAuthenticationProvider.enabled`, default true.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.digestAlg`: SHA1 (default), SHA-224, SHA-256, SHA-384 or SHA-512.
    pub digest_algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`, `user:base64(hash)`: who authenticates as this passes every ACL.
    pub super_digest: Option<String>,
    /// `enforce.auth.enabled` and `enforce.auth.schemes`: a session must hold one of these schemes before it may do
    /// anything but `auth` and close. Empty: not enforced.
    pub enforced_schemes: Vec<String>,
}

/// `4lw.commands.whitelist`: a comma list or `*`. ZooKeeper allows `srvr` alone; ours is the harmless ones, because
/// every chart's probe asks `ruok` and every exporter `mntr`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FourLetterWords {
    /// The words that are answered.
    pub allowed: BTreeSet<&'static str>,
    /// `*` was given: ZooKeeper then answers the telnet escape too.
    pub all: bool,
}

impl FourLetterWords {
    /// All that ZooKeeper 3.9 knows.
    pub const KNOWN: [&'static str; 18] = [
        "ruok", "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dump", "envi", "wchs", "wchc",
        "wchp", "dirs", "gtmk", "stmk", "isro", "hash",
    ];
    /// Allowed unless the key says otherwise: cheap, and changing nothing.
    pub const DEFAULT: [&'static str; 8] = ["ruok", "srvr", "stat", "mntr", "isro", "conf", "dirs", "wchs"];

    /// Whether the word is answered.
    #[must_use]
    pub fn allows(&self, word: &str) -> bool {
        self.allowed.contains(word)
    }
}

/// ZooKeeper's HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// `admin.enableServer`, default true.
    pub enabled: bool,
    /// `admin.serverAddress`, default 0.0.0.0.
    pub address: String,
    /// `admin.serverPort`, default 8080.
    pub port: u16,
    /// `admin.commandURL`, default `/commands`.
    pub command_url: String,
    /// `admin.idleTimeout`, default 30000 ms.
    pub idle_timeout: Millis,
}

/// Threads and drivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Runtime {
    /// `ringkeeper.shards`, 1 to 64. None: `clamp(cpus - 1, 1, 4)`, found by the pre-flight.
    pub shards: Option<u16>,
    /// `ringkeeper.io`, default auto.
    pub io: Io,
    /// `ringkeeper.pin`, default auto.
    pub pin: Pin,
}

/// Which driver carries the shards' sockets and the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    /// What has served best so far: epoll.
    Auto,
    /// io_uring for both (glommio around the sockets), or the process ends with the reason.
    Uring,
    /// epoll; the log is written by a thread.
    Epoll,
}

/// Whether threads are bound to CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// When there is a CPU for each shard and one for the sequencer.
    Auto,
    /// Always; refused when there are fewer CPUs than threads.
    Always,
    /// Never.
    Never,
}

/// The log for the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logging {
    /// `ringkeeper.logFormat`, default text.
    pub format: LogFormat,
    /// `ringkeeper.logLevel`, or Bitnami's `ZOO_LOG_LEVEL`, default info.
    pub level: LogLevel,
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is logged at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Only what stops or endangers the server.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happened.
    Info,
    /// And why.
    Debug,
    /// And everything.
    Trace,
}

impl LogLevel {
    /// As `tracing` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}
