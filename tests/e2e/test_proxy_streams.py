"""Thousands of streams through one proxy at once: every byte of each, and what they cost."""

import collections
import json
import os
import socket
import subprocess
import sys
import unittest

import daemon as process
import stream_engine
from proxy import MODEL, ProxyTest, read_until

COUNT = 2000
MOST_A_STREAM = 64 << 10  # bytes of memory
PROMPT = "token " * 700   # 4 KiB

Listening = collections.namedtuple("Listening", "address")


def resident(proxy):
    """Bytes of memory."""
    with open(f"/proc/{proxy.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def without_chunks(data):
    body = b""
    while data:
        size, data = data.split(b"\r\n", 1)
        size = int(size, 16)
        body += data[:size]
        if data[size:size + 2] != b"\r\n":
            raise AssertionError(f"no chunk's end: {data[size:size + 2]!r}")
        data = data[size + 2:]
        if size == 0:
            break
    if data:
        raise AssertionError(f"behind the end: {data!r}")
    return body


class Streams(ProxyTest):
    def stream_engine(self):
        engine = subprocess.Popen([sys.executable, stream_engine.__file__], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(engine.stdout.close)
        self.addCleanup(engine.wait)
        self.addCleanup(engine.stdin.close)  # ends it
        return engine, Listening(f"127.0.0.1:{engine.stdout.readline().strip()}")

    def test_thousands_of_streams_at_once(self):
        # The proxy has two for each.
        if not stream_engine.raise_file_limit(2 * COUNT + 100):
            self.skipTest(f"fewer than {2 * COUNT + 100} files may be open")
        engine, address = self.stream_engine()
        proxy = self.proxy(unified=[address])
        with open(process.binary(), "rb") as file:
            is_sanitized = b"__asan_init" in file.read()
        self.assertEqual(proxy.ask(None, "/v1/other", method="GET").status, 200)
        before = resident(proxy)
        connections = []
        for number in range(COUNT):
            body = json.dumps({"model": MODEL, "prompt": PROMPT, "stream": True,
                               "user": f"user-{number}"}).encode()
            connection = socket.create_connection((proxy.host, proxy.port), timeout=60)
            self.addCleanup(connection.close)
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            connections.append(connection)
        got = [read_until(connection, b"}\n\n\r\n") for connection in connections]
        # All of them are on.
        self.assertEqual(proxy.metrics()["conductor_proxy_requests_in_flight"], COUNT)
        cost = (resident(proxy) - before) / COUNT
        if not is_sanitized:  # it keeps what was freed
            self.assertLess(cost, MOST_A_STREAM)
        engine.stdin.write("go\n")
        engine.stdin.flush()
        for number, connection in enumerate(connections):
            answer = got[number]
            if not answer.endswith(b"0\r\n\r\n"):
                answer += read_until(connection, b"\r\n0\r\n\r\n")
            head, rest = answer.split(b"\r\n\r\n", 1)
            self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
            want = b"".join(stream_engine.piece(f"user-{number}", at)
                            for at in range(stream_engine.PIECES))
            self.assertEqual(without_chunks(rest), want)
        print(f"{COUNT} streams at once, {cost / 1024:.1f} KiB of memory each", file=sys.stderr)
        self.wait_idle(proxy)


if __name__ == "__main__":
    unittest.main()
