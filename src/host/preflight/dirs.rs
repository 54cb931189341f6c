//! A look at the data and log directories: there or makeable, ours, writable, not in use; and whether they take
//! O_DIRECT. Nothing is left behind: `host::disk` makes, marks and locks them afterwards.
//!
//! A directory with things in it that are not ours is refused, a ZooKeeper's above all: starting empty beside its
//! data would look like losing it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{is_locked, Report, EX_CONFIG, EX_OSERR};
use crate::config::Config;
use crate::host::disk::{first_inside, is_no_space};

/// The mark of a data directory, as `host::disk` writes it.
const MARKER: &str = "ringkeeper.id";
/// Locked by the server that uses the directory.
const LOCK: &str = "ringkeeper.lock";
/// What is left in a fresh volume, what charts and the image put beside the data, and what a first start that was cut
/// short leaves.
const HARMLESS: [&str; 8] =
    ["lost+found", "myid", "initialize", LOCK, "ringkeeper.id.tmp", "probe.tmp", "log", "snapshot"];
/// A directory with more entries is judged by these.
const ENTRIES_LOOKED_AT: usize = 10_000;

/// Looks at both directories. Says whether the log's filesystem takes O_DIRECT.
pub(super) fn examine(report: &mut Report, config: &Config) -> bool {
    let mut dirs = vec![("data dir", "dataDir", config.data_dir.as_path())];
    if config.log_dir != config.data_dir {
        dirs.push(("log dir", "dataLogDir", config.log_dir.as_path()));
    }
    let mut direct = true;
    for (subject, key, dir) in dirs {
        match judge(config, key, dir).and_then(|()| look(dir).map_err(|text| (EX_OSERR, text))) {
            Ok(Found::Usable(text)) => report.fine(subject, text),
            Ok(Found::Full(text)) => report.note(subject, text),
            Err((exit, text)) => {
                report.refuse(subject, exit, text);
                continue;
            }
        }
        if dir == config.log_dir {
            direct = direct_io(report, nearest(dir));
        }
    }
    direct
}

enum Found {
    Usable(String),
    Full(String),
}

/// Whether the directory, if it is there, can be ours.
fn judge(config: &Config, key: &str, dir: &Path) -> Result<(), (i32, String)> {
    let shown = dir.display();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if config.create_missing_dirs {
                Ok(())
            } else {
                let text = format!("{shown} is missing and datadir.autocreate is false: mount or make it");
                Err((EX_CONFIG, text))
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err((EX_CONFIG, format!("{shown} is not a directory: correct {key}")));
        }
        Err(error) => return Err((EX_OSERR, format!("{shown} can not be read: {error}. {}", whose(dir)))),
    };
    let names: Vec<String> = entries
        .take(ENTRIES_LOOKED_AT)
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    if dir.join(MARKER).exists() {
        return Ok(());
    }
    if names.iter().any(|name| name == "version-2") {
        let text = format!(
            "{shown} holds the data of a ZooKeeper (version-2), which this release neither reads nor touches: give an \
             empty {key}"
        );
        return Err((EX_CONFIG, text));
    }
    let inner = [&config.data_dir, &config.log_dir].map(|other| first_inside(dir, other));
    let stranger = names.iter().find(|name| {
        !name.starts_with('.')
            && !HARMLESS.contains(&name.as_str())
            && !inner.iter().flatten().any(|inner| inner == name.as_str())
    });
    match stranger {
        None => Ok(()),
        Some(name) => {
            let text = format!(
                "{shown} is no data directory of ringkeeper, and not empty (it holds {name:?}): give an empty {key}"
            );
            Err((EX_CONFIG, text))
        }
    }
}

/// Writes a file, there or where the directory will be made, and removes it; asks whether a server runs on it.
fn look(dir: &Path) -> Result<Found, String> {
    let shown = dir.display();
    let place = nearest(dir);
    let missing = place != dir;
    match write_probe(place) {
        Ok(()) => {}
        // A full disk is no reason not to start: the server comes up read-only.
        Err(error) if is_no_space(&error) => {
            return Ok(Found::Full(format!("{shown} is on a full disk: the server will be read-only")));
        }
        Err(error) => {
            let verb = if missing { "made" } else { "written" };
            return Err(format!("{shown} can not be {verb}: {error}. {}", whose(place)));
        }
    }
    if missing {
        return Ok(Found::Usable(format!("{shown} is missing and will be made")));
    }
    if File::open(dir.join(LOCK)).is_ok_and(|lock| is_locked(&lock)) {
        return Err(format!(
            "{shown} is in use by another ringkeeper: stop that one, or give another directory"
        ));
    }
    Ok(Found::Usable(format!("{shown} is writable")))
}

/// The directory itself, or what exists above it.
fn nearest(dir: &Path) -> &Path {
    match dir.ancestors().find(|path| path.as_os_str().is_empty() || path.exists()) {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new("."),
    }
}

fn write_probe(dir: &Path) -> io::Result<()> {
    let path = probe_path(dir);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let written = file.write_all(b"probe");
    // The first error is the one that tells.
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// One aligned page through O_DIRECT, as the log will write them.
fn direct_io(report: &mut Report, dir: &Path) -> bool {
    let path = probe_path(dir);
    let result = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(&path)
        .and_then(|file| file.write_all_at(&Page([0; 4096]).0, 0));
    // A kernel that refuses the flag may have made the file.
    if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
        let _ = std::fs::remove_file(&path);
    }
    match result {
        Ok(()) => {
            report.fine("log writes", "O_DIRECT");
            true
        }
        // Nothing can be found out on a full disk; the first write will.
        Err(error) if is_no_space(&error) => {
            report.note("log writes", "not tried out, the disk is full: the server will be read-only");
            true
        }
        Err(error) => {
            report.note(
                "log writes",
                format!("buffered and fdatasync: the filesystem refuses O_DIRECT ({error})"),
            );
            false
        }
    }
}

/// A name that nobody else has: in containers that share a volume every server may be process 1.
fn probe_path(dir: &Path) -> PathBuf {
    let mut bytes = [0; 8];
    // Without chance two may meet: a file that is there is never taken, and the start is refused.
    let _ = getrandom::fill(&mut bytes);
    dir.join(format!(".ringkeeper-probe-{}-{:016x}", std::process::id(), u64::from_ne_bytes(bytes)))
}

/// Who owns the nearest thing that exists, and who we are: what a permission error never says.
fn whose(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::metadata("/proc/self").map(|me| me.uid());
    let theirs = path.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    match (ours, theirs) {
        (Ok(ours), Some((path, theirs))) => format!(
            "The server runs as uid {ours}; {} belongs to uid {} with mode {:o}",
            path.display(),
            theirs.uid(),
            theirs.mode() & 0o7777
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{flags::KeyFlags, Sources};

    fn config(data: &Path, log: &Path, more: &[&str]) -> Config {
        let mut set = vec![format!("dataDir={}", data.display()), format!("dataLogDir={}", log.display())];
        set.extend(more.iter().map(|key| (*key).to_owned()));
        let flags = KeyFlags { set, ..KeyFlags::default() };
        Sources { flags, ..Sources::default() }.check().unwrap().0
    }

    fn refusal(config: &Config) -> Option<(i32, String)> {
        let mut report = Report::default();
        examine(&mut report, config);
        report.refusal.map(|refusal| (refusal.exit, refusal.text))
    }

    #[test]
    fn a_stranger_is_refused_with_what_to_do() {
        for (make, want) in [
            (&["photo.jpg"][..], Some("not empty (it holds \"photo.jpg\"): give an empty dataDir")),
            (&["version-2/log.1"], Some("holds the data of a ZooKeeper")),
            (&["lost+found/x", ".hidden", "myid", LOCK], None),
            (&["probe.tmp", "ringkeeper.id.tmp", "log/x", "snapshot/x"], None),
            (&[MARKER, "anything"], None),
            (&[], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for name in make {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let got = refusal(&config(dir.path(), dir.path(), &[]));
            match want {
                None => assert_eq!(got, None, "{make:?}"),
                Some(want) => {
                    let (exit, text) = got.expect("refused");
                    assert!(exit == EX_CONFIG && text.contains(want), "{make:?}: {text}");
                }
            }
        }
    }

    /// As servers of other containers do on a shared volume, where all of them are process 1.
    #[test]
    fn those_who_look_at_once_do_not_meet_each_other() {
        let dir = tempfile::tempdir().unwrap();
        assert_ne!(probe_path(dir.path()), probe_path(dir.path()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        write_probe(dir.path()).unwrap();
                        let mut report = Report::default();
                        direct_io(&mut report, dir.path());
                        let text = &report.findings[0].text;
                        assert!(!text.contains("File exists"), "{text}");
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_directory_inside_the_data_directory_is_no_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log/here");
        std::fs::create_dir_all(&log).unwrap();
        assert_eq!(refusal(&config(dir.path(), &log, &[])), None);
        assert_eq!(refusal(&config(dir.path(), &log, &[])), None, "a second start");
    }

    #[test]
    fn what_is_missing_or_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let (exit, text) = refusal(&config(&missing, &missing, &["datadir.autocreate=false"])).unwrap();
        assert!(exit == EX_CONFIG && text.contains("autocreate"), "{text}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (_, text) = refusal(&config(&file, &file, &[])).unwrap();
        assert!(text.contains("is not a directory: correct dataDir"), "{text}");
        let (exit, text) = refusal(&config(Path::new("/proc/none"), Path::new("/proc/none"), &[])).unwrap();
        assert!(exit == EX_OSERR && text.contains("can not be made") && text.contains("uid"), "{text}");
    }
}
