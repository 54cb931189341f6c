//! History as bytes: the record format, its checksums, and where the truth ends after a crash.
//!
//! Nothing here touches a file: `host::disk` writes what is encoded here and hands back what it reads.
#![doc = include_str!("FORMAT.md")]

pub mod record;
pub mod recover;
pub mod segment;
pub mod walk;

pub use record::{
    Append, EntryRef, HardState, Kind, NotARecord, Position, RecordHeader, Sequence, BLOCK, PAYLOAD_BYTES_MAX,
};
pub use recover::{recover, BreakReason, Cut, Damage, DamageReason, Recovered, Segments, Tail};
pub use segment::{Continues, NotAHeader, SegmentHeader, SegmentNumber};
pub use walk::Walk;
