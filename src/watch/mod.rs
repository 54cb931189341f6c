//! Who wants to know. Watches belong to a connection of one shard and die with it (TR07); history never hears of them.

mod fire;
mod table;

pub use fire::Recipients;
pub use table::{Bits, Full, Kind, Limits, Watches};
