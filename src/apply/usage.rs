//! Quotas: what a hard limit refuses, what passes a limit and goes on, and the usage znodes that follow every change.

use super::state::{Stamp, State};
use crate::error::Code;
use crate::tree::quota::{self, Track};
use crate::tree::{Change, Node, Path};
use std::collections::BTreeMap;

/// A text of this length at most is read anew each time.
const PLAIN_BYTES: usize = 256;
/// Longer ones that are remembered.
const LONG_TEXTS_MAX: usize = 64;

/// What longer texts say, by the path of their znode.
pub(super) type LongTexts = BTreeMap<Path, (Node, Option<Track>)>;

/// The limits and usage znodes that the multi at hand touches, as they were before it, by their name and then by what they
/// are about; `None` where none was.
pub(super) type QuotasBefore = BTreeMap<&'static str, BTreeMap<Box<str>, Option<Node>>>;

/// What a quota limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    Count,
    Bytes,
}

/// A transaction passed a quota's limit, or was refused because it would have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverQuota {
    /// The znode that the quota is about.
    pub path: Box<str>,
    pub resource: Resource,
    /// With the transaction.
    pub usage: i64,
    pub limit: i64,
    /// It is the hard limit's, which rules where both are set.
    pub is_hard: bool,
    pub is_refused: bool,
}

impl State {
    /// Refuses what would be above a hard limit. `bytes` and `count` are what the operation adds.
    pub(super) fn check_quota(
        &mut self,
        path: &str,
        bytes: i64,
        count: i64,
        stamp: Stamp,
    ) -> Result<(), Code> {
        if !stamp.options.enforce_quota {
            return Ok(());
        }
        let Some(subject) = self.deepest_before(path) else { return Ok(()) };
        let Some(limits) = self.track_before(subject, quota::LIMITS) else { return Ok(()) };
        let Some(used) = self.track_before(subject, quota::STATS) else { return Ok(()) };
        let passed = passed(subject, used, (count, bytes), limits).find(|over| over.is_hard);
        let Some(over) = passed else { return Ok(()) };
        self.over_quota.push(OverQuota { is_refused: true, ..over });
        Err(Code::QuotaExceeded)
    }

    /// An operation of a multi is about to touch this znode. ZooKeeper holds each of them against the limits and the usage
    /// from before the multi.
    pub(super) fn keep_quota(&mut self, path: &str, stamp: Stamp) {
        if !stamp.options.enforce_quota {
            return;
        }
        for name in [quota::LIMITS, quota::STATS] {
            if let Some(subject) = quota::subject(path, name) {
                let known = self.quotas_before.entry(name).or_default();
                known.entry(subject.into()).or_insert_with(|| self.table.get(path).cloned());
            }
        }
    }

    fn before(&self, subject: &str, name: &str) -> Option<&Option<Node>> {
        self.quotas_before.get(name)?.get(subject)
    }

    fn deepest_before<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        if self.quotas_before.is_empty() {
            return self.quotas.deepest(path);
        }
        self.quotas.deepest_but(path, |subject| self.before(subject, quota::LIMITS).map(Option::is_some))
    }

    fn track_before(&self, subject: &str, name: &str) -> Option<Track> {
        match self.before(subject, name) {
            Some(before) => self.track_of(before.as_ref()?),
            None => self.track(subject, name),
        }
    }

    fn track(&self, subject: &str, name: &str) -> Option<Track> {
        self.track_of(self.table.get(&quota::node_path(subject, name))?)
    }

    fn track_of(&self, node: &Node) -> Option<Track> {
        let text = node.data().unwrap_or_default();
        if text.len() <= PLAIN_BYTES {
            return Track::parse(text);
        }
        // Anybody may write a megabyte there, and each create below it asks.
        let mut known = self.long_texts.borrow_mut();
        if let Some((of, track)) = known.get(&node.path) {
            // It is kept, so no other text lies where its does.
            if std::ptr::eq(of.data().unwrap_or_default(), text) {
                return *track;
            }
        }
        if known.len() >= LONG_TEXTS_MAX {
            known.clear();
        }
        let track = Track::parse(text);
        known.insert(node.path.clone(), (node.clone(), track));
        track
    }

    /// Notes that a path's subtree grew or shrank.
    pub(super) fn note_usage(&mut self, path: &str, bytes: i64, count: i64) {
        if let Some(subject) = self.quotas.deepest(path) {
            self.usage.push((subject.into(), bytes, count));
        }
    }

    /// A usage znode is counted anew or written by a client: what a multi noted for it so far is in it, or overruled.
    pub(super) fn overrule_usage(&mut self, path: &str) {
        if self.usage.is_empty() {
            return;
        }
        if let Some(subject) = quota::subject(path, quota::STATS) {
            self.usage.retain(|(noted, ..)| &**noted != subject);
        }
    }

    pub(super) fn flush_usage(&mut self) {
        for (subject, bytes, count) in std::mem::take(&mut self.usage) {
            let path = quota::node_path(&subject, quota::STATS);
            let Some(old) = self.table.get(&path).cloned() else { continue };
            // As often as a multi has operations, and anybody may write a megabyte there.
            let Some(track) = self.track(&subject, quota::STATS) else { continue };
            if count > 0 || bytes > 0 {
                self.note_over_quota(&subject, track, (count, bytes));
            }
            let text =
                Track::usage_text(track.count.saturating_add(count), track.bytes.saturating_add(bytes));
            self.set_usage(&old, &text);
        }
    }

    /// Soft limits are looked at whatever enforceQuota says, as ZooKeeper's manual has it; 3.9.5 itself keeps silent
    /// without it (observed). The operations of a multi that pass one limit in a row are one fact, with the last usage.
    fn note_over_quota(&mut self, subject: &str, used: Track, more: (i64, i64)) {
        let Some(limits) = self.track(subject, quota::LIMITS) else { return };
        for over in passed(subject, used, (more.0.max(0), more.1.max(0)), limits) {
            let mut last_two = self.over_quota.iter_mut().rev().take(2);
            match last_two.find(|known| known.path == over.path && known.resource == over.resource) {
                Some(known) => *known = over,
                None => self.over_quota.push(over),
            }
        }
    }

    /// A usage znode that comes shows what its subject uses now, whatever the client wrote.
    pub(super) fn recount_usage(&mut self, stats: &Node) {
        let Some(subject) = quota::subject(stats.path.as_str(), quota::STATS) else { return };
        self.overrule_usage(stats.path.as_str());
        let mut count = 0i64;
        let mut bytes = 0i64;
        let mut open = vec![subject.to_owned()];
        while let Some(at) = open.pop() {
            let Some(node) = self.table.get(&at) else { continue };
            count += 1;
            bytes = bytes.saturating_add(i64::try_from(node.data_len()).unwrap_or(i64::MAX));
            if let Some(children) = self.table.children(&at) {
                open.extend(children.iter().map(|child| child.as_str().to_owned()));
            }
        }
        self.set_usage(stats, &Track::usage_text(count, bytes));
    }

    /// TR38: a usage znode's data changes and nothing else of it does; no watch fires.
    fn set_usage(&mut self, old: &Node, text: &str) {
        let node = Node::new((**old).clone(), Some(text.as_bytes()));
        self.replace_node(node.clone(), Change::Updated { node });
    }
}

/// The limits above which it is after a change by `more` (count, bytes): the hard one where there is one, as in ZooKeeper. What
/// shrinks and stays above one is refused there, too.
fn passed(
    subject: &str,
    used: Track,
    more: (i64, i64),
    limits: Track,
) -> impl Iterator<Item = OverQuota> + '_ {
    let rows = [
        (Resource::Count, used.count, more.0, limits.count, limits.count_hard),
        (Resource::Bytes, used.bytes, more.1, limits.bytes, limits.bytes_hard),
    ];
    rows.into_iter().filter_map(move |(resource, used, more, soft, hard)| {
        let is_hard = hard > -1;
        let limit = if is_hard { hard } else { soft };
        let usage = used.saturating_add(more);
        let is_over = more != 0 && limit > -1 && usage > limit;
        is_over.then(|| OverQuota {
            path: subject.into(),
            resource,
            usage,
            limit,
            is_hard,
            is_refused: false,
        })
    })
}
