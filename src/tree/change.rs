//! What happened to whom: the facts that apply finds and every owner's table takes over in order.

use super::acl::{AclId, AclList};
use super::path::Path;
use super::znode::Node;
use crate::error::Code;
use crate::ids::{Owner, SessionId};

/// A session's new owner.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    pub session: SessionId,
    pub old: Option<Owner>,
    pub new: Owner,
}

/// A session as its client is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub id: SessionId,
    pub timeout_ms: i32,
    pub password: [u8; 16],
    /// Known to the server alone that granted it.
    pub is_local: bool,
}

/// One fact. What is seldom is boxed: a batch of these crosses between cores, 32 bytes each.
///
/// The order inside a transaction is the order of its operations, and so of its watch events.
#[derive(Clone, Debug)]
pub enum Change {
    /// A znode came to be: NodeCreated on it, NodeChildrenChanged on its parent.
    Created { node: Node, parent: Node },
    /// A znode is gone (`node` is its last state): NodeDeleted on it, NodeChildrenChanged on its parent.
    Deleted { node: Node, parent: Node },
    /// Data was set: NodeDataChanged.
    DataSet { node: Node },
    /// Something that no watch hears of: an ACL, a quota's usage.
    Updated { node: Node },
    /// A list that later changes refer to.
    AclAdded { id: AclId, list: AclList },
    /// A list that no znode refers to any more.
    AclDropped { id: AclId },
    /// A session has a (new) owner; the old owner's connection is closed.
    Attached(Box<Attached>),
    /// A session is gone, its ephemerals went before in the same transaction.
    SessionClosed(Box<(SessionId, Owner)>),
}

impl Change {
    /// The znode that it is about.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match self {
            Change::Created { node, .. }
            | Change::Deleted { node, .. }
            | Change::DataSet { node }
            | Change::Updated { node } => Some(node),
            Change::AclAdded { .. }
            | Change::AclDropped { .. }
            | Change::Attached(_)
            | Change::SessionClosed(_) => None,
        }
    }
}

/// What one transaction answers to the connection that asked. Its shard encodes it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The header alone, with a code.
    Code(Code),
    /// A path: create.
    Path(Path),
    /// A path and a Stat: create2, createContainer, createTTL.
    PathAndStat(Node),
    /// A Stat: setData, setACL.
    Stat(Node),
    /// Data and a Stat: reconfig.
    Data(Node),
    /// None yet: a later transaction answers.
    Later,
    /// A multi's results, encoded.
    Multi(Box<[u8]>),
    /// A session was made or attached.
    Session(Box<Granted>),
    /// A re-attach was refused: no such session, or the password is wrong.
    SessionRefused,
    /// The connection does not own the session (any more): it is closed without a word (TR42).
    Moved,
}
