//! A session's frames: what is proposed, what is answered here, what is refused.

use super::connection::{Connection, Phase};
use super::pending::Pending;
use super::{Shard, Why};
use crate::auth::{is_authenticated, Refused};
use crate::error::Code;
use crate::handoff::Wish;
use crate::ids::{Millis, Xid, Zxid};
use crate::mutant::{self, Mutant};
use crate::tree::quota;
use crate::wire::{
    begin_frame, end_frame, java_text, put_buffer, put_i32, reply_header, AclRef, AuthPacket, Create, Delete,
    MultiItem, MultiReader, OpCode, Reader, Reconfig, RequestHeader, SetAcl, SetData, NO_ZXID,
};
use std::collections::BTreeSet;

/// What the entries of the scheme `auth` of one request may become in memory. Ten such entries of a connection with as many
/// identities as it may have are less. Without a limit for all lists together a multi of a megabyte became a gigabyte, on every
/// server and in each snapshot (a review). Equal lists are stored once, and count once; a long request may have more of them.
const EXPANDED_BYTES_MAX: usize = 256 << 10;
/// And as many times its own length.
const EXPANDED_MAX: usize = 4;
/// About what an entry takes beside its text.
const ENTRY_BYTES: usize = 96;

/// Each usage znode that comes walks its subject's whole tree, on every server: a multi of a megabyte could have eight thousand.
const RECOUNTS_MAX: usize = 16;

fn auth_entries(acl: &[AclRef<'_>]) -> usize {
    acl.iter().filter(|entry| entry.id.scheme.as_deref() == Some("auth")).count()
}

/// The identities of a connection that such an entry stands for.
fn proved(c: &Connection) -> usize {
    c.identities.iter().filter(|id| is_authenticated(&id.scheme)).count()
}

impl Shard {
    pub(super) fn handle_frame(&mut self, now: Millis, c: &mut Connection, frame: &[u8]) {
        // A connection with queued events gets them before its next frame is looked at.
        self.settle(c);
        if c.is_done() {
            return;
        }
        let Ok((header, body)) = RequestHeader::decode(frame) else { return self.cut(c, Why::BadLength) };
        c.received += 1;
        self.stats.packets_received += 1;
        self.heard_of(c, now);
        let known = OpCode::from_i32(header.op);
        // Whatever is asked, known or not: ZooKeeper looks at this before it looks at anything else.
        if self.lacks_required_identity(c, known) {
            let reply = header_reply(header.xid, Zxid(0), Code::SessionClosedRequireSaslAuth);
            self.note_cut(c, Why::AuthRequired);
            return self.say(c, now, reply, true);
        }
        if self.read_only && known.is_some_and(OpCode::needs_a_leader) {
            return self.refuse(c, now, header.xid, Code::NotReadOnly);
        }
        let op = known.filter(|op| is_a_clients(*op));
        c.last_op = op;
        if header.xid.0 >= 0 {
            c.last_xid = header.xid;
        }
        let Some(op) = op else { return self.refuse_unknown(now, c, header.xid) };
        match op {
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig => self.handle_write(now, c, header.xid, op, body),
            OpCode::CloseSession => self.handle_close(now, c, frame, header.xid, body),
            OpCode::Sync => self.handle_sync(now, c, header.xid, body),
            OpCode::Auth => self.handle_auth(now, c, header.xid, body),
            OpCode::Sasl => self.handle_sasl(now, c, header.xid, body),
            _ => {
                self.put_barrier(c, op);
                let is_long = self.is_long(c, op, body);
                if !is_long && (c.pending.is_empty() || mutant::is(Mutant::ReadOvertakesWrite)) {
                    return self.handle_read(now, c, header.xid, op, body, now);
                }
                self.wait(c, Pending::Deferred { frame: frame.into(), since: now, is_long });
                c.has_long = is_long;
                if is_long && c.pending.len() == 1 {
                    self.queue_long(c);
                }
            }
        }
    }

    pub(super) fn handle_deferred(&mut self, now: Millis, c: &mut Connection, frame: &[u8], since: Millis) {
        let (header, body) =
            RequestHeader::decode(frame).expect("a deferred frame was decoded before it waited");
        let op = OpCode::from_i32(header.op).expect("a deferred frame's operation was known");
        if op == OpCode::CloseSession {
            return self.close_now(now, c, header.xid, body);
        }
        self.handle_read(now, c, header.xid, op, body, since);
    }

    /// A local session's end takes its turn behind what was asked before; nobody but the sequencer is told of it.
    fn handle_close(&mut self, now: Millis, c: &mut Connection, frame: &[u8], xid: Xid, body: &[u8]) {
        if !c.is_local {
            return self.handle_write(now, c, xid, OpCode::CloseSession, body);
        }
        c.phase = Phase::Closing;
        if c.pending.is_empty() {
            return self.close_now(now, c, xid, body);
        }
        self.wait(c, Pending::Deferred { frame: frame.into(), since: now, is_long: false });
    }

    /// What stood in front may have made the session one of the state.
    fn close_now(&mut self, now: Millis, c: &mut Connection, xid: Xid, body: &[u8]) {
        if !c.is_local {
            return self.handle_write(now, c, xid, OpCode::CloseSession, body);
        }
        self.propose(c, xid, Wish::CloseLocal);
        self.stats.writes += 1;
        self.say(c, now, header_reply(xid, self.last_zxid, Code::Ok), true);
    }

    fn handle_write(&mut self, now: Millis, c: &mut Connection, xid: Xid, op: OpCode, body: &[u8]) {
        if let Some(code) = self.over_limit(c, op, body) {
            return self.refuse(c, now, xid, code);
        }
        let is_behind_sync = c.syncs_under_way > 0 && !mutant::is(Mutant::WriteOvertakesSync);
        if is_behind_sync || c.reconfig_under_way {
            let (identities, request) = (c.identities_encoded.as_slice().into(), body.into());
            self.wait(c, Pending::Held { xid, op, since: now, identities, request });
        } else {
            let identities = self.carry(&c.identities_encoded);
            let request = self.carry(body);
            self.propose(c, xid, Wish::Write { op: op.as_i32(), identities, request });
            let bytes = c.identities_encoded.len() + body.len();
            c.reconfig_under_way |= op == OpCode::Reconfig;
            self.wait(c, Pending::Write { xid, op, since: now, bytes });
        }
        self.stats.writes += 1;
        if op == OpCode::CloseSession {
            c.phase = Phase::Closing;
        }
    }

    /// What is refused before it is sent up: a record that does not decode (observed on 3.9.5: it takes no zxid,
    /// except a malformed multi, which does unless only an ACL in it is null), a multi or an ACL of absurd length.
    fn over_limit(&self, c: &Connection, op: OpCode, body: &[u8]) -> Option<Code> {
        let judge_acl = |acl: Option<Vec<AclRef<'_>>>| {
            let is_too_long =
                |acl: Vec<_>| self.has_too_many(c, &acl) || self.expanded(c, &acl) > EXPANDED_BYTES_MAX;
            acl.is_some_and(is_too_long).then_some(Code::InvalidAcl)
        };
        match op {
            OpCode::Multi => self.over_multi_limit(c, body),
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                match Create::decode(op, body) {
                    Err(_) => Some(Code::MarshallingError),
                    Ok(create) => judge_acl(create.acl),
                }
            }
            OpCode::SetAcl => match SetAcl::decode(body) {
                Err(_) => Some(Code::MarshallingError),
                Ok(set) => judge_acl(set.acl),
            },
            OpCode::SetData => SetData::decode(body).err().map(|_| Code::MarshallingError),
            OpCode::Delete => Delete::decode(body).err().map(|_| Code::MarshallingError),
            OpCode::Reconfig => Reconfig::decode(body).err().map(|_| Code::MarshallingError),
            _ => None,
        }
    }

    /// Counted as it would be stored: an entry of the scheme `auth` becomes one for each identity that was proved. 16 KB of
    /// them were 63,000 entries, which every judgement walks through.
    fn has_too_many(&self, c: &Connection, acl: &[AclRef<'_>]) -> bool {
        let auth = auth_entries(acl);
        acl.len() - auth + auth * proved(c).max(1) > self.options.acl_entries_max
    }

    /// About what the entries of the scheme `auth` take when they are stored.
    fn expanded(&self, c: &Connection, acl: &[AclRef<'_>]) -> usize {
        auth_entries(acl) * (c.identities_encoded.len() + proved(c) * ENTRY_BYTES)
    }

    /// ZooKeeper 3.9 decodes a multi item by item and ends at the first that it cannot make. Where that is a null ACL the
    /// multi takes no zxid, so it is refused here; any other fault takes one, so the multi is sent up (observed).
    fn over_multi_limit(&self, c: &Connection, body: &[u8]) -> Option<Code> {
        let mut items = MultiReader::new(OpCode::Multi, body);
        let mut count = 0;
        let (mut reads, mut recounts, mut expanded) = (None, 0, 0);
        let mut known = BTreeSet::new();
        let expanded_max = EXPANDED_BYTES_MAX.max(EXPANDED_MAX * body.len());
        while let Some(item) = items.next_of_any_kind().ok()? {
            count += 1;
            if count > self.options.multi_ops_max {
                return Some(Code::BadArguments);
            }
            let MultiItem::Create(op, create) = &item else {
                if *reads.get_or_insert(item.is_read()) != item.is_read() {
                    return None;
                }
                continue;
            };
            let is_recount = |path: &str| quota::subject(path, quota::STATS).is_some();
            recounts += usize::from(create.path.as_deref().is_some_and(is_recount));
            if recounts > RECOUNTS_MAX {
                return Some(Code::BadArguments);
            }
            let is_plain = *op != OpCode::CreateTtl;
            if is_plain && !(0..=6).contains(&create.flags) {
                return None;
            }
            match &create.acl {
                None if is_plain => return Some(Code::MarshallingError),
                // Stored once, however many znodes have it.
                Some(acl) if known.contains(acl) => {}
                Some(acl) => {
                    let bytes = self.expanded(c, acl);
                    expanded += bytes;
                    if self.has_too_many(c, acl) || expanded > expanded_max {
                        return Some(Code::InvalidAcl);
                    }
                    if bytes > 0 {
                        known.insert(acl.clone());
                    }
                }
                None => {}
            }
            // 5 and 6 want a ttl, which a plain create does not bring.
            let is_mixed = *reads.get_or_insert(false);
            if is_mixed || is_plain && create.flags > 4 {
                return None;
            }
        }
        None
    }

    /// The path is echoed as it came: null, malformed or of no znode (chapter 3.9).
    fn handle_sync(&mut self, now: Millis, c: &mut Connection, xid: Xid, body: &[u8]) {
        let Ok(raw) = Reader::new(body).buffer() else {
            return self.refuse(c, now, xid, Code::MarshallingError);
        };
        let mut path = Vec::with_capacity(body.len());
        put_buffer(&mut path, raw.map(java_text).as_deref());
        self.propose(c, xid, Wish::Sync);
        self.wait(c, Pending::Sync { xid, path: Some(path.into()), since: now, done: false });
        c.syncs_under_way += 1;
    }

    /// Takes effect at once, for the requests behind it in the stream; the reply keeps its turn (TR17).
    fn handle_auth(&mut self, now: Millis, c: &mut Connection, xid: Xid, body: &[u8]) {
        // As in ZooKeeper: what does not decode closes the connection, a null text proves nothing.
        let Ok(packet) = AuthPacket::decode(body) else { return self.cut(c, Why::AuthFailed) };
        let scheme = packet.scheme.as_deref().unwrap_or_default();
        let proved = match packet.auth {
            None if scheme != "ip" => Err(Refused),
            auth => self.options.schemes.authenticate(scheme, auth.unwrap_or_default()),
        };
        match proved {
            Ok(identities) if c.has_room_for(&identities, self.options.identities_max) => {
                for id in identities {
                    c.add_identity(id);
                }
                self.say(c, now, header_reply(xid, Zxid(0), Code::Ok), false);
            }
            _ => self.refuse_auth(now, c, header_reply(xid, Zxid(0), Code::AuthFailed)),
        }
    }

    /// No SASL mechanism is configured: refused as ZooKeeper refuses a failed one, with a null token.
    fn handle_sasl(&mut self, now: Millis, c: &mut Connection, xid: Xid, body: &[u8]) {
        if Reader::new(body).buffer().is_err() {
            return self.cut(c, Why::AuthFailed);
        }
        let mut reply = Vec::with_capacity(24);
        let start = begin_frame(&mut reply);
        reply_header(&mut reply, xid, Zxid(0), Code::AuthFailed);
        put_i32(&mut reply, -1);
        end_frame(&mut reply, start);
        self.refuse_auth(now, c, reply);
    }

    fn refuse_auth(&mut self, now: Millis, c: &mut Connection, reply: Vec<u8>) {
        self.stats.auth_failed += 1;
        self.note_cut(c, Why::AuthFailed);
        self.say(c, now, reply, true);
        c.phase = if c.is_done() { c.phase } else { Phase::Closing };
    }

    /// TR18: Unimplemented, then the connection closes.
    fn refuse_unknown(&mut self, now: Millis, c: &mut Connection, xid: Xid) {
        self.note_cut(c, Why::UnknownOperation);
        self.say(c, now, header_reply(xid, NO_ZXID, Code::Unimplemented), true);
        c.phase = if c.is_done() { c.phase } else { Phase::Closing };
    }

    fn note_cut(&mut self, c: &Connection, why: Why) {
        self.stats.cut += 1;
        self.notes.push_back(super::Note::Cut { peer: c.peer, why });
    }

    fn lacks_required_identity(&self, c: &Connection, op: Option<OpCode>) -> bool {
        let Some(schemes) = &self.options.required_schemes else { return false };
        !matches!(op, Some(OpCode::Auth | OpCode::Sasl | OpCode::CloseSession))
            && !c.identities.iter().any(|id| schemes.contains(&id.scheme))
    }
}

/// Whether a client may ask for it. check stands only in a multi; the server's own operations are nobody else's
/// (chapter 17).
fn is_a_clients(op: OpCode) -> bool {
    !matches!(op, OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession)
}

/// A framed reply that is a header alone.
pub(super) fn header_reply(xid: Xid, zxid: Zxid, code: Code) -> Vec<u8> {
    let mut reply = Vec::with_capacity(20);
    let start = begin_frame(&mut reply);
    reply_header(&mut reply, xid, zxid, code);
    end_frame(&mut reply, start);
    reply
}
