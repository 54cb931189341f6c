//! Clients as their users have them: one session each, kept across servers; one operation after the other, or a few
//! pipelined; watches, set again after a reconnect. Everything that was asked and answered goes into the history, and what
//! each connection heard, in order, into a stream of its own.

use crate::ask::{self, Ask};
use crate::check::NOT_READ_ONLY;
use crate::dice::Dice;
use crate::machines::client::{self, hello, request, Said};
use crate::server::Server;
use crate::watches::{Again, Event, Item, Memory, Stream};
use ringkeeper::ids::ConnId;
use ringkeeper::wire::{ConnectResponse, OpCode};
use std::collections::{BTreeMap, VecDeque};

/// An operation, and what became of it.
#[derive(Clone, Debug)]
pub struct Op {
    pub session: i64,
    pub xid: i32,
    pub ask: Ask,
    pub called: u64,
    /// Asked on a connection of the strict listener.
    pub is_strict: bool,
    /// Asked on a connection that was granted for reading only.
    pub is_read_only: bool,
    /// Of a session of which its client does not know that the state has it.
    pub may_be_local: bool,
    pub done: Option<Done>,
}

#[derive(Clone, Debug)]
pub struct Done {
    pub at: u64,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

/// What all clients have seen.
#[derive(Default)]
pub struct History {
    pub ops: Vec<Op>,
    pub streams: Vec<Stream>,
}

/// Clocks of several servers are counted in whole reports.
const EARLY_MS: u64 = 100;
pub const TIMEOUT_MS: i32 = 6_000;
/// A client that hears nothing for so long looks for another server.
const PATIENCE_MS: u64 = 2_500;
const IMPATIENT_MS: u64 = 600;
const PING_MS: u64 = 800;
const PIPELINED_MAX: usize = 8;
/// Who has to know a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// Everybody: it is in the state.
    Anywhere,
    /// This run of this server, whatever the others say; by its own choice it may be in the state.
    Here { server: u8, incarnation: u64 },
    /// Nobody: it was granted for reading only.
    Nowhere,
}

/// The longest pause between two bursts of operations.
const THINK_MS: u64 = 28;
const LONG_THINK_MS: u64 = 2_000;

pub struct Client {
    number: usize,
    dice: Dice,
    pub session: i64,
    password: [u8; 16],
    last_zxid: i64,
    at: Option<(u8, ConnId)>,
    is_greeted: bool,
    heard_at: u64,
    /// When it asked what was answered last by a server that hears of a majority: an answer may take long, and the session
    /// counts from when its client was heard.
    answered_at: u64,
    dialled_at: u64,
    /// It has asked for its session's end.
    has_closed: bool,
    pinged_at: u64,
    next_at: u64,
    next_xid: i32,
    pending: VecDeque<usize>,
    keys: u64,
    /// It connects to the strict listener.
    is_strict: bool,
    /// It takes a server that has no leader; this connection is one.
    may_only_read: bool,
    is_read_only: bool,
    /// Where its session is known, as far as it can tell.
    home: Home,
    /// It comes back there most of the time, if its session is a local one.
    comes_home: bool,
    /// The session whose first ephemeral znode it has asked for, and whether it did so just now.
    entering: (i64, bool),
    pub memory: Memory,
    /// Asked for on this connection and not yet answered.
    setting_again: VecDeque<Again>,
    /// Of this connection, while it is greeted: its place in the history.
    stream: usize,
}

impl Client {
    pub fn new(number: usize, keys: u64, dice: Dice) -> Client {
        Client {
            number,
            dice,
            session: 0,
            password: [0; 16],
            last_zxid: 0,
            at: None,
            is_greeted: false,
            heard_at: 0,
            answered_at: 0,
            dialled_at: 0,
            has_closed: false,
            pinged_at: 0,
            next_at: 0,
            next_xid: 1,
            pending: VecDeque::new(),
            keys,
            is_strict: false,
            may_only_read: false,
            is_read_only: false,
            home: Home::Anywhere,
            comes_home: false,
            entering: (0, false),
            memory: Memory::default(),
            setting_again: VecDeque::new(),
            stream: 0,
        }
    }

    pub fn with_strict_reads(self, is_strict: bool) -> Client {
        Client { is_strict, ..self }
    }

    pub fn with_read_only(self, may_only_read: bool) -> Client {
        Client { may_only_read, ..self }
    }

    pub fn with_home(self, comes_home: bool) -> Client {
        Client { comes_home, ..self }
    }

    /// The server of which it has just asked what makes a local session one of the state.
    pub fn take_entering(&mut self) -> Option<u8> {
        let is_new = std::mem::take(&mut self.entering.1);
        self.at.filter(|_| is_new).map(|(server, _)| server)
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.setting_again.is_empty() && self.is_greeted
    }

    /// When it dials again, if it has no connection.
    pub fn comes_back_at(&self) -> Option<u64> {
        self.at.is_none().then_some(self.next_at)
    }

    /// The server's process is gone.
    pub fn on_crash(&mut self, server: u8) {
        if self.at.is_some_and(|(at, _)| at == server) {
            self.leave();
        }
    }

    /// The run is over: it has heard all that its server has.
    pub fn end(&self, servers: &BTreeMap<u8, Server>, history: &mut History) {
        let (at, _) = self.at.expect("it is idle");
        let zxid = servers[&at].shard.last_zxid().0;
        history.streams[self.stream].items.push(Item::End { zxid });
    }

    fn leave(&mut self) {
        self.at = None;
        self.is_greeted = false;
        // Their outcome is unknown; the history keeps them so.
        self.pending.clear();
        self.setting_again.clear();
    }

    /// Its server is told, or hears no more of it: as when the path between them breaks on one side first.
    fn go_away(&mut self, server: &mut Server, conn: ConnId) {
        if self.dice.permille(500) {
            server.hang_up(conn);
        }
        self.leave();
    }

    pub fn turn(
        &mut self,
        world: u64,
        servers: &mut BTreeMap<u8, Server>,
        history: &mut History,
        may_ask: bool,
    ) {
        let Some((at, conn)) = self.at else { return self.dial(world, servers) };
        let Some(server) = servers.get_mut(&at) else { return self.leave() };
        self.hear(world, server, conn, history);
        let Some(wire) = server.wires.get(&conn) else { return self.leave() };
        if wire.is_closed {
            server.wires.remove(&conn);
            return self.leave();
        }
        // Some go away for a while, and some for so long that their session ends.
        if may_ask && self.dice.permille(1) && self.dice.permille(400) {
            self.go_away(server, conn);
            let timeout = TIMEOUT_MS as u64;
            // And some come back at the very moment of its end.
            let (least, more) = [(0, 300), (0, 2 * timeout), (timeout - 200, 1_200)][self.dice.pick(3)];
            self.next_at = world + least + self.dice.below(more);
            return;
        }
        if world > self.heard_at + PATIENCE_MS {
            return self.go_away(server, conn);
        }
        if !self.is_greeted {
            return;
        }
        if world > self.pinged_at + PING_MS {
            self.pinged_at = world;
            self.put(server, conn, &request(-2, OpCode::Ping.as_i32(), &[]));
        }
        // Some ask again while they wait: of a server that stands still they learn only when it goes on.
        let waited = world.saturating_sub(self.heard_at);
        if may_ask && waited > IMPATIENT_MS && !self.pending.is_empty() && self.dice.permille(10) {
            self.ask(world, server, conn, Ask::Sync, history);
        }
        // A strict one asks also while the others are asked about what it read before: that answer is no later read's.
        let asks_more = self.is_strict && (1..PIPELINED_MAX).contains(&self.pending.len());
        if may_ask && asks_more && self.dice.permille(100) {
            let ask = ask::after_sync(&mut self.dice, self.keys);
            self.ask(world, server, conn, ask, history);
        }
        if may_ask && self.pending.is_empty() && world >= self.next_at {
            let think = if self.dice.permille(8) { LONG_THINK_MS } else { THINK_MS };
            self.next_at = world + self.dice.below(think);
            for _ in 0..=self.dice.below(3) {
                let ask = ask::think(&mut self.dice, self.keys);
                let (is_sync, is_close) = (ask == Ask::Sync, ask == Ask::Close);
                self.ask(world, server, conn, ask, history);
                if is_close {
                    self.has_closed = true;
                    break;
                }
                if is_sync {
                    let ask = ask::after_sync(&mut self.dice, self.keys);
                    self.ask(world, server, conn, ask, history);
                }
            }
        }
    }

    fn dial(&mut self, world: u64, servers: &mut BTreeMap<u8, Server>) {
        if world < self.next_at || servers.is_empty() {
            return;
        }
        self.next_at = world + 50 + self.dice.below(150);
        let some = *servers.keys().nth(self.dice.pick(servers.len())).expect("one of them");
        let at = match self.home {
            Home::Here { server, .. }
                if self.comes_home && servers.contains_key(&server) && self.dice.permille(800) =>
            {
                server
            }
            _ => some,
        };
        let server = servers.get_mut(&at).expect("it was among them");
        let conn = server.connect(world, self.is_strict);
        let mut hello = hello(self.session, &self.password, TIMEOUT_MS);
        hello.last_zxid_seen = self.last_zxid;
        hello.read_only = Some(self.may_only_read);
        let mut out = Vec::new();
        hello.encode(&mut out);
        self.at = Some((at, conn));
        self.is_greeted = false;
        (self.heard_at, self.dialled_at) = (world, world);
        self.put(server, conn, &out);
    }

    fn put(&self, server: &mut Server, conn: ConnId, bytes: &[u8]) {
        if let Some(wire) = server.wires.get_mut(&conn) {
            wire.to_server.extend_from_slice(bytes);
        }
    }

    fn hear(&mut self, world: u64, server: &mut Server, conn: ConnId, history: &mut History) {
        let Some(wire) = server.wires.get_mut(&conn) else { return };
        if wire.from_server.is_empty() {
            return;
        }
        self.heard_at = world;
        let mut bytes = std::mem::take(&mut wire.from_server);
        if !self.is_greeted {
            let len =
                bytes.first_chunk::<4>().map(|head| i32::from_be_bytes(*head)).expect("a frame") as usize;
            let answer = ConnectResponse::decode(&bytes[4..4 + len]).expect("an answer to a handshake");
            bytes.drain(..4 + len);
            if !self.on_greeting(world, server, &answer, history) {
                return;
            }
            self.set_again(server, conn);
        }
        let (said, rest) = client::decode_all(&bytes);
        let rest = rest.to_vec();
        for one in said {
            self.on_said(world, one, history);
        }
        if let Some(wire) = server.wires.get_mut(&conn) {
            wire.from_server.splice(0..0, rest);
        }
    }

    /// The answer to its handshake; says whether it has a session.
    fn on_greeting(
        &mut self,
        world: u64,
        server: &Server,
        answer: &ConnectResponse,
        history: &mut History,
    ) -> bool {
        let is_old = self.session != 0 && answer.session_id == self.session;
        if !is_old {
            // Its watches ended with it.
            self.memory = Memory::default();
        }
        if answer.session_id == 0 {
            // The last word of a majority to it: until its timeout has passed since, no session may end.
            let silent = world - self.answered_at;
            let may_be_unknown = match self.home {
                Home::Anywhere => false,
                Home::Here { server: id, incarnation } => {
                    (id, incarnation) != (server.id, server.incarnation)
                }
                Home::Nowhere => true,
            };
            assert!(
                self.session == 0
                    || self.has_closed
                    || may_be_unknown
                    || silent + EARLY_MS >= TIMEOUT_MS as u64,
                "session {:x} ended {silent} ms after it asked what was answered last",
                self.session
            );
            self.forget_session();
            return false;
        }
        assert!(is_old || self.session == 0, "a session is attached or refused, never replaced");
        self.is_read_only = answer.read_only == Some(true);
        assert!(
            self.may_only_read || !self.is_read_only,
            "who does not ask for it is not granted read-only mode"
        );
        if !is_old {
            self.home = match (self.is_read_only, server.grants_local) {
                (true, _) => Home::Nowhere,
                (false, true) => Home::Here { server: server.id, incarnation: server.incarnation },
                (false, false) => Home::Anywhere,
            };
        }
        self.session = answer.session_id;
        self.password = answer.password;
        self.is_greeted = true;
        self.answered_at = self.answered_at.max(self.dialled_at);
        self.stream = history.streams.len();
        history.streams.push(Stream { client: self.number, server: server.id, items: Vec::new() });
        true
    }

    fn forget_session(&mut self) {
        self.session = 0;
        self.password = [0; 16];
        self.has_closed = false;
    }

    /// As the client libraries do, before anything else is asked. A few are told not to, and so have no watches.
    fn set_again(&mut self, server: &mut Server, conn: ConnId) {
        if self.dice.permille(100) {
            self.memory = Memory::default();
        }
        if self.memory.is_empty() {
            return;
        }
        let again = self.memory.again(self.last_zxid);
        let parts = if self.dice.permille(300) { again.split().into() } else { vec![again] };
        for again in parts {
            let lists: Vec<Vec<&str>> =
                again.lists.iter().map(|list| list.iter().map(String::as_str).collect()).collect();
            let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
            let (op, n) = if again.has_new_kinds() || self.dice.permille(500) {
                (OpCode::SetWatches2, 5)
            } else {
                (OpCode::SetWatches, 3)
            };
            let body = client::set_watches(again.seen, &lists[..n]);
            self.put(server, conn, &request(-8, op.as_i32(), &body));
            self.setting_again.push_back(again);
        }
    }

    fn on_said(&mut self, world: u64, said: Said, history: &mut History) {
        let items = &mut history.streams[self.stream].items;
        let reply = match said {
            Said::Event { zxid, kind, path, .. } => {
                self.memory.on_event(kind, &path);
                return items.push(Item::Event(Event { zxid, kind, path }));
            }
            Said::Reply(reply) => reply,
        };
        assert!(
            reply.zxid >= self.last_zxid,
            "client {} of session {:x}: 0x{:x} behind 0x{:x}",
            self.number,
            self.session,
            reply.zxid,
            self.last_zxid
        );
        match reply.xid {
            -2 => return items.push(Item::Pong { zxid: reply.zxid }),
            -8 => {
                assert_eq!(reply.err, 0, "setWatches");
                let again = self.setting_again.pop_front().expect("it was asked");
                self.last_zxid = reply.zxid;
                return items.push(Item::SetAgain { zxid: reply.zxid, again });
            }
            _ => {}
        }
        self.last_zxid = reply.zxid;
        let at = self.pending.pop_front().expect("an answer to something that was asked");
        let op = &mut history.ops[at];
        assert_eq!(op.xid, reply.xid, "answers come in order");
        let done = Done { at: world, zxid: reply.zxid, err: reply.err, body: reply.body };
        self.memory.on_answer(&op.ask, &done);
        items.push(Item::Answer(at));
        // A read, or a ping, is answered by a server that hears of no majority too, and so is what such a server refuses.
        if op.ask.asks_a_majority() && done.err != NOT_READ_ONLY {
            self.answered_at = self.answered_at.max(op.called);
        }
        if matches!(op.ask, Ask::Create { flags: ask::EPHEMERAL, .. }) && done.err == 0 {
            self.home = Home::Anywhere;
        }
        let is_close = op.ask == Ask::Close;
        op.done = Some(done);
        if is_close {
            self.forget_session();
        }
    }

    fn ask(&mut self, world: u64, server: &mut Server, conn: ConnId, ask: Ask, history: &mut History) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let (op, body) = ask.encode();
        self.put(server, conn, &request(xid, op.as_i32(), &body));
        self.pending.push_back(history.ops.len());
        let (session, is_strict, is_read_only) = (self.session, self.is_strict, self.is_read_only);
        let may_be_local = self.home != Home::Anywhere;
        let enters = may_be_local && matches!(ask, Ask::Create { flags: ask::EPHEMERAL, .. });
        if enters && self.entering.0 != session {
            self.entering = (session, true);
        }
        history.ops.push(Op {
            session,
            xid,
            ask,
            called: world,
            is_strict,
            is_read_only,
            may_be_local,
            done: None,
        });
    }
}
