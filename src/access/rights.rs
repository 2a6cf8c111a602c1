//! What can be allowed or denied.

/// What somebody wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish, or name as will topic.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// Receive a message of this topic, whichever subscription it is for.
    Receive,
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// [`Action::Publish`]; Mosquitto's `write`.
    pub const PUBLISH: Rights = Rights(1);
    /// [`Action::Subscribe`].
    pub const SUBSCRIBE: Rights = Rights(2);
    /// [`Action::Receive`].
    pub const RECEIVE: Rights = Rights(4);
    /// Mosquitto's `read`: subscribe and receive.
    pub const READ: Rights = Rights(2 | 4);
    /// Mosquitto's `readwrite`.
    pub const ALL: Rights = Rights(1 | 2 | 4);

    /// Those of either.
    #[must_use]
    pub const fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Is this action among them.
    pub const fn has(self, action: Action) -> bool {
        let bit = match action {
            Action::Publish => Self::PUBLISH,
            Action::Subscribe => Self::SUBSCRIBE,
            Action::Receive => Self::RECEIVE,
        };
        self.0 & bit.0 != 0
    }
}
