//! A leader's snapshot takes the log's place: with the power cut after every single step, and again while the start
//! that follows finishes it. Nothing of the hard state is lost, and no lost tail passes for an install.

#[allow(dead_code)] // shared with the log's other tests
mod power;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use power::{Dice, PowerBackend, PowerDisk};
use ringkeeper::host::disk::{
    list_snapshots, publish_file, segment_path, Disk, Log, LogError, LogOptions, LogPlace,
};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::{Append, DamageReason, HardState, Recovered, SegmentHeader, SegmentNumber, BLOCK};

const LOG: &str = "/data/log";
const MARKER: &str = "/data/ringkeeper.id";
const SNAPSHOTS: &str = "/data/snapshot";

fn place(disk: &PowerDisk) -> LogPlace {
    LogPlace {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from(LOG),
        cluster: 42,
        server: ServerId(1),
        begun: disk.list(Path::new("/data")).unwrap().iter().any(|i| i.name == "ringkeeper.id"),
    }
}

fn open(disk: &PowerDisk, from: u64) -> Result<(Log, Recovered), LogError> {
    let options =
        LogOptions { segment_bytes: 64 << 10, space_low_bytes: 0, ballast: false, ..LogOptions::default() };
    let opened =
        Log::open_with(place(disk), &options, Box::new(PowerBackend::new(disk, 3)), true, LogIndex(from))?;
    if !place(disk).begun {
        publish_file(disk, Path::new(MARKER), |w| w.write_all(b"begun")).unwrap();
    }
    Ok(opened)
}

fn publish_snapshot(disk: &PowerDisk, index: u64) {
    let path = format!("{SNAPSHOTS}/{index:016x}-{index:016x}.snap");
    publish_file(disk, Path::new(&path), |w| w.write_all(&index.to_le_bytes())).unwrap();
}

/// The index of the newest snapshot. It is whole.
fn newest_snapshot(disk: &PowerDisk) -> u64 {
    let newest = list_snapshots(disk, Path::new(SNAPSHOTS)).unwrap().into_iter().next();
    newest.map_or(0, |file| {
        assert_eq!(disk.read_at(&file.path, 0, 64).unwrap(), file.index.0.to_le_bytes());
        file.index.0
    })
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote, commit: LogIndex(commit) }
}

fn append(log: &mut Log, index: u64, term: u64, hard_state: HardState) {
    let bytes = payload(index, term);
    let (zxid, pieces) = (Zxid(index.cast_signed()), [&bytes[..]]);
    log.submit(&Append::entry(0, Term(term), LogIndex(index), (zxid, zxid), hard_state, &pieces)).unwrap();
    log.drain().unwrap();
}

fn payload(index: u64, term: u64) -> Vec<u8> {
    vec![(index * 7 + term) as u8; 900 * (index as usize % 7)]
}

fn check_entries(log: &mut Log, indices: std::ops::RangeInclusive<u64>, term: u64) {
    for index in indices {
        assert_eq!(log.entry(LogIndex(index)).expect("no gap").term, Term(term), "entry {index}");
        assert_eq!(&log.read(LogIndex(index)).unwrap()[..], &payload(index, term)[..], "entry {index}");
    }
}

/// How far the life had come when the power went.
const VOTED: u64 = 1;
const PUBLISHED: u64 = 2;
const RESTARTED: u64 = 3;
/// And one for each entry behind the snapshot.
const APPENDED: u64 = 10;

/// Entries that the own log holds, all of term 1, and the snapshot that takes their place.
#[derive(Clone, Copy, Debug)]
struct Case {
    own: u64,
    index: u64,
    term: u64,
}

const CASES: [Case; 7] = [
    Case { own: 10, index: 50, term: 6 },
    Case { own: 10, index: 50, term: 4 },
    Case { own: 10, index: 11, term: 4 },
    // Against the last entry, and against one with others behind it.
    Case { own: 10, index: 10, term: 4 },
    Case { own: 24, index: 6, term: 4 },
    Case { own: 0, index: 7, term: 2 },
    Case { own: 24, index: 25, term: 1 },
];

impl Case {
    /// A whole life: own entries, a snapshot of them, the leader's, entries behind that. And the event that the leader's
    /// begins with.
    fn live(self) -> (PowerDisk, usize) {
        let Case { own, index, term } = self;
        let disk = PowerDisk::default();
        let (mut log, _) = open(&disk, 0).unwrap();
        (1..=own).for_each(|i| append(&mut log, i, 1, hard_state(1, 1, (i - 1).min(3))));
        if own > 0 {
            publish_snapshot(&disk, 2);
        }
        let first = disk.events();
        log.announce_snapshot(LogIndex(index), Term(term)).unwrap();
        log.submit(&Append::hard_state(hard_state(5, 2, own.min(3)))).unwrap();
        log.drain().unwrap();
        disk.mark(VOTED);
        publish_snapshot(&disk, index);
        disk.mark(PUBLISHED);
        // Something is in flight.
        log.submit(&Append::hard_state(hard_state(5, 2, own.min(3)))).unwrap();
        let next = log.submit(&Append::hard_state(hard_state(6, 0, own.min(3)))).unwrap().next();
        log.restart_at(LogIndex(index), Term(term), hard_state(6, 3, index)).unwrap();
        disk.mark(RESTARTED);
        assert!(log.durable() >= next, "the records go on being counted, behind those in flight");
        assert_eq!(log.base(), (LogIndex(index), Term(term)));
        assert_eq!((log.first_index().0, log.last_index().0), (index + 1, index));
        assert_eq!(log.segments(), 1);
        for gone in [0, 1, own, index, index + 1, u64::MAX] {
            assert_eq!(log.entry(LogIndex(gone)), None, "{gone}");
            assert_eq!(log.read(LogIndex(gone)), Err(LogError::NoSuchEntry), "{gone}");
        }
        for more in 1..=20 {
            append(&mut log, index + more, 6, hard_state(6, 3, index));
            disk.mark(APPENDED + more);
        }
        assert!(log.segments() > 1);
        log.purge(LogIndex(index + 1));
        check_entries(&mut log, index + 1..=index + 20, 6);
        log.purge(LogIndex(index + 15));
        assert!(log.base().0 > LogIndex(index) && log.first_index() <= LogIndex(index + 15));
        (disk, first)
    }

    /// What a start must find. Opens, checks, and gives the open log back.
    fn check(self, disk: &PowerDisk, marks: &[u64]) -> Log {
        let Case { own, index, term } = self;
        let from = newest_snapshot(disk);
        let (mut log, recovered) = open(disk, from).unwrap_or_else(|e| panic!("refused: {e}"));
        let reached = |mark| marks.contains(&mark);
        let HardState { term: seen, vote, .. } = recovered.hard_state;
        let known: &[(u64, u64)] = match () {
            () if reached(RESTARTED) => &[(6, 3)],
            () if reached(PUBLISHED) => &[(5, 2), (6, 0), (6, 3)],
            () if reached(VOTED) => &[(5, 2)],
            () if own > 0 => &[(1, 1), (5, 2)],
            () => &[(0, 0), (5, 2)],
        };
        // A start that goes on behind the snapshot has seen its term.
        let risen =
            known.iter().any(|(known, _)| *known < term) && from == index && (seen.0, vote) == (term, 0);
        assert!(from != index || seen.0 >= term);
        assert!(risen || known.contains(&(seen.0, vote)), "term {} vote {vote}", seen.0);
        if from == index {
            let more = log.last_index().0 - index;
            let acked = marks.iter().max().map_or(0, |mark| mark.saturating_sub(APPENDED));
            assert!(
                (acked..=acked + 1).contains(&more),
                "{acked} entries were acknowledged, {more} are there"
            );
            assert!(log.base().0 >= LogIndex(index));
            assert!(log.base().0 > LogIndex(index) || log.base().1 == Term(term));
            let first = log.first_index().0;
            check_entries(&mut log, first..=index + more, 6);
            assert_eq!(recovered.hard_state.commit, LogIndex(index));
        } else {
            assert!(!reached(PUBLISHED), "the snapshot is lost");
            if reached(VOTED) {
                assert_eq!(log.last_index().0, own);
            }
            let (first, last) = (log.first_index().0, log.last_index().0);
            check_entries(&mut log, first..=last, 1);
        }
        log
    }
}

#[test]
fn the_power_may_go_at_every_step() {
    let (mut images, mut finished, mut kept) = (0, 0, 0);
    for case in CASES {
        let (disk, first) = case.live();
        for cut in first..=disk.events() {
            let marks = disk.marks(cut);
            for seed in 0..2 {
                let mut dice = Dice(cut as u64 * 977 + seed);
                let image = disk.image(cut, &mut dice);
                println!("{case:?}, cut {cut}, seed {seed}");
                let again = image.copy();
                let mut log = case.check(&image, &marks);
                images += 1;
                let from = newest_snapshot(&image);
                let half_way = from == case.index && !marks.contains(&RESTARTED);
                finished += u64::from(half_way);
                kept += u64::from(from != case.index && marks.contains(&VOTED));
                // It goes on, and comes back.
                let next = log.last_index().0 + 1;
                append(&mut log, next, 8, hard_state(8, 1, from));
                log.close().unwrap();
                let (mut log, _) = open(&image, from).unwrap();
                assert_eq!(log.last_index().0, next);
                check_entries(&mut log, next..=next, 8);
                assert!(place(&image).recover(None).is_ok(), "every segment that is there fits");
                // The power goes again during the start that finishes it.
                if half_way {
                    case.check(&again, &marks);
                    for second in again.setup()..=again.events() {
                        case.check(&again.image(second, &mut dice), &marks);
                    }
                }
            }
        }
    }
    println!("{images} images, {finished} finished by the start, {kept} announced and not come");
    assert!(finished > 50 && kept > 20, "{finished} finished, {kept} kept");
}

/// An own log of ten entries, and what else is done to it.
fn ten(more: impl FnOnce(&PowerDisk, &mut Log)) -> PowerDisk {
    let disk = PowerDisk::default();
    let (mut log, _) = open(&disk, 0).unwrap();
    (1..=10).for_each(|i| append(&mut log, i, 1, hard_state(1, 1, i - 1)));
    more(&disk, &mut log);
    drop(log);
    disk
}

fn refusal(disk: &PowerDisk, from: u64) -> DamageReason {
    match open(disk, from).err() {
        Some(LogError::Damaged(damage)) => damage.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_ends_before_a_snapshot_is_damage_unless_that_one_was_announced() {
    let ends_before = |held| DamageReason::EndsBefore { held: LogIndex(held), last: LogIndex(10) };
    let none = ten(|_, _| ());
    assert_eq!(refusal(&none, 50), ends_before(50));
    let other = ten(|_, log| log.announce_snapshot(LogIndex(49), Term(4)).unwrap());
    assert_eq!(refusal(&other, 50), ends_before(50));
    assert_eq!(refusal(&other, 48), ends_before(48));
    assert_eq!(open(&other, 49).unwrap().0.base(), (LogIndex(49), Term(4)));
    // A start without the snapshot keeps the log and what was announced, for the start that can read it.
    let later = ten(|_, log| log.announce_snapshot(LogIndex(50), Term(4)).unwrap());
    let (mut log, recovered) = open(&later, 9).unwrap();
    assert_eq!(recovered.announced, Some((LogIndex(50), Term(4))));
    append(&mut log, 11, 1, hard_state(1, 1, 9));
    drop(log);
    assert_eq!(open(&later, 50).unwrap().0.base(), (LogIndex(50), Term(4)));
    // Whatever is written meanwhile.
    let rolled = ten(|_, log| {
        log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
        for term in 1..=40 {
            log.submit(&Append::hard_state(hard_state(term, 2, 9))).unwrap();
            log.drain().unwrap();
        }
        assert!(log.segments() > 3, "{}", log.segments());
    });
    let (log, recovered) = open(&rolled, 50).unwrap();
    assert_eq!((log.base(), recovered.hard_state), ((LogIndex(50), Term(4)), hard_state(40, 2, 50)));
    // A vote that cannot be read is not given again, whatever the snapshot holds.
    let damaged = ten(|disk, log| {
        log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
        let vote = Append::hard_state(hard_state(5, 2, 9));
        (0..2).for_each(|_| {
            log.submit(&vote).unwrap();
            log.drain().unwrap();
        });
        disk.flip(&segment_path(Path::new(LOG), SegmentNumber(2)), BLOCK as u64 + 90, 1);
    });
    assert!(matches!(refusal(&damaged, 50), DamageReason::Record(_)));
}

#[test]
fn what_is_lost_after_the_install_is_damage() {
    let install = |log: &mut Log| {
        log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
        log.restart_at(LogIndex(50), Term(4), hard_state(6, 3, 50)).unwrap();
    };
    // The header that alone says whom we voted for.
    let header = ten(|disk, log| {
        install(log);
        disk.flip(&segment_path(Path::new(LOG), SegmentNumber(3)), 88, 1);
    });
    assert!(matches!(refusal(&header, 50), DamageReason::Header(_)));
    // The snapshot: an older one does not do.
    let snapshot = ten(|_, log| install(log));
    assert!(matches!(refusal(&snapshot, 9), DamageReason::BeginsAfter { needed: LogIndex(10), .. }));
}

#[test]
fn what_the_log_got_to_by_itself_is_not_excused_any_more() {
    let disk = ten(|disk, log| {
        log.announce_snapshot(LogIndex(12), Term(1)).unwrap();
        append(log, 11, 1, hard_state(1, 1, 10));
        append(log, 12, 1, hard_state(1, 1, 11));
        let at = log.entry(LogIndex(11)).unwrap();
        let segments = log.segments();
        for _ in 0..3 {
            log.submit(&Append::hard_state(hard_state(5, 2, 12))).unwrap();
            log.drain().unwrap();
        }
        assert_eq!(log.segments(), segments + 1);
        disk.truncate(&segment_path(Path::new(LOG), at.segment), at.offset).unwrap();
    });
    // The snapshot holds what was cut off, but the vote has to be known.
    let (log, recovered) = open(&disk, 12).unwrap();
    assert_eq!((log.base(), recovered.hard_state), ((LogIndex(12), Term(1)), hard_state(5, 2, 12)));
    assert!(matches!(refusal(&disk, 9), DamageReason::Record(_)));
    // Nor is it carried on.
    let disk = ten(|_, log| {
        log.announce_snapshot(LogIndex(11), Term(1)).unwrap();
        append(log, 11, 1, hard_state(1, 1, 10));
    });
    let (log, recovered) = open(&disk, 11).unwrap();
    assert_eq!((recovered.announced, log.base().0), (None, LogIndex(10)));
    assert_eq!(log.last_index(), LogIndex(11));
    let last = segment_path(Path::new(LOG), SegmentNumber(3));
    assert_eq!(SegmentHeader::decode(&disk.read_at(&last, 0, BLOCK).unwrap()).unwrap().announced, None);
}

#[test]
fn on_a_full_disk_nothing_changes() {
    let disk = PowerDisk::default();
    let (mut log, _) = open(&disk, 0).unwrap();
    (1..=5).for_each(|i| append(&mut log, i, 1, hard_state(1, 1, i - 1)));
    disk.set_limit(Some(disk.used()));
    log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
    let events = disk.events();
    let refused = log.restart_at(LogIndex(50), Term(4), hard_state(6, 3, 50)).unwrap_err();
    assert!(matches!(refused, LogError::NoSpace { .. }), "{refused}");
    assert!(matches!(log.announce_snapshot(LogIndex(51), Term(4)), Err(LogError::NoSpace { .. })));
    assert_eq!(disk.events(), events);
    check_entries(&mut log, 1..=5, 1);
    append(&mut log, 6, 1, hard_state(1, 1, 5));
    disk.set_limit(None);
    log.restart_at(LogIndex(50), Term(4), hard_state(6, 3, 50)).unwrap();
    assert_eq!(log.base(), (LogIndex(50), Term(4)));
}

#[test]
fn misuse_ends_the_process() {
    type Misuse = fn(&mut Log);
    let rows: [(&str, Misuse); 6] = [
        ("term not seen", |log| {
            log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
            drop(log.restart_at(LogIndex(50), Term(4), hard_state(3, 2, 50)));
        }),
        ("not announced", |log| drop(log.restart_at(LogIndex(50), Term(4), hard_state(6, 3, 50)))),
        ("another", |log| {
            log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
            drop(log.restart_at(LogIndex(50), Term(5), hard_state(6, 3, 50)));
        }),
        ("committed", |log| drop(log.announce_snapshot(LogIndex(9), Term(4)))),
        ("older term", |log| {
            log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
            drop(log.restart_at(LogIndex(50), Term(4), hard_state(0, 0, 50)));
        }),
        ("vote forgotten", |log| {
            log.announce_snapshot(LogIndex(50), Term(4)).unwrap();
            drop(log.restart_at(LogIndex(50), Term(4), hard_state(1, 2, 50)));
        }),
    ];
    for (name, misuse) in rows {
        let mut reached = false;
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ten(|_, log| {
                reached = true;
                misuse(log);
            });
        }));
        assert!(reached && ended.is_err(), "{name}");
    }
}
