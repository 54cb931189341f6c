//! Sessions are made, attached and closed by entries of the log, so that every server agrees who may speak.

use super::state::{Stamp, State};
use crate::error::Code;
use crate::ids::{Owner, SessionId};
use crate::session::{Password, Session};
use crate::tree::{path, Answer, Change, Node};

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
        self.changes.push(Change::Attached { session: id, old: None, new: owner });
        Answer::Session { id, timeout_ms, password }
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
        self.changes.push(Change::Attached { session: id, old: Some(old), new: owner });
        Answer::Session { id, timeout_ms, password }
    }

    /// The session's end, by its client or by expiry: its ephemerals go in one transaction, in the order in which
    /// ZooKeeper lists them.
    pub(super) fn close_session(&mut self, id: SessionId, stamp: Stamp) -> Answer {
        let Some(session) = self.sessions.remove(id) else { return Answer::Code(Code::SessionExpired) };
        let paths = self.table.ephemerals(id).into_iter().flatten();
        let mut nodes: Vec<Node> = paths
            .map(|path| self.node(path.as_str()).expect("a session's ephemerals are in the tree"))
            .collect();
        let buckets = java_buckets(nodes.len());
        nodes.sort_by_cached_key(|node| {
            (java_bucket(node.path.as_str(), buckets), node.czxid, node.path.clone())
        });
        for node in nodes {
            let path = node.path.clone();
            let parent = path::parent(path.as_str()).expect("an ephemeral is not the root");
            let parent = self.node(parent).expect("every znode but the root has a parent");
            self.take_out(&node, &parent, stamp);
        }
        self.changes.push(Change::SessionClosed { session: id, owner: session.owner });
        Answer::Code(Code::Ok)
    }
}

/// How many buckets Java gives a copied HashSet of `n` strings.
fn java_buckets(n: usize) -> u32 {
    let wanted = n as f32 / 0.75 + 1.0;
    (wanted as u32).next_power_of_two()
}

/// The bucket of a string there. ZooKeeper deletes a session's ephemerals in this order, and a client that watches
/// two of them sees it; nothing promises it, so it costs nothing to keep it.
fn java_bucket(text: &str, buckets: u32) -> u32 {
    let hash =
        text.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    (hash ^ (hash >> 16)) & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemerals_go_in_the_order_that_was_seen_on_zookeeper() {
        // Chapter 6.3 of the wire notes: /e0 ... /e5 went as e4, e3, e5, e0, e2, e1 under one parent; here the
        // hashes themselves, as Java computes them.
        assert_eq!("/a".encode_utf16().fold(0u32, |h, u| h.wrapping_mul(31) + u32::from(u)), 1554);
        assert_eq!(java_buckets(6), 16);
        assert_eq!(java_buckets(12), 32);
        assert_eq!(java_bucket("/a", 16), 1554 & 15);
    }
}
