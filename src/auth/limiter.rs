//! Failed logins: how many an address, a user, and a user at an address may have.
//!
//! Promise: nobody can lock a user out from other addresses; memory is bounded; what is over the
//! limit costs no hash. Time is an argument.
//!
//! A failure fills three buckets, which leak:
//!
//! | bucket | full after | then |
//! |---|---|---|
//! | user at an address | `failures_max` | refused: one wrong device, or one guessing |
//! | address (IPv6: its /64) | 10 × `failures_max` | refused: one guessing many users |
//! | user | 10 × `failures_max` | delayed, up to [`DELAY_MS_MAX`]: many addresses guess one user |
//!
//! So a device with a wrong password does not keep its neighbours behind the same address out.

use super::bucket::Buckets;
use crate::access::Network;
use ahash::RandomState;
use shards::Millis;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest wait of a login for a user that many addresses guess at.
pub const DELAY_MS_MAX: u64 = 5_000;
/// The wait grows by this with each failure beyond the limit.
const DELAY_STEP_MS: u64 = 250;
/// Failures of an address or of a user, for one of a user at an address.
const WIDE: u32 = 10;
/// Buckets in memory; beyond, those that were not used for longest are forgotten.
const BUCKETS_MAX: usize = 65_536;

/// How fast logins may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures of one user at one address in a row; 0 = no limit at all.
    pub failures_max: u32,
    /// One failure is forgotten after so many milliseconds, at least 1.
    pub forget_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { failures_max: 10, forget_ms: 6_000 }
    }
}

/// The three buckets of one login. Kept with the login, so that a failure counts even when the
/// connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pair: u64,
    address: Option<u64>,
    user: u64,
    /// Its failures are not counted.
    exempt: bool,
}

/// What may happen with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Check it now.
    Now,
    /// Check it after so many milliseconds.
    After(u64),
    /// Refuse it without a look at the password.
    Never,
}

/// Failures of logins at one shard.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    exempt: Arc<[Network]>,
    hasher: RandomState,
    buckets: Buckets,
}

impl Limiter {
    /// Nobody has failed. `key` is secret, so that nobody can aim at another's bucket.
    pub fn new(limits: Limits, key: (u64, u64)) -> Limiter {
        let hasher = RandomState::with_seeds(key.0, key.1, key.1.rotate_left(32), !key.0);
        let buckets = Buckets::new(BUCKETS_MAX);
        Limiter { limits, exempt: Arc::default(), hasher, buckets }
    }

    /// Other limits from now on, that do not hold for `exempt`; failures are remembered.
    pub fn set_limits(&mut self, limits: Limits, exempt: Arc<[Network]>) {
        self.limits = limits;
        self.exempt = exempt;
    }

    /// The buckets of a login. Without an address (a local socket) only the user counts.
    pub fn suspect(&self, address: Option<IpAddr>, user: Option<&str>) -> Suspect {
        let network = address.map(network);
        Suspect {
            pair: self.hasher.hash_one((1, network, user)),
            address: network.map(|network| self.hasher.hash_one((2, network))),
            user: self.hasher.hash_one((3, user)),
            exempt: address.is_some_and(|address| self.is_exempt(address)),
        }
    }

    /// May this login be checked. O(1).
    pub fn permit(&self, suspect: Suspect, now: Millis) -> Permit {
        let Limits { failures_max, forget_ms } = self.limits;
        if failures_max == 0 || suspect.exempt {
            return Permit::Now;
        }
        let narrow_ms = u64::from(failures_max) * forget_ms;
        let wide_ms = narrow_ms * u64::from(WIDE);
        let level = |key| self.buckets.level_ms(key, now);
        let address = suspect.address.map_or(0, level);
        // A bucket is full when one more failure would not fit.
        if level(suspect.pair) + forget_ms > narrow_ms || address + forget_ms > wide_ms {
            return Permit::Never;
        }
        let excess_ms = (level(suspect.user) + forget_ms).saturating_sub(wide_ms);
        match excess_ms.div_ceil(forget_ms) {
            0 => Permit::Now,
            failures => Permit::After((failures * DELAY_STEP_MS).min(DELAY_MS_MAX)),
        }
    }

    /// A login has failed. O(1).
    pub fn failed(&mut self, suspect: Suspect, now: Millis) {
        if suspect.exempt {
            return;
        }
        let forget_ms = self.limits.forget_ms;
        let wide_ms = u64::from(self.limits.failures_max) * forget_ms * u64::from(WIDE);
        // What is in the bucket beyond the longest delay would only be remembered longer.
        let level_ms_max = wide_ms + DELAY_MS_MAX / DELAY_STEP_MS * forget_ms;
        for key in [Some(suspect.pair), suspect.address, Some(suspect.user)].into_iter().flatten() {
            let level_ms = self.buckets.level_ms(key, now) + forget_ms;
            self.buckets.set(key, level_ms.min(level_ms_max), now);
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }
}

/// What belongs to one customer: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64 | 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(Limits { failures_max: 3, forget_ms: 1000 }, (1, 2))
    }

    fn suspect(limiter: &Limiter, address: &str, user: &str) -> Suspect {
        limiter.suspect(Some(address.parse().expect("an address")), Some(user))
    }

    #[test]
    fn the_fourth_of_three_failures_is_refused_until_one_is_forgotten() {
        let mut limiter = limiter();
        let eve = suspect(&limiter, "10.0.0.1", "ada");
        for _ in 0..3 {
            assert_eq!(limiter.permit(eve, Millis(500)), Permit::Now);
            limiter.failed(eve, Millis(500));
        }
        assert_eq!(limiter.permit(eve, Millis(500)), Permit::Never);
        assert_eq!(limiter.permit(eve, Millis(1499)), Permit::Never);
        assert_eq!(limiter.permit(eve, Millis(1500)), Permit::Now);
        let others = [("10.0.0.2", "ada"), ("10.0.0.1", "bob")];
        for (address, user) in others {
            let other = suspect(&limiter, address, user);
            assert_eq!(limiter.permit(other, Millis(500)), Permit::Now, "{user} at {address}");
        }
    }

    #[test]
    fn an_address_that_guesses_many_users_is_refused() {
        let mut limiter = limiter();
        for user in 0..30 {
            let user = user.to_string();
            let eve = suspect(&limiter, "2001:db8::1", &user);
            assert_eq!(limiter.permit(eve, Millis(0)), Permit::Now);
            limiter.failed(eve, Millis(0));
        }
        let same = suspect(&limiter, "2001:db8::ffff", "ada");
        assert_eq!(limiter.permit(same, Millis(0)), Permit::Never, "the same /64");
        let next = suspect(&limiter, "2001:db8:0:1::1", "ada");
        assert_eq!(limiter.permit(next, Millis(0)), Permit::Now, "another /64");
    }

    #[test]
    fn a_user_whom_many_guess_at_is_delayed_and_never_locked_out() {
        let mut limiter = limiter();
        for host in 0..200 {
            let eve = suspect(&limiter, &format!("10.0.0.{host}"), "ada");
            assert_ne!(limiter.permit(eve, Millis(0)), Permit::Never);
            limiter.failed(eve, Millis(0));
        }
        let ada = suspect(&limiter, "192.0.2.1", "ada");
        assert_eq!(limiter.permit(ada, Millis(0)), Permit::After(DELAY_MS_MAX));
        assert_eq!(limiter.permit(ada, Millis(50_000)), Permit::Now);
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut limiter = limiter();
        let eve = limiter.suspect(None, Some("eve"));
        for user in 0..BUCKETS_MAX {
            let user = user.to_string();
            limiter.failed(limiter.suspect(None, Some(&user)), Millis(0));
            if user.ends_with("000") {
                limiter.failed(eve, Millis(0));
            }
            assert!(limiter.buckets.len() <= BUCKETS_MAX);
        }
        assert_eq!(limiter.permit(eve, Millis(0)), Permit::Never);
    }

    #[test]
    fn who_is_exempt_fails_as_often_as_it_likes() {
        let mut limiter = limiter();
        let own: Network = "10.1.0.0/16".parse().expect("a network");
        limiter.set_limits(limiter.limits, [own].into());
        let (inside, outside) =
            (suspect(&limiter, "10.1.2.3", "ada"), suspect(&limiter, "10.2.2.3", "ada"));
        (0..100).for_each(|_| limiter.failed(inside, Millis(0)));
        assert_eq!(limiter.permit(inside, Millis(0)), Permit::Now);
        assert_eq!(limiter.permit(outside, Millis(0)), Permit::Now, "nor does the user wait");
        (0..3).for_each(|_| limiter.failed(outside, Millis(0)));
        assert_eq!(limiter.permit(outside, Millis(0)), Permit::Never);
    }

    #[test]
    fn no_limit_lets_everything_pass() {
        let mut limiter = Limiter::new(Limits { failures_max: 0, forget_ms: 1000 }, (1, 2));
        let eve = suspect(&limiter, "10.0.0.1", "ada");
        (0..100).for_each(|_| limiter.failed(eve, Millis(0)));
        assert_eq!(limiter.permit(eve, Millis(0)), Permit::Now);
    }
}
