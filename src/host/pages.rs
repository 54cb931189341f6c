//! Huge pages: only for a tree that is large enough for them.
//!
//! The allocator asks for them everywhere. A server with a small tree then holds 20 to 45 MB of 2 MiB pages that are
//! used in part: idle 28 MB where 8 do, 2.1 to 4.3 KB a session (4 and 8 shards) where 0.9 do. For that it saves 8 % of
//! a pipelined get. A tree of a million znodes fills its pages, and a set there costs 15 % more without.

#![allow(unsafe_code)] // prctl(2).

use std::sync::atomic::{AtomicBool, Ordering};

/// From so many bytes of tree on pages are huge: some 50,000 znodes of 100 bytes.
const LARGE_BYTES: u64 = 16 << 20;
/// What a znode holds beside its path and data, about.
const ZNODE_BYTES: u64 = 200;

/// Whether a tree of so many znodes, with so many bytes in their paths and data, is worth huge pages.
pub(super) fn suit(nodes: usize, bytes: u64) -> bool {
    bytes.saturating_add((nodes as u64).saturating_mul(ZNODE_BYTES)) >= LARGE_BYTES
}

/// Whether the tree of a snapshot file of so many bytes may be worth them: a file is a fifteenth of its tree where the
/// data repeats itself.
pub(super) fn may_suit(file_bytes: u64) -> bool {
    file_bytes >= LARGE_BYTES / 16
}

/// This server switched them off, and nobody outside before it.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// What the process touches from now on lies in small pages, whatever the allocator asks. A system that knows no such
/// switch goes on as it is: it costs memory, nothing else.
pub(super) fn forbid_huge() {
    if !is_forbidden() {
        set_forbidden(true);
        IS_OURS.store(true, Ordering::Relaxed);
    }
}

/// Takes that back. A switch that was set from outside stays.
pub(super) fn allow_huge() {
    if IS_OURS.swap(false, Ordering::Relaxed) {
        set_forbidden(false);
    }
}

fn set_forbidden(forbidden: bool) {
    let (flag, none) = (libc::c_ulong::from(forbidden), 0 as libc::c_ulong);
    // SAFETY: PR_SET_THP_DISABLE takes a flag and no pointer; the other arguments must be 0.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, flag, none, none, none) };
}

fn is_forbidden() -> bool {
    let none = 0 as libc::c_ulong;
    // SAFETY: PR_GET_THP_DISABLE takes no pointer and the other arguments must be 0. It returns the flag, on newer kernels
    // with more bits, or -1.
    unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, none, none, none, none) > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_tree_has_many_znodes_or_much_data() {
        assert!(!suit(1_000, 100_000));
        assert!(suit(60_000, 60_000 * 130));
        assert!(suit(10, 20 << 20));
        assert!(suit(usize::MAX, u64::MAX));
    }

    #[test]
    fn the_switch_is_taken_back_by_who_set_it_alone() {
        // From outside, as a service manager does.
        set_forbidden(true);
        forbid_huge();
        allow_huge();
        assert!(is_forbidden());
        set_forbidden(false);
        forbid_huge();
        assert!(is_forbidden());
        allow_huge();
        assert!(!is_forbidden());
    }
}
