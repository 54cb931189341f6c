//! The rules of change: a State and a transaction give an answer and some Changes. The same on every server.
//!
//! Apply reads no clock and no configuration: time, options and every drawn number travel in the batch.

/// The version of the rules of change that this release knows. A rule that gives another result than before gets a new one,
/// and the old results while `State::rules` says the old one.
pub const RULES: u32 = 1;

mod acl_ids;
mod create;
mod cursor;
mod data;
mod delete;
mod digest;
mod fixup;
mod members;
mod multi;
mod session;
mod state;
mod txn;
mod usage;

pub use digest::of as znode_digest;
pub use state::{Outcome, SnapshotHead, State};
pub use txn::{stamp, Batch, BatchHeader, BatchWriter, Damaged, Options, Txn, TxnBody};
pub use usage::{OverQuota, Resource};
