//! How a record reaches the disk: a driver takes aligned buffers and says when each is durable, in any
//! order. This file holds the contract and the driver without io_uring, a thread of its own.
#![allow(unsafe_code)] // eventfd and poll

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::buffer::AlignedBuf;
use super::fault::{DiskFault, FaultKind};
use super::file::{write_durable, LogFile};

/// A write that has ended.
pub struct Completion {
    /// What the writer called it.
    pub ticket: u64,
    /// Its buffer, for reuse.
    pub buffer: AlignedBuf,
    /// Bytes written and durable, or the failure.
    pub result: io::Result<usize>,
}

/// A driver of durable writes.
pub trait Backend: Send {
    /// What runs, in a few words, for the line at start.
    fn name(&self) -> &'static str;

    /// Starts a durable write of the whole buffer. It may complete in any order.
    fn start(
        &mut self,
        ticket: u64,
        file: &Arc<LogFile>,
        offset: u64,
        buffer: AlignedBuf,
    ) -> Result<(), DiskFault>;

    /// Waits for a completion, for `wake` to be readable, or for the time to pass; a zero time only looks.
    /// Completions are appended to `done`; true when `wake` was readable.
    fn wait(
        &mut self,
        timeout: Duration,
        wake: Option<BorrowedFd<'_>>,
        done: &mut Vec<Completion>,
    ) -> io::Result<bool>;
}

struct Job {
    ticket: u64,
    file: Arc<LogFile>,
    offset: u64,
    buffer: AlignedBuf,
}

/// One thread, one write after the other.
pub struct ThreadBackend {
    name: &'static str,
    /// Taken when dropped, which ends the thread.
    jobs: Option<Sender<Job>>,
    ended: Receiver<Completion>,
    /// Readable when something has ended.
    bell: Arc<File>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadBackend {
    /// Starts the thread.
    pub fn start_thread(direct: bool) -> io::Result<ThreadBackend> {
        let (jobs, todo) = channel::<Job>();
        let (report, ended) = channel();
        let bell = Arc::new(eventfd()?);
        let ring = Arc::clone(&bell);
        let thread = std::thread::Builder::new().name("rk-log".to_owned()).spawn(move || {
            for job in todo {
                let result = write_durable(&job.file, job.offset, &job.buffer);
                if report.send(Completion { ticket: job.ticket, buffer: job.buffer, result }).is_err() {
                    return;
                }
                // The counter cannot overflow: at most four writes are in flight.
                let _ = (&*ring).write(&1u64.to_ne_bytes());
            }
        })?;
        let name = if direct { "thread, O_DIRECT + DSYNC" } else { "thread, buffered + fdatasync" };
        Ok(ThreadBackend { name, jobs: Some(jobs), ended, bell, thread: Some(thread) })
    }
}

impl Backend for ThreadBackend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(
        &mut self,
        ticket: u64,
        file: &Arc<LogFile>,
        offset: u64,
        buffer: AlignedBuf,
    ) -> Result<(), DiskFault> {
        let job = Job { ticket, file: Arc::clone(file), offset, buffer };
        let gone =
            |job: Job| DiskFault { file: job.file.path.clone(), offset: job.offset, kind: FaultKind::Gone };
        match &self.jobs {
            Some(jobs) => jobs.send(job).map_err(|unsent| gone(unsent.0)),
            None => Err(gone(job)),
        }
    }

    fn wait(
        &mut self,
        timeout: Duration,
        wake: Option<BorrowedFd<'_>>,
        done: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let before = done.len();
        done.extend(self.ended.try_iter());
        let timeout = if done.len() > before { Duration::ZERO } else { timeout };
        let woken = poll_two(&self.bell, wake, timeout)?;
        // Empty the bell before looking, so that a ring after the look is kept.
        let mut count = [0; 8];
        let _ = (&*self.bell).read(&mut count);
        done.extend(self.ended.try_iter());
        Ok(woken)
    }
}

impl Drop for ThreadBackend {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Waits until either is readable; says whether `wake` is.
fn poll_two(bell: &File, wake: Option<BorrowedFd<'_>>, timeout: Duration) -> io::Result<bool> {
    let watched = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is ignored by ppoll.
    let mut fds = [watched(bell.as_raw_fd()), watched(wake.map_or(-1, |fd| fd.as_raw_fd()))];
    let time = libc::timespec {
        tv_sec: timeout.as_secs().min(3600).cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: two valid pollfds, a valid timespec, no signal mask.
    let rc = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const time, std::ptr::null()) };
    if rc < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
    }
    Ok(fds[1].revents != 0)
}
