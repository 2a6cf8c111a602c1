//! Appending, acknowledging, reading back, releasing, stopping.

use std::sync::mpsc::Sender;

use shards::disk::{Durability, Settings as LogSettings};
use shards::log::{Chunk, Cursor, Lsn, Mode, Place, Refused};
use shards::log::{File, Manifest};

use crate::rig::{Act, Known, Rig, Seen, TestIo, read, small, start};

/// Appends records as fast as they are taken, up to a number of them.
struct Pour {
    left: u64,
    bytes: usize,
}

fn body(at: u64, bytes: usize) -> Vec<u8> {
    at.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

impl Act for Pour {
    fn turn(&mut self, io: &mut TestIo, seen: &Sender<Seen>) {
        while self.left > 0 {
            let bytes = if self.left % 50 == 7 { self.bytes * 300 } else { self.bytes };
            match io.log().unwrap().append(9, &body(self.left, bytes)) {
                Ok(place) => {
                    let _ = seen.send(Seen::Appended(place));
                    self.left -= 1;
                }
                Err(Refused::Full) => return,
                Err(refused) => panic!("{refused}"),
            }
        }
    }
}

/// All records were taken and are durable; where they lie, in order.
fn settle(rig: &Rig, count: u64) -> Vec<Place> {
    let (mut places, mut durable): (Vec<Place>, _) = (Vec::new(), Lsn(0));
    rig.wait(|seen| {
        match seen {
            Seen::Appended(place) => places.push(place),
            Seen::Durable(lsn) => durable = lsn,
            Seen::Record(..) | Seen::Chunk(_) | Seen::Over => unreachable!("nothing is read"),
        }
        let all = places.len() as u64 == count;
        (all && durable >= places.last().unwrap().lsn).then_some(())
    });
    places
}

fn check(records: &[Known], count: u64, bytes: usize) {
    assert_eq!(records.len() as u64, count);
    for ((_, kind, found), left) in records.iter().zip((1..=count).rev()) {
        let bytes = if left % 50 == 7 { bytes * 300 } else { bytes };
        assert!(*kind == 9 && *found == body(left, bytes), "record {left}");
    }
}

#[test]
fn what_was_durable_is_there_after_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let rig = start(directory.path(), 1, &small(), |_| Pour { left: 2_000, bytes: 700 });
        settle(&rig, 2_000);
        rig.stop();
        let records = read(directory.path(), 1, Mode::Strict).unwrap();
        assert_eq!(records[0].len(), round * 2_000);
        check(&records[0][(round - 1) * 2_000..], 2_000, 700);
        let manifest = std::fs::read(directory.path().join("shard-0000/manifest")).unwrap();
        assert!(newest(&manifest, directory.path()).closed);
    }
}

fn newest(manifest: &[u8], path: &std::path::Path) -> Manifest {
    let directory = shards::disk::Directory::open(path, 1).unwrap();
    let identity = shards::log::Identity { broker: directory.broker().id, shard: 0 };
    shards::log::manifest::newest(manifest, &identity).unwrap()
}

#[test]
fn interval_acknowledges_before_the_sync() {
    let directory = tempfile::tempdir().unwrap();
    let settings = LogSettings { durability: Durability::Interval { ms: 3_600_000 }, ..small() };
    let rig = start(directory.path(), 1, &settings, |_| Pour { left: 20, bytes: 100 });
    settle(&rig, 20);
    rig.stop();
    check(&read(directory.path(), 1, Mode::Strict).unwrap()[0], 20, 100);
}

/// Pours, then reads everything back by place, a few at a time and the last ones while they are
/// still in memory.
struct Back {
    pour: Pour,
    places: Vec<Place>,
    asked: usize,
}

impl Act for Back {
    fn turn(&mut self, io: &mut TestIo, _: &Sender<Seen>) {
        while self.pour.left > 0 {
            let left = self.pour.left;
            let bytes = if left % 50 == 7 { self.pour.bytes * 300 } else { self.pour.bytes };
            let Ok(place) = io.log().unwrap().append(9, &body(left, bytes)) else { break };
            self.places.push(place);
            self.pour.left -= 1;
        }
        while let Some(place) = self.places.get(self.asked) {
            io.log().unwrap().read(*place, self.asked as u64).unwrap();
            self.asked += 1;
        }
    }
}

#[test]
fn records_are_read_back_by_place() {
    let directory = tempfile::tempdir().unwrap();
    let back = |_| Back { pour: Pour { left: 1_000, bytes: 700 }, places: vec![], asked: 0 };
    let rig = start(directory.path(), 1, &small(), back);
    let mut seen = vec![false; 1_000];
    for _ in 0..1_000 {
        let (token, record) = rig.wait(|seen| {
            if let Seen::Record(token, result) = seen {
                Some((token, result.unwrap()))
            } else {
                None
            }
        });
        let left = 1_000 - token;
        let bytes = if left % 50 == 7 { 700 * 300 } else { 700 };
        assert_eq!((record.kind, record.body), (9, body(left, bytes)), "record {token}");
        assert!(!std::mem::replace(&mut seen[usize::try_from(token).unwrap()], true));
    }
    rig.stop();
}

/// Pours, then asks for everything at once when it is durable, in a mixed order.
struct Shared {
    pour: Pour,
    places: Vec<Place>,
    asked: bool,
}

impl Act for Shared {
    fn turn(&mut self, io: &mut TestIo, _: &Sender<Seen>) {
        let log = io.log().unwrap();
        while self.pour.left > 0 {
            let Ok(place) = log.append(9, &body(self.pour.left, 200)) else { return };
            self.places.push(place);
            self.pour.left -= 1;
        }
        let count = self.places.len();
        if !self.asked && log.pending_bytes() == 0 {
            self.asked = true;
            for at in 0..count {
                // 7 has no divisor in common with the count.
                log.read(self.places[at * 7 % count], at as u64).unwrap();
            }
        }
        // 2 MB in windows of 128 KiB, of which some end where a segment does.
        assert!(log.stats().reads <= 40, "{} reads", log.stats().reads);
    }
}

#[test]
fn neighbouring_records_share_a_read() {
    let directory = tempfile::tempdir().unwrap();
    let shared =
        |_| Shared { pour: Pour { left: 9_999, bytes: 200 }, places: vec![], asked: false };
    let rig = start(directory.path(), 1, &small(), shared);
    let mut seen = vec![false; 9_999];
    for _ in 0..9_999 {
        let (token, record) = rig.wait(|seen| match seen {
            Seen::Record(token, result) => Some((usize::try_from(token).unwrap(), result.unwrap())),
            Seen::Appended(_) | Seen::Durable(_) | Seen::Chunk(_) | Seen::Over => None,
        });
        let left = 9_999 - (token * 7 % 9_999) as u64;
        assert_eq!((record.kind, record.body), (9, body(left, 200)), "record {token}");
        assert!(!std::mem::replace(&mut seen[token], true));
    }
    rig.stop();
}

/// Pours, then walks through the oldest segment and releases it, until two are left.
struct Clean {
    pour: Pour,
    walking: bool,
}

impl Act for Clean {
    fn turn(&mut self, io: &mut TestIo, seen: &Sender<Seen>) {
        self.pour.turn(io, seen);
        let log = io.log().unwrap();
        if self.pour.left == 0 && log.pending_bytes() == 0 && !self.walking {
            let oldest = log.segments().next().unwrap().number;
            log.walk(Cursor::start(oldest), 0x2_0000, 0).unwrap();
            self.walking = true;
        }
    }

    fn chunk(&mut self, io: &mut TestIo, chunk: &Chunk, _: &Sender<Seen>) {
        let log = io.log().unwrap();
        let oldest: Vec<u64> = log.segments().map(|segment| segment.number).take(2).collect();
        match chunk.next {
            Some(next) => log.walk(next, 0x2_0000, 0).unwrap(),
            None if oldest.len() == 2 => {
                log.release_before(oldest[1]);
                log.walk(Cursor::start(oldest[1]), 0x2_0000, 0).unwrap();
            }
            None => {}
        }
    }
}

#[test]
fn segments_are_walked_and_released() {
    let directory = tempfile::tempdir().unwrap();
    let clean = |_| Clean { pour: Pour { left: 3_000, bytes: 700 }, walking: false };
    let rig = start(directory.path(), 1, &small(), clean);
    let mut records: Vec<Known> = Vec::new();
    while records.len() < 3_000 {
        let chunk = rig
            .wait(|seen| if let Seen::Chunk(result) = seen { Some(result.unwrap()) } else { None });
        let known = chunk.records.into_iter().map(|r| (r.place.lsn, r.kind, r.body));
        records.extend(known);
    }
    check(&records, 3_000, 700);
    assert!(records.is_sorted_by_key(|(lsn, ..)| *lsn));
    rig.stop();
    let left = read(directory.path(), 1, Mode::Strict).unwrap();
    assert!(left[0].len() < 1_500, "{} records are left", left[0].len());
    assert_eq!(left[0], records[3_000 - left[0].len()..]);
    assert!(!directory.path().join("shard-0000").join(File::Segment(1).to_string()).exists());
}
