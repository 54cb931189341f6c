//! Flags in, exit code out.

mod others;
mod outputs;

use clap::Parser;
use ringkeeper_load::args::{Cli, Command, NullArgs, OutputArgs, RunArgs};
use ringkeeper_load::result::Outcome;
use ringkeeper_load::run::{self, Ending, Progress, Second};
use ringkeeper_load::{null, table};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SERVER: u8 = 1;
const USAGE: u8 = 2;
const INVALID: u8 = 3;
const RATE_MISSED: u8 = 4;
const NOT_WRITTEN: u8 = 5;

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = listen(&stop) {
        complain(&format!("cannot listen for signals: {error}"));
        return ExitCode::from(SERVER);
    }
    let command = Cli::parse().command;
    raise_open_files();
    // Not after an hour of load.
    if let Some(why) = command.output().and_then(outputs::refusal) {
        complain(&why);
        return ExitCode::from(NOT_WRITTEN);
    }
    let code = match command {
        Command::Run(args) => run(&args, &stop),
        Command::Ladder(args) => others::ladder(&args, &stop),
        Command::FanOut(args) => others::fan_out(&args, &stop),
        Command::Storm(args) => others::storm(&args, &stop),
        Command::Churn(args) => others::churn(&args, &stop),
        Command::Fill(args) => others::fill(&args, &stop),
        Command::Gap(args) => others::gap(&args, &stop),
        Command::Disk(args) => others::disk(&args, &stop),
        Command::Report(args) => outputs::report(&args),
        Command::Compare(args) => outputs::compare(&args),
        Command::Null(args) => serve_null(&args, &stop),
    };
    ExitCode::from(code)
}

/// A second signal ends the program at once, as ever. But one that comes so soon after the first is the same wish: `timeout`
/// tells the program and then its group, a terminal that goes away tells the kernel and the shell.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Sets `stop` at the first signal that asks for the end.
fn listen(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // A second one of these never ends it at once. Under nohup nothing changes.
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP)?;
    }
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            stop.store(true, Ordering::Relaxed);
            let at = *first.get_or_insert_with(Instant::now);
            if signal != SIGHUP && at.elapsed() > ONE_WISH {
                let _ = emulate_default_handler(signal);
            }
        }
    })?;
    Ok(())
}

/// Thousands of connections need more than the 1,024 files that a shell gives. Where it fails, whatever needs them says so.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

fn complain(why: &str) {
    tell(&format!("ringkeeper-load: {why}"));
}

/// A line for whoever watches; where nobody does, the exit code still says what matters.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(args: &RunArgs, stop: &Arc<AtomicBool>) -> u8 {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    match run::run(&settings, stop, |progress| show(&args.output, &progress)) {
        Ok((outcome, ending)) => finish(&args.output, &outcome, ending),
        Err(why) => {
            complain(&why);
            SERVER
        }
    }
}

fn show(output: &OutputArgs, progress: &Progress) {
    if output.quiet {
        return;
    }
    match progress {
        Progress::Setup { done, total } => tell(&format!("the tree is made: {done} of {total} znodes")),
        Progress::Measure(Second { elapsed, left, per_second, p50_us, p99_us, errors }) => tell(&format!(
            "{:5.1} s  {:>8}/s  p50 {:>8}  p99 {:>8}  {errors} errors  {:.0} s left",
            elapsed.as_secs_f64(),
            table::count(*per_second),
            table::time(*p50_us),
            table::time(*p99_us),
            left.as_secs_f64()
        )),
    }
}

/// Prints; `false`: nobody takes it (a full disk, a pipe whose reader has gone).
fn say(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = &said {
        complain(&format!("cannot print the result: {error}"));
    }
    said.is_ok()
}

/// Writes what was asked for. Whatever cannot be written, the rest is, and the table is printed.
fn finish(output: &OutputArgs, outcome: &Outcome, ending: Ending) -> u8 {
    let mut code = match ending {
        Ending::Whole => 0,
        Ending::Stopped | Ending::ServerGone | Ending::AllFailed => SERVER,
        Ending::RateMissed => RATE_MISSED,
        Ending::Invalid => INVALID,
    };
    let is_written = outputs::write_all(output, outcome);
    if !say(&table::table(outcome)) || !is_written {
        code = NOT_WRITTEN;
    }
    code
}

fn serve_null(args: &NullArgs, stop: &Arc<AtomicBool>) -> u8 {
    let ready = |address| {
        say(&format!("{address}\n"));
    };
    match null::serve(args.listen, args.value as usize, stop, ready) {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("{}: {error}", args.listen));
            SERVER
        }
    }
}
