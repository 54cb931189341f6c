//! `leave`: asks the server that runs on a data directory to leave its ensemble, and waits for its end. In a container's
//! hook before the stop it makes a scale-down one that the others do not wait for.

use super::verify::{refuse, why_not};
use crate::config::{self, ServeArgs};
use crate::host::disk::{lock_path, read_identity, try_shared_lock, LockState};
use crate::host::preflight::{EX_CONFIG, EX_OSERR};
use crate::host::signals::ask_to_leave;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// EX_TEMPFAIL: it may work the next time.
const EX_TEMPFAIL: i32 = 75;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// 0: it has left and ended; 75: it has not; 71: it does not run, is in no ensemble, or can not be asked; 78: no
/// configuration, or no data of ours.
#[must_use]
pub fn leave(args: &ServeArgs, timeout_s: u64) -> i32 {
    let dir = match config::load(args) {
        Ok((config, _)) => config.data_dir,
        Err(invalid) => return refuse(EX_CONFIG, &invalid.to_string()),
    };
    let shown = dir.display();
    let process = match try_shared_lock(&dir) {
        Ok(LockState::Held(process)) => process,
        Ok(LockState::Free(_)) => return refuse(EX_OSERR, &format!("{shown}: no server is running on it")),
        Err(error) => return refuse(EX_OSERR, &format!("{shown}: its lock can not be tried: {error}")),
    };
    if read_identity(&dir).is_ok_and(|identity| identity.is_no_member()) {
        return refuse(
            EX_OSERR,
            &format!(
                "{shown}: its server is in no ensemble: it runs alone, or its ensemble has not formed yet. There is nothing \
                 to leave; SIGTERM stops it"
            ),
        );
    }
    let asked = process
        .trim()
        .parse()
        .map_err(|_| "it has not noted its process id".to_owned())
        .and_then(|process| check_holder(process, &dir).map(|()| process))
        .and_then(|process| ask_to_leave(process).map_err(|error| error.to_string()));
    if let Err(why) = asked {
        return refuse(EX_OSERR, &format!("{shown}: its server (process {process}) can not be asked: {why}"));
    }
    // None: further away than a clock goes.
    let until = Instant::now().checked_add(Duration::from_secs(timeout_s));
    while matches!(try_shared_lock(&dir), Ok(LockState::Held(_))) {
        if until.is_some_and(|until| Instant::now() > until) {
            return refuse(
                EX_TEMPFAIL,
                &format!(
                    "{shown}: its server has not left within {timeout_s} s: it is the only voter, or no majority of the \
                     others answers. It runs on and leaves as soon as it can, unless it is started anew before"
                ),
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    has_left(&dir)
}

/// The note in the lock's file is a number of the server's own pid namespace. Seen from another one (a container beside it that
/// has the same volume) it is another process, which SIGUSR1 would end.
fn check_holder(process: i32, dir: &Path) -> Result<(), String> {
    match holds(process, &lock_path(dir)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("here that is another process, or none: run this where the server runs (in a \
                          container of Kubernetes: in the server's own)"
            .to_owned()),
        Err(error) => Err(format!(
            "whether it is that process can not be seen: {error}: run this where the server runs, and as its user"
        )),
    }
}

/// Whether a process has a file open.
fn holds(process: i32, file: &Path) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let open = match std::fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // One that is closed meanwhile is not it.
    let mut open = open.filter_map(|entry| entry.ok()?.path().metadata().ok());
    Ok(open.any(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())))
}

fn has_left(dir: &Path) -> i32 {
    match read_identity(dir) {
        Ok(identity) if identity.has_left => 0,
        Ok(_) => refuse(
            EX_TEMPFAIL,
            &format!(
                "{}: its server has ended and has not noted that it left: its log says why, and /zookeeper/config whether it is \
                 a member",
                dir.display()
            ),
        ),
        Err(refusal) => refuse(refusal.exit_code(), &why_not(&refusal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::{DataDir, DirOptions};
    use crate::ids::ServerId;
    use std::process::{Command, Stdio};

    #[test]
    fn only_the_process_that_holds_the_lock_is_asked() {
        let home = tempfile::tempdir().unwrap();
        let options = DirOptions { path: home.path().into(), log_path: None, server: ServerId(1) };
        let _dir = DataDir::open(&options).unwrap();
        assert_eq!(check_holder(i32::try_from(std::process::id()).unwrap(), home.path()), Ok(()));
        // It lives until its input ends, and has nothing of ours.
        let mut another = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        for process in [i32::try_from(another.id()).unwrap(), 0, i32::MAX] {
            let why = check_holder(process, home.path()).unwrap_err();
            assert!(why.contains("run this where the server runs"), "{why}");
        }
        drop(another.stdin.take());
        assert!(another.wait().unwrap().success(), "it was sent nothing");
    }
}
