//! Records of the log: never a panic, one encoding of each, and any order of them gives an image.

use culex::store::{Image, Place, Wall, decode, decode_message, encode};

/// Moments before the process began are moved to its beginning; with this one there are none.
const WALL: Wall = Wall { start_ms: 0 };

/// Records, one after the other: type, length of the body in two bytes, body.
pub fn check(bytes: &[u8]) {
    let mut image = Image::default();
    let mut rest = bytes;
    let mut lsn = 0;
    while let [kind, low, high, after @ ..] = rest {
        let body_bytes = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (body, next) = after.split_at(body_bytes);
        rest = next;
        let message = decode_message(*kind, body, WALL);
        let record = match decode(*kind, body, WALL) {
            Ok(Some(record)) => record,
            Ok(None) => {
                assert!(kind & 0x80 == 0, "type {kind:#x} must be understood");
                continue;
            }
            Err(fault) => {
                assert!(fault.offset <= body.len(), "{fault} of {} bytes", body.len());
                continue;
            }
        };
        if let culex::store::record::Record::Publish(publish) = &record {
            assert_eq!(message.as_ref(), Ok(&publish.message));
        }
        let mut again = Vec::new();
        assert_eq!(encode(&record, WALL, &mut again), *kind);
        assert_eq!(again, body, "{record:?}");
        lsn += 1;
        image.apply(Place { lsn, offset: 0, bytes: 0 }, record);
    }
    let counts = image.finish();
    assert_eq!(counts.sessions, image.sessions.len());
    for session in image.sessions.values() {
        let next = session.head.as_ref().expect("those without are dropped").next_sequence;
        let mut last = None;
        for waiting in session.queue.iter() {
            assert!(last < Some(waiting.sequence), "sorted");
            assert!(waiting.sequence < next || next == u64::MAX);
            last = Some(waiting.sequence);
        }
    }
    let again = image.finish();
    assert_eq!((again.sessions, again.waiting), (counts.sessions, counts.waiting));
}
