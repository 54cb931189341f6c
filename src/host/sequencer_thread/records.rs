//! What the log is given and what it has done: the records that wait go to it at one go, what is durable the machine hears
//! of, and the room on its disk is looked at.

use super::SequencerThread;
use crate::host::disk::{SpaceState, SubmitError};
use crate::host::notes::Say;
use crate::host::snapshot_thread::SnapshotDone;
use crate::host::Fatal;
use crate::ids::{LogIndex, Millis};
use crate::sequencer::{Input, Now, Serving};
use std::sync::atomic::Ordering::Relaxed;
use tracing::warn;

/// On a low disk a snapshot that could not be written is tried again so much later, and each time twice as late.
const SNAPSHOT_AGAIN_MS: u64 = 3_000;
const SNAPSHOT_AGAIN_MS_MAX: u64 = 300_000;
/// One that makes room rests for so many times as long as it took.
const SNAPSHOT_RESTS: u64 = 3;

/// Records that are looked at for one write to the log.
const RECORDS_A_WRITE: usize = 64;

impl SequencerThread {
    /// A segment was begun: a fast writer fills a small disk's reserve long before the next second.
    pub(super) fn look_after_roll(&mut self) {
        let segment = self.log.active_segment();
        if segment > self.state.segment {
            self.state.segment = segment;
            self.state.snapshot_makes_room |= self.state.space_low;
            self.look_at_space();
        }
    }

    pub(super) fn look_at_space(&mut self) {
        let now = self.clock.now();
        let low = self.log.check_space() != SpaceState::Ok;
        self.state.snapshot_makes_room |= low && !self.state.space_low;
        // Where nothing is purged a snapshot only takes room.
        self.state.snapshot_makes_room &= low && self.snapshots.purges();
        self.state.space_low = low;
        self.links.meters.disk_free_bytes.store(self.log.room().1, Relaxed);
        self.links.meters.is_disk_low.store(low, Relaxed);
        // What a snapshot makes needless may be the very thing that fills the disk. And what is refused there goes through
        // the log too: creates of a megabyte had used up the reserve after some two hundred, and deletes hung behind them.
        let may_begin = self.state.serving == Serving::Yes && !self.sequencer.is_snapshotting();
        if self.state.snapshot_makes_room && may_begin && now.mono >= self.state.snapshot_not_before {
            self.state.snapshot_makes_room = false;
            self.sequencer.begin_snapshot();
        }
        self.state.space_at = now.mono;
        self.sequencer.handle(now, Input::Space { low });
    }

    /// A snapshot is done with, or could not be written.
    pub(super) fn take_snapshot_done(&mut self, now: Now) {
        let Some(SnapshotDone { is_written, keep_from, took }) = self.snapshots.take_done() else { return };
        self.links.meters.snapshot.record(took);
        self.sequencer.handle(now, Input::SnapshotDone { written: is_written });
        let pause = if is_written {
            self.state.snapshots_failed = 0;
            took.0 * SNAPSHOT_RESTS
        } else {
            self.state.snapshot_makes_room |= self.state.space_low;
            self.state.snapshots_failed += 1;
            (SNAPSHOT_AGAIN_MS << (self.state.snapshots_failed - 1).min(10)).min(SNAPSHOT_AGAIN_MS_MAX)
        };
        self.state.snapshot_not_before = Millis(now.mono.0 + pause);
        if let Some(keep_from) = keep_from {
            self.log.purge(LogIndex(keep_from.0 + 1));
            if self.peers.is_some() {
                self.sequencer.handle(now, Input::Purged { first: self.log.first_index() });
            }
        }
    }

    pub(super) fn reap_log(&mut self) -> Result<(), Fatal> {
        self.submit_waiting()?;
        let durable = self.log.durable();
        let mut persisted = None;
        let now = self.clock.mono();
        while let Some((sequence, record, since)) = self.state.in_flight.front().copied() {
            if sequence > durable {
                break;
            }
            self.state.in_flight.pop_front();
            persisted = Some(record);
            let took = now.since(since);
            self.links.meters.fsync.record(took);
            if took > self.sync_warning {
                self.note_slow_sync(now, took);
            }
        }
        if let Some(records) = persisted {
            self.sequencer.handle(self.clock.now(), Input::Persisted { records });
        }
        Ok(())
    }

    pub(super) fn note_slow_sync(&mut self, now: Millis, took: Millis) {
        if let Say::Print { .. } = self.state.throttle.ask("fsync", now) {
            warn!(
                "fsync-ing the write ahead log took {}ms which will adversely affect operation latency: is the disk \
                 shared or failing? (threshold: fsync.warningthresholdms)",
                took.0
            );
        }
    }

    pub(super) fn submit_waiting(&mut self) -> Result<(), Fatal> {
        while !self.state.to_append.is_empty() {
            let waiting = || self.state.to_append.iter().take(RECORDS_A_WRITE);
            let payloads: Vec<[&[u8]; 1]> = waiting().map(|logged| [logged.payload.as_ref()]).collect();
            let appends = waiting().zip(&payloads).map(|(logged, payload)| logged.record(payload));
            match self.log.submit_all(&appends.collect::<Vec<_>>()) {
                Ok((count, last)) => {
                    self.state.no_space = false;
                    self.state.records += count as u64;
                    self.state.in_flight.push_back((last, self.state.records, self.clock.mono()));
                    self.state.to_append.drain(..count);
                }
                Err(SubmitError::Full) => break,
                Err(SubmitError::NoSpace) => {
                    self.state.no_space = true;
                    // Clients wait; the server tries again each turn and comes back by itself.
                    let now = self.clock.mono();
                    if let Say::Print { .. } = self.state.throttle.ask("no space", now) {
                        warn!("the disk is full: writes wait until there is room for a log segment");
                    }
                    break;
                }
                Err(SubmitError::TooLarge) => {
                    unreachable!("a segment is made long enough for the largest batch")
                }
                Err(SubmitError::Fault(fault)) => return Err(Fatal::disk(fault)),
            }
        }
        Ok(())
    }
}
