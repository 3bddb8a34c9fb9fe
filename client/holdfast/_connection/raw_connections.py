"""Raw connections: requests over sockets of the client's own, whose bytes travel without copies.

A body is read into memory that the caller gives. Every read and write watches the clock itself, so that a request needs
no thread. It is imported when a server is first used.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._runtime.forks import Owner
from .._runtime.interruption import reraise
from ..errors import HoldfastError, IntegrityError
from .answer import Answer
from .messages import Address, Buffer, NoAnswer, Reader, Response
from .timed_socket import TimedSocket

if TYPE_CHECKING:
    from ssl import SSLContext

IDLE_S = 60.0  # shorter than servers keep idle connections
GATHERED_BYTES = 256 * 1024
LARGEST_REFUSAL_BYTES = 1024 * 1024
SLOWEST_BYTES_PER_S = 64 * 1024
"""The lowest average rate of a transfer; a slower peer counts as silent."""
_USUAL = ("Accept: */*", "Accept-Encoding: identity", "User-Agent: holdfast")


class MalformedRequest(ConnectionError):
    """A request cannot go over HTTP as it is."""


class RawConnections:
    """Connections that are opened when needed and kept for the next request; not shared with forked processes.

    Its methods raise `NoAnswer` if the connection cannot be made, or breaks.

    Parameters
    ----------
    timeout_s : float
        The longest silence of a peer, in seconds.
    tls_context : callable
        Makes the TLS context when it is needed.
    """

    def __init__(self, timeout_s: float, tls_context: "Callable[[], SSLContext]") -> None:
        self._timeout_s = timeout_s
        self._tls_context = tls_context
        self._guard = threading.Lock()
        self._idle: dict[Address, list[tuple[float, TimedSocket]]] = {}
        self._busy: set[TimedSocket] = set()
        self._owner = Owner()

    def request(
        self,
        address: Address,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes | None,
        silence_s: float,
        limit_s: float,
    ) -> Response:
        """Send a small request and return the whole response.

        Parameters
        ----------
        silence_s, limit_s : float
            The longest silence of the peer, and the longest time for all of it, in seconds.
        """
        length = {"Content-Length": str(len(content or b""))} if content is not None or method != "GET" else {}
        whole = _head(address, method, target, {**headers, **length}) + (content or b"")
        with self._connection(address, silence_s, limit_s) as connection:
            is_sent = connection.sent_unless_answered([whole])
            answer = Answer(connection.arriving())
            body = answer.read()
            connection.is_reusable = is_sent and not answer.is_last
            return answer.response._replace(body=body)

    def send(
        self, address: Address, method: str, target: str, headers: Mapping[str, str], pieces: Iterable[Buffer]
    ) -> Response:
        """Send a request with a body in pieces, whose ``Content-Length`` is in the headers, and return the response.

        If the response comes before the end of the body, the rest is not sent.
        """
        with self._connection(address, self._timeout_s, self._limit_s(int(headers["Content-Length"]))) as connection:
            is_sent = connection.sent_unless_answered(gathered(_head(address, method, target, headers), pieces))
            answer = Answer(connection.arriving())
            body = answer.read(LARGEST_REFUSAL_BYTES)
            connection.is_reusable = is_sent and answer.is_complete and not answer.is_last
            return answer.response._replace(body=body)

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
        with self._connection(address, self._timeout_s, self._limit_s(length)) as connection:
            connection.sendall(_head(address, method, target, headers))
            answer = Answer(connection.arriving())
            response = answer.response
            if not response.is_success:
                yield response._replace(body=answer.read(LARGEST_REFUSAL_BYTES)), answer
            elif answer.length is not None and answer.length != length:
                path = target.partition("?")[0]  # the query of a signed link is a secret
                raise IntegrityError(f"{path}: {answer.length} bytes arrive where {length} were requested")
            else:
                yield response, answer
            connection.is_reusable = answer.is_complete and not answer.is_last

    def abort(self) -> None:
        """Make the requests that are under way fail."""
        for connection in list(self._busy):
            connection.shut_down()

    def close(self) -> None:
        """Close the idle connections."""
        with self._guard:
            idle, self._idle = self._idle, {}
        if self._owner.is_this_process:
            for _, connection in (pair for pairs in idle.values() for pair in pairs):
                connection.close()

    def _limit_s(self, length: int) -> float:
        """Return the longest time, in seconds, for a request that moves ``length`` bytes."""
        return self._timeout_s + length / SLOWEST_BYTES_PER_S

    @contextmanager
    def _connection(self, address: Address, silence_s: float, limit_s: float) -> Iterator[TimedSocket]:
        """Yield a connection for one request; it is kept only if the request leaves it reusable.

        Parameters
        ----------
        silence_s, limit_s : float
            The longest silence of the peer, and the longest time for the whole request, in seconds.
        """
        connection = None
        try:
            connection = self._idle_connection(address)
            if connection is None:
                connection = TimedSocket(address, self._timeout_s, self._tls_context)
            connection.begin(silence_s, limit_s)
            self._busy.add(connection)
            try:
                yield connection
            finally:
                self._busy.discard(connection)
        except OSError as error:
            if connection is not None:
                connection.close()
            if isinstance(error, HoldfastError):
                raise
            reraise(error)
            raise NoAnswer(str(error) or type(error).__name__) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        if connection.is_reusable:
            with self._guard:
                self._idle.setdefault(address, []).append((time.monotonic(), connection))
        else:
            connection.close()

    def _idle_connection(self, address: Address) -> TimedSocket | None:
        if not self._owner.is_this_process:
            self._idle, self._owner = {}, Owner()
        while True:
            with self._guard:
                kept = self._idle.get(address)
                if not kept:
                    return None
                since, connection = kept.pop()
            if time.monotonic() - since < IDLE_S and not _is_readable(connection.socket):
                return connection
            connection.close()


def _head(address: Address, method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {_host(address)}", *_USUAL]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not all(map(str.isprintable, lines)):
        raise MalformedRequest("the request has a line break or another control character in its head")
    return "\r\n".join([*lines, "", ""]).encode()


def _host(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    host = host if host.isascii() else host.encode("idna").decode()
    return host if address.port is None else f"{host}:{address.port}"


def gathered(head: bytes, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield the head and the pieces of a body of a body; small ones are joined, as each would be a packet."""
    waiting = bytearray(head)
    for piece in pieces:
        if len(piece) >= GATHERED_BYTES and waiting:
            yield waiting
            waiting = bytearray()
        if len(piece) >= GATHERED_BYTES:
            yield piece
            continue
        waiting += piece
        if len(waiting) >= GATHERED_BYTES:
            yield waiting
            waiting = bytearray()
    if waiting:
        yield waiting


def _is_readable(waiting: socket.socket) -> bool:
    """Tell if an idle connection has something to read, which means that its peer has closed it."""
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(0))
