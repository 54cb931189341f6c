//! Who may do what, and how much.

use super::machines::client::*;
use super::*;
use ringkeeper::apply::SnapshotHead;
use ringkeeper::ids::{WallMillis, Zxid};
use ringkeeper::sequencer::Note;
use ringkeeper::tree::{AclId, Znode};
use ringkeeper::wire::{Acl, Id, OpCode as Op, Perms};

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
fn a_list_is_not_taken_for_the_one_that_had_its_number_before() {
    // Long enough to be remembered. The number 2 comes after the last one.
    let others: Vec<String> = (0..100).map(|n| format!("10.8.0.{n}")).collect();
    let long = |who: &'static str| -> Vec<(i32, &str, &str)> {
        others.iter().map(|other| (31, "ip", other.as_str())).chain([(31, "ip", who)]).collect()
    };
    let first: Vec<Acl> =
        long("10.9.9.9").iter().map(|(p, s, id)| Acl { perms: Perms(*p), id: Id::new(s, id) }).collect();
    let root = Znode { num_children: 2, ..Znode::created("/", Zxid(0), WallMillis(0)) };
    let closed = Znode { acl: AclId(2), ..Znode::created("/a", Zxid(0), WallMillis(0)) };
    let head =
        SnapshotHead { acls: vec![(AclId(2), first.into())], next_acl: u32::MAX, ..SnapshotHead::default() };
    let mut world = World::with_head(vec![root, closed], head);
    let c = world.login(0);
    let asked = |world: &mut World, path: &str| {
        let check = world.ask(c, Op::Multi, &multi(&[(Op::Check, path_and(path, -1))])).results()[0].1;
        assert_eq!(check, err(world, c, Op::GetData, &read(path, false)), "the state and the shard agree");
        check
    };
    assert_eq!(asked(&mut world, "/a"), NO_AUTH);
    world.ask(c, Op::Delete, &path_and("/a", -1)).ok();
    for (path, who) in [("/last", "10.9.9.8"), ("/b", "127.0.0.1")] {
        world.ask(c, Op::Create, &create_acl(path, None, &long(who), 0)).ok();
    }
    let number = |path: &str| world.sides[0].shard.table().get(path).expect("it was made").acl;
    assert_eq!((number("/last"), number("/b")), (AclId(u32::MAX), AclId(2)));
    assert_eq!(asked(&mut world, "/last"), NO_AUTH);
    assert_eq!(asked(&mut world, "/b"), 0);
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
    assert_eq!(err(&mut world, c, Op::SetData, &set(at, b"", -1)), NO_AUTH);
    assert_eq!(err(&mut world, root, Op::SetData, &set(at, b"", -1)), 0);
    world.ask(root, Op::SetAcl, &set_acl(at, OPEN, -1)).ok();
    assert_eq!(err(&mut world, c, Op::SetData, &set(at, b"", -1)), 0);
}

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
    let limits = "/zookeeper/quota/hard/zookeeper_limits";
    let narrow = b"count=-1,bytes=-1,countHardLimit=3,byteHardLimit=2";
    world.ask(c, Op::SetData, &set(limits, narrow, -1)).ok();
    assert_eq!(err(&mut world, c, Op::SetData, &set("/hard/a", b"123", -1)), -125, "not down to the limit");
    world.ask(c, Op::SetData, &set("/hard/a", b"54321", -1)).ok();
    world.ask(c, Op::SetData, &set("/hard/a", b"1", -1)).ok();
    let in_multi = multi(&[(Op::Create, create("/hard/c", b"", 0))]);
    assert_eq!(world.ask(c, Op::Multi, &in_multi).results()[0].1, -125);
    for name in ["zookeeper_limits", "zookeeper_stats"] {
        world.ask(c, Op::Delete, &path_and(&format!("/zookeeper/quota/hard/{name}"), -1)).ok();
    }
    world.ask(c, Op::Create, &create("/hard/c", &[0; 100], 0)).ok();
}

/// A long text is read once; whatever takes its place, in the same transaction too, is read anew.
#[test]
fn the_limits_of_a_quota_are_those_that_stand_there_however_long_the_text() {
    let mut world = World::with(1, |sequencer, _| sequencer.txn.enforce_quota = true);
    let c = world.login(0);
    world.make(c, "/q", 0);
    let long = |count: i32| format!("{}countHardLimit={count}", "count=-1,".repeat(100));
    let at = "/zookeeper/quota/q/zookeeper_limits";
    limit(&mut world, c, "/q", &long(2));
    world.make(c, "/q/a", 0);
    for _ in 0..2 {
        assert_eq!(err(&mut world, c, Op::Create, &create("/q/b", b"", 0)), -125);
    }
    let replace = |first: i32, second: i32| {
        multi(&[
            (Op::Delete, path_and(at, -1)),
            (Op::Create, create(at, long(first).as_bytes(), 0)),
            (Op::SetData, set("/q/a", b"", -1)),
            (Op::Delete, path_and(at, -1)),
            (Op::Create, create(at, long(second).as_bytes(), 0)),
        ])
    };
    world.ask(c, Op::Multi, &replace(1, 3)).ok();
    world.make(c, "/q/b", 0);
    world.ask(c, Op::Multi, &replace(9, 3)).ok();
    assert_eq!(err(&mut world, c, Op::Create, &create("/q/c", b"", 0)), -125);
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

/// What the operator was told of quotas since it was last asked: path, resource, usage, limit, "hard" and "refused".
fn told(world: &mut World) -> Vec<String> {
    let notes = std::mem::take(&mut world.notes);
    let lines = notes.into_iter().filter_map(|note| match note {
        Note::OverQuota(over) => Some(format!(
            "{} {:?} {} > {}{}{}",
            over.path,
            over.resource,
            over.usage,
            over.limit,
            if over.is_hard { " hard" } else { "" },
            if over.is_refused { " refused" } else { "" },
        )),
        _ => None,
    });
    lines.collect()
}

#[test]
fn what_passes_a_quota_is_told_once_and_only_by_the_run_that_took_it_j06() {
    for enforce in [true, false] {
        let mut world = World::with(1, |sequencer, _| sequencer.txn.enforce_quota = enforce);
        let c = world.login(0);
        for path in ["/soft", "/hard"] {
            world.make(c, path, 0);
        }
        limit(&mut world, c, "/soft", "count=3,bytes=6");
        limit(&mut world, c, "/hard", "count=1,bytes=-1,countHardLimit=2,byteHardLimit=10");
        let hard_end = if enforce { " hard refused" } else { " hard" };
        for (what, op, body, want) in [
            ("below", Op::Create, create("/soft/a", b"1", 0), vec![]),
            ("just as much", Op::SetData, set("/soft/a", b"12345", -1), vec![]),
            ("bytes", Op::SetData, set("/soft/a", b"123456", -1), vec!["/soft Bytes 7 > 6"]),
            ("it shrinks", Op::SetData, set("/soft/a", b"12345", -1), vec![]),
            ("both", Op::Create, create("/soft/b", b"1", 0), vec!["/soft Bytes 7 > 6"]),
            ("count alone", Op::Create, create("/soft/c", b"", 0), vec!["/soft Count 4 > 3"]),
            ("less, still over", Op::Delete, path_and("/soft/b", -1), vec![]),
            ("no such znode", Op::SetData, set("/soft/x", &[0; 9], -1), vec![]),
            ("a wrong version", Op::SetData, set("/soft/a", &[0; 9], 77), vec![]),
            (
                "a multi, by limit",
                Op::Multi,
                multi(&[
                    (Op::Create, create("/soft/d", b"1", 0)),
                    (Op::Create, create("/soft/e", b"1", 0)),
                    (Op::SetData, set("/soft/a", b"", -1)),
                ]),
                vec!["/soft Count 5 > 3", "/soft Bytes 8 > 6"],
            ),
            (
                "a multi that fails",
                Op::Multi,
                multi(&[(Op::Create, create("/soft/f", b"1", 0)), (Op::Delete, path_and("/none", -1))]),
                vec![],
            ),
            ("the hard one rules", Op::Create, create("/hard/a", b"", 0), vec![]),
            ("hard bytes", Op::SetData, set("/hard/a", &[0; 10], -1), vec!["/hard Bytes 11 > 10"]),
            ("hard count", Op::Create, create("/hard/b", b"", 0), vec!["/hard Count 3 > 2"]),
            ("no quota", Op::Create, create("/c", &[0; 99], 0), vec![]),
        ] {
            world.ask(c, op, &body);
            let end = if what.starts_with("hard") { hard_end } else { "" };
            let want: Vec<String> = want.iter().map(|line| format!("{line}{end}")).collect();
            assert_eq!(told(&mut world), want, "{what}, enforced: {enforce}");
        }
        let mut again = world.restart();
        again.settle();
        assert_eq!(told(&mut again), [""; 0], "what the log holds was told when it was written");
        let c = again.login(0);
        again.ask(c, Op::Create, &create("/soft/g", b"", 0)).ok();
        assert_eq!(told(&mut again), ["/soft Count 6 > 3"]);
    }
}
