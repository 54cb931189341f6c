//! The walk through one segment: its records as far as their chain holds, and what the break behind them means.

use super::record::{NotARecord, Position, RecordHeader, Sequence, BLOCK};
use super::recover::{BreakReason, Cut, Damage, DamageReason};
use super::segment::SegmentHeader;
use crate::mutant::{self, Mutant};

/// The records of one segment, as far as the chain holds.
pub struct Walk {
    /// The records, in order.
    pub records: Vec<RecordHeader>,
    /// Where the last one ends.
    pub end: u64,
    /// The number of the record after it.
    pub next_sequence: Sequence,
    /// The checksum of the last record.
    pub crc: u32,
    /// What was cut, if the tail is torn.
    pub cut: Option<Cut>,
    /// Why the segment must not be used.
    pub damage: Option<Damage>,
}

impl Walk {
    /// Walks a segment. With a `limit` (another segment continues this one there) the chain must reach
    /// exactly so far.
    #[must_use]
    pub fn over(header: &SegmentHeader, bytes: &[u8], limit: Option<u64>) -> Walk {
        let mut walk = Walk {
            records: Vec::new(),
            end: BLOCK as u64,
            next_sequence: header.first_sequence,
            crc: header.prev_crc,
            cut: None,
            damage: None,
        };
        let reason = loop {
            if limit == Some(walk.end) {
                return walk;
            }
            match next_record(header, bytes, &walk) {
                Ok(record) => {
                    walk.end += record.padded_len();
                    walk.next_sequence = walk.next_sequence.next();
                    walk.crc = record.crc;
                    walk.records.push(record);
                }
                Err(reason) => break reason,
            }
        };
        if limit.is_some() {
            walk.damage = Some(walk.damaged(header, reason));
            return walk;
        }
        let mut torn = !matches!(reason, BreakReason::NotARecord(NotARecord::Zero | NotARecord::Short))
            || (walk.end as usize) < bytes.len() && reason == BreakReason::NotARecord(NotARecord::Short);
        for record in later_records(header, bytes, walk.end) {
            torn = true;
            if record.durable_upto >= walk.next_sequence && !mutant::is(Mutant::DamageCut) {
                walk.damage = Some(walk.damaged(header, reason));
                return walk;
            }
        }
        if torn {
            walk.cut =
                Some(Cut { segment: header.number, offset: walk.end, sequence: walk.next_sequence, reason });
        }
        walk
    }

    fn damaged(&self, header: &SegmentHeader, reason: BreakReason) -> Damage {
        Damage::new(header.number, self.end, self.next_sequence, DamageReason::Record(reason))
    }
}

/// The record at the end of the walk, if it is the one that follows.
fn next_record(header: &SegmentHeader, bytes: &[u8], walk: &Walk) -> Result<RecordHeader, BreakReason> {
    let rest = usize::try_from(walk.end).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
    let record = RecordHeader::decode(rest).map_err(BreakReason::NotARecord)?;
    let expected = Position {
        segment: header.number,
        salt: header.salt,
        offset: walk.end,
        sequence: walk.next_sequence,
        prev_crc: walk.crc,
    };
    if record.at != expected || record.durable_upto >= record.at.sequence {
        // What an earlier life of the file left behind is as good as nothing.
        let stale = record.at.salt != header.salt;
        return Err(if stale { BreakReason::NotARecord(NotARecord::Magic) } else { BreakReason::NotTheNext });
    }
    Ok(record)
}

/// Valid records of this segment behind a break. Place and salt are compared before the checksum, so that
/// payloads made to look like records cost nothing.
fn later_records<'b>(
    header: &'b SegmentHeader,
    bytes: &'b [u8],
    from: u64,
) -> impl Iterator<Item = RecordHeader> + 'b {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    (from..bytes.len()).step_by(BLOCK).filter_map(|at| {
        let rest = &bytes[at..];
        if !RecordHeader::claims(rest, Some(header.salt), at as u64, header.number) {
            return None;
        }
        RecordHeader::decode(rest).ok()
    })
}
