use super::*;
use crate::plan::{Choice, Mix, Plan, Size, Space};
use crate::result::{Interval, ServerUse, Step};

fn outcome(name: &str, rate: f64, p99: f64) -> Outcome {
    let mut outcome = Outcome { name: name.to_owned(), ..Outcome::default() };
    outcome.verdict.is_valid = true;
    outcome.load.mode = "open".to_owned();
    (outcome.load.rate_from, outcome.load.rate_to) = (1_000.0, 1_000.0);
    let space = Space {
        root: "/x".to_owned(),
        keys: 10,
        keys_per_parent: 10,
        choice: Choice::Uniform,
        value: Size::Fixed(9),
    };
    let mix: Mix = "get=1".parse().expect("a mix");
    outcome.load.plan = Some(Plan::simple(space, &mix, 10, 1).expect("a plan"));
    outcome.all.per_second = rate;
    outcome.all.intended.p99 = p99;
    outcome.all.intended.count = 1_000;
    outcome.intervals = vec![Interval { end_s: 1.0, seconds: 1.0, answered: 10, p99, ..Interval::default() }];
    outcome
}

fn entries_of(outcomes: Vec<Outcome>) -> Vec<Entry> {
    entries(outcomes.into_iter().map(|outcome| (Path::new("some/file.json"), outcome)).collect())
}

#[test]
fn ratios_are_to_the_first() {
    let mut b = outcome("b", 500.0, 100.0);
    b.servers = vec![ServerUse { cpu_us_per_op: 3.0, ..ServerUse::default() }];
    let entries = entries_of(vec![outcome("a", 1_000.0, 200.0), b, outcome("c", f64::NAN, 0.0)]);
    let rows = rows(&entries);
    let of = |name: &str| rows.iter().find(|row| row.name == name).expect("the row is there");
    assert_eq!(of("rate").ratios(), [Some(1.0), Some(0.5), None]);
    assert_eq!(of("p99").ratios(), [Some(1.0), Some(0.5), None]);
    assert_eq!(of("server CPU/op").ratios(), [None, None, None], "the first was not measured");
    assert_eq!(of("rate").is_better(Some(0.5)), Some(false));
    assert_eq!(of("p99").is_better(Some(0.5)), Some(true));
    assert_eq!(of("p99").is_better(Some(1.01)), None);
    assert!(rows.iter().all(|row| row.name != "p50"), "what nobody measured has no row");
}

#[test]
fn loads_that_differ_are_told() {
    let a = outcome("a", 1.0, 1.0).load;
    assert!(differences(&a, &a.clone()).is_empty());
    let mut b = a.clone();
    (b.rate_to, b.connections, b.depth) = (2_000.0, 5, 9);
    if let Some(plan) = &mut b.plan {
        plan.requests[0].weight = 2.0;
        let space = &mut plan.spaces[0];
        (space.keys, space.value, space.choice) = (11, Size::Uniform(1, 2), Choice::Zipfian(0.9));
    }
    let what: Vec<_> = differences(&a, &b).into_iter().map(|(what, ..)| what).collect();
    assert_eq!(what, ["rate", "connections", "depth", "mix", "keys", "choice of keys", "values"]);
    b.plan = None;
    assert!(differences(&a, &b).iter().any(|(what, ..)| *what == "workload"));
}

#[test]
fn other_modes_are_refused_and_invalid_ones_marked() {
    let (mut a, b) = (outcome("a", 1.0, 1.0), outcome("b", 1.0, 1.0));
    assert_eq!(refusal(&entries_of(vec![a.clone(), b.clone()])), None);
    a.load.mode = "closed".to_owned();
    let why = refusal(&entries_of(vec![a.clone(), b.clone()])).expect("two modes are not compared");
    assert!(why.contains("closed") && why.contains("open"));
    a.verdict.is_valid = false;
    let entries = entries_of(vec![a, b]);
    for shown in [text(&entries), markdown(&entries), page(&entries)] {
        assert!(shown.contains("INVALID"), "{shown}");
    }
}

#[test]
fn ladders_are_compared_at_their_knees() {
    let mut a = outcome("a", 1.0, 1.0);
    a.load.mode = "ladder".to_owned();
    a.ladder = vec![Step { rate: 1e3, ..Step::default() }];
    let mut b = a.clone();
    (b.load.rate_from, b.load.rate_to, b.name) = (5e3, 5e3, "b".to_owned());
    assert!(differences(&a.load, &b.load).is_empty());
    assert!(page(&entries_of(vec![a, b])).contains("Latency by rate"));
}

#[test]
fn names_are_told_apart_and_never_markup() {
    let evil = "</script><b>|";
    let entries = entries_of(vec![outcome(evil, 1.0, 1.0), outcome(evil, 1.0, 1.0), outcome(evil, 1.0, 1.0)]);
    let labels: BTreeSet<_> = entries.iter().map(|one| one.label.clone()).collect();
    assert_eq!(labels.len(), 3);
    assert!(!page(&entries).contains("<b>") && !page(&entries).contains("</script"));
    assert!(!markdown(&entries).contains("<b>") && markdown(&entries).contains("\\|"));
    assert_eq!(entries_of(vec![outcome("", 1.0, 1.0)])[0].label, "file");
}

#[test]
fn nothing_is_compared_too() {
    assert!(page(&[]).ends_with("</html>\n"));
    let empty = entries_of(vec![Outcome::default(), Outcome::default()]);
    assert!(!page(&empty).contains("NaN") && !text(&empty).contains("NaN"));
}

#[test]
fn a_server_that_does_not_sync_is_told() {
    let with = |name: &str, fsync: &str| {
        let mut one = outcome(name, 1.0, 1.0);
        one.host.fsync = fsync.to_owned();
        one
    };
    let warned = |a: &str, b: &str| warnings(&entries_of(vec![with("a", a), with("b", b)]));
    assert!(warned("on: in one way", "on: in another").is_empty() && warned("", "on: so").is_empty());
    let said = warned("off: forceSync=no", "on: so");
    assert_eq!(said, ["not the same fsync: off: forceSync=no in a, on: so in b"]);
    assert_eq!(warned("", "off: so").len(), 1);
    assert_eq!(warned("on: so; but tmpfs keeps nothing", "on: so").len(), 1);
    assert_eq!(warned("7: on: so; 8: off: forceSync=no", "on: so").len(), 1);
    assert!(warned("on: so; but tmpfs keeps nothing", "off: so").is_empty());
}

/// A result that was stopped, or that missed its rate, stood there like any other.
#[test]
fn what_was_said_of_a_result_is_said_again() {
    let (mut a, b) = (outcome("a", 1.0, 1.0), outcome("b", 1.0, 1.0));
    a.verdict.reasons = vec!["stopped".to_owned(), "lost one".to_owned()];
    let entries = entries_of(vec![a, b]);
    assert_eq!(warnings(&entries), ["of a: stopped; lost one"]);
    for shown in [text(&entries), markdown(&entries), page(&entries)] {
        assert!(shown.contains("of a: stopped; lost one") && !shown.contains("INVALID"), "{shown}");
    }
}

/// Rates of before and after a change of what a rate is stood side by side without a word.
#[test]
fn results_whose_rates_mean_different_things_are_told() {
    let with = |name: &str, completed: u64| {
        let mut one = outcome(name, 1.0, 1.0);
        (one.counts.answered, one.counts.completed) = (100, completed);
        one
    };
    let said = |a, b| warnings(&entries_of(vec![with("a", a), with("b", b)]));
    assert!(said(90, 100).is_empty() && said(0, 0).is_empty());
    assert!(
        said(0, 100)[0].starts_with("not the same rate: answers with late ones in a"),
        "{:?}",
        said(0, 100)
    );
    assert_eq!(said(100, 0).len(), 1);
}
