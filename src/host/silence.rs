//! Whether a shard is dead: it takes nothing of what lies in front of it.
//!
//! A shard that lags but takes is alive, however much lies there and for however long: thousands that watch a busy
//! znode keep one behind for minutes. And time in which the sequencer did not run itself (the process was stopped, its
//! container paused, the host stood still) says nothing about anybody.

use crate::ids::Millis;

/// A shard that takes no publication for this long is dead: the server ends and says so.
const SHARD_SILENCE_MS: u64 = 10_000;
/// The sequencer looks every 100 ms at least: what passes beyond this between two looks was its own absence.
const LOOK_MS_MAX: u64 = 500;

/// What the sequencer has seen of one shard.
#[derive(Clone, Default)]
pub(super) struct Silence {
    taken: u64,
    /// How long it has taken nothing although something lay there.
    silent_ms: u64,
    looked_at: Millis,
}

impl Silence {
    /// The shard has taken up to `taken`, a number that only grows, and something lies in front of it or not. Whether it is
    /// dead.
    pub(super) fn look(&mut self, now: Millis, taken: u64, lies_there: bool) -> bool {
        let passed = now.since(self.looked_at).0.min(LOOK_MS_MAX);
        self.looked_at = now;
        if !lies_there || taken != self.taken {
            self.taken = taken;
            self.silent_ms = 0;
            return false;
        }
        self.silent_ms += passed;
        self.silent_ms > SHARD_SILENCE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every `every` ms for 60 s; `seen` says what the shard has taken and what lies there. When it was dead.
    fn died(every: usize, seen: impl Fn(u64) -> (u64, bool)) -> Option<u64> {
        let mut silence = Silence::default();
        (1..60_000).step_by(every).find(|ms| {
            let (taken, lies_there) = seen(*ms);
            silence.look(Millis(1_000_000 + ms), taken, lies_there)
        })
    }

    #[test]
    fn only_a_shard_that_takes_nothing_is_dead() {
        for every in [1, 7, 100] {
            assert_eq!(died(every, |_| (3, false)), None, "nothing lies there");
            assert_eq!(died(every, |ms| (ms / 9_000, true)), None, "it lags and takes");
            let dead = died(every, |ms| (ms.min(20_000), true)).expect("it takes nothing after 20 s");
            assert!((30_000..30_300).contains(&dead), "dead after {dead} ms, looked at every {every}");
        }
    }

    #[test]
    fn a_stop_of_the_whole_process_kills_no_shard() {
        let mut silence = Silence::default();
        for stop in 1..=10 {
            // It was stopped with a publication on the way, and the sequencer wakes first.
            assert!(!silence.look(Millis(stop * 60_000), stop, true));
            assert!(!silence.look(Millis(stop * 60_000 + 59_000), stop, true));
        }
    }
}
