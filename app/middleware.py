"""What every request passes: no other web site may speak for a user, and no answer is taken for a page."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import CrossSite, HostNotAllowed, Refusal, TooLarge

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class SameSite:
    """Refuses foreign ``Host`` and ``Origin`` headers and cross-site requests, on every route.

    Host names are only checked while no token is needed: then a name that was rebound to loopback could reach us.
    """

    def __init__(self, app: ASGIApp, *, check_host: bool, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._check_host = check_host
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await problem_response(refusal)(scope, receive, send)
            return

        await self._app(scope, receive, _Guarded(scope, receive, send).send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._check_host and _name(host) not in self._hosts:
            return HostNotAllowed(f"This server does not answer to {host!r}; HOLDFAST_ALLOWED_HOSTS can add it.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return CrossSite(f"A request from {origin!r} is refused.")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not _opens_a_page(scope, headers):
            return CrossSite("A request from another web site is refused.")
        return None


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
                await problem_response(TooLarge("The body is larger than this server takes."))(
                    self._scope, self._receive, self._send
                )
                return
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "no-referrer")
        await self._send(message)


def _name(host: str) -> str:
    """The host name without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _opens_a_page(scope: Scope, headers: Headers) -> bool:
    """Somebody followed a link to a page of ours, which is harmless; the API is not for following links."""
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return follows and scope["method"] in {"GET", "HEAD"} and not scope["path"].startswith("/v1")
