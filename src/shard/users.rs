//! Sessions of each user, on this shard and on the others.
//!
//! Where sessions of a user have a limit every shard tells the others how many it has whenever that
//! changes. So a limit holds for the whole broker, but for what begins on several shards within the
//! time a letter takes.

use super::Shard;
use super::mail::Mail;
use ahash::AHashMap;
use std::sync::Arc;

/// What the other shards have said.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Sessions by user and shard; none of them is 0.
    users: AHashMap<Arc<str>, Vec<(usize, usize)>>,
    /// The others are told what changes here.
    is_told: bool,
}

impl Elsewhere {
    fn sessions_of(&self, user: &str) -> usize {
        self.users.get(user).map_or(0, |shards| shards.iter().map(|(_, count)| count).sum())
    }

    fn set(&mut self, from: usize, user: &Arc<str>, sessions: usize) {
        let shards = self.users.entry(Arc::clone(user)).or_default();
        shards.retain(|(shard, _)| *shard != from);
        if sessions > 0 {
            shards.push((from, sessions));
        } else if shards.is_empty() {
            self.users.remove(user);
        }
    }

    fn forget(&mut self, from: usize) {
        self.users.retain(|_, shards| {
            shards.retain(|(shard, _)| *shard != from);
            !shards.is_empty()
        });
    }
}

impl Shard {
    /// Sessions of a user on all shards.
    pub(super) fn sessions_of(&self, user: &str) -> usize {
        self.clients.sessions_of(user) + self.elsewhere.sessions_of(user)
    }

    /// A session begins to belong to a user, or does no longer.
    pub(super) fn tell_user(&mut self, user: Option<&Arc<str>>) {
        let Some(user) = user.filter(|_| self.elsewhere.is_told) else { return };
        let sessions = self.clients.sessions_of(user);
        for to in self.place.others() {
            self.effects.mail(to, Mail::UserSessions { user: Arc::clone(user), sessions });
        }
    }

    /// Begins to tell the others, or ends it, as the settings want it now.
    pub(super) fn tell_users(&mut self) {
        let wanted = self.settings.sessions_per_user_max > 0;
        if wanted == self.elsewhere.is_told {
            return;
        }
        self.elsewhere.is_told = wanted;
        for to in self.place.others() {
            self.effects.mail(to, Mail::UsersForgotten);
        }
        if wanted {
            let users: Vec<_> = self.clients.users().cloned().collect();
            for user in &users {
                self.tell_user(Some(user));
            }
        }
    }

    pub(super) fn on_user_sessions(&mut self, from: usize, user: &Arc<str>, sessions: usize) {
        self.elsewhere.set(from, user, sessions);
    }

    pub(super) fn on_users_forgotten(&mut self, from: usize) {
        self.elsewhere.forget(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shards_say_is_added_up() {
        let mut all = Elsewhere::default();
        let ada = Arc::<str>::from("ada");
        let user = || &ada;
        all.set(1, user(), 2);
        all.set(2, user(), 3);
        all.set(1, user(), 4);
        assert_eq!((all.sessions_of("ada"), all.sessions_of("bob")), (7, 0));
        all.set(2, user(), 0);
        assert_eq!(all.sessions_of("ada"), 4);
        all.forget(1);
        assert!(all.users.is_empty());
    }
}
