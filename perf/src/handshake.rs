//! CONNECT and SUBSCRIBE and their answers; the part of a client's life that is not measured hot.

use crate::wire::{Frame, kind};
use anyhow::{Context, Result, bail, ensure};
use culex::codec::{
    self, Connect, Disconnect, Packet, PacketId, Properties, Qos, Reason, RetainHandling,
    Subscribe, SubscribeFilter, SubscribeOptions, Version,
};
use std::num::NonZeroU16;

/// Appends a CONNECT without keep-alive; `durable`: with a session that outlives the connection
/// (3.1.1).
pub(crate) fn append_connect(client_id: &str, version: Version, durable: bool, out: &mut Vec<u8>) {
    let connect = Connect {
        version,
        bridge: false,
        clean_start: !durable,
        keep_alive_s: 0,
        properties: Properties::default(),
        client_id,
        will: None,
        username: None,
        password: None,
    };
    codec::encode(&Packet::Connect(connect), version, out);
}

/// Appends a SUBSCRIBE for one filter.
pub(crate) fn append_subscribe(filter: &str, qos: Qos, version: Version, out: &mut Vec<u8>) {
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    let subscribe = Subscribe {
        packet_id: PacketId(NonZeroU16::MIN),
        properties: Properties::default(),
        filters: vec![SubscribeFilter { filter, options }],
    };
    codec::encode(&Packet::Subscribe(subscribe), version, out);
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
/// If the server refused, or sent something else.
pub(crate) fn accept_connack(bytes: &[u8], frame: Frame<'_>, version: Version) -> Result<u16> {
    ensure!(frame.kind() == kind::CONNACK, "packet type {} instead of CONNACK", frame.kind());
    let Packet::Connack(connack) = decode(bytes, version)? else { bail!("no CONNACK") };
    ensure!(connack.reason == Reason::Success, "CONNECT refused: {:?}", connack.reason);
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
    ensure!(suback.reasons == [granted], "SUBSCRIBE answered {:?}", suback.reasons);
    Ok(())
}
