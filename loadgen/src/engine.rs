//! One thread of load: its connections, the schedule of what is due, and the measures it sends home every interval.
//!
//! The schedule is fixed before the run: an operation's time is when it was due, whatever the server or this thread did
//! in between. So a stall is charged to every operation that it delayed, not to the few that were under way.

use crate::ask::{Asker, Broken};
use crate::busy::Busy;
use crate::client::{is_close, put_close, Gone, Link, Phase, Session};
use crate::plan::{Dice, Plan};
use crate::record::{errors, Tally};
use crate::schedule::{Pace, Schedule};
use rustix::event::{epoll, Timespec};
use rustix::fd::OwnedFd;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// What one thread is told.
#[derive(Clone)]
pub struct Orders {
    pub servers: Vec<SocketAddr>,
    /// Whole auth frames, sent behind each handshake.
    pub auth: Arc<[u8]>,
    /// This thread and how many there are.
    pub thread: usize,
    pub threads: usize,
    /// The run's own number, for the names of what it creates.
    pub run: u32,
    /// The numbers of its connections in the whole run.
    pub connections: std::ops::Range<u64>,
    /// Operations under way on a connection at most.
    pub depth: usize,
    pub pace: Pace,
    pub session_timeout_ms: i32,
    /// Nanoseconds: before the measured part, of it, of the intervals in it, and to wait for late answers after it.
    pub warmup: u64,
    pub duration: u64,
    pub interval: u64,
    pub drain: u64,
    /// Nanoseconds for all connections to be there.
    pub connect: u64,
}

/// What a thread tells.
pub enum Word {
    /// All its connections are up.
    Ready,
    /// The measures of an interval, of one thread. Of each thread all come, in their order.
    Interval { index: usize, thread: usize, tally: Tally },
    /// It ended. `busy`: its share of a core in the measured part.
    Done {
        busy: f64,
        unsent: u64,
        last_gone: Option<String>,
        is_cut_off: bool,
        not_reached: BTreeSet<SocketAddr>,
    },
    /// It could not begin.
    Failed(String),
}

/// Starts the threads together.
pub struct Start {
    pub barrier: Barrier,
    /// Set when one thread could not begin, or the user wants the end.
    pub stop: AtomicBool,
}

struct Conn {
    number: u64,
    link: Option<Link>,
    asker: Asker,
    session: Session,
    is_ready: bool,
    is_dirty: bool,
    is_writable_wanted: bool,
    last_sent: u64,
    /// When bytes last came, or it was dialled.
    last_heard: u64,
    /// A ping is under way.
    is_pinged: bool,
    retry_at: u64,
    dials: usize,
}

struct Worker {
    orders: Orders,
    plan: Arc<Plan>,
    dice: Dice,
    clock: Instant,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// Connections with room, the one that waited longest first.
    ready: VecDeque<usize>,
    tally: Tally,
    space: Vec<u8>,
    down: usize,
    last_gone: Option<String>,
    /// Servers that were dialled, and those to which a connection was up.
    dialled: BTreeSet<SocketAddr>,
    reached: BTreeSet<SocketAddr>,
    last_answer: u64,
    /// The measures are sent home: replies are not looked at any more.
    is_leaving: bool,
}

/// Reconnects are tried this often.
const RETRY: u64 = 100_000_000;
/// Connections that a thread dials at once: more fill the listen backlog of a server that is slow to accept.
const DIALS_MAX: usize = 128;
/// Servers have so long to close the sessions at the end.
const CLOSING: u64 = 2_000_000_000;

/// Runs a thread of load to its end. Tallies come back through `used` to be filled again.
pub fn run(orders: Orders, plan: Arc<Plan>, start: &Start, home: &Sender<Word>, used: &Receiver<Tally>) {
    // Sleeps end when they are due, not 50 us later.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut worker = match Worker::new(orders, plan) {
        Ok(worker) => worker,
        Err(error) => {
            let _ = home.send(Word::Failed(format!("cannot begin: {error}")));
            start.stop.store(true, Ordering::Relaxed);
            start.barrier.wait();
            return;
        }
    };
    let connected = worker.connect_all(&start.stop);
    match connected {
        Ok(()) => drop(home.send(Word::Ready)),
        Err(why) => {
            start.stop.store(true, Ordering::Relaxed);
            let _ = home.send(Word::Failed(why));
        }
    }
    start.barrier.wait();
    if start.stop.load(Ordering::Relaxed) {
        worker.close_all();
        return;
    }
    worker.begin();
    let word = worker.load(&start.stop, home, used);
    let _ = home.send(word);
    worker.close_all();
}

impl Worker {
    fn new(orders: Orders, plan: Arc<Plan>) -> io::Result<Worker> {
        let window = (orders.warmup, orders.warmup + orders.duration);
        let conns = orders
            .connections
            .clone()
            .map(|number| Conn {
                number,
                link: None,
                asker: Asker::new(number, orders.run, window),
                session: Session::default(),
                is_ready: false,
                is_dirty: false,
                is_writable_wanted: false,
                last_sent: 0,
                last_heard: 0,
                is_pinged: false,
                retry_at: 0,
                dials: 0,
            })
            .collect::<Vec<_>>();
        Ok(Worker {
            dice: Dice::new(&plan, orders.thread as u64),
            clock: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: VecDeque::with_capacity(conns.len()),
            down: conns.len(),
            conns,
            tally: Tally::default(),
            space: vec![0; 256 << 10],
            last_gone: None,
            dialled: BTreeSet::new(),
            reached: BTreeSet::new(),
            last_answer: 0,
            is_leaving: false,
            orders,
            plan,
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn connect_all(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let mut next = 0;
        let mut next_house = 0;
        while self.down > 0 {
            let now = self.now();
            if stop.load(Ordering::Relaxed) {
                return Err("stopped".to_owned());
            }
            if now > self.orders.connect {
                let why = self.last_gone.take().unwrap_or_else(|| "no answer".to_owned());
                return Err(format!("{} of {} connections are not up: {why}", self.down, self.conns.len()));
            }
            let up = self.conns.len() - self.down;
            while next < self.conns.len() && next - up < DIALS_MAX {
                self.dial(next, now);
                next += 1;
            }
            if now >= next_house {
                self.redial(now);
                self.keep_alive(now);
                next_house = now + RETRY / 2;
            }
            self.turn(50_000_000);
            if let (Some(why), true) = (&self.last_gone, self.tally.sessions_lost > 0) {
                return Err(why.clone());
            }
        }
        self.tally.clear();
        Ok(())
    }

    /// The run's clock starts.
    fn begin(&mut self) {
        self.clock = Instant::now();
        for conn in &mut self.conns {
            (conn.last_sent, conn.last_heard) = (0, 0);
        }
    }

    fn dial(&mut self, index: usize, now: u64) {
        let conn = &mut self.conns[index];
        let at = (conn.number as usize + conn.dials) % self.orders.servers.len();
        conn.dials += 1;
        conn.retry_at = 0;
        let to = self.orders.servers[at];
        self.dialled.insert(to);
        let dialled = Link::dial(to, conn.session.clone(), self.orders.session_timeout_ms, &self.orders.auth)
            .and_then(|link| {
                let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                epoll::add(&self.epoll, link.socket(), epoll::EventData::new_u64(index as u64), flags)?;
                Ok(link)
            });
        match dialled {
            Ok(link) => {
                conn.link = Some(link);
                conn.is_writable_wanted = true;
                (conn.last_sent, conn.last_heard, conn.is_pinged) = (now, now, false);
            }
            Err(error) => {
                self.last_gone = Some(format!("{to}: {error}"));
                conn.retry_at = now + RETRY;
            }
        }
    }

    /// Dials again what is down and has waited.
    fn redial(&mut self, now: u64) {
        if self.down == 0 {
            return;
        }
        for index in 0..self.conns.len() {
            let conn = &self.conns[index];
            if conn.link.is_none() && conn.retry_at != 0 && conn.retry_at <= now {
                self.dial(index, now);
            }
        }
    }

    /// Sends a ping where a session would else be forgotten, and leaves a server that says nothing, when ZooKeeper's own
    /// client does: up, after two thirds of the session's timeout though something is under way; before, after one third.
    fn keep_alive(&mut self, now: u64) {
        for index in 0..self.conns.len() {
            let conn = &mut self.conns[index];
            let Some(link) = &mut conn.link else { continue };
            let is_up = link.phase() == Phase::Up;
            let third = match is_up {
                true => link.session.timeout_ms as u64 * 1_000_000 / 3,
                false => (link.wanted_timeout_ms() as u64 * 1_000_000 / 3).min(self.orders.connect),
            };
            let patience = if is_up { 2 * third } else { third };
            let is_awaited = !is_up || conn.is_pinged || conn.asker.under_way() > 0;
            if is_awaited && now.saturating_sub(conn.last_heard) > patience {
                // Where we stood still ourselves, what it said may lie unread.
                self.read(index);
                let conn = &self.conns[index];
                if conn.link.is_some() && now.saturating_sub(conn.last_heard) > patience {
                    let why = format!("no answer in {:.1} s", patience as f64 / 1e9);
                    self.lose(index, &why, false, errors::CONNECTION_LOST);
                }
                continue;
            }
            if is_up && now.saturating_sub(conn.last_sent) > third {
                Asker::ping(link.out());
                (conn.last_sent, conn.is_pinged) = (now, true);
                // A ping that we send late is not the server's silence.
                conn.last_heard = conn.last_heard.max(now - third);
                self.flush(index, now);
            }
        }
    }

    /// Waits for sockets for `timeout` nanoseconds at most and does what they ask.
    fn turn(&mut self, timeout: u64) {
        let timeout =
            Timespec { tv_sec: (timeout / 1_000_000_000) as i64, tv_nsec: (timeout % 1_000_000_000) as i64 };
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)).unwrap_or(0);
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            let index = data.u64() as usize;
            if flags.contains(epoll::EventFlags::OUT) {
                let now = self.now();
                self.flush(index, now);
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
                self.read(index);
            }
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let conn = &mut self.conns[index];
            let Some(link) = &mut conn.link else { return };
            let was_up = link.phase() == Phase::Up;
            let (asker, tally, clock) = (&mut conn.asker, &mut self.tally, self.clock);
            let mut now = None;
            let is_leaving = self.is_leaving;
            let mut broken = None;
            let mut last_zxid = link.session.last_zxid;
            let before = asker.succeeded();
            let received = link.receive(&mut self.space, |frame| {
                // One reading of the clock for all that one read of the socket brought.
                let now = *now.get_or_insert_with(|| clock.elapsed().as_nanos() as u64);
                if is_leaving {
                    // Closed as asked: the connection is done with.
                    broken = broken.take().or(is_close(frame).then_some(Broken(0)));
                } else if broken.is_none() {
                    broken = asker.reply(frame, now, &mut last_zxid, tally).err();
                }
            });
            link.session.last_zxid = last_zxid;
            if let Some(now) = now {
                (conn.last_heard, conn.is_pinged) = (now, false);
            }
            if let Some(now) = now.filter(|_| asker.succeeded() > before) {
                let begin = self.last_answer.max(self.orders.warmup);
                self.tally.gap = self.tally.gap.max((now.saturating_sub(begin), begin));
                self.last_answer = now;
            }
            let has_come_up = !was_up && link.phase() == Phase::Up;
            if has_come_up {
                let at = (conn.number as usize + conn.dials.saturating_sub(1)) % self.orders.servers.len();
                self.reached.insert(self.orders.servers[at]);
                self.down -= 1;
                conn.last_heard = clock.elapsed().as_nanos() as u64;
                if conn.dials > 1 && conn.session.id != 0 {
                    self.tally.reconnects += 1;
                }
                conn.session = link.session.clone();
            }
            match (broken, received) {
                (Some(Broken(code)), _) => {
                    return self.lose(index, &format!("sent a {}", errors::name(code)), false, code)
                }
                (None, Err(gone)) => {
                    let is_session_gone = matches!(gone, Gone::SessionExpired);
                    return self.lose(index, &gone.to_string(), is_session_gone, errors::CONNECTION_LOST);
                }
                (None, Ok(more)) => {
                    if has_come_up || conn.asker.under_way() < self.orders.depth {
                        self.offer(index);
                    }
                    if !more {
                        return;
                    }
                }
            }
        }
    }

    /// The connection has room.
    fn offer(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if !conn.is_ready {
            conn.is_ready = true;
            self.ready.push_back(index);
        }
    }

    fn lose(&mut self, index: usize, why: &str, is_session_gone: bool, code: i32) {
        let now = self.now();
        let conn = &mut self.conns[index];
        let Some(link) = conn.link.take() else { return };
        if link.phase() == Phase::Up {
            self.down += 1;
            self.tally.connections_lost += 1;
            conn.session = link.session.clone();
        }
        if is_session_gone {
            self.tally.sessions_lost += 1;
            conn.session = Session::default();
        }
        conn.asker.lose(code, is_session_gone, &mut self.tally);
        conn.retry_at = now + RETRY;
        let at = (conn.number as usize + conn.dials.saturating_sub(1)) % self.orders.servers.len();
        self.last_gone = Some(format!("{}: {why}", self.orders.servers[at]));
        let _ = epoll::delete(&self.epoll, link.socket());
    }

    fn flush(&mut self, index: usize, now: u64) {
        let conn = &mut self.conns[index];
        conn.is_dirty = false;
        let Some(link) = &mut conn.link else { return };
        match link.flush() {
            Ok(is_all) => {
                conn.last_sent = now;
                if is_all == conn.is_writable_wanted {
                    conn.is_writable_wanted = !is_all;
                    let mut flags = epoll::EventFlags::IN;
                    flags.set(epoll::EventFlags::OUT, !is_all);
                    let data = epoll::EventData::new_u64(index as u64);
                    let _ = epoll::modify(&self.epoll, link.socket(), data, flags);
                }
            }
            Err(gone) => self.lose(index, &gone.to_string(), false, errors::CONNECTION_LOST),
        }
    }

    /// The measured run.
    fn load(&mut self, stop: &AtomicBool, home: &Sender<Word>, used: &Receiver<Tally>) -> Word {
        let end = self.orders.warmup + self.orders.duration;
        let mut schedule = Schedule::new(self.orders.pace, self.orders.thread, self.orders.threads, end);
        let mut next_house = 0;
        let mut interval = 0;
        let mut cpu = None;
        let mut busy = 0.0;
        // Set from when no connection had room until all that was due is sent: how late we were ourselves before that.
        let mut own_late: Option<u64> = None;
        let mut stopped_at = None;
        loop {
            let mut now = self.now();
            if stopped_at.is_none() && stop.load(Ordering::Relaxed) {
                stopped_at = Some(now);
            }
            let end = stopped_at.map_or(end, |at: u64| at.min(end));
            if now >= self.orders.warmup && cpu.is_none() {
                cpu = Some(Busy::begin());
            }
            if now >= end {
                if let Some(since) = cpu.as_ref().filter(|_| busy == 0.0) {
                    busy = since.share();
                }
            }
            // Intervals end on time even when nothing is answered.
            let due_interval = now.saturating_sub(self.orders.warmup) / self.orders.interval;
            if now > self.orders.warmup && due_interval as usize > interval && now < end {
                // More than one where this thread stood still: nothing was measured in those between.
                while interval < due_interval as usize {
                    let fresh = used.try_recv().unwrap_or_default();
                    let tally = std::mem::replace(&mut self.tally, fresh);
                    let _ = home.send(Word::Interval { index: interval, thread: self.orders.thread, tally });
                    interval += 1;
                }
            }
            if now >= next_house {
                self.redial(now);
                self.keep_alive(now);
                next_house = now + RETRY / 2;
            }
            // What is due goes to the connections that have room.
            match self.orders.pace {
                Pace::Closed if now < end => self.fill(),
                Pace::Closed => {}
                Pace::Open { .. } => {
                    while schedule.next < end && schedule.next <= now {
                        let intended = schedule.next;
                        let Some(index) = self.next_ready() else {
                            // From here on the server is waited for. But where we woke late, all of the backlog is as late
                            // through us as this one is.
                            own_late.get_or_insert(now - intended);
                            break;
                        };
                        if intended >= self.orders.warmup {
                            let late = now - intended;
                            self.tally.lag(own_late.map_or(late, |own| late.min(own)));
                        }
                        self.issue(index, intended, now);
                        schedule.advance();
                        if intended >= self.orders.warmup {
                            self.tally.due += 1;
                        }
                        now = self.now();
                    }
                    if schedule.next > now {
                        own_late = None;
                    }
                }
            }
            let is_over = now >= end && (schedule.next >= end || self.orders.pace == Pace::Closed);
            let under_way: usize =
                if now >= end { self.conns.iter().map(|conn| conn.asker.under_way()).sum() } else { 1 };
            if is_over && under_way == 0
                || now >= end + self.orders.drain
                || stopped_at.is_some_and(|at| now > at + RETRY)
            {
                break;
            }
            let wait = match self.orders.pace {
                // Even when no connection has room: else it is not known whose fault it is that an operation is late.
                Pace::Open { .. } if schedule.next < end && own_late.is_none() => {
                    schedule.next.saturating_sub(now)
                }
                _ if now < end => end - now,
                _ => RETRY,
            };
            self.turn(wait.min(RETRY / 2));
        }
        let now = self.now();
        let end = stopped_at.map_or(end, |at: u64| at.min(end));
        let begin = self.last_answer.max(self.orders.warmup);
        self.tally.gap = self.tally.gap.max((end.saturating_sub(begin), begin));
        for conn in &mut self.conns {
            conn.asker.give_up(now, &mut self.tally);
        }
        let unsent = match self.orders.pace {
            Pace::Open { .. } => self.count_unsent(&mut schedule, end, now),
            Pace::Closed => 0,
        };
        let tally = std::mem::take(&mut self.tally);
        let _ = home.send(Word::Interval { index: interval, thread: self.orders.thread, tally });
        let is_cut_off = self.down == self.conns.len() && self.down > 0;
        let not_reached = self.dialled.difference(&self.reached).copied().collect();
        Word::Done { busy, unsent, last_gone: self.last_gone.take(), is_cut_off, not_reached }
    }

    /// Closes the sessions, and waits a little for it: left open, they and their ephemerals would burden the server until they
    /// expire, and whatever is measured next.
    fn close_all(&mut self) {
        self.is_leaving = true;
        let now = self.now();
        for index in 0..self.conns.len() {
            if let Some(link) = self.conns[index].link.as_mut().filter(|link| link.phase() == Phase::Up) {
                put_close(link.out());
                self.flush(index, now);
            }
        }
        let deadline = now + CLOSING;
        while self.down < self.conns.len() && self.now() < deadline {
            self.turn(RETRY / 2);
        }
    }

    /// Operations that came due and found no connection with room to the very end count as waiting until then, whether the end
    /// came by itself or the user wanted it: a backlog is no shorter for that.
    fn count_unsent(&mut self, schedule: &mut Schedule, end: u64, now: u64) -> u64 {
        let mut unsent = 0;
        while schedule.next < end {
            if schedule.next >= self.orders.warmup {
                unsent += 1;
                let (op, _) = self.dice.request();
                let measure = self.tally.op(op);
                *measure.errors.entry(errors::UNANSWERED).or_default() += 1;
                crate::record::add(&mut measure.intended, now.saturating_sub(schedule.next));
                self.tally.due += 1;
            }
            schedule.advance();
        }
        unsent
    }

    fn next_ready(&mut self) -> Option<usize> {
        while let Some(index) = self.ready.pop_front() {
            let conn = &mut self.conns[index];
            conn.is_ready = false;
            let is_up = conn.link.as_ref().is_some_and(|link| link.phase() == Phase::Up);
            if is_up && conn.asker.under_way() < self.orders.depth {
                return Some(index);
            }
        }
        None
    }

    /// Hands one operation to a connection and sends it.
    fn issue(&mut self, index: usize, intended: u64, now: u64) {
        let conn = &mut self.conns[index];
        let Some(link) = &mut conn.link else { return };
        conn.asker.ask(link.out(), &self.plan, &mut self.dice, intended, now);
        let has_room = conn.asker.under_way() < self.orders.depth;
        self.flush(index, now);
        if has_room {
            self.offer(index);
        }
    }

    /// Closed loop: every connection with room is filled to its depth, with one send.
    fn fill(&mut self) {
        while let Some(index) = self.next_ready() {
            let now = self.now();
            let conn = &mut self.conns[index];
            let Some(link) = &mut conn.link else { continue };
            let mut asked = 0;
            while conn.asker.under_way() < self.orders.depth {
                conn.asker.ask(link.out(), &self.plan, &mut self.dice, now, now);
                asked += 1;
            }
            if now >= self.orders.warmup {
                self.tally.due += asked;
            }
            self.flush(index, now);
        }
    }
}
