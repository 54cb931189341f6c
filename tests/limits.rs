//! Each limit, and what happens at it, on a whole server in one thread. Connections of one address are counted by the
//! host (`src/host/limits.rs`).

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::ids::Millis;
use ringkeeper::shard::Why;
use ringkeeper::wire::{ConnectResponse, OpCode as Op};

const THROTTLED: i32 = -127;

#[test]
fn a_frames_length_alone_closes_the_connection_and_nothing_is_kept_for_it() {
    for length in [-1i32, i32::MIN, i32::MAX, 0x10_0000] {
        let mut world = World::new(1);
        let (fresh, live) = (world.connect(0), world.login(0));
        for c in [fresh, live] {
            world.put(c, &length.to_be_bytes());
            world.settle();
            assert!(world.is_closed(c), "length {length}");
            assert!(world.hear(c).is_empty());
        }
        assert_eq!(world.cuts(0), [Why::BadLength, Why::BadLength]);
    }
    // The longest that is allowed waits for its bytes.
    let mut world = World::new(1);
    let c = world.login(0);
    world.put(c, &0xf_ffffi32.to_be_bytes());
    world.settle();
    assert!(!world.is_closed(c));
}

/// Puts `n` writes into the socket while the log stands still, and says how many the shard took.
fn fill(world: &mut World, c: Conn, n: usize) -> usize {
    let before = world.sides[0].shard.outstanding();
    for k in 0..n {
        let body = if k % 2 == 0 { set("/a", &[k as u8], -1) } else { read("/a", false) };
        world.post(c, if k % 2 == 0 { Op::SetData } else { Op::GetData }, &body);
        world.settle();
    }
    world.sides[0].shard.outstanding() - before
}

#[test]
fn a_connection_is_read_no_further_than_its_outstanding_limit_and_goes_on_by_itself() {
    let mut world = World::with(1, |_, shard| shard.outstanding_per_connection_max = 10);
    let (c, other) = (world.login(0), world.login(0));
    world.make(c, "/a", 0);
    world.log_held = true;
    assert_eq!(fill(&mut world, c, 100), 10);
    assert!(!world.clients[c.0].to_server.is_empty(), "the rest waits in the socket");
    assert_eq!(world.ask(other, Op::GetData, &read("/a", false)).err, 0, "nobody else waits");
    world.release_log();
    assert_eq!(world.hear(c).len(), 100, "all are answered, with nothing new from the client");
    assert_eq!(world.sides[0].shard.outstanding(), 0);
}

#[test]
fn what_is_kept_behind_large_replies_is_answered_to_a_client_that_has_said_all_it_wanted() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/big", 0);
    world.ask(c, Op::SetData, &set("/big", &vec![7; 700_000], -1)).ok();
    for _ in 0..8 {
        world.post(c, Op::GetData, &read("/big", false));
    }
    // The replies pass what may lie unsent after two: six requests are kept, and nothing comes after them.
    world.half_close(c);
    world.settle();
    assert_eq!(world.hear(c).len(), 8);
    assert!(world.is_closed(c));
}

#[test]
fn a_report_that_found_no_room_in_the_ring_is_not_lost_to_the_next() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.pass(1_000);
    world.post(c, Op::Ping, b"");
    world.read_some(c.0, usize::MAX);
    let now = world.now.mono;
    let shard = &mut world.sides[0].shard;
    shard.tick(now.plus(Millis(1_000)));
    shard.tick(now.plus(Millis(2_000)));
    let heard = shard.take_upward().and_then(|up| up.heard).expect("a report");
    assert_eq!(heard.sessions.len(), 1, "whoever spoke before the first one");
}

#[test]
fn what_came_in_one_piece_beyond_the_limit_is_kept_and_goes_on_by_itself() {
    let mut world = World::with(1, |_, shard| shard.outstanding_per_connection_max = 10);
    let c = world.login(0);
    world.make(c, "/a", 0);
    world.log_held = true;
    for k in 0..100u8 {
        world.post(c, Op::SetData, &set("/a", &[k], -1));
    }
    world.settle();
    assert_eq!(world.sides[0].shard.outstanding(), 10);
    world.release_log();
    let said = world.hear(c);
    assert_eq!(said.len(), 100);
    assert!(said.iter().all(|one| matches!(one, Said::Reply(reply) if reply.err == 0)));
}

#[test]
fn a_shard_is_read_no_further_than_its_own_limit_and_everybody_goes_on() {
    let mut world = World::with(1, |_, shard| shard.outstanding_max = 20);
    let all: Vec<Conn> = (0..8).map(|_| world.login(0)).collect();
    world.make(all[0], "/a", 0);
    world.log_held = true;
    for c in &all {
        for k in 0..50u8 {
            world.post(*c, Op::SetData, &set("/a", &[k], -1));
        }
    }
    world.settle();
    let taken = world.sides[0].shard.outstanding();
    assert!((20..=28).contains(&taken), "{taken}: the limit, and one for each who had none");
    world.release_log();
    for c in all {
        assert_eq!(world.hear(c).len(), 50);
    }
}

#[test]
fn bytes_of_unanswered_writes_are_limited_for_a_connection_and_for_a_shard() {
    const BIG: usize = 1_000_000;
    let mut world = World::new(1);
    let clients: Vec<Conn> = (0..80).map(|_| world.login(0)).collect();
    world.make(clients[0], "/a", 0);
    world.log_held = true;
    let write = |world: &mut World, c: Conn| {
        world.post(c, Op::SetData, &set("/a", &vec![7; BIG], -1));
        world.settle();
    };
    for _ in 0..5 {
        write(&mut world, clients[0]);
    }
    // One frame's worth waits; the one that passes it is the last.
    assert_eq!(world.sides[0].shard.outstanding(), 2);
    for c in &clients[1..] {
        write(&mut world, *c);
    }
    let taken = world.sides[0].shard.outstanding();
    assert!((60..=70).contains(&taken), "{taken} writes of a megabyte lie in memory");
    world.release_log();
    assert_eq!(world.hear(clients[0]).len(), 5);
    for c in &clients[1..] {
        assert_eq!(world.hear(*c).len(), 1, "everybody is read again");
    }
    assert_eq!(world.sides[0].shard.outstanding(), 0);
}

/// Found by a review: their pings lay in the sockets, and the report said that nothing had come.
#[test]
fn while_a_shard_reads_nobody_its_reports_forgive_the_time() {
    let mut world = World::new(1);
    let clients: Vec<Conn> = (0..80).map(|_| world.login(0)).collect();
    world.make(clients[0], "/a", 0);
    world.log_held = true;
    for c in &clients {
        world.post(*c, Op::SetData, &set("/a", &vec![7; 1_000_000], -1));
        world.settle();
    }
    let stall = |world: &mut World, ms: u64| {
        let mut stalls = Vec::new();
        for _ in 0..ms / 50 {
            world.now.mono = world.now.mono.plus(Millis(50));
            let shard = &mut world.sides[0].shard;
            shard.tick(world.now.mono);
            let heard = std::iter::from_fn(|| shard.take_upward()).filter_map(|up| up.heard);
            stalls.extend(heard.filter_map(|heard| heard.stall));
        }
        stalls
    };
    let began = world.now.mono;
    assert!(stall(&mut world, 400).is_empty(), "a moment is nothing");
    let (from, to) = *stall(&mut world, 2_000).last().expect("a stall is reported");
    assert!(from.since(began).0 <= 50 && to.since(began).0 >= 2_000, "{began:?}: {from:?} to {to:?}");
    world.release_log();
    stall(&mut world, 500);
    assert!(stall(&mut world, 2_000).is_empty(), "they are read again");
}

#[test]
fn sessions_are_limited_and_an_attach_is_not_refused() {
    let mut world = World::with(1, |_, shard| shard.sessions_max = 3);
    let all: Vec<Conn> = (0..3).map(|_| world.login(0)).collect();
    let one_more = world.connect(0);
    assert_eq!(world.greet(one_more, &hello(0, &[0; 16], 10_000)), None);
    assert!(world.is_closed(one_more));
    assert_eq!(world.cuts(0), [Why::TooManySessions]);
    let again = world.attach(0, all[0]);
    assert!(!world.is_closed(again), "who has a session may come back");
    world.ask(all[1], Op::CloseSession, b"").ok();
    world.login(0);
}

#[test]
fn watches_of_a_connection_are_limited_by_count() {
    let mut world = World::with(1, |_, shard| shard.watch_limits.count_max = 3);
    let (c, other) = (world.login(0), world.login(0));
    for n in 0..5 {
        world.make(c, &format!("/{n}"), 0);
    }
    for n in 0..3 {
        world.ask(c, Op::GetData, &read(&format!("/{n}"), true)).ok();
    }
    world.ask(c, Op::GetData, &read("/0", true)).ok();
    world.ask(c, Op::GetChildren, &read("/0", true)).ok();
    for (op, body) in [
        (Op::GetData, read("/3", true)),
        (Op::Exists, read("/absent", true)),
        (Op::GetChildren, read("/3", true)),
        (Op::AddWatch, path_and("/3", 0)),
    ] {
        let reply = world.ask(c, op, &body);
        assert_eq!((reply.err, reply.body.len()), (THROTTLED, 0), "{op:?}: a code, and no half reply");
    }
    world.ask(c, Op::GetData, &read("/3", false)).ok();
    world.ask(other, Op::GetData, &read("/3", true)).ok();
    assert!(!world.is_closed(c));
    world.ask(other, Op::SetData, &set("/1", b"", -1)).ok();
    assert_eq!(world.events(c), [(CHANGED, "/1".to_owned())]);
    world.ask(c, Op::GetData, &read("/3", true)).ok();
}

/// No client looks at what it is answered: it went on as if all of them were set.
#[test]
fn who_sets_more_watches_anew_than_it_may_loses_its_connection() {
    let mut world = World::with(1, |_, shard| shard.watch_limits.count_max = 3);
    let (c, other) = (world.login(0), world.login(0));
    for n in 0..4 {
        world.make(other, &format!("/{n}"), 0);
    }
    world.ask(c, Op::SetWatches, &set_watches(1 << 40, &[&["/0", "/1", "/2"], &[], &[]])).ok();
    assert!(world.ask_all(c, Op::SetWatches, &set_watches(1 << 40, &[&["/3"], &[], &[]])).is_empty());
    assert!(world.is_closed(c) && !world.is_closed(other));
    assert_eq!(world.cuts(0), [Why::TooManyWatches]);
}

#[test]
fn watches_of_a_connection_are_limited_by_bytes() {
    let mut world = World::with(1, |_, shard| shard.watch_limits.bytes_max = 1_000);
    let c = world.login(0);
    let long = |n: u32| format!("/{n}{}", "x".repeat(398));
    for n in 0..2 {
        assert_eq!(world.ask(c, Op::Exists, &read(&long(n), true)).err, -101);
    }
    assert_eq!(world.ask(c, Op::Exists, &read(&long(2), true)).err, THROTTLED);
    assert_eq!(world.ask(c, Op::Exists, &read("/short", true)).err, -101);
}

#[test]
fn a_watch_that_fired_is_not_counted_any_more_however_many_watched() {
    for watchers in [1, 10, 40, 300] {
        let mut world = World::with(1, |_, shard| shard.watch_limits.count_max = 1);
        let actor = world.login(0);
        world.make(actor, "/a", 0);
        let all: Vec<Conn> = (0..watchers).map(|_| world.login(0)).collect();
        for _ in 0..2 {
            for c in &all {
                world.ask(*c, Op::GetData, &read("/a", true)).ok();
                assert_eq!(world.ask(*c, Op::Exists, &read("/b", true)).err, THROTTLED);
            }
            world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
            for c in &all {
                assert_eq!(world.events(*c).len(), 1);
                assert_eq!(world.ask(*c, Op::GetChildren, &read("/", true)).err, 0, "{watchers} watchers");
                world.ask(*c, Op::RemoveWatches, &path_and("/", 1)).ok();
            }
        }
    }
}

#[test]
fn entries_of_an_access_control_list_are_limited() {
    let mut world = World::with(1, |_, shard| shard.acl_entries_max = 10);
    let c = world.login(0);
    let names: Vec<String> = (0..11).map(|n| format!("10.0.0.{n}")).collect();
    let acl: Vec<(i32, &str, &str)> = names.iter().map(|name| (31, "ip", name.as_str())).collect();
    let before = world.ask(c, Op::Ping, b"").zxid;
    assert_eq!(world.ask(c, Op::Create, &create_acl("/a", None, &acl, 0)).err, -114);
    assert_eq!(world.ask(c, Op::SetAcl, &set_acl("/", &acl, -1)).err, -114);
    let in_multi = multi(&[(Op::Create, create_acl("/a", None, &acl, 0))]);
    assert_eq!(world.ask(c, Op::Multi, &in_multi).err, -114);
    assert_eq!(world.ask(c, Op::Ping, b"").zxid, before, "refused before it is ordered");
    world.ask(c, Op::Create, &create_acl("/a", None, &acl[..10], 0)).ok();
}

/// Found by a review: 16 KB became 63,000 entries, and each read of the znode took 22 ms.
#[test]
fn entries_of_the_scheme_auth_count_as_what_becomes_of_them() {
    let mut world = World::with(1, |_, shard| shard.acl_entries_max = 10);
    let c = world.login(0);
    for user in ["a:p", "b:p", "c:p"] {
        world.ask(c, Op::Auth, &auth("digest", user.as_bytes())).ok();
    }
    let acl: Vec<(i32, &str, &str)> = (1..=4).map(|perms| (perms, "auth", "")).collect();
    assert_eq!(world.ask(c, Op::Create, &create_acl("/a", None, &acl, 0)).err, -114);
    assert_eq!(world.ask(c, Op::SetAcl, &set_acl("/", &acl, -1)).err, -114);
    let in_multi = multi(&[(Op::Create, create_acl("/a", None, &acl, 0))]);
    assert_eq!(world.ask(c, Op::Multi, &in_multi).err, -114);
    world.ask(c, Op::Create, &create_acl("/a", None, &acl[..3], 0)).ok();
    // By bytes too: a block of a snapshot holds only so many.
    let mut world = World::with(1, |_, shard| shard.acl_entries_max = 100_000);
    let c = world.login(0);
    world.ask(c, Op::Auth, &auth("digest", format!("{}:p", "u".repeat(9_000)).as_bytes())).ok();
    let acl: Vec<(i32, &str, &str)> = (0..3_000).map(|perms| (perms, "auth", "")).collect();
    assert_eq!(world.ask(c, Op::Create, &create_acl("/a", None, &acl, 0)).err, -114);
    // And of all lists of a multi together: a megabyte of them became a gigabyte.
    let one = |n: usize| (Op::Create, create_acl(&format!("/m{n}"), None, &acl[n..=n], 0));
    let few = multi(&(0..20).map(one).collect::<Vec<_>>());
    assert_eq!(world.ask(c, Op::Multi, &few).results().len(), 20);
    let many = multi(&(20..60).map(one).collect::<Vec<_>>());
    assert_eq!(world.ask(c, Op::Multi, &many).err, -114);
    // But one list is stored once, for however many znodes: clients give all of theirs the same.
    let same = |n: usize| (Op::Create, create_acl(&format!("/s{n}"), None, &acl[n % 3..][..1], 0));
    let all = multi(&(0..1_000).map(same).collect::<Vec<_>>());
    assert_eq!(world.ask(c, Op::Multi, &all).results().len(), 1_000);
}

#[test]
fn operations_of_a_multi_are_limited() {
    let mut world = World::with(1, |_, shard| shard.multi_ops_max = 10);
    let c = world.login(0);
    let ops = |n: usize| multi(&vec![(Op::Check, path_and("/", -1)); n]);
    let reads = |n: usize| multi(&vec![(Op::GetData, read("/", false)); n]);
    assert_eq!(world.ask(c, Op::Multi, &ops(10)).results().len(), 10);
    assert_eq!(world.ask(c, Op::MultiRead, &reads(10)).results().len(), 10);
    for reply in [world.ask(c, Op::Multi, &ops(11)), world.ask(c, Op::MultiRead, &reads(11))] {
        assert_eq!((reply.err, reply.body.len()), (-8, 0));
    }
    assert!(!world.is_closed(c));
}

#[test]
fn identities_of_a_connection_are_limited() {
    let mut world = World::with(1, |_, shard| shard.identities_max = 3);
    let c = world.login(0);
    for user in ["a:p", "b:p", "a:p"] {
        world.ask(c, Op::Auth, &auth("digest", user.as_bytes())).ok();
    }
    assert_eq!(world.ask(c, Op::Auth, &auth("digest", b"c:p")).err, -115);
    assert!(world.is_closed(c));
}

#[test]
fn the_bytes_of_identities_are_limited_for_each_write_carries_them() {
    let mut world = World::with(1, |_, _| {});
    let c = world.login(0);
    let half = format!("{}:p", "u".repeat(9_000));
    world.ask(c, Op::Auth, &auth("digest", half.as_bytes())).ok();
    world.ask(c, Op::Auth, &auth("digest", half.as_bytes())).ok();
    assert_eq!(world.ask(c, Op::Auth, &auth("digest", format!("v{half}").as_bytes())).err, -115);
    assert!(world.is_closed(c));
}

/// A client that asks for much and reads nothing.
fn clog(world: &mut World, c: Conn, times: usize) {
    world.clients[c.0].window = 0;
    for _ in 0..times {
        world.post(c, Op::GetData, &read("/big", false));
        world.settle();
    }
}

fn with_big_node(change: impl FnOnce(&mut ringkeeper::shard::Options)) -> (World, Conn, Conn) {
    let mut world = World::with(1, |_, shard| change(shard));
    let (c, other) = (world.login_for(0, 40_000), world.login_for(0, 40_000));
    world.ask(c, Op::Create, &create("/big", &[7; 100_000], 0)).ok();
    (world, c, other)
}

#[test]
fn a_client_that_does_not_read_is_not_read_either_and_goes_on_when_it_does() {
    let (mut world, c, other) = with_big_node(|shard| shard.unsent_pause_bytes = 1_000_000);
    clog(&mut world, c, 100);
    let waiting = world.sides[0].shard.output(world.clients[c.0].id).len();
    assert!((1_000_000..1_200_000).contains(&waiting), "{waiting} bytes wait for it and no more");
    assert!(!world.clients[c.0].to_server.is_empty(), "its further requests stay in the socket");
    assert!(!world.is_closed(c));
    assert_eq!(world.ask(other, Op::Ping, b"").err, 0);
    for _ in 0..50 {
        world.open_window(c, 300_000);
    }
    assert_eq!(world.hear(c).len(), 100, "every reply, in its time");
}

#[test]
fn replies_that_came_in_one_piece_beyond_the_pause_go_on_by_themselves() {
    let (mut world, c, _) = with_big_node(|shard| shard.unsent_pause_bytes = 1_000_000);
    world.clients[c.0].window = 0;
    for _ in 0..100 {
        world.post(c, Op::GetData, &read("/big", false));
    }
    world.settle();
    assert!(world.sides[0].shard.output(world.clients[c.0].id).len() < 1_200_000);
    world.open_window(c, usize::MAX);
    assert_eq!(world.hear(c).len(), 100);
}

#[test]
fn a_client_that_takes_no_byte_for_too_long_is_cut() {
    let (mut world, c, other) = with_big_node(|shard| shard.unsent_cut_ms = 5_000);
    clog(&mut world, c, 3);
    for _ in 0..10 {
        world.pass(4_000);
        assert!(!world.is_closed(c), "a byte now and then is enough");
        world.open_window(c, 1);
        assert_eq!(world.ask(other, Op::Ping, b"").err, 0);
        world.post(c, Op::Ping, b"");
    }
    world.pass(5_100);
    assert!(world.is_closed(c));
    assert_eq!(world.cuts(0), [Why::SlowReader]);
}

/// Clients that left much unread, and read a byte now and then, kept everybody else from long reads for ever, and the sessions
/// of those who waited expired.
#[test]
fn who_leaves_most_unread_goes_when_long_reads_have_waited_for_it_too_long() {
    let (mut world, c, _) = with_big_node(|shard| shard.unsent_long_bytes = 200_000);
    let waiting = world.login_for(0, 4_000);
    clog(&mut world, c, 3);
    let reads = multi(&vec![(Op::GetData, read("/big", false)); 6]);
    let asked = world.post(waiting, Op::MultiRead, &reads);
    for _ in 0..4 {
        world.pass(2_000);
        assert!(!world.is_closed(c) && !world.is_closed(waiting));
        assert!(world.hear(waiting).is_empty(), "its answer would come on top of what is unread");
        world.open_window(c, 1);
    }
    world.pass(3_000);
    assert_eq!(world.cuts(0), [Why::SlowReader]);
    assert!(world.is_closed(c));
    assert!(matches!(&world.hear(waiting)[..], [Said::Reply(reply)] if reply.xid == asked && reply.err == 0));
    // Nobody else is cut off for it.
    world.pass(3_000);
    assert!(!world.is_closed(waiting));
}

/// Many that leave a little each are not to blame one by one.
#[test]
fn nobody_goes_who_leaves_little_unread_however_many_they_are() {
    let (mut world, waiting, c) = with_big_node(|shard| shard.unsent_long_bytes = 200_000);
    world.ask(c, Op::Create, &create("/small", &[7; 2_900], 0)).ok();
    let crowd: Vec<Conn> = (0..100).map(|_| world.login_for(0, 40_000)).collect();
    for one in &crowd {
        world.clients[one.0].window = 0;
        world.post(*one, Op::GetData, &read("/small", false));
    }
    world.settle();
    let reads = multi(&vec![(Op::GetData, read("/big", false)); 6]);
    world.post(waiting, Op::MultiRead, &reads);
    world.pass(15_000);
    assert!(world.cuts(0).is_empty() && world.hear(waiting).is_empty());
    for one in &crowd {
        world.open_window(*one, usize::MAX);
    }
    world.pass(100);
    assert_eq!(world.hear(waiting).len(), 1);
}

#[test]
fn a_client_whose_events_pile_up_is_cut_by_bytes() {
    let mut world = World::with(1, |_, shard| {
        shard.unsent_pause_bytes = 10_000;
        shard.unsent_cut_bytes = 100_000;
    });
    let (c, actor) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::AddWatch, &path_and("/a", 0)).ok();
    world.clients[c.0].window = 0;
    let mut changes = 0;
    while !world.is_closed(c) {
        world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
        changes += 1;
        assert!(changes < 10_000, "it must end");
    }
    assert!(changes > 2_000, "{changes} events of 34 bytes");
    assert_eq!(world.cuts(0), [Why::SlowReader]);
    assert_eq!(world.sides[0].shard.watches().count(), 0, "and its watches with it");
}

#[test]
fn a_connection_without_a_handshake_is_closed_in_time_and_a_session_is_not() {
    let mut world = World::new(1);
    let live = world.login_for(0, 40_000);
    let silent = world.connect(0);
    let half = world.connect(0);
    world.put(half, &[0, 0, 0, 45, 0, 0]);
    world.pass(9_800);
    assert!(!world.is_closed(silent) && !world.is_closed(half));
    world.pass(300);
    assert!(world.is_closed(silent) && world.is_closed(half) && !world.is_closed(live));
    assert_eq!(world.cuts(0), [Why::NoHandshake, Why::NoHandshake]);
}

#[test]
fn a_word_whose_answer_was_lost_on_its_way_keeps_no_connection() {
    let mut world = World::new(1);
    let c = world.connect(0);
    world.pass(9_800);
    world.put(c, b"ruok");
    world.settle();
    assert_eq!(world.sides[0].words.len(), 1);
    // The time that it had to say something is over; that for its answer is not.
    world.pass(9_800);
    assert!(!world.is_closed(c));
    world.pass(400);
    assert!(world.is_closed(c));
    assert_eq!(world.cuts(0), [Why::NoAnswer]);
}

/// A stranger's megabytes went through the log of every server (a review).
#[test]
fn a_password_of_another_length_is_refused_at_the_shard() {
    let mut world = World::new(1);
    for password in [vec![7; 900_000], vec![7; 17], Vec::new()] {
        let c = world.connect(0);
        let mut out = Vec::new();
        hello(1, &password, 10_000).encode(&mut out);
        world.put(c, &out);
        world.side_turn(0);
        assert!(world.sides[0].up.iter().all(|up| up.proposals.is_empty()), "{}", password.len());
        let said = std::mem::take(&mut world.clients[c.0].from_server);
        let answer = ConnectResponse::decode(&said[4..]).expect("an answer to a handshake");
        assert_eq!((answer.session_id, answer.timeout_ms), (0, 0));
        world.settle();
        assert!(world.is_closed(c));
    }
}

#[test]
fn a_client_that_must_prove_itself_first_is_told_so_and_closed() {
    let mut world = World::with(1, |_, shard| shard.required_schemes = Some(vec!["digest".into()]));
    let c = world.login(0);
    let reply = world.ask(c, Op::GetData, &read("/", false));
    assert_eq!(reply.err, -124);
    assert!(world.is_closed(c));
    let c = world.login(0);
    world.ask(c, Op::Auth, &auth("digest", b"u:p")).ok();
    world.ask(c, Op::GetData, &read("/", false)).ok();
}

#[test]
fn it_is_told_so_whatever_it_asks_and_where_nobody_leads_too() {
    for op in [Op::Create.as_i32(), Op::Sync.as_i32(), Op::Ping.as_i32(), 13, 20, 77, 0, -10, i32::MIN] {
        for is_read_only in [false, true] {
            let mut world = World::with(1, |_, shard| shard.required_schemes = Some(vec!["digest".into()]));
            let c = world.login(0);
            if is_read_only {
                let state = world.sequencer.state();
                let (table, last_zxid) = (state.table.clone(), state.last_zxid());
                world.sides[0].shard.serve_read_only(table, last_zxid, 1);
            }
            world.put(c, &request(5, op, &path_and("/", -1)));
            world.settle();
            let said = world.hear(c);
            let [Said::Reply(reply)] = &said[..] else { panic!("{op}: {said:?}") };
            assert_eq!((reply.xid, reply.zxid, reply.err), (5, 0, -124), "operation {op}");
            assert!(world.is_closed(c), "operation {op}");
        }
    }
}

#[test]
fn a_full_disk_refuses_what_grows_and_lets_go_what_shrinks() {
    let mut world = World::new(1);
    let (c, other) = (world.login_for(0, 40_000), world.login_for(0, 4_000));
    world.make(c, "/a", 0);
    world.make(c, "/b", 0);
    world.make(other, "/e", 1);
    world.sequencer.handle(world.now, ringkeeper::sequencer::Input::Space { low: true });
    assert_eq!(world.ask(c, Op::Create, &create("/c", b"", 0)).err, -119);
    assert_eq!(world.ask(c, Op::SetData, &set("/a", b"longer", -1)).err, -119);
    world.ask(c, Op::SetData, &set("/a", b"", -1)).ok();
    world.ask(c, Op::Delete, &path_and("/b", -1)).ok();
    world.ask(c, Op::GetData, &read("/a", false)).ok();
    world.lose(other);
    world.pass(8_000);
    assert_eq!(world.ask(c, Op::Exists, &read("/e", false)).err, -101, "sessions end as ever");
    world.sequencer.handle(world.now, ringkeeper::sequencer::Input::Space { low: false });
    world.make(c, "/c", 0);
}

#[test]
fn one_frame_that_asks_for_the_same_bytes_many_times_gets_no_more_than_a_slow_reader_may_leave() {
    let mut world = World::with(1, |_, shard| shard.unsent_cut_bytes = 100_000);
    let c = world.login(0);
    world.make(c, "/a", 0);
    world.ask(c, Op::SetData, &set("/a", &[7; 10_000], -1)).ok();
    for n in 0..50 {
        world.make(c, &format!("/a/{n:0>500}"), 0);
    }
    let reads = |op, n: usize| {
        let items: Vec<_> = (0..n).map(|_| (op, read("/a", false))).collect();
        multi(&items)
    };
    assert_eq!(world.ask(c, Op::MultiRead, &reads(Op::GetData, 9)).results().len(), 9);
    for op in [Op::GetData, Op::GetChildren] {
        let reply = world.ask(c, Op::MultiRead, &reads(op, 1_000));
        assert_eq!((reply.err, reply.body.len()), (THROTTLED, 0), "{op:?}");
    }
    assert_eq!(world.ask(c, Op::GetData, &read("/a", false)).err, 0, "the connection stays");
}

/// A kilobyte that asks for as many megabytes as it has items was answered in between, however many of them came (a review).
#[test]
fn a_short_frame_with_a_long_answer_takes_a_turn_of_its_own() {
    let mut world = World::new(1);
    let (c, other) = (world.login(0), world.login(0));
    world.make(c, "/a", 0);
    world.ask(c, Op::SetData, &set("/a", &[7; 300_000], -1)).ok();
    world.make(c, "/b", 0);
    for n in 0..20 {
        world.make(c, &format!("/b/{n:0>30000}"), 0);
    }
    let twice = multi(&[(Op::GetData, read("/a", false)), (Op::GetData, read("/a", false))]);
    let asks = [(Op::MultiRead, twice), (Op::GetChildren, read("/b", false))];
    for (op, body) in &asks {
        for _ in 0..8 {
            world.post(c, *op, body);
        }
        let before = world.sides[0].shard.stats.reads;
        while world.read_some(c.0, usize::MAX) {}
        assert_eq!(world.sides[0].shard.stats.reads - before, 0, "{op:?}");
        assert_eq!(world.ask(other, Op::GetData, &read("/b", false)).err, 0, "nobody else waits");
        world.settle();
        assert_eq!(world.hear(c).len(), 8);
    }
    // One of them alone is short.
    let before = world.sides[0].shard.stats.reads;
    world.post(c, Op::MultiRead, &multi(&[(Op::GetData, read("/a", false))]));
    while world.read_some(c.0, usize::MAX) {}
    assert_eq!(world.sides[0].shard.stats.reads - before, 1);
}

/// Each usage znode that comes walks its subject's tree on every server (a review).
#[test]
fn a_multi_has_the_usage_of_few_trees_counted() {
    let mut world = World::new(1);
    let c = world.login(0);
    let stats = "/zookeeper/quota/zookeeper_stats";
    let pairs = |n: usize| {
        let pair = [(Op::Create, create(stats, b"", 0)), (Op::Delete, path_and(stats, -1))];
        multi(&pair.iter().cloned().cycle().take(2 * n).collect::<Vec<_>>())
    };
    assert_eq!(world.ask(c, Op::Multi, &pairs(16)).err, 0);
    assert_eq!(world.ask(c, Op::Multi, &pairs(17)).err, -8);
}

#[test]
fn a_connection_is_read_no_further_than_a_frame_of_unanswered_writes() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    world.log_held = true;
    for _ in 0..20 {
        world.post(c, Op::SetData, &set("/a", &[7; 300_000], -1));
        world.settle();
    }
    assert_eq!(world.sides[0].shard.outstanding(), 4, "the fourth passes a megabyte");
    world.release_log();
    assert_eq!(world.hear(c).len(), 20, "all are answered, with nothing new from the client");
    assert_eq!(world.sides[0].shard.outstanding(), 0);
}

#[test]
fn reads_that_look_at_thousands_of_znodes_are_answered_one_a_turn_and_in_their_place() {
    let mut world = World::new(1);
    let (c, other) = (world.login(0), world.login(0));
    world.make(c, "/a", 0);
    for n in 0..5 {
        let items: Vec<_> =
            (0..1_000).map(|k| (Op::Create, create(&format!("/a/{n}{k:03}"), b"", 0))).collect();
        world.ask(c, Op::Multi, &multi(&items)).ok();
    }
    let mut asked = Vec::new();
    for _ in 0..20 {
        asked.push(world.post(c, Op::GetAllChildrenNumber, &path("/a")));
        asked.push(world.post(c, Op::GetChildren, &read("/a", false)));
        asked.push(world.post(c, Op::GetData, &read("/a", false)));
        asked.push(world.post(c, Op::SetData, &set("/a", b"x", -1)));
    }
    let before = world.sides[0].shard.stats.reads;
    while world.read_some(c.0, usize::MAX) {}
    assert_eq!(world.sides[0].shard.stats.reads - before, 0);
    world.turn(0);
    assert_eq!(world.sides[0].shard.stats.reads - before, 1, "one long read a turn");
    assert_eq!(world.ask(other, Op::Ping, b"").err, 0);
    world.settle();
    let said: Vec<i32> = world
        .hear(c)
        .into_iter()
        .map(|one| match one {
            Said::Reply(reply) => {
                assert_eq!(reply.err, 0, "{reply:?}");
                reply.xid
            }
            event => panic!("nobody watches: {event:?}"),
        })
        .collect();
    assert_eq!(said, asked);
}

/// A thousand reads of a megabyte behind one write were a gigabyte in memory: nothing asked how long their answers are (a review).
#[test]
fn long_answers_behind_a_write_wait_until_those_in_front_of_them_are_gone() {
    for writes in [1, 3] {
        let (mut world, c, other) = with_big_node(|shard| shard.unsent_pause_bytes = 300_000);
        world.clients[c.0].window = 0;
        world.log_held = true;
        let mut asked = Vec::new();
        for n in 0..100 {
            asked.push(match n < writes {
                true => world.post(c, Op::SetData, &set("/big", &[7; 100_000], -1)),
                false => world.post(c, Op::GetData, &read("/big", false)),
            });
        }
        world.settle();
        world.release_log();
        let waiting = world.sides[0].shard.output(world.clients[c.0].id).len();
        assert!((300_000..500_000).contains(&waiting), "{waiting} bytes wait for it and no more");
        assert_eq!(world.ask(other, Op::Ping, b"").err, 0);
        for _ in 0..120 {
            world.open_window(c, 100_000);
        }
        let xid = |one| match one {
            Said::Reply(reply) => reply.xid,
            event => panic!("nobody watches: {event:?}"),
        };
        assert_eq!(world.hear(c).into_iter().map(xid).collect::<Vec<_>>(), asked);
    }
}

/// Between its writes they can not wait.
#[test]
fn long_answers_between_writes_are_no_more_than_a_few() {
    let (mut world, c, _) = with_big_node(|shard| shard.unsent_pause_bytes = 300_000);
    world.clients[c.0].window = 0;
    world.log_held = true;
    let mut asked = 0;
    for n in 0..100 {
        match n % 10 {
            0 => world.post(c, Op::SetData, &set("/big", &[7; 100_000], -1)),
            _ => world.post(c, Op::GetData, &read("/big", false)),
        };
        asked += 1;
    }
    world.settle();
    world.release_log();
    let waiting = world.sides[0].shard.output(world.clients[c.0].id).len();
    assert!(waiting < 2_000_000, "{waiting} bytes wait for it");
    world.open_window(c, usize::MAX);
    assert_eq!(world.hear(c).len(), asked);
}

#[test]
fn what_a_write_has_made_long_is_read_between_writes_as_often_as_a_slow_reader_may_leave() {
    for (reads, is_cut) in [(9, false), (30, true)] {
        let mut world = World::with(1, |_, shard| {
            (shard.unsent_cut_bytes, shard.unsent_pause_bytes) = (1_000_000, 300_000);
        });
        let c = world.login(0);
        world.make(c, "/a", 0);
        world.clients[c.0].window = 0;
        world.log_held = true;
        world.post(c, Op::SetData, &set("/a", &[7; 100_000], -1));
        for _ in 0..reads {
            world.post(c, Op::GetData, &read("/a", false));
        }
        world.post(c, Op::SetData, &set("/a", b"", -1));
        world.settle();
        world.release_log();
        assert_eq!(world.is_closed(c), is_cut);
        assert_eq!(world.cuts(0), &[Why::SlowReader][..usize::from(is_cut)]);
    }
}

/// Who takes all that comes is not cut off for what it reads between two writes.
#[test]
fn as_much_as_a_slow_reader_may_leave_is_not_read_between_two_writes() {
    let (data, names) = ((Op::GetData, read("/big", false)), (Op::GetChildren, read("/list", false)));
    let acl = (Op::GetAcl, path("/acl"));
    let many = format!("{}:x", "d".repeat(50_000));
    for ((op, body), reads) in [(data, 14), (names, 60), (acl, 30)] {
        let (mut world, c, _) = with_big_node(|shard| {
            (shard.unsent_cut_bytes, shard.unsent_pause_bytes) = (1_000_000, 300_000);
        });
        world.make(c, "/list", 0);
        world
            .ask(
                c,
                Op::Create,
                &create_acl("/acl", None, &[(31, "world", "anyone"), (1, "digest", &many)], 0),
            )
            .ok();
        for n in 0..50 {
            world.make(c, &format!("/list/{n:01000}"), 0);
        }
        world.log_held = true;
        world.post(c, Op::SetData, &set("/list", b"", -1));
        for _ in 0..reads {
            world.post(c, op, &body);
        }
        world.post(c, Op::SetData, &set("/list", b"", -1));
        // The first write is done while the second one waits, if that was read.
        world.read_some(c.0, usize::MAX);
        while world.read_some(c.0, usize::MAX) {}
        world.settle();
        world.release_log();
        assert_eq!(world.cuts(0), []);
        assert_eq!(world.hear(c).len(), reads + 2);
    }
}

/// What waited for their own sockets counted against all: thirty clients that read nothing kept everybody of the shard from
/// being read.
#[test]
fn reads_that_wait_for_room_keep_nobody_else_from_being_read() {
    let mut world = World::new(1);
    let other = world.login_for(0, 40_000);
    world.ask(other, Op::Create, &create("/big", &[7; 1_000_000], 0)).ok();
    world.make(other, "/a", 0);
    let long = format!("/{}", "x".repeat(1_040_000));
    let idle: Vec<Conn> = (0..40).map(|_| world.login_for(0, 40_000)).collect();
    for c in &idle {
        world.clients[c.0].window = 0;
        world.log_held = true;
        world.post(*c, Op::SetData, &set("/a", b"", -1));
        for _ in 0..12 {
            world.post(*c, Op::GetData, &read("/big", false));
        }
        for _ in 0..2 {
            world.post(*c, Op::Exists, &read(&long, false));
        }
        world.settle();
        world.release_log();
    }
    assert_eq!(world.ask(other, Op::Ping, b"").err, 0);
    assert_eq!(world.sides[0].shard.outstanding(), 0);
    // And are answered as soon as there is room, or gone with their connection.
    world.open_window(idle[0], usize::MAX);
    assert_eq!(world.hear(idle[0]).len(), 15);
    world.half_close(idle[1]);
    world.pass(31_000);
    assert_eq!((world.cuts(0).len(), world.sides[0].shard.outstanding()), (39, 0));
}

/// Its pings lay in its socket, for it is not read while so much is unsent: its session expired while it took all that came.
#[test]
fn who_takes_bytes_lives_though_it_is_not_read() {
    let mut world = World::with(1, |_, shard| shard.unsent_pause_bytes = 100_000);
    let c = world.login_for(0, 4_000);
    world.ask(c, Op::Create, &create("/big", &[7; 300_000], 0)).ok();
    world.ask(c, Op::Create, &create("/mine", b"", 1)).ok();
    clog(&mut world, c, 1);
    for _ in 0..10 {
        world.pass(2_000);
        world.open_window(c, 10_000);
        world.post(c, Op::Ping, b"");
    }
    assert!(!world.is_closed(c));
    world.open_window(c, usize::MAX);
    assert_eq!(world.ask(c, Op::Exists, &read("/mine", false)).err, 0);
}

/// Thirty long reads of others in front of it were enough, or a write of its own that took its time.
#[test]
fn who_waits_for_an_answer_and_is_not_read_meanwhile_is_in_every_report() {
    let long = (Op::MultiRead, multi(&vec![(Op::GetData, read("/big", false)); 6]), 1);
    let many = (Op::GetData, read("/big", false), 20);
    for (behind_a_write, (op, body, times)) in [(false, &long), (true, &long), (true, &many)] {
        let (mut world, c, _) = with_big_node(|_| {});
        world.pass(1_000);
        if behind_a_write {
            world.post(c, Op::SetData, &set("/big", &[8; 100_000], -1));
        }
        for _ in 0..*times {
            world.post(c, *op, body);
        }
        while world.read_some(c.0, usize::MAX) {}
        for _ in 0..3 {
            world.now.mono = world.now.mono.plus(Millis(1_000));
            let shard = &mut world.sides[0].shard;
            shard.tick(world.now.mono);
            let heard = shard.take_upward().and_then(|up| up.heard).expect("a report");
            assert!(heard.sessions.contains(&(world.session(c), world.now.mono)), "{:?}", heard.sessions);
        }
    }
}

/// A connection whose reads waited for room went on with them in front of the events that came meanwhile.
#[test]
fn reads_that_waited_for_room_come_behind_the_events_that_came_meanwhile() {
    let mut world = World::with(1, |_, shard| {
        (shard.unsent_pause_bytes, shard.slices.at_once_max) = (300_000, 0);
    });
    let (c, other) = (world.login_for(0, 40_000), world.login_for(0, 40_000));
    world.ask(c, Op::Create, &create("/big", &[7; 100_000], 0)).ok();
    world.make(c, "/w", 0);
    world.ask(c, Op::GetData, &read("/w", true)).ok();
    world.clients[c.0].window = 0;
    world.log_held = true;
    world.post(c, Op::SetData, &set("/big", &[7; 100_000], -1));
    for _ in 0..5 {
        world.post(c, Op::GetData, &read("/big", false));
    }
    let last = world.post(c, Op::GetData, &read("/w", false));
    world.settle();
    world.release_log();
    world.post(other, Op::SetData, &set("/w", b"new", -1));
    world.read_some(other.0, usize::MAX);
    world.turn(0);
    while world.sequencer_turn() {}
    // It is taken over in the turn in which the connection goes on.
    world.open_window(c, usize::MAX);
    let said = told(&world.hear(c));
    let at = |what: &str| said.iter().position(|one| one == what).expect(what);
    assert!(at("event 3 /w") < at(&format!("reply {last} 0")), "{said:?}");
}
