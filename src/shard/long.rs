//! Reads that look at thousands of znodes: one a turn, so that a client that sends four thousand of them in one piece
//! holds nobody else up for longer than one of them takes. What the client sent behind it is not looked at meanwhile:
//! it sees the state before its own later writes, as everywhere.

use super::connection::Connection;
use super::pending::Pending;
use super::Shard;
use crate::ids::Millis;
use crate::wire::{OpCode, PathAndWatch};

/// A read that looks at more znodes than this is long.
const ZNODES_MAX: usize = 4096;
/// And a multiRead of more bytes than this.
const MULTI_BYTES_MAX: usize = 4096;

/// While so much waits for full sockets no long read is answered: a frame of a kilobyte may be answered with 64 MiB, and two
/// hundred connections that read nothing would hold 13 GB.
const UNSENT_MAX: usize = 256 << 20;

impl Shard {
    /// Whether a read takes a turn of its own.
    #[inline]
    pub(super) fn is_long(&self, c: &Connection, op: OpCode, body: &[u8]) -> bool {
        match op {
            OpCode::GetAllChildrenNumber => self.table.len() > ZNODES_MAX,
            OpCode::GetEphemerals => {
                self.table.ephemerals(c.session).is_some_and(|paths| paths.len() > ZNODES_MAX)
            }
            OpCode::GetChildren | OpCode::GetChildren2 => {
                let path = PathAndWatch::decode(body).ok().and_then(|request| request.path);
                path.and_then(|path| self.table.get(&path))
                    .is_some_and(|node| usize::try_from(node.num_children).unwrap_or(0) > ZNODES_MAX)
            }
            OpCode::MultiRead => body.len() > MULTI_BYTES_MAX,
            _ => false,
        }
    }

    /// Everything in front of a connection's long read is answered: it waits for its turn.
    pub(super) fn queue_long(&mut self, c: &mut Connection) {
        if !std::mem::replace(&mut c.is_queued_long, true) {
            self.long.push_back(c.id);
        }
    }

    /// Answers one long read. Call it once a turn; says whether there is more to do.
    pub fn answer_long(&mut self, now: Millis) -> bool {
        if !self.long.is_empty() && self.unsent_bytes() > UNSENT_MAX {
            return false;
        }
        let Some(id) = self.long.pop_front() else { return false };
        self.with(id, |shard, c| {
            c.is_queued_long = false;
            if matches!(c.pending.front(), Some(Pending::Deferred { is_long: true, .. })) && !c.is_done() {
                if let Some(Pending::Deferred { frame, since, .. }) = shard.pop_pending(c) {
                    c.has_long = false;
                    shard.settle(c);
                    if c.is_done() {
                        return;
                    }
                    shard.handle_deferred(now, c, &frame, since);
                }
            }
            shard.run_pending(now, c);
        });
        !self.long.is_empty()
    }
}
