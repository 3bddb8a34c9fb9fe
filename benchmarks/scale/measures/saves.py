"""Saves of 10 kB into directories with more and more live checkpoints, and another job's saves meanwhile."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from benchmarks.checkout import Checkout
from benchmarks.live import LiveServer
from benchmarks.scale.jobs import KEEP_ALL, KEEP_MANY, KEEP_ONE, Job
from benchmarks.scale.plan import ScalePlan
from benchmarks.scale.readings import Reading, of_times
from benchmarks.scale.rows import roots
from benchmarks.scale.rows.planned import Target
from benchmarks.scale.turns import by_rounds

BASE = 100
SIZES = (BASE, 10_000, 100_000)
ROUNDS = 5
SAVES_A_ROUND = 8
ROUND_S = 1.5
"""The time after which a round has no further save: a million rows may make each of them take seconds."""
OTHER = "runs/other"
POLICIES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "save, keep all": (roots.KEPT, KEEP_ALL),
    "save, limits": (roots.LIMITED, KEEP_MANY),
}
"""The template and the policy of each measure. The limits are too large to remove anything."""


@dataclass(frozen=True, slots=True)
class _Key:
    checkout: str
    live: int


class _Side:
    """A checkout's server, with directories of all sizes, and two jobs."""

    def __init__(self, checkout: Checkout, plan: ScalePlan, sizes: Sequence[int], stack: ExitStack) -> None:
        targets = [
            Target(_directory(template, live), live, live, template)
            for template, _ in POLICIES.values()
            for live in sizes
        ]
        folder = plan.folder / checkout.label
        root = roots.filled(checkout, plan.seeds[checkout.label], folder / "root", targets)
        server = stack.enter_context(LiveServer(root, checkout=checkout, settings=roots.QUIET))
        roots.verify(server, targets[-1])
        self._job = stack.enter_context(Job(checkout, server.url, folder / "job"))
        self._other = stack.enter_context(Job(checkout, server.url, folder / "other"))

    def saves(self, name: str, live: int) -> list[float]:
        """Save some times into the directory with so many live checkpoints; return the seconds of each."""
        template, policy = POLICIES[name]
        asked = {"directory": _directory(template, live), "policy": policy, "for_s": ROUND_S}
        found: list[float] = self._job.ask("save", times=SAVES_A_ROUND, **asked)
        return found

    def other_saves(self, live: int) -> list[float]:
        """Save elsewhere while the first job saves into such a directory; return the seconds of each save elsewhere."""
        template, policy = POLICIES["save, limits"]
        asked = {"directory": _directory(template, live), "policy": policy, "for_s": 2 * ROUND_S}
        self._job.begin("save", times=2 * SAVES_A_ROUND, **asked)
        other = {"directory": OTHER, "policy": KEEP_ONE, "for_s": ROUND_S}
        found: list[float] = self._other.ask("save", times=SAVES_A_ROUND, **other)
        self._job.end()
        return found


def measure(plan: ScalePlan) -> Iterator[Reading]:
    """Yield the ratios to a directory with `BASE` live checkpoints, for each larger size."""
    sizes = sorted({min(size, plan.rows) for size in SIZES})
    with ExitStack() as stack:
        sides = {each.label: _Side(each, plan, sizes, stack) for each in plan.checkouts}
        for name in POLICIES:
            calls = {
                _Key(label, live): partial(side.saves, name, live) for label, side in sides.items() for live in sizes
            }
            yield from _readings(name, calls, sizes)
        ends = [sizes[0], sizes[-1]]
        others = {_Key(label, live): partial(side.other_saves, live) for label, side in sides.items() for live in ends}
        yield from _readings("another job's save", others, ends)


def _readings(name: str, calls: Mapping[_Key, Callable[[], list[float]]], sizes: Sequence[int]) -> Iterator[Reading]:
    spent = by_rounds(calls, ROUNDS)
    for live in sizes[1:]:
        for label in dict.fromkeys(key.checkout for key in calls):
            base = spent[_Key(label, sizes[0])]
            yield of_times(name, f"{live:,} live, against {BASE}", label, spent[_Key(label, live)], base)


def _directory(template: str, live: int) -> str:
    return f"{template.replace('seed', 'live')}/{live}"
