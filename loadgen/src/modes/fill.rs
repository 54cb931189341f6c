//! Load of N znodes: what a create costs and what a znode weighs.

use crate::busy::Busy;
use crate::plan::Plan;
use crate::server::{cpu_between, read_all, rss_of, Server};
use crate::setup::{make_tree, Client, Made};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What it measured.
pub struct Filled {
    /// Znodes that were created...
    pub created: u64,
    /// ...and that were there already, and only got a new value.
    pub existed: u64,
    pub seconds: f64,
    /// The share of a core that the load generator took.
    pub busy: f64,
    pub cpu_s: f64,
    pub rss_before: u64,
    pub rss_after: u64,
    /// What ended it before its time.
    pub broken: Option<String>,
    pub was_stopped: bool,
}

/// Creates the keys of a plan, pipelined on one connection.
pub fn fill(
    servers: &[SocketAddr],
    auth: &[u8],
    watched: &[Server],
    plan: &Plan,
    connect: Duration,
    stop: &AtomicBool,
    mut told: impl FnMut(Made),
) -> Result<Filled, String> {
    let mut client = Client::open(servers, connect, auth, stop)?;
    let before = read_all(watched);
    let began = Instant::now();
    let busy = Busy::begin();
    let mut made = Made::default();
    let done = make_tree(&mut client, plan, 0, |now| {
        made = now;
        told(made);
    });
    let broken = match done {
        Err(why) if made.done == 0 => return Err(why),
        done => done.err(),
    };
    let seconds = began.elapsed().as_secs_f64();
    let busy = busy.share_of_long();
    let after = read_all(watched);
    client.close();
    Ok(Filled {
        busy,
        created: made.done - made.existed,
        existed: made.existed,
        was_stopped: broken.is_some() && stop.load(Ordering::Relaxed),
        broken,
        seconds,
        cpu_s: cpu_between(&before, &after),
        rss_before: rss_of(&before),
        rss_after: rss_of(&after),
    })
}
