//! Files of one `user:secret` a line.

use thiserror::Error;

/// Longest line; nothing that is legal comes near.
const LINE_BYTES_MAX: usize = 8192;

/// What is wrong with a file, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct FileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, one line, without any secret.
    pub message: &'static str,
}

/// The records of a file: line, user, rest of the line; blanks around both are dropped.
///
/// Empty lines and lines that begin with `#` are no records. A line without `:` is an error, not
/// skipped: it may be half of a user. Bytes that are no UTF-8, U+0000 and an empty user are errors.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, &str, &str), FileError>> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(|(above, line)| {
        let fail = |message| Some(Err(FileError { line: above + 1, message }));
        if line.len() > LINE_BYTES_MAX {
            return fail("the line is too long");
        }
        let Ok(line) = std::str::from_utf8(line) else { return fail("the line is not UTF-8") };
        if line.contains('\0') {
            return fail("the line holds U+0000");
        }
        if line.starts_with('#') || line.trim().is_empty() {
            return None;
        }
        let Some((user, secret)) = line.split_once(':') else {
            return fail("the line has no ':'");
        };
        match user.trim() {
            "" => fail("the user name is empty"),
            user => Some(Ok((above + 1, user, secret.trim()))),
        }
    })
}
