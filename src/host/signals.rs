//! SIGTERM, SIGINT, SIGHUP and SIGUSR1: blocked in every thread, waited for by the main one.

#![allow(unsafe_code)] // sigaction(2), sigset(3), pthread_sigmask(3), sigwait(3).

use std::io;
use std::mem::MaybeUninit;

/// The name of the signal that asks a server to leave its ensemble.
pub(super) const LEAVE: &str = "SIGUSR1";
/// What ends the server cleanly, unless it was started with it ignored. A terminal that closes sends SIGHUP: ZooKeeper's JVM
/// ends cleanly on it too.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// What a server sends itself: nobody starts one with it ignored by design.
const END_SELF: libc::c_int = libc::SIGUSR2;

/// The signals that end the server cleanly, and the one that asks it to leave its ensemble first.
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks them in this thread and all that it starts later.
    pub(super) fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        // One that is blocked is waited for though it is ignored.
        let heeded = ENDING.into_iter().filter(|signal| !is_ignored(*signal));
        for signal in heeded.chain([libc::SIGUSR1, END_SELF]) {
            // SAFETY: the set is initialised and lives through the call.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        // SAFETY: the set is initialised; a null old set is allowed.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: ignoring a signal installs no handler of ours. A socket that breaks is an error, not a death; a
        // file over its limit is one too.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        Ok(Signals { set })
    }

    /// Whether one has come; says its name.
    pub(super) fn look(&self) -> Option<&'static str> {
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set is initialised and lives as long as self; no information is asked for.
        let signal = unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &no_time) };
        (signal > 0).then(|| name(signal))
    }

    /// Waits for one; says its name.
    pub(super) fn wait(&self) -> &'static str {
        let mut signal = 0;
        loop {
            // SAFETY: the set is initialised and lives as long as self; the number lives through the call.
            let result = unsafe { libc::sigwait(&self.set, &mut signal) };
            if result == 0 {
                return name(signal);
            }
        }
    }
}

/// Whether this process was started so: by nohup(1), or by a script's shell behind an `&`.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call changes nothing; it fills `now`, which is read only where it did.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Ends this very process as SIGTERM does, and where that one is ignored, too.
pub(super) fn end_self() {
    // SAFETY: kill takes no pointers; the process is this one.
    unsafe { libc::kill(libc::getpid(), END_SELF) };
}

/// Asks the server of this process to leave its ensemble.
pub(super) fn ask_to_leave(process: libc::pid_t) -> io::Result<()> {
    // SAFETY: kill takes no pointers.
    match unsafe { libc::kill(process, libc::SIGUSR1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn name(signal: libc::c_int) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGHUP => "SIGHUP",
        libc::SIGUSR1 => LEAVE,
        END_SELF => "SIGUSR2",
        _ => "SIGINT",
    }
}
