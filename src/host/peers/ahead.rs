//! Entries that a server far behind is to be sent are read from the log's files by a thread of their own before the
//! sequencer's reads them. The log is written past the page cache: who looks there first waits for the disk, 5 to 30 ms beside
//! its writes, and with the sequencer everybody's writes wait.

use crate::host::disk::{segment_path, DataDir, Disk};
use crate::host::link::Links;
use crate::ids::{LogIndex, ServerId, Term};
use crate::log::{EntryRef, SegmentNumber};
use bytes::Bytes;
use crossbeam::channel::{unbounded, Receiver, Sender};
use std::io;
use std::sync::Arc;

/// Read in one piece.
const PIECE_BYTES: u64 = 256 << 10;

/// The log, as far as it is needed to tell other servers of it.
pub(in crate::host) trait Entries {
    /// Where an entry lies; `None` where it is there no more, or another one.
    fn place(&self, index: LogIndex, term: Term) -> Option<EntryRef>;
    /// Its payload, read now.
    fn read(&mut self, entry: &EntryRef) -> Option<Bytes>;
}

/// A part of a segment's file.
#[derive(Debug, PartialEq)]
struct Span {
    segment: SegmentNumber,
    begin: u64,
    end: u64,
}

/// The files' parts with these entries, those that touch each other as one.
fn spans(entries: impl Iterator<Item = EntryRef>) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    for entry in entries {
        let (begin, end) = (entry.offset, entry.end());
        match all.last_mut().filter(|last| last.segment == entry.segment && last.end == begin) {
            Some(last) => last.end = end,
            None => all.push(Span { segment: entry.segment, begin, end }),
        }
    }
    all
}

/// A connection, by whom it is with and its number.
pub(super) type Reader = (ServerId, u64);

/// The thread, from this side. It ends with this.
pub(super) struct ReadAhead {
    ask: Sender<(Reader, Vec<Span>)>,
    done: Receiver<Reader>,
}

impl ReadAhead {
    /// Starts it; the sequencer's bell is rung when something was read.
    pub(super) fn start(dir: &Arc<DataDir>, links: Arc<Links>) -> io::Result<ReadAhead> {
        let (ask, asked) = unbounded::<(Reader, Vec<Span>)>();
        let (tell, done) = unbounded();
        let dir = dir.clone();
        std::thread::Builder::new().name("log-ahead".into()).spawn(move || {
            for (reader, spans) in asked {
                spans.iter().for_each(|span| touch(&dir, span));
                if tell.send(reader).is_err() {
                    return;
                }
                links.sequencer.ring_anyway();
            }
        })?;
        Ok(ReadAhead { ask, done })
    }

    /// Has these entries read, and says so to `next_done`. Whether it will.
    pub(super) fn ask(&self, reader: Reader, entries: impl Iterator<Item = EntryRef>) -> bool {
        let spans = spans(entries);
        !spans.is_empty() && self.ask.send((reader, spans)).is_ok()
    }

    /// Whose entries were read since the last call.
    pub(super) fn next_done(&self) -> Option<Reader> {
        self.done.try_recv().ok()
    }
}

/// Into the page cache with it. What cannot be read is found by the sequencer, whose matter it is.
fn touch(dir: &DataDir, span: &Span) {
    let (disk, path) = (dir.disk(), segment_path(&dir.log_path(), span.segment));
    let mut at = span.begin;
    while at < span.end {
        let len = (span.end - at).min(PIECE_BYTES);
        if disk.read_at(&path, at, usize::try_from(len).expect("a piece is small")).is_err() {
            return;
        }
        at += len;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::log::Sequence;

    pub fn entry(segment: u64, offset: u64, payload_len: u32) -> EntryRef {
        EntryRef {
            index: LogIndex(1),
            term: Term(1),
            tag: 0,
            first_zxid: Zxid(1),
            last_zxid: Zxid(1),
            payload_len,
            segment: SegmentNumber(segment),
            offset,
            sequence: Sequence(1),
            crc: 0,
        }
    }

    #[test]
    fn neighbours_are_read_as_one() {
        let first = entry(1, 4096, 10_000);
        let second = entry(1, first.end(), 1);
        let apart = entry(1, second.end() + 4096, 1);
        let elsewhere = entry(2, apart.end(), 1);
        let span = |segment, begin, end| Span { segment: SegmentNumber(segment), begin, end };
        assert_eq!(
            spans([first, second, apart, elsewhere].into_iter()),
            [
                span(1, 4096, second.end()),
                span(1, apart.offset, apart.end()),
                span(2, elsewhere.offset, elsewhere.end())
            ]
        );
        assert_eq!(spans(std::iter::empty()), []);
    }
}
