//! Who does not get past the greeting.

use super::played::{plain, Member};
use super::server::{data, free_port, three, wait_until, Server};
use super::stage::Stage;
use super::wire::{dial, greet, wait_closed, Hello, Verdict};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Says something as 127.0.0.`host`; the connection.
fn say(stage: &Stage, host: u8, bytes: &[u8]) -> TcpStream {
    let mut stream = dial(host, stage.port).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What these bytes get: the connection closed, and one line that names who and why.
fn closes(stage: &mut Stage, host: u8, bytes: &[u8], why: &str) {
    wait_closed(&mut say(stage, host, bytes));
    let who = format!("127.0.0.{host}:");
    stage.server.wait_line(&[&who, why]);
    stage.holds(why);
    assert_eq!(stage.server.lines_with(&[&who]).len(), 1, "{why}: one line");
}

/// What this hello gets: a refusal with these words, here and there.
fn refuses(stage: &mut Stage, host: u8, hello: &Hello, why: &[&str]) {
    // It comes again and again, as a server does.
    for _ in 0..5 {
        let mut stream = dial(host, stage.port).unwrap();
        match greet(&mut stream, hello).unwrap() {
            (_, Verdict::Refused(said)) => {
                assert!(why.iter().all(|word| said.contains(word)), "{said}");
            }
            other => panic!("{other:?}"),
        }
        wait_closed(&mut stream);
    }
    let who = format!("127.0.0.{host}:");
    stage.server.wait_line(&[&[who.as_str()], why].concat());
    stage.holds(why[0]);
    assert_eq!(stage.server.lines_with(&[&who]).len(), 1, "{why:?}: one line");
}

pub fn p05_to_p07_and_p09_are_refused_with_a_line() {
    let mut stage = Stage::leading();
    let known = stage.second.hello.clone();
    let change = |change: fn(&mut Hello)| {
        let mut hello = known.clone();
        change(&mut hello);
        hello
    };
    // P05
    refuses(&mut stage, 10, &change(|hello| hello.from = 1), &["both call themselves server 1"]);
    refuses(&mut stage, 11, &change(|hello| hello.to = 3), &["server 2 looks for server 3 here"]);
    // P06
    let ours = format!("{:032x}", known.cluster);
    let theirs = format!("{:032x}", 0xabcdu128);
    let unknown = change(|hello| hello.cluster = 0xabcd);
    refuses(&mut stage, 13, &unknown, &[&ours, &theirs, "another ensemble"]);
    // Another directory of a server that is there all the while.
    let third = stage.third_hello.clone();
    let twice = ["server 3 is connected with server 1 already, with another data directory"];
    refuses(&mut stage, 14, &Hello { birth: third.birth + 1, ..third.clone() }, &twice);
    let fresh = Hello { cluster: 0, birth: 99, births: Vec::new(), ..third };
    refuses(&mut stage, 15, &fresh, &twice);
    // P07
    for (host, version) in [(20, 0), (21, 1), (22, u16::MAX)] {
        let mut hello = known.clone();
        hello.version = version;
        closes(&mut stage, host, &hello.bytes(), &format!("it speaks version {version} between servers"));
    }
    // P08, before the greeting
    let mut endless = known.bytes();
    endless[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    closes(&mut stage, 30, &endless, "its hello is broken");
    let mut broken = known.bytes();
    *broken.last_mut().unwrap() ^= 1;
    closes(&mut stage, 31, &broken, "its hello is broken");
    let purpose = change(|hello| hello.purpose = 7);
    closes(&mut stage, 32, &purpose.bytes(), "its hello is broken");
    // P09
    let no_peer = "it does not speak as a ringkeeper server does";
    closes(&mut stage, 33, b"GET / HTTP/1.1\r\n\r\n", no_peer);
    closes(&mut stage, 34, &[0xff; 64], no_peer);
    closes(&mut stage, 35, &[0; 64], no_peer);
    // P01 the other way round: TLS where plain text is spoken.
    closes(&mut stage, 36, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "it speaks TLS");
    // Who says nothing, or a piece, is not waited for.
    closes(&mut stage, 37, b"", "nothing came in time");
    closes(&mut stage, 38, b"RK", "nothing came in time");
    closes(&mut stage, 39, &known.bytes()[..40], "nothing came in time");
}

/// One stranger finds new words each time.
pub fn a_stranger_that_says_something_new_each_time_fills_no_log() {
    let mut stage = Stage::leading();
    let before = stage.server.all_lines();
    for n in 1..100 {
        let mut hello = stage.second.hello.clone();
        hello.cluster = n;
        greet(&mut dial(40, stage.port).unwrap(), &hello).unwrap();
    }
    stage.holds("a hundred clusters");
    assert!(stage.server.all_lines() - before <= 6, "{} lines", stage.server.all_lines() - before);
}

pub fn p20_a_thousand_half_open_connections_hold_up_nobody_for_long() {
    let mut stage = Stage::leading();
    let mut crowd: Vec<TcpStream> = (0..1_000).map(|_| say(&stage, 50, b"RKP")).collect();
    stage.holds("a thousand half-open connections");
    let asked = Instant::now();
    for stream in &mut crowd {
        wait_closed(stream);
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    stage.server.wait_line(&["strangers: too many at once, the last from 127.0.0.50"]);
    assert!(stage.server.lines_with(&["127.0.0.50"]).len() <= 5);
    // Whoever belongs here gets in again.
    stage.rogue();
    stage.holds("after the thousand");
}

/// A new directory believes no stranger: what it joins is written down for ever.
pub fn a_new_server_joins_no_cluster_that_its_voters_did_not_form() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Server::start(dir.path(), 1, &three([port, free_port(), free_port()]));
    let mut stranger = Member::new(2, 1, plain(60, port));
    // Its own words say how its directory is called.
    stranger.introduce();
    let until = Instant::now() + Duration::from_secs(20);
    let theirs = loop {
        assert!(Instant::now() < until);
        let Ok(mut stream) = dial(60, port) else { continue };
        break greet(&mut stream, &stranger.hello).unwrap().0;
    };
    for births in [vec![(1, theirs.birth)], vec![(1, theirs.birth), (2, 5), (3, 6)]] {
        let hello = Hello { cluster: 5, births, ..stranger.hello.clone() };
        let (_, verdict) = greet(&mut dial(60, port).unwrap(), &hello).unwrap();
        assert!(matches!(&verdict, Verdict::Refused(why) if why.contains("did not form it")), "{verdict:?}");
    }
    server.wait_line(&["127.0.0.60", "did not form it"]);
    server.assert_lives();
    // It goes on to form one with those that are listed.
    Member::new(2, 1, plain(2, port)).introduce();
    Member::new(3, 1, plain(3, port)).enlist();
    server.wait_line(&["member of ensemble"]);
    wait_until("its log", || data(dir.path()).join("log").exists());
}
