//! `recover`: most voters of an ensemble are lost for ever. Out of one server's data directory a new one is made, of a new
//! ensemble in which that server votes alone; the other servers come to it with empty disks. The old directory stays as it
//! is. What the lost ones had and this one had not is gone, acknowledged or not: so it is said, and never done by itself.

use super::verify::{not_its_log, refuse, replay, why_not};
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
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Stands in a directory that is being made, and says which one it becomes: one without it, or of another name, is not this
/// tool's to remove. No data directory minds a name that begins with a dot.
const BEGUN: &str = ".ringkeeper-recover";

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
    let log = log_dir.unwrap_or(from).join("log");
    if let Some(why) = not_its_log(from, &identity, log_dir) {
        return Err((EX_CONFIG, format!("{shown}: {why}")));
    }
    let (new, part) = (real(to), unfinished(&real(to)));
    for old in [from, &log] {
        if let Some(other) = [&new, &part].into_iter().find(|other| overlap(&real(old), other)) {
            let text = format!(
                "{}: it is, holds or lies in {}: name another directory for the new ensemble: the old one stays as it is",
                old.display(),
                other.display(),
            );
            return Err((EX_CONFIG, text));
        }
    }
    let hasher = draw_seed().map_err(|fatal| (fatal.exit, fatal.text))?;
    let hasher = PathHasher::new(hash_key(&hasher));
    let (mut state, at, hard_state) = load(from, &log, &identity, &hasher)?;
    if at.0 == LogIndex(0) {
        let text = format!(
            "{shown}: its server was taken into an ensemble and has learned nothing of it yet: recover from another one"
        );
        return Err((EX_CONFIG, text));
    }

    if to.read_dir().is_ok_and(|mut items| items.next().is_some()) {
        return Err((EX_CONFIG, format!("{}: it is not empty: name a new directory", to.display())));
    }
    // Made beside its name, which it gets when it is whole: half of it would start as an empty server.
    begin(&part, &new)?;
    let options = DirOptions { path: part.clone(), log_path: None, server: identity.server };
    let mut dir = DataDir::open(&options).map_err(|refusal| (refusal.exit_code(), refusal.to_string()))?;
    let seat = Seat::new(identity.server, state.membership.next_generation);
    let had_left =
        !state.membership.servers.is_empty() && !state.membership.servers.contains_key(&identity.server);
    state.membership = alone(&state.membership, seat, dir.birth());
    let hard_state = HardState { term: term_above(hard_state.term.max(at.1)), vote: 0, commit: at.0 };
    write(&mut dir, seat, &state, at, hard_state, &LogOptions::default())
        .map_err(|text| (EX_OSERR, format!("{}: {text}", to.display())))?;
    let io = |error: io::Error| (EX_OSERR, format!("{}: {error}", to.display()));
    let myid = format!("{}\n", identity.server.0);
    dir.publish(&part.join("myid"), |out| out.write_all(myid.as_bytes())).map_err(io)?;
    let cluster = dir.cluster_id();
    drop(dir);
    give_name(&part, &new).map_err(io)?;
    // It has served. Where it stays it is in nobody's way.
    let _ = std::fs::remove_file(new.join(BEGUN));
    let others: Vec<String> = state
        .membership
        .servers
        .keys()
        .filter(|server| **server != identity.server)
        .map(|server| server.0.to_string())
        .collect();
    let left = if had_left {
        format!(
            "server {} had left the old ensemble, and has nothing of what came later; the new one's members are those of its \
             configuration\n",
            identity.server.0
        )
    } else {
        String::new()
    };
    Ok(format!(
        "made {}: an ensemble of its own, {:032x}, in which server {} votes alone\n\
         it has {} znodes and {} sessions, up to zxid {}; what only the lost servers had is gone\n\
         start server {} on it, and then the others ({}) with EMPTY data directories: they are taken in by themselves\n\
         a server that still has data of the old ensemble is refused\n{left}",
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

/// Elections that the lost servers may have held while this one was away. A zxid is a term and a count: one that they gave must
/// not come again, and to a client that has seen it the new ensemble must not be behind.
const TERMS_MISSED: u64 = 1 << 16;

/// The term that the new ensemble begins with.
fn term_above(known: Term) -> Term {
    // Above that there is nothing that a zxid can hold; nobody has come so far.
    Term(if known.0 < i32::MAX as u64 / 2 { known.0 + TERMS_MISSED } else { known.0 })
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

/// Makes the directory anew, marked as this tool's. What is there is removed if it was begun for the same end.
fn begin(part: &Path, to: &Path) -> Result<(), Refusal> {
    let shown = part.display();
    let io = |error: io::Error| (EX_OSERR, format!("{shown}: {error}"));
    let mark = to.as_os_str().as_encoded_bytes();
    // Not through a link: what it leads to was not begun here.
    match part.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(found) if !found.is_dir() || !std::fs::read(part.join(BEGUN)).is_ok_and(|noted| noted == mark) => {
            let text = format!(
                "{shown}: the new directory is made under this name, and what is there was not begun by this command for \
                 {}: move it away",
                to.display()
            );
            return Err((EX_CONFIG, text));
        }
        Ok(_) if matches!(try_shared_lock(part), Ok(LockState::Held(_))) => {
            return Err((EX_OSERR, format!("{shown}: another `ringkeeper recover` is making it")));
        }
        Ok(_) => std::fs::remove_dir_all(part).map_err(io)?,
    }
    // Closed to others, as every data directory is.
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(part).map_err(io)?;
    std::fs::write(part.join(BEGUN), mark).map_err(io)
}

/// Where a path leads, through links and past what does not exist yet.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, mut real)) = found else { return path };
    for step in path.strip_prefix(above).into_iter().flat_map(Path::components) {
        match step {
            Component::ParentDir => drop(real.pop()),
            step => real.push(step),
        }
    }
    real
}

/// Whether one is the other, or lies in it.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
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

/// The same lines, and one voter: the other participants vote again when they have come and caught up. Where this server is in
/// none of the lines, since it had left, those of its configuration take their place at its first start: with the old ones it
/// would show itself out once another one had come.
fn alone(old: &Membership, seat: Seat, birth: u128) -> Membership {
    let servers =
        if old.servers.contains_key(&seat.server()) { old.servers.clone() } else { BTreeMap::new() };
    Membership {
        conf: Conf { voters: [seat].into(), ..Conf::default() },
        seats: [(seat, birth)].into(),
        next_generation: old.next_generation + 1,
        wish: None,
        servers,
        ..old.clone()
    }
}

fn write(
    dir: &mut DataDir,
    seat: Seat,
    state: &State,
    (index, term): (LogIndex, Term),
    hard_state: HardState,
    log_options: &LogOptions,
) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let log = |error: LogError| error.to_string();
    // The directory's own id is the new ensemble's: no other server's data belongs to it.
    dir.set_formed(dir.birth(), vec![(dir.server(), dir.birth())]).map_err(io)?;
    dir.set_seat(seat).map_err(io)?;
    let (mut new, _) = Log::open(dir, log_options, LogIndex(0)).map_err(log)?;
    new.announce_snapshot(index, term).map_err(log)?;
    let meta = Meta { cluster: dir.cluster_id(), index, term };
    let path = dir.snapshot_name(index, state.last_zxid());
    dir.publish(&path, |out| encode_state(out, &meta, state).map(|_| ())).map_err(io)?;
    new.restart_at(index, term, hard_state).map_err(log)?;
    new.close().map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::SEGMENT_BYTES_MIN;
    use crate::ids::ServerId;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const AT: (LogIndex, Term) = (LogIndex(5), Term(2));

    /// The data directory of server 2, an ensemble's member.
    fn member(path: &Path) {
        let options = DirOptions { path: path.to_owned(), log_path: None, server: ServerId(2) };
        let mut dir = DataDir::open(&options).unwrap();
        let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
        state.membership = Membership::formed(&[(ServerId(2), dir.birth())]);
        let hard_state = HardState { term: AT.1, vote: 0, commit: AT.0 };
        // Small: the tests read all of it again and again.
        let options =
            LogOptions { segment_bytes: SEGMENT_BYTES_MIN, ballast: false, ..LogOptions::default() };
        write(&mut dir, Seat::new(ServerId(2), 0), &state, AT, hard_state, &options).unwrap();
    }

    /// Everything below a directory, and what it holds.
    fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.extend(contents(&path));
            } else {
                all.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn a_new_directory_is_whole_and_the_old_one_stays_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("old"), home.path().join("new"));
        member(&from);
        let before = contents(&from);
        run(&from, None, &to).unwrap();
        assert_eq!(contents(&from), before);
        assert_eq!(fs::read(to.join("myid")).unwrap(), b"2\n");
        assert!(!to.join(BEGUN).exists() && !unfinished(&to).exists());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o027, 0, "closed to others");
        let made = read_identity(&to).unwrap();
        assert_eq!(made.server, ServerId(2));
        assert_ne!(made.birth, read_identity(&from).unwrap().birth);
        let term = |dir: &Path| {
            let (log, hasher) = (dir.join("log"), PathHasher::new([1, 2, 3, 4]));
            load(dir, &log, &read_identity(dir).unwrap(), &hasher).unwrap().2.term
        };
        assert_eq!(term(&to).0, term(&from).0 + TERMS_MISSED, "the lost servers may have held elections");
    }

    #[test]
    fn what_this_command_began_is_begun_anew_and_nothing_else_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("old"), home.path().join("new"));
        member(&from);
        let part = unfinished(&to);
        // Somebody's directory, one that was begun for another end, a link to one, a file.
        let hidden = home.path().join("hidden");
        begin(&hidden, &real(&to)).unwrap();
        let foreign: [&dyn Fn(); 4] = [
            &|| fs::create_dir(&part).unwrap(),
            &|| begin(&part, &home.path().join("another")).unwrap(),
            &|| std::os::unix::fs::symlink(&hidden, &part).unwrap(),
            &|| fs::write(&part, "a note").unwrap(),
        ];
        for make in foreign {
            make();
            let before = contents(home.path());
            let (exit, text) = run(&from, None, &to).unwrap_err();
            assert!(
                exit == EX_CONFIG && text.contains("new.unfinished") && text.contains("move it"),
                "{text}"
            );
            assert_eq!(contents(home.path()), before);
            fs::rename(&part, home.path().join("moved")).unwrap();
            let _ = fs::remove_file(home.path().join("moved"));
            let _ = fs::remove_dir_all(home.path().join("moved"));
        }
        begin(&part, &real(&to)).unwrap();
        fs::write(part.join("half"), "of it").unwrap();
        run(&from, None, &to).unwrap();
        assert!(!to.join("half").exists());
    }

    #[test]
    fn the_old_directory_is_never_the_new_one_nor_what_becomes_it() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        member(&at("x.unfinished"));
        member(&at("y.unfinished/data"));
        std::os::unix::fs::symlink(at("x.unfinished"), at("link")).unwrap();
        for (from, to) in [
            ("x.unfinished", "x"),
            ("x.unfinished", "none/../x"),
            ("link", "x"),
            ("x.unfinished", "x.unfinished"),
            ("x.unfinished", "link"),
            ("x.unfinished", "x.unfinished/new"),
            ("y.unfinished/data", "y"),
            ("y.unfinished/data", "y.unfinished"),
        ] {
            let before = contents(home.path());
            let (exit, text) = run(&at(from), None, &at(to)).unwrap_err();
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let new = real(&at(to));
            assert!(exit == EX_CONFIG && text.contains(&name(&at(from))), "{from} {to}: {text}");
            assert!(text.contains(&*new.to_string_lossy()), "{from} {to}: {text}");
            assert_eq!(contents(home.path()), before, "{from} {to}");
        }
        // A log directory of its own is as dear.
        member(&at("old"));
        fs::create_dir(at("z.unfinished")).unwrap();
        fs::rename(at("old/log"), at("z.unfinished/log")).unwrap();
        let before = contents(home.path());
        let (exit, text) = run(&at("old"), Some(&at("z.unfinished")), &at("z")).unwrap_err();
        assert!(exit == EX_CONFIG && text.contains("z.unfinished"), "{text}");
        assert_eq!(contents(home.path()), before);
    }
}
