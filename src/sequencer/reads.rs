//! Reads that ask for a moment which no later commit precedes (ReadIndex, section 6.4 of the Raft thesis): asked of the
//! leader again and again, since both the question and the answer may be lost, and done once that moment is applied.

use super::batch::Waiter;
use crate::ids::{LogIndex, Seat};
use crate::mutant::{self, Mutant};
use raft::ReadState;
use std::collections::VecDeque;

/// Of a read's context: which attempt it is.
const ATTEMPT_BITS: u32 = 24;
const ATTEMPT_MAX: u64 = (1 << ATTEMPT_BITS) - 1;

/// More than so many are asked again as one.
const ASKED_AGAIN_MAX: usize = 64;

struct Asked {
    number: u64,
    /// How often it was asked again. Each time under a context of its own: a late acknowledgement of an earlier asking
    /// would else confirm the leader for a younger one, and for all that was asked in between.
    attempt: u64,
    waiters: Vec<Waiter>,
}

pub(super) struct Reads {
    seat: Seat,
    incarnation: u64,
    /// Answered out of order, and lost with a leader: asked again by context.
    asked: VecDeque<Asked>,
    /// Answered, by the index that must be applied first.
    answered: Vec<(u64, Vec<Waiter>)>,
    last: u64,
}

impl Reads {
    pub(super) fn new(seat: Seat, incarnation: u64) -> Reads {
        Reads { seat, incarnation, asked: VecDeque::new(), answered: Vec::new(), last: 0 }
    }

    /// What is under way is asked again from the new seat.
    pub(super) fn take_seat(&mut self, seat: Seat) {
        self.seat = seat;
    }

    /// How many clients wait, for an answer or until that moment is applied.
    pub(super) fn waiting(&self) -> usize {
        let asked = self.asked.iter().map(|asked| &asked.waiters);
        let all = asked.chain(self.answered.iter().map(|(_, waiters)| waiters)).flatten();
        all.filter(|waiter| matches!(waiter, Waiter::Sync { .. })).count()
    }

    /// Nobody waits for the leader's answer.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty()
    }

    /// The context under which to ask the leader for them, if it must be asked.
    pub(super) fn ask(&mut self, waiters: Vec<Waiter>) -> Option<Vec<u8>> {
        if mutant::is(Mutant::SyncWithoutQuorum) {
            self.answered.push((0, waiters));
            return None;
        }
        self.last += 1;
        self.asked.push_back(Asked { number: self.last, attempt: 0, waiters });
        Some(self.context(self.last, 0))
    }

    /// The contexts under which to ask once more for all that is not answered.
    pub(super) fn ask_again(&mut self) -> Vec<Vec<u8>> {
        // Each turn of a time without a leader may have brought one: asked one by one at every tick they would fill the
        // connection to the next leader. A later moment does for all of them.
        if self.asked.len() > ASKED_AGAIN_MAX {
            let waiters = self.asked.drain(..).flat_map(|asked| asked.waiters).collect();
            self.last += 1;
            self.asked.push_back(Asked { number: self.last, attempt: 0, waiters });
        }
        for asked in &mut self.asked {
            // Days without an answer: its contexts begin again, older than any word that is still under way.
            asked.attempt = (asked.attempt + 1) & ATTEMPT_MAX;
        }
        self.asked.iter().map(|asked| self.context(asked.number, asked.attempt)).collect()
    }

    fn context(&self, number: u64, attempt: u64) -> Vec<u8> {
        let mut context = ((number << ATTEMPT_BITS) | attempt).to_be_bytes().to_vec();
        context.extend_from_slice(&self.incarnation.to_be_bytes());
        context.push(self.seat.0 as u8);
        context
    }

    /// Answers are found by context, never by position: they may be lost or come twice, and one to what this server asked
    /// before it was started again may come only now.
    pub(super) fn answered(&mut self, states: &[ReadState]) {
        for state in states {
            let Some(head) = state.request_ctx.first_chunk::<8>() else { continue };
            let head = u64::from_be_bytes(*head);
            let (number, attempt) = (head >> ATTEMPT_BITS, head & ATTEMPT_MAX);
            if state.request_ctx != self.context(number, attempt) {
                continue;
            }
            if let Some(at) = self.asked.iter().position(|asked| asked.number == number) {
                let asked = self.asked.remove(at).expect("its position was found just now");
                self.answered.push((state.index, asked.waiters));
            }
        }
    }

    /// Those whose moment has been applied.
    pub(super) fn take(&mut self, applied: LogIndex) -> Vec<Waiter> {
        let mut done = Vec::new();
        self.answered.retain_mut(|(index, waiters)| {
            let is_applied = *index <= applied.0;
            if is_applied {
                done.append(waiters);
            }
            !is_applied
        });
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::fresh::Moment;
    use super::*;
    use crate::ids::{Millis, ServerId};

    #[test]
    fn what_a_time_without_a_leader_has_heaped_up_is_asked_as_one_and_answered_whole() {
        let mut reads = Reads::new(Seat::new(ServerId(1), 0), 7);
        let serving = || vec![Waiter::Serving { asked: Moment::at(Millis(0)) }];
        let first: Vec<_> = (0..200).filter_map(|_| reads.ask(serving())).collect();
        let again = reads.ask_again();
        assert_eq!((first.len(), again.len()), (200, 1));
        let answer = |context: &Vec<u8>| ReadState { index: 5, request_ctx: context.clone() };
        reads.answered(&[answer(&first[0]), answer(&first[199])]);
        assert!(reads.take(LogIndex(9)).is_empty(), "an earlier moment does not do for those who came later");
        reads.answered(&[answer(&again[0])]);
        assert_eq!((reads.take(LogIndex(4)).len(), reads.take(LogIndex(5)).len()), (0, 200));
        assert!(reads.is_settled());
        assert_eq!(reads.waiting(), 0, "no client");
        // A few are asked each by itself: none waits for a later one's moment.
        reads.ask(serving());
        reads.ask(serving());
        assert_eq!(reads.ask_again().len(), 2);
    }
}
