//! What the broker does when it is sent signals.
//!
//! SIGINT and SIGTERM: stop. SIGHUP: read the settings again. SIGUSR1: open log files anew.

use super::Args;
use super::notify::Notify;
use crate::broker::{Reloaded, Reloader};
use crate::cli::failure::Failure;
use crate::cli::logging::{AUDIT, Logging};
use shards::Stopper;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tracing::{error, info, warn};

/// A shard that was too busy for new settings is offered them again after this time.
const RETRY: Duration = Duration::from_millis(10);

/// Signals that mean something.
pub(super) fn signals() -> Result<Signals, Failure> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])
        .map_err(|error| Failure::system("cannot listen for signals", &error))
}

/// All that is needed to do it.
#[derive(Debug)]
pub(super) struct Duty {
    pub(super) args: Args,
    pub(super) reloader: Reloader,
    pub(super) log: Logging,
    pub(super) notify: Notify,
    pub(super) stopper: Stopper,
}

/// The thread that waits for signals.
#[derive(Debug)]
pub(super) struct Waiter {
    handle: Handle,
    thread: JoinHandle<Duty>,
}

impl Duty {
    pub(super) fn start(self, signals: Signals) -> Result<Waiter, Failure> {
        let handle = signals.handle();
        let thread = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || self.wait(signals))
            .map_err(|error| Failure::system("cannot listen for signals", &error))?;
        Ok(Waiter { handle, thread })
    }

    fn wait(mut self, mut signals: Signals) -> Self {
        while !signals.is_closed() {
            let late = self.reloader.late();
            let caught = if late.is_none() { signals.wait() } else { signals.pending() };
            for signal in caught {
                self.on_signal(signal);
            }
            if let Some(shard) = late {
                self.reloader.retry();
                if self.reloader.late().is_none() {
                    info!(shard, "the last shard has taken the settings");
                } else {
                    thread::park_timeout(RETRY);
                }
            }
        }
        self
    }

    fn on_signal(&mut self, signal: i32) {
        match signal {
            SIGHUP => self.reload(),
            SIGUSR1 => {
                self.log.reopen();
                info!("log files opened anew");
            }
            _ => {
                info!(signal, "stopping");
                self.notify.stopping();
                self.stopper.stop();
            }
        }
    }

    /// Reads everything first; what is not valid changes nothing.
    fn reload(&mut self) {
        self.notify.reloading();
        let outcome = self.try_reload();
        self.reloader.count(outcome.is_ok());
        match outcome {
            Ok(reloaded) => {
                if !reloaded.kept.is_empty() {
                    let keys = reloaded.kept.join(", ");
                    warn!(keys, "settings read again; these change with the next start only");
                }
                for address in &reloaded.closed {
                    info!(%address, "no new connections are taken here; those there are stay");
                    info!(target: AUDIT, event = "listen_end", %address);
                }
                for address in &reloaded.opened {
                    info!(%address, "listening");
                    info!(target: AUDIT, event = "listen", %address);
                }
                if let Some(shard) = reloaded.late {
                    let why = "it is busy: until it has them it serves by those before";
                    warn!(shard, why, "a shard has not taken the settings yet");
                }
                info!("settings read again");
                let config = super::fingerprint(self.reloader.config());
                info!(target: AUDIT, event = "reload", outcome = "ok", config);
            }
            Err(failure) => {
                let why = failure.message.as_str();
                error!(why, "settings not taken, the old ones stay in force");
                info!(target: AUDIT, event = "reload", outcome = "refused", why);
            }
        }
        self.notify.ready();
    }

    fn try_reload(&mut self) -> Result<Reloaded, Failure> {
        let loaded = self.args.load()?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        super::remark_open(&loaded.config);
        let log = self.log.prepare(&loaded.config.log).map_err(Failure::usage)?;
        let reloaded = self
            .reloader
            .reload(&loaded.config)
            .map_err(|error| Failure::usage(error.to_string()))?;
        self.log.take(log);
        Ok(reloaded)
    }
}

impl Waiter {
    /// Ends the thread and gives the log back, so that the last lines are written.
    pub(super) fn end(self) -> Option<Logging> {
        self.handle.close();
        self.thread.join().ok().map(|duty| duty.log)
    }
}
