//! ringkeeper-load: open-loop load for any server that speaks ZooKeeper's protocol.
//!
//! ```text
//! plan                what is asked: operations, keys, values; pure
//! scenario            a plan from a file
//! record  result      what was measured, and what is kept of it; pure
//! client  words       a connection; a server's four-letter words
//! ask                 requests and what must come back
//! setup               the tree before a run
//! process  cgroup     what the kernel says of processes and their limits
//! server  container   a server as its processes; a container's name to them
//! durability  host    whether writes are on the disk; the machine
//! schedule            when operations are due; pure
//! engine              one thread of load: schedule, connections, measures
//! busy                whether such a thread was the limit
//! run                 a run, from its threads to its result
//! modes               ladder, fan-out, storm, hold, churn, fill, gap
//! null                the server that answers constants: the floor
//! table               for eyes
//! report  compare     for eyes with a browser: one result, several
//! hlog  files         what is kept on disk
//! args  main          for hands
//! ```
//!
//! Of ringkeeper it uses `wire` and nothing else, so it measures any server.

pub mod args;
pub mod ask;
pub mod busy;
pub mod cgroup;
pub mod client;
pub mod compare;
pub mod container;
pub mod durability;
pub mod engine;
pub mod files;
pub mod hlog;
pub mod host;
pub mod modes;
pub mod null;
pub mod plan;
pub mod process;
pub mod record;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod setup;
pub mod table;
pub mod ticker;
pub mod words;
