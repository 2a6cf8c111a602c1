//! Chance from a seed, the same on every machine and in every version: `SplitMix64`.

/// A stream of chance. Give each source of chance its own, or a new check changes old traces.
#[derive(Clone, Debug)]
pub struct Prng {
    state: u64,
}

impl Prng {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Prng {
        Prng { state: seed }
    }

    /// An independent stream for one purpose.
    #[must_use]
    pub fn stream(seed: u64, purpose: &str) -> Prng {
        let mut prng = Prng::new(seed);
        for byte in purpose.bytes() {
            prng.state = prng.state.rotate_left(8) ^ u64::from(byte);
            prng.bits();
        }
        prng
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// 0 up to, not including, `end`. The bias is below 2^-32 for any `end` a test uses.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below 0");
        self.bits() % end
    }

    /// The same for indexes.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn index(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize has at most 64 bits");
        usize::try_from(self.below(end)).expect("it is below a usize")
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes());
        words.take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_never_changes() {
        let mut prng = Prng::new(1_234_567);
        // First values of the published algorithm for this seed.
        assert_eq!(prng.bits(), 6_457_827_717_110_365_317);
        assert_eq!(prng.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn streams_differ_by_purpose() {
        assert_ne!(Prng::stream(1, "disk").bits(), Prng::stream(1, "load").bits());
        assert_eq!(Prng::stream(1, "disk").bits(), Prng::stream(1, "disk").bits());
    }
}
