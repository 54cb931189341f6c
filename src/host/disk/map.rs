//! Sealed segments through read-only mappings, and what happens when the disk cannot deliver a page.
//!
//! A failed page of a mapping arrives as SIGBUS. The handler knows the mappings, names segment and
//! offset and ends the process with 74, as any other failed read of the log would.
#![allow(unsafe_code)] // mappings and signal handlers

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Once;

use memmap2::{Advice, Mmap};

/// A read-only mapping of a file that nobody writes, truncates or recycles while it lives.
pub struct Mapping {
    map: Mmap,
    slot: Option<usize>,
}

impl Mapping {
    /// Maps all of `file`. `path` ends in the segment's number; the handler prints it.
    pub fn of(file: &File, path: &Path) -> io::Result<Mapping> {
        // SAFETY: a sealed segment is not written any more, and the writer neither truncates nor recycles
        // it while a mapping lives (`Log::purge`). The data directory is locked against other servers.
        let map = unsafe { Mmap::map(file)? };
        let _ = map.advise(Advice::Sequential);
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| u64::from_str_radix(s, 16).ok());
        let slot = register(map.as_ptr() as usize, map.len(), number.unwrap_or(0));
        Ok(Mapping { map, slot })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            MAPPED[slot].start.store(0, Ordering::Release);
        }
    }
}

/// What the handler looks through. A mapping beyond the table's end merely gets no message of its own.
static MAPPED: [Slot; 64] =
    [const { Slot { start: AtomicUsize::new(0), len: AtomicUsize::new(0), segment: AtomicU64::new(0) } }; 64];

struct Slot {
    /// Address of the mapping; 0 is free, 1 is being filled in.
    start: AtomicUsize,
    len: AtomicUsize,
    segment: AtomicU64,
}

fn register(start: usize, len: usize, segment: u64) -> Option<usize> {
    let slot = MAPPED
        .iter()
        .position(|s| s.start.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok())?;
    MAPPED[slot].len.store(len, Ordering::Relaxed);
    MAPPED[slot].segment.store(segment, Ordering::Relaxed);
    MAPPED[slot].start.store(start, Ordering::Release);
    Some(slot)
}

/// Catches SIGBUS in mapped segments. Once, at start; a SIGBUS elsewhere keeps its former handler.
pub fn install_sigbus_handler() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: all-zero is a valid sigaction; the fields that count are set below.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: as above.
        let mut former: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both point to valid structs; the handler is async-signal-safe.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut former) } == 0 {
            FORMER.store(Box::into_raw(Box::new(former)) as usize, Ordering::Release);
        }
    });
}

/// The handler that was there before: the address of a leaked `sigaction`.
static FORMER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &MAPPED {
        let start = slot.start.load(Ordering::Acquire);
        let len = slot.len.load(Ordering::Relaxed);
        if start > 1 && address >= start && address - start < len {
            report_and_exit(slot.segment.load(Ordering::Relaxed), address - start);
        }
    }
    let former = FORMER.load(Ordering::Acquire) as *const libc::sigaction;
    // SAFETY: `former` is null or a leaked sigaction; with null the call changes nothing, so fall back to
    // the default action. The faulting access runs again when we return and meets that handler.
    unsafe {
        if former.is_null() {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        } else {
            libc::sigaction(libc::SIGBUS, former, std::ptr::null_mut());
        }
    }
}

/// Only calls that a signal handler may make: write and _exit.
fn report_and_exit(segment: u64, offset: usize) -> ! {
    let mut line = [0u8; 192];
    let mut used = 0;
    let mut push = |bytes: &[u8]| {
        line[used..used + bytes.len()].copy_from_slice(bytes);
        used += bytes.len();
    };
    push(b"ringkeeper: log segment ");
    let mut hex = [0u8; 16];
    for (i, digit) in hex.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(segment >> (60 - 4 * i)) as usize & 15];
    }
    push(&hex);
    push(b".seg, offset ");
    let mut decimal = [0u8; 20];
    let mut first = decimal.len();
    let mut rest = offset;
    loop {
        first -= 1;
        decimal[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    push(&decimal[first..]);
    push(b": the disk did not deliver a mapped page (SIGBUS); the server stops\n");
    // SAFETY: write and _exit are async-signal-safe; the buffer lives on this stack.
    unsafe {
        let _ = libc::write(2, line.as_ptr().cast(), used);
        libc::_exit(74)
    }
}
