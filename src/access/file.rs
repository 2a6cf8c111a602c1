//! Mosquitto's ACL file (`acl_file` in mosquitto.conf(5)), read strictly.
//!
//! ```text
//! # a comment: # in the first column
//! topic [read|write|readwrite|deny] FILTER     of anonymous clients, until the first user line
//! user NAME
//! topic [read|write|readwrite|deny] FILTER     of that user; %c and %u are plain text here
//! pattern [read|write|readwrite|deny] FILTER   of everybody; %c client identifier, %u user name
//! ```
//!
//! Words are separated by spaces; spaces and line ends after the last are left out. Without a right
//! it is readwrite. `read` is the right to subscribe and to receive, `write` to publish. A line
//! that is anything else is an error, where Mosquitto before 2.1 skips it.

use super::rules::Draft;
use super::{AclError, AclFault, Rights};
use std::collections::BTreeMap;

/// Rules as a file has them.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) anonymous: Draft,
    pub(super) users: BTreeMap<String, Draft>,
    pub(super) patterns: Draft,
}

/// Reads a whole file, or nothing of it.
pub(super) fn read(text: &str) -> Result<Drafts, AclError> {
    let mut drafts = Drafts::default();
    let mut user = None;
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with('#') {
            read_line(line, &mut user, &mut drafts)
                .map_err(|fault| AclError { line: index + 1, fault })?;
        }
    }
    Ok(drafts)
}

fn read_line(line: &str, user: &mut Option<String>, into: &mut Drafts) -> Result<(), AclFault> {
    let line = line.trim_end().trim_start_matches(' ');
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    match word {
        "" => Ok(()),
        "user" if rest.is_empty() => Err(AclFault::NoUser),
        "user" if rest.contains('\0') => Err(AclFault::NullInUser),
        "user" => {
            // The name may stand without rules: then this user has none.
            into.users.entry(rest.to_owned()).or_default();
            *user = Some(rest.to_owned());
            Ok(())
        }
        "topic" | "pattern" => {
            let (rights, deny, filter) = rule(rest)?;
            let draft = match user {
                _ if word == "pattern" => &mut into.patterns,
                None => &mut into.anonymous,
                Some(user) => into.users.entry(user.clone()).or_default(),
            };
            draft.add(filter, rights, deny)
        }
        word => Err(AclFault::UnknownWord { word: word.to_owned() }),
    }
}

/// `[RIGHT] FILTER`. Only a filter after a right may hold spaces.
fn rule(text: &str) -> Result<(Rights, bool, &str), AclFault> {
    let rights = |word: &str| match word {
        "read" => Some((Rights::READ, false)),
        "write" => Some((Rights::PUBLISH, false)),
        "readwrite" => Some((Rights::ALL, false)),
        "deny" => Some((Rights::ALL, true)),
        _ => None,
    };
    let Some((word, filter)) = text.split_once(' ') else {
        // A right alone is a line that was cut short, rather than a topic of that name.
        let missing = text.is_empty() || rights(text).is_some();
        return if missing { Err(AclFault::NoTopic) } else { Ok((Rights::ALL, false, text)) };
    };
    let (rights, deny) =
        rights(word).ok_or_else(|| AclFault::UnknownRight { word: word.to_owned() })?;
    Ok((rights, deny, filter.trim_start_matches(' ')))
}
