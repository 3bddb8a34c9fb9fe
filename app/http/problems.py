"""Refusals as RFC 9457 problem details with a stable ``code``."""

import errno
import logging
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.core import digests
from app.core.errors import (
    CrossSite,
    DiskFailed,
    Forbidden,
    HeadersTooLarge,
    HostNotAllowed,
    InvalidHttp,
    InvalidRequest,
    MethodNotAllowed,
    NoSpace,
    NotFound,
    Overloaded,
    Refusal,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)
from app.core.limits import too_many
from app.http.body import validation_errors
from app.runtime import actor, logs

logger = logging.getLogger("holdfast")

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
}
"""What answers say unless they say something else themselves: nothing of them runs, is framed, or is kept."""

_BY_STATUS: dict[int, type[Refusal]] = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 400: InvalidRequest}
_MISHAP = Refusal("Something went wrong on the server; its log says what.")
_NO_SPACE = NoSpace("There is no space left for this on the server's disk.")
_DISK_FAILED = DiskFailed("The server's disk could not do this; the server's log says what failed.")
_OVERLOADED = Overloaded("The server has too many files open; try again in a moment.")
_UNTYPED = (
    "The body of this request is JSON: send the header `Content-Type: application/json` with it (it came with {})."
)
_BY_ERRNO: dict[int | None, Refusal] = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EIO: _DISK_FAILED,
    errno.EROFS: _DISK_FAILED,
    errno.EMFILE: _OVERLOADED,
    errno.ENFILE: _OVERLOADED,
}
_ANYHOW = (InvalidHttp, CrossSite, HostNotAllowed, RequestTimeout, HeadersTooLarge)
"""What any request may be refused for, before it is known what it asks for."""
_ANYWHERE = (InvalidRequest, Unauthorized, Forbidden, TooManyRequests, NoSpace, DiskFailed, Overloaded)
"""What every route that is not public may refuse: even to read takes a disk that works."""
COUNTED = {"files", "folders", "chunks", "tensors", "tags"}
"""Of which lists there is a limit that an operator can set."""


class Problem(BaseModel):
    """Why a request was refused (RFC 9457). Nothing has changed, unless ``status`` is 500."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None


def refuses(*refusals: type[Refusal], public: bool = False) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse, for OpenAPI; what every route may refuse is added. A public one needs no token."""
    common: tuple[type[Refusal], ...] = (*_ANYHOW, *(() if public else _ANYWHERE))
    every = (*refusals, *common)
    codes: dict[int | str, list[str]] = {}
    for refusal in every:
        codes.setdefault(refusal.status, []).append(refusal.code)
    return {status: refused_as(found) for status, found in sorted(codes.items(), key=lambda item: str(item[0]))}


def refused_as(codes: Iterable[str]) -> dict[str, Any]:
    """The refusals of one status, for OpenAPI."""
    return {
        "description": "Refused: " + ", ".join(f"`{code}`" for code in sorted(set(codes))),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def problem_response(refusal: Refusal) -> Response:
    """A refusal as an answer."""
    request_id = actor.current().request_id
    body = {
        "type": f"urn:holdfast:problem:{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.code,
        "detail": logs.without_secrets(refusal.detail),
        **({"request_id": request_id} if request_id else {}),
        **refusal.extra,
    }
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else refusal.headers
    headers = {**ALWAYS, **(headers or {})}  # some pass no middleware
    return JSONResponse(body, refusal.status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer refusals and mishaps with problem details. What the framework refuses, `app.dashboard.install` answers."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return problem_response(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        for fault in error.errors():
            if fault["type"] == "too_long" and (name := str(fault["loc"][-1])) in COUNTED:
                return problem_response(too_many(name, fault["ctx"]["actual_length"], fault["ctx"]["max_length"]))
        if not _is_json(request) and any(fault["loc"] == ("body",) for fault in error.errors()):
            return problem_response(InvalidRequest(_UNTYPED.format(_type(request) or "none")))
        faults = validation_errors.faults(error.errors())
        return problem_response(InvalidRequest(f"{faults[0]['at']} {faults[0]['message']}", errors=faults))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> Response:
        refusal = _BY_ERRNO.get(error.errno, _MISHAP)
        if refusal is not _NO_SPACE:
            logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(refusal)

    @app.exception_handler(Exception)
    async def mishap(request: Request, error: Exception) -> Response:
        answer = problem_response(_MISHAP)  # the server logs it
        answer.headers["X-Request-Id"] = actor.current().request_id
        answer.headers["Connection"] = "close"  # uvicorn closes it, so that nobody may begin another request on it
        answer.headers["Content-Digest"] = digests.of_message(answer.body)  # it passes no middleware
        return answer


def _type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()[:60]


def _is_json(request: Request) -> bool:
    """Tell if a body comes as JSON, by its type; without that the framework does not read it as JSON."""
    kind = _type(request)
    return kind.startswith("application/") and (kind == "application/json" or kind.endswith("+json"))


def refusal_of(request: Request, error: HTTPException) -> Refusal:
    """What the framework refuses, such as an address that does not exist, in our words."""
    if isinstance(error.__cause__, Refusal):  # the body was refused while the framework read it
        return error.__cause__
    kind = _BY_STATUS.get(error.status_code, Refusal)
    refusal = kind(f"{request.method} {request.url.path}: {error.detail}")
    refusal.headers = dict(error.headers or {})
    return refusal
