//! Recovery on bytes alone: every prefix, every torn sector, missing and foreign segments, and random
//! histories against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::record::{encode, padded_len};
use ringkeeper::log::{
    recover, Append, Continues, Damage, DamageReason, HardState, Kind, NotAHeader, Position, Recovered,
    SegmentHeader, SegmentNumber, Segments, Sequence, BLOCK,
};

const CLUSTER: u128 = 7;
const SERVER: ServerId = ServerId(1);

/// Segments in memory.
#[derive(Clone, Default)]
struct Memory(BTreeMap<u64, Vec<u8>>);

impl Segments for Memory {
    type Bytes = Vec<u8>;

    fn list(&mut self) -> Result<Vec<SegmentNumber>, String> {
        Ok(self.0.keys().map(|n| SegmentNumber(*n)).collect())
    }

    fn head(&mut self, segment: SegmentNumber, len: usize) -> Result<Vec<u8>, String> {
        let bytes = &self.0[&segment.0];
        Ok(bytes[..len.min(bytes.len())].to_vec())
    }

    fn bytes(&mut self, segment: SegmentNumber, _sealed: bool) -> Result<Vec<u8>, String> {
        Ok(self.0[&segment.0].clone())
    }

    fn bytes_again(&mut self, segment: SegmentNumber) -> Result<Vec<u8>, String> {
        Ok(self.0[&segment.0].clone())
    }
}

/// Where a record was put.
#[derive(Clone, Copy, Debug)]
struct Put {
    segment: u64,
    offset: usize,
    len: usize,
    payload_len: usize,
    durable_upto: u64,
}

/// A writer that only knows the format.
struct Writer {
    memory: Memory,
    header: SegmentHeader,
    offset: usize,
    segment_bytes: usize,
    next: Sequence,
    crc: u32,
    hard_state: HardState,
    last: (u64, u64),
    puts: Vec<Put>,
}

impl Writer {
    fn new(segment_bytes: usize) -> Writer {
        let header = SegmentHeader {
            cluster: CLUSTER,
            server: SERVER,
            number: SegmentNumber(1),
            salt: 1001,
            continues: None,
            first_sequence: Sequence(1),
            prev_crc: 0,
            hard_state: HardState::default(),
            first_index: LogIndex(1),
            prev_term: Term(0),
            announced: None,
            apply_version: 1,
            membership: b"m1".to_vec(),
        };
        let mut writer = Writer {
            memory: Memory::default(),
            header,
            offset: 0,
            segment_bytes,
            next: Sequence(1),
            crc: 0,
            hard_state: HardState::default(),
            last: (0, 0),
            puts: Vec::new(),
        };
        writer.place_header(0);
        writer
    }

    /// `stale`: what a recycled file holds.
    fn place_header(&mut self, stale: u8) {
        let mut bytes = vec![stale; self.segment_bytes];
        bytes[..BLOCK].copy_from_slice(&self.header.encode());
        self.memory.0.insert(self.header.number.0, bytes);
        self.offset = BLOCK;
    }

    fn roll(&mut self, stale: u8) {
        let number = self.header.number.next();
        self.header = SegmentHeader {
            number,
            salt: self.header.salt + 1,
            continues: Some(Continues { segment: self.header.number, offset: self.offset as u64 }),
            first_sequence: self.next,
            prev_crc: self.crc,
            hard_state: self.hard_state,
            first_index: LogIndex(self.last.0 + 1),
            prev_term: Term(self.last.1),
            membership: format!("m{}", number.0).into_bytes(),
            ..self.header.clone()
        };
        self.place_header(stale);
    }

    fn append(&mut self, append: &Append<'_>, durable_upto: u64) {
        let len = padded_len(append.payload_len());
        if self.offset + len > self.segment_bytes {
            self.roll(0);
        }
        let at = Position {
            segment: self.header.number,
            salt: self.header.salt,
            offset: self.offset as u64,
            sequence: self.next,
            prev_crc: self.crc,
        };
        let durable_upto = durable_upto.max(self.header.first_sequence.0 - 1);
        let bytes = self.memory.0.get_mut(&self.header.number.0).unwrap();
        let record = encode(append, at, Sequence(durable_upto), &mut bytes[self.offset..]);
        self.puts.push(Put {
            segment: self.header.number.0,
            offset: self.offset,
            len,
            payload_len: append.payload_len(),
            durable_upto,
        });
        self.offset += len;
        self.crc = record.crc;
        self.next = self.next.next();
        self.hard_state = append.hard_state;
        match append.kind {
            Kind::Entry => self.last = (append.index.0, append.term.0),
            Kind::HardState | Kind::Empty => {}
        }
    }

    fn entry(&mut self, index: u64, term: u64, commit: u64, payload: &[u8], durable_upto: u64) {
        let hard_state = HardState { term: Term(term), vote: 1, commit: LogIndex(commit) };
        let zxids = (Zxid(index as i64), Zxid(index as i64));
        let pieces = [payload];
        let append = Append::entry(0, Term(term), LogIndex(index), zxids, hard_state, &pieces);
        self.append(&append, durable_upto);
    }
}

fn read(memory: &Memory, from: u64) -> Result<Recovered, Damage> {
    recover(&mut memory.clone(), CLUSTER, SERVER, Some(LogIndex(from)))
}

fn last_of(memory: &Memory) -> Result<u64, DamageReason> {
    read(memory, 0).map(|r| r.last().0 .0).map_err(|d| d.reason)
}

/// Ten records of one to three blocks, at most four in flight: record n was submitted when n - 4 was durable.
fn ten() -> Writer {
    let mut writer = Writer::new(40 * BLOCK);
    for index in 1..=10u64 {
        let payload = vec![index as u8; (index as usize % 3) * 4000];
        writer.entry(index, 1, index.saturating_sub(5), &payload, index.saturating_sub(4));
    }
    writer
}

#[test]
fn every_prefix_of_the_file_is_a_prefix_of_the_history() {
    let writer = ten();
    let whole = &writer.memory.0[&1];
    let used = writer.offset;
    for cut in (0..=used).step_by(512) {
        for zeros in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                bytes.resize(whole.len(), 0);
            }
            let there = writer.puts.iter().filter(|p| p.offset + 128 + p.payload_len <= cut).count() as u64;
            let memory = Memory([(1, bytes)].into());
            let found = last_of(&memory);
            assert_eq!(found, Ok(there), "cut at {cut}, zeros {zeros}");
        }
    }
}

#[test]
fn every_torn_sector_is_cut_if_unacknowledged_and_damage_if_not() {
    let writer = ten();
    for (n, put) in writer.puts.iter().enumerate() {
        let sequence = n as u64 + 1;
        let acknowledged = writer.puts[n + 1..].iter().any(|later| later.durable_upto >= sequence);
        for sector in (put.offset..put.offset + put.len).step_by(512) {
            for junk in [0u8, 0xA5] {
                let mut memory = writer.memory.clone();
                let bytes = memory.0.get_mut(&1).unwrap();
                if bytes[sector..sector + 512].iter().all(|b| *b == junk) {
                    continue;
                }
                bytes[sector..sector + 512].fill(junk);
                let found = last_of(&memory);
                let name = format!("record {sequence}, sector {sector}, junk {junk}");
                if sector >= put.offset + 128 + put.payload_len {
                    assert_eq!(found, Ok(10), "{name}: padding means nothing");
                } else if acknowledged {
                    assert!(matches!(found, Err(DamageReason::Record(_))), "{name}: {found:?}");
                } else {
                    assert_eq!(found, Ok(sequence - 1), "{name}");
                }
            }
        }
    }
}

#[test]
fn holes_among_the_writes_in_flight_are_cut_at_the_first() {
    let writer = ten();
    // Records 7 to 10 were in flight: any of them may be missing.
    for mask in 0u32..16 {
        let mut memory = writer.memory.clone();
        let bytes = memory.0.get_mut(&1).unwrap();
        for (i, put) in writer.puts[6..].iter().enumerate() {
            if mask >> i & 1 == 1 {
                bytes[put.offset..put.offset + put.len].fill(0);
            }
        }
        let recovered = read(&memory, 0).unwrap();
        let first = if mask == 0 { 10 } else { 6 + u64::from(mask.trailing_zeros()) };
        assert_eq!(recovered.last().0 .0, first, "mask {mask:04b}");
        assert_eq!(recovered.tail.unwrap().next_sequence, Sequence(first + 1));
        let later_survives =
            mask != 0 && (mask >> mask.trailing_zeros()).count_ones() < 4 - mask.trailing_zeros();
        assert_eq!(recovered.cut.is_some(), later_survives, "mask {mask:04b}");
    }
}

#[test]
fn segments_that_are_missing_foreign_or_wait_for_use_are_told_apart() {
    let mut writer = Writer::new(6 * BLOCK);
    for index in 1..=20 {
        writer.entry(index, 1, index - 1, b"payload", index - 1);
    }
    let memory = writer.memory.clone();
    assert_eq!(memory.0.len(), 4);
    let whole = read(&memory, 0).unwrap();
    assert_eq!((whole.last().0, whole.membership), (LogIndex(20), b"m4".to_vec()));

    let mut gap = memory.clone();
    gap.0.remove(&2);
    assert_eq!(last_of(&gap), Err(DamageReason::MissingSegment));
    assert_eq!(read(&gap, 0).unwrap_err().segment, SegmentNumber(2));
    // With a snapshot behind the gap nothing is missing.
    assert_eq!(read(&gap, 12).unwrap().last().0, LogIndex(20));

    let mut purged = memory.clone();
    purged.0.remove(&1);
    let reason = DamageReason::BeginsAfter { needed: LogIndex(1), first: LogIndex(6) };
    assert_eq!(last_of(&purged), Err(reason));
    assert_eq!(read(&purged, 5).unwrap().entries.len(), 15);

    let mut ahead = memory.clone();
    ahead.0.insert(5, vec![0; 6 * BLOCK]);
    assert_eq!(last_of(&ahead), Ok(20), "a zeroed segment waits for use");
    ahead.0.insert(5, memory.0[&1].clone());
    assert_eq!(last_of(&ahead), Ok(20), "a recycled one too");
    // Of that life is also what a client wrote into a value that reads like a record of this one: no start refuses for it.
    let old = ahead.0.get_mut(&5).unwrap();
    for at in (2 * BLOCK..6 * BLOCK).step_by(BLOCK) {
        let segment = SegmentNumber(5);
        let at = Position { segment, salt: 9, offset: at as u64, sequence: Sequence(21), prev_crc: 0 };
        let forged = Append::empty(HardState::default());
        encode(&forged, at, Sequence(20), &mut old[at.offset as usize..]);
    }
    assert_eq!(last_of(&ahead), Ok(20), "a recycled one with a forged record");
    // But what stands in the first place this life has put there, and its header was lost.
    let mut lost = writer.memory.clone();
    lost.0.get_mut(&4).unwrap()[..BLOCK].copy_from_slice(&memory.0[&1][..BLOCK]);
    assert_eq!(last_of(&lost), Err(DamageReason::Header(NotAHeader::Recycled)));
    ahead.0.insert(5, Vec::new());
    assert_eq!(last_of(&ahead), Ok(20), "and an empty file");

    let mut headless = memory.clone();
    headless.0.get_mut(&4).unwrap()[50] ^= 1;
    assert!(
        matches!(last_of(&headless), Err(DamageReason::Header(_))),
        "records prove that there was a header"
    );
    let mut headless = memory.clone();
    headless.0.get_mut(&3).unwrap()[50] ^= 1;
    assert!(matches!(last_of(&headless), Err(DamageReason::Header(_))));

    let mut short = memory.clone();
    short.0.get_mut(&2).unwrap().truncate(3 * BLOCK);
    assert!(matches!(last_of(&short), Err(DamageReason::Record(_))), "a sealed segment was cut by someone");

    let foreign = recover(&mut memory.clone(), CLUSTER + 1, SERVER, Some(LogIndex(0))).unwrap_err();
    assert_eq!(foreign.reason, DamageReason::Foreign);
    let foreign = recover(&mut memory.clone(), CLUSTER, ServerId(2), Some(LogIndex(0))).unwrap_err();
    assert_eq!(foreign.reason, DamageReason::Foreign);
    assert_eq!(read(&Memory::default(), 0).unwrap(), Recovered::default());
}

#[test]
fn stale_records_of_a_recycled_file_never_come_back() {
    // The file held eight records of an earlier life at the very places that the new one uses.
    let mut old = Writer::new(12 * BLOCK);
    for index in 1..=8 {
        old.entry(index, 1, 0, b"old", 0);
    }
    let mut new = Writer::new(12 * BLOCK);
    new.header.salt = 5;
    new.place_header(0);
    let mut bytes = old.memory.0[&1].clone();
    bytes[..BLOCK].copy_from_slice(&new.header.encode());
    new.memory.0.insert(1, bytes);
    for index in 1..=3 {
        new.entry(index, 1, 0, b"new", index - 1);
    }
    let recovered = read(&new.memory, 0).unwrap();
    assert_eq!(recovered.last().0, LogIndex(3));
}

/// Three entries of term 1, then a segment that announces a snapshot.
fn announced(index: u64, term: u64) -> Writer {
    let mut writer = Writer::new(12 * BLOCK);
    for index in 1..=3 {
        writer.entry(index, 1, 0, b"x", index - 1);
    }
    writer.header.announced = Some((LogIndex(index), Term(term)));
    writer.roll(0);
    writer
}

#[test]
fn an_announced_snapshot_is_gone_on_behind_by_whoever_has_it() {
    // Index and term of the snapshot; where the log goes on with it, and how many entries are left.
    let rows = [
        ("beyond the log", (100, 4), (100, 4), 0),
        ("against the last entry", (3, 2), (3, 2), 0),
        ("against one in the middle", (2, 2), (2, 2), 0),
        ("held by the log", (2, 1), (0, 0), 3),
    ];
    for (name, (index, term), base, left) in rows {
        let mut writer = announced(index, term);
        writer.append(&Append::hard_state(HardState { term: Term(4), vote: 2, commit: LogIndex(1) }), 3);
        let old = read(&writer.memory, 0).unwrap();
        assert_eq!((old.base.0 .0, old.last().0 .0), (0, 3), "{name}: without the snapshot the log stands");
        assert_eq!(old.announced.is_some(), left == 0, "{name}");
        let new = read(&writer.memory, index).unwrap();
        assert_eq!((new.base.0 .0, new.base.1 .0), base, "{name}");
        assert_eq!(new.entries.len(), left, "{name}");
        assert_eq!((new.hard_state.term, new.hard_state.vote), (Term(4), 2), "{name}");
        let commit = if left == 0 { index } else { 1 };
        assert_eq!(new.hard_state.commit, LogIndex(commit), "{name}");
        assert_eq!(new.announced, None, "{name}: settled");
    }
    // Its term was seen, and nothing voted in.
    let mut writer = announced(100, 9);
    writer.append(&Append::hard_state(HardState { term: Term(4), vote: 2, commit: LogIndex(1) }), 3);
    let risen = HardState { term: Term(9), vote: 0, commit: LogIndex(100) };
    assert_eq!(read(&writer.memory, 100).unwrap().hard_state, risen);
    // Another snapshot than the one that was announced.
    assert_eq!(read(&announced(100, 4).memory, 99).unwrap().last().0, LogIndex(3));
    assert_eq!(read(&announced(100, 4).memory, 101).unwrap().last().0, LogIndex(3));
}

#[test]
fn a_segment_goes_on_behind_an_announced_snapshot_and_behind_no_other() {
    for (said, goes_on) in [((100, 4), true), ((100, 3), false), ((99, 4), false), ((0, 0), false)] {
        let mut writer = announced(said.0, said.1);
        writer.header.announced = None;
        writer.last = (100, 4);
        writer.hard_state = HardState { term: Term(4), vote: 3, commit: LogIndex(100) };
        writer.roll(0);
        writer.entry(101, 4, 100, b"y", 3);
        let all = recover(&mut writer.memory.clone(), CLUSTER, SERVER, None);
        if !goes_on {
            let want = "the segment follows neither the last entry nor an announced snapshot";
            assert_eq!(all.unwrap_err().reason, DamageReason::Contradiction(want), "{said:?}");
            continue;
        }
        let all = all.unwrap();
        assert_eq!((all.base, all.entries.len()), ((LogIndex(100), Term(4)), 1));
        assert_eq!(all.hard_state, writer.hard_state);
        // An earlier snapshot has nothing to go on with.
        let reason = DamageReason::BeginsAfter { needed: LogIndex(3), first: LogIndex(101) };
        assert_eq!(read(&writer.memory, 2).unwrap_err().reason, reason);
    }
}

#[test]
fn a_header_with_an_older_term_is_a_contradiction() {
    let mut writer = announced(100, 4);
    writer.append(&Append::hard_state(HardState { term: Term(7), vote: 2, commit: LogIndex(1) }), 3);
    writer.hard_state.term = Term(6);
    writer.roll(0);
    assert_eq!(last_of(&writer.memory), Err(DamageReason::Contradiction("its term is older")));
}

#[test]
fn contradictions_under_a_good_checksum_are_named() {
    let rows: [(&str, u64, u64, u64); 4] = [
        ("entries before it are missing", 5, 2, 2),
        ("it replaces a committed entry", 2, 3, 2),
        ("it replaces an entry, and not in a newer term", 3, 2, 2),
        ("its term is older", 4, 1, 2),
    ];
    for (want, index, term, commit) in rows {
        let mut writer = Writer::new(12 * BLOCK);
        for index in 1..=3 {
            writer.entry(index, 2, commit.min(index - 1), b"x", index - 1);
        }
        writer.entry(index, term, commit, b"x", 3);
        assert_eq!(last_of(&writer.memory), Err(DamageReason::Contradiction(want)));
    }
}

/// Server 1 led for a moment in term 5, without entry 2 of term 2, and wrote its own there. Then one who had it led in term 6.
#[test]
fn an_entry_is_replaced_by_an_older_one_in_a_newer_term() {
    let rows = [
        (2, 6, Ok(2)),
        (2, 5, Err("it replaces an entry, and not in a newer term")),
        (1, 6, Err("its entry's term is older")),
    ];
    for (term, now, want) in rows {
        let mut writer = Writer::new(12 * BLOCK);
        writer.entry(1, 2, 0, b"x", 0);
        writer.entry(2, 5, 1, b"of term 5", 1);
        let hard_state = HardState { term: Term(now), vote: 0, commit: LogIndex(1) };
        let append =
            Append::entry(0, Term(term), LogIndex(2), (Zxid(2), Zxid(2)), hard_state, &[b"of term 2"]);
        writer.append(&append, 2);
        let found = read(&writer.memory, 0).map(|found| found.last().1 .0).map_err(|damage| damage.reason);
        assert_eq!(found, want.map_err(DamageReason::Contradiction), "term {term} in {now}");
    }
}

#[test]
fn a_commit_behind_the_last_entry_is_taken_back_to_it() {
    let mut writer = Writer::new(12 * BLOCK);
    writer.entry(1, 1, 0, b"x", 0);
    // The entries that it counts were in flight beside it, and the power cut took them.
    writer.append(&Append::hard_state(HardState { term: Term(1), vote: 1, commit: LogIndex(3) }), 1);
    assert_eq!(read(&writer.memory, 0).unwrap().hard_state.commit, LogIndex(1));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    Entry { len: usize },
    Replace { back: u64 },
    HardState,
    Roll { stale: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..9000).prop_map(|len| Op::Entry { len }),
        1 => (1u64..4).prop_map(|back| Op::Replace { back }),
        1 => Just(Op::HardState),
        1 => any::<u8>().prop_map(|stale| Op::Roll { stale }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// A random history, of whose last records (at most four in flight) a random part is torn.
    #[test]
    fn what_comes_back_is_the_models_prefix(
        ops in proptest::collection::vec(op(), 1..60),
        torn in proptest::collection::vec(any::<bool>(), 4),
        at in proptest::collection::vec(any::<proptest::sample::Index>(), 4),
    ) {
        let mut writer = Writer::new(10 * BLOCK);
        // The entries after each record.
        let mut states: Vec<Vec<(u64, u64)>> = vec![Vec::new()];
        let (mut model, mut term, mut commit) = (Vec::<(u64, u64)>::new(), 1, 0);
        for op in &ops {
            let durable = writer.next.0.saturating_sub(4);
            let index = model.len() as u64 + 1;
            match op {
                Op::Entry { len } => {
                    commit = commit.max((model.len() as u64).saturating_sub(3)).min(model.len() as u64);
                    writer.entry(index, term, commit, &vec![index as u8; *len], durable);
                    model.push((index, term));
                }
                Op::Replace { back } => {
                    let index = (index.saturating_sub(*back)).max(commit + 1);
                    term += 1;
                    writer.entry(index, term, commit, b"replaced", durable);
                    model.truncate(index as usize - 1);
                    model.push((index, term));
                }
                Op::HardState => {
                    term += 1;
                    let hard_state = HardState { term: Term(term), vote: 2, commit: LogIndex(commit) };
                    writer.append(&Append::hard_state(hard_state), durable);
                }
                Op::Roll { stale } => {
                    writer.roll(*stale);
                    continue;
                }
            }
            states.push(model.clone());
        }
        let mut memory = writer.memory.clone();
        // Only records of the last segment can have been in flight.
        let records = states.len() - 1;
        let sealed = writer.header.first_sequence.0 as usize - 1;
        let mut first_torn = records;
        for (i, torn) in torn.iter().enumerate() {
            let Some(n) = (records + i).checked_sub(4).filter(|n| *n >= sealed && *torn) else { continue };
            let put = writer.puts[n];
            let meaning = 128 + put.payload_len;
            let sector = at[i].index(meaning.div_ceil(512)) * 512;
            let bytes = memory.0.get_mut(&put.segment).unwrap();
            let sector = &mut bytes[put.offset + sector..put.offset + (sector + 512).min(put.len)];
            // A sector that happens to hold what it held before is not torn.
            sector.iter_mut().for_each(|b| *b = !*b);
            first_torn = first_torn.min(n);
        }
        let recovered = read(&memory, 0).expect("a torn tail is no damage");
        let found: Vec<_> = recovered.entries.iter().map(|e| (e.index.0, e.term.0)).collect();
        prop_assert_eq!(&found, &states[first_torn]);
        prop_assert_eq!(recovered.tail.unwrap().next_sequence, Sequence(first_torn as u64 + 1));
    }

    /// Whatever the bytes, recovery ends and does not panic.
    #[test]
    fn no_bytes_make_recovery_panic(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<proptest::sample::Index>(),
        segment in 1u64..4,
    ) {
        let mut writer = Writer::new(8 * BLOCK);
        for index in 1..=18 {
            writer.entry(index, 1, index - 1, b"payload", index - 1);
        }
        let mut memory = writer.memory.clone();
        let bytes = memory.0.get_mut(&segment).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let cut = cut.index(bytes.len());
        if cut % 2 == 0 {
            bytes.truncate(cut);
        }
        let _ = read(&memory, 0);
        let _ = read(&memory, 9);
        let _ = recover(&mut memory, CLUSTER, SERVER, None);
    }
}
