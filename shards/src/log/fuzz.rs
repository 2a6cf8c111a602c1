//! The scanner on bytes that no writer wrote, with checksums that hold: it must end, not panic.

use proptest::prelude::*;

use super::batch::{self, BatchHeader, Kind};
use super::{
    BLOCK_BYTES, File, Found, Identity, Lsn, Manifest, Mark, Mode, Scan, SegmentHeader, Verdict,
    manifest, ring, survey,
};

const IDENTITY: Identity = Identity { broker: [7; 16], shard: 0 };

fn header() -> impl Strategy<Value = BatchHeader> {
    let small = 0..4u64;
    let number = prop_oneof![9 => small, 1 => any::<u64>()];
    let kind = prop_oneof![8 => Just(Kind::Records), 1 => Just(Kind::Opening)];
    (kind, [number.clone(), number.clone(), number], any::<u64>(), 0..3u32, 0..40u32).prop_map(
        |(kind, [batch_no, first_lsn, durable_lsn], prev_hash, record_count, rest_bytes)| {
            BatchHeader {
                kind,
                rest_bytes,
                epoch: 9,
                batch_no,
                first_lsn: Lsn(first_lsn),
                durable_lsn: Lsn(durable_lsn),
                prev_hash: if prev_hash % 2 == 0 { 0 } else { prev_hash },
                record_count,
            }
        },
    )
}

/// A body of frames with whole checksums, or of noise.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let frame = prop::collection::vec(any::<u8>(), 0..60).prop_map(|body| {
        let (head, head_bytes) = super::record::head(1, &body);
        [&head[..head_bytes], &body].concat()
    });
    let frames = prop::collection::vec(frame, 0..4).prop_map(|frames| frames.concat());
    prop_oneof![1 => noise, 3 => frames]
}

fn scan(manifest: &[u8], ring: &[u8], segment: &[u8], mode: Mode) -> Option<Verdict> {
    let head = segment.get(..BLOCK_BYTES).unwrap_or(segment);
    let Found::Log(found) = survey(&IDENTITY, manifest, ring, &[(1, head)]) else { return None };
    let mut scan = Scan::new(*found, mode);
    let mut fed = 0;
    while let Some(number) = scan.wanted() {
        assert!(number == 1 || mode != Mode::Strict, "{}", File::Segment(number));
        scan.feed(if number == 1 { segment } else { &[] }, &mut |_| {});
        fed += 1;
        assert!(fed < 1000, "reading does not end");
    }
    Some(scan.finish().verdict)
}

const MODES: [Mode; 3] = [Mode::Strict, Mode::PointInTime, Mode::Salvage];

proptest! {
    #[test]
    fn sealed_nonsense(batches in prop::collection::vec((header(), body()), 1..6), lsn in 1..3u64) {
        let first = SegmentHeader {
            salvaged: false,
            segment_blocks: 8,
            segment: 1,
            epoch: 9,
            first_lsn: Lsn(lsn),
            first_batch_no: 1,
            prev_batch_no: 0,
            prev_hash: 0,
            prev_epoch: 0,
        };
        let mut segment = first.encode(&IDENTITY);
        for (mut header, body) in batches {
            let body = if header.kind == Kind::Records { body } else { Vec::new() };
            let bytes = u32::try_from(body.len()).expect("short");
            header.rest_bytes = header.rest_bytes.min(bytes);
            let mut buffer = batch::begin(2 * BLOCK_BYTES);
            buffer.extend(&body);
            batch::seal(&mut buffer, &header);
            segment.extend_from_slice(buffer.as_slice());
        }
        segment.resize(8 * BLOCK_BYTES, 0);
        let file = manifest::fresh(&Manifest::fresh(1, 8), &IDENTITY);
        for mode in MODES {
            prop_assert!(scan(&file, &ring::fresh(&IDENTITY), &segment, mode).is_some());
        }
    }

    #[test]
    fn noise(
        manifest in prop::collection::vec(any::<u8>(), 0..9000),
        ring in prop::collection::vec(any::<u8>(), 0..9000),
        segment in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        for mode in MODES {
            scan(&manifest, &ring, &segment, mode);
            let file = manifest::fresh(&Manifest::fresh(1, 4), &IDENTITY);
            let ring = Mark { sequence: 3, epoch: 1, batch_no: 9, durable_lsn: Lsn(9) };
            scan(&file, &ring.encode(&IDENTITY), &segment, mode);
        }
        let _ = batch::parse(&segment);
    }
}
