//! A file appears whole or not at all: written under another name, synced, renamed, directory synced.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::file::{Disk, SyncWrite};

/// A long file goes to the disk in pieces of this size, each followed by a pause of so many times what it took and of so
/// long at least: the log's writes go to the same disk. They meet it idle three times out of four, and where a host lends
/// its disk by so many bytes in 100 ms they find some left (32 MB a second are taken here; a snapshot of a million znodes
/// has 45).
const PIECE_BYTES: u64 = 256 << 10;
const REST: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(8);
/// The longest pause, so that a slow disk comes to an end.
const REST_MAX: Duration = Duration::from_millis(20);

/// A file in pieces.
struct Paced<'f> {
    file: &'f mut dyn SyncWrite,
    unsettled: u64,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.unsettled += n as u64;
        if self.unsettled >= PIECE_BYTES {
            self.unsettled = 0;
            let began = Instant::now();
            self.file.settle(u64::MAX);
            rest(began);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn rest(began: Instant) {
    std::thread::sleep((began.elapsed() * REST).clamp(REST_MIN, REST_MAX));
}

/// Makes a long file that was written at once durable in pieces, and rests between them until somebody waits for it.
pub fn sync_paced(file: &mut dyn SyncWrite, is_waited_for: &AtomicBool) -> io::Result<()> {
    let mut began = Instant::now();
    while file.settle(PIECE_BYTES) {
        if !is_waited_for.load(Ordering::Relaxed) {
            rest(began);
        }
        began = Instant::now();
    }
    file.sync()
}

/// Writes `path` through `write`. After a power cut the old content (or absence) or the new is there,
/// never a part. A leftover `.tmp` is removed by the next start.
pub fn publish_file(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file to publish has a directory"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let fresh = dir.join(name);
    let written = (|| {
        let mut file = disk.create(&fresh)?;
        let mut paced = Paced { file: &mut *file, unsettled: 0 };
        let mut buffered = BufWriter::with_capacity(PIECE_BYTES as usize, &mut paced);
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        file.sync()
    })();
    if let Err(e) = written {
        let _ = disk.remove(&fresh);
        return Err(e);
    }
    disk.rename(&fresh, path)?;
    disk.sync_dir(dir)
}
