"""The first page: all directories as a searchable tree."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import Reader, ServiceDep
from app.dashboard.render.directory_tree import matching, tree
from app.dashboard.render.page import PageRoute, page

router = APIRouter(route_class=PageRoute)

MOST = 500
"""The most directories on the page."""


@router.get("/")
def home(
    request: Request, service: ServiceDep, may: Reader, q: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """Show the directories that the token reaches."""
    everything = service.overviews.glances(may.prefix)
    found = matching(everything, q)
    return page(
        request,
        "directories.html",
        q=q,
        nodes=tree(service.overviews.directories(found[:MOST])),
        everything=len(everything),
        found=len(found),
        most=MOST,
        count=sum(one.checkpoints for one in found),
        size_bytes=sum(one.size_bytes for one in found),
        written=sum(one.is_written for one in found),
    )
