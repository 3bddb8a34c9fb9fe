"""The pages, put together. They know sessions only; what one may do is asked of its token each time, see `app.gate`."""

from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from app.dashboard import checkpoint, comparison, courses, description, directories, directory, live, policies, sessions
from app.dashboard.rendering import FORM_BYTES, HERE


def install(app: FastAPI) -> None:
    """Add the pages and what they are drawn with."""
    pages = APIRouter(include_in_schema=False, max_body_size=FORM_BYTES)
    for part in (sessions, directories, directory, courses, policies, comparison, checkpoint, live, description):
        pages.include_router(part.router)
    app.include_router(pages)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
