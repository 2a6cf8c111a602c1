//! `culex serve`: the broker.

use super::failure::{Failure, status};
use super::logging;
use crate::broker::{self, BrokerError};
use crate::config::{Address, Config, Level, Listener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::probe::{self, HostError};
use shards::{Placement, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::ErrorKind;
use std::path::PathBuf;
use tracing::{info, warn};

/// Runs the broker.
///
/// Without a file: 127.0.0.1:1883, anonymous, one shard per core. Options win over the file.
/// SIGINT and SIGTERM stop it in order.
///
/// Exit status: 0 stopped, 1 wrong options or settings or an address that cannot be listened on, 78
/// the host lacks something (io_uring, a core, memory, descriptors), 71 the system failed later.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Settings (see conf/culex.toml).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of the first listener; 0 = any free one.
    #[arg(short, long)]
    port: Option<u16>,
    /// Number of shards, at most 128; 0 = one per core.
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Directory for sessions and messages. Not used yet: everything is in memory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Logs connections and refusals too (level debug).
    #[arg(short, long)]
    verbose: bool,
}

/// Reads the settings, starts the log and runs the broker until it is told to stop.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let config = args.config()?;
    logging::start(&config.log);
    start(&config)
}

/// Starts the shards and waits for the end: SIGINT or SIGTERM, or a failure.
fn start(config: &Config) -> Result<(), Failure> {
    let host = |message: String| Failure::new(status::HOST, message);
    raise_descriptors();
    let found = probe::check_host().map_err(|error| host(error.to_string()))?;
    let placement = shards::placement::choose(config.shards_wanted(), config.affinity.cpus())
        .map_err(|error| host(error.to_string()))?;
    let cpus = placement.clone();
    let shards = cpus.cpus().len();
    found.check_descriptors(shards).map_err(|error| host(error.to_string()))?;
    // Taken before the first client can come, so that no early signal is lost.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::system("cannot listen for signals", &error))?;
    let running = broker::start(config, placement).map_err(|error| not_started(&error))?;
    info!(version = env!("CARGO_PKG_VERSION"), shards, "culex starts");
    remark(config, &found, &cpus);
    for address in running.addresses() {
        info!(%address, "listening");
    }
    let stopper = running.stopper();
    let handle = signals.handle();
    let waiter = std::thread::spawn(move || {
        for signal in signals.forever() {
            info!(signal, "stopping");
            stopper.stop();
        }
    });
    let ended = running.join().map_err(|error| Failure::new(status::SYSTEM, error.to_string()));
    handle.close();
    let _ended = waiter.join();
    info!("stopped");
    ended
}

/// Takes all the descriptors that the host allows: the usual soft limit of 1,024 is for programs
/// that use `select`. If it fails, the limit that was there is checked next.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let _kept = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// What is not as it should be, but is no reason not to start.
fn remark(config: &Config, found: &probe::HostReport, placement: &Placement) {
    if let Some(directory) = &config.data_dir {
        let directory = directory.display();
        warn!(%directory, "data_dir is not used yet: everything is in memory");
    }
    if let Some(limit) = found.descriptors_max.filter(|_| found.has_few_descriptors()) {
        warn!(limit, "few open files allowed, one connection needs one: raise `ulimit -n`");
    }
    if placement.is_crowded() {
        warn!("there are more shards than cores, so they share them, which costs time");
    }
}

/// A wrong setting is the user's, a lack of resources the host's.
fn not_started(error: &BrokerError) -> Failure {
    let message = error.to_string();
    match error {
        BrokerError::Start(StartError::Shard { shard, source })
            if source.kind() == ErrorKind::OutOfMemory =>
        {
            Failure::new(status::HOST, format!("shard {shard}: {}", HostError::LockedMemory))
        }
        BrokerError::Start(StartError::Shard { .. } | StartError::Executor { .. }) => {
            Failure::new(status::HOST, message)
        }
        BrokerError::Start(StartError::Listen { address, source })
            if source.kind() == ErrorKind::PermissionDenied
                && address.tcp().is_some_and(|tcp| tcp.port() < 1024) =>
        {
            let hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE";
            Failure::usage(format!("{message}: {hint}"))
        }
        BrokerError::Threads(_) => Failure::new(status::HOST, message),
        BrokerError::TooManyShards { .. }
        | BrokerError::Login(_)
        | BrokerError::Rules(_)
        | BrokerError::NotSupported { .. }
        | BrokerError::Tls { .. }
        | BrokerError::Start(StartError::Listen { .. } | StartError::Settings(_)) => {
            Failure::usage(message)
        }
    }
}

impl Args {
    /// The file's settings, or the defaults, with the options laid over them.
    fn config(self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::load(path).map_err(|error| Failure::usage(error.to_string()))?,
            None => Config::default(),
        };
        if let Some(port) = self.port {
            match config.listeners.first_mut() {
                Some(Listener { address: Address::Tcp(address), .. }) => address.set_port(port),
                Some(Listener { address: Address::Unix(_), .. }) => {
                    return Err(Failure::usage("--port: the first listener is a Unix socket"));
                }
                None => config.listeners.push(Listener::local(port)),
            }
        }
        if let Some(shards) = self.shards {
            config.shards = shards.into();
            config.check_shards().map_err(|why| Failure::usage(format!("--shards: {why}")))?;
        }
        if let Some(data_dir) = self.data_dir {
            config.data_dir = Some(data_dir);
        }
        if self.verbose && config.log.level < Level::Debug {
            config.log.level = Level::Debug;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_means_the_defaults() {
        assert_eq!(Args::default().config().expect("valid"), Config::default());
    }

    #[test]
    fn options_win_over_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("culex.toml");
        let text = "shards = 1\naffinity = [0, 1]\n[[listener]]\naddress = '0.0.0.0:1999'\n\
                    [[listener]]\naddress = '0.0.0.0:2000'\n[log]\nlevel = 'trace'\n";
        std::fs::write(&path, text).expect("can write");
        let args = Args {
            config: Some(path),
            port: Some(7),
            shards: Some(2),
            data_dir: Some(PathBuf::from("d")),
            verbose: true,
        };
        let config = args.config().expect("valid");
        let addresses: Vec<_> =
            config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(addresses, ["0.0.0.0:7", "0.0.0.0:2000"]);
        assert_eq!(config.shards_wanted(), Some(2));
        assert_eq!(config.data_dir, Some(PathBuf::from("d")));
        assert_eq!(config.log.level, Level::Trace, "-v does not make it quieter");
    }

    #[test]
    fn shards_must_fit_the_cores_of_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("culex.toml");
        std::fs::write(&path, "affinity = [0]\n").expect("can write");
        let args = Args { config: Some(path), shards: Some(2), ..Args::default() };
        let failure = args.config().expect_err("one core");
        assert_eq!(failure.message, "--shards: 2 shards need 2 cores, but affinity names 1");
    }
}
