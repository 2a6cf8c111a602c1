//! Command line: `culex serve`, `check`, `config`, `reload`, `passwd`, `pub`, `sub`, `log`.
//!
//! Promise: what went wrong is said in one line on stderr, and the exit status tells it to scripts
//! (`failure::status`). `pub` and `sub` take the everyday options of `mosquitto_pub` and
//! `mosquitto_sub`, with the same letters and meanings.
//! Not here: the broker itself.

mod calendar;
mod check;
mod client;
mod clock;
mod connection;
mod convert;
mod failure;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod log;
mod logging;
mod passwd;
mod property;
mod publish;
mod records;
mod reload;
mod serve;
mod subscribe;

use clap::Parser;
use clap::error::ErrorKind;
use failure::{Failure, status};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// An MQTT 3.1, 3.1.1 and 5.0 broker, and its command-line clients.
#[derive(Debug, Parser)]
#[command(name = "culex", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Check(check::Args),
    Config(convert::Args),
    Reload(reload::Args),
    Passwd(passwd::Args),
    Pub(Box<publish::Args>),
    Sub(Box<subscribe::Args>),
    Log(log::Args),
}

/// Runs the command named by the arguments, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let (name, quiet, result) = match cli.command {
        Command::Serve(args) => ("serve", false, serve::run(&args)),
        Command::Check(args) => ("check", false, check::run(&args)),
        Command::Config(args) => ("config", false, convert::run(&args)),
        Command::Reload(args) => ("reload", false, reload::run(&args)),
        Command::Passwd(args) => ("passwd", false, passwd::run(&args)),
        Command::Pub(args) => ("pub", args.is_quiet(), publish::run(&args)),
        Command::Log(args) => ("log", false, log::run(&args)),
        Command::Sub(args) => ("sub", args.is_quiet(), subscribe::run(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message }) => {
            if !quiet && !message.is_empty() {
                say(&format!("culex {name}: {message}"));
            }
            ExitCode::from(status)
        }
    }
}

/// Answers `--help` and `--version`, and says in one line what is wrong with the options.
fn usage(error: &clap::Error) -> ExitCode {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that closed the pipe has seen enough.
        let _closed = error.print();
        return ExitCode::SUCCESS;
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _closed = error.print();
        return ExitCode::from(status::USAGE);
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    say(&format!("culex: {line} (see --help)"));
    ExitCode::from(status::USAGE)
}

/// Prints a line on stderr; nobody is left to tell if that fails.
fn say(line: &str) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}
