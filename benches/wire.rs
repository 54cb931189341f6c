//! Decoding and encoding: a getData and a setData of 100 bytes, a Stat, an event.

use criterion::{criterion_group, criterion_main, Criterion};
use ringkeeper::ids::Xid;
use ringkeeper::wire::{
    next_frame, watcher_event, EventType, Frame, PathAndWatch, RequestHeader, SetData, Stat,
    FRAME_BYTES_MAX_DEFAULT, NO_ZXID,
};
use std::borrow::Cow;
use std::hint::black_box;

fn framed(op: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 4];
    RequestHeader { xid: Xid(1), op }.encode(&mut out);
    body(&mut out);
    let length = i32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn bench(c: &mut Criterion) {
    let path = Some(Cow::Borrowed("/app/svc007/node0000000042"));
    let get = framed(4, |out| PathAndWatch { path: path.clone(), watch: false }.encode(out));
    c.bench_function("wire/decode a getData frame", |b| {
        b.iter(|| {
            let Frame::Whole(frame) = next_frame(black_box(&get), FRAME_BYTES_MAX_DEFAULT) else {
                panic!("whole")
            };
            let (header, body) = RequestHeader::decode(frame).unwrap();
            black_box((header, PathAndWatch::decode(body).unwrap()));
        })
    });
    let set = framed(5, |out| SetData { path: path.clone(), data: Some(&[7; 100]), version: -1 }.encode(out));
    c.bench_function("wire/decode a setData frame of 100 bytes", |b| {
        b.iter(|| {
            let Frame::Whole(frame) = next_frame(black_box(&set), FRAME_BYTES_MAX_DEFAULT) else {
                panic!("whole")
            };
            let (header, body) = RequestHeader::decode(frame).unwrap();
            black_box((header, SetData::decode(body).unwrap()));
        })
    });
    let mut out = Vec::with_capacity(256);
    c.bench_function("wire/encode a Stat", |b| {
        b.iter(|| {
            out.clear();
            black_box(Stat::default()).encode(&mut out);
        })
    });
    c.bench_function("wire/encode an event", |b| {
        b.iter(|| {
            out.clear();
            watcher_event(
                &mut out,
                EventType::NodeDataChanged,
                NO_ZXID,
                black_box("/app/svc007/node0000000042"),
            );
        })
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
