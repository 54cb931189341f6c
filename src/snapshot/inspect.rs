//! What `ringkeeper inspect snapshot FILE` shows: a summary, or a line a znode. Nothing is built in memory.

use super::records::{read_session, NodeRef};
use super::{kind, Block, Blocks, Header, SnapshotError, Unpacker};
use crate::ids::SessionId;
use crate::membership::Membership;
use crate::session::Session;
use crate::tree::{ephemeral_kind, EphemeralKind};
use crate::wire::Reader;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

/// Znodes and bytes of a part of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    pub nodes: u64,
    pub data_bytes: u64,
}

/// A snapshot in a page. Every checksum was right.
#[derive(Clone, Debug)]
pub struct Summary {
    pub header: Header,
    pub sessions: Vec<(SessionId, Session)>,
    pub all: Extent,
    pub ephemerals: u64,
    pub containers: u64,
    pub ttl_nodes: u64,
    /// The root's children, each with what stands at and below it.
    pub top: BTreeMap<String, Extent>,
}

/// Reads a whole file and counts.
pub fn summary(input: &mut dyn Read) -> Result<Summary, SnapshotError> {
    let mut blocks = Blocks::open(input)?;
    let mut unpacker = Unpacker::new().map_err(|error| SnapshotError::Io { offset: 0, error })?;
    let mut summary = Summary {
        header: blocks.header().clone(),
        sessions: Vec::new(),
        all: Extent::default(),
        ephemerals: 0,
        containers: 0,
        ttl_nodes: 0,
        top: BTreeMap::new(),
    };
    while let Some(block) = blocks.next_block()? {
        match block.kind {
            kind::NODES => {
                for record in unpacker.node_records(&block)? {
                    summary.count(&record?);
                }
            }
            kind::SESSIONS => {
                let mut reader = Reader::new(unpacker.raw(&block)?);
                while !reader.rest().is_empty() {
                    summary.sessions.push(read_session(&mut reader).map_err(|_| {
                        SnapshotError::Malformed { offset: block.offset, what: "a session does not decode" }
                    })?);
                }
            }
            _ => {}
        }
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, node: &NodeRef<'_>) {
        let bytes = node.data.map_or(0, |data| data.len() as u64);
        self.all.nodes += 1;
        self.all.data_bytes += bytes;
        match ephemeral_kind(node.owner(), true) {
            EphemeralKind::Persistent => {}
            EphemeralKind::Session(_) => self.ephemerals += 1,
            EphemeralKind::Container => self.containers += 1,
            EphemeralKind::Ttl { .. } => self.ttl_nodes += 1,
        }
        // Nobody has looked at the path: it may be none.
        let Some(rest) = node.path.strip_prefix('/') else { return };
        let name = rest.split('/').next().unwrap_or_default();
        let top = &node.path[..1 + name.len()];
        if !name.is_empty() {
            if !self.top.contains_key(top) {
                self.top.insert(top.to_owned(), Extent::default());
            }
            if let Some(extent) = self.top.get_mut(top) {
                extent.nodes += 1;
                extent.data_bytes += bytes;
            }
        }
    }
}

/// How many top-level paths and sessions the printed summary names.
const LINES_MAX: usize = 50;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header {
            meta,
            apply_version,
            last_zxid,
            last_wall,
            digest,
            chain,
            acls,
            batches,
            membership,
            ..
        } = &self.header;
        writeln!(f, "cluster        {:032x}", meta.cluster)?;
        writeln!(f, "log index      {} (term {})", meta.index.0, meta.term.0)?;
        writeln!(f, "zxid           {last_zxid}")?;
        writeln!(f, "time           {} ms", last_wall.0)?;
        writeln!(f, "digest         {digest:016x}, chain {chain:016x}")?;
        writeln!(f, "rules          version {}", apply_version)?;
        match Membership::decode(membership) {
            Ok(members) if members.is_ensemble() => {
                for seat in members.seats.keys() {
                    let role = if members.conf.votes(*seat) { "votes" } else { "learns" };
                    writeln!(f, "seat           {seat} {role}")?;
                }
                for line in members.text().lines() {
                    writeln!(f, "members        {line}")?;
                }
            }
            Ok(_) => writeln!(f, "members        none: a server alone")?,
            Err(_) => writeln!(f, "members        DAMAGED: they do not decode")?,
        }
        writeln!(f, "znodes         {} ({} bytes of data)", self.all.nodes, self.all.data_bytes)?;
        writeln!(f, "  ephemeral    {}", self.ephemerals)?;
        writeln!(f, "  container    {}", self.containers)?;
        writeln!(f, "  ttl          {}", self.ttl_nodes)?;
        writeln!(f, "acl lists      {acls}")?;
        writeln!(f, "servers        {batches}")?;
        writeln!(f, "sessions       {}", self.sessions.len())?;
        for (id, session) in self.sessions.iter().take(LINES_MAX) {
            let owner = session.owner;
            writeln!(f, "  {id} timeout {} ms, server {}", session.timeout_ms, owner.server.0)?;
        }
        more(f, self.sessions.len())?;
        writeln!(f, "below the root {}", self.top.len())?;
        for (path, extent) in self.top.iter().take(LINES_MAX) {
            writeln!(f, "  {path:?} {} znodes, {} bytes", extent.nodes, extent.data_bytes)?;
        }
        more(f, self.top.len())
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > LINES_MAX {
        writeln!(f, "  and {} more", count - LINES_MAX)?;
    }
    Ok(())
}

/// A line a znode, in the file's order. An error is the last item.
pub struct Dump<'r> {
    blocks: Blocks<'r>,
    unpacker: Unpacker,
    /// The lines of the block at hand, last first.
    lines: Vec<String>,
    failed: bool,
}

impl<'r> Dump<'r> {
    /// Reads the header.
    pub fn open(input: &'r mut dyn Read) -> Result<Dump<'r>, SnapshotError> {
        let blocks = Blocks::open(input)?;
        let unpacker = Unpacker::new().map_err(|error| SnapshotError::Io { offset: 0, error })?;
        Ok(Dump { blocks, unpacker, lines: Vec::new(), failed: false })
    }

    fn refill(&mut self) -> Result<bool, SnapshotError> {
        while self.lines.is_empty() {
            let Some(block) = self.blocks.next_block()? else { return Ok(false) };
            if block.has_nodes() {
                self.read(&block)?;
            }
        }
        Ok(true)
    }

    fn read(&mut self, block: &Block) -> Result<(), SnapshotError> {
        for record in self.unpacker.node_records(block)? {
            self.lines.push(line(&record?));
        }
        self.lines.reverse();
        Ok(())
    }
}

impl Iterator for Dump<'_> {
    type Item = Result<String, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.refill() {
            Ok(true) => self.lines.pop().map(Ok),
            Ok(false) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

fn line(record: &NodeRef<'_>) -> String {
    let node = record.to_node();
    let data = match record.data {
        None => "null".to_owned(),
        Some(data) => format!("{} bytes", data.len()),
    };
    let owner = match ephemeral_kind(node.owner, true) {
        EphemeralKind::Persistent => String::new(),
        EphemeralKind::Session(session) => format!(" ephemeral of {session}"),
        EphemeralKind::Container => " container".to_owned(),
        EphemeralKind::Ttl { ttl_ms } => format!(" ttl {ttl_ms} ms"),
    };
    format!(
        "{:?} {data} czxid {} mzxid {} pzxid {} ctime {} mtime {} version {} cversion {} aversion {} children {} acl {}{owner}",
        node.path.as_str(),
        node.czxid,
        node.mzxid,
        node.pzxid,
        node.ctime.0,
        node.mtime.0,
        node.version,
        node.stat().cversion,
        node.aversion,
        node.num_children,
        node.acl.0,
    )
}
