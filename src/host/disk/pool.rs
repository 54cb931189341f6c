//! Segments ahead of use: the next file is zero-filled, or taken from what purging retired, before the writer asks for it;
//! and the ballast, where it has to be made anew. On a thread of its own, because filling 64 MiB takes longer than a batch may
//! wait, and in small pieces with pauses, because the batches go to the same disk.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::file::Disk;
use super::space::make_ballast;
use crate::log::SegmentNumber;

/// Retired files that are kept for reuse. What exceeds it is removed, oldest first, so that what is left
/// on the disk is always an unbroken end of the log.
const RETIRED_MAX: usize = 1;

/// A segment's path.
#[must_use]
pub fn segment_path(dir: &Path, number: SegmentNumber) -> PathBuf {
    dir.join(format!("{:016x}.seg", number.0))
}

/// The number in a segment's name.
#[must_use]
pub fn segment_number(name: &str) -> Option<SegmentNumber> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|n| *n > 0).map(SegmentNumber)
}

enum Job {
    Prepare(SegmentNumber),
    Ballast,
    Retire(SegmentNumber),
}

enum Answer {
    Prepared(SegmentNumber, io::Result<()>),
    Ballast(io::Result<()>),
}

/// A piece of zeros is followed by a pause of so many times its own length: the log's writes then meet an idle disk three
/// times out of four. Without it a fill held up every write for the 100 ms and more that it took.
const REST: u32 = 3;
/// The longest pause, so that a slow disk is filled in time.
const REST_MAX: Duration = Duration::from_millis(20);

/// What the jobs work on.
struct Work {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    retired: VecDeque<SegmentNumber>,
    /// The writer waits for the segment.
    hurry: Arc<AtomicBool>,
}

impl Work {
    fn prepare(&mut self, number: SegmentNumber) -> io::Result<()> {
        let path = segment_path(&self.dir, number);
        if let Some(old) = self.retired.pop_front() {
            self.disk.rename(&segment_path(&self.dir, old), &path)?;
            return self.disk.sync_dir(&self.dir);
        }
        let fresh = self.dir.join(format!("{:016x}.tmp", number.0));
        if let Err(e) = self.disk.create_zeroed(&fresh, self.segment_bytes, &|took| self.rest(took)) {
            let _ = self.disk.remove(&fresh);
            return Err(e);
        }
        self.disk.rename(&fresh, &path)?;
        self.disk.sync_dir(&self.dir)
    }

    fn make_ballast(&self) -> io::Result<()> {
        make_ballast(&*self.disk, &self.dir, self.segment_bytes, &|took| self.rest(took))
    }

    fn rest(&self, took: Duration) {
        if !self.hurry.load(Ordering::Relaxed) {
            std::thread::sleep((took * REST).min(REST_MAX));
        }
    }

    fn retire(&mut self, number: SegmentNumber) -> io::Result<()> {
        self.retired.push_back(number);
        let whole = |work: &Work, n| {
            let name = segment_path(&work.dir, n);
            let items = work.disk.list(&work.dir)?;
            let len = items.iter().find(|i| name.ends_with(&i.name)).map(|i| i.len);
            Ok::<bool, io::Error>(len == Some(work.segment_bytes))
        };
        while let Some(oldest) = self.retired.front().copied() {
            if self.retired.len() <= RETIRED_MAX && whole(self, oldest)? {
                break;
            }
            self.retired.pop_front();
            self.disk.remove(&segment_path(&self.dir, oldest))?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

/// Who does the work.
enum Worker {
    /// The caller, at once: simulated disks.
    Inline(Work),
    /// A thread.
    Thread { jobs: Option<Sender<Job>>, thread: Option<JoinHandle<()>> },
}

/// The state of the one segment ahead.
#[derive(Debug)]
enum Ahead {
    Nothing,
    Asked,
    Ready,
    Failed(io::Error),
}

/// The state of a ballast that is to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ballast {
    Unasked,
    Asked,
    Made,
}

/// The pool. It keeps one segment ahead of the writer.
pub struct Pool {
    worker: Worker,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    /// The number of the segment ahead.
    next: SegmentNumber,
    ahead: Ahead,
    ballast: Ballast,
    hurry: Arc<AtomicBool>,
    /// Until the segment ahead is there.
    hurries_once: bool,
}

impl Pool {
    /// A pool whose next segment is `next`; `ready` when that file is there already.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_bytes: u64,
        next: SegmentNumber,
        ready: bool,
        inline: bool,
    ) -> io::Result<Pool> {
        // Whoever fills segments inline has nobody else on the disk.
        let hurry = Arc::new(AtomicBool::new(inline));
        let mut work = Work { disk, dir, segment_bytes, retired: VecDeque::new(), hurry: hurry.clone() };
        let (answer, answers) = channel();
        let worker = if inline {
            Worker::Inline(work)
        } else {
            let (jobs, todo) = channel();
            let report = answer.clone();
            let thread = std::thread::Builder::new().name("rk-log-pool".to_owned()).spawn(move || {
                for job in todo {
                    run(&mut work, job, &report);
                }
            })?;
            Worker::Thread { jobs: Some(jobs), thread: Some(thread) }
        };
        let ahead = if ready { Ahead::Ready } else { Ahead::Nothing };
        let ballast = Ballast::Unasked;
        Ok(Pool { worker, answers, answer, next, ahead, ballast, hurry, hurries_once: false })
    }

    /// The segment ahead is wanted soon, and is prepared without pauses.
    pub fn hurry_once(&mut self) {
        self.hurries_once = true;
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// Sees to it that the segment ahead is being prepared, unless it failed.
    pub fn prepare(&mut self) {
        self.listen();
        if matches!(self.ahead, Ahead::Nothing) {
            self.ahead = Ahead::Asked;
            self.send(Job::Prepare(self.next));
            self.listen();
        }
    }

    /// Why there is no segment ahead.
    pub fn failure(&mut self) -> Option<&io::Error> {
        self.listen();
        match &self.ahead {
            Ahead::Failed(e) => Some(e),
            _ => None,
        }
    }

    /// Tries again after a failure.
    pub fn retry(&mut self) {
        if self.failure().is_some() {
            self.ahead = Ahead::Nothing;
        }
        self.prepare();
    }

    /// Has the ballast made, unless the segment ahead is still to be: that one comes first.
    pub fn make_ballast(&mut self) {
        self.listen();
        if matches!(self.ahead, Ahead::Ready) && self.ballast == Ballast::Unasked {
            self.ballast = Ballast::Asked;
            self.send(Job::Ballast);
        }
    }

    /// Whether a ballast was made since the last call. One that could not be has to be asked for again.
    pub fn take_made_ballast(&mut self) -> bool {
        self.listen();
        let is_made = self.ballast == Ballast::Made;
        if is_made {
            self.ballast = Ballast::Unasked;
        }
        is_made
    }

    /// Waits until the segment ahead is there and hands it over; the pool turns to the one after.
    /// On failure the number stays the pool's next, and `take_over` says that the caller made it otherwise.
    pub fn take(&mut self) -> io::Result<SegmentNumber> {
        self.prepare();
        let was_hurried = self.hurry.swap(true, Ordering::Relaxed) && !self.hurries_once;
        while matches!(self.ahead, Ahead::Asked) {
            match self.answers.recv() {
                Ok(answer) => self.on_answer(answer),
                Err(_) => return Err(io::Error::other("the thread that prepares segments is gone")),
            }
        }
        self.hurry.store(was_hurried, Ordering::Relaxed);
        if let Ahead::Failed(e) = &self.ahead {
            // The failure stays until `retry`: filling a file up to the end of a full disk is not for every batch.
            return Err(e
                .raw_os_error()
                .map_or_else(|| io::Error::other(e.to_string()), io::Error::from_raw_os_error));
        }
        self.ahead = Ahead::Nothing;
        Ok(self.advance())
    }

    /// The number of the segment ahead.
    #[must_use]
    pub fn next(&self) -> SegmentNumber {
        self.next
    }

    /// The caller has put a file in the place of the segment ahead.
    pub fn take_over(&mut self) -> SegmentNumber {
        self.ahead = Ahead::Nothing;
        self.advance()
    }

    /// Hands an old segment back, oldest first.
    pub fn retire(&mut self, number: SegmentNumber) {
        self.send(Job::Retire(number));
    }

    fn advance(&mut self) -> SegmentNumber {
        let taken = self.next;
        self.next = taken.next();
        taken
    }

    fn send(&mut self, job: Job) {
        match &mut self.worker {
            Worker::Inline(work) => run(work, job, &self.answer),
            Worker::Thread { jobs, .. } => {
                let sent = jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
                if !sent && matches!(self.ahead, Ahead::Asked) {
                    self.ahead = Ahead::Failed(io::Error::other("the thread that prepares segments is gone"));
                }
            }
        }
    }

    fn listen(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.on_answer(answer);
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let (number, result) = match answer {
            Answer::Prepared(number, result) => (number, result),
            Answer::Ballast(result) => {
                self.ballast = if result.is_ok() { Ballast::Made } else { Ballast::Unasked };
                return;
            }
        };
        if std::mem::take(&mut self.hurries_once) {
            self.hurry.store(false, Ordering::Relaxed);
        }
        if number == self.next && matches!(self.ahead, Ahead::Asked) {
            self.ahead = match result {
                Ok(()) => Ahead::Ready,
                Err(e) => Ahead::Failed(e),
            };
        }
    }
}

fn run(work: &mut Work, job: Job, report: &Sender<Answer>) {
    match job {
        Job::Prepare(number) => {
            let result = work.prepare(number);
            let _ = report.send(Answer::Prepared(number, result));
        }
        Job::Ballast => drop(report.send(Answer::Ballast(work.make_ballast()))),
        // A file that cannot be removed costs space, not truth; the next purge after a restart tries again.
        Job::Retire(number) => {
            let _ = work.retire(number);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
        if let Worker::Thread { jobs, thread } = &mut self.worker {
            *jobs = None;
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
