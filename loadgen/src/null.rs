//! The null responder: a server that knows the protocol's frames and nothing else. It answers every request with a
//! constant of the right size, so what a run against it costs is the network, the kernel and the load generator: the
//! floor below every server. One thread, epoll, one receive and one send for what a wake-up brought.
//!
//! It also is the bare loop of sends that a watch fan-out is compared with: a getData that asks for a watch puts its
//! connection on a list, a setData answers its own client and then sends one event to every connection on it.

use ringkeeper::wire::{
    begin_frame, end_frame, put_i32, put_i64, put_multi_end, put_multi_header, ConnectRequest,
    ConnectResponse, MultiItem, MultiReader, OpCode, Reader, SetData,
};
use rustix::event::{epoll, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

const LISTENER: u64 = u64::MAX;
const FRAME_BYTES_MAX: usize = 1 << 20;

struct Conn {
    socket: OwnedFd,
    rest: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
    is_greeted: bool,
    is_watching: bool,
    /// It said goodbye: what is before that is answered, then it is closed.
    is_leaving: bool,
}

struct Responder {
    epoll: OwnedFd,
    listener: TcpListener,
    conns: Vec<Option<Conn>>,
    watching: Vec<usize>,
    /// A getData's answer, whole, with room for the xid.
    data: Vec<u8>,
    children: usize,
}

/// Serves until `stop`. `ready` hears the address.
pub fn serve(
    listen: SocketAddr,
    value_bytes: usize,
    stop: &AtomicBool,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    net::listen(&listener, 4_096)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    ready(listener.local_addr()?);
    let mut value = Vec::new();
    crate::plan::put_value(&mut value, value_bytes);
    let mut data = Vec::new();
    reply(&mut data, 0, |out| {
        put_i32(out, value_bytes as i32);
        out.extend_from_slice(&value);
        stat(out, value_bytes as i32);
    });
    let mut responder =
        Responder { epoll, listener, conns: Vec::new(), watching: Vec::new(), data, children: 10 };
    let mut space = vec![0; 256 << 10];
    let mut out = Vec::with_capacity(256 << 10);
    while !stop.load(Ordering::Relaxed) {
        responder.turn(&mut space, &mut out)?;
    }
    Ok(())
}

impl Responder {
    fn turn(&mut self, space: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let timeout = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        let count = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            if data.u64() == LISTENER {
                self.accept()?;
                continue;
            }
            let index = data.u64() as usize;
            if flags.contains(epoll::EventFlags::OUT) {
                self.send(index, &[]);
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.read(index, space, out);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let flags = net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC;
            match net::accept_with(&self.listener, flags) {
                Ok(socket) => {
                    net::sockopt::set_tcp_nodelay(&socket, true)?;
                    let index = self.conns.len();
                    let data = epoll::EventData::new_u64(index as u64);
                    epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
                    let (rest, unsent) = (Vec::new(), Vec::new());
                    self.conns.push(Some(Conn {
                        socket,
                        rest,
                        unsent,
                        is_greeted: false,
                        is_watching: false,
                        is_leaving: false,
                    }));
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&mut self, index: usize, space: &mut [u8], out: &mut Vec<u8>) {
        let Some(conn) = &mut self.conns[index] else { return };
        let got = match net::recv(&conn.socket, &mut *space, RecvFlags::empty()) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return self.conns[index] = None,
            Ok((_, got)) => got,
            Err(_) => return,
        };
        out.clear();
        let mut sets = 0;
        let used = if conn.rest.is_empty() {
            let used = self.answer(index, &space[..got], out, &mut sets);
            if let (Some(used), Some(conn)) = (used, &mut self.conns[index]) {
                conn.rest.extend_from_slice(&space[used..got]);
            }
            used
        } else {
            let mut rest = std::mem::take(&mut conn.rest);
            rest.extend_from_slice(&space[..got]);
            let used = self.answer(index, &rest, out, &mut sets);
            if let (Some(used), Some(conn)) = (used, &mut self.conns[index]) {
                rest.drain(..used);
                conn.rest = rest;
            }
            used
        };
        if used.is_none() {
            self.conns[index] = None;
            return;
        }
        self.send(index, out);
        if self.conns[index].as_ref().is_some_and(|conn| conn.is_leaving) {
            self.conns[index] = None;
        }
        if sets > 0 {
            self.fire();
        }
    }

    /// Answers the whole frames in `bytes`; `None`: not the protocol, or the client said goodbye.
    fn answer(&mut self, index: usize, bytes: &[u8], out: &mut Vec<u8>, sets: &mut usize) -> Option<usize> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length > FRAME_BYTES_MAX {
                return None;
            }
            let Some(frame) = bytes.get(at + 4..at + 4 + length) else { break };
            at += 4 + length;
            let conn = self.conns[index].as_mut()?;
            if !conn.is_greeted {
                let request = ConnectRequest::decode(frame).ok()?;
                conn.is_greeted = true;
                let session_id = index as i64 + 1;
                let (timeout_ms, read_only) = (request.timeout_ms.max(1), request.read_only);
                ConnectResponse { timeout_ms, session_id, password: [7; 16], read_only }.encode(out);
                continue;
            }
            let xid = i32::from_be_bytes(*frame.first_chunk::<4>()?);
            let code = i32::from_be_bytes(*frame.get(4..)?.first_chunk::<4>()?);
            match OpCode::from_i32(code) {
                Some(OpCode::GetData) => {
                    let start = out.len();
                    out.extend_from_slice(&self.data);
                    out[start + 4..start + 8].copy_from_slice(&xid.to_be_bytes());
                    if frame.last() == Some(&1) && !conn.is_watching {
                        conn.is_watching = true;
                        self.watching.push(index);
                    }
                }
                Some(OpCode::SetData) => {
                    *sets += 1;
                    let length = SetData::decode(&frame[8..]).ok()?.data.map_or(0, <[u8]>::len);
                    reply(out, xid, |out| stat(out, length as i32));
                }
                Some(OpCode::Multi) => {
                    let start = begin_frame(out);
                    put_i32(out, xid);
                    put_i64(out, 1);
                    put_i32(out, 0);
                    let mut items = MultiReader::new(OpCode::Multi, &frame[8..]);
                    while let Some(item) = items.next_item().ok()? {
                        let MultiItem::SetData(set) = item else { return None };
                        put_multi_header(out, OpCode::SetData as i32, false, 0);
                        stat(out, set.data.map_or(0, <[u8]>::len) as i32);
                    }
                    put_multi_end(out);
                    end_frame(out, start);
                }
                Some(OpCode::Exists) => reply(out, xid, |out| stat(out, 0)),
                Some(OpCode::Create | OpCode::Sync) => {
                    let path = Reader::new(&frame[8..]).buffer().ok()??;
                    reply(out, xid, |out| {
                        put_i32(out, path.len() as i32);
                        out.extend_from_slice(path);
                    });
                }
                Some(OpCode::GetChildren | OpCode::GetChildren2) => {
                    let children = self.children;
                    reply(out, xid, |out| {
                        put_i32(out, children as i32);
                        for _ in 0..children {
                            ringkeeper::wire::put_string(out, "k00000000");
                        }
                        if code == OpCode::GetChildren2 as i32 {
                            stat(out, 0);
                        }
                    });
                }
                Some(OpCode::CloseSession) => {
                    reply(out, xid, |_| {});
                    self.conns[index].as_mut()?.is_leaving = true;
                    return Some(bytes.len());
                }
                _ => reply(out, xid, |_| {}),
            }
        }
        Some(at)
    }

    /// One event to every connection that watches: what a fan-out costs when nothing but the sends is left.
    fn fire(&mut self) {
        let mut event = Vec::new();
        ringkeeper::wire::watcher_event(
            &mut event,
            ringkeeper::wire::EventType::NodeDataChanged,
            ringkeeper::wire::NO_ZXID,
            "/watched",
        );
        for index in std::mem::take(&mut self.watching) {
            if let Some(conn) = &mut self.conns[index] {
                conn.is_watching = false;
            }
            self.send(index, &event);
        }
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let Some(conn) = &mut self.conns[index] else { return };
        let was_waiting = !conn.unsent.is_empty();
        let mut at = 0;
        if was_waiting {
            conn.unsent.extend_from_slice(bytes);
        }
        let all = if was_waiting { std::mem::take(&mut conn.unsent) } else { Vec::new() };
        let bytes = if was_waiting { &all[..] } else { bytes };
        while at < bytes.len() {
            match net::send(&conn.socket, &bytes[at..], SendFlags::NOSIGNAL) {
                Ok(sent) => at += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.conns[index] = None,
            }
        }
        conn.unsent.extend_from_slice(&bytes[at..]);
        let is_waiting = !conn.unsent.is_empty();
        if is_waiting != was_waiting {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, is_waiting);
            let _ = epoll::modify(&self.epoll, &conn.socket, epoll::EventData::new_u64(index as u64), flags);
        }
    }
}

fn reply(out: &mut Vec<u8>, xid: i32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out);
    put_i32(out, xid);
    put_i64(out, 1);
    put_i32(out, 0);
    body(out);
    end_frame(out, start);
}

fn stat(out: &mut Vec<u8>, data_length: i32) {
    for _ in 0..2 {
        put_i64(out, 1);
    }
    for _ in 0..2 {
        put_i64(out, 1_700_000_000_000);
    }
    for _ in 0..3 {
        put_i32(out, 0);
    }
    put_i64(out, 0);
    put_i32(out, data_length);
    put_i32(out, 0);
    put_i64(out, 1);
}
