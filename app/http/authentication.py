"""The gate that every request passes: whoever it is, and how much they do at a time. What they may do, routes say.

Nothing of a body has been read by then. What needs no token is listed here, by its exact address; everything else is
closed, whether there is a route or not.
"""

from collections import Counter
from dataclasses import replace
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.authenticator import Authority
from app.auth.exposure import is_loopback
from app.auth.sessions import Sessions
from app.core.access import ANYONE, Access
from app.core.errors import Refusal, TooManyRequests, Unauthorized
from app.http.problems import problem_response
from app.http.request_id import peer_of
from app.http.root_path import route_path
from app.runtime import actor

PUBLIC = frozenset({"/health/live", "/health/ready", "/docs", "/openapi.json", "/sign-in"})
PUBLIC_BELOW = ("/static/", "/static-offline-docs/", "/v1/links/")
"""Files of our own pages; and links that carry their own proof."""
API = ("/v1", "/metrics")
COOKIE = "holdfast-session"
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
"""What proxies add: whoever asked them may be anywhere."""


class Gate:
    """Lets in who has a token, or for pages a session, and puts what they may do into ``state["access"]``."""

    def __init__(self, app: ASGIApp, *, most_requests: int) -> None:
        self._app = app
        self._most_requests = most_requests
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_public(route_path(scope)):
            await self._app(scope, receive, send)
            return
        try:
            access = await run_in_threadpool(_access, scope)
            self._enter(access)
        except Refusal as refusal:
            await _turned_away(scope, refusal)(scope, receive, send)
            return
        try:
            scope["state"]["access"] = access
            actor.enter(replace(actor.current(), token_id=access.token_id))
            await self._app(scope, receive, send)
        finally:
            self._leave(access)

    def _enter(self, access: Access) -> None:
        if self._under_way[access.token_id] >= self._most_requests:
            raise TooManyRequests(
                f"This token has {self._most_requests} requests under way (HOLDFAST_MAX_REQUESTS_PER_TOKEN)."
            )
        self._under_way[access.token_id] += 1

    def _leave(self, access: Access) -> None:
        self._under_way[access.token_id] -= 1
        if not self._under_way[access.token_id]:
            del self._under_way[access.token_id]


def is_api(path: str) -> bool:
    """Whether an address is for programs, which carry tokens, and not for browsers, which have sessions."""
    return path in API or path.startswith("/v1/")


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def _access(scope: Scope) -> Access:
    """What a request may do. `Unauthorized` where it is nothing."""
    headers = Headers(scope=scope)
    if is_api(route_path(scope)):
        authority: Authority = scope["state"]["authority"]
        found: Access | None = authority.identify(headers.get("authorization"))
    else:
        sessions: Sessions = scope["state"]["sessions"]
        found = sessions.access(cookie_parser(headers.get("cookie", "")).get(COOKIE))
    if found is None:
        raise Unauthorized("Sign in at /sign-in with a token.")
    if found.token_id == ANYONE and not (is_loopback(peer_of(scope)) and FORWARDED.isdisjoint(headers)):
        raise Unauthorized("Without a token this server serves its own machine only, and no proxy.")
    return found


def _turned_away(scope: Scope, refusal: Refusal) -> Response:
    """A problem detail; whoever looks at pages is asked to sign in."""
    wants_a_page = "text/html" in Headers(scope=scope).get("accept", "")
    if isinstance(refusal, Unauthorized) and wants_a_page and not is_api(route_path(scope)):
        wanted = quote(route_path(scope), safe="/") if scope["method"] == "GET" else "/"
        if scope["query_string"] and scope["method"] == "GET":
            wanted += "?" + scope["query_string"].decode("latin-1")
        return RedirectResponse(f"{scope.get('root_path', '')}/sign-in?to={quote(wanted, safe='/')}", status_code=303)
    return problem_response(refusal)
