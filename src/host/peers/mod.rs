//! The sockets between servers. The sequencer's thread owns them: it reads what came in, hands on what the sequencer says,
//! and never waits for any of them. Greeting, dialling and listening are `greeter`'s, in threads beside it.
//!
//! ```text
//! frame = length:u32 crc32c:u32 message     an empty one is a sign of life
//! ```
//! A message waits unencoded until its socket has room, so what a slow server has not been sent costs no copy, and entries
//! that are not in memory are read from the log only when they go out.

mod acquaintance;
mod complaints;
mod greeter;
mod hello;
mod slots;
mod stream;
mod transfer;

pub(super) use acquaintance::{Acquaintance, Formed};
pub(super) use greeter::{listen, Greeter, Place};
pub(super) use stream::Protection;
pub(super) use transfer::Transfer;

use super::epoll::{self, Change, Epoll};
use super::notes::{Say, Throttle};
use crate::ids::{LogIndex, Millis, ServerId, Term};
use crate::peer::{self, Addressed, Entry, Message, RaftMessage};
use crate::sequencer::Input;
use bytes::{Buf, Bytes, BytesMut};
use crossbeam::channel::Receiver;
use hello::Purpose;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use stream::Stream;
use tracing::{info, warn};

/// A batch has at most 16 MiB, a message at most one such batch or 1 MiB of several.
const FRAME_BYTES_MAX: usize = 24 << 20;
const HEAD_BYTES: usize = 8;
/// Read from one server in a turn.
const READ_A_TURN: usize = 1 << 20;
/// Messages taken from one server in a turn: Raft may answer each with a megabyte of entries, and all of the answers lie in
/// memory until the turn is over.
const MESSAGES_A_TURN: usize = 64;
const READ_BYTES: usize = 64 << 10;
/// Encoded ahead of the socket.
const ENCODED_MAX: usize = 256 << 10;
/// What waits for a server, at the most: it has fallen behind the wire, and a new connection begins with less.
const WAITING_MESSAGES_MAX: usize = 16 << 10;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// With nothing to say a server still shows that it is there.
const SIGN_OF_LIFE_MS: u64 = 250;
/// A connection on which nothing came for so long is dead: packets are dropped without a word on it.
const SILENCE_MS: u64 = 1_500;
/// Events taken at once.
const EVENTS: usize = 16;
/// The name of the bell in the set; servers are named by their id.
const BELL: u64 = 1 << 32;

/// A connection whose both ends have said welcome.
pub(super) struct Arrival {
    pub server: ServerId,
    /// Its data directory.
    pub birth: u128,
    /// The version of apply's rules that it knows.
    pub rules: u32,
    pub purpose: Purpose,
    /// Of those that others began: the how-manieth it was.
    pub accepted: Option<u64>,
    pub stream: Stream,
}

/// Connections to the other servers.
pub(super) struct Peers {
    epoll: Epoll,
    arrivals: Receiver<Arrival>,
    greeter: Arc<Greeter>,
    transfer: Transfer,
    wires: BTreeMap<ServerId, Wire>,
    looked_at: Millis,
    /// One that comes and goes all the time fills no disk with lines about it.
    throttles: BTreeMap<ServerId, Throttle>,
    /// What is read from a socket lies here until its frames are cut.
    scratch: Box<[u8]>,
}

/// One connection.
struct Wire {
    stream: Stream,
    accepted: Option<u64>,
    input: BytesMut,
    /// The turn ended before all that has come was taken: epoll does not tell of it.
    has_more: bool,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// More was to be said than may wait: it hears nothing more on this connection.
    is_behind: bool,
    output: Vec<u8>,
    sent: usize,
    heard_at: Millis,
    said_at: Millis,
    /// The socket took no more: epoll tells when it does.
    is_blocked: bool,
}

/// Finds an entry's payload in the log; `None` where it is there no more, or another one.
pub(super) type Find<'a> = &'a mut dyn FnMut(LogIndex, Term) -> Option<Bytes>;

impl Peers {
    /// `bell` wakes whoever waits on this.
    pub(super) fn new(
        bell: BorrowedFd<'_>,
        arrivals: Receiver<Arrival>,
        greeter: Arc<Greeter>,
        transfer: Transfer,
    ) -> io::Result<Peers> {
        let peers = Peers {
            epoll: Epoll::new()?,
            arrivals,
            greeter,
            transfer,
            wires: BTreeMap::new(),
            looked_at: Millis(0),
            throttles: BTreeMap::new(),
            scratch: vec![0; READ_BYTES].into(),
        };
        peers.epoll.control(Change::Add, bell.as_raw_fd(), epoll::READ, BELL)?;
        Ok(peers)
    }

    /// Readable while a server has said something, or the bell was rung.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// How many servers there is a connection with.
    pub(super) fn len(&self) -> usize {
        self.wires.len()
    }

    /// Whether more has come than was taken: the set does not tell of it.
    pub(super) fn has_more(&self) -> bool {
        self.wires.values().any(|wire| wire.has_more)
    }

    /// Takes what has come: new connections, lost ones, messages. `is_ready`: the set was readable. Whether there was
    /// anything.
    pub(super) fn receive(
        &mut self,
        now: Millis,
        is_ready: bool,
        give: &mut dyn FnMut(Input),
    ) -> io::Result<bool> {
        let mut any = self.take_arrivals(now, give)?;
        if is_ready || self.has_more() {
            any |= self.read_sockets(now, give)?;
        }
        self.look_at_silence(now, give);
        while let Some((index, state)) = self.transfer.next_fetched() {
            any = true;
            give(Input::Fetched { index, state });
        }
        Ok(any)
    }

    /// Gives the fetched snapshot its name on the disk.
    pub(super) fn publish_fetched(&mut self, index: LogIndex) -> io::Result<()> {
        self.transfer.publish(index)
    }

    fn read_sockets(&mut self, now: Millis, give: &mut dyn FnMut(Input)) -> io::Result<bool> {
        let mut any = false;
        let mut events = [epoll::NONE; EVENTS];
        let count = self.epoll.wait(&mut events, 0)?;
        let has_more = self.wires.iter().filter(|(_, wire)| wire.has_more).map(|(server, _)| *server);
        let mut readable: BTreeSet<ServerId> = has_more.collect();
        for event in &events[..count] {
            let name = event.u64;
            let Ok(server) = u8::try_from(name).map(ServerId) else { continue };
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            if event.events & epoll::WRITE != 0 {
                wire.is_blocked = false;
                self.watch(server, epoll::READ)?;
            }
            readable.insert(server);
        }
        for server in readable {
            any = true;
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            if let Err(why) = wire.read(now, server, &mut self.scratch, give) {
                self.drop_wire(now, server, &why, give);
            }
        }
        Ok(any)
    }

    /// Who is a member has changed: where they listen, and with which directories they sit.
    pub(super) fn set_members(&self, places: Vec<Place>, seated: BTreeMap<ServerId, u128>) -> io::Result<()> {
        self.greeter.acquaintance.set_seated(seated);
        self.greeter.set_places(places)
    }

    /// Fetches a server's snapshot.
    pub(super) fn fetch(&self, from: ServerId, index: LogIndex) -> io::Result<()> {
        self.transfer.fetch(&self.greeter, from, index)
    }

    fn take_arrivals(&mut self, now: Millis, give: &mut dyn FnMut(Input)) -> io::Result<bool> {
        let mut any = false;
        while let Ok(arrival) = self.arrivals.try_recv() {
            any = true;
            if arrival.purpose == Purpose::Snapshot {
                self.transfer.serve(arrival.stream);
                continue;
            }
            let server = arrival.server;
            // Each is greeted in a thread of its own, and the older one may come out later.
            let known = self.wires.get(&server).and_then(|wire| wire.accepted);
            if arrival.accepted.zip(known).is_some_and(|(this, known)| this < known) {
                continue;
            }
            // It would not have come again if it still had the old one. It is here: nobody dials.
            self.close_wire(now, server, "it came with a new connection", give);
            self.greeter.found(server);
            self.epoll.control(
                Change::Add,
                arrival.stream.socket().as_raw_fd(),
                epoll::READ,
                server.0.into(),
            )?;
            self.wires.insert(server, Wire::new(arrival.stream, arrival.accepted, now));
            if let Say::Print { dropped } = self.throttle(server).ask("connected", now) {
                info!(server = server.0, not_shown = dropped, "connected");
            }
            self.greeter.acquaintance.set_connected(server, Some(arrival.birth));
            give(Input::PeerUp { peer: server, birth: arrival.birth, rules: arrival.rules });
        }
        Ok(any)
    }

    fn watch(&self, server: ServerId, events: u32) -> io::Result<()> {
        let Some(wire) = self.wires.get(&server) else { return Ok(()) };
        self.epoll.control(Change::Modify, wire.stream.socket().as_raw_fd(), events, server.0.into())
    }

    fn throttle(&mut self, server: ServerId) -> &mut Throttle {
        self.throttles.entry(server).or_default()
    }

    fn drop_wire(&mut self, now: Millis, server: ServerId, why: &str, give: &mut dyn FnMut(Input)) {
        if self.close_wire(now, server, why, give) {
            self.greeter.lost(server);
        }
    }

    /// Whether there was one.
    fn close_wire(&mut self, now: Millis, server: ServerId, why: &str, give: &mut dyn FnMut(Input)) -> bool {
        // Closed here, and out of the set with it.
        let was_there = self.wires.remove(&server).is_some();
        if was_there {
            if let Say::Print { dropped } = self.throttle(server).ask("lost", now) {
                info!(server = server.0, not_shown = dropped, "connection lost: {why}");
            }
            give(Input::PeerDown(server));
            self.greeter.acquaintance.set_connected(server, None);
        }
        was_there
    }

    fn look_at_silence(&mut self, now: Millis, give: &mut dyn FnMut(Input)) {
        if now.since(self.looked_at).0 > SILENCE_MS / 2 {
            // This server itself stood still: what came meanwhile is still to be read.
            self.wires.values_mut().for_each(|wire| wire.heard_at = now);
        }
        self.looked_at = now;
        let silent =
            |(server, wire): (&ServerId, &Wire)| (now.since(wire.heard_at).0 > SILENCE_MS).then_some(*server);
        let silent: Vec<ServerId> = self.wires.iter().filter_map(silent).collect();
        for server in silent {
            self.drop_wire(now, server, "nothing was heard on it", give);
        }
    }

    /// Takes a message on its way; without a connection it is dropped, as Raft allows.
    pub(super) fn say(&mut self, addressed: Addressed) {
        if let Some(wire) = self.wires.get_mut(&addressed.to) {
            // Before it is taken: a flood of questions has its answers in one turn.
            if wire.waiting.len() > WAITING_MESSAGES_MAX || wire.waiting_bytes > WAITING_BYTES_MAX {
                wire.is_behind = true;
            }
            if !wire.is_behind {
                wire.waiting_bytes += weight(&addressed.message);
                wire.waiting.push_back(addressed.message);
            }
        }
    }

    /// Writes as much as the sockets take.
    pub(super) fn flush(
        &mut self,
        now: Millis,
        find: Find<'_>,
        give: &mut dyn FnMut(Input),
    ) -> io::Result<()> {
        let servers: Vec<ServerId> = self.wires.keys().copied().collect();
        for server in servers {
            let Some(wire) = self.wires.get_mut(&server) else { continue };
            if now.since(wire.said_at).0 > SIGN_OF_LIFE_MS && !wire.has_output() && wire.waiting.is_empty() {
                wire.output.extend_from_slice(&[0; HEAD_BYTES]);
            }
            let was_blocked = wire.is_blocked;
            let written = wire.write(now, find);
            let is_blocked = wire.is_blocked;
            match written {
                Ok(()) if is_blocked && !was_blocked => {
                    self.watch(server, epoll::READ | epoll::WRITE)?;
                }
                Ok(()) => {}
                Err(why) => self.drop_wire(now, server, &why, give),
            }
        }
        Ok(())
    }
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
    fn new(stream: Stream, accepted: Option<u64>, now: Millis) -> Wire {
        Wire {
            accepted,
            // The first words may have come in one piece with the greeting's last.
            has_more: matches!(stream, Stream::Tls(_)),
            stream,
            input: BytesMut::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_behind: false,
            output: Vec::new(),
            sent: 0,
            heard_at: now,
            said_at: now,
            is_blocked: false,
        }
    }

    fn has_output(&self) -> bool {
        self.sent < self.output.len() || self.stream.has_unsent()
    }

    fn read(
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

    fn write(&mut self, now: Millis, find: Find<'_>) -> Result<(), String> {
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                self.sent = 0;
            }
            while self.output.len() < ENCODED_MAX {
                let Some(message) = self.waiting.pop_front() else { break };
                self.waiting_bytes -= weight(&message);
                self.encode(message, find);
            }
            if self.is_behind {
                return Err("it does not keep up with what it is sent".to_owned());
            }
            if !self.has_output() || self.is_blocked {
                return Ok(());
            }
            let left = &self.output[self.sent..];
            let written =
                if left.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(left) };
            match written {
                Ok(n) => {
                    self.sent += n;
                    self.said_at = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Appends a message as a frame. One whose entries are gone from the log, or were replaced there, is of no use any more.
    fn encode(&mut self, mut message: Message, find: Find<'_>) {
        if let Message::Raft(raft) = &mut message {
            let mut index = raft.index;
            for entry in &mut raft.entries {
                index.0 += 1;
                if entry.payload.is_none() {
                    let Some(payload) = find(index, entry.term) else {
                        warn!(index = index.0, "an entry for another server is no longer in the log");
                        return;
                    };
                    entry.payload = Some(payload);
                }
            }
        }
        let begin = self.output.len();
        self.output.extend_from_slice(&[0; HEAD_BYTES]);
        peer::encode(&mut self.output, &message);
        let body = &self.output[begin + HEAD_BYTES..];
        let length = u32::try_from(body.len()).expect("a message is shorter than a frame");
        let check = crc32c::crc32c(body);
        self.output[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        self.output[begin + 4..begin + 8].copy_from_slice(&check.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk::{DataDir, DirOptions};
    use crate::host::link::Links;
    use crate::tree::PathHasher;
    use crossbeam::channel::{bounded, Sender};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    const NOW: Millis = Millis(1_000);
    const OTHER: ServerId = ServerId(2);

    /// What server 1 has of the others: nobody yet.
    fn peers(dir: &tempfile::TempDir) -> (Peers, Sender<Arrival>, Arc<Links>) {
        let options = DirOptions { path: dir.path().into(), log_path: None, server: ServerId(1) };
        let transfer =
            Transfer::new(Arc::new(DataDir::open(&options).unwrap()), PathHasher::new([1, 2, 3, 4]));
        let links = Arc::new(Links::new(1).unwrap());
        let (tell, arrivals) = bounded(4);
        let acquaintance = Arc::new(Acquaintance::new(ServerId(1), 11, 1, Vec::new(), None));
        let (me, none, nobody) = (ServerId(1), Vec::new(), Vec::new());
        let (told, plain) = (tell.clone(), Protection::Plain);
        let greeter = Greeter::start(me, acquaintance, told, links.clone(), plain, none, nobody).unwrap();
        (Peers::new(links.sequencer.as_fd(), arrivals, greeter, transfer).unwrap(), tell, links)
    }

    /// Connected: the other server's end, and this one's.
    fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (theirs, listener.accept().unwrap().0)
    }

    fn arrive(tell: &Sender<Arrival>, accepted: Option<u64>, stream: Stream) {
        stream.socket().set_nonblocking(true).unwrap();
        let purpose = Purpose::Messages;
        assert!(tell.send(Arrival { server: OTHER, birth: 22, rules: 1, purpose, accepted, stream }).is_ok());
    }

    fn frames(count: u64) -> Vec<u8> {
        let mut all = Vec::new();
        for n in 0..count {
            let mut body = Vec::new();
            peer::encode(&mut body, &Message::Wish(n.to_be_bytes().to_vec()));
            all.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
            all.extend(crc32c::crc32c(&body).to_be_bytes());
            all.extend(body);
        }
        all
    }

    /// The numbers of the messages that one call brings.
    fn receive(peers: &mut Peers, is_ready: bool) -> Vec<u64> {
        let mut got = Vec::new();
        let give = &mut |input| match input {
            Input::Peer { from: OTHER, message: Message::Wish(n) } => {
                got.push(u64::from_be_bytes(n.try_into().unwrap()));
            }
            Input::PeerUp { .. } | Input::PeerDown(OTHER) => {}
            _ => panic!("something else came"),
        };
        peers.receive(NOW, is_ready, give).unwrap();
        got
    }

    #[test]
    fn what_one_turn_leaves_is_taken_by_the_next_though_the_set_tells_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut peers, tell, _links) = peers(&dir);
        let (mut theirs, ours) = connect();
        let words = frames(3 * MESSAGES_A_TURN as u64);
        theirs.write_all(&words).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while ours.peek(&mut vec![0; words.len()]).unwrap() < words.len() {
            assert!(Instant::now() < until, "the words have not come");
        }
        arrive(&tell, Some(1), Stream::Plain(ours));
        let mut got = receive(&mut peers, true);
        assert_eq!(got.len(), MESSAGES_A_TURN);
        while peers.has_more() {
            let more = receive(&mut peers, false);
            assert!(!more.is_empty() || got.len() == 3 * MESSAGES_A_TURN, "a turn for nothing");
            got.extend(more);
        }
        assert_eq!(got, Vec::from_iter(0..3 * MESSAGES_A_TURN as u64));
    }

    #[test]
    fn of_two_connections_the_one_that_was_begun_later_stays_whichever_is_greeted_first() {
        let dir = tempfile::tempdir().unwrap();
        let (mut peers, tell, _links) = peers(&dir);
        let [(mut one, ours_one), (mut two, ours_two), (mut three, ours_three)] = [(); 3].map(|()| connect());
        for (number, ours) in [(2, ours_two), (1, ours_one), (3, ours_three)] {
            arrive(&tell, Some(number), Stream::Plain(ours));
        }
        three.write_all(&frames(1)).unwrap();
        assert_eq!(peers.len(), 0);
        let until = Instant::now() + Duration::from_secs(60);
        let mut got = Vec::new();
        while got.is_empty() {
            assert!(Instant::now() < until, "nothing was heard");
            got = receive(&mut peers, true);
        }
        assert_eq!((got, peers.len()), (vec![0], 1));
        for stream in [&mut one, &mut two] {
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            assert!(matches!(stream.read(&mut [0; 8]), Ok(0)), "it is closed, and nothing was said on it");
        }
    }

    #[test]
    fn words_that_tls_had_in_hand_when_the_greeting_was_over_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let (mut peers, tell, _links) = peers(&dir);
        let [mut theirs, mut ours] = stream::tests::pair(dir.path());
        // The greeting's last word and a message in one record.
        theirs.write_all(&[&[7], frames(1).as_slice()].concat()).unwrap();
        let mut last = [0];
        ours.read_exact(&mut last).unwrap();
        arrive(&tell, None, ours);
        assert_eq!(receive(&mut peers, false), [0]);
        assert!(!peers.has_more());
    }
}
