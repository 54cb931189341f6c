//! Rows of the feature inventory that no trap covers, on a whole server in one thread. `tests/ROWS.md` says which.

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::ids::{WallMillis, Zxid};
use ringkeeper::sequencer::Note;
use ringkeeper::tree::{AclId, Path, Znode};
use ringkeeper::wire::{put_multi_header, OpCode as Op};

const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;

fn err(world: &mut World, conn: Conn, op: Op, body: &[u8]) -> i32 {
    world.ask(conn, op, body).err
}

fn pairs(list: &[(i32, &str)]) -> Vec<(i32, String)> {
    list.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect()
}

// ---- wire ----

#[test]
fn replies_bear_zxids_that_never_go_back_a09_d18() {
    let mut world = World::new(2);
    let (a, b) = (world.login(0), world.login(1));
    let made = world.make(a, "/a", 0);
    assert!(made.zxid > 0 && made.zxid == world.stat(a, "/a").czxid, "a write bears its own");
    let mut last = 0;
    for n in 0..20 {
        let who = if n % 2 == 0 { a } else { b };
        let reply = match n % 5 {
            0 => world.ask(who, Op::SetData, &set("/a", b"", -1)),
            1 => world.ask(who, Op::Create, &create("/a", b"", 0)),
            2 => world.ask(who, Op::GetData, &read("/none", false)),
            3 => world.ask(who, Op::Sync, &path("/")),
            _ => world.ask(who, Op::GetData, &read("/a", false)),
        };
        assert!(reply.zxid >= last, "reply {n}");
        last = reply.zxid;
    }
}

#[test]
fn an_error_is_a_header_alone_a10() {
    let mut world = World::new(1);
    let c = world.login(0);
    for (op, body) in [
        (Op::GetData, read("/none", false)),
        (Op::Exists, read("/none", false)),
        (Op::GetChildren2, read("/none", false)),
        (Op::GetAcl, path("/none")),
        (Op::SetData, set("/none", b"", -1)),
        (Op::Create2, create("/none/x", b"", 0)),
        (Op::Delete, path_and("/none", -1)),
        (Op::GetAllChildrenNumber, path("/none")),
    ] {
        let reply = world.ask(c, op, &body);
        assert_eq!((reply.err, reply.body.len()), (NO_NODE, 0), "{op:?}");
    }
}

#[test]
fn a_record_that_does_not_decode_is_told_and_the_connection_stays_a17() {
    let mut world = World::new(1);
    let c = world.login(0);
    let whole: &[(Op, Vec<u8>)] = &[
        (Op::Create, create("/a", b"x", 0)),
        (Op::CreateTtl, create_ttl("/a", 5, 1_000)),
        (Op::Delete, path_and("/a", -1)),
        (Op::SetData, set("/a", b"", -1)),
        (Op::SetAcl, set_acl("/a", OPEN, -1)),
        (Op::GetData, read("/a", false)),
        (Op::Exists, read("/a", false)),
        (Op::GetChildren, read("/a", false)),
        (Op::GetAcl, path("/a")),
        (Op::Sync, path("/a")),
        (Op::AddWatch, path_and("/a", 0)),
        (Op::RemoveWatches, path_and("/a", 3)),
        (Op::SetWatches, set_watches(0, &[&["/a"], &[], &[]])),
        (Op::GetEphemerals, path("/")),
        (Op::MultiRead, multi(&[(Op::GetData, read("/", false))])),
    ];
    for (op, body) in whole {
        for cut in 0..body.len() {
            assert_eq!(world.ask(c, *op, &body[..cut]).err, -5, "{op:?} cut at {cut}");
        }
    }
    assert!(!world.is_closed(c));
    world.make(c, "/a", 0);
}

// ---- multi ----

#[test]
fn a_multi_is_one_transaction_whose_parts_see_each_other_c01_c02() {
    let mut world = World::new(1);
    let c = world.login(0);
    let body = multi(&[
        (Op::Create, create("/p", b"", 0)),
        (Op::Create, create("/p/c", b"", 0)),
        (Op::SetData, set("/p/c", b"in the same", 0)),
        (Op::Check, path_and("/p/c", 1)),
        (Op::Create, create("/gone", b"", 0)),
        (Op::Delete, path_and("/gone", 0)),
    ]);
    let reply = world.ask(c, Op::Multi, &body);
    let kinds: Vec<_> = reply.results().iter().map(|(kind, err, _)| (*kind, *err)).collect();
    assert_eq!(kinds, [(1, 0), (1, 0), (5, 0), (13, 0), (1, 0), (2, 0)]);
    let (parent, child) = (world.stat(c, "/p"), world.stat(c, "/p/c"));
    assert_eq!([parent.czxid, parent.pzxid, child.czxid, child.mzxid], [reply.zxid; 4]);
}

#[test]
fn a_failed_multi_leaves_no_trace_c07() {
    let mut world = World::new(2);
    let (c, watcher) = (world.login(0), world.login(1));
    world.make(c, "/a", 0);
    for path in ["/", "/a"] {
        world.ask(watcher, Op::GetChildren, &read(path, true)).ok();
    }
    world.ask(watcher, Op::GetData, &read("/a", true)).ok();
    let before = (world.stat(c, "/"), world.stat(c, "/a"), world.sequencer.state().digest());
    let body = multi(&[
        (Op::SetData, set("/a", b"z", -1)),
        (Op::Create, create("/a/s-", b"", 2)),
        (Op::Create, create_acl("/new-acl", None, &[(1, "ip", "10.0.0.1")], 0)),
        (Op::Delete, path_and("/a", 99)),
    ]);
    let codes: Vec<i32> = world.ask(c, Op::Multi, &body).results().iter().map(|(_, err, _)| *err).collect();
    assert_eq!(codes, [0, 0, 0, -103]);
    assert!(world.events(watcher).is_empty(), "no watch fires");
    let after = (world.stat(c, "/"), world.stat(c, "/a"), world.sequencer.state().digest());
    assert_eq!(after, before);
}

#[test]
fn a_multis_events_come_before_its_reply_in_the_order_of_its_operations_c09_f22() {
    let mut world = World::new(1);
    let c = world.login(0);
    for path in ["/a", "/b"] {
        world.make(c, path, 0);
        world.ask(c, Op::GetData, &read(path, true)).ok();
    }
    world.ask(c, Op::Exists, &read("/c", true));
    let body = multi(&[
        (Op::SetData, set("/b", b"", -1)),
        (Op::Create, create("/c", b"", 0)),
        (Op::SetData, set("/b", b"once is enough", -1)),
        (Op::Delete, path_and("/a", -1)),
    ]);
    let said = told(&world.ask_all(c, Op::Multi, &body));
    assert_eq!(said[..3], ["event 3 /b", "event 1 /c", "event 2 /a"]);
    assert!(said[3].starts_with("reply") && said.len() == 4);
}

#[test]
fn a_multi_with_what_it_can_not_hold_is_refused_whole_c10_c11() {
    let mut world = World::new(1);
    let c = world.login(0);
    let made = (Op::Create, create("/a", b"", 0));
    for (op, body) in [
        (Op::Multi, multi(&[made.clone(), (Op::GetData, read("/", false))])),
        (Op::Multi, multi(&[made.clone(), (Op::Sync, path("/"))])),
        (Op::Multi, multi(&[made.clone(), (Op::SetAcl, set_acl("/", OPEN, -1))])),
        (Op::MultiRead, multi(&[(Op::GetData, read("/", false)), made.clone()])),
        (Op::Multi, multi(std::slice::from_ref(&made))[..20].to_vec()),
    ] {
        let reply = world.ask(c, op, &body);
        assert_eq!((reply.err, reply.body.len()), (-5, 0));
    }
    let mut unknown = Vec::new();
    put_multi_header(&mut unknown, 9_999, false, -1);
    assert_eq!(err(&mut world, c, Op::Multi, &unknown), -5);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/a", false)), NO_NODE, "nothing of it was done");
    assert!(!world.is_closed(c));
}

#[test]
fn a_multi_read_answers_each_for_itself_b15() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    let body = multi(&[
        (Op::GetData, read("/a", true)),
        (Op::GetData, read("/none", false)),
        (Op::GetChildren, read("/", false)),
    ]);
    let results = world.ask(c, Op::MultiRead, &body).results();
    assert_eq!(
        results.iter().map(|(kind, err, _)| (*kind, *err)).collect::<Vec<_>>(),
        [(4, 0), (-1, NO_NODE), (8, 0)]
    );
    world.ask(c, Op::SetData, &set("/a", b"", -1)).ok();
    assert!(world.events(c).is_empty(), "its watch flags are ignored");
}

// ---- the tree ----

fn znode(path: &str, cversion: i32, num_children: i32, acl: AclId) -> Znode {
    Znode {
        path: Path::new(path),
        data: None,
        czxid: Zxid(1),
        mzxid: Zxid(1),
        pzxid: Zxid(1),
        ctime: WallMillis(1),
        mtime: WallMillis(1),
        version: 0,
        cversion,
        aversion: 0,
        num_children,
        acl,
        owner: 0,
    }
}

#[test]
fn sequence_numbers_go_on_below_zero_d06() {
    let nodes = vec![znode("/", 1, 2, AclId::OPEN), znode("/q", i32::MAX - 1, 0, AclId::OPEN)];
    let mut world = World::with_nodes(nodes, Vec::new());
    let c = world.login(0);
    let names: Vec<String> = (0..4).map(|_| world.make(c, "/q/n-", 2).text()).collect();
    let want = ["2147483646", "2147483647", "-2147483648", "-2147483647"];
    assert_eq!(names, want.map(|number| format!("/q/n-{number}")), "as Java's %010d of an int");
}

#[test]
fn a_stored_empty_list_is_open_i15() {
    let empty = AclId::FIRST_FREE;
    let nodes = vec![znode("/", 1, 2, AclId::OPEN), znode("/imported", 0, 0, empty)];
    let mut world = World::with_nodes(nodes, vec![(empty, [].into())]);
    let c = world.login(0);
    world.ask(c, Op::GetData, &read("/imported", false)).ok();
    world.ask(c, Op::SetData, &set("/imported", b"", -1)).ok();
    world.make(c, "/imported/kid", 0);
}

#[test]
fn set_acl_moves_aversion_and_nothing_else_and_tells_nobody_d10_f05_b10() {
    let mut world = World::new(1);
    let (c, watcher) = (world.login(0), world.login(0));
    world.make(c, "/a", 0);
    world.ask(watcher, Op::GetData, &read("/a", true)).ok();
    world.ask(watcher, Op::AddWatch, &path_and("/", 1)).ok();
    let before = world.stat(c, "/a");
    let after = world.ask(c, Op::SetAcl, &set_acl("/a", OPEN, 0)).stat();
    assert_eq!(after, ringkeeper::wire::Stat { aversion: 1, ..before });
    assert_eq!(err(&mut world, c, Op::SetAcl, &set_acl("/a", OPEN, 0)), -103, "aversion is what is compared");
    assert!(world.events(watcher).is_empty());
}

#[test]
fn malformed_paths_are_not_there_for_reads_and_bad_arguments_for_writes_d12() {
    let mut world = World::new(1);
    let c = world.login(0);
    for path in ["/a//b", "/./a", "/a/..", "/\u{1}", "relative", ""] {
        if !path.is_empty() {
            assert_eq!(err(&mut world, c, Op::GetData, &read(path, false)), NO_NODE, "{path:?}");
        }
        assert_eq!(err(&mut world, c, Op::SetData, &set(path, b"", -1)), -8, "{path:?}");
    }
    assert_eq!(err(&mut world, c, Op::Create, &create("/\u{1}", b"", 0)), -8);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/a\0", false)), -8, "the one that a read looks at");
}

#[test]
fn a_stat_tells_the_whole_life_of_a_znode_d02_d09() {
    let mut world = World::new(1);
    let c = world.login(0);
    let born = world.now.wall.0;
    let made = world.ask(c, Op::Create2, &create("/a", b"four", 0));
    let stat = made.stat();
    assert_eq!(made.text(), "/a");
    assert_eq!([stat.czxid, stat.mzxid, stat.pzxid], [made.zxid; 3]);
    assert_eq!([stat.ctime, stat.mtime], [born; 2]);
    assert_eq!(
        (stat.version, stat.cversion, stat.aversion, stat.data_length, stat.num_children),
        (0, 0, 0, 4, 0)
    );
    world.pass(1_000);
    let set_zxid = world.ask(c, Op::SetData, &set("/a", b"longer", 0)).zxid;
    let stat = world.stat(c, "/a");
    assert_eq!((stat.czxid, stat.mzxid, stat.version, stat.data_length), (made.zxid, set_zxid, 1, 6));
    assert_eq!((stat.ctime, stat.mtime), (born, born + 1_000));
    // The same on every replica, and so after a restart: time travels in the batch.
    let mut world = world.restart();
    let c = world.login(0);
    assert_eq!(world.stat(c, "/a"), stat);
}

#[test]
fn time_to_live_has_bounds_and_sequence_numbers_e06_e12() {
    let mut world = World::new(1);
    let c = world.login(0);
    for (ttl, want) in [(0, -8), (-1, -8), (1 << 40, -8), ((1 << 40) - 1, 0), (1, 0)] {
        assert_eq!(
            err(&mut world, c, Op::CreateTtl, &create_ttl(&format!("/t{ttl}"), 5, ttl)),
            want,
            "{ttl}"
        );
    }
    let next = world.stat(c, "/").cversion;
    assert!(next > 0);
    let first = world.ask(c, Op::CreateTtl, &create_ttl("/s-", 6, 1_000)).text();
    let second = world.ask(c, Op::CreateTtl, &create_ttl("/s-", 6, 1_000)).text();
    assert!(first < second && first.len() == 13, "{first} {second}");
}

#[test]
fn the_reaper_takes_no_more_than_its_share_a_minute_p10() {
    let mut world = World::with(1, |sequencer, _| {
        sequencer.reap_interval_ms = 60_000;
        sequencer.reap_per_minute = 5;
    });
    let c = world.login_for(0, 40_000);
    for n in 0..12 {
        world.ask(c, Op::CreateTtl, &create_ttl(&format!("/{n}"), 5, 1)).ok();
    }
    let mut left = Vec::new();
    for _ in 0..3 {
        for _ in 0..60 {
            world.pass(1_000);
            world.ask(c, Op::Ping, b"").ok();
        }
        left.push(world.ask(c, Op::GetAllChildrenNumber, &path("/")).ok()[3]);
    }
    assert_eq!(left, [12 - 5 + 3, 12 - 10 + 3, 3], "three are /zookeeper and below");
}

#[test]
fn whole_subtrees_are_counted_and_ephemerals_listed_for_their_session_b23_b24() {
    let mut world = World::new(2);
    let (c, other) = (world.login(0), world.login(1));
    for path in ["/a", "/a/b", "/a/b/c", "/d"] {
        world.make(c, path, 0);
    }
    world.make(c, "/a/e", 1);
    world.make(other, "/a/f", 1);
    let count = |world: &mut World, at: &str| {
        let reply = world.ask(c, Op::GetAllChildrenNumber, &path(at));
        i32::from_be_bytes(reply.ok().try_into().unwrap())
    };
    assert_eq!((count(&mut world, "/a"), count(&mut world, "/d")), (4, 0));
    assert_eq!(count(&mut world, "/"), 9, "all znodes but the root");
    assert_eq!(world.ask(c, Op::GetEphemerals, &path("/")).names(), ["/a/e"]);
    assert_eq!(world.ask(other, Op::GetEphemerals, &path("/a/")).names(), ["/a/f"]);
    assert!(world.ask(other, Op::GetEphemerals, &path("/d")).names().is_empty());
}

// ---- watches ----

#[test]
fn each_change_tells_its_own_watchers_f01_f02_f03() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    let arm = |world: &mut World| {
        world.ask(c, Op::Exists, &read("/a", true));
        world.ask(c, Op::GetChildren, &read("/", true)).ok();
    };
    arm(&mut world);
    world.make(actor, "/a", 0);
    assert_eq!(world.events(c), pairs(&[(CREATED, "/a"), (CHILDREN, "/")]), "the znode, then its parent");
    arm(&mut world);
    world.ask(c, Op::GetChildren, &read("/a", true)).ok();
    world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
    assert_eq!(world.events(c), pairs(&[(CHANGED, "/a")]));
    world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
    assert!(world.events(c).is_empty(), "once");
    world.make(actor, "/a/b", 0);
    assert_eq!(world.events(c), pairs(&[(CHILDREN, "/a")]));
}

#[test]
fn several_registrations_of_a_connection_are_one_event_f08() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    for _ in 0..3 {
        world.ask(c, Op::GetData, &read("/a", true)).ok();
        world.ask(c, Op::Exists, &read("/a", true)).ok();
    }
    world.ask(c, Op::AddWatch, &path_and("/a", 0)).ok();
    world.ask(c, Op::AddWatch, &path_and("/", 1)).ok();
    world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
    assert_eq!(world.events(c), pairs(&[(CHANGED, "/a")]));
}

#[test]
fn a_watch_begins_with_the_state_that_its_reply_shows_f07() {
    let mut world = World::new(1);
    let (a, b) = (world.login(0), world.login(0));
    world.make(a, "/a", 0);
    world.log_held = true;
    // The read waits behind its own write, another's write comes in between them in the log.
    world.post(b, Op::SetData, &set("/a", b"one", -1));
    world.post(b, Op::GetData, &read("/a", true));
    world.settle();
    world.post(a, Op::SetData, &set("/a", b"two", -1));
    world.settle();
    world.release_log();
    let said = world.hear(b);
    let Said::Reply(reply) = &said[1] else { panic!("{said:?}") };
    assert_eq!(reply.data().unwrap(), b"one");
    assert_eq!(told(&said)[2], "event 3 /a", "the very next change is told");
}

#[test]
fn watches_are_checked_and_removed_by_kind_f18_b18() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    let arm = |world: &mut World| {
        world.ask(c, Op::GetData, &read("/a", true)).ok();
        world.ask(c, Op::GetChildren, &read("/a", true)).ok();
        world.ask(c, Op::AddWatch, &path_and("/a", 0)).ok();
        world.ask(c, Op::AddWatch, &path_and("/a", 1)).ok();
    };
    let there = |world: &mut World| {
        [1, 2, 4, 5].map(|kind| world.ask(c, Op::CheckWatches, &path_and("/a", kind)).err == 0)
    };
    for (kind, left) in [
        (1, [false, true, true, true]),
        (2, [true, false, true, true]),
        (3, [false, false, false, false]),
        (4, [true, true, false, true]),
        (5, [true, true, true, false]),
    ] {
        arm(&mut world);
        assert_eq!(there(&mut world), [true; 4]);
        assert_eq!(err(&mut world, c, Op::RemoveWatches, &path_and("/a", kind)), 0);
        assert_eq!(there(&mut world), left, "type {kind}");
        assert_eq!(err(&mut world, c, Op::RemoveWatches, &path_and("/a", kind)), -121, "type {kind} again");
    }
    assert_eq!(err(&mut world, c, Op::RemoveWatches, &path_and("/a", 9)), -5);
    assert_eq!(err(&mut world, c, Op::CheckWatches, &path_and("/none", 3)), -121);
}

#[test]
fn what_came_and_went_meanwhile_is_missed_by_an_exist_watch_f24() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    let seen = world.ask(c, Op::Ping, b"").zxid;
    world.make(actor, "/a", 0);
    world.ask(actor, Op::Delete, &path_and("/a", -1)).ok();
    let said = told(&world.ask_all(c, Op::SetWatches, &set_watches(seen, &[&[], &["/a"], &[]])));
    assert_eq!(said, ["reply -8 0"], "as ZooKeeper documents it");
    world.make(actor, "/a", 0);
    assert_eq!(world.events(c), pairs(&[(CREATED, "/a")]));
}

// ---- sessions ----

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

// ---- permissions ----

#[test]
fn permissions_are_one_by_one_and_not_inherited_i01() {
    let mut world = World::new(1);
    let (owner, c) = (world.login(0), world.login(0));
    world.ask(owner, Op::Auth, &auth("digest", b"u:p")).ok();
    let of = |perms: i32| [(31, "auth", ""), (perms, "world", "anyone")];
    for (perms, allowed) in [(0, ""), (1, "R"), (2, "W"), (4, "C"), (8, "D"), (16, "A"), (31, "RWCDA")] {
        let at = format!("/p{perms}");
        world.ask(owner, Op::Create, &create_acl(&at, None, &of(perms), 0)).ok();
        world.ask(owner, Op::Create, &create(&format!("{at}/kid"), b"", 0)).ok();
        for (what, op, body) in [
            ("R", Op::GetData, read(&at, false)),
            ("R", Op::GetChildren, read(&at, false)),
            ("R", Op::Exists, read(&at, false)),
            ("R", Op::Multi, multi(&[(Op::Check, path_and(&at, -1))])),
            ("W", Op::SetData, set(&at, b"", -1)),
            ("C", Op::Create, create(&format!("{at}/new"), b"", 0)),
            ("D", Op::Delete, path_and(&format!("{at}/kid"), -1)),
            ("A", Op::SetAcl, set_acl(&at, OPEN, -1)),
        ] {
            let reply = world.ask(c, op, &body);
            let code = if op == Op::Multi { reply.results()[0].1 } else { reply.err };
            let want = if allowed.contains(what) { 0 } else { NO_AUTH };
            assert_eq!(code, want, "perms {perms}: {op:?} needs {what}");
        }
    }
    world.ask(owner, Op::Create, &create_acl("/closed", None, &[(31, "auth", "")], 0)).ok();
    world.ask(owner, Op::Create, &create_acl("/closed/open", Some(b"x"), OPEN, 0)).ok();
    world.ask(c, Op::GetData, &read("/closed/open", false)).ok();
    world.ask(c, Op::SetData, &set("/closed/open", b"", -1)).ok();
}

#[test]
fn many_znodes_share_a_list_that_goes_with_the_last_of_them_i17() {
    let mut world = World::new(2);
    let c = world.login(0);
    let lists = |world: &World| {
        let shards = world.sides.iter().map(|side| side.shard.table().acls.iter().count());
        shards.chain([world.sequencer.state().table.acls.iter().count()]).collect::<Vec<_>>()
    };
    let before = lists(&world);
    let one: &[(i32, &str, &str)] = &[(31, "ip", "127.0.0.1")];
    let two: &[(i32, &str, &str)] = &[(15, "ip", "127.0.0.1"), (31, "world", "anyone")];
    for n in 0..50 {
        let acl = if n % 2 == 0 { one } else { two };
        world.ask(c, Op::Create, &create_acl(&format!("/{n}"), None, acl, n % 4)).ok();
    }
    let names = world.ask(c, Op::GetChildren, &read("/", false)).names();
    assert_eq!(lists(&world), before.iter().map(|n| n + 2).collect::<Vec<_>>());
    for name in names.iter().filter(|name| *name != "zookeeper") {
        let at = format!("/{name}");
        if name.len() % 2 == 0 {
            world.ask(c, Op::SetAcl, &set_acl(&at, OPEN, -1)).ok();
        } else {
            world.ask(c, Op::Delete, &path_and(&at, -1)).ok();
        }
    }
    world.settle();
    assert_eq!(lists(&world), before, "on every shard too");
}

#[test]
fn addresses_are_identities_i06() {
    let mut world = World::new(1);
    let (owner, near, far, six) = (
        world.login(0),
        world.connect_from(0, "10.1.2.3"),
        world.connect_from(0, "10.2.2.3"),
        world.connect_from(0, "2001:db8::7"),
    );
    for c in [near, far, six] {
        assert!(world.greet(c, &hello(0, &[0; 16], 10_000)).is_some());
    }
    let acl: &[(i32, &str, &str)] = &[(1, "ip", "10.1.0.0/16"), (1, "ip", "2001:db8::/32")];
    world.ask(owner, Op::Create, &create_acl("/net", None, acl, 0)).ok();
    for (c, want) in [(near, 0), (far, NO_AUTH), (six, 0), (owner, NO_AUTH)] {
        assert_eq!(err(&mut world, c, Op::GetData, &read("/net", false)), want);
    }
    let mapped = world.connect_from(0, "::ffff:10.1.9.9");
    world.greet(mapped, &hello(0, &[0; 16], 10_000));
    assert_eq!(err(&mut world, mapped, Op::GetData, &read("/net", false)), 0, "a mapped address is IPv4");
}

#[test]
fn skip_acl_and_a_disabled_digest_i16_i19() {
    let mut world = World::with(1, |sequencer, shard| {
        sequencer.txn.skip_acl = true;
        shard.skip_acl = true;
    });
    let (a, b) = (world.login(0), world.login(0));
    world.ask(a, Op::Create, &create_acl("/a", None, &[(0, "world", "anyone")], 0)).ok();
    for (op, body) in
        [(Op::GetData, read("/a", false)), (Op::SetData, set("/a", b"", -1)), (Op::GetAcl, path("/a"))]
    {
        assert_eq!(err(&mut world, b, op, &body), 0, "{op:?}");
    }
    let mut world = World::with(1, |sequencer, shard| {
        sequencer.txn.digest_disabled = true;
        shard.schemes.digest_disabled = true;
    });
    let c = world.login(0);
    assert_eq!(err(&mut world, c, Op::Create, &create_acl("/a", None, &[(31, "digest", "u:x")], 0)), -114);
    assert_eq!(err(&mut world, c, Op::Auth, &auth("digest", b"u:p")), -115);
}

#[test]
fn super_alone_changes_the_config_node_and_its_list_i21() {
    let mut world = World::new(1);
    let (c, root) = (world.login(0), world.login(0));
    world.ask(root, Op::Auth, &auth("digest", b"super:test")).ok();
    let at = "/zookeeper/config";
    assert_eq!(err(&mut world, c, Op::SetAcl, &set_acl(at, OPEN, -1)), NO_AUTH);
    world.ask(root, Op::SetAcl, &set_acl(at, OPEN, -1)).ok();
    assert_eq!(err(&mut world, c, Op::SetData, &set(at, b"", -1)), 0);
}

// ---- quotas ----

fn limit(world: &mut World, c: Conn, at: &str, limits: &str) {
    let base = format!("/zookeeper/quota{at}");
    world.ask(c, Op::Create, &create(&base, b"", 0)).ok();
    world.ask(c, Op::Create, &create(&format!("{base}/zookeeper_limits"), limits.as_bytes(), 0)).ok();
    world.ask(c, Op::Create, &create(&format!("{base}/zookeeper_stats"), b"count=0,bytes=0", 0)).ok();
}

#[test]
fn a_soft_quota_refuses_nothing_and_a_hard_one_does_j01_j02_j07() {
    let mut world = World::with(1, |sequencer, _| sequencer.txn.enforce_quota = true);
    let c = world.login(0);
    for path in ["/soft", "/hard"] {
        world.make(c, path, 0);
    }
    limit(&mut world, c, "/soft", "count=1,bytes=1");
    limit(&mut world, c, "/hard", "count=-1,bytes=-1,countHardLimit=3,byteHardLimit=10");
    world.ask(c, Op::Create, &create("/soft/a", &[0; 100], 0)).ok();
    world.ask(c, Op::Create, &create("/hard/a", b"12345", 0)).ok();
    assert_eq!(err(&mut world, c, Op::Create, &create("/hard/b", b"12345", 0)), -125, "bytes");
    world.ask(c, Op::Create, &create("/hard/b", b"", 0)).ok();
    assert_eq!(err(&mut world, c, Op::Create, &create("/hard/c", b"", 0)), -125, "count");
    assert_eq!(err(&mut world, c, Op::SetData, &set("/hard/a", b"1234567890", -1)), -125, "growing");
    world.ask(c, Op::SetData, &set("/hard/a", b"1", -1)).ok();
    let in_multi = multi(&[(Op::Create, create("/hard/c", b"", 0))]);
    assert_eq!(world.ask(c, Op::Multi, &in_multi).results()[0].1, -125);
    for name in ["zookeeper_limits", "zookeeper_stats"] {
        world.ask(c, Op::Delete, &path_and(&format!("/zookeeper/quota/hard/{name}"), -1)).ok();
    }
    world.ask(c, Op::Create, &create("/hard/c", &[0; 100], 0)).ok();
}

#[test]
fn a_hard_quota_that_is_not_enforced_is_none() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/hard", 0);
    limit(&mut world, c, "/hard", "count=-1,bytes=-1,countHardLimit=1,byteHardLimit=1");
    world.ask(c, Op::Create, &create("/hard/a", &[0; 100], 0)).ok();
    let stats = world.ask(c, Op::GetData, &read("/zookeeper/quota/hard/zookeeper_stats", false));
    assert_eq!(stats.data().unwrap(), b"count=2,bytes=101");
}
