"""What MQTT 5.0 adds, with paho-mqtt."""

import time

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from paho_client import V5, V311, Client, properties
from rig import SPREAD, expect, expect_equal, spread, unique


def will_wish(topic, payload, delay_s, **values):
    """A delayed will at QoS 1."""
    packet = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay_s, **values)
    return {"topic": topic, "payload": payload, "qos": 1, "properties": packet}


def let_pass(address, seconds):
    """Returns when `seconds` have passed for the broker: a delayed will tells."""
    topic = unique("clock")
    watcher = Client(address, unique("clock"), V5).connect()
    watcher.subscribe(topic, qos=1)
    dropped = Client(address, unique("clock-will"), V5, will=will_wish(topic, b"", seconds),
                     SessionExpiryInterval=seconds + 60).connect()
    dropped.drop()
    watcher.wait_messages(1)
    watcher.disconnect()
    dropped.connect().disconnect(SessionExpiryInterval=0)


def properties_forwarded(*address):
    """Content type, response topic, correlation data, format, expiry, user properties in order."""
    topic = unique("props")
    users = [("b", "2"), ("a", "1"), ("b", "1"), ("ü", "ß")]
    subscribers = [Client(address, name, V5).connect() for name in spread("s")]
    for subscriber in subscribers:
        subscriber.subscribe(topic, qos=2)
    publisher = Client(address, unique("p"), V5).connect()
    for qos in range(3):
        publisher.publish_acknowledged(
            topic, "päyload".encode(), qos, PayloadFormatIndicator=1, MessageExpiryInterval=600,
            ContentType="text/plain", ResponseTopic=f"{topic}/back",
            CorrelationData=b"\x00\xff", UserProperty=users)
        for subscriber in subscribers:
            found = subscriber.wait_messages(qos + 1)[qos].properties
            expect_equal(found.PayloadFormatIndicator, 1, "payload format indicator")
            expect_equal(found.ContentType, "text/plain", "content type")
            expect_equal(found.ResponseTopic, f"{topic}/back", "response topic")
            expect_equal(found.CorrelationData, b"\x00\xff", "correlation data")
            expect_equal(found.UserProperty, users, "user properties")
            expect(590 <= found.MessageExpiryInterval <= 600, "message expiry interval")
    for client in [*subscribers, publisher]:
        client.disconnect()


def properties_to_3_1_1(*address):
    """A 3.1.1 subscriber gets the payload alone."""
    topic = unique("props3")
    publisher = Client(address, unique("p"), V5).connect()
    for name in spread("s"):
        client = Client(address, name, V311).connect()
        client.subscribe(topic, qos=1)
        publisher.publish_acknowledged(topic, b"x", UserProperty=("a", "b"), ContentType="y")
        client.expect_payloads([b"x"])
        client.disconnect()
    publisher.disconnect()


def subscription_identifiers(*address):
    """The identifier of each matching subscription comes with the message."""
    topic = unique("subid")
    publisher = Client(address, unique("p"), V5).connect()
    for number, name in enumerate(spread("s")):
        client = Client(address, name, V5).connect()
        client.subscribe(f"{topic}/a", qos=1, identifier=number + 1)
        client.subscribe(f"{topic}/+", qos=1, identifier=268_435_455)
        client.subscribe(f"{topic}/b", qos=1)
        publisher.publish_acknowledged(f"{topic}/c", b"")
        found = client.wait_messages(1)[0]
        expect_equal(found.properties.SubscriptionIdentifier, [268_435_455], "identifiers")
        # Overlapping subscriptions may give one message with both or two with one each.
        publisher.publish_acknowledged(f"{topic}/a", b"")
        wanted = {number + 1, 268_435_455}

        def all_found():
            lists = [m.properties.SubscriptionIdentifier for m in client.messages[1:]]
            return {identifier for found in lists for identifier in found} == wanted

        client.events.wait(all_found, f"the identifiers {wanted}")
        client.disconnect()
    publisher.disconnect()


def message_expiry(*address):
    """A queued message that has expired is not sent; another tells what is left of its time."""
    topic = unique("expiry")
    clients = [
        Client(address, name, V5, SessionExpiryInterval=300).connect() for name in spread("s")]
    for client in clients:
        client.subscribe(topic, qos=1)
        client.disconnect()
    publisher = Client(address, unique("p"), V5).connect()
    publisher.publish_acknowledged(topic, b"short", MessageExpiryInterval=1)
    publisher.publish_acknowledged(topic, b"long", MessageExpiryInterval=600)
    publisher.publish_acknowledged(topic, b"ever")
    let_pass(address, 3)
    for client in clients:
        client.connect(clean=False)
        client.expect_payloads([b"long", b"ever"])
        left = client.messages[0].properties.MessageExpiryInterval
        expect(540 <= left <= 598, f"{left} s left of 600")
        expect(not hasattr(client.messages[1].properties, "MessageExpiryInterval"), "expiry added")
        client.disconnect(SessionExpiryInterval=0)
    publisher.disconnect()


def will_delayed(*address):
    """A will with a delay comes after the delay, with its properties."""
    topic = unique("delay")
    watcher = Client(address, unique("s"), V5).connect()
    watcher.subscribe(f"{topic}/+", qos=1)
    clients = []
    for number, name in enumerate(spread("w")):
        wish = will_wish(f"{topic}/{number}", b"gone", 2, UserProperty=("a", "b"),
                         ContentType="c", PayloadFormatIndicator=1)
        clients.append(
            Client(address, name, V5, will=wish, SessionExpiryInterval=300).connect())
    for client in clients:
        client.drop()
    dropped_at = time.monotonic()
    messages = watcher.wait_messages(SPREAD)
    passed_s = time.monotonic() - dropped_at
    # Seconds of a broker may be counted in whole ones.
    expect(passed_s >= 0.9, f"delayed by {passed_s:.2f} s only, wanted 2")
    expect_equal(
        sorted(m.topic for m in messages), [f"{topic}/{n}" for n in range(SPREAD)], "topics")
    expect_equal(messages[0].properties.UserProperty, [("a", "b")], "user properties")
    expect_equal(messages[0].properties.ContentType, "c", "content type")
    expect(not hasattr(messages[0].properties, "WillDelayInterval"), "the delay was forwarded")
    for client in clients:
        client.connect().disconnect(SessionExpiryInterval=0)
    watcher.disconnect()


def will_delay_cancelled_by_resume(*address):
    """Coming back before the delay has passed cancels the will."""
    topic = unique("cancel")
    watcher = Client(address, unique("s"), V5).connect()
    watcher.subscribe(topic, qos=1)
    clients = []
    for name in spread("w"):
        client = Client(address, name, V5, will=will_wish(topic, b"wrong", 2),
                        SessionExpiryInterval=300).connect()
        client.drop()
        clients.append(client.connect(clean=False))
    let_pass(address, 4)
    watcher.expect_no_more(0)
    for client in clients:
        client.disconnect(SessionExpiryInterval=0)
    watcher.disconnect()


def will_at_session_end(*address):
    """A session that ends before the delay publishes the will then."""
    topic = unique("ends")
    watcher = Client(address, unique("s"), V5).connect()
    watcher.subscribe(topic, qos=1)
    for name in spread("w"):
        Client(address, name, V5, will=will_wish(topic, b"gone", 300),
               SessionExpiryInterval=1).connect().drop()
    watcher.expect_payloads([b"gone"] * SPREAD)
    watcher.disconnect()


def will_with_disconnect(*address):
    """DISCONNECT with reason 0x04 publishes the will, DISCONNECT with 0x00 does not."""
    topic = unique("wish")
    watcher = Client(address, unique("s"), V5).connect()
    watcher.subscribe(topic, qos=1)
    for name in spread("w"):
        client = Client(address, name, V5, will={"topic": topic, "payload": b"x", "qos": 1})
        client.connect().disconnect()
        client.connect().disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=4))
    watcher.expect_payloads([b"x"] * SPREAD)
    watcher.expect_no_more(SPREAD)
    watcher.disconnect()


def session_expiry(*address):
    """A session ends when its expiry interval has passed, at once with none, not before."""
    clients = []
    for interval_s, role in ((0, "n"), (1, "e"), (300, "l")):
        for name in spread(role):
            client = Client(address, name, V5, SessionExpiryInterval=interval_s).connect()
            client.subscribe(unique("any"))
            client.disconnect()
            clients.append((client, interval_s))
    let_pass(address, 3)
    for client, interval_s in clients:
        client.connect(clean=False)
        expect_equal(client.session_present, interval_s == 300, f"{interval_s} s: session present")
        client.disconnect(SessionExpiryInterval=0)
        client.connect(clean=False)
        expect(not client.session_present, "DISCONNECT could not shorten the expiry")
        client.disconnect(SessionExpiryInterval=0)


def alias_to_broker(*address):
    """The broker resolves the aliases of a publisher, also when one is given a new topic."""
    topic = unique("alias")
    subscribers = [Client(address, name, V5).connect() for name in spread("s")]
    for subscriber in subscribers:
        subscriber.subscribe(f"{topic}/#", qos=1)
    wanted = []
    for name in spread("p"):
        publisher = Client(address, name, V5).connect()
        maximum = getattr(publisher.connack_properties, "TopicAliasMaximum", 0)
        expect(maximum >= 1, "the broker takes no aliases")
        for path in (f"{topic}/a", f"{topic}/b"):
            for number, sent in enumerate((path, "", "")):
                payload = f"{name} {path} {number}".encode()
                publisher.publish_acknowledged(sent, payload, TopicAlias=maximum)
                wanted.append((path, payload))
        publisher.disconnect()
    for subscriber in subscribers:
        found = [(m.topic, m.payload) for m in subscriber.wait_messages(len(wanted))]
        expect_equal(sorted(found), sorted(wanted), "messages")
        aliases = [m for m in subscriber.messages if hasattr(m.properties, "TopicAlias")]
        expect_equal(aliases, [], "messages with an alias nobody allowed")
        subscriber.disconnect()


def alias_from_broker(*address):
    """Allowed aliases are used for a repeated topic, and never beyond the maximum."""
    topic = unique("aliased")
    publisher = Client(address, unique("p"), V5).connect()
    for name in spread("s"):
        client = Client(address, name, V5, TopicAliasMaximum=3).connect()
        client.subscribe(f"{topic}/+", qos=1)
        wanted = [(f"{topic}/{n % 5}", b"%d" % n) for n in range(50)]
        for path, payload in wanted:
            publisher.publish_acknowledged(path, payload)
        messages = client.wait_messages(len(wanted))
        expect_equal([(m.topic, m.payload) for m in messages], wanted, "messages")
        numbers = {getattr(m.properties, "TopicAlias", 1) for m in messages}
        expect(numbers <= {1, 2, 3}, f"aliases {numbers} with a maximum of 3")
        expect(any(m.aliased for m in messages), "no alias was used")
        client.disconnect()
    publisher.disconnect()


def receive_maximum(*address):
    """No more unacknowledged messages than the client allows; the rest follows in order."""
    topic = unique("window")
    publisher = Client(address, unique("p"), V5).connect()
    payloads = [b"%d" % number for number in range(12)]
    for name in spread("s"):
        client = Client(address, name, V5, manual_ack=True, ReceiveMaximum=3).connect()
        client.subscribe(topic, qos=1)
        for payload in payloads:
            publisher.publish_acknowledged(topic, payload)
        client.wait_messages(3)
        client.expect_no_more(3)
        for count in range(len(payloads)):
            client.acknowledge(client.wait_messages(count + 1)[count])
        client.expect_payloads(payloads)
        client.disconnect()
    publisher.disconnect()


def maximum_packet_size(*address):
    """A message too large for a client is left out, the next one comes."""
    topic = unique("small")
    publisher = Client(address, unique("p"), V5).connect()
    for name in spread("s"):
        client = Client(address, name, V5, MaximumPacketSize=500).connect()
        client.subscribe(topic, qos=1)
        for payload in (b"x" * 1000, b"fits"):
            publisher.publish_acknowledged(topic, payload)
        client.expect_payloads([b"fits"])
        client.disconnect()
    publisher.disconnect()


def no_local(*address):
    """Own messages do not come back where the subscription says so."""
    topic = unique("local")
    other = Client(address, unique("other"), V5).connect()
    for name in spread("s"):
        client = Client(address, name, V5).connect()
        client.subscribe(f"{topic}/a", options=SubscribeOptions(qos=1, noLocal=True))
        client.subscribe(f"{topic}/b", qos=1)
        client.publish_acknowledged(f"{topic}/a", b"own")
        client.publish_acknowledged(f"{topic}/b", b"own")
        other.publish_acknowledged(f"{topic}/a", b"other")
        found = sorted((m.topic, m.payload) for m in client.wait_messages(2))
        expect_equal(found, [(f"{topic}/a", b"other"), (f"{topic}/b", b"own")], "messages")
        client.expect_no_more(2)
        client.disconnect()
    other.disconnect()


def retain_as_published(*address):
    """RETAIN of a live message is kept where the subscription says so."""
    topic = unique("rap")
    publisher = Client(address, unique("p"), V5).connect()
    for name in spread("s"):
        for keep in (False, True):
            client = Client(address, name, V5).connect()
            client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=keep))
            publisher.publish_acknowledged(topic, b"kept", retain=True)
            publisher.publish_acknowledged(topic, b"live")
            publisher.publish_acknowledged(topic, b"", retain=True)
            found = [(m.payload, m.retain) for m in client.wait_messages(3)]
            expect_equal(found, [(b"kept", keep), (b"live", False), (b"", keep)], f"keep={keep}")
            client.disconnect()
    publisher.disconnect()


def retain_handling(*address):
    """Retained messages come always, only for a new subscription, or never."""
    topic = unique("handling")
    publisher = Client(address, unique("p"), V5).connect()
    publisher.publish_acknowledged(topic, b"r", retain=True)
    for name in spread("s"):
        for handling, counts in ((0, (1, 2)), (1, (1, 1)), (2, (0, 0))):
            client = Client(address, name, V5).connect()
            for count in counts:
                client.subscribe(
                    topic, options=SubscribeOptions(qos=1, retainHandling=handling))
                client.wait_messages(count)
                client.expect_no_more(count)
            client.disconnect()
    publisher.publish_acknowledged(topic, b"", retain=True)
    publisher.disconnect()


def assigned_client_id(*address):
    """A client without an id is given one of its own, and can come back under it."""
    names = set()
    for _ in range(2 * SPREAD):
        client = Client(address, "", V5, SessionExpiryInterval=300).connect()
        name = client.connack_properties.AssignedClientIdentifier
        client.subscribe(unique("any"))
        client.disconnect()
        names.add(name)
        again = Client(address, name, V5).connect(clean=False)
        expect(again.session_present, f"no session under the assigned id {name}")
        again.disconnect(SessionExpiryInterval=0)
    expect_equal(len(names), 2 * SPREAD, "different ids")


def no_matching_subscribers(*address):
    """A message nobody wants is still acknowledged as a success."""
    for name in spread("p"):
        client = Client(address, name, V5).connect()
        for qos in (1, 2):
            code = client.publish_acknowledged(unique("nobody"), b"", qos)
            expect(code in (0x00, 0x10), f"reason 0x{code:02x}")
        client.disconnect()


CASES_V5 = (
    properties_forwarded, properties_to_3_1_1, subscription_identifiers, message_expiry,
    will_delayed, will_delay_cancelled_by_resume, will_at_session_end, will_with_disconnect,
    session_expiry, alias_to_broker, alias_from_broker, receive_maximum, maximum_packet_size,
    no_local, retain_as_published, retain_handling, assigned_client_id, no_matching_subscribers,
)
