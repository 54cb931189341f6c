//! Chance from a seed: splitmix64. One run of a seed is every run of it.
#![allow(dead_code)]

pub struct Dice(pub u64);

impl Dice {
    /// Neighbouring seeds give streams that have nothing in common.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            0
        } else {
            self.roll() % n
        }
    }

    pub fn pick(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True with this many chances in a thousand.
    pub fn permille(&mut self, chances: u64) -> bool {
        self.below(1000) < chances
    }

    /// Another stream.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.roll())
    }
}
