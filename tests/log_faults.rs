//! A disk that is really full, and a file system that really fails under the log: on small loop-mounted ext4
//! images. Where this user may not mount, the tests say so and pass.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringkeeper::host::disk::{DataDir, DirOptions, Log, LogIo, LogOptions, SpaceState, SubmitError};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::{Append, HardState};

const DRIVERS: [LogIo; 3] = [LogIo::Auto, LogIo::Thread, LogIo::Buffered];

/// One test at a time: a child of the other, between fork and exec, would still hold a lock that this one gave back.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small file system, unmounted when dropped.
struct Mounted {
    home: tempfile::TempDir,
}

impl Mounted {
    fn new(mib: u32) -> Option<Mounted> {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = home.path().join("image");
        File::create(&image).unwrap().set_len(u64::from(mib) << 20).unwrap();
        fs::create_dir(home.path().join("fs")).unwrap();
        let mounted = Mounted { home };
        let made = quiet("mkfs.ext4", &["-q", "-m", "0", image.to_str().unwrap()])
            && quiet("mount", &["-o", "loop", image.to_str().unwrap(), mounted.path().to_str().unwrap()]);
        if !made {
            println!("skipped: this user cannot make and mount a file system here");
            return None;
        }
        Some(mounted)
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("fs")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        quiet("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

fn quiet(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn open(path: &Path, io: LogIo) -> (DataDir, Log) {
    let options = DirOptions { path: path.join("data"), log_path: None, server: ServerId(1) };
    let mut dir = DataDir::open(&options).unwrap();
    let options =
        LogOptions { io, segment_bytes: 1 << 20, space_low_bytes: 4 << 20, ..LogOptions::default() };
    let (log, _) = Log::open(&mut dir, &options, LogIndex(0)).unwrap();
    (dir, log)
}

fn append(log: &mut Log) -> Result<(), SubmitError> {
    let index = log.last_index().0 + 1;
    let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(index - 1) };
    let zxids = (Zxid(index.cast_signed()), Zxid(index.cast_signed()));
    log.submit(&Append::entry(0, Term(1), LogIndex(index), zxids, hard_state, &[&[3; 20_000]]))?;
    log.drain()?;
    Ok(())
}

/// Writes until the disk is full.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    for piece in [1 << 20, 4096] {
        while filler.write_all(&vec![9; piece]).is_ok() {}
    }
    let _ = filler.sync_all();
}

/// Background work ends in its own time.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_is_low_then_full_and_comes_back_when_room_is_made() {
    let _alone = alone();
    for io in DRIVERS {
        let Some(mounted) = Mounted::new(24) else { return };
        let (dir, mut log) = open(&mounted.path(), io);
        assert_eq!(log.check_space(), SpaceState::Ok, "{io:?}");
        append(&mut log).unwrap();
        eventually("the segment ahead is there", || {
            fs::metadata(dir.log_path().join("0000000000000002.seg")).is_ok_and(|m| m.len() == 1 << 20)
        });
        let filler = mounted.path().join("filler");
        fill(&filler);
        assert_eq!(log.check_space(), SpaceState::Low, "{io:?}");
        // The segment ahead and the ballast still take what must go on.
        let mut taken = 1;
        let refused = loop {
            match append(&mut log) {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, SubmitError::NoSpace, "{io:?}");
        assert!(taken > 100, "{taken} records went into three segments");
        assert_eq!(log.check_space(), SpaceState::Full, "{io:?}");
        assert_eq!(log.last_index(), LogIndex(taken));

        fs::remove_file(&filler).unwrap();
        eventually("room is seen", || log.check_space() == SpaceState::Ok);
        append(&mut log).unwrap();
        log.close().unwrap();
        drop(dir);
        let (dir, log) = open(&mounted.path(), io);
        assert_eq!(log.last_index(), LogIndex(taken + 1));
        assert!(dir.log_path().join("ballast").exists(), "the ballast is back");
        // A restart on the full disk.
        log.close().unwrap();
        drop(dir);
        fill(&filler);
        let (dir, mut log) = open(&mounted.path(), io);
        assert_eq!(log.last_index(), LogIndex(taken + 1));
        assert_ne!(log.check_space(), SpaceState::Ok);
        append(&mut log).unwrap();
        drop((dir, log));
    }
}

#[test]
fn a_file_system_that_fails_ends_all_writing_and_loses_nothing() {
    let _alone = alone();
    for io in DRIVERS {
        let Some(mounted) = Mounted::new(24) else { return };
        let (dir, mut log) = open(&mounted.path(), io);
        for _ in 0..10 {
            append(&mut log).unwrap();
        }
        // As after an error of the device: the journal is aborted, the file system turns read-only.
        if !quiet("mount", &["-o", "remount,abort", mounted.path().to_str().unwrap()]) {
            println!("skipped: this kernel cannot abort a journal on demand");
            return;
        }
        let fault = append(&mut log).unwrap_err();
        let SubmitError::Fault(fault) = fault else { panic!("{io:?}: {fault}") };
        let text = fault.to_string();
        assert!(
            text.contains("0000000000000001.seg, offset 208896: Read-only file system"),
            "{io:?}: {text}"
        );
        assert!(text.contains("does not retry"), "{text}");
        assert_eq!(fault.exit_code(), 74);
        assert_eq!(append(&mut log), Err(SubmitError::Fault(fault.clone())));
        assert_eq!(log.close(), Err(fault));
        drop(dir);
        // The next start on it is refused, not served from memory.
        let options = DirOptions { path: mounted.path().join("data"), log_path: None, server: ServerId(1) };
        let refused = DataDir::open(&options).expect_err("read-only");
        assert_eq!(refused.exit_code(), 71, "{refused}");
    }
}
