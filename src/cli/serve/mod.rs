//! `culex serve`: the broker.

mod duty;
mod notify;
mod process;

use super::failure::{Failure, status};
use super::logging::{AUDIT, Logging, Owner};
use crate::broker::{self, BrokerError};
use crate::config::{Address, Config, Durability, Level, Listener, Loaded};
use duty::Duty;
use notify::Notify;
use process::PidFile;
use ring::digest::{SHA256, digest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::account::Account;
use shards::disk::DirectoryError;
use shards::log::Mode;
use shards::probe::{self, HostError};
use shards::{EngineError, Placement, StartError};
use std::io::ErrorKind;
use std::path::PathBuf;
use tracing::{info, warn};

/// Runs the broker.
///
/// Without a file: 127.0.0.1:1883, anonymous, one shard per core. A file is TOML (see
/// conf/culex.toml) or a mosquitto.conf as it is. Variables `CULEX_TABLE__KEY` win over the file,
/// options win over both.
///
/// SIGINT and SIGTERM stop it in order, SIGHUP reads the file again, SIGUSR1 opens log files anew.
///
/// Exit status: 0 stopped, 1 wrong options or settings or an address that cannot be listened on, 65
/// the data directory is damaged, 73 it cannot be used, 74 the disk failed, 78 the host lacks
/// something (io_uring, a core, memory, descriptors), 71 the system failed later.
#[derive(Clone, Debug, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
pub(super) struct Args {
    /// Settings: culex.toml or mosquitto.conf.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port of the first listener; 0 = any free one.
    #[arg(short, long)]
    port: Option<u16>,
    /// Number of shards, at most 128; 0 = one per core.
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Directory for sessions and messages. Without it the system's: /var/lib/culex for root, else
    /// ~/.local/state/culex.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// When acknowledgements leave: fsync = on stable storage, interval = written, none = in
    /// memory.
    #[arg(long, value_name = "MODE", value_parser = durability)]
    durability: Option<Durability>,
    /// What to do if acknowledged data is damaged: point-in-time = go on with what was before the
    /// damage, salvage = leave out what cannot be read. Without it the broker does not start. For
    /// this start alone; what is not read stays in its files, or in quarantine/.
    #[arg(long, value_name = "MODE", value_parser = recover)]
    recover: Option<Mode>,
    /// Logs connections and refusals too (level debug).
    #[arg(short, long)]
    verbose: bool,
    /// Goes into the background once it serves. What the log writes to stderr is lost then: let it
    /// go to a file, syslog or the journal.
    #[arg(short, long)]
    daemon: bool,
    /// Checks the settings and the files they name, and ends.
    #[arg(long)]
    test_config: bool,
    /// Prints the settings in force and ends.
    #[arg(long)]
    show_effective: bool,
    /// This is the process in the background.
    #[arg(long, hide = true)]
    detached: bool,
}

/// Reads the settings, starts the log and runs the broker until it is told to stop.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let loaded = args.load()?;
    if args.show_effective {
        return super::check::show(&loaded);
    }
    if args.test_config {
        return super::check::report(&loaded);
    }
    if args.daemon && !args.detached {
        return process::detach();
    }
    process::prepare(&loaded.config.process)?;
    let account = process::account(&loaded.config.process)?;
    let owner: Owner = account.as_ref().map(|account| (account.uid(), account.gid()));
    let log = Logging::start(&loaded.config.log, owner)?;
    start(args, &loaded, account.as_ref(), log)
}

/// Starts the shards and waits for the end: SIGINT or SIGTERM, or a failure.
fn start(
    args: &Args,
    loaded: &Loaded,
    account: Option<&Account>,
    log: Logging,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let host = |message: String| Failure::new(status::HOST, message);
    raise_limits();
    let found = probe::check_host().map_err(|error| host(error.to_string()))?;
    let placement = shards::placement::choose(config.shards_wanted(), config.affinity.cpus())
        .map_err(|error| host(error.to_string()))?;
    let cpus = placement.clone();
    let shards = cpus.cpus().len();
    found.check_descriptors(shards).map_err(|error| host(error.to_string()))?;
    process::place_helpers(&config.helpers).map_err(host)?;
    let pid_file = PidFile::write(config.process.pid_file.as_deref())?;
    let bound = broker::bind(config, placement).map_err(|error| not_started(&error))?;
    // Root's is another one, so it is chosen before the rights are given up.
    let data_dir = super::check::data_directory(config)?;
    process::make_data_directory(config, account)?;
    process::give_up_rights(&config.process, account)?;
    // Taken before the first client can come, so that no early signal is lost.
    let signals = duty::signals()?;
    let mode = args.recover.unwrap_or(Mode::Strict);
    let (running, reloader) =
        bound.start(data_dir.as_deref(), mode).map_err(|error| not_started(&error))?;
    info!(version = env!("CARGO_PKG_VERSION"), shards, "culex starts");
    if let Some(path) = &data_dir {
        info!(path = %path.display(), "data directory");
    }
    remark(loaded, &found, &cpus);
    for address in running.addresses() {
        info!(%address, "listening");
        info!(target: AUDIT, event = "listen", %address);
    }
    let notify = Notify::new(config.process.systemd);
    notify.ready();
    let watchdog = notify.watchdog(running.progress());
    if args.detached {
        process::leave_terminal()?;
    }
    let version = env!("CARGO_PKG_VERSION");
    info!(target: AUDIT, event = "start", version, config = fingerprint(config));
    let duty = Duty { args: args.clone(), reloader, log, notify, stopper: running.stopper() };
    let waiter = duty.start(signals)?;
    let ended = running.join().map_err(|error| {
        let why = error.to_string();
        info!(target: AUDIT, event = "failure", why);
        match error {
            EngineError::Log { .. } => Failure::new(status::IO, why),
            EngineError::Ring { .. } => Failure::new(status::SYSTEM, why),
        }
    });
    let log = waiter.end();
    drop(watchdog);
    drop(pid_file);
    info!(target: AUDIT, event = "stop");
    info!("stopped");
    drop(log);
    ended
}

/// Takes all that the host allows: the usual soft limit of 1,024 descriptors is for programs that
/// use `select`, and what root may lock in memory its heir may not. If it fails, the limit that was
/// there is checked next.
fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let Rlimit { current, maximum } = getrlimit(resource);
        if current != maximum {
            let _kept = setrlimit(resource, Rlimit { current: maximum, maximum });
        }
    }
}

/// What is not as it should be, but is no reason not to start.
fn remark(loaded: &Loaded, found: &probe::HostReport, placement: &Placement) {
    let config = &loaded.config;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    remark_open(config);
    if rustix::process::geteuid().is_root() && config.process.user.is_none() {
        warn!("runs as root: name another user (process.user)");
    }
    match config.durability {
        Durability::Fsync => {}
        Durability::Interval => {
            let ms = config.fsync_interval_ms;
            warn!(ms, "a power failure may lose what was acknowledged in this time");
        }
        Durability::None => warn!("sessions and messages are kept in memory alone"),
    }
    if let Some(limit) = found.descriptors_max.filter(|_| found.has_few_descriptors()) {
        warn!(limit, "few open files allowed, one connection needs one: raise `ulimit -n`");
    }
    if placement.is_crowded() {
        warn!("there are more shards than cores, so they share them, which costs time");
    }
}

/// Tells settings apart in the audit log: the first half of their SHA-256.
fn fingerprint(config: &Config) -> String {
    let digest = digest(&SHA256, config.to_toml().as_bytes());
    let half = digest.as_ref().iter().take(16);
    half.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Who lets everybody in should know.
fn remark_open(config: &Config) {
    for listener in config.open_listeners() {
        let address = &listener.address;
        warn!(%address, "everybody in the network may connect here (allow_anonymous = true)");
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
        BrokerError::Directory(error @ DirectoryError::Damaged { .. }) => {
            let hint = "start with --recover point-in-time or --recover salvage to go on without \
                        it, after a copy of the directory; `culex log verify` says more";
            Failure::new(error.exit_status(), format!("{message}: {hint}"))
        }
        BrokerError::Directory(error) => Failure::new(error.exit_status(), message),
        BrokerError::Record { .. } => Failure::new(status::DATA, message),
        BrokerError::Busy { .. } => Failure::new(status::SYSTEM, message),
        BrokerError::Threads(_) => Failure::new(status::HOST, message),
        BrokerError::TooManyShards { .. }
        | BrokerError::TooManyListeners
        | BrokerError::Login(_)
        | BrokerError::Rules(_)
        | BrokerError::Tls { .. }
        | BrokerError::Start(StartError::Listen { .. } | StartError::Settings(_)) => {
            Failure::usage(message)
        }
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "fsync" => Ok(Durability::Fsync),
        "interval" => Ok(Durability::Interval),
        "none" => Ok(Durability::None),
        _ => Err("fsync, interval or none".to_owned()),
    }
}

fn recover(text: &str) -> Result<Mode, String> {
    match text {
        "point-in-time" => Ok(Mode::PointInTime),
        "salvage" => Ok(Mode::Salvage),
        _ => Err("point-in-time or salvage".to_owned()),
    }
}

impl Args {
    /// The settings of file and environment, with the options laid over them.
    fn load(&self) -> Result<Loaded, Failure> {
        let mut loaded = super::check::load(self.config.as_deref())?;
        let config = &mut loaded.config;
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
        if let Some(data_dir) = &self.data_dir {
            config.data_dir = Some(data_dir.clone());
        }
        if let Some(durability) = self.durability {
            config.durability = durability;
        }
        if self.verbose && config.log.level < Level::Debug {
            config.log.level = Level::Debug;
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_means_the_defaults() {
        assert_eq!(Args::default().load().expect("valid").config, Config::default());
    }

    #[test]
    fn options_win_over_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("culex.toml");
        let text = "shards = 1\naffinity = [0, 1]\n[[listener]]\naddress = '[::1]:1999'\n\
                    [[listener]]\naddress = '[::1]:2000'\n[log]\nlevel = 'trace'\n";
        std::fs::write(&path, text).expect("can write");
        let args = Args {
            config: Some(path),
            port: Some(7),
            shards: Some(2),
            data_dir: Some(PathBuf::from("d")),
            durability: Some(Durability::None),
            verbose: true,
            ..Args::default()
        };
        let config = args.load().expect("valid").config;
        let addresses: Vec<_> =
            config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(addresses, ["[::1]:7", "[::1]:2000"]);
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
        let failure = args.load().expect_err("one core");
        assert_eq!(failure.message, "--shards: 2 shards need 2 cores, but affinity names 1");
    }
}
