//! `culex pub`: publishes one message, one message many times, or one per line of stdin.
//!
//! Promise: at most `-M` and the server's Receive Maximum QoS 1 and 2 messages are unacknowledged
//! (MQTT 5.0 §4.9); stdin is read only while the window is open; the command ends when everything
//! is acknowledged.

use super::client::{Client, Link, Server, Woken, with_reason};
use super::clock::now_ms;
use super::connection::{ConnectionArgs, Target, qos};
use super::failure::{Failure, status};
use crate::codec::{
    Ack, PACKET_BYTES_MAX, Packet, PacketId, Properties, Publish, PublishOut, Qos, Reason,
};
use crate::topic::TopicName;
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::io::{BufRead, Read, StdinLock, stdin};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

/// Publishes messages.
///
/// Options have the letters and meanings of `mosquitto_pub`. Exit status: 0 done, the CONNACK code
/// if refused, 7 connection lost, 14 system error (connection refused, no such file), 15 no such
/// host, 27 no answer, 2 protocol error, 24, 25, 28 the server does not take this QoS, packet size,
/// RETAIN, 1 wrong options.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true, version)]
pub(super) struct Args {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Topic to publish to.
    #[arg(short, long, allow_hyphen_values = true)]
    topic: Option<String>,
    /// Quality of service.
    #[arg(short, long, value_name = "0|1|2", value_parser = qos, default_value = "0")]
    qos: Qos,
    /// The server keeps the message for later subscribers.
    #[arg(short, long)]
    retain: bool,
    #[command(flatten)]
    source: SourceArgs,
    /// Sends the message of -m, -f, -s or -n this many times.
    #[arg(long, value_name = "COUNT", conflicts_with = "stdin_line")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1)]
    repeat: u64,
    /// Seconds between two of them, fractions allowed.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_ms, default_value = "0")]
    repeat_delay: u64,
}

/// What is published.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// Payload.
    #[arg(short, long, allow_hyphen_values = true)]
    message: Option<String>,
    /// Payload is the content of this file.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Each line of stdin is a message.
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// Payload is all of stdin.
    #[arg(short = 's', long)]
    stdin_file: bool,
    /// Empty payload.
    #[arg(short, long)]
    null_message: bool,
}

impl Args {
    /// Are errors not to be printed.
    pub(super) fn is_quiet(&self) -> bool {
        self.connection.quiet
    }
}

/// Publishes what the options say.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let target = args.connection.target()?;
    let Some(topic) = args.topic.as_deref().or(target.topic.as_deref()) else {
        return Err(Failure::usage("a topic is needed (-t or -L)"));
    };
    TopicName::parse(topic).map_err(|error| Failure::usage(format!("-t {topic}: {error}")))?;
    let mut source = args.source()?;
    let mut client = Client::connect(&target, None)?;
    let server = client.link().server;
    check_server(args, server)?;
    let mut publisher = Publisher {
        topic,
        qos: args.qos,
        retain: args.retain,
        target: &target,
        window: usize::from(target.window.min(server.receive_maximum)),
        inflight: BTreeMap::new(),
        alias_known: false,
    };
    publisher.check_alias(server)?;
    publisher.run(&mut client, &mut source)?;
    client.disconnect(&target.properties.disconnect)
}

/// What CONNACK rules out. [MQTT-3.2.2-11] [MQTT-3.2.2-14]
fn check_server(args: &Args, server: Server) -> Result<(), Failure> {
    if args.qos > server.maximum_qos {
        let maximum = server.maximum_qos as u8;
        let message = format!("the server supports QoS up to {maximum}");
        return Err(Failure::new(status::QOS_NOT_SUPPORTED, message));
    }
    if args.retain && !server.retain_available {
        let message = "the server keeps no retained messages";
        return Err(Failure::new(status::RETAIN_NOT_SUPPORTED, message));
    }
    Ok(())
}

impl Args {
    fn source(&self) -> Result<Source, Failure> {
        let payload = if self.source.stdin_line {
            return Ok(Source::Lines(Lines::new()));
        } else if let Some(message) = &self.source.message {
            message.clone().into_bytes()
        } else if let Some(path) = &self.source.file {
            std::fs::read(path).map_err(|error| Failure::system(path.display(), &error))?
        } else if self.source.stdin_file {
            let mut all = Vec::new();
            stdin().lock().read_to_end(&mut all).map_err(|error| stdin_failed(&error))?;
            all
        } else {
            Vec::new()
        };
        check_bytes(payload.len())?;
        let (left, delay_ms) = (self.repeat, self.repeat_delay);
        Ok(Source::Repeat { payload: Rc::from(payload), left, delay_ms, due_ms: 0 })
    }
}

/// Where payloads come from.
enum Source {
    Repeat { payload: Rc<[u8]>, left: u64, delay_ms: u64, due_ms: u64 },
    Lines(Lines),
}

/// What a source can give right now.
enum Next {
    Payload(Rc<[u8]>),
    /// Nothing before this time.
    At(u64),
    /// Nothing before stdin has more.
    Input,
    End,
}

impl Source {
    fn next(&mut self) -> Next {
        match self {
            Self::Repeat { left: 0, .. } => Next::End,
            Self::Repeat { due_ms, .. } if now_ms() < *due_ms => Next::At(*due_ms),
            Self::Repeat { payload, left, delay_ms, due_ms } => {
                *left -= 1;
                *due_ms = now_ms() + *delay_ms;
                Next::Payload(payload.clone())
            }
            Self::Lines(lines) => lines.next(),
        }
    }

    fn read_input(&mut self) -> Result<(), Failure> {
        match self {
            Self::Repeat { .. } => Ok(()),
            Self::Lines(lines) => lines.read(),
        }
    }
}

/// Lines of stdin.
struct Lines {
    stdin: StdinLock<'static>,
    buffer: Vec<u8>,
    /// Where the first line that was not given out begins.
    start: usize,
    /// Up to here there is no line end after `start`.
    searched: usize,
    ended: bool,
}

impl Lines {
    fn new() -> Self {
        Self { stdin: stdin().lock(), buffer: Vec::new(), start: 0, searched: 0, ended: false }
    }

    fn next(&mut self) -> Next {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let end = match unseen.iter().position(|byte| *byte == b'\n') {
            Some(index) => self.searched + index,
            None if !self.ended => {
                self.searched = self.buffer.len();
                return Next::Input;
            }
            // The last line need not have an end.
            None if self.start < self.buffer.len() => self.buffer.len(),
            None => return Next::End,
        };
        let line = self.buffer.get(self.start..end).unwrap_or_default();
        let payload = Rc::from(line);
        self.start = (end + 1).min(self.buffer.len());
        self.searched = self.start;
        Next::Payload(payload)
    }

    /// One read; whatever it gives is taken out of the reader, so that polling tells the truth.
    fn read(&mut self) -> Result<(), Failure> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let bytes = match self.stdin.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(stdin_failed(&error)),
        };
        let count = bytes.len();
        self.ended = count == 0;
        self.buffer.extend_from_slice(bytes);
        self.stdin.consume(count);
        check_bytes(self.buffer.len())
    }
}

struct Publisher<'a> {
    topic: &'a str,
    qos: Qos,
    retain: bool,
    target: &'a Target,
    window: usize,
    inflight: BTreeMap<PacketId, Stage>,
    /// The server has been told the topic of the alias.
    alias_known: bool,
}

/// What an unacknowledged message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// PUBACK or PUBREC.
    Published,
    /// PUBCOMP.
    Released,
}

impl Publisher<'_> {
    fn run(&mut self, client: &mut Client, source: &mut Source) -> Result<(), Failure> {
        loop {
            let (mut until_ms, mut input, mut done) = (None, false, false);
            while self.inflight.len() < self.window {
                match source.next() {
                    Next::Payload(payload) => self.publish(client.link(), &payload)?,
                    Next::At(due_ms) => {
                        until_ms = Some(due_ms);
                        break;
                    }
                    Next::Input => {
                        input = true;
                        break;
                    }
                    Next::End => {
                        done = self.inflight.is_empty();
                        break;
                    }
                }
            }
            if done {
                return Ok(());
            }
            let stdin = stdin();
            let watched = [(stdin.as_fd(), PollFlags::IN)];
            match client.wait(until_ms, if input { &watched } else { &[] })? {
                Woken::Socket => {
                    let _flow = client.drain(|link, packet| {
                        self.on_packet(link, &packet);
                        Ok(ControlFlow::Continue(()))
                    })?;
                }
                Woken::Other(_) => source.read_input()?,
                Woken::Time => {}
            }
        }
    }

    fn publish(&mut self, link: &mut Link, payload: &[u8]) -> Result<(), Failure> {
        let packet_id = (self.qos > Qos::AtMostOnce)
            .then(|| link.next_packet_id(|id| self.inflight.contains_key(&id)));
        let properties = self.target.properties.publish.as_properties();
        let topic_alias = self.target.properties.topic_alias;
        let topic = if self.alias_known { "" } else { self.topic };
        self.check_packet(link, payload.len(), properties)?;
        link.send(&Packet::Publish(Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic,
            packet_id,
            properties,
            topic_alias,
            message_expiry_s: None,
            payload,
        }));
        self.alias_known = topic_alias.is_some();
        if let Some(id) = packet_id {
            self.inflight.insert(id, Stage::Published);
        }
        link.flush_if_full()
    }

    /// [MQTT-3.2.2-15]
    fn check_packet(
        &self,
        link: &Link,
        payload_bytes: usize,
        properties: Properties<'_>,
    ) -> Result<(), Failure> {
        // The largest head there can be: the topic in full, an identifier, an alias.
        let head = PublishOut {
            topic: self.topic,
            payload: &[],
            qos: Qos::AtLeastOnce,
            dup: false,
            retain: false,
            packet_id: PacketId::new(1),
            message_expiry_s: None,
            topic_alias: self.target.properties.topic_alias,
            subscription_ids: &[],
            forwarded: properties.raw(),
        };
        let bytes = head.total_bytes(link.version()) + payload_bytes;
        let max = link.server.packet_bytes_max;
        if u32::try_from(bytes).is_ok_and(|bytes| bytes <= max) {
            return Ok(());
        }
        let message = format!("the message has {bytes} bytes, the server accepts {max}");
        Err(Failure::new(status::PACKET_TOO_LARGE, message))
    }

    /// [MQTT-3.3.2-9]
    fn check_alias(&self, server: Server) -> Result<(), Failure> {
        let (alias, max) = (self.target.properties.topic_alias, server.topic_alias_maximum);
        match alias {
            Some(alias) if alias.get() > max => Err(Failure::usage(format!(
                "-D publish topic-alias {alias}: the server accepts aliases up to {max}"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Messages for a session of this identifier are not for us; unacknowledged, they stay in it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a publisher looks at acknowledgements")]
    fn on_packet(&mut self, link: &mut Link, packet: &Packet<'_>) {
        match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.inflight.remove(&ack.packet_id);
                self.warn(ack);
            }
            Packet::Pubrec(ack) if ack.reason.is_error() => {
                self.inflight.remove(&ack.packet_id);
                self.warn(ack);
            }
            Packet::Pubrec(ack) => {
                if let Some(stage) = self.inflight.get_mut(&ack.packet_id) {
                    *stage = Stage::Released;
                }
                let (reason, properties) = (Reason::Success, Properties::default());
                link.send(&Packet::Pubrel(Ack { packet_id: ack.packet_id, reason, properties }));
            }
            _ => {}
        }
    }

    /// Like Mosquitto's, a refused message is told and does not change the exit status.
    fn warn(&self, ack: &Ack<'_>) {
        if !ack.reason.is_error() || self.target.quiet {
            return;
        }
        let (id, why) = (ack.packet_id.get(), with_reason(ack.reason, ack.properties));
        super::say(&format!("culex pub: warning: message {id} was refused: {why}"));
    }
}

fn stdin_failed(error: &std::io::Error) -> Failure {
    Failure::system("stdin", error)
}

/// No packet can hold more, and no line need be longer.
fn check_bytes(bytes: usize) -> Result<(), Failure> {
    if u32::try_from(bytes).is_ok_and(|bytes| bytes < PACKET_BYTES_MAX) {
        return Ok(());
    }
    let message = format!("a message has at most {PACKET_BYTES_MAX} bytes");
    Err(Failure::new(status::PACKET_TOO_LARGE, message))
}

/// Seconds with fractions, as milliseconds.
fn seconds_ms(text: &str) -> Result<u64, String> {
    let seconds =
        text.parse::<f64>().ok().and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
    seconds
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
        .filter(|ms| u32::try_from(*ms).is_ok())
        .ok_or_else(|| "a number of seconds, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Version;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Test {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("pub").chain(line.split_whitespace());
        Test::try_parse_from(words).map(|test| test.args).map_err(|error| error.to_string())
    }

    #[test]
    fn letters_mean_what_they_mean_in_mosquitto() {
        let args = parse("-t a/b -m -5 -q 2 -r --repeat 3 --repeat-delay 0.25").expect("valid");
        assert_eq!(args.topic.as_deref(), Some("a/b"));
        assert_eq!(args.source.message.as_deref(), Some("-5"));
        assert_eq!((args.qos, args.retain), (Qos::ExactlyOnce, true));
        assert_eq!((args.repeat, args.repeat_delay), (3, 250));
        assert!(parse("-t a -n").expect("valid").source.null_message);
        assert!(parse("-t a -l").expect("valid").source.stdin_line);
        assert!(parse("-t a -s").expect("valid").source.stdin_file);
        assert!(parse("-t a -f x").expect("valid").source.file.is_some());
    }

    #[test]
    fn exactly_one_source_is_needed() {
        assert!(parse("-t a").is_err());
        assert!(parse("-t a -m x -n").is_err());
        assert!(parse("-t a -l --repeat 2").is_err());
        assert!(parse("-t a -n --repeat 0").is_err());
        assert!(parse("-t a -n --repeat-delay -1").is_err());
    }

    #[test]
    fn properties_take_three_or_four_words() {
        let args = parse("-t a -D publish user-property k v -D publish content-type x -m y");
        let target = args.expect("valid").connection.target().expect("valid");
        assert_eq!(target.version, Version::V5);
        assert_eq!(target.properties.publish.as_properties().iter().count(), 2);
    }

    fn lines(text: &str, ended: bool) -> Vec<String> {
        let buffer = text.as_bytes().to_vec();
        let mut lines = Lines { buffer, ended, ..Lines::new() };
        let mut found = Vec::new();
        loop {
            found.push(match lines.next() {
                Next::Payload(line) => String::from_utf8(line.to_vec()).expect("text"),
                Next::Input => "(more)".to_owned(),
                Next::End | Next::At(_) => return found,
            });
            if found.last().is_some_and(|last| last == "(more)") {
                return found;
            }
        }
    }

    #[test]
    fn each_line_is_a_message() {
        assert_eq!(lines("a\n\nb\n", true), ["a", "", "b"]);
        assert_eq!(lines("a\nb", true), ["a", "b"]);
        assert_eq!(lines("a\nb", false), ["a", "(more)"]);
        assert_eq!(lines("", true), [""; 0]);
    }
}
