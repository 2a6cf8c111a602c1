//! Who may do what: one `authorise` for every hand-over of a message.
//!
//! Without configured identities everybody may publish and subscribe everywhere, with one exception
//! that no setting lifts: `$SYS` and `$CONTROL` are the server's, it alone writes there.

mod network;

pub use network::{Network, NoNetwork};

use crate::topic::TopicName;

/// What somebody wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish, or name as will topic.
    Publish,
    /// Receive a message of this topic.
    Receive,
}

/// Answer of [`authorise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Reason 0x87.
    Deny,
}

/// Decides about one action of a client on one topic. O(1).
///
/// Source: MQTT 5.0 §4.7.2 (topics beginning with `$` are the server's to define).
pub fn authorise(action: Action, topic: TopicName<'_>) -> Verdict {
    match action {
        Action::Publish if is_servers(topic) => Verdict::Deny,
        Action::Publish | Action::Receive => Verdict::Allow,
    }
}

/// Topics that only the server publishes.
fn is_servers(topic: TopicName<'_>) -> bool {
    let tree = topic.is_dollar().then(|| topic.as_str().split('/').next().unwrap_or_default());
    matches!(tree, Some("$SYS" | "$CONTROL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_trees_are_closed_to_publishers() {
        let publish =
            |topic| authorise(Action::Publish, TopicName::parse(topic).expect("a topic name"));
        for topic in ["$SYS", "$SYS/broker/uptime", "$CONTROL/x"] {
            assert_eq!(publish(topic), Verdict::Deny, "{topic}");
        }
        for topic in ["a", "a/$SYS", "$SYSTEM/x", "$own/x", "/$SYS"] {
            assert_eq!(publish(topic), Verdict::Allow, "{topic}");
        }
    }
}
