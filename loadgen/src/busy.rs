//! Whether the load generator itself is the limit: the share of a core that a thread takes.

use crate::result::Outcome;
use crate::run::Ending;
use rustix::time::{clock_gettime, ClockId};
use std::time::{Duration, Instant};

/// A thread busier than this is the limit itself.
const BUSY_MAX: f64 = 0.95;
/// The share of less than this says nothing.
const JUDGED_MIN: Duration = Duration::from_millis(100);

/// A thread's time, from where it was begun. It is asked by the same thread.
pub struct Busy {
    cpu: u64,
    began: Instant,
}

impl Busy {
    #[must_use]
    pub fn begin() -> Busy {
        Busy { cpu: thread_cpu(), began: Instant::now() }
    }

    /// The share of a core that the thread took since.
    #[must_use]
    pub fn share(&self) -> f64 {
        (thread_cpu() - self.cpu) as f64 / self.began.elapsed().as_nanos().max(1) as f64
    }

    /// The same of what lasted long enough to be judged by it; 0 otherwise.
    #[must_use]
    pub fn share_of_long(&self) -> f64 {
        judged(self.share(), self.began.elapsed())
    }
}

/// The share over several stretches, which alone may be too short to be judged: rounds, between which other things are done.
#[derive(Default)]
pub struct BusyRounds {
    cpu: u64,
    lasted: Duration,
}

impl BusyRounds {
    /// A stretch has ended.
    pub fn add(&mut self, round: &Busy) {
        self.cpu += thread_cpu() - round.cpu;
        self.lasted += round.began.elapsed();
    }

    /// The share of a core over all of them; 0 where they are too short together.
    #[must_use]
    pub fn share_of_long(&self) -> f64 {
        judged(self.cpu as f64 / self.lasted.as_nanos().max(1) as f64, self.lasted)
    }
}

fn judged(share: f64, lasted: Duration) -> f64 {
    if lasted < JUDGED_MIN {
        return 0.0;
    }
    share
}

/// Nanoseconds of processor time that this thread took.
fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Why a result is INVALID whose busiest thread took that share; `None`: it is not, for that.
#[must_use]
pub fn refusal(share: f64) -> Option<String> {
    (share > BUSY_MAX).then(|| {
        format!(
            "INVALID: a thread of the load generator took {:.0}% of a core: use more threads, or another machine",
            share * 100.0
        )
    })
}

/// Judges a mode of one thread by the share that it took.
pub fn judge(outcome: &mut Outcome, share: f64, ending: Ending) -> Ending {
    outcome.own.threads_busy = vec![share];
    let Some(why) = refusal(share) else { return ending };
    outcome.verdict.reasons.push(why);
    outcome.verdict.is_valid = false;
    match ending {
        Ending::Whole | Ending::RateMissed => Ending::Invalid,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_whose_thread_was_the_limit_is_invalid() {
        for (share, ending, want) in [
            (0.5, Ending::Whole, Ending::Whole),
            (0.5, Ending::RateMissed, Ending::RateMissed),
            (0.99, Ending::Whole, Ending::Invalid),
            (0.99, Ending::RateMissed, Ending::Invalid),
            (0.99, Ending::Stopped, Ending::Stopped),
        ] {
            let mut outcome = Outcome::default();
            outcome.verdict.is_valid = true;
            assert_eq!(judge(&mut outcome, share, ending), want);
            assert_eq!(outcome.verdict.is_valid, share < 0.95);
            assert_eq!(outcome.verdict.reasons.len(), usize::from(share > 0.95));
        }
    }

    #[test]
    fn a_thread_that_sleeps_takes_little_and_one_that_works_some() {
        let busy = Busy::begin();
        std::thread::sleep(JUDGED_MIN);
        assert!(busy.share_of_long() < 0.5);
        assert_eq!(judged(0.99, JUDGED_MIN / 2), 0.0, "too short to be judged");
        assert_eq!(judged(0.99, JUDGED_MIN), 0.99);
        let busy = Busy::begin();
        while thread_cpu() < busy.cpu + 1_000_000 {}
        assert!(busy.share() > 0.0);
        let mut rounds = BusyRounds::default();
        assert_eq!(rounds.share_of_long(), 0.0);
        let round = Busy { cpu: thread_cpu(), began: Instant::now() - JUDGED_MIN * 2 };
        while thread_cpu() < round.cpu + 1_000_000 {}
        rounds.add(&round);
        let one = rounds.share_of_long();
        assert!(one > 0.0 && one < 0.5, "{one}");
    }
}
