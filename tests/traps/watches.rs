//! Who is told what, once, and when.

use super::machines::client::*;
use super::*;
use ringkeeper::wire::OpCode as Op;

#[test]
fn tr06_set_watches_tells_what_was_missed_before_its_reply_and_arms_the_rest() {
    let mut world = World::new(2);
    let actor = world.login(0);
    for path in ["/same", "/changed", "/gone", "/kids", "/quiet", "/there", "/p", "/r"] {
        world.make(actor, path, 0);
    }
    let seen = world.ask(actor, Op::Ping, b"").zxid;
    world.ask(actor, Op::SetData, &set("/changed", b"y", -1)).ok();
    world.ask(actor, Op::Delete, &path_and("/gone", -1)).ok();
    world.make(actor, "/kids/k", 0);
    world.ask(actor, Op::SetData, &set("/kids", b"data is nothing to a child watch", -1)).ok();
    world.ask(actor, Op::SetData, &set("/quiet", b"z", -1)).ok();
    world.ask(actor, Op::SetData, &set("/p", b"y", -1)).ok();
    let c = world.login(1);
    let lists: &[&[&str]] = &[
        &["/same", "/changed", "/gone"],
        &["/there", "/absent"],
        &["/kids", "/quiet", "/gone"],
        &["/p"],
        &["/r"],
    ];
    let said = world.ask_all(c, Op::SetWatches2, &set_watches(seen, lists));
    assert_eq!(
        told(&said),
        [
            "event 3 /changed",
            "event 2 /gone",
            "event 1 /there",
            "event 4 /kids",
            "event 2 /gone",
            "reply -8 0"
        ],
        "data by mzxid, exist by presence, child by pzxid, persistent silently, all before the reply"
    );
    for one in &said {
        match one {
            Said::Event { zxid, .. } => assert_eq!(*zxid, -1, "no transaction of now caused it"),
            Said::Reply(reply) => assert!(reply.body.is_empty(), "the reply has no body"),
        }
    }
    world.ask(actor, Op::SetData, &set("/same", b"y", -1)).ok();
    world.ask(actor, Op::Create, &create("/absent", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/quiet/k", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/p/k", b"", 0)).ok();
    world.ask(actor, Op::Create, &create("/r/a", b"", 0)).ok();
    world.ask(actor, Op::SetData, &set("/changed", b"told already", -1)).ok();
    world.settle();
    let want = [(3, "/same"), (1, "/absent"), (4, "/quiet"), (4, "/p"), (1, "/r/a")];
    assert_eq!(world.events(c), want.map(|(kind, path)| (kind, path.to_owned())), "what was armed");
}

#[test]
fn tr06_what_the_client_saw_last_is_nothing_that_it_missed() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    for (change, lists) in [
        (world.ask(actor, Op::SetData, &set("/a", b"y", -1)).zxid, [&["/a"][..], &[], &[]]),
        (world.make(actor, "/a/b", 0).zxid, [&[], &[], &["/a"][..]]),
    ] {
        let said = told(&world.ask_all(c, Op::SetWatches, &set_watches(change, &lists)));
        assert_eq!(said, ["reply -8 0"], "seen up to the very change");
    }
    assert_eq!(world.sides[0].shard.watches().count(), 2, "armed instead");
}

#[test]
fn tr07_watches_die_with_the_connection_not_with_the_session() {
    let mut world = World::new(1);
    let (actor, old) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(old, Op::GetData, &read("/a", true)).ok();
    world.ask(old, Op::AddWatch, &path_and("/a", 1)).ok();
    let new = world.attach(0, old);
    world.ask(actor, Op::SetData, &set("/a", b"y", -1)).ok();
    assert_eq!(world.ask(new, Op::Ping, b"").err, 0);
    assert!(world.events(new).is_empty(), "nothing followed the session to its new connection");
    assert_eq!(world.sides[0].shard.watches().count(), 0);
}

#[test]
fn tr08_an_event_comes_before_the_own_reply_and_before_a_newer_read() {
    let mut world = World::new(2);
    let (a, b) = (world.login(0), world.login(1));
    world.make(a, "/a", 0);
    for c in [a, b] {
        world.ask(c, Op::GetData, &read("/a", true)).ok();
    }
    let xid = world.post(a, Op::SetData, &set("/a", b"new", -1));
    let get = world.post(a, Op::GetData, &read("/a", false));
    world.settle();
    let said = world.hear(a);
    let want = ["event 3 /a".to_owned(), format!("reply {xid} 0"), format!("reply {get} 0")];
    assert_eq!(told(&said), want);
    let other = world.ask_all(b, Op::GetData, &read("/a", false));
    assert_eq!(told(&other)[0], "event 3 /a", "the other shard's client hears of it before it sees it");
}

#[test]
fn tr09_a_delete_is_told_once_to_a_connection_that_watches_data_and_children() {
    let mut world = World::new(1);
    let (actor, c, children) = (world.login(0), world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(children, Op::GetChildren, &read("/a", true)).ok();
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    world.ask(c, Op::GetChildren, &read("/a", true)).ok();
    world.ask(c, Op::GetChildren, &read("/", true)).ok();
    world.ask(actor, Op::Delete, &path_and("/a", -1)).ok();
    assert_eq!(world.events(c), [(DELETED, "/a".to_owned()), (CHILDREN, "/".to_owned())]);
    assert_eq!(world.events(children), [(DELETED, "/a".to_owned())], "and who watches children alone");
}

#[test]
fn tr10_exists_watches_what_is_not_there_and_get_does_not() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    assert_eq!(err(&mut world, c, Op::GetData, &read("/get", true)), NO_NODE);
    assert_eq!(err(&mut world, c, Op::GetChildren2, &read("/kids", true)), NO_NODE);
    assert_eq!(err(&mut world, c, Op::Exists, &read("/exists", true)), NO_NODE);
    for path in ["/get", "/kids", "/exists"] {
        world.make(actor, path, 0);
    }
    assert_eq!(world.events(c), [(CREATED, "/exists".to_owned())]);
}

#[test]
fn tr11_a_recursive_watch_hears_no_children_changed_and_a_persistent_one_does() {
    let mut world = World::new(1);
    let (actor, recursive, persistent) = (world.login(0), world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(recursive, Op::AddWatch, &path_and("/a", 1)).ok();
    world.ask(persistent, Op::AddWatch, &path_and("/a", 0)).ok();
    world.make(actor, "/a/b", 0);
    world.make(actor, "/a/b/c", 0);
    world.ask(actor, Op::SetData, &set("/a", b"y", -1)).ok();
    world.ask(actor, Op::SetData, &set("/a", b"z", -1)).ok();
    let pairs = |list: &[(i32, &str)]| list.iter().map(|(k, p)| (*k, (*p).to_owned())).collect::<Vec<_>>();
    assert_eq!(world.events(recursive), pairs(&[(1, "/a/b"), (1, "/a/b/c"), (3, "/a"), (3, "/a")]));
    assert_eq!(world.events(persistent), pairs(&[(4, "/a"), (3, "/a"), (3, "/a")]));
}

#[test]
fn tr35_an_event_bears_the_zxid_of_its_change() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    let zxid = world.ask(actor, Op::SetData, &set("/a", b"", -1)).zxid;
    let said = world.hear(c);
    let want = Said::Event { zxid, kind: CHANGED, state: 3, path: "/a".to_owned() };
    assert_eq!(said, [want]);
}

#[test]
fn tr43_a_one_shot_and_a_persistent_watch_share_a_record_and_firing_clears_one() {
    let mut world = World::new(1);
    let (actor, c) = (world.login(0), world.login(0));
    world.make(actor, "/a", 0);
    world.ask(c, Op::GetData, &read("/a", true)).ok();
    world.ask(c, Op::AddWatch, &path_and("/a", 1)).ok();
    assert_eq!(world.sides[0].shard.watches().count(), 1);
    for n in 0..2 {
        world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
        assert_eq!(world.events(c), [(CHANGED, "/a".to_owned())], "change {n}: once");
    }
    assert_eq!(err(&mut world, c, Op::CheckWatches, &path_and("/a", 2)), -121, "the one-shot bit is gone");
    assert_eq!(err(&mut world, c, Op::CheckWatches, &path_and("/a", 5)), 0);
}
