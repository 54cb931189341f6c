//! When operations are due: fixed before the run, whatever happens in it.

/// When operations are due.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// As soon as a connection has room: closed loop.
    Closed,
    /// At a rate, for all threads together, that moves evenly from the first to the second over the run.
    Open { from: f64, to: f64 },
}

/// The times at which this thread's operations are due.
pub struct Schedule {
    /// Nanoseconds; the end of time in a closed loop.
    pub next: u64,
    number: f64,
    threads: f64,
    from: f64,
    /// Operations a second gained in a second.
    slope: f64,
}

impl Schedule {
    /// Of one thread of so many, for a run of so many nanoseconds, its warm-up included.
    #[must_use]
    pub fn new(pace: Pace, thread: usize, threads: usize, nanos: u64) -> Schedule {
        let Pace::Open { from, to } = pace else {
            return Schedule { next: u64::MAX, number: 0.0, threads: 1.0, from: 1.0, slope: 0.0 };
        };
        let seconds = nanos as f64 / 1e9;
        // The threads take turns: thread k has the operations k, k + threads, ...
        let number = thread as f64 - threads as f64;
        let mut schedule =
            Schedule { next: 0, number, threads: threads as f64, from, slope: (to - from) / seconds };
        schedule.advance();
        schedule
    }

    /// To the next operation.
    pub fn advance(&mut self) {
        self.number += self.threads;
        // number = from * t + slope * t * t / 2
        let seconds = if self.slope.abs() < 1e-9 {
            self.number / self.from
        } else {
            let root = (self.from * self.from + 2.0 * self.slope * self.number).max(0.0).sqrt();
            2.0 * self.number / (self.from + root)
        };
        self.next = (seconds * 1e9) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_before(thread: usize, threads: usize, from: f64, to: f64, end: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(Pace::Open { from, to }, thread, threads, 10_000_000_000);
        let mut due = Vec::new();
        while schedule.next < end {
            due.push(schedule.next);
            schedule.advance();
        }
        due
    }

    #[test]
    fn threads_share_a_rate_evenly() {
        let mut all: Vec<u64> =
            (0..3).flat_map(|t| due_before(t, 3, 1_000.0, 1_000.0, 1_000_000_000)).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 1_000);
        assert!(all.windows(2).all(|pair| (999_990..=1_000_010).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn a_ramp_asks_for_the_mean_of_its_ends() {
        let due = due_before(0, 1, 100.0, 300.0, 10_000_000_000);
        assert!((1_999..=2_001).contains(&due.len()), "{}", due.len());
        let first = due.iter().filter(|at| **at < 1_000_000_000).count();
        let last = due.iter().filter(|at| **at >= 9_000_000_000).count();
        assert!((105..=115).contains(&first) && (285..=295).contains(&last), "{first} {last}");
    }
}
