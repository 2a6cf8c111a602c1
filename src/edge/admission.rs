//! How many connections there may be: one count for all shards.
//!
//! A connection is accepted on any shard and may move, so its limits cannot be counted by one. This
//! is the one thing that shards share; it is touched when a connection begins, when its address or
//! its CONNECT is known, and when it ends, never by a packet.
//!
//! Who is over a limit is refused by the reason code of his CONNECT, so that he knows why, as long
//! as few are ([`REFUSED_MAX`]); more are closed at once.

use crate::codec::Reason;
use ahash::AHashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Connections that will be refused and may still send their CONNECT; a further one is closed.
const REFUSED_MAX: usize = 1024;
/// The network of one IPv6 subscriber.
const IPV6_PREFIX: u128 = !(u64::MAX as u128);

/// Limits; 0 = none.
#[derive(Clone, Debug, Default)]
pub struct AdmissionLimits {
    /// Connections.
    pub connections_max: usize,
    /// Of each listener, by its number.
    pub listeners: Vec<ListenerLimit>,
    /// Connections of one address, or of one /64 in IPv6.
    pub per_address_max: usize,
    /// Connections without CONNECT.
    pub connecting_max: usize,
    /// Those of one address.
    pub connecting_per_address_max: usize,
}

/// How many connections one listener may have, and how many it has.
#[derive(Clone, Debug, Default)]
pub struct ListenerLimit {
    /// 0 = no limit of its own.
    pub connections_max: usize,
    /// Goes on when the settings change.
    pub count: ListenerCount,
}

/// Connections of one listener; a clone is the same count.
#[derive(Clone, Debug, Default)]
pub struct ListenerCount(Arc<AtomicUsize>);

/// See the module.
#[derive(Debug)]
pub struct Admission {
    limits: RwLock<AdmissionLimits>,
    connections: AtomicUsize,
    addresses: Mutex<AHashMap<IpAddr, Load>>,
    connecting: AtomicUsize,
    refused: AtomicUsize,
    /// Memory is above its limit.
    pressed: AtomicBool,
    /// Shards whose log has no room.
    disks_full: AtomicUsize,
}

/// Connections of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    all: usize,
    /// Without CONNECT.
    connecting: usize,
}

/// What an address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// As many as there may be.
    Full,
    /// As many without CONNECT as there may be.
    Crowded,
}

/// A connection's place in the counts; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    admission: Arc<Admission>,
    /// Counted there.
    listener: Option<ListenerCount>,
    /// Counted under this address.
    address: Option<IpAddr>,
    connecting: bool,
    /// It is over a limit, so it counts nowhere but among the refused.
    refusal: Option<Reason>,
}

impl Admission {
    /// Counts from nothing.
    pub fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Admission {
            connections: AtomicUsize::new(0),
            addresses: Mutex::default(),
            connecting: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            pressed: AtomicBool::new(false),
            disks_full: AtomicUsize::new(0),
            limits: RwLock::new(limits),
        })
    }

    /// Other limits; who is in stays in.
    pub fn set_limits(&self, limits: AdmissionLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn limits(&self) -> RwLockReadGuard<'_, AdmissionLimits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted. `None` = close it at once.
    pub(super) fn enter(self: &Arc<Self>, listener: usize) -> Option<Pass> {
        let limits = self.limits();
        if !take(&self.connecting, limits.connecting_max) {
            return None;
        }
        let mut pass = Pass {
            admission: Arc::clone(self),
            listener: None,
            address: None,
            connecting: true,
            refusal: None,
        };
        if !take(&self.connections, limits.connections_max) {
            // Nothing was taken, so nothing may be given back.
            return pass.refuse_before(Reason::QuotaExceeded);
        }
        if let Some(ListenerLimit { connections_max, count }) = limits.listeners.get(listener) {
            if !take(&count.0, *connections_max) {
                give(&self.connections);
                return pass.refuse_before(Reason::QuotaExceeded);
            }
            pass.listener = Some(count.clone());
        }
        Some(pass)
    }

    /// Says whether memory is above its limit.
    pub(super) fn set_pressed(&self, pressed: bool) {
        self.pressed.store(pressed, Ordering::Relaxed);
    }

    /// Memory is above its limit.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// The log of one shard has no room, or has it again.
    pub(super) fn note_disk_full(&self, full: bool) {
        if full {
            self.disks_full.fetch_add(1, Ordering::Relaxed);
        } else {
            give(&self.disks_full);
        }
    }

    /// The log of some shard has no room.
    pub(super) fn is_disk_full(&self) -> bool {
        self.disks_full.load(Ordering::Relaxed) > 0
    }

    fn take_address(&self, address: IpAddr, connecting: bool) -> Room {
        let (all_max, connecting_max) = {
            let limits = self.limits();
            (limits.per_address_max, limits.connecting_per_address_max)
        };
        let passes = |count, max| max > 0 && count >= max;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let load = addresses.get(&address).copied().unwrap_or_default();
        if connecting && passes(load.connecting, connecting_max) {
            return Room::Crowded;
        }
        if passes(load.all, all_max) {
            return Room::Full;
        }
        let connecting = load.connecting + usize::from(connecting);
        addresses.insert(address, Load { all: load.all + 1, connecting });
        Room::Free
    }

    fn give_address(&self, address: IpAddr, connecting: bool, all: bool) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = addresses.get_mut(&address) {
            load.all -= usize::from(all);
            load.connecting -= usize::from(connecting);
            if load.all == 0 {
                addresses.remove(&address);
            }
        }
    }
}

impl Pass {
    /// The address of the other end is known. False = close the connection at once.
    pub(super) fn come_from(&mut self, address: Option<IpAddr>) -> bool {
        let Some(address) = address.map(network).filter(|_| self.counts_addresses()) else {
            return true;
        };
        match self.admission.take_address(address, self.connecting) {
            Room::Free => {
                self.address = Some(address);
                true
            }
            Room::Full => self.refuse(Reason::QuotaExceeded),
            // Who says nothing would never be told.
            Room::Crowded => false,
        }
    }

    /// The connection is over a limit. False = too many are: close it at once.
    pub(super) fn refuse(&mut self, reason: Reason) -> bool {
        if self.refusal.is_none() {
            self.give_counts();
            self.refusal = Some(reason);
            self.admission.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.admission.refused.load(Ordering::Relaxed) <= REFUSED_MAX
    }

    /// What its CONNECT is to be answered with.
    pub(super) fn refusal(&self) -> Option<Reason> {
        self.refusal
    }

    /// Its CONNECT is here.
    pub(super) fn connected(&mut self) {
        if std::mem::replace(&mut self.connecting, false) {
            give(&self.admission.connecting);
            if let Some(address) = self.address {
                self.admission.give_address(address, true, false);
            }
        }
    }

    fn counts_addresses(&self) -> bool {
        let limits = self.admission.limits();
        let wanted = limits.per_address_max > 0 || limits.connecting_per_address_max > 0;
        drop(limits);
        wanted && self.refusal.is_none() && self.address.is_none()
    }

    /// Refuses before anything but `connecting` was counted.
    fn refuse_before(mut self, reason: Reason) -> Option<Pass> {
        self.refusal = Some(reason);
        let before = self.admission.refused.fetch_add(1, Ordering::Relaxed);
        (before < REFUSED_MAX).then_some(self)
    }

    fn give_counts(&mut self) {
        give(&self.admission.connections);
        if let Some(count) = self.listener.take() {
            give(&count.0);
        }
        if let Some(address) = self.address.take() {
            self.admission.give_address(address, self.connecting, true);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.connected();
        if self.refusal.is_some() {
            give(&self.admission.refused);
        } else {
            self.give_counts();
        }
    }
}

/// Counts one more, unless there are as many as there may be.
fn take(count: &AtomicUsize, max: usize) -> bool {
    let room = |before| (max == 0 || before < max).then_some(before + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
}

fn give(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections_max: usize, per_address_max: usize) -> AdmissionLimits {
        AdmissionLimits {
            connections_max,
            listeners: [0, 1]
                .map(|connections_max| ListenerLimit { connections_max, ..Default::default() })
                .into(),
            per_address_max,
            connecting_max: 3,
            connecting_per_address_max: 0,
        }
    }

    fn counts(admission: &Admission) -> [usize; 4] {
        [
            admission.connections.load(Ordering::Relaxed),
            admission.connecting.load(Ordering::Relaxed),
            admission.refused.load(Ordering::Relaxed),
            admission.addresses.lock().expect("not poisoned").len(),
        ]
    }

    #[test]
    fn everything_that_is_taken_is_given_back() {
        let admission = Admission::new(limits(2, 1));
        let mut first = admission.enter(0).expect("room");
        assert!(first.come_from(Some([1, 2, 3, 4].into())));
        first.connected();
        let mut second = admission.enter(0).expect("room");
        assert_eq!(second.refusal(), None);
        // The same address again: refused, and not counted as a connection any more.
        assert!(second.come_from(Some("::ffff:1.2.3.4".parse().expect("an address"))));
        assert_eq!(second.refusal(), Some(Reason::QuotaExceeded));
        assert_eq!(counts(&admission), [1, 1, 1, 1]);
        let third = admission.enter(1).expect("room");
        assert_eq!(third.refusal(), None);
        let fourth = admission.enter(0).expect("it is told why");
        assert_eq!(fourth.refusal(), Some(Reason::QuotaExceeded));
        // Three have sent no CONNECT.
        assert!(admission.enter(0).is_none());
        assert_eq!(counts(&admission), [2, 3, 2, 1]);
        drop((first, second, third, fourth));
        assert_eq!(counts(&admission), [0, 0, 0, 0]);
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own() {
        let admission = Admission::new(limits(0, 0));
        let one = admission.enter(1).expect("room");
        let two = admission.enter(1).expect("it is told why");
        assert_eq!((one.refusal(), two.refusal()), (None, Some(Reason::QuotaExceeded)));
        drop(one);
        assert_eq!(admission.enter(1).expect("room").refusal(), None);
        assert_eq!(counts(&admission), [0, 1, 1, 0]);
    }

    #[test]
    fn an_address_has_few_that_say_nothing() {
        let admission = Admission::new(AdmissionLimits {
            connecting_per_address_max: 2,
            ..AdmissionLimits::default()
        });
        let here = Some([1, 2, 3, 4].into());
        let mut all: Vec<Pass> = (0..3).filter_map(|_| admission.enter(0)).collect();
        let room: Vec<bool> = all.iter_mut().map(|pass| pass.come_from(here)).collect();
        assert_eq!(room, [true, true, false]);
        all.iter_mut().take(1).for_each(Pass::connected);
        let mut next = admission.enter(0).expect("room");
        assert!(next.come_from(here), "one has sent its CONNECT");
        drop((all, next));
        assert_eq!(counts(&admission), [0, 0, 0, 0]);
    }

    #[test]
    fn few_are_told_why() {
        let admission =
            Admission::new(AdmissionLimits { connections_max: 1, ..AdmissionLimits::default() });
        let _one = admission.enter(0).expect("room");
        let refused: Vec<Pass> = (0..REFUSED_MAX).filter_map(|_| admission.enter(0)).collect();
        assert_eq!(refused.len(), REFUSED_MAX);
        assert!(admission.enter(0).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(parse("2001:db8::1")), network(parse("2001:db8::ffff:1")));
        assert_ne!(network(parse("2001:db8::1")), network(parse("2001:db8:0:1::1")));
        assert_ne!(network(parse("10.0.0.1")), network(parse("10.0.0.2")));
    }
}
