//! Results side by side: ratios to the first, curves over each other, and a warning wherever the loads are not the same.

use crate::durability::is_durable;
use crate::plan::{Plan, Space};
use crate::report::{self, bytes, count, escape, number, time, Curve, Line, Plot, Style, Unit, COLORS, NONE};
use crate::result::{Host, Load, Outcome};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// A result and what it is called here.
pub struct Entry {
    pub label: String,
    pub outcome: Outcome,
}

/// Labels: a result's own name, else its file's; the number of the column where two would be called the same.
#[must_use]
pub fn entries(results: Vec<(&Path, Outcome)>) -> Vec<Entry> {
    let mut taken = BTreeSet::new();
    results
        .into_iter()
        .enumerate()
        .map(|(at, (path, outcome))| {
            let file = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
            let own =
                Some(outcome.name.clone()).filter(|name| !name.is_empty()).unwrap_or_else(|| file.clone());
            let label = [own.clone(), format!("{own} ({file})")]
                .into_iter()
                .find(|label| !taken.contains(label))
                .unwrap_or_else(|| format!("{own} #{}", at + 1));
            taken.insert(label.clone());
            Entry { label, outcome }
        })
        .collect()
}

/// One figure of every result.
pub struct Row {
    pub name: &'static str,
    /// `None`: not measured there.
    pub values: Vec<Option<f64>>,
    text: fn(f64) -> String,
    pub is_more_better: bool,
}

impl Row {
    /// Each to the first; `None` where one of the two is missing or 0.
    #[must_use]
    pub fn ratios(&self) -> Vec<Option<f64>> {
        let first = self.values.first().copied().flatten();
        self.values.iter().map(|value| ratio((*value)?, first?)).collect()
    }

    /// Better or worse than the first; `None`: about the same, or not known.
    #[must_use]
    pub fn is_better(&self, ratio: Option<f64>) -> Option<bool> {
        let ratio = ratio.filter(|ratio| (ratio - 1.0).abs() > SAME)?;
        Some((ratio > 1.0) == self.is_more_better)
    }

    fn shown(&self, at: usize) -> String {
        self.values[at].map_or(NONE.to_owned(), self.text)
    }
}

/// A difference below this share is none.
const SAME: f64 = 0.03;

fn ratio(value: f64, first: f64) -> Option<f64> {
    let ratio = value / first;
    (value > 0.0 && first > 0.0 && ratio.is_finite()).then_some(ratio)
}

fn times(ratio: f64) -> String {
    format!("×{}", number(ratio))
}

/// 0 is not measured.
fn above(value: f64) -> Option<f64> {
    Some(value).filter(|value| *value > 0.0)
}

/// The figures that are compared. What no result has is left out.
#[must_use]
pub fn rows(entries: &[Entry]) -> Vec<Row> {
    let row = |name, is_more_better, text: fn(f64) -> String, value: fn(&Outcome) -> Option<f64>| Row {
        name,
        values: entries.iter().map(|one| value(&one.outcome).filter(|value| value.is_finite())).collect(),
        text,
        is_more_better,
    };
    let rate = |value: f64| format!("{}/s", count(value));
    let mut rows = vec![
        row("rate", true, rate, |o| above(o.all.per_second)),
        row("p50", false, time, |o| above(o.all.intended.p50)),
        row("p90", false, time, |o| above(o.all.intended.p90)),
        row("p99", false, time, |o| above(o.all.intended.p99)),
        row("p99.9", false, time, |o| above(o.all.intended.p999)),
        row("max", false, time, |o| above(o.all.intended.max)),
        row("p99 of service time", false, time, |o| above(o.all.service.p99)),
        row("server CPU/op", false, time, report::cpu_per_op),
        row("server RSS", false, bytes, report::rss),
        row("errors", false, count, |o| Some(o.counts.errors as f64)),
    ];
    rows.retain(|row| row.values.iter().any(Option::is_some));
    rows
}

/// Where two loads are not the same: (what, the first's, the other's).
#[must_use]
pub fn differences(first: &Load, other: &Load) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    let mut check = |what, a: String, b: String| {
        if a != b {
            found.push((what, a, b));
        }
    };
    check("mode", first.mode.clone(), other.mode.clone());
    // A ladder finds its rate itself: that is what is compared.
    if first.mode != "ladder" || other.mode != "ladder" {
        let rate = |load: &Load| match (load.rate_from, load.rate_to) {
            (0.0, 0.0) => "none".to_owned(),
            (from, to) if from == to => format!("{from}/s"),
            (from, to) => format!("{from} to {to}/s"),
        };
        check("rate", rate(first), rate(other));
    }
    check("connections", first.connections.to_string(), other.connections.to_string());
    check("depth", first.depth.to_string(), other.depth.to_string());
    check("seconds measured", first.duration_s.to_string(), other.duration_s.to_string());
    if let (Some(a), Some(b)) = (&first.plan, &other.plan) {
        check("mix", a.mix(), b.mix());
        let each = |plan: &Plan, what: fn(&Space) -> String| {
            plan.spaces.iter().map(what).collect::<Vec<_>>().join(" and ")
        };
        let mut spaces = |name, what| check(name, each(a, what), each(b, what));
        spaces("keys", |space| space.keys.to_string());
        spaces("keys below a parent", |space| space.keys_per_parent.to_string());
        spaces("choice of keys", |space| space.choice.to_string());
        spaces("values", |space| format!("{} B", space.value));
        check("operations in a multi", a.multi_size.to_string(), b.multi_size.to_string());
    } else {
        let known = |load: &Load| if load.plan.is_some() { "known" } else { "not known" }.to_owned();
        check("workload", known(first), known(other));
    }
    found
}

/// What a reader must know before the table: results that are INVALID, what else was said of each, and loads that differ.
#[must_use]
pub fn warnings(entries: &[Entry]) -> Vec<String> {
    let mut said = Vec::new();
    for one in entries {
        let why = one.outcome.verdict.reasons.join("; ");
        if !one.outcome.verdict.is_valid {
            let why = why.trim_start_matches("INVALID: ");
            said.push(format!("{} is INVALID, do not quote it ({why})", one.label));
        } else if !why.is_empty() {
            said.push(format!("of {}: {why}", one.label));
        }
    }
    let Some((first, others)) = entries.split_first() else { return said };
    for other in others {
        for (what, a, b) in differences(&first.outcome.load, &other.outcome.load) {
            said.push(format!("not the same load: {what} {a} in {}, {b} in {}", first.label, other.label));
        }
        let counts = |one: &Entry| match one.outcome.counts.counts_late_ones() {
            true => "with late ones",
            false => "in the measured part alone",
        };
        if counts(first) != counts(other) {
            said.push(format!(
                "not the same rate: answers {} in {}, {} in {}, so their rates and CPU/op differ where a backlog was \
                 answered behind the end",
                counts(first),
                first.label,
                counts(other),
                other.label
            ));
        }
        let (a, b) = (&first.outcome.host, &other.outcome.host);
        // How two servers sync is never in the same words: only one that keeps nothing is told.
        if is_durable(&a.fsync) != is_durable(&b.fsync) {
            let of =
                |host: &Host| if host.fsync.is_empty() { "not known".to_owned() } else { host.fsync.clone() };
            said.push(format!(
                "not the same fsync: {} in {}, {} in {}",
                of(a),
                first.label,
                of(b),
                other.label
            ));
        }
        if (&a.cpu_model, a.cpus) != (&b.cpu_model, b.cpus) {
            said.push(format!(
                "not the same machine: {} × {} in {}, {} × {} in {}",
                a.cpus, a.cpu_model, first.label, b.cpus, b.cpu_model, other.label
            ));
        }
    }
    said
}

/// Modes that are not one: their latencies mean different things. `None`: all are the same.
#[must_use]
pub fn refusal(entries: &[Entry]) -> Option<String> {
    let first = entries.first()?;
    let other = entries.iter().find(|one| one.outcome.load.mode != first.outcome.load.mode)?;
    Some(format!(
        "{} ran as '{}' and {} as '{}': their latencies do not mean the same (--anyway compares them all the same)",
        first.label, first.outcome.load.mode, other.label, other.outcome.load.mode
    ))
}

fn heading(one: &Entry) -> String {
    let mark = if one.outcome.verdict.is_valid { "" } else { " INVALID" };
    format!("{}{mark}", one.label)
}

/// The table as text, in columns.
#[must_use]
pub fn text(entries: &[Entry]) -> String {
    let rows = rows(entries);
    let mut lines: Vec<Vec<String>> = vec![vec![String::new()]];
    lines[0].extend(entries.iter().map(heading));
    for row in &rows {
        let ratios = row.ratios();
        let cells = (0..entries.len()).map(|at| match ratios[at].filter(|_| at > 0) {
            Some(ratio) => {
                format!("{} {:>7}", row.shown(at).replace('µ', "u"), times(ratio).replace('×', "x"))
            }
            None if at > 0 => format!("{} {:>7}", row.shown(at), ""),
            None => row.shown(at).replace('µ', "u"),
        });
        lines.push([row.name.to_owned()].into_iter().chain(cells).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..=entries.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let _ = write!(out, "{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(out, "  {cell:>width$}");
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    for warning in warnings(entries) {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    out
}

/// The table as Markdown.
#[must_use]
pub fn markdown(entries: &[Entry]) -> String {
    let plain = |text: &str| escape(text).replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut out = String::from("| |");
    for one in entries {
        let mark = if one.outcome.verdict.is_valid { "" } else { " **INVALID**" };
        let _ = write!(out, " {}{mark} |", plain(&one.label));
    }
    let _ = writeln!(out, "\n|---|{}", "--:|".repeat(entries.len()));
    for row in rows(entries) {
        let _ = write!(out, "| {} |", row.name);
        for (at, ratio) in row.ratios().into_iter().enumerate() {
            match ratio.filter(|_| at > 0) {
                Some(ratio) => {
                    let _ = write!(out, " {} ({}) |", row.shown(at), times(ratio));
                }
                None => {
                    let _ = write!(out, " {} |", row.shown(at));
                }
            }
        }
        out.push('\n');
    }
    for (at, warning) in warnings(entries).iter().enumerate() {
        let _ = write!(out, "{}> - {}", if at == 0 { "\n" } else { "" }, plain(warning));
        out.push('\n');
    }
    out
}

/// The page.
#[must_use]
pub fn page(entries: &[Entry]) -> String {
    let mut out = String::new();
    let warnings = warnings(entries);
    let is_valid = entries.iter().all(|one| one.outcome.verdict.is_valid);
    let said: String = warnings.iter().map(|warning| format!("<li>{}</li>", escape(warning))).collect();
    if !is_valid {
        let _ = write!(out, "<div class=\"alarm\" role=\"alert\"><strong>INVALID results are among these</strong><ul>{said}</ul></div>");
    } else if !said.is_empty() {
        let _ = write!(out, "<div class=\"remarks\"><ul>{said}</ul></div>");
    }
    let title = entries.iter().map(|one| one.label.as_str()).collect::<Vec<_>>().join(" · ");
    let _ = write!(out, "<header><h1>{}</h1>", escape(&title));
    if let Some(first) = entries.first() {
        let _ = write!(out, "<p class=\"load\">{}</p>", escape(&report::load(&first.outcome.load)));
    }
    out.push_str("</header>");
    table(&mut out, entries);
    for plot in plots(entries).iter().flatten() {
        out.push_str(&plot.figure());
    }
    report::shell(&title, is_valid, &out, &format!("ringkeeper-load {}", crate::args::VERSION))
}

fn table(out: &mut String, entries: &[Entry]) {
    let width = 100 + 110 * entries.len();
    let _ = write!(
        out,
        "<section><h2>Side by side</h2><div class=\"scroll\"><table class=\"sides\" style=\"min-width:{width}px\"><thead><tr><th></th>"
    );
    for (at, one) in entries.iter().enumerate() {
        let badge =
            if one.outcome.verdict.is_valid { "" } else { " <span class=\"badge bad\">✕ INVALID</span>" };
        let (color, label) = (at % COLORS, escape(&one.label));
        let version = escape(&one.outcome.target.version);
        let _ = write!(
            out,
            "<th scope=\"col\"><span class=\"name\"><span class=\"swatch c{color}\"></span>{label}{badge}</span><span class=\"version\">{version}</span></th>"
        );
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows(entries) {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", row.name);
        for (at, ratio) in row.ratios().into_iter().enumerate() {
            let _ = write!(out, "<td>{}", escape(&row.shown(at)));
            if let Some(ratio) = ratio.filter(|_| at > 0) {
                let (class, word) = match row.is_better(Some(ratio)) {
                    Some(true) => ("better", "better"),
                    Some(false) => ("worse", "worse"),
                    None => ("same", "same"),
                };
                let _ = write!(out, "<span class=\"ratio {class}\">{} {word}</span>", times(ratio));
            }
            out.push_str("</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    let _ = writeln!(
        out,
        "<p class=\"note\">Ratios are to {}. Latencies are intended times, from when an operation was due, unless they say otherwise.</p></section>",
        escape(&entries.first().map_or(String::new(), |one| one.label.clone()))
    );
}

/// Two colours are told apart by more than their hue: neighbours are dashed or thin.
fn style(at: usize) -> Style {
    [Style::Solid, Style::Dashed, Style::Thin][at % 3]
}

fn plots(entries: &[Entry]) -> [Option<Plot>; 4] {
    let curves = entries.iter().enumerate().map(|(at, one)| {
        let all = &one.outcome.all;
        let points = report::curve(&all.intended_hdr, &all.intended);
        let (name, count) = (one.label.clone(), all.intended.count);
        Curve { name, color: at, style: style(at), points, count }
    });
    let percentiles = report::percentiles(curves.collect());
    let ladders: Vec<_> = entries
        .iter()
        .filter(|one| !one.outcome.ladder.is_empty())
        .map(|one| (one.label.clone(), one.outcome.ladder.as_slice()))
        .collect();
    let knee = if ladders.len() == entries.len() { report::knee(&ladders) } else { None };
    let series = |what: fn(&Outcome) -> Vec<(f64, f64)>| -> Vec<Line> {
        let line = |(at, one): (usize, &Entry)| Line::new(&one.label, at, style(at), what(&one.outcome));
        entries.iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect()
    };
    let plot = |title, lines: Vec<Line>, is_log: bool, unit, label| {
        let values = || lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
        let scale = if is_log { report::Scale::log(values()) } else { report::Scale::from_zero(values()) };
        let ends = entries.iter().flat_map(|one| one.outcome.intervals.last()).map(|last| last.end_s);
        let mut plot = Plot::new(title, report::seconds(ends), report::Axis::new(scale, unit, label));
        plot.is_low = !is_log;
        plot.lines = lines;
        (!plot.lines.is_empty()).then_some(plot)
    };
    let rates = series(|outcome| report::rates(&report::thin(&outcome.intervals, 1_200)));
    let p99 = series(|outcome| report::points(&report::thin(&outcome.intervals, 1_200), |i| i.p99));
    [
        percentiles,
        knee,
        plot("p99 over time", p99, true, Unit::Time, "p99, intended (log scale)"),
        plot("Throughput over time", rates, false, Unit::Count, "operations answered a second"),
    ]
}

#[cfg(test)]
mod tests;
