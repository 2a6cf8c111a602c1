//! The log on real files: opening, acknowledging, reading back, stopping, and what goes wrong.
//! No sleeps: everything waits for an event of the engine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that breaks its own rules may panic"
)]

#[cfg(test)]
mod crashing;
#[cfg(test)]
mod full;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod serving;
