//! From the settings to compiled access rules.

use super::slots::Slot;
use crate::access::{Access, AclError, AclFault, Builder, RoleRules};
use crate::config::{Acl, Config};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest file of rules: a million lines, which is far more than anybody writes by hand.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why rules cannot be used. One line each.
#[derive(Debug, Error)]
pub enum RulesError {
    /// The file cannot be read as text.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any that is read.
    #[error("{}: more than {FILE_BYTES_MAX} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line of the file is not of the format.
    #[error("{}:{}: {}", .path.display(), .error.line, .error.fault)]
    File {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        error: AclError,
    },
    /// A role of the settings is wrong.
    #[error("acl.roles.{role}: {fault}")]
    Role {
        /// Its name.
        role: String,
        /// What is wrong with it.
        fault: AclFault,
    },
}

/// Reads and compiles all rules, or none: what is wrong leaves nothing half in force.
///
/// # Errors
/// [`RulesError`], the first that is found.
pub(super) fn access(config: &Config, slots: &[Slot]) -> Result<Access, RulesError> {
    let (mut own, mut paths, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for Slot { listener, is_open, .. } in slots {
        let Some(path) = listener.acl_file.as_deref() else {
            listeners.push(None);
            continue;
        };
        let place = paths.iter().position(|one| *one == path);
        if place.is_none() {
            let rules = file(Builder::new(), path).map(Builder::build);
            // Of a listener that is closed only connections are left; its file may be gone.
            own.push(if *is_open { rules? } else { rules.unwrap_or(Builder::new().build()) });
            paths.push(path);
        }
        listeners.push(Some(place.unwrap_or(paths.len() - 1)));
    }
    let common = common(&config.acl)?;
    Ok(if own.is_empty() { common } else { common.with_own(own, listeners) })
}

/// Adds the rules of a file.
fn file(mut builder: Builder, path: &Path) -> Result<Builder, RulesError> {
    let text = read(path)?;
    let wrong = |error| RulesError::File { path: path.to_owned(), error };
    builder.file(&text).map_err(wrong).map(|()| builder)
}

/// Those of listeners that have none of their own.
fn common(acl: &Acl) -> Result<Access, RulesError> {
    let Acl::Rules(rules) = acl else { return Ok(Access::allow_all()) };
    let mut builder = Builder::new();
    if let Some(path) = &rules.file {
        builder = file(builder, path)?;
    }
    for (name, role) in &rules.roles {
        let role = RoleRules {
            users: &role.users,
            publish: &role.publish,
            subscribe: &role.subscribe,
            deny: &role.deny,
        };
        builder.role(role).map_err(|fault| RulesError::Role { role: name.clone(), fault })?;
    }
    Ok(builder.build())
}

fn read(path: &Path) -> Result<String, RulesError> {
    let unreadable = |source| RulesError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(RulesError::TooLarge { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(settings: &str, file: Option<&[u8]>) -> Result<Access, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if let Some(bytes) = file {
            std::fs::write(directory.path().join("acl"), bytes).expect("can write");
        }
        let path = directory.path().join("culex.toml");
        std::fs::write(&path, settings).expect("can write");
        let config = Config::load(&path).expect("valid settings");
        let place = format!("{}/", directory.path().display());
        access(&config, &super::super::slots::first(&config))
            .map_err(|error| error.to_string().replace(&place, ""))
    }

    #[test]
    fn no_rules_are_no_rules_and_an_empty_file_is_one() {
        for settings in ["", "acl = \"allow-all\""] {
            assert!(!load(settings, None).expect("valid").is_ruled(), "{settings}");
        }
        for file in ["", "# nothing\n", "\n\r\n"] {
            let access = load("[acl]\nfile = \"acl\"", Some(file.as_bytes())).expect("valid");
            assert!(access.is_ruled());
        }
        assert!(load("[acl]", None).expect("valid").is_ruled());
    }

    #[test]
    fn errors_name_file_and_line() {
        let long = format!("topic a\ntopic read {}\n", "x".repeat(70_000));
        for (file, expected) in [
            (&b"topic a\r\ntopic reed b\r\n"[..], "acl:2: \"reed\" is none of read, write"),
            (b"\n\nuser\n", "acl:3: a user name is missing"),
            (
                b"user a\ntopic read a\0b\n",
                "acl:2: \"a\\0b\": a topic filter has no null character",
            ),
            (b"user a\ntopic read a\xff\n", "acl: stream did not contain valid UTF-8"),
            (b"user a\ntopic", "acl:2: a topic is missing"),
            (long.as_bytes(), "acl:2: \"xxx"),
        ] {
            let error = load("[acl]\nfile = \"acl\"", Some(file)).expect_err("not valid");
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = load("[acl]\nfile = \"acl\"", None).expect_err("not there");
        assert!(error.starts_with("acl: No such file"), "{error}");
        let error = load("[acl.roles.r]\nusers = ['a']\npublish = ['a/#/b']", None);
        let error = error.expect_err("no filter");
        assert!(error.starts_with("acl.roles.r: \"a/#/b\": '#' stands"), "{error}");
    }
}
