"""The storage page: the disk, the size of each directory over time, quotas, removals and open uploads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.dependencies import Reader, ServiceDep
from app.dashboard.render.page import PageRoute, page
from app.service.query.timeline import LENGTHS, Span
from app.service.query.usage import WINDOWS, Disk

router = APIRouter(route_class=PageRoute)

MOST_DIRECTORIES = 25
MOST_UPLOADS = 100
MOST_WRITERS = 64
"""The most of each on the page."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the disk, with the start and width of its bar in percent."""

    name: str
    words: str
    size_bytes: int
    start: float
    width: float


@router.get("/storage")
def storage(request: Request, service: ServiceDep, may: Reader, span: Span = "all") -> Response:
    """Show the storage page. Its chart fetches `lines`."""
    usage = service.usage
    directories, held = usage.largest(may.prefix, MOST_DIRECTORIES)
    kept = usage.trash(may.prefix)
    arrivals, uploads = usage.uploads(may.prefix, MOST_UPLOADS)
    disk = usage.disk(held, kept) if not may.prefix else None
    return page(
        request,
        "storage.html",
        span=span,
        spans=list(LENGTHS),
        held=held,
        directories=directories,
        rest_bytes=held.size_bytes - sum(totals.size_bytes for _, totals in directories),
        disk=disk,
        parts=parts_of(disk) if disk is not None else [],
        quotas=service.quota_claims.usage(may.prefix),
        kept=kept,
        removed=usage.removed(may.prefix),
        windows=list(WINDOWS),
        arrivals=arrivals,
        uploads=uploads,
        most_writers=MOST_WRITERS,
    )


@router.get("/storage/series")
def lines(service: ServiceDep, may: Reader, span: Span = "all") -> Mapping[str, Any]:
    """Return the bytes of directories over time, in seconds since 1970, for the chart."""
    found = service.usage.history(may.prefix, span)
    return {
        "span": span,
        "at": [round(at.timestamp(), 3) for at in found.at],
        "directories": [{"name": name, "size_bytes": values} for name, values in found.directories],
        "others": found.others,
    }


def parts_of(disk: Disk) -> Sequence[Part]:
    """Return the parts of the disk in order. They never add up to more than the disk. Pure."""
    used = max(0, disk.total_bytes - disk.free_bytes)
    held = min(disk.held_bytes, used)
    trash = min(disk.trash_bytes, used - held)
    reserve = min(disk.reserve_bytes, disk.free_bytes)
    sizes = (
        ("held", "checkpoints", held),
        ("trash", "removed, not yet freed", trash),
        ("other", "other files", used - held - trash),
        ("free", "free for saves", disk.free_bytes - reserve),
        ("reserve", "reserved", reserve),
    )
    found: list[Part] = []
    start = 0.0
    for name, words, size_bytes in sizes:
        width = 100 * size_bytes / max(1, disk.total_bytes)
        found.append(Part(name, words, size_bytes, round(start, 3), round(width, 3)))
        start += width
    return found
