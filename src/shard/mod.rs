//! Machine two: talks to clients and answers reads. One a core; it knows its own connections and nobody else's.
//!
//! It takes bytes, publications and the time, and leaves bytes to be written, proposals to be sent up and connections
//! to be closed. No sockets, no clock, no threads: the drivers in `host` carry that out.
//!
//! The order that clients see is made here: for each committed transaction the shard's own table, then watch events,
//! then the reply, then the reads that waited behind it. All bytes of a connection are one queue.

mod connection;
mod fanout;
mod handshake;
mod install;
mod long;
mod look;
mod options;
mod pending;
mod read;
mod request;
mod serve;
mod stats;
mod strict;
mod watches;

pub use connection::{ConnectionRow, IDENTITY_BYTES_MAX};
pub use install::Place;
pub use options::{Note, Options, Slices, Why};
pub use stats::{Latency, Stats};

use crate::handoff::{Heard, Proposal, Upward, Wish};
use crate::ids::{ConnId, Millis, Owner, SessionId, ShardId, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::warm::{self, AHEAD};
use crate::tree::{PathHasher, Table};
use crate::watch::Watches;
use crate::wire::{next_frame, Frame};
use connection::{Connection, Phase};
use fanout::Fanout;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// A four-letter word that somebody sent, to be answered with `answer_word`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    pub conn: ConnId,
    pub word: [u8; 4],
    /// What `stmk` carries behind it.
    pub argument: Option<i64>,
}

/// What becomes of a connection after bytes were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    /// All is sent.
    All,
    /// Bytes are left: the socket is full.
    Part,
    /// All is sent and the connection is done with; `next_closed` names it.
    Closed,
}

/// How many bits of a ConnId are its slot; the rest counts connections.
const SLOT_BITS: u32 = 24;
/// A shard that was not called for this long stood still.
const STALL_MS: u64 = 500;
/// Spare out-buffers kept for connections that have something to say.
const SPARE_BUFFERS_MAX: usize = 64;
/// An out-buffer larger than this is given back to the allocator.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// The machine.
pub struct Shard {
    options: Options,
    table: Table,
    watches: Watches,
    fanout: Fanout,
    last_zxid: Zxid,
    /// Without a tree yet no handshake is answered.
    serving: bool,
    /// It serves those alone that ask for read-only mode, and writes nothing.
    read_only: bool,
    /// Sessions of the whole server, as the last publication said.
    sessions_total: usize,
    slots: Vec<Option<Box<Connection>>>,
    free_slots: Vec<u32>,
    next_serial: u64,
    /// How often sockets brought something.
    inputs: u64,
    /// This shard's own sessions. Invariant: each connection named here lives and is in phase Live.
    sessions: BTreeMap<SessionId, ConnId>,
    /// Connections without a session yet, oldest first.
    handshakes: VecDeque<(Millis, ConnId)>,
    up: Upward,
    /// Connections heard since the last report.
    heard: Vec<ConnId>,
    /// What was last heard of sessions whose connection went before the report.
    parted: Vec<(SessionId, Millis)>,
    /// Since when long reads have found too much unsent, at each look.
    crowded_since: Option<Millis>,
    reported_at: Millis,
    last_called: Option<Millis>,
    stall: Option<(Millis, Millis)>,
    /// Since when nobody is read, as far as it is seen.
    unread_since: Option<Millis>,
    outstanding: usize,
    outstanding_bytes: usize,
    /// They passed their limit and have not fallen to its half since.
    bytes_full: bool,
    ring_full: bool,
    /// Connections with something to write: those with replies before those with events alone.
    dirty: VecDeque<ConnId>,
    dirty_events: VecDeque<ConnId>,
    resumed: VecDeque<ConnId>,
    closed: VecDeque<ConnId>,
    words: VecDeque<Word>,
    notes: VecDeque<Note>,
    /// Connections whose socket is full.
    blocked: Vec<ConnId>,
    /// Connections whose next request is a long read, each once: one is answered a turn.
    long: VecDeque<ConnId>,
    spare: Vec<Vec<u8>>,
    pub stats: Stats,
}

impl Shard {
    /// A shard that does not serve yet: it answers four-letter words and closes everybody else.
    #[must_use]
    pub fn new(options: Options, hasher: PathHasher, now: Millis) -> Shard {
        let watches = Watches::new(hasher.clone(), options.watch_limits);
        let table = Table::new(hasher);
        let up = empty_upward(options.shard);
        Shard {
            options,
            table,
            watches,
            fanout: Fanout::default(),
            last_zxid: Zxid::ZERO,
            serving: false,
            read_only: false,
            sessions_total: 0,
            slots: Vec::new(),
            free_slots: Vec::new(),
            next_serial: 1,
            inputs: 0,
            sessions: BTreeMap::new(),
            handshakes: VecDeque::new(),
            up,
            heard: Vec::new(),
            parted: Vec::new(),
            crowded_since: None,
            reported_at: now,
            last_called: None,
            stall: None,
            unread_since: None,
            outstanding: 0,
            outstanding_bytes: 0,
            bytes_full: false,
            ring_full: false,
            dirty: VecDeque::new(),
            dirty_events: VecDeque::new(),
            resumed: VecDeque::new(),
            closed: VecDeque::new(),
            words: VecDeque::new(),
            notes: VecDeque::new(),
            blocked: Vec::new(),
            long: VecDeque::new(),
            spare: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// A client connected.
    pub fn accept(&mut self, now: Millis, peer: SocketAddr) -> ConnId {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("the host accepts fewer than 2^24 connections a shard")
        });
        let id = ConnId(self.next_serial << SLOT_BITS | u64::from(slot));
        self.next_serial += 1;
        self.slots[slot as usize] = Some(Box::new(Connection::new(id, peer, now)));
        self.handshakes.push_back((now, id));
        self.stats.connections += 1;
        id
    }

    /// Asks for a connection's memory: it is about to be looked at. With thousands of connections each is cold.
    #[inline]
    pub fn warm_connection(&self, id: ConnId) {
        if let Some(Some(c)) = self.slots.get(slot_of(id)) {
            warm::whole(&**c);
        }
    }

    /// Bytes came. They are taken whole: what can not be handled yet is kept, and `wants_input` says so.
    pub fn received(&mut self, now: Millis, id: ConnId, bytes: &[u8]) {
        self.inputs += 1;
        self.with(id, |shard, c| {
            shard.stats.bytes_received += bytes.len() as u64;
            if c.input.is_empty() {
                let used = shard.take_frames(now, c, bytes);
                if used < bytes.len() && !c.is_done() {
                    c.input.extend_from_slice(&bytes[used..]);
                }
            } else {
                c.input.extend_from_slice(bytes);
                shard.take_kept_frames(now, c);
            }
        });
    }

    /// The client will send no more. What it asked before is still answered (A15, half-close).
    pub fn hung_up(&mut self, id: ConnId) {
        self.with(id, |shard, c| {
            c.input_ended = true;
            if shard.is_through(c) {
                c.phase = Phase::Done;
            }
        });
    }

    /// The socket is broken: nothing can be said any more. What was asked before is still done.
    pub fn lost(&mut self, id: ConnId) {
        self.with(id, |shard, c| {
            shard.send_unsent(c);
            c.out.clear();
            c.sent = 0;
            c.phase = Phase::Done;
        });
    }

    /// Whether bytes of this connection should be read now.
    #[must_use]
    pub fn wants_input(&self, id: ConnId) -> bool {
        !self.ring_full
            && self
                .get(id)
                .is_some_and(|c| !c.input_ended && !self.is_paused(c) && !matches!(c.phase, Phase::Done))
    }

    /// The proposal ring has no room: nothing more is read until it has.
    pub fn set_ring_full(&mut self, full: bool) {
        if self.ring_full && !full {
            self.resumed.extend(self.slots.iter().flatten().map(|c| c.id));
        }
        self.ring_full = full;
    }

    /// What was gathered for the sequencer, if anything was.
    pub fn take_upward(&mut self) -> Option<Upward> {
        if self.up.proposals.is_empty() && self.up.heard.is_none() {
            return None;
        }
        Some(std::mem::replace(&mut self.up, empty_upward(self.options.shard)))
    }

    /// Bytes gathered for the sequencer so far.
    #[must_use]
    pub fn upward_bytes(&self) -> usize {
        self.up.arena.len()
    }

    /// Time passes: timeouts, the report on what was heard.
    pub fn tick(&mut self, now: Millis) {
        self.observe(now);
        self.close_silent(now);
        self.cut_slow(now);
        if now.since(self.reported_at).0 >= self.options.report_ms {
            self.report(now);
        }
    }

    /// Takes note of a stall of this shard's own thread. Call it first in every turn.
    pub fn observe(&mut self, now: Millis) {
        if let Some(last) = self.last_called {
            if now.since(last).0 > STALL_MS.max(2 * self.options.report_ms) {
                let from = self.stall.map_or(last, |(from, _)| from);
                self.stall = Some((from, now));
            }
        }
        self.last_called = Some(now);
        let is_full = self.ring_full || self.bytes_full;
        match self.unread_since.filter(|_| !is_full) {
            Some(since) => {
                self.note_unread(since, now);
                self.unread_since = None;
            }
            None if is_full => self.unread_since = self.unread_since.or(Some(now)),
            None => {}
        }
    }

    /// Nobody was read: what clients said meanwhile lies in their sockets.
    fn note_unread(&mut self, since: Millis, now: Millis) {
        if now.since(since).0 > STALL_MS {
            let from = self.stall.map_or(since, |(from, _)| from.min(since));
            self.stall = Some((from, now));
        }
    }

    fn report(&mut self, now: Millis) {
        // The one before has found no room in the ring: this one would take its place.
        if self.up.heard.is_some() {
            return;
        }
        self.reported_at = now;
        if let Some(since) = self.unread_since {
            self.note_unread(since, now);
        }
        let heard = std::mem::take(&mut self.heard);
        let mut sessions = std::mem::take(&mut self.parted);
        sessions.reserve(heard.len());
        for (at, id) in heard.iter().enumerate() {
            if at.is_multiple_of(AHEAD) {
                heard[at..].iter().take(AHEAD).for_each(|id| self.warm_connection(*id));
            }
            self.with(*id, |shard, c| {
                c.is_heard = false;
                if c.session == SessionId::NONE {
                    return;
                }
                // What it says meanwhile is not read: its pings lie in its socket.
                if shard.waits_unread(c) {
                    shard.heard_of(c, now);
                }
                sessions.push((c.session, c.last_heard));
            });
        }
        self.up.heard = Some(Heard { sessions, through: now, stall: self.stall.take() });
    }

    fn close_silent(&mut self, now: Millis) {
        let limit = self.options.handshake_timeout_ms;
        while let Some((since, id)) = self.handshakes.front().copied() {
            if now.since(since).0 < limit {
                break;
            }
            self.handshakes.pop_front();
            self.with(id, |shard, c| {
                match c.phase {
                    Phase::Fresh => shard.cut(c, Why::NoHandshake),
                    // Its answer is lost: this shard did not take it in time.
                    Phase::Word if c.asked_word_at == since => shard.cut(c, Why::NoAnswer),
                    _ => {}
                }
            });
        }
    }

    fn cut_slow(&mut self, now: Millis) {
        self.cut_crowding(now);
        // Who was blocked again between two looks stands here twice.
        self.blocked.sort_unstable();
        self.blocked.dedup();
        for id in std::mem::take(&mut self.blocked) {
            self.with(id, |shard, c| {
                if c.out.is_empty() {
                    return;
                }
                if now.since(c.blocked_since).0 >= shard.options.unsent_cut_ms {
                    shard.cut(c, Why::SlowReader);
                } else {
                    shard.blocked.push(c.id);
                }
            });
        }
    }

    // ---- what the driver carries out ----

    /// A connection that has bytes to be written; replies come before events of other sessions' changes.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop_front().or_else(|| self.dirty_events.pop_front())
    }

    /// Whether any connection with a reply waits to be written: events alone can wait behind new input.
    #[must_use]
    pub fn has_replies(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether any connection waits to be sent nothing but events of other sessions' changes.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.dirty_events.is_empty()
    }

    /// The bytes to be written to a connection.
    #[must_use]
    pub fn output(&self, id: ConnId) -> &[u8] {
        self.get(id).map_or(&[], |c| &c.out[c.sent..])
    }

    /// The driver wrote `n` of them.
    pub fn wrote(&mut self, now: Millis, id: ConnId, n: usize) -> Wrote {
        let mut result = Wrote::All;
        self.with(id, |shard, c| {
            shard.stats.bytes_sent += n as u64;
            c.sent += n;
            c.is_dirty = false;
            if c.is_full && c.out.len() - c.sent <= shard.options.unsent_pause_bytes {
                shard.resumed.push_back(c.id);
            }
            if c.sent < c.out.len() {
                if n > 0 || c.blocked_since == Millis(0) {
                    c.blocked_since = now;
                }
                // Its pings are not read meanwhile: who takes bytes lives.
                if n > 0 && shard.is_paused(c) {
                    shard.heard_of(c, now);
                }
                if !c.is_blocked {
                    c.is_blocked = true;
                    shard.blocked.push(c.id);
                }
                // A long queue that moves: what was sent is dropped once it is half of it, so that no byte is moved often.
                if c.sent > (256 << 10) && c.sent >= c.out.len() / 2 {
                    c.out.drain(..c.sent);
                    c.sent = 0;
                }
                result = Wrote::Part;
            } else {
                shard.put_back(c);
                c.is_blocked = false;
                c.blocked_since = Millis(0);
                if c.is_done() || (c.input_ended && shard.is_through(c)) {
                    c.phase = Phase::Done;
                    result = Wrote::Closed;
                }
            }
        });
        result
    }

    /// A connection whose kept bytes may be handled, and whose socket may be read again: call `resume`.
    pub fn next_resumed(&mut self) -> Option<ConnId> {
        self.resumed.pop_front()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_resumed(&self) -> bool {
        !self.resumed.is_empty()
    }

    /// Handles what was kept while a connection was paused.
    pub fn resume(&mut self, now: Millis, id: ConnId) {
        self.inputs += 1;
        self.with(id, |shard, c| {
            if c.is_full {
                // Events that came meanwhile stand in front of what is read now.
                shard.settle(c);
                shard.run_pending(now, c);
            }
            shard.take_kept_frames(now, c);
        });
    }

    /// A connection whose socket is to be closed; it is forgotten here already.
    pub fn next_closed(&mut self) -> Option<ConnId> {
        self.closed.pop_front()
    }

    /// A four-letter word that waits for its answer.
    pub fn next_word(&mut self) -> Option<Word> {
        self.words.pop_front()
    }

    /// The answer to a word: whole, then the connection closes. `None` closes without a byte.
    pub fn answer_word(&mut self, id: ConnId, text: Option<&[u8]>) {
        self.with(id, |shard, c| {
            if let Some(text) = text {
                shard.open_out(c);
                c.out.extend_from_slice(text);
            }
            c.finish();
        });
    }

    /// Something for the operator.
    pub fn next_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    // ---- inside ----

    fn get(&self, id: ConnId) -> Option<&Connection> {
        self.slots.get(slot_of(id))?.as_deref().filter(|c| c.id == id)
    }

    /// Takes a connection out of its slot, works on it, puts it back or buries it. Nothing happens for one that is
    /// gone, or that is being worked on further up.
    fn with(&mut self, id: ConnId, work: impl FnOnce(&mut Shard, &mut Connection)) {
        let slot = slot_of(id);
        let is_there = self.slots.get(slot).and_then(|c| c.as_deref()).is_some_and(|c| c.id == id);
        if !is_there {
            return;
        }
        let mut c = self.slots[slot].take().expect("it was looked at just now");
        work(self, &mut c);
        if c.is_done() && c.sent >= c.out.len() {
            self.bury(*c);
            return;
        }
        self.list_dirty(&mut c);
        self.list_resumed(&mut c);
        self.slots[slot] = Some(c);
    }

    fn list_dirty(&mut self, c: &mut Connection) {
        if c.out.len() > c.sent && !c.is_dirty && !c.is_blocked {
            c.is_dirty = true;
            if std::mem::take(&mut c.events_alone) {
                self.dirty_events.push_back(c.id);
            } else {
                self.dirty.push_back(c.id);
            }
        }
    }

    /// A connection that was not read goes on once it is below every limit: whatever brought it there ends here.
    fn list_resumed(&mut self, c: &mut Connection) {
        let is_paused = self.is_paused(c);
        if std::mem::replace(&mut c.was_paused, is_paused) && !is_paused {
            self.resumed.push_back(c.id);
        }
    }

    fn bury(&mut self, c: Connection) {
        if !mutant::is(Mutant::WatchesOutliveConnection) {
            self.watches.drop_connection(c.id);
        }
        if self.sessions.get(&c.session) == Some(&c.id) {
            self.sessions.remove(&c.session);
        }
        if c.is_heard && c.session != SessionId::NONE {
            self.parted.push((c.session, c.last_heard));
        }
        self.release_all(&c);
        self.stats.connections -= 1;
        self.free_slots.push(u32::try_from(slot_of(c.id)).expect("a slot is 24 bits"));
        self.closed.push_back(c.id);
    }

    /// Ends a connection: nothing more is said. For a fault of its own what it asked before is still done.
    fn cut(&mut self, c: &mut Connection, why: Why) {
        if !matches!(why, Why::SessionMoved | Why::NotServing | Why::ServesReadOnly) {
            self.send_unsent(c);
        }
        self.notes.push_back(Note::Cut { peer: c.peer, why });
        self.stats.cut += 1;
        c.out.clear();
        c.sent = 0;
        c.phase = Phase::Done;
    }

    /// A connection that says no more has had all its answers. A whole frame that was kept, because the connection was
    /// paused when it came, has not been looked at yet.
    fn is_through(&self, c: &Connection) -> bool {
        c.has_nothing_to_say()
            && !matches!(next_frame(&c.input, self.options.frame_bytes_max), Frame::Whole(_))
    }

    /// What connections whose sockets are full have yet to be sent.
    fn unsent_bytes(&self) -> usize {
        self.blocked.iter().filter_map(|id| self.get(*id)).map(|c| c.out.len() - c.sent).sum()
    }

    /// Its client lives: the next report says so.
    #[inline]
    fn heard_of(&mut self, c: &mut Connection, now: Millis) {
        c.last_heard = now;
        if !c.is_heard {
            c.is_heard = true;
            self.heard.push(c.id);
        }
    }

    fn is_paused(&self, c: &Connection) -> bool {
        matches!(c.phase, Phase::Handshaking { .. } | Phase::Word)
            || !c.pending.is_empty()
                && (self.waits_unread(c) || self.outstanding >= self.options.outstanding_max)
            || self.bytes_full
            || c.is_full
            || c.out.len() - c.sent > self.options.unsent_pause_bytes
    }

    /// Whether it is not read because of what it waits for itself.
    fn waits_unread(&self, c: &Connection) -> bool {
        c.has_long
            || c.pending.len() >= self.options.outstanding_per_connection_max
            || c.pending_bytes > self.options.frame_bytes_max
            || self.expects_much(c)
    }

    /// Makes sure that `c.out` has a buffer to write to.
    #[inline]
    fn open_out(&mut self, c: &mut Connection) {
        if c.out.capacity() == 0 {
            if let Some(buffer) = self.spare.pop() {
                c.out = buffer;
            }
        }
        c.events_alone = false;
    }

    /// An idle connection keeps no buffer.
    fn put_back(&mut self, c: &mut Connection) {
        let mut buffer = std::mem::take(&mut c.out);
        c.sent = 0;
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn propose(&mut self, c: &Connection, xid: crate::ids::Xid, wish: Wish) {
        self.up.proposals.push(Proposal { session: c.session, conn: c.id, xid, wish });
    }

    /// Copies bytes into the message to the sequencer.
    fn carry(&mut self, bytes: &[u8]) -> std::ops::Range<u32> {
        let start = self.up.arena.len();
        self.up.arena.extend_from_slice(bytes);
        let at = |n: usize| u32::try_from(n).expect("the driver sends up long before 4 GiB");
        at(start)..at(self.up.arena.len())
    }

    fn owner_of(&self, id: ConnId) -> Owner {
        Owner {
            server: self.options.server,
            incarnation: self.options.incarnation,
            shard: self.options.shard,
            conn: id,
        }
    }
}

fn slot_of(id: ConnId) -> usize {
    (id.0 & ((1 << SLOT_BITS) - 1)) as usize
}

fn empty_upward(shard: ShardId) -> Upward {
    Upward { shard, arena: Vec::new(), proposals: Vec::new(), heard: None }
}
