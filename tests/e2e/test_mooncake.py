"""Clients of each generation of the Mooncake Conductor, and of Dynamo's indexer, as they are: they
register engines, ask and unregister with what those generations send, and nothing of Conductor's."""

import http.client
import json
import struct
import unittest

import msgpack
import xxhash

from daemon import key
from engine import Engine
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

PROFILE = {"strategy": "vllm_v1", "algorithm": "sha256_cbor", "python_hash_seed": "0",
           "index_projection": "low64_be"}


class Client:
    """One kept-alive connection, as the generations' clients hold."""

    def __init__(self, conductor):
        self.connection = http.client.HTTPConnection(conductor.host, conductor.port, timeout=30)

    def request(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()


class MsgpackClient(Client):
    """The newest generation's, as its example proxy is: MessagePack and an Accept of anything."""

    HEADERS = {"Accept": "*/*"}

    def post(self, path, body):
        status, kind, answer = self.request(
            "POST", path, msgpack.packb(body),
            {**self.HEADERS, "Content-Type": "application/msgpack"})
        assert kind == "application/msgpack", kind
        return status, msgpack.unpackb(answer)

    def get(self, path):
        status, kind, answer = self.request("GET", path, headers=self.HEADERS)
        assert kind == "application/msgpack", kind
        return status, msgpack.unpackb(answer)


class JsonClient(Client):
    """The generations that speak JSON."""

    def post(self, path, body):
        status, kind, answer = self.request("POST", path, json.dumps(body),
                                            {"Content-Type": "application/json"})
        return status, json.loads(answer) if kind == "application/json" else answer.decode()

    def get(self, path):
        status, kind, answer = self.request("GET", path)
        return status, json.loads(answer) if kind == "application/json" else answer.decode()


class Generation(EndToEndTest):
    def begin(self, client, *flags):
        self.conductor = self.daemon(*flags)
        self.client = self.connect(client)
        self.model = Model(BLOCK_SIZE)
        self.engines = {}
        for index, name in enumerate(("a", "b")):
            publisher = self.publisher()
            engine = Engine(self.model, publisher, name)
            engine.run(prompt(1, 4 + 2 * index))
            self.engines[name] = publisher

    def connect(self, client):
        connected = client(self.conductor)
        self.addCleanup(connected.connection.close)
        return connected

    def registration(self, name, **more):
        publisher = self.engines[name]
        return {"endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
                "type": "vLLM", "modelname": MODEL, "instance_id": name,
                "block_size": BLOCK_SIZE, "dp_rank": 0, "lora_name": "", "tenant_id": "default",
                **more}

    def settle(self):
        for name, publisher in self.engines.items():
            self.conductor.wait_applied(key(name), publisher)

    def register_all(self, **more):
        for name in self.engines:
            status, answer = self.client.post("/register", self.registration(name, **more))
            self.assertEqual((status, answer), (200, {"status": "registered successfully",
                                                      "instance_id": name}))
        self.settle()

    def unregister_all(self, **more):
        for name in self.engines:
            body = {"instance_id": name, "tenant_id": "default", "dp_rank": 0, **more}
            self.assertEqual(self.client.post("/unregister", body), (200, {
                "status": "unregistered successfully", "removed_instances": [key(name)]}))
        self.assertEqual(self.client.get("/services")[1], {"count": 0, "services": []})

    @staticmethod
    def strict(tokens):
        """The figures of one rank that holds so many tokens on its device."""
        return {"longest_matched": tokens, "dp": {"0": tokens},
                "rank_matches": {"0": {"gpu": tokens, "cpu": tokens, "disk": tokens}},
                "gpu": tokens, "cpu": tokens, "disk": tokens}


class Strict:
    """What both C++ generations have in common."""

    def test_an_engine_is_registered_asked_for_and_unregistered(self):
        self.register_all(hash_profile=PROFILE)
        ask = {"model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8),
               "tenant_id": "default", "lora_name": ""}
        want = {"a": self.strict(64), "b": self.strict(96)}
        self.assertEqual(self.client.post("/query", ask), (200, {"instances": want}))
        self.assertEqual(self.client.post("/query", {**ask, "instance_id": "a"}),
                         (200, {"instances": {"a": want["a"]}}))
        for change in ({"cache_salt": "another"}, {"token_ids": prompt(2, 8)}):
            self.assertEqual(self.client.post("/query", {**ask, **change}), (200, {
                "instances": {"a": self.strict(0), "b": self.strict(0)}}))
        for change in ({"model": "another"}, {"block_size": 8}, {"tenant_id": "another"}):
            self.assertEqual(self.client.post("/query", {**ask, **change}),
                             (200, {"instances": {}}))

        view = self.client.get("/global_view")[1]
        self.assertEqual(view["context_count"], 1)
        context, = view["contexts"]
        self.assertEqual(context["instances"], {"a": [0], "b": [0]})
        self.assertEqual(context["prefix_count"], 6)
        self.assertEqual({name: context["hash_profile"][name] for name in PROFILE}, PROFILE)
        self.assertEqual(len(context["hash_profile"]["root_digest"]), 64)
        services = self.client.get("/services")[1]
        self.assertEqual(services["count"], 2)
        self.assertEqual([each["InstanceID"] for each in services["services"]], ["a", "b"])
        self.unregister_all()

    def test_a_conflict_is_told_in_upstreams_words(self):
        self.register_all()
        moved = self.registration("a", endpoint="tcp://127.0.0.1:1")
        self.assertEqual(self.client.post("/register", moved), (400, {
            "error": "conflicting registration for service key: a|default|0",
            "reason": "invalid_registration"}))
        twin = self.registration("a", instance_id="c")
        self.assertEqual(self.client.post("/register", twin), (400, {
            "error": "conflicting active registration for endpoint: " + twin["endpoint"],
            "reason": "invalid_registration"}))
        self.assertEqual(self.client.post("/register", self.registration("a", later=1)), (400, {
            "error": "unsupported request field: later", "reason": "unknown_field",
            "field": "later"}))

    def test_a_new_life_is_told_by_another_incarnation(self):
        self.register_all(incarnation="pod-1")
        self.client.post("/register", self.registration("a", incarnation="pod-2"))
        entry = self.conductor.wait_applied(key("a"), self.engines["a"])
        self.assertEqual(entry["incarnation"], "pod-2")
        self.assertEqual(entry["counters"]["lives"], 2)


class MsgpackGeneration(Strict, Generation):
    def setUp(self):
        self.begin(MsgpackClient, "--compat", "msgpack")

    def test_tokens_come_packed(self):
        self.register_all()
        tokens = prompt(1, 8)
        status, answer = self.client.post("/query", {
            "model": MODEL, "block_size": BLOCK_SIZE,
            "token_ids": struct.pack(f"<{len(tokens)}i", *tokens)})
        self.assertEqual(status, 200)
        self.assertEqual(answer["instances"]["b"], self.strict(96))

    def test_json_is_refused(self):
        status, kind, answer = self.client.request("POST", "/query", "{}",
                                                   {"Content-Type": "application/json"})
        self.assertEqual((status, kind), (400, "application/msgpack"))
        self.assertEqual(msgpack.unpackb(answer)["reason"], "unsupported_content_type")

    def test_other_methods_and_unknown_services_have_a_text_alone(self):
        self.assertEqual(self.client.get("/query"), (405, {"error": "Method not allowed"}))
        self.assertEqual(self.client.post("/unregister", {"instance_id": "x", "dp_rank": 0}),
                         (404, {"error": "service not found: x|default|0"}))


class CppJsonGeneration(Strict, Generation):
    def setUp(self):
        self.begin(JsonClient, "--compat", "cpp-json")

    def test_other_methods_and_unknown_services_are_plain_text(self):
        self.assertEqual(self.client.get("/query"), (405, "Method not allowed\n"))
        self.assertEqual(self.client.post("/unregister", {"instance_id": "x", "dp_rank": 0}),
                         (404, "service not found: x|default|0\n"))


class GoGeneration(Generation):
    def setUp(self):
        self.begin(JsonClient)

    def test_an_engine_is_registered_asked_for_and_unregistered(self):
        self.register_all(additionalsalt="")
        figures = {name: {"longest_matched": tokens, "GPU": tokens, "DP": {"0": tokens},
                          "CPU": tokens, "DISK": tokens} for name, tokens in (("a", 64), ("b", 96))}
        self.assertEqual(self.client.post("/query", {
            "model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8)}),
            (200, {"default": figures}))
        self.assertEqual(self.client.get("/global_view")[1]["context_count"], 2)
        self.unregister_all(type="vLLM", modelname=MODEL, lora_name="", block_size=BLOCK_SIZE)

    def test_a_client_of_the_newest_generation_is_served_beside_it(self):
        newest = self.connect(MsgpackClient)
        for name in self.engines:
            self.assertEqual(newest.post("/register", self.registration(name))[0], 200)
        self.settle()
        ask = {"model": MODEL, "block_size": BLOCK_SIZE, "token_ids": prompt(1, 8)}
        self.assertEqual(newest.post("/query", ask)[1]["instances"]["a"], self.strict(64))
        self.assertEqual(self.client.post("/query", ask)[1]["default"]["a"]["GPU"], 64)


class Hashes(Generation):
    """Prompts that clients hash themselves."""

    def setUp(self):
        self.begin(JsonClient)
        self.register_all()

    @staticmethod
    def blocks(tokens):
        """The hash of each block alone."""
        return [xxhash.xxh3_64_intdigest(struct.pack(f"<{BLOCK_SIZE}I", *tokens[at:at + BLOCK_SIZE]),
                                         seed=1337)
                for at in range(0, len(tokens), BLOCK_SIZE)]

    def prefixes(self, tokens):
        chain = []
        for block in self.blocks(tokens):
            chain.append(xxhash.xxh3_64_intdigest(struct.pack("<QQ", chain[-1], block), seed=1337)
                         if chain else block)
        return chain

    def test_prefix_hashes_find_what_their_tokens_find(self):
        tokens = prompt(1, 8)
        want = self.client.post("/query", {"model": MODEL, "block_size": BLOCK_SIZE,
                                           "token_ids": tokens})
        chain = self.prefixes(tokens)
        signed = [each - 2**64 if each >= 2**63 else each for each in chain]
        for hashes in (chain, signed, [str(each) for each in chain], [str(each) for each in signed]):
            for name in ("seq_hashes", "block_hash"):
                self.assertEqual(self.client.post("/query_by_hash", {"model": MODEL, name: hashes}),
                                 want)
        newest = self.connect(MsgpackClient)
        for hashes in (chain, signed):
            answer = newest.post("/query_by_hash", {"model": MODEL, "block_size": BLOCK_SIZE,
                                                    "seq_hashes": hashes})
            self.assertEqual(answer[1]["instances"]["b"], self.strict(96))

    def test_dynamos_clients_ask_by_tokens_and_by_hashes_of_blocks(self):
        want = {"scores": {"a": {"0": 64}, "b": {"0": 96}}, "frequencies": [2, 2, 2, 2, 1, 1],
                "instances": {name: {"longest_matched": figure, "gpu": figure, "dp": {"0": figure},
                                     "cpu": figure, "disk": figure}
                              for name, figure in (("a", 64), ("b", 96))}}
        tokens = prompt(1, 8)
        signed = [each - 2**64 if each >= 2**63 else each for each in self.blocks(tokens)]
        for path, body in (("/query", {"model_name": MODEL, "token_ids": tokens}),
                           ("/query_by_hash", {"model_name": MODEL, "block_hashes": signed})):
            status, _, answer = self.client.request("POST", path, json.dumps(body), {
                "Content-Type": "application/json", "X-Conductor-Compat": "dynamo"})
            self.assertEqual((status, json.loads(answer)), (200, want))


if __name__ == "__main__":
    unittest.main()
