"""mosquitto_pub, mosquitto_sub and mosquitto_rr against a broker.

Usage: mosquitto_cases.py HOST:PORT [SKIPPED,...]
"""

import subprocess
import threading
from functools import partial

import rig
from rig import DEADLINE_S, SPREAD, Events, Failure, expect, expect_equal, spread, unique

VERSIONS = ("31", "311", "5")


def reach(address):
    """The options that lead to the broker."""
    host, port = address
    options = ["-h", host, "-p", str(port)]
    if rig.SCHEME == "mqtts":
        options += ["--cafile", rig.CA]
        if rig.CERTIFICATE:
            options += ["--cert", rig.CERTIFICATE, "--key", rig.KEY]
    return options


class Program:
    """A running client program whose standard output is read line by line."""

    def __init__(self, address, name, *arguments, stdin=None):
        self.name, self.lines, self.ended = name, [], False
        self.events = Events()
        # Line buffering, for the debug output that tells about SUBACK is not flushed.
        command = ["stdbuf", "-oL", name, *reach(address), *arguments]
        self.process = subprocess.Popen(
            command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.signal(partial(self.lines.append, line.rstrip(b"\n")))
        self.events.signal(lambda: setattr(self, "ended", True))

    def wait_line(self, text):
        """Waits for a line that contains `text`."""
        def holds():
            refused(self.lines)
            if self.ended and not any(text in line for line in self.lines):
                raise Failure(f"{self.name} ended: {self.lines[-3:]}")
            return any(text in line for line in self.lines)
        self.events.wait(holds, f"{text} from {self.name}")
        return self

    def finish(self, status=0):
        """Waits for the end and checks the exit status. Returns the lines that are no debug."""
        try:
            found = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"{self.name} does not end; it printed {self.lines[-3:]}") from None
        self.reader.join()
        expect(found == status, f"{self.name}: exit status {found}, printed {self.lines[-3:]}")
        return self.output()

    def output(self):
        """What has been printed, without debug lines."""
        debug = (b"Client ", b"Subscribed ", b"Unsubscribed ")
        return [line for line in self.lines if not line.startswith(debug)]

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()


def refused(lines):
    """Raises what ends the whole run when nobody listens any more."""
    if any(b"Connection refused" in line for line in lines):
        raise ConnectionRefusedError("connection refused")


def publish(address, version, *arguments, text=None):
    """Runs mosquitto_pub to its end."""
    command = ["mosquitto_pub", *reach(address), "-V", version, *arguments]
    done = subprocess.run(
        command, input=text or b"", capture_output=True, timeout=DEADLINE_S, check=False)
    refused([done.stderr])
    expect_equal((done.returncode, done.stderr), (0, b""), " ".join(command))


def subscriber(address, version, *arguments):
    """Starts mosquitto_sub and waits for the SUBACK."""
    program = Program(address, "mosquitto_sub", "-V", version, "-d", *arguments)
    return program.wait_line(b"Subscribed (mid: 1)")


def qos_both_ways(version, *address):
    """Each QoS to each, from many publishers to many subscribers."""
    topic = unique("cliqos")
    readers = [
        (subscriber(address, version, "-i", name, "-t", f"{topic}/+", "-q", str(number % 3),
                    "-C", str(3 * SPREAD), "-F", "%t %p %q"), number % 3)
        for number, name in enumerate(spread("s"))]
    for number, name in enumerate(spread("p")):
        for qos in "012":
            publish(address, version, "-i", name, "-t", f"{topic}/{number}", "-m", qos, "-q", qos)
    for reader, limit in readers:
        wanted = sorted(
            f"{topic}/{number} {qos} {min(qos, limit)}".encode()
            for number in range(SPREAD) for qos in range(3))
        expect_equal(sorted(reader.finish()), wanted, "lines")


def lines_in_order(version, *address):
    """What mosquitto_pub -l reads arrives in order at each QoS."""
    topic = unique("clilines")
    lines = [b"%d" % number for number in range(1000)]
    for qos in "012":
        readers = [
            subscriber(address, version, "-i", name, "-t", topic, "-q", qos, "-C", "1000")
            for name in spread("s")]
        publish(address, version, "-t", topic, "-q", qos, "-l", text=b"\n".join(lines) + b"\n")
        for reader in readers:
            expect_equal(reader.finish(), lines, f"QoS {qos}")


def one_megabyte(version, *address):
    """A payload of 1 MiB from standard input, printed whole."""
    topic = unique("clilarge")
    body = b"0123456789abcdef" * 65536
    for qos in "012":
        reader = subscriber(address, version, "-t", topic, "-q", qos, "-C", "1")
        publish(address, version, "-t", topic, "-q", qos, "-s", text=body)
        expect(reader.finish() == [body], f"QoS {qos}: the payload was changed")


def retained(version, *address):
    """Set, replaced, marked as retained, cleared by -n."""
    topic = unique("cliret")
    for number, name in enumerate(spread("p")):
        for payload in ("old", "new"):
            publish(address, version, "-i", name, "-r", "-q", str(number % 3),
                    "-t", f"{topic}/{number}", "-m", payload)
    for name in spread("s"):
        reader = Program(address, "mosquitto_sub", "-V", version, "-i", name, "-q", "1",
                         "-t", f"{topic}/#", "-C", str(SPREAD), "-F", "%t %p %r")
        wanted = [f"{topic}/{number} new 1".encode() for number in range(SPREAD)]
        expect_equal(sorted(reader.finish()), wanted, "retained messages")
    for number in range(SPREAD):
        publish(address, version, "-r", "-n", "-q", "1", "-t", f"{topic}/{number}")
    late = subscriber(address, version, "-t", f"{topic}/#", "-q", "1", "-C", "1")
    publish(address, version, "-t", f"{topic}/end", "-m", "end", "-q", "1")
    expect_equal(late.finish(), [b"end"], "messages after the retained ones were cleared")


def will(version, *address):
    """A killed subscriber's will is published."""
    topic = unique("cliwill")
    reader = subscriber(address, version, "-t", topic, "-q", "2", "-C", str(SPREAD))
    for number, name in enumerate(spread("w")):
        subscriber(address, version, "-i", name, "-t", unique("other"), "--will-topic", topic,
                   "--will-payload", "gone", "--will-qos", str(number % 3)).kill()
    expect_equal(reader.finish(), [b"gone"] * SPREAD, "wills")


def resumed(version, *address):
    """Messages of the time offline come after the resume."""
    topic = unique("clires")
    expiry = ("-x", "300") if version == "5" else ()
    names = spread("r")
    for name in names:
        done = subprocess.run(
            ["mosquitto_sub", *reach(address), "-V", version, "-i", name, "-c",
             *expiry, "-q", "2", "-t", topic, "-E"], timeout=DEADLINE_S, check=False)
        expect_equal(done.returncode, 0, "mosquitto_sub -E: exit status")
    lines = [b"%d" % number for number in range(50)]
    publish(address, version, "-t", topic, "-q", "2", "-l", text=b"\n".join(lines) + b"\n")
    for name in names:
        reader = Program(address, "mosquitto_sub", "-V", version, "-i", name, "-c", *expiry,
                         "-q", "2", "-t", topic, "-C", str(len(lines)))
        expect_equal(reader.finish(), lines, f"{name}: queued messages")
        # A clean start, so that no session is left behind.
        Program(address, "mosquitto_sub", "-V", version, "-i", name, "-t", topic, "-E").finish()


def taken_over(version, *address):
    """A second client with the same id gets the messages."""
    for name in spread("t"):
        first = subscriber(address, version, "-i", name, "-t", name)
        second = subscriber(address, version, "-i", name, "-t", name, "-q", "1", "-C", "1")
        # mosquitto_sub comes back when it is thrown out, so the first must not see its loss.
        first.kill()
        publish(address, version, "-t", name, "-m", "x", "-q", "1")
        expect_equal(second.finish(), [b"x"], "messages")


def shared(version, *address):
    """A group gets each line once."""
    topic, count = unique("clishare"), 400
    members = [
        subscriber(address, version, "-i", name, "-t", f"$share/cli/{topic}", "-q", "1")
        for name in spread("m")]
    lines = [b"%d" % number for number in range(count)]
    publish(address, version, "-t", topic, "-q", "1", "-l", text=b"\n".join(lines) + b"\n")

    def gathered():
        return [line for member in members for line in member.output()]

    end = Events()
    for member in members:
        # One condition for all: each reader thread signals it as well.
        member.events.condition = end.condition
    end.wait(lambda: len(gathered()) >= count, f"{count} lines of the group")
    for member in members:
        member.process.terminate()
        member.process.wait()
        member.reader.join()
    expect_equal(sorted(gathered()), sorted(lines), "lines of the group")
    shares = sorted(len(member.output()) for member in members)
    expect(shares[0] >= count // SPREAD // 4, f"a member starved: {shares}")


def request_response(version, *address):
    """mosquitto_rr gets the answer of a client elsewhere."""
    topic = unique("clirr")
    for name in spread("r"):
        back = f"{topic}/back/{name}"
        server = subscriber(address, version, "-t", topic, "-q", "1", "-C", "1",
                            "-F", "%p" if version != "5" else "%p %R")
        asking = Program(address, "mosquitto_rr", "-V", version, "-i", name, "-t", topic,
                         "-e", back, "-q", "1", "-m", "question", "-W", str(DEADLINE_S))
        wanted = b"question" if version != "5" else f"question {back}".encode()
        expect_equal(server.finish(), [wanted], "request")
        publish(address, version, "-t", back, "-q", "1", "-m", "answer")
        expect_equal(asking.finish(), [b"answer"], "response")


def properties(*address):
    """Version 5 properties from mosquitto_pub to mosquitto_sub."""
    topic = unique("cliprops")
    reader = subscriber(address, "5", "-t", topic, "-q", "1", "-C", "1",
                        "-D", "subscribe", "subscription-identifier", "42",
                        "-F", "%p|%C|%D|%F|%P|%R|%S")
    publish(address, "5", "-t", topic, "-q", "1", "-m", "x",
            "-D", "publish", "content-type", "text/plain",
            "-D", "publish", "correlation-data", "id",
            "-D", "publish", "payload-format-indicator", "1",
            "-D", "publish", "response-topic", "back",
            "-D", "publish", "user-property", "b", "2",
            "-D", "publish", "user-property", "a", "1")
    expect_equal(reader.finish(), [b"x|text/plain|id|1|b:2 a:1|back|42"], "properties")


def topic_alias(*address):
    """mosquitto_pub -l with a topic alias."""
    topic = unique("clialias")
    reader = subscriber(address, "5", "-t", topic, "-q", "1", "-C", "20", "-F", "%t %p")
    lines = [b"%d" % number for number in range(20)]
    publish(address, "5", "-t", topic, "-q", "1", "-l", "-D", "publish", "topic-alias", "1",
            text=b"\n".join(lines) + b"\n")
    wanted = [f"{topic} ".encode() + line for line in lines]
    expect_equal(reader.finish(), wanted, "lines")


COMMON = (
    qos_both_ways, lines_in_order, one_megabyte, retained, will, resumed, taken_over, shared,
    request_response,
)
# mosquitto_sub 2.0 cannot resolve aliases, so none are offered to it.
ONLY_V5 = (properties, topic_alias)


def main():
    """All cases, the common ones once per version."""
    # MQTT 3.1 knows nothing of shared subscriptions, and nobody offers them there.
    cases = [
        (f"{case.__name__}_{version}", partial(case, version))
        for case in COMMON for version in VERSIONS if (case, version) != (shared, "31")]
    rig.run([*cases, *((case.__name__, case) for case in ONLY_V5)])


if __name__ == "__main__":
    main()
