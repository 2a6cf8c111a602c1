//! From the settings to compiled access rules.

use super::slots::Slot;
use crate::access::{Access, AclError, AclFault, At, Builder, RoleRules};
use crate::config::{Acl, Config};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;

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

/// Reads and compiles all rules, or none: what is wrong leaves nothing half in force. `before` are
/// those in force.
///
/// # Errors
/// [`RulesError`], the first that is found.
pub(super) fn access(
    config: &Config,
    slots: &[Slot],
    before: Option<&Access>,
) -> Result<Access, RulesError> {
    let mut own = Own::default();
    // Files of open listeners first: what is wrong with them is never passed over.
    for slot in slots.iter().filter(|slot| slot.is_open) {
        own.place(slot, |path| Ok(Arc::new(file(Builder::new(), path)?.build())))?;
    }
    for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| !slot.is_open) {
        // Only connections are left there, and the file may be gone: they keep what they had.
        own.place(slot, |path| {
            let error = match file(Builder::new(), path) {
                Ok(rules) => return Ok(Arc::new(rules.build())),
                Err(error) => error,
            };
            let kept = before.zip(u16::try_from(number).ok());
            let kept = kept.and_then(|(before, number)| before.own_of(number).cloned());
            let address = &slot.listener.address;
            warn!(%address, %error, "rules of a closed listener stay as they were");
            Ok(kept.unwrap_or_else(|| Arc::new(Builder::new().build())))
        })?;
    }
    let listeners = slots.iter().map(|slot| At {
        own: slot.listener.acl_file.as_deref().and_then(|path| own.find(path)),
        is_open: slot.is_open,
        users: slot.users(),
    });
    let listeners = listeners.collect();
    Ok(common(&config.acl)?.with_own(own.rules, listeners))
}

/// Rules of listeners, each file once.
#[derive(Default)]
struct Own<'a> {
    paths: Vec<&'a Path>,
    rules: Vec<Arc<Access>>,
}

impl<'a> Own<'a> {
    fn find(&self, path: &Path) -> Option<usize> {
        self.paths.iter().position(|one| *one == path)
    }

    /// Has the rules of this listener's file, if it names one that was not read before.
    fn place(
        &mut self,
        slot: &'a Slot,
        read: impl FnOnce(&Path) -> Result<Arc<Access>, RulesError>,
    ) -> Result<(), RulesError> {
        let Some(path) = slot.listener.acl_file.as_deref() else { return Ok(()) };
        if self.find(path).is_none() {
            self.rules.push(read(path)?);
            self.paths.push(path);
        }
        Ok(())
    }
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
    use crate::access::{Action, Verdict, Who, authorise};
    use crate::broker::slots::{self, Plan};

    fn load(settings: &str, file: Option<&[u8]>) -> Result<Access, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if let Some(bytes) = file {
            std::fs::write(directory.path().join("acl"), bytes).expect("can write");
        }
        let path = directory.path().join("culex.toml");
        std::fs::write(&path, settings).expect("can write");
        let config = Config::load(&path).expect("valid settings");
        let place = format!("{}/", directory.path().display());
        access(&config, &slots::first(&config), None)
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

    /// Settings with a listener for each port and its rule file.
    fn listening(directory: &Path, listeners: &[(u16, &str)]) -> Config {
        let one = |(port, file): &(u16, &str)| {
            let file = directory.join(file);
            format!("[[listener]]\naddress = '127.0.0.1:{port}'\nacl_file = {file:?}\n")
        };
        let text = listeners.iter().map(one).collect::<String>();
        Config::parse(&text, Path::new("culex.toml")).expect("valid settings")
    }

    fn may(access: &Access, listener: u16, topic: &str) -> bool {
        let who = Who { client_id: "c", listener: Some(listener), ..Who::default() };
        authorise(access, who, Action::Publish, topic) == Verdict::Allow
    }

    #[test]
    fn a_closed_listener_hides_no_fault_of_an_open_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("a");
        std::fs::write(&file, "topic x\n").expect("can write");
        let config = listening(directory.path(), &[(1, "a"), (2, "a")]);
        let mut slots = slots::first(&config);
        let before = access(&config, &slots, None).expect("valid");
        slots[0].is_open = false;
        std::fs::write(&file, "topik x\n").expect("can write");
        let error = access(&config, &slots, Some(&before)).expect_err("the second is open");
        assert!(matches!(error, RulesError::File { .. }), "{error}");
        slots[1].is_open = false;
        let kept = access(&config, &slots, Some(&before)).expect("nobody may come in by it");
        assert!(may(&kept, 0, "x") && may(&kept, 1, "x"));
    }

    #[test]
    fn connections_of_a_closed_listener_keep_their_rules() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("a"), "topic x\n").expect("can write");
        std::fs::write(file("b"), "topic y\n").expect("can write");
        let config = listening(directory.path(), &[(1, "a"), (2, "b")]);
        let slots = slots::first(&config);
        let mut rules = access(&config, &slots, None).expect("valid");
        std::fs::remove_file(file("a")).expect("can remove");
        let config = listening(directory.path(), &[(2, "b")]);
        let slots = Plan::new(&slots, &config).expect("few").slots;
        for _ in 0..2 {
            rules = access(&config, &slots, Some(&rules)).expect("valid");
            assert!(may(&rules, 0, "x") && !may(&rules, 0, "y"));
            assert!(may(&rules, 1, "y") && !may(&rules, 1, "x"));
        }
        // As long as the file is there, it is read.
        std::fs::write(file("a"), "topic z\n").expect("can write");
        rules = access(&config, &slots, Some(&rules)).expect("valid");
        assert!(may(&rules, 0, "z") && !may(&rules, 0, "x"));
    }
}
