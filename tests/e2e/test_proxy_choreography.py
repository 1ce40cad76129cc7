"""Every choreography of prefill and decode, against engines that know what they must be sent."""

import json
import socket
import threading
import unittest
import uuid

from pd_engine import Fault
from proxy import MODEL, ProxyTest, read_all, read_until, route


class Choreographies(ProxyTest):
    def pair(self, connector, *arguments, prefill=1, decode=1, **more):
        prefillers = [self.engine("prefill", connector) for _ in range(prefill)]
        decoders = [self.engine("decode", connector) for _ in range(decode)]
        name = {"layerwise": "ascend-layerwise"}.get(connector, connector)
        proxy = self.proxy("--connector", name, *arguments, prefill=prefillers, decode=decoders,
                           **more)
        return proxy, prefillers, decoders

    def one(self, engine):
        request, = engine.completions()
        return request

    # nixl

    def test_nixl_params_are_relayed_whole_and_the_body_stays_as_it_was(self):
        proxy, (prefill,), (decode,) = self.pair("nixl")
        body = ('{"model": "test-model",  "prompt": "a b c", "max_tokens": 5, "min_tokens": 2, '
                '"unknown": {"x": [1.0, 1e400, 12345678901234567890123]}, "temperature": 0.10, '
                '"max_completion_tokens": 7, "stream": false, "name": "\\u00e9"}')
        answer = proxy.ask(body, headers={"X-Request-Id": "mine-1", "X-Custom": "kept",
                                          "X-Data-Parallel-Rank": "7"})
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.headers["X-Request-Id"], "mine-1")
        self.assertEqual(answer.json["usage"]["completion_tokens"], 5)
        first, second = self.one(prefill), self.one(decode)
        self.assertEqual(first.body.decode(), (
            '{"model": "test-model",  "prompt": "a b c", "max_tokens": 1, '
            '"unknown": {"x": [1.0, 1e400, 12345678901234567890123]}, "temperature": 0.10, '
            '"max_completion_tokens": 1, "stream": false, "name": "\\u00e9", "kv_transfer_params": '
            '{"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null, '
            '"remote_block_ids": null, "remote_host": null, "remote_port": null}}'))
        self.assertTrue(second.body.decode().startswith(body[:-1]))
        identity = first.headers["x-request-id"]
        self.assertEqual(second.params, prefill.held[f"cmpl-{identity}-0"])
        for request in (first, second):
            self.assertEqual(request.path, "/v1/completions")
            self.assertEqual(request.headers["x-request-id"], identity)
            self.assertNotIn("x-data-parallel-rank", request.headers)
            self.assertEqual(request.headers["x-custom"], "kept")
        self.assertEqual(route(answer)["prefill"], prefill.address)
        self.assertEqual(route(answer)["decode"], decode.address)

    def test_nixl_streams_chat_with_usage_and_removes_stream_options_from_prefill(self):
        proxy, (prefill,), (decode,) = self.pair("nixl")
        answer = proxy.ask({"model": MODEL, "messages": [{"role": "user", "content": "hi"}],
                            "stream": True, "max_tokens": 3,
                            "stream_options": {"include_usage": True}}, "/v1/chat/completions")
        self.assertEqual(answer.status, 200)
        self.assertIn("text/event-stream", answer.headers["Content-Type"])
        self.assertEqual(answer.body.count(b"data: "), 4)
        self.assertTrue(answer.body.endswith(b"data: [DONE]\n\n"))
        self.assertNotIn("stream_options", self.one(prefill).json)
        self.assertEqual(self.one(decode).json["stream_options"], {"include_usage": True})
        self.assertEqual(self.one(prefill).path, "/v1/chat/completions")

    def test_nixl_remote_host_is_overridden_where_told_to(self):
        proxy, (prefill,), (decode,) = self.pair("nixl", "--override-remote-host")
        self.assertEqual(proxy.complete().status, 200)
        self.assertEqual(self.one(decode).params["remote_host"], prefill.host)
        self.assertEqual(self.one(decode).params["remote_engine_id"], prefill.engine_id)

    def test_without_params_from_prefill_decode_gets_the_clients_body(self):
        proxy, (prefill,), (decode,) = self.pair("nixl")
        prefill.connector = "store"
        prefill._check_prefill = lambda *_: None
        prefill._prefilled = lambda *_: None
        self.assertEqual(proxy.complete().status, 200)
        self.assertIsNone(self.one(decode).params)

    def test_the_engines_key_is_sent_in_place_of_the_clients(self):
        proxy, (prefill,), (decode,) = self.pair("nixl", environment={"OPENAI_API_KEY": "secret"})
        proxy.complete(headers={"Authorization": "Bearer theirs"})
        for engine in (prefill, decode):
            self.assertEqual(self.one(engine).headers["authorization"], "Bearer secret")

    def test_two_clients_with_one_request_id_do_not_meet(self):
        for connector in ("nixl", "mooncake", "layerwise"):
            with self.subTest(connector):
                if connector == "mooncake":
                    proxy, prefill, decode, _ = self.mooncake()
                else:
                    proxy, (prefill,), (decode,) = self.pair(connector)
                held = threading.Event()
                self.addCleanup(held.set)
                prefill.fault = Fault(hold=held)
                answers = []
                threads = [threading.Thread(target=lambda prompt=prompt: answers.append(
                    proxy.complete(prompt, headers={"X-Request-Id": "same"})))
                           for prompt in ("a", "b")]
                for thread in threads:
                    thread.start()
                self.wait(lambda: len(prefill.completions()) == 2, "both to be prefilled")
                held.set()
                for thread in threads:
                    thread.join()
                for answer in answers:
                    self.assertEqual((answer.status, answer.headers["X-Request-Id"]),
                                     (200, "same"))
                ids = {}
                for engine in (prefill, decode):
                    self.assertEqual(len(engine.completions()), 2)
                    for request in engine.completions():
                        ids.setdefault(request.headers["x-request-id"], set()).add(
                            request.json["prompt"])
                self.assertEqual(sorted(map(sorted, ids.values())), [["a"], ["b"]])
                self.wait_idle(proxy)

    def test_what_the_proxy_says_to_engines_cannot_be_said_by_clients(self):
        ours = {"kv_transfer_params": {"do_remote_prefill": True, "remote_host": "10.6.6.6"},
                "bootstrap_host": "10.6.6.6", "bootstrap_port": 1, "bootstrap_room": 5,
                "data_parallel_rank": 3}
        for connector in ("nixl", "none", "store", "layerwise", "sglang", "unified"):
            with self.subTest(connector):
                if connector == "unified":
                    engines = [self.engine("both")]
                    proxy = self.proxy(unified=engines)
                else:
                    proxy, prefillers, decoders = self.pair(connector)
                    engines = prefillers + decoders
                answer = proxy.complete(**ours, headers={"x-data-parallel-rank": "3"})
                self.assertEqual(answer.status, 200, answer.body)
                proxy.ask({"input": "x", **ours}, "/v1/responses")
                # SGLang's prefiller may be asked last.
                self.wait(lambda: all(engine.completions() for engine in engines), "all to be asked")
                for engine in engines:
                    for request in engine.seen:
                        self.assertNotIn(b"10.6.6.6", request.body)
                        self.assertNotIn("x-data-parallel-rank", request.headers)
                        self.assertNotIn("data_parallel_rank", request.json)
                        if connector != "sglang" or "completions" not in request.path:
                            self.assertNotIn("bootstrap_room", request.json)

    # store, none, ascend

    def test_store_and_none_need_no_params(self):
        for connector in ("store", "none"):
            with self.subTest(connector):
                proxy, (prefill,), (decode,) = self.pair(connector)
                self.assertEqual(proxy.complete(stream=True).status, 200)
                self.assertEqual(self.one(prefill).json["max_tokens"], 1)
                self.assertIsNone(self.one(prefill).params)
                self.assertIsNone(self.one(decode).params)

    def test_ascend_sets_min_tokens_to_one_and_relays_every_field(self):
        proxy, (prefill,), (decode,) = self.pair("ascend")
        self.assertEqual(proxy.complete(min_tokens=4).status, 200)
        self.assertEqual(self.one(prefill).json["min_tokens"], 1)
        self.assertEqual(self.one(decode).json["min_tokens"], 4)
        held, = prefill.held.values()
        self.assertEqual(self.one(decode).params, held)
        self.assertEqual(held["last_token_id"], 17)

    def test_ascend_holds_the_prefillers_load_until_decode_begins(self):
        proxy, (prefill,), (decode,) = self.pair("ascend")
        decode.fault = Fault(hang=True)
        connection = proxy.open({"model": MODEL, "prompt": "a", "stream": True})
        self.wait(lambda: decode.completions(), "decode to be asked")
        self.assertEqual(proxy.engine(prefill)["in_flight"], 1)
        connection.close()
        self.wait_idle(proxy)

    def events(self, answer):
        lines = [line for line in answer.body.decode().split("\n") if line]
        self.assertTrue(all(line.startswith("data: ") for line in lines), lines)
        self.assertEqual(lines[-1], "data: [DONE]")
        return [json.loads(line[len("data: "):]) for line in lines[:-1]]

    def test_ascend_goes_on_in_the_same_stream_where_decode_is_recomputed(self):
        proxy, (prefill,), (decode,) = self.pair("ascend")
        decode.recompute_after = [2, 1]
        answer = proxy.complete(stream=True, max_tokens=9, min_tokens=4,
                                stream_options={"include_usage": True})
        self.assertEqual(answer.status, 200, answer.body)
        events = self.events(answer)
        said = [event["choices"][0] for event in events if event["choices"]]
        self.assertEqual("".join(choice["text"] for choice in said), " w0 w1 w2 w3 w4")
        self.assertNotIn("recomputed", answer.body.decode())
        self.assertEqual(events[-1]["usage"], {
            "prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2}})
        for engine in (prefill, decode):
            self.assertEqual([request.json["prompt"] for request in engine.completions()],
                             ["a b c", "a b c w0 w1", "a b c w0 w1 w2"])
        self.assertEqual([(request.json["max_tokens"], request.json["min_tokens"])
                          for request in decode.completions()], [(9, 4), (7, 2), (6, 1)])
        # Each part has its own blocks.
        self.assertEqual([request.params for request in decode.completions()],
                         [request.prefilled for request in prefill.completions()])
        self.wait_idle(proxy)

    def test_ascend_goes_on_with_a_chat_and_answers_whole(self):
        proxy, (prefill,), (decode,) = self.pair("ascend")
        decode.recompute_after = [3]
        messages = [{"role": "user", "content": "hi there"}]
        answer = proxy.ask({"model": MODEL, "messages": messages, "max_tokens": 8},
                           "/v1/chat/completions")
        self.assertEqual(answer.status, 200, answer.body)
        choice, = answer.json["choices"]
        self.assertEqual(choice["message"]["content"], " w0 w1 w2 w3 w4")
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(answer.json["usage"]["completion_tokens"], 5)
        self.assertEqual(answer.json["usage"]["prompt_tokens_details"], {"cached_tokens": 2})
        for engine in (prefill, decode):
            _, second = engine.completions()
            self.assertEqual(second.json["messages"],
                             [*messages, {"role": "assistant", "content": " w0 w1 w2"}])
            self.assertIs(second.json["continue_final_message"], True)
            self.assertIs(second.json["add_generation_prompt"], False)

    def test_ascend_goes_on_with_what_the_engine_reads_whatever_stands_beside_it(self):
        for messages in (None, [], [{"role": "user", "content": "x"}], "]"):
            with self.subTest(messages):
                proxy, _, (decode,) = self.pair("ascend")
                decode.recompute_after = [2]
                answer = proxy.complete(stream=True, messages=messages)
                said = [event["choices"][0]["text"] for event in self.events(answer)]
                self.assertEqual("".join(said), " w0 w1 w2 w3 w4")
                self.assertEqual([request.json["prompt"] for request in decode.completions()],
                                 ["a b c", "a b c w0 w1"])
                self.assertEqual(decode.completions()[1].json["messages"], messages)
                self.wait_idle(proxy)

    def test_ascend_breaks_off_where_the_rest_cannot_be_had(self):
        for leg in ("prefill", "decode"):
            with self.subTest(leg):
                proxy, (prefill,), (decode,) = self.pair("ascend", "--retries", "0")
                decode.recompute_after = [2]
                engine = {"prefill": prefill, "decode": decode}[leg]

                def fail(engine=engine):
                    engine.fault = Fault(status=400)

                # The first part is served; then it refuses.
                prefill.on_prompt = lambda tokens, rank: len(tokens) > 3 and fail()
                if leg == "prefill":
                    decode.on_prompt = lambda tokens, rank: fail()
                    prefill.on_prompt = None
                connection = proxy.open({"model": MODEL, "prompt": "a b c", "stream": True})
                answer = read_until(connection, b"w1")
                answer += read_all(connection)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
                self.assertNotIn(b"[DONE]", answer)
                self.assertFalse(answer.endswith(b"0\r\n\r\n"), answer)
                self.wait_idle(proxy)

    def test_ascend_passes_recomputed_on_where_it_cannot_be_continued(self):
        proxy, _, (decode,) = self.pair("ascend")
        decode.recompute_after = [2]
        answer = proxy.complete(prompt=[5, 6, 7], stream=True)
        self.assertEqual(self.events(answer)[-1]["choices"][0]["stop_reason"], "recomputed")
        self.assertEqual(len(decode.completions()), 1)

    # mooncake

    def mooncake(self, *arguments, ids=None):
        prefill = self.engine("prefill", "mooncake", host="127.0.0.2")
        decode = self.engine("decode", "mooncake")
        decode.peers = [prefill]
        bootstrap = self.bootstrap(ids or {0: prefill.engine_id}, host="127.0.0.2")
        proxy = self.proxy("--connector", "mooncake", "--bootstrap-port", str(bootstrap.port),
                           *arguments, prefill=[prefill], decode=[decode])
        return proxy, prefill, decode, bootstrap

    def test_mooncake_asks_both_at_once_and_names_transfer_and_engine(self):
        proxy, prefill, decode, bootstrap = self.mooncake()
        answer = proxy.complete(stream=True, headers={"X-Request-Id": "r7"})
        self.assertEqual(answer.status, 200, answer.body)
        transfer = "xfer-" + self.one(prefill).headers["x-request-id"]
        self.assertEqual(self.one(prefill).params, {
            "do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer})
        self.assertEqual("xfer-" + self.one(decode).headers["x-request-id"], transfer)
        self.assertEqual(self.one(prefill).headers["x-data-parallel-rank"], "0")
        self.assertEqual(self.one(decode).params, {
            "do_remote_decode": False, "do_remote_prefill": True,
            "remote_bootstrap_addr": f"http://127.0.0.2:{bootstrap.port}",
            "remote_engine_id": prefill.engine_id, "transfer_id": transfer})
        self.assertNotIn("x-data-parallel-rank", self.one(decode).headers)
        self.wait_idle(proxy)

    def test_mooncake_decode_is_asked_before_prefill_has_answered(self):
        proxy, prefill, decode, _ = self.mooncake()
        prefill.fault = Fault(hang=True)
        connection = proxy.open({"model": MODEL, "prompt": "a"})
        self.wait(lambda: prefill.completions() and decode.completions(), "both to be asked")
        connection.close()
        for engine in (prefill, decode):
            self.assertTrue(self.one(engine).closed.wait(20))
        self.wait_idle(proxy)

    def test_mooncake_prefill_that_fails_cancels_decode_which_then_works_alone(self):
        proxy, prefill, decode, _ = self.mooncake()
        prefill.fault = Fault(status=500)
        answer = proxy.complete(stream=True)
        self.assertEqual(answer.status, 200)
        first, second = decode.completions()
        self.assertTrue(first.closed.wait(20))
        self.assertIsNone(second.params)
        self.assertIn("fallback=prefill_failed", answer.headers["X-Conductor-Route"])

    def test_mooncake_prefill_that_fails_is_a_502_where_prefill_is_required(self):
        proxy, prefill, decode, _ = self.mooncake("--prefill-required")
        prefill.fault = Fault(status=500)
        self.assertEqual(proxy.complete(stream=True).status, 502)
        self.assertTrue(self.one(decode).closed.wait(20))
        prefill.fault = Fault(status=400, error_body={"error": {"message": "too long"}})
        answer = proxy.complete()
        self.assertEqual((answer.status, answer.json["error"]["message"]), (400, "too long"))

    def test_mooncake_without_bootstrap_is_not_ready(self):
        prefill, decode = self.engine("prefill", "mooncake"), self.engine("decode", "mooncake")
        spare = self.bootstrap({})
        spare.stop()
        proxy = self.proxy("--connector", "mooncake", "--bootstrap-port", str(spare.port),
                           prefill=[prefill], decode=[decode])
        answer = proxy.complete()
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (503, "1"))
        decode.peers = [prefill]
        self.bootstrap({3: prefill.engine_id}, port=spare.port)
        self.wait(lambda: proxy.complete().status == 200, "the bootstrap server to be asked again")
        self.assertEqual(self.one(prefill).headers["x-data-parallel-rank"], "3")

    def test_mooncake_pairs_prefillers_of_one_host_by_bootstrap_ports_of_their_own(self):
        prefillers = [self.engine("prefill", "mooncake") for _ in range(3)]
        servers = [self.bootstrap({0: engine.engine_id}) for engine in prefillers]
        decode = self.engine("decode", "mooncake")
        decode.peers = prefillers
        words = []
        for engine, server in zip(prefillers[:2], servers):
            words += ["--prefill", f"http://{engine.address}", str(server.port)]
        proxy = self.proxy("--connector", "mooncake", "--policy", "round-robin", *words,
                           decode=[decode], environment={"ADMIN_API_KEY": "k"})
        key = {"X-Api-Key": "k"}
        third = {"type": "prefill", "instances": [prefillers[2].address]}
        taken = proxy.ask({**third, "bootstrap_port": servers[0].port}, "/instances/add", key)
        self.assertEqual(taken.status, 400, taken.body)
        self.assertIn(f"that of {prefillers[0].address} too", taken.json["error"]["message"])
        bad = proxy.ask({**third, "bootstrap_port": 0}, "/instances/add", key)
        self.assertIn("bootstrap_port", bad.json["error"]["message"])
        added = proxy.ask({**third, "bootstrap_port": servers[2].port}, "/instances/add", key)
        self.assertEqual(added.status, 200, added.body)
        self.wait(lambda: proxy.complete().status == 200 and all(
            engine.completions() for engine in prefillers), "all to be asked")
        paired = {}
        for request in decode.completions():
            if request.params:
                paired[request.params["remote_bootstrap_addr"]] = request.params["remote_engine_id"]
        self.assertEqual(paired, {f"http://127.0.0.1:{server.port}": engine.engine_id
                                  for engine, server in zip(prefillers, servers)})

    def test_mooncake_says_which_rank_was_pinned_in_its_turn(self):
        proxy, prefill, decode, bootstrap = self.mooncake()
        bootstrap.ids = {1: prefill.engine_id, 4: prefill.engine_id}
        self.wait(lambda: route(proxy.complete())["rank"] != "0", "the ranks to be learnt")
        said = [route(proxy.complete())["rank"] for _ in range(4)]
        self.assertEqual(said, [request.headers["x-data-parallel-rank"]
                                for request in prefill.completions()][-4:])
        self.assertEqual(set(said), {"1", "4"})

    # layerwise

    def test_layerwise_decode_calls_back_for_its_prefill(self):
        proxy, (prefill,), (decode,) = self.pair("layerwise")
        for path, body, name in (
                ("/v1/completions", {"prompt": "a b"}, "cmpl-{}-0"),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]},
                 "chatcmpl-{}")):
            with self.subTest(path):
                prefill.seen.clear()
                decode.seen.clear()
                answer = proxy.ask({"model": MODEL, "max_tokens": 5, "stream": True, **body}, path,
                                   headers={"X-Request-Id": "q-1"})
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(self.one(decode).params, {
                    "do_remote_decode": False, "do_remote_prefill": True,
                    "metaserver": f"http://127.0.0.1:{proxy.port}/v1/metaserver"})
                identity = self.one(decode).headers["x-request-id"]
                self.assertEqual(self.one(prefill).params, {
                    "request_id": name.format(identity), "remote_host": decode.host,
                    "remote_port": 9, "remote_block_ids": [4, 5]})
                self.assertEqual(self.one(prefill).headers["x-request-id"], identity)
                self.assertEqual(self.one(prefill).path, path)
                self.assertEqual(decode.callbacks, [200])
                self.assertEqual(route(answer)["prefill"], prefill.address)

    def test_layerwise_waits_until_every_prompt_of_a_list_has_called(self):
        proxy, (prefill,), (decode,) = self.pair("layerwise")
        answer = proxy.ask({"model": MODEL, "prompt": ["a", "b", "c"], "max_tokens": 2})
        self.assertEqual(answer.status, 200)
        self.assertEqual(decode.callbacks, [200] * 3)
        self.assertTrue(self.one(prefill).params["request_id"].endswith("-0"))

    def test_layerwise_calls_come_through_where_bodies_have_no_room(self):
        proxy, (prefill,), _ = self.pair("layerwise", "--max-inflight-bytes", "1m",
                                         "--first-byte-timeout", "20s",
                                         environment={"ADMIN_API_KEY": "k"})
        held = threading.Event()
        self.addCleanup(held.set)
        prefill.fault = Fault(hold=held)
        # The client's and the decoder's are more than there is.
        connection = proxy.open({"model": MODEL, "prompt": "a" * 600_000, "max_tokens": 2})
        self.wait(lambda: prefill.completions(), "prefill to be asked")
        self.assertGreater(proxy.metrics()["conductor_proxy_request_body_bytes"], 1 << 20)
        self.assertEqual(proxy.complete().status, 503)
        body = {"type": "prefill", "instances": [self.engine("prefill", "layerwise").address]}
        self.assertEqual(proxy.ask(body, "/instances/add", {"X-Api-Key": "k"}).status, 200)
        held.set()
        self.assertTrue(read_until(connection, b"\r\n").startswith(b"HTTP/1.1 200 "))
        connection.close()
        self.wait_idle(proxy)

    def test_layerwise_unknown_id_is_404_and_a_prefill_that_fails_502(self):
        proxy, (prefill,), (decode,) = self.pair("layerwise", "--prefill-required")
        for name in (f"cmpl-{uuid.uuid4()}-0", f"chatcmpl-{uuid.uuid4()}"):
            self.assertEqual(proxy.ask({"request_id": name}, "/v1/metaserver").status, 404)
        self.assertEqual(proxy.ask({"request_id": "x"}, "/v1/metaserver").status, 400)
        prefill.fault = Fault(status=503)
        self.assertEqual(proxy.complete().status, 502)
        self.wait(lambda: decode.callbacks == [502], "the call-back to be told")

    def test_layerwise_several_choices_are_the_decoders_alone(self):
        proxy, (prefill,), (decode,) = self.pair("layerwise")
        answer = proxy.complete(n=2)
        self.assertEqual((answer.status, route(answer)["fallback"]), (200, "several_choices"))
        self.assertIsNone(self.one(decode).params)
        self.assertEqual(prefill.seen, [])
        strict, _, _ = self.pair("layerwise", "--prefill-required")
        self.assertEqual(strict.complete(n=2).status, 400)

    # sglang

    def test_sglang_sends_one_body_with_a_room_to_both(self):
        proxy, (prefill,), (decode,) = self.pair("sglang")
        answer = proxy.complete(stream=True)
        self.assertEqual(answer.status, 200)
        self.wait(lambda: prefill.completions(), "prefill to be asked")
        first, second = self.one(prefill).json, self.one(decode).json
        self.assertEqual(first, second)
        self.assertEqual((first["bootstrap_host"], first["bootstrap_port"]), (prefill.host, 8998))
        self.assertTrue(0 <= first["bootstrap_room"] < 1 << 63)
        self.assertTrue(first["stream"])

    def test_sglang_names_each_prefillers_own_bootstrap_port_or_none(self):
        prefillers = [self.engine("prefill", "sglang") for _ in range(2)]
        decode = self.engine("decode", "sglang")
        proxy = self.proxy("--connector", "sglang", "--policy", "round-robin",
                           "--prefiller-bootstrap-ports", "9001", "none", prefill=prefillers,
                           decode=[decode])
        for prompt in ("a", ["a", "b"]):
            for _ in prefillers:
                self.assertEqual(proxy.complete(prompt).status, 200)
        self.wait(lambda: all(len(engine.completions()) == 2 for engine in prefillers),
                  "both to be asked")
        for engine, port in zip(prefillers, (9001, None)):
            self.assertEqual([request.json["bootstrap_port"] for request in engine.completions()],
                             [port, [port, port]])

    def test_sglang_gives_every_prompt_of_a_batch_a_room_of_its_own(self):
        proxy, (prefill,), (decode,) = self.pair("sglang")
        answer = proxy.ask({"model": MODEL, "prompt": ["a", "b"], "max_tokens": 2})
        self.assertEqual(answer.status, 200)
        body = self.one(decode).json
        self.assertEqual(body["bootstrap_host"], [prefill.host] * 2)
        self.assertEqual(body["bootstrap_port"], [8998] * 2)
        self.assertEqual(len(set(body["bootstrap_room"])), 2)

    def test_sglang_logprobs_of_a_prompt_come_from_the_prefiller(self):
        proxy, (prefill,), (decode,) = self.pair("sglang")
        decode.peers = [prefill]

        def logprobs(piece):
            self.assertTrue(piece["text"].startswith("decode"), piece)
            return [token for _, token in piece["meta_info"]["input_token_logprobs"]]

        asked = {"text": "a b c", "return_logprob": True}
        self.assertEqual(logprobs(proxy.ask(asked, "/generate").json), [0, 1, 2])
        batch = proxy.ask({**asked, "text": ["a b", "c"]}, "/generate").json
        self.assertEqual([logprobs(piece) for piece in batch], [[0, 1], [0]])
        answer = proxy.ask({**asked, "stream": True}, "/generate",
                           headers={"Accept-Encoding": "gzip"})
        self.assertEqual([logprobs(piece) for piece in self.events(answer)], [[0, 1, 2]] * 2)
        for engine in (prefill, decode):
            self.assertEqual(engine.seen[-1].headers["accept-encoding"], "identity")
        # Who does not ask for them gets the decoder's answer as it is.
        self.assertEqual(logprobs(proxy.ask({"text": "a b c"}, "/generate").json), [])
        # A prefiller that fails is not waited for.
        prefill.fault = Fault(status=400, error_body={"error": {"message": "too long"}})
        answer = proxy.ask(asked, "/generate")
        self.assertEqual((answer.status, answer.json), (400, {"error": {"message": "too long"}}))
        self.wait_idle(proxy)

    def test_generate_is_there_for_sglang_alone(self):
        proxy, (prefill,), _ = self.pair("nixl")
        self.assertEqual(proxy.ask({"text": "a"}, "/generate").status, 404)
        self.assertEqual(prefill.seen, [])

    # Neither prefill nor decode.

    def test_other_paths_pass_as_they_are_and_models_are_merged(self):
        prefill = self.engine("prefill", "nixl", model="test-model")
        decode = self.engine("decode", "nixl", model="other-model")
        proxy = self.proxy(prefill=[prefill], decode=[decode])
        answer = proxy.ask('{"input":  1.50}', "/v1/embeddings?x=1")
        self.assertEqual(answer.json, {"path": "/v1/embeddings?x=1", "engine": decode.address,
                                       "method": "POST", "got": '{"input":  1.50}'})
        answer = proxy.ask(None, "/v1/whatever", method="GET")
        self.assertEqual((answer.status, answer.json["method"]), (200, "GET"))
        models = proxy.ask(None, "/v1/models", method="GET").json
        self.assertEqual([model["id"] for model in models["data"]], ["other-model", "test-model"])
        health = proxy.ask(None, "/healthcheck", method="GET")
        self.assertEqual(health.json, {"status": "ok", "prefill_instances": 1,
                                       "decode_instances": 1})
        self.assertEqual(proxy.ask(None, "/nothing", method="GET").status, 404)
        self.assertEqual(proxy.ask(None, "/v1/completions", method="GET").status, 405)

    def test_unified_engines_share_the_load(self):
        engines = [self.engine("both") for _ in range(3)]
        proxy = self.proxy(unified=engines)
        for _ in range(6):
            self.assertEqual(proxy.complete().status, 200)
        self.assertEqual([len(engine.completions()) for engine in engines], [2, 2, 2])
        # A request is counted when its answer has been sent.
        name = 'conductor_proxy_requests_total{code="200",path="/v1/completions"}'
        self.wait(lambda: proxy.metrics().get(name) == 6, lambda: proxy.metrics())

    def test_an_old_client_gets_its_answer_without_chunks(self):
        proxy, _, _ = self.pair("nixl")
        body = json.dumps({"model": MODEL, "prompt": "a", "stream": True, "max_tokens": 2})
        with socket.create_connection((proxy.host, proxy.port)) as connection:
            connection.sendall(f"POST /v1/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
                               f"\r\n{body}".encode())
            answer = read_all(connection)
        self.assertNotIn(b"chunked", answer)
        self.assertTrue(answer.endswith(b"data: [DONE]\n\n"), answer)


if __name__ == "__main__":
    unittest.main()
