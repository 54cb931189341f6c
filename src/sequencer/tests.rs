//! A sequencer alone in one thread: its host here is a loop that "persists" everything at once, or late.

mod three;

use super::batch::Waiter;
use super::fresh::Moment;
use super::*;
use crate::apply::Options as TxnOptions;
use crate::handoff::{Heard, Proposal, Publication, Upward, Wish};
use crate::ids::{ConnId, SessionId, ShardId, WallMillis, Xid};
use crate::membership::Membership;
use crate::peer::{Message, RaftMessage};
use crate::tree::{Answer, Change, Path, PathHasher};
use crate::wire::OpCode;
use raft::eraftpb::MessageType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A server that may be connected and stands in no line.
const STRANGER: ServerId = ServerId(77);

struct World {
    sequencer: Sequencer,
    now: Now,
    records: u64,
    log: Vec<Logged>,
    published: Vec<Arc<Publication>>,
    notes: Vec<Note>,
    snapshots: usize,
}

fn options() -> Options {
    Options {
        server: ServerId(1),
        incarnation: 7,
        seed: [3; 32],
        txn: TxnOptions::default(),
        tick_ms: 1_000,
        shards: 1,
        snapshot_txns: u64::MAX,
        seat: Seat::new(ServerId(1), 0),
        birth: 1,
        rules: 1,
        lines: BTreeMap::new(),
        leaderless_ms: 10_000,
        local_sessions: false,
        local_sessions_upgrade: false,
        read_only_mode: false,
        snapshot_grows: false,
        snapshot_bytes: u64::MAX,
        reap_interval_ms: 1_000,
        reap_per_minute: 10_000,
        reap_never_used_ms: 0,
        in_flight_max: 2,
    }
}

impl World {
    fn new(options: Options) -> World {
        let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
        let state = State::new(PathHasher::new([1, 2, 3, 4]));
        let sequencer = Sequencer::new(options, state, RecoveredLog::default(), now);
        let mut world = World {
            sequencer,
            now,
            records: 0,
            log: Vec::new(),
            published: Vec::new(),
            notes: Vec::new(),
            snapshots: 0,
        };
        world.tick(0);
        world
    }

    /// Runs until nothing is left to do; every record is durable as soon as it was handed over.
    fn settle(&mut self) {
        loop {
            self.sequencer.turn(self.now);
            let mut any = false;
            while let Some(effect) = self.sequencer.next_effect() {
                any = true;
                match effect {
                    Effect::Append(logged) => {
                        self.records += 1;
                        self.log.push(logged);
                    }
                    Effect::Publish(publication) => self.published.push(publication),
                    Effect::Send(said) => assert_eq!(said.to, STRANGER, "nobody else is connected"),
                    Effect::Note(note) => self.notes.push(note),
                    Effect::Read { index } => {
                        let payload =
                            self.log.iter().rev().find(|l| l.index == index).unwrap().payload.clone();
                        self.sequencer.handle(self.now, Input::Read { index, payload });
                    }
                    Effect::SnapshotBegin { .. } => self.snapshots += 1,
                    Effect::SnapshotNodes(_) => {}
                    Effect::SnapshotAbort
                    | Effect::Fetch { .. }
                    | Effect::Install { .. }
                    | Effect::Discard(_)
                    | Effect::Seat(_) => {
                        unreachable!("nobody offers a server alone a snapshot or a seat")
                    }
                    Effect::SnapshotEnd => {
                        self.sequencer.handle(self.now, Input::SnapshotDone { written: true })
                    }
                }
            }
            if !any && !self.sequencer.is_busy() {
                return;
            }
            self.sequencer.handle(self.now, Input::Persisted { records: self.records });
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(Millis(ms));
        self.now.wall.0 += ms as i64;
        self.sequencer.handle(self.now, Input::Tick);
        self.settle();
    }

    /// Time passes as it does when the server runs: in ticks, each with a report of the shard.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            let heard = Heard { sessions: Vec::new(), through: self.now.mono, stall: None };
            let up =
                Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: Some(heard) };
            self.sequencer.handle(self.now, Input::Up(up));
            self.tick(TICK_MS);
        }
    }

    fn propose(&mut self, session: SessionId, wish: Wish, arena: Vec<u8>) -> Answer {
        let proposals = vec![Proposal { session, conn: ConnId(5), xid: Xid(1), wish }];
        let up = Upward { shard: ShardId(0), arena, proposals, heard: None };
        self.sequencer.handle(self.now, Input::Up(up));
        self.settle();
        self.published.last().unwrap().committed.last().unwrap().answer.clone()
    }

    fn new_session(&mut self) -> SessionId {
        match self.propose(SessionId::NONE, Wish::CreateSession { timeout_ms: 4_000 }, Vec::new()) {
            Answer::Session(granted) => granted.id,
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, session: SessionId, path: &str, flags: i32) -> Answer {
        let mut arena = Vec::new();
        crate::wire::put_string(&mut arena, path);
        crate::wire::put_buffer(&mut arena, Some(b"x"));
        crate::wire::put_i32(&mut arena, 1);
        crate::wire::Acl { perms: crate::wire::Perms::ALL, id: crate::wire::Id::new("world", "anyone") }
            .encode(&mut arena);
        crate::wire::put_i32(&mut arena, flags);
        let end = arena.len() as u32;
        let wish = Wish::Write { op: OpCode::Create.as_i32(), identities: 0..0, request: 0..end };
        self.propose(session, wish, arena)
    }
}

#[test]
fn a_server_alone_leads_at_once_and_orders_writes() {
    let mut world = World::new(options());
    assert!(world.sequencer.is_serving());
    assert_eq!(world.notes, [Note::BecameLeader { term: Term(1) }]);
    let session = world.new_session();
    assert!(matches!(world.create(session, "/a", 0), Answer::Path(_)));
    assert!(matches!(world.create(session, "/a", 0), Answer::Code(crate::error::Code::NodeExists)));
    // TR37: the failed one took a zxid too.
    assert_eq!(world.sequencer.state().last_zxid(), Zxid((1 << 32) | 3));
}

/// The simulator, seed 60068667.
#[test]
fn an_answer_of_a_leader_that_is_gone_makes_nobody_serve() {
    let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
    let state = State::new(PathHasher::new([1, 2, 3, 4]));
    let mut sequencer = Sequencer::new(options(), state, RecoveredLog::default(), now);
    assert_eq!((sequencer.leader(), sequencer.serving()), (None, Serving::No));
    sequencer.serving = Serving::ReadOnly;
    sequencer.start_following(Moment::at(Millis(0)));
    assert_eq!(
        sequencer.serving(),
        Serving::ReadOnly,
        "it was Yes, and ReadOnly again at the end of the turn"
    );
}

#[test]
fn a_write_concerns_the_writers_shard_and_a_session_that_comes_or_goes_every_one() {
    let mut world = World::new(options());
    let concerns = |world: &World| {
        let concerns = world.published.last().unwrap().concerns;
        [0, 1, 64].map(|shard| concerns.has(ShardId(shard)))
    };
    let session = world.new_session();
    assert_eq!(concerns(&world), [true, true, true]);
    world.create(session, "/a", 0);
    assert_eq!(concerns(&world), [true, false, true], "64 shares a bit with 0");
    let close = Wish::Write { op: OpCode::CloseSession.as_i32(), identities: 0..0, request: 0..0 };
    world.propose(session, close, Vec::new());
    assert_eq!(concerns(&world), [true, true, true]);
}

#[test]
fn a_restart_goes_on_from_the_log_with_the_same_state() {
    let mut world = World::new(options());
    let session = world.new_session();
    for n in 0..200 {
        world.create(session, &format!("/n{n}"), n % 2);
    }
    let digest = world.sequencer.state().digest();
    let entries = world.log.iter().filter(|l| l.index.0 > 0);
    let entries = entries.map(|l| RecoveredEntry {
        index: l.index,
        term: l.term,
        tag: l.tag,
        first_zxid: l.first_zxid,
        last_zxid: l.last_zxid,
        payload_len: l.payload.len(),
    });
    let hard_state = world.log.last().unwrap().hard_state;
    let recovered = RecoveredLog { base: (LogIndex(0), Term(0)), entries: entries.collect(), hard_state };
    let state = State::new(PathHasher::new([9, 9, 9, 9]));
    let sequencer = Sequencer::new(Options { incarnation: 8, ..options() }, state, recovered, world.now);
    let mut again = World {
        sequencer,
        now: world.now,
        records: 0,
        log: world.log.clone(),
        published: Vec::new(),
        notes: Vec::new(),
        snapshots: 0,
    };
    again.tick(0);
    assert!(again.sequencer.is_serving());
    assert_eq!(again.sequencer.state().digest(), digest);
    assert_eq!(again.sequencer.state().sessions.len(), 1);
    let next = again.new_session();
    assert_ne!(next, session);
    assert_eq!(again.sequencer.state().last_zxid(), Zxid((2 << 32) | 1), "a new term, a new epoch");
}

#[test]
fn an_unheard_session_ends_after_its_timeout_with_its_ephemerals() {
    let mut world = World::new(options());
    let session = world.new_session();
    world.create(session, "/e", 1);
    world.pass(3_900);
    assert!(world.sequencer.state().table.get("/e").is_some());
    world.pass(2_000);
    assert!(world.sequencer.state().table.get("/e").is_none());
    assert!(world.notes.contains(&Note::SessionExpired { session }));
}

#[test]
fn time_in_which_the_server_stood_still_expires_nobody() {
    let mut world = World::new(options());
    let session = world.new_session();
    world.tick(600_000);
    world.pass(3_000);
    assert_eq!(world.sequencer.state().sessions.len(), 1, "ten minutes of sleep are forgiven");
    world.pass(3_000);
    assert_eq!(world.sequencer.state().sessions.len(), 0, "a client that is really gone is noticed");
    assert!(world.notes.contains(&Note::SessionExpired { session }));
}

#[test]
fn time_in_which_the_disk_stood_still_expires_nobody() {
    let mut world = World::new(options());
    let session = world.new_session();
    // A write is handed to the log, which says nothing for ten seconds; nobody is heard meanwhile.
    let mut arena = Vec::new();
    crate::wire::put_string(&mut arena, "/zookeeper");
    crate::wire::put_buffer(&mut arena, Some(b"x"));
    crate::wire::put_i32(&mut arena, -1);
    let wish = Wish::Write { op: OpCode::SetData.as_i32(), identities: 0..0, request: 0..arena.len() as u32 };
    let proposals = vec![Proposal { session, conn: ConnId(5), xid: Xid(1), wish }];
    let up = Upward { shard: ShardId(0), arena, proposals, heard: None };
    world.sequencer.handle(world.now, Input::Up(up));
    let mut handed = 0;
    for _ in 0..100 {
        world.now.mono = world.now.mono.plus(Millis(TICK_MS));
        let heard = Heard { sessions: Vec::new(), through: world.now.mono, stall: None };
        let up = Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: Some(heard) };
        world.sequencer.handle(world.now, Input::Up(up));
        world.sequencer.handle(world.now, Input::Tick);
        world.sequencer.turn(world.now);
        while let Some(effect) = world.sequencer.next_effect() {
            match effect {
                Effect::Append(logged) => {
                    handed += 1;
                    world.log.push(logged);
                }
                Effect::Note(note) => world.notes.push(note),
                other => panic!("{other:?} before the write is durable"),
            }
        }
    }
    assert_eq!(handed, 1);
    world.records += handed;
    world.sequencer.handle(world.now, Input::Persisted { records: world.records });
    world.settle();
    world.pass(3_000);
    assert_eq!(world.sequencer.state().sessions.len(), 1, "it has its time from before the stall");
    world.pass(4_000);
    assert_eq!(world.sequencer.state().sessions.len(), 0);
}

/// This server leads alone; what a connected server reports is heard all the same.
#[test]
fn a_server_speaks_for_the_sessions_that_are_attached_to_it_alone() {
    let mut world = World::new(options());
    world.sequencer.handle(world.now, Input::PeerUp { peer: STRANGER, birth: 77, rules: 1 });
    let session = world.new_session();
    for _ in 0..60 {
        // An hour in which it stood still, and a word of somebody else's session.
        let heard = crate::peer::Heard {
            sessions: vec![(session, Millis(0))],
            through: Millis(0),
            stalled: Millis(3_600_000),
        };
        let message = Message::Heard(heard);
        world.sequencer.handle(world.now, Input::Peer { from: STRANGER, message });
        world.pass(100);
    }
    assert!(world.notes.contains(&Note::SessionExpired { session }));
}

/// Nobody else can have acknowledged anything: who stood still alone turns no client away (the conversation of
/// `tests/golden/sessions.txt` heard it do so).
#[test]
fn a_server_alone_that_stood_still_serves_on() {
    let mut world = World::new(options());
    world.new_session();
    world.notes.clear();
    world.tick(600_000);
    world.pass(1_000);
    assert!(!world.notes.iter().any(|note| matches!(note, Note::FellBehind { .. })), "{:?}", world.notes);
    assert!(world.sequencer.is_serving());
}

#[test]
fn a_shard_that_does_not_report_expires_nobody() {
    let mut world = World::new(options());
    world.new_session();
    for _ in 0..200 {
        world.tick(100);
    }
    assert_eq!(world.sequencer.state().sessions.len(), 1);
}

#[test]
fn a_sync_is_answered_without_a_zxid() {
    let mut world = World::new(options());
    let session = world.new_session();
    let before = world.sequencer.state().last_zxid();
    assert!(matches!(world.propose(session, Wish::Sync, Vec::new()), Answer::Code(crate::error::Code::Ok)));
    assert_eq!(world.sequencer.state().last_zxid(), before);
}

#[test]
fn a_container_goes_after_its_last_child_tr22() {
    let mut world = World::new(options());
    let session = world.new_session();
    let mut arena = Vec::new();
    crate::wire::put_string(&mut arena, "/c");
    crate::wire::put_buffer(&mut arena, None);
    crate::wire::put_i32(&mut arena, 1);
    crate::wire::Acl { perms: crate::wire::Perms::ALL, id: crate::wire::Id::new("world", "anyone") }
        .encode(&mut arena);
    crate::wire::put_i32(&mut arena, 4);
    let end = arena.len() as u32;
    let wish = Wish::Write { op: OpCode::CreateContainer.as_i32(), identities: 0..0, request: 0..end };
    assert!(matches!(world.propose(session, wish, arena), Answer::PathAndStat(_)));
    world.pass(3_000);
    assert!(world.sequencer.state().table.get("/c").is_some(), "never used: it stays");
    world.create(session, "/c/child", 1);
    world.pass(4_000);
    world.pass(4_000);
    assert!(
        world.sequencer.state().table.get("/c").is_none(),
        "the session ended, the child and it are gone"
    );
}

/// A world of so many TTL znodes, which the reaper looks at at its next tick.
fn world_of_ttl_znodes(n: usize, ttl_ms: i64, reap_per_minute: u64) -> World {
    let txn = TxnOptions { extended_types: true, ..TxnOptions::default() };
    let mut world = World::new(Options { txn, reap_per_minute, ..options() });
    let session = world.new_session();
    make_ttl_znodes(&mut world, session, (0..n).map(|at| format!("/t{at:07}")), ttl_ms);
    assert_eq!(world.sequencer.state().reapable().count(), n);
    world.now.mono = world.now.mono.plus(Millis(1_000));
    world.now.wall.0 += 1_000;
    world.sequencer.handle(world.now, Input::Tick);
    world
}

fn make_ttl_znodes(world: &mut World, session: SessionId, paths: impl Iterator<Item = String>, ttl_ms: i64) {
    let mut arena = Vec::new();
    let mut proposals = Vec::new();
    for path in paths {
        let start = arena.len() as u32;
        crate::wire::put_string(&mut arena, &path);
        crate::wire::put_buffer(&mut arena, None);
        crate::wire::put_i32(&mut arena, 1);
        crate::wire::Acl { perms: crate::wire::Perms::ALL, id: crate::wire::Id::new("world", "anyone") }
            .encode(&mut arena);
        crate::wire::put_i32(&mut arena, 5);
        crate::wire::put_i64(&mut arena, ttl_ms);
        let request = start..arena.len() as u32;
        let wish = Wish::Write { op: OpCode::CreateTtl.as_i32(), identities: 0..0, request };
        proposals.push(Proposal { session, conn: ConnId(5), xid: Xid(1), wish });
    }
    world.sequencer.handle(world.now, Input::Up(Upward { shard: ShardId(0), arena, proposals, heard: None }));
    world.settle();
}

/// Times were never to go back: an hour that was once wrong was every later znode's, and none of them was ever too old (an
/// audit). In ZooKeeper it is theirs alone who were written in it.
#[test]
fn a_clock_that_was_once_far_ahead_spoils_no_later_time() {
    let mut world = world_of_ttl_znodes(0, 0, 10_000);
    let session = world.new_session();
    let right = world.now.wall;
    world.now.wall.0 += 70 * 365 * 86_400_000;
    world.create(session, "/wrong", 0);
    world.now.wall = right;
    make_ttl_znodes(&mut world, session, std::iter::once("/ttl".into()), 3_000);
    let ctime = |world: &World, path: &str| world.sequencer.state().table.get(path).map(|node| node.ctime);
    assert!(ctime(&world, "/wrong").is_some_and(|at| at > right));
    assert_eq!(ctime(&world, "/ttl"), Some(right));
    world.pass(5_000);
    assert_eq!(ctime(&world, "/ttl"), None, "it is too old");
}

#[test]
fn the_reaper_looks_at_no_more_than_a_slice_in_a_turn() {
    const SLICE: usize = expire::CANDIDATES_A_SLICE;
    for (n, want) in
        [(0, vec![0]), (1, vec![1]), (SLICE, vec![SLICE, 0]), (2 * SLICE + 7, vec![SLICE, SLICE, 7])]
    {
        let mut world = world_of_ttl_znodes(n, 3_600_000, 10_000);
        let candidates: Vec<Path> = world.sequencer.state().reapable().cloned().collect();
        let mut looked = Vec::new();
        let mut seen = 0;
        while world.sequencer.is_busy() {
            world.sequencer.turn(world.now);
            while let Some(effect) = world.sequencer.next_effect() {
                assert!(!matches!(effect, Effect::Append(_)), "none is over");
            }
            let after = world.sequencer.reaper.after.as_ref();
            let through =
                after.map_or(n, |after| candidates.iter().position(|path| path == after).unwrap() + 1);
            looked.push(through - seen);
            seen = through;
        }
        assert_eq!(looked, want, "{n} candidates");
    }
}

#[test]
fn the_reaper_takes_no_more_than_its_share_of_a_minute() {
    // 6,000 a minute are 10 a tick; what was saved before is two ticks' worth. And 1,000 whatever the option says.
    for (n, per_minute, want) in [
        (70, 6_000, vec![20, 10, 10, 10, 10, 10, 0]),
        (2_500, 100_000_000, vec![1_000, 1_000, 500, 0]),
        (3, 1, vec![1, 0, 0]),
    ] {
        let mut world = world_of_ttl_znodes(n, 500, per_minute);
        let mut gone = Vec::new();
        for _ in &want {
            let before = world.published.len();
            world.settle();
            let changes =
                world.published[before..].iter().flat_map(|p| &p.committed).flat_map(|c| &c.changes);
            gone.push(changes.filter(|change| matches!(change, Change::Deleted { .. })).count());
            world.now.mono = world.now.mono.plus(Millis(TICK_MS));
            world.now.wall.0 += TICK_MS as i64;
            world.sequencer.handle(world.now, Input::Tick);
        }
        assert_eq!(gone, want, "{n} at {per_minute} a minute");
    }
}

#[test]
fn the_reaper_heaps_up_nothing_while_the_log_stands() {
    let mut world = world_of_ttl_znodes(300, 500, 100_000_000);
    let session = SessionId::NONE;
    let write = |len: usize| Proposal {
        session,
        conn: ConnId(5),
        xid: Xid(1),
        wish: Wish::Write { op: OpCode::Create.as_i32(), identities: 0..0, request: 0..len as u32 },
    };
    let arena = vec![0; BATCH_BYTES];
    while world.sequencer.wants_proposals() {
        let proposals = vec![write(BATCH_BYTES)];
        let up = Upward { shard: ShardId(0), arena: arena.clone(), proposals, heard: None };
        world.sequencer.handle(world.now, Input::Up(up));
    }
    assert!(!world.sequencer.is_busy(), "it does not spin");
    world.sequencer.reap_slice(world.now);
    assert!(world.sequencer.reaper.after.is_none());
    world.settle();
    assert_eq!(world.sequencer.state().reapable().count(), 0, "it goes on where it was");
}

#[test]
fn a_batch_holds_more_than_its_bytes_only_for_a_single_transaction() {
    let mut world = World::new(options());
    let session = world.new_session();
    let arena = vec![0; BATCH_BYTES * 2];
    let write = |len: usize| Proposal {
        session,
        conn: ConnId(5),
        xid: Xid(1),
        wish: Wish::Write { op: OpCode::Create.as_i32(), identities: 0..0, request: 0..len as u32 },
    };
    let lens = [BATCH_BYTES - 1, 10, BATCH_BYTES * 2, 300_000, 300_000, 300_000, 300_000, 10];
    let before = world.log.len();
    let proposals = lens.iter().map(|len| write(*len)).collect();
    world.sequencer.handle(world.now, Input::Up(Upward { shard: ShardId(0), arena, proposals, heard: None }));
    world.settle();
    let sizes: Vec<usize> = world.log[before..].iter().map(|l| l.payload.len()).filter(|l| *l > 0).collect();
    assert_eq!(sizes.len(), 5, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= BATCH_BYTES || *size < BATCH_BYTES * 2 + 200), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size > BATCH_BYTES).count() <= 2, "{sizes:?}");
}

#[test]
fn a_large_tree_is_written_out_less_often() {
    let snapshots = |snapshot_grows| {
        let mut world = World::new(Options { snapshot_txns: 5, snapshot_grows, ..options() });
        let session = world.new_session();
        for n in 0..200 {
            world.create(session, &format!("/{n}"), 0);
        }
        world.snapshots
    };
    assert_eq!(snapshots(false), 40, "every five transactions");
    // Every one is of a tree twice as large as the one before: 5, 10, 20 and so on.
    assert!((4..=7).contains(&snapshots(true)), "{}", snapshots(true));
}

/// Found by the simulator: the attach was in the log's hands, not yet applied, when the session's time was over.
#[test]
fn a_client_that_comes_back_while_its_end_is_decided_keeps_its_session() {
    let mut world = World::new(options());
    let granted = match world.propose(SessionId::NONE, Wish::CreateSession { timeout_ms: 4_000 }, Vec::new())
    {
        Answer::Session(granted) => (granted.id, granted.password),
        other => panic!("{other:?}"),
    };
    let (session, password) = granted;
    // Up to the tick before its end; the disk holds what comes now for a moment.
    let end = |world: &World| world.sequencer.expiry().buckets().first().map(|(at, _)| at.0);
    while end(&world).is_some_and(|at| at > world.now.mono.0 + 2 * TICK_MS) {
        world.pass(TICK_MS);
    }
    let wish = Wish::Attach { timeout_ms: 4_000, password: 0..16 };
    let proposals = vec![Proposal { session, conn: ConnId(6), xid: Xid(0), wish }];
    let up = Upward { shard: ShardId(0), arena: password.to_vec(), proposals, heard: None };
    world.sequencer.handle(world.now, Input::Up(up));
    world.sequencer.turn(world.now);
    for _ in 0..4 {
        world.now.mono = world.now.mono.plus(Millis(TICK_MS));
        let heard = Heard { sessions: Vec::new(), through: world.now.mono, stall: None };
        let up = Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: Some(heard) };
        world.sequencer.handle(world.now, Input::Up(up));
        world.sequencer.handle(world.now, Input::Tick);
    }
    world.settle();
    assert!(world.notes.contains(&Note::SessionExpired { session }), "its end was decided");
    let owner = world.sequencer.state().sessions.get(session).expect("it lives").owner;
    assert_eq!(owner.conn, ConnId(6));
    // And ends in its time, if nothing is heard of it.
    world.pass(6_000);
    assert!(world.sequencer.state().sessions.get(session).is_none());
}

/// Found by the simulator: both runs leapt from the same living session, and the first had closed what it gave.
#[test]
fn runs_whose_clock_went_back_give_no_id_twice() {
    let mut world = World::new(options());
    let kept = world.new_session();
    let wall = WallMillis(world.now.wall.0 - 5_000);
    let given = |seed| -> BTreeSet<SessionId> {
        let mut gather = Gather::new(&Options { seed: [seed; 32], ..options() }, wall);
        gather.skip_sessions_of(world.sequencer.state());
        (0..1_000).map(|_| gather.new_session().0).collect()
    };
    let (first, second) = (given(8), given(9));
    assert!(first.is_disjoint(&second));
    assert!(first.iter().chain(&second).all(|id| *id > kept && id.0 >> 56 == kept.0 >> 56));
}

/// Found by the simulator: a leader that had stood still answered a sync with what it had. Followers had asked it again for
/// reads under their old contexts, and old acknowledgements of those, still in its socket, confirmed what it was asked later.
#[test]
fn a_read_is_asked_again_under_another_context_and_any_of_them_answers_it() {
    let births = [1, 2, 3].map(|id| (ServerId(id), u128::from(id)));
    let conf = Membership::formed(&births).conf;
    let seat = |id| Seat::new(ServerId(id), 0);
    let mut consensus = Consensus::new(seat(1), 7, [3; 32], &conf, RecoveredLog::default());
    let from_leader = |kind: MessageType, entries| RaftMessage {
        kind: kind as u8,
        from: seat(2),
        to: seat(1),
        term: Term(1),
        entries,
        ..RaftMessage::default()
    };
    consensus.step(ServerId(2), from_leader(MessageType::MsgHeartbeat, Vec::new())).unwrap();
    consensus.read_index(vec![Waiter::Serving { asked: Moment::at(Millis(0)) }]);
    let (mut contexts, mut records) = (Vec::new(), 0);
    for _ in 0..3 {
        let mut said = Vec::new();
        while let Some(turn) = consensus.next_turn(records) {
            records += turn.append.len() as u64;
            said.extend(turn.send);
            said.extend(consensus.persisted(records));
        }
        for addressed in said {
            let Message::Raft(raft) = addressed.message else { continue };
            if raft.kind == MessageType::MsgReadIndex as u8 {
                contexts.push(raft.entries[0].payload.clone().unwrap());
            }
        }
        consensus.tick();
    }
    assert_eq!(contexts.len(), 3);
    assert_eq!(contexts.iter().collect::<BTreeSet<_>>().len(), 3, "{contexts:?}");
    // Found by the simulator: a leader still confirmed what this server had asked before it was killed, and its numbers
    // begin again.
    let mut of_an_earlier_run = contexts[1].to_vec();
    of_an_earlier_run[8..16].copy_from_slice(&6u64.to_be_bytes());
    let of_an_earlier_run = Bytes::from(of_an_earlier_run);
    for (context, answered) in [(&of_an_earlier_run, 0), (&contexts[1], 1), (&contexts[0], 0)] {
        let entry = crate::peer::Entry {
            term: Term(0),
            tag: 0,
            first_zxid: Zxid::ZERO,
            last_zxid: Zxid::ZERO,
            payload: Some(context.clone()),
        };
        consensus.step(ServerId(2), from_leader(MessageType::MsgReadIndexResp, vec![entry])).unwrap();
        while consensus.next_turn(records).is_some() {}
        assert_eq!(consensus.take_reads(LogIndex(0)).len(), answered);
    }
}

/// Two of four followers must confirm a leader. One whose disk is slow says the last of its answers alone: each confirmed
/// another question, and none was (a review).
#[test]
fn who_confirms_a_question_confirms_those_before_it() {
    let births = [1, 2, 3, 4, 5].map(|id| (ServerId(id), u128::from(id)));
    let conf = Membership::formed(&births).conf;
    let seat = |id| Seat::new(ServerId(id), 0);
    let mut consensus = Consensus::new(seat(1), 7, [3; 32], &conf, RecoveredLog::default());
    let (mut records, mut asked) = (0, Vec::new());
    // Servers 2 and 3 say yes to everything but questions.
    for _ in 0..200 {
        consensus.tick();
        let mut said = Vec::new();
        while let Some(turn) = consensus.next_turn(records) {
            records += turn.append.len() as u64;
            said.extend(turn.send);
            said.extend(consensus.persisted(records));
        }
        for addressed in said.into_iter().filter(|said| [2, 3].contains(&said.to.0)) {
            let Message::Raft(raft) = addressed.message else { continue };
            let kinds = [
                (MessageType::MsgRequestPreVote, MessageType::MsgRequestPreVoteResponse),
                (MessageType::MsgRequestVote, MessageType::MsgRequestVoteResponse),
                (MessageType::MsgAppend, MessageType::MsgAppendResponse),
            ];
            if !raft.context.is_empty() && !asked.contains(&raft.context) {
                asked.push(raft.context.clone());
            }
            let Some((_, answer)) = kinds.into_iter().find(|(kind, _)| raft.kind == *kind as u8) else {
                continue;
            };
            let index = LogIndex(raft.index.0 + raft.entries.len() as u64);
            let yes = RaftMessage {
                kind: answer as u8,
                from: raft.to,
                to: seat(1),
                term: raft.term,
                index,
                ..Default::default()
            };
            consensus.step(addressed.to, yes).unwrap();
        }
        if consensus.is_leading() && asked.is_empty() {
            for _ in 0..2 {
                consensus.read_index(vec![Waiter::Serving { asked: Moment::at(Millis(0)) }]);
            }
        }
        if asked.len() >= 2 {
            break;
        }
    }
    let confirms = |from, context: &Vec<u8>| RaftMessage {
        kind: MessageType::MsgHeartbeatResponse as u8,
        from: seat(from),
        to: seat(1),
        term: consensus.term(),
        context: context.clone(),
        ..RaftMessage::default()
    };
    let (first, second) = (confirms(2, &asked[0]), confirms(3, &asked[1]));
    let done = |consensus: &mut Consensus| {
        while consensus.next_turn(records).is_some() {}
        consensus.take_reads(LogIndex(9)).len()
    };
    consensus.step(ServerId(2), first).unwrap();
    assert_eq!(done(&mut consensus), 0, "two of five");
    consensus.step(ServerId(3), second).unwrap();
    assert_eq!(done(&mut consensus), 1, "three of five for the first");
}

/// While a disk stands, what may be said only behind it waits: answers to heartbeats, and the question of a sync at each tick,
/// were heaped up for as long (an audit).
#[test]
fn what_waits_for_a_disk_that_stands_is_bounded() {
    let births = [1, 2, 3].map(|id| (ServerId(id), u128::from(id)));
    let conf = Membership::formed(&births).conf;
    let seat = |id| Seat::new(ServerId(id), 0);
    let mut consensus = Consensus::new(seat(1), 7, [3; 32], &conf, RecoveredLog::default());
    let heartbeat = |context: Vec<u8>| RaftMessage {
        kind: MessageType::MsgHeartbeat as u8,
        from: seat(2),
        to: seat(1),
        term: Term(1),
        context,
        ..RaftMessage::default()
    };
    let mut records = 0;
    for round in 0..10_000u64 {
        // Each with a question of the leader's, but for the last ones.
        let context = if round < 9_990 { round.to_be_bytes().to_vec() } else { Vec::new() };
        consensus.step(ServerId(2), heartbeat(context)).unwrap();
        if round == 0 {
            consensus.read_index(vec![Waiter::Serving { asked: Moment::at(Millis(0)) }]);
        }
        while let Some(turn) = consensus.next_turn(records) {
            records += turn.append.len() as u64;
            assert!(turn.send.is_empty(), "a follower's word waits for its vote");
        }
        consensus.tick();
    }
    // The leader is gone, and somebody asks again and again whether an election would be won.
    for _ in 0..1_000 {
        let asks = RaftMessage {
            kind: MessageType::MsgRequestPreVote as u8,
            from: seat(3),
            ..heartbeat(Vec::new())
        };
        consensus.step(ServerId(3), RaftMessage { term: Term(2), ..asks }).unwrap();
        while let Some(turn) = consensus.next_turn(records) {
            records += turn.append.len() as u64;
            assert!(turn.send.is_empty(), "an answer waits, too");
        }
        consensus.tick();
    }
    assert_eq!(records, 1, "the term");
    let said = consensus.persisted(records);
    assert!(said.len() < 300, "{}", said.len());
    let contexts = said.iter().filter_map(|said| match &said.message {
        Message::Raft(raft) if raft.kind == MessageType::MsgHeartbeatResponse as u8 => {
            Some(&raft.context[..])
        }
        _ => None,
    });
    let last_asked = 9_989u64.to_be_bytes();
    assert_eq!(
        contexts.collect::<Vec<_>>(),
        [&last_asked[..], &[]],
        "the leader's last question is answered"
    );
}

/// To drop a large tree takes seconds: the host does it aside, where the sequencer would hold up everybody.
#[test]
fn a_fetched_state_that_nobody_waits_for_is_handed_out_to_be_dropped() {
    let mut world = World::new(options());
    let state = Some(Box::new(State::new(PathHasher::new([1, 2, 3, 4]))));
    world.sequencer.handle(world.now, Input::Fetched { index: LogIndex(9), state });
    assert!(matches!(world.sequencer.next_effect(), Some(Effect::Discard(_))));
    assert!(world.sequencer.next_effect().is_none());
}
