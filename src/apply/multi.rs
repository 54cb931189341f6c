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
        let answer = self.all_or_nothing(session, body, identities, stamp);
        self.quotas_before.clear();
        answer
    }

    fn all_or_nothing(
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
        let touched = match item {
            MultiItem::Create(_, create) => &create.path,
            MultiItem::Delete(delete) => &delete.path,
            MultiItem::SetData(set) => &set.path,
            MultiItem::Check(_) | MultiItem::GetData(_) | MultiItem::GetChildren(_) => &None,
        };
        if let Some(path) = touched {
            self.keep_quota(path, stamp);
        }
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

#[cfg(test)]
mod tests {
    use super::super::txn::Options;
    use super::*;
    use crate::ids::{WallMillis, Zxid};
    use crate::tree::PathHasher;
    use crate::wire::{put_buffer, put_i32, AclRef, Delete, IdRef, Perms, SetData};

    enum Op<'a> {
        Create(&'a str, &'a str),
        Set(&'a str, &'a str),
        Delete(&'a str),
    }
    use Op::{Create as Make, Delete as Drop, Set};

    fn body(ops: &[Op<'_>]) -> Vec<u8> {
        let id = IdRef { scheme: Some("world".into()), id: Some("anyone".into()) };
        let open = vec![AclRef { perms: Perms::ALL, id }];
        let mut out = Vec::new();
        let head = |out: &mut Vec<u8>, op: OpCode| put_multi_header(out, op.as_i32(), false, -1);
        for op in ops {
            match *op {
                Make(path, data) => {
                    head(&mut out, OpCode::Create);
                    let (path, data) = (Some(path.into()), Some(data.as_bytes()));
                    Create { path, data, acl: Some(open.clone()), flags: 0, ttl_ms: -1 }
                        .encode(OpCode::Create, &mut out);
                }
                Set(path, data) => {
                    head(&mut out, OpCode::SetData);
                    SetData { path: Some(path.into()), data: Some(data.as_bytes()), version: -1 }
                        .encode(&mut out);
                }
                Drop(path) => {
                    head(&mut out, OpCode::Delete);
                    Delete { path: Some(path.into()), version: -1 }.encode(&mut out);
                }
            }
        }
        put_multi_end(&mut out);
        out
    }

    /// The first that failed, and why.
    fn run(state: &mut State, ops: &[Op<'_>]) -> Option<(usize, Code)> {
        let options = Options { enforce_quota: true, ..Options::default() };
        let stamp = Stamp { zxid: state.last_zxid().next(), wall: WallMillis(1), options };
        let answer = state.on_multi(SessionId(1), &body(ops), &Identities::new(b""), stamp);
        state.flush_usage();
        state.forget_steps();
        let Ok(Answer::Multi(results)) = answer else { panic!("{answer:?}") };
        let failed = |at: usize| failed_results(at, Code::QuotaExceeded, ops.len()) == results;
        (0..ops.len()).find(|at| failed(*at)).map(|at| (at, Code::QuotaExceeded))
    }

    #[test]
    fn each_operation_is_held_against_the_quotas_from_before_the_multi() {
        let limits = "/zookeeper/quota/a/zookeeper_limits";
        let stats = "/zookeeper/quota/a/zookeeper_stats";
        let inner = "/zookeeper/quota/a/b";
        let (inner_limits, inner_stats) =
            (&*format!("{inner}/zookeeper_limits"), &*format!("{inner}/zookeeper_stats"));
        let over = |at| Some((at, Code::QuotaExceeded));
        for (name, room, ops, want) in [
            ("none is left", 2, vec![Make("/a/x", "")], over(0)),
            ("each has the room of one", 3, vec![Make("/a/x", ""), Make("/a/y", "")], None),
            ("more room comes", 2, vec![Set(limits, "countHardLimit=9"), Make("/a/x", "")], over(1)),
            ("less", 3, vec![Set(limits, "countHardLimit=1"), Make("/a/x", "")], None),
            ("the limits go", 2, vec![Drop(limits), Make("/a/x", "")], over(1)),
            (
                "and come back wider",
                2,
                vec![Drop(limits), Make(limits, "countHardLimit=9"), Make("/a/x", "")],
                over(2),
            ),
            ("the usage goes", 2, vec![Drop(stats), Make("/a/x", "")], over(1)),
            ("it is written", 2, vec![Set(stats, "count=0"), Make("/a/x", "")], over(1)),
            (
                "a quota within it comes",
                2,
                vec![
                    Make(inner, ""),
                    Make(inner_limits, "countHardLimit=9"),
                    Make(inner_stats, ""),
                    Make("/a/b/x", ""),
                ],
                over(3),
            ),
            (
                "and would refuse",
                3,
                vec![
                    Make(inner, ""),
                    Make(inner_limits, "countHardLimit=0"),
                    Make(inner_stats, ""),
                    Make("/a/b/x", ""),
                ],
                None,
            ),
        ] {
            let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
            let set_up = [
                Make("/a", ""),
                Make("/a/b", ""),
                Make("/zookeeper/quota/a", ""),
                Make(limits, &format!("countHardLimit={room}")),
                Make(stats, ""),
            ];
            assert_eq!(run(&mut state, &set_up), None);
            assert_eq!(run(&mut state, &ops), want, "{name}");
            assert!(state.quotas_before.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_a_multi_has_set_counts_from_its_end_on() {
        let limits = "/zookeeper/quota/a/zookeeper_limits";
        let stats = "/zookeeper/quota/a/zookeeper_stats";
        let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
        let quota = [Make("/zookeeper/quota/a", ""), Make(limits, "countHardLimit=1"), Make(stats, "")];
        assert_eq!(run(&mut state, &[Make("/a", "")]), None);
        assert_eq!(run(&mut state, &quota), None);
        assert_eq!(run(&mut state, &[Make("/a/x", "")]), Some((0, Code::QuotaExceeded)));
        assert_eq!(run(&mut state, &[Set(limits, "countHardLimit=2")]), None);
        assert_eq!(run(&mut state, &[Make("/a/x", "")]), None);
    }

    #[test]
    fn an_acl_with_a_count_below_null_is_refused() {
        let mut body = Vec::new();
        put_multi_header(&mut body, OpCode::Create.as_i32(), false, -1);
        put_string(&mut body, "/a");
        put_buffer(&mut body, None);
        put_i32(&mut body, -2);
        put_i32(&mut body, 0);
        put_multi_end(&mut body);
        let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
        let stamp = Stamp { zxid: Zxid(1), wall: WallMillis(1), options: Options::default() };
        let answer = state.on_multi(SessionId(1), &body, &Identities::new(b""), stamp);
        assert!(matches!(answer, Err(Code::MarshallingError)), "{answer:?}");
    }
}
