//! Children's places: long and short lists that grow and shrink over every border, multis that fail half-way, sessions
//! that take hundreds of ephemerals with them, containers, snapshots in the middle. The sequencer's table, a shard's, and
//! those of a server that began from a snapshot show the same children after every batch.
//!
//! `PLACES_SEEDS=100 cargo test --test places` for a long run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ringkeeper::apply::{BatchHeader, BatchWriter, Options, SnapshotHead, State, Txn, TxnBody};
use ringkeeper::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
use ringkeeper::snapshot::{decode, Encoder, Meta};
use ringkeeper::tree::{Answer, Node, PathHasher, Table};
use ringkeeper::wire::{put_multi_end, put_multi_header, AclRef, Create, Delete, IdRef, OpCode, Perms};

const MANY: &str = "/many";
const FEW: &str = "/few";
/// How many children the long list is led to, one after the other: over the borders of 8, 1,024 and 2,048.
const TARGETS: [usize; 8] = [7, 10, 6, 1_030, 1_018, 2_060, 700, 0];
const SESSIONS: i64 = 3;
const PASSWORD: [u8; 16] = [9; 16];

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create { path: String, op: OpCode, is_ephemeral: bool },
    Delete(String),
}

#[derive(Clone, Debug)]
enum Act {
    One(Op),
    Multi(Vec<Op>),
    Closes,
    Opens,
    Reap(String),
}

/// One server: what its sequencer holds, and a shard that is told the changes alone.
struct Server {
    state: State,
    shard: Table,
}

impl Server {
    fn take(&mut self, batch: &[u8], mut each: impl FnMut(&Answer)) {
        let shard = &mut self.shard;
        let applied = self.state.apply_batch(batch, |_, outcome| {
            outcome.changes.iter().for_each(|change| shard.install(change));
            each(&outcome.answer);
        });
        assert_eq!(applied, Ok(true));
    }
}

/// A snapshot that is being taken.
struct Copying {
    head: SnapshotHead,
    parts: Vec<Vec<Node>>,
    /// What was applied since it began.
    since: Vec<Vec<u8>>,
}

struct World {
    dice: Dice,
    old: Server,
    /// Began from the last snapshot and the batches after it.
    new: Server,
    copying: Option<Copying>,
    snapshots: u64,
    /// What is there beside the server's own, and whose ephemeral it is.
    model: BTreeMap<String, Option<i64>>,
    /// The children of the two lists.
    lists: [BTreeSet<String>; 2],
    sessions: BTreeSet<i64>,
    sequence: u64,
    refused: u64,
    /// Multis that were taken back after they had done something.
    halves: u64,
}

fn server(key: u64) -> Server {
    let state = State::new(PathHasher::new([key, 2, 3, 4]));
    Server { shard: state.table.clone(), state }
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            dice: Dice(seed),
            old: server(1),
            new: server(2),
            copying: None,
            snapshots: 0,
            model: BTreeMap::new(),
            lists: Default::default(),
            sessions: BTreeSet::new(),
            sequence: 0,
            refused: 0,
            halves: 0,
        };
        let create = |path: &str, op| Act::One(Op::Create { path: path.to_owned(), op, is_ephemeral: false });
        let mut acts: Vec<(i64, Act)> = (1..=SESSIONS).map(|session| (session, Act::Opens)).collect();
        for path in [MANY, FEW, "/zookeeper/quota/many", "/zookeeper/quota/many/zookeeper_stats"] {
            acts.push((1, create(path, OpCode::Create)));
        }
        world.play(&acts);
        world
    }

    fn children(&self, parent: &str) -> &BTreeSet<String> {
        &self.lists[usize::from(parent == FEW)]
    }

    /// The first child, the last or any.
    fn child(&mut self, parent: &str) -> Option<String> {
        let which = self.dice.below(4);
        let from = format!("{parent}/{}", self.dice.below(1 << 20));
        let children = self.children(parent);
        let any = || children.range(from..).next();
        let child = match which {
            0 => children.first(),
            1 => children.last(),
            _ => any().or_else(|| children.first()),
        };
        child.cloned()
    }

    fn op(&mut self, target: usize) -> Op {
        let (parent, grows) = match self.dice.below(10) {
            0..=2 => (FEW, self.dice.below(2) == 0),
            3 => (MANY, self.dice.below(2) == 0),
            _ => (MANY, self.children(MANY).len() < target),
        };
        let len = self.children(parent).len();
        let least = if parent == FEW { 6 } else { 0 };
        if len > least && (!grows || parent == FEW && len > 11) {
            if let Some(child) = self.child(parent) {
                return Op::Delete(child);
            }
        }
        let name = self.dice.below(1 << 20);
        let op = if self.dice.below(12) == 0 { OpCode::CreateContainer } else { OpCode::Create };
        let is_ephemeral = op == OpCode::Create && self.dice.below(4) == 0;
        Op::Create { path: format!("{parent}/{name}"), op, is_ephemeral }
    }

    fn act(&mut self, target: usize) -> Act {
        match self.dice.below(40) {
            0 => Act::Closes,
            // A container that was used and is empty, or is not.
            1..=3 => Act::Reap(self.child(MANY).unwrap_or_else(|| MANY.to_owned())),
            4..=6 => {
                let Some(parent) = self.child(MANY) else { return Act::One(self.op(target)) };
                let child = format!("{parent}/x");
                let create = Op::Create { path: child.clone(), op: OpCode::Create, is_ephemeral: false };
                Act::Multi(vec![create, Op::Delete(child)])
            }
            7..=20 => {
                let mut ops: Vec<Op> = (0..1 + self.dice.below(24)).map(|_| self.op(target)).collect();
                // Some come and go within it, some go and come again.
                if self.dice.below(3) == 0 {
                    let again = match &ops[0] {
                        Op::Create { path, .. } => Op::Delete(path.clone()),
                        Op::Delete(path) => {
                            Op::Create { path: path.clone(), op: OpCode::Create, is_ephemeral: false }
                        }
                    };
                    ops.push(again);
                }
                if self.dice.below(3) == 0 {
                    ops.push(Op::Delete("/nobody".to_owned()));
                }
                Act::Multi(ops)
            }
            _ => Act::One(self.op(target)),
        }
    }

    /// One batch, through both servers, and the model after what they answered.
    fn play(&mut self, acts: &[(i64, Act)]) {
        self.sequence += 1;
        let mut writer = BatchWriter::new(0);
        for (session, act) in acts {
            let (mut request, mut op) = (Vec::new(), OpCode::Multi);
            let body = match act {
                Act::Opens => TxnBody::CreateSession { timeout_ms: 4_000, password: PASSWORD },
                Act::Closes => TxnBody::CloseSession,
                Act::Reap(path) => TxnBody::Reap { path },
                Act::One(one) => {
                    op = encode(one, &mut request);
                    TxnBody::Request { op: op.as_i32(), identities: &[], request: &request }
                }
                Act::Multi(ops) => {
                    for one in ops {
                        let mut body = Vec::new();
                        let op = encode(one, &mut body);
                        put_multi_header(&mut request, op.as_i32(), false, -1);
                        request.extend(body);
                    }
                    put_multi_end(&mut request);
                    TxnBody::Request { op: op.as_i32(), identities: &[], request: &request }
                }
            };
            let (session, shard, conn) = (SessionId(*session), ShardId(0), ConnId(*session as u64));
            writer.push(&Txn { session, shard, conn, xid: Xid(1), body });
        }
        let header = BatchHeader {
            options: Options::default(),
            wall: WallMillis(1_000),
            first_zxid: Zxid(self.old.state.last_zxid().0 + 1),
            server: ServerId(1),
            incarnation: 5,
            sequence: self.sequence,
        };
        let batch = writer.finish(&header).to_vec();
        let mut answers = Vec::new();
        self.old.take(&batch, |answer| answers.push(is_ok(answer)));
        let mut again = answers.iter();
        self.new.take(&batch, |answer| assert_eq!(again.next(), Some(&is_ok(answer))));
        for ((session, act), ok) in acts.iter().zip(answers) {
            self.refused += u64::from(!ok);
            if ok {
                self.did(*session, act);
            } else if matches!(act, Act::Multi(ops) if ops.len() > 1) {
                self.halves += 1;
            }
        }
        if let Some(copying) = &mut self.copying {
            copying.since.push(batch);
        }
    }

    fn did(&mut self, session: i64, act: &Act) {
        let ops = match act {
            Act::One(op) => std::slice::from_ref(op),
            Act::Multi(ops) => ops,
            Act::Reap(path) => return self.went(path),
            Act::Opens => return assert!(self.sessions.insert(session)),
            Act::Closes => {
                self.sessions.remove(&session);
                let owned = self.model.iter().filter(|(_, owner)| **owner == Some(session));
                let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
                return owned.iter().for_each(|path| self.went(path));
            }
        };
        for op in ops {
            match op {
                Op::Create { path, is_ephemeral, .. } => self.came(path, is_ephemeral.then_some(session)),
                Op::Delete(path) => self.went(path),
            }
        }
    }

    fn list_of(&mut self, path: &str) -> Option<&mut BTreeSet<String>> {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let at = [MANY, FEW].iter().position(|list| parent == Some(list))?;
        Some(&mut self.lists[at])
    }

    fn came(&mut self, path: &str, owner: Option<i64>) {
        assert!(self.model.insert(path.to_owned(), owner).is_none(), "{path} came twice");
        self.list_of(path).map(|list| list.insert(path.to_owned()));
    }

    fn went(&mut self, path: &str) {
        assert!(self.model.remove(path).is_some(), "{path} went twice");
        self.list_of(path).map(|list| list.remove(path));
    }

    /// A snapshot begins, goes on by a stripe, or becomes a server.
    fn snapshot(&mut self) {
        let Some(copying) = &mut self.copying else {
            if self.dice.below(6) == 0 {
                let head = self.old.state.snapshot_head();
                self.old.state.start_snapshot();
                self.copying = Some(Copying { head, parts: Vec::new(), since: Vec::new() });
            }
            return;
        };
        if let Some(parts) = self.old.state.copy_stripes(1) {
            copying.parts.extend(parts);
            return;
        }
        let Copying { head, parts, since } = self.copying.take().unwrap();
        let mut file = Vec::new();
        let mut encoder = Encoder::begin(&mut file, &Meta::default(), &head).unwrap();
        parts.iter().for_each(|nodes| encoder.nodes(nodes).unwrap());
        encoder.finish().unwrap();
        self.snapshots += 1;
        let state = decode(&mut &file[..], PathHasher::new([self.snapshots, 7, 8, 9])).unwrap().state;
        self.new = Server { shard: state.table.clone(), state };
        for batch in since {
            self.new.take(&batch, |_| {});
        }
    }

    fn compare(&self) {
        assert_eq!(self.old.state.digest(), self.new.state.digest());
        // The root and three of the server's own.
        let all = 4 + self.model.len();
        let tables = [&self.old.state.table, &self.old.shard, &self.new.state.table, &self.new.shard];
        for parent in [MANY, FEW] {
            let want = self.children(parent);
            // All of a long list now and then.
            if want.len() > 100 && !self.sequence.is_multiple_of(8) {
                continue;
            }
            let places = tables.map(|table| check_family(table, parent, want));
            assert_eq!(places[0], places[1], "a shard's children stand where the sequencer's do");
            assert_eq!(places[2], places[3], "a shard's children stand where the sequencer's do");
        }
        assert_eq!(tables.map(Table::len), [all; 4]);
    }
}

/// The children that are meant, each in a place of its own, and the next one in the lowest that is free.
fn check_family(table: &Table, parent: &str, want: &BTreeSet<String>) -> Vec<u32> {
    let mut listed: Vec<&str> =
        table.children(parent).map_or(vec![], |all| all.iter().map(|path| path.as_str()).collect());
    listed.sort_unstable();
    assert!(listed.iter().eq(want), "{parent}: {listed:?} for {want:?}");
    assert_eq!(table.children(parent).map_or(0, |all| all.len()), want.len(), "{parent}");
    assert_eq!(table.get(parent).unwrap().num_children as usize, want.len(), "{parent}");
    let places: Vec<u32> = want.iter().map(|path| table.get(path).expect(path).place).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert!(sorted.is_sorted_by(|a, b| a < b), "two children in one place");
    let free = (0..).zip(&sorted).find(|(at, place)| at != *place).map_or(sorted.len() as u32, |(at, _)| at);
    assert_eq!(table.free_place(parent), free, "the lowest free place is the next");
    places
}

fn encode(op: &Op, out: &mut Vec<u8>) -> OpCode {
    match op {
        Op::Create { path, op, is_ephemeral } => {
            let open = AclRef {
                perms: Perms::ALL,
                id: IdRef { scheme: Some("world".into()), id: Some("anyone".into()) },
            };
            let flags = match op {
                OpCode::CreateContainer => 4,
                _ => i32::from(*is_ephemeral),
            };
            let path = Some(Cow::Borrowed(path.as_str()));
            Create { path, data: Some(b"x"), acl: Some(vec![open]), flags, ttl_ms: -1 }.encode(*op, out);
            *op
        }
        Op::Delete(path) => {
            Delete { path: Some(Cow::Borrowed(path)), version: -1 }.encode(out);
            OpCode::Delete
        }
    }
}

fn is_ok(answer: &Answer) -> bool {
    match answer {
        Answer::Code(code) => code.as_i32() == 0,
        // A failed one's first result is an error record: type -1, even where the error is 0.
        Answer::Multi(results) => results[..4] != [255; 4],
        Answer::Path(_) | Answer::PathAndStat(_) | Answer::Session(_) => true,
        other => panic!("{other:?}"),
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let mut batches = 0;
    for target in TARGETS {
        let mut left = 10;
        while left > 0 {
            let acts = 1 + world.dice.below(24);
            let mut played = Vec::new();
            for session in 1..=SESSIONS {
                if !world.sessions.contains(&session) {
                    played.push((session, Act::Opens));
                }
            }
            for _ in 0..acts {
                let session = 1 + world.dice.below(SESSIONS as u64) as i64;
                let act = world.act(target);
                let closes = matches!(act, Act::Closes);
                played.push((session, act));
                if closes {
                    break;
                }
            }
            world.play(&played);
            world.snapshot();
            world.compare();
            batches += 1;
            // Around the target for a while.
            if world.children(MANY).len().abs_diff(target) < 40 {
                left -= 1;
            }
        }
    }
    assert!(world.snapshots > 5, "{} snapshots", world.snapshots);
    assert!(world.halves > 50 && world.refused > 50, "{} of {}", world.halves, world.refused);
    println!("seed {seed}: {batches} batches, {} snapshots, {} halves", world.snapshots, world.halves);
}

#[test]
fn children_are_the_same_wherever_they_stand() {
    let seeds = std::env::var("PLACES_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    (1..=seeds).for_each(run);
}
