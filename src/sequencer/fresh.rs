//! How old the state of a server of an ensemble may be. Four times within syncLimit, while it serves, it asks how far it must be
//! (ReadIndex), a leader itself, which asks a majority; when that is applied here it knows that all acknowledged before the
//! question is. ZooKeeper's leader drops a follower that acknowledges nothing for syncLimit, and that one its clients.

use crate::ids::Millis;
use crate::mutant::{self, Mutant};

/// How often it asks, within the time that it may be behind.
const ASKS_IN_PATIENCE: u64 = 4;
/// Nobody is turned away for less: an idle server looks only every few ticks.
const PATIENCE_MIN_MS: u64 = 1_000;

/// A moment by two clocks: the monotonic one, and one that goes only while a leader is known. A time without one has its own
/// end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Moment {
    mono: Millis,
    led: Millis,
}

/// What a server knows of that.
pub(super) struct Freshness {
    now: Moment,
    /// When it asked last, and is not answered.
    asked: Option<Moment>,
    /// All that was acknowledged before is applied here.
    fresh: Moment,
}

impl Moment {
    pub(super) fn at(mono: Millis) -> Moment {
        Moment { mono, led: Millis(0) }
    }
}

impl Freshness {
    pub(super) fn new(now: Millis) -> Freshness {
        let now = Moment::at(now);
        Freshness { now, asked: None, fresh: now }
    }

    /// Time has passed. `is_led`: a leader is known.
    pub(super) fn observe(&mut self, now: Millis, is_led: bool) {
        if is_led {
            self.now.led = self.now.led.plus(now.since(self.now.mono));
        }
        self.now.mono = now.max(self.now.mono);
    }

    /// This server leads, and has just committed and applied what showed it that.
    pub(super) fn renew(&mut self) {
        self.fresh = self.now;
    }

    /// When to ask, if it is time to. Who serves asks again while it does, answered or not.
    pub(super) fn ask(&mut self, is_serving: bool, patience_ms: u64) -> Option<Moment> {
        let is_time =
            |last: Moment| is_serving && self.now.led.since(last.led).0 >= patience_ms / ASKS_IN_PATIENCE;
        let must_ask = match self.asked {
            None => !is_serving || is_time(self.fresh),
            Some(asked) => is_time(asked),
        };
        if must_ask {
            self.asked = Some(self.now);
        }
        self.asked.filter(|_| must_ask)
    }

    /// What was asked then is applied. Whether that is fresh: what is here now is as old as the question.
    pub(super) fn answered(&mut self, asked: Moment, patience_ms: u64) -> bool {
        self.asked.take_if(|last| *last == asked);
        let is_fresh = self.now.led.since(asked.led).0 <= patience_ms;
        if is_fresh {
            self.fresh = asked.max(self.fresh);
        }
        is_fresh
    }

    /// How old it may be, if that is too much: for longer than `patience_ms` it has known of a leader and not been answered; or for
    /// twice as long, where the leader came and went.
    pub(super) fn too_old(&self, patience_ms: u64) -> Option<Millis> {
        let patience_ms = patience_ms.max(PATIENCE_MIN_MS);
        let (led, all) = (self.now.led.since(self.fresh.led), self.now.mono.since(self.fresh.mono));
        let is_over = led.0 > patience_ms || all.0 > patience_ms.saturating_mul(2);
        (is_over && !mutant::is(Mutant::StaleServes)).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_asks_in_time_and_is_too_old_without_an_answer() {
        let mut one = Freshness::new(Millis(5_000));
        let first = one.ask(false, 4_000).expect("who does not serve asks at once");
        assert_eq!(one.ask(false, 4_000), None, "and waits");
        one.observe(Millis(6_500), true);
        assert!(one.answered(first, 4_000));
        assert_eq!(one.too_old(4_000), None);
        let second = one.ask(true, 4_000).expect("what is here is a second and a half old");
        one.observe(Millis(7_499), true);
        assert_eq!(one.ask(true, 4_000), None);
        one.observe(Millis(7_500), true);
        let third = one.ask(true, 4_000).expect("the second was not answered");
        // An earlier answer leaves the later question.
        assert!(one.answered(second, 4_000));
        one.observe(Millis(10_500), true);
        assert_eq!(one.too_old(4_000), None, "4,000 ms");
        one.observe(Millis(10_501), true);
        assert_eq!(one.too_old(4_000), Some(Millis(4_001)));
        assert!(one.answered(third, 4_000));
        assert_eq!(one.too_old(4_000), None);
        one.observe(Millis(20_000), true);
        assert!(!one.answered(third, 4_000), "as old as its question");
        one.renew();
        assert_eq!(one.too_old(4_000), None);
    }

    #[test]
    fn a_time_without_a_leader_counts_half() {
        let mut one = Freshness::new(Millis(0));
        for second in 1..=8 {
            one.observe(Millis(second * 1_000), second % 4 == 0);
            assert_eq!(one.too_old(4_000), None, "{second}");
        }
        one.observe(Millis(8_001), false);
        assert_eq!(one.too_old(4_000), Some(Millis(8_001)));
        let mut alone = Freshness::new(Millis(0));
        alone.observe(Millis(u64::MAX), false);
        assert_eq!(alone.too_old(u64::MAX), None);
    }
}
