//! What both drivers do around a shard between its sockets: publications down, proposals up, questions, notes.

use super::asks::{Asks, Step};
use super::clock::Clock;
use super::limits::ConnectionLimits;
use super::link::{Links, Order, ShardLink, Tree};
use super::notes::{Say, Throttle};
use crate::handoff::{Publication, Upward};
use crate::ids::{ConnId, Millis, ShardId};
use crate::shard::{Note, Place, Shard, Why, Word};
use crossbeam::channel::Sender;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use tracing::{info, warn};

/// A word that a client sent, for the admin thread.
#[derive(Clone, Copy, Debug)]
pub struct WordRequest {
    pub shard: ShardId,
    pub word: Word,
}

/// How many bytes of proposals are gathered before they go up even in the middle of a turn.
const UPWARD_BYTES_MAX: usize = 1 << 20;
/// Transactions and events that are taken over before what they brought is written. With 3,000 recursive watchers and
/// pipelined writers the shard that wrote after all of them had 986 MB in its buffers.
const WORK_AT_ONCE: usize = 262_144;
/// A former tree of more znodes is dropped aside.
const DROPPED_HERE_MAX: usize = 10_000;
/// How often a shard's `tick` runs while anything is going on, and while nothing is.
pub(super) const TICK_BUSY_MS: u64 = 10;
pub(super) const TICK_IDLE_MS: u64 = 250;

pub(super) struct Core {
    pub id: ShardId,
    pub shard: Shard,
    pub links: Arc<Links>,
    pub clock: Clock,
    pub limits: Arc<ConnectionLimits>,
    words: Sender<WordRequest>,
    asks: Asks,
    /// The last publication that this shard has taken over.
    taken: u64,
    /// Popped from the ring and not taken: beyond the counter when it was last loaded, or too long to be taken at once.
    early: Option<Arc<Publication>>,
    /// How far the next publication is taken already.
    taken_of_next: Place,
    /// Did not fit into the ring.
    unsent: Option<Upward>,
    ticked_at: Millis,
    pub throttle: Throttle,
    /// Connections that were paused and may be read again: for the driver.
    pub readable: Vec<ConnId>,
    pub is_stopping: bool,
}

impl Core {
    pub(super) fn new(
        id: ShardId,
        shard: Shard,
        links: Arc<Links>,
        clock: Clock,
        limits: Arc<ConnectionLimits>,
        words: Sender<WordRequest>,
    ) -> Core {
        Core {
            id,
            shard,
            links,
            clock,
            limits,
            words,
            asks: Asks::default(),
            taken: 0,
            early: None,
            taken_of_next: Place::default(),
            unsent: None,
            ticked_at: Millis(0),
            throttle: Throttle::default(),
            readable: Vec::new(),
            is_stopping: false,
        }
    }

    pub(super) fn link(&self) -> &ShardLink {
        &self.links.shards[usize::from(self.id.0)]
    }

    /// The publication up to which the counter covers, where that is beyond what is taken. Ask it after bytes were read and
    /// before they are answered, and take all of it: what anybody on this server was told before those bytes were sent is in
    /// the table then.
    #[inline]
    pub(super) fn behind(&self) -> Option<u64> {
        let upto = self.links.published();
        (upto > self.taken).then_some(upto)
    }

    /// Takes over publications up to `upto`, as much as is good to be written at once. Whether that was all.
    pub(super) fn take_some(&mut self, now: Millis, upto: u64) -> bool {
        // An order comes before the publications behind it, and `upto` was loaded before this look: nothing beyond a new
        // tree is taken into the old one.
        if let Some(order) = self.link().next_order() {
            self.follow(order);
        }
        // The tree that a shard begins with holds the publications before it.
        if !self.shard.is_serving() {
            return true;
        }
        let mut budget = WORK_AT_ONCE;
        while self.taken < upto {
            let next =
                self.early.take().or_else(|| self.links.shards[usize::from(self.id.0)].next_publication());
            let Some(publication) = next else { return true };
            if publication.number > upto {
                self.early = Some(publication);
                return true;
            }
            if publication.number > self.taken {
                assert_eq!(publication.number, self.taken + 1, "no publication is missed");
                let from = std::mem::take(&mut self.taken_of_next);
                if let Some(rest) = self.shard.install_some(now, &publication, from, &mut budget) {
                    self.taken_of_next = rest;
                    self.early = Some(publication);
                    self.link().lag.beat();
                    return false;
                }
                self.taken = publication.number;
            }
        }
        true
    }

    /// What is to be done between two looks at the sockets, once the shard has caught up. Returns whether there is more at
    /// once.
    pub(super) fn turn(&mut self, now: Millis) -> bool {
        let mut more = self.answer_asks(now);
        more |= self.shard.answer_long(now);
        while let Some(conn) = self.shard.next_resumed() {
            self.shard.resume(now, conn);
            self.readable.push(conn);
        }
        // Those who were told last hear of it first.
        more |= self.shard.has_events() || self.shard.tell_slice();
        let busy = self.shard.outstanding() > 0 || self.shard.has_crowds();
        let tick_ms = if busy { TICK_BUSY_MS } else { TICK_IDLE_MS };
        if now.since(self.ticked_at).0 >= tick_ms {
            self.ticked_at = now;
            self.shard.tick(now);
        }
        self.send_up();
        self.pass_words();
        self.say_notes(now);
        more
    }

    fn answer_asks(&mut self, now: Millis) -> bool {
        let step = {
            let link = &self.links.shards[usize::from(self.id.0)];
            self.asks.step(now, &mut self.shard, link)
        };
        match step {
            Step::Done => false,
            Step::More => true,
            Step::Order(order) => {
                self.follow(order);
                true
            }
            Step::Stop => {
                self.is_stopping = true;
                false
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Serve(tree) => self.serve(tree),
            Order::StopServing { upto } => {
                self.shard.stop_serving();
                self.forget_publications(upto);
            }
        }
    }

    fn serve(&mut self, tree: Arc<Tree>) {
        if self.shard.is_serving() {
            // The order to stop was overtaken by this one.
            self.shard.stop_serving();
        }
        self.forget_publications(tree.publication);
        let Tree { last_zxid, sessions, publication, read_only, .. } = *tree;
        // Who has it alone takes it. A clone hashes nothing again: 66 ms a million znodes, where inserting each takes seconds.
        let table = match Arc::try_unwrap(tree) {
            Ok(tree) => tree.table,
            Err(tree) => tree.table.clone(),
        };
        let former = match read_only {
            true => self.shard.serve_read_only(table, last_zxid, sessions),
            false => self.shard.serve(table, last_zxid, sessions),
        };
        // Behind a fetched snapshot the last shard that lets go of the former tree frees every znode of it.
        if former.len() > DROPPED_HERE_MAX {
            let dropped = std::thread::Builder::new().name("drop".into()).spawn(move || {
                super::pin::step_back();
                drop(former);
            });
            if let Err(error) = dropped {
                warn!(%error, "no thread could be started: clients wait while the former tree is dropped");
            }
        }
        self.taken = publication;
    }

    /// Those up to this one are in the tree that comes, or nobody will hear of them; what was begun of one is void.
    fn forget_publications(&mut self, upto: u64) {
        self.taken_of_next = Place::default();
        // What comes behind the tree was popped already, and all that lies in the ring is newer.
        if self.early.as_ref().is_some_and(|early| early.number > upto) {
            return;
        }
        self.early = None;
        while let Some(publication) = self.link().next_publication() {
            if publication.number > upto {
                self.early = Some(publication);
                break;
            }
        }
    }

    /// Sends proposals up. A full ring stops the shard's reading until it has room.
    pub(super) fn send_up(&mut self) {
        while let Some(up) = self.unsent.take().or_else(|| self.shard.take_upward()) {
            match self.link().send(up) {
                Ok(()) => self.links.sequencer.ring(),
                Err(up) => {
                    self.unsent = Some(up);
                    self.shard.set_ring_full(true);
                    return;
                }
            }
        }
        self.shard.set_ring_full(false);
    }

    /// In the middle of a turn: proposals that have grown large go up.
    pub(super) fn send_up_if_large(&mut self) {
        if self.shard.upward_bytes() > UPWARD_BYTES_MAX {
            self.send_up();
        }
    }

    /// Says that the shard sleeps from now on: deeply, where nothing that others write is news to its clients.
    pub(super) fn fall_asleep(&self) {
        let sleep = &self.link().bell.sleep;
        if self.shard.watches_anything() {
            sleep.fall_asleep();
        } else {
            sleep.fall_deeply_asleep();
        }
    }

    /// Whether the shard may sleep: nothing lies in its rings. Call it between `fall_asleep` and the sleep.
    pub(super) fn may_sleep(&self) -> bool {
        !self.has_room_for_unsent()
            && !self.link().has_work()
            && !self.asks.has_work()
            && self.links.published() <= self.taken.max(self.taken_before_serving())
    }

    /// The sequencer may have taken a message while this shard was awake still, and rung nobody.
    fn has_room_for_unsent(&self) -> bool {
        self.unsent.is_some() && self.link().has_room()
    }

    fn taken_before_serving(&self) -> u64 {
        if self.shard.is_serving() {
            0
        } else {
            u64::MAX
        }
    }

    fn pass_words(&mut self) {
        while let Some(word) = self.shard.next_word() {
            let request = WordRequest { shard: self.id, word };
            if self.words.try_send(request).is_err() {
                // More words than the admin thread takes: closed, as a server that is not there.
                self.shard.answer_word(word.conn, None);
            }
        }
    }

    fn say_notes(&mut self, now: Millis) {
        while let Some(note) = self.shard.next_note() {
            let Note::Cut { peer, why } = note;
            let Say::Print { dropped } = self.throttle.ask(kind(why), now) else { continue };
            info!(%peer, not_shown = dropped, "connection closed: {why}");
        }
    }

    /// A connection was accepted: whether it is taken. Its socket is closed without a byte otherwise.
    pub(super) fn admit(&mut self, now: Millis, peer: SocketAddr) -> bool {
        let Err(refused) = self.limits.enter(peer.ip()) else {
            self.link().connections.fetch_add(1, Ordering::Relaxed);
            self.links.meters.connections_taken.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.links.meters.connections_refused.fetch_add(1, Ordering::Relaxed);
        let (kind, key) = match refused {
            super::limits::Refused::OfAddress => ("address limit", "maxClientCnxns"),
            super::limits::Refused::InAll => ("connection limit", "maxCnxns or the limit of open files"),
        };
        if let Say::Print { dropped } = self.throttle.ask(kind, now) {
            warn!(%peer, not_shown = dropped, "Too many connections: refused by {key}");
        }
        false
    }

    /// A connection that had been admitted is closed.
    pub(super) fn leave(&self, peer: SocketAddr) {
        self.limits.leave(peer.ip());
        self.link().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn kind(why: Why) -> &'static str {
    match why {
        Why::BadLength => "bad length",
        Why::BadHandshake => "bad handshake",
        Why::ZxidAhead => "zxid ahead",
        Why::TooManySessions => "sessions",
        Why::NoHandshake => "no handshake",
        Why::NoAnswer => "no answer in time",
        Why::SlowReader => "slow reader",
        Why::TooManyWatches => "too many watches",
        Why::UnknownOperation => "unknown operation",
        Why::AuthFailed => "auth failed",
        Why::AuthRequired => "auth required",
        Why::SessionMoved => "session moved",
        Why::NotServing => "not serving",
        Why::ServesReadOnly => "serves read-only",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::handoff::{Committed, Concerns};
    use crate::ids::Zxid;
    use crate::tree::{Answer, PathHasher};

    pub fn core() -> Core {
        let links = Arc::new(Links::new(1).unwrap());
        let limits = Arc::new(ConnectionLimits::new(0, 100));
        let words = crossbeam::channel::bounded(1).0;
        Core::new(ShardId(0), crate::host::asks::tests::shard(), links, Clock::start(), limits, words)
    }

    fn publication(number: u64, transactions: usize) -> Arc<Publication> {
        let first = Zxid((number as i64) << 32);
        let one = |n| Committed {
            zxid: Zxid(first.0 + n),
            changes: Default::default(),
            to: None,
            answer: Answer::Code(crate::error::Code::Ok),
        };
        let committed: Vec<Committed> = (1..=transactions as i64).map(one).collect();
        let last_zxid = committed.last().map_or(first, |last| last.zxid);
        Arc::new(Publication { number, committed, sessions: 0, last_zxid, concerns: Concerns::ALL, bytes: 0 })
    }

    /// A tree takes a shard's place while it serves where read-only mode begins or ends.
    #[test]
    fn a_publication_behind_a_new_tree_is_not_forgotten_though_it_was_popped_or_begun() {
        for upto in [1, 2] {
            let mut core = core();
            let table = || crate::tree::Table::new(PathHasher::new([1, 2, 3, 4]));
            let _ = core.shard.serve(table(), Zxid::ZERO, 0);
            for (number, transactions) in [(1, 1), (2, 2 * WORK_AT_ONCE), (3, 1)] {
                core.links.publish(&publication(number, transactions));
            }
            assert_eq!(core.take_some(Millis(1), upto), upto == 1);
            let tree = |publication| Tree {
                table: table(),
                last_zxid: Zxid::ZERO,
                sessions: 0,
                publication,
                read_only: true,
            };
            // At 2 the second one has been taken in part, and is not in the tree.
            core.links.shards[0].order(Order::Serve(Arc::new(tree(1))));
            while !core.take_some(Millis(1), 3) {}
            assert_eq!((core.taken, core.shard.last_zxid()), (3, Zxid((3 << 32) + 1)));
        }
    }

    #[test]
    fn what_is_too_much_to_be_taken_at_once_is_taken_in_pieces_and_each_shows_that_the_shard_lives() {
        let mut core = core();
        let _ = core.shard.serve(crate::tree::Table::new(PathHasher::new([1, 2, 3, 4])), Zxid::ZERO, 0);
        for (number, transactions) in [(1, 10), (2, 2 * WORK_AT_ONCE + 7), (3, 10), (4, 10)] {
            core.links.publish(&publication(number, transactions));
        }
        let now = Millis(2_000);
        assert!(!core.take_some(now, 3));
        assert_eq!(core.taken, 1, "the second is taken in part");
        assert!(core.shard.last_zxid() < Zxid(3 << 32));
        assert!(!core.take_some(now, 3));
        assert_eq!(core.link().lag.pieces(), 2);
        assert!(core.take_some(now, 3));
        assert_eq!((core.taken, core.shard.last_zxid()), (3, Zxid((3 << 32) + 10)));
        assert_eq!(core.behind(), Some(4));
        assert!(core.take_some(now, 4));
        assert_eq!((core.taken, core.behind()), (4, None));
    }
}
