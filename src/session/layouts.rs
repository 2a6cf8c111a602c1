//! One encoding per layout of an outgoing PUBLISH, shared by all receivers of a message.

use super::message::Publication;
use super::output::{Output, SHARED_PAYLOAD_BYTES_MIN};
use crate::codec::{PacketId, PublishOut, Qos, Version};
use shards::Millis;

/// Layouts differ in version (5.0 or not), `QoS` and RETAIN; the packet id is patched in.
const LAYOUTS: usize = 12;

/// Encodings of the message that is being fanned out. The first receiver of a layout is written
/// directly; from the second on, the bytes are encoded once here and copied.
#[derive(Debug, Default)]
pub struct Layouts {
    seen: u16,
    encoded: u16,
    frames: [Frame; LAYOUTS],
}

/// One encoded PUBLISH.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Where the packet identifier stands.
    id_at: usize,
}

/// What differs from receiver to receiver within one layout, and picks the layout.
#[derive(Clone, Copy, Debug)]
pub struct Face {
    /// Version of the receiver's connection.
    pub version: Version,
    /// `QoS` of this delivery.
    pub qos: Qos,
    /// RETAIN flag of this delivery.
    pub retain: bool,
    /// Present for `QoS` > 0.
    pub packet_id: Option<PacketId>,
}

impl Layouts {
    /// Forgets the encodings: the next message comes. O(1).
    pub fn reset(&mut self) {
        self.seen = 0;
        self.encoded = 0;
    }

    /// Appends the PUBLISH to `output`. Not for packets with DUP, aliases or subscription
    /// identifiers: those are written by [`plain`].
    pub fn write(
        &mut self,
        message: &Publication<'_>,
        face: Face,
        now: Millis,
        output: &mut Output,
    ) {
        let index = face.index();
        let bit = 1_u16 << index;
        if self.encoded & bit == 0 && !self.encode(message, face, now, output) {
            return;
        }
        let Some(frame) = self.frames.get(index) else { return };
        let start = output.bytes.len();
        output.bytes.extend_from_slice(&frame.bytes);
        if let Some(id) = face.packet_id
            && let Some(place) = output.bytes.get_mut(start + frame.id_at..start + frame.id_at + 2)
        {
            place.copy_from_slice(&id.0.get().to_be_bytes());
        }
    }

    /// The first receivers of a layout. True: the packet is encoded, to be copied; false: it was
    /// written to `output`.
    fn encode(
        &mut self,
        message: &Publication<'_>,
        face: Face,
        now: Millis,
        output: &mut Output,
    ) -> bool {
        let packet = publish_out(message, face, now);
        if message.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
            plain(message, &packet, face.version, output);
            return false;
        }
        let index = face.index();
        let bit = 1_u16 << index;
        if self.seen & bit == 0 {
            self.seen |= bit;
            packet.encode(face.version, &mut output.bytes);
            return false;
        }
        let Some(frame) = self.frames.get_mut(index) else { return false };
        self.encoded |= bit;
        frame.bytes.clear();
        packet.encode(face.version, &mut frame.bytes);
        frame.id_at = packet.packet_id_offset(face.version).unwrap_or_default();
        true
    }
}

impl Face {
    fn index(self) -> usize {
        let version = usize::from(self.version == Version::V5);
        version * 6 + (self.qos as usize) * 2 + usize::from(self.retain)
    }
}

/// The outgoing packet without DUP, alias and identifiers.
pub(super) fn publish_out<'a>(
    message: &'a Publication<'_>,
    face: Face,
    now: Millis,
) -> PublishOut<'a> {
    PublishOut {
        topic: message.topic.as_str(),
        payload: message.payload,
        qos: face.qos,
        dup: false,
        retain: face.retain,
        packet_id: face.packet_id,
        message_expiry_s: message.expiry_left_s(now),
        topic_alias: None,
        subscription_ids: &[],
        forwarded: message.forwarded,
    }
}

/// Appends one PUBLISH; a large payload is shared instead of copied.
pub(super) fn plain(
    message: &Publication<'_>,
    packet: &PublishOut<'_>,
    version: Version,
    output: &mut Output,
) {
    if message.payload.len() >= SHARED_PAYLOAD_BYTES_MIN {
        packet.encode_head(version, &mut output.bytes);
        output.push_shared(message.owned().payload().clone());
    } else {
        packet.encode(version, &mut output.bytes);
    }
}
