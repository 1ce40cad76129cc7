"""A publisher of KV events that behaves as an engine's does: a PUB socket with frames
[topic, sequence, payload] numbered from 0, and optionally a ROUTER that replays a ring of the last
batches in either of the two reply forms. Faults are methods, switched on by the test.
"""

import collections
import contextlib
import enum
import random
import socket
import threading
import time

import zmq

import events

END_OF_REPLAY = b"\xff" * 8
PARTS_OF_PORTS = 20
PORTS_OF_A_PART = 1000


class ReplayForm(enum.Enum):
    PLAIN = "up to v0.25: [sequence, payload]"
    TOPIC = "from v0.26 on: [topic, sequence, payload]"


class _Part:
    """The ports that this process alone takes, in turn: none comes again before all others."""

    def __init__(self):
        self._guard = socket.socket(socket.AF_UNIX)
        parts = list(range(PARTS_OF_PORTS))
        random.shuffle(parts)
        for number in parts:
            with contextlib.suppress(OSError):  # another suite has it, for as long as it runs
                self._guard.bind(f"\0conductor-e2e-ports-{number}")
                break
        else:
            raise RuntimeError(f"{PARTS_OF_PORTS} suites run already, which share the ports")
        self._begin = 11000 + number * PORTS_OF_A_PART
        self._next = random.randrange(PORTS_OF_A_PART)

    def take(self, count):
        if self._next + count > PORTS_OF_A_PART:
            self._next = 0
        first = self._begin + self._next
        self._next += count
        return first


_part = None


def free_ports(count=1, host="127.0.0.1"):
    """The first of `count` ports in a row that nobody listens on.

    Taken from below the ephemeral range, so that no outgoing connection takes one meanwhile and
    none connects to itself while nobody listens there. Suites that run at the same time take them
    from different parts of it: a publisher that is away for a while finds its ports free again.
    """
    global _part
    if _part is None:
        _part = _Part()
    for _ in range(1000):
        first = _part.take(count)
        sockets = []
        try:
            for port in range(first, first + count):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                probe = socket.socket(family, socket.SOCK_STREAM)
                sockets.append(probe)
                probe.bind((host, port))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise RuntimeError("no free ports")


class Publisher:
    """Sockets are bound by start() (at once, unless `started` is False), to ports that stay the
    same over all lives; with `connect_to` the live socket connects to a listener instead, from the
    address `source`. Methods may be called from one thread; replays are served by another."""

    def __init__(self, encoding=events.G2, host="127.0.0.1", replay=ReplayForm.TOPIC, ring=10000,
                 topic=b"", rank=0, started=True, see_subscribers=False, ports=None,
                 connect_to=None, source=None):
        self.encoding = encoding
        self.host = host
        self.rank = rank
        first = free_ports(2, host) if ports is None else None
        self.live_port, self.replay_port = ports or (first, first + 1)
        self._connect_to = connect_to
        self._source = source
        self.replay = replay
        self.topic = topic
        self._ring = collections.deque(maxlen=ring)
        self._next_sequence = 0
        self._see_subscribers = see_subscribers
        self._lock = threading.Lock()
        self._stop = None
        self._live = None
        self.replays_served = 0
        self._server = None
        if started:
            self.start()

    # Where it is.

    @property
    def endpoint(self):
        return self._connect_to or self._address(self.live_port)

    @property
    def replay_endpoint(self):
        return self._address(self.replay_port) if self.replay else ""

    def _address(self, port):
        return f"tcp://[{self.host}]:{port}" if ":" in self.host else f"tcp://{self.host}:{port}"

    @property
    def last_sequence(self):
        return self._next_sequence - 1

    # Its life.

    def start(self):
        self.start_live()
        self.start_replay()

    def die(self):
        """Both sockets go away; what was published is forgotten by the next restart()."""
        self.stop_replay()
        self.stop_live()

    def start_live(self):
        # An XPUB is a PUB that also tells its owner of subscriptions.
        self._live = zmq.Context.instance().socket(
            zmq.XPUB if self._see_subscribers else zmq.PUB)
        if self._see_subscribers:
            # Of each, and not only of the first and the last of a topic.
            self._live.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._live.sndhwm = 100000
        self._live.linger = 0
        if self._connect_to is None:
            bind_patiently(self._live, self.endpoint)
        else:
            scheme, address = self._connect_to.split("://")
            source = f"{self._source}:0;" if self._source else ""
            self._live.connect(f"{scheme}://{source}{address}")

    def stop_live(self):
        if self._live is not None:
            self._live.close()
            self._live = None

    def start_replay(self):
        if not self.replay:
            return
        router = zmq.Context.instance().socket(zmq.ROUTER)
        router.sndhwm = 0
        router.linger = 0
        bind_patiently(router, self.replay_endpoint)
        self._stop = threading.Event()
        self._server = threading.Thread(
            target=self._serve_replays, args=(router, self._stop), daemon=True)
        self._server.start()

    def stop_replay(self):
        if self._stop is not None:
            self._stop.set()
            self._server.join()
            self._stop = None

    def history(self):
        """What a replay from 0 would bring, as (sequence, payload)."""
        with self._lock:
            return list(self._ring)

    def restart(self):
        """A new process on the same ports: an empty ring, sequences from 0."""
        self.die()
        with self._lock:
            self._ring.clear()
            self._next_sequence = 0
        self.start()

    def lose_connections(self):
        """The sockets are closed and opened again; the life and its ring go on."""
        self.die()
        self.start()

    def wait_for_subscriber(self, seconds=30):
        """Only with `see_subscribers`: returns when a subscription has come."""
        while self._live.poll(seconds * 1000):
            if self._live.recv()[:1] == b"\x01":  # and not of one that has left
                return
        raise AssertionError(f"nobody subscribed to {self.endpoint} within {seconds} s")

    # What it says. Each returns the sequence.

    def publish(self, *batch, rank="own", timestamp=None):
        rank = self.rank if rank == "own" else rank
        return self.publish_payload(self.encoding.payload(batch, rank, timestamp))

    def publish_payload(self, payload):
        with self._lock:
            sequence = self._keep(payload)
            self._send(sequence, payload)
            return sequence

    # Faults.

    def drop(self, *batch):
        """The batch is lost on the way to subscribers; the ring has it."""
        with self._lock:
            return self._keep(self.encoding.payload(batch, self.rank))

    def fail_to_encode(self):
        """A sequence is used up, and nothing was ever sent or kept under it."""
        with self._lock:
            self._next_sequence += 1
            return self._next_sequence - 1

    def repeat(self, sequence):
        """A batch that was sent is sent again."""
        with self._lock:
            payload = next(kept for number, kept in self._ring if number == sequence)
            self._send(sequence, payload)

    def send_frames(self, *frames):
        """Any frames at all; no sequence is used."""
        with self._lock:
            self._live.send_multipart(frames)

    # Within.

    def _keep(self, payload):
        sequence = self._next_sequence
        self._next_sequence += 1
        self._ring.append((sequence, payload))
        return sequence

    def _send(self, sequence, payload):
        if self._live is not None:
            self._live.send_multipart([self.topic, sequence.to_bytes(8, "big"), payload])

    def _serve_replays(self, router, stop):
        while not stop.is_set():
            if router.poll(20):
                self._serve_one(router, router.recv_multipart())
        router.close()

    def _serve_one(self, router, request):
        # An engine ignores what is not [identity, "", sequence] without a word.
        if len(request) != 3 or len(request[2]) != 8:
            return
        identity, first = request[0], int.from_bytes(request[2], "big")
        with self._lock:  # an engine publishes nothing while it replays
            for batch in self._ring:
                if batch[0] >= first:
                    router.send_multipart(self._reply(identity, *batch))
            router.send_multipart(self._end(identity))
            self.replays_served += 1

    def _reply(self, identity, sequence, payload):
        topic = [self.topic] if self.replay is ReplayForm.TOPIC else []
        return [identity, b"", *topic, sequence.to_bytes(8, "big"), payload]

    def _end(self, identity):
        topic = [b""] if self.replay is ReplayForm.TOPIC else []
        return [identity, b"", *topic, END_OF_REPLAY, b""]


def bind_patiently(zmq_socket, endpoint):
    """A socket of ours that was just closed may hold the address for a moment longer."""
    zmq_socket.ipv6 = "[" in endpoint
    deadline = time.monotonic() + 10
    while True:
        try:
            return zmq_socket.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
