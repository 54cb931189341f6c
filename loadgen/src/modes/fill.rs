//! Load of N znodes: what a create costs and what a znode weighs.

use crate::plan::Plan;
use crate::server::{cpu_between, read_all, rss_of, Server};
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
    watched: &[Server],
    plan: &Plan,
    connect: Duration,
    told: impl FnMut(u64, u64),
) -> Result<Filled, String> {
    let mut client = Client::open(servers, connect)?;
    let before = read_all(watched);
    let began = Instant::now();
    make_tree(&mut client, plan, 0, told)?;
    let seconds = began.elapsed().as_secs_f64();
    let after = read_all(watched);
    Ok(Filled {
        znodes: plan.spaces.iter().map(|space| space.keys + space.parents()).sum(),
        seconds,
        cpu_s: cpu_between(&before, &after),
        rss_before: rss_of(&before),
        rss_after: rss_of(&after),
    })
}
