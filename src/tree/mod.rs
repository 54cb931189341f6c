//! Immutable znodes, and the private table that each owner keeps of them; it answers reads.
//!
//! A changed znode is built once, by apply on the sequencer, and shared by all owners. Each owner (the sequencer and
//! every shard) has its own table of thin pointers and takes the changes in order, so a table is exactly the state
//! at one zxid between two commands and a read needs no lock.

pub mod acl;
mod change;
mod children;
mod loader;
pub mod path;
pub mod quota;
mod striped;
mod table;
pub mod warm;
mod znode;

pub use acl::{AclId, AclList, AclTable};
pub use change::{Answer, Attached, Change, Granted};
pub use children::ChildSet;
pub use loader::{PathTwice, TableLoader};
pub use path::Path;
pub use striped::Striped;
#[cfg(test)]
pub(crate) use striped::STRIPE_ENTRIES_MAX;
pub use table::{PathHasher, Table};
pub use znode::{ephemeral_kind, EphemeralKind, Node, Znode, CONTAINER_OWNER, TTL_MAX_MS, TTL_OWNER_BASE};
