//! The two promises between cores: a sleeper is woken, and what a counter covers is in the ring.
//!
//! `tests/loom` compiles this very file against loom's atomics and tries every order of both sides.

#[cfg(not(ringkeeper_loom))]
use std::sync::atomic::{fence, AtomicU64, AtomicU8, Ordering};

#[cfg(ringkeeper_loom)]
use loom::sync::atomic::{fence, AtomicU64, AtomicU8, Ordering};

/// The flag of one sleeper. It says that it sleeps, looks once more, and sleeps; a waker puts its message down first
/// and looks at the flag after. With a full fence on both sides, one of the two always sees the other.
///
/// A sleeper that sleeps deeply is woken by what concerns it alone: the rest it finds when it is up again.
#[derive(Debug)]
pub struct Sleep {
    depth: AtomicU8,
}

const AWAKE: u8 = 0;
const LIGHTLY: u8 = 1;
const DEEPLY: u8 = 2;

impl Default for Sleep {
    fn default() -> Sleep {
        Sleep { depth: AtomicU8::new(AWAKE) }
    }
}

impl Sleep {
    /// The sleeper: call it, look at every queue once more, then sleep or call `wake_up`.
    pub fn fall_asleep(&self) {
        self.depth.store(LIGHTLY, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The same, for a sleeper that only `must_wake_for` of its own concerns wakes, and `must_wake`.
    pub fn fall_deeply_asleep(&self) {
        self.depth.store(DEEPLY, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is up again.
    pub fn wake_up(&self) {
        self.depth.store(AWAKE, Ordering::Relaxed);
    }

    /// The waker, after its message is in the queue: whether the sleeper must be woken, by this caller alone.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        self.must_wake_for(true)
    }

    /// The same for a message that may not concern the sleeper.
    #[must_use]
    pub fn must_wake_for(&self, its_concern: bool) -> bool {
        fence(Ordering::SeqCst);
        match self.depth.load(Ordering::Relaxed) {
            AWAKE => false,
            DEEPLY if !its_concern => false,
            _ => self.depth.swap(AWAKE, Ordering::Relaxed) != AWAKE,
        }
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
