//! An array that grows without moving what it holds. Pure.

/// Elements of one chunk.
const CHUNK: usize = 1024;

/// A growing array in pieces of 1024: growth copies nothing, so that a shard with a million clients
/// neither stands still for it nor leaves half a table of old memory behind.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        let whole = self.chunks.len().saturating_sub(1) * CHUNK;
        whole + self.chunks.last().map_or(0, Vec::len)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The element at a place.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The element at a place, to change.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// Adds an element at the end.
    pub fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            before => {
                // The first chunk grows by itself: most tables are small.
                let room = if before.is_some() { CHUNK } else { 1 };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
    }

    /// Takes away what is at the end, a piece of the array at a time, as long as no element of it
    /// is needed. Says whether there was something. What is taken away is shown to `last` first.
    pub fn shrink(
        &mut self,
        mut is_needed: impl FnMut(&T) -> bool,
        mut last: impl FnMut(&T),
    ) -> bool {
        let before = self.chunks.len();
        while self.chunks.last().is_some_and(|chunk| !chunk.iter().any(&mut is_needed)) {
            self.chunks.pop().iter().flatten().for_each(&mut last);
        }
        self.chunks.len() < before
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_array() {
        let mut chunks = Chunks::default();
        assert!(chunks.is_empty() && chunks.get(0).is_none());
        for n in 0..=3 * CHUNK {
            assert_eq!(chunks.len(), n);
            chunks.push(n);
        }
        assert!((0..chunks.len()).all(|n| chunks.get(n) == Some(&n)));
        assert_eq!(chunks.get_mut(3 * CHUNK), Some(&mut (3 * CHUNK)));
        assert!(chunks.get(3 * CHUNK + 1).is_none() && !chunks.is_empty());
        assert!(chunks.iter().copied().eq(0..chunks.len()));
    }

    #[test]
    fn what_is_not_needed_at_the_end_goes() {
        let mut chunks = Chunks::default();
        (0..3 * CHUNK).for_each(|n| chunks.push(n));
        let mut gone = Vec::new();
        assert!(chunks.shrink(|n| *n == CHUNK, |n| gone.push(*n)));
        assert_eq!((chunks.len(), gone.len()), (2 * CHUNK, CHUNK));
        assert!(!chunks.shrink(|n| *n == CHUNK, |_| {}));
        chunks.push(7);
        assert_eq!(chunks.get(2 * CHUNK), Some(&7));
        assert!(chunks.shrink(|_| false, |_| {}));
        assert!(chunks.is_empty());
    }
}
