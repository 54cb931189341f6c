//! What each client must hear of its watches, to the event: what was registered on a connection and at which zxid is known
//! from its answers, what changed is known from the log, and so the events of a connection, their order and their place
//! among its answers follow from the two.
//!
//! Two views, made apart. `Registered` is a connection's tables at its server, as ZooKeeper's rules say. `Memory` is what a
//! client's library keeps, to set it again on its next connection; at the end nothing in it may have happened unheard.

use crate::ask::{is_hidden, Ask, PERSISTENT, RECURSIVE};
use crate::check::Truth;
use crate::client::{Done, Op};
use crate::machines::client::{CHANGED, CHILDREN, CREATED, DELETED};
use std::collections::{BTreeMap, BTreeSet};

/// An event as a client hears it; zxid -1: it caught up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub zxid: i64,
    pub kind: i32,
    pub path: String,
}

/// A change that watches may hear of.
#[derive(Clone, Debug)]
pub struct Fact {
    pub zxid: i64,
    /// As the event on the znode itself is called.
    pub kind: i32,
    pub path: String,
}

/// A connection's life as its client saw it, in order.
#[derive(Clone, Debug)]
pub struct Stream {
    pub client: usize,
    pub server: u8,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug)]
pub enum Item {
    Event(Event),
    /// The answer to an operation of the history.
    Answer(usize),
    Pong {
        zxid: i64,
    },
    /// The answer to setWatches: data, exist, child, persistent, recursive.
    SetAgain {
        zxid: i64,
        again: Again,
    },
    /// The run is over, everybody has heard everything up to here, and the server counts so many watches of all its clients.
    End {
        zxid: i64,
    },
}

/// What setWatches asks for.
#[derive(Clone, Default, Debug)]
pub struct Again {
    pub seen: i64,
    pub lists: [Vec<String>; 5],
}

/// ZooKeeper's client libraries send one setWatches or several: each is whole for itself.
impl Again {
    pub fn has_new_kinds(&self) -> bool {
        !self.lists[3].is_empty() || !self.lists[4].is_empty()
    }

    /// In two: the first three lists, and the other two.
    pub fn split(self) -> [Again; 2] {
        let Again { seen, lists: [data, exist, child, persistent, recursive] } = self;
        [
            Again { seen, lists: [data, exist, child, Vec::new(), Vec::new()] },
            Again { seen, lists: [Vec::new(), Vec::new(), Vec::new(), persistent, recursive] },
        ]
    }
}

// ---- the client's end ----

/// The watches that a client believes it has, and since which zxid.
#[derive(Default, Debug)]
pub struct Memory {
    data: BTreeMap<String, i64>,
    exist: BTreeMap<String, i64>,
    child: BTreeMap<String, i64>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

impl Memory {
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
            && self.exist.is_empty()
            && self.child.is_empty()
            && self.persistent.is_empty()
            && self.recursive.is_empty()
    }

    /// A one-shot watch is over with the first event that may be its own.
    pub fn on_event(&mut self, kind: i32, path: &str) {
        if kind != CHILDREN {
            self.data.remove(path);
            self.exist.remove(path);
        }
        if kind == CHILDREN || kind == DELETED {
            self.child.remove(path);
        }
    }

    pub fn on_answer(&mut self, ask: &Ask, done: &Done) {
        let (zxid, is_good) = (done.zxid, done.err == 0);
        match ask {
            Ask::Get { path, watch: true } if is_good => _ = self.data.insert(path.clone(), zxid),
            Ask::Exists { path, watch: true } if is_good => _ = self.data.insert(path.clone(), zxid),
            Ask::Exists { path, watch: true } if done.err == -101 => {
                self.exist.insert(path.clone(), zxid);
            }
            Ask::Children { path, watch: true } if is_good => _ = self.child.insert(path.clone(), zxid),
            Ask::AddWatch { path, mode: PERSISTENT } if is_good => _ = self.persistent.insert(path.clone()),
            Ask::AddWatch { path, mode: RECURSIVE } if is_good => _ = self.recursive.insert(path.clone()),
            Ask::RemoveWatches { path, kind } if is_good => {
                if matches!(kind, 1 | 3) {
                    self.child.remove(path);
                }
                if matches!(kind, 2 | 3) {
                    self.data.remove(path);
                    self.exist.remove(path);
                }
                if matches!(kind, 3 | 4) {
                    self.persistent.remove(path);
                }
                if matches!(kind, 3 | 5) {
                    self.recursive.remove(path);
                }
            }
            _ => {}
        }
    }

    pub fn again(&self, seen: i64) -> Again {
        let keys = |map: &BTreeMap<String, i64>| map.keys().cloned().collect();
        let all = |set: &BTreeSet<String>| set.iter().cloned().collect();
        Again {
            seen,
            lists: [
                keys(&self.data),
                keys(&self.exist),
                keys(&self.child),
                all(&self.persistent),
                all(&self.recursive),
            ],
        }
    }

    /// Whatever the rules are and however often it connected again: what this client still waits for has not happened.
    pub fn nothing_was_missed(&self, client: usize, truth: &Truth) {
        let end = i64::MAX;
        for (path, since) in &self.data {
            let at = truth.mzxid(path, end);
            assert!(
                at.is_some_and(|at| at <= *since),
                "client {client} watches data of {path} since 0x{since:x} and did not hear of {at:x?}"
            );
        }
        for (path, since) in self.exist.iter().filter(|(path, _)| !is_hidden(path)) {
            let at = truth.mzxid(path, end);
            assert_eq!(at, None, "client {client} watches for {path} since 0x{since:x}, and it is there");
        }
        for (path, since) in &self.child {
            let at = truth.pzxid(path, end);
            assert!(
                at.is_some_and(|at| at <= *since),
                "client {client} watches children of {path} since 0x{since:x} and did not hear of {at:x?}"
            );
        }
    }
}

// ---- the server's end ----

const ONE_SHOT: u8 = 1;
const STAYS: u8 = 2;
const BELOW: u8 = 4;

/// The two tables of ZooKeeper, of one connection.
#[derive(Default)]
struct Registered {
    data: BTreeMap<String, u8>,
    child: BTreeMap<String, u8>,
}

fn add(table: &mut BTreeMap<String, u8>, path: &str, bits: u8) {
    *table.entry(path.to_owned()).or_default() |= bits;
}

/// Takes bits away; says whether there was one.
fn take(table: &mut BTreeMap<String, u8>, path: &str, bits: u8) -> bool {
    let Some(known) = table.get_mut(path) else { return false };
    let had = *known & bits != 0;
    *known &= !bits;
    if *known == 0 {
        table.remove(path);
    }
    had
}

/// The path of a znode's parent.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

impl Registered {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.child.is_empty()
    }

    fn count(&self) -> usize {
        self.data.len() + self.child.len()
    }

    /// The events of one change: on the znode, then on its parent, each once.
    fn fire(&mut self, fact: &Fact, out: &mut Vec<Event>) {
        let path = &fact.path;
        let mut is_told = self.data.contains_key(path);
        take(&mut self.data, path, ONE_SHOT);
        let mut above = &path[..];
        while above.len() > 1 {
            above = parent(above);
            is_told |= self.data.get(above).is_some_and(|bits| bits & BELOW != 0);
        }
        if fact.kind == DELETED {
            is_told |= self.child.contains_key(path);
            take(&mut self.child, path, ONE_SHOT);
        }
        // Not told to whom may not read it; the one-shot watch is gone all the same.
        if is_told && !is_hidden(path) {
            out.push(Event { zxid: fact.zxid, kind: fact.kind, path: path.clone() });
        }
        if fact.kind != CHANGED {
            let parent = parent(path);
            if self.child.contains_key(parent) {
                out.push(Event { zxid: fact.zxid, kind: CHILDREN, path: parent.to_owned() });
            }
            take(&mut self.child, parent, ONE_SHOT);
        }
    }

    /// An operation was answered: what it registers, and whether it was answered rightly.
    fn answer(&mut self, op: &Op, done: &Done) {
        match &op.ask {
            Ask::Get { path, watch: true } if done.err == 0 => add(&mut self.data, path, ONE_SHOT),
            Ask::Exists { path, watch: true } if matches!(done.err, 0 | -101) => {
                add(&mut self.data, path, ONE_SHOT)
            }
            Ask::Children { path, watch: true } if done.err == 0 => add(&mut self.child, path, ONE_SHOT),
            Ask::AddWatch { path, mode } => {
                assert_eq!(done.err, 0, "{op:?}");
                if *mode == PERSISTENT {
                    add(&mut self.data, path, STAYS);
                    add(&mut self.child, path, STAYS);
                } else {
                    add(&mut self.data, path, BELOW);
                }
            }
            Ask::CheckWatches { path, kind } => {
                let (data, child) = registrations(*kind);
                let has = |table: &BTreeMap<String, u8>, bits| {
                    table.get(path).is_some_and(|known| known & bits != 0)
                };
                let found = has(&self.data, data) || has(&self.child, child);
                assert_eq!(done.err, if found { 0 } else { -121 }, "{op:?}");
            }
            Ask::RemoveWatches { path, kind } => {
                let (data, child) = registrations(*kind);
                let found = take(&mut self.data, path, data) | take(&mut self.child, path, child);
                assert_eq!(done.err, if found { 0 } else { -121 }, "{op:?}");
            }
            _ => {}
        }
    }

    /// setWatches: what changed since is told at once, the rest is armed.
    fn set_again(&mut self, truth: &Truth, zxid: i64, again: &Again, out: &mut Vec<Event>) {
        let [data, exist, child, persistent, recursive] = &again.lists;
        let mut tell = |kind, path: &str| out.push(Event { zxid: -1, kind, path: path.to_owned() });
        for path in data {
            match truth.mzxid(path, zxid) {
                None => tell(DELETED, path),
                Some(at) if at > again.seen => tell(CHANGED, path),
                Some(_) => add(&mut self.data, path, ONE_SHOT),
            }
        }
        for path in exist {
            match truth.mzxid(path, zxid) {
                Some(_) => tell(CREATED, path),
                None => add(&mut self.data, path, ONE_SHOT),
            }
        }
        for path in child {
            match truth.pzxid(path, zxid) {
                None => tell(DELETED, path),
                Some(at) if at > again.seen => tell(CHILDREN, path),
                Some(_) => add(&mut self.child, path, ONE_SHOT),
            }
        }
        for path in persistent {
            add(&mut self.data, path, STAYS);
            add(&mut self.child, path, STAYS);
        }
        for path in recursive {
            add(&mut self.data, path, BELOW);
        }
    }
}

/// What a type of removeWatches means in the two tables.
fn registrations(kind: i32) -> (u8, u8) {
    match kind {
        1 => (0, ONE_SHOT),
        2 => (ONE_SHOT, 0),
        3 => (ONE_SHOT | STAYS | BELOW, ONE_SHOT | STAYS | BELOW),
        4 => (STAYS, STAYS),
        _ => (BELOW, 0),
    }
}

/// One connection's events against the log. Returns how many watches it has at its end.
fn judge_one(stream: &Stream, truth: &Truth, history: &[Op]) -> usize {
    let mut registered = Registered::default();
    let mut next = 0;
    let mut heard: Vec<Event> = Vec::new();
    let mut due: Vec<Event> = Vec::new();
    for item in &stream.items {
        let zxid = match item {
            Item::Event(event) => {
                heard.push(event.clone());
                continue;
            }
            Item::Answer(op) => history[*op].done.as_ref().expect("it was answered").zxid,
            Item::Pong { zxid } | Item::SetAgain { zxid, .. } | Item::End { zxid } => *zxid,
        };
        // Everything up to here is told before this answer, and nothing else.
        let upto = truth.facts.partition_point(|fact| fact.zxid <= zxid);
        due.clear();
        if !registered.is_empty() {
            truth.facts[next.min(upto)..upto].iter().for_each(|fact| registered.fire(fact, &mut due));
        }
        next = next.max(upto);
        if let Item::SetAgain { zxid, again } = item {
            registered.set_again(truth, *zxid, again, &mut due);
        }
        assert!(heard == due, "{}", differ(stream, item, history, &heard, &due));
        heard.clear();
        if let Item::Answer(op) = item {
            let op = &history[*op];
            registered.answer(op, op.done.as_ref().expect("it was answered"));
        }
    }
    // Its last events, behind the last answer: as far as it came.
    if !heard.is_empty() {
        due.clear();
        truth.facts[next..].iter().for_each(|fact| registered.fire(fact, &mut due));
        let is_prefix = due.len() >= heard.len() && due[..heard.len()] == heard[..];
        let last = stream.items.last().expect("there was one");
        assert!(is_prefix, "{}", differ(stream, last, history, &heard, &due));
    }
    registered.count()
}

fn differ(stream: &Stream, item: &Item, history: &[Op], heard: &[Event], due: &[Event]) -> String {
    let at = heard.iter().zip(due).take_while(|(a, b)| a == b).count();
    let item = match item {
        Item::Answer(op) => format!("{:?}", history[*op]),
        other => format!("{other:?}"),
    };
    format!(
        "watches of client {} at server {}: before {item:.300} it heard {:?} where {:?} was due ({} of {})",
        stream.client,
        stream.server,
        heard.get(at),
        due.get(at),
        heard.len(),
        due.len()
    )
}

/// All connections. `counted`: how many watches each server has at the end. `may_have_more`: a client that left a local session
/// behind without a word has its watches there until the session ends; one of the state goes when it is attached elsewhere.
pub fn judge(
    streams: &[Stream],
    truth: &Truth,
    history: &[Op],
    counted: &BTreeMap<u8, usize>,
    may_have_more: bool,
) {
    let mut known: BTreeMap<u8, usize> = counted.keys().map(|server| (*server, 0)).collect();
    for stream in streams {
        let count = judge_one(stream, truth, history);
        if matches!(stream.items.last(), Some(Item::End { .. })) {
            *known.entry(stream.server).or_default() += count;
        }
    }
    let has_them = |(server, count): (&u8, &usize)| counted.get(server).is_some_and(|held| held >= count);
    assert!(
        if may_have_more { known.iter().all(has_them) } else { *counted == known },
        "watches that servers hold, and those of their clients: {counted:?}, {known:?}"
    );
}
