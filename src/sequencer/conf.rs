//! The members as this crate knows them, and as the `raft` crate does.

use crate::ids::Seat;
use crate::membership::{Becomes, Conf, ConfChange};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use std::collections::BTreeSet;

/// A server that is all of its ensemble.
pub(super) fn alone(id: u64) -> ConfState {
    ConfState { voters: vec![id], ..ConfState::default() }
}

pub(super) fn state_of(conf: &Conf) -> ConfState {
    let ids = |seats: &BTreeSet<Seat>| seats.iter().map(|seat| seat.0).collect();
    ConfState {
        voters: ids(&conf.voters),
        voters_outgoing: ids(&conf.outgoing),
        learners: ids(&conf.learners),
        learners_next: ids(&conf.learners_next),
        ..ConfState::default()
    }
}

pub(super) fn change_of(change: &ConfChange) -> ConfChangeV2 {
    let ConfChange::Enter(seats) = change else { return ConfChangeV2::default() };
    let one = |(seat, becomes): &(Seat, Becomes)| ConfChangeSingle {
        node_id: seat.0,
        change_type: match becomes {
            Becomes::Voter => ConfChangeType::AddNode,
            Becomes::Learner => ConfChangeType::AddLearnerNode,
            Becomes::Gone => ConfChangeType::RemoveNode,
        } as i32,
    };
    ConfChangeV2 {
        // Left by an entry of the leader's own, never by the crate's.
        transition: ConfChangeTransition::Explicit as i32,
        changes: seats.iter().map(one).collect(),
        ..ConfChangeV2::default()
    }
}
