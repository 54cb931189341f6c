//! A shard's own work on requests that are all in one read: getData of 100 bytes, exists, ping; a tree of 100,000.

mod setup;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use ringkeeper::wire::OpCode;
use setup::shard::{flush, reads, serving, NOW};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn bench(c: &mut Criterion) {
    let (mut shard, conn) = serving();
    let mut at = 0;
    for (name, op) in
        [("getData of 100 bytes", OpCode::GetData), ("exists", OpCode::Exists), ("ping", OpCode::Ping)]
    {
        for depth in [1, 16] {
            let reads: Vec<Vec<u8>> = (0..1_000).map(|_| reads(op, depth, &mut at)).collect();
            let mut group = c.benchmark_group("shard");
            group.throughput(Throughput::Elements(depth));
            let mut turn = 0;
            group.bench_function(format!("{name}, {depth} in a read"), |b| {
                b.iter(|| {
                    turn = (turn + 1) % reads.len();
                    shard.received(NOW, conn, &reads[turn]);
                    flush(&mut shard, NOW);
                })
            });
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
