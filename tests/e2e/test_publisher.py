"""The suite's own publishers, engines and model, checked against one another before the daemon is
judged by them. Needs no daemon."""

import random
import unittest

import zmq

import dialects
import events
import faulty
from daemon import wait_until
from engine import Engine
from events import Cleared, Encoding, Removed, Stored
from faulty import FaultyPublisher
from hashes import SglangChain, VllmChain
from master import Master
from model import Figures, Model
from publisher import END_OF_REPLAY, Publisher, ReplayForm

HASH = 0xFEDCBA9876543210
PATIENCE = 60000  # milliseconds; what fails by it hangs


def stored(**more):
    return Stored(hashes=[HASH], parent=None, tokens=[7, 300], block_size=2, **more)


class BytesOfEachGeneration(unittest.TestCase):
    def assert_bytes(self, encoding, batch, hex_bytes, rank=0):
        self.assertEqual(encoding.payload(batch, rank, timestamp=1.5).hex(),
                         hex_bytes.replace(" ", ""))

    def test_first_generation_has_neither_rank_nor_medium(self):
        self.assert_bytes(
            events.G0, [stored()],
            "92 cb3ff8000000000000 91 96 ab426c6f636b53746f726564 91 cffedcba9876543210 c0"
            "92 07 cd012c 02 c0")

    def test_arrays_with_a_medium(self):
        self.assert_bytes(
            events.G1_MEDIUM, [stored(), Removed([HASH]), Cleared()],
            "93 cb3ff8000000000000 93"
            "97 ab426c6f636b53746f726564 91 cffedcba9876543210 c0 92 07 cd012c 02 c0 a3475055"
            "93 ac426c6f636b52656d6f766564 91 cffedcba9876543210 a3475055"
            "91 b0416c6c426c6f636b73436c6561726564"
            "00")

    def test_arrays_with_every_field(self):
        self.assert_bytes(
            events.G1_GROUPS,
            [stored(extra_keys=[None], group_idx=0, spec_kind="full_attention"),
             Removed([HASH], group_idx=0)],
            "93 cb3ff8000000000000 92"
            "9c ab426c6f636b53746f726564 91 cffedcba9876543210 c0 92 07 cd012c 02 c0 a3475055 c0"
            "91 c0 00 ae66756c6c5f617474656e74696f6e c0"
            "94 ac426c6f636b52656d6f766564 91 cffedcba9876543210 a3475055 00"
            "00")

    def test_maps_leave_out_what_has_its_declared_default(self):
        self.assert_bytes(
            events.G2, [Stored([HASH], None, [], 0, medium="CPU", group_idx=0)],
            "93 cb3ff8000000000000 91 89"
            "a474797065 ab426c6f636b53746f726564"
            "ac626c6f636b5f686173686573 91 cffedcba9876543210"
            "b1706172656e745f626c6f636b5f68617368 c0"
            "a9746f6b656e5f696473 90"
            "aa626c6f636b5f73697a65 00"
            "a76c6f72615f6964 c0"
            "a66d656469756d a3435055"
            "a96c6f72615f6e616d65 c0"
            "a967726f75705f696478 00"
            "00")

    def test_hashes_of_every_form_end_in_the_same_bytes(self):
        for block_hash in (1, HASH, 2**63, 2**64 - 1):
            self.assertEqual(events.signed(block_hash) % 2**64, block_hash)
            self.assertEqual(len(events.digest(block_hash)), 32)
            self.assertEqual(int.from_bytes(events.digest(block_hash)[-8:], "big"), block_hash)
        self.assertEqual(events.signed(2**64 - 1), -1)


class Replay(unittest.TestCase):
    def ask(self, publisher, *requests):
        """The messages up to the first end marker, in answer to the requests, each a list of
        frames."""
        dealer = zmq.Context.instance().socket(zmq.DEALER)
        dealer.linger = 0
        try:
            dealer.connect(publisher.replay_endpoint)
            for frames in requests:
                dealer.send_multipart(frames)
            got = []
            while dealer.poll(PATIENCE):
                got.append(dealer.recv_multipart())
                if got[-1][-2:] == [END_OF_REPLAY, b""]:
                    return got
            raise AssertionError(f"no end of the answer after {got}")
        finally:
            dealer.close()

    def publisher(self, **more):
        publisher = Publisher(encoding=Encoding("payload", 3, 7, 3), **more)
        self.addCleanup(publisher.die)
        return publisher

    def sequences(self, answer):
        return [int.from_bytes(frames[-2], "big") for frames in answer[:-1]]

    def test_ring_is_replayed_from_the_sequence_asked_for(self):
        for form, frame_count in ((ReplayForm.PLAIN, 3), (ReplayForm.TOPIC, 4)):
            with self.subTest(form=form):
                publisher = self.publisher(replay=form, ring=4)
                for _ in range(6):
                    publisher.publish(Cleared())
                answer = self.ask(publisher, [b"", (3).to_bytes(8, "big")])
                self.assertEqual(self.sequences(answer), [3, 4, 5])
                self.assertEqual({len(frames) for frames in answer}, {frame_count})
                # The ring has forgotten 0 and 1.
                answer = self.ask(publisher, [b"", bytes(8)])
                self.assertEqual(self.sequences(answer), [2, 3, 4, 5])

    def test_malformed_requests_get_no_answer(self):
        publisher = self.publisher()
        publisher.publish(Cleared())
        answer = self.ask(publisher, [bytes(8)], [b"", b"", bytes(8)], [b"", b"short"],
                          [b"", (1).to_bytes(8, "big")])
        self.assertEqual(len(answer), 1, "the end marker that answers the last one")

    def test_new_life_counts_from_zero_with_an_empty_ring(self):
        publisher = self.publisher()
        publisher.publish(Cleared())
        publisher.publish(Cleared())
        publisher.restart()
        self.assertEqual(self.sequences(self.ask(publisher, [b"", bytes(8)])), [])
        self.assertEqual(publisher.publish(Cleared()), 0)

    def test_dropped_batch_is_in_the_ring_and_one_that_failed_to_encode_is_not(self):
        publisher = self.publisher()
        publisher.publish(Cleared())
        publisher.drop(Cleared())
        publisher.fail_to_encode()
        publisher.publish(Cleared())
        self.assertEqual(self.sequences(self.ask(publisher, [b"", bytes(8)])), [0, 1, 3])

    def test_subscriber_receives_three_frames(self):
        publisher = self.publisher(topic=b"kv", see_subscribers=True)
        subscriber = zmq.Context.instance().socket(zmq.SUB)
        subscriber.linger = 0
        self.addCleanup(subscriber.close)
        subscriber.subscribe(b"")
        subscriber.connect(publisher.endpoint)
        publisher.wait_for_subscriber()
        publisher.publish(Cleared())
        self.assertTrue(subscriber.poll(PATIENCE))
        topic, sequence, _ = subscriber.recv_multipart()
        self.assertEqual((topic, sequence), (b"kv", bytes(8)))


class HashesOfBlocks(unittest.TestCase):
    """Against numbers computed elsewhere."""

    def names(self, chain, tokens, block_size=4, **more):
        return [chain.name(block) for block in Model(block_size).chain(tokens, **more)]

    def test_vllm(self):
        tokens = [5, 300, 70000, 2, 1, 2, 3, 4]
        for algorithm, want in (("sha256", [3345080164067599146, 14426398453158776752]),
                                ("sha256_cbor", [3555145006022875684, 18030189949638683711])):
            # The LoRA name "ad" is a key of each block, the salt one of the first.
            self.assertEqual(
                self.names(VllmChain(algorithm, "0"), tokens,
                           extra_keys={0: ["ad", "salt"], 1: ["ad"]}), want)

    def test_roots(self):
        self.assertEqual(VllmChain().root.hex()[:16], "066b1e8987e02713")
        self.assertEqual(VllmChain("sha256_cbor").root.hex()[:16], "9bd96a485ad84efd")

    def test_sglang(self):
        tokens = [1000 + 37 * index for index in range(8)]
        for salt, want in (("", [6361191604104819298, -7623660030651551132]),
                           ("tenant-a", [8073526455950538300, -6685359337834761377])):
            self.assertEqual([events.signed(name) for name in
                              self.names(SglangChain(), tokens, salt=salt)], want)


class OtherDialects(unittest.TestCase):
    def assert_bytes(self, encoding, batch, hex_bytes, rank, timestamp):
        self.assertEqual(encoding.payload(batch, rank, timestamp).hex(),
                         hex_bytes.replace(" ", ""))

    def test_sglang_arrays(self):
        self.assert_bytes(
            dialects.SGLANG_ARRAYS, [stored_with([2**64 - 5], [1, 2], salt="tenant-a")],
            "93 cb3ff0000000000000 91 98 ab426c6f636b53746f726564 91fb c0 920102 02 c0 a3475055"
            "81 aa63616368655f73616c74 a874656e616e742d61 c0", rank=None, timestamp=1.0)

    def test_sglang_maps(self):
        self.assert_bytes(
            dialects.SGLANG_MAPS,
            [stored_with([2**64 - 1, 2], [1, 2, 3, 4], salt="s"), Removed([2**64 - 1]), Cleared()],
            "93 cb4029000000000000 93"
            "88 a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 92ff02"
            "b1706172656e745f626c6f636b5f68617368 c0 a9746f6b656e5f696473 9401020304"
            "aa626c6f636b5f73697a65 02 a76c6f72615f6964 c0 a66d656469756d a3475055"
            "aa63616368655f73616c74 a173"
            "83 a474797065 ac426c6f636b52656d6f766564 ac626c6f636b5f686173686573 91ff"
            "a66d656469756d a3475055"
            "81 a474797065 b0416c6c426c6f636b73436c6561726564 04", rank=4, timestamp=12.5)

    def test_master(self):
        """With every option on, 20 keys for what is stored and 17 for what is removed."""
        master = Master(started=False)
        stored_event = master.event("stored", "9223372036854775809", "cpu", "default")
        self.assertEqual(len(stored_event), 20)
        self.assertEqual((stored_event["seq_hashes"], stored_event["block_hashes"]),
                         ([2**63 + 1], [1 - 2**63]))
        removed_event = master.event("removed", "m@tp_rank:0@1d", "cpu", "default")
        self.assertEqual(len(removed_event), 17)
        self.assertEqual(removed_event["seq_hashes"], [])


def stored_with(hashes, tokens, salt):
    return Stored(hashes=hashes, parent=None, tokens=tokens, block_size=2, cache_salt=salt)


class Faults(unittest.TestCase):
    """Each does what it says, and the publisher is well again afterwards."""

    NOTHING_LEFT = [b"", b"nothing left"]

    def setUp(self):
        self.publisher = FaultyPublisher()
        self.addCleanup(self.publisher.die)
        for _ in range(4):
            self.publisher.publish(Cleared())

    def ask(self, first=0):
        """Sequences and payloads of the messages that come in answer."""
        asker = self.asker()
        self.request(asker, first)
        return self.all_answers(asker)

    def asker(self):
        asker = zmq.Context.instance().socket(zmq.DEALER)
        asker.linger = 0
        self.addCleanup(asker.close)
        asker.connect(self.publisher.replay_endpoint)
        return asker

    def request(self, asker, first):
        """Returns when it has come, and with it the fault that is meant for it."""
        asked = self.asked()
        asker.send_multipart([b"", first.to_bytes(8, "big")])
        wait_until(lambda: self.asked() > asked, "the request did not come")

    def asked(self):
        return sum("asked from" in line for line in list(self.publisher.journal))

    def all_answers(self, asker):
        """What has come, and will, for the requests until now. Requests are answered in their order:
        one more, with an answer that cannot be taken for another, tells that there is nothing left."""
        self.publisher.faults_of_answers.append(lambda reply, _: reply(self.NOTHING_LEFT))
        asker.send_multipart([b"", bytes(8)])
        answers = []
        while asker.poll(PATIENCE):
            answers.append(asker.recv_multipart())
            if answers[-1] == self.NOTHING_LEFT:
                return answers[:-1]
        raise AssertionError(f"no answer any more after {answers}")

    def sequences(self, answer):
        return ["end" if frames[-2:] == [END_OF_REPLAY, b""] else frames[-2][-1]
                for frames in answer]

    def test_answers_to_replays(self):
        whole = [0, 1, 2, 3, "end"]
        for fault, want in ((faulty.no_answer, []), (faulty.half_an_answer, [0, 1]),
                            (faulty.no_end, whole[:-1]), (faulty.two_answers, 2 * whole),
                            (faulty.every_batch_twice, 2 * whole[:-1] + ["end"]),
                            (faulty.a_hole, [0, 1, 3, "end"])):
            with self.subTest(fault=fault.__name__):
                self.publisher.faults_of_answers.append(fault)
                self.assertEqual(self.sequences(self.ask()), want)
                self.assertEqual(self.sequences(self.ask()), whole)

    def test_answer_with_malformed_messages_is_whole_without_them(self):
        self.publisher.faults_of_answers.append(faulty.malformed_between)
        answer = [frames for frames in self.ask()
                  if len(frames) == 4 and len(frames[2]) == 8 and
                  (frames[2] != END_OF_REPLAY or not frames[3])]
        self.assertEqual(self.sequences(answer), [0, 1, 2, 3, "end"])

    def test_paused_answer_goes_on_when_told(self):
        self.publisher.faults_of_answers.append(self.publisher.pause)
        asker = self.asker()
        self.request(asker, 0)
        self.assertTrue(self.publisher.paused.wait(PATIENCE / 1000))
        self.publisher.publish(Cleared())  # no part of the answer
        self.publisher.resumed.set()
        self.assertEqual(self.sequences(self.all_answers(asker)), [0, 1, 2, 3, "end"])

    def test_silence(self):
        self.publisher.silent = True
        asker = self.asker()
        self.request(asker, 0)
        self.publisher.silent = False
        self.assertEqual(self.all_answers(asker), [])

    def test_batches_that_a_fault_takes_are_in_the_ring(self):
        taken = []
        with self.publisher.live_fault(lambda *batch: taken.append(batch)):
            self.publisher.publish(Cleared())
        self.assertEqual([sequence for sequence, _ in taken], [4])
        self.assertEqual(self.sequences(self.ask(first=3)), [3, 4, "end"])

    def test_new_life_behind_the_same_connections(self):
        self.publisher.begin_again()
        self.assertEqual(self.publisher.publish(Cleared()), 0)
        self.assertEqual(self.sequences(self.ask()), [0, "end"])


class Listener:
    """Takes the place of a publisher and follows the events by name, knowing nothing of tokens."""

    def __init__(self):
        self.held = {}

    def publish(self, *batch, rank=None):
        for event in batch:
            if isinstance(event, Cleared):
                self.held = {key: n for key, n in self.held.items() if key[0] != "GPU"}
            elif isinstance(event, Removed):
                for block_hash in event.hashes:
                    self.held[event.medium, block_hash] -= 1
                    if not self.held[event.medium, block_hash]:
                        del self.held[event.medium, block_hash]
            else:
                for block_hash in event.hashes:
                    key = event.medium, block_hash
                    self.held[key] = self.held.get(key, 0) + 1 if event.medium == "GPU" else 1


class ModelOfTheTruth(unittest.TestCase):
    def test_longest_prefix_ends_at_the_first_hole(self):
        model = Model(block_size=2)
        chain = model.chain([1, 2, 3, 4, 5, 6, 7, 8])
        for block in (chain[0], chain[1], chain[3]):
            model.hold("a", 0, "gpu", block)
        self.assertEqual(model.instance_figures("a", [1, 2, 3, 4, 5, 6, 7, 8]), Figures(4, 4, 4))

    def test_lower_tiers_go_on_where_the_device_ends_and_never_climb_back(self):
        model = Model(block_size=1)
        tokens = list(range(10))
        tiers = ["gpu", "cpu", "cpu", "disk", "cpu", "gpu", "disk"]
        for block, tier in zip(model.chain(tokens), tiers):
            model.hold("a", 0, tier, block)
        self.assertEqual(model.instance_figures("a", tokens), Figures(1, 3, 5))

    def test_partial_blocks_do_not_count(self):
        model = Model(block_size=4)
        for block in model.chain(list(range(8))):
            model.hold("a", 0, "gpu", block)
        self.assertEqual(model.instance_figures("a", list(range(7))), Figures(4, 4, 4))

    def test_prompts_are_apart_by_lora_salt_and_extra_keys(self):
        model = Model(block_size=1)
        for block in model.chain([1, 2], salt="s"):
            model.hold("a", 0, "gpu", block)
        self.assertEqual(model.instance_figures("a", [1, 2], salt="s").longest, 2)
        self.assertEqual(model.instance_figures("a", [1, 2]).longest, 0)
        self.assertEqual(model.instance_figures("a", [1, 2], lora="l", salt="s").longest, 0)

    def test_instance_is_the_best_of_its_ranks(self):
        model = Model(block_size=1)
        chain = model.chain([1, 2, 3])
        model.hold("a", 0, "gpu", chain[0])
        model.hold("a", 1, "cpu", chain[0])
        model.hold("a", 1, "cpu", chain[1])
        self.assertEqual(model.instance_figures("a", [1, 2, 3]), Figures(1, 2, 2))

    def test_copies_count_on_the_device_only(self):
        model = Model(block_size=1)
        block = model.chain([1])[0]
        for tier, left in (("gpu", 1), ("cpu", 0)):
            model.hold("a", 0, tier, block)
            model.hold("a", 0, tier, block)
            model.drop("a", 0, tier, block)
            self.assertEqual(len(model.held("a", 0, tier)), left)

    def test_engines_say_what_the_model_holds(self):
        source = random.Random(1)
        for lru in (True, False):
            model, listener = Model(block_size=2), Listener()
            engine = Engine(model, listener, "a", capacity=12, lru=lru, offload=0.5)
            for step in range(400):
                tokens = [source.randrange(3) for _ in range(source.randrange(20))]
                engine.run(tokens, salt=source.choice(["", "s"]))
                if step % 100 == 99:
                    engine.reset()
                    engine.drop_lower_tiers(0.5)
                for tier, medium in (("gpu", "GPU"), ("cpu", "CPU"), ("disk", "STORAGE")):
                    self.assertEqual(
                        {engine.name(block): model.copies("a", 0, tier, block)
                         for block in model.held("a", 0, tier)},
                        {name: count for (kind, name), count in listener.held.items()
                         if kind == medium})
            self.assertGreater(engine.evicted_blocks, 100)


if __name__ == "__main__":
    unittest.main()
