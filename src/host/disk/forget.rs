//! What the log lets go of: its beginning, when snapshots hold it, or all of it, for a snapshot that a leader sent.
//!
//! A snapshot from a leader leaves this log behind. Its last entry is announced in a segment header before it is
//! published; then a header that follows begins behind that entry. Each is one durable block, so a power cut finds the log
//! before, announced, or after. Without the announcement a snapshot beyond the log's end stays what it is: a lost tail.

use super::fault::{LogError, SubmitError};
use super::writer::Log;
use crate::ids::{LogIndex, Term};
use crate::log::HardState;

impl Log {
    /// Entries below this index are not needed any more: segments that hold only such are retired. Returns
    /// how many.
    pub fn purge(&mut self, below: LogIndex) -> usize {
        // Recovery reads from the last segment that begins at or before the entry it needs. Not always in ascending order:
        // a later segment may begin at a lower index, behind entries that were replaced.
        let unneeded = if self.active.first_index <= below {
            self.sealed.len()
        } else {
            self.sealed.iter().rposition(|s| s.first_index <= below).unwrap_or(0)
        };
        self.retire_oldest(unneeded);
        if unneeded > 0 && self.pool.failure().is_some() {
            // What was retired may become the next segment, though the disk has no room for a new one.
            self.pool.retry();
        }
        unneeded
    }

    /// A snapshot whose last entry is this one, beyond this log or against it, is about to be published. Durable when it
    /// returns. From now on a start that finds the snapshot whole goes on behind it; one that does not find it keeps
    /// the log. It may be followed by any number of records, and by `restart_at`. One at a time: another one may only be
    /// announced while the snapshot of the one before is not published. After `NoSpace` nothing has changed.
    pub fn announce_snapshot(&mut self, index: LogIndex, term: Term) -> Result<(), LogError> {
        self.check_fault()?;
        if self.announced == Some((index, term)) {
            return Ok(());
        }
        assert!(index > self.hard_state.commit, "what is committed needs no snapshot");
        self.begin_next(self.last(), self.hard_state, Some((index, term))).map_err(|e| self.not_begun(e))
    }

    /// Forgets everything and goes on behind `index` of `term`: the next entry is the one after. Durable, and `hard_state`
    /// with it, when it returns; all in flight before is durable then too. The snapshot was announced and is on the disk.
    /// After `NoSpace` nothing has changed; a start does the same.
    pub fn restart_at(&mut self, index: LogIndex, term: Term, hard_state: HardState) -> Result<(), LogError> {
        self.check_fault()?;
        let former = self.hard_state;
        assert!(self.announced == Some((index, term)), "a snapshot is announced before it is published");
        assert!(index >= former.commit, "what is committed is not forgotten");
        assert!(hard_state.term >= former.term, "Raft's term never falls");
        assert!(hard_state.term >= term, "whoever has an entry of a term has seen the term");
        let keeps_vote = hard_state.term > former.term || former.vote == 0 || hard_state.vote == former.vote;
        assert!(keeps_vote, "a vote is not forgotten in its term");
        // What a snapshot holds is committed.
        let hard_state = HardState { commit: hard_state.commit.max(index), ..hard_state };
        self.begin_next((index, term), hard_state, None).map_err(|e| self.not_begun(e))?;
        self.entries.clear();
        self.base = (index, term);
        // The header alone holds the new hard state. A record behind it proves that it was there, should it be damaged.
        self.write_empty()?;
        self.drain()?;
        self.retire_oldest(self.sealed.len());
        Ok(())
    }

    /// Whether the log has got by itself to the snapshot that is announced. Should its end be lost from then on, then that
    /// is damage again: the next record goes to a segment that announces nothing.
    pub(super) fn is_announcement_void(&self) -> bool {
        let Some((index, term)) = self.announced else { return false };
        let found = if index == self.base.0 { Some(self.base.1) } else { self.entry(index).map(|e| e.term) };
        index < self.base.0 || found == Some(term)
    }

    fn retire_oldest(&mut self, count: usize) {
        for oldest in self.sealed.drain(..count) {
            // Never under a mapping: its pages would change, or be gone.
            if self.mapped.as_ref().is_some_and(|(number, _)| *number == oldest.number) {
                self.mapped = None;
            }
            while let Some(gone) = self.entries.front().filter(|e| e.segment <= oldest.number).copied() {
                self.base = (gone.index, gone.term);
                self.entries.pop_front();
            }
            self.pool.retire(oldest.number);
        }
    }

    fn not_begun(&self, error: SubmitError) -> LogError {
        match error {
            SubmitError::Fault(fault) => LogError::Disk(fault),
            SubmitError::NoSpace | SubmitError::Full | SubmitError::TooLarge => {
                LogError::NoSpace { dir: self.dir.clone(), needed_bytes: self.segment_bytes }
            }
        }
    }
}
