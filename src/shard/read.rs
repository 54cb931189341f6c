//! Reads, straight from the shard's own table into the connection's buffer: no ring, no lock, no copy but that one.

use super::connection::Connection;
use super::{Shard, Why};
use crate::error::Code;
use crate::ids::{Millis, Xid};
use crate::tree::Node;
use crate::watch::{Bits, Kind};
use crate::wire::{
    begin_frame, end_frame, put_buffer, put_i32, put_multi_end, put_multi_error, put_multi_header,
    put_string, reply_header, xid, Acl, GetAcl, Id, MultiItem, MultiReader, OpCode, PathAndWatch, Perms,
};
use std::borrow::Cow;

/// Names of up to a megabyte each would fill a list beyond what a frame's length can say, and the memory before that.
const LIST_BYTES_MAX: usize = 256 << 20;

impl Shard {
    /// Answers a read. What it writes is the whole reply: on an error, the header alone (A10).
    pub(super) fn handle_read(
        &mut self,
        now: Millis,
        c: &mut Connection,
        xid: Xid,
        op: OpCode,
        body: &[u8],
        since: Millis,
    ) {
        self.open_out(c);
        // setWatches puts its events in front of its own reply.
        if matches!(op, OpCode::SetWatches | OpCode::SetWatches2) {
            let code = self.set_watches(c, op, body).err().unwrap_or(Code::Ok);
            if code == Code::ThrottledOp {
                // No client looks at this answer: it would wait for events of watches that are not there.
                return self.cut(c, Why::TooManyWatches);
            }
            let start = begin_frame(&mut c.out);
            reply_header(&mut c.out, xid, self.last_zxid, code);
            end_frame(&mut c.out, start);
            return self.replied(c, now, since, self.last_zxid);
        }
        let xid = if op == OpCode::Ping { xid::PING } else { xid };
        let start = begin_frame(&mut c.out);
        reply_header(&mut c.out, xid, self.last_zxid, Code::Ok);
        if let Err(code) = self.read_body(c, op, body) {
            c.out.truncate(start + 4);
            reply_header(&mut c.out, xid, self.last_zxid, code);
        }
        end_frame(&mut c.out, start);
        self.stats.reads += 1;
        self.replied(c, now, since, self.last_zxid);
    }

    fn read_body(&mut self, c: &mut Connection, op: OpCode, body: &[u8]) -> Result<(), Code> {
        match op {
            OpCode::Ping => Ok(()),
            OpCode::GetData => self.get_data(c, body),
            OpCode::Exists => self.exists(c, body),
            OpCode::GetChildren => self.get_children(c, body, false),
            OpCode::GetChildren2 => self.get_children(c, body, true),
            OpCode::GetAcl => self.get_acl(c, body),
            OpCode::GetEphemerals => self.get_ephemerals(c, body),
            OpCode::GetAllChildrenNumber => self.get_all_children_number(c, body),
            OpCode::MultiRead => self.multi_read(c, body),
            OpCode::WhoAmI => {
                who_am_i(c);
                Ok(())
            }
            OpCode::AddWatch => self.add_watch(c, body),
            OpCode::CheckWatches => self.check_watches(c, body),
            OpCode::RemoveWatches => self.remove_watches(c, body),
            // Everything else went another way before.
            _ => Err(Code::Unimplemented),
        }
    }

    /// The znode, if the connection may do any of `wanted` to it.
    fn readable(&self, c: &Connection, path: &str, wanted: Perms) -> Result<&Node, Code> {
        let node = self.table.get(path).ok_or(Code::NoNode)?;
        if !self.options.skip_acl && !self.table.acls.allows(node.acl, wanted, &c.identities, &c.judged) {
            return Err(Code::NoAuth);
        }
        Ok(node)
    }

    /// A watch that rides on a read: registered with the state that the reply shows (F07).
    pub(super) fn watch(&mut self, c: &Connection, kind: Kind, path: &str, bits: Bits) -> Result<(), Code> {
        self.watches.add(kind, path, c.id, bits).map_err(|_| Code::ThrottledOp)
    }

    fn get_data(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let request = PathAndWatch::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.ok_or(Code::MarshallingError)?;
        let node = self.readable(c, &path, Perms::READ)?;
        c.out.reserve(node.data_len() + 80);
        put_buffer(&mut c.out, node.data());
        node.stat().encode(&mut c.out);
        if request.watch {
            self.watch(c, Kind::Data, &path, Bits::ONE_SHOT)?;
        }
        Ok(())
    }

    /// TR10: on a znode that is not there the watch stays, though the answer is NoNode.
    fn exists(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let request = PathAndWatch::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.ok_or(Code::MarshallingError)?;
        if path.contains('\0') {
            return Err(Code::BadArguments);
        }
        let result = self.readable(c, &path, Perms::READ).map(|node| node.stat());
        if request.watch && result != Err(Code::NoAuth) {
            self.watch(c, Kind::Data, &path, Bits::ONE_SHOT)?;
        }
        result?.encode(&mut c.out);
        Ok(())
    }

    fn get_children(&mut self, c: &mut Connection, body: &[u8], with_stat: bool) -> Result<(), Code> {
        let request = PathAndWatch::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = request.path.ok_or(Code::MarshallingError)?;
        let node = self.readable(c, &path, Perms::READ)?;
        self.put_children(&mut c.out, node)?;
        if with_stat {
            node.stat().encode(&mut c.out);
        }
        if request.watch {
            self.watch(c, Kind::Child, &path, Bits::ONE_SHOT)?;
        }
        Ok(())
    }

    fn put_children(&self, out: &mut Vec<u8>, node: &Node) -> Result<(), Code> {
        let start = out.len();
        put_i32(out, node.num_children);
        let Some(children) = self.table.children(node.path.as_str()) else { return Ok(()) };
        debug_assert_eq!(children.len(), usize::try_from(node.num_children).unwrap_or(0));
        for child in children.iter() {
            put_buffer(out, Some(child.name()));
            if out.len() - start > LIST_BYTES_MAX {
                return Err(Code::ThrottledOp);
            }
        }
        Ok(())
    }

    /// TR24: READ or ADMIN; without ADMIN a digest's hash is hidden.
    fn get_acl(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let path =
            GetAcl::decode(body).map_err(|_| Code::MarshallingError)?.path.ok_or(Code::MarshallingError)?;
        let node = self.readable(c, &path, Perms::READ.or(Perms::ADMIN))?;
        let list = self.table.acls.list(node.acl);
        let sees_all =
            self.options.skip_acl || self.table.acls.allows(node.acl, Perms::ADMIN, &c.identities, &c.judged);
        if sees_all {
            Acl::encode_list(list, &mut c.out);
        } else {
            let masked: Vec<Acl> = list.iter().map(mask).collect();
            Acl::encode_list(&masked, &mut c.out);
        }
        node.stat().encode(&mut c.out);
        Ok(())
    }

    /// The session's own; the prefix is one of text, not of path components.
    fn get_ephemerals(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let prefix = GetAcl::decode(body).map_err(|_| Code::MarshallingError)?.path;
        let prefix = prefix.filter(|prefix| !matches!(prefix.trim(), "" | "/")).unwrap_or(Cow::Borrowed(""));
        let paths = self.table.ephemerals(c.session);
        let paths = paths.into_iter().flatten().filter(|path| path.as_bytes().starts_with(prefix.as_bytes()));
        let at = c.out.len();
        put_i32(&mut c.out, 0);
        let mut count = 0i32;
        for path in paths {
            put_buffer(&mut c.out, Some(path.as_bytes()));
            count += 1;
            if c.out.len() - at > LIST_BYTES_MAX {
                return Err(Code::ThrottledOp);
            }
        }
        c.out[at..at + 4].copy_from_slice(&count.to_be_bytes());
        Ok(())
    }

    fn get_all_children_number(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let path =
            GetAcl::decode(body).map_err(|_| Code::MarshallingError)?.path.ok_or(Code::MarshallingError)?;
        self.readable(c, &path, Perms::READ)?;
        // The empty path is above the root there.
        let count = self.table.descendants(&path) + usize::from(path.is_empty());
        put_i32(&mut c.out, i32::try_from(count).unwrap_or(i32::MAX));
        Ok(())
    }

    /// Each operation is answered for itself; their watch flags are ignored, as in ZooKeeper. All see one zxid.
    /// One frame may ask for the same megabyte fifty thousand times: the whole reply is bounded as what waits for a
    /// slow reader is.
    fn multi_read(&mut self, c: &mut Connection, body: &[u8]) -> Result<(), Code> {
        let mut items = MultiReader::new(OpCode::MultiRead, body);
        let mut count = 0;
        let start = c.out.len();
        while let Some(item) = items.next_item().map_err(|_| Code::MarshallingError)? {
            count += 1;
            if count > self.options.multi_ops_max {
                return Err(Code::BadArguments);
            }
            let (op, path) = match &item {
                MultiItem::GetData(request) => (OpCode::GetData, &request.path),
                MultiItem::GetChildren(request) => (OpCode::GetChildren, &request.path),
                _ => return Err(Code::MarshallingError),
            };
            let path = path.as_deref().ok_or(Code::MarshallingError)?;
            match self.readable(c, path, Perms::READ) {
                Err(code) => put_multi_error(&mut c.out, code),
                Ok(node) => {
                    put_multi_header(&mut c.out, op.as_i32(), false, 0);
                    if op == OpCode::GetData {
                        put_buffer(&mut c.out, node.data());
                        node.stat().encode(&mut c.out);
                    } else {
                        self.put_children(&mut c.out, node)?;
                    }
                }
            }
            if c.out.len() - start > self.options.unsent_cut_bytes {
                return Err(Code::ThrottledOp);
            }
        }
        put_multi_end(&mut c.out);
        Ok(())
    }
}

/// The user part of a digest id; whole ids of other schemes.
fn user_of(id: &Id) -> &str {
    if &*id.scheme == "digest" {
        id.id.split(':').next().unwrap_or_default()
    } else {
        &id.id
    }
}

fn who_am_i(c: &mut Connection) {
    put_i32(&mut c.out, i32::try_from(c.identities.len()).unwrap_or(i32::MAX));
    for id in &c.identities {
        put_string(&mut c.out, &id.scheme);
        put_string(&mut c.out, user_of(id));
    }
}

fn mask(acl: &Acl) -> Acl {
    if &*acl.id.scheme != "digest" {
        return acl.clone();
    }
    Acl { perms: acl.perms, id: Id::new("digest", &format!("{}:x", user_of(&acl.id))) }
}
