"""What engines say, in every encoding that vLLM ever used, and what each field means."""

import unittest

import events
from daemon import key
from engine import Engine
from events import Cleared, Removed, Stored, placeholder
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt


class EveryGeneration(EndToEndTest):
    def test_all_encodings_of_one_story_give_the_same_answers(self):
        daemon = self.daemon()
        model = Model(BLOCK_SIZE)
        engines = []
        for generation in events.GENERATIONS:
            for form in events.HASH_FORMS:
                encoding = generation.with_hashes(form)
                name = encoding.name.replace(" ", "_").replace(",", "")
                publisher = self.publisher(encoding=encoding)
                engines.append(Engine(model, publisher, name, capacity=40, seed="story"))
                daemon.register(publisher, name)
        self.tell(engines)
        for engine in engines:
            daemon.wait_applied(key(engine.instance), engine.publisher)
        for seed in range(12):
            tokens = prompt(seed, 10)
            self.assert_answers(daemon, model, tokens)
            longest = daemon.longest(MODEL, tokens)
            self.assertIn(len(set(longest.values())), (0, 1), longest)
            self.assertIn(len(longest), (0, len(engines)), longest)
        self.assertTrue(any(daemon.longest(MODEL, prompt(seed, 10)) for seed in range(12)))

    def tell(self, engines):
        """Prompts that grow, evictions, a clear, more prompts: the same from every engine."""
        for engine in engines:
            for seed in range(12):
                engine.run(prompt(seed, 3))
                engine.run(prompt(seed // 2, 3 + seed % 5))
            engine.reset()
            for seed in range(12):
                engine.run(prompt(seed, 2 + seed % 4))


class OneEngine(EndToEndTest):
    def setUp(self):
        self.conductor = self.daemon()
        self.model = Model(BLOCK_SIZE)

    def begin(self, encoding=events.G2, **registration):
        self.source = self.publisher(encoding=encoding)
        self.engine = Engine(self.model, self.source, "a")
        self.identity = self.conductor.register(self.source, "a", **registration)

    def settle(self, **more):
        return self.conductor.wait_applied(self.identity, self.source, **more)

    def longest(self, tokens, **more):
        """In blocks."""
        tokens_matched = self.conductor.longest(MODEL, tokens, **more).get("a", 0)
        self.assertEqual(tokens_matched % BLOCK_SIZE, 0)
        return tokens_matched // BLOCK_SIZE

    def figures(self, tokens):
        """gpu, cpu, disk in blocks."""
        entry = self.conductor.query(MODEL, tokens)["a"]
        return tuple(entry[tier] // BLOCK_SIZE for tier in ("gpu", "cpu", "disk"))


class Adapters(OneEngine):
    def test_prompts_of_one_adapter_do_not_match_those_of_another(self):
        for encoding in (events.G1_LORA, events.G1_GROUPS, events.G2):
            with self.subTest(encoding=encoding.name):
                self.begin(encoding)
                self.engine.run(prompt(1, 3))
                self.engine.run(prompt(1, 5), lora="sql")
                self.engine.run(prompt(2, 4), lora="chat")
                self.settle()
                for seed in (1, 2):
                    for lora in ("", "sql", "chat", "unknown"):
                        self.assertEqual(
                            self.longest(prompt(seed, 6), lora_name=lora) * BLOCK_SIZE,
                            self.model.instance_figures("a", prompt(seed, 6), lora).longest)
                self.conductor.unregister("a")
                self.model.clear("a", 0)

    def test_adapter_with_a_number_only_is_known_by_its_number(self):
        self.begin(events.G0)
        self.source.publish(Stored([1, 2], None, prompt(1, 2), BLOCK_SIZE, lora_id=7))
        self.settle()
        self.assertEqual(self.longest(prompt(1, 2), lora_name="7"), 2)
        self.assertEqual(self.longest(prompt(1, 2)), 0)

    def test_adapter_with_a_number_only_is_the_registered_one(self):
        self.begin(events.G1_MEDIUM, lora_name="sql")
        self.source.publish(Stored([1, 2], None, prompt(1, 2), BLOCK_SIZE, lora_id=7))
        self.settle()
        self.assertEqual(self.longest(prompt(1, 2), lora_name="sql"), 2)
        self.assertEqual(self.longest(prompt(1, 2)), 0)


class SaltsAndExtraKeys(OneEngine):
    def test_cache_salt_sets_a_whole_prompt_apart(self):
        for encoding in (events.G1_EXTRA, events.G1_GROUPS, events.G2):
            with self.subTest(encoding=encoding.name):
                self.begin(encoding)
                self.engine.run(prompt(1, 3))
                self.engine.run(prompt(1, 5), salt="tenant-a")
                self.engine.run(prompt(1, 7), salt="tenant-b", lora="sql")
                self.settle()
                for salt in ("", "tenant-a", "tenant-b"):
                    for lora in ("", "sql"):
                        self.assertEqual(
                            self.longest(prompt(1, 8), cache_salt=salt, lora_name=lora)
                            * BLOCK_SIZE,
                            self.model.instance_figures("a", prompt(1, 8), lora, salt).longest)
                self.conductor.unregister("a")
                self.model.clear("a", 0)

    def test_chain_of_a_salted_prompt_can_be_continued(self):
        self.begin()
        for length in (1, 2, 5):
            self.engine.run(prompt(1, length), salt="s")
        self.settle()
        self.assertEqual(self.longest(prompt(1, 6), cache_salt="s"), 5)
        self.assertEqual(self.longest(prompt(1, 6)), 0)

    def test_blocks_with_an_image_do_not_match_the_same_tokens_without(self):
        self.begin()
        for identifier in (["image-1", 3], "image-2", b"\x01" * 32):
            with self.subTest(identifier=identifier):
                self.engine.run(prompt(1, 6), extra_keys={2: [identifier]})
        self.settle()
        # Two blocks of text, then the image.
        self.assertEqual(self.longest(prompt(1, 6)), 2)
        # All three chains are there: evicting one leaves the others' shared head.
        self.engine.run(prompt(1, 6))
        self.settle()
        self.assertEqual(self.longest(prompt(1, 6)), 6)


class Tiers(OneEngine):
    def hold(self, *tiers, tokens=prompt(1, 8)):
        """Names the blocks on the device, then puts them where they shall be."""
        chain = self.model.chain(tokens)[:len(tiers)]
        batch = [self.engine.stored(chain, None, "gpu")]
        for block, wanted in zip(chain, tiers):
            for tier in wanted.split("+"):
                if tier != "gpu":
                    self.model.hold("a", 0, tier, block)
                    batch.append(placeholder(self.engine.name(block),
                                             {"cpu": "CPU", "disk": "STORAGE"}[tier]))
            if "gpu" not in wanted:
                batch.append(self.engine.removed(block, "gpu"))
        self.source.publish(*batch)
        self.settle()

    def test_host_goes_on_where_the_device_ends_and_disk_where_the_host_ends(self):
        for encoding in (events.G1_MEDIUM, events.G1_GROUPS, events.G2):
            with self.subTest(encoding=encoding.name):
                self.begin(encoding)
                self.hold("gpu", "gpu+cpu", "cpu", "cpu", "disk", "cpu", "disk")
                self.assertEqual(self.figures(prompt(1, 8)), (2, 4, 7))
                self.assert_answers(self.conductor, self.model, prompt(1, 8))
                self.conductor.unregister("a")
                self.model.clear("a", 0)

    def test_no_climbing_back_to_the_device(self):
        self.begin()
        self.hold("gpu", "cpu", "gpu", "gpu")
        self.assertEqual(self.figures(prompt(1, 8)), (1, 2, 2))
        self.assert_answers(self.conductor, self.model, prompt(1, 8))

    def test_prompt_that_is_on_the_host_alone_counts(self):
        self.begin()
        self.hold("cpu", "cpu", "disk")
        self.assertEqual(self.figures(prompt(1, 8)), (0, 2, 3))

    def test_removal_of_one_tier_leaves_the_others(self):
        self.begin()
        self.hold("gpu+cpu+disk", "gpu+cpu+disk")
        second = self.model.chain(prompt(1, 2))[1]
        for tier, left in (("cpu", (2, 2, 2)), ("gpu", (1, 1, 2)), ("disk", (1, 1, 1))):
            self.source.publish(self.engine.removed(second, tier))
            self.settle()
            self.assertEqual(self.figures(prompt(1, 2)), left)

    def test_clear_takes_the_device_only(self):
        self.begin()
        self.hold("gpu+cpu", "gpu", "gpu+disk")
        self.engine.reset()
        self.settle()
        self.assertEqual(self.figures(prompt(1, 3)), (0, 1, 1))
        self.assert_answers(self.conductor, self.model, prompt(1, 3))

    def test_name_without_tokens_waits_until_it_is_known(self):
        self.begin()
        chain = self.model.chain(prompt(1, 3))
        self.source.publish(*(placeholder(self.engine.name(block), "cpu") for block in chain))
        for block in chain:
            self.model.hold("a", 0, "cpu", block)
        self.settle(state=None)
        self.assertEqual(self.figures(prompt(1, 3)), (0, 0, 0))
        self.source.publish(self.engine.stored(chain[:1], None, "gpu"))
        self.settle(state=None)
        self.assertEqual(self.figures(prompt(1, 3)), (1, 1, 1))
        self.source.publish(self.engine.stored(chain[1:], chain[0], "gpu"))
        self.source.publish(Cleared())
        self.model.clear("a", 0, "gpu")
        self.settle(state=None)
        self.assertEqual(self.figures(prompt(1, 3)), (0, 3, 3))
        self.assert_answers(self.conductor, self.model, prompt(1, 3))

    def test_offload_with_tokens_in_mid_chain_joins_by_its_name_and_not_at_the_root(self):
        self.begin()
        chain = self.model.chain(prompt(1, 4))
        self.source.publish(self.engine.stored(chain, None, "gpu"))
        # A connector announces the second half, and says nil for its parent.
        self.source.publish(self.engine.stored(chain[2:], None, "cpu"))
        for block in chain[2:]:
            self.source.publish(self.engine.removed(block, "gpu"))
        self.settle()
        self.assertEqual(self.figures(prompt(1, 4)), (2, 4, 4))
        tail = prompt(1, 4)[2 * BLOCK_SIZE:]
        self.assertEqual(self.figures(tail), (0, 0, 0))

    def test_media_are_known_in_every_spelling(self):
        self.begin()
        spellings = {
            "gpu": ["GPU", "gpu", None],
            "cpu": ["CPU", "cpu", "CPU_PINNED", "CPU_TIER1"],
            "disk": ["DISK", "LOCAL_DISK", "CPU_TIER2", "STORAGE", "FS", "OBJ", "EXTERNAL", "disk"],
        }
        want = {"gpu": (1, 1, 1), "cpu": (0, 1, 1), "disk": (0, 0, 1)}
        name = 0
        for tier, media in spellings.items():
            for medium in media:
                with self.subTest(medium=medium):
                    name += 1
                    tokens = prompt(f"medium {name}", 1)
                    self.source.publish(Stored([name], None, tokens, BLOCK_SIZE))
                    self.source.publish(Stored([name], None, [], 0, medium=medium))
                    self.source.publish(Removed([name]))
                    self.settle(state=None)
                    self.assertEqual(self.figures(tokens), want[tier])
                    self.source.publish(Removed([name], medium=medium))
                    self.settle(state=None)
                    self.assertEqual(self.figures(tokens), (0, 0, 0))

    def test_medium_of_no_tier_is_part_of_no_figure(self):
        self.begin()
        self.source.publish(Stored([1], None, prompt(1, 1), BLOCK_SIZE, medium="TAPE"))
        self.engine.run(prompt(2, 2))
        self.settle(state=None)
        self.assertEqual(self.figures(prompt(1, 1)), (0, 0, 0))
        self.assertEqual(self.longest(prompt(2, 2)), 2)


class Groups(OneEngine):
    def test_only_full_attention_of_a_hybrid_model_counts(self):
        for encoding in (events.G1_GROUPS, events.G2):
            with self.subTest(encoding=encoding.name):
                self.begin(encoding)
                tokens = prompt(1, 4)
                self.source.publish(
                    Stored([11, 12, 13, 14], None, tokens, BLOCK_SIZE, group_idx=0,
                           spec_kind="full_attention"),
                    # Retains the last block only, under the same name.
                    Stored([14], None, tokens, BLOCK_SIZE, group_idx=1,
                           spec_kind="sliding_window", sliding_window=BLOCK_SIZE),
                    Stored([], None, tokens, BLOCK_SIZE, group_idx=2, spec_kind="mamba"))
                self.settle()
                self.assertEqual(self.longest(tokens), 4)
                # The window's block goes; the full one stays.
                self.source.publish(Removed([14], group_idx=1))
                self.settle()
                self.assertEqual(self.longest(tokens), 4)
                self.source.publish(Removed([14], group_idx=0))
                self.settle()
                self.assertEqual(self.longest(tokens), 3)
                self.conductor.unregister("a")


class Ranks(OneEngine):
    def test_two_publishers_of_one_instance_are_its_ranks(self):
        for rank in (0, 1):
            source = self.publisher(rank=rank)
            engine = Engine(self.model, source, "a", rank=rank)
            self.conductor.register(source, "a", rank=rank)
            engine.run(prompt(1, 3 + 2 * rank))
            engine.run(prompt(2, 6 - 3 * rank))
            self.conductor.wait_applied(key("a", rank), source)
        for seed in (1, 2):
            entry = self.assert_answers(self.conductor, self.model, prompt(seed, 8))["a"]
            self.assertEqual(set(entry["ranks"]), {"0", "1"})

    def test_one_publisher_may_carry_ranks_in_its_batches(self):
        for encoding in (events.G1_MEDIUM, events.G2, events.G3):
            with self.subTest(encoding=encoding.name):
                self.begin(encoding)
                for rank in (0, 2, 5):
                    Engine(self.model, self.source, "a", rank=rank).run(prompt(1, 2 + rank))
                self.settle()
                entry = self.assert_answers(self.conductor, self.model, prompt(1, 9))["a"]
                self.assertEqual(set(entry["ranks"]), {"0", "2", "5"})
                self.conductor.unregister("a")
                for rank in (0, 2, 5):
                    self.model.clear("a", rank)

    def test_clear_of_one_rank_leaves_the_others(self):
        self.begin()
        engines = [Engine(self.model, self.source, "a", rank=rank) for rank in (0, 1)]
        for engine in engines:
            engine.run(prompt(1, 4))
        engines[0].reset()
        self.settle()
        self.assert_answers(self.conductor, self.model, prompt(1, 4))
        self.assertEqual(self.longest(prompt(1, 4)), 4)

    def test_engine_without_ranks_says_zero_wherever_it_is_registered(self):
        source = self.publisher(rank=0)
        engine = Engine(self.model, source, "a", rank=3, tell_rank=0)
        self.conductor.register(source, "a", rank=3)
        engine.run(prompt(1, 4))
        self.conductor.wait_applied(key("a", 3), source)
        self.assert_answers(self.conductor, self.model, prompt(1, 4))

    def test_batch_without_a_rank_is_the_registered_one(self):
        for encoding, rank in ((events.G0, 0), (events.G2, None)):
            with self.subTest(encoding=encoding.name):
                source = self.publisher(encoding=encoding)
                engine = Engine(self.model, source, "a", rank=2)
                self.conductor.register(source, "a", rank=2)
                chain = self.model.chain(prompt(1, 4))
                source.publish(engine.stored(chain, None, "gpu"), rank=rank)
                self.conductor.wait_applied(key("a", 2), source)
                self.assert_answers(self.conductor, self.model, prompt(1, 4))
                self.conductor.unregister("a", rank=2)
                self.model.clear("a", 2)


if __name__ == "__main__":
    unittest.main()
