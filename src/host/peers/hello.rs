//! The first words on a connection between two servers: who speaks, whose history it has, and who may go on.
//!
//! ```text
//! hello   = "RKPEER" version:u16 length:u32 crc32c:u32 body
//! body    = from:u8 to:u8 purpose:u8 cluster:u128 birth:u128 incarnation:u64 rules:u32
//!             listed:u16 (id:u8 is_observer:u8)*  births:u16 (id:u8 birth:u128)*
//! verdict = word:u8 length:u16 text       0 welcome, 1 not yet, 2 refused
//! ```
//! All big endian. The dialler says hello, the other one hello and verdict, the dialler its verdict. What comes in is a
//! stranger's word until both have said welcome: it is bounded before anything is allocated for it.

use crate::ids::ServerId;
use crate::wire::{Reader, Truncated};
use std::fmt;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 6] = b"RKPEER";
/// How TLS begins.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];
/// The version of the words between servers.
pub const VERSION: u16 = 2;
/// Head and body of the longest hello of 255 servers, and room.
const BODY_BYTES_MAX: usize = 8 << 10;
const HEAD_BYTES: usize = 16;
const TEXT_BYTES_MAX: usize = 512;

/// A server of the configuration, as the other side lists it.
pub type Listed = (ServerId, bool);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Messages of the sequencers.
    Messages,
    /// A snapshot is fetched.
    Snapshot,
    /// The other one is to dial, and at once: this server has just started, and the dialling is the other one's part.
    Knock,
}

/// Who speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub from: ServerId,
    /// Whom it means to speak to.
    pub to: ServerId,
    pub purpose: Purpose,
    /// The cluster whose history it has; 0 before its first.
    pub cluster: u128,
    /// The id of its data directory: another one than before means that the disk was wiped.
    pub birth: u128,
    /// This run of the process.
    pub incarnation: u64,
    /// The version of apply's rules that it knows.
    pub rules: u32,
    /// The servers of its configuration, ascending.
    pub listed: Vec<Listed>,
    /// The directories that its cluster was formed of, ascending; none before.
    pub births: Vec<(ServerId, u128)>,
}

/// Whether it goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Welcome,
    /// Both are right, but a cluster is still to be formed: come again.
    NotYet,
    /// Why not, for the operator of the other side.
    Refused(String),
}

/// Why a hello is none.
#[derive(Debug)]
pub enum BadHello {
    Io(io::Error),
    /// It does not begin as ours do.
    Stranger,
    /// It begins as TLS does.
    Tls,
    Version(u16),
    Malformed,
}

impl fmt::Display for BadHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadHello::Io(error) => write!(f, "{error}"),
            BadHello::Stranger => f.write_str(
                "it does not speak as a ringkeeper server does (is it a ZooKeeper server? The two can not share an \
                 ensemble)",
            ),
            BadHello::Tls => {
                f.write_str("it speaks TLS and this server does not: sslQuorum must be the same on all servers")
            }
            BadHello::Version(theirs) => write!(
                f,
                "it speaks version {theirs} between servers, this release version {VERSION}: run the same release"
            ),
            BadHello::Malformed => f.write_str("its hello is broken"),
        }
    }
}

impl From<io::Error> for BadHello {
    fn from(error: io::Error) -> BadHello {
        BadHello::Io(error)
    }
}

impl From<Truncated> for BadHello {
    fn from(_: Truncated) -> BadHello {
        BadHello::Malformed
    }
}

impl Hello {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut body = vec![self.from.0, self.to.0, self.purpose as u8];
        body.extend_from_slice(&self.cluster.to_be_bytes());
        body.extend_from_slice(&self.birth.to_be_bytes());
        body.extend_from_slice(&self.incarnation.to_be_bytes());
        body.extend_from_slice(&self.rules.to_be_bytes());
        body.extend_from_slice(&count(self.listed.len()));
        for (server, is_observer) in &self.listed {
            body.extend_from_slice(&[server.0, u8::from(*is_observer)]);
        }
        body.extend_from_slice(&count(self.births.len()));
        for (server, birth) in &self.births {
            body.push(server.0);
            body.extend_from_slice(&birth.to_be_bytes());
        }
        let mut whole = Vec::with_capacity(HEAD_BYTES + body.len());
        whole.extend_from_slice(MAGIC);
        whole.extend_from_slice(&VERSION.to_be_bytes());
        whole.extend_from_slice(&u32::try_from(body.len()).expect("255 servers take 5 KiB").to_be_bytes());
        whole.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        whole.append(&mut body);
        out.write_all(&whole)
    }

    pub fn read(input: &mut dyn Read) -> Result<Hello, BadHello> {
        let mut head = [0; HEAD_BYTES];
        // A stranger may have less to say than our head is long, and wait for an answer.
        input.read_exact(&mut head[..MAGIC.len()])?;
        if head[..MAGIC.len()] != *MAGIC {
            return Err(if head[..2] == TLS_HANDSHAKE { BadHello::Tls } else { BadHello::Stranger });
        }
        input.read_exact(&mut head[MAGIC.len()..])?;
        let version = u16::from_be_bytes([head[6], head[7]]);
        if version != VERSION {
            return Err(BadHello::Version(version));
        }
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(word(8)).map_err(|_| BadHello::Malformed)?;
        if length > BODY_BYTES_MAX {
            return Err(BadHello::Malformed);
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        if crc32c::crc32c(&body) != word(12) {
            return Err(BadHello::Malformed);
        }
        Hello::parse(&body)
    }

    fn parse(body: &[u8]) -> Result<Hello, BadHello> {
        let mut reader = Reader::new(body);
        let from = ServerId(reader.u8()?);
        let to = ServerId(reader.u8()?);
        let purpose = match reader.u8()? {
            0 => Purpose::Messages,
            1 => Purpose::Snapshot,
            2 => Purpose::Knock,
            _ => return Err(BadHello::Malformed),
        };
        let cluster = wide(&mut reader)?;
        let birth = wide(&mut reader)?;
        let incarnation = u64::from_be_bytes(reader.take(8)?.try_into().map_err(|_| BadHello::Malformed)?);
        let rules = u32::from_be_bytes(reader.take(4)?.try_into().map_err(|_| BadHello::Malformed)?);
        let mut listed = Vec::new();
        for _ in 0..short(&mut reader)? {
            let server = ServerId(reader.u8()?);
            listed.push((server, reader.u8()? == 1));
        }
        let mut births = Vec::new();
        for _ in 0..short(&mut reader)? {
            let server = ServerId(reader.u8()?);
            births.push((server, wide(&mut reader)?));
        }
        if !reader.rest().is_empty() {
            return Err(BadHello::Malformed);
        }
        Ok(Hello { from, to, purpose, cluster, birth, incarnation, rules, listed, births })
    }
}

fn count(n: usize) -> [u8; 2] {
    u16::try_from(n).expect("there are at most 255 servers").to_be_bytes()
}

fn wide(reader: &mut Reader<'_>) -> Result<u128, BadHello> {
    Ok(u128::from_be_bytes(reader.take(16)?.try_into().map_err(|_| BadHello::Malformed)?))
}

fn short(reader: &mut Reader<'_>) -> Result<u16, BadHello> {
    Ok(u16::from_be_bytes(reader.take(2)?.try_into().map_err(|_| BadHello::Malformed)?))
}

impl Verdict {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (word, text) = match self {
            Verdict::Welcome => (0, ""),
            Verdict::NotYet => (1, ""),
            Verdict::Refused(why) => (2, why.as_str()),
        };
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = vec![word];
        bytes.extend_from_slice(&count(end));
        bytes.extend_from_slice(&text.as_bytes()[..end]);
        out.write_all(&bytes)
    }

    pub fn read(input: &mut dyn Read) -> Result<Verdict, BadHello> {
        let mut head = [0; 3];
        input.read_exact(&mut head)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        if length > TEXT_BYTES_MAX {
            return Err(BadHello::Malformed);
        }
        let mut text = vec![0; length];
        input.read_exact(&mut text)?;
        match head[0] {
            0 => Ok(Verdict::Welcome),
            1 => Ok(Verdict::NotYet),
            // It goes into our log: no escape sequences, no second line.
            2 => Ok(Verdict::Refused(
                String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).collect(),
            )),
            _ => Err(BadHello::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Hello {
        Hello {
            from: ServerId(1),
            to: ServerId(3),
            purpose: Purpose::Snapshot,
            cluster: 7 << 99,
            birth: 5,
            incarnation: 9,
            rules: 3,
            listed: vec![(ServerId(1), false), (ServerId(3), true)],
            births: vec![(ServerId(1), 5)],
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes).unwrap();
        assert_eq!(Hello::read(&mut bytes.as_slice()).unwrap(), sample());
        for verdict in [Verdict::Welcome, Verdict::NotYet, Verdict::Refused("because".to_owned())] {
            let mut bytes = Vec::new();
            verdict.write(&mut bytes).unwrap();
            assert_eq!(Verdict::read(&mut bytes.as_slice()).unwrap(), verdict);
        }
        let mut bytes = Vec::new();
        Verdict::Refused("ü".repeat(400)).write(&mut bytes).unwrap();
        assert_eq!(Verdict::read(&mut bytes.as_slice()).unwrap(), Verdict::Refused("ü".repeat(256)));
    }

    #[test]
    fn strangers_old_releases_and_broken_words_are_told_apart() {
        let mut whole = Vec::new();
        sample().write(&mut whole).unwrap();
        for length in 0..whole.len() {
            assert!(matches!(Hello::read(&mut &whole[..length]), Err(BadHello::Io(_))), "{length}");
        }
        for at in 8..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x41;
            assert!(Hello::read(&mut bad.as_slice()).is_err(), "{at}");
        }
        let mut old = whole.clone();
        old[7] = 9;
        assert!(matches!(Hello::read(&mut old.as_slice()), Err(BadHello::Version(9))));
        assert!(matches!(Hello::read(&mut &b"GET / HTTP/1.1\r\n"[..]), Err(BadHello::Stranger)));
        assert!(matches!(Hello::read(&mut &b"\x16\x03\x01\x02\x00\x01"[..]), Err(BadHello::Tls)));
        let mut endless = whole[..8].to_vec();
        endless.extend_from_slice(&[0xff; 8]);
        assert!(matches!(Hello::read(&mut endless.as_slice()), Err(BadHello::Malformed)));
    }
}
