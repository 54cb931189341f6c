//! What the server writes: framed replies, multi results, watch events. Appended straight to an out-buffer.

use super::jute::{put_i32, put_string};
use super::op::xid;
use crate::error::Code;
use crate::ids::{Xid, Zxid};

/// The zxid in the header of an event that no transaction of now caused (setWatches' catch-up), and of the answer to
/// an unknown operation.
pub const NO_ZXID: Zxid = Zxid(-1);

/// Leaves room for a frame's length and says where.
#[inline]
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Writes the length of the frame that began at `start`.
#[inline]
pub fn end_frame(out: &mut [u8], start: usize) {
    let length = i32::try_from(out.len() - start - 4).expect("a reply is far below 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends ReplyHeader. On any code but Ok nothing follows it, but for the few cases of chapter 1.4.
#[inline]
pub fn reply_header(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, code: Code) {
    let mut b = [0u8; 16];
    b[0..4].copy_from_slice(&xid.0.to_be_bytes());
    b[4..12].copy_from_slice(&zxid.0.to_be_bytes());
    b[12..16].copy_from_slice(&code.as_i32().to_be_bytes());
    out.extend_from_slice(&b);
}

/// What happened to a path, as a watcher hears it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// KeeperState.SyncConnected: the only state that a server puts on the wire.
const SYNC_CONNECTED: i32 = 3;

/// Appends a whole event frame.
pub fn watcher_event(out: &mut Vec<u8>, event: EventType, zxid: Zxid, path: &str) {
    let start = begin_frame(out);
    reply_header(out, xid::EVENT, zxid, Code::Ok);
    put_i32(out, event as i32);
    put_i32(out, SYNC_CONNECTED);
    put_string(out, path);
    end_frame(out, start);
}

/// Appends a MultiHeader: what kind of result follows.
pub fn put_multi_header(out: &mut Vec<u8>, kind: i32, done: bool, err: i32) {
    put_i32(out, kind);
    out.push(u8::from(done));
    put_i32(out, err);
}

/// Appends an error result: its code stands in the header and in the body.
pub fn put_multi_error(out: &mut Vec<u8>, code: Code) {
    put_multi_header(out, -1, false, code.as_i32());
    put_i32(out, code.as_i32());
}

/// Appends the end marker of a multi's results.
pub fn put_multi_end(out: &mut Vec<u8>) {
    put_multi_header(out, -1, true, -1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_frame_that_zookeeper_sends() {
        let mut out = Vec::new();
        watcher_event(&mut out, EventType::NodeDataChanged, NO_ZXID, "/a");
        let want = "0000001effffffffffffffffffffffff00000000000000030000000300000002\
                    2f61";
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, want);
    }
}
