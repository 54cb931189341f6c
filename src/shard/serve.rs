//! When clients are served: from the server's word on, and, in an ensemble, until it knows of no leader for too long; in
//! read-only mode some are served on.

use super::connection::Phase;
use super::{Shard, Why};
use crate::ids::Zxid;
use crate::tree::acl::Judged;
use crate::tree::Table;

impl Shard {
    /// Begins to serve, with a table that is exactly the state at `last_zxid`. Gives the former one, to be dropped where it
    /// holds up nobody: a large one takes seconds.
    pub fn serve(&mut self, table: Table, last_zxid: Zxid, sessions_total: usize) -> Table {
        let former = std::mem::replace(&mut self.table, table);
        // What was found of the former table's lists holds for no other's.
        self.slots.iter_mut().flatten().for_each(|c| c.judged = Judged::default());
        self.last_zxid = last_zxid;
        self.sessions_total = sessions_total;
        self.serving = true;
        self.read_only = false;
        former
    }

    /// The same without a leader: for those that ask for read-only mode.
    pub fn serve_read_only(&mut self, table: Table, last_zxid: Zxid, sessions_total: usize) -> Table {
        let former = self.serve(table, last_zxid, sessions_total);
        self.read_only = true;
        former
    }

    /// Turns everybody away until `serve` comes again. Sessions stay: their clients find another server.
    pub fn stop_serving(&mut self) {
        self.serving = false;
        let all: Vec<_> =
            self.slots.iter().flatten().map(|c| (c.id, matches!(c.phase, Phase::Word))).collect();
        for (id, _) in all.into_iter().filter(|(_, is_word)| !is_word) {
            self.with(id, |shard, c| shard.cut(c, Why::NotServing));
        }
    }

    /// The process ends, and the tree with it: nothing is dropped znode by znode, which takes seconds for a million.
    pub fn leave_tree(&mut self) {
        self.serving = false;
        let empty = Table::new(self.table.hasher().clone());
        std::mem::forget(std::mem::replace(&mut self.table, empty));
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving
    }
}
