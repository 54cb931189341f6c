//! Turns of Raft whose records are not all durable, and what may be said only then: a follower's word is its disk's.

use crate::ids::{LogIndex, Seat};
use crate::peer::{Addressed, Message};
use raft::eraftpb::MessageType;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Unpersisted {
    turns: VecDeque<Turn>,
}

pub(super) struct Turn {
    /// Raft's, and those before it.
    pub(super) number: u64,
    /// How many records must be durable.
    records: u64,
    /// The snapshot that it installs counts as applied only then.
    pub(super) installed: Option<LogIndex>,
    pub(super) send: Vec<Addressed>,
}

impl Unpersisted {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether a snapshot has taken the log's place and is not durable.
    pub(super) fn has_install(&self) -> bool {
        self.turns.iter().any(|turn| turn.installed.is_some())
    }

    /// How many messages wait.
    pub(super) fn words(&self) -> usize {
        self.turns.iter().map(|turn| turn.send.len()).sum()
    }

    /// A turn that waits for so many records. One without a record of its own goes with the one before it: while a disk stood its
    /// words were heaped up for hours (an audit), and the last one does for all before it.
    pub(super) fn push(
        &mut self,
        number: u64,
        records: u64,
        installed: Option<LogIndex>,
        send: Vec<Addressed>,
    ) {
        let Some(last) = self.turns.back_mut().filter(|last| last.records == records) else {
            self.turns.push_back(Turn { number, records, installed, send });
            return;
        };
        last.number = number;
        for said in send {
            if let Some((kind, to, asks)) = repeated(&said) {
                // One that confirms nobody's question leaves those that do.
                last.send.retain(|old| {
                    repeated(old)
                        .is_none_or(|(what, whom, asked)| (what, whom) != (kind, to) || asked && !asks)
                });
            }
            last.send.push(said);
        }
    }

    /// The first of those for which so many durable records do.
    pub(super) fn pop(&mut self, records: u64) -> Option<Turn> {
        self.turns.front().filter(|turn| turn.records <= records)?;
        self.turns.pop_front()
    }
}

/// Of a word that makes earlier ones needless: its kind, whose it is, and whether it confirms a question.
fn repeated(said: &Addressed) -> Option<(u8, Seat, bool)> {
    const HEARTBEAT_ANSWER: u8 = MessageType::MsgHeartbeatResponse as u8;
    const ANSWER: u8 = MessageType::MsgAppendResponse as u8;
    const PRE_VOTE: u8 = MessageType::MsgRequestPreVote as u8;
    const PRE_VOTE_ANSWER: u8 = MessageType::MsgRequestPreVoteResponse as u8;
    let Message::Raft(raft) = &said.message else { return None };
    let is_repeated = match raft.kind {
        HEARTBEAT_ANSWER | PRE_VOTE | PRE_VOTE_ANSWER => true,
        // What a leader of an earlier term is told, at each of its heartbeats.
        ANSWER => raft.index.0 == 0 && !raft.reject,
        _ => false,
    };
    is_repeated.then_some((raft.kind, raft.to, raft.kind == HEARTBEAT_ANSWER && !raft.context.is_empty()))
}
