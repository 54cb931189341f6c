//! Connections of the strict listener: each of their reads shows all that anybody was told before it was sent.
//!
//! ZooKeeper's reads may be old; whoever wants fresh ones syncs first. On such a connection the shard does that itself: a
//! sync that is answered to nobody stands in front of the reads that came together.

use super::connection::Connection;
use super::pending::Pending;
use super::Shard;
use crate::handoff::Wish;
use crate::ids::{ConnId, Millis, Xid};
use crate::mutant::{self, Mutant};
use crate::wire::OpCode;
use std::net::SocketAddr;

/// Barriers are named from here upwards, so that no two which wait are called the same. A client may name a sync of its own
/// like one: those of a connection are answered in their order, so that each finds its own.
const FIRST_BARRIER: i32 = i32::MIN;
const BARRIERS: i32 = 1 << 20;

impl Shard {
    /// A client connected to the strict listener.
    pub fn accept_strict(&mut self, now: Millis, peer: SocketAddr) -> ConnId {
        let id = self.accept(now, peer);
        self.with(id, |_, c| c.strict = Some(Strict::default()));
        id
    }

    /// Puts a barrier in front of a read, unless one of the same moment stands there.
    pub(super) fn put_barrier(&mut self, c: &mut Connection, op: OpCode) {
        let moment = self.inputs;
        let Some(strict) = c.strict.as_mut().filter(|_| !mutant::is(Mutant::StrictUnasked)) else { return };
        let is_of_this_moment = strict.moment == moment || mutant::is(Mutant::BarrierKept);
        if matches!(op, OpCode::Ping) || is_of_this_moment && c.syncs_under_way > 0 {
            return;
        }
        let xid = Xid(FIRST_BARRIER + strict.next % BARRIERS);
        (strict.next, strict.moment) = ((strict.next + 1) % BARRIERS, moment);
        self.propose(c, xid, Wish::Sync);
        self.wait(c, Pending::Sync { xid, path: None, since: Millis(0), done: false });
        c.syncs_under_way += 1;
    }
}

/// What such a connection remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strict {
    next: i32,
    /// The input with which the last barrier came.
    moment: u64,
}
