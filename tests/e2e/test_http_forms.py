"""The answers in the form of each generation of clients, asked as those clients ask."""

import http.client
import json
import unittest

from daemon import key
from engine import Engine
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt


class Fleet(EndToEndTest):
    def setUp(self):
        self.conductor = self.daemon()
        self.model = Model(BLOCK_SIZE)
        # Apart by address, for clients that know engines by theirs.
        self.hosts = {}
        for index, name in enumerate(("a", "b", "c")):
            host = f"127.0.0.{index + 1}"
            self.hosts[name] = host
            publisher = self.publisher(host=host)
            engine = Engine(self.model, publisher, name)
            if index < 2:
                engine.run(prompt(1, 4 + 2 * index))
                engine.run(prompt(2, 3 - index))
            self.conductor.register(publisher, name)
            self.conductor.wait_for(key(name))
            if index < 2:
                self.conductor.wait_applied(key(name), publisher)


class LateForm(Fleet):
    def test_query_answers_by_tenant_and_instance(self):
        answer = self.conductor.ok("POST", "/query", {
            "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8)})
        self.assertEqual(set(answer), {"default"})
        self.assertEqual(answer["default"]["a"], {
            "longest_matched": 64, "GPU": 64, "DP": {"0": 64}, "CPU": 64, "DISK": 64})
        self.assertEqual(answer["default"]["b"], {
            "longest_matched": 96, "GPU": 96, "DP": {"0": 96}, "CPU": 96, "DISK": 96})
        self.assertEqual(answer["default"]["c"]["longest_matched"], 0)

    def test_query_may_name_one_instance(self):
        ask = {"model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8)}
        answer = self.conductor.ok("POST", "/query", {**ask, "instance_id": "a"})
        self.assertEqual(set(answer["default"]), {"a"})
        self.assertEqual(answer["default"]["a"]["longest_matched"], 64)
        answer = self.conductor.ok("POST", "/query", {**ask, "instance_id": "nobody"})
        self.assertEqual(answer["default"]["nobody"]["longest_matched"], 0)

    def test_query_of_an_unknown_tenant_is_empty(self):
        answer = self.conductor.ok("POST", "/query", {
            "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8),
            "tenant_id": "nobody"})
        self.assertEqual(answer, {})

    def test_other_block_sizes_and_models_match_nothing(self):
        for change in ({"block_size": 8}, {"model": "another"}):
            answer = self.conductor.ok("POST", "/query", {
                "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8), **change})
            for figures in answer.get("default", {}).values():
                self.assertEqual(figures["longest_matched"], 0)

    def test_global_view_and_services_name_what_is_registered(self):
        view = self.conductor.ok("GET", "/global_view")
        self.assertIn(MODEL, json.dumps(view))
        services = self.conductor.ok("GET", "/services")
        self.assertEqual(services["count"], 3)
        self.assertEqual({entry["InstanceID"] for entry in services["services"]}, set("abc"))


class FirstForm(Fleet):
    def post_as_the_first_proxy(self, body):
        """No Content-Type but the client library's own, a connection for each request."""
        connection = http.client.HTTPConnection(self.conductor.host, self.conductor.port)
        try:
            connection.request("POST", "/cache", json.dumps(body).encode(),
                               {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            return json.loads(response.read())
        finally:
            connection.close()

    def test_cache_answers_percent_by_address(self):
        answer = self.post_as_the_first_proxy({
            "instances": list(self.hosts.values()), "token_ids": prompt(1, 8),
            "model_name": MODEL, "lora_id": -1})
        # 4 of 8 and 6 of 8 blocks; without a hit an address is absent.
        self.assertEqual(answer, {
            "HitStatus": {"127.0.0.1": 50, "127.0.0.2": 75}, "status": "ok"})

    def test_cache_counts_whole_blocks_of_the_prompt(self):
        for blocks in range(1, 9):
            tokens = prompt(1, blocks) + [1, 2, 3]
            answer = self.post_as_the_first_proxy({
                "instances": list(self.hosts.values()), "token_ids": tokens,
                "model_name": MODEL, "lora_id": -1})
            want = {}
            for name, host in self.hosts.items():
                longest = self.model.instance_figures(name, tokens).longest
                if longest:
                    want[host] = longest // BLOCK_SIZE * 100 // blocks
            self.assertEqual(answer["HitStatus"], want)

    def test_cache_asks_only_for_its_candidates(self):
        answer = self.post_as_the_first_proxy({
            "instances": ["127.0.0.2", "127.0.0.9"], "token_ids": prompt(1, 8),
            "model_name": MODEL, "lora_id": -1})
        self.assertEqual(answer["HitStatus"], {"127.0.0.2": 75})

    def test_cache_of_an_unknown_prompt_is_an_empty_map(self):
        answer = self.post_as_the_first_proxy({
            "instances": list(self.hosts.values()), "token_ids": prompt("nobody", 8),
            "model_name": MODEL, "lora_id": -1})
        self.assertEqual(answer, {"HitStatus": {}, "status": "ok"})
        answer = self.post_as_the_first_proxy({
            "instances": [], "token_ids": [], "model_name": MODEL, "lora_id": -1})
        self.assertEqual(answer, {"HitStatus": {}, "status": "ok"})

    def test_cache_of_the_middle_generation_names_the_adapter(self):
        answer = self.post_as_the_first_proxy({
            "instances": list(self.hosts.values()), "token_ids": prompt(1, 8),
            "model_name": MODEL, "lora_name": ""})
        self.assertEqual(answer["HitStatus"], {"127.0.0.1": 50, "127.0.0.2": 75})

    def test_cache_refuses_what_it_cannot_read(self):
        good = {"instances": ["127.0.0.1"], "token_ids": [1], "model_name": MODEL, "lora_id": -1}
        bodies = ["{", "[]"] + [
            {name: value for name, value in good.items() if name != left_out}
            for left_out in ("instances", "token_ids", "model_name")]
        bodies += [{**good, "instances": "127.0.0.1"}, {**good, "instances": [1]},
                   {**good, "token_ids": "1"}, {**good, "model_name": 1}, {**good, "lora_id": "x"}]
        for body in bodies:
            with self.subTest(body=body):
                answer = self.conductor.post("/cache", body)
                self.assertEqual(answer.status, 400)
                self.assertTrue(answer.json["error"])


class OwnForm(Fleet):
    def test_query_lists_every_instance_best_first(self):
        answer = self.conductor.ok("POST", "/v1/query",
                                   {"model": MODEL, "token_ids": prompt(1, 8)})
        self.assertEqual([entry["instance_id"] for entry in answer["instances"]], ["b", "a", "c"])
        self.assertEqual(answer["instances"][0]["longest_matched"], 96)
        self.assertEqual(answer["instances"][0]["ranks"], {"0": {"gpu": 96, "cpu": 96, "disk": 96}})
        self.assertEqual({entry["state"] for entry in answer["instances"]}, {"live"})

    def test_prompts_without_a_whole_block_match_nothing(self):
        for tokens in ([], prompt(1, 1)[:-1]):
            self.assertEqual(self.conductor.longest(MODEL, tokens), {})

    def test_longest_prompts_are_read(self):
        tokens = prompt(1, 8192)
        self.assertEqual(len(tokens), 131072)
        self.assertEqual(self.conductor.longest(MODEL, tokens), {"b": 96, "a": 64})

    def test_bad_queries_are_refused_and_the_field_named(self):
        good = {"model": MODEL, "token_ids": prompt(1, 1)}
        cases = [("model", 1), ("token_ids", "1 2"), ("token_ids", [1, "2"]),
                 ("token_ids", [1.5]), ("token_ids", [-1]), ("token_ids", [2**32]),
                 ("block_size", 0), ("block_size", "16"), ("lora_name", 1), ("cache_salt", [])]
        for field, value in cases:
            with self.subTest(field=field, value=value):
                answer = self.conductor.post("/v1/query", {**good, field: value})
                self.assertEqual(answer.status, 400)
                self.assertTrue(answer.json["error"])
                self.assertTrue(answer.json["reason"])
                self.assertEqual(answer.json["field"], field)
        for left_out in good:
            with self.subTest(left_out=left_out):
                answer = self.conductor.post(
                    "/v1/query", {name: good[name] for name in good if name != left_out})
                self.assertEqual((answer.status, answer.json["field"]), (400, left_out))
        for body in ("", "{", "[]", "nul", '{"model": "m", "token_ids": [1,]}',
                     "[" * 100000, '{"a":' * 100000):
            with self.subTest(body=body[:20]):
                answer = self.conductor.post("/v1/query", body)
                self.assertEqual(answer.status, 400)
                self.assertTrue(answer.json["error"])

    def test_wrong_methods_and_paths(self):
        for method, path, status in [
                ("GET", "/v1/query", 405), ("GET", "/query", 405), ("GET", "/cache", 405),
                ("GET", "/register", 405), ("POST", "/services", 405), ("POST", "/metrics", 405),
                ("GET", "/nowhere", 404), ("POST", "/v1/nowhere", 404)]:
            with self.subTest(method=method, path=path):
                answer = self.conductor.request(method, path, "{}" if method == "POST" else None)
                self.assertEqual(answer.status, status)
                self.assertTrue(answer.json["error"])


if __name__ == "__main__":
    unittest.main()
