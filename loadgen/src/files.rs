//! Files that the load generator writes and reads. A file is whole or not there: it is written beside its place and renamed.

use crate::plan::Plan;
use crate::result::{Outcome, FORMAT};
use rustix::fs::{access, Access};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Writes a file, or leaves what was there. What is no plain file (a pipe, `/dev/stdout`) is written to as it is.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|known| !known.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    // Of a link, what it points at is replaced and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = beside(&path)?;
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Whether `write` has a place to write to; makes nothing.
pub fn check(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(known) if known.is_dir() => return Err("it is a directory".to_owned()),
        Ok(known) if !known.is_file() => return Ok(()),
        _ => {}
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    beside(&path).map_err(|error| error.to_string())?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(known) if !known.is_dir() => Err(format!("{shown} is no directory")),
        Ok(_) => access(dir, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| format!("the directory {shown} is not ours to write in: {error}")),
        Err(error) => Err(format!("the directory {shown}: {error}")),
    }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("this is no name of a file"))?;
    Ok(path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id())))
}

/// A result as it is written.
pub fn json(outcome: &Outcome) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(outcome).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a result. The message of an error names the file.
pub fn read(path: &Path) -> Result<Outcome, String> {
    let name = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("{name} is no result of ringkeeper-load: it has more than {BYTES_MAX} bytes"));
    }
    parse(&mut bytes).map_err(|why| format!("{name} {why}"))
}

/// A result of 100,000 intervals, which is the most that a run may have, is below this.
const BYTES_MAX: u64 = 256 << 20;

/// What every result has, whatever its format.
#[derive(Deserialize)]
struct Head {
    format: Option<u64>,
}

fn parse(bytes: &mut [u8]) -> Result<Outcome, String> {
    let none = |why: String| format!("is no result of ringkeeper-load: {why}");
    let no_number = || none("it has no format number".to_owned());
    // Parts that are not known are passed over, not kept: a crafted file costs no more memory than its fields.
    let head: Head = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => no_number(),
        _ => none(error.to_string()),
    })?;
    let format = head.format.ok_or_else(no_number)?;
    if format > u64::from(FORMAT) {
        return Err(format!(
            "is a result of format {format}; this ringkeeper-load reads up to {FORMAT}: use a newer one"
        ));
    }
    figures(bytes);
    let mut outcome: Outcome = serde_json::from_slice(bytes).map_err(|error| none(error.to_string()))?;
    // Its numbers of spaces are places: they must be there.
    outcome.load.plan = outcome.load.plan.map(Plan::checked).transpose().map_err(none)?;
    Ok(outcome)
}

/// JSON has no NaN and writes null; it is read as 0, which is "not measured" all over a result. Both are four bytes. A plan
/// that is null is none.
fn figures(bytes: &mut [u8]) {
    let (mut at, mut is_plan) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let begin = at + 1;
                at = begin;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                is_plan = bytes.get(begin..at) == Some(b"plan");
            }
            b'n' if bytes[at..].starts_with(b"null") => {
                if !is_plan {
                    bytes[at..at + 4].copy_from_slice(b"0.0 ");
                }
                at += 3;
            }
            b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => is_plan = false,
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let room = tempfile::tempdir().expect("a directory");
        let path = room.path().join("result.json");
        write(&path, b"one").expect("it is written");
        write(&path, b"two").expect("it is replaced");
        assert_eq!(fs::read(&path).expect("it is there"), b"two");
        let taken = room.path().join("taken");
        fs::create_dir(&taken).expect("a directory");
        assert!(write(&taken, b"x").is_err(), "a directory is no file");
        assert!(write(&room.path().join("none/x"), b"x").is_err());
        assert!(write(Path::new("/dev/full"), b"x").is_err());
        write(Path::new("/dev/null"), b"x").expect("a device takes it");
        let link = room.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        write(&link, b"three").expect("it is written");
        assert!(fs::symlink_metadata(&link).is_ok_and(|link| link.is_symlink()));
        assert_eq!(fs::read(&path).expect("it is there"), b"three");
        assert_eq!(fs::read_dir(room.path()).expect("it is read").count(), 3, "nothing is left beside");
    }

    #[test]
    fn what_could_not_be_written_is_known_before_and_nothing_is_made() {
        let room = tempfile::tempdir().expect("a directory");
        let file = room.path().join("file");
        fs::write(&file, "x").expect("it is written");
        for (path, want) in [
            (room.path().join("none/x.json"), "none: No such file"),
            (file.join("x.json"), "file is no directory"),
            (room.path().to_owned(), "it is a directory"),
            (PathBuf::from(".."), "it is a directory"),
        ] {
            let why = check(&path).expect_err(want);
            assert!(why.contains(want), "{}: {why}", path.display());
        }
        for path in [room.path().join("new.json"), file, PathBuf::from("new.json"), "/dev/full".into()] {
            check(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        }
        assert_eq!(fs::read_dir(room.path()).expect("it is read").count(), 1);
        assert!(!Path::new("new.json").exists());
    }

    #[test]
    fn what_is_written_is_read() {
        let mut outcome = Outcome { format: FORMAT, name: "one".to_owned(), ..Outcome::default() };
        outcome.all.intended.mean = f64::NAN;
        let read = parse(&mut json(&outcome).expect("it is written")).expect("it is read");
        assert_eq!((read.name.as_str(), read.all.intended.mean), ("one", 0.0));
        assert!(read.load.plan.is_none());
        let mut odd = br#"{"a \" null": null, "plan" : null, "b": [null,"null\\",null]}"#.to_vec();
        figures(&mut odd);
        let want = r#"{"a \" null": 0.0 , "plan" : null, "b": [0.0 ,"null\\",0.0 ]}"#;
        assert_eq!(String::from_utf8_lossy(&odd), want);
    }

    #[test]
    fn a_plan_that_could_not_be_carried_out_is_refused() {
        let mut outcome = Outcome { format: FORMAT, ..Outcome::default() };
        outcome.load.plan = Some(Plan { spaces: Vec::new(), requests: Vec::new(), multi_size: 1, seed: 1 });
        assert!(parse(&mut json(&outcome).expect("it is written")).is_err_and(|why| why.contains("a plan")));
    }

    #[test]
    fn what_is_no_result_is_said() {
        for (text, want) in [
            ("", "no result"),
            ("[]", "no format number"),
            ("7", "no format number"),
            ("{\"format\": 1}", "missing field"),
            ("{\"format\": \"x\"}", "no format number"),
            ("{\"format\": -1}", "no format number"),
            ("{\"format\": 99, \"other\": []}", "format 99"),
        ] {
            let why = parse(&mut text.as_bytes().to_vec()).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        }
        let why = read(Path::new("/dev/zero")).expect_err("it has no end");
        assert!(why.contains("more than"), "{why}");
        let why = read(Path::new("/none/such.json")).expect_err("it is not there");
        assert!(why.contains("/none/such.json"));
    }
}
