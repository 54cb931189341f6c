//! A table of 100,000 znodes (`TREE_NODES` sets another size): lookup, set, create and delete.

use criterion::{criterion_group, criterion_main, Criterion};
use ringkeeper::ids::{WallMillis, Zxid};
use ringkeeper::tree::{path, Node, PathHasher, Table, Znode};
use std::hint::black_box;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn node(path: &str, data: Option<&[u8]>) -> Node {
    Node::new(Znode::created(path, Zxid(1), WallMillis(1)), data)
}

fn insert(table: &mut Table, path: &str, data: Option<&[u8]>) {
    let mut node = node(path, data);
    node.set_place(table.free_place(path::parent(path).unwrap_or("/")));
    table.insert(node);
}

fn path(n: usize) -> String {
    format!("/app/svc{:03}/node{n:010}", n % 1000)
}

fn bench(c: &mut Criterion) {
    let size: usize = std::env::var("TREE_NODES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut table = Table::new(PathHasher::new([1, 2, 3, 4]));
    insert(&mut table, "/", None);
    insert(&mut table, "/app", None);
    for n in 0..1000 {
        insert(&mut table, &format!("/app/svc{n:03}"), None);
    }
    for n in 0..size {
        insert(&mut table, &path(n), Some(&[7; 100]));
    }
    let paths: Vec<String> = (0..size).map(|n| path(n.wrapping_mul(7919) % size)).collect();
    let mut at = 0;
    c.bench_function("tree/look up a random path", |b| {
        b.iter(|| {
            at = (at + 1) % size;
            black_box(table.get(&paths[at]).is_some())
        })
    });
    c.bench_function("tree/build and replace a znode of 100 bytes", |b| {
        b.iter(|| {
            at = (at + 1) % size;
            let old = table.get(&paths[at]).unwrap();
            let new = Node::new(Znode { version: 1, ..(**old).clone() }, Some(&[8; 100]));
            black_box(table.replace(new));
        })
    });
    c.bench_function("tree/insert and remove a child", |b| {
        b.iter(|| {
            at = (at + 1) % size;
            let child = format!("{}x", paths[at]);
            insert(&mut table, &child, None);
            black_box(table.remove(&child));
        })
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
