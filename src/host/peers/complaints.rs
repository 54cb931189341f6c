//! What went wrong with whom, for the operator: each thing once and not at each dial, and no flood, though strangers
//! choose the words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines about one server or stranger in a window, and about all of them.
const LINES_EACH: u32 = 5;
const LINES_ALL: u32 = 50;
const WINDOW: Duration = Duration::from_secs(60);
/// Strangers must not fill our memory.
const KNOWN_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Complaints {
    by: BTreeMap<String, One>,
    all: Window,
    /// Lines that were counted and not printed.
    dropped: u64,
}

#[derive(Default)]
struct One {
    last: String,
    window: Window,
}

#[derive(Default)]
struct Window {
    since: Option<Instant>,
    printed: u32,
}

impl Window {
    fn has_room(&mut self, now: Instant, lines: u32) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            *self = Window { since: Some(now), printed: 0 };
        }
        self.printed < lines
    }
}

impl Complaints {
    /// Whether this is to be printed, and how many lines were not printed before it.
    pub(super) fn ask(&mut self, who: &str, why: &str, now: Instant) -> Option<u64> {
        if self.by.len() >= KNOWN_MAX && !self.by.contains_key(who) {
            self.by.clear();
        }
        let one = self.by.entry(who.to_owned()).or_default();
        if one.last == why {
            return None;
        }
        if !(one.window.has_room(now, LINES_EACH) && self.all.has_room(now, LINES_ALL)) {
            self.dropped += 1;
            return None;
        }
        one.last = why.to_owned();
        one.window.printed += 1;
        self.all.printed += 1;
        Some(std::mem::take(&mut self.dropped))
    }

    /// All is well: the same trouble is told again when it comes again.
    pub(super) fn forget(&mut self, who: &str) {
        if let Some(one) = self.by.get_mut(who) {
            one.last.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_and_again_after_it_was_over() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.ask("server 2", "refused", now), Some(0));
        assert_eq!(complaints.ask("server 2", "refused", now + WINDOW * 3), None);
        assert_eq!(complaints.ask("server 3", "refused", now), Some(0));
        complaints.forget("server 2");
        assert_eq!(complaints.ask("server 2", "refused", now), Some(0));
    }

    #[test]
    fn strangers_that_say_something_new_each_time_are_counted() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let told = (0..1_000).filter(|n| complaints.ask("10.0.0.9", &n.to_string(), now).is_some()).count();
        assert_eq!(told, 5);
        let told = (0..5_000).filter(|n| complaints.ask(&n.to_string(), "?", now).is_some()).count();
        assert_eq!(told, 45, "all strangers together have their limit, too");
        assert!(complaints.by.len() <= KNOWN_MAX);
        assert_eq!(complaints.ask("server 2", "gone", now + WINDOW), Some(4_955));
    }
}
