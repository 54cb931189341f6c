//! The only room that touches the machine it runs on.

pub mod disk;
pub mod preflight;
