//! What the host's threads count and time for `mntr`. Written with relaxed additions, read by the admin thread.

use crate::admin::Summary;
use crate::ids::{Millis, Zxid};
use crate::sequencer::{Effect, Note};
use crate::tree::path;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Least, most, count and sum of spans, in milliseconds.
#[derive(Debug)]
pub struct Meter {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl Meter {
    /// Counts one.
    pub fn record(&self, took: Millis) {
        self.sum.fetch_add(took.0, Relaxed);
        self.min.fetch_min(took.0, Relaxed);
        self.max.fetch_max(took.0, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn summary(&self, name: &'static str) -> Summary {
        let count = self.count.load(Relaxed);
        let min = if count == 0 { 0 } else { self.min.load(Relaxed) };
        Summary { name, count, sum: self.sum.load(Relaxed), min, max: self.max.load(Relaxed) }
    }
}

/// The last, the least and the largest of sizes.
#[derive(Debug)]
pub struct Sizes {
    last: AtomicU64,
    least: AtomicU64,
    largest: AtomicU64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { last: AtomicU64::new(0), least: AtomicU64::new(u64::MAX), largest: AtomicU64::new(0) }
    }
}

impl Sizes {
    fn record(&self, size: u64) {
        self.last.store(size, Relaxed);
        self.least.fetch_min(size, Relaxed);
        self.largest.fetch_max(size, Relaxed);
    }

    /// In that order; none before the first.
    pub(super) fn get(&self) -> Option<[u64; 3]> {
        let least = self.least.load(Relaxed);
        (least < u64::MAX).then(|| [self.last.load(Relaxed), least, self.largest.load(Relaxed)])
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Meters {
    /// From handing a batch to the log until it is durable.
    pub fsync: Meter,
    /// Writing a snapshot.
    pub snapshot: Meter,
    pub sessions_expired: AtomicU64,
    /// In an ensemble: transactions of this server's log and of its state, while it led and while it followed, and how often
    /// it knew of no leader. A server alone proposes to nobody, and counts nothing, as ZooKeeper's.
    pub proposed: AtomicU64,
    /// Bytes of what was proposed: an entry holds as many transactions as came together.
    pub proposals: Sizes,
    pub committed: AtomicU64,
    pub proposed_elsewhere: AtomicU64,
    pub committed_elsewhere: AtomicU64,
    pub looked: AtomicU64,
    /// How often another server's state was found to be another one.
    pub digest_mismatches: AtomicU64,
    /// Snapshots that were sent whole to other servers.
    pub snapshots_sent: Arc<AtomicU64>,
    /// Connections taken, and refused by `maxClientCnxns` or `maxCnxns`.
    pub connections_taken: AtomicU64,
    pub connections_refused: AtomicU64,
    /// Of the log's disk, and whether that is so little that what grows the tree is refused.
    pub disk_free_bytes: AtomicU64,
    pub is_disk_low: AtomicBool,
    /// What hard quotas refused, by the first component of the quota's path.
    quota_refusals: Mutex<BTreeMap<Box<str>, u64>>,
}

/// First components that are counted at the most: clients make them, and nobody takes them away.
const NAMESPACES_MAX: usize = 1_000;

impl Meters {
    /// A hard quota on `path` refused something.
    pub(super) fn count_quota_refusal(&self, path: &str) {
        let namespace = path::top(path);
        let mut counts = self.quota_refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(namespace) {
            *count += 1;
        } else if counts.len() < NAMESPACES_MAX {
            counts.insert(namespace.into(), 1);
        }
    }

    /// Counts what the sequencer wants. `is_leading`: of an ensemble.
    pub(super) fn count(&self, effect: &Effect, is_leading: Option<bool>) {
        let add = |counter: &AtomicU64, n: u64| {
            counter.fetch_add(n, Relaxed);
        };
        match (effect, is_leading) {
            (Effect::Note(Note::SessionExpired { .. }), _) => add(&self.sessions_expired, 1),
            (Effect::Note(Note::OverQuota(over)), _) if over.is_refused => {
                self.count_quota_refusal(&over.path)
            }
            (Effect::Note(Note::Leaderless), _) => add(&self.looked, 1),
            (Effect::Note(Note::Differs { .. }), _) => add(&self.digest_mismatches, 1),
            (Effect::Append(logged), Some(leads)) if logged.last_zxid > Zxid::ZERO => {
                let proposed = if leads { &self.proposed } else { &self.proposed_elsewhere };
                add(proposed, (logged.last_zxid.0 - logged.first_zxid.0 + 1).unsigned_abs());
                if leads {
                    self.proposals.record(logged.payload.len() as u64);
                }
            }
            // What has no bytes is no batch: answers to syncs, and what local sessions hear.
            (Effect::Publish(publication), Some(leads)) if publication.bytes > 0 => {
                let committed = if leads { &self.committed } else { &self.committed_elsewhere };
                add(committed, publication.committed.len() as u64);
            }
            _ => {}
        }
    }

    /// Counters by ZooKeeper's names.
    pub(super) fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        let mut counters = vec![
            ("connection_request_count".into(), self.connections_taken.load(Relaxed)),
            ("connection_rejected".into(), self.connections_refused.load(Relaxed)),
            ("stale_sessions_expired".into(), self.sessions_expired.load(Relaxed)),
            ("proposal_count".into(), self.proposed.load(Relaxed)),
            ("commit_count".into(), self.committed.load(Relaxed)),
            ("learner_proposal_received_count".into(), self.proposed_elsewhere.load(Relaxed)),
            ("learner_commit_received_count".into(), self.committed_elsewhere.load(Relaxed)),
            ("looking_count".into(), self.looked.load(Relaxed)),
            ("digest_mismatches_count".into(), self.digest_mismatches.load(Relaxed)),
            ("snap_count".into(), self.snapshots_sent.load(Relaxed)),
            ("ringkeeper_disk_free_bytes".into(), self.disk_free_bytes.load(Relaxed)),
            ("ringkeeper_disk_low".into(), self.is_disk_low.load(Relaxed).into()),
        ];
        let refusals = self.quota_refusals.lock().unwrap_or_else(PoisonError::into_inner);
        counters.extend(refusals.iter().map(|(namespace, count)| {
            (format!("{namespace}_quota_exceeded_error_per_namespace").into(), *count)
        }));
        counters
    }

    /// Spans by ZooKeeper's names.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        vec![self.fsync.summary("fsynctime"), self.snapshot.summary("snapshottime")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::{Committed, Concerns, Publication};
    use crate::ids::{LogIndex, ServerId};
    use crate::tree::Answer;

    fn published(transactions: usize, bytes: usize) -> Effect {
        let one = |_| Committed {
            zxid: Zxid(1),
            changes: Default::default(),
            to: None,
            answer: Answer::Code(crate::error::Code::Ok),
        };
        let committed = (0..transactions).map(one).collect();
        let (sessions, last_zxid, concerns) = (0, Zxid(1), Concerns::ALL);
        Effect::Publish(Arc::new(Publication { number: 1, committed, sessions, last_zxid, concerns, bytes }))
    }

    /// Zeros of a server that had done hundreds stood in `mntr` (a review).
    #[test]
    fn what_an_ensemble_commits_is_counted_where_it_leads_and_where_it_follows() {
        let meters = Meters::default();
        let told = [(Some(true), 3), (Some(false), 4), (Some(false), 1), (None, 9)];
        for (is_leading, transactions) in told {
            meters.count(&published(transactions, 10), is_leading);
            meters.count(&published(transactions, 0), is_leading);
        }
        meters.count(&Effect::Note(Note::Leaderless), Some(false));
        meters.count(&Effect::Note(Note::Differs { server: ServerId(2), index: LogIndex(1) }), Some(true));
        let counted: BTreeMap<_, _> = meters.counters().into_iter().collect();
        let names =
            ["commit_count", "learner_commit_received_count", "looking_count", "digest_mismatches_count"];
        assert_eq!(names.map(|name| counted[name]), [3, 5, 1, 1]);
    }
}
