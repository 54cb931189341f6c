//! `golden/*.txt` are what a ZooKeeper 3.9.5 answered (paths changed). A view of the same facts must give the same
//! text, but for what is named beside each test.

use super::*;
use crate::config::{Config, Sources};
use crate::ids::{Millis, SessionId, ShardId, WallMillis, Xid, Zxid};
use crate::shard::{ConnectionRow, Latency, Stats};
use crate::tree::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FIRST: SessionId = SessionId(0x0100_0028_509c_0000);
const SECOND: SessionId = SessionId(0x0100_0028_509c_0001);
const WALL: i64 = 1_795_578_623_456;

fn config(text: &str) -> Config {
    let path = "zoo.cfg".into();
    let file = crate::config::TextFile { path, bytes: format!("dataDir=/data\n{text}").into_bytes() };
    Sources { file: Some(file), ..Sources::default() }.check().unwrap().0
}

fn row(port: u16, received: u64, sent: u64) -> ConnectionRow {
    ConnectionRow {
        peer: format!("[::ffff:127.0.0.1]:{port}").parse().unwrap(),
        queued: 0,
        received,
        sent,
        session: SessionId::NONE,
        timeout_ms: 0,
        last_op: "NA",
        established_ms: Millis(456),
        last_xid: Xid(-1),
        last_zxid: Zxid(-1),
        last_response: Millis(0),
        latency: Latency::default(),
        is_blocked: false,
    }
}

fn paths(list: &[&str]) -> Vec<Path> {
    list.iter().map(|path| Path::new(path)).collect()
}

/// The facts of the recording.
fn view() -> View {
    let second = ConnectionRow {
        session: SECOND,
        timeout_ms: 6_000,
        last_op: "GETD",
        established_ms: Millis((WALL - 1_795_578_620_007).unsigned_abs()),
        last_xid: Xid(1),
        last_zxid: Zxid(0x131),
        last_response: Millis(2_811_567),
        ..row(38_256, 2, 2)
    };
    let first = ConnectionRow {
        session: FIRST,
        timeout_ms: 10_000,
        last_op: "SETD",
        established_ms: Millis((WALL - 1_795_578_619_677).unsigned_abs()),
        last_xid: Xid(0x134),
        last_zxid: Zxid(0x130),
        last_response: Millis(2_811_564),
        latency: Latency { count: 309, sum_ms: 159, min_ms: 0, max_ms: 5, last_ms: 0 },
        ..row(38_238, 309, 310)
    };
    View {
        build: Build { version: "0.1.0", commit: "0123456789ab", date: "11/25/2026 03:57 UTC" },
        config: Arc::new(config("tickTime=2000\n")),
        client_port: 24_181,
        serving: true,
        role: Role::Standalone,
        peers: 0,
        leading: Leading::default(),
        local_sessions: 0,
        members: None,
        wall: WallMillis(WALL),
        uptime: Millis(169_551),
        connections_by_shard: vec![1, 3],
        totals: Totals {
            shards: 2,
            stats: Stats {
                connections: 4,
                packets_received: 316,
                packets_sent: 316,
                latency: Latency { count: 315, sum_ms: 159, min_ms: 0, max_ms: 5, last_ms: 0 },
                ..Stats::default()
            },
            outstanding: 0,
            last_zxid: Zxid(0x131),
            nodes: 7,
            data_bytes: 56,
            ephemerals: 2,
            watches: 3,
            watch_summary: (2, 2, 2),
            sessions: 2,
        },
        connections: vec![second, row(38_302, 1, 0), row(38_248, 0, 0), first],
        watches: BTreeMap::from([
            (Path::new("/nope"), BTreeSet::from([FIRST])),
            (Path::new("/p"), BTreeSet::from([SECOND])),
        ]),
        sessions: Sessions {
            buckets: vec![
                (WallMillis(1_795_578_626_400), vec![SECOND]),
                (WallMillis(1_795_578_630_400), vec![FIRST]),
            ],
            local_buckets: None,
            timeouts: None,
            ephemerals: vec![(FIRST, paths(&["/e", "/e2"]))],
        },
        digests: vec![(Zxid(0x80), 11_128_713_619), (Zxid(0x100), 14_090_073_399)],
        files: Files {
            data_dir: "/data/version-2".into(),
            log_dir: "/data/version-2".into(),
            data_bytes: 67_109_358,
            log_bytes: 67_109_358,
        },
        process: Process { open_files: 44, open_files_max: 20_000, ..Process::default() },
        trace_mask: Some(TRACE_MASK),
        silent: Vec::new(),
        sequencer_is_silent: false,
        counters: vec![("connection_rejected".into(), 0)],
        summaries: vec![Summary { name: "fsynctime", count: 305, sum: 2, min: 0, max: 1 }],
    }
}

fn say(word: &str, view: &View) -> String {
    let word: &[u8; 4] = word.as_bytes().try_into().unwrap();
    String::from_utf8(answer(word, view).unwrap()).unwrap()
}

/// Our build instead of ZooKeeper's, and the connection that asks as one that is read: we do not know it apart.
fn golden(text: &str) -> String {
    let ours = "3.9.5-0123456789ab, built on 11/25/2026 03:57 UTC";
    let theirs = "3.9.5-293c895a8d966a3ecb92872be4a1daf87d725da2, built on 2026-02-11 20:18 UTC";
    text.replace(theirs, ours).replace("[0](", "[1](")
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn srvr_is_zookeepers_text_r02() {
    assert_eq!(say("srvr", &view()), golden(include_str!("golden/srvr.txt")));
}

#[test]
fn stat_is_zookeepers_text_r03() {
    let mut view = view();
    view.totals.stats.packets_received = 317;
    view.totals.stats.packets_sent = 317;
    // It was asked a moment earlier, by another connection, and ZooKeeper lists in no order.
    view.connections[1] = row(38_284, 1, 0);
    view.connections.swap(0, 1);
    assert_eq!(say("stat", &view), golden(include_str!("golden/stat.txt")));
}

#[test]
fn the_go_client_parses_srvr_r02() {
    let text = say("srvr", &view());
    let first = text.lines().next().unwrap();
    let (version, date) =
        first.strip_prefix("Zookeeper version: ").unwrap().split_once(", built on ").unwrap();
    assert!(version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'), "{version}");
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "99/99/9999 99:99 UTC");
}

#[test]
fn conf_is_zookeepers_text_r04() {
    // -1 is "the default" there; we print what holds.
    let theirs = golden(include_str!("golden/conf.txt"))
        .replace("clientPortListenBacklog=-1", "clientPortListenBacklog=4096");
    assert_eq!(say("conf", &view()), theirs);
}

#[test]
fn conf_of_an_ensemble_names_its_members_z24() {
    let list = "tickTime=2000\ninitLimit=5\nsyncLimit=2\nringkeeper.myid=2\nserver.1=a:2888:3888;2181\n\
                server.2=b:2889:3889:participant;127.0.0.1:24181\nserver.10=c:1:2|d:1:3:observer";
    let text = say("conf", &View { config: Arc::new(config(list)), ..view() });
    let want = "\nserverId=2\ninitLimit=5\nsyncLimit=2\nelectionAlg=3\nelectionPort=3889\nquorumPort=2889\npeerType=0\n\
                membership: \nserver.1=a:2888:3888:participant;0.0.0.0:2181\n\
                server.2=b:2889:3889:participant;127.0.0.1:24181\nserver.10=c:1:2|d:1:3:observer\nversion=0";
    assert!(text.ends_with(want), "{text}");
    // Once they are known, those of the state.
    let ensemble = config(list).ensemble.expect("there are lines");
    let servers = ensemble.servers.into_iter().filter(|server| server.id.0 < 10).collect();
    let members = Some(Members { servers, version: Zxid(0x1_0000_002a), voters: 2 });
    let view = View { config: Arc::new(config(list)), members, ..view() };
    let text = say("conf", &view);
    let want = "\nserver.2=b:2889:3889:participant;127.0.0.1:24181\nversion=10000002a";
    assert!(text.ends_with(want), "{text}");
    assert!(say("mntr", &view).contains("\nzk_quorum_size\t2\n"));
}

#[test]
fn cons_is_zookeepers_text_r05() {
    assert_eq!(say("cons", &view()), golden(include_str!("golden/cons.txt")));
    let mut view = view();
    view.connections[0].last_xid = Xid(-2);
    view.connections[0].is_blocked = true;
    let text = say("cons", &view);
    assert!(text.contains("38256[5](") && text.contains("to=6000,lzxid=0x131"), "{text}");
}

#[test]
fn dump_is_zookeepers_text_r07() {
    let text = say("dump", &view());
    let theirs = golden(include_str!("golden/dump.txt"));
    let until = theirs.find("Connections dump:").unwrap();
    assert_eq!(text[..until], theirs[..until]);
    // There a connection has buckets of its own; here it ends with its session, or with the handshake's time.
    let want = "Connections dump:\n\
        Connections Sets (3)/(4):\n\
        1 expire at Wed Nov 25 03:50:26 UTC 2026:\n\
        \tip: /127.0.0.1:38256 sessionId: 0x1000028509c0001\n\
        1 expire at Wed Nov 25 03:50:30 UTC 2026:\n\
        \tip: /127.0.0.1:38238 sessionId: 0x1000028509c0000\n\
        2 expire at Wed Nov 25 03:50:33 UTC 2026:\n\
        \tip: /127.0.0.1:38302 sessionId: 0x0\n\
        \tip: /127.0.0.1:38248 sessionId: 0x0\n";
    assert_eq!(&text[until..], want);
}

/// They were shortened (a review). Java writes a zone behind some of its own; a client's address has none here.
#[test]
fn addresses_of_clients_are_written_as_java_writes_them() {
    for (address, want) in [
        ("10.1.2.3:2181", "/10.1.2.3:2181"),
        ("[::ffff:10.1.2.3]:2181", "/10.1.2.3:2181"),
        ("[::1]:45806", "/[0:0:0:0:0:0:0:1]:45806"),
        ("[2001:DB8::00a0:B]:1", "/[2001:db8:0:0:0:0:a0:b]:1"),
    ] {
        let mut view = view();
        view.connections.iter_mut().for_each(|row| row.peer = address.parse().unwrap());
        for word in ["cons", "stat"] {
            assert!(say(word, &view).contains(&format!("\n {want}[")), "{word} of {address}");
        }
        assert!(say("dump", &view).contains(&format!("\tip: {want} sessionId: ")), "dump of {address}");
    }
}

/// A follower's listed no session at all (a review).
#[test]
fn dump_of_a_follower_lists_sessions_with_their_timeouts() {
    let timeouts = Some(vec![(FIRST, 30_000), (SECOND, 6_000)]);
    let sessions = Sessions { buckets: Vec::new(), timeouts, ..view().sessions };
    let text = say("dump", &View { sessions, ..view() });
    let want =
        "SessionTracker dump:\nGlobal Sessions(2):\n0x1000028509c0000\t30000ms\n0x1000028509c0001\t6000ms\n\
        ephemeral nodes dump:\nSessions with Ephemerals (1):\n";
    assert!(text.starts_with(want), "{text}");
}

#[test]
fn envi_has_zookeepers_keys_in_its_order_r08() {
    let text = say("envi", &view());
    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split('=').next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&text), keys(include_str!("golden/envi.txt")));
    assert!(text.starts_with("Environment:\nzookeeper.version=3.9.5-0123456789ab, built on "), "{text}");
}

#[test]
fn watches_are_zookeepers_texts_r12_r13_r14() {
    assert_eq!(say("wchs", &view()), include_str!("golden/wchs.txt"));
    // ZooKeeper lists in no order; ours is sorted.
    let theirs = include_str!("golden/wchc.txt");
    assert_eq!(sorted(&say("wchc", &view())), sorted(theirs));
    assert_eq!(say("wchc", &view()).len(), theirs.len());
    assert_eq!(sorted(&say("wchp", &view())), sorted(include_str!("golden/wchp.txt")));
    let nothing = View { watches: BTreeMap::new(), ..view() };
    assert_eq!((say("wchc", &nothing), say("wchp", &nothing)), ("\n".into(), "\n".into()));
}

#[test]
fn the_short_words_are_zookeepers_texts_r01_r06_r10_r11_r15_r16_r17_r18() {
    for (word, want) in [
        ("ruok", "imok"),
        ("isro", "rw"),
        ("crst", "Connection stats reset.\n"),
        ("srst", "Server stats reset.\n"),
        ("gtmk", "306"),
        ("dirs", include_str!("golden/dirs.txt")),
        ("hash", include_str!("golden/hash.txt")),
    ] {
        assert_eq!(say(word, &view()), want, "{word}");
    }
    assert_eq!(say("stmk", &View { trace_mask: Some(-1), ..view() }), "-1");
    assert_eq!(answer(b"stmk", &View { trace_mask: None, ..view() }), None);
}

/// What the alerts of an ensemble are made of.
#[test]
fn a_leader_tells_how_many_have_all_that_it_sends() {
    let lines = "ringkeeper.myid=1\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";
    let lines = format!("tickTime=2000\ninitLimit=10\nsyncLimit=5\n{lines}");
    let leading = Leading { synced: [2, 1], uptime: Millis(7_000), pending_syncs: 4, proposal_sizes: None };
    let leader = View { role: Role::Leader, peers: 3, leading, config: Arc::new(config(&lines)), ..view() };
    assert!(say("srvr", &leader).ends_with("\nProposal sizes last/min/max: -1/-1/-1\n"));
    let leading = Leading { proposal_sizes: Some([48, 36, 149]), ..leading };
    let leader = View { leading, ..leader };
    for word in ["srvr", "stat"] {
        assert!(say(word, &leader).contains("\nProposal sizes last/min/max: 48/36/149\n"), "{word}");
    }
    let text = say("mntr", &leader);
    for line in [
        "zk_synced_followers\t2\n",
        "zk_synced_observers\t1\n",
        "zk_peer_state\tleading - broadcast\n",
        "zk_pending_syncs\t4\n",
        "zk_leader_uptime\t7000\n",
        "zk_last_proposal_size\t48\n",
        "zk_min_proposal_size\t36\n",
        "zk_max_proposal_size\t149\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let follower = View { role: Role::Follower, ..leader };
    let text = say("mntr", &follower);
    assert!(text.contains("zk_peer_state\tfollowing - broadcast\n"), "{text}");
    assert!(!text.contains("synced") && !text.contains("proposal_size"), "{text}");
    assert!(!say("srvr", &follower).contains("Proposal"));
}

#[test]
fn mntr_speaks_zookeepers_names_alone_and_those_that_dashboards_read_r09() {
    let text = say("mntr", &view());
    let known: BTreeSet<&str> = include_str!("golden/mntr_names.txt").lines().collect();
    let mut said = BTreeSet::new();
    for line in text.lines() {
        let (name, value) = line.strip_prefix("zk_").and_then(|line| line.split_once('\t')).unwrap();
        assert!(known.contains(name) || name.starts_with("ringkeeper_"), "{name}");
        assert!(said.insert(name), "{name} comes twice");
        if !matches!(name, "version" | "server_state") {
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let is_mean = name.starts_with("avg_") || name == "connection_drop_probability";
            assert_eq!(value.contains('.'), is_mean, "{line}");
        }
    }
    for name in [
        "version",
        "server_state",
        "avg_latency",
        "max_latency",
        "min_latency",
        "packets_received",
        "packets_sent",
        "num_alive_connections",
        "outstanding_requests",
        "znode_count",
        "watch_count",
        "ephemerals_count",
        "approximate_data_size",
        "open_file_descriptor_count",
        "max_file_descriptor_count",
        "global_sessions",
        "local_sessions",
        "uptime",
        "avg_fsynctime",
        "connection_drop_probability",
        "auth_failed_count",
    ] {
        assert!(said.contains(name), "{name} is missing");
    }
    assert!(text.starts_with("zk_version\t3.9.5-"), "{text}");
    assert!(
        text.contains("zk_avg_latency\t0.5048\n") && text.contains("zk_avg_fsynctime\t0.0066\n"),
        "{text}"
    );
    assert!(text.contains("zk_znode_count\t8\n") && text.contains("zk_uptime\t169551\n"), "{text}");
}

#[test]
fn a_server_that_does_not_serve_says_so_r19() {
    let view = View { serving: false, ..view() };
    let line = "This ZooKeeper instance is not currently serving requests\n";
    for word in FourLetterWords::KNOWN {
        let want = match word {
            "ruok" => "imok",
            "isro" => "null",
            "gtmk" | "stmk" => "306",
            "hash" => line.trim_end(),
            "envi" => {
                assert!(say(word, &view).starts_with("Environment:\n"));
                continue;
            }
            _ => line,
        };
        assert_eq!(say(word, &view), want, "{word}");
    }
}

#[test]
fn the_whitelist_is_zookeepers_key_with_our_default_r20_r21() {
    let by_default = config("").four_letter_words;
    for word in FourLetterWords::KNOWN {
        let bytes: &[u8; 4] = word.as_bytes().try_into().unwrap();
        let is_harmless = FourLetterWords::DEFAULT.contains(&word);
        assert_eq!(refusal(bytes, &by_default).is_none(), is_harmless, "{word}");
        assert!(Needs::of(bytes).is_some(), "{word}");
        assert!(
            !is_harmless || ["stat", "wchs"].contains(&word) || !Needs::of(bytes).unwrap().is_costly(),
            "{word}"
        );
    }
    // Twenty of it, behind which everybody else's words waited for seconds (a review).
    assert!(Needs::of(b"wchs").unwrap().is_costly());
    let said = refusal(b"cons", &by_default).unwrap();
    assert_eq!(said, b"cons is not executed because it is not in the whitelist.\n");
    assert_eq!(refusal(b"cons", &config("4lw.commands.whitelist=*").four_letter_words), None);
    let two = config("4lw.commands.whitelist=cons, dump").four_letter_words;
    assert_eq!(refusal(b"dump", &two), None);
    assert!(refusal(b"ruok", &two).is_some(), "what the operator gives replaces the default");
}

#[test]
fn who_did_not_answer_is_named_and_nothing_hangs() {
    let view = View { silent: vec![ShardId(1)], sequencer_is_silent: true, ..view() };
    for word in ["srvr", "stat", "cons", "dump", "wchs", "wchc", "wchp"] {
        let text = say(word, &view);
        assert!(text.contains("Shard 1 did not answer in time"), "{word}: {text}");
    }
    assert!(say("dump", &view).contains("The sequencer did not answer in time"));
    assert!(say("mntr", &view).contains("zk_ringkeeper_silent_shards\t1\n"));
}
