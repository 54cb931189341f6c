//! The thread that writes snapshots: what the sequencer copies goes to it in parts, and a file appears whole or not.

use super::disk::{list_snapshots, DataDir, Disk};
use crate::apply::SnapshotHead;
use crate::ids::{LogIndex, Millis, Term};
use crate::snapshot::{Encoder, Meta};
use crate::tree::Node;
use crossbeam::channel::{unbounded, Receiver, Sender};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
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
        /// The disk is low: no older one is kept beside it.
        alone: bool,
    },
    Nodes(Vec<Vec<Node>>),
    End,
    /// No more parts come.
    Abort,
}

pub(super) struct SnapshotThread {
    jobs: Option<Sender<SnapshotJob>>,
    done: Receiver<SnapshotDone>,
    thread: Option<JoinHandle<()>>,
    /// The server goes down: the snapshot under way is given up, though all of it may have come.
    ends: Arc<AtomicBool>,
    purges: bool,
}

/// A snapshot that is done with.
pub(super) struct SnapshotDone {
    pub is_written: bool,
    /// The oldest snapshot's index that is kept, if old ones were purged, or 0: the log is needed behind it.
    pub keep_from: Option<LogIndex>,
    pub took: Millis,
}

/// What the thread is told at its start.
pub(super) struct SnapshotOptions {
    pub dir: Arc<DataDir>,
    /// `autopurge.snapRetainCount`.
    pub keep: usize,
    /// Purge is on.
    pub purge: bool,
    /// What the log may need meanwhile: one that is written on a low disk leaves so much.
    pub leaves_bytes: u64,
}

impl SnapshotThread {
    pub(super) fn start(options: SnapshotOptions) -> io::Result<SnapshotThread> {
        let (jobs, inbox) = unbounded();
        let (tell, done) = unbounded();
        let (purges, ends) = (options.purge, Arc::new(AtomicBool::new(false)));
        let is_over = ends.clone();
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            super::pin::step_back();
            // The one that this thread wrote last.
            let mut last = None;
            while let Ok(job) = inbox.recv() {
                if let SnapshotJob::Begin { index, term, head, alone } = job {
                    let started = Instant::now();
                    let keep = if alone { 1 } else { options.keep };
                    // On a low disk room is made before, too: what is written next may not find enough. Never for one that
                    // nobody has looked at: it may be damaged, and those before it what a start would need.
                    let is_sound = last.is_some() && last == options.newest().map(|(index, _)| index);
                    let before = (alone && is_sound).then(|| options.purge_all_but(keep));
                    let coming = Coming { inbox: &inbox, is_over: &is_over };
                    let is_written = write(&options, index, term, &head, &coming, alone);
                    last = if is_written { Some(index) } else { last };
                    let keep_from = if is_written { Some(options.purge_all_but(keep)) } else { before };
                    let took = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
                    if tell.send(SnapshotDone { is_written, keep_from, took }).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(SnapshotThread { jobs: Some(jobs), done, thread: Some(thread), ends, purges })
    }

    /// Whether old snapshots are purged, and the log with them.
    pub(super) fn purges(&self) -> bool {
        self.purges
    }

    pub(super) fn send(&self, job: SnapshotJob) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after the sender is gone; a panic of its own ends the process.
            let _ = jobs.send(job);
        }
    }

    /// A snapshot that was done with since the last call.
    pub(super) fn take_done(&self) -> Option<SnapshotDone> {
        self.done.try_recv().ok()
    }

    /// No more jobs; a snapshot that is not written is given up.
    pub(super) fn finish(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The parts of a snapshot as they come.
struct Coming<'a> {
    inbox: &'a Receiver<SnapshotJob>,
    is_over: &'a AtomicBool,
}

impl Coming<'_> {
    /// Nothing comes any more once the server goes down, though it lies here: to write a tree takes a minute, with pauses.
    fn next(&self) -> Option<SnapshotJob> {
        self.inbox.recv().ok().filter(|_| !self.is_over.load(Ordering::Relaxed))
    }
}

/// Whether it was written. `alone`: the disk is low.
fn write(
    options: &SnapshotOptions,
    index: LogIndex,
    term: Term,
    head: &SnapshotHead,
    coming: &Coming<'_>,
    alone: bool,
) -> bool {
    let started = Instant::now();
    let dir = &options.dir;
    let path = dir.snapshot_name(index, head.last_zxid);
    let meta = Meta { cluster: dir.cluster_id(), index, term };
    let mut is_whole = false;
    // Where it is likely to fit, or the log has nothing left, there is nothing to be spared.
    let likely = options.newest().map_or(0, |(_, bytes)| bytes + bytes / 5);
    let guards_room = alone && options.has_room_for(0) && !options.has_room_for(likely);
    let written = dir.publish(&path, |out| {
        let mut encoder = Encoder::begin(out, &meta, head)?;
        while let Some(job) = coming.next() {
            match job {
                SnapshotJob::Nodes(parts) => {
                    for nodes in &parts {
                        encoder.nodes(nodes)?;
                    }
                    if guards_room && !options.has_room_for(0) {
                        return Err(io::Error::other("it leaves the log too little room"));
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
            while matches!(coming.next(), Some(SnapshotJob::Nodes(_))) {}
        }
        error!(
            "snapshot {} was not written: {why}; the log is kept and the next one is tried later",
            path.display()
        );
        return false;
    }
    info!(
        file = %path.display(),
        nodes = head.nodes,
        zxid = %head.last_zxid,
        ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "snapshot written"
    );
    true
}

impl SnapshotOptions {
    /// Keeps so many; from where on the log is kept with them.
    fn purge_all_but(&self, keep: usize) -> LogIndex {
        if !self.purge {
            return LogIndex(0);
        }
        let oldest = self.dir.purge_snapshots(keep).unwrap_or_else(|why| {
            error!("old snapshots were not purged: {why}");
            None
        });
        oldest.unwrap_or(LogIndex(0))
    }

    /// The newest one's last entry, and its length.
    fn newest(&self) -> Option<(LogIndex, u64)> {
        let found = list_snapshots(&self.dir.disk(), &self.dir.snapshot_path());
        found.ok().and_then(|all| all.first().map(|file| (file.index, file.bytes)))
    }

    /// Whether so many bytes fit beside what the log may need meanwhile. A snapshot that does not fit would take that before it
    /// fails.
    fn has_room_for(&self, bytes: u64) -> bool {
        let free = self.dir.disk().available(&self.dir.snapshot_path());
        free.unwrap_or(u64::MAX) >= bytes.saturating_add(self.leaves_bytes)
    }
}
