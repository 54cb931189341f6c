//! Servers that the test plays: how one becomes a member, an honest follower, and an honest leader.

use super::server::PATIENCE;
use super::wire::{append, boxed, dial, entry, greet, kind, raft, Hello, Stream, Verdict, Wire};
use bytes::Bytes;
use ringkeeper::apply::{stamp, Batch, BatchHeader, Options};
use ringkeeper::ids::{LogIndex, ServerId, WallMillis, Zxid};
use ringkeeper::peer::{Entry, Forward, Message, RaftMessage};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub type Connect = Arc<dyn Fn() -> io::Result<Stream> + Send + Sync>;

/// Dials server 1 in plain text, as 127.0.0.`host`.
pub fn plain(host: u8, port: u16) -> Connect {
    Arc::new(move || dial(host, port).map(|stream| Box::new(stream) as Stream))
}

/// A member that the test plays, and what it knows of its cluster.
#[derive(Clone)]
pub struct Member {
    pub hello: Hello,
    pub connect: Connect,
}

impl Member {
    pub fn new(id: u8, to: u8, connect: Connect) -> Member {
        Member { hello: Hello::new(id, to), connect }
    }

    /// Greets once, as soon as somebody listens.
    pub fn introduce(&mut self) -> (Stream, Verdict) {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "nobody answers");
            let greeted = (self.connect)().and_then(|mut stream| {
                let (theirs, verdict) = greet(&mut *stream, &self.hello)?;
                Ok((stream, theirs, verdict))
            });
            let Ok((stream, theirs, verdict)) = greeted else {
                std::thread::yield_now();
                continue;
            };
            if theirs.cluster != 0 && self.hello.cluster == 0 {
                (self.hello.cluster, self.hello.births) = (theirs.cluster, theirs.births);
            }
            return (stream, verdict);
        }
    }

    /// Greets until it is welcome.
    pub fn enlist(&mut self) -> Wire {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.introduce() {
                (stream, Verdict::Welcome) => return Wire::new(stream, self.hello.from),
                (_, Verdict::NotYet) => assert!(Instant::now() < until, "never welcome"),
                (_, Verdict::Refused(why)) => panic!("an honest server is refused: {why}"),
            }
        }
    }
}

/// What a played server does.
pub trait Role: Send + 'static {
    fn hear(&mut self, message: Message) -> Vec<Message>;
    fn tick(&mut self) -> Vec<Message>;
}

/// What server 1 said to it.
#[derive(Default)]
pub struct Seen {
    pub terms: BTreeSet<u64>,
    /// Of each kind of Raft's messages, how many.
    pub kinds: [u64; 32],
    pub has_ended: bool,
}

/// A played server in a thread of its own.
pub struct Played {
    pub seen: Arc<(Mutex<Seen>, Condvar)>,
    pub outbox: Sender<Message>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const TICK: Duration = Duration::from_millis(100);

impl Played {
    pub fn start(wire: Wire, role: impl Role) -> Played {
        let seen: Arc<(Mutex<Seen>, Condvar)> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (outbox, to_say) = channel();
        let (shared, is_over) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let ended = run(wire, role, &shared, &is_over, &to_say);
            shared.0.lock().unwrap().has_ended = true;
            shared.1.notify_all();
            if !is_over.load(Ordering::Relaxed) {
                eprintln!("a played server's connection ended: {ended:?}");
            }
        });
        Played { seen, outbox, stop, thread: Some(thread) }
    }

    /// Waits for what server 1 is to say.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let seen = self.seen.0.lock().unwrap();
        let is_missing = |seen: &mut Seen| !is_so(seen) && !seen.has_ended;
        let (seen, _) = self.seen.1.wait_timeout_while(seen, PATIENCE, is_missing).unwrap();
        assert!(is_so(&seen), "in vain: {what}");
    }

    /// The terms that server 1 has spoken in.
    pub fn terms(&self) -> BTreeSet<u64> {
        self.seen.0.lock().unwrap().terms.clone()
    }

    pub fn lives(&self) -> bool {
        !self.seen.0.lock().unwrap().has_ended
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the played server fell");
    }
}

fn run(
    mut wire: Wire,
    mut role: impl Role,
    shared: &(Mutex<Seen>, Condvar),
    is_over: &AtomicBool,
    to_say: &Receiver<Message>,
) -> io::Result<()> {
    let mut ticked_at = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        for message in to_say.try_iter() {
            wire.say(&message)?;
        }
        if ticked_at.elapsed() >= TICK {
            ticked_at = Instant::now();
            // A sign of life, too.
            wire.write(&[0; 8])?;
            for message in role.tick() {
                wire.say(&message)?;
            }
        }
        let Some(message) = wire.hear(Duration::from_millis(10))? else { continue };
        if let Message::Raft(raft) = &message {
            let mut seen = shared.0.lock().unwrap();
            // A pre-vote speaks of a term that may never be.
            if raft.kind != kind::REQUEST_PRE_VOTE && raft.kind != kind::READ_INDEX {
                seen.terms.insert(raft.term.0);
            }
            seen.kinds[usize::from(raft.kind)] += 1;
            drop(seen);
            shared.1.notify_all();
        }
        for answer in role.hear(message) {
            wire.say(&answer)?;
        }
    }
    Ok(())
}

/// Grants votes from a term on, and takes whatever the leader says.
pub struct Follower {
    /// Elections up to this term are refused: histories begin later.
    pub after: u64,
}

impl Role for Follower {
    fn hear(&mut self, message: Message) -> Vec<Message> {
        let Message::Raft(heard) = message else { return Vec::new() };
        let term = heard.term.0;
        let answer = match heard.kind {
            kind::REQUEST_PRE_VOTE if term <= self.after => {
                RaftMessage { reject: true, ..raft(kind::REQUEST_PRE_VOTE_RESPONSE, self.after) }
            }
            kind::REQUEST_PRE_VOTE => raft(kind::REQUEST_PRE_VOTE_RESPONSE, term),
            kind::REQUEST_VOTE => raft(kind::REQUEST_VOTE_RESPONSE, term),
            kind::APPEND => {
                let index = LogIndex(heard.index.0 + heard.entries.len() as u64);
                RaftMessage { index, ..raft(kind::APPEND_RESPONSE, term) }
            }
            kind::HEARTBEAT => RaftMessage { context: heard.context, ..raft(kind::HEARTBEAT_RESPONSE, term) },
            _ => return Vec::new(),
        };
        vec![boxed(answer)]
    }

    fn tick(&mut self) -> Vec<Message> {
        Vec::new()
    }
}

/// Leads server 1 in one term: orders its batches, tells what is committed, answers its reads.
pub struct Leader {
    pub term: u64,
    log: Vec<Entry>,
    acknowledged: u64,
    zxid: i64,
}

impl Leader {
    pub fn new(term: u64) -> Leader {
        Leader { term, log: vec![entry(term, b"")], acknowledged: 0, zxid: (term as i64) << 32 }
    }

    fn send_from(&self, index: u64) -> Message {
        let after = (index, if index == 0 { 0 } else { self.term });
        let entries = self.log[index as usize..].to_vec();
        boxed(append(self.term, after, self.acknowledged, entries))
    }

    fn order(&mut self, forward: &Forward) {
        let mut batch = forward.batch.to_vec();
        let first_zxid = Zxid(self.zxid + 1);
        let mut walk = Batch::decode(&forward.batch).unwrap();
        while let Some(txn) = walk.next_txn().unwrap() {
            self.zxid += i64::from(txn.takes_zxid());
        }
        let header = BatchHeader {
            options: Options::default(),
            wall: WallMillis(1_700_000_000_000),
            first_zxid,
            server: ServerId(1),
            incarnation: forward.incarnation,
            sequence: forward.sequence,
        };
        stamp(&mut batch, &header);
        let last_zxid = Zxid(self.zxid);
        let payload = Some(Bytes::from(batch));
        self.log.push(Entry { first_zxid, last_zxid, payload, ..entry(self.term, b"") });
    }
}

impl Role for Leader {
    fn hear(&mut self, message: Message) -> Vec<Message> {
        match message {
            Message::Forward(forward) if forward.term.0 == self.term => {
                self.order(&forward);
                vec![self.send_from(self.log.len() as u64 - 1)]
            }
            Message::Raft(heard) => match heard.kind {
                kind::APPEND_RESPONSE if heard.reject => vec![self.send_from(self.acknowledged)],
                kind::APPEND_RESPONSE if heard.index.0 > self.acknowledged => {
                    self.acknowledged = heard.index.0;
                    vec![self.send_from(self.log.len() as u64)]
                }
                kind::READ_INDEX => vec![boxed(RaftMessage {
                    index: LogIndex(self.acknowledged),
                    entries: heard.entries,
                    ..raft(kind::READ_INDEX_RESPONSE, self.term)
                })],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn tick(&mut self) -> Vec<Message> {
        let commit = LogIndex(self.acknowledged);
        let mut said = vec![boxed(RaftMessage { commit, ..raft(kind::HEARTBEAT, self.term) })];
        if self.acknowledged < self.log.len() as u64 {
            said.push(self.send_from(self.acknowledged));
        }
        said
    }
}
