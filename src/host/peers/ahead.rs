//! Messages with entries that are not in memory, to a server far behind, are made into frames by a thread of its own. The log
//! is written past the page cache: who looks there first waits for the disk, 5 to 30 ms beside its writes, and with the
//! sequencer everybody's writes wait. And a megabyte that is read, compared with its checksum, copied and given another one
//! takes the better part of a millisecond, some hundreds of times while a server catches up.

use super::wire::put_frame;
use crate::host::disk::{read_payload, DataDir};
use crate::host::link::Links;
use crate::ids::{LogIndex, ServerId, Term};
use crate::log::EntryRef;
use crate::peer::Message;
use bytes::Bytes;
use crossbeam::channel::{unbounded, Receiver, Sender};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Read at one go. A thread that stands back is let run on for a millisecond and more where it has begun, before one that
/// serves clients has its turn (what Linux calls run to parity).
const IN_A_ROW: usize = 128 << 10;
/// Then it stands still.
const REST: Duration = Duration::from_micros(100);

/// The log, as far as it is needed to tell other servers of it.
pub(in crate::host) trait Entries {
    /// Where an entry lies; `None` where it is there no more, or another one.
    fn place(&self, index: LogIndex, term: Term) -> Option<EntryRef>;
    /// Its payload, read now.
    fn read(&mut self, entry: &EntryRef) -> Option<Bytes>;
    /// How many bytes of payloads it has been given since the start.
    fn bytes(&self) -> u64;
}

/// A connection, by whom it is with and its number.
pub(super) type Reader = (ServerId, u64);

/// A message and where its missing entries lie.
pub(super) struct Errand {
    pub reader: Reader,
    pub message: Message,
    pub places: Vec<EntryRef>,
}

/// What became of it.
pub(super) struct Done {
    pub reader: Reader,
    /// What was read. The log may have other entries there by now.
    pub places: Vec<EntryRef>,
    /// Its frame; or the message where an entry could not be read. That is for the log to judge.
    pub made: Result<Vec<u8>, Message>,
}

/// The thread, from this side. It ends with this.
pub(super) struct ReadAhead {
    ask: Sender<Errand>,
    done: Receiver<Done>,
}

impl ReadAhead {
    /// Starts it; the sequencer's bell is rung when a frame was made.
    pub(super) fn start(dir: &Arc<DataDir>, links: Arc<Links>) -> io::Result<ReadAhead> {
        let (ask, asked) = unbounded::<Errand>();
        let (tell, done) = unbounded();
        let dir = dir.clone();
        std::thread::Builder::new().name("log-ahead".into()).spawn(move || {
            // It runs as long as it is let.
            crate::host::pin::step_back();
            for errand in asked {
                if tell.send(run(&dir, errand)).is_err() {
                    return;
                }
                links.sequencer.ring_anyway();
            }
        })?;
        Ok(ReadAhead { ask, done })
    }

    /// Has a frame made, and says so to `next_done`.
    pub(super) fn ask(&self, errand: Errand) {
        self.ask.send(errand).expect("the thread lives as long as this");
    }

    /// What was done since the last call.
    pub(super) fn next_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

fn run(dir: &DataDir, errand: Errand) -> Done {
    let Errand { reader, mut message, places } = errand;
    let is_read = fill(dir, &mut message, &places).is_some();
    let made = if is_read {
        let mut frame = Vec::new();
        put_frame(&mut frame, &message);
        Ok(frame)
    } else {
        Err(message)
    };
    Done { reader, places, made }
}

/// Gives the entries that lack them their payloads, which lie there.
fn fill(dir: &DataDir, message: &mut Message, places: &[EntryRef]) -> Option<()> {
    let Message::Raft(raft) = message else { return None };
    let missing = raft.entries.iter_mut().filter(|entry| entry.payload.is_none());
    let mut in_a_row = 0;
    for (entry, place) in missing.zip(places) {
        if in_a_row >= IN_A_ROW {
            in_a_row = 0;
            std::thread::sleep(REST);
        }
        in_a_row += place.payload_len as usize;
        entry.payload = Some(read_payload(&dir.disk(), &dir.log_path(), place).ok()?);
    }
    raft.entries.iter().all(|entry| entry.payload.is_some()).then_some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::Zxid;
    use crate::log::{SegmentNumber, Sequence};

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
}
