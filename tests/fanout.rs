//! Telling crowds, and several shards: what clients may see while a hundred thousand are told, and while the threads
//! of the server run in any order. A whole server in one thread; orders come from seeds.

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::shard::Place;
use ringkeeper::wire::OpCode as Op;
use std::collections::{BTreeMap, VecDeque};

/// Sessions on one shard, in few turns: a hundred thousand handshakes one by one would take minutes.
fn crowd(world: &mut World, at: usize, n: usize) -> Vec<Conn> {
    let mut hello_bytes = Vec::new();
    hello(0, &[0; 16], 40_000).encode(&mut hello_bytes);
    let all: Vec<Conn> = (0..n).map(|_| world.connect(at)).collect();
    for c in &all {
        world.put(*c, &hello_bytes);
    }
    world.settle();
    for c in &all {
        assert_ne!(world.greeted(*c).expect("a session").session_id, 0);
    }
    all
}

/// All of them ask the same, and get a good answer.
fn all_ask(world: &mut World, all: &[Conn], op: Op, body: &[u8]) {
    for c in all {
        world.post(*c, op, body);
    }
    world.settle();
    for c in all {
        let said = world.hear(*c);
        assert!(matches!(&said[..], [Said::Reply(reply)] if reply.err == 0 || reply.err == -101), "{said:?}");
    }
}

const WATCHERS: usize = 100_000;

#[test]
fn a_hundred_thousand_watchers_hold_up_neither_the_setter_nor_pings() {
    let mut world = World::new(1);
    let (setter, pinger) = (world.login_for(0, 40_000), world.login_for(0, 40_000));
    world.make(setter, "/a", 0);
    let all = crowd(&mut world, 0, WATCHERS);
    all_ask(&mut world, &all, Op::GetData, &read("/a", true));
    assert_eq!(world.sides[0].shard.watches().count(), WATCHERS);

    let set_xid = world.post(setter, Op::SetData, &set("/a", b"new", -1));
    world.read_some(setter.0, usize::MAX);
    world.turn(0);
    while world.sequencer_turn() {}
    // From here on turn by turn: the first one brings the setter its reply.
    let mut turns = 0;
    let mut pings = 0;
    while world.sides[0].shard.has_crowds() || turns == 0 {
        world.post(pinger, Op::Ping, b"");
        world.side_turn(0);
        turns += 1;
        if turns == 1 {
            assert_eq!(told(&world.hear(setter)), [format!("reply {set_xid} 0")]);
            let events = world.sides[0].shard.stats.events;
            assert!(events < 1_000, "{events} of the crowd are told when the setter has its answer");
        }
        if turns > 1 {
            pings += world.hear(pinger).len();
        }
    }
    assert!(turns > 100, "{turns} slices");
    assert!(pings >= turns - 2, "{pings} pings answered in {turns} turns: one in each");
    world.settle();
    assert_eq!(world.sides[0].shard.stats.events as usize, WATCHERS);
    for c in &all {
        assert_eq!(told(&world.hear(*c)), ["event 3 /a"], "each once");
    }
    assert_eq!(world.sides[0].shard.watches().count(), 0);
    all_ask(&mut world, &all[..10], Op::GetData, &read("/a", true));
}

/// A small crowd, beyond what is told at once, with its change published and nobody told yet.
fn waiting_crowd(n: usize) -> (World, Conn, Vec<Conn>) {
    let mut world = World::new(1);
    let actor = world.login(0);
    world.make(actor, "/a", 0);
    let all = crowd(&mut world, 0, n);
    all_ask(&mut world, &all, Op::GetData, &read("/a", true));
    (world, actor, all)
}

/// Carries a write to its publication and lets the shard take it over, without a slice of telling beyond the one that
/// a turn brings.
fn write(world: &mut World, c: Conn, op: Op, body: &[u8]) {
    world.post(c, op, body);
    world.read_some(c.0, usize::MAX);
    world.turn(0);
    while world.sequencer_turn() {}
    world.catch_up(0);
}

#[test]
fn a_watcher_gets_its_event_before_any_other_byte_and_sees_nothing_sooner() {
    let (mut world, actor, all) = waiting_crowd(2_000);
    write(&mut world, actor, Op::SetData, &set("/a", b"new", -1));
    assert!(world.sides[0].shard.has_crowds());
    // Every one of them speaks before its turn comes.
    for (n, c) in all.iter().enumerate() {
        match n % 3 {
            0 => drop(world.post(*c, Op::GetData, &read("/a", true))),
            1 => drop(world.post(*c, Op::Ping, b"")),
            _ => drop(world.post(*c, Op::SetData, &set("/a", b"own", -1))),
        }
    }
    world.settle();
    for (n, c) in all.iter().enumerate() {
        let said = told(&world.hear(*c));
        assert_eq!(said[0], "event 3 /a", "client {n}: {said:?}");
        let events = said.iter().filter(|one| one.starts_with("event")).count();
        // Who watched again heard of one of the later writes.
        assert_eq!(events, if n % 3 == 0 { 2 } else { 1 }, "client {n}: {said:?}");
    }
    assert_eq!(world.sides[0].shard.events_waiting(), 0, "who spoke is not waited for");
}

/// In an ensemble the others are asked, and meanwhile the change is committed: the barrier ends while a crowd waits.
#[test]
fn a_strict_read_behind_its_barrier_does_not_overtake_an_event() {
    let (mut world, actor, _) = waiting_crowd(2_000);
    let strict = world.connect_strictly(0);
    world.greet(strict, &hello(0, &[0; 16], 40_000)).expect("a session");
    all_ask(&mut world, &[strict], Op::GetData, &read("/a", true));
    world.post(actor, Op::SetData, &set("/a", b"new", -1));
    let asked = world.post(strict, Op::GetData, &read("/a", false));
    world.side_turn(0);
    while world.sequencer_turn() {}
    // A server alone says at once that the sync's moment has come: here that word is late.
    let (synced, changed) = (world.next_publication(0), world.next_publication(0));
    let (now, id) = (world.now.mono, world.clients[strict.0].id);
    let shard = &mut world.sides[0].shard;
    shard.install(now, &changed);
    assert!(shard.has_crowds() && shard.output(id).is_empty());
    shard.install(now, &synced);
    let (said, _) = decode_all(shard.output(id));
    assert_eq!(told(&said), ["event 3 /a".to_owned(), format!("reply {asked} 0")]);
}

#[test]
fn the_events_of_two_crowds_stay_in_order_and_a_crowd_in_front_of_a_few() {
    let mut world = World::new(1);
    let actor = world.login(0);
    for path in ["/a", "/b", "/few"] {
        world.make(actor, path, 0);
    }
    let all = crowd(&mut world, 0, 1_000);
    for path in ["/b", "/a"] {
        all_ask(&mut world, &all, Op::GetData, &read(path, true));
    }
    all_ask(&mut world, &all[990..], Op::GetData, &read("/few", true));
    for path in ["/a", "/b", "/few"] {
        write(&mut world, actor, Op::SetData, &set(path, b"", -1));
    }
    world.settle();
    for (n, c) in all.iter().enumerate() {
        let want: &[&str] = if n < 990 {
            &["event 3 /a", "event 3 /b"]
        } else {
            &["event 3 /a", "event 3 /b", "event 3 /few"]
        };
        assert_eq!(told(&world.hear(*c)), want, "client {n}");
    }
}

#[test]
fn a_crowds_events_are_filtered_by_read_as_it_was_when_they_happened() {
    let mut world = World::new(1);
    let actor = world.login(0);
    world.ask(actor, Op::Auth, &auth("digest", b"u:p")).ok();
    world.make(actor, "/a", 0);
    let all = crowd(&mut world, 0, 500);
    all_ask(&mut world, &all, Op::GetData, &read("/a", true));
    for c in &all[..100] {
        world.ask(*c, Op::Auth, &auth("digest", b"u:p")).ok();
    }
    world.ask(actor, Op::SetAcl, &set_acl("/a", &[(31, "auth", "")], -1)).ok();
    write(&mut world, actor, Op::SetData, &set("/a", b"secret", -1));
    // Opened again before the crowd is told: what happened behind the door stays there.
    write(&mut world, actor, Op::SetAcl, &set_acl("/a", OPEN, -1));
    world.settle();
    for (n, c) in all.iter().enumerate() {
        assert_eq!(world.events(*c).len(), usize::from(n < 100), "client {n}");
    }
    assert_eq!(world.sides[0].shard.watches().count(), 0, "fired for all of them");
}

#[test]
fn watchers_who_may_not_read_are_work_all_the_same() {
    let mut world = World::new(1);
    let actor = world.login(0);
    world.ask(actor, Op::Auth, &auth("digest", b"u:p")).ok();
    world.make(actor, "/a", 0);
    // Few enough to be told at once.
    let all = crowd(&mut world, 0, 60);
    all_ask(&mut world, &all, Op::AddWatch, &path_and("/a", 1));
    world.ask(actor, Op::SetAcl, &set_acl("/a", &[(31, "auth", "")], -1)).ok();
    for _ in 0..2 {
        world.post(actor, Op::SetData, &set("/a", b"secret", -1));
    }
    world.read_some(actor.0, usize::MAX);
    world.turn(0);
    while world.sequencer_turn() {}
    let publication = world.next_publication(0);
    assert_eq!(publication.committed.len(), 2);
    let now = world.now.mono;
    let shard = &mut world.sides[0].shard;
    let rest = shard.install_some(now, &publication, Place::default(), &mut 50);
    let rest = rest.expect("the first write and those who did not hear of it have spent the budget");
    assert_eq!(shard.install_some(now, &publication, rest, &mut 1_000), None);
    assert!(all.iter().all(|c| world.events(*c).is_empty()));
}

#[test]
fn a_watcher_that_goes_meanwhile_is_not_missed_by_anybody() {
    let (mut world, actor, all) = waiting_crowd(1_000);
    write(&mut world, actor, Op::SetData, &set("/a", b"", -1));
    for c in &all[..500] {
        let id = world.clients[c.0].id;
        world.sides[0].shard.lost(id);
    }
    // Their places are taken by others, who must hear nothing.
    let newcomers = crowd(&mut world, 0, 600);
    world.settle();
    for c in &all[..500] {
        assert!(world.is_closed(*c));
        assert!(world.hear(*c).len() <= 1);
    }
    for c in &all[500..] {
        assert_eq!(told(&world.hear(*c)), ["event 3 /a"]);
    }
    for c in newcomers {
        assert!(world.hear(c).is_empty(), "a connection's place is not its watches");
    }
    assert_eq!(world.sides[0].shard.watches().count(), 0);
}

#[test]
fn a_mixed_crowd_of_one_shot_persistent_and_recursive_watches() {
    let mut world = World::new(1);
    let actor = world.login(0);
    world.make(actor, "/a", 0);
    let all = crowd(&mut world, 0, 900);
    let (one_shot, rest) = all.split_at(300);
    let (persistent, both) = rest.split_at(300);
    all_ask(&mut world, one_shot, Op::GetData, &read("/a", true));
    all_ask(&mut world, persistent, Op::AddWatch, &path_and("/a", 0));
    all_ask(&mut world, both, Op::AddWatch, &path_and("/a", 1));
    all_ask(&mut world, both, Op::GetData, &read("/a", true));
    for _ in 0..3 {
        write(&mut world, actor, Op::SetData, &set("/a", b"", -1));
    }
    write(&mut world, actor, Op::Create, &create("/a/kid", b"", 0));
    write(&mut world, actor, Op::Create, &create("/a/kid/kid", b"", 0));
    world.settle();
    for c in one_shot {
        assert_eq!(told(&world.hear(*c)), ["event 3 /a"]);
    }
    for c in persistent {
        assert_eq!(told(&world.hear(*c)), ["event 3 /a", "event 3 /a", "event 3 /a", "event 4 /a"]);
    }
    for c in both {
        assert_eq!(
            told(&world.hear(*c)),
            ["event 3 /a", "event 3 /a", "event 3 /a", "event 1 /a/kid", "event 1 /a/kid/kid"]
        );
    }
    assert_eq!(world.sides[0].shard.watches().count(), 300 * 2 + 300);
}

#[test]
fn a_znode_that_is_written_without_a_pause_fills_no_memory_with_its_watchers() {
    let mut world = World::with(1, |_, shard| shard.outstanding_per_connection_max = 100_000);
    let actor = world.login(0);
    world.make(actor, "/a", 0);
    let all = crowd(&mut world, 0, 100);
    all_ask(&mut world, &all, Op::AddWatch, &path_and("/a", 0));
    for c in &all[50..] {
        let id = world.clients[c.0].id;
        world.sides[0].shard.lost(id);
    }
    let (rounds, writes) = (4, 1_000);
    let all_writes = rounds * writes;
    let more = crowd(&mut world, 0, 50);
    all_ask(&mut world, &more, Op::AddWatch, &path_and("/a", 0));
    let mut most = 0;
    for _ in 0..rounds {
        for _ in 0..writes {
            world.post(actor, Op::SetData, &set("/a", b"", -1));
        }
        world.side_turn(0);
        while world.sequencer_turn() {}
        world.side_turn(0);
        most = most.max(world.sides[0].shard.events_waiting());
    }
    assert!(most > 20_000, "{most} waited: the test tests something");
    assert!(most <= 256 * 100, "{most} events waited");
    world.settle();
    assert_eq!(world.sides[0].shard.events_waiting(), 0);
    for c in all[..50].iter().chain(&more) {
        let said = world.hear(*c);
        let zxids = said.iter().map(|one| match one {
            Said::Event { zxid, .. } => *zxid,
            Said::Reply(reply) => panic!("{reply:?}"),
        });
        let zxids: Vec<i64> = zxids.collect();
        assert_eq!(zxids.len(), all_writes);
        assert!(zxids.is_sorted());
    }
}

#[test]
fn watchers_whose_sockets_are_full_hold_up_nobody() {
    let (mut world, actor, all) = waiting_crowd(1_000);
    for c in &all[..500] {
        world.clients[c.0].window = 0;
    }
    world.ask(actor, Op::SetData, &set("/a", b"", -1)).ok();
    for c in &all[500..] {
        assert_eq!(told(&world.hear(*c)), ["event 3 /a"]);
    }
    for c in &all[..500] {
        assert!(world.hear(*c).is_empty());
        world.open_window(*c, 7);
        world.open_window(*c, usize::MAX);
        assert_eq!(told(&world.hear(*c)), ["event 3 /a"]);
    }
}

// ---- several shards in any order ----

/// A xorshift: orders only, no statistics.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// One thread of the server, drawn by chance, does one step: any order that threads could have.
fn any_step(world: &mut World, dice: &mut Dice) {
    let shards = world.sides.len();
    match dice.below(5) {
        0 => drop(world.sequencer_turn()),
        1 => {
            if world.log_held {
                world.log_held = dice.below(3) > 0;
                if !world.log_held {
                    world.persist();
                }
            } else {
                world.log_held = dice.below(8) == 0;
            }
        }
        2 => {
            let n = dice.below(world.clients.len());
            let max = if dice.below(2) == 0 { 1 + dice.below(40) } else { usize::MAX };
            world.read_some(n, max);
        }
        3 => drop(world.turn(dice.below(shards))),
        _ => drop(world.flush(dice.below(shards))),
    }
}

/// What one client knows, checked as it hears more.
#[derive(Default)]
struct Known {
    /// Requests that are not answered, in order: xid and the znode that it is about (none for a write).
    asked: VecDeque<(i32, Op, usize)>,
    last_zxid: i64,
    /// The greatest version of each znode that it has seen or heard of.
    versions: BTreeMap<usize, i32>,
    /// Znodes that it watches, and the version that the watch began with.
    watching: BTreeMap<usize, i32>,
}

/// How many random orders: `SEEDS=20000` for a long run.
fn budget() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

const NODES: usize = 4;

fn node(n: usize) -> String {
    format!("/n{n}")
}

impl Known {
    fn ask(&mut self, world: &mut World, c: Conn, dice: &mut Dice) {
        let n = dice.below(NODES);
        let (op, body) = match dice.below(6) {
            0 | 1 => (Op::SetData, set(&node(n), b"value", -1)),
            2 => (Op::Sync, path(&node(n))),
            3 => (Op::Ping, Vec::new()),
            _ => (Op::GetData, read(&node(n), true)),
        };
        let xid = world.post(c, op, &body);
        self.asked.push_back((xid, op, n));
    }

    fn hear(&mut self, said: Said, seed: u64) {
        match said {
            Said::Event { zxid, kind, path, .. } => {
                let n: usize = path[2..].parse().unwrap();
                assert_eq!(kind, CHANGED);
                let began = self.watching.remove(&n);
                assert!(began.is_some(), "seed {seed}: an event that was not asked for, or twice: {path}");
                assert!(
                    zxid > self.last_zxid,
                    "seed {seed}: told of {zxid:x} after it saw {:x}",
                    self.last_zxid
                );
            }
            Said::Reply(reply) => {
                let (xid, op, n) = self.asked.pop_front().expect("asked for");
                assert_eq!((reply.xid, reply.err), (xid, 0), "seed {seed}: in the order of the requests");
                assert!(reply.zxid >= self.last_zxid, "seed {seed}: back in time");
                self.last_zxid = reply.zxid;
                match op {
                    Op::GetData | Op::SetData => {
                        let version = reply.stat().version;
                        let seen = self.versions.entry(n).or_insert(-1);
                        assert!(version >= *seen, "seed {seed}: version {version} after {seen}");
                        *seen = version;
                        if let Some(began) = self.watching.get(&n) {
                            assert_eq!(version, *began, "seed {seed}: it sees the change before its event");
                        }
                        if op == Op::GetData {
                            self.watching.insert(n, version);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Writers, readers and watchers on three shards, with the server's threads in 300 random orders.
#[test]
fn sessions_on_different_shards_see_each_others_writes_and_events_in_order() {
    let mut events = 0u64;
    for seed in 1..=budget() {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // In two of three orders connections and shards are at their limits all the time.
        let mut world = World::with(3, |_, shard| {
            if seed % 3 > 0 {
                shard.outstanding_per_connection_max = 3;
                shard.outstanding_max = 5;
            }
            if seed % 3 > 1 {
                shard.unsent_pause_bytes = 200;
            }
        });
        let clients: Vec<Conn> = (0..6).map(|n| world.login(n % 3)).collect();
        for n in 0..NODES {
            world.make(clients[0], &node(n), 0);
        }
        let mut known: Vec<Known> = clients.iter().map(|_| Known::default()).collect();
        // What anybody was told was done is seen by every read that is sent afterwards, on whatever shard.
        let mut acknowledged = [0i32; NODES];
        let mut floor: BTreeMap<(usize, i32), i32> = BTreeMap::new();
        for step in 0..1_500 {
            let who = dice.below(clients.len());
            let c = clients[who];
            if dice.below(4) == 0 && known[who].asked.len() < 8 && step < 1_200 {
                known[who].ask(&mut world, c, &mut dice);
                if let Some((xid, Op::GetData, n)) = known[who].asked.back() {
                    floor.insert((who, *xid), acknowledged[*n]);
                }
            } else if seed % 3 > 1 && dice.below(6) == 0 {
                let window = &mut world.clients[c.0].window;
                *window = if *window == usize::MAX { dice.below(100) } else { usize::MAX };
                world.write(c.0);
            } else {
                any_step(&mut world, &mut dice);
            }
            if step == 1_400 {
                for c in &clients {
                    world.clients[c.0].window = usize::MAX;
                    world.write(c.0);
                }
                world.log_held = false;
                world.persist();
                world.settle();
            }
            for said in world.hear(c) {
                events += u64::from(matches!(said, Said::Event { .. }));
                if let Said::Reply(reply) = &said {
                    let (xid, op, n) = *known[who].asked.front().expect("asked for");
                    if op == Op::SetData {
                        acknowledged[n] = acknowledged[n].max(reply.stat().version);
                    }
                    if let Some(least) = floor.remove(&(who, xid)) {
                        assert!(
                            reply.stat().version >= least,
                            "seed {seed}: a stale read after an acknowledgement"
                        );
                    }
                }
                known[who].hear(said, seed);
            }
        }
        world.settle();
        for (who, c) in clients.iter().enumerate() {
            world.hear(*c).into_iter().for_each(|said| known[who].hear(said, seed));
            assert!(known[who].asked.is_empty(), "seed {seed}: everything is answered");
        }
        // No watch is lost: what is still armed has not changed since.
        for known in &known {
            for (n, began) in &known.watching {
                let now = world.sequencer.state().table.get(&node(*n)).unwrap().version;
                assert_eq!(now, *began, "seed {seed}: a change of {} was not told", node(*n));
            }
        }
        let zxids: Vec<_> = world.sides.iter().map(|side| side.shard.last_zxid()).collect();
        assert!(zxids.iter().all(|zxid| *zxid == world.sequencer.state().last_zxid()));
    }
    assert!(events > 5 * budget(), "{events} events: the test tests something");
}

/// A session moves from shard to shard while it writes, in random orders: a write that was put on an old connection
/// never lands after the attach was answered.
#[test]
fn a_session_that_moves_from_shard_to_shard_leaves_no_write_behind() {
    let (mut landed, mut dropped) = (0, 0);
    for seed in 1..=budget() {
        let mut dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95));
        let mut world = World::new(3);
        let mut c = world.login(0);
        world.make(c, "/a", 0);
        world.make(c, "/e", 1);
        for turn in 0..6 {
            let writes = 1 + dice.below(4);
            for n in 0..writes {
                world.post(c, Op::SetData, &set("/a", format!("{turn}.{n}").as_bytes(), -1));
            }
            (0..dice.below(12)).for_each(|_| any_step(&mut world, &mut dice));
            let new = world.connect(dice.below(3));
            let (session, password) = (world.clients[c.0].session, world.clients[c.0].password);
            let mut out = Vec::new();
            hello(session, &password, 10_000).encode(&mut out);
            world.put(new, &out);
            let mut answered = None;
            for _ in 0..100_000 {
                any_step(&mut world, &mut dice);
                answered = world.greeted(new);
                if answered.is_some() {
                    break;
                }
            }
            let answered = answered.expect("the attach is answered in any order");
            assert_eq!(answered.session_id, session, "seed {seed}");
            let version = {
                // The new connection's first read is the floor: nothing of the old connection comes after it.
                world.post(new, Op::GetData, &read("/a", false));
                let mut said = Vec::new();
                while said.is_empty() {
                    any_step(&mut world, &mut dice);
                    said = world.hear(new);
                }
                let Said::Reply(reply) = &said[0] else { panic!("{said:?}") };
                reply.stat().version
            };
            world.log_held = false;
            world.persist();
            world.settle();
            assert!(world.is_closed(c), "seed {seed}: the old connection is closed");
            let now = world.ask(new, Op::GetData, &read("/a", false)).stat().version;
            assert_eq!(now, version, "seed {seed}: a write of the old connection landed after the attach");
            let answers = world.hear(c).len();
            landed += answers;
            dropped += writes - answers.min(writes);
            c = new;
        }
        assert_eq!(
            world.stat(c, "/e").ephemeral_owner,
            world.session(c).0,
            "the ephemeral stayed all the way"
        );
        assert_eq!(world.sequencer.state().sessions.len(), 1);
    }
    assert!(landed > 0 && dropped > 0, "{landed} landed, {dropped} dropped: the orders differ");
}

#[test]
fn pipelined_set_get_set_answers_the_first_value_in_any_order() {
    for seed in 1..=budget() {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut world = World::new(2);
        let (c, other) = (world.login(0), world.login(1));
        world.make(c, "/a", 0);
        for k in 0..10 {
            let first = format!("first {k}");
            world.post(c, Op::SetData, &set("/a", first.as_bytes(), -1));
            world.post(c, Op::GetData, &read("/a", false));
            world.post(c, Op::SetData, &set("/a", b"second", -1));
            world.post(c, Op::GetData, &read("/a", false));
            world.post(other, Op::GetData, &read("/a", false));
            let mut said = Vec::new();
            while said.len() < 4 {
                any_step(&mut world, &mut dice);
                said.extend(world.hear(c));
            }
            let data = |one: &Said| match one {
                Said::Reply(reply) => reply.data().unwrap(),
                Said::Event { .. } => panic!("nobody watches"),
            };
            assert_eq!(data(&said[1]), first.as_bytes(), "seed {seed}");
            assert_eq!(data(&said[3]), b"second", "seed {seed}");
        }
    }
}

/// A client that connects again names the last zxid that it was told: it may not go back.
#[test]
fn a_refusal_behind_a_write_is_not_older_than_the_write() {
    let mut world = World::new(1);
    let c = world.login(0);
    world.make(c, "/a", 0);
    world.post(c, Op::SetData, &set("/a", b"x", -1));
    world.post(c, Op::SetData, b"no record");
    world.post(c, Op::Sync, b"");
    world.settle();
    let answers: Vec<(i64, i32)> = (world.hear(c).into_iter())
        .map(|one| match one {
            Said::Reply(reply) => (reply.zxid, reply.err),
            Said::Event { .. } => panic!("nobody watches"),
        })
        .collect();
    let written = answers[0].0;
    assert_eq!(answers, [(written, 0), (written, -5), (written, -5)]);
}
