//! Bytes that no client sends: recorded requests with flips, cuts, splices and wrong lengths, in pieces, on many
//! connections at once. Nothing panics, nobody else waits, the state stays whole, and what is heard are frames.

mod machines;

use machines::client::*;
use machines::{Conn, World};
use ringkeeper::wire::OpCode as Op;

/// A xorshift: orders only, no statistics.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// How many seeds: `SEEDS=5000` for a long run.
fn budget() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

/// The requests that were recorded from real clients, handshakes apart.
fn recorded() -> Vec<Vec<u8>> {
    let lines = include_str!("wire/frames.txt").lines().filter(|line| !line.starts_with('#'));
    let requests = lines.filter_map(|line| line.split_once(" > "));
    // Those that always end a connection would hide what comes after them.
    let ending =
        ["connect.", "closeSession.", "unknown.", "check.", "sasl.", "deleteContainer.", "auth.error"];
    let requests = requests.filter(|(name, _)| !ending.iter().any(|end| name.starts_with(end)));
    let bytes = |hex: &str| {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    requests.map(|(_, hex)| bytes(hex)).collect()
}

/// One or more recorded frames, harmed in one of the ways that wires and people have.
fn harm(all: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = all[dice.below(all.len())].clone();
    match dice.below(30) {
        0..=3 => {}
        4..=11 => {
            for _ in 0..=dice.below(4) {
                let at = 12 + dice.below((bytes.len() - 12).max(1));
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        12..=17 => {
            let at = 12.min(bytes.len() - 1);
            let at = at + dice.below(bytes.len() - at);
            let odd = [-1i32, 0, 1, i32::MAX, i32::MIN, 0x10_0000];
            let odd = odd[dice.below(6)].to_be_bytes();
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&odd[..end - at]);
        }
        18..=20 => {
            bytes.truncate(4 + dice.below(bytes.len() - 4));
            fix_length(&mut bytes);
        }
        21..=23 => {
            let other = &all[dice.below(all.len())];
            let cut = 4 + dice.below(bytes.len() - 4);
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[4 + dice.below(other.len() - 4)..]);
            fix_length(&mut bytes);
        }
        24..=27 => {
            // Another operation over the same record.
            let ops =
                [1i32, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 19, 21, 22, 100, 101, 103, 105, 106];
            if bytes.len() >= 12 {
                bytes[8..12].copy_from_slice(&ops[dice.below(ops.len())].to_be_bytes());
            }
        }
        _ => {
            let at = dice.below(4);
            bytes[at] ^= 1 << dice.below(8);
        }
    }
    bytes
}

fn fix_length(bytes: &mut [u8]) {
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
}

#[test]
fn harmed_requests_end_nothing_but_their_own_connection() {
    let all = recorded();
    assert!(all.len() > 200);
    let (mut closed, mut replies) = (0, 0);
    for seed in 1..=budget() {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = World::with(2, |sequencer, shard| {
            sequencer.txn.enforce_quota = true;
            shard.outstanding_per_connection_max = 8;
            shard.watch_limits.count_max = 20;
        });
        let good = [world.login(0), world.login(1)];
        world.make(good[0], "/wire", 0);
        for round in 0..40 {
            let bad = world.login(dice.below(2));
            for _ in 0..12 {
                let bytes = harm(&all, &mut dice);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let piece = 1 + dice.below(rest.len().min(64));
                    world.put(bad, &rest[..piece]);
                    world.read_some(bad.0, usize::MAX);
                    rest = &rest[piece..];
                }
                if dice.below(3) == 0 {
                    world.settle();
                }
            }
            world.settle();
            // Whole frames only; a reply may bear any xid that it was asked under, so they are not looked into.
            let heard = std::mem::take(&mut world.clients[bad.0].from_server);
            let (frames, rest) = machines::client::frames(&heard);
            assert!(rest.is_empty() || world.is_closed(bad), "seed {seed}: half a frame");
            replies += frames.len();
            closed += usize::from(world.is_closed(bad));
            let who = good[round % 2];
            let value = format!("{seed}.{round}");
            let kept = world.ask(who, Op::SetData, &set("/zookeeper/quota", value.as_bytes(), -1));
            assert_eq!(kept.err, 0, "seed {seed} round {round}");
            let there = world.ask(good[(round + 1) % 2], Op::GetData, &read("/zookeeper/quota", false));
            assert_eq!(there.data().unwrap(), value.as_bytes());
        }
        same_trees(&world, seed);
        // What was accepted is what a restart finds.
        let digest = world.sequencer.state().digest();
        assert_eq!(world.restart().sequencer.state().digest(), digest, "seed {seed}");
    }
    assert!(closed > 200 && replies > 10_000, "{closed} closed, {replies} replies: neither all nor none");
}

/// Every shard's table is the sequencer's.
fn same_trees(world: &World, seed: u64) {
    let state = world.sequencer.state();
    for side in &world.sides {
        assert_eq!(side.shard.table().len(), state.table.len(), "seed {seed}");
        for node in state.table.nodes().iter() {
            let its = side.shard.table().get(node.path.as_str()).expect("it is there");
            assert_eq!(its, node, "seed {seed}");
            let list = |table: &ringkeeper::tree::Table| table.acls.list(node.acl).clone();
            assert_eq!(list(side.shard.table()), list(&state.table), "seed {seed}");
        }
        assert_eq!(side.shard.table().data_bytes(), state.table.data_bytes(), "seed {seed}");
    }
}

#[test]
fn noise_before_a_handshake_ends_nothing_but_its_own_connection() {
    let mut dice = Dice(77);
    let mut world = World::new(1);
    let good = world.login_for(0, 40_000);
    let mut whole = Vec::new();
    hello(0, &[0; 16], 10_000).encode(&mut whole);
    for n in 0..3_000 {
        let c: Conn = world.connect(0);
        let mut bytes = whole.clone();
        match n % 4 {
            0 => bytes = (0..dice.below(80)).map(|_| dice.below(256) as u8).collect(),
            1 => {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            2 => {
                bytes.truncate(4 + dice.below(bytes.len() - 4));
                fix_length(&mut bytes);
            }
            _ => {
                let at = 4 + dice.below(bytes.len() - 8);
                bytes[at..at + 4].copy_from_slice(&[255, 255, 255, [255, 254, 0, 127][n % 16 / 4]]);
            }
        }
        world.put(c, &bytes);
        world.settle();
        if n % 5 == 0 {
            world.half_close(c);
        } else if n % 5 == 1 {
            world.lose(c);
        }
        if n % 100 == 0 {
            assert_eq!(world.ask(good, Op::Ping, b"").err, 0);
        }
    }
    // Whoever never became a session is gone after its time.
    for _ in 0..6 {
        world.pass(2_000);
        assert_eq!(world.ask(good, Op::Ping, b"").err, 0);
    }
    let sessions = world.sequencer.state().sessions.len();
    let open = world.sides[0].shard.stats.connections;
    assert!(open <= sessions, "{open} connections, {sessions} sessions");
}
