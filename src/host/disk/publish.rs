//! A file appears whole or not at all: written under another name, synced, renamed, directory synced.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::file::Disk;

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
        let mut buffered = BufWriter::with_capacity(256 << 10, &mut file);
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
