//! What is measured otherwise than by a steady load.

pub mod disk;
pub mod fan_out;
pub mod fill;
pub mod gap;
pub mod ladder;
mod pool;
pub mod sessions;
