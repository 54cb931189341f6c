//! Local sessions: known to this server alone, made, kept and ended without an entry of the log (`localSessionsEnabled`,
//! and every session of read-only mode). Their writes go through the log as everybody's, marked as ones that no session of
//! the state stands for; a session that makes an ephemeral znode enters the state first (`localSessionsUpgradingEnabled`).

use super::{Effect, Note, Now, Sequencer, Serving};
use crate::apply::{Txn, TxnBody};
use crate::error::Code;
use crate::handoff::{Addressee, AnswerKind, Committed};
use crate::ids::{ConnId, Millis, Owner, SessionId, ShardId, Xid};
use crate::mutant::{self, Mutant};
use crate::session::{Expiry, Password};
use crate::tree::{Answer, Attached, Change, Granted};
use crate::wire::{Create, MultiItem, MultiReader, OpCode};
use std::collections::{BTreeMap, BTreeSet};

/// The local sessions of this server.
pub(super) struct Locals {
    sessions: BTreeMap<SessionId, Local>,
    pub(super) expiry: Expiry,
    /// Told to the shards with the next turn.
    told: Vec<Committed>,
    /// The first id that this run could give: those from there on that are not in the state are nobody's.
    first_id: SessionId,
    /// One of them has wished for something since the server began.
    has_written: bool,
    /// The oldest batch of this server that is not applied, and since when it is that.
    oldest: (Option<u64>, Millis),
    /// Connections may not have been read for a while.
    has_waited: bool,
}

struct Local {
    timeout_ms: i32,
    password: Password,
    owner: Owner,
    /// Granted in read-only mode, and gone with it.
    of_read_only: bool,
    /// Its writes that are not applied yet.
    pending: u64,
    /// It is on its way into the state; if that comes to nothing, it stays what it was.
    is_entering: bool,
    /// Its way into the state, or an attach, was given up once; but a leader may have had the wish, and it comes about after
    /// all. Nobody says when that is over: the next attach goes through the log.
    may_come_late: bool,
    /// Who takes it over by an attach that is in the log: whatever its owner wishes for from then on would be done behind what the
    /// client does next, and is void.
    moves_to: Option<Owner>,
}

impl Local {
    /// The attach under way, if there is one, is given up. Whether there was one.
    fn give_up_attach(&mut self) -> bool {
        let is_given_up = self.moves_to.take().is_some();
        self.may_come_late |= is_given_up;
        is_given_up
    }
}

/// The xid of the transaction by which a local session enters the state: its client has asked for something else.
const UPGRADE: Xid = Xid(-1);
/// A batch of this server that no leader answers for so long may keep its clients from being read.
const WAIT_MS: u64 = 500;

impl Locals {
    pub(super) fn new(tick_ms: u64, first_id: SessionId) -> Locals {
        Locals {
            sessions: BTreeMap::new(),
            expiry: Expiry::new(tick_ms),
            told: Vec::new(),
            first_id,
            has_written: false,
            oldest: (None, Millis(0)),
            has_waited: false,
        }
    }

    /// A write of one of them was applied.
    pub(super) fn applied(&mut self, session: SessionId) {
        if let Some(local) = self.sessions.get_mut(&session) {
            local.pending = local.pending.saturating_sub(1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn has(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The timeout of one that is on its way into the state.
    pub(super) fn entering(&self, session: SessionId) -> Option<i32> {
        let local = self.sessions.get(&session).filter(|local| local.is_entering);
        local.map(|local| local.timeout_ms)
    }

    /// A session of the state is no local one. Gives the connection that speaks for it, if it is not the one with which it
    /// entered: in read-only mode it is taken up at once, and a leader may have had the wish after all; and an attach that was
    /// under way may lie in the log in front of the wish (the simulator, seed 2380364417).
    pub(super) fn entered(&mut self, session: SessionId, with: Owner) -> Option<Owner> {
        self.remove(session).map(|local| local.owner).filter(|owner| *owner != with)
    }

    /// Moves a local session to another connection, whose client has its password. `now` as sessions see it. `None`: there is no
    /// such local session. It is looked at here, too: who asked for one that was nobody's yet must not have it because
    /// somebody was given it meanwhile (a review).
    pub(super) fn attach(
        &mut self,
        id: SessionId,
        password: &[u8],
        owner: Owner,
        timeout_ms: i32,
        now: Millis,
    ) -> Option<(Change, Answer)> {
        let local = self.sessions.get_mut(&id).filter(|local| local.password.as_slice() == password)?;
        let old = std::mem::replace(&mut local.owner, owner);
        local.timeout_ms = timeout_ms;
        if local.moves_to.take_if(|to| *to == owner).is_some() {
            // Nothing of its was sent up behind this, and what was before has come to its end, void or not.
            (local.pending, local.may_come_late) = (0, false);
        }
        let password = local.password;
        self.track(id, timeout_ms, now);
        let moved = Change::Attached(Box::new(Attached { session: id, old: Some(old), new: owner }));
        let granted = Granted { id, timeout_ms, password, is_local: true };
        Some((moved, Answer::Session(Box::new(granted))))
    }

    fn track(&mut self, id: SessionId, timeout_ms: i32, now: Millis) {
        self.expiry.track(id, u64::try_from(timeout_ms).unwrap_or(0), now);
    }

    fn remove(&mut self, session: SessionId) -> Option<Local> {
        self.expiry.forget(session);
        self.sessions.remove(&session)
    }
}

impl Sequencer {
    /// The local sessions, and the connection that speaks for each.
    pub fn locals(&self) -> impl Iterator<Item = (SessionId, Owner)> + '_ {
        self.locals.sessions.iter().map(|(id, local)| (*id, local.owner))
    }

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
        let local = Local {
            timeout_ms,
            password,
            owner,
            of_read_only,
            pending: 0,
            is_entering: false,
            may_come_late: false,
            moves_to: None,
        };
        self.locals.sessions.insert(id, local);
        self.track_local(id, timeout_ms);
        let granted = Granted { id, timeout_ms, password, is_local: true };
        self.tell_local(Some((shard, conn)), None, Answer::Session(Box::new(granted)));
    }

    /// A client comes back on another connection. Returns whether it was answered here: the session is a local one of this
    /// server, or nobody leads, who could say. With writes of it under way the attach goes through the log behind them, as
    /// that of any session, so that its reads show them, and so that no connection speaks for it as a local one when a leader
    /// had its way into the state after all; `Locals::attach` answers then. In read-only mode there is no log to go through,
    /// and its connections end with it, or once the session enters after all.
    pub(super) fn attach_local(
        &mut self,
        id: SessionId,
        to: (ShardId, ConnId),
        timeout_ms: i32,
        password: &[u8],
    ) -> bool {
        let owner = self.owner(to.0, to.1);
        let Some(local) = self.locals.sessions.get_mut(&id) else {
            let is_answered = self.serving == Serving::ReadOnly;
            if is_answered {
                // One of the ensemble is a leader's to keep. Of those that this run gave the state knows all that live.
                let is_over = (self.locals.first_id..self.gather.next_id()).contains(&id)
                    && self.state.sessions.get(id).is_none();
                self.tell_local(Some(to), None, if is_over { Answer::SessionRefused } else { Answer::Moved });
            }
            return is_answered;
        };
        if local.password.as_slice() != password {
            self.tell_local(Some(to), None, Answer::SessionRefused);
            return true;
        }
        // Another attach among them: behind this one it would give the session back to whom it was given up by.
        let is_behind =
            local.pending > 0 || local.is_entering || local.may_come_late || local.moves_to.is_some();
        if is_behind && self.serving != Serving::ReadOnly && !mutant::is(Mutant::EntryNotAwaited) {
            local.moves_to = Some(owner);
            return false;
        }
        local.moves_to = None;
        let now = self.session_now();
        if let Some((change, answer)) = self.locals.attach(id, password, owner, timeout_ms, now) {
            self.tell_local(Some(to), Some(change), answer);
        }
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
        let Some(local) = self.locals.sessions.get_mut(&session) else {
            return Some(TxnBody::Request { op, identities, request });
        };
        if local.owner != owner || local.moves_to.is_some() || self.serving != Serving::Yes {
            return None;
        }
        self.locals.has_written = true;
        if local.is_entering {
            return Some(TxnBody::Request { op, identities, request });
        }
        if !(self.options.local_sessions_upgrade && makes_ephemeral(op, request)) {
            local.pending += 1;
            return Some(TxnBody::LocalRequest { op, identities, request });
        }
        local.is_entering = true;
        let body = TxnBody::CreateSession { timeout_ms: local.timeout_ms, password: local.password };
        self.gather.push(&Txn { session, shard, conn, xid: UPGRADE, body });
        Some(TxnBody::Request { op, identities, request })
    }

    /// Wishes of local sessions that no leader has answered are void when there is another one, or none for too long, and
    /// their connections closed: their clients may have been told elsewhere that the session is over, and what is done now
    /// would be done behind what they did since. A session of the state is protected from that by its owner in the state.
    /// With `all` also what waits to be batched: nobody is served any more. One that was to enter the state by them stays a
    /// local one (the simulator, seed 520016).
    pub(super) fn void_locals(&mut self, all: bool) {
        if !self.locals.has_written {
            return;
        }
        let (server, incarnation) = (self.options.server, self.options.incarnation);
        let (sessions, mut void, mut stay) = (&self.locals.sessions, Vec::new(), Vec::new());
        let mut cut: BTreeSet<SessionId> = BTreeSet::new();
        // Its owner's later wishes were dropped for an attach that is void now: it has to come again, too.
        let moves = |session, (shard, conn)| {
            let to = Owner { server, incarnation, shard, conn };
            sessions.get(&session).is_some_and(|local| local.moves_to == Some(to))
        };
        let enters = |session| sessions.get(&session).is_some_and(|local| local.is_entering);
        let mut keep = |txn: &Txn<'_>| {
            let kind = match &txn.body {
                TxnBody::LocalRequest { .. } => AnswerKind::Write,
                TxnBody::CreateSession { .. } if txn.xid == UPGRADE => {
                    stay.push(txn.session);
                    AnswerKind::Write
                }
                TxnBody::Request { .. } if enters(txn.session) => AnswerKind::Write,
                TxnBody::Attach { .. } if sessions.contains_key(&txn.session) => AnswerKind::Handshake,
                _ => return true,
            };
            if kind == AnswerKind::Write || moves(txn.session, (txn.shard, txn.conn)) {
                cut.insert(txn.session);
            }
            void.push(Addressee { shard: txn.shard, conn: txn.conn, xid: txn.xid, kind });
            false
        };
        self.outbox.retain(&mut keep);
        if all {
            self.gather.retain(&mut keep);
        } else if !cut.is_empty() {
            // Nothing is done that was asked behind what is void.
            self.gather.retain(|txn| {
                if txn.xid == UPGRADE && cut.contains(&txn.session) {
                    stay.push(txn.session);
                }
                !cut.contains(&txn.session) || matches!(txn.body, TxnBody::Attach { .. })
            });
        }
        let zxid = self.state.last_zxid();
        let told = void.into_iter().map(|to| Committed {
            zxid,
            changes: Default::default(),
            to: Some(to),
            answer: Answer::Moved,
        });
        self.locals.told.extend(told);
        let nobody = Owner { server, ..Owner::default() };
        for id in cut {
            let Some(local) = self.locals.sessions.get_mut(&id) else { continue };
            local.give_up_attach();
            // It may be a later connection than those whose wishes are void (the simulator, seed 522139462).
            let owner = std::mem::replace(&mut local.owner, nobody);
            if owner != nobody {
                self.tell_moved(owner);
            }
        }
        for id in &stay {
            let Some(local) = self.locals.sessions.get_mut(id) else { continue };
            (local.is_entering, local.may_come_late) = (false, true);
        }
        if mutant::is(Mutant::UpgradeForgotten) {
            self.locals.sessions.retain(|id, _| !stay.contains(id));
        }
        if all {
            // What is still entering waits nowhere: its entry is in what a snapshot has skipped.
            let gone = self.locals.sessions.iter().filter(|(_, local)| local.is_entering);
            let gone: Vec<SessionId> = gone.map(|(id, _)| *id).collect();
            for session in gone {
                self.locals.remove(session);
            }
            let mut left = Vec::new();
            for local in self.locals.sessions.values_mut() {
                // The attach may be in that, too.
                if local.give_up_attach() {
                    left.push(std::mem::replace(&mut local.owner, nobody));
                }
            }
            left.into_iter().filter(|owner| *owner != nobody).for_each(|owner| self.tell_moved(owner));
        }
    }

    /// This server stood still, or knew of no leader, for so long. A client that heard nothing for a third of its session's
    /// time may have gone elsewhere, and heard there that its session is over: what it wished for here is void, and its
    /// connection closed. If it did not, it comes back.
    pub(super) fn detach_locals(&mut self, silent: Millis) {
        let server = self.options.server;
        let is_gone =
            |local: &Local| silent.0.saturating_mul(3) > u64::try_from(local.timeout_ms).unwrap_or(0);
        let nobody = Owner { server, ..Owner::default() };
        let gone: Vec<Owner> = (self.locals.sessions.values_mut())
            .filter(|local| is_gone(local) && local.owner != nobody)
            .map(|local| std::mem::replace(&mut local.owner, nobody))
            .collect();
        if gone.is_empty() {
            return;
        }
        self.void_locals(true);
        gone.into_iter().for_each(|owner| self.tell_moved(owner));
    }

    /// A connection speaks for its session no more: its client comes again.
    fn tell_moved(&mut self, Owner { shard, conn, .. }: Owner) {
        self.locals.told.push(Committed {
            zxid: self.state.last_zxid(),
            changes: Default::default(),
            to: Some(Addressee { shard, conn, xid: Xid(0), kind: AnswerKind::Write }),
            answer: Answer::Moved,
        });
    }

    /// Whether this server's clients may go unread: somebody else, or the disk, keeps their writes waiting. Afterwards each
    /// local session has its full timeout again.
    pub(super) fn locals_wait(&mut self, now: Millis) -> bool {
        let oldest = self.outbox.oldest();
        if oldest.is_none() || oldest != self.locals.oldest.0 {
            self.locals.oldest = (oldest, now);
        }
        let is_late = oldest.is_some() && now.since(self.locals.oldest.1).0 > WAIT_MS;
        let waits = match self.serving {
            Serving::Yes => is_late || self.consensus.leader().is_none(),
            Serving::ReadOnly | Serving::No => false,
        };
        if waits || self.log_stands(now) {
            self.locals.has_waited = true;
        } else if std::mem::take(&mut self.locals.has_waited) {
            self.renew_locals();
        }
        self.locals.has_waited
    }

    /// Its client has closed it.
    pub(super) fn close_local(&mut self, session: SessionId, shard: ShardId, conn: ConnId) {
        let owner = self.owner(shard, conn);
        let speaks = |local: &Local| local.owner == owner && local.moves_to.is_none();
        if self.locals.sessions.get(&session).is_some_and(speaks) {
            self.locals.remove(session);
            // The shards hear how many are left.
            self.tell_local(None, None, Answer::Code(Code::Ok));
        }
    }

    /// Ends those that this server's shards have not heard of for their whole timeout.
    pub(super) fn expire_locals(&mut self, through: Millis) {
        if self.serving == Serving::No {
            return;
        }
        for session in self.locals.expiry.expired(self.clock.at(through)) {
            if let Some(timeout_ms) = self.locals.entering(session) {
                // It is the leader's to end, in a moment.
                self.track_local(session, timeout_ms);
                continue;
            }
            self.end_local(session);
            self.effects.push_back(Effect::Note(Note::SessionExpired { session }));
        }
    }

    fn end_local(&mut self, session: SessionId) {
        let Some(local) = self.locals.remove(session) else { return };
        let closed = Change::SessionClosed(Box::new((session, local.owner)));
        self.tell_local(None, Some(closed), Answer::Code(Code::Ok));
    }

    /// The state was replaced: those that it knows entered it.
    pub(super) fn leave_entered(&mut self) {
        let known = |id: &SessionId| self.state.sessions.get(*id).is_some();
        let entered: Vec<SessionId> = self.locals.sessions.keys().copied().filter(known).collect();
        for session in entered {
            self.locals.remove(session);
        }
    }

    /// No id that the history knows is given again.
    pub(super) fn skip_known_sessions(&mut self) {
        let next = self.gather.next_id();
        self.gather.skip_sessions_of(&self.state);
        if self.gather.next_id() != next {
            // Those that were leapt over an earlier run may have given.
            self.locals.first_id = self.gather.next_id();
        }
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
        self.locals.track(id, timeout_ms, now);
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
            self.publish(told, 0);
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
