//! Topic names: what a message is published to.

use thiserror::Error;

/// Longest topic name or filter in bytes, the limit of an MQTT string. [MQTT-4.7.3-3]
pub(super) const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a text is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// No character at all. [MQTT-4.7.3-1]
    #[error("a topic name has at least one character")]
    Empty,
    /// More than 65,535 bytes. [MQTT-4.7.3-3]
    #[error("a topic name has at most 65535 bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A `+` or `#`. [MQTT-3.3.2-2] [MQTT-4.7.0-1]
    #[error("a topic name has no wildcards")]
    Wildcard,
    /// U+0000. [MQTT-4.7.3-2]
    #[error("a topic name has no null character")]
    Null,
}

/// A valid topic name, borrowed from where it was read.
///
/// Compared byte by byte, without any normalisation. [MQTT-4.7.3-4]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a topic name. One pass over the bytes, no allocation.
    ///
    /// # Errors
    /// The first rule of MQTT 5.0 §4.7.3 and §4.7.1 that it breaks.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong { bytes: text.len() });
        }
        if !has_forbidden(text.as_bytes()) {
            return Ok(TopicName(text));
        }
        Err(if text.contains('\0') { TopicError::Null } else { TopicError::Wildcard })
    }

    /// A name that was parsed before and has been kept as text since.
    pub fn trusted(text: &'a str) -> Self {
        debug_assert!(Self::parse(text).is_ok(), "{text:?} was never a topic name");
        TopicName(text)
    }

    /// The whole name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Does it begin with `$`; such topics are not matched by a wildcard at the first level.
    /// [MQTT-4.7.2-1]
    pub fn is_dollar(self) -> bool {
        self.0.starts_with('$')
    }
}

/// Is there a `+`, `#` or U+0000. Every PUBLISH comes through here, so eight bytes at a time.
fn has_forbidden(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        return text.iter().any(|b| matches!(b, 0 | b'+' | b'#'));
    };
    // The last word may overlap the one before, which saves a loop over single bytes.
    let words = text.as_chunks::<8>().0.iter().chain([last]);
    words.fold(false, |found, word| found | word_has_forbidden(u64::from_ne_bytes(*word)))
}

/// `+` (0x2b) and `#` (0x23) differ in the bit 0x08 only, so setting it makes them one.
fn word_has_forbidden(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let wildcards = (word | (ONES * 0x08)) ^ (ONES * 0x2b);
    // A zero byte, and nothing else, borrows into a bit 0x80 that it did not have.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES * 0x80) != 0;
    zero(word) | zero(wildcards)
}

/// Splits the first level off: the level, and what comes after its separator.
pub(super) fn split_level(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_name_needs_a_character() {
        // [MQTT-4.7.3-1]
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert!(TopicName::parse("/").is_ok());
        assert!(TopicName::parse(" ").is_ok());
    }

    #[test]
    fn topic_name_has_no_wildcards() {
        // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
        for text in ["+", "#", "a/+", "a+b", "a/b#"] {
            assert_eq!(TopicName::parse(text), Err(TopicError::Wildcard), "{text}");
        }
    }

    #[test]
    fn topic_name_has_no_null_character() {
        // [MQTT-4.7.3-2]
        assert_eq!(TopicName::parse("a\0b"), Err(TopicError::Null));
        assert_eq!(TopicName::parse("+\0"), Err(TopicError::Null));
    }

    #[test]
    fn forbidden_characters_are_found_at_every_place() {
        for bytes in 1..40 {
            let good = "\u{ff}*,\"$\u{1}.~".chars().cycle().take(bytes).collect::<String>();
            assert!(TopicName::parse(&good).is_ok(), "{good:?}");
            for (at, old) in good.char_indices() {
                for (new, error) in [
                    ("+", TopicError::Wildcard),
                    ("#", TopicError::Wildcard),
                    ("\0", TopicError::Null),
                ] {
                    let mut bad = good.clone();
                    bad.replace_range(at..at + old.len_utf8(), new);
                    assert_eq!(TopicName::parse(&bad), Err(error), "{bad:?}");
                }
            }
        }
    }

    #[test]
    fn topic_name_length_is_limited() {
        // [MQTT-4.7.3-3]
        let longest = "x".repeat(TOPIC_BYTES_MAX);
        assert!(TopicName::parse(&longest).is_ok());
        let longer = "x".repeat(TOPIC_BYTES_MAX + 1);
        assert_eq!(TopicName::parse(&longer), Err(TopicError::TooLong { bytes: 65_536 }));
    }

    #[test]
    fn dollar_counts_at_the_start_only() {
        assert!(TopicName::parse("$SYS/x").is_ok_and(TopicName::is_dollar));
        assert!(TopicName::parse("a/$SYS").is_ok_and(|t| !t.is_dollar()));
    }
}
