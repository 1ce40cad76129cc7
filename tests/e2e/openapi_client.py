"""Asks one daemon as its clients may, and holds every answer against docs/openapi.json."""

import contextlib
import http.client
import json
import socket
import threading

import msgpack

from daemon import DEADLINE, wait_until
from openapi import JSON, MSGPACK, OpenApi, path_of

API = OpenApi()


class Client:
    """`shown` is told of every answer. Routes are as the file has them, and `name` stands for their
    {id}."""

    def __init__(self, test, daemon, shown):
        self._test = test
        self.daemon = daemon
        self._shown = shown
        self._connection = None
        self._marks = 0

    def ask(self, method, route, body=None, expect=200, again=None, **more):
        """The answer as a value, of JSON. Asked in MessagePack too where the route speaks it, which
        then has the status `again` if that is another one."""
        answer = self.send(method, route, body, JSON, expect, **more)
        pointer = API.response(method, route, expect)[1]
        if MSGPACK in API.at(pointer)[1].get("content", {}):
            self.send(method, route, body, MSGPACK, again or expect, **more)
        return answer

    def send(self, method, route, body=None, form=JSON, expect=200, name=None, query="",
             token=None, accept=None):
        """One request, whose answer is what `accept` or else `form` says, with that status."""
        path = path_of(route, name or "") + query
        headers = {"Accept": accept or form, "Content-Type": form}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        status, headers, data = self.exchange(method, path, bytes_of(method, route, body, form),
                                              headers)
        about = f"{method} {path} {form} {str(body)[:300]}: {status} {data[:500]!r}"
        self._test.assertEqual(status, expect, about)
        return self.judge(method, route, status, headers, data, about)

    def exchange(self, method, path, data, headers):
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.daemon.host, self.daemon.port,
                                                          timeout=DEADLINE)
            self._test.addCleanup(self._connection.close)
        self._connection.request(method, path, data, headers)
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()

    def judge(self, method, route, status, headers, data, about=""):
        """The answer's value. The file must know it, and its status for this route."""
        known, pointer = API.response(method, route, status)
        self._test.assertIsNotNone(pointer, f"a status that the file does not have: {about}")
        self._shown.status(method, route, known)
        response = API.at(pointer)[1]
        for name, header in response.get("headers", {}).items():
            if header.get("required"):
                self._test.assertIn(name, headers, about)
        if "content" not in response:
            self._test.assertEqual(data, b"", about)
            return None
        media = headers["Content-Type"].partition(";")[0]
        self._test.assertIn(media, response["content"], about)
        value = {JSON: json.loads, MSGPACK: msgpack.unpackb}.get(media, bytes.decode)(data)
        schema = API.below(pointer, "content", media, "schema")
        self._test.assertEqual(API.errors(schema, value), [], about)
        self._shown.add(schema, value)
        return value

    def raw(self, method, route, head=(), version="HTTP/1.1", body=b"", name="x", end=b"\r\n"):
        """Whatever a client may send, on a connection of its own."""
        with self.connect() as connection:
            lines = [f"{method} {path_of(route, name)} {version}", "Host: x", *head]
            with contextlib.suppress(ConnectionError):
                connection.sendall("".join(f"{line}\r\n" for line in lines).encode() + end + body)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            data = response.read()
        return self.judge(method, route, response.status, response.headers, data,
                          f"{method} {route} {head} {version}: {response.status} {data[:300]!r}")

    def connect(self):
        return socket.create_connection((self.daemon.host, self.daemon.port), timeout=DEADLINE)

    def follow(self, query=""):
        """All events from now on."""
        connection = self.connect()
        connection.sendall(f"GET /v1/events{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        self._test.assertEqual((response.status, response.headers["Content-Type"]),
                               (200, "text/event-stream"))
        self._shown.status("GET", "/v1/events", "200")
        response.readline()  # all that follows is told
        stream = Followed(connection, response)
        self._test.addCleanup(stream.end)
        return stream

    def judge_events(self, stream):
        """All that was told until now is as the file says."""
        self._marks += 1
        last = f"mark-{self._marks}"
        self.send("POST", "/v1/ingest", {
            "publisher": {"instance_id": last, "modelname": "demo"}, "incarnation": "run-1",
            "events": [{"sequence": 0, "type": "cleared"}]})
        stream.wait_for(lambda event: event.get("instance_id") == last, "the last event")
        schema = "/paths/~1v1~1events/get/responses/200/content/text~1event-stream/x-item-schema"
        for event in list(stream.events):
            self._test.assertEqual(API.errors(schema, event), [], event)
            self._shown.add(schema, event)


class Followed:
    """What comes on a connection, read by a thread: `events` grows."""

    def __init__(self, connection, response):
        self.events = []
        self._connection = connection
        self._thread = threading.Thread(target=self._read, args=(response,), daemon=True)
        self._thread.start()

    def _read(self, response):
        with response, contextlib.suppress(OSError):
            for line in iter(response.readline, b""):
                if line.startswith(b"data: "):
                    self.events.append(json.loads(line[len(b"data: "):]))

    def wait_for(self, check, what):
        return wait_until(lambda: any(check(event) for event in list(self.events)), what)

    def end(self):
        with self._connection, contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


def bytes_of(method, route, body, form):
    """The body as it is sent; bytes are taken for that."""
    if body is None or isinstance(body, bytes):
        return body
    if form == JSON:
        return json.dumps(body).encode()
    schema = API.request(method, route)
    return msgpack.packb(API.packed(schema, body) if API.holds(schema, body) else body)
