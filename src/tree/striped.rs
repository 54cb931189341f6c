//! A hash table that never stops to grow: an extendible directory of small hashbrown tables.
//!
//! One table of a million entries halts its owner for tens of milliseconds when it doubles. Here a stripe that is full
//! splits in two, about a thousand entries at a time, and nothing else moves. The stripes are also the unit in which
//! a snapshot copies the tree (see `Striped::stripe`).

use hashbrown::HashTable;

/// A stripe splits when it would hold more: seven eighths of 1024 buckets, so that it never rehashes beyond them.
const STRIPE_ENTRIES_MAX: usize = 896;
/// A table that is made whole has stripes of at most this on average, so that few split soon.
const STRIPE_ENTRIES_LOADED: usize = 640;
/// The directory is indexed by this many top bits of the hash at the most: beyond it stripes just grow.
const DEPTH_MAX: u32 = 24;

/// A stripe's own hash of an entry. hashbrown tells entries apart by the top seven bits, and those are the same in all of
/// a stripe: without this a lookup would compare the path of every entry that it passes, a dozen cache misses each
/// (measured: 2.4 of a create's 14.7 us).
#[inline]
fn within(hash: u64) -> u64 {
    hash ^ (hash << DEPTH_MAX)
}

/// An entry with its hash: what moves in a split or a rehash is not looked at, which would cost a cache miss each.
#[derive(Clone)]
struct Slot<T> {
    hash: u64,
    value: T,
}

#[inline]
fn again<T>(slot: &Slot<T>) -> u64 {
    within(slot.hash)
}

#[derive(Clone)]
struct Stripe<T> {
    entries: HashTable<Slot<T>>,
    /// How many top bits of the hash all entries of this stripe share.
    depth: u32,
}

/// A set of entries found by a 64-bit hash and a comparison of the caller's. A clone hashes nothing again.
#[derive(Clone)]
pub struct Striped<T> {
    /// Top bits of the hash to a stripe; `1 << depth` long.
    directory: Vec<u32>,
    stripes: Vec<Stripe<T>>,
    depth: u32,
    len: usize,
}

impl<T> Default for Striped<T> {
    fn default() -> Self {
        Striped {
            directory: vec![0],
            stripes: vec![Stripe { entries: HashTable::new(), depth: 0 }],
            depth: 0,
            len: 0,
        }
    }
}

impl<T> Striped<T> {
    /// All of `entries`, sorted by hash: each stripe is made at once in its final size and nothing is hashed again.
    #[must_use]
    pub(super) fn from_sorted(entries: Vec<(u64, T)>) -> Striped<T> {
        debug_assert!(entries.is_sorted_by_key(|(hash, _)| *hash));
        let len = entries.len();
        let mut depth = 0;
        while len >> depth > STRIPE_ENTRIES_LOADED && depth < DEPTH_MAX {
            depth += 1;
        }
        let number = |hash: u64| hash.checked_shr(64 - depth).unwrap_or(0);
        let count = 1u64 << depth;
        let mut stripes = Vec::with_capacity(count as usize);
        let mut entries = entries.into_iter().peekable();
        for at in 0..count {
            // Hashes are even: hardly a stripe has an eighth more than the mean, and that one grows.
            let mut table = HashTable::with_capacity((len >> depth) + (len >> depth >> 3));
            while let Some((hash, value)) = entries.next_if(|(hash, _)| number(*hash) == at) {
                table.insert_unique(within(hash), Slot { hash, value }, again);
            }
            stripes.push(Stripe { entries: table, depth });
        }
        let directory = (0..count as u32).collect();
        Striped { directory, stripes, depth, len }
    }

    #[inline]
    fn slot(&self, hash: u64) -> usize {
        // A shift by 64 is not one: depth 0 has one slot.
        hash.checked_shr(64 - self.depth).unwrap_or(0) as usize
    }

    /// Which stripe holds `hash` now.
    #[inline]
    #[must_use]
    pub fn stripe_of(&self, hash: u64) -> usize {
        self.directory[self.slot(hash)] as usize
    }

    /// The entry of `hash` that `eq` accepts.
    #[inline]
    pub fn find(&self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<&T> {
        let stripe = &self.stripes[self.stripe_of(hash)];
        stripe.entries.find(within(hash), |slot| slot.hash == hash && eq(&slot.value)).map(|slot| &slot.value)
    }

    /// The first entry of `hash`, most likely the one that is meant: for what only looks ahead.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<&T> {
        self.find(hash, |_| true)
    }

    /// The same as `find`, to be changed in place; its hash must not change.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let stripe = self.stripe_of(hash);
        let entries = &mut self.stripes[stripe].entries;
        entries
            .find_mut(within(hash), |slot| slot.hash == hash && eq(&slot.value))
            .map(|slot| &mut slot.value)
    }

    /// Adds an entry that is known to be absent.
    pub fn insert(&mut self, hash: u64, value: T) {
        let mut at = self.stripe_of(hash);
        while self.stripes[at].entries.len() >= STRIPE_ENTRIES_MAX && self.split(at) {
            at = self.stripe_of(hash);
        }
        self.stripes[at].entries.insert_unique(within(hash), Slot { hash, value }, again);
        self.len += 1;
    }

    /// Takes out the entry of `hash` that `eq` accepts.
    pub fn remove(&mut self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<T> {
        let at = self.stripe_of(hash);
        let entries = &mut self.stripes[at].entries;
        let entry = entries.find_entry(within(hash), |slot| slot.hash == hash && eq(&slot.value)).ok()?;
        self.len -= 1;
        Some(entry.remove().0.value)
    }

    /// The entry of `hash` that `eq` accepts, or the one that `make` makes.
    pub fn find_or_insert(
        &mut self,
        hash: u64,
        mut eq: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        if self.find(hash, &mut eq).is_none() {
            self.insert(hash, make());
        }
        self.find_mut(hash, eq).expect("it was found or inserted just now")
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many stripes; they are numbered from 0 and a number, once given, stays.
    #[must_use]
    pub fn stripes(&self) -> usize {
        self.stripes.len()
    }

    /// The entries of one stripe with their hashes, in no order.
    pub fn stripe_with_hashes(&self, at: usize) -> impl Iterator<Item = (u64, &T)> {
        self.stripes[at].entries.iter().map(|slot| (slot.hash, &slot.value))
    }

    /// The entries of one stripe, in no order.
    pub fn stripe(&self, at: usize) -> impl Iterator<Item = &T> {
        self.stripes[at].entries.iter().map(|slot| &slot.value)
    }

    /// All entries, in no order: only for what does not depend on it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.stripes.iter().flat_map(|stripe| stripe.entries.iter().map(|slot| &slot.value))
    }

    /// Whether an insert of `hash` would split its stripe: a snapshot copies the stripe first.
    #[must_use]
    pub fn would_split(&self, hash: u64) -> bool {
        self.stripes[self.stripe_of(hash)].entries.len() >= STRIPE_ENTRIES_MAX
    }

    /// Splits a full stripe; false when it can not (too many equal top bits, as only an attack that knows the
    /// hasher's key could make them).
    fn split(&mut self, at: usize) -> bool {
        let depth = self.stripes[at].depth;
        if depth == DEPTH_MAX {
            return false;
        }
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&stripe| [stripe, stripe]).collect();
            self.depth += 1;
        }
        let bit = 1u64 << (63 - depth);
        let full = std::mem::take(&mut self.stripes[at].entries);
        // Their final size at once: half of the entries would fill half of the room, and each half grow again.
        let mut low = HashTable::with_capacity(STRIPE_ENTRIES_MAX);
        let mut high = HashTable::with_capacity(STRIPE_ENTRIES_MAX);
        for slot in full {
            let half = if slot.hash & bit == 0 { &mut low } else { &mut high };
            half.insert_unique(within(slot.hash), slot, again);
        }
        let new = u32::try_from(self.stripes.len()).expect("at most 2^24 stripes");
        self.stripes[at] = Stripe { entries: low, depth: depth + 1 };
        self.stripes.push(Stripe { entries: high, depth: depth + 1 });
        // The slots of the old stripe are one run; its second half, where the bit is 1, goes to the new one.
        let first = self.directory.iter().position(|&s| s as usize == at).expect("a stripe has slots");
        let run = 1usize << (self.depth - depth);
        for slot in &mut self.directory[first + run / 2..first + run] {
            *slot = new;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri takes a thousand times as long.
    const MANY: u64 = if cfg!(miri) { 2_000 } else { 20_000 };
    const EQUAL: u64 = if cfg!(miri) { 800 } else { 3_000 };

    fn hash(n: &u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n >> 7)
    }

    #[test]
    fn a_lookup_compares_one_entry() {
        let mut set = Striped::default();
        for n in 0..MANY {
            set.insert(hash(&n), n);
        }
        let mut compared = 0;
        for n in 0..2 * MANY {
            set.find(hash(&n), |other| {
                compared += 1;
                *other == n
            });
        }
        assert_eq!(
            compared, MANY,
            "those that are there; an entry's whole hash is compared before it is looked at"
        );
    }

    #[test]
    fn entries_survive_every_split() {
        let mut set = Striped::default();
        for n in 0..MANY {
            set.insert(hash(&n), n);
        }
        assert_eq!(set.len() as u64, MANY);
        assert!(set.stripes() as u64 > MANY / 1_250, "{} stripes", set.stripes());
        for n in 0..MANY {
            assert_eq!(set.find(hash(&n), |&m| m == n), Some(&n));
        }
        for n in (0..MANY).step_by(2) {
            assert_eq!(set.remove(hash(&n), |&m| m == n), Some(n));
        }
        assert_eq!(set.len() as u64, MANY / 2);
        assert_eq!(set.iter().count() as u64, MANY / 2);
        assert_eq!(set.find(hash(&4), |&m| m == 4), None);
    }

    #[test]
    fn a_set_made_whole_is_the_set_made_one_by_one() {
        let lens: &[u64] = if cfg!(miri) { &[0, 641] } else { &[0, 1, 640, 641, 5_000, 20_000] };
        let more: u64 = if cfg!(miri) { 300 } else { 3_000 };
        for &len in lens {
            let mut entries: Vec<(u64, u64)> = (0..len).map(|n| (hash(&n), n)).collect();
            entries.sort_unstable();
            let mut set = Striped::from_sorted(entries);
            assert_eq!((set.len(), set.iter().count()), (len as usize, len as usize));
            let longest = set.stripes.iter().map(|stripe| stripe.entries.len()).max().unwrap();
            assert!(
                longest <= STRIPE_ENTRIES_MAX,
                "{longest} of {len} in a stripe: one split would move them all"
            );
            for n in len..len + more {
                assert_eq!(set.find(hash(&n), |&m| m == n), None);
                set.insert(hash(&n), n);
            }
            for n in 0..len + more {
                assert_eq!(set.remove(hash(&n), |&m| m == n), Some(n), "{n} of {len}");
            }
        }
    }

    #[test]
    fn equal_hashes_do_not_split_for_ever() {
        let mut set = Striped::default();
        for n in 0..EQUAL {
            set.insert(7, n);
        }
        assert_eq!(set.len() as u64, EQUAL);
        assert_eq!(set.find(7, |&m| m == EQUAL - 1), Some(&(EQUAL - 1)));
    }
}
