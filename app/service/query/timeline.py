"""Timelines of usage: turn additions and removals into lines of bounded length. Pure: takes the time as a value."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import ceil
from typing import Literal

Span = Literal["day", "week", "month", "all"]
LENGTHS: Mapping[Span, timedelta | None] = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "all": None,
}

MOST_STEPS = 480
"""The number of steps that a line has at most."""
DAY_S = 86400
STEPS_S = (1, 10, 60, 600, 3600, 3 * 3600, DAY_S, 7 * DAY_S)
"""The possible lengths of a step; longer ones are whole days."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHARACTERS = ((DAY_S, len("2026-01-01")), (3600, 13), (600, 15), (60, 16), (10, 18), (1, 19))


@dataclass(frozen=True, slots=True)
class Steps:
    """Times at equal distances up to now. The first is a whole number of steps after 1970, the last is now itself."""

    start: datetime
    step_s: int
    now: datetime

    @property
    def at(self) -> Sequence[datetime]:
        """The times, in order."""
        return [*(self.start + timedelta(seconds=i * self.step_s) for i in range(self.count - 1)), self.now]

    @property
    def count(self) -> int:
        """The number of times."""
        return max(0, ceil((self.now - self.start).total_seconds() / self.step_s)) + 1

    @property
    def characters(self) -> int:
        """The number of leading characters, as the catalog writes times, that distinguish two steps."""
        return next(characters for unit_s, characters in _CHARACTERS if self.step_s % unit_s == 0)


def steps(span: Span, first_at: datetime | None, now: datetime, *, known_since: datetime | None = None) -> Steps:
    """Give the times of a span in the shortest possible steps; ``all`` begins with the first checkpoint.

    A checkpoint dated before 1970 counts from the first step on. No span begins before the time since which all
    removals are known.
    """
    length = LENGTHS[span]
    start = now - length if length is not None else max(_EPOCH, min(first_at or now, now))
    start = max(start, min(known_since, now)) if known_since is not None else start
    passed_s = (now - start).total_seconds()
    step_s = next((s for s in STEPS_S if passed_s <= s * MOST_STEPS), DAY_S * ceil(passed_s / MOST_STEPS / DAY_S))
    return Steps(_EPOCH + (start - _EPOCH) // timedelta(seconds=step_s) * timedelta(seconds=step_s), step_s, now)


def line(times: Steps, now: int, changes: Iterable[tuple[datetime, int]]) -> list[int]:
    """Give the value at each time, from the last one and the changes in each bucket since the first.

    A change dated in the future counts from now on, so that the last value includes every change.
    """
    added = [0] * times.count
    for since, change in changes:
        step = int((since - times.start).total_seconds() // times.step_s) + 1
        added[min(step, len(added) - 1)] += change
    return list(accumulate(added[1:], initial=now - sum(added[1:])))
