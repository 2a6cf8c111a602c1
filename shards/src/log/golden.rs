//! The bytes on disk, written out: a change of the format must change this file.

use super::batch::{self, BatchHeader, Kind};
use super::{BLOCK_BYTES, FORMAT, Identity, Lsn, Manifest, Mark, SegmentHeader, record};

const IDENTITY: Identity = Identity { broker: *b"0123456789abcdef", shard: 0x0203 };

/// Hexadecimal digits to bytes; blanks are ignored.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs.map(|pair| u8::from_str_radix(&pair, 16).expect("two digits")).collect()
}

/// One block that begins with `fields` and is zero up to its checksum.
fn check_block(block: &[u8], fields: &str) {
    let fields = bytes(fields);
    assert_eq!(block.len(), BLOCK_BYTES);
    assert_eq!(block[..fields.len()], fields);
    assert!(block[fields.len()..0xffc].iter().all(|byte| *byte == 0));
    assert_eq!(block[0xffc..], crc32c::crc32c(&block[..0xffc]).to_le_bytes());
}

#[test]
fn checksums_are_the_published_ones() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(xxhash_rust::xxh3::xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    assert_eq!(FORMAT, 1);
}

#[test]
fn segment_header() {
    let header = SegmentHeader {
        salvaged: true,
        segment_blocks: 0x4000,
        segment: 0x11,
        epoch: 0x22,
        first_lsn: Lsn(0x33),
        first_batch_no: 0x44,
        prev_batch_no: 0x43,
        prev_hash: 0x66,
        prev_epoch: 0x77,
    };
    let block = header.encode(&IDENTITY);
    check_block(
        &block,
        "4d515347 0100 0100 30313233343536373839616263646566 0302 0000 00400000
         1100000000000000 2200000000000000 3300000000000000 4400000000000000
         4300000000000000 6600000000000000 7700000000000000",
    );
    assert_eq!(SegmentHeader::decode(&block, &IDENTITY), Ok(header));
}

#[test]
fn commit_mark() {
    let mark = Mark { sequence: 0x41, epoch: 0x22, batch_no: 0x33, durable_lsn: Lsn(0x44) };
    let block = mark.encode(&IDENTITY);
    check_block(
        &block,
        "4d514352 0100 0000 30313233343536373839616263646566 0302 0000 00000000
         4100000000000000 2200000000000000 3300000000000000 4400000000000000",
    );
    assert_eq!(Mark::decode(&block, &IDENTITY), Ok(mark));
    assert_eq!(mark.offset(), 0x1000, "slot 1 of 64");
}

#[test]
fn manifest() {
    let manifest = Manifest {
        closed: true,
        shards: 2,
        segment_blocks: 0x4000,
        version: 0x11,
        snapshot: 0x22,
        first_segment: 0x33,
        active_segment: 0x44,
        epoch: 0x55,
        batch_no: 0x66,
        durable_lsn: Lsn(0x77),
    };
    let block = manifest.encode(&IDENTITY);
    check_block(
        &block,
        "4d514d46 0100 0100 30313233343536373839616263646566 0302 0200 00400000
         1100000000000000 2200000000000000 3300000000000000 4400000000000000
         5500000000000000 6600000000000000 7700000000000000",
    );
    assert_eq!(Manifest::decode(&block, &IDENTITY), Ok(manifest.clone()));
    assert_eq!(manifest.offset(), 0x1000, "odd versions stand in the second block");
}

#[test]
fn batch_with_one_record() {
    let mut buffer = batch::begin(BLOCK_BYTES);
    let (head, head_bytes) = record::head(0x85, b"body");
    let frame_crc = crc32c::crc32c(b"\x04\x85body").to_le_bytes();
    assert_eq!(head[..head_bytes], [&frame_crc[..], &[0x04, 0x85]].concat());
    buffer.extend(&head[..head_bytes]);
    buffer.extend(b"body");
    let header = BatchHeader {
        kind: Kind::Records,
        rest_bytes: 0,
        epoch: 0x22,
        batch_no: 0x33,
        first_lsn: Lsn(0x44),
        durable_lsn: Lsn(0x43),
        prev_hash: 0x66,
        record_count: 1,
    };
    let hash = batch::seal(&mut buffer, &header);
    let block = buffer.as_slice();
    assert_eq!(block.len(), BLOCK_BYTES);
    let fields = bytes(
        "4d51574c 0100 0000 2200000000000000 3300000000000000 4400000000000000
         4300000000000000 6600000000000000 0a000000 01000000 00000000",
    );
    assert_eq!(block[..0x3c], fields);
    let crc = crc32c::crc32c(&[&block[..0x3c], &block[0x40..0x4a]].concat());
    assert_eq!(block[0x3c..0x40], crc.to_le_bytes());
    assert_eq!(block[0x44..0x4a], *b"\x04\x85body");
    assert!(block[0x4a..].iter().all(|byte| *byte == 0));
    assert_eq!(hash, xxhash_rust::xxh3::xxh3_64(&block[..0x4a]));
    let batch = batch::parse(block).expect("just sealed");
    assert_eq!((batch.header, batch.hash, batch.total_bytes), (header, hash, BLOCK_BYTES));
}

#[test]
fn lengths_take_one_to_four_bytes() {
    for (body_bytes, varint) in [
        (0x7f, "7f"),
        (0x80, "8001"),
        (0x3fff, "ff7f"),
        (0x4000, "808001"),
        (0x20_0000, "80808001"),
    ] {
        let body = vec![0; body_bytes];
        let (head, head_bytes) = record::head(9, &body);
        let expected = [bytes(varint), vec![9]].concat();
        assert_eq!(head[4..head_bytes], expected, "{body_bytes}");
        assert_eq!(record::head_bytes(body_bytes), head_bytes);
    }
}
