"""The prefix cache of one engine rank, as far as its KV events show it: tells its publisher what
it does and the model what it holds."""

import random

import events

MEDIA = {"gpu": "GPU", "cpu": "CPU", "disk": "STORAGE"}


class Engine:
    """Blocks are named by numbers that mean nothing to others, unless `hashes` is given. The device
    has `capacity` physical blocks; as in real engines one block of a prompt may sit in several of
    them, each announced and each removed. Blocks that lose their place on the device may move on to
    host and disk."""

    def __init__(self, model, publisher, instance, rank=0, capacity=1000, seed=0, lru=True,
                 offload=0.0, tell_rank="own", hashes=None):
        self.model = model
        self.publisher = publisher
        self.instance = instance
        self.rank = rank
        self._capacity = capacity
        self._random = random.Random(f"{instance}/{rank}/{seed}")
        self._lru = lru
        self._offload = offload          # chance that an evicted block goes to the host
        self._tell_rank = rank if tell_rank == "own" else tell_rank
        self._hashes = hashes            # names the blocks (hashes.py); otherwise by chance
        self._names = {}
        # Id of a physical block -> block, least recently used first.
        self._physical = {}
        self._next_physical = 0
        self.stored_blocks = 0
        self.evicted_blocks = 0

    def name(self, block):
        if self._hashes is not None:
            return self._hashes.name(block)
        if block not in self._names:
            self._names[block] = self._random.getrandbits(64)
        return self._names[block]

    def run(self, tokens, lora="", salt="", extra_keys=None):
        """Serves a prompt: uses the leading blocks that are on the device, makes room, stores the
        rest. One batch; nothing is published when all was there."""
        chain = self.model.chain(tokens, lora, salt, extra_keys)[:self._capacity]
        have = 0
        while have < len(chain) and self._on("gpu", chain[have]):
            have += 1
        self._touch(chain[:have])
        missing = chain[have:]
        if not missing:
            return
        batch = self._make_room(len(missing), keep=set(chain[:have]))
        parent = chain[have - 1] if have else None
        batch.append(self.stored(missing, parent, "gpu", lora))
        for block in reversed(missing):  # a prompt's tail is evicted before its head
            self._physical[self._next_physical] = block
            self._next_physical += 1
        self._touch(chain)
        self.stored_blocks += len(missing)
        self._publish(*batch)

    def stored(self, blocks, parent, tier, lora=""):
        """Holds the blocks and gives the event that says so."""
        for block in blocks:
            self.model.hold(self.instance, self.rank, tier, block)
        keys = [([lora] if lora else []) + list(block.extra_keys) for block in blocks]
        return events.Stored(
            hashes=[self.name(block) for block in blocks],
            parent=None if parent is None else self.name(parent),
            tokens=[token for block in blocks for token in block.tokens],
            block_size=self.model.block_size,
            lora_id=1 if lora else None,
            lora_name=lora or None,
            medium=tier.upper(),
            extra_keys=[entry or None for entry in keys] if any(keys) else None)

    def reset(self):
        """Everything on the device goes, in one announcement."""
        self._physical.clear()
        self.model.clear(self.instance, self.rank, "gpu")
        self._publish(events.Cleared())

    def forget(self):
        """A new process: nothing is held, and blocks get new names. Says nothing."""
        self._physical.clear()
        self._names.clear()
        self.model.clear(self.instance, self.rank)

    def drop_lower_tiers(self, share):
        """The host and the disk forget some blocks."""
        batch = []
        for tier in ("cpu", "disk"):
            for block in self.model.held(self.instance, self.rank, tier):
                if self._random.random() < share:
                    batch.append(self.removed(block, tier))
        if batch:
            self._publish(*batch)

    # Within.

    def _publish(self, *batch):
        self.publisher.publish(*batch, rank=self._tell_rank)

    def _on(self, tier, block):
        return self.model.holds(self.instance, self.rank, tier, block)

    def _touch(self, chain):
        """The chain becomes the most recently used, its head last of all to go."""
        depth = {block: index for index, block in enumerate(chain)}
        used = [key for key, block in self._physical.items() if block in depth]
        used.sort(key=lambda key: depth[self._physical[key]], reverse=True)
        for key in used:
            self._physical[key] = self._physical.pop(key)

    def _make_room(self, count, keep):
        batch = []
        while len(self._physical) + count > self._capacity:
            candidates = (key for key, block in self._physical.items() if block not in keep)
            key = next(candidates, None)
            if key is None:
                break  # second copies of what must stay: the device is a little larger, then
            if not self._lru:
                key = self._random.choice([key, *candidates])
            batch += self._evict(self._physical.pop(key))
        return batch

    def _evict(self, block):
        batch = []
        if self._random.random() < self._offload:
            if self._on("cpu", block):
                # Already on the host: it moves one further.
                batch.append(self.offloaded(block, "disk"))
                batch.append(self.removed(block, "cpu"))
            else:
                batch.append(self.offloaded(block, "cpu"))
        batch.append(self.removed(block, "gpu"))
        self.evicted_blocks += 1
        return batch

    def offloaded(self, block, tier):
        """Holds the block on the host or on disk and gives the event that says so."""
        self.model.hold(self.instance, self.rank, tier, block)
        return events.placeholder(self.name(block), MEDIA[tier])

    def removed(self, block, tier):
        self.model.drop(self.instance, self.rank, tier, block)
        return events.Removed([self.name(block)], medium=MEDIA[tier])
