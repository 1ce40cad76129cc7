"""Real chat traffic through two simulated caches, every answer compared with the model.

The trace is one JSON object a line with `hash_ids`, an integer per 512-token block of the prompt,
and `input_length` in tokens. It is looked for in $CONDUCTOR_TRACES, then in shared/traces beside
the repository; without it the test is skipped.
"""

import glob
import json
import os
import unittest

from daemon import key
from engine import Engine
from model import Model
from suite import MODEL, EndToEndTest, prompt

REQUESTS = 300
TRACE_BLOCK = 512
BLOCK_SIZE = 128


def find_trace():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    folder = os.environ.get("CONDUCTOR_TRACES") or os.path.join(root, "..", "shared", "traces")
    found = sorted(glob.glob(os.path.join(folder, "*conversation*.jsonl")))
    return found[0] if found else None


def prompts(path):
    """The requests' token ids, made from their hash ids."""
    with open(path, encoding="utf-8") as file:
        for _, line in zip(range(REQUESTS), file):
            request = json.loads(line)
            tokens = []
            for block in request["hash_ids"]:
                tokens += prompt(f"trace {block}", 1, TRACE_BLOCK)
            yield tokens[:request["input_length"]]


class ConversationTrace(EndToEndTest):
    def test_every_answer_equals_the_model(self):
        path = find_trace()
        if path is None:
            self.skipTest("no conversation trace: set CONDUCTOR_TRACES to a folder that has one")
        daemon = self.daemon()
        model = Model(BLOCK_SIZE)
        engines = []
        for name in ("prefill-0", "prefill-1"):
            publisher = self.publisher()
            # Room for a few dozen prompts: both evict all the time.
            engines.append(Engine(model, publisher, name, capacity=4000))
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


if __name__ == "__main__":
    unittest.main()
