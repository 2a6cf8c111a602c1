//! Which shard a client or a retained topic belongs to.

use siphasher::sip::SipHasher24;

/// Slots between hash and shard: a changed number of shards moves slots, not single clients.
const SLOTS: usize = 1024;

/// Maps names to shards. The key is secret, so nobody can aim at one core.
#[derive(Debug)]
pub struct Home {
    hasher: SipHasher24,
    slots: Box<[u16; SLOTS]>,
}

impl Home {
    /// Spreads the slots evenly over the shards.
    pub fn new(key: (u64, u64), shards: usize) -> Self {
        let shards = u16::try_from(shards.max(1)).unwrap_or(u16::MAX);
        let mut slots = Box::new([0_u16; SLOTS]);
        for (slot, shard) in slots.iter_mut().zip((0..shards).cycle()) {
            *slot = shard;
        }
        Home { hasher: SipHasher24::new_with_keys(key.0, key.1), slots }
    }

    /// The shard of a client identifier or topic name. O(bytes).
    pub fn of(&self, name: &str) -> usize {
        let slot = usize::try_from(self.hasher.hash(name.as_bytes()) % SLOTS as u64).unwrap_or(0);
        self.slots.get(slot).map_or(0, |shard| usize::from(*shard))
    }
}

/// Gives out client identifiers that nobody can guess and that live on a given shard.
#[derive(Debug)]
pub(super) struct ClientIds {
    hasher: SipHasher24,
    count: u64,
}

impl ClientIds {
    /// `seed` is secret and differs from start to start; the shard keeps the sequences apart.
    pub(super) fn new(seed: u64, shard: usize) -> Self {
        ClientIds { hasher: SipHasher24::new_with_keys(seed, shard as u64), count: 0 }
    }

    /// The next identifier with this beginning whose home is `shard`. [MQTT-3.1.3-6]
    pub(super) fn next(&mut self, prefix: &str, home: &Home, shard: usize) -> String {
        loop {
            self.count += 1;
            let high = self.hasher.hash(&(self.count * 2).to_le_bytes());
            let low = self.hasher.hash(&(self.count * 2 + 1).to_le_bytes());
            let id = format!("{prefix}{high:016x}{low:016x}");
            if home.of(&id) == shard {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_even_and_stable() {
        let home = Home::new((1, 2), 4);
        let mut counts = [0_u32; 4];
        for n in 0..4000 {
            counts[home.of(&format!("client-{n}"))] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(home.of("client-1"), Home::new((1, 2), 4).of("client-1"));
    }

    #[test]
    fn assigned_ids_live_on_their_shard() {
        let home = Home::new((1, 2), 4);
        let mut ids = ClientIds::new(7, 3);
        let first = ids.next("auto-", &home, 3);
        assert_eq!(home.of(&first), 3);
        assert_ne!(first, ids.next("auto-", &home, 3));
    }
}
