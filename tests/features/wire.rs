//! What every reply has.

use super::machines::client::*;
use super::*;
use ringkeeper::wire::OpCode as Op;

#[test]
fn replies_bear_zxids_that_never_go_back_a09_d18() {
    let mut world = World::new(2);
    let (a, b) = (world.login(0), world.login(1));
    let made = world.make(a, "/a", 0);
    assert!(made.zxid > 0 && made.zxid == world.stat(a, "/a").czxid, "a write bears its own");
    let mut last = 0;
    for n in 0..20 {
        let who = if n % 2 == 0 { a } else { b };
        let is_write = n % 5 < 2;
        let reply = match n % 5 {
            0 => world.ask(who, Op::SetData, &set("/a", b"", -1)),
            1 => world.ask(who, Op::Create, &create("/a", b"", 0)),
            2 => world.ask(who, Op::GetData, &read("/none", false)),
            3 => world.ask(who, Op::Sync, &path("/")),
            _ => world.ask(who, Op::GetData, &read("/a", false)),
        };
        if is_write {
            assert!(reply.zxid > last, "reply {n}: a write's own");
            last = reply.zxid;
        }
        assert_eq!(
            reply.zxid, last,
            "reply {n}: what was applied last, on either shard, for a failed read too"
        );
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
