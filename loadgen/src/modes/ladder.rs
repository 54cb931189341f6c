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

/// Climbs until the server does not hold a rate twice in a row, or the ladder ends. The result is the knee's run, with all
/// steps in it.
pub fn climb(
    settings: &Settings,
    rungs: &Rungs,
    stop: &Arc<AtomicBool>,
    mut told: impl FnMut(f64, Progress),
) -> Result<(Outcome, Ending), String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut knee: Option<(Outcome, Ending)> = None;
    let mut first: Option<(Outcome, Ending)> = None;
    let mut base_p99 = f64::MAX;
    let mut missed = 0;
    let mut rate = rungs.from;
    let mut settings = settings.clone();
    while rate <= rungs.to * 1.000_001 && missed < 2 && !stop.load(Ordering::Relaxed) {
        settings.pace = Pace::Open { from: rate, to: rate };
        let (outcome, ending) = run::run(&settings, stop, |progress| told(rate, progress))?;
        settings.no_setup = true;
        let p99 = outcome.all.intended.p99;
        if steps.is_empty() {
            base_p99 = p99;
        }
        let holds = matches!(ending, Ending::Whole | Ending::Invalid)
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
        });
        missed = if holds { 0 } else { missed + 1 };
        let is_gone = matches!(ending, Ending::ServerGone | Ending::Stopped);
        if holds {
            knee = Some((outcome, ending));
        } else if first.is_none() {
            first = Some((outcome, ending));
        }
        if is_gone {
            break;
        }
        rate *= rungs.factor;
    }
    let (mut outcome, ending) = knee.or(first).ok_or("no rate of the ladder was run")?;
    for step in &mut steps {
        step.is_knee = (step.rate - outcome.load.rate_from).abs() < 1e-6 * step.rate;
    }
    outcome.load.mode = "ladder".to_owned();
    outcome.ladder = steps;
    Ok((outcome, ending))
}
