//! The audit log: who did what, one JSON object per line.
//!
//! Promise: every line has the next number (`seq`); a line that found the queue full, or could not
//! be written, leaves a gap. Who writes never waits. An event is one for the audit log by its
//! target: `info!(target: "audit", event = "login", user, outcome = "ok")`.

use super::entry::{Entry, Value};
use super::sink::Sink;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Target of its events.
pub(in super::super) const TARGET: &str = "audit";
/// Events that wait to be written.
const QUEUE_MAX: usize = 8192;
const BATCH_MAX: usize = 256;
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Order {
    Line(u64, Box<Entry>),
    Flush(Sender<()>),
    Reopen,
    /// The settings have changed.
    Sinks(Vec<Sink>),
}

/// The other end of the thread that writes it.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    orders: SyncSender<Order>,
    next: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(sinks: Vec<Sink>) -> io::Result<Self> {
        let (orders, told) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let dropped = Arc::clone(&lost);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write(sinks, &told, &dropped))?;
        Ok(Self { orders, next: Arc::new(AtomicU64::new(1)), lost })
    }

    pub(super) fn write(&self, entry: Entry) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.orders.try_send(Order::Line(number, Box::new(entry))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
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

/// Writes until nobody can tell anything any more.
fn write(mut sinks: Vec<Sink>, told: &Receiver<Order>, lost: &AtomicU64) {
    let flush = |sinks: &mut Vec<Sink>| sinks.iter_mut().for_each(Sink::flush);
    while let Ok(first) = told.recv() {
        for order in std::iter::once(first).chain(told.try_iter().take(BATCH_MAX)) {
            match order {
                Order::Line(number, mut entry) => {
                    entry.fields.insert(0, ("seq", Value::Count(number)));
                    let lost = lost.swap(0, Ordering::Relaxed);
                    if lost > 0 {
                        entry.fields.insert(1, ("lost", Value::Count(lost)));
                    }
                    for sink in &mut sinks {
                        sink.put(&entry);
                    }
                }
                Order::Flush(done) => {
                    flush(&mut sinks);
                    let _gone = done.send(());
                }
                Order::Reopen => {
                    flush(&mut sinks);
                    sinks.iter_mut().for_each(Sink::reopen);
                }
                Order::Sinks(new) => {
                    flush(&mut sinks);
                    sinks = new;
                }
            }
        }
        flush(&mut sinks);
    }
}
