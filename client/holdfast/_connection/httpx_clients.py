"""The httpx clients for one server, one for each proxy, and the sockets that they have opened."""

import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from socket import SHUT_RDWR, socket
from typing import Any

import httpx

from .._runtime.interruption import suppress
from .._runtime.process import Owner
from .._runtime.redaction import shown_url
from ..errors import InvalidRequest, ServerUnreachable
from . import certificates
from .proxies import Proxies, Proxy
from .sockets import CONNECT_TIMEOUT_S

for _needed in ("httpcore", "certifi", "encodings.idna"):
    # httpx imports these at its first use; if the job forks during that, the child would have half of them
    with suppress(ImportError):
        import_module(_needed)


class Clients:
    """Clients that are made on demand and kept; not shared with forked processes."""

    def __init__(self, proxies: Proxies, timeout_s: float) -> None:
        self.sockets = Sockets()
        self._proxies = proxies
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._made: dict[str, httpx.Client] = {}
        self._owner = Owner()

    def proxy(self, url: str) -> Proxy | None:
        """Return the proxy for a URL; raise `ServerUnreachable` if it cannot be used.

        The proxy for the server itself was checked when the manager was made, so this one is for a range.
        """
        try:
            return self._proxies.of(url)
        except InvalidRequest as error:
            raise ServerUnreachable(f"{shown_url(url)} cannot be reached: {error}") from error

    def proxy_or_none(self, url: str) -> Proxy | None:
        """Return the proxy for a URL, for a message."""
        with suppress(InvalidRequest):
            return self._proxies.of(url)
        return None

    def of(self, url: str) -> httpx.Client:
        """Return the client for a URL."""
        proxy = self.proxy(url)
        is_proxy_tls = proxy is not None and proxy.url.startswith("https:")
        is_tls = url.startswith("https:") or is_proxy_tls
        key = f"{proxy.url if proxy else ''} {is_tls}"
        with self._guard:
            if key not in self._made:
                verify = tls_context() if is_tls else certificates.no_tls_context()
                found = httpx.Proxy(proxy.url, ssl_context=verify if is_proxy_tls else None) if proxy else None
                timeout = self.timeout(self._timeout_s)
                self._made[key] = httpx.Client(timeout=timeout, verify=verify, proxy=found, trust_env=False)
            return self._made[key]

    def timeout(self, timeout_s: float) -> httpx.Timeout:
        """Return the timeouts of a request: for the response, and for the connection."""
        return httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))

    def close(self) -> None:
        """Close the connections; the next request opens new ones. A forked child leaves those of its parent open."""
        if not self._owner.is_this_process:
            return
        with self._guard:
            made = list(self._made.values())
            self._made.clear()
        for client in made:
            client.close()


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


def tls_context() -> ssl.SSLContext:
    """Return the TLS context for all connections; raise `ServerUnreachable` if the certificates cannot be read."""
    try:
        return certificates.tls_context()
    except InvalidRequest as error:
        raise ServerUnreachable(str(error)) from error


def close_with(owner: object, close: Callable[[], object]) -> None:
    """Close when the owner is garbage-collected, but not at the end of the process, when saves need the connections."""
    weakref.finalize(owner, close).atexit = False
