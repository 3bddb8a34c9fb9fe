"""Origin checks: protect users from other web sites (CSRF, DNS rebinding). Also sets security headers.

The same middleware sees every response, so it also turns the framework's plain-text 413 into a problem detail.
"""

import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import CrossSite, HostNotAllowed, Refusal, TooLarge
from app.http.body import envelopes
from app.http.problems import ALWAYS, problem_response
from app.http.root_path import route_path

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class OriginChecks:
    """Middleware that refuses foreign ``Host`` and ``Origin`` headers, cross-site requests and wrapped bodies.

    An attacker can point a host name at this machine (DNS rebinding), so unknown names are refused. IP addresses
    cannot be rebound, so they are accepted.

    Parameters
    ----------
    allowed_hosts : iterable of str
        Host names that the server accepts besides those of this machine. ``*.example.org`` stands for every name
        below it, ``*`` for any name.
    answer : callable
        Makes the response to a refused request.
    """

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: Iterable[str], answer: Callable[[Request, Refusal], Response]
    ) -> None:
        self._app = app
        self._answer = answer
        self._hosts = LOOPBACK_HOSTS | {socket.gethostname().lower()} | {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _ResponseHeaders(scope, receive, send).send
        refusal = self._refusal(scope)
        await (self._app if refusal is None else self._answer(Request(scope), refusal))(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._accepts_host(_name(host)):
            return HostNotAllowed(
                f"This server does not answer to the host {host!r}; add it to HOLDFAST_ALLOWED_HOSTS."
            )
        origin = headers.get("origin")
        if origin is not None and _host(origin) != host.lower():
            return CrossSite(
                f"The request comes from the origin {origin!r}, but is addressed to the host {host!r}. A proxy must "
                "pass the Host header on unchanged, and HOLDFAST_ALLOWED_HOSTS must name that host; "
                "see docs/how-to/run-behind-nginx.md."
            )
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not _opens_a_page(scope, headers):
            return CrossSite("Requests from other web sites are refused.")
        return envelopes.refusal_of_headers(scope["method"], headers)

    def _accepts_host(self, name: str) -> bool:
        above = name.partition(".")[2]
        while above and f"*.{above}" not in self._hosts:
            above = above.partition(".")[2]
        return bool(name) and (name in self._hosts or bool(above) or "*" in self._hosts or _is_address(name))


class _ResponseHeaders:
    """Adds the default headers to a response, and turns the framework's "too large" into a problem detail.

    The framework enforces its limit of body sizes by itself and answers in plain text.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._replaced = False

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if message["status"] == 413 and headers.get("content-type", "").startswith("text/plain"):
                self._replaced = True
                refusal = TooLarge(
                    "The body is larger than this server accepts (HOLDFAST_MAX_JSON_BYTES; 4 MiB for `POST /v1/saves`)."
                )
                await problem_response(refusal)(self._scope, self._receive, self._send)
                return
            for name, value in ALWAYS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _host(origin: str) -> str:
    """Return the host and port of an origin; an empty string if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Return the host name without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _opens_a_page(scope: Scope, headers: Headers) -> bool:
    """Tell if a user followed a link to a page or a signed link, which is harmless. The API is not navigated to."""
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    path = route_path(scope)
    is_api = path.startswith("/v1") and not path.startswith("/v1/links/")
    return is_navigation and scope["method"] in {"GET", "HEAD"} and not is_api
