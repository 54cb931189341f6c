//! What this server has shown of the ensemble's members: to those who greet and dial, to the words, and in its log.

use crate::admin::Members;
use crate::ids::{Seat, ServerId, Zxid};
use crate::membership::{Membership, PeerAddress};
use std::collections::BTreeMap;
use tracing::{info, warn};

/// What was shown last.
#[derive(Default)]
pub(super) struct MembersShown {
    version: Zxid,
    counts: (usize, u64, usize),
    /// Where each server votes, or learns to.
    seats: BTreeMap<ServerId, Seat>,
    votes: Option<bool>,
    is_told_of_no_member: bool,
}

impl MembersShown {
    /// Whether others than before are members, or have other lines or seats. Says so in the log.
    pub(super) fn see(&mut self, members: &Membership) -> bool {
        // Who votes changes the last of them alone: a learner that has caught up.
        let counts = (members.servers.len(), members.next_generation, members.conf.voters.len());
        if (self.version, self.counts) == (members.version, counts) {
            return false;
        }
        let is_new = self.version != members.version && !members.servers.is_empty();
        (self.version, self.counts) = (members.version, counts);
        let seats: BTreeMap<_, _> = members.seats.keys().map(|seat| (seat.server(), *seat)).collect();
        for (server, seat) in &seats {
            if self.seats.get(server).is_some_and(|before| before < seat) {
                info!(
                    server = server.0,
                    %seat,
                    "this member came with a new data directory, which has a seat of its own: what the former one has promised is void"
                );
            }
        }
        self.seats = seats;
        if is_new {
            let ids = |observers: bool| {
                let those = members.servers.values().filter(|server| server.is_observer == observers);
                those.map(|server| server.id.0.to_string()).collect::<Vec<_>>().join(",")
            };
            let version = format_args!("{:x}", members.version.0);
            info!(%version, voters = ids(false), observers = ids(true), "the ensemble's members");
        }
        true
    }

    /// Says in the log that the members' list has this server at another place than the one where it listens.
    pub(super) fn see_place(members: &Membership, me: ServerId, own: Option<&[PeerAddress]>) {
        let listed = members.servers.get(&me).map(|line| line.addresses.as_slice());
        if let (Some(listed), Some(own)) = (listed, own) {
            let ports = |all: &[PeerAddress]| all.iter().map(|one| one.quorum_port).collect::<Vec<_>>();
            if ports(listed) != ports(own) {
                warn!(
                    "the ensemble's members list this server at port {:?}, and it listens at {:?}, as its configuration says: \
                     change its server line there, and start it again",
                    ports(listed),
                    ports(own)
                );
            }
        }
    }

    /// Says in the log when this server's vote comes or goes, and that it is no member, once it follows a leader.
    pub(super) fn see_own(&mut self, members: &Membership, seat: Seat, me: ServerId, serves: bool) {
        let votes = members.conf.votes(seat);
        match self.votes.replace(votes) {
            Some(before) if before == votes => {}
            Some(_) if votes => info!("this server votes from now on"),
            Some(_) => info!("this server does not vote any more"),
            None if votes || members.servers.get(&me).is_none_or(|own| own.is_observer) => {}
            None => info!("this server learns what the others have, and votes when it has caught up"),
        }
        let is_none = serves && !members.servers.is_empty() && !members.servers.contains_key(&me);
        if is_none && !self.is_told_of_no_member {
            warn!(
                "this server is no member of the ensemble: it learns and serves clients, and nobody waits for it. \
                 `ringkeeper join` or a client's reconfig makes it one"
            );
        }
        self.is_told_of_no_member = is_none;
    }
}

/// What the words say of them; none before the first leader has said who they are.
pub(super) fn for_words(members: &Membership) -> Option<Members> {
    (!members.servers.is_empty()).then(|| Members {
        servers: members.servers.values().cloned().collect(),
        version: members.version,
        voters: members.conf.voters.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::parse_server;

    /// Its line and its seat were there before: the words went on showing one voter.
    #[test]
    fn a_learner_that_becomes_a_voter_is_seen() {
        let mut members = Membership::formed(&[(ServerId(1), 1)]);
        let line = |id: u8| (ServerId(id), parse_server(ServerId(id), &format!("h{id}:1:2")).unwrap());
        members.servers = [line(1), line(2)].into();
        let mut shown = MembersShown::default();
        assert!(shown.see(&members) && !shown.see(&members));
        members.conf.voters.insert(Seat::new(ServerId(2), 1));
        assert!(shown.see(&members));
        assert_eq!(for_words(&members).map(|members| members.voters), Some(2));
    }
}
