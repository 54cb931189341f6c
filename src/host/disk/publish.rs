//! A file appears whole or not at all: written under another name, synced, renamed, directory synced.

use std::io::{self, BufWriter, Write};
use std::path::Path;
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

/// How a long file goes on to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// With pauses.
    Rests,
    /// Somebody waits for it.
    Hurries,
    /// Not at all: nobody wants it any more.
    Ends,
}

/// Makes a long file that was written at once durable in pieces; `pace` is asked behind each.
pub fn sync_paced(file: &mut dyn SyncWrite, pace: &dyn Fn() -> Pace) -> io::Result<()> {
    let mut began = Instant::now();
    while file.settle(PIECE_BYTES) {
        match pace() {
            Pace::Rests => rest(began),
            Pace::Hurries => {}
            Pace::Ends => return Err(io::Error::other("it is not wanted any more")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// So many pieces, and what was done to it.
    struct Pieces {
        left: u32,
        synced: u32,
        is_bad: bool,
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl SyncWrite for Pieces {
        fn sync(&mut self) -> io::Result<()> {
            assert_eq!(self.left, 0, "all of it has gone before");
            self.synced += 1;
            if self.is_bad {
                return Err(io::Error::other("bad"));
            }
            Ok(())
        }

        fn settle(&mut self, most: u64) -> bool {
            assert_eq!(most, PIECE_BYTES);
            self.left -= 1;
            self.left > 0
        }
    }

    #[test]
    fn a_long_file_is_synced_once_behind_its_pieces_or_given_up() {
        let asked = Cell::new(0);
        let pace = |then: Pace| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                if asked.get() % 3 == 0 {
                    then
                } else {
                    Pace::Rests
                }
            }
        };
        let mut file = Pieces { left: 5, synced: 0, is_bad: false };
        sync_paced(&mut file, &pace(Pace::Hurries)).unwrap();
        assert_eq!((file.left, file.synced, asked.take()), (0, 1, 4));
        let mut file = Pieces { left: 5, synced: 0, is_bad: false };
        assert!(sync_paced(&mut file, &pace(Pace::Ends)).is_err());
        assert_eq!((file.left, file.synced, asked.take()), (2, 0, 3));
        let mut file = Pieces { left: 1, synced: 0, is_bad: true };
        assert!(sync_paced(&mut file, &pace(Pace::Ends)).is_err(), "what cannot be synced is not kept");
    }
}
