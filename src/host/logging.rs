//! The log for operators, as text or JSON on standard error; and what a panic of ours does.
//!
//! Standard error is often a pipe, and whoever reads it may stop: then a write stands still. So lines go through a short
//! queue to a thread of their own, and are lost, and counted, where they would hold up a shard or the sequencer.

use super::EX_SOFTWARE;
use crate::config::source::Warning;
use crate::config::{LogFormat, Logging};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

/// Lines that wait for standard error, at the most: more are lost.
const LINES_MAX: usize = 1024;
/// How long the end of the process waits for standard error to take the last lines.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Starts it. Called once, before any thread.
pub fn start_logging(logging: &Logging) {
    let level: LevelFilter = logging.level.as_str().parse().unwrap_or(LevelFilter::INFO);
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(|| ToQueue).with_target(false);
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
        complain(format_args!(
            "ringkeeper: internal error in thread {name}: {panic}\n\
             ringkeeper: this is our own fault; the server ends (exit code 70). Acknowledged writes are on disk. \
             Please report the two lines above."
        ));
        say_last_lines();
        std::process::exit(EX_SOFTWARE);
    }));
}

/// Why a command ends, on standard error. When that takes nothing, the exit code still tells.
pub(super) fn complain(text: impl std::fmt::Display) {
    let _ = ToQueue.write_all(format!("{text}\n").as_bytes());
}

/// Lines on their way to standard error.
struct Queue {
    waiting: Mutex<Waiting>,
    /// Signalled when a line came.
    came: Condvar,
    /// Signalled when none is left.
    gone: Condvar,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
    /// Lines are written where they are said until there is a thread.
    has_thread: bool,
    /// The thread has one in its hands.
    is_writing: bool,
}

static QUEUE: Queue = Queue {
    waiting: Mutex::new(Waiting { lines: VecDeque::new(), lost: 0, has_thread: false, is_writing: false }),
    came: Condvar::new(),
    gone: Condvar::new(),
};

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut waiting = self.lock();
            waiting.is_writing = false;
            let Some(line) = waiting.lines.pop_front() else {
                self.gone.notify_all();
                drop(self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner));
                continue;
            };
            waiting.is_writing = true;
            let lost = std::mem::take(&mut waiting.lost);
            drop(waiting);
            // Nothing is left to say a failure to.
            let _ = io::stderr().lock().write_all(&line);
            if lost > 0 {
                tracing::warn!("{lost} lines of this log were lost: standard error was not read in time");
            }
        }
    }
}

/// Takes one line a call.
struct ToQueue;

impl Write for ToQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = QUEUE.lock();
        if !waiting.has_thread {
            drop(waiting);
            io::stderr().lock().write_all(line)?;
        } else if waiting.lines.len() < LINES_MAX {
            waiting.lines.push_back(line.to_vec());
            QUEUE.came.notify_one();
        } else {
            waiting.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From here on nobody waits for standard error. After signals are blocked, or the thread would take them.
pub(super) fn start_thread() -> io::Result<()> {
    std::thread::Builder::new().name("log-lines".to_owned()).spawn(|| QUEUE.run())?;
    QUEUE.lock().has_thread = true;
    Ok(())
}

/// Waits, but not for long, until standard error has taken what was said.
pub(super) fn say_last_lines() {
    let waiting = QUEUE.lock();
    let is_left =
        |waiting: &mut Waiting| waiting.has_thread && (waiting.is_writing || !waiting.lines.is_empty());
    drop(QUEUE.gone.wait_timeout_while(waiting, LAST_LINES_WITHIN, is_left));
}

/// Each warning of the configuration, once.
pub(super) fn say_warnings(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
