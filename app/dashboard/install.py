"""The pages, put together. They know sessions only; what one may do is asked of its token each time, see
`app.http.authentication`."""

import os
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from app.core.errors import Refusal
from app.dashboard.pages import (
    api_reference,
    checkpoint,
    comparison,
    directories,
    directory,
    live,
    policies,
    series,
    sessions,
    storage,
)
from app.dashboard.render.page import FORM_BYTES, HERE, refused, wants_a_page
from app.http import problems
from app.http.root_path import route_path


def install(app: FastAPI) -> None:
    """Add the pages and what they are drawn with."""
    pages = APIRouter(include_in_schema=False, max_body_size=FORM_BYTES)
    for part in (
        sessions,
        directories,
        directory,
        series,
        policies,
        comparison,
        checkpoint,
        storage,
        live,
        api_reference,
    ):
        pages.include_router(part.router)
    app.include_router(pages)
    _refuse_in_pages(app)
    app.mount("/static", _Files(directory=HERE / "static"), name="static")


def _refuse_in_pages(app: FastAPI) -> None:
    """What no route answers to is a page for browsers, and a problem detail for everybody else."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return refusal_response(request, problems.refusal_of(request, error))


def refusal_response(request: Request, refusal: Refusal) -> Response:
    """The answer to a request that no route has seen: a page for a browser, unless it asked the API."""
    if wants_a_page(request) and not route_path(request.scope).startswith("/v1/"):
        return refused(request, refusal)
    return problems.problem_response(refusal)


class _Files(StaticFiles):
    """What browsers keep: files of others for good, as their names tell the version; ours until they have changed."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        is_versioned = "vendor" in Path(full_path).parts
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_versioned else "no-cache"
        return answer
