//! From gathered transactions to entries: a leader stamps and proposes, a follower numbers its batches and forwards them.
//!
//! A batch of this server's clients stays here until it is applied. A new leader, or a new connection to the old one, is
//! told all of them again in order, and apply takes each number once: a forwarded write is done once, in order, and a
//! client of a living server does not notice an election.

use super::batch::BATCH_BYTES;
use super::returns::GATHER_MS;
use super::{Effect, Note, Now, Sequencer};
use crate::apply::{stamp, Batch, BatchHeader, BatchWriter, Txn, TxnBody};
use crate::ids::{LogIndex, Millis, ServerId, SessionId, Zxid};
use crate::log::PAYLOAD_BYTES_MAX;
use crate::mutant::{self, Mutant};
use crate::peer::{Addressed, Forward, Message};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Batches of this server's clients at a leader elsewhere, at the most. The next one gathers meanwhile.
const FORWARDED_MAX: usize = 4;
/// Forwarded batches of one server that wait to be proposed, at the most: an honest one sends no more.
const WAITING_MAX: usize = 4 * FORWARDED_MAX;
/// Bytes of batches in one group, at the most, unless a single batch has more.
const GROUP_BYTES: usize = BATCH_BYTES;

/// Batches that went to the log, and to the others, at one go.
pub(super) struct Group {
    /// Its last record.
    record: u64,
    /// The next one waits until this is committed; no longer than until `at` is `GATHER_MS` ago.
    last: LogIndex,
    at: Millis,
}

/// One of this server's batches, on its way.
struct Own {
    sequence: u64,
    /// Unstamped, or stamped by a reign of this server's own.
    batch: Bytes,
    zxids: i64,
    /// Proposed, or forwarded, to the leader of the moment.
    is_handed_on: bool,
    /// When it was numbered.
    at: Millis,
}

/// Another server's batch, at a leader.
struct Forwarded {
    from: ServerId,
    forward: Forward,
    zxids: i64,
    /// Whose writes it has.
    sessions: BTreeSet<SessionId>,
}

/// Batches between their clients and the log.
#[derive(Default)]
pub(super) struct Outbox {
    own: VecDeque<Own>,
    sequence: u64,
    /// Of other servers, at a leader: in the order in which they came.
    forwarded: VecDeque<Forwarded>,
    /// The number that each server's run proposes next, of those that proposed in this reign.
    next: BTreeMap<ServerId, (u64, u64)>,
}

impl Outbox {
    /// Another leader: nothing counts as handed on.
    pub(super) fn begin_again(&mut self) {
        if mutant::is(Mutant::NotToldAgain) {
            return;
        }
        let kept = usize::from(mutant::is(Mutant::GapPassedOver));
        self.own.iter_mut().skip(kept).for_each(|own| own.is_handed_on = false);
        self.forwarded.clear();
        self.next.clear();
    }

    /// This server leads from now on: all that is still here is to be proposed by itself.
    pub(super) fn begin_reign(&mut self) {
        self.own.iter_mut().for_each(|own| own.is_handed_on = false);
        self.next.clear();
    }

    /// Keeps of this server's batches what is wanted. A number of which nothing is left still has its turn.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Txn<'_>) -> bool) {
        for own in &mut self.own {
            let writer = BatchWriter::of(&own.batch, &mut keep);
            own.zxids = writer.zxids();
            own.batch = Bytes::from(writer.into_unstamped());
        }
    }

    /// The oldest of this server's batches that is not applied.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.own.front().map(|own| own.sequence)
    }
}

impl Sequencer {
    /// Moves batches on while there is room for them.
    pub(super) fn propose_batches(&mut self, now: Now) {
        // Before anything is handed on: what was told to another leader is told to this one first.
        self.see_leader();
        if self.leading {
            self.propose_all(now);
        } else {
            self.forward_all(now.mono);
        }
    }

    /// Asks Raft for the moment that syncs wait for.
    pub(super) fn ask_for_syncs(&mut self) {
        let waiting = self.gather.take_syncs();
        if !waiting.is_empty() {
            self.consensus.read_index(waiting);
        }
    }

    fn log_has_room(&self) -> bool {
        !self.consensus.is_handing_over() && self.groups.len() < self.options.in_flight_max
    }

    /// Whether more than fits into one group waits: it gains nothing by waiting longer.
    fn has_full_group(&self) -> bool {
        let bytes = |one: &Forwarded| one.forward.batch.len();
        self.gather.has_full_batch() || self.outbox.forwarded.iter().map(bytes).sum::<usize>() >= GROUP_BYTES
    }

    /// For how long the host may sleep at most: what gathers goes out then, though what went before is not applied and those who
    /// were answered are not back.
    #[must_use]
    pub fn rests(&self, now: Millis) -> Option<Millis> {
        if !self.leading {
            let waits = self.is_serving() && !self.gather.is_empty();
            return self.follower_rests(now).filter(|left| waits && *left > 0).map(Millis);
        }
        let waits = !self.gather.is_empty()
            || !self.outbox.forwarded.is_empty()
            || self.outbox.own.iter().any(|own| !own.is_handed_on);
        let left = match self.groups.front() {
            // The log will tell of it.
            Some(oldest) if oldest.record > self.persisted => return None,
            Some(oldest) => GATHER_MS.saturating_sub(now.since(oldest.at).0),
            None => self.returns.rests(now),
        };
        (waits && left > 0).then_some(Millis(left))
    }

    /// For how long a follower's next batch only gathers; `None` where that is until others are applied.
    fn follower_rests(&self, now: Millis) -> Option<u64> {
        let own = &self.outbox.own;
        let left = |last: &Own| GATHER_MS.saturating_sub(now.since(last.at).0);
        let left = own.back().map_or_else(|| self.returns.rests(now), left);
        let is_full = own.len() >= FORWARDED_MAX;
        (!is_full).then_some(if self.gather.has_full_batch() { 0 } else { left })
    }

    /// A leader's turn. All that waits goes as one group: what an earlier leader left undone, then everybody's by turns. The
    /// host writes a group at one go, and a follower is told of it at one go: batch by batch, with as many in flight, three
    /// servers with 64 clients on 16 CPUs let each batch wait for six others' writes.
    fn propose_all(&mut self, now: Now) {
        let (persisted, committed) = (self.persisted, self.consensus.committed());
        self.groups.retain(|group| {
            let is_done = committed >= group.last || now.mono.since(group.at).0 >= GATHER_MS;
            group.record > persisted || !is_done
        });
        if !self.log_has_room() || self.returns.rests(now.mono) > 0 && !self.has_full_group() {
            return;
        }
        let records = self.records;
        let mut room = GROUP_BYTES;
        for at in 0..self.outbox.own.len() {
            if room > 0 && !self.outbox.own[at].is_handed_on {
                room = room.saturating_sub(self.propose_own(now, at));
            }
        }
        let mut more = true;
        // Each has its turn before the room is looked at: who has a lot must not let the others' wait.
        while more && room > 0 {
            more = false;
            if let Some(wishes) = self.gather.next_wishes() {
                more = true;
                let name = (self.options.server, self.options.incarnation, 0);
                let zxids = wishes.zxids();
                room = room.saturating_sub(self.propose(now, name, wishes.into_unstamped(), zxids).len());
            }
            if self.number_batch(now.mono) {
                more = true;
                room = room.saturating_sub(self.propose_own(now, self.outbox.own.len() - 1));
            }
            if let Some(forwarded) = self.outbox.forwarded.pop_front() {
                more = true;
                room = room.saturating_sub(self.propose_forwarded(now, forwarded));
            }
        }
        self.pump();
        if self.records > records {
            self.returns.handed_on();
            // Behind a full one there is more.
            let last = if room > 0 { self.consensus.last_index() } else { LogIndex(0) };
            self.groups.push_back(Group { record: self.records, last, at: now.mono });
        }
    }

    /// Takes the next batch that gathered. Returns whether there was one.
    fn number_batch(&mut self, at: Millis) -> bool {
        let Some(batch) = self.gather.next_batch() else { return false };
        self.outbox.sequence += 1;
        let zxids = batch.zxids();
        let own = Own {
            sequence: self.outbox.sequence,
            batch: Bytes::from(batch.into_unstamped()),
            zxids,
            is_handed_on: false,
            at,
        };
        self.outbox.own.push_back(own);
        true
    }

    /// Returns how many bytes it has, as all that propose do.
    fn propose_own(&mut self, now: Now, at: usize) -> usize {
        let own = &mut self.outbox.own[at];
        own.is_handed_on = true;
        let (sequence, zxids) = (own.sequence, own.zxids);
        // Its only owner gives it away without a copy; the stamped bytes come back as the batch that is kept.
        let batch = Vec::from(std::mem::take(&mut own.batch));
        let name = (self.options.server, self.options.incarnation, sequence);
        let payload = self.propose(now, name, batch, zxids);
        let bytes = payload.len();
        self.outbox.own[at].batch = payload;
        bytes
    }

    /// Apply would pass over all but the next one of each server: so would this leader's log be filled in vain.
    fn propose_forwarded(&mut self, now: Now, forwarded: Forwarded) -> usize {
        let Forwarded { from, forward, zxids, sessions } = forwarded;
        let Forward { incarnation, sequence, batch, .. } = forward;
        let next = match self.outbox.next.get(&from) {
            Some((known, next)) if *known == incarnation => *next,
            _ => self.state.next_batch(from, incarnation),
        };
        let is_next = sequence == next
            || mutant::is(Mutant::BatchTwice)
            || sequence > next && mutant::is(Mutant::GapPassedOver);
        if sequence < next && !is_next {
            return 0;
        }
        if !is_next {
            self.refuse_forward(from);
            return 0;
        }
        self.outbox.next.insert(from, (incarnation, sequence + 1));
        // Who asks lives, though the report that says so be lost on its way.
        let at = self.session_now();
        sessions.into_iter().for_each(|session| self.expiry.touch(session, at));
        self.propose(now, (from, incarnation, sequence), Vec::from(batch), zxids).len()
    }

    /// Stamps a batch and hands it to Raft. Returns its bytes.
    fn propose(&mut self, now: Now, name: (ServerId, u64, u64), batch: Vec<u8>, zxids: i64) -> Bytes {
        let (payload, range) = self.stamp(now, name, batch, zxids, 1);
        self.consensus.propose(payload.clone(), range).expect("a leader takes proposals");
        if zxids > 0 {
            self.last_logged_zxid = range.1;
        }
        payload
    }

    /// A batch with its header, and the zxids that it takes; where it is its term's first, from this count on.
    pub(super) fn stamp(
        &mut self,
        now: Now,
        name: (ServerId, u64, u64),
        mut batch: Vec<u8>,
        zxids: i64,
        count: i64,
    ) -> (Bytes, (Zxid, Zxid)) {
        let first_of_term = Zxid(((self.consensus.term().0 as i64) << 32) | count);
        let mut first_zxid = self.last_logged_zxid.next();
        if !mutant::is(Mutant::ZxidsFromStart) {
            first_zxid = first_zxid.max(first_of_term);
        }
        let (server, incarnation, sequence) = name;
        let header = BatchHeader {
            options: self.options.txn,
            wall: now.wall,
            first_zxid,
            server,
            incarnation,
            sequence,
        };
        stamp(&mut batch, &header);
        // A batch of attaches alone takes none.
        let last_zxid = Zxid(first_zxid.0 + zxids - 1);
        let range = if zxids == 0 { (Zxid::ZERO, Zxid::ZERO) } else { (first_zxid, last_zxid) };
        (Bytes::from(batch), range)
    }

    /// A follower's turn: what the leader does not have yet goes to it, in order.
    fn forward_all(&mut self, now: Millis) {
        while self.is_serving() && self.follower_rests(now) == Some(0) && self.number_batch(now) {
            self.returns.handed_on();
        }
        let Some((leader, term)) = self.consensus.leader() else { return };
        if leader == self.options.server || !self.peers.is_up(leader) {
            return;
        }
        if mutant::is(Mutant::NewestFirst) {
            self.outbox.own.make_contiguous().reverse();
        }
        // A leader that was cut off may have gathered many more than a follower ever does: they go as the first ones are done.
        let under_way = self.outbox.own.iter().filter(|own| own.is_handed_on).count();
        let room = FORWARDED_MAX.saturating_sub(under_way);
        for own in self.outbox.own.iter_mut().filter(|own| !own.is_handed_on).take(room) {
            own.is_handed_on = true;
            let (incarnation, sequence) = (self.options.incarnation, own.sequence);
            let message = Message::Forward(Forward { term, incarnation, sequence, batch: own.batch.clone() });
            self.effects.push_back(Effect::Send(Addressed { to: leader, message }));
        }
    }

    /// A server forwards a batch.
    pub(super) fn on_forward(&mut self, from: ServerId, forward: Forward) {
        if !self.consensus.is_leading() || forward.term != self.consensus.term() {
            // It will hear who leads, and in which term, and tell all of it again from the first.
            return;
        }
        // What an earlier run of it left is nobody's; what it tells again over a new connection is here already.
        let waiting = &mut self.outbox.forwarded;
        waiting.retain(|one| one.from != from || one.forward.incarnation == forward.incarnation);
        let mut of_it = waiting.iter().filter(|one| one.from == from);
        if of_it.any(|one| one.forward.sequence == forward.sequence) {
            return;
        }
        if waiting.iter().filter(|one| one.from == from).count() >= WAITING_MAX {
            let why = "more batches than an honest server sends";
            self.effects.push_back(Effect::Note(Note::Nonsense { from, why }));
            return;
        }
        let Some((zxids, sessions)) = taken(&forward.batch) else { return self.refuse_forward(from) };
        sessions.iter().for_each(|session| self.returns.wrote(*session));
        self.outbox.forwarded.push_back(Forwarded { from, forward, zxids, sessions });
    }

    fn refuse_forward(&mut self, from: ServerId) {
        let why = "a forwarded batch that no honest server sends";
        self.effects.push_back(Effect::Note(Note::Nonsense { from, why }));
    }

    /// A batch of this run of this server is in the log and applied: all up to it are done.
    pub(super) fn forget_own(&mut self, sequence: u64) {
        while self.outbox.own.front().is_some_and(|own| own.sequence <= sequence) {
            self.outbox.own.pop_front();
        }
    }
}

/// The zxids that a batch takes, and whose it is; `None` where it is none, no log holds it, or it wishes for what only a
/// leader may.
fn taken(batch: &[u8]) -> Option<(i64, BTreeSet<SessionId>)> {
    if batch.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut batch = Batch::decode(batch).ok()?;
    let (mut zxids, mut sessions) = (0, BTreeSet::new());
    while let Some(txn) = batch.next_txn().ok()? {
        if matches!(
            txn.body,
            TxnBody::CloseSession | TxnBody::Expire { .. } | TxnBody::Reap { .. } | TxnBody::Member { .. }
        ) {
            return None;
        }
        zxids += i64::from(txn.takes_zxid());
        if matches!(txn.body, TxnBody::Request { .. }) {
            sessions.insert(txn.session);
        }
    }
    Some((zxids, sessions))
}
