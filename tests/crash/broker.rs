//! The broker under test: the real binary, ended and started again on the same directory and port.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::DURABILITY_BUILT;
use crate::rng::Rng;

/// Limits that no run reaches: what is dropped and counted would hide what is lost.
const LIMITS: &str = "
sys_interval_s = 0
[limits]
receive_maximum = 200
inflight_max = 50
queue_messages_max = 4000000000
queue_bytes_max = 100000000000
output_bytes_max = 100000000
";

/// How long a process may take to end, or a mount to become idle, in milliseconds.
pub(crate) const END_MS: u64 = 20_000;

/// How the broker is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    pub(crate) durability: String,
    pub(crate) shards: usize,
    /// Length of the files of the log: short ones are changed, cleaned and removed all the time.
    pub(crate) segment_bytes: usize,
    /// Environment of the broker alone.
    pub(crate) environment: Vec<(String, String)>,
}

impl Setup {
    /// The binary of this build.
    pub(crate) fn new(durability: &str, shards: usize) -> Self {
        Self {
            binary: env!("CARGO_BIN_EXE_culex").into(),
            durability: durability.into(),
            shards,
            segment_bytes: 64 << 20,
            environment: Vec::new(),
        }
    }

    /// Options that every binary knows, and those that came with durability.
    fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--shards".to_owned(), self.shards.to_string()];
        if DURABILITY_BUILT {
            words.extend(["--durability".to_owned(), self.durability.clone()]);
        }
        words
    }
}

/// One directory and port, and the process that has them now.
pub(crate) struct Broker {
    pub(crate) setup: Setup,
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    folder: PathBuf,
    process: Option<(Child, OwnedFd)>,
}

impl Broker {
    /// Nothing is started yet. Settings and log are kept in `folder`, messages in `data`.
    pub(crate) fn new(setup: Setup, folder: &Path, data: &Path, rng: &mut Rng) -> Self {
        let settings = format!("log_segment_bytes = {}{LIMITS}", setup.segment_bytes);
        std::fs::write(folder.join("culex.toml"), settings).unwrap();
        Self {
            setup,
            address: free_address(rng),
            data: data.to_owned(),
            folder: folder.to_owned(),
            process: None,
        }
    }

    /// Starts a process. It ends with the thread that called this, whatever happens.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "one at a time");
        self.wait_for_port();
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.setup.binary)
            .args(["serve", "-c"])
            .arg(self.folder.join("culex.toml"))
            .args(["-p", &self.address.port().to_string(), "--data-dir"])
            .arg(&self.data)
            .args(self.setup.arguments())
            .envs(self.setup.environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux starts");
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("the child is there");
        self.process = Some((child, handle));
    }

    /// The kernel takes a ring apart after its process is gone, and the listening sockets with it.
    fn wait_for_port(&self) {
        let mut waited_ms = 0;
        while TcpListener::bind(self.address).is_err() {
            assert!(waited_ms < END_MS, "{} stays taken", self.address);
            pause(1);
            waited_ms += 1;
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Sends a signal to the process, if there is one.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some((_, handle)) = &self.process {
            let _ended_before = pidfd_send_signal(handle, signal);
        }
    }

    /// Ends the process at once and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some((mut child, handle)) = self.process.take() {
            let mut fds = [PollFd::new(&handle, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timespec(END_MS))).unwrap();
            assert!(ready > 0, "the broker does not end: {}", self.log_end());
            child.wait().unwrap();
        }
    }

    /// Asks the process to stop in order, and waits for it.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some((_, handle)) = &self.process {
            let mut fds = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&timespec(END_MS))).unwrap();
        }
        self.kill();
    }

    /// How the process ended, if it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let (child, _) = self.process.as_mut()?;
        let status = child.try_wait().unwrap()?;
        Some(format!("the broker ended by itself: {status}\n{}", self.log_end()))
    }

    /// Was it ended by a named point? (Others kill it by SIGKILL.)
    pub(crate) fn ended_at_point(&mut self) -> bool {
        let Some((child, _)) = self.process.as_mut() else { return false };
        let status = child.try_wait().unwrap();
        status.is_some_and(|status| status.signal() == Some(Signal::ABORT.as_raw()))
    }

    /// The last lines of standard error of all processes so far.
    pub(crate) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Lines of standard error that tell of a bug, whatever the clients saw.
    pub(crate) fn panics(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port nobody has. It lies below those the kernel gives to outgoing connections: none of them
/// can take it while the broker is away, or connect to itself.
fn free_address(rng: &mut Rng) -> SocketAddr {
    // The seed alone would give the same port to two runs, or two tests, at the same time.
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let process = usize::try_from(std::process::id()).unwrap() * 7;
    let offset = process + TAKEN.fetch_add(1, Ordering::Relaxed) * 1009;
    loop {
        let port = 10_000 + (rng.below(20_000) + offset) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

pub(crate) fn timespec(ms: u64) -> Timespec {
    Timespec::try_from(std::time::Duration::from_millis(ms)).unwrap()
}

/// Waits where there is no event to wait for.
pub(crate) fn pause(ms: u64) {
    poll(&mut [], Some(&timespec(ms))).unwrap();
}
