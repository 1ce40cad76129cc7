"""The proxy when engines, clients and itself are not well: what is tried again and what is not, what
the client gets, and that nothing is left behind."""

import http.client
import json
import os
import signal
import socket
import struct
import threading
import time
import unittest

import daemon as process
from pd_engine import Fault
from proxy import MODEL, ProxyTest, read_all, read_until, route

STREAM = {"model": MODEL, "prompt": "a b c", "stream": True, "max_tokens": 5}


class Failing(ProxyTest):
    def pair(self, *arguments, prefill=1, decode=1, **more):
        prefillers = [self.engine("prefill") for _ in range(prefill)]
        decoders = [self.engine("decode") for _ in range(decode)]
        return (self.proxy(*arguments, prefill=prefillers, decode=decoders, **more), prefillers,
                decoders)

    # Status, body and type of whoever refuses.

    def test_a_refusal_of_decode_reaches_the_client_as_it_is_and_is_not_tried_again(self):
        proxy, _, decoders = self.pair(decode=2)
        for status in (400, 404, 422, 429):
            for engine in decoders:
                engine.seen.clear()
                engine.fault = Fault(status=status, error_body={"error": {"message": "so long"}})
            answer = proxy.ask(STREAM)
            self.assertEqual((answer.status, answer.json), (status, {"error": {"message": "so long"}}))
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            self.assertEqual(sum(len(engine.seen) for engine in decoders), 1)

    def test_a_refusal_of_prefill_reaches_the_client_and_decode_is_not_asked(self):
        proxy, prefillers, (decode,) = self.pair(prefill=2)
        for engine in prefillers:
            engine.fault = Fault(status=400, error_body={"error": {"message": "so long"}})
        answer = proxy.ask(STREAM)
        self.assertEqual((answer.status, answer.json), (400, {"error": {"message": "so long"}}))
        self.assertEqual(sum(len(engine.seen) for engine in prefillers), 1)
        self.assertEqual(decode.seen, [])

    def test_validation_errors_trip_no_breaker(self):
        proxy, (prefill,), (decode,) = self.pair("--breaker-failures", "2")
        for status in (400, 500):  # some engines say 500 to a prompt that is too long
            decode.fault = Fault(status=status)
            for _ in range(5):
                self.assertEqual(proxy.complete().status, status)
        decode.fault = None
        self.assertEqual(proxy.complete().status, 200)
        self.assertEqual(proxy.engine(decode)["breaker"], "closed")

    def test_the_last_5xx_is_forwarded(self):
        proxy, _, decoders = self.pair(decode=2)
        for engine in decoders:
            engine.fault = Fault(status=503, error_body={"error": "busy"})
        answer = proxy.ask(STREAM)
        self.assertEqual((answer.status, answer.json), (503, {"error": "busy"}))

    def test_what_is_no_json_is_refused_as_openai_clients_read_it(self):
        proxy, (prefill,), _ = self.pair()
        answer = proxy.ask("{\"model\": ")
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.json["error"]["type"], "invalid_request_error")
        self.assertEqual(prefill.seen, [])

    # Another target.

    @staticmethod
    def patience(fault):
        """Where an engine hangs, what the others have to answer within too."""
        return ("--first-byte-timeout", "2s") if fault != "refuse" and fault.hang else ()

    def test_prefill_goes_on_at_another_engine_after_every_kind_of_failure(self):
        for fault in (Fault(status=500), Fault(status=503), Fault(die=True), Fault(garbage=True),
                      Fault(hang=True), "refuse"):
            with self.subTest(vars(fault) if fault != "refuse" else fault):
                proxy, prefillers, (decode,) = self.pair(*self.patience(fault), "--policy",
                                                         "round-robin", prefill=2)
                if fault == "refuse":
                    prefillers[0].stop()
                else:
                    prefillers[0].fault = fault
                answer = proxy.ask(STREAM)
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(route(answer)["prefill"], prefillers[1].address)
                self.assertIsNotNone(decode.completions()[0].params)
                self.wait_idle(proxy)

    def test_decode_goes_on_at_another_engine_with_the_same_params(self):
        for fault in (Fault(status=500), Fault(die=True), Fault(hang=True), Fault(die_after=0)):
            with self.subTest(vars(fault)):
                proxy, (prefill,), decoders = self.pair(*self.patience(fault), "--policy",
                                                        "round-robin", decode=2)
                decoders[0].fault = fault
                answer = proxy.ask(STREAM)
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(answer.body.count(b"data: "), 6)
                self.assertEqual(len(prefill.completions()), 1)
                first, second = (engine.completions()[0] for engine in decoders)
                self.assertEqual(first.params, second.params)
                self.wait_idle(proxy)

    def test_without_any_prefiller_decode_works_alone_or_says_502(self):
        proxy, (prefill,), (decode,) = self.pair()
        prefill.stop()
        answer = proxy.complete()
        self.assertEqual(answer.status, 200)
        self.assertIn("prefill_failed", route(answer)["fallback"])
        self.assertEqual(proxy.metrics()['conductor_proxy_fallbacks_total{reason="prefill_failed"}'],
                         1)
        strict, (prefill,), _ = self.pair("--prefill-required")
        prefill.fault = Fault(status=500)
        self.assertEqual(strict.complete().status, 502)

    def test_without_any_decoder_the_client_gets_an_error_and_the_blocks_count_as_stranded(self):
        proxy, _, (decode,) = self.pair()
        decode.stop()
        answer = proxy.complete()
        self.assertEqual(answer.status, 502)
        self.assertIn(decode.address, answer.json["error"]["message"])
        self.assertEqual(proxy.metrics()["conductor_proxy_stranded_prefills_total"], 1)

    def test_nothing_is_tried_again_once_the_client_has_got_a_byte(self):
        proxy, _, decoders = self.pair(decode=2)
        for engine in decoders:
            engine.fault = Fault(die_after=2)
        connection = proxy.open(STREAM)
        answer = read_all(connection)
        self.assertIn(b'"n": 1', answer)
        self.assertNotIn(b"[DONE]", answer)
        self.assertFalse(answer.endswith(b"0\r\n\r\n"))  # the client sees that it is not whole
        self.assertEqual(sum(len(engine.completions()) for engine in decoders), 1)

    def test_no_status_before_the_decoder_has_said_its_own(self):
        proxy, _, (decode,) = self.pair()
        held = threading.Event()
        self.addCleanup(held.set)
        decode.fault = Fault(hold=held, status=418)
        connection = proxy.open(STREAM)
        self.wait(lambda: decode.completions(), "decode to be asked")
        # Whatever was sent until now would be there before this answer.
        self.assertEqual(proxy.ask(None, "/healthcheck", method="GET").status, 200)
        connection.setblocking(False)
        with self.assertRaises(BlockingIOError):
            connection.recv(1)
        connection.setblocking(True)
        held.set()
        self.assertTrue(read_until(connection, b"\r\n").startswith(b"HTTP/1.1 418 "))

    # Time limits.

    def test_an_engine_that_does_not_answer_in_time_is_a_504(self):
        proxy, _, (decode,) = self.pair("--first-byte-timeout", "500ms")
        decode.fault = Fault(hang=True)
        self.assertEqual(proxy.complete().status, 504)
        # Which it may read later than the client does the answer.
        asked = self.wait(lambda: decode.completions(), "decode to be asked")
        self.assertTrue(asked[0].closed.wait(20))

    def test_a_stream_that_stops_is_cut(self):
        proxy, _, (decode,) = self.pair("--idle-timeout", "1s")
        decode.fault = Fault(hang_after=2)
        answer = read_all(proxy.open(STREAM))
        self.assertIn(b'"n": 1', answer)
        self.assertTrue(decode.completions()[0].closed.wait(20))

    def test_a_connection_that_is_not_made_in_time_is_given_up(self):
        # A full backlog swallows connections.
        deaf = socket.socket()
        self.addCleanup(deaf.close)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
            self.addCleanup(filler.close)
        decode = self.engine("decode")
        proxy = self.proxy("--connect-timeout", "100ms", "--prefiller-ports",
                           str(deaf.getsockname()[1]), "--prefiller-hosts", "127.0.0.1",
                           decode=[decode])
        answer = proxy.complete()
        self.assertEqual(answer.status, 200)
        self.assertIn("prefill_failed", route(answer)["fallback"])

    # The breaker.

    def trip(self, proxy, decode):
        decode.fault = Fault(status=503)
        for _ in range(2):
            self.assertEqual(proxy.complete().status, 503)

    def test_an_engine_that_fails_is_left_alone(self):
        proxy, _, (decode,) = self.pair("--breaker-failures", "2", "--breaker-pause", "1m")
        self.trip(proxy, decode)
        answer = proxy.complete()
        self.assertEqual(answer.status, 503)
        self.assertIn(int(answer.headers["Retry-After"]), range(1, 61))
        self.assertEqual(len(decode.completions()), 2)
        self.assertEqual(proxy.engine(decode)["breaker"], "open")

    def test_an_engine_that_was_left_alone_is_probed_by_one_request(self):
        proxy, _, (decode,) = self.pair("--breaker-failures", "2", "--breaker-pause", "100ms")
        self.trip(proxy, decode)
        # Half open, one request goes there; the others are still refused.
        self.wait(lambda: proxy.engine(decode)["breaker"] == "half_open", "the pause to be over")
        asked = len(decode.completions())
        held = threading.Event()
        self.addCleanup(held.set)
        decode.fault = Fault(hold=held)
        statuses = []
        threads = [threading.Thread(target=lambda: statuses.append(proxy.complete().status))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        self.wait(lambda: len(statuses) == 3, "all but the probe to be refused")
        self.wait(lambda: len(decode.completions()) > asked, "the probe to be read")
        held.set()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [503, 503, 503, 200])
        self.assertEqual(len(decode.completions()), asked + 1)
        decode.fault = None
        self.assertEqual(proxy.complete().status, 200)
        self.assertEqual(proxy.engine(decode)["breaker"], "closed")

    # The client leaves.

    def test_a_client_that_leaves_in_any_phase_ends_its_requests_at_once(self):
        for phase in ("prefill", "decode", "stream"):
            with self.subTest(phase):
                proxy, (prefill,), (decode,) = self.pair()
                if phase == "prefill":
                    prefill.fault = Fault(hang=True)
                else:
                    decode.fault = Fault(hang=True) if phase == "decode" else Fault(hang_after=1)
                busy = prefill if phase == "prefill" else decode
                connection = proxy.open(STREAM)
                self.wait(lambda: busy.completions(), "the engine to be asked")
                if phase == "stream":
                    read_until(connection, b'"n": 0')
                connection.close()
                self.assertTrue(busy.completions()[0].closed.wait(20))
                self.wait_idle(proxy)
                if phase == "prefill":
                    self.assertEqual(decode.seen, [])
                # It is counted a little later than its load is released.
                left = 'conductor_proxy_clients_left_total{path="/v1/completions"}'
                self.wait(lambda: proxy.metrics().get(left), "one to have left")
                self.assertEqual(proxy.metrics()[left], 1)

    def test_a_client_that_resets_its_connection_has_left_too(self):
        proxy, _, (decode,) = self.pair()
        decode.fault = Fault(hang_after=1)
        connection = proxy.open(STREAM)
        read_until(connection, b'"n": 0')
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        self.assertTrue(decode.completions()[0].closed.wait(20))

    # The client is slow, or sends what it should not.

    def test_a_client_that_reads_nothing_stops_the_engine_and_costs_little(self):
        proxy, _, (decode,) = self.pair("--write-timeout", "60s")
        decode.words = 400_000
        before = resident(proxy)
        connection = proxy.open({**STREAM, "max_tokens": 400_000})
        self.wait(lambda: decode.completions(), "decode to be asked")
        last = -1
        while True:  # until nothing moves any more
            relayed = proxy.metrics()["conductor_proxy_relayed_bytes_total"]
            if relayed == last and relayed > 0:
                break
            last = relayed
            time.sleep(0.1)
        self.assertFalse(decode.completions()[0].answered.is_set())
        if not is_sanitized():  # it keeps what was freed
            self.assertLess(resident(proxy) - before, 4 << 20)
        connection.close()
        self.assertTrue(decode.completions()[0].closed.wait(20))

    def test_a_client_that_takes_nothing_for_too_long_is_cut(self):
        proxy, _, (decode,) = self.pair("--write-timeout", "200ms")
        decode.words = 400_000
        connection = proxy.open({**STREAM, "max_tokens": 400_000})
        self.assertTrue(self.wait(lambda: decode.completions(), "decode")[0].closed.wait(20))
        connection.close()
        self.wait_idle(proxy)

    def test_a_request_that_does_not_come_whole_is_cut_and_others_are_served(self):
        proxy, _, _ = self.pair("--request-timeout", "200ms")
        slow = [socket.create_connection((proxy.host, proxy.port)) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        self.assertEqual(proxy.complete().status, 200)
        for connection in slow:
            connection.settimeout(20)
            self.assertEqual(connection.recv(1), b"")
            connection.close()

    def test_limits_on_head_and_body_say_what_is_wrong(self):
        proxy, _, _ = self.pair("--max-body", "1k")
        self.assertEqual(proxy.complete("a " * 2000).status, 413)
        self.assertEqual(proxy.complete(headers={"X-Large": "x" * 40000}).status, 431)
        for head, status in ((b"GARBAGE\r\n\r\n", 400),
                             (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
                             (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"
                              b"\r\n\r\n", 400),
                             (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400)):
            with socket.create_connection((proxy.host, proxy.port)) as connection:
                connection.sendall(head)
                answer = read_all(connection)
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d " % status), (head, answer))

    def test_requests_follow_each_other_on_one_connection_even_when_sent_at_once(self):
        proxy, _, (decode,) = self.pair()
        body = json.dumps({"model": MODEL, "prompt": "a", "max_tokens": 1}).encode()
        request = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                   b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        with socket.create_connection((proxy.host, proxy.port)) as connection:
            connection.sendall(request * 3 + b"GET /healthcheck HTTP/1.1\r\nConnection: close\r\n\r\n")
            answer = read_all(connection)
        self.assertEqual(answer.count(b"HTTP/1.1 200 "), 4, answer)
        self.assertEqual(len(decode.completions()), 3)
        self.assertEqual(decode.connections, 1)

    def test_a_body_that_waits_for_100_continue_gets_it(self):
        proxy, _, _ = self.pair()
        body = json.dumps({"model": MODEL, "prompt": "a", "max_tokens": 1}).encode()
        with socket.create_connection((proxy.host, proxy.port)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\n"
                               b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertTrue(read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 "))
            connection.sendall(body)
            self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 200 "))

    # Too many, and the end.

    def test_more_requests_than_may_be_in_hand_get_429(self):
        proxy, (prefill,), _ = self.pair("--max-requests", "2")
        prefill.fault = Fault(hang=True)
        connections = [proxy.open(STREAM) for _ in range(2)]
        self.wait(lambda: len(prefill.completions()) == 2, "two to be in hand")
        answer = proxy.complete()
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "1"))
        self.assertEqual(answer.json["error"]["type"], "rate_limit_exceeded")
        self.assertEqual(proxy.ask(None, "/healthcheck", method="GET").status, 200)
        for connection in connections:
            connection.close()
        self.wait_idle(proxy)
        prefill.fault = None
        self.assertEqual(proxy.complete().status, 200)

    def test_sigterm_drains(self):
        proxy, _, (decode,) = self.pair()
        decode.fault = Fault(gap=0.2)
        idle = http.client.HTTPConnection(proxy.host, proxy.port)
        self.addCleanup(idle.close)
        idle.request("GET", "/healthcheck")
        idle.getresponse().read()
        connection = proxy.open(STREAM)
        got = read_until(connection, b'"n": 0')
        proxy.process.send_signal(signal.SIGTERM)
        got += read_all(connection)
        self.assertTrue(got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), got)
        self.assertEqual(idle.sock.recv(1), b"")
        self.assertEqual(proxy.process.wait(20), 0)

    def test_a_drain_ends_when_its_time_is_over(self):
        proxy, _, (decode,) = self.pair("--drain-timeout", "100ms")
        decode.fault = Fault(hang_after=1)
        connection = proxy.open(STREAM)
        read_until(connection, b'"n": 0')
        proxy.process.send_signal(signal.SIGTERM)
        self.assertEqual(proxy.process.wait(20), 0)
        self.assertTrue(decode.completions()[0].closed.wait(20))
        connection.close()

    # Engines come and go.

    def test_engines_are_added_and_removed_with_the_admin_key(self):
        proxy, (prefill,), (decode,) = self.pair(environment={"ADMIN_API_KEY": "k"})
        more = self.engine("decode")
        body = {"type": "decode", "instances": [more.address]}
        self.assertEqual(proxy.ask(body, "/instances/add").status, 401)
        key = {"X-Api-Key": "k"}
        self.assertEqual(proxy.ask(body, "/instances/add", key).status, 200)
        self.assertEqual(proxy.ask({"type": "decode", "instances": ["127.0.0.1:1"]},
                                   "/instances/add", key).status, 400)
        self.assertEqual(proxy.ask({"type": "x", "instances": []}, "/instances/add", key).status, 400)
        # Removed, it finishes what it has.
        decode.fault = Fault(hang_after=1)
        connection = proxy.open(STREAM)
        self.wait(lambda: decode.completions() or more.completions(), "a decoder to be asked")
        busy, other = (decode, more) if decode.completions() else (more, decode)
        if busy is decode:
            read_until(connection, b'"n": 0')
        answer = proxy.ask({"type": "decode", "instances": [busy.address]}, "/instances/remove", key)
        self.assertEqual(answer.status, 200)
        for _ in range(3):
            self.assertEqual(route(proxy.complete())["decode"], other.address)
        connection.close()
        self.wait(lambda: len(proxy.status()["engines"]) == 2, "the engine to be forgotten")
        self.assertEqual(proxy.ask({"type": "decode", "instances": [busy.address]},
                                   "/instances/remove", key).status, 404)

    def test_every_engine_is_asked_to_forget_its_cache(self):
        proxy, (prefill,), (decode,) = self.pair(environment={"ADMIN_API_KEY": "k"})
        path, key = "/reset_prefix_cache?reset_connector=true", {"X-Api-Key": "k"}
        self.assertEqual(proxy.ask({}, path).status, 401)
        self.assertEqual(prefill.seen + decode.seen, [])
        answer = proxy.ask({}, path, key)
        self.assertEqual((answer.status, json.loads(answer.body)), (200, {"status": "ok", "engines": [
            {"engine": engine.address, "status": 200} for engine in (prefill, decode)]}))
        for engine in (prefill, decode):
            (request,) = engine.seen
            self.assertEqual((request.method, request.path, request.body), ("POST", path, b""))
            self.assertNotIn("x-api-key", request.headers)
        decode.fault = Fault(status=404)
        answer = proxy.ask({}, "/flush_cache", key)
        self.assertEqual((answer.status, json.loads(answer.body)["engines"][1]),
                         (502, {"engine": decode.address, "status": 404}))
        decode.fault = Fault(die=True)
        answer = proxy.ask({}, "/flush_cache", {"Authorization": "Bearer k"})
        one = json.loads(answer.body)["engines"][1]
        self.assertEqual((answer.status, one["status"]), (502, 0))
        self.assertIn(decode.address, one["error"])

    def test_without_an_admin_key_nothing_is_changed(self):
        proxy, _, (decode,) = self.pair()
        self.assertEqual(proxy.ask({"type": "decode", "instances": [decode.address]},
                                   "/instances/remove", {"X-Api-Key": ""}).status, 403)

    # What is seen.

    def test_every_request_has_a_line_in_the_access_log(self):
        proxy, (prefill,), (decode,) = self.pair("--access-log", "-")
        proxy.complete(headers={"X-Request-Id": "one"})
        proxy.ask("no", headers={"X-Request-Id": "two"})
        lines = self.wait(lambda: [json.loads(line) for line in proxy.stdout if line.startswith("{")]
                          if len(proxy.stdout) == 3 else None, lambda: f"two lines: {proxy.stdout}")
        # Lines of two threads come in any order.
        first, second = sorted(lines, key=lambda line: line["request_id"])
        self.assertEqual((first["request_id"], first["status"], first["prefill"], first["decode"],
                          first["outcome"], first["path"]),
                         ("one", 200, prefill.address, decode.address, "done", "/v1/completions"))
        self.assertGreater(first["first_byte_ms"], 0)
        self.assertEqual(first["engine_request_id"],
                         decode.completions()[0].headers["x-request-id"])
        self.assertNotIn("engine_request_id", second)
        self.assertEqual((second["request_id"], second["status"]), ("two", 400))

    # Many.

    def test_hundreds_of_streams_at_once(self):
        proxy, prefillers, decoders = self.pair(prefill=2, decode=2)
        for engine in decoders:
            engine.words = 20
            engine.fault = Fault(gap=0.02)
        count = 400
        connections = [proxy.open({**STREAM, "max_tokens": 20}) for _ in range(count)]
        for connection in connections:
            answer = read_until(connection, b"0\r\n\r\n")
            self.assertEqual(answer.count(b"data: "), 21)
            connection.close()
        self.wait_idle(proxy)
        for engines in (prefillers, decoders):
            served = [len(engine.completions()) for engine in engines]
            self.assertEqual(sum(served), count)
            self.assertLess(max(served) - min(served), count / 4, served)


def resident(proxy):
    """Bytes of memory."""
    with open(f"/proc/{proxy.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_sanitized():
    """Whether the binary was built with the address sanitizer."""
    with open(process.binary(), "rb") as file:
        return b"__asan_init" in file.read()


if __name__ == "__main__":
    unittest.main()
