"""What engines call their blocks: the chains of digests of vLLM and SGLang, written out from their
documents."""

import hashlib
import pickle
import struct

# What vLLM takes where PYTHONHASHSEED is not set.
DEFAULT_SEED = "vllm-none-hash"


class VllmChain:
    """digest[i] = SHA-256 of (digest[i-1], tokens, extra keys or None), pickled or as CBOR."""

    def __init__(self, algorithm="sha256", seed=DEFAULT_SEED):
        self._serialise = {"sha256": _pickled, "sha256_cbor": _cbor}[algorithm]
        self.root = self._hash(seed)
        self._digests = {}

    def _hash(self, value):
        return hashlib.sha256(self._serialise(value)).digest()

    def next(self, parent, tokens, extra_keys=()):
        return self._hash((parent, tuple(tokens), tuple(extra_keys) or None))

    def digest(self, block):
        """Of a block of the model."""
        if block.parent is None:
            return self.root
        if block not in self._digests:
            self._digests[block] = self.next(
                self.digest(block.parent), block.tokens, block.extra_keys)
        return self._digests[block]

    def name(self, block):
        """What events call it."""
        return int.from_bytes(self.digest(block)[-8:], "big")


class SglangChain:
    """digest[i] = SHA-256 of digest[i-1] and the tokens as little-endian u32."""

    def __init__(self):
        self._digests = {}

    def digest(self, block):
        if block not in self._digests:
            if block.parent.parent is not None:
                before = self.digest(block.parent)
            elif block.extra_keys:
                salt = block.extra_keys[-1].encode()
                before = hashlib.sha256(b"sglang-cache-salt-v1\0" + salt).digest()
            else:
                before = b""
            tokens = struct.pack(f"<{len(block.tokens)}I", *block.tokens)
            self._digests[block] = hashlib.sha256(before + tokens).digest()
        return self._digests[block]

    def name(self, block):
        return int.from_bytes(self.digest(block)[:8], "big")


def _pickled(value):
    return pickle.dumps(value, protocol=5)


def _cbor(value):
    """Canonical CBOR of what a chain hashes."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bytes):
        return _cbor_head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _cbor_head(3, len(text)) + text
    if isinstance(value, int):
        return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
    return _cbor_head(4, len(value)) + b"".join(map(_cbor, value))


def _cbor_head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * width:
            return bytes([major << 5 | code]) + number.to_bytes(width, "big")
    raise ValueError(number)
