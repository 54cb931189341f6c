//! One znode at one moment. Never changed: a change makes a new one, which shares the path with the old.

use super::acl::AclId;
use super::path::Path;
use super::warm;
use crate::ids::{SessionId, WallMillis, Zxid};
use crate::wire::Stat;
use std::fmt;
use std::ops::Deref;
use triomphe::{Arc, HeaderSliceWithLengthProtected, ThinArc};

/// Data of at most this length lies in the znode's own allocation. Longer data has one of its own, which the versions that
/// do not change it share: a parent is made anew with each child that comes or goes.
const HERE_MAX: usize = 512;

/// A shared pointer to a znode and its data: 8 bytes, and one allocation where the data is short. (With two, a set among
/// 1,000,000 znodes took a fifth more of the CPU: what is freed is in no cache, the allocator's pages neither.)
#[derive(Clone)]
pub struct Node(ThinArc<Kept, u8>);

/// What lies before the short data.
struct Kept {
    znode: Znode,
    data: Data,
}

#[derive(Clone)]
enum Data {
    /// The null that a client stored, not the empty string (TR27).
    Null,
    /// Behind the znode.
    Here,
    Apart(ThinArc<(), u8>),
}

impl Node {
    /// A znode with this data; `None` is the null that a client stored, not the empty string (TR27).
    #[must_use]
    pub fn new(znode: Znode, data: Option<&[u8]>) -> Node {
        match data {
            None => Node::build(znode, Data::Null, b""),
            Some(data) if data.len() <= HERE_MAX => Node::build(znode, Data::Here, data),
            Some(data) => Node::build(znode, Data::Apart(ThinArc::from_header_and_slice((), data)), b""),
        }
    }

    /// `znode` with the data that this one has.
    #[must_use]
    pub fn followed_by(&self, znode: Znode) -> Node {
        Node::build(znode, self.kept().data.clone(), &self.0.slice)
    }

    fn build(znode: Znode, data: Data, here: &[u8]) -> Node {
        Node(ThinArc::from_header_and_slice(Kept { znode, data }, here))
    }

    #[inline]
    fn kept(&self) -> &Kept {
        &self.0.header.header
    }

    /// The data; `None` is null.
    #[inline]
    #[must_use]
    pub fn data(&self) -> Option<&[u8]> {
        match &self.kept().data {
            Data::Null => None,
            Data::Here => Some(&self.0.slice),
            Data::Apart(data) => Some(&data.slice),
        }
    }

    /// The data's length in bytes; null counts as none.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.data().map_or(0, <[u8]>::len)
    }

    /// Gives it another place in its parent's list: to be called before it is shared, or it becomes a copy.
    pub fn set_place(&mut self, place: u32) {
        let set = |all: &mut Arc<HeaderSliceWithLengthProtected<Kept, u8>>| {
            Arc::get_mut(all).map(|all| all.header_mut().znode.place = place)
        };
        if self.0.with_arc_mut(set).is_none() {
            *self = self.followed_by(Znode { place, ..(**self).clone() });
        }
    }

    /// Asks for the memory of a znode that is about to be looked at, without its data.
    #[inline]
    pub fn warm(&self) {
        let at = self.0.as_ptr().cast::<u8>();
        warm::ask(at);
        // It lies on two cache lines, or on the end of a third: the numbers that a Stat shows are on the second.
        warm::ask(at.wrapping_add(warm::LINE));
    }

    /// Asks for the data, once the znode has come.
    #[inline]
    pub(super) fn warm_data(&self) {
        let at = match &self.kept().data {
            Data::Null => return,
            Data::Here => self.0.slice.as_ptr(),
            Data::Apart(data) => data.as_ptr().cast::<u8>(),
        };
        warm::ask(at);
        warm::ask(at.wrapping_add(warm::LINE));
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

impl Deref for Node {
    type Target = Znode;

    #[inline]
    fn deref(&self) -> &Znode {
        &self.kept().znode
    }
}

/// What is replicated: two servers may give a znode different places.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        let times = |node: &Node| (node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime);
        let counters = |node: &Node| (node.version, node.cversion, node.aversion, node.num_children);
        let keeper = |node: &Node| (node.acl, node.owner);
        (&self.path, self.data()) == (&other.path, other.data())
            && times(self) == times(other)
            && counters(self) == counters(other)
            && keeper(self) == keeper(other)
    }
}

impl Eq for Node {}

/// The whole of it: for tests and `inspect`.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&**self).field(&self.data()).finish()
    }
}

/// A znode, all but its data.
#[derive(Clone, Debug)]
pub struct Znode {
    pub path: Path,
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

impl Znode {
    /// As a create makes it, with nobody's name on it, open to all, and in the first place.
    #[must_use]
    pub fn created(path: &str, zxid: Zxid, at: WallMillis) -> Znode {
        Znode {
            path: Path::new(path),
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: at,
            mtime: at,
            version: 0,
            cversion: 0,
            aversion: 0,
            num_children: 0,
            acl: AclId::OPEN,
            owner: 0,
            place: 0,
        }
    }
}

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

    fn node(data: Option<&[u8]>) -> Node {
        Node::new(Znode::created("/a", Zxid(1), WallMillis(1)), data)
    }

    #[test]
    fn a_znode_takes_112_bytes_and_its_data() {
        assert!(std::mem::size_of::<Kept>() <= 96, "{}", std::mem::size_of::<Kept>());
        assert_eq!(std::mem::size_of::<Option<Node>>(), 8);
    }

    #[test]
    fn data_is_what_it_was_wherever_it_lies() {
        let long = vec![7; HERE_MAX + 1];
        let all = [None, Some(&b""[..]), Some(b"x"), Some(&long[..HERE_MAX]), Some(&long)];
        for data in all {
            let old = node(data);
            let new = old.followed_by(Znode { version: 1, ..(*old).clone() });
            assert_eq!((old.data(), new.data(), new.version), (data, data, 1));
            assert_eq!(new.data_len(), data.map_or(0, <[u8]>::len));
            assert!(old != new && old == node(data));
            assert_eq!(all.iter().filter(|other| old == node(**other)).count(), 1, "no two are equal");
        }
        let apart = node(Some(&long));
        let next = apart.followed_by((*apart).clone());
        assert_eq!(apart.data().map(<[u8]>::as_ptr), next.data().map(<[u8]>::as_ptr), "long data is shared");
    }

    #[test]
    fn a_place_is_given_to_one_owner() {
        let mut first = node(Some(b"x"));
        first.set_place(3);
        let second = first.clone();
        first.set_place(5);
        assert_eq!((first.place, second.place, first.data()), (5, 3, Some(&b"x"[..])));
    }
}
