//! `culex config convert`: a mosquitto.conf as culex.toml.

use super::check::print;
use super::failure::Failure;
use crate::config::mosquitto;
use std::path::PathBuf;

/// Works on settings files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints the TOML that means the same as a mosquitto.conf. What means nothing here is said on
    /// stderr.
    Convert {
        /// The mosquitto.conf.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Command::Convert { file } = &args.command;
    let loaded = mosquitto::load(file).map_err(|error| Failure::usage(error.to_string()))?;
    for warning in &loaded.warnings {
        super::say(&format!("culex: {warning}"));
    }
    print(&loaded.config.to_short_toml())
}
