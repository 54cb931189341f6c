//! Local sessions: known to this server alone, made, kept and ended without an entry of the log (`localSessionsEnabled`,
//! and every session of read-only mode). Their writes go through the log as everybody's, marked as ones that no session of
//! the state stands for; a session that makes an ephemeral znode enters the state first (`localSessionsUpgradingEnabled`).

use super::{Effect, Note, Now, Sequencer, Serving};
use crate::apply::{Txn, TxnBody};
use crate::error::Code;
use crate::handoff::{Addressee, AnswerKind, Committed};
use crate::ids::{ConnId, Millis, Owner, SessionId, ShardId, Xid};
use crate::session::{Expiry, Password};
use crate::tree::{Answer, Attached, Change, Granted};
use crate::wire::{Create, MultiItem, MultiReader, OpCode};
use std::collections::BTreeMap;

/// The local sessions of this server.
pub(super) struct Locals {
    sessions: BTreeMap<SessionId, Local>,
    pub(super) expiry: Expiry,
    /// Told to the shards with the next turn.
    told: Vec<Committed>,
}

struct Local {
    timeout_ms: i32,
    password: Password,
    owner: Owner,
    /// Granted in read-only mode, and gone with it.
    of_read_only: bool,
}

impl Locals {
    pub(super) fn new(tick_ms: u64) -> Locals {
        Locals { sessions: BTreeMap::new(), expiry: Expiry::new(tick_ms), told: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn has(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    fn remove(&mut self, session: SessionId) -> Option<Local> {
        self.expiry.forget(session);
        self.sessions.remove(&session)
    }
}

impl Sequencer {
    /// Whether a new session is a local one.
    pub(super) fn grants_local(&self) -> bool {
        match self.serving {
            Serving::ReadOnly => true,
            Serving::No | Serving::Yes => self.options.local_sessions && self.state.membership.is_ensemble(),
        }
    }

    pub(super) fn open_local(&mut self, shard: ShardId, conn: ConnId, timeout_ms: i32) {
        let (id, password) = self.gather.new_session();
        let owner = self.owner(shard, conn);
        let of_read_only = self.serving == Serving::ReadOnly;
        self.locals.sessions.insert(id, Local { timeout_ms, password, owner, of_read_only });
        self.track_local(id, timeout_ms);
        let granted = Granted { id, timeout_ms, password, is_local: true };
        self.tell_local(Some((shard, conn)), None, Answer::Session(Box::new(granted)));
    }

    /// A client comes back on another connection. Returns whether it was answered here: the session is a local one of this
    /// server, or nobody leads, who could say.
    pub(super) fn attach_local(
        &mut self,
        id: SessionId,
        (shard, conn): (ShardId, ConnId),
        timeout_ms: i32,
        password: &[u8],
    ) -> bool {
        let owner = self.owner(shard, conn);
        let to = Some((shard, conn));
        let Some(local) = self.locals.sessions.get_mut(&id) else {
            let is_answered = self.serving == Serving::ReadOnly;
            if is_answered {
                self.tell_local(to, None, Answer::Moved);
            }
            return is_answered;
        };
        if local.password.as_slice() != password {
            self.tell_local(to, None, Answer::SessionRefused);
            return true;
        }
        let old = std::mem::replace(&mut local.owner, owner);
        local.timeout_ms = timeout_ms;
        let password = local.password;
        self.track_local(id, timeout_ms);
        let moved = Change::Attached(Box::new(Attached { session: id, old: Some(old), new: owner }));
        let granted = Granted { id, timeout_ms, password, is_local: true };
        self.tell_local(to, Some(moved), Answer::Session(Box::new(granted)));
        true
    }

    /// A write of a session that may be a local one: as what it goes into the log, and before it, where it needs a session
    /// of the state, that session. `None`: it is void, for its connection does not speak for the session any more.
    pub(super) fn body_for_local<'a>(
        &mut self,
        session: SessionId,
        (shard, conn): (ShardId, ConnId),
        op: i32,
        identities: &'a [u8],
        request: &'a [u8],
    ) -> Option<TxnBody<'a>> {
        let owner = self.owner(shard, conn);
        let Some(local) = self.locals.sessions.get(&session) else {
            return Some(TxnBody::Request { op, identities, request });
        };
        if local.owner != owner {
            return None;
        }
        if !(self.options.local_sessions_upgrade && makes_ephemeral(op, request)) {
            return Some(TxnBody::LocalRequest { op, identities, request });
        }
        let body = TxnBody::CreateSession { timeout_ms: local.timeout_ms, password: local.password };
        self.gather.push(&Txn { session, shard, conn, xid: Xid(0), body });
        self.locals.remove(session);
        Some(TxnBody::Request { op, identities, request })
    }

    /// Its client has closed it.
    pub(super) fn close_local(&mut self, session: SessionId, shard: ShardId, conn: ConnId) {
        let owner = self.owner(shard, conn);
        if self.locals.sessions.get(&session).is_some_and(|local| local.owner == owner) {
            self.locals.remove(session);
        }
    }

    /// Ends those that this server's shards have not heard of for their whole timeout.
    pub(super) fn expire_locals(&mut self, through: Millis) {
        if self.serving == Serving::No {
            return;
        }
        for session in self.locals.expiry.expired(self.clock.at(through)) {
            self.end_local(session);
            self.effects.push_back(Effect::Note(Note::SessionExpired { session }));
        }
    }

    fn end_local(&mut self, session: SessionId) {
        let Some(local) = self.locals.remove(session) else { return };
        let closed = Change::SessionClosed(Box::new((session, local.owner)));
        self.tell_local(None, Some(closed), Answer::Code(Code::Ok));
    }

    /// This server serves again, or in another way: while it did not, nobody could be heard.
    pub(super) fn renew_locals(&mut self) {
        let is_read_only = self.serving == Serving::ReadOnly;
        let over = self.locals.sessions.iter().filter(|(_, local)| local.of_read_only && !is_read_only);
        let over: Vec<SessionId> = over.map(|(id, _)| *id).collect();
        for session in over {
            self.locals.remove(session);
        }
        let all: Vec<(SessionId, i32)> =
            self.locals.sessions.iter().map(|(id, local)| (*id, local.timeout_ms)).collect();
        all.into_iter().for_each(|(id, timeout_ms)| self.track_local(id, timeout_ms));
    }

    fn track_local(&mut self, id: SessionId, timeout_ms: i32) {
        let now = self.session_now();
        self.locals.expiry.track(id, u64::try_from(timeout_ms).unwrap_or(0), now);
    }

    fn tell_local(&mut self, to: Option<(ShardId, ConnId)>, change: Option<Change>, answer: Answer) {
        let addressee = |(shard, conn)| Addressee { shard, conn, xid: Xid(0), kind: AnswerKind::Handshake };
        self.locals.told.push(Committed {
            zxid: self.state.last_zxid(),
            changes: change.into_iter().collect(),
            to: to.map(addressee),
            answer,
        });
    }

    /// Once a turn: a crowd that connects is one publication.
    pub(super) fn publish_locals(&mut self, _now: Now) {
        if !self.locals.told.is_empty() {
            let told = std::mem::take(&mut self.locals.told);
            self.publish(told);
        }
    }

    fn owner(&self, shard: ShardId, conn: ConnId) -> Owner {
        Owner { server: self.options.server, incarnation: self.options.incarnation, shard, conn }
    }
}

/// Whether a request would make a znode that its session owns. ZooKeeper looks at these operations and no others.
fn makes_ephemeral(op: i32, request: &[u8]) -> bool {
    let is_one = |op: OpCode, create: &Create<'_>| {
        matches!(op, OpCode::Create | OpCode::Create2) && matches!(create.flags, 1 | 3)
    };
    match OpCode::from_i32(op) {
        Some(op @ (OpCode::Create | OpCode::Create2)) => {
            Create::decode(op, request).is_ok_and(|create| is_one(op, &create))
        }
        Some(OpCode::Multi) => {
            let mut items = MultiReader::new(OpCode::Multi, request);
            while let Ok(Some(item)) = items.next_item() {
                if matches!(item, MultiItem::Create(op, create) if is_one(op, &create)) {
                    return true;
                }
            }
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_buffer, put_i32, put_string};

    fn create(flags: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, "/a");
        put_buffer(&mut out, Some(b""));
        put_i32(&mut out, 0);
        put_i32(&mut out, flags);
        out
    }

    #[test]
    fn an_ephemeral_create_is_seen_in_a_multi_too_and_what_does_not_decode_makes_nothing() {
        let of = |op: OpCode, request: &[u8]| makes_ephemeral(op.as_i32(), request);
        for flags in 0..7 {
            let is_ephemeral = matches!(flags, 1 | 3);
            assert_eq!(of(OpCode::Create2, &create(flags)), is_ephemeral);
            let mut multi = Vec::new();
            for flags in [0, flags] {
                put_i32(&mut multi, OpCode::Create.as_i32());
                multi.push(0);
                put_i32(&mut multi, -1);
                multi.extend_from_slice(&create(flags));
            }
            assert!(!of(OpCode::Multi, &multi[..multi.len() - 1]), "cut off");
            put_i32(&mut multi, -1);
            multi.push(1);
            put_i32(&mut multi, -1);
            assert_eq!(of(OpCode::Multi, &multi), is_ephemeral && flags < 4);
        }
        assert!(!of(OpCode::CreateTtl, &create(1)) && !of(OpCode::SetData, &create(1)));
        assert!(!of(OpCode::Create, b"\0\0\0\x05/a") && !makes_ephemeral(7_777, &create(1)));
    }
}
