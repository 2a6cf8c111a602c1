//! `culex check`: is a file valid, and what does it say?

use super::failure::Failure;
use crate::broker;
use crate::config::{Config, Loaded};
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

/// Checks settings without running anything.
///
/// Reads the file and the environment as `culex serve` does, and all files that they name:
/// passwords, rules, certificates, keys. What is wrong is one line with file, line and key, and
/// exit status 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings: culex.toml or mosquitto.conf.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the settings in force, defaults included. There are no secrets among them.
    #[arg(long)]
    show_effective: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let loaded = load(args.config.as_deref())?;
    if args.show_effective { show(&loaded) } else { report(&loaded) }
}

/// The settings of a file and the environment.
pub(super) fn load(path: Option<&Path>) -> Result<Loaded, Failure> {
    // A variable that is no text cannot name a setting.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Loaded::new(path, variables).map_err(|error| Failure::usage(error.to_string()))
}

/// Says that all is well, after what means nothing.
pub(super) fn report(loaded: &Loaded) -> Result<(), Failure> {
    broker::check(&loaded.config).map_err(|error| Failure::usage(error.to_string()))?;
    for warning in &loaded.warnings {
        super::say(&format!("culex: {warning}"));
    }
    for listener in loaded.config.open_listeners() {
        super::say(&format!("culex: {}: everybody may connect here", listener.address));
    }
    print("The settings are valid.\n")
}

/// Prints the settings in force.
pub(super) fn show(loaded: &Loaded) -> Result<(), Failure> {
    let mut config = loaded.config.clone();
    config.data_dir = data_directory(&config)?;
    print(&config.to_toml())
}

/// Where sessions and messages are kept, if anywhere.
pub(super) fn data_directory(config: &Config) -> Result<Option<PathBuf>, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let is_root = rustix::process::geteuid().is_root();
    config.data_directory(variable, is_root).map_err(Failure::usage)
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    stdout().write_all(text.as_bytes()).map_err(|error| Failure::system("standard output", &error))
}
