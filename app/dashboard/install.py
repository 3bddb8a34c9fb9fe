"""Installation of the dashboard: adds its pages, static files and error pages to the application.

A browser has a session; each request checks the current permissions of its token, see `app.http.authentication`.
"""

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
from app.dashboard.render.page import FORM_BYTES, HERE, accepts_html, refusal_page
from app.http import problems
from app.http.root_path import route_path


def install(app: FastAPI) -> None:
    """Add the pages, their static files and their error pages."""
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
    _install_error_pages(app)
    app.mount("/static", _Files(directory=HERE / "static"), name="static")


def _install_error_pages(app: FastAPI) -> None:
    """Answer the framework's errors, such as unknown addresses, with a page for browsers and a problem otherwise."""

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        return refusal_response(request, problems.refusal_of(request, error))


def refusal_response(request: Request, refusal: Refusal) -> Response:
    """Return a refusal outside of any route: a page for a browser, a problem detail for API addresses and programs."""
    if accepts_html(request) and not route_path(request.scope).startswith("/v1/"):
        return refusal_page(request, refusal)
    return problems.problem_response(refusal)


class _Files(StaticFiles):
    """Static files: browsers cache vendored files forever, as their names have a version, and revalidate ours."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        is_versioned = "vendor" in Path(full_path).parts
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_versioned else "no-cache"
        return answer
