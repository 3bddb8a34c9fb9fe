"""Page tokens: opaque to clients, and validated when a client sends one back. Pure."""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from app.core.errors import InvalidRequest

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Lone surrogates, and NUL, which no name has and which some databases refuse."""


def write_token(key: tuple[Any, ...], *listing: Any) -> str:
    """Return the token of the page after ``key`` in a listing."""
    return base64.urlsafe_b64encode(json.dumps([list(listing), list(key)]).encode()).decode().rstrip("=")


def windows(counts: Sequence[int], start: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Yield the part of several lists that belongs on one page.

    The lists count as one long list in which each has a heading before its entries.

    Parameters
    ----------
    counts : sequence of int
        Lengths of the lists.
    start : int
        Number of headings and entries on earlier pages.
    limit : int
        Most headings and entries on this page.

    Yields
    ------
    tuple of int
        Index of a list with a part on this page, and the start and stop of that part (``entries[start:stop]``).
    """
    begin, stop = 0, start + limit
    for number, count in enumerate(counts):
        end = begin + 1 + count
        if end > start and begin < stop:
            yield number, max(0, start - begin - 1), min(count, stop - begin - 1)
        begin = end


def read_number(token: str | None, *listing: Any) -> int | None:
    """Read the token of a listing whose key is one integer; see `read_token`."""
    key = read_token(token, *listing, length=1)
    if key is not None and not isinstance(key[0], int):
        raise _invalid_token()
    return key[0] if key is not None else None  # type: ignore[return-value]


def read_token(token: str | None, *listing: Any, length: int) -> tuple[str | int | float, ...] | None:
    """Return the key in a token, which must have ``length`` values; None without a token.

    Raises
    ------
    InvalidRequest
        The token is corrupt or belongs to another listing.
    """
    if token is None:
        return None
    try:
        found, key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if found != list(listing) or len(key) != length or not all(_storable(value) for value in key):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _invalid_token() from None
    return tuple(key)


def _invalid_token() -> InvalidRequest:
    return InvalidRequest("page_token belongs to another listing or is corrupt.")


def _storable(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and not _UNSTORABLE.search(value)
