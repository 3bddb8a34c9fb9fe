"""Results of a measure: figures with their targets, and all timings. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.rounds import Spent


class Skipped(Exception):
    """A measure cannot be run here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number, with the two medians that it is the ratio of where it is one.

    Parameters
    ----------
    ours, theirs : float or None
        The medians, in ``measured_in``.
    reach, aim : float or None
        The required and the desired value; upper bounds if ``lower_is_better``.
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
        """Return the target that a figure reaches; empty if it has none."""
        if self.reach is None:
            return ""
        if self.aim is not None and self._attains(self.aim):
            return "aim"
        return "reach" if self._attains(self.reach) else "missed"

    def _attains(self, bound: float) -> bool:
        return self.value <= bound if self.lower_is_better else self.value >= bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The results of a measure.

    Parameters
    ----------
    spent : dict
        The figures of every round of every contender.
    size_bytes : int or None
        The bytes that each round moved.
    details : dict
        Further single values, for the JSON file.
    notes : tuple of str
        Remarks for the reader of the figures.
    """

    figures: tuple[Figure, ...]
    spent: dict[str, list[Spent]] = field(default_factory=dict)
    size_bytes: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A requested measure, and its outcome."""

    measure: str
    status: Literal["measured", "skipped", "failed"]
    took_s: float
    reason: str = ""
    outcome: Outcome | None = None


def faster(name: str, ours: Sequence[Spent], theirs: Sequence[Spent], *, reach: float, aim: float) -> Figure:
    """Return the speed of ours relative to theirs, by the medians."""
    our_s, their_s = median_s(ours), median_s(theirs)
    return Figure(name=name, value=their_s / our_s, unit="x", ours=our_s, theirs=their_s, reach=reach, aim=aim)


def median_s(spent: Sequence[Spent]) -> float:
    """Return the median of the times."""
    return statistics.median(each.wall_s for each in spent)
