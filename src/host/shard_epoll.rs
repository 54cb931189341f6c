//! A shard's sockets in an epoll set, and the second shard driver: a plain thread around them, for hosts and containers
//! that refuse io_uring.
//!
//! One turn: what the rings brought, what the sockets brought, then one write for each connection that has something
//! to say. Level-triggered: a connection that may not be read is taken out of the set.

#![allow(unsafe_code)] // accept4(2), recv(2) and send(2) on descriptors that this file owns.

use super::epoll::{self, Change, Epoll, Event};
use super::notes::Say;
use super::shard_core::{Core, TICK_BUSY_MS, TICK_IDLE_MS};
use super::Fatal;
use crate::ids::{ConnId, Millis};
use crate::shard::Wrote;
use crate::tree::warm::AHEAD;
use smallvec::SmallVec;
use socket2::{SockAddr, Socket};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tracing::warn;

/// Bytes read from a group of sockets; one buffer a shard.
const READ_BYTES: usize = 256 << 10;
/// Bytes read from a socket at once.
const READ_ONE: usize = 64 << 10;
/// Sockets that are read before the first is answered: as many as memory is asked for at once.
const GROUP: usize = AHEAD;
/// More sockets than this at once are answered a group at a time, before the next are read: with 1,000 connections an eighth
/// less CPU a get, the kernel's part above all. With 5,000 and more it is neither better nor worse.
const CROWD: usize = 64;
/// Events taken from epoll at once.
const EVENTS: usize = 256;
/// Connections accepted in a turn at the most.
const ACCEPTS_A_TURN: usize = 64;
/// Connections that are sent nothing but events of others' changes, in a turn at the most: a crowd waits for input.
const EVENT_WRITES_A_TURN: usize = 128;
/// After the system refused a descriptor, this long nobody is accepted.
const ACCEPT_PAUSE_MS: u64 = 100;
/// The names of what is no connection. Connections count from 1 << 24.
const LISTENER: u64 = 0;
const BELL: u64 = 1;
const STRICT: u64 = 2;

/// Where a shard is connected to.
pub(super) struct Listeners {
    pub plain: Socket,
    /// Its connections' reads are linearizable.
    pub strict: Option<Socket>,
}

impl Listeners {
    fn named(&self) -> impl Iterator<Item = (u64, &Socket)> {
        std::iter::once((LISTENER, &self.plain)).chain(self.strict.iter().map(|strict| (STRICT, strict)))
    }
}

struct Sock {
    conn: ConnId,
    fd: OwnedFd,
    peer: SocketAddr,
    interest: u32,
    is_blocked: bool,
}

pub(super) struct EpollShard {
    pub core: Core,
    epoll: Epoll,
    listeners: Option<Listeners>,
    /// By slot, the low bits of a ConnId.
    socks: Vec<Option<Sock>>,
    buffer: Box<[u8]>,
    events: Box<[Event; EVENTS]>,
    accept_again: Option<Millis>,
}

/// Readable while anything is ready.
impl AsFd for EpollShard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn slot(conn: ConnId) -> usize {
    (conn.0 & 0xff_ffff) as usize
}

/// Whether the system has no descriptor or no memory for one more.
fn is_short(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

impl EpollShard {
    /// Listens and waits on everything; the system may refuse a descriptor.
    pub(super) fn new(core: Core, listeners: Listeners) -> io::Result<EpollShard> {
        let shard = EpollShard {
            core,
            epoll: Epoll::new()?,
            listeners: Some(listeners),
            socks: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            events: Box::new([epoll::NONE; EVENTS]),
            accept_again: None,
        };
        shard.epoll.control(Change::Add, shard.core.link().bell.as_fd().as_raw_fd(), epoll::READ, BELL)?;
        for (name, listener) in shard.listeners.iter().flat_map(Listeners::named) {
            shard.epoll.control(Change::Add, listener.as_raw_fd(), epoll::READ, name)?;
        }
        Ok(shard)
    }

    /// Runs until the server goes down.
    pub(super) fn run(mut self) -> Result<(), Fatal> {
        loop {
            let more = self.turn();
            if self.core.is_stopping {
                return Ok(());
            }
            let timeout = if more { 0 } else { self.fall_asleep() };
            self.look(timeout)?;
        }
    }

    /// Everything but the sockets' input. Returns whether there is more at once; it stops the shard when it is told to.
    pub(super) fn turn(&mut self) -> bool {
        let now = self.core.clock.mono();
        self.core.shard.observe(now);
        self.catch_up(now);
        if self.core.shard.has_crowds() && self.core.shard.has_replies() {
            // Whoever set them off waits for nobody of them; nor, where CPUs are few, for the end of this thread's slice,
            // which is milliseconds.
            self.write_replies(now);
            std::thread::yield_now();
        }
        let mut more = self.core.turn(now);
        more |= self.flush(now);
        // What was sent, or room in the ring, lets connections go on whose next requests are here already.
        more |= self.core.shard.has_resumed();
        self.close_finished();
        if self.core.is_stopping {
            self.stop(now);
            return false;
        }
        self.accept_again(now);
        more
    }

    /// How long the thread may sleep; it says so.
    fn fall_asleep(&self) -> i32 {
        self.core.fall_asleep();
        if !self.core.may_sleep() {
            return 0;
        }
        let busy = self.core.shard.outstanding() > 0;
        i32::try_from(if busy { TICK_BUSY_MS } else { TICK_IDLE_MS }).unwrap_or(10)
    }

    /// Waits for the sockets up to `timeout` ms and takes what they brought. Returns how many brought something.
    pub(super) fn look(&mut self, timeout: i32) -> Result<usize, Fatal> {
        let n = self.epoll.wait(&mut self.events[..], timeout);
        self.core.link().bell.sleep.wake_up();
        let n = n.map_err(|error| Fatal::os("waiting for sockets", &error))?;
        let now = self.core.clock.mono();
        self.core.shard.observe(now);
        for from in (0..n).step_by(GROUP) {
            self.on_group(now, from..n.min(from + GROUP));
            // While all that belongs to these sockets, in the kernel too, is still in the cache.
            if n > CROWD {
                self.write_replies(now);
            }
        }
        Ok(n)
    }

    /// Reads what a few sockets brought, then answers it. Together, so that the memory that their requests need, which
    /// is cold where there are many connections or znodes, is asked for together.
    fn on_group(&mut self, now: Millis, group: Range<usize>) {
        let room = READ_ONE.min(READ_BYTES / group.len());
        let mut filled = 0;
        let mut came: SmallVec<[(ConnId, Range<usize>); GROUP]> = SmallVec::new();
        if group.len() > 1 {
            for event in &self.events[group.clone()] {
                self.core.shard.warm_connection(ConnId(event.u64));
            }
        }
        for at in group {
            let Event { events: flags, u64: name } = self.events[at];
            match name {
                LISTENER | STRICT => self.accept(now, name),
                BELL => self.core.link().bell.drain(),
                conn => {
                    let n = self.on_ready(now, ConnId(conn), flags, filled..filled + room);
                    if n > 0 {
                        came.push((ConnId(conn), filled..filled + n));
                        filled += n;
                    }
                }
            }
        }
        if came.is_empty() {
            return;
        }
        self.core.shard.warm_first(came.iter().map(|(_, bytes)| &self.buffer[bytes.clone()]));
        // The bytes are here: what was acknowledged before they were sent is taken over before they are answered.
        self.catch_up(now);
        for (conn, bytes) in came {
            self.core.shard.received(now, conn, &self.buffer[bytes]);
            self.core.send_up_if_large();
            self.set_interest(conn);
        }
    }

    fn accept(&mut self, now: Millis, name: u64) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listeners) = &self.listeners else { return };
            let listener = if name == STRICT { listeners.strict.as_ref() } else { Some(&listeners.plain) };
            let Some(listener) = listener else { return };
            match listener.accept() {
                Ok((socket, address)) => self.take(now, socket, &address, name == STRICT),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_short(&error) => {
                    // Level-triggered: without a pause this would spin until somebody leaves.
                    for (name, listener) in listeners.named() {
                        let _ = self.epoll.control(Change::Delete, listener.as_raw_fd(), 0, name);
                    }
                    self.accept_again = Some(now.plus(Millis(ACCEPT_PAUSE_MS)));
                    return;
                }
                // The client is gone already, or a signal came: the next one.
                Err(_) => {}
            }
        }
    }

    fn accept_again(&mut self, now: Millis) {
        if self.accept_again.is_some_and(|at| now >= at) {
            self.accept_again = None;
            for (name, listener) in self.listeners.iter().flat_map(Listeners::named) {
                match self.epoll.control(Change::Add, listener.as_raw_fd(), epoll::READ, name) {
                    Ok(()) => {}
                    // It could not be taken out.
                    Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                    Err(error) => {
                        self.accept_again = Some(now.plus(Millis(ACCEPT_PAUSE_MS)));
                        if let Say::Print { dropped } = self.core.throttle.ask("not listening", now) {
                            warn!(
                                not_shown = dropped,
                                "a shard takes no new connections, and tries again soon: {error}"
                            );
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, now: Millis, socket: Socket, address: &SockAddr, is_strict: bool) {
        let Some(peer) = address.as_socket() else { return };
        if socket.set_nonblocking(true).is_err()
            || socket.set_nodelay(true).is_err()
            || !self.core.admit(now, peer)
        {
            return;
        }
        let shard = &mut self.core.shard;
        let conn = if is_strict { shard.accept_strict(now, peer) } else { shard.accept(now, peer) };
        let interest = epoll::READ;
        if self.epoll.control(Change::Add, socket.as_raw_fd(), interest, conn.0).is_err() {
            self.core.shard.lost(conn);
            self.core.leave(peer);
            return;
        }
        let at = slot(conn);
        if self.socks.len() <= at {
            self.socks.resize_with(at + 1, || None);
        }
        let sock = Sock { conn, fd: socket.into(), peer, interest, is_blocked: false };
        // The one before it in this slot may have ended in this very turn, before `close_finished` came to it.
        if let Some(ended) = self.socks[at].replace(sock) {
            self.core.leave(ended.peer);
        }
    }

    fn sock(&self, conn: ConnId) -> Option<&Sock> {
        self.socks.get(slot(conn))?.as_ref().filter(|sock| sock.conn == conn)
    }

    /// Takes over all that was published so far. A shard that has much to take writes in between: its clients' answers and
    /// events go out as they come to be, and its buffers stay small.
    #[inline]
    fn catch_up(&mut self, now: Millis) {
        if let Some(upto) = self.core.behind() {
            if !self.core.take_some(now, upto) {
                self.catch_up_in_pieces(now, upto);
            }
        }
    }

    #[cold]
    fn catch_up_in_pieces(&mut self, now: Millis, upto: u64) {
        self.core.link().lag.begin();
        let mut now = now;
        let mut full: Vec<ConnId> =
            self.socks.iter().flatten().filter(|sock| sock.is_blocked).map(|sock| sock.conn).collect();
        loop {
            // epoll is not asked meanwhile: a socket that was full is tried again.
            for conn in std::mem::take(&mut full) {
                self.write(now, conn);
                full.extend(self.is_blocked(conn).then_some(conn));
            }
            while let Some(conn) = self.core.shard.next_dirty() {
                self.write(now, conn);
                full.extend(self.is_blocked(conn).then_some(conn));
            }
            // Not `observe`: what this takes is no session's fault.
            now = self.core.clock.mono();
            if self.core.take_some(now, upto) {
                break;
            }
        }
        self.core.link().lag.end();
    }

    fn is_blocked(&self, conn: ConnId) -> bool {
        self.sock(conn).is_some_and(|sock| sock.is_blocked)
    }

    /// A socket is ready. Returns how many bytes it brought, into this place of the buffer.
    fn on_ready(&mut self, now: Millis, conn: ConnId, flags: u32, place: Range<usize>) -> usize {
        let Some(sock) = self.sock(conn) else { return 0 };
        let fd = sock.fd.as_raw_fd();
        if flags & epoll::WRITE != 0 {
            if let Some(sock) = self.socks[slot(conn)].as_mut() {
                sock.is_blocked = false;
            }
            self.write(now, conn);
        }
        let broken = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        if flags & (epoll::READ | broken) == 0 {
            return 0;
        }
        if !self.core.shard.wants_input(conn) {
            if flags & broken != 0 {
                self.core.shard.lost(conn);
            } else {
                self.set_interest(conn);
            }
            return 0;
        }
        let room = &mut self.buffer[place];
        // SAFETY: the buffer's part lives through the call, which writes up to its length; the descriptor is owned by its
        // Sock.
        let n = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(n) {
            Ok(0) => {
                self.core.shard.hung_up(conn);
                self.set_interest(conn);
                0
            }
            Ok(n) => n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    self.core.shard.lost(conn);
                }
                0
            }
        }
    }

    /// One write for each connection that has something to say. Returns whether some wait.
    fn flush(&mut self, now: Millis) -> bool {
        let mut events_alone = 0;
        loop {
            if !self.core.shard.has_replies() {
                events_alone += 1;
                if events_alone > EVENT_WRITES_A_TURN {
                    return true;
                }
            }
            let Some(conn) = self.core.shard.next_dirty() else { return false };
            self.write(now, conn);
        }
    }

    fn write_replies(&mut self, now: Millis) {
        while self.core.shard.has_replies() {
            let Some(conn) = self.core.shard.next_dirty() else { return };
            self.write(now, conn);
        }
    }

    fn write(&mut self, now: Millis, conn: ConnId) {
        let Some(sock) = self.sock(conn) else { return };
        let fd = sock.fd.as_raw_fd();
        let bytes = self.core.shard.output(conn);
        if bytes.is_empty() {
            return self.set_interest(conn);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the slice lives through the call, which only reads it; the descriptor is owned by its Sock.
        let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        let n = match usize::try_from(n) {
            Ok(n) => n,
            Err(_) => match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => 0,
                _ => {
                    self.core.shard.lost(conn);
                    if let Some(sock) = self.socks[slot(conn)].as_mut() {
                        sock.is_blocked = false;
                    }
                    return;
                }
            },
        };
        let wrote = self.core.shard.wrote(now, conn, n);
        if let Some(sock) = self.socks[slot(conn)].as_mut() {
            sock.is_blocked = wrote == Wrote::Part;
        }
        self.set_interest(conn);
    }

    /// What epoll should tell of a connection: set only when it changed.
    fn set_interest(&mut self, conn: ConnId) {
        let wants_input = self.core.shard.wants_input(conn);
        let Some(sock) = self.sock(conn) else { return };
        let mut interest = 0;
        if wants_input {
            interest |= epoll::READ;
        }
        if sock.is_blocked {
            interest |= epoll::WRITE;
        }
        if interest == sock.interest {
            return;
        }
        let fd = sock.fd.as_raw_fd();
        if self.epoll.control(Change::Modify, fd, interest, conn.0).is_ok() {
            if let Some(sock) = self.socks[slot(conn)].as_mut() {
                sock.interest = interest;
            }
        }
    }

    fn close_finished(&mut self) {
        while let Some(conn) = self.core.shard.next_closed() {
            let at = slot(conn);
            if self.sock(conn).is_some() {
                if let Some(sock) = self.socks[at].take() {
                    self.core.leave(sock.peer);
                }
            }
        }
        // A connection that was paused may be read again.
        while let Some(conn) = self.core.readable.pop() {
            self.set_interest(conn);
        }
    }

    /// Going down: nothing new is taken, what can be written at once is written.
    fn stop(&mut self, now: Millis) {
        self.listeners = None;
        self.catch_up(now);
        while let Some(conn) = self.core.shard.next_dirty() {
            self.write(now, conn);
        }
        self.core.shard.leave_tree();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::Ordering;

    #[test]
    fn what_can_not_be_listened_on_again_is_tried_until_it_can() {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        plain.set_nonblocking(true).unwrap();
        let listeners = Listeners { plain: plain.into(), strict: None };
        let mut shard = EpollShard::new(crate::host::shard_core::tests::core(), listeners).unwrap();
        let accepted = |shard: &EpollShard| shard.core.link().connections.load(Ordering::Relaxed);
        // As after the system refused a descriptor; and what epoll takes as little as memory that is not there.
        let listener = &shard.listeners.as_ref().unwrap().plain;
        shard.epoll.control(Change::Delete, listener.as_raw_fd(), 0, LISTENER).unwrap();
        let file = Socket::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        let plain = std::mem::replace(&mut shard.listeners.as_mut().unwrap().plain, file);
        let mut now = Millis(1_000);
        shard.accept_again = Some(now);
        for _ in 0..3 {
            shard.accept_again(now);
            let again = now.plus(Millis(ACCEPT_PAUSE_MS));
            assert_eq!(shard.accept_again, Some(again));
            now = again;
        }
        shard.listeners.as_mut().unwrap().plain = plain;
        // The second time it is there already, as where it could not be taken out.
        for _ in 0..2 {
            shard.accept_again = Some(now);
            shard.accept_again(now);
            assert_eq!(shard.accept_again, None);
        }
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!((shard.look(10_000).unwrap(), accepted(&shard)), (1, 1));
    }

    #[test]
    fn what_the_system_is_short_of_is_waited_for() {
        for (errno, want) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOMEM, true),
            (libc::ENOBUFS, true),
            (libc::ECONNABORTED, false),
            (libc::EINTR, false),
        ] {
            assert_eq!(is_short(&io::Error::from_raw_os_error(errno)), want, "{errno}");
        }
    }
}
