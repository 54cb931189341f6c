//! Reads that look at thousands of znodes: one a turn, so that a client that sends four thousand of them in one piece
//! holds nobody else up for longer than one of them takes. What the client sent behind it is not looked at meanwhile:
//! it sees the state before its own later writes, as everywhere.

use super::connection::Connection;
use super::pending::Pending;
use super::Shard;
use crate::ids::Millis;
use crate::wire::{MultiItem, MultiReader, OpCode, PathAndWatch};

/// A read that looks at more znodes than this is long.
const ZNODES_MAX: usize = 4096;
/// And a multiRead of more bytes than this, or one whose answer has more than `ANSWER_BYTES_MAX`.
const MULTI_BYTES_MAX: usize = 4096;
/// A read with a longer answer takes a turn of its own: sixty times the same znode of a megabyte are one kilobyte to ask for.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// The names of so few children are not added up.
const FEW: usize = 16;

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
                path.is_some_and(|path| self.names_bytes(&path) > ANSWER_BYTES_MAX)
            }
            OpCode::MultiRead => body.len() > MULTI_BYTES_MAX || self.has_long_answer(body),
            _ => false,
        }
    }

    /// About what the names of a znode's children take; more than any answer where there are too many to look at.
    fn names_bytes(&self, path: &str) -> usize {
        let count = self.table.get(path).map_or(0, |node| usize::try_from(node.num_children).unwrap_or(0));
        if count <= FEW {
            return 0;
        }
        if count > ZNODES_MAX {
            return usize::MAX;
        }
        let prefix = path.len() + 1;
        let children = self.table.children(path);
        children
            .map_or(0, |all| all.iter().map(|child| child.as_str().len().saturating_sub(prefix) + 4).sum())
    }

    /// Whether a multiRead asks for more bytes than are answered in between.
    fn has_long_answer(&self, body: &[u8]) -> bool {
        let mut items = MultiReader::new(OpCode::MultiRead, body);
        let mut bytes = 0usize;
        while let Ok(Some(item)) = items.next_item() {
            bytes = bytes.saturating_add(match item {
                MultiItem::GetData(PathAndWatch { path: Some(path), .. }) => {
                    self.table.get(&path).map_or(0, |node| node.data_len())
                }
                MultiItem::GetChildren(PathAndWatch { path: Some(path), .. }) => self.names_bytes(&path),
                _ => 0,
            });
            if bytes > ANSWER_BYTES_MAX {
                return true;
            }
        }
        false
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
