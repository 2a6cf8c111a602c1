//! Another number of shards: new logs beside the old ones, and one switch.
//!
//! Promise: before [`Relayout::switch`] the old logs are what a start finds, unchanged; after it
//! the new ones, whole and on stable storage. The old ones are removed at the next start.
//! Not here: what goes into which new log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::error::DirectoryError;
use super::files::{make_directory, sync_directory};
use super::layout::Layout;
use super::offline::OfflineLog;
use super::recovery::Recovery;
use super::{Settings, faults};
use crate::log::{self, Fetch, Mode, Place, ReadFault, Record, StoredRecord, Verdict};

/// A data directory on its way to another number of shards. Everything blocks.
#[derive(Debug)]
pub struct Relayout {
    old: Directory,
    new: Directory,
    layout: Layout,
    /// By old shard, as far as they were read.
    recoveries: Vec<Recovery>,
    /// The segment that was read last: shard, number.
    open: Option<(u16, u64, File)>,
}

impl Relayout {
    /// Takes a directory that was written with another number of shards; `None` if it was not:
    /// then [`Directory::open`] is next. What an earlier try left is removed.
    ///
    /// # Errors
    /// Why it cannot be used.
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn begin(path: &Path, shards: u16) -> Result<Option<Relayout>, DirectoryError> {
        assert!(shards > 0, "an engine has shards");
        let old = match Directory::open(path, shards) {
            Err(DirectoryError::Shards { written, .. }) => Directory::open(path, written)?,
            other => return other.map(|_| None),
        };
        let layout = old.layout.next();
        let base = layout.base(path);
        make_directory(&base, false).map_err(|error| DirectoryError::io("create", &base, error))?;
        let new = old.beside(layout, shards)?;
        faults::point("move.begun");
        let recoveries = Vec::new();
        Ok(Some(Relayout { old, new, layout, recoveries, open: None }))
    }

    /// The old directory.
    pub fn old(&self) -> &Directory {
        &self.old
    }

    /// With how many shards it was written.
    pub fn old_shards(&self) -> u16 {
        self.old.shards
    }

    /// Reads the logs of all old shards; `sink` gets the shard of each record.
    ///
    /// # Errors
    /// Any damage to acknowledged data: to be dealt with before the number of shards is changed.
    pub fn recover(
        &mut self,
        sink: &mut impl FnMut(u16, Record<'_>),
    ) -> Result<(), DirectoryError> {
        self.recoveries.clear();
        for shard in 0..self.old.shards {
            let mut sink = |record: Record<'_>| sink(shard, record);
            self.recoveries.push(self.old.recover(shard, Mode::Strict, &mut sink)?);
        }
        Ok(())
    }

    /// Reads one record of an old log back.
    ///
    /// # Errors
    /// It cannot be read, or is none that [`Relayout::recover`] has read.
    pub fn fetch(&mut self, shard: u16, place: Place) -> Result<StoredRecord, DirectoryError> {
        let path = self.old.shard_path(shard);
        let fault = |fault: ReadFault| DirectoryError::io("read", &path, io::Error::other(fault));
        let recovery = self.recoveries.get(usize::from(shard));
        let index = recovery.ok_or_else(|| fault(ReadFault::Gone))?.index();
        let mut fetch = Fetch::begin_in(index, place).map_err(fault)?;
        loop {
            faults::point("move.read");
            let extent = fetch.wanted();
            let segment = extent.segment;
            let open = match self.open.take() {
                Some(open) if (open.0, open.1) == (shard, segment) => Ok(open.2),
                Some(_) | None => File::open(path.join(log::File::Segment(segment).to_string())),
            };
            let mut bytes = vec![0; extent.bytes];
            let read = open.and_then(|file| {
                file.read_exact_at(&mut bytes, extent.offset)?;
                Ok(file)
            });
            let file = read.map_err(|error| DirectoryError::io("read", &path, error))?;
            self.open = Some((shard, segment, file));
            if let Some(record) = fetch.feed_in(index, &bytes).map_err(fault)? {
                return Ok(record);
            }
        }
    }

    /// The new log of a shard. It is whole when it was closed.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn log(&self, shard: u16, settings: &Settings) -> Result<OfflineLog, DirectoryError> {
        let recovery = self.new.recover(shard, Mode::Strict, &mut |_| {})?;
        recovery.begin(settings).map(OfflineLog::from)
    }

    /// Reads all new logs again, and makes them those that hold.
    ///
    /// # Errors
    /// The old ones hold on.
    pub fn switch(self) -> Result<(), DirectoryError> {
        for shard in 0..self.new.shards {
            faults::point("move.check");
            let recovery = self.new.recover(shard, Mode::Strict, &mut |_| {})?;
            if !recovery.is_closed() || *recovery.verdict() != Verdict::Clean {
                return Err(DirectoryError::Missing { path: self.new.shard_path(shard) });
            }
        }
        let base = self.layout.base(&self.old.path);
        sync_directory(&base).map_err(|error| DirectoryError::io("sync", &base, error))?;
        let path = &self.old.path;
        faults::point("move.switch");
        self.layout.put(path).map_err(|error| DirectoryError::io("switch layout of", path, error))
    }
}

impl Directory {
    /// The directories of another layout, under the same lock.
    fn beside(&self, layout: Layout, shards: u16) -> Result<Directory, DirectoryError> {
        let new = Directory {
            path: self.path.clone(),
            base: layout.base(&self.path),
            lock: Arc::clone(&self.lock),
            direct: self.direct,
            shards,
            broker: self.broker,
            layout,
        };
        new.make_shards()?;
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Examination;
    use std::fs;

    const SETTINGS: Settings = Settings {
        durability: super::super::Durability::Fsync,
        segment_bytes: 1 << 18,
        batch_bytes_max: 1 << 16,
        pending_bytes_max: 1 << 20,
        spares: 1,
    };

    /// A directory with so many shards; the log of each says its number in 30 records.
    fn written(path: &Path, shards: u16) {
        let directory = Directory::open(path, shards).expect("it can be made");
        for shard in 0..shards {
            let recovery = directory.recover(shard, Mode::Strict, &mut |_| {}).expect("nothing");
            let mut log = OfflineLog::from(recovery.begin(&SETTINGS).expect("a log"));
            for n in 0..30 {
                log.append(n, format!("{shard} of {shards}").repeat(5000).as_bytes())
                    .expect("room");
            }
            log.close().expect("an end");
        }
    }

    /// What a start with so many shards finds: shard and length of each record.
    fn found(path: &Path, shards: u16) -> Result<Vec<(u16, usize)>, DirectoryError> {
        let directory = Directory::open(path, shards)?;
        let mut found = Vec::new();
        for shard in 0..shards {
            let mut sink = |record: Record<'_>| found.push((shard, record.body.len()));
            directory.recover(shard, Mode::Strict, &mut sink)?;
        }
        Ok(found)
    }

    /// Copies every second record of all old logs into each new one, reading it back.
    fn copy(relayout: &mut Relayout, shards: u16) {
        let mut places = Vec::new();
        let mut sink = |shard, record: Record<'_>| {
            if record.kind.is_multiple_of(2) {
                places.push((shard, record.place(), record.body.to_vec()));
            }
        };
        relayout.recover(&mut sink).expect("whole logs");
        for shard in 0..shards {
            let mut log = relayout.log(shard, &SETTINGS).expect("a log");
            for (old_shard, place, body) in &places {
                let record = relayout.fetch(*old_shard, *place).expect("it was read before");
                assert_eq!(record.body, *body);
                log.append(record.kind, &record.body).expect("room");
            }
            log.close().expect("an end");
        }
    }

    #[test]
    fn the_new_logs_hold_after_the_switch() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 2);
        assert!(Relayout::begin(path, 2).expect("it can be read").is_none());
        for (round, (before, after)) in [(2, 3), (3, 1)].into_iter().enumerate() {
            let mut relayout =
                Relayout::begin(path, after).expect("it can be read").expect("other");
            assert_eq!(relayout.old_shards(), before);
            copy(&mut relayout, after);
            relayout.switch().expect("whole logs");
            let examination = Examination::begin(path).expect("it can be read");
            assert_eq!(examination.shards(), after);
            drop(examination);
            let count = found(path, after).expect("whole logs").len();
            assert_eq!(count, 90);
            // The old ones are gone.
            assert!(!path.join("shard-0000").exists());
            assert_eq!(path.join("layout-1").exists(), round == 0);
        }
        assert!(matches!(found(path, 2), Err(DirectoryError::Shards { written: 1, .. })));
    }

    #[test]
    fn until_the_switch_the_old_logs_hold() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 2);
        let before = found(path, 2).expect("whole logs");
        for closed in [false, true] {
            let mut relayout = Relayout::begin(path, 3).expect("it can be read").expect("other");
            if closed {
                copy(&mut relayout, 3);
                drop(relayout);
            } else {
                // One log is begun and another is not.
                relayout.recover(&mut |_, _| {}).expect("whole logs");
                relayout.log(0, &SETTINGS).expect("a log").append(1, b"x").expect("room");
                let refused = relayout.switch().expect_err("it was not closed");
                assert!(matches!(refused, DirectoryError::Missing { .. }), "{refused}");
            }
            assert!(path.join("layout-1").exists());
            assert_eq!(found(path, 2).expect("whole logs"), before);
            assert!(!path.join("layout-1").exists(), "the next start removes it");
        }
    }

    #[test]
    fn a_lost_switch_is_noticed() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 1);
        let mut relayout = Relayout::begin(path, 2).expect("it can be read").expect("other");
        copy(&mut relayout, 2);
        relayout.switch().expect("whole logs");
        found(path, 2).expect("whole logs");
        fs::remove_file(path.join("layout")).expect("it is there");
        assert!(matches!(found(path, 2), Err(DirectoryError::Missing { .. })));
        fs::write(path.join("layout"), b"MQLY").expect("it can be written");
        assert!(matches!(found(path, 2), Err(DirectoryError::Missing { .. })));
    }

    #[test]
    fn an_old_switch_removes_nothing() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 1);
        let mut old = Vec::new();
        for shards in [2, 1] {
            let mut relayout =
                Relayout::begin(path, shards).expect("it can be read").expect("other");
            copy(&mut relayout, shards);
            relayout.switch().expect("whole logs");
            found(path, shards).expect("whole logs");
            old.push(fs::read(path.join("layout")).expect("it is there"));
        }
        fs::write(path.join("layout"), &old[0]).expect("it can be written");
        assert!(matches!(found(path, 1), Err(DirectoryError::Missing { .. })));
        fs::write(path.join("layout"), &old[1]).expect("it can be written");
        found(path, 1).expect("the logs are still there");
    }

    #[test]
    fn damage_is_no_state_to_begin_from() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 1);
        let segment = path.join("shard-0000").join("wal-0000000000000001.seg");
        let mut bytes = fs::read(&segment).expect("it is there");
        bytes[0x3000] ^= 1;
        fs::write(&segment, bytes).expect("it can be written");
        let mut relayout = Relayout::begin(path, 2).expect("it can be read").expect("other");
        let refused = relayout.recover(&mut |_, _| {}).expect_err("damage");
        assert_eq!(refused.exit_status(), 65, "{refused}");
    }
}
