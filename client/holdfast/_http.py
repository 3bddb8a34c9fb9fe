"""One server over HTTP: the only place that knows httpx."""

import io
import json
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import httpx

from . import _digests
from ._retry import PATIENCE_S, READERS_PATIENCE, Outage, Patience, passes
from ._sockets import CONNECT_TIMEOUT_S, Answer, Buffer, Connections, Reader, address_of, deadline
from ._wire import Range
from .errors import HoldfastError, ServerUnreachable, from_problem

for _needed in ("httpcore", "certifi", "encodings.idna"):
    # httpx imports these when it is first used: by a thread, maybe, while the job forks, whose child has half of them
    with suppress(ImportError):
        import_module(_needed)

DEFAULT_URL = "http://127.0.0.1:8420"
TIMEOUT_S = 30.0
"""How long, in seconds, a server may be silent."""
PIECE_BYTES = 1024 * 1024  # httpcore copies what remains after each partial send, so pieces must be small


class Server:
    """A Holdfast server. Sends nothing before the first request; connections are not shared with forked processes.

    Parameters
    ----------
    url : str, optional
        Where it is; ``HOLDFAST_URL`` by default, else ``http://127.0.0.1:8420``.
    token : str, optional
        The bearer token; ``HOLDFAST_TOKEN`` by default.
    timeout_s : float
        How long, in seconds, the server may be silent before it counts as unreachable.
    patience_s : float
        How long, in seconds, to go on trying a server that is unreachable.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._base = (url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL).rstrip("/")
        self.url = _without_login(self._base)
        _refuse_no_url(self._base, self.url)
        self.token = token or os.environ.get("HOLDFAST_TOKEN") or None
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._process = os.getpid()
        self._sockets = _Sockets()
        self._guard = threading.Lock()
        self._client: httpx.Client | None = None
        self._connections = Connections(timeout_s, _trust)
        _when_gone(self, self._connections.close)
        # Made here and not by the thread of a save: a child that the job forks meanwhile would hang in OpenSSL.
        with suppress(ServerUnreachable):  # which is said when it is asked for something
            _trust()

    @property
    def outage(self) -> Outage:
        """What this process knows of the server's absence."""
        return Outage.of(self.url)

    def again(self) -> "Server":
        """The same server, over connections of its own."""
        return Server(self._base, self.token, self.timeout_s, self.patience_s)

    def ask(
        self, path: str, *, params: Mapping[str, Any] | None = None, patience_s: float | None = None
    ) -> dict[str, Any]:
        """A question, whose answer is JSON; asked again for a while where the server is away.

        Parameters
        ----------
        patience_s : float, optional
            For how many seconds. Default: longer than a save would try, but during a known outage not at all.
        """
        if patience_s is None:
            patience_s = 0.0 if self.outage.is_on else READERS_PATIENCE * self.patience_s
        patience = Patience(patience_s)
        while True:
            try:
                return self.call("GET", path, params=params)
            except HoldfastError as error:
                if not passes(error):
                    raise
                patience.wait(error)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        longer_s: float = 0.0,
    ) -> dict[str, Any]:
        """A request with JSON both ways, made once. The answer may take so many seconds longer than others.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke.
        HoldfastError
            The server refused; see `holdfast.errors`.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        content, described = _written(body)
        timeout_s = self.timeout_s + longer_s
        timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, self.timeout_s))
        with self._translated(), deadline(timeout_s, self._sockets.cut):
            answer = self._http().request(
                method,
                path,
                params=given,
                content=content,
                headers={**self._headers(self._base), **described},
                timeout=timeout,
                extensions={"trace": self._sockets.notice},
            )
        _refuse_altered(answer)
        _refuse(_refusal(answer))
        return _parsed(answer)

    def send(self, wanted: Range, pieces: Iterable[Buffer]) -> None:
        """Send the raw bytes of a range, in pieces, where the server wants them.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke.
        HoldfastError
            The server refused.
        """
        self._own()
        url = self._base + wanted.url if wanted.url.startswith("/") else wanted.url
        headers = {
            **self._headers(url),
            **wanted.headers,
            "Content-Length": str(wanted.length),
            "Content-Type": "application/octet-stream",
        }
        address = address_of(url)
        if address is not None:
            answer = self._connections.send(address, wanted.method, _target(url), headers, pieces)
        else:
            small = (bytes(part) for piece in pieces for part in _cut(memoryview(piece)))
            with self._translated():
                found = self._http().request(wanted.method, url, headers=headers, content=small)
            answer = _refusal(found)
        _refuse(answer)

    @contextmanager
    def fetch(self, wanted: Range) -> Iterator[Reader]:
        """The raw bytes of a range, to be read as they come.

        Raises
        ------
        IntegrityError
            There are more or fewer than were asked for.
        ServerUnreachable
            The connection could not be made, or broke.
        """
        self._own()
        url = self._base + wanted.url if wanted.url.startswith("/") else wanted.url
        headers = {**self._headers(url), **wanted.headers}
        address = address_of(url)
        if address is not None:
            with self._connections.fetch(address, wanted.method, _target(url), headers, wanted.length) as (
                answer,
                reader,
            ):
                _refuse(answer)
                yield reader
            return
        with self._translated(), self._http().stream(wanted.method, url, headers=headers) as found:
            if found.is_error:
                found.read()
                _refuse(_refusal(found))
            yield io.BufferedReader(_Stream(found.iter_raw(PIECE_BYTES)), PIECE_BYTES)

    @contextmanager
    def listen(self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        """The lines of an answer that goes on, as they come.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, broke, or was silent for ``timeout_s``.
        HoldfastError
            The server refused.
        """
        ours = {**self._headers(self._base), **headers}
        noticed = {"trace": self._sockets.notice}
        stream = self._http().stream("GET", path, params=params, headers=ours, extensions=noticed)
        with self._translated(), stream as found:
            if found.is_error:
                found.read()
                _refuse(_refusal(found))
            yield found.iter_lines()

    def cut(self) -> None:
        """Let every request that is under way fail."""
        self._sockets.cut()
        self._connections.cut()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._own()
        self._connections.close()
        with self._guard:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _own(self) -> None:
        """In a forked child the connections are the parent's, and a lock may be held by a thread that is not there."""
        if self._process != os.getpid():
            self._process, self._guard, self._client = os.getpid(), threading.Lock(), None
            self._sockets = _Sockets()
            self._connections = Connections(self.timeout_s, _trust)
            _when_gone(self, self._connections.close)

    def _headers(self, url: str) -> dict[str, str]:
        """Who we are, for our own server only: a range may lead elsewhere."""
        ours = urlsplit(url)[:2] == urlsplit(self._base)[:2]
        return {"Authorization": f"Bearer {self.token}"} if self.token and ours else {}

    def _http(self) -> httpx.Client:
        self._own()
        with self._guard:
            if self._client is None:
                timeout = httpx.Timeout(self.timeout_s, connect=min(CONNECT_TIMEOUT_S, self.timeout_s))
                self._client = httpx.Client(base_url=self._base, timeout=timeout, verify=_trust())
                _when_gone(self, self._client.close)
            return self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError) as error:
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(f"no answer from the Holdfast server at {self.url}: {reason}") from error


class _Sockets:
    """The sockets that httpx has opened. It keeps `notice`, so this keeps no server."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def notice(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpx of all that it does."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete", "proxy.start_tls.complete"}:
            opened = info["return_value"].get_extra_info("socket")
            if isinstance(opened, socket.socket):
                with self._guard:
                    self._open.add(opened)

    def cut(self) -> None:
        """End every request that is under way: where one of them drips, nobody can say which."""
        with self._guard:
            known = list(self._open)
        for opened in known:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)


def _refuse_no_url(url: str, shown: str) -> None:
    """A slip of the pen is no server that is away: nothing would ever arrive there."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError(f"{shown!r} is no URL of a server, as http://localhost:8420 is")


def _without_login(url: str) -> str:
    """A URL as it may be shown and stored."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _when_gone(server: Server, close: Callable[[], object]) -> None:
    """Close when nobody has the server any more, but not at the end of the process: there it is still needed."""
    weakref.finalize(server, close).atexit = False


def _trust() -> ssl.SSLContext:
    """Which servers are believed: the same for every connection, however it is made. Costly, so made once."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        return _trust_as_set(file, folder)
    except OSError as error:  # among them FileNotFoundError, which means something else to who loads a checkpoint
        raise ServerUnreachable(f"the certificates in {file or folder} cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _trust_as_set(file: str | None, folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


class _Stream(io.RawIOBase):
    """The pieces of an answer as a file."""

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
def understood() -> Iterator[None]:
    """Read an answer. One that says other things than a Holdfast server would is from whoever answers in its place."""
    try:
        yield
    except HoldfastError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise from_problem(200, {}) from error


def _cut(data: memoryview) -> Iterator[memoryview]:
    return (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))


def _target(url: str) -> str:
    """What a request for a URL asks for: its path and query."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _written(body: Any) -> tuple[bytes | None, dict[str, str]]:
    """A body as JSON, and the headers that speak of it."""
    if body is None:
        return None, {}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return data, {"Content-Type": "application/json", "Content-Digest": _digests.of_message(data)}


def _refuse_altered(answer: httpx.Response) -> None:
    """`ServerUnreachable` where an answer is not the one that was sent; older servers do not say what they sent."""
    declared = answer.headers.get("Content-Digest")
    if declared is not None and not _digests.agrees(declared, answer.content):
        raise ServerUnreachable(f"the answer from {answer.request.url} was altered on its way")


def _refuse(answer: Answer) -> None:
    if 200 <= answer.status < 300:
        return
    try:
        problem = json.loads(answer.body)
    except ValueError:
        problem = None
    retry_after = answer.retry_after or ""
    retry_after_s = float(retry_after) if retry_after.isdecimal() else None
    raise from_problem(answer.status, problem if isinstance(problem, dict) else {}, retry_after_s)


def _refusal(answer: httpx.Response) -> Answer:
    return Answer(answer.status_code, answer.content, answer.headers.get("Retry-After"))


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise from_problem(answer.status_code, {})
    return found
