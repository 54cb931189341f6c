//! ringkeeper: ZooKeeper's protocol on one core per shard.
//!
//! Floors, lowest first; a room imports only from the floors above its own line (`tests/tidy.rs` holds this):
//!
//! ```text
//! ids  error  metrics  mutant    words
//! wire                           vocabulary
//! tree  auth  session  log  membership   state and history
//! apply                          the rules of change
//! snapshot  watch                what is made of a change
//! handoff  peer                  what crosses the ring, what crosses the wire between servers
//! sequencer  shard               the machines: strangers to each other
//! config                         what the operator said
//! admin                          what operators see
//! host                           the world
//! ```

pub mod admin;
pub mod apply;
pub mod auth;
pub mod config;
pub mod error;
pub mod handoff;
pub mod host;
pub mod ids;
pub mod log;
pub mod membership;
pub mod mutant;
pub mod peer;
pub mod sequencer;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod tree;
pub mod watch;
pub mod wire;
