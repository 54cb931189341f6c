use super::wire::{
    BULK_GROWTH, BULK_REST, ENCODED_MAX, HEAD_BYTES, MESSAGES_A_TURN, SIGN_OF_LIFE_MS, WRITE_A_TURN,
};
use super::*;
use crate::host::disk::{segment_path, DataDir, DirOptions};
use crate::host::link::Links;
use crate::ids::{Seat, Term, Zxid};
use crate::log::{record, Append, EntryRef, HardState, Position, SegmentNumber, Sequence};
use crate::membership::PeerAddress;
use crate::peer::{self, Entry, Message, RaftMessage};
use crate::tree::PathHasher;
use bytes::Bytes;
use crossbeam::channel::{bounded, Sender};
use raft::eraftpb::MessageType;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const NOW: Millis = Millis(1_000);
const OTHER: ServerId = ServerId(2);

/// What server 1 has of the others: nobody yet.
fn peers(dir: &tempfile::TempDir) -> (Peers, Sender<Arrival>, Arc<Links>) {
    let options = DirOptions { path: dir.path().into(), log_path: None, server: ServerId(1) };
    let transfer = Transfer::new(Arc::new(DataDir::open(&options).unwrap()), PathHasher::new([1, 2, 3, 4]));
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

/// Somebody else may have a server's address by now: the first one that took a connection was the last that was tried (a
/// review).
#[test]
fn who_answers_wrongly_at_one_address_does_not_hide_the_server_at_the_next() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let addresses =
        ports.map(|port| PeerAddress { host: "127.0.0.1".to_owned(), quorum_port: port, election_port: 1 });
    let acquaintance = || Arc::new(Acquaintance::new(ServerId(1), 11, 1, Vec::new(), None));
    let dir = tempfile::tempdir().unwrap();
    let (_peers, tell, links) = peers(&dir);
    let (none, nobody) = (Vec::new(), Vec::new());
    let greeter =
        Greeter::start(ServerId(1), acquaintance(), tell, links, Protection::Plain, none, nobody).unwrap();
    std::thread::scope(|scope| {
        let dialled = scope.spawn(|| greeter.dial(&(OTHER, addresses.into()), Purpose::Messages));
        for listener in &listeners {
            drop(listener.accept().unwrap());
        }
        let why = dialled.join().unwrap().err().expect("nobody has answered rightly");
        assert!(ports.iter().all(|port| why.contains(&format!("127.0.0.1:{port}: "))), "{why}");
    });
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

/// A log whose entry of index 1 is not in memory, and how often it was read here.
#[derive(Default)]
struct OneEntry {
    reads: usize,
    /// Where it lies, if not where nothing is.
    place: Option<EntryRef>,
    bytes: u64,
}

impl Entries for OneEntry {
    fn place(&self, index: LogIndex, _term: Term) -> Option<EntryRef> {
        (index == LogIndex(1)).then(|| self.place.unwrap_or_else(|| ahead::tests::entry(1, 0, 5)))
    }

    fn read(&mut self, _entry: &EntryRef) -> Option<Bytes> {
        self.reads += 1;
        Some(Bytes::from_static(b"entry"))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The entry of index 1 in a segment of the data directory's log.
fn write_entry(dir: &tempfile::TempDir, payload: &[u8]) -> EntryRef {
    let hard_state = HardState { term: Term(1), vote: 1, commit: LogIndex(0) };
    let parts = [payload];
    let append = Append::entry(0, Term(1), LogIndex(1), (Zxid(1), Zxid(1)), hard_state, &parts);
    let at = Position { segment: SegmentNumber(1), salt: 7, sequence: Sequence(1), prev_crc: 0, offset: 0 };
    let mut bytes = vec![0; record::padded_len(payload.len())];
    let head = record::encode(&append, at, Sequence(0), &mut bytes);
    let log = dir.path().join("log");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(segment_path(&log, SegmentNumber(1)), bytes).unwrap();
    head.entry_ref()
}

/// As a leader tells of the entry behind `index`.
fn append(index: u64, payload: Option<&'static [u8]>) -> Message {
    let entry = Entry {
        tag: 0,
        term: Term(1),
        first_zxid: Zxid(1),
        last_zxid: Zxid(1),
        payload: payload.map(Bytes::from_static),
    };
    let raft = RaftMessage {
        kind: MessageType::MsgAppend as u8,
        from: Seat(1),
        to: Seat(2),
        term: Term(1),
        index: LogIndex(index),
        entries: vec![entry],
        ..RaftMessage::default()
    };
    Message::Raft(Box::new(raft))
}

/// The payloads of the entries, and empty ones for signs of life, that have come.
fn payloads(theirs: &mut TcpStream, count: usize) -> Vec<Vec<u8>> {
    theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut next = || {
        let mut head = [0; HEAD_BYTES];
        theirs.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes(head[..4].try_into().unwrap()) as usize];
        theirs.read_exact(&mut body).unwrap();
        match peer::decode(&Bytes::from(body)) {
            Ok(Message::Raft(raft)) => raft.entries[0].payload.clone().unwrap().to_vec(),
            _ => Vec::new(),
        }
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn an_entry_that_is_not_in_memory_goes_out_when_it_was_read_ahead_and_those_behind_it_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, tell, _links) = peers(&dir);
    let (mut theirs, ours) = connect();
    arrive(&tell, Some(1), Stream::Plain(ours));
    receive(&mut peers, false);
    for message in [append(1, Some(b"before")), append(0, None), append(1, Some(b"after"))] {
        peers.say(Addressed { to: OTHER, message });
    }
    let (mut log, none) = (OneEntry::default(), &mut |_| panic!("nothing has come"));
    peers.flush(NOW, &mut log, none).unwrap();
    assert_eq!(payloads(&mut theirs, 1), [b"before"]);
    // What is read takes long: there is life on the connection, and nothing goes out before it.
    let later = Millis(NOW.0 + SIGN_OF_LIFE_MS + 1);
    peers.flush(later, &mut log, none).unwrap();
    assert_eq!((payloads(&mut theirs, 1), log.reads), (vec![Vec::new()], 0));
    await_read(&mut peers);
    peers.flush(later, &mut log, none).unwrap();
    // The file has no such record: it is for the log to judge.
    assert_eq!(payloads(&mut theirs, 2), [&b"entry"[..], b"after"]);
    assert_eq!(log.reads, 1);
}

/// Until what is read for the other server has been.
fn await_read(peers: &mut Peers) {
    let until = Instant::now() + Duration::from_secs(60);
    while matches!(peers.wires[&OTHER].next, Next::Reads) {
        assert!(Instant::now() < until, "it was never read");
        receive(peers, false);
    }
}

#[test]
fn an_entry_is_read_beside_the_sequencer_and_goes_unless_the_log_has_another_one_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, tell, _links) = peers(&dir);
    let (mut theirs, ours) = connect();
    arrive(&tell, Some(1), Stream::Plain(ours));
    receive(&mut peers, false);
    let none = &mut |_| panic!("nothing has come");
    let place = write_entry(&dir, &[5; 50_000]);
    let mut log = OneEntry { place: Some(place), ..OneEntry::default() };
    for later in [place, EntryRef { crc: !place.crc, ..place }] {
        peers.say(Addressed { to: OTHER, message: append(0, None) });
        peers.flush(NOW, &mut log, none).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        await_read(&mut peers);
        log.place = Some(later);
        peers.say(Addressed { to: OTHER, message: append(1, Some(b"after")) });
        while peers.wires[&OTHER].has_output() || !peers.wires[&OTHER].waiting.is_empty() {
            assert!(Instant::now() < until, "it is never sent");
            peers.flush(NOW, &mut log, none).unwrap();
        }
        if later == place {
            assert_eq!(payloads(&mut theirs, 1), [[5; 50_000]]);
        }
        assert_eq!(payloads(&mut theirs, 1), [b"after"], "what was read is the log's no more");
    }
    assert_eq!(log.reads, 0);
}

#[test]
fn a_turn_writes_its_share_to_one_server_and_the_next_turn_goes_on() {
    const WORDS: usize = 256;
    const WORD: &[u8] = &[7; 64 << 10];
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, tell, _links) = peers(&dir);
    let (mut theirs, ours) = connect();
    arrive(&tell, Some(1), Stream::Plain(ours));
    receive(&mut peers, false);
    for _ in 0..WORDS {
        peers.say(Addressed { to: OTHER, message: append(1, Some(WORD)) });
    }
    // It stays open until all was looked at.
    let reading = std::thread::spawn(move || (payloads(&mut theirs, WORDS), theirs));
    let until = Instant::now() + Duration::from_secs(60);
    let mut left = WORDS;
    while !peers.wires[&OTHER].waiting.is_empty() || peers.wires[&OTHER].has_output() {
        assert!(Instant::now() < until, "it does not go on");
        peers.flush(NOW, &mut OneEntry::default(), &mut |_| panic!("nothing has come")).unwrap();
        let before = std::mem::replace(&mut left, peers.wires[&OTHER].waiting.len());
        let wire = &peers.wires[&OTHER];
        assert!(wire.is_blocked || !wire.has_output() || peers.has_more(), "nobody would go on");
        let share = (WRITE_A_TURN + 2 * ENCODED_MAX) / WORD.len() + 1;
        assert!(before - left <= share, "{} in one turn", before - left);
        // As the loop does: it waits unless it is told that there is more.
        let timeout = if peers.has_more() { 0 } else { 1_000 };
        let ready = peers.epoll.wait(&mut [epoll::NONE; EVENTS], timeout).unwrap();
        receive(&mut peers, ready > 0);
    }
    let (words, _theirs) = reading.join().unwrap();
    assert!(words.iter().all(|word| word == WORD));
}

/// Where all threads share a CPU the others' clients waited while a megabyte went out at one go.
#[test]
fn what_was_read_for_one_that_is_behind_goes_out_in_shares_with_pauses() {
    let dir = tempfile::tempdir().unwrap();
    let (mut peers, tell, _links) = peers(&dir);
    let (mut theirs, ours) = connect();
    arrive(&tell, Some(1), Stream::Plain(ours));
    receive(&mut peers, false);
    let none = &mut |_| panic!("nothing has come");
    let place = write_entry(&dir, &[5; 1 << 20]);
    let mut log = OneEntry { place: Some(place), ..OneEntry::default() };
    peers.say(Addressed { to: OTHER, message: append(0, None) });
    peers.flush(NOW, &mut log, none).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    await_read(&mut peers);
    peers.flush(NOW, &mut log, none).unwrap();
    let left = |peers: &Peers| peers.wires[&OTHER].unsent();
    // It stays open until the end: a connection that has ended is forgotten.
    let reading = std::thread::spawn(move || (payloads(&mut theirs, 1), theirs));
    for has_grown in [false, true, false] {
        let before = left(&peers);
        *peers.wires.get_mut(&OTHER).unwrap().rests_until() = Some(until);
        peers.flush(NOW, &mut log, none).unwrap();
        assert_eq!(left(&peers), before, "it rests");
        assert!(!peers.has_more() && peers.rests().is_some());
        // One whose socket takes more again while it rests, too: nothing else tells of it when the rest is over.
        peers.wires.get_mut(&OTHER).unwrap().has_unwritten = false;
        peers.flush(NOW, &mut log, none).unwrap();
        *peers.wires.get_mut(&OTHER).unwrap().rests_until() = Some(Instant::now());
        assert!(peers.has_more() && peers.rests() == Some(Duration::ZERO));
        let began = Instant::now();
        *peers.wires.get_mut(&OTHER).unwrap().rests_until() = Some(began);
        log.bytes += if has_grown { BULK_GROWTH + 1 } else { BULK_GROWTH };
        peers.flush(NOW, &mut log, none).unwrap();
        assert!(before - left(&peers) <= 64 << 10, "{before}");
        let (rests_until, ended) =
            (peers.wires.get_mut(&OTHER).unwrap().rests_until().unwrap(), Instant::now());
        if has_grown {
            // Who writes as fast would never be reached.
            assert!(rests_until <= ended + (ended - began));
        } else {
            assert!(rests_until >= began + BULK_REST);
        }
    }
    while peers.wires[&OTHER].has_output() {
        assert!(Instant::now() < until, "it is never sent");
        peers.flush(NOW, &mut log, none).unwrap();
        let ready = peers.epoll.wait(&mut [epoll::NONE; EVENTS], 0).unwrap();
        receive(&mut peers, ready > 0);
    }
    assert_eq!(reading.join().unwrap().0, [[5; 1 << 20]]);
}
