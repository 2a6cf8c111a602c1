//! The thread that writes the log, and what it is told.
//!
//! Promise: who logs never waits for a disk or a terminal, except for an error: that line is out
//! when the call returns, because what follows an error may be the end. What finds the queue full
//! is counted, and the next line says how much was lost.

use super::entry::{Entry, Value};
use super::sink::Sink;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;
use tracing::Level;
use tracing::callsite::Identifier;

/// Lines that wait to be written.
const QUEUE_MAX: usize = 8192;
/// Lines written with one call.
const BATCH_MAX: usize = 256;
/// Lines of one place in the program, from level info on, that are written in one window.
const REPEATS_MAX: u64 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// Places that are remembered; with more, the windows begin anew.
const PLACES_MAX: usize = 4096;
/// How long an error, or the end of the process, waits for the writer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the writer is told.
#[derive(Debug)]
enum Order {
    Line(Box<Entry>),
    /// Answer when everything before is written.
    Flush(Sender<()>),
    Reopen,
    /// The settings have changed.
    Sinks(Vec<Sink>),
}

/// The other end of the writer; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

/// What becomes of repeated lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// Every line counts.
    Write,
    /// Beyond [`REPEATS_MAX`] in a window they are counted.
    Count,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(name: &str, sinks: Vec<Sink>, repeats: Repeats) -> io::Result<Self> {
        let (orders, told) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let scribe = Scribe { sinks, repeats, windows: HashMap::new(), lost: Arc::clone(&lost) };
        thread::Builder::new().name(name.to_owned()).spawn(move || scribe.run(&told))?;
        Ok(Self { orders, lost })
    }

    pub(super) fn write(&self, entry: Entry) {
        let is_error = entry.level == Level::ERROR;
        if self.orders.try_send(Order::Line(Box::new(entry))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        if is_error {
            self.flush();
        }
    }

    /// Returns when everything so far is written, or after a second.
    pub(super) fn flush(&self) {
        let (done, wait) = channel();
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            let _either_way = wait.recv_timeout(PATIENCE);
        }
    }

    pub(super) fn reopen(&self) {
        let _full_or_gone = self.orders.send(Order::Reopen);
    }

    pub(super) fn replace(&self, sinks: Vec<Sink>) {
        let _gone = self.orders.send(Order::Sinks(sinks));
    }
}

/// The writer's own side.
struct Scribe {
    sinks: Vec<Sink>,
    repeats: Repeats,
    windows: HashMap<Identifier, Window>,
    lost: Arc<AtomicU64>,
}

/// Lines of one place since a moment.
struct Window {
    /// The first line's time.
    since: Duration,
    lines: u64,
    /// The first line that was not written, to tell how many.
    held: Option<(Box<Entry>, u64)>,
}

impl Scribe {
    /// Writes until nobody can tell anything any more.
    fn run(mut self, told: &Receiver<Order>) {
        loop {
            let holds = self.windows.values().any(|window| window.held.is_some());
            let order = if holds {
                told.recv_timeout(WINDOW)
            } else {
                told.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match order {
                Ok(order) => {
                    self.take(order);
                    for order in told.try_iter().take(BATCH_MAX) {
                        self.take(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tell_held(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            self.flush();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Line(entry) => self.line(entry),
            Order::Flush(done) => {
                self.flush();
                let _gone = done.send(());
            }
            Order::Reopen => {
                self.flush();
                self.sinks.iter_mut().for_each(Sink::reopen);
            }
            Order::Sinks(sinks) => {
                self.flush();
                self.sinks = sinks;
            }
        }
    }

    fn line(&mut self, mut entry: Box<Entry>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            entry.fields.push(("lost", Value::Count(lost)));
        }
        if self.repeats == Repeats::Write || entry.level > Level::INFO {
            return self.put(&entry);
        }
        if self.windows.len() >= PLACES_MAX {
            self.tell_held();
            self.windows.clear();
        }
        let fresh = || Window { since: entry.time, lines: 0, held: None };
        let window = self.windows.entry(entry.place.clone()).or_insert_with(fresh);
        let mut held = None;
        if entry.time.saturating_sub(window.since) >= WINDOW {
            held = std::mem::replace(window, fresh()).held;
        }
        window.lines += 1;
        if window.lines > REPEATS_MAX {
            let (_, count) = window.held.get_or_insert((entry, 0));
            *count += 1;
            return;
        }
        if let Some(held) = held {
            self.put_held(held);
        }
        self.put(&entry);
    }

    /// Nothing came for a while: says what was held back.
    fn tell_held(&mut self) {
        let held: Vec<_> =
            self.windows.values_mut().filter_map(|window| window.held.take()).collect();
        for held in held {
            self.put_held(held);
        }
    }

    fn put_held(&mut self, (mut entry, count): (Box<Entry>, u64)) {
        entry.fields.push(("suppressed", Value::Count(count)));
        self.put(&entry);
    }

    fn put(&mut self, entry: &Entry) {
        for sink in &mut self.sinks {
            sink.put(entry);
        }
    }

    fn flush(&mut self) {
        self.sinks.iter_mut().for_each(Sink::flush);
    }
}
