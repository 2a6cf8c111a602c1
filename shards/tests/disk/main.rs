//! The log on real files: opening, acknowledging, reading back, stopping, and what goes wrong.
//! No sleeps: everything waits for an event of the engine.

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
