//! Frames, handshakes, the order of replies.

use super::machines::client::*;
use super::*;
use ringkeeper::shard::Why;
use ringkeeper::wire::{ConnectRequest, OpCode as Op};

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
    let c = world.connect(0);
    for piece in [&b"stmk\0\0\0"[..], &b"\0\0\0\0\x07"[..]] {
        assert!(world.sides[0].words.is_empty() && !world.is_closed(c), "its eight bytes come later");
        world.put(c, piece);
        world.settle();
    }
    assert_eq!(world.sides[0].words[0].argument, Some(7));
    world.answer_word(0, Some(b"7"));
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
