//! The disk: the data directory and its lock, the log's writer and reader, files that appear whole.
//!
//! What the bytes mean is `crate::log`'s; when they are written and how they become durable is decided here.

mod backend;
mod buffer;
mod dir;
mod fault;
mod file;
mod forget;
mod identity;
mod inspect;
mod map;
mod open;
mod pool;
mod publish;
mod read;
mod space;
mod uring;
mod writer;

pub use backend::{Backend, Completion, ThreadBackend};
pub use buffer::AlignedBuf;
pub use dir::{
    first_inside, list_snapshots, lock_path, purge_snapshots, read_identity, try_shared_lock, DataDir,
    DirError, DirOptions, LockState, SnapshotFile,
};
pub use fault::{DiskFault, FaultKind, LogError, SubmitError};
pub use file::{is_no_space, Disk, FileBytes, Item, LogFile, RealDisk, SyncWrite};
pub use identity::Identity;
pub use inspect::{inspect_segment, verify_log, LogReport};
pub use map::{install_sigbus_handler, Mapping};
pub use open::{LogIo, LogOptions, LogPlace, SEGMENT_BYTES_MIN};
pub use pool::{segment_number, segment_path};
pub use publish::{publish_file, sync_paced, Pace};
pub use read::read_payload;
pub use space::SpaceState;
pub use uring::UringBackend;
pub use writer::{Log, Waited, IN_FLIGHT_MAX};
