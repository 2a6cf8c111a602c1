//! Writer, simulated disk, crash, recovery: what was reported durable is always there afterwards,
//! in order, and nothing is invented. Seeds: `SEEDS=10000 cargo test --release -p shards --test
//! log` runs more of them, `SEED=17` one; the seed is in each failure message.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that breaks its own rules may panic"
)]

mod accepted_loss;
mod crashes;
mod damage;
mod planted;
mod rig;
mod writer;
