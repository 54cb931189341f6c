//! Whether the servers hold the same state: each tells the others what its batches have come to, and compares.
//!
//! A chain of digests is equal at one entry only if it was equal at every one before, so comparing now and then compares
//! every batch. Who differs from most of the voters is the one that is wrong, and stops.

use super::{Effect, Note, Sequencer};
use crate::ids::{LogIndex, Millis, ServerId};
use crate::peer::{Addressed, Agreement, Message};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Own chains kept to be compared with those of servers that are behind.
const KEPT: usize = 4096;
/// Entries that another server may be ahead.
const AHEAD_MAX: u64 = 1 << 24;
/// How often a server tells.
const TELL_MS: u64 = 100;

#[derive(Default)]
pub(super) struct Chains {
    /// After each entry, contiguous, the newest last.
    own: VecDeque<(LogIndex, u64)>,
    /// Of servers that are ahead.
    ahead: BTreeMap<ServerId, Agreement>,
    differ: BTreeSet<ServerId>,
    told: LogIndex,
    told_at: Millis,
    has_stopped: bool,
}

impl Chains {
    fn at(&self, index: LogIndex) -> Option<u64> {
        let first = self.own.front()?.0;
        let offset = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        self.own.get(offset).map(|(_, chain)| *chain)
    }

    /// The state was replaced by another one.
    pub(super) fn begin_again(&mut self) {
        self.own.clear();
        self.differ.clear();
    }
}

impl Sequencer {
    /// An entry was applied.
    pub(super) fn note_chain(&mut self) {
        if !self.state.membership.is_ensemble() {
            return;
        }
        if self.chains.own.len() == KEPT {
            self.chains.own.pop_front();
        }
        self.chains.own.push_back((self.applied, self.state.chain()));
        while let Some((server, agreement)) = self.next_reached() {
            self.compare(server, &agreement);
        }
    }

    /// What a server that was ahead has said of an entry that is applied here now.
    fn next_reached(&mut self) -> Option<(ServerId, Agreement)> {
        let reached = self.chains.ahead.iter().find(|(_, one)| one.index <= self.applied);
        let server = reached.map(|(server, _)| *server)?;
        self.chains.ahead.remove(&server).map(|agreement| (server, agreement))
    }

    /// Tells all others.
    pub(super) fn tell_chain(&mut self, now: Millis) {
        let is_new = self.applied > self.chains.told;
        if !is_new || now.since(self.chains.told_at).0 < TELL_MS {
            return;
        }
        (self.chains.told, self.chains.told_at) = (self.applied, now);
        let agreement = Agreement { index: self.applied, chain: self.state.chain() };
        for to in self.peers.all_up() {
            let message = Message::Agreement(agreement);
            self.effects.push_back(Effect::Send(Addressed { to, message }));
        }
    }

    pub(super) fn on_agreement(&mut self, from: ServerId, agreement: Agreement) {
        if agreement.index.0 > self.applied.0 + AHEAD_MAX {
            // No honest server is; kept, it would hide all that this one says later.
            return;
        }
        if agreement.index > self.applied {
            // The oldest is reached first; what comes later tells of it too.
            self.chains.ahead.entry(from).or_insert(agreement);
        } else {
            self.compare(from, &agreement);
        }
    }

    fn compare(&mut self, server: ServerId, agreement: &Agreement) {
        let Some(own) = self.chains.at(agreement.index) else { return };
        if own == agreement.chain {
            self.chains.differ.remove(&server);
            return;
        }
        if self.chains.differ.insert(server) {
            self.effects.push_back(Effect::Note(Note::Differs { server, index: agreement.index }));
        }
        let members = &self.state.membership;
        let against = self.chains.differ.iter().filter(|server| members.votes(**server)).count();
        let voters = members.voters().count();
        if 2 * against > voters && !self.chains.has_stopped {
            self.chains.has_stopped = true;
            self.effects.push_back(Effect::Note(Note::IsWrong { index: agreement.index }));
        }
    }
}
