//! How old the state of a server of an ensemble may be. Four times within syncLimit, while it serves, it asks how far it must be
//! (ReadIndex), a leader itself, which asks a majority; when that is applied here it knows that all acknowledged before the
//! question is. ZooKeeper's leader drops a follower that acknowledges nothing for syncLimit, and that one its clients.

use crate::ids::{Millis, Term};
use crate::mutant::{self, Mutant};

/// How often it asks, within the time that it may be behind.
const ASKS_IN_PATIENCE: u64 = 4;
/// Nobody is turned away for less: an idle server looks only every few ticks.
pub(super) const PATIENCE_MIN_MS: u64 = 1_000;

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
    /// Whom it asked last leads no more.
    must_ask: bool,
    /// All that was acknowledged before is applied here.
    fresh: Moment,
    /// The term in which it was seen to lead, and the last moment at which it was not.
    elected: Option<(Term, Moment)>,
}

impl Moment {
    pub(super) fn at(mono: Millis) -> Moment {
        Moment { mono, led: Millis(0) }
    }
}

impl Freshness {
    pub(super) fn new(now: Millis) -> Freshness {
        let now = Moment::at(now);
        Freshness { now, asked: None, must_ask: false, fresh: now, elected: None }
    }

    /// Time has passed. `is_led`: a leader is known. `leads`: in which term it is this server.
    pub(super) fn observe(&mut self, now: Millis, is_led: bool, leads: Option<Term>) {
        if self.elected.map(|(term, _)| term) != leads {
            self.elected = leads.map(|term| (term, self.now));
        }
        if is_led {
            self.now.led = self.now.led.plus(now.since(self.now.mono));
        }
        self.now.mono = now.max(self.now.mono);
    }

    /// Nobody else can acknowledge anything.
    pub(super) fn renew(&mut self) {
        self.fresh = self.now;
    }

    /// The first entry of this reign is committed and applied here, and with it all that was acknowledged before the election. Others
    /// may have said long ago that they have it: while its own disk, or all of it, stood, another one may have led.
    pub(super) fn begin_reign(&mut self, term: Term) {
        let elected = self.elected.filter(|(seen, _)| *seen == term).map_or(self.now, |(_, at)| at);
        self.fresh = elected.max(self.fresh);
    }

    /// It follows another leader, who is asked at once: leaders that come and go may leave no time for questions.
    pub(super) fn follow(&mut self) {
        self.must_ask = true;
    }

    /// When to ask, if it is time to: again and again, answered or not. One question at a time would leave a server whose answers take
    /// long without one for as long again (a review).
    pub(super) fn ask(&mut self, is_serving: bool, patience_ms: u64) -> Option<Moment> {
        let is_time = |last: Moment| self.now.led.since(last.led).0 >= patience_ms / ASKS_IN_PATIENCE;
        let must_ask = match self.asked {
            None => !is_serving || is_time(self.fresh),
            Some(asked) => is_time(asked),
        };
        let must_ask = std::mem::take(&mut self.must_ask) || must_ask;
        if must_ask {
            self.asked = Some(self.now);
        }
        self.asked.filter(|_| must_ask)
    }

    /// What was asked then is applied. Whether that is fresh: what is here now is as old as the question. Who does not serve begins to
    /// only if it will be fresh still when the next answer comes; its clients would come and be turned away again and again.
    pub(super) fn answered(&mut self, asked: Moment, is_serving: bool, patience_ms: u64) -> bool {
        self.asked.take_if(|last| *last == asked);
        let age = self.now.led.since(asked.led).0;
        if age <= patience_ms {
            self.fresh = asked.max(self.fresh);
        }
        let till_next = if is_serving { 0 } else { patience_ms / ASKS_IN_PATIENCE };
        age <= patience_ms - till_next
    }

    /// How old it may be, if that is too much: for longer than syncLimit it has known of a leader and not been answered; or for
    /// twice as long, where the leader came and went.
    pub(super) fn too_old(&self, patience_ms: u64) -> Option<Millis> {
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
        one.observe(Millis(6_500), true, None);
        assert!(one.answered(first, false, 4_000));
        assert_eq!(one.too_old(4_000), None);
        let second = one.ask(true, 4_000).expect("what is here is a second and a half old");
        one.observe(Millis(7_499), true, None);
        assert_eq!(one.ask(true, 4_000), None);
        one.observe(Millis(7_500), true, None);
        let third = one.ask(true, 4_000).expect("the second was not answered");
        // An earlier answer leaves the later question.
        assert!(one.answered(second, true, 4_000));
        one.observe(Millis(10_500), true, None);
        assert_eq!(one.too_old(4_000), None, "4,000 ms");
        one.observe(Millis(10_501), true, None);
        assert_eq!(one.too_old(4_000), Some(Millis(4_001)));
        assert!(one.answered(third, true, 4_000));
        assert_eq!(one.too_old(4_000), None);
        one.observe(Millis(20_000), true, None);
        assert!(!one.answered(third, true, 4_000), "as old as its question");
        one.renew();
        assert_eq!(one.too_old(4_000), None);
    }

    /// It asked once, waited, served, asked the next time, and had to turn its clients away until that was answered.
    #[test]
    fn who_does_not_serve_asks_on_and_begins_with_room_for_the_next_answer() {
        let mut one = Freshness::new(Millis(0));
        let first = one.ask(false, 4_000).expect("at once");
        one.observe(Millis(999), true, None);
        assert_eq!(one.ask(false, 4_000), None);
        one.observe(Millis(1_000), true, None);
        let second = one.ask(false, 4_000).expect("the first was not answered");
        one.observe(Millis(3_001), true, None);
        assert!(!one.answered(first, false, 4_000), "the next answer may come too late");
        one.observe(Millis(4_000), true, None);
        assert!(one.answered(second, false, 4_000));
        assert_eq!(one.too_old(4_000), None);
        one.follow();
        assert!(one.ask(true, 4_000).is_some(), "another leader is asked at once");
        assert_eq!(one.ask(true, 4_000), None);
    }

    /// Others had its first entry at once; by the time when its own disk had it another one may have led.
    #[test]
    fn a_reign_is_as_fresh_as_its_election() {
        let mut one = Freshness::new(Millis(0));
        for (at, leads) in [(1_000, None), (1_025, Some(Term(3))), (1_050, Some(Term(3)))] {
            one.observe(Millis(at), true, leads);
        }
        one.begin_reign(Term(3));
        assert_eq!(one.fresh, Moment { mono: Millis(1_000), led: Millis(1_000) });
        one.observe(Millis(9_000), true, Some(Term(3)));
        assert_eq!(one.too_old(4_000), Some(Millis(8_000)));
        // Elected and committed between two looks.
        one.begin_reign(Term(5));
        assert_eq!(one.too_old(4_000), None);
    }

    #[test]
    fn a_time_without_a_leader_counts_half() {
        let mut one = Freshness::new(Millis(0));
        for second in 1..=8 {
            one.observe(Millis(second * 1_000), second % 4 == 0, None);
            assert_eq!(one.too_old(4_000), None, "{second}");
        }
        one.observe(Millis(8_001), false, None);
        assert_eq!(one.too_old(4_000), Some(Millis(8_001)));
        let mut alone = Freshness::new(Millis(0));
        alone.observe(Millis(u64::MAX), false, None);
        assert_eq!(alone.too_old(u64::MAX), None);
    }
}
