//! What the host's threads count and time for `mntr`. Written with relaxed additions, read by the admin thread.

use crate::admin::Summary;
use crate::ids::Millis;
use crate::tree::path;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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

/// All of them.
#[derive(Debug, Default)]
pub struct Meters {
    /// From handing a batch to the log until it is durable.
    pub fsync: Meter,
    /// Writing a snapshot.
    pub snapshot: Meter,
    pub sessions_expired: AtomicU64,
    /// Connections taken, and refused by `maxClientCnxns` or `maxCnxns`.
    pub connections_taken: AtomicU64,
    pub connections_refused: AtomicU64,
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

    /// Counters by ZooKeeper's names.
    pub(super) fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        let mut counters = vec![
            ("connection_request_count".into(), self.connections_taken.load(Relaxed)),
            ("connection_rejected".into(), self.connections_refused.load(Relaxed)),
            ("stale_sessions_expired".into(), self.sessions_expired.load(Relaxed)),
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
