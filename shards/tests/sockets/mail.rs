//! Mail arrives once and in order, also through full mailboxes.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use shards::ConnId;

use crate::common::{Act, Base, Seen, TestIo, read, settings, start, write};

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
            assert!(io.outbox_weight(0) >= usize::try_from(MAILS_PER_TURN).expect("small"));
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

/// "p": a letter to the other shard, and an answer. "s": stands still at the end of the turn, until
/// the test lets it go on.
struct Standing {
    stands: bool,
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Act for Standing {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        match bytes {
            b"p" => {
                io.post(1 - io.shard(), 7);
                base.write(conn, bytes);
            }
            b"s" => self.stands = true,
            _ => {}
        }
    }

    fn turn(&mut self, base: &mut Base, _: &mut TestIo) {
        if std::mem::take(&mut self.stands) {
            base.see(Seen::Note(0));
            self.gate.lock().expect("nobody panics").recv().expect("the test lets it go on");
        }
    }
}

/// A client that knows what another one was told is not handled before what was posted by then.
#[test]
fn mail_posted_before_an_answer_comes_before_what_follows_the_answer() {
    let (go_on, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let rig = start(settings(2), move |_| Standing { stands: false, gate: Arc::clone(&gate) });
    let mut clients = BTreeMap::new();
    while clients.len() < 2 {
        let client = rig.connect();
        let shard =
            rig.wait(|seen| if let Seen::Accepted(shard) = seen { Some(*shard) } else { None });
        clients.insert(shard, client);
    }
    let (mut here, mut there) = (clients.remove(&0).unwrap(), clients.remove(&1).unwrap());
    write(&mut there, b"s");
    rig.wait(|seen| (*seen == Seen::Note(0)).then_some(()));
    write(&mut here, b"p");
    assert_eq!(read(&mut here, 1), b"p");
    // Now the letter is posted, and the other shard does not know of either.
    write(&mut there, b"uu");
    go_on.send(()).expect("the shard waits");
    let first = rig.wait(|seen| match seen {
        Seen::Mail { .. } | Seen::Bytes(2) => Some(seen.clone()),
        Seen::Accepted(_)
        | Seen::Adopted(_)
        | Seen::Bytes(_)
        | Seen::Closed(..)
        | Seen::Control { .. }
        | Seen::Tick(_)
        | Seen::Note(_) => None,
    });
    assert_eq!(first, Seen::Mail { from: 0, mail: 7 });
}
