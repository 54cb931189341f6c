//! A server that follows, and is lied to by a member and by its own leader.

use super::played::{plain, Follower, Member, Played};
use super::server::{data, free_port, three, wait_until, Server, PATIENCE};
use super::stage::{Stage, BEFORE};
use super::wire::{append, boxed, entry, kind, raft, Hello, Verdict};
use ringkeeper::apply::{BatchWriter, Txn, TxnBody};
use ringkeeper::ids::{ConnId, LogIndex, SessionId, ShardId, Term, Xid};
use ringkeeper::membership::Step;
use ringkeeper::peer::{Message, RaftMessage};
use socket2::SockRef;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Where no log reaches.
const FAR: u64 = 1 << 40;

/// The leader says this, and it is dropped with a line that has these words.
fn drops(stage: &mut Stage, why: &str, message: RaftMessage) {
    stage.honest.outbox.send(boxed(message)).unwrap();
    stage.server.wait_line(&["server=3", why]);
    stage.holds(why);
}

pub fn p10_to_p13_and_p22_from_its_own_leader_end_no_follower() {
    let mut stage = Stage::following();
    let term = stage.term;
    let at = |index, log_term, kind| RaftMessage {
        index: LogIndex(index),
        log_term: Term(log_term),
        commit: LogIndex(index),
        ..raft(kind, term)
    };
    let stage = &mut stage;
    drops(stage, "an absurd term", raft(kind::HEARTBEAT, u64::MAX));
    drops(stage, "a term where there is none, or none", raft(kind::HEARTBEAT, 0));
    // P11
    drops(
        stage,
        "a commit behind this server's last entry: if its data directory is an older copy",
        at(FAR, 0, kind::HEARTBEAT),
    );
    drops(stage, "entries after one that no log has", at(FAR, 0, kind::APPEND));
    // P12
    drops(stage, "entries after one that no log has", append(term, (FAR, 0), 0, vec![entry(term, b"")]));
    drops(stage, "an absurd index", append(term, (u64::MAX, term), 0, vec![entry(term, b"")]));
    let fall = append(term, (FAR, term), 0, vec![entry(term, b""), entry(term - 1, b"")]);
    drops(stage, "entries whose terms do not grow", fall);
    let other = append(term, (0, 0), 1, vec![entry(term - 1, b"")]);
    drops(stage, "another entry in a committed one's place", other);
    let garbage = append(term, (FAR, term), 0, vec![entry(term, b"no batch")]);
    drops(stage, "an entry that this release can not read", garbage);
    // P13
    let large = append(term, (FAR, term), 0, vec![entry(term, &vec![1; 17 << 20])]);
    drops(stage, "an entry that no log holds", large);
    let mut change = entry(term, b"");
    change.tag = 1;
    let why = "a kind of entry that this release does not know";
    drops(stage, why, append(term, (FAR, term), 0, vec![change]));
    // P18: a change of the members after which nobody votes.
    let nobody = Step::Enter { seat: None, voters: BTreeSet::new(), learners: BTreeSet::new() }.encode();
    let mut batch = BatchWriter::new(0);
    let (session, shard, conn, xid) = (SessionId::NONE, ShardId(0), ConnId(0), Xid(0));
    batch.push(&Txn { session, shard, conn, xid, body: TxnBody::Member { step: &nobody } });
    let mut change = entry(term, &batch.into_unstamped());
    change.tag = 2;
    drops(
        stage,
        "a change of the members after which nobody votes",
        append(term, (FAR, term), 0, vec![change]),
    );
    // An offer that would put another entry in a committed one's place.
    drops(stage, "a snapshot against what is committed", at(1, term - 1, kind::SNAPSHOT));
    drops(stage, "a snapshot that no leader has", at(FAR, 0, kind::SNAPSHOT));
    // P22
    let unknown = RaftMessage { entries: vec![entry(0, &[7; 17])], ..raft(kind::READ_INDEX_RESPONSE, term) };
    stage.honest.outbox.send(boxed(unknown)).unwrap();
    stage.holds("P22");
}

pub fn a_member_that_does_not_lead_is_no_leader_of_a_follower() {
    let mut stage = Stage::following();
    let term = stage.term;
    let far = LogIndex(FAR);
    let none = [kind::HEARTBEAT, kind::APPEND, kind::REQUEST_VOTE, kind::SNAPSHOT].map(|kind| RaftMessage {
        commit: far,
        index: far,
        ..raft(kind, 0)
    });
    stage.drops("no term", "a term where there is none, or none where there is one", none);
    let context = vec![entry(0, &[7; 17])];
    let question = RaftMessage { entries: context.clone(), ..raft(kind::READ_INDEX, term) };
    stage.drops("a term", "a term where there is none, or none where there is one", [question]);
    let second = "a second leader in this term";
    let offer = RaftMessage { index: far, log_term: Term(term), ..raft(kind::SNAPSHOT, term) };
    let words = [raft(kind::HEARTBEAT, term), append(term, (FAR, term), 0, vec![]), offer];
    stage.drops("a second leader", second, words);
    let moment = RaftMessage { entries: context, ..raft(kind::READ_INDEX_RESPONSE, term) };
    stage.drops("P22", "a read's moment from a server that does not lead", [moment]);
    let mut wire = stage.rogue();
    for term in [term + 1, term + 7] {
        for kind in [kind::REQUEST_VOTE, kind::REQUEST_PRE_VOTE] {
            wire.say(&boxed(RaftMessage { index: far, log_term: Term(term), ..raft(kind, term) })).unwrap();
        }
    }
    stage.holds("P10, a little ahead");
    stage.drops("over", "a hand-over by a server that does not lead", [raft(kind::TIMEOUT_NOW, term)]);
}

/// The leader offers a snapshot, and server 1 comes to fetch it, some times.
fn offer(stage: &Stage, index: u64) {
    let offer = RaftMessage {
        index: LogIndex(index),
        log_term: Term(stage.term),
        ..raft(kind::SNAPSHOT, stage.term)
    };
    stage.honest.outbox.send(boxed(offer)).unwrap();
}

/// Takes a fetch and says this.
fn answer(stage: &Stage, index: u64, bytes: &[u8]) -> TcpStream {
    answer_from(stage, index, bytes).0
}

/// The same, and from which byte on it is asked for.
fn answer_from(stage: &Stage, index: u64, bytes: &[u8]) -> (TcpStream, u64) {
    // When it started it knocked: what it says then is not heard.
    let (mut stream, theirs) = loop {
        let (mut stream, _) = stage.third.accept().expect("it comes in time");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let theirs = Hello::read(&mut stream).unwrap();
        if theirs.purpose != 2 {
            break (stream, theirs);
        }
    };
    assert_eq!((theirs.from, theirs.to, theirs.purpose), (1, 3, 1));
    let ours = Hello { purpose: 1, ..stage.third_hello.clone() };
    stream.write_all(&[ours.bytes(), Verdict::Welcome.bytes()].concat()).unwrap();
    assert_eq!(Verdict::read(&mut stream).unwrap(), Verdict::Welcome);
    let mut request = [0; 16];
    stream.read_exact(&mut request).unwrap();
    assert_eq!(request[..8], index.to_be_bytes());
    stream.write_all(bytes).unwrap();
    (stream, u64::from_be_bytes(request[8..].try_into().unwrap()))
}

fn chunk(length: u32, check: u32, bytes: &[u8]) -> Vec<u8> {
    [&1_000u64.to_be_bytes()[..], &length.to_be_bytes(), &check.to_be_bytes(), bytes].concat()
}

pub fn p14_false_snapshots_are_not_taken() {
    let mut stage = Stage::following();
    SockRef::from(&stage.third).set_read_timeout(Some(PATIENCE)).unwrap();
    let fails = |stage: &mut Stage, index: u64, why: &str| {
        let index = format!("index={index}");
        stage.server.wait_line(&["no snapshot from this server", why, "server=3", &index]);
        stage.holds(why);
    };
    offer(&stage, FAR);
    answer(&stage, FAR, &0u64.to_be_bytes());
    fails(&mut stage, FAR, "it has a newer one by now");

    offer(&stage, FAR + 1);
    let garbage = [7; 1_000];
    answer(&stage, FAR + 1, &chunk(1_000, crc32c::crc32c(&garbage), &garbage));
    fails(&mut stage, FAR + 1, "");

    offer(&stage, FAR + 2);
    let broken = [chunk(1_000, 0, &garbage), chunk(0, 0, b""), chunk(1_000, 0, &garbage), Vec::new()];
    for bytes in broken {
        answer(&stage, FAR + 2, &bytes);
    }
    answer(&stage, FAR + 2, &chunk(1 << 30, 0, &garbage));
    fails(&mut stage, FAR + 2, "a chunk of 1073741824 bytes");

    offer(&stage, FAR + 3);
    answer(&stage, FAR + 3, &u64::MAX.to_be_bytes());
    fails(&mut stage, FAR + 3, "this disk has room for");

    // A connection that ends is gone on with from where it came to, as long as each brings something; then it is read.
    offer(&stage, FAR + 6);
    let part = |length: usize| {
        let head = [3_000u64.to_be_bytes().as_slice(), &(length as u32).to_be_bytes()].concat();
        [head, crc32c::crc32c(&garbage[..length]).to_be_bytes().to_vec(), garbage[..length].to_vec()].concat()
    };
    let mut offsets = Vec::new();
    for length in [1_000, 500, 1_000, 500] {
        let (stream, offset) = answer_from(&stage, FAR + 6, &part(length));
        drop(stream);
        offsets.push(offset);
    }
    assert_eq!(offsets, [0, 1_000, 1_500, 2_500]);
    fails(&mut stage, FAR + 6, "");

    // Zero bytes a second: it is waited for, in a thread that nobody waits for.
    offer(&stage, FAR + 4);
    let silent = answer(&stage, FAR + 4, &1_000u64.to_be_bytes());
    stage.holds("a silent snapshot");
    offer(&stage, FAR + 5);
    answer(&stage, FAR + 5, &0u64.to_be_bytes());
    fails(&mut stage, FAR + 5, "it has a newer one by now");
    drop(silent);
    stage.honest.wait("the leader hears of it", |seen| seen.kinds[11] >= 4);
    let left = data(stage.dir.path()).join("snapshot");
    wait_until("nothing is left of them", || std::fs::read_dir(&left).unwrap().count() == 0);
    stage.holds("P14");
}

pub fn p23_votes_of_an_observer_elect_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let observer = format!("server.4=127.0.0.1:{}:{}:observer\n", free_port(), free_port());
    let lines = three([port, free_port(), free_port()]) + &observer;
    let mut server = Server::start(dir.path(), 1, &lines);
    let member = |id| {
        let mut member = Member::new(id, 1, plain(id, port));
        member.hello.listed.push((4, 1));
        member
    };
    member(2).introduce();
    member(3).introduce();
    let mut wire = member(4).enlist();
    // Three elections and more.
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        for term in [1, 2, 3] {
            wire.say(&boxed(raft(kind::REQUEST_PRE_VOTE_RESPONSE, term))).unwrap();
            wire.say(&boxed(raft(kind::REQUEST_VOTE_RESPONSE, term))).unwrap();
        }
        if let Some(Message::Raft(said)) = wire.hear(Duration::from_millis(20)).unwrap() {
            panic!("it leads, or votes: {said:?}");
        }
    }
    server.assert_lives();
    // With a voter's voice it leads.
    let voter = Played::start(member(2).enlist(), Follower { after: BEFORE });
    voter.wait("it leads", |seen| seen.kinds[usize::from(kind::APPEND)] > 0);
}
