//! The operations on watches: addWatch, checkWatches, removeWatches, setWatches with its catch-up.

use super::connection::Connection;
use super::Shard;
use crate::error::Code;
use crate::ids::Zxid;
use crate::mutant::{self, Mutant};
use crate::watch::{Bits, Kind};
use crate::wire::{put_i32, watcher_event, AddWatch, EventType, OpCode, PathAndType, SetWatches, NO_ZXID};

impl Shard {
    /// TR12: the reply has a body, one int. No existence and no permission is asked for (chapter 3.10).
    pub(super) fn add_watch(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let request = AddWatch::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.ok_or(Code::MarshallingError)?;
        match request.mode {
            0 => {
                self.watch(c, Kind::Data, &path, Bits::PERSISTENT)?;
                self.watch(c, Kind::Child, &path, Bits::PERSISTENT)?;
            }
            1 => self.watch(c, Kind::Data, &path, Bits::RECURSIVE)?,
            _ => return Err(Code::MarshallingError),
        }
        put_i32(&mut c.out, 0);
        Ok(())
    }

    pub(super) fn check_watches(&mut self, c: &Connection, body: &[u8]) -> Result<(), Code> {
        let request = PathAndType::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.unwrap_or_default();
        let found = registrations(request.kind)?
            .iter()
            .any(|(kind, bits)| self.watches.has(*kind, &path, c.id, *bits));
        found.then_some(()).ok_or(Code::NoWatcher)
    }

    pub(super) fn remove_watches(&mut self, c: &Connection, body: &[u8]) -> Result<(), Code> {
        let request = PathAndType::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.unwrap_or_default();
        let mut found = false;
        for (kind, bits) in registrations(request.kind)? {
            found |= self.watches.remove(*kind, &path, c.id, *bits);
        }
        found.then_some(()).ok_or(Code::NoWatcher)
    }

    /// TR06: what changed while the client was away is told now, before the reply, with no zxid; the rest is armed.
    pub(super) fn set_watches(&mut self, c: &mut Connection, op: OpCode, body: &[u8]) -> Result<(), Code> {
        let request = SetWatches::decode(op, body).map_err(|_| Code::MarshallingError)?;
        let seen = Zxid(request.relative_zxid);
        let [data, exist, child, persistent, recursive] = &request.lists;
        for path in data.iter() {
            match self.table.get(&path) {
                None => self.catch_up(c, EventType::NodeDeleted, &path),
                Some(node) if node.mzxid > seen && !mutant::is(Mutant::CatchUpMissed) => {
                    self.catch_up(c, EventType::NodeDataChanged, &path)
                }
                Some(_) if mutant::is(Mutant::WatchNotSetAgain) => {}
                Some(_) => self.watch(c, Kind::Data, &path, Bits::ONE_SHOT)?,
            }
        }
        for path in exist.iter() {
            match self.table.get(&path) {
                Some(_) => self.catch_up(c, EventType::NodeCreated, &path),
                None => self.watch(c, Kind::Data, &path, Bits::ONE_SHOT)?,
            }
        }
        for path in child.iter() {
            match self.table.get(&path) {
                None => self.catch_up(c, EventType::NodeDeleted, &path),
                Some(node) if node.pzxid > seen => self.catch_up(c, EventType::NodeChildrenChanged, &path),
                Some(_) => self.watch(c, Kind::Child, &path, Bits::ONE_SHOT)?,
            }
        }
        for path in persistent.iter() {
            self.watch(c, Kind::Data, &path, Bits::PERSISTENT)?;
            self.watch(c, Kind::Child, &path, Bits::PERSISTENT)?;
        }
        for path in recursive.iter() {
            self.watch(c, Kind::Data, &path, Bits::RECURSIVE)?;
        }
        Ok(())
    }

    fn catch_up(&mut self, c: &mut Connection, event: EventType, path: &str) {
        watcher_event(&mut c.out, event, NO_ZXID, path);
        self.stats.events += 1;
        self.stats.packets_sent += 1;
    }
}

type Registrations = &'static [(Kind, Option<Bits>)];

/// What a type of checkWatches and removeWatches means since 3.9.2 (F18); any other number does not decode.
fn registrations(kind: i32) -> Result<Registrations, Code> {
    Ok(match kind {
        1 => &[(Kind::Child, Some(Bits::ONE_SHOT))],
        2 => &[(Kind::Data, Some(Bits::ONE_SHOT))],
        3 => &[(Kind::Data, None), (Kind::Child, None)],
        4 => &[(Kind::Data, Some(Bits::PERSISTENT)), (Kind::Child, Some(Bits::PERSISTENT))],
        5 => &[(Kind::Data, Some(Bits::RECURSIVE))],
        _ => return Err(Code::MarshallingError),
    })
}
