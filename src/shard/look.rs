//! What others may see of a shard.

use super::{ConnectionRow, Shard};
use crate::ids::{ConnId, Millis, SessionId, Zxid};
use crate::tree::Table;
use crate::watch::Watches;
use std::ops::Bound;

impl Shard {
    /// The last zxid that this shard has taken over.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// The shard's own tree.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The shard's watches.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Rows for `cons` and `stat`, from slot `from` on, at most `n` of them, and where to go on.
    #[must_use]
    pub fn rows(&self, now: Millis, from: usize, n: usize) -> (Vec<ConnectionRow>, Option<usize>) {
        let rows: Vec<ConnectionRow> =
            self.slots.iter().skip(from).take(n).flatten().map(|c| c.row(now)).collect();
        let next = from + n;
        (rows, (next < self.slots.len()).then_some(next))
    }

    /// Forgets the counters of connections (`crst`), from slot `from` on, of at most `n`; says where to go on.
    pub fn reset_connection_stats(&mut self, from: usize, n: usize) -> Option<usize> {
        for c in self.slots.iter_mut().skip(from).take(n).flatten() {
            c.reset_stats();
        }
        (from + n < self.slots.len()).then_some(from + n)
    }

    /// The session and address of a connection, for `wchc` and `dump`.
    #[must_use]
    pub fn session_of(&self, id: ConnId) -> Option<SessionId> {
        self.get(id).map(|c| c.session)
    }

    /// This shard's sessions after one of them, or all, and their connections, in order of session.
    pub fn sessions_after(&self, after: Option<SessionId>) -> impl Iterator<Item = (SessionId, ConnId)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions.range((from, Bound::Unbounded)).map(|(session, conn)| (*session, *conn))
    }

    /// The sessions of the whole server, as the last publication said.
    #[must_use]
    pub fn sessions_total(&self) -> usize {
        self.sessions_total
    }
}
