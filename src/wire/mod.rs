//! Bytes to records and back: ZooKeeper's wire protocol. This room knows no meaning.
//!
//! Every decoder reads borrowed bytes, checks each length against what is there before it takes it, and allocates
//! nothing in proportion to a number that came from outside. Encoders append to a `Vec<u8>`.

mod connect;
mod data;
mod frame;
mod jute;
mod op;
mod reply;
mod request;

pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_BYTES};
pub use data::{Acl, AclRef, Id, IdRef, Perms, Stat};
pub use frame::{first_string, next_frame, Frame, FRAME_BYTES_MAX_DEFAULT};
pub use jute::{java_text, put_buffer, put_i32, put_i64, put_string, Reader, Truncated};
pub use op::{xid, OpCode};
pub use reply::{
    begin_frame, end_frame, put_multi_end, put_multi_error, put_multi_header, reply_header, watcher_event,
    EventType, NO_ZXID,
};
pub use request::{
    AddWatch, AuthPacket, CheckVersion, Create, Delete, GetAcl, MultiItem, MultiReader, PathAndType,
    PathAndWatch, PathList, Reconfig, RequestHeader, SetAcl, SetData, SetWatches, Text,
};
