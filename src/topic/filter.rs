//! Topic filters: what a client subscribes to.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use thiserror::Error;

use super::name::{TOPIC_BYTES_MAX, TopicName, split_level};

/// What a shared subscription's filter begins with. [MQTT-4.8.2-1]
pub(super) const SHARE_PREFIX: &str = "$share/";

/// Why a text is not a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// No character at all, or none after the share name. [MQTT-4.7.3-1]
    #[error("a topic filter has at least one character")]
    Empty,
    /// More than 65,535 bytes. [MQTT-4.7.3-3]
    #[error("a topic filter has at most 65535 bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// U+0000. [MQTT-4.7.3-2]
    #[error("a topic filter has no null character")]
    Null,
    /// More levels than the broker allows.
    #[error("this broker allows {max} levels in a topic filter")]
    TooManyLevels {
        /// The limit passed to [`Filter::parse`].
        max: usize,
    },
    /// A `#` that is not the whole last level. [MQTT-4.7.1-1]
    #[error("'#' stands alone or after '/', and is the last character of a topic filter")]
    MultiLevel,
    /// A `+` beside other characters of its level. [MQTT-4.7.1-2]
    #[error("'+' fills a whole level of a topic filter")]
    SingleLevel,
    /// An empty share name, or one with a wildcard. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    #[error("a share name has at least one character and no wildcards")]
    ShareName,
    /// Nothing follows the share name. [MQTT-4.8.2-2]
    #[error("a share name is followed by '/' and a topic filter")]
    ShareWithoutFilter,
}

/// A valid topic filter, shared or not.
///
/// Cloning counts a reference. Equality, order and hash are those of the whole text, byte by byte.
/// [MQTT-4.7.3-4]
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    /// Where the path begins: 0, or after `$share/name/`.
    path_at: u16,
    wildcard: bool,
}

impl Filter {
    /// Checks a topic filter of at most `levels_max` levels, those of `$share/name/` not counted.
    ///
    /// `$share` without a slash is an ordinary filter. O(bytes); one allocation.
    ///
    /// # Errors
    /// The first rule of MQTT 5.0 §4.7 and §4.8.2 that it breaks.
    pub fn parse(text: &str, levels_max: usize) -> Result<Filter, FilterError> {
        if text.len() > TOPIC_BYTES_MAX {
            return Err(FilterError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(FilterError::Null);
        }
        let path = match text.strip_prefix(SHARE_PREFIX) {
            Some(shared) => split_share(shared)?.1,
            None => text,
        };
        let wildcard = check_path(path, levels_max)?;
        let Ok(path_at) = u16::try_from(text.len() - path.len()) else {
            return Err(FilterError::TooLong { bytes: text.len() });
        };
        Ok(Filter { text: Arc::from(text), path_at, wildcard })
    }

    /// A filter without share name, of a path that was parsed before.
    pub(super) fn of_path(path: &Arc<str>) -> Filter {
        let wildcard = path.contains(['+', '#']);
        Filter { text: Arc::clone(path), path_at: 0, wildcard }
    }

    /// The path, to keep: the text of this filter itself if it is not shared.
    pub(super) fn path_text(&self) -> Arc<str> {
        if self.path_at == 0 { Arc::clone(&self.text) } else { Arc::from(self.path()) }
    }

    /// The whole text, with `$share/name/` if it is shared.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The share name, if it is shared.
    pub fn share(&self) -> Option<&str> {
        let head = self.text.get(..usize::from(self.path_at)).unwrap_or_default();
        head.strip_prefix(SHARE_PREFIX)?.strip_suffix('/')
    }

    /// The part that topics are compared with: the text without `$share/name/`.
    pub fn path(&self) -> &str {
        self.text.get(usize::from(self.path_at)..).unwrap_or_default()
    }

    /// Has the path a `+` or `#` level.
    pub const fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Does the path match a topic.
    ///
    /// `a/#` matches `a` too; a wildcard at the first level does not match a topic with `$` in
    /// front. [MQTT-4.7.2-1] O(bytes), no allocation.
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        let path = self.path();
        if !self.wildcard {
            return path == topic.as_str();
        }
        !(topic.is_dollar() && path.starts_with(['+', '#'])) && levels_match(path, topic.as_str())
    }
}

/// Do the levels of a filter's path, or of a rest of it, match those of a topic. Knows no `$` rule.
pub(super) fn levels_match(path: &str, topic: &str) -> bool {
    let (mut path, mut topic) = (Some(path), Some(topic));
    loop {
        let Some(wanted) = path else { return topic.is_none() };
        let (wanted, path_rest) = split_level(wanted);
        if wanted == "#" {
            return true;
        }
        let Some(found) = topic else { return false };
        let (found, topic_rest) = split_level(found);
        if wanted != "+" && wanted != found {
            return false;
        }
        (path, topic) = (path_rest, topic_rest);
    }
}

/// Splits `name/path`, what follows `$share/`. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
fn split_share(shared: &str) -> Result<(&str, &str), FilterError> {
    let (name, path) = split_level(shared);
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(FilterError::ShareName);
    }
    match path {
        Some(path) if !path.is_empty() => Ok((name, path)),
        Some(_) | None => Err(FilterError::ShareWithoutFilter),
    }
}

/// Checks where wildcards stand and how many levels there are; tells if there is a wildcard.
fn check_path(path: &str, levels_max: usize) -> Result<bool, FilterError> {
    if path.is_empty() {
        return Err(FilterError::Empty);
    }
    let mut wildcard = false;
    let mut rest = Some(path);
    let mut levels = 0;
    while let Some(path) = rest {
        let level;
        (level, rest) = split_level(path);
        levels += 1;
        if levels > levels_max {
            return Err(FilterError::TooManyLevels { max: levels_max });
        }
        if level.contains('#') && (level != "#" || rest.is_some()) {
            return Err(FilterError::MultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevel);
        }
        wildcard |= level == "#" || level == "+";
    }
    Ok(wildcard)
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl PartialOrd for Filter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Filter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Filter {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests;
