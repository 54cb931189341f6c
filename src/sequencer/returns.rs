//! Who was answered and writes again at once: whether the next group waits for them.
//!
//! Clients that write one thing after the other fall into two crowds: while the writes of one are on their way those of the
//! other gather, each waits for two rounds of the log, and each round carries half of them. Where those who were answered
//! come back at once the next group waits for most of them, and both become one crowd.

use crate::ids::{Millis, SessionId};
use std::collections::BTreeSet;

/// So long what gathers waits at the most for what was handed on before it, and for those who were answered. Where the other
/// servers are far away a write would wait twice as long as the way takes: there it goes after this time.
pub(super) const GATHER_MS: u64 = 2;
/// Answers of a round that are looked at: as good as all of them, where there are more.
const LOOKED_AT_MAX: usize = 128;
/// Shares are counted in these.
const WHOLE: usize = 256;
/// Nobody is waited for unless so many came back lately.
const PROMPT: usize = WHOLE / 2;
/// So many of those who will come are not waited for: the last ones take longest.
const STRAGGLERS: usize = WHOLE / 8;

/// What costs a round is shared by enough writes then: none waits for more of them.
const ENOUGH: usize = 64;

/// Those who were answered since the last group was handed on.
#[derive(Default)]
pub(super) struct Returns {
    /// They have not written since.
    owed: BTreeSet<SessionId>,
    looked_at: usize,
    /// Sessions among those that were looked at.
    answered: usize,
    returned: usize,
    answered_at: Millis,
    /// Writes that have gathered.
    gathered: usize,
    /// How many came back lately before others were answered.
    share: usize,
    /// A group was handed on after these answers: who is answered next begins a round.
    is_over: bool,
}

impl Returns {
    /// A write of this session is done.
    pub(super) fn answered(&mut self, now: Millis, session: SessionId) {
        if self.is_over {
            let returned = if self.is_pipelined() { 0 } else { self.returned };
            let share = (returned * WHOLE).checked_div(self.answered).unwrap_or_default();
            self.share = (self.share * 7 + share).div_ceil(8);
            self.owed.clear();
            (self.looked_at, self.answered, self.returned, self.is_over) = (0, 0, 0, false);
        }
        self.answered_at = now;
        if self.looked_at < LOOKED_AT_MAX {
            self.looked_at += 1;
            self.answered += usize::from(self.owed.insert(session));
        }
    }

    /// This session writes.
    pub(super) fn wrote(&mut self, session: SessionId) {
        if !self.has_enough() {
            self.gathered += 1;
            self.returned += usize::from(self.owed.remove(&session));
        }
    }

    /// What has gathered goes.
    pub(super) fn handed_on(&mut self) {
        self.gathered = 0;
        self.is_over = true;
    }

    /// Whether sessions were answered twice: such a one has more under way, and does not write because it was answered.
    fn is_pipelined(&self) -> bool {
        self.looked_at > self.answered + self.answered / 8
    }

    /// Whether so much has gathered that it waits for nobody.
    pub(super) fn has_enough(&self) -> bool {
        self.gathered >= ENOUGH
    }

    /// For how many ms what gathers is to wait for those who will be back at once.
    pub(super) fn rests(&self, now: Millis) -> u64 {
        let expected = self.answered * self.share.saturating_sub(STRAGGLERS) / WHOLE;
        let may_wait = !self.is_over && !self.is_pipelined() && !self.has_enough();
        if may_wait && self.share >= PROMPT && self.returned < expected {
            GATHER_MS.saturating_sub(now.since(self.answered_at).0)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Millis = Millis(1_000);

    /// A round in which each of these sessions is answered so many times, and then so many sessions write.
    fn round(returns: &mut Returns, sessions: i64, times: usize, back: i64) {
        returns.handed_on();
        for session in (0..times).flat_map(|_| 1..=sessions) {
            returns.answered(AT, SessionId(session));
        }
        (1..=back).for_each(|session| returns.wrote(SessionId(session)));
    }

    #[test]
    fn who_comes_back_at_once_is_waited_for_most_of_them_and_not_for_long() {
        let mut returns = Returns::default();
        round(&mut returns, 32, 1, 10);
        assert_eq!(returns.rests(AT), 0, "nothing is known of them");
        (0..32).for_each(|_| round(&mut returns, 32, 1, 32));
        round(&mut returns, 32, 1, 27);
        assert_eq!(returns.rests(AT), GATHER_MS);
        assert_eq!(returns.rests(Millis(AT.0 + 1)), GATHER_MS - 1);
        assert_eq!(returns.rests(Millis(AT.0 + GATHER_MS)), 0);
        // Others' writes do not count for them.
        (100..105).for_each(|session| returns.wrote(SessionId(session)));
        assert_eq!(returns.rests(AT), GATHER_MS);
        returns.wrote(SessionId(28));
        assert_eq!(returns.rests(AT), 0);
    }

    #[test]
    fn nobody_is_waited_for_alone_or_behind_enough_or_while_others_are_under_way() {
        let mut returns = Returns::default();
        (0..32).for_each(|_| round(&mut returns, 1, 1, 1));
        round(&mut returns, 1, 1, 0);
        assert_eq!(returns.rests(AT), 0, "who writes alone");
        (0..32).for_each(|_| round(&mut returns, 32, 1, 32));
        round(&mut returns, 32, 1, 0);
        assert_eq!(returns.rests(AT), GATHER_MS);
        (100..164).for_each(|session| returns.wrote(SessionId(session)));
        assert!(returns.rests(AT) == 0 && returns.has_enough());
        round(&mut returns, 32, 1, 0);
        returns.handed_on();
        assert_eq!(returns.rests(AT), 0);
    }

    #[test]
    fn who_comes_back_later_or_has_more_under_way_is_not_waited_for() {
        let mut returns = Returns::default();
        (0..32).for_each(|_| round(&mut returns, 32, 1, 12));
        round(&mut returns, 32, 1, 0);
        assert_eq!(returns.rests(AT), 0, "a third writes again at once");
        let mut returns = Returns::default();
        (0..32).for_each(|_| round(&mut returns, 32, 2, 32));
        round(&mut returns, 32, 1, 0);
        assert_eq!(returns.rests(AT), 0, "each had a second write under way");
    }
}
