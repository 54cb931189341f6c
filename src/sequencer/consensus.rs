//! The narrow room around the `raft` crate: batches and peers' messages in; records to write, committed entries and
//! messages out.
//!
//! A standalone server is an ensemble of one and takes this same path. Payloads never enter the crate: an entry holds
//! none, and its bytes are found by index. What a peer says is looked at by `guard` before the crate sees it.

use super::batch::Waiter;
use super::conf;
use super::guard::{self, Nonsense};
use super::reads::Reads;
use super::storage::{self, Slot, Store};
use super::unpersisted::Unpersisted;
use crate::ids::{LogIndex, Seat, ServerId, Term, Zxid};
use crate::log::{Append, HardState as Vote};
use crate::membership::{Conf, ConfChange};
use crate::mutant::{self, Mutant};
use crate::peer::{Addressed, RaftMessage};
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState, MessageType, Snapshot};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole, INVALID_ID};
use std::collections::{BTreeMap, BTreeSet};

/// A record to be written, or an entry that was.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Index 0: no entry, only the hard state.
    pub index: LogIndex,
    pub term: Term,
    /// Raft's entry type.
    pub tag: u8,
    /// The batch's; zero where it takes none.
    pub first_zxid: Zxid,
    pub last_zxid: Zxid,
    pub hard_state: Vote,
    /// Empty for Raft's own entries.
    pub payload: Bytes,
    payload_len: usize,
}

impl Logged {
    /// Whether it holds a batch; a new leader's first entry does not.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        self.payload_len > 0
    }

    /// As the log takes it. `payload`: this one's, in a piece.
    #[must_use]
    pub fn record<'a>(&self, payload: &'a [&'a [u8]]) -> Append<'a> {
        if self.index.0 == 0 {
            return Append::hard_state(self.hard_state);
        }
        let zxids = (self.first_zxid, self.last_zxid);
        Append::entry(self.tag, self.term, self.index, zxids, self.hard_state, payload)
    }
}

/// An entry that the log held at the start; its payload is still there.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredEntry {
    pub index: LogIndex,
    pub term: Term,
    pub tag: u8,
    pub first_zxid: Zxid,
    pub last_zxid: Zxid,
    pub payload_len: usize,
}

/// What the log held at the start.
#[derive(Clone, Debug, Default)]
pub struct RecoveredLog {
    /// The entry that a snapshot ends with, or zero.
    pub base: (LogIndex, Term),
    /// Contiguous after the base.
    pub entries: Vec<RecoveredEntry>,
    pub hard_state: Vote,
}

/// What a turn of Raft wants.
pub(super) struct Turn {
    /// Forget the log: a fetched snapshot takes its place, before anything of this turn is written.
    pub install: Option<Install>,
    pub append: Vec<Logged>,
    pub committed: Vec<Logged>,
    pub send: Vec<Addressed>,
}

/// The entry that a snapshot ends with, and what must not be forgotten with the log.
#[derive(Clone, Copy, Debug)]
pub struct Install {
    pub index: LogIndex,
    pub term: Term,
    pub hard_state: Vote,
}

/// Election and heartbeat, in ticks.
const ELECTION_TICKS: usize = 16;
const HEARTBEAT_TICKS: usize = 3;
/// Each election in vain makes the next one twice as long, up to 2^3 times: where a vote takes a second to be on a disk, all
/// others would be in vain, too (an audit).
const DOUBLINGS_MAX: u64 = 3;
/// So many messages may wait for this server's disk before it asks its reads anew.
const WAITING_MAX: usize = 256;
/// After a lost connection to the leader, a follower waits for up to this many ticks before it stands for election.
const HURRY_TICKS: u64 = 3;
/// Entries without payload that a server alone keeps in memory behind the applied one.
const ENTRIES_KEPT: u64 = 1024;
/// Payload in one message to a follower, unless a single entry has more.
pub(super) const MESSAGE_BYTES: u64 = 1 << 20;

pub(super) struct Consensus {
    pub(super) node: RawNode<Store>,
    pub(super) id: u64,
    seed: u64,
    base_term: Term,
    /// Payloads of proposals and of peers' entries that Raft may take in this turn, by index and term.
    arriving: BTreeMap<(u64, u64), (Bytes, (Zxid, Zxid))>,
    unpersisted: Unpersisted,
    reads: Reads,
    campaigned: bool,
    /// Ticks until this server stands for election, the leader's connection being gone.
    hurry: Option<u64>,
    /// The last term in which something was committed, as far as this server knows, or that it began with. One whose leader was
    /// elected only to be followed by the next election counts as in vain (the simulator, seed 108 of slow disks).
    led_term: u64,
}

impl Consensus {
    pub(super) fn new(
        seat: Seat,
        incarnation: u64,
        seed: [u8; 32],
        conf: &Conf,
        log: RecoveredLog,
    ) -> Consensus {
        let id = seat.0;
        let (index, term) = (log.base.0 .0, log.base.1 .0);
        let slot = |e: &RecoveredEntry| Slot {
            term: e.term.0,
            tag: e.tag,
            zxids: (e.first_zxid, e.last_zxid),
            payload_len: e.payload_len,
            payload: None,
        };
        let last = log.entries.last().map_or(index, |e| e.index.0);
        let hard_state = HardState {
            term: log.hard_state.term.0.max(log.entries.last().map_or(term, |e| e.term.0)),
            vote: log.hard_state.vote,
            commit: log.hard_state.commit.0.clamp(index, last),
        };
        let hard_state_term = hard_state.term;
        let conf = if conf.voters.is_empty() { conf::alone(id) } else { conf::state_of(conf) };
        let store = Store::new((index, term), log.entries.iter().map(slot).collect(), hard_state, conf);
        let mut seed_bytes = [0; 8];
        seed_bytes.copy_from_slice(&seed[..8]);
        let mut consensus = Consensus {
            node: raw_node(id, index, store),
            id,
            seed: u64::from_le_bytes(seed_bytes),
            base_term: Term(term),
            arriving: BTreeMap::new(),
            unpersisted: Unpersisted::default(),
            reads: Reads::new(seat, incarnation),
            campaigned: false,
            hurry: None,
            led_term: hard_state_term,
        };
        consensus.pin_election_timeout();
        consensus
    }

    pub(super) fn base_term(&self) -> Term {
        self.base_term
    }

    pub(super) fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Who leads in which term, as far as this server knows.
    pub(super) fn leader(&self) -> Option<(ServerId, Term)> {
        let leader = self.node.raft.leader_id;
        (leader != INVALID_ID).then(|| (Seat(leader).server(), self.term()))
    }

    pub(super) fn is_leading(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether an entry of this very term is committed and applied: the leader's first one.
    pub(super) fn has_committed_in_term(&self, applied: LogIndex) -> bool {
        if mutant::is(Mutant::EarlierTermCounts) {
            return true;
        }
        let log = &self.node.raft.raft_log;
        log.committed == applied.0 && log.term(applied.0).is_ok_and(|term| term == self.node.raft.term)
    }

    /// The last zxid that any entry in the log has taken, applied or not.
    pub(super) fn last_zxid(&self) -> Zxid {
        let slots = self.node.store().slots.iter().rev();
        slots.map(|slot| slot.zxids.1).find(|zxid| *zxid != Zxid::ZERO).unwrap_or(Zxid::ZERO)
    }

    /// Time passes. The sole voter waits for nobody and elects itself at once.
    pub(super) fn tick(&mut self) {
        if self.must_wait() {
            return;
        }
        if !self.campaigned && self.is_sole_voter() {
            self.campaigned = true;
            self.campaign();
        }
        // Its questions wait for its disk, and the others' votes come behind its own: the time to win them has not begun.
        let stands = matches!(self.node.raft.state, StateRole::Candidate | StateRole::PreCandidate);
        if !stands || self.unpersisted.is_empty() {
            self.node.tick();
        }
        if let Some(ticks) = self.hurry {
            self.hurry = ticks.checked_sub(1);
            if ticks == 0 && self.node.raft.leader_id == INVALID_ID {
                self.campaign();
            }
        }
        self.pin_election_timeout();
        // While the disk stands the questions of before still wait for it.
        if self.may_ask() {
            for context in self.reads.ask_again() {
                self.ask_moment(context);
            }
        }
    }

    /// How many ticks may pass at once because nothing is expected: a leader's until its next heartbeat, a follower's until the
    /// leader's is late. From then on, and while anything is under way, each has its moment: those who wait for an
    /// election at random must not stand for it together.
    pub(super) fn quiet_ticks(&self) -> u64 {
        let raft = &self.node.raft;
        let is_quiet = self.hurry.is_none()
            && self.reads.is_settled()
            && self.unpersisted.is_empty()
            && raft.raft_log.committed == self.last_index().0
            && raft.raft_log.persisted == self.last_index().0
            && raft.leader_id != INVALID_ID
            && raft.lead_transferee.is_none()
            && !raft.has_pending_conf();
        let ticks = match raft.state {
            StateRole::Leader => HEARTBEAT_TICKS.saturating_sub(raft.heartbeat_elapsed()),
            StateRole::Follower => (HEARTBEAT_TICKS + 2).saturating_sub(raft.election_elapsed),
            _ => 1,
        };
        if is_quiet {
            ticks.max(1) as u64
        } else {
            1
        }
    }

    /// Whether a snapshot has taken the log's place and is not durable yet. The crate counts it as applied only then, and who
    /// stands for election before looks for entries that are gone (the simulator, seed 1780189776).
    fn is_installing(&self) -> bool {
        self.unpersisted.has_install()
    }

    /// Whether this server may not stand for election yet: its log is not on its disk. Who needs others' votes asks for them
    /// only then; the last one of an ensemble that has shrunk to it would elect itself at once, and the crate panics (the
    /// simulator, seed 6799).
    fn must_wait(&self) -> bool {
        let owes = !self.unpersisted.is_empty() || self.node.raft.raft_log.persisted < self.last_index().0;
        self.is_installing() || owes && !self.is_leading() && self.is_sole_voter()
    }

    /// Who may not vote stands for no election. The crate looks at that only where its own clock says that it is time: an
    /// observer whose leader was gone asked for votes, was given them, and led (an audit).
    fn campaign(&mut self) {
        if self.node.raft.promotable() || mutant::is(Mutant::ElectedWithoutVoice) {
            let _ = self.node.campaign();
        }
    }

    /// Whether this server has a voice, in the configuration as it is or as it was before.
    fn is_voter(&self) -> bool {
        self.node.raft.prs().conf().voters().contains(self.id)
    }

    /// Whether a follower could be given neither the log nor a snapshot: who was alone keeps of its log's places only the
    /// newest, whatever its newest snapshot.
    pub(super) fn lacks_offer(&self) -> bool {
        let store = self.node.store();
        store.snapshot.0 < store.base.0 && self.node.raft.prs().iter().count() > 1
    }

    pub(super) fn is_sole_voter(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters().ids();
        voters.len() == 1 && voters.contains(self.id)
    }

    /// Who asks and in which term decides the timeout; two runs from one seed elect the same leaders. The crate's own
    /// dice are overridden after every call that may have rolled them.
    fn pin_election_timeout(&mut self) {
        let spread = self.spread() % ELECTION_TICKS as u64;
        let raft = &mut self.node.raft;
        let committed = raft.raft_log.committed;
        if self.led_term < raft.term && raft.raft_log.term(committed).is_ok_and(|term| term == raft.term) {
            self.led_term = raft.term;
        }
        let in_vain = raft.term.saturating_sub(self.led_term + 1).min(DOUBLINGS_MAX);
        raft.set_randomized_election_timeout((ELECTION_TICKS + spread as usize) << in_vain);
    }

    fn spread(&self) -> u64 {
        mix(self.seed ^ self.id.rotate_left(32) ^ self.node.raft.term)
    }

    /// The connection to a server is gone. The leader's is evidence that the leader is: this server forgets it, so that
    /// it grants others' votes, and stands for election itself after a moment.
    pub(super) fn peer_down(&mut self, peer: ServerId) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower && Seat(raft.leader_id).server() == peer {
            raft.leader_id = INVALID_ID;
            self.hurry = Some(self.spread() % HURRY_TICKS);
        }
        for seat in self.seats_of(peer) {
            self.node.report_unreachable(seat);
        }
    }

    /// There is a connection to a server again. A snapshot that it was offered before may never have been heard of, and no
    /// more its word that it could not be had: it is offered anew.
    pub(super) fn peer_up(&mut self, peer: ServerId) {
        for seat in self.seats_of(peer) {
            self.node.report_snapshot(seat, SnapshotStatus::Failure);
        }
    }

    fn seats_of(&self, peer: ServerId) -> Vec<u64> {
        let all = self.node.raft.prs().iter().map(|(id, _)| *id);
        let mut seats: Vec<u64> = all.filter(|id| Seat(*id).server() == peer && *id != self.id).collect();
        seats.sort_unstable();
        seats
    }

    /// Takes a peer's word, if it makes sense.
    pub(super) fn step(&mut self, from: ServerId, message: RaftMessage) -> Result<(), Nonsense> {
        if message.to.0 != self.id {
            // It was meant for another directory of this server's: one before, or one that is to come.
            return Ok(());
        }
        self.check(from, &message)?;
        if message.kind == MessageType::MsgSnapStatus as u8 {
            // The crate takes this word from its own server alone, and drops a peer's: a follower that could not have the
            // snapshot was never sent anything again (the simulator, seed 34).
            self.node.report_snapshot(message.from.0, SnapshotStatus::Failure);
            return Ok(());
        }
        if message.kind == MessageType::MsgTimeoutNow as u8 && self.must_wait() {
            return Ok(());
        }
        if message.kind == MessageType::MsgReadIndex as u8 && self.leads_without_voice() {
            return Ok(());
        }
        let mut index = message.index.0;
        if message.kind == MessageType::MsgAppend as u8 {
            for entry in &message.entries {
                index += 1;
                let payload = entry.payload.clone().unwrap_or_default();
                self.arriving.insert((index, entry.term.0), (payload, (entry.first_zxid, entry.last_zxid)));
            }
        }
        let is_answer = message.kind == MessageType::MsgHeartbeatResponse as u8;
        let mut message = self.to_raft(message);
        if is_answer && message.term == self.node.raft.term {
            self.confirm_earlier(&mut message);
        }
        // What it refuses it drops, and says so to nobody but its log.
        let _ = self.node.step(message);
        self.pin_election_timeout();
        Ok(())
    }

    /// Whether the disk does not hold back so much already that a question more would only be heaped up.
    pub(super) fn may_ask(&self) -> bool {
        self.unpersisted.words() < WAITING_MAX
    }

    /// Who confirms a question confirms all that were asked before it. The crate counts each by itself: where two followers must, each
    /// may have confirmed another one, for one whose disk is slow says the last of them alone (a review).
    fn confirm_earlier(&mut self, answer: &mut raft::eraftpb::Message) {
        let raft = &mut self.node.raft;
        let at = raft.read_only.read_index_queue.iter().rposition(|context| *context == answer.context);
        let Some(at @ 1..) = at.filter(|_| raft.state == StateRole::Leader) else { return };
        for one in (0..=at).rev() {
            let context = raft.read_only.read_index_queue[one].clone();
            let known = raft.read_only.pending_read_index.get(&context);
            // All before it were confirmed with it. Each answer went through all that nobody else confirmed (a review).
            if one < at && known.is_some_and(|question| question.acks.contains(&answer.from)) {
                return;
            }
            let confirmed = raft.read_only.recv_ack(answer.from, &context).cloned();
            if confirmed.is_some_and(|by| raft.prs().has_quorum(&by)) {
                // Those before it go with it.
                answer.context = context;
                return;
            }
        }
    }

    /// A seat's server is there and takes this one for its leader, whatever its disk does: that holds back its answers to heartbeats,
    /// and a leader that was not answered for an election's time stepped down where every disk took half a second (an audit).
    pub(super) fn heard(&mut self, seat: Seat) {
        if self.is_leading() {
            if let Some(progress) = self.node.raft.mut_prs().get_mut(seat.0) {
                progress.recent_active = true;
            }
        }
    }

    /// Whether a seat has more of the log than this server's own disk.
    pub(super) fn is_ahead(&self, seat: Seat) -> bool {
        self.matched(seat).0 > self.node.raft.raft_log.persisted
    }

    /// Hands the lead to the voter among these that has the most of the log and will vote on. Returns whether there is one.
    pub(super) fn hand_over(&mut self, is_up: impl Fn(Seat) -> bool) -> bool {
        if !self.is_leading() {
            return false;
        }
        if self.is_handing_over() {
            return true;
        }
        let raft = &self.node.raft;
        let voters = raft.prs().conf().to_conf_state().voters;
        let others = raft.prs().iter().filter(|(id, _)| **id != self.id && voters.contains(id));
        let best =
            others.filter(|(id, _)| is_up(Seat(**id))).max_by_key(|(id, progress)| (progress.matched, **id));
        let Some(best) = best.map(|(id, _)| *id) else { return false };
        self.node.transfer_leader(best);
        true
    }

    /// While the lead is handed over nothing is proposed; it ends with a new leader or after an election's time.
    pub(super) fn is_handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Whether a snapshot that a leader offers is to be fetched; otherwise the offer is answered as it is.
    pub(super) fn wants_snapshot(&self, offer: &RaftMessage) -> bool {
        let log = &self.node.raft.raft_log;
        offer.term.0 >= self.node.raft.term
            && offer.index.0 > log.committed
            && !log.match_term(offer.index.0, offer.log_term.0)
    }

    /// Looks at a message as `step` does, and takes none.
    pub(super) fn check(&self, from: ServerId, message: &RaftMessage) -> Result<(), Nonsense> {
        guard::check(&self.node.raft, from, message)
    }

    /// An offered snapshot is here: it is taken as the leader's word. The configuration is the one at its entry, and may not
    /// know this server yet, or not in this seat; the crate wants to find it there. As a learner it decides nothing, and
    /// the entries that follow say what it really is.
    pub(super) fn restore(&mut self, offer: RaftMessage, conf: &Conf) {
        let leader = Seat(self.node.raft.leader_id);
        let mut conf = conf::state_of(conf);
        let known = [&conf.voters, &conf.voters_outgoing, &conf.learners];
        if !known.iter().any(|seats| seats.contains(&self.id)) {
            conf.learners.push(self.id);
        }
        let offer = RaftMessage { from: leader, to: Seat(self.id), term: self.term(), ..offer };
        let mut message = self.to_raft(offer);
        if let Some(snapshot) = message.snapshot.as_mut() {
            snapshot.mut_metadata().conf_state = Some(conf);
        }
        let _ = self.node.step(message);
        self.pin_election_timeout();
    }

    /// Whether a snapshot ends with another entry than the one that is committed in its place.
    pub(super) fn contradicts(&self, offer: &RaftMessage) -> bool {
        guard::contradicts(&self.node.raft, offer)
    }

    // ---- who votes ----

    /// Whether a change of the configuration is in the log, or may be, and is not applied.
    pub(super) fn is_conf_pending(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// The last entry that a seat is known to have, at a leader.
    pub(super) fn matched(&self, seat: Seat) -> LogIndex {
        LogIndex(self.node.raft.prs().get(seat.0).map_or(0, |progress| progress.matched))
    }

    /// Whether it has been found to follow: a leader's appends go to it one behind the other, or it has all there is. Who comes
    /// back to an idle ensemble is sent nothing until somebody writes.
    pub(super) fn is_synced(&self, seat: Seat) -> bool {
        let is_whole = |matched| matched == self.node.raft.raft_log.last_index();
        let progress = self.node.raft.prs().get(seat.0);
        progress.is_some_and(|one| one.state == ProgressState::Replicate || is_whole(one.matched))
    }

    /// Up to where a majority has the log, as far as this server knows.
    pub(super) fn committed(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    pub(super) fn last_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.last_index())
    }

    /// Takes a batch that changes the configuration; `None` where it does not fit, or this server does not lead.
    pub(super) fn propose_conf(&mut self, payload: Bytes, change: &ConfChange) -> Option<LogIndex> {
        let is_joint = !self.node.raft.prs().conf().to_conf_state().voters_outgoing.is_empty();
        if self.is_conf_pending() || is_joint != matches!(change, ConfChange::Leave) {
            return None;
        }
        self.node.propose_conf_change(Vec::new(), conf::change_of(change)).ok()?;
        let index = self.node.raft.raft_log.last_index();
        self.arriving.insert((index, self.node.raft.term), (payload, NO_ZXIDS));
        Some(LogIndex(index))
    }

    /// Whether the crate counts these votes.
    pub(super) fn counts(&self, conf: &Conf) -> bool {
        let known = self.node.raft.prs().conf().to_conf_state();
        let seats = |ids: &[u64]| ids.iter().map(|id| Seat(*id)).collect::<BTreeSet<_>>();
        seats(&known.voters) == conf.voters && seats(&known.voters_outgoing) == conf.outgoing
    }

    /// An entry that is applied now has changed the configuration.
    pub(super) fn apply_conf(&mut self, change: &ConfChange) {
        let conf = self.node.apply_conf_change(&conf::change_of(change));
        let conf = conf.expect("the membership takes no step that Raft would not");
        self.node.mut_store().conf = conf;
        self.pin_election_timeout();
    }

    /// Goes on in another seat: a new one that has never voted. What is in the log stays. Returns whether the moment was
    /// right: nothing may be under way.
    pub(super) fn take_seat(&mut self, seat: Seat) -> bool {
        if !self.unpersisted.is_empty() || self.node.has_ready() {
            return false;
        }
        let applied = self.node.raft.raft_log.applied;
        let store = std::mem::take(self.node.mut_store());
        self.id = seat.0;
        self.reads.take_seat(seat);
        self.node = raw_node(self.id, applied, store);
        self.arriving.clear();
        (self.campaigned, self.hurry) = (false, None);
        self.pin_election_timeout();
        true
    }

    /// A snapshot is on disk. While it was written one of the leader may have taken the log's place.
    pub(super) fn set_snapshot(&mut self, index: LogIndex, term: Term) {
        let known = &mut self.node.mut_store().snapshot;
        *known = (index.0, term.0).max(*known);
    }

    /// Forgets entries so far behind the newest snapshot that those after them, up to it, have more than `bytes`: who lacks
    /// them has less to take, and less to do, with the snapshot.
    pub(super) fn forget_behind_snapshot(&mut self, bytes: u64, applied: LogIndex) {
        let snapshot = self.node.store().snapshot.0.min(applied.0);
        self.node.mut_store().compact_behind(snapshot, bytes);
    }

    /// The log holds entries from this one on.
    pub(super) fn purged(&mut self, first: LogIndex, applied: LogIndex) {
        let upto = first.0.saturating_sub(1).min(applied.0);
        self.node.mut_store().compact(upto);
    }

    /// Takes a batch; `None` where this server does not lead.
    pub(super) fn propose(&mut self, payload: Bytes, zxids: (Zxid, Zxid)) -> Option<LogIndex> {
        self.node.propose(Vec::new(), storage::HANDLE.to_vec()).ok()?;
        let index = self.node.raft.raft_log.last_index();
        self.arriving.insert((index, self.node.raft.term), (payload, zxids));
        Some(LogIndex(index))
    }

    /// Asks for a moment that no later commit precedes. It may vanish silently: `tick` asks again.
    pub(super) fn read_index(&mut self, waiters: Vec<Waiter>) {
        if let Some(context) = self.reads.ask(waiters) {
            self.ask_moment(context);
        }
    }

    fn ask_moment(&mut self, context: Vec<u8>) {
        if !self.leads_without_voice() {
            self.node.read_index(context);
        }
    }

    /// A leader that is no voter any more hands over. Where one voter is left the crate takes that one for this server, and
    /// answers at once, though that one may lead by now: whoever asks does it again at each tick (an audit).
    fn leads_without_voice(&self) -> bool {
        self.is_leading() && !self.is_voter()
    }

    /// The syncs whose moment has been applied.
    pub(super) fn pending_reads(&self) -> usize {
        self.reads.waiting()
    }

    pub(super) fn take_reads(&mut self, applied: LogIndex) -> Vec<Waiter> {
        self.reads.take(applied)
    }

    /// This many records are durable. Returns what may be said now.
    pub(super) fn persisted(&mut self, records: u64) -> Vec<Addressed> {
        let mut send = Vec::new();
        while let Some(turn) = self.unpersisted.pop(records) {
            self.node.on_persist_ready(turn.number);
            if let Some(index) = turn.installed {
                self.node.advance_apply_to(index.0);
            }
            send.extend(turn.send);
        }
        self.pin_election_timeout();
        send
    }

    /// Raft's next wishes; `records` is how many were handed to the log so far.
    pub(super) fn next_turn(&mut self, records: u64) -> Option<Turn> {
        if !self.node.has_ready() {
            // What is left here Raft had already, or would not have.
            self.arriving.clear();
            return None;
        }
        let mut ready = self.node.ready();
        if let Some(hs) = ready.hs() {
            self.node.mut_store().hard_state = hs.clone();
        }
        let hard_state = self.vote();
        let install = self.install(ready.snapshot(), hard_state);
        let entries = ready.take_entries();
        let mut append = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (payload, zxids) =
                self.arriving.remove(&(entry.index, entry.term)).unwrap_or((Bytes::new(), NO_ZXIDS));
            let slot = Slot {
                term: entry.term,
                tag: u8::try_from(entry.entry_type).unwrap_or(EntryType::EntryNormal as u8),
                zxids,
                payload_len: payload.len(),
                payload: Some(payload),
            };
            self.node.mut_store().append(entry.index, slot);
            append.push(self.logged(entry, hard_state));
        }
        self.arriving.clear();
        // The log takes the commit along with the next record; a changed configuration does not wait for one. Servers that all
        // started anew would else count by a configuration that they had left, and look for voters of it that are gone for ever
        // (the simulator, seed 3678438610).
        let is_conf_changed = ready
            .committed_entries()
            .iter()
            .any(|entry| entry.entry_type == EntryType::EntryConfChangeV2 as i32);
        let is_due = is_conf_changed || ready.must_sync() && !mutant::is(Mutant::VoteNotPersisted);
        if append.is_empty() && is_due {
            append.push(Logged {
                index: LogIndex(0),
                term: hard_state.term,
                tag: 0,
                first_zxid: Zxid::ZERO,
                last_zxid: Zxid::ZERO,
                hard_state,
                payload: Bytes::new(),
                payload_len: 0,
            });
        }
        self.reads.answered(&ready.take_read_states());
        let committed = ready.take_committed_entries();
        let committed = committed.iter().map(|entry| self.logged(entry, hard_state)).collect();
        let mut send = self.addressed(ready.take_messages());
        let mut later = self.addressed(ready.take_persisted_messages());
        if mutant::is(Mutant::WordBeforeDisk) {
            send.append(&mut later);
        }
        let number = ready.number();
        self.node.advance_append_async(ready);
        let records = records + u64::from(install.is_some()) + append.len() as u64;
        if append.is_empty() && install.is_none() && self.unpersisted.is_empty() {
            self.node.on_persist_ready(number);
            send.extend(later);
        } else {
            self.unpersisted.push(number, records, install.map(|install| install.index), later);
        }
        self.pin_election_timeout();
        Some(Turn { install, append, committed, send })
    }

    fn install(&mut self, snapshot: &Snapshot, hard_state: Vote) -> Option<Install> {
        if snapshot.is_empty() {
            return None;
        }
        let metadata = snapshot.get_metadata();
        let base = (metadata.index, metadata.term);
        self.node.mut_store().restart_at(base);
        self.node.mut_store().conf = metadata.get_conf_state().clone();
        Some(Install { index: LogIndex(base.0), term: Term(base.1), hard_state })
    }

    /// What a leader knows of the others, for a person.
    pub(super) fn progress(&self) -> String {
        let mut all: Vec<_> = self.node.raft.prs().iter().collect();
        all.sort_by_key(|(id, _)| **id);
        let one = |(id, p): (&u64, &raft::Progress)| {
            format!(
                "{id}: {:?} has {} next {} paused {} snapshot {}",
                p.state, p.matched, p.next_idx, p.paused, p.pending_snapshot
            )
        };
        all.into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn vote(&self) -> Vote {
        let hs = &self.node.store().hard_state;
        Vote { term: Term(hs.term), vote: hs.vote, commit: LogIndex(hs.commit) }
    }

    fn logged(&self, entry: &Entry, hard_state: Vote) -> Logged {
        let slot = self.node.store().at(entry.index);
        let zxids = slot.map_or(NO_ZXIDS, |slot| slot.zxids);
        Logged {
            index: LogIndex(entry.index),
            term: Term(entry.term),
            tag: u8::try_from(entry.entry_type).unwrap_or(EntryType::EntryNormal as u8),
            first_zxid: zxids.0,
            last_zxid: zxids.1,
            hard_state,
            payload: slot.and_then(|slot| slot.payload.clone()).unwrap_or_default(),
            payload_len: slot.map_or(0, |slot| slot.payload_len),
        }
    }

    /// An entry's payload, where it is in memory.
    pub(super) fn payload(&self, index: LogIndex) -> Option<Bytes> {
        self.node.store().at(index.0).and_then(|slot| slot.payload.clone())
    }

    /// An entry was applied: its payload goes, and in time its place.
    pub(super) fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.0);
        let is_alone = self.is_sole_voter() && self.node.raft.prs().iter().count() == 1;
        self.node.mut_store().release(index.0, is_alone);
        if is_alone && index.0.is_multiple_of(ENTRIES_KEPT) {
            self.node.mut_store().compact(index.0.saturating_sub(ENTRIES_KEPT));
        }
    }
}

/// Whether a message only says that its sender leads: it may overtake others on their way (Raft's messages may come in any
/// order).
#[must_use]
pub fn is_heartbeat(message: &RaftMessage) -> bool {
    message.kind == MessageType::MsgHeartbeat as u8
}

const NO_ZXIDS: (Zxid, Zxid) = (Zxid::ZERO, Zxid::ZERO);

fn raw_node(id: u64, applied: u64, store: Store) -> RawNode<Store> {
    let config = raft::Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        min_election_tick: ELECTION_TICKS,
        max_election_tick: (2 * ELECTION_TICKS) << DOUBLINGS_MAX,
        applied,
        check_quorum: true,
        pre_vote: true,
        max_size_per_msg: MESSAGE_BYTES,
        max_inflight_msgs: 256,
        read_only_option: match mutant::is(Mutant::LeaseRead) {
            true => raft::ReadOnlyOption::LeaseBased,
            false => raft::ReadOnlyOption::Safe,
        },
        ..raft::Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, store, &logger).expect("the configuration of Raft is constant and valid")
}

/// A fixed scramble of 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
