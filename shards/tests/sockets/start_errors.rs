//! What cannot start says why, and leaves nothing running.

use std::net::TcpListener;

use shards::{
    Accepted, Address, Cause, ConnId, Handler, Io, ListenerSettings, Millis, Outgoing, StartError,
};

use crate::common::{echo, settings};

#[derive(Debug)]
struct Idle;

impl Handler for Idle {
    type Mail = ();
    type Luggage = ();
    type Control = ();
    fn on_start(&mut self, _: &mut Io<(), ()>) {}
    fn on_accept(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Accepted) {}
    fn on_adopt(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Accepted, (): ()) {}
    fn on_bytes(&mut self, _: &mut Io<(), ()>, _: ConnId, _: &[u8]) {}
    fn on_sent(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Outgoing) {}
    fn on_closed(&mut self, _: &mut Io<(), ()>, _: ConnId, _: Cause) {}
    fn on_mail(&mut self, _: &mut Io<(), ()>, _: usize, (): ()) {}
    fn on_control(&mut self, _: &mut Io<(), ()>, (): ()) {}
    fn finish_turn(&mut self, _: &mut Io<(), ()>) {}
    fn next_deadline(&self) -> Option<Millis> {
        None
    }
    fn on_tick(&mut self, _: &mut Io<(), ()>) {}
    fn on_stop(&mut self, _: &mut Io<(), ()>) {}
}

fn taken(address: std::net::SocketAddr) {
    let mut settings = settings(1);
    settings.listeners.push(ListenerSettings::new(Address::Tcp(address)));
    let error = shards::start(settings, |_| Idle).expect_err("the port is taken");
    assert!(
        matches!(&error, StartError::Listen { address: told, .. } if told.tcp() == Some(address))
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    taken(holder.local_addr().expect("bound"));
}

#[test]
fn a_second_engine_does_not_share_the_port() {
    let rig = echo(2);
    taken(rig.address);
}

#[test]
fn limits_out_of_range_are_refused() {
    for buffers in [0, 3] {
        let mut settings = settings(1);
        settings.buffers = buffers;
        let error = shards::start(settings, |_| Idle).expect_err("no power of two");
        assert!(matches!(error, StartError::Settings(_)));
    }
}
