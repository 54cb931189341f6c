//! delete, and the reaper's delete of containers and TTL nodes.

use super::state::{code_answer, Stamp, State};
use super::txn::Identities;
use crate::error::Code;
use crate::tree::{ephemeral_kind, path, Answer, EphemeralKind, Node, Znode};
use crate::wire::{Delete, Perms};

impl State {
    pub(super) fn on_delete(
        &mut self,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Answer, Code> {
        let delete = Delete::decode(body).map_err(|_| Code::MarshallingError)?;
        self.delete(&delete, identities, stamp)?;
        Ok(code_answer(Ok(())))
    }

    /// TR19: permission on the parent is judged before the znode is looked for.
    pub(super) fn delete(
        &mut self,
        delete: &Delete<'_>,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<(), Code> {
        let path = delete.path.as_deref().ok_or(Code::MarshallingError)?;
        let parent_path = path::coarse_parent(path)?;
        if path::is_protected(path) {
            return Err(Code::BadArguments);
        }
        let parent = self.node(parent_path)?;
        self.check_acl(&parent, Perms::DELETE, identities, stamp)?;
        let node = self.node(path)?;
        if delete.version != -1 && delete.version != node.version {
            return Err(Code::BadVersion);
        }
        if node.num_children > 0 {
            return Err(Code::NotEmpty);
        }
        self.take_out(&node, &parent, stamp);
        Ok(())
    }

    /// Takes a znode out: its parent's pzxid moves (TR23), its stored cversion does not.
    pub(super) fn take_out(&mut self, node: &Node, parent: &Node, stamp: Stamp) {
        let parent = parent.followed_by(Znode {
            pzxid: stamp.zxid,
            num_children: parent.num_children - 1,
            ..(**parent).clone()
        });
        let bytes = i64::try_from(node.data_len()).unwrap_or(i64::MAX);
        self.delete_node(node.path.as_str(), parent);
        self.note_usage(node.path.as_str(), -bytes, -1);
    }

    /// What the reaper found is judged again here: a child may have come (TR22).
    pub(super) fn reap(&mut self, path: &str, stamp: Stamp) -> Result<(), Code> {
        let node = self.node(path)?;
        if node.num_children > 0 {
            return Err(Code::NotEmpty);
        }
        match ephemeral_kind(node.owner, true) {
            EphemeralKind::Container | EphemeralKind::Ttl { .. } => {}
            _ => return Err(Code::BadVersion),
        }
        let parent = self.node(path::parent(path).ok_or(Code::BadArguments)?)?;
        self.take_out(&node, &parent, stamp);
        Ok(())
    }
}
