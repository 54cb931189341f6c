//! Bugs to be planted, so that the simulator shows that it would find them. Without the feature `mutants`, which no release
//! has, every question here is a constant `false`.

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mutant {
    /// A follower says what its disk does not have yet.
    WordBeforeDisk = 1,
    /// A vote is not written down.
    VoteNotPersisted = 2,
    /// A batch that comes again is applied again.
    BatchTwice = 3,
    /// A sync is answered from what this server happens to have.
    SyncWithoutQuorum = 4,
    /// A new leader goes on with whatever deadlines it likes: no full timeout.
    NoFullTimeout = 5,
    /// A session's end leaves its ephemerals.
    EphemeralsStay = 6,
    /// The suffix of a sequential znode counts its brothers.
    SuffixOfChildren = 7,
    /// What was told to an earlier leader is not told to the next.
    NotToldAgain = 8,
    /// A new leader counts zxids from what it has applied at its start.
    ZxidsFromStart = 9,
    /// A follower forwards the newest batch first.
    NewestFirst = 10,
    /// A lost connection to the leader is noticed at the next turn only.
    LossNoticedLate = 11,
    /// A write does not wait for the sync in front of it.
    WriteOvertakesSync = 12,
    /// A session's request is taken from whoever brings it, its old connection too.
    OwnerNotChecked = 13,
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants one, for the whole process; 0 plants none.
#[cfg(feature = "mutants")]
pub fn plant(number: u8) {
    PLANTED.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this one is planted.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Whether this one is planted: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub fn is(_: Mutant) -> bool {
    false
}
