//! What must hold: at every moment among the servers, and at the end of everything that was ever answered.

use crate::ask::{is_hidden, Ask, SEQUENTIAL};
use crate::client::Op;
use crate::machines::client::{CHANGED, CREATED, DELETED};
use crate::machines::KEY;
use crate::server::Server;
use crate::watches::{parent, Fact};
use bytes::Bytes;
use ringkeeper::apply::{Batch, State, TxnBody};
use ringkeeper::error::Code;
use ringkeeper::ids::{LogIndex, ServerId, Term};
use ringkeeper::membership::Membership;
use ringkeeper::sequencer::Note;
use ringkeeper::tree::{Answer, Change, PathHasher};
use ringkeeper::wire::{Reader, Stat};
use std::collections::{BTreeMap, BTreeSet};

/// What a server without a leader says to all but reads.
pub const NOT_READ_ONLY: i32 = -119;
const EXPIRED: i32 = Code::SessionExpired as i32;

/// What is remembered of the past, to be compared with.
#[derive(Default)]
pub struct Watchman {
    leaders: BTreeMap<u64, u8>,
    /// By index: term, digest, chain and last zxid of the state behind it.
    states: BTreeMap<u64, (u64, u64, u64, i64)>,
    /// Whether each run of a server had a voice when it was looked at last, and the terms whose leader was asked for its.
    voices: BTreeMap<(u8, u64), bool>,
    elected: BTreeSet<u64>,
    /// What was applied, in order: no server keeps all of it.
    log: Vec<Bytes>,
    /// When each of them was applied first, by whomever.
    applied_at: Vec<u64>,
    pub elections: u64,
}

impl Watchman {
    /// One leader a term, whomever one asks; equal states at equal indices.
    pub fn look(&mut self, world: u64, server: &Server) {
        if let Some((leader, term)) = server.sequencer.leader() {
            let known = *self.leaders.entry(term.0).or_insert_with(|| {
                self.elections += 1;
                leader.0
            });
            assert_eq!(known, leader.0, "two leaders in term {}, as server {} sees it", term.0, server.id);
        }
        self.look_at_voice(server);
        let (index, term) = server.sequencer.applied();
        while (self.log.len() as u64) < index.0 {
            let Some(entry) = server.disk.entry(LogIndex(self.log.len() as u64 + 1)) else { break };
            self.log.push(entry.payload.clone());
            self.applied_at.push(world);
        }
        let state = server.sequencer.state();
        let seen = (term.0, state.digest(), state.chain(), state.last_zxid().0);
        let known = *self.states.entry(index.0).or_insert(seen);
        assert_eq!(known, seen, "server {} has another state at index {}", server.id, index.0);
    }
}

impl Watchman {
    /// Who serves is no older than twice what it may be behind, and a moment.
    pub fn look_at_age(&self, world: u64, server: &Server, leaderless_ms: u64) {
        let next = self.applied_at.get(server.sequencer.applied().0 .0 as usize);
        let Some(next) = next.filter(|_| server.sequencer.is_serving()) else {
            return;
        };
        let age = world - next;
        assert!(
            age <= 2 * leaderless_ms.max(1_000) + AGE_SLACK_MS,
            "server {} serves, and lacks since {age} ms what another one has done",
            server.id
        );
    }

    /// Who is elected had a voice: now, or before what was applied in the same moment.
    fn look_at_voice(&mut self, server: &Server) {
        let members = &server.sequencer.state().membership;
        let has = !members.is_ensemble() || members.conf.votes(server.seat());
        let had = self.voices.insert((server.id, server.incarnation), has);
        let Some((leader, term)) = server.sequencer.leader() else { return };
        if leader.0 == server.id && self.elected.insert(term.0) {
            assert!(
                has || had == Some(true),
                "server {} leads in term {} without a voice",
                server.id,
                term.0
            );
        }
    }
}

/// A clock that drifts, and a turn.
const AGE_SLACK_MS: u64 = 100;

/// What no honest server gives another one a reason to say.
fn is_alarming(note: &Note) -> bool {
    matches!(
        note,
        Note::Nonsense { .. } | Note::Differs { .. } | Note::IsWrong { .. } | Note::UnknownRules { .. }
    )
}

/// In all that this run of a server has said.
pub fn nobody_was_alarmed(server: &Server) {
    let alarms: Vec<&Note> = server.notes.iter().filter(|note| is_alarming(note)).collect();
    assert!(alarms.is_empty(), "server {} was told nonsense: {alarms:?}", server.id);
}

/// Whether it serves, and has shown all of this.
pub fn is_up_to_date(server: &Server, applied: (LogIndex, Term)) -> bool {
    server.served
        && server.sequencer.is_serving()
        && server.sequencer.applied() == applied
        && !server.shard.has_crowds()
}

/// The history as the log tells it.
pub struct Truth {
    /// The sessions that were ever in the state.
    sessions: BTreeSet<i64>,
    /// When those that ended did.
    ended: BTreeMap<i64, i64>,
    /// By zxid: session, xid and result of who asked.
    asked: BTreeMap<i64, (i64, i32, Result)>,
    /// By path: its data from each zxid on; nothing: it is not there.
    data: BTreeMap<String, BTreeMap<i64, Option<Vec<u8>>>>,
    /// By path: when a child of it came or went, and when it came itself.
    children: BTreeMap<String, BTreeSet<i64>>,
    /// What watches may hear of, in order.
    pub facts: Vec<Fact>,
}

/// What a write is answered: a code, and a multi's results.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Result {
    code: i32,
    results: Option<Box<[u8]>>,
}

impl Result {
    fn of(answer: &Answer) -> Result {
        match answer {
            Answer::Code(code) => Result { code: *code as i32, results: None },
            Answer::Multi(results) => Result { code: 0, results: Some(results.clone()) },
            _ => Result { code: 0, results: None },
        }
    }
}

impl Truth {
    /// Replays all that was applied, from the first entry.
    pub fn of(watchman: &Watchman, server: &Server) -> Truth {
        let mut truth = Truth {
            sessions: BTreeSet::new(),
            ended: BTreeMap::new(),
            asked: BTreeMap::new(),
            data: BTreeMap::new(),
            children: BTreeMap::new(),
            facts: Vec::new(),
        };
        let mut state = State::new(PathHasher::new(KEY));
        state.membership = Membership::formed(&server.disk.formed);
        let (applied, _) = server.sequencer.applied();
        assert!(watchman.log.len() as u64 >= applied.0, "somebody held each entry when it was applied first");
        let mut batches = BTreeMap::new();
        let log = watchman.log.iter().take(applied.0 as usize);
        for payload in log.filter(|payload| !payload.is_empty()) {
            let header = Batch::decode(payload).expect("a committed batch decodes").header;
            let done = state.apply_batch(payload, |txn, outcome| {
                // What comes from a session's earlier owner, or after its end, takes a number and does nothing.
                let is_void = matches!(outcome.answer, Answer::Moved | Answer::Code(Code::SessionExpired));
                if matches!(txn.body, TxnBody::CreateSession { .. }) {
                    truth.sessions.insert(txn.session.0);
                }
                if txn.takes_zxid() && !is_void {
                    let who = (txn.session.0, txn.xid.0, Result::of(&outcome.answer));
                    let twice = truth.asked.insert(outcome.zxid.0, who);
                    assert_eq!(twice, None, "zxid {} was given twice", outcome.zxid);
                }
                for change in &outcome.changes {
                    truth.take(outcome.zxid.0, change);
                    if let Change::SessionClosed(closed) = change {
                        truth.ended.insert(closed.0 .0, outcome.zxid.0);
                    }
                }
            });
            let done = done.expect("a committed batch decodes");
            if done && header.sequence > 0 {
                let run = (header.server, header.incarnation);
                let before = batches.insert(run, header.sequence).unwrap_or(0);
                assert_eq!(
                    header.sequence,
                    before + 1,
                    "batches of {run:?} are applied once, in order, none left out"
                );
            }
        }
        assert_eq!(state.digest(), server.sequencer.state().digest(), "the log gives the state");
        assert_eq!(state.membership, server.sequencer.state().membership, "the log gives the members");
        truth
    }

    fn take(&mut self, zxid: i64, change: &Change) {
        let (kind, node) = match change {
            Change::Created { node, .. } => (CREATED, node),
            Change::DataSet { node } => (CHANGED, node),
            Change::Deleted { node, .. } => (DELETED, node),
            _ => return,
        };
        let path = node.path.as_str();
        if kind == CREATED {
            self.children.entry(path.to_owned()).or_default().insert(zxid);
        }
        if kind != CHANGED {
            self.children.entry(parent(path).to_owned()).or_default().insert(zxid);
        }
        let bytes = node.data().map(<[u8]>::to_vec);
        let value = (kind != DELETED).then(|| bytes.unwrap_or_default());
        self.data.entry(path.to_owned()).or_default().insert(zxid, value);
        self.facts.push(Fact { zxid, kind, path: path.to_owned() });
    }

    /// A znode's data at a zxid, and since when it has it.
    fn at(&self, path: &str, zxid: i64) -> Option<(i64, &[u8])> {
        let (since, value) = self.data.get(path)?.range(..=zxid).next_back()?;
        value.as_deref().map(|value| (*since, value))
    }

    /// When a znode that is there at a zxid was written last.
    pub fn mzxid(&self, path: &str, zxid: i64) -> Option<i64> {
        if path == "/" {
            return Some(0);
        }
        self.at(path, zxid).map(|(since, _)| since)
    }

    /// When a child of a znode that is there at a zxid came or went last.
    pub fn pzxid(&self, path: &str, zxid: i64) -> Option<i64> {
        self.mzxid(path, zxid)?;
        let last = self.children.get(path).and_then(|all| all.range(..=zxid).next_back());
        Some(last.copied().unwrap_or(0))
    }

    fn names_below(&self, path: &str, zxid: i64) -> BTreeSet<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.data.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let names = below.filter_map(|(name, values)| {
            let name = &name[prefix.len()..];
            let is_there = || values.range(..=zxid).next_back().is_some_and(|(_, value)| value.is_some());
            (!name.contains('/') && is_there()).then(|| name.to_owned())
        });
        // The server's own.
        names.chain((path == "/").then(|| "zookeeper".to_owned())).collect()
    }

    /// Everything that was answered, against the log.
    pub fn judge(&self, history: &[Op]) {
        for op in history.iter().filter(|op| op.is_read_only) {
            let Some(done) = &op.done else { continue };
            let is_refused = op.ask.asks_a_majority() || op.is_strict && op.ask.is_read();
            assert!(!is_refused || done.err == NOT_READ_ONLY || self.is_local_close(op), "{op:?}");
        }
        self.in_order();
        self.writes(history);
        self.reads(history);
        self.shows_own_writes(history);
        names_are_never_given_twice(history);
    }

    /// A session's writes are in the log in the order in which they were asked: nothing of an old connection lands behind
    /// what was asked on a new one.
    fn in_order(&self) {
        let mut last: BTreeMap<i64, i32> = BTreeMap::new();
        for (zxid, (session, xid, _)) in self.asked.iter().filter(|(_, (_, xid, _))| *xid > 0) {
            let before = last.insert(*session, *xid).unwrap_or(0);
            assert!(before < *xid, "session {session:x}: {xid} at 0x{zxid:x} behind {before}");
        }
    }

    /// What a session has asked for before a read is done when that is answered, or never will be: also what was asked on an
    /// earlier connection, and not answered. A client that does not see it does it again.
    fn shows_own_writes(&self, history: &[Op]) {
        let mut landed: BTreeMap<i64, Vec<(i32, i64)>> = BTreeMap::new();
        for (zxid, (session, xid, _)) in self.asked.iter().filter(|(_, (_, xid, _))| *xid > 0) {
            landed.entry(*session).or_default().push((*xid, *zxid));
        }
        for op in history.iter().filter(|op| op.ask.is_read() && !op.is_read_only) {
            let (Some(done), Some(own)) = (&op.done, landed.get(&op.session)) else { continue };
            // In the order of both numbers.
            let Some(last) = own.partition_point(|(xid, _)| *xid < op.xid).checked_sub(1) else { continue };
            let (xid, zxid) = own[last];
            assert!(zxid <= done.zxid, "its own {xid} was done later, at 0x{zxid:x}: {op:?}");
        }
    }

    /// How many of those who asked were never in the state.
    pub fn local_sessions(&self, history: &[Op]) -> u64 {
        let asked: BTreeSet<i64> = history.iter().map(|op| op.session).collect();
        asked.difference(&self.sessions).count() as u64
    }

    /// The end of a session that was not in the state, as far as its server and its client knew: nobody else hears of it. An
    /// entry that had been given up may bring it into the state later; there it ends with its timeout.
    fn is_local_close(&self, op: &Op) -> bool {
        let is_logged = |zxid| {
            self.asked.get(&zxid).is_some_and(|(session, xid, _)| (*session, *xid) == (op.session, op.xid))
        };
        let was_local =
            || op.may_be_local && op.done.as_ref().is_some_and(|done| done.err == 0 && !is_logged(done.zxid));
        op.ask == Ask::Close && (!self.sessions.contains(&op.session) || was_local())
    }

    /// What a leader had a part in. A server without one refuses the rest, on a connection that it granted for reading; on
    /// others it is a full disk that makes the leader answer so.
    fn is_led(&self, op: &Op) -> bool {
        let is_refused = op.done.as_ref().is_some_and(|done| done.err == NOT_READ_ONLY);
        !(is_refused && op.is_read_only || self.is_local_close(op))
    }

    fn writes(&self, history: &[Op]) {
        // By real time: a write that was answered before another was asked has the smaller zxid.
        let mut answered: Vec<(u64, i64)> = Vec::new();
        for op in history.iter().filter(|op| op.ask.is_write() && self.is_led(op)) {
            let Some(done) = &op.done else { continue };
            if done.err == EXPIRED {
                let ended = self.ended.get(&op.session).is_some_and(|at| *at <= done.zxid);
                assert!(ended || op.may_be_local, "its session had not ended: {op:?}");
                continue;
            }
            let Some((session, xid, result)) = self.asked.get(&done.zxid) else {
                panic!("an acknowledged write is not in the log: {op:?}")
            };
            assert_eq!((*session, *xid), (op.session, op.xid), "it is somebody else's in the log: {op:?}");
            assert_eq!(done.err, result.code, "{op:?}");
            if let Some(results) = &result.results {
                assert_eq!(done.body[..], results[..], "{op:?}");
            }
            answered.push((done.at, done.zxid));
        }
        answered.sort_unstable();
        let mut highest = i64::MIN;
        let upto: Vec<(u64, i64)> = answered
            .iter()
            .map(|(at, zxid)| {
                highest = highest.max(*zxid);
                (*at, highest)
            })
            .collect();
        for op in history.iter().filter(|op| op.ask.asks_a_majority() || op.is_strict && op.ask.is_read()) {
            let Some(done) = op.done.as_ref().filter(|_| self.is_led(op)) else { continue };
            let before = upto.partition_point(|(at, _)| *at < op.called);
            let Some((_, least)) = before.checked_sub(1).map(|at| upto[at]) else { continue };
            if !op.ask.is_write() {
                // Its answer is not older than what was acknowledged before it was asked.
                let what = if op.ask == Ask::Sync { "sync" } else { "strict read" };
                assert!(done.zxid >= least, "a {what} at 0x{:x} behind 0x{least:x}: {op:?}", done.zxid);
            } else {
                assert!(done.zxid > least, "0x{:x} not above 0x{least:x}: {op:?}", done.zxid);
            }
        }
    }

    /// A read is exact at the zxid in its header.
    fn reads(&self, history: &[Op]) {
        for op in history {
            let Some(done) = op.done.as_ref().filter(|_| self.is_led(op)) else { continue };
            let (Ask::Get { path, .. } | Ask::Exists { path, .. } | Ask::Children { path, .. }) = &op.ask
            else {
                continue;
            };
            let is_there = self.mzxid(path, done.zxid).is_some();
            let want = match is_there {
                true if is_hidden(path) => -102,
                true => 0,
                false => -101,
            };
            assert_eq!(done.err, want, "{op:?}");
            if done.err != 0 {
                continue;
            }
            let mut reader = Reader::new(&done.body);
            match &op.ask {
                Ask::Get { .. } => {
                    let data = reader.buffer().expect("a getData's body").unwrap_or_default();
                    assert_eq!(self.at(path, done.zxid).map(|(_, value)| value), Some(data), "{op:?}");
                    self.stat(op, path, done.zxid, &mut reader);
                }
                Ask::Exists { .. } => self.stat(op, path, done.zxid, &mut reader),
                _ => {
                    let count = reader.count(4).expect("a count").expect("not null");
                    let name = |_| reader.string().expect("a string").expect("not null").into_owned();
                    let names: BTreeSet<String> = (0..count).map(name).collect();
                    assert_eq!(names, self.names_below(path, done.zxid), "{op:?}");
                }
            }
        }
    }

    fn stat(&self, op: &Op, path: &str, zxid: i64, reader: &mut Reader<'_>) {
        let stat = Stat::decode(reader).expect("a Stat");
        let seen = (Some(stat.mzxid), Some(stat.pzxid));
        assert_eq!(seen, (self.mzxid(path, zxid), self.pzxid(path, zxid)), "{stat:?} of {op:?}");
    }
}

/// A sequential znode's suffix grows, and none is used again.
fn names_are_never_given_twice(history: &[Op]) {
    let mut given: Vec<(i64, String)> = Vec::new();
    for op in history {
        let (Ask::Create { flags: SEQUENTIAL, .. }, Some(done)) = (&op.ask, &op.done) else { continue };
        if done.err == 0 {
            let name = Reader::new(&done.body).string().expect("a create's body").expect("a path");
            given.push((done.zxid, name.into_owned()));
        }
    }
    given.sort_unstable();
    for pair in given.windows(2) {
        assert!(pair[0].1 < pair[1].1, "{} was given after {}", pair[1].1, pair[0].1);
    }
}

// ---- one server for itself ----

/// An ephemeral is there exactly as long as its session lives.
pub fn ephemerals_have_owners(server: &Server) {
    let state = server.sequencer.state();
    for (session, paths) in state.table.all_ephemerals() {
        assert!(
            paths.is_empty() || state.sessions.get(session).is_some(),
            "server {}: {paths:?} of session {session}, which is gone",
            server.id
        );
    }
}

/// Who speaks for a session at this server owns it, as far as the server's log goes.
pub fn sessions_are_with_their_owners(server: &Server) {
    let sessions = &server.sequencer.state().sessions;
    let locals: BTreeMap<_, _> = server.sequencer.locals().collect();
    for (session, conn) in server.shard.sessions_after(None) {
        let owner = sessions.get(session).map(|session| session.owner).or(locals.get(&session).copied());
        let owner = owner.map(|owner| (owner.server.0, owner.conn));
        assert_eq!(
            owner,
            Some((server.id, conn)),
            "server {}: its connection {conn:?} speaks for session {session}",
            server.id
        );
    }
}

/// What clients read is what the log made.
pub fn shards_have_the_state(server: &Server) {
    let (table, state) = (server.shard.table(), &server.sequencer.state().table);
    assert_eq!(table.len(), state.len(), "server {}: znodes of its shard and its state", server.id);
    for node in state.nodes().iter() {
        let path = node.path.as_str();
        let seen = table.get(path).map(|node| (node.stat(), node.data()));
        let known = Some((node.stat(), node.data()));
        assert_eq!(seen, known, "server {}: {path} in its shard and in its state", server.id);
    }
}

/// What the servers have at last: every participant that is named votes, with the directory that it has now, and nobody else.
pub fn members_are_as_named(servers: &BTreeMap<u8, Server>) -> bool {
    let Some(leader) = servers.values().find(|server| server.sequencer.is_leading()) else { return false };
    let members = &leader.sequencer.state().membership;
    if !members.is_ensemble() {
        return true;
    }
    let sits = |server: &Server| {
        let id = ServerId(server.id);
        let seat = members.seat_of(id, server.disk.birth);
        let is_named = members.servers.get(&id).is_some_and(|line| !line.is_observer);
        seat.is_some_and(|seat| members.conf.voters.contains(&seat) == is_named && server.seat() == seat)
    };
    members.wish.is_none() && !members.conf.is_joint() && servers.values().all(sits)
}
