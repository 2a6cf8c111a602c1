//! What a connection sends in one piece. Pure.

use bytes::Bytes;

/// Output of one connection: own bytes, and shared pieces placed between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Small things, copied together.
    pub bytes: Vec<u8>,
    /// `(at, piece)`: the piece leaves before `bytes[at..]`. Ascending in `at`, which is at most
    /// `bytes.len()`.
    pub shared: Vec<(usize, Bytes)>,
}

impl Outgoing {
    /// Bytes on the wire. O(number of shared pieces).
    pub fn total_bytes(&self) -> usize {
        self.bytes.len() + self.shared.iter().map(|(_, piece)| piece.len()).sum::<usize>()
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.iter().all(|(_, piece)| piece.is_empty())
    }

    /// Forgets the content and keeps the memory of `bytes` and `shared`.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
    }

    /// The non-empty slices in wire order, without the first `skip` bytes.
    pub fn slices(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let mut shared = self.shared.iter();
        let mut next_piece = shared.next();
        let mut to_skip = skip;
        std::iter::from_fn(move || {
            loop {
                let slice: &[u8] = match next_piece {
                    Some((offset, piece)) if *offset <= at => {
                        next_piece = shared.next();
                        piece
                    }
                    Some((offset, _)) => {
                        let until = (*offset).min(self.bytes.len());
                        let own = self.bytes.get(at..until).unwrap_or_default();
                        // An offset past the end would be met again and again otherwise.
                        at = *offset;
                        own
                    }
                    None if at < self.bytes.len() => {
                        let own = self.bytes.get(at..).unwrap_or_default();
                        at = self.bytes.len();
                        own
                    }
                    None => return None,
                };
                if to_skip >= slice.len() {
                    to_skip -= slice.len();
                } else {
                    let rest = slice.get(to_skip..).unwrap_or_default();
                    to_skip = 0;
                    return Some(rest);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(outgoing: &Outgoing, skip: usize) -> Vec<u8> {
        outgoing.slices(skip).flatten().copied().collect()
    }

    #[test]
    fn pieces_leave_before_the_byte_they_point_at() {
        let outgoing = Outgoing {
            bytes: b"abcd".to_vec(),
            shared: vec![
                (0, Bytes::from_static(b"1")),
                (2, Bytes::from_static(b"22")),
                (2, Bytes::from_static(b"3")),
                (4, Bytes::from_static(b"4")),
            ],
        };
        assert_eq!(flat(&outgoing, 0), b"1ab223cd4");
        assert_eq!(outgoing.total_bytes(), 9);
    }

    proptest! {
        #[test]
        fn skipping_is_cutting_the_front(
            own in proptest::collection::vec(any::<u8>(), 0..20),
            mut places in proptest::collection::vec((0usize..21, 0usize..5), 0..6),
        ) {
            places.sort_unstable();
            let shared = places
                .iter()
                .map(|&(at, count)| (at.min(own.len()), Bytes::from(vec![7u8; count])))
                .collect();
            let outgoing = Outgoing { bytes: own, shared };
            let all = flat(&outgoing, 0);
            prop_assert_eq!(all.len(), outgoing.total_bytes());
            for skip in 0..=all.len() {
                prop_assert_eq!(flat(&outgoing, skip), &all[skip..]);
            }
        }
    }
}
