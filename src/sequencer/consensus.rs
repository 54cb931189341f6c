//! The narrow room around the `raft` crate: batches in, records to write and committed entries out.
//!
//! A standalone server is an ensemble of one and takes this same path. Payloads never enter the crate: an entry holds
//! none, and its bytes are found by index.

use super::batch::SyncWaiter;
use super::storage::Store;
use crate::ids::{LogIndex, ServerId, Term, Zxid};
use crate::log::HardState as Vote;
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState};
use raft::{RawNode, StateRole};
use std::collections::VecDeque;

/// A record to be written, or an entry that was.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Index 0: no entry, only the hard state.
    pub index: LogIndex,
    pub term: Term,
    /// Raft's entry type.
    pub tag: u8,
    /// The batch's; zero where it takes none.
    pub first_zxid: Zxid,
    pub last_zxid: Zxid,
    pub hard_state: Vote,
    /// Empty for Raft's own entries.
    pub payload: Bytes,
    payload_len: usize,
}

impl Logged {
    /// Whether it holds a batch; a new leader's first entry does not.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        self.payload_len > 0
    }
}

/// An entry that the log held at the start; its payload is still there.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredEntry {
    pub index: LogIndex,
    pub term: Term,
    pub tag: u8,
    pub first_zxid: Zxid,
    pub last_zxid: Zxid,
    pub payload_len: usize,
}

/// What the log held at the start.
#[derive(Clone, Debug, Default)]
pub struct RecoveredLog {
    /// The entry that a snapshot ends with, or zero.
    pub base: (LogIndex, Term),
    /// Contiguous after the base.
    pub entries: Vec<RecoveredEntry>,
    pub hard_state: Vote,
}

/// What a turn of Raft wants.
pub(super) struct Turn {
    pub append: Vec<Logged>,
    pub committed: Vec<Logged>,
}

/// An entry's place in memory until it is applied.
struct Held {
    index: u64,
    payload: Option<Bytes>,
    payload_len: usize,
    zxids: (Zxid, Zxid),
}

/// Election and heartbeat, in ticks of the sequencer.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;
/// Entries without payload that stay in memory behind the applied one.
const ENTRIES_KEPT: u64 = 1024;

pub(super) struct Consensus {
    node: RawNode<Store>,
    id: u64,
    seed: u64,
    base_term: Term,
    held: VecDeque<Held>,
    /// Raft's turns whose records are not durable yet: its number, and how many records must be.
    unpersisted: VecDeque<(u64, u64)>,
    /// Asked with a context that counts; one context a turn for all waiting syncs.
    reads: VecDeque<(u64, Vec<SyncWaiter>)>,
    ready_reads: Vec<(u64, Vec<SyncWaiter>)>,
    next_read: u64,
    campaigned: bool,
}

impl Consensus {
    pub(super) fn new(server: ServerId, seed: [u8; 32], log: RecoveredLog) -> Consensus {
        let id = u64::from(server.0).max(1);
        let (index, term) = (log.base.0 .0, log.base.1 .0);
        let entry = |e: &RecoveredEntry| Entry {
            entry_type: i32::from(e.tag),
            term: e.term.0,
            index: e.index.0,
            ..Entry::default()
        };
        let last = log.entries.last().map_or(index, |e| e.index.0);
        let hard_state = HardState {
            term: log.hard_state.term.0.max(log.entries.last().map_or(term, |e| e.term.0)),
            vote: log.hard_state.vote,
            commit: log.hard_state.commit.0.clamp(index, last),
        };
        let store = Store {
            base: (index, term),
            entries: log.entries.iter().map(entry).collect(),
            hard_state,
            conf: ConfState { voters: vec![id], ..ConfState::default() },
        };
        let held = log.entries.iter().map(|e| Held {
            index: e.index.0,
            payload: None,
            payload_len: e.payload_len,
            zxids: (e.first_zxid, e.last_zxid),
        });
        let held = held.collect();
        let config = raft::Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: index,
            check_quorum: true,
            pre_vote: true,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node =
            RawNode::new(&config, store, &logger).expect("the configuration of Raft is constant and valid");
        let mut seed_bytes = [0; 8];
        seed_bytes.copy_from_slice(&seed[..8]);
        let mut consensus = Consensus {
            node,
            id,
            seed: u64::from_le_bytes(seed_bytes),
            base_term: Term(term),
            held,
            unpersisted: VecDeque::new(),
            reads: VecDeque::new(),
            ready_reads: Vec::new(),
            next_read: 0,
            campaigned: false,
        };
        consensus.pin_election_timeout();
        consensus
    }

    pub(super) fn base_term(&self) -> Term {
        self.base_term
    }

    pub(super) fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// The term in which this server leads, if it does.
    pub(super) fn leading_since(&self) -> Option<Term> {
        (self.node.raft.state == StateRole::Leader).then(|| self.term())
    }

    /// Whether an entry of this very term is committed and applied: the leader's first one.
    pub(super) fn has_committed_in_term(&self, applied: LogIndex) -> bool {
        self.node.raft.raft_log.committed == applied.0
            && self.node.raft.raft_log.term(applied.0).is_ok_and(|term| term == self.node.raft.term)
    }

    /// Time passes. The sole voter waits for nobody and elects itself at once.
    pub(super) fn tick(&mut self) {
        if !self.campaigned && self.is_sole_voter() {
            self.campaigned = true;
            // It fails only where this server may not vote; then it stays a follower.
            let _ = self.node.campaign();
        }
        self.node.tick();
        self.pin_election_timeout();
        self.retry_reads();
    }

    fn is_sole_voter(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters().ids();
        voters.len() == 1 && voters.contains(self.id)
    }

    /// Who asks and in which term decides the timeout; two runs from one seed elect the same leaders. The crate's own
    /// dice are overridden after every call that may have rolled them.
    fn pin_election_timeout(&mut self) {
        let spread = mix(self.seed ^ self.id.rotate_left(32) ^ self.node.raft.term) % ELECTION_TICKS as u64;
        self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + spread as usize);
    }

    /// Takes a batch; `None` where this server does not lead.
    pub(super) fn propose(&mut self, payload: Bytes, zxids: (Zxid, Zxid)) -> Option<LogIndex> {
        // The handle's one byte makes the entry unlike Raft's own empty ones.
        self.node.propose(Vec::new(), vec![1]).ok()?;
        let index = self.node.raft.raft_log.last_index();
        let payload_len = payload.len();
        self.held.push_back(Held { index, payload: Some(payload), payload_len, zxids });
        Some(LogIndex(index))
    }

    /// Asks for a moment that no later commit precedes. It may vanish silently: `tick` asks again.
    pub(super) fn read_index(&mut self, waiters: Vec<SyncWaiter>) {
        self.next_read += 1;
        self.reads.push_back((self.next_read, waiters));
        self.node.read_index(self.next_read.to_be_bytes().to_vec());
    }

    fn retry_reads(&mut self) {
        for (context, _) in &self.reads {
            self.node.read_index(context.to_be_bytes().to_vec());
        }
    }

    /// The syncs whose moment has been applied.
    pub(super) fn take_reads(&mut self, applied: LogIndex) -> Vec<SyncWaiter> {
        let mut done = Vec::new();
        self.ready_reads.retain_mut(|(index, waiters)| {
            let ready = *index <= applied.0;
            if ready {
                done.append(waiters);
            }
            !ready
        });
        done
    }

    /// This many records are durable.
    pub(super) fn persisted(&mut self, records: u64) {
        while let Some((number, needed)) = self.unpersisted.front().copied() {
            if needed > records {
                break;
            }
            self.unpersisted.pop_front();
            self.node.on_persist_ready(number);
        }
        self.pin_election_timeout();
    }

    /// Raft's next wishes; `records` is how many were handed to the log so far.
    pub(super) fn next_turn(&mut self, records: u64) -> Option<Turn> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        if let Some(hs) = ready.hs() {
            self.node.mut_store().hard_state = hs.clone();
        }
        let hard_state = self.vote();
        let entries = ready.take_entries();
        self.node.mut_store().append(&entries);
        let mut append: Vec<Logged> = entries.iter().map(|entry| self.logged(entry, hard_state)).collect();
        if append.is_empty() && ready.must_sync() {
            append.push(Logged {
                index: LogIndex(0),
                term: hard_state.term,
                tag: 0,
                first_zxid: Zxid::ZERO,
                last_zxid: Zxid::ZERO,
                hard_state,
                payload: Bytes::new(),
                payload_len: 0,
            });
        }
        self.take_read_states(ready.take_read_states());
        let committed = ready.take_committed_entries();
        let committed = committed.iter().map(|entry| self.logged(entry, hard_state)).collect();
        let number = ready.number();
        self.node.advance_append_async(ready);
        let needed = records + append.len() as u64;
        if append.is_empty() && self.unpersisted.is_empty() {
            self.node.on_persist_ready(number);
        } else {
            self.unpersisted.push_back((number, needed));
        }
        self.pin_election_timeout();
        Some(Turn { append, committed })
    }

    fn take_read_states(&mut self, states: Vec<raft::ReadState>) {
        for state in states {
            let Ok(context) = <[u8; 8]>::try_from(&state.request_ctx[..]) else { continue };
            let context = u64::from_be_bytes(context);
            // Found by context, never by position: answers may be lost or come twice.
            if let Some(at) = self.reads.iter().position(|(number, _)| *number == context) {
                let (_, waiters) = self.reads.remove(at).expect("its position was found just now");
                self.ready_reads.push((state.index, waiters));
            }
        }
    }

    fn vote(&self) -> Vote {
        let hs = &self.node.store().hard_state;
        Vote { term: Term(hs.term), vote: hs.vote, commit: LogIndex(hs.commit) }
    }

    fn logged(&self, entry: &Entry, hard_state: Vote) -> Logged {
        let held = self.held(entry.index);
        let zxids = held.map_or((Zxid::ZERO, Zxid::ZERO), |held| held.zxids);
        Logged {
            index: LogIndex(entry.index),
            term: Term(entry.term),
            tag: u8::try_from(entry.entry_type).unwrap_or(EntryType::EntryNormal as u8),
            first_zxid: zxids.0,
            last_zxid: zxids.1,
            hard_state,
            payload: held.and_then(|held| held.payload.clone()).unwrap_or_default(),
            payload_len: held.map_or(0, |held| held.payload_len),
        }
    }

    fn held(&self, index: u64) -> Option<&Held> {
        let at = self.held.partition_point(|held| held.index < index);
        self.held.get(at).filter(|held| held.index == index)
    }

    /// An entry's payload, where it is in memory.
    pub(super) fn payload(&self, index: LogIndex) -> Option<Bytes> {
        self.held(index.0).and_then(|held| held.payload.clone())
    }

    /// An entry was applied: its payload goes, and in time its place.
    pub(super) fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.0);
        while self.held.front().is_some_and(|held| held.index <= index.0) {
            self.held.pop_front();
        }
        if index.0.is_multiple_of(ENTRIES_KEPT) {
            let keep_from = index.0.saturating_sub(ENTRIES_KEPT);
            self.node.mut_store().compact(keep_from);
        }
    }
}

/// A fixed scramble of 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
