//! Who gets what: one shard's subscriptions.

use std::num::NonZeroU32;
use std::rc::Rc;

use super::ClientIndex;
use super::filter::Filter;
use super::front::FrontCache;
use super::groups::{Group, GroupId, Groups};
use super::members::Match;
use super::name::TopicName;
use super::slab::Key;
use super::subscribers::{Lists, Subscribers};
use super::tree::FilterTree;
use crate::codec::SubscribeOptions;

/// Topics in the front cache: half of what fits in 2^15 buckets, so its table grows no further.
const FRONT_TOPICS_MAX: usize = 14_336;

/// Matches held by the front cache in all, 12 bytes each.
const FRONT_MATCHES_MAX: usize = 1 << 20;

/// Matches up to which the list of a topic that is not kept is filled again.
const PASSING_MAX: usize = 4096;

/// The subscriptions of one shard's clients, searched by topic.
///
/// A filter may have many clients and a client many filters; a client has a filter at most once.
#[derive(Debug)]
pub struct Subscriptions {
    tree: FilterTree<Subscribers>,
    lists: Lists,
    groups: Groups,
    front: FrontCache<Matches>,
    /// What topics without subscribers share.
    nothing: Rc<Matches>,
    /// Matches of the last topic that was not kept, to be filled again.
    passing: Option<Rc<Matches>>,
    direct_count: usize,
}

/// Names a filter, shared or not, as long as it has a subscriber in this shard; reused after that.
///
/// Eight bytes, by which a client knows the filters it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterId(Named);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Path(Key),
    Group(GroupId),
}

impl FilterId {
    /// Is it a shared subscription.
    pub const fn is_shared(self) -> bool {
        matches!(self.0, Named::Group(_))
    }
}

/// All subscriptions that match a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Ascending by client. A client with overlapping subscriptions is there several times.
    pub direct: Vec<Match>,
    /// Shared subscriptions, ascending; each has members.
    pub groups: Vec<GroupId>,
}

/// What a subscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The client did not have this filter; otherwise its options were replaced. [MQTT-3.8.4-3]
    pub was_new: bool,
    /// The filter, or share group, had no subscriber in this shard.
    pub first: bool,
    /// Names the filter from now on.
    pub id: FilterId,
}

/// What an unsubscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The filter, or share group, has no subscriber in this shard any more.
    pub last: bool,
}

impl Subscriptions {
    /// No subscriptions.
    pub fn new() -> Self {
        Subscriptions {
            tree: FilterTree::new(),
            lists: Lists::new(),
            groups: Groups::new(),
            front: FrontCache::new(FRONT_TOPICS_MAX, FRONT_MATCHES_MAX),
            nothing: Rc::default(),
            passing: None,
            direct_count: 0,
        }
    }

    /// Number of subscriptions that are not shared.
    pub const fn len(&self) -> usize {
        self.direct_count
    }

    /// Is there no subscription, shared or not.
    pub const fn is_empty(&self) -> bool {
        self.direct_count == 0 && self.shared_len() == 0
    }

    /// Number of shared subscriptions: members of all groups.
    pub const fn shared_len(&self) -> usize {
        self.groups.members_count()
    }

    /// Adds a client's subscription, or replaces the one with the same filter. [MQTT-3.8.4-3]
    ///
    /// O(levels), and O(log n) in the clients of the filter; O(n) in the members of a group.
    pub fn subscribe(
        &mut self,
        filter: &Filter,
        client: ClientIndex,
        options: SubscribeOptions,
        identifier: Option<NonZeroU32>,
    ) -> Subscribed {
        let new = Match { client, options, identifier };
        if filter.share().is_some() {
            return self.join(filter, new);
        }
        let key = self.tree.key(filter);
        let subscribers = self.tree.at_mut(key);
        let first = self.lists.direct_len(*subscribers) == 0;
        let before = self.lists.insert(subscribers, new);
        self.direct_count += usize::from(before.is_none());
        if before != Some(new) {
            self.front.invalidate(filter.path());
        }
        Subscribed { was_new: before.is_none(), first, id: FilterId(Named::Path(key)) }
    }

    /// Removes a client's subscription; `None` if it had none. [MQTT-3.10.4-1]
    pub fn unsubscribe(&mut self, filter: &Filter, client: ClientIndex) -> Option<Unsubscribed> {
        if filter.share().is_some() {
            return self.leave(filter, client);
        }
        let subscribers = self.tree.get_mut(filter.path())?;
        self.lists.remove(subscribers, client)?;
        let last = self.lists.direct_len(*subscribers) == 0;
        if last {
            self.remove_if_empty(filter.path());
        }
        self.direct_count -= 1;
        self.front.invalidate(filter.path());
        Some(Unsubscribed { last })
    }

    /// A client's subscription with this filter.
    pub fn get(&self, filter: &Filter, client: ClientIndex) -> Option<Match> {
        if filter.share().is_some() {
            let members = self.group(self.group_of(filter)?)?.members();
            let at = members.binary_search_by_key(&client, |m| m.client).ok()?;
            return members.get(at).copied();
        }
        self.lists.get(*self.tree.get(filter.path())?, client)
    }

    /// The name of a filter that somebody here has subscribed to.
    pub fn id_of(&self, filter: &Filter) -> Option<FilterId> {
        if filter.share().is_some() {
            return self.group_of(filter).map(|id| FilterId(Named::Group(id)));
        }
        self.tree.find(filter.path()).map(|key| FilterId(Named::Path(key)))
    }

    /// The filter of a name.
    ///
    /// # Panics
    /// If nobody here has subscribed to it any more.
    pub fn filter(&self, id: FilterId) -> Filter {
        match id.0 {
            Named::Path(key) => Filter::of_path(self.tree.path(key)),
            Named::Group(id) => {
                let group = self.group(id).expect("the caller holds the id of a group in use");
                group.filter().clone()
            }
        }
    }

    /// All subscriptions that match a topic.
    ///
    /// For a topic seen lately one hash and no allocation; otherwise the trie is searched and the
    /// matches are copied. Ask again after any change: the returned list is never updated.
    pub fn matches(&mut self, topic: TopicName<'_>) -> Rc<Matches> {
        if let Some(matches) = self.front.get(topic) {
            return matches;
        }
        self.look_up(topic, |_| {})
    }

    /// Searches, and keeps the matches if the topic is likely to come again soon.
    fn look_up(&mut self, topic: TopicName<'_>, narrow: impl FnOnce(&mut Matches)) -> Rc<Matches> {
        if !self.front.is_worth_keeping(topic) {
            let mut passing = self.passing.take().unwrap_or_default();
            if Rc::get_mut(&mut passing).is_none() {
                // The caller still has that of an earlier topic.
                passing = Rc::default();
            }
            let matches = Rc::get_mut(&mut passing).expect("just made, or nobody else has it");
            self.search(topic, matches);
            narrow(matches);
            if matches.direct.capacity() <= PASSING_MAX {
                self.passing = Some(Rc::clone(&passing));
            }
            return passing;
        }
        let mut matches = Matches::default();
        self.search(topic, &mut matches);
        narrow(&mut matches);
        let weight = matches.direct.len() + matches.groups.len();
        let matches = if weight == 0 { Rc::clone(&self.nothing) } else { Rc::new(matches) };
        self.front.insert(topic, Rc::clone(&matches), weight);
        matches
    }

    /// The same without the clients that may not have messages of this topic; who they are is asked
    /// when the trie is searched, and holds until [`forget`](Self::forget) or a change of one of
    /// the filters. Those who share subscriptions are not asked for.
    pub fn matches_allowed(
        &mut self,
        topic: TopicName<'_>,
        mut allowed: impl FnMut(ClientIndex) -> bool,
    ) -> Rc<Matches> {
        if let Some(matches) = self.front.get(topic) {
            return matches;
        }
        self.look_up(topic, |matches| {
            // Those of one client are neighbours.
            let mut last = None;
            matches.direct.retain(|found| match last {
                Some((client, verdict)) if client == found.client => verdict,
                _ => {
                    let verdict = allowed(found.client);
                    last = Some((found.client, verdict));
                    verdict
                }
            });
        })
    }

    /// Forgets what [`matches_allowed`](Self::matches_allowed) was told. O(1).
    pub fn forget(&mut self) {
        self.front.invalidate("#");
    }

    /// Forgets it for the topics of one filter. O(1).
    pub fn forget_topics_of(&mut self, id: FilterId) {
        self.front.invalidate(self.filter(id).path());
    }

    /// A share group, as long as it has members.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    /// A share group, to move its turn.
    pub fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(id)
    }

    /// The share group of a filter with share name, if it has members.
    pub fn group_of(&self, filter: &Filter) -> Option<GroupId> {
        self.groups.of(filter)
    }

    fn search(&self, topic: TopicName<'_>, matches: &mut Matches) {
        matches.direct.clear();
        matches.groups.clear();
        let mut filters = 0;
        self.tree.for_each_match(topic, |subscribers| {
            self.lists.append_to(*subscribers, &mut matches.direct, &mut matches.groups);
            filters += 1;
        });
        if filters > 1 {
            matches.direct.sort_by_key(|m| m.client);
            matches.groups.sort_unstable();
        }
    }

    fn join(&mut self, filter: &Filter, new: Match) -> Subscribed {
        let change = self.groups.join(filter, new);
        if change.group_changed {
            self.lists.add_group(self.tree.entry(filter), change.id);
            self.front.invalidate(filter.path());
        }
        let (was_new, first) = (change.before.is_none(), change.group_changed);
        Subscribed { was_new, first, id: FilterId(Named::Group(change.id)) }
    }

    fn leave(&mut self, filter: &Filter, client: ClientIndex) -> Option<Unsubscribed> {
        let change = self.groups.leave(filter, client)?;
        if change.group_changed {
            let subscribers = self.tree.get_mut(filter.path());
            let subscribers = subscribers.expect("the path of each group is in the tree");
            self.lists.remove_group(subscribers, change.id);
            self.remove_if_empty(filter.path());
            self.front.invalidate(filter.path());
        }
        Some(Unsubscribed { last: change.group_changed })
    }

    fn remove_if_empty(&mut self, path: &str) {
        if self.tree.get(path) == Some(&Subscribers::None) {
            self.tree.remove(path);
        }
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
