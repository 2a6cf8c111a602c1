//! Echo server: the engine without a protocol. `echo [ADDRESS] [SHARDS] [BUFFERS] [BUFFER_BYTES]`
//!
//! Serves as the null relay of measurements.

use shards::{
    Accepted, Address, Cause, ConnId, Handler, Io, ListenerSettings, Millis, Outgoing, Settings,
};

/// Spare outputs kept for reuse.
const SPARE_MAX: usize = 256;

#[derive(Default)]
struct Echo {
    outputs: Vec<Outgoing>,
    grown: Vec<ConnId>,
    spare: Vec<Outgoing>,
}

type EchoIo = Io<(), ()>;

impl Handler for Echo {
    type Mail = ();
    type Luggage = ();
    type Control = ();

    fn on_start(&mut self, _: &mut EchoIo) {}

    fn on_accept(&mut self, io: &mut EchoIo, conn: ConnId, _: Accepted) {
        if self.outputs.len() <= conn.index() {
            self.outputs.resize_with(conn.index() + 1, Outgoing::default);
        }
        io.start_stream(conn);
    }

    fn on_adopt(&mut self, _: &mut EchoIo, _: ConnId, _: Accepted, (): ()) {}

    fn on_bytes(&mut self, _: &mut EchoIo, conn: ConnId, bytes: &[u8]) {
        let Some(output) = self.outputs.get_mut(conn.index()) else { return };
        if output.bytes.is_empty() {
            self.grown.push(conn);
            if output.bytes.capacity() == 0 {
                *output = self.spare.pop().unwrap_or_default();
            }
        }
        output.bytes.extend_from_slice(bytes);
    }

    fn on_sent(&mut self, _: &mut EchoIo, conn: ConnId, mut outgoing: Outgoing) {
        outgoing.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(outgoing);
        }
        if self.outputs.get(conn.index()).is_some_and(|output| !output.bytes.is_empty()) {
            self.grown.push(conn);
        }
    }

    fn on_closed(&mut self, _: &mut EchoIo, conn: ConnId, _: Cause) {
        if let Some(output) = self.outputs.get_mut(conn.index()) {
            *output = Outgoing::default();
        }
    }

    fn on_mail(&mut self, _: &mut EchoIo, _: usize, (): ()) {}

    fn on_control(&mut self, _: &mut EchoIo, (): ()) {}

    fn finish_turn(&mut self, io: &mut EchoIo) {
        for conn in self.grown.drain(..) {
            if let Some(output) = self.outputs.get_mut(conn.index())
                && !output.bytes.is_empty()
                && !io.is_sending(conn)
            {
                io.send(conn, std::mem::take(output));
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        None
    }

    fn on_tick(&mut self, _: &mut EchoIo) {}

    fn on_stop(&mut self, _: &mut EchoIo) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Err(error) = shards::probe::check_host() {
        eprintln!("{error}");
        std::process::exit(error.exit_status());
    }
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7007".into()).parse()?;
    let count = arguments.next().map(|count| count.parse()).transpose()?;
    let mut settings = Settings::new(shards::placement::choose(count, None)?);
    if let Some(buffers) = arguments.next() {
        settings.buffers = buffers.parse()?;
    }
    if let Some(bytes) = arguments.next() {
        settings.buffer_bytes = bytes.parse()?;
    }
    settings.listeners.push(ListenerSettings::new(Address::Tcp(address)));
    let running = shards::start(settings, |_| Echo::default())?;
    println!("echo on {}", running.addresses().first().ok_or("no listener")?);
    running.join()?;
    Ok(())
}
