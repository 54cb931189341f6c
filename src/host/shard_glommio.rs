//! The first shard driver: a glommio executor (io_uring) on the shard's own thread.
//!
//! One task, a loop: what is ready in the shard's epoll set, then a turn, and when both are empty the executor waits
//! for the whole set with a single poll on its ring. A task for each connection was built first and measured 35 to 50 %
//! more CPU a request: each request then costs a poll submission, a completion with an interrupt of its own, and a
//! wake-up, where a set costs one look for all that is ready.
//!
//! The bell's eventfd is in the set. So no wake-up goes through glommio's own, which may reach a busy executor late,
//! and the protocol of falling asleep is that of the epoll driver.

#![allow(unsafe_code)] // Handing a descriptor to glommio.

use super::preflight::{SHARD_IO_MEMORY, SHARD_RING_DEPTH};
use super::shard_core::{TICK_BUSY_MS, TICK_IDLE_MS};
use super::shard_epoll::EpollShard;
use super::Fatal;
use crate::ids::Millis;
use futures_io::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use std::future::{poll_fn, Future};
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long tasks run before the executor looks at its rings: as good as for ever, because this one looks at sockets and
/// bell itself. And it must be: glommio 0.9 parks with a task that may run when this timer fires between being set and
/// the first look at the queue. On a busy machine 1 ms does; everything that could wake the shard has fired by then, and
/// it slept until a signal came.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);

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
pub(super) fn run(executor: &LocalExecutor, shard: EpollShard) -> Result<(), Fatal> {
    executor.run(async move {
        let mut shard = GlommioShard {
            shard,
            ready: None,
            tick: Timer::new(Duration::ZERO),
            tick_at: Millis(0),
            tick_is_busy: false,
        };
        poll_fn(|cx| shard.work(cx)).await
    })
}

struct GlommioShard {
    shard: EpollShard,
    /// The ring's poll on the epoll set, while one is under way.
    ready: Option<TcpStream>,
    tick: Timer,
    tick_at: Millis,
    tick_is_busy: bool,
}

impl GlommioShard {
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fatal>> {
        let brought = match self.shard.look(0) {
            Ok(brought) => brought,
            Err(fatal) => return Poll::Ready(Err(fatal)),
        };
        let more = self.shard.turn();
        if self.shard.core.is_stopping {
            return Poll::Ready(Ok(()));
        }
        let bell = &self.shard.core.link().bell;
        if brought == 0 && !more {
            self.shard.core.fall_asleep();
            if self.shard.core.may_sleep() {
                let hears = self.wait_for_sockets(cx);
                self.set_tick(cx, hears);
                return Poll::Pending;
            }
            bell.sleep.wake_up();
        }
        // Other tasks run, then this one again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks the ring to wake this task when anything in the set is ready; false when the system refuses a descriptor.
    fn wait_for_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        // A stream of glommio's is the only door to a poll on its ring. It reads when the poll has fired, fails, as an
        // epoll set is no socket, and is of no more use; so each is a duplicate and serves once.
        if self.poll_ready(cx) {
            return true;
        }
        let Ok(set) = self.shard.as_fd().try_clone_to_owned() else { return false };
        // SAFETY: the descriptor was duplicated just now and nobody else owns it.
        self.ready = Some(unsafe { TcpStream::from_raw_fd(set.into_raw_fd()) });
        // A new stream polls the ring before it reads.
        self.poll_ready(cx)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ready) = &mut self.ready else { return false };
        let waits = Pin::new(ready).poll_read(cx, &mut [0]).is_pending();
        if !waits {
            self.ready = None;
        }
        waits
    }

    /// Sets the timer again when it has fired, or when the shard became busy under the long one. It fires sooner than
    /// wanted after the shard was busy: that is cheaper than setting it with each write.
    fn set_tick(&mut self, cx: &mut Context<'_>, hears: bool) {
        let shard = &self.shard.core.shard;
        let is_busy = !hears || shard.outstanding() > 0 || shard.has_crowds();
        let now = self.shard.core.clock.mono();
        // Two clocks, one in milliseconds: it is due a little early rather than never.
        let is_due = now.plus(Millis(1)) >= self.tick_at;
        if !is_due && (!is_busy || self.tick_is_busy) {
            return;
        }
        let ms = if is_busy { TICK_BUSY_MS } else { TICK_IDLE_MS };
        self.tick_is_busy = is_busy;
        self.tick_at = now.plus(Millis(ms));
        // Polled only so that it knows its waker; which it does not learn when it has fired before it is polled.
        loop {
            self.tick.reset(Duration::from_millis(ms));
            if Pin::new(&mut self.tick).poll(cx).is_pending() {
                return;
            }
        }
    }
}
