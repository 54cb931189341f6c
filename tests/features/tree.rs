//! Znodes, their numbers and their life.

use super::machines::client::*;
use super::*;
use ringkeeper::ids::{WallMillis, Zxid};
use ringkeeper::tree::{AclId, Znode};
use ringkeeper::wire::OpCode as Op;

fn znode(path: &str, cversion: i32, num_children: i32, acl: AclId) -> Znode {
    Znode { cversion, num_children, acl, ..Znode::created(path, Zxid(1), WallMillis(1)) }
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
    // It begins after an interval, with one; the next follow every 12 seconds, as ZooKeeper waits after each.
    assert_eq!(left, [12 - 1 + 3, 12 - 6 + 3, 12 - 11 + 3], "three are /zookeeper and below");
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
    assert_eq!(count(&mut world, ""), 10, "as if it were above the root");
    assert_eq!(world.ask(c, Op::GetEphemerals, &path("/")).names(), ["/a/e"]);
    assert_eq!(world.ask(other, Op::GetEphemerals, &path("/a/")).names(), ["/a/f"]);
    assert!(world.ask(other, Op::GetEphemerals, &path("/d")).names().is_empty());
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
fn a_snapshot_begins_after_so_many_transactions_or_so_many_bytes_n06() {
    for (txns, bytes) in [(50, u64::MAX), (u64::MAX, 50 * 100)] {
        let mut world = World::with(1, |sequencer, _| {
            sequencer.snapshot_txns = txns;
            sequencer.snapshot_bytes = bytes;
        });
        let c = world.login(0);
        for n in 0..200 {
            world.make(c, &format!("/{n}"), 0);
        }
        world.settle();
        assert!((3..=6).contains(&world.snapshots.len()), "{:?}", world.snapshots);
        for pair in world.snapshots.windows(2) {
            assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "each holds more than the one before");
        }
        assert!(world.snapshots[0].1 >= 20, "every znode is in it");
    }
}
