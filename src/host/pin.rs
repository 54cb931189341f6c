//! Binding a thread to a core, and letting the others go first.

#![allow(unsafe_code)] // sched_setaffinity(2), setpriority(2).

use tracing::warn;

/// Binds the calling thread. What the system refuses is said and lived with: it costs speed, nothing else.
pub(super) fn pin_to(cpu: usize) {
    // SAFETY: a cpu_set_t of zeroes is the empty set; CPU_SET checks its index against the set's size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set lives through the call, its size is given; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set) };
    if result != 0 {
        warn!("a thread could not be bound to cpu {cpu}: {}", std::io::Error::last_os_error());
    }
}

/// A background thread's niceness above the process's own: about a tenth of a serving thread's share where they compete for a
/// core.
const STEP_BACK: i32 = 10;

/// The calling thread lets the serving ones go first. Lowering a thread needs no right; a refusal costs speed alone.
pub(super) fn step_back() {
    // SAFETY: neither call takes a pointer; 0 is the calling thread in Linux, whatever POSIX says of processes. An
    // error's -1 is taken for a niceness of -1.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, (now + STEP_BACK).min(19));
    }
}
