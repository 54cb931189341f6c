//! A member that lies, while this server leads.

use super::client::set_data_request;
use super::client::PATH;
use super::played::{plain, Member};
use super::stage::{Stage, BEFORE};
use super::wire::{append, boxed, entry, frame, frame_of, kind, raft, Hello, Wire};
use bytes::Bytes;
use ringkeeper::apply::{BatchHeader, BatchWriter, Options, Txn, TxnBody};
use ringkeeper::ids::{
    ConnId, LogIndex, Millis, Owner, Seat, ServerId, SessionId, ShardId, Term, WallMillis, Xid, Zxid,
};
use ringkeeper::peer::{Agreement, Forward, Heard, Message, RaftMessage, Seated};
use std::time::Duration;

/// What these bytes get on a connection of server 2: it is closed, with one line.
fn closes(stage: &mut Stage, bytes: &[u8], why: &str) {
    let mut wire = stage.rogue();
    let before = stage.server.lines_with(&["server=2", why]).len();
    // The server may close while it is still being written to.
    let _ = wire.write(bytes);
    wire.wait_closed();
    stage.server.wait_line(&["server=2", why]);
    stage.holds(why);
    assert!(stage.server.lines_with(&["server=2", why]).len() <= before + 1, "{why}: one line");
}

pub fn p08_p09_and_p13_end_the_connection() {
    let mut stage = Stage::leading();
    let head = |length: u32| [&length.to_be_bytes()[..], &[0; 4], &[7; 100]].concat();
    // P08, and P13 with a gigabyte announced
    closes(&mut stage, &head(u32::MAX), "a frame of 4294967295 bytes");
    closes(&mut stage, &head(1 << 30), "a frame of 1073741824 bytes");
    let mut broken = frame(b"abc");
    broken[6] ^= 1;
    closes(&mut stage, &broken, "a frame whose checksum does not fit");
    // P09
    let no_message = "a frame that is no message";
    let mut gigabyte = frame_of(&boxed(append(stage.term, (0, 0), 0, vec![entry(1, b"abcd")])))[8..].to_vec();
    let at = gigabyte.len() - 8;
    gigabyte[at..at + 4].copy_from_slice(&(1u32 << 30).to_be_bytes());
    let whole = frame_of(&boxed(raft(kind::HEARTBEAT_RESPONSE, stage.term)))[8..].to_vec();
    let longer = [&whole[..], b"x"].concat();
    let count = [&[3][..], &[0; 16], &[0xff; 4]].concat();
    let bodies = [&gigabyte[..], &whole[..20], &longer, &count];
    // Ten seconds have room for five lines of a kind about one server: the longest are told.
    for body in bodies {
        closes(&mut stage, &frame(body), no_message);
    }
    // An empty frame is a sign of life, at any pace.
    let mut wire = stage.rogue();
    wire.write(&[0; 8 * 1_000]).unwrap();
    answers(&mut wire, &stage);
    stage.holds("empty frames");
}

/// The connection is there, and both ends speak.
fn answers(wire: &mut Wire, stage: &Stage) {
    // A question that is answered with a refusal, whatever else is going on.
    let old = raft(kind::REQUEST_PRE_VOTE, stage.term - 1);
    wire.say(&boxed(old)).unwrap();
    hear(
        wire,
        |message| matches!(message, Message::Raft(raft) if raft.kind == kind::REQUEST_PRE_VOTE_RESPONSE),
    );
}

/// The next such message.
fn hear(wire: &mut Wire, is_it: impl Fn(&Message) -> bool) -> Message {
    for _ in 0..10_000 {
        match wire.hear(Duration::from_secs(10)).unwrap() {
            Some(message) if is_it(&message) => return message,
            Some(_) => {}
            None => break,
        }
    }
    panic!("it is not said");
}

pub fn p10_to_p12_p22_and_p23_are_dropped_before_raft_sees_them() {
    let mut stage = Stage::leading();
    let term = stage.term;
    // P10
    let absurd = |kind| [u64::MAX, 1 << 40, 1 << 31].map(|term| raft(kind, term));
    let kinds = [
        kind::REQUEST_VOTE,
        kind::REQUEST_PRE_VOTE,
        kind::HEARTBEAT,
        kind::APPEND_RESPONSE,
        kind::HEARTBEAT_RESPONSE,
        kind::REQUEST_VOTE_RESPONSE,
        kind::REQUEST_PRE_VOTE_RESPONSE,
    ];
    stage.drops("P10", "an absurd term", kinds.into_iter().flat_map(absurd));
    let none = kinds.map(|kind| raft(kind, 0));
    stage.drops("P10, none", "a term where there is none, or none where there is one", none);
    // A higher term is heard of only from who may be right: the leader is in its lease.
    let mut wire = stage.rogue();
    for ahead in [1, 2, 1_000] {
        for kind in [kind::REQUEST_VOTE, kind::REQUEST_PRE_VOTE] {
            let index = LogIndex(1 << 40);
            let vote = RaftMessage { index, log_term: Term(term + ahead), ..raft(kind, term + ahead) };
            wire.say(&boxed(vote)).unwrap();
        }
    }
    answers(&mut wire, &stage);
    stage.holds("P10, a little ahead");
    // P11
    let commit = LogIndex(1 << 40);
    let second = "a second leader in this term";
    stage.drops("P11", second, [RaftMessage { commit, ..raft(kind::HEARTBEAT, term) }]);
    let beyond = RaftMessage { index: LogIndex(1 << 40), ..raft(kind::APPEND_RESPONSE, term) };
    stage.drops("P11, acknowledged", "an acknowledgement of what was never sent", [beyond]);
    // P12
    let index = LogIndex(u64::MAX);
    stage.drops("P12", "an absurd index", [RaftMessage { index, ..raft(kind::APPEND, term) }]);
    stage.drops("P12, second", second, [append(term, (1, term), 1, vec![entry(term, b"x")])]);
    let offer = RaftMessage { index: LogIndex(9), log_term: Term(term), ..raft(kind::SNAPSHOT, term) };
    stage.drops("P14, second", second, [offer]);
    let own = [0, 1, 2, 10, 12, 13].map(|kind| raft(kind, term));
    stage.drops("local words", "a kind of message that no peer sends", own);
    stage.drops("no kind", "a kind of message that there is not", [raft(99, term)]);
    let over = [raft(kind::TIMEOUT_NOW, term)];
    stage.drops("a hand-over", "a hand-over by a server that does not lead", over);
    // P22
    let moment = |kind, context: &[u8]| RaftMessage {
        index: LogIndex(1 << 40),
        entries: vec![entry(0, context)],
        ..raft(kind, term)
    };
    let why = "a read's moment from a server that does not lead";
    stage.drops("P22", why, [moment(kind::READ_INDEX_RESPONSE, &[7; 17])]);
    let question = RaftMessage { term: Term(0), ..moment(kind::READ_INDEX, b"short") };
    stage.drops("P22, short", "a read without its context", [question]);
    let mut wire = stage.rogue();
    let unknown = RaftMessage { context: vec![7; 17], ..raft(kind::HEARTBEAT_RESPONSE, term) };
    wire.say(&boxed(unknown)).unwrap();
    // P23, of one that has no say any more: the election is over.
    for kind in [kind::REQUEST_VOTE_RESPONSE, kind::REQUEST_PRE_VOTE_RESPONSE] {
        wire.say(&boxed(raft(kind, term))).unwrap();
    }
    answers(&mut wire, &stage);
    stage.holds("P22 and P23");
}

pub fn p15_a_flood_holds_up_nobody() {
    let mut stage = Stage::leading();
    for message in [
        raft(kind::HEARTBEAT_RESPONSE, stage.term),
        raft(kind::HEARTBEAT, stage.term),
        raft(kind::REQUEST_PRE_VOTE, stage.term + 1),
    ] {
        let mut wire = stage.rogue();
        let thousand = frame_of(&boxed(message)).repeat(1_000);
        for _ in 0..30 {
            // It may be cut for not hearing what it is told.
            if wire.write(&thousand).is_err() {
                break;
            }
        }
        stage.holds("P15");
    }
}

pub fn p16_old_words_are_passed_over() {
    let mut stage = Stage::leading();
    let mut wire = stage.rogue();
    // What was said in an election that is long over, and what a leader of then would have said.
    for term in [1, BEFORE] {
        for kind in [
            kind::REQUEST_VOTE,
            kind::REQUEST_VOTE_RESPONSE,
            kind::REQUEST_PRE_VOTE_RESPONSE,
            kind::APPEND_RESPONSE,
            kind::HEARTBEAT,
            kind::HEARTBEAT_RESPONSE,
        ] {
            wire.say(&boxed(raft(kind, term))).unwrap();
        }
        wire.say(&boxed(append(term, (0, 0), 1, vec![entry(term, b"")]))).unwrap();
    }
    answers(&mut wire, &stage);
    stage.holds("P16");
    // Its own connection's words again on another one: they say nothing new.
    let said =
        frame_of(&boxed(RaftMessage { index: LogIndex(1), ..raft(kind::APPEND_RESPONSE, stage.term) }));
    let mut wire = stage.rogue();
    wire.write(&said.repeat(100)).unwrap();
    answers(&mut wire, &stage);
    stage.holds("P16, again");
}

fn batch(session: i64, body: TxnBody<'_>) -> Vec<u8> {
    let mut writer = BatchWriter::new(0);
    let (session, xid) = (SessionId(session), Xid(1));
    writer.push(&Txn { session, shard: ShardId(0), conn: ConnId(1), xid, body });
    // A leader writes its own header; this one claims a zxid, a time and a server.
    writer.finish(&BatchHeader {
        options: Options { skip_acl: true, read_only: true, ..Options::default() },
        wall: WallMillis(i64::MAX),
        first_zxid: Zxid(i64::MAX),
        server: ServerId(1),
        incarnation: 1,
        sequence: 1,
    })
}

/// The client notices a write of somebody else's: each of its own names the version before.
pub fn p17_forged_writes_change_nothing() {
    let mut stage = Stage::leading();
    let victim = stage.client.session;
    let request = set_data_request(PATH, b"forged");
    let write = |op| TxnBody::Request { op, identities: b"", request: &request };
    let owner = Owner { server: ServerId(1), incarnation: 0, shard: ShardId(0), conn: ConnId(0) };
    let mut wire = stage.rogue();
    let mut sequence = 0;
    let term = Term(stage.term);
    let mut forward = |wire: &mut Wire, batch: Vec<u8>, is_taken: bool| {
        let (incarnation, batch) = (77, Bytes::from(batch));
        let message = Forward { term, incarnation, sequence: sequence + 1, batch };
        wire.say(&Message::Forward(message)).unwrap();
        sequence += u64::from(is_taken);
    };
    // A session of nobody's, one of another server's, an end for it, and a way into it without its password.
    let unknown = 0x0200_0000_0000_0001;
    for (session, body) in [
        (unknown, write(5)),
        (victim, write(5)),
        (victim, write(-11)),
        (victim, write(-10)),
        (victim, TxnBody::Attach { timeout_ms: 1, password: &[0; 16] }),
        (victim, TxnBody::Attach { timeout_ms: 1, password: b"" }),
        (victim, TxnBody::CreateSession { timeout_ms: 1, password: [0; 16] }),
    ] {
        forward(&mut wire, batch(session, body), true);
        stage.holds("P17");
    }
    let why = "a forwarded batch that no honest server sends";
    let only_a_leaders = [TxnBody::CloseSession, TxnBody::Expire { owner }, TxnBody::Reap { path: PATH }];
    for body in only_a_leaders {
        forward(&mut wire, batch(victim, body), false);
    }
    forward(&mut wire, b"no batch".to_vec(), false);
    stage.server.wait_line(&["server=2", why]);
    stage.holds("P17, a leader's wishes");
    // P13: more than the log holds in one record, and a frame does.
    let large = vec![7; 17 << 20];
    let request = TxnBody::Request { op: 5, identities: b"", request: &large };
    forward(&mut wire, batch(victim, request), false);
    answers(&mut wire, &stage);
    stage.holds("P13, a batch of 17 MiB");
    // A number far ahead is nobody's next.
    let far = batch(victim, write(5));
    for sequence in [0, 50, u64::MAX] {
        let forward = Forward { term, incarnation: 77, sequence, batch: Bytes::from(far.clone()) };
        wire.say(&Message::Forward(forward)).unwrap();
    }
    // A report that nobody could have made.
    wire.say(&Message::Heard(Heard {
        sessions: vec![(SessionId(victim), Millis(u64::MAX)), (SessionId(i64::MIN), Millis(0))],
        through: Millis(u64::MAX),
        stalled: Millis(u64::MAX),
    }))
    .unwrap();
    answers(&mut wire, &stage);
    stage.holds("P17, numbers and reports");
}

pub fn p19_the_newer_of_two_connections_stays() {
    let mut stage = Stage::leading();
    let mut other = stage.rogue();
    // On a host that stands still for 1.5 s the first one is closed for its silence.
    for _ in 0..4 {
        let mut first = std::mem::replace(&mut other, stage.rogue());
        first.wait_closed();
    }
    stage.server.wait_line(&["server=2", "it came with a new connection"]);
    answers(&mut other, &stage);
    let before = stage.server.all_lines();
    for _ in 0..50 {
        other = stage.rogue();
    }
    answers(&mut other, &stage);
    assert!(stage.server.all_lines() - before <= 12, "{} lines", stage.server.all_lines() - before);
    stage.holds("P19");
}

/// A voter that takes a false seat votes no more, and never again: it is written down.
pub fn a_seat_that_no_leader_gives_is_not_taken() {
    let mut stage = Stage::leading();
    let (_, birth) = stage.third_hello.births.iter().copied().find(|(id, _)| *id == 1).unwrap();
    let says = |seat: Seat| Message::Seated(Seated { birth, seat });
    let why = "a seat that no leader gives";
    let mut wire = stage.stranger();
    wire.say(&says(Seat::new(ServerId(1), 9))).unwrap();
    stage.server.wait_line(&["server=77", why]);
    let mut wire = stage.rogue();
    for generation in [1 << 40, (1 << 48) - 2] {
        wire.say(&says(Seat::new(ServerId(1), generation))).unwrap();
    }
    stage.server.wait_line(&["server=2", why]);
    stage.holds(why);
}

pub fn p24_one_false_digest_stops_nobody() {
    let mut stage = Stage::leading();
    let mut wire = stage.rogue();
    let told = hear(&mut wire, |message| matches!(message, Message::Agreement(_)));
    let Message::Agreement(Agreement { index, chain }) = told else { unreachable!() };
    for _ in 0..100 {
        for chain in [chain ^ 1, chain] {
            wire.say(&Message::Agreement(Agreement { index, chain })).unwrap();
        }
    }
    wire.say(&Message::Agreement(Agreement { index: LogIndex(u64::MAX), chain: 0 })).unwrap();
    wire.say(&Message::Agreement(Agreement { index: LogIndex(0), chain: 9 })).unwrap();
    wire.say(&Message::Agreement(Agreement { index, chain: chain ^ 1 })).unwrap();
    stage.server.wait_line(&["server=2", "this server's state is another one than that of the other"]);
    stage.holds("P24");
}

/// Who differs from most servers is the one that is wrong: it hands over what it can, and ends with a report.
pub fn a_server_whose_state_is_another_one_than_that_of_most_ends() {
    let mut stage = Stage::leading();
    let mut second = stage.rogue();
    let told = hear(&mut second, |message| matches!(message, Message::Agreement(_)));
    let Message::Agreement(Agreement { index, chain }) = told else { unreachable!() };
    let mut third = Member::new(3, 1, plain(3, stage.port));
    third.hello = Hello { to: 1, ..stage.third_hello.clone() };
    let wrong = || Message::Agreement(Agreement { index, chain: chain ^ 1 });
    second.say(&wrong()).unwrap();
    // Nobody writes any more: the one who played server 3 loses its connection.
    drop(stage.client);
    let mut third = third.enlist();
    third.say(&wrong()).unwrap();
    let lines = ["is another one than that of most servers", "Keep its data directory for a report"];
    stage.server.wait_line(&lines);
    assert_eq!(stage.server.exit_code(), Some(70));
}
