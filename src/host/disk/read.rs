//! Reading back what the log holds.

use bytes::Bytes;

use std::path::Path;

use super::fault::{DiskFault, LogError};
use super::file::Disk;
use super::pool::segment_path;
use super::writer::Log;
use crate::ids::LogIndex;
use crate::log::record::padded_len;
use crate::log::{BreakReason, Damage, DamageReason, EntryRef, RecordHeader};

impl Log {
    /// Where an entry lies; nothing when it is gone or was never submitted.
    #[must_use]
    pub fn entry(&self, index: LogIndex) -> Option<EntryRef> {
        let at = index.0.checked_sub(self.first_index().0)?;
        self.entries.get(usize::try_from(at).ok()?).copied()
    }

    /// The payload of an entry, from the disk.
    pub fn read(&mut self, index: LogIndex) -> Result<Bytes, LogError> {
        let entry = self.entry(index).ok_or(LogError::NoSuchEntry)?;
        self.read_ref(&entry)
    }

    /// The payload of an entry, from the disk, its checksum compared with what recovery or the writer knew.
    /// Sealed segments are read through a mapping, the one being written through pread.
    pub fn read_ref(&mut self, entry: &EntryRef) -> Result<Bytes, LogError> {
        if entry.sequence > self.durable {
            return Err(LogError::InFlight);
        }
        let oldest = self.sealed.front().map_or(self.active.number, |s| s.number);
        if entry.segment < oldest {
            // Its file is gone or has another life.
            return Err(LogError::NoSuchEntry);
        }
        let path = segment_path(&self.dir, entry.segment);
        let io = |e: std::io::Error| LogError::Disk(DiskFault::io(&path, entry.offset, &e));
        if entry.segment == self.active.number {
            return read_payload(&*self.disk, &self.dir, entry);
        }
        if self.mapped.as_ref().is_none_or(|(number, _)| *number != entry.segment) {
            self.mapped = Some((entry.segment, self.disk.map(&path).map_err(io)?));
        }
        let (_, bytes) = self.mapped.as_ref().expect("just mapped");
        let payload = payload_at(entry, bytes.as_ref());
        if payload.is_ok() {
            return payload;
        }
        // The map may have shown a page that the disk does not hold: once more, past the cache.
        let again = self.disk.read_direct(&path).map_err(io)?;
        payload_at(entry, again.as_ref())
    }
}

/// The payload of an entry out of its segment's file in `dir`, by any thread. Whether the entry is still the log's the caller
/// asks the log.
pub fn read_payload(disk: &dyn Disk, dir: &Path, entry: &EntryRef) -> Result<Bytes, LogError> {
    let path = segment_path(dir, entry.segment);
    let bytes = disk
        .read_at(&path, entry.offset, padded_len(entry.payload_len as usize))
        .map_err(|e| LogError::Disk(DiskFault::io(&path, entry.offset, &e)))?;
    payload_of(entry, &bytes)
}

fn payload_at(entry: &EntryRef, segment: &[u8]) -> Result<Bytes, LogError> {
    let rest = usize::try_from(entry.offset).ok().and_then(|at| segment.get(at..));
    payload_of(entry, rest.unwrap_or(&[]))
}

fn payload_of(entry: &EntryRef, bytes: &[u8]) -> Result<Bytes, LogError> {
    let damaged = |reason| {
        let (segment, offset, sequence) = (entry.segment, entry.offset, entry.sequence);
        LogError::Damaged(Damage { segment, offset, sequence, reason: DamageReason::Record(reason) })
    };
    let record = RecordHeader::decode(bytes).map_err(|why| damaged(BreakReason::NotARecord(why)))?;
    if record.entry_ref() != *entry {
        return Err(damaged(BreakReason::NotTheNext));
    }
    Ok(Bytes::copy_from_slice(record.payload(bytes)))
}
