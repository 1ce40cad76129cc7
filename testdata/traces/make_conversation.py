#!/usr/bin/python3
"""Writes a trace of chat traffic to standard output: made up, and always the same.

One JSON object a line, in order of time: `timestamp` in milliseconds, `input_length` and
`output_length` in tokens, and `hash_ids`, a number for each block of 512 tokens of the prompt, the
last one perhaps partly filled. Equal numbers stand for equal blocks after equal prompts. All
prompts begin with the same system prompt; each turn of a conversation begins with the turn before
and its answer; some conversations are short and never come back.
"""

import json
import random

REQUESTS = 200
BLOCK = 512
SYSTEM = 700  # tokens
AT_ONCE = 24  # conversations


class Conversation:
    """A text that grows by a question and an answer at each turn."""

    def __init__(self, source, ids):
        self._source = source
        self._ids = ids
        self._tokens = SYSTEM
        self._blocks = [0]  # the one block that the system prompt fills

    def turn(self):
        """One request: what was said, and a question."""
        self._tokens += self._source.choice([60, 300, 900, 2500])
        while len(self._blocks) * BLOCK < self._tokens:
            self._blocks.append(next(self._ids))
        output = self._source.randrange(1, 800)
        request = {"input_length": self._tokens, "output_length": output,
                   "hash_ids": list(self._blocks)}
        # A block that was partly filled is another one when the text goes on.
        if self._tokens % BLOCK:
            self._blocks.pop()
        self._tokens += output
        return request


def main():
    source = random.Random("conversation")
    ids = iter(range(1, 1 << 30))
    open_now = [Conversation(source, ids) for _ in range(AT_ONCE)]
    time = 0
    for _ in range(REQUESTS):
        index = source.randrange(AT_ONCE)
        if source.random() < 0.15:
            open_now[index] = Conversation(source, ids)
        time += source.randrange(3000)
        print(json.dumps({"timestamp": time, **open_now[index].turn()}))


if __name__ == "__main__":
    main()
