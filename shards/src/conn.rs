//! Names of connections. Pure.

/// Bits of the generation; they travel with the index in an operation's 64-bit user data.
pub(crate) const GENERATION_MASK: u32 = 0x00FF_FFFF;

/// Names one connection of one shard.
///
/// The index is dense and used again after the connection has ended; the generation tells the two
/// apart. Meaningless in another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// A name from its parts, for tests and simulations. Only 24 bits of the generation count.
    pub const fn new(index: u32, generation: u32) -> ConnId {
        ConnId { index, generation: generation & GENERATION_MASK }
    }

    /// Place in a table of connections, from 0.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn slot(self) -> u32 {
        self.index
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}
