//! The only room that touches the machine it runs on.

mod asks;
mod bell;
mod clock;
pub mod disk;
mod link;
pub mod preflight;
