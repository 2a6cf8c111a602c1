//! The outside judge: real broker, real sockets, correct clients that never crash, and faults.
//!
//! What an acknowledgement promises is known to the clients alone; nothing here looks into the
//! broker or its files. How it works: docs/testing.md.

#[cfg(test)]
mod broker;
#[cfg(test)]
mod campaign;
#[cfg(test)]
mod client;
#[cfg(test)]
#[path = "../wire/harness/compose.rs"]
mod compose;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod drive;
#[cfg(test)]
mod full;
#[cfg(test)]
mod interval;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod load;
#[cfg(test)]
#[path = "../wire/harness/packet.rs"]
mod packet;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod points;
#[cfg(test)]
mod power;
#[cfg(test)]
mod rng;
#[cfg(test)]
mod rot;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tamper;
#[cfg(test)]
mod world;

/// Does the broker keep its promises over a crash? Until it does, the tests that need it do not
/// run, and the negative control is the broker as it is.
pub(crate) const DURABILITY_BUILT: bool = true;

/// Can a data directory be used with another number of shards?
pub(crate) const REHOMING_BUILT: bool = true;

/// Is MQTT 5.0 refused with 0x97 when the disk is full? Until then it may be left unanswered, as
/// 3.1.1 is.
pub(crate) const FULL_IS_REFUSED: bool = true;

/// The value of an environment variable, or `usual`.
pub(crate) fn setting<T: std::str::FromStr>(name: &str, usual: T) -> T {
    let Ok(text) = std::env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not understood"))
}

/// Says why a test does nothing here, past what the harness keeps of tests that pass.
pub(crate) fn not_run(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("not run: {name}: {why}\n").as_bytes(),
    );
}

/// True if this cannot run yet; says so.
pub(crate) fn needs_durability() -> bool {
    if !DURABILITY_BUILT {
        not_run("the broker keeps everything in memory");
    }
    !DURABILITY_BUILT
}
