//! Listeners by number, from the start of the broker to its end.
//!
//! Promise: a listener that stays keeps its number, and no number is used twice, so what a
//! connection was told of its listener holds as long as the connection. A listener that goes leaves
//! its number behind, with what was said of it last.

use super::{BrokerError, listeners};
use crate::config::{Config, Listener};
use crate::edge::{Change, ListenerCount};
use crate::gate;
use shards::{Address, ListenerSettings};
use std::sync::Arc;

/// Most numbers; a connection knows its own by 16 bits.
const NUMBERS_MAX: usize = u16::MAX as usize;

/// One number.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// What the settings say, or said last.
    pub(super) listener: Listener,
    /// It listens.
    pub(super) is_open: bool,
    /// The number of the listener in whose place this one came, at another socket.
    pub(super) replaces: Option<usize>,
    /// Its connections.
    pub(super) count: ListenerCount,
    /// Where it listens, with its real port.
    address: Address,
}

impl Slot {
    fn new(listener: &Listener, replaces: Option<(usize, &Slot)>) -> Self {
        Self {
            listener: listener.clone(),
            is_open: true,
            replaces: replaces.map(|(number, _)| number),
            count: replaces.map(|(_, slot)| slot.count.clone()).unwrap_or_default(),
            address: listeners::engine(listener).address,
        }
    }

    /// Whose users log in there, by the file that they are in; `None` = those of the broker.
    pub(super) fn users(&self) -> Option<Arc<str>> {
        self.listener.password_file.as_deref().map(gate::users_of)
    }
}

/// The listeners of the settings at the start.
pub(super) fn first(config: &Config) -> Vec<Slot> {
    config.listeners.iter().map(|listener| Slot::new(listener, None)).collect()
}

/// The engine has bound them there.
pub(super) fn bound(slots: &mut [Slot], addresses: &[Address]) {
    for (slot, address) in slots.iter_mut().zip(addresses) {
        slot.address = address.clone();
    }
}

/// What new settings make of the listeners.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: Vec<Slot>,
    opened: Vec<usize>,
    tuned: Vec<usize>,
    closed: Vec<usize>,
}

impl Plan {
    /// Finds out which listeners stay. Changes nothing.
    ///
    /// # Errors
    /// There were too many since the start.
    pub(super) fn new(slots: &[Slot], config: &Config) -> Result<Self, BrokerError> {
        let old: Vec<_> = slots.iter().map(|slot| listeners::engine(&slot.listener)).collect();
        let open: Vec<_> = all_open(slots).collect();
        let new: Vec<_> = config.listeners.iter().map(listeners::engine).collect();
        let mut plan =
            Plan { slots: slots.to_vec(), opened: vec![], tuned: vec![], closed: vec![] };
        let mut stay = Vec::new();
        for (listener, engine) in config.listeners.iter().zip(&new) {
            let same = |number: &usize| {
                let before = old.get(*number);
                before.is_some_and(|old| shards::is_same_socket((old, &open), (engine, &new)))
            };
            let is_free = |number: &usize| {
                !stay.contains(number) && slots.get(*number).is_some_and(|slot| slot.is_open)
            };
            if let Some(number) = (0..slots.len()).filter(is_free).find(same) {
                stay.push(number);
                if let Some(slot) = plan.slots.get_mut(number) {
                    slot.listener = listener.clone();
                    slot.replaces = None;
                }
                if old.get(number) != Some(engine) {
                    plan.tuned.push(number);
                }
                continue;
            }
            let address = |number: &usize| {
                slots.get(*number).is_some_and(|slot| slot.listener.address == listener.address)
            };
            let former = (0..slots.len()).filter(is_free).find(address);
            let former = former.and_then(|number| Some((number, slots.get(number)?)));
            plan.opened.push(plan.slots.len());
            plan.slots.push(Slot::new(listener, former));
        }
        if plan.slots.len() > NUMBERS_MAX {
            return Err(BrokerError::TooManyListeners);
        }
        for (number, slot) in plan.slots.iter_mut().enumerate() {
            if slot.is_open && !stay.contains(&number) && !plan.opened.contains(&number) {
                slot.is_open = false;
                plan.closed.push(number);
            }
        }
        Ok(plan)
    }

    /// Opens the sockets of the new ones. Gives each shard's share of the changes.
    ///
    /// # Errors
    /// [`BrokerError::Start`]: an address cannot be listened on; nothing has changed then.
    pub(super) fn open(&mut self, shards: usize) -> Result<Vec<Vec<Change>>, BrokerError> {
        let mut orders: Vec<Vec<Change>> = (0..shards).map(|_| Vec::new()).collect();
        let all: Vec<_> = all_open(&self.slots).collect();
        // Those that are about to close still hold their ports.
        let held = |(number, slot): (usize, &Slot)| {
            let is_held = slot.is_open && !self.opened.contains(&number);
            (is_held || self.closed.contains(&number)).then(|| slot.address.clone())
        };
        let mut open: Vec<_> = self.slots.iter().enumerate().filter_map(held).collect();
        for &number in &self.opened {
            let Some(slot) = self.slots.get_mut(number) else { continue };
            let settings = listeners::engine(&slot.listener);
            let (address, sockets) = shards::listen(&settings, &all, &open, shards)?;
            open.push(address.clone());
            slot.address = address;
            for (order, socket) in orders.iter_mut().zip(sockets) {
                order.push(Change::Open(number, socket));
            }
        }
        for order in &mut orders {
            for &number in &self.tuned {
                let Some(slot) = self.slots.get(number) else { continue };
                order.push(Change::Tune(number, listeners::engine(&slot.listener)));
            }
            order.extend(self.closed.iter().map(|number| Change::Close(*number)));
        }
        Ok(orders)
    }

    /// Where the broker listens from now on.
    pub(super) fn opened(&self) -> Vec<Address> {
        self.addresses(&self.opened)
    }

    /// Where it does no more.
    pub(super) fn closed(&self) -> Vec<Address> {
        self.addresses(&self.closed)
    }

    fn addresses(&self, numbers: &[usize]) -> Vec<Address> {
        let address = |number: &usize| self.slots.get(*number).map(|slot| slot.address.clone());
        numbers.iter().filter_map(address).collect()
    }
}

/// The listeners of these that listen, for the engine.
fn all_open(slots: &[Slot]) -> impl Iterator<Item = ListenerSettings> {
    slots.iter().filter(|slot| slot.is_open).map(|slot| listeners::engine(&slot.listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, std::path::Path::new("culex.toml")).expect("valid settings")
    }

    fn listening(addresses: &[&str]) -> Config {
        let one = |address: &&str| {
            format!("[[listener]]\naddress = '{address}'\nallow_anonymous = true\n")
        };
        config(&addresses.iter().map(one).collect::<String>())
    }

    const NOTHING: [Vec<usize>; 3] = [const { Vec::new() }; 3];

    fn plan(old: &[&str], new: &[&str]) -> [Vec<usize>; 3] {
        let plan = Plan::new(&first(&listening(old)), &listening(new)).expect("few");
        [plan.opened, plan.tuned, plan.closed]
    }

    #[test]
    fn who_stays_keeps_its_number() {
        let two = ["127.0.0.1:1", "127.0.0.1:2"];
        assert_eq!(plan(&two, &two), NOTHING);
        assert_eq!(plan(&two, &["127.0.0.1:2", "127.0.0.1:1"]), NOTHING);
        assert_eq!(plan(&two, &["127.0.0.1:2", "127.0.0.1:3"]), [vec![2], vec![], vec![0]]);
        // Any free port stays any free port.
        assert_eq!(plan(&["127.0.0.1:0"; 2], &["127.0.0.1:0"; 3]), [vec![2], vec![], vec![]]);
        // Without 0.0.0.0 beside it [::] is for both families, which takes another socket.
        assert_eq!(plan(&["0.0.0.0:1", "[::]:1"], &["[::]:1"]), [vec![2], vec![], vec![0, 1]]);
    }

    #[test]
    fn no_number_is_used_twice() {
        let mut slots = first(&listening(&["127.0.0.1:1", "127.0.0.1:2"]));
        for (addresses, open) in [
            (&["127.0.0.1:1"][..], [true, false].as_slice()),
            (&["127.0.0.1:1", "127.0.0.1:2"], &[true, false, true]),
            (&["127.0.0.1:2"], &[false, false, true]),
        ] {
            slots = Plan::new(&slots, &listening(addresses)).expect("few").slots;
            let found: Vec<_> = slots.iter().map(|slot| slot.is_open).collect();
            assert_eq!(found, open, "{addresses:?}");
        }
    }

    #[test]
    fn options_change_with_the_socket_or_without() {
        let slots = first(&config("[[listener]]\naddress = '127.0.0.1:1'\n"));
        let after = |line: &str| {
            let text = format!("[[listener]]\naddress = '127.0.0.1:1'\n{line}\n");
            Plan::new(&slots, &config(&text)).expect("few")
        };
        let plan = after("backlog = 7");
        assert_eq!((plan.opened, plan.tuned, plan.closed), (vec![], vec![0], vec![]));
        let plan = after("bind_interface = 'lo'");
        assert_eq!((plan.opened, plan.tuned, plan.closed), (vec![1], vec![], vec![0]));
        let replaces = plan.slots.get(1).and_then(|slot| slot.replaces);
        assert_eq!(replaces, Some(0), "its count of connections goes on");
    }
}
