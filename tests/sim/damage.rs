//! Disks that fail and lie: a write is refused, bits flip, a block lands in another's place or nowhere, what was called
//! durable is gone. One server's disk at a time, where a majority of those who vote has kept theirs. Who starts refuses
//! such a disk; then its operator gives it an empty one.
//!
//! What no log can tell is left alone: the last acknowledged record, struck before anything behind it says that it was
//! durable, looks like one that was under way (src/log/FORMAT.md). So does a whole tail that a disk only claimed to have,
//! unless a snapshot reaches further.

use crate::dice::Dice;
use crate::disk::{Build, Disk, LOG};
use crate::machines::KEY;
use crate::net::Told;
use crate::World;
use ringkeeper::ids::ServerId;
use ringkeeper::log::record::HEAD;
use ringkeeper::log::{Recovered, Sequence, Walk, BLOCK};
use ringkeeper::tree::PathHasher;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Faults that came later: their dice are their own, so that a seed's earlier ones stay what they were.
pub struct Later {
    pub dice: Dice,
    pub build: Build,
    /// In a thousand moments: a write of somebody's log fails, a snapshot can not be written, a disk is struck.
    fail: u64,
    refuse: u64,
    strike: u64,
    /// Of a thousand clients.
    pub strict: u64,
}

/// What has become of disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Processes that ended with a failed write.
    pub failed: u64,
    pub struck: u64,
    /// Disks that a start refused.
    pub refused: u64,
    /// Where nobody could have told, and nothing was done.
    pub spared: u64,
}

impl Later {
    pub fn new(seed: u64, are_on: bool) -> Later {
        let mut dice = Dice::new(seed ^ 0x6469_736b_7320_6c69);
        let mut some = |permille, most| {
            let n = if dice.permille(permille) { 1 + dice.below(most) } else { 0 };
            if are_on {
                n
            } else {
                0
            }
        };
        let (fail, refuse, strike, strict) = (some(400, 5), some(300, 10), some(400, 8), some(400, 700));
        let (kib, tears) = ([128, 512, 1024][dice.pick(3)], dice.permille(700) && are_on);
        let build = Build { segment_bytes: kib << 10, tears };
        Later { dice, build, fail, refuse, strike, strict }
    }
}

impl World {
    /// Processes that have stopped by themselves are gone.
    pub fn bury(&mut self, told: &mut Vec<(u8, Told)>) {
        let failed: Vec<u8> = self.servers.values().filter(|one| one.is_failed).map(|one| one.id).collect();
        for id in failed {
            self.losses.failed += 1;
            self.crash(id, told);
        }
    }

    pub fn harm_disks(&mut self, told: &mut Vec<(u8, Told)>) {
        let id = 1 + self.later.dice.below(u64::from(self.count)) as u8;
        if self.later.dice.permille(self.later.fail) {
            if let Some(server) = self.servers.get_mut(&id) {
                server.disk.files.fail();
            }
        }
        if self.later.dice.permille(self.later.refuse) {
            if let Some(server) = self.servers.get_mut(&id) {
                server.disk.refuses_snapshot = true;
                self.fault_count += 1;
            }
        }
        if self.later.dice.permille(self.later.strike) && self.servers.contains_key(&id) && self.may_lose(id)
        {
            self.crash(id, told);
            let (disk, _) = self.down.get_mut(&id).expect("it went down just now");
            if strike(disk, ServerId(id), &mut self.later.dice) {
                self.losses.struck += 1;
            } else {
                self.losses.spared += 1;
            }
        }
    }

    /// A start has refused the disk, with a message. Its operator gives it an empty one.
    pub fn replace_refused(&mut self, id: u8, disk: &Disk, why: &dyn std::fmt::Display) {
        assert!(disk.is_damaged, "server {id} refuses a disk that is whole: {why}");
        self.losses.refused += 1;
        let away = if self.now < self.healed_at { self.later.dice.below(3_000) } else { 0 };
        let empty = self.empty_disk(id);
        self.down.insert(id, (empty, self.now + away));
    }
}

/// Blocks of files, as they were.
type Before = BTreeMap<PathBuf, Vec<u8>>;

/// Damages one place of a disk whose server is down. False: nobody could tell that anything is missing, so all is as before.
fn strike(disk: &mut Disk, server: ServerId, dice: &mut Dice) -> bool {
    let hasher = PathHasher::new(KEY);
    let base = disk.base(&hasher).index;
    // It may have been struck before.
    let Ok(whole) = disk.place(server).recover(Some(base)) else { return false };
    let files: Before = disk.files.all();
    let is_log = |path: &&PathBuf| path.starts_with(LOG);
    // A block that something was written to: of the newest file, or of any.
    let some_block = |dice: &mut Dice, logs_only: bool| -> Option<(PathBuf, usize)> {
        let used = |path: &&PathBuf| files[*path].iter().any(|byte| *byte != 0);
        let all: Vec<&PathBuf> =
            files.keys().filter(|path| !logs_only || is_log(path)).filter(used).collect();
        let logs: Vec<&PathBuf> = all.iter().copied().filter(is_log).collect();
        let path = if dice.permille(500) && !logs.is_empty() {
            logs[logs.len() - 1]
        } else {
            *all.get(dice.pick(all.len()))?
        };
        let last = files[path].iter().rposition(|byte| *byte != 0)? / BLOCK;
        let back = if dice.permille(500) { dice.pick((last + 1).min(4)) } else { dice.pick(last + 1) };
        Some((path.clone(), (last - back) * BLOCK))
    };
    let mut now = files.clone();
    let block = |now: &Before, (path, at): &(PathBuf, usize)| {
        let file = &now[path];
        file[*at..file.len().min(at + BLOCK)].to_vec()
    };
    let put = |now: &mut Before, (path, at): &(PathBuf, usize), bytes: &[u8]| {
        let file = now.get_mut(path).expect("it was listed");
        let len = bytes.len().min(file.len() - at);
        file[*at..at + len].copy_from_slice(&bytes[..len]);
    };
    let Some(here) = some_block(dice, false) else { return false };
    match dice.below(8) {
        // Bits flip: one, or some.
        0..=3 => {
            let mut bytes = block(&now, &here);
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
            for _ in 0..=dice.pick(3) {
                bytes[dice.pick(used)] ^= 1 << dice.pick(8);
            }
            put(&mut now, &here, &bytes);
        }
        // A block is written in another's place, and maybe not in its own.
        4 | 5 => {
            let Some(there) = some_block(dice, true) else { return false };
            let bytes = block(&now, &there);
            put(&mut now, &here, &bytes);
            if dice.permille(500) && here != there {
                put(&mut now, &there, &[0; BLOCK]);
            }
        }
        // It never arrived.
        6 => put(&mut now, &here, &[0; BLOCK]),
        // Nor did anything of the log behind it.
        _ => {
            let Some((path, at)) = some_block(dice, true) else { return false };
            let from = at.max(BLOCK);
            for (other, bytes) in now.iter_mut().filter(|(other, _)| other.starts_with(LOG)) {
                if *other == path {
                    let from = from.min(bytes.len());
                    bytes[from..].fill(0);
                } else if *other > path {
                    bytes.fill(0);
                }
            }
        }
    }
    now.iter().for_each(|(path, bytes)| disk.files.publish(path, bytes));
    let base = disk.base(&hasher).index;
    if let Ok(found) = disk.place(server).recover(Some(base)) {
        let next = found.tail.map_or(Sequence(1), |tail| tail.next_sequence);
        let is_short = next <= disk.acknowledged;
        if is_short && found.last().0 >= base {
            let proof = proof_of(next, &whole, &files, &now);
            assert!(
                proof.is_none(),
                "{next:?} was durable, says {proof:?}, but the log is cut: {:?}",
                found.cut
            );
            files.iter().for_each(|(path, bytes)| disk.files.publish(path, bytes));
            return false;
        }
    }
    disk.is_damaged = true;
    true
}

/// What is untouched and says that this record was durable.
fn proof_of(lost: Sequence, whole: &Recovered, before: &Before, after: &Before) -> Option<String> {
    for (nth, header) in whole.segments.iter().enumerate() {
        let path = ringkeeper::host::disk::segment_path(Path::new(LOG), header.number);
        let (then, now) = (&before[&path], &after[&path]);
        let is_same = |from: usize, to: usize| then[from..to] == now[from..to];
        if header.first_sequence > lost && is_same(0, BLOCK) {
            return Some(format!("the header of segment {:?}", header.number));
        }
        let next = whole.segments.get(nth + 1);
        let limit = next.and_then(|next| next.continues).map(|continues| continues.offset);
        let walk = Walk::over(header, then, limit);
        let is_here = next.is_none_or(|next| lost < next.first_sequence) && lost >= header.first_sequence;
        for record in walk.records.iter().filter(|_| is_here) {
            let from = record.at.offset as usize;
            if record.durable_upto >= lost && is_same(from, from + HEAD + record.payload_len as usize) {
                return Some(format!("record {:?}", record.at.sequence));
            }
        }
    }
    None
}
