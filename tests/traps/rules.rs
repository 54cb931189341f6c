//! What is decided about the tree: numbers, orders of checks, permissions, quotas, reapers.

use super::machines::client::*;
use super::*;
use ringkeeper::sequencer::Note;
use ringkeeper::wire::{put_buffer, put_i32, put_i64, OpCode as Op, Reader};

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

/// As ZooKeeper's ContainerManager: what is written to now and then is in use.
#[test]
fn a_container_that_never_had_a_child_goes_by_its_mtime_where_that_is_wanted() {
    let mut world = World::with(1, |sequencer, _| {
        sequencer.reap_interval_ms = 1_000;
        sequencer.reap_never_used_ms = 3_000;
    });
    let c = world.login_for(0, 40_000);
    for name in ["/forgotten", "/written"] {
        world.ask(c, Op::CreateContainer, &create(name, b"", 4)).ok();
    }
    world.pass(2_000);
    world.ask(c, Op::SetData, &set("/written", b"x", -1)).ok();
    world.pass(2_500);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/forgotten", false)), NO_NODE);
    world.stat(c, "/written");
    world.pass(3_000);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/written", false)), NO_NODE);
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
    assert!(world.events(c).is_empty());
    // Who could read the parent when it set its watch, and can not any more, hears nothing of its children.
    world.ask(c, Op::GetChildren, &read("/readable", true)).ok();
    world.ask(owner, Op::SetAcl, &set_acl("/readable", hidden, -1)).ok();
    world.ask(owner, Op::Create, &create_acl("/readable/x", Some(b""), readable, 0)).ok();
    assert_eq!(world.events(c), [(CREATED, "/readable/x".to_owned())], "the recursive watch above alone");
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
    // In the order of ZooKeeper's hash set of identities.
    assert_eq!(got, ["31 digest v", "31 digest u", "1 world anyone"], "no ip identity, nothing twice");
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
    assert_eq!(ids, ["super:", "ip:127.0.0.1", "digest:super"]);
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

/// A record that needs more than the helpers give, and stands here so that they stay small.
#[test]
fn a_reconfig_is_refused_as_by_a_standalone_zookeeper() {
    for (enabled, want, why) in
        [(false, -123, "reconfigEnabled is false at the leader"), (true, -6, "this server runs alone")]
    {
        let mut world = World::with(1, |sequencer, _| sequencer.txn.reconfig_enabled = enabled);
        let c = world.login(0);
        let mut body = Vec::new();
        put_buffer(&mut body, Some(b"server.2=h:1:2;3"));
        put_i32(&mut body, -1);
        put_i32(&mut body, -1);
        put_i64(&mut body, -1);
        assert_eq!(err(&mut world, c, Op::Reconfig, &body), want);
        assert!(!world.is_closed(c));
        let told = world
            .notes
            .iter()
            .any(|note| matches!(note, Note::ReconfigRefused(no) if no.why.starts_with(why)));
        assert!(told, "{:?}", world.notes);
    }
}
