//! What this server is among others, for the words that say it. The sequencer's thread writes, others look.

use crate::admin::Role;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

#[derive(Default)]
pub struct Standing {
    role: AtomicU8,
    peers: AtomicU64,
}

const ROLES: [Role; 5] = [Role::Standalone, Role::Leader, Role::Follower, Role::Observer, Role::Looking];

impl Standing {
    /// The sequencer's thread: what it is now, and how many servers it is connected with.
    pub fn set(&self, role: Role, peers: usize) {
        self.role.store(role as u8, Ordering::Relaxed);
        self.peers.store(peers as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn role(&self) -> Role {
        ROLES.get(usize::from(self.role.load(Ordering::Relaxed))).copied().unwrap_or_default()
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
            standing.set(role, 2);
            assert_eq!((standing.role(), standing.peers()), (role, 2));
        }
    }
}
