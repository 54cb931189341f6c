//! A shard's own work on requests that are all in one read: getData of 100 bytes, exists, ping; a tree of 100,000.

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use ringkeeper::auth::Schemes;
use ringkeeper::handoff::{Addressee, AnswerKind, Committed, Publication};
use ringkeeper::ids::{Millis, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
use ringkeeper::shard::{Options, Shard};
use ringkeeper::tree::{AclId, Answer, Data, Node, Path, PathHasher, Table, Znode};
use ringkeeper::watch::Limits;
use ringkeeper::wire::{ConnectRequest, OpCode, PathAndWatch, RequestHeader};
use std::borrow::Cow;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: usize = 100_000;

fn options() -> Options {
    Options {
        server: ServerId(1),
        incarnation: 1,
        shard: ShardId(0),
        frame_bytes_max: 0xf_ffff,
        session_timeout_min_ms: 4_000,
        session_timeout_max_ms: 40_000,
        handshake_timeout_ms: 10_000,
        outstanding_per_connection_max: 1_000,
        outstanding_max: 65_536,
        unsent_pause_bytes: 1 << 30,
        unsent_cut_bytes: 1 << 30,
        unsent_cut_ms: 1 << 30,
        sessions_max: 1_000,
        acl_entries_max: 1_000,
        multi_ops_max: 1_000,
        identities_max: 64,
        watch_limits: Limits { count_max: 1_000, bytes_max: 1 << 20 },
        schemes: Schemes::default(),
        skip_acl: false,
        required_schemes: None,
        report_ms: 500,
    }
}

fn node(path: &str) -> Node {
    Node::new(Znode {
        path: Path::new(path),
        data: Some(Data::new(&[7; 100])),
        czxid: Zxid(1),
        mzxid: Zxid(1),
        pzxid: Zxid(1),
        ctime: WallMillis(1),
        mtime: WallMillis(1),
        version: 0,
        cversion: 0,
        aversion: 0,
        num_children: 0,
        acl: AclId::OPEN,
        owner: 0,
    })
}

fn path(n: usize) -> String {
    format!("/svc{:03}/node{n:010}", n % 1000)
}

fn framed(op: OpCode, body: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    RequestHeader { xid: Xid(1), op: op.as_i32() }.encode(out);
    body(out);
    let length = i32::try_from(out.len() - start - 4).unwrap();
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn bench(c: &mut Criterion) {
    let hasher = PathHasher::new([1, 2, 3, 4]);
    let mut table = Table::new(hasher.clone());
    table.insert(node("/"));
    for n in 0..NODES {
        table.insert(node(&path(n)));
    }
    let now = Millis(1_000);
    let mut shard = Shard::new(options(), hasher, now);
    shard.serve(table, Zxid(1), 0);
    let conn = shard.accept(now, "127.0.0.1:1".parse().unwrap());
    let mut hello = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 10_000,
        session_id: 0,
        password: None,
        read_only: Some(false),
    }
    .encode(&mut hello);
    shard.received(now, conn, &hello);
    shard.take_upward().expect("a session is asked for");
    let to = Addressee { shard: ShardId(0), conn, xid: Xid(0), kind: AnswerKind::Handshake };
    let answer = Answer::Session { id: SessionId(5), timeout_ms: 10_000, password: [0; 16] };
    let committed = vec![Committed { zxid: Zxid(2), changes: Default::default(), to: Some(to), answer }];
    shard.install(now, &Publication { number: 1, committed, sessions: 1, last_zxid: Zxid(2) });
    while let Some(resumed) = shard.next_resumed() {
        shard.resume(now, resumed);
    }
    flush(&mut shard, now);

    let mut at = 0;
    for (name, op) in
        [("getData of 100 bytes", OpCode::GetData), ("exists", OpCode::Exists), ("ping", OpCode::Ping)]
    {
        for depth in [1, 16] {
            let reads: Vec<Vec<u8>> = (0..1_000)
                .map(|_| {
                    let mut bytes = Vec::new();
                    for _ in 0..depth {
                        at = (at + 7_919) % NODES;
                        let path = path(at);
                        let body = PathAndWatch { path: Some(Cow::Borrowed(&path)), watch: false };
                        framed(
                            op,
                            |out| {
                                if op != OpCode::Ping {
                                    body.encode(out)
                                }
                            },
                            &mut bytes,
                        );
                    }
                    bytes
                })
                .collect();
            let mut group = c.benchmark_group("shard");
            group.throughput(Throughput::Elements(depth));
            let mut turn = 0;
            group.bench_function(format!("{name}, {depth} in a read"), |b| {
                b.iter(|| {
                    turn = (turn + 1) % reads.len();
                    shard.received(now, conn, &reads[turn]);
                    flush(&mut shard, now);
                })
            });
            group.finish();
        }
    }
}

fn flush(shard: &mut Shard, now: Millis) {
    while let Some(conn) = shard.next_dirty() {
        let n = shard.output(conn).len();
        shard.wrote(now, conn, n);
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
