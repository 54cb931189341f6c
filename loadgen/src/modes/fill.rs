//! Load of N znodes: what a create costs and what a znode weighs.

use crate::host::Reading;
use crate::plan::Plan;
use crate::setup::{make_tree, Client};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What it measured.
pub struct Filled {
    pub znodes: u64,
    pub seconds: f64,
    pub cpu_s: f64,
    pub rss_before: u64,
    pub rss_after: u64,
}

/// Creates the keys of a plan, pipelined on one connection.
pub fn fill(
    servers: &[SocketAddr],
    pids: &[u32],
    plan: &Plan,
    connect: Duration,
    told: impl FnMut(u64, u64),
) -> Result<Filled, String> {
    let mut client = Client::open(servers, connect)?;
    let read = || pids.iter().filter_map(|pid| Reading::of(*pid)).collect::<Vec<_>>();
    let before = read();
    let began = Instant::now();
    make_tree(&mut client, plan, 0, told)?;
    let seconds = began.elapsed().as_secs_f64();
    let after = read();
    Ok(Filled {
        znodes: plan.spaces.iter().map(|space| space.keys + space.parents()).sum(),
        seconds,
        cpu_s: before.iter().zip(&after).map(|(before, after)| after.cpu_since(before)).sum(),
        rss_before: before.iter().map(|reading| reading.rss).sum(),
        rss_after: after.iter().map(|reading| reading.rss).sum(),
    })
}
