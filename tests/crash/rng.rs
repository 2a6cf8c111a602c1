//! Chance, from a seed (splitmix64). What the clients are, what they do and what breaks are drawn
//! from streams of their own.

/// One stream.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let name = stream.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).rotate_left(9));
        let mut rng = Self(name);
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `per_mille` of 1,000 cases.
    pub(crate) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Between `low` and `high`, each power of two as likely as the next: short times are tried as
    /// often as long ones.
    pub(crate) fn spread(&mut self, low: usize, high: usize) -> usize {
        let doublings = usize::try_from((high / low).max(1).ilog2()).unwrap();
        let base = low << self.below(doublings + 1);
        self.between(base, (2 * base).min(high))
    }
}
