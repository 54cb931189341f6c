//! create, create2, createContainer, createTTL: in ZooKeeper's order of checks.

use super::fixup::fix_up;
use super::state::{Stamp, State};
use super::txn::Identities;
use crate::error::Code;
use crate::ids::SessionId;
use crate::mutant::{self, Mutant};
use crate::tree::{
    ephemeral_kind, path, quota, AclId, Answer, EphemeralKind, Node, Znode, CONTAINER_OWNER, TTL_MAX_MS,
    TTL_OWNER_BASE,
};
use crate::wire::{Create, OpCode, Perms};

/// The create flags: what the client calls CreateMode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mode {
    pub ephemeral: bool,
    pub sequential: bool,
    pub ttl: bool,
}

/// CreateMode.CONTAINER.
pub(super) const CONTAINER_FLAG: i32 = 4;

impl Mode {
    /// Reads the flags; `None` is not a mode.
    pub(super) fn from_flags(flags: i32) -> Option<Mode> {
        let (ephemeral, sequential, ttl) = match flags {
            // 4 is the container's flag: with any other operation it makes a plain znode (TR39).
            0 | 4 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            _ => return None,
        };
        Some(Mode { ephemeral, sequential, ttl })
    }
}

impl State {
    pub(super) fn on_create(
        &mut self,
        op: OpCode,
        session: SessionId,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Answer, Code> {
        let create = Create::decode(op, body).map_err(|_| Code::MarshallingError)?;
        let node = self.create(op, session, &create, identities, stamp)?;
        Ok(match op {
            OpCode::Create => Answer::Path(node.path.clone()),
            _ => Answer::PathAndStat(node),
        })
    }

    /// TR19, TR20, B31: the order of the checks decides which error a client sees.
    pub(super) fn create(
        &mut self,
        op: OpCode,
        session: SessionId,
        create: &Create<'_>,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<Node, Code> {
        let mode = Mode::from_flags(create.flags).ok_or(Code::BadArguments)?;
        if mode.ttl && !stamp.options.extended_types {
            return Err(Code::Unimplemented);
        }
        let ttl_fits = (1..=TTL_MAX_MS).contains(&create.ttl_ms);
        // createTTL with a mode that is none (chapter 17): ZooKeeper logs what it can not apply; refused here.
        if mode.ttl != ttl_fits || (!mode.ttl && create.ttl_ms >= 0) || (op == OpCode::CreateTtl && !mode.ttl)
        {
            return Err(Code::BadArguments);
        }
        // A local session, which its server alone knows, owns no znode.
        if session == SessionId::NONE && mode.ephemeral && matches!(op, OpCode::Create | OpCode::Create2) {
            return Err(Code::EphemeralOnLocalSession);
        }
        let path = create.path.as_deref().ok_or(Code::MarshallingError)?;
        let parent_path = path::coarse_parent(path)?;
        // The open list, which nearly every znode has, needs no look at the rules: they let it through unchanged.
        let list = create.acl.as_deref();
        let acl = match list {
            Some([only]) if only.is_open() => None,
            _ => Some(fix_up(list, identities, stamp.options)?),
        };
        let parent = self.node(parent_path)?;
        self.check_acl(&parent, Perms::CREATE, identities, stamp)?;
        let suffix = if mutant::is(Mutant::SuffixOfChildren) { parent.num_children } else { parent.cversion };
        let path = if mode.sequential { format!("{path}{suffix:010}") } else { path.to_owned() };
        path::validate(&path)?;
        if self.table.get(&path).is_some() {
            return Err(Code::NodeExists);
        }
        let owner_kind = ephemeral_kind(parent.owner, stamp.options.extended_types);
        if matches!(owner_kind, EphemeralKind::Session(_)) {
            return Err(Code::NoChildrenForEphemerals);
        }
        // A quota on the root has no meaning; ZooKeeper logs it and can not start again (chapter 17).
        if quota::subject(&path, quota::LIMITS) == Some(path::ROOT) {
            return Err(Code::BadArguments);
        }
        let bytes = create.data.map_or(0, |data| i64::try_from(data.len()).unwrap_or(i64::MAX));
        self.check_quota(&path, bytes, 1, stamp)?;
        if stamp.options.read_only {
            return Err(Code::NotReadOnly);
        }
        let owner = match op {
            OpCode::CreateContainer => CONTAINER_OWNER,
            OpCode::CreateTtl => TTL_OWNER_BASE | create.ttl_ms,
            _ if mode.ephemeral => session.0,
            _ => 0,
        };
        let znode = Znode {
            acl: acl.map_or(AclId::OPEN, |list| self.acl_id(&list)),
            owner,
            place: self.table.free_place(parent.path.as_str()),
            ..Znode::created(&path, stamp.zxid, stamp.wall)
        };
        let node = Node::new(znode, create.data);
        let parent = parent.followed_by(Znode {
            cversion: parent.cversion.wrapping_add(1),
            pzxid: stamp.zxid,
            num_children: parent.num_children + 1,
            ..(*parent).clone()
        });
        self.create_node(node.clone(), parent);
        if quota::subject(&path, quota::STATS).is_some() {
            self.recount_usage(&node);
        }
        self.note_usage(&path, bytes, 1);
        Ok(node)
    }
}
