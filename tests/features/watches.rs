//! Who is told what.

use super::machines::client::*;
use super::*;
use ringkeeper::wire::OpCode as Op;

fn pairs(list: &[(i32, &str)]) -> Vec<(i32, String)> {
    list.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect()
}

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
