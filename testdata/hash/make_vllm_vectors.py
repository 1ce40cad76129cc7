#!/usr/bin/env python3
"""Makes vllm_vectors.json, or with --check compares it with what it would make.

The chains of block digests that vLLM computes (lib/hash/hash_profile.h says how), from Python's own
pickle, hashlib and python3-xxhash, and a CBOR writer of its own, held against cbor2 where that is
installed.

A case is a chain: `blocks` blocks of `block_size` tokens, each with the extra keys of `extras` at
its place, if any. Tokens are a list, or {"first", "step", "count"}; a text is a string, or
{"repeat", "times"}. An extra key is {"text"}, {"bytes"} (hex), {"integer"} or
{"item": [identifier, offset]}. `serialised` has the bytes of the first block where they are few.
"""

import hashlib
import json
import pickle
import sys
from pathlib import Path

import xxhash

try:
    import cbor2
except ImportError:
    cbor2 = None

OUT = Path(__file__).with_name("vllm_vectors.json")
ABOUT = "Made by make_vllm_vectors.py, which explains it."


def cbor(value):
    def head(major, number):
        if number < 24:
            return bytes([major << 5 | number])
        width = next(w for w in (1, 2, 4, 8) if number < 256**w)
        return bytes([major << 5 | 23 + width.bit_length()]) + number.to_bytes(width, "big")

    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(4, len(value)) + b"".join(map(cbor, value))


def pickled(value):
    return pickle.dumps(value, protocol=5)


def canonical_cbor(value):
    raw = cbor(value)
    assert cbor2 is None or raw == cbor2.dumps(value, canonical=True)
    return raw


def sha256(raw):
    return hashlib.sha256(raw).digest()


def xxh3_128(raw):
    return xxhash.xxh3_128_digest(raw)


ALGORITHMS = {
    "sha256": (pickled, sha256),
    "sha256_cbor": (canonical_cbor, sha256),
    "xxhash": (pickled, xxh3_128),
    "xxhash_cbor": (canonical_cbor, xxh3_128),
}


# ------------------------------------------------------------------ values as the file writes them
def tokens_of(form):
    if isinstance(form, list):
        return form
    return [form["first"] + form["step"] * i for i in range(form["count"])]


def text_of(form):
    text = form if isinstance(form, str) else form["repeat"] * form["times"]
    # A new object each time, because pickle writes one that it has met before as a reference. (Of
    # a text of one Latin-1 character CPython has one object only, whatever is done.)
    return "".join(list(text))


def key_of(form):
    if "text" in form:
        return text_of(form["text"])
    if "bytes" in form:
        return bytes.fromhex(form["bytes"])
    if "integer" in form:
        return form["integer"]
    identifier, offset = form["item"]
    return (text_of(identifier), offset)


# ------------------------------------------------------------------------------------------- cases
def scattered(count, seed, bound):
    """Tokens without a pattern: a linear congruential generator."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((state >> 33) % bound)
    return out


def everywhere(key, blocks=4):
    return [[key] for _ in range(blocks)]


WIDTHS = [0, 1, 22, 23, 24, 25, 254, 255, 256, 257, 65534, 65535, 65536, 65537, 151935, 2**31 - 1]
LORA_AND_SALT = [[{"text": "ad"}, {"text": "salt"}], [{"text": "ad"}]]

CASES = [
    dict(name="plain", seed="0", block_size=16, tokens=dict(first=1000, step=37, count=64)),
    dict(name="lora", seed="42", block_size=32, tokens=scattered(128, 2026, 151936),
         extras=everywhere({"text": "sql-lora-v3"})),
    dict(name="salt", seed="1234567", block_size=128, tokens=scattered(512, 77, 128256),
         extras=[[{"text": "tenant-42/blue"}]]),
    dict(name="lora and salt in UTF-8", seed="random", block_size=16, tokens=scattered(64, 5, 32000),
         extras=[[{"text": "adaptér-β"}, {"text": "sel-été-水"}]] + everywhere({"text": "adaptér-β"}, 3)),
    dict(name="integer widths", seed="7", block_size=16,
         tokens=WIDTHS + WIDTHS[::-1] + WIDTHS[8:] + WIDTHS[:8] + [t // 2 for t in WIDTHS]),
    dict(name="tokens from 2^31 on", seed="7", block_size=4,
         tokens=[2**31 - 1, 2**31, 2**32 - 1, 0, 2**31 + 1, 2**32 - 2, 65536, 255]),
    dict(name="ragged tail", seed="4294967295", block_size=32, tokens=scattered(133, 11, 50257)),
    dict(name="long names", seed="007", block_size=16, tokens=dict(first=0, step=1, count=64),
         extras=[[{"text": {"repeat": "L", "times": 300}}, {"text": "s" * 24}]] +
         everywhere({"text": {"repeat": "L", "times": 300}}, 3)),
    dict(name="the seed of engines without one", seed="vllm-none-hash", block_size=16,
         tokens=scattered(64, 31337, 151936)),
    dict(name="a root given outright", root=hashlib.sha256(b"seventeen zebras").hexdigest(),
         block_size=16, tokens=scattered(64, 99, 200000), extras=[[{"text": "x"}]]),
    dict(name="empty seed", seed="", block_size=2, tokens=[1, 2, 3, 4]),
    dict(name="seed 00", seed="00", block_size=2, tokens=[1, 2, 3, 4]),
    dict(name="seed of 255 bytes", seed="s" * 255, block_size=2, tokens=[1, 2]),
    dict(name="seed of 256 bytes", seed="s" * 256, block_size=2, tokens=[1, 2]),
    dict(name="seed of 64 KiB", seed={"repeat": "s", "times": 65536}, block_size=2, tokens=[1, 2]),
    dict(name="worked example", seed="0", block_size=4, tokens=[5, 300, 70000, 2, 1, 2, 3, 4],
         extras=LORA_AND_SALT),
    dict(name="blocks of one", seed="0", block_size=1, tokens=[7, 300, 70000, 2**31]),
    dict(name="blocks of two", seed="0", block_size=2, tokens=[7, 300, 70000, 2**31]),
    dict(name="blocks of three", seed="0", block_size=3, tokens=[7, 300, 70000, 2**31, 1, 2]),
    dict(name="blocks of 24", seed="0", block_size=24, tokens=dict(first=0, step=1, count=48)),
    dict(name="blocks of 300", seed="0", block_size=300, tokens=dict(first=0, step=1, count=600)),
    dict(name="multimodal items", seed="0", block_size=4, tokens=dict(first=151655, step=0, count=12),
         extras=[[{"item": ["image-1", 2]}], [{"item": ["image-1", -2]}, {"item": ["image-2", 300]}],
                 [{"text": "ad"}, {"item": ["audio", 0]}, {"text": "bare"}]]),
    dict(name="offsets of every width", seed="0", block_size=1,
         tokens=dict(first=1, step=1, count=12),
         extras=[[{"item": ["image", offset]}] for offset in
                 (-1, -24, -25, -256, -257, -2**31, -2**31 - 1, 23, 24, 65536, 2**31, 2**63 - 1)]),
    dict(name="LoRA as an integer", seed="0", block_size=2, tokens=[1, 2, 3, 4],
         extras=everywhere({"integer": 3}, 2)),
    dict(name="prompt embeds", seed="0", block_size=2, tokens=[0, 0, 0, 0],
         extras=[[{"text": "ad"}, {"text": "salt"}, {"bytes": hashlib.sha256(b"0").hexdigest()}],
                 [{"text": "ad"}, {"bytes": hashlib.sha256(b"1").hexdigest()}]]),
    dict(name="bytes of 255 and 256", seed="0", block_size=1, tokens=[1, 2],
         extras=[[{"bytes": "ab" * 255}], [{"bytes": "cd" * 256}]]),
    dict(name="four extra keys", seed="0", block_size=1, tokens=[1],
         extras=[[{"text": "ad"}, {"item": ["image", 0]}, {"item": ["image", 1]}, {"text": "salt"}]]),
    dict(name="the name of the adapter is the salt", seed="0", block_size=1, tokens=[1],
         extras=[[{"text": "same"}, {"text": "same"}]]),
    dict(name="texts that CPython has once", seed="0", block_size=1, tokens=[1, 2, 3, 4],
         extras=[[{"text": "a"}, {"text": "a"}], [{"text": "é"}, {"item": ["é", 0]}, {"text": "e"}],
                 [{"text": ""}, {"text": ""}], [{"text": "β"}]]),
    dict(name="a reference beyond 255", seed="0", block_size=4, tokens=[1, 2, 3, 4],
         extras=[[{"item": [f"image-{i}", i]} for i in range(130)] + [{"text": "z"}, {"text": "z"}]]),
    # Frames of 64 KiB: closed at the first value that begins behind it.
    dict(name="frames of one-byte tokens", seed="0", block_size=40000,
         tokens=dict(first=9, step=0, count=80000), extras=[[{"text": "ad"}], []]),
    dict(name="frames of large tokens", seed="0", block_size=20000,
         tokens=dict(first=70000, step=3, count=40000), extras=LORA_AND_SALT),
    dict(name="text of 64 KiB less one", seed="0", block_size=2, tokens=[1, 2],
         extras=[[{"text": {"repeat": "t", "times": 65535}}, {"text": "salt"}]]),
    dict(name="text of 64 KiB", seed="0", block_size=2, tokens=[1, 2],
         extras=[[{"text": {"repeat": "t", "times": 65536}}, {"text": "salt"}]]),
    dict(name="long text after long text", seed="0", block_size=2, tokens=[1, 2],
         extras=[[{"text": {"repeat": "t", "times": 65536}}, {"text": {"repeat": "u", "times": 70000}}]]),
] + [
    dict(name=f"the last frame {what}", seed="0", block_size=count,
         tokens=dict(first=1, step=0, count=count))
    for what, count in (("takes tokens", 32760), ("begins behind the tokens", 32750),
                        ("begins behind the tokens, just", 32749), ("is the first, just", 32748))
]


def chain(case, algorithm):
    serialise, digest = ALGORITHMS[algorithm]
    root = bytes.fromhex(case["root"]) if "root" in case else digest(serialise(text_of(case["seed"])))
    tokens, size, extras = tokens_of(case["tokens"]), case["block_size"], case.get("extras", [])
    parent, digests, first = root, [], b""
    for i in range(len(tokens) // size):
        keys = tuple(key_of(form) for form in (extras[i] if i < len(extras) else [])) or None
        raw = serialise((parent, tuple(tokens[i * size:(i + 1) * size]), keys))
        parent = digest(raw)
        digests.append(parent.hex())
        first = first or raw
    result = {"root": root.hex(), "digests": digests}
    if len(first) <= 400:
        result["serialised"] = first.hex()
    return result


def document():
    cases = [dict(case, chains={name: chain(case, name) for name in ALGORITHMS}) for case in CASES]
    lines = ",\n".join(json.dumps(case) for case in cases)
    return f'{{"about": {json.dumps(ABOUT)}, "cases": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if OUT.read_text() != document():
            sys.exit(f"{OUT} is not what {Path(__file__).name} makes")
    elif len(sys.argv) > 1:
        sys.exit(__doc__)
    else:
        OUT.write_text(document())
