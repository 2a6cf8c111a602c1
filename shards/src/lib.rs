//! Thread-per-core engine.
mod conn;
mod outgoing;
mod time;
mod wheel;
pub use conn::ConnId;
pub use outgoing::Outgoing;
pub use time::Millis;
pub use wheel::Wheel;
