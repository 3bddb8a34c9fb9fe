"""What metadata may hold: JSON that every database and every reader can keep, within bounds. Pure."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from app.errors import InvalidRequest

MAX_DEPTH = 20
MAX_BYTES = 1024 * 1024

M = TypeVar("M", bound=Mapping[str, Any])


def bounded(metadata: M, *, max_depth: int = MAX_DEPTH) -> M:
    """The same metadata.

    Raises
    ------
    InvalidRequest
        It is larger or deeper than the bounds, or holds what JSON or SQL cannot: NaN, integers beyond 64 bits, lone
        surrogates.
    """
    if _size(metadata, max_depth, max_depth) > MAX_BYTES:
        raise InvalidRequest(f"metadata: it has more than {MAX_BYTES} bytes.")
    return metadata


def size_bytes(metadata: Mapping[str, Any]) -> int:
    """About how long metadata within the bounds is as JSON, in bytes."""
    return _size(metadata, MAX_DEPTH, MAX_DEPTH)


def _size(value: Any, depth: int, max_depth: int) -> int:
    """About how long the value is as JSON, in bytes."""
    if depth < 0:
        raise InvalidRequest(f"metadata: it is nested deeper than {max_depth}.")
    if isinstance(value, Mapping):
        return sum(_size(key, 0, max_depth) + _size(item, depth - 1, max_depth) for key, item in value.items()) + 2
    if isinstance(value, list | tuple):
        return sum(_size(item, depth - 1, max_depth) + 1 for item in value) + 2
    if isinstance(value, str):
        return len(_encoded(value)) + 2
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest('metadata: NaN is not JSON; send the strings "NaN", "Infinity", "-Infinity".')
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidRequest("metadata: integers beyond 64 bits are not kept.")
    return 8


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("metadata: a text holds half of a surrogate pair.") from None
