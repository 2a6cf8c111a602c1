//! `culex reload`: tells a running broker to read its settings again.

use super::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};

/// Tells a running broker to read its settings again (SIGHUP).
///
/// What came of it stands in the broker's log: a file that is not valid changes nothing.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// Number of the process.
    #[arg(long, value_name = "N")]
    pid: Option<i32>,
    /// File with the number (`process.pid_file`).
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let number = match (&args.pid_file, args.pid) {
        (Some(path), _) => read(path)?,
        (None, Some(pid)) => pid,
        (None, None) => return Err(Failure::usage("--pid or --pid-file is needed")),
    };
    let pid = Some(number).filter(|number| *number > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::usage(format!("{number} is no process")))?;
    // SIGHUP ends programs that do not expect it.
    let name = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    if name.trim() != "culex" {
        return Err(Failure::usage(format!("process {number} is no culex")));
    }
    kill_process(pid, Signal::HUP)
        .map_err(|error| Failure::system(format_args!("process {number}"), &error.into()))
}

fn read(path: &Path) -> Result<i32, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::system(path.display(), &error))?;
    let wrong = || Failure::usage(format!("{}: holds no number of a process", path.display()));
    text.trim().parse().map_err(|_| wrong())
}
