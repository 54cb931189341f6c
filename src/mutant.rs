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
    /// Watch events of a transaction follow its answer.
    EventAfterReply = 14,
    /// setWatches forgets a data watch whose znode has not changed.
    WatchNotSetAgain = 15,
    /// setWatches arms a data watch whose znode has changed meanwhile, and tells nothing.
    CatchUpMissed = 16,
    /// A one-shot watch stays when it has fired.
    OneShotStays = 17,
    /// A recursive watch hears of children alone.
    GrandchildMissed = 18,
    /// Who watches a znode's data and its children hears twice of its end.
    DeletedToldTwice = 19,
    /// A persistent watch goes with the one-shot watch beside it.
    StickyGoesToo = 20,
    /// Events are told to whom may not read the znode.
    EventWithoutRead = 21,
    /// An answer overtakes an event that waits in a crowd's queue.
    CrowdOvertaken = 22,
    /// A session's old connection stays when the session has moved.
    MovedConnectionStays = 23,
    /// A read does not wait for the writes of its session in front of it.
    ReadOvertakesWrite = 24,
    /// A shard's own table takes over a whole batch before anything of it is answered.
    BatchShownWhole = 25,
    /// A batch is applied with the server's own options.
    OwnOptions = 26,
    /// The first of the unanswered batches is not told to another leader, and those behind it are taken without it.
    GapPassedOver = 27,
    /// A leader answers a sync as long as it believes that it leads.
    LeaseRead = 28,
    /// A leader does not listen to what followers have heard of their clients.
    ReportsIgnored = 29,
    /// A new leader does not watch over the sessions that it finds.
    HeirsNotTracked = 30,
    /// A session ends for its former owner's silence.
    ExpiredThoughAttached = 31,
    /// A connection's end leaves its watches.
    WatchesOutliveConnection = 32,
    /// A multi that fails leaves what it did before.
    MultiHalfDone = 33,
    /// A new leader begins when earlier reigns' entries are committed, with none of its own.
    EarlierTermCounts = 34,
    /// A follower judges sessions by what it hears itself, and wishes them away once it leads.
    ExpiredByFollower = 35,
    /// A wiped directory takes itself for the one that its server had at first, and votes as it.
    OldSeatTaken = 36,
    /// A fetched snapshot leaves the members as they were.
    MembersOutliveSnapshot = 37,
    /// Who is away is not asked whether it knows the rules that are raised.
    RulesRaisedEarly = 38,
    /// A read of the strict listener is answered from what its server happens to have.
    StrictUnasked = 39,
    /// A strict read takes the barrier of an earlier moment for its own.
    BarrierKept = 40,
    /// A strict read overtakes an event that waits in a crowd's queue.
    BarrierUnsettled = 41,
    /// A record that a later one calls durable is cut like a torn one.
    DamageCut = 42,
    /// A record's checksum is not looked at.
    ChecksumIgnored = 43,
    /// A local session whose way into the state came to nothing is gone.
    UpgradeForgotten = 44,
    /// A local session is taken up at once, although it may enter the state yet.
    EntryNotAwaited = 45,
    /// What a server hears of its local sessions does not count.
    LocalsUnheard = 46,
    /// A session has entered the state after all, and another connection speaks for it on.
    EnteredSpeaksOn = 47,
    /// A snapshot knows no sessions.
    SnapshotWithoutSessions = 48,
    /// A snapshot bears the index of the entry before its last one.
    SnapshotIndexOff = 49,
    /// In a snapshot ephemeral znodes belong to nobody.
    OwnerLostInSnapshot = 50,
    /// Who may not vote stands for election when the leader is gone.
    ElectedWithoutVoice = 51,
    /// A new leader begins when all servers are there.
    ReignNeedsAll = 52,
    /// A follower that applies nothing any more serves what it has.
    StaleServes = 53,
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
