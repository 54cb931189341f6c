//! From the disk to a state: the newest snapshot that is whole, then the log after it.

use super::disk::{DataDir, Log, LogError, LogOptions, SnapshotFile};
use super::Fatal;
use crate::apply::State;
use crate::ids::{LogIndex, Term};
use crate::sequencer::{RecoveredEntry, RecoveredLog};
use crate::snapshot;
use crate::tree::PathHasher;
use std::fs::File;
use std::io::BufReader;
use tracing::{info, warn};

/// What the server goes on from.
pub struct Recovery {
    pub state: State,
    pub log: Log,
    pub recovered: RecoveredLog,
}

/// Loads it. A snapshot that is damaged is passed over for the one before, whose log is still there.
pub fn load_state(dir: &mut DataDir, options: &LogOptions, hasher: &PathHasher) -> Result<Recovery, Fatal> {
    let snapshots = dir
        .snapshots()
        .map_err(|error| Fatal::os(&format!("listing {}", dir.snapshot_path().display()), &error))?;
    let mut last_error: Option<LogError> = None;
    for file in &snapshots {
        let Some(loaded) = load_snapshot(dir, file, hasher) else { continue };
        let base = (loaded.meta.index, loaded.meta.term);
        match open(dir, options, base, loaded.state) {
            Ok(recovery) => return Ok(recovery),
            // The log does not reach back to this one: an older snapshot can not help either, but says so better.
            Err(error) => last_error = Some(error),
        }
    }
    if let Some(error) = last_error {
        return Err(Fatal::log(error));
    }
    open(dir, options, (LogIndex(0), Term(0)), State::new(hasher.clone())).map_err(Fatal::log)
}

fn load_snapshot(dir: &DataDir, file: &SnapshotFile, hasher: &PathHasher) -> Option<snapshot::Loaded> {
    let opened = File::open(&file.path).map_err(|error| error.to_string());
    let loaded = opened.and_then(|f| {
        let mut reader = BufReader::with_capacity(1 << 20, f);
        snapshot::decode(&mut reader, hasher.clone()).map_err(|error| error.to_string())
    });
    let refused = match loaded {
        Ok(loaded) if loaded.meta.cluster != dir.cluster_id() => "it belongs to another cluster".to_owned(),
        Ok(loaded) if loaded.meta.index != file.index => "its name and its content disagree".to_owned(),
        Ok(loaded) => {
            info!(file = %file.path.display(), nodes = loaded.state.table.len(), "snapshot loaded");
            return Some(loaded);
        }
        Err(why) => why,
    };
    warn!("snapshot {} is not used: {refused}; going back to the one before", file.path.display());
    None
}

fn open(
    dir: &mut DataDir,
    options: &LogOptions,
    base: (LogIndex, Term),
    state: State,
) -> Result<Recovery, LogError> {
    let (log, found) = Log::open(dir, options, base.0)?;
    for note in &found.notes {
        info!("log: {note}");
    }
    if let Some(cut) = &found.cut {
        warn!("log: {cut}");
    }
    let entries = found.entries.iter().filter(|entry| entry.index > base.0).map(|entry| RecoveredEntry {
        index: entry.index,
        term: entry.term,
        tag: entry.tag,
        first_zxid: entry.first_zxid,
        last_zxid: entry.last_zxid,
        payload_len: entry.payload_len as usize,
    });
    let recovered = RecoveredLog { base, entries: entries.collect(), hard_state: found.hard_state };
    info!(entries = recovered.entries.len(), after = base.0 .0, driver = log.driver(), "log opened");
    Ok(Recovery { state, log, recovered })
}
