"""A channel to one server: sends requests with its token and turns every failure into a `HoldfastError`.

Ranges, which are large, travel over `sockets` without copies. JSON, and whatever needs a proxy, travels over httpx.
"""

import copy
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from .._runtime.interruption import reraise
from .._runtime.process import Owner
from .._runtime.redaction import redact_chain, shown_url
from ..errors import HoldfastError, InvalidRequest, NotAllowed, ServerUnreachable
from . import certificates
from .base_url import BaseUrl
from .content_digest import is_digest_of
from .httpx_clients import Clients, close_with, tls_context
from .proxies import Proxies, Proxy
from .responses import raise_for_status, same_server
from .sockets import Address, Buffer, Connections, Reader, Response, address_of, deadline
from .token import Token

log = logging.getLogger("holdfast")

PIECE_BYTES = 1024 * 1024  # httpcore copies what remains after each partial send, so pieces must be small


class Channel:
    """The base URL, token, proxies and open connections of one server.

    Connections are opened when needed. A forked child opens its own.

    Attributes
    ----------
    base : str
        The base URL; it changes when the server redirects to another one of its own.

    Raises
    ------
    InvalidRequest
        A proxy or the certificates that the server needs cannot be used.
    """

    def __init__(self, base_url: BaseUrl, credential: Token, timeout_s: float) -> None:
        self._base_url = base_url
        self._credential = credential
        self._timeout_s = timeout_s
        self._proxies = Proxies()
        self.base = base_url.url
        self._check()
        self._begin()

    def _check(self) -> None:
        """Refuse at once what would fail in the middle of a run."""
        proxy = self._proxies.of(self.base)
        needed = self.base.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
        try:
            # Made here, not in the thread of a save: a child forked during that would hang in OpenSSL.
            certificates.tls_context()
        except InvalidRequest:
            if needed:
                raise

    def _begin(self) -> None:
        self._owner = Owner()
        self.clients = Clients(self._proxies, self._timeout_s)
        self._connections = Connections(self._timeout_s, tls_context)
        close_with(self, self.clients.close)
        close_with(self, self._connections.close)

    def again(self, base_url: BaseUrl | None = None, credential: Token | None = None) -> Self:
        """Return a channel with connections of its own: to the same server, or with another base URL and token."""
        other = copy.copy(self)
        if base_url is not None:
            other._base_url, other.base = base_url, base_url.url
        other._credential = self._credential if credential is None else credential
        other._begin()
        return other

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any],
        headers: Mapping[str, str],
        content: bytes | None,
        timeout_s: float,
    ) -> Response:
        """Send a small request and return the response, whatever its status; raise `ServerUnreachable` if there is
        none.
        """
        self._own()
        with self._translate_errors(url), deadline(timeout_s, self.clients.sockets.abort):
            found = self.clients.of(url).request(
                method,
                url,
                params=params,
                content=content,
                headers=headers,
                timeout=self.clients.timeout(timeout_s),
                extensions={"trace": self.clients.sockets.notice},
            )
            _refuse_altered(found)
            return _response(found)

    def send(self, method: str, url: str, headers: Mapping[str, str], pieces: Iterable[Buffer]) -> Response:
        """Send a large body in pieces, whose ``Content-Length`` the headers give, and return the response."""
        self._own()
        with self._translate_errors(url):
            address = self._direct(url)
            if address is not None:
                return self._connections.send(address, method, _target(url), headers, pieces)
            small = (bytes(part) for piece in pieces for part in _cut(memoryview(piece)))
            return _response(self.clients.of(url).request(method, url, headers=headers, content=small))

    @contextmanager
    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], length: int
    ) -> Iterator[tuple[Response, Reader]]:
        """Yield the response and, unless it is a refusal, a reader of its body of ``length`` bytes."""
        self._own()
        with self._translate_errors(url):
            address = self._direct(url)
            if address is not None:
                with self._connections.fetch(address, method, _target(url), headers, length) as found:
                    yield found
                return
            with self.clients.of(url).stream(method, url, headers=headers) as streamed:
                yield _begun(streamed), io.BufferedReader(_Stream(streamed.iter_raw(PIECE_BYTES)), PIECE_BYTES)

    @contextmanager
    def lines(
        self, url: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[tuple[Response, Iterator[str]]]:
        """Yield the response to a GET and the lines of its body as they arrive."""
        self._own()
        noticed = {"trace": self.clients.sockets.notice}
        stream = self.clients.of(url).stream("GET", url, params=params, headers=headers, extensions=noticed)
        with self._translate_errors(url), stream as streamed:
            yield _begun(streamed), streamed.iter_lines()

    def authorization(self, url: str, token: str | None) -> dict[str, str]:
        """Return the ``Authorization`` header, for this server only: the URL of a range may lead to another."""
        if urlsplit(url)[:2] != urlsplit(self.base)[:2]:
            return {}
        login = f"Bearer {token}" if token else self._base_url.login
        return {"Authorization": login} if login else {}

    def follow(self, response: Response, path: str, url: str) -> bool:
        """Adopt the base URL to which a response redirects, if it is of the same server; return True if adopted."""
        base = same_server(response, url, path)
        if base is None:
            return False
        log.warning("%s redirects to %s: set HOLDFAST_URL to that", self.base, base)
        self.base = base
        return True

    def raise_for_status(self, response: Response, url: str, used: str | None) -> None:
        """Raise the error that a response stands for.

        Raises
        ------
        ServerUnreachable
            The token ``used`` was refused, and its file holds a new one by now.
        HoldfastError
            The server, or something in front of it, refused.
        """
        try:
            raise_for_status(response, url, self.secrets())
        except NotAllowed as error:
            if self._credential.renew(used):
                raise ServerUnreachable("the token has been renewed", code="token_renewed") from error
            raise

    def secrets(self, proxy: Proxy | None = None) -> list[str]:
        """Return the texts that must not appear in any message."""
        token = self._credential.value
        return [*([token] if token else []), *self._base_url.secrets(), *(proxy.secrets() if proxy else [])]

    def abort(self) -> None:
        """Make every request that is under way fail."""
        self.clients.sockets.abort()
        self._connections.abort()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._own()
        self._connections.close()
        self.clients.close()

    def _own(self) -> None:
        """Open new connections in a forked child: the old ones and their locks belong to threads of the parent."""
        if not self._owner.is_this_process:
            self._begin()

    def _direct(self, url: str) -> Address | None:
        """Return the address for a connection of our own; None if the URL needs a proxy or httpx."""
        return address_of(url) if self.clients.proxy(url) is None else None

    @contextmanager
    def _translate_errors(self, url: str) -> Iterator[None]:
        try:
            yield
        except HoldfastError as error:
            redact_chain(error, self.secrets(self.clients.proxy_or_none(url)))
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            reraise(error)
            proxy = self.clients.proxy_or_none(url)
            redact_chain(error, self.secrets(proxy))
            reason = str(error) or type(error).__name__
            way = f" through the proxy {proxy.shown}" if proxy is not None else ""
            reason += certificates.advice(reason)
            raise ServerUnreachable(
                f"no answer from the Holdfast server at {self._base_url.url}{way}: {reason}"
            ) from error


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


def _target(url: str) -> str:
    """Return the request target of a URL: its path and query."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _refuse_altered(found: httpx.Response) -> None:
    """Raise `ServerUnreachable` if a body does not match its digest. Older servers send no digest."""
    declared = found.headers.get("Content-Digest")
    if declared is not None and not is_digest_of(declared, found.content):
        raise ServerUnreachable(f"the answer from {shown_url(str(found.request.url))} was altered on its way")
