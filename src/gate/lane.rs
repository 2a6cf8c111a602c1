//! Threads that do one kind of check, with one bounded queue.

use super::{Answer, Backends};
use crate::auth::{Credentials, Outcome, Refusal};
use crossbeam_channel::{Receiver, Sender, bounded};
use shards::placement::enter_background;
use shards::{ConnId, Remote};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use tracing::{error, warn};

/// How much less than others the threads get of a core that they share.
const NICE: i32 = 10;

/// One login to check.
pub(super) struct Job {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
    pub(super) credentials: Box<Credentials>,
    pub(super) backends: Arc<Backends>,
}

/// The queue is full.
pub(super) struct Full;

/// See the module. The threads end when this is dropped and the queue is empty.
#[derive(Debug)]
pub(super) struct Lane(Sender<Job>);

impl Lane {
    pub(super) fn start<C>(
        name: &str,
        threads: usize,
        queue_max: usize,
        remote: &Remote<C>,
    ) -> io::Result<Lane>
    where
        C: From<Answer> + Send + 'static,
    {
        let (sender, jobs) = bounded(queue_max.max(1));
        for number in 0..threads {
            let (jobs, remote) = (jobs.clone(), remote.clone());
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&jobs, &remote))?;
        }
        Ok(Lane(sender))
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), Full> {
        self.0.try_send(job).map_err(|_| Full)
    }
}

fn work<C: From<Answer>>(jobs: &Receiver<Job>, remote: &Remote<C>) {
    // On Linux it is the thread's own.
    let nice = rustix::process::nice(NICE).unwrap_or(NICE);
    if let Err(error) = enter_background(nice) {
        warn!(%error, "checks of logins are not in the background: they delay messages more");
    }
    for Job { shard, conn, credentials, backends } in jobs {
        let suspect = credentials.suspect;
        if !credentials.is_wanted() {
            // Nobody is told, but the shard counts its answers.
            let outcome = Outcome::Refused(Refusal::Busy);
            post(remote, shard, Answer { conn, suspect, outcome });
            continue;
        }
        // A bug in one check must not take the thread from all later logins.
        let checked = catch_unwind(AssertUnwindSafe(|| backends.check(*credentials)));
        let outcome = checked.unwrap_or_else(|_| {
            error!("the check of a login panicked, the login is refused");
            Outcome::Refused(Refusal::Unavailable)
        });
        post(remote, shard, Answer { conn, suspect, outcome });
    }
}

fn post<C: From<Answer>>(remote: &Remote<C>, shard: usize, answer: Answer) {
    if remote.post(shard, C::from(answer)).is_err() {
        error!(shard, "the answer to a login is lost: the shard takes none");
    }
}
