//! A process that appends is killed again and again, with every driver in turn: each acknowledged entry is
//! there afterwards, nothing that was not submitted is. `KILLS` says how often.
//!
//! A killed process leaves the page cache behind; power cuts are `crash_images`'.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringkeeper::host::disk::{DataDir, DirOptions, Log, LogIo, LogOptions, SubmitError};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::{Append, HardState, Sequence};

const CHILD: &str = "RINGKEEPER_TEST_KILL";
const NAME: &str = "what_was_acknowledged_survives_kill_9";

/// So many entries stay readable; older ones are purged, so that segments are recycled under fire.
const KEPT: u64 = 300;

fn open(path: &Path, from: u64, io: LogIo) -> (DataDir, Log) {
    let options = DirOptions { path: path.to_owned(), log_path: None, server: ServerId(1) };
    let mut dir = DataDir::open(&options).unwrap();
    let options = LogOptions { io, segment_bytes: 512 << 10, space_low_bytes: 0, ..LogOptions::default() };
    let (log, _) = Log::open(&mut dir, &options, LogIndex(from)).unwrap_or_else(|e| panic!("refused: {e}"));
    (dir, log)
}

fn payload(index: u64) -> Vec<u8> {
    let len = (index.wrapping_mul(0x9e37_79b9) >> 7) % 9000;
    (0..len).map(|i| (index ^ i) as u8).collect()
}

/// Appends until killed and says what is durable.
fn child(path: &Path, from: u64, io: LogIo) {
    let (_dir, mut log) = open(path, from, io);
    let (wake, _bell) = std::io::pipe().unwrap();
    let mut out = std::io::stdout().lock();
    let mut under_way: Vec<(Sequence, u64)> = Vec::new();
    let mut acked = log.last_index().0;
    loop {
        let index = log.last_index().0 + 1;
        let bytes = payload(index);
        let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(acked) };
        let zxids = (Zxid(index.cast_signed()), Zxid(index.cast_signed()));
        match log.submit(&Append::entry(0, Term(1), LogIndex(index), zxids, hard_state, &[&bytes])) {
            Ok(sequence) => under_way.push((sequence, index)),
            Err(SubmitError::Full) => {
                log.wait(Duration::from_secs(10), wake.as_fd()).unwrap();
            }
            Err(e) => panic!("{e}"),
        }
        let durable = log.durable();
        while under_way.first().is_some_and(|(sequence, _)| *sequence <= durable) {
            acked = under_way.remove(0).1;
        }
        writeln!(out, "acked {acked}").unwrap();
        out.flush().unwrap();
        log.purge(LogIndex(acked.saturating_sub(KEPT)));
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Ok(told) = std::env::var(CHILD) {
        let mut words = told.splitn(3, ' ');
        let io =
            [LogIo::Auto, LogIo::Thread, LogIo::Buffered][words.next().unwrap().parse::<usize>().unwrap()];
        let from = words.next().unwrap().parse().unwrap();
        return child(Path::new(words.next().unwrap()), from, io);
    }
    let kills: u64 = std::env::var("KILLS").map_or(12, |k| k.parse().expect("KILLS is a number"));
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut acked = 0u64;
    for kill in 0..kills {
        let from = acked.saturating_sub(KEPT - 10);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, format!("{} {from} {}", kill % 3, home.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Somewhere in the first second of its work.
        let lines_wanted = 1 + kill.wrapping_mul(7919) % 900;
        let mut lines = 0;
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(index) = line.strip_prefix("acked ").and_then(|n| n.parse::<u64>().ok()) else {
                continue;
            };
            // A line may be cut short by the kill.
            acked = acked.max(index);
            lines += 1;
            if lines == lines_wanted {
                process.kill().unwrap();
            }
        }
        let ended = process.wait().unwrap();
        assert!(lines >= lines_wanted, "kill {kill}: the child ended by itself: {ended}");

        let from = acked.saturating_sub(KEPT - 10);
        let (_dir, mut log) = open(home.path(), from, LogIo::Auto);
        let last = log.last_index().0;
        assert!((acked..=acked + 5).contains(&last), "kill {kill}: acknowledged {acked}, found {last}");
        for index in (from + 1).max(1)..=last {
            assert_eq!(
                &log.read(LogIndex(index)).unwrap()[..],
                &payload(index)[..],
                "kill {kill}, entry {index}"
            );
        }
        acked = last;
    }
    println!("{kills} kills, {acked} entries");
}
