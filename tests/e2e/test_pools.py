"""Shared pools: the objects of a Mooncake Store, joined with what engines announce, and counted for
every instance that could load them."""

import os
import random
import threading
import time
import unittest

import events
import master as objects
from daemon import DEADLINE, key, wait_until
from engine import Engine
from hashes import DEFAULT_SEED, SglangChain, VllmChain
from master import DISK, MEMORY, Master, vllm_key
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

LONG = os.environ.get("CONDUCTOR_LONG_TESTS") == "1"
ONE_COMPONENT = {"tp_size": 1, "pp_size": 1}
TIME_TO_LIVE = 1  # seconds


class PoolTest(EndToEndTest):
    """Engine "a" announces blocks; "b" never holds anything itself, so its figures are the pool's
    alone."""

    def begin(self, *flags, hashes=None, encoding=None, engine_type="vLLM", **master):
        self.flags = flags
        self.conductor = self.daemon(*flags)
        self.model = Model(BLOCK_SIZE)
        self.hashes = hashes or VllmChain()
        self.source = self.publisher(**({"encoding": encoding} if encoding else {}))
        self.engine = Engine(self.model, self.source, "a", hashes=self.hashes)
        self.other = self.publisher()
        self.engine_type = engine_type
        self.register_engines()
        self.master = Master(**master)
        self.addCleanup(self.master.die)

    def register_engines(self):
        self.conductor.register(self.source, "a", type=self.engine_type)
        self.conductor.register(self.other, "b", type=self.engine_type)

    def register_pool(self, first=True, **fields):
        """`first`: nothing was published yet, and what will be is heard from its first batch."""
        self.pool_fields = fields
        self.conductor.register(self.master, "pool", type="Mooncake", **fields)
        if first:
            self.master.wait_for_subscriber()

    def settle(self, state="live", reason=None):
        """Until everything published is applied."""
        if self.source.last_sequence >= 0:
            self.conductor.wait_applied(key("a"), self.source)
        if self.master.last_sequence:
            self.conductor.wait_for(key("pool"), state=state, reason=reason,
                                    cursor=self.master.last_sequence)

    def blocks(self, seed=1, count=4):
        return self.model.chain(prompt(seed, count))

    def keys(self, blocks, name=vllm_key, **more):
        return [name(self.hashes.digest(block), **more) for block in blocks]

    def figures(self, instance, tokens, **ask):
        entry = self.conductor.query(MODEL, tokens, **ask)[instance]
        return tuple(entry[tier] // BLOCK_SIZE for tier in ("gpu", "cpu", "disk"))

    def assert_figures(self, instance, want, seed=1, count=4, **ask):
        """(gpu, cpu, disk) in blocks."""
        self.assertEqual(self.figures(instance, prompt(seed, count), **ask), want, instance)

    def becomes(self, instance, want, seed=1, count=4):
        """For what comes by other ways than the stream of events."""
        wait_until(lambda: self.figures(instance, prompt(seed, count)) == want,
                   lambda: f"{instance} has {self.figures(instance, prompt(seed, count))} and "
                           f"should have {want}; {self.conductor.publisher(key('pool'))}")


def components(name, **axes):
    """All names of a digest's objects: `name` with every combination of the axes' values."""
    def of(digest):
        combinations = [{}]
        for axis, values in axes.items():
            combinations = [{**done, axis: value} for done in combinations for value in values]
        return [name(digest, **combination) for combination in combinations]
    return of


# Producer -> what is registered, what a block consists of.
FAMILIES = {
    "vLLM": ({"tp_size": 2, "pp_size": 2}, components(vllm_key, tp=(0, 1), pp=(0, 1))),
    "vLLM, without a group": ({"tp_size": 2, "pp_size": 1},
                              components(vllm_key, tp=(0, 1), group=(None,))),
    "vLLM, fewer heads than ranks": ({"tp_size": 8, "kv_heads": 2, "pp_size": 1},
                                     components(vllm_key, tp=(0, 1))),
    "Ascend, old": ({"tp_size": 2, "pp_size": 2},
                    components(objects.ascend_old_key, head=(0, 1), pp=(0, 1))),
    "Ascend, old, by layers": ({"tp_size": 2, "layers": 3},
                               components(objects.ascend_old_layer_key, head=(0, 1),
                                          layer=(0, 1, 2))),
    "Ascend": ({"tp_size": 2, "pp_size": 2},
               components(objects.ascend_key, head=(0, 1), pp=(0, 1))),
    "Ascend, by layers": ({"tp_size": 1, "layers": 3},
                          components(objects.ascend_layer_key, layer=(0, 1, 2))),
    "Ascend, GVA": ({"tp_size": 2}, components(objects.ascend_gva_key, rank=(0, 1))),
    "Ascend, GVA, with a group": ({"tp_size": 2},
                                  components(objects.ascend_gva_key, rank=(0, 1), group=(0,))),
    "LMCache": ({}, components(objects.lmcache_key, world=(2,), worker=(0, 1))),
    "number": ({}, components(objects.numeric_key)),
    "SGLang": ({"tp_size": 2, "pp_size": 1},
               components(objects.sglang_key, tp=(0, 1), part=("v", "k"))),
    "SGLang, pipeline": ({"tp_size": 1, "pp_size": 2},
                         components(objects.sglang_key, tp=(0,), pp=(0, 1), part=("v", "k"))),
    # Whether there are v objects, too, is doubtful as long as there are few.
    "SGLang, MLA": ({}, components(objects.sglang_mla_key)),
}


class Components(PoolTest):
    def test_block_counts_while_every_component_is_there(self):
        for family, (sizes, of) in FAMILIES.items():
            with self.subTest(family=family):
                sglang = family.startswith("SGLang")
                state = "degraded" if "MLA" in family else "live"
                self.begin(hashes=SglangChain() if sglang else VllmChain(),
                           engine_type="SGLang" if sglang else "vLLM")
                self.register_pool(**sizes)
                self.engine.run(prompt(1, 4))
                first, second, third, _ = [of(self.hashes.digest(block))
                                           for block in self.blocks()]
                for name in first[:-1]:
                    self.master.put(name)
                    self.settle(state)
                    self.assert_figures("b", (0, 0, 0))
                self.master.put(first[-1])
                self.settle(state)
                self.assert_figures("b", (0, 1, 1))
                with self.master.batch():
                    self.master.put(*second, *third[:-1])
                self.settle(state)
                self.assert_figures("b", (0, 2, 2))
                self.master.put(third[-1], medium=DISK)
                self.settle(state)
                self.assert_figures("b", (0, 2, 3))
                self.assert_figures("a", (4, 4, 4))
                self.master.remove(second[0])
                self.settle(state)
                self.assert_figures("b", (0, 1, 1))
                self.master.put(second[0])
                self.settle(state)
                self.assert_figures("b", (0, 2, 3))
                self.conductor.stop()

    def test_sizes_that_nobody_declared_are_learnt_and_doubtful(self):
        self.begin()
        self.register_pool()
        self.engine.run(prompt(1, 4))
        first, second, *_ = self.blocks()
        self.master.put(*self.keys([first], tp=0))
        self.settle(state="degraded", reason="doubtful")
        self.assert_figures("b", (0, 1, 1))
        # A second rank shows: one part is not a block.
        self.master.put(*self.keys([second], tp=1))
        self.settle(state="degraded", reason="doubtful")
        self.assert_figures("b", (0, 0, 0))
        self.master.put(*self.keys([first], tp=1))
        self.settle(state="degraded", reason="doubtful")
        self.assert_figures("b", (0, 1, 1))

    def test_objects_of_another_group_are_no_part_of_the_block(self):
        self.begin()
        self.register_pool(**ONE_COMPONENT)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks(), group=1))
        self.settle()
        self.assert_figures("b", (0, 0, 0))


class Joins(PoolTest):
    def begin_with_pool(self, **fields):
        self.begin()
        self.register_pool(**ONE_COMPONENT, **fields)

    def test_object_first_then_the_engine(self):
        self.begin_with_pool()
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assert_figures("b", (0, 0, 0))
        self.engine.run(prompt(1, 3))
        self.settle()
        self.assert_figures("a", (3, 3, 3))
        self.assert_figures("b", (0, 3, 3))
        # A longer prompt brings the rest.
        self.engine.run(prompt(1, 4))
        self.settle()
        self.assert_figures("b", (0, 4, 4))

    def test_engine_first_then_the_object(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.settle()
        for count, name in enumerate(self.keys(self.blocks()), 1):
            self.master.put(name)
            self.settle()
            self.assert_figures("b", (0, count, count))

    def test_blocks_outlive_the_engines_that_named_them(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.engine.reset()
        self.settle()
        for instance in "ab":
            self.assert_figures(instance, (0, 4, 4))
        self.conductor.unregister("a")
        self.assert_figures("b", (0, 4, 4))
        self.master.remove(self.keys(self.blocks())[2])
        self.settle_pool()
        self.assert_figures("b", (0, 2, 2))

    def settle_pool(self):
        self.conductor.wait_for(key("pool"), cursor=self.master.last_sequence)

    def test_whole_digests_join_as_numbers_do(self):
        self.begin(encoding=events.G2.with_hashes(lambda name: name.to_bytes(32, "big")))
        self.register_pool(**ONE_COMPONENT)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assert_figures("b", (0, 4, 4))

    def test_removed_object_is_gone_from_all_tiers_whatever_medium_is_named(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        names = self.keys(self.blocks())
        for media, named in (([DISK], MEMORY), ([MEMORY], DISK), ([MEMORY, DISK], MEMORY),
                             ([DISK, MEMORY], None)):
            with self.subTest(media=media, named=named):
                for medium in media:
                    self.master.put(*names, medium=medium)
                self.settle()
                in_memory = 4 if MEMORY in media else 0
                self.assert_figures("b", (0, in_memory, 4))
                self.master.remove(*names[1:], medium=named)
                self.settle()
                self.assert_figures("b", (0, in_memory and 1, 1))

    def test_removal_of_what_is_not_there_changes_nothing(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.master.remove(*self.keys(self.blocks(seed=2)))
        self.settle()
        self.assert_figures("b", (0, 4, 4))

    def test_objects_of_other_models_and_prefixes_do_not_count(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks(), model="another-model"))
        self.master.put(*self.keys(self.blocks(), prefix="staging"))
        self.master.put("no key of any family", "sglang_mooncake_store_warmup_key_1", "a@b@c")
        self.settle(state=None)
        self.assert_figures("b", (0, 0, 0))
        self.master.put(*self.keys(self.blocks()))
        self.settle(state=None)
        self.assert_figures("b", (0, 4, 4))

    def test_models_of_keys_are_mapped_to_those_of_queries(self):
        self.begin_with_pool(key_models={"llama": MODEL, "staging@llama-2": MODEL})
        self.engine.run(prompt(1, 4))
        first, second, third, _ = self.blocks()
        self.master.put(*self.keys([first], model="llama"))
        self.master.put(*self.keys([second], model="llama-2", prefix="staging"))
        self.master.put(*self.keys([third], model="llama-2"))
        self.settle(state=None)
        self.assert_figures("b", (0, 2, 2))

    def test_objects_of_another_tenant_do_not_count(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()), tenant="another")
        self.settle(state=None)
        self.assert_figures("b", (0, 0, 0))

    def test_master_without_the_older_names(self):
        self.begin(legacy=False)
        self.register_pool(**ONE_COMPONENT)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.master.remove(self.keys(self.blocks())[3])
        self.settle()
        self.assert_figures("b", (0, 3, 3))

    def test_pool_is_no_instance_and_goes_when_it_is_unregistered(self):
        self.begin_with_pool()
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assertEqual(set(self.conductor.query(MODEL, prompt(1, 4))), {"a", "b"})
        self.conductor.unregister("pool")
        self.assert_figures("b", (0, 0, 0))
        self.assert_figures("a", (4, 4, 4))


class Lookups(PoolTest):
    def test_pool_counts_from_the_first_block_or_goes_on_from_the_engines_own(self):
        for lookup, want in (({}, (2, 2, 2)), ({"pool_lookup": "from_start"}, (2, 2, 2)),
                             ({"pool_lookup": "continue"}, (2, 3, 4))):
            with self.subTest(lookup=lookup):
                self.begin()
                self.register_pool(**ONE_COMPONENT, **lookup)
                self.engine.run(prompt(1, 4))
                blocks = self.blocks()
                self.source.publish(*(self.engine.removed(block, "gpu") for block in blocks[2:]))
                self.master.put(*self.keys(blocks[2:3]))
                self.master.put(*self.keys(blocks[3:]), medium=DISK)
                self.settle()
                self.assert_figures("a", want)
                self.assert_figures("b", (0, 0, 0))
                # The whole prompt is in the pool: both ways find it.
                self.master.put(*self.keys(blocks[:2]))
                self.settle()
                self.assert_figures("a", (2, 3, 4))
                self.assert_figures("b", (0, 3, 4))
                self.conductor.stop()

    def test_of_several_pools_the_best_one_counts(self):
        self.begin()
        self.register_pool(**ONE_COMPONENT)
        second = Master()
        self.addCleanup(second.die)
        self.conductor.register(second, "pool-2", type="Mooncake", **ONE_COMPONENT)
        second.wait_for_subscriber()
        self.engine.run(prompt(1, 4))
        # Together they would have all; an engine can load from one.
        self.master.put(*self.keys(self.blocks()[:1]))
        second.put(*self.keys(self.blocks()[:3]))
        self.master.put(*self.keys(self.blocks()[3:]))
        self.settle()
        self.conductor.wait_for(key("pool-2"), cursor=second.last_sequence)
        self.assert_figures("b", (0, 3, 3))
        self.conductor.unregister("pool-2")
        self.assert_figures("b", (0, 1, 1))

    def test_declared_hashes_find_objects_that_no_engine_announced(self):
        for algorithm, seed in (("sha256", "0"), ("sha256_cbor", "00"), ("sha256", None),
                                ("sha256_cbor", "any text")):
            with self.subTest(algorithm=algorithm, seed=seed):
                self.begin(hashes=VllmChain(algorithm, DEFAULT_SEED if seed is None else seed))
                profile = {"strategy": "vllm_v1", "algorithm": algorithm}
                if seed is not None:
                    profile["python_hash_seed"] = seed
                self.register_pool(hash_profile=profile, **ONE_COMPONENT)
                self.master.put(*self.keys(self.blocks()))
                self.master.put(*self.keys(self.model.chain(prompt(2, 3), salt="s")))
                self.settle()
                for instance in "ab":
                    self.assert_figures(instance, (0, 4, 4), count=6)
                self.assert_figures("b", (0, 0, 0), seed=2)
                self.assert_figures("b", (0, 3, 3), seed=2, cache_salt="s")
                self.master.remove(self.keys(self.blocks())[1])
                self.settle()
                self.assert_figures("b", (0, 1, 1))
                self.conductor.stop()

    def test_wrong_seed_finds_nothing(self):
        self.begin(hashes=VllmChain("sha256", "0"))
        self.register_pool(hash_profile={"strategy": "vllm_v1", "algorithm": "sha256",
                                         "python_hash_seed": "1"}, **ONE_COMPONENT)
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assert_figures("b", (0, 0, 0))


class Listings(PoolTest):
    """A master repeats nothing, but tells over HTTP what it has."""

    def begin_late(self, **fields):
        """The pool is met when it is full."""
        self.begin()
        self.engine.run(prompt(1, 4))
        self.names = self.keys(self.blocks())
        self.master.put(*self.names[:3])
        self.master.put(*self.names[2:], medium=DISK)
        self.register_pool(first=False, admin_endpoint=self.master.admin_endpoint,
                           **ONE_COMPONENT, **fields)

    def test_first_contact(self):
        self.begin_late()
        # (block 2 is in memory and on disk, block 3 on disk)
        self.becomes("b", (0, 3, 4))
        self.conductor.wait_for(key("pool"))
        # Live events go on from there.
        self.master.wait_for_subscriber()
        self.master.remove(self.names[3])
        self.settle()
        self.assert_figures("b", (0, 3, 3))

    def test_gap(self):
        self.begin_late()
        self.becomes("b", (0, 3, 4))
        self.master.wait_for_subscriber()
        self.master.put(*self.keys(self.blocks(seed=3, count=1)))
        self.settle()
        # What the queue dropped nobody hears of.
        self.master.remove(self.names[1], announced=False)
        self.master.overflow()
        self.engine.run(prompt(2, 2))
        self.master.put(*self.keys(self.blocks(seed=2, count=2)))
        self.becomes("b", (0, 1, 1))
        self.settle()
        self.assert_figures("b", (0, 1, 1))
        self.assert_figures("b", (0, 2, 2), seed=2, count=2)

    def test_restart_of_the_daemon(self):
        self.begin_late()
        self.becomes("b", (0, 3, 4))
        self.conductor.stop()
        self.master.remove(self.names[2])
        self.conductor = self.daemon(*self.flags)
        self.register_engines()
        self.register_pool(first=False, **self.pool_fields)
        self.becomes("b", (0, 2, 2))
        self.conductor.wait_for(key("pool"))

    def test_restart_of_the_master(self):
        self.begin_late()
        self.becomes("b", (0, 3, 4))
        self.master.restart()
        self.becomes("b", (0, 0, 0))
        self.master.wait_for_subscriber()
        self.master.put(self.names[0])
        self.settle()
        self.assert_figures("b", (0, 1, 1))

    def test_object_that_is_removed_while_the_list_is_on_its_way_stays_removed(self):
        self.begin()
        self.engine.run(prompt(1, 4))
        names = self.keys(self.blocks())
        self.master.put(*names)
        told = []

        def meanwhile():
            """The keys are taken; before they arrive one object goes and another comes."""
            self.master.before_listing = None
            self.master.wait_for_subscriber()
            self.master.remove(names[2])
            self.conductor.wait_for(key("pool"), state=None, cursor=self.master.last_sequence)
            told.append(self.master.last_sequence)

        self.master.before_listing = meanwhile
        self.register_pool(first=False, admin_endpoint=self.master.admin_endpoint,
                           **ONE_COMPONENT)
        self.becomes("b", (0, 2, 2))
        self.settle()
        self.assertEqual(told, [self.master.last_sequence], "the events did not come meanwhile")
        self.assert_figures("b", (0, 2, 2))

    def begin_listed(self):
        """Block 0 is in memory, block 1 on disk, and all of it was heard live."""
        self.begin()
        self.register_pool(admin_endpoint=self.master.admin_endpoint, **ONE_COMPONENT)
        self.engine.run(prompt(1, 2))
        self.names = self.keys(self.blocks(count=2))
        self.master.put(self.names[0])
        self.master.put(self.names[1], medium=DISK)
        self.settle()
        self.assert_figures("b", (0, 1, 2), count=2)

    def see_the_gap(self):
        self.master.overflow()
        self.master.put(*self.keys(self.blocks(seed=3, count=1)))

    def test_tier_that_changed_in_a_gap(self):
        self.begin_listed()
        with self.master.lost():
            self.master.remove(self.names[0])
            self.master.put(self.names[0], medium=DISK)
            self.master.put(self.names[1])
        self.see_the_gap()
        self.becomes("b", (0, 0, 2), count=2)
        self.settle()
        self.master.put(self.names[0])
        self.settle()
        self.assert_figures("b", (0, 2, 2), count=2)

    def test_tier_that_was_lost_of_an_object_that_is_announced_while_the_list_is_on_its_way(self):
        self.begin_listed()
        with self.master.lost():
            self.master.put(self.names[1])

        def meanwhile():
            self.master.before_listing = None
            self.master.put(self.names[1], medium=DISK)
            self.conductor.wait_for(key("pool"), state=None, cursor=self.master.last_sequence)

        self.master.before_listing = meanwhile
        self.see_the_gap()
        self.becomes("b", (0, 2, 2), count=2)
        self.settle()

    def test_pool_whose_tiers_cannot_be_had_is_incomplete(self):
        """Its objects count as on disk, the weakest claim, and that is said."""
        self.begin(tells_tiers=False)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.register_pool(first=False, admin_endpoint=self.master.admin_endpoint,
                           **ONE_COMPONENT)
        self.becomes("b", (0, 0, 4))
        self.conductor.wait_for(key("pool"), state="degraded", reason="incomplete")

    def test_lost_tail_is_seen_by_asking(self):
        self.begin("--probe-interval", "500ms")
        self.register_pool(admin_endpoint=self.master.admin_endpoint, **ONE_COMPONENT)
        # No list is on its way: the first one is confirmed once, and then silence is judged.
        wait_until(lambda: self.master.requests.count("/get_all_keys") >= 2 and
                   self.master.requests[-1] == "/kv_events/status", "no second list")
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assert_figures("b", (0, 4, 4))
        with self.master.lost():
            self.master.remove(self.keys(self.blocks())[2])
        self.becomes("b", (0, 2, 2))
        self.conductor.wait_for(key("pool"))

    def test_lost_tail_of_objects_that_came_while_the_list_was_on_its_way(self):
        """The list lacks them, but events of them came meanwhile and win; the master's count of
        events must not pass for received because the list was taken after it."""
        self.begin("--probe-interval", "500ms")
        self.engine.run(prompt(1, 4))
        names = self.keys(self.blocks())

        def meanwhile():
            self.master.before_status = None
            self.master.wait_for_subscriber()
            self.master.put(*names)
            self.conductor.wait_for(key("pool"), state=None, cursor=self.master.last_sequence)
            with self.master.lost():
                self.master.remove(names[2])

        # The second list, which confirms the first: nothing follows it.
        def first():
            self.master.before_status = meanwhile

        self.master.before_status = first
        self.register_pool(first=False, admin_endpoint=self.master.admin_endpoint,
                           **ONE_COMPONENT)
        self.becomes("b", (0, 4, 4))
        self.becomes("b", (0, 2, 2))

    def test_without_an_admin_port_a_pool_met_late_is_incomplete(self):
        self.begin(admin=False)
        self.engine.run(prompt(1, 4))
        names = self.keys(self.blocks())
        self.master.put(*names[:2])
        self.register_pool(first=False, **ONE_COMPONENT)
        self.master.wait_for_subscriber()
        self.master.put(*names[2:])
        self.settle(state="degraded", reason="incomplete")
        self.assert_figures("b", (0, 0, 0))
        # Those that are put again count.
        self.master.put(*names[:2])
        self.settle(state="degraded", reason="incomplete")
        self.assert_figures("b", (0, 4, 4))

    def test_without_an_admin_port_a_pool_seen_from_its_first_batch_is_live(self):
        self.begin(admin=False)
        self.register_pool(**ONE_COMPONENT)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.assert_figures("b", (0, 4, 4))

    def test_without_an_admin_port_a_gap_is_doubtful(self):
        self.begin(admin=False)
        self.register_pool(**ONE_COMPONENT)
        self.engine.run(prompt(1, 4))
        self.master.put(*self.keys(self.blocks()))
        self.settle()
        self.master.overflow()
        self.master.put(*self.keys(self.blocks(seed=2)))
        self.settle(state="degraded", reason="doubtful")


class TimesToLive(PoolTest):
    def assert_in_time(self, instance, want, announce):
        """That `announce` gives the instance these figures. They are good for TIME_TO_LIVE: where
        the machine was too slow to look within it, all is announced again."""
        for _ in range(20):
            begin = time.monotonic()
            announce()
            got = self.figures(instance, prompt(1, 4))
            if time.monotonic() < begin + TIME_TO_LIVE:
                self.assertEqual(got, want, instance)
                return
        self.fail(f"20 times slower than {TIME_TO_LIVE} s")

    def test_tier_without_removals(self):
        """AscendStore announces what it stores, a hash an event and without tokens, and never a
        removal."""
        self.begin()
        self.conductor.unregister("a")
        self.conductor.register(self.source, "a", type="vLLM-Ascend",
                                ttl={"cpu": f"{TIME_TO_LIVE}s"})

        def offload():
            self.engine.run(prompt(1, 4))
            self.source.publish(*(self.engine.stored([block], None, "cpu")
                                  for block in self.blocks()))
            self.conductor.wait_applied(key("a"), self.source)

        def leave_the_device():
            offload()
            self.engine.reset()
            self.conductor.wait_applied(key("a"), self.source)

        self.assert_in_time("a", (4, 4, 4), offload)
        self.assert_in_time("a", (0, 4, 4), leave_the_device)
        self.becomes("a", (0, 0, 0))
        self.assertEqual(self.conductor.publisher(key("a"))["state"], "live")

    def test_pool_with_a_time_to_live(self):
        self.begin()
        self.register_pool(ttl={"cpu": f"{TIME_TO_LIVE}s"}, **ONE_COMPONENT)
        self.engine.run(prompt(1, 4))

        def put():
            self.master.put(*self.keys(self.blocks()))
            self.master.put(*self.keys(self.blocks()[:2]), medium=DISK)
            self.settle()

        self.assert_in_time("b", (0, 4, 4), put)
        self.becomes("b", (0, 0, 2))


class RandomWork(PoolTest):
    """A pool at work beside two engines, compared with sets of objects."""

    def begin_work(self, seed, *flags, admin=False):
        self.source_of_chance = random.Random(f"pool {seed}")
        self.begin(*flags)
        more = {"admin_endpoint": self.master.admin_endpoint} if admin else {}
        self.register_pool(tp_size=2, pp_size=1, **more)
        self.engines = [self.engine,
                        Engine(self.model, self.other, "b", hashes=self.hashes, capacity=20)]
        self.parts = components(vllm_key, tp=(0, 1))
        self.announced = set()

    def work(self, steps=4):
        for _ in range(self.source_of_chance.randrange(1, steps + 1)):
            self.step()

    def step(self):
        source = self.source_of_chance
        tokens = prompt(source.randrange(6), source.randrange(1, 9))
        what = source.random()
        if what < 0.35:
            source.choice(self.engines).run(tokens)
            self.announced.update(block for engine in self.engines
                                  for block in self.model.held(engine.instance, 0, "gpu"))
        elif what < 0.4:
            source.choice(self.engines).reset()
        else:
            self.store_or_remove(self.model.chain(tokens), what < 0.75)

    def store_or_remove(self, chain, store):
        source = self.source_of_chance
        with self.master.batch():
            if store:
                # A rank stores its part of some blocks.
                tp, medium = source.randrange(2), source.choice([MEMORY, MEMORY, DISK])
                for block in chain[source.randrange(3):]:
                    self.master.put(self.parts(self.hashes.digest(block))[tp], medium=medium)
                return
            for _ in range(source.randrange(6)):
                if self.master.objects:
                    self.master.remove(source.choice(sorted(self.master.objects)),
                                       medium=source.choice([MEMORY, DISK]))

    def wait_for_engines(self):
        for identity, publisher in ((key("a"), self.source), (key("b"), self.other)):
            if publisher.last_sequence >= 0:
                self.conductor.wait_applied(identity, publisher)

    def check(self):
        for number in range(6):
            tokens = prompt(number, 10)
            answer = self.conductor.query(MODEL, tokens)
            chain = self.model.chain(tokens)
            in_memory, anywhere = (self.pool_run(chain, media)
                                   for media in ({MEMORY}, {MEMORY, DISK}))
            for instance in "ab":
                own = self.model.instance_figures(instance, tokens)
                want = (own.gpu, max(own.cpu, in_memory), max(own.disk, anywhere))
                entry = answer[instance]
                self.assertEqual((entry["gpu"], entry["cpu"], entry["disk"]), want,
                                 f"{instance}, prompt {number}")
                self.assertEqual(entry["longest_matched"], want[2])

    def pool_run(self, chain, media):
        end = 0
        while end < len(chain) and chain[end] in self.announced and all(
                self.master.objects.get(name, set()) & media
                for name in self.parts(self.hashes.digest(chain[end]))):
            end += 1
        return end * BLOCK_SIZE

    def test_every_answer_equals_the_model(self):
        for seed in range(3):
            with self.subTest(seed=seed):
                self.begin_work(seed)
                for _ in range(60):
                    self.work()
                    self.wait_for_engines()
                    self.settle()
                    self.check()
                self.conductor.stop()

    # Faults. What heals them is the list of keys.

    FAULTS = ("work", "overflow", "lose_some", "lose_the_tail", "new_connection", "new_life",
              "admin_port_down", "change_while_the_list_is_on_its_way")

    def overflow(self):
        """What the queue dropped never gets a frame."""
        with self.master.lost():
            self.work()
        self.master.overflow()
        self.put_one()

    def lose_some(self):
        for _ in range(3):
            with self.master.lost():
                self.step()
            self.step()
        self.put_one()

    def lose_the_tail(self):
        with self.master.lost():
            self.work()
            self.put_one()

    def new_connection(self):
        self.master.stop_live()
        self.work()
        self.master.start_live()
        self.work()

    def new_life(self):
        self.master.restart()
        self.work()

    def admin_port_down(self):
        self.master.stop_admin()
        self.overflow()
        time.sleep(self.source_of_chance.uniform(0.2, 1.5))
        self.work()
        self.master.start_admin()

    def change_while_the_list_is_on_its_way(self):
        taken, go_on = threading.Event(), threading.Event()

        def wait():
            self.master.before_listing = None
            taken.set()
            go_on.wait(DEADLINE)

        self.master.before_listing = wait
        self.overflow()
        self.assertTrue(taken.wait(DEADLINE), "no list was asked for")
        self.work(8)
        go_on.set()

    def put_one(self):
        self.master.put(*self.keys(self.model.chain(prompt("another", 1))))

    def test_master_with_faults_ends_live_and_equal_to_the_model(self):
        for seed in range(30 if LONG else 2):
            with self.subTest(seed=seed):
                happened = []
                self.begin_work(seed, "--probe-interval", "500ms", admin=True)
                for _ in range(16):
                    happened.append(self.source_of_chance.choice(self.FAULTS))
                    getattr(self, happened[-1])()
                    self.wait_until_healed(happened)
                self.conductor.stop()

    def wait_until_healed(self, happened):
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self.wait_for_engines()
                self.conductor.wait_for(key("pool"))
                self.check()
                return
            except AssertionError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"not healed after {happened}; "
                        f"{self.conductor.publisher(key('pool'))}") from error
                time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
