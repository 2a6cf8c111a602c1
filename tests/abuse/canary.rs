//! The canary: one well-behaved publisher and subscriber that must not notice the attack.
//!
//! Promise of [`Canary::ends`]: since the start neither was disconnected, every message arrived
//! once and in order, and was acknowledged. 100 messages per second at `QoS` 1.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Client, Event};
use crate::compose::compose;
use crate::packet::Version;

/// Time between two messages.
const PERIOD: Duration = Duration::from_millis(10);

/// Round trips, shortest first.
#[derive(Debug, Default)]
pub(crate) struct Latency(Vec<Duration>);

impl Latency {
    /// The round trip that this share of all, in percent, does not pass.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Two clients at work. Use [`Canary::ends`]; a canary that is dropped proves nothing.
pub(crate) struct Canary {
    stop: Sender<()>,
    publisher: JoinHandle<Vec<Instant>>,
    subscriber: JoinHandle<Vec<Instant>>,
}

impl Canary {
    /// Both are connected and subscribed when this returns. `credentials` are further words of
    /// CONNECT, such as `user=canary pass=secret`.
    pub(crate) fn start(address: SocketAddr, credentials: &str) -> Self {
        Self::start_with(&|| Client::open(address, Version::V5), credentials)
    }

    /// The same over a transport of the test's own.
    pub(crate) fn start_with(open: &dyn Fn() -> Client, credentials: &str) -> Self {
        let mut subscriber = connect(open, "canary-sub", credentials);
        subscriber.write(&compose("subscribe 1 canary/song q1", Version::V5, ""));
        let suback = subscriber.packet();
        assert_eq!((suback.name, &suback.codes[..]), ("suback", &[1][..]), "{}", suback.text());
        let publisher = connect(open, "canary-pub", credentials);
        let (stop, stopped) = channel();
        Self {
            stop,
            publisher: std::thread::spawn(move || sing(publisher, &stopped)),
            subscriber: std::thread::spawn(move || listen(subscriber)),
        }
    }

    /// Ends the song and checks that all of it was heard. Gives the round trips, from the write of
    /// a PUBLISH to its arrival at the subscriber.
    pub(crate) fn ends(self) -> Latency {
        self.stop.send(()).expect("the publisher sings");
        let sent = self.publisher.join().expect("the publisher was served all the time");
        let heard = self.subscriber.join().expect("the subscriber was served all the time");
        // Besides the songs the last message, which says that there are no more.
        assert_eq!(sent.len() + 1, heard.len(), "messages were lost or repeated");
        let mut trips: Vec<Duration> =
            sent.iter().zip(&heard).map(|(sent, heard)| *heard - *sent).collect();
        trips.sort();
        Latency(trips)
    }
}

fn connect(open: &dyn Fn() -> Client, id: &str, credentials: &str) -> Client {
    let mut client = open();
    client.write(&compose(&format!("connect id={id} keep=60 {credentials}"), Version::V5, id));
    let connack = client.packet();
    assert_eq!((connack.name, &connack.codes[..]), ("connack", &[0][..]), "{}", connack.text());
    client
}

/// Publishes until told to stop, at most one period late; then the last message. Each has to be
/// acknowledged before the next but ten is sent.
fn sing(mut client: Client, stopped: &Receiver<()>) -> Vec<Instant> {
    let mut sent = Vec::new();
    let mut acknowledged = 0;
    let start = Instant::now();
    loop {
        let due = start + PERIOD * u32::try_from(sent.len()).unwrap();
        let pause = due.saturating_duration_since(Instant::now());
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
        sent.push(Instant::now());
        publish(&mut client, sent.len(), "song");
        if sent.len() - acknowledged > 10 {
            acknowledged += acknowledge(&mut client);
        }
    }
    while acknowledged < sent.len() {
        acknowledged += acknowledge(&mut client);
    }
    publish(&mut client, sent.len() + 1, "last");
    acknowledge(&mut client);
    client.write(&compose("disconnect", Version::V5, ""));
    sent
}

fn publish(client: &mut Client, number: usize, payload: &str) {
    let id = number % 60_000 + 1;
    let text = format!("publish canary/song q1 id={id} p={payload}-{number}");
    client.write(&compose(&text, Version::V5, ""));
}

fn acknowledge(client: &mut Client) -> usize {
    let packet = client.packet();
    assert_eq!((packet.name, &packet.codes[..]), ("puback", &[0][..]), "{}", packet.text());
    1
}

/// Reads until the last message.
fn listen(mut client: Client) -> Vec<Instant> {
    let mut heard = Vec::new();
    loop {
        let packet = match client.next() {
            Event::Packet(packet) => packet,
            other @ (Event::Closed | Event::Trouble(_)) => panic!("the canary got {other:?}"),
        };
        heard.push(Instant::now());
        assert_eq!(packet.name, "publish", "{}", packet.text());
        client.write(&compose(&format!("puback {}", packet.id), Version::V5, ""));
        let payload = String::from_utf8(packet.payload).unwrap();
        let (word, number) = payload.split_once('-').expect("the canary's own message");
        assert_eq!(number, heard.len().to_string(), "lost, repeated or out of order");
        if word == "last" {
            client.write(&compose("disconnect", Version::V5, ""));
            return heard;
        }
    }
}
