"""Ranges and batches to send or to fetch, shared by uploads and downloads."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel

from app.core import batches
from app.core.models import RangeUrl
from app.core.spans import Span


class RangeOut(BaseModel):
    """A range of a file to send or to fetch. The client must use method, URL and headers unchanged."""

    file: str
    method: str
    url: str
    headers: dict[str, str]
    offset: int
    length: int
    expires_at: datetime | None


class PartOut(BaseModel):
    """A whole file within a batch."""

    file: str
    length: int


class BatchOut(BaseModel):
    """Small files to send or to fetch in one request, one after another. The client must use the URL unchanged."""

    method: str
    url: str
    headers: dict[str, str]
    length: int
    parts: list[PartOut]
    expires_at: datetime | None


def batches_of(
    method: str, url: str, files: Iterable[tuple[int, str, int]], expires_at: datetime | None, more: str = ""
) -> list[BatchOut]:
    """Plan batches for files, each given as its position, path and size in bytes; ``more`` goes on the query."""
    known = {place: PartOut(file=path, length=size_bytes) for place, path, size_bytes in files}
    found = []
    for places in batches.plan((place, part.length) for place, part in known.items()):
        parts = [known[place] for place in places]
        found.append(
            BatchOut(
                method=method,
                url=f"{url}?files={batches.name(places)}{more}",
                headers={},
                length=sum(part.length for part in parts),
                parts=parts,
                expires_at=expires_at,
            )
        )
    return found


def range_of(method: str, path: str, span: Span, at: RangeUrl) -> RangeOut:
    """Describe the request for a range at a URL, of this server or of its store."""
    return RangeOut(
        file=path,
        method=method,
        url=at.url,
        headers=dict(at.headers),
        offset=span.start,
        length=span.stop - span.start,
        expires_at=at.expires_at,
    )
