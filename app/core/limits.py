"""Limits of one request: those that the operator sets, and the maximum of the API. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from app.core.errors import InvalidRequest, TooLarge
from app.core.models import Chunk, Save

MAX_METADATA_DEPTH = 20
MAX_METADATA_BYTES = 1024 * 1024
MAX_METADATA_DIGITS = 4300
"""The longest integer, in digits: Python's default limit for conversions to and from text."""
_TOO_LONG = 10**MAX_METADATA_DIGITS

M = TypeVar("M", bound=Mapping[str, Any])


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of requests. The defaults are the maxima of the API, which no server exceeds."""

    metadata_bytes: int = MAX_METADATA_BYTES
    metadata_depth: int = MAX_METADATA_DEPTH
    files: int = 10_000
    chunks: int = 1_000_000
    tensors: int = 1_000_000
    tags: int = 100
    page_size: int = 1000
    ranges: int = 10_000

    def admit(self, save: Save) -> None:
        """Check a save against the limits.

        Raises
        ------
        TooLarge
            The save exceeds a limit; the detail names the setting.
        InvalidRequest
            The metadata is nested too deep.
        """
        self.admit_facts(save.facts.tags, save.facts.metadata)
        _refuse("files", len(save.files), self.files)
        _refuse("folders", len(save.folders), self.files)
        self.admit_chunks([file.chunks or () for file in save.files])
        _refuse("tensors", sum(len(file.tensors or ()) for file in save.files), self.tensors)

    def admit_totals(self, totals: Mapping[str, int]) -> None:
        """Check the numbers of files, chunks and tensors of a save, as `admit` does."""
        for name in ("files", "chunks", "tensors"):
            _refuse(name, totals.get(name, 0), getattr(self, name))

    def admit_facts(self, tags: Sequence[str], found: Mapping[str, Any]) -> None:
        """Check the tags and metadata of a save or a change, as `admit` does."""
        _refuse("tags", len(tags), self.tags)
        bounded_metadata(found, max_depth=self.metadata_depth)
        _refuse("metadata_bytes", metadata_bytes(found), self.metadata_bytes)

    def admit_chunks(self, files: Sequence[Sequence[Chunk]]) -> None:
        """Check the chunks of all files together, as `admit` does."""
        _refuse("chunks", sum(map(len, files)), self.chunks)


_ADVICE = {
    "files": "Pack some of them into one file, or save several checkpoints.",
    "chunks": "Declare longer chunks.",
    "tensors": "Save without the tensor index.",
    "tags": "Put the others into the metadata.",
    "metadata_bytes": "Put large values into a file of the checkpoint.",
}
"""Alternatives for a client that exceeds a limit."""

MOST = Limits()
"""The maxima of the API."""


def too_many(name: str, found: int, limit: int) -> TooLarge:
    """Return the refusal of a request that exceeds a limit, with the setting and an alternative."""
    what, name = name.replace("_", " "), "files" if name == "folders" else name
    most = getattr(MOST, name)
    allowed = f"the {limit} that HOLDFAST_MAX_{name.upper()} allows"
    raisable = f", and may be set to {most} at most" if limit < most else ", which is the most that can be set"
    return TooLarge(f"{found} {what} are more than {allowed}{raisable}. {_ADVICE[name]}")


def _refuse(name: str, found: int, limit: int) -> None:
    if found > limit:
        raise too_many(name, found, limit)


def bounded_metadata(metadata: M, *, max_depth: int = MAX_METADATA_DEPTH) -> M:
    """Check metadata against the maxima of the API and return it.

    Raises
    ------
    InvalidRequest
        It is too large or nested too deep, or contains values that JSON or SQL cannot represent: NaN, lone
        surrogates, integers of more than `MAX_METADATA_DIGITS` digits.
    """
    if metadata_bytes(metadata, max_depth=max_depth) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"metadata: it has more than {MAX_METADATA_BYTES} bytes (HOLDFAST_MAX_METADATA_BYTES).")
    return metadata


def metadata_bytes(metadata: Mapping[str, Any], *, max_depth: int = MAX_METADATA_DEPTH) -> int:
    """Estimate the size of metadata as JSON, in bytes. Stops early once it exceeds the maximum."""
    size = 0
    waiting: list[tuple[Any, int]] = [(metadata, max_depth)]
    while waiting and size <= MAX_METADATA_BYTES:
        value, depth = waiting.pop()
        if depth < 0:
            raise InvalidRequest(f"metadata: it is nested deeper than {max_depth} (HOLDFAST_MAX_METADATA_DEPTH).")
        if isinstance(value, Mapping):
            size += 2 + sum(len(_utf8(key)) + 2 for key in value)
            waiting += [(item, depth - 1) for item in value.values()]
        elif isinstance(value, list | tuple):
            size += 2 + len(value)
            waiting += [(item, depth - 1) for item in value] if size <= MAX_METADATA_BYTES else []
        else:
            size += _scalar_bytes(value)
    return size


def _scalar_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(_utf8(value)) + 2
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(
            "metadata: a number is NaN, infinite or too large for 64 bits; send it as a string, such as "
            '"NaN", "Infinity", "-Infinity".'
        )
    if isinstance(value, int) and not -_TOO_LONG < value < _TOO_LONG:
        raise InvalidRequest(f"metadata: integers of more than {MAX_METADATA_DIGITS} digits are not supported.")
    return max(8, value.bit_length() // 3) if isinstance(value, int) else 8


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("metadata: a text contains a lone surrogate.") from None
