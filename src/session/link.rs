//! The sending half of one connection: what the client allows, and the output that grows.

use super::alias::{AliasUse, AliasesOut};
use super::counters::{Counters, DropCause};
use super::layouts::{Face, Layouts, plain, publish_out};
use super::message::Publication;
use super::offer::Offer;
use super::output::Output;
use crate::codec::{self, AckKind, Packet, PacketId, Reason, Version};
use crate::topic::Mount;
use shards::Millis;
use std::rc::Rc;

/// What a session needs of its current connection in order to send.
#[derive(Debug)]
pub struct Link {
    /// Version of the connection.
    pub version: Version,
    /// Most `QoS` 1/2 PUBLISH packets without acknowledgement: the client's Receive Maximum,
    /// capped.
    pub window: u16,
    /// Bytes without acknowledgement from which on no further `QoS` 1/2 PUBLISH leaves.
    pub window_bytes: usize,
    /// The client's Maximum Packet Size. [MQTT-3.1.2-24]
    pub packet_bytes_max: u32,
    /// Unsent bytes above which `QoS` 0 is dropped and `QoS` 1/2 waits in the queue.
    pub output_bytes_max: usize,
    /// Bytes that were handed to the network and have not left.
    pub unsent_bytes: usize,
    /// Aliases towards the client, if it allows any.
    pub aliases: Option<Box<AliasesOut>>,
    /// What the client was told in CONNACK; `None` before it.
    pub offer: Option<Rc<Offer>>,
    /// Bytes for the next send.
    pub output: Output,
}

/// How one PUBLISH differs from the layout that it shares with others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Retransmission. [MQTT-3.3.1-1]
    pub dup: bool,
    /// Identifiers of the matching subscriptions. [MQTT-3.3.4-3]
    pub identifiers: &'a [u32],
}

impl Link {
    /// A connection before CONNECT: no limits of the client are known yet.
    pub fn new(output_bytes_max: usize) -> Self {
        Link {
            version: Version::V311,
            window: u16::MAX,
            window_bytes: usize::MAX,
            packet_bytes_max: u32::MAX,
            output_bytes_max,
            unsent_bytes: 0,
            aliases: None,
            offer: None,
            output: Output::default(),
        }
    }

    /// What the client's topics begin with within the broker.
    pub fn mount(&self) -> Option<&Mount> {
        self.offer.as_ref()?.mount.as_ref()
    }

    /// More messages may be written; below the mark a message of any size may be.
    pub fn has_room(&self) -> bool {
        self.output.total_bytes() + self.unsent_bytes < self.output_bytes_max
    }

    /// Writes one PUBLISH.
    ///
    /// # Errors
    /// Why it is dropped: it passes the client's Maximum Packet Size, or has a topic that the
    /// clients of this listener do not see. Nothing was written.
    pub fn publish(
        &mut self,
        message: &Publication<'_>,
        face: Face,
        extra: Extra<'_>,
        layouts: &mut Layouts,
        at: (Millis, &mut Counters),
    ) -> Result<(), DropCause> {
        let (now, counters) = at;
        let mount = self.mount();
        let individual =
            extra.dup || !extra.identifiers.is_empty() || self.aliases.is_some() || mount.is_some();
        if individual || self.packet_bytes_max != u32::MAX {
            let mut packet = publish_out(message, face, now);
            packet.dup = extra.dup;
            packet.subscription_ids = extra.identifiers;
            if let Some(mount) = mount {
                packet.topic = mount.strip(packet.topic).ok_or(DropCause::Denied)?;
            }
            let aliased =
                self.aliases.as_deref().map(|aliases| aliases.look_up(message.topic.as_str()));
            match aliased {
                Some(AliasUse::Define(alias)) => packet.topic_alias = Some(alias),
                Some(AliasUse::Known(alias)) => {
                    packet.topic_alias = Some(alias);
                    packet.topic = "";
                }
                Some(AliasUse::None) | None => {}
            }
            let total_bytes = packet.total_bytes(face.version);
            if u32::try_from(total_bytes).map_or(true, |bytes| bytes > self.packet_bytes_max) {
                return Err(DropCause::TooLarge);
            }
            plain(message, &packet, face.version, &mut self.output);
            // Only a packet that leaves may teach the client an alias.
            if let (Some(AliasUse::Define(alias)), Some(aliases)) = (aliased, &mut self.aliases) {
                aliases.defined(message.topic.as_str(), alias);
            }
        } else {
            layouts.write(message, face, now, &mut self.output);
        }
        counters.packets_sent += 1;
        counters.publish_sent += 1;
        counters.publish_sent_bytes += message.payload.len() as u64;
        Ok(())
    }

    /// Writes an acknowledgement.
    pub fn ack(&mut self, kind: AckKind, id: PacketId, reason: Reason, counters: &mut Counters) {
        let start = self.output.bytes.len();
        codec::encode_ack(kind, id, reason, self.version, &mut self.output.bytes);
        self.output.note_control(start);
        counters.packets_sent += 1;
    }

    /// Writes any other packet, unless it passes the client's Maximum Packet Size.
    pub fn packet(&mut self, packet: &Packet<'_>, counters: &mut Counters) -> bool {
        let start = self.output.bytes.len();
        codec::encode(packet, self.version, &mut self.output.bytes);
        let bytes = self.output.bytes.len() - start;
        if u32::try_from(bytes).map_or(true, |bytes| bytes > self.packet_bytes_max) {
            self.output.bytes.truncate(start);
            return false;
        }
        self.output.note_control(start);
        counters.packets_sent += 1;
        true
    }
}
