#!/usr/bin/env python3
"""What a large store costs: scripts/perf/store.py retained [TOPICS] | restart [GIGABYTES...]

retained: memory of a broker of two shards above an empty one, with TOPICS (1,000,000) retained
messages of 64 bytes, without a log, with one, and after a kill -9; for each topic, also without
topic and payload, which everybody has to keep.

restart: a log of so many GB (1 2 4) of messages that wait for one session, and the time from the
start after a kill -9 to a CONNACK; with messages of 200 bytes and of 10,000, with the log in the
page cache and without.

Both take the release build (CULEX names another binary) and write below target/perf, or WORK.
Nothing else should run. Python's own standard library is enough.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time

BINARY = os.environ.get("CULEX", "target/release/culex")
WORK = os.path.abspath(os.environ.get("WORK", "target/perf/store"))
PORT = int(os.environ.get("PORT", "18871"))
WINDOW = 2000
SETTINGS = """sys_interval_s = 0
shards = 2
durability = "%s"
data_dir = "%s/data"
[[listener]]
address = "127.0.0.1:%d"
[limits]
queue_messages_max = 4000000000
queue_bytes_max = 100000000000
retained_messages_max = 4000000000
retained_bytes_max = 100000000000
[process]
systemd = false
dumpable = true
"""


def text(value):
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def connect(client, clean=True):
    """A socket with a session; blocks until CONNACK."""
    body = text(b"MQTT") + bytes([4, 2 if clean else 0]) + b"\0\0" + text(client)
    sock = socket.create_connection(("127.0.0.1", PORT), 1)
    sock.settimeout(120)
    sock.sendall(packet(0x10, body))
    answer = sock.recv(4)
    assert answer[:1] == b"\x20", answer
    return sock


class Broker:
    """A process of its own, on a data directory that it shares with those before."""

    def __init__(self, durability):
        self.settings = f"{WORK}/culex.toml"
        with open(self.settings, "w", encoding="utf-8") as file:
            file.write(SETTINGS % (durability, WORK, PORT))
        began = time.monotonic()
        with open(f"{WORK}/log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([BINARY, "serve", "-c", self.settings], stderr=log)
        while True:
            try:
                connect(b"probe").close()
                break
            except OSError:
                assert self.process.poll() is None, f"the broker has ended: see {WORK}/log"
                time.sleep(0.002)
        self.start_s = time.monotonic() - began

    def memory(self):
        """Bytes of memory of its own, when it has calmed down."""
        time.sleep(3)
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="utf-8") as file:
            lines = [line.split() for line in file]
        return sum(int(line[1]) * 1024 for line in lines if line[0] == "Anonymous:")

    def kill(self):
        self.process.kill()
        self.process.wait()


def publish(messages):
    """Publishes packets that take a packet identifier, WINDOW of them at a time."""
    sock, sent, acked = connect(b"publisher"), 0, 0
    more = True
    while more or acked < sent:
        parts = []
        while more and sent - acked < WINDOW:
            message = next(messages, None)
            if message is None:
                more = False
                break
            topic, payload, first = message
            identifier = struct.pack(">H", sent % 65535 + 1)
            parts.append(packet(first, text(topic) + identifier + payload))
            sent += 1
        if parts:
            sock.sendall(b"".join(parts))
        if acked < sent:
            acked += len(sock.recv(1 << 16)) // 4
    sock.close()


def fresh():
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)


def retained(topics):
    payload = b"x" * 64
    names = lambda: (b"site/%03d/device/%06d/state" % (n % 1000, n) for n in range(topics))
    known = sum(len(name) + len(payload) for name in names())
    for durability in ("none", "fsync"):
        fresh()
        broker = Broker(durability)
        idle = broker.memory()
        began = time.monotonic()
        publish((name, payload, 0x33) for name in names())
        took = time.monotonic() - began
        report(durability, topics, broker.memory() - idle, known, f"stored in {took:.1f} s")
        broker.kill()
        if durability == "fsync":
            for _ in range(2):
                broker = Broker(durability)
                note = f"after kill -9, ready in {broker.start_s:.2f} s"
                report(durability, topics, broker.memory() - idle, known, note)
                broker.kill()


def report(durability, topics, grown, known, note):
    each, beyond = grown / topics, (grown - known) / topics
    what = f"{each:.0f} bytes each, {beyond:.0f} above topic and payload"
    print(f"{durability}: {topics} topics, {what}; {note}", flush=True)


def log_bytes():
    sizes = 0
    for folder, _, names in os.walk(f"{WORK}/data"):
        sizes += sum(os.stat(f"{folder}/{name}").st_blocks * 512 for name in names)
    return sizes


def drop_caches():
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            os.sync()
            file.write("3\n")
        return True
    except OSError:
        return False


def restart(gigabytes):
    for size in (200, 10_000):
        fresh()
        broker = Broker("fsync")
        keeper = connect(b"keeper", clean=False)
        keeper.sendall(packet(0x82, b"\0\1" + text(b"keep") + b"\1"))
        assert keeper.recv(5)[:1] == b"\x90"
        keeper.sendall(b"\xe0\0")
        keeper.close()
        payload, queued = b"x" * size, 0
        for wanted in gigabytes:
            # Topic, client and frame take about 40 bytes beside the payload.
            count = int(wanted * 1e9 / (size + 40))
            publish((b"keep", payload, 0x32) for _ in range(count - queued))
            queued = count
            broker.kill()
            for cold in (False, True, False, True):
                if cold and not drop_caches():
                    continue
                broker = Broker("fsync")
                what = f"{queued} messages of {size} bytes, {wanted} GB of records"
                where = f"{log_bytes() / 1e9:.2f} GB on disk, {'cold' if cold else 'cached'}"
                took = f"{broker.start_s:.2f} s, {broker.start_s / wanted:.2f} s per GB"
                print(f"{what}, {where}: ready in {took}", flush=True)
                broker.kill()
            broker = Broker("fsync")
        broker.kill()


def main():
    words = sys.argv[1:]
    if words[:1] == ["retained"]:
        retained(int(words[1]) if len(words) > 1 else 1_000_000)
    elif words[:1] == ["restart"]:
        restart([float(word) for word in words[1:]] or [1.0, 2.0, 4.0])
    else:
        print(__doc__, file=sys.stderr)
        return 64
    shutil.rmtree(WORK, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
