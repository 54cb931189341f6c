//! Four-letter words asked of a running server with two shards, as `nc` and monitoring agents ask them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(lines: &str) -> Server {
        let mut server = Server::spawn(lines);
        server.wait();
        server
    }

    fn spawn(lines: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cfg = dir.path().join("zoo.cfg");
        let data = dir.path().join("data");
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=2000\nringkeeper.shards=2\n\
             ringkeeper.segmentSizeKb=1024\nringkeeper.diskReserveMb=1\n{lines}",
            data.display()
        );
        std::fs::write(&cfg, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ringkeeper"))
            .arg("serve")
            .arg(&cfg)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server { child, port, _dir: dir }
    }

    /// Until it serves.
    fn wait(&mut self) {
        let started = Instant::now();
        while !self.try_ask(b"srvr").is_some_and(|text| text.contains("Mode: standalone")) {
            assert!(started.elapsed() < PATIENCE, "the server does not answer");
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn try_ask(&self, bytes: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(bytes).ok()?;
        // As nc does at the end of its input.
        stream.shutdown(Shutdown::Write).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn ask(&self, word: &str) -> String {
        self.try_ask(word.as_bytes()).unwrap_or_else(|| panic!("{word}: the connection broke"))
    }

    /// A new session; the stream keeps it.
    fn session(&self) -> (TcpStream, i64) {
        let mut stream = self.connect();
        let mut body = Vec::new();
        body.extend(0i32.to_be_bytes());
        body.extend(0i64.to_be_bytes());
        body.extend(30_000i32.to_be_bytes());
        body.extend(0i64.to_be_bytes());
        body.extend(16i32.to_be_bytes());
        body.extend([0; 17]);
        let answer = exchange(&mut stream, &body);
        (stream, i64::from_be_bytes(answer[8..16].try_into().unwrap()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exchange(stream: &mut TcpStream, body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    stream.write_all(&frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn put_path(body: &mut Vec<u8>, path: &str) {
    body.extend(i32::try_from(path.len()).unwrap().to_be_bytes());
    body.extend(path.as_bytes());
}

/// `exists` with a watch.
fn watch(stream: &mut TcpStream, path: &str) {
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    body.extend(3i32.to_be_bytes());
    put_path(&mut body, path);
    body.push(1);
    exchange(stream, &body);
}

/// An open ephemeral.
fn create_ephemeral(stream: &mut TcpStream, path: &str) {
    let mut body = Vec::new();
    body.extend(2i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_path(&mut body, path);
    body.extend(1i32.to_be_bytes());
    body.push(b'x');
    body.extend(1i32.to_be_bytes());
    body.extend(31i32.to_be_bytes());
    put_path(&mut body, "world");
    put_path(&mut body, "anyone");
    body.extend(1i32.to_be_bytes());
    let answer = exchange(stream, &body);
    assert_eq!(answer[12..16], [0; 4], "create {path}");
}

fn ping(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let answer = exchange(stream, &[&(-2i32).to_be_bytes()[..], &11i32.to_be_bytes()].concat());
    assert_eq!(answer[..4], (-2i32).to_be_bytes());
    started.elapsed()
}

#[test]
fn every_word_tells_of_all_shards_and_survives_a_half_close() {
    let server = Server::start("4lw.commands.whitelist=*\n");
    // The kernel spreads connections over the shards: with 16 both have some, but for one chance in 32768.
    let mut sessions: Vec<(TcpStream, i64)> = (0..16).map(|_| server.session()).collect();
    for (stream, _) in &mut sessions {
        watch(stream, "/zookeeper");
    }
    watch(&mut sessions[3].0, "/nothing-here");
    create_ephemeral(&mut sessions[5].0, "/mine");

    assert_eq!(server.ask("ruok"), "imok");
    assert_eq!(server.ask("isro"), "rw");
    let srvr = server.ask("srvr");
    assert!(srvr.starts_with("Zookeeper version: 3.9.5-"), "{srvr}");
    assert!(srvr.contains("\nNode count: 6\n") && srvr.contains("\nConnections: 17\n"), "{srvr}");
    let stat = server.ask("stat");
    assert_eq!(stat.lines().filter(|line| line.starts_with(" /127.0.0.1:")).count(), 17, "{stat}");

    let cons = server.ask("cons");
    for (_, id) in &sessions {
        assert!(cons.contains(&format!(",sid=0x{id:x},lop=")), "0x{id:x} is missing in\n{cons}");
    }
    assert_eq!(server.ask("wchs"), "16 connections watching 2 paths\nTotal watches:17\n");
    let wchp = server.ask("wchp");
    assert_eq!(
        wchp.lines().filter(|line| line.starts_with('/')).collect::<Vec<_>>(),
        ["/nothing-here", "/zookeeper"]
    );
    assert_eq!(wchp.lines().filter(|line| line.starts_with("\t0x")).count(), 17, "{wchp}");
    let wchc = server.ask("wchc");
    assert!(wchc.contains(&format!("0x{:x}\n\t/nothing-here\n\t/zookeeper\n", sessions[3].1)), "{wchc}");

    let dump = server.ask("dump");
    assert!(dump.contains(")/(16):\n"), "{dump}");
    assert!(dump.contains("Sessions with Ephemerals (1):\n"), "{dump}");
    assert!(dump.contains(&format!("0x{:x}:\n\t/mine\n", sessions[5].1)), "{dump}");

    let mntr = server.ask("mntr");
    for line in ["zk_watch_count\t17\n", "zk_ephemerals_count\t1\n", "zk_global_sessions\t16\n"] {
        assert!(mntr.contains(line), "{line:?} is missing in\n{mntr}");
    }
    assert!(server.ask("envi").starts_with("Environment:\nzookeeper.version=3.9.5-"));
    assert!(server.ask("conf").starts_with(&format!("clientPort={}\n", server.port)));
    assert!(server.ask("dirs").starts_with("datadir_size: "));
    assert_eq!(server.ask("hash"), "");

    assert_eq!(server.ask("gtmk"), "306");
    let stmk = [b"stmk".as_slice(), &7i64.to_be_bytes()].concat();
    assert_eq!(server.try_ask(&stmk).unwrap(), "7");
    assert_eq!(server.ask("gtmk"), "7");

    assert_eq!(server.ask("srst"), "Server stats reset.\n");
    assert_eq!(server.ask("crst"), "Connection stats reset.\n");
    let cons = server.ask("cons");
    assert_eq!(cons.matches("recved=0,sent=0,sid=").count(), 16, "{cons}");

    for n in 0..130 {
        create_ephemeral(&mut sessions[0].0, &format!("/of-many-{n}"));
    }
    let hash = server.ask("hash");
    let (zxid, digest) = hash.lines().next().unwrap().split_once(": ").unwrap();
    assert_eq!(i64::from_str_radix(zxid, 16).unwrap() % 128, 0, "{hash}");
    assert!(digest.parse::<u64>().is_ok(), "{hash}");
}

#[test]
fn a_word_may_come_in_pieces_and_what_follows_it_is_ignored_tr33() {
    let server = Server::start("");
    let mut stream = server.connect();
    for piece in [&b"ru"[..], b"o", b"k and more"] {
        stream.set_nodelay(true).unwrap();
        stream.write_all(piece).unwrap();
        std::thread::yield_now();
    }
    let mut text = [0; 4];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"imok");
    assert_eq!(server.ask("cons"), "cons is not executed because it is not in the whitelist.\n");
    assert_eq!(server.ask("ruok"), "imok");
}

#[test]
fn a_crowd_that_asks_costly_words_holds_up_nobody_r07() {
    let server = Server::start("4lw.commands.whitelist=*\n");
    let (mut session, _) = server.session();
    let started = Instant::now();
    // A machine that stands still for a moment is not the server: two answers may be late.
    let mut late = 0;
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..12).map(|_| scope.spawn(|| server.ask("cons"))).collect();
        while !askers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            late += u32::from(ping(&mut session) >= Duration::from_secs(1));
            let asked = Instant::now();
            assert_eq!(server.ask("ruok"), "imok");
            late += u32::from(asked.elapsed() >= Duration::from_secs(1));
        }
        for asker in askers {
            assert!(asker.join().unwrap().contains(",sid=0x"));
        }
    });
    assert!(late <= 2, "{late} pings and words took a second or longer");
    // Ten a second: the twelfth waited for eleven pauses.
    assert!(started.elapsed() >= Duration::from_millis(1_000), "{:?}", started.elapsed());
}

#[test]
fn connections_that_come_and_go_in_one_turn_are_counted_out_again() {
    for io in ["epoll", "auto"] {
        let server = Server::start(&format!("ringkeeper.io={io}\n"));
        for _ in 0..20 {
            let crowd: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
            // Their ends are taken in turns that accept others.
            drop(crowd);
        }
        // What limits count is what is there: this very connection.
        let asked = Instant::now();
        loop {
            let text = server.ask("mntr");
            let counted: u64 = text
                .lines()
                .filter(|line| line.starts_with("zk_ringkeeper_shard_") && line.contains("_connections\t"))
                .filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
                .sum();
            if counted == 1 {
                break;
            }
            assert!(asked.elapsed() < PATIENCE, "{io}: {counted} connections are counted, one is there");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ends the crowd, whether the test passes or not.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A shard has room for 64 questions, and the answers to words are among them: hundreds at once keep the tree away from
/// no shard.
#[test]
fn a_server_that_is_asked_by_hundreds_while_it_starts_serves() {
    for io in ["epoll", "auto", "epoll", "auto"] {
        let mut server = Server::spawn(&format!("ringkeeper.io={io}\nmaxClientCnxns=0\n"));
        let (port, is_over) = (server.port, AtomicBool::new(false));
        let crowd = || {
            while !is_over.load(Ordering::Relaxed) {
                let mut crowd: Vec<TcpStream> =
                    (0..150).map_while(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
                for stream in &mut crowd {
                    let _ = stream.write_all(b"ruok");
                }
                for mut stream in crowd {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let _ = stream.read(&mut [0; 4]);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(crowd);
            }
            let _over = Over(&is_over);
            server.wait();
        });
    }
}
