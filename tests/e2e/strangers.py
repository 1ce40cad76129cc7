"""Peers that listen on TCP and do not speak ZeroMQ."""

import contextlib
import socket
import threading


class Stranger:
    """Accepts connections. With `greeting` it sends that and closes; without, it says nothing and
    keeps them open."""

    def __init__(self, greeting=None, host="127.0.0.1"):
        self._greeting = greeting
        self._listener = socket.create_server((host, 0))
        self.host, self.port = self._listener.getsockname()
        self.accepted = 0
        self._connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"tcp://{self.host}:{self.port}"

    def close(self):
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                if self._greeting is None:
                    self._connections.append(connection)
                    continue
                with contextlib.suppress(OSError):
                    connection.sendall(self._greeting)
                    connection.shutdown(socket.SHUT_WR)
                connection.close()
