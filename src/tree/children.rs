//! The children of one znode: places, counted from 0, each with a thin pointer to a path.
//!
//! A child knows its place (`Znode::place`), so it comes and goes without a search or a hash, and a list of a million
//! grows by a thousand places at a time: neither adding nor removing ever stops its owner. The lowest free place is
//! taken first, so a list that was long once ends up short again.

use super::path::Path;
use smallvec::SmallVec;

/// Most parents have few: up to this many places stand in a plain list.
const FEW_MAX: usize = 8;
/// Places of a block.
const BLOCK_PLACES: usize = 1024;
/// Bits of a block's map of places that are taken.
const BLOCK_WORDS: usize = BLOCK_PLACES / 64;

/// The paths of a znode's children.
#[derive(Clone)]
pub enum ChildSet {
    Few(SmallVec<[Option<Path>; 2]>),
    Many(Box<Blocks>),
}

/// A long list.
#[derive(Clone, Default)]
pub struct Blocks {
    blocks: Vec<Block>,
    /// How many places of each block are taken.
    taken: Vec<u16>,
    /// The first block that is not full, or one behind the last.
    first_open: usize,
    len: usize,
}

#[derive(Clone)]
struct Block {
    /// As long as its highest place needs; empty when no place is taken.
    places: Vec<Option<Path>>,
    map: [u64; BLOCK_WORDS],
}

impl Default for ChildSet {
    fn default() -> Self {
        ChildSet::Few(SmallVec::new())
    }
}

impl ChildSet {
    /// How many children.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            ChildSet::Few(list) => list.iter().flatten().count(),
            ChildSet::Many(blocks) => blocks.len,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The paths, in no promised order (ZooKeeper's is its hash set's; clients sort).
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        let (few, many) = match self {
            ChildSet::Few(list) => (Some(list.iter()), None),
            ChildSet::Many(blocks) => {
                (None, Some(blocks.blocks.iter().flat_map(|block| block.places.iter())))
            }
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).flatten()
    }

    /// The place that the next child takes.
    #[must_use]
    pub fn free_place(&self) -> u32 {
        let place = match self {
            ChildSet::Few(list) => list.iter().position(Option::is_none).unwrap_or(list.len()),
            ChildSet::Many(blocks) => blocks.free_place(),
        };
        u32::try_from(place).expect("a znode has fewer than 2^32 children: num_children is a positive i32")
    }

    /// Puts a child into its place, which must be free.
    pub(super) fn put(&mut self, place: u32, child: Path) {
        let at = place as usize;
        match self {
            ChildSet::Few(list) if at < FEW_MAX => {
                if list.len() <= at {
                    list.resize(at + 1, None);
                }
                let old = list[at].replace(child);
                assert!(old.is_none(), "a child's place was free");
            }
            ChildSet::Few(list) => {
                let mut blocks = Blocks::default();
                for (at, path) in list.drain(..).enumerate() {
                    if let Some(path) = path {
                        blocks.put(at, path);
                    }
                }
                blocks.put(at, child);
                *self = ChildSet::Many(Box::new(blocks));
            }
            ChildSet::Many(blocks) => blocks.put(at, child),
        }
    }

    /// Frees a child's place.
    pub(super) fn free(&mut self, place: u32) {
        let at = place as usize;
        match self {
            ChildSet::Few(list) => {
                list[at].take().expect("a child stands in its place");
                while list.last().is_some_and(Option::is_none) {
                    list.pop();
                }
            }
            ChildSet::Many(blocks) => blocks.free(at),
        }
    }
}

impl Block {
    fn new() -> Block {
        Block { places: Vec::new(), map: [0; BLOCK_WORDS] }
    }

    /// The lowest free place; `BLOCK_PLACES` where there is none.
    fn free_place(&self) -> usize {
        let free = self.map.iter().position(|word| *word != u64::MAX);
        free.map_or(BLOCK_PLACES, |at| at * 64 + self.map[at].trailing_ones() as usize)
    }
}

impl Blocks {
    fn free_place(&self) -> usize {
        // One behind the last block, where all are full.
        let within = self.blocks.get(self.first_open).map_or(0, Block::free_place);
        self.first_open * BLOCK_PLACES + within
    }

    fn put(&mut self, place: usize, child: Path) {
        let (at, within) = (place / BLOCK_PLACES, place % BLOCK_PLACES);
        while self.blocks.len() <= at {
            self.blocks.push(Block::new());
            self.taken.push(0);
        }
        let block = &mut self.blocks[at];
        if block.places.len() <= within {
            block.places.resize(within + 1, None);
        }
        let old = block.places[within].replace(child);
        assert!(old.is_none(), "a child's place was free");
        block.map[within / 64] |= 1 << (within % 64);
        self.taken[at] += 1;
        self.len += 1;
        while self.taken.get(self.first_open).is_some_and(|taken| usize::from(*taken) == BLOCK_PLACES) {
            self.first_open += 1;
        }
    }

    fn free(&mut self, place: usize) {
        let (at, within) = (place / BLOCK_PLACES, place % BLOCK_PLACES);
        let block = &mut self.blocks[at];
        block.places[within].take().expect("a child stands in its place");
        block.map[within / 64] &= !(1 << (within % 64));
        self.taken[at] -= 1;
        self.len -= 1;
        self.first_open = self.first_open.min(at);
        if self.taken[at] == 0 {
            self.blocks[at].places = Vec::new();
        }
        while self.taken.last() == Some(&0) {
            self.taken.pop();
            self.blocks.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn path(n: u32) -> Path {
        Path::new(&format!("/p/{n}"))
    }

    /// Every place against a plain map, in a fixed disorder of coming and going.
    #[test]
    fn a_child_keeps_its_place_and_the_lowest_free_one_comes_next() {
        let (steps, most) = if cfg!(miri) { (300, 30) } else { (40_000, 5_000) };
        let mut set = ChildSet::default();
        let mut model: BTreeMap<u32, Path> = BTreeMap::new();
        let mut dice = 1u64;
        for step in 0..steps {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let grows = if step < steps / 2 { 3 } else { 1 };
            if (dice >> 33) % 4 < grows && model.len() < most || model.is_empty() {
                let place = set.free_place();
                let lowest = (0..).find(|n| !model.contains_key(n));
                if step % 97 == 0 || model.len() < 20 {
                    assert_eq!(Some(place), lowest);
                }
                set.put(place, path(step));
                model.insert(place, path(step));
            } else {
                let nth = (dice >> 35) as usize % model.len();
                let place = *model.keys().nth(nth).unwrap();
                set.free(place);
                model.remove(&place);
            }
            assert_eq!(set.len(), model.len());
        }
        let there: Vec<&Path> = set.iter().collect();
        assert_eq!(there, model.values().collect::<Vec<_>>());
        for place in model.into_keys().rev() {
            set.free(place);
        }
        assert!(set.is_empty() && set.iter().next().is_none());
        assert_eq!(set.free_place(), 0);
    }

    #[test]
    fn a_list_that_was_long_holds_nothing_of_it() {
        let many = if cfg!(miri) { 2_500 } else { 50_000 };
        let mut set = ChildSet::default();
        for n in 0..many {
            assert_eq!(set.free_place(), n);
            set.put(n, path(n));
        }
        for n in 0..many - 1 {
            set.free(n);
        }
        let ChildSet::Many(blocks) = &set else { panic!("it was long") };
        let held: usize = blocks.blocks.iter().map(|block| block.places.len()).sum();
        assert!(held <= BLOCK_PLACES, "{held} places for one child");
        assert_eq!(set.free_place(), 0, "the lowest place is taken first");
        set.put(0, path(0));
        set.free(many - 1);
        let ChildSet::Many(blocks) = &set else { panic!("it was long") };
        assert_eq!((blocks.blocks.len(), blocks.taken.len()), (1, 1), "the blocks behind the last child");
    }

    #[test]
    fn a_short_list_ends_with_its_last_child() {
        let mut set = ChildSet::default();
        (0..6).for_each(|n| set.put(n, path(n)));
        for n in [3, 4, 1, 5] {
            set.free(n);
        }
        let ChildSet::Few(list) = &set else { panic!("it is short") };
        assert_eq!((list.len(), set.len(), set.free_place()), (3, 2, 1));
    }
}
