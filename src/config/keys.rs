//! Every key: its form, its range, its default. One reader walks over what was given; what it does not ask for is
//! ZooKeeper's but idle here, or unknown, and is named once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::ensemble::{read_ensemble, read_members, OwnClient};
use super::reader::{millis, wide, Reader, BYTES, KIB, MAX, MILLIS};
use super::source::{printable, Given, Invalid, Warning};
use super::{
    Admin, Auth, Config, Containers, FourLetterWords, Io, Limits, LogFormat, LogLevel, LogSettings, Logging,
    Pin, Rules, Runtime, Sessions,
};
use crate::auth::DigestAlgorithm;
use crate::membership::parse_client;

/// Turns what was given into a checked configuration and what to warn about.
pub fn check(mut reader: Reader, file: Option<PathBuf>) -> Result<(Config, Vec<Warning>), Invalid> {
    let config = read_config(&mut reader, file);
    reader.warn_about_the_rest();
    if reader.problems.is_empty() {
        Ok((config, reader.warnings))
    } else {
        Err(Invalid { values: reader.problems })
    }
}

/// `dataDir`, when nobody names one.
pub const DATA_DIR: &str = "./ringkeeper-data";

fn read_config(r: &mut Reader, file: Option<PathBuf>) -> Config {
    let data_dir = r.directory("dataDir").unwrap_or_else(|| PathBuf::from(DATA_DIR));
    let log_dir = r.directory("dataLogDir").unwrap_or_else(|| data_dir.clone());
    let members = read_members(r, &data_dir);
    let client_address = read_client_address(r, members.own_client);
    let sessions = read_sessions(r, file.is_some());
    let mut ensemble = read_ensemble(r, members.own_id, members.servers, sessions.tick);
    if let Some(ensemble) = &mut ensemble {
        // A flag may have moved the listener, and the list tells clients where it is.
        for own in ensemble.servers.iter_mut().filter(|server| server.id == members.own_id) {
            own.client.iter_mut().for_each(|(_, port)| *port = client_address.port());
        }
    }
    let limits = read_limits(r);
    let log = read_log(r);
    let rules = read_rules(r);
    let auth = read_auth(r);
    let read_only_mode = r.boolean("readonlymode.enabled").unwrap_or(false);
    Config {
        file,
        server_id: members.own_id,
        ensemble,
        log_dir,
        create_missing_dirs: r.boolean("datadir.autocreate").unwrap_or(true),
        data_dir,
        client_address,
        strict_client_port: read_strict_port(r, client_address),
        listen_backlog: r
            .number("clientPortListenBacklog", "a whole number of connections", -1..=65535)
            .filter(|&backlog| backlog > 0)
            .map_or(4096, small),
        tcp_keep_alive: r.boolean("clientTcpKeepAlive").unwrap_or(false),
        sessions,
        limits,
        log,
        rules,
        containers: Containers {
            check_interval: r.millis("znode.container.checkIntervalMs", 1, 60_000),
            deletions_per_minute_max: r
                .property("znode.container.maxPerMinute", "a whole number of deletions", 1..=100_000_000)
                .map_or(10_000, small),
            never_used_interval: Some(r.millis("znode.container.maxNeverUsedIntervalMs", 0, 0))
                .filter(|interval| interval.0 > 0),
        },
        auth,
        four_letter_words: read_four_letter_words(r, read_only_mode),
        admin: read_admin(r),
        runtime: Runtime {
            shards: r
                .number("ringkeeper.shards", "a whole number of shards", 1..=64)
                .map(|shards| u16::try_from(shards).expect("the range fits")),
            io: r
                .word("ringkeeper.io", &[("auto", Io::Auto), ("uring", Io::Uring), ("epoll", Io::Epoll)])
                .unwrap_or(Io::Auto),
            pin: r
                .word("ringkeeper.pin", &[("auto", Pin::Auto), ("true", Pin::Always), ("false", Pin::Never)])
                .unwrap_or(Pin::Auto),
        },
        logging: read_logging(r),
        read_only_mode,
        local_sessions: r.boolean("localSessionsEnabled").unwrap_or(false),
        local_sessions_upgrade: r.boolean("localSessionsUpgradingEnabled").unwrap_or(false),
        reconfig_enabled: r.boolean("reconfigEnabled").unwrap_or(false),
    }
}

fn read_strict_port(r: &mut Reader, client: SocketAddr) -> Option<u16> {
    let key = "ringkeeper.strictClientPort";
    let port = r.number(key, "a port number", 1..=65535).map(port_number)?;
    if port == client.port() {
        r.refuse_key(key, format!("expected another port than clientPort, which is {port}"));
    }
    Some(port)
}

fn read_client_address(r: &mut Reader, server: Option<OwnClient>) -> SocketAddr {
    let port = r.number("clientPort", "a port number", 0..=65535).map(port_number);
    let listen = r.take("clientPortAddress");
    let secure = r.number("secureClientPort", "a port number", 0..=65535);
    r.asked.insert("secureClientPortAddress");
    if let Some(given) =
        r.given.get("secureClientPort").cloned().filter(|_| secure.is_some_and(|port| port > 0))
    {
        // With a plain port beside it the plain clients can be served; without one, opening a plain port that
        // nobody asked for would put on the network what was meant to be encrypted.
        if port.is_some() || server.is_some() {
            r.warn(&given.source, "secureClientPort is not opened: this release has no TLS".to_owned());
        } else {
            r.refuse(
                "secureClientPort",
                &given,
                "not in this release, which has no TLS: give clientPort".to_owned(),
            );
        }
    }
    let (mut host, mut from_server) = (None, None);
    if let Some(OwnClient { key, given, address, port: server_port }) = server {
        // Two ports in one place are a mistake; a clientPort from a stronger place, as a flag is, simply wins.
        let together = r.given.get("clientPort").is_some_and(|other| {
            std::mem::discriminant(&other.source) == std::mem::discriminant(&given.source)
        });
        if together && port.is_some_and(|port| port != server_port) {
            r.refuse(
                &key,
                &given,
                format!("its client port is not clientPort, which is {}", port.unwrap_or(0)),
            );
        }
        host = address.map(|host| Listen {
            host,
            what: "an address of this host behind the semicolon",
            key,
            given,
        });
        from_server = Some(server_port);
    }
    let mut with_port = None;
    if let Some(given) = listen {
        match listen_address(&given.value) {
            Some((address, port)) => {
                let key = "clientPortAddress".to_owned();
                host = Some(Listen { host: address, what: "an address of this host", key, given });
                with_port = port;
            }
            None => r.refuse("clientPortAddress", &given, "expected address or address:port".to_owned()),
        }
    }
    let port = with_port.or(port).or(from_server).unwrap_or(2181);
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let Some(Listen { host, what, key, given }) = host else { return any };
    match resolve(&host, port) {
        Ok(address) => address,
        Err(why) => {
            r.refuse(&key, &given, format!("expected {what}: {why}"));
            any
        }
    }
}

/// Where clients are listened for, and where that stands: in a key of its own, or in this server's line.
struct Listen {
    host: String,
    what: &'static str,
    key: String,
    given: Given,
}

/// `--listen 127.0.0.1:2181` is what people type; a bare IPv6 address has colons too.
fn listen_address(text: &str) -> Option<(String, Option<u16>)> {
    if text.parse::<IpAddr>().is_ok() || !text.contains(':') {
        return Some((text.to_owned(), None));
    }
    let (address, port) = parse_client(text).ok()?;
    Some((address?, Some(port)))
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("that is no name".to_owned());
    }
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect();
    preferred(&found).ok_or_else(|| "the name has no address".to_owned())
}

/// The first IPv4 address of a name, as Java's `InetAddress.getByName` takes it: on many hosts `localhost` is `::1` first,
/// and who says it means 127.0.0.1 too. A name without one: its first address.
pub fn preferred(found: &[SocketAddr]) -> Option<SocketAddr> {
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

fn read_sessions(r: &mut Reader, has_file: bool) -> Sessions {
    let tick = r.number("tickTime", MILLIS, 1..=3_600_000).unwrap_or(if has_file { 3000 } else { 2000 });
    let bound = |r: &mut Reader, key, ticks: i64| {
        r.number(key, MILLIS, -1..=MAX)
            .filter(|&bound| bound != -1)
            .unwrap_or_else(|| tick.saturating_mul(ticks).min(MAX))
            .max(1)
    };
    let timeout_min = bound(r, "minSessionTimeout", 2);
    let timeout_max = bound(r, "maxSessionTimeout", 20);
    if timeout_min > timeout_max {
        let key =
            if r.given.contains_key("minSessionTimeout") { "minSessionTimeout" } else { "maxSessionTimeout" };
        let expected = format!(
            "minSessionTimeout must not be larger than maxSessionTimeout: {timeout_min} > {timeout_max} milliseconds \
             (defaults: 2 and 20 ticks of {tick})"
        );
        r.refuse_key(key, expected);
    }
    Sessions {
        tick: millis(tick),
        timeout_min: millis(timeout_min),
        timeout_max: millis(timeout_max),
        handshake_timeout: r.millis("nio.sessionlessCnxnTimeout", 1, 10_000),
    }
}

fn read_limits(r: &mut Reader) -> Limits {
    // ZooKeeper's parser reads it itself, and only a limit above 0 is one.
    let connections_per_address_max =
        small(r.number("maxClientCnxns", CONNECTIONS, -MAX..=MAX).unwrap_or(0).max(0));
    let connections_max = r.property("maxCnxns", CONNECTIONS, -MAX..=MAX).unwrap_or(0);
    if connections_max < 0 {
        r.warn_key("maxCnxns", format!("maxCnxns={connections_max} is taken for 0, as in ZooKeeper"));
    }
    let mut own =
        |key, what, range: RangeInclusive<i64>, default| r.property(key, what, range).unwrap_or(default);
    const GIB_64: i64 = 64 << 30;
    let pause = own("ringkeeper.slowReaderBufferBytes", BYTES, 4096..=1 << 30, 1 << 20);
    let close = own("ringkeeper.slowReaderMaxBytes", BYTES, 4096..=1 << 30, (64 << 20).max(pause));
    let limits = Limits {
        frame_bytes_max: small(own("jute.maxbuffer", BYTES, 4096..=0x7fff_ffff, 0xf_ffff)),
        connections_per_address_max,
        connections_max: Some(small(connections_max.max(0))).filter(|&n| n > 0),
        outstanding_max: small(own("globalOutstandingLimit", "a whole number of requests", 1..=MAX, 65_536)),
        outstanding_per_connection_max: small(own(
            "ringkeeper.outstandingPerConnection",
            "a whole number of requests",
            1..=1_000_000,
            1000,
        )),
        sessions_max: small(own("ringkeeper.maxSessions", "a whole number of sessions", 1..=MAX, 1_000_000)),
        watches_per_connection_max: small(own(
            "ringkeeper.maxWatchesPerConnection",
            "a whole number of watches",
            1..=MAX,
            1_000_000,
        )),
        watch_bytes_per_connection_max: wide(own(
            "ringkeeper.maxWatchBytesPerConnection",
            BYTES,
            4096..=GIB_64,
            128 << 20,
        )),
        acl_entries_max: small(own(
            "ringkeeper.maxAclEntries",
            "a whole number of entries",
            1..=1_000_000,
            1000,
        )),
        multi_ops_max: small(own("ringkeeper.maxMultiOps", "a whole number of operations", 1..=MAX, 100_000)),
        identities_per_connection_max: small(own(
            "ringkeeper.maxIdentitiesPerConnection",
            "a whole number of identities",
            1..=100_000,
            64,
        )),
        slow_reader_pause_bytes: wide(pause),
        slow_reader_close_bytes: wide(close),
        slow_reader_timeout: r.millis("ringkeeper.slowReaderTimeoutMs", 1, 30_000),
    };
    if pause > close {
        let expected = format!("expected at least ringkeeper.slowReaderBufferBytes, which is {pause}");
        r.refuse_key("ringkeeper.slowReaderMaxBytes", expected);
    }
    limits
}

const CONNECTIONS: &str = "a whole number of connections";

/// The default of `snapCount`, as in ZooKeeper.
const SNAP_COUNT: i64 = 100_000;
/// What less becomes, as in ZooKeeper.
const SNAP_COUNT_MIN: i64 = 2;

fn read_log(r: &mut Reader) -> LogSettings {
    let segment_kib = read_segment_kib(r);
    let segment_bytes = wide(segment_kib) * 1024;
    if r.yes_no("forceSync") == Some(false) {
        let text =
            "forceSync=no has no effect in ringkeeper: each write is on the disk before it is acknowledged";
        r.warn_key("forceSync", text.to_owned());
    }
    if r.boolean("snapshot.trust.empty") == Some(true) {
        let text = "snapshot.trust.empty=true has no effect in ringkeeper: the log tells by itself whether it is whole \
                    without a snapshot, and without one that it needs the server does not start";
        r.warn_key("snapshot.trust.empty", text.to_owned());
    }
    let asked =
        r.property("snapCount", "a whole number of transactions", -MAX..=1_000_000_000).unwrap_or(SNAP_COUNT);
    let snap_count = asked.max(SNAP_COUNT_MIN);
    if snap_count != asked {
        r.warn_key("snapCount", format!("snapCount={asked} becomes {snap_count}, as in ZooKeeper"));
    }
    LogSettings {
        segment_bytes,
        sync_warning: r.millis("fsync.warningthresholdms", 0, 1000),
        snapshot_after_txns: wide(snap_count),
        snapshot_grows: snap_count == SNAP_COUNT,
        snapshot_after_bytes: Some(
            r.property("snapSizeLimitInKb", KIB, i64::MIN..=1 << 40).unwrap_or(4_194_304),
        )
        .filter(|&limit| limit > 0)
        .map(|limit| wide(limit) * 1024),
        snapshots_kept: r
            .number("autopurge.snapRetainCount", "a whole number of snapshots", -MAX..=MAX)
            .map_or(3, |count| small(count.max(3))),
        purge_interval: r.purge_interval(),
        disk_reserve_bytes: r
            .property("ringkeeper.diskReserveMb", "a whole number of MiB", 1..=1 << 20)
            .map_or(segment_bytes * 2, |reserve| wide(reserve) << 20),
    }
}

fn read_segment_kib(r: &mut Reader) -> i64 {
    const RANGE: RangeInclusive<i64> = 1024..=1_048_576;
    let own = r.property("ringkeeper.segmentSizeKb", KIB, RANGE);
    if own.is_some_and(|kib| kib % 4 != 0) {
        r.refuse_key("ringkeeper.segmentSizeKb", "expected a multiple of 4, 1024 to 1048576 KiB".to_owned());
    }
    // Both are read in any case, so that both are checked; txnLogSizeLimitInKb is the nearer relative. ZooKeeper reads the
    // first one with Long.parseLong, the other with Long.getLong.
    const THEIRS: RangeInclusive<i64> = -MAX..=i64::MAX / 1024;
    let pre_alloc = r.number("preAllocSize", KIB, THEIRS);
    let limit = r.property("txnLogSizeLimitInKb", KIB, THEIRS);
    let theirs = [("preAllocSize", pre_alloc), ("txnLogSizeLimitInKb", limit)].map(|(key, kib)| {
        kib.filter(|&kib| kib > 0).map(|kib| {
            let fit = kib.clamp(*RANGE.start(), *RANGE.end()) / 4 * 4;
            if own.is_none() && fit != kib {
                r.warn_key(key, format!("{key}={kib} becomes a log segment of {fit} KiB"));
            }
            fit
        })
    });
    own.or(theirs[1]).or(theirs[0]).unwrap_or(65_536)
}

fn read_rules(r: &mut Reader) -> Rules {
    let rules = Rules {
        skip_acl: r.yes_no("skipACL").unwrap_or(false),
        enforce_quota: r.boolean("enforceQuota").unwrap_or(false),
        extended_types: r.boolean("extendedTypesEnabled").unwrap_or(false),
    };
    if rules.skip_acl {
        r.warn_key("skipACL", "skipACL=yes: every client may read and change every znode".to_owned());
    }
    rules
}

fn read_auth(r: &mut Reader) -> Auth {
    const ALGORITHM: &str = "DigestAuthenticationProvider.digestAlg";
    let given = r.take(ALGORITHM);
    let digest_algorithm = given.as_ref().and_then(|given| DigestAlgorithm::parse(&given.value));
    if let Some(given) = given.filter(|_| digest_algorithm.is_none()) {
        r.refuse(ALGORITHM, &given, "expected SHA1, SHA-224, SHA-256, SHA-384 or SHA-512".to_owned());
    }
    let digest_enabled = r.boolean("DigestAuthenticationProvider.enabled").unwrap_or(true);
    let super_digest =
        r.take("DigestAuthenticationProvider.superDigest").filter(|given| !given.value.is_empty());
    if let Some(given) = super_digest.as_ref().filter(|given| !given.value.contains(':')) {
        let expected = "expected user:base64(hash of user:password)".to_owned();
        r.refuse("DigestAuthenticationProvider.superDigest", given, expected);
    }
    Auth {
        digest_enabled,
        digest_algorithm: digest_algorithm.unwrap_or_default(),
        super_digest: super_digest.map(|given| given.value),
        enforced_schemes: read_enforced_schemes(r, digest_enabled),
    }
}

/// What would be silently open without this release's missing schemes is refused.
fn read_enforced_schemes(r: &mut Reader, digest_enabled: bool) -> Vec<String> {
    if let Some(given) = r.take("requireClientAuthScheme").filter(|given| !given.value.is_empty()) {
        r.refuse(
            "requireClientAuthScheme",
            &given,
            "not in this release, which has no SASL: enforce.auth.schemes=digest asks every client for a digest identity"
                .to_owned(),
        );
    }
    if r.boolean("sessionRequireClientSASLAuth") == Some(true) {
        let expected = "not in this release, which has no SASL: nobody could use the server";
        r.refuse_key("sessionRequireClientSASLAuth", expected.to_owned());
    }
    let enforced = r.boolean("enforce.auth.enabled").unwrap_or(false);
    let schemes = r.take("enforce.auth.schemes");
    if !enforced {
        return Vec::new();
    }
    let Some(given) = schemes.filter(|given| !given.value.is_empty()) else {
        r.refuse_key("enforce.auth.enabled", "expected enforce.auth.schemes beside it".to_owned());
        return Vec::new();
    };
    let known: &[&str] = if digest_enabled { &["digest", "ip", "world"] } else { &["ip", "world"] };
    let schemes: Vec<String> = words(&given.value).map(str::to_owned).collect();
    if let Some(unknown) = schemes.iter().find(|scheme| !known.contains(&scheme.as_str())) {
        let expected =
            format!("expected a comma list of {}: scheme {unknown} is not available here", known.join(", "));
        r.refuse("enforce.auth.schemes", &given, expected);
    }
    schemes
}

fn read_four_letter_words(r: &mut Reader, read_only_mode: bool) -> FourLetterWords {
    let Some(given) = r.take("4lw.commands.whitelist") else {
        return FourLetterWords { allowed: FourLetterWords::DEFAULT.into(), all: false };
    };
    let mut allowed = BTreeSet::new();
    let mut all = false;
    for word in words(&given.value) {
        if word == "*" {
            all = true;
        } else if let Some(known) = FourLetterWords::KNOWN.iter().find(|known| **known == word) {
            allowed.insert(*known);
        } else {
            // Not fatal in ZooKeeper, and charts list words that went away long ago.
            let shown = printable("4lw", word);
            r.warn(
                &given.source,
                format!("4lw.commands.whitelist: {shown} is not a four-letter word, it is ignored"),
            );
        }
    }
    if all {
        allowed = FourLetterWords::KNOWN.into();
    } else if read_only_mode {
        allowed.insert("isro");
    }
    FourLetterWords { allowed, all }
}

fn read_admin(r: &mut Reader) -> Admin {
    let enabled = r.boolean("admin.enableServer");
    if enabled == Some(true) {
        r.warn_key("admin.enableServer", "admin.enableServer: this release has no HTTP server".to_owned());
    }
    let others = ["admin.serverPort", "admin.serverAddress", "admin.commandURL", "admin.idleTimeout"];
    if let Some(key) = others.into_iter().find(|key| enabled.is_none() && r.is_given(key)) {
        r.warn_key(key, format!("{key}: this release has no HTTP server"));
    }
    Admin {
        enabled: enabled.unwrap_or(true),
        address: r.take("admin.serverAddress").map_or_else(|| "0.0.0.0".to_owned(), |given| given.value),
        port: r.property("admin.serverPort", "a port number", 0..=65535).map_or(8080, port_number),
        command_url: r.take("admin.commandURL").map_or_else(|| "/commands".to_owned(), |given| given.value),
        idle_timeout: r.millis("admin.idleTimeout", 0, 30_000),
    }
}

fn read_logging(r: &mut Reader) -> Logging {
    Logging {
        format: r
            .word("ringkeeper.logFormat", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or(LogFormat::Text),
        level: r
            .word(
                "ringkeeper.logLevel",
                &[
                    ("error", LogLevel::Error),
                    ("fatal", LogLevel::Error),
                    ("off", LogLevel::Error),
                    ("warn", LogLevel::Warn),
                    ("warning", LogLevel::Warn),
                    ("info", LogLevel::Info),
                    ("debug", LogLevel::Debug),
                    ("trace", LogLevel::Trace),
                    ("all", LogLevel::Trace),
                ],
            )
            .unwrap_or(LogLevel::Info),
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn small(number: i64) -> u32 {
    u32::try_from(number).expect("the key's range fits")
}

fn port_number(number: i64) -> u16 {
    u16::try_from(number).expect("the key's range fits")
}
