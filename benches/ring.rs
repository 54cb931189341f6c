//! What crosses between cores: a publication to one and to four shards, taken at once.

use criterion::{criterion_group, criterion_main, Criterion};
use ringkeeper::handoff::{Concerns, Publication};
use ringkeeper::host::link::Links;
use ringkeeper::ids::Zxid;
use std::hint::black_box;
use std::sync::Arc;

fn bench(c: &mut Criterion) {
    for shards in [1, 4] {
        let links = Links::new(shards).unwrap();
        let mut number = 0;
        c.bench_function(&format!("ring/publish to {shards} shards and take"), |b| {
            b.iter(|| {
                number += 1;
                let publication = Publication {
                    number,
                    committed: Vec::new(),
                    sessions: 0,
                    last_zxid: Zxid::ZERO,
                    concerns: Concerns::ALL,
                    bytes: 0,
                };
                links.publish(&Arc::new(publication));
                for shard in &links.shards {
                    black_box(shard.next_publication());
                }
            })
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
