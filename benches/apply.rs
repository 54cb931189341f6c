//! Applying a batch of 64: setData, create and delete of 100 bytes, in a tree of 100,000 znodes.

mod setup;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use setup::apply::{create, delete, filled, path, set, BATCH, NODES};
use std::hint::black_box;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn bench(c: &mut Criterion) {
    let (mut state, mut writer) = filled();
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut at = 0usize;
    let mut next = || {
        at = (at + 7919) % NODES;
        at
    };
    group.bench_function("a batch of 64 setData of 100 bytes", |b| {
        b.iter_batched(
            || writer.batch((0..BATCH).map(|_| set(&path(next())))),
            |bytes| {
                state.apply_batch(&bytes, |_, outcome| {
                    black_box(outcome);
                })
            },
            BatchSize::SmallInput,
        )
    });
    group.bench_function("a batch of 32 creates and their 32 deletes", |b| {
        b.iter_batched(
            || {
                let paths: Vec<String> =
                    (0..BATCH / 2).map(|_| format!("{}y", path(next().max(1000)))).collect();
                let creates = paths.iter().map(|path| create(path));
                writer.batch(
                    creates.chain(paths.iter().map(|path| delete(path))).collect::<Vec<_>>().into_iter(),
                )
            },
            |bytes| {
                state.apply_batch(&bytes, |_, outcome| {
                    black_box(outcome);
                })
            },
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
