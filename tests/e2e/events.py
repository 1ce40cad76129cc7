"""KV events as vLLM engines mean them, and the bytes that each generation of vLLM makes of them.

Nothing here is shared with the daemon: the layouts are written out by hand, slot by slot and key by
key, so that a mistake in the daemon's decoder cannot hide in its own encoder.
"""

import dataclasses
import hashlib
import time

import msgpack


@dataclasses.dataclass
class Stored:
    """Blocks that follow one another became available. `hashes` are integers in [0, 2**64)."""

    hashes: list
    parent: int | None
    tokens: list
    block_size: int
    lora_id: int | None = None
    medium: str | None = "GPU"
    lora_name: str | None = None
    extra_keys: list | None = None  # one entry a block: None or a list
    group_idx: int | None = None
    spec_kind: str | None = None
    sliding_window: int | None = None
    cache_salt: str | None = None  # of the request; vLLM has it among the extra keys


@dataclasses.dataclass
class Removed:
    hashes: list
    medium: str | None = "GPU"
    group_idx: int | None = None


@dataclasses.dataclass
class Cleared:
    pass


@dataclasses.dataclass
class Raw:
    """An event that no release sends: packed as it is."""

    value: object


def placeholder(block_hash, medium):
    """What an offloading connector announces: a name without tokens."""
    return Stored(hashes=[block_hash], parent=None, tokens=[], block_size=0, medium=medium)


# How a block's name is written. All three mean the same 64 bits to a consumer.
def unsigned(block_hash):
    return block_hash


def signed(block_hash):
    return block_hash - (1 << 64) if block_hash >> 63 else block_hash


def digest(block_hash):
    """A 32-byte digest whose last 8 bytes, most significant first, are the integer."""
    tail = block_hash.to_bytes(8, "big")
    return hashlib.sha256(tail).digest()[:24] + tail


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One generation's layout.

    `stored_slots` and `removed_slots` count a positional event's slots, its tag included; None
    means tagged maps. `batch` is the number of items of a positional batch, or "map".
    """

    name: str
    batch: object
    stored_slots: int | None
    removed_slots: int | None
    write_hash: object = unsigned

    def with_hashes(self, write_hash):
        return dataclasses.replace(
            self, name=f"{self.name}/{write_hash.__name__}", write_hash=write_hash)

    def payload(self, events, rank=0, timestamp=None):
        timestamp = time.time() if timestamp is None else timestamp
        items = [self.event(event) for event in events]
        if self.batch == "map":
            body = {"ts": timestamp, "events": items, "data_parallel_rank": rank}
        else:
            body = [timestamp, items, rank][:self.batch]
        return msgpack.packb(body)

    def event(self, event):
        if isinstance(event, Raw):
            return event.value
        return self._as_map(event) if self.stored_slots is None else self._as_array(event)

    def _hash(self, block_hash):
        return None if block_hash is None else self.write_hash(block_hash)

    def _as_array(self, event):
        if isinstance(event, Cleared):
            return ["AllBlocksCleared"]
        hashes = [self._hash(block_hash) for block_hash in event.hashes]
        if isinstance(event, Removed):
            return ["BlockRemoved", hashes, event.medium, event.group_idx][:self.removed_slots]
        return [
            "BlockStored", hashes, self._hash(event.parent), event.tokens, event.block_size,
            event.lora_id, event.medium, event.lora_name, event.extra_keys, event.group_idx,
            event.spec_kind, event.sliding_window,
        ][:self.stored_slots]

    def _as_map(self, event):
        if isinstance(event, Cleared):
            return {"type": "AllBlocksCleared"}
        hashes = [self._hash(block_hash) for block_hash in event.hashes]
        if isinstance(event, Removed):
            fields = {"type": "BlockRemoved", "block_hashes": hashes, "medium": event.medium}
            defaulted = {"group_idx": event.group_idx}
        else:
            fields = {
                "type": "BlockStored", "block_hashes": hashes,
                "parent_block_hash": self._hash(event.parent), "token_ids": event.tokens,
                "block_size": event.block_size, "lora_id": event.lora_id,
                "medium": event.medium, "lora_name": event.lora_name,
            }
            defaulted = {
                "extra_keys": event.extra_keys, "group_idx": event.group_idx,
                "kv_cache_spec_kind": event.spec_kind,
                "kv_cache_spec_sliding_window": event.sliding_window,
            }
        # Only fields that were declared with a default are left out when they have it.
        fields.update((key, value) for key, value in defaulted.items() if value is not None)
        return fields


# v0.9.0: no rank, no medium.
G0 = Encoding("G0", batch=2, stored_slots=6, removed_slots=2)
# v0.11: medium.
G1_MEDIUM = Encoding("G1, 7 slots", batch=3, stored_slots=7, removed_slots=3)
# v0.15: LoRA name.
G1_LORA = Encoding("G1, 8 slots", batch=3, stored_slots=8, removed_slots=3)
# Early 2026: extra keys.
G1_EXTRA = Encoding("G1, 9 slots", batch=3, stored_slots=9, removed_slots=3)
# v0.23: KV-cache groups.
G1_GROUPS = Encoding("G1, 12 slots", batch=3, stored_slots=12, removed_slots=4)
# v0.24 on: tagged maps.
G2 = Encoding("G2", batch=3, stored_slots=None, removed_slots=None)
# Seen in a variant: the batch is a map, too.
G3 = Encoding("G3", batch="map", stored_slots=None, removed_slots=None)

GENERATIONS = [G0, G1_MEDIUM, G1_LORA, G1_EXTRA, G1_GROUPS, G2, G3]
HASH_FORMS = [unsigned, signed, digest]
