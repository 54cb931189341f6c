//! The numbers of access control lists: given in their order, and behind the last one those again that are free.
//!
//! Every transaction that brings a list takes a number, even one that fails: who locks and unlocks with an ACL of their
//! own, or sends multis that fail, comes to the end of them. A number depends on the lists that are there and on the one
//! given before, and both are in a snapshot: all servers give the same.

use crate::tree::AclId;
use std::collections::BTreeMap;

/// The first number from `next` on that is not taken, or else the first of all. What is taken is passed over once a round,
/// for the next search begins behind what this one finds.
pub(super) fn free<T>(taken: &BTreeMap<AclId, T>, next: AclId) -> AclId {
    if !taken.contains_key(&next) {
        return next;
    }
    let free = free_from(taken, next).or_else(|| free_from(taken, AclId::FIRST_FREE));
    free.expect("2^32 lists at once, each with a znode, fit into no memory")
}

/// The number after this one.
pub(super) fn behind(id: AclId) -> AclId {
    id.0.checked_add(1).map_or(AclId::FIRST_FREE, AclId)
}

fn free_from<T>(taken: &BTreeMap<AclId, T>, from: AclId) -> Option<AclId> {
    let mut free = from;
    for (id, _) in taken.range(from..) {
        if *id != free {
            break;
        }
        free = AclId(free.0.checked_add(1)?);
    }
    Some(free)
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::super::txn::{BatchHeader, BatchWriter, Options, Txn, TxnBody};
    use super::*;
    use crate::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid};
    use crate::tree::{Change, PathHasher, Table};
    use crate::wire::{
        put_multi_end, put_multi_header, AclRef, Create, Delete, IdRef, OpCode, Perms, SetAcl,
    };

    #[test]
    fn what_is_taken_is_passed_over_and_behind_the_last_comes_the_first() {
        const MAX: u32 = u32::MAX;
        for (taken, next, want) in [
            (&[][..], 2, 2),
            (&[2, 3, 5], 2, 4),
            (&[2, 3, 5], 4, 4),
            (&[2, 3, 5], 5, 6),
            (&[2, 3, 5], MAX, MAX),
            (&[2, 3, MAX], MAX, 4),
            (&[3, MAX - 1, MAX], MAX - 1, 2),
            (&[2, MAX - 2, MAX], MAX - 2, MAX - 1),
        ] {
            let map = taken.iter().map(|id| (AclId(*id), ())).collect();
            assert_eq!(free(&map, AclId(next)), AclId(want), "{next} of {taken:?}");
        }
        assert_eq!([behind(AclId(2)), behind(AclId(MAX))], [AclId(3), AclId::FIRST_FREE]);
    }

    /// A state, and a table that is fed its changes alone, as a shard's is.
    struct Pair {
        state: State,
        shard: Table,
        /// Sent with the next commit, each a transaction.
        asked: Vec<(OpCode, Vec<u8>)>,
    }

    fn acl(who: u32) -> Vec<AclRef<'static>> {
        let id = IdRef { scheme: Some("digest".into()), id: Some(format!("{who}:x").into()) };
        vec![AclRef { perms: Perms::ALL, id }]
    }

    fn create(path: &str, who: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Create { path: Some(path.into()), data: Some(b""), acl: Some(acl(who)), flags: 0, ttl_ms: -1 }
            .encode(OpCode::Create, &mut out);
        out
    }

    fn delete(path: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Delete { path: Some(path.into()), version: -1 }.encode(&mut out);
        out
    }

    fn set_acl(path: &str, who: u32) -> Vec<u8> {
        let mut out = Vec::new();
        SetAcl { path: Some(path.into()), acl: Some(acl(who)), version: -1 }.encode(&mut out);
        out
    }

    fn multi(ops: &[(OpCode, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (op, body) in ops {
            put_multi_header(&mut out, op.as_i32(), false, -1);
            out.extend(body);
        }
        put_multi_end(&mut out);
        out
    }

    impl Pair {
        fn new() -> Pair {
            let hasher = || PathHasher::new([1, 2, 3, 4]);
            let state = State::new(hasher());
            let mut shard = Table::new(hasher());
            state.table.nodes().iter().for_each(|node| shard.insert(node.clone()));
            Pair { state, shard, asked: Vec::new() }
        }

        fn ask(&mut self, op: OpCode, body: Vec<u8>) {
            self.asked.push((op, body));
        }

        /// One batch. Its changes go to the shard when all of it is applied.
        fn commit(&mut self) {
            // Everything is allowed, so that what is asked depends on no list.
            let options = Options { skip_acl: true, ..Options::default() };
            let mut writer = BatchWriter::new(0);
            let asked = std::mem::take(&mut self.asked);
            for (op, request) in &asked {
                let body = TxnBody::LocalRequest { op: op.as_i32(), identities: b"", request };
                let (shard, conn) = (ShardId(0), ConnId(1));
                writer.push(&Txn { session: SessionId(1), shard, conn, xid: Xid(1), body });
            }
            let header = BatchHeader {
                options,
                wall: WallMillis(1),
                first_zxid: self.state.last_zxid().next(),
                server: ServerId(1),
                incarnation: 1,
                sequence: 0,
            };
            let mut changes: Vec<Change> = Vec::new();
            let bytes = writer.finish(&header);
            assert!(self.state.apply_batch(&bytes, |_, outcome| changes.extend(outcome.changes)).unwrap());
            changes.iter().for_each(|change| self.shard.install(change));
            let lists = |table: &Table| format!("{:?}", table.acls.iter().collect::<Vec<_>>());
            assert_eq!(lists(&self.state.table), lists(&self.shard));
        }

        fn number(&self, path: &str) -> u32 {
            self.state.table.get(path).unwrap_or_else(|| panic!("{path} is missing")).acl.0
        }

        fn list_of(&self, path: &str) -> String {
            let node = self.shard.get(path).unwrap_or_else(|| panic!("{path} is missing"));
            self.shard.acls.list(node.acl)[0].id.id.to_string()
        }
    }

    #[test]
    fn no_living_list_loses_its_number_when_they_go_round() {
        let mut pair = Pair::new();
        for n in 0..3 {
            pair.ask(OpCode::Create, create(&format!("/old{n}"), n));
        }
        pair.commit();
        pair.state.set_next_acl(AclId(u32::MAX - 1));
        for n in 0..4 {
            pair.ask(OpCode::Create, create(&format!("/new{n}"), 100 + n));
        }
        pair.commit();
        let numbers = |pair: &Pair, of: &str, count| -> Vec<u32> {
            (0..count).map(|n| pair.number(&format!("/{of}{n}"))).collect()
        };
        assert_eq!(numbers(&pair, "old", 3), [2, 3, 4]);
        assert_eq!(numbers(&pair, "new", 4), [u32::MAX - 1, u32::MAX, 5, 6]);
        for (of, count, first) in [("old", 3, 0), ("new", 4, 100)] {
            for n in 0..count {
                assert_eq!(pair.list_of(&format!("/{of}{n}")), format!("{}:x", first + n));
            }
        }
    }

    #[test]
    fn a_number_dropped_in_a_batch_is_another_lists_in_the_same() {
        let mut pair = Pair::new();
        pair.ask(OpCode::Create, create("/a", 1));
        pair.commit();
        pair.state.set_next_acl(AclId(u32::MAX));
        // Still taken while the transaction runs that leaves it; free for the one behind.
        pair.ask(OpCode::SetAcl, set_acl("/a", 2));
        pair.ask(OpCode::SetAcl, set_acl("/a", 3));
        pair.ask(OpCode::Create, create("/b", 4));
        pair.commit();
        assert_eq!((pair.number("/a"), pair.number("/b")), (2, 3));
        assert_eq!((pair.list_of("/a"), pair.list_of("/b")), ("3:x".into(), "4:x".into()));
        pair.state.set_next_acl(AclId(2));
        let both = [(OpCode::Delete, delete("/a")), (OpCode::Create, create("/a", 5))];
        pair.ask(OpCode::Multi, multi(&both));
        pair.commit();
        assert_eq!((pair.number("/a"), pair.list_of("/a")), (4, "5:x".into()), "2 and 3 were taken");
    }

    #[test]
    fn a_multi_that_fails_takes_no_number_from_a_living_list() {
        let mut pair = Pair::new();
        pair.ask(OpCode::Create, create("/a", 1));
        pair.ask(OpCode::Create, create("/b", 2));
        pair.commit();
        pair.state.set_next_acl(AclId(u32::MAX - 1));
        let mut ops = vec![(OpCode::Delete, delete("/a"))];
        ops.extend((0..10).map(|n| (OpCode::Create, create(&format!("/c{n}"), 10 + n))));
        ops.push((OpCode::Delete, delete("/absent")));
        for _ in 0..2 {
            pair.ask(OpCode::Multi, multi(&ops));
        }
        pair.ask(OpCode::Create, create("/d", 3));
        pair.commit();
        assert_eq!(["/a", "/b"].map(|path| pair.number(path)), [2, 3]);
        assert_eq!(["/a", "/b", "/d"].map(|path| pair.list_of(path)), ["1:x", "2:x", "3:x"]);
        // Two went to the end, eight and then ten behind the living two.
        assert_eq!(pair.number("/d"), 4 + 8 + 10);
        assert_eq!(pair.state.table.acls.iter().count(), 2 + 3);
    }
}
