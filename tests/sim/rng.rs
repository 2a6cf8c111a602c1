//! Chance, from a seed. Each concern has a stream of its own, so that a new check or a new kind of
//! fault does not change what the others draw.

/// xoshiro256**, seeded by splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// Limits and weights of the run.
    Swarm = 1,
    /// Which event is next.
    Schedule = 2,
    /// What clients do.
    Script = 3,
    /// Sizes of pieces on the network.
    Network = 4,
    /// What breaks, and when.
    Fault = 5,
    /// Hostile clients.
    Hostile = 6,
    /// Planted bugs.
    Plant = 7,
    /// Limits that came later: they do not change what older seeds draw.
    Later = 8,
    /// Whether the machine ends or the process alone.
    Restart = 9,
    /// The cleaner of the log.
    Cleaner = 10,
}

impl Rng {
    pub(crate) fn new(seed: u64, stream: Stream) -> Rng {
        let mut x = seed ^ (stream as u64).wrapping_mul(0xA076_1D64_78BD_642F);
        let mut next = || {
            x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Rng { state: [next(), next(), next(), next()] }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        result
    }

    /// 0 to `end` - 1; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Index into `weights`, each as likely as its weight.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        weights
            .iter()
            .position(|weight| {
                let hit = at < *weight;
                at = at.saturating_sub(*weight);
                hit
            })
            .unwrap_or(0)
    }
}
