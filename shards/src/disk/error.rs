//! Why a data directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::Corruption;

/// Data is damaged (`EX_DATAERR`).
const EXIT_DATA: u8 = 65;
/// Something cannot be created, locked or written (`EX_CANTCREAT`).
const EXIT_CREATE: u8 = 73;
/// The disk failed (`EX_IOERR`).
const EXIT_IO: u8 = 74;
/// The settings do not fit the directory (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// Why a data directory cannot be used. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("data directory {} is in use by another process{}", path.display(), holder(*pid))]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who, if the file `LOCK` says so.
        pid: Option<u32>,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {}", path.display(), explain(source))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Acknowledged data cannot be read.
    #[error("{}: {corruption}", path.display())]
    Damaged {
        /// The shard's directory.
        path: PathBuf,
        /// Where and what.
        corruption: Box<Corruption>,
    },
    /// A file that must be there, and whole, is not.
    #[error("{} is missing or damaged, but the data directory has been used", path.display())]
    Missing {
        /// The file or directory.
        path: PathBuf,
    },
    /// A newer version has written it.
    #[error("{} was written by a newer version of the broker (format {format})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
    /// The directory was written with another number of shards.
    #[error(
        "data directory {} was written with {written} shards and cannot be used with {wanted}",
        path.display()
    )]
    Shards {
        /// The data directory.
        path: PathBuf,
        /// With how many.
        written: u16,
        /// With how many it was to be used now.
        wanted: u16,
    },
}

impl DirectoryError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> DirectoryError {
        DirectoryError::Io { action, path: path.to_owned(), source }
    }

    /// Status the process should end with: 65 damaged data, 73 cannot create, lock or write, 74
    /// the disk failed, 78 the settings do not fit.
    pub fn exit_status(&self) -> u8 {
        match self {
            DirectoryError::InUse { .. } => EXIT_CREATE,
            DirectoryError::Io { source, .. } if source.raw_os_error() == Some(libc::EIO) => {
                EXIT_IO
            }
            DirectoryError::Io { .. } => EXIT_CREATE,
            DirectoryError::Damaged { .. }
            | DirectoryError::Missing { .. }
            | DirectoryError::Newer { .. } => EXIT_DATA,
            DirectoryError::Shards { .. } => EXIT_CONFIG,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// In words of the operator where the system's are too few.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EROFS) => "the file system is read-only".to_owned(),
        Some(libc::ENOSPC) => "the disk is full".to_owned(),
        Some(libc::EDQUOT) => "the disk quota is used up".to_owned(),
        Some(libc::EACCES | libc::EPERM) => "no permission; whose is it?".to_owned(),
        Some(libc::ENOTDIR) => "a file is in its place".to_owned(),
        _ => error.to_string(),
    }
}
