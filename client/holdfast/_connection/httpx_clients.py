"""Requests by httpx: through proxies, and streams that do not end. It is imported only where one of these is needed."""

import io
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from socket import SHUT_RDWR, socket
from typing import Any

import httpx

from .._runtime.deadlines import deadline
from .._runtime.forks import Owner
from .._runtime.interruption import reraise, suppress
from . import certificates
from .messages import Buffer, NoAnswer, Reader, Response
from .proxies import Proxy
from .timed_socket import CONNECT_TIMEOUT_S

for _needed in ("httpcore", "certifi", "encodings.idna"):
    # httpx imports these at its first use; if the job forks during that, the child would have half of them
    with suppress(ImportError):
        import_module(_needed)

PIECE_BYTES = 1024 * 1024  # httpcore copies what remains after each partial send, so pieces must be small


class Clients:
    """Clients that are made on demand and kept, one for each proxy; not shared with forked processes.

    Its methods raise `NoAnswer` if the connection cannot be made, or breaks.
    """

    def __init__(self, timeout_s: float) -> None:
        self.sockets = Sockets()
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._made: dict[str, httpx.Client] = {}
        self._owner = Owner()

    def request(
        self,
        proxy: Proxy | None,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        content: bytes | None,
        silence_s: float,
        limit_s: float,
    ) -> Response:
        """Send a small request and return the whole response; see `RawConnections.request`."""
        with _translate_errors(), deadline(limit_s, self.sockets.abort):
            found = self._of(url, proxy).request(
                method,
                url,
                params=params,
                content=content,
                headers=headers,
                timeout=self._timeout(silence_s),
                extensions={"trace": self.sockets.notice},
            )
            return _response(found)

    def send(
        self, proxy: Proxy | None, method: str, url: str, headers: Mapping[str, str], pieces: Iterable[Buffer]
    ) -> Response:
        """Send a large body in pieces and return the response."""
        small = (bytes(part) for piece in pieces for part in _cut(memoryview(piece)))
        with _translate_errors():
            return _response(self._of(url, proxy).request(method, url, headers=headers, content=small))

    @contextmanager
    def fetch(
        self, proxy: Proxy | None, method: str, url: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[Response, Reader]]:
        """Yield the response and, unless it is a refusal, a reader of its body."""
        with _translate_errors(), self._of(url, proxy).stream(method, url, headers=headers) as streamed:
            yield _begun(streamed), io.BufferedReader(_Stream(streamed.iter_raw(PIECE_BYTES)), PIECE_BYTES)

    @contextmanager
    def lines(
        self, proxy: Proxy | None, url: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[tuple[Response, Iterator[str]]]:
        """Yield the response to a GET and the lines of its body as they arrive."""
        noticed = {"trace": self.sockets.notice}
        stream = self._of(url, proxy).stream("GET", url, params=params, headers=headers, extensions=noticed)
        with _translate_errors(), stream as streamed:
            yield _begun(streamed), streamed.iter_lines()

    def close(self) -> None:
        """Close the connections; the next request opens new ones. A forked child leaves those of its parent open."""
        if not self._owner.is_this_process:
            return
        with self._guard:
            made = list(self._made.values())
            self._made.clear()
        for client in made:
            client.close()

    def _of(self, url: str, proxy: Proxy | None) -> httpx.Client:
        """Return the client for a URL."""
        is_proxy_tls = proxy is not None and proxy.url.startswith("https:")
        is_tls = url.startswith("https:") or is_proxy_tls
        key = f"{proxy.url if proxy else ''} {is_tls}"
        with self._guard:
            if key not in self._made:
                verify = certificates.tls_context_of_request() if is_tls else certificates.no_tls_context()
                found = httpx.Proxy(proxy.url, ssl_context=verify if is_proxy_tls else None) if proxy else None
                timeout = self._timeout(self._timeout_s)
                self._made[key] = httpx.Client(timeout=timeout, verify=verify, proxy=found, trust_env=False)
            return self._made[key]

    def _timeout(self, timeout_s: float) -> httpx.Timeout:
        """Return the timeouts of a request: for the response, and for the connection."""
        return httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))


class Sockets:
    """The sockets that httpx has opened. Requests keep only `notice`, so that they do not keep a server alive."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: weakref.WeakSet[socket] = weakref.WeakSet()

    def notice(self, event: str, info: Mapping[str, Any]) -> None:
        """Collect the socket of an httpx trace event."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete", "proxy.start_tls.complete"}:
            opened = info["return_value"].get_extra_info("socket")
            if isinstance(opened, socket):
                with self._guard:
                    self._open.add(opened)

    def abort(self) -> None:
        """Shut down every open socket: no request can be matched to its socket, and one that drips must end."""
        with self._guard:
            known = list(self._open)
        for opened in known:
            with suppress(OSError):
                opened.shutdown(SHUT_RDWR)


class _Stream(io.RawIOBase):
    """The pieces of a response body as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        reraise(error)
        raise NoAnswer(str(error) or type(error).__name__) from error


def _begun(streamed: httpx.Response) -> Response:
    """Return the response without its body; a refusal with its body."""
    found = Response.of(streamed.status_code, b"", streamed.headers.items())
    if found.is_success:
        return found
    streamed.read()
    return _response(streamed)


def _response(found: httpx.Response) -> Response:
    return Response.of(found.status_code, found.content, found.headers.items())


def _cut(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))
