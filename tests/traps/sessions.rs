//! Sessions that come back, move, end.

use super::machines::client::*;
use super::*;
use ringkeeper::handoff::{Addressee, AnswerKind, Committed, Concerns, Publication, Wish};
use ringkeeper::ids::{SessionId, ShardId, Xid, Zxid};
use ringkeeper::tree::{Answer, Granted};
use ringkeeper::wire::OpCode as Op;

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
    let longer = [&password[..], b"x"].concat();
    for word in [&b""[..], &password[..15], &longer] {
        let stranger = world.connect(1);
        let answer = world.greet(stranger, &hello(session, word, 10_000)).expect("an answer");
        assert_eq!(
            (answer.timeout_ms, answer.session_id),
            (0, 0),
            "a part of it, or more, is another: {word:?}"
        );
        assert!(world.is_closed(stranger) && !world.is_closed(old));
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

/// Puts requests into the socket and lets the shard read them; nobody else moves.
fn read_in(world: &mut World, c: Conn, requests: &[(Op, Vec<u8>)]) {
    for (op, body) in requests {
        world.post(c, *op, body);
    }
    assert!(world.read_some(c.0, usize::MAX));
}

/// What a shard sends up next, by the names of the wishes.
fn wishes(world: &mut World, at: usize) -> Vec<String> {
    let up = world.sides[at].shard.take_upward().map_or(Vec::new(), |up| up.proposals);
    up.iter()
        .map(|proposal| match proposal.wish {
            Wish::Write { op, .. } => format!("{:?}", Op::from_i32(op).unwrap()),
            Wish::Sync => "Sync".to_owned(),
            Wish::CloseLocal => "CloseLocal".to_owned(),
            _ => "a handshake".to_owned(),
        })
        .collect()
}

/// Chapter 2.8. What waits behind a sync had not been sent up yet, and was lost with its connection (a review).
#[test]
fn what_was_read_from_a_connection_that_breaks_is_done_behind_a_sync_too() {
    let mut world = World::new(2);
    let other = world.login(1);
    let c = world.login(0);
    world.make(c, "/e", 1);
    let held = [
        (Op::Sync, path("/")),
        (Op::Create, create_acl("/mine", None, &[(31, "auth", "")], 0)),
        (Op::Auth, auth("digest", b"too:late")),
        (Op::GetData, read("/e", true)),
        (Op::SetData, set("/e", b"x", -1)),
        (Op::CloseSession, Vec::new()),
    ];
    world.ask(c, Op::Auth, &auth("digest", b"bob:pw")).ok();
    read_in(&mut world, c, &held);
    let log = world.sequencer.state().last_zxid();
    world.lose(c);
    assert!(world.is_closed(c));
    assert_eq!(world.sequencer.state().sessions.len(), 1, "closed at once, and not by its timeout");
    assert_eq!(world.ask(other, Op::Exists, &read("/e", false)).err, -101, "its ephemeral is gone");
    world.ask(other, Op::Auth, &auth("digest", b"bob:pw")).ok();
    let acl = world.ask(other, Op::GetAcl, &path("/mine"));
    assert_eq!(acl.err, 0, "it was made");
    let acl = String::from_utf8_lossy(acl.ok()).into_owned();
    assert!(acl.contains("bob:") && !acl.contains("too:"), "with what was proved when it was read: {acl:?}");
    assert_eq!(world.sequencer.state().last_zxid().0 - log.0, 3, "each once, and in its order");

    // A fault of its own: what it asked before that is done, and the session stays, as behind no sync.
    let c = world.login(0);
    read_in(&mut world, c, &[(Op::Sync, path("/")), (Op::Create, create("/before", b"", 1))]);
    world.put(c, &[0xff; 8]);
    world.settle();
    assert!(world.is_closed(c));
    assert_eq!(world.ask(other, Op::Exists, &read("/before", false)).err, 0);
    assert_eq!(world.sequencer.state().sessions.len(), 2);
}

#[test]
fn who_has_lost_its_session_to_another_connection_sends_nothing_up_when_it_goes() {
    let mut world = World::new(2);
    let c = world.login(0);
    world.make(c, "/e", 1);
    let held = [(Op::Sync, path("/")), (Op::SetData, set("/e", b"x", -1)), (Op::CloseSession, Vec::new())];
    world.sides[0].held = true;
    read_in(&mut world, c, &held);
    let d = world.attach(1, c);
    world.catch_up(0);
    assert_eq!(wishes(&mut world, 0), ["Sync"]);
    world.sides[0].held = false;
    world.settle();
    assert!(world.is_closed(c) && !world.is_closed(d));
    // It has not heard of that when it breaks: what it sends up is void.
    world.sides[1].held = true;
    read_in(&mut world, d, &held);
    let e = world.attach(0, d);
    let id = world.clients[d.0].id;
    world.sides[1].shard.lost(id);
    world.sides[1].held = false;
    world.settle();
    assert!(world.is_closed(d) && !world.is_closed(e));
    assert_eq!(world.stat(e, "/e").version, 0);
}

/// Its closeSession waits even behind reads.
#[test]
fn a_local_session_is_closed_though_its_connection_breaks_first() {
    for (front, want) in [
        (vec![(Op::Sync, path("/"))], &["Sync", "CloseLocal"][..]),
        (vec![(Op::Sync, path("/")), (Op::SetData, set("/", b"", -1))], &["Sync", "SetData", "CloseLocal"]),
        // Its session may be on its way into the state.
        (vec![(Op::Create, create("/e", b"", 1))], &["Create"]),
    ] {
        let mut world = World::new(1);
        let c = world.connect(0);
        let mut out = Vec::new();
        hello(0, &[0; 16], 10_000).encode(&mut out);
        world.put(c, &out);
        world.read_some(c.0, usize::MAX);
        wishes(&mut world, 0);
        let (shard, conn) = (ShardId(0), world.clients[c.0].id);
        let granted = Granted { id: SessionId(7), timeout_ms: 10_000, password: [0; 16], is_local: true };
        let committed = vec![Committed {
            zxid: Zxid(1),
            changes: Default::default(),
            to: Some(Addressee { shard, conn, xid: Xid(0), kind: AnswerKind::Handshake }),
            answer: Answer::Session(Box::new(granted)),
        }];
        let (concerns, last_zxid) = (Concerns::ALL, Zxid(1));
        let granted = Publication { number: 1, committed, sessions: 1, last_zxid, concerns, bytes: 0 };
        let now = world.now.mono;
        world.sides[0].shard.install(now, &granted);
        world.flush(0);
        read_in(&mut world, c, &front);
        read_in(&mut world, c, &[(Op::CloseSession, Vec::new())]);
        world.sides[0].shard.lost(conn);
        assert_eq!(wishes(&mut world, 0), want);
    }
}
