//! Starts and stops the shards.
//!
//! Promise: when [`start`] returns, every listener is bound and every shard has its ring; when
//! [`Running::join`] returns, every shard thread has ended.
//! A panic in a shard is logged and ends the process: its state is lost, and what is on disk is
//! made for exactly that.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use glommio::{LocalExecutorBuilder, Placement as Pin};

use crate::clock::Clock;
use crate::disk::{Opened, ShardLog};
use crate::doorbell::Doorbell;
use crate::handler::{Handler, ShardContext};
use crate::io::Io;
use crate::log::Failure;
use crate::mesh::{self, Mesh};
use crate::net::listener::{self, Beside, Listeners, Listening};
use crate::net::{Net, ring};
use crate::pulse::Pulse;
use crate::remote::Remote;
use crate::settings::{Address, ListenerSettings, Settings};
use crate::sys::EventFd;
use crate::turn::{AbortOnPanic, Broken, Driver};
use crate::watchdog::{self, Counts, Progress, WatchdogStats};

/// Memory glommio registers for background file work; its default is 10 MiB.
const GLOMMIO_IO_BYTES: usize = 64 << 10;
/// Depth of glommio's rings; the network does not use them.
const GLOMMIO_RING_DEPTH: usize = 32;

/// Why the engine did not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A limit is out of range.
    #[error("engine settings: {0}")]
    Settings(&'static str),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as it was given.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A shard could not get its ring, memory or descriptors.
    #[error("shard {shard} cannot start: {source}")]
    Shard {
        /// Index of the shard.
        shard: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The executor of a shard could not be made.
    #[error("shard {shard} cannot run on CPU {cpu}: {reason}")]
    Executor {
        /// Index of the shard.
        shard: usize,
        /// The CPU it was to be pinned to.
        cpu: usize,
        /// What glommio said.
        reason: String,
    },
}

/// Why a running engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The ring of a shard failed. All shards were stopped.
    #[error("shard {shard} lost its ring: {source}")]
    Ring {
        /// Index of the shard.
        shard: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The log of a shard failed: what it had not reported durable may be lost, nothing else. All
    /// shards ended at once. The process should end with status 74.
    #[error("the log of shard {shard} failed: {failure}")]
    Log {
        /// Index of the shard.
        shard: usize,
        /// Where and why.
        failure: Failure,
    },
}

/// What the threads of one engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    places: Vec<Place>,
    stopping: AtomicBool,
    abandoned: AtomicBool,
    at_rest: AtomicUsize,
    /// All shards were at rest and no mail was on its way: logs are closed.
    closing: AtomicBool,
    closed: AtomicUsize,
}

/// Where one shard can be woken and watched.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) doorbell: Doorbell,
    pub(crate) event: EventFd,
    pub(crate) ring_fd: OnceLock<RawFd>,
    pub(crate) pulse: Pulse,
    /// Batches of mail sent and taken, kept up to date while the engine stops.
    pub(crate) sent: AtomicU64,
    pub(crate) taken: AtomicU64,
}

impl Shared {
    fn new(shards: usize) -> io::Result<Shared> {
        let place = || {
            Ok(Place {
                doorbell: Doorbell::new(),
                event: EventFd::new()?,
                ring_fd: OnceLock::new(),
                pulse: Pulse::default(),
                sent: AtomicU64::new(0),
                taken: AtomicU64::new(0),
            })
        };
        let places = (0..shards).map(|_| place()).collect::<io::Result<_>>()?;
        Ok(Shared {
            places,
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            at_rest: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            closed: AtomicUsize::new(0),
        })
    }

    pub(crate) fn place(&self, shard: usize) -> &Place {
        self.places.get(shard).expect("shards know only existing shards")
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// A stopping shard has no connection, no mail and nothing that waits for the disk (any more,
    /// or again).
    pub(crate) fn set_at_rest(&self, at_rest: bool) {
        if at_rest {
            if self.at_rest.fetch_add(1, Ordering::AcqRel) + 1 == self.places.len() {
                self.ring_all();
            }
        } else {
            self.at_rest.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// All shards are at rest and no mail is on its way between them. Stays so: only mail and
    /// connections make work, and there are none.
    pub(crate) fn is_closing(&self) -> bool {
        if self.closing.load(Ordering::Acquire) {
            return true;
        }
        // What was taken is read before what was sent: equal sums then mean that no mail was on
        // its way in between.
        let sum = |count: fn(&Place) -> &AtomicU64| -> u64 {
            self.places.iter().map(|place| count(place).load(Ordering::SeqCst)).sum()
        };
        let taken = sum(|place| &place.taken);
        let at_rest = self.at_rest.load(Ordering::SeqCst) == self.places.len();
        let closing = at_rest && taken == sum(|place| &place.sent);
        if closing && !self.closing.swap(true, Ordering::AcqRel) {
            self.ring_all();
        }
        closing
    }

    /// This shard's log is closed, or it has none.
    pub(crate) fn set_closed(&self) {
        if self.closed.fetch_add(1, Ordering::AcqRel) + 1 == self.places.len() {
            self.ring_all();
        }
    }

    pub(crate) fn all_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) == self.places.len()
    }

    /// Every shard ends at once, whatever it is doing.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.stop();
        self.ring_all();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn stop(&self) {
        if !self.stopping.swap(true, Ordering::AcqRel) {
            self.ring_all();
        }
    }

    fn ring_all(&self) {
        for place in &self.places {
            place.event.ring();
        }
    }
}

/// Asks an engine to stop; can be copied to any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// See [`Running::stop`].
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// A started engine. Dropping it does not stop it.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<Address>,
    shared: Arc<Shared>,
    shards: Vec<JoinHandle<Result<(), EngineError>>>,
    watchdog: JoinHandle<()>,
    watchdog_end: Sender<()>,
    counts: Arc<Counts>,
}

impl Running {
    /// Bound addresses in the order of the listeners; port 0 has become a real one.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Asks all shards to stop: no new connections, [`Handler::on_stop`], and the end when all
    /// connections are closed or the grace period is over. Returns at once; may be called from
    /// any thread and more than once.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// A handle that can ask for the stop while another thread waits in [`Self::join`].
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// What the watchdog has seen.
    pub fn watchdog(&self) -> WatchdogStats {
        self.counts.read()
    }

    /// Tells whether all shards go on, from any thread.
    pub fn progress(&self) -> Progress {
        Progress::new(Arc::clone(&self.shared))
    }

    /// Waits until all shards have ended.
    ///
    /// # Errors
    /// The first shard that ended for another reason than a stop.
    ///
    /// # Panics
    /// Never: a shard that panics ends the process.
    pub fn join(self) -> Result<(), EngineError> {
        let mut result = Ok(());
        for shard in self.shards {
            let ended = shard.join().expect("a panicking shard ends the process");
            result = result.and(ended);
        }
        drop(self.watchdog_end);
        self.watchdog.join().expect("the watchdog does nothing that can panic");
        result
    }
}

/// Binds all listeners and starts one pinned thread per shard, each with its own handler.
///
/// `factory` runs once on every shard's thread.
///
/// # Errors
/// [`StartError`]; everything already started has ended then.
pub fn start<H, F>(settings: Settings, factory: F) -> Result<Running, StartError>
where
    H: Handler,
    F: Fn(ShardContext) -> H + Send + Sync + 'static,
{
    let remote = Remote::new(settings.placement.cpus().len(), 1);
    start_with(settings, &remote, factory)
}

/// The same with a log for each shard, in the order of the shards.
///
/// # Errors
/// [`StartError`]; everything already started has ended then.
///
/// # Panics
/// If there are more or fewer logs than shards.
pub fn start_with_logs<H, F>(
    settings: Settings,
    logs: Vec<Opened>,
    factory: F,
) -> Result<Running, StartError>
where
    H: Handler,
    F: Fn(ShardContext) -> H + Send + Sync + 'static,
{
    let remote = Remote::new(settings.placement.cpus().len(), 1);
    assert!(logs.len() == remote.shards(), "one log per shard");
    bind(settings)?.start(&remote, logs, factory)
}

/// The same, with a [`Remote`] by which other threads reach the handlers.
///
/// # Errors
/// [`StartError`]; everything already started has ended then.
///
/// # Panics
/// If `remote` was not made for as many shards as there are CPUs.
pub fn start_with<H, F>(
    settings: Settings,
    remote: &Remote<H::Control>,
    factory: F,
) -> Result<Running, StartError>
where
    H: Handler,
    F: Fn(ShardContext) -> H + Send + Sync + 'static,
{
    bind(settings)?.start(remote, Vec::new(), factory)
}

/// An engine whose listeners are bound, before it has any thread: the moment to give up rights.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    addresses: Vec<Address>,
    sockets: Vec<Vec<Listening>>,
}

/// Binds all listeners. Who connects waits until [`Bound::start`].
///
/// # Errors
/// [`StartError`]; nothing is bound then.
pub fn bind(settings: Settings) -> Result<Bound, StartError> {
    if let Some(fault) = settings.fault() {
        return Err(StartError::Settings(fault));
    }
    let (addresses, sockets) = open_listeners(&settings, settings.placement.cpus().len())?;
    Ok(Bound { settings, addresses, sockets })
}

impl Bound {
    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.settings.placement.cpus().len()
    }

    /// What counts the time of the shards.
    pub fn clock(&self) -> Clock {
        self.settings.clock
    }

    /// Starts one pinned thread per shard, with a log for each or for none of them.
    ///
    /// # Errors
    /// [`StartError`]; everything already started has ended then.
    ///
    /// # Panics
    /// If `remote` was not made for as many shards as there are CPUs, or there are other than so
    /// many logs or none.
    pub fn start<H, F>(
        self,
        remote: &Remote<H::Control>,
        logs: Vec<Opened>,
        factory: F,
    ) -> Result<Running, StartError>
    where
        H: Handler,
        F: Fn(ShardContext) -> H + Send + Sync + 'static,
    {
        run_shards(self, remote, logs, factory)
    }
}

fn run_shards<H, F>(
    bound: Bound,
    remote: &Remote<H::Control>,
    logs: Vec<Opened>,
    factory: F,
) -> Result<Running, StartError>
where
    H: Handler,
    F: Fn(ShardContext) -> H + Send + Sync + 'static,
{
    let Bound { settings, addresses, sockets } = bound;
    let settings = Arc::new(settings);
    let shards = settings.placement.cpus().len();
    let shared = Shared::new(shards).map_err(|source| StartError::Shard { shard: 0, source })?;
    let shared = Arc::new(shared);
    assert!(remote.shards() == shards, "one line for each shard");
    assert!(logs.is_empty() || logs.len() == shards, "one log for each shard");
    remote.connect(Arc::clone(&shared));
    let clock = settings.clock;
    let meshes = mesh::build::<H::Mail, H::Luggage>(shards, settings.mailbox_batches);
    let gauges: Vec<_> = meshes.iter().map(Mesh::gauge).collect();
    let (ready_tx, ready_rx) = bounded(shards);
    let (go_tx, go_rx) = bounded(shards);
    let factory = Arc::new(factory);
    let mut threads = Vec::with_capacity(shards);
    let mut logs = logs.into_iter();
    for ((shard, &cpu), (mesh, sockets)) in
        settings.placement.cpus().iter().enumerate().zip(meshes.into_iter().zip(sockets))
    {
        let seed = Seed {
            shard,
            cpu,
            mesh,
            controls: remote.line(shard),
            sockets,
            log: logs.next(),
            settings: Arc::clone(&settings),
            shared: Arc::clone(&shared),
            clock,
            ready: ready_tx.clone(),
            go: go_rx.clone(),
        };
        let factory = Arc::clone(&factory);
        let thread = thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || seed.grow(&*factory))
            .map_err(|source| StartError::Shard { shard, source })?;
        threads.push(thread);
    }
    drop(ready_tx);
    for report in ready_rx {
        // With `go_tx` dropped, the shards that are ready end.
        report?;
    }
    for _ in 0..shards {
        let _ = go_tx.send(());
    }
    let counts = Arc::new(Counts::default());
    let (watchdog_end, end) = bounded(0);
    let watchdog = {
        let (shared, counts) = (Arc::clone(&shared), Arc::clone(&counts));
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            watchdog::run(&shared, &gauges, clock, &end, &counts);
        })
    };
    let watchdog = watchdog.map_err(|source| {
        shared.stop();
        StartError::Shard { shard: 0, source }
    })?;
    Ok(Running { addresses, shared, shards: threads, watchdog, watchdog_end, counts })
}

/// The sockets of each shard, in the order of the listeners.
fn open_listeners(
    settings: &Settings,
    shards: usize,
) -> Result<(Vec<Address>, Vec<Vec<Listening>>), StartError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in &settings.listeners {
        let (address, opened) = listen(listener, &settings.listeners, &addresses, shards)?;
        addresses.push(address);
        for (of_shard, socket) in sockets.iter_mut().zip(opened) {
            of_shard.push(socket);
        }
    }
    Ok((addresses, sockets))
}

/// Opens the sockets of one listener, one for each shard, to be given to them by
/// [`crate::Io::listen`]. Who connects waits until then. Gives the address with its real port.
///
/// `all` are the listeners that there will be, `open` the addresses on which this engine listens
/// already.
///
/// # Errors
/// [`StartError::Listen`]; nothing is bound then.
pub fn listen(
    listener: &ListenerSettings,
    all: &[ListenerSettings],
    open: &[Address],
    shards: usize,
) -> Result<(Address, Vec<Listening>), StartError> {
    listener::open(listener, Beside { all, open }, shards)
        .map_err(|source| StartError::Listen { address: listener.address.clone(), source })
}

/// What a shard's thread needs to become a shard.
struct Seed<M, L, C> {
    shard: usize,
    cpu: usize,
    mesh: Mesh<M, L>,
    controls: Receiver<C>,
    sockets: Vec<Listening>,
    log: Option<Opened>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    clock: Clock,
    ready: Sender<Result<(), StartError>>,
    go: Receiver<()>,
}

impl<M: Send + 'static, L: Send + 'static, C: Send + 'static> Seed<M, L, C> {
    fn grow<H, F>(self, factory: &F) -> Result<(), EngineError>
    where
        H: Handler<Mail = M, Luggage = L, Control = C>,
        F: Fn(ShardContext) -> H,
    {
        let (shard, cpu) = (self.shard, self.cpu);
        let _abort = AbortOnPanic(shard);
        let executor = LocalExecutorBuilder::new(Pin::Fixed(cpu))
            .name("shard")
            .io_memory(GLOMMIO_IO_BYTES)
            .ring_depth(GLOMMIO_RING_DEPTH)
            .make();
        match executor {
            Ok(executor) => executor.run(async move { self.run(factory) }),
            Err(error) => {
                let reason = error.to_string();
                let _ = self.ready.send(Err(StartError::Executor { shard, cpu, reason }));
                Ok(())
            }
        }
    }

    /// On the pinned thread: ring and handler, then the loop.
    fn run<H, F>(self, factory: &F) -> Result<(), EngineError>
    where
        H: Handler<Mail = M, Luggage = L, Control = C>,
        F: Fn(ShardContext) -> H,
    {
        let Seed {
            shard, mesh, controls, sockets, log, settings, shared, clock, ready, go, ..
        } = self;
        let log = log.map(|opened| ShardLog::new(opened, clock)).transpose();
        let made = ring::create(settings.buffers, settings.buffer_bytes)
            .and_then(|made| Ok((made, log?.map(Box::new))));
        let ((ring, buffers), log) = match made {
            Ok(made) => made,
            Err(source) => {
                let _ = ready.send(Err(StartError::Shard { shard, source }));
                return Ok(());
            }
        };
        let _ = shared.place(shard).ring_fd.set(ring.as_raw_fd());
        let _ = ready.send(Ok(()));
        drop(ready);
        if go.recv().is_err() {
            return Ok(());
        }
        let now = clock.now();
        let context = ShardContext { shard, shards: mesh.shards(), now };
        let driver = Driver {
            handler: factory(context),
            io: Io {
                net: Net::new(ring, settings.connections_max, settings.linger_ms, now),
                mesh,
                log,
                listeners: Listeners::new(sockets),
                now,
                shard,
            },
            buffers,
            clock,
            shared: Arc::clone(&shared),
            stop_grace_ms: settings.stop_grace_ms,
            arrivals: Vec::new(),
            arrived: 0,
            controls,
        };
        driver.run().map_err(|broken| match broken {
            Broken::Ring(source) => {
                tracing::error!(shard, %source, "the ring failed, all shards stop");
                shared.stop();
                EngineError::Ring { shard, source }
            }
            Broken::Log(failure) => {
                tracing::error!(shard, %failure, "the log failed, all shards end");
                shared.abandon();
                EngineError::Log { shard, failure }
            }
        })
    }
}
