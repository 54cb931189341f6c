//! What must hold: at every moment among the servers, and at the end of everything that was ever answered.

use crate::client::{Ask, Op};
use crate::machines::KEY;
use crate::server::Server;
use ringkeeper::apply::State;
use ringkeeper::error::Code;
use ringkeeper::tree::{Answer, Change, PathHasher};
use ringkeeper::wire::Reader;
use std::collections::BTreeMap;

/// What is remembered of the past, to be compared with.
#[derive(Default)]
pub struct Watchman {
    leaders: BTreeMap<u64, u8>,
    /// By index: term, digest and last zxid of the state behind it.
    states: BTreeMap<u64, (u64, u64, i64)>,
    pub elections: u64,
}

impl Watchman {
    /// One leader a term; equal states at equal indices.
    pub fn look(&mut self, server: &Server) {
        if server.sequencer.is_leading() {
            let (leader, term) = server.sequencer.leader().expect("a leader knows itself");
            assert_eq!(leader.0, server.id);
            let known = *self.leaders.entry(term.0).or_insert_with(|| {
                self.elections += 1;
                server.id
            });
            assert_eq!(known, server.id, "two leaders in term {}", term.0);
        }
        let (index, term) = server.sequencer.applied();
        let state = server.sequencer.state();
        let seen = (term.0, state.digest(), state.last_zxid().0);
        let known = *self.states.entry(index.0).or_insert(seen);
        assert_eq!(known, seen, "server {} has another state at index {}", server.id, index.0);
    }
}

/// The history as the log tells it.
pub struct Truth {
    /// By zxid: session and xid of who asked.
    asked: BTreeMap<i64, (i64, i32)>,
    /// By path: its data from each zxid on; nothing: it is not there.
    data: BTreeMap<String, BTreeMap<i64, Option<Vec<u8>>>>,
}

impl Truth {
    /// Replays a server's log from the first entry.
    pub fn of(server: &Server) -> Truth {
        let mut truth = Truth { asked: BTreeMap::new(), data: BTreeMap::new() };
        let mut state = State::new(PathHasher::new(KEY));
        let (applied, _) = server.sequencer.applied();
        for entry in server.disk.recovered().entries.iter().filter(|entry| entry.index <= applied) {
            let payload = server.disk.payload(entry.index);
            if payload.is_empty() {
                continue;
            }
            let asked = &mut truth.asked;
            let data = &mut truth.data;
            let done = state.apply_batch(&payload, |txn, outcome| {
                // What comes from a session's earlier owner, or after its end, takes a number and does nothing.
                let is_void = matches!(outcome.answer, Answer::Moved | Answer::Code(Code::SessionExpired));
                if txn.takes_zxid() && !is_void {
                    let twice = asked.insert(outcome.zxid.0, (txn.session.0, txn.xid.0));
                    assert_eq!(twice, None, "zxid {} was given twice", outcome.zxid);
                }
                for change in &outcome.changes {
                    let (node, is_there) = match change {
                        Change::Created { node, .. } | Change::DataSet { node } => (node, true),
                        Change::Deleted { node, .. } => (node, false),
                        _ => continue,
                    };
                    let bytes = node.data.as_ref().map(|data| data.as_bytes().to_vec());
                    let value = is_there.then(|| bytes.unwrap_or_default());
                    data.entry(node.path.as_str().to_owned()).or_default().insert(outcome.zxid.0, value);
                }
            });
            done.expect("a committed batch decodes");
        }
        assert_eq!(state.digest(), server.sequencer.state().digest(), "the log gives the state");
        truth
    }

    fn value(&self, path: &str, zxid: i64) -> Option<&[u8]> {
        self.data.get(path)?.range(..=zxid).next_back().and_then(|(_, value)| value.as_deref())
    }

    /// Everything that was answered, against the log.
    pub fn judge(&self, history: &[Op]) {
        self.in_order();
        self.writes(history);
        self.reads(history);
        names_are_never_given_twice(history);
    }

    /// A session's writes are in the log in the order in which they were asked: nothing of an old connection lands behind
    /// what was asked on a new one.
    fn in_order(&self) {
        let mut last: BTreeMap<i64, i32> = BTreeMap::new();
        for (zxid, (session, xid)) in self.asked.iter().filter(|(_, (_, xid))| *xid > 0) {
            let before = last.insert(*session, *xid).unwrap_or(0);
            assert!(before < *xid, "session {session:x}: {xid} at 0x{zxid:x} behind {before}");
        }
    }

    fn writes(&self, history: &[Op]) {
        // By real time: a write that was answered before another was asked has the smaller zxid.
        let mut answered: Vec<(u64, i64)> = Vec::new();
        for op in history {
            let Some(done) = &op.done else { continue };
            if matches!(op.ask, Ask::Get { .. } | Ask::Sync) || done.err == -112 {
                continue;
            }
            assert_eq!(
                self.asked.get(&done.zxid),
                Some(&(op.session, op.xid)),
                "an acknowledged write is not in the log: {op:?}"
            );
            answered.push((done.at, done.zxid));
        }
        answered.sort_unstable();
        let mut highest = i64::MIN;
        let upto: Vec<(u64, i64)> = answered
            .iter()
            .map(|(at, zxid)| {
                highest = highest.max(*zxid);
                (*at, highest)
            })
            .collect();
        for op in history {
            let Some(done) = &op.done else { continue };
            let before = upto.partition_point(|(at, _)| *at < op.called);
            let Some((_, least)) = before.checked_sub(1).map(|at| upto[at]) else { continue };
            match op.ask {
                Ask::Get { .. } => {}
                // A sync's answer is not older than what was acknowledged before it was asked.
                Ask::Sync => {
                    assert!(done.zxid >= least, "a sync at 0x{:x} behind 0x{least:x}: {op:?}", done.zxid)
                }
                _ => assert!(done.zxid > least, "0x{:x} not above 0x{least:x}: {op:?}", done.zxid),
            }
        }
    }

    /// A read is exact at the zxid in its header.
    fn reads(&self, history: &[Op]) {
        for op in history {
            let (Ask::Get { path }, Some(done)) = (&op.ask, &op.done) else { continue };
            let value = self.value(path, done.zxid);
            match done.err {
                0 => {
                    let data =
                        Reader::new(&done.body).buffer().expect("a getData's body").unwrap_or_default();
                    assert_eq!(value, Some(data), "{op:?}");
                }
                -101 => assert_eq!(value, None, "{op:?}"),
                other => panic!("a getData with {other}: {op:?}"),
            }
        }
    }
}

/// A sequential znode's suffix grows, and none is used again.
fn names_are_never_given_twice(history: &[Op]) {
    let mut given: Vec<(i64, String)> = Vec::new();
    for op in history {
        let (Ask::Create { flags: 2, .. }, Some(done)) = (&op.ask, &op.done) else { continue };
        if done.err == 0 {
            let name = Reader::new(&done.body).string().expect("a create's body").expect("a path");
            given.push((done.zxid, name.into_owned()));
        }
    }
    given.sort_unstable();
    for pair in given.windows(2) {
        assert!(pair[0].1 < pair[1].1, "{} was given after {}", pair[1].1, pair[0].1);
    }
}

/// An ephemeral is there exactly as long as its session lives.
pub fn ephemerals_have_owners(server: &Server) {
    let state = server.sequencer.state();
    for (session, paths) in state.table.all_ephemerals() {
        assert!(
            paths.is_empty() || state.sessions.get(session).is_some(),
            "server {}: {paths:?} of session {session}, which is gone",
            server.id
        );
    }
}
