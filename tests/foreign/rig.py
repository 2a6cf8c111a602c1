"""What the Python drivers share: cases, deadlines, and one line of output per case.

A driver is called as `driver.py [SCHEME://]HOST:PORT [SKIPPED,...]`, where SCHEME is mqtt, mqtts,
ws or wss. It prints `ok NAME` or `FAIL NAME: why` per case and exits with 1 if one failed, with 64
if it was called wrongly. For mqtts and wss the variable CULEX_TEST_CA names the file of the
authority; CULEX_TEST_CERTIFICATE and CULEX_TEST_KEY are those of the client's own certificate, if
it has one.
"""

import os
import sys
import threading
import time
import traceback

DEADLINE_S = 20
SCHEMES = ("mqtt", "mqtts", "ws", "wss")
SCHEME = sys.argv[1].split("://")[0] if "://" in "".join(sys.argv[1:2]) else "mqtt"
CA = os.environ.get("CULEX_TEST_CA")
CERTIFICATE = os.environ.get("CULEX_TEST_CERTIFICATE")
KEY = os.environ.get("CULEX_TEST_KEY")
# Client ids decide the home shard by a keyed hash: with eight per role it is very unlikely that
# all of them land on the same one of two shards.
SPREAD = 8
# Drivers run side by side against one broker, so no id and no topic may be shared.
RUN = os.urandom(4).hex()
# MQTT 3.1 allows no longer client id.
CLIENT_ID_BYTES_MAX = 23


class Failure(Exception):
    """The broker did not do what the case asks for."""


def expect(condition, text):
    """Fails the case with `text` unless `condition` holds."""
    if not condition:
        raise Failure(text)


def expect_equal(found, wanted, what):
    """Fails the case unless both are equal."""
    if found != wanted:
        raise Failure(f"{what}: found {shorten(found)}, wanted {shorten(wanted)}")


def shorten(value):
    """A value fit for one line."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:280]}… ({len(text)} characters)"


class Events:
    """A condition that other threads signal and the case waits on, always with a deadline."""

    def __init__(self):
        self.condition = threading.Condition()

    def signal(self, change):
        """Runs `change` under the lock and wakes whoever waits."""
        with self.condition:
            change()
            self.condition.notify_all()

    def wait(self, holds, what, deadline_s=DEADLINE_S):
        """Returns the first true result of `holds`."""
        end = time.monotonic() + deadline_s
        with self.condition:
            while not (result := holds()):
                left = end - time.monotonic()
                if left <= 0:
                    raise Failure(f"waited {deadline_s} s for {what}")
                self.condition.wait(left)
            return result


def unique(name):
    """A client id or topic that no other driver uses."""
    result = f"{name}-{RUN}"
    assert len(result) <= CLIENT_ID_BYTES_MAX, result
    return result


def spread(name):
    """Ids of `SPREAD` clients of one role."""
    return [unique(f"{name}{number}") for number in range(SPREAD)]


def run(cases):
    """Runs `(name, function)` pairs against the address of the command line; does not return."""
    if len(sys.argv) < 2 or ":" not in sys.argv[1] or SCHEME not in SCHEMES:
        print(f"usage: {sys.argv[0]} [SCHEME://]HOST:PORT [SKIPPED,...]", file=sys.stderr)
        sys.exit(64)
    host, port = sys.argv[1].split("://")[-1].rsplit(":", 1)
    skipped = sys.argv[2].split(",") if len(sys.argv) > 2 else []
    failed = 0
    for name, case in cases:
        if name in skipped:
            print(f"skip {name}", flush=True)
            continue
        started = time.monotonic()
        try:
            case(host, int(port))
            print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Failure as failure:
            failed += 1
            print(f"FAIL {name}: {failure}", flush=True)
        except ConnectionError as error:
            print(f"FAIL {name}: {error}; the broker is gone, no case can follow", flush=True)
            os._exit(1)
        except Exception:  # A driver's own fault must not hide the cases after it.
            failed += 1
            print(f"FAIL {name}: {traceback.format_exc()}", flush=True)
    print(f"{len(cases)} cases, {failed} failed", flush=True)
    # Client threads of a failed case may still run; they must not keep the process alive.
    os._exit(1 if failed else 0)
