//! Waking a thread that has said that it sleeps, and only then.
//!
//! `sleep` says why no wake-up is lost.

#![allow(unsafe_code)] // eventfd(2), read(2) and write(2) on it.

use super::sleep::Sleep;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A sleeper that waits on an eventfd.
#[derive(Debug)]
pub struct Bell {
    pub sleep: Sleep,
    fd: OwnedFd,
}

impl Bell {
    /// A new one; the system may refuse a descriptor.
    pub fn new() -> io::Result<Bell> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Bell { sleep: Sleep::default(), fd })
    }

    /// Wakes the sleeper if it sleeps. The message must be in its queue already.
    pub fn ring(&self) {
        if self.sleep.must_wake() {
            self.ring_anyway();
        }
    }

    /// Wakes the sleeper if it sleeps, unless it sleeps deeply and this is not its concern.
    pub fn ring_for(&self, its_concern: bool) {
        if self.sleep.must_wake_for(its_concern) {
            self.ring_anyway();
        }
    }

    /// Makes the descriptor readable.
    pub fn ring_anyway(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is 8 bytes long and lives through the call; the descriptor is owned by self. It fails
        // only when the count is full, and then the descriptor is readable already.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable until it is rung again.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is 8 bytes long and lives through the call; the descriptor is owned by self and does
        // not block.
        unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
