//! What a peer says is looked at before the `raft` crate sees it: words that would trip its assertions, or carry its
//! term or indices off, are dropped and reported. The sender is a member's connection; nothing else here is trusted.

use super::storage::Store;
use crate::apply::{Batch, Txn, TxnBody};
use crate::ids::ServerId;
use crate::log::PAYLOAD_BYTES_MAX;
use crate::membership::Step;
use crate::peer::{Entry, RaftMessage};
use raft::eraftpb::{EntryType, MessageType};
use raft::{Raft, StateRole, INVALID_ID};

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonsense(pub &'static str);

/// No honest server is so many elections ahead of another that hears of it.
const TERMS_AHEAD_MAX: u64 = 1 << 24;
/// What the upper half of a zxid holds.
const TERM_MAX: u64 = i32::MAX as u64;
/// Beyond what a history can reach.
const INDEX_MAX: u64 = 1 << 62;
/// A read's context: number, incarnation, server.
const READ_CONTEXT_BYTES: usize = 17;

/// Whether `raft` may be given this.
pub(super) fn check(raft: &Raft<Store>, wire: ServerId, message: &RaftMessage) -> Result<(), Nonsense> {
    let from = message.from.0;
    let kind = i32::from(message.kind);
    let kind = MessageType::from_i32(kind).ok_or(Nonsense("a kind of message that there is not"))?;
    // This server may not have heard yet who is a member now (Raft's thesis, 4.2.2): whoever has said welcome may speak,
    // for itself.
    if message.from.server() != wire || from == raft.id {
        return Err(Nonsense("another server's word, or this server's own"));
    }
    // The crate takes a word without a term for one of this server's own and skips its checks; it forwards a question
    // for a read's moment as it came, and panics where that has a term.
    if (message.term.0 == 0) != (kind == MessageType::MsgReadIndex) {
        return Err(Nonsense("a term where there is none, or none where there is one"));
    }
    if message.term.0 > raft.term.saturating_add(TERMS_AHEAD_MAX).min(TERM_MAX) {
        return Err(Nonsense("an absurd term"));
    }
    let indices = [message.index, message.commit, message.reject_hint, message.request_snapshot];
    // The crate's word for "none" in two of them is zero.
    if indices.iter().any(|index| index.0 > INDEX_MAX) {
        return Err(Nonsense("an absurd index"));
    }
    let is_of_this_term = message.term.0 == raft.term;
    let leads_in_its_term = raft.state == StateRole::Leader && is_of_this_term;
    // A term has one leader: this server itself, or the one that it follows.
    let has_another_leader = is_of_this_term && raft.leader_id != INVALID_ID && raft.leader_id != from;
    let last = raft.raft_log.last_index();
    match kind {
        MessageType::MsgAppend => {
            if has_another_leader {
                return Err(Nonsense("a second leader in this term"));
            }
            check_entries(raft, message)
        }
        MessageType::MsgHeartbeat if has_another_leader => Err(Nonsense("a second leader in this term")),
        MessageType::MsgHeartbeat if message.commit.0 > last && message.term.0 >= raft.term => {
            // Its own word for it is gone: the leader never counts on what was not acknowledged.
            Err(Nonsense(
                "a commit behind this server's last entry: if its data directory is an older copy, it lacks what it has \
                 acknowledged; stop it, empty the directory, and it comes back as new",
            ))
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
        MessageType::MsgReadIndexResp if has_another_leader => {
            Err(Nonsense("a read's moment from a server that does not lead"))
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            let context = message.entries.first().and_then(|entry| entry.payload.as_ref());
            match context {
                Some(context) if message.entries.len() == 1 && context.len() == READ_CONTEXT_BYTES => Ok(()),
                _ => Err(Nonsense("a read without its context")),
            }
        }
        MessageType::MsgSnapshot if has_another_leader => Err(Nonsense("a second leader in this term")),
        // Without a term it would match whatever lies beyond this server's last entry.
        MessageType::MsgSnapshot
            if message.log_term.0 > message.term.0 || message.log_term.0 == 0 || message.index.0 == 0 =>
        {
            Err(Nonsense("a snapshot that no leader has"))
        }
        MessageType::MsgSnapshot if contradicts(raft, message) => {
            Err(Nonsense("a snapshot against what is committed"))
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

/// Whether a snapshot ends with another entry than the committed one in its place. The crate would put it there: it looks at
/// the index alone.
pub(super) fn contradicts(raft: &Raft<Store>, offer: &RaftMessage) -> bool {
    let is_committed = offer.index.0 <= raft.raft_log.committed;
    is_committed
        && raft.raft_log.term(offer.index.0).is_ok_and(|known| known != 0 && known != offer.log_term.0)
}

fn check_entries(raft: &Raft<Store>, message: &RaftMessage) -> Result<(), Nonsense> {
    let mut term = message.log_term.0;
    let mut index = message.index.0;
    // To the crate every entry that is not there has the term 0: it would commit or append behind a gap, and panic.
    if (term == 0) != (index == 0) {
        return Err(Nonsense("entries after one that no log has"));
    }
    for entry in &message.entries {
        index += 1;
        if entry.term.0 < term.max(1) || entry.term.0 > message.term.0 {
            return Err(Nonsense("entries whose terms do not grow"));
        }
        term = entry.term.0;
        let is_committed = index <= raft.raft_log.committed && message.term.0 >= raft.term;
        if is_committed && raft.raft_log.term(index).is_ok_and(|known| known != term && known != 0) {
            return Err(Nonsense("another entry in a committed one's place"));
        }
        if entry.tag != EntryType::EntryNormal as u8 && entry.tag != EntryType::EntryConfChangeV2 as u8 {
            return Err(Nonsense("a kind of entry that this release does not know"));
        }
        check_batch(entry)?;
    }
    Ok(())
}

/// What does not decode now would, once committed, end every server that applies it, at each of its starts.
fn check_batch(entry: &Entry) -> Result<(), Nonsense> {
    let payload = entry.payload.as_deref().unwrap_or_default();
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Nonsense("an entry that no log holds"));
    }
    // A leader's first entry has no batch; one that changes the configuration has one of its own.
    let changes_conf = entry.tag == EntryType::EntryConfChangeV2 as u8;
    if changes_conf && leaves_nobody(payload) {
        return Err(Nonsense("a change of the members after which nobody votes"));
    }
    if payload.is_empty() && !changes_conf || is_batch(payload) == Some(changes_conf) {
        return Ok(());
    }
    Err(Nonsense("an entry that this release can not read"))
}

fn leaves_nobody(payload: &[u8]) -> bool {
    let first = Batch::decode(payload).ok().and_then(|mut batch| match batch.next_txn() {
        Ok(Some(Txn { body: TxnBody::Member { step }, .. })) => Step::decode(step).ok(),
        _ => None,
    });
    matches!(first, Some(Step::Enter { voters, .. }) if voters.is_empty())
}

/// Whether it changes the configuration; `None` where it is no batch.
fn is_batch(payload: &[u8]) -> Option<bool> {
    let mut batch = Batch::decode(payload).ok()?;
    let is_alone = batch.left() == 1;
    let mut changes_conf = false;
    while let Some(txn) = batch.next_txn().ok()? {
        if let TxnBody::Member { step } = txn.body {
            let step = Step::decode(step).ok()?;
            if !is_alone {
                return None;
            }
            changes_conf = step.changes_conf();
        }
    }
    Some(changes_conf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::BatchWriter;
    use crate::ids::{ConnId, LogIndex, Seat, SessionId, ShardId, Term, Xid, Zxid};
    use bytes::Bytes;
    use raft::eraftpb::{ConfState, HardState};
    use raft::{Config, RawNode};
    use std::collections::BTreeSet;
    use MessageType::*;

    /// Server 1 of three in term 7, which has nothing in its log.
    fn server() -> RawNode<Store> {
        server_behind((0, 0))
    }

    /// The same behind a snapshot that ends with this entry.
    fn server_behind(base: (u64, u64)) -> RawNode<Store> {
        let conf = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
        let hard_state = HardState { term: 7, commit: base.0, ..HardState::default() };
        let store = Store::new(base, Default::default(), hard_state, conf);
        let config =
            Config { id: 1, applied: base.0, check_quorum: true, pre_vote: true, ..Config::default() };
        RawNode::new(&config, store, &slog::Logger::root(slog::Discard, slog::o!())).unwrap()
    }

    fn message(kind: MessageType, term: u64) -> RaftMessage {
        RaftMessage {
            kind: kind as u8,
            term: Term(term),
            from: Seat(2),
            to: Seat(1),
            ..RaftMessage::default()
        }
    }

    fn entry(term: u64, payload: &[u8]) -> Entry {
        Entry {
            term: Term(term),
            tag: 0,
            first_zxid: Zxid::ZERO,
            last_zxid: Zxid::ZERO,
            payload: Some(Bytes::copy_from_slice(payload)),
        }
    }

    /// Each of these made the crate, or what comes behind it, panic or lose its place.
    #[test]
    fn words_that_would_end_the_server_are_dropped() {
        let append = |index, log_term, commit, entries| RaftMessage {
            index: LogIndex(index),
            log_term: Term(log_term),
            commit: LogIndex(commit),
            entries,
            ..message(MsgAppend, 7)
        };
        let offer = |index, log_term| RaftMessage {
            index: LogIndex(index),
            log_term: Term(log_term),
            ..message(MsgSnapshot, 7)
        };
        let server = server();
        let rows = [
            ("a term where there", message(MsgRequestVote, 0)),
            ("a term where there", RaftMessage { commit: LogIndex(9), ..message(MsgHeartbeat, 0) }),
            ("a term where there", RaftMessage { term: Term(0), ..append(0, 0, 0, vec![]) }),
            (
                "a term where there",
                RaftMessage { entries: vec![entry(0, &[0; 17])], ..message(MsgReadIndex, 7) },
            ),
            ("an absurd term", message(MsgRequestVote, u64::MAX)),
            ("an absurd term", message(MsgRequestVote, 7 + TERMS_AHEAD_MAX + 1)),
            ("an absurd index", append(u64::MAX, 7, 0, vec![entry(7, b"")])),
            ("a commit behind", RaftMessage { commit: LogIndex(9), ..message(MsgHeartbeat, 7) }),
            ("entries after one", append(9, 0, 9, vec![])),
            ("entries after one", append(9, 0, 0, vec![entry(7, b"")])),
            ("entries after one", append(0, 7, 0, vec![])),
            ("entries whose terms", append(0, 0, 0, vec![entry(0, b"")])),
            ("entries whose terms", append(0, 0, 0, vec![entry(7, b""), entry(6, b"")])),
            ("entries whose terms", append(0, 0, 0, vec![entry(8, b"")])),
            ("an entry that no log", append(0, 0, 0, vec![entry(7, &vec![1; PAYLOAD_BYTES_MAX + 1])])),
            ("an entry that this", append(0, 0, 0, vec![entry(7, b"no batch")])),
            ("a snapshot that no", offer(9, 0)),
            ("a snapshot that no", offer(0, 0)),
            ("a snapshot that no", offer(9, 8)),
        ];
        for (want, message) in rows {
            let why = check(&server.raft, ServerId(2), &message).unwrap_err().0;
            assert!(why.starts_with(want), "{message:?}: {why}");
        }
        let mut follower = self::server();
        follower.raft.become_follower(7, 3);
        let context = || vec![entry(0, &[0; READ_CONTEXT_BYTES])];
        for (want, message) in [
            ("a second leader", append(0, 0, 0, vec![entry(7, b"")])),
            ("a second leader", message(MsgHeartbeat, 7)),
            ("a second leader", offer(9, 7)),
            ("a read's moment", RaftMessage { entries: context(), ..message(MsgReadIndexResp, 7) }),
        ] {
            let why = check(&follower.raft, ServerId(2), &message).unwrap_err().0;
            assert!(why.starts_with(want), "{message:?}: {why}");
            let message = RaftMessage { from: Seat(3), ..message };
            assert_eq!(check(&follower.raft, ServerId(3), &message), Ok(()), "its leader may: {message:?}");
            assert!(check(&follower.raft, ServerId(2), &message).is_err(), "in another's name");
        }
        // Taken, it was installed without a state: a panic (a review).
        let ahead = server_behind((4, 6));
        let why = check(&ahead.raft, ServerId(2), &offer(4, 5)).unwrap_err().0;
        assert!(why.starts_with("a snapshot against"), "{why}");
        assert_eq!(check(&ahead.raft, ServerId(2), &offer(4, 6)), Ok(()));
        assert_eq!(check(&ahead.raft, ServerId(2), &offer(5, 5)), Ok(()));
        let late = RaftMessage { term: Term(TERM_MAX + 1), ..message(MsgRequestVote, 0) };
        let mut old = self::server();
        old.raft.term = TERM_MAX;
        assert!(check(&old.raft, ServerId(2), &late).is_err(), "a zxid has no room for it");
    }

    /// A batch of these steps.
    fn steps(steps: &[Step]) -> Vec<u8> {
        let mut batch = BatchWriter::new(0);
        for step in steps {
            let bytes = step.encode();
            let body = TxnBody::Member { step: &bytes };
            let (session, shard, conn, xid) = (SessionId::NONE, ShardId(0), ConnId(0), Xid(0));
            batch.push(&Txn { session, shard, conn, xid, body });
        }
        batch.into_unstamped()
    }

    #[test]
    fn a_change_of_who_votes_is_an_entry_of_its_own_kind_that_leaves_somebody() {
        let server = server();
        let append = |tag: u8, payload: &[u8]| RaftMessage {
            entries: vec![Entry { tag, ..entry(7, payload) }],
            ..message(MsgAppend, 7)
        };
        let enter = |voters: &[u64]| Step::Enter {
            seat: None,
            voters: voters.iter().map(|id| Seat(*id)).collect(),
            learners: BTreeSet::new(),
        };
        let plain = BatchWriter::new(0).into_unstamped();
        for (is_honest, message) in [
            (true, append(2, &steps(&[enter(&[1, 2])]))),
            (true, append(2, &steps(&[Step::Leave]))),
            (true, append(0, &steps(&[Step::Done]))),
            // P18
            (false, append(2, &steps(&[enter(&[])]))),
            (false, append(0, &steps(&[enter(&[1])]))),
            (false, append(2, &steps(&[Step::Done]))),
            (false, append(2, &steps(&[Step::Leave, Step::Leave]))),
            (false, append(0, &steps(&[Step::Done, Step::Done]))),
            (false, append(2, &plain)),
            (false, append(2, b"")),
            (false, append(1, &steps(&[Step::Leave]))),
        ] {
            assert_eq!(check(&server.raft, ServerId(2), &message).is_ok(), is_honest, "{message:?}");
        }
    }

    #[test]
    fn words_of_honest_servers_are_taken() {
        let batch = BatchWriter::new(0).into_unstamped();
        let first = RaftMessage { entries: vec![entry(1, b""), entry(7, &batch)], ..message(MsgAppend, 7) };
        let later = RaftMessage { index: LogIndex(9), log_term: Term(7), ..first.clone() };
        let later = RaftMessage { entries: vec![entry(7, &batch)], ..later };
        let server = server();
        for message in [
            first,
            later,
            message(MsgHeartbeat, 7),
            message(MsgRequestVote, 8),
            RaftMessage { entries: vec![entry(0, &[0; READ_CONTEXT_BYTES])], ..message(MsgReadIndex, 0) },
            RaftMessage { index: LogIndex(9), log_term: Term(3), ..message(MsgSnapshot, 8) },
        ] {
            assert_eq!(check(&server.raft, ServerId(2), &message), Ok(()), "{message:?}");
        }
    }
}
