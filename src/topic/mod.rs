//! Topic names and filters, and the indexes that are searched by topic.
//!
//! Promise: a [`TopicName`] or [`Filter`] that exists has been checked, and what an index returns
//! is exactly what [`Filter::matches`] would say one by one. Nothing here recurses over input,
//! reads a clock, or does I/O.
//! Not here: who may use a topic (`access`), what happens to a match (`shard`), retained payloads.
//!
//! ```text
//!   publish ──▶ FrontCache ──hit──▶ Rc<Matches>
//!                   └─miss─▶ FilterTree: exact filters in one hash table, the others in a trie
//!   subscribe ──▶ Filter ──▶ Subscriptions ──▶ RetainedTree::slice
//! ```
//!
//! Source: MQTT 5.0 §4.7 (topic names and filters), §4.8.2 (shared subscriptions).

mod filter;
mod front;
mod groups;
mod members;
mod mount;
mod name;
mod retained;
mod slab;
mod subscribers;
mod subscriptions;
mod table;
mod tree;

pub use filter::{Filter, FilterError};
pub use front::FrontCache;
pub use groups::{Group, GroupId};
pub use members::Match;
pub use mount::Mount;
pub use name::{TopicError, TopicName};
pub use retained::{RetainedTree, Slice};
pub use subscriptions::{FilterId, Matches, Subscribed, Subscriptions, Unsubscribed};
pub use tree::FilterTree;

/// Index of a client within its shard; given out and reused by the shard.
pub type ClientIndex = u32;
