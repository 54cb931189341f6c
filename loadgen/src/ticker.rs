//! Lines of progress for modes of one thread: one a second, of what that second brought.

use crate::record::{add, histogram};
use crate::run::{Progress, Second};
use hdrhistogram::Histogram;
use std::time::Duration;

const EVERY: u64 = 1_000_000_000;

/// The second that is under way. Times are nanoseconds since the begin.
pub struct Ticker<'t> {
    told: &'t mut dyn FnMut(Progress),
    duration: u64,
    latencies: Histogram<u64>,
    errors: u64,
    began: u64,
}

impl<'t> Ticker<'t> {
    pub fn new(duration: Duration, told: &'t mut dyn FnMut(Progress)) -> Ticker<'t> {
        Ticker { told, duration: duration.as_nanos() as u64, latencies: histogram(), errors: 0, began: 0 }
    }

    pub fn add(&mut self, nanos: u64) {
        add(&mut self.latencies, nanos);
    }

    pub fn error(&mut self) {
        self.errors += 1;
    }

    /// Tells of the second if it is over.
    pub fn look(&mut self, now: u64) {
        let length = now.saturating_sub(self.began);
        if length < EVERY {
            return;
        }
        let at = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        (self.told)(Progress::Measure(Second {
            elapsed: Duration::from_nanos(now),
            left: Duration::from_nanos(self.duration.saturating_sub(now)),
            per_second: self.latencies.len() as f64 / (length as f64 / 1e9),
            p50_us: at(0.5),
            p99_us: at(0.99),
            errors: self.errors,
        }));
        self.latencies.reset();
        (self.errors, self.began) = (0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_told_once_it_is_over_and_the_next_one_begins_with_nothing() {
        let mut lines = Vec::new();
        let mut told = |progress| {
            let Progress::Measure(one) = progress else { unreachable!("nothing is set up here") };
            lines.push((one.per_second, one.errors, one.left.as_secs()));
        };
        let mut ticker = Ticker::new(Duration::from_secs(10), &mut told);
        for now in [0, 999_999_999, 1_000_000_000, 1_500_000_000, 3_000_000_000] {
            ticker.add(1_000);
            ticker.look(now);
            ticker.error();
        }
        assert_eq!(lines, [(3.0, 2, 9), (1.0, 2, 7)]);
    }
}
