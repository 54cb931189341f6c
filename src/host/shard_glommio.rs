//! The first shard driver: a glommio executor (io_uring) on the shard's own thread.
//!
//! A task a connection, a task that accepts, and the pump, which does what is not one connection's: publications,
//! proposals, others' replies, events in slices, the tick. glommio's streams are used for waiting only: bytes come by
//! one `recv` into the one buffer of the shard, and leave by one `send` for all that was answered.
//!
//! All state lies in one `RefCell`, borrowed inside a poll and never across one. A wake-up from another thread may
//! reach a busy executor late; nothing hangs on it: each connection's task takes publications over before it answers,
//! and the tick looks at the rings.

#![allow(unsafe_code)] // send(2) and taking over a listener's descriptor.

use super::preflight::{SHARD_IO_MEMORY, SHARD_RING_DEPTH};
use super::shard_core::{Core, TICK_BUSY_MS, TICK_IDLE_MS};
use super::Fatal;
use crate::ids::{ConnId, Millis};
use crate::shard::Wrote;
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use socket2::Socket;
use std::cell::RefCell;
use std::future::{poll_fn, Future};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes read from a socket at once; one buffer a shard.
const READ_BYTES: usize = 64 << 10;
/// Connections accepted before others run.
const ACCEPTS_A_TURN: usize = 64;
/// Replies written, and connections told nothing but events of others' changes, before others run.
const REPLY_WRITES_A_TURN: usize = 256;
const EVENT_WRITES_A_TURN: usize = 128;
/// Writes to a socket that was full, before others run.
const WRITES_A_TURN: usize = 4;
/// After the system refused a descriptor, this long nobody is accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long tasks run before the rings are looked at. With glommio's 100 ms a busy shard hears others that late.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);

/// What all tasks of a shard share.
type Shared = Rc<RefCell<GlommioShard>>;

struct Sock {
    conn: ConnId,
    stream: TcpStream,
    peer: SocketAddr,
    /// Wakes the connection's task.
    waker: Option<Waker>,
    /// The task waits until the socket is readable.
    is_reading: bool,
    /// The socket is full: the task waits until it is writable.
    is_blocked: bool,
}

struct GlommioShard {
    core: Core,
    /// By slot, the low bits of a ConnId.
    socks: Vec<Option<Sock>>,
    buffer: Box<[u8; READ_BYTES]>,
    pump: Option<Waker>,
    tick: Timer,
    tick_at: Millis,
    tick_is_busy: bool,
}

/// An executor for the calling thread, which is bound to its CPU already. The system may refuse the rings.
pub(super) fn executor() -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(SHARD_IO_MEMORY)
        .ring_depth(SHARD_RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(io::Error::from)
}

/// Runs until the server goes down.
pub(super) fn run(executor: &LocalExecutor, core: Core, listener: Socket) -> Result<(), Fatal> {
    // The ring waits for connections itself; on a descriptor that does not block, older kernels would not wait.
    listener.set_nonblocking(false).map_err(|error| Fatal::os("preparing a listener", &error))?;
    executor.run(async move {
        // SAFETY: the descriptor is a listening socket that nobody else owns from here on.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        let shared = Rc::new(RefCell::new(GlommioShard::new(core)));
        glommio::spawn_local(accept(shared.clone(), listener)).detach();
        poll_fn(|cx| shared.borrow_mut().pump(cx)).await;
    });
    Ok(())
}

/// Takes connections and starts their tasks.
async fn accept(shared: Shared, listener: TcpListener) {
    let mut taken = 0;
    loop {
        match listener.shared_accept().await {
            Ok(accepted) => {
                let stream = accepted.bind_to_executor();
                // No borrow is held here: a spawned task may run at once.
                let conn = shared.borrow_mut().take(stream);
                if let Some(conn) = conn {
                    let shared = shared.clone();
                    let work = poll_fn(move |cx| shared.borrow_mut().connection(cx, conn));
                    glommio::spawn_local(work).detach();
                }
            }
            Err(error) => match io::Error::from(error).kind() {
                // The client is gone already, or a signal came: the next one.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                // Out of descriptors or memory: without a pause this would spin until somebody leaves.
                _ => {
                    Timer::new(ACCEPT_PAUSE).await;
                }
            },
        }
        taken += 1;
        if taken % ACCEPTS_A_TURN == 0 {
            let_others_run().await;
        }
    }
}

/// To the end of the queue of what may run.
async fn let_others_run() {
    let mut has_run = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_run, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn slot(conn: ConnId) -> usize {
    (conn.0 & 0xff_ffff) as usize
}

impl GlommioShard {
    fn new(core: Core) -> GlommioShard {
        GlommioShard {
            core,
            socks: Vec::new(),
            buffer: Box::new([0; READ_BYTES]),
            pump: None,
            tick: Timer::new(Duration::ZERO),
            tick_at: Millis(0),
            tick_is_busy: false,
        }
    }

    // ---- the pump ----

    fn pump(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pump.is_none() {
            self.pump = Some(cx.waker().clone());
            self.core.link().bell.wake_with(cx.waker().clone());
        }
        self.core.link().bell.sleep.wake_up();
        let now = self.core.clock.mono();
        let mut more = self.core.turn(now);
        more |= self.flush(now, true);
        self.close_finished();
        if self.core.is_stopping {
            self.stop(now);
            return Poll::Ready(());
        }
        self.set_tick(cx, now);
        if !more {
            self.core.link().bell.sleep.fall_asleep();
            if self.core.may_sleep() {
                return Poll::Pending;
            }
            self.core.link().bell.sleep.wake_up();
        }
        // Behind the tasks that may run; the sockets are looked at within PREEMPT_TIMER.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wake_pump(&self) {
        if let Some(pump) = &self.pump {
            pump.wake_by_ref();
        }
    }

    /// Sets the timer again when it has fired, or when the shard became busy under the long one.
    fn set_tick(&mut self, cx: &mut Context<'_>, now: Millis) {
        let is_busy = self.core.shard.outstanding() > 0 || self.core.shard.has_crowds();
        // Two clocks, one in milliseconds: it is due a little early rather than never.
        let is_due = now.plus(Millis(1)) >= self.tick_at;
        if !is_due && (!is_busy || self.tick_is_busy) {
            return;
        }
        let ms = if is_busy { TICK_BUSY_MS } else { TICK_IDLE_MS };
        self.tick_is_busy = is_busy;
        self.tick_at = now.plus(Millis(ms));
        self.tick.reset(Duration::from_millis(ms));
        // Polled only so that it knows its waker.
        let _ = Pin::new(&mut self.tick).poll(cx);
    }

    /// One write for each connection that has something to say, up to a number. Returns whether some wait.
    fn flush(&mut self, now: Millis, with_events: bool) -> bool {
        let (mut replies, mut events) = (0, 0);
        loop {
            if self.core.shard.has_replies() {
                replies += 1;
            } else if with_events {
                events += 1;
            } else {
                return false;
            }
            if replies > REPLY_WRITES_A_TURN || events > EVENT_WRITES_A_TURN {
                return true;
            }
            let Some(conn) = self.core.shard.next_dirty() else { return false };
            self.write(now, conn);
        }
    }

    fn close_finished(&mut self) {
        while let Some(conn) = self.core.shard.next_closed() {
            if self.sock(conn).is_none() {
                continue;
            }
            if let Some(sock) = self.socks[slot(conn)].take() {
                self.core.leave(sock.peer);
                // The task finds no socket and ends.
                sock.wake();
            }
        }
        // A connection that was paused may be read again.
        while let Some(conn) = self.core.readable.pop() {
            if let Some(sock) = self.sock(conn) {
                sock.wake();
            }
        }
    }

    /// Going down: what can be written at once is written.
    fn stop(&mut self, now: Millis) {
        self.core.catch_up(now);
        while let Some(conn) = self.core.shard.next_dirty() {
            self.write(now, conn);
        }
        // The streams go while their executor is there.
        self.socks.clear();
    }

    // ---- connections ----

    /// A new connection, if it is admitted.
    fn take(&mut self, stream: TcpStream) -> Option<ConnId> {
        let peer = stream.peer_addr().ok()?;
        stream.set_nodelay(true).ok()?;
        let now = self.core.clock.mono();
        if self.core.is_stopping || !self.core.admit(now, peer) {
            return None;
        }
        let conn = self.core.shard.accept(now, peer);
        let at = slot(conn);
        if self.socks.len() <= at {
            self.socks.resize_with(at + 1, || None);
        }
        self.socks[at] =
            Some(Sock { conn, stream, peer, waker: None, is_reading: false, is_blocked: false });
        Some(conn)
    }

    fn sock(&mut self, conn: ConnId) -> Option<&mut Sock> {
        self.socks.get_mut(slot(conn))?.as_mut().filter(|sock| sock.conn == conn)
    }

    /// A connection's task: it ends when the connection is closed.
    fn connection(&mut self, cx: &mut Context<'_>, conn: ConnId) -> Poll<()> {
        let now = self.core.clock.mono();
        self.core.shard.observe(now);
        let Some(sock) = self.sock(conn) else { return Poll::Ready(()) };
        if sock.waker.is_none() {
            sock.waker = Some(cx.waker().clone());
        }
        sock.is_reading = false;
        if sock.is_blocked {
            self.write_rest(cx, now, conn);
        }
        if self.core.shard.wants_input(conn) {
            self.read(cx, now, conn);
        }
        self.flush(now, false);
        // Behind the connections that may run now: proposals of all of them go up together.
        self.wake_pump();
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Millis, conn: ConnId) {
        let Some(sock) = self.socks.get_mut(slot(conn)).and_then(Option::as_mut) else { return };
        let n = match Pin::new(&mut sock.stream).poll_read(cx, &mut self.buffer[..]) {
            Poll::Pending => {
                sock.is_reading = true;
                return;
            }
            Poll::Ready(Ok(0)) => return self.core.shard.hung_up(conn),
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                return cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(_)) => return self.core.shard.lost(conn),
        };
        // The bytes are here: what was acknowledged before they were sent is taken over before they are answered.
        self.core.catch_up(now);
        self.core.shard.received(now, conn, &self.buffer[..n]);
        self.core.send_up_if_large();
        if n == READ_BYTES {
            // There is more, after the others.
            return cx.waker().wake_by_ref();
        }
        if self.core.shard.wants_input(conn) {
            // After a short read the stream has asked the ring already: this only says whom to wake.
            let Some(sock) = self.socks.get_mut(slot(conn)).and_then(Option::as_mut) else { return };
            match Pin::new(&mut sock.stream).poll_read(cx, &mut self.buffer[..0]) {
                Poll::Pending => sock.is_reading = true,
                Poll::Ready(_) => cx.waker().wake_by_ref(),
            }
        }
    }

    fn write(&mut self, now: Millis, conn: ConnId) {
        let Some(sock) = self.socks.get(slot(conn)).and_then(Option::as_ref) else { return };
        if sock.conn != conn || sock.is_blocked {
            return;
        }
        let bytes = self.core.shard.output(conn);
        if !bytes.is_empty() {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let fd = sock.stream.as_raw_fd();
            // SAFETY: the slice lives through the call, which only reads it; the descriptor is owned by the Sock.
            let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
            let n = match usize::try_from(n) {
                Ok(n) => n,
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => 0,
                    _ => return self.core.shard.lost(conn),
                },
            };
            if self.core.shard.wrote(now, conn, n) == Wrote::Part {
                if let Some(sock) = self.sock(conn) {
                    // Its task waits until the socket takes more.
                    sock.is_blocked = true;
                    sock.wake();
                }
                return;
            }
        }
        let wants_input = self.core.shard.wants_input(conn);
        if let Some(sock) = self.sock(conn) {
            if wants_input && !sock.is_reading {
                sock.wake();
            }
        }
    }

    /// Writes to a socket that was full, until it is full again: then the task is woken when it takes more.
    fn write_rest(&mut self, cx: &mut Context<'_>, now: Millis, conn: ConnId) {
        for _ in 0..WRITES_A_TURN {
            let Some(sock) = self.socks.get_mut(slot(conn)).and_then(Option::as_mut) else { return };
            let bytes = self.core.shard.output(conn);
            if bytes.is_empty() {
                sock.is_blocked = false;
                return;
            }
            let wrote = match Pin::new(&mut sock.stream).poll_write(cx, bytes) {
                Poll::Pending => return,
                Poll::Ready(Ok(n)) => self.core.shard.wrote(now, conn, n),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Poll::Ready(Err(_)) => return self.core.shard.lost(conn),
            };
            sock.is_blocked = wrote == Wrote::Part;
            if !sock.is_blocked {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }
}

impl Sock {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
