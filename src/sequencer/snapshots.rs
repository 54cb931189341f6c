//! When a snapshot is due, and its znodes, a few stripes a turn.

use super::words::Effect;
use super::Sequencer;
use crate::mutant::{self, Mutant};

/// A follower that lacks no more log than this before the newest snapshot is sent the log, and so is one that lacks less than
/// the snapshot has. Beyond that a million creates take twice as long as a snapshot of what they made (5.9 s and less than 3).
const LOG_FOR_FOLLOWERS: u64 = 64 << 20;
/// About what a znode takes in a snapshot beside its data.
const ZNODE_BYTES: u64 = 64;
/// Stripes copied for a snapshot in one turn: about a thousand znodes each.
const STRIPES_A_TURN: usize = 2;

impl Sequencer {
    pub(super) fn on_snapshot_done(&mut self, written: bool) {
        self.snapshotting = false;
        self.on_offer_made(written);
        if written {
            self.consensus.set_snapshot(self.snapshot_at.0, self.snapshot_at.1);
            if self.state.membership.is_ensemble() {
                let table = &self.state.table;
                let snapshot = table.data_bytes() + table.len() as u64 * ZNODE_BYTES;
                self.consensus.forget_behind_snapshot(snapshot.max(LOG_FOR_FOLLOWERS), self.applied);
            }
        }
    }

    pub(super) fn copy_snapshot(&mut self) {
        let (txns, bytes) = self.since_snapshot;
        let share = if self.options.snapshot_grows { self.state.table.len() as u64 / 2 } else { 0 };
        let due = txns >= self.options.snapshot_txns.max(share) || bytes >= self.options.snapshot_bytes;
        if due && !self.snapshotting && self.is_serving() {
            self.begin_snapshot();
        }
        if !self.state.is_copying() {
            return;
        }
        match self.state.copy_stripes(STRIPES_A_TURN) {
            Some(nodes) => self.effects.push_back(Effect::SnapshotNodes(nodes)),
            None => self.effects.push_back(Effect::SnapshotEnd),
        }
    }

    /// Whether one is under way.
    #[must_use]
    pub fn is_snapshotting(&self) -> bool {
        self.snapshotting
    }

    /// Begins a snapshot of this very state.
    pub fn begin_snapshot(&mut self) {
        if self.snapshotting {
            return;
        }
        self.snapshotting = true;
        self.since_snapshot = (0, 0);
        self.snapshot_at = (self.applied, self.applied_term);
        if mutant::is(Mutant::SnapshotIndexOff) {
            self.snapshot_at.0 .0 = self.snapshot_at.0 .0.saturating_sub(1).max(1);
        }
        let head = Box::new(self.state.snapshot_head());
        self.state.start_snapshot();
        let (index, term) = self.snapshot_at;
        self.effects.push_back(Effect::SnapshotBegin { index, term, head });
    }
}
