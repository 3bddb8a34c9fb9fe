"""A socket that watches the clock: each read and write is bounded by a silence, and all of a request by a deadline."""

import encodings.idna  # noqa: F401 - imported by the first connection otherwise, and a fork may come amid that
import io
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._runtime.interruption import suppress
from .messages import Address, Buffer

if TYPE_CHECKING:
    from ssl import SSLContext

CONNECT_TIMEOUT_S = 10.0
_PORTS = {"http": 80, "https": 443}


class TimedSocket:
    """A connection to an address, with the deadline of the request that is under way.

    Parameters
    ----------
    timeout_s : float
        The longest time, in seconds, in which it is to be made; `CONNECT_TIMEOUT_S` at most.
    tls_context : callable
        Makes the TLS context, for ``https``.

    Attributes
    ----------
    is_reusable : bool
        True once a request has ended so that another one may follow.
    """

    def __init__(self, address: Address, timeout_s: float, tls_context: "Callable[[], SSLContext]") -> None:
        context = tls_context() if address.scheme == "https" else None
        port = _PORTS[address.scheme] if address.port is None else address.port
        self.socket = socket.create_connection((address.host, port), min(CONNECT_TIMEOUT_S, timeout_s))
        self.is_reusable = False
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self.socket = context.wrap_socket(self.socket, server_hostname=address.host)
        except BaseException:
            self.socket.close()
            raise
        self.begin(timeout_s, timeout_s)

    def begin(self, silence_s: float, limit_s: float) -> None:
        """Begin a request: set the longest silence of the peer and the longest time for all of it, in seconds."""
        self.is_reusable = False
        self._silence_s, self._end = silence_s, time.monotonic() + limit_s
        self._set_s: float | None = None

    def sendall(self, data: Buffer) -> None:
        """Send all of these bytes; `TimeoutError` if the peer takes none for the silence, or the deadline passes."""
        left = memoryview(data).cast("B")
        while left:
            self._watch_clock()
            left = left[self.socket.send(left) :]

    def sent_unless_answered(self, pieces: Iterable[Buffer]) -> bool:
        """Send pieces; False if the peer has closed the connection, which may have sent a response before that."""
        try:
            for piece in pieces:
                self.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def recv_into(self, view: Any) -> int:
        """Put the next bytes into a view and return their number; `TimeoutError` as `sendall`."""
        self._watch_clock()
        return self.socket.recv_into(view)

    def arriving(self) -> io.BufferedReader:
        """Return what arrives from here on as a file; to close that leaves the connection open."""
        return io.BufferedReader(_Arriving(self))

    def shut_down(self) -> None:
        """Shut the connection down, so that a thread waiting for it fails."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _watch_clock(self) -> None:
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        allowed_s = min(self._silence_s, left_s)
        if allowed_s != self._set_s:
            self.socket.settimeout(allowed_s)
            self._set_s = allowed_s


class _Arriving(io.RawIOBase):
    """The bytes that arrive over a connection."""

    def __init__(self, connection: TimedSocket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any, /) -> int:
        return self._connection.recv_into(view)
