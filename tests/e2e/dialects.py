"""The events of publishers other than vLLM, in the bytes that each makes of them. As in events.py
nothing is shared with the daemon."""

import dataclasses
import time

import msgpack

import events
from events import Cleared, Raw, Removed, signed


@dataclasses.dataclass(frozen=True)
class Sglang:
    """Arrays at first, tagged maps later; hashes are signed. `bigrams`: EAGLE's keys, pairs of a
    token and the next one."""

    name: str
    maps: bool
    media: tuple  # device, host, disk
    bigrams: bool = False

    def payload(self, batch, rank=0, timestamp=None):
        timestamp = time.time() if timestamp is None else timestamp
        as_it_is = self._as_map if self.maps else self._as_array
        return msgpack.packb([timestamp, [
            event.value if isinstance(event, Raw) else as_it_is(event) for event in batch], rank])

    def _medium(self, event):
        return self.media[("GPU", "CPU", "STORAGE").index(event.medium)]

    def _tokens(self, event):
        if not self.bigrams:
            return event.tokens
        return [list(pair) for pair in zip(event.tokens, event.tokens[1:] + [0])]

    def _as_array(self, event):
        if isinstance(event, Cleared):
            return ["AllBlocksCleared"]
        hashes = [signed(value) for value in event.hashes]
        if isinstance(event, Removed):
            return ["BlockRemoved", hashes, self._medium(event)]
        parent = None if event.parent is None else signed(event.parent)
        fields = ["BlockStored", hashes, parent, self._tokens(event), event.block_size, None,
                  self._medium(event)]
        return fields + ([{"cache_salt": event.cache_salt}] if event.cache_salt else [])

    def _as_map(self, event):
        if isinstance(event, Cleared):
            return {"type": "AllBlocksCleared"}
        hashes = [signed(value) for value in event.hashes]
        if isinstance(event, Removed):
            return {"type": "BlockRemoved", "block_hashes": hashes, "medium": self._medium(event)}
        fields = {
            "type": "BlockStored", "block_hashes": hashes,
            "parent_block_hash": None if event.parent is None else signed(event.parent),
            "token_ids": self._tokens(event), "block_size": event.block_size, "lora_id": None,
            "medium": self._medium(event)}
        if event.cache_salt:
            fields["cache_salt"] = event.cache_salt
        return fields


SGLANG_ARRAYS = Sglang("SGLang, arrays", maps=False, media=("GPU", "CPU_TIER1", "CPU_TIER2"))
SGLANG_MAPS = Sglang("SGLang, maps", maps=True, media=("GPU", "CPU_PINNED", "DISK"))
SGLANG_BIGRAMS = dataclasses.replace(SGLANG_MAPS, name="SGLang, bigrams", bigrams=True)


@dataclasses.dataclass(frozen=True)
class TensorRtLlm:
    """Maps in a positional batch; a token is an integer or text."""

    name: str = "TensorRT-LLM"

    def payload(self, batch, rank=0, timestamp=None):
        timestamp = time.time() if timestamp is None else timestamp
        return msgpack.packb([timestamp, [self._event(event) for event in batch], rank])

    @staticmethod
    def _event(event):
        if isinstance(event, Raw):
            return event.value
        fields = events.G2.event(event)
        if fields["type"] == "BlockStored":
            fields["token_ids"] = [str(token) if index % 3 == 0 else token
                                   for index, token in enumerate(fields["token_ids"])]
            fields["locality"] = "LOCAL"
            fields["mm_keys"] = [[] for _ in event.hashes]
        return fields


@dataclasses.dataclass
class Rfc1527:
    """The standard envelope: each event names its namespace, and counts."""

    name: str = "RFC 1527"
    model: str = "test-model"
    block_size: int = 16
    tenant: str = "default"
    backend: str = "engine-1"
    next_event: int = 0

    def payload(self, batch, rank=0, timestamp=None):
        now = int((time.time() if timestamp is None else timestamp) * 1000)
        return msgpack.packb([now, [self._event(event, rank, now) for event in batch], rank])

    def _event(self, event, rank, now):
        if isinstance(event, Raw):
            return event.value
        fields = {
            "event_id": self.next_event, "timestamp": now, "model_name": self.model,
            "block_size": self.block_size, "additional_salt": None,
            "lora_name": getattr(event, "lora_name", None), "tenant_id": self.tenant,
            "backend_id": self.backend, "dp_rank": rank}
        self.next_event += 1
        if isinstance(event, Cleared):
            return {**fields, "event_type": "cleared", "medium": "gpu"}
        fields.update(seq_hashes=event.hashes,
                      medium={"GPU": "gpu", "CPU": "cpu", "STORAGE": "disk"}[event.medium])
        if isinstance(event, Removed):
            return {**fields, "event_type": "removed"}
        return {**fields, "event_type": "stored", "parent_hash": event.parent,
                "base_block_idx": 0 if event.parent is None else None,
                "token_ids": event.tokens or None}
