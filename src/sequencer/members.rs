//! Who votes: the leader brings about, a step at a time, what the server lines say, and what a client wishes.
//!
//! Each step is an entry, and the next one waits until it is applied. A server's data directory that has no seat gets one
//! and learns; a participant that has caught up votes; a wiped one takes its old seat's place in one joint change, so that
//! no moment has fewer votes than before. Who is no longer named learns on while it is connected, as in ZooKeeper.

use super::{Effect, Note, Now, Sequencer};
use crate::apply::{BatchWriter, Txn, TxnBody};
use crate::error::Code;
use crate::ids::{ConnId, LogIndex, Millis, Seat, ServerId, SessionId, ShardId, Xid, Zxid};
use crate::membership::{ConfChange, Membership, Refusal, ServerEntry, Step};
use crate::mutant::{self, Mutant};
use crate::peer::{Addressed, Message, Seated};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A learner has caught up when it has what the leader had so many ticks ago: an election's time.
const LAG_TICKS: usize = 16;
/// A reconfig waits so long for its new voters to catch up. Clients' sessions wait with it: a third of a short one.
const PATIENCE_MS: u64 = 2_000;
/// What a server wants for itself it says again after so long.
const ASK_AGAIN_MS: u64 = 500;
/// A learner that no line names loses its seat when it has been away for so long.
const ABSENT_MS: u64 = 30_000;
/// No ensemble has given out so many seats while a server of it was away.
const SEATS_AHEAD_MAX: u64 = 1 << 24;

/// What a server knows of its own seat, and a leader of the others'.
pub(super) struct Members {
    pub(super) seat: Seat,
    /// Given by a leader, and not written down yet.
    given: Option<Seat>,
    /// Written down, and not taken yet.
    pub(super) written: Option<Seat>,
    /// There may be something to do.
    is_due: bool,
    /// The step that is not applied yet.
    under_way: LogIndex,
    /// The leader's last entry at each of the last ticks, oldest first.
    marks: VecDeque<LogIndex>,
    /// The reconfig that waits, and since when.
    waiting: Option<(Zxid, Millis)>,
    away_since: BTreeMap<Seat, Millis>,
    /// What this server wants for itself, and when it said so last.
    pub(super) errand: Option<Errand>,
    asked_at: Option<Millis>,
    /// What servers have asked for themselves, at a leader.
    wishes: BTreeMap<ServerId, Step>,
}

/// What a server wants for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    Join,
    Leave,
}

impl Members {
    pub(super) fn new(seat: Seat) -> Members {
        Members {
            seat,
            given: None,
            written: None,
            is_due: false,
            under_way: LogIndex(0),
            marks: VecDeque::new(),
            waiting: None,
            away_since: BTreeMap::new(),
            errand: None,
            asked_at: None,
            wishes: BTreeMap::new(),
        }
    }
}

/// The configuration that is wanted.
#[derive(PartialEq, Eq)]
struct Goal {
    voters: BTreeSet<Seat>,
    learners: BTreeSet<Seat>,
}

impl Sequencer {
    // ---- a server's own seat ----

    /// A leader says which seat this data directory has. Who leads this server may not know: a directory without a seat, or
    /// whose seat was given up while it was away, is sent nothing else. But to one that has a seat, and may vote, only a server
    /// that stands in a line says so, and nobody a number that no ensemble reaches: what is taken can not be given back.
    pub(super) fn on_seated(&mut self, from: ServerId, seated: Seated) {
        let Seated { birth, seat } = seated;
        let own = self.members.seat;
        let is_none = own == Seat::none(self.options.server);
        let is_newer = seat.server() == self.options.server && (is_none || seat > own);
        let is_known = [self.members.given, self.members.written].contains(&Some(seat));
        if birth != self.options.birth || !is_newer || is_known {
            return;
        }
        let members = &self.state.membership;
        let may_say = is_none
            || members.servers.contains_key(&from)
            || self.options.lines.contains_key(&from)
            || members.votes(from);
        let is_absurd = seat.generation() > members.next_generation.saturating_add(SEATS_AHEAD_MAX);
        if !may_say || is_absurd {
            let why = "a seat that no leader gives";
            return self.effects.push_back(Effect::Note(Note::Nonsense { from, why }));
        }
        self.members.given = Some(seat);
        self.effects.push_back(Effect::Seat(seat));
    }

    /// Takes the new seat once it is written down and nothing of the old one is under way.
    pub(super) fn take_seat(&mut self) {
        let Some(seat) = self.members.written else { return };
        let is_idle = self.records == self.persisted && self.committed.is_empty();
        if is_idle && self.consensus.take_seat(seat) {
            self.members.seat = seat;
            (self.members.given, self.members.written) = (None, None);
        }
    }

    /// Asks the leader for what this server wants until it is so: any of the words may be lost, and the leader too.
    pub(super) fn run_errand(&mut self, now: Now) {
        // What was replayed at the start is old: a server decides on nothing before it has heard of a leader.
        let Some(errand) = self.members.errand.filter(|_| self.is_serving()) else { return };
        let (server, members) = (self.options.server, &self.state.membership);
        let (joining, leaving) = match errand {
            Errand::Join => {
                let Some(line) = self.options.lines.get(&server) else { return };
                if members.servers.get(&server) == Some(line) {
                    self.members.errand = None;
                    return self.effects.push_back(Effect::Note(Note::Joined));
                }
                (BTreeMap::from([(server, line.clone())]), BTreeSet::new())
            }
            Errand::Leave => {
                let is_out = !members.servers.is_empty()
                    && !members.servers.contains_key(&server)
                    && !members.conf.is_joint()
                    && !members.votes(server);
                if is_out {
                    self.members.errand = None;
                    return self.effects.push_back(Effect::Note(Note::Left));
                }
                (BTreeMap::new(), BTreeSet::from([server]))
            }
        };
        if self.members.asked_at.is_some_and(|at| now.mono.since(at).0 < ASK_AGAIN_MS) {
            return;
        }
        let Some((leader, _)) = self.consensus.leader() else { return };
        self.members.asked_at = Some(now.mono);
        let step = Step::Wish { joining, leaving };
        if leader == server {
            self.members.wishes.insert(server, step);
        } else {
            let message = Message::Wish(step.encode());
            self.effects.push_back(Effect::Send(Addressed { to: leader, message }));
        }
    }

    // ---- a leader's part ----

    /// A server asks for something for itself.
    pub(super) fn on_wish(&mut self, from: ServerId, bytes: &[u8]) {
        let Ok(Step::Wish { joining, leaving }) = Step::decode(bytes) else {
            let why = "a wish that is none";
            return self.effects.push_back(Effect::Note(Note::Nonsense { from, why }));
        };
        if joining.keys().chain(&leaving).any(|server| *server != from) {
            let why = "a wish for another server";
            return self.effects.push_back(Effect::Note(Note::Nonsense { from, why }));
        }
        if self.leading {
            self.members.wishes.insert(from, Step::Wish { joining, leaving });
        }
    }

    /// The next wish of a server's that is not fulfilled yet.
    fn next_wish(&mut self) -> Option<Step> {
        while let Some((_, step)) = self.members.wishes.pop_first() {
            let Step::Wish { joining, leaving } = &step else { continue };
            let members = &self.state.membership;
            if members.target(joining, leaving).is_some_and(|target| target != members.servers) {
                return Some(step);
            }
        }
        None
    }

    pub(super) fn begin_membership(&mut self) {
        self.members.under_way = LogIndex(0);
        self.members.marks.clear();
        self.members.waiting = None;
        self.members.away_since.clear();
        self.members.wishes.clear();
        self.members_changed();
    }

    /// Tells everybody where it sits.
    pub(super) fn members_changed(&mut self) {
        self.members.is_due = true;
        for peer in self.peers.all_up() {
            self.tell_seat(peer);
        }
    }

    pub(super) fn tell_seat(&mut self, peer: ServerId) {
        let Some(birth) = self.peers.birth(peer).filter(|_| self.leading) else { return };
        if let Some(seat) = self.state.membership.seat_of(peer, birth) {
            let message = Message::Seated(Seated { birth, seat });
            self.effects.push_back(Effect::Send(Addressed { to: peer, message }));
        }
    }

    /// A tick of a leader's.
    pub(super) fn watch_members(&mut self, now: Millis) {
        if self.members.marks.len() == LAG_TICKS {
            self.members.marks.pop_front();
        }
        self.members.marks.push_back(self.consensus.last_index());
        self.members.is_due = true;
        let members = &self.state.membership;
        let is_here = |seat: &Seat| is_connected(members, &self.peers, self.members.seat, *seat);
        let away = members.seats.keys().copied().filter(|seat| !is_here(seat));
        let known = &self.members.away_since;
        self.members.away_since = away.map(|seat| (seat, known.get(&seat).copied().unwrap_or(now))).collect();
    }

    /// Whether nobody is on the way in or out, as far as this server has a part in it.
    pub(super) fn members_are_settled(&self) -> bool {
        let (members, own) = (&self.state.membership, &self.members);
        let joins = |seat: &Seat| participants(&members.servers).contains(&seat.server());
        let leads_change = || {
            members.wish.is_some()
                || members.conf.is_joint()
                || own.marks.len() < LAG_TICKS
                || self.newcomer().is_some()
                || members.conf.learners.iter().any(joins)
        };
        own.errand.is_none()
            && own.given.is_none()
            && own.written.is_none()
            && !(self.leading && leads_change())
    }

    /// Proposes the next step, if there is one to be done.
    pub(super) fn change_members(&mut self, now: Now) {
        // What a step waits for is seen at a tick; while a change is under way, at once.
        let members = &self.state.membership;
        let is_due = members.wish.is_some() || members.conf.is_joint() || self.members.is_due;
        let may = is_due
            && self.leading
            && self.applied >= self.members.under_way
            // However full the log is: while a configuration is joint it needs two majorities, and clients' load would make
            // that long. There is one step at a time.
            && !self.consensus.is_handing_over()
            && !self.consensus.is_conf_pending();
        if !may {
            return;
        }
        self.members.is_due = false;
        if let Some(step) = self.next_step(now.mono) {
            self.propose_step(now, &step);
        }
    }

    fn next_step(&mut self, now: Millis) -> Option<Step> {
        if let Some(version) = self.known_to_all().filter(|version| *version > self.state.rules) {
            return Some(Step::Rules { version });
        }
        let members = &self.state.membership;
        if !members.is_ensemble() {
            return None;
        }
        if !members.conf.voters.contains(&self.members.seat) {
            // Who goes leads no further than to here: the next leader leaves the joint configuration. Or it was elected while
            // that still gave it a voice, and then left it.
            self.hand_over();
            return None;
        }
        if members.conf.is_joint() {
            return Some(Step::Leave);
        }
        if members.servers.is_empty() {
            let lines = self.options.lines.clone();
            return (!lines.is_empty()).then_some(Step::Form { lines });
        }
        if let Some(newcomer) = self.newcomer() {
            let (voters, learners) = (members.conf.voters.clone(), members.conf.learners.clone());
            return Some(Step::Enter { seat: Some(newcomer), voters, learners });
        }
        let target = members.wish.as_ref().map_or(&members.servers, |wish| &wish.target);
        let goal = self.goal(target, now);
        let step = (!goal.voters.is_empty() && !goal.is(members)).then(|| goal.step());
        let Some(wish) = members.wish.as_ref() else { return step.or_else(|| self.next_wish()) };
        let (zxid, participants) = (wish.zxid, participants(&wish.target));
        let ready = participants.iter().filter(|server| self.is_ready(**server)).count();
        let since = match self.members.waiting {
            Some((known, since)) if known == zxid => since,
            _ => {
                self.members.waiting = Some((zxid, now));
                now
            }
        };
        if ready < participants.len() && now.since(since).0 < PATIENCE_MS {
            return None;
        }
        // As ZooKeeper: a majority of the new members is here and has all. The others vote when they come.
        if 2 * ready <= participants.len() {
            return Some(Step::Refuse);
        }
        Some(step.unwrap_or(Step::Done))
    }

    /// The rules that every member knows, those who learn too; `None` while one of them is not here to say so.
    fn known_to_all(&self) -> Option<u32> {
        let members = &self.state.membership;
        let mut known = self.options.rules;
        for seat in members.seats.keys().filter(|seat| **seat != self.members.seat) {
            if !is_connected(members, &self.peers, self.members.seat, *seat) {
                if mutant::is(Mutant::RulesRaisedEarly) {
                    continue;
                }
                return None;
            }
            known = known.min(self.peers.rules(seat.server())?);
        }
        Some(known)
    }

    /// A data directory that is here and has no seat.
    fn newcomer(&self) -> Option<(ServerId, u128)> {
        let members = &self.state.membership;
        let all = self.peers.all_up().into_iter();
        let mut all = all.filter_map(|peer| Some((peer, self.peers.birth(peer)?)));
        all.find(|(peer, birth)| *peer != self.options.server && members.seat_of(*peer, *birth).is_none())
    }

    /// Whether a server's newest seat is connected and votes, or could at once.
    fn is_ready(&self, server: ServerId) -> bool {
        let members = &self.state.membership;
        let is_here = |seat: Seat| is_connected(members, &self.peers, self.members.seat, seat);
        let may_vote = |seat: Seat| members.conf.voters.contains(&seat) || self.has_caught_up(seat);
        members.newest(server).is_some_and(|seat| is_here(seat) && may_vote(seat))
    }

    fn has_caught_up(&self, seat: Seat) -> bool {
        let marks = &self.members.marks;
        let mark = marks.front().filter(|_| marks.len() == LAG_TICKS);
        mark.is_some_and(|mark| self.consensus.matched(seat) >= *mark)
    }

    fn goal(&self, target: &BTreeMap<ServerId, ServerEntry>, now: Millis) -> Goal {
        let members = &self.state.membership;
        let participants = participants(target);
        let mut goal = Goal { voters: BTreeSet::new(), learners: BTreeSet::new() };
        for seat in members.seats.keys().copied() {
            let server = seat.server();
            let newest = members.newest(server).unwrap_or(seat);
            let is_voter = members.conf.voters.contains(&seat);
            if participants.contains(&server) {
                let takes_over = newest == seat || self.is_ready(server);
                if seat == newest && (is_voter || self.is_ready(server)) || is_voter && !takes_over {
                    goal.voters.insert(seat);
                } else if seat == newest {
                    goal.learners.insert(seat);
                }
                continue;
            }
            let away = self.members.away_since.get(&seat).map_or(0, |since| now.since(*since).0);
            if seat == newest && (target.contains_key(&server) || away < ABSENT_MS) {
                goal.learners.insert(seat);
            }
        }
        goal
    }

    fn propose_step(&mut self, now: Now, step: &Step) {
        let change = step.changes_conf().then(|| match step {
            Step::Leave => ConfChange::Leave,
            // What exactly changes apply finds out; here only the kind is asked for.
            _ => ConfChange::Enter(self.changes_of(step)),
        });
        let bytes = step.encode();
        let mut batch = BatchWriter::new(bytes.len());
        let body = TxnBody::Member { step: &bytes };
        batch.push(&Txn { session: SessionId::NONE, shard: ShardId(0), conn: ConnId(0), xid: Xid(0), body });
        let zxids = batch.zxids();
        let name = (self.options.server, self.options.incarnation, 0);
        // ZooKeeper's first configuration has the zxid with which an epoch begins, and no transaction ever has.
        let count = i64::from(!matches!(step, Step::Form { .. }));
        let (payload, range) = self.stamp(now, name, batch.into_unstamped(), zxids, count);
        let index = match &change {
            Some(change) => self.consensus.propose_conf(payload, change),
            None => self.consensus.propose(payload, range),
        };
        let Some(index) = index else { return };
        if zxids > 0 {
            self.last_logged_zxid = range.1;
        }
        self.members.under_way = index;
        if matches!(step, Step::Refuse) {
            self.tell_refusal();
        }
        self.pump();
    }

    /// The client may be another server's; who is missing the leader knows.
    fn tell_refusal(&mut self) {
        let Some(wish) = &self.state.membership.wish else { return };
        let missing = participants(&wish.target).into_iter().filter(|server| !self.is_ready(*server));
        let missing: Vec<String> = missing.map(|server| server.0.to_string()).collect();
        let why = format!(
            "no majority of its participants was connected and up to date within {PATIENCE_MS} ms; missing: {}",
            missing.join(", ")
        );
        let refusal = Refusal::new(Code::NewConfigNoQuorum, why);
        self.effects.push_back(Effect::Note(Note::ReconfigRefused(refusal)));
    }

    fn changes_of(&self, step: &Step) -> Vec<(Seat, crate::membership::Becomes)> {
        match self.state.membership.clone().take(step) {
            Some(ConfChange::Enter(changes)) => changes,
            _ => Vec::new(),
        }
    }
}

impl Goal {
    fn is(&self, members: &Membership) -> bool {
        self.voters == members.conf.voters && self.learners == members.conf.learners
    }

    fn step(self) -> Step {
        Step::Enter { seat: None, voters: self.voters, learners: self.learners }
    }
}

fn participants(lines: &BTreeMap<ServerId, ServerEntry>) -> BTreeSet<ServerId> {
    lines.values().filter(|entry| !entry.is_observer).map(|entry| entry.id).collect()
}

fn is_connected(members: &Membership, peers: &super::ensemble::Peers, own: Seat, seat: Seat) -> bool {
    seat == own || members.seats.get(&seat).copied() == peers.birth(seat.server())
}
