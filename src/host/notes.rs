//! Lines for the operator, never a flood: each kind of line a few times a second, then counted.

use crate::apply::{OverQuota, Resource};
use crate::ids::Millis;
use std::collections::BTreeMap;

/// Lines of one kind that are printed in a window.
const LINES_A_WINDOW: u32 = 5;
const WINDOW_MS: u64 = 10_000;

/// Counts lines by kind. One for each thread that writes: kinds are few, so it stays small.
#[derive(Debug, Default)]
pub struct Throttle {
    kinds: BTreeMap<&'static str, Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    window_start: Millis,
    printed: u32,
    dropped: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// Print it; so many like it were not printed before, if any.
    Print { dropped: Option<u64> },
    /// It was counted.
    Drop,
}

impl Throttle {
    /// Asks whether a line of a kind is printed now.
    pub fn ask(&mut self, kind: &'static str, now: Millis) -> Say {
        let kind = self.kinds.entry(kind).or_default();
        if now.since(kind.window_start).0 >= WINDOW_MS {
            kind.window_start = now;
            kind.printed = 0;
        }
        if kind.printed >= LINES_A_WINDOW {
            kind.dropped += 1;
            return Say::Drop;
        }
        kind.printed += 1;
        let dropped = std::mem::take(&mut kind.dropped);
        Say::Print { dropped: (dropped > 0).then_some(dropped) }
    }
}

/// As much of a path as a line shows: a client may make one as long as its frame.
const PATH_CHARS: usize = 200;

/// In ZooKeeper's words, for whoever searches logs for them.
pub(super) fn over_quota_text(over: &OverQuota) -> String {
    let (current, limit) = match over.resource {
        Resource::Count => ("count", "CountLimit"),
        Resource::Bytes => ("bytes", "ByteLimit"),
    };
    let (kind, then) = match (over.is_hard, over.is_refused) {
        (_, true) => ("hard", ": refused"),
        (true, false) => ("hard", ": not refused"),
        (false, false) => ("soft", ""),
    };
    let OverQuota { path, usage, limit: most, .. } = over;
    format!("Quota exceeded: {path:.PATH_CHARS$} [current {current}={usage}, {kind}{limit}={most}]{then}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_quota_is_told_in_zookeepers_words_j06() {
        let soft = OverQuota {
            path: "/sc".into(),
            resource: Resource::Count,
            usage: 3,
            limit: 2,
            is_hard: false,
            is_refused: false,
        };
        let hard = OverQuota { resource: Resource::Bytes, is_hard: true, is_refused: true, ..soft.clone() };
        let long = OverQuota { path: format!("/{}", "x".repeat(1_000)).into(), ..soft.clone() };
        // The first two were seen on 3.9.5, but for the word behind them.
        assert_eq!(over_quota_text(&soft), "Quota exceeded: /sc [current count=3, softCountLimit=2]");
        assert_eq!(over_quota_text(&hard), "Quota exceeded: /sc [current bytes=3, hardByteLimit=2]: refused");
        assert!(over_quota_text(&long).len() < 300);
    }

    #[test]
    fn a_flood_becomes_a_count() {
        let mut throttle = Throttle::default();
        let said = (0..1_000).filter(|n| throttle.ask("x", Millis(1_000 + n)) != Say::Drop).count();
        assert_eq!(said, 5);
        assert_eq!(throttle.ask("y", Millis(1_500)), Say::Print { dropped: None });
        assert_eq!(throttle.ask("x", Millis(20_000)), Say::Print { dropped: Some(995) });
    }
}
