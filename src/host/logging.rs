//! The log for operators, as text or JSON on standard error; and what a panic of ours does.

use super::EX_SOFTWARE;
use crate::config::source::Warning;
use crate::config::{LogFormat, Logging};
use std::io::Write;
use tracing_subscriber::filter::LevelFilter;

/// Starts it. Called once, before any thread.
pub fn start_logging(logging: &Logging) {
    let level: LevelFilter = logging.level.as_str().parse().unwrap_or(LevelFilter::INFO);
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // It would tell of a line that standard error does not take on standard error, and panic when that fails too: a full
    // disk, or a reader that went away, would end the server.
    let builder = builder.log_internal_errors(false);
    // A second call finds the first one's: in tests.
    let _ = match logging.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    install_panic_hook();
}

/// A server that no longer knows what it knows must not go on: one line, exit code 70, whatever thread it was.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let mut err = std::io::stderr().lock();
        let _ = writeln!(
            err,
            "ringkeeper: internal error in thread {name}: {panic}\n\
             ringkeeper: this is our own fault; the server ends (exit code 70). Acknowledged writes are on disk. \
             Please report the two lines above."
        );
        let _ = err.flush();
        std::process::exit(EX_SOFTWARE);
    }));
}

/// Why a command ends, on standard error. When that takes nothing, the exit code still tells.
pub(super) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Each warning of the configuration, once.
pub(super) fn say_warnings(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
