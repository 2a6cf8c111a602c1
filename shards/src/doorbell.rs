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
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }
}
