//! Blocks become a State: every record is checked, then the whole.

use super::records::{read_acl, read_batch, read_session};
use super::{kind, Block, Blocks, Header, Meta, SnapshotError, Unpacker};
use crate::apply::{SnapshotHead, State};
use crate::ids::{SessionId, Zxid};
use crate::membership::Membership;
use crate::tree::{
    ephemeral_kind, path, AclId, AclTable, EphemeralKind, Node, PathHasher, PathTwice, TableLoader,
};
use crate::wire::{Reader, Truncated};
use std::collections::BTreeSet;
use std::io::Read;

/// A snapshot that was read whole.
pub struct Loaded {
    pub meta: Meta,
    pub state: State,
}

/// Reads a snapshot to its end.
pub fn decode(input: &mut dyn Read, hasher: PathHasher) -> Result<Loaded, SnapshotError> {
    let mut blocks = Blocks::open(input)?;
    let mut assembler = Assembler::new(blocks.header().clone(), hasher);
    let mut unpacker = Unpacker::new().map_err(|error| SnapshotError::Io { offset: 0, error })?;
    while let Some(block) = blocks.next_block()? {
        if block.has_nodes() {
            for record in unpacker.node_records(&block)? {
                assembler.node(record?.to_node(), block.offset)?;
            }
        } else {
            assembler.section(&block, &mut unpacker)?;
        }
    }
    assembler.finish()
}

/// The same from bytes in memory, under a fixed key: for fuzzing and tests.
pub fn decode_bytes(bytes: &[u8]) -> Result<Loaded, SnapshotError> {
    decode(&mut &bytes[..], PathHasher::new([1, 2, 3, 4]))
}

/// Builds the state. Sections come first, then znodes in any order.
pub struct Assembler {
    header: Header,
    head: Option<SnapshotHead>,
    hasher: PathHasher,
    state: Option<State>,
    loader: TableLoader,
    /// The lists that no znode has had yet.
    unused_acls: BTreeSet<AclId>,
    nodes: u64,
    /// The sum of all `num_children`: with all parents right it is all znodes but the root.
    children: u64,
}

impl Assembler {
    /// An empty one.
    #[must_use]
    pub fn new(header: Header, hasher: PathHasher) -> Assembler {
        let head = SnapshotHead {
            last_zxid: header.last_zxid,
            last_wall: header.last_wall,
            digest: header.digest,
            chain: header.chain,
            next_acl: header.next_acl,
            rules: header.apply_version,
            nodes: header.nodes,
            ..SnapshotHead::default()
        };
        let loader = TableLoader::new(hasher.clone(), AclTable::default());
        let (state, unused_acls) = (None, BTreeSet::new());
        Assembler { header, head: Some(head), hasher, state, loader, unused_acls, nodes: 0, children: 0 }
    }

    /// Takes a block that holds no znodes.
    pub fn section(&mut self, block: &Block, unpacker: &mut Unpacker) -> Result<(), SnapshotError> {
        let malformed = |what| SnapshotError::Malformed { offset: block.offset, what };
        let Some(head) = self.head.as_mut() else { return Err(malformed("a section behind the znodes")) };
        let mut reader = Reader::new(unpacker.raw(block)?);
        while !reader.rest().is_empty() {
            let kept = match block.kind {
                kind::ACLS => read_next(&mut reader, &mut head.acls, read_acl, |a, b| a.0 < b.0),
                kind::SESSIONS => read_next(&mut reader, &mut head.sessions, read_session, |a, b| a.0 < b.0),
                kind::BATCHES => read_next(&mut reader, &mut head.batches, read_batch, |a, b| a.0 < b.0),
                _ => return Err(malformed("a block of znodes among the sections")),
            };
            kept.map_err(|Truncated| malformed("a record does not decode or is out of order"))?;
        }
        Ok(())
    }

    /// Takes the znodes of one block, as `Unpacker::nodes` gave them.
    pub fn nodes(&mut self, nodes: Vec<Node>, offset: u64) -> Result<(), SnapshotError> {
        nodes.into_iter().try_for_each(|node| self.node(node, offset))
    }

    fn node(&mut self, node: Node, offset: u64) -> Result<(), SnapshotError> {
        if let Err(what) = self.judge(&node)? {
            return Err(SnapshotError::Znode { offset, path: node.path.as_str().to_owned(), what });
        }
        let state = self.state.as_mut().expect("judge made it");
        self.nodes += 1;
        self.children += u64::try_from(node.num_children).expect("judge refuses a negative count");
        if node.acl >= AclId::FIRST_FREE && !self.unused_acls.is_empty() {
            self.unused_acls.remove(&node.acl);
        }
        state.load_node(&node);
        self.loader.push(node);
        Ok(())
    }

    /// All that can be said of a znode by itself.
    fn judge(&mut self, node: &Node) -> Result<Result<(), &'static str>, SnapshotError> {
        let state = self.state()?;
        if path::validate(node.path.as_str()).is_err() {
            return Ok(Err("not a legal path"));
        }
        if !state.knows_acl(node.acl) {
            return Ok(Err("an access control list that is not in the file"));
        }
        let last = state.last_zxid();
        if [node.czxid, node.mzxid, node.pzxid].iter().any(|zxid| *zxid < Zxid::ZERO || *zxid > last) {
            return Ok(Err("a zxid beyond the snapshot's"));
        }
        if node.num_children < 0 {
            return Ok(Err("a negative number of children"));
        }
        if node.owner != 0 {
            if let EphemeralKind::Session(session) = ephemeral_kind(node.owner, true) {
                return Ok(judge_ephemeral(state, node, session));
            }
        }
        Ok(Ok(()))
    }

    /// Everything has come: checks the whole and hands it over.
    pub fn finish(mut self) -> Result<Loaded, SnapshotError> {
        self.state()?;
        let mut state = self.state.take().expect("made in the line above");
        let count = |what, expected, found| {
            if expected == found {
                Ok(())
            } else {
                Err(SnapshotError::Count { what, expected, found })
            }
        };
        count("znodes", self.header.nodes, self.nodes)?;
        count("access control lists without a znode", 0, self.unused_acls.len() as u64)?;
        let table = self.loader.finish().map_err(|PathTwice(path)| SnapshotError::Znode {
            offset: 0,
            path: path.as_str().to_owned(),
            what: "stands twice",
        })?;
        state.loaded(table);
        check_families(&state, self.children)?;
        if state.digest() != self.header.digest {
            return Err(SnapshotError::Digest { expected: self.header.digest, found: state.digest() });
        }
        Ok(Loaded { meta: self.header.meta, state })
    }

    /// The state, made when the sections are complete.
    fn state(&mut self) -> Result<&State, SnapshotError> {
        if let Some(mut head) = self.head.take() {
            check_sections(&self.header, &head)?;
            let membership = Membership::decode(&self.header.membership);
            head.membership = membership.map_err(|_| SnapshotError::Malformed {
                offset: 0,
                what: "a membership that does not decode",
            })?;
            self.unused_acls = head.acls.iter().map(|(id, _)| *id).collect();
            let state = State::from_snapshot(self.hasher.clone(), head);
            self.loader = TableLoader::new(self.hasher.clone(), state.table.acls.clone());
            self.state = Some(state);
        }
        Ok(self.state.as_ref().expect("made when the head was taken"))
    }
}

fn judge_ephemeral(state: &State, node: &Node, session: SessionId) -> Result<(), &'static str> {
    if state.sessions.get(session).is_none() {
        return Err("an ephemeral without its session");
    }
    if node.num_children > 0 {
        return Err("an ephemeral with children");
    }
    Ok(())
}

/// Reads one record and keeps it, if it stands after the one before.
fn read_next<'a, T>(
    reader: &mut Reader<'a>,
    list: &mut Vec<T>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, Truncated>,
    ascending: impl Fn(&T, &T) -> bool,
) -> Result<(), Truncated> {
    let record = read(reader)?;
    if list.last().is_some_and(|last| !ascending(last, &record)) {
        return Err(Truncated);
    }
    list.push(record);
    Ok(())
}

fn check_sections(header: &Header, head: &SnapshotHead) -> Result<(), SnapshotError> {
    for (what, expected, found) in [
        ("access control lists", header.acls, head.acls.len()),
        ("sessions", header.sessions, head.sessions.len()),
        ("servers' batches", header.batches, head.batches.len()),
    ] {
        if expected != found as u64 {
            return Err(SnapshotError::Count { what, expected, found: found as u64 });
        }
    }
    let malformed = |what| Err(SnapshotError::Malformed { offset: 0, what });
    // In ascending order: the first speaks for all. `next_acl` may lie below a list's number or be one, for the numbers go
    // round.
    let first = head.acls.first().map_or(AclId::FIRST_FREE, |(id, _)| *id);
    if first.0.min(head.next_acl) < AclId::FIRST_FREE.0 {
        return malformed("an access control list with an impossible number");
    }
    let different: BTreeSet<_> = head.acls.iter().map(|(_, list)| list).collect();
    if different.len() != head.acls.len() {
        return malformed("an access control list that stands twice");
    }
    Ok(())
}

/// Every znode but the root has a parent, and every parent as many children as it says. Only inner znodes need a
/// look: when they agree and their children are all there are, nobody else has any.
fn check_families(state: &State, children: u64) -> Result<(), SnapshotError> {
    let table = &state.table;
    let wrong = |path: &str, what| Err(SnapshotError::Znode { offset: 0, path: path.to_owned(), what });
    if table.get(path::ROOT).is_none() {
        return wrong(path::ROOT, "is missing");
    }
    for node in table.nodes().iter().filter(|node| node.num_children > 0) {
        let there = table.children(node.path.as_str()).map_or(0, |children| children.len());
        if there as u64 != node.num_children as u64 {
            return wrong(node.path.as_str(), "has another number of children than it says");
        }
    }
    if children + 1 != table.len() as u64 {
        let lost = |node: &&Node| {
            let parent = path::parent(node.path.as_str()).and_then(|parent| table.get(parent));
            parent.is_none_or(|parent| parent.num_children == 0)
        };
        let orphan = table.nodes().iter().find(lost);
        return wrong(orphan.map_or("/", |node| node.path.as_str()), "has no parent, or one that denies it");
    }
    Ok(())
}
