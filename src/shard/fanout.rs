//! Telling a crowd: in slices, so that a hundred thousand watchers of one znode hold nobody else up.
//!
//! Slicing delays, it never reorders: before a connection is sent any other byte, and before its next frame is looked
//! at, it gets the events that are queued for it (`settle`).

use super::connection::Connection;
use super::Shard;
use crate::ids::{ConnId, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::acl::Listed;
use crate::tree::warm::AHEAD;
use crate::tree::{AclId, Path};
use crate::watch::Recipients;
use crate::wire::{watcher_event, EventType, Perms};
use std::collections::VecDeque;

/// So many may wait to be told, over all crowds; beyond it the oldest are told before anything more is taken over.
/// Persistent watchers of a znode that is written without a pause would fill the memory otherwise.
const WAITING_MAX: usize = 1 << 18;
/// The same for crowds: whoever speaks is looked for in each of them.
const CROWDS_MAX: usize = 256;

/// One event and those who have not heard it yet.
struct Crowd {
    event: EventType,
    zxid: Zxid,
    path: Path,
    /// Who may read the znode, judged as it was when the event happened. `None`: everybody.
    acl: Option<Listed>,
    left: Recipients,
}

/// The crowds, in the order of their events.
#[derive(Default)]
pub(super) struct Fanout {
    crowds: VecDeque<Crowd>,
    /// How many have yet to be told: the sum of what is left of the crowds.
    waiting: usize,
    /// How often a connection was ever told something, or not told for want of READ: it is work all the same.
    pub(super) told: usize,
}

impl Shard {
    /// Something happened to `path`, and these hear of it.
    pub(super) fn tell(
        &mut self,
        event: EventType,
        zxid: Zxid,
        path: &Path,
        acl: AclId,
        mut recipients: Recipients,
    ) {
        if recipients.is_empty() {
            return;
        }
        let acl = (acl != AclId::OPEN && !self.options.skip_acl).then(|| self.table.acls.listed(acl).clone());
        let mut crowd = Crowd { event, zxid, path: path.clone(), acl, left: Recipients::default() };
        if recipients.len() > self.options.slices.at_once_max {
            crowd.left = recipients;
            self.fanout.waiting += crowd.left.len();
            self.fanout.crowds.push_back(crowd);
            while self.fanout.waiting > WAITING_MAX || self.fanout.crowds.len() > CROWDS_MAX {
                self.tell_slice();
            }
            return;
        }
        for conn in recipients.take_some(recipients.len()) {
            self.with(conn, |shard, c| {
                let had_output = c.out.len() > c.sent;
                shard.settle(c);
                shard.put_event(c, &crowd);
                c.events_alone = !had_output;
            });
            self.watches.told(crowd.path.as_str(), conn);
        }
    }

    /// Tells a slice of the oldest crowds; says whether there is more to do.
    pub fn tell_slice(&mut self) -> bool {
        let mut budget = self.options.slices.slice;
        while budget > 0 {
            let Some(mut crowd) = self.fanout.crowds.pop_front() else { return false };
            let some = crowd.left.take_some(budget);
            self.fanout.waiting -= some.len();
            // A crowd may be empty already: those who spoke meanwhile were told.
            budget -= some.len().max(1);
            for (at, conn) in some.iter().enumerate() {
                if at.is_multiple_of(AHEAD) {
                    some[at..].iter().take(AHEAD).for_each(|conn| self.warm_connection(*conn));
                }
                self.tell_one(*conn, &crowd);
            }
            if !crowd.left.is_empty() {
                self.fanout.crowds.push_front(crowd);
            }
        }
        !self.fanout.crowds.is_empty()
    }

    fn tell_one(&mut self, conn: ConnId, crowd: &Crowd) {
        self.with(conn, |shard, c| {
            let had_output = c.out.len() > c.sent;
            shard.put_event(c, crowd);
            c.events_alone = !had_output;
        });
        self.watches.told(crowd.path.as_str(), conn);
    }

    /// Whether a change anywhere may be news to a client of this shard.
    #[must_use]
    pub fn watches_anything(&self) -> bool {
        self.watches.count() > 0
    }

    /// Whether a crowd waits.
    #[must_use]
    pub fn has_crowds(&self) -> bool {
        !self.fanout.crowds.is_empty()
    }

    /// How many events wait to be told to somebody.
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.fanout.waiting
    }

    /// Gives a connection the events that are queued for it, oldest first.
    #[inline]
    pub(super) fn settle(&mut self, c: &mut Connection) {
        if !self.fanout.crowds.is_empty() && !mutant::is(Mutant::CrowdOvertaken) {
            self.settle_crowds(c);
        }
    }

    #[cold]
    fn settle_crowds(&mut self, c: &mut Connection) {
        let mut crowds = std::mem::take(&mut self.fanout.crowds);
        for crowd in &mut crowds {
            if crowd.left.take(c.id) {
                self.fanout.waiting -= 1;
                self.put_event(c, crowd);
                self.watches.told(crowd.path.as_str(), c.id);
            }
        }
        self.fanout.crowds = crowds;
    }

    /// F19: without READ the event is dropped silently; the one-shot watch is gone all the same.
    fn put_event(&mut self, c: &mut Connection, crowd: &Crowd) {
        self.fanout.told += 1;
        if c.is_done() {
            return;
        }
        if let Some(listed) = crowd.acl.as_ref().filter(|_| !mutant::is(Mutant::EventWithoutRead)) {
            if !c.judged.allows(listed, Perms::READ, &c.identities) {
                return;
            }
        }
        self.open_out(c);
        watcher_event(&mut c.out, crowd.event, crowd.zxid, crowd.path.as_str());
        self.stats.events += 1;
        self.stats.packets_sent += 1;
        if c.out.len() - c.sent > self.options.unsent_cut_bytes {
            self.cut(c, super::Why::SlowReader);
        }
    }
}
