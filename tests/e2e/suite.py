"""The frame of all end-to-end tests: everything that a test starts ends with it, and the daemon's
log is shown when the test failed."""

import random
import unittest

import daemon as process
from publisher import Publisher

MODEL = "test-model"
BLOCK_SIZE = 16


def prompt(seed, blocks, block_size=BLOCK_SIZE, vocabulary=150000):
    """The same tokens for the same seed; a longer prompt begins with a shorter one."""
    source = random.Random(f"prompt {seed}")
    return [source.randrange(vocabulary) for _ in range(blocks * block_size)]


class EndToEndTest(unittest.TestCase):
    maxDiff = None

    def run(self, result=None):
        self._problems_before = _problems(result)
        self._result = result
        return super().run(result)

    def daemon(self, *arguments, **more):
        """A running daemon, killed when the test ends."""
        started = process.Daemon(*arguments, **more)
        self.addCleanup(started.kill)
        self.addCleanup(self._show_log, started)
        return started

    def publisher(self, *arguments, **more):
        """A publisher, closed when the test ends."""
        started = Publisher(*arguments, **more)
        self.addCleanup(started.die)
        return started

    def _show_log(self, started):
        failed = _problems(self._result) > self._problems_before
        outcome = getattr(self, "_outcome", None)
        if failed or (outcome is not None and not outcome.success):
            process.show(f"--- log of the daemon of {self.id()}\n{started.log()}---")

    # What is true is told by a model.

    def assert_answers(self, daemon, model, tokens, lora="", salt="", ask=None, **more):
        """/v1/query gives for every instance of the model, rank and tier, what the model says."""
        ask = dict(ask or {})
        if lora:
            ask["lora_name"] = lora
        if salt:
            ask["cache_salt"] = salt
        entries = daemon.query(MODEL, tokens, **ask, **more)
        for instance in model.instances():
            want = model.instance_figures(instance, tokens, lora, salt)
            entry = entries.get(instance)
            self.assertIsNotNone(entry, f"{instance} is missing in the answer")
            got = (entry["gpu"], entry["cpu"], entry["disk"])
            about = f"{instance}, prompt of {len(tokens)} tokens, lora {lora!r}, salt {salt!r}"
            self.assertEqual(got, tuple(want), f"gpu, cpu, disk of {about}")
            self.assertEqual(entry["longest_matched"], want.longest, about)
            ranks = {int(rank): (tiers["gpu"], tiers["cpu"], tiers["disk"])
                     for rank, tiers in entry["ranks"].items()}
            for rank in set(ranks) | set(model.ranks(instance)):
                self.assertEqual(
                    ranks.get(rank, (0, 0, 0)),
                    tuple(model.rank_figures(instance, rank, tokens, lora, salt)),
                    f"rank {rank} of {about}")
        return entries


def _problems(result):
    return len(result.failures) + len(result.errors) if result is not None else 0
