//! One server: the real sequencer and the real shard, a log that becomes durable in its own time, and connections as
//! byte vectors. What `host` does between them is done here, in the same order.

use crate::dice::Dice;
use crate::disk::{Disk, Snapshot};
use crate::locals::Locals;
use crate::machines::{default_options, table_of, KEY};
use crate::net::Net;
use bytes::Bytes;
use ringkeeper::apply::{Options as TxnOptions, SnapshotHead, State};
use ringkeeper::handoff::{Publication, Upward};
use ringkeeper::ids::{ConnId, LogIndex, Millis, Seat, ServerId, Term, WallMillis};
use ringkeeper::membership::ServerEntry;
use ringkeeper::peer;
use ringkeeper::sequencer::{self, Effect, Input, Install, Note, Now, RecoveredLog, Sequencer, Serving};
use ringkeeper::shard::{self, Place, Shard, Slices};
use ringkeeper::tree::{Node, PathHasher};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Moments of this length: servers and clients get a turn in each.
pub const PULSE_MS: u64 = 5;
/// As the host ticks an ensemble's sequencer.
const TICK_MS: u64 = 25;

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskManners {
    pub write_ms: u64,
    pub slow_permille: u64,
    pub slow_ms: u64,
}

/// A client's connection, the server's end.
#[derive(Default)]
pub struct Wire {
    pub to_server: Vec<u8>,
    pub from_server: Vec<u8>,
    pub is_closed: bool,
}

pub struct Server {
    pub id: u8,
    pub incarnation: u64,
    /// New sessions may be local ones.
    pub grants_local: bool,
    pub sequencer: Sequencer,
    pub disk: Disk,
    pub shard: Shard,
    up: VecDeque<Upward>,
    ring: VecDeque<Arc<Publication>>,
    taken: u64,
    pub served: bool,
    serving: Serving,
    pub wires: BTreeMap<ConnId, Wire>,
    records: u64,
    ticked_at: u64,
    /// Until then it sleeps, through so many ticks at the most.
    wakes_at: u64,
    may_sleep: u64,
    /// Until then the process gets no turn.
    pub paused_until: u64,
    /// Its wall clock runs ahead of the world's by so much; monotonic time counts from the process's start, and goes wrong
    /// by so many parts in a million.
    started_at: u64,
    pub wall_skew: i64,
    drift_ppm: i64,
    manners: DiskManners,
    dice: Dice,
    pub notes: Vec<Note>,
    /// When it gave its vote last, and to whom.
    pub voted: Option<(u64, u8)>,
    /// What came while the process stood still.
    inbox: VecDeque<Input>,
    /// Peers whose connection is another one by now: what is said to them before that is known goes into the old one.
    lost: Vec<ServerId>,
    /// The snapshot whose parts come, and the one that is being written.
    copied: Option<Copied>,
    written: Option<(u64, Snapshot)>,
    pub fetch: Option<Fetch>,
    /// Snapshots of others that took the log's place.
    pub installed: u64,
    /// A write of its log failed: the process ends.
    pub is_failed: bool,
}

type Copied = (LogIndex, Term, Box<SnapshotHead>, Vec<Vec<Node>>);

/// A snapshot of another server that is wanted: when it may be here, and when it is given up.
#[derive(Clone, Copy)]
pub struct Fetch {
    pub from: u8,
    pub index: LogIndex,
    pub due: u64,
    pub until: u64,
}

pub struct Birth {
    pub id: u8,
    /// The lines of its configuration.
    pub lines: BTreeMap<ServerId, ServerEntry>,
    pub incarnation: u64,
    pub rules: u32,
    pub disk: Disk,
    /// What the disk held.
    pub found: (State, RecoveredLog),
    pub manners: DiskManners,
    pub wall_skew: i64,
    pub drift_ppm: i64,
    pub snapshot_txns: u64,
    pub slices: Slices,
    pub locals: Locals,
}

impl Server {
    pub fn start(birth: Birth, now: u64, mut dice: Dice) -> Server {
        let mut seed = [0; 32];
        seed.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&dice.roll().to_le_bytes()));
        let (options, shard) = (sequencer_options(&birth, seed), shard_options(&birth));
        let wall = wall(now, birth.wall_skew);
        let (state, log) = birth.found;
        Server {
            id: birth.id,
            incarnation: birth.incarnation,
            grants_local: birth.locals.are_on,
            sequencer: Sequencer::new(options, state, log, Now { mono: Millis(1_000), wall }),
            disk: birth.disk,
            shard: Shard::new(shard, PathHasher::new(KEY), Millis(1_000)),
            up: VecDeque::new(),
            ring: VecDeque::new(),
            taken: 0,
            served: false,
            serving: Serving::No,
            wires: BTreeMap::new(),
            records: 0,
            ticked_at: 0,
            wakes_at: 0,
            may_sleep: 1,
            paused_until: 0,
            started_at: now,
            wall_skew: birth.wall_skew,
            drift_ppm: birth.drift_ppm,
            manners: birth.manners,
            dice,
            notes: Vec::new(),
            voted: None,
            inbox: VecDeque::new(),
            lost: Vec::new(),
            copied: None,
            written: None,
            fetch: None,
            installed: 0,
            is_failed: false,
        }
    }

    pub fn now(&self, world: u64) -> Now {
        let since = world - self.started_at;
        let drift = i64::try_from(since).expect("a run is short") * self.drift_ppm / 1_000_000;
        Now { mono: Millis((1_000 + since).saturating_add_signed(drift)), wall: wall(world, self.wall_skew) }
    }

    /// The process dies. Of what was under way to the disk a part has arrived.
    pub fn crash(mut self) -> Disk {
        let kept = self.dice.pick(self.disk.under_way.len() + 1);
        self.disk.crash(kept);
        self.disk
    }

    pub fn handle(&mut self, world: u64, input: Input) {
        if self.is_paused(world) || !self.inbox.is_empty() {
            return self.inbox.push_back(input);
        }
        self.count_slept_ticks(world);
        let now = self.now(world);
        self.sequencer.handle(now, input);
    }

    /// As the host does: before anything is heard.
    fn count_slept_ticks(&mut self, world: u64) {
        self.wakes_at = world;
        let may_sleep = std::mem::replace(&mut self.may_sleep, 1);
        let ticks = (world - self.ticked_at) / TICK_MS;
        if may_sleep <= 1 || ticks == 0 {
            return;
        }
        let now = self.now(world);
        let slept = ticks.min(may_sleep) - 1;
        if slept > 0 {
            self.sequencer.handle(now, Input::Slept { ticks: slept });
        }
        self.tick(world, now);
    }

    fn tick(&mut self, world: u64, now: Now) {
        self.ticked_at = world;
        self.sequencer.handle(now, Input::Tick);
        self.shard.tick(now.mono);
    }

    /// The seat that it takes itself to have.
    pub fn seat(&self) -> Seat {
        self.sequencer.seat()
    }

    pub fn is_paused(&self, world: u64) -> bool {
        world < self.paused_until
    }

    /// All its threads, until nobody has anything to do.
    pub fn turn(&mut self, world: u64, net: &mut Net) {
        let now = self.now(world);
        // Awake again, its threads look at clients first, or at peers.
        let waiting = std::mem::take(&mut self.inbox);
        if !waiting.is_empty() {
            self.count_slept_ticks(world);
        }
        if !waiting.is_empty() && self.dice.permille(500) {
            let lost = |input: &Input| if let Input::PeerDown(peer) = input { Some(*peer) } else { None };
            self.lost = waiting.iter().filter_map(lost).collect();
            while self.shard_turn(now) | self.sequencer_turn(world, now, net) {}
            self.lost.clear();
        }
        waiting.into_iter().for_each(|input| self.sequencer.handle(now, input));
        // A quiet server sleeps through some ticks, unless something wakes it.
        if world >= self.ticked_at + TICK_MS && (world >= self.wakes_at || !self.up.is_empty()) {
            self.count_slept_ticks(world);
            if self.ticked_at < world {
                self.tick(world, now);
            }
        }
        let Ok(durable) = self.disk.turn(world) else { return self.is_failed = true };
        if self.written.as_ref().is_some_and(|(due, _)| *due <= world) {
            let (_, snapshot) = self.written.take().expect("it was looked at just now");
            let first = self.disk.add(&snapshot);
            self.sequencer.handle(now, Input::SnapshotDone { written: first.is_some() });
            if let Some(first) = first {
                self.sequencer.handle(now, Input::Purged { first });
            }
        }
        if durable > 0 {
            let records = self.records - self.disk.under_way.len() as u64;
            self.sequencer.handle(now, Input::Persisted { records });
        }
        while self.shard_turn(now) | self.sequencer_turn(world, now, net) {}
        if self.is_failed {
            return;
        }
        // One slice between two looks at the sockets: a crowd may be told in part when the next request comes.
        self.shard.tell_slice();
        self.flush(now);
        self.may_sleep = self.sequencer.quiet_ticks();
        self.wakes_at = self.ticked_at + self.may_sleep * TICK_MS;
    }

    fn sequencer_turn(&mut self, world: u64, now: Now, net: &mut Net) -> bool {
        if self.is_failed {
            return false;
        }
        let mut any = false;
        while self.sequencer.wants_proposals() {
            let Some(up) = self.up.pop_front() else { break };
            any = true;
            self.sequencer.handle(now, Input::Up(up));
        }
        self.sequencer.turn(now);
        while let Some(effect) = self.sequencer.next_effect().filter(|_| !self.is_failed) {
            any = true;
            match effect {
                Effect::Append(record) => {
                    let mut due = world + 1 + self.dice.below(self.manners.write_ms + 1);
                    if self.dice.permille(self.manners.slow_permille) {
                        due += self.dice.below(self.manners.slow_ms);
                    }
                    due = due.max(self.disk.under_way.back().map_or(0, |last| last.due));
                    self.records += 1;
                    self.disk.append(world, due, record);
                }
                Effect::Send(addressed) if self.lost.contains(&addressed.to) => {}
                Effect::Send(mut addressed) => {
                    if !self.fill(&mut addressed.message) {
                        continue;
                    }
                    if is_vote(&addressed.message) {
                        self.voted = Some((world, addressed.to.0));
                    }
                    let mut bytes = Vec::new();
                    peer::encode(&mut bytes, &addressed.message);
                    net.send(world, self.id, addressed.to.0, Bytes::from(bytes));
                }
                Effect::Publish(publication) if self.served => self.ring.push_back(publication),
                Effect::Publish(_) => {}
                Effect::Note(note) => self.notes.push(note),
                Effect::Read { index } => {
                    let payload = self.disk.payload(index);
                    self.sequencer.handle(now, Input::Read { index, payload });
                }
                Effect::SnapshotBegin { index, term, head } => {
                    self.copied = Some((index, term, head, Vec::new()));
                }
                Effect::SnapshotNodes(parts) => {
                    self.copied.as_mut().expect("a snapshot begins first").3.extend(parts);
                }
                Effect::SnapshotEnd => {
                    let (index, term, head, parts) = self.copied.take().expect("a snapshot begins first");
                    let due = world + self.dice.below(500);
                    self.written = Some((due, Snapshot::of(index, term, &head, &parts)));
                }
                Effect::SnapshotAbort => {
                    self.copied = None;
                    self.sequencer.handle(now, Input::SnapshotDone { written: false });
                }
                Effect::Fetch { from, index, .. } => {
                    let due = world + self.dice.below(400);
                    self.fetch = Some(Fetch { from: from.0, index, due, until: due + 1_000 });
                }
                Effect::Seat(seat) => {
                    self.disk.seat = Some(seat);
                    self.sequencer.handle(now, Input::Seated(seat));
                }
                Effect::Install { at, .. } => self.install(now, &at),
                Effect::Discard(_) => {}
            }
        }
        self.is_failed = self.is_failed || self.disk.submit().is_err();
        if self.sequencer.serving() != self.serving {
            any = true;
            self.serving = self.sequencer.serving();
            self.served = self.serving != Serving::No;
            if self.served {
                self.serve();
            } else {
                self.shard.stop_serving();
            }
        }
        !self.is_failed && (any || self.sequencer.is_busy())
    }

    fn install(&mut self, now: Now, at: &Install) {
        if self.disk.restart_at(at).is_err() {
            return self.is_failed = true;
        }
        self.installed += 1;
        self.records += 1;
        self.serving = Serving::No;
        if std::mem::take(&mut self.served) {
            self.shard.stop_serving();
        }
        self.sequencer.handle(now, Input::Persisted { records: self.records });
    }

    /// Payloads that are not in memory come from the log. False: they are there no more.
    fn fill(&self, message: &mut peer::Message) -> bool {
        let peer::Message::Raft(raft) = message else { return true };
        let mut index = raft.index;
        for entry in &mut raft.entries {
            index.0 += 1;
            if entry.payload.is_none() {
                let Some(held) = self.disk.entry(index).filter(|held| held.term == entry.term) else {
                    return false;
                };
                entry.payload = Some(held.payload.clone());
            }
        }
        true
    }

    fn serve(&mut self) {
        if self.shard.is_serving() {
            self.shard.stop_serving();
        }
        let (state, sessions) = (self.sequencer.state(), self.sequencer.sessions());
        let _ = match self.serving {
            Serving::ReadOnly => self.shard.serve_read_only(table_of(state), state.last_zxid(), sessions),
            Serving::Yes | Serving::No => self.shard.serve(table_of(state), state.last_zxid(), sessions),
        };
        self.taken = self.sequencer.publications();
        self.ring.clear();
    }

    fn catch_up(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(publication) = self.ring.pop_front() {
            any = true;
            assert_eq!(publication.number, self.taken + 1, "no publication is missed");
            let mut next = Some(Place::default());
            while let Some(from) = next {
                let mut budget = if publication.number.is_multiple_of(2) { 1 } else { usize::MAX };
                next = self.shard.install_some(now.mono, &publication, from, &mut budget);
            }
            self.taken = publication.number;
        }
        any
    }

    fn shard_turn(&mut self, now: Now) -> bool {
        self.shard.observe(now.mono);
        let mut any = self.catch_up(now);
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        for id in ids {
            let wire = self.wires.get_mut(&id).expect("nobody takes one out meanwhile");
            if !wire.is_closed && !wire.to_server.is_empty() && self.shard.wants_input(id) {
                any = true;
                let bytes = std::mem::take(&mut wire.to_server);
                self.shard.received(now.mono, id, &bytes);
            }
        }
        any |= self.shard.answer_long(now.mono);
        while let Some(id) = self.shard.next_resumed() {
            any = true;
            self.shard.resume(now.mono, id);
        }
        if let Some(up) = self.shard.take_upward() {
            any = true;
            self.up.push_back(up);
        }
        while self.shard.next_word().is_some() {}
        while self.shard.next_note().is_some() {}
        any | self.flush(now)
    }

    fn flush(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(id) = self.shard.next_dirty() {
            any = true;
            let bytes = self.shard.output(id);
            let len = bytes.len();
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.from_server.extend_from_slice(bytes);
            }
            self.shard.wrote(now.mono, id, len);
        }
        while let Some(id) = self.shard.next_closed() {
            any = true;
            self.wires.get_mut(&id).expect("a connection is closed once").is_closed = true;
        }
        any
    }

    // ---- the clients' end ----

    /// By the listener whose connections read strictly, or by the other one.
    pub fn connect(&mut self, world: u64, is_strict: bool) -> ConnId {
        let (now, peer) = (self.now(world).mono, "127.0.0.1:4711".parse().expect("an address"));
        let id = if is_strict { self.shard.accept_strict(now, peer) } else { self.shard.accept(now, peer) };
        self.wires.insert(id, Wire::default());
        id
    }

    /// The client's end is gone.
    pub fn hang_up(&mut self, id: ConnId) {
        if self.wires.get(&id).is_some_and(|wire| !wire.is_closed) {
            self.shard.lost(id);
        }
    }
}

/// Raft's MsgRequestVoteResponse that grants.
fn is_vote(message: &peer::Message) -> bool {
    matches!(message, peer::Message::Raft(raft) if raft.kind == 6 && !raft.reject)
}

fn wall(world: u64, skew: i64) -> WallMillis {
    WallMillis(1_700_000_000_000 + i64::try_from(world).expect("a run is short") + skew)
}

fn sequencer_options(birth: &Birth, seed: [u8; 32]) -> sequencer::Options {
    sequencer::Options {
        server: ServerId(birth.id),
        seat: birth.disk.seat_of(ServerId(birth.id)),
        birth: birth.disk.birth,
        rules: birth.rules,
        lines: birth.lines.clone(),
        leaderless_ms: birth.locals.leaderless_ms,
        local_sessions: birth.locals.are_on,
        local_sessions_upgrade: birth.locals.upgrade,
        read_only_mode: birth.locals.read_only_mode,
        snapshot_txns: birth.snapshot_txns,
        snapshot_grows: false,
        incarnation: birth.incarnation,
        seed,
        txn: TxnOptions { reconfig_enabled: true, skip_acl: true, ..default_options(1).0.txn },
        tick_ms: 500,
        // The server's own is 1.
        in_flight_max: 1 + usize::from(seed[4] % 3),
        ..default_options(1).0
    }
}

fn shard_options(birth: &Birth) -> shard::Options {
    shard::Options {
        server: ServerId(birth.id),
        incarnation: birth.incarnation,
        slices: birth.slices,
        session_timeout_min_ms: 1_000,
        ..default_options(1).1
    }
}
