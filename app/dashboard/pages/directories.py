"""The first page: all directories as a searchable tree."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import CheckpointsDep, Reader
from app.dashboard.render.directory_tree import matching, tree
from app.dashboard.render.page import PageRoute, page

router = APIRouter(route_class=PageRoute)

MOST = 2000
"""The most directories on the page."""


@router.get("/")
def home(
    request: Request, checkpoints: CheckpointsDep, may: Reader, q: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """Show the directories that the token reaches."""
    everything = checkpoints.overviews.directories(may.prefix)
    found = matching(everything, q)
    return page(
        request,
        "directories.html",
        q=q,
        nodes=tree(found[:MOST]),
        everything=len(everything),
        found=len(found),
        most=MOST,
        count=sum(overview.totals.count for overview in found),
        size_bytes=sum(overview.totals.size_bytes for overview in found),
        written=sum(overview.is_written for overview in found),
    )
