//! Who is in the ensemble: the server lines that clients are shown, and the seats that Raft counts. Part of the replicated
//! state, equal on every server at one entry; it travels with snapshots.
//!
//! A change of members goes in steps, each an entry of its own that the leader proposes (`Step`) and apply takes: a server
//! that comes gets a seat and learns; when it has caught up it votes, by joint consensus (Raft's thesis, chapter 4.3); the
//! lines that clients see, the watch and the answer follow when the joint configuration is left.
//!
#![doc = include_str!("FORMAT.md")]

mod codec;
mod line;
mod reconfig;

pub use codec::{Damaged, Step};
pub use line::{parse_client, parse_server, server_number, PeerAddress, ServerEntry};
pub use reconfig::{parse as parse_reconfig, parse_lines, Refusal};

use crate::ids::{Owner, Seat, ServerId, Xid, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// Who votes, and who only learns.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Conf {
    pub voters: BTreeSet<Seat>,
    /// Of the old configuration, while the new one is joint with it: a majority of both decides.
    pub outgoing: BTreeSet<Seat>,
    pub learners: BTreeSet<Seat>,
    /// Voters of the old configuration that learn once it is left.
    pub learners_next: BTreeSet<Seat>,
}

/// What one seat becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Becomes {
    Voter,
    Learner,
    Gone,
}

/// What Raft is told when an entry has changed the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfChange {
    /// Into a joint configuration.
    Enter(Vec<(Seat, Becomes)>),
    /// Out of it.
    Leave,
}

/// A change that a client, or a server for itself, has asked for and that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The zxid of the request.
    pub zxid: Zxid,
    /// The client that waits for the answer; none where a server asked for itself.
    pub asker: Option<(Owner, Xid)>,
    /// The lines that there shall be.
    pub target: BTreeMap<ServerId, ServerEntry>,
}

/// The ensemble. Of a server alone it is empty.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Membership {
    /// The zxid of the change that brought these lines; of the first ones the beginning of an epoch, as in ZooKeeper.
    pub version: Zxid,
    /// The lines, as /zookeeper/config shows them. Empty before the first leader has said what they are.
    pub servers: BTreeMap<ServerId, ServerEntry>,
    pub conf: Conf,
    /// Every seat of the configuration, and the data directory (its birth) that has it.
    pub seats: BTreeMap<Seat, u128>,
    /// The generation of the next seat.
    pub next_generation: u64,
    pub wish: Option<Wish>,
}

impl Conf {
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Everybody who is in it.
    pub fn seats(&self) -> impl Iterator<Item = Seat> + '_ {
        let all = [&self.voters, &self.outgoing, &self.learners, &self.learners_next];
        all.into_iter().flatten().copied().collect::<BTreeSet<_>>().into_iter()
    }

    /// Whether it has a say, in the old configuration or the new one.
    #[must_use]
    pub fn votes(&self, seat: Seat) -> bool {
        self.voters.contains(&seat) || self.outgoing.contains(&seat)
    }

    fn enter(&mut self, voters: &BTreeSet<Seat>, learners: &BTreeSet<Seat>) -> Vec<(Seat, Becomes)> {
        let mut changes = Vec::new();
        for seat in voters.iter().filter(|seat| !self.voters.contains(seat)) {
            changes.push((*seat, Becomes::Voter));
        }
        for seat in learners.iter().filter(|seat| !self.learners.contains(seat)) {
            changes.push((*seat, Becomes::Learner));
        }
        for seat in self.seats().filter(|seat| !voters.contains(seat) && !learners.contains(seat)) {
            changes.push((seat, Becomes::Gone));
        }
        self.outgoing = std::mem::replace(&mut self.voters, voters.clone());
        self.learners_next = learners.intersection(&self.outgoing).copied().collect();
        self.learners = learners.difference(&self.outgoing).copied().collect();
        changes
    }

    fn leave(&mut self) {
        self.outgoing.clear();
        self.learners.append(&mut self.learners_next);
    }
}

impl Membership {
    /// Of an ensemble that these directories formed: they vote, and nobody else is in it yet.
    #[must_use]
    pub fn formed(births: &[(ServerId, u128)]) -> Membership {
        let seats: BTreeMap<Seat, u128> =
            births.iter().map(|(server, birth)| (Seat::new(*server, 0), *birth)).collect();
        Membership {
            conf: Conf { voters: seats.keys().copied().collect(), ..Conf::default() },
            seats,
            next_generation: 1,
            ..Membership::default()
        }
    }

    /// Whether there is one; a server alone has none.
    #[must_use]
    pub fn is_ensemble(&self) -> bool {
        !self.seats.is_empty()
    }

    /// The newest seat of a data directory.
    #[must_use]
    pub fn seat_of(&self, server: ServerId, birth: u128) -> Option<Seat> {
        self.newest(server).filter(|seat| self.seats[seat] == birth)
    }

    /// The newest seat of a server.
    #[must_use]
    pub fn newest(&self, server: ServerId) -> Option<Seat> {
        self.seats.keys().rev().copied().find(|seat| seat.server() == server)
    }

    /// Whether any seat of this server's votes.
    #[must_use]
    pub fn votes(&self, server: ServerId) -> bool {
        self.voters().any(|voter| voter == server)
    }

    /// The servers that vote, each once.
    pub fn voters(&self) -> impl Iterator<Item = ServerId> {
        let seats = self.conf.voters.union(&self.conf.outgoing);
        seats.map(|seat| seat.server()).collect::<BTreeSet<_>>().into_iter()
    }

    /// What /zookeeper/config holds (chapter 9.1 of the wire reference).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entry in self.servers.values() {
            text.push_str(&entry.membership_line());
            text.push('\n');
        }
        text.push_str(&format!("version={:x}", self.version.0));
        text
    }

    /// The lines that there would be if these came and those went; `None` where nobody would vote.
    #[must_use]
    pub fn target(
        &self,
        joining: &BTreeMap<ServerId, ServerEntry>,
        leaving: &BTreeSet<ServerId>,
    ) -> Option<BTreeMap<ServerId, ServerEntry>> {
        let mut target = self.servers.clone();
        target.retain(|server, _| !leaving.contains(server));
        target.extend(joining.iter().map(|(server, line)| (*server, line.clone())));
        target.values().any(|line| !line.is_observer).then_some(target)
    }

    /// Takes a step that changes who votes; nothing where it does not fit. A leader that is the only one to propose them
    /// sees to it that it does.
    pub fn take(&mut self, step: &Step) -> Option<ConfChange> {
        match step {
            Step::Enter { seat, voters, learners } => {
                let mut learners = learners.clone();
                let is_known = |seat: &Seat| self.seats.contains_key(seat);
                let fits = !self.conf.is_joint()
                    && !voters.is_empty()
                    && voters.iter().chain(&learners).all(is_known)
                    && voters.is_disjoint(&learners);
                if !fits {
                    return None;
                }
                if let Some((server, birth)) = seat {
                    let seat = Seat::new(*server, self.next_generation);
                    self.next_generation += 1;
                    self.seats.insert(seat, *birth);
                    learners.insert(seat);
                }
                Some(ConfChange::Enter(self.conf.enter(voters, &learners)))
            }
            Step::Leave if self.conf.is_joint() => {
                self.conf.leave();
                let conf = &self.conf;
                self.seats.retain(|seat, _| conf.voters.contains(seat) || conf.learners.contains(seat));
                Some(ConfChange::Leave)
            }
            Step::Leave
            | Step::Form { .. }
            | Step::Done
            | Step::Refuse
            | Step::Wish { .. }
            | Step::Rules { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(of: &[(u8, u64)]) -> BTreeSet<Seat> {
        of.iter().map(|(server, generation)| Seat::new(ServerId(*server), *generation)).collect()
    }

    fn three() -> Membership {
        Membership::formed(&[(ServerId(1), 11), (ServerId(2), 22), (ServerId(3), 33)])
    }

    #[test]
    fn a_wiped_directory_gets_a_seat_of_its_own_and_the_old_one_goes_with_its_vote() {
        let mut members = three();
        let learns = Step::Enter {
            seat: Some((ServerId(2), 222)),
            voters: members.conf.voters.clone(),
            learners: BTreeSet::new(),
        };
        let new = Seat::new(ServerId(2), 1);
        assert_eq!(members.take(&learns), Some(ConfChange::Enter(vec![(new, Becomes::Learner)])));
        assert_eq!(members.take(&learns), None, "it is joint already");
        assert_eq!(members.take(&Step::Leave), Some(ConfChange::Leave));
        assert_eq!(members.take(&Step::Leave), None);
        assert_eq!(members.conf.learners, seats(&[(2, 1)]));
        assert_eq!(members.seat_of(ServerId(2), 222), Some(new));
        assert_eq!(members.seat_of(ServerId(2), 22), None, "the older directory has lost its seat");
        let swap =
            Step::Enter { seat: None, voters: seats(&[(1, 0), (2, 1), (3, 0)]), learners: BTreeSet::new() };
        let old = Seat::new(ServerId(2), 0);
        let want = vec![(new, Becomes::Voter), (old, Becomes::Gone)];
        assert_eq!(members.take(&swap), Some(ConfChange::Enter(want)));
        assert!(members.conf.votes(old) && members.conf.votes(new));
        members.take(&Step::Leave);
        assert_eq!(members.conf.voters, seats(&[(1, 0), (2, 1), (3, 0)]));
        assert!(!members.seats.contains_key(&old));
    }

    #[test]
    fn a_voter_that_is_to_learn_votes_until_the_old_configuration_is_left() {
        let mut members = three();
        let step = Step::Enter { seat: None, voters: seats(&[(1, 0), (2, 0)]), learners: seats(&[(3, 0)]) };
        members.take(&step);
        let third = Seat::new(ServerId(3), 0);
        assert!(members.conf.votes(third) && members.conf.learners.is_empty());
        members.take(&Step::Leave);
        assert!(!members.conf.votes(third) && members.conf.learners.contains(&third));
    }

    #[test]
    fn a_step_that_does_not_fit_changes_nothing() {
        let mut members = three();
        for (voters, learners) in [
            (seats(&[]), seats(&[(1, 0)])),
            (seats(&[(1, 0)]), seats(&[(1, 0)])),
            (seats(&[(9, 0)]), seats(&[])),
        ] {
            assert_eq!(members.take(&Step::Enter { seat: None, voters, learners }), None);
            assert_eq!(members, three());
        }
    }

    #[test]
    fn the_text_is_what_zookeeper_shows() {
        let mut members = three();
        for (id, line) in [(2, "b:1:2:observer;[::]:9"), (1, "a:1:2;2181")] {
            members.servers.insert(ServerId(id), parse_server(ServerId(id), line).unwrap());
        }
        members.version = Zxid(0x1_0000_001a);
        let want =
            "server.1=a:1:2:participant;0.0.0.0:2181\nserver.2=b:1:2:observer;[::]:9\nversion=10000001a";
        assert_eq!(members.text(), want);
    }
}
