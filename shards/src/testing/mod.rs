//! What simulations need: chance from a seed, and a disk that fails, lies and crashes.
//!
//! Nothing of a broker uses this; it stands here so that every crate's tests share it.

pub mod disk;
pub mod prng;

pub use disk::{Disk, Faults};
pub use prng::Prng;
