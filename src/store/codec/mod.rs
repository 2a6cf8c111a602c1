//! Records as bytes: a type and a body for the log, which frames and checks them.
//!
//! Promise: what was encoded is decoded to the same; bytes that no encoder wrote are refused with
//! the byte where it shows, never with a panic. One record has one encoding.
//! Not here: lengths, checksums and order of records (`shards::log`).
//!
//! The byte maps are in `docs/durability.md`.

mod decode;
mod encode;
#[cfg(test)]
mod golden;
mod input;
#[cfg(test)]
mod properties;

pub use decode::{decode, decode_message};
pub use encode::encode;
pub use input::{DecodeFault, Fault};

use shards::log::MUST_UNDERSTAND;

/// Types of records. Those without `MUST_UNDERSTAND` may be left out by a reader of an older
/// version.
pub mod kind {
    use super::MUST_UNDERSTAND;

    /// [`Record::Session`](crate::store::record::Record::Session)
    pub const SESSION: u8 = 0x01 | MUST_UNDERSTAND;
    /// [`Record::SessionEnd`](crate::store::record::Record::SessionEnd)
    pub const SESSION_END: u8 = 0x02 | MUST_UNDERSTAND;
    /// [`Record::Will`](crate::store::record::Record::Will)
    pub const WILL: u8 = 0x03 | MUST_UNDERSTAND;
    /// [`Record::Subscribe`](crate::store::record::Record::Subscribe)
    pub const SUBSCRIBE: u8 = 0x04 | MUST_UNDERSTAND;
    /// [`Record::Unsubscribe`](crate::store::record::Record::Unsubscribe)
    pub const UNSUBSCRIBE: u8 = 0x05 | MUST_UNDERSTAND;
    /// [`Record::Publish`](crate::store::record::Record::Publish)
    pub const PUBLISH: u8 = 0x06 | MUST_UNDERSTAND;
    /// [`Record::Received`](crate::store::record::Record::Received)
    pub const RECEIVED: u8 = 0x07 | MUST_UNDERSTAND;
    /// [`Record::Released`](crate::store::record::Record::Released)
    pub const RELEASED: u8 = 0x08 | MUST_UNDERSTAND;
    /// [`Record::Owned`](crate::store::record::Record::Owned)
    pub const OWNED: u8 = 0x09 | MUST_UNDERSTAND;
    /// [`Record::Done`](crate::store::record::Record::Done)
    pub const DONE: u8 = 0x0a | MUST_UNDERSTAND;
    /// [`Record::Done`](crate::store::record::Record::Done) of more than one delivery
    pub const DONE_RUN: u8 = 0x0f | MUST_UNDERSTAND;
    /// [`Record::RetainDeleted`](crate::store::record::Record::RetainDeleted)
    pub const RETAIN_DELETED: u8 = 0x0b | MUST_UNDERSTAND;
    /// [`Record::Applied`](crate::store::record::Record::Applied)
    pub const APPLIED: u8 = 0x0c | MUST_UNDERSTAND;
    /// [`Record::Settled`](crate::store::record::Record::Settled)
    pub const SETTLED: u8 = 0x0d | MUST_UNDERSTAND;
    /// [`Record::Clock`](crate::store::record::Record::Clock); without it time may go back.
    pub const CLOCK: u8 = 0x0e;
}

/// Bits of the first byte of a message; the lowest two are the `QoS`.
mod message {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const RETAIN: u8 = 0x04;
    pub(super) const EXPIRES: u8 = 0x08;
    pub(super) const BY_ANONYMOUS: u8 = 0x10;
    pub(super) const BY_USER: u8 = 0x20;
}

/// Bits of the byte after the message of a PUBLISH; the lowest two are the source.
mod publish {
    pub(super) const SOURCE: u8 = 0x03;
    pub(super) const PLAIN: u8 = 0x00;
    pub(super) const RECEIVED: u8 = 0x01;
    pub(super) const WILL: u8 = 0x02;
    pub(super) const EXCHANGE: u8 = 0x03;
    pub(super) const RETAINED: u8 = 0x04;
    pub(super) const ONWARD: u8 = 0x08;
}

/// Bits of the first byte of an entry.
mod entry {
    pub(super) const EXACTLY_ONCE: u8 = 0x01;
    pub(super) const RETAIN: u8 = 0x02;
    pub(super) const SENT: u8 = 0x04;
    pub(super) const IDENTIFIERS: u8 = 0x08;
    pub(super) const SHARE: u8 = 0x10;
}

/// Bits of the second byte of a part.
mod part {
    pub(super) const DIRECT: u8 = 0x01;
    pub(super) const RETAIN: u8 = 0x02;
}

/// Bits of the first byte of a session head, and of a will.
mod head {
    pub(super) const USER: u8 = 0x01;
    pub(super) const OFFLINE: u8 = 0x02;
    pub(super) const USERS: u8 = 0x04;
    pub(super) const WILL: u8 = 0x01;
    pub(super) const WILL_EXPIRY: u8 = 0x02;
}

/// Bits of the subscription options, as in SUBSCRIBE (MQTT 5.0 §3.8.3.1).
mod options {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const NO_LOCAL: u8 = 0x04;
    pub(super) const RETAIN_AS_PUBLISHED: u8 = 0x08;
    pub(super) const RETAIN_HANDLING_SHIFT: u8 = 4;
}
