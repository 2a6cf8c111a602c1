//! Power loss: what was not synced is gone.

use crate::broker::Setup;
use crate::campaign::{Campaign, Fault};
use crate::ledger::Wrong;

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    if crate::needs_durability() {
        return;
    }
    let cycles = crate::setting("CRASH_CUTS", 5);
    let campaign = Campaign { fault: Fault::PowerCut, cycles, setup: Setup::new("fsync", 1) };
    match campaign.run() {
        Ok(report) => assert!(report.is_clean(), "{}\n{}", report.line(), report.story),
        Err(text) => println!("not run: {text}"),
    }
}

#[test]
fn without_durability_a_power_cut_is_seen() {
    let campaign = Campaign { fault: Fault::PowerCut, cycles: 4, setup: Setup::new("none", 1) };
    match campaign.run() {
        Ok(report) => assert!(report.count(Wrong::Lost) > 0, "{}", report.line()),
        Err(text) => println!("not run: {text}"),
    }
}

/// `make crash-control` builds the binary: its log says that it synced and does not.
#[test]
fn a_log_that_does_not_sync_is_seen() {
    let Ok(binary) = std::env::var("CRASH_UNSYNCED_BINARY") else {
        return println!("not run: `make crash-control` builds a binary that does not sync");
    };
    if crate::needs_durability() {
        return;
    }
    let mut setup = Setup::new("fsync", 1);
    setup.binary = binary.into();
    setup.environment.push(("CULEX_FAILPOINTS".into(), "log.sync=skip".into()));
    let campaign = Campaign { fault: Fault::PowerCut, cycles: 10, setup };
    match campaign.run() {
        Ok(report) => assert!(report.count(Wrong::Lost) > 0, "{}", report.line()),
        Err(text) => println!("not run: {text}"),
    }
}
