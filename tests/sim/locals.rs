//! Sessions that one server alone knows, and servers that serve without a leader: some seeds have them. Their dice are their
//! own, so that a seed's other choices stay what they were.

use crate::client::Client;
use crate::dice::Dice;
use crate::World;

#[derive(Clone, Copy)]
pub struct Locals {
    /// localSessionsEnabled, localSessionsUpgradingEnabled, readonlymode.enabled: of all servers.
    pub are_on: bool,
    pub upgrade: bool,
    pub read_only_mode: bool,
    /// After so long without a leader a server serves nobody, or those who only read.
    pub leaderless_ms: u64,
    /// Of a thousand clients: those who take a server without a leader.
    pub read_only_clients: u64,
    /// Of a thousand wishes that bring a local session into the state: those whose server hears nobody from then on, though it is
    /// heard. Clients come back to the server that knows their session then. By chance alone a session that entered behind
    /// its server's back was met once in ten thousand seeds.
    aimed_cuts: u64,
}

impl Locals {
    pub fn new(seed: u64, may_be: bool) -> Locals {
        let mut dice = Dice::new(seed ^ 0x6c6f_6361_6c20_7365);
        let are_on = dice.permille(350) && may_be;
        let upgrade = dice.permille(750);
        let read_only_mode = dice.permille(300) && may_be;
        let leaderless_ms = if read_only_mode { 500 + dice.below(1_500) } else { 4_000 };
        let read_only_clients = if read_only_mode { 300 + dice.below(700) } else { 0 };
        let mut locals =
            Locals { are_on, upgrade, read_only_mode, leaderless_ms, read_only_clients, aimed_cuts: 0 };
        if dice.permille(80) && may_be {
            (locals.are_on, locals.upgrade, locals.read_only_mode) = (true, true, true);
            (locals.leaderless_ms, locals.read_only_clients) = (500 + dice.below(1_500), 1_000);
            locals.aimed_cuts = 100 + dice.below(900);
        }
        locals
    }

    pub fn come_home(&self) -> bool {
        self.aimed_cuts > 0
    }
}

impl World {
    /// A server that has just told the leader of a session's way into the state does not hear what comes of it.
    pub fn cut_aimed(&mut self) {
        let asked: Vec<u8> = self.clients.iter_mut().filter_map(Client::take_entering).collect();
        for server in asked {
            if self.locals.aimed_cuts > 0 && self.aim.permille(self.locals.aimed_cuts) {
                for other in (1..=self.count).filter(|other| *other != server) {
                    self.net.cut(self.now, other, server);
                }
                self.fault_count += 1;
            }
        }
    }
}
