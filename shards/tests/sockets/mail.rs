//! Mail arrives once and in order, also through full mailboxes.

use crate::common::{Act, Base, Seen, TestIo, settings, start};

const MAILS: u64 = 60_000;
const MAILS_PER_TURN: u64 = 3_000;

/// Posts numbers to every shard, itself included; goes on when nothing is blocked.
struct Post {
    next: u64,
    blocked: u64,
}

impl Act for Post {
    fn start(&mut self, base: &mut Base, io: &mut TestIo) {
        base.deadline = Some(io.now());
    }

    fn tick(&mut self, base: &mut Base, io: &mut TestIo) {
        if io.outboxes_clear() {
            for _ in 0..MAILS_PER_TURN {
                for to in 0..io.shards() {
                    io.post(to, self.next);
                }
                self.next += 1;
            }
            assert!(io.outbox_len(0) >= usize::try_from(MAILS_PER_TURN).expect("small"));
        } else {
            self.blocked += 1;
        }
        if self.next < MAILS {
            base.deadline = Some(io.now());
        } else {
            base.see(Seen::Note(self.blocked.min(io.stats().mailboxes_full)));
        }
    }
}

fn arrives(shards: usize, mailbox_batches: usize) -> u64 {
    let mut settings = settings(shards);
    settings.mailbox_batches = mailbox_batches;
    let rig = start(settings, |_| Post { next: 0, blocked: 0 });
    let mut expected = vec![0; shards];
    let mut blocked = 0;
    let all = MAILS * u64::try_from(shards * shards).expect("small");
    let mut count = 0;
    while count < all {
        rig.wait(|seen| match *seen {
            Seen::Mail { from, mail } => {
                // Two receivers report into one channel; each sees the numbers in order.
                if shards == 1 {
                    assert_eq!(mail, expected[from]);
                }
                expected[from] += 1;
                count += 1;
                Some(())
            }
            Seen::Note(turns) => {
                blocked += turns;
                Some(())
            }
            Seen::Accepted(_)
            | Seen::Adopted(_)
            | Seen::Bytes(_)
            | Seen::Closed(..)
            | Seen::Control { .. }
            | Seen::Tick(_) => None,
        });
    }
    assert!(expected.iter().all(|&count| count == MAILS * shards as u64));
    blocked
}

#[test]
fn mail_to_itself_is_in_order() {
    arrives(1, 32);
}

#[test]
fn a_full_mailbox_holds_back_and_loses_nothing() {
    assert!(arrives(2, 1) > 0, "the mailbox of one batch was never full");
}

/// Shard 0 sends numbers to shard 1, which checks their order itself.
struct Ordered {
    next: u64,
}

impl Act for Ordered {
    fn start(&mut self, base: &mut Base, io: &mut TestIo) {
        base.deadline = (io.shard() == 0).then(|| io.now());
    }

    fn tick(&mut self, base: &mut Base, io: &mut TestIo) {
        for _ in 0..700 {
            io.post(1, self.next);
            self.next += 1;
        }
        base.deadline = (self.next < MAILS).then(|| io.now());
    }

    fn mail(&mut self, base: &mut Base, io: &mut TestIo, from: usize, mail: u64) {
        assert_eq!((io.shard(), from, mail), (1, 0, self.next), "in order");
        self.next += 1;
        if self.next == MAILS {
            base.see(Seen::Note(mail));
        }
    }
}

#[test]
fn a_pair_of_shards_keeps_the_order() {
    let mut settings = settings(2);
    settings.mailbox_batches = 2;
    let rig = start(settings, |_| Ordered { next: 0 });
    rig.wait(|seen| matches!(seen, Seen::Note(_)).then_some(()));
}

/// A ball between two shards that otherwise sleep: every pass needs the doorbell.
struct PingPong;

impl Act for PingPong {
    fn start(&mut self, _: &mut Base, io: &mut TestIo) {
        if io.shard() == 0 {
            io.post(1, 0);
        }
    }

    fn mail(&mut self, base: &mut Base, io: &mut TestIo, from: usize, mail: u64) {
        if mail == 20_000 {
            base.see(Seen::Note(mail));
        } else {
            io.post(from, mail + 1);
        }
    }
}

#[test]
fn the_doorbell_wakes_sleepers() {
    let rig = start(settings(2), |_| PingPong);
    rig.wait(|seen| matches!(seen, Seen::Note(_)).then_some(()));
    let watchdog = rig.running.as_ref().expect("running").watchdog();
    // On a busy machine a shard may be told and not yet running when the watchdog looks.
    assert!(watchdog.wakes < 20, "20,000 passes by doorbell, {watchdog:?}");
}
