"""A forwarder that counts the bytes that a server sends. It is slow: for counting, never for timing."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 256 * 1024


class CountingForwarder:
    """A forwarder to a server, as ``with CountingForwarder(server.url) as forwarder:``."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        assert target.hostname is not None
        assert target.port is not None
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        self._sent_bytes = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            for end in self._open:
                _end(end, socket.SHUT_RDWR)
                end.close()

    @property
    def sent_bytes(self) -> int:
        """The number of bytes that the server has sent through it, headers included."""
        with self._guard:
            return self._sent_bytes

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener was closed
                return
            server = socket.create_connection(self._target)
            with self._guard:
                self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, counted: bool) -> None:
        try:
            while piece := source.recv(PIECE_BYTES):
                if counted:
                    with self._guard:
                        self._sent_bytes += len(piece)
                to.sendall(piece)
        except OSError:  # one side has closed the connection, so the other is closed, too
            pass
        _end(to, socket.SHUT_WR)


def _end(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # it may have ended before
        connection.shutdown(how)
