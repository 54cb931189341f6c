//! Sessions that one server alone knows, and servers that serve without a leader: some seeds have them. Their dice are their
//! own, so that a seed's other choices stay what they were.

use crate::dice::Dice;

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
}

impl Locals {
    pub fn new(seed: u64, may_be: bool) -> Locals {
        let mut dice = Dice::new(seed ^ 0x6c6f_6361_6c20_7365);
        let are_on = dice.permille(350) && may_be;
        let upgrade = dice.permille(750);
        let read_only_mode = dice.permille(300) && may_be;
        let leaderless_ms = if read_only_mode { 500 + dice.below(1_500) } else { 4_000 };
        let read_only_clients = if read_only_mode { 300 + dice.below(700) } else { 0 };
        Locals { are_on, upgrade, read_only_mode, leaderless_ms, read_only_clients }
    }
}
