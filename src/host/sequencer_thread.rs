//! The sequencer's thread: the log's ring, the shards' rings and the time, in one loop.

mod records;

use super::behind::Behind;
use super::clock::Clock;
use super::disk::{DataDir, Log, LogError, SubmitError};
use super::link::{Links, Order, ShardLink, Tree};
use super::members_shown::{self, MembersShown};
use super::notes::{over_quota_text, Say, Throttle};
use super::peers::{Entries, Peers, Place};
use super::signals;
use super::silence::Silence;
use super::snapshot_thread::{SnapshotJob, SnapshotThread};
use super::{pages, Fatal};
use crate::admin::{Leading, Role};
use crate::apply::State;
use crate::ids::{LogIndex, Millis, Seat, ServerId, ShardId, Term};
use crate::log::SegmentNumber;
use crate::log::{Append, EntryRef, Sequence};
use crate::membership::PeerAddress;
use crate::sequencer::{Effect, Input, Install, Logged, Note, Sequencer, Serving, TICK_MS};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Publications that lie in front of a shard at the most before the sequencer takes no new proposals; they gather, and the
/// batches grow. A shard takes all that lie there before it answers anybody: 150 recursive watchers of a busy znode made
/// 2,048 of them last for 7 s.
const BACKLOG_MAX: usize = 256;
/// How long the sequencer sleeps at a time while it takes no proposals for the sake of a shard.
const HOLD_MS: u64 = 1;
/// A leader that goes down waits no longer for another one.
const HAND_OVER_MS: u64 = 1_000;
/// Raft's tick in an ensemble.
const PEER_TICK_MS: u64 = 25;
/// What to do where no leader will come.
const NO_MAJORITY: &str =
    "Most voters must run and have their data: where most of them have lost it for ever, `ringkeeper recover` begins anew";
/// How often the disk's room is looked at.
const SPACE_MS: u64 = 1_000;

pub(super) struct SequencerThread {
    pub sequencer: Sequencer,
    pub log: Log,
    pub links: Arc<Links>,
    /// The other servers; `None` for a server alone.
    pub peers: Option<Peers>,
    pub clock: Clock,
    pub snapshots: SnapshotThread,
    pub dir: Arc<DataDir>,
    /// Where the servers of the configuration listen.
    pub places: Vec<Place>,
    /// A write that took longer is reported (`fsync.warningthresholdms`).
    pub sync_warning: Millis,
    /// Set while somebody wants a snapshot now.
    pub snapshot_wanted: Arc<AtomicBool>,
    /// Called once, when clients are served.
    pub on_serving: Option<Box<dyn FnOnce() + Send>>,
    pub state: LoopState,
}

/// The log, for those who tell others of it.
struct Logs<'l> {
    log: &'l mut Log,
    fault: Option<LogError>,
}

impl Entries for Logs<'_> {
    fn place(&self, index: LogIndex, term: Term) -> Option<EntryRef> {
        self.log.entry(index).filter(|entry| entry.term == term)
    }

    fn read(&mut self, entry: &EntryRef) -> Option<Bytes> {
        self.log.read_ref(entry).map_err(|error| self.fault = Some(error)).ok()
    }

    fn bytes(&self) -> u64 {
        self.log.appended_bytes()
    }
}

/// What the loop remembers from turn to turn.
#[derive(Default)]
pub(super) struct LoopState {
    /// Handed out by the machine and not yet taken by the log.
    to_append: VecDeque<Logged>,
    /// Writes in the log's hands: their last record's number, the log's and ours.
    in_flight: VecDeque<(Sequence, u64, Millis)>,
    records: u64,
    ticked_at: Millis,
    /// How many ticks might pass in the sleep that ends now.
    may_sleep: u64,
    space_at: Millis,
    /// The low mark was passed when the room was last looked at.
    space_low: bool,
    /// Since the last snapshot was begun the disk became low, or a segment was filled on a low one.
    snapshot_makes_room: bool,
    /// The log's segment that was written when it was last looked at.
    segment: SegmentNumber,
    /// No snapshot that is to make room is begun before; and how many in a row could not be written.
    snapshot_not_before: Millis,
    snapshots_failed: u32,
    /// The log had no room for the record that comes next.
    no_space: bool,
    /// Which shard takes what lies in front of it, by shard.
    silences: Vec<Silence>,
    /// How much lies there.
    behind: Behind,
    /// The shard whose message is taken next.
    next_shard: usize,
    serving: Serving,
    /// The sequencer was told something after its last turn.
    has_unturned: bool,
    /// Another server has said something, or the bell was rung.
    is_woken: bool,
    /// Most servers' state is another one since this entry, or an earlier one.
    wrong_at: Option<LogIndex>,
    /// The members that those who greet have heard of.
    members_shown: MembersShown,
    /// The tick in which they could not be told.
    greeters_untold: Option<Millis>,
    /// The tick at which it was last seen not to lead, or the first at which it led.
    leads_since: Option<Millis>,
    /// Told to go down.
    stopping_since: Option<Millis>,
    /// The tree has grown large.
    has_huge_pages: bool,
    throttle: Throttle,
}

/// A large tree takes seconds to be dropped, and a large file its time, in which others believe this server dead.
fn discard(unneeded: impl Send + 'static) {
    let dropped = std::thread::Builder::new().name("drop".into()).spawn(move || {
        super::pin::step_back();
        drop(unneeded);
    });
    if let Err(error) = dropped {
        warn!(%error, "no thread could be started: this server stood still while a former tree was dropped");
    }
}

impl SequencerThread {
    /// Runs until the server goes down, or the world fails.
    pub(super) fn run(mut self) -> Result<(), Fatal> {
        if let Err(fatal) = self.work() {
            // The process ends at once, and clients go to other servers: to drop all this takes as long as the tree is large,
            // and for ever where a disk hangs.
            std::mem::forget(self);
            return Err(fatal);
        }
        self.log.close().map_err(Fatal::disk)?;
        self.snapshots.finish();
        // The process ends: to drop a million znodes one by one takes seconds, and they are of no use to anybody.
        std::mem::forget(self.sequencer);
        Ok(())
    }

    fn work(&mut self) -> Result<(), Fatal> {
        // On a full disk nothing that grows is taken, from the first write on.
        self.look_at_space();
        loop {
            let mut did_work = self.count_slept_ticks();
            did_work |= self.take_proposals();
            did_work |= self.hear_peers()?;
            did_work |= self.tick();
            self.reap_log()?;
            let now = self.clock.now();
            self.state.has_unturned = false;
            self.sequencer.turn(now);
            did_work |= self.carry_out()?;
            self.tell_greeter();
            self.tell_peers()?;
            self.links.desk.answer(&self.sequencer, now);
            self.serve_or_not();
            self.watch_shards()?;
            if let Some(index) = self.state.wrong_at {
                if !self.hands_over() {
                    return Err(Fatal::wrong_state(index));
                }
            }
            if self.links.is_stopping() && !self.hands_over() && self.is_quiet() {
                break;
            }
            // Beside other servers each event is a wake-up of its own: to look for more at once costs two system calls
            // and finds nothing. Alone, what shards sent meanwhile is the rule.
            let goes_on = match &self.peers {
                // What a turn leaves of a flood of messages nobody tells of again.
                Some(peers) => self.state.has_unturned || peers.has_more(),
                None => did_work,
            };
            if goes_on || self.sequencer.is_busy() {
                self.look_again()?;
            } else {
                self.sleep()?;
            }
        }
        self.note_commit()
    }

    /// Nothing is under way that a client was promised an answer to. What a full disk keeps waiting never will be.
    fn is_quiet(&self) -> bool {
        let is_written = self.state.to_append.is_empty() || self.state.no_space;
        is_written && self.state.in_flight.is_empty() && self.sequencer.rests(self.clock.mono()).is_none()
    }

    /// The last record says how far the log is known to be committed: a server that starts without a leader, for read-only
    /// mode, has all that it had shown.
    fn note_commit(&mut self) -> Result<(), Fatal> {
        if self.peers.is_none() || !self.state.to_append.is_empty() {
            return Ok(());
        }
        match self.log.submit(&Append::hard_state(self.sequencer.hard_state())) {
            Err(SubmitError::Fault(fault)) => Err(Fatal::disk(fault)),
            // It is a help and no promise.
            Ok(_) | Err(SubmitError::Full | SubmitError::NoSpace | SubmitError::TooLarge) => Ok(()),
        }
    }

    /// A leader that goes down hands over first: a restart of one server after the other stalls no write for long.
    fn hands_over(&mut self) -> bool {
        if self.peers.is_none() {
            return false;
        }
        let now = self.clock.mono();
        let since = *self.state.stopping_since.get_or_insert(now);
        now.since(since).0 < HAND_OVER_MS && self.sequencer.hand_over()
    }

    fn sleep(&mut self) -> Result<(), Fatal> {
        self.links.sequencer.sleep.fall_asleep();
        // No shard rings when it has caught up.
        let holds = self.holds();
        let pause = if holds { HOLD_MS } else { self.till_tick() };
        let bell = &self.links.sequencer;
        let has_mail =
            !holds && self.sequencer.wants_proposals() && self.links.shards.iter().any(ShardLink::has_mail);
        // A server that goes down takes no mail; it waits for what it hands over.
        let waits = if self.links.is_stopping() { self.peers.is_some() } else { !has_mail };
        if waits {
            let wake = self.peers.as_ref().map_or(bell.as_fd(), Peers::as_fd);
            let rest = self.sequencer.rests(self.clock.mono());
            let pause = Duration::from_millis(rest.map_or(pause, |rest| rest.0.clamp(1, pause)));
            let pause = self.peers.as_ref().and_then(Peers::rests).map_or(pause, |rest| rest.min(pause));
            let waited = self.log.wait(pause, wake).map_err(Fatal::disk)?;
            if waited.woken {
                bell.drain();
                self.state.is_woken = true;
            }
        } else {
            self.look_again()?;
        }
        self.links.sequencer.sleep.wake_up();
        Ok(())
    }

    /// Takes what the log and the other servers' sockets have by now.
    fn look_again(&mut self) -> Result<(), Fatal> {
        let Some(peers) = &self.peers else { return self.log.poll().map_err(Fatal::disk) };
        let waited = self.log.wait(Duration::ZERO, peers.as_fd()).map_err(Fatal::disk)?;
        self.state.is_woken |= waited.woken;
        Ok(())
    }

    /// Whether proposals wait because a shard does not keep up.
    fn holds(&self) -> bool {
        self.links.any_lags() || self.links.backlog() > BACKLOG_MAX
    }

    fn take_proposals(&mut self) -> bool {
        let mut any = false;
        let now = self.clock.now();
        for (shard, id) in self.links.shards.iter().zip(0..) {
            if let Some(up) = shard.receive_heard(ShardId(id)) {
                self.sequencer.handle(now, Input::Up(up));
            }
        }
        if self.links.is_stopping() || self.holds() {
            return false;
        }
        while self.sequencer.wants_proposals() {
            let Some(up) = self.links.receive(&mut self.state.next_shard) else { break };
            self.sequencer.handle(now, Input::Up(up));
            any = true;
        }
        any
    }

    /// An ensemble counts its elections in ticks: 16 to 32 of them without a word of the leader's.
    fn tick_ms(&self) -> u64 {
        if self.peers.is_some() {
            PEER_TICK_MS
        } else {
            TICK_MS
        }
    }

    fn hear_peers(&mut self) -> Result<bool, Fatal> {
        // Who goes down, and has had time to hand over, ends what is under way and begins nothing more: others' writes would
        // keep it busy for as long as they come.
        let is_late =
            self.state.stopping_since.is_some_and(|at| self.clock.mono().since(at).0 >= HAND_OVER_MS);
        let Some(peers) = self.peers.as_mut().filter(|_| !is_late) else { return Ok(false) };
        let (now, sequencer) = (self.clock.now(), &mut self.sequencer);
        // Nothing is there to be read unless the set has said so, or the last turn has left some of it.
        let is_woken = std::mem::take(&mut self.state.is_woken);
        peers
            .receive(now.mono, is_woken, &mut |input| sequencer.handle(now, input))
            .map_err(|error| Fatal::peers(&error))
    }

    fn tell_peers(&mut self) -> Result<(), Fatal> {
        let Some(peers) = &mut self.peers else { return Ok(()) };
        let (now, sequencer, log) = (self.clock.now(), &mut self.sequencer, &mut self.log);
        let has_unturned = &mut self.state.has_unturned;
        let mut entries = Logs { log, fault: None };
        peers
            .flush(now.mono, &mut entries, &mut |input| {
                sequencer.handle(now, input);
                *has_unturned = true;
            })
            .map_err(|error| Fatal::peers(&error))?;
        entries.fault.map_or(Ok(()), |error| Err(Fatal::log(error)))
    }

    /// Milliseconds until a tick has to be counted.
    fn till_tick(&mut self) -> u64 {
        let ticks = if self.peers.is_some() { self.sequencer.quiet_ticks() } else { 1 };
        self.state.may_sleep = ticks;
        let since = self.clock.mono().since(self.state.ticked_at).0;
        (ticks * self.tick_ms()).saturating_sub(since).max(1)
    }

    /// The ticks that this thread slept through, as far as it might, are counted before what has come meanwhile is heard, the
    /// last of them too: a tick that passed before the leader was lost must not count for the wait that begins then.
    fn count_slept_ticks(&mut self) -> bool {
        let may_sleep = std::mem::replace(&mut self.state.may_sleep, 1);
        if self.peers.is_none() || may_sleep <= 1 {
            return false;
        }
        let now = self.clock.now();
        let ticks = now.mono.since(self.state.ticked_at).0 / PEER_TICK_MS;
        let slept = ticks.min(may_sleep).saturating_sub(1);
        if slept > 0 {
            self.sequencer.handle(now, Input::Slept { ticks: slept });
            self.state.ticked_at = Millis(self.state.ticked_at.0 + slept * PEER_TICK_MS);
        }
        self.tick()
    }

    fn tick(&mut self) -> bool {
        let now = self.clock.now();
        let since = now.mono.since(self.state.ticked_at).0;
        if since < self.tick_ms() {
            return false;
        }
        // In step where it can be: what is left of a tick counts for the next one.
        let is_next = self.peers.is_some() && since < 2 * PEER_TICK_MS;
        self.state.ticked_at = if is_next { Millis(self.state.ticked_at.0 + PEER_TICK_MS) } else { now.mono };
        self.sequencer.handle(now, Input::Tick);
        self.take_snapshot_done(now);
        if self.links.take_leave() {
            self.sequencer.handle(now, Input::Leave);
        }
        if self.snapshot_wanted.swap(false, Ordering::Relaxed) {
            self.sequencer.begin_snapshot();
        }
        if now.mono.since(self.state.space_at).0 >= SPACE_MS {
            self.look_at_space();
        }
        self.look_at_tree();
        self.show_standing(now.mono);
        true
    }

    fn show_standing(&mut self, now: Millis) {
        let Some(peers) = &self.peers else { return };
        // A leader that is known has yet to say from when on this server may serve.
        let role = match self.sequencer.leader() {
            _ if self.sequencer.serving() == Serving::ReadOnly => Role::ReadOnly,
            None => Role::Looking,
            Some(_) if self.sequencer.is_observer() => Role::Observer,
            Some(_) if self.sequencer.is_leading() => Role::Leader,
            Some(_) => Role::Follower,
        };
        self.links.standing.set(role, peers.len(), self.sequencer.local_sessions());
        let leads_since = self.state.leads_since.filter(|_| role == Role::Leader).unwrap_or(now);
        self.state.leads_since = Some(leads_since);
        let (followers, observers) = self.sequencer.synced();
        self.links.standing.set_leading(Leading {
            synced: [followers, observers].map(|count| count as u64),
            uptime: now.since(leads_since),
            pending_syncs: self.sequencer.pending_syncs() as u64,
            proposal_sizes: self.links.meters.proposals.get(),
        });
    }

    /// A tree that has grown large gets huge pages for what it grows by.
    fn look_at_tree(&mut self) {
        let table = &self.sequencer.state().table;
        if !self.state.has_huge_pages && pages::suit(table.len(), table.data_bytes()) {
            pages::allow_huge();
            self.state.has_huge_pages = true;
        }
    }

    fn carry_out(&mut self) -> Result<bool, Fatal> {
        let mut any = false;
        while let Some(effect) = self.sequencer.next_effect() {
            any = true;
            if let Effect::Note(Note::IsWrong { index }) = &effect {
                self.state.wrong_at = Some(*index);
            }
            let is_leading = self.peers.is_some().then(|| self.sequencer.is_leading());
            self.links.meters.count(&effect, is_leading);
            match effect {
                Effect::Append(logged) => self.state.to_append.push_back(logged),
                Effect::Send(addressed) => {
                    if let Some(peers) = &mut self.peers {
                        peers.say(addressed);
                    }
                }
                // What is applied before clients are served is in the tree that each shard begins with. In the rings it
                // would lie in front of shards that take nothing yet: thousands of it looked like a dead shard.
                Effect::Publish(publication) if self.state.serving != Serving::No => {
                    self.state.behind.published(publication.bytes);
                    self.links.publish(&publication)
                }
                Effect::Publish(_) => {}
                Effect::Read { index } => {
                    let payload = self.log.read(index).map_err(Fatal::log)?;
                    self.sequencer.handle(self.clock.now(), Input::Read { index, payload });
                    self.state.has_unturned = true;
                }
                Effect::SnapshotBegin { index, term, head } => {
                    let alone = self.state.space_low;
                    self.snapshots.send(SnapshotJob::Begin { index, term, head, alone });
                }
                Effect::SnapshotNodes(nodes) => self.snapshots.send(SnapshotJob::Nodes(nodes)),
                Effect::SnapshotEnd => self.snapshots.send(SnapshotJob::End),
                Effect::SnapshotAbort => self.snapshots.send(SnapshotJob::Abort),
                Effect::Fetch { from, index, listens, .. } => self.fetch(from, index, listens),
                Effect::Seat(seat) => self.write_seat(seat)?,
                Effect::Install { at, former } => self.install(&at, former)?,
                Effect::Discard(state) => {
                    let file = self.peers.as_mut().and_then(|peers| peers.discard_fetched(&state));
                    discard((state, file));
                }
                Effect::Note(Note::UnknownRules { version }) => return Err(Fatal::unknown_rules(version)),
                Effect::Note(Note::Left) => {
                    let dir = self.dir.path().display();
                    self.dir.write_left().map_err(|error| Fatal::os(&format!("writing to {dir}"), &error))?;
                    info!("this server has left the ensemble: going down");
                    signals::end_self();
                }
                Effect::Note(note) => self.say(&note),
            }
        }
        self.submit_waiting()?;
        self.look_after_roll();
        Ok(any)
    }

    fn fetch(&mut self, from: ServerId, index: LogIndex, listens: Vec<PeerAddress>) {
        let peers = self.peers.as_mut().expect("only a peer offers a snapshot");
        peers.fetch(from, index, listens);
    }

    fn write_seat(&mut self, seat: Seat) -> Result<(), Fatal> {
        let dir = self.dir.path().display();
        self.dir.write_seat(seat).map_err(|error| Fatal::os(&format!("writing to {dir}"), &error))?;
        info!("this server's data directory has seat {seat} in the ensemble");
        self.sequencer.handle(self.clock.now(), Input::Seated(seat));
        self.state.has_unturned = true;
        Ok(())
    }

    /// Those who greet and dial hear of changed members.
    fn tell_greeter(&mut self) {
        let Some(peers) = &self.peers else { return };
        let members = &self.sequencer.state().membership;
        let (seat, serves) = (self.sequencer.seat(), self.sequencer.is_serving());
        self.state.members_shown.see_own(members, seat, self.dir.server(), serves);
        let is_again = self.state.greeters_untold.is_some_and(|tick| tick != self.state.ticked_at);
        let is_new = self.state.members_shown.see(members);
        if !is_new && !is_again {
            return;
        }
        if is_new {
            self.links.standing.set_members(members_shown::for_words(members));
            let own = self.places.iter().find(|(server, _)| *server == self.dir.server());
            let own = own.map(|(_, addresses)| addresses.as_slice());
            MembersShown::see_place(members, self.dir.server(), own);
        }
        let seats = members.seats.iter().map(|(seat, birth)| (seat.server(), *birth));
        // Before the first leader has said who is a member, and for a server that is none, the configuration is all there is.
        let is_member = members.servers.contains_key(&self.dir.server());
        let mut places: BTreeMap<_, _> = self.places.iter().filter(|_| !is_member).cloned().collect();
        places.extend(members.servers.values().map(|line| (line.id, line.addresses.clone())));
        let told = peers.set_members(places.into_iter().collect(), seats.collect());
        self.state.greeters_untold = told.is_err().then_some(self.state.ticked_at);
        let Err(error) = told else { return };
        if let Say::Print { dropped } = self.state.throttle.ask("no thread", self.clock.mono()) {
            warn!(
                not_shown = dropped,
                "no thread could be started that dials another server, and it is tried again: {error}"
            );
        }
    }

    /// A fetched snapshot takes the log's place.
    fn install(&mut self, at: &Install, former: Box<State>) -> Result<(), Fatal> {
        let peers = self.peers.as_mut().expect("only a peer offers a snapshot");
        self.log.announce_snapshot(at.index, at.term).map_err(Fatal::log)?;
        peers.publish_fetched(at.index).map_err(|error| Fatal::os("naming a fetched snapshot", &error))?;
        self.log.restart_at(at.index, at.term, at.hard_state).map_err(Fatal::log)?;
        // What waited for the log is in the snapshot, or void.
        self.state.records += self.state.to_append.len() as u64 + 1;
        self.state.to_append.clear();
        self.state.in_flight.clear();
        self.stop_serving();
        info!(index = at.index.0, "this server goes on behind a snapshot of the leader's");
        discard(former);
        self.sequencer.handle(self.clock.now(), Input::Persisted { records: self.state.records });
        self.state.has_unturned = true;
        Ok(())
    }

    fn say(&mut self, note: &Note) {
        let now = self.clock.mono();
        let kind = match note {
            Note::BecameLeader { .. } | Note::Follows { .. } | Note::Leaderless => "leader",
            Note::StoppedServing | Note::FellBehind { .. } | Note::ServesReadOnly => "serving",
            Note::Joined | Note::Left | Note::UnknownRules { .. } => "members",
            Note::ReconfigRefused(_) => "reconfig",
            // Each by itself: a flood of one hides no other.
            Note::Nonsense { why, .. } => why,
            Note::Differs { .. } | Note::IsWrong { .. } => "differs",
            Note::SessionExpired { .. } => "expired",
            Note::Stalled { .. } => "stalled",
            Note::ReadOnly { .. } => "space",
            Note::OverQuota(over) if over.is_refused => "quota refused",
            Note::OverQuota(_) => "quota",
        };
        let Say::Print { dropped } = self.state.throttle.ask(kind, now) else { return };
        match note {
            Note::BecameLeader { term } if self.peers.is_none() => debug!(term = term.0, "this server leads"),
            Note::BecameLeader { term } => info!(term = term.0, "this server leads"),
            Note::Follows { leader, term } => info!(leader = leader.0, term = term.0, "this server follows"),
            Note::Leaderless => info!("nobody leads that this server knows of"),
            Note::Joined => info!("this server is a member of the ensemble, as its line says"),
            Note::Left | Note::UnknownRules { .. } => {}
            Note::ReconfigRefused(refusal) => {
                warn!(not_shown = dropped, "a reconfig was refused with {}: {}", refusal.code, refusal.why);
            }
            Note::StoppedServing => warn!(
                connected = self.peers.as_ref().map_or(0, Peers::len),
                "without a leader for too long: clients are turned away until there is one. {NO_MAJORITY}"
            ),
            Note::FellBehind { behind } => warn!(
                "what is here may be {} ms old: nothing newer of what the ensemble did is known to be done here. Clients are turned \
                 away until it is. This server stood still, or its disk (full, or slow), or its network; syncLimit says how old it \
                 may be",
                behind.0
            ),
            Note::ServesReadOnly => warn!(
                connected = self.peers.as_ref().map_or(0, Peers::len),
                "nobody leads that this server knows of: clients that ask for read-only mode are served what is here, all \
                 others are turned away until there is a leader (readonlymode.enabled). {NO_MAJORITY}"
            ),
            Note::Nonsense { from, why } => {
                warn!(server = from.0, dropped, "a server's message was dropped: {why}");
            }
            Note::Differs { server, index } => error!(
                server = server.0,
                index = index.0,
                "this server's state is another one than that of the other: please report this with both logs"
            ),
            Note::IsWrong { .. } => {}
            Note::SessionExpired { session } => info!(%session, dropped, "session expired"),
            // A busy host does this now and then; from a second on somebody should look.
            Note::Stalled { forgiven } if forgiven.0 < 1_000 => debug!(ms = forgiven.0, "stood still"),
            Note::Stalled { forgiven } => warn!(
                "this server stood still for {} ms: no session loses time for it (is the host overloaded or its disk \
                 stuck, or was the process stopped?)",
                forgiven.0
            ),
            Note::ReadOnly { low: true } => {
                let (dir, free, enough) = self.log.room();
                warn!(
                    "the disk is nearly full: what grows the tree is refused with NotReadOnly (-119). {} has {} MiB free; all \
                     writes are taken again at {} MiB (ringkeeper.diskReserveMb and a log segment)",
                    dir.display(),
                    free >> 20,
                    enough >> 20
                );
            }
            Note::ReadOnly { low: false } => info!("the disk has room again: all writes are taken"),
            Note::OverQuota(over) => warn!(not_shown = dropped, "{}", over_quota_text(over)),
        }
    }

    /// Once all that was acknowledged before is applied each shard gets the tree and serves; in an ensemble, until nobody
    /// leads for too long.
    fn serve_or_not(&mut self) {
        let serving = self.sequencer.serving();
        if self.state.serving == serving {
            return;
        }
        if serving == Serving::No {
            self.stop_serving();
            return;
        }
        self.state.serving = serving;
        self.state.silences.clear();
        // The last shard is given the tree itself: a lone one need not copy it again.
        let orders = std::iter::repeat_n(Order::Serve(self.tree()), self.links.shards.len());
        for (shard, order) in self.links.shards.iter().zip(orders) {
            shard.order(order);
        }
        if let Some(on_serving) = self.on_serving.take() {
            on_serving();
        }
    }

    fn stop_serving(&mut self) {
        if self.state.serving != Serving::No {
            self.state.serving = Serving::No;
            let upto = self.sequencer.publications();
            for shard in &self.links.shards {
                shard.order(Order::StopServing { upto });
            }
        }
    }

    fn tree(&self) -> Arc<Tree> {
        let state = self.sequencer.state();
        Arc::new(Tree {
            table: state.table.clone(),
            last_zxid: state.last_zxid(),
            sessions: self.sequencer.sessions(),
            publication: self.sequencer.publications(),
            read_only: self.sequencer.serving() == Serving::ReadOnly,
        })
    }

    /// A shard that lies too far behind drops its connections, and what lies there, and goes on with the tree as it is now:
    /// its clients come again, here or elsewhere, with their sessions.
    fn begin_anew_behind(&mut self) {
        let mut behind = std::mem::take(&mut self.state.behind);
        behind.look(self.links.shards.iter().map(ShardLink::backlog), |shard| {
            warn!(
                shard,
                batches = self.links.shards[shard].backlog(),
                "a shard does not keep up with what the ensemble writes (persistent recursive watches on a busy subtree?): \
                 its clients are disconnected and begin anew"
            );
            self.links.shards[shard].order(Order::Serve(self.tree()));
        });
        self.state.behind = behind;
    }

    fn watch_shards(&mut self) -> Result<(), Fatal> {
        if self.state.serving == Serving::No {
            return Ok(());
        }
        self.begin_anew_behind();
        let now = self.clock.mono();
        let published = self.links.published();
        self.state.silences.resize(self.links.shards.len(), Silence::default());
        for (shard, silence) in self.links.shards.iter().zip(&mut self.state.silences) {
            let backlog = shard.backlog();
            let taken = published.saturating_sub(backlog as u64) + shard.lag.pieces();
            // What a shard takes in pieces lies in front of it, too.
            let lies_there = backlog > 0 || shard.lag.is_on();
            if silence.look(now, taken, lies_there) {
                return Err(Fatal::dead_shard());
            }
        }
        Ok(())
    }
}
