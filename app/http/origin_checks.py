"""What every request passes: no other web site may speak for a user, and no answer is taken for a page."""

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


class SameSite:
    """Refuses foreign ``Host`` and ``Origin`` headers, cross-site requests, and bodies in envelopes, on every route.

    A name that somebody points at this machine must not reach us. Addresses in numbers cannot be pointed anywhere, so
    they are answered to.

    Parameters
    ----------
    allowed_hosts : iterable of str
        Host names that are answered to besides this machine's own; ``*.example.org`` is all below it, ``*`` any.
    answer : callable
        Makes the answer to a request that is refused.
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
        send = _Guarded(scope, receive, send).send
        refusal = self._refusal(scope)
        await (self._app if refusal is None else self._answer(Request(scope), refusal))(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._answers_to(_name(host)):
            return HostNotAllowed(f"This server does not answer to {host!r}; HOLDFAST_ALLOWED_HOSTS can add it.")
        origin = headers.get("origin")
        if origin is not None and _host(origin) != host.lower():
            return CrossSite(
                f"A request from {origin!r} is refused, as it came for the host {host!r}. A proxy has to pass the "
                "header Host on as it came, and HOLDFAST_ALLOWED_HOSTS has to name that host; "
                "see docs/how-to/run-behind-nginx.md."
            )
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not _opens_a_page(scope, headers):
            return CrossSite("A request from another web site is refused.")
        return envelopes.refusal_of_headers(scope["method"], headers)

    def _answers_to(self, name: str) -> bool:
        above = name.partition(".")[2]
        while above and f"*.{above}" not in self._hosts:
            above = above.partition(".")[2]
        return bool(name) and (name in self._hosts or bool(above) or "*" in self._hosts or _is_address(name))


class _Guarded:
    """Passes an answer on with the headers that all answers have, and says "too large" as all refusals are said.

    The framework's limit of bodies answers by itself, in plain text.
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
                refusal = TooLarge("The body is larger than this server takes (HOLDFAST_MAX_JSON_BYTES).")
                await problem_response(refusal)(self._scope, self._receive, self._send)
                return
            for name, value in ALWAYS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _host(origin: str) -> str:
    """The host of a web site, with its port; nothing where there is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The host name without its port."""
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
    """Somebody followed a link to a page of ours, which is harmless; the API is not for following links."""
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    path = route_path(scope)
    is_for_programs = path.startswith("/v1") and not path.startswith("/v1/links/")
    return follows and scope["method"] in {"GET", "HEAD"} and not is_for_programs
