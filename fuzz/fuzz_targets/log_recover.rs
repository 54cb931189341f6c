//! Recovery of three segments that the input edits. Each edit may sign what it changed with a fresh checksum,
//! so that the checks behind the checksums are reached too. It ends, does not panic, and lists entries
//! without a gap.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::record::{encode, padded_len};
use ringkeeper::log::{
    recover, Append, Continues, HardState, Position, SegmentHeader, SegmentNumber, Segments, Sequence, BLOCK,
};

const SEGMENT_BYTES: usize = 8 * BLOCK;

#[derive(Clone)]
struct Memory(Vec<Vec<u8>>);

impl Segments for Memory {
    type Bytes = Vec<u8>;

    fn list(&mut self) -> Result<Vec<SegmentNumber>, String> {
        Ok((1..=self.0.len() as u64).map(SegmentNumber).collect())
    }

    fn head(&mut self, segment: SegmentNumber, len: usize) -> Result<Vec<u8>, String> {
        let bytes = &self.0[segment.0 as usize - 1];
        Ok(bytes[..len.min(bytes.len())].to_vec())
    }

    fn bytes(&mut self, segment: SegmentNumber, _sealed: bool) -> Result<Vec<u8>, String> {
        Ok(self.0[segment.0 as usize - 1].clone())
    }

    fn bytes_again(&mut self, segment: SegmentNumber) -> Result<Vec<u8>, String> {
        self.bytes(segment, true)
    }
}

fn history() -> Memory {
    let (mut segments, mut next, mut prev_crc) = (Vec::new(), 1u64, 0);
    for number in 1..=3u64 {
        let header = SegmentHeader {
            cluster: 7,
            server: ServerId(1),
            number: SegmentNumber(number),
            salt: 1000 + number,
            continues: (number > 1)
                .then(|| Continues { segment: SegmentNumber(number - 1), offset: SEGMENT_BYTES as u64 }),
            first_sequence: Sequence(next),
            prev_crc,
            hard_state: HardState::default(),
            first_index: LogIndex(next),
            prev_term: Term(u64::from(number > 1)),
            announced: None,
            apply_version: 1,
            membership: Vec::new(),
        };
        let mut bytes = vec![0; SEGMENT_BYTES];
        bytes[..BLOCK].copy_from_slice(&header.encode());
        let mut offset = BLOCK;
        while offset < SEGMENT_BYTES {
            let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(next.saturating_sub(3)) };
            let zxids = (Zxid(next as i64), Zxid(next as i64));
            let payload: &[&[u8]] = &[b"payload"];
            let append = Append::entry(0, Term(1), LogIndex(next), zxids, hard_state, payload);
            let at = Position {
                segment: header.number,
                salt: header.salt,
                offset: offset as u64,
                sequence: Sequence(next),
                prev_crc,
            };
            prev_crc = encode(&append, at, Sequence(next.saturating_sub(4)), &mut bytes[offset..]).crc;
            offset += padded_len(7);
            next += 1;
        }
        segments.push(bytes);
    }
    Memory(segments)
}

/// Gives the block at `at` a checksum that fits, as a header or as a record.
fn sign(bytes: &mut [u8], at: usize) {
    if at == 0 && bytes.len() >= BLOCK {
        let crc = crc32c::crc32c(&bytes[12..BLOCK]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    } else if let Some(record) = bytes.get_mut(at..).filter(|r| r.len() >= 128) {
        let len = u32::from_le_bytes([record[36], record[37], record[38], record[39]]) as usize;
        let end = len.saturating_add(128).min(record.len());
        let crc = crc32c::crc32c(&record[8..end]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

fuzz_target!(|data: &[u8]| {
    static HISTORY: OnceLock<Memory> = OnceLock::new();
    let mut memory = HISTORY.get_or_init(history).clone();
    let (from, edits) = data.split_first().unwrap_or((&0, &[]));
    for edit in edits.chunks_exact(5) {
        let bytes = &mut memory.0[edit[0] as usize % 3];
        if bytes.is_empty() {
            continue;
        }
        // Mostly in the heads, where the meaning is.
        let block = edit[1] as usize % (SEGMENT_BYTES / BLOCK) * BLOCK;
        let at = (block + edit[2] as usize % 160).min(bytes.len() - 1);
        bytes[at] = edit[3];
        match edit[4] % 8 {
            0 => bytes.truncate(at),
            1 => {}
            _ => sign(bytes, block),
        }
    }
    let from = (*from != 255).then_some(LogIndex(u64::from(*from)));
    if let Ok(recovered) = recover(&mut memory, 7, ServerId(1), from) {
        let mut next = recovered.base.0 .0;
        for entry in &recovered.entries {
            next += 1;
            assert_eq!(entry.index.0, next, "entries ascend without a gap");
        }
    }
});
