//! ringkeeper: ZooKeeper's protocol on one core per shard.
//!
//! Floors, lowest first; a room imports only from the floors above its own line (`tests/tidy.rs` holds this):
//!
//! ```text
//! ids  error  metrics            words
//! wire                           vocabulary
//! tree  auth  session  log       state and history
//! apply                          the rules of change
//! snapshot  watch                what is made of a change
//! handoff                        what crosses the ring
//! sequencer  shard               the machines: strangers to each other
//! config                         what the operator said
//! admin                          what operators see
//! host                           the world
//! ```

pub mod ids;
pub mod error;
pub mod wire;
pub mod tree;
pub mod auth;
pub mod session;
pub mod log;
pub mod apply;
pub mod snapshot;
pub mod watch;
pub mod handoff;
pub mod sequencer;
pub mod shard;
pub mod config;
pub mod host;
