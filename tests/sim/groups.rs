//! Partitions of groups that may last, wires that clog all the time, disks that are all slow, and a minority that is dead at the
//! end: some seeds have them. Their dice are their own, so that a seed's other choices stay what they were.

use crate::check;
use crate::client::Client;
use crate::dice::Dice;
use crate::server::{DiskManners, Server};
use crate::{World, HEAL_MS};
use std::collections::BTreeMap;

/// Clients go on asking for so long while the minority is dead.
const ASK_MS: u64 = 5_000;
/// Then a majority has everything done within so long: several elections, and a slow disk.
const MAJORITY_MS: u64 = 12_000;

/// Who is cut off finds out within this: two times sixteen ticks of a clock that drifts, and a disk that stalls.
const LEADS_MS: u64 = 4_000;

pub struct Groups {
    dice: Dice,
    /// A group is cut off, both ways or one way.
    cut: u64,
    /// All cuts are healed; nothing: as often as ever.
    heal: Option<u64>,
    /// Wires that clog do so for as long as there are faults.
    pub keep_clogs: bool,
    /// All disks take up to so long for each write, all the time.
    slow_disks_ms: Option<u64>,
    /// Once all is well a minority dies: the others get on without it.
    leaves_dead: bool,
    /// Since when a run of a server has heard no majority.
    lonely: BTreeMap<(u8, u64), u64>,
}

impl Groups {
    pub fn new(seed: u64, may_be: bool) -> Groups {
        let mut dice = Dice::new(seed ^ 0x6772_6f75_7073_2121);
        let cut = if dice.permille(300) && may_be { 1 + dice.below(4) } else { 0 };
        let heal = [None, None, Some(1), Some(16)][dice.pick(4)].filter(|_| may_be);
        let keep_clogs = dice.permille(500) && may_be;
        let leaves_dead = dice.permille(350) && may_be;
        let slow_disks_ms = (dice.permille(50) && may_be).then(|| 200 + dice.below(800));
        Groups { dice, cut, heal, keep_clogs, slow_disks_ms, leaves_dead, lonely: BTreeMap::new() }
    }

    pub fn has_slow_disks(&self) -> bool {
        self.slow_disks_ms.is_some()
    }

    /// Where each write takes up to a second everything takes longer.
    pub fn patience(&self, usual: u64) -> u64 {
        if self.has_slow_disks() {
            usual * 3
        } else {
            usual
        }
    }

    pub fn slowed(&self, manners: DiskManners) -> DiskManners {
        DiskManners { write_ms: self.slow_disks_ms.unwrap_or(manners.write_ms), ..manners }
    }

    /// Whether cuts are healed now; `usual`: they were, before groups.
    pub fn heals(&mut self, usual: bool) -> bool {
        self.heal.map_or(usual, |permille| self.dice.permille(permille))
    }
}

impl World {
    pub fn cut_groups(&mut self) {
        if self.count < 3 || !self.groups.dice.permille(self.groups.cut) {
            return;
        }
        let dice = &mut self.groups.dice;
        let is_in: Vec<bool> = (0..self.count).map(|_| dice.permille(500)).collect();
        let is_one_way = dice.permille(300);
        for a in 1..=self.count {
            for b in 1..=self.count {
                let (from, to) = (is_in[usize::from(a) - 1], is_in[usize::from(b) - 1]);
                if from && !to || !is_one_way && !from && to {
                    self.net.cut(self.now, a, b);
                }
            }
        }
        self.fault_count += 1;
    }

    /// A voter that hears no majority, and nobody who does, does not lead for long, and does not serve all for much longer.
    pub fn judge_the_lonely(&mut self) {
        let is_there = |server: &Server| !server.is_paused(self.now) && !server.is_failed;
        let hears = |at: u8, from: u8| {
            at == from || self.net.hears(at, from) && self.servers.get(&from).is_some_and(is_there)
        };
        let hears_most = |server: &Server| {
            let voters = &server.sequencer.state().membership.conf.voters;
            voters.iter().filter(|seat| hears(server.id, seat.server().0)).count() * 2 > voters.len()
        };
        let most: Vec<u8> = self.servers.values().filter(|one| hears_most(one)).map(|one| one.id).collect();
        for (id, server) in &self.servers {
            let members = &server.sequencer.state().membership;
            let is_lonely = members.is_ensemble()
                && members.conf.votes(server.seat())
                && is_there(server)
                && !most.iter().any(|other| hears(*id, *other));
            let key = (*id, server.incarnation);
            if !is_lonely {
                self.groups.lonely.remove(&key);
                continue;
            }
            let for_ms = self.now - *self.groups.lonely.entry(key).or_insert(self.now);
            if for_ms > LEADS_MS {
                let leads = server.sequencer.is_leading();
                assert!(!leads, "server {id} leads and has heard no majority for {for_ms} ms");
            }
            if for_ms > self.locals.leaderless_ms + LEADS_MS {
                let serves = server.sequencer.is_serving();
                assert!(!serves, "server {id} serves and has heard no majority for {for_ms} ms");
            }
        }
    }

    /// A minority of the voters dies for a while. Whatever is asked of the others ends.
    pub fn bear_a_minority(&mut self) {
        let voters: Vec<u8> = {
            let some = self.servers.values().next().expect("all are up");
            some.sequencer.state().membership.conf.voters.iter().map(|seat| seat.server().0).collect()
        };
        if !self.groups.leaves_dead || voters.len() < 3 {
            return;
        }
        let most = (voters.len() as u64 - 1) / 2;
        let dead = 1 + self.groups.dice.below(most);
        let mut left = voters;
        for _ in 0..dead {
            let at = self.groups.dice.pick(left.len());
            self.doomed.push(left.swap_remove(at));
        }
        self.ask_until = self.now + ASK_MS;
        while self.now <= self.ask_until {
            self.pulse(false);
        }
        // Who stays away for ten seconds of its own will has to come back first (seed 3186314398).
        let back = self.clients.iter().filter_map(Client::comes_back_at).max();
        let until = back.unwrap_or(0).max(self.now) + self.groups.patience(MAJORITY_MS);
        while !self.is_calm_without(dead as usize) {
            self.pulse(false);
            assert!(self.now < until, "a majority did not get on without {dead}: {}", self.stuck());
        }
        for (_, at) in self.down.values_mut() {
            *at = self.now;
        }
        let until = self.now + self.groups.patience(HEAL_MS);
        while !self.is_calm() {
            self.pulse(false);
            assert!(self.now < until, "not everybody is there after {dead} were dead: {}", self.stuck());
        }
    }

    fn is_calm_without(&self, dead: usize) -> bool {
        let mut servers = self.servers.values();
        let Some(first) = servers.next() else { return false };
        let applied = first.sequencer.applied();
        self.servers.len() + dead == usize::from(self.count)
            && self.servers.values().all(|server| check::is_up_to_date(server, applied))
            && self.clients.iter().all(Client::is_idle)
    }
}
