//! The plots of a result.

use super::parts::has_service;
use super::plot::{Axis, Cell, Line, Plot, Style, Unit, SHADES};
use super::scale::{nines, percent, quantile, Scale};
use super::text::{count, share, tick_count, time};
use crate::result::{decode, Interval, Latency, OpResult, Outcome, Step};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A series has at most so many points; neighbours are merged above that.
const POINTS_MAX: usize = 1_200;
/// A heat map has at most so many columns.
const COLUMNS_MAX: usize = 150;

/// A result's latency by percentile: (quantile, microseconds), from its histogram, or else from what its summary has.
#[must_use]
pub fn curve(hdr: &str, latency: &Latency) -> Vec<(f64, f64)> {
    let Some(histogram) = decode(hdr).filter(|histogram| !histogram.is_empty()) else {
        let l = latency;
        let known = [(0.5, l.p50), (0.9, l.p90), (0.99, l.p99), (0.999, l.p999), (0.9999, l.p9999)];
        let most = nines(1.0 - 1.0 / l.count.max(1) as f64);
        return known.into_iter().filter(|(at, value)| *value > 0.0 && nines(*at) <= most).collect();
    };
    let most = match Scale::nines(histogram.len()) {
        Scale::Nines(most) => most.min((histogram.len() as f64).log10()),
        _ => 1.0,
    };
    let steps = (most * 40.0).ceil() as usize;
    (0..=steps)
        .map(|step| quantile(most * step as f64 / steps.max(1) as f64))
        .map(|at| (at, histogram.value_at_quantile(at) as f64 / 1e3))
        .collect()
}

/// A line of a plot by percentile.
pub struct Curve {
    pub name: String,
    pub color: usize,
    pub style: Style,
    pub points: Vec<(f64, f64)>,
    /// How many were measured.
    pub count: u64,
}

/// Curves by percentile; none where nothing was measured.
#[must_use]
pub fn percentiles(curves: Vec<Curve>) -> Option<Plot> {
    let most = curves.iter().map(|curve| curve.count).max().filter(|most| *most > 0)?;
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, micros)| *micros));
    let y = Axis::new(Scale::log(values), Unit::Time, "latency (log scale)");
    let x =
        Axis::new(Scale::nines(most), Unit::Percentile, "percentile: share of operations that were faster");
    let mut plot = Plot::new("Latency by percentile", x, y);
    let end = (most as f64).log10();
    for strip in 0..(end * 10.0) as usize {
        let (from, to) = (quantile(strip as f64 / 10.0), quantile((strip as f64 + 1.0) / 10.0));
        let mut text = percent(to);
        for Curve { name, points, .. } in &curves {
            let at = points.iter().rfind(|(at, _)| *at <= to * 1.000_000_001);
            let _ = write!(text, "\n{name} {}", at.map_or(String::new(), |(_, micros)| time(*micros)));
        }
        plot.hovers.push((from, to, text));
    }
    plot.lines =
        curves.into_iter().map(|one| Line::new(&one.name, one.color, one.style, one.points)).collect();
    Some(plot)
}

/// Intended and service time of a result.
#[must_use]
pub fn two_times(all: &OpResult) -> Option<Plot> {
    let curve = |name: &str, color, style, hdr, latency: &Latency| Curve {
        name: name.to_owned(),
        color,
        style,
        points: curve(hdr, latency),
        count: latency.count,
    };
    if !has_service(all) {
        let one = curve(&all.op, 0, Style::Solid, &all.intended_hdr, &all.intended);
        return percentiles(vec![one]);
    }
    let mut plot = percentiles(vec![
        curve("intended (from the time it was due)", 0, Style::Solid, &all.intended_hdr, &all.intended),
        curve("service (from the time it was sent)", 1, Style::Dashed, &all.service_hdr, &all.service),
    ])?;
    plot.note = "The gap between the two lines is time that operations waited for their turn to be sent: a stall is charged to every operation it delays, not only to those under way.".to_owned();
    Some(plot)
}

/// At most so many intervals, their neighbours merged: counts add up, p50 is a mean, of the rest the worst stays.
#[must_use]
pub fn thin(intervals: &[Interval], most: usize) -> Vec<Interval> {
    intervals.chunks(intervals.len().div_ceil(most.max(1)).max(1)).filter_map(merged).collect()
}

fn merged(group: &[Interval]) -> Option<Interval> {
    let mut one = group.last()?.clone();
    if group.len() == 1 {
        return Some(one);
    }
    let sum = |what: fn(&Interval) -> f64| group.iter().map(what).sum::<f64>();
    let worst = |what: fn(&Interval) -> f64| group.iter().map(what).fold(0.0, f64::max);
    one.seconds = sum(|i| i.seconds);
    one.answered = group.iter().fold(0, |all, i| all.saturating_add(i.answered));
    one.errors = group.iter().fold(0, |all, i| all.saturating_add(i.errors));
    one.p50 = sum(|i| i.p50 * i.answered as f64) / one.answered.max(1) as f64;
    one.p99 = worst(|i| i.p99);
    one.p999 = worst(|i| i.p999);
    one.max = worst(|i| i.max);
    one.server_cpu_share = sum(|i| i.server_cpu_share * i.seconds) / one.seconds.max(1e-9);
    one.throttled_us = group.iter().fold(0, |all, i| all.saturating_add(i.throttled_us));
    let mut rows: Vec<(f64, u64)> = Vec::new();
    for (edge, number) in group.iter().flat_map(|i| i.heat.iter()) {
        match rows.iter_mut().find(|(known, _)| (known / edge - 1.0).abs() < 0.01) {
            Some(row) => row.1 = row.1.saturating_add(*number),
            None => rows.push((*edge, *number)),
        }
    }
    one.heat = rows;
    Some(one)
}

/// Answers a second over time.
#[must_use]
pub fn rates(intervals: &[Interval]) -> Vec<(f64, f64)> {
    points(intervals, |i| if i.seconds > 0.0 { i.answered as f64 / i.seconds } else { f64::NAN })
}

/// A figure of each interval at its middle, and held to the run's two ends.
pub fn points(intervals: &[Interval], what: impl Fn(&Interval) -> f64) -> Vec<(f64, f64)> {
    let edge = |i: Option<&Interval>, at: fn(&Interval) -> f64| i.map(|i| (at(i), what(i)));
    let middles = intervals.iter().map(|i| (i.end_s - i.seconds / 2.0, what(i)));
    let first = edge(intervals.first(), |i| i.end_s - i.seconds);
    first.into_iter().chain(middles).chain(edge(intervals.last(), |i| i.end_s)).collect()
}

/// The axis of a run's seconds.
#[must_use]
pub fn seconds(ends: impl Iterator<Item = f64>) -> Axis {
    let end = ends.filter(|end| end.is_finite()).fold(0.0, f64::max);
    Axis::new(Scale::Linear(0.0, if end > 0.0 { end } else { 1.0 }), Unit::Second, "time")
}

fn hovers(intervals: &[Interval], text: impl Fn(&Interval) -> String) -> Vec<(f64, f64, String)> {
    intervals
        .iter()
        .map(|i| {
            let from = i.end_s - i.seconds;
            (from, i.end_s, format!("{} to {} s\n{}", tick_count(from), tick_count(i.end_s), text(i)))
        })
        .collect()
}

/// All plots over time; none without intervals.
#[must_use]
pub fn over_time(outcome: &Outcome) -> Vec<Plot> {
    if outcome.intervals.is_empty() {
        return Vec::new();
    }
    let intervals = thin(&outcome.intervals, POINTS_MAX);
    let mut plots = vec![latencies(&intervals), throughput(outcome, &intervals)];
    plots.extend(processor(outcome, &intervals));
    plots.extend(throttled(&intervals));
    plots.extend(heat(&thin(&outcome.intervals, COLUMNS_MAX)));
    plots
}

fn time_axis(intervals: &[Interval]) -> Axis {
    seconds(intervals.iter().map(|i| i.end_s))
}

fn latencies(intervals: &[Interval]) -> Plot {
    let values = intervals.iter().flat_map(|i| [i.p50, i.p99, i.max]);
    let y = Axis::new(Scale::log(values), Unit::Time, "latency, intended (log scale)");
    let mut plot = Plot::new("Latency over time", time_axis(intervals), y);
    plot.lines = vec![
        Line::new("max", 2, Style::Thin, points(intervals, |i| i.max)),
        Line::new("p99", 1, Style::Solid, points(intervals, |i| i.p99)),
        Line::new("p50", 0, Style::Solid, points(intervals, |i| i.p50)),
    ];
    plot.hovers =
        hovers(intervals, |i| format!("max {}\np99 {}\np50 {}", time(i.max), time(i.p99), time(i.p50)));
    plot
}

fn throughput(outcome: &Outcome, intervals: &[Interval]) -> Plot {
    let rates = rates(intervals);
    let (from, to) = (outcome.load.rate_from, outcome.load.rate_to);
    let y = Scale::from_zero(rates.iter().map(|(_, rate)| *rate).chain([from, to]));
    let y = Axis::new(y, Unit::Count, "operations answered a second");
    let mut plot = Plot::new("Throughput over time", time_axis(intervals), y);
    plot.is_low = true;
    plot.hovers = hovers(intervals, |i| {
        let rate = count(i.answered as f64 / i.seconds.max(1e-9));
        format!("{rate} answered a second, {} errors", i.errors)
    });
    plot.lines = vec![Line::new("answered", 0, Style::Area, rates)];
    if from > 0.0 || to > 0.0 {
        let end = intervals.last().map_or(0.0, |i| i.end_s);
        // The rate moves evenly over warm-up and measured part together.
        let warm = outcome.load.warmup_s.max(0.0);
        let begin = from + (to - from) * warm / (warm + end).max(1e-9);
        plot.lines.push(Line::new("asked for", 1, Style::Dashed, vec![(0.0, begin), (end, to)]));
    }
    if intervals.iter().any(|i| i.errors > 0) {
        let errors = points(intervals, |i| i.errors as f64 / i.seconds.max(1e-9));
        plot.lines.push(Line::new("errors", 3, Style::Solid, errors));
    }
    plot
}

fn processor(outcome: &Outcome, intervals: &[Interval]) -> Option<Plot> {
    let used = points(intervals, |i| i.server_cpu_share);
    let most = used.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let limit = match outcome.servers.as_slice() {
        [server] => Some(server.cgroup.cpu_limit).filter(|limit| *limit > 0.0 && *limit <= most * 4.0),
        _ => None,
    };
    let y = Scale::from_zero([most].into_iter().chain(limit));
    let y = Axis::new(y, Unit::Core, "of one core");
    let title =
        if outcome.servers.len() > 1 { "CPU of all servers over time" } else { "Server CPU over time" };
    let mut plot = Plot::new(title, time_axis(intervals), y);
    plot.is_low = true;
    plot.level = limit.map(|limit| (limit, format!("limit: {} cores", tick_count(limit))));
    plot.hovers = hovers(intervals, |i| format!("{} of a core", share(i.server_cpu_share)));
    plot.lines = vec![Line::new("server CPU", 4, Style::Area, used)];
    Some(plot)
}

fn throttled(intervals: &[Interval]) -> Option<Plot> {
    if intervals.iter().all(|i| i.throttled_us == 0) {
        return None;
    }
    let held = points(intervals, |i| i.throttled_us as f64 / i.seconds.max(1e-9));
    let y = Scale::from_zero(held.iter().map(|(_, micros)| *micros));
    let y = Axis::new(y, Unit::Time, "throttled, for each second");
    let mut plot = Plot::new("Time in which the server's CPU limit held it up", time_axis(intervals), y);
    plot.is_low = true;
    plot.hovers = hovers(intervals, |i| format!("{} throttled", time(i.throttled_us as f64)));
    plot.note = "Summed over the processors of the server's cgroup, as the kernel counts it. Latency measured while a server is throttled is the limit's, not only the server's.".to_owned();
    plot.lines = vec![Line::new("throttled", 3, Style::Area, held)];
    Some(plot)
}

/// Edges of the heat map's rows stand so far apart.
const ROW: f64 = 1.258_925_411_794_167_3;

fn heat(intervals: &[Interval]) -> Option<Plot> {
    let mut density = BTreeMap::new();
    for (column, i) in intervals.iter().enumerate().filter(|(_, i)| i.seconds > 0.0) {
        for (row, (edge, number)) in i.heat.iter().enumerate() {
            if edge.is_finite() && *edge > 0.0 && *number > 0 {
                density.insert((column, row), *number as f64 / i.seconds);
            }
        }
    }
    let least = density.values().copied().fold(f64::MAX, f64::min);
    let most = density.values().copied().fold(0.0, f64::max);
    if density.is_empty() {
        return None;
    }
    let edges = || intervals.iter().flat_map(|i| i.heat.iter().map(|(edge, _)| *edge));
    let scale = Scale::log(edges().chain(edges().map(|edge| edge / ROW)));
    let y = Axis::new(scale, Unit::Time, "latency, intended (log scale)");
    let mut plot = Plot::new("Latency over time, every operation", time_axis(intervals), y);
    plot.cells = density
        .iter()
        .map(|((column, row), number)| {
            let (i, edge) = (&intervals[*column], intervals[*column].heat[*row].0);
            let place = if most > least { (number / least).ln() / (most / least).ln() } else { 1.0 };
            let shade = 1 + (place * (SHADES - 1) as f64).round() as usize;
            Cell { x: (i.end_s - i.seconds, i.end_s), y: (edge / ROW, edge), shade }
        })
        .collect();
    plot.hovers = hovers(intervals, |i| {
        format!("{} operations\np50 {}, max {}", count(i.answered as f64), time(i.p50), time(i.max))
    });
    let steps: String = (1..=SHADES)
        .map(|shade| format!("<path class=\"heat h{shade}\" d=\"M{0} 0h14v10h-14z\"/>", (shade - 1) * 14))
        .collect();
    plot.legend = Some(format!(
        "<ul class=\"legend\"><li>{}<svg class=\"ramp\" viewBox=\"0 0 {} 10\" aria-hidden=\"true\">{steps}</svg>{} operations a second in a cell</li></ul>",
        count(least.max(1.0)),
        SHADES * 14,
        count(most)
    ));
    Some(plot)
}

/// The lines of ladders' steps: for one ladder its percentiles, for several the p99 of each.
#[must_use]
pub fn knee(ladders: &[(String, &[Step])]) -> Option<Plot> {
    let all = || ladders.iter().flat_map(|(_, steps)| steps.iter());
    all().next()?;
    let x = Axis::new(
        Scale::log(all().map(|step| step.rate)),
        Unit::Count,
        "operations a second asked for (log scale)",
    );
    let line = |name: &str, color, steps: &[Step], what: fn(&Latency) -> f64| {
        let points = steps.iter().map(|step| (step.rate, what(&step.intended))).collect();
        Line::new(name, color, Style::Dots, points)
    };
    let lines = match ladders {
        [(_, steps)] => vec![
            line("p99.9", 2, steps, |l| l.p999),
            line("p99", 1, steps, |l| l.p99),
            line("p50", 0, steps, |l| l.p50),
        ],
        _ => ladders
            .iter()
            .enumerate()
            .map(|(color, (name, steps))| line(name, color, steps, |l| l.p99))
            .collect(),
    };
    let values = lines.iter().flat_map(|line| line.points.iter().map(|(_, micros)| *micros));
    let label = if ladders.len() > 1 { "p99, intended (log scale)" } else { "latency, intended (log scale)" };
    let y = Axis::new(Scale::log(values), Unit::Time, label);
    let mut plot = Plot::new("Latency by rate", x, y);
    plot.lines = lines;
    if let [(_, steps)] = ladders {
        let knee = steps.iter().find(|step| step.is_knee);
        plot.mark = knee.map(|step| {
            let least = if step.is_at_least { "at least " } else { "" };
            (step.rate, format!("knee: {least}{}/s", count(step.rate)))
        });
        plot.note = "The knee is the highest rate that the server still held. The other figures and plots of this page are the run at the knee.".to_owned();
        if steps.iter().any(|step| !step.is_valid) {
            plot.note
                .push_str(" Some steps are INVALID, see the table: the load generator was the limit there.");
        }
    }
    Some(plot)
}
