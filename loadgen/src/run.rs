//! A run: starts the threads, hears of their intervals, reads the servers' processes, and makes the result.

use crate::busy;
use crate::durability;
use crate::engine::{self, Orders, Start, Word};
use crate::host;
use crate::plan::Plan;
use crate::record::{errors, Tally};
use crate::result::{self, Counts, Interval, Latency, Load, Outcome, Own, Target, Verdict, FORMAT};
use crate::schedule::Pace;
use crate::server::{self, Reading, Server};
use crate::setup::{self, Client};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a run is told.
#[derive(Clone)]
pub struct Settings {
    pub name: String,
    pub servers: Vec<SocketAddr>,
    pub watched: Vec<Server>,
    /// Whole auth frames, sent behind each handshake.
    pub auth: Arc<[u8]>,
    pub pace: Pace,
    pub connections: u64,
    pub depth: usize,
    pub threads: usize,
    pub warmup: Duration,
    pub duration: Duration,
    pub interval: Duration,
    pub drain: Duration,
    pub connect: Duration,
    pub session_timeout: Duration,
    pub plan: Plan,
    /// The tree is there already.
    pub no_setup: bool,
}

/// A line of progress, one a second.
pub enum Progress {
    /// The tree is being made: so many znodes of so many.
    Setup {
        done: u64,
        total: u64,
    },
    Measure(Second),
}

/// What a second of the warm-up or of the measured part brought.
pub struct Second {
    pub elapsed: Duration,
    pub left: Duration,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub errors: u64,
}

/// How a run ended, beside its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Whole,
    /// The user stopped it.
    Stopped,
    /// All connections were down at the end.
    ServerGone,
    /// Not one operation succeeded.
    AllFailed,
    /// An open loop's rate was not reached: below 99% of what was due was answered in time.
    RateMissed,
    /// The load generator itself was the limit.
    Invalid,
}

const SETUP_TOLD_EVERY: Duration = Duration::from_secs(1);

/// What is said of a measure that the user stopped.
pub const STOPPED: &str = "stopped before its time: the figures are of what was done until then";

/// An interval of all threads, while it is gathered.
#[derive(Default)]
struct Gathered {
    tally: Tally,
    from: usize,
}

/// Runs to the end. An error means that nothing was measured.
pub fn run(
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    told: impl FnMut(Progress),
) -> Result<(Outcome, Ending), String> {
    run_from(settings, stop, |_| {}, told)
}

/// The same; `begins` hears when the tree is made, all connections are up and the warm-up begins.
pub fn run_from(
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    begins: impl FnOnce(Instant),
    mut told: impl FnMut(Progress),
) -> Result<(Outcome, Ending), String> {
    if !settings.no_setup {
        let mut client = Client::open(&settings.servers, settings.connect, &settings.auth, stop)?;
        let mut last = Instant::now();
        setup::make_tree(&mut client, &settings.plan, settings.connections, |made| {
            if last.elapsed() >= SETUP_TOLD_EVERY {
                last = Instant::now();
                told(Progress::Setup { done: made.done, total: made.total });
            }
        })?;
        client.close();
    }
    let threads = settings.threads.clamp(1, settings.connections.max(1) as usize);
    let plan = Arc::new(settings.plan.clone());
    let start = Arc::new(Start { barrier: Barrier::new(threads + 1), stop: AtomicBool::new(false) });
    let (home, words) = mpsc::channel();
    let mut handles = Vec::new();
    let mut back = Vec::new();
    let nanos = |d: Duration| d.as_nanos() as u64;
    let number = run_number();
    for thread in 0..threads {
        let share = |n: usize| settings.connections * n as u64 / threads as u64;
        let orders = Orders {
            servers: settings.servers.clone(),
            auth: settings.auth.clone(),
            thread,
            threads,
            run: number,
            connections: share(thread)..share(thread + 1),
            depth: settings.depth,
            pace: settings.pace,
            session_timeout_ms: settings.session_timeout.as_millis() as i32,
            warmup: nanos(settings.warmup),
            duration: nanos(settings.duration),
            interval: nanos(settings.interval),
            drain: nanos(settings.drain),
            connect: nanos(settings.connect),
        };
        let (give, used) = mpsc::channel();
        back.push(give);
        let (plan, start, home) = (plan.clone(), start.clone(), home.clone());
        let builder = std::thread::Builder::new().name(format!("load-{thread}"));
        let body = move || engine::run(orders, plan, &start, &home, &used);
        handles.push(builder.spawn(body).map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    drop(home);
    let host = surroundings(&settings.watched, &settings.servers);
    let mut failed = None;
    let mut was_stopped = false;
    for _ in 0..threads {
        let word = loop {
            if stop.load(Ordering::Relaxed) && !was_stopped {
                was_stopped = true;
                start.stop.store(true, Ordering::Relaxed);
            }
            match words.recv_timeout(Duration::from_millis(20)) {
                Err(RecvTimeoutError::Timeout) => {}
                word => break word,
            }
        };
        if let Ok(Word::Failed(why)) = word {
            failed = failed.or(Some(why).filter(|why| why != "stopped"));
        }
    }
    start.barrier.wait();
    let began = Instant::now();
    // Where a thread could not begin, nothing does.
    let has_begun = !start.stop.load(Ordering::Relaxed);
    if has_begun {
        begins(began);
    }
    let mut watch = Watch::new(settings, began);
    let mut totals = Tally::default();
    let mut gathered: Vec<Gathered> = Vec::new();
    let (mut busy, mut unsent, mut cut_off) = (Vec::new(), 0, 0);
    let (mut last_gone, mut never_up) = (None, None::<BTreeSet<SocketAddr>>);
    let (mut shown, mut intervals) = (0, Vec::new());
    // Until all have told all: then they close their sessions, which is no part of the run.
    while busy.len() < threads {
        if stop.load(Ordering::Relaxed) && !was_stopped {
            was_stopped = true;
            start.stop.store(true, Ordering::Relaxed);
        }
        watch.look();
        match words.recv_timeout(Duration::from_millis(20)) {
            Ok(Word::Ready | Word::Failed(_)) => {}
            Ok(Word::Interval { index, thread, mut tally }) => {
                totals.merge(&tally);
                if gathered.len() <= index {
                    gathered.resize_with(index + 1, Gathered::default);
                }
                gathered[index].tally.merge(&tally);
                gathered[index].from += 1;
                tally.clear();
                // To whom it came from, who sends as many as it takes: no thread hoards those of the others.
                let _ = back[thread].send(tally);
            }
            Ok(Word::Done { busy: share, unsent: more, last_gone: gone, is_cut_off, not_reached }) => {
                busy.push(share);
                unsent += more;
                last_gone = last_gone.or(gone);
                // Whom one thread reached can be reached.
                never_up = Some(match never_up {
                    Some(known) => known.intersection(&not_reached).copied().collect(),
                    None => not_reached,
                });
                cut_off += usize::from(is_cut_off);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while gathered.get(shown).is_some_and(|interval| interval.from == threads) {
            let whole = std::mem::take(&mut gathered[shown].tally);
            told(progress(settings, &whole, shown, began));
            // A tally weighs a megabyte: a long run cannot keep them.
            intervals.push(interval(settings, &whole, shown));
            shown += 1;
        }
    }
    let measured = watch.measured(settings);
    watch.end();
    for handle in handles {
        handle.join().map_err(|_| "a thread of the load generator ended by its own fault".to_owned())?;
    }
    if let Some(why) = failed {
        return Err(why);
    }
    if !has_begun {
        return Err("stopped before anything was measured".to_owned());
    }
    let ending = Ended { totals: &totals, unsent, busy: &busy, was_stopped, cut_off: cut_off == threads };
    let mut outcome = blank(&settings.name, &settings.servers, &[]);
    outcome.load = load(settings, threads);
    outcome.host = host;
    let seconds = measured.as_secs_f64();
    (outcome.all, outcome.ops) = result::results(&totals, seconds);
    outcome.counts = Counts {
        due: totals.due,
        answered: totals.answered(),
        completed: totals.completed(),
        errors: totals.errors(),
        unsent,
        connections_lost: totals.connections_lost,
        reconnects: totals.reconnects,
        sessions_lost: totals.sessions_lost,
        events: totals.events,
    };
    outcome.gap_ns = totals.gap;
    outcome.own = Own {
        lag: totals.lag.as_ref().map(|lag| Latency::of(lag)).unwrap_or_default(),
        threads_busy: busy.clone(),
    };
    let rest = gathered.iter().enumerate().skip(shown).map(|(at, one)| interval(settings, &one.tally, at));
    intervals.extend(rest);
    outcome.intervals = intervals;
    watch.finish(&mut outcome);
    for server in never_up.unwrap_or_default() {
        // The others had its share of the load.
        outcome.verdict.reasons.push(format!("no connection to {server} was ever up"));
    }
    let ending = judge(settings.pace, &mut outcome, &ending, last_gone);
    Ok((outcome, ending))
}

/// The command line, without what --auth says: a result is passed on.
fn command(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_secret = false;
    let told = words.map(|word| {
        let shown = match word.strip_prefix("--auth=") {
            Some(_) => "--auth=...".to_owned(),
            None if is_secret => "...".to_owned(),
            None => word.clone(),
        };
        is_secret = word == "--auth";
        shown
    });
    told.collect()
}

/// A number that no other run has: from the clock and the process id, spread over all bits.
fn run_number() -> u32 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    ((nanos ^ u64::from(std::process::id()) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

/// A result with nothing measured: who asks whom.
#[must_use]
pub fn blank(name: &str, servers: &[SocketAddr], watched: &[Server]) -> Outcome {
    Outcome {
        format: FORMAT,
        name: name.to_owned(),
        tool: format!("ringkeeper-load {}", crate::args::VERSION),
        started_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        command: command(std::env::args()),
        target: Target {
            servers: servers.iter().map(ToString::to_string).collect(),
            version: version(servers),
        },
        verdict: Verdict { is_valid: true, reasons: Vec::new() },
        host: surroundings(watched, servers),
        ..Outcome::default()
    }
}

/// The machine, and where the servers' logs lie on it.
fn surroundings(watched: &[Server], servers: &[SocketAddr]) -> result::Host {
    let (fsync, file_systems) = durability::of_all(watched, servers);
    result::Host { fsync, file_systems, ..host::host() }
}

/// What is known when all threads have ended.
struct Ended<'a> {
    totals: &'a Tally,
    unsent: u64,
    busy: &'a [f64],
    was_stopped: bool,
    cut_off: bool,
}

/// Own lag's p99 may be this share of the reported p99.
const LAG_SHARE_MAX: f64 = 0.1;

fn judge(pace: Pace, outcome: &mut Outcome, ended: &Ended<'_>, last_gone: Option<String>) -> Ending {
    let mut reasons = std::mem::take(&mut outcome.verdict.reasons);
    let mut ending = Ending::Whole;
    // Apart from the ending: what a generator measured that was the limit stays so when the run is stopped as well.
    let mut is_valid = true;
    let busiest = ended.busy.iter().copied().fold(0.0, f64::max);
    if let Some(why) = busy::refusal(busiest) {
        reasons.push(why);
        (ending, is_valid) = (Ending::Invalid, false);
    }
    let (lag, p99) = (outcome.own.lag.p99, outcome.all.intended.p99);
    // Where no latency is reported there is none that our own lateness could have made.
    if outcome.all.intended.count > 0 && lag > LAG_SHARE_MAX * p99 {
        reasons.push(format!(
            "INVALID: the load generator itself was late (p99 {lag:.0} us, above 10% of the reported {p99:.0} us): give it a core of its own"
        ));
        (ending, is_valid) = (Ending::Invalid, false);
    }
    let due = ended.totals.due;
    let (answered, completed) = (ended.totals.answered(), ended.totals.completed());
    // What may be under way at any moment, and so at the last one.
    let under_way = outcome.load.connections * outcome.load.depth as u64;
    // Where nothing was refused or lost, what came due just waited: an open loop beyond the server's reach.
    let is_backlog = matches!(pace, Pace::Open { .. })
        && completed > 0
        && outcome.all.errors.keys().all(|name| *name == errors::name(errors::UNANSWERED));
    if answered == 0 && !outcome.all.errors.is_empty() && !is_backlog {
        let named = outcome.all.errors.iter().map(|(name, number)| format!("{number} {name}"));
        let named = named.collect::<Vec<_>>().join(", ");
        reasons.push(format!("no operation succeeded; all failed, by their errors: {named}"));
        if ending == Ending::Whole {
            ending = Ending::AllFailed;
        }
    } else if matches!(pace, Pace::Open { .. })
        && !ended.was_stopped
        && ((completed + under_way.min(answered.saturating_sub(completed))) as f64) < 0.99 * due as f64
    {
        reasons.push(format!(
            "the rate was not reached: {due} operations came due, {completed} answers came in that time and {} \
             later, {} operations found no connection free",
            answered.saturating_sub(completed),
            ended.unsent
        ));
        if ending == Ending::Whole {
            ending = Ending::RateMissed;
        }
    }
    // A closed loop has nothing due while it waits: where a server hung from the warm-up on, nothing failed either.
    if pace == Pace::Closed
        && answered + completed == 0
        && outcome.all.errors.is_empty()
        && !ended.was_stopped
    {
        reasons.push("no operation was answered in the measured part".to_owned());
        if ending == Ending::Whole {
            ending = Ending::AllFailed;
        }
    }
    if ended.was_stopped {
        reasons.push(STOPPED.to_owned());
        ending = Ending::Stopped;
    }
    if outcome.counts.sessions_lost > 0 {
        reasons.push(format!("{} sessions were lost and begun anew", outcome.counts.sessions_lost));
    }
    if outcome.counts.connections_lost > 0 {
        let why = last_gone.unwrap_or_default();
        reasons.push(format!("{} connections were lost (the last: {why})", outcome.counts.connections_lost));
    }
    if ended.cut_off {
        reasons.push("at the end no connection was up: the server is gone".to_owned());
        ending = Ending::ServerGone;
    }
    outcome.verdict = Verdict { is_valid, reasons };
    ending
}

fn load(settings: &Settings, threads: usize) -> Load {
    let (mode, from, to) = match settings.pace {
        Pace::Closed => ("closed", 0.0, 0.0),
        Pace::Open { from, to } => ("open", from, to),
    };
    Load {
        mode: mode.to_owned(),
        rate_from: from,
        rate_to: to,
        connections: settings.connections,
        depth: settings.depth,
        threads,
        warmup_s: settings.warmup.as_secs_f64(),
        duration_s: settings.duration.as_secs_f64(),
        plan: Some(settings.plan.clone()),
    }
}

fn progress(settings: &Settings, tally: &Tally, at: usize, began: Instant) -> Progress {
    let (intended, _) = tally.all();
    let elapsed = settings.interval * (at as u32 + 1);
    Progress::Measure(Second {
        elapsed,
        left: (settings.warmup + settings.duration).saturating_sub(began.elapsed()),
        per_second: tally.completed() as f64 / settings.interval.as_secs_f64(),
        p50_us: intended.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: intended.value_at_quantile(0.99) as f64 / 1e3,
        errors: tally.errors(),
    })
}

fn interval(settings: &Settings, tally: &Tally, at: usize) -> Interval {
    let (intended, _) = tally.all();
    let length = settings.interval.as_secs_f64();
    let end_s = (length * (at + 1) as f64).min(settings.duration.as_secs_f64());
    let micros = |quantile| intended.value_at_quantile(quantile) as f64 / 1e3;
    Interval {
        end_s,
        seconds: end_s - length * at as f64,
        answered: tally.completed(),
        errors: tally.errors(),
        p50: micros(0.5),
        p99: micros(0.99),
        p999: micros(0.999),
        max: intended.max() as f64 / 1e3,
        heat: result::heat(&intended),
        intended_hdr: result::encode(&intended),
        ..Interval::default()
    }
}

/// The first line of the server's `srvr`.
fn version(servers: &[SocketAddr]) -> String {
    let Some(server) = servers.first() else { return String::new() };
    crate::words::ask(*server, "srvr")
        .and_then(|text| text.lines().next().map(str::to_owned))
        .map(|line| line.trim_start_matches("Zookeeper version: ").to_owned())
        .unwrap_or_default()
}

/// Reads the servers' processes at the begin and the end of the measured part, and at its intervals.
struct Watch<'a> {
    settings: &'a Settings,
    began: Instant,
    started_unix: u64,
    before: Vec<Option<Reading>>,
    /// (seconds into the measured part, the sum of CPU seconds, the sum of throttled microseconds).
    series: Vec<(f64, f64, u64)>,
    after: Vec<Option<Reading>>,
    last: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(settings: &'a Settings, began: Instant) -> Watch<'a> {
        let before = Vec::new();
        Watch { settings, began, started_unix: 0, before, series: Vec::new(), after: Vec::new(), last: None }
    }

    fn read(&self) -> Vec<Option<Reading>> {
        server::read_all(&self.settings.watched)
    }

    fn look(&mut self) {
        let elapsed = self.began.elapsed();
        if elapsed < self.settings.warmup {
            return;
        }
        let into = elapsed - self.settings.warmup;
        if self.last.is_none() {
            self.before = self.read();
            self.started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        }
        let is_due = self.last.is_none_or(|last| last.elapsed() >= self.settings.interval);
        let is_end = into >= self.settings.duration && self.after.is_empty();
        if is_due && into < self.settings.duration || is_end {
            let readings = self.read();
            let cpu = readings.iter().flatten().map(Reading::cpu_s).sum();
            let throttled = readings.iter().flatten().map(Reading::throttled_us).sum();
            self.series.push((into.as_secs_f64(), cpu, throttled));
            self.last = Some(Instant::now());
            if is_end {
                self.after = readings;
            }
        }
    }

    /// The sums of CPU seconds and of throttled microseconds at a time, on the line between the two readings around it.
    fn at(&self, seconds: f64) -> (f64, f64) {
        let next = self.series.partition_point(|reading| reading.0 < seconds);
        let (Some(after), before) = (self.series.get(next).or(self.series.last()), next.saturating_sub(1))
        else {
            return (0.0, 0.0);
        };
        let before = &self.series[before];
        let part = ((seconds - before.0) / (after.0 - before.0).max(1e-9)).clamp(0.0, 1.0);
        let between = |from: f64, to: f64| from + (to - from) * part;
        (between(before.1, after.1), between(before.2 as f64, after.2 as f64))
    }

    /// How long the measured part was.
    fn measured(&self, settings: &Settings) -> Duration {
        let elapsed = self.began.elapsed().saturating_sub(settings.warmup);
        if self.after.is_empty() && !self.settings.watched.is_empty() || elapsed < settings.duration {
            elapsed.min(settings.duration)
        } else {
            settings.duration
        }
    }

    /// The last reading, where the run ended before its time.
    fn end(&mut self) {
        if self.after.is_empty() {
            self.after = self.read();
        }
    }

    fn finish(&self, outcome: &mut Outcome) {
        outcome.started_unix = self.started_unix;
        for ((server, before), after) in self.settings.watched.iter().zip(&self.before).zip(&self.after) {
            match (before, after) {
                (Some(before), Some(after)) => {
                    outcome.servers.push(server.used(before, after, outcome.counts.per_op()));
                }
                // Its line is not there: a reader must know why.
                _ => outcome
                    .verdict
                    .reasons
                    .push(format!("server {} ended during the run: what it used is not known", server.name)),
            }
        }
        for interval in &mut outcome.intervals {
            let begin = self.at(interval.end_s - interval.seconds);
            let end = self.at(interval.end_s);
            interval.server_cpu_share = (end.0 - begin.0) / interval.seconds.max(1e-9);
            interval.throttled_us = (end.1 - begin.1).max(0.0) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was stopped, or whose server went, was said to be valid whatever the generator had been.
    #[test]
    fn what_is_invalid_stays_so_however_the_run_ends() {
        let pace = Pace::Open { from: 100.0, to: 100.0 };
        for (was_stopped, cut_off, want) in [
            (false, false, Ending::Invalid),
            (true, false, Ending::Stopped),
            (false, true, Ending::ServerGone),
        ] {
            for (busy, is_valid) in [(0.99, false), (0.5, true)] {
                let mut outcome = Outcome::default();
                let totals = Tally::default();
                let ended = Ended { totals: &totals, unsent: 0, busy: &[busy], was_stopped, cut_off };
                let ending = judge(pace, &mut outcome, &ended, None);
                assert_eq!(outcome.verdict.is_valid, is_valid, "{:?}", outcome.verdict.reasons);
                assert!(ending == want || is_valid, "{ending:?}");
                let is_said = outcome.verdict.reasons.iter().any(|why| why.starts_with("INVALID"));
                assert_eq!(is_said, !is_valid);
            }
        }
    }

    /// A server that hung in the warm-up of a closed loop gave a valid result of nothing.
    #[test]
    fn a_closed_loop_without_an_answer_has_failed() {
        for (was_stopped, answered, completed, want) in [
            (false, 0, 0, Ending::AllFailed),
            (true, 0, 0, Ending::Stopped),
            (false, 1, 0, Ending::Whole),
            (false, 0, 1, Ending::Whole),
        ] {
            let mut totals = Tally::default();
            let measure = totals.op(crate::plan::Op::Get);
            (measure.answered, measure.completed) = (answered, completed);
            let mut outcome = Outcome::default();
            let ended = Ended { totals: &totals, unsent: 0, busy: &[0.5], was_stopped, cut_off: false };
            assert_eq!(judge(Pace::Closed, &mut outcome, &ended, None), want);
            let is_said =
                outcome.verdict.reasons.iter().any(|why| why.starts_with("no operation was answered"));
            assert_eq!(is_said, want == Ending::AllFailed, "{:?}", outcome.verdict.reasons);
        }
    }

    /// Beyond a server's reach the warm-up alone queued more than the measured part could answer: it was said that every operation
    /// had failed.
    #[test]
    fn what_only_waited_has_not_failed() {
        let pace = Pace::Open { from: 1e7, to: 1e7 };
        for (completed, code, want) in [
            (5, errors::UNANSWERED, Ending::RateMissed),
            (0, errors::UNANSWERED, Ending::AllFailed),
            (5, errors::CONNECTION_LOST, Ending::AllFailed),
        ] {
            let mut totals = Tally { due: 100, ..Tally::default() };
            let measure = totals.op(crate::plan::Op::Get);
            measure.completed = completed;
            measure.errors.insert(code, 100);
            let mut outcome = Outcome::default();
            (outcome.all, outcome.ops) = result::results(&totals, 1.0);
            let ended =
                Ended { totals: &totals, unsent: 100, busy: &[0.5], was_stopped: false, cut_off: false };
            assert_eq!(judge(pace, &mut outcome, &ended, None), want, "{:?}", outcome.verdict.reasons);
        }
    }

    #[test]
    fn a_result_tells_the_command_without_its_secrets() {
        let words = ["load", "--auth", "digest:me:secret", "-r", "5", "--auth=digest:me:secret"];
        let told = command(words.into_iter().map(str::to_owned));
        assert_eq!(told, ["load", "--auth", "...", "-r", "5", "--auth=..."]);
    }
}
