//! Watch fan-out: many connections watch one znode, one sets it. From the write to each event, to the last, and to the
//! setter's own reply.

use super::pool::{Event, Pool};
use crate::ask::{put_open_acl, put_path};
use crate::busy::{Busy, BusyRounds};
use crate::record::{add, histogram};
use crate::server::{cpu_between, read_all, Server};
use crate::setup::Client;
use hdrhistogram::Histogram;
use ringkeeper::wire::{begin_frame, end_frame, put_i32, OpCode};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What it is told.
#[derive(Clone, Debug)]
pub struct Settings {
    pub servers: Vec<SocketAddr>,
    pub watched: Vec<Server>,
    pub auth: Arc<[u8]>,
    pub watchers: usize,
    pub rounds: usize,
    pub path: String,
    pub connect: Duration,
    pub session_timeout_ms: i32,
    /// For a round to end.
    pub patience: Duration,
}

/// What it measured, in nanoseconds.
pub struct Fan {
    /// Write to event, of every event of every round. One that did not come is here with the time that it was waited for, as an
    /// operation without an answer is: leaving it out would flatter.
    pub events: Histogram<u64>,
    /// Write to the last event, one a round; where events are missing, the whole time of it.
    pub last: Histogram<u64>,
    /// Write to the setter's reply, one a round.
    pub reply: Histogram<u64>,
    /// The servers' CPU seconds between the writes and their last events.
    pub cpu_s: f64,
    /// The share of a core that the load generator took between the writes and their last events.
    pub busy: f64,
    /// Rounds whose last event did not come in time, and events missing in them.
    pub short_rounds: usize,
    pub missing: usize,
    /// Connections that were gone at the end.
    pub lost: usize,
    /// What ended it before its last round.
    pub broken: Option<String>,
    /// The user ended it before its last round.
    pub was_stopped: bool,
}

/// The setter's connection is the pool's first.
const SETTER: usize = 0;
/// Connections that are dialled and not yet up, at most.
const DIALS_MAX: usize = 128;

fn request(out: &mut Vec<u8>, xid: i32, code: OpCode, body: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out);
    put_i32(out, xid);
    put_i32(out, code as i32);
    body(out);
    end_frame(out, start);
}

/// Runs all rounds. The first is not counted: it warms what must be warm.
pub fn run(settings: &Settings, stop: &AtomicBool, mut told: impl FnMut(usize, f64)) -> Result<Fan, String> {
    make_znode(settings, stop)?;
    let mut pool = Pool::new().map_err(|error| format!("cannot begin: {error}"))?;
    connect(settings, &mut pool, stop)?;
    let mut fan = Fan {
        events: histogram(),
        last: histogram(),
        reply: histogram(),
        cpu_s: 0.0,
        busy: 0.0,
        short_rounds: 0,
        missing: 0,
        lost: 0,
        broken: None,
        was_stopped: false,
    };
    let mut busy = BusyRounds::default();
    for round in 0..=settings.rounds {
        let done = arm(settings, &mut pool, stop).and_then(|()| {
            // What the arming left to do is done before the clock starts.
            pool.turn(Duration::from_millis(20), |_, _, _| {});
            one_round(settings, &mut pool, &mut fan, (round > 0).then_some(&mut busy), stop)
        });
        match done {
            // What was under way then is no round.
            Err(_) | Ok(None) if stop.load(Ordering::Relaxed) => {
                fan.was_stopped = true;
                break;
            }
            Ok(None) => {}
            Ok(Some(last)) => told(round, last as f64 / 1e3),
            Err(why) if fan.last.is_empty() => return Err(why),
            Err(why) => {
                fan.broken = Some(why);
                break;
            }
        }
    }
    fan.busy = busy.share_of_long();
    fan.lost = pool.links.iter().filter(|link| link.is_none()).count();
    pool.close_all();
    Ok(fan)
}

fn make_znode(settings: &Settings, stop: &AtomicBool) -> Result<(), String> {
    let mut client = Client::open(&settings.servers, settings.connect, &settings.auth, stop)?;
    let (code, _) = client
        .ask(OpCode::Create, |out| {
            put_path(out, |out| out.extend_from_slice(settings.path.as_bytes()));
            put_i32(out, 0);
            put_open_acl(out);
            put_i32(out, 0);
        })
        .map_err(|error| error.to_string())?;
    client.close();
    match code {
        0 | -110 => Ok(()),
        code => {
            Err(format!("create of {} was refused: {}", settings.path, crate::record::errors::name(code)))
        }
    }
}

fn connect(settings: &Settings, pool: &mut Pool, stop: &AtomicBool) -> Result<(), String> {
    let wanted = settings.watchers + 1;
    let deadline = Instant::now() + settings.connect;
    let mut up = 0;
    let mut why = None;
    while up < wanted {
        while pool.links.len() < wanted && pool.links.len() - up < DIALS_MAX {
            let server = settings.servers[pool.links.len() % settings.servers.len()];
            if let Err(error) = pool.dial(server, settings.session_timeout_ms, &settings.auth) {
                return Err(format!("{up} of {wanted} connections are up: {error}"));
            }
        }
        pool.turn(Duration::from_millis(50), |_, _, event| match event {
            Event::Up => up += 1,
            Event::Gone { why: gone, .. } => why = Some(gone.to_string()),
            Event::Frame(_) => {}
        });
        if let Some(why) = &why {
            return Err(format!("a connection was refused with {up} of {wanted} up: {why}"));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(format!("stopped with {up} of {wanted} connections up: nothing was measured"));
        }
        if Instant::now() > deadline {
            let patience = settings.connect.as_secs_f64();
            return Err(format!("{up} of {wanted} connections are up after {patience} s"));
        }
    }
    Ok(())
}

fn arm(settings: &Settings, pool: &mut Pool, stop: &AtomicBool) -> Result<(), String> {
    for index in 1..pool.links.len() {
        if let Some(link) = &mut pool.links[index] {
            request(link.out(), 1, OpCode::GetData, |out| {
                put_path(out, |out| out.extend_from_slice(settings.path.as_bytes()));
                out.push(1);
            });
        }
        pool.flush(index);
    }
    // The setter's session must live as well.
    if let Some(link) = &mut pool.links[SETTER] {
        crate::ask::Asker::ping(link.out());
    }
    pool.flush(SETTER);
    let wanted = pool.links.iter().skip(1).flatten().count();
    if wanted == 0 {
        return Err("all connections that watched are gone".to_owned());
    }
    let (mut armed, mut gone, mut refused) = (0, 0, 0);
    let deadline = Instant::now() + settings.patience;
    while armed + gone < wanted && refused == 0 {
        pool.turn(Duration::from_millis(50), |index, _, event| match event {
            Event::Frame(frame) if xid(frame) == 1 && code(frame) != 0 => refused = code(frame),
            Event::Frame(frame) => armed += usize::from(xid(frame) == 1),
            // One that is armed and goes is counted twice: then the rest is waited for in the round.
            Event::Gone { .. } => gone += usize::from(index != SETTER),
            Event::Up => {}
        });
        if stop.load(Ordering::Relaxed) {
            return Err("stopped".to_owned());
        }
        if Instant::now() > deadline {
            return Err(format!("{armed} of {wanted} watches were set in {:?}", settings.patience));
        }
    }
    no_error(refused, "getData", settings)
}

/// Nanoseconds to the last event, or to the end where one is missing; `None`: stopped before it. Without `counted` it is the
/// one that warms.
fn one_round(
    settings: &Settings,
    pool: &mut Pool,
    fan: &mut Fan,
    counted: Option<&mut BusyRounds>,
    stop: &AtomicBool,
) -> Result<Option<u64>, String> {
    let wanted = pool.links.iter().skip(1).flatten().count();
    let before = read_all(&settings.watched);
    let Some(link) = &mut pool.links[SETTER] else {
        return Err("the setter's connection is gone".to_owned());
    };
    request(link.out(), 2, OpCode::SetData, |out| {
        put_path(out, |out| out.extend_from_slice(settings.path.as_bytes()));
        put_i32(out, 4);
        put_i32(out, 4);
        put_i32(out, -1);
    });
    let busy = Busy::begin();
    let began = pool.now();
    pool.flush(SETTER);
    let (mut events, mut last, mut reply, mut refused) = (0, 0, None, 0);
    let mut came = Vec::with_capacity(wanted);
    let (mut gone, mut has_setter) = (0, true);
    // Who has had its event, and is waited for no more.
    let mut has_event = vec![false; pool.links.len()];
    let deadline = Instant::now() + settings.patience;
    while (events + gone < wanted || reply.is_none() && has_setter) && Instant::now() < deadline {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        pool.turn(Duration::from_millis(50), |index, now, event| {
            let frame = match event {
                Event::Frame(frame) => frame,
                Event::Gone { .. } if index == SETTER => return has_setter = false,
                Event::Gone { .. } => return gone += usize::from(!has_event[index]),
                Event::Up => return,
            };
            match xid(frame) {
                -1 => {
                    events += 1;
                    has_event[index] = true;
                    last = now - began;
                    came.push(last);
                }
                2 if index == SETTER => {
                    reply = Some(now - began);
                    refused = code(frame);
                }
                _ => {}
            }
        });
    }
    let missing = wanted.saturating_sub(events);
    if missing > 0 {
        // Whoever lost its connection would have waited as long as the others.
        let patience = u64::try_from(settings.patience.as_nanos()).unwrap_or(u64::MAX);
        last = patience.max(pool.now() - began);
        came.resize(events + missing, last);
    }
    no_error(refused, "setData", settings)?;
    if !has_setter && reply.is_none() {
        return Err("the setter's connection is gone".to_owned());
    }
    // A server that finishes its accounts after the last event is charged for them.
    let after = read_all(&settings.watched);
    if let Some(rounds) = counted {
        rounds.add(&busy);
        fan.cpu_s += cpu_between(&before, &after);
        came.into_iter().for_each(|nanos| add(&mut fan.events, nanos));
        add(&mut fan.last, last);
        if let Some(reply) = reply {
            add(&mut fan.reply, reply);
        }
        fan.short_rounds += usize::from(missing > 0);
        fan.missing += missing;
    }
    Ok(Some(last))
}

/// A reply's error code.
fn code(frame: &[u8]) -> i32 {
    frame.get(12..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| i32::from_be_bytes(*bytes))
}

fn no_error(code: i32, what: &str, settings: &Settings) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => {
            Err(format!("{what} of {} was refused: {}", settings.path, crate::record::errors::name(code)))
        }
    }
}

fn xid(frame: &[u8]) -> i32 {
    frame.first_chunk::<4>().map_or(0, |bytes| i32::from_be_bytes(*bytes))
}
