//! The tree that a run needs, made through one connection before the run: parents, keys with their first values, and
//! a znode for each connection to create below.

use crate::ask::{put_open_acl, put_own, put_path};
use crate::client::{put_close, Gone, REPLY_BYTES_MAX};
use crate::plan::{put_value, Dice, Plan};
use ringkeeper::wire::xid::AUTH;
use ringkeeper::wire::{begin_frame, end_frame, put_i32, ConnectRequest, ConnectResponse, OpCode, Reader};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NODE_EXISTS: i32 = -110;
/// Requests under way at once: ZooKeeper stops reading a client above 1,000 of all clients together.
const WINDOW: usize = 200;

/// One session on one connection that waits for its replies, until the user wants the end.
pub struct Client<'a> {
    stream: TcpStream,
    stop: &'a AtomicBool,
    /// For the next reply, and for a server that does not read to take more.
    patience: Duration,
    out: Vec<u8>,
    bytes: Vec<u8>,
    at: usize,
    xid: i32,
}

/// A wait is cut in slices of this length: between them it is seen that the user wants the end.
const SLICE: Duration = Duration::from_millis(50);
/// A reply after the handshake is waited for at least so long: a server under load is slow.
const REPLY: Duration = Duration::from_secs(30);
/// The close of its session is waited for so long.
const CLOSING: Duration = Duration::from_secs(2);

fn no_answer(patience: Duration) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("no answer in {} s", patience.as_secs_f64()))
}

/// Connects. The call itself hears of no stop: it is made aside, and left to itself then.
fn dial(server: SocketAddr, timeout: Duration, stop: &AtomicBool) -> io::Result<TcpStream> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(TcpStream::connect_timeout(&server, timeout)));
    loop {
        match told.recv_timeout(SLICE) {
            Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => return Err(no_answer(timeout)),
            Ok(done) => return done,
            Err(_) if stop.load(Ordering::Relaxed) => return Err(io::Error::other("stopped")),
            Err(_) => {}
        }
    }
}

impl<'a> Client<'a> {
    /// Opens a session at the first server that answers in `timeout`.
    pub fn open(
        servers: &[SocketAddr],
        timeout: Duration,
        auth: &[u8],
        stop: &'a AtomicBool,
    ) -> Result<Client<'a>, String> {
        let mut why = "no server is named".to_owned();
        for server in servers {
            match Client::open_at(*server, timeout, auth, stop) {
                Ok(client) => return Ok(client),
                Err(error) => why = format!("{server}: {error}"),
            }
            if stop.load(Ordering::Relaxed) {
                return Err("stopped before anything was measured".to_owned());
            }
        }
        Err(why)
    }

    fn open_at(
        server: SocketAddr,
        timeout: Duration,
        auth: &[u8],
        stop: &'a AtomicBool,
    ) -> io::Result<Client<'a>> {
        let stream = dial(server, timeout, stop)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        let mut client =
            Client { stream, stop, patience: timeout, out: Vec::new(), bytes: Vec::new(), at: 0, xid: 0 };
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 30_000,
            session_id: 0,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .encode(&mut client.out);
        client.flush()?;
        let frame = client.frame()?;
        match ConnectResponse::decode(&frame) {
            Ok(answer) if answer.session_id != 0 => {
                client.out.extend_from_slice(auth);
                client.patience = timeout.max(REPLY);
                Ok(client)
            }
            Ok(_) => Err(io::Error::other("the server refused a session")),
            Err(_) => Err(io::Error::other("the server's handshake is too short: not ZooKeeper's protocol?")),
        }
    }

    /// Appends a request.
    pub fn put(&mut self, code: OpCode, body: impl FnOnce(&mut Vec<u8>)) {
        self.xid += 1;
        let start = begin_frame(&mut self.out);
        put_i32(&mut self.out, self.xid);
        put_i32(&mut self.out, code as i32);
        body(&mut self.out);
        end_frame(&mut self.out, start);
    }

    /// Sends what is put. What is sent is taken from the buffer though the rest is not: a close may still come behind it.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let done = self.send(&mut sent);
        self.out.drain(..sent);
        done
    }

    fn send(&mut self, sent: &mut usize) -> io::Result<()> {
        let mut deadline = Instant::now() + self.patience;
        while *sent < self.out.len() {
            match self.stream.write(&self.out[*sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(more) => {
                    *sent += more;
                    deadline = Instant::now() + self.patience;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if Instant::now() >= deadline {
                        return Err(no_answer(self.patience));
                    }
                }
                Err(error) => return Err(error),
            }
            if *sent < self.out.len() && self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("stopped"));
            }
        }
        Ok(())
    }

    /// The next reply: its code and its body. Events are passed over.
    pub fn reply(&mut self) -> io::Result<(i32, Vec<u8>)> {
        loop {
            let frame = self.frame()?;
            let mut reader = Reader::new(&frame);
            let head = (reader.i32(), reader.i64(), reader.i32());
            let (Ok(xid), Ok(_), Ok(code)) = head else {
                return Err(io::Error::other("a reply without a header"));
            };
            if xid == AUTH.0 && code != 0 {
                return Err(io::Error::other(Gone::Credentials(code).to_string()));
            }
            if xid >= 0 {
                return Ok((code, reader.rest().to_vec()));
            }
        }
    }

    /// One request and its reply.
    pub fn ask(&mut self, code: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<(i32, Vec<u8>)> {
        self.put(code, body);
        self.flush()?;
        self.reply()
    }

    /// Closes the session, so that it does not burden the server until it expires.
    pub fn close(mut self) {
        self.patience = CLOSING;
        put_close(&mut self.out);
        let _ = self.flush().and_then(|()| self.reply());
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + self.patience;
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(head) = rest.first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if length > REPLY_BYTES_MAX {
                    return Err(io::Error::other("the server sent a frame of an impossible length"));
                }
                if let Some(frame) = rest.get(4..4 + length) {
                    let frame = frame.to_vec();
                    self.at += 4 + length;
                    return Ok(frame);
                }
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("stopped"));
            }
            let old = self.bytes.len();
            self.bytes.resize(old + (64 << 10), 0);
            let read = self.stream.read(&mut self.bytes[old..]);
            self.bytes.truncate(old + *read.as_ref().unwrap_or(&0));
            let got = match read {
                Ok(got) => got,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if Instant::now() >= deadline {
                        return Err(no_answer(self.patience));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if got == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }
}

/// One znode to be made.
enum Want {
    Plain(Vec<u8>),
    /// Has a value; a znode that is there is set.
    Key(Vec<u8>, usize),
}

/// How far the tree is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Made {
    /// Znodes that are there now...
    pub done: u64,
    /// ...of them, those that were before...
    pub existed: u64,
    /// ...of so many.
    pub total: u64,
}

/// Makes the tree; what is there is taken, with a new value. `told` hears of each znode.
pub fn make_tree(
    client: &mut Client<'_>,
    plan: &Plan,
    connections: u64,
    mut told: impl FnMut(Made),
) -> Result<(), String> {
    for space in &plan.spaces {
        let mut path = String::new();
        for part in space.root.split('/').filter(|part| !part.is_empty()) {
            path.push('/');
            path.push_str(part);
            run(client, std::iter::once(Want::Plain(path.clone().into_bytes())), |_| {})?;
        }
    }
    let total = connections + plan.spaces.iter().map(|space| space.parents() + space.keys).sum::<u64>();
    let own = (0..connections).map(|number| {
        let mut path = Vec::new();
        put_own(&mut path, plan, number);
        Want::Plain(path)
    });
    let mut made = Made { total, ..Made::default() };
    let mut count = |existed| {
        made.done += 1;
        made.existed += u64::from(existed);
        told(made);
    };
    run(client, own, &mut count)?;
    let mut dice = Dice::new(plan, u64::MAX);
    for (at, space) in plan.spaces.iter().enumerate() {
        let parents = (0..space.parents()).map(|parent| {
            let mut path = Vec::new();
            space.put_parent(&mut path, parent * space.keys_per_parent);
            Want::Plain(path)
        });
        let keys = (0..space.keys).map(|key| {
            let mut path = Vec::new();
            space.put_key(&mut path, key);
            Want::Key(path, dice.size(at))
        });
        run(client, parents.chain(keys), &mut count)?;
    }
    Ok(())
}

/// `told` hears of each znode whether it was there before.
fn run(
    client: &mut Client<'_>,
    wants: impl Iterator<Item = Want>,
    mut told: impl FnMut(bool),
) -> Result<(), String> {
    let mut under_way: VecDeque<Want> = VecDeque::new();
    let mut again: Vec<Want> = Vec::new();
    let lost = |error: io::Error| format!("while the tree was made: {error}");
    let mut wants = wants.fuse();
    let mut is_filling = false;
    loop {
        // Half a window at a time: one send brings many.
        while under_way.len() < WINDOW && (under_way.len() <= WINDOW / 2 || is_filling) {
            is_filling = true;
            let Some(want) = wants.next() else { break };
            let (path, bytes) = match &want {
                Want::Plain(path) => (path, 0),
                Want::Key(path, bytes) => (path, *bytes),
            };
            client.put(OpCode::Create, |out| {
                put_path(out, |out| out.extend_from_slice(path));
                put_i32(out, bytes as i32);
                put_value(out, bytes);
                put_open_acl(out);
                put_i32(out, 0);
            });
            under_way.push_back(want);
        }
        is_filling = false;
        let Some(want) = under_way.pop_front() else { break };
        client.flush().map_err(lost)?;
        let (code, _) = client.reply().map_err(lost)?;
        match (code, want) {
            (0, _) | (NODE_EXISTS, Want::Plain(_)) => {}
            (NODE_EXISTS, key) => again.push(key),
            (code, Want::Plain(path) | Want::Key(path, _)) => {
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(format!("create of {path} was refused: {}", crate::record::errors::name(code)));
            }
        }
        told(code == NODE_EXISTS);
    }
    for chunk in again.chunks(WINDOW) {
        for want in chunk {
            let Want::Key(path, bytes) = want else { continue };
            client.put(OpCode::SetData, |out| {
                put_path(out, |out| out.extend_from_slice(path));
                put_i32(out, *bytes as i32);
                put_value(out, *bytes);
                put_i32(out, -1);
            });
        }
        client.flush().map_err(lost)?;
        for want in chunk {
            let (code, _) = client.reply().map_err(lost)?;
            if let (1.., Want::Key(path, _)) = (code.unsigned_abs(), want) {
                let path = String::from_utf8_lossy(path).into_owned();
                return Err(format!("set of {path} was refused: {}", crate::record::errors::name(code)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that greets and then reads nothing. At the first byte of a request it says so, and it stays until it is let go.
    fn deaf(heard: impl FnOnce() + Send + 'static) -> (SocketAddr, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        let (hold, held) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut head = [0; 4];
            stream.read_exact(&mut head)?;
            stream.read_exact(&mut vec![0; u32::from_be_bytes(head) as usize])?;
            let mut out = Vec::new();
            ConnectResponse { timeout_ms: 1_000, session_id: 7, password: [1; 16], read_only: Some(false) }
                .encode(&mut out);
            stream.write_all(&out)?;
            stream.peek(&mut head)?;
            heard();
            let _ = held.recv();
            io::Result::Ok(())
        });
        (at, hold)
    }

    /// Twenty megabytes, more than any socket takes for one that does not read.
    fn put_window(client: &mut Client<'_>) {
        for _ in 0..WINDOW {
            client.put(OpCode::Create, |out| put_value(out, 100_000));
        }
    }

    /// It was waited for without an end, and deaf to the first SIGINT.
    #[test]
    fn a_server_that_does_not_read_is_left_when_the_user_wants_the_end() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (at, _hold) = deaf(|| STOP.store(true, Ordering::Relaxed));
        let mut client = Client::open(&[at], Duration::from_secs(20), &[], &STOP).expect("it greets");
        let began = Instant::now();
        put_window(&mut client);
        assert_eq!(client.flush().expect_err("it does not read").to_string(), "stopped");
        client.close();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_server_that_does_not_read_is_left_in_time() {
        let stop = AtomicBool::new(false);
        let (at, _hold) = deaf(|| {});
        let mut client = Client::open(&[at], Duration::from_secs(20), &[], &stop).expect("it greets");
        client.patience = Duration::from_millis(200);
        put_window(&mut client);
        assert_eq!(client.flush().expect_err("it does not read").to_string(), "no answer in 0.2 s");
        // Its close is not sent either.
        let began = Instant::now();
        client.close();
        assert!((CLOSING..Duration::from_secs(20)).contains(&began.elapsed()));
    }
}
