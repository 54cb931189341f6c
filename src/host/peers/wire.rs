//! One connection with another server: frames in, messages waiting to go out.

use super::ahead::{Done, Entries, Errand, ReadAhead, Reader};
use super::stream::Stream;
use crate::ids::{LogIndex, Millis, ServerId, Term};
use crate::log::EntryRef;
use crate::peer::{self, Entry, Message, RaftMessage};
use crate::sequencer::{is_heartbeat, Input};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use tracing::warn;

/// A batch has at most 16 MiB, a message at most one such batch or 1 MiB of several.
const FRAME_BYTES_MAX: usize = 24 << 20;
pub const HEAD_BYTES: usize = 8;
/// Read from one server in a turn.
const READ_A_TURN: usize = 1 << 20;
/// Messages taken from one server in a turn: Raft may answer each with a megabyte of entries, and all of the answers lie in
/// memory until the turn is over.
pub const MESSAGES_A_TURN: usize = 64;
/// Encoded ahead of the socket.
pub const ENCODED_MAX: usize = 128 << 10;
/// Written to one server in a turn: one that takes a gigabyte does not keep the others waiting for theirs.
pub const WRITE_A_TURN: usize = 128 << 10;
/// Of entries that were read for one that has fallen behind; then it has to wait. Where all threads share a CPU, and it takes
/// a gigabyte, the others' clients wait for no more than this.
const BULK_A_TURN: usize = 64 << 10;
/// For so long, or for as long as the share took. It gets some 110 MB a second: with pauses of the second kind alone the
/// others' clients had 2.0 to 2.3 times their p99, with these 1.7.
pub const BULK_REST: Duration = Duration::from_micros(500);
/// What the log may grow meanwhile for that; one that takes less than is written would never be there.
pub const BULK_GROWTH: u64 = BULK_A_TURN as u64 / 2;
/// What waits for a server, at the most: it has fallen behind the wire, and a new connection begins with less.
const WAITING_MESSAGES_MAX: usize = 16 << 10;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// With nothing to say a server still shows that it is there.
pub const SIGN_OF_LIFE_MS: u64 = 250;

/// One connection.
pub struct Wire {
    pub reader: Reader,
    pub stream: Stream,
    pub accepted: Option<u64>,
    input: BytesMut,
    /// The turn ended before all that has come was taken: epoll does not tell of it.
    pub has_more: bool,
    /// The turn ended before the socket had all that it takes.
    pub has_unwritten: bool,
    /// What is being written was read for one that has fallen behind.
    is_bulk: bool,
    /// Until when no more of that is written.
    rests_until: Option<Instant>,
    /// The log's bytes when the last of it was.
    bytes_before: u64,
    pub waiting: VecDeque<Message>,
    pub next: Next,
    waiting_bytes: usize,
    /// More was to be said than may wait: it hears nothing more on this connection.
    is_behind: bool,
    output: Vec<u8>,
    sent: usize,
    pub heard_at: Millis,
    said_at: Millis,
    /// The socket took no more: epoll tells when it does.
    pub is_blocked: bool,
}

/// The message that goes out next.
pub enum Next {
    /// The first that waits.
    Waits,
    /// Its entries are being read.
    Reads,
    /// They were.
    Read(Done),
}

/// The entries in a message whose payload is not in memory.
fn missing(message: &Message) -> impl Iterator<Item = (LogIndex, Term)> + '_ {
    let (begin, entries) = match message {
        Message::Raft(raft) => (raft.index.0 + 1, raft.entries.as_slice()),
        _ => (0, &[][..]),
    };
    let entries = (begin..).zip(entries).filter(|(_, entry)| entry.payload.is_none());
    entries.map(|(index, entry)| (LogIndex(index), entry.term))
}

/// About what a message holds in memory.
fn weight(message: &Message) -> usize {
    match message {
        Message::Raft(raft) => {
            let entry = |entry: &Entry| size_of::<Entry>() + entry.payload.as_ref().map_or(0, Bytes::len);
            raft.entries.iter().map(entry).sum::<usize>() + size_of::<RaftMessage>()
        }
        Message::Forward(forward) => forward.batch.len() + 64,
        Message::Agreement(_) | Message::Seated(_) => 64,
        Message::Wish(step) => 64 + step.len(),
        Message::Heard(heard) => 64 + heard.sessions.len() * 16,
    }
}

impl Wire {
    pub fn new(reader: Reader, stream: Stream, accepted: Option<u64>, now: Millis) -> Wire {
        Wire {
            reader,
            accepted,
            // The first words may have come in one piece with the greeting's last.
            has_more: matches!(stream, Stream::Tls(_)),
            stream,
            input: BytesMut::new(),
            has_unwritten: false,
            is_bulk: false,
            rests_until: None,
            bytes_before: 0,
            waiting: VecDeque::new(),
            next: Next::Waits,
            waiting_bytes: 0,
            is_behind: false,
            output: Vec::new(),
            sent: 0,
            heard_at: now,
            said_at: now,
            is_blocked: false,
        }
    }

    /// Takes a message on its way.
    pub fn say(&mut self, message: Message) {
        // Before it is taken: a flood of questions has its answers in one turn.
        if self.waiting.len() > WAITING_MESSAGES_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            self.is_behind = true;
        }
        if !self.is_behind {
            self.waiting_bytes += weight(&message);
            self.waiting.push_back(message);
        }
    }

    /// With nothing to say for a while it says so.
    pub fn show_life(&mut self, now: Millis) {
        let has_words = match self.next {
            Next::Waits => !self.waiting.is_empty(),
            Next::Reads => false,
            Next::Read(_) => true,
        };
        if now.since(self.said_at).0 > SIGN_OF_LIFE_MS && !self.has_output() && !has_words {
            self.output.extend_from_slice(&[0; HEAD_BYTES]);
        }
    }

    pub fn has_output(&self) -> bool {
        self.sent < self.output.len() || self.stream.has_unsent()
    }

    pub fn read(
        &mut self,
        now: Millis,
        server: ServerId,
        scratch: &mut [u8],
        give: &mut dyn FnMut(Input),
    ) -> Result<(), String> {
        let (mut bytes, mut messages) = (0, MESSAGES_A_TURN);
        self.has_more = false;
        self.take_frames(server, &mut messages, give)?;
        let is_plain = matches!(self.stream, Stream::Plain(_));
        // What TLS has in hand the socket does not tell of.
        while messages > 0 && (bytes < READ_A_TURN || self.stream.has_unread()) {
            match self.stream.read(scratch) {
                Ok(0) => return Err("it was closed".to_owned()),
                Ok(n) => {
                    bytes += n;
                    self.heard_at = now;
                    self.input.extend_from_slice(&scratch[..n]);
                    self.take_frames(server, &mut messages, give)?;
                    if n < scratch.len() && is_plain {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.has_more = messages == 0;
        Ok(())
    }

    /// Takes messages out of what has come, so many at the most.
    fn take_frames(
        &mut self,
        server: ServerId,
        messages: &mut usize,
        give: &mut dyn FnMut(Input),
    ) -> Result<(), String> {
        while *messages > 0 && self.input.len() >= HEAD_BYTES {
            let length =
                u32::from_be_bytes([self.input[0], self.input[1], self.input[2], self.input[3]]) as usize;
            let check = u32::from_be_bytes([self.input[4], self.input[5], self.input[6], self.input[7]]);
            if length > FRAME_BYTES_MAX {
                return Err(format!("a frame of {length} bytes"));
            }
            if self.input.len() < HEAD_BYTES + length {
                return Ok(());
            }
            self.input.advance(HEAD_BYTES);
            let body = self.input.split_to(length).freeze();
            if crc32c::crc32c(&body) != check {
                return Err("a frame whose checksum does not fit".to_owned());
            }
            if body.is_empty() {
                continue;
            }
            let message = peer::decode(&body).map_err(|_| "a frame that is no message".to_owned())?;
            *messages -= 1;
            give(Input::Peer { from: server, message });
        }
        Ok(())
    }

    /// If the next message lacks entries that the log has, they are read.
    fn look_ahead(&mut self, entries: &dyn Entries, ahead: &ReadAhead) {
        let (Next::Waits, Some(next)) = (&self.next, self.waiting.front()) else { return };
        let places: Option<Vec<EntryRef>> =
            missing(next).map(|(index, term)| entries.place(index, term)).collect();
        if let Some(places) = places.filter(|places| !places.is_empty()) {
            let message = self.waiting.pop_front().expect("it was looked at just now");
            self.waiting_bytes -= weight(&message);
            self.next = Next::Reads;
            ahead.ask(Errand { reader: self.reader, message, places });
        }
    }

    /// Encodes the next message if it can go out. While the disk is waited for the other server still hears that this one
    /// leads.
    fn encode_next(&mut self, entries: &mut dyn Entries, ahead: &ReadAhead) -> bool {
        self.look_ahead(entries, ahead);
        let message = match &self.next {
            Next::Waits => self.waiting.pop_front(),
            Next::Reads => {
                let is_heartbeat =
                    |message: &Message| matches!(message, Message::Raft(raft) if is_heartbeat(raft));
                let at = self.waiting.iter().position(is_heartbeat);
                at.and_then(|at| self.waiting.remove(at))
            }
            // It goes as it is, and is not copied.
            Next::Read(_) if !self.output.is_empty() => return false,
            Next::Read(_) => {
                let Next::Read(done) = std::mem::replace(&mut self.next, Next::Waits) else { unreachable!() };
                self.take_read(done, entries);
                return true;
            }
        };
        let Some(message) = message else { return false };
        self.waiting_bytes -= weight(&message);
        self.encode(message, entries);
        true
    }

    fn take_read(&mut self, done: Done, entries: &mut dyn Entries) {
        match done.made {
            Err(message) => self.encode(message, entries),
            Ok(frame) => {
                let moved = |place: &&EntryRef| entries.place(place.index, place.term) != Some(**place);
                match done.places.iter().find(moved) {
                    None => (self.output, self.is_bulk) = (frame, true),
                    Some(gone) => not_there(gone.index),
                }
            }
        }
    }

    /// Writes as much as the socket takes, and a turn allows.
    pub fn write(&mut self, now: Millis, entries: &mut dyn Entries, ahead: &ReadAhead) -> Result<(), String> {
        if self.rests().is_some_and(|rest| !rest.is_zero()) {
            self.has_unwritten = true;
            return Ok(());
        }
        let (begun, was_bulk) = (Instant::now(), self.is_bulk);
        let written = self.write_share(now, entries, ahead);
        if was_bulk || self.is_bulk {
            let now = Instant::now();
            let bytes = entries.bytes();
            let grown = bytes - std::mem::replace(&mut self.bytes_before, bytes);
            let least = if grown > BULK_GROWTH { Duration::ZERO } else { BULK_REST };
            self.rests_until = Some(now + (now - begun).max(least));
        }
        written
    }

    /// How long it is until more is written to one that takes much, and would take it now. Zero: it is time.
    pub fn rests(&self) -> Option<Duration> {
        let can_go_on = self.is_bulk && self.has_output() && !self.is_blocked;
        let until = self.rests_until.filter(|_| can_go_on)?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    #[cfg(test)]
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    #[cfg(test)]
    pub fn rests_until(&mut self) -> &mut Option<Instant> {
        &mut self.rests_until
    }

    fn write_share(
        &mut self,
        now: Millis,
        entries: &mut dyn Entries,
        ahead: &ReadAhead,
    ) -> Result<(), String> {
        let mut gone = 0;
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                self.sent = 0;
                self.is_bulk = false;
            }
            while self.output.len() < ENCODED_MAX && self.encode_next(entries, ahead) {}
            // What comes then is read while this is written.
            self.look_ahead(entries, ahead);
            if self.is_behind {
                return Err("it does not keep up with what it is sent".to_owned());
            }
            let room = if self.is_bulk { BULK_A_TURN } else { WRITE_A_TURN }.saturating_sub(gone);
            let can_go_on = self.has_output() && !self.is_blocked;
            self.has_unwritten = can_go_on && room == 0;
            if !can_go_on || room == 0 {
                return Ok(());
            }
            let left = &self.output[self.sent..];
            let left = &left[..left.len().min(room)];
            let written =
                if left.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(left) };
            match written {
                Ok(n) => {
                    self.sent += n;
                    gone += n;
                    self.said_at = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Appends a message as a frame. One whose entries are gone from the log, or were replaced there, is of no use any more.
    fn encode(&mut self, mut message: Message, entries: &mut dyn Entries) {
        if let Message::Raft(raft) = &mut message {
            let mut index = raft.index;
            for entry in &mut raft.entries {
                index.0 += 1;
                if entry.payload.is_none() {
                    let place = entries.place(index, entry.term);
                    let Some(payload) = place.and_then(|place| entries.read(&place)) else {
                        return not_there(index);
                    };
                    entry.payload = Some(payload);
                }
            }
        }
        put_frame(&mut self.output, &message);
    }
}

fn not_there(index: LogIndex) {
    warn!(index = index.0, "an entry for another server is no longer in the log");
}

/// Appends a message as a frame. Its entries have their payloads.
pub fn put_frame(out: &mut Vec<u8>, message: &Message) {
    let begin = out.len();
    // Never so much too little that it grows twice.
    out.reserve(weight(message) + HEAD_BYTES);
    out.extend_from_slice(&[0; HEAD_BYTES]);
    peer::encode(out, message);
    let body = &out[begin + HEAD_BYTES..];
    let length = u32::try_from(body.len()).expect("a message is shorter than a frame");
    let check = crc32c::crc32c(body);
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&check.to_be_bytes());
}
