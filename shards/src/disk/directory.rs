//! The data directory: lock, identity, and the directories of the shards.
//!
//! ```text
//!   LOCK           held by the process that uses the directory; says its pid
//!   broker         broker_file.rs
//!   quarantine/    files that were cut off or are not ours; never read, never removed
//!   shard-NNNN/    manifest, commit-ring, wal-….seg
//!   layout         if the number of shards was changed: where shard-NNNN/ are (layout.rs)
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::broker_file::{Broker, BrokerFault};
use super::error::DirectoryError;
use super::faults::{self, Fault};
use super::files::{is_full, make_directory, open_file, put_file, read_or_empty, sync_directory};
use super::layout::Layout;
use crate::log::{self, AlignedBuffer, BLOCK_BYTES, Identity, Manifest, manifest, ring};

pub(super) const LOCK: &str = "LOCK";
pub(super) const BROKER: &str = "broker";
const PROBE: &str = "probe.tmp";
pub(super) const QUARANTINE: &str = "quarantine";

/// A data directory that belongs to this process until this and everything made from it is gone.
#[derive(Debug)]
pub struct Directory {
    pub(super) path: PathBuf,
    /// Where the directories of the shards are.
    pub(super) base: PathBuf,
    pub(super) layout: Layout,
    pub(super) lock: Arc<File>,
    pub(super) direct: bool,
    pub(super) shards: u16,
    pub(super) broker: Broker,
}

impl Directory {
    /// Takes the directory for a broker with so many shards; makes what is not there yet. Blocks.
    ///
    /// # Errors
    /// Why it cannot be used.
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn open(path: &Path, shards: u16) -> Result<Directory, DirectoryError> {
        assert!(shards > 0, "an engine has shards");
        let fail = |action, source| DirectoryError::io(action, path, source);
        make_path(path).map_err(|error| fail("create data directory", error))?;
        let lock = Arc::new(take_lock(path)?);
        let direct = probe(path).map_err(|error| fail("write to data directory", error))?;
        if !direct {
            tracing::warn!(
                path = %path.display(),
                "the file system has no direct I/O: writes go through the page cache; each start \
                 writes the end of the log anew, because a failed sync may have left it there alone"
            );
        }
        let broker = read_or_make_broker(path)?;
        let layout = Layout::read(path)?;
        layout.remove_others(path).map_err(|error| fail("tidy up data directory", error))?;
        let (base, path) = (layout.base(path), path.to_owned());
        let directory = Directory { path, base, layout, lock, direct, shards, broker };
        directory.make_shards()?;
        Ok(directory)
    }

    /// Who the broker is: the same at every start.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) fn identity(&self, shard: u16) -> Identity {
        Identity { broker: self.broker.id, shard }
    }

    pub(super) fn shard_path(&self, shard: u16) -> PathBuf {
        self.base.join(shard_name(shard))
    }

    /// Every shard has its directory before the first one is used: one that is missing or empty
    /// later is known to be lost.
    pub(super) fn make_shards(&self) -> Result<(), DirectoryError> {
        let fail = |error| DirectoryError::io("read data directory", &self.base, error);
        let (mut missing, mut used) = (Vec::new(), false);
        let there = shard_directories(&self.base).map_err(fail)?;
        for shard in there.iter().copied().chain(0..self.shards) {
            match self.newest_manifest(shard).map_err(fail)? {
                Some(manifest) if manifest.shards != self.shards => {
                    let (path, written) = (self.path.clone(), manifest.shards);
                    return Err(DirectoryError::Shards { path, written, wanted: self.shards });
                }
                Some(manifest) => used |= manifest.active_segment > 0,
                None if self.is_empty(shard).map_err(fail)? => missing.push(shard),
                // Recovery tells what is wrong with it.
                None => {}
            }
        }
        for shard in missing {
            let path = self.shard_path(shard);
            if used {
                return Err(DirectoryError::Missing { path });
            }
            self.make_shard(shard, &path)
                .map_err(|error| DirectoryError::io("create", &path, error))?;
        }
        sync_directory(&self.base).map_err(|error| DirectoryError::io("sync", &self.base, error))
    }

    /// No such directory, or nothing in it?
    fn is_empty(&self, shard: u16) -> io::Result<bool> {
        match fs::read_dir(self.shard_path(shard)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            entries => Ok(entries?.next().is_none()),
        }
    }

    fn newest_manifest(&self, shard: u16) -> io::Result<Option<Manifest>> {
        let path = self.shard_path(shard).join(log::File::Manifest.to_string());
        let bytes = read_or_empty(&path)?;
        Ok(manifest::newest(&bytes, &self.identity(shard)).ok())
    }

    fn make_shard(&self, shard: u16, path: &Path) -> io::Result<()> {
        make_directory(path, true)?;
        self.put_ring_and_manifest(shard, path)
    }

    /// The two files of a log in which nothing was written yet.
    pub(super) fn put_ring_and_manifest(&self, shard: u16, path: &Path) -> io::Result<()> {
        let identity = self.identity(shard);
        let blocks = u32::try_from(log::SEGMENT_BYTES / log::offset(BLOCK_BYTES));
        let fresh = Manifest::fresh(self.shards, blocks.expect("64 MiB are 16,384 blocks"));
        put_file(path, &log::File::Ring.to_string(), &ring::fresh(&identity))?;
        put_file(path, &log::File::Manifest.to_string(), &manifest::fresh(&fresh, &identity))
    }
}

/// Makes the directory and those above it; all new names are on stable storage.
fn make_path(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    make_directory(path, true)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // One may be allowed to make a name there, but not to open it.
        sync_directory(parent).or_else(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
        })?;
    }
    Ok(())
}

pub(super) fn shard_name(shard: u16) -> String {
    format!("shard-{shard:04}")
}

pub(super) fn shard_directories(path: &Path) -> io::Result<Vec<u16>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("shard-"));
        shards.extend(number.and_then(|number| number.parse::<u16>().ok()));
    }
    shards.sort_unstable();
    Ok(shards)
}

fn take_lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let fail = |source| DirectoryError::io("lock", &path, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(in_use(directory, &mut file));
        }
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    let pid = format!("{}\n", std::process::id());
    let written = file.write_all_at(pid.as_bytes(), 0);
    match written.and_then(|()| file.set_len(log::offset(pid.len()))) {
        // It is the lock that counts. Without a number nobody is named to who comes later.
        Err(error) if is_full(&error) => file.set_len(0).map_err(fail)?,
        written => written.map_err(fail)?,
    }
    Ok(file)
}

pub(super) fn in_use(directory: &Path, lock: &mut File) -> DirectoryError {
    let mut text = String::new();
    let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    DirectoryError::InUse { path: directory.to_owned(), pid }
}

/// Can files be written here, and past the page cache?
fn probe(directory: &Path) -> io::Result<bool> {
    let path = directory.join(PROBE);
    let block = AlignedBuffer::zeroed(BLOCK_BYTES);
    let write = |direct| -> io::Result<()> {
        let file = open_file(&path, direct, true)?;
        file.write_all_at(block.as_slice(), 0)?;
        file.sync_data()
    };
    // In a test, a file system that does not know direct I/O.
    let direct = match faults::hit("probe") {
        Fault::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
        Fault::None | Fault::Skip | Fault::Short | Fault::DelayMs(_) => write(true),
    };
    let direct = match direct {
        Ok(()) => true,
        // A log that is there can still be read, and goes on when there is room.
        Err(error) if is_full(&error) => open_file(&directory.join(LOCK), true, false).is_ok(),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => write(false).map(|()| false)?,
        Err(error) => {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
    };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(direct),
    }
}

fn read_or_make_broker(directory: &Path) -> Result<Broker, DirectoryError> {
    let path = directory.join(BROKER);
    let fail = |action, error| DirectoryError::io(action, &path, error);
    match fs::read(&path) {
        Ok(bytes) => Broker::decode(&bytes).map_err(|fault| match fault {
            BrokerFault::Damaged => DirectoryError::Missing { path: path.clone() },
            BrokerFault::Format(format) => DirectoryError::Newer { path: path.clone(), format },
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let there = shard_directories(directory).map_err(|error| fail("read", error))?;
            if !there.is_empty() {
                return Err(DirectoryError::Missing { path });
            }
            let mut bytes = [0; 32];
            random(&mut bytes).map_err(|error| fail("draw the identity for", error))?;
            let [id, key] = [bytes.first_chunk::<16>(), bytes.last_chunk::<16>()];
            let key = u128::from_le_bytes(*key.expect("of 32 bytes"));
            let broker = Broker {
                id: *id.expect("of 32 bytes"),
                hash_key: (low_half(key), low_half(key >> 64)),
            };
            put_file(directory, BROKER, &broker.encode()).map_err(|error| fail("create", error))?;
            Ok(broker)
        }
        Err(error) => Err(fail("read", error)),
    }
}

fn low_half(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).expect("64 bits")
}

/// Bytes that nobody can guess.
pub(super) fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}
