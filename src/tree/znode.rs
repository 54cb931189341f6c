//! One znode at one moment. Never changed: a change makes a new one, which shares path and data with the old.

use super::acl::AclId;
use super::path::Path;
use super::warm;
use crate::ids::{SessionId, WallMillis, Zxid};
use crate::wire::Stat;
use triomphe::{Arc, ThinArc};

/// A shared pointer to a znode: 8 bytes, one allocation.
pub type Node = Arc<Znode>;

/// A znode's data, shared by the versions that did not change it: one pointer of 8 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data(ThinArc<(), u8>);

impl Data {
    /// A shared copy.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Data {
        Data(ThinArc::from_header_and_slice((), bytes))
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// Asks for its memory: the count and the first hundred bytes.
    #[inline]
    pub(super) fn warm(&self) {
        let at = self.0.as_ptr().cast::<u8>();
        warm::ask(at);
        warm::ask(at.wrapping_add(warm::LINE));
    }
}

/// A znode. `Debug` shows it whole: for tests and `inspect`.
#[derive(Clone, Debug)]
pub struct Znode {
    pub path: Path,
    /// `None` is the null that a client stored, not the empty string (TR27).
    pub data: Option<Data>,
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub pzxid: Zxid,
    pub ctime: WallMillis,
    pub mtime: WallMillis,
    pub version: i32,
    /// The stored counter: creations of children, ever. A Stat shows `2 * cversion - num_children` (TR04).
    pub cversion: i32,
    pub aversion: i32,
    pub num_children: i32,
    pub acl: AclId,
    /// ZooKeeper's encoding: 0, a session id, a container's or a TTL node's mark (chapter 3.11).
    pub owner: i64,
    /// Where it stands in its parent's list of children in this process's tables; no part of the replicated state.
    pub place: u32,
}

/// What is replicated: two servers may give a znode different places.
impl PartialEq for Znode {
    fn eq(&self, other: &Znode) -> bool {
        let times = |node: &Znode| (node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime);
        let counters = |node: &Znode| (node.version, node.cversion, node.aversion, node.num_children);
        let keeper = |node: &Znode| (node.acl, node.owner);
        (&self.path, &self.data) == (&other.path, &other.data)
            && times(self) == times(other)
            && counters(self) == counters(other)
            && keeper(self) == keeper(other)
    }
}

impl Eq for Znode {}

/// The stored owner of a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// The stored owner of a TTL node: this, plus its ttl in the low 40 bits.
pub const TTL_OWNER_BASE: i64 = 0xff00_u64.wrapping_shl(48) as i64;
/// The longest ttl: 40 bits of milliseconds.
pub const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

/// What keeps a znode alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EphemeralKind {
    Persistent,
    Session(SessionId),
    Container,
    Ttl { ttl_ms: i64 },
}

/// Reads a stored owner. TTL marks count only where extended types are enabled, as in ZooKeeper.
#[must_use]
pub fn ephemeral_kind(owner: i64, extended_types: bool) -> EphemeralKind {
    match owner {
        0 => EphemeralKind::Persistent,
        CONTAINER_OWNER => EphemeralKind::Container,
        _ if extended_types && owner & TTL_OWNER_BASE == TTL_OWNER_BASE => {
            EphemeralKind::Ttl { ttl_ms: owner & TTL_MAX_MS }
        }
        _ => EphemeralKind::Session(SessionId(owner)),
    }
}

impl Znode {
    /// Asks for the memory of a znode that is about to be looked at.
    #[inline]
    pub fn warm(node: &Node) {
        let at = Node::as_ptr(node);
        warm::ask(at);
        // It lies on two cache lines: the end is on the second.
        warm::ask(at.wrapping_add(1).cast::<u8>().wrapping_sub(8));
    }

    /// The data's length in bytes; null counts as none.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.as_bytes().len())
    }

    /// What a client sees (TR04, TR05, TR21).
    #[must_use]
    pub fn stat(&self) -> Stat {
        let hidden = self.owner == CONTAINER_OWNER || self.owner & TTL_OWNER_BASE == TTL_OWNER_BASE;
        Stat {
            czxid: self.czxid.0,
            mzxid: self.mzxid.0,
            ctime: self.ctime.0,
            mtime: self.mtime.0,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(self.num_children),
            aversion: self.aversion,
            ephemeral_owner: if hidden { 0 } else { self.owner },
            data_length: i32::try_from(self.data_len()).unwrap_or(i32::MAX),
            num_children: self.num_children,
            pzxid: self.pzxid.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_decode_as_zookeeper_encodes_them() {
        for (owner, extended, want) in [
            (0, true, EphemeralKind::Persistent),
            (i64::MIN, false, EphemeralKind::Container),
            (0x0100_0000_0000_0001, true, EphemeralKind::Session(SessionId(0x0100_0000_0000_0001))),
            (TTL_OWNER_BASE | 1000, true, EphemeralKind::Ttl { ttl_ms: 1000 }),
            (TTL_OWNER_BASE | 1000, false, EphemeralKind::Session(SessionId(TTL_OWNER_BASE | 1000))),
        ] {
            assert_eq!(ephemeral_kind(owner, extended), want, "{owner:x}");
        }
    }

    #[test]
    fn a_znode_takes_96_bytes_and_two_more_allocations() {
        assert!(std::mem::size_of::<Znode>() <= 88, "{}", std::mem::size_of::<Znode>());
        assert_eq!(std::mem::size_of::<Option<Data>>(), 8);
    }
}
