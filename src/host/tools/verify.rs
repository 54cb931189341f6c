//! `ringkeeper verify DIR`: what a data directory holds, and whether a server would start from it.
//!
//! Everything is read: the marker, each segment and the chain through them, each snapshot. Then the state is built
//! as a start builds it, from the newest whole snapshot and the log after it.

use super::printing;
use crate::apply::State;
use crate::host::disk::{
    list_snapshots, read_identity, segment_number, segment_path, try_shared_lock, DirError, Disk, Identity,
    LockState, LogPlace, RealDisk, SnapshotFile,
};
use crate::host::logging::complain;
use crate::host::preflight::{EX_CONFIG, EX_OSERR};
use crate::host::recover::load_snapshot;
use crate::host::serve::{draw_seed, hash_key};
use crate::host::EX_IOERR;
use crate::ids::{LogIndex, Term};
use crate::log::walk::Walk;
use crate::log::{Damage, EntryRef, NotAHeader, RecordHeader, Recovered, SegmentHeader, BLOCK};
use crate::membership::Membership;
use crate::snapshot;
use crate::tree::PathHasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `serve` would say is how to begin; who verifies wants to know what he has named.
pub(super) fn why_not(refusal: &DirError) -> String {
    match refusal {
        DirError::Refused(path, error) => format!("{}: {error}", path.display()),
        DirError::ZooKeeper(path) => {
            format!("{} is not a data directory of ringkeeper: it is one of ZooKeeper", path.display())
        }
        DirError::Foreign(path, _) | DirError::Empty(path) => {
            format!("{} is not a data directory of ringkeeper", path.display())
        }
        other => other.to_string(),
    }
}

/// Checks a data directory. 0: a server starts from it and nothing is damaged; 74: damaged; 71: in use or unreadable;
/// 78: not ours.
#[must_use]
pub fn verify(dir: &Path, log_dir: Option<&Path>) -> i32 {
    let identity = match read_identity(dir) {
        Ok(identity) => identity,
        Err(refusal) => return refuse(refusal.exit_code(), &why_not(&refusal)),
    };
    let shown = dir.display();
    // A directory that changes while it is read can not be judged; a server that starts meanwhile is kept out.
    let _lock = match try_shared_lock(dir) {
        Ok(LockState::Free(lock)) => lock,
        Ok(LockState::Held(process)) => {
            let text =
                format!("{shown}: a server (process {process}) is running on it: stop it, or verify a copy");
            return refuse(EX_OSERR, &text);
        }
        Err(error) => return refuse(EX_OSERR, &format!("{shown}: its lock can not be tried: {error}")),
    };
    let log = log_dir.unwrap_or(dir).join("log");
    if let Some(why) = not_its_log(dir, &identity, log_dir) {
        return refuse(EX_CONFIG, &format!("{shown}: {why}"));
    }
    let hasher = match draw_seed() {
        Ok(seed) => PathHasher::new(hash_key(&seed)),
        Err(fatal) => return refuse(fatal.exit, &fatal.text),
    };
    let disk = RealDisk::for_reading();
    let place = LogPlace {
        disk: Arc::new(disk),
        dir: log,
        cluster: identity.cluster,
        server: identity.server,
        begun: identity.begun,
    };
    let check = Check { dir, snapshots: dir.join("snapshot"), place, identity, hasher, disk };
    printing(|out| check.run(out))
}

/// Why the log is not to be found where it was named, as a start would say it too: a log of an earlier directory of this server
/// passes for its own otherwise.
pub(super) fn not_its_log(dir: &Path, identity: &Identity, log_dir: Option<&Path>) -> Option<String> {
    let Some(log_dir) = log_dir else {
        let is_elsewhere = !dir.join("log").is_dir() && identity.begun;
        return is_elsewhere.then(|| "its log is elsewhere, or lost: name it with --log-dir".to_owned());
    };
    match read_identity(log_dir) {
        Ok(other) if (other.birth, other.server) == (identity.birth, identity.server) => None,
        Ok(_) => Some(format!("{} is the log of another data directory", log_dir.display())),
        Err(error) => Some(format!("{} is not its log: {error}", log_dir.display())),
    }
}

pub(super) fn refuse(exit: i32, text: &str) -> i32 {
    complain(text);
    exit
}

struct Check<'a> {
    dir: &'a Path,
    snapshots: PathBuf,
    place: LogPlace,
    identity: Identity,
    hasher: PathHasher,
    disk: RealDisk,
}

impl Check<'_> {
    fn run(&self, out: &mut dyn Write) -> io::Result<i32> {
        let Identity { cluster, server, begun, .. } = self.identity;
        writeln!(out, "data directory {}", self.dir.display())?;
        writeln!(out, "lock           free: no server is running on it")?;
        let state = if begun { "begun" } else { "not begun" };
        writeln!(out, "marker         cluster {cluster:032x}, server {}, log {state}", server.0)?;
        self.segments(out)?;
        let whole = self.place.recover(None);
        say_log(out, &whole)?;
        let (newest, damaged) = self.snapshots(out)?;

        let from = newest.as_ref().map_or(LogIndex(0), |file| file.index);
        // A start reads only what the snapshot does not hold.
        let starts = match self.place.recover(Some(from)) {
            Ok(recovered) => self.replay(out, newest.as_ref(), &recovered)?,
            Err(damage) => {
                writeln!(out, "after entry {:<4}DAMAGED: {damage}", from.0)?;
                false
            }
        };
        let (exit, result) = match (starts, whole.is_ok() && damaged == 0) {
            (true, true) => (0, "fine"),
            (true, false) => {
                (EX_IOERR, "DAMAGED, but nothing that a start needs: a server would start from it")
            }
            (false, _) => (EX_IOERR, "DAMAGED: a server would not start from it; restore it from a backup"),
        };
        writeln!(out, "result         {result}")?;
        Ok(exit)
    }

    /// A line a segment, whatever the state of the others.
    fn segments(&self, out: &mut dyn Write) -> io::Result<()> {
        let items = match self.disk.list(&self.place.dir) {
            Ok(items) => items,
            Err(error) => return writeln!(out, "segments       can not be listed: {error}"),
        };
        let mut files: Vec<_> =
            items.iter().filter_map(|i| Some((segment_number(&i.name)?, i.len))).collect();
        files.sort_unstable();
        for (at, (number, len)) in files.iter().enumerate() {
            let name = format!("segment        {:016x} {len} bytes:", number.0);
            let path = segment_path(&self.place.dir, *number);
            let header = match self.disk.read_at(&path, 0, BLOCK) {
                Ok(block) => SegmentHeader::decode(&block),
                Err(error) => {
                    writeln!(out, "{name} can not be read: {error}")?;
                    continue;
                }
            };
            match header {
                Ok(header) if header.number == *number => {
                    // The next one says how far this one counts.
                    let next = files.get(at + 1).map(|(next, _)| segment_path(&self.place.dir, *next));
                    let limit = next.and_then(|next| self.continued_at(&next, &header));
                    match self.disk.read_direct(&path) {
                        Ok(bytes) => say_walk(out, &name, &Walk::over(&header, bytes.as_ref(), limit))?,
                        Err(error) => writeln!(out, "{name} can not be read: {error}")?,
                    }
                }
                Ok(_) => writeln!(out, "{name} recycled, waits for its next use")?,
                Err(NotAHeader::Zero) => writeln!(out, "{name} prepared, not used yet")?,
                Err(why) => writeln!(out, "{name} no valid header ({why:?})")?,
            }
        }
        Ok(())
    }

    fn continued_at(&self, next: &Path, header: &SegmentHeader) -> Option<u64> {
        let block = self.disk.read_at(next, 0, BLOCK).ok()?;
        let next = SegmentHeader::decode(&block).ok()?;
        next.continues
            .filter(|c| c.segment == header.number && next.number == header.number.next())
            .map(|c| c.offset)
    }

    /// Reads each snapshot. The newest whole one, and how many are not.
    fn snapshots(&self, out: &mut dyn Write) -> io::Result<(Option<SnapshotFile>, usize)> {
        let files = match list_snapshots(&self.disk, &self.snapshots) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                writeln!(out, "snapshots      can not be listed: {error}")?;
                return Ok((None, 1));
            }
        };
        if files.is_empty() {
            writeln!(out, "snapshots      none")?;
        }
        let (mut newest, mut damaged) = (None, 0);
        for file in files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match self.load(&file) {
                Ok(loaded) => {
                    let state = &loaded.state;
                    writeln!(
                        out,
                        "snapshot       {name}: whole, zxid {}, {} znodes, {} sessions, digest {:016x}",
                        state.last_zxid(),
                        state.table.len(),
                        state.sessions.len(),
                        state.digest()
                    )?;
                    newest.get_or_insert(file);
                }
                Err(why) => {
                    damaged += 1;
                    writeln!(out, "snapshot       {name}: DAMAGED: {why}")?;
                }
            }
        }
        Ok((newest, damaged))
    }

    fn load(&self, file: &SnapshotFile) -> Result<snapshot::Loaded, String> {
        load_snapshot(&self.disk, file, self.identity.cluster, &self.hasher)
    }

    /// Builds the state. False where an entry can not be read or applied.
    fn replay(
        &self,
        out: &mut dyn Write,
        newest: Option<&SnapshotFile>,
        recovered: &Recovered,
    ) -> io::Result<bool> {
        let (mut state, (from, term)) = match newest {
            None => (State::new(self.hasher.clone()), (LogIndex(0), Term(0))),
            Some(file) => match self.load(file) {
                Ok(loaded) => (loaded.state, (loaded.meta.index, loaded.meta.term)),
                Err(why) => {
                    writeln!(out, "state          the snapshot was whole a moment ago: {why}")?;
                    return Ok(false);
                }
            },
        };
        if !state.membership.is_ensemble() {
            state.membership = Membership::formed(&self.identity.formed_of);
        }
        let last = recovered.last().0;
        if last < from {
            writeln!(out, "state          DAMAGED: the log ends at entry {}, before the snapshot's", last.0)?;
            return Ok(false);
        }
        let entries = match replay(&self.disk, &self.place.dir, recovered, &mut state, from) {
            Ok(entries) => entries,
            Err(why) => {
                writeln!(out, "state          DAMAGED: {why}")?;
                return Ok(false);
            }
        };
        let from_what = match newest {
            Some(_) => format!("the newest whole snapshot and {entries} entries after it"),
            None => format!("all {entries} entries of the log, without a snapshot"),
        };
        let (last, term) = recovered.last().max((from, term));
        writeln!(
            out,
            "state          {from_what}: up to entry {}, term {}; zxid {}, {} znodes, {} sessions, \
             digest {:016x}",
            last.0,
            term.0,
            state.last_zxid(),
            state.table.len(),
            state.sessions.len(),
            state.digest()
        )?;
        Ok(true)
    }
}

/// Applies what the log has behind `from`. How many entries that were, or which of them could not be.
pub(super) fn replay(
    disk: &RealDisk,
    log: &Path,
    recovered: &Recovered,
    state: &mut State,
    from: LogIndex,
) -> Result<u64, String> {
    let mut entries = 0;
    for entry in recovered.entries.iter().filter(|entry| entry.index > from && entry.payload_len > 0) {
        let applied = payload(disk, log, entry).and_then(|bytes| {
            state.apply_batch(&bytes, |_, _| {}).map_err(|_| "it does not decode".to_owned())
        });
        applied.map_err(|why| format!("entry {}: {why}", entry.index.0))?;
        entries += 1;
    }
    Ok(entries)
}

fn payload(disk: &RealDisk, log: &Path, entry: &EntryRef) -> Result<Vec<u8>, String> {
    let path = segment_path(log, entry.segment);
    let len = (entry.payload_len as usize).saturating_add(BLOCK);
    let bytes = disk.read_at(&path, entry.offset, len).map_err(|error| error.to_string())?;
    match RecordHeader::decode(&bytes) {
        Ok(record) if record.entry_ref() == *entry => Ok(record.payload(&bytes).to_vec()),
        _ => Err("it changes while it is read".to_owned()),
    }
}

fn say_walk(out: &mut dyn Write, name: &str, walk: &Walk) -> io::Result<()> {
    let entries: Vec<_> = walk.records.iter().filter(|r| r.kind == crate::log::Kind::Entry).collect();
    write!(out, "{name} {} records", walk.records.len())?;
    if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
        write!(out, ", entries {} to {}", first.index.0, last.index.0)?;
    }
    match (&walk.damage, &walk.cut) {
        (Some(damage), _) => writeln!(out, ", DAMAGED: {damage}"),
        (None, Some(cut)) => writeln!(out, ", {cut}"),
        (None, None) => writeln!(out, ", whole"),
    }
}

fn say_log(out: &mut dyn Write, found: &Result<Recovered, Damage>) -> io::Result<()> {
    let recovered = match found {
        Ok(recovered) => recovered,
        Err(damage) => return writeln!(out, "log            DAMAGED: {damage}"),
    };
    for note in &recovered.notes {
        writeln!(out, "note           {note}")?;
    }
    if let Some(cut) = &recovered.cut {
        writeln!(out, "note           {cut} (no acknowledged write is lost)")?;
    }
    let (last, term) = recovered.last();
    let (first, commit) = (recovered.base.0 .0 + 1, recovered.hard_state.commit.0);
    let segments = recovered.segments.len();
    writeln!(
        out,
        "log            whole: {segments} segments, entries {first} to {}, term {}, committed {commit}",
        last.0, term.0
    )
}
