//! When sessions end: ZooKeeper's buckets, on a clock that stands still while the server itself does.
//!
//! A session that is heard has only its deadline moved; it stays where it is to be looked at next, and is judged there, once
//! a timeout. Moved from bucket to bucket each time, 10,000 sessions that spoke at once held up all writes for 5 ms, 100,000
//! for 70.
//!
//! A stall is time in which this server could not have heard a client: the process was stopped, a thread got no CPU.
//! `SessionClock` takes it out of the time that sessions see, so that no session ends for it (Z03, G18).

use crate::ids::{Millis, SessionId};
use ahash::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// So many that are gone may stay to be looked at, however few live.
const GONE_MAX: usize = 1024;

/// Time as sessions see it: the host's monotonic milliseconds without the server's own stalls.
#[derive(Clone, Debug, Default)]
pub struct SessionClock {
    /// Stalls so far, in all.
    forgiven: u64,
    /// Up to this moment of the host's clock stalls are counted: two threads that slept through one stop of the
    /// process report it once each.
    counted_until: u64,
}

impl SessionClock {
    /// The session time of a moment.
    #[must_use]
    pub fn at(&self, now: Millis) -> Millis {
        Millis(now.0.saturating_sub(self.forgiven))
    }

    /// Takes note of a stall; returns how much of it was new.
    pub fn forgive(&mut self, from: Millis, to: Millis) -> Millis {
        let new = to.0.saturating_sub(from.0.max(self.counted_until));
        self.forgiven += new;
        self.counted_until = self.counted_until.max(to.0);
        Millis(new)
    }
}

/// Which sessions end when. Times are session time.
#[derive(Clone, Debug)]
pub struct Expiry {
    tick_ms: u64,
    /// Whom to look at when: who lives, where its deadline says `look`; else one that is gone or was to be looked at sooner.
    looks: BTreeMap<u64, Vec<SessionId>>,
    /// Invariant: they name no more than `GONE_MAX` and twice as many as live.
    looked: usize,
    sessions: HashMap<SessionId, Deadline, RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    timeout_ms: u64,
    bucket: u64,
    /// Invariant: no later than `bucket`.
    look: u64,
}

impl Expiry {
    /// Buckets of `tick_ms`, ZooKeeper's tickTime.
    #[must_use]
    pub fn new(tick_ms: u64) -> Expiry {
        assert!(tick_ms > 0, "config refuses a tickTime of 0");
        // Servers give the ids: no stranger chooses them.
        let sessions = HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        Expiry { tick_ms, looks: BTreeMap::new(), looked: 0, sessions }
    }

    /// Starts or restarts a session's time: a new one, a re-attach, a new leader's full timeout.
    pub fn track(&mut self, id: SessionId, timeout_ms: u64, heard_at: Millis) {
        let bucket = self.bucket(heard_at.0, timeout_ms);
        let known = self.sessions.get(&id).map(|deadline| deadline.look);
        let look = known.filter(|look| *look <= bucket).unwrap_or(bucket);
        if known != Some(look) {
            self.looks.entry(look).or_default().push(id);
            self.looked += 1;
        }
        self.sessions.insert(id, Deadline { timeout_ms, bucket, look });
        self.drop_gone();
    }

    /// A client was heard. Never moves a deadline back.
    pub fn touch(&mut self, id: SessionId, heard_at: Millis) {
        let tick_ms = self.tick_ms;
        if let Some(deadline) = self.sessions.get_mut(&id) {
            deadline.bucket = deadline.bucket.max(bucket(tick_ms, heard_at.0, deadline.timeout_ms));
        }
    }

    /// The server that a session is attached to stood still for `span`, up to `now`, and could not hear it: it has so much
    /// longer, and no longer than one that was heard at `now`.
    pub fn extend(&mut self, id: SessionId, span: Millis, now: Millis) {
        let Some(deadline) = self.sessions.get(&id).copied() else { return };
        let heard_at = (deadline.bucket.saturating_add(span.0)).saturating_sub(deadline.timeout_ms);
        self.touch(id, Millis(heard_at.min(now.0)));
    }

    /// Stops watching a session.
    pub fn forget(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.drop_gone();
    }

    /// Who is gone stays to be looked at until its deadline: with an hour's timeout that is an hour of short sessions. Where those
    /// are the most by far, all are named anew, which costs each that went about as much as its coming did.
    fn drop_gone(&mut self) {
        if self.looked <= GONE_MAX + 2 * self.sessions.len() {
            return;
        }
        self.looks.clear();
        for (id, deadline) in &mut self.sessions {
            deadline.look = deadline.bucket;
            self.looks.entry(deadline.look).or_default().push(*id);
        }
        self.looked = self.sessions.len();
    }

    /// The sessions whose time is over at `heard_through`, the moment up to which every shard has told what it
    /// heard. They are forgotten here: the caller closes them.
    pub fn expired(&mut self, heard_through: Millis) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(entry) = self.looks.first_entry().filter(|entry| *entry.key() <= heard_through.0) {
            let (look, ids) = entry.remove_entry();
            self.looked -= ids.len();
            for id in ids {
                let Some(deadline) = self.sessions.get_mut(&id).filter(|deadline| deadline.look == look)
                else {
                    continue;
                };
                if deadline.bucket <= heard_through.0 {
                    self.sessions.remove(&id);
                    expired.push(id);
                } else {
                    deadline.look = deadline.bucket;
                    self.looks.entry(deadline.look).or_default().push(id);
                    self.looked += 1;
                }
            }
        }
        expired.sort_unstable();
        expired
    }

    /// Buckets and their sessions in order of time, for the word `dump`.
    #[must_use]
    pub fn buckets(&self) -> Vec<(Millis, Vec<SessionId>)> {
        let mut all: Vec<_> = self.sessions.iter().map(|(id, deadline)| (deadline.bucket, *id)).collect();
        all.sort_unstable();
        let buckets = all.chunk_by(|(one, _), (other, _)| one == other);
        buckets.map(|of_one| (Millis(of_one[0].0), of_one.iter().map(|(_, id)| *id).collect())).collect()
    }

    fn bucket(&self, heard_at: u64, timeout_ms: u64) -> u64 {
        bucket(self.tick_ms, heard_at, timeout_ms)
    }
}

/// TR28: up to the next tick after the timeout.
fn bucket(tick_ms: u64, heard_at: u64, timeout_ms: u64) -> u64 {
    (heard_at + timeout_ms) / tick_ms * tick_ms + tick_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_within_a_tick_after_its_timeout_tr28() {
        let mut expiry = Expiry::new(2_000);
        expiry.track(SessionId(1), 4_000, Millis(1_500));
        assert!(expiry.expired(Millis(5_499)).is_empty());
        assert!(expiry.expired(Millis(5_999)).is_empty(), "the bucket ends at 6000");
        assert_eq!(expiry.expired(Millis(6_000)), [SessionId(1)]);
        assert!(expiry.expired(Millis(60_000)).is_empty());
    }

    #[test]
    fn another_servers_stall_gives_a_session_that_much_and_at_most_its_timeout() {
        let deadline = |expiry: &Expiry| expiry.buckets().first().map(|(at, _)| at.0);
        let mut expiry = Expiry::new(1_000);
        expiry.track(SessionId(1), 4_000, Millis(10_000));
        assert_eq!(deadline(&expiry), Some(15_000));
        expiry.extend(SessionId(1), Millis(1_500), Millis(13_000));
        assert_eq!(deadline(&expiry), Some(17_000), "15,000 and 1,500, up to the next tick");
        for absurd in [60_000, u64::MAX] {
            expiry.extend(SessionId(1), Millis(absurd), Millis(13_500));
            assert_eq!(deadline(&expiry), Some(18_000), "as if it was heard now");
        }
        expiry.extend(SessionId(2), Millis(1), Millis(13_500));
        assert_eq!(expiry.expired(Millis(18_000)), [SessionId(1)]);
    }

    #[test]
    fn a_touch_moves_the_deadline_forward_only() {
        let mut expiry = Expiry::new(1_000);
        expiry.track(SessionId(1), 4_000, Millis(10_000));
        expiry.touch(SessionId(1), Millis(12_000));
        expiry.touch(SessionId(1), Millis(1_000));
        assert!(expiry.expired(Millis(16_999)).is_empty());
        assert_eq!(expiry.expired(Millis(17_000)), [SessionId(1)]);
        expiry.touch(SessionId(1), Millis(17_000));
        assert!(expiry.buckets().is_empty(), "a closed session is not revived");
    }

    #[test]
    fn a_session_that_comes_back_with_a_shorter_time_ends_sooner_and_once() {
        let mut expiry = Expiry::new(1_000);
        expiry.track(SessionId(1), 40_000, Millis(0));
        expiry.track(SessionId(1), 4_000, Millis(500));
        expiry.track(SessionId(2), 4_000, Millis(500));
        expiry.touch(SessionId(2), Millis(36_500));
        expiry.track(SessionId(3), 4_000, Millis(500));
        expiry.forget(SessionId(3));
        assert_eq!(expiry.expired(Millis(5_000)), [SessionId(1)]);
        assert_eq!(expiry.buckets(), [(Millis(41_000), vec![SessionId(2)])]);
        expiry.track(SessionId(1), 40_000, Millis(500));
        assert_eq!(expiry.expired(Millis(41_000)), [SessionId(1), SessionId(2)], "each of them once");
        assert!(expiry.expired(Millis(90_000)).is_empty());
    }

    #[test]
    fn sessions_that_were_closed_long_before_their_deadline_take_no_memory() {
        let mut expiry = Expiry::new(1_000);
        let looked = |expiry: &Expiry| expiry.looks.values().map(Vec::len).sum::<usize>();
        // Some live meanwhile: they are heard, and come back with a shorter time.
        let living: Vec<SessionId> = (1..=10).map(SessionId).collect();
        living.iter().for_each(|id| expiry.track(*id, 4_000_000, Millis(0)));
        for n in 0..20_000 {
            let id = SessionId(1_000 + n);
            expiry.track(id, 3_600_000, Millis(n as u64 * 10));
            expiry.forget(id);
            expiry.track(living[0], 4_000_000 - n as u64 * 100, Millis(0));
            expiry.touch(living[1], Millis(n as u64 * 10));
            assert!(looked(&expiry) <= GONE_MAX + 2 * 11, "after {n}: {}", looked(&expiry));
        }
        assert_eq!(expiry.expired(Millis(2_001_000)), living[..1]);
        assert_eq!(expiry.expired(Millis(4_001_000)), living[2..]);
        assert_eq!(expiry.expired(Millis(4_200_000)), living[1..2]);
        assert_eq!(looked(&expiry), 0);
    }

    /// Against the plain rule: whoever's last deadline has passed.
    #[test]
    fn whoever_is_heard_when_ends_when_its_last_deadline_has_passed() {
        let mut dice = 88_172_645_463_325_252_u64;
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let mut expiry = Expiry::new(1_000);
        let mut plain: BTreeMap<SessionId, (u64, u64)> = BTreeMap::new();
        for now in (0..if cfg!(miri) { 40_000 } else { 400_000 }).step_by(250) {
            let id = SessionId(roll(20) as i64);
            match roll(8) {
                0 => {
                    let timeout = 1_000 + roll(20_000);
                    expiry.track(id, timeout, Millis(now));
                    plain.insert(id, (timeout, bucket(1_000, now, timeout)));
                }
                1 => {
                    expiry.forget(id);
                    plain.remove(&id);
                }
                _ => {
                    let at = now.saturating_sub(roll(3_000));
                    expiry.touch(id, Millis(at));
                    if let Some((timeout, end)) = plain.get_mut(&id) {
                        *end = bucket(1_000, at, *timeout).max(*end);
                    }
                }
            }
            let ended: Vec<SessionId> =
                plain.iter().filter(|(_, (_, end))| *end <= now).map(|(id, _)| *id).collect();
            plain.retain(|_, (_, end)| *end > now);
            assert_eq!(expiry.expired(Millis(now)), ended, "at {now}");
            assert_eq!(expiry.looked, expiry.looks.values().map(Vec::len).sum::<usize>());
            let left: usize = expiry.buckets().iter().map(|(_, ids)| ids.len()).sum();
            assert_eq!(left, plain.len());
        }
    }

    #[test]
    fn a_stall_is_forgiven_once_however_many_threads_report_it() {
        let mut clock = SessionClock::default();
        assert_eq!(clock.forgive(Millis(1_000), Millis(31_000)), Millis(30_000));
        assert_eq!(clock.forgive(Millis(1_010), Millis(31_050)), Millis(50));
        assert_eq!(clock.at(Millis(31_050)), Millis(1_000));
    }
}
