//! Carries out what others ask of a shard, a slice a turn, so that no question of an operator holds up a client.
//!
//! Both drivers keep one `Asks` and call `step` between two turns of their shard. Short questions are answered at
//! once; rows and watches are copied in slices that go out as they are ready, and the end of an answer is that its
//! sender is dropped. Who asks gives a channel without a bound: a shard never waits, and an asker that is gone ends
//! its answer. Nothing is formatted here.

use super::link::{Ask, Order, ShardLink, ShardView, WatchRow};
use crate::ids::{ConnId, Millis, SessionId};
use crate::shard::{ConnectionRow, Shard};
use crate::tree::Path;
use crossbeam::channel::Sender;
use std::collections::VecDeque;

/// Connections or watchers looked at in one slice.
const SLICE: usize = 512;
/// Short questions answered in one step.
const SHORT_MAX: usize = 16;

/// What the driver does next.
pub enum Step {
    /// Nothing is left to do here until somebody asks again.
    Done,
    /// There is more: call again in the next turn, and do not sleep before.
    More,
    /// Carry this out; then call again.
    Order(Order),
    /// Stop.
    Stop,
}

/// The answers under way.
#[derive(Default)]
pub struct Asks {
    jobs: VecDeque<Job>,
}

enum Job {
    Rows { reply: Sender<Vec<ConnectionRow>>, from: usize },
    Watches { reply: Sender<Vec<WatchRow>>, stripe: usize, copied: Vec<(Path, Vec<ConnId>)> },
    Watchers { reply: Sender<ShardView>, after: Option<SessionId>, count: usize },
    ResetConnections { from: usize },
}

impl Asks {
    /// Whether an answer is under way: the driver must not sleep.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Answers short questions and one slice of a long one.
    pub fn step(&mut self, now: Millis, shard: &mut Shard, link: &ShardLink) -> Step {
        if link.is_ending() {
            return Step::Stop;
        }
        if let Some(order) = link.next_order() {
            return Step::Order(order);
        }
        for _ in 0..SHORT_MAX {
            let Some(ask) = link.next_ask() else { break };
            self.take(ask, shard);
        }
        if let Some(job) = self.jobs.pop_front() {
            // The others have their turn before the rest of this one.
            self.jobs.extend(job.slice(now, shard));
        }
        if self.jobs.is_empty() && !link.has_asks() {
            Step::Done
        } else {
            Step::More
        }
    }

    fn take(&mut self, ask: Ask, shard: &mut Shard) {
        match ask {
            Ask::AnswerWord { conn, text } => shard.answer_word(conn, text.as_deref()),
            Ask::Stats { reply, count_watchers: false } => answer(&reply, view(shard, 0)),
            Ask::Stats { reply, count_watchers: true } => {
                self.jobs.push_back(Job::Watchers { reply, after: None, count: 0 });
            }
            Ask::Rows { reply } => self.jobs.push_back(Job::Rows { reply, from: 0 }),
            Ask::WatchPaths { reply } => {
                self.jobs.push_back(Job::Watches { reply, stripe: 0, copied: Vec::new() });
            }
            Ask::ResetConnections => self.jobs.push_back(Job::ResetConnections { from: 0 }),
            Ask::ResetStats => shard.stats.reset(),
        }
    }
}

impl Job {
    /// Does one slice; returns what is left.
    fn slice(self, now: Millis, shard: &mut Shard) -> Option<Job> {
        match self {
            Job::Rows { reply, from } => {
                let (rows, next) = shard.rows(now, from, SLICE);
                let goes_on = send(&reply, rows);
                next.filter(|_| goes_on).map(|from| Job::Rows { reply, from })
            }
            Job::Watches { reply, stripe, copied } => watches_slice(shard, reply, stripe, copied),
            Job::Watchers { reply, after, count } => {
                let watches = shard.watches();
                let (mut seen, mut last, mut count) = (0, after, count);
                for (session, conn) in shard.sessions_after(after).take(SLICE) {
                    count += usize::from(watches.data_paths_of(conn).next().is_some());
                    (seen, last) = (seen + 1, Some(session));
                }
                if seen == SLICE {
                    return Some(Job::Watchers { reply, after: last, count });
                }
                answer(&reply, view(shard, count));
                None
            }
            Job::ResetConnections { from } => {
                shard.reset_connection_stats(from, SLICE).map(|from| Job::ResetConnections { from })
            }
        }
    }
}

/// Copies the next stripe of the data table, or names the sessions of what was copied. A stripe that splits meanwhile
/// is seen twice in part: who gathers the rows keeps them in sets.
fn watches_slice(
    shard: &Shard,
    reply: Sender<Vec<WatchRow>>,
    stripe: usize,
    mut copied: Vec<(Path, Vec<ConnId>)>,
) -> Option<Job> {
    if copied.is_empty() {
        if stripe >= shard.watches().data_stripes() {
            return None;
        }
        copied = shard.watches().data_stripe(stripe);
        return Some(Job::Watches { reply, stripe: stripe + 1, copied });
    }
    let (mut rows, mut left) = (Vec::new(), SLICE);
    while left > 0 {
        let Some((path, conns)) = copied.last_mut() else { break };
        let some = conns.split_off(conns.len().saturating_sub(left));
        left -= some.len().min(left);
        let sessions = some.into_iter().filter_map(|conn| shard.session_of(conn)).collect();
        rows.push((path.clone(), sessions));
        if conns.is_empty() {
            copied.pop();
        }
    }
    send(&reply, rows).then_some(Job::Watches { reply, stripe, copied })
}

fn view(shard: &Shard, watchers: usize) -> ShardView {
    let table = shard.table();
    ShardView {
        stats: shard.stats,
        outstanding: shard.outstanding(),
        last_zxid: shard.last_zxid(),
        nodes: table.len(),
        data_bytes: table.data_bytes(),
        ephemerals: table.ephemerals_count(),
        watches: shard.watches().count(),
        watch_summary: (watchers, shard.watches().data_paths(), shard.watches().data_count()),
        sessions: shard.sessions_total(),
        is_serving: shard.is_serving(),
    }
}

/// An asker that is gone is nobody's loss.
fn answer<T>(reply: &Sender<T>, message: T) {
    let _ = reply.try_send(message);
}

/// Sends a slice; false when nobody wants more.
fn send<T>(reply: &Sender<T>, slice: T) -> bool {
    reply.try_send(slice).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::host::link::{Links, Tree};
    use crate::host::serve::shard_options;
    use crate::ids::{ShardId, Zxid};
    use crate::tree::PathHasher;
    use crossbeam::channel::unbounded;
    use std::sync::Arc;

    /// A shard that does not serve yet.
    pub(in crate::host) fn shard() -> Shard {
        let (config, _) = Sources::default().check().unwrap();
        let options = shard_options(&config, ShardId(0), 1, 7);
        Shard::new(options, PathHasher::new([1, 2, 3, 4]), Millis(1_000))
    }

    #[test]
    fn rows_come_in_slices_and_short_questions_pass_them() {
        let links = Links::new(1).unwrap();
        let link = &links.shards[0];
        let (mut shard, mut asks) = (shard(), Asks::default());
        for port in 0..2_000 {
            shard.accept(Millis(1_000), ([127, 0, 0, 1], port).into());
        }
        let (reply, rows) = unbounded();
        assert!(link.ask(Ask::Rows { reply }).is_ok());
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::More));
        assert!(asks.has_work());
        let (reply, views) = unbounded();
        assert!(link.ask(Ask::Stats { reply, count_watchers: false }).is_ok());
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::More));
        assert_eq!(views.try_recv().map(|view| view.stats.connections), Ok(2_000));
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::More));
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::Done));
        // The sender is gone: the iterator ends.
        let slices: Vec<usize> = rows.iter().map(|slice| slice.len()).collect();
        assert_eq!(slices, [512, 512, 512, 464]);
    }

    #[test]
    fn an_asker_that_is_gone_ends_its_answer() {
        let links = Links::new(1).unwrap();
        let link = &links.shards[0];
        let (mut shard, mut asks) = (shard(), Asks::default());
        for port in 0..2_000 {
            shard.accept(Millis(1_000), ([127, 0, 0, 1], port).into());
        }
        let (reply, rows) = unbounded();
        drop(rows);
        assert!(link.ask(Ask::Rows { reply }).is_ok());
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::Done));
        let (reply, views) = unbounded();
        assert!(link.ask(Ask::Stats { reply, count_watchers: true }).is_ok());
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::Done));
        assert_eq!(views.try_recv().map(|view| view.watch_summary), Ok((0, 0, 0)));
    }

    /// A server that is asked by thousands while it starts, or while it goes down.
    #[test]
    fn a_full_list_of_questions_keeps_neither_the_tree_nor_the_end_away() {
        let links = Links::new(1).unwrap();
        let link = &links.shards[0];
        let (mut shard, mut asks) = (shard(), Asks::default());
        let fill = || while link.ask(Ask::ResetStats).is_ok() {};
        fill();
        let tree = Tree {
            table: shard.table().clone(),
            last_zxid: Zxid(7),
            sessions: 0,
            publication: 3,
            read_only: false,
        };
        link.order(Order::Serve(Arc::new(tree)));
        assert!(link.has_work());
        let Step::Order(Order::Serve(tree)) = asks.step(Millis(1_001), &mut shard, link) else {
            panic!("no tree")
        };
        assert_eq!((tree.last_zxid, tree.publication), (Zxid(7), 3));
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::More));
        fill();
        link.end();
        assert!(link.has_work());
        assert!(matches!(asks.step(Millis(1_001), &mut shard, link), Step::Stop));
    }
}
