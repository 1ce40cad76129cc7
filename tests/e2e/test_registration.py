"""Publishers that come and go while the daemon runs."""

import unittest

from daemon import key
from engine import Engine
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt


class ComingAndGoing(EndToEndTest):
    def setUp(self):
        self.conductor = self.daemon()
        self.model = Model(BLOCK_SIZE)

    def engine(self, instance, **more):
        return Engine(self.model, self.publisher(), instance, **more)

    def test_registered_publisher_is_heard_and_unregistered_one_forgotten(self):
        engine = self.engine("a")
        engine.run(prompt(1, 8))
        self.conductor.register(engine.publisher, "a")
        self.conductor.wait_applied(key("a"), engine.publisher)
        self.assert_answers(self.conductor, self.model, prompt(1, 8))

        answer = self.conductor.unregister("a")
        self.assertEqual(answer, {"status": "unregistered successfully",
                                  "removed_instances": [key("a")]})
        # Its blocks are gone as soon as the answer is there.
        self.assertEqual(self.conductor.query(MODEL, prompt(1, 8)), {})
        self.assertEqual(self.conductor.services(), [])
        self.assertEqual(self.conductor.publishers(), [])

    def test_answer_of_register_names_the_instance(self):
        publisher = self.publisher()
        answer = self.conductor.ok("POST", "/register", {
            "endpoint": publisher.endpoint, "type": "vLLM", "modelname": MODEL,
            "instance_id": "a", "block_size": BLOCK_SIZE, "dp_rank": 0})
        self.assertEqual(answer, {"status": "registered successfully", "instance_id": "a"})

    def test_others_keep_what_a_leaving_one_shared_with_them(self):
        engines = [self.engine(name) for name in ("a", "b")]
        for engine in engines:
            engine.run(prompt(1, 8))
            self.conductor.register(engine.publisher, engine.instance)
            self.conductor.wait_applied(key(engine.instance), engine.publisher)
        self.conductor.unregister("a")
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)), {"b": 8 * BLOCK_SIZE})
        engines[1].run(prompt(1, 12))
        self.conductor.wait_applied(key("b"), engines[1].publisher)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 12)), {"b": 12 * BLOCK_SIZE})

    def test_one_rank_of_an_instance_may_leave(self):
        for rank in (0, 1):
            engine = self.engine("a", rank=rank)
            engine.run(prompt(1, 4 + 2 * rank))
            self.conductor.register(engine.publisher, "a", rank=rank)
            self.conductor.wait_applied(key("a", rank), engine.publisher)
        self.assert_answers(self.conductor, self.model, prompt(1, 8))
        self.conductor.unregister("a", rank=1)
        self.model.clear("a", 1)
        self.assert_answers(self.conductor, self.model, prompt(1, 8))

    def test_coming_back_brings_everything_back_by_replay(self):
        engine = self.engine("a")
        for _ in range(3):
            for length in (3, 6, 9):
                engine.run(prompt(1, length))
            self.conductor.register(engine.publisher, "a")
            self.conductor.wait_applied(key("a"), engine.publisher)
            self.assert_answers(self.conductor, self.model, prompt(1, 9))
            self.conductor.unregister("a")

    def test_same_registration_again_changes_nothing(self):
        engine = self.engine("a")
        engine.run(prompt(1, 4))
        self.conductor.register(engine.publisher, "a")
        self.conductor.wait_applied(key("a"), engine.publisher)
        asked = self.conductor.publisher(key("a"))["counters"]["replays"]
        self.conductor.register(engine.publisher, "a")
        self.assertEqual(len(self.conductor.services()), 1)
        self.assert_answers(self.conductor, self.model, prompt(1, 4))
        # Probes, which fall where they like, are not among these.
        self.assertEqual(self.conductor.publisher(key("a"))["counters"]["replays"], asked)

    def test_conflicts_are_refused_with_a_reason(self):
        first, second = self.publisher(), self.publisher()
        self.conductor.register(first, "a")
        good = {"endpoint": first.endpoint, "replay_endpoint": first.replay_endpoint,
                "type": "vLLM", "modelname": MODEL, "instance_id": "a",
                "block_size": BLOCK_SIZE, "dp_rank": 0}
        for change in ({"endpoint": second.endpoint},       # the same key elsewhere
                       {"modelname": "another"},            # the same key, another model
                       {"instance_id": "b"}):               # another key, the same endpoint
            with self.subTest(change=change):
                answer = self.conductor.post("/register", {**good, **change})
                self.assertEqual(answer.status, 400)
                self.assertIn("error", answer.json)
                self.assertIn("reason", answer.json)
        self.assertEqual(len(self.conductor.services()), 1)

    def test_bad_registrations_are_refused_and_the_field_named(self):
        good = {"endpoint": "tcp://127.0.0.1:9", "type": "vLLM", "modelname": MODEL,
                "instance_id": "a", "block_size": BLOCK_SIZE, "dp_rank": 0}
        for field, value in [("endpoint", ""), ("endpoint", "nonsense"), ("type", "Other"),
                             ("modelname", ""), ("instance_id", ""), ("instance_id", "a|b"),
                             ("block_size", -16), ("dp_rank", -1), ("block_size", "16")]:
            with self.subTest(field=field, value=value):
                answer = self.conductor.post("/register", {**good, field: value})
                self.assertIn(answer.status, (400, 500))
                self.assertTrue(answer.json["error"])
                self.assertEqual(answer.json.get("field"), field)
        self.assertEqual(self.conductor.services(), [])

    def test_unknown_publisher_cannot_be_unregistered(self):
        answer = self.conductor.post("/unregister", {"instance_id": "nobody", "dp_rank": 0})
        self.assertEqual(answer.status, 404)
        self.assertIn("nobody", answer.json["error"])

    def test_malformed_bodies_are_refused(self):
        for path in ("/register", "/unregister"):
            for body in ("", "{", "[]", '"text"', "null"):
                with self.subTest(path=path, body=body):
                    answer = self.conductor.post(path, body)
                    self.assertEqual(answer.status, 400)
                    self.assertIn("error", answer.json)

    def test_many_come_and_go_while_one_is_asked_for(self):
        steady = self.engine("steady")
        steady.run(prompt(1, 8))
        self.conductor.register(steady.publisher, "steady")
        self.conductor.wait_applied(key("steady"), steady.publisher)
        guests = [self.publisher() for _ in range(6)]
        for _ in range(5):
            for index, guest in enumerate(guests):
                self.conductor.register(guest, f"guest-{index}")
            self.assertEqual(self.conductor.longest(MODEL, prompt(1, 8)),
                             {"steady": 8 * BLOCK_SIZE})
            for index in range(len(guests)):
                self.conductor.unregister(f"guest-{index}")
        steady.run(prompt(1, 10))
        self.conductor.wait_applied(key("steady"), steady.publisher)
        self.assert_answers(self.conductor, self.model, prompt(1, 10))

    def test_tenants_are_apart(self):
        engine = self.engine("a")
        engine.run(prompt(1, 4))
        identity = self.conductor.register(engine.publisher, "a", tenant_id="team-a")
        self.conductor.wait_applied(identity, engine.publisher)
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 4), tenant_id="team-a"),
                         {"a": 4 * BLOCK_SIZE})
        self.assertEqual(self.conductor.longest(MODEL, prompt(1, 4)), {})


if __name__ == "__main__":
    unittest.main()
