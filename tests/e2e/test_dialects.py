"""Every publisher that is no vLLM, once from its bytes to an answer."""

import random
import unittest

import dialects
import events
from daemon import key
from engine import MEDIA, Engine
from events import Cleared, Raw, Removed, Stored
from hashes import SglangChain
from model import Model
from publisher import ReplayForm
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

SALTS = ("", "", "tenant-a")


class WithTokens(Engine):
    """Announces what goes to the host or to disk as it does what comes to the device: with tokens
    and parent. Salts are told beside the tokens and not among extra keys."""

    def stored(self, blocks, parent, tier, lora=""):
        event = super().stored(blocks, parent, tier, lora)
        first = blocks[0]
        while first.parent.parent is not None:
            first = first.parent
        event.cache_salt = first.extra_keys[-1] if first.extra_keys else None
        event.extra_keys = None
        event.medium = MEDIA[tier]
        return event

    def offloaded(self, block, tier):
        parent = block.parent if block.parent.parent is not None else None
        return self.stored([block], parent, tier)


class DialectTest(EndToEndTest):
    def work(self, engine_type, encoding, engine_class=Engine, salts=("",), replay=ReplayForm.TOPIC,
             ranks=(0,), **engine):
        """Engines at work, followed live and then met late, equal the model."""
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        source = random.Random(encoding.name)
        publisher = self.publisher(encoding=encoding, replay=replay)
        engines = [engine_class(model, publisher, "a", rank=rank, capacity=60, **engine)
                   for rank in ranks]
        daemon.register(publisher, "a", type=engine_type)
        for _ in range(8):
            for _ in range(25):
                at_work = source.choice(engines)
                at_work.run(prompt(source.randrange(9), source.randrange(1, 16)),
                            salt=source.choice(salts))
            if source.random() < 0.3:
                source.choice(engines).reset()
            self.compare(daemon, model, publisher, salts)
        daemon.stop()
        second = self.daemon()
        second.register(publisher, "a", type=engine_type)
        self.compare(second, model, publisher, salts)
        second.stop()

    def compare(self, daemon, model, publisher, salts):
        entry = daemon.wait_applied(key("a"), publisher)
        self.assertEqual(entry["last_decode_error"], "")
        for number in range(10):
            for salt in set(salts):
                self.assert_answers(daemon, model, prompt(number, 16), salt=salt)
        self.assertEqual(daemon.metrics()["conductor_index_holdings"], model.holdings())


class SgLang(DialectTest):
    def test_arrays_with_salts(self):
        self.work("SGLang", dialects.SGLANG_ARRAYS, WithTokens, SALTS, ReplayForm.PLAIN,
                  hashes=SglangChain(), offload=0.4)

    def test_maps_with_salts(self):
        self.work("SGLang", dialects.SGLANG_MAPS, WithTokens, SALTS, ReplayForm.PLAIN,
                  hashes=SglangChain(), offload=0.4)

    def test_pairs_of_tokens(self):
        self.work("SGLang", dialects.SGLANG_BIGRAMS, WithTokens, replay=ReplayForm.PLAIN,
                  hashes=SglangChain())

    def test_prompt_may_begin_on_any_tier(self):
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        publisher = self.publisher(encoding=dialects.SGLANG_MAPS, replay=ReplayForm.PLAIN)
        engine = WithTokens(model, publisher, "a", hashes=SglangChain())
        daemon.register(publisher, "a", type="SGLang")
        chain = model.chain(prompt(1, 4))
        publisher.publish(engine.stored(chain[:3], None, "cpu"))
        publisher.publish(engine.stored(chain[3:], chain[2], "disk"))
        daemon.wait_applied(key("a"), publisher)
        self.assert_answers(daemon, model, prompt(1, 4))
        self.assertEqual(daemon.longest(MODEL, prompt(1, 4)), {"a": 4 * BLOCK_SIZE})


class TensorRtLlm(DialectTest):
    def test_maps_with_tokens_as_text(self):
        self.work("TensorRT-LLM", dialects.TensorRtLlm())

    def test_blocks_with_an_image_are_not_those_of_the_text(self):
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        publisher = self.publisher(encoding=dialects.TensorRtLlm())
        daemon.register(publisher, "a", type="TensorRT-LLM")
        tokens = prompt(1, 3)
        event = events.G2.event(Stored([1, 2, 3], None, tokens, BLOCK_SIZE))
        event["mm_keys"] = [[], [{"type": "mm_key", "hash": "ab" * 32, "start_offset": 0}], []]
        publisher.publish(Raw(event))
        daemon.wait_applied(key("a"), publisher)
        self.assertEqual(daemon.longest(MODEL, tokens), {"a": BLOCK_SIZE})


class VllmAscend(DialectTest):
    def test_device_blocks_are_those_of_vllm(self):
        self.work("vLLM-Ascend", events.G2, offload=0.3)

    def test_store_announces_blocks_without_tokens_and_parent(self):
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        publisher = self.publisher(encoding=events.G1_EXTRA)
        engine = Engine(model, publisher, "a")
        daemon.register(publisher, "a", type="vLLM-Ascend")
        engine.run(prompt(1, 4))
        chain = model.chain(prompt(1, 4))
        for block in chain:
            model.hold("a", 0, "cpu", block)
            publisher.publish(Raw(["BlockStored", [engine.name(block)], None, None, BLOCK_SIZE,
                                   None, "cpu", None, None]))
        daemon.wait_applied(key("a"), publisher)
        self.assert_answers(daemon, model, prompt(1, 4))
        engine.reset()
        daemon.wait_applied(key("a"), publisher)
        self.assert_answers(daemon, model, prompt(1, 4))
        self.assertEqual(daemon.longest(MODEL, prompt(1, 4)), {"a": 4 * BLOCK_SIZE})


class LmCache(DialectTest):
    CHUNK = 16 * BLOCK_SIZE

    def test_chunks_on_the_host_beside_the_engines_own_blocks(self):
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        publisher = self.publisher(encoding=events.G1_LORA.with_hashes(events.signed))
        engine = Engine(model, publisher, "a")
        daemon.register(publisher, "a", type="LMCache")
        tokens = prompt(1, 40)
        engine.run(tokens[:2 * BLOCK_SIZE])
        first, second = 2**64 - 5, 77
        publisher.publish(
            Stored([first], None, tokens[:self.CHUNK], self.CHUNK, medium="cpu"),
            Stored([second], first, tokens[self.CHUNK:2 * self.CHUNK], self.CHUNK, medium="cpu"))
        self.figures(daemon, publisher, tokens, (2, 32, 32))
        # A chunk is loaded whole or not at all.
        self.figures(daemon, publisher, tokens[:31 * BLOCK_SIZE], (2, 16, 16))
        self.figures(daemon, publisher, tokens[:15 * BLOCK_SIZE], (2, 2, 2))
        publisher.publish(Removed([second], medium="cpu"))
        self.figures(daemon, publisher, tokens, (2, 16, 16))
        publisher.publish(Cleared())
        self.figures(daemon, publisher, tokens, (0, 16, 16))

    def figures(self, daemon, publisher, tokens, want):
        daemon.wait_applied(key("a"), publisher)
        entry = daemon.query(MODEL, tokens)["a"]
        self.assertEqual(tuple(entry[tier] // BLOCK_SIZE for tier in ("gpu", "cpu", "disk")), want)


class StandardEnvelope(DialectTest):
    def test_events_with_tokens(self):
        self.work("RFC1527", dialects.Rfc1527())

    def test_standard_hashes_need_no_tokens(self):
        """XXH3 under seed 1337, from the RFC's own numbers."""
        daemon = self.daemon()
        encoding = dialects.Rfc1527()
        publisher = self.publisher(encoding=encoding)
        daemon.register(publisher, "a", type="RFC1527")
        hashes = [16278386181694985406, 5307342425408119614, 14662258459323067736,
                  7701826713196416158]
        tokens = [1000 + 37 * index for index in range(64)]
        publisher.publish(Stored(hashes[:2], None, [], BLOCK_SIZE))
        publisher.publish(Stored(hashes[2:], hashes[1], [], BLOCK_SIZE))
        daemon.wait_applied(key("a"), publisher)
        self.assertEqual(daemon.longest(MODEL, tokens), {"a": 64})
        publisher.publish(Removed(hashes[2:3]))
        daemon.wait_applied(key("a"), publisher)
        self.assertEqual(daemon.longest(MODEL, tokens), {"a": 32})

    def test_events_of_another_model_are_in_a_namespace_of_their_own(self):
        daemon, model = self.daemon(), Model(BLOCK_SIZE)
        encoding = dialects.Rfc1527()
        publisher = self.publisher(encoding=encoding)
        engine = Engine(model, publisher, "a")
        daemon.register(publisher, "a", type="RFC1527")
        engine.run(prompt(1, 4))
        encoding.model = "another-model"
        engine.run(prompt(2, 4))
        daemon.wait_applied(key("a"), publisher, state=None)
        self.assertEqual(daemon.longest(MODEL, prompt(1, 4)), {"a": 4 * BLOCK_SIZE})
        self.assertEqual(daemon.longest(MODEL, prompt(2, 4)), {})


if __name__ == "__main__":
    unittest.main()
