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

/// `make loom`
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
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

    /// The whole protocol: a receiver that takes, parks, sleeps until it is rung, and starts again.
    /// A lost wake-up is a sleep without end, which loom reports as a deadlock.
    fn every_letter_is_taken(senders: usize, letters: usize, preemptions: Option<usize>) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemptions;
        model.check(move || {
            let bell = Arc::new(Doorbell::new());
            let mail = Arc::new(AtomicUsize::new(0));
            let ring = Arc::new(Ring::default());
            let work: Vec<_> = (0..senders)
                .map(|_| {
                    let (bell, mail, ring) =
                        (Arc::clone(&bell), Arc::clone(&mail), Arc::clone(&ring));
                    thread::spawn(move || {
                        for _ in 0..letters {
                            mail.fetch_add(1, Ordering::Relaxed);
                            if bell.knock() {
                                ring.sound();
                            }
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            loop {
                taken += mail.swap(0, Ordering::Relaxed);
                if taken == senders * letters {
                    break;
                }
                if bell.park(|| mail.load(Ordering::Relaxed) > 0) {
                    ring.wait();
                }
                bell.unpark();
            }
            for thread in work {
                thread.join().expect("a sender does not panic");
            }
        });
    }

    /// Sticky, like an event on a ring: what sounds while nobody waits ends the next wait.
    #[derive(Default)]
    struct Ring {
        sounded: Mutex<bool>,
        changed: Condvar,
    }

    impl Ring {
        fn sound(&self) {
            *self.sounded.lock().expect("no thread panics") = true;
            self.changed.notify_one();
        }

        fn wait(&self) {
            let mut sounded = self.sounded.lock().expect("no thread panics");
            while !*sounded {
                sounded = self.changed.wait(sounded).expect("no thread panics");
            }
            *sounded = false;
        }
    }

    #[test]
    fn one_sender_with_two_letters_wakes_a_looping_receiver() {
        every_letter_is_taken(1, 2, Some(3));
    }

    #[test]
    fn two_senders_wake_a_looping_receiver() {
        every_letter_is_taken(2, 1, Some(2));
    }
}
