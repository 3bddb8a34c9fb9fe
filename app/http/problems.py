"""Problem details: every refusal becomes an RFC 9457 response with a stable ``code``."""

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
from app.http.body import described, validation_errors
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
"""Default headers of every response: the browser runs, frames and caches none of it."""

_BY_STATUS: dict[int, type[Refusal]] = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 400: InvalidRequest}
_INTERNAL_ERROR = Refusal("An internal error occurred; see the server's log.")
_NO_SPACE = NoSpace("The server's disk is full.")
_DISK_FAILED = DiskFailed("The server's disk reported an error; see the server's log.")
_OVERLOADED = Overloaded("The server has too many open files; retry in a moment.")
_UNTYPED = "The body of this request must be JSON with the header `Content-Type: application/json` (got {})."
_BY_ERRNO: dict[int | None, Refusal] = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EIO: _DISK_FAILED,
    errno.EROFS: _DISK_FAILED,
    errno.EMFILE: _OVERLOADED,
    errno.ENFILE: _OVERLOADED,
}
_ANY_REQUEST = (InvalidHttp, CrossSite, HostNotAllowed, RequestTimeout, HeadersTooLarge)
"""Refusals of any request, before its route is known."""
_ANY_ROUTE = (InvalidRequest, Unauthorized, Forbidden, TooManyRequests, NoSpace, DiskFailed, Overloaded)
"""Refusals of every route that is not public. Reads can fail for the disk, too."""
COUNTED = {"files", "folders", "chunks", "tensors", "tags"}
"""Lists whose longest length the operator can configure."""


class Problem(BaseModel):
    """Problem details of a refused request (RFC 9457). The request changed nothing, unless ``status`` is 500."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None


def refuses(*refusals: type[Refusal], public: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe a route's refusals for OpenAPI, with those that every route shares. A public route needs no token."""
    common: tuple[type[Refusal], ...] = (*_ANY_REQUEST, *(() if public else _ANY_ROUTE))
    every = (*refusals, *common)
    codes: dict[int | str, list[str]] = {}
    for refusal in every:
        codes.setdefault(refusal.status, []).append(refusal.code)
    return {status: problem_schema(found) for status, found in sorted(codes.items(), key=lambda item: str(item[0]))}


def problem_schema(codes: Iterable[str]) -> dict[str, Any]:
    """Describe the refusals of one status for OpenAPI."""
    return {
        "description": "Refused: " + ", ".join(f"`{code}`" for code in sorted(set(codes))),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def problem_response(refusal: Refusal) -> Response:
    """Return a refusal as a problem detail response."""
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
    headers = {**ALWAYS, **(headers or {})}  # some responses pass no middleware
    return JSONResponse(body, refusal.status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Register handlers that answer refusals and errors with problem details.

    `app.dashboard.install` handles the framework's own refusals, as browsers get a page for them.
    """

    @app.exception_handler(Refusal)
    async def on_refusal(request: Request, refusal: Refusal) -> Response:
        return problem_response(refusal)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
        for fault in error.errors():
            if fault["type"] == "too_long" and (name := str(fault["loc"][-1])) in COUNTED:
                return problem_response(too_many(name, fault["ctx"]["actual_length"], fault["ctx"]["max_length"]))
        if not _is_json(request) and any(fault["loc"] == ("body",) for fault in error.errors()):
            return problem_response(InvalidRequest(_UNTYPED.format(_type(request) or "none")))
        faults = validation_errors.faults(error.errors())
        return problem_response(InvalidRequest(f"{faults[0]['at']} {faults[0]['message']}", errors=faults))

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # for the log only: the client has disconnected

    @app.exception_handler(OSError)
    async def on_os_error(request: Request, error: OSError) -> Response:
        refusal = _BY_ERRNO.get(error.errno, _INTERNAL_ERROR)
        if refusal is not _NO_SPACE:
            logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(refusal)

    @app.exception_handler(Exception)
    async def on_unexpected_error(request: Request, error: Exception) -> Response:
        response = problem_response(_INTERNAL_ERROR)  # uvicorn logs the error
        response.headers["X-Request-Id"] = actor.current().request_id  # this response passes no middleware
        response.headers["Connection"] = "close"  # uvicorn closes the connection: the client must not reuse it
        response.headers["Content-Digest"] = digests.of_message(response.body)
        return response


def _type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()[:60]


def _is_json(request: Request) -> bool:
    """Tell if the content type is JSON, or begins with JSON. Otherwise, no body is parsed as such."""
    kind = _type(request)
    is_json = kind == "application/json" or kind.endswith("+json")
    return kind == described.MEDIA_TYPE or (kind.startswith("application/") and is_json)


def refusal_of(request: Request, error: HTTPException) -> Refusal:
    """Convert an error of the framework, such as an unknown address, to a refusal."""
    if isinstance(error.__cause__, Refusal):  # raised while the framework read the body
        return error.__cause__
    kind = _BY_STATUS.get(error.status_code, Refusal)
    refusal = kind(f"{request.method} {request.url.path}: {error.detail}")
    refusal.headers = dict(error.headers or {})
    return refusal
