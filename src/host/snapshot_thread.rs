//! The thread that writes snapshots: what the sequencer copies goes to it in parts, and a file appears whole or not.

use super::disk::DataDir;
use crate::apply::SnapshotHead;
use crate::ids::{LogIndex, Millis, Term};
use crate::snapshot::{Encoder, Meta};
use crate::tree::Node;
use crossbeam::channel::{unbounded, Receiver, Sender};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tracing::{error, info};

/// What the sequencer hands over. The parts of a snapshot are references: the queue is as long as a tree at most.
pub(super) enum SnapshotJob {
    Begin {
        index: LogIndex,
        term: Term,
        head: Box<SnapshotHead>,
    },
    Nodes(Vec<Vec<Node>>),
    End,
    /// No more parts come.
    Abort,
}

pub(super) struct SnapshotThread {
    jobs: Option<Sender<SnapshotJob>>,
    /// The oldest snapshot's index that is kept, or nothing where writing failed; and how long it took.
    done: Receiver<(Option<LogIndex>, Millis)>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told at its start.
pub(super) struct SnapshotOptions {
    pub dir: Arc<DataDir>,
    /// `autopurge.snapRetainCount`.
    pub keep: usize,
    /// Purge is on.
    pub purge: bool,
}

impl SnapshotThread {
    pub(super) fn start(options: SnapshotOptions) -> io::Result<SnapshotThread> {
        let (jobs, inbox) = unbounded();
        let (tell, done) = unbounded();
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            super::pin::step_back();
            while let Ok(job) = inbox.recv() {
                if let SnapshotJob::Begin { index, term, head } = job {
                    let started = Instant::now();
                    let oldest = write(&options, index, term, &head, &inbox);
                    let took = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
                    if tell.send((oldest, took)).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(SnapshotThread { jobs: Some(jobs), done, thread: Some(thread) })
    }

    pub(super) fn send(&self, job: SnapshotJob) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after the sender is gone; a panic of its own ends the process.
            let _ = jobs.send(job);
        }
    }

    /// A snapshot that was finished since the last call: what the log must still hold, or a failure; and how long it
    /// took.
    pub(super) fn take_done(&self) -> Option<(Option<LogIndex>, Millis)> {
        self.done.try_recv().ok()
    }

    /// No more jobs; a snapshot whose parts have not all come is given up.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(
    options: &SnapshotOptions,
    index: LogIndex,
    term: Term,
    head: &SnapshotHead,
    inbox: &Receiver<SnapshotJob>,
) -> Option<LogIndex> {
    let started = Instant::now();
    let dir = &options.dir;
    let path = dir.snapshot_name(index, head.last_zxid);
    let meta = Meta { cluster: dir.cluster_id(), index, term };
    let mut is_whole = false;
    let written = dir.publish(&path, |out| {
        let mut encoder = Encoder::begin(out, &meta, head)?;
        while let Ok(job) = inbox.recv() {
            match job {
                SnapshotJob::Nodes(parts) => {
                    for nodes in &parts {
                        encoder.nodes(nodes)?;
                    }
                }
                SnapshotJob::End => {
                    is_whole = true;
                    encoder.finish()?;
                    return Ok(());
                }
                SnapshotJob::Abort => {
                    is_whole = true;
                    return Err(io::Error::other("one of the leader has taken its place"));
                }
                SnapshotJob::Begin { .. } => break,
            }
        }
        Err(io::Error::other("the server is going down"))
    });
    if let Err(why) = written {
        // The rest of a snapshot that could not be written still arrives: it is dropped here.
        if !is_whole {
            while matches!(inbox.recv(), Ok(SnapshotJob::Nodes(_))) {}
        }
        error!(
            "snapshot {} was not written: {why}; the log is kept and the next one is tried later",
            path.display()
        );
        return None;
    }
    info!(
        file = %path.display(),
        nodes = head.nodes,
        zxid = %head.last_zxid,
        ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "snapshot written"
    );
    if !options.purge {
        return Some(LogIndex(0));
    }
    match dir.purge_snapshots(options.keep) {
        Ok(oldest) => oldest.or(Some(LogIndex(0))),
        Err(why) => {
            error!("old snapshots were not purged: {why}");
            Some(LogIndex(0))
        }
    }
}
