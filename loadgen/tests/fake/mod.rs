//! Servers that do one thing, and the run that is made against them.

use ringkeeper::wire::{begin_frame, end_frame, put_i32, put_i64, ConnectRequest, ConnectResponse};
use ringkeeper_load::plan::{put_value, Choice, Plan, Size, Space};
use ringkeeper_load::process::Roots;
use ringkeeper_load::result::Outcome;
use ringkeeper_load::run::{self, Ending, Settings};
use ringkeeper_load::schedule::Pace;
use ringkeeper_load::server::Server;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

pub fn settings(server: SocketAddr, pace: Pace) -> Settings {
    let root = "/t".to_owned();
    let space =
        Space { root, keys: 10, keys_per_parent: 10, choice: Choice::Uniform, value: Size::Fixed(100) };
    Settings {
        name: String::new(),
        servers: vec![server],
        watched: vec![Server::process(std::process::id(), Roots::default()).expect("we are a process")],
        auth: Arc::new([]),
        pace,
        connections: 4,
        depth: 1,
        threads: 2,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(600),
        interval: Duration::from_millis(200),
        drain: Duration::from_secs(20),
        connect: Duration::from_secs(10),
        session_timeout: Duration::from_secs(30),
        plan: Plan::simple(space, &"get=1".parse().expect("a mix"), 2, 1).expect("a plan"),
        no_setup: true,
    }
}

pub fn go(settings: &Settings) -> Result<(Outcome, Ending), String> {
    run::run(settings, &Arc::new(AtomicBool::new(false)), |_| {})
}

pub const OPEN: Pace = Pace::Open { from: 500.0, to: 500.0 };

/// A server of one thread a connection that answers every request by `answer(number of the request, xid)`; `None` closes.
pub fn server(answer: impl Fn(usize, i32) -> Option<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (answer, number) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, number) = (answer.clone(), number.clone());
            std::thread::spawn(move || serve(stream, &*answer, &number));
        }
    });
    address
}

/// `None` for a four-letter word, whose connection is closed: nobody waits a second for its answer.
pub fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head) as usize;
    if length > 1 << 20 {
        return None;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// Takes a handshake and opens a session.
pub fn greet(stream: &mut TcpStream) -> Option<()> {
    let hello = frame(stream)?;
    let timeout_ms = ConnectRequest::decode(&hello).ok()?.timeout_ms;
    let mut out = Vec::new();
    ConnectResponse { timeout_ms, session_id: 7, password: [1; 16], read_only: Some(false) }.encode(&mut out);
    stream.write_all(&out).ok()
}

pub fn serve(
    mut stream: TcpStream,
    answer: &dyn Fn(usize, i32) -> Option<Vec<u8>>,
    number: &AtomicUsize,
) -> Option<()> {
    greet(&mut stream)?;
    loop {
        let request = frame(&mut stream)?;
        let xid = i32::from_be_bytes(*request.first_chunk()?);
        let bytes = answer(number.fetch_add(1, Ordering::Relaxed), xid)?;
        stream.write_all(&bytes).ok()?;
    }
}

/// A getData's reply with a value of `bytes` bytes, of which `sent` are sent.
pub fn data(xid: i32, bytes: usize, sent: usize) -> Vec<u8> {
    let mut value = Vec::new();
    put_value(&mut value, bytes);
    value.truncate(sent);
    let mut out = Vec::new();
    let start = begin_frame(&mut out);
    put_i32(&mut out, xid);
    put_i64(&mut out, 1);
    put_i32(&mut out, 0);
    put_i32(&mut out, value.len() as i32);
    out.extend_from_slice(&value);
    for _ in 0..4 {
        put_i64(&mut out, 1);
    }
    for _ in 0..3 {
        put_i32(&mut out, 0);
    }
    put_i64(&mut out, 0);
    put_i32(&mut out, bytes as i32);
    put_i32(&mut out, 0);
    put_i64(&mut out, 1);
    end_frame(&mut out, start);
    out
}
