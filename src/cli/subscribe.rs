//! `culex sub`: subscribes and prints what comes.
//!
//! Promise: a message is acknowledged after it was written to stdout; stdout is flushed whenever no
//! more input is ready; a QoS 2 message is printed once, when its PUBLISH comes first.

use super::client::{Client, FLUSH_BYTES, Link, Woken, protocol, timed_out, with_reason};
use super::clock::{now_ms, wall};
use super::connection::{ConnectionArgs, Target, qos};
use super::failure::{Failure, status};
use super::format::{Format, Message};
use crate::codec::{
    Ack, Packet, PacketId, Properties, Publish, Qos, Reason, RetainHandling, Suback, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe,
};
use crate::topic::{Filter, TopicName};
use rustix::event::PollFlags;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write, stdout};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Filters have no limit here; the broker has one.
const LEVELS_MAX: usize = usize::MAX;

/// Subscribes and prints messages.
///
/// Options have the letters and meanings of `mosquitto_sub`. Exit status: 0 done, the CONNACK code
/// if refused, 7 connection lost, 12 all subscriptions refused, 14 system error (connection
/// refused), 15 no such host, 27 time of -W is over or no answer, 2 protocol error, 1 wrong
/// options.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true, version)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option")]
pub(super) struct Args {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Topic filter to subscribe to; may be repeated.
    #[arg(short, long, allow_hyphen_values = true)]
    topic: Vec<String>,
    /// Highest quality of service of messages.
    #[arg(short, long, value_name = "0|1|2", value_parser = qos, default_value = "0")]
    qos: Qos,
    /// Topic filter to unsubscribe from; may be repeated.
    #[arg(short = 'U', long, value_name = "TOPIC", allow_hyphen_values = true)]
    unsubscribe: Vec<String>,
    /// Does not print messages that match this filter; may be repeated.
    #[arg(short = 'T', long, value_name = "TOPIC", allow_hyphen_values = true)]
    filter_out: Vec<String>,
    /// Ends after this many messages.
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ends after this many seconds, with status 27.
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout_s: Option<u32>,
    /// Ends when the subscriptions are acknowledged.
    #[arg(short = 'E')]
    exit_after_subscribe: bool,
    /// Prints the topic before the payload.
    #[arg(short, long)]
    verbose: bool,
    /// No line end after a payload.
    #[arg(short = 'N')]
    no_line_end: bool,
    /// What to print: %t topic, %p payload, %q QoS, %r retain, %j JSON, and more.
    #[arg(short = 'F', value_name = "FORMAT", value_parser = Format::parse)]
    #[arg(allow_hyphen_values = true)]
    format: Option<Format>,
    /// Does not print retained messages.
    #[arg(short = 'R')]
    no_retained: bool,
    /// Prints retained messages only and ends at the first other one.
    #[arg(long, conflicts_with = "no_retained")]
    retained_only: bool,
    /// Removes each retained message that comes from the server.
    #[arg(long, conflicts_with = "no_retained")]
    remove_retained: bool,
    /// Messages keep the RETAIN flag of their publisher (5.0).
    #[arg(long)]
    retain_as_published: bool,
    /// When retained messages come: always, new (subscriptions only), never (5.0).
    #[arg(long, value_name = "WHEN", value_parser = retain_handling, default_value = "always")]
    retain_handling: RetainHandling,
}

impl Args {
    /// Are errors not to be printed.
    pub(super) fn is_quiet(&self) -> bool {
        self.connection.quiet
    }
}

fn retain_handling(text: &str) -> Result<RetainHandling, String> {
    match text {
        "always" => Ok(RetainHandling::Always),
        "new" => Ok(RetainHandling::IfNew),
        "never" => Ok(RetainHandling::Never),
        _ => Err("always, new or never".to_owned()),
    }
}

/// Subscribes, and prints until something ends it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let deadline_ms = args.timeout_s.map(|seconds| now_ms() + u64::from(seconds) * 1000);
    let target = args.connection.target()?;
    let mut topics: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    topics.extend(target.topic.as_deref());
    if topics.is_empty() && args.unsubscribe.is_empty() {
        return Err(Failure::usage("a topic is needed (-t, -U or -L)"));
    }
    parse_filters("-t", &topics)?;
    let unsubscribe: Vec<&str> = args.unsubscribe.iter().map(String::as_str).collect();
    parse_filters("-U", &unsubscribe)?;
    let hidden: Vec<&str> = args.filter_out.iter().map(String::as_str).collect();
    let mut subscriber = Subscriber {
        args,
        target: &target,
        hidden: parse_filters("-T", &hidden)?,
        output: Vec::new(),
        printed: 0,
        answers_missing: 0,
        granted: topics.is_empty(),
        ended: false,
        aliases: BTreeMap::new(),
        received: BTreeSet::new(),
        clearing: BTreeSet::new(),
    };
    let signals = signals().map_err(|error| Failure::system("signals", &error))?;
    let mut client = Client::connect(&target, deadline_ms)?;
    subscriber.ask(client.link(), &topics, &unsubscribe);
    let end = subscriber.run(&mut client, deadline_ms, &signals);
    match end.as_ref().map_err(|failure| failure.status) {
        Ok(()) | Err(status::TIMEOUT | status::DENIED) => {}
        // What was not written must not be acknowledged.
        Err(status::READER_GONE) => client.link().discard(),
        Err(_) => return end,
    }
    // The server may close first; what this command had to do is done.
    let _gone = client.disconnect(&target.properties.disconnect);
    end
}

fn parse_filters(option: &str, filters: &[&str]) -> Result<Vec<Filter>, Failure> {
    let parse = |text: &&str| {
        Filter::parse(text, LEVELS_MAX)
            .map_err(|error| Failure::usage(format!("{option} {text}: {error}")))
    };
    filters.iter().map(parse).collect()
}

/// A socket that becomes readable when the process should end.
fn signals() -> std::io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, writer.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, writer)?;
    Ok(reader)
}

struct Subscriber<'a> {
    args: &'a Args,
    target: &'a Target,
    /// Filters of `-T`.
    hidden: Vec<Filter>,
    /// Text that is not on stdout yet.
    output: Vec<u8>,
    printed: u64,
    /// SUBACK and UNSUBACK that did not come yet.
    answers_missing: usize,
    /// One filter at least was accepted.
    granted: bool,
    /// Nothing more is to be printed.
    ended: bool,
    /// Topics of the server's aliases. [MQTT-3.3.2-12]
    aliases: BTreeMap<u16, String>,
    /// QoS 2 messages printed and not released.
    received: BTreeSet<PacketId>,
    /// Own messages of `--remove-retained` that are not acknowledged.
    clearing: BTreeSet<PacketId>,
}

impl Subscriber<'_> {
    fn ask(&mut self, link: &mut Link, topics: &[&str], unsubscribe: &[&str]) {
        let options = SubscribeOptions {
            qos: self.args.qos,
            no_local: false,
            retain_as_published: self.args.retain_as_published,
            retain_handling: self.args.retain_handling,
        };
        let properties = &self.target.properties;
        if !topics.is_empty() {
            let filters = topics.iter().map(|&filter| SubscribeFilter { filter, options });
            self.answers_missing += 1;
            let packet_id = link.next_packet_id(|_| false);
            link.send(&Packet::Subscribe(Subscribe {
                packet_id,
                properties: properties.subscribe.as_properties(),
                filters: filters.collect(),
            }));
        }
        if !unsubscribe.is_empty() {
            self.answers_missing += 1;
            let packet_id = link.next_packet_id(|_| false);
            link.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: properties.unsubscribe.as_properties(),
                filters: unsubscribe.to_vec(),
            }));
        }
    }

    fn run(
        &mut self,
        client: &mut Client,
        deadline_ms: Option<u64>,
        signals: &UnixStream,
    ) -> Result<(), Failure> {
        let stdout = stdout();
        // An empty set of flags still tells that the reader of a pipe has gone.
        let watched = [(signals.as_fd(), PollFlags::IN), (stdout.as_fd(), PollFlags::empty())];
        loop {
            // Stdout first: what is acknowledged must have been written.
            let drained = client.drain(|link, packet| self.on_packet(link, packet));
            self.flush()?;
            if drained?.is_break() || self.is_done() {
                return Ok(());
            }
            match client.wait(deadline_ms, &watched)? {
                Woken::Socket => {}
                Woken::Other(_) => return Ok(()),
                Woken::Time => return Err(timed_out()),
            }
        }
    }

    /// Is there nothing to wait for.
    fn is_done(&self) -> bool {
        let only_asked = self.args.exit_after_subscribe || self.args.topic_count(self.target) == 0;
        let asked = only_asked && self.answers_missing == 0;
        (asked || self.ended) && self.clearing.is_empty()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "no other packet may come")]
    fn on_packet(
        &mut self,
        link: &mut Link,
        packet: Packet<'_>,
    ) -> Result<ControlFlow<()>, Failure> {
        match packet {
            Packet::Publish(publish) => self.on_publish(link, &publish)?,
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.packet_id);
                acknowledge(link, Packet::Pubcomp, ack.packet_id);
            }
            Packet::Puback(ack) => {
                self.clearing.remove(&ack.packet_id);
            }
            Packet::Suback(suback) => self.on_suback(&suback)?,
            Packet::Unsuback(unsuback) => {
                self.answers_missing = self.answers_missing.saturating_sub(1);
                for reason in unsuback.reasons.iter().filter(|reason| reason.is_error()) {
                    self.warn("unsubscribing", *reason, unsuback.properties);
                }
            }
            other => return Err(protocol(&format!("unexpected packet {other:?}"))),
        }
        if self.ended && self.is_done() {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_suback(&mut self, suback: &Suback<'_>) -> Result<(), Failure> {
        self.answers_missing = self.answers_missing.saturating_sub(1);
        self.granted |= suback.reasons.iter().any(|reason| !reason.is_error());
        if !self.granted {
            let reason = suback.reasons.first().copied().unwrap_or(Reason::UnspecifiedError);
            let why = with_reason(reason, suback.properties);
            let message = format!("all subscriptions were refused: {why}");
            return Err(Failure::new(status::DENIED, message));
        }
        for reason in suback.reasons.iter().filter(|reason| reason.is_error()) {
            self.warn("subscribing", *reason, suback.properties);
        }
        Ok(())
    }

    fn on_publish(&mut self, link: &mut Link, publish: &Publish<'_>) -> Result<(), Failure> {
        if self.ended {
            // Not acknowledged: it stays in the session for the next run.
            return Ok(());
        }
        let topic = self.topic(publish)?;
        match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => {
                self.print(link, &topic, publish)?;
                acknowledge(link, Packet::Puback, id);
            }
            (Qos::ExactlyOnce, Some(id)) => {
                if self.received.insert(id) {
                    self.print(link, &topic, publish)?;
                }
                acknowledge(link, Packet::Pubrec, id);
            }
            (_, _) => self.print(link, &topic, publish)?,
        }
        if self.output.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn topic(&mut self, publish: &Publish<'_>) -> Result<String, Failure> {
        let Some(alias) = publish.topic_alias else { return Ok(publish.topic.to_owned()) };
        if !publish.topic.is_empty() {
            self.aliases.insert(alias.get(), publish.topic.to_owned());
            return Ok(publish.topic.to_owned());
        }
        let known = self.aliases.get(&alias.get()).cloned();
        known.ok_or_else(|| protocol(&format!("topic alias {alias} has no topic")))
    }

    fn print(
        &mut self,
        link: &mut Link,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<(), Failure> {
        if self.args.retained_only && !publish.retain {
            self.ended = true;
            return Ok(());
        }
        let name = TopicName::parse(topic).map_err(|error| protocol(&error.to_string()))?;
        let hidden = self.hidden.iter().any(|filter| filter.matches(name));
        if hidden || (publish.retain && self.args.no_retained) {
            return Ok(());
        }
        if publish.retain && self.args.remove_retained {
            self.clear(link, topic);
        }
        self.write(topic, publish);
        self.printed += 1;
        self.ended = self.args.count.is_some_and(|count| self.printed >= count);
        Ok(())
    }

    fn write(&mut self, topic: &str, publish: &Publish<'_>) {
        let out = &mut self.output;
        let line_end = if self.args.no_line_end { "" } else { "\n" };
        if let Some(format) = &self.args.format {
            let message = Message {
                topic,
                payload: publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                packet_id: publish.packet_id.map_or(0, PacketId::get),
                properties: publish.properties,
                arrival: wall(),
            };
            if format.write(&message, out).is_err() && !self.target.quiet {
                super::say(&format!("culex sub: the payload on topic {topic} is not JSON"));
            }
        } else {
            if self.args.verbose {
                out.extend_from_slice(topic.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(publish.payload);
        }
        out.extend_from_slice(line_end.as_bytes());
    }

    /// Removes a retained message by an empty one.
    fn clear(&mut self, link: &mut Link, topic: &str) {
        if self.clearing.len() >= usize::from(self.target.window.min(link.server.receive_maximum)) {
            // At QoS 0 there is no window to pass.
            link.send(&clearing_message(topic, None));
            return;
        }
        let id = link.next_packet_id(|id| self.clearing.contains(&id));
        self.clearing.insert(id);
        link.send(&clearing_message(topic, Some(id)));
    }

    /// Writes to stdout; a reader that has gone ends the command quietly.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut stdout = stdout().lock();
        let written = stdout.write_all(&self.output).and_then(|()| stdout.flush());
        self.output.clear();
        written.map_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                return Failure::new(status::READER_GONE, "");
            }
            Failure::system("stdout", &error)
        })
    }

    fn warn(&self, what: &str, reason: Reason, properties: Properties<'_>) {
        if !self.target.quiet {
            let why = with_reason(reason, properties);
            super::say(&format!("culex sub: warning: {what} was refused for one topic: {why}"));
        }
    }
}

fn clearing_message(topic: &str, packet_id: Option<PacketId>) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce },
        retain: true,
        topic,
        packet_id,
        properties: Properties::default(),
        topic_alias: None,
        message_expiry_s: None,
        payload: b"",
    })
}

fn acknowledge(link: &mut Link, kind: fn(Ack<'static>) -> Packet<'static>, packet_id: PacketId) {
    let (reason, properties) = (Reason::Success, Properties::default());
    link.send(&kind(Ack { packet_id, reason, properties }));
}

impl Args {
    fn topic_count(&self, target: &Target) -> usize {
        self.topic.len() + usize::from(target.topic.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Test {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("sub").chain(line.split_whitespace());
        Test::try_parse_from(words).map(|test| test.args).map_err(|error| error.to_string())
    }

    #[test]
    fn letters_mean_what_they_mean_in_mosquitto() {
        let args = parse(
            "-t a -t b/# -q 1 -U c -T d -T e -C 3 -W 9 -E -v -N -F %t -R --retain-as-published \
             --retain-handling new",
        )
        .expect("valid");
        assert_eq!(args.topic, ["a", "b/#"]);
        assert_eq!((args.unsubscribe.len(), args.filter_out.len()), (1, 2));
        assert_eq!((args.count, args.timeout_s), (Some(3), Some(9)));
        assert!(args.exit_after_subscribe && args.verbose && args.no_line_end);
        assert!(args.no_retained && args.retain_as_published);
        assert!(args.format.is_some());
        assert_eq!((args.qos, args.retain_handling), (Qos::AtLeastOnce, RetainHandling::IfNew));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("-F %z", "no such part %z"),
            ("-C 0", "0"),
            ("-W 0", "0"),
            ("-q 3", "QoS is 0, 1 or 2"),
            ("--retain-handling no", "always, new or never"),
            ("-R --retained-only", "cannot be used with"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
        let failure = |line| run(&parse(line).expect("options")).expect_err("filters").message;
        assert_eq!(failure("-v"), "a topic is needed (-t, -U or -L)");
        assert!(failure("-t a/#/b").starts_with("-t a/#/b: "));
        assert!(failure("-t a -T +x").starts_with("-T +x: "));
    }
}
