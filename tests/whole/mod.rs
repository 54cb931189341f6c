//! A server without threads and sockets: the real sequencer, the real log and real snapshots on a disk of the test's
//! choice, driven step by step, with a model of every state that it was in.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringkeeper::apply::{Options as TxnOptions, SnapshotHead, State};
use ringkeeper::handoff::{Proposal, Publication, Upward, Wish};
use ringkeeper::host::disk::{publish_file, purge_snapshots, Disk, Log, LogError, SubmitError};
use ringkeeper::host::Recovery;
use ringkeeper::ids::{
    ConnId, LogIndex, Millis, Seat, ServerId, SessionId, ShardId, Term, WallMillis, Xid, Zxid,
};
use ringkeeper::log::Sequence;
use ringkeeper::sequencer::{Effect, Input, Logged, Now, Options, Sequencer};
use ringkeeper::snapshot::{Encoder, Meta};
use ringkeeper::tree::{Answer, Node, PathHasher};
use ringkeeper::wire::{AclRef, Create, Delete, IdRef, MultiItem, OpCode, Perms, SetData};

use super::power::{Dice, PowerDisk};

/// The hasher of every table here.
pub fn hasher() -> PathHasher {
    PathHasher::new([1, 2, 3, 4])
}

/// All of a state that a client could see, in short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    digest: u64,
    nodes: usize,
    zxid: Zxid,
    sessions: Vec<(SessionId, i32)>,
}

pub fn point(state: &State) -> Point {
    Point {
        digest: state.digest(),
        nodes: state.table.len(),
        zxid: state.last_zxid(),
        sessions: state.sessions.iter().map(|(id, session)| (id, session.timeout_ms)).collect(),
    }
}

/// Remarks in the event stream of a recording disk: how far the history was submitted or acknowledged.
pub const SUBMITTING: u64 = 0;
pub const ACKED: u64 = 1;

/// Where the server lives.
#[derive(Clone)]
pub struct Home {
    pub disk: Arc<dyn Disk>,
    pub snapshots: PathBuf,
    pub cluster: u128,
    pub marks: Option<PowerDisk>,
}

struct Snapshot {
    index: LogIndex,
    term: Term,
    head: Box<SnapshotHead>,
    parts: Vec<Vec<Node>>,
    is_whole: bool,
}

pub struct World {
    pub home: Home,
    pub sequencer: Sequencer,
    pub log: Log,
    pub dice: Dice,
    /// The payload of entry 1 and on.
    pub history: Vec<Bytes>,
    /// The state before entry 1 and after each.
    pub points: Vec<Point>,
    shadow: State,
    /// Entries that are durable: their clients have their answers.
    pub acked: usize,
    now: Now,
    records: u64,
    to_append: VecDeque<Logged>,
    /// The log's number, ours, and the entry's (0: none).
    in_flight: VecDeque<(Sequence, u64, u64)>,
    snapshot: Option<Snapshot>,
    sessions: Vec<(SessionId, ConnId)>,
    conns: u64,
    pub snapshots_written: usize,
}

fn options(seed: u64) -> Options {
    Options {
        server: ServerId(1),
        incarnation: seed | 1,
        seed: [seed as u8; 32],
        txn: TxnOptions::default(),
        tick_ms: 1_000,
        shards: 1,
        snapshot_txns: 25,
        snapshot_bytes: u64::MAX,
        seat: Seat::new(ServerId(1), 0),
        birth: 1,
        rules: 1,
        lines: BTreeMap::new(),
        leaderless_ms: 10_000,
        local_sessions: false,
        local_sessions_upgrade: false,
        read_only_mode: false,
        snapshot_grows: false,
        reap_interval_ms: 1_000,
        reap_per_minute: 10_000,
        reap_never_used_ms: 0,
        in_flight_max: 2,
    }
}

impl World {
    /// Goes on from what recovery has found, which must be a prefix of `history` with at least `low` entries, and
    /// lead to the state after exactly that prefix.
    pub fn begin(
        home: Home,
        recovery: Recovery,
        mut history: Vec<Bytes>,
        low: usize,
        seed: u64,
    ) -> Result<World, LogError> {
        let found = usize::try_from(recovery.log.last_index().0).unwrap();
        assert!(found >= low, "lost: entry {low} was acknowledged, {found} are left");
        assert!(found <= history.len(), "invented: {found} entries, {} were written", history.len());
        history.truncate(found);
        let mut shadow = State::new(hasher());
        let mut points = vec![point(&shadow)];
        for payload in &history {
            apply(&mut shadow, payload);
            points.push(point(&shadow));
        }
        let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
        let Recovery { state, log, recovered } = recovery;
        let mut world = World {
            home,
            sequencer: Sequencer::new(options(seed), state, recovered, now),
            log,
            dice: Dice(seed),
            acked: found,
            history,
            points,
            shadow,
            now,
            records: 0,
            to_append: VecDeque::new(),
            in_flight: VecDeque::new(),
            snapshot: None,
            sessions: Vec::new(),
            conns: 0,
            snapshots_written: 0,
        };
        world.tick();
        world.settle()?;
        assert!(world.sequencer.is_serving(), "a server alone leads at once");
        let state = point(world.sequencer.state());
        assert_eq!(state, world.points[found], "the state is not the one after the entries that are there");
        Ok(world)
    }

    /// A random act, and what follows from it.
    pub fn step(&mut self) {
        match self.dice.below(20) {
            0..=10 => self.propose(),
            11..=13 => self.log.poll().unwrap(),
            14 => {
                let (wake, _bell) = std::io::pipe().unwrap();
                self.log.wait(Duration::ZERO, wake.as_fd()).unwrap();
            }
            15 | 16 => self.finish_snapshot(),
            17 => self.tick(),
            _ => self.log.drain().unwrap(),
        }
        self.drive().unwrap();
    }

    /// Until nothing is under way.
    pub fn settle(&mut self) -> Result<(), LogError> {
        loop {
            let did_work = self.drive()?;
            if !did_work && self.to_append.is_empty() && self.in_flight.is_empty() {
                return Ok(());
            }
            self.log.drain()?;
        }
    }

    fn tick(&mut self) {
        self.now.mono = self.now.mono.plus(Millis(10));
        self.now.wall.0 += 10;
        self.sequencer.handle(self.now, Input::Tick);
    }

    /// As the sequencer's thread does it.
    fn drive(&mut self) -> Result<bool, LogError> {
        let mut did_work = self.reap();
        self.sequencer.turn(self.now);
        while let Some(effect) = self.sequencer.next_effect() {
            did_work = true;
            match effect {
                Effect::Append(logged) => self.to_append.push_back(logged),
                Effect::Publish(publication) => self.on_published(&publication),
                Effect::Read { index } => {
                    let payload = self.log.read(index)?;
                    self.sequencer.handle(self.now, Input::Read { index, payload });
                }
                Effect::SnapshotBegin { index, term, head } => {
                    self.snapshot = Some(Snapshot { index, term, head, parts: Vec::new(), is_whole: false });
                }
                Effect::SnapshotAbort
                | Effect::Fetch { .. }
                | Effect::Install { .. }
                | Effect::Discard(_)
                | Effect::Seat(_) => {
                    unreachable!("nobody offers a server alone a snapshot or a seat")
                }
                Effect::SnapshotNodes(parts) => self.snapshot.as_mut().unwrap().parts.extend(parts),
                Effect::SnapshotEnd => self.snapshot.as_mut().unwrap().is_whole = true,
                Effect::Send(_) => unreachable!("a server alone has nobody to say anything to"),
                Effect::Note(_) => {}
            }
        }
        self.submit();
        Ok(did_work)
    }

    fn reap(&mut self) -> bool {
        let durable = self.log.durable();
        let mut persisted = None;
        while let Some((_, record, index)) = self.in_flight.front().copied().filter(|f| f.0 <= durable) {
            self.in_flight.pop_front();
            persisted = Some(record);
            if index > 0 {
                self.acked = usize::try_from(index).unwrap();
            }
        }
        let Some(records) = persisted else { return false };
        if let Some(disk) = &self.home.marks {
            disk.mark(self.acked as u64 * 2 + ACKED);
        }
        self.sequencer.handle(self.now, Input::Persisted { records });
        true
    }

    fn submit(&mut self) {
        while let Some(logged) = self.to_append.front() {
            if !self.log.can_submit() {
                return;
            }
            let payload: &[&[u8]] = &[&logged.payload];
            let append = logged.record(payload);
            if logged.index.0 > 0 {
                assert_eq!(logged.index.0, self.history.len() as u64 + 1, "a server alone replaces nothing");
                self.history.push(logged.payload.clone());
                apply(&mut self.shadow, &logged.payload);
                self.points.push(point(&self.shadow));
                if let Some(disk) = &self.home.marks {
                    disk.mark(self.history.len() as u64 * 2 + SUBMITTING);
                }
            }
            let sequence = match self.log.submit(&append) {
                Ok(sequence) => sequence,
                Err(SubmitError::Full) => unreachable!("there was room"),
                Err(other) => panic!("{other}"),
            };
            self.records += 1;
            self.in_flight.push_back((sequence, self.records, logged.index.0));
            self.to_append.pop_front();
        }
    }

    fn on_published(&mut self, publication: &Publication) {
        for committed in &publication.committed {
            if let (Answer::Session(granted), Some(to)) = (&committed.answer, committed.to) {
                self.sessions.push((granted.id, to.conn));
            }
        }
    }

    /// Writes a snapshot that was copied, purges as the server does, and tells the machine.
    fn finish_snapshot(&mut self) {
        let Some(snapshot) = self.snapshot.take_if(|s| s.is_whole) else { return };
        let Snapshot { index, term, head, parts, .. } = snapshot;
        let meta = Meta { cluster: self.home.cluster, index, term };
        let path = self.home.snapshots.join(format!("{:016x}-{:016x}.snap", index.0, head.last_zxid.0));
        let written = publish_file(&*self.home.disk, &path, |out: &mut dyn Write| {
            let mut encoder = Encoder::begin(out, &meta, &head)?;
            for nodes in &parts {
                encoder.nodes(nodes)?;
            }
            encoder.finish()?;
            Ok(())
        });
        written.unwrap();
        self.snapshots_written += 1;
        let oldest = purge_snapshots(&*self.home.disk, &self.home.snapshots, 2).unwrap();
        self.sequencer.handle(self.now, Input::SnapshotDone { written: true });
        if let Some(oldest) = oldest {
            self.log.purge(LogIndex(oldest.0 + 1));
        }
    }

    fn propose(&mut self) {
        let mut arena = Vec::new();
        let mut proposals = Vec::new();
        for n in 0..1 + self.dice.below(4) {
            let (session, conn, wish) = self.wish(&mut arena);
            proposals.push(Proposal { session, conn, xid: Xid(i32::try_from(n).unwrap()), wish });
        }
        let up = Upward { shard: ShardId(0), arena, proposals, heard: None };
        self.sequencer.handle(self.now, Input::Up(up));
    }

    fn wish(&mut self, arena: &mut Vec<u8>) -> (SessionId, ConnId, Wish) {
        if self.sessions.is_empty() || self.dice.one_in(40) {
            self.conns += 1;
            return (SessionId::NONE, ConnId(self.conns), Wish::CreateSession { timeout_ms: 4_000 });
        }
        let at = self.dice.below(self.sessions.len() as u64) as usize;
        let (session, conn) = self.sessions[at];
        let from = arena.len() as u32;
        let op = match self.dice.below(60) {
            0 => {
                self.sessions.remove(at);
                OpCode::CloseSession
            }
            1..=24 => {
                self.create().encode(OpCode::Create, arena);
                OpCode::Create
            }
            25..=44 => {
                self.set_data().encode(arena);
                OpCode::SetData
            }
            45..=54 => {
                Delete { path: self.path(), version: -1 }.encode(arena);
                OpCode::Delete
            }
            _ => {
                let items =
                    [MultiItem::Create(OpCode::Create, self.create()), MultiItem::SetData(self.set_data())];
                encode_multi(&items, arena);
                OpCode::Multi
            }
        };
        let wish = Wish::Write { op: op.as_i32(), identities: from..from, request: from..arena.len() as u32 };
        (session, conn, wish)
    }

    fn path(&mut self) -> Option<Cow<'static, str>> {
        let (a, b) = (self.dice.below(9), self.dice.below(12));
        Some(Cow::Owned(if b < 4 { format!("/a{a}") } else { format!("/a{a}/b{b}") }))
    }

    fn create(&mut self) -> Create<'static> {
        let open = AclRef {
            perms: Perms::ALL,
            id: IdRef { scheme: Some("world".into()), id: Some("anyone".into()) },
        };
        let flags = if self.dice.one_in(3) { i32::try_from(self.dice.below(3)).unwrap() } else { 0 };
        Create { path: self.path(), data: Some(self.data()), acl: Some(vec![open]), flags, ttl_ms: -1 }
    }

    fn set_data(&mut self) -> SetData<'static> {
        SetData { path: self.path(), data: Some(self.data()), version: -1 }
    }

    fn data(&mut self) -> &'static [u8] {
        const FILL: [u8; 9000] = [0x5a; 9000];
        let long = self.dice.one_in(20);
        &FILL[..self.dice.below(if long { 9000 } else { 300 }) as usize]
    }
}

fn encode_multi(items: &[MultiItem<'_>], out: &mut Vec<u8>) {
    let header = |out: &mut Vec<u8>, op: i32, done: bool| {
        ringkeeper::wire::put_i32(out, op);
        out.push(u8::from(done));
        ringkeeper::wire::put_i32(out, -1);
    };
    for item in items {
        match item {
            MultiItem::Create(op, create) => {
                header(out, op.as_i32(), false);
                create.encode(*op, out);
            }
            MultiItem::SetData(set) => {
                header(out, OpCode::SetData.as_i32(), false);
                set.encode(out);
            }
            _ => unreachable!("the test writes no other"),
        }
    }
    header(out, -1, true);
}

fn apply(state: &mut State, payload: &[u8]) {
    if !payload.is_empty() {
        state.apply_batch(payload, |_, _| {}).expect("what the sequencer writes decodes");
    }
}
