//! What can be wrong with rules.

use crate::topic::FilterError;
use thiserror::Error;

/// Why a rule was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AclFault {
    /// Not a topic filter.
    #[error("{text:?}: {error}")]
    Filter {
        /// What stands in its place.
        text: String,
        /// The rule it breaks.
        error: FilterError,
    },
    /// A filter with `$share`. Rules are about topics, whoever shares them.
    #[error("{text:?}: a rule names topics, without $share")]
    Shared {
        /// The filter.
        text: String,
    },
    /// A line that begins with none of the words of the format.
    #[error("{word:?} is none of topic, pattern, user, and a comment has # in its first column")]
    UnknownWord {
        /// What it begins with.
        word: String,
    },
    /// `topic` or `pattern` alone, or with a right alone.
    #[error("a topic is missing")]
    NoTopic,
    /// Two words after `topic`, and the first is no right.
    #[error("{word:?} is none of read, write, readwrite, deny")]
    UnknownRight {
        /// The word.
        word: String,
    },
    /// `user` alone, or an empty name.
    #[error("a user name is missing")]
    NoUser,
    /// A user name that no client can have: MQTT strings hold no null character.
    #[error("a user name has no null character")]
    NullInUser,
}

/// What is wrong with a file of rules, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct AclError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: AclFault,
}
