//! The hot paths a known number of times, for counting instructions: `scripts/instructions.sh` runs it under callgrind
//! with two counts and divides the difference.
//!
//!     count get|ping|set|create N

mod setup;

use ringkeeper::wire::OpCode;
use std::hint::black_box;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let what = args.next().unwrap_or_default();
    let n: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    match what.as_str() {
        "get" => read(OpCode::GetData, n),
        "ping" => read(OpCode::Ping, n),
        "set" => write(n, |n| setup::apply::set(&setup::apply::path(n))),
        "create" => write(n, |n| setup::apply::create(&format!("{}z", setup::apply::path(n.max(1_000))))),
        // `cargo bench` runs every bench: this one is not for it.
        _ => println!("count: get|ping|set|create N, under callgrind"),
    }
}

fn read(op: OpCode, n: usize) {
    let (mut shard, conn) = setup::shard::serving();
    let mut at = 0;
    let reads: Vec<Vec<u8>> = (0..20_000).map(|_| setup::shard::reads(op, 1, &mut at)).collect();
    for read in reads.iter().take(n) {
        shard.received(setup::shard::NOW, conn, read);
        setup::shard::flush(&mut shard, setup::shard::NOW);
    }
}

fn write(n: usize, body: impl Fn(usize) -> (i32, Vec<u8>)) {
    let (mut state, mut writer) = setup::apply::filled();
    let batch = setup::apply::BATCH;
    let batches: Vec<Vec<u8>> = (0..20_000 / batch)
        .map(|at| writer.batch((at * batch..(at + 1) * batch).map(|n| body(n % setup::apply::NODES))))
        .collect();
    for bytes in batches.iter().take(n / batch) {
        state.apply_batch(bytes, |_, outcome| drop(black_box(outcome))).expect("it was written just now");
    }
}
