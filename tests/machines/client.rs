//! A tiny ZooKeeper client for tests: records out, frames in. It knows the wire and nothing of the server.

use super::{Conn, World};
use ringkeeper::ids::Xid;
use ringkeeper::wire::{
    begin_frame, end_frame, put_buffer, put_i32, put_i64, put_multi_end, put_multi_header, put_string,
    ConnectRequest, ConnectResponse, OpCode, Reader, RequestHeader, Stat,
};

/// A frame from the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Event { zxid: i64, kind: i32, state: i32, path: String },
    Reply(Reply),
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

pub const CREATED: i32 = 1;
pub const DELETED: i32 = 2;
pub const CHANGED: i32 = 3;
pub const CHILDREN: i32 = 4;

impl Reply {
    /// The body of a reply that must be a good one.
    #[track_caller]
    pub fn ok(&self) -> &[u8] {
        assert_eq!(self.err, 0, "{self:?}");
        &self.body
    }

    /// The Stat at the end of the body.
    #[track_caller]
    pub fn stat(&self) -> Stat {
        let body = self.ok();
        Stat::decode(&mut Reader::new(&body[body.len() - Stat::BYTES..])).expect("68 bytes are a Stat")
    }

    /// The string at the head of the body.
    #[track_caller]
    pub fn text(&self) -> String {
        Reader::new(self.ok()).string().expect("a string").expect("not null").into_owned()
    }

    /// The buffer at the head of the body.
    #[track_caller]
    pub fn data(&self) -> Option<Vec<u8>> {
        Reader::new(self.ok()).buffer().expect("a buffer").map(<[u8]>::to_vec)
    }

    /// The strings at the head of the body.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let mut reader = Reader::new(self.ok());
        let count = reader.count(4).expect("a count").expect("not null");
        (0..count).map(|_| reader.string().expect("a string").expect("not null").into_owned()).collect()
    }

    /// A multi's results: kind, error in the header, and the bytes of each.
    #[track_caller]
    pub fn results(&self) -> Vec<(i32, i32, Vec<u8>)> {
        let mut reader = Reader::new(self.ok());
        let mut results = Vec::new();
        loop {
            let (kind, done, err) = (reader.i32().unwrap(), reader.bool().unwrap(), reader.i32().unwrap());
            if done {
                assert_eq!((kind, err), (-1, -1), "the end marker");
                assert!(reader.rest().is_empty(), "nothing follows the end marker");
                return results;
            }
            let before = reader.rest();
            match kind {
                -1 => drop(reader.i32().unwrap()),
                1 => drop(reader.string().unwrap()),
                15 => {
                    reader.string().unwrap();
                    Stat::decode(&mut reader).unwrap();
                }
                4 => {
                    reader.buffer().unwrap();
                    Stat::decode(&mut reader).unwrap();
                }
                5 => drop(Stat::decode(&mut reader).unwrap()),
                8 => {
                    let count = reader.count(4).unwrap().unwrap();
                    (0..count).for_each(|_| drop(reader.string().unwrap()));
                }
                2 | 13 => {}
                other => panic!("a multi has no result of type {other}"),
            }
            results.push((kind, err, before[..before.len() - reader.rest().len()].to_vec()));
        }
    }
}

/// Whole frames, and what is left.
pub fn frames(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(i32::from_be_bytes(*head)).expect("a server's frame has a length");
        if tail.len() < len {
            break;
        }
        all.push(&tail[..len]);
        rest = &tail[len..];
    }
    (all, rest)
}

pub fn decode_all(bytes: &[u8]) -> (Vec<Said>, &[u8]) {
    let (frames, rest) = frames(bytes);
    (frames.into_iter().map(decode).collect(), rest)
}

fn decode(frame: &[u8]) -> Said {
    let mut reader = Reader::new(frame);
    let (xid, zxid, err) = (reader.i32().unwrap(), reader.i64().unwrap(), reader.i32().unwrap());
    if xid != -1 {
        return Said::Reply(Reply { xid, zxid, err, body: reader.rest().to_vec() });
    }
    assert_eq!(err, 0, "an event has no error");
    let (kind, state) = (reader.i32().unwrap(), reader.i32().unwrap());
    let path = reader.string().unwrap().unwrap().into_owned();
    assert!(reader.rest().is_empty());
    Said::Event { zxid, kind, state, path }
}

/// A request as a frame.
pub fn request(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_frame(&mut out);
    RequestHeader { xid: Xid(xid), op }.encode(&mut out);
    out.extend_from_slice(body);
    end_frame(&mut out, start);
    out
}

// ---- bodies of requests ----

pub const OPEN: &[(i32, &str, &str)] = &[(31, "world", "anyone")];

pub fn put_acl(out: &mut Vec<u8>, acl: &[(i32, &str, &str)]) {
    put_i32(out, acl.len() as i32);
    for (perms, scheme, id) in acl {
        put_i32(out, *perms);
        put_string(out, scheme);
        put_string(out, id);
    }
}

pub fn create_acl(path: &str, data: Option<&[u8]>, acl: &[(i32, &str, &str)], flags: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    put_buffer(&mut out, data);
    put_acl(&mut out, acl);
    put_i32(&mut out, flags);
    out
}

pub fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    create_acl(path, Some(data), OPEN, flags)
}

pub fn create_ttl(path: &str, flags: i32, ttl_ms: i64) -> Vec<u8> {
    let mut out = create(path, b"", flags);
    put_i64(&mut out, ttl_ms);
    out
}

pub fn set(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    put_buffer(&mut out, Some(data));
    put_i32(&mut out, version);
    out
}

pub fn set_acl(path: &str, acl: &[(i32, &str, &str)], version: i32) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    put_acl(&mut out, acl);
    put_i32(&mut out, version);
    out
}

/// getData, exists, getChildren, getChildren2.
pub fn read(path: &str, watch: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    out.push(u8::from(watch));
    out
}

pub fn path(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, path);
    out
}

/// delete and check: a path and a version; addWatch, checkWatches, removeWatches: a path and a number.
pub fn path_and(path: &str, number: i32) -> Vec<u8> {
    let mut out = self::path(path);
    put_i32(&mut out, number);
    out
}

pub fn auth(scheme: &str, auth: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_i32(&mut out, 0);
    put_string(&mut out, scheme);
    put_buffer(&mut out, Some(auth));
    out
}

pub fn multi(items: &[(OpCode, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (op, body) in items {
        put_multi_header(&mut out, op.as_i32(), false, -1);
        out.extend_from_slice(body);
    }
    put_multi_end(&mut out);
    out
}

/// setWatches has three lists, setWatches2 five.
pub fn set_watches(zxid: i64, lists: &[&[&str]]) -> Vec<u8> {
    let mut out = Vec::new();
    put_i64(&mut out, zxid);
    for list in lists {
        put_i32(&mut out, list.len() as i32);
        list.iter().for_each(|path| put_string(&mut out, path));
    }
    out
}

pub fn hello(session: i64, password: &[u8], timeout_ms: i32) -> ConnectRequest<'_> {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms,
        session_id: session,
        password: Some(password),
        read_only: Some(false),
    }
}

impl World {
    /// Sends a connect request and gives the answer; `None`: closed without a byte.
    pub fn greet(&mut self, conn: Conn, request: &ConnectRequest<'_>) -> Option<ConnectResponse> {
        let mut out = Vec::new();
        request.encode(&mut out);
        self.put(conn, &out);
        self.settle();
        self.greeted(conn)
    }

    /// The answer to a handshake that was sent before.
    pub fn greeted(&mut self, conn: Conn) -> Option<ConnectResponse> {
        let bytes = std::mem::take(&mut self.clients[conn.0].from_server);
        let len = bytes.first_chunk::<4>().map(|head| i32::from_be_bytes(*head))? as usize;
        let response = ConnectResponse::decode(&bytes[4..4 + len]).expect("an answer to a handshake decodes");
        self.clients[conn.0].from_server = bytes[4 + len..].to_vec();
        self.clients[conn.0].session = response.session_id;
        self.clients[conn.0].password = response.password;
        Some(response)
    }

    /// A new session of ten seconds.
    #[track_caller]
    pub fn login(&mut self, at: usize) -> Conn {
        self.login_for(at, 10_000)
    }

    #[track_caller]
    pub fn login_for(&mut self, at: usize, timeout_ms: i32) -> Conn {
        let conn = self.connect(at);
        let response = self.greet(conn, &hello(0, &[0; 16], timeout_ms)).expect("a session");
        assert_ne!(response.session_id, 0);
        conn
    }

    /// Re-attaches a connection's session on another connection.
    pub fn attach(&mut self, at: usize, old: Conn) -> Conn {
        let conn = self.connect(at);
        let (session, password) = (self.clients[old.0].session, self.clients[old.0].password);
        self.greet(conn, &hello(session, &password, 10_000));
        conn
    }

    /// Puts a request into the socket and gives its xid.
    pub fn post(&mut self, conn: Conn, op: OpCode, body: &[u8]) -> i32 {
        let client = &mut self.clients[conn.0];
        let xid = match op {
            OpCode::Ping => -2,
            OpCode::Auth => -4,
            OpCode::SetWatches | OpCode::SetWatches2 => -8,
            _ => {
                client.next_xid += 1;
                client.next_xid - 1
            }
        };
        self.put(conn, &request(xid, op.as_i32(), body));
        xid
    }

    /// Asks and gives the answer, which must be the last that is said; events before it are dropped.
    #[track_caller]
    pub fn ask(&mut self, conn: Conn, op: OpCode, body: &[u8]) -> Reply {
        let xid = self.post(conn, op, body);
        self.settle();
        let said = self.hear(conn);
        match said.last() {
            Some(Said::Reply(reply)) if reply.xid == xid => reply.clone(),
            _ => panic!("no answer to {op:?} {xid}: {said:?}"),
        }
    }

    /// Asks and gives everything that was said.
    pub fn ask_all(&mut self, conn: Conn, op: OpCode, body: &[u8]) -> Vec<Said> {
        self.post(conn, op, body);
        self.settle();
        self.hear(conn)
    }

    /// The events heard since the last look; there must be nothing else.
    #[track_caller]
    pub fn events(&mut self, conn: Conn) -> Vec<(i32, String)> {
        let said = self.hear(conn).into_iter();
        said.map(|one| match one {
            Said::Event { kind, path, .. } => (kind, path),
            Said::Reply(reply) => panic!("an answer that nobody waits for: {reply:?}"),
        })
        .collect()
    }

    #[track_caller]
    pub fn make(&mut self, conn: Conn, path: &str, flags: i32) -> Reply {
        let reply = self.ask(conn, OpCode::Create, &create(path, b"x", flags));
        reply.ok();
        reply
    }

    #[track_caller]
    pub fn stat(&mut self, conn: Conn, path: &str) -> Stat {
        self.ask(conn, OpCode::Exists, &read(path, false)).stat()
    }
}

/// Events as pairs, for comparing.
pub fn told(said: &[Said]) -> Vec<String> {
    said.iter()
        .map(|one| match one {
            Said::Event { kind, path, .. } => format!("event {kind} {path}"),
            Said::Reply(reply) => format!("reply {} {}", reply.xid, reply.err),
        })
        .collect()
}
