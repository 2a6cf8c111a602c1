#!/usr/bin/env python3
"""What good clients notice of an attack: their time to connect, or that of their messages.

    scripts/perf/siege.py [--culex BINARY] [--count N] loris|halfopen|storm ...

loris     N (10,000) connections that send their CONNECT byte by byte, one a second, and come back
          when they are closed. Meanwhile others connect, over TCP and TLS.
halfopen  The same with N TLS handshakes of which only the first message comes.
storm     32 clients that log in with a password (Argon2id, 46 MiB) without a pause. Meanwhile
          a pair exchanges messages of QoS 1. In turns with storm and without, so that what else
          the machine does hits both alike; the attackers get only time that nobody else wants.

Starts a broker of two shards on 127.0.0.1 with a certificate of its own (openssl makes it), and
prints one line for each kind of client before the attack and during it. Attackers, good clients and
broker share the machine, so the times are upper bounds.
"""

import argparse
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

PORT = 28900
BEFORE_S, DURING_S = 5, 18
STORM_CLIENTS, STORM_TURNS, STORM_S = 32, 4, 8


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def connect_packet(client_id, user=None):
    flags = 2 if user is None else 0xC2
    login = b"" if user is None else text(user) + text("secret")
    head = text("MQTT") + bytes([4, flags]) + struct.pack(">H", 0)
    return packet(0x10, head + text(client_id) + login)


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def first_tls_message():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = tls_context().wrap_bio(incoming, outgoing)
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def percentile(times, percent):
    times = sorted(times)
    return times[min(len(times) - 1, len(times) * percent // 100)] * 1e3


def show(name, times):
    figures = tuple(percentile(times, percent) for percent in (50, 99, 100))
    print(f"{name}: {len(times)} times, p50 %.2f p99 %.2f max %.1f ms" % figures, flush=True)


class Broker:
    """A broker with its files; ends with the block."""

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        at = self.folder.name
        certificate = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
            f" -keyout {at}/key -out {at}/crt -subj /CN=localhost"
        )
        password = [self.binary, "passwd", "-c", "-b", f"{at}/passwd", "ada", "secret"]
        for words in (certificate.split(), password):
            subprocess.run(words, check=True, capture_output=True)
        for name in ("key", "passwd"):
            os.chmod(f"{at}/{name}", 0o600)
        listener = "[[listener]]\naddress = '127.0.0.1:%d'\nallow_anonymous = true\n"
        with open(f"{at}/culex.toml", "w") as file:
            file.write(
                "durability = 'none'\nacl = 'allow-all'\nshards = 2\n"
                + f"[auth]\npassword_file = '{at}/passwd'\nfailures_max = 0\n"
                + listener % PORT
                + listener % (PORT + 1)
                + f"[listener.tls]\ncert_file = '{at}/crt'\nkey_file = '{at}/key'\n"
            )
        words = [self.binary, "serve", "-c", f"{at}/culex.toml"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        listening = 0
        while listening < 2:
            line = self.process.stderr.readline()
            if not line:
                sys.exit("the broker does not start")
            listening += "listening" in line
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def cpu_s(self):
        tasks = f"/proc/{self.process.pid}/task"
        total = 0
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total / 1e9


def opened(client_id, user=None, tls=None):
    stream = socket.create_connection(("127.0.0.1", PORT + (tls is not None)), timeout=60)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is not None:
        stream = tls.wrap_socket(stream)
    stream.sendall(connect_packet(client_id, user))
    answer = stream.recv(4)
    assert answer[3:] == b"\0", answer
    return stream


def good_clients(seconds):
    """Times from the first packet of TCP to CONNACK."""
    times, tls = {"TCP": [], "TLS": []}, tls_context()
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for kind, context in (("TCP", None), ("TLS", tls)):
            begun = time.perf_counter()
            opened(f"good{count}", tls=context).close()
            times[kind].append(time.perf_counter() - begun)
            count += 1
        time.sleep(0.01)
    return times


def attack(kind, count, ready, over):
    """Opens `count` connections, keeps them at it until the broker closes them, and again."""
    if kind == "loris":
        port, whole = PORT, connect_packet("a-slow-client")
    else:
        port, whole = PORT + 1, first_tls_message()
    while not over.is_set():
        begun, streams = time.monotonic(), []
        for _ in range(count):
            try:
                stream = socket.socket()
                stream.connect(("127.0.0.1", port))
                stream.sendall(whole[:1] if kind == "loris" else whole)
                streams.append(stream)
            except OSError:
                pass
        ready.set()
        sent = 1
        while time.monotonic() - begun < 9.5 and not over.is_set():
            for stream in streams if kind == "loris" and sent < len(whole) - 1 else ():
                try:
                    stream.sendall(whole[sent:sent + 1])
                except OSError:
                    pass
            sent += 1
            over.wait(1)
        for stream in streams:
            stream.close()


def besiege(broker, kind, count):
    for name, times in good_clients(BEFORE_S).items():
        show(f"{kind} {name} before", times)
    ready, over = threading.Event(), threading.Event()
    rss_kb = broker.rss_kb()
    # A process of its own: what it computes holds up no measurement.
    attacker = os.fork()
    if attacker == 0:
        attack(kind, count, ready, over)
    time.sleep(3)
    grown_kb = broker.rss_kb() - rss_kb
    print(f"{kind}: {count} attackers, the broker has grown by {grown_kb} kB", flush=True)
    cpu_s = broker.cpu_s()
    for name, times in good_clients(DURING_S).items():
        show(f"{kind} {name} during", times)
    cpu = (broker.cpu_s() - cpu_s) / DURING_S * 100
    print(f"{kind}: the broker used {cpu:.0f} % of a core", flush=True)
    os.kill(attacker, 9)
    os.waitpid(attacker, 0)


def round_trips(publisher, subscriber, seconds):
    times, end, number = [], time.monotonic() + seconds, 1
    while time.monotonic() < end:
        begun = time.perf_counter()
        publisher.sendall(packet(0x32, text("t") + struct.pack(">H", number) + b"x" * 64))
        received = subscriber.recv(500)
        times.append(time.perf_counter() - begun)
        subscriber.sendall(b"\x40\x02" + received[5:7])
        publisher.recv(4)
        number = number % 60000 + 1
        time.sleep(0.004)
    return times


def storm(broker):
    subscriber, publisher = opened("subscriber", "ada"), opened("publisher", "ada")
    subscriber.sendall(packet(0x82, struct.pack(">H", 1) + text("t") + b"\1"))
    subscriber.recv(100)
    before, during, logins, cpu_s = [], [], 0, 0
    for _ in range(STORM_TURNS):
        before += round_trips(publisher, subscriber, STORM_S)
        attacker, reader = log_in_without_a_pause()
        time.sleep(1)
        os.read(reader, 1 << 16)
        started_s = broker.cpu_s()
        during += round_trips(publisher, subscriber, STORM_S)
        cpu_s += broker.cpu_s() - started_s
        logins += len(os.read(reader, 1 << 16))
        os.kill(attacker, 9)
        os.waitpid(attacker, 0)
        os.close(reader)
        # What waits to be hashed is forgotten.
        time.sleep(2)
    show("storm pair before", before)
    show("storm pair during", during)
    seconds = STORM_TURNS * STORM_S
    cpu = cpu_s / seconds * 100
    rate = logins / seconds
    print(f"storm: {rate:.0f} logins a second, the broker used {cpu:.0f} % of a core", flush=True)


def log_in_without_a_pause():
    """A process with many clients; each login writes a byte."""
    reader, writer = os.pipe()
    attacker = os.fork()
    if attacker == 0:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

        def log_in(number):
            while True:
                opened(f"storm{number}", "ada").close()
                os.write(writer, b".")

        for number in range(STORM_CLIENTS):
            threading.Thread(target=log_in, args=(number,)).start()
        threading.Event().wait()
    os.close(writer)
    return attacker, reader


def main():
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--culex", default="target/release/culex", help="the broker")
    parser.add_argument("--count", type=int, default=10_000, help="connections of an attack")
    parser.add_argument("kind", nargs="+", choices=["loris", "halfopen", "storm"])
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for kind in arguments.kind:
        with Broker(arguments.culex) as broker:
            storm(broker) if kind == "storm" else besiege(broker, kind, arguments.count)


main()
