"""Events that are handed in over HTTP, and publishers that move: what routers are answered stays
what a model says."""

import base64
import random
import threading
import unittest
import urllib.parse

import msgpack

import events
from daemon import key
from engine import Engine
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt


class Recorder:
    """Stands in for a publisher, and keeps what it would send."""

    def __init__(self, encoding=events.G2, rank=0):
        self._encoding = encoding
        self._rank = rank
        self.payloads = []

    def publish(self, *batch, rank="own", timestamp=None):
        rank = self._rank if rank == "own" else rank
        self.payloads.append(self._encoding.payload(batch, rank, timestamp))

    def frames(self, form):
        encode = bytes if form == "msgpack" else lambda payload: base64.b64encode(payload).decode()
        return [{"sequence": sequence, "topic": "kv@a", "payload": encode(payload)}
                for sequence, payload in enumerate(self.payloads)]


class IngestTest(EndToEndTest):
    def begin(self, *flags):
        self.conductor = self.daemon(*flags)
        self.model = Model(BLOCK_SIZE)

    def ingest(self, form="json", instance="a", incarnation="run-1", wait=True, **more):
        body = {"publisher": {"instance_id": instance, "modelname": MODEL,
                              "block_size": BLOCK_SIZE, "type": "vLLM"},
                "incarnation": incarnation, **more}
        path = "/v1/ingest?wait=applied" if wait else "/v1/ingest"
        if form == "json":
            return self.conductor.post(path, body)
        return self.conductor.request("POST", path, msgpack.packb(body), "application/msgpack")

    def read(self, answer):
        packed = answer.headers["Content-Type"] == "application/msgpack"
        return msgpack.unpackb(answer.body) if packed else answer.json

    def served(self, recorder, seeds=range(8), capacity=60):
        engine = Engine(self.model, recorder, "a", capacity=capacity, offload=0.3)
        for seed in seeds:
            engine.run(prompt(seed % 5, 4 + seed))
        return engine

    def assert_true(self, *seeds):
        for seed in seeds:
            self.assert_answers(self.conductor, self.model, prompt(seed, 20))


class Recordings(IngestTest):
    def test_recorded_frames_answer_as_the_engine_itself(self):
        for form, encoding in (("json", events.G2), ("msgpack", events.G1_MEDIUM)):
            with self.subTest(form=form):
                self.begin()
                recorder = Recorder(encoding)
                self.served(recorder)
                answer = self.read(self.ingest(form, frames=recorder.frames(form)))
                self.assertEqual(answer["accepted"], len(recorder.payloads))
                self.assertEqual((answer["state"], answer["applied"], answer["created"]),
                                 ("live", True, True))
                self.assert_true(*range(5))
                entry = self.conductor.publisher(key("a"))
                self.assertEqual((entry["mode"], entry["cursor"]),
                                 ("ingest", len(recorder.payloads) - 1))

    def test_pieces_that_overlap_are_applied_once(self):
        self.begin()
        recorder = Recorder()
        self.served(recorder, range(30))
        frames = recorder.frames("json")
        source = random.Random("pieces")
        done = 0
        while done < len(frames):
            first = source.randrange(max(0, done - 3), done + 1)
            last = min(len(frames), first + source.randrange(1, 9))
            answer = self.ingest(frames=frames[first:last])
            self.assertEqual(answer.status, 200, answer.body)
            done = max(done, last)
        entry = self.conductor.publisher(key("a"))
        self.assertEqual(entry["state"], "live")
        self.assertGreater(entry["counters"]["duplicates"], 0)
        self.assert_true(*range(5))

    def test_another_run_begins_from_nothing(self):
        self.begin()
        first = Recorder()
        self.served(first)
        self.ingest(frames=first.frames("json"))
        self.model = Model(BLOCK_SIZE)
        second = Recorder()
        self.served(second, [1, 2])
        self.assertEqual(self.ingest(frames=second.frames("json"), incarnation="run-2").json["state"],
                         "live")
        self.assert_true(*range(5))
        late = self.ingest(frames=first.frames("json"))
        self.assertEqual((late.status, late.json["reason"]), (409, "former_incarnation"))
        self.assert_true(*range(5))

    def test_a_missing_frame_is_doubtful_until_it_is_handed_in_from_its_beginning(self):
        self.begin()
        recorder = Recorder()
        self.served(recorder)
        frames = recorder.frames("json")
        answer = self.ingest(frames=frames[:2] + frames[3:])
        self.assertEqual((answer.json["state"], answer.json["reason"]), ("degraded", "doubtful"))
        answer = self.ingest(frames=frames, incarnation="run-2")
        self.assertEqual(answer.json["state"], "live")
        self.assert_true(*range(5))

    def test_a_full_queue_loses_nothing(self):
        self.begin("--max-pending-bytes", "4k")
        recorder = Recorder()
        self.served(recorder, range(200))
        frames = recorder.frames("json")
        done, refused = 0, 0
        while done < len(frames):
            answer = self.ingest(frames=frames[done:done + 50], wait=False)
            self.assertIn(answer.status, (200, 429), answer.body)
            refused += answer.status == 429
            if answer.status == 429:
                self.assertEqual(answer.headers["Retry-After"], "1")
            done += answer.json["accepted"]
        self.assertGreater(refused, 0)
        self.conductor.wait_for(key("a"), cursor=len(frames) - 1)
        self.assert_true(*range(5))


class Normalised(IngestTest):
    def test_events_of_no_dialect_answer_too(self):
        tokens = prompt(1, 6)
        stored = {"type": "stored", "block_size": BLOCK_SIZE, "medium": "GPU"}
        batch = [
            {**stored, "sequence": 0, "block_hashes": [1, 2, 3, 4],
             "token_ids": tokens[:4 * BLOCK_SIZE]},
            {**stored, "sequence": 0, "block_hashes": [5, 6], "parent_block_hash": 4,
             "token_ids": tokens[4 * BLOCK_SIZE:]},
            {"type": "removed", "sequence": 1, "block_hashes": [5], "medium": "GPU"},
        ]
        for form in ("json", "msgpack"):
            with self.subTest(form=form):
                self.begin()
                answer = self.read(self.ingest(form, events=batch))
                self.assertEqual((answer["accepted"], answer["cursor"]), (3, 1))
                self.assertEqual(self.conductor.longest(MODEL, tokens), {"a": 4 * BLOCK_SIZE})
                self.ingest(form, events=[{"type": "cleared", "sequence": 2}])
                self.assertEqual(self.conductor.longest(MODEL, tokens), {})

    def test_a_recording_and_an_engine_stand_beside_one_another(self):
        self.begin()
        live = self.publisher()
        Engine(self.model, live, "b").run(prompt(1, 7))
        self.conductor.register(live, "b")
        recorder = Recorder()
        self.served(recorder)
        self.ingest(frames=recorder.frames("json"))
        self.conductor.wait_applied(key("b"), live)
        self.assert_true(*range(5))
        held = self.conductor.ok("GET", "/v1/instances/b")
        self.assertEqual(held["blocks"], {"gpu": 7, "cpu": 0, "disk": 0})
        names = self.conductor.ok("GET", "/v1/namespaces")["namespaces"]
        self.assertEqual([(entry["model"], [each["instance_id"] for each in entry["instances"]])
                          for entry in names], [(MODEL, ["a", "b"])])


class Moving(IngestTest):
    def put(self, publisher, instance):
        path = f"/v1/publishers/{urllib.parse.quote(key(instance), safe='')}"
        return self.conductor.request("PUT", path, {
            "endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
            "modelname": MODEL, "block_size": BLOCK_SIZE})

    def test_an_engine_that_moved_is_followed_and_listed_at_all_times(self):
        self.begin()
        old = self.publisher()
        Engine(self.model, old, "a").run(prompt(1, 9))
        self.assertEqual(self.put(old, "a").status, 201)
        self.conductor.wait_applied(key("a"), old)
        self.assert_true(1)

        missing, ended = [], threading.Event()

        def ask():
            while not ended.is_set():
                if set(self.conductor.query(MODEL, prompt(1, 9))) != {"a"}:
                    missing.append(True)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for seed in range(2, 6):
                self.model = Model(BLOCK_SIZE)
                new = self.publisher()
                Engine(self.model, new, "a").run(prompt(seed, seed))
                self.assertEqual(self.put(new, "a").status, 200)
                self.assertEqual(self.conductor.longest(MODEL, prompt(seed - 1, 9)), {})
                self.conductor.wait_applied(key("a"), new)
                self.assert_true(*range(1, 6))
        finally:
            ended.set()
            asking.join()
        self.assertEqual(missing, [])
        self.assertEqual(len(self.conductor.publishers()), 1)
        # What the old place still says is nobody's.
        old.publish(events.Cleared())
        self.assertEqual(self.put(new, "a").status, 200)
        self.assert_true(5)

    def test_a_deleted_engine_is_gone(self):
        self.begin()
        publisher = self.publisher()
        Engine(self.model, publisher, "a").run(prompt(1, 9))
        self.put(publisher, "a")
        self.conductor.wait_applied(key("a"), publisher)
        path = f"/v1/publishers/{urllib.parse.quote(key('a'), safe='')}"
        answer = self.conductor.request("DELETE", path)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(self.conductor.query(MODEL, prompt(1, 9)), {})
        self.assertEqual(self.conductor.request("DELETE", path).status, 404)


if __name__ == "__main__":
    unittest.main()
