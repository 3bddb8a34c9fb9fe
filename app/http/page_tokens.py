"""Page tokens: opaque to callers, checked when they come back."""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from app.core.errors import InvalidRequest

_SURROGATE = re.compile("[\ud800-\udfff]")


def write_token(key: tuple[Any, ...], *listing: Any) -> str:
    """A token for the page after ``key`` of this listing."""
    return base64.urlsafe_b64encode(json.dumps([list(listing), list(key)]).encode()).decode().rstrip("=")


def windows(counts: Sequence[int], start: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """The part that a page shows of several lists, as if they were one with a heading before each.

    Parameters
    ----------
    counts : sequence of int
        The lengths of the lists.
    start : int
        How many headings and entries the pages before have shown.
    limit : int
        How many this one shows at the most.

    Yields
    ------
    tuple of int
        The number of a list that the page shows something of, and the first and the last but one of its entries there.
    """
    begin, stop = 0, start + limit
    for number, count in enumerate(counts):
        end = begin + 1 + count
        if end > start and begin < stop:
            yield number, max(0, start - begin - 1), min(count, stop - begin - 1)
        begin = end


def read_number(token: str | None, *listing: Any) -> int | None:
    """As `read_token`, for a listing whose key is a number."""
    key = read_token(token, *listing, length=1)
    if key is not None and not isinstance(key[0], int):
        raise _not_ours()
    return key[0] if key is not None else None  # type: ignore[return-value]


def read_token(token: str | None, *listing: Any, length: int) -> tuple[str | int | float, ...] | None:
    """The key, of so many values, that a token stands for.

    Raises
    ------
    InvalidRequest
        The token is damaged, or belongs to another listing.
    """
    if token is None:
        return None
    try:
        found, key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if found != list(listing) or len(key) != length or not all(_storable(value) for value in key):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _not_ours() from None
    return tuple(key)


def _not_ours() -> InvalidRequest:
    return InvalidRequest("page_token: it belongs to another listing, or is damaged.")


def _storable(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and not _SURROGATE.search(value)
