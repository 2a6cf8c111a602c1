//! The cleaner of the product at work on the simulated logs: what still holds of the oldest segment
//! is written again, then the segment is released. Reads may fail, and power at any step.

use crate::drive::Drive;
use crate::plant::Plant;
use crate::rng::{Rng, Stream};
use crate::world::World;
use culex::shard::{CleanedLog, Cleaner, Pace};
use shards::log::{Chunk, Cursor, File, Lsn, ReadFault, SegmentInfo, Step, Walk};

/// `errno` of a broken disk.
const EIO: i32 = 5;

/// The cleaners of a run.
pub(crate) struct Cleaning {
    pace: Pace,
    chance: Rng,
    /// Reads of segments that fail, in percent.
    fails: usize,
    cleaners: Vec<Cleaner>,
    /// Segments that were released.
    pub released: usize,
}

impl Cleaning {
    pub(crate) fn new(seed: u64, shards: usize) -> Cleaning {
        let mut chance = Rng::new(seed, Stream::Cleaner);
        let pace = Pace {
            // One run in five has none.
            segments_min: *chance.pick(&[1, 1, 2, 3, usize::MAX]),
            look_ms: *chance.pick(&[0, 1_000]),
            step_bytes: *chance.pick(&[0x1000, 0x4000, 0x40000]),
            step_ms: *chance.pick(&[0, 0, 50]),
            counted_per_step: *chance.pick(&[1, 10, 10_000]),
            work_per_step: *chance.pick(&[1, 5, 1_000]),
        };
        let fails = *chance.pick(&[0, 0, 10]);
        let cleaners = (0..shards).map(|_| Cleaner::new(pace)).collect();
        Cleaning { pace, chance, fails, cleaners, released: 0 }
    }

    /// The shards begin anew.
    pub(crate) fn restart(&mut self) {
        self.cleaners.fill_with(|| Cleaner::new(self.pace));
    }
}

/// A log as the cleaner sees it.
struct View<'a> {
    drive: &'a mut Drive,
    plant: Plant,
    released: usize,
}

impl CleanedLog for View<'_> {
    fn settled(&self) -> Lsn {
        let settled = self.drive.log.settled();
        if self.plant == Plant::ReleasedEarly { Lsn(u64::MAX) } else { settled }
    }

    fn next_lsn(&self) -> Lsn {
        self.drive.log.next_lsn()
    }

    fn is_full(&self) -> bool {
        self.drive.is_full()
    }

    fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.drive.log.segments()
    }

    fn walk(&mut self, from: Cursor, bytes: usize) -> bool {
        self.drive.walk = Some(Walk::begin(&self.drive.log, from, bytes));
        true
    }

    fn release_before(&mut self, segment: u64) {
        self.released += 1;
        self.drive.release_before(segment);
    }

    fn point(&self, _name: &'static str) {}
}

impl Drive {
    /// What the cleaner wants to read, when it is there.
    fn walked(&mut self, fails: bool) -> Option<Result<Chunk, ReadFault>> {
        let mut walk = self.walk.take()?;
        if fails {
            return Some(Err(ReadFault::Io(EIO)));
        }
        loop {
            match walk.next(&self.log) {
                Step::Done => return Some(Ok(walk.finish(&self.log))),
                Step::Wait => {
                    self.walk = Some(walk);
                    return None;
                }
                Step::Read(extent) => {
                    let start = usize::try_from(extent.offset).unwrap();
                    let file = self.disk.read(File::Segment(extent.segment));
                    let bytes = file.get(start..start + extent.bytes).unwrap_or_default();
                    if let Err(fault) = walk.feed(bytes) {
                        return Some(Err(fault));
                    }
                }
            }
        }
    }
}

impl World {
    /// The cleaner of a shard goes on.
    pub(crate) fn clean(&mut self, shard: usize) {
        let Some(drive) = self.drives.get_mut(shard) else { return };
        let cleaning = &mut self.cleaning;
        let fails = cleaning.chance.chance(cleaning.fails);
        let cleaner = &mut cleaning.cleaners[shard];
        if let Some(mut chunk) = drive.walked(fails) {
            if let (Plant::RevivedNot, Ok(chunk)) = (self.planted.plant, &mut chunk) {
                chunk.records.pop();
            }
            cleaner.on_chunk(chunk, self.now);
        }
        if cleaner.deadline().is_none_or(|due| due > self.now) {
            return;
        }
        self.next_step();
        let drive = &mut self.drives[shard];
        let mut view = View { drive, plant: self.planted.plant, released: 0 };
        let cleaner = &mut self.cleaning.cleaners[shard];
        cleaner.step(&mut view, &mut self.shards[shard], crate::drive::WALL, self.now);
        let released = view.released;
        self.cleaning.released += released;
        if released > 0 {
            self.note(|| format!("the cleaner of {shard} releases a segment"));
        }
        self.collect_revived(shard);
    }
}
