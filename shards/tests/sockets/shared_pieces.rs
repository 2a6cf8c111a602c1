//! Shared pieces leave in their place between own bytes.

use bytes::Bytes;
use shards::ConnId;

use crate::common::{Act, Base, TestIo, pattern, read, settings, start, write};

/// More pieces than one operation takes.
const PIECES: usize = 3_000;

struct Pieces {
    piece: Bytes,
}

impl Act for Pieces {
    fn bytes(&mut self, base: &mut Base, _: &mut TestIo, conn: ConnId, _: &[u8]) {
        let piece = self.piece.clone();
        let out = base.out(conn);
        for index in 0..PIECES {
            out.bytes.extend_from_slice(&index.to_string().into_bytes());
            let at = out.bytes.len();
            out.shared.push((at, piece.clone()));
        }
        out.bytes.extend_from_slice(b"end");
    }
}

#[test]
fn three_thousand_pieces_arrive_in_place() {
    let piece = pattern(4_000);
    let mut expected = Vec::new();
    for index in 0..PIECES {
        expected.extend_from_slice(index.to_string().as_bytes());
        expected.extend_from_slice(&piece);
    }
    expected.extend_from_slice(b"end");
    let piece = Bytes::from(piece);
    let rig = start(settings(1), move |_| Pieces { piece: piece.clone() });
    let mut client = rig.connect();
    for _ in 0..2 {
        write(&mut client, b"?");
        assert!(read(&mut client, expected.len()) == expected);
    }
}
