"""HTTP as clients and engines should not speak it, and what the proxy makes of it: nobody's mistake
costs anybody else's request."""

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import unittest

from pd_engine import Fault
from proxy import MODEL, ProxyTest, read_all, read_until
from raw_engine import RawEngine, answer, read_head, read_request

STREAM = {"model": MODEL, "prompt": "a b c", "stream": True, "max_tokens": 5}
DEEP = b"[" * 200_000 + b"]" * 200_000
KEY = {"X-Api-Key": "k"}


def refuses(proxy):
    try:
        socket.create_connection((proxy.host, proxy.port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


class Http(ProxyTest):
    def raw(self, serve):
        started = RawEngine(serve)
        self.addCleanup(started.stop)
        return started

    def connect(self, proxy):
        connection = socket.create_connection((proxy.host, proxy.port), timeout=20)
        self.addCleanup(connection.close)
        return connection

    # JSON.

    def test_json_of_any_depth_costs_only_its_own_request(self):
        models = b'{"object": "list", "data": [{"id": "deep", "x": ' + DEEP + b'}]}'

        def serve(connection):
            while read_request(connection):
                connection.sendall(answer("200 OK", models))

        good = self.engine("both")
        proxy = self.proxy(unified=[self.raw(serve), good], environment={"ADMIN_API_KEY": "k"})
        listed = proxy.ask(None, "/v1/models", method="GET")
        self.assertEqual([model["id"] for model in listed.json["data"]], [MODEL])
        for path in ("/v1/completions", "/instances/add", "/instances/remove", "/v1/metaserver"):
            for body in (b'{"prompt": ' + DEEP + b"}", DEEP, b'{"type": "unified", "instances": '
                         + DEEP + b"}", b"{" + b",".join([b'"":0'] * 2000) + b"}"):
                self.assertEqual(proxy.ask(body, path, KEY).status, 400, path)
        self.assertEqual(proxy.complete().status, 200)

    def test_models_are_listed_as_their_engines_wrote_them(self):
        first = b'{"id": "a", "n": 1.50, "big": 12345678901234567890123}'

        def serve(connection):
            while read_request(connection):
                connection.sendall(answer("200 OK", b'{"data": [' + first + b', {"id": "b"}, 7]}'))

        proxy = self.proxy(unified=[self.raw(serve)])
        listed = proxy.ask(None, "/v1/models", method="GET")
        self.assertEqual(listed.body, b'{"object": "list", "data": [' + first + b', {"id": "b"}]}')

    # Framing.

    def test_no_request_hides_in_another(self):
        engine = self.engine("both")
        proxy = self.proxy(unified=[engine])
        hidden = b"GET /v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
        chunks = b"0\r\n\r\n" + hidden
        for fields, body in (
                (b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", chunks),
                (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks),
                (b"Transfer-Encoding : chunked\r\n", chunks),
                (b"Transfer-Encoding:\r\n chunked\r\n", chunks),
                (b"Transfer-Encoding: xchunked\r\n", chunks),
                (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", chunks),
                (b"Content-Length: 5\r\nContent-Length: 0\r\n", hidden),
                (b"Content-Length: 0, 5\r\n", hidden),
                (b"Content-Length: +0\r\n", hidden),
                (b"X: y\nTransfer-Encoding: chunked\r\n", chunks),
                (b"X: y\x00\r\nContent-Length: 0\r\n", hidden),
                (b"Transfer-Encoding: chunked\r\n", b"1 junk\r\na\r\n" + chunks),
                (b"Transfer-Encoding: chunked\r\n", b"1\na\r\n" + chunks),
                (b"Transfer-Encoding: chunked\r\n", b"1\r\na\n" + chunks),
                (b"Transfer-Encoding: chunked\r\n", b"1;a\nb\r\na\r\n" + chunks),
                (b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\n\r\n" + hidden)):
            connection = self.connect(proxy)
            connection.sendall(b"POST /v1/shown HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + body)
            got = read_all(connection)
            self.assertRegex(got, rb"\AHTTP/1\.1 (400|501) ", fields + body)
            self.assertEqual(got.count(b"HTTP/1.1 "), 1, fields + body)
        self.assertEqual(engine.seen, [])

    def test_what_cannot_be_read_behind_a_head_request_has_its_whole_answer(self):
        proxy = self.proxy(unified=[self.engine("both")])
        connection = self.connect(proxy)
        connection.sendall(b"HEAD /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(read_until(connection, b"\r\n\r\n").endswith(b"\r\n\r\n"))
        connection.sendall(b"GARBAGE\r\n\r\n")
        head, body = read_all(connection).split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"HTTP/1.1 400 "), head)
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head)
        self.assertEqual(json.loads(body)["error"]["type"], "invalid_request_error")

    def test_a_path_that_goes_up_reaches_no_engine(self):
        engine = self.engine("both")
        proxy = self.proxy(unified=[engine])
        for path in ("/v1/../reset", "/v1/a/%2e%2E/%2e./reset", "/v1/./a", "/v1/..", "/v1/..\\a"):
            self.assertEqual(proxy.ask(None, path, method="GET").status, 404, path)
        self.assertEqual(engine.seen, [])
        proxy.ask(None, "/v1/a..b/...", method="GET")
        self.assertEqual([request.path for request in engine.seen], ["/v1/a..b/..."])

    def test_a_whole_url_is_asked_for_as_its_path(self):
        engine = self.engine("both")
        proxy = self.proxy(unified=[engine])
        for url in ("http://proxy.example/v1/models", "http://proxy.example:80/healthcheck?a=b"):
            connection = self.connect(proxy)
            connection.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            self.assertRegex(read_all(connection), rb"\AHTTP/1\.1 200 ")

    # Engines that speak early, or break off.

    def test_a_refusal_before_the_whole_body_is_the_clients_answer(self):
        body = b'{"error": {"message": "too large"}}'

        def serve(connection):
            read_head(connection)
            connection.sendall(answer("413 Content Too Large", body))

        engine = self.raw(serve)
        proxy = self.proxy("--breaker-failures", "1", unified=[engine])
        for _ in range(3):
            got = proxy.complete("x" * (16 << 20))
            self.assertEqual((got.status, got.body), (413, body))
        self.assertEqual(proxy.engine(engine)["breaker"], "closed")

    def test_an_old_client_sees_that_an_answer_broke_off(self):
        engine = self.engine("both")
        engine.fault = Fault(die_after=2)
        proxy = self.proxy(unified=[engine])
        connection = self.connect(proxy)
        body = json.dumps(STREAM).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
                           + body)
        with self.assertRaises(ConnectionResetError):
            while connection.recv(65536):
                pass
        engine.fault = None
        connection = self.connect(proxy)
        connection.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
                           + body)
        got = b""
        while piece := connection.recv(65536):  # to its end
            got += piece
        self.assertTrue(got.endswith(b"data: [DONE]\n\n"))

    def test_an_answer_that_breaks_off_before_the_client_got_anything_is_an_error(self):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        for connector, path, body in (
                ("ascend", "/v1/completions", {"model": MODEL, "prompt": "a b", "max_tokens": 3}),
                ("sglang", "/generate", {"text": "a b", "return_logprob": True})):
            for rest in (b"Content-Length: 100\r\n\r\n{\"text\": ",
                         b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"):
                with self.subTest(connector, rest=rest):
                    asked = []

                    def serve(connection, rest=rest, asked=asked):
                        asked.append(read_request(connection))
                        connection.sendall(head + rest)

                    prefill = self.engine("prefill", connector)
                    proxy = self.proxy("--connector", connector, prefill=[prefill],
                                       decode=[self.raw(serve), self.raw(serve)])
                    got = proxy.ask(body, path)
                    self.assertEqual((got.status, got.json["error"]["type"]), (502, "decode_failed"))
                    # The one that broke off has fetched the blocks.
                    self.assertEqual(len(asked), 1)
                    self.wait_idle(proxy)
                    self.wait(lambda proxy=proxy: proxy.metrics()[
                        "conductor_proxy_request_body_bytes"] == 0, "the bodies to be let go of")
                    self.assertEqual(
                        proxy.metrics()["conductor_proxy_stranded_prefills_total"], 0)

    # Clients that leave, and engines that do.

    def test_a_client_that_sent_much_ahead_is_watched_still(self):
        engine = self.engine("both")
        engine.fault = Fault(hang=True)
        proxy = self.proxy(unified=[engine])
        connection = proxy.open(STREAM)
        self.wait(lambda: engine.completions(), "the engine to be asked")
        ahead = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n" * 4000
        connection.sendall(ahead)
        self.assertFalse(engine.completions()[0].closed.wait(0.3))
        connection.close()
        self.assertTrue(engine.completions()[0].closed.wait(20))
        self.wait_idle(proxy)

    def test_connections_to_an_engine_that_was_removed_are_closed(self):
        closed = threading.Event()

        def serve(connection):
            while read_request(connection):
                connection.sendall(answer("200 OK", b"{}"))
            closed.set()

        engine = self.raw(serve)
        proxy = self.proxy(unified=[engine], environment={"ADMIN_API_KEY": "k"})
        self.assertEqual(proxy.complete().status, 200)
        self.assertFalse(closed.wait(0.2))
        body = {"type": "unified", "instances": [engine.address]}
        self.assertEqual(proxy.ask(body, "/instances/remove", KEY).status, 200)
        self.assertTrue(closed.wait(20))

    def test_a_body_that_was_only_announced_keeps_nobody_out(self):
        engine = self.engine("both")
        proxy = self.proxy("--max-inflight-bytes", "1m", unified=[engine])
        for _ in range(3):
            self.connect(proxy).sendall(b"POST /v1/completions HTTP/1.1\r\n"
                                        b"Content-Length: 1000000\r\n\r\n{")
        self.wait(lambda: proxy.metrics()["conductor_proxy_request_body_bytes"] == 3,
                  "the bodies to begin")
        self.assertEqual(proxy.complete("a " * 1000).status, 200)
        refused = proxy.complete("a " * 600_000)
        self.assertEqual((refused.status, refused.headers["Retry-After"]), (503, "1"))

    # The end.

    def test_a_request_on_its_way_at_sigterm_is_answered(self):
        engine = self.engine("both")
        proxy = self.proxy(unified=[engine])
        idle, probe = self.connect(proxy), self.connect(proxy)
        probe.sendall(b"GET /healthcheck HTTP/1.1\r\n")
        body = json.dumps(STREAM).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        in_head, in_body = self.connect(proxy), self.connect(proxy)
        in_head.sendall(head[:10])
        in_body.sendall(head + body[:10])
        self.wait(lambda: proxy.metrics()["conductor_proxy_request_body_bytes"] == 10,
                  "the body to begin")
        proxy.process.send_signal(signal.SIGTERM)
        self.assertEqual(idle.recv(1), b"")
        probe.sendall(b"\r\n")
        got = read_all(probe)
        self.assertTrue(got.startswith(b"HTTP/1.1 503 "), got)
        self.assertIn(b'"draining"', got)
        # Others find nobody there.
        self.wait(lambda: refuses(proxy), "no connection to be taken")
        in_head.sendall(head[10:] + body)
        in_body.sendall(body[10:])
        for connection in (in_head, in_body):
            got = read_all(connection)
            self.assertIn(b"Connection: close", got)
            self.assertTrue(got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))
        self.assertEqual(proxy.process.wait(20), 0)

    # The access log.

    def test_what_is_refused_has_its_line(self):
        engine = self.engine("both")
        engine.fault = Fault(hang=True)
        proxy = self.proxy("--access-log", "-", "--max-body", "1k", "--max-requests", "1",
                           "--request-timeout", "1s", unified=[engine])
        held = proxy.open(STREAM)
        self.wait(lambda: engine.completions(), "the engine to be asked")
        lines = lambda: [json.loads(line) for line in list(proxy.stdout) if line.startswith("{")]
        post = b"POST /v1/completions HTTP/1.1\r\nX-Request-Id: %b\r\n"
        for number, rest in ((b"large", b"Content-Length: 5000\r\n\r\n"),
                             (b"bad", b"Content-Length: x\r\n\r\n"),
                             (b"chunks", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
                             (b"full", b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"),
                             (b"slow", b"Content-Length: 5\r\n\r\n{"),
                             (b"left", None)):
            connection = self.connect(proxy)
            if rest is None:
                # The line of a request that came too slowly is written once its connection is closed.
                self.wait(lambda: len(lines()) == 5, lambda: f"five lines: {proxy.stdout}")
                connection.sendall(post % number)
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(post % number + rest)
            read_all(connection)
            connection.close()
        self.wait(lambda: len(lines()) == 6, lambda: f"six lines: {proxy.stdout}")
        lines = lines()
        held.close()
        self.assertEqual([(line["status"], line["outcome"], line["path"]) for line in lines],
                         [(413, "refused", "/v1/completions"), (400, "refused", ""),
                          (400, "refused", "/v1/completions"), (429, "refused", "/v1/completions"),
                          (0, "request_timeout", "/v1/completions"), (0, "client_left", "")])
        by_id = [line["request_id"] for line in lines]
        self.assertEqual([by_id[at] for at in (0, 2, 3, 4)], ["large", "chunks", "full", "slow"])

    def test_a_log_that_nobody_reads_stops_no_request(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "pipe")
        os.mkfifo(path)
        self.addCleanup(os.close, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        engine = self.engine("both")
        proxy = self.proxy("--access-log", path, unified=[engine])
        long = "/" + "x" * 30000
        # More than what waits, what is being written, and what the pipe takes.
        for _ in range(320):
            self.assertEqual(proxy.ask(None, long, method="GET").status, 404)
        self.assertEqual(proxy.complete().status, 200)
        lost = proxy.metrics()["conductor_proxy_access_log_lost_lines_total"]
        self.assertGreater(lost, 0)
        proxy.process.send_signal(signal.SIGTERM)
        self.assertEqual(proxy.process.wait(20), 0)


if __name__ == "__main__":
    unittest.main()
