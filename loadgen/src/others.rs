//! The modes, from flags to a printed result.

use crate::{complain, finish, show, tell, SERVER, USAGE};
use hdrhistogram::Histogram;
use ringkeeper_load::args::{
    resolve, ChurnArgs, DiskArgs, FanOutArgs, FillArgs, GapArgs, LadderArgs, RunArgs, StormArgs,
};
use ringkeeper_load::busy;
use ringkeeper_load::modes::{
    disk as disks, fan_out, fill as filling, gap as gaps, ladder as ladders, sessions,
};
use ringkeeper_load::process::Roots;
use ringkeeper_load::record::{errors, Measure};
use ringkeeper_load::result::{Figure, Latency, OpResult, Outcome};
use ringkeeper_load::run::{blank, Ending, Settings, STOPPED};
use ringkeeper_load::schedule::Pace;
use ringkeeper_load::server::Server;
use ringkeeper_load::table;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

/// What ended a mode before it measured anything.
struct Stop(u8, String);

fn usage(why: String) -> Stop {
    Stop(USAGE, why)
}

fn server(why: String) -> Stop {
    Stop(SERVER, why)
}

fn told(done: Result<u8, Stop>) -> u8 {
    done.unwrap_or_else(|Stop(code, why)| {
        complain(&why);
        code
    })
}

/// A histogram as the row of a table.
fn row(name: &str, latencies: &Histogram<u64>, seconds: f64) -> OpResult {
    row_without(name, latencies, 0, seconds)
}

/// The same, where some of what it holds never came.
fn row_without(name: &str, latencies: &Histogram<u64>, missing: usize, seconds: f64) -> OpResult {
    let mut measure = Measure::new();
    measure.intended.add(latencies).expect("all histograms have the same bounds");
    measure.service.add(latencies).expect("all histograms have the same bounds");
    let came = latencies.len() - missing as u64;
    (measure.answered, measure.completed) = (came, came);
    if missing > 0 {
        measure.errors.insert(errors::UNANSWERED, missing as u64);
    }
    OpResult::of(name, &measure, seconds)
}

/// What is read of the servers' processes is nothing where none is named.
fn without_servers(outcome: &mut Outcome, watched: &[Server]) {
    if watched.is_empty() {
        outcome.figures.retain(|figure| !figure.name.contains("CPU") && !figure.name.contains("RSS"));
    }
}

/// Says that the user stopped it.
fn stopped(outcome: &mut Outcome) -> Ending {
    outcome.verdict.reasons.push(STOPPED.to_owned());
    Ending::Stopped
}

fn settings(run: &RunArgs) -> Result<Settings, Stop> {
    run.settings().map_err(usage)
}

pub fn ladder(args: &LadderArgs, stop: &Arc<AtomicBool>) -> u8 {
    told((|| {
        let settings = settings(&args.run)?;
        let Pace::Open { from, to } = settings.pace else {
            return Err(usage("a ladder climbs rates: --closed has none".to_owned()));
        };
        if from != to {
            return Err(usage("a ladder's --rate is its lowest, one number: --to is the highest".to_owned()));
        }
        if args.to < from {
            return Err(usage(format!("--to {} is below --rate {from}", args.to)));
        }
        let rungs = ladders::Rungs {
            from,
            to: args.to,
            factor: args.factor,
            p99_max_us: args.p99_max * 1e3,
            p99_growth_max: args.p99_growth,
        };
        let output = &args.run.output;
        let (outcome, ending) = ladders::climb(&settings, &rungs, stop, |rate, progress| {
            if !output.quiet {
                let _ = write!(std::io::stderr(), "{:>8}/s: ", table::count(rate));
            }
            show(output, &progress);
        })
        .map_err(server)?;
        Ok(finish(output, &outcome, ending))
    })())
}

pub fn fan_out(args: &FanOutArgs, stop: &Arc<AtomicBool>) -> u8 {
    told((|| {
        let target = &args.target;
        let settings = fan_out::Settings {
            servers: resolve(&target.servers).map_err(usage)?,
            watched: target.watched().map_err(usage)?,
            auth: target.auth().map_err(usage)?,
            watchers: args.watchers as usize,
            rounds: args.rounds as usize,
            path: args.path.clone(),
            connect: Duration::from_secs_f64(target.connect_timeout),
            session_timeout_ms: target.session_timeout as i32,
            patience: Duration::from_secs_f64(args.patience),
        };
        let mut outcome = blank(&target.name, &settings.servers, &settings.watched);
        let fan = fan_out::run(&settings, stop, |round, last_us| {
            if !args.output.quiet {
                tell(&format!("round {round}: the last event after {}", table::time(last_us)));
            }
        })
        .map_err(server)?;
        outcome.load.mode = "fan-out".to_owned();
        outcome.load.connections = settings.watchers as u64 + 1;
        outcome.load.threads = 1;
        let seconds = fan.last.mean() * fan.last.len() as f64 / 1e9;
        outcome.all = row_without("write to event", &fan.events, fan.missing, seconds);
        outcome.ops = vec![
            outcome.all.clone(),
            row_without("write to last event", &fan.last, fan.short_rounds, seconds),
            row("write to own reply", &fan.reply, seconds),
        ];
        outcome.counts.events = outcome.all.answered;
        outcome.counts.answered = fan.reply.len();
        outcome.counts.errors = fan.missing as u64;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        outcome.figures = vec![
            Figure::new("last event, median", micros(fan.last.value_at_quantile(0.5)) / 1e3, "ms"),
            Figure::new("setter's reply, median", micros(fan.reply.value_at_quantile(0.5)) / 1e3, "ms"),
            Figure::new("setter's reply, longest", micros(fan.reply.max()) / 1e3, "ms"),
            Figure::new("server CPU an event", fan.cpu_s * 1e6 / outcome.all.answered.max(1) as f64, "us"),
        ];
        without_servers(&mut outcome, &settings.watched);
        let mut ending = Ending::Whole;
        if fan.missing > 0 {
            let why = format!("{} events did not come in time, in {} rounds", fan.missing, fan.short_rounds);
            outcome.verdict.reasons.push(why);
            ending = Ending::RateMissed;
        }
        outcome.counts.connections_lost = fan.lost as u64;
        if fan.lost > 0 {
            outcome.verdict.reasons.push(format!("{} connections were lost", fan.lost));
            ending = Ending::RateMissed;
        }
        if let Some(why) = fan.broken {
            outcome.verdict.reasons.push(format!("it ended after {} rounds: {why}", fan.last.len()));
            ending = Ending::ServerGone;
        }
        if fan.was_stopped {
            ending = stopped(&mut outcome);
        }
        ending = busy::judge(&mut outcome, fan.busy, ending);
        Ok(finish(&args.output, &outcome, ending))
    })())
}

pub fn storm(args: &StormArgs, stop: &Arc<AtomicBool>) -> u8 {
    told((|| {
        let target = &args.target;
        let settings = sessions::Storm {
            servers: resolve(&target.servers).map_err(usage)?,
            watched: target.watched().map_err(usage)?,
            auth: target.auth().map_err(usage)?,
            sessions: args.sessions as usize,
            at_once: args.at_once as usize,
            hold: Duration::from_secs_f64(args.hold),
            session_timeout_ms: target.session_timeout as i32,
            patience: Duration::from_secs_f64(args.patience),
        };
        let mut outcome = blank(&target.name, &settings.servers, &settings.watched);
        let stormed = sessions::storm(&settings, stop, |opened| {
            if !args.output.quiet {
                tell(&format!("{opened} sessions are open"));
            }
        })
        .map_err(server)?;
        outcome.load.mode = "storm".to_owned();
        outcome.load.connections = settings.sessions as u64;
        outcome.all = row("handshake", &stormed.handshake, stormed.seconds);
        outcome.ops = vec![outcome.all.clone()];
        outcome.counts.answered = stormed.opened as u64;
        outcome.counts.errors = stormed.refused as u64;
        outcome.counts.sessions_lost = stormed.lost as u64;
        let opened = stormed.opened.max(1) as f64;
        outcome.figures = vec![
            Figure::new("sessions opened a second", stormed.opened as f64 / stormed.seconds.max(1e-9), "/s"),
            Figure::new("server CPU a session opened", stormed.open_cpu_s * 1e6 / opened, "us"),
            Figure::new("RSS a session", stormed.rss_gained as f64 / opened, "B"),
            Figure::new(
                "server CPU while they are held",
                stormed.hold_cpu_s / stormed.hold_s.max(1e-9) * 100.0,
                "% of a core",
            ),
        ];
        without_servers(&mut outcome, &settings.watched);
        let mut ending = Ending::Whole;
        if stormed.refused > 0 || stormed.opened < settings.sessions || stormed.lost > 0 {
            let why = format!(
                "{} of {} sessions opened, {} refused, {} lost after they were open{}",
                stormed.opened,
                settings.sessions,
                stormed.refused,
                stormed.lost,
                stormed.why.map_or(String::new(), |why| format!(" (the last: {why})"))
            );
            outcome.verdict.reasons.push(why);
            ending = Ending::RateMissed;
        }
        if let Some(end) = stormed.end.filter(|_| stormed.opened > 0) {
            let (what, code) = match end {
                sessions::End::ServerGone => ("the server is gone", Ending::ServerGone),
                sessions::End::Refused => ("the server refused all of them", Ending::AllFailed),
            };
            outcome.verdict.reasons.push(format!("at the end no session was left: {what}"));
            ending = code;
        }
        if stormed.was_stopped {
            ending = stopped(&mut outcome);
        }
        ending = busy::judge(&mut outcome, stormed.open_busy, ending);
        Ok(finish(&args.output, &outcome, ending))
    })())
}

/// Sessions under way at the end that say nothing against the rate.
const LATE_MIN: usize = 64;

pub fn churn(args: &ChurnArgs, stop: &Arc<AtomicBool>) -> u8 {
    told((|| {
        let target = &args.target;
        if !(args.rate.is_finite() && args.rate > 0.0) {
            return Err(usage("--rate: sessions a second, above 0".to_owned()));
        }
        let settings = sessions::Churn {
            servers: resolve(&target.servers).map_err(usage)?,
            watched: target.watched().map_err(usage)?,
            auth: target.auth().map_err(usage)?,
            rate: args.rate,
            duration: Duration::from_secs_f64(args.duration),
            session_timeout_ms: target.session_timeout as i32,
        };
        let mut outcome = blank(&target.name, &settings.servers, &settings.watched);
        let churned =
            sessions::churn(&settings, stop, |progress| show(&args.output, &progress)).map_err(server)?;
        outcome.load.mode = "churn".to_owned();
        (outcome.load.rate_from, outcome.load.rate_to) = (args.rate, args.rate);
        outcome.load.duration_s = args.duration;
        outcome.all = row("open and ask", &churned.answer, churned.seconds);
        outcome.ops = vec![row("open", &churned.handshake, churned.seconds), outcome.all.clone()];
        outcome.counts.answered = churned.answer.len();
        outcome.counts.errors = churned.lost as u64;
        let closed = churned.closed.max(1) as f64;
        outcome.figures = vec![
            Figure::new("sessions a second", churned.closed as f64 / churned.seconds.max(1e-9), "/s"),
            Figure::new("server CPU a session", churned.cpu_s * 1e6 / closed, "us"),
        ];
        without_servers(&mut outcome, &settings.watched);
        let mut ending = Ending::Whole;
        if churned.lost > 0 {
            let why = churned.why.map_or(String::new(), |why| format!(" (the last: {why})"));
            let lost = churned.lost;
            outcome
                .verdict
                .reasons
                .push(format!("{lost} sessions were lost, refused or never answered{why}"));
            ending = Ending::RateMissed;
        }
        outcome.counts.due = churned.due as u64;
        // A few are always under way.
        if churned.late > (churned.due / 100).max(LATE_MIN) && !churned.was_stopped {
            outcome.verdict.reasons.push(format!(
                "the rate was not reached: {} sessions came due, {} of them were not through when the last one had",
                churned.due, churned.late
            ));
            ending = Ending::RateMissed;
        }
        if churned.was_stopped {
            ending = stopped(&mut outcome);
        }
        ending = busy::judge(&mut outcome, churned.busy, ending);
        Ok(finish(&args.output, &outcome, ending))
    })())
}

pub fn fill(args: &FillArgs, stop: &AtomicBool) -> u8 {
    told((|| {
        let target = &args.target;
        let servers = resolve(&target.servers).map_err(usage)?;
        let plan = args.plan.plan().map_err(usage)?;
        let watched = target.watched().map_err(usage)?;
        let mut outcome: Outcome = blank(&target.name, &servers, &watched);
        let connect = Duration::from_secs_f64(target.connect_timeout);
        let filled =
            filling::fill(&servers, &target.auth().map_err(usage)?, &watched, &plan, connect, stop, |made| {
                if !args.output.quiet && made.done % 100_000 == 0 {
                    tell(&format!("{} of {} znodes", made.done, made.total));
                }
            })
            .map_err(server)?;
        outcome.load.mode = "fill".to_owned();
        outcome.load.plan = Some(plan);
        outcome.counts.answered = filled.created;
        let znodes = filled.created as f64;
        outcome.figures = vec![
            Figure::new("creates a second", znodes / filled.seconds.max(1e-9), "/s"),
            Figure::new("server CPU a create", filled.cpu_s * 1e6 / znodes, "us"),
            Figure::new("RSS a znode", (filled.rss_after as f64 - filled.rss_before as f64) / znodes, "B"),
            Figure::new("RSS", filled.rss_after as f64 / 1e6, "MB"),
        ];
        without_servers(&mut outcome, &watched);
        let mut ending = Ending::Whole;
        if filled.created == 0 {
            outcome.figures.clear();
            outcome.verdict.is_valid = false;
            outcome.verdict.reasons.push(format!(
                "INVALID: all {} znodes were there already, no create was measured: delete them, or name another --root",
                filled.existed
            ));
            ending = Ending::Invalid;
        } else if filled.existed > 0 {
            outcome.verdict.reasons.push(format!(
                "{} znodes were there already and only set: {} were created, and the time is that of all",
                filled.existed, filled.created
            ));
        }
        if filled.was_stopped {
            ending = stopped(&mut outcome);
        } else if let Some(why) = filled.broken {
            outcome.verdict.reasons.push(format!("it ended before its time: {why}"));
            ending = Ending::ServerGone;
        }
        ending = busy::judge(&mut outcome, filled.busy, ending);
        Ok(finish(&args.output, &outcome, ending))
    })())
}

pub fn gap(args: &GapArgs, stop: &Arc<AtomicBool>) -> u8 {
    told((|| {
        let mut run = args.run.clone();
        if run.plan.mix.is_none() && run.plan.ycsb.is_none() && run.plan.scenario.is_none() {
            run.plan.mix = Some("set=1".parse().map_err(usage)?);
        }
        let settings = settings(&run)?;
        let has_blow = args.kill.is_some() || args.restart.is_some();
        if has_blow && args.kill_after >= run.duration {
            return Err(usage(format!(
                "--kill-after {} is not before the end of the measured part: --duration {}",
                args.kill_after, run.duration
            )));
        }
        if let Some(pid) = args.kill {
            Server::process(pid, Roots::default()).map_err(usage)?;
        }
        let blow = gaps::Blow {
            kill: args.kill,
            after: Duration::from_secs_f64(args.kill_after),
            restart: args.restart.clone(),
        };
        let output = &args.run.output;
        let (outcome, ending) =
            gaps::gap(&settings, &blow, stop, |progress| show(output, &progress)).map_err(server)?;
        Ok(finish(output, &outcome, ending))
    })())
}

pub fn disk(args: &DiskArgs, stop: &AtomicBool) -> u8 {
    told((|| {
        if !(args.rate.is_finite() && (1e-3..=1e7).contains(&args.rate)) {
            return Err(usage("--rate: records a second, 0.001 to 10000000".to_owned()));
        }
        let duration = Duration::from_secs_f64(args.duration);
        let written =
            disks::write(&args.dir, args.rate, args.bytes as usize, duration, stop, &mut |progress| {
                show(&args.output, &progress);
            })
            .map_err(server)?;
        let mut outcome = blank(&args.name, &[], &[]);
        outcome.load.mode = "disk".to_owned();
        (outcome.load.rate_from, outcome.load.rate_to) = (args.rate, args.rate);
        outcome.load.duration_s = args.duration;
        outcome.host.fsync = "on: the file is opened with O_DIRECT and O_DSYNC".to_owned();
        let dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
        let system = ringkeeper_load::host::file_system(&dir.to_string_lossy());
        outcome.host.file_systems.extend(system.map(|system| format!("{}: {system}", dir.display())));
        outcome.all = row("record", &written.durable, written.seconds);
        outcome.ops = vec![outcome.all.clone()];
        outcome.counts.answered = written.durable.len();
        outcome.counts.due = written.due;
        outcome.own.lag = Latency::of(&written.lag);
        outcome.figures = vec![Figure::new("writes", written.writes as f64, "")];
        let mut ending = Ending::Whole;
        if written.was_stopped {
            ending = stopped(&mut outcome);
        } else if outcome.all.per_second < 0.99 * written.due as f64 / args.duration {
            outcome.verdict.reasons.push(format!(
                "the rate was not reached: {} records came due in {} s, {} were durable after {:.1} s",
                written.due,
                args.duration,
                written.durable.len(),
                written.seconds
            ));
            ending = Ending::RateMissed;
        }
        Ok(finish(&args.output, &outcome, ending))
    })())
}
