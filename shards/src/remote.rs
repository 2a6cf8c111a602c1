//! Messages to shards from threads that are not shards: answers of helpers, orders to reload.
//!
//! Promise: controls of one sender to one shard arrive in the order they were posted; posting never
//! blocks; a shard that sleeps is woken for them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::engine::Shared;

/// Posts controls to the shards of one engine, from any thread. Cheap to clone.
///
/// It is made before the engine, so that handlers and helpers can be given it; what is posted
/// before [`crate::start_with`] waits for the shards.
pub struct Remote<C>(Arc<Lines<C>>);

struct Lines<C> {
    lines: Vec<(Sender<C>, Receiver<C>)>,
    engine: OnceLock<Arc<Shared>>,
}

/// The shard does not take the control: that many wait already. Holds what was to be posted.
#[derive(Debug, PartialEq, Eq)]
pub struct LineFull<C>(pub C);

impl<C> Remote<C> {
    /// Lines to that many shards, each for at most `waiting_max` controls.
    pub fn new(shards: usize, waiting_max: usize) -> Remote<C> {
        let lines = (0..shards).map(|_| bounded(waiting_max.max(1))).collect();
        Remote(Arc::new(Lines { lines, engine: OnceLock::new() }))
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.0.lines.len()
    }

    /// Puts a control into the line of shard `to` and wakes it.
    /// [`crate::Handler::on_control`] gets it in one of its next turns; a shard that has ended
    /// gets nothing any more.
    ///
    /// # Errors
    /// [`LineFull`]; the caller decides what that means.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn post(&self, to: usize, control: C) -> Result<(), LineFull<C>> {
        let (line, _) = self.0.lines.get(to).expect("the caller names an existing shard");
        line.try_send(control).map_err(|refused| match refused {
            TrySendError::Full(control) | TrySendError::Disconnected(control) => LineFull(control),
        })?;
        // Without an engine yet: every shard looks into its line before its first sleep.
        if let Some(engine) = self.0.engine.get() {
            let place = engine.place(to);
            if place.doorbell.knock() {
                place.event.ring();
            }
        }
        Ok(())
    }

    /// Takes the next control out of a shard's line in place of the shard: for tests of senders.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn take(&self, shard: usize) -> Option<C> {
        self.line(shard).try_recv().ok()
    }

    /// From now on posting wakes the shards of this engine.
    pub(crate) fn connect(&self, engine: Arc<Shared>) {
        let _first_wins = self.0.engine.set(engine);
    }

    /// The receiving end of one shard.
    pub(crate) fn line(&self, shard: usize) -> Receiver<C> {
        let (_, line) = self.0.lines.get(shard).expect("one line for each shard");
        line.clone()
    }
}

impl<C> Clone for Remote<C> {
    fn clone(&self) -> Self {
        Remote(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Remote<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Remote").field("shards", &self.shards()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_gives_the_control_back() {
        let remote = Remote::new(2, 2);
        assert_eq!(remote.post(1, 'a'), Ok(()));
        assert_eq!(remote.post(1, 'b'), Ok(()));
        assert_eq!(remote.post(1, 'c'), Err(LineFull('c')));
        assert_eq!(remote.post(0, 'd'), Ok(()), "each shard has its own line");
        assert_eq!(remote.line(1).try_iter().collect::<String>(), "ab");
    }
}
