//! A hash table that never stops to grow: an extendible directory of small tables.
//!
//! One table of a million entries halts its owner for tens of milliseconds when it doubles. Here a stripe that is full
//! splits in two, about a thousand entries at a time, and nothing else moves. The stripes are also the unit in which
//! a snapshot copies the tree (see `Striped::stripe`).
//!
//! A stripe is lines of four entries with their hashes, which for 8-byte values is one cache line each. An entry stands in
//! the line that its hash names, or behind it: a lookup in a large tree waits for that line alone, and it can be asked for
//! ahead. (A table with its tags in an array of their own waits twice, and its owner can ask for neither: measured, a third
//! of a get's time among 10,000,000 znodes.)

use super::warm;

/// A stripe splits when it would hold more: 25/32 of its room of 1024, so that it never grows beyond that.
pub(crate) const STRIPE_ENTRIES_MAX: usize = 800;
/// A table that is made whole has stripes of at most this on average, so that few split soon.
const STRIPE_ENTRIES_LOADED: usize = 640;
/// The directory is indexed by this many top bits of the hash at the most: beyond it stripes just grow.
const DEPTH_MAX: u32 = 24;
/// Entries of a line.
const LINE: usize = 4;

/// An entry with its hash: what moves in a split or a growth is not looked at, which would cost a cache miss each.
#[derive(Clone)]
struct Slot<T> {
    hash: u64,
    value: T,
}

#[derive(Clone)]
#[repr(align(64))]
struct Line<T>([Option<Slot<T>>; LINE]);

impl<T> Line<T> {
    const EMPTY: Line<T> = Line([const { None }; LINE]);
}

#[derive(Clone)]
struct Stripe<T> {
    /// A power of two of them. Never full: a search ends at the first free slot.
    lines: Box<[Line<T>]>,
    len: usize,
    /// How many top bits of the hash all entries of this stripe share.
    depth: u32,
}

impl<T> Stripe<T> {
    /// An empty one, with room for so many entries.
    fn with_room(entries: usize, depth: u32) -> Stripe<T> {
        let mut count = 1;
        while room(count) < entries {
            count *= 2;
        }
        Stripe { lines: lines(count), len: 0, depth }
    }

    /// The line that an entry stands in, or behind.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.lines.len() - 1)
    }

    /// Line and slot of the entry of `hash` that `eq` accepts.
    #[inline]
    fn position(&self, hash: u64, mut eq: impl FnMut(&T) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(hash);
        loop {
            for (n, slot) in self.lines[at].0.iter().enumerate() {
                match slot {
                    None => return None,
                    Some(slot) if slot.hash == hash && eq(&slot.value) => return Some((at, n)),
                    Some(_) => {}
                }
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    fn insert(&mut self, entry: Slot<T>) {
        if self.len == room(self.lines.len()) {
            let twice = lines(2 * self.lines.len());
            for slot in self.drain_into(twice) {
                self.put(slot);
            }
        }
        self.put(entry);
        self.len += 1;
    }

    /// Takes these lines for its own; returns what stood in the old ones.
    fn drain_into(&mut self, new: Box<[Line<T>]>) -> impl Iterator<Item = Slot<T>> {
        std::mem::replace(&mut self.lines, new).into_vec().into_iter().flat_map(|line| line.0).flatten()
    }

    /// Puts an entry into the first free slot of its line, or behind it.
    #[inline]
    fn put(&mut self, entry: Slot<T>) {
        let mut at = self.home(entry.hash);
        loop {
            if let Some(free) = self.lines[at].0.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(entry);
                return;
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    /// Takes out what stands there, and moves up what stood behind its own line for want of room.
    fn take(&mut self, (at, n): (usize, usize)) -> T {
        let taken = self.lines[at].0[n].take().expect("it was found just now");
        self.len -= 1;
        let all = self.lines.len() * LINE - 1;
        let mut hole = at * LINE + n;
        let mut next = (hole + 1) & all;
        while let Some(slot) = &self.lines[next / LINE].0[next % LINE] {
            let home = self.home(slot.hash) * LINE;
            if (hole.wrapping_sub(home) & all) < (next.wrapping_sub(home) & all) {
                self.lines[hole / LINE].0[hole % LINE] = self.lines[next / LINE].0[next % LINE].take();
                hole = next;
            }
            next = (next + 1) & all;
        }
        taken.value
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<T>> {
        self.lines.iter().flat_map(|line| line.0.iter().flatten())
    }
}

/// How many entries so many lines take.
const fn room(lines: usize) -> usize {
    lines * LINE * 25 / 32
}

fn lines<T>(count: usize) -> Box<[Line<T>]> {
    std::iter::repeat_with(|| Line::EMPTY).take(count).collect()
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
        Striped { directory: vec![0], stripes: vec![Stripe::with_room(0, 0)], depth: 0, len: 0 }
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
            let mut stripe = Stripe::with_room((len >> depth) + (len >> depth >> 3), depth);
            while let Some((hash, value)) = entries.next_if(|(hash, _)| number(*hash) == at) {
                stripe.insert(Slot { hash, value });
            }
            stripes.push(stripe);
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
    pub fn find(&self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&T> {
        let stripe = &self.stripes[self.stripe_of(hash)];
        let (at, n) = stripe.position(hash, eq)?;
        stripe.lines[at].0[n].as_ref().map(|slot| &slot.value)
    }

    /// Asks for what a lookup of each of these hashes touches here, first things first, so that one waits for all.
    #[inline]
    pub(super) fn warm(&self, hashes: &[u64]) {
        let stripes = || hashes.iter().map(|hash| (*hash, &self.stripes[self.stripe_of(*hash)]));
        stripes().for_each(|(_, stripe)| warm::ask(stripe));
        stripes().for_each(|(hash, stripe)| warm::ask(&stripe.lines[stripe.home(hash)]));
    }

    /// The first entry of `hash`, most likely the one that is meant: for what only looks ahead.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<&T> {
        self.find(hash, |_| true)
    }

    /// The same as `find`, to be changed in place; its hash must not change.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let stripe = self.stripe_of(hash);
        let stripe = &mut self.stripes[stripe];
        let (at, n) = stripe.position(hash, eq)?;
        stripe.lines[at].0[n].as_mut().map(|slot| &mut slot.value)
    }

    /// Adds an entry that is known to be absent.
    pub fn insert(&mut self, hash: u64, value: T) {
        let mut at = self.stripe_of(hash);
        while self.stripes[at].len >= STRIPE_ENTRIES_MAX && self.split(at) {
            at = self.stripe_of(hash);
        }
        self.stripes[at].insert(Slot { hash, value });
        self.len += 1;
    }

    /// Takes out the entry of `hash` that `eq` accepts.
    pub fn remove(&mut self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<T> {
        let at = self.stripe_of(hash);
        let stripe = &mut self.stripes[at];
        let position = stripe.position(hash, eq)?;
        self.len -= 1;
        Some(stripe.take(position))
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
        self.stripes[at].slots().map(|slot| (slot.hash, &slot.value))
    }

    /// The entries of one stripe, in no order.
    pub fn stripe(&self, at: usize) -> impl Iterator<Item = &T> {
        self.stripes[at].slots().map(|slot| &slot.value)
    }

    /// All entries, in no order: only for what does not depend on it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.stripes.iter().flat_map(|stripe| stripe.slots().map(|slot| &slot.value))
    }

    /// Whether an insert of `hash` would split its stripe: a snapshot copies the stripe first.
    #[must_use]
    pub fn would_split(&self, hash: u64) -> bool {
        self.stripes[self.stripe_of(hash)].len >= STRIPE_ENTRIES_MAX
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
        // Their final size at once: half of the entries would fill half of the room, and each half grow again.
        let half = || Stripe::with_room(STRIPE_ENTRIES_MAX, depth + 1);
        let (mut low, mut high) = (half(), half());
        for slot in self.stripes[at].drain_into(lines(1)) {
            let half = if slot.hash & bit == 0 { &mut low } else { &mut high };
            half.insert(slot);
        }
        let new = u32::try_from(self.stripes.len()).expect("at most 2^24 stripes");
        self.stripes[at] = low;
        self.stripes.push(high);
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

    /// Few lines, many entries for each of them, the last line's too, which go on at the first.
    #[test]
    fn crowded_lines_lose_nothing_when_entries_come_and_go() {
        let mut set = Striped::default();
        let mut model = std::collections::BTreeSet::new();
        let mut dice = 1u64;
        for _ in 0..10 * EQUAL {
            dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let n = (dice >> 33) % 300;
            // All but eight of the hashes' bits are equal, and most entries want one of three lines.
            let hash = if n.is_multiple_of(4) { n % 256 } else { [61, 62, 63][n as usize % 3] };
            match model.insert(n) {
                true => set.insert(hash, n),
                false => {
                    model.remove(&n);
                    assert_eq!(set.remove(hash, |m| *m == n), Some(n));
                }
            }
            assert_eq!((set.len(), set.find(hash, |m| *m == n).is_some()), (model.len(), model.contains(&n)));
        }
        let mut left: Vec<u64> = set.iter().copied().collect();
        left.sort_unstable();
        assert!(left.into_iter().eq(model), "what is left is what was not taken out");
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
            let longest = set.stripes.iter().map(|stripe| stripe.len).max().unwrap();
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
