"""A channel to one server: sends requests with its token and turns every failure into a `HoldfastError`.

Requests travel over connections of the client's own; those through a proxy, and streams that do not end, over httpx.
"""

import copy
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from .._runtime.forks import Owner
from .._runtime.interruption import suppress
from .._runtime.redaction import redact_chain, shown_url
from ..errors import HoldfastError, InvalidRequest, NotAllowed, ServerUnreachable
from .base_url import BaseUrl
from .content_digest import is_digest_of
from .messages import Address, Buffer, NoAnswer, Reader, Response, address_of, target_of
from .proxies import Proxies, Proxy
from .responses import raise_for_status, same_server
from .token import Token

if TYPE_CHECKING:
    from .httpx_clients import Clients

log = logging.getLogger("holdfast")


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
        # Imported with the first server, as each takes longer than the rest of the client; not in the thread of a save:
        # a child forked during that would have half of it. The context is made here, too: it would hang in OpenSSL.
        from . import certificates

        proxy = self._proxies.of(self.base)
        needed = self.base.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
        try:
            certificates.tls_context()
        except InvalidRequest:
            if needed:
                raise

    def _begin(self) -> None:
        from .certificates import tls_context_of_request
        from .raw_connections import RawConnections

        self._owner = Owner()
        self._connections = RawConnections(self._timeout_s, tls_context_of_request)
        _close_with(self, self._connections.close)
        self._httpx_clients: Clients | None = None
        if self._proxies.are_named:
            self._clients()

    def _clients(self) -> "Clients":
        """Return the clients of httpx, which is imported only if something is to go over it."""
        if self._httpx_clients is None:
            from .httpx_clients import Clients

            self._httpx_clients = Clients(self._timeout_s)
            _close_with(self, self._httpx_clients.close)
        return self._httpx_clients

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
        silence_s: float,
        limit_s: float,
    ) -> Response:
        """Send a small request and return the response, whatever its status; raise `ServerUnreachable` if there is
        none.

        Parameters
        ----------
        silence_s, limit_s : float
            The longest silence of the server, and the longest time for all of it, in seconds.
        """
        self._own()
        with self._translate_errors(url):
            address = self._direct(url)
            if address is not None:
                target = target_of(url, params)
                found = self._connections.request(address, method, target, headers, content, silence_s, limit_s)
            else:
                found = self._clients().request(
                    self._proxy(url),
                    method,
                    url,
                    params=params,
                    headers=headers,
                    content=content,
                    silence_s=silence_s,
                    limit_s=limit_s,
                )
            _refuse_altered(found, url)
            return found

    def send(self, method: str, url: str, headers: Mapping[str, str], pieces: Iterable[Buffer]) -> Response:
        """Send a large body in pieces, whose ``Content-Length`` the headers give, and return the response."""
        self._own()
        with self._translate_errors(url):
            address = self._direct(url)
            if address is not None:
                return self._connections.send(address, method, target_of(url), headers, pieces)
            return self._clients().send(self._proxy(url), method, url, headers, pieces)

    @contextmanager
    def fetch(
        self, method: str, url: str, headers: Mapping[str, str], length: int
    ) -> Iterator[tuple[Response, Reader]]:
        """Yield the response and, unless it is a refusal, a reader of its body of ``length`` bytes."""
        self._own()
        with self._translate_errors(url):
            address = self._direct(url)
            if address is not None:
                with self._connections.fetch(address, method, target_of(url), headers, length) as found:
                    yield found
            else:
                with self._clients().fetch(self._proxy(url), method, url, headers) as found:
                    yield found

    @contextmanager
    def lines(
        self, url: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[tuple[Response, Iterator[str]]]:
        """Yield the response to a GET and the lines of its body as they arrive."""
        self._own()
        with self._translate_errors(url), self._clients().lines(self._proxy(url), url, params, headers) as found:
            yield found

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
        self._connections.abort()
        if self._httpx_clients is not None:
            self._httpx_clients.sockets.abort()

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._own()
        self._connections.close()
        if self._httpx_clients is not None:
            self._httpx_clients.close()

    def _own(self) -> None:
        """Open new connections in a forked child: the old ones and their locks belong to threads of the parent."""
        if not self._owner.is_this_process:
            self._begin()

    def _direct(self, url: str) -> Address | None:
        """Return the address for a connection of our own; None if the URL needs a proxy or httpx."""
        return address_of(url) if self._proxy(url) is None else None

    def _proxy(self, url: str) -> Proxy | None:
        """Return the proxy for a URL; raise `ServerUnreachable` if it cannot be used.

        The proxy for the server itself was checked when the manager was made, so this one is for a range.
        """
        try:
            return self._proxies.of(url)
        except InvalidRequest as error:
            raise ServerUnreachable(f"{shown_url(url)} cannot be reached: {error}") from error

    def _proxy_or_none(self, url: str) -> Proxy | None:
        """Return the proxy for a URL, for a message."""
        with suppress(InvalidRequest):
            return self._proxies.of(url)
        return None

    @contextmanager
    def _translate_errors(self, url: str) -> Iterator[None]:
        try:
            yield
        except HoldfastError as error:
            redact_chain(error, self.secrets(self._proxy_or_none(url)))
            raise
        except NoAnswer as error:
            proxy = self._proxy_or_none(url)
            redact_chain(error, self.secrets(proxy))
            reason, who = str(error), f"the Holdfast server at {self._base_url.url}"
            if address_of(url) != address_of(self._base_url.url):
                who = urlsplit(url).netloc.rpartition("@")[2]
            way = f" through the proxy {proxy.shown}" if proxy is not None else ""
            raise ServerUnreachable(f"no answer from {who}{way}: {reason}{_certificate_advice(reason)}") from error


def _close_with(owner: object, close: Callable[[], object]) -> None:
    """Close when the owner is garbage-collected, but not at the end of the process, when saves need the connections."""
    weakref.finalize(owner, close).atexit = False


def _certificate_advice(reason: str) -> str:
    """Return advice for a server's certificate that is not trusted; empty for any other reason."""
    if "CERTIFICATE_VERIFY_FAILED" not in reason:
        return ""
    other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    also = f" ({other} is not read)" if other else ""
    return f". SSL_CERT_FILE names the trusted authorities{also}"


def _refuse_altered(found: Response, url: str) -> None:
    """Raise `ServerUnreachable` if a body does not match its digest. Older servers send no digest."""
    declared = found.headers.get("content-digest")
    if declared is not None and not is_digest_of(declared, found.body):
        raise ServerUnreachable(f"the answer from {shown_url(url)} was altered on its way")
