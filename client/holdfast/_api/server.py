"""One server over HTTP: the only place that knows httpx."""

import copy
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import httpx

from .._connection import certificates
from .._connection.base_url import base_url_of
from .._connection.httpx_clients import Clients, trust, when_gone
from .._connection.proxies import Proxies, Proxy
from .._connection.responses import moved_to, parse_errors, parsed, refuse
from .._connection.sockets import Address, Answer, Buffer, Connections, Reader, address_of, deadline
from .._connection.token import Token
from .._runtime.interruption import reraise, suppress
from .._runtime.process import Owner
from .._runtime.redaction import redact_chain, shown_url
from ..errors import HoldfastError, InvalidRequest, NotAllowed, ServerUnreachable
from . import digests, identity
from .retry import PATIENCE_S, READERS_PATIENCE, Outage, Patience, is_transient
from .wire import Range

__all__ = ["TIMEOUT_S", "Server", "parse_errors"]

for _needed in ("httpcore", "certifi", "encodings.idna"):
    # httpx imports these when it is first used: by a thread, maybe, while the job forks, whose child has half of them
    with suppress(ImportError):
        import_module(_needed)

log = logging.getLogger("holdfast")

TIMEOUT_S = 30.0
"""How long, in seconds, a server may be silent."""
PIECE_BYTES = 1024 * 1024  # httpcore copies what remains after each partial send, so pieces must be small
_REDIRECTS = 3


class Server:
    """A Holdfast server. Sends nothing before the first request; connections are not shared with forked processes.

    The environment's settings, proxies and certificates are those of the moment at which it is made.

    Parameters
    ----------
    url : str, optional
        Where it is; ``HOLDFAST_URL`` by default, else ``http://127.0.0.1:8420``.
    token : str, optional
        The bearer token.
    timeout_s : float
        How long, in seconds, the server may be silent before it counts as unreachable.
    patience_s : float
        How long, in seconds, to go on trying a server that is unreachable.
    token_file : str or Path, optional
        A file that holds the token, read again when it changes. For the defaults of both see `_token.Token.of`.

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
        self._place = base_url_of(url)
        self._base = self.url = self._place.url
        self.credential = Token.of(token, token_file)
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._proxies = Proxies()
        self._check()
        self._begin()

    def _check(self) -> None:
        """Refuse at once what would fail in the middle of a run."""
        proxy = self._proxies.of(self._base)
        needed = self._base.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
        try:
            # Made here and not by the thread of a save: a child that the job forks meanwhile would hang in OpenSSL.
            certificates.trust()
        except InvalidRequest:
            if needed:
                raise

    def _begin(self) -> None:
        self._owner = Owner()
        self._clients = Clients(self._proxies, self.timeout_s)
        self._connections = Connections(self.timeout_s, trust)
        when_gone(self, self._clients.close)
        when_gone(self, self._connections.close)

    @property
    def token(self) -> str | None:
        """The bearer token to use now."""
        return self.credential.value

    @property
    def outage(self) -> Outage:
        """What this process knows of the server's absence."""
        return Outage.of(self.url, self.credential.key)

    def again(self) -> "Server":
        """The same server, over connections of its own."""
        other = copy.copy(self)
        other._begin()
        return other

    def elsewhere(self, url: str) -> "Server":
        """A server at another URL, to which no token goes."""
        other = self.again()
        other._place = base_url_of(url)
        other._base = other.url = other._place.url
        other.credential = Token()
        return other

    def identify(self, *, again: bool = False) -> str | None:
        """The id of the server; None where it has not given one. Never raises.

        A server that has answered without an id is asked once, and one that was away after a while; with ``again``,
        both are asked now.
        """
        if identity.of(self.url) is None and (again or not identity.is_unknowable(self.url)):
            self.answers()
        return identity.of(self.url)

    def answers(self) -> bool:
        """Ask the server who it is; whether it has answered. Never raises."""
        other = self.again()
        other.timeout_s = min(self.timeout_s, identity.PATIENCE_S)
        try:
            other.call("GET", "/v1/info")
        except HoldfastError as error:  # a refusal of the server itself gives the id as well
            reraise(error)
            is_there = not is_transient(error)
        except Exception as error:
            reraise(error)
            is_there = False
        else:
            is_there = True
        finally:
            other.close()
        (identity.note_answer if is_there else identity.note_unreached)(self.url)
        return is_there

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
        longer_s: float = 0.0,
        precondition: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A request with JSON both ways. The answer may take so many seconds longer than others.

        It is made once; again only where the token was renewed meanwhile, or where the server has moved, since then
        nothing has happened yet.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke.
        HoldfastError
            The server refused; see `holdfast.errors`.
        """
        self._own()
        given = {name: value for name, value in (params or {}).items() if value is not None}
        content, described = _written(body)
        described = {**described, **(precondition or {})}

        def answer_of(url: str, headers: Mapping[str, str]) -> Answer:
            timeout_s = self.timeout_s + longer_s
            with self._translated(url), deadline(timeout_s, self._clients.sockets.cut):
                found = self._clients.of(url).request(
                    method,
                    url,
                    params=given,
                    content=content,
                    headers={**headers, **described},
                    timeout=self._clients.timeout(timeout_s),
                    extensions={"trace": self._clients.sockets.notice},
                )
                _refuse_altered(found)
                return _answer(found)

        answer = self._admitted(path, answer_of)
        return parsed(answer, self._base + path, self._secrets(), may_be_empty=method != "GET")

    def _admitted(self, path: str, answer_of: Callable[[str, Mapping[str, str]], Answer]) -> Answer:
        """The answer to a request that may be made again with a new token, or at another base of the same server."""
        is_renewed = False
        for _ in range(_REDIRECTS + 2):
            url, used = self._base + path, self.token
            answer = answer_of(url, self._headers(url, used))
            identity.learn(self.url, answer.headers)
            if self._follow(answer, path, url):
                continue
            try:
                refuse(answer, url, self._secrets())
            except NotAllowed:
                if is_renewed or not self.credential.renew(used):
                    raise
                is_renewed = True
                continue
            return answer
        raise ServerUnreachable(f"{self.url} redirects again and again")

    def _follow(self, answer: Answer, path: str, url: str) -> bool:
        """Learn where the server has moved to; whether it has, to where the token may go, too.

        That is the same host, by the same scheme and port or by TLS, and the same path behind another prefix.
        """
        target = moved_to(answer, url)
        if target is None:
            return False
        ours, theirs = urlsplit(url), urlsplit(target)
        is_same = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
        is_safer = (ours.scheme, theirs.scheme) == ("http", "https") and theirs.hostname == ours.hostname
        if (
            not (is_same or is_safer)
            or "@" in theirs.netloc
            or not theirs.path.endswith(path)
            or theirs[:3] == ours[:3]
        ):
            return False
        base = f"{theirs.scheme}://{theirs.netloc}{theirs.path.removesuffix(path).rstrip('/')}"
        log.warning("%s redirects to %s: set HOLDFAST_URL to that", self._base, base)
        self._base = base
        return True

    def send(self, wanted: Range, pieces: Iterable[Buffer]) -> None:
        """Send the raw bytes of a range, in pieces, where the server wants them.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke; or the token has been renewed, and is accepted next time.
        HoldfastError
            The server refused.
        """
        self._own()
        url, address, headers, used = self._wanted(wanted)
        headers |= {"Content-Length": str(wanted.length), "Content-Type": "application/octet-stream"}
        with self._translated(url):
            if address is not None:
                answer = self._connections.send(address, wanted.method, _target(url), headers, pieces)
            else:
                small = (bytes(part) for piece in pieces for part in _cut(memoryview(piece)))
                found = self._clients.of(url).request(wanted.method, url, headers=headers, content=small)
                answer = _answer(found)
        self._refuse(answer, url, used)

    @contextmanager
    def fetch(self, wanted: Range) -> Iterator[Reader]:
        """The raw bytes of a range, to be read as they come.

        Raises
        ------
        IntegrityError
            There are more or fewer than were asked for.
        ServerUnreachable
            The connection could not be made, or broke; or the token has been renewed, and is accepted next time.
        """
        self._own()
        url, address, headers, used = self._wanted(wanted)
        if address is not None:
            with (
                self._translated(url),
                self._connections.fetch(address, wanted.method, _target(url), headers, wanted.length) as (
                    answer,
                    reader,
                ),
            ):
                self._refuse(answer, url, used)
                yield reader
            return
        with self._translated(url), self._clients.of(url).stream(wanted.method, url, headers=headers) as found:
            if found.is_error or _is_page(found):
                found.read()
                self._refuse(_answer(found), url, used)
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
        self._own()
        url, used = self._base + path, self.token
        ours = {**self._headers(url, used), **headers}
        noticed = {"trace": self._clients.sockets.notice}
        stream = self._clients.of(url).stream("GET", url, params=params, headers=ours, extensions=noticed)
        with self._translated(url), stream as found:
            if not found.is_success or _is_page(found):
                found.read()
                if self._follow(_answer(found), path, url):
                    raise ServerUnreachable(f"{shown_url(url)} has moved", code="moved")
                self._refuse(_answer(found), url, used)
            yield found.iter_lines()

    def cut(self) -> None:
        """Let every request that is under way fail."""
        self._clients.sockets.cut()
        self._connections.cut()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._own()
        self._connections.close()
        self._clients.close()

    def _own(self) -> None:
        """In a forked child the connections are the parent's, and a lock may be held by a thread that is not there."""
        if not self._owner.is_this_process:
            self._begin()

    def _wanted(self, wanted: Range) -> tuple[str, Address | None, dict[str, str], str | None]:
        """Of a range: its URL, the address of a connection of our own if one reaches it, headers, and the token used.

        A URL that is a path lies at the server, behind the prefix of its base.
        """
        wanted.check()
        url, used = self._base + wanted.url if wanted.url.startswith("/") else wanted.url, self.token
        address = address_of(url) if self._clients.proxy(url) is None else None
        return url, address, {**self._headers(url, used), **wanted.headers}, used

    def _headers(self, url: str, token: str | None) -> dict[str, str]:
        """Who we are, for our own server only: a range may lead elsewhere."""
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            return {}
        said = f"Bearer {token}" if token else self._place.login
        return {"Authorization": said} if said else {}

    def _secrets(self, proxy: Proxy | None = None) -> list[str]:
        """What no message may have in it."""
        token = self.credential.value
        return [*([token] if token else []), *self._place.secrets(), *(proxy.secrets() if proxy else [])]

    def _refuse(self, answer: Answer, url: str, used: str | None) -> None:
        try:
            refuse(answer, url, self._secrets())
        except NotAllowed as error:
            if self.credential.renew(used):
                raise ServerUnreachable("the token was renewed meanwhile", code="token_renewed") from error
            raise

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        try:
            yield
        except HoldfastError as error:
            redact_chain(error, self._secrets(self._clients.way(url)))
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            reraise(error)
            proxy = self._clients.way(url)
            redact_chain(error, self._secrets(proxy))
            reason = str(error) or type(error).__name__
            way = f" through the proxy {proxy.shown}" if proxy is not None else ""
            raise ServerUnreachable(
                f"no answer from the Holdfast server at {self.url}{way}: {reason}{certificates.advice(reason)}"
            ) from error


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
    return data, {"Content-Type": "application/json", "Content-Digest": digests.of_message(data)}


def _refuse_altered(answer: httpx.Response) -> None:
    """`ServerUnreachable` where an answer is not the one that was sent; older servers do not say what they sent."""
    declared = answer.headers.get("Content-Digest")
    if declared is not None and not digests.agrees(declared, answer.content):
        raise ServerUnreachable(f"the answer from {shown_url(str(answer.request.url))} was altered on its way")


def _answer(found: httpx.Response) -> Answer:
    return Answer.of(found.status_code, found.content, found.headers.items())


def _is_page(found: httpx.Response) -> bool:
    """Whether a web page came, which no Holdfast server sends to a client."""
    return str(found.headers.get("Content-Type", "")).lower().startswith("text/html")
