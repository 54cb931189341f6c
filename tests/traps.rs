//! The compatibility traps TR01 to TR43, each by its name, on a whole server in one thread. A trap is a place where a
//! server that looks right breaks a real client.

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::config::{Config, Sources, TextFile};
use ringkeeper::ids::SessionId;
use ringkeeper::shard::Why;
use ringkeeper::wire::{put_buffer, put_i32, put_i64, ConnectRequest, OpCode as Op, Reader};

const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const BAD_ARGUMENTS: i32 = -8;

fn err(world: &mut World, conn: Conn, op: Op, body: &[u8]) -> i32 {
    world.ask(conn, op, body).err
}

#[test]
fn tr01_a_session_is_attached_again_and_a_bad_one_gets_zeros() {
    let mut world = World::new(2);
    let old = world.login(0);
    world.make(old, "/e", 1);
    let (session, password) = (world.clients[old.0].session, world.clients[old.0].password);
    for (id, word) in [(session, [9; 16]), (0x77, [0; 16]), (0x77, password), (session ^ 1, password)] {
        let stranger = world.connect(1);
        let answer = world.greet(stranger, &hello(id, &word, 10_000)).expect("an answer, not a silent close");
        assert_eq!((answer.timeout_ms, answer.session_id, answer.password), (0, 0, [0; 16]));
        assert!(world.is_closed(stranger));
        assert!(!world.is_closed(old), "a wrong password disturbs nobody");
        assert_eq!(world.ask(old, Op::Ping, b"").err, 0);
    }
    let new = world.connect(1);
    let answer = world.greet(new, &hello(session, &password, 20_000)).unwrap();
    assert_eq!((answer.session_id, answer.password), (session, password), "never a new id instead");
    assert_eq!(answer.timeout_ms, 20_000, "negotiated anew");
    assert!(world.is_closed(old), "the old connection is closed");
    assert_eq!(world.stat(new, "/e").ephemeral_owner, session, "ephemerals are kept");
    world.ask(new, Op::CloseSession, b"").ok();
    let late = world.connect(0);
    let answer = world.greet(late, &hello(session, &password, 10_000)).unwrap();
    assert_eq!((answer.timeout_ms, answer.session_id), (0, 0), "a closed session is gone");
    assert!(world.is_closed(late));
}

#[test]
fn tr02_a_failed_multi_says_zero_in_its_header_and_a_code_for_each_operation() {
    let mut world = World::new(1);
    let c = world.login(0);
    let body = multi(&[
        (Op::Create, create("/a", b"", 0)),
        (Op::Delete, path_and("/none", -1)),
        (Op::SetData, set("/a", b"y", -1)),
    ]);
    let reply = world.ask(c, Op::Multi, &body);
    assert_eq!(reply.err, 0);
    let codes: Vec<_> = reply.results().iter().map(|(kind, err, body)| (*kind, *err, body.clone())).collect();
    let code = |code: i32| (-1, code, code.to_be_bytes().to_vec());
    assert_eq!(codes, [code(0), code(NO_NODE), code(-2)]);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/a", false)), NO_NODE, "nothing of it stays");
    assert!(
        world.ask(c, Op::Multi, &multi(&[])).results().is_empty(),
        "an empty one has the end marker alone"
    );
}

#[test]
fn tr03_results_of_creates_in_a_multi_bear_type_1_or_15() {
    let mut world = World::new(1);
    let c = world.login(0);
    let body = multi(&[
        (Op::Create, create("/a", b"", 0)),
        (Op::Create2, create("/b", b"", 0)),
        (Op::CreateContainer, create("/c", b"", 4)),
        (Op::CreateTtl, create_ttl("/d", 5, 1_000)),
    ]);
    let kinds: Vec<i32> = world.ask(c, Op::Multi, &body).results().iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [1, 15, 15, 15]);
}

#[test]
fn tr04_sequence_numbers_count_creates_and_the_reported_cversion_counts_deletes_too() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/p", 0);
    assert_eq!(world.make(c, "/p/n-", 2).text(), "/p/n-0000000000");
    world.make(c, "/p/plain", 0);
    world.ask(c, Op::Delete, &path_and("/p/plain", -1)).ok();
    assert_eq!(world.make(c, "/p/n-", 2).text(), "/p/n-0000000002", "plain creates count, deletes do not");
    let stat = world.stat(c, "/p");
    assert_eq!((stat.cversion, stat.num_children), (2 * 3 - 2, 2), "three creates, one delete");
    let in_one = multi(&[(Op::Create, create("/p/m-", b"", 2)), (Op::Create, create("/p/m-", b"", 2))]);
    world.ask(c, Op::Multi, &in_one).ok();
    let mut names = world.ask(c, Op::GetChildren, &read("/p", false)).names();
    names.sort();
    assert_eq!(names, ["m-0000000003", "m-0000000004", "n-0000000000", "n-0000000002"]);
    // A failed multi uses no number up (C07).
    let failing = multi(&[(Op::Create, create("/p/m-", b"", 2)), (Op::Check, path_and("/p", 77))]);
    world.ask(c, Op::Multi, &failing).ok();
    assert_eq!(world.make(c, "/p/m-", 2).text(), "/p/m-0000000005");
}

#[test]
fn tr05_the_stats_of_a_fresh_tree() {
    let mut world = World::new(1);
    let c = world.login(0);
    for (path, cversion, children) in
        [("/", -1, 1), ("/zookeeper", -2, 2), ("/zookeeper/quota", 0, 0), ("/zookeeper/config", 0, 0)]
    {
        let stat = world.stat(c, path);
        assert_eq!((stat.cversion, stat.num_children), (cversion, children), "{path}");
    }
}

#[test]
fn tr06_set_watches_tells_what_was_missed_before_its_reply_and_arms_the_rest() {
    let mut world = World::new(2);
    let actor = world.login(0);
    for path in ["/same", "/changed", "/gone", "/kids", "/quiet", "/there", "/p", "/r"] {
        world.make(actor, path, 0);
    }
    let seen = world.ask(actor, Op::Ping, b"").zxid;
    world.ask(actor, Op::SetData, &set("/changed", b"y", -1)).ok();
    world.ask(actor, Op::Delete, &path_and("/gone", -1)).ok();
    world.make(actor, "/kids/k", 0);
    world.ask(actor, Op::SetData, &set("/kids", b"data is nothing to a child watch", -1)).ok();
    world.ask(actor, Op::SetData, &set("/quiet", b"z", -1)).ok();
    world.ask(actor, Op::SetData, &set("/p", b"y", -1)).ok();
    let c = world.login(1);
    let lists: &[&[&str]] = &[
        &["/same", "/changed", "/gone"],
        &["/there", "/absent"],
        &["/kids", "/quiet", "/gone"],
        &["/p"],
        &["/r"],
    ];
    let said = world.ask_all(c, Op::SetWatches2, &set_watches(seen, lists));
    assert_eq!(
        told(&said),
        [
            "event 3 /changed",
            "event 2 /gone",
            "event 1 /there",
            "event 4 /kids",
            "event 2 /gone",
            "reply -8 0"
        ],
        "data by mzxid, exist by presence, child by pzxid, persistent silently, all before the reply"
    );
    for one in &said {
        match one {
            Said::Event { zxid, .. } => assert_eq!(*zxid, -1, "no transaction of now caused it"),
            Said::Reply(reply) => assert!(reply.body.is_empty(), "the reply has no body"),
        }
    }
    world.ask(actor, Op::SetData, &set("/same", b"y", -1)).ok();
    world.ask(actor, Op::Create, &create("/absent", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/quiet/k", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/p/k", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/r/a", b"", 0)).ok();
    world.ask(actor, Op::SetData, &set("/changed", b"told already", -1)).ok();
    world.settle();
    let want = [(3, "/same"), (1, "/absent"), (4, "/quiet"), (4, "/p"), (1, "/r/a")];
    assert_eq!(world.events(c), want.map(|(kind, path)| (kind, path.to_owned())), "what was armed");
}

#[test]
fn tr07_watches_die_with_the_connection_not_with_the_session() {
    let mut world = World::new(1);
    let (actor, old) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(old, Op::GetData, &read("/a", true)).ok();
    world.ask(old, Op::AddWatch, &path_and("/a", 1)).ok();
    let new = world.attach(0, old);
    world.ask(actor, Op::SetData, &set("/a", b"y", -1)).ok();
    assert_eq!(world.ask(new, Op::Ping, b"").err, 0);
    assert!(world.events(new).is_empty(), "nothing followed the session to its new connection");
    assert_eq!(world.sides[0].shard.watches().count(), 0);
}

#[test]
fn tr08_an_event_comes_before_the_own_reply_and_before_a_newer_read() {
    let mut world = World::new(2);
    let (a, b) = (world.login(0), world.login(1));
    world.make(a, "/a", 0);
    for c in [a, b] {
        world.ask(c, Op::GetData, &read("/a", true)).ok();
    }
    let xid = world.post(a, Op::SetData, &set("/a", b"new", -1));
    let get = world.post(a, Op::GetData, &read("/a", false));
    world.settle();
    let said = world.hear(a);
    let want = ["event 3 /a".to_owned(), format!("reply {xid} 0"), format!("reply {get} 0")];
    assert_eq!(told(&said), want);
    let other = world.ask_all(b, Op::GetData, &read("/a", false));
    assert_eq!(told(&other)[0], "event 3 /a", "the other shard's client hears of it before it sees it");
}

#[test]
fn tr09_a_delete_is_told_once_to_a_connection_that_watches_data_and_children() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    world.ask(c, Op::GetChildren, &read("/a", true)).ok();
    world.ask(c, Op::GetChildren, &read("/", true)).ok();
    world.ask(actor, Op::Delete, &path_and("/a", -1)).ok();
    assert_eq!(world.events(c), [(DELETED, "/a".to_owned()), (CHILDREN, "/".to_owned())]);
}

#[test]
fn tr10_exists_watches_what_is_not_there_and_get_does_not() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    assert_eq!(err(&mut world, c, Op::GetData, &read("/get", true)), NO_NODE);
    assert_eq!(err(&mut world, c, Op::GetChildren2, &read("/kids", true)), NO_NODE);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/exists", true)), NO_NODE);
    for path in ["/get", "/kids", "/exists"] {
        world.make(actor, path, 0);
    }
    assert_eq!(world.events(c), [(CREATED, "/exists".to_owned())]);
}

#[test]
fn tr11_a_recursive_watch_hears_no_children_changed_and_a_persistent_one_does() {
    let mut world = World::new(1);
    let (actor, recursive, persistent) = (world.login(0), world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(recursive, Op::AddWatch, &path_and("/a", 1)).ok();
    world.ask(persistent, Op::AddWatch, &path_and("/a", 0)).ok();
    world.make(actor, "/a/b", 0);
    world.make(actor, "/a/b/c", 0);
    world.ask(actor, Op::SetData, &set("/a", b"y", -1)).ok();
    world.ask(actor, Op::SetData, &set("/a", b"z", -1)).ok();
    let pairs = |list: &[(i32, &str)]| list.iter().map(|(k, p)| (*k, (*p).to_owned())).collect::<Vec<_>>();
    assert_eq!(world.events(recursive), pairs(&[(1, "/a/b"), (1, "/a/b/c"), (3, "/a"), (3, "/a")]));
    assert_eq!(world.events(persistent), pairs(&[(4, "/a"), (3, "/a"), (3, "/a")]));
}

#[test]
fn tr12_add_watch_has_a_body_of_four_bytes_and_its_kin_have_none() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    assert_eq!(world.ask(c, Op::AddWatch, &path_and("/a", 0)).ok(), [0; 4]);
    let none: &[(Op, Vec<u8>)] = &[
        (Op::CheckWatches, path_and("/a", 4)),
        (Op::RemoveWatches, path_and("/a", 4)),
        (Op::SetWatches, set_watches(0, &[&[], &[], &[]])),
        (Op::SetWatches2, set_watches(0, &[&[], &[], &[], &[], &[]])),
        (Op::Ping, Vec::new()),
        (Op::Auth, auth("digest", b"u:p")),
        (Op::Delete, path_and("/a", -1)),
        (Op::CloseSession, Vec::new()),
    ];
    for (op, body) in none {
        assert!(world.ask(c, *op, body).ok().is_empty(), "{op:?}");
    }
}

#[test]
fn tr13_the_answer_to_a_handshake_mirrors_its_read_only_byte() {
    let mut world = World::new(1);
    for (read_only, sent, answered) in [(Some(false), 45, 37), (Some(true), 45, 37), (None, 44, 36)] {
        let c = world.connect(0);
        let mut out = Vec::new();
        ConnectRequest { read_only, ..hello(0, &[0; 16], 10_000) }.encode(&mut out);
        assert_eq!(out.len(), 4 + sent);
        world.put(c, &out);
        world.settle();
        assert_eq!(world.clients[c.0].from_server.len(), 4 + answered, "{read_only:?}");
        assert_eq!(
            world.greeted(c).unwrap().read_only,
            read_only.map(|_| false),
            "we are no read-only server"
        );
    }
}

#[test]
fn tr14_what_is_pipelined_behind_the_handshake_is_kept_and_answered_in_order() {
    let mut world = World::new(1);
    let actor = world.login(0);
    world.make(actor, "/a", 0);
    let c = world.connect(0);
    let mut out = Vec::new();
    hello(0, &[0; 16], 10_000).encode(&mut out);
    out.extend(request(-4, 100, &auth("digest", b"u:p")));
    out.extend(request(-8, 101, &set_watches(0, &[&["/a"], &[], &[]])));
    out.extend(request(1, 4, &read("/a", false)));
    world.log_held = true;
    world.put(c, &out);
    world.settle();
    assert!(world.clients[c.0].from_server.is_empty(), "no session yet, no answer");
    world.release_log();
    assert_ne!(world.greeted(c).expect("the handshake comes first").session_id, 0);
    let said = world.hear(c);
    assert_eq!(told(&said), ["reply -4 0", "event 3 /a", "reply -8 0", "reply 1 0"]);
}

#[test]
fn tr15_a_client_that_has_seen_more_than_the_server_is_closed_without_a_byte() {
    let mut world = World::new(1);
    let c = world.connect(0);
    let ahead = ConnectRequest { last_zxid_seen: 1 << 62, ..hello(0, &[0; 16], 10_000) };
    assert_eq!(world.greet(c, &ahead), None);
    assert!(world.is_closed(c));
    assert_eq!(world.cuts(0), [Why::ZxidAhead]);
    let c = world.connect(0);
    let last = world.sequencer.state().last_zxid().0;
    let level = ConnectRequest { last_zxid_seen: last, ..hello(0, &[0; 16], 10_000) };
    assert!(world.greet(c, &level).is_some());
}

#[test]
fn tr16_replies_keep_their_order_and_only_the_own_session_waits() {
    let mut world = World::new(1);
    let (a, b) = (world.login(0), world.login(0));
    world.make(a, "/a", 0);
    world.ask(a, Op::SetData, &set("/a", b"first", -1)).ok();
    world.log_held = true;
    let set1 = world.post(a, Op::SetData, &set("/a", b"second", -1));
    let get = world.post(a, Op::GetData, &read("/a", false));
    let set2 = world.post(a, Op::SetData, &set("/a", b"third", -1));
    let fail = world.post(a, Op::Create, &create("/a", b"", 0));
    let short = world.post(a, Op::Create, b"\0\0");
    world.post(a, Op::Ping, b"");
    world.settle();
    assert!(world.hear(a).is_empty(), "all of it waits behind the write");
    assert_eq!(
        world.ask(b, Op::GetData, &read("/a", false)).data().unwrap(),
        b"first",
        "another does not wait"
    );
    world.release_log();
    let said = world.hear(a);
    let want = [(set1, 0), (get, 0), (set2, 0), (fail, NODE_EXISTS), (short, -5), (-2, 0)];
    assert_eq!(told(&said), want.map(|(xid, err)| format!("reply {xid} {err}")));
    let Said::Reply(reply) = &said[1] else { panic!() };
    assert_eq!(reply.data().unwrap(), b"second", "set, get, set: the get sees the first value");
}

#[test]
fn tr17_auth_is_answered_with_zxid_zero_and_a_failure_closes() {
    let mut world = World::new(1);
    let c = world.login(0);
    let reply = world.ask(c, Op::Auth, &auth("digest", b"u:p"));
    assert_eq!((reply.xid, reply.zxid, reply.err), (-4, 0, 0));
    world.put(c, &request(77, 100, &auth("digest", b"v:p")));
    world.settle();
    assert_eq!(told(&world.hear(c)), ["reply 77 0"], "the xid is echoed");
    let reply = world.ask(c, Op::Auth, &auth("nobody", b"x"));
    assert_eq!((reply.xid, reply.zxid, reply.err), (-4, 0, -115));
    assert!(world.is_closed(c));
    assert!(world.attach(0, c).0 > 0 && world.sequencer.state().sessions.len() == 1, "the session lives on");
}

#[test]
fn tr18_an_unknown_operation_is_unimplemented_and_closes() {
    let mut world = World::new(1);
    for op in [77, 0, 10, 23, 13, 20, -1, -10, i32::MAX, i32::MIN] {
        let c = world.login(0);
        world.put(c, &request(5, op, &path_and("/", -1)));
        world.settle();
        assert_eq!(told(&world.hear(c)), ["reply 5 -6"], "operation {op}");
        assert!(world.is_closed(c), "operation {op}");
    }
}

#[test]
fn tr19_the_order_of_checks_decides_which_error_is_told() {
    let mut world = World::new(1);
    let (c, owner) = (world.login(0), world.login(0));
    world.ask(owner, Op::Auth, &auth("digest", b"u:p")).ok();
    let mine: &[(i32, &str, &str)] = &[(31, "auth", "")];
    world.ask(owner, Op::Create, &create_acl("/mine", Some(b""), mine, 0)).ok();
    for (op, body, want, why) in [
        (Op::Delete, path_and("/mine/none", -1), NO_AUTH, "delete: the parent's permission before the znode"),
        (Op::Delete, path_and("/none/x", -1), NO_NODE, "delete: the parent before its permission"),
        (Op::SetData, set("/mine/none", b"", -1), NO_NODE, "setData: the znode before permission"),
        (Op::SetData, set("/mine", b"", 7), NO_AUTH, "setData: permission before version"),
        (Op::Create, create_acl("/none/x", Some(b""), &[], 0), -114, "create: the list before the parent"),
        (Op::Create, create("/none/x", b"", 0), NO_NODE, "create: the parent before permission"),
        (Op::Create, create("/mine/x", b"", 0), NO_AUTH, "create: permission before the name"),
        (Op::Create, create("/mine/../x", b"", 0), NO_NODE, "create: the parent before the path's form"),
        (Op::Create, create("/mine/.", b"", 0), NO_AUTH, "create: permission before the path's form"),
        (
            Op::Create,
            create("/x/", b"", 0),
            NO_NODE,
            "create: the parent of what stands before the last slash",
        ),
        (Op::Create, create("x", b"", 0), BAD_ARGUMENTS, "create: a path without a slash"),
        (Op::Create, create("/", b"", 0), NODE_EXISTS, "create: the root is there"),
        (Op::Delete, path_and("/zookeeper", -1), BAD_ARGUMENTS, "delete: protected"),
        (Op::SetAcl, set_acl("/none", &[], -1), -114, "setACL: the list before the znode"),
        (Op::SetAcl, set_acl("/mine", OPEN, 9), NO_AUTH, "setACL: permission before version"),
    ] {
        assert_eq!(err(&mut world, c, op, &body), want, "{why}");
    }
    assert_eq!(err(&mut world, owner, Op::SetData, &set("/mine", b"", 7)), BAD_VERSION);
    world.ask(owner, Op::Create, &create_acl("/mine/kid", Some(b""), mine, 0)).ok();
    assert_eq!(
        err(&mut world, owner, Op::Delete, &path_and("/mine", 7)),
        BAD_VERSION,
        "version before NotEmpty"
    );
    assert_eq!(err(&mut world, owner, Op::Delete, &path_and("/mine", -1)), -111);
}

#[test]
fn tr20_node_exists_wins_over_the_ephemeral_parent() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/e", 1);
    assert_eq!(err(&mut world, c, Op::Create, &create("/e/x", b"", 0)), -108);
    assert_eq!(err(&mut world, c, Op::Create, &create("/e", b"", 1)), NODE_EXISTS);
    // Under an ephemeral nothing can be, so the two meet only where the name is the parent's own.
    assert_eq!(err(&mut world, c, Op::Create, &create("/e/", b"", 0)), BAD_ARGUMENTS);
}

#[test]
fn tr21_containers_and_ttl_nodes_show_no_owner() {
    let mut world = World::new(1);
    let c = world.login(0);
    let container = world.ask(c, Op::CreateContainer, &create("/c", b"", 4)).stat();
    let ttl = world.ask(c, Op::CreateTtl, &create_ttl("/t", 5, 60_000)).stat();
    assert_eq!((container.ephemeral_owner, ttl.ephemeral_owner), (0, 0));
    assert_eq!(world.stat(c, "/t").ephemeral_owner, 0);
    world.make(c, "/e", 1);
    assert_eq!(world.stat(c, "/e").ephemeral_owner, world.session(c).0);
    assert_eq!(world.ask(c, Op::GetEphemerals, &path("/")).names(), ["/e"], "and belong to nobody");
}

#[test]
fn tr22_the_reaper_takes_used_containers_and_old_ttl_nodes_and_watchers_hear_it() {
    let mut world = World::with(1, |sequencer, _| sequencer.reap_interval_ms = 1_000);
    let c = world.login_for(0, 40_000);
    for name in ["/used", "/fresh"] {
        world.ask(c, Op::CreateContainer, &create(name, b"", 4)).ok();
    }
    world.ask(c, Op::CreateTtl, &create_ttl("/ttl", 5, 3_000)).ok();
    world.ask(c, Op::CreateTtl, &create_ttl("/parent", 5, 3_000)).ok();
    world.make(c, "/parent/kid", 0);
    world.make(c, "/used/kid", 0);
    world.pass(2_000);
    world.ask(c, Op::SetData, &set("/ttl", b"starts its time anew", -1)).ok();
    world.ask(c, Op::Delete, &path_and("/used/kid", -1)).ok();
    world.ask(c, Op::Exists, &read("/used", true)).ok();
    let before = world.ask(c, Op::Ping, b"").zxid;
    world.pass(2_000);
    assert_eq!(world.events(c), [(DELETED, "/used".to_owned())], "a used container");
    world.stat(c, "/fresh");
    world.stat(c, "/ttl");
    world.pass(3_000);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/ttl", false)), NO_NODE, "by mtime");
    world.stat(c, "/parent");
    assert!(world.ask(c, Op::Ping, b"").zxid >= before + 2, "each is a transaction of the log");
}

#[test]
fn tr23_a_delete_and_a_sessions_end_move_pzxid_and_no_stored_cversion() {
    let mut world = World::new(1);
    let (c, other) = (world.login(0), world.login(0));
    world.make(c, "/p", 0);
    world.make(c, "/p/a", 0);
    world.make(other, "/p/e", 1);
    let deleted = world.ask(c, Op::Delete, &path_and("/p/a", -1)).zxid;
    assert_eq!(world.stat(c, "/p").pzxid, deleted);
    let closed = world.ask(other, Op::CloseSession, b"").zxid;
    let stat = world.stat(c, "/p");
    assert_eq!((stat.pzxid, stat.num_children), (closed, 0));
    assert_eq!(stat.cversion, 4, "two creates and two deletes");
    assert_eq!(world.make(c, "/p/s", 2).text(), "/p/s0000000002", "creates alone are stored");
    world.ask(c, Op::SetData, &set("/p/s0000000002", b"", -1)).ok();
    assert_eq!(
        world.stat(c, "/p").pzxid,
        world.stat(c, "/p/s0000000002").czxid,
        "a child's data moves nothing"
    );
}

#[test]
fn tr24_digests_are_masked_exists_needs_read_and_events_are_filtered() {
    let mut world = World::new(1);
    let (owner, c) = (world.login(0), world.login(0));
    world.ask(owner, Op::Auth, &auth("digest", b"u:p")).ok();
    let id = "u:gCEQwBzfHFvqOOgjI92VM4tvVoM=";
    let readable: &[(i32, &str, &str)] = &[(31, "auth", ""), (1, "world", "anyone")];
    let hidden: &[(i32, &str, &str)] = &[(31, "auth", "")];
    world.ask(owner, Op::Create, &create_acl("/readable", Some(b""), readable, 0)).ok();
    world.ask(owner, Op::Create, &create_acl("/hidden", Some(b""), hidden, 0)).ok();
    let shown = |reply: &Reply| {
        let mut reader = Reader::new(reply.ok());
        let (_count, _perms) = (reader.i32().unwrap(), reader.i32().unwrap());
        let scheme = reader.string().unwrap().unwrap().into_owned();
        (scheme, reader.string().unwrap().unwrap().into_owned())
    };
    let mine = world.ask(owner, Op::GetAcl, &path("/readable"));
    let others = world.ask(c, Op::GetAcl, &path("/readable"));
    let whole = shown(&mine).1;
    assert!(whole.starts_with("u:") && whole.len() == id.len(), "{whole}");
    assert_eq!(shown(&others), ("digest".to_owned(), "u:x".to_owned()));
    assert_eq!(err(&mut world, c, Op::GetAcl, &path("/hidden")), NO_AUTH);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/hidden", true)), NO_AUTH);
    assert_eq!(world.sides[0].shard.watches().count(), 0, "who may not look does not watch either");
    world.ask(c, Op::AddWatch, &path_and("/", 1)).ok();
    world.ask(c, Op::GetChildren, &read("/", true)).ok();
    world.ask(owner, Op::SetData, &set("/hidden", b"secret", -1)).ok();
    world.ask(owner, Op::Create, &create_acl("/hidden/x", Some(b""), hidden, 0)).ok();
    world.ask(owner, Op::SetData, &set("/readable", b"y", -1)).ok();
    assert_eq!(
        world.events(c),
        [(CHANGED, "/readable".to_owned())],
        "of what it may not read it hears nothing"
    );
    world.ask(owner, Op::Delete, &path_and("/hidden/x", -1)).ok();
    world.ask(owner, Op::Delete, &path_and("/hidden", -1)).ok();
    assert_eq!(
        world.events(c),
        [(CHILDREN, "/".to_owned())],
        "a deleted znode's last list, the parent's own list"
    );
}

#[test]
fn tr25_auth_stands_for_all_identities_repetitions_go_and_an_empty_list_is_an_error() {
    let mut world = World::new(1);
    let c = world.login(0);
    assert_eq!(err(&mut world, c, Op::Create, &create_acl("/a", None, &[], 0)), -114);
    assert_eq!(err(&mut world, c, Op::Create, &create_acl("/a", None, &[(31, "auth", "")], 0)), -114);
    for user in [b"u:p", b"v:p"] {
        world.ask(c, Op::Auth, &auth("digest", user)).ok();
    }
    let list: &[(i32, &str, &str)] =
        &[(31, "auth", "ignored"), (1, "world", "anyone"), (1, "world", "anyone")];
    world.ask(c, Op::Create, &create_acl("/a", None, list, 0)).ok();
    let reply = world.ask(c, Op::GetAcl, &path("/a"));
    let mut reader = Reader::new(reply.ok());
    let count = reader.i32().unwrap();
    let mut got = Vec::new();
    for _ in 0..count {
        let perms = reader.i32().unwrap();
        let scheme = reader.string().unwrap().unwrap().into_owned();
        let id = reader.string().unwrap().unwrap();
        got.push(format!("{perms} {scheme} {}", id.split(':').next().unwrap()));
    }
    assert_eq!(got, ["31 digest u", "31 digest v", "1 world anyone"], "no ip identity, nothing twice");
}

#[test]
fn tr26_super_comes_beside_the_digest_identity() {
    let mut world = World::new(1);
    let (owner, root) = (world.login(0), world.login(0));
    world.ask(owner, Op::Auth, &auth("digest", b"u:p")).ok();
    world.ask(owner, Op::Create, &create_acl("/mine", Some(b"s"), &[(31, "auth", "")], 0)).ok();
    assert_eq!(err(&mut world, root, Op::GetData, &read("/mine", false)), NO_AUTH);
    world.ask(root, Op::Auth, &auth("digest", b"super:test")).ok();
    assert_eq!(world.ask(root, Op::GetData, &read("/mine", false)).data().unwrap(), b"s");
    let reply = world.ask(root, Op::WhoAmI, b"");
    let mut reader = Reader::new(reply.ok());
    let mut ids = Vec::new();
    for _ in 0..reader.i32().unwrap() {
        let scheme = reader.string().unwrap().unwrap().into_owned();
        ids.push(format!("{scheme}:{}", reader.string().unwrap().unwrap()));
    }
    assert_eq!(ids, ["ip:127.0.0.1", "super:", "digest:super"]);
}

#[test]
fn tr27_null_and_empty_data_are_two_things() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.ask(c, Op::Create, &create_acl("/null", None, OPEN, 0)).ok();
    world.ask(c, Op::Create, &create_acl("/empty", Some(b""), OPEN, 0)).ok();
    let null = world.ask(c, Op::GetData, &read("/null", false));
    let empty = world.ask(c, Op::GetData, &read("/empty", false));
    assert_eq!((null.data(), null.stat().data_length), (None, 0));
    assert_eq!((empty.data(), empty.stat().data_length), (Some(Vec::new()), 0));
}

#[test]
fn tr28_timeouts_are_negotiated_and_a_session_ends_within_a_tick_after_its_own() {
    let mut world = World::new(2);
    for (asked, got) in [(6_000, 6_000), (1, 4_000), (3_600_000, 40_000), (-5, 4_000), (0, 4_000)] {
        let c = world.connect(0);
        assert_eq!(world.greet(c, &hello(0, &[0; 16], asked)).unwrap().timeout_ms, got, "asked {asked}");
    }
    let watcher = world.login_for(1, 40_000);
    let c = world.login_for(0, 5_000);
    world.make(c, "/e", 1);
    world.ask(watcher, Op::Exists, &read("/e", true)).ok();
    let heard = world.now.mono.0;
    while !world.is_closed(c) {
        world.pass(100);
    }
    let lived = world.now.mono.0 - heard;
    assert!((5_000..=7_200).contains(&lived), "{lived}: the timeout, then up to a tick of 2000 and a report");
    assert_eq!(world.events(watcher), [(DELETED, "/e".to_owned())]);
    let late = world.attach(0, c);
    assert!(world.is_closed(late), "an expired session is not attached again");
}

#[test]
fn tr29_a_server_that_comes_back_gives_every_session_its_full_time() {
    let mut world = World::new(1);
    let c = world.login_for(0, 4_000);
    world.make(c, "/e", 1);
    let (session, password) = (world.clients[c.0].session, world.clients[c.0].password);
    world.pass(3_900);
    let mut world = world.restart();
    world.pass(3_900);
    assert!(world.sequencer.state().table.get("/e").is_some(), "the clock began anew at the start");
    let again = world.connect(0);
    assert_eq!(world.greet(again, &hello(session, &password, 4_000)).unwrap().session_id, session);
    assert_eq!(world.stat(again, "/e").ephemeral_owner, session);
    world.lose(again);
    world.pass(8_000);
    assert!(world.sequencer.state().table.get("/e").is_none(), "and it does end");
}

#[test]
fn tr30_a_ping_keeps_its_place_touches_the_session_and_bears_the_last_zxid() {
    let mut world = World::new(1);
    let c = world.login_for(0, 4_000);
    let last = world.make(c, "/a", 0).zxid;
    assert_eq!(world.ask(c, Op::Ping, b"").zxid, last);
    world.log_held = true;
    let xid = world.post(c, Op::SetData, &set("/a", b"", -1));
    world.post(c, Op::Ping, b"");
    world.settle();
    assert!(world.hear(c).is_empty(), "a ping does not overtake a stuck write");
    world.release_log();
    assert_eq!(told(&world.hear(c)), [format!("reply {xid} 0"), "reply -2 0".to_owned()]);
    for _ in 0..10 {
        world.pass(3_000);
        world.ask(c, Op::Ping, b"").ok();
    }
    assert!(!world.is_closed(c), "pings alone keep it alive");
}

#[test]
fn tr31_a_sync_is_ordered_and_what_follows_sees_all_that_was_acknowledged() {
    let mut world = World::new(2);
    let (a, b) = (world.login(0), world.login(1));
    world.make(a, "/a", 0);
    world.log_held = true;
    let set_xid = world.post(b, Op::SetData, &set("/a", b"mine", -1));
    let sync = world.post(b, Op::Sync, &path("/a"));
    let get = world.post(b, Op::GetData, &read("/a", false));
    world.settle();
    assert!(world.hear(b).is_empty(), "the sync waits behind the write, the read behind both");
    world.release_log();
    let said = world.hear(b);
    assert_eq!(told(&said), [set_xid, sync, get].map(|xid| format!("reply {xid} 0")));
    let Said::Reply(reply) = &said[1] else { panic!() };
    assert_eq!(reply.text(), "/a", "the path is echoed");
    let Said::Reply(reply) = &said[2] else { panic!() };
    assert_eq!(reply.data().unwrap(), b"mine");
    // Another shard's acknowledged write is seen even without.
    world.sides[1].held = true;
    world.ask(a, Op::SetData, &set("/a", b"theirs", -1)).ok();
    world.sides[1].held = false;
    assert_eq!(world.ask(b, Op::GetData, &read("/a", false)).data().unwrap(), b"theirs");
}

#[test]
fn tr31_a_sync_behind_a_write_is_not_answered_with_it() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    world.log_held = true;
    let set_xid = world.post(c, Op::SetData, &set("/a", b"mine", -1));
    world.settle();
    // The shard has read the sync, the sequencer has not, and the write's answer comes.
    let sync = world.post(c, Op::Sync, &path("/a"));
    world.read_some(c.0, usize::MAX);
    world.persist();
    while world.sequencer_turn() {}
    world.catch_up(0);
    world.flush(0);
    assert_eq!(told(&world.hear(c)), [format!("reply {set_xid} 0")]);
    world.release_log();
    assert_eq!(told(&world.hear(c)), [format!("reply {sync} 0")]);
}

#[test]
fn tr32_a_standalone_servers_config_node_is_empty_readable_and_nobodys() {
    let mut world = World::new(1);
    let c = world.login(0);
    let reply = world.ask(c, Op::GetData, &read("/zookeeper/config", true));
    assert_eq!(reply.data(), Some(Vec::new()), "Curator reads it at every connect and keeps its own list");
    assert_eq!(err(&mut world, c, Op::SetData, &set("/zookeeper/config", b"x", -1)), NO_AUTH);
    assert_eq!(err(&mut world, c, Op::Delete, &path_and("/zookeeper/config", -1)), BAD_ARGUMENTS);
}

#[test]
fn tr33_a_word_counts_as_the_first_four_bytes_alone_and_survives_a_half_close() {
    let mut world = World::new(1);
    let c = world.connect(0);
    world.put(c, b"ru");
    world.settle();
    world.put(c, b"ok\n");
    world.half_close(c);
    assert_eq!(world.sides[0].words.len(), 1, "in two pieces, with a newline, the sender gone");
    assert!(!world.is_closed(c));
    world.answer_word(0, Some(b"imok"));
    assert_eq!(world.clients[c.0].from_server, b"imok", "whole, then closed");
    assert!(world.is_closed(c));
    let c = world.login(0);
    world.put(c, b"ruok");
    world.settle();
    assert!(world.sides[0].words.is_empty(), "in a session it is a length, and one above the limit");
    assert!(world.is_closed(c));
    let c = world.connect(0);
    world.put(c, b"nope");
    world.settle();
    assert!(
        world.is_closed(c) && world.clients[c.0].from_server.is_empty(),
        "a word that is none is a length too"
    );
}

#[test]
fn tr34_close_session_replies_and_then_closes() {
    let mut world = World::new(2);
    let (c, other) = (world.login(0), world.login(1));
    world.make(c, "/e", 1);
    world.ask(other, Op::GetData, &read("/e", true)).ok();
    let close = world.post(c, Op::CloseSession, b"");
    world.post(c, Op::GetData, &read("/e", false));
    world.settle();
    assert_eq!(told(&world.hear(c)), [format!("reply {close} 0")], "what follows it is ignored");
    assert!(world.is_closed(c));
    assert_eq!(world.events(other), [(DELETED, "/e".to_owned())]);
    assert_eq!(world.sequencer.state().sessions.len(), 1);
}

#[test]
fn tr35_an_event_bears_the_zxid_of_its_change() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    let zxid = world.ask(actor, Op::SetData, &set("/a", b"", -1)).zxid;
    let said = world.hear(c);
    let want = Said::Event { zxid, kind: CHANGED, state: 3, path: "/a".to_owned() };
    assert_eq!(said, [want]);
}

#[test]
fn tr36_the_limit_holds_for_the_whole_request_frame_and_for_no_reply() {
    let mut world = World::with(1, |_, shard| shard.frame_bytes_max = 1_000);
    let c = world.login(0);
    let over = create("/a", &[7; 1_000 - 8 - 6 - 4 - 31 - 4], 0);
    let mut most = create("/a", b"", 0);
    let data = 1_000 - 8 - most.len();
    most = create("/a", &vec![7; data], 0);
    assert_eq!(most.len() + 8, 1_000, "header and all");
    assert!(over.len() < most.len());
    world.ask(c, Op::Create, &most).ok();
    world.put(c, &request(9, 1, &create("/b", &vec![7; data + 1], 0)));
    world.settle();
    assert!(world.is_closed(c) && world.hear(c).is_empty(), "one byte more closes the connection");
    let c = world.attach(0, c);
    for n in 0..50 {
        world.ask(c, Op::Create, &create(&format!("/{n}-{}", "long".repeat(20)), b"", 0)).ok();
    }
    let reply = world.ask(c, Op::GetChildren, &read("/", false));
    assert!(reply.ok().len() > 4_000, "a reply may be larger");
}

#[test]
fn tr37_a_failed_write_takes_a_zxid_too() {
    let mut world = World::new(1);
    let c = world.login(0);
    let first = world.make(c, "/a", 0).zxid;
    let failed = world.ask(c, Op::Create, &create("/a", b"", 0));
    assert_eq!((failed.err, failed.zxid), (NODE_EXISTS, first + 1));
    assert_eq!(world.make(c, "/b", 0).zxid, first + 2);
}

#[test]
fn tr38_quota_usage_changes_without_a_zxid_and_without_a_watch() {
    let mut world = World::new(1);
    let c = world.login(0);
    let limits = "/zookeeper/quota/a/zookeeper_limits";
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    for path in ["/a", "/zookeeper/quota/a"] {
        world.make(c, path, 0);
    }
    world.ask(c, Op::Create, &create(limits, b"count=100,bytes=-1", 0)).ok();
    world.ask(c, Op::Create, &create(stats, b"count=0,bytes=0", 0)).ok();
    let before = world.ask(c, Op::GetData, &read(stats, true));
    assert_eq!(before.data().unwrap(), b"count=1,bytes=1", "what is there is counted");
    let made = world.make(c, "/a/b", 0).zxid;
    let after = world.ask(c, Op::GetData, &read(stats, false));
    assert_eq!(after.data().unwrap(), b"count=2,bytes=2");
    assert_eq!((after.stat().mzxid, after.stat().version), (before.stat().mzxid, before.stat().version));
    assert_eq!(world.ask(c, Op::Ping, b"").zxid, made, "no zxid of its own");
    assert!(world.events(c).is_empty());
}

#[test]
fn tr39_flag_4_of_a_plain_create_makes_a_persistent_node_and_ttl_flags_are_refused() {
    for (extended, want) in [(true, BAD_ARGUMENTS), (false, -6)] {
        let mut world = World::with(1, |sequencer, _| {
            sequencer.txn.extended_types = extended;
            sequencer.reap_interval_ms = 1_000;
        });
        let c = world.login_for(0, 40_000);
        world.make(c, "/four", 4);
        world.make(c, "/four/kid", 0);
        world.ask(c, Op::Delete, &path_and("/four/kid", -1)).ok();
        world.pass(5_000);
        world.stat(c, "/four");
        for flags in [5, 6] {
            assert_eq!(
                err(&mut world, c, Op::Create, &create("/ttl", b"", flags)),
                want,
                "extended {extended}"
            );
        }
        assert_eq!(err(&mut world, c, Op::Create, &create("/odd", b"", 7)), BAD_ARGUMENTS);
        if !extended {
            assert_eq!(err(&mut world, c, Op::CreateTtl, &create_ttl("/ttl", 5, 1_000)), -6);
            assert!(!world.is_closed(c), "E08: the connection stays");
        }
    }
}

fn configure(text: &str) -> Result<(Config, Vec<String>), String> {
    let file = TextFile { path: "zoo.cfg".into(), bytes: text.as_bytes().to_vec() };
    let sources = Sources { file: Some(file), ..Sources::default() };
    let (config, warnings) = sources.check().map_err(|invalid| invalid.to_string())?;
    Ok((config, warnings.iter().map(ToString::to_string).collect()))
}

#[test]
fn tr40_an_unknown_key_is_a_system_property_and_no_start_error() {
    let (config, warnings) =
        configure("fooBar=1\nextendedTypesEnabled=true\nzookeeper.enforceQuota=true").unwrap();
    assert!(config.rules.extended_types, "a property under its short name");
    assert!(warnings[0].contains("taken for the system property zookeeper.fooBar"), "{warnings:?}");
}

#[test]
fn tr41_defaults_of_a_file_that_says_nothing_are_zookeepers() {
    let (config, _) = configure("dataDir=/d\nautopurge.snapRetainCount=1").unwrap();
    assert_eq!(config.sessions.tick.0, 3_000);
    assert_eq!((config.sessions.timeout_min.0, config.sessions.timeout_max.0), (6_000, 60_000));
    assert_eq!(config.log.snapshots_kept, 3, "fewer than three are silently three");
    configure("dataDir=/d").expect("initLimit and syncLimit are needed by an ensemble alone");
}

#[test]
fn tr42_session_moved_reaches_no_client_its_connection_closes() {
    let mut world = World::new(2);
    let old = world.login(0);
    world.make(old, "/a", 0);
    // Shard 0 does not hear of the attach; what the client wrote on the old connection comes after it.
    world.sides[0].held = true;
    let new = world.attach(1, old);
    let version = world.stat(new, "/a").version;
    world.put(old, &request(50, Op::SetData.as_i32(), &set("/a", b"late", -1)));
    world.sides[0].held = false;
    world.settle();
    assert!(world.is_closed(old), "closed");
    assert!(world.hear(old).is_empty(), "without a word");
    assert_eq!(world.stat(new, "/a").version, version, "the late write never lands");
}

#[test]
fn tr42_a_write_already_on_its_way_lands_not_after_the_attach() {
    let mut world = World::new(2);
    let old = world.login(0);
    world.make(old, "/a", 0);
    // Read by shard 0 and still in its ring while the attach is ordered in front of it.
    world.post(old, Op::SetData, &set("/a", b"late", -1));
    world.read_some(old.0, usize::MAX);
    world.sides[0].held = true;
    let new = world.attach(1, old);
    assert_eq!(world.session(new), world.session(old));
    assert_ne!(world.session(new), SessionId::NONE);
    world.sides[0].held = false;
    world.settle();
    assert!(world.is_closed(old) && world.hear(old).is_empty());
    assert_eq!(world.ask(new, Op::GetData, &read("/a", false)).data().unwrap(), b"x");
}

#[test]
fn tr43_a_one_shot_and_a_persistent_watch_share_a_record_and_firing_clears_one() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    world.ask(c, Op::AddWatch, &path_and("/a", 1)).ok();
    assert_eq!(world.sides[0].shard.watches().count(), 1);
    for n in 0..2 {
        world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
        assert_eq!(world.events(c), [(CHANGED, "/a".to_owned())], "change {n}: once");
    }
    assert_eq!(err(&mut world, c, Op::CheckWatches, &path_and("/a", 2)), -121, "the one-shot bit is gone");
    assert_eq!(err(&mut world, c, Op::CheckWatches, &path_and("/a", 5)), 0);
}

/// A record that needs more than the helpers give, and stands here so that they stay small.
#[test]
fn a_reconfig_is_refused_as_by_a_standalone_zookeeper() {
    for (enabled, want) in [(false, -123), (true, -6)] {
        let mut world = World::with(1, |sequencer, _| sequencer.txn.reconfig_enabled = enabled);
        let c = world.login(0);
        let mut body = Vec::new();
        put_buffer(&mut body, Some(b"server.2=h:1:2;3"));
        put_i32(&mut body, -1);
        put_i32(&mut body, -1);
        put_i64(&mut body, -1);
        assert_eq!(err(&mut world, c, Op::Reconfig, &body), want);
        assert!(!world.is_closed(c));
    }
}
