//! The disk keeps what it promises and loses the rest; a rig that never loses proves nothing.

use super::*;
use crate::log::Write;

fn write(bytes: &[u8]) -> Operation {
    let buffer = crate::log::AlignedBuffer::holding(bytes);
    operation(Action::Write(Write::new(File::Ring, 0, buffer)))
}

fn operation(action: Action) -> Operation {
    Operation { lane: Lane::Commit, action }
}

fn perform(disk: &mut Disk, operation: Operation) -> Outcome {
    disk.submit(operation);
    disk.complete_one().map(|(_, outcome)| outcome).expect("one is in flight")
}

fn with_file(seed: u64, faults: Faults) -> Disk {
    let mut disk = Disk::new(seed, faults);
    disk.install(File::Ring, &[1; 4096]);
    disk
}

#[test]
fn synced_bytes_survive() {
    for seed in 0..100 {
        let mut disk = with_file(seed, Faults::default());
        assert_eq!(perform(&mut disk, write(&[2; 4096])), Outcome::Wrote(4096));
        assert_eq!(perform(&mut disk, operation(Action::Sync(File::Ring))), Outcome::Done);
        disk.crash();
        assert_eq!(disk.read(File::Ring), [2; 4096], "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_are_old_new_torn_or_zero() {
    let (mut old, mut new, mut torn, mut zero) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut disk = with_file(seed, Faults::default());
        perform(&mut disk, write(&[2; 4096]));
        assert_eq!(disk.read(File::Ring), [2; 4096], "reading shows the cache");
        disk.crash();
        for sector in disk.read(File::Ring).chunks(SECTOR_BYTES) {
            match (sector.first(), sector.last()) {
                (Some(1), Some(1)) => old += 1,
                (Some(2), Some(2)) => new += 1,
                (Some(2), Some(1)) => torn += 1,
                (Some(0), Some(0)) => zero += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    assert!(old > 50 && new > 50 && torn > 5 && zero > 5, "{old} {new} {torn} {zero}");
}

#[test]
fn a_sync_covers_only_what_had_completed() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut disk = with_file(seed, Faults::default());
        disk.submit(write(&[2; 4096]));
        disk.submit(operation(Action::Sync(File::Ring)));
        while disk.complete_one().is_some() {}
        disk.crash();
        lost += usize::from(disk.read(File::Ring) != [2; 4096]);
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_failed_sync_loses_for_good() {
    let mut disk = with_file(1, Faults { sync_errors: 1000, ..Faults::default() });
    perform(&mut disk, write(&[2; 4096]));
    assert_eq!(perform(&mut disk, operation(Action::Sync(File::Ring))), Outcome::Failed(EIO));
    disk.set_faults(Faults::default());
    assert_eq!(perform(&mut disk, operation(Action::Sync(File::Ring))), Outcome::Done);
    assert_eq!(disk.read(File::Ring), [2; 4096], "reading still shows the cache");
    disk.crash();
    assert_eq!(disk.read(File::Ring), [1; 4096]);
}

#[test]
fn names_are_lost_without_a_directory_sync() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..100 {
        let mut disk = with_file(seed, Faults::default());
        perform(&mut disk, operation(Action::Rename(File::Ring, File::Manifest)));
        disk.crash();
        match disk.files()[..] {
            [File::Ring] => lost += 1,
            [File::Manifest] => kept += 1,
            _ => panic!("seed {seed}: neither name"),
        }
        let mut disk = with_file(seed, Faults::default());
        perform(&mut disk, operation(Action::Rename(File::Ring, File::Manifest)));
        perform(&mut disk, operation(Action::SyncDirectory));
        disk.crash();
        assert_eq!(disk.files(), [File::Manifest], "seed {seed}");
    }
    assert!(kept > 10 && lost > 10, "{kept} {lost}");
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let mut disk = with_file(1, Faults { space_bytes: Some(4096), ..Faults::default() });
    assert_eq!(perform(&mut disk, write(&[2; 4096])), Outcome::Wrote(4096));
    assert_eq!(perform(&mut disk, write(&[2; 8192])), Outcome::Failed(ENOSPC));
    assert_eq!(
        perform(&mut disk, operation(Action::Create(File::Draft(1)))),
        Outcome::Failed(ENOSPC)
    );
}
