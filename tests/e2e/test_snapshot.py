"""Snapshots: a daemon that was killed, stopped or found its file unusable, started again. Whatever
happened, no answer that says `live` differs from the brute-force model.

CONDUCTOR_LONG_TESTS=1 kills it many more times.
"""

import collections
import contextlib
import functools
import http.client
import itertools
import os
import random
import re
import resource
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from daemon import DEADLINE, key, run_to_end, show, wait_until
from engine import Engine
from master import Master
from model import TIERS, Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt
from traces import OWN_TRACE, other_traces, prompts

FORMAT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                      "docs", "snapshot-format.md")
OWN_MOUNTS = "CONDUCTOR_TEST_OWN_MOUNTS"  # set in a process that has some
KILLS = 50 if os.environ.get("CONDUCTOR_LONG_TESTS") == "1" else 3
QUICK = ("--probe-interval", "500ms", "--first-probe", "100ms", "--replay-timeout", "2s",
         "--replay-backoff-max", "500ms", "--replay-backoff-min", "100ms",
         "--reconnect-max", "200ms")
PROMPTS = [prompt(number, 12) for number in range(12)]


class SnapshotTest(EndToEndTest):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="conductor-state-")
        self.addCleanup(self.directory.cleanup)
        self.state = os.path.join(self.directory.name, "state.db")
        self.model = Model(BLOCK_SIZE)
        self.engines = {}

    def start(self, *flags, interval="0", **more):
        self.conductor = self.daemon("--state", self.state, "--snapshot-interval", interval,
                                     *QUICK, *flags, **more)
        return self.conductor

    def engine(self, instance, ring=10000, **more):
        source = self.publisher(ring=ring, **more)
        self.engines[instance] = Engine(self.model, source, instance, capacity=60,
                                        offload=0.3, lru=False)
        return self.engines[instance]

    def register(self, *instances):
        for instance in instances:
            self.conductor.register(self.engines[instance].publisher, instance)

    def settle(self, *instances, **more):
        for instance in instances or self.engines:
            self.conductor.wait_applied(key(instance), self.engines[instance].publisher, **more)

    def save(self):
        return self.conductor.ok("POST", "/v1/snapshot")

    def assert_all_true(self):
        for tokens in PROMPTS:
            self.assert_answers(self.conductor, self.model, tokens)

    def assert_no_live_answer_is_wrong(self):
        """The engines stand still meanwhile."""
        for tokens in PROMPTS:
            for instance, entry in self.conductor.query(MODEL, tokens).items():
                if entry["state"] == "live":
                    want = self.model.instance_figures(instance, tokens)
                    self.assertEqual((entry["gpu"], entry["cpu"], entry["disk"]), tuple(want),
                                     f"{instance} says live")

    def metric(self, name, **labels):
        text = ",".join(f'{label}="{value}"' for label, value in labels.items())
        return self.conductor.metrics()[f"{name}{{{text}}}" if labels else name]

    def sql(self, query):
        database = sqlite3.connect(f"file:{self.state}?mode=ro", uri=True)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def begin_with_one(self):
        self.engine("a")
        self.start()
        self.register("a")
        for tokens in PROMPTS[:4]:
            self.engines["a"].run(tokens)
        self.settle()


class ComingBack(SnapshotTest):
    def begin(self, instances=("a", "b"), batches=20, **more):
        for instance in instances:
            self.engine(instance, **more)
        self.start()
        self.register(*instances)
        self.work(batches)
        self.settle()

    def work(self, batches=1, seed=0):
        source = random.Random(seed)
        for _ in range(batches):
            for engine in self.engines.values():
                engine.run(source.choice(PROMPTS))

    def test_it_is_warm_at_once_and_live_when_proven(self):
        self.begin()
        self.conductor.stop()
        self.assertEqual(stat.S_IMODE(os.stat(self.state).st_mode), 0o600)
        # The sockets are away, so nothing can be proven: what is held is told, and stale.
        for engine in self.engines.values():
            engine.publisher.die()
        self.start()
        for tokens in PROMPTS:
            entries = self.assert_answers(self.conductor, self.model, tokens)
            self.assertEqual({entry["state"] for entry in entries.values()}, {"stale"})
        for engine in self.engines.values():
            engine.publisher.start()
        self.settle()
        self.assert_all_true()
        self.assertEqual(self.metric("conductor_snapshot_restored_publishers", outcome="proven"), 2)
        self.work(5, seed=1)
        self.settle()
        self.assert_all_true()

    def test_what_came_while_it_was_down_is_read_from_the_ring(self):
        self.begin()
        self.conductor.stop()
        self.work(10, seed=2)
        self.start()
        self.settle()
        self.assert_all_true()
        counters = self.conductor.publisher(key("a"))["counters"]
        # From the cursor on, and not from the first sequence.
        self.assertLess(counters["applied_replay"], self.engines["a"].publisher.last_sequence)

    def test_an_engine_that_restarted_meanwhile_owns_nothing_of_before(self):
        for clock in (time.time() + 10, 1000.0):  # of its batches: on, and set back
            with self.subTest(clock=clock):
                self.engines.clear()
                self.model = Model(BLOCK_SIZE)
                self.begin()
                self.conductor.stop()
                engine = self.engines["a"]
                engine.forget()
                engine.publisher.restart()
                for number in range(40):  # past the cursor
                    chain = self.model.chain(prompt(f"other {number}", 1))
                    engine.publisher.publish(engine.stored(chain, None, "gpu"), timestamp=clock)
                self.start()
                self.settle()
                self.assert_all_true()
                self.assertEqual(
                    self.metric("conductor_snapshot_restored_publishers", outcome="dropped"), 1)
                self.conductor.stop()
                os.unlink(self.state)

    def test_an_engine_that_restarted_and_did_nothing_yet_holds_nothing(self):
        self.begin()
        self.conductor.stop()
        self.engines["a"].forget()
        self.engines["a"].publisher.restart()
        self.start()
        self.conductor.wait_for(key("a"), state="live")
        self.settle("b")
        self.assert_all_true()

    def test_a_ring_that_was_overrun_meanwhile_proves_nothing(self):
        self.begin(ring=8, batches=0)
        for piece in range(5):  # that the ring covers, however late the subscription is
            self.work(4, seed=piece)
            self.settle()
        self.conductor.stop()
        self.work(20, seed=3)
        self.start()
        for instance in self.engines:
            entry = self.conductor.wait_for(key(instance), state="degraded", reason="incomplete")
            self.assertIn("older batches have left", entry["detail"])
        for tokens in PROMPTS:
            for instance, entry in self.conductor.query(MODEL, tokens).items():
                self.assertLessEqual(entry["longest_matched"],
                                     self.model.instance_figures(instance, tokens).longest)

    def test_a_snapshot_that_is_older_than_the_stream_is_no_harm(self):
        self.begin()
        self.save()
        with open(self.state, "rb") as file:
            old = file.read()
        self.work(20, seed=4)
        self.settle()
        self.conductor.stop()
        with open(self.state, "wb") as file:
            file.write(old)
        self.start()
        self.settle()
        self.assert_all_true()

    def test_what_was_known_to_be_damaged_is_not_live_afterwards(self):
        self.engine("a")
        self.start()
        self.register("a")
        self.work(5)
        self.engines["a"].publisher.publish_payload(b"no batch")
        self.work(5)
        self.conductor.wait_for(key("a"), state="degraded")
        self.conductor.stop()
        self.start()
        entry = self.conductor.wait_for(
            key("a"), state="degraded", cursor=self.engines["a"].publisher.last_sequence)
        self.assertEqual(entry["reason"], "doubtful")

    def test_a_publisher_without_replay_is_never_live_by_its_sequence(self):
        self.engine("a", replay=None, see_subscribers=True)
        self.start()
        self.register("a")
        self.engines["a"].publisher.wait_for_subscriber()
        self.work(5)
        self.conductor.wait_for(key("a"), state=None,
                                cursor=self.engines["a"].publisher.last_sequence)
        self.conductor.stop()
        self.start()
        self.conductor.wait_for(key("a"), state="degraded", reason="doubtful")
        self.engines["a"].publisher.wait_for_subscriber()
        self.work(3, seed=5)
        self.conductor.wait_for(key("a"), state="degraded",
                                cursor=self.engines["a"].publisher.last_sequence)

    def test_who_stays_away_is_dropped_after_the_grace(self):
        self.begin()
        self.conductor.stop()
        self.engines["a"].publisher.die()
        self.start("--stale-grace", "1s")
        self.conductor.wait_for(key("a"), state="connecting")
        self.model.clear("a", 0)
        self.settle("b")
        self.assert_all_true()
        self.assertIn("what was restored is dropped", self.conductor.log())

    def test_registrations_by_request_come_back_and_the_file_wins(self):
        self.begin(instances=("a", "b"))
        self.conductor.stop()
        # "a" is in the file now, with another model; "b" is nowhere but in the snapshot.
        source = self.engines["a"].publisher
        config = {"kvevent_instance": {"a": {
            "endpoint": source.endpoint, "replay_endpoint": source.replay_endpoint,
            "type": "vLLM", "modelname": "another", "block_size": BLOCK_SIZE}}}
        self.start(config=config)
        self.conductor.wait_applied(key("a"), source)
        self.settle("b")
        self.assertEqual(self.conductor.publisher(key("a"))["model"], "another")
        for tokens in PROMPTS:
            self.assertLessEqual(set(self.conductor.longest(MODEL, tokens)), {"b"})
        self.conductor.stop()
        # What only the file had does not come back without it.
        self.start()
        self.assertIsNone(self.conductor.publisher(key("a")))
        self.settle("b")

    def test_pools_come_back_with_their_objects(self):
        self.engine("a")
        self.start()
        self.register("a")
        self.work(5)
        self.settle()
        master = Master()
        self.addCleanup(master.die)
        answer = self.conductor.post("/v1/publishers", {
            "endpoint": master.endpoint, "type": "Mooncake", "model": MODEL,
            "instance_id": "pool", "tp_size": 1})
        self.assertEqual(answer.status, 201, answer.body)
        master.wait_for_subscriber()
        tokens = PROMPTS[0]
        engine = self.engines["a"]
        engine.run(tokens)
        self.settle()
        for block in self.model.chain(tokens):
            master.put(f"{MODEL}@tp_rank:0@pcp0@dcp0@pp_rank:0@{engine.name(block):016x}")
        pool = key("pool")
        wait_until(lambda: self.conductor.publisher(pool)["pool"]["pool_blocks"] == 12, "12 blocks")
        before = self.conductor.query(MODEL, tokens)["a"]
        self.conductor.stop()
        self.start()
        self.settle("a")
        self.assertEqual(self.conductor.publisher(pool)["pool"]["pool_blocks"], 12)
        after = self.conductor.query(MODEL, tokens)["a"]
        self.assertEqual((after["cpu"], after["disk"]), (before["cpu"], before["disk"]))
        self.assertNotEqual(self.conductor.publisher(pool)["state"], "live")


    def test_components_of_pool_objects_come_back(self):
        """Of a block that had one of its two parts when the daemon ended, the other is enough."""
        self.engine("a")
        self.start()
        self.register("a")
        self.work(5)
        master = Master()
        self.addCleanup(master.die)
        answer = self.conductor.post("/v1/publishers", {
            "endpoint": master.endpoint, "type": "Mooncake", "model": MODEL,
            "instance_id": "pool", "tp_size": 2, "pp_size": 1})
        self.assertEqual(answer.status, 201, answer.body)
        master.wait_for_subscriber()
        tokens = PROMPTS[0]
        engine = self.engines["a"]
        engine.run(tokens)
        self.settle()

        def put(rank, blocks):
            for block in blocks:
                master.put(f"{MODEL}@tp_rank:{rank}@pcp0@dcp0@pp_rank:0@{engine.name(block):016x}")

        def wait_for(blocks, objects):
            def there():
                pool = self.conductor.publisher(key("pool"))["pool"]
                return (pool["pool_blocks"], pool["objects"]) == (blocks, objects)
            wait_until(there, lambda: f"{blocks} blocks of {objects} objects; "
                                      f"{self.conductor.publisher(key('pool'))}")

        chain = self.model.chain(tokens)
        put(0, chain)
        put(1, chain[:5])
        wait_for(5, 17)
        self.conductor.stop()
        self.start()
        wait_for(5, 17)
        self.assertGreaterEqual(self.conductor.query(MODEL, tokens)["a"]["disk"], 5 * BLOCK_SIZE)
        wait_until(lambda: self.conductor.publisher(key("pool"))["counters"]["connects"],
                   "connected")
        master.wait_for_subscriber()
        put(1, chain[5:])
        wait_for(12, 24)
        self.assertEqual(self.conductor.query(MODEL, tokens)["a"]["disk"], 12 * BLOCK_SIZE)


class WatchedEngine(Engine):
    """Remembers what it held after each batch of its present life."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.held_at = {}          # sequence -> tier -> blocks
        self.settled_at = 0.0      # when the daemon had all of the present life

    def forget(self):
        super().forget()
        self.held_at.clear()
        self.settled_at = float("inf")

    def held(self):
        return {tier: frozenset(self.model.held(self.instance, self.rank, tier)) for tier in TIERS}

    def _publish(self, *batch):
        super()._publish(*batch)
        self.held_at[self.publisher.last_sequence] = self.held()
        self.held_at.pop(self.publisher.last_sequence - 2000, None)


class BusyRun(SnapshotTest):
    """Chat traffic on three engines that evict all the time, saved every 50 ms, and a daemon that
    dies at any moment of it."""

    BLOCK_SIZE = 128
    NAMES = ("a", "b", "c")
    # What came behind the cursor of the file, between two queries, may take blocks for a moment.
    WARM = 0.95
    # 5 s on a machine that is not busy, with much else at work on it.
    LIVE_WITHIN = 5 * 8

    def setUp(self):
        super().setUp()
        self.random = random.Random(7)
        self.model = Model(self.BLOCK_SIZE)
        for instance in self.NAMES:
            self.engines[instance] = WatchedEngine(
                self.model, self.publisher(), instance, capacity=600, offload=0.3)
        path = (other_traces() or [OWN_TRACE])[0]
        self.traffic = itertools.cycle(list(prompts(path, requests=200)))
        self.recent = collections.deque(maxlen=30)

    def register(self, *instances):
        for instance in instances:
            self.conductor.register(self.engines[instance].publisher, instance,
                                    block_size=self.BLOCK_SIZE)

    def serve(self):
        tokens = next(self.traffic)
        self.recent.append(tokens)
        # To whom holds most or, as often, to anybody.
        best = max(self.NAMES, key=lambda name: self.model.instance_figures(name, tokens).longest)
        engine = self.engines[self.random.choice([best, best, *self.NAMES])]
        engine.run(tokens)
        if self.random.random() < 0.01:
            engine.reset()

    def saved(self):
        """Of each instance in the file that still lives the life that it lived then: the blocks
        that it has held since, by tier."""
        kept = {}
        for identity, cursor, saved_at in self.sql("SELECT key, cursor, saved_at FROM publishers"):
            engine = self.engines[identity.split("|")[0]]
            if cursor is None or saved_at <= engine.settled_at:
                continue
            self.assertIn(cursor, engine.held_at, f"the cursor of {engine.instance}")
            after = [held for at, held in engine.held_at.items() if at >= cursor]
            kept[engine.instance] = {
                tier: frozenset.intersection(*(held[tier] for held in after)) for tier in TIERS}
        return kept

    def leading(self, held, tokens):
        """Blocks of the prompt that are held, as a lookup counts them."""
        chain = self.model.chain(tokens, create=False)
        end = 0
        for tiers in (("gpu",), ("cpu",), ("cpu", "disk")):
            while end < len(chain) and any(chain[end] in held[tier] for tier in tiers):
                end += 1
        return end

    def first_answers(self, kept):
        """(warm, expected) blocks of what was kept, and no answer that says live is wrong."""
        warm = expected = 0
        for tokens in list(self.recent):
            entries = self.conductor.query(MODEL, tokens)
            for instance, entry in entries.items():
                if entry["state"] == "live":
                    want = self.model.instance_figures(instance, tokens)
                    self.assertEqual((entry["gpu"], entry["cpu"], entry["disk"]), tuple(want),
                                     f"{instance} says live")
            for instance, held in kept.items():
                blocks = self.leading(held, tokens)
                answered = entries[instance]["longest_matched"] // self.BLOCK_SIZE
                expected += blocks
                warm += min(blocks, answered)
        return warm, expected

    def test_killed_at_any_moment(self):
        self.start(interval="50ms")
        self.register(*self.NAMES)
        self.settle()
        all_expected, least, slowest = 0, 1.0, 0.0
        for kill in range(KILLS):
            with self.subTest(kill=kill):
                end = time.monotonic() + self.random.uniform(0.05, 0.8)
                while time.monotonic() < end:
                    self.serve()
                self.conductor.kill()
                restarted = self.random.choice([*self.NAMES, None, None])
                if restarted:
                    self.engines[restarted].forget()
                    self.engines[restarted].publisher.restart()
                for _ in range(self.random.randrange(5)):
                    self.serve()
                kept = self.saved() if os.path.exists(self.state) else {}
                begin = time.monotonic()
                self.start(interval="50ms")
                warm, expected = self.first_answers(kept)
                self.assertGreaterEqual(warm, self.WARM * expected, "blocks that are warm")
                # Those that were registered in time to be saved are there.
                for instance in self.NAMES:
                    if self.conductor.publisher(key(instance)) is None:
                        self.assertNotIn(instance, kept)
                        self.register(instance)
                self.settle()
                took = time.monotonic() - begin
                self.assertLess(took, self.LIVE_WITHIN)
                for tokens in self.recent:
                    self.assert_answers(self.conductor, self.model, tokens)
                if restarted:
                    self.engines[restarted].settled_at = time.time()
                all_expected += expected
                least = min(least, warm / expected if expected else 1.0)
                slowest = max(slowest, took)
        self.assertGreater(all_expected, 0)
        if KILLS > 3:
            show(f"{KILLS} kills: {all_expected} blocks could be warm in the first queries, at "
                 f"least {least:.1%} of them were; all live {slowest:.1f} s after the start")


class Saving(SnapshotTest):
    def test_a_save_tells_what_it_saved(self):
        self.begin_with_one()
        report = self.save()
        self.assertEqual(report["path"], self.state)
        self.assertEqual(report["bytes"], os.path.getsize(self.state))
        publisher, = report["publishers"]
        self.assertEqual(publisher["id"], key("a"))
        self.assertEqual(publisher["cursor"], self.engines["a"].publisher.last_sequence)
        self.assertEqual(report["holdings"], self.model.holdings())
        self.assertEqual(self.metric("conductor_snapshot_saves_total", outcome="saved"), 1)
        self.assertLess(self.metric("conductor_snapshot_age_seconds"), 60)

    def test_the_file_has_what_the_model_has(self):
        self.begin_with_one()
        self.save()
        self.assertEqual(self.sql("PRAGMA integrity_check"), [("ok",)])
        self.assertEqual(self.sql("PRAGMA foreign_key_check"), [])
        self.assertEqual(
            dict(self.sql("SELECT tier, blocks FROM tier_use")),
            {tier: len(held) for tier in ("gpu", "cpu", "disk")
             if (held := self.model.held("a", 0, tier))})
        (longest,), = self.sql("SELECT blocks FROM longest_prefixes WHERE tier = 'gpu'")
        self.assertEqual(longest * BLOCK_SIZE, max(
            self.model.rank_figures("a", 0, tokens).gpu for tokens in PROMPTS))

    def test_the_questions_of_the_document_are_answered(self):
        self.engine("vllm-1")
        self.engine("vllm-2")
        self.start()
        self.conductor.register(self.engines["vllm-1"].publisher, "vllm-1", bytes_per_block=1 << 20)
        self.register("vllm-2")
        for tokens in PROMPTS[:3]:
            for engine in self.engines.values():
                engine.run(tokens)
        self.settle()
        self.save()
        hash_of_first, = self.sql("SELECT hash FROM blocks WHERE position = 11 LIMIT 1")[0]
        with open(FORMAT, encoding="utf-8") as file:
            page = file.read()
        questions = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        self.assertGreater(len(questions), 8)
        for question in questions:
            with self.subTest(question=question):
                question = question.replace("569d65ba2b5e8a36", hash_of_first)
                ended = subprocess.run(["sqlite3", "-readonly", "-bail", self.state, question],
                                       capture_output=True, text=True, timeout=60, check=False)
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                if "FROM waiting JOIN" not in question:
                    self.assertTrue(ended.stdout)
                if "chain" in question:
                    self.assertEqual(len(ended.stdout.splitlines()), 12)
        # And each table and view is explained.
        for name, in self.sql("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                              "AND name NOT IN ('offsets')"):
            self.assertIn(f"`{name}`", page)

    def test_all_that_the_pages_say_of_the_shell_is_read_only(self):
        """And asks for nothing that is not there."""
        self.begin_with_one()
        self.save()
        folder = os.path.dirname(FORMAT)
        commands = []
        for name in sorted(os.listdir(folder)):
            if name.endswith(".md"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    commands += re.findall(r"^ +(?:\$ )?(sqlite3 .*)$", file.read(), re.MULTILINE)
        self.assertGreaterEqual(len(commands), 2)
        for command in commands:
            with self.subTest(command):
                words = [self.state if word in ("FILE", "state.db") else word
                         for word in shlex.split(command)]
                self.assertEqual(words[:2], ["sqlite3", "-readonly"])
                ended = subprocess.run(words, input="", capture_output=True, text=True,
                                       timeout=60, check=False)
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                self.assertEqual(bool(ended.stdout), len(words) > 3)

    def test_it_is_saved_now_and_then(self):
        self.begin_with_one()
        self.conductor.stop()
        self.start(interval="20ms")
        wait_until(lambda: self.metric("conductor_snapshot_saves_total", outcome="saved") > 2,
                   "three saves")

    def test_without_a_file_there_is_nothing_to_save(self):
        conductor = self.daemon()
        answer = conductor.post("/v1/snapshot", None)
        self.assertEqual(answer.status, 409)
        self.assertEqual(answer.json["reason"], "no_state_file")

    def test_two_daemons_never_share_a_file(self):
        self.begin_with_one()
        ended = run_to_end("serve", "--state", self.state, "--port", "0")
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"another conductor uses it: process {self.conductor.process.pid}",
                      ended.stderr)
        self.assertEqual(self.save()["path"], self.state)

    def test_a_directory_that_is_not_there_is_an_error(self):
        ended = run_to_end("serve", "--state", os.path.join(self.state, "x", "y.db"),
                           "--port", "0")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("--state", ended.stderr)

    def test_where_nothing_can_be_written_it_answers_and_says_so(self):
        # Nobody can create a file there, root neither.
        conductor = self.daemon("--state", "/proc/self/state.db", *QUICK)
        self.assertIn("NOTHING WILL BE SAVED", conductor.log())
        answer = conductor.post("/v1/snapshot", None)
        self.assertEqual(answer.status, 500)
        self.assertEqual(answer.json["reason"], "snapshot_failed")
        ended = run_to_end("serve", "--state", "/proc/self/state.db", "--strict", "--port", "0")
        self.assertEqual(ended.returncode, 1)


def with_a_disk_of_its_own(test):
    """Has a test run with a small file system in place of self.directory: in a process whose mounts
    nobody else sees, so that those of the machine stay as they are."""

    @functools.wraps(test)
    def run(self):
        mount = ["mount", "-t", "tmpfs", "-o", "mode=700,size=1m", "tmpfs", self.directory.name]
        if os.environ.get(OWN_MOUNTS) == "1":
            subprocess.run(mount, check=True)
            self.addCleanup(subprocess.run, ["umount", "--lazy", self.directory.name], check=False)
            test(self)
            return
        apart = ["unshare", "--mount", "--propagation", "private"]
        if os.geteuid() != 0:
            apart.append("--map-root-user")
        try:
            tried = subprocess.run([*apart, *mount], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            self.skipTest(f"nothing can be mounted apart here: {error}")
        if tried.returncode != 0:
            self.skipTest(f"nothing can be mounted apart here: {tried.stderr.strip()}")
        name = f"test_snapshot.{type(self).__name__}.{test.__name__}"
        ended = subprocess.run(
            [*apart, sys.executable, "-m", "unittest", name], capture_output=True, text=True,
            cwd=os.path.dirname(os.path.abspath(__file__)), env={**os.environ, OWN_MOUNTS: "1"},
            check=False)
        self.assertEqual(ended.returncode, 0, ended.stderr)

    return run


class TheFile(SnapshotTest):
    """And what is beside it, and on the way to it."""

    def assert_warm(self):
        restored = self.conductor.metrics()  # of one moment
        self.assertEqual(
            sum(restored[f'conductor_snapshot_restored_publishers{{outcome="{outcome}"}}']
                for outcome in ("undecided", "proven")), 1)
        self.settle()
        self.assert_all_true()
        self.assertEqual([name for name in os.listdir(self.directory.name) if "unusable" in name],
                         [])

    def left(self):
        return sorted(os.listdir(self.directory.name))

    def test_a_shell_that_has_it_open_and_what_it_left_are_not_minded(self):
        self.begin_with_one()
        self.conductor.stop()
        shell = sqlite3.connect(self.state, isolation_level=None)
        self.addCleanup(shell.close)
        shell.execute("BEGIN EXCLUSIVE")
        for suffix in ("-journal", "-wal", "-shm"):
            with open(self.state + suffix, "wb") as file:
                file.write(b"left" * 1000)
        self.start()
        self.assert_warm()
        self.save()
        self.assertEqual(self.left(), ["state.db", "state.db.lock"])
        # The mode of the shell's log is a matter of the file.
        self.conductor.stop()
        with sqlite3.connect(self.state) as log:
            log.execute("PRAGMA journal_mode = WAL")
        log.close()
        self.start()
        self.assert_warm()

    def test_a_link_to_it_is_the_same_file(self):
        link = os.path.join(self.directory.name, "link.db")
        os.symlink("state.db", link)
        real, self.state = self.state, link
        self.begin_with_one()
        self.assertEqual(self.save()["path"], real)
        for name in (real, link):
            ended = run_to_end("serve", "--state", name, "--port", "0")
            self.assertEqual(ended.returncode, 1)
            self.assertIn("another conductor uses it", ended.stderr)
        self.conductor.stop()
        self.assertTrue(os.path.islink(link))
        self.assertEqual(self.left(), ["link.db", "state.db", "state.db.lock"])
        self.start()
        self.assert_warm()

    def test_its_name_is_told_from_the_root_on(self):
        self.engine("a")
        conductor = self.daemon("--state", "here.db", "--snapshot-interval", "0")
        self.assertEqual(conductor.ok("POST", "/v1/snapshot")["path"],
                         os.path.join(os.path.realpath(conductor.home), "here.db"))

    def test_what_is_no_file_is_refused_and_stays(self):
        directory = os.path.join(self.directory.name, "directory")
        os.mkdir(directory)
        fifo = os.path.join(self.directory.name, "fifo")
        os.mkfifo(fifo)
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(os.path.join(self.directory.name, "socket"))
        cases = [(directory, "is a directory"), (directory + "/", "is a directory"),
                 (fifo, "is a FIFO"), (listening.getsockname(), "is a socket")]
        # One of the test's own: whoever may make it could put away the machine's.
        device = os.path.join(self.directory.name, "device")
        with contextlib.suppress(PermissionError):
            os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            cases.append((device, "is a device"))
        before = self.left()
        for path, what in cases:
            for more in ((), ("--strict",)):
                with self.subTest(path=path, more=more):
                    ended = run_to_end("serve", "--state", path, "--port", "0", *more)
                    self.assertEqual(ended.returncode, 1)
                    self.assertIn(what, ended.stderr)
                    self.assertIn("a regular file", ended.stderr)
        self.assertEqual(self.left(), before)

    def test_nobody_else_can_read_it_at_any_time(self):
        self.begin_with_one()
        self.conductor.stop()
        self.start(interval="1ms")
        modes = set()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            for name in self.left():
                try:
                    status = os.stat(os.path.join(self.directory.name, name))
                except FileNotFoundError:
                    continue
                modes.add(stat.S_IMODE(status.st_mode))
        self.assertEqual(modes, {0o600})

    def test_what_a_killed_save_left_is_gone_after_the_next_start(self):
        self.begin_with_one()
        self.save()
        self.conductor.kill()
        for suffix in (".writing", ".writing-journal"):
            with open(self.state + suffix, "wb") as file:
                file.write(b"half" * 1000)
        self.start()
        self.assertEqual(self.left(), ["state.db", "state.db.lock"])
        self.assert_warm()

    def test_two_signals_do_not_cost_the_last_save(self):
        self.begin_with_one()
        self.conductor.process.send_signal(signal.SIGTERM)
        self.conductor.process.send_signal(signal.SIGINT)
        # Saved, and then it may have been the second signal that ended it.
        self.assertIn(self.conductor.process.wait(DEADLINE), (0, -signal.SIGINT, -signal.SIGTERM))
        self.start()
        self.assert_warm()

    def test_a_save_that_was_asked_for_does_not_cost_the_last_one(self):
        self.begin_with_one()
        conductor, answers = self.conductor, []

        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    answers.append(conductor.post("/v1/snapshot", None).status)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        wait_until(lambda: len(answers) > 4, "answers")
        self.engines["a"].run(PROMPTS[5])
        self.settle()
        conductor.stop()
        for thread in asking:
            thread.join()
        self.assertLessEqual(set(answers), {200, 500})
        (cursor,), = self.sql("SELECT cursor FROM publishers")
        self.assertEqual(cursor, self.engines["a"].publisher.last_sequence)
        self.start()
        self.assert_warm()

    # A disk of its own.

    @with_a_disk_of_its_own
    def test_a_disk_that_went_read_only_is_read(self):
        self.begin_with_one()
        self.conductor.stop()
        subprocess.run(["mount", "-o", "remount,ro", self.directory.name], check=True)
        self.start()
        self.assertIn("NOTHING WILL BE SAVED", self.conductor.log())
        self.assert_warm()
        answer = self.conductor.post("/v1/snapshot", None)
        self.assertEqual((answer.status, answer.json["reason"]), (500, "snapshot_failed"))
        ended = run_to_end("serve", "--state", self.state, "--strict", "--port", "0")
        self.assertEqual(ended.returncode, 1)
        # As soon as it can be written, it is.
        subprocess.run(["mount", "-o", "remount,rw", self.directory.name], check=True)
        self.save()
        self.conductor.stop()
        self.start()
        self.assert_warm()

    @with_a_disk_of_its_own
    def test_a_damaged_file_on_a_disk_that_is_read_only_is_kept_once_it_can_be(self):
        with open(self.state, "wb") as file:
            file.write(b"no snapshot")
        link = os.path.join(self.directory.name, "link.db")
        os.symlink("state.db", link)
        real, self.state = self.state, link
        subprocess.run(["mount", "-o", "remount,ro", self.directory.name], check=True)
        self.start()
        self.assertIn("NOTHING WILL BE SAVED until", self.conductor.log())
        self.assertEqual(self.conductor.post("/v1/snapshot", None).status, 500)
        subprocess.run(["mount", "-o", "remount,rw", self.directory.name], check=True)
        self.assertEqual(self.save()["path"], real)
        self.assertEqual(self.left(), ["link.db", "state.db", "state.db.lock",
                                       "state.db.unusable"])
        self.assertTrue(os.path.islink(link))
        with open(real + ".unusable", "rb") as file:
            self.assertEqual(file.read(), b"no snapshot")
        self.save()  # its own is not kept
        self.assertEqual(len(self.left()), 4)

    @with_a_disk_of_its_own
    def test_a_full_disk_leaves_the_last_good_one_and_is_tried_again(self):
        self.begin_with_one()
        self.save()
        good = self.content()
        filling = os.path.join(self.directory.name, "filling")

        def fill():
            with open(filling, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))

        fill()
        answer = self.conductor.post("/v1/snapshot", None)
        self.assertEqual((answer.status, answer.json["reason"]), (500, "snapshot_failed"))
        self.assertIn("full", answer.json["error"])
        self.assertIn("the last good one stays", self.conductor.log())
        self.assertEqual(self.metric("conductor_snapshot_saves_total", outcome="failed"), 1)
        self.assertEqual(self.content(), good)
        self.assertEqual(self.left(), ["filling", "state.db", "state.db.lock"])
        self.conductor.stop()  # at the end too
        self.assertEqual(self.content(), good)
        os.unlink(self.state + ".lock")  # a full disk has no room for a new one
        fill()
        self.start()
        self.assert_warm()
        os.unlink(filling)
        self.save()

    def test_a_limit_of_the_file_size_is_no_end_of_the_process(self):
        self.begin_with_one()
        self.save()
        good = self.content()
        resource.prlimit(self.conductor.process.pid, resource.RLIMIT_FSIZE, (20000, 20000))
        answer = self.conductor.post("/v1/snapshot", None)
        self.assertEqual((answer.status, answer.json["reason"]), (500, "snapshot_failed"))
        self.assertEqual(self.content(), good)
        self.conductor.stop()
        self.assertEqual(self.content(), good)
        self.start()
        self.assert_warm()

    def content(self):
        with open(self.state, "rb") as file:
            return file.read()


class UnusableFiles(SnapshotTest):
    def write(self, content):
        with open(self.state, "wb") as file:
            file.write(content)

    def assert_kept_aside(self, *words):
        ended = run_to_end("serve", "--state", self.state, "--strict", "--port", "0")
        self.assertEqual(ended.returncode, 1)
        for word in words:
            self.assertIn(word, ended.stderr)
        with open(self.state, "rb") as file:
            content = file.read()
        conductor = self.start()
        for word in words:
            self.assertIn(word, conductor.log())
        with open(self.state + ".unusable", "rb") as file:
            self.assertEqual(file.read(), content)
        self.assertEqual(conductor.publishers(), [])
        self.save()  # a new one
        conductor.stop()

    def saved(self):
        self.engine("a")
        self.start()
        self.register("a")
        for tokens in PROMPTS:
            self.engines["a"].run(tokens)
        self.settle()
        self.conductor.stop()

    def test_no_database_at_all(self):
        self.write(b"something else" * 1000)
        self.assert_kept_aside("not a database")

    def test_another_programs_database(self):
        with sqlite3.connect(self.state) as database:
            database.execute("CREATE TABLE mine (x)")
        database.close()
        self.assert_kept_aside("no snapshot of Conductor's")

    def test_a_newer_version(self):
        self.saved()
        with sqlite3.connect(self.state) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
        self.assert_kept_aside("a newer Conductor wrote it")

    def test_a_changed_bit(self):
        self.saved()
        with sqlite3.connect(self.state) as database:
            database.execute("UPDATE holdings SET blocks = blocks - 1, held = held - 1 "
                             "WHERE rowid = 1 AND blocks & 1")
            if database.total_changes == 0:
                database.execute("UPDATE runs SET prefixes = zeroblob(length * 8) WHERE id = 1")
        database.close()
        self.assert_kept_aside("are not those that were written")

    def test_a_changed_namespace(self):
        self.saved()
        with sqlite3.connect(self.state) as database:
            database.execute("UPDATE namespaces SET model = 'another'")
        database.close()
        self.assert_kept_aside("namespaces: its rows are not those that were written")

    def test_a_changed_cursor(self):
        self.saved()
        with sqlite3.connect(self.state) as database:
            database.execute("UPDATE publishers SET cursor = cursor + 1, digest = 7")
        database.close()
        self.assert_kept_aside("publishers: its rows are not those that were written")

    def test_a_view_in_place_of_a_table(self):
        self.saved()
        with sqlite3.connect(self.state) as database:
            database.executescript(
                "DROP TABLE deadlines; CREATE VIEW deadlines (space, tier, dp_rank, name, "
                "seconds_left) AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                "SELECT 1, 0, 0, x, 1.0 FROM n")
        database.close()
        self.assert_kept_aside("'deadlines' is a view and no table")

    def test_a_file_that_ends_too_early(self):
        self.saved()
        with open(self.state, "rb") as file:
            content = file.read()
        self.write(content[:len(content) // 2 // 16384 * 16384])
        self.assert_kept_aside("state.db")


if __name__ == "__main__":
    unittest.main()
