//! Several operations as one.

use super::machines::client::*;
use super::*;
use ringkeeper::wire::{put_buffer, put_i32, put_multi_header, put_string, OpCode as Op};

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

fn create_null_acl(path: &str, flags: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    put_buffer(&mut out, Some(b""));
    put_i32(&mut out, -1);
    put_i32(&mut out, flags);
    out
}

/// Observed on ZooKeeper 3.9.5: a multi ends at the first operation that cannot be made, and where that is a null ACL it
/// takes no zxid.
#[test]
fn a_multi_takes_a_zxid_unless_a_null_acl_is_its_first_fault() {
    let mut world = World::new(1);
    let c = world.login(0);
    let good = (Op::Create, create("/a", b"", 0));
    let null = (Op::Create, create_null_acl("/n", 0));
    let null_with_ttl_flag = (Op::Create, create_null_acl("/n", 5));
    let bad_flag = (Op::Create, create("/f", b"", 9));
    let null_with_bad_flag = (Op::Create, create_null_acl("/f", 9));
    let get = (Op::GetData, read("/", false));
    for (items, takes) in [
        (vec![null.clone()], 0),
        (vec![null_with_ttl_flag.clone()], 0),
        (vec![null_with_bad_flag.clone()], 1),
        (vec![good.clone(), null.clone()], 0),
        (vec![null.clone(), bad_flag.clone()], 0),
        (vec![bad_flag.clone(), null.clone()], 1),
        (vec![null.clone(), get.clone()], 0),
        (vec![get.clone(), null.clone()], 0),
        (vec![get.clone(), good.clone(), null.clone()], 1),
        (vec![good.clone(), get.clone(), null.clone()], 1),
        (vec![null.clone(), (Op::Sync, path("/"))], 0),
        (vec![get.clone(), get.clone()], 1),
    ] {
        let before = world.ask(c, Op::SetData, &set("/", b"", -1)).zxid;
        let reply = world.ask(c, Op::Multi, &multi(&items));
        assert_eq!((reply.err, reply.zxid - before), (-5, takes), "{items:?}");
    }
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
