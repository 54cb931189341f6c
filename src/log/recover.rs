//! Where the truth ends: walks the segments, tells a torn tail from damage, and lists what survives.
//!
//! A chain that breaks inside a segment that another one continues is damage: that header was written
//! after all before it was durable. In the last segment it is damage when a later valid record says that
//! the missing one was durable; otherwise the power went while it was in flight, and it is cut.

use std::fmt;

use crate::ids::{LogIndex, ServerId, Term};

use super::record::{EntryRef, HardState, Kind, NotARecord, RecordHeader, Sequence, BLOCK};
use super::segment::{NotAHeader, SegmentHeader, SegmentNumber};
use super::walk::Walk;

/// How far into an unused segment recovery looks for records whose header was lost. The first record
/// begins at the second block, and a segment whose first record is not durable has lost nothing. Where a longer record
/// begins all of it is looked at.
const PROBE: usize = 1 << 20;

/// What recovery reads: the segments of one server.
pub trait Segments {
    /// The bytes of one segment.
    type Bytes: AsRef<[u8]>;

    /// The segments that there are, ascending.
    fn list(&mut self) -> Result<Vec<SegmentNumber>, String>;

    /// The head of a segment: at most `len` bytes.
    fn head(&mut self, segment: SegmentNumber, len: usize) -> Result<Vec<u8>, String>;

    /// All of it. `sealed` segments are not written any more and may be mapped.
    fn bytes(&mut self, segment: SegmentNumber, sealed: bool) -> Result<Self::Bytes, String>;

    /// All of it, past every cache: before anything is called damage it is read again this way.
    fn bytes_again(&mut self, segment: SegmentNumber) -> Result<Self::Bytes, String>;
}

/// What survives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Entries by ascending index without a gap, replaced suffixes gone.
    pub entries: Vec<EntryRef>,
    /// The newest hard state; its commit never points behind the last entry.
    pub hard_state: HardState,
    /// What the first entry follows.
    pub base: (LogIndex, Term),
    /// The newest membership that a header holds.
    pub membership: Vec<u8>,
    /// The newest version of apply's rules.
    pub apply_version: u32,
    /// The snapshot that was announced and that the log has not got to.
    pub announced: Option<(LogIndex, Term)>,
    /// Where the log goes on; nothing when there is no log yet.
    pub tail: Option<Tail>,
    /// The torn tail that was cut.
    pub cut: Option<Cut>,
    /// Every segment in use, ascending, those included that were not read.
    pub segments: Vec<SegmentHeader>,
    /// What an operator may want to know.
    pub notes: Vec<String>,
}

impl Recovered {
    /// The last index and its term.
    #[must_use]
    pub fn last(&self) -> (LogIndex, Term) {
        self.entries.last().map_or(self.base, |e| (e.index, e.term))
    }
}

/// The end of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The last segment.
    pub segment: SegmentNumber,
    /// Where its last record ends.
    pub offset: u64,
    /// The number that the next record takes.
    pub next_sequence: Sequence,
    /// The checksum of the last record.
    pub crc: u32,
}

/// Unacknowledged writes that the power cut tore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment.
    pub segment: SegmentNumber,
    /// Where it was cut.
    pub offset: u64,
    /// The record that is missing there.
    pub sequence: Sequence,
    /// What stands there instead.
    pub reason: BreakReason,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unacknowledged tail cut: segment {:016x}, offset {}, record {}: {}",
            self.segment.0, self.offset, self.sequence.0, self.reason
        )
    }
}

/// Why the chain stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakReason {
    /// The bytes are not a record.
    NotARecord(NotARecord),
    /// A valid record, but not the one that follows here.
    NotTheNext,
}

impl fmt::Display for BreakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BreakReason::NotARecord(NotARecord::Short) => "the file ends inside it",
            BreakReason::NotARecord(NotARecord::Zero) => "zeros stand in its place",
            BreakReason::NotARecord(NotARecord::Magic) => "other bytes stand in its place",
            BreakReason::NotARecord(NotARecord::Length) => "its length is impossible",
            BreakReason::NotARecord(NotARecord::Checksum) => "its checksum does not fit its bytes",
            BreakReason::NotARecord(NotARecord::Kind) => "its kind is unknown to this release",
            BreakReason::NotTheNext => "another record stands in its place",
        })
    }
}

/// Acknowledged history that cannot be read: this server must not vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentNumber,
    /// Where in it.
    pub offset: u64,
    /// The first record that is missing; zero when unknown.
    pub sequence: Sequence,
    /// Why.
    pub reason: DamageReason,
}

/// Why it is damage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DamageReason {
    /// A record is broken, and a later record or segment says that it was durable.
    Record(BreakReason),
    /// The segment holds records but its header is broken.
    Header(NotAHeader),
    /// The header names another predecessor than the segment before it.
    Chain,
    /// A segment between others is not there.
    MissingSegment,
    /// Nothing is there although the data directory says that a log was begun.
    NoLog,
    /// The log begins after the entry that is needed.
    BeginsAfter {
        /// The first entry that the snapshot does not hold.
        needed: LogIndex,
        /// The first entry of the log.
        first: LogIndex,
    },
    /// The log ends before the entry that a snapshot holds, though that was durable.
    EndsBefore {
        /// The last entry that the snapshot holds.
        held: LogIndex,
        /// The last entry of the log.
        last: LogIndex,
    },
    /// Another cluster's or server's segment.
    Foreign,
    /// Written by a release with another format.
    Format(u32),
    /// A valid record that contradicts those before it.
    Contradiction(&'static str),
    /// The file cannot be read.
    Unreadable(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log segment {:016x}, offset {}, record {}: ",
            self.segment.0, self.offset, self.sequence.0
        )?;
        match &self.reason {
            DamageReason::Record(why) => write!(f, "an acknowledged record is damaged: {why}"),
            DamageReason::Header(_) => f.write_str("the segment's header is damaged, but records follow it"),
            DamageReason::Chain => f.write_str("the header does not continue the segment before it"),
            DamageReason::MissingSegment => {
                f.write_str("the segment is missing, but a later one continues it")
            }
            DamageReason::NoLog => f.write_str("no segment is left of a log that was begun"),
            DamageReason::BeginsAfter { needed, first } => {
                write!(f, "entry {} is needed, but the log begins at {}", needed.0, first.0)
            }
            DamageReason::EndsBefore { held, last } => {
                write!(
                    f,
                    "the log ends at entry {}, but a snapshot holds entry {}: its tail is lost",
                    last.0, held.0
                )
            }
            DamageReason::Foreign => f.write_str("the segment belongs to another cluster or server"),
            DamageReason::Format(v) => {
                write!(f, "format {v} is not known to this release: start the release that wrote it")
            }
            DamageReason::Contradiction(what) => write!(f, "the record contradicts its predecessors: {what}"),
            DamageReason::Unreadable(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

impl Damage {
    pub(super) fn new(
        segment: SegmentNumber,
        offset: u64,
        sequence: Sequence,
        reason: DamageReason,
    ) -> Damage {
        Damage { segment, offset, sequence, reason }
    }

    fn of_segment(segment: SegmentNumber, reason: DamageReason) -> Damage {
        Damage::new(segment, 0, Sequence(0), reason)
    }
}

/// Reads the log. `from` is the index of the snapshot that the caller has (0 without one): segments that
/// hold only earlier entries are not read. `None` reads everything, for `verify`.
pub fn recover<S: Segments>(
    source: &mut S,
    cluster: u128,
    server: ServerId,
    from: Option<LogIndex>,
) -> Result<Recovered, Damage> {
    let numbers =
        source.list().map_err(|why| Damage::of_segment(SegmentNumber(0), DamageReason::Unreadable(why)))?;
    let mut heads = Vec::with_capacity(numbers.len());
    for number in numbers {
        heads.push((number, classify_head(source, number, cluster, server)?));
    }
    let Some(last) = heads.iter().rposition(|(_, head)| head.is_ok()) else {
        // No header is valid: a fresh directory, unless records say otherwise.
        probe_unused(source, &heads)?;
        return Ok(Recovered::default());
    };
    probe_unused(source, &heads[last + 1..])?;

    let first = first_needed(&heads[..=last], from)?;
    let mut recovered = Recovered::default();
    for (number, head) in &heads[..first] {
        match head {
            Ok(header) => recovered.segments.push(header.clone()),
            Err(why) => recovered.notes.push(format!(
                "log segment {:016x}: damaged header ({why:?}) in a part that the snapshot covers",
                number.0
            )),
        }
    }
    let mut fold = Fold::default();
    let mut expected: Option<SegmentNumber> = None;
    for i in first..=last {
        let (number, head) = &heads[i];
        if let Some(missing) = expected.filter(|e| e != number) {
            return Err(Damage::of_segment(missing, DamageReason::MissingSegment));
        }
        let header = head.as_ref().map_err(|why| Damage::of_segment(*number, DamageReason::Header(*why)))?;
        let next = (i < last).then(|| &heads[i + 1]);
        let limit = match next {
            None => None,
            Some((n, Ok(next))) => {
                let Some(c) = next.continues.filter(|c| c.segment.next() == *n) else {
                    return Err(Damage::of_segment(*n, DamageReason::Chain));
                };
                if c.segment != *number {
                    return Err(Damage::of_segment(c.segment, DamageReason::MissingSegment));
                }
                Some(c.offset)
            }
            Some((n, Err(why))) => return Err(Damage::of_segment(*n, DamageReason::Header(*why))),
        };
        fold.segment(source, header, limit)?;
        recovered.segments.push(header.clone());
        expected = Some(number.next());
    }
    fold.finish(from, &mut recovered);
    match from {
        Some(from) if recovered.base.0 > from => {
            // A log that goes on behind a later snapshot is of no use to an earlier one.
            let last = recovered.segments.last().expect("the last header is valid");
            let (needed, first) = (LogIndex(from.0 + 1), LogIndex(recovered.base.0 .0 + 1));
            Err(Damage::of_segment(last.number, DamageReason::BeginsAfter { needed, first }))
        }
        _ => Ok(recovered),
    }
}

/// The header of one segment, or why it is none. Foreign segments and formats end the recovery.
fn classify_head<S: Segments>(
    source: &mut S,
    number: SegmentNumber,
    cluster: u128,
    server: ServerId,
) -> Result<Result<SegmentHeader, NotAHeader>, Damage> {
    let block = source
        .head(number, BLOCK)
        .map_err(|why| Damage::of_segment(number, DamageReason::Unreadable(why)))?;
    match SegmentHeader::decode(&block) {
        Ok(header) if header.cluster != cluster || header.server != server => {
            Err(Damage::of_segment(number, DamageReason::Foreign))
        }
        Ok(header) if header.number != number => Ok(Err(NotAHeader::Recycled)),
        Ok(header) => Ok(Ok(header)),
        Err(NotAHeader::Format(version)) => Err(Damage::of_segment(number, DamageReason::Format(version))),
        Err(why) => Ok(Err(why)),
    }
}

type Head = (SegmentNumber, Result<SegmentHeader, NotAHeader>);

/// No record goes to a segment before its header is durable. A record of this very segment therefore
/// proves that there was a header.
fn probe_unused<S: Segments>(source: &mut S, heads: &[Head]) -> Result<(), Damage> {
    for (number, head) in heads {
        let Err(why) = head else { continue };
        let unreadable = |why| Damage::of_segment(*number, DamageReason::Unreadable(why));
        // Behind a whole header of another life lie that life's payloads: a client may have put there what reads like a record
        // of this one. Not in the first place behind a header, where a record begins in every life.
        let probed = if *why == NotAHeader::Recycled { 2 * BLOCK } else { PROBE };
        let bytes = source.head(*number, probed).map_err(unreadable)?;
        for at in (BLOCK..bytes.len()).step_by(BLOCK) {
            let rest = &bytes[at..];
            if !RecordHeader::claims(rest, None, at as u64, *number) {
                continue;
            }
            let is_record = match RecordHeader::decode(rest) {
                Err(NotARecord::Short) => {
                    let all = source.bytes(*number, true).map_err(unreadable)?;
                    all.as_ref().get(at..).is_some_and(|rest| RecordHeader::decode(rest).is_ok())
                }
                known => known.is_ok(),
            };
            if is_record {
                return Err(Damage::of_segment(*number, DamageReason::Header(*why)));
            }
        }
    }
    Ok(())
}

/// The segment to begin at: the last one that begins at or before the first entry that is needed.
fn first_needed(heads: &[Head], from: Option<LogIndex>) -> Result<usize, Damage> {
    let mut valid = heads.iter().enumerate().filter_map(|(i, (n, h))| h.as_ref().ok().map(|h| (i, *n, h)));
    let Some(from) = from else {
        // Everything, the oldest header included even if it is broken.
        return Ok(0);
    };
    let needed = LogIndex(from.0.saturating_add(1));
    let fits = valid.clone().rev().find(|(_, _, h)| h.first_index <= needed);
    if let Some((i, _, _)) = fits {
        return Ok(i);
    }
    let (_, number, oldest) = valid.next().expect("the last header is valid");
    let reason = DamageReason::BeginsAfter { needed, first: oldest.first_index };
    Err(Damage::of_segment(number, reason))
}

/// The state of the walk.
#[derive(Default)]
struct Fold {
    begun: bool,
    entries: Vec<EntryRef>,
    hard_state: HardState,
    base: (LogIndex, Term),
    membership: Vec<u8>,
    apply_version: u32,
    announced: Option<(LogIndex, Term)>,
    next_sequence: Sequence,
    crc: u32,
    tail: Option<Tail>,
    cut: Option<Cut>,
}

impl Fold {
    fn segment<S: Segments>(
        &mut self,
        source: &mut S,
        header: &SegmentHeader,
        limit: Option<u64>,
    ) -> Result<(), Damage> {
        if self.begun && (header.first_sequence != self.next_sequence || header.prev_crc != self.crc) {
            return Err(Damage::new(header.number, 0, self.next_sequence, DamageReason::Chain));
        }
        self.base_of(header)?;
        let unreadable = |why| Damage::of_segment(header.number, DamageReason::Unreadable(why));
        let bytes = source.bytes(header.number, limit.is_some()).map_err(unreadable)?;
        let mut walk = Walk::over(header, bytes.as_ref(), limit);
        if walk.damage.is_some() {
            drop(bytes);
            let bytes = source.bytes_again(header.number).map_err(unreadable)?;
            walk = Walk::over(header, bytes.as_ref(), limit);
        }
        if let Some(damage) = walk.damage {
            return Err(damage);
        }
        self.hard_state = header.hard_state;
        self.membership.clone_from(&header.membership);
        self.apply_version = header.apply_version;
        self.announced = header.announced;
        for record in &walk.records {
            self.record(record)?;
        }
        self.next_sequence = walk.next_sequence;
        self.crc = walk.crc;
        self.cut = walk.cut;
        self.tail = Some(Tail {
            segment: header.number,
            offset: walk.end,
            next_sequence: walk.next_sequence,
            crc: walk.crc,
        });
        Ok(())
    }

    /// What the segment's first entry follows: the last one before, or a snapshot that was announced there.
    fn base_of(&mut self, header: &SegmentHeader) -> Result<(), Damage> {
        let base = (LogIndex(header.first_index.0 - 1), header.prev_term);
        let contradiction = |what| {
            let reason = DamageReason::Contradiction(what);
            Err(Damage::new(header.number, 0, header.first_sequence, reason))
        };
        if !self.begun {
            self.begun = true;
            self.base = base;
        } else if base != self.last() {
            if self.announced != Some(base) {
                return contradiction("the segment follows neither the last entry nor an announced snapshot");
            }
            self.entries.clear();
            self.base = base;
        }
        if header.hard_state.term < self.hard_state.term {
            return contradiction("its term is older");
        }
        Ok(())
    }

    fn last(&self) -> (LogIndex, Term) {
        self.entries.last().map_or(self.base, |e| (e.index, e.term))
    }

    /// Whether the log has got to this entry, or far beyond it.
    fn holds(&self, (index, term): (LogIndex, Term)) -> bool {
        let Some(after) = index.0.checked_sub(self.base.0 .0) else { return true };
        let found = match usize::try_from(after) {
            Ok(0) => Some(self.base.1),
            Ok(after) => self.entries.get(after - 1).map(|e| e.term),
            Err(_) => None,
        };
        found == Some(term)
    }

    fn record(&mut self, record: &RecordHeader) -> Result<(), Damage> {
        let contradiction = |what| {
            let at = record.at;
            Err(Damage::new(at.segment, at.offset, at.sequence, DamageReason::Contradiction(what)))
        };
        if record.hard_state.term < self.hard_state.term {
            return contradiction("its term is older");
        }
        match record.kind {
            Kind::HardState | Kind::Empty => {}
            Kind::Entry => {
                let (last, last_term) = self.last();
                if record.index.0 > last.0.saturating_add(1) {
                    return contradiction("entries before it are missing");
                }
                if record.index <= last {
                    // A new leader replaces what an old one could not commit.
                    if record.index <= self.hard_state.commit {
                        return contradiction("it replaces a committed entry");
                    }
                    if record.index <= self.base.0 {
                        // Also entries of segments that were not read. They were committed later, in this
                        // new form: the snapshot holds them, or those segments would have been read.
                        self.entries.clear();
                        self.base = (record.index, record.term);
                        self.hard_state = record.hard_state;
                        return Ok(());
                    }
                    let keep = (record.index.0 - self.base.0 .0 - 1) as usize;
                    // A leader never replaces its own. What it puts there may be older than what it finds: an entry that was
                    // there before, and that the leader of a short reign did not have.
                    if record.hard_state.term <= self.entries[keep].term {
                        return contradiction("it replaces an entry, and not in a newer term");
                    }
                    self.entries.truncate(keep);
                    if record.term < self.last().1 {
                        return contradiction("its entry's term is older");
                    }
                } else if record.term < last_term {
                    return contradiction("its entry's term is older");
                }
                self.entries.push(record.entry_ref());
            }
        }
        self.hard_state = record.hard_state;
        Ok(())
    }

    fn finish(mut self, from: Option<LogIndex>, recovered: &mut Recovered) {
        let announced = self.announced.filter(|snapshot| !self.holds(*snapshot));
        recovered.announced = announced;
        if let Some((index, term)) = announced.filter(|(index, _)| from == Some(*index)) {
            // The snapshot came, and then the power went, or the process was killed. All entries up to it are in it, and
            // what follows an entry that it contradicts was never committed.
            recovered.notes.push(format!(
                "it ends at entry {}, and goes on behind the snapshot that was received, at entry {}",
                self.last().0 .0,
                index.0
            ));
            recovered.announced = None;
            self.entries.clear();
            self.base = (index, term);
            self.hard_state.commit = self.hard_state.commit.max(index);
            if self.hard_state.term < term {
                // Whoever has an entry of a term has seen the term. A vote in it would be here.
                self.hard_state = HardState { term, vote: 0, ..self.hard_state };
            }
        }
        recovered.entries = self.entries;
        recovered.hard_state = self.hard_state;
        recovered.base = self.base;
        recovered.membership = self.membership;
        recovered.apply_version = self.apply_version;
        recovered.tail = self.tail;
        recovered.cut = self.cut;
        // Raft takes a commit behind the last entry for a lost log. It can only be a torn tail here.
        let last = recovered.last().0;
        recovered.hard_state.commit = recovered.hard_state.commit.min(last);
    }
}
