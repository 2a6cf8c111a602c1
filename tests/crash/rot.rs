//! Rot: something changes in the files of a broker that is not running. The next start has all that
//! was acknowledged, or refuses and says where the damage is.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use shards::disk::{Directory, OfflineLog, Settings};
use shards::log::Mode;

use crate::rng::Rng;
use crate::sample::{
    Contents, End, Found, Sample, Seen, list, patient, start, start_without_marks, write_file,
    write_tree,
};

const BLOCK: usize = shards::log::BLOCK_BYTES;

/// Changes of one set of directories; then a broker makes new ones.
const CASES_PER_SET: usize = 5_000;

/// Of so many refused starts, and of so many that are not, one goes on.
const GOES_ON: usize = 16;

/// What a change did: the files it touched, and words.
struct Change {
    touched: Vec<PathBuf>,
    what: String,
}

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is there.
    Full,
    /// A tail that was not acknowledged is not.
    Cut,
    Refused,
}

/// Where files are changed: in memory, if the host has a file system there.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")))
        .unwrap()
}

/// Changes something in one file, or in the files of the directory.
fn change(sample: &Sample, data: &Path, rng: &mut Rng) -> Change {
    let paths: Vec<&PathBuf> = sample.tree.keys().collect();
    let path = (*rng.pick(&paths)).clone();
    let other = (*rng.pick(&paths)).clone();
    let contents = &sample.tree[&path];
    let put = |path: &Path, contents: &Contents| write_file(&data.join(path), contents);
    let (name, other_name) = (path.display().to_string(), other.display().to_string());
    match rng.below(16) {
        0..8 => {
            let mut bytes = contents.whole();
            let what = change_bytes(&mut bytes, contents.bytes.len(), rng);
            put(&path, &Contents::of(bytes));
            Change { touched: vec![path], what: format!("{name}: {what}") }
        }
        8 => {
            put(&path, &sample.tree[&other]);
            put(&other, contents);
            let what = format!("{name} and {other_name} swapped");
            Change { touched: vec![path, other], what }
        }
        9 => {
            put(&path, &sample.tree[&other]);
            Change { touched: vec![path], what: format!("{other_name} copied over {name}") }
        }
        10 => {
            std::fs::remove_file(data.join(&path)).unwrap();
            Change { touched: vec![path], what: format!("{name} deleted") }
        }
        11 => {
            // A segment under a number of its own, before or after the others, or in another shard.
            let number = rng.pick(&[1, 2, 3, 5, 20, 200]);
            let copy = other.with_file_name(format!("wal-{number:016x}.seg"));
            put(&copy, contents);
            let what = format!("{name} copied to {}", copy.display());
            Change { touched: vec![copy], what }
        }
        12..15 => {
            let old = rng.pick(&sample.old);
            let Some((path, contents)) = older(old, sample, rng) else {
                return change(sample, data, rng);
            };
            put(&path, &contents);
            let what = format!("an old {} restored", path.display());
            Change { touched: vec![path], what }
        }
        _ => {
            let folder = path.parent().unwrap().to_owned();
            if folder.as_os_str().is_empty() {
                return change(sample, data, rng);
            }
            std::fs::remove_dir_all(data.join(&folder)).unwrap();
            let inside = paths.into_iter().filter(|path| path.starts_with(&folder));
            let what = format!("{} deleted", folder.display());
            Change { touched: inside.cloned().collect(), what }
        }
    }
}

/// A file of an earlier life that is not the same now.
fn older(
    old: &BTreeMap<PathBuf, Contents>,
    sample: &Sample,
    rng: &mut Rng,
) -> Option<(PathBuf, Contents)> {
    let differ =
        |(path, contents): &(&PathBuf, &Contents)| sample.tree.get(*path) != Some(contents);
    let all: Vec<_> = old.iter().filter(differ).collect();
    if all.is_empty() {
        return None;
    }
    let (path, contents) = *rng.pick(&all);
    Some((path.clone(), contents.clone()))
}

/// Changes a file; `written` bytes of it are not just zeros.
fn change_bytes(bytes: &mut Vec<u8>, written: usize, rng: &mut Rng) -> String {
    if bytes.is_empty() {
        // A segment that was being made.
        bytes.push(1);
        return "a byte put in".to_owned();
    }
    // What follows is zeros in most files: aim at what was written.
    let aim = if rng.chance(900) { written } else { bytes.len() };
    let at = rng.below(aim.max(1)).min(bytes.len().saturating_sub(1));
    let end = bytes.len().min(at + rng.spread(1, 0x3000));
    let blocks = (aim / BLOCK).max(1);
    let (one, two) = (rng.below(blocks) * BLOCK, rng.below(blocks) * BLOCK);
    let length = BLOCK * rng.between(1, 3);
    let fits = one.max(two) + length <= bytes.len();
    match rng.below(8) {
        0 | 1 => {
            let bit = rng.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at:#x} flipped")
        }
        2 => {
            bytes[at..end].fill(0);
            format!("bytes {at:#x}..{end:#x} zeroed")
        }
        3 => {
            bytes.truncate(at);
            format!("cut to {at:#x} bytes")
        }
        4 if fits && one != two => {
            let block = bytes[one..one + BLOCK].to_vec();
            bytes.copy_within(two..two + BLOCK, one);
            bytes[two..two + BLOCK].copy_from_slice(&block);
            format!("blocks at {one:#x} and {two:#x} swapped")
        }
        5 if fits && one != two => {
            bytes.copy_within(one..one + length, two);
            format!("{length:#x} bytes at {one:#x} copied to {two:#x}")
        }
        6 if rng.chance(500) => {
            let byte = u8::try_from(rng.below(256)).unwrap();
            bytes.insert(at, byte);
            format!("a byte put in at {at:#x}")
        }
        6 => {
            bytes.remove(at);
            format!("the byte at {at:#x} taken out")
        }
        _ => {
            for byte in &mut bytes[at..end] {
                *byte = u8::try_from(rng.below(256)).unwrap();
            }
            format!("bytes {at:#x}..{end:#x} overwritten with noise")
        }
    }
}

/// A start on a changed directory.
type Start = fn(&Path, u16) -> Result<Found, String>;

/// The start of the broker.
fn real(data: &Path, shards: u16) -> Result<Found, String> {
    start(data, shards, Mode::Strict)
}

/// Is what was acknowledged there, or is it said what is wrong?
fn judge(sample: &Sample, data: &Path, start: Start) -> Result<Outcome, String> {
    let started = catch_unwind(AssertUnwindSafe(|| start(data, sample.shards)));
    let (mut all, images) = match started.map_err(|_| "the start panics")? {
        Ok(found) => found,
        Err(text) => return is_told(&text, data).map(|()| Outcome::Refused),
    };
    let mut outcome = Outcome::Full;
    for (shard, records) in all.iter_mut().enumerate() {
        if is_unreleased(sample, shard, records) && images[shard] != sample.images[shard] {
            return Err(format!("shard {shard}: released records change what holds"));
        }
        let (whole, floor) = (&sample.records[shard], sample.floors[shard]);
        let same = whole.iter().zip(&*records).take_while(|(a, b)| a == b).count();
        if same < records.len() {
            return Err(format!("shard {shard}: record {same} is not what was written there"));
        }
        if same < floor {
            let count = whole.len();
            return Err(format!("shard {shard}: {same} of {count} records, {floor} acknowledged"));
        }
        if same < whole.len() {
            outcome = Outcome::Cut;
        }
    }
    Ok(outcome)
}

/// Cuts off the records before the usual first one. If the newer block of the manifest is lost, the
/// other one may name a segment that was released and still lies there: the log is then what it was
/// before, and says the same.
fn is_unreleased(sample: &Sample, shard: usize, records: &mut Vec<Seen>) -> bool {
    let first = sample.records[shard].first();
    let Some(at) = records.iter().position(|seen| Some(seen) == first) else { return false };
    let number = u16::try_from(shard).unwrap();
    let known = records.drain(..at).all(|seen| sample.ever.contains(&(number, seen)));
    at > 0 && known
}

/// A refusal names the file, and the byte if it is about a part of it.
fn is_told(text: &str, data: &Path) -> Result<(), String> {
    let damaged = text.contains("acknowledged records");
    let told = text.contains(&data.display().to_string())
        && (!damaged || text.contains(" at byte 0x"))
        && !text.starts_with("exit status");
    if told { Ok(()) } else { Err(format!("the refusal says too little: {text}")) }
}

/// What the operator may order instead: nothing is made up, whatever is left out.
fn judge_orders(sample: &Sample, data: &Path) -> Result<(), String> {
    for mode in [Mode::PointInTime, Mode::Salvage] {
        let started = catch_unwind(AssertUnwindSafe(|| start(data, sample.shards, mode)));
        let Ok((records, _)) = started.map_err(|_| format!("{mode:?} panics"))? else { continue };
        for (shard, records) in (0..).zip(&records) {
            if let Some(seen) = records.iter().find(|seen| !sample.ever.contains(&(shard, **seen)))
            {
                return Err(format!("{mode:?}: shard {shard}: record {} is invented", seen.0));
            }
        }
    }
    Ok(())
}

/// The logs are opened anew: what the start found is what the next one finds, without an order.
fn goes_on(sample: &Sample, data: &Path, mode: Mode) -> Result<(), String> {
    let Ok((before, _)) = start(data, sample.shards, mode) else { return Ok(()) };
    let settings = Settings {
        segment_bytes: 64 << 10,
        batch_bytes_max: 28 << 10,
        spares: 1,
        ..Settings::default()
    };
    let words = |error: &dyn std::fmt::Display| format!("{mode:?}, going on: {error}");
    let directory = patient(|| Directory::open(data, sample.shards));
    let directory = directory.map_err(|error| words(&error))?;
    for shard in 0..sample.shards {
        let recovery = directory.recover(shard, mode, &mut |_| {});
        let opened = recovery.and_then(|recovery| recovery.begin(&settings));
        let closed = opened.and_then(|opened| OfflineLog::from(opened).close());
        closed.map_err(|error| words(&error))?;
    }
    drop(directory);
    let (after, _) = start(data, sample.shards, Mode::Strict).map_err(|error| words(&error))?;
    if before == after { Ok(()) } else { Err(words(&"the next start finds something else")) }
}

/// Puts back what was changed, and takes away what was made.
fn undo(sample: &Sample, data: &Path, change: &Change) {
    for path in &change.touched {
        match sample.tree.get(path) {
            Some(contents) => write_file(&data.join(path), contents),
            None => std::fs::remove_file(data.join(path)).unwrap_or_default(),
        }
    }
    let there: BTreeSet<PathBuf> = list(data);
    if !there.iter().eq(sample.tree.keys()) {
        write_tree(data, &sample.tree);
    }
}

type Counts = BTreeMap<Outcome, usize>;

/// Changes one directory so many times. Counts outcomes, or gives the first finding.
fn run(sample: &Sample, (seed, cases): (u64, usize), start: Start) -> Result<Counts, String> {
    let (folder, mut rng, mut counts) = (folder(), Rng::new(seed, "rot"), Counts::new());
    let data = folder.path().join("data");
    write_tree(&data, &sample.tree);
    let whole = judge(sample, &data, start);
    assert_eq!(whole, Ok(Outcome::Full), "without a change");
    for case in 0..cases {
        let change = change(sample, &data, &mut rng);
        let judged = judge(sample, &data, start).and_then(|outcome| {
            let refused = outcome == Outcome::Refused;
            if refused {
                judge_orders(sample, &data)?;
            }
            if case % GOES_ON == 0 {
                let orders = [Mode::PointInTime, Mode::Salvage];
                let mode = if refused { *rng.pick(&orders) } else { Mode::Strict };
                goes_on(sample, &data, mode)?;
                write_tree(&data, &sample.tree);
            }
            Ok(outcome)
        });
        let told = |text| {
            let (end, what) = (sample.end, &change.what);
            format!("CRASH_SEED={seed} {end:?} case {case}: {what}: {text}")
        };
        *counts.entry(judged.map_err(told)?).or_default() += 1;
        undo(sample, &data, &change);
    }
    Ok(counts)
}

const KINDS: &[(End, bool)] = &[
    (End::Stopped, false),
    (End::Stopped, true),
    (End::KilledAtRest, false),
    (End::KilledAtRest, true),
    (End::Killed, false),
];

/// Makes one directory of each kind and changes each so many times.
fn set(seed: u64, cases: usize) -> Counts {
    let mut counts = Counts::new();
    std::thread::scope(|scope| {
        let one = |(end, moved): (End, bool)| {
            scope.spawn(move || run(&Sample::make(seed, end, moved), (seed, cases), real))
        };
        let threads: Vec<_> = KINDS.iter().copied().map(one).collect();
        for thread in threads {
            let found = thread.join().unwrap();
            for (outcome, count) in found.unwrap_or_else(|text| panic!("{text}")) {
                *counts.entry(outcome).or_default() += count;
            }
        }
    });
    counts
}

#[test]
fn rot_is_refused_or_harmless() {
    if crate::needs_durability() {
        return;
    }
    let first: u64 = crate::setting("CRASH_SEED", 1);
    let wanted: usize = crate::setting("CRASH_ROT", 2_000);
    let (mut total, mut seed) = (Counts::new(), first);
    while total.values().sum::<usize>() < wanted {
        let left = wanted - total.values().sum::<usize>();
        for (outcome, count) in set(seed, left.min(CASES_PER_SET).div_ceil(KINDS.len())) {
            *total.entry(outcome).or_default() += count;
        }
        println!("CRASH_SEED={seed} changes so far: {total:?}");
        seed += 1;
    }
    assert!([Outcome::Full, Outcome::Refused].iter().all(|one| total.contains_key(one)));
}

/// The judge is judged: readers that cut at damage, leave it out, or do not look at what was marked
/// as durable, are found to lose what was acknowledged.
#[test]
fn a_reader_that_ignores_a_check_is_seen() {
    if crate::needs_durability() {
        return;
    }
    let cut: Start = |data, shards| start(data, shards, Mode::PointInTime);
    let leave_out: Start = |data, shards| start(data, shards, Mode::Salvage);
    let no_marks: Start = |data, _| start_without_marks(data);
    let sample = Sample::make(1, End::KilledAtRest, false);
    for (name, start) in [("cut", cut), ("leave out", leave_out), ("no marks", no_marks)] {
        let found = run(&sample, (1, 5_000), start).expect_err(name);
        println!("{name}: {found}");
        // Which change strikes first depends on where the log stood when it was killed.
        let looks = ["acknowledged", "released records"].iter().any(|text| found.contains(text));
        assert!(looks || name == "leave out", "{name}: {found}");
    }
}
