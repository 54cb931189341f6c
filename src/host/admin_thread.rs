//! The thread that answers four-letter words, so that no serving core ever formats a text.
//!
//! It gathers what a word needs from shards and sequencer, which copy a slice between two turns, and waits for nobody
//! longer than `SILENCE`: who does not answer is named in the text. What needs nobody (`ruok`, refusals) is answered
//! by a loop of its own and never waits behind the rest. Words that list things are made one at a time, ten a second.

use super::clock::Clock;
use super::link::{Ask, Links, ShardLink, ShardView};
use super::process;
use super::sequencer_desk::SequencerAsk;
use super::shard_core::WordRequest;
use crate::admin::{self, Build, Files, Needs, Process, Sessions, Totals, View};
use crate::config::Config;
use crate::ids::{Millis, ShardId};
use crate::shard::Word;
use crossbeam::channel::{bounded, unbounded, Receiver, RecvTimeoutError, Sender, TrySendError};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

/// Words that wait for the admin thread at the most: a shard closes the connection of a further one.
pub const REQUESTS_MAX: usize = 256;
/// Words that list things and wait at the most; a further one's connection is closed.
const COSTLY_MAX: usize = 64;
/// The least time between two words that list things.
const COSTLY_EVERY: Millis = Millis(100);
/// A shard or the sequencer that says nothing for so long is left out.
const SILENCE: Duration = Duration::from_secs(2);
/// And one that goes on saying something is left out after this.
const GATHER_MAX: Millis = Millis(20_000);
/// The longest answer; it ends with a line that says so.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Up to so many watches of several shards the watched paths are told apart for `wchs`; of more, those that several shards
/// watch count more than once.
const DISTINCT_WATCHES_MAX: usize = 100_000;

/// What the thread is made of.
pub struct AdminThread {
    pub requests: Receiver<WordRequest>,
    pub links: Arc<Links>,
    pub config: Arc<Config>,
    /// The port that was taken.
    pub client_port: u16,
    /// Where the snapshots are, and the log.
    pub snapshot_dir: PathBuf,
    pub log_dir: PathBuf,
    pub clock: Clock,
}

/// What both loops share.
struct Desk {
    parts: AdminThread,
    trace_mask: AtomicI64,
    started: Millis,
}

impl AdminThread {
    /// Runs until no shard is left that could send a word.
    pub fn run(self) {
        let requests = self.requests.clone();
        let started = self.clock.mono();
        let desk = Desk { parts: self, trace_mask: AtomicI64::new(admin::TRACE_MASK), started };
        let (to_gatherer, inbox) = bounded::<WordRequest>(REQUESTS_MAX);
        std::thread::scope(|scope| {
            let gatherer = std::thread::Builder::new().name("admin-gather".to_owned());
            let gathers = gatherer.spawn_scoped(scope, || desk.gather_loop(&inbox)).is_ok();
            let to_gatherer = gathers.then_some(to_gatherer);
            while let Ok(request) = requests.recv() {
                desk.take(request, to_gatherer.as_ref());
            }
        });
    }
}

impl Desk {
    /// Answers at once what needs nobody, and hands on the rest.
    fn take(&self, request: WordRequest, gatherer: Option<&Sender<WordRequest>>) {
        let word = &request.word.word;
        if let Some(refusal) = admin::refusal(word, &self.parts.config.four_letter_words) {
            return self.answer(request, Some(refusal));
        }
        let needs = Needs::of(word).unwrap_or_default();
        match gatherer {
            Some(gatherer) if needs.asks() => match gatherer.try_send(request) {
                Ok(()) => {}
                Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => {
                    self.answer(request, None);
                }
            },
            // The system refused a second thread at start: then everything is done here.
            _ => self.work_on(request),
        }
    }

    fn gather_loop(&self, inbox: &Receiver<WordRequest>) {
        let mut costly: VecDeque<WordRequest> = VecDeque::new();
        let mut next_costly_at = Millis(0);
        loop {
            let received = if costly.is_empty() {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let wait = next_costly_at.since(self.parts.clock.mono());
                inbox.recv_timeout(Duration::from_millis(wait.0))
            };
            match received {
                Ok(request) if !is_costly(request) => self.work_on(request),
                Ok(request) if costly.len() < COSTLY_MAX => costly.push_back(request),
                Ok(request) => self.answer(request, None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = self.parts.clock.mono();
            if now >= next_costly_at {
                if let Some(request) = costly.pop_front() {
                    next_costly_at = now.plus(COSTLY_EVERY);
                    self.work_on(request);
                }
            }
        }
    }

    fn work_on(&self, request: WordRequest) {
        if self.parts.links.is_stopping() {
            return self.answer(request, None);
        }
        let word = &request.word.word;
        let view = self.view(request, Needs::of(word).unwrap_or_default());
        if view.serving && matches!(word, b"crst" | b"srst") {
            for shard in &self.parts.links.shards {
                // A shard that is asked too much already keeps its counters.
                let _ = shard.ask(if word == b"crst" { Ask::ResetConnections } else { Ask::ResetStats });
            }
        }
        let text = admin::answer(word, &view).map(|text| self.within_limit(text));
        self.answer(request, text);
    }

    fn answer(&self, request: WordRequest, text: Option<Vec<u8>>) {
        let Some(shard) = self.parts.links.shards.get(usize::from(request.shard.0)) else { return };
        let mut ask = Ask::AnswerWord { conn: request.word.conn, text };
        // The shard's queue is short and soon has room. One that takes nothing is dead, and its connection with it.
        let deadline = self.parts.clock.mono().plus(Millis(1_000));
        while let Err(refused) = shard.ask(ask) {
            ask = refused;
            if self.parts.links.is_stopping() || self.parts.clock.mono() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The answer must fit the connection's queue, or the shard would cut it as a slow reader.
    fn within_limit(&self, mut text: Vec<u8>) -> Vec<u8> {
        let queue = self.parts.config.limits.slow_reader_close_bytes / 2;
        let limit = ANSWER_BYTES_MAX.min(usize::try_from(queue).unwrap_or(usize::MAX));
        if text.len() > limit {
            let end = text[..limit].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            text.truncate(end);
            text.extend_from_slice(format!("The rest is left out: more than {limit} bytes\n").as_bytes());
        }
        text
    }

    // ---- gathering ----

    fn view(&self, request: WordRequest, needs: Needs) -> View {
        let parts = &self.parts;
        let now = parts.clock.now();
        let mut view = View {
            build: build(),
            config: parts.config.clone(),
            client_port: parts.client_port,
            serving: false,
            role: self.parts.links.standing.role(),
            peers: self.parts.links.standing.peers(),
            leading: self.parts.links.standing.leading(),
            members: self.parts.links.standing.members(),
            local_sessions: self.parts.links.standing.local_sessions(),
            wall: now.wall,
            uptime: now.mono.since(self.started),
            totals: Totals::default(),
            connections_by_shard: parts
                .links
                .shards
                .iter()
                .map(|shard| shard.connections.load(Ordering::Relaxed))
                .collect(),
            connections: Vec::new(),
            watches: BTreeMap::new(),
            sessions: Sessions::default(),
            digests: Vec::new(),
            files: if needs.files { self.files() } else { Files::default() },
            process: if needs.process { process::look() } else { Process::default() },
            trace_mask: self.trace_mask(request.word),
            silent: Vec::new(),
            sequencer_is_silent: false,
            counters: parts.links.meters.counters(),
            summaries: parts.links.meters.summaries(),
        };
        if needs.serving {
            self.gather_totals(&mut view, request, needs);
        }
        // A server that does not serve has nothing to list.
        if view.serving {
            self.gather_lists(&mut view, needs);
        }
        view
    }

    fn trace_mask(&self, word: Word) -> Option<i64> {
        if &word.word != b"stmk" {
            return Some(self.trace_mask.load(Relaxed));
        }
        // Kept and shown, as ZooKeeper's: nothing here is traced by it.
        word.argument.inspect(|mask| self.trace_mask.store(*mask, Relaxed))
    }

    fn files(&self) -> Files {
        let parts = &self.parts;
        let shown = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Files {
            data_dir: shown(&parts.snapshot_dir).display().to_string(),
            log_dir: shown(&parts.log_dir).display().to_string(),
            data_bytes: process::directory_bytes(&parts.snapshot_dir),
            log_bytes: process::directory_bytes(&parts.log_dir),
        }
    }

    /// Counters of all shards, or, where only that is wanted, whether the asking shard serves.
    fn gather_totals(&self, view: &mut View, request: WordRequest, needs: Needs) {
        let all = needs.totals || needs.watch_summary;
        let count_watchers = needs.watch_summary;
        let wanted = |shard: ShardId| all || shard == request.shard;
        self.gather(
            view,
            wanted,
            |reply| Ask::Stats { reply, count_watchers },
            |view, one: ShardView| {
                view.serving |= one.is_serving;
                add(&mut view.totals, &one);
            },
        );
    }

    fn gather_lists(&self, view: &mut View, needs: Needs) {
        if needs.connections {
            self.gather(
                view,
                |_| true,
                |reply| Ask::Rows { reply },
                |view, rows| {
                    view.connections.extend(rows);
                },
            );
        }
        // What is copied to tell paths apart has a row for each that watches one.
        let registrations = view.totals.watch_summary.2;
        let tell_apart =
            needs.watch_summary && view.totals.shards > 1 && registrations <= DISTINCT_WATCHES_MAX;
        if needs.watches || tell_apart {
            self.gather(
                view,
                |_| true,
                |reply| Ask::WatchPaths { reply },
                |view, rows| {
                    for (path, sessions) in rows {
                        view.watches.entry(path).or_default().extend(sessions);
                    }
                },
            );
        }
        if tell_apart {
            view.totals.watch_summary.1 = view.watches.len();
        }
        let SequencerAnswer { sessions, digests, is_silent } = self.ask_sequencer(needs);
        view.sessions = sessions;
        view.digests = digests;
        view.sequencer_is_silent = is_silent;
    }

    /// Asks the wanted shards, all at once, and takes what they say until each has said all.
    fn gather<T>(
        &self,
        view: &mut View,
        wanted: impl Fn(ShardId) -> bool,
        question: impl Fn(Sender<T>) -> Ask,
        mut take: impl FnMut(&mut View, T),
    ) {
        let ask = |shard: &ShardLink| {
            // Unbounded, because a shard never waits; what it sends is bounded by what it holds.
            let (reply, answers) = unbounded();
            // A question that was refused drops `reply`, but unanswered: that is silence, not an end.
            shard.ask(question(reply)).is_ok().then_some(answers)
        };
        let numbered = self.parts.links.shards.iter().zip(0..).map(|(link, n)| (ShardId(n), link));
        let asked: Vec<_> =
            numbered.filter(|(id, _)| wanted(*id)).map(|(id, link)| (id, ask(link))).collect();
        let started = self.parts.clock.mono();
        for (id, answers) in asked {
            let whole = answers.is_some_and(|answers| loop {
                match answers.recv_timeout(SILENCE) {
                    Ok(part) => take(view, part),
                    Err(RecvTimeoutError::Disconnected) => break true,
                    Err(RecvTimeoutError::Timeout) => break false,
                }
                if self.parts.clock.mono().since(started) > GATHER_MAX {
                    break false;
                }
            });
            if !whole && !view.silent.contains(&id) {
                view.silent.push(id);
            }
        }
    }

    fn ask_sequencer(&self, needs: Needs) -> SequencerAnswer {
        let mut all = SequencerAnswer::default();
        if needs.sessions {
            all.sessions = self.ask_one(SequencerAsk::Sessions, &mut all.is_silent);
        }
        if needs.digests {
            all.digests = self.ask_one(SequencerAsk::Digests, &mut all.is_silent);
        }
        all
    }

    fn ask_one<T: Default>(&self, question: impl Fn(Sender<T>) -> SequencerAsk, is_silent: &mut bool) -> T {
        let (reply, answer) = bounded(1);
        self.parts.links.ask_sequencer(question(reply));
        answer.recv_timeout(SILENCE).unwrap_or_else(|_| {
            *is_silent = true;
            T::default()
        })
    }
}

#[derive(Default)]
struct SequencerAnswer {
    sessions: Sessions,
    digests: Vec<(crate::ids::Zxid, u64)>,
    is_silent: bool,
}

fn is_costly(request: WordRequest) -> bool {
    Needs::of(&request.word.word).is_some_and(Needs::is_costly)
}

/// Connections, watches and counters are each shard's own; the tree is the same for all, and the newest is shown.
fn add(totals: &mut Totals, one: &ShardView) {
    totals.shards += 1;
    totals.stats = totals.stats.merged(one.stats);
    totals.outstanding += one.outstanding;
    totals.watches += one.watches;
    let (connections, paths, registrations) = totals.watch_summary;
    let more = one.watch_summary;
    totals.watch_summary = (connections + more.0, paths + more.1, registrations + more.2);
    if one.last_zxid >= totals.last_zxid {
        totals.last_zxid = one.last_zxid;
        totals.nodes = one.nodes;
        totals.data_bytes = one.data_bytes;
        totals.ephemerals = one.ephemerals;
        totals.sessions = one.sessions;
    }
}

fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("RINGKEEPER_COMMIT"),
        date: env!("RINGKEEPER_BUILT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::ids::ConnId;

    /// What a shard's driver would be told to say to connection 5 of shard 0, where `speak` answers the other
    /// questions of the shards.
    fn said(word: &[u8; 4], mut speak: impl FnMut(usize, Ask)) -> String {
        let links = Arc::new(Links::new(2).unwrap());
        let (words, requests) = bounded(REQUESTS_MAX);
        let (config, _) = Sources::default().check().unwrap();
        let admin = AdminThread {
            requests,
            links: links.clone(),
            config: Arc::new(config),
            client_port: 2181,
            snapshot_dir: "none/snapshot".into(),
            log_dir: "none/log".into(),
            clock: Clock::start(),
        };
        let thread = std::thread::spawn(move || admin.run());
        let word = Word { conn: ConnId(5), word: *word, argument: None };
        words.send(WordRequest { shard: ShardId(0), word }).unwrap();
        let mut text = None;
        let clock = Clock::start();
        while text.is_none() {
            assert!(clock.mono().since(Millis(0)) < Millis(30_000), "no answer");
            for (at, shard) in links.shards.iter().enumerate() {
                match shard.next_ask() {
                    Some(Ask::AnswerWord { conn, text: said }) => {
                        assert_eq!((at, conn), (0, ConnId(5)));
                        text = Some(said);
                    }
                    Some(ask) => speak(at, ask),
                    None => std::thread::yield_now(),
                }
            }
        }
        // No shard is left that could send a word: both loops end.
        drop(words);
        thread.join().unwrap();
        String::from_utf8(text.flatten().unwrap()).unwrap()
    }

    fn stats(ask: &Ask, is_serving: bool) {
        if let Ask::Stats { reply, .. } = ask {
            let stats = crate::shard::Stats { connections: 3, ..Default::default() };
            reply.send(ShardView { is_serving, nodes: 4, stats, ..ShardView::default() }).unwrap();
        }
    }

    #[test]
    fn counters_of_all_shards_are_added_up() {
        let text = said(b"srvr", |_, ask| stats(&ask, true));
        assert!(text.contains("\nConnections: 6\n") && text.contains("\nNode count: 5\n"), "{text}");
    }

    #[test]
    fn a_shard_that_is_silent_is_left_out_and_named() {
        let mut kept = Vec::new();
        let text = said(b"srvr", |at, ask| match at {
            0 => stats(&ask, true),
            _ => kept.push(ask),
        });
        assert!(text.contains("\nConnections: 3\n"), "{text}");
        assert!(text.ends_with("Shard 1 did not answer in time: what it holds is missing here\n"), "{text}");
    }

    #[test]
    fn nothing_is_asked_for_ruok_and_refusals_and_a_server_without_a_tree_says_so() {
        assert_eq!(said(b"ruok", |_, _| panic!("nothing is asked")), "imok");
        let refused = said(b"dump", |_, _| panic!("nothing is asked"));
        assert_eq!(refused, "dump is not executed because it is not in the whitelist.\n");
        let text = said(b"mntr", |_, ask| stats(&ask, false));
        assert_eq!(text, "This ZooKeeper instance is not currently serving requests\n");
    }
}
