//! A batch of transactions in words: one line each.

use crate::apply::{Batch, Damaged, Txn, TxnBody};
use crate::ids::Zxid;
use crate::membership::Step;
use crate::wire::{Create, Delete, MultiItem, MultiReader, OpCode, SetAcl, SetData, Text};
use std::fmt::{self, Display};
use std::io::{self, Write};

/// Prints a log entry's payload.
pub(super) fn describe_batch(payload: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let Ok(mut batch) = Batch::decode(payload) else {
        return writeln!(out, "           not a batch that this release knows");
    };
    let header = batch.header;
    writeln!(
        out,
        "           batch {} of server {} ({:016x}), time {} ms, {} transactions",
        header.sequence,
        header.server.0,
        header.incarnation,
        header.wall.0,
        batch.left()
    )?;
    let mut next = header.first_zxid;
    loop {
        match batch.next_txn() {
            Ok(Some(txn)) => {
                if txn.takes_zxid() {
                    writeln!(out, "           {next} {}", Line(&txn))?;
                    next = Zxid(next.0.wrapping_add(1));
                } else {
                    writeln!(out, "           - {}", Line(&txn))?;
                }
            }
            Ok(None) => return Ok(()),
            Err(Damaged) => return writeln!(out, "           the rest does not decode"),
        }
    }
}

/// A transaction. What it wanted: the log does not hold what came of it.
struct Line<'a>(&'a Txn<'a>);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Txn { session, shard, conn, xid, body } = self.0;
        match body {
            TxnBody::Request { op, request, .. } => {
                write!(f, "session {session} shard {} connection {} xid {} ", shard.0, conn.0, xid.0)?;
                describe_request(f, *op, request)
            }
            TxnBody::LocalRequest { op, request, .. } => {
                write!(f, "local session {session} shard {} connection {} xid {} ", shard.0, conn.0, xid.0)?;
                describe_request(f, *op, request)
            }
            TxnBody::CreateSession { timeout_ms, .. } => {
                write!(f, "session {session} begins, timeout {timeout_ms} ms")
            }
            TxnBody::Attach { timeout_ms, .. } => {
                let owner = (shard.0, conn.0);
                write!(f, "session {session} attaches to shard {} connection {}, ", owner.0, owner.1)?;
                write!(f, "timeout {timeout_ms} ms")
            }
            TxnBody::Expire { .. } => write!(f, "session {session} has expired"),
            TxnBody::CloseSession => write!(f, "session {session} is ended by the server"),
            TxnBody::Reap { path } => write!(f, "reap {path:?}"),
            TxnBody::Member { step } => match Step::decode(step) {
                Ok(step) => write!(f, "members: {step:?}"),
                Err(_) => write!(f, "members: a step that does not decode"),
            },
        }
    }
}

fn describe_request(f: &mut fmt::Formatter<'_>, op: i32, request: &[u8]) -> fmt::Result {
    let Some(op) = OpCode::from_i32(op) else { return write!(f, "operation {op}, {} bytes", request.len()) };
    write!(f, "{op:?}")?;
    let known = match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            Create::decode(op, request).map(|create| describe_create(f, &create))
        }
        OpCode::Delete => {
            Delete::decode(request).map(|delete| path_and_version(f, &delete.path, delete.version))
        }
        OpCode::SetData => SetData::decode(request).map(|set| describe_set(f, &set)),
        OpCode::SetAcl => SetAcl::decode(request).map(|set| path_and_version(f, &set.path, set.version)),
        OpCode::Multi => return describe_multi(f, op, request),
        _ => return write!(f, " {} bytes", request.len()),
    };
    known.unwrap_or_else(|_| write!(f, " {} bytes that do not decode", request.len()))
}

fn describe_multi(f: &mut fmt::Formatter<'_>, op: OpCode, request: &[u8]) -> fmt::Result {
    let mut items = MultiReader::new(op, request);
    loop {
        match items.next_item() {
            Ok(None) => return Ok(()),
            Ok(Some(item)) => {
                f.write_str(" |")?;
                match &item {
                    MultiItem::Create(op, create) => {
                        write!(f, " {op:?}")?;
                        describe_create(f, create)?;
                    }
                    MultiItem::Delete(delete) => {
                        f.write_str(" Delete")?;
                        path_and_version(f, &delete.path, delete.version)?;
                    }
                    MultiItem::SetData(set) => {
                        f.write_str(" SetData")?;
                        describe_set(f, set)?;
                    }
                    MultiItem::Check(check) => {
                        f.write_str(" Check")?;
                        path_and_version(f, &check.path, check.version)?;
                    }
                    MultiItem::GetData(_) | MultiItem::GetChildren(_) => f.write_str(" a read")?,
                }
            }
            Err(_) => return f.write_str(" | the rest does not decode"),
        }
    }
}

fn describe_create(f: &mut fmt::Formatter<'_>, create: &Create<'_>) -> fmt::Result {
    write!(f, " {} flags {}", Quoted(&create.path), create.flags)?;
    if create.ttl_ms >= 0 {
        write!(f, " ttl {} ms", create.ttl_ms)?;
    }
    describe_data(f, create.data)
}

fn describe_set(f: &mut fmt::Formatter<'_>, set: &SetData<'_>) -> fmt::Result {
    path_and_version(f, &set.path, set.version)?;
    describe_data(f, set.data)
}

fn path_and_version(f: &mut fmt::Formatter<'_>, path: &Text<'_>, version: i32) -> fmt::Result {
    write!(f, " {} version {version}", Quoted(path))
}

fn describe_data(f: &mut fmt::Formatter<'_>, data: Option<&[u8]>) -> fmt::Result {
    match data {
        None => f.write_str(" null"),
        Some(data) => write!(f, " {} bytes", data.len()),
    }
}

/// A path from a stranger, safe for a terminal.
struct Quoted<'a>(&'a Text<'a>);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("null"),
            Some(path) => write!(f, "{path:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{BatchHeader, BatchWriter, Options};
    use crate::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid};
    use std::borrow::Cow;

    fn text(payload: &[u8]) -> String {
        let mut out = Vec::new();
        describe_batch(payload, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn batch() -> Vec<u8> {
        let mut writer = BatchWriter::new(0);
        let delete = Delete { path: Some(Cow::Borrowed("/a\u{1b}[31m")), version: 7 };
        let mut request = Vec::new();
        delete.encode(&mut request);
        let password: &[u8] = b"secret";
        for body in [
            TxnBody::Request { op: 2, identities: b"", request: &request },
            TxnBody::Request { op: 14, identities: b"", request: &request[..3] },
            TxnBody::Request { op: 1234, identities: b"", request: b"" },
            TxnBody::Attach { timeout_ms: 9, password },
            TxnBody::CloseSession,
            TxnBody::Reap { path: "/c" },
        ] {
            writer.push(&Txn {
                session: SessionId(1),
                shard: ShardId(0),
                conn: ConnId(2),
                xid: Xid(3),
                body,
            });
        }
        writer.finish(&BatchHeader {
            options: Options::default(),
            wall: WallMillis(5),
            first_zxid: Zxid(16),
            server: ServerId(1),
            incarnation: 8,
            sequence: 9,
        })
    }

    #[test]
    fn each_transaction_is_a_line_and_strange_bytes_are_escaped() {
        let text = text(&batch());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(
            lines[1].contains("0x10 session 0x1") && lines[1].contains("Delete \"/a\\u{1b}[31m\" version 7")
        );
        assert!(lines[2].contains("0x11") && lines[2].contains("does not decode"), "{text}");
        assert!(lines[4].trim_start().starts_with("- session") && lines[5].contains("0x13"), "{text}");
        assert!(!text.contains("secret") && !text.contains('\u{1b}'));
    }

    #[test]
    fn every_truncation_is_described_without_a_panic() {
        let bytes = batch();
        for cut in 0..bytes.len() {
            assert!(text(&bytes[..cut]).contains("not"), "cut at {cut}");
        }
    }
}
