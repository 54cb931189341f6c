//! The log of one server: takes records, says how far they are durable, reads them back, rolls, purges.
//!
//! At most `IN_FLIGHT_MAX` writes are under way; they end in any order and count in order. A segment's
//! header is written when nothing is in flight, so it vouches for all before it. After the first failed or
//! short write nothing is written any more.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::{Backend, Completion};
use super::buffer::AlignedBuf;
use super::fault::{DiskFault, FaultKind, SubmitError};
use super::file::{Disk, FileBytes, LogFile};
use super::pool::{segment_path, Pool};
use super::space::Space;
use crate::ids::{LogIndex, ServerId, Term};
use crate::log::record::{encode, padded_len};
use crate::log::segment::MEMBERSHIP_BYTES_MAX;
use crate::log::{
    Append, Continues, EntryRef, HardState, Kind, Position, RecordHeader, SegmentHeader, SegmentNumber,
    Sequence, BLOCK, PAYLOAD_BYTES_MAX,
};

/// Writes under way at once. Four give 2.4 times the throughput of one at 1.65 times the latency.
pub const IN_FLIGHT_MAX: usize = 4;

/// Bytes of a write that holds more than one record, at the most.
const WRITE_BYTES: usize = 1 << 20;

/// Buffers up to this size are kept for the next write.
const KEPT_BUFFER_BYTES_MAX: usize = 1 << 20;

/// What a wait brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waited {
    /// The wake-up descriptor was readable. It is not drained here.
    pub woken: bool,
}

/// The segment that is being written.
pub(super) struct Active {
    pub(super) number: SegmentNumber,
    pub(super) salt: u64,
    pub(super) file: Arc<LogFile>,
    /// Where the next record goes.
    pub(super) offset: u64,
    pub(super) capacity: u64,
    pub(super) first_index: LogIndex,
}

/// A segment that is not written any more.
#[derive(Clone, Copy)]
pub(super) struct Sealed {
    pub(super) number: SegmentNumber,
    pub(super) first_index: LogIndex,
}

/// A write under way: a record, or several.
struct InFlight {
    /// The last one's.
    sequence: Sequence,
    kind: Kind,
    offset: u64,
    len: usize,
    durable: bool,
}

/// The log.
pub struct Log {
    // First, so that it is dropped first: it waits for the writes in flight.
    pub(super) backend: Box<dyn Backend>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) cluster: u128,
    pub(super) server: ServerId,
    pub(super) segment_bytes: u64,
    pub(super) quiet: Duration,
    pub(super) pool: Pool,
    pub(super) space: Space,
    pub(super) active: Active,
    pub(super) sealed: VecDeque<Sealed>,
    /// Invariant: indices ascend without a gap from `base.0 + 1`.
    pub(super) entries: VecDeque<EntryRef>,
    pub(super) base: (LogIndex, Term),
    pub(super) hard_state: HardState,
    /// As in the header of the segment that is being written.
    pub(super) announced: Option<(LogIndex, Term)>,
    pub(super) membership: Vec<u8>,
    pub(super) apply_version: u32,
    pub(super) next_sequence: Sequence,
    appended_bytes: u64,
    pub(super) prev_crc: u32,
    /// All records up to this one are durable.
    pub(super) durable: Sequence,
    /// The newest durable record that is not empty.
    pub(super) durable_data: Sequence,
    /// The newest `durable_upto` that is itself durable: what `durable_data` catches up with when it is quiet.
    pub(super) covered: Sequence,
    pub(super) last_submit: Instant,
    /// Oldest first.
    in_flight: VecDeque<InFlight>,
    done: Vec<Completion>,
    buffers: Vec<AlignedBuf>,
    pub(super) mapped: Option<(SegmentNumber, FileBytes)>,
    fault: Option<DiskFault>,
}

/// What `open` hands over; the rest begins empty.
pub(super) struct Parts {
    pub(super) backend: Box<dyn Backend>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) cluster: u128,
    pub(super) server: ServerId,
    pub(super) segment_bytes: u64,
    pub(super) quiet: Duration,
    pub(super) pool: Pool,
    pub(super) space: Space,
    pub(super) active: Active,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) entries: VecDeque<EntryRef>,
    pub(super) base: (LogIndex, Term),
    pub(super) hard_state: HardState,
    /// As in the header of the segment that is being written.
    pub(super) announced: Option<(LogIndex, Term)>,
    pub(super) membership: Vec<u8>,
    pub(super) apply_version: u32,
    pub(super) next_sequence: Sequence,
    pub(super) prev_crc: u32,
}

impl Log {
    pub(super) fn from_parts(parts: Parts) -> Log {
        let durable = Sequence(parts.next_sequence.0 - 1);
        Log {
            backend: parts.backend,
            disk: parts.disk,
            dir: parts.dir,
            cluster: parts.cluster,
            server: parts.server,
            segment_bytes: parts.segment_bytes,
            quiet: parts.quiet,
            pool: parts.pool,
            space: parts.space,
            active: parts.active,
            sealed: parts.sealed,
            entries: parts.entries,
            base: parts.base,
            hard_state: parts.hard_state,
            announced: parts.announced,
            membership: parts.membership,
            apply_version: parts.apply_version,
            next_sequence: parts.next_sequence,
            appended_bytes: 0,
            prev_crc: parts.prev_crc,
            durable,
            durable_data: durable,
            // The header of the segment that was just begun covers all before it.
            covered: durable,
            last_submit: Instant::now(),
            in_flight: VecDeque::new(),
            done: Vec::new(),
            buffers: Vec::new(),
            mapped: None,
            fault: None,
        }
    }

    /// Which driver writes, for the line at start.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.backend.name()
    }

    /// Whether a record would be taken now.
    #[must_use]
    pub fn can_submit(&self) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX && self.fault.is_none()
    }

    /// The largest payload that a segment takes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        let room = usize::try_from(self.segment_bytes).unwrap_or(usize::MAX) - 2 * BLOCK;
        PAYLOAD_BYTES_MAX.min(room)
    }

    /// Starts writing a record. It is durable when `durable` reaches the number returned. At the end of a
    /// segment this waits for the writes in flight and for one header, some 0.3 ms.
    pub fn submit(&mut self, append: &Append<'_>) -> Result<Sequence, SubmitError> {
        self.submit_all(std::slice::from_ref(append)).map(|(_, last)| last)
    }

    /// Starts writing records, from the first on, as many as go into one write (`WRITE_BYTES`, or a single record; the rest
    /// of the segment): one wait for the disk, however many. Returns how many there are, at least one, and the last
    /// one's number.
    pub fn submit_all(&mut self, appends: &[Append<'_>]) -> Result<(usize, Sequence), SubmitError> {
        self.check_fault()?;
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return Err(SubmitError::Full);
        }
        let first = appends.first().expect("something is written");
        if first.payload_len() > self.payload_bytes_max() {
            return Err(SubmitError::TooLarge);
        }
        let is_full = self.active.offset + padded_len(first.payload_len()) as u64 > self.active.capacity;
        if is_full || self.is_announcement_void() {
            self.check_follows(first);
            match self.roll() {
                Err(SubmitError::NoSpace) if !is_full => {}
                rolled => rolled?,
            }
        }
        let (count, len) = self.fitting(appends);
        let mut buffer = self.take_buffer(len);
        let (offset, durable) = (self.active.offset, self.durable);
        let mut last = self.next_sequence;
        for append in &appends[..count] {
            self.check_follows(append);
            let at = Position {
                segment: self.active.number,
                salt: self.active.salt,
                offset: self.active.offset,
                sequence: self.next_sequence,
                prev_crc: self.prev_crc,
            };
            let record = encode(append, at, durable, &mut buffer[(at.offset - offset) as usize..]);
            self.active.offset += padded_len(append.payload_len()) as u64;
            last = at.sequence;
            self.next_sequence = last.next();
            self.appended_bytes += append.payload_len() as u64;
            self.prev_crc = record.crc;
            self.hard_state = append.hard_state;
            self.keep_account(&record);
        }
        let started = self.backend.start(last.0, &self.active.file, offset, buffer);
        started.map_err(|fault| self.fail(fault))?;
        let kind = appends[count - 1].kind;
        self.in_flight.push_back(InFlight { sequence: last, kind, offset, len, durable: false });
        self.last_submit = Instant::now();
        Ok((count, last))
    }

    /// How many of these go into one write, and its bytes. The first one has its place.
    fn fitting(&self, appends: &[Append<'_>]) -> (usize, usize) {
        let room = usize::try_from(self.active.capacity - self.active.offset).unwrap_or(usize::MAX);
        let (mut count, mut len) = (0, 0);
        for append in appends {
            let with = len + padded_len(append.payload_len());
            if count > 0 && (with > room.min(WRITE_BYTES) || append.kind == Kind::Empty) {
                break;
            }
            (count, len) = (count + 1, with);
            // What follows an announced entry goes to a segment that announces nothing (`forget.rs`).
            if self.announced.is_some_and(|(index, _)| append.kind == Kind::Entry && append.index == index) {
                break;
            }
        }
        (count, len)
    }

    /// Bytes of the payloads that it was given since it was opened.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// All records up to this one are durable.
    #[must_use]
    pub fn durable(&self) -> Sequence {
        self.durable
    }

    /// Waits until more is durable, until `wake` is readable, or until the time has passed. When it has
    /// been quiet for 5 ms this also writes the empty record that covers the last acknowledged one.
    pub fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) -> Result<Waited, DiskFault> {
        self.check_fault()?;
        let until = Instant::now() + timeout;
        loop {
            let now = Instant::now();
            let mut pause = until.saturating_duration_since(now);
            if let Some(due) = self.quiet_due() {
                if due <= now {
                    self.write_empty()?;
                    continue;
                }
                pause = pause.min(due - now);
            }
            let before = self.durable;
            let woken = self.wait_once(pause, Some(wake))?;
            if woken || self.durable > before || Instant::now() >= until {
                return Ok(Waited { woken });
            }
        }
    }

    /// Looks for what has become durable, without waiting.
    pub fn poll(&mut self) -> Result<(), DiskFault> {
        self.check_fault()?;
        self.wait_once(Duration::ZERO, None)?;
        Ok(())
    }

    /// Waits until everything submitted is durable.
    pub fn drain(&mut self) -> Result<(), DiskFault> {
        self.check_fault()?;
        while !self.in_flight.is_empty() {
            self.wait_once(Duration::from_secs(1), None)?;
        }
        Ok(())
    }

    /// Ends cleanly: everything durable, the last record covered, the segment cut to its used length. Where room is
    /// scarce it is not cut: the next start needs a segment, and others would take what is given back.
    pub fn close(mut self) -> Result<(), DiskFault> {
        self.drain()?;
        if self.durable_data > self.covered {
            self.write_empty()?;
            self.drain()?;
        }
        if !self.space.is_enough() {
            return Ok(());
        }
        let path = &self.active.file.path;
        self.disk.truncate(path, self.active.offset).map_err(|e| DiskFault::io(path, self.active.offset, &e))
    }

    /// The membership that the next segment header carries: at most `MEMBERSHIP_BYTES_MAX`.
    pub fn set_membership(&mut self, membership: Vec<u8>) {
        assert!(membership.len() <= MEMBERSHIP_BYTES_MAX, "a membership fits a segment header");
        self.membership = membership;
    }

    /// The version of apply's rules that the next segment header carries.
    pub fn set_apply_version(&mut self, version: u32) {
        self.apply_version = version;
    }

    /// The first entry that is still there, or the one that comes next in an empty log.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        LogIndex(self.base.0 .0 + 1)
    }

    /// The last entry submitted.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.last().0
    }

    /// What the first entry follows.
    #[must_use]
    pub fn base(&self) -> (LogIndex, Term) {
        self.base
    }

    /// Segments on the disk, the one being written included.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.sealed.len() + 1
    }

    /// The segment that is written.
    #[must_use]
    pub fn active_segment(&self) -> SegmentNumber {
        self.active.number
    }

    pub(super) fn last(&self) -> (LogIndex, Term) {
        self.entries.back().map_or(self.base, |e| (e.index, e.term))
    }

    pub(super) fn check_fault(&self) -> Result<(), DiskFault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, fault: DiskFault) -> DiskFault {
        self.fault.get_or_insert(fault).clone()
    }

    /// What recovery would call a contradiction must never be written.
    fn check_follows(&self, append: &Append<'_>) {
        assert!(append.hard_state.term >= self.hard_state.term, "Raft's term never falls");
        if append.kind == Kind::Entry {
            let (last, last_term) = self.last();
            assert!(append.index.0 <= last.0 + 1, "entries are appended without a gap");
            assert!(append.index > self.base.0, "what a snapshot covers is not replaced");
            // The entry itself may be of an older term than the one that it replaces: a later leader had it all along.
            let newer = self.entry(append.index).is_none_or(|old| append.hard_state.term > old.term);
            assert!(newer, "an entry is replaced in a newer term only");
            assert!(append.index <= last || append.term >= last_term, "terms never fall along the log");
            assert!(
                append.index > last || append.index > self.hard_state.commit,
                "a committed entry is never replaced"
            );
        }
    }

    fn keep_account(&mut self, record: &RecordHeader) {
        match record.kind {
            Kind::Entry => {
                let keep = (record.index.0 - self.base.0 .0 - 1) as usize;
                self.entries.truncate(keep);
                self.entries.push_back(record.entry_ref());
            }
            Kind::HardState | Kind::Empty => {}
        }
    }

    fn take_buffer(&mut self, len: usize) -> AlignedBuf {
        let fits = self.buffers.iter().position(|b| b.capacity() >= len);
        let mut buffer = match fits {
            Some(at) => self.buffers.swap_remove(at),
            None => AlignedBuf::zeroed(len),
        };
        buffer.set_len(len);
        buffer
    }

    fn give_buffer(&mut self, buffer: AlignedBuf) {
        if buffer.capacity() <= KEPT_BUFFER_BYTES_MAX {
            if self.buffers.len() >= IN_FLIGHT_MAX {
                // Keep the larger ones.
                self.buffers.sort_by_key(AlignedBuf::capacity);
                self.buffers.remove(0);
            }
            self.buffers.push(buffer);
        }
    }

    fn quiet_due(&self) -> Option<Instant> {
        (self.in_flight.is_empty() && self.durable_data > self.covered).then(|| self.last_submit + self.quiet)
    }

    /// An empty record. When even that finds no room it is left out: the next header covers as well.
    pub(super) fn write_empty(&mut self) -> Result<(), DiskFault> {
        match self.submit(&Append::empty(self.hard_state)) {
            Ok(_) | Err(SubmitError::Full | SubmitError::TooLarge) => Ok(()),
            Err(SubmitError::NoSpace) => {
                self.covered = self.durable_data;
                Ok(())
            }
            Err(SubmitError::Fault(fault)) => Err(fault),
        }
    }

    fn wait_once(&mut self, pause: Duration, wake: Option<BorrowedFd<'_>>) -> Result<bool, DiskFault> {
        let mut done = std::mem::take(&mut self.done);
        let woken = self.backend.wait(pause, wake, &mut done);
        let mut result =
            woken.map_err(|e| self.fail(DiskFault::io(&self.active.file.path, self.active.offset, &e)));
        for completion in done.drain(..) {
            if let Err(fault) = self.on_completion(completion) {
                result = Err(fault);
            }
        }
        self.done = done;
        result
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), DiskFault> {
        let Some(at) = self.in_flight.iter().position(|w| w.sequence.0 == completion.ticket) else {
            return Ok(());
        };
        let (offset, wanted) = (self.in_flight[at].offset, self.in_flight[at].len);
        self.give_buffer(completion.buffer);
        let path = &self.active.file.path;
        match completion.result {
            Ok(wrote) if wrote == wanted => self.in_flight[at].durable = true,
            Ok(wrote) => {
                let kind = FaultKind::Short { wrote, wanted };
                return Err(self.fail(DiskFault { file: path.clone(), offset, kind }));
            }
            Err(e) => return Err(self.fail(DiskFault::io(path, offset, &e))),
        }
        while let Some(first) = self.in_flight.front().filter(|w| w.durable) {
            // It carried the count that was durable at its submission: at least what precedes all in flight then.
            self.durable = first.sequence;
            if first.kind == Kind::Empty {
                // An empty record goes out alone, when all before it is durable.
                self.covered = self.durable_data;
            } else {
                self.durable_data = first.sequence;
            }
            self.in_flight.pop_front();
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), SubmitError> {
        let announced = if self.is_announcement_void() { None } else { self.announced };
        self.begin_next(self.last(), self.hard_state, announced)
    }

    /// Begins the next segment, behind `base`. Nothing is in flight while its header is written. After an error the log
    /// is as it was.
    pub(super) fn begin_next(
        &mut self,
        base: (LogIndex, Term),
        hard_state: HardState,
        announced: Option<(LogIndex, Term)>,
    ) -> Result<(), SubmitError> {
        self.drain()?;
        let room = |log: &Log| log.disk.available(&log.dir).is_ok_and(|free| free >= log.segment_bytes);
        if self.pool.failure().is_some() && room(self) {
            self.pool.retry();
        }
        let number = match self.pool.take() {
            Ok(number) => number,
            Err(e) => {
                self.space.take_ballast(&*self.disk, &self.dir, &mut self.pool, &e).ok_or_else(|| {
                    if super::file::is_no_space(&e) {
                        SubmitError::NoSpace
                    } else {
                        let path = segment_path(&self.dir, self.pool.next());
                        SubmitError::Fault(self.fail(DiskFault::io(&path, 0, &e)))
                    }
                })?
            }
        };
        let header = SegmentHeader {
            cluster: self.cluster,
            server: self.server,
            number,
            salt: fresh_salt(self.active.salt),
            continues: Some(Continues { segment: self.active.number, offset: self.active.offset }),
            first_sequence: self.next_sequence,
            prev_crc: self.prev_crc,
            hard_state,
            first_index: LogIndex(base.0 .0 + 1),
            prev_term: base.1,
            announced,
            apply_version: self.apply_version,
            membership: self.membership.clone(),
        };
        let active =
            begin_segment(&*self.disk, &self.dir, &header, self.segment_bytes).map_err(|f| self.fail(f))?;
        let old = std::mem::replace(&mut self.active, active);
        self.sealed.push_back(Sealed { number: old.number, first_index: old.first_index });
        self.hard_state = hard_state;
        self.announced = announced;
        self.covered = self.durable_data;
        self.pool.prepare();
        Ok(())
    }
}

/// Writes a header into a file that is there, durably.
pub(super) fn begin_segment(
    disk: &dyn Disk,
    dir: &std::path::Path,
    header: &SegmentHeader,
    capacity: u64,
) -> Result<Active, DiskFault> {
    let path = segment_path(dir, header.number);
    let fault = |e: &std::io::Error| DiskFault::io(&path, 0, e);
    let file = disk.open_log(&path).map_err(|e| fault(&e))?;
    let block = AlignedBuf::copy_of(&header.encode());
    let wrote = disk.write_durable(&file, 0, &block).map_err(|e| fault(&e))?;
    if wrote != block.len() {
        let kind = FaultKind::Short { wrote, wanted: block.len() };
        return Err(DiskFault { file: path, offset: 0, kind });
    }
    Ok(Active {
        number: header.number,
        salt: header.salt,
        file: Arc::new(file),
        offset: BLOCK as u64,
        capacity,
        first_index: header.first_index,
    })
}

/// A salt that no earlier use of the file had. Without a source of chance the former one, stirred, still differs.
pub(super) fn fresh_salt(former: u64) -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => former.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31),
    }
}
