//! Sessions that come back, move, end.

use super::machines::client::*;
use super::*;
use ringkeeper::ids::SessionId;
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
