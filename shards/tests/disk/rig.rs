//! An engine with logs and no sockets: a test tells its shards what to do by mail from shard 0,
//! and sees what they report.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shards::disk::{Directory, DirectoryError, Settings as LogSettings};
use shards::log::{Chunk, Failure, Lsn, Mode, Place, ReadFault, StoredRecord};
use shards::placement::choose;
use shards::{
    Accepted, Cause, ConnId, EngineError, Handler, Io, Millis, Outgoing, Running, Settings,
};

/// Longest a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a test tries to get a directory that nobody uses for long.
const OPENS_MAX: u32 = 100_000;

/// What the test sees from inside.
#[derive(Debug)]
pub(crate) enum Seen {
    Appended(Place),
    Durable(Lsn),
    Record(u64, Result<StoredRecord, ReadFault>),
    Chunk(Result<Chunk, ReadFault>),
    /// The act is over.
    Over,
}

pub(crate) type TestIo = Io<(), ()>;

/// What a shard does at its own pace.
pub(crate) trait Act: Send + 'static {
    fn start(&mut self, _: &mut TestIo, _: &Sender<Seen>) {}
    fn durable(&mut self, _: &mut TestIo, _: Lsn, _: &Sender<Seen>) {}
    fn turn(&mut self, _: &mut TestIo, _: &Sender<Seen>) {}
    fn chunk(&mut self, _: &mut TestIo, _: &Chunk, _: &Sender<Seen>) {}
    fn deadline(&self) -> Option<Millis> {
        None
    }
}

struct Acting<A> {
    act: A,
    seen: Sender<Seen>,
}

impl<A: Act> Handler for Acting<A> {
    type Mail = ();
    type Luggage = ();
    type Control = ();

    fn on_start(&mut self, io: &mut TestIo) {
        self.act.start(io, &self.seen);
    }
    fn on_accept(&mut self, _: &mut TestIo, _: ConnId, _: Accepted) {}
    fn on_adopt(&mut self, _: &mut TestIo, _: ConnId, _: Accepted, (): ()) {}
    fn on_bytes(&mut self, _: &mut TestIo, _: ConnId, _: &[u8]) {}
    fn on_sent(&mut self, _: &mut TestIo, _: ConnId, _: Outgoing) {}
    fn on_closed(&mut self, _: &mut TestIo, _: ConnId, _: Cause) {}
    fn on_mail(&mut self, _: &mut TestIo, _: usize, (): ()) {}
    fn on_control(&mut self, _: &mut TestIo, (): ()) {}
    fn finish_turn(&mut self, io: &mut TestIo) {
        self.act.turn(io, &self.seen);
    }
    fn next_deadline(&self) -> Option<Millis> {
        self.act.deadline()
    }
    fn on_tick(&mut self, _: &mut TestIo) {}
    fn on_stop(&mut self, _: &mut TestIo) {}

    fn on_durable(&mut self, io: &mut TestIo, lsn: Lsn) {
        let _ = self.seen.send(Seen::Durable(lsn));
        self.act.durable(io, lsn, &self.seen);
    }
    fn on_record(&mut self, _: &mut TestIo, token: u64, result: Result<StoredRecord, ReadFault>) {
        let _ = self.seen.send(Seen::Record(token, result));
    }
    fn on_chunk(&mut self, io: &mut TestIo, _: u64, result: Result<Chunk, ReadFault>) {
        if let Ok(chunk) = &result {
            self.act.chunk(io, chunk, &self.seen);
        }
        let _ = self.seen.send(Seen::Chunk(result));
    }
    fn on_log_failed(&mut self, _: &mut TestIo, failure: Failure) {
        eprintln!("the log failed: {failure}");
    }
}

pub(crate) struct Rig {
    pub(crate) running: Option<Running>,
    pub(crate) seen: Receiver<Seen>,
}

/// Small segments, so that tests see many.
pub(crate) fn small() -> LogSettings {
    LogSettings {
        segment_bytes: 0x10_0000,
        batch_bytes_max: 0x1_0000,
        pending_bytes_max: 0x8_0000,
        ..LogSettings::default()
    }
}

/// A record as a test knows it.
pub(crate) type Known = (Lsn, u8, Vec<u8>);

/// Opens a directory that no other process uses. A program that another test is starting has our
/// lock until it runs.
pub(crate) fn open(path: &Path, shards: u16) -> Result<Directory, DirectoryError> {
    for _ in 0..OPENS_MAX {
        match Directory::open(path, shards) {
            Err(DirectoryError::InUse { .. }) => std::thread::yield_now(),
            opened => return opened,
        }
    }
    Directory::open(path, shards)
}

/// Reads all logs; gives the records of each shard.
pub(crate) fn read(
    path: &Path,
    shards: u16,
    mode: Mode,
) -> Result<Vec<Vec<Known>>, DirectoryError> {
    let directory = open(path, shards)?;
    (0..shards)
        .map(|shard| {
            let mut records = Vec::new();
            directory.recover(shard, mode, &mut |record| {
                records.push((record.lsn, record.kind, record.body.to_vec()));
            })?;
            Ok(records)
        })
        .collect()
}

/// Recovers, opens and starts.
pub(crate) fn start<A: Act>(
    path: &Path,
    shards: u16,
    settings: &LogSettings,
    make: impl Fn(usize) -> A + Send + Sync + 'static,
) -> Rig {
    let directory = open(path, shards).unwrap();
    let logs = (0..shards)
        .map(|shard| {
            let recovery = directory.recover(shard, Mode::Strict, &mut |_| {}).unwrap();
            recovery.begin(settings).unwrap()
        })
        .collect();
    drop(directory);
    let (tx, seen) = channel();
    let tx = Mutex::new(tx);
    let mut engine = Settings::new(choose(Some(usize::from(shards)), None).unwrap());
    engine.stop_grace_ms = 1_000;
    let running = shards::start_with_logs(engine, logs, move |context| {
        let seen = tx.lock().unwrap().clone();
        Acting { act: make(context.shard), seen }
    })
    .unwrap();
    Rig { running: Some(running), seen }
}

impl Rig {
    /// Waits until something that matches has been seen; other things are passed over.
    pub(crate) fn wait<T>(&self, mut matches: impl FnMut(Seen) -> Option<T>) -> T {
        loop {
            let seen = self.seen.recv_timeout(PATIENCE).expect("the engine reports in time");
            if let Some(found) = matches(seen) {
                return found;
            }
        }
    }

    pub(crate) fn stop(mut self) {
        let running = self.running.take().unwrap();
        running.stop();
        running.join().expect("a clean stop");
    }

    pub(crate) fn end(mut self) -> Result<(), EngineError> {
        self.running.take().unwrap().join()
    }
}
