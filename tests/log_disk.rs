//! The log and the data directory on a real file system, with every driver.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringkeeper::host::disk::{
    inspect_segment, install_sigbus_handler, segment_path, verify_log, AlignedBuf, DataDir, DirError,
    DirOptions, Disk, FileBytes, Item, Log, LogError, LogFile, LogIo, LogOptions, LogPlace, RealDisk,
    SpaceState, SubmitError, SyncWrite, ThreadBackend, IN_FLIGHT_MAX,
};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::{Append, HardState, Recovered, Sequence};

const DRIVERS: [LogIo; 3] = [LogIo::Auto, LogIo::Thread, LogIo::Buffered];

fn scratch() -> tempfile::TempDir {
    // Beside the build, not in /tmp: that may be a tmpfs without O_DIRECT. `LOG_TEST_DIR` names another file system.
    let home = std::env::var("LOG_TEST_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    tempfile::tempdir_in(home).unwrap()
}

fn open_dir(path: &Path) -> Result<DataDir, DirError> {
    DataDir::open(&DirOptions { path: path.to_owned(), log_path: None, server: ServerId(1) })
}

fn options(io: LogIo) -> LogOptions {
    LogOptions { segment_bytes: 256 << 10, io, space_low_bytes: 0, ..LogOptions::default() }
}

fn open_log(dir: &mut DataDir, io: LogIo) -> (Log, Recovered) {
    Log::open(dir, &options(io), LogIndex(0)).unwrap()
}

fn payload(index: u64) -> Vec<u8> {
    (0..(index * 37) % 9000).map(|i| (i * index) as u8).collect()
}

/// Submits an entry, waiting for a free place.
fn append(log: &mut Log, index: u64) -> Sequence {
    let bytes = payload(index);
    let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(index - 1) };
    let zxid = Zxid(index.cast_signed());
    let pieces = [&bytes[..bytes.len() / 3], &bytes[bytes.len() / 3..]];
    let append = Append::entry(0, Term(1), LogIndex(index), (zxid, zxid), hard_state, &pieces);
    let (wake, _keep) = pipe();
    while !log.can_submit() {
        log.wait(Duration::from_secs(10), wake.as_fd()).unwrap();
    }
    log.submit(&append).unwrap()
}

fn pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    std::io::pipe().unwrap()
}

fn check_entries(log: &mut Log, upto: u64) {
    for index in log.first_index().0..=upto {
        assert_eq!(&log.read(LogIndex(index)).unwrap()[..], &payload(index)[..], "entry {index}");
    }
    assert_eq!(log.read(LogIndex(upto + 1)), Err(LogError::NoSuchEntry));
}

#[test]
fn entries_survive_a_clean_stop_and_an_abrupt_one_with_every_driver() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, recovered) = open_log(&mut dir, io);
        assert_eq!(recovered, Recovered::default());
        println!("{io:?}: {}", log.driver());
        for index in 1..=400 {
            append(&mut log, index);
        }
        log.drain().unwrap();
        assert!(log.durable() >= Sequence(400));
        assert!(log.segments() > 3, "the log rolled");
        check_entries(&mut log, 400);
        log.close().unwrap();
        drop(dir);

        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, recovered) = open_log(&mut dir, io);
        assert_eq!(recovered.last(), (LogIndex(400), Term(1)));
        assert_eq!(recovered.hard_state, HardState { term: Term(1), vote: 1, commit: LogIndex(399) });
        assert_eq!(recovered.cut, None);
        for index in 401..=500 {
            append(&mut log, index);
        }
        log.drain().unwrap();
        drop(log);
        drop(dir);

        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, recovered) = open_log(&mut dir, io);
        assert_eq!(recovered.last().0, LogIndex(500));
        check_entries(&mut log, 500);
    }
}

/// What a follower meets that led for a moment: the entry that its leader knows is older than its own.
#[test]
fn an_older_entry_takes_the_place_of_a_newer_one_in_a_newer_term() {
    let home = scratch();
    let mut dir = open_dir(home.path()).unwrap();
    let (mut log, _) = open_log(&mut dir, LogIo::Thread);
    for (index, term, now) in [(1, 2, 2), (2, 5, 5), (2, 2, 6), (3, 6, 6)] {
        let hard_state = HardState { term: Term(now), vote: 1, commit: LogIndex(1.min(index - 1)) };
        let zxids = (Zxid(index.cast_signed()), Zxid(index.cast_signed()));
        log.submit(&Append::entry(0, Term(term), LogIndex(index), zxids, hard_state, &[b"x"])).unwrap();
    }
    log.drain().unwrap();
    drop(log);
    drop(dir);
    let (_, recovered) = open_log(&mut open_dir(home.path()).unwrap(), LogIo::Thread);
    let entries: Vec<_> = recovered.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect();
    assert_eq!(entries, [(1, 2), (2, 2), (3, 6)]);
}

/// A review found that a first record longer than what was looked at let the segment pass for unused: it was removed, with
/// what was acknowledged in it.
#[test]
fn a_segment_with_a_damaged_header_is_damage_however_long_its_first_record() {
    for first in [100, 3 << 20] {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let options = LogOptions { segment_bytes: 4 << 20, ..options(LogIo::Thread) };
        let (mut log, _) = Log::open(&mut dir, &options, LogIndex(0)).unwrap();
        for (index, len) in [(1, 3 << 20), (2, 1010 << 10), (3, first), (4, 100)] {
            let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(0) };
            let zxids = (Zxid(index), Zxid(index));
            let index = LogIndex(index.unsigned_abs());
            log.submit(&Append::entry(0, Term(1), index, zxids, hard_state, &[&vec![7; len]])).unwrap();
            log.drain().unwrap();
        }
        assert_eq!(log.segments(), 2);
        drop(log);
        let logs = std::fs::read_dir(home.path().join("log")).unwrap();
        let mut paths: Vec<_> = logs.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
        paths.sort();
        let segment = std::fs::OpenOptions::new().write(true).open(&paths[1]).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&segment, &[0xff], 200).unwrap();
        let opened = Log::open(&mut dir, &options, LogIndex(0));
        assert!(matches!(opened, Err(LogError::Damaged(_))), "{first}");
    }
}

/// One wait for the disk, however many there are; what does not fit waits for the next one.
#[test]
fn records_that_wait_together_go_as_one_write() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        let payloads: Vec<Vec<u8>> = (0..200).map(payload).collect();
        let pieces: Vec<[&[u8]; 1]> = payloads.iter().map(|bytes| [&bytes[..]]).collect();
        let append = |index: u64| {
            let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(index - 1) };
            let zxid = Zxid(index.cast_signed());
            Append::entry(0, Term(1), LogIndex(index), (zxid, zxid), hard_state, &pieces[index as usize])
        };
        let appends: Vec<Append<'_>> = (1..200).map(append).collect();
        let (mut taken, mut writes) = (0, 0);
        while taken < appends.len() {
            let (count, last) = log.submit_all(&appends[taken..]).unwrap();
            (taken, writes) = (taken + count, writes + 1);
            assert_eq!(last, Sequence(taken as u64), "each has its number");
            assert!(log.durable() < last);
            log.drain().unwrap();
            assert_eq!(log.durable(), last);
        }
        // Segments of 256 KiB, 900 KiB of records with their heads and edges.
        assert!((4..=8).contains(&writes), "{writes} writes");
        check_entries(&mut log, 199);
        drop(log);
        drop(dir);
        let (mut log, recovered) = open_log(&mut open_dir(home.path()).unwrap(), io);
        assert_eq!((recovered.entries.len(), recovered.hard_state.commit), (199, LogIndex(198)));
        check_entries(&mut log, 199);
    }
}

#[test]
fn no_more_than_four_writes_are_in_flight_and_a_large_record_is_refused() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        let hard_state = HardState::default();
        for _ in 0..IN_FLIGHT_MAX {
            log.submit(&Append::hard_state(hard_state)).unwrap();
        }
        assert_eq!(log.submit(&Append::hard_state(hard_state)), Err(SubmitError::Full));
        log.drain().unwrap();
        let large = vec![0; log.payload_bytes_max() + 1];
        let zxids = (Zxid(1), Zxid(1));
        let too_large = Append::entry(0, Term(0), LogIndex(1), zxids, hard_state, &[]);
        let pieces = [&large[..]];
        assert_eq!(log.submit(&Append { payload: &pieces, ..too_large }), Err(SubmitError::TooLarge));
        let pieces = [&large[1..]];
        log.submit(&Append { payload: &pieces, ..too_large }).unwrap();
        log.drain().unwrap();
        assert_eq!(log.read(LogIndex(1)).unwrap().len(), log.payload_bytes_max());
    }
}

#[test]
fn waiting_ends_at_a_wake_up_at_a_completion_or_in_time() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        let (wake, mut bell) = pipe();
        let waited = log.wait(Duration::from_millis(1), wake.as_fd()).unwrap();
        assert!(!waited.woken);
        bell.write_all(b"!").unwrap();
        for _ in 0..3 {
            let begun = Instant::now();
            assert!(log.wait(Duration::from_secs(60), wake.as_fd()).unwrap().woken, "level-triggered");
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let (silent, _bell) = pipe();
        let at = append(&mut log, 1);
        while log.durable() < at {
            assert!(!log.wait(Duration::from_secs(60), silent.as_fd()).unwrap().woken);
        }
    }
}

#[test]
fn a_log_may_be_opened_by_one_thread_and_used_by_another() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        let used = std::thread::spawn(move || {
            for index in 1..=50 {
                append(&mut log, index);
            }
            log.drain().unwrap();
            check_entries(&mut log, 50);
            log.close()
        });
        used.join().unwrap().unwrap();
    }
}

#[test]
fn after_quiet_an_empty_record_covers_the_last_one() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        let at = append(&mut log, 1);
        let (silent, _bell) = pipe();
        while log.durable() < at.next() {
            log.wait(Duration::from_secs(60), silent.as_fd()).unwrap();
        }
        // And only one: nothing has to cover the empty one.
        log.wait(Duration::from_millis(20), silent.as_fd()).unwrap();
        log.drain().unwrap();
        assert_eq!(log.durable(), at.next());
        drop(log);
        drop(dir);
        let segment = home.path().join("log/0000000000000001.seg");
        let mut bytes = fs::read(&segment).unwrap();
        bytes[4096 + 20] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let mut dir = open_dir(home.path()).unwrap();
        let refused = Log::open(&mut dir, &options(io), LogIndex(0)).err().unwrap();
        let text = refused.to_string();
        assert!(text.contains("segment 0000000000000001, offset 4096, record 1"), "{text}");
    }
}

#[test]
fn purging_recycles_segments_and_the_log_goes_on() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        for round in 1..=10u64 {
            for index in (round - 1) * 100 + 1..=round * 100 {
                append(&mut log, index);
            }
            log.drain().unwrap();
            log.purge(LogIndex(round * 100 - 20));
            assert!(log.first_index() <= LogIndex(round * 100 - 20));
            check_entries(&mut log, round * 100);
        }
        assert!(log.segments() < 5, "{} segments", log.segments());
        let kept = log.first_index();
        drop(log);
        drop(dir);
        let mut dir = open_dir(home.path()).unwrap();
        let too_old = Log::open(&mut dir, &options(io), LogIndex(0)).err().unwrap();
        assert!(too_old.to_string().contains("entry 1 is needed, but the log begins at"), "{too_old}");
        let (mut log, recovered) = Log::open(&mut dir, &options(io), LogIndex(kept.0 + 5)).unwrap();
        assert_eq!(recovered.last().0, LogIndex(1000));
        check_entries(&mut log, 1000);
        let files = fs::read_dir(home.path().join("log")).unwrap().count();
        assert!(files <= log.segments() + 3, "{files} files: what was purged is gone");
    }
}

#[test]
fn a_second_server_is_refused_until_the_first_has_gone() {
    let home = scratch();
    let first = open_dir(home.path()).unwrap();
    let refused = open_dir(home.path()).unwrap_err();
    assert!(refused.to_string().contains(&format!("(process {})", std::process::id())), "{refused}");
    assert_eq!(refused.exit_code(), 71);
    let id = first.cluster_id();
    drop(first);
    assert_eq!(open_dir(home.path()).unwrap().cluster_id(), id);
}

#[test]
fn foreign_and_damaged_directories_are_refused_and_left_alone() {
    let home = scratch();
    type Spoil = fn(&Path);
    let rows: [(&str, Spoil, &str, i32); 4] = [
        ("zookeeper", |d| fs::create_dir(d.join("version-2")).unwrap(), "holds ZooKeeper's data", 78),
        ("foreign", |d| fs::write(d.join("photo.jpg"), "x").unwrap(), "not ours", 78),
        ("file", |d| fs::write(d.join("log"), "x").unwrap(), "", 71),
        (
            "marker lost",
            |d| {
                fs::create_dir(d.join("log")).unwrap();
                fs::write(d.join("log/0000000000000001.seg"), "x").unwrap();
            },
            "ringkeeper.id is missing",
            74,
        ),
    ];
    for (name, spoil, want, code) in rows {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        spoil(&path);
        let before = fs::read_dir(&path).unwrap().count();
        let refused = open_dir(&path).unwrap_err();
        assert!(refused.to_string().contains(want), "{name}: {refused}");
        assert_eq!(refused.exit_code(), code, "{name}");
        assert_eq!(fs::read_dir(&path).unwrap().count(), before, "{name}: nothing was written");
    }
    // ZooKeeper's image leaves these in an otherwise new directory.
    let path = home.path().join("image");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("myid"), "1").unwrap();
    fs::write(path.join(".keep"), "").unwrap();
    open_dir(&path).unwrap();
}

/// The look before the start found nothing wrong with one directory in the other, and the start itself did.
#[test]
fn one_of_the_two_directories_may_lie_in_the_other() {
    for (data, log) in [(".", "txlog"), ("snap", "."), (".", "a/b")] {
        let home = scratch();
        let open = || {
            let options = DirOptions {
                path: home.path().join(data),
                log_path: Some(home.path().join(log)),
                server: ServerId(1),
            };
            DataDir::open(&options)
        };
        // As a mounted volume is there before the first start.
        fs::create_dir_all(home.path().join(log)).unwrap();
        let cluster = open().unwrap_or_else(|why| panic!("{data} {log}: {why}")).cluster_id();
        assert_eq!(open().unwrap().cluster_id(), cluster);
        // Anything else there is as strange as ever.
        let other = scratch();
        fs::create_dir(other.path().join("photos")).unwrap();
        fs::create_dir_all(other.path().join(log)).unwrap();
        let options = DirOptions {
            path: other.path().join(data),
            log_path: Some(other.path().join(log)),
            server: ServerId(1),
        };
        assert!(DataDir::open(&options).is_err());
    }
}

#[test]
fn a_flipped_byte_in_the_marker_is_refused_and_another_server_too() {
    let home = scratch();
    drop(open_dir(home.path()).unwrap());
    let marker = home.path().join("ringkeeper.id");
    let good = fs::read(&marker).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&marker, &bad).unwrap();
        let refused = open_dir(home.path()).expect_err(&format!("byte {at}"));
        assert!(matches!(refused, DirError::Damaged(..)), "{refused}");
    }
    fs::write(&marker, &good).unwrap();
    let options = DirOptions { path: home.path().to_owned(), log_path: None, server: ServerId(2) };
    let refused = DataDir::open(&options).unwrap_err();
    assert!(refused.to_string().contains("belongs to server 1, not 2"), "{refused}");
}

#[test]
fn a_log_directory_apart_belongs_to_its_data_directory() {
    let home = scratch();
    let open = |data: &str, log: &str| {
        DataDir::open(&DirOptions {
            path: home.path().join(data),
            log_path: Some(home.path().join(log)),
            server: ServerId(1),
        })
    };
    let mut dir = open("data", "log").unwrap();
    let marker = home.path().join("data/ringkeeper.id");
    let unbegun = fs::read(&marker).unwrap();
    let (mut log, _) = open_log(&mut dir, LogIo::Auto);
    append(&mut log, 1);
    log.close().unwrap();
    drop(dir);
    // A crash between the two halves: the log's was written. The next start mends it, or a log that is missing one day would
    // be taken for a new one.
    assert_ne!(fs::read(&marker).unwrap(), unbegun);
    fs::write(&marker, unbegun).unwrap();
    drop(open("data", "log").unwrap());
    assert!(home.path().join("log/log/0000000000000001.seg").exists());
    std::os::unix::fs::symlink(home.path().join("one"), home.path().join("link")).unwrap();
    fs::create_dir(home.path().join("one")).unwrap();
    open("one", "link").expect("the same directory under two names is one directory");
    let refused = open("data", "elsewhere").unwrap_err();
    assert!(refused.to_string().contains("not the one it was used with"), "{refused}");
    let refused = open("fresh", "log").unwrap_err();
    assert!(refused.to_string().contains("it is new, but the log directory"), "{refused}");
    let mut dir = open("data", "log").unwrap();
    let (_, recovered) = open_log(&mut dir, LogIo::Auto);
    assert_eq!(recovered.last().0, LogIndex(1));
}

#[test]
fn a_log_that_was_begun_and_is_gone_is_damage() {
    let home = scratch();
    let mut dir = open_dir(home.path()).unwrap();
    let (mut log, _) = open_log(&mut dir, LogIo::Auto);
    append(&mut log, 1);
    log.close().unwrap();
    for file in fs::read_dir(home.path().join("log")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let refused = Log::open(&mut dir, &options(LogIo::Auto), LogIndex(0)).err().unwrap();
    assert!(refused.to_string().contains("no segment is left"), "{refused}");
}

#[test]
fn a_page_that_the_disk_does_not_deliver_ends_the_process_with_a_message() {
    const CHILD: &str = "RINGKEEPER_TEST_SIGBUS";
    if let Ok(path) = std::env::var(CHILD) {
        // The child: its file loses its end under the mapping.
        install_sigbus_handler();
        let path = Path::new(&path);
        let bytes = RealDisk::for_reading().map(path).unwrap();
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
        let sum: u64 = bytes.as_ref().iter().map(|b| u64::from(*b)).sum();
        unreachable!("read {sum} from nowhere");
    }
    let home = scratch();
    let path = home.path().join("00000000000000ab.seg");
    fs::write(&path, vec![1; 3 * 4096]).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_page_that_the_disk_does_not_deliver_ends_the_process_with_a_message"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(
        said.contains("log segment 00000000000000ab.seg, offset 4096: the disk did not deliver"),
        "{said}"
    );
    assert_eq!(child.status.code(), Some(74));
}

#[test]
fn inspect_and_verify_say_what_is_there_and_touch_nothing() {
    let home = scratch();
    let refused = verify_log(home.path(), None, None).err().unwrap();
    assert!(refused.to_string().contains("holds no data of ours"), "{refused}");
    let mut dir = open_dir(home.path()).unwrap();
    let (mut log, _) = open_log(&mut dir, LogIo::Auto);
    for index in 1..=100 {
        append(&mut log, index);
    }
    log.close().unwrap();
    let report = verify_log(home.path(), None, None).unwrap();
    assert!(report.is_whole());
    let text = report.to_string();
    assert!(text.contains("entries 1 to 100 of term 1, committed 99, last zxid 0x64"), "{text}");
    let first = home.path().join("log/0000000000000001.seg");
    let mut out = Vec::new();
    inspect_segment(&first, &mut out, &mut |_, _| Ok(())).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("entry 1 term 1 tag 0 zxid 0x1..0x1 37 bytes | term 1 vote 1 commit 0"), "{text}");
    assert!(text.contains("the first of its log"), "{text}");

    let mut bytes = fs::read(&first).unwrap();
    bytes[4096 + 130] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let report = verify_log(home.path(), None, None).unwrap();
    assert!(
        report.to_string().contains("DAMAGED: log segment 0000000000000001, offset 4096, record 1"),
        "{report}"
    );
    let mut out = Vec::new();
    inspect_segment(&first, &mut out, &mut |_, _| Ok(())).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("DAMAGED"));
    assert!(verify_log(home.path(), None, Some(LogIndex(95))).unwrap().is_whole(), "a snapshot covers it");
    assert_eq!(fs::read(&first).unwrap(), bytes);
}

#[test]
fn snapshots_are_listed_newest_first_and_purged() {
    let home = scratch();
    let dir = open_dir(home.path()).unwrap();
    for index in [5u64, 300, 20] {
        let name = dir.snapshot_name(LogIndex(index), Zxid(index.cast_signed() * 2));
        dir.publish(&name, |w| w.write_all(&[7; 1000])).unwrap();
    }
    fs::write(dir.snapshot_path().join("notes.txt"), "x").unwrap();
    let found: Vec<_> = dir.snapshots().unwrap().iter().map(|s| (s.index.0, s.zxid.0, s.bytes)).collect();
    assert_eq!(found, [(300, 600, 1000), (20, 40, 1000), (5, 10, 1000)]);
    assert_eq!(dir.purge_snapshots(4).unwrap(), None);
    assert_eq!(dir.purge_snapshots(2).unwrap(), Some(LogIndex(20)));
    assert_eq!(dir.snapshots().unwrap().len(), 2);
    let failed = dir.publish(&dir.snapshot_name(LogIndex(9), Zxid(9)), |_| Err(std::io::Error::other("no")));
    failed.unwrap_err();
    assert_eq!(fs::read_dir(dir.snapshot_path()).unwrap().count(), 3, "no leftover");
}

#[test]
fn a_segment_has_its_whole_size_before_its_first_record_n03() {
    use std::os::unix::fs::MetadataExt;
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        append(&mut log, 1);
        log.drain().unwrap();
        let found = fs::metadata(home.path().join("log/0000000000000001.seg")).unwrap();
        assert_eq!(found.len(), 256 << 10);
        assert!(found.blocks() * 512 >= 256 << 10, "{} blocks: not only its length", found.blocks());
    }
}

#[test]
fn space_is_low_below_the_mark_and_ballast_is_kept() {
    let home = scratch();
    let mut dir = open_dir(home.path()).unwrap();
    let low = LogOptions { space_low_bytes: u64::MAX / 2, ..options(LogIo::Auto) };
    let (mut log, _) = Log::open(&mut dir, &low, LogIndex(0)).unwrap();
    assert_eq!(log.check_space(), SpaceState::Low);
    assert_eq!(fs::metadata(home.path().join("log/ballast")).unwrap().len(), 256 << 10);
    drop(log);
    let (mut log, _) = open_log(&mut dir, LogIo::Auto);
    assert_eq!(log.check_space(), SpaceState::Ok);
}

/// A file system that reserves nothing, with as much room as it is told, on which a ballast is not written before its time.
struct Unreserving {
    real: RealDisk,
    room: Arc<AtomicU64>,
    begun: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Disk for Unreserving {
    fn list(&self, dir: &Path) -> std::io::Result<Vec<Item>> {
        self.real.list(dir)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.real.read_at(path, offset, len)
    }

    fn map(&self, path: &Path) -> std::io::Result<FileBytes> {
        self.real.map(path)
    }

    fn read_direct(&self, path: &Path) -> std::io::Result<FileBytes> {
        self.real.read_direct(path)
    }

    fn create_zeroed(&self, path: &Path, len: u64, rest: &dyn Fn(Duration)) -> std::io::Result<()> {
        if path.ends_with("ballast") {
            self.begun.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(PATIENCE).map_err(std::io::Error::other)?;
        }
        self.real.create_zeroed(path, len, rest)
    }

    fn reserve(&self, path: &Path, _len: u64) -> std::io::Result<()> {
        fs::write(path, "")?;
        Err(std::io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn SyncWrite>> {
        self.real.create(path)
    }

    fn open_log(&self, path: &Path) -> std::io::Result<LogFile> {
        self.real.open_log(path)
    }

    fn write_durable(&self, file: &LogFile, offset: u64, bytes: &AlignedBuf) -> std::io::Result<usize> {
        self.real.write_durable(file, offset, bytes)
    }

    fn sync(&self, path: &Path) -> std::io::Result<()> {
        self.real.sync(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> std::io::Result<()> {
        self.real.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.real.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.real.sync_dir(dir)
    }

    fn available(&self, _dir: &Path) -> std::io::Result<u64> {
        Ok(self.room.load(Ordering::Relaxed))
    }
}

#[test]
fn a_ballast_that_has_to_be_written_holds_up_no_record() {
    let home = scratch();
    let dir = open_dir(home.path()).unwrap();
    let ballast = home.path().join("log/ballast");
    // What a crash in the midst of it leaves takes no room.
    fs::write(&ballast, [0; 4096]).unwrap();
    let room = Arc::new(AtomicU64::new(0));
    let ((begun, begins), (release, go_on)) = (channel(), channel());
    let real = RealDisk::probe(&home.path().join("log"), true).unwrap();
    let disk = Unreserving { real, room: room.clone(), begun, go_on: Mutex::new(go_on) };
    let place = LogPlace { disk: Arc::new(disk), ..LogPlace::of(&dir) };
    let backend = Box::new(ThreadBackend::start_thread(real.is_direct()).unwrap());
    let (mut log, _) = Log::open_with(place, &options(LogIo::Thread), backend, false, LogIndex(0)).unwrap();
    assert!(!ballast.exists(), "there was no room for it at the start");
    room.store(1 << 30, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    // It comes behind the segment ahead.
    while begins.try_recv().is_err() {
        assert_eq!(log.check_space(), SpaceState::Ok);
        assert!(Instant::now() < until, "nobody makes the ballast");
        std::thread::yield_now();
    }
    append(&mut log, 1);
    log.drain().unwrap();
    assert_eq!(log.check_space(), SpaceState::Ok);
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 0, "it is still to be written");
    release.send(()).unwrap();
    while !fs::metadata(&ballast).is_ok_and(|found| found.len() == 256 << 10) {
        assert!(Instant::now() < until, "the ballast is not written");
        std::thread::yield_now();
    }
    for _ in 0..3 {
        assert_eq!(log.check_space(), SpaceState::Ok);
    }
    log.close().unwrap();
    assert!(begins.try_recv().is_err(), "it is written once");
}

#[test]
fn the_log_goes_on_behind_a_snapshot_with_every_driver() {
    for io in DRIVERS {
        let home = scratch();
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, _) = open_log(&mut dir, io);
        for index in 1..=200 {
            append(&mut log, index);
        }
        log.announce_snapshot(LogIndex(500), Term(1)).unwrap();
        let at = append(&mut log, 201);
        let old = log.entry(LogIndex(100)).unwrap();
        let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(500) };
        log.restart_at(LogIndex(500), Term(1), hard_state).unwrap();
        assert!(log.durable() > at, "what was in flight is durable");
        assert_eq!(log.read_ref(&old), Err(LogError::NoSuchEntry));
        check_entries(&mut log, 500);
        assert!(append(&mut log, 501) > at);
        for index in 502..=800 {
            append(&mut log, index);
        }
        log.drain().unwrap();
        check_entries(&mut log, 800);
        log.purge(LogIndex(501));
        let segments = log.segments();
        assert!(log.purge(LogIndex(700)) > 0);
        assert!(log.segments() < segments);
        log.close().unwrap();
        drop(dir);

        let report = verify_log(home.path(), None, Some(LogIndex(699))).unwrap();
        assert!(report.is_whole(), "{report}");
        let mut dir = open_dir(home.path()).unwrap();
        let (mut log, recovered) = Log::open(&mut dir, &options(io), LogIndex(699)).unwrap();
        assert_eq!(recovered.last().0, LogIndex(800));
        check_entries(&mut log, 800);
        // Announced, not come: whoever looks sees it, and nothing is damaged.
        log.announce_snapshot(LogIndex(900), Term(2)).unwrap();
        let segment = recovered.segments.last().unwrap().number.next().next();
        log.close().unwrap();
        drop(dir);
        let mut text = Vec::new();
        let path = segment_path(&home.path().join("log"), segment);
        assert!(inspect_segment(&path, &mut text, &mut |_, _| Ok(())).unwrap());
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("a snapshot at entry 900 of term 2 is announced"), "{text}");
        for from in [699, 900] {
            let report = verify_log(home.path(), None, Some(LogIndex(from))).unwrap();
            assert!(report.is_whole(), "{from}: {report}");
        }
    }
}
