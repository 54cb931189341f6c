//! Machine one: orders writes, runs Raft, applies what is committed, publishes it, ends sessions. One a server.
//!
//! It takes inputs and the time, changes its own state and leaves effects; it touches no file, socket, clock or dice.
//! The host feeds it in turns: any number of `handle`, then one `turn`, then the effects until there is none.

mod agree;
mod batch;
mod conf;
mod consensus;
mod ensemble;
mod expire;
mod fresh;
mod guard;
mod install;
mod locals;
mod members;
mod propose;
mod publish;
mod reads;
mod returns;
mod snapshots;
mod storage;
mod translate;
mod unpersisted;
mod words;

pub use batch::BATCH_BYTES;
pub use consensus::{is_heartbeat, Install, Logged, RecoveredEntry, RecoveredLog};
pub use words::{Effect, Input, Note, Now, Options, Serving};

use crate::apply::State;
use crate::ids::{LogIndex, Millis, Seat, ServerId, Term, Zxid};
use crate::log::HardState;
use crate::mutant::{self, Mutant};
use crate::session::{Expiry, SessionClock};
use batch::Gather;
use bytes::Bytes;
use consensus::Consensus;
use ensemble::{Peers, Report};
use expire::Reaper;
use members::Errand;
use propose::Outbox;
use returns::Returns;
use std::collections::VecDeque;

/// The host ticks at least this often.
pub const TICK_MS: u64 = 100;
/// A tick that comes later than this after the one before was a stall of the server.
const STALL_MS: u64 = 500;
/// Committed entries whose payload is asked back from the log at once, at a start.
const READ_AHEAD: usize = 64;

/// The machine.
pub struct Sequencer {
    options: Options,
    state: State,
    consensus: Consensus,
    gather: Gather,
    /// Committed and not yet applied, oldest first, with the payload once it is here.
    committed: VecDeque<(Logged, Option<Bytes>)>,
    reads_asked: usize,
    applied: LogIndex,
    applied_term: Term,
    /// The last zxid given to anything in the log.
    last_logged_zxid: Zxid,
    outbox: Outbox,
    records: u64,
    persisted: u64,
    /// Groups of batches that this server proposed, and that its log owes or that are not committed.
    groups: VecDeque<propose::Group>,
    returns: Returns,
    /// This server leads and has applied all that was logged before its reign.
    leading: bool,
    /// The term of its last reign.
    reign: Term,
    /// When Raft made it the leader last.
    reigns_since: Millis,
    /// How many reigns it handed over because the disk stood, when last, and the term of the last one.
    handed_over: (u32, Millis, Term),
    /// How long the log's writes took lately, in ms: at most so long, and each that takes less leaves seven eighths of it.
    write_ms: u64,
    serving: Serving,
    locals: locals::Locals,
    peers: Peers,
    members: members::Members,
    chains: agree::Chains,
    report: Report,
    publications: u64,
    clock: SessionClock,
    expiry: Expiry,
    /// Up to when each shard has told what it heard.
    heard_through: Vec<Millis>,
    last_seen: Option<Millis>,
    /// The last moment at which the log owed nothing, or had just made something durable.
    log_moved_at: Millis,
    reaper: Reaper,
    /// The rules are a newer release's from the last applied entry on.
    must_stop: bool,
    since_snapshot: (u64, u64),
    snapshotting: bool,
    /// What the snapshot under way ends with.
    snapshot_at: (LogIndex, Term),
    fetching: install::Fetching,
    effects: VecDeque<Effect>,
}

impl Sequencer {
    /// A sequencer that goes on from `state` (a snapshot's or a new one) and the log after it.
    #[must_use]
    pub fn new(options: Options, state: State, log: RecoveredLog, now: Now) -> Sequencer {
        let applied = log.base.0;
        let last_logged_zxid =
            log.entries.last().map_or(state.last_zxid(), |entry| entry.last_zxid.max(state.last_zxid()));
        let gather = Gather::new(&options, now.wall);
        let mut options = options;
        if mutant::is(Mutant::OldSeatTaken) && state.membership.is_ensemble() {
            options.seat = Seat::new(options.server, 0);
        }
        let consensus =
            Consensus::new(options.seat, options.incarnation, options.seed, &state.membership.conf, log);
        Sequencer {
            applied,
            applied_term: consensus.base_term(),
            expiry: Expiry::new(options.tick_ms),
            reaper: Reaper::new(&options, now.mono),
            // A shard that has not reported yet has heard nothing: nothing expires before it has.
            heard_through: vec![Millis(0); options.shards],
            members: members::Members::new(options.seat),
            locals: locals::Locals::new(options.tick_ms, gather.next_id()),
            options,
            state,
            consensus,
            gather,
            committed: VecDeque::new(),
            reads_asked: 0,
            last_logged_zxid,
            outbox: Outbox::default(),
            records: 0,
            persisted: 0,
            groups: VecDeque::new(),
            returns: Returns::default(),
            leading: false,
            reign: Term(0),
            reigns_since: now.mono,
            handed_over: (0, Millis(0), Term(0)),
            write_ms: 0,
            serving: Serving::No,
            peers: Peers::new(now.mono),
            chains: agree::Chains::default(),
            report: Report::default(),
            publications: 0,
            clock: SessionClock::default(),
            last_seen: None,
            log_moved_at: now.mono,
            must_stop: false,
            since_snapshot: (0, 0),
            snapshotting: false,
            snapshot_at: (LogIndex(0), Term(0)),
            fetching: install::Fetching::default(),
            effects: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.observe(now);
        match input {
            Input::Tick => self.on_tick(now),
            Input::Slept { ticks } => (0..ticks).for_each(|_| self.consensus.tick()),
            Input::Up(up) => self.on_up(up),
            Input::Persisted { records } => self.on_persisted(now, records),
            Input::Read { index, payload } => self.on_read(index, payload),
            Input::SnapshotDone { written } => self.on_snapshot_done(written),
            Input::Purged { first } => self.consensus.purged(first, self.applied),
            Input::Fetched { index, state } => self.on_fetched(index, state),
            Input::Space { low } => self.on_space(low),
            Input::PeerUp { peer, birth, rules } => self.on_peer_up(now, peer, birth, rules),
            Input::Join => self.members.errand = Some(Errand::Join),
            Input::Leave => self.members.errand = Some(Errand::Leave),
            Input::Seated(seat) => self.members.written = Some(seat),
            Input::PeerDown(peer) => self.on_peer_down(peer),
            Input::Peer { from, message } => self.on_peer(now, from, message),
        }
    }

    /// Moves everything as far as it goes: forms batches, runs Raft, applies, publishes, copies for a snapshot.
    pub fn turn(&mut self, now: Now) {
        self.restore();
        self.take_seat();
        self.reap_slice(now);
        self.ask_for_syncs();
        if self.returns.has_enough() {
            // The disk works while this server applies.
            self.propose_batches(now);
        }
        self.pump();
        self.publish_locals(now);
        self.apply_committed(now);
        // Whether the next group waits depends on who was answered.
        self.propose_batches(now);
        // What was applied may have let Raft answer reads.
        self.pump();
        self.follow_leader(now);
        self.change_members(now);
        self.copy_snapshot();
    }

    /// The next thing to be done, if any.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether clients are served, all of them.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving == Serving::Yes
    }

    /// Who is served.
    #[must_use]
    pub fn serving(&self) -> Serving {
        self.serving
    }

    /// The sessions of the state and this server's local ones.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state.sessions.len() + self.locals.len()
    }

    /// How many of them are local.
    #[must_use]
    pub fn local_sessions(&self) -> usize {
        self.locals.len()
    }

    /// Whether the next turn would find work without any input.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.state.is_copying() || self.can_reap()
    }

    /// After how many ticks the host is to wake up by itself: 1 while anything is under way. An idle server that woke up at
    /// each of them used 0.5 % of a core for nothing.
    #[must_use]
    pub fn quiet_ticks(&self) -> u64 {
        let is_quiet = self.is_serving()
            && self.records == self.persisted
            && self.committed.is_empty()
            && !self.fetching.is_any()
            && self.members_are_settled();
        if is_quiet {
            self.consensus.quiet_ticks()
        } else {
            1
        }
    }

    /// Whether more proposals may be handed in. Otherwise they wait in their rings, and at last in the sockets.
    #[must_use]
    pub fn wants_proposals(&self) -> bool {
        // Without a leader shards send no writes; what is left of those before waits for one and must hold up nobody.
        !self.gather.is_full() || self.serving != Serving::Yes
    }

    /// Who leads in which term, as far as this server knows.
    #[must_use]
    pub fn leader(&self) -> Option<(ServerId, Term)> {
        self.consensus.leader()
    }

    /// Whether this server leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// What a leader knows of the others, for a person.
    #[must_use]
    pub fn progress(&self) -> String {
        self.consensus.progress()
    }

    /// The seat that this server has in Raft.
    #[must_use]
    pub fn seat(&self) -> Seat {
        self.members.seat
    }

    /// Whether Raft counts those votes that the state says: an assertion for tests.
    #[must_use]
    pub fn conf_is_known(&self) -> bool {
        let members = &self.state.membership;
        !members.is_ensemble() || self.consensus.counts(&members.conf)
    }

    /// Whether this server votes on nothing.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        let members = &self.state.membership;
        members.is_ensemble() && !members.conf.votes(self.members.seat)
    }

    /// The state, to be looked at: shards copy their tables from it at start.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The sessions' deadlines, for the word `dump`: a leader's.
    #[must_use]
    pub fn expiry(&self) -> &Expiry {
        &self.expiry
    }

    /// The local sessions' deadlines, where there may be any.
    #[must_use]
    pub fn local_expiry(&self) -> Option<&Expiry> {
        (self.options.local_sessions || self.serving == Serving::ReadOnly).then_some(&self.locals.expiry)
    }

    /// A moment in the sessions' time, in which deadlines are given.
    #[must_use]
    pub fn session_time(&self, now: Millis) -> Millis {
        self.clock.at(now)
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        (self.applied, self.applied_term)
    }

    /// What Raft must find on disk after a start: what each record says too, as it was then.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.consensus.vote()
    }

    /// The number of the last publication.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.publications
    }

    /// Takes note of the time, and of a stall: time in which nobody could be heard is not held against a session.
    fn observe(&mut self, now: Now) {
        if let Some(last) = self.last_seen {
            if now.mono.since(last).0 > STALL_MS {
                self.forgive(last.plus(Millis(TICK_MS)), now.mono);
                self.detach_locals(now.mono.since(last));
            }
        }
        self.last_seen = Some(self.last_seen.map_or(now.mono, |last| last.max(now.mono)));
    }

    fn forgive(&mut self, from: Millis, to: Millis) {
        let forgiven = self.clock.forgive(from, to);
        self.report.stood_still(forgiven);
        if forgiven.0 > 0 {
            self.effects.push_back(Effect::Note(Note::Stalled { forgiven }));
        }
    }

    fn on_tick(&mut self, now: Now) {
        self.consensus.tick();
        self.send_report(now.mono);
        self.run_errand(now);
        self.tell_chain(now.mono);
        // Also one whose first entry does not become durable: the others commit it, and nobody writes.
        if self.consensus.is_leading() && self.log_stands(now.mono) {
            self.hand_over_ahead(now.mono);
        }
        if self.leading || mutant::is(Mutant::ExpiredByFollower) {
            self.expire_sessions(now);
        }
        if self.is_serving() && self.consensus.leader().is_none() {
            self.detach_locals(self.leaderless_for(now.mono));
        }
        if self.locals.len() > 0 && !self.locals_wait(now.mono) {
            self.expire_locals(self.heard_here());
        }
        if self.leading {
            self.reaper.on_tick(now.mono);
            self.watch_members(now.mono);
            self.make_offer(now.mono);
        }
    }

    fn on_persisted(&mut self, now: Now, records: u64) {
        assert!(records <= self.records, "the log can not hold what was not handed to it");
        // Clients whose writes waited for the disk were not read meanwhile: that time is not theirs.
        if records > self.persisted {
            if self.log_stands(now.mono) {
                self.forgive(self.log_moved_at, now.mono);
            }
            let took_ms = now.mono.since(self.log_moved_at).0;
            self.write_ms = took_ms.max(self.write_ms - self.write_ms.div_ceil(8));
            self.log_moved_at = now.mono;
        }
        self.persisted = self.persisted.max(records);
        let said = self.consensus.persisted(self.persisted);
        self.effects.extend(said.into_iter().map(Effect::Send));
    }

    /// Whether the disk owes something and has done nothing for so long that it counts as a stall of this server.
    fn log_stands(&self, now: Millis) -> bool {
        self.records > self.persisted && now.since(self.log_moved_at).0 > STALL_MS
    }

    fn on_space(&mut self, low: bool) {
        if self.options.txn.read_only != low {
            self.options.txn.read_only = low;
            self.effects.push_back(Effect::Note(Note::ReadOnly { low }));
        }
    }

    /// Carries Raft's wishes out of it.
    fn pump(&mut self) {
        while let Some(turn) = self.consensus.next_turn(self.records) {
            if self.records == self.persisted {
                self.log_moved_at = self.last_seen.unwrap_or_default();
            }
            if let Some(install) = turn.install {
                self.install(install);
            }
            self.records += turn.append.len() as u64;
            self.effects.extend(turn.append.into_iter().map(Effect::Append));
            let send = turn
                .send
                .into_iter()
                .map(|said| install::with_own_line(said, &self.state, self.options.server));
            self.effects.extend(send.map(Effect::Send));
            for entry in turn.committed {
                let payload = self.consensus.payload(entry.index);
                self.committed.push_back((entry, payload));
            }
        }
        if !self.leading {
            self.begin_reign();
        }
        self.ask_for_payloads();
    }

    fn session_now(&self) -> Millis {
        self.clock.at(self.last_seen.unwrap_or_default())
    }

    /// What was logged before this start is read back, a few entries ahead of apply.
    fn ask_for_payloads(&mut self) {
        for (entry, payload) in self.committed.iter().take(READ_AHEAD).skip(self.reads_asked) {
            self.reads_asked += 1;
            if payload.is_none() && entry.has_batch() {
                self.effects.push_back(Effect::Read { index: entry.index });
            }
        }
    }

    fn on_read(&mut self, index: LogIndex, payload: Bytes) {
        // It may have been waited for until a snapshot took its place.
        if let Some((_, slot)) = self.committed.iter_mut().find(|(entry, _)| entry.index == index) {
            *slot = Some(payload);
        }
    }
}

#[cfg(test)]
mod tests;
