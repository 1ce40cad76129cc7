"""Prompts of chat traffic, from the traces that are there."""

import glob
import json
import os

from suite import prompt

REQUESTS = 300
TRACE_BLOCK = 512

TRACES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "traces")
OWN_TRACE = os.path.join(TRACES, "conversation.jsonl")


def other_traces():
    """Those of $CONDUCTOR_TRACES. None is an error where a folder was named."""
    folder = os.environ.get("CONDUCTOR_TRACES")
    if not folder:
        return []
    found = sorted(glob.glob(os.path.join(folder, "*.jsonl")))
    if not found:
        raise RuntimeError(f"CONDUCTOR_TRACES: no *.jsonl in {folder}")
    return found


def prompts(path, requests=REQUESTS):
    """The requests' token ids, made from their hash ids."""
    with open(path, encoding="utf-8") as file:
        for _, line in zip(range(requests), file):
            request = json.loads(line)
            tokens = []
            for block in request["hash_ids"]:
                tokens += prompt(f"trace {block}", 1, TRACE_BLOCK)
            yield tokens[:request["input_length"]]
