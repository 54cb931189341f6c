//! `leave`: asks the server that runs on a data directory to leave its ensemble, and waits for its end. In a container's
//! hook before the stop it makes a scale-down one that the others do not wait for.

use super::verify::{refuse, why_not};
use crate::config::{self, ServeArgs};
use crate::host::disk::{read_identity, try_shared_lock, LockState};
use crate::host::preflight::{EX_CONFIG, EX_OSERR};
use crate::host::signals::ask_to_leave;
use std::path::Path;
use std::time::{Duration, Instant};

/// EX_TEMPFAIL: it may work the next time.
const EX_TEMPFAIL: i32 = 75;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// 0: it has left and ended; 75: it has not; 71: it does not run, or can not be asked; 78: no configuration, or no data of
/// ours.
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
    let asked = process
        .trim()
        .parse()
        .map_err(|_| "it has not noted its process id".to_owned())
        .and_then(|process| ask_to_leave(process).map_err(|error| error.to_string()));
    if let Err(why) = asked {
        return refuse(EX_OSERR, &format!("{shown}: its server (process {process}) can not be asked: {why}"));
    }
    let until = Instant::now() + Duration::from_secs(timeout_s);
    while matches!(try_shared_lock(&dir), Ok(LockState::Held(_))) {
        if Instant::now() > until {
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
