//! The log of one shard as the product writes and reads it, on a simulated disk: batches, segments
//! and commit marks; operations that end late and in any order; writes cut short, writes and syncs
//! that fail, no space; and power that fails, with sectors lost, torn and zeroed.

use culex::session::Message;
use culex::store::{self, Record, Wall};
use shards::log::survey::Found;
use shards::log::{
    Commit, Fetch, File, Identity, Lane, Log, Lsn, Manifest, Mode, Place, ReadFault, Recovered,
    Refused, Resume, Scan, Settings, Step, Urgency, Walk, manifest, ring, survey,
};
use shards::testing::{Disk, Faults, Prng};
use std::collections::VecDeque;
use std::sync::Arc;

/// The clock of the simulation is the time of day.
pub(crate) const WALL: Wall = Wall { start_ms: 0 };

/// How the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fall {
    /// With the machine: what was not synced is left to chance.
    Power,
    /// Alone: what was written stays, and power may still take it later.
    Process,
}

/// Whether files are written through the page cache, which a failed sync leaves as if it were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// They are written directly.
    Passed,
    /// A start copies what it believes.
    Copied,
    /// A start takes for stored what it reads.
    Trusted,
}

/// A record that was read: position, place in its batch, content.
pub(crate) type Read = (u64, u32, Record);

pub(crate) struct Drive {
    pub disk: Disk,
    pub log: Log,
    settings: Settings,
    chance: Prng,
    /// What goes wrong in this run, apart from space.
    faults: Faults,
    /// Space runs out now and then.
    fills: bool,
    full: bool,
    /// Records that the log did not take yet.
    backlog: VecDeque<(u8, Vec<u8>)>,
    /// Segments that are moved away when the opening is durable.
    cut: Vec<u64>,
    /// What the cleaner reads.
    pub walk: Option<Walk>,
    /// Records up to this one may be gone, because their segments were released.
    pub released: u64,
    /// Syncs are said to be done, and are not.
    pub lies: bool,
    cache: Cache,
}

impl Drive {
    pub(crate) fn new(seed: u64, shard: usize, shards: usize, commit: Commit) -> Drive {
        let mut chance = Prng::stream(seed, &format!("drive {shard}"));
        let mut later = Prng::stream(seed, "later");
        let identity =
            Identity { broker: *b"culex-simulation", shard: u16::try_from(shard).unwrap() };
        let mut settings = Settings {
            identity,
            segment_bytes: 0x1000 * (9 + chance.below(24)),
            batch_bytes_max: 0x1000 * (1 + chance.index(4)),
            pending_bytes_max: 0x4000 + chance.index(0x10000),
            spares: 2,
            commit,
        };
        if later.chance(700) {
            // Short ones are over soon, and cleaned.
            settings.segment_bytes = 0x1000 * (5 + later.below(5));
        }
        let faults = Faults {
            write_errors: [0, 0, 0, 1][chance.index(4)],
            short_writes: [0, 0, 100][chance.index(3)],
            sync_errors: [0, 0, 0, 1, 5][chance.index(5)],
            space_bytes: None,
        };
        let fills = chance.chance(250);
        let mut disk = Disk::new(seed ^ (shard as u64) << 32, Faults::default());
        let fresh = Manifest::fresh(u16::try_from(shards).unwrap(), settings.segment_blocks());
        disk.install(File::Ring, &ring::fresh(&identity));
        disk.install(File::Manifest, &manifest::fresh(&fresh, &identity));
        let (recovered, _) = scan(&disk, &identity);
        let resume = recovered.resume.expect("a new log");
        let log = Log::open(settings.clone(), &resume, chance.bits() | 1);
        let cache = if later.chance(700) { Cache::Passed } else { Cache::Copied };
        let (backlog, cut) = (VecDeque::new(), Vec::new());
        let mut drive = Drive {
            disk,
            log,
            settings,
            chance,
            faults,
            fills,
            full: false,
            backlog,
            cut,
            walk: None,
            released: 0,
            lies: false,
            cache,
        };
        drive.finish_opening();
        drive.disk.set_faults(drive.faults);
        drive
    }

    /// Gives a record to the log, behind those that it has not taken yet. What it gives back was
    /// taken.
    pub(crate) fn append(&mut self, record: &Record) -> Vec<Place> {
        let mut body = Vec::new();
        let kind = store::encode(record, WALL, &mut body);
        self.backlog.push_back((kind, body));
        self.retry()
    }

    /// Tries again what the log did not take.
    pub(crate) fn retry(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        while let Some((kind, body)) = self.backlog.front() {
            match self.log.append(*kind, body, Urgency::FreesSpace) {
                Ok(place) => places.push(place),
                Err(Refused::Full | Refused::DiskFull | Refused::Failed) => break,
                Err(other) => panic!("the log refuses a record: {other}"),
            }
            self.backlog.pop_front();
        }
        places
    }

    pub(crate) fn is_full(&self) -> bool {
        self.log.is_short_of_space(self.settings.batch_bytes_max)
    }

    /// Operations that end in one event.
    pub(crate) fn burst(&mut self) -> usize {
        1 + self.chance.index(8)
    }

    /// One operation ends. False if there is none.
    pub(crate) fn step(&mut self) -> bool {
        if self.fills && self.chance.chance(10) {
            self.set_full(!self.full);
        }
        // Tried again at once when there is room, else now and then.
        let again = self.chance.chance(20) || !self.full;
        if again && self.log.prepare_error().is_some() {
            self.log.retry_preparation();
        }
        self.submit();
        if self.disk.in_flight() == 0
            && let Some(mark) = self.log.idle()
        {
            self.disk.submit(mark);
        }
        let lied = if self.lies { self.disk.skip_sync(Lane::Commit) } else { None };
        let Some((operation, outcome)) = lied.or_else(|| self.disk.complete_one()) else {
            return false;
        };
        self.log.complete(operation, outcome);
        true
    }

    fn submit(&mut self) {
        while let Some(operation) = self.log.next() {
            self.disk.submit(operation);
        }
    }

    fn set_full(&mut self, full: bool) {
        self.full = full;
        let room = self.chance.index(0x10000);
        let files = self.disk.files();
        let used: usize = files.iter().map(|file| self.disk.read(*file).len()).sum();
        let space_bytes = full.then_some(room + used);
        self.disk.set_faults(Faults { space_bytes, ..self.faults });
    }

    /// Syncs fail often, and a start believes the page cache.
    pub(crate) fn trust_cache(&mut self) {
        self.cache = Cache::Trusted;
        self.faults.sync_errors = 20;
        self.disk.set_faults(self.faults);
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn heal(&mut self) {
        self.faults = Faults::default();
        self.fills = false;
        self.set_full(false);
        if self.log.prepare_error().is_some() {
            self.log.retry_preparation();
        }
        if self.log.is_unsynced() {
            self.log.sync_now();
        }
    }

    /// No record that begins before this segment is needed any more.
    pub(crate) fn release_before(&mut self, segment: u64) {
        let index = self.log.index();
        let first = index.segments().find(|known| known.number >= segment);
        let first = first.expect("the last segment stays").first_lsn;
        // The first record that ends here may begin before.
        let begins_here = index.find(first).is_none_or(|extent| extent.segment >= segment);
        self.released = self.released.max(first.0 - u64::from(begins_here));
        self.log.release_before(segment);
    }

    /// Reads the message of a record; none if its segment was released.
    pub(crate) fn fetch(&self, lsn: u64, at: u32) -> Result<Option<Arc<Message>>, String> {
        let place = Place { lsn: Lsn(lsn), at };
        let wrong = |what: &dyn std::fmt::Display| format!("record {lsn} at {at}: {what}");
        let mut fetch = match Fetch::begin(&self.log, place) {
            Err(ReadFault::Gone) if lsn <= self.released => return Ok(None),
            begun => begun.map_err(|fault| wrong(&fault))?,
        };
        loop {
            let Step::Read(extent) = fetch.next(&self.log) else {
                return Err(wrong(&"it was not written"));
            };
            let start = usize::try_from(extent.offset).unwrap();
            let file = self.disk.read(File::Segment(extent.segment));
            let bytes = file.get(start..start + extent.bytes).unwrap_or_default();
            if let Some(record) = fetch.feed(&self.log, bytes).map_err(|fault| wrong(&fault))? {
                let message = store::decode_message(record.kind, &record.body, WALL);
                return message.map(Some).map_err(|fault| wrong(&fault));
            }
        }
    }

    /// Power fails and comes back, or the process ends and another begins: what is on the disk is
    /// read, and the log opened again. Now and then power fails before that is over.
    pub(crate) fn restart(&mut self, how: Fall) -> Result<Vec<Read>, String> {
        self.backlog.clear();
        self.walk = None;
        self.disk.set_faults(Faults::default());
        match how {
            Fall::Power => self.disk.crash(),
            Fall::Process => self.disk.end_process(self.cache == Cache::Passed),
        }
        loop {
            let (recovered, records) = scan(&self.disk, &self.settings.identity);
            let verdict = format!("{:?}", recovered.verdict);
            let resume = recovered.resume.ok_or(format!("the start is refused: {verdict}"))?;
            self.cut.clone_from(&recovered.unused);
            if self.cache == Cache::Copied {
                // What was read may live in the page cache alone, however often it is synced.
                let last = resume.last_segment.map(File::Segment);
                let believed = [File::Manifest, File::Ring].into_iter().chain(last);
                believed.for_each(|file| self.disk.copy_and_sync(file));
            }
            self.remove_released(&resume);
            self.disk.sync_names();
            let epoch = self.chance.bits() | 1;
            self.log = Log::open(self.settings.clone(), &resume, epoch);
            if self.chance.chance(100) {
                for _ in 0..self.chance.below(20) {
                    self.submit();
                    if let Some((operation, outcome)) = self.disk.complete_one() {
                        self.log.complete(operation, outcome);
                    }
                }
                if !self.log.is_open() {
                    self.disk.crash();
                    continue;
                }
            }
            self.finish_opening();
            let full = self.full;
            self.set_full(full);
            return records.map_err(|fault| format!("a record is broken: {fault}"));
        }
    }

    /// What was released and is there again goes: the manifest that says so is on the disk.
    fn remove_released(&mut self, resume: &Resume) {
        self.disk.sync_now(File::Manifest);
        for file in self.disk.files() {
            let File::Segment(number) = file else { continue };
            let known = resume.index.segments().any(|segment| segment.number == number);
            if number < resume.manifest.first_segment && !known && !self.cut.contains(&number) {
                self.disk.uninstall(file);
            }
        }
    }

    fn finish_opening(&mut self) {
        while !self.log.is_open() {
            self.submit();
            let (operation, outcome) = self.disk.complete_one().expect("the opening goes on");
            self.log.complete(operation, outcome);
        }
        for number in self.cut.drain(..) {
            self.disk.uninstall(File::Segment(number));
        }
    }
}

/// Reads the log as a start does.
fn scan(disk: &Disk, identity: &Identity) -> (Recovered, Result<Vec<Read>, String>) {
    let mut heads = Vec::new();
    for file in disk.files() {
        if let File::Segment(number) = file {
            let bytes = disk.read(file);
            heads.push((number, bytes.get(..0x1000).unwrap_or(bytes)));
        }
    }
    let found = survey(identity, disk.read(File::Manifest), disk.read(File::Ring), &heads);
    let Found::Log(found) = found else { panic!("the manifest is gone") };
    let mut scan = Scan::new(*found, Mode::Strict);
    let mut records = Ok(Vec::new());
    while let Some(number) = scan.wanted() {
        scan.feed(disk.read(File::Segment(number)), &mut |record| {
            let Ok(read) = &mut records else { return };
            match store::decode(record.kind, record.body, WALL) {
                Ok(Some(decoded)) => read.push((record.lsn.0, record.place().at, decoded)),
                Ok(None) => records = Err(format!("{} is unknown", record.lsn.0)),
                Err(fault) => records = Err(format!("{}: {fault}", record.lsn.0)),
            }
        });
    }
    (scan.finish(), records)
}
