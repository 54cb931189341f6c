//! Sessions in the log, and their end.

use super::machines::client::*;
use super::*;
use ringkeeper::sequencer::Note;
use ringkeeper::wire::OpCode as Op;

#[test]
fn a_session_is_answered_when_it_is_in_the_log_and_an_attach_takes_no_zxid_g07_g17() {
    let mut world = World::new(1);
    let before = world.sequencer.state().last_zxid();
    let c = world.login(0);
    assert_eq!(world.sequencer.state().last_zxid().0, before.0.max(1 << 32) + 1, "a transaction of its own");
    let last = world.sequencer.state().last_zxid();
    world.attach(0, c);
    assert_eq!(world.sequencer.state().last_zxid(), last);
    world.log_held = true;
    let late = world.connect(0);
    assert_eq!(world.greet(late, &hello(0, &[0; 16], 10_000)), None);
    assert!(!world.is_closed(late));
    world.release_log();
    assert!(world.greeted(late).is_some());
}

#[test]
fn session_ids_name_their_server_and_the_time_and_are_not_given_twice_g08() {
    let mut world = World::new(1);
    let first = world.login(0);
    let id = world.session(first).0;
    assert_eq!(id >> 56, 1, "{id:x}");
    let wall = world.now.wall.0;
    assert_eq!((id << 8) as u64 >> 24, (wall as u64) & 0xff_ffff_ffff, "{id:x}");
    let second = world.login(0);
    assert_eq!(world.session(second).0, id + 1);
    // Even when the clock did not move on, or went back.
    world.now.wall.0 -= 1_000_000;
    let mut world = world.restart();
    let third = world.login(0);
    assert!(world.session(third).0 > id + 1);
}

#[test]
fn a_sessions_ephemerals_go_in_one_transaction_at_its_end_g09_e02() {
    let mut world = World::new(2);
    let (c, watcher) = (world.login(0), world.login(1));
    world.make(c, "/p", 0);
    for n in 0..5 {
        world.make(c, &format!("/p/{n}"), 1);
    }
    world.make(c, "/p/s-", 3);
    world.ask(watcher, Op::AddWatch, &path_and("/p", 1)).ok();
    let closed = world.ask(c, Op::CloseSession, b"").zxid;
    let said = world.hear(watcher);
    assert_eq!(said.len(), 6);
    for one in said {
        assert!(matches!(one, Said::Event { zxid, kind: DELETED, .. } if zxid == closed), "{one:?}");
    }
    let stat = world.stat(watcher, "/p");
    assert_eq!((stat.num_children, stat.pzxid), (0, closed));
}

#[test]
fn a_sessions_ephemerals_go_in_the_order_that_zookeeper_gives_them() {
    let mut world = World::new(1);
    let (c, watcher) = (world.login(0), world.login(0));
    for path in ["/dt7", "/dt7/r", "/dt7/r/c", "/dt7/r/d"] {
        world.make(c, path, 0);
    }
    // Seen on 3.9.5, and neither the order in which they were made nor that of their names.
    let seen = ["/dt7/r/c0000000004", "/dt7/r/d/a0000000002", "/dt7/r/c/b0000000000"];
    for at in [2, 0, 1] {
        world.make(c, seen[at], 1);
    }
    world.ask(watcher, Op::AddWatch, &path_and("/", 1)).ok();
    world.ask(c, Op::CloseSession, b"").ok();
    let gone: Vec<String> = world.events(watcher).into_iter().map(|(_, path)| path).collect();
    assert_eq!(gone, seen);
}

#[test]
fn a_request_of_a_session_that_expired_on_its_way_is_told_so_and_closed_g12() {
    let mut world = World::new(2);
    let c = world.login_for(0, 4_000);
    world.make(c, "/a", 0);
    // The client's shard has read its write, the sequencer has not; all other time passes.
    let xid = world.post(c, Op::SetData, &set("/a", b"late", -1));
    let n = c.0;
    world.read_some(n, usize::MAX);
    let session = world.session(c);
    world.sides[0].held = true;
    // Its shard reports nothing, so nobody expires it: another connection of the session ends it instead.
    world.pass(10_000);
    assert!(
        !world.notes.contains(&Note::SessionExpired { session }),
        "a shard that is silent expires nobody"
    );
    let other = world.attach(1, c);
    world.ask(other, Op::CloseSession, b"").ok();
    world.sides[0].held = false;
    world.settle();
    assert!(world.is_closed(c));
    let said = told(&world.hear(c));
    assert!(said.is_empty() || said == [format!("reply {xid} -112")], "{said:?}");
}

#[test]
fn an_expired_session_that_is_still_connected_is_closed_g12() {
    let mut world = World::new(1);
    let c = world.login_for(0, 4_000);
    let session = world.session(c);
    world.pass(8_000);
    assert!(world.notes.contains(&Note::SessionExpired { session }));
    assert!(world.is_closed(c));
}

#[test]
fn time_in_which_the_whole_server_slept_expires_nobody_g18() {
    let mut world = World::new(2);
    let c = world.login_for(0, 4_000);
    world.make(c, "/e", 1);
    world.pass(1_000);
    world.jump(600_000);
    world.pass(2_000);
    assert_eq!(world.ask(c, Op::Ping, b"").err, 0, "it finds its session as it left it");
    world.pass(3_900);
    assert!(!world.is_closed(c));
    world.pass(4_000);
    assert!(world.is_closed(c), "a client that is really silent ends all the same");
}

#[test]
fn what_a_client_sent_while_its_session_ended_is_answered_once_and_harms_nobody_g12() {
    let mut world = World::new(1);
    let c = world.login_for(0, 4_000);
    world.make(c, "/a", 0);
    // It reads nothing: the answer to this stays unsent, so the connection outlives its session.
    world.clients[c.0].window = 0;
    let first = world.post(c, Op::GetData, &read("/a", false));
    world.settle();
    // The log holds the end of the session for less than counts as a stall; the client's last requests come behind it.
    let left = |world: &World| {
        let ends = world.sequencer.expiry().buckets().first().map(|(at, _)| at.0).expect("a session");
        ends.saturating_sub(world.sequencer.session_time(world.now.mono).0)
    };
    while left(&world) > 200 {
        world.pass(100);
    }
    world.log_held = true;
    while !world.sequencer.expiry().buckets().is_empty() {
        world.pass(100);
    }
    world.post(c, Op::SetData, &set("/a", b"1", -1));
    world.post(c, Op::GetData, &read("/a", false));
    world.post(c, Op::SetData, &set("/a", b"2", -1));
    world.settle();
    world.release_log();
    world.settle();
    world.open_window(c, usize::MAX);
    world.settle();
    let said = told(&world.hear(c));
    assert_eq!(said.first(), Some(&format!("reply {first} 0")), "{said:?}");
    assert!(said[1..].iter().all(|reply| reply.ends_with("-112")), "{said:?}");
    assert!(world.is_closed(c));
}

/// A sync of the server's own stands in front of the reads that came together, and nobody is told of it.
#[test]
fn a_strict_connections_reads_wait_for_the_sequencer_and_a_plain_ones_do_not() {
    let mut world = World::new(1);
    let plain = world.login(0);
    let strict = world.connect_strictly(0);
    world.greet(strict, &hello(0, &[0; 16], 10_000)).expect("a session");
    world.make(plain, "/a", 0);
    let asked = world.post(plain, Op::GetData, &read("/a", false));
    let xids: Vec<i32> = (0..3).map(|_| world.post(strict, Op::GetData, &read("/a", false))).collect();
    world.side_turn(0);
    assert!(matches!(&world.hear(plain)[..], [Said::Reply(reply)] if reply.xid == asked));
    assert!(world.hear(strict).is_empty(), "nobody has asked the others yet");
    let sent: usize = world.sides[0].up.iter().map(|up| up.proposals.len()).sum();
    assert_eq!(sent, 1, "one sync for all three");
    world.settle();
    let said: Vec<i32> = world
        .hear(strict)
        .iter()
        .map(|said| match said {
            Said::Reply(reply) => reply.xid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said, xids);
    // What comes later asks anew, also while the first still waits; writes and pings keep their order.
    let first = world.post(strict, Op::Exists, &read("/a", false));
    world.side_turn(0);
    let set = world.post(strict, Op::SetData, &set("/a", b"x", -1));
    let second = world.post(strict, Op::GetData, &read("/a", false));
    let ping = world.post(strict, Op::Ping, b"");
    world.settle();
    let said = world.hear(strict);
    let xids: Vec<i32> =
        said.iter().filter_map(|said| if let Said::Reply(r) = said { Some(r.xid) } else { None }).collect();
    assert_eq!(xids, [first, set, second, ping]);
    let Said::Reply(reply) = &said[2] else { panic!("{said:?}") };
    assert_eq!(reply.data().as_deref(), Some(&b"x"[..]));
}

/// A connection that went before the next report took with it when its session was last heard of: the session ended up to a
/// third of its timeout too early.
#[test]
fn what_a_session_said_last_counts_though_its_connection_goes_at_once() {
    for offset in (0..2_000).step_by(100) {
        let mut world = World::with(1, |_, shard| shard.report_ms = 250);
        world.pass(offset);
        let c = world.login_for(0, 4_000);
        world.make(c, "/e", 1);
        world.pass(3_800);
        world.ask(c, Op::Exists, &read("/e", false)).ok();
        let heard = world.now.mono.0;
        world.lose(c);
        while world.sequencer.state().table.get("/e").is_some() {
            world.pass(100);
        }
        let lived = world.now.mono.0 - heard;
        assert!((4_000..=6_400).contains(&lived), "{lived} ms after its last word, offset {offset}");
    }
}

/// The C client counts its requests on from the time of day, and so below zero one day; the lowest names were taken for
/// barriers, and a sync of that name was never answered.
#[test]
fn a_sync_is_answered_whatever_its_xid_is() {
    let mut world = World::new(1);
    let plain = world.login(0);
    let strict = world.connect_strictly(0);
    world.greet(strict, &hello(0, &[0; 16], 10_000)).expect("a session");
    for conn in [plain, strict] {
        for xid in [i32::MIN, i32::MIN + 1, -1_000, i32::MAX] {
            let xids = [xid, xid, 7];
            world.put(conn, &request(xid, Op::Sync.as_i32(), &path("/")));
            world.put(conn, &request(xid, Op::Sync.as_i32(), &path("/")));
            world.put(conn, &request(7, Op::GetData.as_i32(), &read("/", false)));
            world.settle();
            let said = world.hear(conn);
            let got: Vec<i32> = said
                .iter()
                .filter_map(|said| if let Said::Reply(r) = said { Some(r.xid) } else { None })
                .collect();
            assert_eq!(got, xids, "{said:?}");
        }
    }
}
