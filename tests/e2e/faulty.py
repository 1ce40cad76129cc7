"""A publisher with faults that tests switch on: what it sends live is lost, swapped or broken, its
answers to replay requests stall or lie, its sockets come and go one by one."""

import collections
import contextlib
import threading
import time

from publisher import Publisher


class FaultyPublisher(Publisher):
    """`journal` tells, with times, what it did, for a person who looks at a failure.

    `faults_of_answers` are consumed one by each replay request; an answer without one is whole. Each
    is a function (reply, batches) that sends what it likes by `reply`: batches (sequence, payload),
    END, or lists of frames as they are.
    """

    END = "the end marker"

    def __init__(self, *arguments, **more):
        self.journal = collections.deque(maxlen=300)
        self.faults_of_answers = collections.deque()
        self.silent = False            # to replay requests
        self.last_fault = 0.0          # when an answer was faulty
        self.paused = threading.Event()
        self.resumed = threading.Event()
        self._live_fault = None
        self._subscribers = 0
        super().__init__(*arguments, see_subscribers=True, **more)

    def note(self, text):
        self.journal.append(f"{time.monotonic():.3f} {text}")

    def has_subscriber(self):
        """Whether a subscription of this life of the live socket has come."""
        while self._live is not None and self._live.poll(0):
            self._subscribers += 1 if self._live.recv()[:1] == b"\x01" else -1
        return self._subscribers > 0

    # What is sent live.

    @contextlib.contextmanager
    def live_fault(self, fault):
        """Within, `fault(sequence, payload)` does instead of sending what is to be done; batches
        are kept for replays all the same."""
        self._live_fault = fault
        try:
            yield
        finally:
            self._live_fault = None

    def send_again(self, sequence, payload):
        """To be called by a fault."""
        self._send(sequence, payload)

    def publish_payload(self, payload):
        with self._lock:
            sequence = self._keep(payload)
            if self._live_fault is not None:
                self.note(f"batch {sequence}, {self._live_fault.__name__}")
                self._live_fault(sequence, payload)
            else:
                self.note(f"batch {sequence}")
                self._send(sequence, payload)
            return sequence

    def skip(self, *_, **__):
        """In the place of publish(): the encoder failed."""
        self.note(f"sequence {self.fail_to_encode()} is used up by a failure")

    def newest(self, count):
        """Sequences of the last batches that are kept."""
        with self._lock:
            return [sequence for sequence, _ in list(self._ring)[-count:]]

    # Its life.

    def start_live(self):
        self._subscribers = 0
        super().start_live()
        self.note("live socket bound")

    def stop_live(self):
        super().stop_live()
        self.note("live socket closed")

    def start_replay(self):
        super().start_replay()
        self.note("replay socket bound")

    def stop_replay(self):
        super().stop_replay()
        self.note("replay socket closed")

    def begin_again(self):
        """A new life behind the same connections, as with a relay in front of the engine."""
        with self._lock:
            self._ring.clear()
            self._next_sequence = 0
        self.note("a new life, connections kept")

    def restart(self):
        self.note("a new life")
        super().restart()

    # Replays.

    def _serve_one(self, router, request):
        if len(request) != 3 or len(request[2]) != 8:
            return
        first = int.from_bytes(request[2], "big")
        fault = None
        if self.silent:
            fault = no_answer
        elif self.faults_of_answers:
            fault = self.faults_of_answers.popleft()
        self.note(f"asked from {first}" + (f": {fault.__name__}" if fault else ""))
        if fault is not None:
            self.last_fault = time.monotonic()
        else:
            super()._serve_one(router, request)
            return
        with self._lock:
            batches = [batch for batch in self._ring if batch[0] >= first]

        def reply(what):
            if what is self.END:
                router.send_multipart(self._end(request[0]))
            elif isinstance(what, tuple):
                router.send_multipart(self._reply(request[0], *what))
            else:
                router.send_multipart([request[0], *what])

        fault(reply, batches)

    # Faults of answers that need the test's hand.

    def pause(self, reply, batches):
        """Half of the answer, and the rest when the test says so: it sets `resumed` when `paused`
        is set. The engine goes on meanwhile."""
        half = len(batches) // 2
        for batch in batches[:half]:
            reply(batch)
        self.paused.set()
        while not self.resumed.wait(0.01):
            if self._stop.is_set():
                return
        for batch in batches[half:]:
            reply(batch)
        reply(self.END)


# Faults of answers. What is lost here is lost on the way: a ROUTER whose queue to a peer is full
# drops what more is sent there, the end marker too.


def no_answer(_, __):
    pass


def half_an_answer(reply, batches):
    for batch in batches[:len(batches) // 2]:
        reply(batch)


def no_end(reply, batches):
    for batch in batches:
        reply(batch)


def two_answers(reply, batches):
    for _ in range(2):
        for batch in batches:
            reply(batch)
        reply(FaultyPublisher.END)


def every_batch_twice(reply, batches):
    for _ in range(2):
        for batch in batches:
            reply(batch)
    reply(FaultyPublisher.END)


def a_hole(reply, batches):
    """Not at the beginning, where a publisher would deny that it sent the batch asked for."""
    middle = max(1, len(batches) // 2)
    for batch in batches[:middle] + batches[middle + 1:]:
        reply(batch)
    reply(FaultyPublisher.END)


def malformed_between(reply, batches):
    for sequence, payload in batches:
        number = sequence.to_bytes(8, "big")
        for frames in ([b""], [b"", number[:4], payload], [b"", b"", b"", b"", number, payload],
                       [b"", b"\xff" * 8, b"an end with a payload"]):
            reply(frames)
        reply((sequence, payload))
    reply(FaultyPublisher.END)


FAULTS_OF_ANSWERS = [no_answer, half_an_answer, no_end, two_answers, every_batch_twice, a_hole,
                     malformed_between]
