"""An engine that does with each of its connections what a test says, byte by byte; and requests read
off a socket as they were sent."""

import contextlib
import socket
import threading

HOST = "127.0.0.1"


class RawEngine:
    """`serve(connection)` is called for each connection on a thread of its own; behind it the
    connection is closed."""

    def __init__(self, serve):
        self._serve = serve
        self._server = socket.create_server((HOST, 0), backlog=256)
        self.port = self._server.getsockname()[1]
        self.host = HOST
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    def stop(self):
        # A thread that accepts is woken up by this, and not by close().
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        with contextlib.suppress(OSError), connection:
            self._serve(connection)


def read_head(connection):
    """The head of a request and what came of its body; nothing when the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    return head, body


def read_request(connection):
    """The head and the whole body, whose length the head tells."""
    read = read_head(connection)
    if read is None:
        return None
    head, body = read
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def answer(status, body, kind="application/json"):
    return (f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            .encode() + body)
