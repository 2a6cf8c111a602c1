"""A paho client that records what happens to it, for cases that wait on events."""

import socket
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import rig
from rig import Events, Failure, expect, expect_equal

V31, V311, V5 = mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5
VERSION_NAMES = {V31: "3.1", V311: "3.1.1", V5: "5"}


def properties(packet, **values):
    """Properties of one packet type, by paho's attribute names."""
    result = Properties(packet)
    for name, value in values.items():
        setattr(result, name, value)
    return result


def publish_properties(**values):
    """Properties of a PUBLISH."""
    return properties(PacketTypes.PUBLISH, **values)


@dataclass
class Message:
    """One message as it came; `topic` is resolved if an alias stood for it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet_id: int
    properties: Properties | None
    aliased: bool


class Client:
    """One connection at a time under one client id; messages add up over reconnects."""

    def __init__(self, address, client_id, version=V311, *, clean=True, manual_ack=False,
                 will=None, keep_alive=60, **connect_properties):
        self.address, self.id, self.version, self.clean = address, client_id, version, clean
        self.keep_alive = keep_alive
        self.connect_properties = connect_properties
        self.events = Events()
        self.messages = []
        self.connected = None
        self.closed = None
        self.told_to_go = False
        self.acknowledged = {}
        self.aliases = {}
        arguments = {} if version == V5 else {"clean_session": clean}
        if rig.SCHEME in ("ws", "wss"):
            arguments["transport"] = "websockets"
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version,
            reconnect_on_failure=False, manual_ack=manual_ack, **arguments)
        if rig.SCHEME in ("mqtts", "wss"):
            self.paho.tls_set(rig.CA, rig.CERTIFICATE, rig.KEY)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_message = self._on_message
        self.paho.on_publish = self._on_acknowledged
        self.paho.on_subscribe = self._on_subscribed
        self.paho.on_unsubscribe = self._on_acknowledged
        if will:
            self.paho.will_set(**will)

    def connect(self, clean=None):
        """Connects and waits for a CONNACK that accepts. Returns the client."""
        self.attempt(clean)
        reason = self.connected[1]
        expect(not reason.is_failure, f"{self.id}: CONNACK {reason}")
        return self

    def attempt(self, clean=None):
        """Connects and waits for the CONNACK, whatever it says."""
        self.connected = self.closed = None
        self.aliases = {}
        clean = self.clean if clean is None else clean
        arguments = {}
        if self.version == V5:
            arguments["clean_start"] = clean
            if self.connect_properties:
                arguments["properties"] = properties(
                    PacketTypes.CONNECT, **self.connect_properties)
        else:
            self.paho._clean_session = clean  # paho fixes it at construction
        host, port = self.address
        self.paho.connect(host, port, self.keep_alive, **arguments)
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paho.loop_start()
        self.events.wait(lambda: self.connected or self.closed, f"{self.id}: CONNACK")
        if not self.connected:
            raise Failure(f"{self.id}: closed instead of CONNACK: {self.closed}")

    @property
    def session_present(self):
        """The flag of the last CONNACK."""
        return self.connected[0].session_present

    @property
    def connack_properties(self):
        """The properties of the last CONNACK."""
        return self.connected[2]

    def disconnect(self, reason=None, **values):
        """Says DISCONNECT and waits until the connection is gone."""
        packet = properties(PacketTypes.DISCONNECT, **values) if values else None
        self.paho.disconnect(reason, packet)
        self.wait_closed()

    def drop(self):
        """Ends the connection without DISCONNECT, as a crash would."""
        self._socket().shutdown(socket.SHUT_RDWR)
        self.wait_closed()

    def _socket(self):
        """The socket itself, without paho's WebSocket around it."""
        found = self.paho.socket()
        return found if isinstance(found, socket.socket) else found._socket

    def wait_closed(self):
        """Waits until the connection has ended."""
        self.events.wait(lambda: self.closed is not None, f"{self.id}: end of the connection")
        self.paho.loop_stop()

    def subscribe(self, *filters, qos=0, options=None, identifier=None):
        """Subscribes and waits for the SUBACK. Returns its reason codes as numbers."""
        chosen = options if options is not None else qos
        if self.version == V5:
            topics = [(topic, options or mqtt.SubscribeOptions(qos=qos)) for topic in filters]
        else:
            topics = [(topic, chosen) for topic in filters]
        packet = None
        if identifier is not None:
            packet = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        _, packet_id = self.paho.subscribe(topics, properties=packet)
        return self._acknowledgement(packet_id, "SUBACK")

    def unsubscribe(self, *filters):
        """Unsubscribes and waits for the UNSUBACK."""
        _, packet_id = self.paho.unsubscribe(list(filters))
        self._acknowledgement(packet_id, "UNSUBACK")

    def publish(self, topic, payload=b"", qos=0, retain=False, **values):
        """Publishes without waiting; returns the packet id paho chose."""
        packet = publish_properties(**values) if values else None
        return self.paho.publish(topic, payload, qos, retain, properties=packet).mid

    def publish_acknowledged(self, topic, payload=b"", qos=1, retain=False, **values):
        """Publishes and waits for PUBACK or PUBCOMP. Returns the reason code (0 before 5.0)."""
        return self.settle(self.publish(topic, payload, qos, retain, **values))

    def settle(self, packet_id):
        """Waits for the acknowledgement of a publish. Returns its reason code."""
        return self._acknowledgement(packet_id, "PUBACK or PUBCOMP")[0]

    def acknowledge(self, message):
        """Sends the PUBACK that `manual_ack` held back."""
        self.paho.ack(message.packet_id, message.qos)

    def round_trip(self):
        """Returns when all that the broker sent before has arrived: SUBACK comes after it."""
        self.subscribe(f"round-trip/{self.id}")

    def wait_messages(self, count, deadline_s=20):
        """Waits until at least `count` messages have come, then returns all of them."""
        try:
            self.events.wait(
                lambda: len(self.messages) >= count, f"{count} messages", deadline_s)
        except Failure as failure:
            raise Failure(f"{self.id}: {failure}, has {len(self.messages)}") from None
        return list(self.messages)

    def expect_payloads(self, payloads):
        """Waits for exactly these payloads, in this order."""
        found = [message.payload for message in self.wait_messages(len(payloads))]
        expect_equal(found, list(payloads), f"{self.id}: payloads")

    def expect_no_more(self, count):
        """Fails if more than `count` messages have come once a round trip is over."""
        self.round_trip()
        found = [message.payload[:40] for message in self.messages[count:]]
        expect_equal(found, [], f"{self.id}: messages after number {count}")

    def _acknowledgement(self, packet_id, what):
        return self.events.wait(
            lambda: self.acknowledged.pop(packet_id, None), f"{self.id}: {what}")

    def _on_connect(self, _client, _data, flags, reason, packet):
        self.events.signal(lambda: setattr(self, "connected", (flags, reason, packet)))

    def _on_disconnect(self, _client, _data, flags, reason, _packet):
        self.told_to_go = flags.is_disconnect_packet_from_server
        self.events.signal(lambda: setattr(self, "closed", reason))

    def _on_message(self, _client, _data, message):
        # paho leaves aliases to its user.
        alias = getattr(message.properties, "TopicAlias", None)
        if alias is not None and message.topic:
            self.aliases[alias] = message.topic
        topic = message.topic or self.aliases.get(alias, "unknown alias")
        kept = Message(
            topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid,
            message.properties, aliased=not message.topic)
        self.events.signal(lambda: self.messages.append(kept))

    def _on_subscribed(self, _client, _data, packet_id, reasons, _packet):
        codes = [reason.value for reason in reasons]
        self.events.signal(lambda: self.acknowledged.update({packet_id: codes}))

    def _on_acknowledged(self, _client, _data, packet_id, reason=None, _packet=None):
        code = getattr(reason, "value", 0)
        # One-element lists are true in `wait` even when the code is zero.
        self.events.signal(lambda: self.acknowledged.update({packet_id: [code]}))
