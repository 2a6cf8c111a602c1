//! SIGKILL under load, during recovery, after SIGSTOP: nothing acknowledged may be missing.

use crate::broker::Setup;
use crate::campaign::{Campaign, Fault};
use crate::ledger::Wrong;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if crate::needs_durability() {
        return;
    }
    let durability: String = crate::setting("CRASH_DURABILITY", "fsync".into());
    let cycles = crate::setting("CRASH_CYCLES", 15);
    let campaign = Campaign { fault: Fault::Kill, cycles, setup: Setup::new(&durability, 1) };
    let report = campaign.run().unwrap();
    assert!(report.is_clean(), "{}\n{}", report.line(), report.story);
}

#[test]
fn without_durability_kill_9_is_seen() {
    let campaign = Campaign { fault: Fault::Kill, cycles: 4, setup: Setup::new("none", 1) };
    let report = campaign.run().unwrap();
    assert!(report.count(Wrong::Lost) > 0, "{}", report.line());
    assert!(report.count(Wrong::SessionPresent) > 0, "{}", report.line());
}
