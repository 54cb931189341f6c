//! Sessions are made, attached and closed by entries of the log, so that every server agrees who may speak.

use super::state::{Stamp, State};
use crate::error::Code;
use crate::ids::{Owner, SessionId};
use crate::mutant::{self, Mutant};
use crate::session::{Password, Session};
use crate::tree::{path, Answer, Attached, Change, Granted, Node};

impl State {
    pub(super) fn create_session(
        &mut self,
        id: SessionId,
        timeout_ms: i32,
        password: Password,
        owner: Owner,
    ) -> Answer {
        if self.sessions.get(id).is_some() {
            return Answer::SessionRefused;
        }
        self.sessions.insert(id, Session { timeout_ms, password, owner });
        self.changes.push(Change::Attached(Box::new(Attached { session: id, old: None, new: owner })));
        Answer::Session(Box::new(Granted { id, timeout_ms, password, is_local: false }))
    }

    /// The password is checked first: a wrong one disturbs nobody (chapter 17).
    pub(super) fn attach(&mut self, id: SessionId, timeout_ms: i32, password: &[u8], owner: Owner) -> Answer {
        let Some(session) = self.sessions.get_mut(id) else { return Answer::SessionRefused };
        let differs = password.len() != session.password.len()
            || password.iter().zip(&session.password).fold(0, |d, (a, b)| d | (a ^ b)) != 0;
        if differs {
            return Answer::SessionRefused;
        }
        let old = session.owner;
        session.owner = owner;
        session.timeout_ms = timeout_ms;
        let password = session.password;
        self.changes.push(Change::Attached(Box::new(Attached { session: id, old: Some(old), new: owner })));
        Answer::Session(Box::new(Granted { id, timeout_ms, password, is_local: false }))
    }

    /// The session's end, by its client or by expiry: its ephemerals go in one transaction, in the order in which
    /// ZooKeeper lists them.
    pub(super) fn close_session(&mut self, id: SessionId, stamp: Stamp) -> Answer {
        let Some(session) = self.sessions.remove(id) else { return Answer::Code(Code::SessionExpired) };
        let paths = self.table.ephemerals(id).into_iter().flatten();
        let paths = paths.filter(|_| !mutant::is(Mutant::EphemeralsStay));
        let mut nodes: Vec<Node> = paths
            .map(|path| self.node(path.as_str()).expect("a session's ephemerals are in the tree"))
            .collect();
        let (kept, copied) = java_buckets(nodes.len());
        nodes.sort_by_cached_key(|node| {
            let hash = java_hash(node.path.as_str());
            (hash & (copied - 1), hash & (kept - 1), node.czxid, node.path.clone())
        });
        for node in nodes {
            let path = node.path.clone();
            let parent = path::parent(path.as_str()).expect("an ephemeral is not the root");
            let parent = self.node(parent).expect("every znode but the root has a parent");
            self.take_out(&node, &parent, stamp);
        }
        self.changes.push(Change::SessionClosed(Box::new((id, session.owner))));
        Answer::Code(Code::Ok)
    }
}

/// How many buckets Java gives a HashSet that grew to `n` strings, and its copy. ZooKeeper deletes a session's
/// ephemerals in the order of a copy: by bucket, and within one in the order of the set that was copied. A client that
/// watches two of them sees it; nothing promises it, so it costs nothing to keep it.
fn java_buckets(n: usize) -> (u32, u32) {
    let n = u32::try_from(n).unwrap_or(u32::MAX / 2);
    let kept = (n.saturating_mul(4).div_ceil(3)).next_power_of_two().max(16);
    let copied = ((n as f32 / 0.75 + 1.0) as u32).next_power_of_two();
    (kept, copied)
}

/// A string's hash as Java's HashMap spreads it.
fn java_hash(text: &str) -> u32 {
    let hash =
        text.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemerals_go_in_the_order_that_was_seen_on_zookeeper() {
        assert_eq!(java_hash("/a"), 1554);
        assert_eq!(java_buckets(3), (16, 8));
        assert_eq!(java_buckets(12), (16, 32));
        assert_eq!(java_buckets(13), (32, 32));
        // Seen on 3.9.5: one bucket of the copy, two of the set.
        let seen = ["/dt7/r/c0000000004", "/dt7/r/d/a0000000002", "/dt7/r/c/b0000000000"];
        let place = |path| (java_hash(path) & 7, java_hash(path) & 15);
        assert_eq!(seen.map(place), [(3, 3), (3, 3), (3, 11)]);
    }
}
