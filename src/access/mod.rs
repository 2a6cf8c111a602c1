//! Who may do what: one `authorise` for every hand-over of a message.
//!
//! Without configured identities everybody may publish and subscribe everywhere, with one exception
//! that no setting lifts: topics under `$` belong to the server.

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
        Action::Publish if topic.is_dollar() => Verdict::Deny,
        Action::Publish | Action::Receive => Verdict::Allow,
    }
}
