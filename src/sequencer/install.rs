//! A follower that the leader's log no longer reaches: it fetches a snapshot and goes on behind it.

use super::consensus::Install;
use super::{Effect, Note, Sequencer, Serving};
use crate::apply::State;
use crate::ids::{LogIndex, Millis, ServerId};
use crate::membership::{parse_server, PeerAddress};
use crate::mutant::{self, Mutant};
use crate::peer::{Addressed, Message, RaftMessage, CONTEXT_BYTES_MAX};
use raft::eraftpb::MessageType;

/// The snapshot that this server waits for.
#[derive(Default)]
pub(super) struct Fetching {
    offer: Option<(ServerId, RaftMessage)>,
    /// It is here, and waits for a leader to be known.
    ready: Option<(RaftMessage, Box<State>)>,
    /// Raft decides at this moment whether it takes the state's place.
    state: Option<Box<State>>,
    /// Offers of this server's that were in vain.
    in_vain: u32,
    /// When this server last took a snapshot so that there is one to be offered.
    made_at: Option<Millis>,
    /// Those that were not written, one after the other.
    unmade: u32,
}

/// After so many offers in vain a leader takes a new snapshot.
const IN_VAIN: u32 = 3;
/// A snapshot that could not be written is tried again, after twice as long each time: it may be the disk's last room.
const MAKE_AGAIN_MS: u64 = 2_000;
const MAKE_AGAIN_DOUBLINGS: u32 = 7;

/// Whether this is a leader's offer of a snapshot.
pub(super) fn is_offer(message: &RaftMessage) -> bool {
    message.kind == MessageType::MsgSnapshot as u8
}

/// Whether a follower says that it could not have the snapshot.
pub(super) fn is_refusal(message: &RaftMessage) -> bool {
    message.kind == MessageType::MsgSnapStatus as u8
}

/// An offer says where who makes it listens. A server whose disk was wiped, and whose configuration is of a time before this
/// leader's, would know nobody to fetch it from (a review).
pub(super) fn with_own_line(mut said: Addressed, state: &State, own: ServerId) -> Addressed {
    if let Message::Raft(raft) = &mut said.message {
        if let Some(line) = state.membership.servers.get(&own).filter(|_| is_offer(raft)) {
            let line = line.to_string().into_bytes();
            raft.context = Some(line).filter(|line| line.len() <= CONTEXT_BYTES_MAX).unwrap_or_default();
        }
    }
    said
}

fn listens(from: ServerId, offer: &RaftMessage) -> Vec<PeerAddress> {
    let text = std::str::from_utf8(&offer.context).ok();
    text.and_then(|text| parse_server(from, text).ok()).map_or(Vec::new(), |line| line.addresses)
}

impl Fetching {
    /// Whether one is offered or fetched.
    pub(super) fn is_any(&self) -> bool {
        self.offer.is_some() || self.ready.is_some()
    }
}

impl Sequencer {
    /// A leader offers a snapshot. Raft hears of it when it is here.
    pub(super) fn on_offer(&mut self, from: ServerId, mut offer: RaftMessage) {
        let listens = listens(from, &offer);
        offer.context.clear();
        if offer.to != self.members.seat {
            return;
        }
        if let Err(why) = self.consensus.check(from, &offer) {
            self.effects.push_back(Effect::Note(Note::Nonsense { from, why: why.0 }));
            return;
        }
        if !self.consensus.wants_snapshot(&offer) {
            // The answer says how far this server is.
            let _ = self.consensus.step(from, offer);
            return;
        }
        let (index, term) = (offer.index, offer.log_term);
        if self.fetching.ready.as_ref().is_some_and(|(ready, _)| ready.index == index) {
            return;
        }
        let is_known =
            self.fetching.offer.as_ref().is_some_and(|(known, old)| *known == from && old.index == index);
        self.fetching.offer = Some((from, offer));
        if !is_known {
            // Its file gives way to the new one's.
            let former = self.fetching.ready.take().map(|(_, state)| state);
            self.discard(former);
            self.effects.push_back(Effect::Fetch { from, index, term, listens });
        }
    }

    /// A snapshot was fetched, or can not be.
    pub(super) fn on_fetched(&mut self, index: LogIndex, state: Option<Box<State>>) {
        if self.fetching.offer.as_ref().is_none_or(|(_, offer)| offer.index != index) {
            return self.discard(state);
        }
        let Some((from, offer)) = self.fetching.offer.take() else { return };
        if let Some(state) = state {
            let former = self.fetching.ready.replace((offer, state)).map(|(_, state)| state);
            self.discard(former);
            self.restore();
            return;
        }
        // The leader tries again, with this snapshot or a newer one.
        let failed = RaftMessage {
            kind: MessageType::MsgSnapStatus as u8,
            from: offer.to,
            to: offer.from,
            term: offer.term,
            reject: true,
            ..RaftMessage::default()
        };
        let message = Message::Raft(Box::new(failed));
        self.effects.push_back(Effect::Send(Addressed { to: from, message }));
    }

    /// Who comes to a server that was alone could have neither the log nor a snapshot of it, and for an idle server that stayed
    /// so (an audit): one is taken, and again while none was written.
    pub(super) fn make_offer(&mut self, now: Millis) {
        let pause = MAKE_AGAIN_MS << self.fetching.unmade.min(MAKE_AGAIN_DOUBLINGS);
        let is_soon = self.fetching.made_at.is_some_and(|at| now.since(at).0 < pause);
        if !is_soon && !self.snapshotting && self.consensus.lacks_offer() {
            self.fetching.made_at = Some(now);
            self.begin_snapshot();
        }
    }

    pub(super) fn on_offer_made(&mut self, written: bool) {
        self.fetching.unmade = if written { 0 } else { self.fetching.unmade + 1 };
        self.fetching.made_at = self.last_seen;
    }

    /// A follower could not have this leader's snapshot. Where that is so again and again it may be damaged: another one
    /// takes its place.
    pub(super) fn on_offer_in_vain(&mut self) {
        if !self.leading {
            return;
        }
        self.fetching.in_vain += 1;
        if self.fetching.in_vain.is_multiple_of(IN_VAIN) {
            self.begin_snapshot();
        }
    }

    /// Gives Raft the snapshot that is here. What it holds was committed, whoever leads now: it is taken as that one's word.
    pub(super) fn restore(&mut self) {
        if self.fetching.ready.is_none() {
            return;
        }
        let Some((leader, _)) = self.consensus.leader() else { return };
        let Some((offer, state)) = self.fetching.ready.take() else { return };
        // What was committed since it was offered does not become another by it: whoever offered it is wrong. And no ensemble
        // has a snapshot that says nobody votes: the crate ends the process for one.
        let conf = &state.membership.conf;
        if leader == self.options.server || self.consensus.contradicts(&offer) || conf.voters.is_empty() {
            return self.discard(Some(state));
        }
        self.consensus.restore(offer, &state.membership.conf);
        self.fetching.state = Some(state);
        self.pump();
        // It was not needed any more.
        let unneeded = self.fetching.state.take();
        self.discard(unneeded);
    }

    fn discard(&mut self, state: Option<Box<State>>) {
        self.effects.extend(state.map(Effect::Discard));
    }

    /// Raft has taken the fetched snapshot for its log.
    pub(super) fn install(&mut self, at: Install) {
        let state = self.fetching.state.take().expect("a snapshot is restored when its state is here");
        if self.state.is_copying() {
            self.effects.push_back(Effect::SnapshotAbort);
        }
        let mut former = std::mem::replace(&mut self.state, *state);
        if mutant::is(Mutant::MembersOutliveSnapshot) {
            std::mem::swap(&mut self.state.membership, &mut former.membership);
        }
        self.committed.clear();
        self.reads_asked = 0;
        (self.applied, self.applied_term) = (at.index, at.term);
        self.last_logged_zxid = self.state.last_zxid();
        self.since_snapshot = (0, 0);
        let next = self.state.next_batch(self.options.server, self.options.incarnation);
        self.forget_own(next.saturating_sub(1));
        // Clients of this server have seen another state, and their replies may lie in what was skipped: they come back.
        self.serving = Serving::No;
        self.void_locals(true);
        self.leave_entered();
        self.chains.begin_again();
        self.note_chain();
        self.records += 1;
        self.effects.push_back(Effect::Install { at, former: Box::new(former) });
    }
}
