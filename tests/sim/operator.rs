//! Who changes the members while all goes on: a client that asks for a reconfig, waits for its answer or goes away.

use crate::dice::Dice;
use crate::machines::client::{self, hello, request, Said};
use crate::server::Server;
use ringkeeper::ids::ConnId;
use ringkeeper::wire::{ConnectResponse, OpCode, Reconfig};
use std::collections::BTreeMap;

/// It goes away after so long.
const PATIENCE_MS: u64 = 8_000;
const XID: i32 = 1;

pub struct Operator {
    dice: Dice,
    /// The servers that there are.
    servers: u8,
    at: Option<(u8, ConnId)>,
    since: u64,
    has_asked: bool,
    pub asked: u64,
    /// Answers by their code.
    pub answers: BTreeMap<i32, u64>,
}

impl Operator {
    pub fn new(servers: u8, dice: Dice) -> Operator {
        Operator { dice, servers, at: None, since: 0, has_asked: false, asked: 0, answers: BTreeMap::new() }
    }

    pub fn on_crash(&mut self, server: u8) {
        if self.at.is_some_and(|(at, _)| at == server) {
            self.at = None;
        }
    }

    pub fn is_busy(&self) -> bool {
        self.at.is_some()
    }

    /// Begins to ask, if nothing is under way.
    pub fn begin(&mut self, world: u64, servers: &mut BTreeMap<u8, Server>) {
        if self.at.is_some() || servers.is_empty() {
            return;
        }
        let id = *servers.keys().nth(self.dice.pick(servers.len())).expect("one of them");
        let server = servers.get_mut(&id).expect("it was among them");
        let conn = server.connect(world, false);
        let mut out = Vec::new();
        hello(0, &[0; 16], 6_000).encode(&mut out);
        put(server, conn, &out);
        (self.at, self.since, self.has_asked) = (Some((id, conn)), world, false);
    }

    pub fn turn(&mut self, world: u64, servers: &mut BTreeMap<u8, Server>) {
        let Some((at, conn)) = self.at else { return };
        let Some(server) = servers.get_mut(&at) else { return self.at = None };
        let Some(wire) = server.wires.get_mut(&conn) else { return self.at = None };
        if wire.is_closed {
            server.wires.remove(&conn);
            return self.at = None;
        }
        if world > self.since + PATIENCE_MS {
            server.hang_up(conn);
            return self.at = None;
        }
        if wire.from_server.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut wire.from_server);
        if self.has_asked {
            for said in client::decode_all(&bytes).0 {
                let Said::Reply(reply) = said else { continue };
                *self.answers.entry(reply.err).or_default() += 1;
                server.hang_up(conn);
                self.at = None;
            }
            return;
        }
        let len = bytes.first_chunk::<4>().map(|head| i32::from_be_bytes(*head)).expect("a frame") as usize;
        let answer = ConnectResponse::decode(&bytes[4..4 + len]).expect("an answer to a handshake");
        if answer.session_id == 0 {
            return self.at = None;
        }
        let mut body = Vec::new();
        self.wish().encode(&mut body);
        put(server, conn, &request(XID, OpCode::Reconfig.as_i32(), &body));
        self.has_asked = true;
        self.asked += 1;
    }

    /// One comes, or two, as participant or observer; one goes; or both.
    fn wish(&mut self) -> Reconfig<'static> {
        let mut some = || 1 + self.dice.below(u64::from(self.servers)) as u8;
        let (comes, also, goes) = (some(), some(), some());
        let role = if self.dice.permille(250) { "observer" } else { "participant" };
        let line = |id: u8, role: &str| format!("server.{id}=h{id}:1:2:{role};5");
        let joining = match self.dice.pick(4) {
            0 => String::new(),
            1 => format!("{},{}", line(comes, role), line(also, "participant")),
            _ => line(comes, role),
        };
        let leaving = if self.dice.permille(500) { goes.to_string() } else { String::new() };
        Reconfig {
            joining: Some(joining.into()),
            leaving: Some(leaving.into()),
            members: None,
            config_id: -1,
        }
    }
}

fn put(server: &mut Server, conn: ConnId, bytes: &[u8]) {
    if let Some(wire) = server.wires.get_mut(&conn) {
        wire.to_server.extend_from_slice(bytes);
    }
}
