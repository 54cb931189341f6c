//! What happened to whom: the facts that apply finds and every owner's table takes over in order.

use super::acl::{AclId, AclList};
use super::znode::Node;
use crate::ids::{Owner, SessionId};

/// One fact. The order inside a transaction is the order of its operations, and so of its watch events.
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
    Attached { session: SessionId, old: Option<Owner>, new: Owner },
    /// A session is gone, its ephemerals went before in the same transaction.
    SessionClosed { session: SessionId, owner: Owner },
}
