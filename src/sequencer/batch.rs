//! Gathering what shards send into batches: one batch, one Raft entry, one log record.

use super::fresh::Moment;
use super::{Options, Sequencer};
use crate::apply::{BatchWriter, State, Txn, TxnBody};
use crate::handoff::{Proposal, Upward, Wish};
use crate::ids::{ConnId, SessionId, ShardId, WallMillis, Xid};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::ops::Range;

/// Who waits for a moment that no later commit precedes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// A client's sync.
    Sync { shard: ShardId, conn: ConnId, xid: Xid },
    /// The server itself: from then on it is not older than what was acknowledged before it came.
    Serving { asked: Moment },
}

/// A batch is closed before it would hold more than this, unless a single transaction does: the host sees to it that
/// the log takes records of this size and of the largest frame with its connection's identities.
pub const BATCH_BYTES: usize = 1 << 20;
/// Beyond this many closed batches no more proposals are taken.
const BATCHES_WAITING_MAX: usize = 4;

/// Transactions on their way into batches.
struct Pile {
    open: BatchWriter,
    closed: VecDeque<BatchWriter>,
}

impl Pile {
    fn new(capacity: usize) -> Pile {
        Pile { open: BatchWriter::new(capacity), closed: VecDeque::new() }
    }

    fn push(&mut self, txn: &Txn<'_>) {
        if !self.open.is_empty() && self.open.len() + txn.bytes_in_batch() > BATCH_BYTES {
            let full = std::mem::replace(&mut self.open, BatchWriter::new(4096));
            self.closed.push_back(full);
        }
        self.open.push(txn);
    }

    fn next(&mut self) -> Option<BatchWriter> {
        self.closed.pop_front().or_else(|| {
            // The next one will be about as large.
            let capacity = self.open.len().max(4096);
            (!self.open.is_empty()).then(|| std::mem::replace(&mut self.open, BatchWriter::new(capacity)))
        })
    }

    fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_empty()
    }

    fn is_full(&self) -> bool {
        self.closed.len() >= BATCHES_WAITING_MAX
    }
}

/// A minute's worth of ids, and how far a leap leads: more sessions than anybody closes behind the newest one that lives.
const SESSIONS_LEAP_BITS: u32 = 32;

/// What waits to be proposed.
pub(super) struct Gather {
    /// Of this server's clients.
    clients: Pile,
    /// Expiries and reaped znodes: a leader's wishes. They are void when its reign ends, so they go in batches of their own.
    wishes: Pile,
    syncs: Vec<Waiter>,
    next_session: i64,
    seed: [u8; 32],
    passwords: u64,
}

impl Gather {
    pub(super) fn new(options: &Options, wall: WallMillis) -> Gather {
        // ZooKeeper's form: server, 40 bits of time, 16 bits of count. The count begins anywhere: a clock that went back to
        // the very millisecond of an earlier start does not give a closed session's id again.
        let count = i64::from(u16::from_le_bytes([options.seed[8], options.seed[9]]) & 0x7fff);
        let first = (i64::from(options.server.0) << 56) | ((((wall.0 as u64) << 24) >> 8) as i64) | count;
        Gather {
            clients: Pile::new(4096),
            wishes: Pile::new(0),
            syncs: Vec::new(),
            next_session: first,
            seed: options.seed,
            passwords: 0,
        }
    }

    /// The history up to here is known: no id that it knows is given again, though the clock went back. Ids behind the
    /// newest that lives may have been given and closed: a leap leads past them. It ends anywhere, for the run before this
    /// one may have leapt from the same id, and closed what it gave.
    pub(super) fn skip_sessions_of(&mut self, state: &State) {
        let server = self.next_session >> 56;
        let known = state.sessions.iter().map(|(id, _)| id.0).filter(|id| *id >> 56 == server).max();
        if let Some(known) = known.filter(|known| *known >= self.next_session) {
            let anywhere = u32::from_le_bytes([self.seed[10], self.seed[11], self.seed[12], self.seed[13]]);
            let beyond = (known >> SESSIONS_LEAP_BITS) + 1;
            // The upper half is left to count in: the next leap is a leap too.
            self.next_session = beyond << SESSIONS_LEAP_BITS | i64::from(anywhere >> 1);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.clients.is_full() || self.wishes.is_full()
    }

    /// Whether a batch of this server's clients takes no more.
    pub(super) fn has_full_batch(&self) -> bool {
        !self.clients.closed.is_empty()
    }

    /// Whether there is nothing to propose.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.wishes.is_empty()
    }

    pub(super) fn push(&mut self, txn: &Txn<'_>) {
        self.clients.push(txn);
    }

    /// Keeps of what gathered for clients what is wanted.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Txn<'_>) -> bool) {
        let Pile { open, closed } = std::mem::replace(&mut self.clients, Pile::new(0));
        self.clients = Pile {
            closed: closed.into_iter().map(|batch| batch.retain(&mut keep)).collect(),
            open: open.retain(&mut keep),
        };
        self.clients.closed.retain(|batch| !batch.is_empty());
    }

    pub(super) fn next_batch(&mut self) -> Option<BatchWriter> {
        self.clients.next()
    }

    /// The leader's own wishes, if there are any.
    pub(super) fn next_wishes(&mut self) -> Option<BatchWriter> {
        if self.wishes.is_empty() {
            None
        } else {
            self.wishes.next()
        }
    }

    /// A reign is over.
    pub(super) fn drop_wishes(&mut self) {
        self.wishes = Pile::new(0);
    }

    pub(super) fn take_syncs(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.syncs)
    }

    /// What the next session will be named, or a later one.
    pub(super) fn next_id(&self) -> SessionId {
        SessionId(self.next_session)
    }

    pub(super) fn new_session(&mut self) -> (SessionId, [u8; 16]) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.passwords += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.passwords.to_le_bytes());
        hash.update(id.0.to_le_bytes());
        let mut password = [0; 16];
        password.copy_from_slice(&hash.finalize()[..16]);
        (id, password)
    }
}

fn slice<'a>(arena: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &arena[range.start as usize..range.end as usize]
}

impl Sequencer {
    pub(super) fn on_up(&mut self, up: Upward) {
        let Upward { shard, arena, proposals, heard } = up;
        if let Some(heard) = heard {
            self.on_heard(shard, heard);
        }
        for proposal in &proposals {
            self.take_proposal(shard, &arena, proposal);
        }
    }

    fn take_proposal(&mut self, shard: ShardId, arena: &[u8], proposal: &Proposal) {
        let Proposal { session, conn, xid, wish } = proposal;
        let from = (shard, *conn);
        let (session, body) = match wish {
            Wish::Sync => {
                self.gather.syncs.push(Waiter::Sync { shard, conn: *conn, xid: *xid });
                return;
            }
            Wish::Write { op, identities, request } => {
                let (identities, request) = (slice(arena, identities), slice(arena, request));
                let body = match self.locals.len() {
                    0 => Some(TxnBody::Request { op: *op, identities, request }),
                    _ => self.body_for_local(*session, from, *op, identities, request),
                };
                let Some(body) = body else { return };
                self.returns.wrote(*session);
                (*session, body)
            }
            Wish::CloseLocal => return self.close_local(*session, shard, *conn),
            Wish::CreateSession { timeout_ms } if self.grants_local() => {
                return self.open_local(shard, *conn, *timeout_ms);
            }
            Wish::Attach { timeout_ms, password }
                if self.attach_local(*session, from, *timeout_ms, slice(arena, password)) =>
            {
                return;
            }
            Wish::CreateSession { timeout_ms } => {
                let (id, password) = self.gather.new_session();
                (id, TxnBody::CreateSession { timeout_ms: *timeout_ms, password })
            }
            Wish::Attach { timeout_ms, password } => {
                (*session, TxnBody::Attach { timeout_ms: *timeout_ms, password: slice(arena, password) })
            }
        };
        self.gather.push(&Txn { session, shard, conn: *conn, xid: *xid, body });
    }

    /// A transaction of the server's own: an expiry, a reaped znode.
    pub(super) fn push_own(&mut self, session: SessionId, body: TxnBody<'_>) {
        self.gather.wishes.push(&Txn { session, shard: ShardId(0), conn: ConnId(0), xid: Xid(0), body });
    }
}
