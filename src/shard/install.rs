//! Taking over what was committed. For each transaction, in this order: own table, watch events, the reply, then the
//! reads of that connection that waited behind it. A client hears of a change before it can see it (TR08).

use super::connection::Connection;
use super::pending::Pending;
use super::{Shard, Why};
use crate::error::Code;
use crate::handoff::{Addressee, AnswerKind, Committed, Publication};
use crate::ids::{Millis, Owner, SessionId, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::warm::{self, AHEAD};
use crate::tree::{Answer, Change, Node, Path};
use crate::wire::{begin_frame, end_frame, put_buffer, reply_header, EventType, OpCode};

/// How far a batch is taken over: transactions before this one, and of this one the changes before that one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Place {
    transaction: usize,
    change: usize,
}

impl Shard {
    /// Takes over one batch.
    pub fn install(&mut self, now: Millis, publication: &Publication) {
        let rest = self.install_some(now, publication, Place::default(), &mut { usize::MAX });
        assert_eq!(rest, None, "no batch is as long as that");
    }

    /// Takes over a batch from a place on until `budget`, counted in transactions, changes and tellings of watchers, is
    /// spent. Returns the place to go on from; `None` when all is taken. What is queued may be written between two calls,
    /// but nothing may be read: a transaction may be taken in part.
    pub fn install_some(
        &mut self,
        now: Millis,
        publication: &Publication,
        from: Place,
        budget: &mut usize,
    ) -> Option<Place> {
        self.sessions_total = publication.sessions;
        let mut at = from;
        if mutant::is(Mutant::BatchShownWhole) && from == Place::default() {
            let all = publication.committed.iter().flat_map(|one| &one.changes);
            all.for_each(|change| self.table.install(change));
        }
        while let Some(committed) = publication.committed.get(at.transaction) {
            if *budget == 0 {
                return Some(at);
            }
            if at.change == 0 && at.transaction.is_multiple_of(AHEAD) {
                self.warm_changes(&publication.committed[at.transaction..]);
            }
            if !self.install_one(now, committed, &mut at.change, budget) {
                return Some(at);
            }
            at = Place { transaction: at.transaction + 1, change: 0 };
        }
        self.last_zxid = publication.last_zxid.max(self.last_zxid);
        None
    }

    /// Asks for what the next transactions change. One alone gains nothing.
    fn warm_changes(&self, coming: &[Committed]) {
        let group = &coming[..coming.len().min(AHEAD)];
        if group.len() > 1 {
            let nodes = group.iter().flat_map(|one| one.changes.iter().filter_map(Change::node)).take(AHEAD);
            warm::znodes(nodes.clone());
            self.table.warm(nodes.map(|node| node.path.as_bytes()));
        }
    }

    /// One transaction, from its change `next` on. Whether it came to its end before the budget did.
    fn install_one(
        &mut self,
        now: Millis,
        committed: &Committed,
        next: &mut usize,
        budget: &mut usize,
    ) -> bool {
        let zxid = committed.zxid;
        self.last_zxid = self.last_zxid.max(zxid);
        let to = committed.to.filter(|to| to.shard == self.options.shard);
        while let Some(change) = committed.changes.get(*next) {
            if *budget == 0 {
                return false;
            }
            let told = self.fanout.told;
            if !mutant::is(Mutant::BatchShownWhole) {
                self.table.install(change);
            }
            if !mutant::is(Mutant::EventAfterReply) {
                self.fire(zxid, change);
            }
            match change {
                Change::Attached(attached) => self.detach(attached.old.filter(|old| *old != attached.new)),
                // A client's own close is answered first.
                Change::SessionClosed(closed) if to.is_none() => self.end_session(closed.0, closed.1),
                _ => {}
            }
            *next += 1;
            *budget = budget.saturating_sub(1 + (self.fanout.told - told));
        }
        if let Some(to) = to {
            self.with(to.conn, |shard, c| shard.answer(now, c, to, zxid, &committed.answer));
        }
        if mutant::is(Mutant::EventAfterReply) {
            committed.changes.iter().for_each(|change| self.fire(zxid, change));
        }
        *budget = budget.saturating_sub(1);
        true
    }

    fn fire(&mut self, zxid: Zxid, change: &Change) {
        match change {
            Change::Created { node, parent } => {
                let recipients = self.watches.fire_data(node.path.as_str());
                self.tell(EventType::NodeCreated, zxid, &node.path, node.acl, recipients);
                self.fire_parent(zxid, &parent.path, parent);
            }
            Change::Deleted { node, parent } => {
                if mutant::is(Mutant::DeletedToldTwice) {
                    let first = self.watches.fire_data(node.path.as_str());
                    self.tell(EventType::NodeDeleted, zxid, &node.path, node.acl, first);
                }
                let recipients = self.watches.fire_deleted(node.path.as_str());
                self.tell(EventType::NodeDeleted, zxid, &node.path, node.acl, recipients);
                self.fire_parent(zxid, &parent.path, parent);
            }
            Change::DataSet { node } => {
                let recipients = self.watches.fire_data(node.path.as_str());
                self.tell(EventType::NodeDataChanged, zxid, &node.path, node.acl, recipients);
            }
            _ => {}
        }
    }

    fn fire_parent(&mut self, zxid: Zxid, path: &Path, parent: &Node) {
        let recipients = self.watches.fire_children(path.as_str());
        self.tell(EventType::NodeChildrenChanged, zxid, path, parent.acl, recipients);
    }

    /// A session has another owner now: if its old connection is here, it is closed (G05).
    fn detach(&mut self, old: Option<Owner>) {
        let Some(old) = old.filter(|_| !mutant::is(Mutant::MovedConnectionStays)) else { return };
        if old == self.owner_of(old.conn) {
            self.with(old.conn, |shard, c| shard.cut(c, Why::SessionMoved));
        }
    }

    /// A session has expired: its connection, if here, is closed.
    fn end_session(&mut self, session: SessionId, owner: Owner) {
        if owner == self.owner_of(owner.conn) {
            self.with(owner.conn, |shard, c| {
                if c.session == session {
                    shard.settle(c);
                    c.finish();
                }
            });
        }
    }

    fn answer(&mut self, now: Millis, c: &mut Connection, to: Addressee, zxid: Zxid, answer: &Answer) {
        // It was ended meanwhile, and its last bytes wait for the socket: what it asked before is answered no more.
        if c.is_done() {
            return;
        }
        match to.kind {
            AnswerKind::Handshake => self.on_handshake_answer(now, c, answer),
            AnswerKind::Sync => self.on_synced(now, c, to.xid),
            AnswerKind::Write => self.on_written(now, c, to, zxid, answer),
        }
    }

    fn on_written(&mut self, now: Millis, c: &mut Connection, to: Addressee, zxid: Zxid, answer: &Answer) {
        if matches!(answer, Answer::Moved) {
            return self.cut(c, Why::SessionMoved);
        }
        let front = self.pop_pending(c);
        let Some(Pending::Write { xid, op, since, .. }) = front else {
            unreachable!(
                "writes of a connection are answered in the order in which they were sent: {front:?}"
            )
        };
        assert_eq!(xid, to.xid, "writes of a connection are answered in the order in which they were sent");
        self.settle(c);
        if c.is_done() {
            return;
        }
        self.open_out(c);
        let start = begin_frame(&mut c.out);
        let code = if let Answer::Code(code) = answer { *code } else { Code::Ok };
        reply_header(&mut c.out, xid, zxid, code);
        put_answer(&mut c.out, answer);
        end_frame(&mut c.out, start);
        self.replied(c, now, since, zxid);
        if op == OpCode::Reconfig {
            c.reconfig_under_way = false;
            self.send_held(c);
        }
        if op == OpCode::CloseSession {
            // TR34: the reply, then the connection closes.
            return c.finish();
        }
        if code == Code::SessionExpired {
            return c.finish();
        }
        self.run_pending(now, c);
    }
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Path(path) => put_buffer(out, Some(path.as_bytes())),
        Answer::PathAndStat(node) => {
            put_buffer(out, Some(node.path.as_bytes()));
            node.stat().encode(out);
        }
        Answer::Stat(node) => node.stat().encode(out),
        Answer::Data(node) => {
            put_buffer(out, node.data());
            node.stat().encode(out);
        }
        Answer::Multi(results) => out.extend_from_slice(results),
        Answer::Code(_) | Answer::Session(_) | Answer::SessionRefused | Answer::Moved | Answer::Later => {}
    }
}
