"""What operators can say of a publisher, and do to it: ranks from one entry, bound endpoints,
incarnations, resync, clear."""

import itertools
import unittest
import urllib.parse

import events
from daemon import key, wait_until
from engine import Engine
from hashes import DEFAULT_SEED, VllmChain
from model import Model
from publisher import Publisher, free_ports
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

# So that silence is judged within a test's patience. A publisher of a test may take its time to answer
# on a busy machine: that is no silence.
IMPATIENT = ("--probe-interval", "300ms", "--replay-timeout", "3s")


class OperatorTest(EndToEndTest):
    def begin(self, *flags, register=True, **publisher):
        self.conductor = self.daemon(*flags)
        self.model = Model(BLOCK_SIZE)
        self.source = self.publisher(**publisher)
        self.engine = Engine(self.model, self.source, "a")
        if register:
            self.conductor.register(self.source, "a")

    def settle(self, **more):
        return self.conductor.wait_applied(key("a"), self.source, **more)

    def assert_true(self, *seeds, blocks=12):
        for seed in seeds:
            self.assert_answers(self.conductor, self.model, prompt(seed, blocks))

    def do(self, what, identity):
        return self.conductor.request(
            "POST", f"/v1/publishers/{urllib.parse.quote(identity, safe='')}/{what}", b"")


class Ranks(OperatorTest):
    def test_one_entry_stands_for_all_ranks(self):
        self.conductor = self.daemon()
        self.model = Model(BLOCK_SIZE)
        live = free_ports(6)
        publishers = [self.publisher(ports=(live + rank, live + 3 + rank), rank=rank)
                      for rank in range(3)]
        engines = [Engine(self.model, each, "a", rank=each.rank) for each in publishers]
        self.conductor.register(publishers[0], "a", dp_size=3)
        for rank, engine in enumerate(engines):
            engine.run(prompt(rank, 4 + rank))
            engine.run(prompt("all", 2 + rank))
        for rank, publisher in enumerate(publishers):
            entry = self.conductor.wait_applied(key("a", rank), publisher)
            self.assertEqual((entry["endpoint"], entry["replay_endpoint"]),
                             (publisher.endpoint, publisher.replay_endpoint))
        self.assert_true("all", 0, 1, 2)
        self.conductor.unregister("a", 1)
        self.model.clear("a", 1)
        self.assert_true("all", 0, 1, 2)

    def test_ports_of_ranks_must_not_meet(self):
        self.conductor = self.daemon()
        ports = free_ports(2)
        answer = self.conductor.post("/register", {
            "endpoint": f"tcp://127.0.0.1:{ports}", "replay_endpoint": f"tcp://127.0.0.1:{ports + 1}",
            "modelname": MODEL, "instance_id": "a", "dp_size": 2})
        self.assertEqual(answer.status, 400)
        self.assertIn("dp_size", answer.json["error"])
        self.assertEqual(self.conductor.publishers(), [])


class Bound(OperatorTest):
    """The daemon's socket is bound, and publishers connect to it, as vLLM does unless its endpoint
    has a '*'."""

    def start(self, *encodings, peers=None, **more):
        self.conductor = self.daemon(*IMPATIENT)
        self.model = Model(BLOCK_SIZE)
        self.address = f"tcp://127.0.0.1:{free_ports()}"
        self.publishers, self.engines = [], []
        for rank, encoding in enumerate(encodings):
            publisher = self.publisher(encoding=encoding, rank=rank, connect_to=self.address,
                                       source=peers and peers[rank], see_subscribers=True, **more)
            self.publishers.append(publisher)
            self.engines.append(Engine(self.model, publisher, "a", rank=rank))
            self.conductor.register(publisher, "a", rank=rank, mode="bind",
                                    **({"peer": peers[rank]} if peers else {}))
        for publisher in self.publishers:
            publisher.wait_for_subscriber()

    def wait(self, **more):
        return [self.conductor.wait_applied(key("a", rank), publisher, **more)
                for rank, publisher in enumerate(self.publishers)]

    def work(self):
        for rank, engine in enumerate(self.engines):
            engine.run(prompt("all", 2 + rank))
            engine.run(prompt(rank, 4))

    def test_one_publisher(self):
        self.start(events.G2)
        self.work()
        self.wait()
        self.assert_true("all", 0)
        # The ring fills a gap there, too.
        self.publishers[0].drop(events.Removed([1]))
        self.work()
        self.engines[0].run(prompt(9, 3))
        self.wait()
        self.assert_true("all", 0, 9)

    def test_two_publishers_are_told_apart_by_their_ranks(self):
        self.start(events.G2, events.G2)
        for _ in range(2):
            self.work()
            self.wait()
            self.assert_true("all", 0, 1)
            self.engines[0].reset()
            self.engines[1].run(prompt(7, 5))

    def test_two_publishers_are_told_apart_by_their_addresses(self):
        # These tell no rank.
        self.start(events.G0, events.G0, peers=("127.0.0.1", "127.0.0.2"))
        self.work()
        self.wait()
        self.assert_true("all", 0, 1)

    def test_publishers_that_cannot_be_told_apart_are_said_to_be(self):
        self.start(events.G0)
        second = Publisher(encoding=events.G0, connect_to=self.address, see_subscribers=True)
        self.addCleanup(second.die)
        second.wait_for_subscriber()
        self.work()
        other = Engine(Model(BLOCK_SIZE), second, "a")
        # What comes of each connection in one go looks like one publisher that came back, so both go
        # on until one was heard again after the other.
        lengths = itertools.count(1)

        def told_after_more():
            length = next(lengths)
            other.run(prompt("other", length))
            self.engines[0].run(prompt("all", 2 + length))
            return self.conductor.publisher(key("a"))["reason"] == "shared_endpoint"

        wait_until(told_after_more, "shared_endpoint is told")
        self.assertEqual(self.conductor.publisher(key("a"))["state"], "degraded")

    def test_publisher_that_comes_back(self):
        self.start(events.G2)
        self.work()
        self.wait()
        self.engines[0].forget()
        self.publishers[0].restart()
        self.engines[0].run(prompt("new", 5))
        self.wait()
        self.assert_true("all", 0, "new")


class Incarnations(OperatorTest):
    def test_another_incarnation_is_a_new_life_at_once(self):
        for replay in (True, False):
            with self.subTest(replay=replay):
                self.begin(register=False, see_subscribers=True,
                           **({} if replay else {"replay": None}))
                self.conductor.register(self.source, "a", incarnation="pod-1")
                self.source.wait_for_subscriber()
                self.engine.run(prompt(1, 8))
                self.settle()
                # A supervisor knows of a restart before anything is heard of it.
                self.source.stop_live()
                self.source.stop_replay()
                self.engine.forget()
                self.conductor.register(self.source, "a", incarnation="pod-2")
                self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {})
                self.source.restart()
                self.source.wait_for_subscriber()
                self.engine.run(prompt(2, 4))
                self.settle()
                self.assert_true(1, 2)
                self.conductor.stop()

    def test_same_incarnation_changes_nothing(self):
        self.begin(register=False)
        for _ in range(2):
            self.conductor.register(self.source, "a", incarnation="pod-1")
            self.engine.run(prompt(1, 8))
            self.settle()
            self.assert_true(1)
        self.assertEqual(self.conductor.publisher(key("a"))["counters"]["lives"], 1)


class Commands(OperatorTest):
    def test_resync_reads_everything_anew(self):
        self.begin()
        self.engine.run(prompt(1, 8))
        self.settle()
        served = self.source.replays_served
        answer = self.do("resync", key("a"))
        self.assertEqual(answer.status, 200, answer.body)
        wait_until(lambda: self.source.replays_served > served, "nothing was asked for")
        self.engine.run(prompt(2, 4))
        self.settle()
        self.assert_true(1, 2)

    def test_clear_drops_what_is_held_until_it_is_stored_again_or_resynchronised(self):
        self.begin()
        self.engine.run(prompt(1, 8))
        self.settle()
        answer = self.do("clear", key("a"))
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {})
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded", reason="incomplete")
        self.assert_true(2)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {})
        self.assertEqual(self.do("resync", key("a")).status, 200)
        self.settle()
        self.assert_true(1, 2)

    def test_clear_without_a_replay_endpoint_leaves_nothing(self):
        self.begin(replay=None, see_subscribers=True)
        self.source.wait_for_subscriber()
        self.engine.run(prompt(1, 8))
        self.settle()
        self.assertEqual(self.do("clear", key("a")).status, 200)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {})
        self.engine.run(prompt(2, 4))
        self.settle(state="degraded", reason="incomplete")
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {})
        self.assert_true(2)

    def test_publisher_that_nobody_registered(self):
        self.begin()
        for what in ("resync", "clear"):
            answer = self.do(what, key("b"))
            self.assertEqual((answer.status, answer.json["reason"]), (404, "unknown_publisher"))


class LeastTrust(OperatorTest):
    """The older answers have no room for a state."""

    def older_answers(self, tokens):
        """Figures by /query and /cache."""
        late = self.conductor.ok("POST", "/query", {
            "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": tokens})["default"]["a"]
        first = self.conductor.ok("POST", "/cache", {
            "instances": ["127.0.0.1"], "token_ids": tokens, "model_name": MODEL})["HitStatus"]
        return late["longest_matched"], first.get("127.0.0.1", 0)

    def test_figures_below_it_are_zeros(self):
        tokens = prompt(1, 4)
        for flags, doubtful, stale in (((), True, True), (("--legacy-min-state", "any"), True, True),
                                       (("--legacy-min-state", "doubtful"), True, False),
                                       (("--legacy-min-state", "incomplete"), False, False),
                                       (("--legacy-min-state", "live"), False, False)):
            with self.subTest(flags=flags):
                self.begin(*IMPATIENT, *flags)
                self.engine.run(tokens)
                self.settle()
                self.assertEqual(self.older_answers(tokens), (len(tokens), 100))
                self.source.publish_payload(b"no msgpack")
                self.settle(state="degraded", reason="doubtful")
                self.assertEqual(self.older_answers(tokens),
                                 (len(tokens), 100) if doubtful else (0, 0))
                self.source.die()
                self.conductor.wait_for(key("a"), state="stale")
                self.assertEqual(self.older_answers(tokens),
                                 (len(tokens), 100) if stale else (0, 0))
                # Conductor's own answer says all, and how far to trust it.
                entry = self.conductor.query(MODEL, tokens)["a"]
                self.assertEqual((entry["longest_matched"], entry["state"]), (len(tokens), "stale"))
                self.conductor.stop()


class HashChecks(OperatorTest):
    """A declared profile is compared with what the engine announces."""

    def begin_with(self, hashes, **profile):
        self.begin(register=False)
        self.engine = Engine(self.model, self.source, "a", hashes=hashes)
        self.conductor.register(self.source, "a", hash_profile={"strategy": "vllm_v1", **profile})
        for seed in range(20):  # a chain that differs counts once, at its beginning
            self.engine.run(prompt(seed, 8))
            self.engine.run(prompt(seed, 12))
        self.settle()
        return self.conductor.publisher(key("a"))["hash_check"]

    def test_right_profiles_agree(self):
        for algorithm, seed in (("sha256", "0"), ("sha256_cbor", "007"), ("sha256", None)):
            with self.subTest(algorithm=algorithm, seed=seed):
                chosen = {} if seed is None else {"python_hash_seed": seed}
                check = self.begin_with(VllmChain(algorithm, seed or DEFAULT_SEED),
                                        algorithm=algorithm, **chosen)
                self.assertEqual((check["checked"], check["match_rate"]), (240, 1))
                self.assertEqual(check["hint"], "")
                self.assertEqual(self.conductor.services()[0]["HashMatchRate"], 1)
                self.assertNotIn("warning publisher", self.conductor.log())
                self.conductor.stop()

    def test_wrong_profile_is_told_with_its_likely_cause(self):
        for name, hashes, declared, cause in (
                ("seed", VllmChain("sha256", "0"), {"algorithm": "sha256"}, "seed"),
                ("algorithm", VllmChain("sha256_cbor", "0"),
                 {"algorithm": "sha256", "python_hash_seed": "0"}, "sha256_cbor")):
            with self.subTest(name):
                check = self.begin_with(hashes, **declared)
                self.assertEqual(check["checked"], 20)
                self.assertLess(check["match_rate"], 0.1)
                self.assertIn(cause, check["hint"])
                warnings = [line for line in self.conductor.log().splitlines()
                            if "warning publisher a|default|0" in line and check["hint"] in line]
                self.assertEqual(len(warnings), 1, self.conductor.log())
                # Answers come from the events and are right all the same.
                self.assert_true(*range(10))
                self.conductor.stop()


class MemoryLimit(OperatorTest):
    def test_who_loses_by_it_is_incomplete_and_metrics_say_why(self):
        limit = 1 << 20
        self.begin("--memory-limit", str(limit))
        for seed in range(60):
            self.engine.run(prompt(seed, 1000, vocabulary=30000))

        def given_up():
            entry = self.conductor.publishers()[0]
            return entry if entry["reason"] == "incomplete" else None

        entry = wait_until(given_up, "blocks to be given up")
        self.assertEqual(entry["state"], "degraded")
        self.assertIn("--memory-limit", entry["detail"])
        self.assertGreater(entry["counters"]["trimmed_blocks"], 0)
        metrics = self.conductor.get("/metrics").body.decode()
        told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[:1] != "#")
        self.assertGreater(float(told["conductor_index_trims_total"]), 0)
        self.assertGreater(float(told["conductor_index_trimmed_blocks_total"]), 0)
        self.assertEqual(float(told["conductor_index_memory_limit_bytes"]), limit)
        # Tables grow in steps, which are not small beside a limit as small as this.
        self.assertLess(float(told["conductor_index_bytes"]), limit * 1.25)


if __name__ == "__main__":
    unittest.main()
