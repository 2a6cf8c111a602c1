//! Mailboxes and doorbells under real threads: every letter arrives, in order, and nobody sleeps
//! over mail.
//!
//! Threads and their park tokens stand for shards and their rings: a token given to a thread that
//! is awake ends its next sleep, as an event on a ring does.
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure like any other")]

use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::doorbell::Doorbell;
use crate::mesh::{Letter, Mesh, build};

const SHARDS: usize = 3;
/// To each shard from each other.
const LETTERS: u32 = 200_000;
/// Small, so that mailboxes are full all the time.
const BATCHES_MAX: usize = 2;
/// Who sleeps that long with mail was forgotten. Far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What other shards see of a shard.
struct Place {
    bell: Doorbell,
    thread: OnceLock<Thread>,
}

struct Shard {
    index: usize,
    mesh: Mesh<u32, ()>,
    places: Arc<Vec<Place>>,
    /// Letters to each shard, and from each.
    posted: [u32; SHARDS],
    taken: [u32; SHARDS],
    sleeps: u64,
}

impl Shard {
    /// Takes, posts and sleeps until all letters of both directions have passed.
    fn run(mut self) -> u64 {
        let places = Arc::clone(&self.places);
        let place = &places[self.index];
        let mut burst = 1;
        loop {
            self.take();
            // Single letters, whole batches, and more than a mailbox holds.
            burst = burst * 31 % 701;
            let posting = self.post(burst);
            self.flush(&places);
            if self.is_done() {
                return self.sleeps;
            }
            let busy = posting && !self.mesh.is_blocked();
            if busy || !place.bell.park(|| self.mesh.has_mail()) {
                continue;
            }
            self.sleeps += 1;
            if self.mesh.is_blocked() {
                // As the engine does: a full mailbox is tried again after a moment.
                thread::park_timeout(Duration::from_millis(1));
            } else {
                thread::park_timeout(PATIENCE);
                // Whoever rang has ended the parking. Without that, mail here was forgotten.
                let forgotten = place.bell.is_parked() && self.mesh.has_mail();
                assert!(!forgotten, "shard {} slept over mail", self.index);
            }
            place.bell.unpark();
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.index;
        (0..SHARDS).filter(move |shard| *shard != own)
    }

    fn take(&mut self) {
        for from in self.others() {
            while let Some(mut batch) = self.mesh.take(from) {
                for letter in batch.letters.drain(..) {
                    let Letter::Mail(number) = letter else { panic!("no sockets here") };
                    assert_eq!(number, self.taken[from], "{from} to {}", self.index);
                    self.taken[from] += 1;
                }
                self.mesh.recycle(from, batch);
            }
        }
    }

    /// False if there is nothing more to post.
    fn post(&mut self, burst: u32) -> bool {
        for to in self.others() {
            let end = LETTERS.min(self.posted[to] + burst);
            // What waits already is bounded by the burst and a mailbox.
            if self.mesh.outbox_weight(to) < 1000 {
                (self.posted[to]..end).for_each(|mail| self.mesh.post(to, Letter::Mail(mail), 1));
                self.posted[to] = end;
            }
        }
        self.others().any(|to| self.posted[to] < LETTERS)
    }

    fn flush(&mut self, places: &[Place]) {
        self.mesh.start_flush();
        for to in self.others() {
            if self.mesh.flush(to).sent && places[to].bell.knock() {
                places[to].thread.get().expect("who parks has registered").unpark();
            }
        }
    }

    fn is_done(&self) -> bool {
        self.mesh.waiting() == 0
            && self
                .others()
                .all(|other| (self.posted[other], self.taken[other]) == (LETTERS, LETTERS))
    }
}

#[test]
fn no_wake_up_is_lost_over_a_million_letters() {
    let place = || Place { bell: Doorbell::new(), thread: OnceLock::new() };
    let places: Arc<Vec<Place>> = Arc::new((0..SHARDS).map(|_| place()).collect());
    let threads: Vec<_> = build(SHARDS, BATCHES_MAX)
        .into_iter()
        .enumerate()
        .map(|(index, mesh)| {
            let places = Arc::clone(&places);
            let (posted, taken) = ([0; SHARDS], [0; SHARDS]);
            let shard = Shard { index, mesh, places, posted, taken, sleeps: 0 };
            thread::spawn(move || {
                let place = &shard.places[index];
                place.thread.set(thread::current()).expect("each shard has one thread");
                shard.run()
            })
        })
        .collect();
    let sleeps: Vec<u64> =
        threads.into_iter().map(|thread| thread.join().expect("no shard panics")).collect();
    // Without sleep nothing would have been tried.
    assert!(sleeps.iter().all(|sleeps| *sleeps > 0), "{sleeps:?}");
}
