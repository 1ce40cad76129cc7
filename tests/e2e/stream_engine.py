"""A program: an engine for thousands of streams at once, on one thread.

It prints its port. Every request gets the head of a stream and the first of its pieces at once. The
others come when "go" is read from stdin, one of each stream in turn, so that all go on beside each
other. What a stream says follows from the `user` in its request: piece() makes it."""

import hashlib
import re
import resource
import selectors
import socket
import sys

PIECES = 20
HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n")


def piece(user, number):
    digest = hashlib.sha256(f"{user} {number}".encode()).hexdigest()
    return f'data: {{"user": "{user}", "n": {number}, "text": "{digest}"}}\n\n'.encode()


def raise_file_limit(needed):
    """Whether so many files may be open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most == resource.RLIM_INFINITY or most >= needed


class Stream:
    def __init__(self):
        self.asked = b""
        self.user = None


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class Engine:
    def __init__(self):
        self._ready = selectors.DefaultSelector()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._server.setblocking(False)
        self._ready.register(self._server, selectors.EVENT_READ)
        self._ready.register(sys.stdin, selectors.EVENT_READ)
        self._streams = {}
        print(self._server.getsockname()[1], flush=True)

    def run(self):
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is self._server:
                    self._accept()
                elif key.fileobj is sys.stdin:
                    if sys.stdin.readline() != "go\n":
                        return
                    self._go()
                else:
                    self._read(key.fileobj)

    def _accept(self):
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams[connection] = Stream()
        self._ready.register(connection, selectors.EVENT_READ)

    def _read(self, connection):
        stream = self._streams[connection]
        data = connection.recv(65536)
        if not data:
            self._ready.unregister(connection)
            del self._streams[connection]
            connection.close()
            return
        stream.asked += data
        head, end, body = stream.asked.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not end or len(body) < int(length[1] if length else 0):
            return
        stream.asked = b""
        if not head.startswith(b"POST "):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return
        stream.user = re.search(rb'"user": "([^"]*)"', body)[1].decode()
        connection.sendall(HEAD + chunk(piece(stream.user, 0)))

    def _go(self):
        streams = [(connection, stream) for connection, stream in self._streams.items()
                   if stream.user is not None]
        for number in range(1, PIECES):
            for connection, stream in streams:
                connection.sendall(chunk(piece(stream.user, number)))
        for connection, stream in streams:
            connection.sendall(b"0\r\n\r\n")
            stream.user = None


if __name__ == "__main__":
    raise_file_limit(0)
    Engine().run()
