//! Room on the disk. A ballast file of one segment's size is kept: when the disk is full it becomes the
//! next segment, so that deletes, session ends and Raft's own entries go on while writes that grow are refused.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{cannot_reserve, is_no_space, Disk};
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
    /// As it was last looked at.
    free_bytes: u64,
}

impl Space {
    /// Looks for the ballast; `keep` makes it.
    pub fn new(disk: &dyn Disk, dir: &Path, segment_bytes: u64, low_bytes: u64) -> Space {
        let items = disk.list(dir).unwrap_or_default();
        let found = items.iter().find(|item| item.name == BALLAST);
        let has_ballast = found.is_some_and(|item| item.len == segment_bytes);
        if found.is_some() && !has_ballast {
            // Half made, or of another size than segments have now: it only takes room.
            let _ = disk.remove(&ballast(dir));
        }
        Space {
            low_bytes,
            enough_bytes: low_bytes.saturating_add(segment_bytes),
            segment_bytes,
            keep_ballast: false,
            has_ballast,
            state: SpaceState::Ok,
            free_bytes: 0,
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
        self.has_ballast |= pool.take_made_ballast();
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
        if !self.has_ballast && disk.available(dir).is_ok_and(|free| free / 2 >= self.segment_bytes) {
            self.has_ballast = make_ballast(disk, dir, self.segment_bytes, &|_| ()).is_ok();
        }
    }
}

/// Makes the ballast, durably. Where space can not be reserved it is written, which takes as long as a segment: `rest` as in
/// `create_zeroed`.
pub(super) fn make_ballast(
    disk: &dyn Disk,
    dir: &Path,
    bytes: u64,
    rest: &dyn Fn(Duration),
) -> io::Result<()> {
    let path = ballast(dir);
    let made = match disk.reserve(&path, bytes) {
        Err(error) if cannot_reserve(&error) => disk.create_zeroed(&path, bytes, rest),
        made => made,
    };
    let made = made.and_then(|()| disk.sync_dir(dir));
    if made.is_err() {
        let _ = disk.remove(&path);
    }
    made
}

impl Log {
    /// How much room there is. To be asked about once a second: it looks at the file system, tries again to
    /// prepare the next segment when that failed, and has the ballast made anew when there is room.
    pub fn check_space(&mut self) -> SpaceState {
        let space = &mut self.space;
        space.has_ballast |= self.pool.take_made_ballast();
        let free = self.disk.available(&self.dir).unwrap_or(0);
        space.free_bytes = free;
        if self.pool.failure().is_some() && free >= space.segment_bytes {
            self.pool.retry();
        }
        let stuck = self.pool.failure().is_some();
        let enough = if space.state == SpaceState::Ok { space.low_bytes } else { space.enough_bytes };
        if free >= enough && !stuck {
            space.state = SpaceState::Ok;
            if space.keep_ballast && !space.has_ballast {
                self.pool.make_ballast();
            }
        } else if stuck && !space.has_ballast {
            space.state = SpaceState::Full;
        } else {
            space.state = SpaceState::Low;
        }
        space.state
    }

    /// Where the room is, how many bytes of it were free at the last `check_space`, and how many have to be until it is
    /// enough again.
    #[must_use]
    pub fn room(&self) -> (&Path, u64, u64) {
        (&self.dir, self.space.free_bytes, self.space.enough_bytes)
    }
}

fn ballast(dir: &Path) -> PathBuf {
    dir.join(BALLAST)
}
