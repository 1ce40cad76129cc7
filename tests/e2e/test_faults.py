"""Random faults, one after another, on several publishers at once. All of them can be healed (the
replay endpoint is up again and its ring covers what was lost), so every publisher must be live
again, with answers that equal the model."""

import os
import random
import time
import unittest

import events
from daemon import key
from engine import Engine
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, EndToEndTest, prompt

SEEDS = range(int(os.environ.get("CONDUCTOR_E2E_FAULT_SEEDS", "4")))
ROUNDS = 12
HEALED_WITHIN = 20  # seconds; five on a machine with nothing else to do
IMPATIENT = ("--probe-interval", "300ms", "--replay-timeout", "500ms")


class Faults:
    """What may happen to one publisher. Each fault is told to the model, too, where it changes
    what the engine holds."""

    def __init__(self, engine, source):
        self._engine = engine
        self._publisher = engine.publisher
        self._source = source

    def something(self):
        fault = self._source.choice([
            self.work, self.work, self.lose_some, self.lose_the_tail, self.repeat_some,
            self.garbage, self.new_connection, self.new_life, self.long_new_life, self.two_lives,
            self.clear])
        fault()
        return fault.__name__

    def work(self, batches=6):
        for _ in range(self._source.randrange(1, batches)):
            self._engine.run(prompt(self._source.randrange(12), self._source.randrange(1, 12)))

    def lose_some(self):
        publish = self._publisher.publish

        def sometimes(*batch, **more):
            lost = self._source.random() < 0.4
            return self._publisher.drop(*batch) if lost else publish(*batch, **more)

        self._publisher.publish = sometimes
        self.work(20)
        self._publisher.publish = publish

    def lose_the_tail(self):
        publish = self._publisher.publish
        self._publisher.publish = lambda *batch, **more: self._publisher.drop(*batch)
        self.work()
        self._publisher.publish = publish

    def repeat_some(self):
        last = self._publisher.last_sequence
        for _ in range(5 if last >= 0 else 0):
            self._publisher.repeat(self._source.randrange(last + 1))
            self.work(3)

    def garbage(self):
        for frames in ([b""], [b"", b"", b""], [b"", b"1234567", b"payload"], [b""] * 5):
            self._publisher.send_frames(*frames)
        self.work()

    def new_connection(self):
        self._publisher.lose_connections()
        self.work()

    def new_life(self):
        self._engine.forget()
        self._publisher.restart()
        self.work()

    def long_new_life(self):
        batches = self._publisher.last_sequence + 5
        self.new_life()
        while self._publisher.last_sequence < batches:
            self._engine.reset()
            self.work()

    def two_lives(self):
        self.new_life()
        self.new_life()

    def clear(self):
        self._engine.reset()
        self.work()


class RandomFaults(EndToEndTest):
    def test_whatever_can_be_healed_is_healed(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                self.run_seed(seed)

    def run_seed(self, seed):
        source = random.Random(f"faults {seed}")
        daemon = self.daemon(*IMPATIENT)
        model = Model(BLOCK_SIZE)
        engines = []
        for index, (encoding, form) in enumerate([
                (events.G2, ReplayForm.TOPIC), (events.G1_MEDIUM, ReplayForm.PLAIN),
                (events.G2.with_hashes(events.digest), ReplayForm.TOPIC)]):
            publisher = self.publisher(encoding=encoding, replay=form)
            engines.append(Engine(model, publisher, f"engine-{index}", capacity=60, seed=seed,
                                  lru=index != 1))
            daemon.register(publisher, f"engine-{index}")
        happened = []
        for _ in range(ROUNDS):
            for engine in engines:
                happened.append((engine.instance, Faults(engine, source).something()))
            self.wait_until_healed(daemon, model, engines, happened)
        daemon.stop()

    def wait_until_healed(self, daemon, model, engines, happened):
        """A new life with as many batches as the old one looks like it until the connection is
        seen to be a new one: so what was applied is waited for until the answers are right, too."""
        deadline = time.monotonic() + HEALED_WITHIN
        while True:
            try:
                for engine in engines:
                    daemon.wait_applied(key(engine.instance), engine.publisher,
                                        seconds=max(0, deadline - time.monotonic()))
                for number in range(12):
                    self.assert_answers(daemon, model, prompt(number, 12))
                self.assertEqual(daemon.metrics()["conductor_index_holdings"], model.holdings())
                return
            except AssertionError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not healed after {happened}") from error


if __name__ == "__main__":
    unittest.main()
