//! One client's protocol state: inbound QoS, send window and queue, aliases, will.
//!
//! Promise: pure. Bytes, packets and time come in as arguments; what has to happen outside comes
//! back as return values or lies in the [`Link`]'s output. Nothing here knows other clients.
//! Not here: who matches (`shard::fanout`), sockets (`edge`), disk (`shard` emits the records).
//!
//! ```text
//!  PUBLISH in ─▶ Inbound (alias, receive maximum, QoS 2 ids) ─▶ shard ─▶ acknowledgement queue
//!  message  ─▶ Outbound::deliver ─▶ window has room? ─yes─▶ Link::output
//!                                     └─no─▶ queue ──ack──▶ pump
//! ```

mod alias;
mod counters;
mod inbound;
mod layouts;
mod link;
mod message;
mod offer;
mod outbound;
mod output;
mod slot;

pub use alias::{AliasesIn, AliasesOut};
pub use counters::{Counters, DropCause, LOGIN_REFUSALS};
pub use inbound::{AckKey, Inbound, PendingAck, Received, Settlement};
pub use layouts::Layouts;
pub use link::Link;
pub use message::{Author, ClientId, Message, Publication};
pub use offer::Offer;
pub use outbound::{
    Acked, Delivered, Grant, Keeping, Limits, Outbound, Overflow, Tools, packet_id,
};
pub use output::{Output, SHARED_PAYLOAD_BYTES_MIN, Spares};
pub use slot::{Slot, State, UNLOGGED};
