//! Whether io_uring may be used, and if not, why: in words that name the cure.

use std::io;

use io_uring::{opcode, IoUring, Probe};

/// Depth of each of the three rings of a glommio executor.
pub const SHARD_RING_DEPTH: usize = 128;
/// Bytes that a glommio executor registers, once a ring. Its default of 10 MiB never fits the usual limit of 8 MiB.
pub const SHARD_IO_MEMORY: usize = 64 << 10;
/// Depth of the sequencer's ring for log and peers.
pub const LOG_RING_DEPTH: u32 = 128;

/// What glommio refuses to start without, whatever it will use.
const GLOMMIO_MEMLOCK_MIN: u64 = 512 << 10;
const RINGS_PER_EXECUTOR: u64 = 3;
const PAGE: u64 = 4096;

/// The operations that glommio 0.9 asks for (it ends the process without a word to us if one is missing), and ours.
const OPCODES: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Statx::CODE, "STATX"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Recv::CODE, "RECV"),
];

/// Tries a small ring and does the sum of locked memory. What it says completes "io_uring: ..." or "because ...".
pub(super) fn usable(shards: u16, memlock: u64) -> Result<String, String> {
    probe()?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    locked_memory(shards, memlock, may_lock(&status))
}

fn probe() -> Result<(), String> {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let ring = IoUring::new(8).map_err(|error| explain(&error, sysctl.trim()))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| {
        format!("the kernel can not list its io_uring operations ({error}): it is older than 5.6")
    })?;
    match OPCODES.iter().find(|(code, _)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((_, name)) => Err(format!("the kernel's io_uring lacks the operation {name}: it is too old")),
    }
}

fn explain(error: &io::Error, sysctl: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring (ENOSYS): it is older than 5.1, built without it, or a seccomp profile hides it"
                .to_owned()
        }
        Some(libc::EPERM) if matches!(sysctl, "1" | "2") => {
            format!("io_uring is switched off by sysctl kernel.io_uring_disabled={sysctl} (EPERM)")
        }
        Some(libc::EPERM) => "a seccomp profile refuses io_uring (EPERM), as the default one of Docker 25, containerd 2 \
                              and podman does: conf/seccomp.json allows it"
            .to_owned(),
        Some(libc::EINVAL) => "the kernel's io_uring refuses our setup (EINVAL): it is too old".to_owned(),
        Some(libc::ENOMEM) => "no memory may be locked for an io_uring (ENOMEM): RLIMIT_MEMLOCK is used up, and it counts \
                               all processes and containers of this user"
            .to_owned(),
        _ => format!("io_uring can not be set up: {error}"),
    }
}

/// Kernels from 5.12 on were said not to charge rings to RLIMIT_MEMLOCK; 6.18 does, measured, per user across
/// containers. So the whole sum must fit.
fn locked_memory(shards: u16, limit: u64, may_lock: bool) -> Result<String, String> {
    let executor = RINGS_PER_EXECUTOR * (ring_bytes(SHARD_RING_DEPTH as u64) + SHARD_IO_MEMORY as u64);
    let log = ring_bytes(u64::from(LOG_RING_DEPTH));
    let needed = u64::from(shards) * executor + log;
    let sum = format!(
        "{shards} x {RINGS_PER_EXECUTOR} x ({} + {} KiB) + {} KiB = {} KiB of locked memory",
        ring_bytes(SHARD_RING_DEPTH as u64) >> 10,
        SHARD_IO_MEMORY >> 10,
        log >> 10,
        needed >> 10
    );
    let has =
        if limit == libc::RLIM_INFINITY { "no limit".to_owned() } else { format!("{} KiB", limit >> 10) };
    if limit < GLOMMIO_MEMLOCK_MIN {
        let least = GLOMMIO_MEMLOCK_MIN >> 10;
        let wanted = least.max(needed.div_ceil(1024));
        return Err(format!("RLIMIT_MEMLOCK is {has}: set it to {wanted} KiB or more (glommio asks for {least} KiB, the rings lock {sum})"));
    }
    if needed > limit && !may_lock {
        return Err(format!("RLIMIT_MEMLOCK is {has}, too little for {sum}"));
    }
    Ok(format!("{sum}, RLIMIT_MEMLOCK is {has}"))
}

/// Bytes that the kernel locks for a ring: 64 a submission, then both rings' heads, 4 a submission, 16 for each of
/// twice as many completions; each part in whole pages.
fn ring_bytes(depth: u64) -> u64 {
    let entries = depth.next_power_of_two();
    (entries * 64).next_multiple_of(PAGE) + (320 + entries * 4 + 2 * entries * 16).next_multiple_of(PAGE)
}

/// CAP_IPC_LOCK, bit 14, lifts the limit.
fn may_lock(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask >> 14 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rings_size_is_what_was_measured() {
        assert_eq!(ring_bytes(128) >> 10, 16);
        assert_eq!(ring_bytes(1024) >> 10, 104);
    }

    #[test]
    fn the_sum_is_done_and_shown() {
        assert_eq!(
            locked_memory(8, 8 << 20, false).unwrap(),
            "8 x 3 x (16 + 64 KiB) + 16 KiB = 1936 KiB of locked memory, RLIMIT_MEMLOCK is 8192 KiB"
        );
        assert_eq!(
            locked_memory(1, 64 << 10, true).unwrap_err(),
            "RLIMIT_MEMLOCK is 64 KiB: set it to 512 KiB or more (glommio asks for 512 KiB, the rings lock 1 x 3 x \
             (16 + 64 KiB) + 16 KiB = 256 KiB of locked memory)"
        );
        assert!(locked_memory(8, 1 << 20, false)
            .unwrap_err()
            .starts_with("RLIMIT_MEMLOCK is 1024 KiB, too little"));
        assert!(locked_memory(8, 1 << 20, true).is_ok(), "CAP_IPC_LOCK lifts it");
        assert!(locked_memory(64, libc::RLIM_INFINITY, false).unwrap().ends_with("no limit"));
    }

    #[test]
    fn each_refusal_names_its_cure() {
        for (errno, sysctl, want) in [
            (libc::ENOSYS, "", "ENOSYS"),
            (libc::EPERM, "2", "kernel.io_uring_disabled=2"),
            (libc::EPERM, "0", "seccomp"),
            (libc::EINVAL, "0", "too old"),
            (libc::ENOMEM, "0", "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "0", "Too many open files"),
        ] {
            let said = explain(&io::Error::from_raw_os_error(errno), sysctl);
            assert!(said.contains(want), "{errno}: {said}");
        }
    }

    #[test]
    fn capabilities_are_read() {
        assert!(may_lock("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lock("CapEff:\t00000000a80425fb\n"));
        assert!(!may_lock(""));
    }
}
