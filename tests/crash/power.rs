//! Power loss: what was not synced is gone.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

use crate::broker::Setup;
use crate::campaign::{Campaign, Fault};
use crate::disk::{Disk, Loss};
use crate::judge::Report;
use crate::ledger::Wrong;
use crate::rng::Rng;

/// The figures, unless this host cannot do it.
fn run(loss: Loss, cycles: usize, setup: Setup) -> Option<Report> {
    let report = Campaign { fault: Fault::PowerCut(loss), cycles, setup }.run();
    report.inspect_err(|text| crate::not_run(text)).ok()
}

fn nothing_is_lost(loss: Loss) {
    if crate::needs_durability() {
        return;
    }
    let cycles = crate::setting("CRASH_CUTS", 5);
    if let Some(report) = run(loss, cycles, Setup::new("fsync", 1)) {
        assert!(report.is_clean(), "{}\n{}", report.line(), report.story);
    }
}

#[test]
fn nothing_acknowledged_is_lost_with_the_page_cache() {
    nothing_is_lost(Loss::FileSystem);
}

#[test]
fn nothing_acknowledged_is_lost_with_the_cache_of_the_drive() {
    nothing_is_lost(Loss::Drive);
}

#[test]
fn without_durability_a_power_cut_is_seen() {
    for loss in [Loss::FileSystem, Loss::Drive] {
        if let Some(report) = run(loss, 4, Setup::new("none", 1)) {
            assert!(report.count(Wrong::Lost) > 0, "{}", report.line());
        }
    }
}

#[test]
fn a_log_that_does_not_sync_is_seen() {
    if !crate::points::are_built() {
        return;
    }
    let mut setup = Setup::new("fsync", 1);
    setup.environment.push(("CULEX_FAILPOINTS".into(), "log.sync=skip".into()));
    if let Some(report) = run(Loss::Drive, 45, setup) {
        // The loss, or that the broker itself sees what is missing and does not start.
        let refused = report.story.contains("acknowledged records");
        assert!(report.count(Wrong::Lost) > 0 || refused, "{}\n{}", report.line(), report.story);
    }
}

/// The rig itself, without a broker: what is synced stays, what is not is lost as each loss says.
#[test]
fn the_disk_forgets_what_was_not_synced() {
    for loss in [Loss::FileSystem, Loss::Drive] {
        let mut lost = 0;
        for seed in 0..8 {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let mut disk = match Disk::make(folder.path(), 64 << 20, loss) {
                Ok(disk) => disk,
                Err(text) => return crate::not_run(&text),
            };
            write_and_cut(&mut disk, &mut Rng::new(seed, "faults"));
            let path = &disk.path;
            let written = std::fs::read(path.join("written")).unwrap();
            assert!(written[..4096].iter().all(|byte| *byte == b's'), "{loss:?}: synced and gone");
            lost += usize::from(written[4096..8192].iter().any(|byte| *byte != b'u'));
            assert!(!path.join("unnamed").exists(), "{loss:?}: a name without a sync");
        }
        println!("{loss:?}: of 8 blocks written and not synced {lost} are lost");
        assert!((lost > 0) == (loss == Loss::Drive), "{loss:?}: {lost}");
    }
}

/// One block written past the page cache and synced, one written and not synced, in a file that was
/// filled with zeros and synced before: only the cache of a drive can lose the second.
fn write_and_cut(disk: &mut Disk, rng: &mut Rng) {
    let path = disk.path.join("written");
    std::fs::write(&path, vec![0; 16 * 4096]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    File::open(&disk.path).unwrap().sync_all().unwrap();
    let direct = OFlags::DIRECT.bits().cast_signed();
    let file = File::options().write(true).custom_flags(direct).open(&path).unwrap();
    let mut buffer = vec![0; 2 * 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    buffer[skip..skip + 4096].fill(b's');
    file.write_all_at(&buffer[skip..skip + 4096], 0).unwrap();
    file.sync_data().unwrap();
    buffer[skip..skip + 4096].fill(b'u');
    file.write_all_at(&buffer[skip..skip + 4096], 4096).unwrap();
    std::fs::write(disk.path.join("unnamed"), b"x").unwrap();
    drop(file);
    disk.cut();
    disk.power_on(rng);
}
