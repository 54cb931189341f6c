//! The commands that end: `check`, `inspect` and `verify` look and change nothing, `leave` asks a running server for
//! something, `recover` makes a new data directory.
//!
//! They write line by line, so that a large file needs no large memory, and a reader that goes away (`| head`) is no
//! error.

mod describe;
mod leave;
mod recover;
mod verify;

pub use leave::leave;
pub use recover::recover;
pub use verify::verify;

use super::disk::inspect_segment;
use super::logging::complain;
use super::preflight::{self, EX_CONFIG, EX_OSERR};
use super::EX_IOERR;
use crate::config::{self, InspectKind, ServeArgs};
use crate::snapshot::{self, SnapshotError};
use describe::describe_batch;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;

/// Reads the configuration, looks at the machine, prints both. The exit code is the one that `serve` would end with.
#[must_use]
pub fn check(args: &ServeArgs) -> i32 {
    let (config, warnings) = match config::load(args) {
        Ok(loaded) => loaded,
        Err(invalid) => {
            complain(invalid);
            return EX_CONFIG;
        }
    };
    let (report, examined) = preflight::examine(&config);
    printing(|out| {
        for warning in &warnings {
            writeln!(out, "warning {warning}")?;
        }
        write!(out, "{report}")?;
        match &examined {
            Ok(preflight) => {
                writeln!(out, "# the configuration with all its defaults, as a zoo.cfg")?;
                write!(out, "{config}")?;
                writeln!(out, "# {}", config.places())?;
                let shards = preflight.shards;
                let word = if shards == 1 { "shard" } else { "shards" };
                writeln!(out, "# a server would start with {shards} {word}")?;
                Ok(0)
            }
            Err(refusal) => {
                writeln!(out, "a server would not start: exit code {}", refusal.exit)?;
                Ok(refusal.exit)
            }
        }
    })
}

/// Prints what a file of a data directory holds. 74 if it is damaged or another kind of file.
#[must_use]
pub fn inspect(kind: InspectKind, file: &Path) -> i32 {
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            complain(format_args!(
                "{}: not a file: name a segment (log/*.seg) or a snapshot (snapshot/*.snap)",
                file.display()
            ));
            return EX_CONFIG;
        }
        Err(error) => {
            complain(format_args!("{}: {error}", file.display()));
            return EX_OSERR;
        }
    }
    printing(|out| match kind {
        InspectKind::Log => match inspect_segment(file, out, &mut describe_batch) {
            Ok(true) => Ok(0),
            Ok(false) => Ok(EX_IOERR),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error),
            Err(error) => {
                complain(format_args!("{}: {error}", file.display()));
                Ok(EX_OSERR)
            }
        },
        InspectKind::Snapshot => inspect_snapshot(file, out),
    })
}

fn inspect_snapshot(file: &Path, out: &mut dyn Write) -> io::Result<i32> {
    let refused = |out: &mut dyn Write, error: &SnapshotError| {
        writeln!(out, "DAMAGED: {}: {error}", file.display())?;
        Ok(EX_IOERR)
    };
    // The summary is behind the last checksum: two readings, so that no line is printed of a file that lies.
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    match snapshot::summary(&mut input) {
        Ok(summary) => write!(out, "{summary}")?,
        Err(error) => return refused(out, &error),
    }
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let dump = match snapshot::Dump::open(&mut input) {
        Ok(dump) => dump,
        Err(error) => return refused(out, &error),
    };
    for line in dump {
        match line {
            Ok(line) => writeln!(out, "{line}")?,
            Err(error) => return refused(out, &error),
        }
    }
    Ok(0)
}

/// Runs what prints. Whoever reads may have seen enough: then it ends, with 0.
fn printing(work: impl FnOnce(&mut dyn Write) -> io::Result<i32>) -> i32 {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = work(&mut out).and_then(|exit| out.flush().map(|()| exit));
    // Bytes that nobody takes are not tried again when it is dropped.
    let _ = out.into_parts();
    match printed {
        Ok(exit) => exit,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            complain(error);
            EX_OSERR
        }
    }
}
