//! A data directory, or one segment file, that is only looked at.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::broker_file::{Broker, BrokerFault};
use super::directory::{BROKER, LOCK, in_use, shard_directories, shard_name};
use super::error::DirectoryError;
use super::files::{Files, read_or_empty};
use super::recovery::{self, list};
use crate::log::survey::Found;
use crate::log::{
    self, BLOCK_BYTES, Identity, Mode, Record, Recovered, Scan, SegmentHeader, manifest,
};

/// A data directory that no broker uses while it is looked at. Nothing in it is changed.
#[derive(Debug)]
pub struct Examination {
    path: PathBuf,
    broker: Broker,
    shards: u16,
    /// Held with others who look; none if the directory has no lock file, as a copy may have.
    _lock: Option<File>,
}

impl Examination {
    /// Begins to look at a directory. Blocks.
    ///
    /// # Errors
    /// A broker uses it, it is none, or it cannot be read.
    pub fn begin(path: &Path) -> Result<Examination, DirectoryError> {
        let fail = |error| DirectoryError::io("read data directory", path, error);
        let there = shard_directories(path).map_err(fail)?;
        let lock = share_lock(path)?;
        let broker_path = path.join(BROKER);
        let broker = match fs::read(&broker_path) {
            Ok(bytes) => Broker::decode(&bytes).map_err(|fault| match fault {
                BrokerFault::Damaged => DirectoryError::Missing { path: broker_path.clone() },
                BrokerFault::Format(format) => {
                    DirectoryError::Newer { path: broker_path.clone(), format }
                }
            }),
            Err(error) => Err(DirectoryError::io("read", &broker_path, error)),
        }?;
        let mut shards = there.last().map_or(0, |last| last.saturating_add(1));
        for &shard in &there {
            let shard_path = path.join(shard_name(shard));
            let bytes = read_or_empty(&shard_path.join(log::File::Manifest.to_string()));
            let bytes = bytes.map_err(|error| DirectoryError::io("read", &shard_path, error))?;
            let identity = Identity { broker: broker.id, shard };
            let said = manifest::newest(&bytes, &identity).map_or(0, |manifest| manifest.shards);
            shards = shards.max(said);
        }
        Ok(Examination { path: path.to_owned(), broker, shards, _lock: lock })
    }

    /// Whose directory it is.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How many shards the directory has, those counted that are missing.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Segment files of a shard.
    ///
    /// # Errors
    /// The directory of the shard cannot be read.
    pub fn segments(&self, shard: u16) -> Result<usize, DirectoryError> {
        let path = self.path.join(shard_name(shard));
        match list(&path) {
            Ok((segments, _)) => Ok(segments.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DirectoryError::Missing { path })
            }
            Err(error) => Err(DirectoryError::io("read", &path, error)),
        }
    }

    /// Reads the log of one shard; its records go to `sink` in their order, up to the first damage
    /// in [`Mode::Strict`]. Blocks; holds one segment in memory.
    ///
    /// # Errors
    /// It cannot be read, and with [`Mode::Strict`] any damage to acknowledged data; `sink` has
    /// then got what comes before.
    pub fn read(
        &self,
        shard: u16,
        mode: Mode,
        sink: &mut impl FnMut(Record<'_>),
    ) -> Result<Recovered, DirectoryError> {
        self.segments(shard)?;
        let path = self.path.join(shard_name(shard));
        let files = Files::new(path.clone(), false);
        let identity = Identity { broker: self.broker.id, shard };
        let recovered = recovery::scan(&files, &identity, self.shards, (mode, sink));
        let recovered = recovered.map_err(|error| DirectoryError::io("read", &path, error))?;
        if recovered.resume.is_none() {
            return Err(recovery::refusal(path, &recovered.verdict));
        }
        Ok(recovered)
    }
}

/// Reads what can be read of one segment file, without its log: all whole records, in their order.
/// Tells its shard.
///
/// # Errors
/// It cannot be read, or does not begin as a segment does.
pub fn read_segment_file(
    path: &Path,
    sink: &mut impl FnMut(Record<'_>),
) -> Result<u16, DirectoryError> {
    let fail = |error| DirectoryError::io("read", path, error);
    let bytes = fs::read(path).map_err(fail)?;
    let head = bytes.get(..BLOCK_BYTES).unwrap_or(&bytes);
    let (identity, segment) = SegmentHeader::peek(head);
    let no_segment = |fault| fail(io::Error::new(io::ErrorKind::InvalidData, fault));
    SegmentHeader::decode(head, &identity).map_err(no_segment)?;
    let Found::Log(survey) = log::survey(&identity, &[], &[], &[(segment, head)]) else {
        return Ok(identity.shard);
    };
    let mut scan = Scan::new(*survey, Mode::Salvage);
    while scan.wanted() == Some(segment) {
        scan.feed(&bytes, sink);
    }
    Ok(identity.shard)
}

/// Keeps brokers away while the directory is looked at.
fn share_lock(directory: &Path) -> Result<Option<File>, DirectoryError> {
    let path = directory.join(LOCK);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryError::io("read", &path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(directory, &mut file)),
        Err(TryLockError::Error(error)) => Err(DirectoryError::io("lock", &path, error)),
    }
}
