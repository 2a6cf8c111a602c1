//! Recovery of the log: whatever files are there, with checksums that hold or not, reading ends,
//! never panics, and gives records in rising order. The bytes are instructions that write a log
//! which goes on as it should, goes on wrongly, or is damaged afterwards.

use crate::taker::Taker;
use shards::log::{
    BLOCK_BYTES, Found, Identity, Lsn, Manifest, Mark, Mode, Scan, SegmentHeader, Verdict, batch,
    survey,
};
use xxhash_rust::xxh3::xxh3_64;

const IDENTITY: Identity = Identity { broker: [7; 16], shard: 0 };
const EPOCHS: [u64; 3] = [9, 5, 0];
const SEGMENTS_MAX: usize = 4;
const SEGMENT_BLOCKS: u32 = 8;
const OPENING: u16 = 2;
const CLOSING: u16 = 1;

/// What the next batch carries if it goes on rightly.
struct Writer {
    segments: Vec<(u64, Vec<u8>)>,
    epoch: u64,
    batch_no: u64,
    lsn: u64,
    hash: u64,
}

/// Instructions, up to the end of the bytes.
pub fn check(bytes: &[u8]) {
    let mut taker = Taker::new(bytes);
    let mut manifest_file = manifest(&mut taker);
    let mut ring_file = ring(&mut taker);
    let mut writer = Writer { segments: Vec::new(), epoch: 9, batch_no: 1, lsn: 1, hash: 0 };
    writer.begin_segment(&mut taker);
    while !taker.is_empty() {
        match taker.below(8) {
            0 => writer.begin_segment(&mut taker),
            1 => damage(&mut manifest_file, &mut taker),
            2 => damage(&mut ring_file, &mut taker),
            3 => writer.damage(&mut taker),
            _ => writer.write_batch(&mut taker),
        }
    }
    for (_, segment) in &mut writer.segments {
        segment.resize(segment.len().max(SEGMENT_BLOCKS as usize * BLOCK_BYTES), 0);
    }
    for mode in [Mode::Strict, Mode::PointInTime, Mode::Salvage] {
        recover(&manifest_file, &ring_file, &writer.segments, mode);
    }
}

fn manifest(taker: &mut Taker<'_>) -> Vec<u8> {
    let first_segment = 1 + u64::from(taker.byte() % 3);
    let opened = taker.byte();
    let manifest = Manifest {
        closed: opened & 1 != 0,
        active_segment: if opened & 2 == 0 { 0 } else { first_segment + u64::from(opened >> 6) },
        version: u64::from(opened >> 2 & 3),
        epoch: taker.one_of(&EPOCHS),
        batch_no: u64::from(taker.byte() % 8),
        durable_lsn: Lsn(u64::from(taker.byte() % 16)),
        first_segment,
        ..Manifest::fresh(1, SEGMENT_BLOCKS)
    };
    let mut file = vec![0; 2 * BLOCK_BYTES];
    put(&mut file, manifest.offset(), &manifest.encode(&IDENTITY));
    file
}

fn ring(taker: &mut Taker<'_>) -> Vec<u8> {
    let mark = Mark {
        sequence: u64::from(taker.byte()),
        epoch: taker.one_of(&EPOCHS),
        batch_no: u64::from(taker.byte() % 8),
        durable_lsn: Lsn(u64::from(taker.byte() % 16)),
    };
    let mut file = shards::log::ring::fresh(&IDENTITY);
    put(&mut file, mark.offset(), &mark.encode(&IDENTITY));
    file
}

fn put(file: &mut [u8], offset: u64, block: &[u8]) {
    let from = usize::try_from(offset).expect("a short file");
    file[from..from + block.len()].copy_from_slice(block);
}

fn damage(file: &mut Vec<u8>, taker: &mut Taker<'_>) {
    let at = usize::from(taker.short()) * 8 + usize::from(taker.byte() % 8);
    match taker.below(4) {
        0 => file.truncate(at),
        1 => file.iter_mut().skip(at).take(BLOCK_BYTES).for_each(|byte| *byte = 0),
        bit => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }
}

impl Writer {
    fn begin_segment(&mut self, taker: &mut Taker<'_>) {
        if self.segments.len() == SEGMENTS_MAX {
            return;
        }
        let changes = taker.byte();
        let last = self.segments.last().map_or(0, |(number, _)| *number);
        let number = last + 1 + u64::from(changes & 1);
        let prev_batch_no = self.batch_no - 1;
        let mut header = SegmentHeader {
            salvaged: changes & 2 != 0,
            segment_blocks: SEGMENT_BLOCKS,
            segment: number,
            epoch: self.epoch,
            first_lsn: Lsn(self.lsn),
            first_batch_no: self.batch_no,
            prev_batch_no,
            prev_hash: if prev_batch_no == 0 { 0 } else { self.hash },
            prev_epoch: 0,
        };
        if changes & 4 != 0 {
            header.prev_epoch = self.epoch;
            header.epoch = taker.one_of(&EPOCHS);
            header.first_lsn = Lsn(self.lsn + u64::from(taker.byte() % 4));
        }
        if changes & 0x30 == 0x30 {
            header.segment = number.wrapping_sub(1);
        }
        self.epoch = header.epoch;
        self.lsn = header.first_lsn.0;
        self.segments.push((number, header.encode(&IDENTITY)));
    }

    /// A batch of some frames, or of noise; its fields are right but for what the bytes change.
    fn write_batch(&mut self, taker: &mut Taker<'_>) {
        let (changes, frames) = (taker.byte(), taker.byte() % 4);
        let flags = match changes & 0x1f {
            1 => OPENING,
            2 => CLOSING,
            3 => 0x4,
            _ => 0,
        };
        let mut body = Vec::new();
        for _ in 0..if flags == 0 { frames } else { 0 } {
            body.extend(frame(taker));
        }
        if changes & 0x60 == 0x60 {
            body.extend_from_slice(taker.slice(40));
        }
        let ends = u64::from(frames) * u64::from(flags == 0);
        let (mut lsn, mut durable, mut rest, mut count) = (self.lsn, self.lsn - 1, 0, ends);
        if changes & 0x80 != 0 {
            lsn = lsn.wrapping_add(u64::from(taker.byte() % 3)).wrapping_sub(1);
            durable = u64::from(taker.byte());
            rest = u64::from(taker.byte() % 64);
            count = u64::from(taker.byte() % 5);
        }
        let numbers = [self.epoch, self.batch_no, lsn, durable, self.hash];
        let lengths = [body.len() as u64, count, rest].map(|n| u32::try_from(n).expect("small"));
        let batch = seal(flags, numbers, lengths, &body);
        self.hash = xxh3_64(&batch[..batch::HEADER_BYTES + body.len()]);
        self.batch_no += 1;
        self.lsn = self.lsn.saturating_add(count);
        if let Some((_, segment)) = self.segments.last_mut() {
            segment.extend_from_slice(&batch);
        }
    }

    fn damage(&mut self, taker: &mut Taker<'_>) {
        let index = taker.below(self.segments.len());
        damage(&mut self.segments[index].1, taker);
    }
}

/// A batch as docs/durability.md draws it, with a checksum that holds.
fn seal(flags: u16, numbers: [u64; 5], [bytes, count, rest]: [u32; 3], body: &[u8]) -> Vec<u8> {
    let mut batch =
        [&b"MQWL"[..], &shards::log::FORMAT.to_le_bytes(), &flags.to_le_bytes()].concat();
    numbers.iter().for_each(|number| batch.extend(number.to_le_bytes()));
    [bytes, count, rest].iter().for_each(|number| batch.extend(number.to_le_bytes()));
    let crc = crc32c::crc32c_append(crc32c::crc32c(&batch), body);
    batch.extend(crc.to_le_bytes());
    batch.extend_from_slice(body);
    batch.resize(batch.len().next_multiple_of(BLOCK_BYTES), 0);
    batch
}

fn frame(taker: &mut Taker<'_>) -> Vec<u8> {
    let (kind, length) = (taker.byte(), taker.byte());
    let content = taker.slice(usize::from(length % 64));
    let stated = if length & 0x80 == 0 { content.len() } else { usize::from(length & 0x7f) };
    let checked =
        [&[u8::try_from(stated).expect("one byte of seven bits"), kind][..], content].concat();
    let crc = crc32c::crc32c(&checked) ^ u32::from(length & 0x40);
    [&crc.to_le_bytes()[..], &checked].concat()
}

fn recover(manifest: &[u8], ring: &[u8], segments: &[(u64, Vec<u8>)], mode: Mode) {
    let heads: Vec<(u64, &[u8])> = segments
        .iter()
        .map(|(number, bytes)| (*number, bytes.get(..BLOCK_BYTES).unwrap_or(bytes)))
        .collect();
    let Found::Log(found) = survey(&IDENTITY, manifest, ring, &heads) else { return };
    let mut scan = Scan::new(*found, mode);
    let (mut last, mut fed, mut records) = (None, 0, 0_u64);
    while let Some(wanted) = scan.wanted() {
        let bytes = segments.iter().find(|(number, _)| *number == wanted);
        scan.feed(bytes.map_or(&[], |(_, bytes)| bytes), &mut |record| {
            assert!(last < Some(record.lsn), "{:?} after {last:?}", record.lsn);
            last = Some(record.lsn);
            records += 1;
        });
        fed += 1;
        assert!(fed < 100, "reading does not end");
    }
    let recovered = scan.finish();
    let refused = recovered.resume.is_none();
    assert!(!refused || matches!(recovered.verdict, Verdict::Corrupt(_)), "refused for nothing");
    if let Verdict::Corrupt(_) = recovered.verdict {
        assert!(refused || mode != Mode::Strict, "damage is no reason to refuse");
    }
    if let Some(resume) = recovered.resume {
        assert!(last.is_none_or(|last| last < resume.next_lsn), "a number would be used again");
        assert!(records <= resume.next_lsn.0);
    }
}
