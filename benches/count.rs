//! The hot paths a known number of times, for counting their instructions: `scripts/instructions.sh` runs this under
//! callgrind, which writes a file at each [`callgrind_dumps`].
//!
//! Says a line for each path, in the order of those files: its name, and how many times it went.

mod setup;

use ringkeeper::error::Code;
use ringkeeper::handoff::{Concerns, Publication, Upward};
use ringkeeper::host::link::Links;
use ringkeeper::ids::{ShardId, Xid, Zxid};
use ringkeeper::wire::{
    begin_frame, end_frame, next_frame, put_buffer, reply_header, Frame, OpCode, PathAndWatch, RequestHeader,
    Stat, FRAME_BYTES_MAX_DEFAULT,
};
use setup::apply::BATCH;
use std::hint::black_box;
use std::sync::Arc;

/// Batches that go first, uncounted: buffers have their size then.
const WARM: usize = 32;
const COUNTED: usize = 160;

fn main() {
    wire();
    shard();
    apply();
    ring();
}

/// `batch` does `BATCH` of a path; it is told which batch it is.
fn path(name: &str, mut batch: impl FnMut(usize)) {
    (0..WARM).for_each(&mut batch);
    callgrind_dumps();
    (WARM..WARM + COUNTED).for_each(batch);
    callgrind_dumps();
    println!("{name} {}", COUNTED * BATCH);
}

/// Where callgrind writes down what it has counted, and begins again: it knows this by its name.
#[inline(never)]
fn callgrind_dumps() {
    black_box(());
}

/// What is done for each batch, made before it is counted.
fn batches<T>(mut one: impl FnMut(usize) -> T) -> Vec<Vec<T>> {
    (0..WARM + COUNTED).map(|at| (at * BATCH..(at + 1) * BATCH).map(&mut one).collect()).collect()
}

fn wire() {
    let mut at = 0;
    let frames = batches(|_| setup::shard::reads(OpCode::GetData, 1, &mut at));
    path("decode", |batch| {
        for bytes in &frames[batch] {
            let Frame::Whole(frame) = next_frame(black_box(bytes), FRAME_BYTES_MAX_DEFAULT) else {
                panic!("it was written whole")
            };
            let (header, body) = RequestHeader::decode(frame).expect("it was written just now");
            black_box((header, OpCode::from_i32(header.op), PathAndWatch::decode(body).is_ok()));
        }
    });
    let (stat, data) = (Stat::default(), [7; 100]);
    let mut out = Vec::with_capacity(256);
    path("encode", |_| {
        for _ in 0..BATCH {
            out.clear();
            let start = begin_frame(&mut out);
            reply_header(&mut out, Xid(1), black_box(Zxid(1)), Code::Ok);
            put_buffer(&mut out, Some(black_box(&data)));
            black_box(&stat).encode(&mut out);
            end_frame(&mut out, start);
            black_box(&out);
        }
    });
}

fn shard() {
    let (mut shard, conn) = setup::shard::serving();
    let paths = batches(|n| setup::shard::path(n * 7_919 % setup::shard::NODES));
    path("lookup", |batch| {
        for path in &paths[batch] {
            black_box(shard.table().get(black_box(path)));
        }
    });
    for (name, op) in [
        ("ping", OpCode::Ping),
        ("get", OpCode::GetData),
        ("exists", OpCode::Exists),
        ("children", OpCode::GetChildren),
    ] {
        let mut at = 0;
        let reads = batches(|_| match op {
            OpCode::GetChildren => setup::shard::children_of_ten(),
            _ => setup::shard::reads(op, 1, &mut at),
        });
        path(name, |batch| {
            for read in &reads[batch] {
                shard.received(setup::shard::NOW, conn, read);
                setup::shard::flush(&mut shard, setup::shard::NOW);
            }
        });
    }
}

fn apply() {
    let (mut state, mut writer) = setup::apply::filled();
    // The first 1,000 paths are the parents of all others.
    let node = |n: usize| setup::apply::path(1_000 + n * 7_919 % (setup::apply::NODES - 1_000));
    for (name, body) in [
        ("set", &(|n| setup::apply::set(&node(n))) as &dyn Fn(usize) -> (i32, Vec<u8>)),
        ("create", &|n| setup::apply::create(&format!("{}z", node(n)))),
    ] {
        let batches: Vec<Vec<u8>> =
            batches(body).into_iter().map(|bodies| writer.batch(bodies.into_iter())).collect();
        path(name, |batch| {
            state
                .apply_batch(&batches[batch], |_, outcome| drop(black_box(outcome)))
                .expect("it was written just now");
        });
    }
}

/// One batch up and one down: what a turn of both cores pays beside the work itself.
fn ring() {
    let links = Links::new(1).expect("an eventfd");
    let shard = &links.shards[0];
    path("ring", |batch| {
        for n in 0..BATCH {
            let up = Upward { shard: ShardId(0), arena: Vec::new(), proposals: Vec::new(), heard: None };
            assert!(shard.send(black_box(up)).is_ok(), "the ring is empty");
            links.sequencer.ring();
            black_box(shard.receive());
            shard.tell_of_room();
            let down = Publication {
                number: (batch * BATCH + n) as u64 + 1,
                committed: Vec::new(),
                sessions: 0,
                last_zxid: Zxid::ZERO,
                concerns: Concerns::ALL,
                bytes: 0,
            };
            links.publish(&Arc::new(down));
            black_box((links.published(), shard.next_publication()));
        }
    });
}
