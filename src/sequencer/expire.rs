//! The leader's own wishes: sessions that were not heard of, containers and TTL nodes whose time is over.

use super::{Effect, Note, Now, Options, Sequencer, TICK_MS};
use crate::apply::TxnBody;
use crate::handoff::Heard;
use crate::ids::{Millis, ShardId, WallMillis};
use crate::mutant::{self, Mutant};
use crate::tree::{ephemeral_kind, EphemeralKind, Path, Znode};

impl Sequencer {
    pub(super) fn on_heard(&mut self, shard: ShardId, heard: Heard) {
        if let Some((from, to)) = heard.stall {
            self.forgive(from, to);
        }
        for (session, at) in heard.sessions {
            if self.locals.len() > 0 && self.locals.has(session) {
                if mutant::is(Mutant::LocalsUnheard) {
                    continue;
                }
                self.locals.expiry.touch(session, self.clock.at(at));
                // The leader may know it by now.
                if self.locals.entering(session).is_some() && !self.leading {
                    self.report.heard(session, at);
                }
            } else if self.leading {
                self.expiry.touch(session, self.clock.at(at));
            } else {
                self.report.heard(session, at);
            }
        }
        if let Some(through) = self.heard_through.get_mut(usize::from(shard.0)) {
            *through = heard.through.max(*through);
        }
    }

    /// Ends what nobody has heard of for its whole timeout, judged only up to the moment for which every shard has
    /// answered: a shard that stands still expires nobody.
    /// While the disk stands still nobody ends: a client whose write waits for it may not be read, and so not heard.
    pub(super) fn expire_sessions(&mut self, now: Now) {
        if self.log_stands(now.mono) {
            return;
        }
        let through = self.heard_of_all(now.mono);
        for session in self.expiry.expired(self.clock.at(through)) {
            let Some(owner) = self.state.sessions.get(session).map(|session| session.owner) else { continue };
            self.push_own(session, TxnBody::Expire { owner });
            self.effects.push_back(Effect::Note(Note::SessionExpired { session }));
        }
    }

    /// Whether a slice can be done at once. While the log stands no wishes are heaped up.
    pub(super) fn can_reap(&self) -> bool {
        self.reaper.has_work() && !self.gather.is_full()
    }

    /// Once an interval, looks at all that may be without a reason to stay and wishes it away (TR22): a slice a turn, so
    /// that no write waits for more than a slice. Apply judges each again.
    pub(super) fn reap_slice(&mut self, now: Now) {
        if !self.can_reap() {
            return;
        }
        let never_used_ms = self.options.reap_never_used_ms;
        let mut looked = 0;
        let mut over = Vec::new();
        let mut last = None;
        for path in self.state.reapable_after(self.reaper.after.as_ref()).take(CANDIDATES_A_SLICE) {
            looked += 1;
            last = Some(path);
            if self.state.table.get(path.as_str()).is_some_and(|node| is_over(node, now.wall, never_used_ms))
            {
                over.push(path.clone());
                if !self.reaper.take_one() {
                    break;
                }
            }
        }
        self.reaper.went_on(looked, last.cloned());
        for path in over {
            self.push_own(crate::ids::SessionId::NONE, TxnBody::Reap { path: path.as_str() });
        }
    }
}

fn is_over(node: &Znode, wall: WallMillis, never_used_ms: u64) -> bool {
    if node.num_children > 0 {
        return false;
    }
    let age = |since: WallMillis| u64::try_from(wall.0.saturating_sub(since.0)).unwrap_or(0);
    match ephemeral_kind(node.owner, true) {
        // It has had a child, or nobody ever used it.
        EphemeralKind::Container => {
            node.cversion > 0 || (never_used_ms > 0 && age(node.mtime) > never_used_ms)
        }
        EphemeralKind::Ttl { ttl_ms } => age(node.mtime) > u64::try_from(ttl_ms).unwrap_or(u64::MAX),
        EphemeralKind::Persistent | EphemeralKind::Session(_) => false,
    }
}

/// Candidates that the reaper looks at in one turn. One is a look into the table, about 2 µs where a million of them are
/// in no cache, so a slice takes half a millisecond.
pub(super) const CANDIDATES_A_SLICE: usize = 250;
/// Deletions that it wishes for between two ticks, at the most: a larger `maxPerMinute` is no faster.
pub(super) const DELETIONS_A_TICK_MAX: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;

/// When the reaper looks, how far it is, and how much it may take.
#[derive(Clone, Debug)]
pub(super) struct Reaper {
    interval_ms: u64,
    per_minute: u64,
    next: Millis,
    sweeping: bool,
    /// The candidate that this sweep saw last.
    pub(super) after: Option<Path>,
    /// What may be deleted now, in parts of `MINUTE_MS`: it grows with time, as ZooKeeper waits after each deletion.
    credit: u64,
    credit_max: u64,
    credited_at: Millis,
}

impl Reaper {
    pub(super) fn new(options: &Options, now: Millis) -> Reaper {
        let interval_ms = options.reap_interval_ms.max(1);
        // Two ticks' worth, so that a late tick loses nothing; and always one.
        let a_tick = options.reap_per_minute.saturating_mul(2 * TICK_MS);
        let credit_max = a_tick.clamp(MINUTE_MS, DELETIONS_A_TICK_MAX * MINUTE_MS);
        Reaper {
            interval_ms,
            per_minute: options.reap_per_minute,
            next: now.plus(Millis(interval_ms)),
            sweeping: false,
            after: None,
            credit: credit_max,
            credit_max,
            credited_at: now,
        }
    }

    pub(super) fn on_tick(&mut self, now: Millis) {
        let earned = self.per_minute.saturating_mul(now.since(self.credited_at).0);
        self.credit = self.credit.saturating_add(earned).min(self.credit_max);
        self.credited_at = now;
        if !self.sweeping && now >= self.next {
            self.next = now.plus(Millis(self.interval_ms));
            self.sweeping = true;
        }
    }

    /// Without credit a sweep waits for the next tick.
    fn has_work(&self) -> bool {
        self.sweeping && self.credit >= MINUTE_MS
    }

    /// One deletion; says whether another may follow.
    fn take_one(&mut self) -> bool {
        self.credit -= MINUTE_MS;
        self.credit >= MINUTE_MS
    }

    fn went_on(&mut self, looked: usize, last: Option<Path>) {
        // A slice that ended for want of candidates was the sweep's last; one that took its last credit may be too.
        let ended = looked < CANDIDATES_A_SLICE && self.credit >= MINUTE_MS;
        self.sweeping = !ended;
        self.after = if ended { None } else { last.or(self.after.take()) };
    }
}
