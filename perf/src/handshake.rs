//! CONNECT and SUBSCRIBE and their answers; the part of a client's life that is not measured hot.

use crate::wire::{Frame, kind};
use anyhow::{Context, Result, bail, ensure};
use culex::codec::{
    self, Connect, Disconnect, Packet, PacketId, Properties, Qos, Reason, RetainHandling,
    Subscribe, SubscribeFilter, SubscribeOptions, Version,
};
use std::num::NonZeroU16;

/// Filters of one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;

/// What CONNECT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// None is left over, and none outlives the connection.
    Transient,
    /// It outlives the connection (3.1.1).
    Durable,
    /// The same, and the broker has to know it already.
    Resumed,
}

/// Appends a CONNECT without keep-alive.
pub(crate) fn append_connect(
    client_id: &str,
    version: Version,
    session: Session,
    out: &mut Vec<u8>,
) {
    let connect = Connect {
        version,
        bridge: false,
        clean_start: session == Session::Transient,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id,
        will: None,
        username: None,
        password: None,
    };
    codec::encode(&Packet::Connect(connect), version, out);
}

/// Appends SUBSCRIBE packets for all `filters`; returns their number.
pub(crate) fn append_subscribes(
    filters: &[String],
    qos: Qos,
    version: Version,
    out: &mut Vec<u8>,
) -> usize {
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    let mut packet_id = NonZeroU16::MIN;
    for filters in filters.chunks(FILTERS_PER_PACKET) {
        let filters = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
        let properties = Properties::default();
        let subscribe = Subscribe { packet_id: PacketId(packet_id), properties, filters };
        codec::encode(&Packet::Subscribe(subscribe), version, out);
        packet_id = packet_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
    }
    filters.len().div_ceil(FILTERS_PER_PACKET)
}

/// Appends a DISCONNECT.
pub(crate) fn append_disconnect(version: Version, out: &mut Vec<u8>) {
    let disconnect =
        Disconnect { reason: Reason::NORMAL_DISCONNECTION, properties: Properties::default() };
    codec::encode(&Packet::Disconnect(disconnect), version, out);
}

/// Decodes the packet that starts at `bytes`, which [`Frame::split`] has found complete.
fn decode(bytes: &[u8], version: Version) -> Result<Packet<'_>> {
    let decoded = codec::decode(bytes, version, u32::MAX).context("the broker's packet")?;
    decoded.map(|(packet, _)| packet).context("the broker's packet ends early")
}

/// Reads a CONNACK; returns the server's Receive Maximum.
///
/// # Errors
/// If the server refused, has or has not a session against what is expected, or sent something
/// else.
pub(crate) fn accept_connack(
    bytes: &[u8],
    frame: Frame<'_>,
    resumed: bool,
    version: Version,
) -> Result<u16> {
    ensure!(frame.kind() == kind::CONNACK, "packet type {} instead of CONNACK", frame.kind());
    let Packet::Connack(connack) = decode(bytes, version)? else { bail!("no CONNACK") };
    ensure!(connack.reason == Reason::Success, "CONNECT refused: {:?}", connack.reason);
    ensure!(connack.session_present == resumed, "session present: {}", connack.session_present);
    Ok(connack.properties.receive_maximum().unwrap_or(u16::MAX))
}

/// Reads a SUBACK.
///
/// # Errors
/// If the server refused, granted less than `qos`, or sent something else.
pub(crate) fn accept_suback(
    bytes: &[u8],
    frame: Frame<'_>,
    qos: Qos,
    version: Version,
) -> Result<()> {
    ensure!(frame.kind() == kind::SUBACK, "packet type {} instead of SUBACK", frame.kind());
    let Packet::Suback(suback) = decode(bytes, version)? else { bail!("no SUBACK") };
    let granted = match qos {
        Qos::AtMostOnce => Reason::GRANTED_QOS0,
        Qos::AtLeastOnce => Reason::GrantedQos1,
        Qos::ExactlyOnce => Reason::GrantedQos2,
    };
    let other = suback.reasons.iter().find(|&&reason| reason != granted);
    ensure!(other.is_none(), "SUBSCRIBE answered {other:?}");
    Ok(())
}
