//! An epoll set that this process owns: epoll(7), and nothing else that is unsafe.

#![allow(unsafe_code)] // epoll(7) on descriptors that are open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(super) const READ: u32 = libc::EPOLLIN as u32;
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;

/// What happened to whom.
pub(super) type Event = libc::epoll_event;

/// An event's place before there is one.
pub(super) const NONE: Event = Event { events: 0, u64: 0 };

/// What is done with a descriptor in the set.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Add,
    Modify,
    Delete,
}

pub(super) struct Epoll(OwnedFd);

impl Epoll {
    pub(super) fn new() -> io::Result<Epoll> {
        // SAFETY: epoll_create1 takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now and nobody else owns it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// What is to be told of a descriptor, under this name. A closed one is out of the set by itself.
    pub(super) fn control(&self, change: Change, fd: RawFd, interest: u32, name: u64) -> io::Result<()> {
        let what = match change {
            Change::Add => libc::EPOLL_CTL_ADD,
            Change::Modify => libc::EPOLL_CTL_MOD,
            Change::Delete => libc::EPOLL_CTL_DEL,
        };
        let mut event = Event { events: interest, u64: name };
        // SAFETY: the event lives through the call; a descriptor that is not open is an error and no harm.
        if unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits up to `timeout` ms (-1: for ever) and fills the front of `events`. How many; a signal counts as none.
    pub(super) fn wait(&self, events: &mut [Event], timeout: i32) -> io::Result<usize> {
        let capacity = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: the slice has so many elements and lives through the call; the descriptor is owned by self.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), capacity, timeout) };
        if let Ok(count) = usize::try_from(count) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted {
            return Ok(0);
        }
        Err(error)
    }
}

/// Readable while anything is ready.
impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
