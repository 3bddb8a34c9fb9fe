"""Authentication: identifies the token or session of every request, before any of its body is read.

Public addresses are listed here; every other address needs a token or a session, whether a route exists or not.
Routes check the scopes.
"""

from dataclasses import replace
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.authenticator import Authenticator
from app.auth.exposure import is_loopback
from app.auth.sessions import Sessions
from app.core.access import ANYONE, Access
from app.core.errors import Refusal, Unauthorized
from app.http.concurrency_limit import RequestsInProgress
from app.http.problems import problem_response
from app.http.request_id import peer_of
from app.http.root_path import route_path
from app.runtime import actor

PUBLIC = frozenset({"/health/live", "/health/ready", "/docs", "/openapi.json", "/sign-in"})
PUBLIC_BELOW = ("/static/", "/static-offline-docs/", "/v1/links/")
"""Static files of the dashboard, and signed links, which carry their own proof."""
API = ("/v1", "/metrics")
COOKIE = "holdfast-session"
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
"""Headers that proxies add. The client behind a proxy may be on any machine."""


class Authentication:
    """Middleware that authenticates each request, limits each token's requests, and sets ``state["access"]``.

    Parameters
    ----------
    max_requests_per_token : int
        The most requests that one token may have in progress.
    """

    def __init__(self, app: ASGIApp, *, max_requests_per_token: int) -> None:
        self._app = app
        self._in_progress = RequestsInProgress(max_requests_per_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_public(route_path(scope)):
            await self._app(scope, receive, send)
            return
        try:
            access = await run_in_threadpool(_authenticate, scope)
            self._in_progress.begin(access.token_id)
        except Refusal as refusal:
            await _refusal_response(scope, refusal)(scope, receive, send)
            return
        try:
            scope["state"]["access"] = access
            actor.enter(replace(actor.current(), token_id=access.token_id))
            await self._app(scope, receive, send)
        finally:
            self._in_progress.end(access.token_id)


def is_api(path: str) -> bool:
    """Tell if an address belongs to the API, which takes tokens. Pages take sessions."""
    return path in API or path.startswith("/v1/")


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def _authenticate(scope: Scope) -> Access:
    """Return the access of a request's token or session. Raises `Unauthorized` if it has neither."""
    headers = Headers(scope=scope)
    if is_api(route_path(scope)):
        authenticator: Authenticator = scope["state"]["authenticator"]
        found: Access | None = authenticator.identify(headers.get("authorization"))
    else:
        sessions: Sessions = scope["state"]["sessions"]
        found = sessions.access(cookie_parser(headers.get("cookie", "")).get(COOKIE))
    if found is None:
        raise Unauthorized("Sign in at /sign-in with a token.")
    if found.token_id == ANYONE and not (is_loopback(peer_of(scope)) and FORWARDED.isdisjoint(headers)):
        raise Unauthorized("This server has no tokens. It accepts requests from its own machine only, without a proxy.")
    return found


def _refusal_response(scope: Scope, refusal: Refusal) -> Response:
    """A redirect to the sign-in page for a browser without a session; else a problem detail."""
    accepts_html = "text/html" in Headers(scope=scope).get("accept", "")
    if isinstance(refusal, Unauthorized) and accepts_html and not is_api(route_path(scope)):
        target = quote(route_path(scope), safe="/") if scope["method"] == "GET" else "/"
        if scope["query_string"] and scope["method"] == "GET":
            target += "?" + scope["query_string"].decode("latin-1")
        return RedirectResponse(f"{scope.get('root_path', '')}/sign-in?to={quote(target, safe='/')}", status_code=303)
    return problem_response(refusal)
