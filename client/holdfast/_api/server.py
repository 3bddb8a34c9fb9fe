"""The API of one server: JSON calls, retries, ranges and its identity. Knows no httpx; see `_connection.channel`."""

import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from .._connection.base_url import base_url_of
from .._connection.channel import Channel
from .._connection.content_digest import content_digest
from .._connection.messages import Buffer, Reader, Response, read_into
from .._connection.responses import parse_errors, parse_json, raise_for_status
from .._connection.token import Token
from .._runtime.interruption import reraise
from .._runtime.redaction import shown_url
from ..errors import HoldfastError, NotAllowed, ServerUnreachable
from . import identity, small_answer
from .retry import PATIENCE_S, READERS_PATIENCE, CircuitBreaker, RetryDeadline, is_transient
from .wire import SMALL_CHECKPOINT_S, Range

__all__ = ["TIMEOUT_S", "Reader", "Server", "parse_errors", "read_into"]

TIMEOUT_S = 30.0
"""The longest silence of a server, in seconds."""
_REDIRECTS = 3

T = TypeVar("T")


class Server:
    """A Holdfast server. Nothing is sent before the first request; a forked child opens connections of its own.

    The environment's settings, proxies and certificates are those of the moment at which it is made.

    Parameters
    ----------
    url : str, optional
        The base URL; ``HOLDFAST_URL`` by default, else ``http://127.0.0.1:8420``.
    token : str, optional
        The bearer token.
    timeout_s : float
        The longest silence, in seconds, before the server counts as unreachable.
    patience_s : float
        The time, in seconds, for which an unreachable server is tried again.
    token_file : str or Path, optional
        A file that holds the token, read again when it changes. `Token.of` describes the defaults of both.

    Raises
    ------
    InvalidRequest
        A setting, a proxy or the certificates that it needs cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        *,
        token_file: str | os.PathLike[str] | None = None,
    ) -> None:
        base_url = base_url_of(url)
        self.url = base_url.url
        self.credential = Token.of(token, token_file)
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._channel = Channel(base_url, self.credential, timeout_s)

    @property
    def token(self) -> str | None:
        """The bearer token to use now."""
        return self.credential.value

    @property
    def circuit(self) -> CircuitBreaker:
        """The circuit breaker of this server, shared by this process."""
        return CircuitBreaker.of(self.url, self.credential.key)

    def again(self) -> "Server":
        """Return the same server with connections of its own."""
        other = copy.copy(self)
        other._channel = self._channel.again()
        return other

    def elsewhere(self, url: str) -> "Server":
        """Return a server at another URL, which is sent no token."""
        other = copy.copy(self)
        base_url, other.credential = base_url_of(url), Token()
        other.url = base_url.url
        other._channel = self._channel.again(base_url, other.credential)
        return other

    def identify(self, *, again: bool = False) -> str | None:
        """Return the id of the server; None where it has not given one. Never raises.

        A server that has answered without an id is asked once, and one that was away after a while; with ``again``,
        both are asked now.
        """
        if identity.of(self.url) is None and (again or not identity.is_unknowable(self.url)):
            self.probe()
        return identity.of(self.url)

    def probe(self, timeout_s: float | None = None) -> HoldfastError | None:
        """Ask the server for its id; return the error if it does not answer. Never raises.

        Parameters
        ----------
        timeout_s : float, optional
            The longest time, in seconds, that this may take; at most that of every request. Default:
            `identity.PATIENCE_S`.
        """
        other = self.again()
        other.timeout_s = min(self.timeout_s, identity.PATIENCE_S if timeout_s is None else timeout_s)
        asked_at = time.monotonic()
        try:
            other.call("GET", "/v1/info")
        except HoldfastError as error:  # a refusal of the server itself gives the id as well
            reraise(error)
            found = error if is_transient(error) else None
        except Exception as error:
            reraise(error)
            found = ServerUnreachable(f"{self.url} cannot be asked: {error}")
        else:
            found = None
        finally:
            other.close()
        if found is None:
            identity.note_answer(self.url)
        else:
            identity.note_unreached(self.url, asked_at)
        return found

    def ask(
        self, path: str, *, params: Mapping[str, Any] | None = None, patience_s: float | None = None
    ) -> dict[str, Any]:
        """GET a path and return its JSON; retry for a while if the server is unreachable.

        Parameters
        ----------
        patience_s : float, optional
            The time, in seconds, for which it is retried. Default: longer than a save would try, but not at all while
            the circuit is open.
        """
        return self._patiently(lambda: self.call("GET", path, params=params), patience_s)

    def ask_for_small(
        self, path: str, *, params: Mapping[str, Any] | None = None, patience_s: float | None = None
    ) -> tuple[dict[str, Any], small_answer.Attached | None]:
        """GET the facts of a checkpoint as `ask` does, and its contents with them if the server sends both."""

        def get() -> tuple[dict[str, Any], small_answer.Attached | None]:
            accepting = {"Accept": small_answer.ACCEPT}
            response = self._request("GET", path, params, accepting, None, moving_s=SMALL_CHECKPOINT_S)
            return small_answer.parse(response, self._channel.base + path, self._channel.secrets())

        return self._patiently(get, patience_s)

    def _patiently(self, ask: Callable[[], T], patience_s: float | None) -> T:
        """Return an answer; ask again for a while if the server is unreachable."""
        if patience_s is None:
            patience_s = 0.0 if self.circuit.is_open else READERS_PATIENCE * self.patience_s
        patience = RetryDeadline(patience_s)
        while True:
            try:
                return ask()
            except HoldfastError as error:
                if not is_transient(error):
                    raise
                patience.wait(error)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        data: bytes | None = None,
        longer_s: float = 0.0,
        precondition: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request with a JSON body and return the JSON of the response.

        It is sent once. It is sent again only if the token has been renewed or the server has moved, since nothing has
        happened on the server then.

        Parameters
        ----------
        data : bytes, optional
            Bytes that the JSON describes, sent after it.
        longer_s : float
            Additional seconds that this response may take.
        precondition : mapping, optional
            Headers such as ``If-Match``.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke.
        HoldfastError
            The server refused; see `holdfast.errors`.
        """
        content, described = _described_body(body, data) if data is not None else _json_body(body)
        described = {**described, **(precondition or {})}
        moving_s = SMALL_CHECKPOINT_S if data is not None else 0.0
        response = self._request(method, path, params, described, content, longer_s=longer_s, moving_s=moving_s)
        asked = self._channel.base + path
        return parse_json(response, asked, self._channel.secrets(), may_be_empty=method != "GET")

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        described: Mapping[str, str],
        content: bytes | None,
        *,
        longer_s: float = 0.0,
        moving_s: float = 0.0,
    ) -> Response:
        """Send a request.

        Parameters
        ----------
        longer_s, moving_s : float
            Additional seconds for which the server may be silent, and in which bytes may move.
        """
        silence_s = self.timeout_s + longer_s
        given = {name: value for name, value in (params or {}).items() if value is not None}

        def send(url: str, headers: Mapping[str, str]) -> Response:
            return self._channel.request(
                method,
                url,
                params=given,
                headers={**headers, **described},
                content=content,
                silence_s=silence_s,
                limit_s=silence_s + moving_s,
            )

        return self._admitted(path, send)

    def _admitted(self, path: str, send: Callable[[str, Mapping[str, str]], Response]) -> Response:
        """Send a request; send it again with a new token, or at another base URL of the same server."""
        is_renewed = False
        for _ in range(_REDIRECTS + 2):
            url, used = self._channel.base + path, self.token
            response = send(url, self._channel.authorization(url, used))
            identity.learn(self.url, response.headers)
            if self._channel.follow(response, path, url):
                continue
            try:
                raise_for_status(response, url, self._channel.secrets())
            except NotAllowed:
                if is_renewed or not self.credential.renew(used):
                    raise
                is_renewed = True
                continue
            return response
        raise ServerUnreachable(f"{self.url} redirects too often")

    def send(self, wanted: Range, pieces: Iterable[Buffer]) -> None:
        """Send the raw bytes of a range, in pieces, to the URL that the server gave for it.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke; or the token has been renewed, and is accepted next time.
        HoldfastError
            The server refused.
        """
        url, headers, used = self._wanted(wanted)
        headers |= {"Content-Length": str(wanted.length), "Content-Type": "application/octet-stream"}
        response = self._channel.send(wanted.method, url, headers, pieces)
        self._channel.raise_for_status(response, url, used)

    @contextmanager
    def fetch(self, wanted: Range) -> Iterator[Reader]:
        """Yield a reader of the raw bytes of a range.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke; or the token has been renewed, and is accepted next time.
        HoldfastError
            The server refused.
        """
        url, headers, used = self._wanted(wanted)
        with self._channel.fetch(wanted.method, url, headers, wanted.length) as (response, reader):
            self._channel.raise_for_status(response, url, used)
            yield reader

    @contextmanager
    def listen(self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        """Yield the lines of a response that does not end, as they arrive.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, broke, or was silent for ``timeout_s``.
        HoldfastError
            The server refused.
        """
        url, used = self._channel.base + path, self.token
        ours = {**self._channel.authorization(url, used), **headers}
        with self._channel.lines(url, params, ours) as (response, lines):
            if not response.is_success:
                if self._channel.follow(response, path, url):
                    raise ServerUnreachable(f"{shown_url(url)} has moved", code="moved")
                self._channel.raise_for_status(response, url, used)
            yield lines

    def abort(self) -> None:
        """Make every request that is under way fail."""
        self._channel.abort()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._channel.close()

    def _wanted(self, wanted: Range) -> tuple[str, dict[str, str], str | None]:
        """Return the URL of a range, its headers, and the token used. A URL that is only a path continues the base
        URL.
        """
        wanted.check()
        url = self._channel.base + wanted.url if wanted.url.startswith("/") else wanted.url
        used = self.token
        return url, {**self._channel.authorization(url, used), **wanted.headers}, used


def _json_body(body: Any) -> tuple[bytes | None, dict[str, str]]:
    """Return a body as JSON, and the headers that describe it."""
    if body is None:
        return None, {}
    data = _json(body)
    return data, {"Content-Type": "application/json", "Content-Digest": content_digest(data)}


def _described_body(body: Any, data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body of a line of JSON and the bytes that it describes, and the headers of that."""
    whole = _json(body) + b"\n" + data
    return whole, {"Content-Type": "application/vnd.holdfast.save", "Content-Digest": content_digest(whole)}


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
