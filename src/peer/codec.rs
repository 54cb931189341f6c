//! Messages as bytes, big endian.
//!
//! ```text
//! message = 1 kind:u8 from:u64 to:u64 term:u64 log_term:u64 index:u64 commit:u64 commit_term:u64 reject:u8 reject_hint:u64
//!             request_snapshot:u64 priority:i64 context:buffer entries:u32 entry*
//!         | 2 term:u64 incarnation:u64 sequence:u64 batch:buffer
//!         | 3 through:u64 stalled:u64 sessions:u32 (session:i64 ago:u64)*
//!         | 4 index:u64 chain:u64
//!         | 5 birth:u128 seat:u64
//!         | 6 step:buffer
//! entry   = term:u64 tag:u8 first_zxid:i64 last_zxid:i64 payload:buffer
//! buffer  = length:u32 bytes
//! ```
//! How frames are cut from a stream, and their checksum, is the host's.

use super::{Agreement, Entry, Forward, Heard, Message, RaftMessage, Seated};
use crate::ids::{LogIndex, Millis, Seat, SessionId, Term, Zxid};
use crate::wire::{Reader, Truncated};
use bytes::Bytes;
use std::ops::Range;

/// Bytes of a message's context: Raft's own are a few words long.
pub const CONTEXT_BYTES_MAX: usize = 4096;

/// One server's line.
const STEP_BYTES_MAX: usize = 16 << 10;

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Malformed {
        Malformed
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    let value = u32::try_from(value).expect("a message is shorter than 4 GiB");
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a message. Entries must have their payload.
pub fn encode(out: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Raft(raft) => {
            out.extend_from_slice(&[1, raft.kind]);
            put_u64(out, raft.from.0);
            put_u64(out, raft.to.0);
            for word in [raft.term.0, raft.log_term.0, raft.index.0, raft.commit.0, raft.commit_term.0] {
                put_u64(out, word);
            }
            out.push(u8::from(raft.reject));
            put_u64(out, raft.reject_hint.0);
            put_u64(out, raft.request_snapshot.0);
            out.extend_from_slice(&raft.priority.to_be_bytes());
            put_bytes(out, &raft.context);
            put_u32(out, raft.entries.len());
            for entry in &raft.entries {
                put_u64(out, entry.term.0);
                out.push(entry.tag);
                out.extend_from_slice(&entry.first_zxid.0.to_be_bytes());
                out.extend_from_slice(&entry.last_zxid.0.to_be_bytes());
                put_bytes(out, entry.payload.as_ref().expect("an entry is sent with its payload"));
            }
        }
        Message::Forward(forward) => {
            out.push(2);
            put_u64(out, forward.term.0);
            put_u64(out, forward.incarnation);
            put_u64(out, forward.sequence);
            put_bytes(out, &forward.batch);
        }
        Message::Heard(heard) => {
            out.push(3);
            put_u64(out, heard.through.0);
            put_u64(out, heard.stalled.0);
            put_u32(out, heard.sessions.len());
            for (session, ago) in &heard.sessions {
                out.extend_from_slice(&session.0.to_be_bytes());
                put_u64(out, ago.0);
            }
        }
        Message::Agreement(agreement) => {
            out.push(4);
            put_u64(out, agreement.index.0);
            put_u64(out, agreement.chain);
        }
        Message::Seated(seated) => {
            out.push(5);
            out.extend_from_slice(&seated.birth.to_be_bytes());
            put_u64(out, seated.seat.0);
        }
        Message::Wish(step) => {
            out.push(6);
            put_bytes(out, step);
        }
    }
}

/// Where a reader stands in the bytes that it was made of.
struct Cursor<'a> {
    whole: &'a Bytes,
    reader: Reader<'a>,
}

impl Cursor<'_> {
    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.reader.take(8)?.try_into().map_err(|_| Malformed)?))
    }

    fn index(&mut self) -> Result<LogIndex, Malformed> {
        Ok(LogIndex(self.u64()?))
    }

    fn term(&mut self) -> Result<Term, Malformed> {
        Ok(Term(self.u64()?))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let bytes: [u8; 4] = self.reader.take(4)?.try_into().map_err(|_| Malformed)?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| Malformed)
    }

    /// A number of items that each take at least this much: never more than can be there.
    fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.length()?;
        if count > self.reader.rest().len() / item_bytes_min {
            return Err(Malformed);
        }
        Ok(count)
    }

    fn buffer(&mut self) -> Result<Range<usize>, Malformed> {
        let length = self.length()?;
        let begin = self.whole.len() - self.reader.rest().len();
        self.reader.take(length)?;
        Ok(begin..begin + length)
    }

    /// Shares the message's memory.
    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let range = self.buffer()?;
        Ok(self.whole.slice(range))
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

/// Reads one message that takes all of `bytes`. Payloads share their memory.
pub fn decode(bytes: &Bytes) -> Result<Message, Malformed> {
    let mut cursor = Cursor { whole: bytes, reader: Reader::new(bytes) };
    let message = match cursor.reader.u8()? {
        1 => Message::Raft(Box::new(raft(&mut cursor)?)),
        2 => Message::Forward(Forward {
            term: cursor.term()?,
            incarnation: cursor.u64()?,
            sequence: cursor.u64()?,
            batch: cursor.bytes()?,
        }),
        3 => {
            let through = Millis(cursor.u64()?);
            let stalled = Millis(cursor.u64()?);
            let sessions = (0..cursor.count(16)?)
                .map(|_| Ok((SessionId(cursor.reader.i64()?), Millis(cursor.u64()?))))
                .collect::<Result<_, Malformed>>()?;
            Message::Heard(Heard { sessions, through, stalled })
        }
        4 => Message::Agreement(Agreement { index: cursor.index()?, chain: cursor.u64()? }),
        5 => {
            let birth = cursor.reader.take(16)?.try_into().map_err(|_| Malformed)?;
            Message::Seated(Seated { birth: u128::from_be_bytes(birth), seat: Seat(cursor.u64()?) })
        }
        6 => {
            let step = cursor.buffer()?;
            if step.len() > STEP_BYTES_MAX {
                return Err(Malformed);
            }
            Message::Wish(cursor.whole[step].to_vec())
        }
        _ => return Err(Malformed),
    };
    if cursor.reader.rest().is_empty() {
        Ok(message)
    } else {
        Err(Malformed)
    }
}

fn raft(cursor: &mut Cursor<'_>) -> Result<RaftMessage, Malformed> {
    let mut message = RaftMessage {
        kind: cursor.reader.u8()?,
        from: Seat(cursor.u64()?),
        to: Seat(cursor.u64()?),
        term: cursor.term()?,
        log_term: cursor.term()?,
        index: cursor.index()?,
        commit: cursor.index()?,
        commit_term: cursor.term()?,
        reject: cursor.bool()?,
        reject_hint: cursor.index()?,
        request_snapshot: cursor.index()?,
        priority: cursor.reader.i64()?,
        ..RaftMessage::default()
    };
    let context = cursor.buffer()?;
    if context.len() > CONTEXT_BYTES_MAX {
        return Err(Malformed);
    }
    message.context = cursor.whole[context].to_vec();
    for _ in 0..cursor.count(29)? {
        message.entries.push(Entry {
            term: cursor.term()?,
            tag: cursor.reader.u8()?,
            first_zxid: Zxid(cursor.reader.i64()?),
            last_zxid: Zxid(cursor.reader.i64()?),
            payload: Some(cursor.bytes()?),
        });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Message> {
        let entry = |payload: &'static [u8]| Entry {
            term: Term(7),
            tag: 0,
            first_zxid: Zxid(1 << 32 | 1),
            last_zxid: Zxid(1 << 32 | 9),
            payload: Some(Bytes::from_static(payload)),
        };
        vec![
            Message::Raft(Box::new(RaftMessage {
                kind: 3,
                term: Term(7),
                index: LogIndex(41),
                reject: true,
                priority: -1,
                context: b"ctx".to_vec(),
                entries: vec![entry(b"one"), entry(b"")],
                ..RaftMessage::default()
            })),
            Message::Raft(Box::default()),
            Message::Forward(Forward {
                term: Term(4),
                incarnation: 5,
                sequence: 6,
                batch: Bytes::from_static(b"batch"),
            }),
            Message::Agreement(Agreement { index: LogIndex(1 << 40), chain: u64::MAX }),
            Message::Seated(Seated { birth: 7 << 100, seat: Seat(0x103) }),
            Message::Wish(b"step".to_vec()),
            Message::Heard(Heard {
                sessions: vec![(SessionId(-5), Millis(7)), (SessionId(9), Millis(0))],
                through: Millis(3),
                stalled: Millis(2),
            }),
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for message in samples() {
            let mut out = Vec::new();
            encode(&mut out, &message);
            assert_eq!(decode(&Bytes::from(out)), Ok(message));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_no_message() {
        for message in samples() {
            let mut out = Vec::new();
            encode(&mut out, &message);
            for length in 0..out.len() {
                assert_eq!(decode(&Bytes::copy_from_slice(&out[..length])), Err(Malformed), "{message:?}");
            }
            out.push(0);
            assert_eq!(decode(&Bytes::from(out)), Err(Malformed));
        }
    }

    #[test]
    fn a_count_that_the_bytes_can_not_hold_allocates_nothing() {
        let mut out = vec![3];
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(decode(&Bytes::from(out)), Err(Malformed));
    }
}
