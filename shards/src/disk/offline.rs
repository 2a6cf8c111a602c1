//! A log that is written without an engine: by calls that block.

use std::io;

use super::error::DirectoryError;
use super::faults;
use super::recovery::Opened;
use crate::log::{Place, Refused, Urgency};

/// A log that is written by calls that block. For tools and for moving state to new logs; a
/// serving shard has [`super::ShardLog`].
#[derive(Debug)]
pub struct OfflineLog {
    opened: Opened,
}

impl From<Opened> for OfflineLog {
    fn from(opened: Opened) -> OfflineLog {
        OfflineLog { opened }
    }
}

impl OfflineLog {
    /// Appends a record. It is durable when [`OfflineLog::close`] has returned; waits for the disk
    /// when many bytes are pending.
    ///
    /// # Errors
    /// The record is too long, or the disk is full or has failed. The log is of no use then.
    pub fn append(&mut self, kind: u8, body: &[u8]) -> Result<Place, DirectoryError> {
        faults::point("move.record");
        match self.try_append(kind, body) {
            Err(Refused::Full | Refused::DiskFull) => self.perform()?,
            other => return other.map_err(|refused| self.refuse(refused)),
        }
        self.try_append(kind, body).map_err(|refused| self.refuse(refused))
    }

    /// Makes everything durable and closes the log in order.
    ///
    /// # Errors
    /// The disk is full or has failed.
    pub fn close(mut self) -> Result<(), DirectoryError> {
        faults::point("move.close");
        self.perform()?;
        self.opened.log.close();
        self.perform()?;
        if self.opened.log.is_closed() { Ok(()) } else { Err(self.fail(libc::ENOSPC)) }
    }

    /// Does what the log wants until it wants nothing.
    fn perform(&mut self) -> Result<(), DirectoryError> {
        while let Some(operation) = self.opened.log.next() {
            let outcome = self.opened.files.perform(&operation);
            self.opened.log.complete(operation, outcome);
            let errno = self.opened.log.failure().map(|failure| failure.errno);
            if let Some(errno) = errno {
                return Err(self.fail(errno.unwrap_or(libc::EIO)));
            }
            if let Some(errno) = self.opened.log.prepare_error() {
                return Err(self.fail(errno));
            }
        }
        match self.opened.log.prepare_error() {
            Some(errno) if !self.opened.log.is_open() => Err(self.fail(errno)),
            _ => Ok(()),
        }
    }

    fn try_append(&mut self, kind: u8, body: &[u8]) -> Result<Place, Refused> {
        self.opened.log.append(kind, body, Urgency::Usual)
    }

    fn refuse(&self, refused: Refused) -> DirectoryError {
        let error = match refused {
            // Nothing waits for the disk any more, so there is no room.
            Refused::Full | Refused::DiskFull => io::Error::from_raw_os_error(libc::ENOSPC),
            Refused::Failed | Refused::Closing | Refused::TooLong => io::Error::other(refused),
        };
        DirectoryError::io("append to the log in", &self.opened.files.path, error)
    }

    fn fail(&self, errno: i32) -> DirectoryError {
        let error = io::Error::from_raw_os_error(errno);
        DirectoryError::io("write the log in", &self.opened.files.path, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Directory, Examination, Settings};
    use crate::log::{Mode, Verdict};

    #[test]
    fn many_segments_are_written_and_read_back() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        let directory = Directory::open(path, 1).expect("it can be made");
        let recovery = directory.recover(0, Mode::Strict, &mut |_| {}).expect("nothing there");
        let settings = Settings {
            segment_bytes: 1 << 18,
            batch_bytes_max: 1 << 16,
            pending_bytes_max: 1 << 17,
            ..Settings::default()
        };
        let mut log = OfflineLog::from(recovery.begin(&settings).expect("a log"));
        let body = |n: u8| vec![n; 10_000 + usize::from(n)];
        for n in 0..100 {
            log.append(n, &body(n)).expect("room");
        }
        // Longer than a batch.
        log.append(100, &vec![7; 200_000]).expect("room");
        log.close().expect("an end");
        drop(directory);
        let examination = Examination::begin(path).expect("a directory");
        assert!(examination.segments(0).expect("there") >= 5);
        let mut kinds = Vec::new();
        let mut sink = |record: crate::log::Record<'_>| {
            let wanted = if record.kind == 100 { vec![7; 200_000] } else { body(record.kind) };
            assert_eq!(record.body, wanted);
            kinds.push(record.kind);
        };
        let recovered = examination.read(0, Mode::Strict, &mut sink).expect("whole");
        assert_eq!(recovered.verdict, Verdict::Clean);
        assert!(recovered.resume.expect("not refused").manifest.closed);
        assert_eq!(kinds, (0..=100).collect::<Vec<u8>>());
    }
}
