//! Which directories of shards hold: the newest ones that were written in full.
//!
//! ```text
//! 0x00 4  "MQLY"    0x04 2  format    0x06 2  zero
//! 0x08 8  generation
//! 0x10 4  crc32c of 0x00..0x10
//! ```
//! Without this file the shards' directories stand in the data directory itself; from generation 1
//! on in `layout-<generation>/`. The file is written when those are whole and synced: that is the
//! switch. Others are what an unfinished change left, or what a finished one made needless.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::shard_directories;
use super::error::DirectoryError;
use super::faults;
use super::files::{put_file, sync_directory};

const FILE: &str = "layout";
const DIRECTORY: &str = "layout-";
const MAGIC: [u8; 4] = *b"MQLY";
const FORMAT: u16 = 1;
const FILE_BYTES: usize = 0x14;
const CHECKED_BYTES: usize = 0x10;

/// Directories of all shards that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) generation: u64,
}

impl Layout {
    /// The one that holds.
    pub(super) fn read(path: &Path) -> Result<Layout, DirectoryError> {
        let file = path.join(FILE);
        match fs::read(&file) {
            // An old file names directories that are gone; those of another layout may be all that
            // is left, and would be removed.
            Ok(bytes) => Layout::decode(&bytes)
                .filter(|layout| layout.base(path).is_dir())
                .ok_or(DirectoryError::Missing { path: file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fail = |error| DirectoryError::io("read", path, error);
                let none_here = shard_directories(path).map_err(fail)?.is_empty();
                if none_here && !others(path).map_err(fail)?.is_empty() {
                    return Err(DirectoryError::Missing { path: file });
                }
                Ok(Layout { generation: 0 })
            }
            Err(error) => Err(DirectoryError::io("read", &file, error)),
        }
    }

    /// Where the directories of its shards stand.
    pub(super) fn base(self, path: &Path) -> PathBuf {
        match self.generation {
            0 => path.to_owned(),
            generation => path.join(format!("{DIRECTORY}{generation}")),
        }
    }

    /// The one that may be written beside this one.
    pub(super) fn next(self) -> Layout {
        Layout { generation: self.generation + 1 }
    }

    /// From now on this one holds; all that is in it is synced.
    pub(super) fn put(self, path: &Path) -> io::Result<()> {
        sync_directory(path)?;
        put_file(path, FILE, &self.encode())?;
        faults::point("move.switch.done");
        Ok(())
    }

    /// Removes the directories of all other layouts.
    pub(super) fn remove_others(self, path: &Path) -> io::Result<()> {
        let mut removed = false;
        for (generation, other) in others(path)? {
            if generation != self.generation {
                faults::point("move.remove");
                fs::remove_dir_all(other)?;
                removed = true;
            }
        }
        if self.generation > 0 {
            for shard in shard_directories(path)? {
                faults::point("move.remove");
                fs::remove_dir_all(path.join(super::directory::shard_name(shard)))?;
                removed = true;
            }
        }
        if removed { sync_directory(path) } else { Ok(()) }
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert!(bytes.len() == FILE_BYTES, "the map above");
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Layout> {
        let (checked, crc) = bytes.split_at_checked(CHECKED_BYTES)?;
        let generation = u64::from_le_bytes(*checked.last_chunk()?);
        let layout = Layout { generation };
        // There is one encoding of each.
        let whole = crc == crc32c::crc32c(checked).to_le_bytes() && layout.encode() == bytes;
        (whole && generation > 0).then_some(layout)
    }
}

/// Directories named as those of a layout, with their generations.
fn others(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY));
        if let Some(generation) = number.and_then(|number| number.parse().ok()) {
            found.push((generation, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let bytes = Layout { generation: 0x0102 }.encode();
        let head = b"MQLY\x01\0\0\0\x02\x01\0\0\0\0\0\0";
        assert_eq!(bytes.get(..0x10), Some(&head[..]));
        assert_eq!(bytes.get(0x10..), Some(&crc32c::crc32c(head).to_le_bytes()[..]));
    }

    #[test]
    fn damage_is_noticed() {
        let whole = Layout { generation: 3 }.encode();
        assert_eq!(Layout::decode(&whole), Some(Layout { generation: 3 }));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert_eq!(Layout::decode(&bytes), None, "byte {at}");
            assert_eq!(Layout::decode(&whole[..at]), None, "{at} bytes");
        }
    }
}
