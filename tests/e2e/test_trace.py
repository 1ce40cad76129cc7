"""Chat traffic through two simulated caches, every answer compared with the model.

testdata/traces/README.md has the form of a trace. The one that is there is always replayed, and so
is every other in the folder that $CONDUCTOR_TRACES names.
"""

import os
import subprocess
import sys
import unittest

from daemon import key
from engine import Engine
from model import Model
from suite import EndToEndTest
from traces import OWN_TRACE, TRACES, other_traces, prompts

BLOCK_SIZE = 128
CAPACITY = 1000  # blocks


class ConversationTrace(EndToEndTest):
    def test_every_answer_equals_the_model(self):
        for path in [OWN_TRACE, *other_traces()]:
            with self.subTest(trace=path):
                self.replay(path)

    def replay(self, path):
        daemon = self.daemon()
        model = Model(BLOCK_SIZE)
        engines = []
        for name in ("prefill-0", "prefill-1"):
            publisher = self.publisher()
            # Room for a few dozen prompts: both evict all the time.
            engines.append(Engine(model, publisher, name, capacity=CAPACITY))
            daemon.register(publisher, name, block_size=BLOCK_SIZE)
        matched = 0
        for index, tokens in enumerate(prompts(path)):
            for engine in engines:
                daemon.wait_applied(key(engine.instance), engine.publisher)
            entries = self.assert_answers(daemon, model, tokens)
            best = max(entry["longest_matched"] for entry in entries.values())
            matched += best
            # As a router does: to whom holds most, if that is worth it, or in turn.
            turn = engines[index % len(engines)]
            holder = max(engines, key=lambda engine: entries[engine.instance]["longest_matched"])
            (holder if best > len(tokens) // 2 else turn).run(tokens)
        self.assertGreater(matched, 0)
        self.assertGreater(min(engine.evicted_blocks for engine in engines), 0)
        daemon.stop()

    def test_the_trace_is_what_its_generator_writes(self):
        made = subprocess.run([sys.executable, os.path.join(TRACES, "make_conversation.py")],
                              check=True, capture_output=True).stdout
        with open(OWN_TRACE, "rb") as file:
            self.assertEqual(file.read(), made)


if __name__ == "__main__":
    unittest.main()
