//! Looking without touching: what `ringkeeper inspect log` and the log's part of `ringkeeper verify` print.
//! Nothing is created, locked or repaired; a running server's directory may be looked at, its last record
//! may then be half written.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir::{read_identity, DirError};
use super::file::{Disk, RealDisk};
use super::identity::Identity;
use super::open::LogPlace;
use super::pool::segment_number;
use crate::ids::LogIndex;
use crate::log::walk::Walk;
use crate::log::{Damage, Kind, NotAHeader, Recovered, SegmentHeader, BLOCK};

/// What `verify` found out about the log.
pub struct LogReport {
    /// Whose log it is.
    pub identity: Identity,
    /// Where the segments are.
    pub dir: PathBuf,
    /// What is whole, or what is not.
    pub found: Result<Recovered, Damage>,
}

impl LogReport {
    /// Whether a server would start from it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.found.is_ok()
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { cluster, server, .. } = self.identity;
        writeln!(f, "log {}: cluster {cluster:032x}, server {}", self.dir.display(), server.0)?;
        let recovered = match &self.found {
            Ok(recovered) => recovered,
            Err(damage) => return write!(f, "DAMAGED: {damage}"),
        };
        for note in &recovered.notes {
            writeln!(f, "note: {note}")?;
        }
        if let Some(cut) = &recovered.cut {
            writeln!(f, "note: {cut} (no acknowledged write is lost)")?;
        }
        let (last, term) = recovered.last();
        write!(
            f,
            "whole: {} segments, entries {} to {} of term {}, committed {}",
            recovered.segments.len(),
            recovered.base.0 .0 + 1,
            last.0,
            term.0,
            recovered.hard_state.commit.0
        )?;
        if let Some(entry) = recovered.entries.last() {
            write!(f, ", last zxid {}", entry.last_zxid)?;
        }
        Ok(())
    }
}

/// Reads the log of a data directory. With `from`, the index of the newest whole snapshot, segments that it
/// covers are not read, as at a start; without, every segment that is there must be whole.
pub fn verify_log(
    path: &Path,
    log_path: Option<&Path>,
    from: Option<LogIndex>,
) -> Result<LogReport, DirError> {
    let identity = read_identity(path)?;
    let dir = log_path.unwrap_or(path).join("log");
    let place = LogPlace {
        disk: Arc::new(RealDisk::for_reading()),
        dir: dir.clone(),
        cluster: identity.cluster,
        server: identity.server,
        begun: identity.begun,
    };
    let found = place.recover(from);
    Ok(LogReport { identity, dir, found })
}

/// Says what an entry's payload means, on lines of its own.
pub type Describe<'a> = &'a mut dyn FnMut(&[u8], &mut dyn Write) -> io::Result<()>;

/// Prints a segment, record by record, and how it ends. Each entry's payload is given to `describe`. Says whether
/// the file is a segment, or will be one, and its chain is whole.
pub fn inspect_segment(path: &Path, out: &mut dyn Write, describe: Describe<'_>) -> io::Result<bool> {
    let bytes = RealDisk::for_reading().read_direct(path)?;
    let bytes = bytes.as_ref();
    let header = match SegmentHeader::decode(bytes) {
        Ok(header) => header,
        Err(NotAHeader::Zero) => {
            writeln!(out, "prepared, not used yet ({} bytes)", bytes.len())?;
            return Ok(true);
        }
        Err(why) => {
            writeln!(
                out,
                "{} is not a whole log segment of ringkeeper: its header is invalid ({why:?}, {} bytes)",
                path.display(),
                bytes.len()
            )?;
            return Ok(false);
        }
    };
    let hard_state = header.hard_state;
    writeln!(
        out,
        "segment {:016x}: cluster {:032x}, server {}, salt {:016x}, first record {}, first index {}, term {}, \
         vote {}, commit {}, rules {}, membership {} bytes",
        header.number.0,
        header.cluster,
        header.server.0,
        header.salt,
        header.first_sequence.0,
        header.first_index.0,
        hard_state.term.0,
        hard_state.vote,
        hard_state.commit.0,
        header.apply_version,
        header.membership.len()
    )?;
    match header.continues {
        Some(c) => writeln!(out, "continues segment {:016x} at offset {}", c.segment.0, c.offset)?,
        None => writeln!(out, "the first of its log")?,
    }
    if let Some((index, term)) = header.announced {
        writeln!(out, "a snapshot at entry {} of term {} is announced", index.0, term.0)?;
    }
    let name = path.file_name().and_then(|n| n.to_str()).and_then(segment_number);
    if name.is_some_and(|n| n != header.number) {
        writeln!(out, "recycled: the header belongs to the file's last use, the file waits for its next")?;
    }
    let walk = Walk::over(&header, bytes, None);
    for record in &walk.records {
        let at = record.at;
        write!(out, "{:>10} #{} durable {} ", at.offset, at.sequence.0, record.durable_upto.0)?;
        match record.kind {
            Kind::Entry => write!(
                out,
                "entry {} term {} tag {} zxid {}..{} {} bytes",
                record.index.0,
                record.term.0,
                record.tag,
                record.first_zxid,
                record.last_zxid,
                record.payload_len
            )?,
            Kind::HardState => write!(out, "hard state")?,
            Kind::Empty => write!(out, "empty")?,
        }
        let h = record.hard_state;
        writeln!(out, " | term {} vote {} commit {}", h.term.0, h.vote, h.commit.0)?;
        if record.kind == Kind::Entry && record.payload_len > 0 {
            // The walk has found the whole record inside these bytes.
            let rest = usize::try_from(at.offset).ok().and_then(|from| bytes.get(from..)).unwrap_or(&[]);
            describe(record.payload(rest), out)?;
        }
    }
    let left = (bytes.len() as u64).saturating_sub(walk.end);
    match (&walk.damage, &walk.cut) {
        (Some(damage), _) => writeln!(out, "DAMAGED: {damage}")?,
        (None, Some(cut)) => writeln!(out, "{cut}")?,
        (None, None) => writeln!(out, "ends at {}, {} blocks free", walk.end, left / BLOCK as u64)?,
    }
    Ok(walk.damage.is_none())
}
