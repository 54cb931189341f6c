//! What a peer says is looked at before the `raft` crate sees it: words that would trip its assertions, or carry its
//! term or indices off, are dropped and reported. The sender is a member's connection; nothing else here is trusted.

use super::storage::Store;
use crate::peer::RaftMessage;
use raft::eraftpb::MessageType;
use raft::{Raft, StateRole};

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonsense(pub &'static str);

/// No honest server is so many elections ahead of another that hears of it.
const TERMS_AHEAD_MAX: u64 = 1 << 24;
/// Beyond what a history can reach.
const INDEX_MAX: u64 = 1 << 62;
/// A read's context: number, incarnation, server.
const READ_CONTEXT_BYTES: usize = 17;

/// Whether `raft` may be given this.
pub(super) fn check(raft: &Raft<Store>, from: u64, message: &RaftMessage) -> Result<(), Nonsense> {
    let kind = i32::from(message.kind);
    let kind = MessageType::from_i32(kind).ok_or(Nonsense("a kind of message that there is not"))?;
    if from == raft.id {
        return Err(Nonsense("this server's own id"));
    }
    if raft.prs().get(from).is_none() {
        return Err(Nonsense("a server that is no member"));
    }
    if message.term.0 > raft.term.saturating_add(TERMS_AHEAD_MAX) {
        return Err(Nonsense("an absurd term"));
    }
    let indices = [message.index, message.commit, message.reject_hint, message.request_snapshot];
    // The crate's word for "none" in two of them is zero.
    if indices.iter().any(|index| index.0 > INDEX_MAX) {
        return Err(Nonsense("an absurd index"));
    }
    let leads_in_its_term = raft.state == StateRole::Leader && message.term.0 == raft.term;
    let last = raft.raft_log.last_index();
    match kind {
        MessageType::MsgAppend => {
            if leads_in_its_term {
                return Err(Nonsense("a second leader in this term"));
            }
            check_entries(raft, message)
        }
        MessageType::MsgHeartbeat if leads_in_its_term => Err(Nonsense("a second leader in this term")),
        MessageType::MsgHeartbeat if message.commit.0 > last && message.term.0 >= raft.term => {
            Err(Nonsense("a commit behind this server's last entry"))
        }
        // Of a reign that is over it may be: a leader sends before its own disk has it, and may have lost it.
        MessageType::MsgAppendResponse if message.index.0 > last && leads_in_its_term => {
            Err(Nonsense("an acknowledgement of what was never sent"))
        }
        MessageType::MsgAppendResponse if message.request_snapshot.0 != 0 => {
            Err(Nonsense("a request for a snapshot that this release does not know"))
        }
        // A follower may have forgotten the leader, whose connection was gone for a moment; in another term it is void.
        MessageType::MsgTimeoutNow
            if message.term.0 == raft.term && ![from, raft::INVALID_ID].contains(&raft.leader_id) =>
        {
            Err(Nonsense("a hand-over by a server that does not lead"))
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            let context = message.entries.first().and_then(|entry| entry.payload.as_ref());
            match context {
                Some(context) if message.entries.len() == 1 && context.len() == READ_CONTEXT_BYTES => Ok(()),
                _ => Err(Nonsense("a read without its context")),
            }
        }
        MessageType::MsgSnapshot if leads_in_its_term => Err(Nonsense("a second leader in this term")),
        MessageType::MsgSnapshot if message.log_term.0 > message.term.0 || message.index.0 == 0 => {
            Err(Nonsense("a snapshot that no leader has"))
        }
        MessageType::MsgSnapshot
        | MessageType::MsgSnapStatus
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => Ok(()),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => Err(Nonsense("a kind of message that no peer sends")),
    }
}

fn check_entries(raft: &Raft<Store>, message: &RaftMessage) -> Result<(), Nonsense> {
    let mut term = message.log_term.0;
    let mut index = message.index.0;
    for entry in &message.entries {
        index += 1;
        if entry.term.0 < term || entry.term.0 > message.term.0 {
            return Err(Nonsense("entries whose terms do not grow"));
        }
        term = entry.term.0;
        let is_committed = index <= raft.raft_log.committed && message.term.0 >= raft.term;
        if is_committed && raft.raft_log.term(index).is_ok_and(|known| known != term && known != 0) {
            return Err(Nonsense("another entry in a committed one's place"));
        }
        // 0: a batch or a leader's first entry.
        if entry.tag != 0 {
            return Err(Nonsense("a kind of entry that this release does not know"));
        }
    }
    Ok(())
}
