"""Values on the wire: numbers that JSON cannot say, bounded metadata, digests."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer

MAX_INT = 2**53 - 1
METADATA_MAX_DEPTH = 20
METADATA_MAX_BYTES = 1024 * 1024

Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="BLAKE3, in hex.")]
SaveId = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
WriterId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Named = Literal["NaN", "Infinity", "-Infinity"]
Number = Finite | Named
"""A number as JSON can say it: what is not finite as a string."""


def _say(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


NumberOut = Annotated[float | None, PlainSerializer(_say, return_type=float | Named | None)]


def _bounded(metadata: dict[str, Any]) -> dict[str, Any]:
    size = _measure(metadata, METADATA_MAX_DEPTH)
    if size > METADATA_MAX_BYTES:
        raise ValueError(f"metadata of more than {METADATA_MAX_BYTES} bytes")
    return metadata


def _measure(value: Any, depth: int) -> int:
    """About how long the value is as JSON. `ValueError` for what JSON or SQL cannot hold."""
    if depth < 0:
        raise ValueError(f"metadata nested deeper than {METADATA_MAX_DEPTH}")
    if isinstance(value, dict):
        return sum(_measure(key, 0) + _measure(item, depth - 1) for key, item in value.items()) + 2
    if isinstance(value, list):
        return sum(_measure(item, depth - 1) + 1 for item in value) + 2
    if isinstance(value, str):
        return len(value.encode()) + 2  # refuses lone surrogates
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError('NaN and the infinities are not JSON; send the strings "NaN", "Infinity", "-Infinity"')
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("integers beyond 64 bits are not stored")
    return 8


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_bounded)]
