//! Binding a thread to a core.

#![allow(unsafe_code)] // sched_setaffinity(2).

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
