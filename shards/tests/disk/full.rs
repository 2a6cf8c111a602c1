//! A disk that is full. Needs a file system of its own: root may mount one; else these say that
//! they did nothing.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;

use shards::Millis;
use shards::disk::{Directory, DirectoryError, OfflineLog};
use shards::log::{Lsn, Mode, Refused};

use crate::rig::{Act, Seen, TestIo, open, read, small, start};

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

    // Whether there is room again is looked at all the time, as the broker does at its ticks.
    fn deadline(&self) -> Option<Millis> {
        (!self.healed).then_some(Millis(0))
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

/// Fills the disk with records and ends without closing, as by kill -9.
fn fill(path: &Path) -> u32 {
    let directory = open(path, 1).unwrap();
    let recovery = directory.recover(0, Mode::Strict, &mut |_| {}).unwrap();
    let mut log = OfflineLog::from(recovery.begin(&small()).unwrap());
    let mut taken = 0;
    while log.append(1, &[1; 4000]).is_ok() {
        taken += 1;
    }
    taken
}

/// What a start on a full disk takes.
#[derive(Default)]
struct Drain {
    appended: bool,
    last: Lsn,
}

impl Act for Drain {
    fn turn(&mut self, io: &mut TestIo, seen: &Sender<Seen>) {
        let log = io.log().unwrap();
        if !self.appended && log.is_full() {
            self.appended = true;
            assert_eq!(log.append(1, &[1; 4000]), Err(Refused::DiskFull));
            for _ in 0..20 {
                self.last = log.append_urgent(3, &[3; 100]).unwrap().lsn;
            }
            let _ = seen.send(Seen::Over);
        }
    }

    fn durable(&mut self, _: &mut TestIo, lsn: Lsn, seen: &Sender<Seen>) {
        if self.appended && lsn >= self.last {
            let _ = seen.send(Seen::Over);
        }
    }
}

#[test]
fn a_log_starts_on_a_full_disk_and_takes_what_frees_space() {
    let Some(mount) = Mount::new(6 << 20) else { return };
    let path = mount.path().join("data");
    assert!(fill(&path) > 500);
    let rig = start(&path, 1, &small(), |_| Drain::default());
    let over = |seen| matches!(seen, Seen::Over).then_some(());
    rig.wait(over);
    rig.wait(over);
    rig.stop();
    let records = read(&path, 1, Mode::Strict).unwrap();
    assert_eq!(records[0].iter().filter(|(_, kind, _)| *kind == 3).count(), 20);
}

#[test]
fn a_log_without_any_room_starts_and_goes_on_when_there_is() {
    let Some(mount) = Mount::new(6 << 20) else { return };
    let path = mount.path().join("data");
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let taken = fill(&path);
    assert!(taken > 100);
    // Each start on a full disk uses a segment; after this one none is left.
    assert_eq!(fill(&path), 0);
    let rig = start(&path, 1, &small(), |_| Drain::default());
    let over = |seen| matches!(seen, Seen::Over).then_some(());
    rig.wait(over);
    std::fs::remove_file(&ballast).unwrap();
    rig.wait(over);
    rig.stop();
    let records = read(&path, 1, Mode::Strict).unwrap();
    let count = |wanted| records[0].iter().filter(|(_, kind, _)| *kind == wanted).count();
    assert_eq!(count(1), taken as usize, "nothing was lost");
    assert_eq!(count(3), 20);
}

#[test]
fn a_log_without_any_room_can_be_stopped_and_started_again() {
    let Some(mount) = Mount::new(6 << 20) else { return };
    let path = mount.path().join("data");
    let taken = fill(&path);
    for _ in 0..3 {
        let rig = start(&path, 1, &small(), |_| Drain::default());
        rig.wait(|seen| matches!(seen, Seen::Over).then_some(()));
        rig.stop();
    }
    assert_eq!(fill(&path), 0);
    let records = read(&path, 1, Mode::Strict).unwrap();
    assert_eq!(records[0].iter().filter(|(_, kind, _)| *kind == 1).count(), taken as usize);
}
