//! Who is connected, and until when. `table` is replicated state; `expiry` is the leader's own view of time.

mod expiry;
mod table;

pub use expiry::{Expiry, SessionClock};
pub use table::{Password, Session, SessionTable};
