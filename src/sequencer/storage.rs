//! What the `raft` crate may look up: entries without their payload, and the hard state. Kept in memory; the log on
//! disk is written by the effects.

use crate::ids::Zxid;
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::collections::VecDeque;

/// Payloads of applied entries that stay in memory for followers, in bytes.
const PAYLOADS_KEPT: usize = 16 << 20;

/// An entry's place.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub term: u64,
    /// Raft's entry type.
    pub tag: u8,
    pub zxids: (Zxid, Zxid),
    pub payload_len: usize,
    /// While it is in memory; else the log has it.
    pub payload: Option<Bytes>,
}

/// Entries after `base`, contiguous.
#[derive(Default)]
pub(super) struct Store {
    pub base: (u64, u64),
    pub slots: VecDeque<Slot>,
    pub hard_state: HardState,
    pub conf: ConfState,
    /// The entry that the newest snapshot on disk ends with: what a server behind `base` is offered.
    pub snapshot: (u64, u64),
    /// Bytes of payload in memory, and the first index that may have one.
    payload_bytes: usize,
    first_payload: u64,
}

impl Store {
    pub(super) fn new(
        base: (u64, u64),
        slots: VecDeque<Slot>,
        hard_state: HardState,
        conf: ConfState,
    ) -> Store {
        Store { base, slots, hard_state, conf, snapshot: base, payload_bytes: 0, first_payload: base.0 + 1 }
    }

    /// The last index.
    pub(super) fn last(&self) -> u64 {
        self.base.0 + self.slots.len() as u64
    }

    /// Adds an entry. Those that were there at the same or a later index give way (a new leader's word).
    pub(super) fn append(&mut self, index: u64, slot: Slot) {
        let keep = index.checked_sub(self.base.0 + 1).expect("raft appends after the base");
        let keep = usize::try_from(keep).expect("an index fits");
        assert!(keep <= self.slots.len(), "raft appends without a gap");
        for gone in self.slots.drain(keep..) {
            self.payload_bytes -= gone.payload.map_or(0, |payload| payload.len());
        }
        self.payload_bytes += slot.payload.as_ref().map_or(0, Bytes::len);
        self.slots.push_back(slot);
        self.first_payload = self.first_payload.min(index);
    }

    /// Lets go of payloads up to `index`: all of them, or, where followers may ask, all but the newest few.
    pub(super) fn release(&mut self, index: u64, is_alone: bool) {
        let kept = if is_alone { 0 } else { PAYLOADS_KEPT };
        while self.first_payload <= index && self.payload_bytes > kept {
            if let Some(offset) = self.offset(self.first_payload) {
                if let Some(payload) = self.slots[offset].payload.take() {
                    self.payload_bytes -= payload.len();
                }
            }
            self.first_payload += 1;
        }
    }

    /// Forgets entries up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        while self.base.0 < index {
            let Some(slot) = self.slots.pop_front() else { return };
            self.payload_bytes -= slot.payload.map_or(0, |payload| payload.len());
            self.base = (self.base.0 + 1, slot.term);
        }
        self.first_payload = self.first_payload.max(self.base.0 + 1);
    }

    /// Forgets entries up to `index`, but so many of the last ones that their payloads have no more than `bytes`.
    pub(super) fn compact_behind(&mut self, index: u64, bytes: u64) {
        let mut left = bytes;
        let mut upto = index;
        while let Some(slot) = self.at(upto) {
            let Some(rest) = left.checked_sub(slot.payload_len as u64) else { return self.compact(upto) };
            left = rest;
            upto -= 1;
        }
    }

    /// Forgets all entries: a snapshot that ends with this one takes their place.
    pub(super) fn restart_at(&mut self, base: (u64, u64)) {
        self.slots.clear();
        (self.base, self.snapshot) = (base, base);
        (self.payload_bytes, self.first_payload) = (0, base.0 + 1);
    }

    /// An entry, unless it was forgotten or never was.
    pub(super) fn at(&self, index: u64) -> Option<&Slot> {
        self.offset(index).map(|offset| &self.slots[offset])
    }

    fn offset(&self, index: u64) -> Option<usize> {
        let offset = usize::try_from(index.checked_sub(self.base.0 + 1)?).ok()?;
        (offset < self.slots.len()).then_some(offset)
    }
}

/// What Raft sees of an entry. The handle's one byte makes one with a payload unlike Raft's own empty ones.
pub(super) fn entry(index: u64, slot: &Slot) -> Entry {
    Entry {
        entry_type: i32::from(slot.tag),
        term: slot.term,
        index,
        data: if slot.payload_len > 0 { HANDLE.to_vec() } else { Vec::new() },
        ..Entry::default()
    }
}

/// What the crate knows of a snapshot.
pub(super) fn snapshot(index: u64, term: u64, conf: ConfState) -> Snapshot {
    let metadata = SnapshotMetadata { conf_state: Some(conf), index, term };
    Snapshot { metadata: Some(metadata), ..Snapshot::default() }
}

pub(super) const HANDLE: [u8; 1] = [1];

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf.clone() })
    }

    /// `max_size` is held against payloads: the crate sees none. The first entry always goes.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for index in low..high {
            let Some(slot) = self.at(index) else { break };
            bytes += slot.payload_len as u64;
            if bytes > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry(index, slot));
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.at(index).map(|slot| slot.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// An offer: the state itself is fetched from the disk, on a connection of its own.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let (index, term) = self.snapshot;
        if index == 0 || index < self.base.0 {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(snapshot(index, term, self.conf.clone()))
    }
}
