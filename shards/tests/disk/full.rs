//! A disk that is full. Needs a file system of its own: root may mount one; else these say that
//! they did nothing.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;

use shards::disk::{Directory, DirectoryError};
use shards::log::{Mode, Refused};

use crate::rig::{Act, Seen, TestIo, read, small, start};

const ENOSPC: i32 = 28;

/// A file system with so much room, until dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(bytes: usize) -> Option<Mount> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("not done: no right to mount a file system");
            return None;
        }
        Some(Mount(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Fills the disk, uses what is kept, frees space, and goes on.
#[derive(Default)]
struct Fill {
    refused: bool,
    healed: bool,
    urgent: u32,
}

impl Act for Fill {
    fn turn(&mut self, io: &mut TestIo, seen: &Sender<Seen>) {
        let log = io.log().unwrap();
        if self.healed {
            return;
        }
        if self.refused && log.pending_bytes() == 0 && log.prepare_error().is_none() {
            self.healed = true;
            log.append(2, &[2; 4000]).unwrap();
            let _ = seen.send(Seen::Over);
        }
        while !self.refused {
            match log.append(1, &[1; 4000]) {
                Ok(_) => {}
                Err(Refused::Full) => return,
                Err(refused) => {
                    assert_eq!(refused, Refused::DiskFull);
                    assert!(log.prepare_error() == Some(ENOSPC) && log.is_full());
                    self.refused = true;
                }
            }
        }
        while self.urgent < 50 {
            if log.append_urgent(3, &[3; 4000]).is_err() {
                assert!(log.pending_bytes() > 0, "only the bytes that wait stand against it");
                return;
            }
            self.urgent += 1;
            if self.urgent == 50 {
                let last = log.segments().last().unwrap().number;
                log.release_before(last);
            }
        }
    }
}

#[test]
fn records_that_free_space_are_still_taken_and_it_heals() {
    let Some(mount) = Mount::new(6 << 20) else { return };
    let path = mount.path().join("data");
    let rig = start(&path, 1, &small(), |_| Fill::default());
    rig.wait(|seen| matches!(seen, Seen::Over).then_some(()));
    rig.stop();
    let records = read(&path, 1, Mode::Strict).unwrap();
    assert_eq!(records[0].last().unwrap().1, 2, "appended after it healed");
    assert_eq!(records[0].iter().filter(|(_, kind, _)| *kind == 3).count(), 50);
}

#[test]
fn directory_without_room_is_refused() {
    let Some(mount) = Mount::new(512 << 10) else { return };
    let directory = Directory::open(mount.path(), 1).unwrap();
    let recovery = directory.recover(0, Mode::Strict, &mut |_| {}).unwrap();
    let error = recovery.begin(&small()).unwrap_err();
    assert!(matches!(error, DirectoryError::Io { .. }));
    assert!(error.to_string().ends_with(": the disk is full"), "{error}");
    assert_eq!(error.exit_status(), 73);
}

#[test]
fn read_only_directory_is_refused() {
    let Some(mount) = Mount::new(1 << 20) else { return };
    let remount = ["-o", "remount,ro"];
    assert!(Command::new("mount").args(remount).arg(mount.path()).status().unwrap().success());
    let error = Directory::open(mount.path(), 1).unwrap_err();
    assert_eq!(error.exit_status(), 73);
    assert!(error.to_string().ends_with("the file system is read-only"), "{error}");
}
