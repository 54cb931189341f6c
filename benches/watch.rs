//! Watches: registering and firing, alone and in a crowd of 10,000.

use criterion::{criterion_group, criterion_main, BatchSize, Criterion};
use ringkeeper::ids::ConnId;
use ringkeeper::tree::PathHasher;
use ringkeeper::watch::{Bits, Kind, Limits, Watches};
use std::hint::black_box;

fn watches() -> Watches {
    Watches::new(PathHasher::new([1, 2, 3, 4]), Limits { count_max: 1 << 20, bytes_max: 1 << 30 })
}

fn bench(c: &mut Criterion) {
    let mut w = watches();
    c.bench_function("watch/register and fire one", |b| {
        b.iter(|| {
            w.add(Kind::Data, "/app/svc007/node0000000042", ConnId(1), Bits::ONE_SHOT).unwrap();
            black_box(w.fire_data("/app/svc007/node0000000042"));
        })
    });
    c.bench_function("watch/fire where nobody watches", |b| {
        b.iter(|| black_box(w.fire_data("/app/svc007/node0000000043").is_empty()))
    });
    c.bench_function("watch/take a crowd of 10,000", |b| {
        b.iter_batched(
            || {
                let mut w = watches();
                for n in 0..10_000 {
                    w.add(Kind::Data, "/a", ConnId(n), Bits::ONE_SHOT).unwrap();
                }
                w
            },
            |mut w| {
                let crowd = w.fire_data("/a");
                (crowd.len(), w)
            },
            BatchSize::LargeInput,
        )
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
