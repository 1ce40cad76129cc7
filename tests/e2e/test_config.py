"""The configuration file: every generation's loads as it is, and a broken one says where."""

import unittest

import daemon as process
from daemon import key, wait_until
from engine import Engine
from model import Model
from publisher import free_ports
from strangers import Stranger
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt


class FilesOfEveryGeneration(EndToEndTest):
    def fill(self, publisher, instance, blocks=5):
        model = Model(BLOCK_SIZE)
        Engine(model, publisher, instance).run(prompt("config", blocks))
        return model

    def test_first_document_with_ip_port_and_no_block_size(self):
        publisher = self.publisher()
        master = Stranger()
        self.addCleanup(master.close)
        daemon = self.daemon("--log-level", "INFO", config={
            "kvevent_instance": {
                "vllm-1": {"ip": "127.0.0.1", "port": publisher.live_port, "type": "vLLM",
                           "modelname": MODEL, "lora_id": -1},
                "mooncake": {"ip": "127.0.0.1", "port": master.port, "type": "Mooncake",
                             "modelname": MODEL, "lora_id": -1},
            },
            "http_server_port": 13333,
        })
        service = {entry["InstanceID"]: entry for entry in daemon.services()}
        self.assertEqual(set(service), {"vllm-1", "mooncake"})
        self.assertEqual(service["vllm-1"]["Endpoint"], publisher.endpoint)
        self.assertEqual(service["vllm-1"]["ReplayEndpoint"], publisher.replay_endpoint)
        self.assertEqual(service["mooncake"]["ReplayEndpoint"], "")
        self.assertFalse(service["vllm-1"]["BlockSize"], "nothing was stored yet")

        model = self.fill(publisher, "vllm-1")
        daemon.wait_applied(key("vllm-1"), publisher)
        # Learnt from the first stored event.
        service = {entry["InstanceID"]: entry for entry in daemon.services()}
        self.assertEqual(service["vllm-1"]["BlockSize"], BLOCK_SIZE)
        self.assert_answers(daemon, model, prompt("config", 6))
        # A pool is no instance that a router could pick.
        self.assertEqual(set(daemon.query(MODEL, prompt("config", 6))), {"vllm-1"})

    def test_peer_that_says_nothing_is_connecting_with_that_reason(self):
        self.check_stranger(Stranger())

    def test_peer_that_speaks_something_else_is_connecting_with_that_reason(self):
        self.check_stranger(Stranger(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    def check_stranger(self, master):
        self.addCleanup(master.close)
        daemon = self.daemon("--handshake-timeout", "500ms", config={"kvevent_instance": {
            "mooncake": {"ip": "127.0.0.1", "port": master.port, "type": "Mooncake",
                         "modelname": MODEL, "lora_id": -1}}})
        daemon.wait_for(key("mooncake"), state="connecting", reason="not_zmtp")
        # However often it is tried again, one line tells of it.
        tries = master.accepted
        wait_until(lambda: master.accepted >= tries + 2, "no further tries")
        daemon.wait_for(key("mooncake"), state="connecting", reason="not_zmtp")
        told = [line for line in daemon.log().splitlines()
                if f":{master.port}" in line and "ZeroMQ" in line]
        self.assertEqual(len(told), 1, daemon.log())

    def test_next_port_of_another_engine_is_not_its_replay(self):
        port = free_ports(2)
        entry = {"ip": "127.0.0.1", "type": "vLLM", "modelname": MODEL}
        daemon = self.daemon("--strict", config={"kvevent_instance": {
            "first": {**entry, "port": port},
            "second": {**entry, "port": port + 1}}})
        service = {entry["InstanceID"]: entry for entry in daemon.services()}
        self.assertEqual(service["first"]["ReplayEndpoint"], "")
        self.assertIn("kvevent_instance.first.port: replay is not asked for", daemon.log())

    def test_late_go_entry(self):
        publisher = self.publisher()
        daemon = self.daemon("--strict", config={
            "http_server_port": 13333,
            "kvevent_instance": {"vllm-1": {
                "endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
                "type": "vLLM", "modelname": MODEL, "lora_name": "", "tenant_id": "team-a",
                "instance_id": "vllm-1", "block_size": BLOCK_SIZE, "dp_rank": 1,
                "additionalsalt": ""}}})
        model = Model(BLOCK_SIZE)
        publisher.rank = 1
        Engine(model, publisher, "vllm-1", rank=1).run(prompt("config", 5))
        daemon.wait_applied(key("vllm-1", 1, "team-a"), publisher)
        self.assert_answers(daemon, model, prompt("config", 6), ask={"tenant_id": "team-a"})
        service, = daemon.services()
        self.assertEqual(
            {field: service[field] for field in
             ("Endpoint", "ReplayEndpoint", "Type", "ModelName", "LoraName", "TenantID",
              "InstanceID", "BlockSize", "DPRank", "AdditionalSalt")},
            {"Endpoint": publisher.endpoint, "ReplayEndpoint": publisher.replay_endpoint,
             "Type": "vLLM", "ModelName": MODEL, "LoraName": "", "TenantID": "team-a",
             "InstanceID": "vllm-1", "BlockSize": BLOCK_SIZE, "DPRank": 1, "AdditionalSalt": ""})

    def test_cpp_entry_with_a_hash_profile_and_no_instance_id(self):
        publisher = self.publisher()
        daemon = self.daemon("--strict", config={
            "http_server_port": 13333,
            "kvevent_instance": {"prefill-0": {
                "endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
                "type": "vLLM", "modelname": MODEL, "lora_name": "", "tenant_id": "default",
                "block_size": BLOCK_SIZE, "dp_rank": 0, "cache_group": None,
                "hash_profile": {"strategy": "vllm_v1", "algorithm": "sha256_cbor",
                                 "index_projection": "low64_be", "python_hash_seed": "0"}}}})
        model = self.fill(publisher, "prefill-0")
        daemon.wait_applied(key("prefill-0"), publisher)
        self.assert_answers(daemon, model, prompt("config", 6))

    def test_cpp_entry_may_name_its_instance(self):
        publishers = [self.publisher(), self.publisher()]
        daemon = self.daemon("--strict", config={"kvevent_instance": {
            f"entry-{rank}": {
                "endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint,
                "type": "vLLM", "modelname": MODEL, "instance_id": "engine",
                "block_size": BLOCK_SIZE, "dp_rank": rank}
            for rank, publisher in enumerate(publishers)}})
        model = Model(BLOCK_SIZE)
        for rank, publisher in enumerate(publishers):
            Engine(model, publisher, "engine", rank=rank).run(prompt("config", 3 + rank))
            daemon.wait_applied(key("engine", rank), publisher)
        self.assert_answers(daemon, model, prompt("config", 6))


class WhereTheFileIs(EndToEndTest):
    CONFIG = {"kvevent_instance": {"somebody": {
        "endpoint": "tcp://127.0.0.1:9", "type": "vLLM", "modelname": MODEL}}}

    def test_flag_environment_and_default_place(self):
        for where in ("flag", "environment", "home"):
            with self.subTest(where=where):
                daemon = self.daemon(config=self.CONFIG, where=where)
                self.assertEqual([entry["InstanceID"] for entry in daemon.services()],
                                 ["somebody"])
                daemon.stop()

    def test_without_any_file_it_serves_no_publisher(self):
        daemon = self.daemon()
        self.assertEqual(daemon.services(), [])

    def test_demo_says_that_it_does_not_read_the_file_of_the_environment(self):
        daemon = self.daemon("--demo", config=self.CONFIG, where="environment")
        self.assertNotIn("somebody", [entry["InstanceID"] for entry in daemon.services()])
        self.assertIn("CONDUCTOR_CONFIG_PATH: ", daemon.log())

    def test_null_at_the_top_is_like_absent(self):
        daemon = self.daemon("--strict", config={
            "http_server_port": None, "host": None, "kvevent_instance": None})
        self.assertEqual(daemon.services(), [])

    def test_port_of_the_file_is_used_without_the_flag(self):
        port = free_ports()
        daemon = self.daemon(config={"http_server_port": port}, port=None)
        self.assertEqual(daemon.port, port)

    def test_flag_wins_over_the_port_of_the_file(self):
        port, other = free_ports(), free_ports()
        daemon = self.daemon(config={"http_server_port": other}, port=port)
        self.assertEqual(daemon.port, port)


class BrokenFiles(EndToEndTest):
    GOOD = {"endpoint": "tcp://127.0.0.1:9", "type": "vLLM", "modelname": MODEL}

    # A field of an otherwise good entry, and the value that breaks it.
    BROKEN_FIELDS = [
        ("endpoint", "127.0.0.1:5557"), ("endpoint", 5557), ("endpoint", ""),
        ("replay_endpoint", "tcp://host:port"), ("type", "vllmm"), ("type", 1),
        ("modelname", ""), ("modelname", None), ("block_size", -1), ("block_size", "16"),
        ("block_size", 1.5), ("block_size", 2**40), ("dp_rank", -1), ("dp_rank", "0"),
        ("tenant_id", 5), ("lora_name", ["a"]), ("instance_id", "a|b"),
    ]

    def test_broken_entry_is_told_with_its_path_and_the_others_start(self):
        for field, value in self.BROKEN_FIELDS:
            config = {"kvevent_instance": {
                "good": self.GOOD,
                "broken": {**self.GOOD, "endpoint": "tcp://127.0.0.1:10", field: value}}}
            path = f"kvevent_instance.broken.{field}"
            with self.subTest(field=field, value=value, strict=False):
                daemon = self.daemon(config=config)
                self.assertEqual([entry["InstanceID"] for entry in daemon.services()], ["good"])
                self.assertIn(path, daemon.log())
                daemon.stop()
            with self.subTest(field=field, value=value, strict=True):
                ended = process.run_to_end("serve", "--strict", "--port", "0", config=config)
                self.assertEqual(ended.returncode, 1)
                self.assertIn(path, ended.stderr)
                self.assertNotIn("listening", ended.stdout)

    def test_entry_that_is_incomplete_or_no_object(self):
        for entry, path in [
                ({"type": "vLLM", "modelname": MODEL}, "kvevent_instance.broken"),
                ({"ip": "127.0.0.1", "type": "vLLM", "modelname": MODEL},
                 "kvevent_instance.broken.port"),
                ({"ip": "127.0.0.1", "port": 70000, "type": "vLLM", "modelname": MODEL},
                 "kvevent_instance.broken.port"),
                ({"endpoint": "tcp://127.0.0.1:10", "type": "vLLM"},
                 "kvevent_instance.broken.modelname"),
                ("tcp://127.0.0.1:10", "kvevent_instance.broken")]:
            with self.subTest(entry=entry):
                ended = process.run_to_end(
                    "serve", "--strict", "--port", "0",
                    config={"kvevent_instance": {"good": self.GOOD, "broken": entry}})
                self.assertEqual(ended.returncode, 1)
                self.assertIn(path, ended.stderr)

    def test_same_publisher_twice(self):
        config = {"kvevent_instance": {"one": self.GOOD, "two": self.GOOD}}
        ended = process.run_to_end("serve", "--strict", "--port", "0", config=config)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("kvevent_instance.two", ended.stderr)

    def test_file_that_is_no_json_object_is_fatal_and_named(self):
        for text in ("{", "[]", "null", '{"kvevent_instance": {}} trailing', "",
                     '{"http_server_port": "many"}', '{"http_server_port": 70000}',
                     '{"kvevent_instance": []}'):
            with self.subTest(text=text):
                ended = process.run_to_end("serve", "--port", "0", config=text)
                self.assertEqual(ended.returncode, 1, ended.stderr)
                self.assertIn("config.json", ended.stderr)

    def test_file_that_was_named_must_be_there(self):
        for more in ({"environment": {"CONDUCTOR_CONFIG_PATH": "/nowhere/config.json"}}, {}):
            arguments = [] if more else ["--config", "/nowhere/config.json"]
            ended = process.run_to_end("serve", "--port", "0", *arguments, **more)
            self.assertEqual(ended.returncode, 1, ended.stderr)
            self.assertIn("/nowhere/config.json", ended.stderr)

    def test_deeply_nested_file_is_refused(self):
        text = '{"kvevent_instance":' + "[" * 200000
        ended = process.run_to_end("serve", "--port", "0", config=text)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("config.json", ended.stderr)


if __name__ == "__main__":
    unittest.main()
