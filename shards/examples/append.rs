//! Appends to a log and prints how many records per second become durable:
//! `cargo run --release -p shards --example append -- DIRECTORY [RECORD_BYTES]`. One shard; so many
//! records are in flight all the time: 1, 10, 100, 1000, two seconds each.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use shards::clock::Clock;
use shards::disk::{Directory, Settings as LogSettings};
use shards::log::{Lsn, Mode};
use shards::placement::choose;
use shards::{Accepted, Cause, ConnId, Handler, Io, Millis, Outgoing, Settings};

const ROUND_MS: u64 = 2_000;

struct Append {
    body: Vec<u8>,
    in_flight: u64,
    appended: u64,
    durable: u64,
    until: Millis,
    done: Sender<(u64, f64)>,
    clock: Clock,
    began_us: u64,
}

impl Append {
    fn fill(&mut self, io: &mut Io<(), ()>) {
        let Some(log) = io.log() else { return };
        while self.appended - self.durable < self.in_flight && log.append(1, &self.body).is_ok() {
            self.appended += 1;
        }
    }
}

impl Handler for Append {
    type Mail = ();
    type Luggage = ();

    fn on_start(&mut self, io: &mut Io<(), ()>) {
        self.until = io.now().after(ROUND_MS);
        self.began_us = self.clock.micros();
        let next = io.log().map_or(Lsn(1), |log| log.next_lsn());
        (self.appended, self.durable) = (next.0 - 1, next.0 - 1);
        self.fill(io);
    }

    fn on_durable(&mut self, io: &mut Io<(), ()>, lsn: Lsn) {
        self.durable = lsn.0;
        if io.now() < self.until {
            self.fill(io);
        } else if self.in_flight > 0 && self.durable == self.appended {
            self.in_flight = 0;
            let seconds = (self.clock.micros() - self.began_us) as f64 / 1e6;
            let _ = self.done.send((self.appended, seconds));
            if let Some(log) = io.log() {
                println!("    {:?}", log.stats());
            }
        }
    }

    fn on_accept(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Accepted) {}
    fn on_adopt(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Accepted, (): ()) {}
    fn on_bytes(&mut self, _: &mut Io<(), ()>, _: ConnId, _: &[u8]) {}
    fn on_sent(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Outgoing) {}
    fn on_closed(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Cause) {}
    fn on_mail(&mut self, _: &mut Io<(), ()>, _: usize, (): ()) {}
    fn finish_turn(&mut self, _: &mut Io<(), ()>) {}
    fn next_deadline(&self) -> Option<Millis> {
        None
    }
    fn on_tick(&mut self, _: &mut Io<(), ()>) {}
    fn on_stop(&mut self, _: &mut Io<(), ()>) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("usage: append DIRECTORY [RECORD_BYTES]")?);
    let bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    for in_flight in [1, 10, 100, 1000] {
        let directory = Directory::open(&path, 1)?;
        let recovery = directory.recover(0, Mode::Strict, &mut |_| {})?;
        let before = recovery.next_lsn().0 - 1;
        let logs = vec![recovery.begin(&LogSettings::default())?];
        let (done, results) = channel();
        let settings = Settings::new(choose(Some(1), None)?);
        let running = shards::start_with_logs(settings, logs, move |_| Append {
            body: vec![7; bytes],
            in_flight,
            appended: 0,
            durable: 0,
            until: Millis(0),
            done: done.clone(),
            clock: Clock::start(),
            began_us: 0,
        })?;
        let (last, seconds) = results.recv()?;
        let count = last - before;
        println!("{in_flight:5} in flight: {:9.0} records/s", count as f64 / seconds);
        running.stop();
        running.join()?;
    }
    Ok(())
}
