//! Reading a segment file at a start: what was written, not the zeros it was made of.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::log::{self, BATCH_BYTES_MAX, BLOCK_BYTES, Mode};

/// Zeros after which nothing was written. Batches follow each other without a gap, and the longest
/// one has less, even if all in it is zero: its first block is not. So behind so many zeros in a
/// row can only be writes of the window in which they are, whose sync has not ended.
const SILENCE_BLOCKS: usize = BATCH_BYTES_MAX / BLOCK_BYTES;

/// Reads the file into `bytes`, up to the first MiB of zeros; to its end if damage is to be
/// skipped. Gives the length of the file. A file that is not there is empty.
pub(super) fn read(path: &Path, mode: Mode, bytes: &mut Vec<u8>) -> io::Result<u64> {
    bytes.clear();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if mode != Mode::Strict {
        file.read_to_end(bytes)?;
        return Ok(length);
    }
    let mut silence = 0;
    while silence < SILENCE_BLOCKS {
        let from = bytes.len();
        let most = log::offset(BATCH_BYTES_MAX);
        if (&mut file).take(most).read_to_end(bytes)? == 0 {
            break;
        }
        for block in bytes.get(from..).unwrap_or_default().chunks(BLOCK_BYTES) {
            silence = if is_zero(block) { silence + 1 } else { 0 };
            if silence == SILENCE_BLOCKS {
                break;
            }
        }
    }
    Ok(length)
}

/// The file will be read next: the kernel may fetch it while the one before is looked at, for which
/// the processor takes about as long as the disk. Without effect if it does not.
pub(super) fn expect(path: &Path) {
    if let Ok(file) = File::open(path) {
        // Only advice: what goes wrong shows when the file is read.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
    }
}

/// Is this a segment that was made and never begun?
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn read_bytes(mode: Mode, length: usize, written: &[usize]) -> usize {
        let mut content = vec![0; length];
        for &at in written {
            content[at] = 1;
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &content).expect("it can be written");
        let mut bytes = vec![7; 10];
        let whole = read(file.path(), mode, &mut bytes).expect("it can be read");
        assert_eq!(whole, length as u64);
        assert_eq!(bytes, content[..bytes.len()]);
        bytes.len()
    }

    #[test]
    fn zeros_that_were_never_written_are_not_read() {
        assert_eq!(read_bytes(Mode::Strict, 0, &[]), 0);
        assert_eq!(read_bytes(Mode::Strict, 16 * MIB, &[]), MIB);
        assert_eq!(read_bytes(Mode::Strict, 16 * MIB, &[3 * MIB]), MIB);
        assert_eq!(read_bytes(Mode::Salvage, 16 * MIB, &[3 * MIB]), 16 * MIB);
        assert_eq!(read_bytes(Mode::Strict, 16 * MIB, &[5]), 2 * MIB);
        assert_eq!(read_bytes(Mode::Strict, 3 * MIB, &[5, MIB, 3 * MIB - 1]), 3 * MIB);
    }

    #[test]
    fn a_batch_of_zeros_is_no_end() {
        // Two of the longest batches: of each only the first block is not zero.
        let last = 4096 + MIB;
        assert_eq!(read_bytes(Mode::Strict, 16 * MIB, &[5, 4096, last]), 3 * MIB);
    }
}
