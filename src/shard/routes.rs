//! Which other shards want a topic: the shared part of the subscriptions.
//!
//! Promise: may be too wide for a moment, never too narrow: a SUBACK waits until every shard has
//! the interest. Only the home shard knows which client it is for.

use super::settings::SHARDS_MAX;
use crate::topic::{Filter, FilterTree, FrontCache, TopicName};
use ahash::AHashMap;
use std::rc::Rc;

/// Topics in the front cache.
const FRONT_TOPICS_MAX: usize = 14_336;
/// Weight of all cached targets.
const FRONT_WEIGHT_MAX: usize = 1 << 18;

const _: () = assert!(SHARDS_MAX <= u128::BITS as usize);

/// Who wants the topics of one filter: nearly always clients of one shard, so that is kept here.
/// A broker with many shards has an entry for nearly all filters of the others.
#[derive(Debug, Default)]
enum Route {
    #[default]
    None,
    Shard(u8),
    Several(Box<Several>),
}

const _: () = assert!(size_of::<Route>() == 16);

#[derive(Debug, Default)]
struct Several {
    shards: u128,
    shares: Vec<u32>,
}

impl Route {
    const fn shards(&self) -> u128 {
        match self {
            Route::None => 0,
            Route::Shard(shard) => 1 << *shard,
            Route::Several(several) => several.shards,
        }
    }

    fn shares(&self) -> &[u32] {
        match self {
            Route::None | Route::Shard(_) => &[],
            Route::Several(several) => &several.shares,
        }
    }

    fn add(&mut self, shard: usize) {
        match (&*self, u8::try_from(shard)) {
            (Route::None, Ok(shard)) => *self = Route::Shard(shard),
            (Route::Shard(only), Ok(shard)) if *only == shard => {}
            _ => self.change(|several| several.shards |= 1 << shard),
        }
    }

    /// Makes the change, and what is left as small as it can be.
    fn change(&mut self, change: impl FnOnce(&mut Several)) {
        let mut several = match std::mem::take(self) {
            Route::Several(several) => several,
            few @ (Route::None | Route::Shard(_)) => {
                Box::new(Several { shards: few.shards(), shares: Vec::new() })
            }
        };
        change(&mut several);
        let only = u8::try_from(several.shards.trailing_zeros());
        *self = match (several.shares.is_empty(), several.shards.count_ones(), only) {
            (true, 0, _) => Route::None,
            (true, 1, Ok(only)) => Route::Shard(only),
            _ => Route::Several(several),
        };
    }
}

/// Members of one shared subscription, by shard.
#[derive(Debug)]
struct Share {
    filter: Filter,
    /// Shard, members with a connection, all members; never with 0 members.
    members: Vec<(usize, u32, u32)>,
    turn: u64,
}

/// All targets of one topic.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Other shards, one bit each.
    pub(super) shards: u128,
    /// Shared subscriptions.
    pub(super) shares: Vec<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Routes {
    tree: FilterTree<Route>,
    front: FrontCache<Targets>,
    shares: Vec<Option<Share>>,
    free: Vec<u32>,
    by_filter: AHashMap<Filter, u32>,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            tree: FilterTree::new(),
            front: FrontCache::new(FRONT_TOPICS_MAX, FRONT_WEIGHT_MAX),
            shares: Vec::new(),
            free: Vec::new(),
            by_filter: AHashMap::new(),
        }
    }
}

impl Routes {
    /// Neither another shard nor a shared group wants anything.
    pub(super) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Who wants a topic. For a topic seen lately one hash, no allocation.
    pub(super) fn targets(&mut self, topic: TopicName<'_>) -> Rc<Targets> {
        if let Some(targets) = self.front.get(topic) {
            return targets;
        }
        let mut targets = Targets::default();
        self.tree.for_each_match(topic, |route| {
            targets.shards |= route.shards();
            targets.shares.extend(route.shares());
        });
        let weight = 1 + targets.shares.len();
        let targets = Rc::new(targets);
        self.front.insert(topic, Rc::clone(&targets), weight);
        targets
    }

    /// Another shard wants a filter.
    pub(super) fn add(&mut self, filter: &Filter, shard: usize) {
        self.tree.entry(filter).add(shard);
        self.front.invalidate(filter.path());
    }

    /// Another shard no longer wants a filter.
    pub(super) fn remove(&mut self, filter: &Filter, shard: usize) {
        if let Some(route) = self.tree.get_mut(filter.path()) {
            route.change(|several| several.shards &= !(1 << shard));
            self.remove_if_empty(filter);
        }
    }

    /// Members of a shard in a shared subscription: with connection, in all.
    pub(super) fn members(&self, filter: &Filter, of: usize) -> (u32, u32) {
        let share = self.by_filter.get(filter).and_then(|index| self.share(*index));
        let mine = share.and_then(|s| s.members.iter().find(|(at, _, _)| *at == of));
        mine.map_or((0, 0), |(_, online, total)| (*online, *total))
    }

    /// A shard's members of a shared subscription have changed.
    pub(super) fn set_members(&mut self, filter: &Filter, at: usize, online: u32, total: u32) {
        let index = match self.by_filter.get(filter) {
            Some(index) => *index,
            None if total == 0 => return,
            None => self.add_share(filter),
        };
        let Some(share) = self.shares.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        share.members.retain(|(other, _, _)| *other != at);
        if total > 0 {
            share.members.push((at, online, total));
            share.members.sort_unstable();
        }
        if share.members.is_empty() {
            self.remove_share(filter, index);
        }
    }

    /// The shard whose turn it is in a shared subscription: by members with a connection, or by all
    /// members if none has one. `None` if there is no member.
    pub(super) fn choose(&mut self, share: u32) -> Option<(usize, Filter)> {
        let share = self.shares.get_mut(share as usize)?.as_mut()?;
        let online: u64 = share.members.iter().map(|(_, online, _)| u64::from(*online)).sum();
        let weight = |(_, online_here, total): &(usize, u32, u32)| {
            u64::from(if online > 0 { *online_here } else { *total })
        };
        let all: u64 = share.members.iter().map(weight).sum();
        let mut turn = share.turn.checked_rem(all)?;
        share.turn = share.turn.wrapping_add(1);
        for member in &share.members {
            match turn.checked_sub(weight(member)) {
                Some(rest) => turn = rest,
                None => return Some((member.0, share.filter.clone())),
            }
        }
        None
    }

    /// Another shard that has a member with a connection.
    pub(super) fn other_online(&self, filter: &Filter, here: usize) -> Option<usize> {
        let share = self.share(*self.by_filter.get(filter)?)?;
        share.members.iter().find(|(of, online, _)| *of != here && *online > 0).map(|m| m.0)
    }

    /// A shard with members that is not in a set of shards; one with a connection if there is any.
    pub(super) fn untried(&self, filter: &Filter, tried: u128) -> Option<usize> {
        let share = self.share(*self.by_filter.get(filter)?)?;
        let left = || share.members.iter().filter(|(of, _, _)| tried & (1 << of) == 0);
        left().find(|(_, online, _)| *online > 0).or_else(|| left().next()).map(|m| m.0)
    }

    /// Number of a shared subscription with members.
    pub(super) fn share_of(&self, filter: &Filter) -> Option<u32> {
        self.by_filter.get(filter).copied()
    }

    /// Some member of the shared subscription has a connection.
    pub(super) fn any_online(&self, filter: &Filter) -> bool {
        let share = self.by_filter.get(filter).and_then(|index| self.share(*index));
        share.is_some_and(|share| share.members.iter().any(|(_, online, _)| *online > 0))
    }

    fn share(&self, index: u32) -> Option<&Share> {
        self.shares.get(index as usize)?.as_ref()
    }

    fn add_share(&mut self, filter: &Filter) -> u32 {
        let share = Share { filter: filter.clone(), members: Vec::new(), turn: 0 };
        let index = self.free.pop().unwrap_or_else(|| {
            self.shares.push(None);
            u32::try_from(self.shares.len() - 1).expect("a group takes more than one byte")
        });
        if let Some(entry) = self.shares.get_mut(index as usize) {
            *entry = Some(share);
        }
        self.by_filter.insert(filter.clone(), index);
        self.tree.entry(filter).change(|several| several.shares.push(index));
        self.front.invalidate(filter.path());
        index
    }

    fn remove_share(&mut self, filter: &Filter, index: u32) {
        if let Some(entry) = self.shares.get_mut(index as usize) {
            *entry = None;
            self.free.push(index);
        }
        self.by_filter.remove(filter);
        if let Some(route) = self.tree.get_mut(filter.path()) {
            route.change(|several| several.shares.retain(|other| *other != index));
        }
        self.remove_if_empty(filter);
    }

    fn remove_if_empty(&mut self, filter: &Filter) {
        if matches!(self.tree.get(filter.path()), Some(Route::None)) {
            self.tree.remove(filter.path());
        }
        self.front.invalidate(filter.path());
    }
}

/// The shards of a set, ascending.
pub(super) fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let shard = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        usize::try_from(shard).ok().filter(|shard| *shard < SHARDS_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::parse(text, 128).unwrap()
    }

    fn targets(routes: &mut Routes, topic: &str) -> Vec<usize> {
        bits(routes.targets(TopicName::parse(topic).unwrap()).shards).collect()
    }

    #[test]
    fn interest_is_added_and_removed_per_shard() {
        let mut routes = Routes::default();
        routes.add(&filter("a/+"), 3);
        routes.add(&filter("a/b"), 127);
        assert_eq!(targets(&mut routes, "a/b"), [3, 127]);
        routes.remove(&filter("a/b"), 127);
        assert_eq!(targets(&mut routes, "a/b"), [3]);
        routes.remove(&filter("a/+"), 3);
        assert!(routes.is_empty());
    }

    #[test]
    fn turns_follow_the_members_with_a_connection() {
        let mut routes = Routes::default();
        let group = filter("$share/g/t");
        routes.set_members(&group, 0, 1, 5);
        routes.set_members(&group, 1, 2, 2);
        let share = routes.share_of(&group).unwrap();
        let turns: Vec<usize> = (0..6).map(|_| routes.choose(share).unwrap().0).collect();
        assert_eq!(turns, [0, 1, 1, 0, 1, 1]);
        routes.set_members(&group, 0, 0, 5);
        assert_eq!(routes.choose(share).unwrap().0, 1);
        routes.set_members(&group, 1, 0, 0);
        assert_eq!(routes.choose(share).unwrap().0, 0, "members without connection keep it");
        routes.set_members(&group, 0, 0, 0);
        assert!(routes.is_empty() && routes.choose(share).is_none());
    }
}
