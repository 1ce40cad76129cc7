"""Answers of the server and docs/openapi.json, each held against the other: every answer is as the
file says, and all that the file says was shown by an answer."""

import base64
import fnmatch
import functools
import json
import os
import struct
import tempfile
import unittest

import events
from daemon import key, wait_until
from hashes import VllmChain
from master import vllm_key
from openapi import JSON, MSGPACK, Shown
from openapi_client import API, Client, bytes_of
from publisher import free_ports
from suite import EndToEndTest

READER, ADMIN = "reader-0123456789abcdef", "admin-0123456789abcdef"
BLOCK = 2  # tokens
SALT = "alice"

# What the file says and this test does not show, and why.
NOT_SHOWN = {
    "/components/schemas/ExplainCause = *":
        "each is a fault of its own: tests/serve/explain_test.cc plants them",
    "/components/schemas/Removal/properties/how = *": "the same",
    "/components/schemas/TrustReason = shared_endpoint": "tests/e2e/test_operators.py shows it",
    "/components/schemas/TrustReason = not_zmtp": "told late: tests/stream/transport_test.cc",
    "/components/schemas/TrustReason = unconfirmed": "only after a restart from a snapshot",
    "/components/schemas/RebuildEvent/properties/phase = abandoned":
        "a replay must break off in its middle: tests/serve/event_stream_test.cc",
    "/components/schemas/QueueFull/properties/last_sequence is null":
        "another's frames must be in the queue at that moment",
    "/paths/~1readyz/*/properties/reason = not_ready": "over before anybody can ask",
    "*/properties/reason = internal_error": "a defect",
    "*/properties/reason = stopping": "the daemon is gone within a moment",
}


def engine(instance, **more):
    """A registration of what is handed in."""
    return {"instance_id": instance, "modelname": "demo", "block_size": BLOCK, **more}


def stored(sequence, first, blocks=2, **more):
    """Blocks of a prompt that begins with the token `first`."""
    return {"sequence": sequence, "type": "stored", "medium": "GPU", "block_size": BLOCK,
            "block_hashes": [first * 100 + block for block in range(blocks)],
            "token_ids": tokens(first, blocks), **more}


def removed(sequence, *hashes, **more):
    return {"sequence": sequence, "type": "removed", "block_hashes": list(hashes), "medium": "GPU",
            **more}


def tokens(first, blocks=2):
    return [first + index for index in range(blocks * BLOCK)]


def packed(token_ids):
    """Their bytes, as JSON has them."""
    return base64.b64encode(struct.pack(f"<{len(token_ids)}I", *token_ids)).decode()


class Answers(EndToEndTest):
    def test_are_as_the_file_says_and_show_all_that_it_says(self):
        self.shown = Shown(API)
        first = free_ports(100)
        self.ports = iter(range(first, first + 100, 2))
        self.of_a_fleet()
        self.of_pools()
        self.of_engines_over_zeromq()
        self.of_bad_bodies()
        self.of_publishers_that_are_refused()
        self.to_whatever_is_no_request()
        self.with_tokens()
        self.at_limits()
        missing = self.shown.missing()
        for pattern, why in NOT_SHOWN.items():
            excused = fnmatch.filter(missing, pattern)
            self.assertTrue(excused, f"{pattern} was shown, or is not in the file ({why})")
            missing = [what for what in missing if what not in excused]
        self.assertEqual(missing, [], "the file says what no answer had")

    def client(self, *flags, **more):
        return Client(self, self.daemon(*flags, **more), self.shown)

    def ingest(self, client, registration, *happened, run="run-1", expect=200, **more):
        return client.ask("POST", "/v1/ingest", {
            "publisher": registration, "incarnation": run, "events": list(happened),
            "wait": "applied", **more}, expect)

    def absent(self, instance, **more):
        """A registration of an engine that nobody runs."""
        return {"endpoint": f"tcp://127.0.0.1:{next(self.ports)}", "modelname": "demo",
                "instance_id": instance, "block_size": BLOCK, **more}

    # What routers and people ask of a fleet.

    def of_a_fleet(self):
        client = self.client()
        stream = client.follow()
        for route in ("/healthz", "/readyz", "/metrics"):
            client.ask("GET", route)
        self.fill(client)
        self.query(client)
        self.score(client)
        self.explain(client)
        self.inventory(client)
        self.manage(client)
        client.judge_events(stream)

    def fill(self, client):
        ingest = functools.partial(self.ingest, client)
        ingest(engine("a", bytes_per_block=1000),
               stored(0, 10, 4, timestamp=1e9), stored(1, 10, 3, medium="CPU"),
               stored(2, 20, 2, cache_salt=SALT, group_idx=0),
               stored(3, 30, 1), stored(4, 40, 1, block_hashes=[4000], parent_block_hash=3000),
               removed(5, 1003, timestamp=1.7e9, group_idx=0), removed(6, 9, medium="floppy"),
               removed(7, 1001, medium="CPU"))
        ingest(engine("b"), stored(0, 10, 4), stored(1, 30, 1, medium="DISK"),
               stored(2, 50, 1, medium="floppy"), stored(3, 30, 1, medium=None))
        ingest(engine("cleared"), stored(0, 10, 2),
               {"sequence": 1, "type": "cleared", "medium": "GPU"},
               {"sequence": 2, "type": "cleared"})
        # Met late; and with a hole.
        ingest(engine("late"), stored(5, 10, 1))
        ingest(engine("doubted"), stored(0, 10, 1), stored(2, 30, 1))
        ingest(engine("wide", block_size=4, modelname="wide"),
               stored(0, 10, 2, block_size=4, token_ids=tokens(10, 4)))
        ingest(engine("wider", block_size=8, modelname="wide"))
        ingest(engine("adapter"), stored(0, 10, 1, lora_name="sql"))
        ingest(engine("unsized", block_size=0, modelname="unsized"))
        ingest(engine("removed", hash_profile={"algorithm": "sha256", "hash_block_size": 2}),
               stored(0, 10, 2), removed(1, 1001, medium=None))
        ingest(engine("profile", hash_profile={"algorithm": "sha256_cbor", "python_hash_seed": "0"},
                      ttl={"gpu": "1h", "cpu": "10m", "disk": "1h"}, copies="set"))
        ingest(engine("odd-time"), stored(0, 10, 1), removed(1, 1000, timestamp=1e300))
        no_event = b"\x93\xcb" + b"\0" * 8 + b"\x91\x2a\xc0"  # [0.0, [42], nil]
        frame = {"sequence": 0, "payload": base64.b64encode(no_event).decode()}
        client.ask("POST", "/v1/ingest", {"publisher": engine("unreadable"), "incarnation": "run-1",
                                          "frames": [frame], "wait": "applied"})
        client.ask("POST", "/v1/ingest", {"publisher": key("a"), "incarnation": "run-1",
                                          "events": []})
        client.ask("POST", "/v1/publishers", self.absent("absent"), 201, again=200)
        client.daemon.wait_for(key("absent"), state="connecting", reason="unreachable")

    def query(self, client):
        def ask(**more):
            return client.ask("POST", "/v1/query", {"model": "demo", **more})
        for name, body in API.examples("POST", "/v1/query").items():
            with self.subTest(example=name):
                client.ask("POST", "/v1/query", body)
        found = ask(token_ids=tokens(10, 4), instances=["a", "late", "doubted", "absent", "nobody"])
        self.assertEqual(found["unknown_instances"], ["nobody"])
        for entry in found["instances"]:
            self.assertEqual(entry["gpu"], {"a": 6, "late": 2, "doubted": 2, "absent": 0}
                             [entry["instance_id"]])
        for reason, body in (("unknown_model", {"model": "dem"}),
                             ("unknown_tenant", {"tenant_id": "defaul"}),
                             ("unknown_block_size", {"block_size": 3}),
                             ("several_block_sizes", {"model": "wide", "extra_keys": [["image"]]})):
            answer = ask(**{"token_ids": tokens(10, 4), **body})
            self.assertEqual(answer["reason"], reason)
            self.assertTrue(answer["reason_detail"])
        self.assertIsNone(ask(model="unsized", prefix_hashes=[1], instances=["unsized"])
                          ["prompt_tokens"])
        for _ in range(40):
            ask(token_ids=tokens(10, 4))

    def score(self, client):
        def ask(**more):
            return client.ask("POST", "/v1/score", {"model": "demo", **more})
        for name, body in API.examples("POST", "/v1/score").items():
            with self.subTest(example=name):
                client.ask("POST", "/v1/score", body)
        best = ask(token_ids=tokens(10, 4), load={"b": {"waiting": 5, "kv_use": 1},
                                                  "a": {"waiting": 0, "kv_use": 0.1}},
                   instances=["a", "b", "nobody", "doubted", "late", "absent"])
        self.assertEqual(best["ranking"][0]["instance_id"], "a")
        for body in ({"model": "dem"}, {"tenant_id": "none"}, {"block_size": 3}):
            ask(**{"token_ids": tokens(10, 4), **body})
        ask(model="wide", token_ids=tokens(10, 4), extra_keys=[["image"]])
        ask(model="unsized", prefix_hashes=[1])

    def explain(self, client):
        def ask(instance, first=10, blocks=4, **more):
            return client.ask("POST", "/v1/explain", {
                "model": "demo", "instance_id": instance, "token_ids": tokens(first, blocks),
                **more})
        for name, body in API.examples("POST", "/v1/explain").items():
            with self.subTest(example=name):
                client.ask("POST", "/v1/explain", body)
        told = ask("a")
        self.assertEqual((told["cause"], told["removal"]["sequence"]), ("removed", 5))
        self.assertEqual([at["instance_id"] for at in told["ranks"][0]["breaks"][0]["held_by"]],
                         ["b"])
        for instance in ("b", "cleared", "late", "doubted", "adapter", "absent", "unreadable",
                         "removed", "odd-time", "nobody"):
            ask(instance)
        ask("b", block_size=16)
        ask("b", cache_salt=SALT)
        ask("b", tenant_id="none")
        ask("a", first=20, lora_name="sql")
        ask("adapter", lora_name="sql", blocks=1)
        ask("wide", model="demo")
        client.ask("POST", "/v1/publishers/{id}/clear", name=key("doubted"))
        ask("doubted")

    def inventory(self, client):
        spaces = client.ask("GET", "/v1/namespaces")
        self.assertEqual(spaces["count"], len(spaces["namespaces"]))
        held = client.ask("GET", "/v1/instances/{id}", name="a")
        self.assertEqual(held["bytes"]["gpu"], held["blocks"]["gpu"] * 1000)
        self.assertTrue(held["hottest"])
        for name in ("b", "absent", "late", "doubted", "unsized"):
            self.assertIsNone(client.ask("GET", "/v1/instances/{id}", name=name)["bytes"])
        client.ask("GET", "/v1/instances/{id}", expect=404, name="nobody")

    def manage(self, client):
        """Every kind of registration, and what is done with publishers."""
        route, one = "/v1/publishers", "/v1/publishers/{id}"
        for kind in API.at("/components/schemas/Publisher/properties/type")[1]["enum"]:
            client.ask("POST", route, self.absent(f"a-{kind}", type=kind), 201, again=200)
        for algorithm in ("sha256", "sha256_cbor", "xxhash", "xxhash_cbor"):
            profile = {"algorithm": algorithm, "python_hash_seed": "0"}
            client.ask("POST", route, self.absent(algorithm, hash_profile=profile), 201, again=200)
        bound = self.absent("bound", mode="bind", topic="kv@", lora_name="sql", peer="127.0.0.1",
                            additionalsalt="blue", replay_endpoint="")
        client.ask("POST", route, bound, 201, again=200)
        client.ask("POST", route, self.absent("ranks", dp_size=2), 201, again=200)
        client.ask("GET", route)
        for registered in client.daemon.publishers():
            client.ask("GET", one, name=registered["id"])
        there = self.absent("moving")
        client.send("PUT", one, there, expect=201, name=key("moving"))
        client.send("PUT", one, self.absent("moving-2"), MSGPACK, 201, name=key("moving-2"))
        client.ask("PUT", one, self.absent("moving"), name=key("moving"))
        taken = client.daemon.publisher(key("moving-2"))["endpoint"]
        client.ask("PUT", one, self.absent("moving", endpoint=taken), 409, name=key("moving"))
        client.ask("PUT", one, {}, 400, name=key("moving"))
        client.ask("POST", route, self.absent("moving"), 409)
        for verb in ("resync", "clear"):
            client.ask("POST", f"{one}/{verb}", name=key("moving"))
            client.ask("POST", f"{one}/{verb}", expect=404, name=key("nobody"))
        client.ask("DELETE", one, expect=204, name=key("moving"))
        client.ask("DELETE", one, expect=404, name=key("moving"))
        client.ask("GET", one, expect=404, name=key("moving"))
        # What is handed in, is of one life, of one that nobody listens to.
        self.ingest(client, key("nobody"), expect=404)
        self.ingest(client, self.absent("absent"), expect=400)
        self.ingest(client, engine("absent"), expect=409)
        client.ask("POST", "/v1/ingest", {"publisher": engine("b"), "incarnation": "run-2",
                                          "events": [stored(0, 10, 1)]})
        self.ingest(client, engine("b"), expect=409)

    # Pools.

    def of_pools(self):
        client = self.client()
        stream = client.follow()
        self.ingest(client, engine("a"), stored(0, 10, 4))
        pool = {"instance_id": "pool", "modelname": "demo", "type": "Mooncake"}

        def put(sequence, kind="stored", of=1000, model="demo", **more):
            return {"sequence": sequence, "type": kind, "medium": "cpu", "event_id": sequence,
                    "object_key": vllm_key(events.digest(of), model), **more}
        self.ingest(client, {**pool, "tp_size": 1, "kv_heads": 1, "pp_size": 1, "layers": 1,
                             "key_models": {"Demo": "demo"}, "pool_lookup": "continue"},
                    put(1), put(2, of=1001, medium="disk"), put(3, of=1002, medium="floppy"),
                    put(4, of=1003, medium=None), put(5, "removed", of=1003, medium=None),
                    put(6, "removed", of=1002), put(7, of=5, model="foreign"),
                    {"sequence": 8, "type": "cleared", "medium": "floppy"})
        self.ingest(client, {**pool, "instance_id": "pool-2"}, put(1), put(2, of=1001))
        # A key list that nobody gives; and parts that are missing.
        client.ask("POST", "/v1/publishers", {
            **pool, "instance_id": "pool-3", "endpoint": f"tcp://127.0.0.1:{next(self.ports)}",
            "admin_endpoint": "127.0.0.1:1"}, 201, again=200)
        self.ingest(client, {**pool, "instance_id": "pool-4", "tp_size": 2, "pp_size": 1},
                    put(1), put(2, of=1001))
        self.ingest(client, {**pool, "instance_id": "pool-5", "tp_size": 1, "pp_size": 1,
                             "hash_profile": {"algorithm": "sha256"}}, put(1, of=77))
        # Nobody announced what these hold, and their profiles do not find it.
        digests = [VllmChain("sha256_cbor", "0").root]
        for block in range(2):
            digests.append(VllmChain("sha256_cbor", "0").next(
                digests[-1], tokens(70)[block * BLOCK:(block + 1) * BLOCK]))
        for name, profile in (("pool-6", {"algorithm": "sha256"}),
                              ("pool-7", {"algorithm": "sha256_cbor", "hash_block_size": 1})):
            self.ingest(client, {**pool, "instance_id": name, "tp_size": 1, "pp_size": 1,
                                 "hash_profile": {**profile, "python_hash_seed": "0"}},
                        {**put(1), "object_key": vllm_key(digests[1], "demo")})
        client.ask("GET", "/v1/publishers")
        for first in (10, 60, 70):
            client.ask("POST", "/v1/explain", {"model": "demo", "instance_id": "a",
                                               "token_ids": tokens(first, 5)})
        client.judge_events(stream)

    # Engines that are listened to.

    def of_engines_over_zeromq(self):
        client = self.client("--probe-interval", "100ms", "--replay-timeout", "300ms")
        stream = client.follow()
        source = self.publisher()
        source.publish(events.Stored([1, 2], None, tokens(10), BLOCK, medium="GPU"))
        source.publish(events.Stored([3], 2, tokens(20, 1), BLOCK, medium=None))
        client.daemon.register(source, "a", "demo", BLOCK)
        client.daemon.wait_applied(key("a"), source)
        source.publish(events.Cleared())
        client.daemon.wait_applied(key("a"), source)
        stream.wait_for(lambda event: event["type"] == "cleared", "a clear is told")
        client.judge_events(stream)

        def shown(state, reason=""):
            client.daemon.wait_for(key("a"), state=state, reason=reason)
            for route in ("/v1/query", "/v1/score"):
                client.ask("POST", route, {"model": "demo", "token_ids": tokens(10)})
            client.ask("POST", "/v1/explain", {"model": "demo", "token_ids": tokens(10),
                                               "instance_id": "a"})
            client.ask("GET", "/v1/publishers/{id}", name=key("a"))
            client.ask("GET", "/v1/instances/{id}", name="a")
        shown("live")
        source.stop_replay()
        shown("stale", "no_answer")
        source.die()
        shown("stale", "unreachable")
        client.judge_events(stream)

    # What is refused.

    def of_bad_bodies(self):
        client = self.client()
        prompt = {"model": "demo", "token_ids": [1]}
        publisher = self.absent("a")
        handed_in = {"publisher": engine("a"), "incarnation": "run-1", "events": []}
        for route, body in (("/v1/query", prompt), ("/v1/score", prompt),
                            ("/v1/explain", {**prompt, "instance_id": "a"}),
                            ("/v1/publishers", publisher), ("/v1/ingest", handed_in)):
            twice = json.dumps(body)[:-1] + ", " + json.dumps(body)[1:]
            packed = bytes_of("POST", route, body, MSGPACK)
            packed_twice = bytes([packed[0] + len(body)]) + 2 * packed[1:]
            for form in (JSON, MSGPACK):
                for accept in (JSON, MSGPACK):
                    client.send("POST", route, b"\xc1", form, 400, accept=accept)
                client.send("POST", route, twice.encode() if form == JSON else packed_twice, form,
                            400)
            for more in ({}, {"unknown": 1}):
                client.ask("POST", route, more, 400)
        for more in ({"token_ids": 7}, {"token_ids": [-1]}, {"token_ids": [1, "x"]},
                     {"instances": ["x"] * 5000}, {"instances": []}, {"top": 0}, {"lora_name": 7}):
            for route in ("/v1/query", "/v1/score"):
                answer = client.ask("POST", route, {**prompt, **more}, 400)
                self.assertEqual(answer["field"], next(iter(more)))
        for more in ({"cache_group": 3}, {"dp_rank": -1}, {"mode": "shout"}, {"topic": 7},
                     {"endpoint": "tcp://*:5557"}, {"more": {str(i): 1 for i in range(20000)}}):
            client.ask("POST", "/v1/publishers", {**publisher, **more}, 400)
        client.ask("POST", "/v1/ingest", {**handed_in, "events": 7}, 400)

    def of_publishers_that_are_refused(self):
        client = self.client("--max-publishers", "1")
        client.ask("POST", "/v1/publishers", self.absent("a"), 201, again=200)
        client.ask("POST", "/v1/publishers", self.absent("b"), 503)
        client.ask("PUT", "/v1/publishers/{id}", self.absent("b"), 503, name=key("b"))
        self.ingest(client, engine("b"), expect=503)

    def to_whatever_is_no_request(self):
        client = self.client("--http-max-body", "64k", "--event-readers", "0")
        client.ask("GET", "/v1/events", expect=503)
        client.ask("GET", "/v1/events", expect=400, query="?tier=floppy")
        client.ask("GET", "/v1/events", expect=400, query="?colour=red")
        for method, route, _ in API.operations():
            client.raw(method, route, ["Expect: a miracle"])
            client.raw(method, route, ["Content-Length: many"])
        refused = (["Content-Length: 70000"],
                   ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 2"],
                   ["Content-Encoding: gzip", "Content-Length: 2"],
                   ["Transfer-Encoding: gzip"], [f"X-Long: {'x' * 70000}"])
        for head in refused:
            client.raw("POST", "/v1/query", head, body=b"{}")
        client.raw("POST", "/v1/query", version="HTTP/2.0")
        client = self.client("--http-request-timeout", "500ms")
        client.raw("POST", "/v1/query", end=b"")  # and no more of it comes

    def with_tokens(self):
        with tempfile.NamedTemporaryFile("w", prefix="conductor-e2e-") as file:
            file.write(f"read {READER}\nadmin {ADMIN}\n")
            file.flush()
            client = self.client("--auth-token-file", file.name)
        for method, route, operation in API.operations():
            asked = {scheme for choice in operation["security"] for scheme in choice}
            if asked:
                client.send(method, route, expect=401, name="x")
                client.send(method, route, expect=401, name="x", token="none-0123456789abcdef")
            if "readToken" not in asked and asked:
                client.send(method, route, expect=403, name="x", token=READER)
        for token in (READER, ADMIN):
            client.send("GET", "/v1/publishers", token=token)
        client.send("POST", "/v1/publishers", self.absent("a"), expect=201, token=ADMIN)

    def at_limits(self):
        self.with_a_snapshot()
        self.with_a_full_queue()
        self.with_little_memory()
        self.with_a_slow_reader()
        self.with_no_time()
        self.with_others_in_the_way()

    def with_a_snapshot(self):
        with tempfile.TemporaryDirectory(prefix="conductor-e2e-") as directory:
            client = self.client("--state", os.path.join(directory, "state.db"))
            client.ask("POST", "/v1/publishers", self.absent("never"), 201, again=200)
            self.ingest(client, engine("a"), stored(0, 10))
            saved = client.ask("POST", "/v1/snapshot")
            self.assertEqual([publisher["cursor"] for publisher in saved["publishers"]], [0, None])
        self.client().ask("POST", "/v1/snapshot", expect=409)
        # Nobody can create a file there.
        client = self.client("--state", "/proc/self/state.db")
        client.ask("POST", "/v1/snapshot", expect=500)

    def with_a_full_queue(self):
        client = self.client("--max-pending-bytes", "4k")
        payloads = [b"\xc0" * size for size in (100, 100, 100000)]
        client.ask("POST", "/v1/ingest", {
            "publisher": engine("a"), "incarnation": "run-1",
            "frames": [{"sequence": sequence, "payload": base64.b64encode(payload).decode()}
                       for sequence, payload in enumerate(payloads)]}, 429)

    def with_little_memory(self):
        client = self.client("--memory-limit", "1m")
        prompts = [10000 * number for number in range(1, 61)]
        client.send("POST", "/v1/ingest", {
            "publisher": engine("a"), "incarnation": "run-1",
            "events": [stored(sequence, first, 1000) for sequence, first in enumerate(prompts)]})
        client.daemon.wait_for(key("a"), state="degraded", reason="incomplete")
        causes = [client.send("POST", "/v1/explain", {
            "model": "demo", "instance_id": "a", "token_ids": packed(tokens(first, 1000))})["cause"]
            for first in prompts]
        self.assertIn("trimmed", causes)

    def with_a_slow_reader(self):
        client = self.client("--event-queue", "1k")
        stream = client.follow()
        self.ingest(client, engine("a"), stored(0, 1000, 200))
        self.ingest(client, engine("b"), stored(0, 10))
        stream.wait_for(lambda event: event["type"] == "lost", "a loss is told")
        client.judge_events(stream)

    def with_no_time(self):
        client = self.client("--query-timeout", "1us")
        client.send("POST", "/v1/ingest", {
            "publisher": engine("a"), "incarnation": "run-1", "wait": "applied",
            "events": [stored(0, 1000, 20000)]})
        prompt = {"model": "demo", "token_ids": packed(tokens(1000, 20000))}
        for route, more in (("/v1/query", {}), ("/v1/score", {}),
                            ("/v1/explain", {"instance_id": "a"})):
            client.ask("POST", route, {**prompt, **more}, 503)

    def with_others_in_the_way(self):
        client = self.client("--http-max-body", "64k", "--http-max-inflight", "64k")
        with client.connect() as other:
            other.sendall(b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" +
                          b" " * 50000)
            body = b" " * 40000
            wait_until(lambda: client.daemon.metrics()["conductor_http_body_bytes"] >= 50000,
                       "the other's body")
            for method, route, _ in API.operations():
                client.raw(method, route, ["Content-Length: 40000"], body=body)
        client = self.client("--http-max-connections", "1")
        client.ask("GET", "/healthz")  # and stays
        for method, route, _ in API.operations():
            client.raw(method, route)


if __name__ == "__main__":
    unittest.main()
