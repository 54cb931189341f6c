//! Lines for the operator, never a flood: each kind of line a few times a second, then counted.

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
    /// Print it; so many like it were not printed before.
    Print { dropped: u64 },
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
        Say::Print { dropped: std::mem::take(&mut kind.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_count() {
        let mut throttle = Throttle::default();
        let said = (0..1_000).filter(|n| throttle.ask("x", Millis(1_000 + n)) != Say::Drop).count();
        assert_eq!(said, 5);
        assert_eq!(throttle.ask("y", Millis(1_500)), Say::Print { dropped: 0 });
        assert_eq!(throttle.ask("x", Millis(20_000)), Say::Print { dropped: 995 });
    }
}
