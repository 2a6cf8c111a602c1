//! One log on one simulated disk, and what is known about it: the model.

use shards::log::scan::Checks;
use shards::log::survey::Found;
use shards::log::{
    Commit, File, Lane, Log, Lsn, Manifest, Mode, Recovered, Resume, Scan, Settings, Urgency,
    manifest, ring, survey,
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
    /// All records that may be there, in order.
    pub(crate) known: Vec<Known>,
    /// So many of them must be there.
    pub(crate) floor: usize,
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
        let batch_bytes_max = 0x1000 * (1 + shape.index(4));
        let settings = Settings {
            identity: IDENTITY,
            segment_bytes: 0x1000 * (5 + shape.below(16)),
            batch_bytes_max,
            pending_bytes_max: 0x4000 + shape.index(0x10000),
            spares: 1 + shape.index(2),
            commit: Commit::Sync,
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
            known: Vec::new(),
            floor: 0,
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
        scan(&self.disk, mode, checks, &IDENTITY)
    }

    /// Recovers, compares with the model, and opens the log again.
    pub(crate) fn recover(&mut self) -> Result<Log, String> {
        let (recovered, records) = self.scan(Mode::Strict, Checks::All);
        self.check(&records).map_err(|error| format!("{error}: {recovered:?}"))?;
        let resume = recovered.resume.ok_or(format!("refused: {:?}", recovered.verdict))?;
        if let shards::log::Verdict::TornTail { .. } = recovered.verdict {
            self.totals.torn += 1;
        }
        self.known = records;
        Ok(self.open(&resume))
    }

    pub(crate) fn open(&mut self, resume: &Resume) -> Log {
        self.totals.segments = resume.next_segment;
        Log::open(self.settings.clone(), resume, self.schedule.bits() | 1)
    }

    /// `records` are the first of the known ones, and at least those that must be there.
    pub(crate) fn check(&self, records: &[Known]) -> Result<(), String> {
        let same = self.known.iter().zip(records).take_while(|(a, b)| a == b).count();
        if same < records.len() {
            return Err(format!("record {same} of {} is invented", records.len()));
        }
        if records.len() < self.floor {
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
                if log.prepare_error().is_none() {
                    break;
                }
                log.retry_preparation();
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
) -> (Recovered, Vec<Known>) {
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
            records.push((record.lsn, record.kind, record.body.to_vec()));
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
