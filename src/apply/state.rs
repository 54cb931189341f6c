//! The replicated state, and the few steps by which anything in it changes.
//!
//! Every change goes through `create_node`, `delete_node`, `replace_node`: they keep the table, the ACLs' reference
//! counts, the quotas, the reaper's list and the digest together, note how to take the step back (a multi that
//! fails), and say what happened.

use super::acl_ids;
use super::cursor::StripeCursor;
use super::digest;
use super::txn::{Batch, Damaged, Identities, Options, Txn, TxnBody};
use super::usage::{LongTexts, OverQuota, QuotasBefore};
use crate::error::Code;
use crate::ids::{Owner, ServerId, SessionId, WallMillis, Xid, Zxid};
use crate::membership::{ConfChange, Membership, Refusal};
use crate::mutant::{self, Mutant};
use crate::session::{Session, SessionTable};
use crate::tree::acl::Judged;
use crate::tree::quota::{self, Quotas};
use crate::tree::warm::AHEAD;
use crate::tree::{
    ephemeral_kind, path, AclId, AclList, Answer, Change, EphemeralKind, Node, Path, PathHasher, Table, Znode,
};
use crate::wire::{Acl, OpCode, Perms};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;

/// ZooKeeper's DIGEST_LOG_INTERVAL and DIGEST_LOG_LIMIT.
const DIGEST_EVERY: i64 = 128;
const DIGESTS_MAX: usize = 1024;
/// Of every new history.
const FIRST_RULES: u32 = 1;

/// What one transaction did.
#[derive(Debug)]
pub struct Outcome {
    pub zxid: Zxid,
    pub changes: SmallVec<[Change; 1]>,
    pub answer: Answer,
    /// Somebody else than who asked now is answered: whose reconfig has come to its end.
    pub late: Option<(Owner, Xid)>,
    /// Limits of quotas that it passed, or that refused it.
    pub over_quota: Vec<OverQuota>,
}

/// The time and number of the transaction at hand, and the options of its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub zxid: Zxid,
    pub wall: WallMillis,
    pub options: Options,
}

/// One step back.
enum Undo {
    Created { parent: Node, path: Path },
    Deleted { node: Node, parent: Node },
    Replaced { old: Node },
}

/// The state at one zxid. Same batches, same state, on every server.
pub struct State {
    pub table: Table,
    pub sessions: SessionTable,
    pub(super) quotas: Quotas,
    /// How many znodes have each list of a client; lists that the state owns are not counted.
    acl_references: BTreeMap<AclId, u64>,
    acl_ids: BTreeMap<AclList, AclId>,
    /// The number that a new list gets if no list has it. After the last one the first one comes again.
    next_acl: u32,
    /// Containers and TTL nodes: what the reaper looks at.
    reapable: BTreeSet<Path>,
    last_zxid: Zxid,
    last_wall: WallMillis,
    /// The digest at each zxid divisible by `DIGEST_EVERY` since the start, oldest first: the word `hash`.
    digests: VecDeque<(Zxid, u64)>,
    /// A digest of the digests after all batches so far, and of what each transaction was answered: two servers for
    /// which it is equal at one entry have agreed at every one before.
    pub(super) chain: u64,
    /// The sum of all znodes' hashes (AdHash): equal states have equal digests, and a change costs two hashes.
    digest: u64,
    /// The last batch taken of each server: a forwarded batch is applied once and in order.
    batches: BTreeMap<ServerId, (u64, u64)>,
    /// The version of the rules that are followed: raised by a logged entry, once all members know the new ones.
    pub rules: u32,
    /// Who is in the ensemble; empty for a server alone.
    pub membership: Membership,
    /// What the batch at hand has changed in Raft's configuration.
    pub(super) conf_change: Option<ConfChange>,
    pub(super) late: Option<(Owner, Xid)>,
    /// For the operator: in no snapshot, digest or answer.
    pub(super) refusal: Option<Refusal>,
    pub(super) changes: SmallVec<[Change; 1]>,
    undo: Vec<Undo>,
    /// Usage to add at the end of the transaction: a multi's operations see the usage before it.
    pub(super) usage: Vec<(Box<str>, i64, i64)>,
    /// Empty but in a multi that touches limits or usage while `enforceQuota` is on.
    pub(super) quotas_before: QuotasBefore,
    pub(super) over_quota: Vec<OverQuota>,
    unreferenced: Vec<AclId>,
    /// What was found of the last identities that had to be judged. In no snapshot or digest.
    judged: RefCell<(Box<[u8]>, Judged)>,
    /// Nor is this.
    pub(super) long_texts: RefCell<LongTexts>,
    cursor: Option<StripeCursor>,
}

/// What a snapshot holds beside the znodes.
#[derive(Clone, Debug, Default)]
pub struct SnapshotHead {
    pub last_zxid: Zxid,
    pub last_wall: WallMillis,
    pub digest: u64,
    pub chain: u64,
    pub next_acl: u32,
    pub acls: Vec<(AclId, AclList)>,
    pub sessions: Vec<(SessionId, Session)>,
    pub batches: Vec<(ServerId, u64, u64)>,
    pub rules: u32,
    pub membership: Membership,
    /// How many znodes follow.
    pub nodes: u64,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} znodes at {})", self.table.len(), self.last_zxid)
    }
}

impl State {
    /// The state of a new server: the root and what ZooKeeper keeps under /zookeeper.
    #[must_use]
    pub fn new(hasher: PathHasher) -> State {
        let mut state = State::empty(hasher);
        for (path, num_children, acl, aversion, place) in [
            (path::ROOT, 1, AclId::OPEN, 0, 0),
            (path::ZOOKEEPER, 2, AclId::OPEN, 0, 0),
            (path::QUOTA, 0, AclId::OPEN, 0, 0),
            // ZooKeeper sets this ACL while it starts, which leaves an aversion of -1.
            (path::CONFIG, 0, AclId::READ_ONLY, -1, 1),
        ] {
            let new = Znode::created(path, Zxid::ZERO, WallMillis(0));
            let znode = Znode { num_children, acl, aversion, place, ..new };
            let node = Node::new(znode, Some(b""));
            state.took(&node, 1);
            state.table.insert(node);
        }
        state
    }

    fn empty(hasher: PathHasher) -> State {
        State {
            table: Table::new(hasher),
            sessions: SessionTable::default(),
            quotas: Quotas::default(),
            acl_references: BTreeMap::new(),
            acl_ids: BTreeMap::new(),
            next_acl: AclId::FIRST_FREE.0,
            reapable: BTreeSet::new(),
            last_zxid: Zxid::ZERO,
            last_wall: WallMillis(0),
            digests: VecDeque::new(),
            chain: 0,
            digest: 0,
            batches: BTreeMap::new(),
            rules: FIRST_RULES,
            membership: Membership::default(),
            conf_change: None,
            late: None,
            refusal: None,
            changes: SmallVec::new(),
            undo: Vec::new(),
            usage: Vec::new(),
            quotas_before: QuotasBefore::new(),
            over_quota: Vec::new(),
            unreferenced: Vec::new(),
            judged: RefCell::default(),
            long_texts: RefCell::default(),
            cursor: None,
        }
    }

    /// The last transaction's zxid.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// The last batch's time.
    #[must_use]
    pub fn last_wall(&self) -> WallMillis {
        self.last_wall
    }

    /// The digest of all znodes.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What all batches so far have come to: equal on two servers at one entry if they agreed at every one before.
    #[must_use]
    pub fn chain(&self) -> u64 {
        self.chain
    }

    /// Another history than the one that it has.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self) {
        self.chain ^= 1;
    }

    /// The digest at each 128th zxid since the start, oldest first, the newest 1024 of them.
    pub fn digests(&self) -> impl Iterator<Item = (Zxid, u64)> + '_ {
        self.digests.iter().copied()
    }

    /// Containers and TTL nodes, in order of path.
    pub fn reapable(&self) -> impl Iterator<Item = &Path> {
        self.reapable_after(None)
    }

    /// Containers and TTL nodes behind `after`, in order of path.
    pub fn reapable_after(&self, after: Option<&Path>) -> impl Iterator<Item = &Path> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.reapable.range::<Path, _>((from, Bound::Unbounded))
    }

    /// Applies a whole batch and hands each transaction's outcome to `each`, in order. Returns false, and does
    /// nothing, for a batch that is not its server's next.
    pub fn apply_batch(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&Txn<'_>, Outcome),
    ) -> Result<bool, Damaged> {
        let mut batch = Batch::decode(bytes)?;
        let header = batch.header;
        if header.sequence > 0 {
            if !self.is_next(&header) {
                return Ok(false);
            }
            self.batches.insert(header.server, (header.incarnation, header.sequence));
        }
        self.last_wall = header.wall;
        let mut next = header.first_zxid;
        let mut group: SmallVec<[Txn<'_>; AHEAD]> = SmallVec::new();
        loop {
            while group.len() < AHEAD {
                let Some(txn) = batch.next_txn()? else { break };
                group.push(txn);
            }
            if group.is_empty() {
                let sessions = self.sessions.len() as u64;
                self.chain = [self.digest, next.0 as u64, sessions].iter().fold(self.chain, digest::link);
                return Ok(true);
            }
            if group.len() > 1 {
                self.table.warm(group.iter().filter_map(Txn::path_hint));
            }
            for txn in group.drain(..) {
                let zxid = if txn.takes_zxid() { next } else { self.last_zxid };
                if txn.takes_zxid() {
                    next = next.next();
                }
                let stamp = Stamp { zxid, wall: header.wall, options: header.options };
                let owner = header.owner(txn.shard, txn.conn);
                let outcome = self.apply(&txn, owner, stamp)?;
                if let Answer::Code(code) = &outcome.answer {
                    self.chain = digest::link(self.chain, &(*code as i32 as u64));
                }
                each(&txn, outcome);
            }
        }
    }

    /// A server's batches are taken once and in order: one that comes again is passed over, and so is one whose
    /// predecessor was lost on its way. A new run of a server begins with 1.
    fn is_next(&self, header: &super::txn::BatchHeader) -> bool {
        let next = self.next_batch(header.server, header.incarnation);
        header.sequence == next
            || header.sequence < next && mutant::is(Mutant::BatchTwice)
            || header.sequence > next && mutant::is(Mutant::GapPassedOver)
    }

    /// The number that a server's next batch must have.
    #[must_use]
    pub fn next_batch(&self, server: ServerId, incarnation: u64) -> u64 {
        match self.batches.get(&server) {
            Some((known, sequence)) if *known == incarnation => sequence + 1,
            _ => 1,
        }
    }

    fn apply(&mut self, txn: &Txn<'_>, owner: Owner, stamp: Stamp) -> Result<Outcome, Damaged> {
        debug_assert!(self.changes.is_empty() && self.undo.is_empty());
        let answer = match &txn.body {
            TxnBody::Request { op, identities, request } => {
                let identities = Identities::new(identities);
                match self.sessions.get(txn.session) {
                    None => Answer::Code(Code::SessionExpired),
                    Some(session) if session.owner != owner && !mutant::is(Mutant::OwnerNotChecked) => {
                        Answer::Moved
                    }
                    Some(_) if *op == OpCode::Reconfig as i32 => {
                        self.on_reconfig(request, &identities, (owner, txn.xid), stamp)
                    }
                    Some(_) => self.request(txn.session, *op, request, &identities, stamp),
                }
            }
            TxnBody::LocalRequest { op, identities, request } => {
                let identities = Identities::new(identities);
                if *op == OpCode::Reconfig as i32 {
                    self.on_reconfig(request, &identities, (owner, txn.xid), stamp)
                } else {
                    self.request(SessionId::NONE, *op, request, &identities, stamp)
                }
            }
            TxnBody::CreateSession { timeout_ms, password } => {
                self.create_session(txn.session, *timeout_ms, *password, owner)
            }
            TxnBody::Attach { timeout_ms, password } => {
                self.attach(txn.session, *timeout_ms, password, owner)
            }
            TxnBody::CloseSession => self.close_session(txn.session, stamp),
            TxnBody::Expire { owner } => match self.sessions.get(txn.session) {
                Some(session) if session.owner == *owner || mutant::is(Mutant::ExpiredThoughAttached) => {
                    self.close_session(txn.session, stamp)
                }
                _ => Answer::Code(Code::Ok),
            },
            TxnBody::Reap { path } => code_answer(self.reap(path, stamp)),
            TxnBody::Member { step } => self.take_step(step, stamp)?,
        };
        self.flush_usage();
        self.drop_unreferenced();
        self.undo.clear();
        if self.last_zxid != stamp.zxid && stamp.zxid.0 % DIGEST_EVERY == 0 {
            if self.digests.len() == DIGESTS_MAX {
                self.digests.pop_front();
            }
            self.digests.push_back((stamp.zxid, self.digest));
        }
        self.last_zxid = stamp.zxid;
        let changes = std::mem::take(&mut self.changes);
        let over_quota = std::mem::take(&mut self.over_quota);
        let late = self.late.take();
        Ok(Outcome { zxid: stamp.zxid, changes, answer, late, over_quota })
    }

    fn request(
        &mut self,
        session: SessionId,
        op: i32,
        body: &[u8],
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Answer {
        let Some(op) = OpCode::from_i32(op) else { return Answer::Code(Code::Unimplemented) };
        let result = match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                self.on_create(op, session, body, identities, stamp)
            }
            OpCode::Delete => self.on_delete(body, identities, stamp),
            OpCode::SetData => self.on_set_data(body, identities, stamp),
            OpCode::SetAcl => self.on_set_acl(body, identities, stamp),
            OpCode::Multi => self.on_multi(session, body, identities, stamp),
            OpCode::CloseSession => return self.close_session(session, stamp),
            // No shard sends anything else up.
            _ => Err(Code::Unimplemented),
        };
        result.unwrap_or_else(|code| {
            self.roll_back();
            Answer::Code(code)
        })
    }

    /// Whether `identities` may do any of `wanted` to a znode.
    pub(super) fn check_acl(
        &self,
        node: &Znode,
        wanted: Perms,
        identities: &Identities<'_>,
        stamp: Stamp,
    ) -> Result<(), Code> {
        if node.acl == AclId::OPEN || stamp.options.skip_acl {
            return Ok(());
        }
        let listed = self.table.acls.listed(node.acl);
        let mut last = self.judged.borrow_mut();
        if !Judged::is_cheap(&listed.list, identities.list()) && *last.0 != *identities.bytes() {
            *last = (identities.bytes().into(), Judged::default());
        }
        match last.1.allows(listed, wanted, identities.list()) {
            true => Ok(()),
            false => Err(Code::NoAuth),
        }
    }

    /// The znode of a path, or NoNode.
    pub(super) fn node(&self, path: &str) -> Result<Node, Code> {
        self.table.get(path).cloned().ok_or(Code::NoNode)
    }

    /// The number of a list, new or old.
    pub(super) fn acl_id(&mut self, list: &[Acl]) -> AclId {
        if let Some((id, _)) = self.table.acls.iter().take(2).find(|(_, known)| &known[..] == list) {
            return id;
        }
        if let Some(id) = self.acl_ids.get(list) {
            return *id;
        }
        let id = acl_ids::free(&self.acl_references, AclId(self.next_acl));
        self.next_acl = acl_ids::behind(id).0;
        let list: AclList = list.into();
        self.acl_ids.insert(list.clone(), id);
        self.acl_references.insert(id, 0);
        self.unreferenced.push(id);
        self.table.acls.insert(id, list.clone());
        self.changes.push(Change::AclAdded { id, list });
        id
    }

    // ---- the steps by which the tree changes ----

    /// Adds `node`; `parent` is its parent's new version.
    pub(super) fn create_node(&mut self, node: Node, parent: Node) {
        self.save(&node.path);
        self.save_splitting(&node.path);
        self.save(&parent.path);
        self.took(&node, 1);
        self.table.insert(node.clone());
        let old_parent = self.swap(parent.clone());
        self.undo.push(Undo::Created { parent: old_parent, path: node.path.clone() });
        self.changes.push(Change::Created { node, parent });
    }

    /// Takes out the znode at `path`; `parent` is its parent's new version.
    pub(super) fn delete_node(&mut self, path: &str, parent: Node) {
        if self.cursor.is_some() {
            self.save(&Path::new(path));
            self.save(&parent.path);
        }
        let node = self.table.remove(path);
        self.took(&node, -1);
        let old_parent = self.swap(parent.clone());
        self.undo.push(Undo::Deleted { node: node.clone(), parent: old_parent });
        self.changes.push(Change::Deleted { node, parent });
    }

    /// Puts `node` in its old version's place, and says so as `change`.
    pub(super) fn replace_node(&mut self, node: Node, change: Change) {
        self.save(&node.path);
        let old = self.swap(node);
        self.undo.push(Undo::Replaced { old });
        self.changes.push(change);
    }

    /// Replaces without a note of how to go back.
    fn swap(&mut self, node: Node) -> Node {
        self.digest = self.digest.wrapping_add(digest::of(&node));
        if node.acl >= AclId::FIRST_FREE {
            self.refer(node.acl, 1);
        }
        let old = self.table.replace(node);
        self.digest = self.digest.wrapping_sub(digest::of(&old));
        if old.acl >= AclId::FIRST_FREE {
            self.refer(old.acl, -1);
        }
        old
    }

    /// What comes and goes with a znode: its hash, its ACL's count, its quota, its place on the reaper's list.
    fn took(&mut self, node: &Node, sign: i64) {
        let hash = digest::of(node);
        self.digest = if sign > 0 { self.digest.wrapping_add(hash) } else { self.digest.wrapping_sub(hash) };
        if node.acl >= AclId::FIRST_FREE {
            self.refer(node.acl, sign);
        }
        if node.owner != 0 && !matches!(ephemeral_kind(node.owner, true), EphemeralKind::Session(_)) {
            if sign > 0 {
                self.reapable.insert(node.path.clone());
            } else {
                self.reapable.remove(&node.path);
            }
        }
        if let Some(subject) = quota::subject(node.path.as_str(), quota::LIMITS) {
            if sign > 0 {
                self.quotas.add(subject);
            } else {
                self.quotas.remove(subject);
            }
        }
    }

    fn refer(&mut self, id: AclId, sign: i64) {
        let count = self.acl_references.get_mut(&id).expect("a znode's ACL is counted");
        *count = count.checked_add_signed(sign).expect("no more znodes leave an ACL than came");
        if *count == 0 {
            self.unreferenced.push(id);
        }
    }

    /// A history in which this number is the next.
    #[cfg(test)]
    pub(crate) fn set_next_acl(&mut self, next: AclId) {
        self.next_acl = next.0;
    }

    /// The end of a transaction, for tests that change the tree without one.
    #[cfg(test)]
    pub(super) fn forget_steps(&mut self) {
        self.undo.clear();
        self.changes.clear();
    }

    /// Takes back every step of this transaction, newest first, and forgets what it would have said.
    pub(super) fn roll_back(&mut self) {
        if mutant::is(Mutant::MultiHalfDone) {
            self.undo.clear();
        }
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Created { parent, path } => {
                    let node = self.table.remove(path.as_str());
                    self.took(&node, -1);
                    self.swap(parent);
                }
                Undo::Deleted { node, parent } => {
                    self.took(&node, 1);
                    self.save_splitting(&node.path);
                    self.table.insert(node);
                    self.swap(parent);
                }
                Undo::Replaced { old } => {
                    self.swap(old);
                }
            }
        }
        self.usage.clear();
        self.changes.clear();
        // Lists that this transaction brought have no znode now; nobody heard of them.
    }

    /// At the end of a transaction, and not before: until then no number is free that was taken at its beginning.
    fn drop_unreferenced(&mut self) {
        while let Some(id) = self.unreferenced.pop() {
            if self.acl_references.get(&id) == Some(&0) {
                self.acl_references.remove(&id);
                let list = self.table.acls.list(id).clone();
                self.acl_ids.remove(&list);
                self.table.acls.remove(id);
                self.changes.push(Change::AclDropped { id });
            }
        }
    }

    // ---- snapshots ----

    /// What a snapshot of this very state begins with. The caller starts a cursor in the same turn.
    #[must_use]
    pub fn snapshot_head(&self) -> SnapshotHead {
        SnapshotHead {
            last_zxid: self.last_zxid,
            last_wall: self.last_wall,
            digest: self.digest,
            chain: self.chain,
            next_acl: self.next_acl,
            acls: self.table.acls.iter().skip(2).map(|(id, list)| (id, list.clone())).collect(),
            sessions: match mutant::is(Mutant::SnapshotWithoutSessions) {
                false => self.sessions.iter().map(|(id, session)| (id, session.clone())).collect(),
                true => Vec::new(),
            },
            batches: self.batches.iter().map(|(server, (i, s))| (*server, *i, *s)).collect(),
            rules: self.rules,
            membership: self.membership.clone(),
            nodes: self.table.len() as u64,
        }
    }

    /// Begins to copy the tree as it is now. One snapshot at a time.
    pub fn start_snapshot(&mut self) {
        assert!(self.cursor.is_none(), "one snapshot at a time");
        let stripes = self.table.nodes().stripes();
        self.cursor = Some(StripeCursor::new(stripes));
    }

    /// Whether a copy is under way.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.cursor.is_some()
    }

    /// Copies on: up to `stripes` of them (about a thousand znodes each). `None`: the copy is complete.
    pub fn copy_stripes(&mut self, stripes: usize) -> Option<Vec<Vec<Node>>> {
        let mut cursor = self.cursor.take()?;
        cursor.go_on(self.table.nodes(), stripes);
        let mut out = cursor.take_out();
        if mutant::is(Mutant::OwnerLostInSnapshot) {
            let disown = |node: &mut Node| *node = node.followed_by(Znode { owner: 0, ..(**node).clone() });
            out.iter_mut().flatten().for_each(disown);
        }
        let done = cursor.is_done();
        if !done {
            self.cursor = Some(cursor);
            return Some(out);
        }
        // The last ones are handed over once more with the end still to be told.
        if out.is_empty() {
            return None;
        }
        self.cursor = Some(cursor);
        Some(out)
    }

    /// Before a znode changes, comes or goes, a running snapshot takes note of it as it is.
    #[inline]
    fn save(&mut self, path: &Path) {
        if self.cursor.is_some() {
            self.save_old(path);
        }
    }

    #[cold]
    fn save_old(&mut self, path: &Path) {
        let Some(cursor) = self.cursor.as_mut() else { return };
        let hash = self.table.hasher().hash(path.as_bytes());
        if cursor.wants(self.table.nodes().stripe_of(hash)) {
            cursor.save(hash, path, self.table.get(path.as_str()));
        }
    }

    /// Before a znode comes: if its stripe would split, half of it would stand where the cursor does not come.
    #[inline]
    fn save_splitting(&mut self, path: &Path) {
        let Some(cursor) = self.cursor.as_mut() else { return };
        let hash = self.table.hasher().hash(path.as_bytes());
        let nodes = self.table.nodes();
        if nodes.would_split(hash) && cursor.wants(nodes.stripe_of(hash)) {
            cursor.copy(nodes, nodes.stripe_of(hash));
        }
    }

    /// A state to be filled from a snapshot: `load_node` for each znode, then `loaded`.
    #[must_use]
    pub fn from_snapshot(hasher: PathHasher, head: SnapshotHead) -> State {
        let mut state = State::empty(hasher);
        state.last_zxid = head.last_zxid;
        state.last_wall = head.last_wall;
        state.chain = head.chain;
        state.next_acl = head.next_acl.max(AclId::FIRST_FREE.0);
        for (id, list) in head.acls {
            state.acl_ids.insert(list.clone(), id);
            state.acl_references.insert(id, 0);
            state.table.acls.insert(id, list);
        }
        for (id, session) in head.sessions {
            state.sessions.insert(id, session);
        }
        for (server, incarnation, sequence) in head.batches {
            state.batches.insert(server, (incarnation, sequence));
        }
        state.rules = head.rules;
        state.membership = head.membership;
        state
    }

    /// Takes account of a snapshot's znode, whose ACL must be known; the tree itself comes whole with `loaded`.
    pub fn load_node(&mut self, node: &Node) {
        self.took(node, 1);
    }

    /// Takes over the tree of all the znodes that were loaded.
    pub fn loaded(&mut self, table: Table) {
        self.table = table;
    }

    /// Whether a znode may refer to this list.
    #[must_use]
    pub fn knows_acl(&self, id: AclId) -> bool {
        id < AclId::FIRST_FREE || self.acl_references.contains_key(&id)
    }
}

/// A result without a body.
pub(super) fn code_answer(result: Result<(), Code>) -> Answer {
    Answer::Code(result.err().unwrap_or(Code::Ok))
}
