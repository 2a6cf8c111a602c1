//! Data directories as a broker left them, in memory, and what a start must find in them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use culex::store::{self, Image, Place, Wall};
use shards::disk::{Directory, DirectoryError, Examination, Relayout};
use shards::log::survey::Found as Surveyed;
use shards::log::{self, Identity, Lsn, Manifest, Mode, Record, Scan, Verdict, manifest, ring};

use crate::broker::{END_MS, Setup, pause};
use crate::campaign::world;
use crate::rng::Rng;
use crate::world::{Mood, World};

/// Small segments: many of them, read in no time.
const SEGMENT_BYTES: usize = 64 << 10;

/// Longer than the broker is calm before it marks what is durable, and syncs the mark.
const CALM_MS: u64 = 500;

const BLOCK: usize = log::BLOCK_BYTES;

/// A file: what is written in it, and its length; zeros follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) bytes: Vec<u8>,
    pub(crate) len: usize,
}

impl Contents {
    pub(crate) fn of(mut bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        Self { bytes, len }
    }

    /// All bytes.
    pub(crate) fn whole(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.len, 0);
        bytes
    }
}

/// Files by their path in the data directory; those that hold state.
pub(crate) type Tree = BTreeMap<PathBuf, Contents>;

/// A record, as far as two are told apart: its number, and a hash of the rest.
pub(crate) type Seen = (u64, u64);

/// What a start finds: records and state by shard.
pub(crate) type Found = (Vec<Vec<Seen>>, Vec<Image>);

/// How the broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    /// By SIGKILL, after some calm: everything is marked as durable.
    KilledAtRest,
    /// By SIGKILL, under load.
    Killed,
}

/// See the module.
pub(crate) struct Sample {
    pub(crate) end: End,
    pub(crate) shards: u16,
    pub(crate) tree: Tree,
    /// The directory after earlier lives.
    pub(crate) old: Vec<Tree>,
    /// By shard, what a start finds.
    pub(crate) records: Vec<Vec<Seen>>,
    pub(crate) images: Vec<Image>,
    /// By shard, how many of them were reported durable in the directory itself: others may go.
    pub(crate) floors: Vec<usize>,
    /// All records of all lives, with their shards.
    pub(crate) ever: HashSet<(u16, Seen)>,
}

impl Sample {
    /// Lets a broker work for some lives; `moved`: with another number of shards in each.
    pub(crate) fn make(seed: u64, end: End, moved: bool) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = folder.path().join("data");
        let mut rng = Rng::new(seed, "sample");
        let setup = Setup { segment_bytes: SEGMENT_BYTES, ..Setup::new("fsync", 2) };
        let mut world = world((folder.path(), &data), setup, seed, &mut rng);
        let mut old = Vec::new();
        let lives = if moved { 3 } else { 4 };
        for life in 1..=lives {
            if moved {
                world.broker.setup.shards = 1 + life % 2;
            }
            live(&mut world, &mut rng);
            if life == lives {
                finish(&mut world, &data, end);
            } else {
                world.broker.kill();
                old.push(read_tree(&data));
            }
            world.fault();
        }
        let shards = u16::try_from(world.broker.setup.shards).unwrap();
        let tree = read_tree(&data);
        let mut ever = HashSet::new();
        for earlier in &old {
            write_tree(&data, earlier);
            let records = examine(&data).expect("it was not damaged");
            ever.extend(numbered(&records));
        }
        write_tree(&data, &tree);
        let (records, images) = start(&data, shards, Mode::Strict).expect("it is not damaged");
        ever.extend(numbered(&records));
        let floors = floors(&data, &records);
        assert!(records.iter().all(|records| records.len() > 20), "shards were at work");
        Self { end, shards, tree, old, records, images, floors, ever }
    }
}

/// A start, some load.
fn live(world: &mut World, rng: &mut Rng) {
    world.start_broker();
    world.until_served().unwrap();
    world.run(rng.between(300, 600) as u64, Mood::Busy).unwrap();
}

fn finish(world: &mut World, data: &Path, end: End) {
    match end {
        End::Killed => world.broker.kill(),
        End::Stopped => world.broker.stop(),
        // A record of the time of day may fall into the calm.
        End::KilledAtRest => loop {
            pause(CALM_MS);
            world.broker.kill();
            let records = examine(data).expect("it is not damaged");
            let lengths: Vec<usize> = records.iter().map(Vec::len).collect();
            if floors(data, &records) == lengths {
                return;
            }
            world.fault();
            world.start_broker();
            world.until_served().unwrap();
        },
    }
}

fn numbered(records: &[Vec<Seen>]) -> impl Iterator<Item = (u16, Seen)> + '_ {
    let shards = (0..).zip(records);
    shards.flat_map(|(shard, records)| records.iter().map(move |seen| (shard, *seen)))
}

pub(crate) fn seen(record: &Record<'_>) -> Seen {
    let mut hasher = DefaultHasher::new();
    (record.kind, record.body).hash(&mut hasher);
    (record.lsn.0, hasher.finish())
}

/// What stands in the directory, which is not changed.
fn examine(data: &Path) -> Result<Vec<Vec<Seen>>, DirectoryError> {
    let examination = patient(|| Examination::begin(data))?;
    let mut all = Vec::new();
    for shard in 0..examination.shards() {
        let mut records = Vec::new();
        let mut sink = |record: Record<'_>| records.push(seen(&record));
        examination.read(shard, Mode::Strict, &mut sink)?;
        all.push(records);
    }
    Ok(all)
}

/// Takes the lock of the directory. A process that another test starts inherits it for a moment.
pub(crate) fn patient<T>(
    mut take: impl FnMut() -> Result<T, DirectoryError>,
) -> Result<T, DirectoryError> {
    let mut waited_ms = 0;
    loop {
        match take() {
            Err(DirectoryError::InUse { .. }) if waited_ms < END_MS => pause(1),
            other => return other,
        }
        waited_ms += 1;
    }
}

/// A start as the broker makes it, up to where it begins to write: records and state by shard.
pub(crate) fn start(data: &Path, shards: u16, mode: Mode) -> Result<Found, String> {
    let told = |error: DirectoryError| match error.exit_status() {
        65 | 78 => error.to_string(),
        status => format!("exit status {status}: {error}"),
    };
    if patient(|| Relayout::begin(data, shards)).map_err(told)?.is_some() {
        return Err("exit status 0: sessions move to another number of shards".into());
    }
    let directory = patient(|| Directory::open(data, shards)).map_err(told)?;
    let (mut all, mut images) = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let (mut records, mut image, mut fault) = (Vec::new(), Image::default(), None);
        let mut sink = |record: Record<'_>| {
            records.push(seen(&record));
            let place = Place { lsn: record.lsn.0, offset: record.place().at, bytes: 0 };
            match store::decode(record.kind, record.body, Wall { start_ms: 0 }) {
                Ok(Some(decoded)) => image.apply(place, decoded),
                Ok(None) => {}
                Err(why) => fault = Some(format!("{why}")),
            }
        };
        directory.recover(shard, mode, &mut sink).map_err(told)?;
        if let Some(why) = fault {
            return Err(format!("exit status 0: a record without damage cannot be read: {why}"));
        }
        image.finish();
        all.push(records);
        images.push(image);
    }
    Ok((all, images))
}

/// A reader that believes neither commit ring nor manifest about what was durable.
pub(crate) fn start_without_marks(data: &Path) -> Result<Found, String> {
    let examination = patient(|| Examination::begin(data));
    let broker = examination.map_err(|error| error.to_string())?.broker().id;
    let tree = read_tree(data);
    let mut shards: BTreeMap<u16, BTreeMap<u64, Vec<u8>>> = BTreeMap::new();
    let mut manifests = BTreeMap::new();
    for (path, contents) in &tree {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let Some(shard) = folder.to_str().unwrap().strip_prefix("shard-") else { continue };
        let shard: u16 = shard.parse().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.strip_prefix("wal-").and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = number {
            let number = u64::from_str_radix(number, 16).unwrap();
            shards.entry(shard).or_default().insert(number, contents.whole());
        } else if name == "manifest" {
            manifests.insert(shard, contents.whole());
        }
    }
    let mut all = Vec::new();
    for (expected, (shard, segments)) in (0..).zip(shards) {
        if shard != expected || !manifests.contains_key(&shard) {
            return Err(format!("{}: shard {expected} is missing", data.display()));
        }
        let identity = Identity { broker, shard };
        let refused = |what: String| format!("{}: {what}", data.display());
        let bytes = manifests.get(&shard).cloned().unwrap_or_default();
        let newest = manifest::newest(&bytes, &identity);
        let newest = newest.map_err(|fault| refused(fault.to_string()))?;
        let unsure = Manifest { version: 0, batch_no: 0, durable_lsn: Lsn(0), ..newest };
        let unsure = manifest::fresh(&unsure, &identity);
        let heads: Vec<(u64, &[u8])> =
            segments.iter().map(|(n, bytes)| (*n, bytes.get(..BLOCK).unwrap_or(bytes))).collect();
        let Surveyed::Log(found) = log::survey(&identity, &unsure, &ring::fresh(&identity), &heads)
        else {
            return Err(refused("nothing is there".into()));
        };
        let (mut records, mut scan) = (Vec::new(), Scan::new(*found, Mode::Strict));
        while let Some(number) = scan.wanted() {
            let bytes = segments.get(&number).map(Vec::as_slice).unwrap_or_default();
            scan.feed(bytes, &mut |record| records.push(seen(&record)));
        }
        if let Verdict::Corrupt(corruption) = scan.finish().verdict {
            return Err(refused(corruption.to_string()));
        }
        all.push(records);
    }
    let images = vec![Image::default(); all.len()];
    Ok((all, images))
}

/// How many records of each shard its files say are durable, read without the reader's help.
fn floors(data: &Path, records: &[Vec<Seen>]) -> Vec<usize> {
    let tree = read_tree(data);
    let number = |bytes: &[u8], at: usize| -> u64 {
        bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
    };
    let mut floors = Vec::new();
    for (shard, records) in records.iter().enumerate() {
        let name = format!("shard-{shard:04}");
        let mut durable = 0;
        for (path, contents) in &tree {
            if path.parent().and_then(Path::file_name) != Some(name.as_ref()) {
                continue;
            }
            for block in contents.bytes.chunks(BLOCK) {
                durable = durable.max(match block.get(..4) {
                    Some(b"MQCR") => number(block, 0x38),
                    Some(b"MQMF") => number(block, 0x50),
                    Some(b"MQWL") => number(block, 0x20),
                    _ => 0,
                });
            }
        }
        floors.push(records.partition_point(|(lsn, _)| *lsn <= durable));
    }
    floors
}

/// The files that hold state: not the lock, which says who has it, not the quarantine.
pub(crate) fn read_tree(data: &Path) -> Tree {
    let mut tree = Tree::new();
    for path in list(data) {
        let bytes = std::fs::read(data.join(&path)).unwrap();
        tree.insert(path, Contents::of(bytes));
    }
    tree
}

/// Paths of those files.
pub(crate) fn list(data: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(data.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if entry.file_name() != "LOCK" {
                found.insert(path);
            }
        }
    }
    found.retain(|path| !path.starts_with("quarantine"));
    found
}

/// Makes the directory as it was.
pub(crate) fn write_tree(data: &Path, tree: &Tree) {
    let _not_there = std::fs::remove_dir_all(data);
    for (path, contents) in tree {
        write_file(&data.join(path), contents);
    }
}

pub(crate) fn write_file(path: &Path, contents: &Contents) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, &contents.bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(contents.len as u64).unwrap();
}
