//! A znode's hash; a state's digest is the sum of them (AdHash, as ZooKeeper's own tree digest).

use crate::tree::Node;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Another link of a chain of digests.
#[inline]
pub fn link(chain: u64, next: &u64) -> u64 {
    (chain.rotate_left(5) ^ next).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of all that a znode is.
#[must_use]
pub fn of(node: &Node) -> u64 {
    let numbers = [
        node.czxid.0 as u64,
        node.mzxid.0 as u64,
        node.pzxid.0 as u64,
        node.ctime.0 as u64,
        node.mtime.0 as u64,
        u64::from(node.version as u32) << 32 | u64::from(node.cversion as u32),
        u64::from(node.aversion as u32) << 32 | u64::from(node.num_children as u32),
        u64::from(node.acl.0) << 1 | u64::from(node.data().is_some()),
        node.owner as u64,
    ];
    let mut seed = 0x51_7c_c1_b7_27_22_0a_95u64;
    for number in numbers {
        seed = (seed.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    let path = xxh3_64_with_seed(node.path.as_bytes(), seed);
    xxh3_64_with_seed(node.data().unwrap_or_default(), path)
}
