"""What a measure has found: figures beside what they should reach, and every single timing behind them. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.rounds import Spent


class Skipped(Exception):
    """A measure cannot be taken here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number, with the two medians that it is the ratio of where it is one.

    Parameters
    ----------
    ours, theirs : float or None
        The medians, in ``measured_in``.
    reach, aim : float or None
        What it must reach, and what it should; bounds from above where ``lower_is_better``.
    """

    name: str
    value: float
    unit: str
    ours: float | None = None
    theirs: float | None = None
    measured_in: str = "s"
    reach: float | None = None
    aim: float | None = None
    lower_is_better: bool = False

    @property
    def verdict(self) -> Literal["aim", "reach", "missed", ""]:
        """Which of the two it attains; nothing where nothing was asked of it."""
        if self.reach is None:
            return ""
        if self.aim is not None and self._attains(self.aim):
            return "aim"
        return "reach" if self._attains(self.reach) else "missed"

    def _attains(self, bound: float) -> bool:
        return self.value <= bound if self.lower_is_better else self.value >= bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a measure gives back.

    Parameters
    ----------
    spent : dict
        What every round of every contender took.
    size_bytes : int or None
        How many bytes each round moved.
    details : dict
        Further single values, for the JSON file.
    notes : tuple of str
        What a reader of the figures must know.
    """

    figures: tuple[Figure, ...]
    spent: dict[str, list[Spent]] = field(default_factory=dict)
    size_bytes: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A measure that was asked for, and what became of it."""

    measure: str
    status: Literal["measured", "skipped", "failed"]
    took_s: float
    reason: str = ""
    outcome: Outcome | None = None


def faster(name: str, ours: Sequence[Spent], theirs: Sequence[Spent], *, reach: float, aim: float) -> Figure:
    """How many times as fast as theirs ours is: the ratio of the medians."""
    our_s, their_s = median_s(ours), median_s(theirs)
    return Figure(name=name, value=their_s / our_s, unit="x", ours=our_s, theirs=their_s, reach=reach, aim=aim)


def median_s(spent: Sequence[Spent]) -> float:
    """The median of the times."""
    return statistics.median(each.wall_s for each in spent)
