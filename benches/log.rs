//! The log: what a record costs to encode, a segment to walk, and a durable append with each driver. The last
//! wants a real disk: it writes below the build directory.

use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use ringkeeper::host::disk::{DataDir, DirOptions, Log, LogIo, LogOptions};
use ringkeeper::ids::{LogIndex, ServerId, Term, Zxid};
use ringkeeper::log::record::{encode, padded_len};
use ringkeeper::log::walk::Walk;
use ringkeeper::log::{Append, HardState, Position, SegmentHeader, SegmentNumber, Sequence, BLOCK};

fn header() -> SegmentHeader {
    SegmentHeader {
        cluster: 1,
        server: ServerId(1),
        number: SegmentNumber(1),
        salt: 2,
        continues: None,
        first_sequence: Sequence(1),
        prev_crc: 0,
        hard_state: HardState::default(),
        first_index: LogIndex(1),
        prev_term: Term(0),
        announced: None,
        apply_version: 1,
        membership: Vec::new(),
    }
}

fn entry<'a>(index: u64, payload: &'a [&'a [u8]]) -> Append<'a> {
    let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(index - 1) };
    Append::entry(0, Term(1), LogIndex(index), (Zxid(1), Zxid(1)), hard_state, payload)
}

/// A whole segment of records with so much payload.
fn segment(payload: &[u8]) -> Vec<u8> {
    let header = header();
    let mut bytes = vec![0; 64 << 20];
    bytes[..BLOCK].copy_from_slice(&header.encode());
    let (mut offset, mut prev_crc, mut n) = (BLOCK, 0, 1);
    while offset + padded_len(payload.len()) <= bytes.len() {
        let at = Position {
            segment: header.number,
            salt: header.salt,
            offset: offset as u64,
            sequence: Sequence(n),
            prev_crc,
        };
        prev_crc = encode(&entry(n, &[payload]), at, Sequence(n - 1), &mut bytes[offset..]).crc;
        offset += padded_len(payload.len());
        n += 1;
    }
    bytes
}

fn bytes_alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("log/encode");
    for len in [200usize, 3900, 60_000] {
        let payload = vec![7; len];
        let mut out = vec![0; padded_len(len)];
        let at =
            Position { segment: SegmentNumber(1), salt: 2, offset: 4096, sequence: Sequence(1), prev_crc: 0 };
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(len.to_string(), |b| {
            b.iter(|| encode(black_box(&entry(1, &[&payload])), at, Sequence(0), &mut out).crc);
        });
    }
    group.finish();
    let mut group = c.benchmark_group("log/walk a segment");
    group.sample_size(20);
    for len in [200usize, 60_000] {
        let bytes = segment(&vec![7; len]);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(len.to_string(), |b| {
            b.iter(|| Walk::over(&header(), black_box(&bytes), None).records.len());
        });
    }
    group.finish();
}

fn durable_appends(c: &mut Criterion) {
    for (io, name) in [(LogIo::Auto, "auto"), (LogIo::Thread, "thread"), (LogIo::Buffered, "buffered")] {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let options = DirOptions { path: home.path().to_owned(), log_path: None, server: ServerId(1) };
        let mut dir = DataDir::open(&options).expect("a fresh directory");
        let options = LogOptions { io, quiet: Duration::from_secs(3600), ..LogOptions::default() };
        let (mut log, _) = Log::open(&mut dir, &options, LogIndex(0)).expect("a fresh log");
        let (wake, _bell) = std::io::pipe().expect("a pipe");
        let mut group = c.benchmark_group(format!("log/append {name}"));
        for in_flight in [1usize, 4] {
            let payload = vec![7; 2000];
            group.bench_function(format!("{in_flight} in flight"), |b| {
                b.iter_custom(|n| {
                    let begun = Instant::now();
                    let first = log.durable().0;
                    let mut submitted = 0;
                    while log.durable().0 < first + n {
                        let under_way = first + submitted - log.durable().0;
                        if submitted < n && under_way < in_flight as u64 && log.can_submit() {
                            let next = log.last_index().0 + 1;
                            log.submit(&entry(next, &[&payload])).expect("the disk takes it");
                            submitted += 1;
                            continue;
                        }
                        log.wait(Duration::from_secs(1), wake.as_fd()).expect("the disk takes it");
                    }
                    log.purge(log.last_index());
                    begun.elapsed()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bytes_alone, durable_appends);
criterion_main!(benches);
