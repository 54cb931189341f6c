//! Huge pages: only for a tree that is large enough for them.
//!
//! The allocator asks for them everywhere. A server with a small tree then holds 20 to 45 MB of 2 MiB pages that are
//! used in part: idle 28 MB where 8 do, 2.1 to 4.3 KB a session (4 and 8 shards) where 0.9 do. For that it saves 8 % of
//! a pipelined get. A tree of a million znodes fills its pages, and a set there costs 15 % more without.

#![allow(unsafe_code)] // prctl(2).

/// From so many bytes of tree on pages are huge: some 50,000 znodes of 100 bytes.
const LARGE_BYTES: u64 = 16 << 20;
/// What a znode holds beside its path and data, about.
const ZNODE_BYTES: u64 = 200;

/// Whether a tree of so many znodes, with so many bytes in their paths and data, is worth huge pages.
pub(super) fn suit(nodes: usize, bytes: u64) -> bool {
    bytes.saturating_add((nodes as u64).saturating_mul(ZNODE_BYTES)) >= LARGE_BYTES
}

/// Whether the tree of a snapshot file of so many bytes is likely to be worth them: a file is a fifteenth of its tree
/// where the data repeats itself, and a third where it does not.
pub(super) fn suit_snapshot(file_bytes: u64) -> bool {
    file_bytes >= LARGE_BYTES / 16
}

/// Memory that the process touches from now on lies in huge pages, or does not, whatever the allocator asks. A system
/// that knows no such switch goes on as it is: it costs memory, nothing else.
pub(super) fn allow_huge(allowed: bool) {
    let forbidden = libc::c_ulong::from(!allowed);
    // SAFETY: PR_SET_THP_DISABLE takes a flag and no pointer; the other arguments must be 0.
    unsafe {
        libc::prctl(
            libc::PR_SET_THP_DISABLE,
            forbidden,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
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
    fn the_switch_is_the_processes_own() {
        // SAFETY: PR_GET_THP_DISABLE takes nothing and returns the flag.
        let is_forbidden = || unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
        let before = is_forbidden();
        if before == 0 {
            allow_huge(false);
            assert_eq!(is_forbidden(), 1);
            allow_huge(true);
            assert_eq!(is_forbidden(), 0);
        }
    }
}
