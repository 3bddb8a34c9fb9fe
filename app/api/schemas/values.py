"""Values on the wire: numbers including NaN and infinity, bounded metadata, digests and ids."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer

from app.core import limits

MAX_INT = 2**53 - 1


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=MAX_INT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="BLAKE3, in hex.")]
SaveId = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
CheckpointId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
WriterId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]
Finite = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Named = Literal["NaN", "Infinity", "-Infinity"]
Number = Annotated[Finite | Named, BeforeValidator(_no_bool)]
"""A JSON number, or a string for NaN and infinity, which JSON cannot represent."""


def _to_json(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


NumberOut = Annotated[float | None, PlainSerializer(_to_json, return_type=float | Named | None)]


def _bounded(value: Any) -> Any:
    """Check the bounds of metadata before pydantic traverses it, as it may be as large as the whole body."""
    return limits.bounded_metadata(value) if isinstance(value, dict) else value


Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_bounded)]
