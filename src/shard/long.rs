//! Reads that look at thousands of znodes: one a turn, so that a client that sends four thousand of them in one piece
//! holds nobody else up for longer than one of them takes. What the client sent behind it is not looked at meanwhile:
//! it sees the state before its own later writes, as everywhere.

use super::connection::Connection;
use super::pending::Pending;
use super::{Shard, Why};
use crate::ids::{ConnId, Millis};
use crate::wire::{MultiItem, MultiReader, OpCode, PathAndWatch};

/// A read that looks at more znodes than this is long.
const ZNODES_MAX: usize = 4096;
/// And a multiRead of more bytes than this, or one whose answer has more than `ANSWER_BYTES_MAX`.
const MULTI_BYTES_MAX: usize = 4096;
/// A read with a longer answer takes a turn of its own: sixty times the same znode of a megabyte are one kilobyte to ask for.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// So many reads may wait behind a connection's writes, whatever they are answered with.
const DEFERRED_MIN: usize = 16;
/// The names of so few children are not added up.
const FEW: usize = 16;

/// When somebody has waited so long for that, who leaves most unread is cut off: five connections that read a little every
/// now and then kept everybody else from long reads for ever, and their sessions expired (a review).
const CROWDED_MS: u64 = 10_000;
/// But nobody who leaves less than this part of what is allowed to all together: thousands of watchers that take their events are
/// not to blame.
const CROWDING_PART: usize = 64;

impl Shard {
    /// Since when long reads have waited for others' full sockets, if they do.
    fn crowded_since(&self) -> Option<Millis> {
        self.crowded_since.filter(|_| !self.long.is_empty())
    }

    /// Cuts off who leaves most unread, where others have waited too long for it.
    pub(super) fn cut_crowding(&mut self, now: Millis) {
        if self.crowded_since().is_none_or(|since| now.since(since).0 < CROWDED_MS) {
            return;
        }
        // Who has gone meanwhile waits no more.
        let mut waiting = std::mem::take(&mut self.long);
        waiting.retain(|id| self.get(*id).is_some());
        self.long = waiting;
        if self.long.is_empty() {
            return;
        }
        let unsent = |id: ConnId| self.get(id).map_or(0, |c| c.out.len() - c.sent);
        let most = self.blocked.iter().map(|id| (unsent(*id), *id)).max_by_key(|(bytes, _)| *bytes);
        let share = self.options.unsent_long_bytes / CROWDING_PART;
        if let Some((_, id)) = most.filter(|(bytes, _)| *bytes >= share) {
            self.with(id, |shard, c| shard.cut(c, Why::SlowReader));
        }
    }

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

    /// Whether the reads that wait behind a connection's writes may be answered with much: the writes are done one after the
    /// other, and what is read in between lies in memory then, as much as it is. A thousand reads of a megabyte behind one
    /// write were a gigabyte (a review). To look each one up when it comes would cost a third of a pipelined read.
    #[inline]
    pub(super) fn expects_much(&self, c: &Connection) -> bool {
        // Nearly always none waits, and this is asked for each request.
        c.deferred > 0 && self.may_be_much(c)
    }

    #[inline(never)]
    fn may_be_much(&self, c: &Connection) -> bool {
        let data = c.deferred * self.table.longest_data();
        // What may not be unsent is not asked for either: who takes all that comes would be cut off.
        c.deferred >= DEFERRED_MIN && data > ANSWER_BYTES_MAX
            || data + c.deferred_lists * ANSWER_BYTES_MAX > self.options.unsent_cut_bytes / 2
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
        if !self.long.is_empty() && self.unsent_bytes() > self.options.unsent_long_bytes {
            self.crowded_since = self.crowded_since.or(Some(now));
            return false;
        }
        self.crowded_since = None;
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
