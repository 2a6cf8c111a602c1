//! One log on one simulated disk, and what is known about it: the model.

use std::collections::BTreeMap;

use shards::log::scan::Checks;
use shards::log::survey::Found;
use shards::log::{
    Commit, Cursor, Extent, Fetch, File, Lane, Log, Lsn, Manifest, Mode, Place, ReadFault,
    Recovered, Resume, Scan, Settings, Step, StoredRecord, Urgency, Walk, manifest, ring, survey,
};
use shards::log::{Identity, Operation};
use shards::testing::{Disk, Faults, Prng};

pub(crate) const IDENTITY: Identity = Identity { broker: *b"culex-log-tests!", shard: 3 };

/// A record as the model knows it.
pub(crate) type Known = (Lsn, u8, Vec<u8>);

/// What a faulty writer or driver would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    Nothing,
    /// Acknowledges when the record was taken.
    AckOnAppend,
    /// Says that a segment was synced without syncing it.
    SkipSync,
}

pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) settings: Settings,
    pub(crate) plant: Plant,
    load: Prng,
    schedule: Prng,
    /// What came later has a stream of its own: older seeds go on as they did.
    later: Prng,
    /// All records that may be there, in order.
    pub(crate) known: Vec<Known>,
    /// So many of them must be there.
    pub(crate) floor: usize,
    /// So many of the first may be gone, because their segments were released.
    pub(crate) released: usize,
    /// Where they lie.
    places: BTreeMap<Lsn, Place>,
    /// Segments that are moved away when the opening is durable.
    cut: Vec<u64>,
    /// All records ever taken: what was cut may come back when damage is left out.
    pub(crate) ever: Vec<Known>,
    pub(crate) totals: Totals,
}

#[derive(Default, Debug)]
pub(crate) struct Totals {
    pub(crate) records: usize,
    pub(crate) acknowledged: usize,
    pub(crate) crashes: usize,
    pub(crate) torn: usize,
    pub(crate) failures: usize,
    pub(crate) segments: u64,
}

pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(default),
    }
}

impl World {
    pub(crate) fn new(seed: u64, plant: Plant) -> World {
        let mut shape = Prng::stream(seed, "shape");
        let mut later = Prng::stream(seed, "later");
        let commit = if later.chance(250) { Commit::Interval } else { Commit::Sync };
        let batch_bytes_max = 0x1000 * (1 + shape.index(4));
        let settings = Settings {
            identity: IDENTITY,
            segment_bytes: 0x1000 * (5 + shape.below(16)),
            batch_bytes_max,
            pending_bytes_max: 0x4000 + shape.index(0x10000),
            spares: 1 + shape.index(2),
            commit,
        };
        let mut disk = Disk::new(seed, Faults::default());
        let fresh = Manifest::fresh(2, settings.segment_blocks());
        disk.install(File::Ring, &ring::fresh(&IDENTITY));
        disk.install(File::Manifest, &manifest::fresh(&fresh, &IDENTITY));
        World {
            disk,
            settings,
            plant,
            load: Prng::stream(seed, "load"),
            schedule: Prng::stream(seed, "schedule"),
            later,
            known: Vec::new(),
            floor: 0,
            released: 0,
            places: BTreeMap::new(),
            cut: Vec::new(),
            ever: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Another disk with the same content, and the same knowledge.
    pub(crate) fn copy(&self, seed: u64) -> World {
        let mut other = World::new(seed, Plant::Nothing);
        other.disk = Disk::new(seed, Faults::default());
        // No epoch may come twice.
        other.schedule = Prng::stream(seed, "copy");
        for file in self.disk.files() {
            other.disk.install(file, self.disk.read(file));
        }
        other.known.clone_from(&self.known);
        other.ever.clone_from(&self.ever);
        other.floor = self.floor;
        other.released = self.released;
        other.places.clone_from(&self.places);
        other
    }

    /// What the operator's command does: foreign files are moved away, ring and manifest made
    /// anew if they are gone.
    pub(crate) fn restore(&mut self, foreign: &[u64]) {
        for number in foreign {
            self.disk.uninstall(File::Segment(*number));
        }
        let files = self.disk.files();
        for (file, blocks) in [(File::Ring, 64), (File::Manifest, 2)] {
            if !files.contains(&file) {
                self.disk.install(file, &vec![0; blocks * 0x1000]);
            }
        }
    }

    /// Reads what is on the disk.
    pub(crate) fn scan(&self, mode: Mode, checks: Checks) -> (Recovered, Vec<Known>) {
        let (recovered, records) = scan(&self.disk, mode, checks, &IDENTITY);
        (recovered, records.into_iter().map(|(known, _)| known).collect())
    }

    /// Recovers, compares with the model, and opens the log again.
    pub(crate) fn recover(&mut self) -> Result<Log, String> {
        let (recovered, found) = scan(&self.disk, Mode::Strict, Checks::All, &IDENTITY);
        let (records, places): (Vec<Known>, Vec<Place>) = found.into_iter().unzip();
        self.check(&records).map_err(|error| format!("{error}: {recovered:?}"))?;
        let resume = recovered.resume.ok_or(format!("refused: {:?}", recovered.verdict))?;
        if let shards::log::Verdict::TornTail { .. } = recovered.verdict {
            self.totals.torn += 1;
        }
        self.floor -= self.gone(&records).min(self.floor);
        self.released = 0;
        self.cut.clone_from(&recovered.unused);
        self.known = records;
        self.places = places.into_iter().map(|place| (place.lsn, place)).collect();
        Ok(self.open(&resume))
    }

    pub(crate) fn open(&mut self, resume: &Resume) -> Log {
        self.totals.segments = resume.next_segment;
        // What was released and is there again is removed at the next opening.
        for file in self.disk.files() {
            if matches!(file, File::Segment(number) if number < resume.manifest.first_segment) {
                self.disk.uninstall(file);
            }
        }
        Log::open(self.settings.clone(), resume, self.schedule.bits() | 1)
    }

    /// How many of the first known records are not there, because their segments were released.
    pub(crate) fn gone(&self, records: &[Known]) -> usize {
        let first = records.first().map(|(lsn, ..)| *lsn);
        let before = |(lsn, ..): &Known| first.is_none_or(|first| *lsn < first);
        self.known.iter().take(self.released).take_while(|known| before(known)).count()
    }

    /// `records` are the first of the known ones, but for those that were released, and at least
    /// those that must be there.
    pub(crate) fn check(&self, records: &[Known]) -> Result<(), String> {
        let gone = self.gone(records);
        let known = self.known.iter().skip(gone);
        let same = known.zip(records).take_while(|(a, b)| a == b).count();
        if same < records.len() {
            return Err(format!("record {same} of {} is invented", records.len()));
        }
        if gone + records.len() < self.floor {
            return Err(format!("{} of {} durable records are there", records.len(), self.floor));
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, log: &mut Log) {
        let bytes = match self.load.below(40) {
            0 => self.load.index(40_000),
            1..=4 => self.load.index(5_000),
            _ => self.load.index(200),
        };
        let kind = u8::try_from(self.load.below(256)).unwrap();
        let body = self.load.bytes(bytes);
        if let Ok(place) = log.append(kind, &body, Urgency::Usual) {
            let lsn = place.lsn;
            self.places.insert(lsn, place);
            self.ever.push((lsn, kind, body.clone()));
            self.known.push((lsn, kind, body));
            self.totals.records += 1;
        }
    }

    /// Gives the disk all that the log wants.
    pub(crate) fn submit(&mut self, log: &mut Log) {
        while let Some(operation) = log.next() {
            self.disk.submit(operation);
        }
    }

    /// One operation ends.
    pub(crate) fn step(&mut self, log: &mut Log) -> bool {
        let lied =
            if self.plant == Plant::SkipSync { self.disk.skip_sync(Lane::Commit) } else { None };
        let Some((operation, outcome)) = lied.or_else(|| self.disk.complete_one()) else {
            return false;
        };
        log.complete(operation, outcome);
        if log.is_open() {
            for number in self.cut.drain(..) {
                self.disk.uninstall(File::Segment(number));
            }
        }
        if log.is_open() || log.is_closed() {
            let durable = log.durable();
            let before = self.known.partition_point(|(lsn, ..)| *lsn <= durable);
            self.totals.acknowledged += before.saturating_sub(self.floor);
            self.floor = self.floor.max(before);
            if self.plant == Plant::AckOnAppend {
                self.floor = self.known.len();
            }
        }
        true
    }

    /// Works until nothing is left to do.
    pub(crate) fn settle(&mut self, log: &mut Log) {
        while log.failure().is_none() {
            self.submit(log);
            if !self.step(log) {
                if log.is_unsynced() {
                    log.sync_now();
                } else if log.prepare_error().is_some() && !log.is_closed() {
                    log.retry_preparation();
                } else {
                    break;
                }
            }
        }
    }

    /// Everything durable, and the ring says so.
    pub(crate) fn rest(&mut self, log: &mut Log) {
        self.settle(log);
        if let Some(mark) = log.idle() {
            self.give(mark);
        }
        self.settle(log);
        assert_eq!(self.floor, self.known.len(), "a log at rest is durable");
    }

    fn give(&mut self, operation: Operation) {
        self.disk.submit(operation);
    }

    /// Runs the log for a while; the caller crashes it or goes on.
    pub(crate) fn work(&mut self, log: &mut Log, steps: u64) {
        for _ in 0..steps {
            match self.schedule.below(10) {
                0..=3 => self.append(log),
                4..=5 => self.submit(log),
                6 => {
                    if let Some(mark) = log.idle() {
                        self.give(mark);
                    }
                }
                _ => {
                    self.step(log);
                }
            }
            self.release(log);
            if log.prepare_error().is_some() && self.schedule.chance(100) {
                self.disk.set_faults(Faults::default());
                log.retry_preparation();
            }
            if log.failure().is_some() {
                self.totals.failures += 1;
                return;
            }
        }
    }

    /// Now and then some of the oldest segments are not needed any more.
    fn release(&mut self, log: &mut Log) {
        match self.later.below(100) {
            0 if log.is_open() => {
                let segments: Vec<u64> = log.segments().map(|segment| segment.number).collect();
                let first = segments[self.later.index(segments.len())];
                let index = log.index();
                let begins_before = |(lsn, ..): &&Known| {
                    index.find(*lsn).is_none_or(|extent| extent.segment < first)
                };
                let durable = self.known.iter().take(self.floor);
                let released = durable.take_while(begins_before).count();
                self.released = self.released.max(released);
                log.release_before(first);
            }
            1..=4 => log.sync_now(),
            _ => {}
        }
    }

    /// What was written can be read back, one by one and segment by segment.
    fn read_back(&mut self, log: &Log) -> Result<(), String> {
        let first = log.segments().next().map_or(0, |segment| segment.number);
        let settled = log.settled();
        let written: Vec<Known> =
            self.known.iter().filter(|(lsn, ..)| *lsn <= settled).cloned().collect();
        for known in &written {
            if !self.later.chance(100) {
                continue;
            }
            match self.fetch(log, self.places[&known.0]) {
                Ok(record) if (record.place.lsn, record.kind, record.body.clone()) == *known => {}
                Err(ReadFault::Gone) if self.known[..self.released].contains(known) => {}
                other => return Err(format!("record {:?} is read back as {other:?}", known.0)),
            }
        }
        let mut walked = Vec::new();
        for segment in log.segments().map(|segment| segment.number) {
            let mut from = Some(Cursor::start(segment));
            while let Some(cursor) = from {
                let mut walk = Walk::begin(log, cursor, 0x1000 * self.later.index(5));
                let end = loop {
                    let Step::Read(extent) = walk.next(log) else { break walk.next(log) };
                    let fed = walk.feed(&self.bytes(&extent));
                    fed.map_err(|fault| format!("walk in {first}: {fault}"))?;
                };
                if end == Step::Wait {
                    break;
                }
                let chunk = walk.finish(log);
                let known = chunk.records.into_iter().map(|r| (r.place.lsn, r.kind, r.body));
                walked.extend(known);
                from = chunk.next;
            }
        }
        // After a salvage a walk may find a record whole that the reading left out with its
        // neighbours; what is found is what was appended.
        let is_written =
            |(lsn, ..): &Known| written.binary_search_by_key(lsn, |(lsn, ..)| *lsn).is_ok();
        let (walked, more): (Vec<Known>, Vec<Known>) = walked.into_iter().partition(is_written);
        if !more.iter().all(|record| self.ever.contains(record)) {
            return Err("the walk gives records that nobody appended".to_owned());
        }
        let from = walked
            .first()
            .map_or(0, |(lsn, ..)| written.partition_point(|(known, ..)| known < lsn));
        let same = written[from..].iter().zip(&walked).take_while(|(a, b)| a == b).count();
        if from > self.released || same < walked.len().min(written.len() - from) {
            return Err(format!(
                "the walk gives {} records from {from} on, {same} as they were; {} were written, \
                 {} released",
                walked.len(),
                written.len(),
                self.released
            ));
        }
        Ok(())
    }

    fn fetch(&self, log: &Log, place: Place) -> Result<StoredRecord, ReadFault> {
        let mut fetch = Fetch::begin(log, place)?;
        loop {
            let Step::Read(extent) = fetch.next(log) else { panic!("what is settled was written") };
            if let Some(record) = fetch.feed(log, &self.bytes(&extent))? {
                return Ok(record);
            }
        }
    }

    fn bytes(&self, extent: &Extent) -> Vec<u8> {
        let start = usize::try_from(extent.offset).unwrap();
        let file = self.disk.read(File::Segment(extent.segment));
        file.get(start..start + extent.bytes).unwrap_or_default().to_vec()
    }

    pub(crate) fn crash(&mut self) {
        self.disk.crash();
        self.totals.crashes += 1;
    }

    /// A few lives of the log, each ended by a crash, an error, or in order.
    pub(crate) fn run(&mut self, lives: u64) -> Result<(), String> {
        for _ in 0..lives {
            let mut log = self.recover()?;
            if self.schedule.chance(700) {
                self.settle(&mut log);
                if !log.is_open() && log.failure().is_none() {
                    return Err(format!("the opening is stuck: {log:?}"));
                }
            }
            let faults = self.draw_faults();
            self.disk.set_faults(faults);
            let steps = 1 + self.schedule.below(400);
            self.work(&mut log, steps);
            self.disk.set_faults(Faults::default());
            if log.failure().is_none() {
                self.read_back(&log)?;
            }
            if self.schedule.chance(200) && log.is_open() && log.failure().is_none() {
                log.retry_preparation();
                log.close();
                self.settle(&mut log);
                if !log.is_closed() {
                    return Err(format!("closing is stuck: {log:?}"));
                }
                if self.floor != self.known.len() {
                    return Err("closed, but not all is durable".to_owned());
                }
                continue;
            }
            self.crash();
        }
        let log = self.recover()?;
        drop(log);
        Ok(())
    }

    fn draw_faults(&mut self) -> Faults {
        let mut faults = Faults::default();
        match self.schedule.below(8) {
            0 => faults.short_writes = 200,
            1 => faults.sync_errors = 30,
            2 => faults.write_errors = 30,
            3 => {
                let used: usize =
                    self.disk.files().iter().map(|file| self.disk.read(*file).len()).sum();
                faults.space_bytes = Some(used + self.schedule.index(0x20000));
            }
            _ => {}
        }
        faults
    }
}

/// Reads the log on `disk`.
pub(crate) fn scan(
    disk: &Disk,
    mode: Mode,
    checks: Checks,
    identity: &Identity,
) -> (Recovered, Vec<(Known, Place)>) {
    let mut heads = Vec::new();
    for file in disk.files() {
        if let File::Segment(number) = file {
            let bytes = disk.read(file);
            heads.push((number, bytes.get(..0x1000).unwrap_or(bytes)));
        }
    }
    let mut records = Vec::new();
    let found = survey(identity, disk.read(File::Manifest), disk.read(File::Ring), &heads);
    let Found::Log(found) = found else {
        return (nothing_there(), Vec::new());
    };
    let mut scan = Scan::with_checks(*found, mode, checks);
    let mut fed = 0;
    while let Some(number) = scan.wanted() {
        scan.feed(disk.read(File::Segment(number)), &mut |record| {
            let known = (record.lsn, record.kind, record.body.to_vec());
            records.push((known, record.place()));
        });
        fed += 1;
        assert!(fed < 100_000, "reading does not end");
    }
    (scan.finish(), records)
}

/// Even the manifest is gone and no segment is left.
fn nothing_there() -> Recovered {
    Recovered {
        verdict: shards::log::Verdict::Clean,
        resume: None,
        losses: Vec::new(),
        loss_count: 0,
        unused: Vec::new(),
        foreign: Vec::new(),
    }
}
