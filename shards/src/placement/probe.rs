//! Checks the host before anything starts, because glommio panics where it finds no `io_uring`.
//!
//! Every failure is one line that names the cause and what to do.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::conn::ConnId;
use crate::net::ring::{self, Event, Receive};
use crate::sys::{self, Limit};

/// Exit status for a host or configuration that cannot work: `EX_CONFIG` of sysexits.h.
pub const EX_CONFIG: i32 = 78;

/// Oldest kernel with deferred task work, which Debian 12 has.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// glommio refuses to start below this.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// Below this a warning is due: a broker is made for more connections.
const DESCRIPTORS_FEW: u64 = 4096;
/// Below this not even the shards themselves fit.
const DESCRIPTORS_MIN: u64 = 64;
/// Descriptors that the shards together need, and one of them.
const DESCRIPTORS_BASE: u64 = 16;
const DESCRIPTORS_PER_SHARD: u64 = 10;
/// How long the self-test waits for a completion that should be there at once.
const TEST_WAIT: Duration = Duration::from_millis(500);

/// What was found on a host that can run the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Release of the running kernel.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: Vec<usize>,
    /// Limit of open descriptors; one per connection. `None`: no limit.
    pub descriptors_max: Option<u64>,
    /// Limit of locked memory in bytes. `None`: no limit.
    pub locked_bytes_max: Option<u64>,
}

impl HostReport {
    /// Whether a few thousand connections will already meet the limit of descriptors.
    pub fn has_few_descriptors(&self) -> bool {
        self.descriptors_max.is_some_and(|max| max < DESCRIPTORS_FEW)
    }

    /// Whether that many shards and some connections fit.
    ///
    /// # Errors
    /// [`HostError::Descriptors`]
    pub fn check_descriptors(&self, shards: usize) -> Result<(), HostError> {
        let all = DESCRIPTORS_BASE + DESCRIPTORS_PER_SHARD * shards as u64;
        match self.descriptors_max {
            Some(limit) if limit < DESCRIPTORS_MIN.max(all) => {
                Err(HostError::Descriptors { limit })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Why the engine cannot run here, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Too old.
    #[error(
        "kernel {release} is too old: Linux 6.1 or newer is needed (deferred task work of io_uring)"
    )]
    KernelTooOld {
        /// Release of the running kernel.
        release: String,
    },
    /// EPERM, EACCES, and `kernel.io_uring_disabled` is not 0.
    #[error(
        "io_uring is forbidden by the sysctl kernel.io_uring_disabled = {value}: set it to 0 \
         (if it is 1, a group named in kernel.io_uring_group does as well)"
    )]
    Disabled {
        /// Its value.
        value: String,
    },
    /// EPERM, EACCES for another reason.
    #[error(
        "io_uring is forbidden by a seccomp filter or security module: allow the system calls \
         io_uring_setup, io_uring_enter and io_uring_register (the default profiles of Docker, \
         Podman and containerd deny them; `--security-opt seccomp=unconfined` shows whether it is \
         that)"
    )]
    Forbidden,
    /// ENOSYS without a seccomp filter.
    #[error("this kernel was built without io_uring: use one with CONFIG_IO_URING=y")]
    Missing,
    /// EINVAL.
    #[error(
        "io_uring of kernel {release} lacks a feature: Linux 6.1 or newer is needed; a sandbox \
         that emulates the kernel (gVisor) does not work"
    )]
    Incomplete {
        /// Release of the running kernel.
        release: String,
    },
    /// ENOMEM, or a limit that is known to be too low.
    #[error(
        "too little lockable memory: raise it with `ulimit -l 8192`, LimitMEMLOCK=8M (systemd) or \
         `--ulimit memlock=8388608` (Docker)"
    )]
    LockedMemory,
    /// Not enough descriptors for even a few connections.
    #[error(
        "the limit of open files is {limit}: raise it with `ulimit -n 1048576`, \
         LimitNOFILE=1048576 (systemd) or `--ulimit nofile=1048576` (Docker)"
    )]
    Descriptors {
        /// The soft limit.
        limit: u64,
    },
    /// The CPUs cannot be found out.
    #[error("cannot read the CPUs of this machine from /sys/devices/system/cpu: mount /sys")]
    Topology,
    /// The ring was made but an operation did not do what it must.
    #[error("io_uring self-test failed at {step}: {source}; use a newer kernel")]
    SelfTest {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something else.
    #[error("cannot check this host: {0}")]
    Other(#[from] io::Error),
}

impl HostError {
    /// The status to exit with: 78.
    pub fn exit_status(&self) -> i32 {
        EX_CONFIG
    }
}

/// Checks kernel, limits and `io_uring`, the latter by using it.
///
/// # Errors
/// [`HostError`], whose text is for the person who starts the program.
pub fn check_host() -> Result<HostReport, HostError> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    if is_too_old(&kernel) {
        return Err(HostError::KernelTooOld { release: kernel });
    }
    let descriptors_max = sys::soft_limit(Limit::Descriptors)?;
    if let Some(limit) = descriptors_max.filter(|&max| max < DESCRIPTORS_MIN) {
        return Err(HostError::Descriptors { limit });
    }
    let locked_bytes_max = sys::soft_limit(Limit::LockedBytes)?;
    if locked_bytes_max.is_some_and(|max| max < LOCKED_BYTES_MIN) {
        return Err(HostError::LockedMemory);
    }
    // The engine's ring can be used by one thread only; this one is not the caller's for good.
    let tested = std::thread::Builder::new().name("probe".into()).spawn(self_test)?.join();
    match tested {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => return Err(cause(failure, Denial::look(), kernel)),
        Err(_) => return Err(HostError::Incomplete { release: kernel }),
    }
    let cpus = sys::allowed_cpus()?;
    if glommio::CpuSet::online().is_err() {
        return Err(HostError::Topology);
    }
    Ok(HostReport { kernel, cpus, descriptors_max, locked_bytes_max })
}

/// A release that cannot be read is left to the self-test.
fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < KERNEL_MIN,
        _ => false,
    }
}

/// Who may have forbidden `io_uring`.
#[derive(Debug, Default)]
struct Denial {
    /// `kernel.io_uring_disabled`; kernels before 6.6 have none.
    sysctl: String,
    /// System calls of this process go through a seccomp filter.
    filtered: bool,
}

impl Denial {
    fn look() -> Denial {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Denial {
            sysctl: read("/proc/sys/kernel/io_uring_disabled").trim().to_owned(),
            filtered: read("/proc/self/status").lines().any(|line| line == "Seccomp:\t2"),
        }
    }
}

/// What a failure to make or use a ring means.
fn cause((step, error): Failure, denial: Denial, release: String) -> HostError {
    match (error.raw_os_error(), step) {
        (Some(libc::EPERM | libc::EACCES), _) if !["", "0"].contains(&&*denial.sysctl) => {
            HostError::Disabled { value: denial.sysctl }
        }
        (Some(libc::EPERM | libc::EACCES), _) => HostError::Forbidden,
        // Some filters deny that the call exists.
        (Some(libc::ENOSYS), _) if denial.filtered => HostError::Forbidden,
        (Some(libc::ENOSYS), _) => HostError::Missing,
        (Some(libc::ENOMEM), _) => HostError::LockedMemory,
        (_, Some(step)) => HostError::SelfTest { step, source: error },
        (Some(libc::EINVAL), None) => HostError::Incomplete { release },
        (_, None) => HostError::Other(error),
    }
}

type Failure = (Option<&'static str>, io::Error);

/// A ring as the shards use it: multishot receive into a shared buffer, a ring rung at itself.
fn self_test() -> Result<(), Failure> {
    const PAYLOAD: &[u8] = b"probe";
    let at = |step: &'static str| move |error: io::Error| (Some(step), error);
    let (mut ring, buffers) = ring::create(2, 64).map_err(|error| (None, error))?;
    let (near, mut far) = UnixStream::pair().map_err(at("a socket pair"))?;
    let receive = "multishot receive into a provided buffer";
    ring.receive(near.as_raw_fd(), ConnId::new(1, 2), Receive::Stream);
    far.write_all(PAYLOAD).map_err(at("a write"))?;
    let event = wait_event(&mut ring).map_err(at(receive))?;
    let whole = matches!(&event, Event::Received { conn, filled, more: true }
        if *conn == ConnId::new(1, 2) && buffers.bytes(filled) == PAYLOAD);
    if !whole {
        return Err((Some(receive), io::Error::other(format!("got {event:?}"))));
    }
    let bell = "a message from ring to ring";
    let itself = ring.as_raw_fd();
    ring.knock(itself, 0);
    let event = wait_event(&mut ring).map_err(at(bell))?;
    if matches!(event, Event::Bell) {
        Ok(())
    } else {
        Err((Some(bell), io::Error::other(format!("got {event:?}"))))
    }
}

fn wait_event(ring: &mut ring::Ring) -> io::Result<Event> {
    ring.enter(Some(TEST_WAIT))?;
    ring.next_event().ok_or_else(|| io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        for old in ["5.15.0-91-generic", "6.0.19", "4.18.0-553.el8"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["6.1.0-18-amd64", "6.18.44-fc-v657", "10.0", "7.0-rc1", "strange"] {
            assert!(!is_too_old(new), "{new}");
        }
    }

    #[test]
    fn each_refusal_of_the_kernel_has_its_own_advice() {
        let text = |code, sysctl: &str, filtered| {
            let denial = Denial { sysctl: sysctl.into(), filtered };
            cause((None, io::Error::from_raw_os_error(code)), denial, "6.2".into()).to_string()
        };
        assert!(text(libc::EPERM, "0", true).contains("seccomp"));
        assert!(text(libc::EPERM, "", false).contains("seccomp"));
        assert!(text(libc::EPERM, "2", true).contains("kernel.io_uring_disabled = 2"));
        assert!(text(libc::ENOSYS, "", false).contains("CONFIG_IO_URING"));
        assert!(text(libc::ENOSYS, "0", true).contains("seccomp"));
        assert!(text(libc::EINVAL, "", false).contains("6.2"));
        assert!(text(libc::ENOMEM, "", false).contains("memlock"));
        let step = (Some("a step"), io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(cause(step, Denial::default(), "6.2".into()), HostError::Forbidden));
    }

    #[test]
    fn this_host_passes_its_own_test() {
        let report = check_host().expect("tests run on a host that can run the engine");
        assert!(!report.cpus.is_empty());
    }

    #[test]
    fn all_refusals_exit_with_ex_config() {
        assert_eq!(HostError::Missing.exit_status(), 78);
    }
}
