//! Applying a batch of 64: setData, create and delete of 100 bytes, in a tree of 100,000 znodes.

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use ringkeeper::apply::{BatchHeader, BatchWriter, Options, State, Txn, TxnBody};
use ringkeeper::ids::{ConnId, ServerId, SessionId, ShardId, WallMillis, Xid, Zxid};
use ringkeeper::tree::PathHasher;
use ringkeeper::wire::{Acl, Create, Delete, Id, OpCode, Perms, SetData};
use std::borrow::Cow;
use std::hint::black_box;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSION: SessionId = SessionId(1 << 56);
const NODES: usize = 100_000;
const BATCH: usize = 64;

struct Writer {
    sequence: u64,
    zxid: i64,
}

impl Writer {
    fn batch(&mut self, bodies: impl Iterator<Item = (i32, Vec<u8>)>) -> Vec<u8> {
        let identities = identities();
        let mut writer = BatchWriter::new(1 << 14);
        for (op, request) in bodies {
            let body = if op == 0 {
                TxnBody::CreateSession { timeout_ms: 10_000, password: [0; 16] }
            } else {
                TxnBody::Request { op, identities: &identities, request: &request }
            };
            writer.push(&Txn { session: SESSION, shard: ShardId(0), conn: ConnId(1), xid: Xid(1), body });
        }
        self.sequence += 1;
        let first_zxid = Zxid(self.zxid + 1);
        self.zxid += writer.zxids();
        writer.finish(&BatchHeader {
            options: Options::default(),
            wall: WallMillis(1),
            first_zxid,
            server: ServerId(1),
            incarnation: 1,
            sequence: self.sequence,
        })
    }
}

fn identities() -> Vec<u8> {
    let mut out = Vec::new();
    ringkeeper::wire::put_string(&mut out, "ip");
    ringkeeper::wire::put_string(&mut out, "127.0.0.1");
    out
}

fn path(n: usize) -> String {
    if n < 1000 {
        format!("/svc{n:03}")
    } else {
        format!("/svc{:03}/node{n:010}", n % 1000)
    }
}

fn create(path: &str) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    Create { path: Some(Cow::Borrowed(path)), data: Some(&[7; 100]), acl: None, flags: 0, ttl_ms: -1 }
        .encode(OpCode::Create, &mut out);
    // The open list in place of the null one.
    out.truncate(out.len() - 8);
    Acl::encode_list(&[Acl { perms: Perms::ALL, id: Id::new("world", "anyone") }], &mut out);
    out.extend_from_slice(&0i32.to_be_bytes());
    (OpCode::Create.as_i32(), out)
}

fn set(path: &str) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    SetData { path: Some(Cow::Borrowed(path)), data: Some(&[8; 100]), version: -1 }.encode(&mut out);
    (OpCode::SetData.as_i32(), out)
}

fn delete(path: &str) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    Delete { path: Some(Cow::Borrowed(path)), version: -1 }.encode(&mut out);
    (OpCode::Delete.as_i32(), out)
}

fn bench(c: &mut Criterion) {
    let mut state = State::new(PathHasher::new([1, 2, 3, 4]));
    let mut writer = Writer { sequence: 0, zxid: 0 };
    let first = writer.batch(std::iter::once((0, Vec::new())));
    state.apply_batch(&first, |_, _| {}).unwrap();
    for from in (0..NODES).step_by(BATCH) {
        let bytes = writer.batch((from..from + BATCH).map(|n| create(&path(n))));
        state.apply_batch(&bytes, |_, outcome| assert!(!outcome.changes.is_empty())).unwrap();
    }
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
