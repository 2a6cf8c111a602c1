//! The data directory at the start: what every shard's log holds, and the logs opened anew.

use super::BrokerError;
use crate::config::{Config, Durability};
use crate::store::{self, Image, Place, Wall, image};
use shards::disk::{self, Directory, Opened, Recovery};
use shards::log::{Mode, Record, Verdict};
use std::path::Path;
use std::thread;
use tracing::{info, warn};

/// What a log is written in.
const BLOCK: u64 = 4096;

/// What the shards start with.
#[derive(Debug)]
pub(super) struct Data {
    /// Gives clients and topics their home; the same at every start.
    pub(super) hash_key: (u64, u64),
    /// One log per shard.
    pub(super) logs: Vec<Opened>,
    /// One state per shard.
    pub(super) images: Vec<Image>,
}

/// Takes the directory, reads all logs and opens them anew. Blocks; shards are read side by side.
///
/// # Errors
/// Why the directory cannot be used; nothing of it was removed then.
pub(super) fn open(
    config: &Config,
    path: &Path,
    shards: u16,
    mode: Mode,
    wall: Wall,
) -> Result<Data, BrokerError> {
    let directory = Directory::open(path, shards)?;
    let read: Vec<Result<_, BrokerError>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..shards)
            .map(|shard| (shard, &directory))
            .map(|(shard, directory)| scope.spawn(move || recover(directory, shard, mode, wall)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("recovery panics only on a fault of its own"))
            .collect()
    });
    let (mut images, mut recoveries) = (Vec::new(), Vec::new());
    for found in read {
        let (image, recovery) = found?;
        images.push(image);
        recoveries.push(recovery);
    }
    image::fence(&mut images);
    let settings = settings(config);
    let mut logs = Vec::new();
    for recovery in recoveries {
        logs.push(recovery.begin(&settings)?);
    }
    Ok(Data { hash_key: directory.broker().hash_key, logs, images })
}

pub(super) fn settings(config: &Config) -> disk::Settings {
    let durability = match config.durability {
        Durability::Interval => disk::Durability::Interval { ms: config.fsync_interval_ms.into() },
        Durability::Fsync | Durability::None => disk::Durability::Fsync,
    };
    let usual = disk::Settings::default();
    let segment_bytes = config.log_segment_bytes;
    // A short segment has room for two batches.
    let half = usize::try_from((segment_bytes - BLOCK) / 2 / BLOCK * BLOCK);
    let batch_bytes_max = half.unwrap_or(usize::MAX).min(usual.batch_bytes_max);
    disk::Settings { durability, segment_bytes, batch_bytes_max, ..usual }
}

fn recover(
    directory: &Directory,
    shard: u16,
    mode: Mode,
    wall: Wall,
) -> Result<(Image, Recovery), BrokerError> {
    let mut image = Image::default();
    let mut fault = None;
    let recovery = directory.recover(shard, mode, &mut |record: Record<'_>| {
        if fault.is_some() {
            return;
        }
        let place = Place { lsn: record.lsn.0, offset: record.place().at, bytes: 0 };
        match store::decode(record.kind, record.body, wall) {
            Ok(Some(decoded)) => image.apply(place, decoded),
            Ok(None) => {}
            Err(why) => fault = Some((record.lsn.0, why)),
        }
    })?;
    if let Some((lsn, why)) = fault {
        return Err(BrokerError::Record { shard, lsn, why });
    }
    let counts = image.finish();
    let (sessions, retained) = (counts.sessions, counts.retained);
    let cut_bytes = match recovery.verdict() {
        Verdict::TornTail { discarded_bytes } => *discarded_bytes,
        Verdict::Clean | Verdict::Corrupt(_) => 0,
    };
    let lost = recovery.loss_count();
    info!(target: "audit", event = "recovery", shard, sessions, retained, cut_bytes, lost);
    match recovery.verdict() {
        Verdict::Clean => {}
        Verdict::TornTail { discarded_bytes } => {
            info!(
                shard,
                discarded_bytes, "cut the tail of the log; nothing of it was acknowledged"
            );
        }
        Verdict::Corrupt(corruption) => {
            warn!(shard, %corruption, "acknowledged records were left out, as ordered");
        }
    }
    if counts.sessions + counts.retained > 0 {
        let (sessions, queued, retained) = (counts.sessions, counts.waiting, counts.retained);
        info!(shard, sessions, queued, retained, "recovered");
    }
    if counts.headless + counts.replaced > 0 {
        let (headless, replaced) = (counts.headless, counts.replaced);
        warn!(shard, headless, replaced, "sessions without a beginning were left out");
    }
    Ok((image, recovery))
}
