//! The bare writer: what a disk gives to a server that makes each record durable. Records are due at a rate; whatever is
//! due goes out as one write past the page cache (O_DIRECT, O_DSYNC), one write at a time. No server that syncs before it
//! acknowledges can be quicker than this, so it is what a set at the same rate is measured against.

use crate::record::{add, histogram};
use crate::run::Progress;
use crate::ticker::Ticker;
use hdrhistogram::Histogram;
use rustix::fs::{fallocate, open, FallocateFlags, Mode, OFlags};
use rustix::io::pwrite;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BLOCK: usize = 4_096;
const FILE_BYTES: u64 = 64 << 20;

/// What it measured.
pub struct Written {
    /// From when a record was due until it was durable, nanoseconds; where the writer overslept, from when it woke: a floor is
    /// no lower for what its own thread was late.
    pub durable: Histogram<u64>,
    /// How late it woke.
    pub lag: Histogram<u64>,
    pub writes: u64,
    /// How long it really took: until the last record was durable, and no less than was asked where it was not stopped.
    pub seconds: f64,
    /// Records that came due in that time.
    pub due: u64,
    pub was_stopped: bool,
}

/// A disk that does not keep up is waited for so long after the end.
const DRAIN: Duration = Duration::from_secs(1);

/// Writes records of `bytes` at `rate` a second into a file in `dir`, for `duration`.
pub fn write(
    dir: &Path,
    rate: f64,
    bytes: usize,
    duration: Duration,
    stop: &AtomicBool,
    told: &mut dyn FnMut(Progress),
) -> Result<Written, String> {
    let path = dir.join(format!("ringkeeper-load-{}.tmp", std::process::id()));
    let cannot =
        |error: rustix::io::Errno| format!("cannot write {} without the page cache: {error}", path.display());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT | OFlags::DSYNC | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(cannot)?;
    let done = fill(&file, rate, bytes, duration, stop, told).map_err(cannot);
    let _ = std::fs::remove_file(&path);
    done
}

fn fill(
    file: &rustix::fd::OwnedFd,
    rate: f64,
    bytes: usize,
    duration: Duration,
    stop: &AtomicBool,
    told: &mut dyn FnMut(Progress),
) -> rustix::io::Result<Written> {
    fallocate(file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    // Room for as many records as a second may bring, at an address that the disk takes.
    let room = ((rate as usize * bytes).max(BLOCK) + BLOCK).next_multiple_of(BLOCK).min(8 << 20);
    let memory = vec![0x5a; room + BLOCK];
    let skip = memory.as_ptr().align_offset(BLOCK);
    let block = &memory[skip..skip + room];
    // The file's blocks are written once before: a server recycles its segments as well.
    let mut at = 0;
    while at < FILE_BYTES {
        at += pwrite(file, &block[..room.min((FILE_BYTES - at) as usize)], at)? as u64;
    }
    let mut ticker = Ticker::new(duration, told);
    let mut written = Written {
        durable: histogram(),
        lag: histogram(),
        writes: 0,
        seconds: 0.0,
        due: 0,
        was_stopped: false,
    };
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let period = 1e9 / rate;
    let clock = Instant::now();
    let now = || clock.elapsed().as_nanos() as u64;
    let due = |number: u64| (number as f64 * period) as u64;
    let (mut next, mut at, end) = (0, 0, duration.as_nanos() as u64);
    while due(next) < end && now() < end + DRAIN.as_nanos() as u64 {
        if stop.load(Ordering::Relaxed) {
            written.was_stopped = true;
            break;
        }
        let wait = due(next).saturating_sub(now());
        if wait > 0 {
            std::thread::sleep(Duration::from_nanos(wait));
        }
        let begin = next;
        let most = begin + (room / bytes) as u64;
        let at_start = now();
        // Behind a write that took longer it is the disk that was waited for.
        let overslept = wait > 0;
        while next < most && due(next) <= at_start && due(next) < end {
            next += 1;
        }
        if next == begin {
            continue;
        }
        let length = ((next - begin) as usize * bytes).next_multiple_of(BLOCK).min(room);
        if at + length as u64 > FILE_BYTES {
            at = 0;
        }
        at += pwrite(file, &block[..length], at)? as u64;
        written.writes += 1;
        let done = now();
        if overslept {
            add(&mut written.lag, at_start.saturating_sub(due(begin)));
        }
        for number in begin..next {
            let from = if overslept { at_start } else { due(number) };
            add(&mut written.durable, done.saturating_sub(from));
            ticker.add(done.saturating_sub(from));
        }
        ticker.look(done);
    }
    let took = now();
    let lasted = if written.was_stopped { took } else { took.max(end) };
    written.seconds = lasted as f64 / 1e9;
    written.due = (took.min(end) as f64 / period).ceil() as u64;
    Ok(written)
}
