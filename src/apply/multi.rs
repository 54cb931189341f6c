//! multi: all or nothing at one zxid.

use super::create::{Mode, CONTAINER_FLAG};
use super::state::{Stamp, State};
use super::txn::Identities;
use crate::error::Code;
use crate::ids::SessionId;
use crate::tree::{Answer, Node};
use crate::wire::{
    put_multi_end, put_multi_error, put_multi_header, put_string, Create, MultiItem, MultiReader, OpCode,
};

/// What one operation of a multi did.
enum Done {
    Created(OpCode, Node),
    Deleted,
    Set(Node),
    Checked,
}

impl State {
    /// An undecodable or unsupported operation refuses the whole (C10); a failed one rolls all back, and the
    /// header still says 0 (TR02).
    pub(super) fn on_multi(
        &mut self,
        session: SessionId,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Answer, Code> {
        let count = count_items(body)?;
        let mut done: Vec<Done> = Vec::with_capacity(count.min(64));
        let mut items = MultiReader::new(OpCode::Multi, body);
        while let Some(item) = items.next_item().map_err(|_| Code::MarshallingError)? {
            match self.multi_item(session, &item, identities, stamp) {
                Ok(result) => done.push(result),
                // As a record that does not decode: seen with an ACL entry whose id is null.
                Err(Code::MarshallingError) => return Err(Code::MarshallingError),
                Err(code) => {
                    let at = done.len();
                    self.roll_back();
                    return Ok(Answer::Multi(failed_results(at, code, count)));
                }
            }
        }
        Ok(Answer::Multi(results(&done)))
    }

    fn multi_item(
        &mut self,
        session: SessionId,
        item: &MultiItem<'_>,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Done, Code> {
        match item {
            MultiItem::Create(op, create) => {
                let (op, ttl_ms) = meant(*op, create);
                let create = Create { ttl_ms, ..create.clone() };
                self.create(op, session, &create, identities, stamp).map(|node| Done::Created(op, node))
            }
            MultiItem::Delete(delete) => self.delete(delete, identities, stamp).map(|()| Done::Deleted),
            MultiItem::SetData(set) => self.set_data(set, identities, stamp).map(Done::Set),
            MultiItem::Check(check) => self.check(check, identities, stamp).map(|()| Done::Checked),
            MultiItem::GetData(_) | MultiItem::GetChildren(_) => Err(Code::MarshallingError),
        }
    }
}

/// Walks the whole before anything is done: what does not decode refuses all of it.
fn count_items(body: &[u8]) -> Result<usize, Code> {
    let mut items = MultiReader::new(OpCode::Multi, body);
    let mut count = 0;
    while let Some(item) = items.next_item().map_err(|_| Code::MarshallingError)? {
        if let MultiItem::Create(op, create) = &item {
            check_create_shape(*op, create)?;
        }
        count += 1;
    }
    Ok(count)
}

/// In a multi, a flag that is no mode, a TTL flag without a ttl, and a null ACL of a plain create are the decoder's errors.
fn check_create_shape(op: OpCode, create: &Create<'_>) -> Result<(), Code> {
    if op == OpCode::CreateTtl {
        // Whatever its flags and its ACL are, they are judged one by one.
        return Ok(());
    }
    if create.acl.is_none() {
        return Err(Code::MarshallingError);
    }
    match Mode::from_flags(create.flags) {
        Some(mode) if !mode.ttl => Ok(()),
        _ => Err(Code::MarshallingError),
    }
}

/// In a multi ZooKeeper 3.9 takes the kind of znode from the flags as much as from the operation (observed): the
/// container flag makes a container whatever brought it, and createTTL without a TTL flag forgets its ttl.
fn meant(op: OpCode, create: &Create<'_>) -> (OpCode, i64) {
    let mode = Mode::from_flags(create.flags);
    match (op, mode) {
        (OpCode::CreateTtl, Some(mode)) if mode.ttl => (op, create.ttl_ms),
        (OpCode::CreateTtl, None) => (op, create.ttl_ms),
        (OpCode::CreateContainer, _) => (op, -1),
        _ if create.flags == CONTAINER_FLAG => (OpCode::CreateContainer, -1),
        (OpCode::CreateTtl, _) => (OpCode::Create, -1),
        _ => (op, -1),
    }
}

fn results(done: &[Done]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(done.len() * 100 + 9);
    for one in done {
        match one {
            Done::Created(OpCode::Create, node) => {
                put_multi_header(&mut out, OpCode::Create.as_i32(), false, 0);
                put_string(&mut out, node.path.as_str());
            }
            // TR03: whatever made it, a path with a Stat is a create2 result.
            Done::Created(_, node) => {
                put_multi_header(&mut out, OpCode::Create2.as_i32(), false, 0);
                put_string(&mut out, node.path.as_str());
                node.stat().encode(&mut out);
            }
            Done::Deleted => put_multi_header(&mut out, OpCode::Delete.as_i32(), false, 0),
            Done::Set(node) => {
                put_multi_header(&mut out, OpCode::SetData.as_i32(), false, 0);
                node.stat().encode(&mut out);
            }
            Done::Checked => put_multi_header(&mut out, OpCode::Check.as_i32(), false, 0),
        }
    }
    put_multi_end(&mut out);
    out.into_boxed_slice()
}

/// TR02: zero before the failure, its code, RuntimeInconsistency after it.
fn failed_results(at: usize, code: Code, count: usize) -> Box<[u8]> {
    let mut out = Vec::with_capacity(count * 13 + 9);
    for n in 0..count {
        put_multi_error(
            &mut out,
            match n.cmp(&at) {
                std::cmp::Ordering::Less => Code::Ok,
                std::cmp::Ordering::Equal => code,
                std::cmp::Ordering::Greater => Code::RuntimeInconsistency,
            },
        );
    }
    put_multi_end(&mut out);
    out.into_boxed_slice()
}
