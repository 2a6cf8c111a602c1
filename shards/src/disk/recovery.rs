//! What was found in one shard's directory, and the new opening of its log.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{Directory, QUARANTINE, random};
use super::error::DirectoryError;
use super::files::{
    Files, is_full, make_directory, open_file, put_file, read_or_empty, sync_directory,
};
use super::{Durability, Settings, faults, segment_file};
use crate::log::survey::Found;
use crate::log::{
    self, BLOCK_BYTES, BlockFault, Cause, Identity, Log, Loss, Lsn, Manifest, Mode, Record,
    Recovered, Resume, Scan, Verdict,
};

/// Files of one name in the quarantine.
const QUARANTINE_COPIES_MAX: u32 = 10_000;

/// A shard's log after it was read. Nothing in its directory was changed yet.
#[derive(Debug)]
pub struct Recovery {
    data_path: PathBuf,
    shard: u16,
    identity: Identity,
    lock: Arc<File>,
    files: Files,
    resume: Resume,
    verdict: Verdict,
    losses: Vec<Loss>,
    loss_count: u64,
    unused: Vec<u64>,
    foreign: Vec<u64>,
    segments: Vec<u64>,
    drafts: Vec<PathBuf>,
}

impl Directory {
    /// Reads the log of one shard; its records go to `sink` in their order. They count only if
    /// this succeeds. Blocks; holds one segment in memory. Shards may be read at the same time.
    ///
    /// # Errors
    /// Why it cannot be used, with `mode` [`Mode::Strict`] any damage to acknowledged data too.
    pub fn recover(
        &self,
        shard: u16,
        mode: Mode,
        sink: &mut impl FnMut(Record<'_>),
    ) -> Result<Recovery, DirectoryError> {
        let path = self.shard_path(shard);
        let identity = self.identity(shard);
        let files = Files::new(path.clone(), self.direct);
        let fail = |error| DirectoryError::io("read", &path, error);
        let (segments, drafts) = list(&path).map_err(fail)?;
        let recovered = scan(&files, &identity, self.shards, (mode, sink)).map_err(fail)?;
        let Some(mut resume) = recovered.resume else {
            return Err(refusal(path, &recovered.verdict));
        };
        // A lost manifest does not say it; those of the other shards do.
        resume.manifest.shards = self.shards;
        Ok(Recovery {
            data_path: self.path.clone(),
            shard,
            identity,
            lock: Arc::clone(&self.lock),
            files,
            resume,
            verdict: recovered.verdict,
            losses: recovered.losses,
            loss_count: recovered.loss_count,
            unused: recovered.unused,
            foreign: recovered.foreign,
            segments,
            drafts,
        })
    }
}

impl Recovery {
    /// What was found.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What was left out; only with [`Mode::Salvage`], at most 1024.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// How many there are.
    pub fn loss_count(&self) -> u64 {
        self.loss_count
    }

    /// Last record that was recovered; 0 if none.
    pub fn last_lsn(&self) -> Lsn {
        self.resume.last_lsn
    }

    /// Was the log closed in order?
    pub(super) fn is_closed(&self) -> bool {
        self.resume.manifest.closed
    }

    /// Where the records lie that were recovered.
    pub(super) fn index(&self) -> &log::Index {
        &self.resume.index
    }

    /// Number of the next record.
    pub fn next_lsn(&self) -> Lsn {
        self.resume.next_lsn
    }

    /// Leaves out all numbers up to this one.
    pub fn raise_next_lsn(&mut self, lsn: Lsn) {
        self.resume.next_lsn = self.resume.next_lsn.max(lsn);
    }

    /// Opens the log anew. When this returns, everything that was recovered is on stable storage,
    /// what was cut off is in `quarantine/`, and records can be appended. Blocks.
    ///
    /// If the disk has no room for a segment and none is ready, a log that was used before is given
    /// all the same: what it holds can be read, what is appended is not durable before there is
    /// room, and what was cut off stays in its directory until the next start.
    ///
    /// # Errors
    /// Why that could not be done; for a new log that there is no room. The directory can be
    /// recovered again.
    ///
    /// # Panics
    /// If [`Settings::fault`] has found one.
    pub fn begin(mut self, settings: &Settings) -> Result<Opened, DirectoryError> {
        assert!(settings.fault().is_none(), "the settings were checked");
        let path = self.files.path.clone();
        let fail = |action, error| DirectoryError::io(action, &path, error);
        faults::point("recover.tidy");
        self.remove_drafts().map_err(|error| fail("remove a draft in", error))?;
        if !self.files.direct {
            self.copy_believed().map_err(|error| fail("copy what was read in", error))?;
        }
        let tidied = self.tidy(settings).map_err(|error| fail("tidy up", error))?;
        let epoch = self.draw_epoch().map_err(|error| fail("draw the epoch for", error))?;
        self.open_files().map_err(|error| fail("open", error))?;
        let of_log = settings.of_log(self.identity);
        let mut log = Log::open(of_log, &self.resume, epoch);
        // With a spare segment it is known whether there is room for what comes.
        while !log.is_open() || log.spares() == 0 {
            let operation = log.next().expect("a log without a segment has something to do");
            let outcome = self.files.perform(&operation);
            log.complete(operation, outcome);
            if let Some(failure) = log.failure() {
                let error = io::Error::from_raw_os_error(failure.errno.unwrap_or(libc::EIO));
                return Err(fail("open the log in", error));
            }
            let Some(errno) = log.prepare_error() else { continue };
            let error = io::Error::from_raw_os_error(errno);
            let usable = self.resume.last_segment.is_some() && is_full(&error);
            if !log.is_open() && !usable {
                return Err(fail("open the log in", error));
            }
            let shard = self.shard;
            tracing::warn!(shard, %error, "no further log segment can be made; it is tried again");
            break;
        }
        faults::point("recover.clear");
        if log.is_open() {
            self.clear_away(&tidied).map_err(|error| fail("move what is unused from", error))?;
        }
        let Recovery { shard, lock, files, .. } = self;
        Ok(Opened { shard, lock, files, log, durability: settings.durability })
    }

    /// Writes anew, and syncs, what a sync that failed may have left in the page cache alone: the
    /// kernel shows it as if it were stored and would not write it again. What came before the last
    /// segment was durable before that was begun.
    fn copy_believed(&mut self) -> io::Result<()> {
        let last = self.resume.last_segment.map(log::File::Segment);
        for file in [log::File::Manifest, log::File::Ring].into_iter().chain(last) {
            let path = self.files.path_of(file);
            let bytes = read_or_empty(&path)?;
            if bytes.is_empty() {
                continue;
            }
            match put_file(&self.files.path, &file.to_string(), &bytes) {
                // The same bytes in their own place: no room is needed.
                Err(error) if is_full(&error) => {
                    self.drafts.push(self.files.path.join(format!("{file}.tmp")));
                    self.remove_drafts()?;
                    let file = open_file(&path, false, false)?;
                    file.write_all_at(&bytes, 0)?;
                    file.sync_all()?;
                }
                copied => copied?,
            }
        }
        Ok(())
    }

    /// Removes what a process that ended had begun to write.
    fn remove_drafts(&mut self) -> io::Result<()> {
        for draft in self.drafts.drain(..) {
            match fs::remove_file(draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what was released, so that there is room; moves foreign files away, whose names
    /// might be used again. Gives the unused segments that are not just zeros.
    fn tidy(&mut self, settings: &Settings) -> io::Result<Vec<u64>> {
        self.remove_released()?;
        let foreign = std::mem::take(&mut self.foreign);
        self.quarantine(&foreign)?;
        let (mut cut, mut bytes) = (Vec::new(), Vec::new());
        for number in std::mem::take(&mut self.unused) {
            let path = self.files.path_of(log::File::Segment(number));
            let length = segment_file::read(&path, Mode::Strict, &mut bytes)?;
            let whole = length == settings.segment_bytes;
            if whole && segment_file::is_zero(&bytes) && number < self.resume.next_segment {
                self.resume.spares.push(number);
            } else {
                cut.push(number);
            }
        }
        sync_directory(&self.files.path)?;
        Ok(cut)
    }

    fn draw_epoch(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        loop {
            random(&mut bytes)?;
            let epoch = u64::from_le_bytes(bytes);
            if epoch != 0 && epoch != self.resume.manifest.epoch {
                return Ok(epoch);
            }
        }
    }

    fn open_files(&mut self) -> io::Result<()> {
        for (file, blocks) in [(log::File::Ring, 64), (log::File::Manifest, 2)] {
            if !self.files.path_of(file).exists() {
                // Only after the operator accepted the loss, or before anything was written.
                let zeros = vec![0; blocks * BLOCK_BYTES];
                super::files::put_file(&self.files.path, &file.to_string(), &zeros)?;
            }
            self.files.open(file)?;
        }
        let segments = self.resume.last_segment.iter().chain(&self.resume.spares);
        for number in segments.copied().collect::<Vec<_>>() {
            self.files.open(log::File::Segment(number))?;
        }
        Ok(())
    }

    /// Removes the segments before the one where reading begins.
    fn remove_released(&self) -> io::Result<()> {
        if matches!(self.verdict, Verdict::Corrupt(_)) {
            return Ok(());
        }
        let first = self.resume.manifest.first_segment;
        let known: BTreeSet<u64> =
            self.resume.index.segments().map(|segment| segment.number).collect();
        let numbers = self.segments.iter().filter(|number| **number < first);
        let needless = |number: &&u64| !known.contains(number) && !self.unused.contains(number);
        let mut released = numbers.filter(needless).peekable();
        if released.peek().is_some() {
            // Else a crash could bring back the manifest before, which needs them.
            File::open(self.files.path_of(log::File::Manifest))?.sync_data()?;
        }
        released
            .try_for_each(|number| fs::remove_file(self.files.path_of(log::File::Segment(*number))))
    }

    /// The opening is durable: what it cut off is moved away.
    fn clear_away(&mut self, cut: &[u64]) -> io::Result<()> {
        match self.quarantine(cut) {
            // They harm nobody where they are: no log goes on in them any more.
            Err(error) if is_full(&error) => {
                tracing::warn!(shard = self.shard, %error, "segments that no log needs stay");
            }
            moved => moved?,
        }
        Ok(())
    }

    fn quarantine(&self, numbers: &[u64]) -> io::Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let quarantine = self.data_path.join(QUARANTINE);
        make_directory(&quarantine, true)?;
        for &number in numbers {
            let file = log::File::Segment(number);
            let name = format!("shard-{:04}-{file}", self.shard);
            let target = (0..QUARANTINE_COPIES_MAX)
                .map(|copy| match copy {
                    0 => quarantine.join(&name),
                    _ => quarantine.join(format!("{name}.{copy}")),
                })
                .find(|target| !target.exists());
            let target = target.ok_or(io::ErrorKind::AlreadyExists)?;
            tracing::warn!(file = %target.display(), "moved away what no log needs");
            fs::rename(self.files.path_of(file), target)?;
            faults::point("recover.quarantine");
        }
        sync_directory(&quarantine)?;
        sync_directory(&self.files.path)?;
        sync_directory(&self.data_path)
    }
}

/// A log that may be given to a shard.
#[derive(Debug)]
pub struct Opened {
    pub(super) shard: u16,
    pub(super) lock: Arc<File>,
    pub(super) files: Files,
    pub(super) log: Log,
    pub(super) durability: Durability,
}

pub(super) fn refusal(path: PathBuf, verdict: &Verdict) -> DirectoryError {
    let Verdict::Corrupt(corruption) = verdict else {
        return DirectoryError::Missing { path: path.join(log::File::Manifest.to_string()) };
    };
    if let Cause::Block(BlockFault::Format(format))
    | Cause::Batch(log::batch::BatchFault::Format(format)) = corruption.cause
    {
        return DirectoryError::Newer { path: path.join(corruption.file.to_string()), format };
    }
    DirectoryError::Damaged { path, corruption: Box::new(*corruption) }
}

/// Reads the log of one shard; changes nothing.
pub(super) fn scan(
    files: &Files,
    identity: &Identity,
    shards: u16,
    (mode, sink): (Mode, &mut impl FnMut(Record<'_>)),
) -> io::Result<Recovered> {
    let (segments, _) = list(&files.path)?;
    let manifest = read_or_empty(&files.path_of(log::File::Manifest))?;
    let ring = read_or_empty(&files.path_of(log::File::Ring))?;
    let mut heads = Vec::with_capacity(segments.len());
    for number in segments {
        let mut head = Vec::with_capacity(BLOCK_BYTES);
        let file = File::open(files.path_of(log::File::Segment(number)))?;
        file.take(log::offset(BLOCK_BYTES)).read_to_end(&mut head)?;
        heads.push((number, head));
    }
    let begun = |(_, head): &&(u64, Vec<u8>)| !segment_file::is_zero(head);
    let begun: Vec<u64> = heads.iter().filter(begun).map(|(number, _)| *number).collect();
    let heads: Vec<_> = heads.iter().map(|(number, head)| (*number, head.as_slice())).collect();
    let Found::Log(survey) = log::survey(identity, &manifest, &ring, &heads) else {
        let manifest = Manifest::fresh(shards, 2);
        return Ok(nothing_there(Resume::fresh(manifest)));
    };
    let mut scan = Scan::new(*survey, mode);
    let (mut bytes, mut read, mut length) = (Vec::new(), None, 0);
    while let Some(number) = scan.wanted() {
        if read != Some(number) {
            faults::point("recover.read");
            let path = files.path_of(log::File::Segment(number));
            length = segment_file::read(&path, mode, &mut bytes)?;
            read = Some(number);
            if let Some(next) = begun.iter().find(|next| **next > number) {
                segment_file::expect(&files.path_of(log::File::Segment(*next)));
            }
        }
        scan.feed_part(&bytes, length, sink);
    }
    // A segment of 64 MiB is more than many a broker needs while it runs.
    drop(bytes);
    crate::sys::give_memory_back();
    Ok(scan.finish())
}

fn nothing_there(resume: Resume) -> Recovered {
    Recovered {
        verdict: Verdict::Clean,
        resume: Some(resume),
        losses: Vec::new(),
        loss_count: 0,
        unused: Vec::new(),
        foreign: Vec::new(),
    }
}

/// Numbers of the segments, rising, and drafts.
pub(super) fn list(path: &Path) -> io::Result<(Vec<u64>, Vec<PathBuf>)> {
    let (mut segments, mut drafts) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.strip_suffix(".tmp").is_some() {
            drafts.push(entry.path());
            continue;
        }
        let number = name.strip_prefix("wal-").and_then(|name| name.strip_suffix(".seg"));
        let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
        // Only as it is written: no second name stands for the same number.
        segments.extend(number.filter(|number| log::File::Segment(*number).to_string() == name));
    }
    segments.sort_unstable();
    Ok((segments, drafts))
}
