//! Groups of shared subscriptions.

use std::collections::HashMap;

use ahash::RandomState;

use super::ClientIndex;
use super::filter::Filter;
use super::members::Match;
use super::slab::{Key, Slab};

/// Names a [`Group`] as long as it has members; reused after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Key);

/// The members, in this shard, of one shared subscription (MQTT 5.0 §4.8.2).
#[derive(Debug)]
pub struct Group {
    filter: Filter,
    members: Vec<Match>,
    next: usize,
}

impl Group {
    /// The whole filter, with share name.
    pub const fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The members, ascending by client. Never empty.
    pub fn members(&self) -> &[Match] {
        &self.members
    }

    /// Index of the member whose turn it is; below the number of members.
    pub const fn next(&self) -> usize {
        self.next
    }

    /// Sets whose turn it is; taken modulo the number of members.
    pub fn set_next(&mut self, next: usize) {
        self.next = next % self.members.len();
    }

    /// The member whose turn it is; the turn passes on.
    pub fn advance(&mut self) -> Match {
        let member = self.current();
        self.set_next(self.next + 1);
        member
    }

    fn current(&self) -> Match {
        *self.members.get(self.next).expect("each change keeps `next` below the members' number")
    }

    /// Adds or replaces a member; the turn stays with the same member. Returns the replaced one.
    fn insert(&mut self, new: Match) -> Option<Match> {
        match self.members.binary_search_by_key(&new.client, |m| m.client) {
            Ok(at) => self.members.get_mut(at).map(|old| std::mem::replace(old, new)),
            Err(at) => {
                self.members.insert(at, new);
                // Without this the member before would have two turns in a row.
                if at <= self.next {
                    self.next += 1;
                }
                None
            }
        }
    }

    /// Removes a member; if it had the turn, the one after it has it now.
    fn remove(&mut self, client: ClientIndex) -> Option<Match> {
        let at = self.members.binary_search_by_key(&client, |m| m.client).ok()?;
        let old = self.members.remove(at);
        if at < self.next {
            self.next -= 1;
        }
        if self.next >= self.members.len() {
            self.next = 0;
        }
        Some(old)
    }
}

/// All groups, by id and by filter.
#[derive(Debug)]
pub(super) struct Groups {
    slab: Slab<Group>,
    by_filter: HashMap<Filter, GroupId, RandomState>,
    members_count: usize,
}

/// What joining or leaving a group changed.
pub(super) struct Change {
    pub(super) id: GroupId,
    /// The member's match before.
    pub(super) before: Option<Match>,
    /// The group came into being or ended.
    pub(super) group_changed: bool,
}

impl Groups {
    pub(super) fn new() -> Self {
        let by_filter = HashMap::with_hasher(RandomState::new());
        Groups { slab: Slab::new(), by_filter, members_count: 0 }
    }

    /// Number of members of all groups.
    pub(super) const fn members_count(&self) -> usize {
        self.members_count
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.slab.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slab.get_mut(id.0)
    }

    pub(super) fn of(&self, filter: &Filter) -> Option<GroupId> {
        self.by_filter.get(filter).copied()
    }

    pub(super) fn join(&mut self, filter: &Filter, new: Match) -> Change {
        if let Some(id) = self.of(filter) {
            let before = self.slab.at_mut(id.0).insert(new);
            self.members_count += usize::from(before.is_none());
            return Change { id, before, group_changed: false };
        }
        let group = Group { filter: filter.clone(), members: vec![new], next: 0 };
        let id = GroupId(self.slab.insert(group));
        self.by_filter.insert(filter.clone(), id);
        self.members_count += 1;
        Change { id, before: None, group_changed: true }
    }

    pub(super) fn leave(&mut self, filter: &Filter, client: ClientIndex) -> Option<Change> {
        let id = self.of(filter)?;
        let group = self.slab.at_mut(id.0);
        let before = group.remove(client)?;
        let group_changed = group.members.is_empty();
        if group_changed {
            self.slab.remove(id.0);
            self.by_filter.remove(filter);
        }
        self.members_count -= 1;
        Some(Change { id, before: Some(before), group_changed })
    }
}
