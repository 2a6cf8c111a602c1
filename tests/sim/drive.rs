//! The log of one shard as the product writes and reads it, on a simulated disk: batches, segments
//! and commit marks; operations that end late and in any order; writes cut short, writes and syncs
//! that fail, no space; and power that fails, with sectors lost, torn and zeroed.

use culex::session::Message;
use culex::store::{self, Record, Wall};
use shards::log::survey::Found;
use shards::log::{
    Commit, Fetch, File, Identity, Lane, Log, Lsn, Manifest, Mode, Place, Recovered, Refused, Scan,
    Settings, Step, Urgency, manifest, ring, survey,
};
use shards::testing::{Disk, Faults, Prng};
use std::collections::VecDeque;
use std::sync::Arc;

/// The clock of the simulation is the time of day.
const WALL: Wall = Wall { start_ms: 0 };

/// A record that was read: position, place in its batch, content.
pub(crate) type Read = (u64, u32, Record);

pub(crate) struct Drive {
    disk: Disk,
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
    /// Syncs are said to be done, and are not.
    pub lies: bool,
}

impl Drive {
    pub(crate) fn new(seed: u64, shard: usize, shards: usize, commit: Commit) -> Drive {
        let mut chance = Prng::stream(seed, &format!("drive {shard}"));
        let identity =
            Identity { broker: *b"culex-simulation", shard: u16::try_from(shard).unwrap() };
        let settings = Settings {
            identity,
            segment_bytes: 0x1000 * (9 + chance.below(24)),
            batch_bytes_max: 0x1000 * (1 + chance.index(4)),
            pending_bytes_max: 0x4000 + chance.index(0x10000),
            spares: 2,
            commit,
        };
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
            lies: false,
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
        if self.chance.chance(20) && self.log.prepare_error().is_some() {
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

    /// Reads the message of a record.
    pub(crate) fn fetch(&self, lsn: u64, at: u32) -> Result<Arc<Message>, String> {
        let place = Place { lsn: Lsn(lsn), at };
        let wrong = |what: &dyn std::fmt::Display| format!("record {lsn} at {at}: {what}");
        let mut fetch = Fetch::begin(&self.log, place).map_err(|fault| wrong(&fault))?;
        loop {
            let Step::Read(extent) = fetch.next(&self.log) else {
                return Err(wrong(&"it was not written"));
            };
            let start = usize::try_from(extent.offset).unwrap();
            let file = self.disk.read(File::Segment(extent.segment));
            let bytes = file.get(start..start + extent.bytes).unwrap_or_default();
            if let Some(record) = fetch.feed(&self.log, bytes).map_err(|fault| wrong(&fault))? {
                let message = store::decode_message(record.kind, &record.body, WALL);
                return message.map_err(|fault| wrong(&fault));
            }
        }
    }

    /// Power fails, and comes back: what is on the disk is read, and the log opened again. Now and
    /// then it fails once more before that is over.
    pub(crate) fn power_cut(&mut self) -> Result<Vec<Read>, String> {
        self.backlog.clear();
        self.disk.set_faults(Faults::default());
        loop {
            self.disk.crash();
            let (recovered, records) = scan(&self.disk, &self.settings.identity);
            let verdict = format!("{:?}", recovered.verdict);
            let resume = recovered.resume.ok_or(format!("the start is refused: {verdict}"))?;
            self.cut.clone_from(&recovered.unused);
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
                    continue;
                }
            }
            self.finish_opening();
            let full = self.full;
            self.set_full(full);
            return records.map_err(|fault| format!("a record is broken: {fault}"));
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
