//! Sessions as such: a storm that opens many as fast as the server takes them, a time in which they are only held, and
//! churn that opens, asks once and closes, at a rate.

use super::pool::{Event, Pool};
use crate::ask::Asker;
use crate::busy::Busy;
use crate::client::{put_close, Gone, Phase};
use crate::record::{add, histogram};
use crate::run::Progress;
use crate::server::{cpu_between, read_all, rss_of, Server};
use crate::ticker::Ticker;
use hdrhistogram::Histogram;
use ringkeeper::wire::{begin_frame, end_frame, put_i32, OpCode};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a storm is told.
#[derive(Clone, Debug)]
pub struct Storm {
    pub servers: Vec<SocketAddr>,
    pub watched: Vec<Server>,
    pub auth: Arc<[u8]>,
    pub sessions: usize,
    /// Handshakes under way at once.
    pub at_once: usize,
    pub hold: Duration,
    pub session_timeout_ms: i32,
    pub patience: Duration,
}

/// What it measured.
pub struct Stormed {
    pub opened: usize,
    pub refused: usize,
    pub seconds: f64,
    /// From the dial to the handshake's answer, nanoseconds.
    pub handshake: Histogram<u64>,
    pub open_cpu_s: f64,
    /// The share of a core that the load generator took meanwhile.
    pub open_busy: f64,
    /// Bytes of resident memory that the servers gained.
    pub rss_gained: i64,
    /// Over the time in which the sessions were held: CPU seconds, seconds.
    pub hold_cpu_s: f64,
    pub hold_s: f64,
    /// Sessions that were up and ended, then or before.
    pub lost: usize,
    /// No session was left at the end of that time.
    pub end: Option<End>,
    /// Why the last one was refused or lost.
    pub why: Option<String>,
    pub was_stopped: bool,
}

/// Why no session is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The connections ended.
    ServerGone,
    /// It answered, and did not take what --auth says, or spoke something else.
    Refused,
}

fn names(servers: &[SocketAddr]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Opens all sessions, holds them with pings, and lets them go.
pub fn storm(settings: &Storm, stop: &AtomicBool, mut told: impl FnMut(usize)) -> Result<Stormed, String> {
    let mut pool = Pool::new().map_err(|error| format!("cannot begin: {error}"))?;
    let before = read_all(&settings.watched);
    let busy = Busy::begin();
    let began = Instant::now();
    let mut dialled = Vec::with_capacity(settings.sessions);
    let mut stormed = Stormed {
        opened: 0,
        refused: 0,
        seconds: 0.0,
        handshake: histogram(),
        open_cpu_s: 0.0,
        open_busy: 0.0,
        rss_gained: 0,
        hold_cpu_s: 0.0,
        hold_s: 0.0,
        lost: 0,
        end: None,
        why: None,
        was_stopped: false,
    };
    let mut pinger = Pinger::new(settings.session_timeout_ms);
    let mut shown = 0;
    while stormed.opened + stormed.refused < settings.sessions {
        if stop.load(Ordering::Relaxed) {
            stormed.was_stopped = true;
            break;
        }
        while dialled.len() < settings.sessions
            && dialled.len() - stormed.opened - stormed.refused < settings.at_once
        {
            let server = settings.servers[dialled.len() % settings.servers.len()];
            let now = pool.now();
            if let Err(why) = pool.dial(server, settings.session_timeout_ms, &settings.auth) {
                stormed.refused += 1;
                stormed.why = Some(why);
            }
            dialled.push(now);
        }
        // Those that are up live while the rest is opened.
        pinger.ping(&mut pool, &mut stormed);
        pool.turn(Duration::from_millis(50), |index, now, event| match event {
            Event::Up => {
                stormed.opened += 1;
                add(&mut stormed.handshake, now - dialled[index]);
            }
            Event::Gone { why, was_up: true } => stormed.lose(why),
            Event::Gone { why, was_up: false } => {
                stormed.refused += 1;
                stormed.why = Some(why.to_string());
            }
            Event::Frame(_) => {}
        });
        if stormed.opened / 1_000 > shown {
            shown = stormed.opened / 1_000;
            told(stormed.opened);
        }
        if began.elapsed() > settings.patience {
            break;
        }
    }
    stormed.seconds = began.elapsed().as_secs_f64();
    stormed.open_busy = busy.share_of_long();
    if stormed.opened == 0 && !stormed.was_stopped {
        let why = stormed.why.unwrap_or_else(|| format!("no answer in {:?}", settings.patience));
        return Err(format!("no session was opened at {}: {why}", names(&settings.servers)));
    }
    let open = read_all(&settings.watched);
    stormed.open_cpu_s = cpu_between(&before, &open);
    hold(settings, &mut pool, &mut pinger, &mut stormed, stop);
    let after = read_all(&settings.watched);
    stormed.hold_cpu_s = cpu_between(&open, &after);
    stormed.rss_gained = rss_of(&after) as i64 - rss_of(&before) as i64;
    pool.close_all();
    Ok(stormed)
}

impl Stormed {
    /// A session that was up has ended.
    fn lose(&mut self, why: &Gone) {
        self.lost += 1;
        self.end = Some(match why {
            Gone::Closed | Gone::Socket(_) => End::ServerGone,
            Gone::Credentials(_) | Gone::SessionExpired | Gone::Protocol(_) => End::Refused,
        });
        self.why = Some(why.to_string());
    }
}

/// A client pings at a third of its timeout; spread, as clients are.
struct Pinger {
    period: Duration,
    last: Instant,
    /// Pings that are due.
    due: f64,
    next: usize,
}

impl Pinger {
    fn new(session_timeout_ms: i32) -> Pinger {
        let period = Duration::from_millis(session_timeout_ms as u64) / 3;
        Pinger { period, last: Instant::now(), due: 0.0, next: 0 }
    }

    fn ping(&mut self, pool: &mut Pool, stormed: &mut Stormed) {
        let count = pool.links.len();
        self.due += self.last.elapsed().as_secs_f64() / self.period.as_secs_f64() * count as f64;
        self.due = self.due.min(count as f64);
        self.last = Instant::now();
        while self.due >= 1.0 {
            let index = self.next % count;
            if let Some(link) = pool.links[index].as_mut().filter(|link| link.phase() == Phase::Up) {
                Asker::ping(link.out());
                // A ping that cannot be sent may be the first to know.
                if !pool.flush(index) {
                    stormed.lost += 1;
                    stormed.end = Some(End::ServerGone);
                    stormed.why.get_or_insert_with(|| "a ping could not be sent".to_owned());
                }
            }
            self.next = index + 1;
            self.due -= 1.0;
        }
    }
}

fn hold(settings: &Storm, pool: &mut Pool, pinger: &mut Pinger, stormed: &mut Stormed, stop: &AtomicBool) {
    let began = Instant::now();
    let slice = Duration::from_millis(20);
    while began.elapsed() < settings.hold && !stormed.was_stopped {
        pinger.ping(pool, stormed);
        pool.turn(slice, |_, _, event| match event {
            Event::Gone { why, was_up: true } => stormed.lose(why),
            // Its handshake came too late to count, and so does its end.
            Event::Gone { was_up: false, .. } | Event::Up | Event::Frame(_) => {}
        });
        stormed.was_stopped = stop.load(Ordering::Relaxed);
    }
    stormed.hold_s = began.elapsed().as_secs_f64();
    if pool.up() > 0 {
        stormed.end = None;
    }
}

/// What churn is told.
#[derive(Clone, Debug)]
pub struct Churn {
    pub servers: Vec<SocketAddr>,
    pub watched: Vec<Server>,
    pub auth: Arc<[u8]>,
    /// Sessions a second.
    pub rate: f64,
    pub duration: Duration,
    pub session_timeout_ms: i32,
}

/// What it measured; nanoseconds from the time at which a session was due.
pub struct Churned {
    /// To the handshake's answer.
    pub handshake: Histogram<u64>,
    /// To the answer of its one request.
    pub answer: Histogram<u64>,
    pub closed: usize,
    pub lost: usize,
    /// Sessions that came due, and how many of them were not through when the last one had.
    pub due: usize,
    pub late: usize,
    /// Why the last one was lost.
    pub why: Option<String>,
    pub cpu_s: f64,
    pub seconds: f64,
    /// The share of a core that the load generator took.
    pub busy: f64,
    /// The user ended it while sessions were still to come due.
    pub was_stopped: bool,
}

/// Opens sessions at a rate; each asks once (exists of the root) and closes.
pub fn churn(settings: &Churn, stop: &AtomicBool, mut told: impl FnMut(Progress)) -> Result<Churned, String> {
    let mut pool = Pool::new().map_err(|error| format!("cannot begin: {error}"))?;
    let before = read_all(&settings.watched);
    let mut churned = Churned {
        handshake: histogram(),
        answer: histogram(),
        closed: 0,
        lost: 0,
        due: 0,
        late: 0,
        why: None,
        cpu_s: 0.0,
        seconds: 0.0,
        busy: 0.0,
        was_stopped: false,
    };
    let busy = Busy::begin();
    let mut ticker = Ticker::new(settings.duration, &mut told);
    let period = 1e9 / settings.rate;
    let mut end = settings.duration.as_nanos() as u64;
    let grace = 5_000_000_000;
    let mut dialled = 0_usize;
    let mut came_up = Vec::new();
    loop {
        let now = pool.now();
        let due = |number: usize| (number as f64 * period) as u64;
        if due(dialled) < end && !churned.was_stopped && stop.load(Ordering::Relaxed) {
            churned.was_stopped = true;
            end = now;
        }
        while due(dialled) <= now && due(dialled) < end {
            let server = settings.servers[dialled % settings.servers.len()];
            if let Err(why) = pool.dial(server, settings.session_timeout_ms, &settings.auth) {
                churned.lost += 1;
                churned.why = Some(why);
            }
            dialled += 1;
        }
        let is_over = due(dialled) >= end;
        if is_over && churned.due < dialled {
            (churned.due, churned.late) = (dialled, dialled.saturating_sub(churned.closed + churned.lost));
        }
        ticker.look(now);
        if is_over && (churned.closed + churned.lost >= dialled || now > end + grace) {
            break;
        }
        let wait = if is_over { 50_000_000 } else { due(dialled).saturating_sub(now).min(50_000_000) };
        pool.turn(Duration::from_nanos(wait), |index, now, event| match event {
            Event::Up => {
                add(&mut churned.handshake, now.saturating_sub(due(index)));
                came_up.push(index);
            }
            // An answer that is an error is none.
            Event::Frame([0, 0, 0, 2, _, _, _, _, _, _, _, _, 0, 0, 0, 0, ..]) => {
                add(&mut churned.answer, now.saturating_sub(due(index)));
                ticker.add(now.saturating_sub(due(index)));
            }
            Event::Frame(_) => {}
            Event::Gone { why: Gone::Closed, .. } => churned.closed += 1,
            Event::Gone { why, .. } => {
                churned.lost += 1;
                ticker.error();
                churned.why = Some(why.to_string());
            }
        });
        for index in came_up.drain(..) {
            if let Some(link) = &mut pool.links[index] {
                let out = link.out();
                let start = begin_frame(out);
                put_i32(out, 2);
                put_i32(out, OpCode::Exists as i32);
                ringkeeper::wire::put_string(out, "/");
                out.push(0);
                end_frame(out, start);
                put_close(out);
            }
            pool.flush(index);
        }
    }
    churned.busy = busy.share_of_long();
    churned.seconds = pool.now() as f64 / 1e9;
    churned.cpu_s = cpu_between(&before, &read_all(&settings.watched));
    churned.lost += dialled.saturating_sub(churned.closed + churned.lost);
    if churned.handshake.is_empty() && dialled > 0 && !churned.was_stopped {
        let why = churned.why.unwrap_or_else(|| "no answer".to_owned());
        return Err(format!("no session was opened at {}: {why}", names(&settings.servers)));
    }
    // One that was closed without its answer was not served.
    let unanswered = (churned.closed as u64).saturating_sub(churned.answer.len()) as usize;
    churned.closed -= unanswered;
    churned.lost += unanswered;
    Ok(churned)
}
