//! The two promises between cores: a sleeper is woken, and what a counter covers is in the ring.
//!
//! `tests/loom` compiles this very file against loom's atomics and tries every order of both sides.

#[cfg(not(ringkeeper_loom))]
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};

#[cfg(ringkeeper_loom)]
use loom::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};

/// The flag of one sleeper. It says that it sleeps, looks once more, and sleeps; a waker puts its message down first
/// and looks at the flag after. With a full fence on both sides, one of the two always sees the other.
#[derive(Debug)]
pub struct Sleep {
    asleep: AtomicBool,
}

impl Default for Sleep {
    fn default() -> Sleep {
        Sleep { asleep: AtomicBool::new(false) }
    }
}

impl Sleep {
    /// The sleeper: call it, look at every queue once more, then sleep or call `wake_up`.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is up again.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The waker, after its message is in the queue: whether the sleeper must be woken, by this caller alone.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

/// The number of the last publication that is in every ring.
#[derive(Debug)]
pub struct Published(AtomicU64);

impl Default for Published {
    fn default() -> Published {
        Published(AtomicU64::new(0))
    }
}

impl Published {
    /// The sequencer, after the publication is in every ring. Release: who sees the number finds the publication.
    pub fn raise(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    /// A shard, before it answers: everything up to this number is in its ring.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
