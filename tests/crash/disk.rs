//! A disk of its own whose power can be cut: an ext4 file system in a file.
//!
//! It is mounted in a mount namespace of the calling thread. When the thread and the brokers it
//! started are gone, however they end, the kernel takes the mount and the loop device away.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::ioctl::{Setter, ioctl};
use rustix::process::getuid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::broker::{END_MS, pause};

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`.
const SHUTDOWN: u32 = 0x8004_587d;

/// Its argument: the journal is not written out first.
const NO_LOG_FLUSH: u32 = 2;

/// The file system and where it is mounted.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) path: PathBuf,
}

impl Disk {
    /// Makes and mounts a file system of `bytes` in `folder`.
    ///
    /// # Errors
    /// What this host does not have or allow, in one line.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Result<Self, String> {
        if !getuid().is_root() {
            return Err("mounting needs root".into());
        }
        own_namespace()?;
        let disk = Self { image: folder.join("disk.img"), path: folder.join("disk") };
        let file = File::create(&disk.image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        std::fs::create_dir(&disk.path).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F"], &[&disk.image])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-t", "ext4", "-o", "loop"], &[&self.image, &self.path])
    }

    /// Cuts the power: from now on nothing reaches the medium, and what was not synced is gone.
    pub(crate) fn cut(&self) {
        let directory = File::open(&self.path).expect("it is mounted");
        // SAFETY: the kernel reads one u32, which lives until the call returns.
        #[expect(unsafe_code, reason = "rustix knows no safe call for this number")]
        let result = unsafe { ioctl(&directory, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
        result.expect("ext4 knows this call");
    }

    /// Power is back: the file system as a start of the machine would find it. No process may use
    /// it any more; the kernel may still be busy with what they left.
    pub(crate) fn power_on(&self) {
        self.unmount();
        self.mount().expect("it was mounted before");
    }

    fn unmount(&self) {
        let mut waited_ms = 0;
        while let Err(text) = run("umount", &[], &[&self.path]) {
            assert!(waited_ms < END_MS, "{text}");
            pause(10);
            waited_ms += 10;
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l"], &[&self.path]);
    }
}

/// From here on mounts of this thread and its children are seen by nobody else.
fn own_namespace() -> Result<(), String> {
    // SAFETY: only the mount namespace and what belongs to it (root and working directory) are
    // parted; nothing in this process relies on sharing them.
    #[expect(unsafe_code, reason = "file descriptors could be parted with other flags")]
    let parted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    parted.map_err(|error| format!("no mount namespace: {error}"))?;
    run("mount", &["--make-rprivate"], &[Path::new("/")])
}

fn run(program: &str, words: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(words).args(paths).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
