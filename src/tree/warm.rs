//! Memory asked for ahead of its use.
//!
//! A lookup in a large tree waits for half a dozen cache lines, one after the other, 50 to 100 ns each. A batch knows
//! its paths before it needs them: asked for together they come together.

#![allow(unsafe_code)] // a prefetch, which reads nothing that the program sees.

use super::znode::Node;

/// How many transactions, facts or requests are looked ahead: about as many lines as a core fetches at once.
pub const AHEAD: usize = 16;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Asks for a few znodes, then for their paths and data.
pub fn znodes<'a>(nodes: impl Iterator<Item = &'a Node> + Clone) {
    nodes.clone().for_each(Node::warm);
    for node in nodes {
        node.path.warm();
        node.warm_data();
    }
}

/// Asks for all of a value.
#[inline]
pub fn whole<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of::<T>()).step_by(LINE) {
        ask(start.wrapping_add(at));
    }
}

/// Asks for the cache line that `at` points to. A hint: it changes nothing.
#[inline(always)]
pub(super) fn ask<T: ?Sized>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: PREFETCHT0 takes any address, mapped or not, and neither faults nor changes what the program sees.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast::<i8>());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
