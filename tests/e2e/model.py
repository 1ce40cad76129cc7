"""The brute-force model: what every rank really holds, and the longest prefix by comparing tokens.

A block is a place in a tree whose edges are (tokens, extra keys), so two blocks are the same only
if every token and every extra key up to their ends is. Nothing is hashed to a number, nothing is
guessed, and nothing is learnt from events: engines tell the model what they hold.
"""

import collections

TIERS = ("gpu", "cpu", "disk")


class Block:
    """One whole block, with all that stands before it."""

    __slots__ = ("parent", "tokens", "extra_keys", "children")

    def __init__(self, parent, tokens, extra_keys):
        self.parent = parent
        self.tokens = tokens
        self.extra_keys = extra_keys
        self.children = {}

    def child(self, tokens, extra_keys, create):
        key = (tuple(tokens), tuple(tuple(extra) if isinstance(extra, list) else extra
                                    for extra in extra_keys))
        if create and key not in self.children:
            self.children[key] = Block(self, *key)
        return self.children.get(key)


class Figures(collections.namedtuple("Figures", TIERS)):
    """In tokens, as design has it: gpu <= cpu <= disk."""

    @property
    def longest(self):
        return self.disk


NOTHING = Figures(0, 0, 0)


class Model:
    def __init__(self, block_size):
        self.block_size = block_size
        self._roots = collections.defaultdict(lambda: Block(None, (), ()))  # by LoRA name
        # (instance, rank) -> tier -> block -> copies
        self._held = collections.defaultdict(
            lambda: {tier: collections.Counter() for tier in TIERS})

    def chain(self, tokens, lora="", salt="", extra_keys=None, create=True):
        """The whole blocks of a prompt, in order. `extra_keys`: index of a block -> its keys,
        besides the salt, which block 0 has. Without `create`: as far as anybody ever stored it."""
        block, chain = self._roots[lora], []
        for start in range(0, len(tokens) - self.block_size + 1, self.block_size):
            index = start // self.block_size
            keys = list((extra_keys or {}).get(index, ()))
            if index == 0 and salt:
                keys.append(salt)
            block = block.child(tokens[start:start + self.block_size], keys, create)
            if block is None:
                break
            chain.append(block)
        return chain

    # What engines do.

    def hold(self, instance, rank, tier, block):
        """One more copy on the device; elsewhere a block is there or it is not."""
        held = self._held[instance, rank][tier]
        held[block] = held[block] + 1 if tier == "gpu" else 1

    def drop(self, instance, rank, tier, block):
        held = self._held[instance, rank][tier]
        held[block] -= 1
        if held[block] <= 0:
            del held[block]

    def clear(self, instance, rank, *tiers):
        for tier in tiers or TIERS:
            self._held[instance, rank][tier].clear()

    def copies(self, instance, rank, tier, block):
        return self._held[instance, rank][tier][block]  # reading a Counter adds nothing to it

    def holds(self, instance, rank, tier, block):
        return self.copies(instance, rank, tier, block) > 0

    def held(self, instance, rank, tier):
        return list(self._held[instance, rank][tier])

    def holdings(self):
        """Blocks held, counted for every rank and tier."""
        return sum(len(held) for tiers in self._held.values() for held in tiers.values())

    def ranks(self, instance):
        return sorted(rank for name, rank in self._held if name == instance)

    def instances(self):
        return sorted({name for name, _ in self._held})

    # What is true.

    def rank_figures(self, instance, rank, tokens, lora="", salt=""):
        chain = self.chain(tokens, lora, salt, create=False)
        held = self._held[instance, rank] if (instance, rank) in self._held else None
        if held is None:
            return NOTHING

        def run(start, *tiers):
            end = start
            while end < len(chain) and any(held[tier][chain[end]] > 0 for tier in tiers):
                end += 1
            return end

        gpu = run(0, "gpu")
        cpu = run(gpu, "cpu")
        disk = run(cpu, "cpu", "disk")
        return Figures(*(blocks * self.block_size for blocks in (gpu, cpu, disk)))

    def instance_figures(self, instance, tokens, lora="", salt=""):
        """The best over its ranks, figure by figure."""
        all_ranks = [self.rank_figures(instance, rank, tokens, lora, salt)
                     for rank in self.ranks(instance)]
        return Figures(*(max(column) for column in zip(*all_ranks))) if all_ranks else NOTHING
