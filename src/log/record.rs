//! One record: the bytes of one batch (or of a change of Raft's hard state) with a head that proves
//! where it belongs. A record begins on a 4 KiB boundary and is never rewritten.
//!
//! The head binds the record to its segment (salt, number, offset), to its predecessor (sequence,
//! checksum of the one before) and to what was durable when it was submitted (`durable_upto`).

use crate::ids::{LogIndex, Term, Zxid};
use crate::mutant::{self, Mutant};

use super::segment::SegmentNumber;

/// The unit of the log: records begin on its multiples, and O_DIRECT wants it.
pub const BLOCK: usize = 4096;

/// Bytes of a record's head.
pub const HEAD: usize = 128;

/// The most payload that one record carries. A batch is bounded far below this.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"RKr1");

/// The number of a record in the whole log, from 1. Zero: before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The record after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }
}

/// What Raft must never forget. It rides in every record and in every segment header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The newest term that this server has seen.
    pub term: Term,
    /// Whom it voted for in that term; 0 is nobody.
    pub vote: u64,
    /// How far it knew the log to be committed.
    pub commit: LogIndex,
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One Raft entry.
    Entry,
    /// Only the hard state.
    HardState,
    /// Nothing: it carries `durable_upto` on, so that the last acknowledged record never looks torn.
    Empty,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Entry => 1,
            Kind::HardState => 2,
            Kind::Empty => 3,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Entry,
            2 => Kind::HardState,
            3 => Kind::Empty,
            _ => return None,
        })
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// What it is.
    pub kind: Kind,
    /// The owner's own mark (Raft's entry type).
    pub tag: u8,
    /// The entry's term.
    pub term: Term,
    /// The entry's index: one entry a record.
    pub index: LogIndex,
    /// The first zxid in the batch; zero when it has none.
    pub first_zxid: Zxid,
    /// The last zxid in the batch; zero when it has none.
    pub last_zxid: Zxid,
    /// Raft's hard state as of this record.
    pub hard_state: HardState,
    /// The payload, in pieces.
    pub payload: &'a [&'a [u8]],
}

impl<'a> Append<'a> {
    /// One Raft entry.
    #[must_use]
    pub fn entry(
        tag: u8,
        term: Term,
        index: LogIndex,
        zxids: (Zxid, Zxid),
        hard_state: HardState,
        payload: &'a [&'a [u8]],
    ) -> Self {
        let (first_zxid, last_zxid) = zxids;
        Append { kind: Kind::Entry, tag, term, index, first_zxid, last_zxid, hard_state, payload }
    }

    /// A change of the hard state alone.
    #[must_use]
    pub fn hard_state(hard_state: HardState) -> Self {
        Append::bare(Kind::HardState, hard_state)
    }

    /// Carries `durable_upto` on.
    #[must_use]
    pub fn empty(hard_state: HardState) -> Self {
        Append::bare(Kind::Empty, hard_state)
    }

    fn bare(kind: Kind, hard_state: HardState) -> Self {
        let (term, index) = (Term(0), LogIndex(0));
        let (first_zxid, last_zxid) = (Zxid::ZERO, Zxid::ZERO);
        Append { kind, tag: 0, term, index, first_zxid, last_zxid, hard_state, payload: &[] }
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload.iter().map(|piece| piece.len()).sum()
    }
}

/// Where a record stands: what the writer gives it and the reader demands of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The segment's number.
    pub segment: SegmentNumber,
    /// The segment's salt.
    pub salt: u64,
    /// Where in the segment it begins.
    pub offset: u64,
    /// Its number in the whole log.
    pub sequence: Sequence,
    /// The checksum of the record before it.
    pub prev_crc: u32,
}

/// A decoded head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Where it says that it stands.
    pub at: Position,
    /// Its own checksum, over everything but the magic and itself.
    pub crc: u32,
    /// All records up to this one were durable when it was submitted.
    pub durable_upto: Sequence,
    /// Bytes of payload.
    pub payload_len: u32,
    /// What it is.
    pub kind: Kind,
    /// The owner's own mark.
    pub tag: u8,
    /// The entry's term.
    pub term: Term,
    /// The entry's index.
    pub index: LogIndex,
    /// First zxid of the batch.
    pub first_zxid: Zxid,
    /// Last zxid of the batch.
    pub last_zxid: Zxid,
    /// Hard state as of this record.
    pub hard_state: HardState,
}

/// Where an entry lies, and all that Raft asks of it without reading its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef {
    /// The entry's index.
    pub index: LogIndex,
    /// The entry's term.
    pub term: Term,
    /// The owner's own mark.
    pub tag: u8,
    /// First zxid of the batch.
    pub first_zxid: Zxid,
    /// Last zxid of the batch.
    pub last_zxid: Zxid,
    /// Bytes of payload.
    pub payload_len: u32,
    /// The segment that holds it.
    pub segment: SegmentNumber,
    /// Where in that segment its record begins.
    pub offset: u64,
    /// The record's number.
    pub sequence: Sequence,
    /// The record's checksum: a later read must find the same record, not merely a valid one.
    pub crc: u32,
}

/// Why bytes are not a valid record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotARecord {
    /// Too few bytes are left for it.
    Short,
    /// Zeros: nothing was ever written here.
    Zero,
    /// Another magic.
    Magic,
    /// A length that cannot be.
    Length,
    /// The checksum does not fit the bytes.
    Checksum,
    /// A kind that this release does not know, under a good checksum.
    Kind,
}

impl RecordHeader {
    /// Bytes that the record takes in its segment.
    #[must_use]
    pub fn padded_len(&self) -> u64 {
        padded_len(self.payload_len as usize) as u64
    }

    /// Reads the record that begins at the head of `bytes` and checks its checksum. Where it belongs is
    /// for the caller to check.
    pub fn decode(bytes: &[u8]) -> Result<RecordHeader, NotARecord> {
        let head = bytes.get(..HEAD).ok_or(NotARecord::Short)?;
        if u32_at(head, 0) != MAGIC {
            return Err(if head.iter().all(|b| *b == 0) { NotARecord::Zero } else { NotARecord::Magic });
        }
        let payload_len = u32_at(head, 36);
        if payload_len as usize > PAYLOAD_BYTES_MAX {
            return Err(NotARecord::Length);
        }
        let covered = bytes.get(8..HEAD + payload_len as usize).ok_or(NotARecord::Short)?;
        let crc = u32_at(head, 4);
        if crc32c::crc32c(covered) != crc && !mutant::is(Mutant::ChecksumIgnored) {
            return Err(NotARecord::Checksum);
        }
        Ok(RecordHeader {
            at: Position {
                salt: u64_at(head, 8),
                sequence: Sequence(u64_at(head, 16)),
                prev_crc: u32_at(head, 32),
                offset: u64_at(head, 112),
                segment: SegmentNumber(u64_at(head, 120)),
            },
            crc,
            durable_upto: Sequence(u64_at(head, 24)),
            payload_len,
            kind: Kind::from_code(head[40]).ok_or(NotARecord::Kind)?,
            tag: head[41],
            term: Term(u64_at(head, 48)),
            index: LogIndex(u64_at(head, 56)),
            first_zxid: Zxid(u64_at(head, 72).cast_signed()),
            last_zxid: Zxid(u64_at(head, 80).cast_signed()),
            hard_state: HardState {
                term: Term(u64_at(head, 88)),
                vote: u64_at(head, 96),
                commit: LogIndex(u64_at(head, 104)),
            },
        })
    }

    /// Whether the bytes begin like a record of this place. Cheap: the checksum is not looked at.
    #[must_use]
    pub fn claims(bytes: &[u8], salt: Option<u64>, offset: u64, segment: SegmentNumber) -> bool {
        bytes.len() >= HEAD
            && u32_at(bytes, 0) == MAGIC
            && salt.is_none_or(|salt| u64_at(bytes, 8) == salt)
            && u64_at(bytes, 112) == offset
            && u64_at(bytes, 120) == segment.0
    }

    /// The payload, out of the bytes that `decode` was given.
    #[must_use]
    pub fn payload<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[HEAD..HEAD + self.payload_len as usize]
    }

    /// Where the entry lies. Only for `Kind::Entry`.
    #[must_use]
    pub fn entry_ref(&self) -> EntryRef {
        EntryRef {
            index: self.index,
            term: self.term,
            tag: self.tag,
            first_zxid: self.first_zxid,
            last_zxid: self.last_zxid,
            payload_len: self.payload_len,
            segment: self.at.segment,
            offset: self.at.offset,
            sequence: self.at.sequence,
            crc: self.crc,
        }
    }
}

/// Bytes that a record with so much payload takes: a multiple of `BLOCK`.
#[must_use]
pub fn padded_len(payload_len: usize) -> usize {
    (HEAD + payload_len).next_multiple_of(BLOCK)
}

/// Writes a record over the head of `out`, zeros to the end of its last block, and returns its head.
/// `out` holds at least `padded_len` bytes.
pub fn encode(append: &Append<'_>, at: Position, durable_upto: Sequence, out: &mut [u8]) -> RecordHeader {
    let payload_len = append.payload_len();
    assert!(payload_len <= PAYLOAD_BYTES_MAX, "the writer bounds the payload");
    assert!(durable_upto < at.sequence, "a record is not durable before it is written");
    let end = padded_len(payload_len);
    let out = &mut out[..end];
    out[..HEAD].fill(0);
    put_u32(out, 0, MAGIC);
    put_u64(out, 8, at.salt);
    put_u64(out, 16, at.sequence.0);
    put_u64(out, 24, durable_upto.0);
    put_u32(out, 32, at.prev_crc);
    put_u32(out, 36, payload_len as u32);
    out[40] = append.kind.code();
    out[41] = append.tag;
    put_u64(out, 48, append.term.0);
    put_u64(out, 56, append.index.0);
    // The last index: the same, as long as a record holds one entry.
    put_u64(out, 64, append.index.0);
    put_u64(out, 72, append.first_zxid.0.cast_unsigned());
    put_u64(out, 80, append.last_zxid.0.cast_unsigned());
    put_u64(out, 88, append.hard_state.term.0);
    put_u64(out, 96, append.hard_state.vote);
    put_u64(out, 104, append.hard_state.commit.0);
    put_u64(out, 112, at.offset);
    put_u64(out, 120, at.segment.0);
    let mut fill = HEAD;
    for piece in append.payload {
        out[fill..fill + piece.len()].copy_from_slice(piece);
        fill += piece.len();
    }
    out[fill..].fill(0);
    let crc = crc32c::crc32c(&out[8..fill]);
    put_u32(out, 4, crc);
    RecordHeader {
        at,
        crc,
        durable_upto,
        payload_len: payload_len as u32,
        kind: append.kind,
        tag: append.tag,
        term: append.term,
        index: append.index,
        first_zxid: append.first_zxid,
        last_zxid: append.last_zxid,
        hard_state: append.hard_state,
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice is four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice is eight bytes"))
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(payload: &[&[u8]]) -> (Vec<u8>, RecordHeader) {
        let hard_state = HardState { term: Term(3), vote: 1, commit: LogIndex(6) };
        let append = Append::entry(2, Term(3), LogIndex(7), (Zxid(11), Zxid(13)), hard_state, payload);
        let at = Position {
            segment: SegmentNumber(5),
            salt: 0xfeed_beef_0123_4567,
            offset: 8192,
            sequence: Sequence(9),
            prev_crc: 0xabcd,
        };
        let mut bytes = vec![0xAA; padded_len(append.payload_len())];
        let head = encode(&append, at, Sequence(8), &mut bytes);
        (bytes, head)
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        for payload in [&b""[..], b"x", &[7; 3968], &[7; 3969], &[9; 20_000]] {
            let (a, b) = payload.split_at(payload.len() / 2);
            let (bytes, head) = sample(&[a, b]);
            assert_eq!(bytes.len() % BLOCK, 0);
            let read = RecordHeader::decode(&bytes).unwrap();
            assert_eq!(read, head);
            assert_eq!(read.payload(&bytes), payload);
            assert_eq!(read.padded_len() as usize, bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_of_head_and_payload_is_seen() {
        let (bytes, _) = sample(&[b"some payload"]);
        for bit in 0..(HEAD + 12) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn short_bytes_and_absurd_lengths_are_refused() {
        let (bytes, _) = sample(&[b"some payload"]);
        for cut in [0, 1, HEAD - 1, HEAD, HEAD + 11] {
            assert_eq!(RecordHeader::decode(&bytes[..cut]), Err(NotARecord::Short), "cut at {cut}");
        }
        let mut long = bytes.clone();
        put_u32(&mut long, 36, u32::MAX);
        assert_eq!(RecordHeader::decode(&long), Err(NotARecord::Length));
        assert_eq!(RecordHeader::decode(&[0; BLOCK]), Err(NotARecord::Zero));
    }
}
