//! Sessions are made, attached and closed by entries of the log, so that every server agrees who may speak.

use super::state::{Stamp, State};
use crate::error::Code;
use crate::ids::{Owner, SessionId};
use crate::session::{Password, Session};
use crate::tree::{path, Answer, Change, Path};

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

    /// The session's end, by its client or by expiry: its ephemerals go in one transaction, in order of path.
    pub(super) fn close_session(&mut self, id: SessionId, stamp: Stamp) -> Answer {
        let Some(session) = self.sessions.remove(id) else { return Answer::Code(Code::SessionExpired) };
        let paths: Vec<Path> =
            self.table.ephemerals(id).map(|paths| paths.iter().cloned().collect()).unwrap_or_default();
        for path in paths {
            let node = self.node(path.as_str()).expect("a session's ephemerals are in the tree");
            let parent = path::parent(path.as_str()).expect("an ephemeral is not the root");
            let parent = self.node(parent).expect("every znode but the root has a parent");
            self.take_out(&node, &parent, stamp);
        }
        self.changes.push(Change::SessionClosed { session: id, owner: session.owner });
        Answer::Code(Code::Ok)
    }
}
