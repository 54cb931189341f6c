//! A segment's first block: whose log it is, which part of it, and what must survive when all earlier
//! segments are gone. It is durable before the first record of its segment is submitted, and it is
//! written only when every record before it is durable: a valid header vouches for all that precedes it.

use crate::ids::{LogIndex, ServerId, Term};

use super::record::{put_u32, put_u64, u32_at, u64_at, HardState, Sequence, BLOCK};

/// Segments are numbered from 1, without a gap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }
}

/// The version of header and records that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The most bytes of membership that a header holds.
pub const MEMBERSHIP_BYTES_MAX: usize = BLOCK - FIXED;

const MAGIC: u64 = u64::from_le_bytes(*b"RKseg\r\n\x1a");
const FIXED: usize = 160;

/// The place where the segment before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Continues {
    /// The segment before.
    pub segment: SegmentNumber,
    /// Recovery reads it only so far: what stands behind was cut.
    pub offset: u64,
}

/// The first block of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Which cluster's log this is.
    pub cluster: u128,
    /// Which server's.
    pub server: ServerId,
    /// The segment's own number; another one than its name says means a file waiting for reuse.
    pub number: SegmentNumber,
    /// Random for each use of a file, so that stale records never validate.
    pub salt: u64,
    /// Where the segment before ends; nothing for the first of all.
    pub continues: Option<Continues>,
    /// The number of its first record. All earlier ones are durable.
    pub first_sequence: Sequence,
    /// The checksum of the record before; zero for the first of all.
    pub prev_crc: u32,
    /// Hard state, so that purging never loses a vote.
    pub hard_state: HardState,
    /// The index after the last entry before this segment, or after the snapshot that the log goes on behind.
    pub first_index: LogIndex,
    /// The term of that last entry.
    pub prev_term: Term,
    /// A snapshot that is about to be received, and that the log has not got to: index and term of its last entry. Only
    /// this entitles the next segment to begin behind it instead of behind the last entry.
    pub announced: Option<(LogIndex, Term)>,
    /// The version of apply's rules.
    pub apply_version: u32,
    /// Who is a member: opaque here.
    pub membership: Vec<u8>,
}

/// Why a block is not a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAHeader {
    /// Fewer bytes than a block.
    Short,
    /// Zeros: prepared, never used.
    Zero,
    /// Another magic.
    Magic,
    /// The checksum does not fit.
    Checksum,
    /// Written by a release whose format this one does not know.
    Format(u32),
    /// A good checksum over values that cannot be.
    Values,
    /// The header of another segment: a recycled file that waits for its turn still wears that of its last life.
    Recycled,
}

impl SegmentHeader {
    /// The block as it goes to the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        assert!(self.membership.len() <= MEMBERSHIP_BYTES_MAX, "the writer bounds the membership");
        let mut out = [0; BLOCK];
        put_u64(&mut out, 0, MAGIC);
        put_u32(&mut out, 12, FORMAT);
        out[16..32].copy_from_slice(&self.cluster.to_le_bytes());
        out[32] = self.server.0;
        out[33] = u8::from(self.continues.is_some());
        put_u32(&mut out, 36, self.prev_crc);
        put_u64(&mut out, 40, self.number.0);
        put_u64(&mut out, 48, self.salt);
        put_u64(&mut out, 56, self.continues.map_or(0, |c| c.segment.0));
        put_u64(&mut out, 64, self.continues.map_or(0, |c| c.offset));
        put_u64(&mut out, 72, self.first_sequence.0);
        put_u64(&mut out, 80, self.hard_state.term.0);
        put_u64(&mut out, 88, self.hard_state.vote);
        put_u64(&mut out, 96, self.hard_state.commit.0);
        put_u64(&mut out, 104, self.first_index.0);
        put_u64(&mut out, 112, self.prev_term.0);
        put_u32(&mut out, 120, self.apply_version);
        put_u32(&mut out, 124, self.membership.len() as u32);
        let (index, term) = self.announced.unwrap_or_default();
        put_u64(&mut out, 128, index.0);
        put_u64(&mut out, 136, term.0);
        out[FIXED..FIXED + self.membership.len()].copy_from_slice(&self.membership);
        let crc = crc32c::crc32c(&out[12..]);
        put_u32(&mut out, 8, crc);
        out
    }

    /// Reads a segment's first block.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, NotAHeader> {
        let block = bytes.get(..BLOCK).ok_or(NotAHeader::Short)?;
        if u64_at(block, 0) != MAGIC {
            return Err(if block.iter().all(|b| *b == 0) { NotAHeader::Zero } else { NotAHeader::Magic });
        }
        if crc32c::crc32c(&block[12..]) != u32_at(block, 8) {
            return Err(NotAHeader::Checksum);
        }
        let format = u32_at(block, 12);
        if format != FORMAT {
            return Err(NotAHeader::Format(format));
        }
        let membership_len = u32_at(block, 124) as usize;
        let membership =
            block.get(FIXED..FIXED + membership_len.min(BLOCK)).ok_or(NotAHeader::Values)?.to_vec();
        let continues = (block[33] != 0)
            .then(|| Continues { segment: SegmentNumber(u64_at(block, 56)), offset: u64_at(block, 64) });
        let announced = (LogIndex(u64_at(block, 128)), Term(u64_at(block, 136)));
        let header = SegmentHeader {
            cluster: u128::from_le_bytes(block[16..32].try_into().expect("sixteen bytes")),
            server: ServerId(block[32]),
            number: SegmentNumber(u64_at(block, 40)),
            salt: u64_at(block, 48),
            continues,
            first_sequence: Sequence(u64_at(block, 72)),
            prev_crc: u32_at(block, 36),
            hard_state: HardState {
                term: Term(u64_at(block, 80)),
                vote: u64_at(block, 88),
                commit: LogIndex(u64_at(block, 96)),
            },
            first_index: LogIndex(u64_at(block, 104)),
            prev_term: Term(u64_at(block, 112)),
            announced: (announced.0 .0 != 0).then_some(announced),
            apply_version: u32_at(block, 120),
            membership,
        };
        let in_order = header.continues.is_none_or(|c| {
            c.segment < header.number && c.offset >= BLOCK as u64 && c.offset % BLOCK as u64 == 0
        });
        if !in_order || header.first_sequence.0 == 0 || header.first_index.0 == 0 {
            return Err(NotAHeader::Values);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            cluster: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            server: ServerId(3),
            number: SegmentNumber(9),
            salt: 77,
            continues: Some(Continues { segment: SegmentNumber(8), offset: 4096 * 5 }),
            first_sequence: Sequence(100),
            prev_crc: 0xdead_beef,
            hard_state: HardState { term: Term(4), vote: 2, commit: LogIndex(50) },
            first_index: LogIndex(51),
            prev_term: Term(4),
            announced: Some((LogIndex(90), Term(6))),
            apply_version: 1,
            membership: b"voters 1 2 3".to_vec(),
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        let header = sample();
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        let first = SegmentHeader { continues: None, announced: None, membership: Vec::new(), ..sample() };
        assert_eq!(SegmentHeader::decode(&first.encode()), Ok(first));
    }

    #[test]
    fn every_flipped_byte_of_a_header_is_seen() {
        let block = sample().encode();
        // Miri computes the checksums without the processor's help.
        for at in (0..BLOCK).step_by(if cfg!(miri) { 131 } else { 1 }) {
            let mut bad = block;
            bad[at] ^= 0x40;
            assert!(SegmentHeader::decode(&bad).is_err(), "byte {at}");
        }
        assert_eq!(SegmentHeader::decode(&block[..4000]), Err(NotAHeader::Short));
        assert_eq!(SegmentHeader::decode(&[0; BLOCK]), Err(NotAHeader::Zero));
    }
}
