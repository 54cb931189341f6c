//! Quotas: what a hard limit refuses, and the usage znodes that follow every change.

use super::state::{Stamp, State};
use crate::error::Code;
use crate::tree::quota::{self, Track};
use crate::tree::{Change, Data, Node, Znode};

impl State {
    /// Refuses what would pass a hard limit. `bytes` and `count` are what the operation adds.
    pub(super) fn check_quota(&self, path: &str, bytes: i64, count: i64, stamp: Stamp) -> Result<(), Code> {
        if !stamp.options.enforce_quota {
            return Ok(());
        }
        let Some((limits, usage)) = self.quota_of(path) else { return Ok(()) };
        let over =
            |used: i64, more: i64, hard: i64| more > 0 && hard > -1 && used.saturating_add(more) > hard;
        if over(usage.count, count, limits.count_hard) || over(usage.bytes, bytes, limits.bytes_hard) {
            return Err(Code::QuotaExceeded);
        }
        Ok(())
    }

    fn quota_of(&self, path: &str) -> Option<(Track, Track)> {
        let subject = self.quotas.deepest(path)?;
        let text = |name| -> Option<Track> {
            let node = self.table.get(&quota::node_path(subject, name))?;
            Track::parse(node.data.as_ref().map_or(b"", Data::as_bytes))
        };
        Some((text(quota::LIMITS)?, text(quota::STATS)?))
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
            let Some(track) = Track::parse(old.data.as_ref().map_or(b"", Data::as_bytes)) else { continue };
            let text =
                Track::usage_text(track.count.saturating_add(count), track.bytes.saturating_add(bytes));
            self.set_usage(&old, &text);
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
        let node = Node::new(Znode { data: Some(Data::new(text.as_bytes())), ..(**old).clone() });
        self.replace_node(node.clone(), Change::Updated { node });
    }
}
