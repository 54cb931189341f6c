//! `recover`: most voters of an ensemble are lost for ever. Out of one server's data directory a new one is made, of a new
//! ensemble in which that server votes alone; the other servers come to it with empty disks. The old directory stays as it
//! is. What the lost ones had and this one had not is gone, acknowledged or not: so it is said, and never done by itself.

use super::verify::{refuse, replay, why_not};
use super::{printing, EX_CONFIG, EX_IOERR, EX_OSERR};
use crate::apply::State;
use crate::host::disk::{
    list_snapshots, read_identity, try_shared_lock, DataDir, DirOptions, Identity, LockState, Log, LogError,
    LogOptions, LogPlace, RealDisk,
};
use crate::host::recover::load_snapshot;
use crate::host::serve::{draw_seed, hash_key};
use crate::ids::{LogIndex, Seat, Term};
use crate::log::HardState;
use crate::membership::{Conf, Membership};
use crate::snapshot::{encode_state, Meta};
use crate::tree::PathHasher;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 0: made; 71: the server runs, or a file can not be written; 74: its data is damaged; 78: not a member's data directory, or
/// one that has learned nothing yet, or the new one is not empty.
#[must_use]
pub fn recover(from: &Path, log_dir: Option<&Path>, to: &Path) -> i32 {
    match run(from, log_dir, to) {
        Ok(made) => printing(|out| out.write_all(made.as_bytes()).map(|()| 0)),
        Err((exit, text)) => refuse(exit, &text),
    }
}

type Refusal = (i32, String);

fn run(from: &Path, log_dir: Option<&Path>, to: &Path) -> Result<String, Refusal> {
    let identity = read_identity(from).map_err(|refusal| (refusal.exit_code(), why_not(&refusal)))?;
    let shown = from.display();
    if identity.formed_of.is_empty() {
        let text = format!("{shown}: it is no ensemble member's: a server alone starts from it as it is");
        return Err((EX_CONFIG, text));
    }
    let _lock = match try_shared_lock(from) {
        Ok(LockState::Free(lock)) => lock,
        Ok(LockState::Held(process)) => {
            return Err((
                EX_OSERR,
                format!("{shown}: a server (process {process}) is running on it: stop it"),
            ));
        }
        Err(error) => return Err((EX_OSERR, format!("{shown}: its lock can not be tried: {error}"))),
    };
    let hasher = draw_seed().map_err(|fatal| (fatal.exit, fatal.text))?;
    let hasher = PathHasher::new(hash_key(&hasher));
    let log = log_dir.unwrap_or(from).join("log");
    let (mut state, at, hard_state) = load(from, &log, &identity, &hasher)?;
    if at.0 == LogIndex(0) {
        let text = format!(
            "{shown}: its server was taken into an ensemble and has learned nothing of it yet: recover from another one"
        );
        return Err((EX_CONFIG, text));
    }

    if from.canonicalize().ok().is_some_and(|old| to.canonicalize().is_ok_and(|new| new == old)) {
        return Err((
            EX_CONFIG,
            format!("{shown}: name another directory for the new ensemble: this one stays as it is"),
        ));
    }
    if to.read_dir().is_ok_and(|mut items| items.next().is_some()) {
        return Err((EX_CONFIG, format!("{}: it is not empty: name a new directory", to.display())));
    }
    // Made beside its name, which it gets when it is whole: half of it would start as an empty server.
    let part = unfinished(to);
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(|error| (EX_OSERR, format!("{}: {error}", part.display())))?;
    }
    let options = DirOptions { path: part.clone(), log_path: None, server: identity.server };
    let mut dir = DataDir::open(&options).map_err(|refusal| (refusal.exit_code(), refusal.to_string()))?;
    let seat = Seat::new(identity.server, state.membership.next_generation);
    state.membership = alone(&state.membership, seat, dir.birth());
    let hard_state = HardState { term: Term(hard_state.term.0.max(at.1 .0)), vote: 0, commit: at.0 };
    write(&mut dir, seat, &state, at, hard_state)
        .map_err(|text| (EX_OSERR, format!("{}: {text}", to.display())))?;
    let cluster = dir.cluster_id();
    drop(dir);
    std::fs::write(part.join("myid"), format!("{}\n", identity.server.0))
        .map_err(|error| (EX_OSERR, format!("{}: {error}", part.display())))?;
    give_name(&part, to).map_err(|error| (EX_OSERR, format!("{}: {error}", to.display())))?;
    let others: Vec<String> = state
        .membership
        .servers
        .keys()
        .filter(|server| **server != identity.server)
        .map(|server| server.0.to_string())
        .collect();
    Ok(format!(
        "made {}: an ensemble of its own, {:032x}, in which server {} votes alone\n\
         it has {} znodes and {} sessions, up to zxid {}; what only the lost servers had is gone\n\
         start server {} on it, and then the others ({}) with EMPTY data directories: they are taken in by themselves\n\
         a server that still has data of the old ensemble is refused\n",
        to.display(),
        cluster,
        identity.server.0,
        state.table.len(),
        state.sessions.len(),
        state.last_zxid(),
        identity.server.0,
        if others.is_empty() { "none is listed".to_owned() } else { others.join(", ") },
    ))
}

/// All that the directory has: also what was logged and not known to be committed, for it may have been.
fn load(
    dir: &Path,
    log: &Path,
    identity: &Identity,
    hasher: &PathHasher,
) -> Result<(State, (LogIndex, Term), HardState), Refusal> {
    let disk = RealDisk::for_reading();
    let damaged = |text: String| (EX_IOERR, format!("{}: {text}", dir.display()));
    let snapshots = match list_snapshots(&disk, &dir.join("snapshot")) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err((EX_OSERR, format!("{}: {error}", dir.display()))),
    };
    let mut whole =
        snapshots.iter().filter_map(|file| load_snapshot(&disk, file, identity.cluster, hasher).ok());
    let (mut state, from) = match whole.next() {
        Some(loaded) => (loaded.state, (loaded.meta.index, loaded.meta.term)),
        None => (State::new(hasher.clone()), (LogIndex(0), Term(0))),
    };
    if !state.membership.is_ensemble() {
        state.membership = Membership::formed(&identity.formed_of);
    }
    let place = LogPlace {
        disk: Arc::new(disk),
        dir: log.to_owned(),
        cluster: identity.cluster,
        server: identity.server,
        begun: identity.begun,
    };
    let recovered = place.recover(Some(from.0)).map_err(|damage| damaged(damage.to_string()))?;
    if recovered.last().0 < from.0 {
        return Err(damaged("the log ends before the snapshot".to_owned()));
    }
    replay(&disk, log, &recovered, &mut state, from.0).map_err(damaged)?;
    Ok((state, recovered.last().max(from), recovered.hard_state))
}

fn unfinished(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    to.with_file_name(name)
}

fn give_name(part: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(part, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

/// The same lines, and one voter: the other participants vote again when they have come and caught up.
fn alone(old: &Membership, seat: Seat, birth: u128) -> Membership {
    Membership {
        conf: Conf { voters: [seat].into(), ..Conf::default() },
        seats: [(seat, birth)].into(),
        next_generation: old.next_generation + 1,
        wish: None,
        ..old.clone()
    }
}

fn write(
    dir: &mut DataDir,
    seat: Seat,
    state: &State,
    (index, term): (LogIndex, Term),
    hard_state: HardState,
) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let log = |error: LogError| error.to_string();
    // The directory's own id is the new ensemble's: no other server's data belongs to it.
    dir.set_formed(dir.birth(), vec![(dir.server(), dir.birth())]).map_err(io)?;
    dir.set_seat(seat).map_err(io)?;
    let (mut new, _) = Log::open(dir, &LogOptions::default(), LogIndex(0)).map_err(log)?;
    new.announce_snapshot(index, term).map_err(log)?;
    let meta = Meta { cluster: dir.cluster_id(), index, term };
    let path = dir.snapshot_name(index, state.last_zxid());
    dir.publish(&path, |out| encode_state(out, &meta, state).map(|_| ())).map_err(io)?;
    new.restart_at(index, term, hard_state).map_err(log)?;
    new.close().map_err(|fault| fault.to_string())
}
