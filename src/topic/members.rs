//! The clients of one filter.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::ClientIndex;
use crate::codec::SubscribeOptions;

/// Above this many clients a map takes over from the vector: no change moves more than 6 KiB.
const VECTOR_MAX: usize = 512;

/// Below this many clients the vector takes over again.
const MAP_MIN: usize = 256;

/// One subscription that a message matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Who subscribed.
    pub client: ClientIndex,
    /// With which options.
    pub options: SubscribeOptions,
    /// Subscription identifier, if one was given.
    pub identifier: Option<NonZeroU32>,
}

/// The clients of one filter, in ascending order; at most one [`Match`] per client.
///
/// Most filters have one client, which is kept in place; some have all of them.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    One(Match),
    Few(Vec<Match>),
    #[expect(clippy::box_collection, reason = "in place it would make every filter larger")]
    Many(Box<BTreeMap<ClientIndex, Match>>),
}

impl Members {
    pub(super) const fn of(one: Match) -> Self {
        Members::One(one)
    }

    /// The only one, if there is one.
    pub(super) fn only(&self) -> Option<Match> {
        match self {
            Members::One(one) => Some(*one),
            Members::Few(list) => match list.as_slice() {
                [one] => Some(*one),
                _ => None,
            },
            Members::None | Members::Many(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Members::None => 0,
            Members::One(_) => 1,
            Members::Few(list) => list.len(),
            Members::Many(map) => map.len(),
        }
    }

    pub(super) fn get(&self, client: ClientIndex) -> Option<Match> {
        match self {
            Members::None => None,
            Members::One(one) => (one.client == client).then_some(*one),
            Members::Few(list) => {
                let at = list.binary_search_by_key(&client, |m| m.client).ok()?;
                list.get(at).copied()
            }
            Members::Many(map) => map.get(&client).copied(),
        }
    }

    /// Adds or replaces the match of a client; returns the replaced one. [MQTT-3.8.4-3]
    pub(super) fn insert(&mut self, new: Match) -> Option<Match> {
        match self {
            Members::None => {
                *self = Members::One(new);
                None
            }
            Members::One(one) if one.client == new.client => Some(std::mem::replace(one, new)),
            Members::One(one) => {
                let (low, high) = if one.client < new.client { (*one, new) } else { (new, *one) };
                *self = Members::Few(vec![low, high]);
                None
            }
            Members::Few(list) => {
                let at = match list.binary_search_by_key(&new.client, |m| m.client) {
                    Ok(at) => return list.get_mut(at).map(|old| std::mem::replace(old, new)),
                    Err(at) => at,
                };
                list.insert(at, new);
                if list.len() > VECTOR_MAX {
                    let map = list.iter().map(|m| (m.client, *m)).collect();
                    *self = Members::Many(Box::new(map));
                }
                None
            }
            Members::Many(map) => map.insert(new.client, new),
        }
    }

    /// Removes the match of a client.
    pub(super) fn remove(&mut self, client: ClientIndex) -> Option<Match> {
        match self {
            Members::One(one) if one.client == client => {
                let old = *one;
                *self = Members::None;
                Some(old)
            }
            Members::None | Members::One(_) => None,
            Members::Few(list) => {
                let at = list.binary_search_by_key(&client, |m| m.client).ok()?;
                let old = list.remove(at);
                if let [one] = list.as_slice() {
                    *self = Members::One(*one);
                }
                Some(old)
            }
            Members::Many(map) => {
                let old = map.remove(&client)?;
                if map.len() < MAP_MIN {
                    *self = Members::Few(map.values().copied().collect());
                }
                Some(old)
            }
        }
    }

    /// Appends all matches to `out`, by client.
    pub(super) fn append_to(&self, out: &mut Vec<Match>) {
        match self {
            Members::None => {}
            Members::One(one) => out.push(*one),
            Members::Few(list) => out.extend_from_slice(list),
            Members::Many(map) => out.extend(map.values()),
        }
    }
}

const _: () = assert!(size_of::<Members>() == 24, "an exact filter of one client stays small");
