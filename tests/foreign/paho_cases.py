"""paho-mqtt against a broker: what MQTT 3.1, 3.1.1 and 5.0 have in common, then what 5.0 adds.

Usage: paho_cases.py HOST:PORT [SKIPPED,...]
"""

from functools import partial

import rig
from paho_client import V5, V31, V311, VERSION_NAMES, Client
from paho_v5 import CASES_V5
from rig import SPREAD, expect, expect_equal, spread, unique

VERSIONS = (V31, V311, V5)


def kept_session(version):
    """Arguments of a client whose session outlives its connection."""
    if version == V5:
        return {"clean": False, "SessionExpiryInterval": 300}
    return {"clean": False}


def forget(clients):
    """Ends the clients' sessions."""
    for client in clients:
        client.connect_properties = {}
        client.connect(clean=True).disconnect()


def qos_both_ways(version, *address):
    """Every publisher QoS to every subscriber QoS; the lower one arrives."""
    topic = unique("qos")
    publishers = [Client(address, name, version).connect() for name in spread("p")]
    subscribers = [Client(address, name, version).connect() for name in spread("s")]
    for number, subscriber in enumerate(subscribers):
        codes = subscriber.subscribe(f"{topic}/+", qos=number % 3)
        expect_equal(codes, [number % 3], "SUBACK")
    for number, publisher in enumerate(publishers):
        for qos in range(3):
            publisher.publish_acknowledged(f"{topic}/{number}", b"%d" % qos, qos)
    for number, subscriber in enumerate(subscribers):
        found = sorted(
            (message.topic, message.payload, message.qos)
            for message in subscriber.wait_messages(3 * SPREAD))
        wanted = sorted(
            (f"{topic}/{publisher}", b"%d" % qos, min(qos, number % 3))
            for publisher in range(SPREAD) for qos in range(3))
        expect_equal(found, wanted, "messages")
        expect(not any(m.retain or m.duplicate for m in subscriber.messages), "RETAIN or DUP set")
        subscriber.expect_no_more(3 * SPREAD)
    for client in publishers + subscribers:
        client.disconnect()


def unsubscribed(version, *address):
    """After UNSUBACK nothing comes, other filters stay."""
    topic = unique("unsub")
    publisher = Client(address, unique("p"), version).connect()
    for name in spread("s"):
        client = Client(address, name, version).connect()
        client.subscribe(f"{topic}/a", f"{topic}/b", qos=1)
        client.unsubscribe(f"{topic}/a")
        publisher.publish_acknowledged(f"{topic}/a", b"no")
        publisher.publish_acknowledged(f"{topic}/b", b"yes")
        client.expect_payloads([b"yes"])
        client.disconnect()
    publisher.disconnect()


def retained(version, *address):
    """Set, replaced, found by wildcard, not marked when live, cleared."""
    topic = unique("retain")
    publishers = [Client(address, name, version).connect() for name in spread("p")]
    topics = [f"{topic}/{number}/x" for number in range(SPREAD)]
    for qos, publisher in enumerate(publishers):
        for payload in (b"old", b"new"):
            publisher.publish_acknowledged(topics[qos], payload, qos % 3, retain=True)
    for name in spread("s"):
        client = Client(address, name, version).connect()
        client.subscribe(f"{topic}/+/x", qos=2)
        found = sorted((m.topic, m.payload, m.retain) for m in client.wait_messages(SPREAD))
        expect_equal(found, [(name, b"new", True) for name in topics], "retained messages")
        client.messages.clear()
        publishers[0].publish_acknowledged(topics[0], b"new", 1, retain=True)
        expect(not client.wait_messages(1)[0].retain, "RETAIN is set on a live message")
        client.disconnect()
    for publisher, name in zip(publishers, topics):
        publisher.publish_acknowledged(name, b"", 1, retain=True)
    last = Client(address, unique("last"), version).connect()
    last.subscribe(f"{topic}/#", qos=1)
    last.expect_no_more(0)
    for client in [*publishers, last]:
        client.disconnect()


def will(version, *address):
    """Published when the connection is lost, not after DISCONNECT; retained if asked."""
    topic = unique("will")
    watchers = [Client(address, name, version).connect() for name in spread("s")]
    for watcher in watchers:
        watcher.subscribe(f"{topic}/#", qos=2)
    for number, name in enumerate(spread("w")):
        wish = {"topic": f"{topic}/{number}", "payload": b"gone", "qos": number % 3,
                "retain": number % 2 == 1}
        polite = Client(address, name, version, will={**wish, "payload": b"wrong"}).connect()
        polite.disconnect()
        Client(address, name, version, will=wish).connect().drop()
    wanted = sorted((f"{topic}/{number}", b"gone", number % 3) for number in range(SPREAD))
    for watcher in watchers:
        found = sorted((m.topic, m.payload, m.qos) for m in watcher.wait_messages(SPREAD))
        expect_equal(found, wanted, "wills")
        watcher.expect_no_more(SPREAD)
        watcher.disconnect()
    late = Client(address, unique("late"), version).connect()
    late.subscribe(f"{topic}/+", qos=1)
    found = sorted(m.topic for m in late.wait_messages(SPREAD // 2))
    expect_equal(found, [f"{topic}/{n}" for n in range(1, SPREAD, 2)], "retained wills")
    for name in found:
        late.publish_acknowledged(name, b"", retain=True)
    late.disconnect()


def resumed_with_queue(version, *address):
    """QoS 1 and 2 messages of the time offline come in order after a resume, each once."""
    topic = unique("queue")
    clients = [Client(address, name, version, **kept_session(version)) for name in spread("s")]
    for client in clients:
        client.connect()
        client.subscribe(f"{topic}/#", qos=2)
        client.disconnect()
    publisher = Client(address, unique("p"), version).connect()
    payloads = [b"%d" % number for number in range(60)]
    for number, payload in enumerate(payloads):
        publisher.publish_acknowledged(f"{topic}/{number // 30}", payload, 1 + number // 30)
    for client in clients:
        client.connect()
        # The flag came with 3.1.1.
        expect(client.session_present or version == V31, f"{client.id}: no session present")
        by_topic = {}
        for message in client.wait_messages(len(payloads)):
            by_topic.setdefault((message.topic, message.qos), []).append(message.payload)
        wanted = {(f"{topic}/0", 1): payloads[:30], (f"{topic}/1", 2): payloads[30:]}
        expect_equal(by_topic, wanted, f"{client.id}: queued messages")
        client.expect_no_more(len(payloads))
        client.disconnect()
    forget(clients)
    publisher.disconnect()


def resent_when_unacknowledged(version, *address):
    """What was sent but not acknowledged comes again, same id, with DUP."""
    topic = unique("dup")
    publisher = Client(address, unique("p"), version).connect()
    clients = []
    for name in spread("s"):
        client = Client(address, name, version, manual_ack=True, **kept_session(version))
        clients.append(client)
        client.connect()
        client.subscribe(topic, qos=1)
        for payload in (b"a", b"b"):
            publisher.publish_acknowledged(topic, payload)
        first = client.wait_messages(2)
        client.drop()
        client.connect()
        again = client.wait_messages(4)[2:]
        expect_equal([m.packet_id for m in again], [m.packet_id for m in first], "packet ids")
        expect_equal([m.payload for m in again], [b"a", b"b"], "payloads")
        expect(all(message.duplicate for message in again), "DUP is not set")
        for message in again:
            client.acknowledge(message)
        client.disconnect()
        client.connect()
        client.expect_no_more(4)
        client.disconnect()
    forget(clients)
    publisher.disconnect()


def clean_session_forgets(version, *address):
    """A clean start throws the old session away."""
    topic = unique("clean")
    publisher = Client(address, unique("p"), version).connect()
    for name in spread("s"):
        client = Client(address, name, version, **kept_session(version)).connect()
        client.subscribe(topic, qos=1)
        client.disconnect()
        publisher.publish_acknowledged(topic, b"lost")
        client.connect_properties = {}
        client.connect(clean=True)
        expect(not client.session_present, "session present after a clean start")
        publisher.publish_acknowledged(topic, b"lost too")
        client.expect_no_more(0)
        client.disconnect()
    publisher.disconnect()


def taken_over(version, *address):
    """A second connection with the same id closes the first and keeps its session."""
    topic = unique("take")
    publisher = Client(address, unique("p"), version).connect()
    for name in spread("t"):
        first = Client(address, name, version, **kept_session(version)).connect()
        first.subscribe(topic, qos=1)
        second = Client(address, name, version, **kept_session(version)).connect()
        first.wait_closed()
        # paho shows the reason only of a DISCONNECT with properties; mqtt.js checks it.
        expect(version != V5 or first.told_to_go, "closed without DISCONNECT")
        expect(second.session_present or version == V31, "no session present")
        publisher.publish_acknowledged(topic, b"for the second")
        second.expect_payloads([b"for the second"])
        second.disconnect()
        forget([second])
    publisher.disconnect()


def one_megabyte(version, *address):
    """A payload of 1 MiB arrives whole at each QoS."""
    topic = unique("large")
    body = bytes(range(256)) * 4096
    subscribers = [Client(address, name, version).connect() for name in spread("s")]
    for subscriber in subscribers:
        subscriber.subscribe(topic, qos=2)
    publisher = Client(address, unique("p"), version).connect()
    for qos in range(3):
        publisher.publish_acknowledged(topic, body + b"%d" % qos, qos)
        for subscriber in subscribers:
            message = subscriber.wait_messages(qos + 1)[qos]
            expect_equal(message.qos, qos, "QoS")
            expect(message.payload == body + b"%d" % qos, "the payload was changed")
    for client in [*subscribers, publisher]:
        client.disconnect()


def ordered(version, *address):
    """100 topics × 100 messages at each QoS: complete, each once, in order per topic."""
    topics, rounds = 100, 100
    topic = unique("order")
    publishers = [Client(address, name, version).connect() for name in spread("p")]
    subscribers = [Client(address, name, version).connect() for name in spread("s")]
    for number, subscriber in enumerate(subscribers):
        mine = range(number, topics, SPREAD)
        subscriber.subscribe(*[f"{topic}/{n}" for n in mine], qos=2)
    everything = Client(address, unique("all"), version).connect()
    everything.subscribe(f"{topic}/#", qos=2)
    for qos in range(3):
        for client in [*subscribers, everything]:
            client.messages.clear()
        for message in range(rounds):
            ids = [
                (publishers[n // 13], publishers[n // 13].publish(
                    f"{topic}/{n}", b"%d" % message, qos))
                for n in range(topics)]
            for publisher, packet_id in ids:
                publisher.settle(packet_id)
            # A subscriber that lags by no more than this stays below any sensible queue limit.
            everything.wait_messages(topics * (message - 5), deadline_s=60)
        for number, subscriber in enumerate(subscribers):
            mine = range(number, topics, SPREAD)
            check_order(subscriber, [f"{topic}/{n}" for n in mine], rounds, qos)
        check_order(everything, [f"{topic}/{n}" for n in range(topics)], rounds, qos)
    for client in [*publishers, *subscribers, everything]:
        client.disconnect()


def check_order(client, topics, rounds, qos):
    """Each topic has the numbers from 0 to `rounds`, in this order."""
    by_topic = {}
    for message in client.wait_messages(len(topics) * rounds, deadline_s=60):
        expect_equal(message.qos, qos, f"{client.id}: QoS")
        by_topic.setdefault(message.topic, []).append(int(message.payload))
    expect_equal(sorted(by_topic), sorted(topics), f"{client.id}: topics")
    for name, numbers in by_topic.items():
        expect_equal(numbers, list(range(rounds)), f"{client.id}: QoS {qos}, {name}")


def shared(version, *address):
    """A group gets each message once, and no member starves."""
    topic, count = unique("shared"), 800
    members = [Client(address, name, version).connect() for name in spread("m")]
    for member in members:
        member.subscribe(f"$share/group/{topic}/#", qos=1)
    alone = Client(address, unique("alone"), version).connect()
    alone.subscribe(f"{topic}/#", qos=1)
    publishers = [Client(address, name, version).connect() for name in spread("p")]
    for first in range(0, count, SPREAD):
        ids = [
            (publisher, publisher.publish(f"{topic}/{first + n}", b"", 1))
            for n, publisher in enumerate(publishers)]
        for publisher, packet_id in ids:
            publisher.settle(packet_id)
    alone.wait_messages(count)

    def group_total():
        return sum(len(member.messages) for member in members)

    for member in members:
        member.round_trip()
    expect_equal(group_total(), count, "messages of the group")
    topics = {message.topic for member in members for message in member.messages}
    expect_equal(len(topics), count, "different messages of the group")
    shares = sorted(len(member.messages) for member in members)
    expect(shares[0] >= count // SPREAD // 4, f"a member starved: {shares}")
    for client in [*members, *publishers, alone]:
        client.disconnect()


COMMON = (
    qos_both_ways, unsubscribed, retained, will, resumed_with_queue, resent_when_unacknowledged,
    clean_session_forgets, taken_over, one_megabyte, ordered, shared,
)


def main():
    """All cases, the common ones once per version."""
    cases = [
        (f"{case.__name__}_{VERSION_NAMES[version]}", partial(case, version))
        for case in COMMON for version in VERSIONS
        # MQTT 3.1 knows nothing of shared subscriptions, and nobody offers them there.
        if (case, version) != (shared, V31)]
    rig.run([*cases, *((case.__name__, case) for case in CASES_V5)])


if __name__ == "__main__":
    main()
