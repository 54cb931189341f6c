//! Clients as their users have them: one session each, kept across servers; one operation after the other, or a few
//! pipelined. Everything that was asked and answered goes into the history.

use crate::dice::Dice;
use crate::machines::client::{self, hello, request, Said};
use crate::server::Server;
use ringkeeper::ids::ConnId;
use ringkeeper::wire::{put_i32, ConnectResponse, OpCode};
use std::collections::{BTreeMap, VecDeque};

/// What was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Create { path: String, flags: i32 },
    Set { path: String, data: Vec<u8> },
    Delete { path: String },
    Get { path: String },
    Sync,
    Multi { paths: Vec<String>, data: Vec<u8> },
    Close,
}

/// An operation, and what became of it.
#[derive(Clone, Debug)]
pub struct Op {
    pub session: i64,
    pub xid: i32,
    pub ask: Ask,
    pub called: u64,
    pub done: Option<Done>,
}

#[derive(Clone, Debug)]
pub struct Done {
    pub at: u64,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

/// A session is touched when its client is heard, not when it is answered.
const EARLY_MS: u64 = 100;
const TIMEOUT_MS: i32 = 6_000;
/// A client that hears nothing for so long looks for another server.
const PATIENCE_MS: u64 = 2_500;

pub struct Client {
    number: usize,
    dice: Dice,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    at: Option<(u8, ConnId)>,
    is_greeted: bool,
    heard_at: u64,
    answered_at: u64,
    /// It has asked for its session's end.
    has_closed: bool,
    pinged_at: u64,
    next_at: u64,
    next_xid: i32,
    pending: VecDeque<usize>,
    keys: u64,
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
            has_closed: false,
            pinged_at: 0,
            next_at: 0,
            next_xid: 1,
            pending: VecDeque::new(),
            keys,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.is_greeted
    }

    /// The server's process is gone.
    pub fn on_crash(&mut self, server: u8) {
        if self.at.is_some_and(|(at, _)| at == server) {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.at = None;
        self.is_greeted = false;
        // Their outcome is unknown; the history keeps them so.
        self.pending.clear();
    }

    pub fn turn(
        &mut self,
        world: u64,
        servers: &mut BTreeMap<u8, Server>,
        history: &mut Vec<Op>,
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
        if may_ask && self.dice.permille(1) && self.dice.permille(300) {
            server.hang_up(conn);
            self.leave();
            self.next_at = world + self.dice.below(2 * TIMEOUT_MS as u64);
            return;
        }
        if world > self.heard_at + PATIENCE_MS {
            server.hang_up(conn);
            return self.leave();
        }
        if !self.is_greeted {
            return;
        }
        if world > self.pinged_at + 800 {
            self.pinged_at = world;
            self.put(server, conn, &request(-2, OpCode::Ping.as_i32(), &[]));
        }
        if may_ask && self.pending.is_empty() && world >= self.next_at {
            self.next_at = world + self.dice.below(60);
            for _ in 0..=self.dice.below(3) {
                let ask = self.think();
                let (is_sync, is_close) = (ask == Ask::Sync, ask == Ask::Close);
                self.ask(world, server, conn, ask, history);
                if is_close {
                    self.has_closed = true;
                    break;
                }
                if is_sync {
                    let path = self.path();
                    self.ask(world, server, conn, Ask::Get { path }, history);
                }
            }
        }
    }

    fn dial(&mut self, world: u64, servers: &mut BTreeMap<u8, Server>) {
        if world < self.next_at || servers.is_empty() {
            return;
        }
        self.next_at = world + 50 + self.dice.below(150);
        let at = *servers.keys().nth(self.dice.pick(servers.len())).expect("one of them");
        let server = servers.get_mut(&at).expect("it was among them");
        let conn = server.connect(world);
        let mut hello = hello(self.session, &self.password, TIMEOUT_MS);
        hello.last_zxid_seen = self.last_zxid;
        let mut out = Vec::new();
        hello.encode(&mut out);
        self.at = Some((at, conn));
        self.is_greeted = false;
        self.heard_at = world;
        self.put(server, conn, &out);
    }

    fn put(&self, server: &mut Server, conn: ConnId, bytes: &[u8]) {
        if let Some(wire) = server.wires.get_mut(&conn) {
            wire.to_server.extend_from_slice(bytes);
        }
    }

    fn hear(&mut self, world: u64, server: &mut Server, conn: ConnId, history: &mut [Op]) {
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
            if answer.session_id == 0 {
                // The last word of a majority to it: until its timeout has passed since, no session may end.
                let silent = world - self.answered_at;
                assert!(
                    self.session == 0 || self.has_closed || silent + EARLY_MS >= TIMEOUT_MS as u64,
                    "session {:x} ended {silent} ms after it was answered last",
                    self.session
                );
                self.has_closed = false;
                self.session = 0;
                self.password = [0; 16];
                return;
            }
            self.session = answer.session_id;
            self.password = answer.password;
            self.is_greeted = true;
            self.answered_at = world;
        }
        let (said, rest) = client::decode_all(&bytes);
        let rest = rest.to_vec();
        for one in said {
            let Said::Reply(reply) = one else { continue };
            if reply.xid < 0 {
                continue;
            }
            assert!(
                reply.zxid >= self.last_zxid,
                "client {} of session {:x}: 0x{:x} behind 0x{:x}",
                self.number,
                self.session,
                reply.zxid,
                self.last_zxid
            );
            self.last_zxid = reply.zxid;
            if history[*self.pending.front().expect("something was asked")].ask == Ask::Close {
                self.session = 0;
                self.password = [0; 16];
                self.has_closed = false;
            }
            let op = self.pending.pop_front().expect("an answer to something that was asked");
            assert_eq!(history[op].xid, reply.xid, "answers come in order");
            // A read, or a ping, is answered by a server that hears of no majority too.
            if !matches!(history[op].ask, Ask::Get { .. }) {
                self.answered_at = world;
            }
            history[op].done = Some(Done { at: world, zxid: reply.zxid, err: reply.err, body: reply.body });
        }
        if let Some(wire) = server.wires.get_mut(&conn) {
            wire.from_server.splice(0..0, rest);
        }
    }

    fn ask(&mut self, world: u64, server: &mut Server, conn: ConnId, ask: Ask, history: &mut Vec<Op>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let (op, body) = match &ask {
            Ask::Create { path, flags } => (OpCode::Create, client::create(path, b"new", *flags)),
            Ask::Set { path, data } => (OpCode::SetData, client::set(path, data, -1)),
            Ask::Delete { path } => (OpCode::Delete, delete(path)),
            Ask::Get { path } => (OpCode::GetData, client::read(path, false)),
            Ask::Sync => (OpCode::Sync, sync("/")),
            Ask::Close => (OpCode::CloseSession, Vec::new()),
            Ask::Multi { paths, data } => {
                let items: Vec<_> =
                    paths.iter().map(|path| (OpCode::SetData, client::set(path, data, -1))).collect();
                (OpCode::Multi, client::multi(&items))
            }
        };
        self.put(server, conn, &request(xid, op.as_i32(), &body));
        self.pending.push_back(history.len());
        history.push(Op { session: self.session, xid, ask, called: world, done: None });
    }

    fn path(&mut self) -> String {
        format!("/k{}", self.dice.below(self.keys))
    }

    fn think(&mut self) -> Ask {
        let path = self.path();
        match self.dice.below(100) {
            0..=14 => Ask::Create { path, flags: 0 },
            15..=19 => Ask::Create { path: "/s-".to_owned(), flags: 2 },
            20..=26 => Ask::Create { path: format!("/e{}", self.dice.below(self.keys)), flags: 1 },
            27..=51 => Ask::Set { path, data: self.dice.roll().to_be_bytes().to_vec() },
            52..=57 => Ask::Delete { path },
            58..=62 => {
                let other = self.path();
                Ask::Multi { paths: vec![path, other], data: self.dice.roll().to_be_bytes().to_vec() }
            }
            63 => Ask::Close,
            64..=72 => Ask::Sync,
            _ => Ask::Get { path },
        }
    }
}

fn delete(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ringkeeper::wire::put_string(&mut out, path);
    put_i32(&mut out, -1);
    out
}

fn sync(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    ringkeeper::wire::put_string(&mut out, path);
    out
}
