//! What lies between the cores: rings one way up and one way down, a counter, and the questions of operators.

use super::bell::Bell;
use super::meters::Meters;
use super::sequencer_desk::{SequencerAsk, SequencerDesk};
use super::sleep::{Published, Sleep};
use super::standing::Standing;
use crate::handoff::{Heard, Publication, Upward};
use crate::ids::{ConnId, Millis, SessionId, ShardId, Zxid};
use crate::shard::{ConnectionRow, Stats};
use crate::tree::{Path, Table};
use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Slots of a ring: one a batch.
const RING_SLOTS: usize = 1024;
/// Publications that lie in front of a shard that sleeps deeply before it is woken for them.
/// Well below what holds the sequencer up.
const ASLEEP_MAX: usize = 64;
/// Questions that wait for a shard at the most; a further one is refused.
const ASKS_MAX: usize = 64;

/// All that the sequencer shares with all shards.
pub struct Links {
    pub shards: Vec<ShardLink>,
    /// Rung when a proposal is in a ring.
    pub sequencer: Bell,
    /// The number of the last publication that is in every ring. A shard takes no publication beyond it, and all up
    /// to it before it answers what it has read.
    published: CachePadded<Published>,
    /// The server is going down: nothing new is taken.
    stopping: AtomicBool,
    /// The server shall leave its ensemble.
    leaving: AtomicBool,
    /// Where operators' questions to the sequencer lie.
    pub desk: SequencerDesk,
    /// What this server is among others.
    pub standing: Standing,
    /// What all threads count.
    pub meters: Meters,
}

/// One shard's.
pub struct ShardLink {
    up: ArrayQueue<Upward>,
    down: Down,
    asks: ArrayQueue<Ask>,
    /// The last order, until the shard takes it. Neither this nor the end may find a full list of questions: whoever
    /// sends four-letter words can fill that.
    order: ArrayQueue<Order>,
    ending: AtomicBool,
    pub bell: Bell,
    /// What the sequencer sees of a shard that has much to take.
    pub lag: Lag,
    /// Sessions that the shard has heard of and the sequencer does not know yet. They do not wait in the ring behind writes that
    /// are not taken for the moment: that time is not theirs.
    heard: Mutex<Vec<(SessionId, Millis)>>,
    has_heard: AtomicBool,
    /// The shard waits here for room in its ring up: a sleep of its own, since it sleeps for other reasons, too.
    room: Sleep,
    /// Connections that this shard holds.
    pub connections: AtomicU64,
}

/// A shard that takes over what was published in pieces, because it is too much to be taken at once.
#[derive(Default)]
pub struct Lag {
    now: AtomicBool,
    pieces: AtomicU64,
}

/// The ring down. The sequencer never waits for a shard: what does not fit goes to a list behind the ring.
struct Down {
    ring: ArrayQueue<Arc<Publication>>,
    /// Invariant: while it is set, everything in the ring is older than everything in the list, and the sequencer
    /// puts nothing into the ring.
    overflowing: AtomicBool,
    overflow: Mutex<VecDeque<Arc<Publication>>>,
}

/// What somebody asks of a shard, between two turns of its own.
pub enum Ask {
    /// The answer to a four-letter word; `None` closes without a byte.
    AnswerWord {
        conn: ConnId,
        text: Option<Vec<u8>>,
    },
    /// Counters.
    Stats {
        reply: Sender<ShardView>,
        /// Whether `watch_summary` counts connections: that walks all sessions, in slices.
        count_watchers: bool,
    },
    /// Rows of connections, in slices.
    Rows {
        reply: Sender<Vec<ConnectionRow>>,
    },
    /// Watched paths and the sessions that watch them (data table), in slices; a path may come more than once.
    WatchPaths {
        reply: Sender<Vec<WatchRow>>,
    },
    /// Forget the counters of connections, or of the server.
    ResetConnections,
    ResetStats,
}

/// A watched path, and sessions that watch it.
pub type WatchRow = (Path, Vec<SessionId>);

/// A shard's counters and gauges at a moment.
#[derive(Clone, Debug, Default)]
pub struct ShardView {
    pub stats: Stats,
    pub outstanding: usize,
    pub last_zxid: Zxid,
    pub nodes: usize,
    pub data_bytes: u64,
    pub ephemerals: usize,
    pub watches: usize,
    /// Connections (0 unless they were asked for), paths and registrations of the data table.
    pub watch_summary: (usize, usize, usize),
    pub sessions: usize,
    pub is_serving: bool,
}

/// What the sequencer tells a shard.
#[derive(Clone)]
pub enum Order {
    /// Begin to serve with this tree.
    Serve(Arc<Tree>),
    /// Turn everybody away until the next order. Publications up to this one are nobody's.
    StopServing { upto: u64 },
}

/// A whole tree, for a shard's table.
pub struct Tree {
    pub table: Table,
    pub last_zxid: Zxid,
    pub sessions: usize,
    /// The last publication that the tree holds: the next one is the first that the shard takes.
    pub publication: u64,
    /// Nobody leads: those that ask for read-only mode are served.
    pub read_only: bool,
}

impl Links {
    /// Links to this many shards.
    pub fn new(shards: usize) -> io::Result<Links> {
        let link = |_| -> io::Result<ShardLink> {
            Ok(ShardLink {
                up: ArrayQueue::new(RING_SLOTS),
                down: Down {
                    ring: ArrayQueue::new(RING_SLOTS),
                    overflowing: AtomicBool::new(false),
                    overflow: Mutex::new(VecDeque::new()),
                },
                asks: ArrayQueue::new(ASKS_MAX),
                order: ArrayQueue::new(1),
                ending: AtomicBool::new(false),
                bell: Bell::new()?,
                lag: Lag::default(),
                heard: Mutex::default(),
                has_heard: AtomicBool::new(false),
                room: Sleep::default(),
                connections: AtomicU64::new(0),
            })
        };
        Ok(Links {
            shards: (0..shards).map(link).collect::<io::Result<Vec<_>>>()?,
            sequencer: Bell::new()?,
            published: CachePadded::new(Published::default()),
            stopping: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            desk: SequencerDesk::default(),
            standing: Standing::default(),
            meters: Meters::default(),
        })
    }

    /// The sequencer: gives every shard a publication, then raises the counter, then wakes who sleeps.
    pub fn publish(&self, publication: &Arc<Publication>) {
        for shard in &self.shards {
            shard.down.push(publication.clone());
        }
        self.published.raise(publication.number);
        for (at, shard) in self.shards.iter().enumerate() {
            // A shard that watches nothing sleeps through what others' clients wrote: it takes all of it over before it
            // answers anything, or at its next tick. Not too much of it, which would cost memory and then time.
            let id = ShardId(u16::try_from(at).unwrap_or(u16::MAX));
            let its_concern = publication.concerns.has(id) || shard.down.ring.len() >= ASLEEP_MAX;
            shard.bell.ring_for(its_concern);
        }
    }

    /// The number up to which a shard takes publications now.
    #[inline]
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load()
    }

    /// The sequencer: the next message, of each shard by turns; `next` is whose turn it is. Clients of the first shards that
    /// write more than the disk takes let those of the others wait for ever without it.
    pub fn receive(&self, next: &mut usize) -> Option<Upward> {
        for _ in 0..self.shards.len() {
            let shard = &self.shards[*next % self.shards.len()];
            *next = (*next + 1) % self.shards.len();
            if let Some(up) = shard.receive() {
                shard.tell_of_room();
                return Some(up);
            }
        }
        None
    }

    /// Asks the sequencer. Without room nothing happens: the question is dropped, and its channel with it.
    pub fn ask_sequencer(&self, ask: SequencerAsk) {
        if self.desk.put(ask) {
            self.sequencer.ring();
        }
    }

    /// Tells everybody that the server is going down.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.sequencer.ring_anyway();
        for shard in &self.shards {
            shard.bell.ring_anyway();
        }
    }

    /// The server shall leave its ensemble.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.sequencer.ring_anyway();
    }

    /// Whether it shall; said once.
    pub fn take_leave(&self) -> bool {
        self.leaving.load(Ordering::Acquire) && self.leaving.swap(false, Ordering::AcqRel)
    }

    /// Whether the server is going down.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The publications that the slowest shard has not taken.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.shards.iter().map(ShardLink::backlog).max().unwrap_or(0)
    }

    /// Whether a shard is busy with more than it takes at once.
    #[must_use]
    pub fn any_lags(&self) -> bool {
        self.shards.iter().any(|shard| shard.lag.is_on())
    }
}

impl ShardLink {
    /// The shard: sends a message up. What finds no room comes back, and the shard is rung when there is some.
    #[inline]
    pub fn send(&self, mut up: Upward) -> Result<(), Upward> {
        if let Some(heard) = up.heard.as_mut().filter(|heard| !heard.sessions.is_empty()) {
            self.lock_heard().append(&mut heard.sessions);
            self.has_heard.store(true, Ordering::Release);
        }
        let Err(up) = self.up.push(up) else { return Ok(()) };
        self.room.fall_asleep();
        self.up.push(up)?;
        self.room.wake_up();
        Ok(())
    }

    /// The sequencer: the next message. Call `tell_of_room` then.
    #[inline]
    pub fn receive(&self) -> Option<Upward> {
        let mut up = self.up.pop()?;
        // Its report says until when all is told: with what is told.
        if let Some(heard) = &mut up.heard {
            heard.sessions = self.take_heard();
        }
        Some(up)
    }

    /// The sequencer: a report on the sessions that the shard has heard of, though its other messages wait.
    pub fn receive_heard(&self, shard: ShardId) -> Option<Upward> {
        let sessions = self.take_heard();
        // Until when all is told the messages say that wait.
        let heard = Heard { sessions, through: Millis(0), stall: None };
        (!heard.sessions.is_empty()).then(|| Upward {
            shard,
            arena: Vec::new(),
            proposals: Vec::new(),
            heard: Some(heard),
        })
    }

    fn take_heard(&self) -> Vec<(SessionId, Millis)> {
        if !self.has_heard.load(Ordering::Acquire) {
            return Vec::new();
        }
        // Before the list: what comes behind it is told of anew.
        self.has_heard.store(false, Ordering::Release);
        std::mem::take(&mut *self.lock_heard())
    }

    fn lock_heard(&self) -> MutexGuard<'_, Vec<(SessionId, Millis)>> {
        // A panic ends the process: no list is ever left half changed.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message waits for the sequencer.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.up.is_empty()
    }

    /// The shard: whether a message finds room now.
    pub fn has_room(&self) -> bool {
        !self.up.is_full()
    }

    /// The sequencer: messages were taken; a shard that waits for room goes on.
    pub fn tell_of_room(&self) {
        if self.room.must_wake() {
            self.bell.ring();
        }
    }

    /// The next publication, in order.
    #[inline]
    pub fn next_publication(&self) -> Option<Arc<Publication>> {
        self.down.pop()
    }

    /// The publications that the shard has not taken.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.down.len()
    }

    /// Whether anything lies here for the shard.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.down.is_empty() || !self.asks.is_empty() || !self.order.is_empty() || self.is_ending()
    }

    /// The sequencer: the shard serves from now on, or does not. An order that was not yet taken is void: a shard that
    /// is told to serve while it does has been told to stop between.
    pub fn order(&self, order: Order) {
        self.order.force_push(order);
        self.bell.ring();
    }

    /// The order that has come.
    pub fn next_order(&self) -> Option<Order> {
        self.order.pop()
    }

    /// Tells the shard to write what is queued and to end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.bell.ring_anyway();
    }

    /// Whether the shard is to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Asks something; a shard that has too many questions gets no more.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        self.asks.push(ask)?;
        self.bell.ring();
        Ok(())
    }

    /// Whether a question waits.
    #[must_use]
    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// The next question.
    pub fn next_ask(&self) -> Option<Ask> {
        self.asks.pop()
    }
}

impl Lag {
    /// The shard: it goes on in pieces.
    pub fn begin(&self) {
        self.now.store(true, Ordering::Relaxed);
    }

    /// The shard: it has caught up.
    pub fn end(&self) {
        self.now.store(false, Ordering::Relaxed);
    }

    /// The shard: another piece is taken.
    pub fn beat(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// The sequencer: whether the shard is at it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// The sequencer: how many pieces were ever taken.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }
}

impl Down {
    fn push(&self, publication: Arc<Publication>) {
        let mut publication = publication;
        if !self.overflowing.load(Ordering::Acquire) {
            match self.ring.push(publication) {
                Ok(()) => return,
                Err(refused) => publication = refused,
            }
        }
        let mut overflow = self.lock();
        overflow.push_back(publication);
        self.overflowing.store(true, Ordering::Release);
    }

    fn pop(&self) -> Option<Arc<Publication>> {
        if let Some(publication) = self.ring.pop() {
            return Some(publication);
        }
        if !self.overflowing.load(Ordering::Acquire) {
            return None;
        }
        let mut overflow = self.lock();
        // The ring may have filled between the first look and the flag: it is older, it goes first.
        if let Some(publication) = self.ring.pop() {
            return Some(publication);
        }
        let publication = overflow.pop_front();
        if overflow.is_empty() {
            self.overflowing.store(false, Ordering::Release);
        }
        publication
    }

    fn len(&self) -> usize {
        self.ring.len() + if self.overflowing.load(Ordering::Acquire) { self.lock().len() } else { 0 }
    }

    fn is_empty(&self) -> bool {
        self.ring.is_empty() && !self.overflowing.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Publication>>> {
        // A panic ends the process: no list is ever left half changed.
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::Concerns;

    fn publication(number: u64) -> Arc<Publication> {
        Arc::new(Publication {
            number,
            committed: Vec::new(),
            sessions: 0,
            last_zxid: Zxid::ZERO,
            concerns: Concerns::ALL,
            bytes: 0,
        })
    }

    /// Sessions of the later shards were expired though they pinged and were answered (a review).
    #[test]
    fn each_shard_has_its_turn_however_much_the_first_ones_say() {
        let links = Links::new(3).unwrap();
        let say = |shard: u16| {
            let up = Upward { shard: ShardId(shard), arena: Vec::new(), proposals: Vec::new(), heard: None };
            assert!(links.shards[usize::from(shard)].send(up).is_ok());
        };
        [0, 0, 0, 0, 2, 2, 1].into_iter().for_each(say);
        let mut next = 0;
        let mut taken: Vec<u16> = Vec::new();
        for _ in 0..4 {
            // The sequencer takes one at a time, and more comes to the first meanwhile.
            taken.extend(links.receive(&mut next).map(|up| up.shard.0));
            say(0);
        }
        assert_eq!(taken, [0, 1, 2, 0]);
        taken.extend(std::iter::from_fn(|| links.receive(&mut next)).map(|up| up.shard.0));
        assert_eq!(taken[4..], [2, 0, 0, 0, 0, 0, 0]);
        assert!(links.receive(&mut next).is_none());
    }

    /// Writes that are not taken for the moment let the reports behind them wait: live sessions were expired (a review).
    #[test]
    fn who_was_heard_is_known_though_the_messages_wait_and_until_when_only_in_their_order() {
        let links = Links::new(1).unwrap();
        let shard = &links.shards[0];
        let up = |session: i64, through: u64| {
            let sessions = vec![(SessionId(session), Millis(through - 1))];
            let heard = Some(Heard { sessions, through: Millis(through), stall: None });
            Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard }
        };
        let told = |up: Upward| {
            let heard = up.heard.expect("a report");
            (heard.sessions.iter().map(|(session, _)| session.0).collect::<Vec<_>>(), heard.through.0)
        };
        assert!(shard.receive_heard(ShardId(0)).is_none());
        assert!(shard.send(up(7, 10)).is_ok() && shard.send(up(8, 20)).is_ok());
        assert_eq!(told(shard.receive_heard(ShardId(0)).unwrap()), (vec![7, 8], 0));
        assert!(shard.receive_heard(ShardId(0)).is_none());
        assert!(shard.send(up(9, 30)).is_ok());
        // What says until when all is told never comes before what is told.
        assert_eq!(told(shard.receive().unwrap()), (vec![9], 10));
        assert_eq!(told(shard.receive().unwrap()), (vec![], 20));
        assert_eq!(told(shard.receive().unwrap()), (vec![], 30));
        // The ring is full: what was heard is told all the same.
        while shard.send(up(1, 40)).is_ok() {}
        shard.receive_heard(ShardId(0));
        assert!(shard.send(up(5, 50)).is_err());
        assert_eq!(told(shard.receive_heard(ShardId(0)).unwrap()), (vec![5], 0));
    }

    #[test]
    fn a_shard_that_takes_nothing_stops_nobody_and_misses_nothing() {
        let links = Links::new(2).unwrap();
        for number in 1..=3_000 {
            links.publish(&publication(number));
            if let Some(taken) = links.shards[1].next_publication() {
                assert_eq!(taken.number, number);
            }
        }
        assert_eq!(links.backlog(), 3_000);
        for number in 1..=3_000 {
            assert_eq!(links.shards[0].next_publication().map(|p| p.number), Some(number));
        }
        assert!(links.shards[0].next_publication().is_none());
        links.publish(&publication(3_001));
        assert_eq!(links.shards[0].next_publication().map(|p| p.number), Some(3_001));
    }
}
