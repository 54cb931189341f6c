//! Writes a snapshot: the header at once, znodes as they come, the trailer when all have come.
//!
//! The encoder adds up the digest of what it is given. A copy that is not exactly the state it claims to be fails in
//! `finish`, before anybody gives the file its name.

use super::records::{put_acl, put_batch, put_node, put_session};
use super::{
    kind, Meta, BLOCK_BYTES, BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, FORMAT_VERSION, HEADER_BYTES, MAGIC,
    MEMBERSHIP_BYTES_MAX, TRAILER_BYTES,
};
use crate::apply::{znode_digest, SnapshotHead, State};
use crate::tree::warm::{self, AHEAD};
use crate::tree::Node;
use crate::wire::{put_i32, put_i64};
use crc32c::{crc32c, crc32c_append};
use std::io::{self, Write};
use zstd::bulk::Compressor;

/// zstd's fastest proper level: 1M znodes of 100 bytes go by in the background of a serving server.
const LEVEL: i32 = 1;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    pub bytes: u64,
    pub nodes: u64,
}

/// Writes one snapshot.
pub struct Encoder<'w> {
    out: &'w mut dyn Write,
    compressor: Compressor<'static>,
    raw: Vec<u8>,
    packed: Vec<u8>,
    kind: u8,
    bytes: u64,
    file_crc: u32,
    nodes: u64,
    digest: u64,
    nodes_expected: u64,
    digest_expected: u64,
}

impl<'w> Encoder<'w> {
    /// Writes all but the znodes, which follow through `nodes`.
    pub fn begin(out: &'w mut dyn Write, meta: &Meta, head: &SnapshotHead) -> io::Result<Encoder<'w>> {
        let mut encoder = Encoder {
            out,
            compressor: Compressor::new(LEVEL)?,
            raw: Vec::with_capacity(BLOCK_BYTES + (BLOCK_BYTES >> 2)),
            packed: Vec::new(),
            kind: kind::ACLS,
            bytes: 0,
            file_crc: 0,
            nodes: 0,
            digest: 0,
            nodes_expected: head.nodes,
            digest_expected: head.digest,
        };
        let header = header_bytes(meta, head)?;
        encoder.write(&header)?;
        for (id, list) in &head.acls {
            put_acl(&mut encoder.raw, *id, list);
            encoder.end_record()?;
        }
        encoder.begin_kind(kind::SESSIONS)?;
        for (id, session) in &head.sessions {
            put_session(&mut encoder.raw, *id, session);
            encoder.end_record()?;
        }
        encoder.begin_kind(kind::BATCHES)?;
        for (server, incarnation, sequence) in &head.batches {
            put_batch(&mut encoder.raw, *server, *incarnation, *sequence);
            encoder.end_record()?;
        }
        encoder.begin_kind(kind::NODES)?;
        Ok(encoder)
    }

    /// Writes znodes, in any order and any portions.
    pub fn nodes(&mut self, nodes: &[Node]) -> io::Result<()> {
        for nodes in nodes.chunks(AHEAD) {
            warm::znodes(nodes.iter());
            for node in nodes {
                put_node(&mut self.raw, node);
                self.nodes += 1;
                self.digest = self.digest.wrapping_add(znode_digest(node));
                self.end_record()?;
            }
        }
        Ok(())
    }

    /// Writes the trailer. An error, too, when what came is not the state that the head announced.
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush_block()?;
        if self.nodes != self.nodes_expected || self.digest != self.digest_expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the snapshot's copy is not the state: {} znodes of {}, digest {:016x} for {:016x}",
                    self.nodes, self.nodes_expected, self.digest, self.digest_expected
                ),
            ));
        }
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.push(kind::TRAILER);
        trailer.extend_from_slice(&self.nodes.to_be_bytes());
        trailer.extend_from_slice(&self.digest.to_be_bytes());
        trailer.extend_from_slice(&self.file_crc.to_be_bytes());
        let crc = crc32c(&trailer);
        trailer.extend_from_slice(&crc.to_be_bytes());
        self.write(&trailer)?;
        Ok(Written { bytes: self.bytes, nodes: self.nodes })
    }

    fn begin_kind(&mut self, kind: u8) -> io::Result<()> {
        self.flush_block()?;
        self.kind = kind;
        Ok(())
    }

    #[inline]
    fn end_record(&mut self) -> io::Result<()> {
        if self.raw.len() >= BLOCK_BYTES {
            self.flush_block()?;
        }
        Ok(())
    }

    fn flush_block(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        if self.raw.len() > BLOCK_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a record of about {} bytes does not fit a snapshot's block", self.raw.len()),
            ));
        }
        self.packed.clear();
        self.packed.resize(BLOCK_HEAD_BYTES, 0);
        let bound = zstd::zstd_safe::compress_bound(self.raw.len());
        self.packed.resize(BLOCK_HEAD_BYTES + bound, 0);
        let len = self.compressor.compress_to_buffer(&self.raw, &mut self.packed[BLOCK_HEAD_BYTES..])?;
        self.packed.truncate(BLOCK_HEAD_BYTES + len);
        let mut head = [0u8; BLOCK_HEAD_BYTES];
        head[0] = self.kind;
        head[1..5].copy_from_slice(&(self.raw.len() as u32).to_be_bytes());
        head[5..9].copy_from_slice(&(len as u32).to_be_bytes());
        let crc = crc32c_append(crc32c(&head[..9]), &self.packed[BLOCK_HEAD_BYTES..]);
        head[9..].copy_from_slice(&crc.to_be_bytes());
        self.packed[..BLOCK_HEAD_BYTES].copy_from_slice(&head);
        self.raw.clear();
        let packed = std::mem::take(&mut self.packed);
        self.write(&packed)?;
        self.packed = packed;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.file_crc = crc32c_append(self.file_crc, bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn header_bytes(meta: &Meta, head: &SnapshotHead) -> io::Result<Vec<u8>> {
    let membership = head.membership.encode();
    if membership.len() > MEMBERSHIP_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the membership is longer than 1 MiB"));
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + membership.len() + 4);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
    out.extend_from_slice(&head.rules.to_be_bytes());
    out.extend_from_slice(&meta.cluster.to_be_bytes());
    out.extend_from_slice(&meta.index.0.to_be_bytes());
    out.extend_from_slice(&meta.term.0.to_be_bytes());
    put_i64(&mut out, head.last_zxid.0);
    put_i64(&mut out, head.last_wall.0);
    out.extend_from_slice(&head.digest.to_be_bytes());
    out.extend_from_slice(&head.chain.to_be_bytes());
    out.extend_from_slice(&head.next_acl.to_be_bytes());
    for count in [head.acls.len() as u64, head.sessions.len() as u64, head.batches.len() as u64, head.nodes] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    put_i32(&mut out, membership.len() as i32);
    out.extend_from_slice(&membership);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    Ok(out)
}

/// Writes a state that nobody changes meanwhile: for tests, the importer, and a server that is about to stop.
pub fn encode_state(out: &mut dyn Write, meta: &Meta, state: &State) -> io::Result<Written> {
    let mut encoder = Encoder::begin(out, meta, &state.snapshot_head())?;
    let nodes = state.table.nodes();
    for stripe in 0..nodes.stripes() {
        for node in nodes.stripe(stripe) {
            encoder.nodes(std::slice::from_ref(node))?;
        }
    }
    encoder.finish()
}
