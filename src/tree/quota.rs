//! Quotas: limits and usage as the text of two znodes under `/zookeeper/quota<path>`.

use super::path;
use std::collections::BTreeSet;

/// The znode that sets limits.
pub const LIMITS: &str = "zookeeper_limits";
/// The znode that shows usage.
pub const STATS: &str = "zookeeper_stats";

/// `count=<n>,bytes=<n>` and the hard limits. -1 is "no limit".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Track {
    pub count: i64,
    pub bytes: i64,
    pub count_hard: i64,
    pub bytes_hard: i64,
}

impl Track {
    /// Reads the text; `None` does not parse and so limits nothing (ZooKeeper refuses every write below such a
    /// znode instead). An empty text is no limit at all.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Track> {
        let mut track = Track { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1 };
        let text = std::str::from_utf8(text).ok()?;
        for piece in text.split([',', ';']).filter(|piece| !piece.is_empty()) {
            let mut parts = piece.split('=');
            let key = parts.next()?;
            let number: i64 = parts.next()?.parse().ok()?;
            match key {
                "count" => track.count = number,
                "bytes" => track.bytes = number,
                "countHardLimit" => track.count_hard = number,
                "byteHardLimit" => track.bytes_hard = number,
                _ => {}
            }
        }
        Some(track)
    }

    /// The text of a usage znode.
    #[must_use]
    pub fn usage_text(count: i64, bytes: i64) -> String {
        format!("count={count},bytes={bytes}")
    }
}

/// `/zookeeper/quota<path>/zookeeper_limits` and the like: the path it is about. `None` for any other znode.
#[must_use]
pub fn subject<'a>(node_path: &'a str, name: &str) -> Option<&'a str> {
    let inner = node_path.strip_prefix(path::QUOTA)?.strip_suffix(name)?.strip_suffix('/')?;
    Some(if inner.is_empty() { path::ROOT } else { inner })
}

/// The znode of `name` about `subject`.
#[must_use]
pub fn node_path(subject: &str, name: &str) -> String {
    let inner = if subject == path::ROOT { "" } else { subject };
    format!("{}{inner}/{name}", path::QUOTA)
}

/// The paths that have a limits znode.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    paths: BTreeSet<Box<str>>,
}

impl Quotas {
    /// Takes note of a limits znode that came.
    pub fn add(&mut self, subject: &str) {
        self.paths.insert(subject.into());
    }

    /// Takes note of one that went.
    pub fn remove(&mut self, subject: &str) {
        self.paths.remove(subject);
    }

    /// The deepest ancestor-or-self with a quota: the only one that counts. Never the root.
    #[must_use]
    pub fn deepest(&self, of: &str) -> Option<&str> {
        if self.paths.is_empty() {
            return None;
        }
        let mut at = of;
        while at.len() > 1 {
            if let Some(found) = self.paths.get(at) {
                return Some(found);
            }
            at = path::parent(at)?;
        }
        None
    }

    /// The same where some are to count as there or not, whatever is there now: `known` says which.
    #[must_use]
    pub fn deepest_but<'a>(&self, of: &'a str, known: impl Fn(&str) -> Option<bool>) -> Option<&'a str> {
        let mut at = of;
        while at.len() > 1 {
            if known(at).unwrap_or_else(|| self.paths.contains(at)) {
                return Some(at);
            }
            at = path::parent(at)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_texts_parse_in_every_form_that_clients_write() {
        let t = |count, bytes, count_hard, bytes_hard| Some(Track { count, bytes, count_hard, bytes_hard });
        for (text, want) in [
            ("count=1,bytes=2", t(1, 2, -1, -1)),
            ("count=-1,bytes=-1=;byteHardLimit=7;countHardLimit=5", t(-1, -1, 5, 7)),
            ("bytes=3;count=4", t(4, 3, -1, -1)),
            ("", t(-1, -1, -1, -1)),
            ("hello", None),
            ("byteHardLimit=", None),
        ] {
            assert_eq!(Track::parse(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn only_the_deepest_quota_counts() {
        let mut quotas = Quotas::default();
        quotas.add("/a");
        quotas.add("/a/b");
        assert_eq!(quotas.deepest("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.deepest("/a/x"), Some("/a"));
        assert_eq!(quotas.deepest("/ab"), None);
        let but =
            |of| quotas.deepest_but(of, |at| ["/a/b/c", "/a/b"].contains(&at).then_some(at == "/a/b/c"));
        assert_eq!(["/a/b/c/d", "/a/b/x", "/ab"].map(but), [Some("/a/b/c"), Some("/a"), None]);
        assert_eq!(subject("/zookeeper/quota/a/zookeeper_limits", LIMITS), Some("/a"));
        assert_eq!(subject("/zookeeper/quota/zookeeper_limits", LIMITS), Some("/"));
        assert_eq!(subject("/zookeeper/quota/a", LIMITS), None);
        assert_eq!(node_path("/a", STATS), "/zookeeper/quota/a/zookeeper_stats");
    }
}
