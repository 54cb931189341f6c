//! A whole server in one thread: a real sequencer, real shards, and nothing of `host`. Time is a number, sockets are
//! byte vectors, the log is a list that is durable at once or when the test says so. Deterministic.
//!
//! A side's turn does what a driver does, in the same order: take over publications up to the counter, resume, tell a
//! slice, tick, send up, write what is dirty, close. Bytes are read only while the shard wants them, and only looked
//! at again when a driver would: after a read, after a write, after a resume.
#![allow(dead_code)]

pub mod client;

use client::Said;
use ringkeeper::apply::{Options as TxnOptions, SnapshotHead, State};
use ringkeeper::handoff::{Publication, Upward};
use ringkeeper::ids::{ConnId, LogIndex, Millis, Seat, ServerId, SessionId, ShardId, Term, WallMillis};
use ringkeeper::sequencer::{
    self, Effect, Input, Logged, Now, RecoveredEntry, RecoveredLog, Sequencer, TICK_MS,
};
use ringkeeper::shard::{self, Place, Shard, Word, Wrote};
use ringkeeper::tree::{AclId, AclList, AclTable, Node, PathHasher, Table, TableLoader, Znode};
use ringkeeper::watch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One connection of the test, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Conn(pub usize);

/// The client's end of a connection, and the socket between.
pub struct Client {
    pub shard: usize,
    pub id: ConnId,
    pub closed: bool,
    pub session: i64,
    pub password: [u8; 16],
    /// Sent and not yet read by the server.
    pub to_server: Vec<u8>,
    /// Written by the server and not yet looked at.
    pub from_server: Vec<u8>,
    /// How many more bytes its socket takes.
    pub window: usize,
    /// What the driver last asked the kernel: whether to be told of bytes.
    interest: bool,
    is_blocked: bool,
    hung_up: bool,
    pub next_xid: i32,
}

/// One shard, and what its driver has.
pub struct Side {
    pub shard: Shard,
    pub up: VecDeque<Upward>,
    ring: VecDeque<Arc<Publication>>,
    taken: u64,
    index: BTreeMap<ConnId, usize>,
    /// Clients with bytes to be read.
    mail: VecDeque<usize>,
    pub words: Vec<Word>,
    pub cuts: Vec<shard::Why>,
    /// It gets no turn: its thread is not scheduled.
    pub held: bool,
}

pub struct World {
    pub now: Now,
    pub sequencer: Sequencer,
    pub sides: Vec<Side>,
    pub clients: Vec<Client>,
    pub notes: Vec<sequencer::Note>,
    /// Snapshots begun: up to which entry, and how many znodes each was given.
    pub snapshots: Vec<(LogIndex, usize)>,
    /// Records stay in the air until this is false.
    pub log_held: bool,
    pub log: Vec<Logged>,
    records: u64,
    published: u64,
    options: (sequencer::Options, shard::Options),
}

pub const KEY: [u64; 4] = [11, 22, 33, 44];

/// A shard's own table, as it is when clients are first served.
pub fn table_of(state: &State) -> Table {
    let mut table = Table::new(PathHasher::new(KEY));
    for (id, list) in state.table.acls.iter() {
        table.acls.insert(id, list.clone());
    }
    for node in state.table.nodes().iter() {
        table.insert(node.clone());
    }
    table
}

pub fn default_options(shards: usize) -> (sequencer::Options, shard::Options) {
    let sequencer = sequencer::Options {
        server: ServerId(1),
        incarnation: 1,
        seed: [5; 32],
        txn: TxnOptions { extended_types: true, ..TxnOptions::default() },
        tick_ms: 2_000,
        shards,
        snapshot_txns: u64::MAX,
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
        reap_interval_ms: 60_000,
        reap_per_minute: 10_000,
        reap_never_used_ms: 0,
        in_flight_max: 4,
    };
    let shard = shard::Options {
        server: ServerId(1),
        incarnation: 1,
        shard: ShardId(0),
        frame_bytes_max: 0xf_ffff,
        session_timeout_min_ms: 4_000,
        session_timeout_max_ms: 40_000,
        handshake_timeout_ms: 10_000,
        outstanding_per_connection_max: 1_000,
        outstanding_max: 100_000,
        unsent_pause_bytes: 1 << 20,
        unsent_cut_bytes: 64 << 20,
        unsent_cut_ms: 30_000,
        unsent_long_bytes: 256 << 20,
        sessions_max: 1_000_000,
        acl_entries_max: 1_000,
        multi_ops_max: 10_000,
        identities_max: 100,
        watch_limits: watch::Limits { count_max: 100_000, bytes_max: 64 << 20 },
        schemes: ringkeeper::auth::Schemes {
            super_digest: Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into()),
            ..Default::default()
        },
        skip_acl: false,
        required_schemes: None,
        report_ms: 100,
        slices: shard::Slices::default(),
    };
    (sequencer, shard)
}

impl World {
    pub fn new(shards: usize) -> World {
        World::with(shards, |_, _| {})
    }

    /// A server whose options the test has a hand in.
    pub fn with(shards: usize, change: impl FnOnce(&mut sequencer::Options, &mut shard::Options)) -> World {
        let mut options = default_options(shards);
        change(&mut options.0, &mut options.1);
        let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
        let state = State::new(PathHasher::new(KEY));
        World::start(options, now, state, RecoveredLog::default(), Vec::new())
    }

    /// A server that begins with these znodes, without data, beside, or in place of, those of a new one: as from an import.
    pub fn with_nodes(nodes: Vec<Znode>, acls: Vec<(AclId, AclList)>) -> World {
        World::with_head(nodes, SnapshotHead { acls, ..SnapshotHead::default() })
    }

    /// The same with more of what a snapshot holds.
    pub fn with_head(nodes: Vec<Znode>, head: SnapshotHead) -> World {
        let hasher = PathHasher::new(KEY);
        let mut state = State::from_snapshot(hasher.clone(), head);
        let mut loader = TableLoader::new(hasher.clone(), AclTable::default());
        let mut all: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
        for node in State::new(hasher).table.nodes().iter() {
            all.insert(node.path.as_bytes().to_vec(), node.clone());
        }
        for node in nodes {
            all.insert(node.path.as_bytes().to_vec(), Node::new(node, None));
        }
        for node in all.into_values() {
            state.load_node(&node);
            loader.push(node);
        }
        let mut table = loader.finish().expect("no path comes twice");
        let lists: Vec<_> = state.table.acls.iter().skip(2).map(|(id, list)| (id, list.clone())).collect();
        lists.into_iter().for_each(|(id, list)| table.acls.insert(id, list));
        state.loaded(table);
        let now = Now { mono: Millis(1_000), wall: WallMillis(1_700_000_000_000) };
        World::start(default_options(1), now, state, RecoveredLog::default(), Vec::new())
    }

    fn start(
        options: (sequencer::Options, shard::Options),
        now: Now,
        state: State,
        recovered: RecoveredLog,
        log: Vec<Logged>,
    ) -> World {
        let shards = options.0.shards;
        let hasher = PathHasher::new(KEY);
        let sequencer = Sequencer::new(options.0.clone(), state, recovered, now);
        let side = |at: usize| {
            let at = ShardId(u16::try_from(at).unwrap());
            Side {
                shard: Shard::new(
                    shard::Options { shard: at, ..options.1.clone() },
                    hasher.clone(),
                    now.mono,
                ),
                up: VecDeque::new(),
                ring: VecDeque::new(),
                taken: 0,
                index: BTreeMap::new(),
                mail: VecDeque::new(),
                words: Vec::new(),
                cuts: Vec::new(),
                held: false,
            }
        };
        let mut world = World {
            now,
            sequencer,
            sides: (0..shards).map(side).collect(),
            clients: Vec::new(),
            notes: Vec::new(),
            snapshots: Vec::new(),
            log_held: false,
            log,
            records: 0,
            published: 0,
            options,
        };
        world.sequencer.handle(now, Input::Tick);
        while world.sequencer_turn() {}
        assert!(world.sequencer.is_serving());
        for at in 0..shards {
            world.serve(at);
        }
        world.settle();
        world
    }

    fn serve(&mut self, at: usize) {
        let state = self.sequencer.state();
        let table = table_of(state);
        let side = &mut self.sides[at];
        let _ = side.shard.serve(table, state.last_zxid(), state.sessions.len());
        side.taken = self.sequencer.publications();
        side.ring.clear();
    }

    /// The process dies and comes back with what its log holds; every connection is gone.
    pub fn restart(self) -> World {
        let entries = self.log.iter().filter(|l| l.index.0 > 0).map(|l| RecoveredEntry {
            index: l.index,
            term: l.term,
            tag: l.tag,
            first_zxid: l.first_zxid,
            last_zxid: l.last_zxid,
            payload_len: l.payload.len(),
        });
        let recovered = RecoveredLog {
            base: (LogIndex(0), Term(0)),
            entries: entries.collect(),
            hard_state: self.log.last().expect("a server that served has a log").hard_state,
        };
        let mut options = self.options.clone();
        options.0.incarnation += 1;
        options.1.incarnation += 1;
        let state = State::new(PathHasher::new(KEY));
        World::start(options, self.now, state, recovered, self.log)
    }

    // ---- the server's threads ----

    /// Turns everybody until nobody has anything to do.
    pub fn settle(&mut self) {
        loop {
            let mut any = false;
            for at in 0..self.sides.len() {
                any |= !self.sides[at].held && self.side_turn(at);
            }
            any |= self.sequencer_turn();
            if !any {
                return;
            }
        }
    }

    /// One turn of the sequencer's thread; says whether it did anything.
    pub fn sequencer_turn(&mut self) -> bool {
        let now = self.now;
        let mut any = false;
        for side in &mut self.sides {
            while self.sequencer.wants_proposals() {
                let Some(up) = side.up.pop_front() else { break };
                any = true;
                self.sequencer.handle(now, Input::Up(up));
            }
        }
        self.sequencer.turn(now);
        let before = self.records;
        while let Some(effect) = self.sequencer.next_effect() {
            any = true;
            match effect {
                Effect::Append(logged) => {
                    self.records += 1;
                    self.log.push(logged);
                }
                Effect::Publish(publication) => {
                    for side in &mut self.sides {
                        side.ring.push_back(publication.clone());
                    }
                    self.published = publication.number;
                }
                Effect::Send(_) => unreachable!("a server alone has nobody to say anything to"),
                Effect::Note(note) => self.notes.push(note),
                Effect::Read { index } => {
                    let held = self.log.iter().rev().find(|l| l.index == index);
                    let payload = held.expect("the log holds it").payload.clone();
                    self.sequencer.handle(now, Input::Read { index, payload });
                }
                Effect::SnapshotEnd => self.sequencer.handle(now, Input::SnapshotDone { written: true }),
                Effect::SnapshotBegin { index, .. } => self.snapshots.push((index, 0)),
                Effect::SnapshotAbort
                | Effect::Fetch { .. }
                | Effect::Install { .. }
                | Effect::Discard(_)
                | Effect::Seat(_) => {
                    unreachable!("nobody offers a server alone a snapshot")
                }
                Effect::SnapshotNodes(nodes) => {
                    let (_, count) = self.snapshots.last_mut().expect("a snapshot begins first");
                    *count += nodes.iter().map(Vec::len).sum::<usize>();
                }
            }
        }
        if !self.log_held && self.records > before {
            self.persist();
        }
        any || self.sequencer.is_busy()
    }

    /// All that was handed to the log is durable now.
    pub fn persist(&mut self) {
        self.sequencer.handle(self.now, Input::Persisted { records: self.records });
        self.sequencer.turn(self.now);
    }

    /// The log is let go.
    pub fn release_log(&mut self) {
        self.log_held = false;
        self.persist();
        self.settle();
    }

    /// One turn of a shard's thread, with all the input that it wants; says whether it did anything.
    pub fn side_turn(&mut self, at: usize) -> bool {
        let mut any = self.read_all(at);
        any |= self.turn(at);
        any |= self.flush(at);
        any | self.close_finished(at)
    }

    /// Takes out the next publication that lies in front of a shard, for a test that installs it itself.
    pub fn next_publication(&mut self, at: usize) -> Arc<Publication> {
        self.sides[at].ring.pop_front().expect("one lies there")
    }

    /// Takes over what the counter covers.
    pub fn catch_up(&mut self, at: usize) -> bool {
        let (now, published) = (self.now.mono, self.published);
        let side = &mut self.sides[at];
        let mut any = false;
        while side.taken < published {
            let publication = side.ring.pop_front().expect("the counter covers what lies in the ring");
            if publication.number <= side.taken {
                continue;
            }
            assert_eq!(publication.number, side.taken + 1, "no publication is missed");
            // Every other batch in pieces, as a shard that has much to take does.
            let mut next = Some(Place::default());
            while let Some(from) = next {
                let mut budget = if publication.number.is_multiple_of(2) { 1 } else { usize::MAX };
                next = side.shard.install_some(now, &publication, from, &mut budget);
            }
            side.taken = publication.number;
            any = true;
        }
        any
    }

    fn read_all(&mut self, at: usize) -> bool {
        let mut any = false;
        let waiting = std::mem::take(&mut self.sides[at].mail);
        for n in waiting {
            if self.read_some(n, usize::MAX) {
                any = true;
            }
        }
        any
    }

    /// The driver is told of bytes of this connection, and reads up to `max` of them.
    pub fn read_some(&mut self, n: usize, max: usize) -> bool {
        let at = self.clients[n].shard;
        let client = &self.clients[n];
        if client.closed || (client.to_server.is_empty() && !client.hung_up) {
            return false;
        }
        if !client.interest || !self.sides[at].shard.wants_input(client.id) {
            self.clients[n].interest = false;
            return false;
        }
        let client = &mut self.clients[n];
        let id = client.id;
        if client.to_server.is_empty() {
            client.hung_up = false;
            client.interest = false;
            self.sides[at].shard.hung_up(id);
            return true;
        }
        let len = client.to_server.len().min(max);
        let bytes: Vec<u8> = client.to_server.drain(..len).collect();
        let more = !client.to_server.is_empty() || client.hung_up;
        self.catch_up(at);
        let now = self.now.mono;
        self.sides[at].shard.received(now, id, &bytes);
        self.set_interest(n);
        if more {
            self.sides[at].mail.push_back(n);
        }
        true
    }

    fn set_interest(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let side = &mut self.sides[client.shard];
        let wants = !client.closed && side.shard.wants_input(client.id);
        if wants && !client.interest && (!client.to_server.is_empty() || client.hung_up) {
            side.mail.push_back(n);
        }
        client.interest = wants;
    }

    /// What a driver does between two looks at its sockets.
    pub fn turn(&mut self, at: usize) -> bool {
        let now = self.now.mono;
        self.sides[at].shard.observe(now);
        let mut any = self.catch_up(at);
        any |= self.sides[at].shard.answer_long(now);
        while let Some(id) = self.sides[at].shard.next_resumed() {
            any = true;
            self.sides[at].shard.resume(now, id);
            if let Some(n) = self.sides[at].index.get(&id).copied() {
                self.set_interest(n);
            }
        }
        let side = &mut self.sides[at];
        any |= side.shard.has_crowds();
        side.shard.tell_slice();
        if let Some(up) = side.shard.take_upward() {
            any = true;
            side.up.push_back(up);
        }
        while let Some(word) = side.shard.next_word() {
            side.words.push(word);
        }
        while let Some(shard::Note::Cut { why, .. }) = side.shard.next_note() {
            side.cuts.push(why);
        }
        any
    }

    /// Writes what is dirty, as far as the sockets take it.
    pub fn flush(&mut self, at: usize) -> bool {
        let mut any = false;
        while let Some(id) = self.sides[at].shard.next_dirty() {
            if let Some(n) = self.sides[at].index.get(&id).copied() {
                any = true;
                self.write(n);
            }
        }
        any
    }

    /// The driver is told that a socket has room, or has something to write to it.
    pub fn write(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let shard = &mut self.sides[client.shard].shard;
        let bytes = shard.output(client.id);
        if !bytes.is_empty() {
            let len = bytes.len().min(client.window);
            client.from_server.extend_from_slice(&bytes[..len]);
            client.window -= if client.window == usize::MAX { 0 } else { len };
            client.is_blocked = shard.wrote(self.now.mono, client.id, len) == Wrote::Part;
        }
        self.set_interest(n);
    }

    /// The client takes up to `bytes` more from its socket.
    pub fn open_window(&mut self, conn: Conn, bytes: usize) {
        let client = &mut self.clients[conn.0];
        client.window = if bytes == usize::MAX { bytes } else { client.window + bytes };
        if client.is_blocked && !client.closed {
            self.write(conn.0);
        }
        self.settle();
    }

    fn close_finished(&mut self, at: usize) -> bool {
        let mut any = false;
        while let Some(id) = self.sides[at].shard.next_closed() {
            any = true;
            let n = self.sides[at].index.remove(&id).expect("a connection is closed once");
            self.clients[n].closed = true;
            self.clients[n].to_server.clear();
        }
        any
    }

    /// Time passes as it does when the server runs: in ticks.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.jump(TICK_MS);
        }
    }

    /// Time passes at once, as when the whole server was stopped; then everybody goes on.
    pub fn jump(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(Millis(ms));
        self.now.wall.0 += i64::try_from(ms).unwrap();
        for side in self.sides.iter_mut().filter(|side| !side.held) {
            side.shard.tick(self.now.mono);
        }
        self.settle();
        self.sequencer.handle(self.now, Input::Tick);
        self.settle();
    }

    // ---- the clients' end ----

    /// Sends a word's answer, as the host would.
    pub fn answer_word(&mut self, at: usize, text: Option<&[u8]>) {
        let word = self.sides[at].words.remove(0);
        self.sides[at].shard.answer_word(word.conn, text);
        self.settle();
    }

    /// A TCP connection.
    pub fn connect(&mut self, at: usize) -> Conn {
        self.connect_from(at, "127.0.0.1")
    }

    pub fn connect_from(&mut self, at: usize, ip: &str) -> Conn {
        self.accept(at, ip, Shard::accept)
    }

    /// By the strict listener.
    pub fn connect_strictly(&mut self, at: usize) -> Conn {
        self.accept(at, "127.0.0.1", Shard::accept_strict)
    }

    fn accept(
        &mut self,
        at: usize,
        ip: &str,
        accept: fn(&mut Shard, Millis, std::net::SocketAddr) -> ConnId,
    ) -> Conn {
        let n = self.clients.len();
        let port = u16::try_from(1_024 + n % 60_000).unwrap();
        let peer = std::net::SocketAddr::new(ip.parse().unwrap(), port);
        let id = accept(&mut self.sides[at].shard, self.now.mono, peer);
        self.sides[at].index.insert(id, n);
        self.clients.push(Client {
            shard: at,
            id,
            closed: false,
            session: 0,
            password: [0; 16],
            to_server: Vec::new(),
            from_server: Vec::new(),
            window: usize::MAX,
            interest: true,
            is_blocked: false,
            hung_up: false,
            next_xid: 1,
        });
        Conn(n)
    }

    /// Puts bytes into the socket; nobody reads them yet.
    pub fn put(&mut self, conn: Conn, bytes: &[u8]) {
        let client = &mut self.clients[conn.0];
        if client.closed {
            return;
        }
        if client.to_server.is_empty() {
            self.sides[client.shard].mail.push_back(conn.0);
        }
        client.to_server.extend_from_slice(bytes);
    }

    /// The client closes its sending half.
    pub fn half_close(&mut self, conn: Conn) {
        let client = &mut self.clients[conn.0];
        client.hung_up = true;
        self.sides[client.shard].mail.push_back(conn.0);
        self.settle();
    }

    /// The connection breaks.
    pub fn lose(&mut self, conn: Conn) {
        let client = &mut self.clients[conn.0];
        if !client.closed {
            self.sides[client.shard].shard.lost(client.id);
        }
        self.settle();
    }

    pub fn is_closed(&self, conn: Conn) -> bool {
        self.clients[conn.0].closed
    }

    /// Everything that the client was told since it last looked.
    pub fn hear(&mut self, conn: Conn) -> Vec<Said> {
        let bytes = std::mem::take(&mut self.clients[conn.0].from_server);
        let (said, rest) = client::decode_all(&bytes);
        self.clients[conn.0].from_server = rest.to_vec();
        said
    }

    pub fn session(&self, conn: Conn) -> SessionId {
        SessionId(self.clients[conn.0].session)
    }

    pub fn cuts(&self, at: usize) -> &[shard::Why] {
        &self.sides[at].cuts
    }
}
