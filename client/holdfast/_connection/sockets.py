"""Raw connections for ranges, which are large: bytes travel without copies. Everything else uses httpx.

The standard library's HTTP client sends a memoryview as it is and receives into memory that it is given.
"""

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from .._runtime.interruption import reraise, suppress
from .._runtime.process import Owner
from ..errors import HoldfastError, IntegrityError, ServerUnreachable

Buffer = bytes | bytearray | memoryview

CONNECT_TIMEOUT_S = 10.0
IDLE_S = 60.0  # shorter than servers keep idle connections
LARGEST_REFUSAL_BYTES = 1024 * 1024
SLOWEST_BYTES_PER_S = 64 * 1024
"""The lowest average rate of a transfer; a slower peer counts as silent."""


class Reader(Protocol):
    """The bytes of a response body."""

    def readinto(self, view: memoryview, /) -> int:
        """Put the next bytes into a view and return their number; 0 at the end."""


def read_into(reader: Reader, view: memoryview) -> bool:
    """Fill a view with the next bytes of a response; return False if it ends before."""
    filled = 0
    while filled < len(view):
        count = reader.readinto(view[filled:])
        if not count:
            return False
        filled += count
    return True


class Response(NamedTuple):
    """A response: its status, and its headers by lower-case names. A refusal has its body, a success may have none."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> "Response":
        return cls(status, body, {name.lower(): value for name, value in headers})

    @property
    def is_success(self) -> bool:
        """True for a status 2xx, except with a web page, which no Holdfast server sends to a client."""
        is_page = self.headers.get("content-type", "").lower().startswith("text/html")
        return 200 <= self.status < 300 and not is_page


class Address(NamedTuple):
    """The scheme, host and port of a connection."""

    scheme: str
    host: str
    port: int | None


def address_of(url: str) -> Address | None:
    """Return the address of a URL if a raw connection can reach it: not with a login in the URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None or "@" in parts.netloc:
        return None
    return Address(parts.scheme, parts.hostname, parts.port)


class Connections:
    """Connections that are opened when needed and kept for the next request; not shared with forked processes.

    Parameters
    ----------
    timeout_s : float
        The longest silence of a peer, in seconds.
    tls_context : callable
        Makes the TLS context when it is needed.
    """

    def __init__(self, timeout_s: float, tls_context: Callable[[], ssl.SSLContext]) -> None:
        self._timeout_s = timeout_s
        self._tls_context = tls_context
        self._guard = threading.Lock()
        self._idle: dict[Address, list[tuple[float, http.client.HTTPConnection]]] = {}
        self._busy: set[socket.socket] = set()
        self._owner = Owner()

    def send(
        self, address: Address, method: str, target: str, headers: Mapping[str, str], pieces: Iterable[Buffer]
    ) -> Response:
        """Send a request with a body in pieces, whose ``Content-Length`` is in the headers, and return the response.

        If the response comes before the end of the body, the rest is not sent.
        """
        with self._connection(address, int(headers["Content-Length"])) as connection:
            _begin(connection, method, target, headers)
            try:
                for piece in pieces:
                    connection.sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the peer may have sent a response before it closed the connection
            with closing(connection.getresponse()) as answer:
                said = answer.read(LARGEST_REFUSAL_BYTES)
                if not answer.isclosed():
                    connection.close()
                return Response.of(answer.status, said, answer.getheaders())

    @contextmanager
    def fetch(
        self, address: Address, method: str, target: str, headers: Mapping[str, str], length: int
    ) -> Iterator[tuple[Response, Reader]]:
        """Yield the response to a request: a refusal, or ``length`` bytes to read.

        Raises
        ------
        IntegrityError
            The response has another length.
        """
        with self._connection(address, length) as connection:
            _begin(connection, method, target, headers)
            with closing(connection.getresponse()) as answer:
                response = Response.of(answer.status, b"", answer.getheaders())
                if not response.is_success:
                    yield response._replace(body=answer.read(LARGEST_REFUSAL_BYTES)), answer
                elif answer.length is not None and answer.length != length:
                    path = target.partition("?")[0]  # the query of a signed link is a secret
                    raise IntegrityError(f"{path}: {answer.length} bytes arrive where {length} were requested")
                else:
                    yield response, answer
                if not answer.isclosed():
                    connection.close()

    def abort(self) -> None:
        """Make the requests that are under way fail."""
        for connected in list(self._busy):
            _shut_down(connected)

    def close(self) -> None:
        """Close the idle connections."""
        with self._guard:
            idle, self._idle = self._idle, {}
        if self._owner.is_this_process:
            for _, connection in (pair for pairs in idle.values() for pair in pairs):
                connection.close()

    @contextmanager
    def _connection(self, address: Address, length: int) -> Iterator[http.client.HTTPConnection]:
        """Yield a connection for a request that moves ``length`` bytes; it is shut down if that takes far too long."""
        connection = None
        try:
            connection = self._idle_connection(address) or self._new_connection(address)
            connected = connection.sock
            self._busy.add(connected)
            try:
                with deadline(self._timeout_s + length / SLOWEST_BYTES_PER_S, partial(_shut_down, connected)):
                    yield connection
            finally:
                self._busy.discard(connected)
        except (http.client.HTTPException, OSError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, HoldfastError):
                raise
            reraise(error)
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(f"no answer from {address.host}: {reason}") from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        if connection.sock is not None:
            with self._guard:
                self._idle.setdefault(address, []).append((time.monotonic(), connection))

    def _idle_connection(self, address: Address) -> http.client.HTTPConnection | None:
        if not self._owner.is_this_process:
            self._idle, self._owner = {}, Owner()
        while True:
            with self._guard:
                kept = self._idle.get(address)
                if not kept:
                    return None
                since, connection = kept.pop()
            if time.monotonic() - since < IDLE_S and not _is_readable(connection.sock):
                return connection
            connection.close()

    def _new_connection(self, address: Address) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        wait_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        if address.scheme == "https":
            connection = http.client.HTTPSConnection(
                address.host, address.port, timeout=wait_s, context=self._tls_context()
            )
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=wait_s)
        connection.connect()
        connection.sock.settimeout(self._timeout_s)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def deadline(seconds: float, end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` from another thread if the block takes longer."""
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # the interpreter is ending and starts no more threads
        timer.cancel()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connected: socket.socket) -> None:
    """Shut down a socket, so that a thread waiting for it fails."""
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _begin(connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str]) -> None:
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in {"Accept-Encoding": "identity", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()


def _is_readable(waiting: socket.socket) -> bool:
    """Tell if an idle connection has something to read, which means that its peer has closed it."""
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(0))
