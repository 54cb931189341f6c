//! The only room that touches the machine it runs on: starts the threads, feeds the machines, ends the process.

mod admin_thread;
mod asks;
mod behind;
mod bell;
mod clock;
pub mod disk;
mod epoll;
mod limits;
pub mod link;
mod logging;
mod meet;
mod members_shown;
mod meters;
mod notes;
mod pages;
mod peers;
mod pin;
pub mod preflight;
mod process;
mod recover;
mod sequencer_desk;
mod sequencer_thread;
mod serve;
mod shard_core;
mod shard_epoll;
mod shard_glommio;
mod signals;
mod silence;
mod sleep;
mod snapshot_thread;
mod standing;
pub mod tools;

pub use logging::start_logging;
pub use recover::{continue_from, load_base, load_snapshot, load_state, Base, Recovery};
pub use serve::{serve, serve_and_join};

use crate::ids::LogIndex;
use disk::{DiskFault, LogError};
use std::fmt;
use std::io;

/// Exit codes of sysexits.h, as the README lists them.
pub const EX_SOFTWARE: i32 = 70;
pub const EX_IOERR: i32 = 74;

/// Why the process ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fatal {
    pub exit: i32,
    pub text: String,
}

impl Fatal {
    fn new(exit: i32, text: impl fmt::Display) -> Fatal {
        Fatal { exit, text: text.to_string() }
    }

    fn disk(fault: DiskFault) -> Fatal {
        Fatal::new(fault.exit_code(), &fault)
    }

    fn log(error: LogError) -> Fatal {
        Fatal::new(error.exit_code(), &error)
    }

    fn os(doing: &str, error: &io::Error) -> Fatal {
        Fatal::new(preflight::EX_OSERR, format_args!("{doing}: {error}"))
    }

    fn peers(error: &io::Error) -> Fatal {
        Fatal::os("waiting for the other servers' sockets", error)
    }

    fn wrong_state(index: LogIndex) -> Fatal {
        Fatal::new(
            EX_SOFTWARE,
            format_args!(
                "at entry {} this server's state is another one than that of most servers: it stops, so that no client \
                 reads from it. Keep its data directory for a report; then start it with an empty one as a new server",
                index.0
            ),
        )
    }

    fn unknown_rules(version: u32) -> Fatal {
        Fatal::new(
            preflight::EX_CONFIG,
            format_args!(
                "the ensemble goes on with version {version} of the rules by which writes are applied, and this release knows \
                 {}: start a release that knows it. Nothing is lost",
                crate::apply::RULES
            ),
        )
    }

    fn dead_shard() -> Fatal {
        Fatal::new(
            EX_SOFTWARE,
            "a shard has taken no committed batch for 10 s: the server ends, so that no client hangs on it; please \
             report this with the log",
        )
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
