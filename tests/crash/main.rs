//! The outside judge: real broker, real sockets, correct clients that never crash, and faults.
//!
//! What an acknowledgement promises is known to the clients alone; nothing here looks into the
//! broker or its files. How it works: docs/testing.md.
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure like any other")]

mod broker;
mod client;
#[path = "../wire/harness/compose.rs"]
mod compose;
mod judge;
mod kill;
mod ledger;
mod load;
#[path = "../wire/harness/packet.rs"]
mod packet;
mod planted;
mod rng;
mod tamper;
mod world;

/// Does the broker keep its promises over a crash? Until it does, the tests that need it do not run,
/// and the negative control is the broker as it is.
pub(crate) const DURABILITY_BUILT: bool = false;

/// The value of an environment variable, or `usual`.
pub(crate) fn setting<T: std::str::FromStr>(name: &str, usual: T) -> T {
    let Ok(text) = std::env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not understood"))
}

/// True if this cannot run yet; says so.
pub(crate) fn needs_durability() -> bool {
    if !DURABILITY_BUILT {
        println!("not run: the broker keeps everything in memory");
    }
    !DURABILITY_BUILT
}
