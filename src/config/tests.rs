//! One row a key, the order of the sources, and the files and variables that people really have.

mod ensemble;

use super::*;

fn file(text: &str) -> Sources {
    let file = TextFile { path: "zoo.cfg".into(), bytes: text.as_bytes().to_vec() };
    Sources { file: Some(file), ..Sources::default() }
}

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { variables, ..Sources::default() }
}

fn set(pairs: &[&str]) -> flags::KeyFlags {
    flags::KeyFlags {
        set: pairs.iter().map(|pair| (*pair).to_owned()).collect(),
        ..flags::KeyFlags::default()
    }
}

/// The configuration and its warnings, as lines.
fn good(sources: Sources) -> (Config, Vec<String>) {
    let (config, warnings) = sources.check().unwrap_or_else(|invalid| panic!("{invalid}"));
    (config, warnings.iter().map(ToString::to_string).collect())
}

fn bad(sources: Sources) -> String {
    sources.check().map(|(config, _)| config).expect_err("refused").to_string()
}

#[test]
fn without_anything_it_is_a_working_server() {
    let (config, warnings) = good(Sources::default());
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.client_address.to_string(), "[::]:2181");
    assert_eq!(config.data_dir, PathBuf::from("./ringkeeper-data"));
    assert_eq!(config.log_dir, config.data_dir);
    let ms = Millis;
    let s = &config.sessions;
    assert_eq!((s.tick, s.timeout_min, s.timeout_max), (ms(2000), ms(4000), ms(40_000)));
    assert_eq!(config.limits.connections_per_address_max, 0);
    assert_eq!(config.limits.frame_bytes_max, 1_048_575);
    assert_eq!((config.log.purge_interval, config.log.snapshots_kept), (Some(ms(3_600_000)), 3));
    assert_eq!(config.log.segment_bytes, 64 << 20);
    assert!(!config.rules.skip_acl && !config.rules.extended_types);
    let words: Vec<_> = config.four_letter_words.allowed.iter().copied().collect();
    assert_eq!(words.join(" "), "conf dirs isro mntr ruok srvr stat wchs");
}

/// What a good value does to the configuration.
type Shows = fn(&Config) -> String;

/// `key`, a good value, what it shows, a bad value.
const KEYS: &[(&str, &str, Shows, &str, &str)] = &[
    ("tickTime", "500", |c| show(c.sessions.tick), "500", "abc"),
    ("minSessionTimeout", "1000", |c| show(c.sessions.timeout_min), "1000", "60001"),
    ("minSessionTimeout", "-1", |c| show(c.sessions.timeout_min), "6000", "-2"),
    ("maxSessionTimeout", "90000", |c| show(c.sessions.timeout_max), "90000", "5999"),
    ("nio.sessionlessCnxnTimeout", "5000", |c| show(c.sessions.handshake_timeout), "5000", "0"),
    ("dataDir", "/d", |c| c.log_dir.display().to_string(), "/d", ""),
    ("dataLogDir", "/l", |c| c.log_dir.display().to_string(), "/l", ""),
    ("datadir.autocreate", "false", |c| c.create_missing_dirs.to_string(), "false", "no"),
    ("clientPort", "0", |c| c.client_address.to_string(), "[::]:0", "65536"),
    ("clientPortAddress", "127.0.0.1", |c| c.client_address.to_string(), "127.0.0.1:2181", "no such name"),
    ("clientPortAddress", "::1", |c| c.client_address.to_string(), "[::1]:2181", ""),
    ("clientPortAddress", "[::1]:99", |c| c.client_address.to_string(), "[::1]:99", "127.0.0.1:x"),
    ("ringkeeper.strictClientPort", "2191", |c| format!("{:?}", c.strict_client_port), "Some(2191)", "2181"),
    ("clientPortListenBacklog", "100", |c| c.listen_backlog.to_string(), "100", "-2"),
    ("clientPortListenBacklog", "-1", |c| c.listen_backlog.to_string(), "4096", "x"),
    ("clientTcpKeepAlive", "TRUE", |c| c.tcp_keep_alive.to_string(), "true", "1"),
    (
        "server.7",
        "h:2888:3888;2182",
        |c| format!("{:?} {}", c.server_id, c.client_address),
        "ServerId(7) [::]:2182",
        "h",
    ),
    ("server.1", "h:1:2;127.0.0.1:5", |c| c.client_address.to_string(), "127.0.0.1:5", "h:1:2:observer"),
    ("server.256", "h:1:2", |_| String::new(), "!", "h:1:2"),
    ("initLimit", "10", |_| String::new(), "", "x"),
    ("syncLimit", "5", |_| String::new(), "", "-1"),
    ("electionAlg", "3", |_| String::new(), "", "0"),
    ("peerType", "participant", |_| String::new(), "", "boss"),
    ("standaloneEnabled", "true", |_| String::new(), "", "yes"),
    ("reconfigEnabled", "true", |c| c.reconfig_enabled.to_string(), "true", "x"),
    ("localSessionsEnabled", "true", |c| c.local_sessions.to_string(), "true", "x"),
    ("localSessionsUpgradingEnabled", "true", |c| c.local_sessions_upgrade.to_string(), "true", "x"),
    ("readonlymode.enabled", "true", |c| c.read_only_mode.to_string(), "true", "x"),
    ("jute.maxbuffer", "0xfffff", |c| c.limits.frame_bytes_max.to_string(), "1048575", "1M"),
    ("jute.maxbuffer", "4194304", |c| c.limits.frame_bytes_max.to_string(), "4194304", "10"),
    ("maxClientCnxns", "60", |c| c.limits.connections_per_address_max.to_string(), "60", "sixty"),
    ("maxClientCnxns", "-1", |c| c.limits.connections_per_address_max.to_string(), "0", "0x10"),
    ("maxClientCnxns", "0100", |c| c.limits.connections_per_address_max.to_string(), "100", "3000000000"),
    ("maxCnxns", "9", |c| format!("{:?}", c.limits.connections_max), "Some(9)", "nine"),
    ("maxCnxns", "-1", |c| format!("{:?}", c.limits.connections_max), "None", "3000000000"),
    ("maxCnxns", "0100", |c| format!("{:?}", c.limits.connections_max), "Some(64)", "08"),
    ("globalOutstandingLimit", "1000", |c| c.limits.outstanding_max.to_string(), "1000", "0"),
    (
        "ringkeeper.outstandingPerConnection",
        "5",
        |c| c.limits.outstanding_per_connection_max.to_string(),
        "5",
        "0",
    ),
    ("ringkeeper.maxSessions", "5", |c| c.limits.sessions_max.to_string(), "5", "0"),
    (
        "ringkeeper.maxWatchesPerConnection",
        "5",
        |c| c.limits.watches_per_connection_max.to_string(),
        "5",
        "0",
    ),
    (
        "ringkeeper.maxWatchBytesPerConnection",
        "8192",
        |c| c.limits.watch_bytes_per_connection_max.to_string(),
        "8192",
        "1",
    ),
    ("ringkeeper.maxAclEntries", "5", |c| c.limits.acl_entries_max.to_string(), "5", "0"),
    ("ringkeeper.maxMultiOps", "5", |c| c.limits.multi_ops_max.to_string(), "5", "0"),
    (
        "ringkeeper.maxIdentitiesPerConnection",
        "5",
        |c| c.limits.identities_per_connection_max.to_string(),
        "5",
        "0",
    ),
    (
        "ringkeeper.slowReaderBufferBytes",
        "65536",
        |c| c.limits.slow_reader_pause_bytes.to_string(),
        "65536",
        "1",
    ),
    (
        "ringkeeper.slowReaderMaxBytes",
        "2097152",
        |c| c.limits.slow_reader_close_bytes.to_string(),
        "2097152",
        "65536",
    ),
    ("ringkeeper.slowReaderTimeoutMs", "50", |c| show(c.limits.slow_reader_timeout), "50", "0"),
    ("ringkeeper.segmentSizeKb", "1024", |c| c.log.segment_bytes.to_string(), "1048576", "1026"),
    ("preAllocSize", "8192", |c| c.log.segment_bytes.to_string(), "8388608", "x"),
    ("preAllocSize", "100", |c| c.log.segment_bytes.to_string(), "1048576", "1k"),
    ("preAllocSize", "02048", |c| c.log.segment_bytes.to_string(), "2097152", "0x2000"),
    ("txnLogSizeLimitInKb", "-1", |c| c.log.segment_bytes.to_string(), "67108864", "x"),
    ("txnLogSizeLimitInKb", "2048", |c| c.log.segment_bytes.to_string(), "2097152", "x"),
    ("fsync.warningthresholdms", "20", |c| show(c.log.sync_warning), "20", "x"),
    ("snapCount", "1000", |c| c.log.snapshot_after_txns.to_string(), "1000", "1000000001"),
    ("snapCount", "0", |c| c.log.snapshot_after_txns.to_string(), "2", "x"),
    ("snapSizeLimitInKb", "1", |c| format!("{:?}", c.log.snapshot_after_bytes), "Some(1024)", "x"),
    ("snapSizeLimitInKb", "-1", |c| format!("{:?}", c.log.snapshot_after_bytes), "None", "x"),
    ("autopurge.snapRetainCount", "1", |c| c.log.snapshots_kept.to_string(), "3", "x"),
    ("autopurge.snapRetainCount", "10", |c| c.log.snapshots_kept.to_string(), "10", "x"),
    ("autopurge.purgeInterval", "0", |c| format!("{:?}", c.log.purge_interval), "None", "x"),
    (
        "autopurge.purgeInterval",
        "24",
        |c| format!("{:?}", c.log.purge_interval),
        "Some(Millis(86400000))",
        "1w",
    ),
    (
        "autopurge.purgeInterval",
        "30m",
        |c| format!("{:?}", c.log.purge_interval),
        "Some(Millis(1800000))",
        "1ms",
    ),
    ("ringkeeper.diskReserveMb", "7", |c| c.log.disk_reserve_bytes.to_string(), "7340032", "0"),
    ("skipACL", "yes", |c| c.rules.skip_acl.to_string(), "true", "true"),
    ("enforceQuota", "true", |c| c.rules.enforce_quota.to_string(), "true", "x"),
    ("extendedTypesEnabled", "true", |c| c.rules.extended_types.to_string(), "true", "x"),
    ("znode.container.checkIntervalMs", "10", |c| show(c.containers.check_interval), "10", "0"),
    ("znode.container.maxPerMinute", "10", |c| c.containers.deletions_per_minute_max.to_string(), "10", "0"),
    (
        "znode.container.maxNeverUsedIntervalMs",
        "10",
        |c| format!("{:?}", c.containers.never_used_interval),
        "Some(Millis(10))",
        "-1",
    ),
    ("DigestAuthenticationProvider.enabled", "false", |c| c.auth.digest_enabled.to_string(), "false", "x"),
    (
        "DigestAuthenticationProvider.digestAlg",
        "SHA-256",
        |c| format!("{:?}", c.auth.digest_algorithm),
        "Sha256",
        "MD0",
    ),
    (
        "DigestAuthenticationProvider.superDigest",
        "super:x=",
        |c| format!("{:?}", c.auth.super_digest),
        "Some(\"super:x=\")",
        "x",
    ),
    ("enforce.auth.enabled", "false", |c| format!("{:?}", c.auth.enforced_schemes), "[]", "true"),
    ("enforce.auth.schemes", "digest", |c| format!("{:?}", c.auth.enforced_schemes), "[]", ""),
    ("sessionRequireClientSASLAuth", "false", |_| String::new(), "", "true"),
    (
        "4lw.commands.whitelist",
        "ruok, mntr",
        |c| format!("{:?}", c.four_letter_words.allowed),
        r#"{"mntr", "ruok"}"#,
        "",
    ),
    ("4lw.commands.whitelist", "*", |c| c.four_letter_words.allows("wchp").to_string(), "true", ""),
    ("4lw.commands.whitelist", "", |c| format!("{:?}", c.four_letter_words.allowed), "{}", ""),
    ("admin.enableServer", "false", |c| c.admin.enabled.to_string(), "false", "x"),
    ("admin.serverPort", "80", |c| c.admin.port.to_string(), "80", "x"),
    ("admin.serverAddress", "::1", |c| c.admin.address.clone(), "::1", ""),
    ("admin.commandURL", "/c", |c| c.admin.command_url.clone(), "/c", ""),
    ("admin.idleTimeout", "5", |c| show(c.admin.idle_timeout), "5", "x"),
    ("ringkeeper.shards", "4", |c| format!("{:?}", c.runtime.shards), "Some(4)", "0"),
    ("ringkeeper.io", "epoll", |c| format!("{:?}", c.runtime.io), "Epoll", "aio"),
    ("ringkeeper.pin", "false", |c| format!("{:?}", c.runtime.pin), "Never", "x"),
    ("ringkeeper.logFormat", "json", |c| format!("{:?}", c.logging.format), "Json", "xml"),
    ("ringkeeper.logLevel", "DEBUG", |c| c.logging.level.as_str().to_owned(), "debug", "x"),
    ("ringkeeper.myid", "9", |c| format!("{:?}", c.server_id), "ServerId(9)", "256"),
];

fn show(millis: Millis) -> String {
    millis.0.to_string()
}

/// Rows whose "bad" value is fine: texts without a form.
const FREE: [&str; 4] =
    ["4lw.commands.whitelist", "admin.serverAddress", "admin.commandURL", "enforce.auth.schemes"];

#[test]
fn every_key_takes_its_good_value_in_both_forms_and_refuses_its_bad_one() {
    for (key, value, shows, want, wrong) in KEYS {
        if *want != "!" {
            for text in [format!("{key}={value}"), format!("zookeeper.{key} = {value}")] {
                let (config, warnings) = good(file(&text));
                assert_eq!(shows(&config), *want, "{text}");
                assert!(!warnings.iter().any(|line| line.contains("no effect")), "{text}: {warnings:?}");
            }
        }
        if !FREE.contains(key) {
            let said = bad(file(&format!("# comment\n{key}={wrong}")));
            let start = if *key == "enforce.auth.enabled" || !key.starts_with("server.") || *want == "!" {
                format!("zoo.cfg:2: {key}=")
            } else {
                format!("zoo.cfg:2: server.{}", &key[7..])
            };
            assert!(said.starts_with(&start) && !said.contains('\n'), "{key}={wrong}: {said}");
        }
    }
}

#[test]
fn a_bad_value_is_said_in_one_line_with_the_range() {
    for (sources, want) in [
        (
            file("dataDir=/d\ntickTime=abc"),
            "zoo.cfg:2: tickTime=abc: expected a whole number of milliseconds, 1 to 3600000",
        ),
        (file("clientPort=99999"), "zoo.cfg:1: clientPort=99999: expected a port number, 0 to 65535"),
        (file("syncLimit=1.5"), "zoo.cfg:1: syncLimit=1.5: expected a whole number of ticks, 0 to 2147483647"),
        (file("electionAlg=1"), "zoo.cfg:1: electionAlg=1: expected the only algorithm, 3"),
        (file("enforceQuota=on"), "zoo.cfg:1: enforceQuota=on: expected true or false"),
        (file("skipACL=true"), "zoo.cfg:1: skipACL=true: expected yes or no"),
        (
            variables(&[("ZOO_TICK_TIME", "2s")]),
            "environment ZOO_TICK_TIME: tickTime=2s: expected a whole number of milliseconds, 1 to 3600000",
        ),
        (
            Sources { flags: set(&["ringkeeper.io=aio"]), ..Sources::default() },
            "--set: ringkeeper.io=aio: expected auto, uring or epoll",
        ),
        (
            file("tickTime=1000\nminSessionTimeout=30000"),
            "zoo.cfg:2: minSessionTimeout=30000: minSessionTimeout must not be larger than maxSessionTimeout: 30000 > \
             20000 milliseconds (defaults: 2 and 20 ticks of 1000)",
        ),
        (
            file("DigestAuthenticationProvider.superDigest=secret"),
            "zoo.cfg:1: DigestAuthenticationProvider.superDigest=***: expected user:base64(hash of user:password)",
        ),
        (file("a=\\u12"), "zoo.cfg:1: \\u=: expected four hexadecimal digits behind \\u"),
    ] {
        assert_eq!(bad(sources), want);
    }
}

/// They ended the start, and ZooKeeper starts.
#[test]
fn numbers_that_zookeeper_takes_with_a_warning() {
    for (text, want) in [
        ("maxCnxns=-1", "zoo.cfg:1: maxCnxns=-1 is taken for 0, as in ZooKeeper"),
        ("snapCount=1", "zoo.cfg:1: snapCount=1 becomes 2, as in ZooKeeper"),
        ("snapCount=-5", "zoo.cfg:1: snapCount=-5 becomes 2, as in ZooKeeper"),
    ] {
        assert_eq!(good(file(text)).1, [want]);
    }
    for text in ["maxClientCnxns=-1", "maxClientCnxns=0", "maxCnxns=0", "snapCount=2"] {
        assert_eq!(good(file(text)).1, [""; 0], "{text}");
    }
}

/// `localhost` was `::1` alone, and nobody was served at 127.0.0.1.
#[test]
fn a_name_is_its_first_ipv4_address_as_in_java() {
    let address = |text: &&str| text.parse::<SocketAddr>().unwrap();
    for (found, want) in [
        (&["[::1]:1", "127.0.0.1:1"][..], Some("127.0.0.1:1")),
        (&["10.0.0.2:1", "[fe80::1]:1", "10.0.0.1:1"], Some("10.0.0.2:1")),
        (&["[fe80::2]:1", "[fe80::1]:1"], Some("[fe80::2]:1")),
        (&[], None),
    ] {
        let addresses: Vec<SocketAddr> = found.iter().map(address).collect();
        assert_eq!(keys::preferred(&addresses), want.as_ref().map(address), "{found:?}");
    }
}

/// It was said of clientPortAddress, which no line had.
#[test]
fn a_client_address_that_is_none_is_said_of_the_line_that_has_it() {
    for (text, want) in [
        (
            "dataDir=/d\nserver.1=a:2888:3888;no-such-host.invalid:2181",
            "zoo.cfg:2: server.1=a:2888:3888;no-such-host.invalid:2181: expected an address of this host behind the \
             semicolon: ",
        ),
        (
            "dataDir=/d\nclientPortAddress=no-such-host.invalid",
            "zoo.cfg:2: clientPortAddress=no-such-host.invalid: expected an address of this host: ",
        ),
    ] {
        let said = bad(file(text));
        assert!(said.starts_with(want) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn all_problems_are_found_at_once() {
    assert_eq!(bad(file("tickTime=a\nsnapCount=b\nclientPort=c")).lines().count(), 3);
}

#[test]
fn the_sources_in_their_order() {
    let all = |with_file: bool| Sources {
        variables: variables(&[
            ("JVMFLAGS", "-Xmx1g -Dzookeeper.snapCount=10 -Djute.maxbuffer=0x2000"),
            ("ZOO_TICK_TIME", "1000"),
            ("ZOO_MAX_CLIENT_CNXNS", "7"),
        ])
        .variables,
        file: with_file.then(|| file("snapCount=20\nclientPort=1").file.unwrap()),
        flags: flags::KeyFlags { client_port: Some("3".to_owned()), ..set(&["clientPort=2"]) },
        ..Sources::default()
    };
    let (config, warnings) = good(all(false));
    assert_eq!(config.log.snapshot_after_txns, 10, "JVMFLAGS over the default");
    assert_eq!(config.limits.frame_bytes_max, 8192, "a bare property of JVMFLAGS");
    assert_eq!((config.sessions.tick, config.limits.connections_per_address_max), (Millis(1000), 7));
    assert_eq!(config.client_address.port(), 3, "a named flag over --set");
    assert_eq!(warnings, [""; 0]);

    let (config, warnings) = good(all(true));
    assert_eq!(config.log.snapshot_after_txns, 20, "the file over JVMFLAGS");
    assert_eq!(config.sessions.tick, Millis(3000), "a given file wins over all ZOO_* variables together");
    assert_eq!(config.limits.connections_per_address_max, 0);
    assert_eq!(config.client_address.port(), 3, "a flag over the file");
    assert_eq!(warnings, ["zoo.cfg wins over ZOO_MAX_CLIENT_CNXNS, ZOO_TICK_TIME"]);
}

#[test]
fn the_official_images_variables() {
    let (config, warnings) = good(variables(&[
        ("ZOO_CONF_DIR", "/conf"),
        ("ZOO_DATA_DIR", "/data"),
        ("ZOO_DATA_LOG_DIR", "/datalog"),
        ("ZOO_LOG_DIR", "/logs"),
        ("ZOO_TICK_TIME", "2000"),
        ("ZOO_INIT_LIMIT", "5"),
        ("ZOO_SYNC_LIMIT", "2"),
        ("ZOO_AUTOPURGE_PURGEINTERVAL", "0"),
        ("ZOO_AUTOPURGE_SNAPRETAINCOUNT", "3"),
        ("ZOO_MAX_CLIENT_CNXNS", "60"),
        ("ZOO_STANDALONE_ENABLED", "true"),
        ("ZOO_ADMINSERVER_ENABLED", "false"),
        ("ZOO_MY_ID", "3"),
        ("ZOO_SERVERS", "server.3=localhost:2888:3888;2183"),
        ("ZOO_4LW_COMMANDS_WHITELIST", "srvr, mntr"),
        ("ZOO_CFG_EXTRA", "extendedTypesEnabled=true zookeeper.snapCount=77 tickTime=2500"),
        ("PATH", "/bin"),
    ]));
    assert_eq!(warnings, [""; 0]);
    assert_eq!((config.data_dir, config.log_dir), ("/data".into(), "/datalog".into()));
    assert_eq!(config.sessions.tick, Millis(2500), "an extra line comes last");
    assert_eq!(config.log.purge_interval, None, "an explicit 0 turns it off");
    assert_eq!(config.limits.connections_per_address_max, 60);
    assert_eq!((config.server_id, config.client_address.port()), (ServerId(3), 2183));
    assert_eq!(config.four_letter_words.allowed, ["mntr", "srvr"].into());
    assert!(config.rules.extended_types);
    assert_eq!(config.log.snapshot_after_txns, 77);
    assert!(!config.admin.enabled);
}

#[test]
fn several_servers_are_an_ensemble_in_every_dialect() {
    let three = "server.1=a:2888:3888;2181 server.2=b:2888:3888;2182 server.3=c:2888:3888;2183";
    for servers in
        [three, "a:2888:3888,b:2888:3888;c:2888:3888", "c:2888:3888::3 a:2888:3888::1 b:2888:3888::2"]
    {
        let (config, _) = good(variables(&[("ZOO_SERVERS", servers), ("ZOO_MY_ID", "2")]));
        let ensemble = config.ensemble.unwrap_or_else(|| panic!("{servers}"));
        let hosts: Vec<_> = ensemble.servers.iter().map(|server| server.addresses[0].host.as_str()).collect();
        assert_eq!((config.server_id, hosts), (ServerId(2), vec!["a", "b", "c"]), "{servers}");
    }
}

#[test]
fn one_server_is_this_one_in_every_dialect() {
    for (servers, id, port) in [
        ("server.1=zoo1:2888:3888;2181", 1, 2181),
        ("server.4=0.0.0.0:2888:3888;2184", 4, 2184),
        ("zoo-0.zoo-headless.default.svc.cluster.local:2888:3888::1", 1, 2181),
        ("zoo1:2888:3888", 5, 2181),
    ] {
        let (config, _) = good(variables(&[("ZOO_SERVERS", servers), ("ZOO_SERVER_ID", "5")]));
        assert_eq!((config.server_id.0, config.client_address.port()), (id, port), "{servers}");
    }
    // A flag is stronger than the file, whichever of the two ways the file names its port.
    let mut sources = file("dataDir=/d\nserver.1=a:2888:3888;2181");
    sources.flags = flags::KeyFlags { client_port: Some("2999".to_owned()), ..flags::KeyFlags::default() };
    assert_eq!(good(sources).0.client_address.port(), 2999);
    let said = bad(file("clientPort=1\nserver.1=a:2888:3888;2181"));
    assert!(said.contains("its client port is not clientPort, which is 1"), "{said}");
}

#[test]
fn a_dynamic_file_is_read_like_the_file() {
    let mut sources = file("dataDir=/d\ndynamicConfigFile=/d/dyn");
    sources.dynamic = Some(TextFile {
        path: "/d/dyn".into(),
        bytes: b"server.2=h:2888:3888:participant;2199\nversion=100000000".to_vec(),
    });
    let (config, warnings) = good(sources);
    assert_eq!((config.server_id, config.client_address.port()), (ServerId(2), 2199));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn bitnamis_variables() {
    let (config, warnings) = good(variables(&[
        ("ZOO_DATA_LOG_DIR", ""),
        ("ZOO_PORT_NUMBER", "2181"),
        ("ZOO_TICK_TIME", "2000"),
        ("ZOO_PRE_ALLOC_SIZE", "65536"),
        ("ZOO_SNAPCOUNT", "100000"),
        ("ZOO_MAX_CNXNS", "0"),
        ("ZOO_4LW_COMMANDS_WHITELIST", "srvr, mntr, ruok"),
        ("ZOO_LISTEN_ALLIPS_ENABLED", "no"),
        ("ZOO_AUTOPURGE_INTERVAL", "1"),
        ("ZOO_AUTOPURGE_RETAIN_COUNT", "10"),
        ("ZOO_MAX_SESSION_TIMEOUT", "40000"),
        ("ZOO_ENABLE_AUTH", "no"),
        ("ZOO_LOG_LEVEL", "ERROR"),
        ("ZOO_HEAP_SIZE", "1024"),
        ("ZOO_SERVICE_HOST", "10.0.0.1"),
        ("ALLOW_ANONYMOUS_LOGIN", "yes"),
    ]));
    assert_eq!(config.log.snapshots_kept, 10);
    assert_eq!(config.logging.level, LogLevel::Error);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("quorumListenOnAllIPs"), "{warnings:?}");

    let said = bad(variables(&[("ZOO_ENABLE_AUTH", "yes")]));
    assert!(said.ends_with("expected no: this release has no SASL"), "{said}");
    let (_, warnings) = good(variables(&[("ZOO_TICKTIME", "1"), ("ZOO_FOO", "1")]));
    assert_eq!(warnings, ["environment variables without effect in ringkeeper: ZOO_FOO, ZOO_TICKTIME"]);
}

#[test]
fn zoo_cfgs_that_people_have() {
    for (name, text) in [
        ("Kafka's", "# licence\ndataDir=/tmp/zookeeper\nclientPort=2181\nmaxClientCnxns=0\nadmin.enableServer=false\n"),
        (
            "the sample of 3.9",
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/tmp/zookeeper\nclientPort=2181\n#maxClientCnxns=60\n",
        ),
        (
            "Bitnami's",
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/bitnami/zookeeper/data\nclientPort=2181\n\
             maxClientCnxns=60\nautopurge.snapRetainCount=3\nautopurge.purgeInterval=0\npreAllocSize=65536\n\
             snapCount=100000\nmaxCnxns=0\nreconfigEnabled=false\nquorumListenOnAllIPs=false\n\
             4lw.commands.whitelist=srvr, mntr, ruok\nmaxSessionTimeout=40000\nadmin.serverPort=8080\n\
             admin.enableServer=true\nserver.1=0.0.0.0:2888:3888;2181\n",
        ),
        (
            "a Helm chart's",
            "clientPort=2181\ndataDir=/data\ndataLogDir=/data/log\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n\
             maxClientCnxns=60\nminSessionTimeout=4000\nmaxSessionTimeout=40000\nautopurge.snapRetainCount=3\n\
             autopurge.purgeInterval=0\n4lw.commands.whitelist=*\n\
             metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n\
             metricsProvider.httpPort=7000\nmetricsProvider.exportJvmInfo=true\n",
        ),
        (
            "ClickHouse's advice",
            "tickTime=2000\ninitLimit=300\nsyncLimit=10\nmaxClientCnxns=2000\nmaxSessionTimeout=60000000\n\
             dataDir=/var/lib/zookeeper/data\ndataLogDir=/var/lib/zookeeper/logs\nautopurge.snapRetainCount=10\n\
             autopurge.purgeInterval=1\npreAllocSize=131072\nsnapCount=3000000\nleaderServes=yes\n\
             standaloneEnabled=false\nclientPort=2181\n",
        ),
    ] {
        let (config, warnings) = good(file(text));
        assert_eq!(config.client_address.port(), 2181, "{name}");
        assert!(!warnings.iter().any(|line| line.contains("unknown")), "{name}: {warnings:?}");
    }
}

#[test]
fn keys_without_effect_are_named_once_each() {
    let (_, warnings) =
        good(file("nio.numWorkerThreads=4\nfooBar=1\nringkeeper.foo=2\nfooBar=3\ntickTime=1\n"));
    assert_eq!(
        warnings,
        [
            "zoo.cfg:4: fooBar is set again (first on line 2); the last one holds",
            "zoo.cfg:4: unknown key fooBar: taken for the system property zookeeper.fooBar, which has no effect in \
             ringkeeper",
            "zoo.cfg:1: has no effect in ringkeeper: nio.numWorkerThreads (threads are shards here: see \
             ringkeeper.shards)",
            "zoo.cfg:3: unknown key ringkeeper.foo: has no effect",
        ]
    );
}

/// A server with `datadir` served what lay in another directory (a trial).
#[test]
fn a_key_that_is_only_written_in_another_case_is_refused() {
    for (key, meant) in [
        ("datadir", "dataDir"),
        ("clientport", "clientPort"),
        ("READONLYMODE.enabled", "readonlymode.enabled"),
    ] {
        let problems = bad(file(&format!("tickTime=2000\n{key}=1\n")));
        assert!(
            problems.contains(&format!(
                "zoo.cfg:2: {key}=1: expected {meant}: upper and lower case are told apart"
            )),
            "{problems}"
        );
    }
}

/// All keys of ZooKeeper 3.9 (chapter 12 of the wire reference and the list of its administrator's guide): none is
/// a stranger.
#[test]
fn no_key_of_zookeeper_is_unknown() {
    for key in ALL_OF_ZOOKEEPERS.split_whitespace() {
        let sources = file(&format!("clientPort=2181\n{key}=1"));
        let lines = match sources.check() {
            Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Err(invalid) => invalid.to_string(),
        };
        assert!(!lines.contains("unknown key"), "{key}: {lines}");
    }
}

const ALL_OF_ZOOKEEPERS: &str = "
    tickTime dataDir dataLogDir clientPort clientPortAddress secureClientPort secureClientPortAddress
    clientPortListenBacklog maxClientCnxns minSessionTimeout maxSessionTimeout initLimit syncLimit
    connectToLearnerMasterLimit electionAlg server.1 group.1 weight.1 oraclePath peerType observerMasterPort syncEnabled
    quorumListenOnAllIPs dynamicConfigFile standaloneEnabled reconfigEnabled localSessionsEnabled
    localSessionsUpgradingEnabled autopurge.snapRetainCount autopurge.purgeInterval sslQuorum portUnification
    sslQuorumReloadCertFiles quorum.auth.enableSasl quorum.auth.serverRequireSasl quorum.auth.learnerRequireSasl
    quorum.auth.learner.saslLoginContext quorum.auth.server.saslLoginContext quorum.auth.kerberos.servicePrincipal
    quorum.cnxn.threads.size jvm.pause.monitor jvm.pause.info-threshold.ms jvm.pause.warn-threshold.ms
    jvm.pause.sleep.time.ms metricsProvider.className metricsProvider.httpHost metricsProvider.httpPort
    metricsProvider.exportJvmInfo multiAddress.enabled multiAddress.reachabilityCheckTimeoutMs
    multiAddress.reachabilityCheckEnabled 4lw.commands.whitelist globalOutstandingLimit preAllocSize snapCount
    snapSizeLimitInKb txnLogSizeLimitInKb commitLogCount snapshotSizeFactor maxCnxns fsync.warningthresholdms
    maxResponseCacheSize maxGetChildrenResponseCacheSize observer.syncEnabled extendedTypesEnabled emulate353TTLNodes
    watchManagerName watcherCleanThreadsNum watcherCleanThreshold watcherCleanIntervalInSeconds
    maxInProcessingDeadWatchers bitHashCacheSize fastleader.minNotificationInterval fastleader.maxNotificationInterval
    connection_throttle_tokens connection_throttle_fill_time connection_throttle_weight_enabled connectionMaxTokens
    connectionTokenFillTime connectionTokenFillCount connectionFreezeTime connectionDropIncrease connectionDropDecrease
    connectionDecreaseRatio serverCnxnFactory flushDelay maxWriteQueuePollTime maxBatchSize enforceQuota
    request_throttle_max_requests request_throttle_stall_time request_throttle_drop_stale requestThrottleLimit
    requestThrottleStallTime requestThrottleDropStale requestStaleLatencyCheck requestStaleConnectionCheck
    request_stale_connection_check request_stale_latency_check request_throttler.shutdownTimeout throttled_op_wait_time
    throttledOpWaitTime largeRequestMaxBytes largeRequestThreshold netty.advancedFlowControl.enabled
    netty.server.outstandingHandshake.limit netty.server.earlyDropSecureConnectionHandshakes enableEagerACLCheck
    leader.maxConcurrentSnapSyncs leader.maxConcurrentDiffSyncs maxConcurrentSnapSyncs maxConcurrentDiffSyncs
    forceSnapshotSync digest.enabled closeSessionTxn.enabled snapshot.compression.method snapshot.trust.empty
    serializeLastProcessedZxid.enabled datadir.autocreate db.autocreate audit.enable audit.impl.class
    leader.maxTimeToWaitForEpoch leaderServes leader.closeSocketAsync learner.closeSocketAsync learner.asyncSending
    forward_learner_requests_to_commit_processor_disabled follower.skipLearnerRequestToNextProcessor
    leader.ackLoggingFrequency leaderConnectDelayDuringRetryMs leader.nodelay follower.nodelay cnxTimeout
    quorumCnxnTimeoutMs tcpKeepAlive clientTcpKeepAlive electionPortBindRetry observer.reconnectDelayMs
    observer.election.DelayMs observerMaster.sizeLimit nio.numSelectorThreads nio.numWorkerThreads
    nio.directBufferBytes nio.shutdownTimeout nio.sessionlessCnxnTimeout commitProcessor.numWorkerThreads
    commitProcessor.maxReadBatchSize commitProcessor.maxCommitBatchSize commitProcessor.shutdownTimeout
    intBufferStartingSizeBytes znode.container.checkIntervalMs znode.container.maxPerMinute
    znode.container.maxNeverUsedIntervalMs messageTracker.BufferSize messageTracker.Enabled pathStats.enabled
    pathStats.slotCapacity readonlymode.enabled forceSync jute.maxbuffer jute.maxbuffer.extrasize skipACL
    DigestAuthenticationProvider.enabled DigestAuthenticationProvider.superDigest
    DigestAuthenticationProvider.digestAlg IPAuthenticationProvider.usexforwardedfor
    X509AuthenticationProvider.superUser superUser superUser.1 SASLAuthenticationProvider.superPassword
    letAnySaslUserDoX authProvider.1 authProvider.sasl ssl.authProvider ensembleAuthName sessionRequireClientSASLAuth
    enforce.auth.enabled enforce.auth.schemes allowSaslFailedClients sasl.serverconfig
    kerberos.removeHostFromPrincipal kerberos.removeRealmFromPrincipal kerberos.canonicalizeHostNames
    security.auth_to_local requireKerberosConfig server.realm kinit ssl.keyStore.location ssl.keyStore.password
    ssl.trustStore.location ssl.protocol ssl.enabledProtocols ssl.ciphersuites ssl.clientAuth ssl.hostnameVerification
    ssl.crl ssl.ocsp ssl.quorum.keyStore.location client.certReload client.portUnification fips-mode
    admin.enableServer admin.serverAddress admin.serverPort admin.idleTimeout admin.commandURL admin.httpVersion
    admin.portUnification admin.forceHttps admin.needClientAuth admin.snapshot.enabled admin.restore.enabled
    admin.rateLimiterIntervalInMS controllerPort test.allowDiscontinuousProposals testingonly.initialZxid";

#[test]
fn a_tls_port_is_never_opened_in_plain() {
    let (config, warnings) = good(file("clientPort=2181\nsecureClientPort=2281"));
    assert_eq!(config.client_address.port(), 2181);
    assert_eq!(warnings, ["zoo.cfg:2: secureClientPort is not opened: this release has no TLS"]);
    let said = bad(file("secureClientPort=2281"));
    assert_eq!(
        said,
        "zoo.cfg:1: secureClientPort=2281: not in this release, which has no TLS: give clientPort"
    );
}

#[test]
fn enforced_authentication_needs_schemes_that_are_here() {
    let (config, _) = good(file("enforce.auth.enabled=true\nenforce.auth.schemes=digest, ip"));
    assert_eq!(config.auth.enforced_schemes, ["digest", "ip"]);
    let said = bad(file("enforce.auth.enabled=true\nenforce.auth.schemes=digest,sasl"));
    assert!(said.starts_with("zoo.cfg:2: enforce.auth.schemes=digest,sasl: "), "{said}");
}

#[test]
fn dangerous_values_are_allowed_loudly() {
    let (_, warnings) = good(file("skipACL=yes"));
    assert!(warnings[0].contains("every client"), "{warnings:?}");
}

/// It was told that acknowledged data may be lost, and each write was synced all the same.
#[test]
fn what_turns_nothing_is_said_to() {
    let (config, warnings) = good(file("forceSync=no"));
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("zoo.cfg:1: forceSync=no has no effect"),
        "{warnings:?}"
    );
    assert!(config.to_string().contains("forceSync=yes"));
    assert_eq!(good(file("forceSync=yes")).1, [""; 0]);
    assert!(bad(file("forceSync=x")).starts_with("zoo.cfg:1: forceSync=x: "));
    let (_, warnings) = good(file("admin.serverPort=8081\nadmin.commandURL=/c"));
    assert_eq!(warnings, ["zoo.cfg:1: admin.serverPort: this release has no HTTP server"]);
    assert_eq!(good(file("admin.enableServer=false\nadmin.serverPort=8081")).1, [""; 0]);
}

#[test]
fn a_missing_snapshot_is_not_trusted_and_who_asks_for_it_is_told_n15() {
    let (_, warnings) = good(file("snapshot.trust.empty=true"));
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("zoo.cfg:1: snapshot.trust.empty=true has no effect")
    );
    assert_eq!(good(file("snapshot.trust.empty=false")).1, [""; 0]);
    assert!(
        bad(file("snapshot.trust.empty=x")).starts_with("zoo.cfg:1: snapshot.trust.empty=x: expected true")
    );
}

#[test]
fn unknown_four_letter_words_are_ignored_and_isro_comes_with_read_only_mode() {
    let (config, warnings) = good(file("readonlymode.enabled=true\n4lw.commands.whitelist=ruok,reqs"));
    assert_eq!(config.four_letter_words.allowed, ["isro", "ruok"].into());
    assert_eq!(
        warnings,
        ["zoo.cfg:2: 4lw.commands.whitelist: reqs is not a four-letter word, it is ignored"]
    );
}

#[test]
fn the_example_file_parses_and_every_commented_default_is_the_default() {
    let text = include_str!("../../conf/zoo.cfg");
    let (shown, warnings) = good(file(text));
    assert_eq!(warnings, [""; 0]);
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && rest.contains('=')).unwrap_or(line)
        })
        // Defaults that depend on the machine, or that have no value to write down.
        .filter(|line| {
            ![
                "ringkeeper.shards",
                "clientPortAddress",
                "DigestAuthenticationProvider.superDigest",
                "ringkeeper.strictClientPort",
                // Of an ensemble, which a file without server lines is not.
                "server.",
                "initLimit",
                "syncLimit",
                "quorumListenOnAllIPs",
                "ssl",
            ]
            .iter()
            .any(|k| line.starts_with(k))
        })
        .fold(String::new(), |all, line| all + line + "\n");
    let (written, warnings) = good(file(&uncommented));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(shown, written);
    for line in shown.to_string().lines().filter(|line| !line.starts_with('#')) {
        let key = line.split('=').next().unwrap();
        assert!(
            text.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key}="))),
            "{key} is missing"
        );
    }
}

#[test]
fn load_reads_files_and_says_which_one_it_could_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.cfg");
    let dynamic = dir.path().join("dyn");
    std::fs::write(&dynamic, "server.2=h:2888:3888;2199").unwrap();
    std::fs::write(&path, format!("dataDir=/d\ndynamicConfigFile={}", dynamic.display())).unwrap();
    let (config, _) = load(&ServeArgs { file: Some(path.clone()), ..ServeArgs::default() }).unwrap();
    assert_eq!((config.file, config.client_address.port()), (Some(path), 2199));
    for missing in [dir.path().join("none"), dir.path().to_owned(), "/dev/zero".into()] {
        let said =
            load(&ServeArgs { file: Some(missing.clone()), ..ServeArgs::default() }).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}: FILE=", missing.display())), "{said}");
    }
}

#[test]
fn what_check_prints_is_a_zoo_cfg_that_means_the_same() {
    for text in ["", "tickTime=7\nclientPort=5\nautopurge.purgeInterval=0\n4lw.commands.whitelist=*\nskipACL=yes\nsnapSizeLimitInKb=-1"] {
        let (config, _) = good(file(text));
        let (again, warnings) = good(file(&config.to_string()));
        assert!(!warnings.iter().any(|line| line.contains("unknown") || line.contains("no effect")), "{warnings:?}");
        assert_eq!(config, again, "{config}");
    }
    let (config, _) = good(file("dataDir=/d\ndataLogDir=/l"));
    assert_eq!(config.places(), "configuration file zoo.cfg, data in /d, log in /l");
}

#[test]
fn what_check_prints_shows_no_secret() {
    let (config, _) = good(file("DigestAuthenticationProvider.superDigest=super:hash"));
    assert!(!config.to_string().contains("hash"));
}
