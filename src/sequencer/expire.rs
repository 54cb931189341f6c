//! The leader's own wishes: sessions that were not heard of, containers and TTL nodes whose time is over.

use super::{Effect, Note, Now, Options, Sequencer};
use crate::apply::TxnBody;
use crate::handoff::Heard;
use crate::ids::{Millis, ShardId, WallMillis};
use crate::tree::{ephemeral_kind, EphemeralKind, Path, Znode};

impl Sequencer {
    pub(super) fn on_heard(&mut self, shard: ShardId, heard: Heard) {
        if let Some((from, to)) = heard.stall {
            self.forgive(from, to);
        }
        for (session, at) in heard.sessions {
            self.expiry.touch(session, self.clock.at(at));
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
        let through = self.heard_through.iter().copied().min().unwrap_or_default();
        for session in self.expiry.expired(self.clock.at(through)) {
            self.push_own(session, TxnBody::CloseSession);
            self.effects.push_back(Effect::Note(Note::SessionExpired { session }));
        }
    }

    /// Once an interval, wishes away what has no reason to stay (TR22). Apply judges each again.
    pub(super) fn reap(&mut self, now: Now) {
        let Some(budget) = self.reaper.due(now.mono) else { return };
        let never_used_ms = self.options.reap_never_used_ms;
        let is_over = |node: &Znode| is_over(node, now.wall, never_used_ms);
        let over: Vec<Path> = self
            .state
            .reapable()
            .filter(|path| self.state.table.get(path.as_str()).is_some_and(|node| is_over(node)))
            .take(budget)
            .cloned()
            .collect();
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
            node.cversion > 0 || (never_used_ms > 0 && age(node.ctime) > never_used_ms)
        }
        EphemeralKind::Ttl { ttl_ms } => age(node.mtime) > u64::try_from(ttl_ms).unwrap_or(u64::MAX),
        EphemeralKind::Persistent | EphemeralKind::Session(_) => false,
    }
}

/// When the reaper looks, and how much it may take.
#[derive(Clone, Debug)]
pub(super) struct Reaper {
    interval_ms: u64,
    per_interval: usize,
    next: Millis,
}

impl Reaper {
    pub(super) fn new(options: &Options, now: Millis) -> Reaper {
        let interval_ms = options.reap_interval_ms.max(1);
        let share = options.reap_per_minute.saturating_mul(interval_ms) / 60_000;
        Reaper {
            interval_ms,
            per_interval: usize::try_from(share.max(1)).unwrap_or(usize::MAX),
            next: now.plus(Millis(interval_ms)),
        }
    }

    fn due(&mut self, now: Millis) -> Option<usize> {
        if now < self.next {
            return None;
        }
        self.next = now.plus(Millis(self.interval_ms));
        Some(self.per_interval)
    }
}
