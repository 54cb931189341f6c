//! Whether a shard is so far behind that it had better begin anew.
//!
//! A leader whose shard lags takes no more writes meanwhile. A follower cannot: what the others' clients write is applied
//! here all the same, and lies in memory until its shards have taken it. Without a limit an hour of busy writes in front of
//! some recursive watchers took all of it, and showed their clients a state of long ago.

use std::collections::VecDeque;

/// Publications that may lie in front of a shard of a server that does not lead.
const PUBLICATIONS_MAX: usize = 16_384;
/// Bytes of their batches.
const BYTES_MAX: u64 = 256 << 20;

/// What was published and not yet taken by every shard.
#[derive(Default)]
pub(super) struct Behind {
    /// Bytes of each publication, the oldest first.
    sizes: VecDeque<u32>,
    bytes: u64,
    /// Shards that were told to begin anew and lie behind still.
    told: Vec<bool>,
}

impl Behind {
    pub(super) fn published(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sizes.push_back(bytes);
        self.bytes += u64::from(bytes);
    }

    /// So many publications lie in front of each shard. Calls `anew` for those that had better begin anew, once until they
    /// have.
    pub(super) fn look(
        &mut self,
        backlogs: impl Iterator<Item = usize> + Clone,
        mut anew: impl FnMut(usize),
    ) {
        let most = backlogs.clone().max().unwrap_or(0);
        while self.sizes.len() > most {
            self.bytes -= u64::from(self.sizes.pop_front().unwrap_or(0));
        }
        let is_too_far = most > PUBLICATIONS_MAX || self.bytes > BYTES_MAX;
        if !is_too_far && self.told.is_empty() {
            return;
        }
        self.told.resize(backlogs.clone().count(), false);
        for (shard, backlog) in backlogs.enumerate() {
            // Those that keep up lie far below the one that counts.
            let is_behind = is_too_far && backlog > most / 2;
            if is_behind && !self.told[shard] {
                anew(shard);
            }
            self.told[shard] = is_behind;
        }
        if !self.told.contains(&true) {
            self.told.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(behind: &mut Behind, backlogs: &[usize]) -> Vec<usize> {
        let mut told = Vec::new();
        behind.look(backlogs.iter().copied(), |shard| told.push(shard));
        told
    }

    #[test]
    fn who_lies_too_far_behind_is_told_once_and_again_when_it_does_so_again() {
        let mut behind = Behind::default();
        for _ in 0..3 {
            (0..=PUBLICATIONS_MAX).for_each(|_| behind.published(10));
            assert!(told(&mut behind, &[3, PUBLICATIONS_MAX]).is_empty());
            behind.published(10);
            assert_eq!(told(&mut behind, &[3, PUBLICATIONS_MAX + 1]), [1]);
            assert!(told(&mut behind, &[4, PUBLICATIONS_MAX + 1]).is_empty(), "it was told");
            assert!(told(&mut behind, &[0, 0]).is_empty());
            assert_eq!((behind.sizes.len(), behind.bytes), (0, 0));
        }
    }

    #[test]
    fn few_large_ones_are_too_far_as_well() {
        let mut behind = Behind::default();
        for nth in 1..=256 {
            behind.published(1 << 20);
            assert!(told(&mut behind, &[nth, 0]).is_empty());
        }
        behind.published(1);
        assert_eq!(told(&mut behind, &[257, 0]), [0]);
    }
}
