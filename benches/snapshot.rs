//! How fast a state of 1,000,000 znodes of 100 bytes becomes a snapshot and a state again: the better half of a
//! restart. `SNAPSHOT_NODES` sets another size.

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use ringkeeper::apply::{znode_digest, SnapshotHead, State};
use ringkeeper::ids::{WallMillis, Zxid};
use ringkeeper::snapshot::{decode, encode_state, Blocks, Meta, Unpacker};
use ringkeeper::tree::{AclId, Node, Path, PathHasher, TableLoader, Znode};
use std::hint::black_box;

/// The server's own allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thousand directories under one path, the rest spread over them; data that compresses a little.
fn state(nodes: usize) -> State {
    let parents = 1_000.min(nodes);
    let mut all = vec![node("/", "", 1), node("/load", "", parents as i32)];
    for parent in 0..parents {
        let children = (parent..nodes).step_by(parents).count();
        all.push(node(&format!("/load/dir-{parent:04}"), "", children as i32));
    }
    let mut seed = 1u64;
    for n in 0..nodes {
        let mut data = String::with_capacity(100);
        while data.len() < 100 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            data.push_str(&format!("{:012x} ", seed >> 16));
        }
        data.truncate(100);
        all.push(node(&format!("/load/dir-{:04}/znode-{n:07}", n % parents), &data, 0));
    }
    let digest = all.iter().fold(0u64, |sum, node| sum.wrapping_add(znode_digest(node)));
    let head =
        SnapshotHead { last_zxid: Zxid(1 << 33), digest, nodes: all.len() as u64, ..Default::default() };
    let mut state = State::from_snapshot(PathHasher::new([1, 2, 3, 4]), head);
    let mut loader = TableLoader::new(PathHasher::new([1, 2, 3, 4]), state.table.acls.clone());
    for node in all {
        state.load_node(&node);
        loader.push(node);
    }
    state.loaded(loader.finish().expect("different paths"));
    state
}

fn node(path: &str, data: &str, num_children: i32) -> Node {
    let znode = Znode {
        path: Path::new(path),
        czxid: Zxid(1 << 32 | path.len() as i64),
        mzxid: Zxid(1 << 32 | 77),
        pzxid: Zxid(1 << 32 | path.len() as i64),
        ctime: WallMillis(1_700_000_000_000),
        mtime: WallMillis(1_700_000_000_000 + path.len() as i64),
        version: 1,
        cversion: num_children,
        aversion: 0,
        num_children,
        acl: AclId::OPEN,
        owner: 0,
        place: 0,
    };
    Node::new(znode, Some(data.as_bytes()))
}

fn benches(c: &mut Criterion) {
    let nodes = std::env::var("SNAPSHOT_NODES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let state = state(nodes);
    let mut bytes = Vec::new();
    encode_state(&mut bytes, &Meta::default(), &state).expect("a vector takes all");
    println!("{nodes} znodes, {} bytes of snapshot", bytes.len());
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10).throughput(Throughput::Elements(nodes as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            let mut out = Vec::with_capacity(bytes.len());
            encode_state(&mut out, &Meta::default(), &state).expect("a vector takes all");
            black_box(out.len())
        });
    });
    group.bench_function("unpack", |b| {
        b.iter(|| {
            let mut input = &bytes[..];
            let mut blocks = Blocks::open(&mut input).expect("a right header");
            let mut unpacker = Unpacker::new().expect("memory");
            let mut count = 0;
            while let Some(block) = blocks.next_block().expect("right bytes") {
                if block.has_nodes() {
                    count += unpacker.nodes(&block).expect("right znodes").len();
                }
            }
            black_box(count)
        });
    });
    group.bench_function("decode", |b| {
        // Each start has a hasher key of its own, so the order of the file is no help.
        let mut key = 0;
        b.iter_with_large_drop(|| {
            key += 1;
            decode(&mut &bytes[..], PathHasher::new([key, 9, 9, 9])).expect("a right snapshot")
        });
    });
    // What each shard gets at start.
    group.bench_function("clone of the table", |b| b.iter_with_large_drop(|| state.table.clone()));
    group.finish();
}

criterion_group!(snapshot, benches);
criterion_main!(snapshot);
