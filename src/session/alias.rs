//! Topic aliases of one connection (MQTT 5.0 §3.3.2.3.4). They die with it. [MQTT-3.3.2-7]

use ahash::AHashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Aliases that the client defines for its PUBLISH packets.
#[derive(Debug, Default)]
pub struct AliasesIn {
    topics: Vec<Option<Arc<str>>>,
}

impl AliasesIn {
    /// Stores or replaces what `alias` means. `maximum` is what the server announced; the caller
    /// has refused anything above it. [MQTT-3.3.2-9]
    pub fn define(&mut self, alias: NonZeroU16, topic: &str) {
        let index = usize::from(alias.get()) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if let Some(entry) = self.topics.get_mut(index)
            && entry.as_deref() != Some(topic)
        {
            *entry = Some(Arc::from(topic));
        }
    }

    /// The topic of `alias`, if it was defined on this connection.
    pub fn topic(&self, alias: NonZeroU16) -> Option<Arc<str>> {
        self.topics.get(usize::from(alias.get()) - 1)?.clone()
    }
}

/// What to write for a topic in an outgoing PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasUse {
    /// Topic alone: all aliases are taken.
    None,
    /// Topic and alias: the client learns it with this packet.
    Define(NonZeroU16),
    /// Alias alone: the client knows it.
    Known(NonZeroU16),
}

/// Aliases that the server uses towards the client: the first topics sent get them, until all that
/// the client allows are taken; there is no replacement.
#[derive(Debug)]
pub struct AliasesOut {
    maximum: u16,
    aliases: AHashMap<Box<str>, NonZeroU16>,
}

impl AliasesOut {
    /// `maximum` is the client's Topic Alias Maximum, capped by ours. [MQTT-3.1.2-26]
    pub fn new(maximum: u16) -> Self {
        AliasesOut { maximum, aliases: AHashMap::new() }
    }

    /// What to write for `topic`; changes nothing.
    pub fn look_up(&self, topic: &str) -> AliasUse {
        if let Some(alias) = self.aliases.get(topic) {
            return AliasUse::Known(*alias);
        }
        let next = u16::try_from(self.aliases.len()).ok().and_then(|n| n.checked_add(1));
        match next.filter(|n| *n <= self.maximum).and_then(NonZeroU16::new) {
            Some(alias) => AliasUse::Define(alias),
            None => AliasUse::None,
        }
    }

    /// The packet with [`AliasUse::Define`] has been written.
    pub fn defined(&mut self, topic: &str, alias: NonZeroU16) {
        self.aliases.insert(Box::from(topic), alias);
    }
}
