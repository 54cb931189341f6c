//! What this server is among others, for the words that say it. The sequencer's thread writes, others look.

use crate::admin::{Leading, Members, Role};
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub struct Standing {
    role: AtomicU8,
    peers: AtomicU64,
    local_sessions: AtomicU64,
    leading: Mutex<Leading>,
    /// Written when members change, which is seldom.
    members: Mutex<Option<Members>>,
}

const ROLES: [Role; 6] =
    [Role::Standalone, Role::Leader, Role::Follower, Role::Observer, Role::Looking, Role::ReadOnly];

impl Standing {
    /// The sequencer's thread: what it is now, how many servers it is connected with, and how many sessions are its own.
    pub fn set(&self, role: Role, peers: usize, local_sessions: usize) {
        self.local_sessions.store(local_sessions as u64, Ordering::Relaxed);
        self.role.store(role as u8, Ordering::Relaxed);
        self.peers.store(peers as u64, Ordering::Relaxed);
    }

    /// The sequencer's thread: what is to be said of a leader. Once a tick, as all that it says here: nobody waits for a lock
    /// under which a few words are copied.
    pub fn set_leading(&self, leading: Leading) {
        *self.leading.lock().unwrap_or_else(PoisonError::into_inner) = leading;
    }

    #[must_use]
    pub fn leading(&self) -> Leading {
        *self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sequencer's thread: who the members are now.
    pub fn set_members(&self, members: Option<Members>) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    #[must_use]
    pub fn members(&self) -> Option<Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn role(&self) -> Role {
        ROLES.get(usize::from(self.role.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn local_sessions(&self) -> u64 {
        self.local_sessions.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn peers(&self) -> u64 {
        self.peers.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_seen() {
        let standing = Standing::default();
        assert_eq!(standing.role(), Role::Standalone);
        for role in ROLES {
            standing.set(role, 2, 3);
            assert_eq!((standing.role(), standing.peers(), standing.local_sessions()), (role, 2, 3));
        }
        let leading = Leading { synced: [2, 1], pending_syncs: 3, ..Leading::default() };
        standing.set_leading(leading);
        assert_eq!(standing.leading(), leading);
    }
}
