"""The proxy and the conductor together: who holds a prompt is asked for it, and whatever goes wrong
on the way to know that, the client gets its answer."""

import json
import socket
import subprocess
import tempfile
import unittest

import daemon as process
from engine import Engine
from model import Model
from pd_engine import Fault, tokens_of
from proxy import MODEL, ProxyTest, route
from publisher import Publisher, free_ports

BLOCK = 16

# The client's request of the integration's own document.
CURL = """curl -s http://localhost:8000/v1/completions -H "Content-Type: application/json" -d '{
  "model": "Qwen/Qwen2.5-7B",
  "prompt": "What are the key architectural differences between vLLM and Mooncake when it comes to handling key-value (KV) cache events, and how can a centralized conductor component be designed in Go to normalize disparate event schemas from these systems, apply consistent metrics collection, and make dynamic scheduling decisions based on real-time KV cache hit rates without relying on Kubernetes-based autoscaling mechanisms?",
  "max_tokens": 1000
}'"""


def text(seed, words=70):
    return " ".join(f"{seed}-{number}" for number in range(words))


class Choosing(ProxyTest):
    def prefiller(self, host, instance=None, ranks=1, kind="prefill", connector="nixl", port=0):
        """An engine whose cache publishes what it prefills, on its own host."""
        engine = self.engine(kind, connector, host=host, port=port)
        engine.publishers = []
        caches = []
        model = Model(BLOCK)
        for rank in range(ranks):
            publisher = self.publisher(host=host, topic=b"kv-events", rank=rank)
            engine.publishers.append(publisher)
            caches.append(Engine(model, publisher, instance or host, rank=rank))
        engine.on_prompt = lambda tokens, rank: caches[rank].run(tokens)
        engine.caches = caches
        return engine

    def register(self, conductor, engine, instance, **more):
        for rank, publisher in enumerate(engine.publishers):
            conductor.register(publisher, instance, block_size=BLOCK, rank=rank, **more)

    def fleet(self, *arguments, hosts=("127.0.0.2", "127.0.0.3"), ranks=1, **more):
        """Prefillers on hosts of their own, registered; a decoder; the proxy, which knows them."""
        conductor = self.daemon()
        prefillers = [self.prefiller(host, ranks=ranks) for host in hosts]
        for number, engine in enumerate(prefillers):
            self.register(conductor, engine, f"engine-{number}")
        self.settle(conductor, prefillers)
        decode = self.engine("decode")
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{conductor.port}",
                           "--query-timeout", "5s", "--tokenize-timeout", "5s", *arguments,
                           prefill=prefillers, decode=[decode], **more)
        return conductor, proxy, prefillers, decode

    def settle(self, conductor, engines):
        """Until all that was published is applied and trusted."""
        wanted = {publisher.endpoint: publisher for engine in engines
                  for publisher in engine.publishers}

        def is_settled(entry):
            last = wanted[entry["endpoint"]].last_sequence
            return entry["state"] == "live" and entry["cursor"] == (last if last >= 0 else None)

        def check():
            entries = [entry for entry in conductor.publishers() if entry["endpoint"] in wanted]
            return len(entries) == len(wanted) and all(map(is_settled, entries))

        process.wait_until(check, lambda: f"all to be applied: {conductor.publishers()}")

    def assert_goes_to(self, proxy, prompt, engine, why="score"):
        answer = proxy.complete(prompt)
        self.assertEqual(answer.status, 200, answer.body)
        told = route(answer)
        self.assertEqual((told["prefill"], told["why"]), (engine.address, why), told)
        return told

    # The integration's document.

    def test_the_documents_configuration_flags_and_curl(self):
        ports = [free_ports(2, host) for host in ("127.0.0.2", "127.0.0.3")]
        config = {
            "kvevent_instance": {
                "vllm-1": {"ip": "127.0.0.2", "port": ports[0], "type": "vLLM",
                           "modelname": "qwen2.5", "lora_id": -1},
                "vllm-2": {"ip": "127.0.0.3", "port": ports[1], "type": "vLLM",
                           "modelname": "qwen2.5", "lora_id": -1},
                "mooncake": {"ip": "127.0.0.1", "port": free_ports(2), "type": "Mooncake",
                             "modelname": "qwen2.5", "lora_id": -1},
            },
            "http_server_port": 13333,
        }
        conductor = self.daemon(config=config, where="environment")
        prefillers = []
        for host, port in zip(("127.0.0.2", "127.0.0.3"), ports):
            engine = self.engine("prefill", host=host, model="qwen2.5_7B")
            publisher = Publisher(host=host, topic=b"kv-events", ports=(port, port + 1))
            self.addCleanup(publisher.die)
            engine.publishers = [publisher]
            cache = Engine(Model(BLOCK), publisher, host)
            engine.on_prompt = lambda tokens, rank, cache=cache: cache.run(tokens)
            prefillers.append(engine)
        decode = self.engine("decode", model="qwen2.5_7B")
        proxy = self.proxy(
            "--prefiller-hosts", "127.0.0.2", "127.0.0.3",
            "--prefiller-ports", *(str(engine.port) for engine in prefillers),
            "--decoder-host", "127.0.0.1", "--decoder-ports", str(decode.port),
            "--conductor-address", f"127.0.0.1:{conductor.port}",
            "--query-timeout", "5s", "--tokenize-timeout", "5s")
        command = CURL.replace("http://localhost:8000", proxy.url).replace("curl -s", "curl -s -i")
        self.settle(conductor, prefillers)
        routes = []
        for _ in range(3):
            answer = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60,
                                    check=True).stdout.replace("\r", "")
            head, body = answer.split("\n\n", 1)
            self.assertTrue(head.startswith("HTTP/1.1 200 "), answer)
            self.assertEqual(json.loads(body)["object"], "text_completion")
            line = next(line for line in head.split("\n") if line.startswith("X-Conductor-Route:"))
            routes.append(dict(part.split("=", 1) for part in line.split(": ")[1].split("; ")))
            self.settle(conductor, prefillers)
        holder = routes[0]["prefill"]
        for told in routes[1:]:
            self.assertEqual(told["prefill"], holder)
            self.assertEqual(told["why"], "score")
            self.assertGreaterEqual(int(told["matched"]), BLOCK * 3)
        self.assertEqual([len(engine.completions()) for engine in prefillers
                          if engine.address != holder], [0])

    # Policies.

    def test_every_prompt_goes_back_to_who_holds_it(self):
        for policy in ("score", "longest-prefix"):
            with self.subTest(policy):
                conductor, proxy, prefillers, _ = self.fleet("--policy", policy)
                holders = {}
                for seed in range(4):
                    holders[seed] = route(proxy.complete(text(seed)))["prefill"]
                self.assertEqual(len(set(holders.values())), 2)
                self.settle(conductor, prefillers)
                for seed, holder in holders.items():
                    told = route(proxy.complete(text(seed) + " and more"))
                    self.assertEqual((told["prefill"], told["why"], told["matched"], told["prompt"]),
                                     (holder, policy, "64", "72"))
                # A request is counted when its answer has been sent.
                name = "conductor_proxy_matched_tokens_total"
                self.wait(lambda: proxy.metrics().get(name) == 4 * 64, proxy.metrics)

    def test_round_robin_and_least_loaded_ask_nobody(self):
        for policy in ("round-robin", "least-loaded"):
            with self.subTest(policy):
                _, proxy, prefillers, _ = self.fleet("--policy", policy)
                for _ in range(4):
                    self.assertEqual(route(proxy.complete(text("same")))["why"], policy)
                self.assertEqual([len(engine.completions()) for engine in prefillers], [2, 2])

    def test_a_holder_that_is_busy_is_passed_over_by_score(self):
        conductor, proxy, (first, second), _ = self.fleet()
        holder = first if route(proxy.complete(text("x")))["prefill"] == first.address else second
        other = second if holder is first else first
        self.settle(conductor, [first, second])
        holder.fault = Fault(hang=True)
        # Half of this prompt is held. One waits there sooner than all is computed elsewhere; behind
        # several it does not.
        body = {"model": MODEL, "prompt": text("x", 140)}
        for count in range(2, 8):
            proxy.open(body)
            self.wait(lambda: sum(len(engine.completions()) for engine in (first, second)) == count,
                      "it to be asked")
        self.assertGreater(len(holder.completions()), 2)
        self.assertGreater(len(other.completions()), 0)

    def test_the_rank_that_holds_it_is_pinned(self):
        conductor, proxy, (engine,), _ = self.fleet(hosts=("127.0.0.2",), ranks=3)
        engine.caches[2].run(tokens_of(text("x")))
        self.settle(conductor, [engine])
        told = self.assert_goes_to(proxy, text("x"), engine, why="only")
        self.assertEqual((told["rank"], told["matched"]), ("2", "64"))
        self.assertEqual(engine.completions()[0].headers["x-data-parallel-rank"], "2")

    def pinned(self, connector, name):
        """What the prefiller got where its rank 2 holds the prompt, and was pinned."""
        conductor = self.daemon()
        engine = self.prefiller("127.0.0.2", ranks=3, connector=connector)
        self.register(conductor, engine, "p")
        engine.caches[2].run(tokens_of(text("x")))
        self.settle(conductor, [engine])
        decode = self.engine("decode", connector)
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{conductor.port}",
                           "--connector", name, "--query-timeout", "5s",
                           "--tokenize-timeout", "5s", prefill=[engine], decode=[decode])
        told = self.wait(lambda: (lambda told: told if told.get("rank") else None)(
            route(proxy.complete(text("x")))), "the rank to be known")
        self.assertEqual((told["prefill"], told["rank"], told["matched"], told["why"]),
                         (engine.address, "2", "64", "only"))
        self.wait(lambda: len(engine.completions()) == len(decode.completions()), "both legs")
        return engine.completions()[-1]

    def test_the_rank_of_sglang_is_pinned_by_the_room(self):
        request = self.pinned("sglang", "sglang")
        self.assertEqual(request.json["bootstrap_room"] % 3, 2)
        self.assertNotIn("x-data-parallel-rank", request.headers)

    def test_what_a_decoder_calls_back_for_is_chosen_and_said_as_elsewhere(self):
        request = self.pinned("layerwise", "ascend-layerwise")
        self.assertEqual(request.headers["x-data-parallel-rank"], "2")

    def test_prefill_is_skipped_where_the_decoder_holds_nearly_all(self):
        conductor = self.daemon()
        prefill, decode = self.prefiller("127.0.0.2"), self.prefiller("127.0.0.3", kind="decode")
        self.register(conductor, prefill, "p")
        self.register(conductor, decode, "d")
        self.settle(conductor, [prefill, decode])
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{conductor.port}",
                           "--query-timeout", "5s", "--tokenize-timeout", "5s",
                           "--skip-prefill-below", "10", prefill=[prefill], decode=[decode])
        self.assertEqual(route(proxy.complete(text("x")))["prefill"], prefill.address)
        self.settle(conductor, [prefill, decode])
        told = route(proxy.complete(text("x") + " more"))
        self.assertNotIn("prefill", told)
        self.assertEqual(told["decode"], decode.address)
        self.assertEqual(proxy.metrics()["conductor_proxy_skipped_prefills_total"], 1)
        self.assertEqual(len(prefill.completions()), 1)

    def test_prefill_is_skipped_at_the_decoder_that_holds_it_however_busy_it_is(self):
        conductor = self.daemon()
        prefill = self.prefiller("127.0.0.2")
        holder = self.prefiller("127.0.0.3", kind="decode", ranks=2)
        idle = [self.prefiller(f"127.0.0.{host}", kind="decode") for host in (4, 5)]
        self.register(conductor, prefill, "p")
        self.register(conductor, holder, "d")
        self.register(conductor, idle[0], "idle")
        holder.caches[1].run(tokens_of(text("x")))
        idle[0].caches[0].run(tokens_of(text("y")))
        self.settle(conductor, [prefill, holder, idle[0]])
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{conductor.port}",
                           "--query-timeout", "5s", "--tokenize-timeout", "5s",
                           "--skip-prefill-below", "10", prefill=[prefill],
                           decode=[holder, *idle])
        # The instances are matched by and by.
        self.wait(lambda: route(proxy.complete(text("z"))).get("fallback") is None, "the match")
        for engine in (prefill, holder, *idle):
            engine.seen.clear()
        holder.fault = Fault(hang_after=1)
        for _ in range(40):
            proxy.open({"model": MODEL, "prompt": text("x"), "stream": True})
        self.wait(lambda: len(holder.completions()) == 40, "all to be asked of the holder")
        holder.fault = None
        told = route(proxy.complete(text("x")))
        self.assertEqual((told["decode"], told.get("prefill"), told["rank"]),
                         (holder.address, None, "1"))
        self.assertEqual(holder.completions()[-1].headers["x-data-parallel-rank"], "1")
        for engine in (prefill, *idle):
            self.assertEqual(engine.completions(), [])
        # Where it cannot, the others do, with a prefiller.
        holder.fault = Fault(status=503)
        told = route(proxy.complete(text("x")))
        self.assertEqual(told["prefill"], prefill.address)
        self.assertIn(told["decode"], [engine.address for engine in idle])

    def test_unified_engines_are_chosen_by_what_they_hold(self):
        conductor = self.daemon()
        engines = [self.prefiller(host, kind="both") for host in ("127.0.0.2", "127.0.0.3")]
        for number, engine in enumerate(engines):
            self.register(conductor, engine, f"e{number}")
        self.settle(conductor, engines)
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{conductor.port}",
                           "--query-timeout", "5s", "--tokenize-timeout", "5s", unified=engines)
        first = route(proxy.complete(text("x")))["decode"]
        self.settle(conductor, engines)
        for _ in range(3):
            told = route(proxy.complete(text("x")))
            self.assertEqual((told["decode"], told["why"]), (first, "score"))

    # Tokens.

    def test_tokens_of_a_body_that_came_before_are_not_asked_again(self):
        _, proxy, prefillers, _ = self.fleet()
        asked = lambda: sum(request.path == "/tokenize" for engine in prefillers
                            for request in engine.seen)
        for _ in range(3):
            proxy.complete(text("x"))
        self.assertEqual(asked(), 1)
        proxy.complete(text("x"), temperature=0.5)
        self.assertEqual(asked(), 2)
        proxy.ask({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
                  "/v1/chat/completions")
        self.assertEqual(asked(), 3)

    def test_a_prompt_of_tokens_is_asked_for_as_it_is(self):
        conductor, proxy, prefillers, _ = self.fleet()
        for engine in prefillers:
            engine.on_prompt = None
        prefillers[1].caches[0].run(tokens_of(text("x")))
        self.settle(conductor, prefillers)
        told = self.assert_goes_to(proxy, tokens_of(text("x")), prefillers[1])
        self.assertEqual(told["matched"], "64")
        self.assertFalse(any(request.path == "/tokenize" for engine in prefillers
                             for request in engine.seen))

    def test_without_tokens_the_least_loaded_is_chosen(self):
        for fault, fallback, arguments in (
                (Fault(slow=5), "tokenize_timeout", ("--tokenize-timeout", "100ms")),
                (Fault(status=404), "tokenize_failed", ())):
            _, proxy, prefillers, _ = self.fleet(*arguments)
            for engine in prefillers:
                engine.tokenize_fault = fault
            answer = proxy.complete(text(fallback))
            self.assertEqual(answer.status, 200)
            self.assertEqual(route(answer)["fallback"], fallback)
            self.assertEqual(
                proxy.metrics()[f'conductor_proxy_fallbacks_total{{reason="{fallback}"}}'], 1)
        answer = proxy.complete(["a", "b"])
        self.assertEqual((answer.status, route(answer)["fallback"]), (200, "batch"))

    # The conductor.

    def test_a_conductor_that_is_away_costs_no_answer(self):
        conductor, proxy, prefillers, _ = self.fleet()
        conductor.kill()
        for _ in range(6):
            answer = proxy.complete(text("x"))
            self.assertEqual((answer.status, route(answer)["fallback"]), (200, "conductor_away"))
        self.assertEqual([len(engine.completions()) for engine in prefillers], [3, 3])

    def test_a_proxy_starts_without_its_conductor_and_engines_that_nobody_knows_are_told(self):
        prefill, decode = self.prefiller("127.0.0.2"), self.engine("decode")
        port = free_ports(1)
        proxy = self.proxy("--conductor-address", f"127.0.0.1:{port}", prefill=[prefill],
                           decode=[decode])
        answer = proxy.complete(text("x"))
        self.assertEqual((answer.status, route(answer)["fallback"]), (200, "no_instances"))
        self.daemon(port=port)
        self.wait(lambda: f"{prefill.address}: the conductor has no event endpoint on its host"
                  in proxy.log(), lambda: proxy.log())

    def test_figures_that_are_not_trusted_are_not_used(self):
        conductor, proxy, (first, second), _ = self.fleet()
        for seed in range(2):
            proxy.complete(text(seed))
        self.settle(conductor, [first, second])
        for engine in (first, second):
            engine.publishers[0].die()
        self.wait(lambda: all(entry["state"] == "stale" for entry in conductor.publishers()),
                  lambda: conductor.publishers(), 60)
        answer = proxy.complete(text(0))
        self.assertEqual((answer.status, route(answer)["fallback"]), (200, "not_trusted"))

    def test_publishers_are_registered_where_told_to_and_again_when_forgotten(self):
        engines = [self.prefiller(host, ranks=2) for host in ("127.0.0.2", "127.0.0.2")]
        decode = self.engine("decode")
        port = free_ports(1)
        config = {
            "conductor": {"address": f"http://127.0.0.1:{port}", "query_timeout_seconds": 5,
                          "registration_timeout_seconds": 2.0},
            "prefill": {
                "config": {"modelname": "m", "block_size": BLOCK, "tenant_id": "t"},
                "instances": [
                    {"instance_id": f"p{number}", "http_endpoint": f"http://{engine.address}",
                     "registrations": [
                         {"endpoint": publisher.endpoint, "dp_rank": rank,
                          "replay_endpoint": publisher.replay_endpoint}
                         for rank, publisher in enumerate(engine.publishers)]}
                    for number, engine in enumerate(engines)]},
            "decode": {"instances": [{"http_endpoint": f"http://{decode.address}"}]},
            "proxy": {"policy": "longest-prefix", "tokenize_timeout": "5s", "retries": 1},
        }
        proxy = self.proxy(config=config)
        self.assertEqual(proxy.complete(text("x")).status, 200)
        keys = {f"p{number}|t|{rank}" for number in range(2) for rank in range(2)}
        for _ in range(2):
            conductor = self.daemon(port=port)
            self.wait(lambda: {entry["id"] for entry in conductor.publishers()} == keys,
                      lambda: conductor.publishers())
            self.settle(conductor, engines)
            self.wait(lambda: route(proxy.complete(text("x"))).get("why") == "longest-prefix",
                      lambda: f"the holder to be known: {proxy.log()}")
            conductor.kill()

    def test_an_index_of_its_own_needs_no_conductor(self):
        engines = [self.prefiller(host) for host in ("127.0.0.2", "127.0.0.3")]
        decode = self.engine("decode")
        publishers = {"kvevent_instance": {
            f"e{number}": {"endpoint": engine.publishers[0].endpoint,
                           "replay_endpoint": engine.publishers[0].replay_endpoint,
                           "type": "vLLM", "modelname": "m", "block_size": BLOCK}
            for number, engine in enumerate(engines)}}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(publishers, file)
            file.flush()
            proxy = self.proxy("--embedded", "--publishers", file.name, "--tokenize-timeout", "5s",
                               "--query-timeout", "5s", prefill=engines, decode=[decode])
        # Until its events are applied a prompt may go to the other one too.
        self.wait(lambda: int(route(proxy.complete(text("x"))).get("matched", 0)) == 64,
                  lambda: "its events to be applied")
        self.assertEqual(route(proxy.complete(text("x")))["matched"], "64")


class CommandLine(unittest.TestCase):
    def test_what_cannot_be_used_is_told(self):
        hosts = ("--prefiller-hosts", "a")
        for arguments, message in (
                ((), "no engine is named"),
                (("--decoder-hosts", "a"), "decoders are named, and no prefiller"),
                (("--prefiller-hosts", "a", "b", "--prefiller-ports", "1", "2", "3"),
                 "2 hosts and 3 ports"),
                (("--prefiller-hosts", "a", "--prefiller-ports", "x"), "its port cannot be used"),
                ((*hosts, "--prefiller-instance-ids", "x", "y"), "2 ids for 1 engines"),
                ((*hosts, "--prefiller-registration", "x", "0", "tcp://a:1"),
                 "'x' is no prefiller's instance id"),
                ((*hosts, "--policy", "best"), "'best' is no policy"),
                ((*hosts, "--policy", "score"), "score needs to ask who holds what"),
                ((*hosts, "--connector", "x"), "'x' is no connector"),
                ((*hosts, "--idle-timeout", "5"), "--idle-timeout"),
                ((*hosts, "--conductor-address", "ftp://x"), "--conductor-address"),
                ((*hosts, "--embedded", "--conductor-address", "a:1"), "--embedded"),
                (("--engine-endpoints", "a:1", *hosts), "--engine-endpoints"),
                (("--engine-endpoints", "a:1", "a:1"), "is named twice"),
                (("--config", "/nowhere"), "cannot be read")):
            with self.subTest(arguments):
                result = process.run_to_end("proxy", *arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(message, result.stderr)

    def test_mistakes_in_the_file_are_told_with_their_path(self):
        engine = {"http_endpoint": "a:1"}
        for config, message in (
                ("{", "is no JSON"),
                ({"x": 1}, "config.json: x: is not known"),
                ({"prefill": {}}, "prefill.instances: is missing"),
                ({"prefill": {"instances": [{}]}}, "prefill.instances[0].http_endpoint: is missing"),
                ({"prefill": {"instances": [{"http_endpoint": "a"}]}},
                 "prefill.instances[0].http_endpoint"),
                ({"prefill": {"instances": [{**engine, "registrations": [{"endpoint": "x"}]}]}},
                 "prefill.instances[0].registrations[0].endpoint"),
                ({"prefill": {"instances": [engine]}, "proxy": {"idle_timeout": 5}},
                 "proxy.idle_timeout"),
                ({"prefill": {"config": {"block_size": -1}, "instances": [engine]}},
                 "prefill.config.block_size"),
                ({"conductor": {"query_timeout_seconds": 0}}, "conductor.query_timeout_seconds")):
            with self.subTest(config):
                result = process.run_to_end("proxy", config=config)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(message, result.stderr)

    def test_a_port_that_somebody_has_is_an_error(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            result = process.run_to_end("proxy", "--engine-endpoints", "127.0.0.1:1", "--port", port)
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"127.0.0.1:{port}: cannot listen", result.stderr)


if __name__ == "__main__":
    unittest.main()
