//! The user the process runs as.
//!
//! Promise: after [`Account::enter`] no thread of the process has the rights of root, or can get
//! them back; if that cannot be had, it says so and the caller ends.

use std::ffi::CString;
use std::fs;
use std::io;

use crate::sys::{self, Entry};

/// A user of the system that the process can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: CString,
    entry: Entry,
}

/// Why the user cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody has this name.
    #[error("there is no user {0}")]
    NoUser(String),
    /// No group has this name.
    #[error("there is no group {0}")]
    NoGroup(String),
    /// The system refused.
    #[error("cannot become user {name}: {source}")]
    Refused {
        /// The user.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It seemed to work, but rights were left.
    #[error("the rights of root were not given up by all threads")]
    StillRoot,
}

impl Account {
    /// Looks a user and, if it is not its own, a group up.
    ///
    /// # Errors
    /// [`AccountError`]: there is none, or the system does not tell.
    pub fn find(user: &str, group: Option<&str>) -> Result<Account, AccountError> {
        let refused = |source: io::Error| AccountError::Refused { name: user.to_owned(), source };
        let text = |text: &str| CString::new(text).map_err(|error| refused(error.into()));
        let name = text(user)?;
        let entry = sys::user(&name).map_err(refused)?;
        let mut entry = entry.ok_or_else(|| AccountError::NoUser(user.to_owned()))?;
        if let Some(group) = group {
            let found = sys::group(&text(group)?).map_err(refused)?;
            entry.gid = found.ok_or_else(|| AccountError::NoGroup(group.to_owned()))?;
        }
        Ok(Account { name, entry })
    }

    /// Number of the user.
    pub fn uid(&self) -> u32 {
        self.entry.uid
    }

    /// Number of the group.
    pub fn gid(&self) -> u32 {
        self.entry.gid
    }

    /// Becomes this user, in all threads, for good.
    ///
    /// # Errors
    /// [`AccountError`]; the process must end then, its rights are in between.
    pub fn enter(&self) -> Result<(), AccountError> {
        let refused = |source: io::Error| {
            let name = self.name.to_string_lossy().into_owned();
            AccountError::Refused { name, source }
        };
        sys::become_user(&self.name, self.entry).map_err(refused)?;
        let left = self.entry.uid != 0 && sys::can_become_root();
        if left || !self.is_entered_by_all().map_err(refused)? {
            return Err(AccountError::StillRoot);
        }
        Ok(())
    }

    /// Do all threads run as this user, by what the kernel says of each?
    fn is_entered_by_all(&self) -> io::Result<bool> {
        let Entry { uid, gid } = self.entry;
        for task in fs::read_dir("/proc/self/task")? {
            // A thread that ended meanwhile has no rights.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            let are = |field: &str, id: u32| {
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                line.is_some_and(|line| line.split_whitespace().all(|word| word.parse() == Ok(id)))
            };
            if !are("Uid:", uid) || !are("Gid:", gid) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names() {
        let root = Account::find("root", None).expect("there is always root");
        assert_eq!((root.uid(), root.gid()), (0, 0));
        let unknown = Account::find("no-such-user", None).expect_err("nobody has this name");
        assert_eq!(unknown.to_string(), "there is no user no-such-user");
        let unknown = Account::find("root", Some("no-such-group")).expect_err("no group");
        assert_eq!(unknown.to_string(), "there is no group no-such-group");
        assert!(Account::find("a\0b", None).is_err());
    }
}
