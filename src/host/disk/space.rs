//! Room on the disk. A ballast file of one segment's size is kept: when the disk is full it becomes the
//! next segment, so that deletes, session ends and Raft's own entries go on while writes that grow are refused.

use std::io;
use std::path::{Path, PathBuf};

use super::file::{is_no_space, Disk};
use super::pool::{segment_path, Pool};
use super::writer::Log;
use crate::log::SegmentNumber;

const BALLAST: &str = "ballast";

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SpaceState {
    /// Enough.
    #[default]
    Ok,
    /// Below the low mark: what grows is refused.
    Low,
    /// Below it, and neither a segment ahead nor ballast is left: the segment being written is the last.
    Full,
}

/// The state of the room, with its hysteresis.
pub struct Space {
    /// Below this many free bytes: `Low`.
    low_bytes: u64,
    /// At least this many free bytes: `Ok` again.
    enough_bytes: u64,
    segment_bytes: u64,
    keep_ballast: bool,
    has_ballast: bool,
    state: SpaceState,
}

impl Space {
    /// Looks for the ballast; `keep` makes it.
    pub fn new(disk: &dyn Disk, dir: &Path, segment_bytes: u64, low_bytes: u64) -> Space {
        let has_ballast = disk
            .list(dir)
            .is_ok_and(|items| items.iter().any(|i| i.name == BALLAST && i.len == segment_bytes));
        Space {
            low_bytes,
            enough_bytes: low_bytes.saturating_add(segment_bytes),
            segment_bytes,
            keep_ballast: false,
            has_ballast,
            state: SpaceState::Ok,
        }
    }

    /// Whether the room was enough when it was last looked at.
    pub(super) fn is_enough(&self) -> bool {
        self.state == SpaceState::Ok
    }

    /// On a full disk the ballast takes the place of the segment that could not be made.
    pub(super) fn take_ballast(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        pool: &mut Pool,
        why: &io::Error,
    ) -> Option<SegmentNumber> {
        if !self.has_ballast || !is_no_space(why) {
            return None;
        }
        self.state = SpaceState::Low;
        self.has_ballast = false;
        disk.rename(&ballast(dir), &segment_path(dir, pool.next())).ok()?;
        disk.sync_dir(dir).ok()?;
        Some(pool.take_over())
    }

    /// The same at start, when there is no pool yet.
    pub(super) fn place_ballast(&mut self, disk: &dyn Disk, dir: &Path, number: SegmentNumber) -> bool {
        let had = std::mem::replace(&mut self.has_ballast, false);
        self.state = SpaceState::Low;
        had && disk.rename(&ballast(dir), &segment_path(dir, number)).is_ok() && disk.sync_dir(dir).is_ok()
    }

    /// Makes the ballast if there is room beyond it.
    pub(super) fn keep(&mut self, disk: &dyn Disk, dir: &Path) {
        self.keep_ballast = true;
        if disk.available(dir).is_ok_and(|free| free / 2 >= self.segment_bytes) {
            self.make_ballast(disk, dir);
        }
    }

    fn make_ballast(&mut self, disk: &dyn Disk, dir: &Path) {
        if self.has_ballast || !self.keep_ballast {
            return;
        }
        let path = ballast(dir);
        self.has_ballast = disk.reserve(&path, self.segment_bytes).is_ok() && disk.sync_dir(dir).is_ok();
        if !self.has_ballast {
            let _ = disk.remove(&path);
        }
    }
}

impl Log {
    /// How much room there is. To be asked about once a second: it looks at the file system, tries again to
    /// prepare the next segment when that failed, and makes the ballast anew when there is room.
    pub fn check_space(&mut self) -> SpaceState {
        let space = &mut self.space;
        let free = self.disk.available(&self.dir).unwrap_or(0);
        if self.pool.failure().is_some() && free >= space.segment_bytes {
            self.pool.retry();
        }
        let stuck = self.pool.failure().is_some();
        let enough = if space.state == SpaceState::Ok { space.low_bytes } else { space.enough_bytes };
        if free >= enough && !stuck {
            space.state = SpaceState::Ok;
            space.make_ballast(&*self.disk, &self.dir);
        } else if stuck && !space.has_ballast {
            space.state = SpaceState::Full;
        } else {
            space.state = SpaceState::Low;
        }
        space.state
    }
}

fn ballast(dir: &Path) -> PathBuf {
    dir.join(BALLAST)
}
