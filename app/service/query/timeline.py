"""How what came and went becomes a line of bounded length for each directory. Pure: the clock is brought."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
"""How many steps a line has at most."""
DAY_S = 86400
STEPS_S = (1, 10, 60, 600, 3600, 3 * 3600, DAY_S, 7 * DAY_S)
"""The lengths that steps have; longer ones are whole days."""
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
        """How many times there are."""
        return max(0, ceil((self.now - self.start).total_seconds() / self.step_s)) + 1

    @property
    def characters(self) -> int:
        """How many characters of a time, as the catalog writes it, tell one step from the next."""
        return next(characters for unit_s, characters in _CHARACTERS if self.step_s % unit_s == 0)


def steps(span: Span, first_at: datetime | None, now: datetime) -> Steps:
    """The times of a span, in steps as short as can be; of ``all``, from when the first checkpoint was made.

    What claims to be older than 1970 is there from the start.
    """
    length = LENGTHS[span]
    start = now - length if length is not None else max(_EPOCH, min(first_at or now, now))
    passed_s = (now - start).total_seconds()
    step_s = next((s for s in STEPS_S if passed_s <= s * MOST_STEPS), DAY_S * ceil(passed_s / MOST_STEPS / DAY_S))
    return Steps(_EPOCH + (start - _EPOCH) // timedelta(seconds=step_s) * timedelta(seconds=step_s), step_s, now)


def line(times: Steps, before: int, changes: Iterable[tuple[datetime, int]]) -> list[int]:
    """The value at each time, from that before the first, and by how much it changed in buckets that began then.

    What is dated later than now counts from now on, so that the last value has everything in it.
    """
    added = [0] * times.count
    for since, change in changes:
        step = int((since - times.start).total_seconds() // times.step_s) + 1
        added[min(step, len(added) - 1)] += change
    values, value = [], before
    for change in added:
        value += change
        values.append(value)
    return values
