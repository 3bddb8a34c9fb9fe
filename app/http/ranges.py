"""Conditional requests and byte ranges (RFC 9110, sections 13 and 14). Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from app.core.errors import RangeNotSatisfiable
from app.core.spans import Span

_ONE_RANGE = re.compile(r"^bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*$", re.ASCII | re.IGNORECASE)


def precondition(headers: Mapping[str, str], etag: str) -> int | None:
    """Return 412 if ``If-Match`` fails, 304 if ``If-None-Match`` matches, None if the request proceeds."""
    if (wanted := headers.get("if-match")) is not None and not _matches(wanted, etag, weak=False):
        return 412
    if (known := headers.get("if-none-match")) is not None and _matches(known, etag, weak=True):
        return 304
    return None


def requested_range(headers: Mapping[str, str], etag: str, size_bytes: int) -> Span | None:
    """Return the range to send, or None for the whole file.

    The whole file is sent for several ranges, for other units, for a malformed range, and if ``If-Range`` names
    another ETag.

    Raises
    ------
    RangeNotSatisfiable
        The range begins beyond the end of the file.
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
        refusal = RangeNotSatisfiable(f"The file has {size_bytes} bytes; the range {text!r} is beyond its end.")
        refusal.headers = {"Content-Range": f"bytes */{size_bytes}"}
        raise refusal
    return Span(start, stop)


def http_date(at: datetime) -> str:
    """Format a time as an HTTP date."""
    return format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    return etag in ([tag.removeprefix("W/") for tag in tags] if weak else tags)
