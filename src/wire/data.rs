//! The records that several operations share: Stat, ACL, Id.

use super::jute::{put_i32, put_string, Reader, Truncated};
use std::borrow::Cow;

/// What an ACL entry allows: a bit set. Unknown bits are stored and shown unchanged, as in ZooKeeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Perms(pub i32);

impl Perms {
    pub const READ: Perms = Perms(1);
    pub const WRITE: Perms = Perms(2);
    pub const CREATE: Perms = Perms(4);
    pub const DELETE: Perms = Perms(8);
    pub const ADMIN: Perms = Perms(16);
    pub const ALL: Perms = Perms(31);

    /// Whether any bit of `wanted` is in this set.
    #[must_use]
    pub fn any_of(self, wanted: Perms) -> bool {
        self.0 & wanted.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub fn or(self, other: Perms) -> Perms {
        Perms(self.0 | other.0)
    }
}

/// Somebody: a scheme, and who that scheme says it is.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Id {
    pub scheme: Box<str>,
    pub id: Box<str>,
}

impl Id {
    /// An id from its two parts.
    #[must_use]
    pub fn new(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }
}

/// One entry of an access control list.
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Acl {
    pub perms: Perms,
    pub id: Id,
}

/// An id as it stands in a request: either part may be null.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdRef<'a> {
    pub scheme: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
}

/// An ACL entry as it stands in a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AclRef<'a> {
    pub perms: Perms,
    pub id: IdRef<'a>,
}

/// The least bytes of an ACL entry: perms and two null strings.
const ACL_BYTES_MIN: usize = 12;

impl<'a> AclRef<'a> {
    /// Whether this is `world:anyone` with all permissions.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is = |field: &Option<Cow<'_, str>>, text| field.as_deref() == Some(text);
        self.perms == Perms::ALL && is(&self.id.scheme, "world") && is(&self.id.id, "anyone")
    }

    /// A vector of entries; `None` is null. Memory is bounded by the record: an entry takes 12 bytes at least.
    pub(super) fn decode_list(reader: &mut Reader<'a>) -> Result<Option<Vec<AclRef<'a>>>, Truncated> {
        let Some(count) = reader.count(ACL_BYTES_MIN)? else { return Ok(None) };
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            list.push(AclRef {
                perms: Perms(reader.i32()?),
                id: IdRef { scheme: reader.string()?, id: reader.string()? },
            });
        }
        Ok(Some(list))
    }
}

impl Acl {
    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.perms.0);
        put_string(out, &self.id.scheme);
        put_string(out, &self.id.id);
    }

    /// Appends a vector of entries.
    pub fn encode_list(list: &[Acl], out: &mut Vec<u8>) {
        put_i32(out, i32::try_from(list.len()).expect("an ACL is bounded by the frame that brought it"));
        for acl in list {
            acl.encode(out);
        }
    }
}

/// What a client may know of a znode beside its data: 68 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl Stat {
    /// Its length on the wire.
    pub const BYTES: usize = 68;

    /// Appends the record: one copy of 68 bytes, it stands in nearly every reply.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut b = [0u8; Stat::BYTES];
        b[0..8].copy_from_slice(&self.czxid.to_be_bytes());
        b[8..16].copy_from_slice(&self.mzxid.to_be_bytes());
        b[16..24].copy_from_slice(&self.ctime.to_be_bytes());
        b[24..32].copy_from_slice(&self.mtime.to_be_bytes());
        b[32..36].copy_from_slice(&self.version.to_be_bytes());
        b[36..40].copy_from_slice(&self.cversion.to_be_bytes());
        b[40..44].copy_from_slice(&self.aversion.to_be_bytes());
        b[44..52].copy_from_slice(&self.ephemeral_owner.to_be_bytes());
        b[52..56].copy_from_slice(&self.data_length.to_be_bytes());
        b[56..60].copy_from_slice(&self.num_children.to_be_bytes());
        b[60..68].copy_from_slice(&self.pzxid.to_be_bytes());
        out.extend_from_slice(&b);
    }

    /// Reads the record: for tests and clients.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Stat, Truncated> {
        Ok(Stat {
            czxid: reader.i64()?,
            mzxid: reader.i64()?,
            ctime: reader.i64()?,
            mtime: reader.i64()?,
            version: reader.i32()?,
            cversion: reader.i32()?,
            aversion: reader.i32()?,
            ephemeral_owner: reader.i64()?,
            data_length: reader.i32()?,
            num_children: reader.i32()?,
            pzxid: reader.i64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_68_bytes_and_survives_the_round_trip() {
        let stat = Stat {
            czxid: 1,
            mzxid: 2,
            ctime: 3,
            mtime: 4,
            version: 5,
            cversion: -6,
            aversion: 7,
            ephemeral_owner: i64::MIN,
            data_length: 8,
            num_children: 9,
            pzxid: 10,
        };
        let mut out = Vec::new();
        stat.encode(&mut out);
        assert_eq!(out.len(), Stat::BYTES);
        assert_eq!(Stat::decode(&mut Reader::new(&out)), Ok(stat));
    }

    #[test]
    fn an_acl_count_beyond_the_record_is_refused() {
        let bytes = 1_000_000i32.to_be_bytes();
        assert!(AclRef::decode_list(&mut Reader::new(&bytes)).is_err());
    }
}
