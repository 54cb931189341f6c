//! What the log holds: a batch of transactions, as bytes.
//!
//! A batch is one Raft entry and one log record. Requests stand in it as the client sent them, undecided: apply finds
//! the result. Decoding never panics: a log is data from outside.
//!
//! ```text
//! batch  = version:u8 options:u32 wall:i64 first_zxid:i64 server:u8 incarnation:u64 sequence:u64 count:u32 txn*
//! txn    = kind:u8 session:i64 shard:u16 conn:u64 xid:i32 body
//! body   = 1 op:i32 identities:buffer request:buffer     a client's request
//!        | 2 timeout:i32 password:16                     a new session; `session` is its id
//!        | 3 timeout:i32 password:buffer                 a re-attach; takes no zxid
//!        | 4                                             a session's end by the server, whoever owns it
//!        | 5 path:buffer                                 the reaper's wish for a container or TTL node
//!        | 6 server:u8 incarnation:u64 shard:u16 conn:u64  expiry: void where another owner has come since
//!        | 7 step:buffer                                 a step of a change of members; alone in its batch
//!        | 8 op:i32 identities:buffer request:buffer     a request of a session that its server alone knows
//! ```
//! Integers are big endian, buffers are Jute's.

use crate::ids::{ConnId, Owner, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
use crate::membership::Step;
use crate::session::Password;
use crate::wire::{first_string, put_buffer, put_i32, put_i64, Id, Reader, Truncated};
use std::cell::OnceCell;

/// The version of this layout. A server that meets another one stops and says so.
const BATCH_VERSION: u8 = 1;
const HEADER_BYTES: usize = COUNT_AT + 4;
/// Where the number of transactions stands.
const COUNT_AT: usize = 1 + 4 + 8 + 8 + 1 + 8 + 8;

/// The options that decide results: the leader's, carried in every batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `enforceQuota`: hard limits refuse.
    pub enforce_quota: bool,
    /// `skipACL`: nobody is refused.
    pub skip_acl: bool,
    /// `extendedTypesEnabled`: TTL nodes may be made.
    pub extended_types: bool,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// The disk is nearly full: what grows the tree is refused with NotReadOnly.
    pub read_only: bool,
    /// `DigestAuthenticationProvider.enabled=false`.
    pub digest_disabled: bool,
}

impl Options {
    fn to_bits(self) -> u32 {
        u32::from(self.enforce_quota)
            | u32::from(self.skip_acl) << 1
            | u32::from(self.extended_types) << 2
            | u32::from(self.reconfig_enabled) << 3
            | u32::from(self.read_only) << 4
            | u32::from(self.digest_disabled) << 5
    }

    fn from_bits(bits: u32) -> Options {
        let bit = |n: u32| bits >> n & 1 == 1;
        Options {
            enforce_quota: bit(0),
            skip_acl: bit(1),
            extended_types: bit(2),
            reconfig_enabled: bit(3),
            read_only: bit(4),
            digest_disabled: bit(5),
        }
    }
}

/// What all transactions of a batch share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub options: Options,
    /// The leader's wall clock. As ZooKeeper's it may go back, by an administrator's hand or with another leader: held back instead,
    /// an hour that was once wrong would stay every later znode's (an audit).
    pub wall: WallMillis,
    /// The first transaction's; each that takes one takes the next.
    pub first_zxid: Zxid,
    /// Who gathered the batch, and its number there: apply takes each number once and in order. Number 0 is a leader's
    /// own batch, which nobody sends twice.
    pub server: ServerId,
    pub incarnation: u64,
    pub sequence: u64,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn<'a> {
    pub session: SessionId,
    /// The connection that asked, on the batch's server; zero for the server itself.
    pub shard: ShardId,
    pub conn: ConnId,
    pub xid: Xid,
    pub body: TxnBody<'a>,
}

/// What it wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxnBody<'a> {
    /// `op` and `request` as they came; `identities` as `Identities::encode` wrote them.
    Request {
        op: i32,
        identities: &'a [u8],
        request: &'a [u8],
    },
    /// The same of a local session, which the server that gathered it vouches for; no znode can belong to it.
    LocalRequest {
        op: i32,
        identities: &'a [u8],
        request: &'a [u8],
    },
    CreateSession {
        timeout_ms: i32,
        password: Password,
    },
    Attach {
        timeout_ms: i32,
        password: &'a [u8],
    },
    CloseSession,
    /// Nobody was heard of for the whole timeout while the session had this owner. A client that came back since, its
    /// attach under way while this was decided, keeps its session.
    Expire {
        owner: Owner,
    },
    Reap {
        path: &'a str,
    },
    /// A `membership::Step`, encoded.
    Member {
        step: &'a [u8],
    },
}

impl Txn<'_> {
    /// Whether it takes a zxid: all do, failed ones too (TR37), but attach and the steps that no client sees.
    #[must_use]
    pub fn takes_zxid(&self) -> bool {
        match self.body {
            TxnBody::Attach { .. } => false,
            TxnBody::Member { step } => Step::decode(step).is_ok_and(|step| step.takes_zxid()),
            _ => true,
        }
    }

    /// The path that it most likely is about: for what looks ahead.
    #[must_use]
    pub fn path_hint(&self) -> Option<&[u8]> {
        match &self.body {
            TxnBody::Request { request, .. } | TxnBody::LocalRequest { request, .. } => first_string(request),
            TxnBody::Reap { path } => Some(path.as_bytes()),
            TxnBody::CreateSession { .. }
            | TxnBody::Attach { .. }
            | TxnBody::CloseSession
            | TxnBody::Expire { .. }
            | TxnBody::Member { .. } => None,
        }
    }

    /// The bytes that it takes in a batch, or a few more.
    #[must_use]
    pub fn bytes_in_batch(&self) -> usize {
        const HEAD: usize = 64;
        HEAD + match &self.body {
            TxnBody::Request { identities, request, .. }
            | TxnBody::LocalRequest { identities, request, .. } => identities.len() + request.len(),
            TxnBody::Attach { password, .. } => password.len(),
            TxnBody::Reap { path } => path.len(),
            TxnBody::Member { step } => step.len(),
            TxnBody::CreateSession { .. } | TxnBody::CloseSession | TxnBody::Expire { .. } => 0,
        }
    }
}

impl BatchHeader {
    /// The owner that a connection of this batch's server is.
    #[must_use]
    pub fn owner(&self, shard: ShardId, conn: ConnId) -> Owner {
        Owner { server: self.server, incarnation: self.incarnation, shard, conn }
    }
}

/// Gathers a batch.
pub struct BatchWriter {
    bytes: Vec<u8>,
    count: u32,
    zxids: i64,
}

impl BatchWriter {
    /// An empty batch; its header is written by `finish`. `room` is left free in front for the log's own header.
    #[must_use]
    pub fn new(capacity: usize) -> BatchWriter {
        let mut bytes = Vec::with_capacity(capacity.max(HEADER_BYTES));
        bytes.resize(HEADER_BYTES, 0);
        BatchWriter { bytes, count: 0, zxids: 0 }
    }

    /// Appends one.
    pub fn push(&mut self, txn: &Txn<'_>) {
        let out = &mut self.bytes;
        let kind = match txn.body {
            TxnBody::Request { .. } => 1,
            TxnBody::CreateSession { .. } => 2,
            TxnBody::Attach { .. } => 3,
            TxnBody::CloseSession => 4,
            TxnBody::Expire { .. } => 6,
            TxnBody::Reap { .. } => 5,
            TxnBody::Member { .. } => 7,
            TxnBody::LocalRequest { .. } => 8,
        };
        let mut head = [0u8; 23];
        head[0] = kind;
        head[1..9].copy_from_slice(&txn.session.0.to_be_bytes());
        head[9..11].copy_from_slice(&txn.shard.0.to_be_bytes());
        head[11..19].copy_from_slice(&txn.conn.0.to_be_bytes());
        head[19..23].copy_from_slice(&txn.xid.0.to_be_bytes());
        out.extend_from_slice(&head);
        match &txn.body {
            TxnBody::Request { op, identities, request }
            | TxnBody::LocalRequest { op, identities, request } => {
                put_i32(out, *op);
                put_buffer(out, Some(identities));
                put_buffer(out, Some(request));
            }
            TxnBody::CreateSession { timeout_ms, password } => {
                put_i32(out, *timeout_ms);
                out.extend_from_slice(password);
            }
            TxnBody::Attach { timeout_ms, password } => {
                put_i32(out, *timeout_ms);
                put_buffer(out, Some(password));
            }
            TxnBody::CloseSession => {}
            TxnBody::Expire { owner } => {
                out.push(owner.server.0);
                out.extend_from_slice(&owner.incarnation.to_be_bytes());
                out.extend_from_slice(&owner.shard.0.to_be_bytes());
                out.extend_from_slice(&owner.conn.0.to_be_bytes());
            }
            TxnBody::Reap { path } => put_buffer(out, Some(path.as_bytes())),
            TxnBody::Member { step } => put_buffer(out, Some(step)),
        }
        self.count += 1;
        self.zxids += i64::from(txn.takes_zxid());
    }

    /// What is wanted of a batch that this server wrote.
    #[must_use]
    pub fn of(batch: &[u8], mut keep: impl FnMut(&Txn<'_>) -> bool) -> BatchWriter {
        let mut writer = BatchWriter::new(batch.len());
        let mut batch = Batch::decode(batch).expect("a batch of this server's own decodes");
        while let Some(txn) = batch.next_txn().expect("a batch of this server's own decodes") {
            if keep(&txn) {
                writer.push(&txn);
            }
        }
        writer
    }

    /// What is wanted of the transactions so far.
    #[must_use]
    pub fn retain(self, keep: impl FnMut(&Txn<'_>) -> bool) -> BatchWriter {
        BatchWriter::of(&self.into_unstamped(), keep)
    }

    /// How many transactions.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many zxids they take.
    #[must_use]
    pub fn zxids(&self) -> i64 {
        self.zxids
    }

    /// The length so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no transaction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the header and gives the bytes.
    #[must_use]
    pub fn finish(self, header: &BatchHeader) -> Vec<u8> {
        let mut bytes = self.into_unstamped();
        stamp(&mut bytes, header);
        bytes
    }

    /// The bytes of a batch whose header the leader is to fill in.
    #[must_use]
    pub fn into_unstamped(mut self) -> Vec<u8> {
        self.bytes[0] = BATCH_VERSION;
        self.bytes[COUNT_AT..HEADER_BYTES].copy_from_slice(&self.count.to_be_bytes());
        self.bytes
    }
}

/// Fills in the header of a batch that `into_unstamped` gave; the number of its transactions stays.
pub fn stamp(batch: &mut [u8], header: &BatchHeader) {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    head.push(BATCH_VERSION);
    head.extend_from_slice(&header.options.to_bits().to_be_bytes());
    put_i64(&mut head, header.wall.0);
    put_i64(&mut head, header.first_zxid.0);
    head.push(header.server.0);
    head.extend_from_slice(&header.incarnation.to_be_bytes());
    head.extend_from_slice(&header.sequence.to_be_bytes());
    batch[..COUNT_AT].copy_from_slice(&head);
}

/// A batch that does not decode, though its checksum is right: written by another release, or by nobody we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

impl From<Truncated> for Damaged {
    fn from(_: Truncated) -> Damaged {
        Damaged
    }
}

/// Walks a batch.
pub struct Batch<'a> {
    pub header: BatchHeader,
    left: u32,
    reader: Reader<'a>,
}

fn fixed<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Truncated> {
    reader.take(N)?.try_into().map_err(|_| Truncated)
}

impl<'a> Batch<'a> {
    /// Reads the header.
    pub fn decode(bytes: &'a [u8]) -> Result<Batch<'a>, Damaged> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != BATCH_VERSION {
            return Err(Damaged);
        }
        let options = Options::from_bits(u32::from_be_bytes(fixed(&mut reader)?));
        let wall = WallMillis(reader.i64()?);
        let first_zxid = Zxid(reader.i64()?);
        let server = ServerId(reader.u8()?);
        let incarnation = u64::from_be_bytes(fixed(&mut reader)?);
        let sequence = u64::from_be_bytes(fixed(&mut reader)?);
        let left = u32::from_be_bytes(fixed(&mut reader)?);
        Ok(Batch {
            header: BatchHeader { options, wall, first_zxid, server, incarnation, sequence },
            left,
            reader,
        })
    }

    /// How many transactions are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The next transaction.
    pub fn next_txn(&mut self) -> Result<Option<Txn<'a>>, Damaged> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let reader = &mut self.reader;
        let kind = reader.u8()?;
        let session = SessionId(reader.i64()?);
        let shard = ShardId(u16::from_be_bytes(fixed(reader)?));
        let conn = ConnId(u64::from_be_bytes(fixed(reader)?));
        let xid = Xid(reader.i32()?);
        let body = match kind {
            1 => TxnBody::Request {
                op: reader.i32()?,
                identities: reader.buffer()?.ok_or(Damaged)?,
                request: reader.buffer()?.ok_or(Damaged)?,
            },
            2 => TxnBody::CreateSession { timeout_ms: reader.i32()?, password: fixed(reader)? },
            3 => TxnBody::Attach { timeout_ms: reader.i32()?, password: reader.buffer()?.ok_or(Damaged)? },
            4 => TxnBody::CloseSession,
            5 => {
                let path = reader.buffer()?.ok_or(Damaged)?;
                TxnBody::Reap { path: std::str::from_utf8(path).map_err(|_| Damaged)? }
            }
            6 => TxnBody::Expire {
                owner: Owner {
                    server: ServerId(reader.u8()?),
                    incarnation: u64::from_be_bytes(fixed(reader)?),
                    shard: ShardId(u16::from_be_bytes(fixed(reader)?)),
                    conn: ConnId(u64::from_be_bytes(fixed(reader)?)),
                },
            },
            7 => TxnBody::Member { step: reader.buffer()?.ok_or(Damaged)? },
            8 => TxnBody::LocalRequest {
                op: reader.i32()?,
                identities: reader.buffer()?.ok_or(Damaged)?,
                request: reader.buffer()?.ok_or(Damaged)?,
            },
            _ => return Err(Damaged),
        };
        Ok(Some(Txn { session, shard, conn, xid, body }))
    }
}

/// A connection's identities as a proposal carries them: read only when an access control list asks for them, which
/// the open one never does.
pub(super) struct Identities<'a> {
    bytes: &'a [u8],
    list: OnceCell<Vec<Id>>,
}

impl<'a> Identities<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Identities<'a> {
        Identities { bytes, list: OnceCell::new() }
    }

    /// As the transaction carries them: equal bytes, equal identities.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// All of them. Bytes that do not decode are nobody: a checksum has vouched for them, so it does not happen.
    pub(super) fn list(&self) -> &[Id] {
        self.list.get_or_init(|| decode_identities(self.bytes).unwrap_or_default())
    }
}

fn decode_identities(bytes: &[u8]) -> Result<Vec<Id>, Truncated> {
    let mut reader = Reader::new(bytes);
    let mut identities = Vec::new();
    while !reader.rest().is_empty() {
        let scheme = reader.string()?.ok_or(Truncated)?;
        let id = reader.string()?.ok_or(Truncated)?;
        identities.push(Id::new(&scheme, &id));
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_the_round_trip_and_every_truncation_is_refused() {
        let txns = [
            TxnBody::Request { op: 5, identities: b"", request: b"abc" },
            TxnBody::LocalRequest { op: 5, identities: b"xy", request: b"abc" },
            TxnBody::CreateSession { timeout_ms: 4_000, password: [7; 16] },
            TxnBody::Attach { timeout_ms: 4_000, password: &[7; 16] },
            TxnBody::CloseSession,
            TxnBody::Expire {
                owner: Owner { server: ServerId(9), incarnation: 8, shard: ShardId(7), conn: ConnId(6) },
            },
            TxnBody::Reap { path: "/c" },
            TxnBody::Member { step: &[3] },
        ];
        let mut writer = BatchWriter::new(0);
        for body in &txns {
            writer.push(&Txn {
                session: SessionId(9),
                shard: ShardId(1),
                conn: ConnId(2),
                xid: Xid(3),
                body: body.clone(),
            });
        }
        assert_eq!(writer.zxids(), 6);
        let header = BatchHeader {
            options: Options { skip_acl: true, read_only: true, ..Options::default() },
            wall: WallMillis(5),
            first_zxid: Zxid(6),
            server: ServerId(1),
            incarnation: 8,
            sequence: 9,
        };
        let bytes = writer.finish(&header);
        let mut batch = Batch::decode(&bytes).unwrap();
        assert_eq!(batch.header, header);
        for body in &txns {
            assert_eq!(&batch.next_txn().unwrap().unwrap().body, body);
        }
        assert_eq!(batch.next_txn(), Ok(None));
        for cut in 0..bytes.len() {
            let walk = || -> Result<(), Damaged> {
                let mut batch = Batch::decode(&bytes[..cut])?;
                while batch.next_txn()?.is_some() {}
                Ok(())
            };
            assert_eq!(walk(), Err(Damaged), "cut at {cut}");
        }
    }
}
