//! The records that clients send. One struct a record, in the protocol's field order.
//!
//! `decode` borrows; bytes after the record are ignored, as in ZooKeeper. `encode` is for clients, recordings and
//! tests: it writes the same bytes back.

use super::data::AclRef;
use super::jute::{put_buffer, put_i32, put_i64, Reader, Truncated};
use super::op::OpCode;
use crate::ids::Xid;
use std::borrow::Cow;

/// A ustring as it came: null stays null, for each operation answers null in its own way.
pub type Text<'a> = Option<Cow<'a, str>>;

fn put_text(out: &mut Vec<u8>, text: &Text<'_>) {
    put_buffer(out, text.as_ref().map(|t| t.as_bytes()));
}

/// Stands before every request's record but the handshake's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    pub xid: Xid,
    /// As it came: not every number is an operation.
    pub op: i32,
}

impl RequestHeader {
    /// Its length.
    pub const BYTES: usize = 8;

    /// Splits a frame into its header and the record's bytes.
    #[inline]
    pub fn decode(frame: &[u8]) -> Result<(RequestHeader, &[u8]), Truncated> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader { xid: Xid(reader.i32()?), op: reader.i32()? };
        Ok((header, reader.rest()))
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.xid.0);
        put_i32(out, self.op);
    }
}

/// exists, getData, getChildren, getChildren2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathAndWatch<'a> {
    pub path: Text<'a>,
    pub watch: bool,
}

impl<'a> PathAndWatch<'a> {
    /// Reads the record.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        PathAndWatch::read(&mut Reader::new(body))
    }

    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Truncated> {
        Ok(PathAndWatch { path: reader.string()?, watch: reader.bool()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        out.push(u8::from(self.watch));
    }
}

/// getACL, sync, getEphemerals, getAllChildrenNumber: a path alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetAcl<'a> {
    pub path: Text<'a>,
}

impl<'a> GetAcl<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        Ok(GetAcl { path: Reader::new(body).string()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
    }
}

/// checkWatches, removeWatches: the type is a number that need not be one we know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathAndType<'a> {
    pub path: Text<'a>,
    pub kind: i32,
}

impl<'a> PathAndType<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        Ok(PathAndType { path: reader.string()?, kind: reader.i32()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        put_i32(out, self.kind);
    }
}

/// addWatch: mode 0 persistent, 1 persistent recursive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddWatch<'a> {
    pub path: Text<'a>,
    pub mode: i32,
}

impl<'a> AddWatch<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        let PathAndType { path, kind } = PathAndType::decode(body)?;
        Ok(AddWatch { path, mode: kind })
    }
}

/// create, create2, createContainer; createTTL adds the ttl.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub acl: Option<Vec<AclRef<'a>>>,
    pub flags: i32,
    /// -1 for the operations that carry none.
    pub ttl_ms: i64,
}

impl<'a> Create<'a> {
    /// Reads the record of `op`.
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Self, Truncated> {
        Create::read(op, &mut Reader::new(body))
    }

    fn read(op: OpCode, reader: &mut Reader<'a>) -> Result<Self, Truncated> {
        Ok(Create {
            path: reader.string()?,
            data: reader.buffer()?,
            acl: AclRef::decode_list(reader)?,
            flags: reader.i32()?,
            ttl_ms: if op == OpCode::CreateTtl { reader.i64()? } else { -1 },
        })
    }

    /// Appends the record of `op`.
    pub fn encode(&self, op: OpCode, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        put_buffer(out, self.data);
        encode_acls(self.acl.as_deref(), out);
        put_i32(out, self.flags);
        if op == OpCode::CreateTtl {
            put_i64(out, self.ttl_ms);
        }
    }
}

fn encode_acls(list: Option<&[AclRef<'_>]>, out: &mut Vec<u8>) {
    let Some(list) = list else { return put_i32(out, -1) };
    put_i32(out, i32::try_from(list.len()).expect("an ACL is bounded by the frame that brought it"));
    for acl in list {
        put_i32(out, acl.perms.0);
        put_text(out, &acl.id.scheme);
        put_text(out, &acl.id.id);
    }
}

/// delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete<'a> {
    pub path: Text<'a>,
    pub version: i32,
}

impl<'a> Delete<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        Delete::read(&mut Reader::new(body))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Truncated> {
        Ok(Delete { path: reader.string()?, version: reader.i32()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        put_i32(out, self.version);
    }
}

/// check, which stands only in a multi. The same fields as delete.
pub type CheckVersion<'a> = Delete<'a>;

/// setData.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetData<'a> {
    pub path: Text<'a>,
    pub data: Option<&'a [u8]>,
    pub version: i32,
}

impl<'a> SetData<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        SetData::read(&mut Reader::new(body))
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Truncated> {
        Ok(SetData { path: reader.string()?, data: reader.buffer()?, version: reader.i32()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        put_buffer(out, self.data);
        put_i32(out, self.version);
    }
}

/// setACL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAcl<'a> {
    pub path: Text<'a>,
    pub acl: Option<Vec<AclRef<'a>>>,
    pub version: i32,
}

impl<'a> SetAcl<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        Ok(SetAcl { path: reader.string()?, acl: AclRef::decode_list(&mut reader)?, version: reader.i32()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path);
        encode_acls(self.acl.as_deref(), out);
        put_i32(out, self.version);
    }
}

/// reconfig.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconfig<'a> {
    pub joining: Text<'a>,
    pub leaving: Text<'a>,
    pub members: Text<'a>,
    pub config_id: i64,
}

impl<'a> Reconfig<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        Ok(Reconfig {
            joining: reader.string()?,
            leaving: reader.string()?,
            members: reader.string()?,
            config_id: reader.i64()?,
        })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_text(out, &self.joining);
        put_text(out, &self.leaving);
        put_text(out, &self.members);
        put_i64(out, self.config_id);
    }
}

/// auth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthPacket<'a> {
    pub kind: i32,
    pub scheme: Text<'a>,
    pub auth: Option<&'a [u8]>,
}

impl<'a> AuthPacket<'a> {
    /// Reads the record.
    pub fn decode(body: &'a [u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        Ok(AuthPacket { kind: reader.i32()?, scheme: reader.string()?, auth: reader.buffer()? })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, self.kind);
        put_text(out, &self.scheme);
        put_buffer(out, self.auth);
    }
}

/// setWatches, and setWatches2 with its two further lists. Each list is walked where it stands: a request of 20,000
/// paths allocates nothing here.
#[derive(Clone, Debug)]
pub struct SetWatches<'a> {
    pub relative_zxid: i64,
    /// data, exist, child, and for setWatches2 persistent and persistent recursive.
    pub lists: [PathList<'a>; 5],
}

/// A checked vector of non-null strings.
#[derive(Clone, Debug, Default)]
pub struct PathList<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> PathList<'a> {
    /// How many paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'a, str>> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).filter_map(move |_| reader.string().ok().flatten())
    }

    fn decode(reader: &mut Reader<'a>) -> Result<PathList<'a>, Truncated> {
        let count = reader.count(4)?.ok_or(Truncated)?;
        let bytes = reader.rest();
        for _ in 0..count {
            reader.buffer()?.ok_or(Truncated)?;
        }
        Ok(PathList { count, bytes })
    }
}

impl<'a> SetWatches<'a> {
    /// Reads the record of setWatches (three lists) or setWatches2 (five). A null list or path is refused.
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        let relative_zxid = reader.i64()?;
        let mut lists: [PathList<'a>; 5] = Default::default();
        let wanted = if op == OpCode::SetWatches2 { 5 } else { 3 };
        for list in &mut lists[..wanted] {
            *list = PathList::decode(&mut reader)?;
        }
        Ok(SetWatches { relative_zxid, lists })
    }

    /// Appends the record of `op`.
    pub fn encode(&self, op: OpCode, out: &mut Vec<u8>) {
        put_i64(out, self.relative_zxid);
        let wanted = if op == OpCode::SetWatches2 { 5 } else { 3 };
        for list in &self.lists[..wanted] {
            put_i32(out, i32::try_from(list.count).expect("a list is bounded by its frame"));
            for path in list.iter() {
                put_buffer(out, Some(path.as_bytes()));
            }
        }
    }
}

/// One operation of a multi or a multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MultiItem<'a> {
    Create(OpCode, Create<'a>),
    Delete(Delete<'a>),
    SetData(SetData<'a>),
    Check(CheckVersion<'a>),
    GetData(PathAndWatch<'a>),
    GetChildren(PathAndWatch<'a>),
}

impl MultiItem<'_> {
    /// Whether it is of a multiRead rather than of a multi.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, MultiItem::GetData(_) | MultiItem::GetChildren(_))
    }
}

/// Walks a multi's operations. An operation that a multi can not hold is `Truncated`: the whole request is refused.
pub struct MultiReader<'a> {
    reader: Reader<'a>,
    /// The kind of all its items.
    reads: bool,
    done: bool,
}

impl<'a> MultiReader<'a> {
    /// Walks the body of `Multi` or `MultiRead`.
    #[must_use]
    pub fn new(op: OpCode, body: &'a [u8]) -> MultiReader<'a> {
        MultiReader { reader: Reader::new(body), reads: op == OpCode::MultiRead, done: false }
    }

    /// The next operation; `None` after the end marker, which must be there. Writes and reads do not mix.
    pub fn next_item(&mut self) -> Result<Option<MultiItem<'a>>, Truncated> {
        match self.next_of_any_kind()? {
            Some(item) if item.is_read() != self.reads => Err(Truncated),
            item => Ok(item),
        }
    }

    /// The next operation that any multi may hold; `None` after the end marker.
    pub fn next_of_any_kind(&mut self) -> Result<Option<MultiItem<'a>>, Truncated> {
        if self.done {
            return Ok(None);
        }
        let reader = &mut self.reader;
        let kind = reader.i32()?;
        let done = reader.bool()?;
        let _err = reader.i32()?;
        if done {
            self.done = true;
            return Ok(None);
        }
        let op = OpCode::from_i32(kind).ok_or(Truncated)?;
        let item = match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                let create = Create::read(op, reader)?;
                if create.path.is_none() {
                    return Err(Truncated);
                }
                MultiItem::Create(op, create)
            }
            OpCode::Delete => MultiItem::Delete(non_null(Delete::read(reader)?, |d| &d.path)?),
            OpCode::SetData => MultiItem::SetData(non_null(SetData::read(reader)?, |s| &s.path)?),
            OpCode::Check => MultiItem::Check(non_null(Delete::read(reader)?, |d| &d.path)?),
            OpCode::GetData => MultiItem::GetData(non_null(PathAndWatch::read(reader)?, |p| &p.path)?),
            OpCode::GetChildren => {
                MultiItem::GetChildren(non_null(PathAndWatch::read(reader)?, |p| &p.path)?)
            }
            _ => return Err(Truncated),
        };
        Ok(Some(item))
    }
}

fn non_null<'a, T>(record: T, path: impl Fn(&T) -> &Text<'a>) -> Result<T, Truncated> {
    if path(&record).is_none() {
        return Err(Truncated);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IdRef, Perms};

    fn text(s: &str) -> Text<'_> {
        Some(Cow::Borrowed(s))
    }

    #[test]
    fn create_and_create_ttl_differ_by_the_ttl_alone() {
        let open = AclRef { perms: Perms::ALL, id: IdRef { scheme: text("world"), id: text("anyone") } };
        for (op, ttl_ms) in [(OpCode::Create2, -1), (OpCode::CreateTtl, 5)] {
            let create = Create {
                path: text("/a"),
                data: Some(b"x"),
                acl: Some(vec![open.clone()]),
                flags: 0,
                ttl_ms,
            };
            let mut out = Vec::new();
            create.encode(op, &mut out);
            assert_eq!(Create::decode(op, &out), Ok(create), "{op:?}");
        }
    }

    #[test]
    fn a_multi_needs_its_end_marker_and_only_its_own_kind() {
        let mut body = Vec::new();
        super::super::reply::put_multi_header(&mut body, OpCode::Delete.as_i32(), false, -1);
        Delete { path: text("/a"), version: -1 }.encode(&mut body);
        let mut multi = MultiReader::new(OpCode::Multi, &body);
        assert!(matches!(multi.next_item(), Ok(Some(MultiItem::Delete(_)))));
        assert_eq!(multi.next_item(), Err(Truncated), "no end marker");
        assert_eq!(
            MultiReader::new(OpCode::MultiRead, &body).next_item(),
            Err(Truncated),
            "a write in a multiRead"
        );
        super::super::reply::put_multi_end(&mut body);
        let mut multi = MultiReader::new(OpCode::Multi, &body);
        assert!(multi.next_item().unwrap().is_some());
        assert_eq!(multi.next_item(), Ok(None));
    }

    #[test]
    fn a_list_with_a_count_below_null_is_refused() {
        for count in [-2, i32::MIN] {
            let mut body = Vec::new();
            put_i64(&mut body, 7);
            for _ in 0..3 {
                put_i32(&mut body, count);
            }
            assert_eq!(SetWatches::decode(OpCode::SetWatches, &body).map(|_| ()), Err(Truncated));
            let mut body = Vec::new();
            put_text(&mut body, &text("/a"));
            put_buffer(&mut body, None);
            put_i32(&mut body, count);
            put_i32(&mut body, 3);
            assert_eq!(Create::decode(OpCode::Create, &body).map(|_| ()), Err(Truncated));
        }
    }

    #[test]
    fn a_watch_list_that_is_null_or_too_long_is_refused() {
        let mut body = Vec::new();
        put_i64(&mut body, 0);
        put_i32(&mut body, -1);
        assert!(SetWatches::decode(OpCode::SetWatches, &body).is_err());
        let mut body = Vec::new();
        put_i64(&mut body, 0);
        put_i32(&mut body, i32::MAX);
        assert!(SetWatches::decode(OpCode::SetWatches, &body).is_err());
    }
}
