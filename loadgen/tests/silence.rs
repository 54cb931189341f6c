//! Servers that go silent, and users who do not wait for them: what was due and never came is counted, and what was not done is
//! not said to be.

mod fake;

use fake::{data, frame, go, greet, server, settings, OPEN};
use ringkeeper_load::modes::{fan_out, gap};
use ringkeeper_load::result::Outcome;
use ringkeeper_load::run::{self, Ending, Settings};
use ringkeeper_load::schedule::Pace;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Answers so many requests and no more. A session that is closed ends with its connection.
fn falls_silent(behind: usize) -> SocketAddr {
    server(move |number, xid| match () {
        () if xid == i32::MAX => None,
        () if number < behind => Some(data(xid, 100, 100)),
        () => Some(Vec::new()),
    })
}

/// An open loop on one connection of a server that answers ten requests, told of its intervals.
fn backlog(duration: Duration, mut told: impl FnMut(usize, &Arc<AtomicBool>)) -> (Outcome, Ending) {
    let settings = Settings {
        connections: 1,
        threads: 1,
        duration,
        interval: Duration::from_millis(100),
        ..settings(falls_silent(10), OPEN)
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut intervals = 0;
    run::run(&settings, &stop, |_| {
        intervals += 1;
        told(intervals, &stop);
    })
    .expect("a run")
}

/// A user who saw the server hang and stopped the run got a result without the hang.
#[test]
fn a_stop_leaves_out_nothing_that_was_due() {
    let began = Instant::now();
    let (outcome, ending) = backlog(Duration::from_secs(60), |interval, stop| {
        stop.store(interval >= 4, Ordering::Relaxed);
    });
    let counts = &outcome.counts;
    let most = began.elapsed().as_secs_f64() * 500.0 + 1.0;
    assert!(counts.due >= 200 && counts.due as f64 <= most, "500/s for 0.4 s or a little more: {counts:?}");
    assert_eq!((counts.answered, counts.errors), (10, counts.due - 10));
    // All but the one that is under way.
    assert_eq!(counts.unsent, counts.due - 11);
    assert_eq!(outcome.all.errors.get("unanswered at the end"), Some(&counts.errors));
    assert_eq!(outcome.all.intended.count, counts.due);
    assert!(outcome.all.intended.p99 >= 300e3, "the oldest waited for 0.4 s: {:?}", outcome.all.intended);
    assert_eq!(ending, Ending::Stopped);
}

#[test]
fn a_stop_behind_the_end_leaves_out_nothing_that_was_due() {
    let (outcome, ending) = backlog(Duration::from_millis(300), |interval, stop| {
        if interval == 2 {
            let stop = stop.clone();
            std::thread::spawn(move || {
                // The end comes after 100 ms; late answers would be waited for 20 s.
                std::thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    let counts = &outcome.counts;
    assert_eq!((counts.due, counts.answered, counts.errors, counts.unsent), (150, 10, 140, 139));
    assert_eq!(outcome.all.intended.count, 150);
    assert!(outcome.all.intended.p99 >= 300e3, "{:?}", outcome.all.intended);
    assert_eq!(ending, Ending::Stopped);
}

/// It was a valid result of nothing, and the exit code 0.
#[test]
fn a_closed_loop_whose_server_hangs_in_the_warm_up_has_failed() {
    let settings = Settings {
        warmup: Duration::from_millis(400),
        duration: Duration::from_millis(200),
        drain: Duration::from_millis(100),
        ..settings(falls_silent(0), Pace::Closed)
    };
    let (outcome, ending) = go(&settings).expect("a run");
    assert_eq!((outcome.counts.answered, ending), (0, Ending::AllFailed), "{:?}", outcome.counts);
    assert_eq!(outcome.verdict.reasons, ["no operation was answered in the measured part"]);
}

/// A server that sends each set's event to all who watch but the first, which it may cut off.
fn forgets_a_watcher(cuts: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let watching = Arc::new(Mutex::new(Vec::<TcpStream>::new()));
    let serve = move |mut stream: TcpStream, watching: &Mutex<Vec<TcpStream>>| {
        greet(&mut stream)?;
        loop {
            let request = frame(&mut stream)?;
            let number = |at: usize| Some(i32::from_be_bytes(*request.get(at..)?.first_chunk()?));
            let (xid, op) = (number(0)?, number(4)?);
            let mut watching = watching.lock().expect("nobody panics");
            if op == 4 {
                watching.push(stream.try_clone().ok()?);
            }
            stream.write_all(&data(xid, 0, 0)).ok()?;
            if op == 5 {
                let mut watchers = std::mem::take(&mut *watching).into_iter();
                let forgotten = watchers.next()?;
                if cuts {
                    forgotten.shutdown(Shutdown::Both).ok()?;
                }
                for mut watcher in watchers {
                    let event = [&16_i32.to_be_bytes()[..], &(-1_i32).to_be_bytes(), &[0; 12]].concat();
                    watcher.write_all(&event).ok()?;
                }
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let watching = watching.clone();
            std::thread::spawn(move || -> Option<()> { serve(stream, &watching) });
        }
    });
    at
}

/// The fewer events came, the quicker the round; and the sooner where a connection ended.
#[test]
fn a_round_whose_events_do_not_come_is_a_slow_one() {
    // One was cut off in the round that warms.
    for (cuts, watching) in [(false, 3), (true, 2)] {
        let settings = fan_out::Settings {
            servers: vec![forgets_a_watcher(cuts)],
            watched: Vec::new(),
            auth: Arc::new([]),
            watchers: 3,
            rounds: 1,
            path: "/w".to_owned(),
            connect: Duration::from_secs(10),
            session_timeout_ms: 10_000,
            patience: Duration::from_millis(500),
        };
        let fan = fan_out::run(&settings, &AtomicBool::new(false), |_, _| {}).expect("it began");
        assert_eq!((fan.missing, fan.short_rounds, fan.events.len(), fan.last.len()), (1, 1, watching, 1));
        // A histogram keeps three digits.
        assert!(fan.last.min() >= 499_000_000, "{} ns", fan.last.min());
        assert_eq!(fan.events.max(), fan.last.max());
        assert!(fan.events.value_at_quantile(0.5) < 499_000_000, "the others came");
    }
}

fn victim() -> Child {
    Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("it starts")
}

fn is_told(outcome: &Outcome) -> bool {
    outcome.figures.iter().any(|figure| figure.name == "the kill was after")
}

/// "The kill was after 30 s", though the run was stopped before that.
#[test]
fn a_kill_that_did_not_come_is_not_told() {
    let minute = Duration::from_secs(60);
    for (is_to_kill, restart, want) in [
        (true, None, "nobody was killed: the run ended before --kill-after 30"),
        (true, Some("true"), "nobody was killed and nothing restarted: the run ended before --kill-after 30"),
        (false, Some("true"), "nothing was restarted: the run ended before --kill-after 30"),
    ] {
        let mut victim = victim();
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let at = server(move |number, xid| {
            heard.fetch_or(number == 5, Ordering::Relaxed);
            Some(data(xid, 100, 100))
        });
        let blow = gap::Blow {
            kill: is_to_kill.then_some(victim.id()),
            after: Duration::from_secs(30),
            restart: restart.map(str::to_owned),
        };
        let settings = Settings { duration: minute, ..settings(at, OPEN) };
        let (outcome, ending) = gap::gap(&settings, &blow, &stop, |_| {}).expect("a run");
        let lives = victim.try_wait().expect("it is ours").is_none();
        let _ = victim.kill().and_then(|()| victim.wait());
        let reasons = &outcome.verdict.reasons;
        assert!(reasons.iter().any(|why| why == want), "{reasons:?}");
        assert!(lives && !is_told(&outcome) && ending == Ending::Stopped, "{:?} {ending:?}", outcome.figures);
    }
}

#[test]
fn a_kill_that_came_is_told() {
    let mut victim = victim();
    let at = server(|_, xid| Some(data(xid, 100, 100)));
    let blow = gap::Blow { kill: Some(victim.id()), after: Duration::from_millis(100), restart: None };
    let (outcome, _) =
        gap::gap(&settings(at, OPEN), &blow, &Arc::new(AtomicBool::new(false)), |_| {}).expect("a run");
    let is_dead = victim.try_wait().expect("it is ours").is_some();
    let _ = victim.kill().and_then(|()| victim.wait());
    assert!(is_dead && is_told(&outcome), "{:?} {:?}", outcome.figures, outcome.verdict);
    assert!(!outcome.verdict.reasons.iter().any(|why| why.contains("nobody was killed")));
}
