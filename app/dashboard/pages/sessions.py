"""Signing in and out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from app.auth.sessions import LIFETIME, Sessions
from app.core.errors import Unauthorized
from app.dashboard.render import urls
from app.dashboard.render.page import Form, PageRoute, page, redirect
from app.http.authentication import COOKIE

router = APIRouter(route_class=PageRoute)


def _sessions(request: Request) -> Sessions:
    found: Sessions = request.state.sessions
    return found


SessionsDep = Annotated[Sessions, Depends(_sessions)]


def _cookie_path(request: Request) -> str:
    """Return the path of the cookie, so that browsers send it to no other service behind the same proxy."""
    return request.scope.get("root_path", "") or "/"


@router.get("/sign-in")
def show_sign_in(request: Request) -> Response:
    """Show the sign-in form."""
    return page(request, "sign_in.html", to=urls.safe_redirect_target(request.query_params.get("to", "/")))


@router.post("/sign-in")
async def sign_in(request: Request, sessions: SessionsDep, form: Form) -> Response:
    """Open a session with a token."""
    to = urls.safe_redirect_target(form.get("to", "/"))
    try:
        secret, _ = await run_in_threadpool(sessions.begin, form.get("token", ""))
    except Unauthorized as error:
        return page(request, "sign_in.html", status=401, to=to, fault=error.detail)
    answer = redirect(request, to)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(LIFETIME.total_seconds()),
        path=_cookie_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, sessions: SessionsDep) -> Response:
    """End the session."""
    if secret := request.cookies.get(COOKIE):
        sessions.end(secret)
    answer = redirect(request, "/sign-in")
    answer.delete_cookie(COOKIE, path=_cookie_path(request), httponly=True, samesite="strict")
    return answer
