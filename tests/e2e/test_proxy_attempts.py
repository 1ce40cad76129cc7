"""What becomes of both legs when one of them fails, whichever engine and connector it is: who is asked
again and under which name, who is not asked in vain, and that nothing is left behind."""

import asyncio
import json
import random
import socket
import threading
import unittest

from pd_engine import Fault
from proxy import MODEL, ProxyTest, read_all, read_until, route
from test_proxy_faults import is_sanitized, resident

CONNECTORS = ("nixl", "store", "ascend", "mooncake", "layerwise", "sglang")


class Attempts(ProxyTest):
    def fleet(self, connector, *arguments, prefill=1, decode=1, **more):
        """Engines on hosts of their own, and for mooncake their bootstrap servers."""
        prefillers = [self.engine("prefill", connector, host=f"127.0.1.{number + 1}")
                      for number in range(prefill)]
        decoders = [self.engine("decode", connector, host=f"127.0.2.{number + 1}")
                    for number in range(decode)]
        words = list(arguments)
        self.bootstraps = []
        if connector == "mooncake":
            port = 0
            for engine in prefillers:
                self.bootstraps.append(
                    self.bootstrap({0: engine.engine_id}, host=engine.host, port=port))
                port = self.bootstraps[0].port
            words += ["--bootstrap-port", str(port)]
        for engine in decoders:
            engine.peers = prefillers
        name = {"layerwise": "ascend-layerwise"}.get(connector, connector)
        proxy = self.proxy("--connector", name, *words, prefill=prefillers, decode=decoders, **more)
        return proxy, prefillers, decoders

    def ids(self, engine):
        return [request.headers["x-request-id"] for request in engine.completions()]

    # A decoder that fails.

    def test_a_second_decoder_gets_a_transfer_of_its_own(self):
        for connector in ("mooncake", "layerwise", "sglang"):
            with self.subTest(connector):
                proxy, (prefill,), decoders = self.fleet(connector, "--policy", "round-robin",
                                                         decode=2)
                # It has got the blocks when it dies.
                decoders[0].fault = Fault(die_after=0)
                answer = proxy.complete(stream=True)
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(route(answer)["decode"], decoders[1].address)
                first, second = self.ids(decoders[0]) + self.ids(decoders[1])
                self.assertNotEqual(first, second)
                self.assertEqual(self.ids(prefill), [first, second])
                legs = prefill.completions()
                received = decoders[1].completions()[0]
                if connector == "mooncake":
                    self.assertEqual([leg.params["transfer_id"] for leg in legs],
                                     [f"xfer-{first}", f"xfer-{second}"])
                    self.assertEqual(received.params["transfer_id"], f"xfer-{second}")
                elif connector == "sglang":
                    rooms = [leg.json["bootstrap_room"] for leg in legs]
                    self.assertEqual(received.json["bootstrap_room"], rooms[1])
                    self.assertNotEqual(*rooms)
                else:
                    self.assertEqual([leg.params["remote_host"] for leg in legs],
                                     [engine.host for engine in decoders])
                self.wait_idle(proxy)

    def test_no_more_than_two_decoders_are_asked_where_a_prefiller_works_for_them(self):
        for connector in CONNECTORS:
            with self.subTest(connector):
                proxy, _, decoders = self.fleet(connector, "--retries", "5", decode=3)
                for engine in decoders:
                    engine.fault = Fault(die_after=0) if connector != "ascend" else Fault(die=True)
                answer = proxy.complete(stream=True)
                self.assertEqual(answer.status, 502, answer.body)
                self.assertEqual(sum(len(engine.completions()) for engine in decoders), 2)
                self.wait_idle(proxy)

    def test_nobody_prefills_when_there_is_no_decoder_to_ask(self):
        for connector in CONNECTORS:
            with self.subTest(connector):
                proxy, (prefill,), (decode,) = self.fleet(
                    connector, "--breaker-failures", "1", "--breaker-pause", "60s")
                decode.fault = Fault(die=True)
                self.assertEqual(proxy.complete().status, 502)
                answer = proxy.complete()
                self.assertEqual((answer.status, answer.json["error"]["type"]),
                                 (503, "decode_unavailable"))
                self.assertGreater(int(answer.headers["Retry-After"]), 1)
                # For the first request at most: it may have been cancelled before it was sent.
                self.wait_idle(proxy)
                self.assertLessEqual(len(prefill.completions()), 1)

    def test_a_decoder_that_refuses_has_no_prefill_to_call_for(self):
        proxy, (prefill,), (decode,) = self.fleet("layerwise")
        held = threading.Event()
        self.addCleanup(held.set)

        async def refuse(request, fault, reader, writer):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
            while not held.is_set():
                await asyncio.sleep(0.005)
            writer.write(b"0\r\n\r\n")
            return True

        decode._complete = refuse
        connection = proxy.open({"model": MODEL, "prompt": "a b c", "max_tokens": 5})
        read_until(connection, b"2\r\n{}\r\n")
        identity, = self.ids(decode)
        answer = proxy.ask({"request_id": f"cmpl-{identity}-0", "remote_host": "h"},
                           "/v1/metaserver")
        self.assertEqual((answer.status, prefill.completions()), (404, []))
        held.set()
        read_until(connection, b"0\r\n\r\n")
        self.wait_idle(proxy)

    def test_a_refusal_shows_nothing_about_the_engine_before(self):
        proxy, _, decoders = self.fleet("nixl", "--policy", "round-robin",
                                        "--breaker-failures", "1", decode=2)
        decoders[0].fault, decoders[1].fault = Fault(status=500), Fault(status=400)
        self.assertEqual(proxy.complete().status, 400)
        self.assertEqual([len(engine.completions()) for engine in decoders], [1, 1])
        self.assertEqual([proxy.engine(engine)["breaker"] for engine in decoders],
                         ["closed", "closed"])
        decoders[1].fault = None
        # What one of them can do and the other could not does show something.
        while len(decoders[0].completions()) == 1:
            self.assertEqual(proxy.complete().status, 200)
        self.assertEqual(proxy.engine(decoders[0])["breaker"], "open")

    # Blocks that nobody fetches.

    def stranded(self, proxy):
        return proxy.metrics()["conductor_proxy_stranded_prefills_total"]

    def test_blocks_of_a_client_that_leaves_before_decode_has_them_are_stranded(self):
        for connector in ("nixl", "ascend"):
            with self.subTest(connector):
                # A full backlog swallows connections.
                deaf = socket.socket()
                self.addCleanup(deaf.close)
                deaf.bind(("127.0.0.1", 0))
                deaf.listen(0)
                for _ in range(4):
                    filler = socket.socket()
                    filler.setblocking(False)
                    filler.connect_ex(deaf.getsockname())
                    self.addCleanup(filler.close)
                prefill = self.engine("prefill", connector)
                proxy = self.proxy("--connector", connector, "--connect-timeout", "10m",
                                   "--decoder-hosts", "127.0.0.1", "--decoder-ports",
                                   str(deaf.getsockname()[1]), prefill=[prefill])
                connection = proxy.open({"model": MODEL, "prompt": "a"})
                self.wait(lambda proxy=proxy: any(
                    entry["in_flight"] for entry in proxy.status()["engines"]
                    if entry["role"] == "decode"), "the decoder to be chosen")
                connection.close()
                self.wait_idle(proxy)
                self.assertEqual(self.stranded(proxy), 1)

    def test_blocks_of_a_client_that_leaves_while_decode_works_are_not(self):
        for connector in ("nixl", "ascend"):
            with self.subTest(connector):
                proxy, _, (decode,) = self.fleet(connector)
                decode.fault = Fault(hang=True)
                connection = proxy.open({"model": MODEL, "prompt": "a"})
                self.wait(lambda decode=decode: decode.completions(), "decode to be asked")
                connection.close()
                self.wait_idle(proxy)
                self.assertEqual(self.stranded(proxy), 0)

    def test_blocks_of_a_decoder_whose_failure_is_the_answer_are_stranded(self):
        for connector in ("nixl", "ascend"):
            with self.subTest(connector):
                proxy, _, decoders = self.fleet(connector, decode=2)
                for engine in decoders:
                    engine.fault = Fault(status=503)
                self.assertEqual(proxy.complete().status, 503)
                # They are counted when the answer is out.
                self.wait(lambda proxy=proxy: self.stranded(proxy) == 1, "blocks to be stranded")
                # The second one fetches them.
                for engine in decoders:
                    engine.fault = None
                decoders[0].fault = Fault(status=500)
                for _ in range(2):
                    self.assertEqual(proxy.complete().status, 200)
                self.assertEqual(self.stranded(proxy), 1)

    # A prefiller that fails.

    def test_a_refusal_of_the_prefiller_reaches_the_client_as_it_is(self):
        for connector in CONNECTORS:
            with self.subTest(connector):
                proxy, (prefill,), (decode,) = self.fleet(connector)
                if connector in ("mooncake", "sglang"):
                    decode.fault = Fault(hang=True)  # its blocks never come
                prefill.fault = Fault(status=400, error_body={"error": {"message": "too long"}})
                answer = proxy.complete()
                self.assertEqual((answer.status, answer.json),
                                 (400, {"error": {"message": "too long"}}))
                self.assertEqual(len(prefill.completions()), 1)
                self.wait_idle(proxy)

    def test_mooncake_with_no_prefiller_left_says_one_thing(self):
        for strict in (False, True):
            with self.subTest(strict=strict):
                proxy, (prefill,), _ = self.fleet(
                    "mooncake", "--breaker-failures", "2", "--breaker-pause", "60s",
                    *(["--prefill-required"] if strict else []))
                self.assertEqual(proxy.complete().status, 200)
                prefill.stop()
                answers = [proxy.complete() for _ in range(3)]
                self.bootstraps[0].stop()
                self.wait(lambda proxy=proxy: ": cannot connect" in proxy.log(),
                          "the bootstrap server to be missed")
                answers += [proxy.complete() for _ in range(3)]
                statuses = {answer.status for answer in answers}
                self.assertLessEqual(statuses, {502, 503} if strict else {200})

    def test_a_bootstrap_server_that_does_not_answer_keeps_no_other_waiting(self):
        prefillers = [self.engine("prefill", "mooncake", host=f"127.0.1.{number + 1}")
                      for number in range(3)]
        decode = self.engine("decode", "mooncake")
        decode.peers = prefillers
        port = 0
        for number, engine in enumerate(prefillers):
            ids = {0: engine.engine_id} if number == 2 else None
            port = self.bootstrap(ids, host=engine.host, port=port).port
        proxy = self.proxy("--connector", "mooncake", "--bootstrap-port", str(port),
                           "--connect-timeout", "10m", prefill=prefillers, decode=[decode])
        self.wait(lambda: proxy.complete().status == 200, "the one that answers to be asked")
        self.assertEqual(len(prefillers[2].completions()), len(decode.completions()))

    def test_one_whose_bootstrap_server_does_not_answer_is_not_chosen(self):
        prefillers = [self.engine("prefill", "mooncake", host=f"127.0.1.{number + 1}")
                      for number in range(3)]
        decode = self.engine("decode", "mooncake")
        decode.peers = prefillers
        port = 0
        for number, engine in enumerate(prefillers):
            ids = {0: engine.engine_id} if number > 0 else None
            port = self.bootstrap(ids, host=engine.host, port=port).port
        proxy = self.proxy("--connector", "mooncake", "--bootstrap-port", str(port),
                           "--policy", "round-robin", prefill=prefillers, decode=[decode])
        self.wait(lambda: proxy.complete().status == 200 and all(
            engine.completions() for engine in prefillers[1:]), "both to be ready")
        before = [len(engine.completions()) for engine in prefillers]
        for _ in range(8):
            self.assertEqual(proxy.complete().status, 200)
        asked = [len(engine.completions()) for engine in prefillers]
        self.assertEqual([after - one for one, after in zip(before, asked)], [0, 4, 4])
        self.assertEqual([proxy.engine(engine)["served"] for engine in prefillers], asked)

    def test_layerwise_knows_its_requests_by_ids_with_a_suffix(self):
        proxy, (prefill,), (decode,) = self.fleet("layerwise")
        decode.id_suffix = "-7f3a9c21"
        self.assertEqual(proxy.complete().status, 200)
        self.assertEqual(proxy.ask({"model": MODEL, "max_tokens": 2, "messages": [
            {"role": "user", "content": "x"}]}, "/v1/chat/completions").status, 200)
        self.assertEqual(self.ids(prefill), self.ids(decode))

    # What engines are told of whoever asks.

    def test_an_administrators_key_stays_here(self):
        proxy, _, (decode,) = self.fleet("nixl", environment={"ADMIN_API_KEY": "k"})
        more = self.engine("decode")
        body = {"type": "decode", "instances": [more.address]}
        for header in ({"X-Api-Key": "k"}, {"Authorization": "Bearer k"}):
            more.asked_for_models.clear()
            answer = proxy.ask(body, "/instances/add",
                               {**header, "Cookie": "a=b", "Accept-Encoding": "gzip"})
            self.assertEqual(answer.status, 200)
            asked, = more.asked_for_models
            for name in ("x-api-key", "authorization", "cookie"):
                self.assertNotIn(name, asked.headers)
            self.assertEqual(asked.headers["accept-encoding"], "identity")
        proxy.ask(None, "/v1/models", {"Authorization": "Bearer mine", "Accept-Encoding": "gzip"},
                  method="GET")
        asked, = decode.asked_for_models
        self.assertEqual(asked.headers["authorization"], "Bearer mine")
        self.assertEqual(asked.headers["accept-encoding"], "identity")

    def test_what_is_read_here_comes_as_it_is(self):
        proxy, (prefill,), (decode,) = self.fleet("ascend")
        proxy.complete(headers={"Accept-Encoding": "gzip"})
        for engine in (prefill, decode):
            self.assertEqual(engine.completions()[0].headers["accept-encoding"], "identity")

    def test_an_engine_that_is_added_by_its_name_is_asked_at_once(self):
        proxy, _, (decode,) = self.fleet("nixl", environment={"ADMIN_API_KEY": "k"})
        more = self.engine("decode")
        key = {"X-Api-Key": "k"}
        name = f"localhost:{more.port}"
        self.assertEqual(proxy.ask({"type": "decode", "instances": [name]}, "/instances/add",
                                   key).status, 200)
        self.assertEqual(proxy.ask({"type": "decode", "instances": [decode.address]},
                                   "/instances/remove", key).status, 200)
        for _ in range(4):  # by every thread of the proxy
            answer = proxy.complete()
            self.assertEqual((answer.status, route(answer).get("decode")), (200, name))

    # What is held.

    def test_bodies_are_held_no_longer_than_they_are_needed_and_all_of_them_count(self):
        body = {"model": MODEL, "prompt": "a" * (16 << 20), "stream": True, "max_tokens": 5}
        size = len(json.dumps(body))
        for connector in ("nixl", "ascend", "mooncake", "layerwise", "sglang"):
            with self.subTest(connector):
                # What is freed goes back to the system at once.
                proxy, (prefill,), (decode,) = self.fleet(
                    connector, environment={"MALLOC_MMAP_THRESHOLD_": "1000000"})
                before = resident(proxy)
                held = threading.Event()
                self.addCleanup(held.set)
                if connector != "ascend":
                    decode.fault = Fault(hang_after=1)
                prefill.fault = Fault(hold=held)
                connection = proxy.open(body)
                self.wait(lambda prefill=prefill: prefill.completions(), "prefill to be asked")
                self.assertGreater(proxy.metrics()["conductor_proxy_request_body_bytes"], 1.9 * size)
                prefill.fault = None
                held.set()
                if connector == "ascend":  # which is needed to the end, where it may be continued
                    read_until(connection, b"[DONE]")
                else:
                    read_until(connection, b'"n": 0')
                    if not is_sanitized():  # it keeps what was freed
                        self.assertLess(resident(proxy) - before, size / 2)
                self.wait(lambda proxy=proxy: proxy.metrics()[
                    "conductor_proxy_request_body_bytes"] == 0, "the bodies to be let go of")
                connection.close()
                self.wait_idle(proxy)

    # Everything at once.

    def test_a_storm_of_faults_leaves_nothing_behind(self):
        for connector in CONNECTORS:
            with self.subTest(connector):
                self.storm(connector, random.Random(connector))

    def storm(self, connector, dice):
        proxy, prefillers, decoders = self.fleet(
            connector, "--first-byte-timeout", "300ms", "--idle-timeout", "200ms",
            "--breaker-failures", "1000", prefill=2, decode=2)
        engines = prefillers + decoders
        faults = [None, None, {"status": 400}, {"status": 500}, {"status": 503}, {"hang": True},
                  {"die": True}, {"garbage": True}, {"die_after": 0}, {"die_after": 2},
                  {"hang_after": 1}, {"slow": 0.05}, {"gap": 0.02}]

        def client(seed):
            own = random.Random(seed)
            for _ in range(8):
                connection = proxy.open(
                    {"model": MODEL, "prompt": own.choice(["a b", ["a", "b"]]), "max_tokens": 5,
                     "stream": own.random() < 0.7}, headers="Connection: close\r\n")
                leaves = own.random()
                if leaves < 0.3:
                    connection.settimeout(leaves / 10 + 0.001)
                    try:
                        connection.recv(100)
                    except TimeoutError:
                        pass
                else:
                    read_all(connection)
                connection.close()

        clients = [threading.Thread(target=client, args=(dice.random(),)) for _ in range(12)]
        for thread in clients:
            thread.start()
        while any(thread.is_alive() for thread in clients):
            for engine in engines:
                fault = dice.choice(faults)
                engine.fault = fault and Fault(**fault)
            clients[dice.randrange(len(clients))].join(0.01)
        for engine in engines:
            engine.fault = None
        self.wait_idle(proxy)
        metrics = proxy.metrics()
        for name, value in metrics.items():
            if "in_flight" in name or "body_bytes" in name or "engine_load" in name:
                self.assertEqual(value, 0, name)
        served = sum(entry["served"] for entry in proxy.status()["engines"])
        self.assertGreater(served, 96)
        # And it goes on, within time limits that a busy machine may miss.
        self.wait(lambda: proxy.complete().status == 200, "an answer")


if __name__ == "__main__":
    unittest.main()
