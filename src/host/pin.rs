//! Binding a thread to a core, setting what it starts free again, and letting the others go first.

#![allow(unsafe_code)] // sched_setaffinity(2), setpriority(2).

use super::preflight;
use std::io;
use tracing::warn;

/// Binds the calling thread. What the system refuses is said and lived with: it costs speed, nothing else.
pub(super) fn pin_to(cpu: usize) {
    if let Err(error) = bind(&[cpu]) {
        warn!("a thread could not be bound to cpu {cpu}: {error}");
    }
}

/// The calling thread runs wherever the process may: where its first thread may, which nobody here binds, and which somebody
/// may have bound since (`taskset -a`). A thread begins bound as the one that starts it, and would compete with it for its core
/// while others are idle. A refusal costs speed alone.
pub(super) fn set_free() {
    let first = libc::pid_t::try_from(std::process::id()).ok();
    if let Some(cpus) = first.and_then(preflight::affinity_of) {
        let _ = bind(&cpus);
    }
}

fn bind(cpus: &[usize]) -> io::Result<()> {
    // libc's own set ends at 1024 CPUs.
    let mut mask = vec![0_u64; cpus.iter().max().map_or(0, |last| last / 64 + 1)];
    for cpu in cpus {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    // SAFETY: the buffer is as long as we say; the kernel reads it and keeps no pointer. libc's cpu_set_t is only the type of
    // the pointer; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(mask.as_slice()), mask.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A background thread's niceness above the process's own: about a tenth of a serving thread's share where they compete for a
/// core.
const STEP_BACK: i32 = 10;

/// The calling thread lets the serving ones go first, on whichever core. Lowering a thread needs no right; a refusal costs
/// speed alone.
pub(super) fn step_back() {
    set_free();
    // SAFETY: neither call takes a pointer; 0 is the calling thread in Linux, whatever POSIX says of processes. An
    // error's -1 is taken for a niceness of -1.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, (now + STEP_BACK).min(19));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bound_thread_starts_runs_wherever_the_process_may() {
        let all = preflight::affinity();
        let last = *all.last().unwrap();
        let binding = std::thread::spawn(move || {
            pin_to(last);
            let started = |frees: fn()| {
                let work = move || {
                    frees();
                    preflight::affinity()
                };
                std::thread::spawn(work).join().unwrap()
            };
            [preflight::affinity(), started(|| ()), started(set_free), started(step_back)]
        });
        assert_eq!(binding.join().unwrap(), [vec![last], vec![last], all.clone(), all]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_whatever_its_number() {
        for cpu in [1_023, 1_024, 100_000] {
            assert!(preflight::affinity().contains(&cpu) || bind(&[cpu]).is_err(), "{cpu}");
        }
        assert!(bind(&[]).is_err());
    }
}
