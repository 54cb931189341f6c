//! The words between servers, written anew from what `host/peers` says of them: greeting and frames.

use super::server::PATIENCE;
use bytes::Bytes;
use ringkeeper::ids::{LogIndex, Seat, Term, Zxid};
use ringkeeper::peer::{self, Entry, Message, RaftMessage};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The numbers that the raft crate gives to its messages.
pub mod kind {
    pub const APPEND: u8 = 3;
    pub const APPEND_RESPONSE: u8 = 4;
    pub const REQUEST_VOTE: u8 = 5;
    pub const REQUEST_VOTE_RESPONSE: u8 = 6;
    pub const SNAPSHOT: u8 = 7;
    pub const HEARTBEAT: u8 = 8;
    pub const HEARTBEAT_RESPONSE: u8 = 9;
    pub const TIMEOUT_NOW: u8 = 14;
    pub const READ_INDEX: u8 = 15;
    pub const READ_INDEX_RESPONSE: u8 = 16;
    pub const REQUEST_PRE_VOTE: u8 = 17;
    pub const REQUEST_PRE_VOTE_RESPONSE: u8 = 18;
}

/// Plain or TLS.
pub trait Bytestream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Bytestream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

pub type Stream = Box<dyn Bytestream>;

#[derive(Clone, Debug)]
pub struct Hello {
    pub version: u16,
    pub from: u8,
    pub to: u8,
    pub purpose: u8,
    pub cluster: u128,
    pub birth: u128,
    pub incarnation: u64,
    pub listed: Vec<(u8, u8)>,
    pub births: Vec<(u8, u128)>,
}

impl Hello {
    /// Of a new server of three.
    pub fn new(from: u8, to: u8) -> Hello {
        Hello {
            version: 2,
            from,
            to,
            purpose: 0,
            cluster: 0,
            birth: u128::from(from) << 64 | 7,
            incarnation: 5,
            listed: vec![(1, 0), (2, 0), (3, 0)],
            births: Vec::new(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = vec![self.from, self.to, self.purpose];
        body.extend(self.cluster.to_be_bytes());
        body.extend(self.birth.to_be_bytes());
        body.extend(self.incarnation.to_be_bytes());
        body.extend(1u32.to_be_bytes());
        body.extend((self.listed.len() as u16).to_be_bytes());
        self.listed.iter().for_each(|(id, role)| body.extend([*id, *role]));
        body.extend((self.births.len() as u16).to_be_bytes());
        for (id, birth) in &self.births {
            body.push(*id);
            body.extend(birth.to_be_bytes());
        }
        let mut whole = b"RKPEER".to_vec();
        whole.extend(self.version.to_be_bytes());
        whole.extend((body.len() as u32).to_be_bytes());
        whole.extend(crc32c::crc32c(&body).to_be_bytes());
        whole.extend(body);
        whole
    }

    pub fn read(from: &mut dyn Read) -> io::Result<Hello> {
        let mut head = [0; 16];
        from.read_exact(&mut head)?;
        assert_eq!(&head[..6], b"RKPEER");
        let mut body = vec![0; u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize];
        from.read_exact(&mut body)?;
        assert_eq!(crc32c::crc32c(&body).to_be_bytes(), head[12..]);
        let mut left = body.as_slice();
        let mut take = |n: usize| {
            let (now, rest) = left.split_at(n);
            left = rest;
            now.to_vec()
        };
        let (from, to, purpose) = (take(1)[0], take(1)[0], take(1)[0]);
        let wide = |bytes: Vec<u8>| u128::from_be_bytes(bytes.try_into().unwrap());
        let (cluster, birth) = (wide(take(16)), wide(take(16)));
        let incarnation = u64::from_be_bytes(take(8).try_into().unwrap());
        take(4);
        let count = u16::from_be_bytes(take(2).try_into().unwrap());
        let listed = (0..count).map(|_| (take(1)[0], take(1)[0])).collect();
        let count = u16::from_be_bytes(take(2).try_into().unwrap());
        let births = (0..count).map(|_| (take(1)[0], wide(take(16)))).collect();
        assert!(left.is_empty(), "nothing behind a hello");
        let version = u16::from_be_bytes([head[6], head[7]]);
        Ok(Hello { version, from, to, purpose, cluster, birth, incarnation, listed, births })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Welcome,
    NotYet,
    Refused(String),
}

impl Verdict {
    pub fn bytes(&self) -> Vec<u8> {
        let (word, text) = match self {
            Verdict::Welcome => (0, ""),
            Verdict::NotYet => (1, ""),
            Verdict::Refused(why) => (2, why.as_str()),
        };
        [&[word], &(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
    }

    pub fn read(from: &mut dyn Read) -> io::Result<Verdict> {
        let mut head = [0; 3];
        from.read_exact(&mut head)?;
        let mut text = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        from.read_exact(&mut text)?;
        Ok(match head[0] {
            0 => Verdict::Welcome,
            1 => Verdict::NotYet,
            2 => Verdict::Refused(String::from_utf8(text).unwrap()),
            other => panic!("verdict {other}"),
        })
    }
}

/// Dials as 127.0.0.`host`: strangers are told apart by their addresses.
pub fn dial(host: u8, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let address = |host, port| SockAddr::from(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port)));
    socket.bind(&address(host, 0))?;
    socket.connect_timeout(&address(1, port), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The dialler's part of the greeting; ours is `Welcome`, whatever theirs is.
pub fn greet(stream: &mut dyn Bytestream, hello: &Hello) -> io::Result<(Hello, Verdict)> {
    stream.write_all(&hello.bytes())?;
    let theirs = Hello::read(stream)?;
    let verdict = Verdict::read(stream)?;
    let ours = if verdict == Verdict::NotYet { Verdict::NotYet } else { Verdict::Welcome };
    stream.write_all(&ours.bytes())?;
    Ok((theirs, verdict))
}

/// Until the other end closes, or `PATIENCE` is over. How long it took.
pub fn wait_closed(stream: &mut dyn Read) -> Duration {
    let started = Instant::now();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return started.elapsed(),
            Ok(_) => assert!(started.elapsed() < PATIENCE, "it goes on talking"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it stays open"),
            Err(_) => return started.elapsed(),
        }
    }
}

pub fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), &crc32c::crc32c(body).to_be_bytes()[..], body].concat()
}

pub fn frame_of(message: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    peer::encode(&mut body, message);
    frame(&body)
}

/// A message of Raft without anything.
pub fn raft(kind: u8, term: u64) -> RaftMessage {
    // To server 1; from whom the connection says.
    RaftMessage { kind, to: Seat(1), term: Term(term), ..RaftMessage::default() }
}

/// Raft's message as it goes on the wire.
pub fn boxed(raft: RaftMessage) -> Message {
    Message::Raft(Box::new(raft))
}

pub fn entry(term: u64, payload: &[u8]) -> Entry {
    Entry {
        term: Term(term),
        tag: 0,
        first_zxid: Zxid(0),
        last_zxid: Zxid(0),
        payload: Some(Bytes::copy_from_slice(payload)),
    }
}

pub fn append(term: u64, after: (u64, u64), commit: u64, entries: Vec<Entry>) -> RaftMessage {
    let (index, log_term) = (LogIndex(after.0), Term(after.1));
    RaftMessage { index, log_term, commit: LogIndex(commit), entries, ..raft(kind::APPEND, term) }
}

/// A connection on which both have said welcome.
pub struct Wire {
    stream: Stream,
    from: u8,
    input: Vec<u8>,
}

impl Wire {
    pub fn new(stream: Stream, from: u8) -> Wire {
        Wire { stream, from, input: Vec::new() }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub fn say(&mut self, message: &Message) -> io::Result<()> {
        match message {
            Message::Raft(raft) if raft.from == Seat(0) => {
                let from = Seat(u64::from(self.from));
                self.write(&frame_of(&boxed(RaftMessage { from, ..(**raft).clone() })))
            }
            _ => self.write(&frame_of(message)),
        }
    }

    /// The next message, of those that come in this time; an error when the connection is gone.
    pub fn hear(&mut self, within: Duration) -> io::Result<Option<Message>> {
        let until = Instant::now() + within;
        loop {
            while self.input.len() >= 8 {
                let length = u32::from_be_bytes(self.input[..4].try_into().unwrap()) as usize;
                if self.input.len() < 8 + length {
                    break;
                }
                let whole: Vec<u8> = self.input.drain(..8 + length).collect();
                assert_eq!(crc32c::crc32c(&whole[8..]).to_be_bytes(), whole[4..8]);
                if length > 0 {
                    let message = peer::decode(&Bytes::copy_from_slice(&whole[8..]));
                    return Ok(Some(message.expect("the server speaks its own language")));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.socket().set_read_timeout(Some(left))?;
            let mut some = [0; 64 << 10];
            match self.stream.read(&mut some) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(&some[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Until the server closes it.
    pub fn wait_closed(&mut self) {
        self.stream.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        wait_closed(&mut self.stream);
    }
}
