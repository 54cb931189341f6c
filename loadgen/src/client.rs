//! One connection of one session, without waiting: bytes out, frames in, the order of xids held.

use crate::record::errors;
use ringkeeper::wire::{
    begin_frame, end_frame, put_buffer, put_i32, put_string, xid, ConnectRequest, ConnectResponse, OpCode,
    Reader,
};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::io;
use std::net::SocketAddr;

/// Largest reply that is taken; ZooKeeper's own client stops at 4 MiB + 1.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// TCP's own handshake.
    Dialling,
    /// The handshake record is sent, its answer is awaited.
    Greeting,
    Up,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Gone {
    /// The server, or the network, closed it.
    Closed,
    /// The socket reported an error.
    Socket(io::Error),
    /// The server answered the handshake with session 0: the session is gone.
    SessionExpired,
    /// What came is no frame of the protocol.
    Protocol(&'static str),
    /// It did not take what --auth said: the code of its answer.
    Credentials(i32),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::Closed => f.write_str("the server closed the connection"),
            Gone::Socket(error) => write!(f, "{error}"),
            Gone::SessionExpired => f.write_str("the server says that the session has expired"),
            Gone::Protocol(what) => write!(f, "the server sent {what}"),
            Gone::Credentials(code) => {
                write!(f, "the server refused the credentials: {}", errors::name(*code))
            }
        }
    }
}

/// A session's identity, kept over its connections.
#[derive(Clone, Default, Debug)]
pub struct Session {
    pub id: i64,
    pub password: Vec<u8>,
    /// As the server negotiated it.
    pub timeout_ms: i32,
    pub last_zxid: i64,
}

/// A connection. Its socket never blocks.
pub struct Link {
    socket: OwnedFd,
    phase: Phase,
    wanted_timeout_ms: i32,
    pub session: Session,
    out: Vec<u8>,
    out_at: usize,
    rest: Vec<u8>,
}

impl Link {
    /// Begins to connect. The handshake record waits in the out-buffer, and whole auth frames behind it, and is sent when
    /// TCP is ready.
    pub fn dial(to: SocketAddr, session: Session, timeout_ms: i32, auth: &[u8]) -> io::Result<Link> {
        let family = if to.is_ipv6() { net::AddressFamily::INET6 } else { net::AddressFamily::INET };
        let flags = net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, net::SocketType::STREAM, flags, None)?;
        net::sockopt::set_tcp_nodelay(&socket, true)?;
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut out = Vec::with_capacity(256);
        let password = if session.password.is_empty() { &[0; 16][..] } else { &session.password };
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session.last_zxid,
            timeout_ms,
            session_id: session.id,
            password: Some(password),
            read_only: Some(false),
        }
        .encode(&mut out);
        out.extend_from_slice(auth);
        Ok(Link {
            socket,
            phase: Phase::Dialling,
            wanted_timeout_ms: timeout_ms,
            session,
            out,
            out_at: 0,
            rest: Vec::new(),
        })
    }

    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The session timeout that was asked for.
    #[must_use]
    pub fn wanted_timeout_ms(&self) -> i32 {
        self.wanted_timeout_ms
    }

    /// Where requests are appended, whole frames.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether bytes wait to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Sends what the socket takes. `true`: all of it.
    pub fn flush(&mut self) -> Result<bool, Gone> {
        if self.phase == Phase::Dialling {
            match net::sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => {}
                Ok(Err(error)) | Err(error) => return Err(Gone::Socket(error.into())),
            }
        }
        while self.out_at < self.out.len() {
            match net::send(&self.socket, &self.out[self.out_at..], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.out_at += sent;
                    if self.phase == Phase::Dialling {
                        self.phase = Phase::Greeting;
                    }
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Gone::Closed),
                Err(error) => return Err(Gone::Socket(error.into())),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(true)
    }

    /// Reads once into `space` and hands each whole frame to `take`, the handshake's answer excepted. Returns whether
    /// there may be more to read.
    pub fn receive(&mut self, space: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<bool, Gone> {
        let got = match net::recv(&self.socket, &mut *space, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(Gone::Closed),
            Ok((_, got)) => got,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => return Ok(false),
            Err(Errno::CONNRESET) => return Err(Gone::Closed),
            Err(error) => return Err(Gone::Socket(error.into())),
        };
        let more = got == space.len();
        if self.rest.is_empty() {
            let used = self.frames(&space[..got], &mut take)?;
            self.rest.extend_from_slice(&space[used..got]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(&space[..got]);
            let used = self.frames(&rest, &mut take)?;
            rest.drain(..used);
            self.rest = rest;
        }
        Ok(more)
    }

    fn frames(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<usize, Gone> {
        let mut at = 0;
        while let Some(head) = bytes[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length > REPLY_BYTES_MAX {
                return Err(Gone::Protocol("a frame of an impossible length"));
            }
            let Some(frame) = bytes.get(at + 4..at + 4 + length) else { break };
            at += 4 + length;
            if self.phase == Phase::Up {
                match credentials(frame) {
                    None => take(frame),
                    Some(0) => {}
                    Some(code) => return Err(Gone::Credentials(code)),
                }
            } else {
                self.greeted(frame)?;
            }
        }
        Ok(at)
    }

    fn greeted(&mut self, frame: &[u8]) -> Result<(), Gone> {
        let answer =
            ConnectResponse::decode(frame).map_err(|_| Gone::Protocol("a handshake that is too short"))?;
        if answer.session_id == 0 || answer.timeout_ms <= 0 {
            return Err(Gone::SessionExpired);
        }
        self.session.id = answer.session_id;
        self.session.password = answer.password.to_vec();
        self.session.timeout_ms = answer.timeout_ms;
        self.phase = Phase::Up;
        Ok(())
    }
}

/// Appends an addauth.
pub fn put_auth(out: &mut Vec<u8>, scheme: &str, credentials: &[u8]) {
    let start = begin_frame(out);
    put_i32(out, xid::AUTH.0);
    put_i32(out, OpCode::Auth as i32);
    put_i32(out, 0);
    put_string(out, scheme);
    put_buffer(out, Some(credentials));
    end_frame(out, start);
}

/// The last xid there is: no request before it has it.
const CLOSE_XID: i32 = i32::MAX;

/// Appends a closeSession.
pub fn put_close(out: &mut Vec<u8>) {
    let start = begin_frame(out);
    put_i32(out, CLOSE_XID);
    put_i32(out, OpCode::CloseSession as i32);
    end_frame(out, start);
}

/// Whether a frame is a closeSession's answer.
#[must_use]
pub fn is_close(frame: &[u8]) -> bool {
    frame.starts_with(&CLOSE_XID.to_be_bytes())
}

/// The code of an addauth's answer; `None`: the frame is none.
fn credentials(frame: &[u8]) -> Option<i32> {
    let mut reader = Reader::new(frame);
    let is_answer = reader.i32() == Ok(xid::AUTH.0);
    is_answer.then(|| reader.i64().and_then(|_| reader.i32()).unwrap_or(errors::MALFORMED))
}
