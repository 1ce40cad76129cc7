"""Starts the real `conductor proxy` beside simulated engines, and asks it as clients do."""

import contextlib
import http.client
import json
import socket

import daemon as process
from pd_engine import Bootstrap, Loop, PdEngine
from suite import EndToEndTest

MODEL = "test-model"
LONG = 30


class Proxy(process.Daemon):
    SUBCOMMAND = "proxy"

    def __init__(self, *arguments, **more):
        self.opened = []
        super().__init__(*arguments, **more)

    def kill(self):
        for connection in self.opened:
            connection.close()
        super().kill()

    def ask(self, body, path="/v1/completions", headers=None, method="POST"):
        """One request on a connection of its own, answered whole."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=process.DEADLINE)
        try:
            data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json",
                                                    **(headers or {})})
            response = connection.getresponse()
            return process.Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def complete(self, prompt="a b c", **more):
        return self.ask({"model": MODEL, "prompt": prompt, "max_tokens": 5,
                         **{key: value for key, value in more.items() if key != "headers"}},
                        headers=more.get("headers"))

    def open(self, body, path="/v1/completions", headers=""):
        """A socket on which the request was sent; closed with the proxy at the latest."""
        connection = socket.create_connection((self.host, self.port), timeout=process.DEADLINE)
        self.opened.append(connection)
        data = json.dumps(body).encode()
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           f"{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return connection

    def status(self):
        return self.ask(None, "/status", method="GET").json

    def engine(self, engine, role=None):
        return next(entry for entry in self.status()["engines"]
                    if entry["engine"] == engine.address and role in (None, entry["role"]))


def route(answer):
    """X-Conductor-Route as a dictionary."""
    text = answer.headers["X-Conductor-Route"]
    return dict(part.split("=", 1) for part in text.split("; "))


class ProxyTest(EndToEndTest):
    def setUp(self):
        self.loop = Loop()
        self.addCleanup(self.loop.close)

    def engine(self, kind, connector="nixl", **more):
        started = PdEngine(self.loop, kind, connector, **more)
        self.addCleanup(self._check_engine, started)
        self.addCleanup(started.stop)
        return started

    def _check_engine(self, engine):
        self.assertEqual(engine.problems, [])

    def bootstrap(self, ids, **more):
        started = Bootstrap(self.loop, ids, **more)
        self.addCleanup(started.stop)
        return started

    def proxy(self, *arguments, prefill=(), decode=(), unified=(), **more):
        words = list(arguments)
        if prefill:
            words += ["--prefiller-hosts", *(engine.host for engine in prefill),
                      "--prefiller-ports", *(str(engine.port) for engine in prefill)]
        if decode:
            words += ["--decoder-hosts", *(engine.host for engine in decode),
                      "--decoder-ports", *(str(engine.port) for engine in decode)]
        if unified:
            words += ["--engine-endpoints", *(engine.address for engine in unified)]
        started = Proxy(*words, **more)
        self.addCleanup(started.kill)
        self.addCleanup(self._show_log, started)
        return started

    def wait(self, check, what, seconds=LONG):
        return process.wait_until(check, what, seconds)

    def wait_idle(self, proxy):
        """Until no engine has anything in hand: all load was released."""
        self.wait(lambda: all(entry["in_flight"] == 0 and entry["load"] == 0
                              for entry in proxy.status()["engines"]),
                  lambda: f"all load to be released: {proxy.status()}")


def read_all(connection):
    """Until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while True:
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
    return data


def read_until(connection, mark):
    data = b""
    while mark not in data:
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"closed before {mark!r}: {data!r}")
        data += piece
    return data
