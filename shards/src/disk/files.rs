//! The files of one shard, before the shard runs: plain calls that block.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::faults::{self, Fault};
use crate::log::{self, Action, Operation, Outcome};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Does the error say that there is no room?
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Makes a directory that only its owner can enter.
pub(super) fn make_directory(path: &Path, recursive: bool) -> io::Result<()> {
    DirBuilder::new().recursive(recursive).mode(DIRECTORY_MODE).create(path)
}

/// Names created, changed and removed in it before are on stable storage.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a new file that is there in full or not at all, on stable storage when this returns.
pub(super) fn put_file(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (draft, whole) = (directory.join(format!("{name}.tmp")), directory.join(name));
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&draft)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    faults::point("file.rename");
    fs::rename(&draft, &whole)?;
    faults::point("file.rename.done");
    sync_directory(directory)
}

/// The whole file; empty if there is none.
pub(super) fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Opens for reading and writing, past the page cache if `direct`.
pub(super) fn open_file(path: &Path, direct: bool, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(create).mode(FILE_MODE);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}

/// What an operation that is not done says when a test wants it to look done.
pub(super) fn skipped(action: &Action) -> Outcome {
    if let Action::Write(write) = action {
        Outcome::Wrote(write.bytes().len())
    } else {
        Outcome::Done
    }
}

/// One shard's directory and the files that are open in it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) path: PathBuf,
    pub(super) direct: bool,
    pub(super) open: BTreeMap<log::File, File>,
}

impl Files {
    pub(super) fn new(path: PathBuf, direct: bool) -> Files {
        Files { path, direct, open: BTreeMap::new() }
    }

    pub(super) fn path_of(&self, file: log::File) -> PathBuf {
        self.path.join(file.to_string())
    }

    /// Opens an existing file of the log.
    pub(super) fn open(&mut self, file: log::File) -> io::Result<()> {
        let opened = open_file(&self.path_of(file), self.direct, false)?;
        self.open.insert(file, opened);
        Ok(())
    }

    /// Performs what the log wants, now.
    pub(super) fn perform(&mut self, operation: &Operation) -> Outcome {
        let name = faults::name(operation);
        let outcome = match faults::hit(name) {
            Fault::Skip => skipped(&operation.action),
            Fault::Errno(errno) => Outcome::Failed(errno),
            fault @ (Fault::None | Fault::Short | Fault::DelayMs(_)) => {
                let called = self.call(&operation.action, fault == Fault::Short);
                called.unwrap_or_else(|error| {
                    Outcome::Failed(error.raw_os_error().unwrap_or(libc::EIO))
                })
            }
        };
        faults::hit_after(name);
        outcome
    }

    fn call(&mut self, action: &Action, short: bool) -> io::Result<Outcome> {
        match action {
            Action::Write(write) => {
                let bytes = write.bytes();
                let most = if short { log::BLOCK_BYTES } else { bytes.len() };
                let part = bytes.get(..most).unwrap_or(bytes);
                return Ok(Outcome::Wrote(self.at(write.file)?.write_at(part, write.offset())?));
            }
            Action::Sync(file) => self.at(*file)?.sync_data()?,
            Action::Create(file) => {
                let created = open_file(&self.path_of(*file), self.direct, true)?;
                self.open.insert(*file, created);
            }
            Action::Rename(source, target) => {
                fs::rename(self.path_of(*source), self.path_of(*target))?;
                if let Some(renamed) = self.open.remove(source) {
                    self.open.insert(*target, renamed);
                }
            }
            Action::SyncDirectory => sync_directory(&self.path)?,
            Action::Remove(file) => {
                self.open.remove(file);
                fs::remove_file(self.path_of(*file))?;
            }
        }
        Ok(Outcome::Done)
    }

    fn at(&self, file: log::File) -> io::Result<&File> {
        self.open.get(&file).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }
}
