//! A client that writes, reads and syncs without end: a forged write, a lost session or a long wait ends it.

use super::server::PATIENCE;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No answer takes longer, though the host has other things to do.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two rounds: it is there to notice, not to load.
const PACE: Duration = Duration::from_millis(5);

pub struct Session {
    stream: TcpStream,
    pub id: i64,
    xid: i32,
    pub zxid: i64,
}

impl Session {
    /// A new session, when the server gives one.
    pub fn open(port: u16) -> Session {
        let until = Instant::now() + PATIENCE;
        let mut hello = vec![0; 4 + 45];
        hello[3] = 45;
        hello[16..20].copy_from_slice(&10_000i32.to_be_bytes());
        hello[28..32].copy_from_slice(&16i32.to_be_bytes());
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
                stream.set_nodelay(true).unwrap();
                if stream.write_all(&hello).is_ok() {
                    if let Some(answer) = frame(&mut stream) {
                        let id = i64::from_be_bytes(answer[8..16].try_into().unwrap());
                        assert_ne!(id, 0, "no session");
                        return Session { stream, id, xid: 0, zxid: 0 };
                    }
                }
            }
            assert!(Instant::now() < until, "the server does not serve");
            std::thread::sleep(PACE);
        }
    }

    /// Asks, and gives the answer's error and body.
    fn ask(&mut self, op: i32, body: &[u8]) -> (i32, Vec<u8>) {
        self.xid += 1;
        let mut request = u32::try_from(8 + body.len()).unwrap().to_be_bytes().to_vec();
        request.extend(self.xid.to_be_bytes());
        request.extend(op.to_be_bytes());
        request.extend(body);
        self.stream.write_all(&request).expect("the connection is there");
        let answer = frame(&mut self.stream).expect("an answer in time on a session that is there");
        assert_eq!(answer[..4], self.xid.to_be_bytes(), "answers come in order");
        let zxid = i64::from_be_bytes(answer[4..12].try_into().unwrap());
        assert!(zxid >= self.zxid, "history goes on: {zxid:x} behind {:x}", self.zxid);
        self.zxid = zxid;
        (i32::from_be_bytes(answer[12..16].try_into().unwrap()), answer[16..].to_vec())
    }

    pub fn create(&mut self, path: &str, flags: i32) {
        let mut body = text(path);
        body.extend(buffer(b"0"));
        body.extend(1i32.to_be_bytes());
        body.extend(31i32.to_be_bytes());
        body.extend([text("world"), text("anyone")].concat());
        body.extend(flags.to_be_bytes());
        assert_eq!(self.ask(1, &body).0, 0, "create {path}");
    }

    /// Sets data that must have this version: nobody else writes.
    pub fn set(&mut self, path: &str, data: &[u8], version: i32) {
        let body = [text(path), buffer(data), version.to_be_bytes().to_vec()].concat();
        assert_eq!(self.ask(5, &body).0, 0, "setData {path} at version {version}");
    }

    pub fn get(&mut self, path: &str) -> Vec<u8> {
        let (error, body) = self.ask(4, &[text(path), vec![0]].concat());
        assert_eq!(error, 0, "getData {path}");
        let length = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
        body[4..4 + length].to_vec()
    }

    pub fn sync(&mut self, path: &str) {
        assert_eq!(self.ask(9, &text(path)).0, 0, "sync {path}");
    }
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

fn buffer(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    buffer(text.as_bytes())
}

/// The request of a setData, as a client's frame has it behind its header.
pub fn set_data_request(path: &str, data: &[u8]) -> Vec<u8> {
    [text(path), buffer(data), (-1i32).to_be_bytes().to_vec()].concat()
}

#[derive(Default)]
struct Rounds {
    done: u64,
    zxid: i64,
    has_ended: bool,
}

/// Where it writes.
pub const PATH: &str = "/steady";

pub struct Steady {
    rounds: Arc<(Mutex<Rounds>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub session: i64,
}

impl Steady {
    pub fn start(port: u16) -> Steady {
        let mut session = Session::open(port);
        session.create(PATH, 1);
        let rounds: Arc<(Mutex<Rounds>, Condvar)> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, is_over, id) = (rounds.clone(), stop.clone(), session.id);
        let thread = std::thread::spawn(move || {
            let _end = End(&shared);
            for round in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let data = format!("{round}").into_bytes();
                session.set(PATH, &data, round);
                if round % 8 == 0 {
                    session.sync(PATH);
                }
                assert_eq!(session.get(PATH), data, "its own write");
                let mut rounds = shared.0.lock().unwrap();
                (rounds.done, rounds.zxid) = (rounds.done + 1, session.zxid);
                drop(rounds);
                shared.1.notify_all();
                std::thread::sleep(PACE);
            }
        });
        Steady { rounds, stop, thread: Some(thread), session: id }
    }

    /// It has gone on from here, by some rounds.
    pub fn goes_on(&self, what: &str) {
        let rounds = self.rounds.0.lock().unwrap();
        let aim = rounds.done + 3;
        let is_short = |rounds: &mut Rounds| rounds.done < aim && !rounds.has_ended;
        let (rounds, late) = self.rounds.1.wait_timeout_while(rounds, PATIENCE, is_short).unwrap();
        assert!(!late.timed_out() && !rounds.has_ended, "{what}: the client does not go on");
    }

    pub fn zxid(&self) -> i64 {
        self.rounds.0.lock().unwrap().zxid
    }
}

struct End<'a>(&'a (Mutex<Rounds>, Condvar));

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0 .0.lock().unwrap().has_ended = true;
        self.0 .1.notify_all();
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the client was wronged");
    }
}
