//! Files of Mosquitto: each option is put into the settings it means here.
//!
//! Promise: an option that means nothing here is accepted with a warning; one that cannot be had
//! and would be dangerous to leave out is refused, like one that Mosquitto does not know either.
//! `docs/mosquitto.md` lists all of them.
//!
//! ```text
//!   files ─ line::read_lines ─▶ Line… ─ Draft::take ─▶ global options, Block per listener
//!                                                        └─ Draft::finish ─▶ Config
//! ```

mod block;
mod draft;
mod line;
mod lists;
#[cfg(test)]
mod tests;

use super::ConfigError;
use super::load::Loaded;
use draft::Draft;
use std::path::Path;

/// Reads a file, and those it includes.
///
/// # Errors
/// [`ConfigError`] with file and line of the first thing that is wrong.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    build(path, &line::read_lines(path)?)
}

/// Reads one text; `include_dir` is refused. `path` is for messages.
///
/// # Errors
/// [`ConfigError`] with the line of the first thing that is wrong.
pub fn parse(text: &str, path: &Path) -> Result<Loaded, ConfigError> {
    build(path, &line::split(text, path))
}

fn build(path: &Path, lines: &[line::Line]) -> Result<Loaded, ConfigError> {
    let mut draft = Draft::new(path);
    for line in lines {
        draft.take(line)?;
    }
    draft.finish()
}
