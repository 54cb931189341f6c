//! Power cuts and flipped bytes on a whole server's data: sequencer, log, snapshots, purge.
//!
//! A random load runs on a recording disk; the power goes after random events, with a random part of what was not
//! synced. What recovery makes of it must be the state after exactly some prefix of the history between the last
//! acknowledged and the last submitted batch, also when the newest snapshot is damaged. Then single bits are flipped
//! in every file of a data directory on a real file system.
//!
//! `POWER_CUTS` and `FLIPS` say how many; `SEED` begins elsewhere.

#[allow(dead_code)] // shared with the log's own tests
mod power;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use power::{Dice, PowerBackend, PowerDisk};
use ringkeeper::host::disk::{
    list_snapshots, publish_file, DataDir, DirOptions, Disk, Log, LogError, LogIo, LogOptions, LogPlace,
};
use ringkeeper::host::{continue_from, load_base, load_state};
use ringkeeper::ids::ServerId;
use whole::{hasher, Home, World, ACKED, SUBMITTING};

const LOG: &str = "/data/log";
const SNAPSHOTS: &str = "/data/snapshot";
const MARKER: &str = "/data/ringkeeper.id";
const CLUSTER: u128 = 42;

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 96 << 10,
        io: LogIo::Thread,
        quiet: Duration::ZERO,
        space_low_bytes: 0,
        ..LogOptions::default()
    }
}

/// A start on a recording disk, by the server's own steps.
fn open(disk: &PowerDisk, history: Vec<Bytes>, low: usize, seed: u64) -> Result<World, LogError> {
    let place = LogPlace {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from(LOG),
        cluster: CLUSTER,
        server: ServerId(1),
        begun: disk.list(Path::new("/data")).unwrap().iter().any(|i| i.name == "ringkeeper.id"),
    };
    let begun = place.begun;
    let base = load_base(disk, Path::new(SNAPSHOTS), CLUSTER, &hasher()).unwrap();
    let backend = Box::new(PowerBackend::new(disk, seed));
    let opened = Log::open_with(place, &options(), backend, true, base.index)?;
    if !begun {
        publish_file(disk, Path::new(MARKER), |w| w.write_all(b"begun")).unwrap();
    }
    let home = Home {
        disk: Arc::new(disk.clone()),
        snapshots: SNAPSHOTS.into(),
        cluster: CLUSTER,
        marks: Some(disk.clone()),
    };
    World::begin(home, continue_from(base, opened), history, low, seed)
}

/// What the remarks before a cut promise.
fn bounds(disk: &PowerDisk, cut: usize, begun: usize) -> (usize, usize) {
    let marks = disk.marks(cut);
    let newest = |what| marks.iter().rev().find(|m| **m % 2 == what).map(|m| (*m / 2) as usize);
    let low = newest(ACKED).unwrap_or(begun);
    (low, newest(SUBMITTING).unwrap_or(begun).max(low))
}

#[test]
fn after_a_power_cut_the_state_is_that_of_a_prefix_with_all_that_was_acknowledged() {
    let cuts = env("POWER_CUTS", 200);
    let seed = env("SEED", 1);
    let (mut made, mut round, mut fell_back, mut snapshots) = (0, 0, 0, 0);
    while made < cuts {
        round += 1;
        let seed = seed.wrapping_mul(1_000_003) + round;
        let mut dice = Dice(seed);
        let mut disk = PowerDisk::default();
        let mut world = open(&disk, Vec::new(), 0, seed).unwrap();
        let mut begun = 0;
        // Several lives: each begins on the image that the cut before left.
        for _ in 0..4 {
            let first = if dice.one_in(2) { disk.setup() } else { disk.events() };
            for _ in 0..60 + dice.below(240) {
                world.step();
            }
            snapshots += world.snapshots_written;
            let mut next = None;
            for _ in 0..6 {
                let cut = first + dice.below((disk.events() - first) as u64 + 1) as usize;
                let (low, high) = bounds(&disk, cut, begun);
                let image = disk.image(cut, &mut dice);
                let history = || world.history[..high].to_vec();
                let place = format!("seed {seed}, cut {cut}, entries {low} to {high}");
                let older = image.copy();
                let seed = dice.roll();
                let again = catch_unwind(AssertUnwindSafe(|| open(&image, history(), low, seed)));
                let again = again.unwrap_or_else(|_| panic!("{place}"));
                let again = again.unwrap_or_else(|e| panic!("{place}: refused: {e}"));
                made += 1;
                // The same image with its newest snapshot damaged leads to the same.
                if let Some(newest) = list_snapshots(&older, Path::new(SNAPSHOTS)).unwrap().first() {
                    older.flip(&newest.path, dice.below(newest.bytes), 1 << dice.below(8));
                    let other = catch_unwind(AssertUnwindSafe(|| open(&older, history(), low, seed)));
                    let other = other.unwrap_or_else(|_| panic!("{place}, newest snapshot damaged"));
                    let other = other.unwrap_or_else(|e| panic!("{place}, newest snapshot damaged: {e}"));
                    assert_eq!(other.points, again.points, "{place}");
                    fell_back += 1;
                }
                next = Some((image, again));
            }
            (disk, world) = next.expect("images were made");
            // The entries that the life begins with, without its own first one.
            begun = world.history.len() - 1;
        }
    }
    println!(
        "{made} cuts in {round} rounds, {snapshots} snapshots written, {fell_back} times the one before used"
    );
    assert!(cuts < 100 || snapshots > 100 && fell_back > 50, "snapshots took part");
}

/// A start on a real directory: the server's own code from the lock to the state.
fn open_dir(path: &Path, history: Vec<Bytes>, low: usize, seed: u64) -> Result<World, String> {
    let dir_options = DirOptions { path: path.to_owned(), log_path: None, server: ServerId(1) };
    let mut dir = DataDir::open(&dir_options).map_err(|refusal| refusal.to_string())?;
    let recovery = load_state(&mut dir, &options(), &hasher()).map_err(|fatal| fatal.to_string())?;
    let home = Home {
        disk: Arc::new(dir.disk()),
        snapshots: dir.snapshot_path(),
        cluster: dir.cluster_id(),
        marks: None,
    };
    World::begin(home, recovery, history, low, seed).map_err(|error| error.to_string())
}

/// Every file below a directory, by its path in it.
fn read_all(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in [root.to_owned(), root.join("log"), root.join("snapshot")] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn write_all(root: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    let _ = fs::remove_dir_all(root);
    for dir in ["log", "snapshot"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (path, bytes) in files {
        fs::write(root.join(path), bytes).unwrap();
    }
}

/// A data directory as a server leaves it: three lives, the last stopped, or quiet and then killed.
fn a_data_directory(root: &Path, dice: &mut Dice) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<Bytes>) {
    let mut history = Vec::new();
    for life in 0..3 {
        let low = history.len();
        let mut world = open_dir(root, history, low, dice.roll()).unwrap();
        for _ in 0..150 + dice.below(150) {
            world.step();
        }
        world.settle().unwrap();
        history = world.history.clone();
        if life < 2 || dice.one_in(2) {
            world.log.close().unwrap();
        } else {
            // Quiet: the last record is covered by an empty one.
            let (wake, _bell) = std::io::pipe().unwrap();
            world.log.wait(Duration::ZERO, wake.as_fd()).unwrap();
            world.log.drain().unwrap();
        }
    }
    (read_all(root), history)
}

/// Words by which an operator finds the place.
const NAMED: [&str; 3] = ["log segment", "ringkeeper.id", "data directory"];

#[test]
fn a_flipped_bit_anywhere_is_repaired_refused_by_name_or_harmless() {
    let flips = env("FLIPS", 300);
    let mut dice = Dice(env("SEED", 1));
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let root = home.path().join("data");
    let mut outcomes = BTreeMap::new();
    let mut whole = None;
    for flip in 0..flips {
        if flip % 500 == 0 {
            let _ = fs::remove_dir_all(&root);
            whole = Some(a_data_directory(&root, &mut dice));
        }
        let (files, history) = whole.as_ref().expect("made for the first flip");
        let mut files = files.clone();
        let names: Vec<_> =
            files.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(p, _)| p.clone()).collect();
        let name = &names[dice.below(names.len() as u64) as usize];
        let bytes = files.get_mut(name).unwrap();
        // Mostly where something is.
        let len = bytes.len() as u64;
        let at = if dice.one_in(3) { dice.below(len.min(4300)) } else { dice.below(len) };
        bytes[at as usize] ^= 1 << dice.below(8);
        write_all(&root, &files);
        let low = history.len();
        let opened = catch_unwind(AssertUnwindSafe(|| open_dir(&root, history.clone(), low, 7)));
        let place = format!("flip {flip} in {} at {at}", name.display());
        let what = match opened.unwrap_or_else(|_| panic!("{place}: silent loss, or a panic")) {
            Ok(_) => "the acknowledged state",
            Err(why) => {
                assert!(
                    NAMED.iter().any(|word| why.contains(word)),
                    "{place}: refused without a name: {why}"
                );
                "refused by name"
            }
        };
        let extension = name.extension().unwrap_or_default().to_string_lossy().into_owned();
        *outcomes.entry((extension, what)).or_insert(0u64) += 1;
    }
    println!("{outcomes:?}");
}
