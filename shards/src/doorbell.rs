//! The one wake-up protocol: how mail finds a shard that sleeps.
//!
//! Promise: if mail was pushed and the receiver sleeps, then somebody has been told to ring.
//!
//! ```text
//!   receiver                          sender
//!   parked = true                     push mail
//!   fence                             fence
//!   look into the mailbox ──empty──▶  parked? ──yes──▶ parked = false, ring
//!     └─mail: parked = false            └─no: the receiver will look
//!   sleep
//! ```
//!
//! The two fences are the point: of "the receiver sees the mail" and "the sender sees parked" at
//! least one holds. Not here: what carries the ring (an operation on the sender's `io_uring`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One shard's doorbell.
#[derive(Debug)]
pub(crate) struct Doorbell {
    parked: AtomicBool,
}

impl Doorbell {
    pub(crate) fn new() -> Doorbell {
        Doorbell { parked: AtomicBool::new(false) }
    }

    /// The receiver wants to sleep. `false`: there is mail, or somebody rang; do not sleep.
    pub(crate) fn park(&self, mail_waiting: impl FnOnce() -> bool) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if mail_waiting() {
            self.unpark();
            return false;
        }
        true
    }

    /// The receiver is awake and will look into its mailbox before it sleeps.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// The sender has pushed mail. `true`: the receiver sleeps and the caller has to ring.
    #[must_use]
    pub(crate) fn knock(&self) -> bool {
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel)
    }

    /// Whether the receiver sleeps and nobody has been told to ring. For the watchdog only.
    #[cfg(not(loom))]
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p shards --lib doorbell`
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// One receiver that wants to sleep against some senders. In every order the machine allows:
    /// who sleeps over mail has been rung for.
    fn nobody_sleeps_over_mail(senders: usize) {
        let mut model = loom::model::Builder::new();
        // Two senders in every possible order take minutes; bugs of this kind need two switches.
        model.preemption_bound = (senders > 1).then_some(2);
        model.check(move || {
            let bell = Arc::new(Doorbell::new());
            let mail = Arc::new(AtomicUsize::new(0));
            let work: Vec<_> = (0..senders)
                .map(|_| {
                    let (bell, mail) = (Arc::clone(&bell), Arc::clone(&mail));
                    thread::spawn(move || {
                        mail.fetch_add(1, Ordering::Relaxed);
                        bell.knock()
                    })
                })
                .collect();
            let sleeps = bell.park(|| mail.load(Ordering::Relaxed) > 0);
            let rings = work.into_iter().map(thread::JoinHandle::join);
            let rings = rings.filter(|rung| matches!(rung, Ok(true))).count();
            if sleeps {
                assert!(rings == 1, "asleep with mail and {rings} rings");
            } else {
                assert!(rings <= 1);
            }
        });
    }

    #[test]
    fn one_sender() {
        nobody_sleeps_over_mail(1);
    }

    #[test]
    fn two_senders() {
        nobody_sleeps_over_mail(2);
    }

    /// Mail that comes after the receiver woke and looked is found at the next park.
    #[test]
    fn the_second_sleep_is_as_safe_as_the_first() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            let mail = Arc::new(AtomicUsize::new(0));
            let sender = {
                let (bell, mail) = (Arc::clone(&bell), Arc::clone(&mail));
                thread::spawn(move || {
                    mail.fetch_add(1, Ordering::Relaxed);
                    bell.knock()
                })
            };
            let taken = mail.load(Ordering::Relaxed);
            bell.park(|| mail.load(Ordering::Relaxed) > taken);
            bell.unpark();
            let taken = mail.load(Ordering::Relaxed);
            let sleeps = bell.park(|| mail.load(Ordering::Relaxed) > taken);
            let rung = sender.join().expect("the sender does not panic");
            // Rung for the first sleep is enough only if the mail was taken after it.
            assert!(!sleeps || rung || taken == 1);
        });
    }
}
