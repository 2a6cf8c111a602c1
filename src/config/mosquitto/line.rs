//! Lines of a file of Mosquitto: a name, a space, a value.

use crate::config::ConfigError;
use crate::config::error::suggestion;
use crate::config::load::read;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// `include_dir` inside of included files ends here.
const DEPTH_MAX: usize = 10;
/// All files together.
const LINES_MAX: usize = 100_000;

/// One option as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) path: Rc<Path>,
    /// From 1.
    pub(super) number: usize,
    pub(super) name: String,
    /// Without blanks around it; empty if there is none.
    pub(super) value: String,
}

/// All options of a file, in order; `include_dir` is replaced by what it includes.
pub(super) fn read_lines(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    include(path, 0, &mut lines)?;
    Ok(lines)
}

fn include(path: &Path, depth: usize, lines: &mut Vec<Line>) -> Result<(), ConfigError> {
    for line in split(&read(path)?, path) {
        if line.name != "include_dir" {
            if lines.len() >= LINES_MAX {
                return Err(line.fault("the files have too many lines"));
            }
            lines.push(line);
            continue;
        }
        if depth >= DEPTH_MAX {
            return Err(line.fault("files include each other without end"));
        }
        let directory = line.path()?;
        let list = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut files = list().map_err(|error| line.fault(error))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        for file in files {
            include(&file, depth + 1, lines)?;
        }
    }
    Ok(())
}

/// The options of one text.
pub(super) fn split(text: &str, path: &Path) -> Vec<Line> {
    let path: Rc<Path> = Rc::from(path);
    let line = |(number, line): (usize, &str)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let (name, value) = (name.to_owned(), value.trim().to_owned());
        Some(Line { path: Rc::clone(&path), number, name, value })
    };
    (1..).zip(text.lines()).filter_map(line).collect()
}

impl Line {
    pub(super) fn fault(&self, message: impl Display) -> ConfigError {
        ConfigError::Invalid {
            path: self.path.to_path_buf(),
            line: self.number,
            key: self.name.clone(),
            message: message.to_string(),
        }
    }

    /// The option is not known; `known` are those that are.
    pub(super) fn unknown<'a>(&self, known: impl Iterator<Item = &'a str>) -> ConfigError {
        self.fault(format!("unknown option{}", suggestion(&self.name, known)))
    }

    /// A remark on the option, for the log.
    pub(super) fn remark(&self, text: impl Display) -> String {
        format!("{}:{}: {}: {text}", self.path.display(), self.number, self.name)
    }

    pub(super) fn text(&self) -> Result<&str, ConfigError> {
        if self.value.is_empty() { Err(self.fault("needs a value")) } else { Ok(&self.value) }
    }

    /// A path; like Mosquitto's, from where the broker was started.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        std::path::absolute(self.text()?).map_err(|error| self.fault(error))
    }

    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        match self.value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.fault("must be true or false")),
        }
    }

    /// A whole number of `min..=max`.
    pub(super) fn number(&self, min: i64, max: i64) -> Result<i64, ConfigError> {
        let number = self.value.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| self.fault(format!("must be a whole number from {min} to {max}")))
    }

    /// A whole number of `0..=max`, where 0 means `none`.
    pub(super) fn number_or<T: TryFrom<i64> + Copy>(
        &self,
        max: i64,
        none: T,
    ) -> Result<T, ConfigError> {
        match self.number(0, max)? {
            0 => Ok(none),
            number => T::try_from(number).map_err(|_| self.fault("is too large")),
        }
    }

    /// The value is one of `words`; gives what stands beside it.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = words.iter().find(|(word, _)| *word == self.value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.fault(format!("must be one of {}", words.join(", ")))
        })
    }
}
