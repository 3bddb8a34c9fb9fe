"""What metadata may hold: JSON that every database and every reader can keep, within bounds. Pure."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from app.errors import InvalidRequest

MAX_DEPTH = 20
MAX_BYTES = 1024 * 1024
MAX_DIGITS = 4300
"""The longest integer, in digits: what Python reads and writes unless it is set otherwise."""
_TOO_LONG = 10**MAX_DIGITS

M = TypeVar("M", bound=Mapping[str, Any])


def bounded(metadata: M, *, max_depth: int = MAX_DEPTH) -> M:
    """The same metadata.

    Raises
    ------
    InvalidRequest
        It is larger or deeper than the bounds, or holds what JSON or SQL cannot: NaN, lone surrogates, integers of more
        than `MAX_DIGITS` digits.
    """
    if size_bytes(metadata, max_depth=max_depth) > MAX_BYTES:
        raise InvalidRequest(f"metadata: it has more than {MAX_BYTES} bytes (HOLDFAST_MAX_METADATA_BYTES).")
    return metadata


def size_bytes(metadata: Mapping[str, Any], *, max_depth: int = MAX_DEPTH) -> int:
    """About how long metadata is as JSON, in bytes; what is beyond the bounds is not looked through to its end."""
    size = 0
    waiting: list[tuple[Any, int]] = [(metadata, max_depth)]
    while waiting and size <= MAX_BYTES:
        value, depth = waiting.pop()
        if depth < 0:
            raise InvalidRequest(f"metadata: it is nested deeper than {max_depth} (HOLDFAST_MAX_METADATA_DEPTH).")
        if isinstance(value, Mapping):
            size += 2 + sum(len(_encoded(key)) + 2 for key in value)
            waiting += [(item, depth - 1) for item in value.values()]
        elif isinstance(value, list | tuple):
            size += 2 + len(value)
            waiting += [(item, depth - 1) for item in value] if size <= MAX_BYTES else []
        else:
            size += _scalar_bytes(value)
    return size


def _scalar_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(_encoded(value)) + 2
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest('metadata: NaN is not JSON; send the strings "NaN", "Infinity", "-Infinity".')
    if isinstance(value, int) and not -_TOO_LONG < value < _TOO_LONG:
        raise InvalidRequest(f"metadata: integers of more than {MAX_DIGITS} digits are not kept.")
    return max(8, value.bit_length() // 3) if isinstance(value, int) else 8


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("metadata: a text holds half of a surrogate pair.") from None
