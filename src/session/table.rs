//! The sessions of the history: made, attached and closed by sequenced entries, so every server knows the same.

use crate::ids::{Owner, SessionId};
use std::collections::BTreeMap;

/// 16 bytes that the leader drew when the session was made.
pub type Password = [u8; 16];

/// One session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Negotiated, in milliseconds.
    pub timeout_ms: i32,
    pub password: Password,
    /// The only connection that may speak for it. A request of any other is refused and that connection closed.
    pub owner: Owner,
}

/// All sessions that live.
#[derive(Clone, Debug, Default)]
pub struct SessionTable {
    /// In order of id: a snapshot writes them so.
    sessions: BTreeMap<SessionId, Session>,
}

impl SessionTable {
    /// The session of an id.
    #[inline]
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// Adds a session; returns whether the id was free.
    pub fn insert(&mut self, id: SessionId, session: Session) -> bool {
        self.sessions.insert(id, session).is_none()
    }

    /// Takes a session out.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.sessions.remove(&id)
    }

    /// All sessions in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
