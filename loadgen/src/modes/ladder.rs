//! A ladder of rates: each step is a run of its own, and the knee is the highest rate that the server still holds.

use crate::result::{Outcome, Step};
use crate::run::{self, Ending, Progress, Settings};
use crate::schedule::Pace;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// What a ladder is told.
#[derive(Clone, Debug)]
pub struct Rungs {
    pub from: f64,
    pub to: f64,
    /// Each rate is the one before times this.
    pub factor: f64,
    /// The server holds a rate when p99 stays below this many microseconds...
    pub p99_max_us: f64,
    /// ...and below so many times the p99 of the lowest rate.
    pub p99_growth_max: f64,
}

/// Climbs until the server does not hold a rate twice in a row, the load generator itself is the limit, or the ladder ends.
/// The result is the knee's run, with all steps in it.
pub fn climb(
    settings: &Settings,
    rungs: &Rungs,
    stop: &Arc<AtomicBool>,
    mut told: impl FnMut(f64, Progress),
) -> Result<(Outcome, Ending), String> {
    let mut settings = settings.clone();
    let step = |rate| {
        settings.pace = Pace::Open { from: rate, to: rate };
        let done = run::run(&settings, stop, |progress| told(rate, progress));
        settings.no_setup = true;
        done
    };
    climb_by(rungs, stop, step)
}

/// `run` makes the run of one rate.
fn climb_by(
    rungs: &Rungs,
    stop: &AtomicBool,
    mut run: impl FnMut(f64) -> Result<(Outcome, Ending), String>,
) -> Result<(Outcome, Ending), String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut knee: Option<(Outcome, Ending)> = None;
    let mut first: Option<(Outcome, Ending)> = None;
    let mut base_p99 = f64::MAX;
    let mut missed = 0;
    let mut rate = rungs.from;
    // What ended the climb, beside the server's own end.
    let mut limit = None;
    while rate <= rungs.to * 1.000_001 && missed < 2 {
        // A stop that comes between two steps ends the climb as one in a step does.
        if stop.load(Ordering::Relaxed) {
            limit = Some((rate, Ending::Stopped, None));
            break;
        }
        let (outcome, ending) = match run(rate) {
            Ok(done) => done,
            Err(why) if steps.is_empty() => return Err(why),
            // The steps before it were measured.
            Err(why) => {
                let is_stopped = stop.load(Ordering::Relaxed);
                let ending = if is_stopped { Ending::Stopped } else { Ending::ServerGone };
                limit = Some((rate, ending, Some(why)));
                break;
            }
        };
        let p99 = outcome.all.intended.p99;
        if steps.is_empty() {
            base_p99 = p99;
        }
        let holds = ending == Ending::Whole
            && outcome.counts.errors == 0
            && p99 <= rungs.p99_max_us
            && p99 <= base_p99 * rungs.p99_growth_max;
        steps.push(Step {
            rate,
            per_second: outcome.all.per_second,
            intended: outcome.all.intended.clone(),
            errors: outcome.counts.errors,
            cpu_us_per_op: outcome.servers.iter().map(|server| server.cpu_us_per_op).sum::<f64>() + 0.0,
            is_valid: outcome.verdict.is_valid,
            is_knee: false,
            is_at_least: false,
        });
        missed = if holds { 0 } else { missed + 1 };
        if holds {
            knee = Some((outcome, ending));
        } else if first.is_none() {
            first = Some((outcome, ending));
        }
        if matches!(ending, Ending::ServerGone | Ending::Stopped | Ending::Invalid) {
            limit = Some((rate, ending, None));
            break;
        }
        rate *= rungs.factor;
    }
    let has_knee = knee.is_some();
    let (mut outcome, mut ending) = knee.or(first).ok_or("no rate of the ladder was run")?;
    let held = outcome.load.rate_from;
    let reasons = &mut outcome.verdict.reasons;
    let at_least = format!("the knee is at least {held}/s");
    let is_at_least = match limit {
        Some((rate, Ending::Invalid, _)) => {
            let known = if has_knee { at_least } else { "of the server nothing is known".to_owned() };
            reasons.push(format!(
                "INVALID: at {rate}/s the load generator was the limit, not the server: {known}"
            ));
            outcome.verdict.is_valid = false;
            ending = Ending::Invalid;
            true
        }
        Some((rate, gone, why)) => {
            let what = if gone == Ending::Stopped { "the ladder was stopped" } else { "the server was gone" };
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            reasons.push(format!("{what} at {rate}/s{why}"));
            ending = gone;
            true
        }
        None if missed == 0 => {
            reasons.push(format!("the server held every rate of the ladder: {at_least}"));
            true
        }
        None => false,
    };
    if !has_knee && ending == Ending::Whole {
        ending = Ending::RateMissed;
    }
    if !has_knee && matches!(ending, Ending::RateMissed | Ending::AllFailed) {
        outcome.verdict.reasons.push("the server held no rate of the ladder".to_owned());
    }
    for step in &mut steps {
        step.is_knee = has_knee && (step.rate - held).abs() < 1e-6 * step.rate;
        step.is_at_least = step.is_knee && is_at_least;
    }
    outcome.load.mode = "ladder".to_owned();
    outcome.ladder = steps;
    Ok((outcome, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ladder from 100 by 2 whose steps end as said, with a p99 in milliseconds.
    fn climbed(ends: &[(Ending, f64)]) -> (Outcome, Ending) {
        let rungs = Rungs { from: 100.0, to: 1_600.0, factor: 2.0, p99_max_us: 100e3, p99_growth_max: 10.0 };
        let mut ends = ends.iter();
        let run = |rate| {
            let (ending, p99) = ends.next().expect("no step beyond the end");
            let mut outcome = Outcome::default();
            (outcome.load.rate_from, outcome.all.intended.p99) = (rate, p99 * 1e3);
            outcome.verdict.is_valid = *ending != Ending::Invalid;
            Ok((outcome, *ending))
        };
        climb_by(&rungs, &AtomicBool::new(false), run).expect("it was climbed")
    }

    fn knee(outcome: &Outcome) -> Option<(f64, bool)> {
        outcome.ladder.iter().find(|step| step.is_knee).map(|step| (step.rate, step.is_at_least))
    }

    use Ending::{Invalid, RateMissed, ServerGone, Stopped, Whole};

    #[test]
    fn the_knee_is_the_highest_rate_before_two_that_are_not_held() {
        let (outcome, ending) =
            climbed(&[(Whole, 1.0), (Whole, 200.0), (Whole, 2.0), (RateMissed, 3.0), (Whole, 11.0)]);
        assert_eq!((knee(&outcome), ending, outcome.ladder.len()), (Some((400.0, false)), Whole, 5));
        assert!(outcome.verdict.is_valid && outcome.verdict.reasons.is_empty());
    }

    #[test]
    fn where_the_generator_was_the_limit_the_ladder_ends_and_the_knee_is_at_least() {
        let (outcome, ending) = climbed(&[(Whole, 1.0), (Whole, 1.0), (Invalid, 1.0)]);
        assert_eq!((knee(&outcome), ending, outcome.ladder.len()), (Some((200.0, true)), Invalid, 3));
        assert!(!outcome.verdict.is_valid);
        let why = outcome.verdict.reasons.join("\n");
        assert_eq!(
            why,
            "INVALID: at 400/s the load generator was the limit, not the server: the knee is at least 200/s"
        );
        let (outcome, ending) = climbed(&[(Invalid, 1.0)]);
        assert_eq!((knee(&outcome), ending), (None, Invalid));
        assert!(outcome.verdict.reasons[0].ends_with("of the server nothing is known"));
    }

    #[test]
    fn a_ladder_that_ends_otherwise_says_so() {
        let all = [(Whole, 1.0); 5];
        let (outcome, ending) = climbed(&all);
        assert_eq!((knee(&outcome), ending), (Some((1_600.0, true)), Whole));
        assert!(outcome.verdict.reasons[0].contains("held every rate"), "{:?}", outcome.verdict.reasons);
        let (outcome, ending) = climbed(&[(Whole, 500.0), (RateMissed, 500.0)]);
        assert_eq!((knee(&outcome), ending), (None, RateMissed));
        assert!(outcome.verdict.reasons[0].contains("held no rate"));
        let (outcome, ending) = climbed(&[(Whole, 1.0), (ServerGone, 1.0)]);
        assert_eq!((knee(&outcome), ending), (Some((100.0, true)), ServerGone));
        assert!(outcome.verdict.reasons[0].contains("gone at 200/s"));
    }

    #[test]
    fn a_step_that_cannot_begin_costs_none_of_those_before() {
        let rungs = Rungs { from: 100.0, to: 1_600.0, factor: 2.0, p99_max_us: 100e3, p99_growth_max: 10.0 };
        let climb_to = |first_refused: f64| {
            let run = |rate| {
                let mut outcome = Outcome::default();
                outcome.load.rate_from = rate;
                if rate < first_refused {
                    Ok((outcome, Whole))
                } else {
                    Err("nobody listens".to_owned())
                }
            };
            climb_by(&rungs, &AtomicBool::new(false), run)
        };
        let (outcome, ending) = climb_to(400.0).expect("two steps were measured");
        assert_eq!((knee(&outcome), ending, outcome.ladder.len()), (Some((200.0, true)), ServerGone, 2));
        assert_eq!(outcome.verdict.reasons, ["the server was gone at 400/s: nobody listens"]);
        assert_eq!(climb_to(100.0).expect_err("nothing was measured"), "nobody listens");
    }

    /// The server was said to hold every rate of the ladder.
    #[test]
    fn a_ladder_that_is_stopped_between_two_steps_says_so() {
        let rungs = Rungs { from: 100.0, to: 1_600.0, factor: 2.0, p99_max_us: 100e3, p99_growth_max: 10.0 };
        // The user wants the end at the last moment of a step.
        let stopped_behind = |last: f64, p99: f64| {
            let stop = AtomicBool::new(false);
            let run = |rate| {
                stop.store(rate >= last, Ordering::Relaxed);
                let mut outcome = Outcome::default();
                (outcome.load.rate_from, outcome.all.intended.p99) = (rate, p99);
                Ok((outcome, Whole))
            };
            climb_by(&rungs, &stop, run).expect("it was climbed")
        };
        let (outcome, ending) = stopped_behind(200.0, 1.0);
        assert_eq!((knee(&outcome), ending, outcome.ladder.len()), (Some((200.0, true)), Stopped, 2));
        assert_eq!(outcome.verdict.reasons, ["the ladder was stopped at 400/s"]);
        let (outcome, ending) = stopped_behind(100.0, 200e3);
        assert_eq!((knee(&outcome), ending, outcome.ladder.len()), (None, Stopped, 1));
        // Behind the last one there is nothing left to stop.
        let (outcome, ending) = stopped_behind(1_600.0, 1.0);
        assert_eq!((knee(&outcome), ending), (Some((1_600.0, true)), Whole));
    }

    #[test]
    fn a_step_that_was_invalid_and_then_stopped_is_invalid() {
        let rungs = Rungs { from: 100.0, to: 100.0, factor: 2.0, p99_max_us: 100e3, p99_growth_max: 10.0 };
        let run = |_| Ok((Outcome::default(), Stopped));
        let (outcome, ending) = climb_by(&rungs, &AtomicBool::new(false), run).expect("it was climbed");
        assert_eq!((ending, outcome.verdict.is_valid, outcome.ladder[0].is_valid), (Stopped, false, false));
    }
}
