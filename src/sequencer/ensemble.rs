//! One server among others: who leads, who is there, and what followers tell of their clients.

use super::batch::Waiter;
use super::fresh::{Freshness, Moment, PATIENCE_MIN_MS};
use super::{install, Effect, Note, Now, Sequencer, Serving};
use crate::ids::{Millis, Seat, ServerId, SessionId, Term};
use crate::mutant::{self, Mutant};
use crate::peer::{Addressed, Heard, Message};
use crate::session::Expiry;
use std::collections::{BTreeMap, BTreeSet};

/// The other servers, and the leader among them.
pub(super) struct Peers {
    /// Those with a connection.
    up: BTreeMap<ServerId, Peer>,
    leader: Option<(ServerId, Term)>,
    /// The last moment at which there was one.
    led_at: Millis,
    /// How old what this server serves may be.
    pub(super) fresh: Freshness,
}

/// A server with a connection.
struct Peer {
    /// Its data directory.
    birth: u128,
    /// The version of apply's rules that it knows.
    rules: u32,
    /// The moment up to which it has told what it heard.
    through: Millis,
    /// When it last said anything in Raft, for which a follower's disk must have moved.
    said_at: Millis,
}

impl Peers {
    pub(super) fn new(now: Millis) -> Peers {
        Peers { up: BTreeMap::new(), leader: None, led_at: now, fresh: Freshness::new(now) }
    }

    pub(super) fn all_up(&self) -> Vec<ServerId> {
        self.up.keys().copied().collect()
    }

    pub(super) fn is_up(&self, peer: ServerId) -> bool {
        self.up.contains_key(&peer)
    }

    /// The rules that a server knows.
    pub(super) fn rules(&self, peer: ServerId) -> Option<u32> {
        self.up.get(&peer).map(|peer| peer.rules)
    }

    /// The data directory of a server that there is a connection with.
    pub(super) fn birth(&self, peer: ServerId) -> Option<u128> {
        self.up.get(&peer).map(|peer| peer.birth)
    }
}

/// What a follower has heard since its last report to the leader.
#[derive(Default)]
pub(super) struct Report {
    sessions: BTreeMap<SessionId, Millis>,
    stalled: Millis,
    sent_at: Millis,
}

/// How often a follower reports: many times within the shortest session timeout that a server grants.
const REPORT_MS: u64 = 100;
/// A leader whose disk stands keeps the lead for so long at least, and 2^5 times as long when it has handed it over again and again
/// within an hour.
const REIGN_MS: u64 = 10_000;
const REIGN_DOUBLINGS: u32 = 5;
const FORGOTTEN_MS: u64 = 3_600_000;

impl Report {
    pub(super) fn heard(&mut self, session: SessionId, at: Millis) {
        let last = self.sessions.entry(session).or_default();
        *last = at.max(*last);
    }

    pub(super) fn stood_still(&mut self, span: Millis) {
        self.stalled = self.stalled.plus(span);
    }
}

impl Sequencer {
    pub(super) fn on_peer_up(&mut self, now: Now, peer: ServerId, birth: u128, rules: u32) {
        self.peers.up.insert(peer, Peer { birth, rules, through: now.mono, said_at: now.mono });
        self.consensus.peer_up(peer);
        self.tell_seat(peer);
        if self.consensus.leader().is_some_and(|(leader, _)| leader == peer) {
            self.tell_again();
        }
    }

    pub(super) fn on_peer_down(&mut self, peer: ServerId) {
        self.peers.up.remove(&peer);
        self.consensus.peer_down(peer);
        if mutant::is(Mutant::LossNoticedLate) {
            return;
        }
        // At once: it may be up and lead again before the next turn, and has not had what was under way.
        self.see_leader();
    }

    pub(super) fn on_peer(&mut self, now: Now, from: ServerId, message: Message) {
        if !self.peers.is_up(from) {
            return;
        }
        if let (Message::Raft(_), Some(peer)) = (&message, self.peers.up.get_mut(&from)) {
            peer.said_at = now.mono;
        }
        match message {
            Message::Raft(raft) if install::is_offer(&raft) => self.on_offer(from, *raft),
            Message::Raft(raft) => {
                let was_in_vain = install::is_refusal(&raft);
                if let Err(why) = self.consensus.step(from, *raft) {
                    self.effects.push_back(Effect::Note(Note::Nonsense { from, why: why.0 }));
                } else if was_in_vain {
                    self.on_offer_in_vain();
                }
            }
            Message::Forward(forward) => self.on_forward(from, forward),
            Message::Heard(heard) => self.on_report(now.mono, from, heard),
            Message::Agreement(agreement) => self.on_agreement(from, agreement),
            Message::Seated(seated) => self.on_seated(from, seated),
            Message::Wish(step) => self.on_wish(from, &step),
        }
    }

    /// A server is there and takes this one for its leader: that counts, though its disk holds back what it has to say in Raft. But
    /// not for ever: with a majority whose disks stand a leader would lead on and heap up what nobody can have.
    fn count_alive(&mut self, now: Millis, from: ServerId) {
        let Some(peer) = self.peers.up.get(&from) else { return };
        if now.since(peer.said_at).0 <= self.patience_ms() {
            if let Some(seat) = self.state.membership.seat_of(from, peer.birth) {
                self.consensus.heard(seat);
            }
        }
    }

    /// A follower's report. Its clock is another: spans are taken from this server's now, which is later than theirs was.
    /// A server speaks for the sessions that are attached to it, and for no other.
    fn on_report(&mut self, now: Millis, from: ServerId, heard: Heard) {
        self.count_alive(now, from);
        if !self.leading {
            return;
        }
        // This server has not stood still: whose clients were in nobody's hands has more time, and all others have not.
        if heard.stalled.0 > 0 {
            let at = self.clock.at(now);
            let attached = self.state.sessions.iter().filter(|(_, session)| session.owner.server == from);
            attached.for_each(|(id, _)| self.expiry.extend(id, heard.stalled, at));
        }
        for (session, ago) in heard.sessions.into_iter().filter(|_| !mutant::is(Mutant::ReportsIgnored)) {
            let is_its = self.state.sessions.get(session).is_some_and(|known| known.owner.server == from);
            if is_its {
                let at = Millis(now.0.saturating_sub(ago.0));
                self.expiry.touch(session, self.clock.at(at));
            }
        }
        let through = Millis(now.0.saturating_sub(heard.through.0));
        if let Some(peer) = self.peers.up.get_mut(&from) {
            peer.through = through.max(peer.through);
        }
    }

    /// Tells the leader what this server heard.
    pub(super) fn send_report(&mut self, now: Millis) {
        let Some((leader, _)) = self.consensus.leader() else { return };
        if leader == self.options.server {
            self.report = Report::default();
            return;
        }
        if now.since(self.report.sent_at).0 < REPORT_MS {
            return;
        }
        let report = std::mem::replace(&mut self.report, Report { sent_at: now, ..Report::default() });
        let through = self.heard_through.iter().copied().min().unwrap_or(now);
        let ago = |(session, at)| (session, now.since(at));
        let heard = Heard {
            sessions: report.sessions.into_iter().map(ago).collect(),
            through: now.since(through),
            stalled: report.stalled,
        };
        self.effects.push_back(Effect::Send(Addressed { to: leader, message: Message::Heard(heard) }));
    }

    /// The moment up to which all shards of all servers that are there have told what they heard. One that is silent for too
    /// long is not there.
    pub(super) fn heard_of_all(&self, now: Millis) -> Millis {
        let own = self.heard_here();
        let patience = self.options.leaderless_ms;
        let members = &self.state.membership;
        let is_member = |(server, peer): &(&ServerId, &Peer)| members.seat_of(**server, peer.birth).is_some();
        let peers = self.peers.up.iter().filter(is_member).map(|(_, peer)| peer.through);
        peers.filter(|through| now.since(*through).0 <= patience).fold(own, Millis::min)
    }

    /// The moment up to which all shards of this server have told what they heard.
    pub(super) fn heard_here(&self) -> Millis {
        self.heard_through.iter().copied().min().unwrap_or_default()
    }

    /// A leader's followers and observers that are here and have all that it sends.
    #[must_use]
    pub fn synced(&self) -> (usize, usize) {
        let conf = &self.state.membership.conf;
        let is_synced = |seat: &&Seat| {
            **seat != self.members.seat && self.peers.is_up(seat.server()) && self.consensus.is_synced(**seat)
        };
        let count = |seats: &BTreeSet<Seat>| seats.iter().filter(is_synced).count();
        if self.leading {
            (count(&conf.voters), count(&conf.learners))
        } else {
            (0, 0)
        }
    }

    /// How many syncs wait for their moment.
    #[must_use]
    pub fn pending_syncs(&self) -> usize {
        self.consensus.pending_reads()
    }

    /// Hands the lead to another server: this one goes down. Returns whether that is under way.
    pub fn hand_over(&mut self) -> bool {
        self.hand_over_to(|_| true)
    }

    /// This server's disk stands: the lead goes to one that has what it waits for. To hand it over takes as long as two writes, and
    /// where every disk stands now and then it would go round for ever (the simulator): who has just got it keeps it for
    /// a while, and twice as long with each reign that ended so. Not one whose disk hangs: it takes longer than may be waited, and
    /// than twice what its writes took lately; four times what may be waited is too long for any.
    pub(super) fn hand_over_ahead(&mut self, now: Millis) {
        let (reigns, last, counted) = self.handed_over;
        let reigns = if now.since(last).0 < FORGOTTEN_MS { reigns } else { 0 };
        let is_new = now.since(self.reigns_since).0 < REIGN_MS << reigns.min(REIGN_DOUBLINGS);
        let patience_ms = self.patience_ms();
        let usual_ms = self.write_ms.min(patience_ms.saturating_mul(2)).saturating_mul(2);
        let is_long = now.since(self.log_moved_at).0 > patience_ms.max(usual_ms);
        if is_new && !is_long || self.consensus.is_handing_over() {
            return;
        }
        let voters = self.state.membership.conf.voters.iter().copied();
        let ahead: BTreeSet<Seat> = voters.filter(|seat| self.consensus.is_ahead(*seat)).collect();
        if self.hand_over_to(|seat| ahead.contains(&seat)) {
            // It is tried until it succeeds; the reign counts once.
            let term = self.consensus.term();
            self.handed_over = (reigns + u32::from(counted != term), now, term);
        }
    }

    fn hand_over_to(&mut self, may_lead: impl Fn(Seat) -> bool) -> bool {
        let (peers, members) = (&self.peers, &self.state.membership);
        let is_up = |seat: Seat| peers.birth(seat.server()) == members.seats.get(&seat).copied();
        self.consensus.hand_over(|seat| is_up(seat) && may_lead(seat))
    }

    /// Ends this server's reign if it is over; also where another one of its own has followed at once.
    fn see_reign_end(&mut self) {
        if self.leading && !(self.consensus.is_leading() && self.consensus.term() == self.reign) {
            self.leading = false;
            self.expiry = Expiry::new(self.options.tick_ms);
            self.gather.drop_wishes();
            self.tell_again();
        }
    }

    /// Begins this server's reign if it leads and all that was logged before is applied.
    pub(super) fn begin_reign(&mut self) {
        if !self.consensus.is_leading()
            || !self.committed.is_empty()
            || !self.consensus.has_committed_in_term(self.applied)
            || mutant::is(Mutant::ReignNeedsAll)
                && self.peers.all_up().len() + 1 < self.state.membership.seats.len()
        {
            return;
        }
        self.leading = true;
        self.reign = self.consensus.term();
        // What was proposed before may not be in the log that this server was elected with.
        self.outbox.begin_reign();
        self.void_locals(false);
        if !mutant::is(Mutant::ZxidsFromStart) {
            self.last_logged_zxid = self.consensus.last_zxid().max(self.state.last_zxid());
        }
        // A new leader gives every session its full timeout (TR29).
        let now = self.session_now();
        self.expiry = Expiry::new(self.options.tick_ms);
        for (id, session) in self.state.sessions.iter().filter(|_| !mutant::is(Mutant::HeirsNotTracked)) {
            let timeout = if mutant::is(Mutant::NoFullTimeout) { 1 } else { session.timeout_ms };
            self.expiry.track(id, u64::try_from(timeout).unwrap_or(0), now);
        }
        self.peers.fresh.begin_reign(self.reign);
        if self.peers.fresh.too_old(self.patience_ms()).is_none() {
            self.start_serving();
        }
        self.begin_membership();
        self.effects.push_back(Effect::Note(Note::BecameLeader { term: self.consensus.term() }));
    }

    /// A follower has applied all that was acknowledged before it asked. Where that took longer than a follower may be behind, it
    /// asks once more: what it has by then is as old as its question. If nobody leads any more when the answer comes it
    /// asks the next leader: it would cease to serve in this very turn, and who hosts it would not see that it ever did. The
    /// local sessions of read-only mode had gone with that mode then, and their connections had not (the simulator, seed
    /// 60068667).
    pub(super) fn start_following(&mut self, asked: Moment) {
        let (is_serving, patience_ms) = (self.is_serving(), self.patience_ms());
        let is_fresh = self.peers.fresh.answered(asked, is_serving, patience_ms);
        if is_fresh && self.consensus.leader().is_some() {
            self.start_serving();
        }
    }

    /// How old what a server serves may be.
    fn patience_ms(&self) -> u64 {
        self.options.leaderless_ms.max(PATIENCE_MIN_MS)
    }

    fn start_serving(&mut self) {
        if !self.is_serving() {
            self.serving = Serving::Yes;
            self.skip_known_sessions();
            self.renew_locals();
        }
    }

    /// All that no leader has answered is told again; but what local sessions wished for is void.
    fn tell_again(&mut self) {
        self.outbox.begin_again();
        self.void_locals(false);
    }

    /// Sees who leads now, and what that ends.
    pub(super) fn see_leader(&mut self) -> Option<(ServerId, Term)> {
        self.see_reign_end();
        let leader = self.consensus.leader();
        if leader != self.peers.leader {
            self.peers.leader = leader;
            self.on_new_leader(leader);
        }
        leader
    }

    /// Goes on to serve, or ceases to, as there is a leader.
    pub(super) fn follow_leader(&mut self, now: Now) {
        let leader = self.see_leader();
        let is_leading = self.consensus.is_leading();
        let leads = is_leading.then(|| self.consensus.term());
        let (patience_ms, peers) = (self.patience_ms(), &mut self.peers);
        peers.fresh.observe(now.mono, leader.is_some(), leads);
        // Where nobody else votes, nobody else has acknowledged anything, however long this server stood still.
        if self.leading && self.consensus.is_sole_voter() {
            peers.fresh.renew();
        }
        if leader.is_some() {
            peers.led_at = now.mono;
        }
        // A leader, too: one that stood still may be none any more, and its disk may stand.
        if leader.is_some() && is_leading == self.leading && self.consensus.may_ask() {
            if let Some(asked) = peers.fresh.ask(self.serving == Serving::Yes, patience_ms) {
                self.consensus.read_index(vec![Waiter::Serving { asked }]);
                self.pump();
            }
        }
        if self.leaderless_for(now.mono).0 > self.options.leaderless_ms {
            self.serve_without_leader();
        }
        // It hears its leader, or is it, and applies nothing: its disk stands or is full, or what it has missed is long.
        if let Some(behind) = self.peers.fresh.too_old(patience_ms).filter(|_| self.serving == Serving::Yes) {
            self.void_locals(true);
            self.effects.push_back(Effect::Note(Note::FellBehind { behind }));
            self.serving = Serving::No;
        }
    }

    /// How long nobody has led that this server knew of.
    pub(super) fn leaderless_for(&self, now: Millis) -> Millis {
        now.since(self.peers.led_at)
    }

    /// For too long nobody leads that this server knows of.
    fn serve_without_leader(&mut self) {
        // A server that was taken in with an empty disk, and has learned nothing yet, would show an empty tree.
        let has_state = self.state.membership.is_ensemble()
            && self.applied.0 > 0
            && self.committed.is_empty()
            && !self.must_stop;
        let serving = match self.options.read_only_mode && has_state {
            true => Serving::ReadOnly,
            false => Serving::No,
        };
        if self.serving == serving {
            return;
        }
        if self.serving == Serving::Yes {
            self.void_locals(true);
        }
        self.serving = serving;
        if serving == Serving::ReadOnly {
            self.skip_known_sessions();
            self.renew_locals();
            self.effects.push_back(Effect::Note(Note::ServesReadOnly));
        } else {
            self.effects.push_back(Effect::Note(Note::StoppedServing));
        }
    }

    fn on_new_leader(&mut self, leader: Option<(ServerId, Term)>) {
        // A reign of this server's has begun again by itself.
        if leader.is_none_or(|(leader, _)| leader != self.options.server) {
            self.tell_again();
        }
        let note = match leader {
            Some((leader, _)) if leader == self.options.server => {
                self.reigns_since = self.last_seen.unwrap_or_default();
                return;
            }
            Some((leader, term)) => {
                self.peers.fresh.follow();
                Note::Follows { leader, term }
            }
            None => Note::Leaderless,
        };
        self.effects.push_back(Effect::Note(note));
    }
}
