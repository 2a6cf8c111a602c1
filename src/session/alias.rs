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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn alias(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).expect("from 1 on")
    }

    proptest! {
        #[test]
        fn incoming_aliases_are_those_of_a_map(
            steps in vec((1_u16..20, prop::option::of("[a-c]{1,2}")), 1..60),
        ) {
            let mut aliases = AliasesIn::default();
            let mut map = BTreeMap::new();
            for (number, topic) in steps {
                if let Some(topic) = topic {
                    aliases.define(alias(number), &topic);
                    map.insert(number, topic);
                }
                for number in 1..25 {
                    let topic = aliases.topic(alias(number));
                    prop_assert_eq!(topic.as_deref(), map.get(&number).map(String::as_str));
                }
            }
        }

        /// The client's map, learnt from what is written, always gives the topic that was meant.
        #[test]
        fn outgoing_aliases_are_understood_by_a_map(
            maximum in 0_u16..6,
            steps in vec(("[a-d]{1,2}", any::<bool>()), 1..80),
        ) {
            let mut aliases = AliasesOut::new(maximum);
            let mut client: BTreeMap<u16, String> = BTreeMap::new();
            for (topic, leaves) in steps {
                let known = client.values().any(|known| *known == topic);
                match aliases.look_up(&topic) {
                    AliasUse::None => {
                        prop_assert!(!known && client.len() == usize::from(maximum));
                    }
                    AliasUse::Known(alias) => prop_assert_eq!(&client[&alias.get()], &topic),
                    AliasUse::Define(alias) => {
                        prop_assert!(!known && alias.get() <= maximum);
                        prop_assert!(!client.contains_key(&alias.get()), "no replacement");
                        // A packet that does not leave teaches nothing.
                        if leaves {
                            aliases.defined(&topic, alias);
                            client.insert(alias.get(), topic);
                        }
                    }
                }
            }
        }
    }
}
