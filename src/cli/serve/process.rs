//! The broker as a process: rights, files, background.
//!
//! ```text
//!   settings read ─▶ umask, no_new_privs ─▶ listeners bound, keys read ─▶ another user ─▶ threads
//! ```

use crate::cli::check::data_directory;
use crate::cli::failure::{Failure, status};
use crate::config::{Config, Process};
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{CpuSet, sched_setaffinity, set_no_new_privs};
use shards::account::Account;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What the process in the background says when it serves.
const READY: &str = "ready";
/// Files of the broker are its own.
const UMASK: u32 = 0o077;

/// Starts this program again, in the background, and waits until it serves or has failed.
///
/// A process with threads cannot be copied, and this one may have some; a new one has none.
pub(super) fn detach() -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::system("cannot go into the background", &error);
    let program = std::env::current_exe().map_err(fail)?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        let _nothing_said =
            BufReader::new(output).take(READY.len() as u64 + 1).read_line(&mut said);
    }
    if said.trim_end() == READY {
        return Ok(());
    }
    // It has said itself what is wrong.
    let ended = child.wait().map_err(fail)?;
    Err(Failure { status: exit_status(ended), message: String::new() })
}

fn exit_status(ended: ExitStatus) -> u8 {
    ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(status::SYSTEM)
}

/// The process in the background serves: it has no terminal any more.
pub(super) fn leave_terminal() -> Result<(), Failure> {
    let fail = |error: io::Error| Failure::system("cannot leave the terminal", &error);
    setsid().map_err(|error| fail(error.into()))?;
    let mut out = io::stdout();
    writeln!(out, "{READY}").and_then(|()| out.flush()).map_err(fail)?;
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(fail)?;
    dup2_stdin(&nothing).map_err(|error| fail(error.into()))?;
    dup2_stdout(&nothing).map_err(|error| fail(error.into()))?;
    dup2_stderr(&nothing).map_err(|error| fail(error.into()))
}

/// What holds from the first file on, and for all threads that come.
pub(super) fn prepare(process: &Process) -> Result<(), Failure> {
    umask(rustix::fs::Mode::from_raw_mode(UMASK));
    if process.no_new_privs {
        set_no_new_privs(true).map_err(|error| Failure::system("no_new_privs", &error.into()))?;
    }
    Ok(())
}

/// Whom to become; `None` if not started as root, or if root is to stay.
pub(super) fn account(process: &Process) -> Result<Option<Account>, Failure> {
    let Some(user) = process.user.as_deref().filter(|_| geteuid().is_root()) else {
        return Ok(None);
    };
    Account::find(user, process.group.as_deref())
        .map(Some)
        .map_err(|error| Failure::usage(format!("process.user: {error}")))
}

/// Becomes somebody else for good, before there are shards.
pub(super) fn give_up_rights(process: &Process, account: Option<&Account>) -> Result<(), Failure> {
    if let Some(account) = account {
        account.enter().map_err(|error| Failure::new(status::SYSTEM, error.to_string()))?;
    }
    if !process.dumpable {
        // Neither debuggers nor core files of other processes of this user get at the keys.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| Failure::system("dumpable", &error.into()))?;
    }
    Ok(())
}

/// The calling thread, and all that it starts, run on these cores; shards choose their own.
pub(super) fn place_helpers(cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
        .map_err(|error| format!("helpers = {cpus:?}: {}", io::Error::from(error)))
}

/// Makes the data directory while the rights are there, for whom will use it.
pub(super) fn make_data_directory(
    config: &Config,
    account: Option<&Account>,
) -> Result<(), Failure> {
    let Some(path) = data_directory(config)? else { return Ok(()) };
    let Some(account) = account.filter(|_| !path.exists()) else { return Ok(()) };
    let fail = |error: io::Error| {
        let what = format!("cannot create data directory {}: {error}", path.display());
        Failure::new(status::UNUSABLE, what)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(fail)?;
    chown(&path, Some(account.uid()), Some(account.gid())).map_err(fail)
}

/// The file with the number of the process; it goes with this value.
#[derive(Debug)]
pub(super) struct PidFile(Option<(PathBuf, File)>);

impl PidFile {
    pub(super) fn write(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self(None)) };
        let fail = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
        let options = OpenOptions::new();
        let mut file = options
            .clone()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o644)
            .open(path)
            .map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Self(Some((path.to_owned(), file))))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some((path, file)) = &self.0 {
            // Who has given up the right to remove it can still empty it.
            let _emptied = file.set_len(0);
            let _not_ours = std::fs::remove_file(path);
        }
    }
}
