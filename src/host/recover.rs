//! From the disk to a state: the newest snapshot that is whole, then the log after it.

use super::disk::{list_snapshots, DataDir, Disk, Log, LogOptions, SnapshotFile};
use super::{pages, Fatal};
use crate::apply::{State, RULES};
use crate::ids::{LogIndex, ServerId, Term};
use crate::log::Recovered;
use crate::membership::Membership;
use crate::sequencer::{RecoveredEntry, RecoveredLog};
use crate::snapshot;
use crate::tree::PathHasher;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// What the server goes on from.
pub struct Recovery {
    pub state: State,
    pub log: Log,
    pub recovered: RecoveredLog,
}

/// The state of a snapshot, or the one before all entries.
pub struct Base {
    pub index: LogIndex,
    pub term: Term,
    pub state: State,
}

/// Loads it. A snapshot that is damaged is passed over for the one before, whose log is still there. A damaged log is
/// never passed over: an older snapshot needs all of it and more, and a state without it would be a silent loss.
pub fn load_state(dir: &mut DataDir, options: &LogOptions, hasher: &PathHasher) -> Result<Recovery, Fatal> {
    let mut base = load_base(&dir.disk(), &dir.snapshot_path(), dir.cluster_id(), hasher)
        .map_err(|error| Fatal::os(&format!("listing {}", dir.snapshot_path().display()), &error))?;
    base.state = with_members(base.state, dir.formed_of());
    let opened = Log::open(dir, options, base.index).map_err(Fatal::log)?;
    Ok(continue_from(base, opened))
}

/// A server that was alone has no members in its snapshots; those who formed the ensemble are its first ones then.
pub(in crate::host) fn with_members(mut state: State, formed_of: &[(ServerId, u128)]) -> State {
    if !state.membership.is_ensemble() {
        state.membership = Membership::formed(formed_of);
    }
    state
}

/// The newest whole snapshot below `dir`; without one, the log must begin at the first entry.
pub fn load_base(disk: &dyn Disk, dir: &Path, cluster: u128, hasher: &PathHasher) -> io::Result<Base> {
    for file in list_snapshots(disk, dir)? {
        if pages::may_suit(file.bytes) {
            pages::allow_huge();
        }
        match load_snapshot(disk, &file, cluster, hasher) {
            Ok(loaded) => {
                info!(file = %file.path.display(), nodes = loaded.state.table.len(), "snapshot loaded");
                return Ok(Base { index: loaded.meta.index, term: loaded.meta.term, state: loaded.state });
            }
            Err(why) => {
                let path = file.path.display();
                warn!("snapshot {path} is not used: {why}; going back to the one before");
            }
        }
    }
    Ok(Base { index: LogIndex(0), term: Term(0), state: State::new(hasher.clone()) })
}

/// Reads one snapshot, or says in a few words why it is not used.
pub fn load_snapshot(
    disk: &dyn Disk,
    file: &SnapshotFile,
    cluster: u128,
    hasher: &PathHasher,
) -> Result<snapshot::Loaded, String> {
    let mut reader =
        BufReader::with_capacity(READ_BYTES, FileReader { disk, path: file.path.clone(), at: 0 });
    let loaded = snapshot::decode(&mut reader, hasher.clone()).map_err(|error| error.to_string())?;
    if loaded.meta.cluster != cluster {
        return Err("it belongs to another cluster".to_owned());
    }
    if loaded.state.rules > RULES {
        let version = loaded.state.rules;
        return Err(format!(
            "it follows version {version} of the rules, and this release knows {RULES}: start a newer one"
        ));
    }
    if loaded.meta.index != file.index {
        return Err("its name and its content disagree".to_owned());
    }
    Ok(loaded)
}

/// Puts a base and the log that was opened after it together.
#[must_use]
pub fn continue_from(base: Base, (log, found): (Log, Recovered)) -> Recovery {
    for note in &found.notes {
        info!("log: {note}");
    }
    if let Some(cut) = &found.cut {
        warn!("log: {cut}");
    }
    let entries = found.entries.iter().filter(|entry| entry.index > base.index).map(|entry| RecoveredEntry {
        index: entry.index,
        term: entry.term,
        tag: entry.tag,
        first_zxid: entry.first_zxid,
        last_zxid: entry.last_zxid,
        payload_len: entry.payload_len as usize,
    });
    let recovered = RecoveredLog {
        base: (base.index, base.term),
        entries: entries.collect(),
        hard_state: found.hard_state,
    };
    info!(entries = recovered.entries.len(), after = base.index.0, driver = log.driver(), "log opened");
    Recovery { state: base.state, log, recovered }
}

const READ_BYTES: usize = 1 << 20;

/// A file of a disk, read from its beginning on.
struct FileReader<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    at: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.disk.read_at(&self.path, self.at, out.len().min(READ_BYTES))?;
        out[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
