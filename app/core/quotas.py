"""Quotas: the limits of what a prefix may hold, and the one that a save would exceed. Pure: no clock, disk or SQL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from app.core import names
from app.core.errors import InvalidName
from app.core.models import Checkpoint
from app.core.units import parse_bytes

_LIMITS = ("max_bytes", "max_checkpoints")


@dataclass(frozen=True, slots=True)
class Usage:
    """A number of checkpoints and of bytes. In a change, either may be negative."""

    checkpoints: int = 0
    size_bytes: int = 0

    @classmethod
    def of(cls, checkpoints: Iterable[Checkpoint]) -> Self:
        sizes = [checkpoint.size_bytes for checkpoint in checkpoints]
        return cls(len(sizes), sum(sizes))

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.checkpoints + other.checkpoints, self.size_bytes + other.size_bytes)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.checkpoints - other.checkpoints, self.size_bytes - other.size_bytes)


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of the directories at and below a prefix; ``None`` is no limit."""

    prefix: str
    max_bytes: int | None = None
    max_checkpoints: int | None = None

    def covers(self, directory: str) -> bool:
        """Tell if the directory is within the prefix; ``""`` covers all."""
        return names.is_within(directory, self.prefix)


@dataclass(frozen=True, slots=True)
class Excess:
    """An exceeded quota: ``used`` of ``limit`` are in use, and ``wanted`` more do not fit."""

    prefix: str
    unit: Literal["bytes", "checkpoints"]
    limit: int
    used: int
    wanted: int


def excess(quota: Quota, used: Usage, wanted: Usage) -> Excess | None:
    """Return the limit that a change would exceed. A change that adds nothing is always admitted."""
    if quota.max_checkpoints is not None and 0 < wanted.checkpoints > quota.max_checkpoints - used.checkpoints:
        return Excess(quota.prefix, "checkpoints", quota.max_checkpoints, used.checkpoints, wanted.checkpoints)
    if quota.max_bytes is not None and 0 < wanted.size_bytes > quota.max_bytes - used.size_bytes:
        return Excess(quota.prefix, "bytes", quota.max_bytes, used.size_bytes, wanted.size_bytes)
    return None


def covering(quotas: Iterable[Quota], directory: str) -> list[Quota]:
    """Return the quotas that apply to a directory; all of them must hold."""
    return [quota for quota in quotas if quota.covers(directory)]


def read(value: Any) -> tuple[Quota, ...]:
    """Parse the operator's quotas by prefix: ``{"team/a": {"max_bytes": "2TB", "max_checkpoints": 5000}}``.

    Raises
    ------
    ValueError
        The value is malformed; the message names the prefix.
    """
    if not isinstance(value, Mapping):
        raise ValueError('quotas are a JSON object of prefixes, as {"team/a": {"max_bytes": "2TB"}}')
    return tuple(_quota(prefix, limits) for prefix, limits in sorted(value.items()))


def _quota(prefix: str, limits: Any) -> Quota:
    try:
        if prefix:
            names.directory_name(prefix)
    except InvalidName as refusal:
        raise ValueError(f"{prefix!r}: {refusal.detail}") from refusal
    if not isinstance(limits, Mapping) or not limits or not set(limits) <= set(_LIMITS):
        raise ValueError(f"{prefix!r}: a quota has max_bytes, max_checkpoints or both, and nothing else")
    return Quota(prefix, **{name: _limit(prefix, name, limits[name]) for name in limits})


def _limit(prefix: str, name: str, value: Any) -> int:
    """Parse a limit: a whole number or, for bytes, a text with a unit."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if name == "max_bytes" and isinstance(value, str) and (found := parse_bytes(value)) is not None:
        return found
    what = 'a number of bytes or a text as "500GiB" or "2TB"' if name == "max_bytes" else "a number of checkpoints"
    raise ValueError(f"{prefix!r}: {name} is {what}, not {value!r}")
