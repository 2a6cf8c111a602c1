//! Small choices out of the fuzzer's bytes.

/// Takes numbers from the front of the bytes; zeros when they are used up.
#[derive(Debug)]
pub struct Taker<'a> {
    rest: &'a [u8],
}

impl<'a> Taker<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Taker { rest: bytes }
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// The next two bytes, big-endian.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of the choices.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// At most `bytes` of what is left.
    pub fn slice(&mut self, bytes: usize) -> &'a [u8] {
        let (slice, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        slice
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
