"""Who may ask for what, over what: tokens and TLS, with the clients of Python's own library; and the
events that a client follows."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import daemon as process
from daemon import key, wait_until
from engine import Engine
from model import Model
from suite import BLOCK_SIZE, MODEL, EndToEndTest, prompt

READER = "reader-0123456789abcdef"
ADMIN = "admin-0123456789abcdef"


class Safety(EndToEndTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="conductor-e2e-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.tls = None

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    def tokens(self, *lines):
        return self.file("tokens", "".join(line + "\n" for line in lines))

    def certificate(self, name):
        """A certificate for 127.0.0.1 that vouches for itself, as docs/operations.md makes one."""
        cert, key_file = (os.path.join(self.folder, f"{name}.{end}") for end in ("crt", "key"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key_file, "-out", cert],
            check=True, capture_output=True, timeout=30)
        return cert, key_file

    def trust(self, cert):
        self.tls = ssl.create_default_context(cafile=cert)

    def open(self, daemon, path, body=None, token=None):
        """What urllib makes of it."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(daemon.url + path, data, headers)
        return urllib.request.urlopen(request, timeout=process.DEADLINE, context=self.tls)

    def status(self, *arguments, **more):
        try:
            with self.open(*arguments, **more) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            self.headers = error.headers
            with error:
                return error.code

    def json(self, *arguments, **more):
        with self.open(*arguments, **more) as answer:
            return json.loads(answer.read())


class Tokens(Safety):
    def test_each_may_do_what_it_is_for(self):
        daemon = self.daemon("--auth-token-file", self.tokens(f"read {READER}", f"admin {ADMIN}"))
        publisher = self.publisher()
        registration = {"endpoint": publisher.endpoint, "modelname": MODEL, "instance_id": "a",
                        "replay_endpoint": publisher.replay_endpoint, "block_size": BLOCK_SIZE}
        query = {"model": MODEL, "token_ids": prompt(1, 2)}
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.status(daemon, path), 200)
        for path, body in (("/v1/publishers", None), ("/metrics", None), ("/nowhere", None),
                           ("/v1/events", None), ("/v1/query", query),
                           ("/register", registration)):
            self.assertEqual(self.status(daemon, path, body), 401, path)
            self.assertTrue(self.headers["WWW-Authenticate"].startswith("Bearer"))
            self.assertEqual(self.status(daemon, path, body, token="no-such-token"), 401, path)
        for path, body in (("/register", registration),
                           ("/v1/publishers/a%7Cdefault%7C0/resync", {}),
                           ("/v1/publishers/a%7Cdefault%7C0/clear", {}),
                           ("/unregister", {"instance_id": "a"})):
            self.assertEqual(self.status(daemon, path, body, token=READER), 403, path)
            self.assertEqual(self.status(daemon, path, body, token=ADMIN), 200, path)
            self.assertEqual(self.status(daemon, "/v1/query", query, token=READER), 200)
        with self.open(daemon, "/metrics", token=READER) as answer:
            metrics = answer.read().decode()
        self.assertIn('conductor_http_refusals_total{reason="unauthorized"} 12', metrics)
        self.assertIn('conductor_http_refusals_total{reason="forbidden"} 4', metrics)
        for token in (READER, ADMIN):
            self.assertNotIn(token, daemon.log())

    def test_the_file_is_read_again_on_a_hangup(self):
        path = self.tokens(f"read {READER}")
        daemon = self.daemon("--auth-token-file", path)
        self.assertEqual(self.status(daemon, "/services", token=READER), 200)
        self.tokens(f"read {ADMIN}")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.status(daemon, "/services", token=READER) == 401, "new tokens")
        self.assertEqual(self.status(daemon, "/services", token=ADMIN), 200)
        self.tokens("read")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "'read' has no token" in daemon.log(), "a complaint")
        self.assertEqual(self.status(daemon, "/services", token=ADMIN), 200)
        daemon.stop()

    def test_a_file_that_cannot_be_used_is_told_at_the_start(self):
        for lines, told in (((), "has no tokens"), ((READER, f"write {READER}"), "line 2: ")):
            path = self.tokens(*lines)
            ended = process.run_to_end("serve", "--port", "0", "--auth-token-file", path)
            self.assertEqual(ended.returncode, 1)
            self.assertIn(f"{path}: {told}", ended.stderr)
            self.assertNotIn(READER, ended.stderr)

    def test_an_address_that_others_reach_is_warned_of(self):
        bare = self.daemon("--host", "0.0.0.0")
        self.assertIn("nobody is asked for a token", bare.log())
        guarded = self.daemon("--host", "0.0.0.0", "--auth-token-file", self.tokens(READER))
        self.assertNotIn("nobody is asked for a token", guarded.log())
        self.assertIn("without TLS", guarded.log())


class Tls(Safety):
    def begin(self, *arguments):
        self.cert, self.key = self.certificate("conductor")
        self.trust(self.cert)
        return self.daemon("--tls-cert", self.cert, "--tls-key", self.key, *arguments)

    def test_clients_that_trust_the_certificate_are_served(self):
        daemon = self.begin()
        self.assertEqual(daemon.scheme, "https")
        connection = http.client.HTTPSConnection(daemon.host, daemon.port, context=self.tls,
                                                 timeout=process.DEADLINE)
        self.addCleanup(connection.close)
        for _ in range(20):
            connection.request("POST", "/v1/query",
                               json.dumps({"model": MODEL, "token_ids": prompt(1, 4096)}))
            self.assertEqual(json.loads(connection.getresponse().read())["prompt_tokens"], 65536)
        with self.assertRaises(urllib.error.URLError):
            self.tls = ssl.create_default_context()
            self.open(daemon, "/healthz")

    def test_plain_http_is_no_answer_and_no_hang(self):
        daemon = self.begin()
        with socket.create_connection((daemon.host, daemon.port), timeout=process.DEADLINE) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                self.assertNotIn(b"HTTP/", plain.recv(1000))
        with self.open(daemon, "/metrics") as answer:
            self.assertIn("conductor_http_tls_failures_total 1", answer.read().decode())

    def test_a_renewed_certificate_is_read_on_a_hangup(self):
        daemon = self.begin()
        self.assertEqual(self.status(daemon, "/healthz"), 200)
        before = self.cert, self.key
        for old, new in zip(before, self.certificate("renewed")):
            os.replace(new, old)
        self.trust(self.cert)
        daemon.process.send_signal(signal.SIGHUP)

        def is_new():
            with contextlib.suppress(urllib.error.URLError):
                return self.status(daemon, "/healthz") == 200
        wait_until(is_new, "the new certificate")

    def test_files_that_do_not_fit_are_told_at_the_start(self):
        cert, key_file = self.certificate("one")
        _, other = self.certificate("another")
        for arguments, code, told in (
                (("--tls-cert", cert), 2, "--tls-cert: it is of no use without --tls-key"),
                (("--tls-key", key_file), 2, "--tls-key: it is of no use without --tls-cert"),
                (("--tls-cert", cert, "--tls-key", other), 1, "is not the key of the certificate"),
                (("--tls-cert", cert, "--tls-key", cert), 1, f"{cert}: cannot be used"),
                (("--tls-cert", cert + "x", "--tls-key", other), 1, f"{cert}x: cannot be read")):
            ended = process.run_to_end("serve", "--port", "0", *arguments)
            self.assertEqual(ended.returncode, code, arguments)
            self.assertIn(told, ended.stderr)


class Events(Safety):
    def follow(self, daemon, query="", **more):
        stream = self.open(daemon, "/v1/events" + query, **more)
        self.addCleanup(stream.close)
        self.assertEqual(stream.headers["Content-Type"], "text/event-stream")
        self.assertTrue(stream.readline().startswith(b":"))
        return stream

    def next(self, stream, *types):
        """The next event that is of one of the types."""
        while True:
            line = stream.readline()
            self.assertTrue(line, "the stream ended")
            if line.startswith(b"data: "):
                event = json.loads(line[len(b"data: "):])
                if event["type"] in types:
                    return event

    def test_what_an_engine_says_is_told_once_it_can_be_asked_for(self):
        daemon = self.daemon()
        stream = self.follow(daemon)
        publisher = self.publisher()
        engine = Engine(Model(BLOCK_SIZE), publisher, "a")
        daemon.register(publisher, "a")
        daemon.wait_for(key("a"))
        stored_before = 0
        for blocks in range(1, 6):
            engine.run(prompt(1, blocks))
            stored = self.next(stream, "stored")
            self.assertEqual((stored["publisher"], stored["instance_id"], stored["model"]),
                             (key("a"), "a", MODEL))
            self.assertEqual((stored["tier"], stored["block_size"]), ("gpu", BLOCK_SIZE))
            stored_before += stored["blocks"]
            self.assertEqual(len(stored["hashes"]), stored["blocks"])
            self.assertEqual(stored["tokens"], stored["blocks"] * BLOCK_SIZE)
            self.assertEqual(daemon.longest(MODEL, prompt(1, 8)), {"a": stored_before * BLOCK_SIZE})
        engine.reset()
        self.assertEqual(self.next(stream, "cleared")["tier"], "gpu")
        self.assertEqual(daemon.longest(MODEL, prompt(1, 8)), {})

    def test_lives_and_trust_are_told(self):
        daemon = self.daemon()
        stream = self.follow(daemon, "?type=life&type=trust&instance=a")
        publisher = self.publisher()
        daemon.register(publisher, "a")
        while self.next(stream, "trust")["state"] != "live":
            pass
        daemon.ok("POST", "/v1/publishers/a%7Cdefault%7C0/clear")
        self.next(stream, "life")
        publisher.die()
        while self.next(stream, "trust")["state"] != "stale":
            pass

    def test_who_follows_holds_up_no_stop_and_hears_the_end(self):
        cert, key_file = self.certificate("conductor")
        self.trust(cert)
        daemon = self.daemon("--tls-cert", cert, "--tls-key", key_file,
                             "--auth-token-file", self.tokens(f"read {READER}"))
        streams = [self.follow(daemon, token=READER) for _ in range(5)]
        daemon.stop()
        for stream in streams:
            self.assertEqual(stream.read().strip(), b"")


if __name__ == "__main__":
    unittest.main()
