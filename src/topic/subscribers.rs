//! Those who subscribed to one filter path.

use super::ClientIndex;
use super::groups::GroupId;
use super::members::{Match, Members};
use super::slab::{Key, Slab};

/// The subscribers of one path, in twelve bytes: a million paths have one client each. What does
/// not fit is in the [`Lists`] of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Subscribers {
    #[default]
    None,
    One(Match),
    Several(Key),
}

const _: () = assert!(size_of::<Subscribers>() == 12);

/// Subscribers of paths that have several clients, or share groups.
#[derive(Debug)]
pub(super) struct Lists(Slab<List>);

#[derive(Debug, Default)]
struct List {
    direct: Members,
    /// Ascending.
    groups: Vec<GroupId>,
}

impl Lists {
    pub(super) const fn new() -> Self {
        Lists(Slab::new())
    }

    /// Number of clients, those in groups not counted.
    pub(super) fn direct_len(&self, of: Subscribers) -> usize {
        match of {
            Subscribers::None => 0,
            Subscribers::One(_) => 1,
            Subscribers::Several(key) => self.0.at(key).direct.len(),
        }
    }

    /// The subscription of a client.
    pub(super) fn get(&self, of: Subscribers, client: ClientIndex) -> Option<Match> {
        match of {
            Subscribers::None => None,
            Subscribers::One(one) => (one.client == client).then_some(one),
            Subscribers::Several(key) => self.0.at(key).direct.get(client),
        }
    }

    /// Adds or replaces the match of a client; returns the replaced one. [MQTT-3.8.4-3]
    pub(super) fn insert(&mut self, of: &mut Subscribers, new: Match) -> Option<Match> {
        match of {
            Subscribers::None => {
                *of = Subscribers::One(new);
                None
            }
            Subscribers::One(one) if one.client == new.client => Some(std::mem::replace(one, new)),
            Subscribers::One(_) | Subscribers::Several(_) => self.list(of).direct.insert(new),
        }
    }

    /// Removes the match of a client.
    pub(super) fn remove(&mut self, of: &mut Subscribers, client: ClientIndex) -> Option<Match> {
        match *of {
            Subscribers::None => None,
            Subscribers::One(one) => {
                let found = one.client == client;
                *of = if found { Subscribers::None } else { *of };
                found.then_some(one)
            }
            Subscribers::Several(key) => {
                let removed = self.0.at_mut(key).direct.remove(client);
                self.simplify(of);
                removed
            }
        }
    }

    /// Adds a group that is not there.
    pub(super) fn add_group(&mut self, of: &mut Subscribers, new: GroupId) {
        let ids = &mut self.list(of).groups;
        let at = ids.partition_point(|id| *id < new);
        ids.insert(at, new);
    }

    pub(super) fn remove_group(&mut self, of: &mut Subscribers, group: GroupId) {
        if let Subscribers::Several(key) = *of {
            self.0.at_mut(key).groups.retain(|id| *id != group);
            self.simplify(of);
        }
    }

    /// Appends all clients, ascending, and all groups.
    pub(super) fn append_to(
        &self,
        of: Subscribers,
        direct: &mut Vec<Match>,
        groups: &mut Vec<GroupId>,
    ) {
        match of {
            Subscribers::None => {}
            Subscribers::One(one) => direct.push(one),
            Subscribers::Several(key) => {
                let list = self.0.at(key);
                list.direct.append_to(direct);
                groups.extend_from_slice(&list.groups);
            }
        }
    }

    /// The list of a path, made if it has none.
    fn list(&mut self, of: &mut Subscribers) -> &mut List {
        let key = match *of {
            Subscribers::Several(key) => key,
            Subscribers::One(one) => {
                self.0.insert(List { direct: Members::of(one), groups: Vec::new() })
            }
            Subscribers::None => self.0.insert(List::default()),
        };
        *of = Subscribers::Several(key);
        self.0.at_mut(key)
    }

    /// Gives up a list that is not needed any more.
    fn simplify(&mut self, of: &mut Subscribers) {
        let Subscribers::Several(key) = *of else { return };
        let list = self.0.at(key);
        if !list.groups.is_empty() {
            return;
        }
        *of = match list.direct.only() {
            Some(one) => Subscribers::One(one),
            None if list.direct.len() == 0 => Subscribers::None,
            None => return,
        };
        self.0.remove(key);
    }
}
