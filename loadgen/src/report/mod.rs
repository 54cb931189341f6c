//! One self-contained page for a result. It asks for nothing from outside, runs no script and says so to the browser, so
//! that it reads the same from a disk, from an archive and in ten years.

mod charts;
mod parts;
mod plot;
mod scale;
mod text;

pub use charts::{curve, knee, percentiles, points, rates, seconds, thin, Curve};
pub use parts::{cpu_per_op, load, rss, verdict};
pub use plot::{Axis, Line, Plot, Style, Unit, COLORS};
pub use scale::Scale;
pub use text::{bytes, count, escape, number, time, whole, NONE};

use crate::result::Outcome;

const STYLE: &str = include_str!("page.css");

/// The page of a result.
#[must_use]
pub fn page(outcome: &Outcome) -> String {
    let mut body = String::new();
    let out = &mut body;
    parts::headline(out, outcome);
    parts::cards(out, outcome);
    if !outcome.ladder.is_empty() {
        let ladder = [(parts::name(outcome), outcome.ladder.as_slice())];
        out.push_str(&knee(&ladder).map_or(String::new(), |plot| plot.figure()));
        parts::ladder(out, outcome);
    }
    out.push_str(&charts::two_times(&outcome.all).map_or(String::new(), |plot| plot.figure()));
    for plot in charts::over_time(outcome) {
        out.push_str(&plot.figure());
    }
    parts::operations(out, outcome);
    parts::errors(out, outcome);
    parts::servers(out, outcome);
    parts::environment(out, outcome);
    shell(&parts::name(outcome), outcome.verdict.is_valid, &body, &outcome.tool)
}

/// A whole document around its body.
#[must_use]
pub fn shell(title: &str, is_valid: bool, body: &str, tool: &str) -> String {
    let (mark, class) = if is_valid { ("", "") } else { ("INVALID: ", " class=\"is-invalid\"") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{mark}{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body{class}>\n<main>\n{body}</main>\n\
         <footer>{}</footer>\n</body>\n</html>\n",
        escape(title),
        escape(tool)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{add, histogram};
    use crate::result::{encode, Figure, Interval, Latency, OpResult, ServerUse, Step};

    /// No page, whatever is in it, has a number that is none, a script, or something to fetch.
    fn check(page: &str) {
        for word in ["NaN", "inf\"", "inf ", "<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(word), "a page contains {word:?}");
        }
        for tag in ["svg", "figure", "section", "table", "tr", "ul", "div", "p"] {
            let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "<{tag}> is not always closed");
        }
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn an_empty_result_has_a_page() {
        let page = page(&Outcome::default());
        check(&page);
        assert!(page.contains("INVALID"), "what nobody judged is not valid");
    }

    #[test]
    fn a_hostile_result_has_a_page() {
        let evil = "</script><img onerror='x'>\"&\0";
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, f64::MAX, 1e-300] {
            let latency = Latency {
                count: u64::MAX,
                mean: odd,
                min: odd,
                p50: odd,
                p90: odd,
                p99: odd,
                p999: odd,
                p9999: odd,
                max: odd,
            };
            let mut outcome = Outcome {
                name: evil.to_owned(),
                tool: evil.to_owned(),
                started_unix: u64::MAX,
                ..Outcome::default()
            };
            outcome.command = vec![evil.to_owned(), String::new()];
            outcome.target.servers = vec![evil.to_owned()];
            outcome.target.version = evil.to_owned();
            (outcome.load.mode, outcome.load.rate_from, outcome.load.duration_s) =
                (evil.to_owned(), odd, odd);
            outcome.verdict.reasons = vec![evil.to_owned()];
            outcome.all = OpResult {
                op: evil.to_owned(),
                answered: u64::MAX,
                per_second: odd,
                intended: latency.clone(),
                service: latency.clone(),
                ..OpResult::default()
            };
            outcome.all.errors.insert(evil.to_owned(), u64::MAX);
            (outcome.all.intended_hdr, outcome.all.service_hdr) = (evil.to_owned(), "AAAA".to_owned());
            outcome.ops = vec![outcome.all.clone(), outcome.all.clone()];
            (outcome.counts.errors, outcome.counts.answered) = (u64::MAX, u64::MAX);
            outcome.own.threads_busy = vec![odd];
            outcome.servers = vec![ServerUse {
                name: evil.to_owned(),
                command: evil.to_owned(),
                cpu_s: odd,
                cpu_us_per_op: odd,
                rss_bytes: u64::MAX,
                ..ServerUse::default()
            }];
            outcome.servers[0].cgroup.cpu_limit = odd;
            outcome.host.file_systems = vec![evil.to_owned()];
            outcome.host.kernel = evil.to_owned();
            let one = Interval {
                end_s: odd,
                seconds: odd,
                answered: u64::MAX,
                errors: u64::MAX,
                p50: odd,
                p99: odd,
                p999: odd,
                max: odd,
                heat: vec![(odd, u64::MAX), (10.0, 0)],
                server_cpu_share: odd,
                throttled_us: u64::MAX,
                intended_hdr: evil.to_owned(),
            };
            outcome.intervals = vec![one; 3_000];
            outcome.ladder = vec![
                Step {
                    rate: odd,
                    per_second: odd,
                    intended: latency,
                    errors: u64::MAX,
                    cpu_us_per_op: odd,
                    is_valid: false,
                    is_knee: true,
                    is_at_least: true
                };
                2
            ];
            outcome.figures = vec![Figure::new(evil, odd, evil)];
            let page = page(&outcome);
            check(&page);
            assert!(!page.contains("<img") && page.contains("&lt;img"), "foreign text is text");
        }
    }

    #[test]
    fn a_valid_result_has_all_its_plots() {
        let mut times = histogram();
        (1..=10_000).for_each(|n| add(&mut times, n * 1_000));
        let mut outcome = Outcome::default();
        outcome.verdict.is_valid = true;
        outcome.all = OpResult {
            op: "all".to_owned(),
            answered: 10_000,
            per_second: 1e3,
            intended: Latency::of(&times),
            service: Latency::of(&times),
            ..OpResult::default()
        };
        (outcome.all.intended_hdr, outcome.all.service_hdr) = (encode(&times), encode(&times));
        outcome.intervals = (1..=10)
            .map(|n| Interval {
                end_s: f64::from(n),
                seconds: 1.0,
                answered: 1_000,
                p50: 5e3,
                p99: 9e3,
                max: 1e4,
                heat: crate::result::heat(&times),
                server_cpu_share: 0.4,
                throttled_us: 10,
                ..Interval::default()
            })
            .collect();
        outcome.ladder = [1e3, 2e3, 4e3]
            .map(|rate| Step {
                rate,
                intended: Latency::of(&times),
                is_valid: true,
                is_knee: rate == 2e3,
                ..Step::default()
            })
            .to_vec();
        let page = page(&outcome);
        check(&page);
        for title in [
            "Latency by rate",
            "Latency by percentile",
            "Latency over time",
            "Throughput",
            "Server CPU over",
            "held it up",
            "every operation",
        ] {
            assert!(page.contains(title), "there is no plot '{title}'");
        }
        assert!(page.contains("knee: 2000/s") && !page.contains("INVALID"));
        let points = curve(&outcome.all.intended_hdr, &outcome.all.intended);
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1), "a curve by percentile only rises");
        assert!(
            points.last().is_some_and(|(_, most)| (most / 1e4 - 1.0).abs() < 0.01),
            "and ends at the longest"
        );
    }

    #[test]
    fn many_intervals_become_few_and_lose_nothing() {
        let one = |n: u64| Interval {
            end_s: n as f64,
            seconds: 1.0,
            answered: n,
            p99: n as f64,
            heat: vec![(10.0, n)],
            ..Interval::default()
        };
        let many: Vec<_> = (1..=1_000).map(one).collect();
        let few = thin(&many, 150);
        assert!(few.len() <= 150);
        assert_eq!(few.iter().map(|i| i.answered).sum::<u64>(), 500_500);
        assert_eq!(few.iter().map(|i| i.heat[0].1).sum::<u64>(), 500_500);
        assert_eq!(few.last().map(|i| (i.end_s, i.p99)), Some((1_000.0, 1_000.0)));
        assert_eq!(thin(&many[..3], 150).len(), 3);
    }
}
