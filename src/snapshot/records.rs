//! The records inside blocks: one function to write each, one to read it back from unpacked bytes.

use super::SnapshotError;
use crate::ids::{ConnId, Owner, ServerId, SessionId, ShardId, WallMillis, Zxid};
use crate::session::Session;
use crate::tree::{AclId, AclList, Node, Path, Znode};
use crate::wire::{put_i32, put_i64, Acl, Id, Perms, Reader, Truncated};

/// A znode's fixed part.
const NODE_HEAD_BYTES: usize = 4 + 4 + 5 * 8 + 4 * 4 + 4 + 8;

/// Appends a znode.
pub(super) fn put_node(out: &mut Vec<u8>, node: &Node) {
    let path = node.path.as_bytes();
    let data = node.data();
    let mut head = [0u8; NODE_HEAD_BYTES];
    // Lengths come from a frame of less than 2 GiB; the encoder checks the whole record again.
    head[0..4].copy_from_slice(&(path.len() as u32).to_be_bytes());
    head[4..8].copy_from_slice(&data.map_or(-1, |data| data.len() as i32).to_be_bytes());
    head[8..16].copy_from_slice(&node.czxid.0.to_be_bytes());
    head[16..24].copy_from_slice(&node.mzxid.0.to_be_bytes());
    head[24..32].copy_from_slice(&node.pzxid.0.to_be_bytes());
    head[32..40].copy_from_slice(&node.ctime.0.to_be_bytes());
    head[40..48].copy_from_slice(&node.mtime.0.to_be_bytes());
    head[48..52].copy_from_slice(&node.version.to_be_bytes());
    head[52..56].copy_from_slice(&node.cversion.to_be_bytes());
    head[56..60].copy_from_slice(&node.aversion.to_be_bytes());
    head[60..64].copy_from_slice(&node.num_children.to_be_bytes());
    head[64..68].copy_from_slice(&node.acl.0.to_be_bytes());
    head[68..76].copy_from_slice(&node.owner.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(path);
    out.extend_from_slice(data.unwrap_or_default());
}

/// A znode as it stands in an unpacked block: borrowed, so that looking costs no allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeRef<'a> {
    pub path: &'a str,
    pub data: Option<&'a [u8]>,
    head: &'a [u8; NODE_HEAD_BYTES],
}

impl NodeRef<'_> {
    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(self.head[at..at + 8].try_into().expect("eight bytes"))
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.head[at..at + 4].try_into().expect("four bytes"))
    }

    pub(super) fn owner(&self) -> i64 {
        self.i64_at(68)
    }

    /// The znode, with path and data of its own.
    pub(super) fn to_node(self) -> Node {
        let znode = Znode {
            path: Path::new(self.path),
            czxid: Zxid(self.i64_at(8)),
            mzxid: Zxid(self.i64_at(16)),
            pzxid: Zxid(self.i64_at(24)),
            ctime: WallMillis(self.i64_at(32)),
            mtime: WallMillis(self.i64_at(40)),
            version: self.i32_at(48),
            cversion: self.i32_at(52),
            aversion: self.i32_at(56),
            num_children: self.i32_at(60),
            acl: AclId(self.i32_at(64) as u32),
            owner: self.owner(),
            // The loader's to give.
            place: 0,
        };
        Node::new(znode, self.data)
    }
}

/// Walks the znodes of an unpacked block.
pub(super) struct NodeRecords<'a> {
    pub reader: Reader<'a>,
    /// The block's place in the file, for errors.
    pub offset: u64,
}

impl<'a> NodeRecords<'a> {
    fn read(&mut self) -> Result<NodeRef<'a>, Truncated> {
        let reader = &mut self.reader;
        let head: &[u8; NODE_HEAD_BYTES] = reader.take(NODE_HEAD_BYTES)?.try_into().map_err(|_| Truncated)?;
        let path_len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let data_len = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let path = reader.take(usize::try_from(path_len).map_err(|_| Truncated)?)?;
        let path = std::str::from_utf8(path).map_err(|_| Truncated)?;
        let data = match data_len {
            -1 => None,
            len => Some(reader.take(usize::try_from(len).map_err(|_| Truncated)?)?),
        };
        Ok(NodeRef { path, data, head })
    }
}

impl<'a> Iterator for NodeRecords<'a> {
    type Item = Result<NodeRef<'a>, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.rest().is_empty() {
            return None;
        }
        let offset = self.offset;
        Some(self.read().map_err(|_| SnapshotError::Malformed { offset, what: "a znode does not decode" }))
    }
}

/// Appends a list and its number.
pub(super) fn put_acl(out: &mut Vec<u8>, id: AclId, list: &[Acl]) {
    put_i32(out, id.0 as i32);
    Acl::encode_list(list, out);
}

/// The least bytes of one entry: perms and two empty strings.
const ACL_ENTRY_BYTES_MIN: usize = 12;

/// Reads a list and its number.
pub(super) fn read_acl(reader: &mut Reader<'_>) -> Result<(AclId, AclList), Truncated> {
    let id = AclId(reader.i32()? as u32);
    let count = reader.count(ACL_ENTRY_BYTES_MIN)?.ok_or(Truncated)?;
    let mut list = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let perms = Perms(reader.i32()?);
        let scheme = read_str(reader)?;
        let id = read_str(reader)?;
        list.push(Acl { perms, id: Id::new(scheme, id) });
    }
    Ok((id, list.into()))
}

fn read_str<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Truncated> {
    std::str::from_utf8(reader.buffer()?.ok_or(Truncated)?).map_err(|_| Truncated)
}

/// Appends a session.
pub(super) fn put_session(out: &mut Vec<u8>, id: SessionId, session: &Session) {
    put_i64(out, id.0);
    put_i32(out, session.timeout_ms);
    out.extend_from_slice(&session.password);
    out.push(session.owner.server.0);
    out.extend_from_slice(&session.owner.incarnation.to_be_bytes());
    out.extend_from_slice(&session.owner.shard.0.to_be_bytes());
    out.extend_from_slice(&session.owner.conn.0.to_be_bytes());
}

/// Reads a session.
pub(super) fn read_session(reader: &mut Reader<'_>) -> Result<(SessionId, Session), Truncated> {
    let id = SessionId(reader.i64()?);
    let timeout_ms = reader.i32()?;
    let password = fixed(reader)?;
    let owner = Owner {
        server: ServerId(reader.u8()?),
        incarnation: u64::from_be_bytes(fixed(reader)?),
        shard: ShardId(u16::from_be_bytes(fixed(reader)?)),
        conn: ConnId(u64::from_be_bytes(fixed(reader)?)),
    };
    Ok((id, Session { timeout_ms, password, owner }))
}

/// Appends the last batch of a server.
pub(super) fn put_batch(out: &mut Vec<u8>, server: ServerId, incarnation: u64, sequence: u64) {
    out.push(server.0);
    out.extend_from_slice(&incarnation.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
}

/// Reads the last batch of a server.
pub(super) fn read_batch(reader: &mut Reader<'_>) -> Result<(ServerId, u64, u64), Truncated> {
    Ok((ServerId(reader.u8()?), u64::from_be_bytes(fixed(reader)?), u64::from_be_bytes(fixed(reader)?)))
}

pub(super) fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Truncated> {
    reader.take(N)?.try_into().map_err(|_| Truncated)
}
