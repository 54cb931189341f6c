//! setData, setACL, check.

use super::fixup::fix_up;
use super::state::{Stamp, State};
use super::txn::Identities;
use crate::error::Code;
use crate::tree::{path, Answer, Change, Node, Znode};
use crate::wire::{CheckVersion, Perms, SetAcl, SetData};

/// The version after `current`. -1 would mean "any" to whoever sends it back, so the count skips it (ZOOKEEPER-4743).
fn next_version(current: i32) -> i32 {
    match current.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

fn check_version(current: i32, expected: i32) -> Result<(), Code> {
    if expected != -1 && expected != current {
        return Err(Code::BadVersion);
    }
    Ok(())
}

impl State {
    pub(super) fn on_set_data(
        &mut self,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Answer, Code> {
        let set = SetData::decode(body).map_err(|_| Code::MarshallingError)?;
        self.set_data(&set, identities, stamp).map(Answer::Stat)
    }

    /// B33: the znode, permission, quota, version.
    pub(super) fn set_data(
        &mut self,
        set: &SetData<'_>,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Node, Code> {
        let path = set.path.as_deref().ok_or(Code::BadArguments)?;
        path::validate(path)?;
        let old = self.node(path)?;
        self.check_acl(&old, Perms::WRITE, identities, stamp)?;
        let growth = set.data.map_or(0, <[u8]>::len) as i64 - old.data_len() as i64;
        self.check_quota(path, growth, 0, stamp)?;
        check_version(old.version, set.version)?;
        if stamp.options.read_only && growth > 0 {
            return Err(Code::NotReadOnly);
        }
        // Equal only inside a multi, whose parts share one zxid.
        debug_assert!(old.mzxid <= stamp.zxid, "transactions apply in zxid order");
        let version = next_version(old.version);
        let znode = Znode { version, mzxid: stamp.zxid, mtime: stamp.wall, ..(*old).clone() };
        let node = Node::new(znode, set.data);
        self.replace_node(node.clone(), Change::DataSet { node: node.clone() });
        self.overrule_usage(path);
        self.note_usage(path, growth, 0);
        Ok(node)
    }

    /// The ACL is fixed up before the znode is looked for; aversion is what counts, and all that moves (D10).
    pub(super) fn on_set_acl(
        &mut self,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Answer, Code> {
        let set = SetAcl::decode(body).map_err(|_| Code::MarshallingError)?;
        let path = set.path.as_deref().ok_or(Code::BadArguments)?;
        path::validate(path)?;
        let list = fix_up(set.acl.as_deref(), identities, stamp.options)?;
        let old = self.node(path)?;
        self.check_acl(&old, Perms::ADMIN, identities, stamp)?;
        check_version(old.aversion, set.version)?;
        let acl = self.acl_id(&list);
        let node = old.followed_by(Znode { acl, aversion: next_version(old.aversion), ..(*old).clone() });
        self.replace_node(node.clone(), Change::Updated { node: node.clone() });
        Ok(Answer::Stat(node))
    }

    /// check, inside a multi: READ permission, then the version.
    pub(super) fn check(
        &self,
        check: &CheckVersion<'_>,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<(), Code> {
        let path = check.path.as_deref().ok_or(Code::BadArguments)?;
        path::validate(path)?;
        let node = self.node(path)?;
        self.check_acl(&node, Perms::READ, identities, stamp)?;
        check_version(node.version, check.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_never_becomes_any() {
        assert_eq!(next_version(-2), 0);
        assert_eq!(next_version(i32::MAX), i32::MIN);
        assert_eq!(next_version(0), 1);
    }
}
