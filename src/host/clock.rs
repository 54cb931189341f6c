//! The two clocks, read here and nowhere below.

use crate::ids::{Millis, WallMillis};
use crate::sequencer::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The host's monotonic clock, counted from before the server started: never 0.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// What the monotonic clock shows at the start.
const START_MS: u64 = 1_000;

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The monotonic moment.
    #[must_use]
    pub fn mono(&self) -> Millis {
        Millis(START_MS + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Both moments.
    #[must_use]
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: self.mono(),
            wall: WallMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}
