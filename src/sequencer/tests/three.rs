//! Three sequencers in one thread, of which one may be cut off.

mod disks;
mod locals;

use super::super::*;
use super::options;
use crate::apply::Options as TxnOptions;
use crate::handoff::{Heard, Proposal, Upward, Wish};
use crate::ids::{ConnId, Owner, SessionId, ShardId, WallMillis, Xid};
use crate::membership::{Becomes, ConfChange, Membership};
use crate::peer::{Addressed, Message, RaftMessage};
use crate::tree::{Answer, Change, Granted, PathHasher};
use crate::wire::{put_buffer, put_i32, put_string, Acl, Id, OpCode, Perms};
use raft::eraftpb::MessageType;
use std::collections::BTreeSet;

struct Three {
    now: Now,
    nodes: Vec<Sequencer>,
    records: Vec<u64>,
    /// Server 1..=3 that nobody hears and that hears nobody; 0: none.
    cut: u8,
    /// Server 1..=3 whose disk takes nothing; 0: none.
    stands: u8,
    /// The disk of who is elected takes nothing from then on.
    stands_once_elected: bool,
    /// How long each disk takes for what is handed to it at once; what comes meanwhile waits for its turn.
    slow_ms: u64,
    /// By server: when how many records are durable.
    due: Vec<Option<(Millis, u64)>>,
    wires: Vec<(ServerId, ServerId, Message)>,
    notes: Vec<(u8, Note)>,
    answers: Vec<(u8, Answer)>,
    /// Connections that speak for their session no more, as a server's shards are told.
    replaced: Vec<(u8, Owner)>,
}

impl Three {
    fn new() -> Three {
        let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
        let births: Vec<_> = (1..=3u8).map(|n| (ServerId(n), u128::from(n))).collect();
        let node = |n: u8| {
            let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
            state.membership = Membership::formed(&births);
            let options = Options {
                server: ServerId(n),
                seat: Seat::new(ServerId(n), 0),
                birth: u128::from(n),
                incarnation: 70 + u64::from(n),
                seed: [n; 32],
                leaderless_ms: 100_000,
                ..options()
            };
            Sequencer::new(options, state, RecoveredLog::default(), now)
        };
        let mut three = Three {
            now,
            nodes: (1..=3).map(node).collect(),
            records: vec![0; 3],
            cut: 0,
            stands: 0,
            stands_once_elected: false,
            slow_ms: 0,
            due: vec![None; 3],
            wires: Vec::new(),
            notes: Vec::new(),
            answers: Vec::new(),
            replaced: Vec::new(),
        };
        for a in 1..=3u8 {
            for b in (1..=3u8).filter(|b| *b != a) {
                three.link(a, b, true);
            }
        }
        three
    }

    /// Three of which one leads, and which.
    fn led() -> (Three, u8) {
        let mut three = Three::new();
        while three.leader().is_none() {
            three.tick(None);
        }
        let leader = three.leader().expect("it was looked at just now");
        (three, leader)
    }

    /// A new session, of this server's client.
    fn session(&mut self, at: u8) -> SessionId {
        self.up(at, SessionId::NONE, 0, Wish::CreateSession { timeout_ms: 40_000 }, Vec::new());
        let Some((_, Answer::Session(granted))) = self.answers.pop() else { panic!("no session") };
        granted.id
    }

    fn link(&mut self, at: u8, peer: u8, is_up: bool) {
        let input = match is_up {
            true => Input::PeerUp { peer: ServerId(peer), birth: u128::from(peer), rules: 1 },
            false => Input::PeerDown(ServerId(peer)),
        };
        self.nodes[usize::from(at) - 1].handle(self.now, input);
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut any = false;
            for at in 0..3 {
                any |= self.turn(at);
            }
            for (from, to, message) in std::mem::take(&mut self.wires) {
                if from.0 == self.cut || to.0 == self.cut {
                    continue;
                }
                any = true;
                self.nodes[usize::from(to.0) - 1].handle(self.now, Input::Peer { from, message });
            }
            if !any {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn turn(&mut self, at: usize) -> bool {
        let node = &mut self.nodes[at];
        let id = at as u8 + 1;
        node.turn(self.now);
        if self.stands_once_elected && node.consensus.is_leading() {
            self.stands = id;
        }
        let mut any = false;
        while let Some(effect) = node.next_effect() {
            any = true;
            match effect {
                Effect::Append(_) => self.records[at] += 1,
                Effect::Send(said) => self.wires.push((ServerId(id), said.to, said.message)),
                Effect::Publish(publication) => {
                    let told = publication.committed.iter().filter(|one| one.to.is_some());
                    self.answers.extend(told.map(|one| (id, one.answer.clone())));
                    let changes = publication.committed.iter().flat_map(|one| &one.changes);
                    self.replaced.extend(changes.filter_map(|change| match change {
                        Change::Attached(attached) => Some((id, attached.old?)),
                        _ => None,
                    }));
                }
                Effect::Note(note) => self.notes.push((id, note)),
                other => panic!("{other:?}"),
            }
        }
        if self.stands == id || node.persisted == self.records[at] {
            return any;
        }
        let (due, records) =
            *self.due[at].get_or_insert((self.now.mono.plus(Millis(self.slow_ms)), self.records[at]));
        if due <= self.now.mono {
            self.due[at] = None;
            node.handle(self.now, Input::Persisted { records });
            any = true;
        }
        any
    }

    fn tick(&mut self, heard: Option<SessionId>) {
        self.now.mono = self.now.mono.plus(Millis(25));
        self.now.wall.0 += 25;
        for node in &mut self.nodes {
            let sessions = heard.iter().map(|session| (*session, self.now.mono)).collect();
            let heard = Heard { sessions, through: self.now.mono, stall: None };
            let up =
                Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: Some(heard) };
            node.handle(self.now, Input::Up(up));
            node.handle(self.now, Input::Tick);
        }
        self.settle();
    }

    fn leader(&self) -> Option<u8> {
        let leading = (1..=3u8).filter(|n| *n != self.cut);
        leading.into_iter().find(|n| self.nodes[usize::from(*n) - 1].is_leading())
    }

    fn up(&mut self, at: u8, session: SessionId, xid: i32, wish: Wish, arena: Vec<u8>) {
        self.take(at, session, xid, wish, arena);
        self.settle();
    }

    fn take(&mut self, at: u8, session: SessionId, xid: i32, wish: Wish, arena: Vec<u8>) {
        let proposals = vec![Proposal { session, conn: ConnId(5), xid: Xid(xid), wish }];
        let up = Upward { shard: ShardId(0), arena, proposals, heard: None };
        self.nodes[usize::from(at) - 1].handle(self.now, Input::Up(up));
    }

    /// What is on its way comes to this server, which does not have its turn yet.
    fn deliver_to(&mut self, at: u8) {
        let (here, elsewhere) =
            std::mem::take(&mut self.wires).into_iter().partition(|(_, to, _)| to.0 == at);
        self.wires = elsewhere;
        for (from, _, message) in here {
            self.nodes[usize::from(at) - 1].handle(self.now, Input::Peer { from, message });
        }
    }
}

fn create_bytes(path: &str) -> (Wish, Vec<u8>) {
    let mut arena = Vec::new();
    put_string(&mut arena, path);
    put_buffer(&mut arena, Some(b"x"));
    put_i32(&mut arena, 1);
    Acl { perms: Perms::ALL, id: Id::new("world", "anyone") }.encode(&mut arena);
    put_i32(&mut arena, 0);
    let end = arena.len() as u32;
    (Wish::Write { op: OpCode::Create.as_i32(), identities: 0..0, request: 0..end }, arena)
}

/// Found by a review: a follower never has more than a few batches under way, so a leader takes no more of one. A leader that was
/// cut off has as many as its clients wrote meanwhile; those beyond were dropped, and nothing after them was ever done.
#[test]
fn all_that_a_leader_gathered_while_it_was_cut_off_is_done_by_its_successor() {
    for batches in [12, 30] {
        what_a_cut_off_leader_gathered_is_done(batches);
    }
}

fn what_a_cut_off_leader_gathered_is_done(batches: usize) {
    let (mut three, old) = Three::led();
    let session = three.session(old);
    // Nobody hears it, and it does not know yet: each of these is a batch, durable here.
    three.cut = old;
    for n in 0..batches {
        let (wish, arena) = create_bytes(&format!("/n{n}"));
        three.up(old, session, 1 + n as i32, wish, arena);
    }
    assert!(three.answers.is_empty());
    while three.leader().is_none() || three.nodes[usize::from(old) - 1].leader().is_some() {
        three.tick(Some(session));
    }
    assert_ne!(three.leader(), Some(old));
    three.cut = 0;
    for peer in (1..=3u8).filter(|peer| *peer != old) {
        for is_up in [false, true] {
            three.link(old, peer, is_up);
            three.link(peer, old, is_up);
        }
    }
    for _ in 0..400 {
        three.tick(Some(session));
    }
    let leader = usize::from(three.leader().expect("all of them are there")) - 1;
    let table = &three.nodes[leader].state().table;
    let done = (0..batches).filter(|n| table.get(&format!("/n{n}")).is_some()).count();
    assert_eq!((done, three.answers.len()), (batches, batches));
    assert!(!three.notes.iter().any(|(_, note)| matches!(note, Note::Nonsense { .. })), "{:?}", three.notes);
}

/// Each batch as a record and a message of its own let it wait for the writes of all the others.
#[test]
fn what_waits_goes_to_the_log_and_to_the_others_at_one_go() {
    let (mut three, leader) = Three::led();
    let session = three.session(leader);
    // Two of each follower's, one of its own.
    for (n, at) in [1, 2, 3, 1, 2, 3].into_iter().enumerate().filter(|(n, at)| *n < 3 || *at != leader) {
        if n == 3 {
            three.now.mono = three.now.mono.plus(Millis(2));
        }
        let (wish, arena) = create_bytes(&format!("/n{n}"));
        three.take(at, session, n as i32, wish, arena);
        if at != leader {
            three.turn(usize::from(at) - 1);
        }
    }
    three.deliver_to(leader);
    let records = three.records[usize::from(leader) - 1];
    three.turn(usize::from(leader) - 1);
    assert_eq!(three.records[usize::from(leader) - 1] - records, 5);
    let appends = three.wires.iter().filter_map(|(_, to, message)| match message {
        Message::Raft(message) if !message.entries.is_empty() => Some((to.0, message.entries.len())),
        _ => None,
    });
    let others = (1..=3u8).filter(|at| *at != leader);
    assert_eq!(appends.collect::<Vec<_>>(), others.map(|at| (at, 5)).collect::<Vec<_>>());
    three.settle();
    assert_eq!(three.answers.len(), 5);
}

/// A wiped server whose configuration was older than the leader had nobody to fetch from, and asked for ever (a review).
#[test]
fn an_offer_of_a_snapshot_says_where_the_leader_listens() {
    let (mut three, leader) = Three::led();
    let leader = ServerId(leader);
    let at = usize::from(leader.0) - 1;
    let line = crate::membership::parse_server(leader, "10.0.0.9:2888:3888;2181").unwrap();
    three.nodes[at].state.membership.servers.insert(leader, line.clone());
    let other = (1..=3u8).find(|n| *n != leader.0).expect("there are three");
    let term = three.nodes[at].consensus.term();
    let offer = |context: &[u8]| RaftMessage {
        kind: raft::eraftpb::MessageType::MsgSnapshot as u8,
        from: Seat::new(leader, 0),
        to: Seat::new(ServerId(other), 0),
        term,
        log_term: term,
        index: LogIndex(1_000),
        context: context.to_vec(),
        ..RaftMessage::default()
    };
    let bare = Addressed { to: ServerId(other), message: Message::Raft(Box::new(offer(b""))) };
    let said = install::with_own_line(bare, &three.nodes[at].state, leader);
    // One that no message holds is left out.
    let long = vec![line.addresses[0].clone(); 400];
    three.nodes[at].state.membership.servers.get_mut(&leader).unwrap().addresses = long;
    let bare = Addressed { to: ServerId(other), message: Message::Raft(Box::new(offer(b""))) };
    let unsaid = install::with_own_line(bare, &three.nodes[at].state, leader);
    for (message, want) in [
        (said.message, line.addresses),
        (unsaid.message, Vec::new()),
        (Message::Raft(Box::new(offer(b"\xff nonsense"))), Vec::new()),
    ] {
        let node = &mut three.nodes[usize::from(other) - 1];
        node.fetching = Default::default();
        node.handle(three.now, Input::Peer { from: leader, message });
        let fetch = std::iter::from_fn(|| node.next_effect()).find_map(|effect| match effect {
            Effect::Fetch { from, listens, .. } => Some((from, listens)),
            _ => None,
        });
        assert_eq!(fetch, Some((leader, want)));
    }
}

/// A snapshot that was damaged on the leader's disk kept a follower out for as long as no other was due (a review).
#[test]
fn a_leader_whose_snapshot_nobody_can_have_takes_another_one() {
    let (mut three, leader) = Three::led();
    let other = (1..=3u8).find(|n| *n != leader).expect("there are three");
    let node = &mut three.nodes[usize::from(leader) - 1];
    let begun: Vec<bool> = (0..4)
        .map(|_| {
            let refusal = RaftMessage {
                kind: raft::eraftpb::MessageType::MsgSnapStatus as u8,
                from: Seat::new(ServerId(other), 0),
                to: Seat::new(ServerId(leader), 0),
                term: node.consensus.term(),
                reject: true,
                ..RaftMessage::default()
            };
            let message = Message::Raft(Box::new(refusal));
            node.handle(three.now, Input::Peer { from: ServerId(other), message });
            let mut effects = std::iter::from_fn(|| node.next_effect());
            effects.any(|effect| matches!(effect, Effect::SnapshotBegin { .. }))
        })
        .collect();
    assert_eq!(begun, [false, false, true, false]);
}

#[test]
fn nothing_goes_to_a_log_that_owes_as_many_groups_as_it_may() {
    let (mut three, leader) = Three::led();
    let session = three.session(leader);
    let at = usize::from(leader) - 1;
    let appended = |three: &mut Three| {
        three.nodes[at].turn(three.now);
        let effects = std::iter::from_fn(|| three.nodes[at].next_effect());
        let count = effects.filter(|effect| matches!(effect, Effect::Append(_))).count();
        three.records[at] += count as u64;
        count
    };
    let mut counts = Vec::new();
    for n in 0..5 {
        let (wish, arena) = create_bytes(&format!("/n{n}"));
        three.take(leader, session, n, wish, arena);
        counts.push(appended(&mut three));
    }
    assert_eq!(counts, [1, 1, 0, 0, 0]);
    assert_eq!(three.nodes[at].rests(three.now.mono), None, "its log will wake the host up");
    // The first group is durable, and the others say nothing of it: for a little while what gathered waits for them, and is
    // one group then.
    let records = three.records[at] - 1;
    three.nodes[at].handle(three.now, Input::Persisted { records });
    assert_eq!(appended(&mut three), 0);
    assert_eq!(three.nodes[at].rests(three.now.mono), Some(Millis(2)));
    three.now.mono = three.now.mono.plus(Millis(2));
    assert_eq!((appended(&mut three), appended(&mut three)), (1, 0));
    assert_eq!(three.nodes[at].rests(three.now.mono), None, "nothing waits");
}

#[test]
fn a_group_goes_as_soon_as_the_one_before_it_is_committed() {
    let (mut three, leader) = Three::led();
    let session = three.session(leader);
    let at = usize::from(leader) - 1;
    three.nodes[at].options.in_flight_max = 1;
    let take = |three: &mut Three, n: i32| {
        let (wish, arena) = create_bytes(&format!("/n{n}"));
        three.take(leader, session, n, wish, arena);
        while three.turn(at) {}
        three.records[at]
    };
    let one = take(&mut three, 0);
    assert!((1..3).all(|n| take(&mut three, n) == one), "it is durable here, and nobody else has it");
    // One of the others has it, and no time has passed.
    let other = leader % 3 + 1;
    three.deliver_to(other);
    while three.turn(usize::from(other) - 1) {}
    three.deliver_to(leader);
    while three.turn(at) {}
    assert!(three.records[at] > one);
    let answered = three.answers.iter().filter(|(of, _)| *of == leader).count();
    assert_eq!(answered, 1, "{:?}", three.answers);
    three.settle();
    assert_eq!(three.answers.len(), 3, "{:?}", three.answers);
}

#[test]
fn a_followers_next_batch_gathers_while_the_one_before_it_is_on_its_way() {
    let (mut three, leader) = Three::led();
    let follower = leader % 3 + 1;
    let session = three.session(follower);
    let at = usize::from(follower) - 1;
    let write = |three: &mut Three, n: i32| {
        let (wish, arena) = create_bytes(&format!("/n{n}"));
        three.take(follower, session, n, wish, arena);
        three.turn(at);
        three.wires.iter().filter(|(_, _, message)| matches!(message, Message::Forward(_))).count()
    };
    assert_eq!([0, 1, 2].map(|n| write(&mut three, n)), [1, 1, 1]);
    assert_eq!(three.nodes[at].rests(three.now.mono), Some(Millis(2)));
    // Where that takes long it waits no longer, and takes along what came meanwhile.
    three.now.mono = three.now.mono.plus(Millis(2));
    assert_eq!(write(&mut three, 3), 2);
    assert_eq!(three.nodes[at].rests(three.now.mono), None, "nothing waits");
    three.settle();
    assert_eq!(three.answers.len(), 4, "{:?}", three.answers);
}

/// Two crowds of clients that write one thing after the other: each waited for the other's round.
#[test]
fn a_group_waits_for_those_who_were_answered_where_they_come_back_at_once() {
    let (mut three, leader) = Three::led();
    let at = usize::from(leader) - 1;
    let follower = leader % 3 + 1;
    let sessions: Vec<(u8, SessionId)> = (0..16)
        .map(|n| if n % 2 == 0 { leader } else { follower })
        .map(|at| (at, three.session(at)))
        .collect();
    three.nodes.iter_mut().for_each(|node| node.options.in_flight_max = 1);
    let mut count = 0;
    let mut write = |three: &mut Three, who: usize| {
        count += 1;
        let (wish, arena) = create_bytes(&format!("/{count}-{who}"));
        three.take(sessions[who].0, sessions[who].1, 0, wish, arena);
    };
    // They turn out to do so: who is answered writes again in the next turn.
    (0..16).for_each(|who| write(&mut three, who));
    for turn in 0..400 {
        for at in 0..3 {
            three.turn(at);
        }
        for (from, to, message) in std::mem::take(&mut three.wires) {
            three.nodes[usize::from(to.0) - 1].handle(three.now, Input::Peer { from, message });
        }
        three.now.mono = three.now.mono.plus(Millis(u64::from(turn % 8 == 0)));
        for (_, answer) in std::mem::take(&mut three.answers) {
            let Answer::Path(path) = answer else { panic!("{answer:?}") };
            let (_, who) = path.as_str().split_once('-').expect("it was named so");
            write(&mut three, who.parse().expect("it was named so"));
        }
    }
    for _ in 0..4 {
        three.settle();
        three.now.mono = three.now.mono.plus(Millis(2));
    }
    assert_eq!(three.answers.len(), 16);
    // One group of them all.
    (0..16).for_each(|who| write(&mut three, who));
    three.turn(usize::from(follower) - 1);
    three.deliver_to(leader);
    three.settle();
    assert_eq!(std::mem::take(&mut three.answers).len(), 32);
    // All were answered. A few are back, one at the other server; the group waits for most of the rest.
    let records = three.records[at];
    (0..10).for_each(|who| write(&mut three, who));
    three.settle();
    assert_eq!((three.records[at], three.nodes[at].rests(three.now.mono)), (records, Some(Millis(2))));
    (10..15).for_each(|who| write(&mut three, who));
    three.settle();
    assert_eq!(three.answers.len(), 15);
    assert_eq!(three.records[at], records + 2, "one group, of a batch of each server's");
    // Not for long.
    write(&mut three, 0);
    three.settle();
    assert_eq!(three.answers.len(), 15);
    three.now.mono = three.now.mono.plus(Millis(2));
    three.settle();
    assert_eq!(three.answers.len(), 16);
}

/// The options of who leads decide, whoever applies: a server with a low disk, one that looks at no ACL, one that has them all.
#[test]
fn servers_with_different_options_never_hold_different_states() {
    let mut three = Three::new();
    three.nodes[0].options.txn = TxnOptions { skip_acl: true, extended_types: true, ..TxnOptions::default() };
    three.nodes[1].options.txn = TxnOptions { read_only: true, ..TxnOptions::default() };
    three.nodes[2].options.txn = TxnOptions { enforce_quota: true, ..TxnOptions::default() };
    while three.leader().is_none() {
        three.tick(None);
    }
    let sessions = [1, 2, 3].map(|at| three.session(at));
    let session = sessions[0];
    let mut taken = [None; 3];
    for xid in 1.. {
        let leader = three.leader().expect("all of them are there");
        for at in 1..=3 {
            let (wish, arena) = create_bytes(&format!("/n{xid}-{at}"));
            three.up(at, sessions[usize::from(at) - 1], xid, wish, arena);
        }
        let answers: Vec<bool> =
            three.answers.drain(..).map(|(_, answer)| matches!(answer, Answer::Path(_))).collect();
        assert!(answers.len() == 3 && answers.iter().all(|one| *one == answers[0]), "{answers:?}");
        taken[usize::from(leader) - 1] = Some(answers[0]);
        if taken.iter().all(Option::is_some) {
            break;
        }
        assert!(xid < 100, "not all of them have led: {taken:?}");
        // Another one leads from here on.
        three.cut = leader;
        while three.leader().is_none() {
            three.tick(Some(session));
        }
        three.cut = 0;
        for _ in 0..40 {
            three.tick(Some(session));
        }
    }
    assert_eq!(taken, [Some(true), Some(false), Some(true)], "the leader's option decided");
    for _ in 0..20 {
        three.tick(Some(session));
    }
    let chains: Vec<u64> = three.nodes.iter().map(|node| node.state().chain()).collect();
    assert!(chains.iter().all(|chain| *chain == chains[0]), "{chains:?}");
    let differs = |note: &Note| matches!(note, Note::Differs { .. } | Note::IsWrong { .. });
    assert!(!three.notes.iter().any(|(_, note)| differs(note)), "{:?}", three.notes);
}

/// As a planted bug or a flipped bit in memory would have it.
#[test]
fn a_server_that_differs_from_the_majority_is_told_so_and_no_other_is() {
    for follows in [true, false] {
        let (mut three, leader) = Three::led();
        let session = three.session(leader);
        let wrong = if follows { leader % 3 + 1 } else { leader };
        three.nodes[usize::from(wrong) - 1].state.spoil();
        let (wish, arena) = create_bytes("/n");
        three.up(leader, session, 1, wish, arena);
        for _ in 0..20 {
            three.tick(Some(session));
        }
        let told = |wanted: &dyn Fn(&Note) -> bool| -> BTreeSet<u8> {
            three.notes.iter().filter(|(_, note)| wanted(note)).map(|(at, _)| *at).collect()
        };
        assert_eq!(told(&|note| matches!(note, Note::IsWrong { .. })), BTreeSet::from([wrong]));
        let others: BTreeSet<u8> = (1..=3).filter(|at| *at != wrong).collect();
        let about = |note: &Note| matches!(note, Note::Differs { server, .. } if *server == ServerId(wrong));
        assert_eq!(told(&about), others, "{:?}", three.notes);
    }
}

/// `mntr` said one synced follower of two until somebody wrote (a trial).
#[test]
fn who_comes_back_to_an_idle_ensemble_is_synced() {
    let (mut three, leader) = Three::led();
    let (at, follower) = (usize::from(leader) - 1, leader % 3 + 1);
    three.session(leader);
    for is_up in [false, true] {
        three.link(leader, follower, is_up);
        three.link(follower, leader, is_up);
        for _ in 0..20 {
            three.tick(None);
        }
        assert_eq!((three.leader(), three.nodes[at].synced()), (Some(leader), (1 + usize::from(is_up), 0)));
    }
}

/// The crate asks whether a server may vote only where its own clock has it stand for election: an observer was elected.
#[test]
fn a_server_without_a_voice_stands_for_no_election_when_the_leader_is_gone() {
    for has_voice in [true, false] {
        let (mut three, leader) = Three::led();
        let other = leader % 3 + 1;
        let at = usize::from(other) - 1;
        if !has_voice {
            let learns = ConfChange::Enter(vec![(Seat::new(ServerId(other), 0), Becomes::Learner)]);
            [learns, ConfChange::Leave]
                .iter()
                .for_each(|change| three.nodes[at].consensus.apply_conf(change));
        }
        three.link(other, leader, false);
        assert!(three.nodes[at].leader().is_none());
        for _ in 0..4 {
            three.nodes[at].handle(three.now, Input::Tick);
            three.turn(at);
        }
        let asks = |message: &Message| matches!(message, Message::Raft(raft) if raft.kind == MessageType::MsgRequestPreVote as u8);
        assert_eq!(three.wires.iter().any(|(_, _, message)| asks(message)), has_voice);
    }
}

/// Where one voter is left the crate answers for it, whoever asks: it may lead by now, and have taken writes.
#[test]
fn a_leader_without_a_voice_answers_no_sync() {
    let (mut three, leader) = Three::led();
    let at = usize::from(leader) - 1;
    let session = three.session(leader);
    let others: Vec<u8> = (1..=3).filter(|at| *at != leader).collect();
    let learn = [leader, others[0]].map(|at| (Seat::new(ServerId(at), 0), Becomes::Learner));
    let changes = [ConfChange::Enter(learn.to_vec()), ConfChange::Leave];
    changes.iter().for_each(|change| three.nodes[at].consensus.apply_conf(change));
    three.up(leader, session, 1, Wish::Sync, Vec::new());
    assert!(three.nodes[at].consensus.is_leading() && three.answers.is_empty());
}

/// Who was alone keeps the places of its last entries, and may have no snapshot: nothing was ever sent to those who came.
#[test]
fn a_leader_that_can_offer_nothing_takes_a_snapshot() {
    let (mut three, leader) = Three::led();
    let node = &mut three.nodes[usize::from(leader) - 1];
    let applied = node.applied;
    node.consensus.purged(LogIndex(applied.0 + 1), applied);
    let mut now = three.now;
    // How the one under way ended, how much later it is, and whether another one begins.
    for (done, later_ms, begins) in [
        (None, 0, true),
        (None, 10_000, false),
        (Some(false), 3_999, false),
        (None, 1, true),
        (Some(false), 7_999, false),
        (None, 1, true),
        (Some(true), 1_000_000, false),
    ] {
        if let Some(written) = done {
            while node.state.is_copying() {
                node.copy_snapshot();
            }
            node.handle(now, Input::SnapshotDone { written });
        }
        now.mono = now.mono.plus(Millis(later_ms));
        node.handle(now, Input::Tick);
        let begun =
            std::iter::from_fn(|| node.next_effect()).any(|one| matches!(one, Effect::SnapshotBegin { .. }));
        assert_eq!(begun, begins, "{done:?} {later_ms}");
    }
}
