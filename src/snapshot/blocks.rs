//! Reads a snapshot's bytes: header, blocks in order, trailer. Checks lengths, checksums and order, not meaning.

use super::records::{fixed, NodeRecords};
use super::{
    kind, Header, Meta, SnapshotError, BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, FORMAT_VERSION, HEADER_BYTES,
    MAGIC, MEMBERSHIP_BYTES_MAX, TRAILER_BYTES,
};
use crate::ids::{LogIndex, Term, WallMillis, Zxid};
use crate::tree::Node;
use crate::wire::{Reader, Truncated};
use crc32c::{crc32c, crc32c_append};
use std::io::Read;
use zstd::bulk::Decompressor;

/// A file's blocks, one after the other.
pub struct Blocks<'r> {
    input: &'r mut dyn Read,
    header: Header,
    offset: u64,
    file_crc: u32,
    last_kind: u8,
    ended: bool,
}

/// One block, still packed; its checksum was right.
#[derive(Debug)]
pub struct Block {
    pub(super) kind: u8,
    /// Where it begins in the file.
    pub offset: u64,
    raw_len: usize,
    packed: Vec<u8>,
}

impl Block {
    /// Whether it holds znodes: those blocks can be unpacked beside each other.
    #[must_use]
    pub fn has_nodes(&self) -> bool {
        self.kind == kind::NODES
    }
}

impl<'r> Blocks<'r> {
    /// Reads the header.
    pub fn open(input: &'r mut dyn Read) -> Result<Blocks<'r>, SnapshotError> {
        let mut blocks =
            Blocks { input, header: Header::default(), offset: 0, file_crc: 0, last_kind: 0, ended: false };
        blocks.read_header()?;
        Ok(blocks)
    }

    /// What the file begins with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next block; `None` after a right trailer, behind which nothing stands.
    pub fn next_block(&mut self) -> Result<Option<Block>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let offset = self.offset;
        let mut head = [0u8; BLOCK_HEAD_BYTES];
        self.fill(&mut head[..1], "a block's head")?;
        if head[0] == kind::TRAILER {
            self.read_trailer(offset)?;
            return Ok(None);
        }
        self.fill(&mut head[1..], "a block's head")?;
        let kind = head[0];
        if !(kind::ACLS..=kind::NODES).contains(&kind) || kind < self.last_kind {
            return Err(SnapshotError::Malformed { offset, what: "an unknown or misplaced kind of block" });
        }
        let raw_len = length(&head[1..5], offset, "a block's content")?;
        let packed_len = length(&head[5..9], offset, "a block")?;
        if raw_len == 0 {
            return Err(SnapshotError::Malformed { offset, what: "nothing" });
        }
        let crc = u32::from_be_bytes([head[9], head[10], head[11], head[12]]);
        let packed = self.read_up_to(packed_len, "a block")?;
        if crc32c_append(crc32c(&head[..9]), &packed) != crc {
            return Err(SnapshotError::Checksum { offset, what: "the block" });
        }
        self.file_crc = crc32c_append(crc32c_append(self.file_crc, &head), &packed);
        self.last_kind = kind;
        Ok(Some(Block { kind, offset, raw_len, packed }))
    }

    fn read_header(&mut self) -> Result<(), SnapshotError> {
        let mut bytes = vec![0u8; HEADER_BYTES];
        self.fill(&mut bytes[..8], "the header")?;
        if bytes[..8] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        self.fill(&mut bytes[8..], "the header")?;
        let version = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if version != FORMAT_VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let membership_len = u32::from_be_bytes(bytes[HEADER_BYTES - 4..].try_into().expect("four bytes"));
        if membership_len as usize > MEMBERSHIP_BYTES_MAX {
            return Err(SnapshotError::TooLong {
                offset: HEADER_BYTES as u64 - 4,
                what: "the membership",
                length: u64::from(membership_len),
                max: MEMBERSHIP_BYTES_MAX as u64,
            });
        }
        let membership = self.read_up_to(membership_len as usize, "the membership")?;
        let mut crc = [0u8; 4];
        self.fill(&mut crc, "the header's checksum")?;
        let found = crc32c_append(crc32c(&bytes), &membership);
        if found != u32::from_be_bytes(crc) {
            return Err(SnapshotError::Checksum { offset: 0, what: "the header" });
        }
        self.file_crc = crc32c_append(found, &crc);
        let mut reader = Reader::new(&bytes[12..]);
        self.header = read_fields(&mut reader, membership)
            .map_err(|_| SnapshotError::Malformed { offset: 0, what: "a short header" })?;
        Ok(())
    }

    fn read_trailer(&mut self, offset: u64) -> Result<(), SnapshotError> {
        let mut bytes = [0u8; TRAILER_BYTES];
        bytes[0] = kind::TRAILER;
        self.fill(&mut bytes[1..], "the trailer")?;
        let (body, crc) = bytes.split_at(TRAILER_BYTES - 4);
        if crc32c(body).to_be_bytes() != crc {
            return Err(SnapshotError::Checksum { offset, what: "the trailer" });
        }
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let (nodes, digest) = (number(1), number(9));
        if bytes[17..21] != self.file_crc.to_be_bytes() {
            return Err(SnapshotError::Checksum { offset: 0, what: "the whole file" });
        }
        if nodes != self.header.nodes {
            return Err(SnapshotError::Count { what: "znodes", expected: self.header.nodes, found: nodes });
        }
        if digest != self.header.digest {
            return Err(SnapshotError::Digest { expected: self.header.digest, found: digest });
        }
        let mut more = [0u8; 1];
        match self.input.read(&mut more) {
            Ok(0) => {}
            Ok(_) => {
                return Err(SnapshotError::Malformed {
                    offset: self.offset,
                    what: "bytes behind the trailer",
                })
            }
            Err(error) => return Err(SnapshotError::Io { offset: self.offset, error }),
        }
        self.ended = true;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), SnapshotError> {
        match self.input.read_exact(bytes) {
            Ok(()) => {
                self.offset += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(SnapshotError::Short { offset: self.offset, what })
            }
            Err(error) => Err(SnapshotError::Io { offset: self.offset, error }),
        }
    }

    /// Reads `len` bytes; memory grows with what is there, not with what a length says.
    fn read_up_to(&mut self, len: usize, what: &'static str) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::with_capacity(len.min(super::BLOCK_BYTES));
        let read = (&mut *self.input)
            .take(len as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| SnapshotError::Io { offset: self.offset, error })?;
        self.offset += read as u64;
        if read < len {
            return Err(SnapshotError::Short { offset: self.offset, what });
        }
        Ok(bytes)
    }
}

fn length(bytes: &[u8], offset: u64, what: &'static str) -> Result<usize, SnapshotError> {
    let length = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    if length as usize > BLOCK_BYTES_MAX {
        return Err(SnapshotError::TooLong {
            offset,
            what,
            length: u64::from(length),
            max: BLOCK_BYTES_MAX as u64,
        });
    }
    Ok(length as usize)
}

fn read_fields(reader: &mut Reader<'_>, membership: Vec<u8>) -> Result<Header, Truncated> {
    let apply_version = u32::from_be_bytes(fixed(reader)?);
    let cluster = u128::from_be_bytes(fixed(reader)?);
    let index = LogIndex(u64::from_be_bytes(fixed(reader)?));
    let term = Term(u64::from_be_bytes(fixed(reader)?));
    Ok(Header {
        meta: Meta { cluster, index, term },
        apply_version,
        last_zxid: Zxid(reader.i64()?),
        last_wall: WallMillis(reader.i64()?),
        digest: u64::from_be_bytes(fixed(reader)?),
        chain: u64::from_be_bytes(fixed(reader)?),
        next_acl: u32::from_be_bytes(fixed(reader)?),
        acls: u64::from_be_bytes(fixed(reader)?),
        sessions: u64::from_be_bytes(fixed(reader)?),
        batches: u64::from_be_bytes(fixed(reader)?),
        nodes: u64::from_be_bytes(fixed(reader)?),
        membership,
    })
}

/// Unpacks blocks; keeps its buffers from one to the next. Each thread has its own.
pub struct Unpacker {
    decompressor: Decompressor<'static>,
    raw: Vec<u8>,
}

impl Unpacker {
    /// One with empty buffers. The only error is memory.
    pub fn new() -> std::io::Result<Unpacker> {
        Ok(Unpacker { decompressor: Decompressor::new()?, raw: Vec::new() })
    }

    /// The znodes of a block of znodes, made whole.
    pub fn nodes(&mut self, block: &Block) -> Result<Vec<Node>, SnapshotError> {
        let records = self.node_records(block)?;
        let mut nodes = Vec::with_capacity(block.raw_len / 128);
        for record in records {
            nodes.push(record?.to_node());
        }
        Ok(nodes)
    }

    pub(super) fn node_records(&mut self, block: &Block) -> Result<NodeRecords<'_>, SnapshotError> {
        Ok(NodeRecords { reader: Reader::new(self.raw(block)?), offset: block.offset })
    }

    /// The block's bytes: exactly as many as it says.
    pub(super) fn raw(&mut self, block: &Block) -> Result<&[u8], SnapshotError> {
        if self.raw.len() < block.raw_len {
            self.raw.resize(block.raw_len, 0);
        }
        let raw = &mut self.raw[..block.raw_len];
        // zstd writes nothing beyond the slice: content that is longer than the block says is an error.
        match self.decompressor.decompress_to_buffer(&block.packed, raw) {
            Ok(len) if len == block.raw_len => Ok(raw),
            _ => Err(SnapshotError::Malformed { offset: block.offset, what: "content that does not unpack" }),
        }
    }
}
