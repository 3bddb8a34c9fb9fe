"""Metric series: values over the commits of a directory, as columns for a chart."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.responses import JSONResponse

from app.api.dependencies import Reader, ServiceDep
from app.api.schemas.parameters import DirectoryName, MetadataKey
from app.dashboard.render.page import PageRoute
from app.dashboard.render.sparkline import thinned

router = APIRouter(route_class=PageRoute)

MOST_NAMES = 2000
METRIC = "metric"
MOST_POINTS = 1500
"""The most points of one series in a chart."""


@router.get("/series/{directory:path}")
def metric_series(
    directory: DirectoryName,
    service: ServiceDep,
    _: Reader,
    of: Annotated[list[MetadataKey], Query(max_length=8)] = [METRIC],  # noqa: B006
) -> Response:
    """Return the series of `metric`, and of numeric metadata values by name.

    Long series are thinned out, without losing the smallest and largest value of any section.
    """
    summary = service.lookups.directory(directory)
    best, latest = summary.best, summary.latest
    return JSONResponse(
        {
            "directory": directory,
            "mode": summary.directory.policy.ranks_by,
            "best": best.id if best else None,
            "latest": latest.id if latest else None,
            "series": [_series(service, directory, value) for value in dict.fromkeys(of)],
        }
    )


@router.get("/names")
def names(service: ServiceDep, may: Reader) -> Response:
    """Return the names of the directories that a user can choose from."""
    return JSONResponse(service.overviews.names(may.prefix, limit=MOST_NAMES))


def _series(service: ServiceDep, directory: str, value: str) -> dict[str, Any]:
    by = None if value == METRIC else value
    shown, count = service.overviews.metric_series(directory, by, lambda values: thinned(values, MOST_POINTS))
    return {
        "of": value,
        "count": count,
        "id": [point.id for point in shown],
        "name": [point.name for point in shown],
        "sequence": [point.sequence for point in shown],
        "epoch": [point.epoch for point in shown],
        "step": [point.step for point in shown],
        "time": [round(point.created_at.timestamp(), 3) for point in shown],
        "value": [point.value for point in shown],
        "state": [_state(point.is_removed, point.is_pinned) for point in shown],
    }


def _state(is_removed: bool, is_pinned: bool) -> str:
    return "removed" if is_removed else "pinned" if is_pinned else "live"
