//! A connection's requests that wait: for the sequencer, or behind one that does (TR16).

use super::connection::Connection;
use super::request::header_reply;
use super::{Shard, Why};
use crate::error::Code;
use crate::handoff::Wish;
use crate::ids::{Millis, Xid, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::warm::AHEAD;
use crate::wire::{begin_frame, end_frame, reply_header, OpCode, RequestHeader};

/// Bytes of requests that are not answered yet, of all of a shard's connections: at so many nobody is read, however
/// few requests they are. Between here and the log they lie in memory once or twice.
pub(super) const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// One of them.
#[derive(Debug)]
pub(super) enum Pending {
    /// Sent up, so many bytes; answered by a publication.
    Write { xid: Xid, op: OpCode, since: Millis, bytes: usize },
    /// A write behind a sync whose moment has not come: sent up once it has, or when the connection goes. In an ensemble it could else be done, and
    /// seen by the reads between the two, before the sync is answered. Behind a reconfig too, which is answered late.
    Held { xid: Xid, op: OpCode, since: Millis, identities: Box<[u8]>, request: Box<[u8]> },
    /// Sent up; may be answered before the writes in front of it, and then waits for them. Without a path it is a barrier of
    /// the strict listener's, which the client does not know of.
    Sync { xid: Xid, path: Option<Box<[u8]>>, since: Millis, done: bool },
    /// Handled when everything in front of it is answered; a long one then waits for a turn of its own too.
    Deferred { frame: Box<[u8]>, since: Millis, is_long: bool },
    /// Refused here; its answer bears the zxid of the moment at which its turn comes, as every answer does.
    Refused { xid: Xid, code: Code },
    /// Already a reply.
    Ready { bytes: Box<[u8]>, close: bool },
}

impl Pending {
    /// Somebody else answers it, who knows when.
    fn is_undecided(&self) -> bool {
        matches!(self, Pending::Write { .. } | Pending::Held { .. } | Pending::Sync { done: false, .. })
    }

    /// A read whose answer is a list, however long data is.
    fn is_list(&self) -> bool {
        let Pending::Deferred { frame, .. } = self else { return false };
        let op = frame.get(4..8).and_then(|op| op.first_chunk()).map(|op| i32::from_be_bytes(*op));
        matches!(
            op.and_then(OpCode::from_i32),
            Some(
                OpCode::GetAcl
                    | OpCode::GetChildren
                    | OpCode::GetChildren2
                    | OpCode::GetEphemerals
                    | OpCode::MultiRead
            )
        )
    }

    fn bytes(&self) -> usize {
        match self {
            Pending::Write { bytes, .. } => *bytes,
            Pending::Held { identities, request, .. } => identities.len() + request.len(),
            Pending::Sync { path, .. } => path.as_ref().map_or(0, |path| path.len()),
            Pending::Deferred { frame, .. } => frame.len(),
            Pending::Refused { .. } => 0,
            Pending::Ready { bytes, .. } => bytes.len(),
        }
    }
}

impl Shard {
    pub(super) fn wait(&mut self, c: &mut Connection, pending: Pending) {
        let bytes = pending.bytes();
        c.pending_bytes += bytes;
        c.deferred += usize::from(matches!(pending, Pending::Deferred { .. }));
        c.deferred_lists += usize::from(pending.is_list());
        c.pending.push_back(pending);
        if !c.is_full {
            self.outstanding_bytes += bytes;
            self.outstanding += 1;
            self.bytes_full |= self.outstanding_bytes >= OUTSTANDING_BYTES_MAX;
        }
    }

    /// Its reads wait for room, or do so no longer. What waits for its own client counts with nobody else's: thirty clients
    /// that read nothing kept a whole shard from being read (a review). It is no more than a frame or two, and goes when the
    /// client takes its answers, or is cut off because it does not.
    fn set_full(&mut self, c: &mut Connection, is_full: bool) {
        match (c.is_full, is_full) {
            (false, true) => self.release(c.pending.len(), c.pending_bytes),
            (true, false) => {
                self.outstanding += c.pending.len();
                self.outstanding_bytes += c.pending_bytes;
            }
            _ => {}
        }
        c.is_full = is_full;
    }

    /// A connection is gone.
    pub(super) fn release_all(&mut self, c: &Connection) {
        if !c.is_full {
            self.release(c.pending.len(), c.pending_bytes);
        }
    }

    pub(super) fn pop_pending(&mut self, c: &mut Connection) -> Option<Pending> {
        let pending = c.pending.pop_front()?;
        c.pending_bytes -= pending.bytes();
        c.deferred -= usize::from(matches!(pending, Pending::Deferred { .. }));
        c.deferred_lists -= usize::from(pending.is_list());
        debug_assert!(!c.is_full, "what waits for room is counted again before it goes");
        self.release(1, pending.bytes());
        Some(pending)
    }

    /// So many requests of so many bytes wait no more. At half of the limit everybody is read again.
    fn release(&mut self, count: usize, bytes: usize) {
        self.outstanding -= count;
        self.outstanding_bytes -= bytes;
        if self.bytes_full && self.outstanding_bytes < OUTSTANDING_BYTES_MAX / 2 {
            self.bytes_full = false;
            self.resumed.extend(self.slots.iter().flatten().map(|c| c.id));
        }
    }

    /// Says something in its turn: now, or behind what is not answered yet.
    pub(super) fn say(&mut self, c: &mut Connection, now: Millis, bytes: Vec<u8>, close: bool) {
        if !c.pending.is_empty() {
            return self.wait(c, Pending::Ready { bytes: bytes.into_boxed_slice(), close });
        }
        self.say_now(c, now, &bytes, close);
    }

    /// Refuses a request in its turn.
    pub(super) fn refuse(&mut self, c: &mut Connection, now: Millis, xid: Xid, code: Code) {
        if !c.pending.is_empty() {
            return self.wait(c, Pending::Refused { xid, code });
        }
        self.say_now(c, now, &header_reply(xid, self.last_zxid, code), false);
    }

    fn say_now(&mut self, c: &mut Connection, now: Millis, bytes: &[u8], close: bool) {
        self.settle(c);
        if c.is_done() {
            return;
        }
        self.open_out(c);
        c.out.extend_from_slice(bytes);
        self.replied(c, now, now, Zxid(0));
        if close {
            c.finish();
        }
    }

    /// Counts a reply.
    #[inline]
    pub(super) fn replied(&mut self, c: &mut Connection, now: Millis, since: Millis, zxid: Zxid) {
        self.stats.packets_sent += 1;
        self.stats.latency.record(now.since(since));
        c.note_reply(now, since, zxid);
    }

    /// A sync's moment has come.
    pub(super) fn on_synced(&mut self, now: Millis, c: &mut Connection, xid: Xid) {
        let waiting = c.pending.iter_mut().find_map(|pending| match pending {
            Pending::Sync { xid: its, done, .. } if *its == xid && !*done => Some(done),
            _ => None,
        });
        if let Some(done) = waiting {
            *done = true;
            c.syncs_under_way -= 1;
            self.send_held(c);
        }
        self.run_pending(now, c);
    }

    /// Sends up the writes that waited for a sync or a reconfig, as far as no other is in front of them.
    pub(super) fn send_held(&mut self, c: &mut Connection) {
        for at in 0..c.pending.len() {
            let (xid, op, since, identities, request) = match &c.pending[at] {
                Pending::Sync { done: false, .. } | Pending::Write { op: OpCode::Reconfig, .. } => return,
                Pending::Held { xid, op, since, identities, request } => {
                    (*xid, *op, *since, self.carry(identities), self.carry(request))
                }
                _ => continue,
            };
            let bytes = c.pending[at].bytes();
            self.propose(c, xid, Wish::Write { op: op.as_i32(), identities, request });
            c.pending[at] = Pending::Write { xid, op, since, bytes };
            if op == OpCode::Reconfig {
                c.reconfig_under_way = true;
                return;
            }
        }
    }

    /// The connection goes, and what it has asked for is done, as in ZooKeeper: what was held back goes up, in its order, though
    /// the sync in front of it is not answered. Nobody is told of that one, so nobody sees which came first. A reconfig others do
    /// see: what stands behind one is not done. Where the session has another connection by now all is void: who applies it looks
    /// at that.
    pub(super) fn send_unsent(&mut self, c: &mut Connection) {
        if c.is_done() {
            return;
        }
        let mut may_enter = false;
        for at in 0..c.pending.len() {
            match &c.pending[at] {
                Pending::Held { xid, op, since, identities, request } => {
                    let (xid, op, since) = (*xid, *op, *since);
                    let (identities, request) = (self.carry(identities), self.carry(request));
                    let bytes = c.pending[at].bytes();
                    self.propose(c, xid, Wish::Write { op: op.as_i32(), identities, request });
                    c.pending[at] = Pending::Write { xid, op, since, bytes };
                    may_enter |= makes_znodes(op);
                    if op == OpCode::Reconfig {
                        return;
                    }
                }
                Pending::Write { op: OpCode::Reconfig, .. } => return,
                Pending::Write { op, .. } => may_enter |= makes_znodes(*op),
                // A local session's closeSession. One that may be on its way into the state is left to its timeout: as a local
                // one it can not be closed any more, and as one of the state not yet.
                Pending::Deferred { frame, .. } if !(c.is_local && may_enter) => {
                    if let Some(xid) = closes(frame) {
                        let wish = if c.is_local {
                            Wish::CloseLocal
                        } else {
                            let identities = self.carry(&c.identities_encoded);
                            Wish::Write { op: OpCode::CloseSession.as_i32(), identities, request: 0..0 }
                        };
                        self.propose(c, xid, wish);
                        self.stats.writes += 1;
                    }
                }
                _ => {}
            }
        }
    }

    /// Handles what stands in front and needs the sequencer no more. Nothing else waits here: the next transaction
    /// comes after it.
    pub(super) fn run_pending(&mut self, now: Millis, c: &mut Connection) {
        let mut warm = 0;
        self.set_full(c, false);
        while !c.is_done() {
            if warm == 0 {
                self.warm_lookups(c.pending.iter().map_while(|pending| match pending {
                    Pending::Deferred { frame, .. } => Some(&frame[..]),
                    _ => None,
                }));
                warm = AHEAD;
            }
            warm -= 1;
            match c.pending.front() {
                None
                | Some(Pending::Write { .. } | Pending::Held { .. } | Pending::Sync { done: false, .. }) => {
                    break
                }
                Some(Pending::Deferred { is_long: true, .. }) => return self.queue_long(c),
                Some(Pending::Deferred { .. }) if c.out.len() - c.sent > self.options.unsent_pause_bytes => {
                    if !c.pending.iter().any(Pending::is_undecided) {
                        return self.set_full(c, true);
                    }
                    // What is done by others must not find these in front of it.
                    if c.out.len() - c.sent > self.options.unsent_cut_bytes {
                        return self.cut(c, Why::SlowReader);
                    }
                }
                Some(_) => {}
            }
            match self.pop_pending(c).expect("it was looked at just now") {
                Pending::Refused { xid, code } => {
                    self.say_now(c, now, &header_reply(xid, self.last_zxid, code), false)
                }
                Pending::Ready { bytes, close } => self.say_now(c, now, &bytes, close),
                Pending::Deferred { frame, since, .. } => self.handle_deferred(now, c, &frame, since),
                // No answer of its own brings what is queued for the read behind it.
                Pending::Sync { path: None, .. } => {
                    if !mutant::is(Mutant::BarrierUnsettled) {
                        self.settle(c);
                    }
                }
                Pending::Sync { xid, path: Some(path), since, .. } => {
                    self.settle(c);
                    if c.is_done() {
                        return;
                    }
                    self.open_out(c);
                    let start = begin_frame(&mut c.out);
                    reply_header(&mut c.out, xid, self.last_zxid, Code::Ok);
                    c.out.extend_from_slice(&path);
                    end_frame(&mut c.out, start);
                    self.replied(c, now, since, self.last_zxid);
                }
                Pending::Write { .. } | Pending::Held { .. } => {
                    unreachable!("a write in front ended the loop")
                }
            }
        }
    }
}

/// Whether such a write may make an ephemeral znode, for which a local session enters the state.
fn makes_znodes(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl | OpCode::Multi
    )
}

/// The xid of a closeSession.
fn closes(frame: &[u8]) -> Option<Xid> {
    let (header, _) = RequestHeader::decode(frame).ok()?;
    (header.op == OpCode::CloseSession.as_i32()).then_some(header.xid)
}
