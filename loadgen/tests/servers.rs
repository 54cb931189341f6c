//! Runs against servers that misbehave in known ways: what the load generator says of each.

mod fake;

use fake::{data, frame, go, greet, serve, server, settings, OPEN};
use ringkeeper::wire::ConnectResponse;
use ringkeeper_load::modes::{disk, fan_out, sessions};
use ringkeeper_load::plan::Plan;
use ringkeeper_load::result::Outcome;
use ringkeeper_load::run::{self, Ending, Settings};
use ringkeeper_load::schedule::Pace;
use ringkeeper_load::{client, null, result};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

#[test]
fn all_that_is_due_is_answered_and_counted_once() {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let server = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            null::serve("127.0.0.1:0".parse().expect("an address"), 100, &stop, |at| {
                tell.send(at).expect("heard")
            })
        })
    };
    let at = told.recv().expect("the responder listens");
    let mut settings = settings(at, OPEN);
    settings.no_setup = false;
    let mix = "get=4,set=1,create=1,create-delete=1,ephemeral=1,sequential=1,exists=1,children=1,multi=1,sync-get=1,read-modify-write=1";
    settings.plan =
        Plan::simple(settings.plan.spaces[0].clone(), &mix.parse().expect("a mix"), 3, 1).expect("a plan");
    let (outcome, _) = go(&settings).expect("a run");
    assert_eq!((outcome.counts.due, outcome.counts.answered), (300, 300));
    assert_eq!((outcome.counts.errors, outcome.counts.connections_lost, outcome.counts.unsent), (0, 0, 0));
    assert_eq!(outcome.all.intended.count, 300);
    assert_eq!(outcome.ops.iter().map(|op| op.answered).sum::<u64>(), 300);
    assert_eq!(outcome.intervals.iter().map(|one| one.answered).sum::<u64>(), 300);
    let histogram = result::decode(&outcome.all.intended_hdr).expect("a histogram");
    assert_eq!(histogram.len(), 300);
    let text = serde_json::to_string(&outcome).expect("JSON");
    let again: Outcome = serde_json::from_str(&text).expect("a result");
    assert_eq!(again.counts.answered, 300);
    let closed = Settings { pace: Pace::Closed, depth: 8, ..settings };
    let (outcome, _) = go(&closed).expect("a run");
    assert!(outcome.counts.answered > 0 && outcome.counts.errors == 0);
    stop.store(true, Ordering::Relaxed);
    server.join().expect("it ends").expect("without an error");
}

/// One stall of 400 ms delays what was due in it, not only what was under way: that is what an open loop is for.
#[test]
fn a_stall_is_charged_to_all_that_it_delayed() {
    let stall = |number: usize, xid: i32| {
        if number == 20 {
            std::thread::sleep(Duration::from_millis(400));
        }
        Some(data(xid, 100, 100))
    };
    let mut settings = settings(server(stall), OPEN);
    (settings.connections, settings.threads) = (1, 1);
    let (outcome, _) = go(&settings).expect("a run");
    assert_eq!(outcome.counts.answered, 300);
    let histogram = result::decode(&outcome.all.intended_hdr).expect("a histogram");
    let delayed = histogram.count_between(100_000_000, histogram.high());
    assert!(delayed >= 140, "{delayed} operations waited for 100 ms or more");
    let service = result::decode(&outcome.all.service_hdr).expect("a histogram");
    assert!(service.max() >= 400_000_000);
    assert!(outcome.own.lag.p90 < 100_000.0, "the server's stall is not ours: {:?}", outcome.own.lag);
}

/// A server that is slow for less than our longest sleep: what was due meanwhile is late through it, not through us.
#[test]
fn short_stalls_of_the_server_are_not_charged_to_the_generator() {
    let stall = |number: usize, xid: i32| {
        if number % 20 == 10 {
            std::thread::sleep(Duration::from_millis(40));
        }
        Some(data(xid, 100, 100))
    };
    let mut settings = settings(server(stall), OPEN);
    (settings.connections, settings.threads) = (1, 1);
    let (outcome, _) = go(&settings).expect("a run");
    let (own, all) = (&outcome.own.lag, &outcome.all.intended);
    assert!(own.p90 < all.p90 / 2.0, "{own:?} beside {all:?}");
}

#[test]
fn a_wrong_value_and_a_wrong_order_are_errors() {
    let short = server(|_, xid| Some(data(xid, 100, 60)));
    let (outcome, _) = go(&settings(short, OPEN)).expect("a run");
    assert_eq!(outcome.all.errors.get("wrong value"), Some(&outcome.counts.errors));
    assert_eq!((outcome.counts.answered, outcome.counts.errors), (0, 300));

    let order = server(|number, xid| Some(data(if number == 50 { xid + 1 } else { xid }, 100, 100)));
    let (outcome, _) = go(&settings(order, OPEN)).expect("a run");
    assert_eq!(outcome.all.errors.get("reply out of order"), Some(&1));
    assert_eq!((outcome.counts.connections_lost, outcome.counts.reconnects), (1, 1));
}

#[test]
fn a_server_that_dies_leaves_partial_results() {
    let (listening, dead) = (AtomicBool::new(true), 100);
    let dies = server(move |number, xid| {
        if number >= dead {
            listening.store(false, Ordering::Relaxed);
            return None;
        }
        Some(data(xid, 100, 100))
    });
    let mut settings = settings(dies, OPEN);
    settings.drain = Duration::from_millis(300);
    let (outcome, ending) = go(&settings).expect("a run");
    assert!((1..=100).contains(&outcome.counts.answered), "{}", outcome.counts.answered);
    assert_eq!(outcome.counts.answered + outcome.counts.errors, 300, "nothing that was due is left out");
    assert!(outcome.counts.connections_lost >= 4);
    assert_ne!(ending, Ending::Whole);
    assert!(outcome.verdict.reasons.iter().any(|why| why.contains("connections were lost")));
}

/// Who hangs keeps his connections and answers nothing: they are left, as ZooKeeper's client leaves them.
#[test]
fn a_server_that_hangs_is_left_for_the_next() {
    let hangs = server(|number, xid| {
        if number >= 20 {
            loop {
                std::thread::park();
            }
        }
        Some(data(xid, 100, 100))
    });
    let good = server(|_, xid| Some(data(xid, 100, 100)));
    let mut settings = settings(hangs, OPEN);
    settings.servers = vec![hangs, good];
    (settings.connections, settings.threads) = (1, 1);
    settings.duration = Duration::from_secs(3);
    settings.session_timeout = Duration::from_millis(900);
    let (outcome, _) = go(&settings).expect("a run");
    assert_eq!((outcome.counts.connections_lost, outcome.counts.reconnects), (1, 1));
    let gap = Duration::from_nanos(outcome.gap_ns.0);
    assert!(
        (600..2_000).contains(&gap.as_millis()),
        "two thirds of the session timeout, and a dial: {gap:?}"
    );
    let why = outcome.verdict.reasons.join("; ");
    assert!(why.contains(&format!("{hangs}: no answer in 0.6 s")), "{why}");
}

/// One that takes connections and does not greet: the backlog of a process that hangs.
#[test]
fn a_server_that_does_not_greet_is_left_for_the_next() {
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = hangs.local_addr().expect("bound");
    let good = server(|_, xid| Some(data(xid, 100, 100)));
    let mut settings = settings(at, OPEN);
    settings.servers = vec![at, good];
    settings.session_timeout = Duration::from_millis(900);
    let (outcome, _) = go(&settings).expect("all connections come up");
    assert_eq!((outcome.counts.due, outcome.counts.answered), (300, 300));
    // Alone, it is named.
    settings.servers = vec![at];
    settings.connect = Duration::from_millis(500);
    let why = go(&settings).expect_err("nobody greets");
    assert!(why.contains(&format!("{at}: no answer in 0.3 s")), "{why}");
}

#[test]
fn a_server_that_is_not_there_or_refuses_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let mut settings = settings(free, OPEN);
    settings.connect = Duration::from_millis(500);
    let why = go(&settings).expect_err("nobody listens");
    assert!(why.contains("refused") && why.contains("2 of 2") && why.contains(&free.to_string()), "{why}");
    settings.no_setup = false;
    assert!(go(&settings).expect_err("nobody listens").contains(&free.to_string()));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    settings.servers = vec![listener.local_addr().expect("bound")];
    settings.no_setup = true;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = frame(&mut stream);
            let mut out = Vec::new();
            ConnectResponse::expired(Some(false)).encode(&mut out);
            let _ = stream.write_all(&out);
        }
    });
    settings.connect = Duration::from_secs(10);
    let why = go(&settings).expect_err("the session is refused");
    assert!(why.contains("expired"), "{why}");
}

/// Sessions, and their ephemerals, stayed on the server until they expired.
#[test]
fn a_run_closes_its_sessions() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counts = closed.clone();
    let good = server(move |_, xid| {
        // The closeSession's own xid.
        counts.fetch_add(usize::from(xid == i32::MAX), Ordering::Relaxed);
        Some(data(xid, 100, 100))
    });
    for pace in [OPEN, Pace::Closed] {
        let before = closed.load(Ordering::Relaxed);
        let (outcome, _) = go(&settings(good, pace)).expect("a run");
        assert_eq!((outcome.counts.errors, outcome.counts.connections_lost), (0, 0));
        assert_eq!(closed.load(Ordering::Relaxed) - before, 4, "one of each connection");
    }
}

/// It was waited for 30 s, and called "Resource temporarily unavailable (os error 11)".
#[test]
fn a_server_that_does_not_greet_the_setup_is_named_in_time() {
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = hangs.local_addr().expect("bound");
    let mut settings = settings(at, OPEN);
    (settings.no_setup, settings.connect) = (false, Duration::from_millis(200));
    let began = Instant::now();
    assert_eq!(go(&settings).expect_err("nobody greets"), format!("{at}: no answer in 0.2 s"));
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// A stop was not seen before all connections were up, and was called "Interrupted system call" before that.
#[test]
fn a_stop_before_the_begin_is_seen_and_said() {
    let minute = Duration::from_secs(60);
    let began = Instant::now();
    for no_setup in [true, false] {
        let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut settings = settings(hangs.local_addr().expect("bound"), OPEN);
        (settings.no_setup, settings.connect) = (no_setup, minute);
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let dialled = std::thread::spawn(move || {
            let dialled = hangs.accept();
            heard.store(true, Ordering::Relaxed);
            (hangs, dialled)
        });
        let why = run::run(&settings, &stop, |_| {}).expect_err("nothing was measured");
        assert_eq!(why, "stopped before anything was measured");
        drop(dialled.join());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    let good = server(move |number, xid| {
        heard.fetch_or(number == 5, Ordering::Relaxed);
        Some(data(xid, 0, 0))
    });
    let mut settings = settings(good, OPEN);
    settings.no_setup = false;
    settings.plan.spaces[0].keys = 1_000_000_000;
    let why = run::run(&settings, &stop, |_| {}).expect_err("nothing was measured");
    assert_eq!(why, "while the tree was made: stopped");
    assert!(began.elapsed() < minute);
}

#[test]
fn a_rate_out_of_reach_is_said_and_counted() {
    let slow = server(|_, xid| {
        std::thread::sleep(Duration::from_millis(20));
        Some(data(xid, 100, 100))
    });
    let mut settings = settings(slow, OPEN);
    settings.drain = Duration::from_millis(100);
    let (outcome, ending) = go(&settings).expect("a run");
    assert_eq!(outcome.counts.due, 300);
    assert_eq!(outcome.counts.answered + outcome.counts.errors, 300);
    assert!(outcome.counts.unsent > 0);
    assert!(matches!(ending, Ending::RateMissed | Ending::Invalid), "{ending:?}");
    assert!(outcome.verdict.reasons.iter().any(|why| why.contains("rate was not reached")));
    // What had no answer is in the histogram with the time that it waited.
    assert_eq!(outcome.all.intended.count, 300);
}

/// A backlog that is answered behind the end is no rate, and no operations for the CPU that was used until then.
#[test]
fn what_is_answered_after_the_end_is_not_the_rate_that_a_server_holds() {
    let slow = server(|_, xid| {
        std::thread::sleep(Duration::from_millis(20));
        Some(data(xid, 100, 100))
    });
    let (outcome, ending) = go(&settings(slow, OPEN)).expect("a run");
    let counts = &outcome.counts;
    assert_eq!((counts.due, counts.answered, counts.errors, counts.unsent), (300, 300, 0, 0));
    // Four connections, one at a time in 20 ms: 30 each, and not one more.
    assert!(counts.completed <= 120, "{} of 120", counts.completed);
    assert!(
        (outcome.all.per_second - counts.completed as f64 / 0.6).abs() < 1.0,
        "{}",
        outcome.all.per_second
    );
    assert_eq!(outcome.intervals.iter().map(|interval| interval.answered).sum::<u64>(), counts.completed);
    assert_eq!(outcome.all.intended.count, 300, "each has its latency");
    assert!(matches!(ending, Ending::RateMissed | Ending::Invalid), "{ending:?}");
    assert!(outcome.verdict.reasons.iter().any(|why| why.contains("rate was not reached")));
}

/// It ended with a lower "sessions a second", and without a word.
#[test]
fn a_churn_that_the_server_does_not_hold_is_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let number = AtomicUsize::new(0);
        // One at a time: its request is answered, and its goodbye by the end of the connection.
        for stream in listener.incoming().flatten() {
            std::thread::sleep(Duration::from_millis(5));
            serve(stream, &|number, xid| number.is_multiple_of(2).then(|| data(xid, 10, 10)), &number);
        }
    });
    let churn = sessions::Churn {
        servers: vec![at],
        watched: Vec::new(),
        auth: Arc::new([]),
        rate: 500.0,
        duration: Duration::from_millis(300),
        session_timeout_ms: 10_000,
    };
    let churned = sessions::churn(&churn, &AtomicBool::new(false), |_| {}).expect("sessions were opened");
    assert_eq!((churned.due, churned.lost + churned.closed), (150, 150));
    assert!(churned.late >= 90, "{} of 150", churned.late);
}

/// A follower that refuses every write answered all the while.
#[test]
fn a_refusal_ends_no_gap() {
    let refuses = server(|number, xid| {
        let refused =
            [&16i32.to_be_bytes()[..], &xid.to_be_bytes(), &[0; 8], &(-119i32).to_be_bytes()].concat();
        Some(if (50..150).contains(&number) { refused } else { data(xid, 100, 100) })
    });
    let settings = Settings { threads: 1, ..settings(refuses, OPEN) };
    let (outcome, _) = go(&settings).expect("a run");
    assert_eq!(outcome.counts.errors, 100);
    // 200 ms; half of it where something stood still just before.
    assert!(outcome.gap_ns.0 >= 100_000_000, "{:?}", outcome.gap_ns);
}

fn storm_of(server: SocketAddr, sessions: usize) -> sessions::Storm {
    sessions::Storm {
        servers: vec![server],
        watched: Vec::new(),
        auth: Arc::new([]),
        sessions,
        at_once: 4,
        hold: Duration::from_secs(1),
        session_timeout_ms: 300,
        patience: Duration::from_secs(10),
    }
}

/// They were counted as opened and as refused, and then there were fewer than none under way.
#[test]
fn sessions_that_end_while_others_are_opened_are_lost_and_not_refused() {
    let mut auth = Vec::new();
    client::put_auth(&mut auth, "digest", b"me:secret");
    // Up, and closed at what comes behind the handshake.
    let storm = sessions::Storm { auth: auth.into(), ..storm_of(server(|_, _| None), 50) };
    let stormed = sessions::storm(&storm, &AtomicBool::new(false), |_| {}).expect("sessions were opened");
    assert_eq!((stormed.opened, stormed.refused, stormed.lost), (50, 0, 50));
    assert_eq!(stormed.end, Some(sessions::End::ServerGone));
}

#[test]
fn sessions_are_kept_alive_while_others_are_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let accept = || listener.accept().expect("a connection").0;
        let (mut first, mut second) = (accept(), accept());
        greet(&mut first)?;
        // The second is not there before the first has pinged.
        let ping = frame(&mut first)?;
        assert!(ping.starts_with(&(-2_i32).to_be_bytes()));
        greet(&mut second)?;
        while !frame(&mut second)?.starts_with(&i32::MAX.to_be_bytes()) {}
        Some(())
    });
    let stormed = sessions::storm(&storm_of(at, 2), &AtomicBool::new(false), |_| {}).expect("it is run");
    assert_eq!((stormed.opened, stormed.refused), (2, 0));
}

/// Each is asked to measure for a minute, and stopped by the server's first request of a kind.
#[test]
fn a_stop_is_seen_in_the_midst_of_every_mode() {
    let minute = Duration::from_secs(60);
    let stops_at = |wanted: i32| {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let at = server(move |_, xid| {
            heard.fetch_or(xid == wanted, Ordering::Relaxed);
            // A session that is closed ends with its connection.
            (xid != i32::MAX).then(|| data(xid, 0, 0))
        });
        (at, stop)
    };
    let began = Instant::now();
    // A ping.
    let (at, stop) = stops_at(-2);
    let storm = sessions::Storm { hold: minute, ..storm_of(at, 2) };
    let stormed = sessions::storm(&storm, &stop, |_| {}).expect("sessions were opened");
    assert!(stormed.was_stopped && stormed.opened == 2);
    // The one request of a session.
    let (at, stop) = stops_at(2);
    let churn = sessions::Churn {
        servers: vec![at],
        watched: Vec::new(),
        auth: Arc::new([]),
        rate: 50.0,
        duration: minute,
        session_timeout_ms: 10_000,
    };
    assert!(sessions::churn(&churn, &stop, |_| {}).expect("sessions were opened").was_stopped);
    // The setter's write, whose events never come.
    let (at, stop) = stops_at(2);
    let fan = fan_out::Settings {
        servers: vec![at],
        watched: Vec::new(),
        auth: Arc::new([]),
        watchers: 2,
        rounds: 1,
        path: "/w".to_owned(),
        connect: minute,
        session_timeout_ms: 10_000,
        patience: minute,
    };
    let fan = fan_out::run(&fan, &stop, |_, _| {}).expect("it began");
    assert!(fan.was_stopped && fan.events.is_empty() && fan.missing == 0);
    // Not every file system can pass its cache.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if let Ok(written) = disk::write(dir, 1e5, 200, minute, &AtomicBool::new(true), &mut |_| {}) {
        assert!(written.was_stopped && written.seconds < 60.0 && written.due < 6_000_000);
    }
    assert!(began.elapsed() < minute, "none of them lasted to its end");
}
