"""Conditional and partial requests (RFC 9110, sections 13 and 14). Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from app.core.errors import RangeNotSatisfiable
from app.core.spans import Span

_ONE_RANGE = re.compile(r"^bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*$", re.ASCII | re.IGNORECASE)


def precondition(headers: Mapping[str, str], etag: str) -> int | None:
    """The status that ends the request early: 412 where ``If-Match`` fails, 304 where ``If-None-Match`` matches."""
    if (wanted := headers.get("if-match")) is not None and not _matches(wanted, etag, weak=False):
        return 412
    if (known := headers.get("if-none-match")) is not None and _matches(known, etag, weak=True):
        return 304
    return None


def wanted(headers: Mapping[str, str], etag: str, size_bytes: int) -> Span | None:
    """The range to send, or None for the whole file.

    Several ranges, other units and what cannot be read are answered with the whole file, as is a range whose
    ``If-Range`` names other content.

    Raises
    ------
    RangeNotSatisfiable
        The range begins beyond the file.
    """
    text = headers.get("range")
    if text is None or headers.get("if-range", etag).strip() != etag:
        return None
    match = _ONE_RANGE.match(text)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
        if last and int(last) < int(first):
            return None
    if start >= size_bytes or start >= stop:
        refusal = RangeNotSatisfiable(f"The file has {size_bytes} bytes; {text!r} lies beyond them.")
        refusal.headers = {"Content-Range": f"bytes */{size_bytes}"}
        raise refusal
    return Span(start, stop)


def http_date(at: datetime) -> str:
    """A time as HTTP headers say it."""
    return format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    return etag in ([tag.removeprefix("W/") for tag in tags] if weak else tags)
