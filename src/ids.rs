//! The words that every room uses for a quantity: no bare integer crosses a door.
//!
//! Each is a transparent wrapper with only the arithmetic that makes sense for it.

use std::fmt;
use std::net::IpAddr;

/// ZooKeeper's transaction id: `epoch << 32 | counter`, printed in hex as ZooKeeper does.
/// Signed on the wire; never negative here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before the first transaction.
    pub const ZERO: Zxid = Zxid(0);

    /// The id after this one. The counter carries into the epoch instead of forcing an election
    /// (ZOOKEEPER-1277 describes the outage that ZooKeeper's 32-bit counter causes).
    #[must_use]
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A client's request number, echoed verbatim; the negative ones are reserved (wire::xid).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Xid(pub i32);

/// A session's id. 0 means "none yet" on the wire. Its top byte names the server that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// On the wire: a client that has no session yet.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A member of the ensemble: `myid`. 1 when standalone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ServerId(pub u8);

/// A server's place in Raft: the server, and which of its data directories in a row. A server whose disk was wiped comes back
/// in a seat of its own and has no part in what the old one voted. It is the number that Raft knows the server by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seat(pub u64);

impl Seat {
    /// 0: of the directories that the ensemble was formed of.
    #[must_use]
    pub fn new(server: ServerId, generation: u64) -> Seat {
        Seat(u64::from(server.0) | generation << 8)
    }

    /// Of a directory that has none yet. No seat of the ensemble comes so far.
    #[must_use]
    pub fn none(server: ServerId) -> Seat {
        Seat::new(server, (1 << 48) - 1)
    }

    #[must_use]
    pub fn server(self) -> ServerId {
        ServerId((self.0 & 0xff) as u8)
    }

    #[must_use]
    pub fn generation(self) -> u64 {
        self.0 >> 8
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server().0, self.generation())
    }
}

/// A shard of one server, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ShardId(pub u16);

/// One TCP stream of one shard. Never reused within a server's run, so that an answer
/// for a connection that is gone can not reach its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ConnId(pub u64);

/// Milliseconds: of the host's monotonic clock when it is a moment, else a span.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Millis(pub u64);

impl Millis {
    /// The span from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Millis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, moved by a span.
    #[must_use]
    pub fn plus(self, span: Millis) -> Millis {
        Millis(self.0.saturating_add(span.0))
    }
}

/// Milliseconds since the Unix epoch: what a Stat shows. Only the leader stamps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WallMillis(pub i64);

/// Raft's log index: one a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogIndex(pub u64);

/// Raft's term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Term(pub u64);

/// Who holds a session: the connection that may speak for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Owner {
    /// The server that the client is connected to.
    pub server: ServerId,
    /// The run of that server: random at each start, so that a restart owns nothing.
    pub incarnation: u64,
    /// The shard of that server.
    pub shard: ShardId,
    /// The connection of that shard.
    pub conn: ConnId,
}

/// The address that the `ip` scheme and the limits a client address see: IPv4-mapped IPv6 is IPv4.
#[must_use]
pub fn plain_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_carries_into_the_epoch_and_never_stops() {
        assert_eq!(Zxid(0xffff_ffff).next(), Zxid(0x1_0000_0000));
        assert_eq!(Zxid(0x8f).to_string(), "0x8f");
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(plain_ip(mapped).to_string(), "10.1.2.3");
        let v6: IpAddr = "::1".parse().unwrap();
        assert_eq!(plain_ip(v6), v6);
    }
}
