//! Between the `raft` crate's messages and our own: payloads stay outside the crate, and go with a message all the same.

use super::consensus::{Consensus, MESSAGE_BYTES};
use super::storage;
use crate::ids::{LogIndex, Seat, Term, Zxid};
use crate::peer::{self, Addressed, RaftMessage};
use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};

impl Consensus {
    pub(super) fn addressed(&self, mut messages: Vec<Message>) -> Vec<Addressed> {
        // The crate will see that they did not arrive. What took their entries' place, without this, was another entry's
        // payload or the crate's handle (the simulator, seed 95).
        messages.retain(|message| !self.is_overtaken(message));
        let addressed = |message: Message| Addressed {
            to: Seat(message.to).server(),
            message: peer::Message::Raft(Box::new(self.to_peer(message))),
        };
        self.joined(messages).into_iter().map(addressed).collect()
    }

    /// Appends to one server that follow each other go as one. (The crate's own `batch_append` puts entries behind an empty
    /// message without a look at whether they follow what that names.)
    fn joined(&self, messages: Vec<Message>) -> Vec<Message> {
        let mut joined: Vec<Message> = Vec::with_capacity(messages.len());
        for mut message in messages {
            let is_append = |m: &Message| m.msg_type == MessageType::MsgAppend as i32;
            let earlier = joined.iter_mut().rfind(|m| is_append(m) && m.to == message.to);
            match earlier.filter(|earlier| is_append(&message) && self.are_one(earlier, &message)) {
                Some(earlier) => {
                    earlier.entries.extend(message.take_entries());
                    earlier.commit = earlier.commit.max(message.commit);
                }
                None => joined.push(message),
            }
        }
        joined
    }

    fn are_one(&self, earlier: &Message, later: &Message) -> bool {
        let end = earlier.entries.last().map_or((earlier.index, earlier.log_term), |e| (e.index, e.term));
        let bytes = |message: &Message| -> usize {
            let slots = message.entries.iter().filter_map(|entry| self.node.store().at(entry.index));
            slots.map(|slot| slot.payload_len).sum()
        };
        earlier.term == later.term
            && end == (later.index, later.log_term)
            && (bytes(earlier) + bytes(later)) as u64 <= MESSAGE_BYTES
    }

    /// Whether the log has other entries by now than this message was made of: it was purged, or this server leads no more
    /// and a new leader's entries took their place.
    fn is_overtaken(&self, message: &Message) -> bool {
        let is_other =
            |entry: &Entry| self.node.store().at(entry.index).is_none_or(|slot| slot.term != entry.term);
        message.msg_type == MessageType::MsgAppend as i32 && message.entries.iter().any(is_other)
    }

    /// Gives an entry its payload, or leaves it to the host to find.
    fn to_peer(&self, message: Message) -> RaftMessage {
        let is_append = message.msg_type == MessageType::MsgAppend as i32;
        // An offer of a snapshot names the entry that it ends with.
        let (index, log_term) = match &message.snapshot {
            Some(snapshot) if message.msg_type == MessageType::MsgSnapshot as i32 => {
                (snapshot.get_metadata().index, snapshot.get_metadata().term)
            }
            _ => (message.index, message.log_term),
        };
        let entries = message.entries.into_iter().map(|entry| {
            let slot = self.node.store().at(entry.index).filter(|_| is_append);
            peer::Entry {
                term: Term(entry.term),
                tag: u8::try_from(entry.entry_type).unwrap_or_default(),
                first_zxid: slot.map_or(Zxid::ZERO, |slot| slot.zxids.0),
                last_zxid: slot.map_or(Zxid::ZERO, |slot| slot.zxids.1),
                payload: match slot {
                    Some(slot) if slot.payload_len == 0 => Some(Bytes::new()),
                    Some(slot) => slot.payload.clone(),
                    // A read's context stands in an entry.
                    None => Some(Bytes::from(entry.data)),
                },
            }
        });
        RaftMessage {
            kind: u8::try_from(message.msg_type).unwrap_or_default(),
            from: Seat(self.id),
            to: Seat(message.to),
            term: Term(message.term),
            log_term: Term(log_term),
            index: LogIndex(index),
            commit: LogIndex(message.commit),
            commit_term: Term(message.commit_term),
            reject: message.reject,
            reject_hint: LogIndex(message.reject_hint),
            request_snapshot: LogIndex(message.request_snapshot),
            priority: message.priority,
            context: message.context,
            entries: entries.collect(),
        }
    }

    pub(super) fn to_raft(&self, message: RaftMessage) -> Message {
        let is_append = message.kind == MessageType::MsgAppend as u8;
        let snapshot = (message.kind == MessageType::MsgSnapshot as u8)
            .then(|| storage::snapshot(message.index.0, message.log_term.0, self.node.store().conf.clone()));
        let mut index = message.index.0;
        let entries = message.entries.into_iter().map(|entry| {
            index += 1;
            let payload = entry.payload.unwrap_or_default();
            Entry {
                entry_type: i32::from(entry.tag),
                term: entry.term.0,
                index: if is_append { index } else { 0 },
                data: match is_append {
                    true if payload.is_empty() => Vec::new(),
                    true => storage::HANDLE.to_vec(),
                    false => payload.to_vec(),
                },
                ..Entry::default()
            }
        });
        Message {
            msg_type: i32::from(message.kind),
            to: self.id,
            from: message.from.0,
            term: message.term.0,
            log_term: message.log_term.0,
            index: message.index.0,
            commit: message.commit.0,
            commit_term: message.commit_term.0,
            reject: message.reject,
            reject_hint: message.reject_hint.0,
            request_snapshot: message.request_snapshot.0,
            priority: message.priority,
            entries: entries.collect(),
            context: message.context,
            snapshot,
            ..Message::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServerId;
    use crate::membership::Conf;
    use crate::sequencer::RecoveredLog;

    fn append(to: u64, after: (u64, u64), entries: &[(u64, u64)], commit: u64) -> Message {
        let entry = |(index, term): &(u64, u64)| Entry { index: *index, term: *term, ..Entry::default() };
        Message {
            msg_type: MessageType::MsgAppend as i32,
            to,
            term: 7,
            index: after.0,
            log_term: after.1,
            commit,
            entries: entries.iter().map(entry).collect::<Vec<_>>(),
            ..Message::default()
        }
    }

    /// What entries follow is said once a message: those of one that follows something else must not go behind it.
    #[test]
    fn only_appends_that_follow_each_other_are_joined() {
        let seat = Seat::new(ServerId(1), 0);
        let consensus = Consensus::new(seat, 1, [1; 32], &Conf::default(), RecoveredLog::default());
        let heartbeat = Message { msg_type: MessageType::MsgHeartbeat as i32, to: 2, ..Message::default() };
        let joined = consensus.joined(vec![
            append(2, (4, 6), &[], 3),
            append(3, (4, 6), &[(5, 7)], 4),
            append(2, (4, 6), &[(5, 7), (6, 7)], 4),
            heartbeat.clone(),
            append(2, (6, 7), &[(7, 7)], 5),
            append(2, (7, 7), &[], 6),
            append(3, (4, 6), &[(5, 7), (6, 7)], 4),
            // The crate has gone back: the one before does not end with what this one follows.
            append(2, (2, 6), &[(3, 6)], 6),
            append(2, (3, 5), &[(4, 6)], 6),
            Message { term: 8, ..append(2, (4, 6), &[(5, 7)], 6) },
        ]);
        let expected = [
            append(2, (4, 6), &[(5, 7), (6, 7), (7, 7)], 6),
            append(3, (4, 6), &[(5, 7)], 4),
            heartbeat,
            append(3, (4, 6), &[(5, 7), (6, 7)], 4),
            append(2, (2, 6), &[(3, 6)], 6),
            append(2, (3, 5), &[(4, 6)], 6),
            Message { term: 8, ..append(2, (4, 6), &[(5, 7)], 6) },
        ];
        assert_eq!(joined, expected);
    }
}
