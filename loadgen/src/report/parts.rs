//! What a page says in words and figures: headline, cards, tables, the environment.

use super::text::{bytes, count, date, escape, number, share, short, time, whole, NONE};
use crate::result::{Cgroup, Latency, Load, OpResult, Outcome, ServerUse};
use std::fmt::Write;

/// What was asked, in one line.
#[must_use]
pub fn load(load: &Load) -> String {
    let mode = match load.mode.as_str() {
        "open" => "open loop".to_owned(),
        "closed" => "closed loop".to_owned(),
        other => other.to_owned(),
    };
    let mut parts = vec![mode];
    match (load.rate_from, load.rate_to) {
        (from, to) if from > 0.0 && from == to => parts.push(format!("{}/s", count(from))),
        (from, to) if from > 0.0 || to > 0.0 => parts.push(format!("{} to {}/s", count(from), count(to))),
        _ => {}
    }
    match (load.connections, load.depth) {
        (0, _) => {}
        (connections, 0 | 1) => parts.push(format!("{} connections", whole(connections))),
        (connections, depth) => {
            parts.push(format!("{} connections, {depth} operations deep", whole(connections)));
        }
    }
    if load.duration_s > 0.0 {
        parts.push(format!("{} s", short(load.duration_s)));
    }
    if let Some(plan) = &load.plan {
        parts.push(plan.mix().replace(',', ", "));
        for space in &plan.spaces {
            let below = if plan.spaces.len() > 1 { format!(" below {}", space.root) } else { String::new() };
            parts.push(format!(
                "{} keys{below}, {}, values of {} B",
                whole(space.keys),
                space.choice,
                space.value
            ));
        }
    }
    parts.join(" · ")
}

/// The verdict as a badge, and what a reader must know, unmissable where the figures may not be quoted.
#[must_use]
pub fn verdict(outcome: &Outcome) -> (String, String) {
    let verdict = &outcome.verdict;
    let reasons: String =
        verdict.reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    match (verdict.is_valid, verdict.reasons.is_empty()) {
        (false, _) => (
            "<span class=\"badge bad\">✕ INVALID</span>".to_owned(),
            format!("<div class=\"alarm\" role=\"alert\"><strong>INVALID: do not quote these figures</strong><ul>{reasons}</ul></div>"),
        ),
        (true, false) => (
            "<span class=\"badge odd\">! valid, with remarks</span>".to_owned(),
            format!("<div class=\"remarks\"><ul>{reasons}</ul></div>"),
        ),
        (true, true) => ("<span class=\"badge good\">✓ valid</span>".to_owned(), String::new()),
    }
}

/// The name of a result on its page.
#[must_use]
pub fn name(outcome: &Outcome) -> String {
    match (outcome.name.as_str(), outcome.target.servers.as_slice()) {
        ("", []) => "A result".to_owned(),
        ("", servers) => servers.join(", "),
        (name, _) => name.to_owned(),
    }
}

pub fn headline(out: &mut String, outcome: &Outcome) {
    let (badge, words) = verdict(outcome);
    let _ = write!(out, "{words}<header><div class=\"top\"><h1>{}</h1>{badge}</div>", escape(&name(outcome)));
    let _ = write!(out, "<p class=\"load\">{}</p>", escape(&load(&outcome.load)));
    let mut target = vec![outcome.target.servers.join(", "), outcome.target.version.clone()];
    target.push(date(outcome.started_unix));
    target.retain(|part| !part.is_empty() && part != NONE);
    let _ = write!(out, "<p class=\"target\">{}</p></header>", escape(&target.join(" · ")));
}

fn card(out: &mut String, name: &str, value: &str, more: &str) {
    let (figure, unit) = value.split_once(' ').unwrap_or((value, ""));
    let _ = write!(
        out,
        "<div class=\"card\"><h3>{}</h3><p class=\"figure\">{} <small>{}</small></p><p class=\"more\">{}</p></div>",
        escape(name),
        escape(figure),
        escape(unit),
        escape(more)
    );
}

/// Whether service time was measured as such: modes that know one time only give it twice.
#[must_use]
pub fn has_service(result: &OpResult) -> bool {
    result.intended_hdr != result.service_hdr
}

/// A unit as it is written by hand.
fn micro(unit: &str) -> &str {
    match unit {
        "us" => "µs",
        other => other,
    }
}

/// Servers' processor time for each operation, all together; `None`: none was watched.
#[must_use]
pub fn cpu_per_op(outcome: &Outcome) -> Option<f64> {
    let sum: f64 = outcome.servers.iter().map(|server| server.cpu_us_per_op).sum();
    (!outcome.servers.is_empty()).then_some(sum)
}

/// Servers' resident memory; `None`: none was watched.
#[must_use]
pub fn rss(outcome: &Outcome) -> Option<f64> {
    let sum: f64 = outcome.servers.iter().map(|server| server.rss_bytes as f64).sum();
    (!outcome.servers.is_empty()).then_some(sum)
}

pub fn cards(out: &mut String, outcome: &Outcome) {
    out.push_str("<section class=\"cards\">");
    let (all, load) = (&outcome.all, &outcome.load);
    if all.answered > 0 || outcome.figures.is_empty() {
        let asked = match (load.rate_from, load.rate_to) {
            (from, to) if from > 0.0 && from == to => format!("of {}/s asked for", count(from)),
            (from, to) if from > 0.0 || to > 0.0 => format!("of {} to {}/s", count(from), count(to)),
            _ => format!("{} in all", count(all.answered as f64)),
        };
        card(out, "answered a second", &format!("{} /s", count(all.per_second)), &asked);
        let (i, s) = (&all.intended, &all.service);
        for (name, due, sent) in
            [("p50", i.p50, s.p50), ("p99", i.p99, s.p99), ("p99.9", i.p999, s.p999), ("max", i.max, s.max)]
        {
            let service = format!("service {}", time(sent));
            card(out, name, &time(due), if has_service(all) { &service } else { "" });
        }
    }
    for figure in &outcome.figures {
        card(out, &figure.name, &format!("{} {}", number(figure.value), micro(&figure.unit)), "");
    }
    if let (Some(cpu), Some(rss)) = (cpu_per_op(outcome), rss(outcome)) {
        let used: f64 = outcome.servers.iter().map(|server| server.cpu_s).sum();
        let user = outcome.servers.iter().map(|server| server.user_share * server.cpu_s).sum::<f64>() / used;
        card(out, "server CPU per operation", &time(cpu), &format!("{} of it user", share(user)));
        let most: f64 = outcome.servers.iter().map(|server| server.rss_bytes_max as f64).sum();
        card(out, "server RSS", &bytes(rss), &format!("peak {}", bytes(most)));
    }
    let counts = &outcome.counts;
    let of = counts.errors as f64 / counts.answered.saturating_add(counts.errors).max(1) as f64;
    let more = if counts.unsent > 0 {
        format!("and {} never sent", whole(counts.unsent))
    } else {
        format!("{} of operations", share(of))
    };
    card(out, "errors", &whole(counts.errors), &more);
    out.push_str("</section>\n");
}

/// A table; cells are escaped here.
pub fn table(out: &mut String, title: &str, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "<section><h2>{}</h2><div class=\"scroll\"><table><thead><tr>", escape(title));
    for name in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        // A row that says more of the one above has no name of its own.
        out.push_str(if row.first().is_some_and(String::is_empty) { "<tr class=\"more\">" } else { "<tr>" });
        for (at, cell) in row.iter().enumerate() {
            if at == 0 {
                let _ = write!(out, "<th scope=\"row\">{}</th>", escape(cell));
            } else {
                let _ = write!(out, "<td>{}</td>", escape(cell));
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>\n");
}

pub fn operations(out: &mut String, outcome: &Outcome) {
    let times = |what: &str, l: &Latency| {
        let mut row = vec![what.to_owned()];
        row.extend([l.p50, l.p90, l.p99, l.p999, l.p9999, l.max].map(time));
        row
    };
    let mut rows = Vec::new();
    let mut both = |result: &OpResult| {
        let errors: u64 = result.errors.values().fold(0, |all, errors| all.saturating_add(*errors));
        let head = [result.op.clone(), whole(result.answered), count(result.per_second), whole(errors)];
        rows.push(head.into_iter().chain(times("intended", &result.intended)).collect());
        if has_service(result) {
            let empty = [String::new(), String::new(), String::new(), String::new()];
            rows.push(empty.into_iter().chain(times("service", &result.service)).collect());
        }
    };
    outcome.ops.iter().filter(|_| outcome.ops.len() > 1).for_each(&mut both);
    if outcome.all.answered > 0 || !outcome.ops.is_empty() {
        both(&outcome.all);
    }
    let head =
        ["operation", "answered", "a second", "errors", "", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    table(out, "Operations", &head, &rows);
}

pub fn errors(out: &mut String, outcome: &Outcome) {
    let all = outcome.counts.answered.saturating_add(outcome.counts.errors).max(1) as f64;
    let rows: Vec<_> = outcome
        .all
        .errors
        .iter()
        .map(|(name, number)| {
            let of: Vec<_> = outcome
                .ops
                .iter()
                .filter_map(|op| op.errors.get(name).map(|number| format!("{} {}", op.op, whole(*number))))
                .collect();
            vec![name.clone(), whole(*number), share(*number as f64 / all), of.join(", ")]
        })
        .collect();
    table(out, "Errors", &["error", "times", "of operations", "by operation"], &rows);
}

pub fn ladder(out: &mut String, outcome: &Outcome) {
    let rows: Vec<_> = outcome
        .ladder
        .iter()
        .map(|step| {
            let l = &step.intended;
            let cpu = if step.cpu_us_per_op > 0.0 { time(step.cpu_us_per_op) } else { NONE.to_owned() };
            let mut row = vec![format!("{}/s", count(step.rate)), format!("{}/s", count(step.per_second))];
            row.extend([l.p50, l.p99, l.p999, l.max].map(time));
            row.extend([cpu, whole(step.errors)]);
            let knee = match (step.is_knee, step.is_at_least) {
                (true, true) => "knee, at least",
                (true, false) => "knee",
                (false, _) => "",
            };
            let invalid = if step.is_valid { "" } else { "INVALID" };
            row.push(
                [knee, invalid].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", "),
            );
            row
        })
        .collect();
    let head = ["asked for", "answered", "p50", "p99", "p99.9", "max", "server CPU/op", "errors", ""];
    table(out, "Steps of the ladder", &head, &rows);
}

fn limits(cgroup: &Cgroup) -> String {
    let mut parts = Vec::new();
    if cgroup.cpu_limit > 0.0 {
        parts.push(format!("{} cores", short(cgroup.cpu_limit)));
        parts.push(format!(
            "throttled in {} of {} periods, {} in all",
            whole(cgroup.throttled_periods),
            whole(cgroup.periods),
            time(cgroup.throttled_us as f64)
        ));
    }
    if cgroup.memory_limit_bytes > 0 {
        parts.push(format!("memory {}", bytes(cgroup.memory_limit_bytes as f64)));
    }
    if cgroup.memory_bytes > 0 {
        let most = match cgroup.memory_bytes_max {
            0 => String::new(),
            most => format!(", {} at most", bytes(most as f64)),
        };
        parts.push(format!("its group holds {}{most}", bytes(cgroup.memory_bytes as f64)));
    }
    if !cgroup.cpuset.is_empty() {
        parts.push(format!("CPUs {}", cgroup.cpuset));
    }
    if cgroup.memlock_bytes > 0 && cgroup.memlock_bytes < u64::MAX {
        parts.push(format!("locked memory {}", bytes(cgroup.memlock_bytes as f64)));
    }
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

fn server(outcome: &Outcome, server: &ServerUse) -> Vec<String> {
    let per_op = |number: u64| short(number as f64 / outcome.counts.per_op() as f64);
    vec![
        format!("{} {}", server.name, server.command),
        time(server.cpu_us_per_op),
        format!("{} s", number(server.cpu_s)),
        share(server.user_share),
        format!("{} + {}", per_op(server.voluntary_switches), per_op(server.involuntary_switches)),
        bytes(server.rss_bytes as f64),
        bytes(server.rss_bytes_max as f64),
        whole(server.threads),
        bytes(server.disk_write_bytes_per_op),
    ]
}

pub fn servers(out: &mut String, outcome: &Outcome) {
    let rows: Vec<_> = outcome.servers.iter().map(|one| server(outcome, one)).collect();
    let head = ["server", "CPU/op", "CPU", "user", "switches/op", "RSS", "peak RSS", "threads", "written/op"];
    table(out, "Servers", &head, &rows);
}

pub fn environment(out: &mut String, outcome: &Outcome) {
    let (host, own) = (&outcome.host, &outcome.own);
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value));
        }
    };
    let cpu = if host.cpu_model.is_empty() { "unknown model" } else { &host.cpu_model };
    if host.cpus > 0 {
        fact("CPU", format!("{} × {cpu}", host.cpus));
        fact("memory", bytes(host.memory_bytes as f64));
    }
    fact("kernel", host.kernel.clone());
    fact("load before", host.load_average.clone());
    fact("file system of the log", host.file_systems.join("\n"));
    fact("fsync", host.fsync.clone());
    for server in &outcome.servers {
        fact(&format!("limits of {}", server.name), limits(&server.cgroup));
    }
    fact("limits of the load generator", limits(&host.cgroup));
    let threads = match outcome.load.threads {
        0 => String::new(),
        1 => ", 1 thread".to_owned(),
        threads => format!(", {threads} threads"),
    };
    let busy = match own.threads_busy.iter().copied().reduce(f64::max) {
        Some(busiest) => format!(", the busiest at {} of a core", share(busiest)),
        None => String::new(),
    };
    let late = match own.lag.count {
        0 => String::new(),
        _ => format!(", late by {} (p99)", time(own.lag.p99)),
    };
    fact("load generator", format!("{}{threads}{busy}{late}", outcome.tool));
    let counts = &outcome.counts;
    fact(
        "connections",
        format!(
            "{} lost, {} reconnects, {} sessions lost, {} watch events",
            whole(counts.connections_lost),
            whole(counts.reconnects),
            whole(counts.sessions_lost),
            whole(counts.events)
        ),
    );
    if outcome.gap_ns.0 > 0 {
        fact("longest gap", format!("{} without an answer", time(outcome.gap_ns.0 as f64 / 1e3)));
    }
    fact("started", date(outcome.started_unix));
    out.push_str("<section><h2>Environment</h2><dl>");
    for (name, value) in &facts {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value).replace('\n', "<br>"));
    }
    out.push_str("</dl>");
    if !outcome.command.is_empty() {
        let command: Vec<_> = outcome.command.iter().map(|word| quoted(word)).collect();
        let _ = write!(out, "<pre>{}</pre>", escape(&command.join(" ")));
    }
    out.push_str("</section>\n");
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
