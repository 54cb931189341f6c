//! The wires between servers: streams in order, as TCP has them, which stall, slow down, break and come up again. What was
//! under way on a wire that breaks is lost.

use crate::dice::Dice;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// What a server is told by its end of a wire.
pub enum Told {
    Up(u8),
    Down(u8),
    Frame(u8, Bytes),
}

/// How the net behaves in this run.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub delay_ms: u64,
    pub jitter_ms: u64,
    /// A frame in a thousand stalls its wire for up to this long.
    pub clogs_permille: u64,
    pub clog_ms: u64,
}

struct Wire {
    /// Due moments never go back: a stream is in order.
    frames: VecDeque<(u64, Bytes)>,
    last_due: u64,
}

pub struct Net {
    servers: u8,
    manners: Manners,
    dice: Dice,
    /// From, to.
    wires: BTreeMap<(u8, u8), Wire>,
    /// Directions in which nothing gets through, though nobody is told.
    cut: BTreeMap<(u8, u8), u64>,
    /// Pairs that are not connected, and when they are dialled again.
    down: BTreeMap<(u8, u8), u64>,
}

/// A silent wire is given up after so long.
pub const SILENT_MS: u64 = 1_000;

fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

impl Net {
    pub fn new(servers: u8, manners: Manners, dice: Dice) -> Net {
        let mut down = BTreeMap::new();
        for a in 1..=servers {
            for b in a + 1..=servers {
                down.insert((a, b), 0);
            }
        }
        Net { servers, manners, dice, wires: BTreeMap::new(), cut: BTreeMap::new(), down }
    }

    pub fn send(&mut self, now: u64, from: u8, to: u8, bytes: Bytes) {
        if self.down.contains_key(&pair(from, to)) {
            return;
        }
        let mut due = now + self.manners.delay_ms + self.dice.below(self.manners.jitter_ms + 1);
        if self.dice.permille(self.manners.clogs_permille) {
            due += self.dice.below(self.manners.clog_ms);
        }
        let wire =
            self.wires.entry((from, to)).or_insert_with(|| Wire { frames: VecDeque::new(), last_due: 0 });
        wire.last_due = wire.last_due.max(due);
        wire.frames.push_back((wire.last_due, bytes));
    }

    /// Nothing gets from `from` to `to` any more, silently.
    pub fn cut(&mut self, now: u64, from: u8, to: u8) {
        self.cut.entry((from, to)).or_insert(now);
    }

    /// Whether two servers reach each other.
    pub fn is_whole(&self, a: u8, b: u8) -> bool {
        let is_cut = |way| self.cut.contains_key(&way);
        !self.down.contains_key(&pair(a, b)) && !is_cut((a, b)) && !is_cut((b, a))
    }

    /// Whether one hears the other.
    pub fn hears(&self, a: u8, from: u8) -> bool {
        !self.down.contains_key(&pair(a, from)) && !self.cut.contains_key(&(from, a))
    }

    pub fn heal(&mut self, keep_clogs: bool) {
        self.cut.clear();
        if !keep_clogs {
            self.manners.clogs_permille = 0;
        }
    }

    /// Both ends are told at once; dialled again after a while.
    pub fn break_wire(&mut self, now: u64, a: u8, b: u8, told: &mut Vec<(u8, Told)>) {
        if self.down.contains_key(&pair(a, b)) {
            return;
        }
        self.down.insert(pair(a, b), now + 20 + self.dice.below(200));
        self.wires.remove(&(a, b));
        self.wires.remove(&(b, a));
        told.push((a, Told::Down(b)));
        told.push((b, Told::Down(a)));
    }

    /// A server's process ends: all its wires break.
    pub fn crash(&mut self, now: u64, server: u8, told: &mut Vec<(u8, Told)>) {
        for other in (1..=self.servers).filter(|other| *other != server) {
            self.break_wire(now, server, other, told);
        }
    }

    /// What arrives now. `alive` says who can be dialled.
    pub fn turn(&mut self, now: u64, alive: &dyn Fn(u8) -> bool, told: &mut Vec<(u8, Told)>) {
        let silent: Vec<(u8, u8)> =
            self.cut.iter().filter(|(_, since)| now >= **since + SILENT_MS).map(|(wire, _)| *wire).collect();
        for (from, to) in silent {
            self.break_wire(now, from, to, told);
        }
        let due: Vec<(u8, u8)> =
            self.down.iter().filter(|(_, at)| **at <= now).map(|(wire, _)| *wire).collect();
        for (a, b) in due {
            let is_cut = self.cut.contains_key(&(a, b)) || self.cut.contains_key(&(b, a));
            if alive(a) && alive(b) && !is_cut {
                self.down.remove(&(a, b));
                told.push((a, Told::Up(b)));
                told.push((b, Told::Up(a)));
            }
        }
        for ((from, to), wire) in &mut self.wires {
            if self.cut.contains_key(&(*from, *to)) {
                continue;
            }
            while wire.frames.front().is_some_and(|(due, _)| *due <= now) {
                let (_, bytes) = wire.frames.pop_front().expect("it was looked at just now");
                told.push((*to, Told::Frame(*from, bytes)));
            }
        }
    }
}
