//! Many connections that are opened together and then waited for: what the modes share that are no steady load.

use crate::client::{is_close, put_close, Gone, Link, Phase, Session};
use rustix::event::{epoll, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A set of connections with one epoll. Their numbers are their places.
pub struct Pool {
    epoll: OwnedFd,
    pub links: Vec<Option<Link>>,
    space: Vec<u8>,
    clock: Instant,
}

/// At the end servers have so long to close the next session.
const CLOSING: Duration = Duration::from_secs(2);

/// What happened to a connection.
pub enum Event<'a> {
    /// Its session is there.
    Up,
    /// A whole frame after the handshake.
    Frame(&'a [u8]),
    /// It ended; `was_up`: its session had been there.
    Gone { why: &'a Gone, was_up: bool },
}

impl Pool {
    pub fn new() -> std::io::Result<Pool> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Pool { epoll, links: Vec::new(), space: vec![0; 64 << 10], clock: Instant::now() })
    }

    /// Nanoseconds since the pool was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Begins to connect. The next place is taken even where that fails; the error names the server.
    pub fn dial(&mut self, to: SocketAddr, timeout_ms: i32, auth: &[u8]) -> Result<(), String> {
        let index = self.links.len();
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let dialled = Link::dial(to, Session::default(), timeout_ms, auth).and_then(|link| {
            epoll::add(&self.epoll, link.socket(), epoll::EventData::new_u64(index as u64), flags)?;
            Ok(link)
        });
        let told = dialled.as_ref().err().map(|error| match Errno::from_io_error(error) {
            Some(Errno::MFILE) => format!("{to}: {error}: raise the limit (ulimit -n)"),
            _ => format!("{to}: {error}"),
        });
        self.links.push(dialled.ok());
        told.map_or(Ok(()), Err)
    }

    /// Sends what is in a connection's out-buffer; `false`: the connection is gone.
    pub fn flush(&mut self, index: usize) -> bool {
        let Some(link) = &mut self.links[index] else { return false };
        if link.flush().is_err() {
            self.links[index] = None;
            return false;
        }
        true
    }

    /// Waits at most so long, and tells what happened, with the time at which it was read.
    pub fn turn(&mut self, wait: Duration, mut told: impl FnMut(usize, u64, Event<'_>)) {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 512];
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)).unwrap_or(0);
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            let index = data.u64() as usize;
            let clock = self.clock;
            let Some(link) = &mut self.links[index] else { continue };
            if flags.contains(epoll::EventFlags::OUT) && link.has_output() {
                if let Err(why) = link.flush() {
                    let was_up = link.phase() == Phase::Up;
                    told(index, clock.elapsed().as_nanos() as u64, Event::Gone { why: &why, was_up });
                    self.links[index] = None;
                    continue;
                }
            }
            if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                continue;
            }
            let mut has_read_for_end = false;
            while let Some(link) = &mut self.links[index] {
                let was_up = link.phase() == Phase::Up;
                let mut now = None;
                let received = link.receive(&mut self.space, |frame| {
                    let now = *now.get_or_insert_with(|| clock.elapsed().as_nanos() as u64);
                    told(index, now, Event::Frame(frame));
                });
                let is_up = link.phase() == Phase::Up;
                if !was_up && is_up {
                    told(index, clock.elapsed().as_nanos() as u64, Event::Up);
                }
                match received {
                    Ok(true) => {}
                    // An end that came with the last bytes is told only once: it is read for.
                    Ok(false) if flags.contains(epoll::EventFlags::RDHUP) && !has_read_for_end => {
                        has_read_for_end = true
                    }
                    Ok(false) => break,
                    Err(why) => {
                        let gone = Event::Gone { why: &why, was_up: is_up };
                        told(index, clock.elapsed().as_nanos() as u64, gone);
                        self.links[index] = None;
                    }
                }
            }
        }
    }

    /// Closes all sessions, and waits a while for it.
    pub fn close_all(&mut self) {
        for index in 0..self.links.len() {
            if let Some(link) = &mut self.links[index] {
                put_close(link.out());
            }
            self.flush(index);
        }
        let (mut left, mut since) = (self.up(), Instant::now());
        while left > 0 && since.elapsed() < CLOSING {
            let mut closed = Vec::new();
            self.turn(Duration::from_millis(50), |index, _, event| {
                if let Event::Frame(frame) = event {
                    closed.extend(is_close(frame).then_some(index));
                }
            });
            closed.into_iter().for_each(|index| self.links[index] = None);
            if self.up() < left {
                (left, since) = (self.up(), Instant::now());
            }
        }
    }

    /// How many are up.
    #[must_use]
    pub fn up(&self) -> usize {
        self.links.iter().flatten().filter(|link| link.phase() == Phase::Up).count()
    }
}
