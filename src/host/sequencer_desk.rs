//! Where the admin thread asks the sequencer what only it knows. Answered between two turns, one question a turn;
//! paths are shared, not copied.

use crate::admin::Sessions;
use crate::ids::{Millis, WallMillis, Zxid};
use crate::sequencer::{Now, Sequencer};
use crate::session::Expiry;
use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;

/// Questions that wait at the most; a further one is refused.
const ASKS_MAX: usize = 8;

/// What can be asked.
pub enum SequencerAsk {
    /// When sessions end, and their ephemerals.
    Sessions(Sender<Sessions>),
    /// Digests of the history.
    Digests(Sender<Vec<(Zxid, u64)>>),
}

/// The desk: one a server.
pub struct SequencerDesk {
    asks: ArrayQueue<SequencerAsk>,
}

impl Default for SequencerDesk {
    fn default() -> SequencerDesk {
        SequencerDesk { asks: ArrayQueue::new(ASKS_MAX) }
    }
}

impl SequencerDesk {
    /// Puts a question down; false where there is no room. Then the sequencer must be woken.
    pub(super) fn put(&self, ask: SequencerAsk) -> bool {
        self.asks.push(ask).is_ok()
    }

    /// The sequencer's thread, once a turn: answers one question if there is one. One load where there is none.
    pub fn answer(&self, sequencer: &Sequencer, now: Now) {
        // Who asked may be gone: nobody misses the answer then.
        match self.asks.pop() {
            None => {}
            Some(SequencerAsk::Sessions(reply)) => drop(reply.try_send(sessions(sequencer, now))),
            Some(SequencerAsk::Digests(reply)) => {
                drop(reply.try_send(sequencer.state().digests().collect()));
            }
        }
    }
}

fn sessions(sequencer: &Sequencer, now: Now) -> Sessions {
    let session_now = signed(sequencer.session_time(now.mono).0);
    let buckets = |expiry: &Expiry| {
        let wall = |at: Millis| WallMillis(now.wall.0.saturating_add(signed(at.0) - session_now));
        expiry.buckets().into_iter().map(|(at, ids)| (wall(at), ids)).collect()
    };
    let state = sequencer.state();
    let follows = state.membership.is_ensemble() && !sequencer.is_leading();
    let mut timeouts: Vec<_> =
        state.sessions.iter().filter(|_| follows).map(|(id, session)| (id, session.timeout_ms)).collect();
    timeouts.sort_unstable();
    Sessions {
        timeouts: follows.then_some(timeouts),
        buckets: buckets(sequencer.expiry()),
        local_buckets: sequencer.local_expiry().map(buckets),
        ephemerals: state
            .table
            .all_ephemerals()
            .map(|(id, paths)| (id, paths.iter().cloned().collect()))
            .collect(),
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
