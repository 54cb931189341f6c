//! When sessions end: ZooKeeper's buckets, on a clock that stands still while the server itself does.
//!
//! A stall is time in which this server could not have heard a client: the process was stopped, a thread got no CPU.
//! `SessionClock` takes it out of the time that sessions see, so that no session ends for it (Z03, G18).

use crate::ids::{Millis, SessionId};
use std::collections::{BTreeMap, BTreeSet};

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
    buckets: BTreeMap<u64, BTreeSet<SessionId>>,
    sessions: BTreeMap<SessionId, Deadline>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    timeout_ms: u64,
    bucket: u64,
}

impl Expiry {
    /// Buckets of `tick_ms`, ZooKeeper's tickTime.
    #[must_use]
    pub fn new(tick_ms: u64) -> Expiry {
        assert!(tick_ms > 0, "config refuses a tickTime of 0");
        Expiry { tick_ms, buckets: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Starts or restarts a session's time: a new one, a re-attach, a new leader's full timeout.
    pub fn track(&mut self, id: SessionId, timeout_ms: u64, heard_at: Millis) {
        self.forget(id);
        let bucket = self.bucket(heard_at.0, timeout_ms);
        self.sessions.insert(id, Deadline { timeout_ms, bucket });
        self.buckets.entry(bucket).or_default().insert(id);
    }

    /// A client was heard. Never moves a deadline back.
    pub fn touch(&mut self, id: SessionId, heard_at: Millis) {
        let Some(deadline) = self.sessions.get(&id).copied() else { return };
        let bucket = self.bucket(heard_at.0, deadline.timeout_ms);
        if bucket > deadline.bucket {
            self.leave_bucket(id, deadline.bucket);
            self.buckets.entry(bucket).or_default().insert(id);
            self.sessions.insert(id, Deadline { bucket, ..deadline });
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
        if let Some(deadline) = self.sessions.remove(&id) {
            self.leave_bucket(id, deadline.bucket);
        }
    }

    /// The sessions whose time is over at `heard_through`, the moment up to which every shard has told what it
    /// heard. They are forgotten here: the caller closes them.
    pub fn expired(&mut self, heard_through: Millis) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(entry) = self.buckets.first_entry() {
            if *entry.key() > heard_through.0 {
                break;
            }
            for id in entry.remove() {
                self.sessions.remove(&id);
                expired.push(id);
            }
        }
        expired
    }

    /// Buckets and their sessions in order of time, for the word `dump`.
    pub fn buckets(&self) -> impl Iterator<Item = (Millis, &BTreeSet<SessionId>)> {
        self.buckets.iter().map(|(at, sessions)| (Millis(*at), sessions))
    }

    /// TR28: up to the next tick after the timeout.
    fn bucket(&self, heard_at: u64, timeout_ms: u64) -> u64 {
        (heard_at + timeout_ms) / self.tick_ms * self.tick_ms + self.tick_ms
    }

    fn leave_bucket(&mut self, id: SessionId, bucket: u64) {
        if let Some(sessions) = self.buckets.get_mut(&bucket) {
            sessions.remove(&id);
            if sessions.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }
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
        let deadline = |expiry: &Expiry| expiry.buckets().next().map(|(at, _)| at.0);
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
        assert_eq!(expiry.buckets().count(), 0, "a closed session is not revived");
    }

    #[test]
    fn a_stall_is_forgiven_once_however_many_threads_report_it() {
        let mut clock = SessionClock::default();
        assert_eq!(clock.forgive(Millis(1_000), Millis(31_000)), Millis(30_000));
        assert_eq!(clock.forgive(Millis(1_010), Millis(31_050)), Millis(50));
        assert_eq!(clock.at(Millis(31_050)), Millis(1_000));
    }
}
