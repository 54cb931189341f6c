//! A result for eyes on a terminal.

use crate::result::{Latency, OpResult, Outcome, Step};
use std::fmt::Write;

/// Microseconds, as short as they can be read.
#[must_use]
pub fn time(micros: f64) -> String {
    match micros {
        m if m < 1.0 => format!("{:.0} ns", m * 1e3),
        m if m < 10.0 => format!("{m:.1} us"),
        m if m < 1e3 => format!("{m:.0} us"),
        m if m < 1e4 => format!("{:.2} ms", m / 1e3),
        m if m < 1e5 => format!("{:.1} ms", m / 1e3),
        m if m < 1e6 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.2} s", m / 1e6),
    }
}

/// A count, in thousands with a letter.
#[must_use]
pub fn count(number: f64) -> String {
    match number {
        n if n < 1e4 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.1}k", n / 1e3),
        n => format!("{:.2}M", n / 1e6),
    }
}

/// Bytes.
#[must_use]
pub fn bytes(number: f64) -> String {
    match number {
        n if n < 1024.0 => format!("{n:.0} B"),
        n if n < 1024.0 * 1024.0 => format!("{:.1} KiB", n / 1024.0),
        n if n < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", n / 1024.0 / 1024.0),
        n => format!("{:.2} GiB", n / 1024.0 / 1024.0 / 1024.0),
    }
}

fn row(out: &mut String, op: &str, what: &str, rate: &str, l: &Latency) {
    let times = [l.p50, l.p90, l.p99, l.p999, l.p9999, l.max].map(time);
    let _ = write!(out, "{op:<18} {what:<9} {rate:>10}");
    for time in times {
        let _ = write!(out, " {time:>9}");
    }
    out.push('\n');
}

/// What was asked, in a line.
#[must_use]
pub fn headline(outcome: &Outcome) -> String {
    let load = &outcome.load;
    let what = load.plan.as_ref().map_or(String::new(), ToString::to_string);
    let rate = match (load.rate_from, load.rate_to) {
        (from, _) if from <= 0.0 => "as fast as answers come".to_owned(),
        (from, to) if from == to => format!("{}/s", count(from)),
        (from, to) => format!("{} to {}/s", count(from), count(to)),
    };
    match load.mode.as_str() {
        "open" | "closed" | "ladder" | "gap" => format!(
            "{}: {rate}, {} connections x {}, {} threads, {:.0} s; {what}",
            load.mode, load.connections, load.depth, load.threads, load.duration_s
        ),
        "fill" => format!(
            "fill: {} znodes of {} B",
            outcome.counts.answered,
            load.plan.as_ref().map_or(String::new(), |plan| plan.spaces[0].value.to_string())
        ),
        "disk" => format!("disk: {rate} records, O_DIRECT and O_DSYNC, for {:.0} s", load.duration_s),
        "churn" => format!("churn: {rate} sessions for {:.0} s", load.duration_s),
        mode => format!("{mode}: {} connections", load.connections),
    }
}

fn step(out: &mut String, step: &Step) {
    let knee = match (step.is_knee, step.is_at_least) {
        (true, true) => "<- knee, at least",
        (true, false) => "<- knee",
        (false, _) => "",
    };
    // None where no server process was named.
    let cpu = match step.cpu_us_per_op {
        cpu if cpu > 0.0 => format!("{cpu:>6.2} us CPU/op  "),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{:>9}/s  got {:>9}/s  p50 {:>9}  p99 {:>9}  p99.9 {:>9}  {cpu}{knee}{}",
        count(step.rate),
        count(step.per_second),
        time(step.intended.p50),
        time(step.intended.p99),
        time(step.intended.p999),
        if step.is_valid { "" } else { " INVALID" },
    );
}

/// The whole table.
#[must_use]
pub fn table(outcome: &Outcome) -> String {
    let mut out = String::new();
    let o = &mut out;
    outcome.ladder.iter().for_each(|one| step(o, one));
    let _ = writeln!(
        o,
        "\n{}\n{} {}\n",
        headline(outcome),
        outcome.target.servers.join(","),
        outcome.target.version
    );
    let mut rows = String::new();
    let both = |o: &mut String, result: &OpResult| {
        row(o, &result.op, "intended", &count(result.per_second), &result.intended);
        row(o, "", "service", "", &result.service);
    };
    let is_load = matches!(outcome.load.mode.as_str(), "open" | "closed" | "ladder" | "gap");
    for result in outcome.ops.iter().filter(|result| outcome.ops.len() > 1 && result.op != outcome.all.op) {
        both(&mut rows, result);
    }
    if outcome.all.intended.count > 0 {
        both(&mut rows, &outcome.all);
    }
    if !rows.is_empty() {
        let _ = writeln!(
            o,
            "{:<18} {:<9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n{rows}",
            "operation", "latency", "ops/s", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        );
    }
    let busiest = outcome.own.threads_busy.iter().copied().fold(0.0, f64::max) * 100.0;
    if is_load {
        let _ =
            writeln!(o, "own lag p99 {}, busiest thread {busiest:.0}% of a core", time(outcome.own.lag.p99));
    } else if busiest > 0.0 {
        let _ = writeln!(o, "own thread {busiest:.0}% of a core");
    }
    for server in &outcome.servers {
        let per_op = |n: u64| n as f64 / outcome.counts.per_op() as f64;
        let _ = writeln!(
            o,
            "server {} ({}): {:.2} us CPU/op ({:.0}% user), {:.2} + {:.2} switches/op, RSS {}, {} written/op",
            server.name,
            server.command,
            server.cpu_us_per_op,
            server.user_share * 100.0,
            per_op(server.voluntary_switches),
            per_op(server.involuntary_switches),
            bytes(server.rss_bytes as f64),
            bytes(server.disk_write_bytes_per_op),
        );
        if server.cgroup.cpu_limit > 0.0 {
            let _ = writeln!(
                o,
                "  limited to {} cores: throttled in {} of {} periods, {} in all",
                server.cgroup.cpu_limit,
                server.cgroup.throttled_periods,
                server.cgroup.periods,
                time(server.cgroup.throttled_us as f64)
            );
        }
        if server.cgroup.memory_limit_bytes > 0 {
            let _ = writeln!(
                o,
                "  limited to {} of memory: {} in use, {} at most",
                bytes(server.cgroup.memory_limit_bytes as f64),
                bytes(server.cgroup.memory_bytes as f64),
                bytes(server.cgroup.memory_bytes_max as f64)
            );
        }
        if server.processes > 1 {
            let _ = writeln!(o, "  {} processes, counted together", server.processes);
        }
    }
    if !outcome.host.fsync.is_empty() {
        let _ = writeln!(o, "fsync {}", outcome.host.fsync);
    }
    for system in &outcome.host.file_systems {
        let _ = writeln!(o, "log in {system}");
    }
    let c = &outcome.counts;
    let _ = writeln!(
        o,
        "{} answered, {} errors, {} connections lost, {} reconnects, {} sessions lost",
        c.answered, c.errors, c.connections_lost, c.reconnects, c.sessions_lost
    );
    for (name, number) in &outcome.all.errors {
        let _ = writeln!(o, "  {name}: {number}");
    }
    for figure in &outcome.figures {
        // What has no unit is a count.
        let _ = match figure.unit.as_str() {
            "" => writeln!(o, "{}: {:.0}", figure.name, figure.value),
            unit => writeln!(o, "{}: {:.3} {unit}", figure.name, figure.value),
        };
    }
    for reason in &outcome.verdict.reasons {
        let _ = writeln!(o, "{reason}");
    }
    out
}
